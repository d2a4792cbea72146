/* SPDX-License-Identifier: Apache-2.0 */
/* Who may go and who goes first: priorities, pauses, holds, groups, sets of upstreams. */
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

static uint32_t add(struct sched *s, struct sched_batch_opts o)
{
    o.n_items = o.n_items ? o.n_items : 100;
    return sched_batch_add(s, &o, 0);
}

static struct sched_set set_of(uint16_t a, uint16_t b)
{
    struct sched_set set = {{0}};

    sched_set_add(&set, a);
    sched_set_add(&set, b);
    return set;
}

/* How many of n tickets are of the batch. */
static unsigned count(const struct sched_ticket *t, size_t n, uint32_t batch)
{
    unsigned k = 0;

    for (size_t i = 0; i < n; i++)
        k += t[i].batch == batch;
    return k;
}

static void edit(struct sched *s, uint32_t batch, int priority, bool paused,
                 uint32_t hold)
{
    sched_batch_edit(s, batch, priority, paused, hold, USEC_INFINITY);
}

static void all_done(struct sched *s, const struct sched_ticket *t, size_t n, usec_t now)
{
    for (size_t i = 0; i < n; i++)
        EQ_INT(back(s, &t[i], OUTCOME_DONE, -1, now), SCHED_FINAL);
}

TEST(a_higher_priority_goes_first_and_equals_as_they_came)
{
    struct sched *s = make(1, 10);
    struct sched_ticket t[10];
    uint32_t low, high[2];

    low = add(s, (struct sched_batch_opts){.priority = -10});
    high[0] = add(s, (struct sched_batch_opts){.priority = 10, .n_items = 3});
    high[1] = add(s, (struct sched_batch_opts){.priority = 10, .n_items = 3});
    EQ_INT(sched_next(s, t, 10, 0), 10);
    for (unsigned i = 0; i < 6; i++)
        EQ_INT(t[i].batch, high[i / 3]);
    EQ_INT(count(t + 6, 4, low), 4);
    sched_free(s);
}

TEST(a_priority_raised_while_it_runs_overtakes)
{
    struct sched *s = make(1, 4);
    struct sched_ticket t[4];
    uint32_t a = add(s, (struct sched_batch_opts){.priority = 0});
    uint32_t b = add(s, (struct sched_batch_opts){.priority = 0});

    EQ_INT(sched_next(s, t, 4, 0), 4);
    EQ_INT(count(t, 4, a), 4);
    edit(s, b, 1, false, 0);
    all_done(s, t, 4, 1);
    EQ_INT(sched_next(s, t, 4, 1), 4);
    EQ_INT(count(t, 4, b), 4);
    edit(s, b, -1, false, 0);
    all_done(s, t, 4, 2);
    EQ_INT(sched_next(s, t, 4, 2), 4);
    EQ_INT(count(t, 4, a), 4);
    sched_free(s);
}

TEST(a_paused_batch_waits_with_its_retries_and_wakes_nobody)
{
    struct sched *s = make(1, 4);
    struct sched_ticket t[4];
    uint32_t b = add(s, (struct sched_batch_opts){.n_items = 4});

    EQ_INT(sched_next(s, t, 2, 0), 2);
    edit(s, b, 0, true, 0);
    EQ_INT(back(s, &t[0], OUTCOME_TRANSIENT, -1, 0), SCHED_RETRY);
    EQ_INT(back(s, &t[1], OUTCOME_DONE, -1, 0), SCHED_FINAL);
    EQ_INT(sched_next(s, t, 4, 10 * SEC), 0);
    EQ_INT(sched_next_wake(s, 10 * SEC), USEC_INFINITY);
    EQ_INT(sched_batch_waiting(s, b), 3);
    edit(s, b, 0, false, 0);
    EQ_INT(sched_next(s, t, 4, 10 * SEC), 3);
    EQ_INT(t[0].attempt, 1); /* the retry first */
    EQ_INT(t[1].item, 2);
    sched_free(s);
}

TEST(a_batch_added_paused_does_not_begin)
{
    struct sched *s = make(1, 4);
    struct sched_ticket t[4];
    uint32_t b = add(s, (struct sched_batch_opts){.paused = true});

    EQ_INT(sched_next(s, t, 4, 0), 0);
    EQ_INT(sched_next_wake(s, 0), USEC_INFINITY);
    edit(s, b, 0, false, 0);
    EQ_INT(sched_next(s, t, 4, 0), 4);
    sched_free(s);
}

