/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/http/raw.h"

static struct app app;

static void start(void)
{
    app_start(&app, (struct http_server_opts){.io_threads = 2, .workers = 2});
}

/* What the server makes of bytes; behind them comes a request that must not be answered
 * once one before it was refused. */
struct framing {
    const char *name;
    const char *bytes;
    const char *want; /* statuses until the connection is closed */
    const char *body; /* somewhere in the answers; NULL: whatever */
};

#define FIELD(f) "GET /f HTTP/1.1\r\nHost: a\r\n" f "\r\n\r\n"

static const struct framing framings[] = {
    {"plain", GET("/x"), "200 200", "GET /x "},
    {"empty lines before", "\r\n\r\n" GET("/x"), "200 200", "GET /x "},
    {"length", POST("/x", "Content-Length: 2\r\n", "hi"), "200 200", "POST /x hi"},
    {"length zero", POST("/x", "Content-Length: 0\r\n", ""), "200 200", "POST /x "},
    {"no length", POST("/x", "", ""), "200 200", "POST /x "},
    {"GET with a body", "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
     "200 200", "GET /x hi"},
    {"chunked", POST("/x", TE, "2\r\nhi\r\nA\r\n0123456789\r\n0\r\n\r\n"), "200",
     "POST /x hi0123456789"},
    {"chunked, empty", POST("/x", TE, "0\r\n\r\n"), "200", "POST /x "},
    {"chunk extension", POST("/x", TE, "2;a=b\r\nhi\r\n0;c\r\n\r\n"), "200",
     "POST /x hi"},
    {"trailer", POST("/x", TE, "2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n"), "200", "POST /x hi"},
    {"trailer that means to be a header",
     POST("/x", TE, "2\r\nhi\r\n0\r\nContent-Length: 5\r\n\r\n"), "200", "POST /x hi"},
    {"HTTP/1.0", "GET /x HTTP/1.0\r\n\r\n", "200", "GET /x "},
    {"blanks around a value", FIELD("X-A: \t b \t"), "200 200", NULL},
    {"value without a blank", FIELD("X-A:b"), "200 200", NULL},
    {"empty value", FIELD("X-A:"), "200 200", NULL},
    {"whole URL", "GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n", "200 200", "GET /x "},
    {"asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "200 200", "OPTIONS * "},

    {"length and chunked",
     POST("/x", "Content-Length: 6\r\n" TE, "0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
     "400", "\"status\":400"},
    {"chunked and length", POST("/x", TE "Content-Length: 6\r\n", "0\r\n\r\nG"), "400",
     "\"status\":400"},
    {"two lengths", POST("/x", "Content-Length: 2\r\nContent-Length: 3\r\n", "hi"), "400",
     "\"status\":400"},
    {"two equal lengths", POST("/x", "Content-Length: 2\r\nContent-Length: 2\r\n", "hi"),
     "400", "\"status\":400"},
    /* These the library refuses by itself, and writes the head of the answer twice. */
    {"length as a list", POST("/x", "Content-Length: 2, 2\r\n", "hi"), "400 400", NULL},
    {"length negative", POST("/x", "Content-Length: -2\r\n", "hi"), "400 400", NULL},
    {"length with a plus", POST("/x", "Content-Length: +2\r\n", "hi"), "400 400", NULL},
    {"length in hex", POST("/x", "Content-Length: 0x2\r\n", "hi"), "400 400", NULL},
    {"length empty", POST("/x", "Content-Length:\r\n", "hi"), "400 400", NULL},
    {"length beyond 64 bits",
     POST("/x", "Content-Length: 99999999999999999999\r\n", "hi"), "413 413", NULL},
    {"length with text", POST("/x", "Content-Length: 2x\r\n", "hi"), "400 400", NULL},
    {"blank before the colon of a length", POST("/x", "Content-Length : 2\r\n", "hi"),
     "400", "\"status\":400"},
    {"blank before the colon of an encoding",
     POST("/x", "Transfer-Encoding : chunked\r\nContent-Length: 2\r\n", "hi"), "400",
     "\"status\":400"},
    {"encoding with a blank line fold",
     POST("/x", "Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"), "400",
     "\"status\":400"},
    {"chunked after gzip",
     POST("/x", "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), "400",
     "\"status\":400"},
    {"two encodings", POST("/x", TE TE, "0\r\n\r\n"), "400", "\"status\":400"},
    {"identity encoding", POST("/x", "Transfer-Encoding: identity\r\n", ""), "400",
     "\"status\":400"},
    {"chunked in HTTP/1.0", "POST /x HTTP/1.0\r\n" TE "\r\n0\r\n\r\n", "400",
     "\"status\":400"},
    {"folded line", FIELD("X-A: b\r\n c"), "400", "\"status\":400"},
    {"folded line with a tab", FIELD("X-A: b\r\n\tX-B: c"), "400", "\"status\":400"},
    {"folded first line", "GET /f HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n", "400", NULL},
    {"LF behind the request line", "GET /x HTTP/1.1\nHost: a\r\n\r\n", "400",
     "\"status\":400"},
    {"LF behind a header", "GET /x HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", "400",
     "\"status\":400"},
    {"LF behind the last header", "GET /x HTTP/1.1\r\nHost: a\n\r\n", "400",
     "\"status\":400"},
    {"LF as the empty line", "GET /x HTTP/1.1\r\nHost: a\r\n\n", "400", "\"status\":400"},
    {"LF only", "GET /x HTTP/1.1\nHost: a\n\n", "400", "\"status\":400"},
    {"CR in a value", FIELD("X-A: b\rc"), "400", "\"status\":400"},
    {"control byte in a value", FIELD("X-A: b\001c"), "400", "\"status\":400"},
    {"control byte in a name", FIELD("X\001A: b"), "400", "\"status\":400"},
    {"no name", FIELD(": b"), "400", "\"status\":400"},
    {"no colon", FIELD("hello"), "400", NULL},
    {"no Host", "GET /x HTTP/1.1\r\n\r\n", "400", "\"status\":400"},
    {"two Hosts", FIELD("Host: b"), "400", "\"status\":400"},
    {"two blanks before the target", "GET  /x HTTP/1.1\r\nHost: a\r\n\r\n", "400",
     "\"status\":400"},
    {"two blanks behind the target", "GET /x  HTTP/1.1\r\nHost: a\r\n\r\n", "400",
     "\"status\":400"},
    {"blank behind the version", "GET /x HTTP/1.1 \r\nHost: a\r\n\r\n", "400", NULL},
    {"blank in the target", "GET /x y HTTP/1.1\r\nHost: a\r\n\r\n", "400",
     "\"status\":400"},
    {"tab in the request line", "GET\t/x HTTP/1.1\r\nHost: a\r\n\r\n", "400", NULL},
    {"method that is no token", "G{T /x HTTP/1.1\r\nHost: a\r\n\r\n", "400",
     "\"status\":400"},
    {"NUL in the target", "GET /a%00 HTTP/1.1\r\nHost: a\r\n\r\n", "400",
     "\"status\":400"},
    {"half an escape", "GET /a%4 HTTP/1.1\r\nHost: a\r\n\r\n", "400", "\"status\":400"},
    {"CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "400", "\"status\":400"},
    {"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505", NULL},
    {"chunk size that is no number", POST("/x", TE, "zz\r\nhi\r\n0\r\n\r\n"), "400",
     NULL},
    {"chunk size with a minus", POST("/x", TE, "-2\r\nhi\r\n0\r\n\r\n"), "400", NULL},
    {"chunk size with 0x", POST("/x", TE, "0x2\r\nhi\r\n0\r\n\r\n"), "400", NULL},
    {"chunk size with a blank", POST("/x", TE, "2 \r\nhi\r\n0\r\n\r\n"), "400", NULL},
    {"chunk size empty", POST("/x", TE, "\r\nhi\r\n0\r\n\r\n"), "400", NULL},
    {"chunk size beyond 64 bits", POST("/x", TE, "10000000000000002\r\nhi\r\n0\r\n\r\n"),
     "413", NULL},
    {"chunk longer than it says", POST("/x", TE, "2\r\nhiho\r\n0\r\n\r\n"), "400", NULL},
    /* The library takes these; the connection is closed, so nothing can hide behind. */
    {"chunk size line with LF only", POST("/x", TE, "2\nhi\r\n0\r\n\r\n"), "200", NULL},
    {"chunk with LF only behind it", POST("/x", TE, "2\r\nhi\n0\r\n\r\n"), "200", NULL},
};

static void check_framing(const struct framing *f, const char *got, const struct buf *all)
{
    EQ_Z(got, f->want);
    if (f->body && !strstr(all->p, f->body))
        FAIL("no \"%s\" in \"%s\"", f->body, all->p);
    OK(!strstr(all->p, "smuggled "));
}

TEST(every_framing_is_understood_or_ends_the_connection)
{
    struct buf all;

    start();
    for (size_t i = 0; i < COUNTOF(framings); i++) {
        int fd = dial(&app);

        t_row(framings[i].name);
        OK(say(fd, framings[i].bytes));
        IGNORE(say(fd, END)); /* may be closed already */
        check_framing(&framings[i], hear_out(fd, &all), &all);
        buf_done(&all);
        close(fd);
    }
    app_done(&app);
}

/* In one packet with what follows, as a proxy would send it. */
TEST(every_framing_gives_the_same_pipelined_in_one_piece)
{
    char piece[2048];
    struct buf all;

    start();
    for (size_t i = 0; i < COUNTOF(framings); i++) {
        int fd = dial(&app);

        t_row(framings[i].name);
        EQ_RC(str_fmt(piece, sizeof piece, "%s%s", framings[i].bytes, END), RC_OK);
        OK(say(fd, piece));
        check_framing(&framings[i], hear_out(fd, &all), &all);
        buf_done(&all);
        close(fd);
    }
    app_done(&app);
}

TEST(every_framing_gives_the_same_byte_by_byte)
{
    struct buf all;

    start();
    for (size_t i = 0; i < COUNTOF(framings); i++) {
        int fd = dial(&app);

        t_row(framings[i].name);
        for (const char *p = framings[i].bytes; *p; p++)
            if (!say_n(fd, p, 1))
                break;
        IGNORE(say(fd, END)); /* may be closed already */
        check_framing(&framings[i], hear_out(fd, &all), &all);
        buf_done(&all);
        close(fd);
    }
    app_done(&app);
}

TEST(bytes_of_NUL_in_heads_are_refused)
{
#define BYTES(lit)                                                                       \
    {                                                                                    \
        lit, sizeof(lit) - 1                                                             \
    }
    static const struct str rows[] = {
        BYTES("GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n"),
        BYTES("GET /x HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
        BYTES("GET /x HTTP/1.1\r\nHost: a\r\nContent-Length\0: 5\r\n\r\n"),
        BYTES("GET /x HTTP/1.1\r\nHost: a\0\r\n\r\n"),
        BYTES("GET /x HTTP/1.1\0\r\nHost: a\r\n\r\n"),
        BYTES("G\0T /x HTTP/1.1\r\nHost: a\r\n\r\n"),
    };
    struct buf all;

    start();
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        const char *got;
        int fd = dial(&app);

        t_row(rows[i].p);
        OK(say_n(fd, rows[i].p, rows[i].n));
        IGNORE(say(fd, END)); /* may be closed already */
        got = hear_out(fd, &all);
        OK(strcmp(got, "400") == 0 || strcmp(got, "505") == 0);
        buf_done(&all);
        close(fd);
    }
    EQ_INT(app.served, 0);
    app_done(&app);
}
