/* SPDX-License-Identifier: Apache-2.0 */
#include "http/http1.h"

static enum rc refuse(struct http1_head *h, enum rc rc, int status, const char *why)
{
    h->refuse = status;
    h->why = why;
    return h->_rc = rc;
}

static bool is_token(unsigned char c) /* RFC 9110 5.6.2 */
{
    static const char marks[] = "!#$%&'*+-.^_`|~";

    if ((c | 32) >= 'a' && (c | 32) <= 'z')
        return true;
    return (c >= '0' && c <= '9') || (c && memchr(marks, c, sizeof marks - 1));
}

static bool all_token(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_token((unsigned char)s.p[i]))
            return false;
    return s.n > 0;
}

/* What may stand inside a line: text, spaces, tabs and bytes above ASCII. */
static bool is_line_byte(unsigned char c)
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

static struct str trim(struct str s)
{
    while (s.n && is_space(s.p[0]))
        s.p++, s.n--;
    while (s.n && is_space(s.p[s.n - 1]))
        s.n--;
    return s;
}

static struct http1_span span(const char *base, struct str s)
{
    return (struct http1_span){(uint32_t)(s.p - base), (uint32_t)s.n};
}

static struct str at(const char *base, struct http1_span s)
{
    return (struct str){base + s.at, s.n};
}

void http1_head_init(struct http1_head *h)
{
    /* The arrays are 1.6 kB and read only below n_fields: they are left as they are. */
    memset(h, 0, offsetof(struct http1_head, _names));
}

/* --- The request line ----------------------------------------------------------------
 */

static enum rc read_version(struct http1_head *h, struct str v)
{
    static const struct str name = {"HTTP/", 5};

    if (v.n != 8 || !str_starts(v, name) || v.p[6] != '.' || v.p[5] < '0' ||
        v.p[5] > '9' || v.p[7] < '0' || v.p[7] > '9')
        return refuse(h, RC_INVALID, 400, "the request line ends in no HTTP version");
    if (v.p[5] != '1')
        return refuse(h, RC_INVALID, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    h->minor = v.p[7] == '0' ? 0 : 1;
    return RC_OK;
}

static bool target_ok(struct str t)
{
    static const struct str http = {"http://", 7}, https = {"https://", 8};

    for (size_t i = 0; i < t.n; i++)
        if ((unsigned char)t.p[i] <= ' ' || (unsigned char)t.p[i] >= 0x7f)
            return false;
    return (t.n && t.p[0] == '/') || str_is(t, "*") || str_starts(t, http) ||
           str_starts(t, https);
}

static enum rc read_request_line(struct http1_head *h, const char *base, struct str line)
{
    struct str method = str_cut(&line, ' ');
    struct str target = str_cut(&line, ' ');
    enum rc rc;

    if (!all_token(method))
        return refuse(h, RC_INVALID, 400, "the request line has no method");
    if (target.n > HTTP1_TARGET_MAX)
        return refuse(h, RC_LIMIT, 414, "the request target is too long");
    if (!target_ok(target))
        return refuse(h, RC_INVALID, 400, "the request target is not a path");
    rc = read_version(h, line);
    h->_method = span(base, method);
    h->_target = span(base, target);
    return rc;
}

/* --- Fields --------------------------------------------------------------------------
 */

static enum rc read_length(struct http1_head *h, struct str v)
{
    if (h->has_length)
        return refuse(h, RC_INVALID, 400, "there are several Content-Length fields");
    if (str_u64(v, &h->content_length) != RC_OK)
        return refuse(h, RC_INVALID, 400, "Content-Length is not a number");
    h->has_length = true;
    return RC_OK;
}

static enum rc read_encoding(struct http1_head *h, struct str v)
{
    if (h->_encoded)
        return refuse(h, RC_INVALID, 400, "there are several Transfer-Encoding fields");
    h->_encoded = true;
    if (!str_ieq(v, STR("chunked")))
        return refuse(h, RC_INVALID, 501, "only the transfer coding chunked is known");
    h->chunked = true;
    return RC_OK;
}

static enum rc read_host(struct http1_head *h, struct str v)
{
    (void)v; /* any value: we serve one host */
    if (h->_host)
        return refuse(h, RC_INVALID, 400, "there are several Host fields");
    h->_host = true;
    return RC_OK;
}

static enum rc read_connection(struct http1_head *h, struct str v)
{
    while (v.n) {
        struct str word = trim(str_cut(&v, ','));

        h->_close |= str_ieq(word, STR("close"));
        h->_keep |= str_ieq(word, STR("keep-alive"));
    }
    return RC_OK;
}

static enum rc read_expect(struct http1_head *h, struct str v)
{
    if (!str_ieq(v, STR("100-continue")))
        return refuse(h, RC_INVALID, 417, "only Expect: 100-continue is known");
    h->expect_continue = true;
    return RC_OK;
}

/* The fields that decide how the message is framed; all others are only noted. */
static enum rc read_known(struct http1_head *h, struct str name, struct str value)
{
    static const struct {
        struct str name;
        enum rc (*read)(struct http1_head *h, struct str v);
    } known[] = {{{"host", 4}, read_host},
                 {{"expect", 6}, read_expect},
                 {{"connection", 10}, read_connection},
                 {{"content-length", 14}, read_length},
                 {{"transfer-encoding", 17}, read_encoding}};

