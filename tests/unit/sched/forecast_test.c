/* SPDX-License-Identifier: Apache-2.0 */
/* The arithmetic of promises, first by itself and then over three days of batches. */
#include "sched/sched_forecast.h"
#include "base/mem.h"
#include "tests/lib/t.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SEC  USEC_PER_SEC
#define HOUR (3600 * SEC)

static const struct sched_set both = {{3}}, first = {{1}}, second = {{2}};

static struct forecast of(const double *rates, unsigned n)
{
    return (struct forecast){.rates = rates, .n_ups = n, .now = HOUR};
}

static struct forecast_job job(double work, usec_t in, const struct sched_set *set)
{
    return (struct forecast_job){
        .work = work, .deadline = HOUR + in, .window = in, .set = set, .weight = 1};
}

TEST(capacity_is_unknown_until_a_window_was_full_for_some_seconds)
{
    struct capacity c = {{0}, {0}};

    EQ_INT(capacity_sure(&c), 0);
    capacity_seen(&c, 1000, 1.0 * SEC);
    EQ_INT(capacity_sure(&c), 0);
    for (int i = 0; i < 9; i++)
        capacity_seen(&c, 1000, 1.0 * SEC);
    OK(fabs(capacity_likely(&c) - 1000) < 10);
    OK(fabs(capacity_sure(&c) - 1000) < 10);
}

TEST(what_can_be_counted_on_is_the_smaller_of_minutes_and_an_hour)
{
    struct capacity c = {{0}, {0}};

    for (int i = 0; i < 7200; i++)
        capacity_seen(&c, 1000, 1.0 * SEC);
    for (int i = 0; i < 300; i++)
        capacity_seen(&c, 3000, 1.0 * SEC);
    OK(capacity_likely(&c) > 2000);
    OK(capacity_sure(&c) < 1300);
    for (int i = 0; i < 600; i++)
        capacity_seen(&c, 100, 1.0 * SEC);
    OK(capacity_likely(&c) < 500);
    EQ_INT(capacity_sure(&c), capacity_likely(&c));
}

TEST(batches_end_one_after_the_other_in_the_order_of_deadlines)
{
    const double rates[] = {6, 4};
    struct forecast f = of(rates, 2);
    struct forecast_job j[] = {job(1000, HOUR, &both), job(500, 2 * HOUR, &both)};

    forecast_edf(&f, j, 2);
    EQ_INT(j[0].finish, HOUR + 100 * SEC);
    EQ_INT(j[1].finish, HOUR + 150 * SEC);
    OK(!j[0].critical && !j[1].critical);
}

TEST(an_upstream_that_two_sets_share_does_the_work_of_both)
{
    const double rates[] = {10, 10};
    struct forecast f = of(rates, 2);
    struct forecast_job j[] = {job(1000, HOUR, &first), job(1000, HOUR, &both),
                               job(500, HOUR, &second)};

    forecast_edf(&f, j, 3);
    EQ_INT(j[0].finish, HOUR + 100 * SEC);
    EQ_INT(j[1].finish, HOUR + 100 * SEC); /* all of it on the other */
    EQ_INT(j[2].finish, HOUR + 150 * SEC);
}

TEST(nothing_is_claimed_of_upstreams_of_which_nothing_is_known)
{
    const double rates[] = {0, 5};
    struct forecast f = of(rates, 2);
    struct forecast_job j[] = {job(1e9, 60 * SEC, &first)};
    usec_t at;

    forecast_edf(&f, j, 1);
    EQ_INT(j[0].finish, USEC_INFINITY);
    OK(!j[0].critical);
    OK(forecast_fits(&f, j, 0, &j[0], &at));
    EQ_INT(at, USEC_INFINITY);
}

TEST(the_margin_is_a_share_of_the_window_and_five_minutes_at_least_of_a_long_one)
{
    EQ_INT(forecast_margin(24 * HOUR), 24 * HOUR * 15 / 100);
    EQ_INT(forecast_margin(HOUR), 540 * SEC);
    EQ_INT(forecast_margin(1600 * SEC), 300 * SEC);
    EQ_INT(forecast_margin(400 * SEC), 100 * SEC);
}

