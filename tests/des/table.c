/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/des/table.h"
#include "base/mem.h"
#include "tests/des/jobs.h"
#include "tests/des/run.h"

#include <math.h>
#include <stdio.h>

#define REPLICAS 4

/* The last counts for nothing: embeddings have no prefix and no length. */
static const char *const names[] = {"W1", "W1b",  "W2",    "W3", "W4",
                                    "W5", "conv", "synth", "W7"};
#define MEANT 8

static const char *const windows[] = {"fcfs:64", "fcfs:128", "fcfs:256", "fcfs:320",
                                      "fcfs:512"};

enum column { FCFS, TEN, ORDER, OURS, COLUMNS };

struct cell { /* of one workload and seed */
    double bound, hits_bound;
    double share[2][COLUMNS]; /* of the bound; without and with faults */
    double hits[2], tail[2], calls[2];
};

static double share_of(const char *policy, const struct work *work, uint64_t seed,
                       double bound, bool faults, struct result *ret)
{
    struct run r = run_of(policy, REPLICAS, seed);
    struct trouble troubles[STANDARD_TROUBLES];

    if (faults)
        standard_faults(&r, bound, troubles);
    *ret = run_do(&r, work);
    return ret->stuck || ret->failed ? 1e-9 : bound / ret->seconds;
}

/* The best of the windows that do not move; whose, for the others. */
static double best_of(const char *const *policies, size_t n, const struct work *work,
                      uint64_t seed, double bound, bool faults)
{
    struct result res;
    double best = 0;

    for (size_t i = 0; i < n; i++)
        best = fmax(best, share_of(policies[i], work, seed, bound, faults, &res));
    return best;
}

static void measure(void *ctx, unsigned job, void *result)
{
    static const char *const orders[] = {"order:64", "order:128", "order:256",
                                         "order:320", "order:512"};
    const struct table_opts *o = ctx;
    uint64_t seed = o->first + job / COUNTOF(names);
    struct work *work = work_new(names[job % COUNTOF(names)], 0, seed);
    struct run r = run_of("ours", REPLICAS, seed);
    struct bound b = work_bound(work, &r.world.model, REPLICAS);
    size_t first = o->quick ? 3 : 0, n = o->quick ? 1 : COUNTOF(windows);
    struct cell *c = result;
    struct result res;

    c->bound = b.seconds;
    c->hits_bound = b.hits;
    for (int f = 0; f < 2; f++) {
        c->share[f][FCFS] = best_of(windows + first, n, work, seed, b.seconds, f);
        c->share[f][ORDER] = best_of(orders + first, n, work, seed, b.seconds, f);
        c->share[f][TEN] = share_of("fcfs:10", work, seed, b.seconds, f, &res);
        c->share[f][OURS] = share_of("ours", work, seed, b.seconds, f, &res);
        c->hits[f] = res.hits;
        c->tail[f] = (res.seconds - res.t95) / res.seconds;
        c->calls[f] = (double)res.calls / work->n;
    }
    work_free(work);
}

/* Geometric mean over the seeds of one figure. */
static double mean(const struct cell *cells, unsigned seeds, unsigned w, size_t at)
{
    double sum = 0;

    for (unsigned s = 0; s < seeds; s++) {
        const struct cell *c = &cells[s * COUNTOF(names) + w];

        sum += log(fmax(1e-9, *(const double *)(const void *)((const char *)c + at)));
    }
    return exp(sum / seeds);
}

static void print(const struct cell *cells, unsigned seeds)
{
    double means[2][COLUMNS] = {{0}};

    printf("%-9s %9s | %7s %7s %7s %7s | %13s %6s | %7s %7s %7s %7s | %6s\n", "", "bound",
           "fcfs", "ten", "order", "ours", "hits (bound)", "tail", "fcfs", "ten", "order",
           "ours", "calls");
    printf("%-9s %9s | %31s | %20s | %31s |\n", "workload", "seconds",
           "percent of the bound", "of ours, percent", "with the standard faults");
    for (unsigned w = 0; w < COUNTOF(names); w++) {
        printf("%-9s %9.1f |", names[w],
               mean(cells, seeds, w, offsetof(struct cell, bound)));
        for (int f = 0; f < 2; f++) {
            for (int k = 0; k < COLUMNS; k++) {
                double x = mean(cells, seeds, w, offsetof(struct cell, share[f][k]));

                printf(" %7.1f", 100 * x);
                if (w < MEANT)
                    means[f][k] += log(x) / MEANT;
            }
            if (f == 0)
                printf(" | %5.1f (%5.1f) %6.1f |",
                       100 * mean(cells, seeds, w, offsetof(struct cell, hits[0])),
                       100 * mean(cells, seeds, w, offsetof(struct cell, hits_bound)),
                       100 * mean(cells, seeds, w, offsetof(struct cell, tail[0])));
        }
        printf(" | %6.3f\n", mean(cells, seeds, w, offsetof(struct cell, calls[1])));
    }
    printf("%-9s %9s |", "mean", "");
    for (int f = 0; f < 2; f++) {
        for (int k = 0; k < COLUMNS; k++)
            printf(" %7.1f", 100 * exp(means[f][k]));
        printf(f == 0 ? " | %20s |" : "\n", "");
    }
}

int table_print(const struct table_opts *o)
{
    unsigned seeds = o->last - o->first + 1, n = seeds * (unsigned)COUNTOF(names);
    struct cell *cells = jobs_results(n, sizeof *cells);
    struct table_opts copy = *o;

    printf(
        "%u replicas of h100-8b; 50,000 requests (conv 12,031, synth 3,993); seeds %u to "
        "%u, geometric means\n"
        "fcfs: file order, least loaded, %s; ten: the same with a window of 10;\n"
        "order: our order and placement, %s; ours: everything automatic; mean: without "
        "W7\n\n",
        REPLICAS, o->first, o->last, o->quick ? "a window of 320" : "at its best window",
        o->quick ? "a window of 320" : "the best window");
    if (!jobs_run(measure, &copy, n, cells, sizeof *cells, o->jobs)) {
        puts("a run did not come to its end");
        return 1;
    }
    print(cells, seeds);
    return 0;
}