    for (size_t i = 0; i < COUNTOF(known); i++)
        if (known[i].name.n == name.n && str_ieq(known[i].name, name))
            return known[i].read(h, value);
    return RC_OK;
}

static enum rc read_field(struct http1_head *h, const char *base, struct str line)
{
    const char *colon = memchr(line.p, ':', line.n);
    struct str name, value;

    if (is_space(line.p[0]))
        return refuse(h, RC_INVALID, 400, "a header line is folded");
    if (!colon)
        return refuse(h, RC_INVALID, 400, "a header line has no colon");
    name = (struct str){line.p, (size_t)(colon - line.p)};
    value = trim((struct str){colon + 1, line.n - name.n - 1});
    if (!all_token(name))
        return refuse(h, RC_INVALID, 400, "a header name has a byte it may not have");
    if (h->n_fields == HTTP1_FIELDS_MAX)
        return refuse(h, RC_LIMIT, 431, "there are too many header fields");
    h->_names[h->n_fields] = span(base, name);
    h->_values[h->n_fields] = span(base, value);
    h->n_fields++;
    return read_known(h, name, value);
}

/* --- The head as a whole -------------------------------------------------------------
 */

static enum rc end_head(struct http1_head *h, uint32_t bytes)
{
    if (h->minor && !h->_host)
        return refuse(h, RC_INVALID, 400, "there is no Host field");
    if (h->chunked && h->has_length)
        return refuse(h, RC_INVALID, 400,
                      "Content-Length and Transfer-Encoding are both there");
    if (h->chunked && h->minor == 0)
        return refuse(h, RC_INVALID, 400, "HTTP/1.0 has no Transfer-Encoding");
    h->keep_alive = !h->_close && (h->minor || h->_keep);
    h->expect_continue &=
        h->minor != 0; /* RFC 9110 10.1.1: a 1.0 client cannot mean it */
    h->bytes = bytes;
    h->_whole = true;
    return RC_OK;
}

static enum rc read_line(struct http1_head *h, const char *base, struct str line)
{
    if (h->_method.n == 0) {
        if (line.n)
            return read_request_line(h, base, line);
        /* RFC 9112 2.2: an empty line before the request is passed over; we take one. */
        if (h->_blank)
            return refuse(h, RC_INVALID, 400, "there is no request line");
        h->_blank = true;
        return RC_OK;
    }
    if (line.n)
        return read_field(h, base, line);
    return end_head(h, (uint32_t)(line.p - base) + 2);
}

/* Looks for the end of the line at _line.  RC_OK: *ret is the line, _scan stands behind
 * it. */
static enum rc find_line(struct http1_head *h, struct str have, struct str *ret)
{
    uint32_t end = (uint32_t)u64_min(have.n, HTTP1_HEAD_MAX);
    uint32_t i = h->_scan;

