/* SPDX-License-Identifier: Apache-2.0 */
/* Deadlines, tenants and idle work, against a server that takes a second for each call. */
#include "sched/sched.h"
#include "base/mem.h"
#include "tests/lib/sched.h"
#include "tests/lib/t.h"

#include <math.h>

#define SEC    USEC_PER_SEC
#define WINDOW 32
#define TAKES  SEC

struct world {
    struct sched *s;
    struct sched_ticket flying[4096];
    usec_t ends[4096];
    unsigned head, tail; /* of a ring: all calls take as long */
    usec_t now;
    double served[8]; /* work, by batch */
    uint32_t done[8];
    usec_t finished[8];
    uint32_t lines[8];
};

static struct world *world_new(unsigned ups)
{
    struct world *w = mem_new(struct world);

    w->s = sched_new(&(struct sched_opts){.seed = 3});
    for (unsigned i = 0; i < ups; i++)
        sched_upstream_add(
            w->s, &(struct sched_upstream_opts){.window = WINDOW, .fixed = true});
    return w;
}

static void world_free(struct world *w)
{
    sched_free(w->s);
    mem_free(w);
}

static uint32_t add(struct world *w, struct sched_batch_opts o)
{
    uint32_t b;
    struct sched_item *items = mem_new_n(struct sched_item, o.n_items);

    for (uint32_t i = 0; i < o.n_items; i++)
        items[i] = (struct sched_item){.item = i, .prompt = 100, .max_out = 20};
    o.items = items;
    o.deadline = o.deadline ? o.deadline : USEC_INFINITY;
    b = sched_batch_add(w->s, &o, w->now);
    w->lines[b] = o.n_items;
    mem_free(items);
    return b;
}

static void send(struct world *w)
{
    struct sched_ticket t[64];
    size_t n;

    while ((n = sched_next(w->s, t, COUNTOF(t), w->now)) > 0) {
        for (size_t i = 0; i < n; i++) {
            w->flying[w->tail % 4096] = t[i];
            w->ends[w->tail % 4096] = w->now + TAKES;
            w->tail++;
        }
    }
}

static void come_back(struct world *w)
{
    const struct sched_ticket *t = &w->flying[w->head % 4096];
    struct sched_outcome o = {.cls = OUTCOME_DONE,
                              .retry_after = -1,
                              .has_usage = true,
                              .prompt = 100,
                              .output = 10};

    if (w->ends[w->head % 4096] > w->now)
        w->now = w->ends[w->head % 4096];
    w->head++;
    EQ_INT(sched_done(w->s, t, &o, w->now), SCHED_FINAL);
    w->served[t->batch] += 1;
    if (++w->done[t->batch] == w->lines[t->batch])
        w->finished[t->batch] = w->now;
}

static void run_until(struct world *w, usec_t until)
{
    send(w);
    while (w->head < w->tail && w->ends[w->head % 4096] <= until) {
        come_back(w);
        send(w);
    }
    w->now = until;
}

static double jain(const double *x, unsigned n)
{
    double sum = 0, squares = 0;

    for (unsigned i = 0; i < n; i++) {
        sum += x[i];
        squares += x[i] * x[i];
    }
    return sum * sum / (n * squares);
}

TEST(tenants_of_one_weight_are_served_alike_whatever_they_bring)
{
    struct world *w = world_new(2);

    for (unsigned i = 0; i < 4; i++) {
        uint16_t g = sched_group_add(w->s, 0, 1);

        add(w, (struct sched_batch_opts){.n_items = 20000u << i, .group = g});
    }
    run_until(w, 200 * SEC);
    t_note("Jain index %.4f", jain(w->served, 4));
    OK(jain(w->served, 4) >= 0.98);
    world_free(w);
}

TEST(tenants_are_served_by_their_weights)
{
    struct world *w = world_new(2);
    double by_weight[3];

    for (unsigned i = 0; i < 3; i++)
        add(w, (struct sched_batch_opts){.n_items = 100000,
                                         .group = sched_group_add(w->s, 0, 1u << i)});
    run_until(w, 200 * SEC);
    for (unsigned i = 0; i < 3; i++)
        by_weight[i] = w->served[i] / (1u << i);
    OK(jain(by_weight, 3) >= 0.98);
    world_free(w);
}

static usec_t small_takes(uint32_t beside)
{
    struct world *w = world_new(2);
    uint16_t big = sched_group_add(w->s, 0, 1), small = sched_group_add(w->s, 0, 1);
    uint32_t b;
    usec_t began, took;

    if (beside)
        add(w, (struct sched_batch_opts){.n_items = beside, .group = big});
    run_until(w, 100 * SEC);
    began = w->now;
    b = add(w, (struct sched_batch_opts){.n_items = 2000, .group = small});
    run_until(w, 400 * SEC);
    took = w->finished[b] - began;
    OK(w->finished[b] > 0);
    world_free(w);
    return took;
}

TEST(a_small_tenant_beside_a_million_lines_takes_twice_its_time_alone_at_the_most)
{
    usec_t alone = small_takes(0), beside = small_takes(1000000);

    t_note("alone %.1f s, beside a million lines %.1f s", (double)alone / SEC,
           (double)beside / SEC);
    OK(beside <= 2 * alone + 2 * TAKES); /* a call that is in flight is not taken back */
}

