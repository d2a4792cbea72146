/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_jsonl: the line walk against a loop over the whole text, with reads cut anywhere.
 * The first two bytes say how long a line and a read may be.
 */
/* reaches: src/json/jsonl.c 36 */
#include "json/jsonl.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct source {
    struct str text;
    size_t step;
};

static enum rc read_source(void *ctx, char *dst, size_t cap, uint64_t off, size_t *ret_n)
{
    struct source *s = ctx;
    size_t n = off < s->text.n ? s->text.n - (size_t)off : 0;

    n = n < cap ? n : cap;
    n = n < s->step ? n : s->step;
    if (n)
        memcpy(dst, s->text.p + off, n);
    *ret_n = n;
    return RC_OK;
}

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "fuzz_jsonl: %s\n", what);
    abort();
}

static bool all_blank(struct str s)
{
    return str_trim(s).n == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct source s;
    struct jsonl *j;
    struct jsonl_line line;
    size_t at = 0, max;
    uint32_t number = 0;

    if (size < 2)
        return 0;
    max = 1u + data[0];
    s.step = data[1] ? data[1] : 100000;
    s.text = (struct str){(const char *)data + 2, size - 2};
    j = jsonl_new(read_source, &s, max);
    if (str_starts(s.text, STR("\xef\xbb\xbf")))
        at = 3;
    while (at < s.text.n) {
        const char *start = s.text.p + at, *lf = memchr(start, '\n', s.text.n - at);
        struct str want = {start, lf ? (size_t)(lf - start) : s.text.n - at};

        must(jsonl_next(j, &line) == RC_OK, "it ends early");
        must(line.number == ++number, "the number");
        must(line.offset == at, "the offset");
        at += want.n + 1;
        if (lf && want.n && want.p[want.n - 1] == '\r')
            want.n--;
        must(line.too_long == (want.n > max), "too long or not");
        if (line.too_long) {
            must(line.text.n == 0 && !line.blank, "what is left of a long line");
        } else {
            must(str_eq(line.text, want), "the text");
            must(line.blank == all_blank(want), "blank or not");
        }
    }
    must(jsonl_next(j, &line) == RC_NOTFOUND, "it goes on");
    must(jsonl_next(j, &line) == RC_NOTFOUND, "it starts again");
    jsonl_free(j);
    return 0;
}
