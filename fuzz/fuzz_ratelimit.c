/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_ratelimit: the head of an answer.  Whatever comes, what is told of a quota is within
 * its bounds; the client (http/answer.h) keeps whole lines of it that mean the same.
 */
/* reaches: src/core/ratelimit.c 60 */
/* reaches: src/http/answer.c 40 */
#include "base/mem.h"
#include "core/ratelimit.h"
#include "http/answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define WALL (1771452000 * USEC_PER_SEC)

static void check_quota(const struct ratelimit_quota *q)
{
    CHECK(q->limit == -1 || (q->limit > 0 && q->limit < 1e15));
    CHECK(q->left == -1 || (q->left >= 0 && q->left < 1e15));
    CHECK(q->limit < 0 || q->left <= q->limit);
    CHECK(q->reset >= -1 && q->reset <= RATELIMIT_RESET_MAX);
    CHECK(q->reset < 0 || q->limit > 0 || q->left >= 0);
}

static bool read_head(struct str head, struct ratelimit *r)
{
    bool any = ratelimit_read(head, WALL, r);

    check_quota(&r->requests);
    check_quota(&r->tokens);
    return any;
}

static void feed(struct answer *a, struct str text)
{
    answer_start(a);
    while (text.n) {
        const char *lf = memchr(text.p, '\n', text.n);
        size_t n = lf ? (size_t)(lf + 1 - text.p) : text.n;

        answer_line(a, (struct str){text.p, n});
        text.p += n;
        text.n -= n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *copy = mem_dup((const char *)data, n);
    struct ratelimit all, kept;
    struct answer a;

    (void)read_head((struct str){copy, n}, &all);
    feed(&a, (struct str){copy, n});
    CHECK(a.quota_n <= sizeof a.quota);
    CHECK(a.quota_n == 0 || a.quota[a.quota_n - 1] == '\n');
    for (size_t i = 0; i < a.quota_n; i++)
        CHECK(a.quota[i] == '\n' || (a.quota[i] >= ' ' && a.quota[i] <= '~'));
    (void)read_head((struct str){a.quota, a.quota_n}, &kept);
    CHECK(answer_date(&a) >= 0);
    mem_free(copy);
    return 0;
}
