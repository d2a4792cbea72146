/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/rate.h"
#include "tests/lib/t.h"

#define SEC USEC_PER_SEC

static void near(double got, double want)
{
    if (got < want * 0.999 - 0.001 || got > want * 1.001 + 0.001)
        FAIL("got %f, want %f", got, want);
}

TEST(there_is_no_rate_before_a_second_and_a_result)
{
    struct rate r = {0};

    OK(rate_now(&r, 5 * SEC) < 0); /* it has not begun */
    rate_start(&r, 10 * SEC);
    OK(rate_now(&r, 100 * SEC) < 0);
    rate_add(&r, 3, 100 * SEC);
    near(rate_now(&r, 100 * SEC), 3.0 / 55);
    rate_start(&r, 100 * SEC);
    rate_add(&r, 3, 100 * SEC);
    OK(rate_now(&r, 101 * SEC - 1) < 0);
    near(rate_now(&r, 101 * SEC), 3);
}

TEST(a_steady_rate_is_told_whatever_the_moment)
{
    struct rate r;
    usec_t t = 7 * SEC;

    rate_start(&r, t);
    for (unsigned i = 1; i <= 4000; i++) { /* ten a second */
        rate_add(&r, 1, t += SEC / 10);
        if (i > 10)
            OK(rate_now(&r, t) > 9.7 && rate_now(&r, t) < 10.3);
    }
}

TEST(after_a_minute_without_results_the_rate_is_nought)
{
    struct rate r;

    rate_start(&r, SEC);
    rate_add(&r, 600, 2 * SEC);
    near(rate_now(&r, 31 * SEC), 20);
    OK(rate_now(&r, 55 * SEC) > 10);
    near(rate_now(&r, 63 * SEC), 0);
    near(rate_now(&r, 100000 * SEC), 0);
    rate_add(&r, 100, 100000 * SEC);
    OK(rate_now(&r, 100001 * SEC) > 1.6 && rate_now(&r, 100001 * SEC) < 1.9);
}

TEST(a_change_of_pace_shows_within_a_minute)
{
    struct rate r;
    usec_t t = SEC;

    rate_start(&r, t);
    for (unsigned i = 0; i < 100; i++)
        rate_add(&r, 100, t += SEC);
    for (unsigned i = 0; i < 61; i++)
        rate_add(&r, 1, t += SEC);
    OK(rate_now(&r, t) < 1.2);
}