TEST(what_stands_before_a_batch_that_would_be_late_goes_first_too)
{
    const double rates[] = {10, 10};
    struct forecast f = of(rates, 2);
    struct forecast_job j[] = {job(100, HOUR, &first), job(100, HOUR, &second),
                               job(32000, HOUR, &first), job(10, 24 * HOUR, &first)};

    forecast_edf(&f, j, 4);
    OK(j[0].critical);
    OK(!j[1].critical); /* on another upstream */
    OK(j[2].critical);
    OK(!j[3].critical);
}

TEST(what_cannot_be_kept_in_any_case_makes_nobody_wait)
{
    const double rates[] = {10};
    struct forecast f = of(rates, 1);
    struct forecast_job j[] = {job(1e6, HOUR, &first)};

    forecast_edf(&f, j, 1);
    OK(!j[0].critical);
}

TEST(a_batch_fits_when_it_and_all_before_would_be_in_time_at_85_percent)
{
    const double rates[] = {10};
    struct forecast f = of(rates, 1);
    struct forecast_job j[] = {job(8500, 1000 * SEC, &first),
                               job(3400, 2000 * SEC, &first)};
    struct forecast_job more = job(5000, 2000 * SEC, &first);
    usec_t at;

    OK(forecast_fits(&f, j, 2, &more, &at)); /* 16900 of 17000 */
    more.work = 5200;
    OK(!forecast_fits(&f, j, 2, &more, &at));
    EQ_INT((at - HOUR) / SEC, 2011); /* behind both, (8500 + 3400 + 5200) / 8.5 */
    more.deadline = at;
    OK(forecast_fits(&f, j, 2, &more, NULL));
    more.deadline = at - SEC;
    OK(!forecast_fits(&f, j, 2, &more, NULL));
}

TEST(a_batch_that_is_late_already_keeps_nobody_out)
{
    const double rates[] = {10};
    struct forecast f = of(rates, 1);
    struct forecast_job j[] = {job(9000, 100 * SEC, &first)};
    struct forecast_job more = job(850, 2000 * SEC, &first);

    OK(forecast_fits(&f, j, 1, &more, NULL));
    more.deadline = HOUR + 1000 * SEC; /* but it is before it */
    OK(!forecast_fits(&f, j, 1, &more, NULL));
}

TEST(groups_share_by_their_weights_and_levels_do_not)
{
    const double rates[] = {10};
    struct forecast f = of(rates, 1);
    struct forecast_job j[] = {job(1000, HOUR, &first), job(3000, HOUR, &first),
                               job(100, HOUR, &first)};

    j[1].group = 1;
    j[1].weight = 3;
    j[2].level = 1;
    forecast_turns(&f, j, 3);
    EQ_INT((j[2].finish - HOUR) / SEC, 10);
    EQ_INT((j[0].finish - HOUR) / SEC, 410);
    EQ_INT((j[1].finish - HOUR) / SEC, 410);
    j[1].weight = 1;
    forecast_turns(&f, j, 3);
    EQ_INT((j[0].finish - HOUR) / SEC, 210);
    EQ_INT((j[1].finish - HOUR) / SEC, 410);
}

/* The demand test says no exactly where work by some deadline is more than is promised. */
TEST(on_one_set_the_test_is_that_of_processor_demand)
{
    const double rates[] = {7, 3};
    struct forecast f = of(rates, 2);

    srand48(5);
    for (int round = 0; round < 2000; round++) {
        struct forecast_job j[12], more;
        size_t n = (size_t)(drand48() * 12);
        double sum = 0;
        bool fits = true;

        for (size_t i = 0; i < n; i++) {
            double end;

            do { /* all of them can be kept without it */
                j[i] = job(drand48() * 300, (usec_t)(drand48() * 100 * SEC), &both);
                j[i].deadline = (i ? j[i - 1].deadline : HOUR) + j[i].window;
                end = (sum + j[i].work) / 8.5;
            } while (end > (double)(j[i].deadline - HOUR) / SEC);
            sum += j[i].work;
        }
        more = job(drand48() * 500, (usec_t)(drand48() * 500 * SEC), &both);
        sum = 0;
        for (size_t i = 0; i < n; i++) {
            sum += j[i].work;
            if (j[i].deadline >= more.deadline)
                fits = fits && sum + more.work <=
                                   8.5 * (double)(j[i].deadline - HOUR) / SEC + 1e-4;
        }
        sum = more.work;
        for (size_t i = 0; i < n; i++)
            sum += j[i].deadline <= more.deadline ? j[i].work : 0;
        fits = fits && sum <= 8.5 * (double)(more.deadline - HOUR) / SEC + 1e-4;
        EQ_INT(forecast_fits(&f, j, n, &more, NULL), fits);
    }
}

