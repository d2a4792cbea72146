/* SPDX-License-Identifier: Apache-2.0 */
#include "base/wall.h"
#include "tests/lib/t.h"

#define SEC  USEC_PER_SEC
#define MIN  (60 * SEC)
#define HOUR (3600 * SEC)
#define DAY  (24 * HOUR)
#define YEAR (365 * DAY)
#define NOW  (1700000000 * SEC)

/* A wall clock that can be set, and a steady one that cannot. */
struct clocks {
    struct wall_look at;
    struct wall w;
};

static struct clocks start(usec_t wall, usec_t floor, bool synced)
{
    struct clocks c = {.at = {.wall = wall, .steady = 5 * SEC, .synced = synced}};

    wall_start(&c.w, &c.at, floor, HOUR);
    return c;
}

static bool pass(struct clocks *c, usec_t t)
{
    c->at.wall += t;
    c->at.steady += t;
    return wall_see(&c->w, &c->at);
}

static bool jump(struct clocks *c, usec_t t)
{
    c->at.wall += t;
    return wall_see(&c->w, &c->at);
}

static usec_t told(struct clocks *c)
{
    return wall_told(&c->w, c->at.steady);
}

static usec_t due(struct clocks *c)
{
    return wall_due(&c->w, c->at.steady);
}

TEST(a_clock_that_runs_well_is_told_as_it_is)
{
    struct clocks c = start(NOW, NOW - 3 * HOUR, false);

    for (int i = 0; i < 100; i++) {
        OK(!pass(&c, 7 * MIN));
        OK(!jump(&c, i % 2 ? SEC : -SEC / 2)); /* it is being slewed */
        OK(told(&c) == c.at.wall || i % 2 == 0);
        EQ_INT(due(&c), c.at.wall);
    }
    EQ_INT(c.w.doubt, WALL_TRUSTED);
    EQ_INT(wall_strange(&c.w), 0);
}

TEST(a_small_step_back_makes_time_stand_still)
{
    struct clocks c = start(NOW, 0, false);
    usec_t was = told(&c);

    OK(!jump(&c, -5 * MIN));
    EQ_INT(told(&c), was);
    OK(!pass(&c, 4 * MIN));
    EQ_INT(told(&c), was);
    OK(!pass(&c, 2 * MIN));
    EQ_INT(told(&c), was + MIN);
}

TEST(a_jump_is_not_followed_and_ends_when_the_clock_comes_back)
{
    static const usec_t jumps[] = {-2 * HOUR, YEAR, -NOW, 4102444800 * SEC - NOW,
                                   11 * MIN};

    for (size_t i = 0; i < COUNTOF(jumps); i++) {
        struct clocks c = start(NOW, NOW - HOUR, false);

        (void)told(&c);
        OK(jump(&c, jumps[i]));
        EQ_INT(c.w.doubt, WALL_JUMPED);
        EQ_INT(wall_strange(&c.w), jumps[i]);
        OK(!pass(&c, 10 * MIN));
        EQ_INT(told(&c), NOW + 10 * MIN);
        EQ_INT(due(&c), NOW + 10 * MIN);
        OK(jump(&c, -jumps[i] + 2 * SEC)); /* somebody set it, not quite the same */
        EQ_INT(c.w.doubt, WALL_TRUSTED);
        EQ_INT(told(&c), NOW + 10 * MIN + 2 * SEC);
        EQ_INT(due(&c), NOW + 10 * MIN + 2 * SEC);
    }
}

TEST(a_clock_that_stays_where_it_jumped_to_is_believed_in_the_end)
{
    struct clocks c = start(NOW, 0, false);

    OK(jump(&c, YEAR));
    OK(!pass(&c, 40 * MIN));
    OK(!jump(&c, DAY)); /* again: from here on it has to be steady */
    OK(!pass(&c, 59 * MIN));
    EQ_INT(due(&c), NOW + 99 * MIN);
    OK(pass(&c, MIN));
    EQ_INT(told(&c), NOW + YEAR + DAY + 100 * MIN);
    EQ_INT(due(&c), NOW + YEAR + DAY + 100 * MIN);
}

TEST(a_clock_that_was_set_by_somebody_is_believed_after_a_minute)
{
    struct clocks c = start(NOW, 0, false);

    OK(jump(&c, -3 * HOUR));
    EQ_INT(told(&c), NOW);
    OK(!pass(&c, 2 * MIN));
    c.at.synced = true;
    OK(pass(&c, 0));
    EQ_INT(told(&c), NOW - 3 * HOUR + 2 * MIN); /* the one step back that is allowed */
}

