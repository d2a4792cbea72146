/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/t.h"
#include "json/jsonl.h"
#include "base/buf.h"
#include "base/mem.h"

#include <stdio.h>

/* A source that hands out pieces: up to `cuts[i]`, or `step` bytes at a time. */
struct source {
    struct str text;
    size_t cut;       /* a read never passes this offset (0: none) */
    size_t step;      /* most bytes a read gives (0: all) */
    uint64_t fail_at; /* a read from here on fails (UINT64_MAX: never) */
    enum rc fail_rc;
    unsigned reads;
};

static enum rc read_source(void *ctx, char *dst, size_t cap, uint64_t off, size_t *ret_n)
{
    struct source *s = ctx;
    size_t n = off < s->text.n ? s->text.n - (size_t)off : 0;

    s->reads++;
    if (off >= s->fail_at)
        return s->fail_rc;
    if (n > cap)
        n = cap;
    if (s->step && n > s->step)
        n = s->step;
    if (s->cut > off && n > s->cut - off)
        n = s->cut - (size_t)off;
    if (n)
        memcpy(dst, s->text.p + off, n);
    *ret_n = n;
    return RC_OK;
}

/* What the walk finds, written down: number@offset:text, too long as !, blank as _. */
static void walk(struct source *s, size_t max_line, struct buf *ret)
{
    struct jsonl *j = jsonl_new(read_source, s, max_line);
    struct jsonl_line line;
    enum rc rc;

    while ((rc = jsonl_next(j, &line)) == RC_OK) {
        (void)buf_fmt(ret, "%u@%llu:", line.number, (unsigned long long)line.offset);
        if (line.too_long) {
            OK(line.text.n == 0 && !line.blank);
            (void)buf_z(ret, "!");
        }
        if (line.blank)
            (void)buf_z(ret, "_");
        (void)buf_str(ret, line.text);
        (void)buf_z(ret, "|");
        if (!line.too_long)
            OK(memcmp(line.text.p, s->text.p + line.offset, line.text.n) == 0);
    }
    if (rc != RC_NOTFOUND)
        (void)buf_z(ret, rc_name(rc));
    EQ_RC(jsonl_next(j, &line), rc); /* it stays so */
    jsonl_free(j);
}

#define BOM "\xef\xbb\xbf"

static const struct {
    const char *name;
    struct str text;
    size_t max;
    const char *want;
} rows[] = {
    {"nothing", {"", 0}, 10, ""},
    {"one line", STR("abc\n"), 10, "1@0:abc|"},
    {"no line feed at the end", STR("abc"), 10, "1@0:abc|"},
    {"two", STR("a\nb\n"), 10, "1@0:a|2@2:b|"},
    {"two without the last line feed", STR("a\nb"), 10, "1@0:a|2@2:b|"},
    {"CRLF", STR("a\r\nb\r\n"), 10, "1@0:a|2@3:b|"},
    {"CR inside and alone at the end", STR("a\rb\nc\r"), 10, "1@0:a\rb|2@4:c\r|"},
    {"two CR", STR("a\r\r\n"), 10, "1@0:a\r|"},
    {"blank lines", STR("\n\r\n \t\n\n"), 10, "1@0:_|2@1:_|3@3:_ \t|4@6:_|"},
    {"blank last line", STR("a\n  "), 10, "1@0:a|2@2:_  |"},
    {"other white space is text", STR("\f\n\v\n\xc2\xa0\n"), 10,
     "1@0:\f|2@2:\v|3@4:\xc2\xa0|"},
    {"BOM", STR(BOM "a\nb\n"), 10, "1@3:a|2@5:b|"},
    {"BOM and CRLF", STR(BOM "\r\nb"), 10, "1@3:_|2@5:b|"},
    {"BOM alone", STR(BOM), 10, ""},
    {"BOM and line feed", STR(BOM "\n"), 10, "1@3:_|"},
    {"half a BOM", STR("\xef\xbb"), 10, "1@0:\xef\xbb|"},
    {"half a BOM and a line", STR("\xef\xbb\na"), 10, "1@0:\xef\xbb|2@3:a|"},
    {"BOM twice", STR(BOM BOM "a"), 10, "1@3:" BOM "a|"},
    {"BOM in the second line is text", STR("a\n" BOM "b\n"), 10, "1@0:a|2@2:" BOM "b|"},
    {"as long as allowed", STR("12345\n12345\r\n12345"), 5,
     "1@0:12345|2@6:12345|3@13:12345|"},
    {"one too long", STR("123456\nab\n"), 5, "1@0:!|2@7:ab|"},
    {"one too long with CRLF", STR("123456\r\nab\n"), 5, "1@0:!|2@8:ab|"},
    {"one too long at the end", STR("ab\n123456"), 5, "1@0:ab|2@3:!|"},
    {"CR is a byte too many without a line feed", STR("12345\r"), 5, "1@0:!|"},
    {"much too long", STR("ab\n1234567890123456789012345678901234567890\ncd\n"), 5,
     "1@0:ab|2@3:!|3@44:cd|"},
    {"much too long at the end", STR("1234567890123456789012345678901234567890"), 5,
     "1@0:!|"},
    {"two too long", STR("1234567\n12345678\n1\n"), 5, "1@0:!|2@8:!|3@17:1|"},
    {"blank and too long", STR("          \n1\n"), 5, "1@0:!|2@11:1|"},
    {"BOM does not count", STR(BOM "12345\n123456\n"), 5, "1@3:12345|2@9:!|"},
    {"BOM and too long", STR(BOM "123456\n1\n"), 5, "1@3:!|2@10:1|"},
    {"BOM and too long at the end", STR(BOM "123456789"), 5, "1@3:!|"},
    {"limit of one byte", STR("a\n\nbb\nc"), 1, "1@0:a|2@2:_|3@3:!|4@6:c|"},
};

