/* SPDX-License-Identifier: Apache-2.0 */
/* What upstreams get done: rates, latencies, timeouts, who is slow; when metrics are asked
 * for; how many lines that failed go out again. */
#include "sched/sched_int.h"
#include "tests/unit/sched/fluid.h"

static const struct fluid_server gpu = {.most = 20000, .half = 60, .slots = 128};
static const struct sched_upstream_opts plain = {.window = 1024};

TEST(the_rate_is_what_it_does_with_a_full_window)
{
    struct fluid *f = fluid_new(1, &plain, &gpu);
    double did, told;

    EQ_INT((int)fluid_view(f, 0).rate, 0);
    fluid_batch(f, false);
    fluid_run(f, 20 * SEC);
    did = fluid_run(f, 20 * SEC); /* tokens; work counts the context, too */
    told = fluid_view(f, 0).rate;
    OK(told > 0.95 * did && told < 1.6 * did);
    OK(up_rate_sure(f->s, 0) <= told);
    fluid_free(f);
}

TEST(a_window_that_is_not_full_tells_nothing)
{
    struct fluid *f = fluid_new(1, &plain, &gpu);

    sched_batch_add(f->s,
                    &(struct sched_batch_opts){.n_items = 40, .deadline = USEC_INFINITY},
                    f->now);
    fluid_run(f, 20 * SEC);
    EQ_INT((int)fluid_view(f, 0).done, 40);
    EQ_INT((int)fluid_view(f, 0).rate, 0);
    fluid_free(f);
}

TEST(longer_work_is_expected_to_take_longer)
{
    struct fluid *f = fluid_new(1, &plain, &gpu);
    double one, ten;

    EQ_INT(up_expect(f->s, 0, 100), 0);
    fluid_batch(f, false);
    fluid_run(f, 30 * SEC);
    one = (double)up_expect(f->s, 0, 200);
    ten = (double)up_expect(f->s, 0, 2000);
    OK(one > 0.5 * SEC && one < 5 * SEC); /* 128 share 13600 tokens a second */
    OK(ten > 6 * one && ten < 14 * one);
    fluid_free(f);
}

TEST(a_timeout_is_generous_and_unknown_at_first)
{
    struct fluid *f = fluid_new(1, &plain, &gpu);

    EQ_INT(up_timeout(f->s, 0, 1000), 0);
    fluid_batch(f, false);
    fluid_run(f, 30 * SEC);
    EQ_INT(up_timeout(f->s, 0, 0), 0); /* nobody knows how long its answer may be */
    EQ_INT(up_timeout(f->s, 0, 100), 120 * SEC);
    OK(up_timeout(f->s, 0, 100000) > 4 * up_expect(f->s, 0, 100000));
    fluid_free(f);
}

TEST(one_that_becomes_slow_is_found_and_forgiven)
{
    struct fluid *f = fluid_new(4, &plain, &gpu);

    fluid_batch(f, false);
    fluid_run(f, 30 * SEC);
    for (uint16_t i = 0; i < 4; i++)
        OK(!fluid_view(f, i).slow);
    f->up[2].most /= 10;
    fluid_run(f, 15 * SEC);
    for (uint16_t i = 0; i < 4; i++)
        EQ_INT(fluid_view(f, i).slow, i == 2);
    f->up[2].most *= 10;
    fluid_run(f, 30 * SEC);
    OK(!fluid_view(f, 2).slow);
    fluid_free(f);
}

TEST(one_that_answers_no_more_is_slow)
{
    struct fluid *f = fluid_new(3, &plain, &gpu);

    fluid_batch(f, false);
    fluid_run(f, 30 * SEC);
    f->up[0].most = 0;
    fluid_run(f, 30 * SEC);
    OK(fluid_view(f, 0).slow);
    OK(!fluid_view(f, 1).slow && !fluid_view(f, 2).slow);
    fluid_free(f);
}

