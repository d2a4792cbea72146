/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/wire.h"

#include <stdio.h>
#include <zlib.h>

#define LARGE_BYTES (100u << 10) /* more than a client reads at once */
#define DEEP_ARRAYS 100000u
#define INFO_HEADS  200u

#define LIT(b, text) ((void)buf_add((b), (text), sizeof(text) - 1))

/* How a head differs from a plain one. */
struct frame {
    bool http10; /* and no length: the FIN ends the body */
    bool chunked;
    bool gzip;
    bool twice;
    uint64_t big; /* bytes of padding fields */
    uint64_t length;
    bool minus;         /* the length is told as -1 */
    uint64_t other;     /* a second length; 0: none */
    const char *status; /* instead of the number; NULL: the number */
    struct str odd;     /* a line that no head may have */
};

/* --- Heads ---------------------------------------------------------------------------
 */

static const char *phrase(unsigned status)
{
    static const struct {
        unsigned status;
        const char *text;
    } known[] = {{200, "OK"},
                 {201, "Created"},
                 {202, "Accepted"},
                 {204, "No Content"},
                 {301, "Moved Permanently"},
                 {302, "Found"},
                 {304, "Not Modified"},
                 {307, "Temporary Redirect"},
                 {308, "Permanent Redirect"},
                 {400, "Bad Request"},
                 {401, "Unauthorized"},
                 {403, "Forbidden"},
                 {404, "Not Found"},
                 {405, "Method Not Allowed"},
                 {408, "Request Timeout"},
                 {409, "Conflict"},
                 {413, "Content Too Large"},
                 {414, "URI Too Long"},
                 {417, "Expectation Failed"},
                 {422, "Unprocessable Content"},
                 {429, "Too Many Requests"},
                 {431, "Request Header Fields Too Large"},
                 {500, "Internal Server Error"},
                 {501, "Not Implemented"},
                 {502, "Bad Gateway"},
                 {503, "Service Unavailable"},
                 {504, "Gateway Timeout"},
                 {505, "HTTP Version Not Supported"},
                 {529, "Site is overloaded"}};

    for (size_t i = 0; i < COUNTOF(known); i++)
        if (known[i].status == status)
            return known[i].text;
    return "Whatever";
}

static bool has_no_body(unsigned status) /* RFC 9110 6.4.1 */
{
    return status == 204 || status == 304;
}

static void put_field(struct buf *out, const char *name, const char *value)
{
    (void)buf_z(out, name);
    LIT(out, ": ");
    (void)buf_z(out, value);
    LIT(out, "\r\n");
}

static void put_retry_after(struct buf *out, usec_t t)
{
    LIT(out, "retry-after: ");
    (void)buf_i64(out, (t + USEC_PER_SEC - 1) / USEC_PER_SEC);
    LIT(out, "\r\n");
    if (t % USEC_PER_SEC) {
        LIT(out, "retry-after-ms: ");
        (void)buf_i64(out, t / USEC_PER_MS);
        LIT(out, "\r\n");
    }
}

