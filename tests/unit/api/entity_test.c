/* SPDX-License-Identifier: Apache-2.0 */
#include "api/entity.h"
#include "tests/lib/t.h"

#include <ctype.h>

TEST(ranges_are_read_as_rfc_9110_says)
{
    static const struct {
        const char *header;
        uint64_t size;
        enum range_verdict want;
        uint64_t off, n;
    } rows[] = {
        {"bytes=0-0", 10, RANGE_PART, 0, 1},
        {"bytes=0-9", 10, RANGE_PART, 0, 10},
        {"bytes=2-5", 10, RANGE_PART, 2, 4},
        {"bytes=9-", 10, RANGE_PART, 9, 1},
        {"bytes=0-", 10, RANGE_PART, 0, 10},
        {"bytes=5-999", 10, RANGE_PART, 5, 5},
        {"bytes=5-99999999999999999999999999", 10, RANGE_PART, 5, 5},
        {"bytes=-3", 10, RANGE_PART, 7, 3},
        {"bytes=-10", 10, RANGE_PART, 0, 10},
        {"bytes=-11", 10, RANGE_PART, 0, 10},
        {"bytes=-99999999999999999999999999", 10, RANGE_PART, 0, 10},
        {"Bytes=1-2", 10, RANGE_PART, 1, 2},
        {" bytes=1-2 ", 10, RANGE_PART, 1, 2},
        {"bytes=10-", 10, RANGE_OUTSIDE, 0, 0},
        {"bytes=10-20", 10, RANGE_OUTSIDE, 0, 0},
        {"bytes=18446744073709551615-", 10, RANGE_OUTSIDE, 0, 0},
        {"bytes=18446744073709551616x-", 10, RANGE_WHOLE, 0, 0}, /* no number at all */
        {"bytes=99999999999999999999999-", 10, RANGE_OUTSIDE, 0, 0},
        {"bytes=-0", 10, RANGE_OUTSIDE, 0, 0},
        {"bytes=0-", 0, RANGE_OUTSIDE, 0, 0},
        {"bytes=-1", 0, RANGE_OUTSIDE, 0, 0},
        /* Passed over: the whole is sent. */
        {"bytes=0-1,3-4", 10, RANGE_WHOLE, 0, 0},
        {"bytes=5-2", 10, RANGE_WHOLE, 0, 0},
        {"bytes=-", 10, RANGE_WHOLE, 0, 0},
        {"bytes=", 10, RANGE_WHOLE, 0, 0},
        {"bytes", 10, RANGE_WHOLE, 0, 0},
        {"", 10, RANGE_WHOLE, 0, 0},
        {"bytes=1", 10, RANGE_WHOLE, 0, 0},
        {"bytes=a-b", 10, RANGE_WHOLE, 0, 0},
        {"bytes=1-b", 10, RANGE_WHOLE, 0, 0},
        {"bytes=+1-2", 10, RANGE_WHOLE, 0, 0},
        {"bytes=1--2", 10, RANGE_WHOLE, 0, 0},
        {"bytes=0x1-2", 10, RANGE_WHOLE, 0, 0},
        {"lines=1-2", 10, RANGE_WHOLE, 0, 0},
        {"bytes =1-2", 10, RANGE_WHOLE, 0, 0},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        uint64_t off = 0, n = 0;

        t_row(rows[i].header);
        EQ_INT(range_read(str_of(rows[i].header), rows[i].size, &off, &n), rows[i].want);
        EQ_INT(off, rows[i].off);
        EQ_INT(n, rows[i].n);
    }
}

TEST(every_part_lies_inside_the_file)
{
    static const char alphabet[] = "bytes=0123456789-, ";
    char header[24] = "bytes=";
    uint32_t x = 1;

    for (int round = 0; round < 200000; round++) {
        size_t len = 6 + (size_t)round % 16;
        uint64_t size = (uint64_t)(round % 40), off, n;

        for (size_t i = 6; i < len; i++) {
            x = x * 1664525u + 1013904223u;
            header[i] = alphabet[6 + (x >> 16) % (sizeof alphabet - 7)];
        }
        if (range_read((struct str){header, len}, size, &off, &n) == RANGE_PART)
            OK(n > 0 && off < size && n <= size - off);
    }
}

TEST(tags_are_compared_weakly_one_by_one)
{
    static const struct {
        const char *header;
        bool want;
    } rows[] = {
        {"\"abc\"", true},
        {"W/\"abc\"", true},
        {"\"x\", \"abc\"", true},
        {"\"x\",W/\"abc\"", true},
        {"*", true},
        {" * ", true},
        {"", false},
        {"\"ab\"", false},
        {"\"abcd\"", false},
        {"abc", false},
        {"\"x\",\"y\"", false},
        {"**", false},
        {",,,", false},
        {"W/", false},
        {"W/W/\"abc\"", false},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        t_row(rows[i].header);
        EQ_INT(etag_listed(str_of(rows[i].header), "\"abc\""), rows[i].want);
    }
    t_row("no header");
    OK(!etag_listed((struct str){0}, "\"abc\""));
}

TEST(disposition_names_are_encoded)
{
    static const struct {
        const char *name, *want;
    } rows[] = {
        {"a.jsonl", "attachment; filename=\"a.jsonl\""},
        {"my file (1).jsonl", "attachment; filename=\"my file (1).jsonl\""},
        {"\xc3\xa9t\xc3\xa9.jsonl",
         "attachment; filename=\"_t_.jsonl\"; filename*=UTF-8''%C3%A9t%C3%A9.jsonl"},
        {"\xf0\x9f\x8e\x89", "attachment; filename=\"_\"; filename*=UTF-8''%F0%9F%8E%89"},
        {"a\"b", "attachment; filename=\"a_b\"; filename*=UTF-8''a%22b"},
        {"a\\b", "attachment; filename=\"a_b\"; filename*=UTF-8''a%5Cb"},
        {"../../etc/passwd", "attachment; filename=\".._.._etc_passwd\"; "
                             "filename*=UTF-8''..%2F..%2Fetc%2Fpasswd"},
        {"a\r\nSet-Cookie: x=1", "attachment; filename=\"a__Set-Cookie_ x=1\"; "
                                 "filename*=UTF-8''a%0D%0ASet-Cookie%3A%20x%3D1"},
        {"100%.jsonl",
         "attachment; filename=\"100_.jsonl\"; filename*=UTF-8''100%25.jsonl"},
        {"a;b='c'.txt", "attachment; filename=\"a;b='c'.txt\""},
        {"\x80", "attachment; filename=\"\"; filename*=UTF-8''%80"},
        {"\x7f", "attachment; filename=\"_\"; filename*=UTF-8''%7F"},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct buf b;

        t_row(rows[i].want);
        buf_init(&b, 4096);
        disposition_put(rows[i].name, &b);
        EQ_STR(buf_peek(&b), str_of(rows[i].want));
        buf_done(&b);
    }
}

/* The server panics on control bytes in a header, so none may ever come out. */
TEST(dispositions_are_printable_whatever_the_name_and_fit_their_room)
{
    for (unsigned first = 1; first < 256; first++) {
        for (unsigned second = 0; second < 256; second++) {
            char name[] = {(char)first, (char)second, '\0'};
            struct buf b;

            buf_init(&b, 64 + 4 * strlen(name)); /* the room that content.c gives it */
            disposition_put(name, &b);
            EQ_RC(buf_failed(&b), RC_OK);
            for (size_t i = 0; i < b.n; i++)
                OK(isprint((unsigned char)b.p[i]));
            buf_done(&b);
        }
    }
}
