/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"
#include "tests/lib/t.h"

TEST(whole_numbers_are_digits_only)
{
    static const struct {
        const char *text;
        enum rc rc;
        uint64_t want;
    } rows[] = {
        {"0", RC_OK, 0},
        {"007", RC_OK, 7},
        {"18446744073709551615", RC_OK, UINT64_MAX},
        {"18446744073709551616", RC_LIMIT, 0},
        {"99999999999999999999999", RC_LIMIT, 0},
        {"99999999999999999999999x", RC_INVALID, 0},
        {"", RC_INVALID, 0},
        {"+1", RC_INVALID, 0},
        {"-1", RC_INVALID, 0},
        {" 1", RC_INVALID, 0},
        {"1 ", RC_INVALID, 0},
        {"1.0", RC_INVALID, 0},
        {"0x10", RC_INVALID, 0},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        uint64_t v = 42;

        t_row(rows[i].text);
        EQ_RC(str_u64(str_of(rows[i].text), &v), rows[i].rc);
        EQ_INT(v, rows[i].rc == RC_OK ? rows[i].want : 42);
    }
}

TEST(durations_need_a_unit)
{
    static const struct {
        const char *text;
        enum rc rc;
        usec_t want;
    } rows[] = {
        {"24h", RC_OK, 86400 * USEC_PER_SEC},
        {"1s", RC_OK, USEC_PER_SEC},
        {"30d", RC_OK, 30 * 86400 * USEC_PER_SEC},
        {"5m", RC_OK, 300 * USEC_PER_SEC},
        {"20ms", RC_OK, 20000},
        {"0s", RC_OK, 0},
        {"24", RC_INVALID, 0},
        {"h", RC_INVALID, 0},
        {"1.5h", RC_INVALID, 0},
        {"24 h", RC_INVALID, 0},
        {"24H", RC_INVALID, 0},
        {"9223372036854775807d", RC_LIMIT, 0},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        usec_t v = 42;

        t_row(rows[i].text);
        EQ_RC(str_duration(str_of(rows[i].text), &v), rows[i].rc);
        EQ_INT(v, rows[i].rc == RC_OK ? rows[i].want : 42);
    }
}

TEST(sizes_take_binary_units)
{
    static const struct {
        const char *text;
        enum rc rc;
        uint64_t want;
    } rows[] = {
        {"512", RC_OK, 512},        {"512B", RC_OK, 512},
        {"1K", RC_OK, 1024},        {"200MiB", RC_OK, 200u << 20},
        {"2GB", RC_OK, 2ull << 30}, {"1T", RC_OK, 1ull << 40},
        {"1X", RC_INVALID, 0},      {"K", RC_INVALID, 0},
        {"1KK", RC_INVALID, 0},     {"17179869184G", RC_LIMIT, 0},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        uint64_t v = 42;

        t_row(rows[i].text);
        EQ_RC(str_size(str_of(rows[i].text), &v), rows[i].rc);
        EQ_INT(v, rows[i].rc == RC_OK ? rows[i].want : 42);
    }
}

TEST(booleans_are_eight_words)
{
    bool v = false;

    EQ_RC(str_bool(STR("on"), &v), RC_OK);
    OK(v);
    EQ_RC(str_bool(STR("no"), &v), RC_OK);
    OK(!v);
    EQ_RC(str_bool(STR("TRUE"), &v), RC_INVALID);
    EQ_RC(str_bool(STR(""), &v), RC_INVALID);
}

TEST(cut_takes_pieces_off_the_front)
{
    struct str s = STR("a,,b");

    EQ_STR(str_cut(&s, ','), STR("a"));
    EQ_STR(str_cut(&s, ','), STR(""));
    EQ_STR(str_cut(&s, ','), STR("b"));
    EQ_INT(s.n, 0);
}

TEST(formatting_never_cuts)
{
    char small[4];

    EQ_RC(str_fmt(small, sizeof small, "%d", 123), RC_OK);
    EQ_Z(small, "123");
    EQ_RC(str_fmt(small, sizeof small, "%d", 1234), RC_LIMIT);
    EQ_Z(small, "");
}

TEST(comparing_and_trimming)
{
    OK(str_ieq(STR("Content-Type"), STR("content-type")));
    OK(!str_ieq(STR("a"), STR("ab")));
    OK(str_starts(STR("file-1"), STR("file-")) && !str_starts(STR("f"), STR("file-")));
    OK(str_ends(STR("x.jsonl"), STR(".jsonl")) && !str_ends(STR("l"), STR(".jsonl")));
    EQ_STR(str_trim(STR(" \t\r\nx y\n")), STR("x y"));
    EQ_STR(str_trim(STR("  ")), STR(""));
}

/* Seen by clang's checker of pointers only. */
TEST(a_text_that_is_not_there_can_be_cut_and_trimmed)
{
    struct str none = {NULL, 0}, head = str_cut(&none, ',');

    OK(head.p == NULL && head.n == 0);
    OK(none.p == NULL && none.n == 0);
    OK(str_trim(none).p == NULL);
}
