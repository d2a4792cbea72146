/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "tests/des/check_int.h"

#include <math.h>
#include <stdlib.h>

struct result check_batches(const struct run *r, const struct work *work, int until,
                            void (*ask)(const struct ours *u, void *ctx), void *ctx)
{
    struct world *w = world_new(&r->world, work);
    struct ours *u = ours_new(&r->ours, &r->world, work);
    struct policy p = ours_policy(u, w);
    struct result res;

    if (until >= 0)
        ours_until(u, (unsigned)until);
    world_run(w, &p, &res);
    if (ask)
        ask(u, ctx);
    ours_free(u);
    world_free(w);
    return res;
}

/* --- Interactive load --------------------------------------------------------------------- */

void check_interactive(struct report *rep)
{
    enum { ALONE, UNGATED, IDLE, WAYS };
    struct work *work = work_new("W4", 60000, CHECK_SEED);
    struct result res[WAYS];

    for (int way = 0; way < WAYS; way++) {
        struct run r = run_of("ours", 4, CHECK_SEED);
        struct batch_spec b = {.n = work->n, .idle = way == IDLE};

        r.world.foreground = 60;
        r.world.until = 360 * USEC_PER_SEC;
        if (way == ALONE)
            b.at = 2 * r.world.until;
        r.ours.batches = &b;
        r.ours.n_batches = 1;
        res[way] = check_batches(&r, work, -1, NULL, NULL);
    }
    claim_most(
        rep, res[IDLE].ttft_p99 / res[ALONE].ttft_p99, 1.5,
        "idle W4 beside 60 requests a second (alone %.3f s, ungated %.3f s): p99 of "
        "the time to the first token",
        res[ALONE].ttft_p99, res[UNGATED].ttft_p99);
    claim(rep, res[IDLE].tokens / res[UNGATED].tokens, 0.85,
          "idle W4 beside 60 requests a second: of the tokens of an ungated batch");
    work_free(work);
}

/* --- Tenants ------------------------------------------------------------------------------ */

struct shares {
    const struct group_spec *groups;
    unsigned n;
    double jain;
};

static void ask_shares(const struct ours *u, void *ctx)
{
    double sum = 0, squares = 0;
    struct shares *s = ctx;

    for (unsigned i = 0; i < s->n; i++) {
        double x = ours_group_work(u, i) / s->groups[i].weight;

        sum += x;
        squares += x * x;
    }
    s->jain = squares > 0 ? sum * sum / (s->n * squares) : 0;
}

void check_weights(struct report *rep)
{
    static const struct group_spec even[] = {{1}, {1}, {1}, {1}}, odd[] = {{1}, {2}, {4}};
    static const char *const some[] = {"W1", "W2", "W4"};

    for (unsigned i = 0; i < COUNTOF(some); i++)
        for (int uneven = 0; uneven < 2; uneven++) {
            struct work *work = work_new(some[i], 0, CHECK_SEED);
            struct run r = run_of("ours", 4, CHECK_SEED);
            struct bound b = work_bound(work, &r.world.model, 4);
            struct shares s = {uneven ? odd : even, uneven ? 3 : 4, 0};
            struct batch_spec batches[4];
            uint32_t from = 0;

            /* In number of requests they differ; none of them ends in time. */
            for (unsigned k = 0; k < s.n; k++) {
                uint32_t n = uneven ? work->n / 7 * (1u << k) : work->n / 4;

                batches[k] = (struct batch_spec){.from = from, .n = n, .group = k};
                from += n;
            }
            r.ours.batches = batches;
            r.ours.n_batches = s.n;
            r.ours.groups = s.groups;
            r.ours.n_groups = s.n;
            r.world.until = (usec_t)(b.seconds * 1e6 / 2);
            (void)check_batches(&r, work, -1, ask_shares, &s);
            claim(rep, s.jain, 0.98,
                  "%s, %s: Jain index of their work over their weights", some[i],
                  uneven ? "tenants of weights 1, 2, 4" : "four tenants");
            work_free(work);
        }
}

static void ask_ended(const struct ours *u, void *ctx)
{
    *(usec_t *)ctx = ours_ended(u, 1);
}

/* Of requests that are short: a long one cannot be twice as fast beside a full server as
 * alone, whoever is fair. */
void check_small(struct report *rep)
{
    static const struct group_spec groups[] = {{1}, {1}};
    uint32_t big = 1000000, small[] = {2000, 20000};
    struct work *work = work_new("short", big + 20000, CHECK_SEED);
    usec_t at = 60 * USEC_PER_SEC;

    for (unsigned i = 0; i < COUNTOF(small); i++) {
        struct batch_spec batches[] = {
            {.n = big}, {.from = big, .n = small[i], .group = 1, .at = at}};
        struct batch_spec alone = {.from = big, .n = small[i], .group = 1};
        struct run r = run_of("ours", 4, CHECK_SEED);
        usec_t ended = 0;
        double seconds;

        r.ours.groups = groups;
        r.ours.n_groups = 2;
        r.ours.batches = &alone;
        r.ours.n_batches = 1;
        seconds = check_batches(&r, work, -1, NULL, NULL).seconds;
        r.ours.batches = batches;
        r.ours.n_batches = 2;
        r.world.until = 36000 * USEC_PER_SEC;
        (void)check_batches(&r, work, 1, ask_ended, &ended);
        claim_most(
            rep, ended > at ? (double)(ended - at) / 1e6 / seconds : INFINITY, 2,
            "%u requests beside a million of another tenant's (alone %.1f s): time",
            small[i], seconds);
    }
    work_free(work);
}