TEST(only_what_is_below_the_hold_goes_out)
{
    struct sched *s = make(1, 8);
    struct sched_ticket t[8];
    uint8_t done = 0x02;
    uint32_t b =
        add(s, (struct sched_batch_opts){.n_items = 6, .hold = 3, .done = &done});

    EQ_INT(sched_next(s, t, 8, 0), 2); /* 0 and 2; 1 was done before */
    EQ_INT(t[1].item, 2);
    EQ_INT(sched_next_wake(s, 0), USEC_INFINITY);
    EQ_INT(back(s, &t[1], OUTCOME_CAPACITY, -1, 0), SCHED_RETRY);
    edit(s, b, 0, false, 2); /* now it is above */
    EQ_INT(sched_next(s, t, 8, SEC), 0);
    EQ_INT(sched_next_wake(s, SEC), USEC_INFINITY);
    edit(s, b, 0, false, 0);
    EQ_INT(sched_next(s, t, 8, SEC), 4);
    EQ_INT(t[0].item, 2);
    EQ_INT(t[1].item, 3);
    EQ_INT(t[3].item, 5);
    sched_free(s);
}

TEST(a_group_never_has_more_in_flight_than_its_limit_and_blocks_no_other)
{
    struct sched *s = make(1, 10);
    struct sched_ticket t[10];
    uint16_t small = sched_group_add(s, 3, 1), large = sched_group_add(s, 0, 1);
    uint32_t a[2], b;

    for (unsigned i = 0; i < 2; i++)
        a[i] = add(s, (struct sched_batch_opts){.group = small, .priority = 5});
    b = add(s, (struct sched_batch_opts){.group = large});
    EQ_INT(sched_next(s, t, 10, 0), 10);
    EQ_INT(count(t, 10, a[0]), 3);
    EQ_INT(count(t, 10, b), 7);
    all_done(s, t, 1, 0);
    EQ_INT(sched_next(s, t, 10, 0), 1);
    EQ_INT(t[0].batch, a[0]);
    sched_batch_close(s, a[0]);
    all_done(s, t, 1, 0);
    EQ_INT(sched_next(s, t, 10, 0), 1);
    EQ_INT(t[0].batch, a[1]);
    sched_free(s);
}

TEST(a_full_group_wakes_nobody_while_its_upstream_is_closed)
{
    struct sched *s = make(2, 1);
    struct sched_ticket t[2];
    uint16_t one = sched_group_add(s, 1, 1);

    add(s, (struct sched_batch_opts){.group = one});
    EQ_INT(sched_next(s, t, 2, 0), 1);
    EQ_INT(back(s, &t[0], OUTCOME_CAPACITY, 5 * SEC, 0), SCHED_RETRY);
    EQ_INT(sched_next(s, t, 2, 0), 1); /* by the other upstream; now the group is full */
    EQ_INT(sched_next_wake(s, 0), USEC_INFINITY);
    EQ_INT(back(s, &t[0], OUTCOME_CAPACITY, 5 * SEC, 0), SCHED_RETRY);
    EQ_INT(sched_next(s, t, 2, 0), 0);
    EQ_INT(sched_next_wake(s, 0), 5 * SEC);
    sched_free(s);
}

TEST(a_batch_stays_within_its_upstreams_and_blocks_no_other)
{
    struct sched *s = make(3, 2);
    struct sched_ticket t[8];
    struct sched_set first = set_of(0, 0), rest = set_of(1, 2), none = {{0}};
    uint32_t a = add(s, (struct sched_batch_opts){.upstreams = &first, .priority = 3});
    uint32_t b = add(s, (struct sched_batch_opts){.upstreams = &rest});
    uint32_t c = add(s, (struct sched_batch_opts){.upstreams = &none, .priority = 9});

    EQ_INT(sched_next(s, t, 8, 0), 6);
    for (unsigned i = 0; i < 6; i++)
        OK(t[i].batch == a ? t[i].upstream == 0 : t[i].batch == b && t[i].upstream > 0);
    EQ_INT(count(t, 6, a), 2);
    EQ_INT(sched_next_wake(s, 0), USEC_INFINITY);
    all_done(s, t, 6, 0);
    sched_batch_upstreams(s, c, &first);
    sched_batch_upstreams(s, a, &none);
    EQ_INT(sched_next(s, t, 8, 0), 6);
    EQ_INT(count(t, 6, c), 2);
    EQ_INT(count(t, 6, b), 4);
    sched_batch_upstreams(s, a, NULL);
    all_done(s, t, 6, 0);
    EQ_INT(sched_next(s, t, 8, 0), 6);
    EQ_INT(count(t, 6, a), 4);
    sched_free(s);
}