    while (i < end && is_line_byte((unsigned char)have.p[i]))
        i++;
    h->_scan = i;
    if (i + 1 < end && have.p[i] == '\r' && have.p[i + 1] == '\n') {
        *ret = (struct str){have.p + h->_line, i - h->_line};
        h->_scan = h->_line = i + 2;
        return RC_OK;
    }
    if (i < end && (have.p[i] != '\r' || i + 1 < end))
        return refuse(h, RC_INVALID, 400,
                      have.p[i] == '\n' ? "a line ends in a bare line feed"
                                        : "a line has a control byte in it");
    if (end == HTTP1_HEAD_MAX)
        return refuse(h, RC_LIMIT, 431, "the head of the request is too long");
    return RC_AGAIN;
}

enum rc http1_head_read(struct http1_head *h, struct str have)
{
    struct str line;
    enum rc rc = h->_rc;

    while (rc == RC_OK && !h->_whole) {
        rc = find_line(h, have, &line);
        if (rc == RC_OK)
            rc = read_line(h, have.p, line);
    }
    return rc;
}

struct str http1_method(const struct http1_head *h, const char *base)
{
    return at(base, h->_method);
}

struct str http1_target(const struct http1_head *h, const char *base)
{
    return at(base, h->_target);
}

struct str http1_path(const struct http1_head *h, const char *base)
{
    struct str rest = at(base, h->_target);
    struct str t = str_cut(&rest, '?');
    const char *slash;

    if (t.p[0] != 'h')
        return t;
    /* absolute-form: target_ok() saw "http://" or "https://" */
    (void)str_cut(&t, ':');
    t.p += 2, t.n -= 2;
    slash = memchr(t.p, '/', t.n);
    if (!slash)
        return STR("/");
    return (struct str){slash, t.n - (size_t)(slash - t.p)};
}

struct str http1_field(const struct http1_head *h, const char *base, const char *name)
{
    struct str want = str_of(name);

    for (uint32_t i = 0; i < h->n_fields; i++)
        if (h->_names[i].n == want.n && str_ieq(at(base, h->_names[i]), want))
            return at(base, h->_values[i]);
    return (struct str){NULL, 0};
}

void http1_field_at(const struct http1_head *h, const char *base, uint32_t i,
                    struct str *ret_name, struct str *ret_value)
{
    CHECK(i < h->n_fields);
    *ret_name = at(base, h->_names[i]);
    *ret_value = at(base, h->_values[i]);
}

/* --- Chunked bodies ------------------------------------------------------------------
 */

/*
 * SIZE -digits-> SIZE -;-> EXT -CR-> SIZE_LF;  SIZE -CR-> SIZE_LF -LF-> DATA, or TRAILER
 * when the size is 0;  DATA -all of it-> DATA_CR -> DATA_LF -> SIZE;  TRAILER: lines up
 * to an empty one -> OVER.
 */
enum chunk_state {
    CHUNK_SIZE,
    CHUNK_EXT,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER,     /* at the start of a line */
    CHUNK_TRAILER_IN,  /* inside one */
    CHUNK_TRAILER_LF,  /* behind the CR of one */
    CHUNK_TRAILER_END, /* behind the CR of the empty line */
    CHUNK_OVER
};

static enum rc chunk_refuse(struct http1_chunks *c, enum rc rc, int status,
                            const char *why)
{
    c->refuse = status;
    c->why = why;
    return c->_rc = rc;
}

void http1_chunks_init(struct http1_chunks *c, uint64_t max_body)
{
    *c = (struct http1_chunks){._max = max_body};
}

static int hex_digit(char ch)
{
    if (ch >= '0' && ch <= '9')
        return ch - '0';
    if ((ch | 32) >= 'a' && (ch | 32) <= 'f')
        return (ch | 32) - 'a' + 10;
    return -1;
}

static enum rc chunk_size_byte(struct http1_chunks *c, char ch)
{
    int digit = hex_digit(ch);