/* --- Deadlines ---------------------------------------------------------------------------- */

#define BATCHES 200
#define LINES   1000
#define LONGEST 100 /* seconds of an answer of 4,096 tokens on a full server */

struct promises {
    struct batch_spec specs[BATCHES];
    bool feasible[BATCHES];
    double rate; /* requests a second that one replica makes */
    unsigned kept, broken, refused, feasibles, feasible_broken;
};

/* What the earliest deadline first keeps when requests flow at `rate`. */
static void judge(struct promises *p, double rate)
{
    double left[BATCHES], now = 0;
    unsigned came = 0, over = 0;

    while (over < BATCHES) {
        double next = came < BATCHES ? (double)p->specs[came].at / 1e6 : INFINITY, run;
        int best = -1;

        for (unsigned i = 0; i < came; i++)
            if (left[i] > 0 &&
                (best < 0 || p->specs[i].deadline < p->specs[best].deadline))
                best = (int)i;
        run = best < 0 ? INFINITY : left[best] / rate;
        if (now + run > next) {
            if (best >= 0)
                left[best] -= (next - now) * rate;
            now = next;
            left[came] = p->specs[came].n;
            came++;
            continue;
        }
        now += run;
        left[best] = 0;
        over++;
        p->feasible[best] = (now + LONGEST) * 1e6 <= (double)p->specs[best].deadline;
    }
}

static void make_promises(struct promises *p, double load, uint64_t seed)
{
    static const double windows[] = {300, 600, 1200};
    struct rng r = {.state = seed};
    double at = 0;

    for (uint32_t i = 0; i < BATCHES; i++) {
        double window = windows[rng_next(&r) % COUNTOF(windows)];

        p->specs[i] = (struct batch_spec){.from = i * LINES,
                                          .n = LINES,
                                          .at = (usec_t)(at * 1e6),
                                          .deadline = (usec_t)((at + window) * 1e6),
                                          .window = (usec_t)(window * 1e6),
                                          .group = (unsigned)(rng_next(&r) % 5)};
        at += rng_exponential(&r, LINES / (p->rate * load));
    }
}

/* Those that cannot be kept get more time until all can. */
static void make_feasible(struct promises *p)
{
    for (unsigned bad = 1; bad > 0;) {
        bad = 0;
        judge(p, 0.95 * p->rate);
        for (unsigned i = 0; i < BATCHES; i++) {
            if (p->feasible[i])
                continue;
            bad++;
            p->specs[i].window += p->specs[i].window / 4;
            p->specs[i].deadline = p->specs[i].at + p->specs[i].window;
        }
    }
}

static void ask_promises(const struct ours *u, void *ctx)
{
    struct promises *p = ctx;

    for (unsigned i = 0; i < BATCHES; i++) {
        usec_t ended = ours_ended(u, i);
        bool kept = ended > 0 && ended <= p->specs[i].deadline;

        p->feasibles += p->feasible[i];
        if (ours_refused(u, i))
            p->refused++;
        else if (kept)
            p->kept++;
        else
            p->broken++;
        p->feasible_broken += p->feasible[i] && !kept;
    }
}

void check_deadlines(struct report *rep)
{
    static const struct group_spec groups[5] = {{1}, {1}, {1}, {1}, {1}};
    struct work *work = work_new("W4", BATCHES * LINES, CHECK_SEED);
    struct run whole = run_of("ours", 1, CHECK_SEED);
    double rate = work->n / check_seconds(&whole, work);

    for (int over = 0; over < 2; over++) {
        struct promises *p = mem_new(struct promises);
        struct run r = run_of("ours", 1, CHECK_SEED);

        p->rate = rate;
        make_promises(p, over ? 1.5 : 1.0, CHECK_SEED);
        if (over)
            judge(p, 0.95 * p->rate);
        else
            make_feasible(p);
        r.ours.batches = p->specs;
        r.ours.n_batches = BATCHES;
        r.ours.groups = groups;
        r.ours.n_groups = 5;
        r.ours.admission = over != 0;
        r.world.until = 20 * 3600 * USEC_PER_SEC;
        (void)check_batches(&r, work, -1, ask_promises, p);
        if (over)
            claim(
                rep, p->kept / fmax(1, p->kept + p->broken), 0.99,
                "W4 at 1.5 times what one replica makes (%u of %u accepted, %u feasible): "
                "accepted promises kept",
                p->kept + p->broken, BATCHES, p->feasibles);
        else
            claim_most(rep, p->feasible_broken, 0,
                       "W4 at all that one replica makes (%u of %u feasible): feasible "
                       "promises broken",
                       p->feasibles, BATCHES);
        mem_free(p);
    }
    work_free(work);
}