TEST(a_retry_that_cannot_go_blocks_nobody)
{
    struct sched *s = make(2, 1);
    struct sched_ticket t[2];
    struct sched_set first = set_of(0, 0), other = set_of(1, 1);
    uint32_t a = add(s, (struct sched_batch_opts){.upstreams = &first, .n_items = 1});
    uint32_t b = add(s, (struct sched_batch_opts){.upstreams = &other});

    EQ_INT(sched_next(s, t, 2, 0), 2);
    OK(t[0].batch == a && t[1].batch == b);
    EQ_INT(back(s, &t[0], OUTCOME_CAPACITY, 60 * SEC, 0), SCHED_RETRY);
    EQ_INT(back(s, &t[1], OUTCOME_DONE, -1, 0), SCHED_FINAL);
    EQ_INT(sched_next(s, t, 2, SEC), 1);
    EQ_INT(t[0].batch, b);
    EQ_INT(sched_next_wake(s, SEC), 60 * SEC);
    sched_free(s);
}

/* Brings item 0 of a fresh batch to the try that must be alone, on upstreams that have
 * nothing else to do. */
static void make_suspect(struct sched *s, usec_t *now)
{
    struct sched_ticket t;
    uint16_t up;

    for (unsigned i = 0; i < 4; i++) {
        *now += 100 * SEC;
        while (sched_probe(s, &up, *now))
            sched_probe_done(s, up, true, *now);
        EQ_INT(sched_next(s, &t, 1, *now), 1);
        EQ_INT(t.item, 0);
        OK(!t.alone);
        EQ_INT(back(s, &t, OUTCOME_BROKEN, -1, *now), SCHED_RETRY);
    }
    *now += 100 * SEC;
}

/* Two upstreams with four calls of batch b each, a suspect of batch a, and one of the two
 * being drained for it. */
struct drain {
    struct sched *s;
    usec_t now;
    uint32_t a, b, c; /* c: like a, but paused */
    struct sched_ticket t[8];
    uint16_t drained;
};

static struct drain make_drain(void)
{
    struct drain d = {.s = make(2, 4)};
    struct sched_ticket none;

    d.a = add(d.s, (struct sched_batch_opts){.n_items = 1});
    make_suspect(d.s, &d.now);
    edit(d.s, d.a, 0, true, 0);
    d.c = add(d.s, (struct sched_batch_opts){.n_items = 1});
    make_suspect(d.s, &d.now);
    edit(d.s, d.c, 0, true, 0);
    d.b = add(d.s, (struct sched_batch_opts){.n_items = 1000});
    for (size_t n = 0; n < 8; d.now++) { /* windows grow back by successes */
        n = sched_next(d.s, d.t, 8, d.now);
        if (n < 8)
            all_done(d.s, d.t, n, d.now);
    }
    edit(d.s, d.a, 1, false, 0);
    EQ_INT(sched_next(d.s, &none, 1, d.now), 0);
    all_done(d.s, d.t, 1, d.now); /* room on one: it is taken out for the suspect */
    d.drained = d.t[0].upstream;
    EQ_INT(sched_next(d.s, &none, 1, d.now), 0);
    return d;
}

TEST(one_upstream_is_drained_for_a_suspect_while_the_other_goes_on)
{
    struct drain d = make_drain();
    struct sched_ticket t, alone = {0};
    unsigned left = 3;

    for (unsigned i = 1; i < 8; i++) {
        size_t n;

        all_done(d.s, &d.t[i], 1, d.now);
        n = sched_next(d.s, &t, 1, d.now);
        if (d.t[i].upstream != d.drained) {
            EQ_INT(n, 1);
            EQ_INT(t.batch, d.b);
            EQ_INT(t.upstream, d.t[i].upstream);
        } else if (--left) {
            EQ_INT(n, 0);
        } else {
            EQ_INT(n, 1);
            alone = t;
        }
    }
    OK(alone.alone);
    EQ_INT(alone.batch, d.a);
    EQ_INT(alone.upstream, d.drained);
    EQ_INT(sched_next(d.s, &t, 1, d.now), 0);
    EQ_INT(back(d.s, &alone, OUTCOME_BROKEN, -1, d.now), SCHED_FINAL);
    EQ_INT(sched_next(d.s, &t, 1, d.now), 1); /* back in use */
    EQ_INT(t.upstream, d.drained);
    sched_free(d.s);
}

