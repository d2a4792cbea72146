/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/mem.h"
#include "tests/lib/t.h"

TEST(a_buffer_takes_up_to_its_maximum_and_not_a_byte_more)
{
    struct buf b;

    buf_init(&b, 5);
    EQ_RC(buf_add(&b, "hello", 5), RC_OK);
    EQ_RC(buf_char(&b, '!'), RC_LIMIT);
    EQ_STR(buf_peek(&b), STR("hello"));
    EQ_RC(buf_failed(&b), RC_LIMIT);
    buf_done(&b);
}

TEST(a_failed_buffer_stays_failed_until_reset)
{
    struct buf b;

    buf_init(&b, 3);
    EQ_RC(buf_z(&b, "abcd"), RC_LIMIT);
    EQ_RC(buf_z(&b, "a"), RC_LIMIT);
    OK(buf_take(&b, NULL) == NULL);
    buf_reset(&b);
    EQ_RC(buf_z(&b, "abc"), RC_OK);
    buf_done(&b);
    buf_done(&b);
}

TEST(numbers_and_formats_are_appended_whole)
{
    struct buf b;

    buf_init(&b, 1000);
    (void)buf_u64(&b, UINT64_MAX);
    (void)buf_char(&b, ' ');
    (void)buf_i64(&b, INT64_MIN);
    (void)buf_char(&b, ' ');
    (void)buf_u64(&b, 0);
    (void)buf_fmt(&b, " %s=%05d", "k", 42);
    EQ_STR(buf_peek(&b), STR("18446744073709551615 -9223372036854775808 0 k=00042"));
    buf_done(&b);
}

TEST(taking_passes_the_bytes_on_with_a_nul)
{
    struct buf b;
    size_t n;
    char *p;

    buf_init(&b, 100);
    (void)buf_z(&b, "abc");
    p = buf_take(&b, &n);
    EQ_INT(n, 3);
    EQ_Z(p, "abc");
    mem_free(p);
    EQ_INT(b.n, 0);
    p = buf_take(&b, &n); /* an empty one gives an empty text */
    OK(p && n == 0 && p[0] == '\0');
    mem_free(p);
}

TEST(reserve_and_commit_grow_by_any_step)
{
    struct buf b;
    char *at;

    buf_init(&b, 1 << 20);
    for (unsigned i = 0; i < 2000; i++) {
        EQ_RC(buf_reserve(&b, i % 37 + 1, &at), RC_OK);
        memset(at, 'a' + (int)(i % 26), i % 37 + 1);
        buf_commit(&b, i % 37);
    }
    EQ_RC(buf_failed(&b), RC_OK);
    buf_shrink(&b, 16);
    OK(b.p == NULL);
    buf_done(&b);
}

static void without_maximum(void)
{
    struct buf b;

    buf_init(&b, 0);
}

TEST(a_buffer_without_a_maximum_cannot_be_made)
{
    PANICS(without_maximum, "max > 0");
}
