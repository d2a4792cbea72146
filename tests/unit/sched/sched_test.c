/* SPDX-License-Identifier: Apache-2.0 */
#include "sched/sched.h"
#include "tests/lib/sched.h"
#include "tests/lib/t.h"

#define SEC USEC_PER_SEC

static struct sched *make(unsigned ups, unsigned window)
{
    struct sched *s = sched_new(&(struct sched_opts){.seed = 7});

    for (unsigned i = 0; i < ups; i++)
        EQ_INT(up_add(s, window), i);
    return s;
}

static uint32_t add(struct sched *s, uint32_t n)
{
    return sched_batch_add(s, &(struct sched_batch_opts){.n_items = n, .deadline = SEC},
                           0);
}

static struct sched_ticket take_one(struct sched *s, usec_t now)
{
    struct sched_ticket t;

    EQ_INT(sched_next(s, &t, 1, now), 1);
    return t;
}

TEST(lines_go_out_in_file_order_up_to_the_window)
{
    struct sched *s = make(1, 3);
    struct sched_ticket t[8];

    add(s, 5);
    EQ_INT(sched_next(s, t, 8, 0), 3);
    for (unsigned i = 0; i < 3; i++)
        EQ_INT(t[i].item, i);
    EQ_INT(back(s, &t[1], OUTCOME_DONE, -1, 1), SCHED_FINAL);
    EQ_INT(sched_next(s, t, 8, 1), 1);
    EQ_INT(t[0].item, 3);
    sched_free(s);
}

TEST(what_was_done_before_is_not_handed_out_again)
{
    struct sched *s = make(1, 64);
    struct sched_ticket t[16];
    uint8_t done[2] = {0x0f, 0x01}; /* items 0-3 and 8 of 10 */

    sched_batch_add(
        s, &(struct sched_batch_opts){.n_items = 10, .done = done, .deadline = SEC}, 0);
    EQ_INT(sched_batch_waiting(s, 0), 5);
    EQ_INT(sched_next(s, t, 16, 0), 5);
    EQ_INT(t[0].item, 4);
    EQ_INT(t[3].item, 7);
    EQ_INT(t[4].item, 9);
    sched_free(s);
}

TEST(of_a_groups_batches_the_earliest_deadline_goes_first)
{
    struct sched *s = make(1, 4);
    struct sched_ticket t[4];

    add(s, 100); /* by SEC */
    add(s, 1);
    EQ_INT(sched_batch_add(
               s, &(struct sched_batch_opts){.n_items = 2, .deadline = SEC - 1}, 0),
           2);
    EQ_INT(sched_next(s, t, 4, 0), 4);
    EQ_INT(t[0].batch, 2);
    EQ_INT(t[1].batch, 2);
    EQ_INT(t[2].batch, 0);
    EQ_INT(t[3].batch, 0);
    sched_free(s);
}

TEST(calls_spread_over_upstreams_by_share_of_window)
{
    struct sched *s = sched_new(&(struct sched_opts){.seed = 1});
    struct sched_ticket t[12];
    unsigned n[2] = {0};

    up_add(s, 8);
    up_add(s, 4);
    add(s, 100);
    EQ_INT(sched_next(s, t, 12, 0), 12);
    for (unsigned i = 0; i < 6; i++)
        n[t[i].upstream]++;
    EQ_INT(n[0], 4);
    EQ_INT(n[1], 2);
    sched_free(s);
}

TEST(a_transient_failure_is_tried_five_times_then_final)
{
    struct sched *s = make(1, 1);
    usec_t now = 0;

    add(s, 1);
    for (unsigned i = 0; i < 5; i++) {
        struct sched_ticket t, none;

        now += 61 * SEC;
        t = take_one(s, now);
        EQ_INT(t.attempt, i);
        EQ_INT(back(s, &t, OUTCOME_TRANSIENT, -1, now),
               i < 4 ? SCHED_RETRY : SCHED_FINAL);
        if (i < 4)
            OK(sched_next_wake(s, now) > now &&
               sched_next_wake(s, now) <= now + 60 * SEC);
        EQ_INT(sched_next(s, &none, 1, now), 0);
    }
    sched_free(s);
}

TEST(a_retry_prefers_another_upstream)
{
    struct sched *s = make(2, 4);
    struct sched_ticket t, again;

    add(s, 1);
    t = take_one(s, 0);
    EQ_INT(back(s, &t, OUTCOME_BROKEN, -1, 0), SCHED_RETRY);
    again = take_one(s, 61 * SEC);
    OK(again.upstream != t.upstream);
    sched_free(s);
}

