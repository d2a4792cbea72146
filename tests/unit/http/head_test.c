/* SPDX-License-Identifier: Apache-2.0 */
#include "http/head.h"
#include "tests/lib/t.h"

#include <stdio.h>

TEST(targets_are_decoded_once_or_refused)
{
    static const struct {
        struct str raw;
        enum rc want;
        struct str path;
    } rows[] = {
#define ROW(raw, rc, path)                                                               \
    {                                                                                    \
        {raw, sizeof(raw) - 1}, rc,                                                      \
        {                                                                                \
            path, sizeof(path) - 1                                                       \
        }                                                                                \
    }
        ROW("/", RC_OK, "/"),
        ROW("/v1/files/", RC_OK, "/v1/files/"),
        ROW("/v1/models/org%2Fname", RC_OK, "/v1/models/org/name"),
        ROW("/a%20b+c", RC_OK, "/a b+c"),
        ROW("/a%2520b", RC_OK, "/a%20b"),
        ROW("/%c3%BC", RC_OK, "/\xc3\xbc"),
        ROW("/\xc3\xbc", RC_OK, "/\xc3\xbc"),
        ROW("/a/../b/.//c", RC_OK, "/a/../b/.//c"),
        ROW("/a?b?c", RC_OK, "/a"),
        ROW("/a%3fb", RC_OK, "/a?b"),
        ROW("http://host:80/a%20b?x", RC_OK, "/a b"),
        ROW("HTTPS://host/", RC_OK, "/"),
        ROW("*", RC_OK, "*"),
        ROW("", RC_INVALID, ""),
        ROW("a", RC_INVALID, ""),
        ROW("http://host", RC_INVALID, ""),
        ROW("http://host?/a", RC_INVALID, ""),
        ROW("host:443", RC_INVALID, ""),
        ROW("ftp://host/a", RC_INVALID, ""),
        ROW("?a", RC_INVALID, ""),
        ROW("/a%00b", RC_INVALID, ""),
        ROW("/a%", RC_INVALID, ""),
        ROW("/a%4", RC_INVALID, ""),
        ROW("/a%4g", RC_INVALID, ""),
        ROW("/a%g4", RC_INVALID, ""),
        ROW("/a%%41", RC_INVALID, ""),
        ROW("/a b", RC_INVALID, ""),
        ROW("/a\tb", RC_INVALID, ""),
        ROW("/a\177", RC_INVALID, ""),
        ROW("/a\0b", RC_INVALID, ""),
        ROW("/a?b=%00", RC_INVALID, ""),
        ROW("/a?b%0=c", RC_INVALID, ""),
        ROW("/a?b=c d", RC_INVALID, ""),
#undef ROW
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        char raw[64];
        struct head_target t;

        t_row(rows[i].raw.p);
        memcpy(raw, rows[i].raw.p, rows[i].raw.n);
        EQ_RC(head_target(raw, rows[i].raw.n, &t), rows[i].want);
        if (rows[i].want == RC_OK)
            EQ_STR(t.path, rows[i].path);
    }
}

TEST(query_parameters_are_found_by_name_and_the_first_wins)
{
    static const struct {
        const char *raw, *name, *want; /* NULL: not there */
    } rows[] = {
        {"/a", "limit", NULL},
        {"/a?", "limit", NULL},
        {"/a?limit", "limit", ""},
        {"/a?limit=", "limit", ""},
        {"/a?limit=5", "limit", "5"},
        {"/a?limit=5&limit=6", "limit", "5"},
        {"/a?limit=&limit=6", "limit", ""},
        {"/a?x=1&&limit=5&", "limit", "5"},
        {"/a?Limit=5", "limit", NULL},
        {"/a?li%6Dit=5", "limit", "5"},
        {"/a?q=a%20b+c%2Bd", "q", "a b c+d"},
        {"/a?q=a%253D", "q", "a%3D"},
        {"/a?q=a=b", "q", "a=b"},
        {"/a?q=a%26r=1", "q", "a&r=1"},
        {"/a?q=a%26r=1", "r", NULL},
        {"/a?expires_after[anchor]=x", "expires_after[anchor]", "x"},
        {"/a?=x", "", "x"},
        {"http://h/a?b=c", "b", "c"},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        char raw[64];
        struct head_target t;
        struct str got;

        t_row(rows[i].raw);
        memcpy(raw, rows[i].raw, strlen(rows[i].raw));
        EQ_RC(head_target(raw, strlen(rows[i].raw), &t), RC_OK);
        got = head_query(&t, rows[i].name);
        OK((got.p != NULL) == (rows[i].want != NULL));
        if (rows[i].want)
            EQ_STR(got, str_of(rows[i].want));
    }
}

TEST(more_parameters_than_the_maximum_are_refused)
{
    char raw[256] = "/a?";
    struct head_target t;

    for (int i = 0; i < HEAD_QUERY_MAX; i++)
        memcpy(raw + 3 + 4 * i, "a=1&", 4);
    EQ_RC(head_target(raw, 3 + 4 * HEAD_QUERY_MAX, &t), RC_OK);
    EQ_INT(t.n, HEAD_QUERY_MAX);
    memcpy(raw, "/a?", 3);
    for (int i = 0; i < HEAD_QUERY_MAX + 1; i++)
        memcpy(raw + 3 + 4 * i, "a=1&", 4);
    EQ_RC(head_target(raw, 3 + 4 * (HEAD_QUERY_MAX + 1), &t), RC_LIMIT);
}