/* --- Three days ---------------------------------------------------------------------- */

enum policy { FIFO, EDF, HYBRID, ADMISSION };

#define TENANTS 10
#define STEP    (30 * SEC)
#define DAYS3   (72 * HOUR)
#define MOST    4000

struct promise {
    usec_t born, deadline, window, end; /* end 0: not yet */
    double work, left;
    unsigned tenant;
    bool refused;
};

struct days {
    struct promise p[MOST];
    unsigned n;
};

static double normal(void)
{
    return sqrt(-2 * log(1 - drand48())) * cos(2 * M_PI * drand48());
}

/* One of ten tenants brings 60 % of the work; windows of 1, 4 and 24 hours. */
static void arrive(struct days *d, double load, long seed)
{
    static const usec_t windows[] = {HOUR, 4 * HOUR, 24 * HOUR};
    const double work = 600, every = work / load; /* at a capacity of 1 */
    double t = 0;

    memset(d, 0, sizeof *d);
    srand48(seed);
    for (;;) {
        struct promise *p = &d->p[d->n];

        t += -every * log(1 - drand48());
        if (t * SEC >= DAYS3 || d->n == MOST)
            return;
        p->born = (usec_t)(t * SEC);
        p->window = windows[lrand48() % 3];
        p->deadline = p->born + p->window;
        p->work = p->left = work * exp(normal() - 0.5);
        if (p->work > 0.5 * (double)p->window / SEC) /* what could be kept alone */
            p->work = p->left = 0.5 * (double)p->window / SEC;
        p->tenant = drand48() < 0.6 ? 0 : 1 + (unsigned)(lrand48() % (TENANTS - 1));
        d->n++;
    }
}

static int by_deadline(const void *a, const void *b)
{
    const struct promise *const *p = a, *const *q = b;

    return ((*p)->deadline > (*q)->deadline) - ((*p)->deadline < (*q)->deadline);
}

static size_t jobs_of(struct promise **live, size_t n, struct forecast_job *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (struct forecast_job){.work = live[i]->left,
                                      .deadline = live[i]->deadline,
                                      .window = live[i]->window,
                                      .set = &first};
    return n;
}

/* Those alive, the earliest deadline first. */
static size_t alive(struct days *d, usec_t now, struct promise **to)
{
    size_t n = 0;

    for (unsigned i = 0; i < d->n && d->p[i].born <= now; i++)
        if (!d->p[i].refused && !d->p[i].end)
            to[n++] = &d->p[i];
    qsort(to, n, sizeof *to, by_deadline);
    return n;
}

static struct promise *pick(enum policy how, struct promise **live, size_t n,
                            const struct forecast_job *jobs, const double *served)
{
    struct promise *best = live[0];

    for (size_t i = 0; how >= HYBRID && i < n; i++)
        if (jobs[i].critical && live[i]->left > 0)
            return live[i];
    for (size_t i = 1; i < n; i++) {
        if (how == FIFO && live[i]->born < best->born)
            best = live[i];
        if (how >= HYBRID && served[live[i]->tenant] < served[best->tenant])
            best = live[i];
    }
    return best;
}

/* A step of work is done by one batch or, what is left of it, by the next. */
static void work(enum policy how, struct days *d, usec_t now, double *served)
{
    static const double rates[] = {1};
    struct promise *live[MOST];
    static struct forecast_job jobs[MOST];
    double room = (double)STEP / SEC;
    size_t n = alive(d, now, live);

    if (how >= HYBRID) {
        struct forecast f = {.rates = rates, .n_ups = 1, .now = now};

        forecast_edf(&f, jobs, jobs_of(live, n, jobs));
    }
    while (n && room > 1e-9) {
        struct promise *p = pick(how, live, n, jobs, served);
        double take = p->left < room ? p->left : room;

        p->left -= take;
        room -= take;
        served[p->tenant] += take;
        if (p->left > 1e-9)
            continue;
        p->end = now + STEP - (usec_t)(room * SEC);
        for (size_t i = 0; i < n; i++) {
            if (live[i] == p) {
                memmove(&live[i], &live[i + 1], (n - i - 1) * sizeof(*live));
                memmove(&jobs[i], &jobs[i + 1], (n - i - 1) * sizeof(*jobs));
                n--;
                break;
            }
        }
    }
}