TEST(a_suspect_goes_elsewhere_when_the_upstream_drained_for_it_dies)
{
    struct drain d = make_drain();
    struct sched_ticket t;
    unsigned other = 0;

    for (unsigned i = 1; i < 8; i++)
        if (d.t[i].upstream == d.drained)
            EQ_INT(back(d.s, &d.t[i], OUTCOME_HOST, -1, d.now), SCHED_RETRY);
    EQ_INT(sched_next(d.s, &t, 1, d.now), 0); /* the other is full */
    for (unsigned i = 1; i < 8; i++) {
        if (d.t[i].upstream == d.drained)
            continue;
        all_done(d.s, &d.t[i], 1, d.now);
        EQ_INT(sched_next(d.s, &t, 1, d.now), ++other == 4);
    }
    OK(t.alone && t.batch == d.a && t.upstream != d.drained);
    sched_free(d.s);
}

TEST(an_upstream_is_not_drained_for_a_batch_that_may_not_go)
{
    static const char *const how[] = {"paused", "closed", "other upstreams"};

    for (unsigned i = 0; i < COUNTOF(how); i++) {
        struct drain d = make_drain();
        struct sched_set none = {{0}};
        struct sched_ticket t;

        t_row(how[i]);
        if (i == 0)
            edit(d.s, d.a, 1, true, 0);
        else if (i == 1)
            sched_batch_close(d.s, d.a);
        else
            sched_batch_upstreams(d.s, d.a, &none);
        EQ_INT(sched_next(d.s, &t, 1, d.now), 1);
        EQ_INT(t.batch, d.b);
        EQ_INT(t.upstream, d.drained);
        if (i == 1)
            sched_batch_remove(d.s, d.a);
        else
            EQ_INT(sched_batch_waiting(d.s, d.a), 1);
        sched_free(d.s);
    }
}

/* Ends the calls to one of the two upstreams; what came of the last of them in *t. */
static size_t end_calls(struct drain *d, bool drained, enum outcome_class cls,
                        usec_t retry_after, struct sched_ticket *t)
{
    size_t n = 0;

    for (unsigned i = 1; i < 8; i++) {
        if ((d->t[i].upstream == d->drained) != drained)
            continue;
        IGNORE(back(d->s, &d->t[i], cls, retry_after, d->now));
        n = sched_next(d->s, t, 1, d->now);
    }
    return n;
}

TEST(only_one_upstream_of_a_set_is_drained_at_a_time)
{
    struct drain d = make_drain();
    struct sched_ticket t;

    edit(d.s, d.c, 1, false, 0);
    EQ_INT(end_calls(&d, false, OUTCOME_DONE, -1, &t), 1);
    EQ_INT(t.batch, d.b); /* the other goes on */
    sched_free(d.s);
}

TEST(the_next_suspect_has_its_turn_when_the_one_before_is_done_with)
{
    static const char *const how[] = {"answered", "killed the upstream", "closed"};

    for (unsigned i = 0; i < COUNTOF(how); i++) {
        struct drain d = make_drain();
        struct sched_ticket t, more;

        t_row(how[i]);
        edit(d.s, d.c, 1, false, 0);
        all_done(d.s, &d.t[1], 1,
                 d.now); /* room somewhere, so that c finds it must wait */
        IGNORE(sched_next(d.s, &more, 1, d.now));
        d.t[1] = more;
        if (i == 2) {
            sched_batch_close(d.s, d.a);
            EQ_INT(sched_next(d.s, &t, 1, d.now), 0); /* kept empty for c */
            sched_free(d.s);
            continue;
        }
        EQ_INT(end_calls(&d, true, OUTCOME_DONE, -1, &t), 1);
        OK(t.alone && t.batch == d.a);
        EQ_INT(back(d.s, &t, i == 0 ? OUTCOME_DONE : OUTCOME_BROKEN,
                    i == 0 ? -1 : 3600 * SEC, d.now),
               SCHED_FINAL);
        if (i == 0) {
            EQ_INT(sched_next(d.s, &t, 1, d.now), 1);
        } else { /* the other is drained now */
            EQ_INT(sched_next(d.s, &t, 1, d.now), 0);
            EQ_INT(end_calls(&d, false, OUTCOME_DONE, -1, &t), 1);
        }
        OK(t.alone && t.batch == d.c);
        sched_free(d.s);
    }
}

