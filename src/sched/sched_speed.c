/* SPDX-License-Identifier: Apache-2.0 */
/* What upstreams get done, how long that takes, and which of them are slow. */
#include "sched/sched_int.h"

#include <math.h>

/* Sums fade within this, or within so many calls where they are rare. */
#define FADE       (5.0 * USEC_PER_SEC)
#define FADE_CALLS 16
#define FADE_LONG  (60.0 * USEC_PER_SEC)

/* Known from so much time on. */
#define ENOUGH (0.5 * USEC_PER_SEC)

/* Latencies are fitted over so many calls, and believed from a few on. */
#define FIT_CALLS 64
#define FIT_FEW   3
#define FIT_LATE  8 /* calls: the latest */

/* Steps of the estimate of the 99th of 100: up, and down. */
#define TAIL_UP   0.099
#define TAIL_DOWN 0.001
#define TAIL_FEW  32

#define TIMEOUT_LEAST  (120 * USEC_PER_SEC)
#define TIMEOUT_FACTOR 4

/* Slow: below this share of what the others do, with calls that take longer than so many
 * times theirs: one that is only small is not slow.  In order again: above that share. */
#define SLOW_BELOW   0.25
#define SLOW_UNTIL   0.5
#define SLOW_LATENCY 2
#define JUDGE_EVERY  USEC_PER_SEC
#define JUDGE_ROW    3

/* A quota limits so long after it was found used up. */
#define DRY_FOR (5 * USEC_PER_SEC)

/* A window counts as full from so much of it on: the next calls are on their way. */
#define FULL 0.9

static double fade_time(const struct speed *v)
{
    double few = v->calls > 0 ? FADE_CALLS * v->time / v->calls : 0;

    return few > FADE ? few : FADE;
}

/* The time since the last call ended was one with a full window. */
static void pass(struct speed *v, double dt)
{
    double keep = exp(-dt / fade_time(v)), long_keep = exp(-dt / FADE_LONG);

    v->work *= keep;
    v->calls *= keep;
    v->time = v->time * keep + dt;
    v->long_work *= long_keep;
    v->long_time = v->long_time * long_keep + dt;
}

static void fit(struct speed *v, double latency, double work)
{
    const double keep = 1 - 1.0 / FIT_CALLS;

    v->n = v->n * keep + 1;
    v->w = v->w * keep + work;
    v->l = v->l * keep + latency;
    v->ww = v->ww * keep + work * work;
    v->wl = v->wl * keep + work * latency;
    v->late_w += (work - v->late_w) / FIT_LATE;
    v->late_l += (latency - v->late_l) / FIT_LATE;
}

/* latency = a + b * work.  Where the works are too much alike for that, or it makes no
 * sense: latency = b * work. */
static double expected(const struct speed *v, double work)
{
    double det = v->n * v->ww - v->w * v->w, a, b;

    if (v->n < FIT_FEW || v->w <= 0)
        return 0;
    if (det > 0.05 * v->n * v->ww) {
        b = (v->n * v->wl - v->w * v->l) / det;
        a = (v->l - b * v->w) / v->n;
        if (b > 0 && a >= 0)
            return a + b * work;
    }
    return v->l / v->w * work;
}

static double rate_of(const struct speed *v, double more)
{
    return v->time + more < ENOUGH ? 0 : v->work / (v->time + more) * USEC_PER_SEC;
}

/* Its quota is used up: it gets no more done than now. */
static bool is_dry(const struct upstream *u, usec_t now)
{
    return u->dried && now - u->dried <= DRY_FOR;
}

void speed_sent(struct upstream *u, usec_t now)
{
    struct speed *v = &u->speed;

    if (u->inflight < FULL * window_now(u) && !is_dry(u, now))
        return;
    if (!v->busy)
        v->busy_at = now;
    v->busy = true;
}

void speed_idle(struct upstream *u)
{
    u->speed.busy = false;
}

/* Of calls that end together only the first finds the window full; what counts is whether
 * it was filled again each time. */
static void count_capacity(struct upstream *u, double work, usec_t now)
{
    struct speed *v = &u->speed;
    usec_t since = v->at > v->busy_at ? v->at : v->busy_at;

    if (v->busy && now >= since)
        capacity_seen(&u->capacity, work, (double)(now - since));
}

void speed_done(struct upstream *u, usec_t latency, double work, usec_t now)
{
    struct speed *v = &u->speed;
    bool full = u->inflight + 1 >= FULL * window_now(u);
    double dt = (double)(now - v->at), guess = expected(v, work);

    if (latency < 1)
        latency = 1;
    if (guess > 0) {
        v->tail += log((double)latency / guess) > v->tail ? TAIL_UP : -TAIL_DOWN;
        v->n_tail++;
    }
    fit(v, (double)latency, work);
    count_capacity(u, work, now);
    if (full && v->full && dt >= 0) {
        pass(v, dt);
        v->work += work;
        v->calls++;
        v->long_work += work;
        u->rate = rate_of(v, 0);
    }
    v->full = full;
    v->at = now;
}

