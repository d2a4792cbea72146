/* SPDX-License-Identifier: Apache-2.0 */
#include "core/prefix.h"
#include "base/buf.h"
#include "base/mem.h"
#include "tests/lib/t.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t state = 88172645463325252u;

static uint32_t roll(uint32_t n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % n;
}

static void put_random(struct buf *b, size_t n)
{
    while (n-- > 0)
        OK(buf_char(b, (char)('a' + roll(26))) == RC_OK);
}

static struct prefix of(struct str s)
{
    struct prefix_feed f;
    struct prefix p;

    prefix_begin(&f);
    prefix_feed(&f, s.p, s.n);
    prefix_end(&f, &p);
    return p;
}

static bool same(const struct prefix *a, const struct prefix *b)
{
    return a->key == b->key && a->length == b->length && a->whole == b->whole &&
           memcmp(a->level, b->level, sizeof a->level) == 0;
}

static size_t common(struct str a, struct str b)
{
    size_t n = 0;

    while (n < a.n && n < b.n && a.p[n] == b.p[n])
        n++;
    return n;
}

TEST(a_key_is_the_same_in_whatever_pieces_it_comes)
{
    struct buf text;

    buf_init(&text, 4u << 20);
    put_random(&text, 1500000);
    for (int round = 0; round < 60; round++) {
        size_t n = roll(round < 50 ? 6000 : 1500000), at = 0;
        struct prefix whole = of((struct str){text.p, n}), pieces;
        struct prefix_feed f;

        prefix_begin(&f);
        while (at < n) {
            size_t piece = roll(round % 2 ? 40 : 5000);

            piece = piece < n - at ? piece : n - at;
            prefix_feed(&f, text.p + at, piece);
            at += piece;
        }
        prefix_end(&f, &pieces);
        OK(same(&whole, &pieces));
        EQ_INT(whole.length, n);
    }
    buf_done(&text);
}

TEST(what_two_keys_share_is_told_to_an_eighth)
{
    struct buf a, b;
    uint32_t high = 0;

    buf_init(&a, 4u << 20);
    buf_init(&b, 4u << 20);
    for (int round = 0; round < 2000; round++) {
        size_t n = roll(round < 1900 ? 20000 : 900000);
        struct prefix p, q;
        uint32_t told;
        size_t really;

        buf_reset(&a);
        buf_reset(&b);
        put_random(&a, n);
        OK(buf_str(&b, buf_peek(&a)) == RC_OK);
        put_random(&a, roll(3000));
        put_random(&b, roll(3000));
        p = of(buf_peek(&a));
        q = of(buf_peek(&b));
        told = prefix_shared(&p, &q);
        really = common(buf_peek(&a), buf_peek(&b));
        EQ_INT(told, prefix_shared(&q, &p));
        OK(told <= a.n && told <= b.n);
        if (told > really) { /* by chance, and then one step */
            high++;
            OK(told <= really * 5 / 4 + 64 + (really > (60u << 10) ? really / 2 : 0));
        } else if (really < (64u << 10)) {
            OK(told + 64 > really || told >= really * 6 / 7);
        } else {
            OK(told >= really * 2 / 3);
        }
    }
    OK(high < 30);
    buf_done(&a);
    buf_done(&b);
}

TEST(equal_keys_share_all_and_a_key_is_not_its_own_beginning)
{
    static const size_t sizes[] = {0,    1,    63,   64,    65,    128,     150,    512,
                                   1000, 1024, 4096, 65536, 70000, 1048576, 1300000};
    struct buf text;

    buf_init(&text, 4u << 20);
    put_random(&text, 1300001);
    for (size_t i = 0; i < COUNTOF(sizes); i++) {
        struct prefix p = of((struct str){text.p, sizes[i]});
        struct prefix longer = of((struct str){text.p, sizes[i] + 1});
        struct prefix again = of((struct str){text.p, sizes[i]});

        OK(same(&p, &again));
        EQ_INT(prefix_shared(&p, &again), sizes[i]);
        OK(!same(&p, &longer));
        OK(prefix_shared(&p, &longer) <= sizes[i]);
    }
    buf_done(&text);
}

TEST(a_difference_behind_the_last_length_is_seen)
{
    struct buf text;
    struct prefix a, b;

    buf_init(&text, 4u << 20);
    put_random(&text, 1200000);
    a = of(buf_peek(&text));
    text.p[1199999] ^= 1;
    b = of(buf_peek(&text));
    EQ_INT(prefix_shared(&a, &b), 1u << 20);
    buf_done(&text);
}

