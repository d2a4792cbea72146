/* SPDX-License-Identifier: Apache-2.0 */
/* How many calls an upstream gets: by its queue, by rejects, by what they bring. */
#include "tests/unit/sched/fluid.h"

/* Like one GPU with a small model. */
static const struct fluid_server gpu = {.most = 20000, .half = 60, .slots = 128};

static const struct sched_upstream_opts from_16 = {.window = 1024, .start = 16};
static const struct sched_upstream_opts plain = {.window = 1024};

TEST(a_server_that_tells_its_queue_is_kept_busy_and_no_more)
{
    struct fluid *f = fluid_new(1, &from_16, &gpu);
    struct sched_up_view v;

    fluid_batch(f, false);
    fluid_run(f, 10 * SEC);
    v = fluid_view(f, 0);
    OK(v.window >= 128 && v.window <= 160);
    EQ_INT(v.by, SCHED_BY_METRICS);
    OK(fluid_run(f, 60 * SEC) > 0.97 * fluid_best(&gpu, 128));
    OK(f->up[0].max_inflight <= 170);
    fluid_free(f);
}

TEST(a_whole_run_from_16_costs_little)
{
    struct fluid *f = fluid_new(1, &from_16, &gpu);
    double got;

    fluid_batch(f, false);
    got = fluid_run(f, 120 * SEC) / fluid_best(&gpu, 128);
    t_note("%.3f of the best window, from 16", got);
    OK(got > 0.95);
    fluid_free(f);
}

TEST(metrics_that_come_seldom_are_enough)
{
    struct fluid_server slow = gpu;
    struct fluid *f;
    double got;

    slow.every = 5 * SEC;
    f = fluid_new(1, &from_16, &slow);
    fluid_batch(f, false);
    got = fluid_run(f, 120 * SEC) / fluid_best(&gpu, 128);
    t_note("%.3f of the best window, from 16, news every 5 s", got);
    OK(got > 0.85);
    fluid_free(f);
}

TEST(a_server_that_takes_half_or_twice_as_many_is_followed)
{
    struct fluid *f = fluid_new(1, &plain, &gpu);
    struct sched_up_view v;

    fluid_batch(f, false);
    fluid_run(f, 20 * SEC);
    f->up[0].slots = 64;
    fluid_run(f, 15 * SEC); /* what is in flight must end first */
    v = fluid_view(f, 0);
    OK(v.window >= 64 && v.window <= 90);
    f->up[0].slots = 128;
    fluid_run(f, 10 * SEC);
    v = fluid_view(f, 0);
    OK(v.window >= 125 && v.window <= 160);
    fluid_free(f);
}

TEST(work_that_is_short_is_queued_by_time_not_by_number)
{
    struct fluid *f = fluid_new(1, &plain, &gpu);
    struct sched_up_view v;

    f->mean = 4; /* some two thousand calls a second */
    fluid_batch(f, false);
    fluid_run(f, 10 * SEC);
    OK(fluid_run(f, 20 * SEC) > 0.9 * fluid_best(&gpu, 128));
    v = fluid_view(f, 0);
    OK(v.window > 160);
    fluid_free(f);
}

TEST(a_window_that_is_not_used_does_not_grow)
{
    struct fluid *f = fluid_new(1, &from_16, &gpu);

    sched_batch_add(f->s,
                    &(struct sched_batch_opts){.n_items = 8, .deadline = USEC_INFINITY},
                    f->now);
    fluid_run(f, SEC);
    OK(f->up[0].max_inflight == 8);
    EQ_INT(fluid_view(f, 0).window, 16);
    fluid_free(f);
}

TEST(a_fixed_window_stays)
{
    struct sched_upstream_opts o = {.window = 40, .fixed = true};
    struct fluid *f = fluid_new(1, &o, &gpu);

    fluid_batch(f, false);
    fluid_run(f, 20 * SEC);
    EQ_INT(fluid_view(f, 0).window, 40);
    EQ_INT(fluid_view(f, 0).by, SCHED_BY_NOTHING);
    f->up[0].refuses = 0.5;
    fluid_run(f, 10 * SEC);
    OK(fluid_view(f, 0).window < 30);
    f->up[0].refuses = 0;
    fluid_run(f, 60 * SEC);
    EQ_INT(fluid_view(f, 0).window, 40);
    fluid_free(f);
}

