/* SPDX-License-Identifier: Apache-2.0 */
#include "http/http1.h"
#include "base/buf.h"
#include "base/mem.h"
#include "tests/lib/t.h"

#include <stdlib.h>

/* The bytes of a read stand at the end of their own allocation, so that a sanitizer sees
 * any look beyond them; and at a new address each time, as in a buffer that grew. */
static char *copy(const char *p, size_t n)
{
    char *c = mem_try(n ? n : 1);

    OK(c);
    memcpy(c, p, n);
    return c;
}

static enum rc read_all(struct http1_head *h, struct str text)
{
    http1_head_init(h);
    return http1_head_read(h, text);
}

static enum rc read_split(struct http1_head *h, struct str text, size_t at)
{
    char *first = copy(text.p, at);
    enum rc rc;

    http1_head_init(h);
    rc = http1_head_read(h, (struct str){first, at});
    mem_free(first);
    return rc == RC_AGAIN ? http1_head_read(h, text) : rc;
}

static enum rc read_bytewise(struct http1_head *h, struct str text)
{
    enum rc rc = RC_AGAIN;

    http1_head_init(h);
    for (size_t n = 1; n <= text.n && rc == RC_AGAIN; n++) {
        char *piece = copy(text.p, n);

        rc = http1_head_read(h, (struct str){piece, n});
        mem_free(piece);
    }
    return rc;
}

static void same(const struct http1_head *a, const struct http1_head *b)
{
    EQ_INT(a->bytes, b->bytes);
    EQ_INT(a->n_fields, b->n_fields);
    EQ_INT(a->minor, b->minor);
    EQ_INT(a->keep_alive, b->keep_alive);
    EQ_INT(a->chunked, b->chunked);
    EQ_INT(a->has_length, b->has_length);
    EQ_INT(a->content_length, b->content_length);
    EQ_INT(a->expect_continue, b->expect_continue);
    EQ_INT(a->refuse, b->refuse);
}

static const char *const good_heads[] = {
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\nGET /a?b=c HTTP/1.1\r\nhost:a\r\nConnection: close\r\n\r\nGET /next",
    ("POST /v1/chat/completions HTTP/1.1\r\nHost: a:1\r\nContent-Length: 12\r\n"
     "X-Empty:\r\nX-Odd: \t a b\tc \xff\xc3\xa9 \t\r\nExpect: 100-Continue\r\n\r\n{}"),
    "POST / HTTP/1.1\r\nHost:\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
    "GET http://example.com/v1/models?x HTTP/1.0\r\nConnection: foo, Keep-Alive\r\n\r\n",
    "OPTIONS * HTTP/1.9\r\nHost: a\r\n\r\n",
};

TEST(a_head_reads_the_same_at_every_split_and_byte_by_byte)
{
    for (size_t i = 0; i < COUNTOF(good_heads); i++) {
        struct str text = str_of(good_heads[i]);
        struct http1_head whole, part;

        t_row(good_heads[i]);
        EQ_RC(read_all(&whole, text), RC_OK);
        for (size_t at = 0; at <= text.n; at++) {
            EQ_RC(read_split(&part, text, at), RC_OK);
            same(&part, &whole);
        }
        EQ_RC(read_bytewise(&part, text), RC_OK);
        same(&part, &whole);
        for (size_t n = 0; n < whole.bytes; n++)
            EQ_RC(read_all(&part, (struct str){text.p, n}), RC_AGAIN);
    }
}

TEST(parts_of_a_head_are_found)
{
    struct http1_head h;
    const char *p = good_heads[2];
    struct str name, value;

    EQ_RC(read_all(&h, str_of(p)), RC_OK);
    EQ_STR(http1_method(&h, p), STR("POST"));
    EQ_STR(http1_target(&h, p), STR("/v1/chat/completions"));
    EQ_STR(http1_path(&h, p), STR("/v1/chat/completions"));
    EQ_STR(http1_field(&h, p, "HOST"), STR("a:1"));
    EQ_STR(http1_field(&h, p, "x-empty"), STR(""));
    OK(http1_field(&h, p, "x-empty").p != NULL);
    EQ_STR(http1_field(&h, p, "x-odd"), STR("a b\tc \xff\xc3\xa9"));
    OK(http1_field(&h, p, "x-none").p == NULL);
    http1_field_at(&h, p, 1, &name, &value);
    EQ_STR(name, STR("Content-Length"));
    EQ_STR(value, STR("12"));
    EQ_INT(h.n_fields, 5);
    EQ_INT(h.content_length, 12);
    OK(h.expect_continue && h.keep_alive && !h.chunked);
    EQ_Z(p + h.bytes, "{}");
}