double speed_latency(const struct upstream *u)
{
    const struct speed *v = &u->speed;

    return v->n < FIT_FEW ? 0 : v->l / v->n;
}

double up_rate(const struct sched *s, uint16_t up)
{
    return s->ups[up].rate;
}

double up_rate_sure(const struct sched *s, uint16_t up)
{
    const struct upstream *u = &s->ups[up];
    const struct speed *v = &u->speed;
    double sure = v->long_time < ENOUGH ? 0 : v->long_work / v->long_time * USEC_PER_SEC;

    return sure > 0 && sure < u->rate ? sure : u->rate;
}

usec_t up_expect(const struct sched *s, uint16_t up, double work)
{
    return (usec_t)expected(&s->ups[up].speed, work);
}

usec_t up_timeout(const struct sched *s, uint16_t up, double most)
{
    const struct speed *v = &s->ups[up].speed;
    double at;

    if (v->n_tail < TAIL_FEW || most <= 0)
        return 0;
    at = TIMEOUT_FACTOR * exp(v->tail > 0 ? v->tail : 0) * expected(v, most);
    if (at < (double)TIMEOUT_LEAST)
        return TIMEOUT_LEAST;
    return at < 1e15 ? (usec_t)at : 0;
}

bool up_slow(const struct sched *s, uint16_t up)
{
    return s->ups[up].slow;
}

/* --- Who is slow --------------------------------------------------------------------- */

struct fleet {
    double rate[LIMIT_UPSTREAMS], latency[LIMIT_UPSTREAMS]; /* ascending */
    unsigned n, n_latency;
};

static void insert(double *v, unsigned n, double x)
{
    for (; n > 0 && v[n - 1] > x; n--)
        v[n] = v[n - 1];
    v[n] = x;
}

/* The median without one of it. */
static double median_without(const double *v, unsigned n, double x)
{
    unsigned at = 0, mid = (n - 1) / 2;

    if (n < 2)
        return 0;
    while (at < n - 1 && v[at] < x)
        at++;
    return v[mid < at ? mid : mid + 1 < n ? mid + 1 : mid];
}

static double latency_of(const struct speed *v)
{
    return v->n < FIT_FEW || v->late_w <= 0 ? 0 : v->late_l / v->late_w;
}

static bool is_judged(const struct upstream *u)
{
    return u->state == SCHED_UP_OPEN && u->rate > 0;
}

/* That nothing comes back shows only here. */
static void look(struct upstream *u, usec_t now)
{
    const struct speed *v = &u->speed;
    double silent = (double)(now - v->at);

    if (v->full && u->inflight > 0 && silent > 0 && rate_of(v, silent) < u->rate)
        u->rate = rate_of(v, silent);
}

/* Its calls take much longer than those of others, or none comes back. */
static bool is_late(const struct upstream *u, const struct fleet *f, usec_t now)
{
    double mine = latency_of(&u->speed);
    double theirs = median_without(f->latency, f->n_latency, mine);
    bool silent =
        u->inflight > 0 && (double)(now - u->speed.at) > SLOW_LATENCY * speed_latency(u);

    return silent || (theirs > 0 && mine > SLOW_LATENCY * theirs);
}

static void judge(struct upstream *u, const struct fleet *f, unsigned *n_slow, usec_t now)
{
    double others = median_without(f->rate, f->n, u->rate);
    bool turn;

    if (!is_judged(u) || others <= 0)
        return;
    if (u->slow)
        turn = u->rate > SLOW_UNTIL * others || !is_late(u, f, now);
    else
        turn = u->rate < SLOW_BELOW * others && *n_slow + 1 < f->n && is_late(u, f, now);
    u->speed.late = turn ? u->speed.late + 1 : 0;
    if (u->speed.late < JUDGE_ROW)
        return;
    u->slow = !u->slow;
    u->speed.late = 0;
    *n_slow += u->slow ? 1 : -1u;
}

void speed_judge(struct sched *s, usec_t now)
{
    struct fleet f = {.n = 0};
    unsigned n_slow = 0;

    if (now < s->judge_at)
        return;
    s->judge_at = now + JUDGE_EVERY;
    for (unsigned i = 0; i < s->n_ups; i++) {
        struct upstream *u = &s->ups[i];

        look(u, now);
        u->slow = u->slow && u->state == SCHED_UP_OPEN;
        n_slow += u->slow;
        if (!is_judged(u))
            continue;
        insert(f.rate, f.n++, u->rate);
        if (latency_of(&u->speed) > 0)
            insert(f.latency, f.n_latency++, latency_of(&u->speed));
    }
    for (unsigned i = 0; i < s->n_ups; i++)
        judge(&s->ups[i], &f, &n_slow, now);
}
