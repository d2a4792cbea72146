/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/des/check_int.h"

#include <math.h>

static const char *const names[] = {"W1", "W1b", "W2", "W3", "W4", "W5", "conv", "synth"};

double check_seconds(const struct run *r, const struct work *work)
{
    struct result res = run_do(r, work);

    return res.stuck ? INFINITY : res.seconds;
}

double check_best(const struct run *r, const struct work *work)
{
    static const char *const orders[] = {"order:64", "order:128", "order:192",
                                         "order:256", "order:384"};
    double best = INFINITY;

    for (size_t i = 0; i < COUNTOF(orders); i++) {
        struct run one = *r;

        one.policy = orders[i];
        one.ours = (struct ours_opts){.seed = r->ours.seed};
        best = fmin(best, check_seconds(&one, work));
    }
    return best;
}

/* --- Windows ------------------------------------------------------------------------------ */

/* W1 to W5 beside the best static window; `change` says what is different. */
static void windows(struct report *rep, void (*change)(struct run *r, bool ours),
                    double goal, const char *what)
{
    for (unsigned i = 0; i < 6; i++) {
        struct work *work = work_new(names[i], 0, CHECK_SEED);
        struct run r = run_of("ours", 4, CHECK_SEED), still = r;

        change(&r, true);
        change(&still, false);
        claim(rep, check_best(&still, work) / check_seconds(&r, work), goal,
              "%s %s: of the throughput of the best static window", names[i], what);
        work_free(work);
    }
}

static void from_16(struct run *r, bool ours)
{
    if (ours) {
        r->ours.start = 16;
        r->ours.blind = true;
    }
}

void check_start(struct report *rep)
{
    windows(rep, from_16, 0.95, "from 16");
}

static void every_5_s(struct run *r, bool ours)
{
    from_16(r, ours);
    r->world.scrape = 5 * USEC_PER_SEC;
}

void check_scrape(struct report *rep)
{
    windows(rep, every_5_s, 0.95, "from 16 with metrics every 5 s");
}

static void opaque(struct run *r, bool ours)
{
    r->ours.blind = ours;
    r->world.no_metrics = true;
}

/* The knee is for those who tell nothing; it has no goal but to be no worse than this. */
void check_knee(struct report *rep)
{
    windows(rep, opaque, 0.84, "without metrics");
}

void check_capacity(struct report *rep)
{
    static const char *const some[] = {"W1", "W2", "W4"};

    for (unsigned i = 0; i < COUNTOF(some); i++) {
        struct work *work = work_new(some[i], 0, CHECK_SEED);
        struct run r = run_of("ours", 4, CHECK_SEED);
        struct bound b = work_bound(work, &r.world.model, 4);
        struct trouble t[8];

        /* Half of it from a quarter of the run on, twice of it from there on. */
        for (unsigned k = 0; k < 4; k++) {
            usec_t at = (usec_t)(b.seconds * 1e6 / 4), mid = 2 * at + at / 2;

            t[k] = (struct trouble){.replica = k, .from = at, .to = mid, .factor = 0.5};
            t[4 + k] = (struct trouble){
                .replica = k, .from = mid + 1, .to = USEC_INFINITY / 2, .factor = 2};
        }
        r.world.troubles = t;
        r.world.n_troubles = 8;
        claim(rep, check_best(&r, work) / check_seconds(&r, work), 0.95,
              "%s, half the speed and then twice: of the throughput of the best static "
              "window",
              some[i]);
        work_free(work);
    }
}

void check_hard_limit(struct report *rep)
{
    static const char *const some[] = {"W1", "W4"};

    for (unsigned i = 0; i < COUNTOF(some); i++)
        for (int told = 0; told < 2; told++) {
            struct work *work = work_new(some[i], 0, CHECK_SEED);
            struct run r = run_of("ours", 4, CHECK_SEED), still;
            struct result res;

            r.world.model.max_seqs = 96;
            r.world.model.max_queued = 0;
            r.world.no_metrics = !told;
            r.ours.blind = !told;
            still = r;
            still.policy = "order:96";
            res = run_do(&r, work);
            claim_most(rep, (double)res.rejects / work->n, 0.01,
                       "%s, at most 96 a server, %s metrics: rejected calls a request",
                       some[i], told ? "with" : "without");
            claim(rep, check_seconds(&still, work) / (res.stuck ? INFINITY : res.seconds),
                  0.95, "%s, at most 96 a server, %s metrics: of a window of 96", some[i],
                  told ? "with" : "without");
            work_free(work);
        }
}

/* --- Prefixes ----------------------------------------------------------------------------- */

void check_hits(struct report *rep)
{
    static const char *const some[] = {"W1b", "W2", "conv", "synth"};

    for (unsigned i = 0; i < COUNTOF(some); i++) {
        struct work *work = work_new(some[i], 0, CHECK_SEED);
        struct run r = run_of("ours", 1, CHECK_SEED);
        struct bound b = work_bound(work, &r.world.model, 1);
        struct result res = run_do(&r, work);

        claim(rep, res.stuck ? 0 : res.hits / b.hits, 0.98,
              "%s on one replica: of the prompt tokens that an infinite cache finds",
              some[i]);
        work_free(work);
    }
}

void check_replicas(struct report *rep)
{
    for (unsigned n = 2; n <= 16; n *= 2) {
        struct work *work = work_new("W2", 0, CHECK_SEED);
        struct run r = run_of("ours", n, CHECK_SEED);
        struct bound b = work_bound(work, &r.world.model, n);

        claim(rep, b.seconds / check_seconds(&r, work), 0.93,
              "W2 on %u replicas: of the bound", n);
        work_free(work);
    }
}

/* --- Whole runs --------------------------------------------------------------------------- */

static void mean(struct report *rep, bool faults, double goal)
{
    double sum = 0;
    unsigned n = 0;

    for (unsigned i = 0; i < COUNTOF(names); i++) {
        double one = 0;

        for (unsigned seed = 11; seed <= 15; seed++, n++) {
            struct work *work = work_new(names[i], 0, seed);
            struct run r = run_of("ours", 4, seed);
            struct bound b = work_bound(work, &r.world.model, 4);
            struct trouble t[STANDARD_TROUBLES];

            if (faults)
                standard_faults(&r, b.seconds, t);
            one += log(b.seconds / check_seconds(&r, work));
            work_free(work);
        }
        sum += one;
    }
    claim(rep, exp(sum / n), goal, "geometric mean of bound / makespan%s",
          faults ? " with the standard faults" : "");
}

void check_mean(struct report *rep)
{
    mean(rep, false, 0.92);
}

void check_mean_faults(struct report *rep)
{
    mean(rep, true, 0.80);
}