TEST(paths_come_without_query_and_authority)
{
    static const struct {
        const char *target, *path;
    } rows[] = {{"/", "/"},         {"/a/b?c=d?e", "/a/b"}, {"http://h:1/a?b", "/a"},
                {"https://h", "/"}, {"http://h?x=/y", "/"}, {"*", "*"},
                {"//a", "//a"}};

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct http1_head h;
        char text[128];

        t_row(rows[i].target);
        EQ_RC(str_fmt(text, sizeof text, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n",
                      rows[i].target),
              RC_OK);
        EQ_RC(read_all(&h, str_of(text)), RC_OK);
        EQ_STR(http1_path(&h, text), str_of(rows[i].path));
    }
}

TEST(keep_alive_follows_version_and_connection)
{
    static const struct {
        const char *version, *connection;
        bool keep;
    } rows[] = {{"1.1", "x", true},
                {"1.1", "close", false},
                {"1.1", "Keep-Alive, CLOSE", false},
                {"1.0", "x", false},
                {"1.0", "keep-alive", true},
                {"1.0", "keep-alive,close", false},
                {"1.1", "closed", true}};

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct http1_head h;
        char text[128];

        t_row(rows[i].connection);
        EQ_RC(str_fmt(text, sizeof text,
                      "GET / HTTP/%s\r\nHost: a\r\nConnection: %s\r\n\r\n",
                      rows[i].version, rows[i].connection),
              RC_OK);
        EQ_RC(read_all(&h, str_of(text)), RC_OK);
        EQ_INT(h.keep_alive, rows[i].keep);
    }
}

#define R1 "POST / HTTP/1.1\r\nHost: a\r\n"