    if (digit >= 0) {
        /* 15 digits are 2^60: no sum below can wrap, and leading zeros have an end. */
        if (++c->_digits > 15)
            return chunk_refuse(c, RC_INVALID, 400, "a chunk size is too long");
        c->_left = c->_left << 4 | (unsigned)digit;
        return RC_OK;
    }
    if (c->_digits == 0 || (ch != '\r' && ch != ';'))
        return chunk_refuse(c, RC_INVALID, 400, "a chunk size is not a number");
    if (c->_left > c->_max - c->body_bytes)
        return chunk_refuse(c, RC_LIMIT, 413, "the body is too large");
    c->_state = ch == '\r' ? CHUNK_SIZE_LF : CHUNK_EXT;
    return RC_OK;
}

static enum rc chunk_line_byte(struct http1_chunks *c, char ch, uint32_t max,
                               enum chunk_state next)
{
    if (ch == '\r')
        c->_state = next;
    else if (!is_line_byte((unsigned char)ch))
        return chunk_refuse(c, RC_INVALID, 400, "a control byte between chunks");
    if (++c->_seen > max)
        return chunk_refuse(c, RC_LIMIT, 431, "chunk extensions or trailers too long");
    return RC_OK;
}

static enum rc chunk_expect(struct http1_chunks *c, char ch, char want,
                            enum chunk_state next)
{
    if (ch != want)
        return chunk_refuse(c, RC_INVALID, 400, "a chunk does not end where it says");
    c->_state = next;
    return RC_OK;
}

static enum rc chunk_trailer_start(struct http1_chunks *c, char ch)
{
    if (ch == '\r') {
        c->_state = CHUNK_TRAILER_END;
        return RC_OK;
    }
    if (!is_token((unsigned char)ch))
        return chunk_refuse(c, RC_INVALID, 400, "a trailer line has no name");
    c->_state = CHUNK_TRAILER_IN;
    return chunk_line_byte(c, ch, HTTP1_TRAILER_MAX, CHUNK_TRAILER_LF);
}

static enum rc chunk_size_over(struct http1_chunks *c, char ch)
{
    c->_seen = 0;
    c->_digits = 0;
    return chunk_expect(c, ch, '\n', c->_left ? CHUNK_DATA : CHUNK_TRAILER);
}

static enum rc chunk_byte(struct http1_chunks *c, char ch)
{
    switch ((enum chunk_state)c->_state) {
    case CHUNK_SIZE:
        return chunk_size_byte(c, ch);
    case CHUNK_EXT:
        return chunk_line_byte(c, ch, HTTP1_CHUNK_EXT_MAX, CHUNK_SIZE_LF);
    case CHUNK_SIZE_LF:
        return chunk_size_over(c, ch);
    case CHUNK_DATA_CR:
        return chunk_expect(c, ch, '\r', CHUNK_DATA_LF);
    case CHUNK_DATA_LF:
        return chunk_expect(c, ch, '\n', CHUNK_SIZE);
    case CHUNK_TRAILER:
        return chunk_trailer_start(c, ch);
    case CHUNK_TRAILER_IN:
        return chunk_line_byte(c, ch, HTTP1_TRAILER_MAX, CHUNK_TRAILER_LF);
    case CHUNK_TRAILER_LF:
        return chunk_expect(c, ch, '\n', CHUNK_TRAILER);
    case CHUNK_TRAILER_END:
        return chunk_expect(c, ch, '\n', CHUNK_OVER);
    case CHUNK_DATA:
    case CHUNK_OVER:
        break;
    }
    PANIC("chunk state %u takes no byte", c->_state);
}

enum rc http1_chunks_read(struct http1_chunks *c, struct str *in, struct str *ret_piece)
{
    enum rc rc = c->_rc;

    *ret_piece = (struct str){in->p, 0};
    while (rc == RC_OK && c->_state != CHUNK_OVER) {
        if (in->n == 0)
            return RC_AGAIN;
        if (c->_state == CHUNK_DATA) {
            size_t n = (size_t)u64_min(in->n, c->_left);

            *ret_piece = (struct str){in->p, n};
            in->p += n, in->n -= n;
            c->body_bytes += n;
            c->_left -= n;
            if (c->_left == 0)
                c->_state = CHUNK_DATA_CR;
            return RC_OK;
        }
        rc = chunk_byte(c, *in->p);
        if (rc == RC_OK)
            in->p++, in->n--;
    }
    return rc;
}