/* --- Rejects ------------------------------------------------------------------------- */

static const struct limit_row {
    const char *name;
    unsigned limit;
    usec_t retry_after;
    enum fluid_metrics metrics;
} limits[] = {
    {"1", 1, 0, METRICS_NONE},
    {"4", 4, 0, METRICS_NONE},
    {"16", 16, 0, METRICS_NONE},
    {"64", 64, 0, METRICS_NONE},
    {"200", 200, 0, METRICS_NONE},
    {"64, Retry-After", 64, SEC, METRICS_NONE},
    {"64, metrics", 64, 0, METRICS_TRUE},
    {"64, metrics and Retry-After", 64, SEC, METRICS_TRUE},
};

TEST(a_limit_is_found_and_hardly_ever_tried_again)
{
    for (unsigned i = 0; i < COUNTOF(limits); i++) {
        struct fluid_server u = gpu;
        struct fluid *f;
        double got, refused;

        u.slots = 1000;
        u.limit = limits[i].limit;
        u.retry_after = limits[i].retry_after;
        u.metrics = limits[i].metrics;
        f = fluid_new(1, &plain, &u);
        fluid_batch(f, false);
        t_row(limits[i].name);
        fluid_run(f, 20 * SEC);
        OK(f->up[0].refused <= 2 * SCHED_START); /* what it begins with, and once more */
        got = fluid_run(f, 300 * SEC) / fluid_best(&u, limits[i].limit);
        refused = (double)f->up[0].refused / (double)f->up[0].came;
        t_note("limit %s: %.3f of its best, %.4f of %llu calls refused", limits[i].name,
               got, refused, (unsigned long long)f->up[0].came);
        OK(got > 0.95);
        OK(refused < 0.01);
        fluid_free(f);
    }
}

TEST(a_limit_that_is_lifted_is_noticed)
{
    struct fluid_server u = gpu;
    struct fluid *f;

    u.slots = 1000;
    u.limit = 32;
    u.metrics = METRICS_NONE;
    f = fluid_new(1, &plain, &u);
    fluid_batch(f, false);
    fluid_run(f, 60 * SEC);
    EQ_INT(fluid_view(f, 0).window, 32);
    f->up[0].limit = 0;
    fluid_run(f, 120 * SEC);
    OK(fluid_view(f, 0).window > 64);
    f->up[0].limit = 16;
    fluid_run(f, 30 * SEC);
    OK(fluid_view(f, 0).window <= 20);
    fluid_free(f);
}

TEST(refusals_at_random_do_not_starve_the_window)
{
    struct fluid_server u = gpu;
    struct fluid *f;

    u.metrics = METRICS_NONE;
    u.refuses = 0.01;
    f = fluid_new(1, &plain, &u);
    fluid_batch(f, false);
    fluid_run(f, 300 * SEC);
    OK(fluid_view(f, 0).window >= 50);
    fluid_free(f);
}

/* --- No metrics ---------------------------------------------------------------------- */

TEST(without_metrics_the_knee_is_found)
{
    static const struct {
        const char *name;
        double half;
        unsigned slots, start;
    } rows[] = {{"small", 8, 32, 64},
                {"gpu", 60, 128, 64},
                {"large", 150, 400, 64},
                {"gpu from 16", 60, 128, 16}};

    for (unsigned i = 0; i < COUNTOF(rows); i++) {
        struct fluid_server u = gpu;
        struct fluid *f;
        double got;

        u.half = rows[i].half;
        u.slots = rows[i].slots;
        u.metrics = METRICS_NONE;
        f = fluid_new(
            1, &(struct sched_upstream_opts){.window = 1024, .start = rows[i].start}, &u);
        fluid_batch(f, false);
        t_row(rows[i].name);
        got = fluid_run(f, 300 * SEC) / fluid_best(&u, u.slots);
        t_note("%s: %.3f of the best window, which is %u; ours %u", rows[i].name, got,
               u.slots, fluid_view(f, 0).window);
        EQ_INT(fluid_view(f, 0).by, SCHED_BY_KNEE);
        OK(got > 0.90);
        fluid_free(f);
    }
}

