/* SPDX-License-Identifier: Apache-2.0 */
#include "sched/sched_forecast.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Known from so much time with a full window on. */
#define ENOUGH (5.0 * USEC_PER_SEC)

#define MARGIN_SHARE 0.15
#define MARGIN_LEAST (300 * USEC_PER_SEC)

/* forecast_turns follows groups that run together in at most so many steps. */
#define STEPS 256

/* --- Capacity ------------------------------------------------------------------------ */

void capacity_seen(struct capacity *c, double work, double dt)
{
    static const double fade[2] = {300.0 * USEC_PER_SEC, 3600.0 * USEC_PER_SEC};

    for (unsigned i = 0; i < COUNTOF(fade); i++) {
        double keep = exp(-dt / fade[i]);

        c->work[i] = c->work[i] * keep + work;
        c->time[i] = c->time[i] * keep + dt;
    }
}

static double rate_of(const struct capacity *c, unsigned i)
{
    return c->time[i] < ENOUGH ? 0 : c->work[i] / c->time[i] * USEC_PER_SEC;
}

double capacity_likely(const struct capacity *c)
{
    return rate_of(c, 0);
}

double capacity_sure(const struct capacity *c)
{
    return rate_of(c, 0) < rate_of(c, 1) ? rate_of(c, 0) : rate_of(c, 1);
}

/* --- Water --------------------------------------------------------------------------- */

/* Until when each upstream is at work with what was put on it: seconds from now. */
struct water {
    const struct forecast *f;
    double share; /* of the rates that counts */
    double until[LIMIT_UPSTREAMS];
};

static void water_init(struct water *w, const struct forecast *f, double share)
{
    memset(w, 0, sizeof *w);
    w->f = f;
    w->share = share;
}

/* Puts work where it is done soonest: all of its upstreams that are idle before then work
 * up to one time, which is the result; HUGE_VAL: none of them does anything. */
static double pour(struct water *w, const struct sched_set *set, double work)
{
    double rate, done, level = HUGE_VAL, before;

    /* Those busy longer than that are left out until none is. */
    do {
        rate = done = 0;
        before = level;
        for (uint16_t i = 0; i < w->f->n_ups; i++) {
            if (!sched_set_has(set, i) || w->f->rates[i] <= 0 || w->until[i] >= level)
                continue;
            rate += w->f->rates[i] * w->share;
            done += w->f->rates[i] * w->share * w->until[i];
        }
        if (rate > 0)
            level = (work + done) / rate;
    } while (level < before && rate > 0);
    for (uint16_t i = 0; i < w->f->n_ups; i++)
        if (sched_set_has(set, i) && w->f->rates[i] > 0 && w->until[i] < level)
            w->until[i] = level;
    return level;
}

static double alone(const struct forecast *f, const struct forecast_job *j)
{
    struct water w;

    water_init(&w, f, 1);
    return pour(&w, j->set, j->work);
}

static usec_t at(const struct forecast *f, double seconds)
{
    double usec = seconds * USEC_PER_SEC;

    return usec < 1e17 ? f->now + (usec_t)usec : USEC_INFINITY;
}

/* --- Deadlines ----------------------------------------------------------------------- */

usec_t forecast_margin(usec_t window)
{
    usec_t least = window / 4 < MARGIN_LEAST ? window / 4 : MARGIN_LEAST;
    usec_t share = (usec_t)(MARGIN_SHARE * (double)window);

    return share > least ? share : least;
}

static bool meets(const struct sched_set *a, const struct sched_set *b)
{
    uint64_t both = 0;

    for (unsigned i = 0; i < LIMIT_UPSTREAMS / 64; i++)
        both |= a->w[i] & b->w[i];
    return both != 0;
}

static void join(struct sched_set *set, const struct sched_set *more)
{
    for (unsigned i = 0; i < LIMIT_UPSTREAMS / 64; i++)
        set->w[i] |= more->w[i];
}

static bool would_be_late(const struct forecast *f, const struct forecast_job *j)
{
    return j->finish < USEC_INFINITY && j->deadline < USEC_INFINITY &&
           j->deadline - j->finish < forecast_margin(j->window) &&
           at(f, alone(f, j)) <= j->deadline;
}

void forecast_edf(const struct forecast *f, struct forecast_job *jobs, size_t n)
{
    struct sched_set needed = {{0}};
    struct water w;

    water_init(&w, f, 1);
    for (size_t i = 0; i < n; i++)
        jobs[i].finish = at(f, pour(&w, jobs[i].set, jobs[i].work));
    for (size_t i = n; i-- > 0;) {
        struct forecast_job *j = &jobs[i];

        j->critical = j->work > 0 && (meets(j->set, &needed) || would_be_late(f, j));
        if (j->critical)
            join(&needed, j->set);
    }
}

/* --- One more ------------------------------------------------------------------------ */

struct fit {
    const struct forecast *f;
    const struct forecast_job *jobs, *more;
    size_t n;
    bool *in_time; /* without it */
};

/* Would all be in time with the new one behind the first `place`?  Its own end in any
 * case. */
static bool fits_at(const struct fit *x, size_t place, double *ret_end)
{
    struct water w;
    bool all = true;

    water_init(&w, x->f, FORECAST_PROMISED);
    for (size_t i = 0; i <= x->n; i++) {
        double end;

        if (i == place)
            *ret_end = pour(&w, x->more->set, x->more->work);
        if (i == x->n)
            break;
        end = pour(&w, x->jobs[i].set, x->jobs[i].work);
        all = all && (!x->in_time[i] || at(x->f, end) <= x->jobs[i].deadline);
    }
    return all;
}

static usec_t slot_ends(const struct fit *x, size_t place)
{
    return place < x->n ? x->jobs[place].deadline : USEC_INFINITY;
}