/* --- Sorting ------------------------------------------------------------------------- */

struct many {
    struct buf text;
    uint32_t n;
    size_t *at, *len;
    struct prefix *p;
    uint32_t *order, *shared;
};

static void many_init(struct many *m, uint32_t n)
{
    *m = (struct many){.at = mem_new_n(size_t, n + 1),
                       .len = mem_new_n(size_t, n + 1),
                       .p = mem_new_n(struct prefix, n + 1),
                       .order = mem_new_n(uint32_t, n + 1),
                       .shared = mem_new_n(uint32_t, n + 1)};
    buf_init(&m->text, 1u << 30);
}

static void many_done(struct many *m)
{
    buf_done(&m->text);
    mem_free(m->at);
    mem_free(m->len);
    mem_free(m->p);
    mem_free(m->order);
    mem_free(m->shared);
}

static struct str many_get(const struct many *m, uint32_t i)
{
    return (struct str){m->text.p + m->at[i], m->len[i]};
}

static void many_add(struct many *m, const struct buf *head, const struct buf *tail)
{
    uint32_t i = m->n++;

    m->at[i] = m->text.n;
    m->len[i] = head->n + tail->n;
    OK(buf_str(&m->text, buf_peek(head)) == RC_OK);
    OK(buf_str(&m->text, buf_peek(tail)) == RC_OK);
}

/* docs x questions with one system prompt, questions of a doc far apart. */
static void many_docs(struct many *m, uint32_t docs, uint32_t each, size_t doc_bytes)
{
    struct buf *heads = mem_new_n(struct buf, docs);
    struct buf system, tail;

    buf_init(&system, 1u << 20);
    buf_init(&tail, 1u << 20);
    put_random(&system, 700);
    for (uint32_t d = 0; d < docs; d++) {
        buf_init(&heads[d], 1u << 20);
        OK(buf_str(&heads[d], buf_peek(&system)) == RC_OK);
        put_random(&heads[d], doc_bytes / 2 + roll((uint32_t)doc_bytes));
    }
    for (uint32_t k = 0; k < docs * each; k++) {
        buf_reset(&tail);
        put_random(&tail, 80 + roll(150));
        many_add(m, &heads[k % docs], &tail);
    }
    for (uint32_t d = 0; d < docs; d++)
        buf_done(&heads[d]);
    mem_free(heads);
    buf_done(&system);
    buf_done(&tail);
    for (uint32_t i = 0; i < m->n; i++)
        m->p[i] = of(many_get(m, i));
}

static const struct many *sorting;

static int by_bytes(const void *a, const void *b)
{
    struct str x = many_get(sorting, *(const uint32_t *)a);
    struct str y = many_get(sorting, *(const uint32_t *)b);
    int diff = memcmp(x.p, y.p, x.n < y.n ? x.n : y.n);

    return diff ? diff : (x.n > y.n) - (x.n < y.n);
}

/* What the order by bytes shares in all: no order shares more (RadixAttention, 3.1). */
static uint64_t best_shared(const struct many *m)
{
    uint32_t *order = mem_new_n(uint32_t, m->n);
    uint64_t sum = 0;

    for (uint32_t i = 0; i < m->n; i++)
        order[i] = i;
    sorting = m;
    qsort(order, m->n, sizeof *order, by_bytes);
    for (uint32_t i = 1; i < m->n; i++)
        sum += common(many_get(m, order[i - 1]), many_get(m, order[i]));
    mem_free(order);
    return sum;
}

static void check_order(const struct many *m)
{
    uint8_t *seen = mem_new_n(uint8_t, m->n + 1);

    for (uint32_t k = 0; k < m->n; k++) {
        uint32_t i = m->order[k];

        OK(i < m->n && !seen[i]);
        seen[i] = 1;
        if (k == 0) {
            EQ_INT(m->shared[0], 0);
            continue;
        }
        OK(m->p[m->order[k - 1]].key <= m->p[i].key);
        EQ_INT(m->shared[k], prefix_shared(&m->p[m->order[k - 1]], &m->p[i]));
    }
    mem_free(seen);
}