static void put_padding(struct buf *out, uint64_t bytes)
{
    for (uint64_t i = 0; bytes && buf_failed(out) == RC_OK; i++) {
        static const char text[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ"
                                   "RSTUVWXYZ";
        size_t before = out->n;

        (void)buf_fmt(out, "x-padding-%llu: ", (unsigned long long)i);
        for (int k = 0; k < 16; k++)
            (void)buf_str(out, STR(text));
        LIT(out, "\r\n");
        bytes -= u64_min(bytes, out->n - before);
    }
}

static void put_length(struct buf *out, const struct frame *f)
{
    LIT(out, "content-length: ");
    if (f->minus)
        LIT(out, "-1");
    else
        (void)buf_u64(out, f->length);
    LIT(out, "\r\n");
    if (f->other)
        (void)buf_fmt(out, "content-length: %llu\r\n", (unsigned long long)f->other);
}

static void put_fields(struct buf *out, const struct sim_reply *r, const struct frame *f)
{
    put_field(out, "date", r->date);
    put_field(out, "server", "batchd-sim");
    put_field(out, "x-request-id", r->id);
    if (r->type)
        put_field(out, "content-type", r->type);
    if (r->extra)
        (void)buf_z(out, r->extra);
    (void)buf_str(out, r->limits);
    if (r->retry_after >= 0)
        put_retry_after(out, r->retry_after);
    if (f->gzip)
        LIT(out, "content-encoding: gzip\r\n");
    if (f->chunked) {
        LIT(out, "transfer-encoding: chunked\r\n");
    } else if (!f->http10 && !has_no_body(r->status)) {
        put_length(out, f);
    }
    if (!r->keep_alive)
        LIT(out, "connection: close\r\n");
    else if (r->minor == 0)
        LIT(out, "connection: keep-alive\r\n");
}

static void put_head(struct buf *out, const struct sim_reply *r, const struct frame *f)
{
    (void)buf_z(out, f->http10 ? "HTTP/1.0 " : "HTTP/1.1 ");
    if (f->status)
        (void)buf_z(out, f->status);
    else
        (void)buf_u64(out, r->status);
    (void)buf_char(out, ' ');
    (void)buf_z(out, phrase(r->status));
    LIT(out, "\r\n");
    (void)buf_str(out, f->odd);
    put_fields(out, r, f);
    if (f->twice)
        put_fields(out, r, f);
    put_padding(out, f->big);
    LIT(out, "\r\n");
}

void sim_wire_plain(struct buf *out, const struct sim_reply *r, struct sim_wire *ret)
{
    struct frame f = {.length = r->body.n};

    *ret = (struct sim_wire){.after = r->keep_alive ? SIM_KEEP : SIM_CLOSE};
    put_head(out, r, &f);
    if (!has_no_body(r->status))
        (void)buf_str(out, r->body);
}

/* --- Bodies that are wrong -----------------------------------------------------------
 */

static void body_html(struct buf *b, struct str body)
{
    (void)body;
    LIT(b, "<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>\n"
           "<body><h1>502 Bad Gateway</h1><hr>nginx</body></html>\n");
}

static void body_not_json(struct buf *b, struct str body)
{
    (void)body;
    LIT(b, "upstream connect error or disconnect/reset before headers\n");
}

static void body_half(struct buf *b, struct str body)
{
    (void)buf_add(b, body.p, body.n / 2);
}

/* All answers are objects with members: one more goes in front. */
static void body_with_padding(struct buf *b, struct str padding, struct str body)
{
    LIT(b, "{\"padding\":\"");
    (void)buf_str(b, padding);
    LIT(b, "\",");
    (void)buf_add(b, body.p + 1, body.n - 1);
}

static void body_bad_utf8(struct buf *b, struct str body)
{
    /* not a lead byte; overlong '/'; a surrogate; above U+10FFFF; a lead byte alone */
    body_with_padding(b, STR("\xff\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80\xe2"), body);
}

static void body_nul(struct buf *b, struct str body)
{
    body_with_padding(b, STR("a\0b"), body);
}

static void body_huge(struct buf *b, struct str body)
{
    body_with_padding(b, STR(""), body);
}

static void new_line(struct buf *b, unsigned depth)
{
    LIT(b, "\r\n");
    for (unsigned i = 0; i < depth; i++)
        LIT(b, "  ");
}

/* The answer is valid JSON: brackets outside of strings are all there is to know. */
static void body_many_lines(struct buf *b, struct str body)
{
    unsigned depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < body.n; i++) {
        char c = body.p[i];

        if (in_string) {
            (void)buf_char(b, c);
            if (c == '\\' && i + 1 < body.n)
                (void)buf_char(b, body.p[++i]);
            in_string = c != '"';
            continue;
        }
        in_string = c == '"';
        if (c == '}' || c == ']')
            new_line(b, depth ? --depth : 0);
        (void)buf_char(b, c);
        if (c == '{' || c == '[')
            new_line(b, ++depth);
        else if (c == ',')
            new_line(b, depth);
    }
    LIT(b, "\n");
}

