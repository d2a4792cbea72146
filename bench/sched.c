/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/sched: CPU time of the scheduler a ticket: asked for, answered, forgotten; and with
 * a million lines queued of which prefixes and lengths are known, their memory, too.
 *
 *     make benches && build/release/bench/sched
 */
#include "base/mem.h"
#include "sched/sched.h"

#include <malloc.h>
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

/* A million lines: groups of 20 that share 900 of 1,000 tokens, and every third line alone. */
static struct sched_item *million(uint32_t n)
{
    struct sched_item *it = mem_new_n(struct sched_item, n);

    for (uint32_t i = 0; i < n; i++)
        it[i] = (struct sched_item){.item = i,
                                    .prompt = 1000,
                                    .shared = i % 3 == 0 || i % 60 == 1 ? 8 : 900,
                                    .max_out = i % 3 ? 256 : 4096};
    return it;
}

static void measure_million(void)
{
    enum { N = 1000000 };
    static struct sched_ticket flight[FLIGHT];
    struct sched *s = sched_new(&(struct sched_opts){.seed = 1});
    struct sched_item *it = million(N);
    struct sched_outcome o = {
        .retry_after = -1, .has_usage = true, .prompt = 1000, .cached = 800};
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd, after;
    unsigned n = 0, done = 0, at = 0;
    double begun = seconds(), added;
    usec_t now = 0;

    for (unsigned i = 0; i < 4; i++)
        sched_upstream_add(s, &(struct sched_upstream_opts){.window = 256, .start = 256});
    sched_batch_add(
        s,
        &(struct sched_batch_opts){.n_items = N, .items = it, .deadline = USEC_INFINITY},
        0);
    added = seconds();
    after = mallinfo2().uordblks + mallinfo2().hblkhd;
    while (done < N) {
        struct sched_ticket t;

        n += (unsigned)sched_next(s, flight + n, n + 32 < FLIGHT ? 32 : FLIGHT - n, now);
        for (unsigned k = 0; k < 8 && n; k++) {
            at = (at + 7919) % n;
            t = flight[at];
            flight[at] = flight[--n];
            done++;
            o.output = 20 + done * 2654435761u % 100;
            IGNORE(sched_done(s, &t, &o, now));
        }
        IGNORE(sched_next_wake(s, now));
        now += 100;
    }
    printf("%-46s %6.0f ns a ticket; %.1f bytes a line; added in %.2f s\n",
           "a million lines with prefixes, 4 upstreams", (seconds() - added) / N * 1e9,
           (double)(after - before) / N, added - begun);
    sched_free(s);
    mem_free(it);
}

int main(void)
{
    for (unsigned i = 0; i < COUNTOF(shapes); i++)
        measure(&shapes[i]);
    measure_million();
    return 0;
}