TEST(an_operator_ends_the_doubt)
{
    struct clocks c = start(NOW, 0, false);

    OK(jump(&c, -2 * HOUR));
    wall_accept(&c.w, &c.at);
    EQ_INT(c.w.doubt, WALL_TRUSTED);
    EQ_INT(told(&c), NOW - 2 * HOUR);
    OK(!pass(&c, MIN));
    EQ_INT(told(&c), NOW - 2 * HOUR + MIN);
}

TEST(a_start_before_the_last_run_goes_on_from_there)
{
    static const usec_t at[] = {NOW - 2 * HOUR, 0, NOW - 11 * MIN};

    for (size_t i = 0; i < COUNTOF(at); i++) {
        struct clocks c = start(at[i], NOW, true);

        EQ_INT(c.w.doubt, WALL_BEHIND);
        EQ_INT(told(&c), NOW);
        c.at.synced = false;
        OK(!pass(&c, 30 * MIN));
        EQ_INT(told(&c), NOW + 30 * MIN);
        EQ_INT(due(&c), NOW + 30 * MIN);
        OK(jump(&c, NOW - at[i]));
        EQ_INT(told(&c), NOW + 30 * MIN);
    }
}

TEST(a_little_before_the_last_run_is_no_doubt)
{
    struct clocks c = start(NOW - 9 * MIN, NOW, false);

    EQ_INT(c.w.doubt, WALL_TRUSTED);
    EQ_INT(told(&c), NOW);
    OK(!pass(&c, 10 * MIN));
    EQ_INT(told(&c), NOW + MIN);
}

TEST(a_long_absence_is_told_and_ends_nothing_while_nobody_set_the_clock)
{
    struct clocks c = start(NOW + 3 * DAY, NOW, false);

    EQ_INT(c.w.doubt, WALL_AHEAD);
    EQ_INT(told(&c), NOW + 3 * DAY);
    EQ_INT(due(&c), NOW);
    EQ_INT(wall_strange(&c.w), 3 * DAY);
    OK(!pass(&c, 59 * MIN));
    EQ_INT(told(&c), NOW + 3 * DAY + 59 * MIN);
    EQ_INT(due(&c), NOW + 59 * MIN);
    OK(pass(&c, MIN));
    EQ_INT(due(&c), NOW + 3 * DAY + HOUR);
}

TEST(a_start_in_2099_ends_nothing_and_comes_back)
{
    struct clocks c = start(4080000000 * SEC, NOW, false);

    EQ_INT(told(&c), 4080000000 * SEC);
    EQ_INT(due(&c), NOW);
    OK(!pass(&c, MIN));
    OK(jump(&c, NOW + 2 * HOUR - 4080000000 * SEC));
    EQ_INT(c.w.doubt, WALL_TRUSTED);
    EQ_INT(told(&c), NOW + 2 * HOUR + MIN);
    EQ_INT(due(&c), NOW + 2 * HOUR + MIN);
}

TEST(a_long_absence_with_a_clock_that_was_set_is_an_absence)
{
    struct clocks c = start(NOW + 30 * DAY, NOW, true);

    EQ_INT(c.w.doubt, WALL_TRUSTED);
    EQ_INT(due(&c), NOW + 30 * DAY);
}

TEST(time_goes_back_only_when_doubt_ends_and_nothing_ends_before_it_is_told)
{
    static const usec_t jumps[] = {YEAR,    -YEAR, 3 * HOUR, -5 * MIN,
                                   2 * MIN, -DAY,  DAY,      -3 * HOUR};
    static const usec_t floors[] = {0, NOW - 9 * DAY, NOW + DAY};

    for (size_t k = 0; k < COUNTOF(floors); k++) {
        struct clocks c = start(NOW, floors[k], false);
        usec_t last = told(&c);

        for (size_t i = 0; i < 4000; i++) {
            bool changed = pass(&c, 13 * SEC);

            if (i % 37 == 0)
                changed = jump(&c, jumps[(i * 7 + i / 37) % COUNTOF(jumps)]) || changed;
            OK(told(&c) >= last || (changed && c.w.doubt == WALL_TRUSTED));
            OK(due(&c) <= told(&c));
            last = told(&c);
        }
    }
}