TEST(a_suspect_that_waits_is_woken_when_an_upstream_reopens)
{
    struct drain d = make_drain();
    struct sched_ticket t;

    edit(d.s, d.c, 1, false, 0);
    IGNORE(end_calls(&d, true, OUTCOME_DONE, -1, &t));
    OK(t.alone && t.batch == d.a);
    edit(d.s, d.b, 0, true, 0);
    for (unsigned i = 1, k = 0; i < 8; i++) {
        if (d.t[i].upstream == d.drained)
            continue;
        /* room at first, but no upstream for c: one is taken for a */
        IGNORE(back(d.s, &d.t[i], k ? OUTCOME_CAPACITY : OUTCOME_DONE, k ? 5 * SEC : -1,
                    d.now));
        EQ_INT(sched_next(d.s, &t, 1, d.now), 0);
        k++;
    }
    EQ_INT(sched_next_wake(d.s, d.now), d.now + 5 * SEC);
    EQ_INT(sched_next(d.s, &t, 1, d.now + 5 * SEC), 1);
    EQ_INT(t.batch, d.c);
    sched_free(d.s);
}

TEST(suspects_use_idle_upstreams_side_by_side)
{
    struct sched *s = make(2, 4);
    struct sched_ticket t[4];
    usec_t now = 0;
    size_t n = 0;

    add(s, (struct sched_batch_opts){.n_items = 2});
    for (unsigned round = 0; round < 4; round++) {
        uint16_t up;

        now += 100 * SEC;
        for (unsigned k = 0; k < 2; k++) { /* a success keeps both breakers shut */
            while (sched_probe(s, &up, now))
                sched_probe_done(s, up, true, now);
        }
        n = sched_next(s, t, 4, now);
        EQ_INT(n, 2);
        for (unsigned k = 0; k < 2; k++)
            EQ_INT(back(s, &t[k], OUTCOME_BROKEN, -1, now), SCHED_RETRY);
    }
    EQ_INT(sched_next(s, t, 4, now + 100 * SEC), 2);
    OK(t[0].alone && t[1].alone && t[0].upstream != t[1].upstream);
    sched_free(s);
}

TEST(a_pause_of_everything_does_not_wake_for_an_upstream_that_reopens)
{
    struct sched *s = make(1, 2);
    struct sched_ticket t;

    add(s, (struct sched_batch_opts){0});
    EQ_INT(sched_next(s, &t, 1, 0), 1);
    EQ_INT(back(s, &t, OUTCOME_CAPACITY, SEC, 0), SCHED_RETRY);
    sched_pause(s, true);
    EQ_INT(sched_next(s, &t, 1, 0), 0);
    EQ_INT(sched_next_wake(s, 0), USEC_INFINITY);
    EQ_INT(sched_next(s, &t, 1, 5 * SEC), 0);
    EQ_INT(sched_next_wake(s, 5 * SEC), USEC_INFINITY);
    sched_pause(s, false);
    EQ_INT(sched_next(s, &t, 1, 5 * SEC), 1);
    sched_free(s);
}

TEST(an_edited_deadline_changes_the_order)
{
    struct sched *s = make(1, 1);
    struct sched_ticket t;
    uint32_t a = add(s, (struct sched_batch_opts){.deadline = 10 * SEC}),
             b = add(s, (struct sched_batch_opts){.deadline = 20 * SEC});

    for (unsigned i = 0; i < 10; i++) {
        sched_batch_edit(s, i % 2 ? b : a, 0, false, 0, SEC);
        EQ_INT(sched_next(s, &t, 1, 0), 1);
        EQ_INT(t.batch, i % 2 ? b : a);
        EQ_INT(back(s, &t, OUTCOME_DONE, -1, 0), SCHED_FINAL);
        sched_batch_edit(s, i % 2 ? b : a, 0, false, 0, 30 * SEC);
    }
    sched_free(s);
}

