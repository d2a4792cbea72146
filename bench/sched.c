/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/sched: CPU time of the scheduler a ticket: asked for, answered, forgotten.
 *
 *     make benches && build/release/bench/sched
 */
#include "base/mem.h"
#include "sched/sched.h"

#include <stdio.h>
#include <time.h>

#define TICKETS 4000000u
#define FLIGHT  4096

struct shape {
    const char *name;
    unsigned batches, upstreams, window, fails; /* one call in `fails` fails; 0: none */
};

static const struct shape shapes[] = {
    {"1 batch, 1 upstream", 1, 1, 64, 0},
    {"1 batch, 8 upstreams", 1, 8, 64, 0},
    {"20 batches, 4 upstreams", 20, 4, 64, 0},
    {"1000 batches, 4 upstreams", 1000, 4, 64, 0},
    {"20 batches, 4 upstreams, 1 call in 10 fails", 20, 4, 64, 10},
};

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void measure(const struct shape *sh)
{
    static struct sched_ticket flight[FLIGHT];
    struct sched *s = sched_new(&(struct sched_opts){.seed = 1, .max_attempts = 1000});
    unsigned n = 0, done = 0, at = 0;
    usec_t now = 0;
    struct sched_outcome o = {.retry_after = -1};
    double begun;

    for (unsigned i = 0; i < sh->upstreams; i++)
        sched_upstream_add(
            s, &(struct sched_upstream_opts){.window = sh->window, .start = sh->window});
    for (unsigned i = 0; i < sh->batches; i++)
        sched_batch_add(
            s,
            &(struct sched_batch_opts){.n_items = 2 * TICKETS / sh->batches + 1,
                                       .deadline = USEC_INFINITY},
            0);
    begun = seconds();
    while (done < TICKETS) {
        struct sched_ticket t;

        n += (unsigned)sched_next(s, flight + n, n + 32 < FLIGHT ? 32 : FLIGHT - n, now);
        for (unsigned k = 0; k < 8 && n; k++) { /* answers come out of order */
            at = (at + 7919) % n;
            t = flight[at];
            flight[at] = flight[--n];
            done++;
            o.cls = sh->fails && done % sh->fails == 0 ? OUTCOME_CAPACITY : OUTCOME_DONE;
            IGNORE(sched_done(s, &t, &o, now));
        }
        IGNORE(sched_next_wake(s, now));
        now += 100;
    }
    printf("%-46s %6.0f ns a ticket\n", sh->name, (seconds() - begun) / TICKETS * 1e9);
    sched_free(s);
}

int main(void)
{
    for (unsigned i = 0; i < COUNTOF(shapes); i++)
        measure(&shapes[i]);
    return 0;
}