TEST(backoff_has_full_jitter_below_the_doubled_base)
{
    usec_t low = USEC_INFINITY, high = 0;

    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct sched *s = sched_new(&(struct sched_opts){.seed = seed});
        struct sched_ticket t;
        usec_t wait;

        up_add(s, 1);
        add(s, 1);
        t = take_one(s, 0);
        EQ_INT(back(s, &t, OUTCOME_TRANSIENT, -1, 0), SCHED_RETRY);
        wait = sched_next_wake(s, 0);
        if (wait == USEC_INFINITY) /* a jitter of nothing */
            wait = 0;
        low = wait < low ? wait : low;
        high = wait > high ? wait : high;
        sched_free(s);
    }
    OK(low < SEC / 10);
    OK(high > SEC * 9 / 10 && high < SEC);
}

TEST(rejects_never_use_up_a_line_and_shrink_the_window_once_a_flight)
{
    struct sched *s = make(1, 100);
    struct sched_ticket t[100];
    struct sched_up_view v;

    add(s, 50);
    add(s, 50);
    EQ_INT(sched_next(s, t, 100, 10), 100);
    for (unsigned i = 0; i < 50; i++)
        EQ_INT(back(s, &t[i], OUTCOME_CAPACITY, -1, 20 + i), SCHED_RETRY);
    sched_upstream_view(s, 0, &v);
    OK(v.window >= 50 && v.window < 100); /* one cut, not fifty */
    for (unsigned round = 0; round < 50; round++) {
        struct sched_ticket one;
        usec_t now = (round + 2) * 60 * SEC;

        if (sched_next(s, &one, 1, now) == 1)
            EQ_INT(back(s, &one, OUTCOME_CAPACITY, -1, now), SCHED_RETRY);
    }
    sched_free(s);
}

TEST(retry_after_closes_the_upstream_until_then)
{
    struct sched *s = make(1, 4);
    struct sched_ticket t, none;

    add(s, 3);
    t = take_one(s, 0);
    EQ_INT(back(s, &t, OUTCOME_CAPACITY, 7 * SEC, SEC), SCHED_RETRY);
    EQ_INT(sched_next(s, &none, 1, SEC), 0);
    EQ_INT(sched_next_wake(s, SEC), 8 * SEC);
    EQ_INT(sched_next(s, &none, 1, 8 * SEC - 1), 0);
    EQ_INT(sched_next(s, &none, 1, 8 * SEC), 1);
    sched_free(s);
}

TEST(a_dead_host_is_probed_and_costs_no_attempt)
{
    struct sched *s = make(1, 3);
    struct sched_ticket t[3], none;
    struct sched_up_view v;
    uint16_t up = 9;
    usec_t now = 0;

    add(s, 3);
    EQ_INT(sched_next(s, t, 3, 0), 3);
    for (unsigned i = 0; i < 3; i++)
        EQ_INT(back(s, &t[i], OUTCOME_HOST, -1, 0), SCHED_RETRY);
    sched_upstream_view(s, 0, &v);
    EQ_INT(v.state, SCHED_UP_DEAD);
    for (unsigned hour = 0; hour < 200; hour++) { /* probes go on, no line is used up */
        EQ_INT(sched_next(s, &none, 1, now), 0);
        now = sched_next_wake(s, now);
        OK(now < USEC_INFINITY);
        OK(sched_probe(s, &up, now));
        EQ_INT(up, 0);
        OK(!sched_probe(s, &up, now)); /* one at a time */
        sched_probe_done(s, 0, false, now);
    }
    OK(sched_next_wake(s, now) - now <= 45 * SEC);
    now = sched_next_wake(s, now);
    OK(sched_probe(s, &up, now));
    sched_probe_done(s, 0, true, now);
    EQ_INT(sched_next(s, t, 3, now), 1); /* one trial */
    EQ_INT(t[0].attempt, 0);
    EQ_INT(back(s, &t[0], OUTCOME_DONE, -1, now), SCHED_FINAL);
    sched_upstream_view(s, 0, &v);
    EQ_INT(v.state, SCHED_UP_OPEN);
    EQ_INT(sched_next(s, t, 3, now), 2); /* a quarter of three, and one for the success */
    sched_free(s);
}

