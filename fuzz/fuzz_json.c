/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_json: the real reader against the slow one of the tests: verdict, place of the
 * fault, every value, key and string; then what is written reads back.
 */
/* reaches: src/json/json.c 54 */
/* reaches: src/json/scan.c 56 */
#include "tests/lib/json_ref.h"
#include "json/json.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(const char *differs)
{
    if (!differs)
        return;
    fprintf(stderr, "fuzz_json: %s\n", differs);
    abort();
}

/* The value on one line is valid, means the same and differs by line ends only. */
static void one_line(struct str text)
{
    struct buf line;
    size_t k = 0;

    buf_init(&line, text.n + 1);
    if (json_one_line(&line, text) != RC_OK)
        must("json_one_line fails");
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] != '\n' && text.p[i] != '\r' &&
            (k >= line.n || line.p[k++] != text.p[i]))
            must("json_one_line changes a byte");
    if (k != line.n)
        must("json_one_line adds something");
    must(ref_check(buf_peek(&line), 16, true));
    if (json_read(buf_peek(&line), NULL, NULL, 0, NULL, NULL, NULL) != RC_OK)
        must("one line is not valid any more");
    buf_done(&line);
}

/* Any bytes as a string: valid, and the same bytes when they were UTF-8. */
static void put_str(struct str text)
{
    struct buf b, back;
    struct json_val v;

    buf_init(&b, text.n * 6 + 2);
    buf_init(&back, text.n * 3 + 1);
    if (json_put_str(&b, text) != RC_OK ||
        json_read(buf_peek(&b), NULL, NULL, 0, NULL, &v, NULL) != RC_OK)
        must("json_put_str writes what is not valid");
    if (json_unescape(v.raw, &back) != RC_OK)
        must("json_put_str writes what can't be read");
    if (back.n == text.n && !str_eq(buf_peek(&back), text))
        must("json_put_str changes a byte");
    if (!json_str_is(v.raw, buf_peek(&back)))
        must("json_str_is does not know it");
    buf_done(&b);
    buf_done(&back);
}

/* Walking bytes that nobody has checked. */
static void walk(struct str text)
{
    for (int object = 0; object < 2; object++) {
        struct json_val v = {object ? JSON_OBJECT : JSON_ARRAY, 0, text}, in;
        struct json_iter it = json_iter(&v);
        struct str key;
        size_t steps = 0;

        while (json_next(&it, &key, &in))
            if (++steps > text.n)
                must("json_next does not end");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};

    must(ref_check(text, 16, false));
    must(ref_check(text, 16, true));
    if (json_read(text, NULL, NULL, 0, NULL, NULL, NULL) == RC_OK)
        one_line(text);
    put_str(text);
    walk(text);
    return 0;
}