#define F(n, v)                                                                          \
    {                                                                                    \
        {n, sizeof(n) - 1},                                                              \
        {                                                                                \
            v, sizeof(v) - 1                                                             \
        }                                                                                \
    }
#define HOST F("Host", "a")

TEST(framing_is_understood_or_refused)
{
    static const struct {
        const char *name;
        struct head_field f[4];
        bool http10;
        int want;
        bool chunked;
        uint64_t length;
    } rows[] = {
        {"no body", {HOST}, false, 0, false, 0},
        {"no Host", {F("X", "y")}, false, 400, false, 0},
        {"no Host in HTTP/1.0", {F("X", "y")}, true, 0, false, 0},
        {"two Hosts", {HOST, F("host", "a")}, false, 400, false, 0},
        {"two Hosts in HTTP/1.0", {HOST, HOST}, true, 400, false, 0},
        {"length", {HOST, F("content-length", "12")}, false, 0, false, 12},
        {"length zero", {HOST, F("Content-Length", "0")}, false, 0, false, 0},
        {"length with blanks behind",
         {HOST, F("Content-Length", "12 \t")},
         false,
         0,
         false,
         12},
        {"length of 64 bits",
         {HOST, F("Content-Length", "18446744073709551615")},
         false,
         0,
         false,
         UINT64_MAX},
        {"length beyond 64 bits",
         {HOST, F("Content-Length", "18446744073709551616")},
         false,
         413,
         false,
         0},
        {"length empty", {HOST, F("Content-Length", "")}, false, 400, false, 0},
        {"length negative", {HOST, F("Content-Length", "-1")}, false, 400, false, 0},
        {"length with a plus", {HOST, F("Content-Length", "+1")}, false, 400, false, 0},
        {"length in hex", {HOST, F("Content-Length", "0x1")}, false, 400, false, 0},
        {"length as a list", {HOST, F("Content-Length", "1, 1")}, false, 400, false, 0},
        {"length twice, equal",
         {HOST, F("Content-Length", "1"), F("Content-Length", "1")},
         false,
         400,
         false,
         0},
        {"length twice, different",
         {HOST, F("Content-Length", "1"), F("Content-Length", "2")},
         false,
         400,
         false,
         0},
        {"chunked", {HOST, F("Transfer-Encoding", "chunked")}, false, 0, true, 0},
        {"chunked in capitals",
         {HOST, F("Transfer-Encoding", "CHUNKED")},
         false,
         0,
         true,
         0},
        {"chunked in HTTP/1.0",
         {HOST, F("Transfer-Encoding", "chunked")},
         true,
         400,
         false,
         0},
        {"chunked twice",
         {HOST, F("Transfer-Encoding", "chunked"), F("Transfer-Encoding", "chunked")},
         false,
         400,
         false,
         0},
        {"chunked and length",
         {HOST, F("Transfer-Encoding", "chunked"), F("Content-Length", "1")},
         false,
         400,
         false,
         0},
        {"length and chunked",
         {HOST, F("Content-Length", "1"), F("Transfer-Encoding", "chunked")},
         false,
         400,
         false,
         0},
        {"identity", {HOST, F("Transfer-Encoding", "identity")}, false, 400, false, 0},
        {"gzip, chunked",
         {HOST, F("Transfer-Encoding", "gzip, chunked")},
         false,
         400,
         false,
         0},
        {"chunked with a vertical tab",
         {HOST, F("Transfer-Encoding", "\vchunked")},
         false,
         400,
         false,
         0},
        {"xchunked", {HOST, F("Transfer-Encoding", "xchunked")}, false, 400, false, 0},
        {"gzip body: the handler's business",
         {HOST, F("Content-Encoding", "gzip"), F("Content-Length", "1")},
         false,
         0,
         false,
         1},
        {"gzip without a body",
         {HOST, F("Content-Encoding", "gzip")},
         false,
         0,
         false,
         0},
        {"blank in a name", {HOST, F("Content-Length ", "1")}, false, 400, false, 0},
        {"empty name", {HOST, F("", "1")}, false, 400, false, 0},
        {"NUL in a value", {HOST, F("X", "a\0b")}, false, 400, false, 0},
        {"CR in a value", {HOST, F("X", "a\rb")}, false, 400, false, 0},
        {"bytes above ASCII in a value",
         {HOST, F("X", "\xff\xc3\xbc")},
         false,
         0,
         false,
         0},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct head_framing got;
        const char *why = NULL;
        size_t n = 0;

        t_row(rows[i].name);
        while (n < COUNTOF(rows[i].f) && rows[i].f[n].name.p)
            n++;
        EQ_INT(head_framing(rows[i].f, n, !rows[i].http10, &got, &why), rows[i].want);
        OK((rows[i].want != 0) == (why != NULL));
        if (rows[i].want == 0) {
            EQ_INT(got.chunked, rows[i].chunked);
            EQ_INT(got.length, rows[i].length);
        }
    }
}