static const struct {
    const char *name, *text;
    int status;
} bad_heads[] = {
    {"length and chunking", R1 "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
     400},
    {"chunking and length", R1 "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
     400},
    {"two lengths", R1 "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400},
    {"two equal lengths", R1 "Content-Length: 5\r\ncontent-length: 5\r\n\r\n", 400},
    {"a list of lengths", R1 "Content-Length: 5, 5\r\n\r\n", 400},
    {"a signed length", R1 "Content-Length: +5\r\n\r\n", 400},
    {"a negative length", R1 "Content-Length: -5\r\n\r\n", 400},
    {"a hex length", R1 "Content-Length: 0x5\r\n\r\n", 400},
    {"an empty length", R1 "Content-Length:\r\n\r\n", 400},
    {"a length above 64 bits", R1 "Content-Length: 18446744073709551616\r\n\r\n", 400},
    {"an unknown coding", R1 "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
    {"identity", R1 "Transfer-Encoding: identity\r\n\r\n", 501},
    {"xchunked", R1 "Transfer-Encoding: xchunked\r\n\r\n", 501},
    {"chunked twice",
     R1 "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    {"chunked in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    {"a space before the colon", R1 "Content-Length : 5\r\n\r\n", 400},
    {"a tab before the colon", R1 "Transfer-Encoding\t: chunked\r\n\r\n", 400},
    {"a folded line", R1 "X-A: b\r\n c\r\n\r\n", 400},
    {"a line folded by a tab", R1 "X-A: b\r\n\tc\r\n\r\n", 400},
    {"a folded first line", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
    {"a bare line feed", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
    {"a bare line feed behind a field", R1 "X-A: b\nX-B: c\r\n\r\n", 400},
    {"bare line feeds at the end", R1 "X-A: b\r\n\n", 400},
    {"a bare carriage return", R1 "X-A: b\rc\r\n\r\n", 400},
    {"a NUL", "GET / HTTP/1.1\r\nHost: a\r\nX-A: \x01\r\n\r\n", 400},
    {"a DEL", R1 "X-A: \x7f\r\n\r\n", 400},
    {"no colon", R1 "X-A\r\n\r\n", 400},
    {"no name", R1 ": b\r\n\r\n", 400},
    {"a name with a space", R1 "X A: b\r\n\r\n", 400},
    {"a name above ASCII", R1 "X-\xc3\xa9: b\r\n\r\n", 400},
    {"no host", "GET / HTTP/1.1\r\n\r\n", 400},
    {"two hosts", R1 "Host: b\r\n\r\n", 400},
    {"no version", "GET /\r\nHost: a\r\n\r\n", 400},
    {"only a method", "GET\r\n\r\n", 400},
    {"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"a space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"a space behind the version", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400},
    {"a space in front", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"a target without a slash", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"an authority", "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"a target above ASCII", "GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"lower case http", "GET / http/1.1\r\nHost: a\r\n\r\n", 400},
    {"HTTP/1.10", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400},
    {"HTTP/2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
    {"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
    {"TLS", "\x16\x03\x01\x02", 400},
    {"two empty lines in front", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"an unknown expectation", R1 "Expect: 200-ok\r\n\r\n", 417},
};

TEST(what_two_parsers_could_read_differently_is_refused_at_every_split)
{
    for (size_t i = 0; i < COUNTOF(bad_heads); i++) {
        struct str text = str_of(bad_heads[i].text);
        struct http1_head h;

        t_row(bad_heads[i].name);
        EQ_RC(read_all(&h, text), RC_INVALID);
        EQ_INT(h.refuse, bad_heads[i].status);
        OK(h.why && h.why[0]);
        for (size_t at = 0; at <= text.n; at++) {
            EQ_RC(read_split(&h, text, at), RC_INVALID);
            EQ_INT(h.refuse, bad_heads[i].status);
        }
        EQ_RC(read_bytewise(&h, text), RC_INVALID);
        EQ_INT(h.refuse, bad_heads[i].status);
        EQ_RC(http1_head_read(&h, text), RC_INVALID); /* a failure is final */
    }
}

TEST(a_nul_byte_is_refused_wherever_it_stands)
{
    static const char text[] = "GET /a HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n";

    for (size_t at = 0; at < sizeof text - 1; at++) {
        char bad[sizeof text];
        struct http1_head h;

        memcpy(bad, text, sizeof text);
        bad[at] = '\0';
        EQ_RC(read_all(&h, (struct str){bad, sizeof text - 1}), RC_INVALID);
        EQ_INT(h.refuse, 400);
    }
}

/* "GET /aaa... HTTP/1.1 CRLF Host: a CRLF X: aaa... CRLF CRLF" */
static struct str long_head(size_t target, size_t value, unsigned fields)
{
    struct buf b;
    size_t n;
    char *p;

    buf_init(&b, 1 << 20);
    (void)buf_z(&b, "GET /");
    for (size_t i = 1; i < target; i++)
        (void)buf_char(&b, 'a');
    (void)buf_z(&b, " HTTP/1.1\r\nHost: a\r\n");
    for (unsigned f = 1; f < fields; f++) {
        (void)buf_z(&b, "X: ");
        for (size_t i = 0; i < value; i++)
            (void)buf_char(&b, 'b');
        (void)buf_z(&b, "\r\n");
    }
    (void)buf_z(&b, "\r\n");
    p = buf_take(&b, &n);
    return (struct str){p, n};
}

TEST(heads_targets_and_fields_have_their_limits)
{
    static const struct {
        const char *name;
        size_t target, value;
        unsigned fields;
        enum rc rc;
        int status;
    } rows[] = {
        {"target at the limit", HTTP1_TARGET_MAX, 1, 2, RC_OK, 0},
        {"target above", HTTP1_TARGET_MAX + 1, 1, 2, RC_LIMIT, 414},
        {"fields at the limit", 1, 1, HTTP1_FIELDS_MAX, RC_OK, 0},
        {"fields above", 1, 1, HTTP1_FIELDS_MAX + 1, RC_LIMIT, 431},
        /* "GET / HTTP/1.1" and "Host: a" with their ends are 25 bytes, the rest 7 */
        {"head at the limit", 1, HTTP1_HEAD_MAX - 32, 2, RC_OK, 0},
        {"head above", 1, HTTP1_HEAD_MAX - 31, 2, RC_LIMIT, 431},
        {"a line without end", HTTP1_HEAD_MAX, 1, 2, RC_LIMIT, 431},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct str text = long_head(rows[i].target, rows[i].value, rows[i].fields);
        struct http1_head h;

        t_row(rows[i].name);
        EQ_RC(read_all(&h, text), rows[i].rc);
        EQ_INT(h.refuse, rows[i].status);
        for (size_t at = 0; at < text.n; at += text.n / 97 + 1) {
            EQ_RC(read_split(&h, text, at), rows[i].rc);
            EQ_INT(h.refuse, rows[i].status);
        }
        free((void *)(uintptr_t)text.p);
    }
}

/* --- Chunked bodies ------------------------------------------------------------------
 */

struct body {
    enum rc rc;
    int refuse;
    char text[256];
    size_t n, left; /* left: bytes behind the body */
};

static enum rc feed(struct http1_chunks *c, struct str *in, struct body *b)
{
    struct str piece;
    enum rc rc;

    while ((rc = http1_chunks_read(c, in, &piece)) == RC_OK && piece.n) {
        OK(b->n + piece.n <= sizeof b->text);
        memcpy(b->text + b->n, piece.p, piece.n);
        b->n += piece.n;
    }
    return rc;
}

static struct body decode(struct str text, uint64_t max, size_t split)
{
    struct http1_chunks c;
    struct body b = {.n = 0};
    char *first = copy(text.p, split);
    struct str in = {first, split};

    http1_chunks_init(&c, max);
    b.rc = feed(&c, &in, &b);
    b.left = in.n + (text.n - split);
    mem_free(first);
    if (b.rc == RC_AGAIN) {
        in = (struct str){text.p + split, text.n - split};
        b.rc = feed(&c, &in, &b);
        b.left = in.n;
    }
    b.refuse = c.refuse;
    if (b.rc == RC_OK)
        EQ_INT(c.body_bytes, b.n);
    return b;
}

TEST(chunks_decode_the_same_at_every_split)
{
    static const struct {
        const char *text, *body;
        size_t left;
    } rows[] = {
        {"0\r\n\r\n", "", 0},
        {"5\r\nhello\r\n0\r\n\r\nGET /", "hello", 5},
        {"1\r\na\r\n00000000000000A\r\n0123456789\r\n0\r\n\r\n", "a0123456789", 0},
        {"3;a=b;c=\"d\"\r\nabc\r\n0;x\r\nTrailer: x\r\nB:\r\n\r\n\r\n", "abc", 2},
        {"a\r\nx\r\n0\r\n\r\nzz\r\n0\r\n\r\n", "x\r\n0\r\n\r\nzz", 0},
        {"3 ;a\r\nabc\r\n0\r\n\r\n", NULL, 0},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct str text = str_of(rows[i].text);

        t_row(rows[i].text);
        for (size_t at = 0; at <= text.n; at++) {
            struct body b = decode(text, 64, at);

            EQ_RC(b.rc, rows[i].body ? RC_OK : RC_INVALID);
            if (!rows[i].body)
                continue;
            EQ_STR(((struct str){b.text, b.n}), str_of(rows[i].body));
            EQ_INT(b.left, rows[i].left);
        }
    }
}

TEST(bad_chunks_are_refused_at_every_split)
{
    static const struct {
        const char *name, *text;
        int status;
    } rows[] = {
        {"no size", "\r\nabc", 400},
        {"not hex", "g\r\nabc", 400},
        {"0x", "0x3\r\nabc", 400},
        {"signed", "+3\r\nabc", 400},
        {"negative", "-3\r\nabc", 400},
        {"a space in front", " 3\r\nabc", 400},
        {"a space behind", "3 \r\nabc", 400},
        {"a bare line feed behind the size", "3\nabc\r\n0\r\n\r\n", 400},
        {"a bare line feed behind the extension", "3;a\nabc\r\n0\r\n\r\n", 400},
        {"a bare line feed behind the data", "3\r\nabc\n0\r\n\r\n", 400},
        {"a bare line feed at the end", "0\r\n\n", 400},
        {"a bare line feed in the trailer", "0\r\nA: b\n\r\n", 400},
        {"a bare carriage return", "3\rabc\r\n0\r\n\r\n", 400},
        {"data longer than its size", "3\r\nabcd\r\n0\r\n\r\n", 400},
        {"data shorter than its size", "5\r\nabc\r\n0\r\n\r\n", 400},
        {"more than 64 bits", "10000000000000003\r\nabc", 400},
        {"zeros without end", "0000000000000000003\r\nabc", 400},
        {"a folded trailer", "0\r\n A: b\r\n\r\n", 400},
        {"above the limit", "41\r\n", 413},
        {"above it in pieces",
         "3f\r\n0123456789012345678901234567890123456789012345678901234567"
         "89012\r\n2\r\n",
         413},
        {"huge", "fffffffffffffff\r\n", 413},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct str text = str_of(rows[i].text);

        t_row(rows[i].name);
        for (size_t at = 0; at <= text.n; at++) {
            struct body b = decode(text, 64, at);

            EQ_RC(b.rc, rows[i].status == 413 ? RC_LIMIT : RC_INVALID);
            EQ_INT(b.refuse, rows[i].status);
        }
    }
}

TEST(extensions_and_trailers_have_their_limits)
{
    static const struct {
        const char *start;
        size_t max;
    } rows[] = {{"3;", HTTP1_CHUNK_EXT_MAX}, {"0\r\n", HTTP1_TRAILER_MAX}};

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct http1_chunks c;
        struct body b = {.n = 0};
        struct str in = str_of(rows[i].start);

        t_row(rows[i].start);
        http1_chunks_init(&c, 64);
        EQ_RC(feed(&c, &in, &b), RC_AGAIN);
        for (size_t n = 0; n < rows[i].max; n++) {
            in = STR("a");
            EQ_RC(feed(&c, &in, &b), RC_AGAIN);
        }
        in = STR("a");
        EQ_RC(feed(&c, &in, &b), RC_LIMIT);
        EQ_INT(c.refuse, 431);
        in = STR("a");
        EQ_RC(feed(&c, &in, &b), RC_LIMIT); /* a failure is final */
    }
}