/* A tenant that comes back has no claim to what it did not ask for. */
static void level(const struct days *d, const struct promise *p, double *served)
{
    double least = -1;

    for (unsigned i = 0; i < d->n && d->p[i].born < p->born; i++) {
        const struct promise *o = &d->p[i];

        if (o->refused || o->end)
            continue;
        if (o->tenant == p->tenant)
            return;
        if (least < 0 || served[o->tenant] < least)
            least = served[o->tenant];
    }
    if (served[p->tenant] < least)
        served[p->tenant] = least;
}

static void admit(enum policy how, struct days *d, struct promise *p)
{
    static const double rates[] = {1};
    struct promise *live[MOST];
    static struct forecast_job jobs[MOST];
    struct forecast f = {.rates = rates, .n_ups = 1, .now = p->born};
    struct forecast_job more = {.work = p->work * exp(0.2 * normal()), /* a guess */
                                .deadline = p->deadline,
                                .window = p->window,
                                .set = &first};
    size_t n;

    if (how != ADMISSION)
        return;
    p->refused = true; /* not among the others */
    n = jobs_of(live, alive(d, p->born, live), jobs);
    p->refused = !forecast_fits(&f, jobs, n, &more, NULL);
}

struct kept {
    double in_time, refused; /* shares */
    double p95;              /* hours, of the light tenants' batches */
    unsigned broken;         /* promises */
};

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static struct kept run(enum policy how, double load, long seed)
{
    static struct days d;
    double served[TENANTS] = {0}, took[MOST];
    unsigned next = 0, n_took = 0, good = 0, refused = 0, judged = 0;

    arrive(&d, load, seed);
    for (usec_t now = 0; now < DAYS3 + 25 * HOUR; now += STEP) {
        for (; next < d.n && d.p[next].born <= now; next++) {
            level(&d, &d.p[next], served);
            admit(how, &d, &d.p[next]);
        }
        work(how, &d, now, served);
        for (unsigned i = 0; i < next; i++) /* it expires, and its rest is not done */
            if (!d.p[i].refused && !d.p[i].end && d.p[i].deadline <= now)
                d.p[i].end = USEC_INFINITY;
    }
    for (unsigned i = 0; i < d.n; i++) {
        const struct promise *p = &d.p[i];

        judged++;
        refused += p->refused;
        good += !p->refused && p->end <= p->deadline;
        if (!p->refused && p->tenant)
            took[n_took++] =
                (double)((p->end < p->deadline ? p->end : p->deadline) - p->born) / HOUR;
    }
    qsort(took, n_took, sizeof *took, by_value);
    return (struct kept){.in_time = 100.0 * good / (judged - refused),
                         .refused = 100.0 * refused / judged,
                         .p95 = took[n_took * 95 / 100],
                         .broken = judged - refused - good};
}

static struct kept noted(enum policy how, double load, long seed)
{
    static const char *const names[] = {"fifo", "edf", "hybrid", "hybrid+admission"};
    struct kept k = run(how, load, seed);

    t_note("load %.1f %-16s %6.2f %% of the accepted in time, %5.1f %% refused, light "
           "tenants' p95 %.2f h",
           load, names[how], k.in_time, k.refused, k.p95);
    return k;
}

TEST_SLOW(three_days_of_promises_are_kept_where_they_can_be, 120)
{
    static const double loads[] = {0.9, 1.0, 1.2, 1.5, 2.0};

    for (unsigned i = 0; i < COUNTOF(loads); i++) {
        struct kept fifo = noted(FIFO, loads[i], 11), edf = noted(EDF, loads[i], 11);
        struct kept hybrid = noted(HYBRID, loads[i], 11);
        struct kept admitted = noted(ADMISSION, loads[i], 11);

        if (loads[i] <= 1) { /* what the best order keeps is what can be kept */
            OK(hybrid.in_time >= edf.in_time - 0.5);
            EQ_INT(admitted.broken, 0);
            OK(hybrid.p95 < edf.p95);
        }
        OK(hybrid.in_time >= fifo.in_time);
        OK(admitted.in_time >= 99);
    }
}