/* One call at a time, each a second; how many lines of the second batch are done when its
 * deadline comes. */
static unsigned by_its_deadline(usec_t deadline, uint32_t lines)
{
    struct sched *s = make(1, 1);
    uint16_t other = sched_group_add(s, 0, 1);
    struct sched_ticket t;
    unsigned done = 0;
    usec_t now = 0;
    uint32_t b;

    add(s, (struct sched_batch_opts){
               .n_items = 100000, .priority = 5, .deadline = 1000000 * SEC});
    b = add(s, (struct sched_batch_opts){
                   .n_items = lines, .group = other, .deadline = deadline});
    while (now < deadline && done < lines) {
        EQ_INT(sched_next(s, &t, 1, now), 1);
        now += SEC;
        done += t.batch == b;
        EQ_INT(back(s, &t, OUTCOME_DONE, -1, now), SCHED_FINAL);
    }
    sched_free(s);
    return done;
}

TEST(what_would_miss_its_deadline_goes_first_whatever_its_priority)
{
    EQ_INT(by_its_deadline(2000 * SEC, 500), 500);
    EQ_INT(by_its_deadline(2000 * SEC, 1400), 1400);
}

/* --- What those are told who ask ----------------------------------------------------- */

static struct sched_batch_view view(struct sched *s, uint32_t batch)
{
    struct sched_batch_view v;

    sched_batch_view(s, batch, &v);
    return v;
}

TEST(a_view_counts_what_waits_and_why)
{
    struct sched *s = make(1, 4);
    struct sched_ticket t[4];
    uint16_t group = sched_group_add(s, 4, 1);
    uint8_t done = 0x02;
    uint32_t b = add(s, (struct sched_batch_opts){
                            .n_items = 8, .hold = 6, .done = &done, .group = group});
    struct sched_batch_view v = view(s, b);

    EQ_INT(v.fresh, 7);
    EQ_INT(v.ready, 5); /* below the hold, but for the one done before */
    OK(v.room && !v.group_full && v.due == USEC_INFINITY);
    EQ_INT(sched_next(s, t, 4, 0), 4);
    v = view(s, b);
    EQ_INT(v.fresh, 3);
    EQ_INT(v.ready, 1);
    OK(!v.room && v.group_full);
    EQ_INT(back(s, &t[0], OUTCOME_TRANSIENT, -1, 0), SCHED_RETRY);
    EQ_INT(sched_next(s, t, 1, 0), 1);
    v = view(s, b);
    EQ_INT(v.retrying, 1);
    EQ_INT(v.ready, 0);
    EQ_INT(v.due, sched_next_wake(s, 0));
    EQ_INT(sched_next(s, t, 1, v.due), 0);
    v = view(s, b);
    EQ_INT(v.ready, 1);
    EQ_INT(v.due, USEC_INFINITY);
    sched_batch_close(s, b);
    v = view(s, b);
    EQ_INT(v.fresh + v.retrying + v.ready, 0);
    sched_free(s);
}

TEST(a_view_counts_the_suspects_also_the_one_an_upstream_is_drained_for)
{
    struct drain d = make_drain();

    edit(d.s, d.c, 1, false, 0);
    EQ_INT(view(d.s, d.a).suspects, 1);
    EQ_INT(view(d.s, d.a).retrying, 1);
    EQ_INT(view(d.s, d.c).suspects, 1);
    EQ_INT(view(d.s, d.b).suspects, 0);
    sched_free(d.s);
}

TEST(ahead_is_what_has_a_higher_priority_and_wants_to_go_there)
{
    struct sched *s = make(2, 4);
    struct sched_set first = set_of(0, 0), other = set_of(1, 1);
    uint32_t b = add(s, (struct sched_batch_opts){.upstreams = &first});
    uint32_t higher = add(s, (struct sched_batch_opts){.priority = 1, .n_items = 10});

    add(s, (struct sched_batch_opts){.priority = 1, .upstreams = &other});
    add(s, (struct sched_batch_opts){.priority = 1, .paused = true});
    add(s, (struct sched_batch_opts){.priority = 0});
    EQ_INT(sched_batch_ahead(s, b), 10);
    edit(s, higher, 1, false, 4);
    EQ_INT(sched_batch_ahead(s, b), 4);
    edit(s, higher, 0, false, 4);
    EQ_INT(sched_batch_ahead(s, b), 0);
    sched_free(s);
}
