/* SPDX-License-Identifier: Apache-2.0 */
/* Which fresh line an upstream gets: segments of prefixes, stealing, bins by length, scouts. */
#include "base/mem.h"
#include "tests/lib/sched.h"
#include "tests/lib/t.h"

#define SEC USEC_PER_SEC

/* n lines in groups of `each` that share 900 of 1,000 tokens. */
static struct sched_item *groups_of(uint32_t n, uint32_t each)
{
    struct sched_item *it = mem_new_n(struct sched_item, n);

    for (uint32_t i = 0; i < n; i++)
        it[i] = (struct sched_item){
            .item = i, .prompt = 1000, .shared = i % each ? 900 : 10, .max_out = 64};
    return it;
}

static struct sched *fleet(unsigned ups, unsigned window)
{
    struct sched *s = sched_new(&(struct sched_opts){.seed = 1});

    for (unsigned i = 0; i < ups; i++)
        up_add(s, window);
    return s;
}

static void answer(struct sched *s, const struct sched_ticket *t, uint32_t output)
{
    EQ_INT(sched_done(s, t,
                      &(struct sched_outcome){.retry_after = -1,
                                              .has_usage = true,
                                              .prompt = 1000,
                                              .output = output},
                      t->sent + 1),
           SCHED_FINAL);
}

/* Runs it to its end; which upstream each line went to. */
static void run(struct sched *s, uint16_t *went, uint32_t n)
{
    struct sched_ticket t[64];
    uint32_t done = 0;
    usec_t now = 0;

    while (done < n) {
        size_t k = sched_next(s, t, COUNTOF(t), now++);

        OK(k > 0);
        for (size_t i = 0; i < k; i++) {
            went[t[i].item] = t[i].upstream;
            answer(s, &t[i], 10);
        }
        done += (uint32_t)k;
    }
    EQ_INT(done, n);
}

TEST(lines_that_begin_alike_go_to_one_upstream)
{
    enum { N = 4000, EACH = 20 };
    struct sched *s = fleet(4, 8);
    struct sched_item *it = groups_of(N, EACH);
    uint16_t went[N];
    unsigned split = 0, count[4] = {0};

    sched_batch_add(
        s, &(struct sched_batch_opts){.n_items = N, .items = it, .deadline = SEC}, 0);
    run(s, went, N);
    for (unsigned g = 0; g < N / EACH; g++) {
        unsigned others = 0;

        for (unsigned i = 1; i < EACH; i++) /* the first may have been a scout */
            others += went[g * EACH + i] != went[g * EACH + 1];
        split += others > 0;
    }
    for (unsigned i = 0; i < N; i++)
        count[went[i]]++;
    OK(split <= 12); /* of 200: three cuts and what was stolen */
    for (unsigned i = 0; i < 4; i++)
        OK(count[i] > N / 8);
    mem_free(it);
    sched_free(s);
}

TEST(who_is_done_takes_half_of_what_another_has_left)
{
    enum { N = 1000 };
    struct sched *s = fleet(2, 1);
    struct sched_item *it = groups_of(N, 50);
    struct sched_ticket t[2], fast;
    unsigned count = 0;

    sched_batch_add(
        s, &(struct sched_batch_opts){.n_items = N, .items = it, .deadline = SEC}, 0);
    EQ_INT(sched_next(s, t, 2, 0), 2);
    OK(t[0].upstream != t[1].upstream);
    fast = t[1]; /* the other never answers */
    while (count < N - 1) {
        answer(s, &fast, 10);
        count++;
        if (count < N - 1)
            EQ_INT(sched_next(s, &fast, 1, count), 1);
    }
    EQ_INT(sched_next(s, &fast, 1, N), 0);
    mem_free(it);
    sched_free(s);
}

TEST(what_a_dead_upstream_had_to_do_goes_to_the_others)
{
    enum { N = 400 };
    struct sched *s = fleet(2, 4);
    struct sched_item *it = groups_of(N, 10);
    struct sched_ticket t[8];
    unsigned done = 0, dead = 0;
    struct sched_up_view v;
    usec_t now = 0;

    sched_batch_add(
        s, &(struct sched_batch_opts){.n_items = N, .items = it, .deadline = SEC}, 0);
    for (unsigned turn = 0; done < N && turn < 10000; turn++) {
        size_t k = sched_next(s, t, 8, now);

        for (size_t i = 0; i < k; i++) {
            if (t[i].upstream == 0) {
                EQ_INT(back(s, &t[i], OUTCOME_HOST, -1, now), SCHED_RETRY);
                dead++;
            } else {
                answer(s, &t[i], 10);
                done++;
            }
        }
        now++;
    }
    EQ_INT(done, N);
    OK(dead <= 8);
    sched_upstream_view(s, 0, &v);
    EQ_INT(v.state, SCHED_UP_DEAD);
    mem_free(it);
    sched_free(s);
}

TEST(another_batch_with_the_same_prefixes_finds_them_where_they_were)
{
    enum { N = 1200, EACH = 30 };
    struct sched *s = fleet(3, 4);
    struct sched_item *it = groups_of(N, EACH);
    uint64_t *keys = mem_new_n(uint64_t, N);
    uint16_t first[N], again[N];
    unsigned same = 0;
    struct sched_batch_opts o = {
        .n_items = N, .items = it, .keys = keys, .deadline = SEC};

    for (uint32_t i = 0; i < N; i++)
        keys[i] = ((uint64_t)(i / EACH) << 40) + i % EACH;
    sched_batch_add(s, &o, 0);
    run(s, first, N);
    /* Half of it is done by now: the cuts by work would lie elsewhere. */
    o.n_items = N / 2;
    for (uint32_t i = 0; i < N / 2; i++) {
        it[i].item = i;
        it[i].shared = i % (EACH / 2) ? 900 : 10;
        keys[i] = ((uint64_t)(i / (EACH / 2)) << 40) + i % EACH;
    }
    sched_batch_add(s, &o, 0);
    run(s, again, N / 2);
    for (uint32_t i = 0; i < N / 2; i++)
        same += again[i] == first[i / (EACH / 2) * EACH];
    OK(same > N / 2 * 8 / 10);
    mem_free(it);
    mem_free(keys);
    sched_free(s);
}