TEST(the_order_shares_nearly_as_much_as_that_by_bytes)
{
    struct many m;
    uint64_t best, really = 0, told = 0;

    many_init(&m, 4000);
    many_docs(&m, 400, 10, 6000);
    EQ_RC(prefix_sort(m.p, m.n, m.order, m.shared), RC_OK);
    check_order(&m);
    best = best_shared(&m);
    for (uint32_t k = 1; k < m.n; k++) {
        really += common(many_get(&m, m.order[k - 1]), many_get(&m, m.order[k]));
        told += m.shared[k];
    }
    t_note("shared: by bytes %llu, in this order %llu, told %llu",
           (unsigned long long)best, (unsigned long long)really,
           (unsigned long long)told);
    OK(really * 100 >= best * 99);
    OK(told * 100 >= best * 85 && told <= best * 101 / 100);
    many_done(&m);
}

/* The documents in the order in which they come, in `docs`; how many runs there are. */
static uint32_t runs_of(const struct many *m, uint32_t first, uint32_t n, uint32_t *docs)
{
    uint32_t runs = 0;

    EQ_RC(prefix_sort(m->p + first, n, m->order, m->shared), RC_OK);
    for (uint32_t k = 0; k < n; k++) {
        uint32_t doc = (first + m->order[k]) % 300;

        if (runs == 0 || docs[runs - 1] != doc)
            docs[runs++] = doc;
    }
    return runs;
}

TEST(another_batch_has_the_same_beginnings_in_the_same_order)
{
    static uint32_t one[1500], two[1500];
    struct many m;

    many_init(&m, 3000);
    many_docs(&m, 300, 10, 6000);
    EQ_INT(runs_of(&m, 0, 1500, one), 300);
    EQ_INT(runs_of(&m, 1500, 1500, two), 300);
    OK(memcmp(one, two, 300 * sizeof *one) == 0);
    /* All of them are longer than 3,600 bytes: seven lengths of the key. */
    for (uint32_t k = 0; k < 1500; k++)
        OK(m.p[k].key >> 36 == m.p[k + 1500].key >> 36);
    many_done(&m);
}

TEST(none_one_and_equal_keys_are_sorted)
{
    struct many m;
    struct buf head, tail;

    many_init(&m, 1000);
    EQ_RC(prefix_sort(m.p, 0, m.order, m.shared), RC_OK);
    buf_init(&head, 1000);
    buf_init(&tail, 1000);
    put_random(&head, 300);
    for (uint32_t i = 0; i < 1000; i++)
        many_add(&m, &head, &tail);
    for (uint32_t i = 0; i < 1000; i++)
        m.p[i] = of(many_get(&m, i));
    EQ_RC(prefix_sort(m.p, 1, m.order, m.shared), RC_OK);
    EQ_INT(m.order[0], 0);
    EQ_RC(prefix_sort(m.p, 1000, m.order, m.shared), RC_OK);
    for (uint32_t k = 0; k < 1000; k++) {
        EQ_INT(m.order[k], k); /* equal ones stay in the order of the file */
        EQ_INT(m.shared[k], k ? 300 : 0);
    }
    buf_done(&head);
    buf_done(&tail);
    many_done(&m);
}

TEST_SLOW(a_million_keys_are_sorted, 120)
{
    enum { N = 1000000 };
    struct many m;
    struct timespec t[3];

    many_init(&m, N);
    for (uint32_t i = 0; i < N; i++) {
        struct prefix_feed f;
        char id[4096];

        memset(id, 'a' + (char)(i % 23), sizeof id);
        memcpy(id + 1000, &(uint32_t){i % 977}, 4);
        memcpy(id + 4092, &i, 4);
        prefix_begin(&f);
        prefix_feed(&f, id, sizeof id);
        prefix_end(&f, &m.p[i]);
    }
    m.n = N;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t[0]);
    EQ_RC(prefix_sort(m.p, 50000, m.order, m.shared), RC_OK);
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t[1]);
    EQ_RC(prefix_sort(m.p, N, m.order, m.shared), RC_OK);
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t[2]);
    check_order(&m);
    t_note("50,000 in %.1f ms, 1,000,000 in %.1f ms",
           (double)(t[1].tv_sec - t[0].tv_sec) * 1e3 +
               (double)(t[1].tv_nsec - t[0].tv_nsec) / 1e6,
           (double)(t[2].tv_sec - t[1].tv_sec) * 1e3 +
               (double)(t[2].tv_nsec - t[1].tv_nsec) / 1e6);
    many_done(&m);
}