TEST(a_storm_of_errors_opens_the_breaker_and_spares_the_lines)
{
    struct sched *s = make(1, 100);
    struct sched_ticket t[100];
    struct sched_up_view v;
    unsigned counted = 0;

    add(s, 50);
    add(s, 50);
    for (unsigned round = 0; round < 3; round++) {
        usec_t now = round * 100 * SEC;
        size_t n = sched_next(s, t, 100, now);
        uint16_t up;

        for (size_t i = 0; i < n; i++) {
            EQ_INT(back(s, &t[i], OUTCOME_TRANSIENT, -1, now), SCHED_RETRY);
            counted++;
        }
        sched_upstream_view(s, 0, &v);
        EQ_INT(v.state, SCHED_UP_DEAD);
        if (sched_probe(s, &up, now + 99 * SEC))
            sched_probe_done(s, up, true, now + 99 * SEC);
    }
    EQ_INT(counted, 102); /* a flight, then one trial a round */
    sched_free(s);
}

TEST(a_lone_line_that_always_fails_ends_although_its_upstream_has_no_success)
{
    struct sched *s = make(1, 1);
    struct sched_ticket t;
    unsigned calls = 0;
    usec_t now = 0;
    enum sched_verdict v = SCHED_RETRY;

    add(s, 1);
    while (v == SCHED_RETRY && calls < 100) {
        now += 100 * SEC;
        t = take_one(s, now);
        v = back(s, &t, OUTCOME_BROKEN, -1, now);
        calls++;
    }
    EQ_INT(calls, 5);
    sched_free(s);
}

TEST(a_line_that_kills_its_server_takes_no_other_with_it)
{
    struct sched *s = make(1, 8);
    struct sched_ticket t[8];
    unsigned ended = 0, lost = 0;
    usec_t now = 0;

    add(s, 8); /* item 3 is poison: all in flight with it break */
    while (ended < 8 && now < 100000 * SEC) {
        size_t n = sched_next(s, t, 8, now += SEC);
        bool poison = false;
        uint16_t up;

        for (size_t i = 0; i < n; i++)
            poison = poison || t[i].item == 3;
        for (size_t i = 0; i < n; i++) {
            bool final = back(s, &t[i], poison ? OUTCOME_BROKEN : OUTCOME_DONE, -1,
                              now) == SCHED_FINAL;

            ended += final;
            lost += final && poison && t[i].item != 3;
        }
        while (sched_probe(s, &up, now))
            sched_probe_done(s, up, true, now);
    }
    EQ_INT(ended, 8);
    EQ_INT(lost, 0);
    sched_free(s);
}

TEST(a_closed_batch_hands_out_nothing_and_takes_no_retry)
{
    struct sched *s = make(1, 4);
    struct sched_ticket t[4], none;

    add(s, 10);
    EQ_INT(sched_next(s, t, 4, 0), 4);
    EQ_INT(back(s, &t[0], OUTCOME_TRANSIENT, -1, 0), SCHED_RETRY);
    sched_batch_close(s, 0);
    EQ_INT(sched_batch_waiting(s, 0), 0);
    EQ_INT(sched_next(s, &none, 1, 100 * SEC), 0);
    EQ_INT(back(s, &t[1], OUTCOME_TRANSIENT, -1, 0), SCHED_FINAL);
    EQ_INT(back(s, &t[2], OUTCOME_DONE, -1, 0), SCHED_FINAL);
    sched_aborted(s, &t[3], 0);
    sched_batch_remove(s, 0);
    EQ_INT(sched_next_wake(s, 100 * SEC), USEC_INFINITY);
    sched_free(s);
}

TEST(an_aborted_call_comes_again_at_once_when_its_batch_is_open)
{
    struct sched *s = make(1, 1);
    struct sched_ticket t;

    add(s, 1);
    t = take_one(s, 0);
    sched_aborted(s, &t, 5);
    t = take_one(s, 5);
    EQ_INT(t.item, 0);
    EQ_INT(t.attempt, 0);
    sched_free(s);
}

TEST(a_pause_holds_everything_back)
{
    struct sched *s = make(1, 4);
    struct sched_ticket t;

    add(s, 2);
    sched_pause(s, true);
    EQ_INT(sched_next(s, &t, 1, 0), 0);
    sched_pause(s, false);
    EQ_INT(sched_next(s, &t, 1, 0), 1);
    sched_free(s);
}

static void remove_in_flight(void)
{
    struct sched *s = make(1, 1);

    add(s, 1);
    take_one(s, 0);
    sched_batch_remove(s, 0);
}

TEST(removing_a_batch_with_calls_in_flight_is_a_bug)
{
    PANICS(remove_in_flight, "inflight");
}
