/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/t.h"
#include "engine/stops.h"

#define SEC USEC_PER_SEC

static struct stops s;
static usec_t now;

/* A sample every half second: what the server has, of them so many ours. */
static bool see(double load, unsigned inflight)
{
    now += SEC / 2;
    return stops_sample(&s, load, inflight, now);
}

static void begin(double beyond)
{
    stops_init(&s);
    now = SEC;
    for (unsigned i = 0; i < STOPS_BEFORE; i++) {
        EQ_INT(stops_wants(&s), 0);
        OK(!see(20 + beyond, 20));
    }
}

TEST(a_server_that_stops_has_no_more_than_before)
{
    begin(0);
    EQ_INT(stops_wants(&s), 1);
    stops_closed(&s, 1, now);
    EQ_INT(stops_wants(&s), 0);
    OK(!see(20, 19)); /* it has not noticed yet; too early to count */
    OK(!see(19, 19));
    OK(!see(20, 20));
    OK(see(18, 18));
    EQ_INT(s.verdict, STOPS_YES);
    EQ_INT(stops_wants(&s), 0);
    OK(!see(50, 20)); /* once is enough */
}

TEST(a_server_that_goes_on_has_one_more)
{
    begin(3); /* of somebody else's */
    stops_closed(&s, 1, now);
    OK(!see(23, 19));
    OK(!see(24, 20));
    OK(!see(24, 20));
    OK(see(22, 18));
    EQ_INT(s.verdict, STOPS_NO);
}

TEST(where_it_wobbles_more_calls_are_needed_to_see_it)
{
    begin(0);
    OK(!see(21, 20));
    EQ_INT(stops_wants(&s), 3);
    stops_closed(&s, 1, now); /* one that was closed for another reason is not seen */
    EQ_INT(stops_wants(&s), 0);
    for (unsigned i = 0; i < STOPS_BEFORE; i++)
        OK(!see(20 + i % 2, 20));
    EQ_INT(stops_wants(&s), 3);
    stops_closed(&s, 3, now);
    OK(!see(20, 20));
    OK(!see(20, 20));
    OK(!see(21, 20));
    OK(see(20, 20));
    EQ_INT(s.verdict, STOPS_YES);
}

TEST(where_others_come_and_go_nothing_is_closed)
{
    begin(0);
    OK(!see(25, 20));
    EQ_INT(stops_wants(&s), 0);
}

TEST(what_is_closed_during_a_check_ends_it_without_a_verdict)
{
    begin(0);
    stops_closed(&s, 1, now);
    OK(!see(20, 19));
    stops_closed(&s, 5, now);
    for (unsigned i = 0; i < STOPS_BEFORE; i++) {
        EQ_INT(s.verdict, STOPS_UNKNOWN);
        OK(!see(20, 20));
    }
    EQ_INT(stops_wants(&s), 1);
    stops_closed(&s, 0, now); /* there were none to close */
    EQ_INT(stops_wants(&s), 1);
}