/* The first place where it fits, and with which deadline. */
static usec_t earliest(const struct fit *x)
{
    size_t lo = 0, hi = x->n;
    double end = 0;
    usec_t deadline;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        bool fits = fits_at(x, mid, &end);

        if (fits && at(x->f, end) <= slot_ends(x, mid))
            hi = mid;
        else
            lo = mid + 1;
    }
    IGNORE(fits_at(x, lo, &end));
    deadline = at(x->f, end);
    if (lo > 0 && x->jobs[lo - 1].deadline > deadline)
        deadline = x->jobs[lo - 1].deadline;
    return deadline;
}

static void find_in_time(const struct fit *x)
{
    struct water w;

    water_init(&w, x->f, FORECAST_PROMISED);
    for (size_t i = 0; i < x->n; i++)
        x->in_time[i] =
            at(x->f, pour(&w, x->jobs[i].set, x->jobs[i].work)) <= x->jobs[i].deadline;
}

bool forecast_fits(const struct forecast *f, const struct forecast_job *jobs, size_t n,
                   const struct forecast_job *more, usec_t *ret_at)
{
    struct fit x = {.f = f, .jobs = jobs, .more = more, .n = n};
    size_t place = 0;
    double end = 0;
    bool fits;

    if (alone(f, more) == HUGE_VAL) {
        if (ret_at)
            *ret_at = USEC_INFINITY;
        return true;
    }
    x.in_time = mem_new_n(bool, n + 1);
    find_in_time(&x);
    while (place < n && jobs[place].deadline <= more->deadline)
        place++;
    fits = fits_at(&x, place, &end) && at(f, end) <= more->deadline;
    if (ret_at)
        *ret_at = earliest(&x);
    mem_free(x.in_time);
    return fits;
}

/* --- Turns --------------------------------------------------------------------------- */

/* What a group has on one level. */
struct share {
    size_t head, tail; /* its next job, its last: places in `order` of struct turns */
    double served;     /* work over weight */
};

struct turns {
    struct water w;
    struct forecast_job *jobs;
    size_t *next;  /* of each job: the next of its group on its level, or SIZE_MAX */
    double *until; /* of each job: what its group was served, over its weight, when it is
                      done: all groups of a level get there at the same time */
    double *ends;  /* until, of those on this level, ascending */
    struct share *shares;
    size_t n_groups;
    size_t *ended; /* jobs that end in this step */
    size_t n_ended;
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* The jobs of one level, by groups; the number of them. */
static size_t deal(struct turns *t, size_t n, int level)
{
    size_t m = 0;

    for (size_t g = 0; g < t->n_groups; g++)
        t->shares[g] = (struct share){SIZE_MAX, SIZE_MAX, 0};
    for (size_t i = 0; i < n; i++) {
        const struct forecast_job *j = &t->jobs[i];
        struct share *s = &t->shares[j->group];

        if (j->level != level)
            continue;
        t->next[i] = SIZE_MAX;
        t->until[i] = (s->tail == SIZE_MAX ? 0 : t->until[s->tail]) + j->work / j->weight;
        if (s->tail == SIZE_MAX)
            s->head = i;
        else
            t->next[s->tail] = i;
        s->tail = i;
        t->ends[m++] = t->until[i];
    }
    qsort(t->ends, m, sizeof *t->ends, by_value);
    return m;
}

/* The group is served up to there. */
static void serve(struct turns *t, struct share *s, double goal)
{
    while (s->head != SIZE_MAX && s->served < goal) {
        struct forecast_job *j = &t->jobs[s->head];
        double end = t->until[s->head] < goal ? t->until[s->head] : goal;

        (void)pour(&t->w, j->set, (end - s->served) * j->weight);
        s->served = end;
        if (t->until[s->head] > goal)
            return;
        t->ended[t->n_ended++] = s->head;
        s->head = t->next[s->head];
    }
}

static void run_level(struct turns *t, size_t n, int level)
{
    size_t m = deal(t, n, level), step = (m + STEPS - 1) / STEPS;

    for (size_t i = step; m && i < m + step; i += step) {
        t->n_ended = 0;
        for (size_t g = 0; g < t->n_groups; g++)
            serve(t, &t->shares[g], t->ends[(i < m ? i : m) - 1]);
        /* What others were served meanwhile is there by now. */
        for (size_t k = 0; k < t->n_ended; k++) {
            struct forecast_job *j = &t->jobs[t->ended[k]];

            j->finish = at(t->w.f, pour(&t->w, j->set, 0));
        }
    }
}

void forecast_turns(const struct forecast *f, struct forecast_job *jobs, size_t n)
{
    struct turns t = {.jobs = jobs};
    int lowest = 0, highest = 0;

    water_init(&t.w, f, 1);
    for (size_t i = 0; i < n; i++) {
        jobs[i].finish = jobs[i].work > 0 ? USEC_INFINITY : f->now;
        t.n_groups = jobs[i].group >= t.n_groups ? jobs[i].group + 1 : t.n_groups;
        lowest = i == 0 || jobs[i].level < lowest ? jobs[i].level : lowest;
        highest = i == 0 || jobs[i].level > highest ? jobs[i].level : highest;
    }
    t.next = mem_new_n(size_t, n + 1);
    t.until = mem_new_n(double, n + 1);
    t.ends = mem_new_n(double, n + 1);
    t.ended = mem_new_n(size_t, n + 1);
    t.shares = mem_new_n(struct share, t.n_groups + 1);
    for (int level = highest; n && level >= lowest; level--)
        run_level(&t, n, level);
    mem_free(t.next);
    mem_free(t.until);
    mem_free(t.ends);
    mem_free(t.ended);
    mem_free(t.shares);
}