TEST(the_longest_that_share_nothing_go_first)
{
    enum { N = 300 };
    struct sched *s = fleet(1, 1);
    struct sched_item it[N];
    struct sched_ticket t;
    unsigned late_long = 0;

    for (uint32_t i = 0; i < N; i++)
        it[i] = (struct sched_item){
            .item = i, .prompt = 100, .max_out = i % 3 == 2 ? 8000 : 1000};
    sched_batch_add(
        s, &(struct sched_batch_opts){.n_items = N, .items = it, .deadline = SEC}, 0);
    for (unsigned k = 0; k < N; k++) {
        bool is_long;

        EQ_INT(sched_next(s, &t, 1, k), 1);
        is_long = t.item % 3 == 2;
        late_long += is_long && k > 150;
        answer(s, &t, is_long ? 4000 : 900);
    }
    EQ_INT(late_long, 0); /* a hundred of them, behind at most some scouts */
    sched_free(s);
}

TEST(a_batch_that_is_denied_everything_stops_after_64_calls)
{
    struct sched *s = fleet(2, 500);
    struct sched_ticket t[1000];
    struct sched_batch_view v;
    unsigned calls = 0;
    uint32_t b = sched_batch_add(
        s, &(struct sched_batch_opts){.n_items = 50000, .deadline = SEC}, 0);

    for (usec_t now = 0; now < 100; now++) {
        size_t n = sched_next(s, t, COUNTOF(t), now);

        for (size_t i = 0; i < n; i++)
            EQ_INT(back(s, &t[i], OUTCOME_DENIED, -1, now), SCHED_FINAL);
        calls += (unsigned)n;
    }
    EQ_INT(calls, 64);
    sched_batch_view(s, b, &v);
    OK(v.stopped);
    EQ_INT(v.denied, 64);
    EQ_INT(sched_batch_waiting(s, b), 50000 - 64);
    EQ_INT(sched_next_wake(s, 100), USEC_INFINITY);

    sched_batch_resume(s, b);
    EQ_INT(sched_next(s, t, COUNTOF(t), 100), 64); /* scouts again */
    EQ_INT(back(s, &t[0], OUTCOME_DONE, -1, 100), SCHED_FINAL);
    EQ_INT(sched_next(s, t + 1, COUNTOF(t) - 1, 100), 1000 - 63); /* all is well */
    sched_free(s);
}

TEST(a_small_batch_that_is_denied_ends)
{
    struct sched *s = fleet(1, 64);
    struct sched_ticket t[64];

    sched_batch_add(s, &(struct sched_batch_opts){.n_items = 64, .deadline = SEC}, 0);
    EQ_INT(sched_next(s, t, 64, 0), 64);
    for (unsigned i = 0; i < 64; i++)
        EQ_INT(back(s, &t[i], OUTCOME_DENIED, -1, 0), SCHED_FINAL);
    sched_free(s);
}

TEST(a_line_denied_by_one_upstream_goes_to_those_that_answer)
{
    struct sched *s = fleet(2, 1);
    struct sched_ticket t[2];
    unsigned done = 0, denied = 0;

    sched_batch_add(s, &(struct sched_batch_opts){.n_items = 100, .deadline = SEC}, 0);
    for (usec_t now = 0; done < 100 && now < 1000; now++) {
        size_t n = sched_next(s, t, 2, now);

        for (size_t i = n; i-- > 0;) {
            bool bad = t[i].upstream == 0;
            enum sched_verdict v =
                back(s, &t[i], bad ? OUTCOME_DENIED : OUTCOME_DONE, -1, now);

            denied += bad && v == SCHED_FINAL;
            done += v == SCHED_FINAL;
        }
    }
    EQ_INT(done, 100);
    EQ_INT(denied, 0); /* the other had answered first */
    sched_free(s);
}

TEST(what_is_done_already_and_what_a_hold_keeps_is_not_sent)
{
    enum { N = 100 };
    struct sched *s = fleet(1, 200);
    struct sched_item *it = groups_of(N, 10);
    struct sched_ticket t[N];
    uint8_t done[13] = {0};
    size_t n;
    uint32_t b;

    for (uint32_t i = 0; i < N; i++)
        it[i].item = N - 1 - i; /* an order that is not the file's */
    for (uint32_t i = 0; i < N; i += 2)
        done[i / 8] |= (uint8_t)(1u << (i % 8));
    b = sched_batch_add(
        s,
        &(struct sched_batch_opts){
            .n_items = N, .items = it, .done = done, .hold = 20, .deadline = SEC},
        0);
    n = sched_next(s, t, N, 0);
    EQ_INT(n, 10);
    for (size_t i = 0; i < n; i++)
        OK(t[i].item % 2 == 1 && t[i].item < 20);
    sched_batch_edit(s, b, 0, false, 0, SEC);
    EQ_INT(sched_next(s, t + n, N - n, 0), 40);
    for (size_t i = n; i < 50; i++)
        OK(t[i].item % 2 == 1 && t[i].item >= 20);
    mem_free(it);
    sched_free(s);
}