TEST(the_end_of_a_batch_is_told_as_it_will_be)
{
    struct world *w = world_new(2);
    struct sched_eta eta;
    uint32_t a, b;

    a = add(w, (struct sched_batch_opts){.n_items = 6400, .deadline = 4000 * SEC});
    sched_batch_eta(w->s, a, 0, &eta);
    EQ_INT(eta.likely, USEC_INFINITY); /* nothing is known yet */
    OK(eta.work > 6400 * 100);
    run_until(w, 30 * SEC);
    b = add(w, (struct sched_batch_opts){.n_items = 3200, .deadline = 8000 * SEC});
    sched_batch_eta(w->s, a, w->now, &eta); /* 64 lines a second */
    t_note("likely %.1f s, late %.1f s", (double)eta.likely / SEC,
           (double)eta.late / SEC);
    OK(eta.likely > 90 * SEC && eta.likely < 115 * SEC);
    OK(eta.late > eta.likely && eta.late < 130 * SEC);
    sched_batch_eta(w->s, b, w->now, &eta); /* behind the other */
    OK(eta.likely > 140 * SEC && eta.likely < 170 * SEC);
    run_until(w, 1000 * SEC);
    OK(w->finished[a] / SEC >= 99 && w->finished[a] / SEC <= 102);
    OK(w->finished[b] / SEC < 160);
    sched_batch_eta(w->s, b, w->now, &eta);
    OK(eta.work < 1);
    world_free(w);
}

TEST(a_batch_that_would_be_late_goes_before_tenants_that_were_served_less)
{
    struct world *w = world_new(2);
    uint16_t g[2] = {sched_group_add(w->s, 0, 1), sched_group_add(w->s, 0, 1)};
    struct sched_batch_view v;
    uint32_t b;

    add(w, (struct sched_batch_opts){.n_items = 100000, .group = g[0]});
    run_until(w, 20 * SEC);
    /* 100 s of work, 130 s of time: half of the servers is too little. */
    b = add(w, (struct sched_batch_opts){.n_items = 6400,
                                         .group = g[1],
                                         .deadline = 150 * SEC,
                                         .window = 130 * SEC});
    run_until(w, 100 * SEC);
    sched_batch_view(w->s, b, &v);
    OK(v.critical);
    run_until(w, 300 * SEC);
    OK(w->finished[b] > 0 && w->finished[b] <= 150 * SEC);
    world_free(w);
}

TEST(whether_a_batch_fits_is_asked_with_what_was_promised)
{
    struct world *w = world_new(2);
    uint32_t a, b;
    usec_t at;

    a = add(w, (struct sched_batch_opts){
                   .n_items = 6400, .deadline = 150 * SEC, .window = 150 * SEC});
    OK(sched_batch_fits(w->s, a, 0, &at)); /* nothing is known: nothing is refused */
    EQ_INT(at, USEC_INFINITY);
    run_until(w, 20 * SEC);
    b = add(w, (struct sched_batch_opts){
                   .n_items = 3200, .deadline = 160 * SEC, .window = 140 * SEC});
    OK(!sched_batch_fits(w->s, b, w->now, &at));
    OK(at > 160 * SEC && at < 190 * SEC); /* (80 + 50) / 0.85 s from now */
    sched_batch_edit(w->s, b, 0, false, 0, at + SEC);
    OK(sched_batch_fits(w->s, b, w->now, NULL));
    sched_batch_idle(w->s, a, true); /* idle work was promised nothing */
    sched_batch_edit(w->s, b, 0, false, 0, 160 * SEC);
    OK(sched_batch_fits(w->s, b, w->now, NULL));
    world_free(w);
}

TEST(idle_work_waits_for_all_others_until_its_own_time_has_come)
{
    struct world *w = world_new(2);
    uint32_t idle;

    add(w, (struct sched_batch_opts){.n_items = 100000});
    run_until(w, 20 * SEC);
    idle = add(w, (struct sched_batch_opts){.n_items = 1600,
                                            .idle = true,
                                            .group = sched_group_add(w->s, 0, 1),
                                            .deadline = 120 * SEC,
                                            .window = 100 * SEC});
    run_until(w, 80 * SEC); /* it would take 25 s alone */
    EQ_INT(w->done[idle], 0);
    run_until(w, 110 * SEC); /* from 120 - 25 / 0.8 on it is like any other */
    OK(w->done[idle] > 300);
    world_free(w);
}

TEST(a_batch_becomes_idle_work_and_back_while_it_runs)
{
    struct world *w = world_new(1);
    uint16_t g = sched_group_add(w->s, 0, 1);
    uint32_t a, b, done;

    a = add(w, (struct sched_batch_opts){.n_items = 10000});
    b = add(w, (struct sched_batch_opts){.n_items = 10000, .group = g});
    run_until(w, 10 * SEC);
    OK(w->done[a] > 100 && w->done[b] > 100);
    sched_batch_idle(w->s, b, true);
    run_until(w, 12 * SEC);
    done = w->done[b];
    run_until(w, 20 * SEC);
    EQ_INT(w->done[b], done);
    sched_batch_idle(w->s, b, false);
    run_until(w, 30 * SEC);
    OK(w->done[b] > done + 100);
    world_free(w);
}
