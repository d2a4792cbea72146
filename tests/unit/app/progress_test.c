/* SPDX-License-Identifier: Apache-2.0 */
#include "app/progress.h"
#include "tests/lib/t.h"

#define S USEC_PER_SEC

static struct progress_view view(uint32_t done, uint32_t failed, uint32_t total)
{
    return (struct progress_view){"in_progress", {total, done, failed}, UINT32_MAX};
}

static struct progress p;

static void line_is(const struct progress_view *v, unsigned columns, const char *want)
{
    struct buf b;

    buf_init(&b, 4096);
    progress_line(&p, v, columns, &b);
    EQ_STR(buf_peek(&b), str_of(want));
    buf_done(&b);
}

TEST(durations_are_for_people)
{
    static const struct {
        usec_t t;
        const char *want;
    } cases[] = {
        {-5, "0.0 s"},
        {0, "0.0 s"},
        {440 * USEC_PER_MS, "0.4 s"},
        {9949 * USEC_PER_MS, "9.9 s"},
        {9951 * USEC_PER_MS, "10 s"},
        {59400 * USEC_PER_MS, "59 s"},
        {59600 * USEC_PER_MS, "1 min 00 s"},
        {185 * S, "3 min 05 s"},
        {3600 * S, "1 h 00 min"},
        {(2 * 3600 + 13 * 60) * S, "2 h 13 min"},
        {86400 * S, "1 d 00 h"},
        {(3 * 86400 + 4 * 3600) * S, "3 d 04 h"},
    };
    char text[32];

    for (size_t i = 0; i < COUNTOF(cases); i++) {
        progress_duration(cases[i].t, text);
        EQ_Z(text, cases[i].want);
    }
}

TEST(the_plain_line_tells_all_in_words)
{
    struct progress_view v = {"validating", {0, 0, 0}, UINT32_MAX};

    progress_init(&p, PROGRESS_PLAIN);
    line_is(&v, 0, "validating");
    v = view(0, 0, 1000);
    progress_sample(&p, &v, 100 * S);
    line_is(&v, 0, "in_progress: 0 of 1000 lines, 0 failed");
    v = view(190, 10, 1000);
    v.inflight = 64;
    progress_sample(&p, &v, 110 * S);
    line_is(&v, 0,
            "in_progress: 200 of 1000 lines, 10 failed, 64 in flight, 20.0/s, "
            "ETA 40 s");
    v = view(990, 10, 1000);
    v.inflight = 0;
    progress_sample(&p, &v, 114 * S);
    line_is(&v, 0, "in_progress: 1000 of 1000 lines, 10 failed, 0 in flight, 71.4/s");
}

TEST(the_bar_fills_the_room_that_is_left_and_no_more)
{
    struct progress_view v = view(45, 5, 100);

    progress_init(&p, PROGRESS_BAR);
    line_is(&v, 79,
            "in_progress  ##################xx....................  50%  50/100  "
            "5 failed");
    line_is(&v, 50, "in_progress  #######.......  50%  50/100  5 failed");
    line_is(&v, 40, "in_progress  50%  50/100  5 failed");
    line_is(&v, 20, "in_progress  50%  50");
    v = view(0, 0, 3);
    line_is(&v, 40, "in_progress  .................   0%  0/3");
    v = view(3, 0, 3);
    line_is(&v, 40, "in_progress  ################# 100%  3/3");
    v = (struct progress_view){"validating", {0, 0, 0}, UINT32_MAX};
    line_is(&v, 40, "validating");
}

TEST(a_hundred_percent_is_only_shown_for_all)
{
    struct progress_view v = view(4294967, 0, 4294968);

    progress_init(&p, PROGRESS_BAR);
    line_is(&v, 44, "in_progress  99%  4294967/4294968");
    v.counts = (struct batch_counts){UINT32_MAX, UINT32_MAX - 1, 1};
    line_is(&v, 46, "in_progress 100%  4294967295/4294967295  1 fai");
}

TEST(the_rate_is_that_of_the_last_half_minute)
{
    struct progress_view v;

    progress_init(&p, PROGRESS_PLAIN);
    for (unsigned s = 0; s <= 100; s++) { /* ten a second */
        v = view(s * 10, 0, 100000);
        progress_sample(&p, &v, (100 + (usec_t)s) * S);
    }
    OK(progress_rate(&p) > 9.99 && progress_rate(&p) < 10.01);
    for (unsigned s = 1; s <= 40; s++) { /* then nothing */
        progress_sample(&p, &v, (200 + (usec_t)s) * S);
    }
    OK(progress_rate(&p) == 0);
    EQ_INT(progress_eta(&p, &v), USEC_INFINITY);
}

TEST(frequent_samples_do_not_shorten_the_window)
{
    struct progress_view v = view(0, 0, 1000);

    progress_init(&p, PROGRESS_BAR);
    for (unsigned i = 0; i <= 100; i++) { /* five times a second, 20 s */
        v = view(i, 0, 1000);
        progress_sample(&p, &v, 1000 * S + (usec_t)i * 200 * USEC_PER_MS);
    }
    OK(progress_rate(&p) > 4.99 && progress_rate(&p) < 5.01);
    EQ_INT(progress_eta(&p, &v) / S, 180);
}

TEST(silence_is_told_in_place_of_a_rate)
{
    struct progress_view v = view(10, 0, 1000);

    progress_init(&p, PROGRESS_PLAIN);
    progress_sample(&p, &v, 100 * S);
    v = view(20, 0, 1000);
    progress_sample(&p, &v, 102 * S);
    progress_sample(&p, &v, 111 * S);
    line_is(&v, 0, "in_progress: 20 of 1000 lines, 0 failed, 0.9/s, ETA 17 min 58 s");
    progress_sample(&p, &v, 114 * S);
    line_is(&v, 0, "in_progress: 20 of 1000 lines, 0 failed, no answer for 12 s");
    v = view(21, 0, 1000);
    progress_sample(&p, &v, 115 * S);
    line_is(&v, 0, "in_progress: 21 of 1000 lines, 0 failed, 0.7/s, ETA 22 min 15 s");
}

TEST(no_rate_is_told_from_too_little_time_or_from_before_the_start)
{
    struct progress_view v = view(0, 0, 0);

    progress_init(&p, PROGRESS_BAR);
    progress_sample(&p, &v, 1 * S); /* validating */
    v = view(500, 0, 1000);         /* a resumed batch appears half done */
    progress_sample(&p, &v, 5 * S);
    OK(progress_rate(&p) < 0);
    v = view(501, 0, 1000);
    progress_sample(&p, &v, 5 * S + 500 * USEC_PER_MS);
    OK(progress_rate(&p) < 0);
    v = view(502, 0, 1000);
    progress_sample(&p, &v, 7 * S);
    OK(progress_rate(&p) > 0.99 && progress_rate(&p) < 1.01);
}