static void check(size_t row, struct source *s)
{
    struct buf got;

    buf_init(&got, 4096);
    walk(s, rows[row].max, &got);
    EQ_STR(buf_peek(&got), str_of(rows[row].want));
    buf_done(&got);
}

TEST(lines_are_found_whatever_the_reads_give)
{
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        t_row(rows[i].name);
        for (size_t cut = 0; cut <= rows[i].text.n; cut++)
            check(i, &(struct source){
                         .text = rows[i].text, .cut = cut, .fail_at = UINT64_MAX});
        for (size_t step = 1; step <= rows[i].text.n; step++)
            check(i, &(struct source){
                         .text = rows[i].text, .step = step, .fail_at = UINT64_MAX});
    }
}

TEST(nul_bytes_are_bytes_like_others)
{
    struct source s = {.text = STR("a\0b\n\0\n"), .fail_at = UINT64_MAX};
    struct jsonl *j = jsonl_new(read_source, &s, 10);
    struct jsonl_line line;

    EQ_RC(jsonl_next(j, &line), RC_OK);
    EQ_STR(line.text, STR("a\0b"));
    EQ_RC(jsonl_next(j, &line), RC_OK);
    EQ_STR(line.text, STR("\0"));
    OK(!line.blank);
    EQ_RC(jsonl_next(j, &line), RC_NOTFOUND);
    jsonl_free(j);
}

/* Lines of all lengths up to a few windows, one read window after the other. */
TEST(long_lines_across_windows)
{
    static const size_t lengths[] = {0,      1,       100,     262143, 262144,  262145,
                                     262146, 524287,  524288,  524289, 1000000, 1048575,
                                     3,      2000000, 1048577, 0,      77,      300000};
    struct source s = {.fail_at = UINT64_MAX};
    struct buf text;

    buf_init(&text, (size_t)64 << 20);
    for (size_t i = 0; i < COUNTOF(lengths); i++) {
        for (size_t k = 0; k < lengths[i]; k++)
            (void)buf_char(&text, (char)('a' + (i + k) % 26));
        (void)buf_z(&text, i % 2 ? "\n" : "\r\n");
    }
    s.text = buf_peek(&text);
    for (size_t step = 0; step < 3; step++) {
        struct jsonl *j = jsonl_new(read_source, &s, 1048576);
        struct jsonl_line line;
        uint64_t offset = 0;

        s.step = (size_t[]){0, 4096, 262144 - 1}[step];
        for (size_t i = 0; i < COUNTOF(lengths); i++) {
            EQ_RC(jsonl_next(j, &line), RC_OK);
            EQ_INT(line.offset, offset);
            EQ_INT(line.number, i + 1);
            EQ_INT(line.too_long, lengths[i] > 1048576);
            EQ_INT(line.text.n, lengths[i] > 1048576 ? 0 : lengths[i]);
            OK(line.text.n == 0 ||
               memcmp(line.text.p, text.p + offset, line.text.n) == 0);
            offset += lengths[i] + (i % 2 ? 1 : 2);
        }
        EQ_RC(jsonl_next(j, &line), RC_NOTFOUND);
        jsonl_free(j);
    }
    buf_done(&text);
}

static enum rc endless(void *ctx, char *dst, size_t cap, uint64_t off, size_t *ret_n)
{
    uint64_t *most = ctx;

    if (cap > *most)
        *most = cap;
    if (off >= (uint64_t)300 << 20)
        cap = 0;
    memset(dst, 'x', cap);
    *ret_n = cap;
    return RC_OK;
}

TEST(a_line_without_end_takes_no_more_memory_than_the_limit)
{
    uint64_t most = 0;
    struct jsonl *j = jsonl_new(endless, &most, 100000);
    struct jsonl_line line;

    EQ_RC(jsonl_next(j, &line), RC_OK);
    OK(line.too_long && line.number == 1 && line.offset == 0);
    EQ_RC(jsonl_next(j, &line), RC_NOTFOUND);
    OK(most <= 1 << 20);
    jsonl_free(j);
}

TEST(a_failed_read_ends_the_walk_for_good)
{
    static const enum rc rcs[] = {RC_IO, RC_CANCELLED, RC_NOTFOUND};

    for (size_t i = 0; i < COUNTOF(rcs); i++) {
        struct source s = {
            .text = STR("a\nb\nc\n"), .step = 3, .fail_at = 3, .fail_rc = rcs[i]};
        struct buf got;

        buf_init(&got, 4096);
        walk(&s, 10, &got);
        /* A source that is gone is not a file that ends. */
        EQ_STR(buf_peek(&got), i == 1 ? STR("1@0:a|CANCELLED") : STR("1@0:a|IO"));
        EQ_INT(s.reads, 2);
        buf_done(&got);
    }
}

TEST(many_lines_are_read_in_few_calls)
{
    struct source s = {.fail_at = UINT64_MAX};
    struct jsonl_line line;
    struct jsonl *j;
    struct buf text;
    uint32_t n = 0;

    buf_init(&text, (size_t)64 << 20);
    for (int i = 0; i < 100000; i++)
        (void)buf_fmt(&text, "{\"custom_id\":\"%d\"}\n", i);
    s.text = buf_peek(&text);
    j = jsonl_new(read_source, &s, 1000);
    while (jsonl_next(j, &line) == RC_OK)
        OK(line.number == ++n && !line.blank && !line.too_long);
    EQ_INT(n, 100000);
    OK(s.reads <= text.n / 200000 + 3);
    jsonl_free(j);
    buf_done(&text);
    jsonl_free(NULL);
}