TEST(metrics_that_end_or_tell_of_others_are_not_followed)
{
    static const enum fluid_metrics how[] = {METRICS_NONE, METRICS_FROZEN,
                                             METRICS_FOREIGN};

    for (unsigned i = 0; i < COUNTOF(how); i++) {
        struct fluid *f = fluid_new(1, &plain, &gpu);
        unsigned window;

        fluid_batch(f, false);
        fluid_run(f, 20 * SEC);
        f->up[0].metrics = how[i];
        t_row(how[i] == METRICS_NONE     ? "none"
              : how[i] == METRICS_FROZEN ? "frozen"
                                         : "foreign");
        OK(fluid_run(f, 120 * SEC) > 0.93 * fluid_best(&gpu, 128));
        window = fluid_view(f, 0).window;
        OK(window >= 64 && window <= 512);
        f->up[0].metrics = METRICS_TRUE;
        fluid_run(f, 90 * SEC);
        window = fluid_view(f, 0).window;
        OK(window >= 120 && window <= 160);
        fluid_free(f);
    }
}

TEST(what_a_server_says_of_itself_is_where_it_begins)
{
    struct sched *s = sched_new(&(struct sched_opts){.seed = 1});
    struct sched_up_view v;

    EQ_INT(sched_upstream_add(s, &plain), 0);
    sched_hint(s, 0, 4, 0); /* llama.cpp: total_slots */
    sched_upstream_view(s, 0, &v);
    EQ_INT(v.window, 5);
    EQ_INT(sched_upstream_add(s, &plain), 1);
    sched_hint(s, 1, 2000, 0); /* no more than is allowed */
    sched_upstream_view(s, 1, &v);
    EQ_INT(v.window, 1024);
    EQ_INT(
        sched_upstream_add(s, &(struct sched_upstream_opts){.window = 8, .fixed = true}),
        2);
    sched_hint(s, 2, 64, 0);
    sched_upstream_view(s, 2, &v);
    EQ_INT(v.window, 8);
    sched_free(s);
}

/* --- Time and death ------------------------------------------------------------------ */

TEST(a_step_of_the_clock_changes_nothing)
{
    struct fluid *f = fluid_new(1, &plain, &gpu);

    fluid_batch(f, false);
    fluid_run(f, 20 * SEC);
    f->now += 3600 * SEC; /* suspended */
    OK(fluid_run(f, 20 * SEC) > 0.95 * fluid_best(&gpu, 128));
    OK(fluid_view(f, 0).window <= 170);
    OK(!fluid_view(f, 0).slow);
    fluid_free(f);
}

TEST(a_host_that_comes_back_begins_with_a_quarter_of_its_start)
{
    struct fluid *f = fluid_new(1, &plain, &gpu);

    fluid_batch(f, false);
    fluid_run(f, 20 * SEC);
    f->up[0].dead = true;
    fluid_run(f, 20 * SEC);
    EQ_INT(fluid_view(f, 0).state, SCHED_UP_DEAD);
    f->up[0].dead = false;
    while (fluid_view(f, 0).state != SCHED_UP_OPEN)
        fluid_step(f);
    OK(fluid_view(f, 0).window <= 30);
    fluid_run(f, 20 * SEC);
    OK(fluid_view(f, 0).window >= 120);
    fluid_free(f);
}

/* --- Idle work ----------------------------------------------------------------------- */

TEST(idle_work_leaves_room_and_yields_when_others_come)
{
    struct fluid *f = fluid_new(1, &plain, &gpu);

    sched_hint(f->s, 0, 128, 0);
    fluid_batch(f, true);
    fluid_run(f, 60 * SEC);
    OK(f->up[0].running >= 60 && f->up[0].running <= 80); /* 0.55 of 128 */
    f->up[0].others = 70;
    fluid_run(f, SEC);
    f->up[0].max_inflight = f->up[0].inflight;
    fluid_run(f, 20 * SEC);
    OK(f->up[0].running + f->up[0].others <= 110);
    f->up[0].others = 0;
    fluid_run(f, 60 * SEC);
    OK(f->up[0].running >= 60);
    fluid_free(f);
}

TEST(idle_work_without_metrics_takes_its_share_of_the_window)
{
    struct sched_upstream_opts o = {.window = 100, .fixed = true, .reserve = 0.25};
    struct fluid *f = fluid_new(1, &o, &gpu);

    f->up[0].metrics = METRICS_NONE;
    fluid_batch(f, true);
    fluid_run(f, 10 * SEC);
    EQ_INT(f->up[0].max_inflight, 75);
    fluid_free(f);
}