TEST(not_all_are_slow_and_a_small_one_is_not)
{
    struct fluid *f = fluid_new(3, &plain, &gpu);

    f->up[0].slots = 8; /* does a seventh, as fast for each */
    f->up[0].half = 8;
    f->up[0].most = 1700;
    fluid_batch(f, false);
    fluid_run(f, 60 * SEC);
    OK(fluid_view(f, 0).rate < 0.2 * fluid_view(f, 1).rate);
    OK(!fluid_view(f, 0).slow);
    for (unsigned i = 0; i < 3; i++)
        f->up[i].most /= 20;
    fluid_run(f, 60 * SEC);
    OK(!fluid_view(f, 0).slow || !fluid_view(f, 1).slow || !fluid_view(f, 2).slow);
    fluid_free(f);
}

/* --- When metrics are asked for ------------------------------------------------------ */

/* How often in the time; each answer is NULL or a sample of an idle server. */
static unsigned asked(struct sched *s, usec_t *now, usec_t time, bool answers)
{
    static const struct sched_sample idle = {0, 0, 0, 0, -1, -1};
    usec_t until = *now + time;
    unsigned n = 0;
    uint16_t up;

    while (*now < until) {
        while (sched_sample_due(s, &up, *now)) {
            OK(!sched_sample_due(s, &up, *now)); /* one question at a time */
            sched_sampled(s, up, answers ? &idle : NULL, *now);
            n++;
        }
        OK(sched_next_wake(s, *now) > *now);
        *now = sched_next_wake(s, *now) < until ? sched_next_wake(s, *now) : until;
    }
    return n;
}

TEST(metrics_are_asked_for_as_often_as_they_are_needed)
{
    struct sched *s = sched_new(&(struct sched_opts){.seed = 9});
    struct sched_ticket t;
    usec_t now = SEC;
    unsigned n;

    sched_upstream_add(s, &plain);
    EQ_INT(sched_next_wake(s, now), USEC_INFINITY); /* nobody asks, nobody is woken */
    n = asked(s, &now, 100 * SEC, true);
    OK(n >= 18 && n <= 23);
    n = asked(s, &now, 1000 * SEC, false);
    OK(n <= 25); /* there are none: once a minute at last */
    sched_batch_add(
        s, &(struct sched_batch_opts){.n_items = 1, .deadline = USEC_INFINITY}, now);
    n = asked(s, &now, 100 * SEC, true);
    EQ_INT(sched_next(s, &t, 1, now), 1);
    n = asked(s, &now, 10 * SEC, true);
    OK(n >= 17 && n <= 23);
    sched_free(s);
}

/* --- Lines that failed --------------------------------------------------------------- */

TEST(lines_that_failed_wait_while_too_many_of_them_are_out)
{
    struct sched *s = sched_new(&(struct sched_opts){.seed = 9, .max_attempts = 100});
    struct sched_ticket t[64];
    usec_t now = SEC;
    unsigned again = 0;
    size_t n;

    sched_upstream_add(s, &(struct sched_upstream_opts){.window = 64, .fixed = true});
    sched_batch_add(
        s, &(struct sched_batch_opts){.n_items = 20, .deadline = USEC_INFINITY}, now);
    for (unsigned round = 0; round < 2; round++) { /* 19 fail, one is well: not dead */
        n = sched_next(s, t, 64, now);
        for (size_t i = 0; i < n; i++)
            IGNORE(sched_done(s, &t[i],
                              &(struct sched_outcome){.cls = i % 7 == 6 ? OUTCOME_DONE
                                                                        : OUTCOME_GATEWAY,
                                                      .retry_after = -1},
                              now));
        now += 100 * SEC;
    }
    n = sched_next(s, t, 64, now);
    for (size_t i = 0; i < n; i++)
        again += t[i].attempt > 0;
    OK(again >= 3 && again <= 8); /* they are not many, and there are always some */
    IGNORE(sched_done(
        s, &t[0], &(struct sched_outcome){.cls = OUTCOME_DONE, .retry_after = -1}, now));
    sched_free(s);
}
