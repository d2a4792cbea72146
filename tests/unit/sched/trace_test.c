/* SPDX-License-Identifier: Apache-2.0 */
/* What was recorded of a scheduler is played again with the same decisions. */
#include "base/buf.h"
#include "base/mem.h"
#include "sched/sched_trace.h"
#include "tests/lib/sched.h"
#include "tests/lib/t.h"

#define SEC USEC_PER_SEC

static void keep(void *ctx, const void *bytes, size_t n)
{
    EQ_RC(buf_add(ctx, bytes, n), RC_OK);
}

static uint64_t rng;

static unsigned pick(unsigned below)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (unsigned)(rng % below);
}

static void add_batch(struct sched *s, uint16_t group, usec_t now)
{
    enum { N = 300 };
    struct sched_item it[N];
    uint64_t keys[N];
    uint8_t done[(N + 7) / 8] = {0};
    struct sched_set first = {{3}};

    for (uint32_t i = 0; i < N; i++) {
        it[i] = (struct sched_item){.item = N - 1 - i,
                                    .prompt = 100 + pick(2000),
                                    .shared = i % 10 ? 90 : 0,
                                    .max_out = pick(2) ? 64 : 4000};
        keys[i] = (uint64_t)i << 40;
        done[i / 8] |= (uint8_t)((pick(10) == 0) << (i % 8));
    }
    sched_batch_add(s,
                    &(struct sched_batch_opts){.n_items = N,
                                               .items = pick(4) ? it : NULL,
                                               .keys = keys,
                                               .done = pick(2) ? done : NULL,
                                               .deadline = now + (1 + pick(4)) * 60 * SEC,
                                               .window = 60 * SEC,
                                               .priority = (int)pick(3) - 1,
                                               .idle = pick(4) == 0,
                                               .hold = pick(4) ? 0 : 200,
                                               .upstreams = pick(2) ? &first : NULL,
                                               .group = group},
                    now);
}

static struct sched_outcome outcome(void)
{
    static const enum outcome_class bad[] = {OUTCOME_CAPACITY, OUTCOME_TRANSIENT,
                                             OUTCOME_BROKEN,   OUTCOME_HOST,
                                             OUTCOME_DENIED,   OUTCOME_REFUSED};
    struct sched_outcome o = {.cls = OUTCOME_DONE, .retry_after = -1};

    if (pick(10) == 0)
        o.cls = bad[pick(6)];
    if (o.cls == OUTCOME_CAPACITY && pick(3) == 0)
        o.retry_after = SEC;
    o.has_usage = o.cls == OUTCOME_DONE;
    o.prompt = 500, o.cached = pick(400), o.output = 10 + pick(500);
    return o;
}

struct flight {
    struct sched_ticket t[600];
    unsigned n;
};

static void land(struct sched *s, struct flight *f, usec_t now)
{
    unsigned k = pick(f->n);
    struct sched_ticket t = f->t[k], lost;
    struct sched_outcome o = outcome();

    f->t[k] = f->t[--f->n];
    if (pick(40) == 0)
        sched_aborted(s, &t, now);
    else
        IGNORE(sched_done(s, &t, &o, now));
    while (sched_aborts(s, &lost, 1)) {
        for (unsigned i = 0; i < f->n; i++) {
            if (f->t[i].call != lost.call)
                continue;
            f->t[i] = f->t[--f->n];
            break;
        }
        sched_aborted(s, &lost, now);
    }
}

static void ask(struct sched *s, usec_t now)
{
    struct sched_sample m = {.running = pick(40),
                             .waiting = pick(5),
                             .kv = 0.3,
                             .preemptions = -1,
                             .prefix_hits = -1,
                             .prefix_queries = -1};
    struct sched_limits l = {.requests = 600,
                             .requests_left = 500,
                             .tokens = -1,
                             .tokens_left = -1,
                             .requests_reset = SEC,
                             .tokens_reset = -1};
    uint16_t up;

    while (sched_probe(s, &up, now))
        sched_probe_done(s, up, pick(3) > 0, now);
    while (sched_sample_due(s, &up, now))
        sched_sampled(s, up, pick(5) ? &m : NULL, now);
    if (pick(50) == 0)
        sched_limited(s, 2, &l, now);
}

static void walk(struct buf *trace, uint64_t seed)
{
    struct sched *s = sched_new(&(struct sched_opts){.seed = seed});
    struct flight *f = mem_new(struct flight);
    usec_t now = SEC;

    rng = seed * 7919 + 1;
    sched_trace(s, keep, trace);
    for (unsigned i = 0; i < 3; i++)
        sched_upstream_add(
            s, &(struct sched_upstream_opts){.window = 100, .start = 16, .aborts = true});
    sched_hint(s, 1, 32, 0);
    sched_upstream_aborts(s, 2, false);
    for (unsigned i = 0; i < 3000; i++) {
        if (i % 500 == 0)
            add_batch(s, i ? 0 : sched_group_add(s, 8, 2), now);
        if (i % 700 == 699)
            sched_batch_edit(s, pick(2), (int)pick(3), pick(2), 0, now + 600 * SEC);
        if (i % 900 == 899)
            sched_batch_idle(s, pick(2), pick(2));
        ask(s, now);
        f->n += (unsigned)sched_next(s, f->t + f->n, pick(32), now);
        while (f->n && (pick(3) || f->n > 500))
            land(s, f, now);
        now += pick(200000);
    }
    sched_batch_close(s, 0);
    sched_trace(s, NULL, NULL);
    sched_free(s);
    mem_free(f);
}

TEST(a_recorded_walk_is_played_again_with_the_same_decisions)
{
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct buf trace;
        struct sched_replay r;
        struct err e = {0};

        buf_init(&trace, 64u << 20);
        walk(&trace, seed);
        EQ_RC(sched_replay(trace.p, trace.n, &r, &e), RC_OK);
        if (r.other)
            FAIL("seed %llu: %s", (unsigned long long)seed, e.text);
        OK(r.tickets > 500);
        OK(r.calls > r.tickets);
        buf_done(&trace);
    }
}

TEST(another_scheduler_is_told_from_the_recorded_one)
{
    struct buf trace;
    struct sched_replay r;
    struct err e = {0};
    size_t seed_at = 0;

    buf_init(&trace, 64u << 20);
    walk(&trace, 3);
    seed_at = strlen("batchd sched trace 1\n") + 2;
    trace.p[seed_at] = 2; /* max_attempts: 1 */
    if (sched_replay(trace.p, trace.n, &r, &e) == RC_OK)
        OK(r.other > 0);
    buf_done(&trace);
}

TEST(a_trace_that_was_cut_off_plays_as_far_as_it_goes)
{
    struct buf trace;
    struct sched_replay r;
    struct err e;

    buf_init(&trace, 64u << 20);
    walk(&trace, 4);
    for (unsigned i = 0; i < 200; i++) {
        size_t n = 21 + (size_t)pick((unsigned)trace.n - 21);

        EQ_RC(sched_replay(trace.p, n, &r, &e), RC_OK);
        EQ_INT(r.other, 0);
    }
    EQ_RC(sched_replay("batchd", 6, &r, &e), RC_CORRUPT);
    buf_done(&trace);
}
