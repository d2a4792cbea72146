/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_http1: a head and its chunked body read whole, and read in two pieces, must be the
 * same; what is found must lie inside the input.
 */
/* reaches: src/http/http1.c 56 */
#include "base/mem.h"
#include "http/http1.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(struct str s, struct str all)
{
    CHECK(s.p >= all.p && s.p + s.n <= all.p + all.n);
}

static void check_head(const struct http1_head *h, struct str all)
{
    struct str name, value;

    CHECK(h->bytes >= 4 && h->bytes <= all.n && h->bytes <= HTTP1_HEAD_MAX);
    CHECK(memcmp(all.p + h->bytes - 4, "\r\n\r\n", 4) == 0);
    CHECK(!(h->chunked && h->has_length));
    CHECK(http1_method(h, all.p).n > 0 && http1_path(h, all.p).n > 0);
    inside(http1_method(h, all.p), all);
    inside(http1_target(h, all.p), all);
    for (uint32_t i = 0; i < h->n_fields; i++) {
        http1_field_at(h, all.p, i, &name, &value);
        inside(name, all);
        inside(value, all);
        CHECK(name.n > 0 && !memchr(value.p, '\n', value.n));
        CHECK(http1_field(h, all.p, "host").p || h->minor == 0);
    }
}

static enum rc head_in_two(struct http1_head *h, struct str all, size_t at)
{
    char *first = mem_dup(all.p, at);
    enum rc rc;

    http1_head_init(h);
    rc = http1_head_read(h, (struct str){first, at});
    mem_free(first);
    return rc == RC_AGAIN ? http1_head_read(h, all) : rc;
}

static uint64_t mixed(uint64_t sum, struct str piece)
{
    for (size_t i = 0; i < piece.n; i++)
        sum = (sum ^ (unsigned char)piece.p[i]) * 0x100000001b3u;
    return sum;
}

static enum rc feed(struct http1_chunks *c, struct str *in, uint64_t *sum)
{
    struct str piece;
    enum rc rc;

    while ((rc = http1_chunks_read(c, in, &piece)) == RC_OK && piece.n)
        *sum = mixed(*sum, piece);
    CHECK(rc != RC_AGAIN || in->n == 0);
    return rc;
}

static void check_chunks(struct str all, size_t at)
{
    struct http1_chunks one, two;
    struct str in = all, first = {all.p, at}, rest = {all.p + at, all.n - at};
    uint64_t sum1 = 0, sum2 = 0;
    enum rc rc1, rc2;

    http1_chunks_init(&one, 4096);
    http1_chunks_init(&two, 4096);
    rc1 = feed(&one, &in, &sum1);
    rc2 = feed(&two, &first, &sum2);
    if (rc2 == RC_AGAIN)
        rc2 = feed(&two, &rest, &sum2);
    CHECK(rc1 == rc2 && one.refuse == two.refuse);
    CHECK(sum1 == sum2 && one.body_bytes == two.body_bytes && one.body_bytes <= 4096);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http1_head whole, split;
    struct str all = {(const char *)data + 2, size - 2};
    size_t at;
    enum rc rc;

    if (size < 2)
        return 0;
    at = (size_t)(data[0] << 8 | data[1]) % (all.n + 1);
    http1_head_init(&whole);
    rc = http1_head_read(&whole, all);
    CHECK(head_in_two(&split, all, at) == rc);
    CHECK(split.refuse == whole.refuse && split.bytes == whole.bytes);
    CHECK(split.n_fields == whole.n_fields);
    if (rc == RC_OK) {
        check_head(&whole, all);
        all.p += whole.bytes, all.n -= whole.bytes;
        if (whole.chunked)
            check_chunks(all, at % (all.n + 1));
    }
    return 0;
}