static void body_large(struct buf *b, struct str body)
{
    LIT(b, "{\"padding\":\"");
    for (unsigned i = 0; i < LARGE_BYTES / 64; i++)
        LIT(b, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
    LIT(b, "\",");
    (void)buf_add(b, body.p + 1, body.n - 1);
}

static void body_deep(struct buf *b, struct str body)
{
    LIT(b, "{\"deep\":");
    for (unsigned i = 0; i < DEEP_ARRAYS; i++)
        (void)buf_char(b, '[');
    for (unsigned i = 0; i < DEEP_ARRAYS; i++)
        (void)buf_char(b, ']');
    LIT(b, ",");
    (void)buf_add(b, body.p + 1, body.n - 1);
}

static void body_sse(struct buf *b, struct str body)
{
    LIT(b, "data: ");
    (void)buf_str(b, body);
    LIT(b, "\n\ndata: [DONE]\n\n");
}

/* What vLLM and gateways say with 429. */
static void body_later(struct buf *b, struct str body)
{
    (void)body;
    LIT(b, "{\"error\":{\"message\":\"Too many requests.\",\"type\":\"RateLimitError\","
           "\"param\":null,\"code\":429}}");
}

static void body_no_quota(struct buf *b, struct str body)
{
    (void)body;
    LIT(b, "{\"error\":{\"message\":\"You exceeded your current quota, please check your "
           "plan and billing details.\",\"type\":\"insufficient_quota\",\"param\":null,"
           "\"code\":\"insufficient_quota\"}}");
}

static void put_le(struct buf *b, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        (void)buf_char(b, (char)(v >> 8 * i & 255));
}

/* RFC 1952 around stored blocks (RFC 1951 3.2.4): valid, only not smaller. */
static void body_gzip(struct buf *b, struct str body)
{
    struct str left = body;

    (void)buf_add(b, "\x1f\x8b\x08\0\0\0\0\0\0\xff", 10);
    do {
        size_t n = u64_min(left.n, 65535);

        (void)buf_char(b, n == left.n); /* the last block says so */
        put_le(b, n, 2);
        put_le(b, ~n, 2);
        (void)buf_add(b, left.p, n);
        left.p += n, left.n -= n;
    } while (left.n);
    put_le(b, (uint32_t)crc32_z(0, (const Bytef *)body.p, body.n), 4);
    put_le(b, body.n, 4);
}

typedef void body_fn(struct buf *b, struct str body);

static body_fn *const bodies[SIM_FAULT_COUNT] = {
    [SIM_FAULT_HTML] = body_html,
    [SIM_FAULT_NOT_JSON] = body_not_json,
    [SIM_FAULT_TRUNCATED_JSON] = body_half,
    [SIM_FAULT_INVALID_UTF8] = body_bad_utf8,
    [SIM_FAULT_NUL] = body_nul,
    [SIM_FAULT_HUGE] = body_huge,
    [SIM_FAULT_MULTI_LINE] = body_many_lines,
    [SIM_FAULT_GZIP] = body_gzip,
    [SIM_FAULT_TWO_LARGE] = body_large,
    [SIM_FAULT_DEEP_JSON] = body_deep,
    [SIM_FAULT_SSE] = body_sse,
    [SIM_FAULT_RETRY_HOUR] = body_later,
    [SIM_FAULT_RETRY_MINUS] = body_later,
    [SIM_FAULT_RETRY_PAST] = body_later,
    [SIM_FAULT_RETRY_JUNK] = body_later,
    [SIM_FAULT_NO_QUOTA] = body_no_quota,
};

/* Of the faults that are in what the head says. */
static const struct {
    unsigned status;
    const char *type, *extra;
} says[SIM_FAULT_COUNT] = {
    [SIM_FAULT_HTML] = {0, "text/html; charset=utf-8", NULL},
    [SIM_FAULT_SSE] = {0, "text/event-stream", NULL},
    [SIM_FAULT_RETRY_HOUR] = {429, NULL, "retry-after: 3600\r\n"},
    [SIM_FAULT_RETRY_MINUS] = {429, NULL, "retry-after: -5\r\n"},
    [SIM_FAULT_RETRY_PAST] = {429, NULL,
                              "retry-after: Wed, 21 Oct 2015 07:28:00 GMT\r\n"},
    [SIM_FAULT_RETRY_JUNK] = {429, NULL, "retry-after: soon\r\n"},
    [SIM_FAULT_NO_QUOTA] = {429, NULL, NULL},
};

/* --- Faults --------------------------------------------------------------------------
 */

static void wire_garbage(struct buf *out, uint64_t hash)
{
    (void)buf_add(out, "\x16\x03\x01\x02\0\x01\0", 7); /* as if it spoke TLS */
    for (int i = 0; i < 32; i++)
        put_le(out, sim_mix64(hash + (uint64_t)i), 8);
}

static void wire_bad_chunk(struct buf *out, struct str body)
{
    size_t half = body.n / 2;

    (void)buf_fmt(out, "%zx\r\n", half);
    (void)buf_add(out, body.p, half);
    LIT(out, "\r\nxyzzy\r\n");
    (void)buf_add(out, body.p + half, body.n - half);
    LIT(out, "\r\n0\r\n\r\n");
}

static void wire_half_chunk(struct buf *out, struct str body)
{
    (void)buf_fmt(out, "%zx\r\n", body.n);
    (void)buf_add(out, body.p, body.n / 2);
}

static void wire_huge_chunk(struct buf *out, struct str body)
{
    LIT(out, "fffffffffffffffff0\r\n");
    (void)buf_str(out, body);
}

/* The faults that send no answer at all. */
static bool wire_nothing(struct buf *out, enum sim_fault kind, uint64_t hash,
                         struct sim_wire *ret)
{
    if (kind == SIM_FAULT_GARBAGE) {
        wire_garbage(out, hash);
        ret->after = SIM_CLOSE;
    } else if (kind == SIM_FAULT_TLS_ALERT) {
        (void)buf_add(out, "\x15\x03\x03\0\x02\x02\x46", 7); /* fatal, protocol_version */
        ret->after = SIM_CLOSE;
    } else if (kind == SIM_FAULT_CLOSE) {
        ret->after = SIM_CLOSE;
    } else if (kind == SIM_FAULT_RESET) {
        ret->after = SIM_RESET;
    } else if (kind == SIM_FAULT_STALL) {
        ret->after = SIM_HOLD;
    } else {
        return false;
    }
    return true;
}

static void odd_frame(struct frame *f, enum sim_fault kind)
{
    f->minus = kind == SIM_FAULT_MINUS_LENGTH;
    if (kind == SIM_FAULT_TWO_LENGTHS)
        f->other = f->length + 50;
    if (kind == SIM_FAULT_BAD_STATUS)
        f->status = "two hundred";
    if (kind == SIM_FAULT_NO_COLON)
        f->odd = STR("this line is no header\r\n");
    if (kind == SIM_FAULT_NUL_HEAD)
        f->odd = STR("x-nothing: a\0b\r\n");
}

static struct frame frame_of(enum sim_fault kind, size_t n, const struct sim_options *o)
{
    struct frame f = {.length = n};

    f.http10 = kind == SIM_FAULT_HTTP10_CLOSE;
    f.chunked = kind == SIM_FAULT_BAD_CHUNK || kind == SIM_FAULT_HALF_CHUNK ||
                kind == SIM_FAULT_HUGE_CHUNK;
    f.gzip = kind == SIM_FAULT_GZIP;
    f.twice = kind == SIM_FAULT_DUP_HEADER;
    if (kind == SIM_FAULT_BIG_HEAD)
        f.big = o->big_head_bytes;
    if (kind == SIM_FAULT_LONG_LENGTH)
        f.length += 100;
    if (kind == SIM_FAULT_SHORT_LENGTH)
        f.length /= 2;
    if (kind == SIM_FAULT_HUGE)
        f.length = u64_max(f.length, o->huge_bytes);
    odd_frame(&f, kind);
    return f;
}

/* Where the bytes end early, and what comes then. */
struct cut {
    bool in_head, in_body;
    enum sim_after after;
};

static struct cut cut_of(enum sim_fault kind, enum sim_after usual)
{
    switch ((int)kind) { /* int: only these cut */
    case SIM_FAULT_RESET_BODY:
        return (struct cut){.in_body = true, .after = SIM_RESET};
    case SIM_FAULT_CLOSE_BODY:
        return (struct cut){.in_body = true, .after = SIM_CLOSE};
    case SIM_FAULT_STALL_BODY:
        return (struct cut){.in_body = true, .after = SIM_HOLD};
    case SIM_FAULT_CLOSE_HEAD:
        return (struct cut){.in_head = true, .after = SIM_CLOSE};
    case SIM_FAULT_LONG_LENGTH:
    case SIM_FAULT_BAD_CHUNK:
    case SIM_FAULT_HTTP09:
    case SIM_FAULT_HTTP10_CLOSE:
    case SIM_FAULT_BAD_STATUS:
    case SIM_FAULT_MINUS_LENGTH:
    case SIM_FAULT_TWO_LENGTHS:
    case SIM_FAULT_HALF_CHUNK:
    case SIM_FAULT_HUGE_CHUNK:
        return (struct cut){.after = SIM_CLOSE};
    default:
        return (struct cut){.after = usual};
    }
}

/* A head is cut by composing it elsewhere first. */
static void put_half_head(struct buf *out, struct buf *spare, const struct sim_reply *r)
{
    struct frame f = {.length = r->body.n};

    buf_reset(spare);
    put_head(spare, r, &f);
    (void)buf_add(out, spare->p, spare->n / 2);
}

static void put_bare_head(struct buf *out, struct buf *spare, const struct sim_reply *r,
                          const struct frame *f)
{
    buf_reset(spare);
    put_head(spare, r, f);
    for (size_t i = 0; i < spare->n; i++)
        if (spare->p[i] != '\r')
            (void)buf_char(out, spare->p[i]);
}

/* An answer that is plainly not that of the next request. */
static void put_stray(struct buf *out, const struct sim_reply *r)
{
    const struct str body = STR("{\"id\":\"stray\",\"object\":\"stray\"}");
    struct frame f = {.length = body.n};

    put_head(out, r, &f);
    (void)buf_str(out, body);
}

static void put_answer(struct buf *out, struct buf *spare, const struct sim_reply *r,
                       enum sim_fault kind, const struct frame *f, bool half)
{
    if (kind == SIM_FAULT_SWITCH_100)
        LIT(out, "HTTP/1.1 100 Continue\r\n\r\n");
    for (unsigned i = 0; kind == SIM_FAULT_INFO_FLOOD && i < INFO_HEADS; i++)
        LIT(out, "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n");
    if (kind == SIM_FAULT_BARE_LF)
        put_bare_head(out, spare, r, f);
    else if (kind != SIM_FAULT_HTTP09)
        put_head(out, r, f);
    if (kind == SIM_FAULT_HALF_CHUNK)
        wire_half_chunk(out, r->body);
    else if (kind == SIM_FAULT_HUGE_CHUNK)
        wire_huge_chunk(out, r->body);
    else if (f->chunked)
        wire_bad_chunk(out, r->body);
    else
        (void)buf_add(out, r->body.p, half ? r->body.n / 2 : r->body.n);
    if (kind == SIM_FAULT_TWO_ANSWERS || kind == SIM_FAULT_TWO_LARGE)
        put_stray(out, r);
}

void sim_wire_fault(struct buf *out, struct buf *spare, const struct sim_reply *r,
                    enum sim_fault kind, uint64_t hash, const struct sim_options *o,
                    struct sim_wire *ret)
{
    struct sim_reply wrong = *r;
    struct cut cut = cut_of(kind, r->keep_alive ? SIM_KEEP : SIM_CLOSE);
    struct frame f;

    *ret = (struct sim_wire){.after = cut.after};
    if (wire_nothing(out, kind, hash, ret))
        return;
    if (cut.in_head) {
        put_half_head(out, spare, r);
        return;
    }
    if (says[kind].type)
        wrong.type = says[kind].type;
    if (says[kind].status)
        wrong.status = says[kind].status;
    if (says[kind].extra)
        wrong.extra = says[kind].extra;
    if (kind == SIM_FAULT_EMPTY)
        wrong.body.n = 0;
    if (bodies[kind]) {
        buf_reset(spare);
        bodies[kind](spare, r->body);
        wrong.body = buf_peek(spare);
    }
    f = frame_of(kind, wrong.body.n, o);
    put_answer(out, spare, &wrong, kind, &f, cut.in_body);
    if (kind == SIM_FAULT_SLOW)
        ret->rate = o->slow_rate;
    if (kind == SIM_FAULT_HUGE) {
        ret->fill = f.length - wrong.body.n;
        ret->fill_at = out->n - wrong.body.n + sizeof "{\"padding\":\"" - 1;
    }
}
