/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many calls an upstream gets.  What moves its window, in order of preference: its
 * quotas (sched_quota.c), its queue (sched_sample.c), or a search for the point from which
 * more calls bring nothing more; and rejects in any case.
 *
 * Latency moves nothing: that of a server with continuous batching rises to several times
 * its least on the way to the best window.
 */
#include "sched/sched_int.h"

/* A ceiling is tried again after so many successes, twice as many each time. */
#define CEILING_CALLS 128
#define CEILING_TIMES 5
#define CEILING_ROW   4   /* rejects in a row tell of one anyway */
#define CEILING_FULL  0.9 /* of the window is in flight when a reject tells of one */

/* Growth past a ceiling that holds no more, and where nothing else is known. */
#define PAST_CEILING 0.25

/* The most that one flight's rejects take: all but this share. */
#define FLIGHT_KEEPS 0.25
/* Rejects of a share like this are no accident: what is in flight is what it takes. */
#define MANY_REJECTS 0.25

/* Little's law with so much to spare: it protects sockets, not the quota. */
#define LITTLE_SPARE 3.0
#define DRY_FOR      (10 * USEC_PER_SEC)

/* The search for the knee. */
#define KNEE_CALLS  16   /* the least that tell of a window */
#define KNEE_GAIN   1.05 /* more than that is worth doubling */
#define KNEE_SPARE  1.25 /* times the last good one */
#define KNEE_BETTER 1.03 /* worth that spare */
#define KNEE_LOST   0.6  /* of what it did: it is another server now */
#define KNEE_AGAIN  6    /* flights from one try to the next */
#define KNEE_MOST   512
#define KNEE_FULL   0.9

/* What is told of memory is used up to here; the server's queue tells the rest. */
#define HINT_MOST  (4 * SCHED_START)
#define HINT_CALLS 8

static void knee_begin(struct upstream *u, usec_t now);

void window_put(struct upstream *u, double window, enum sched_signal by)
{
    double most = u->o.window;

    if (window > most)
        window = most;
    if (window < 1)
        window = 1;
    if ((unsigned)window != (unsigned)u->window)
        u->by = by;
    u->window = window;
}

void window_init(struct upstream *u)
{
    u->window = u->o.start ? u->o.start : SCHED_START;
    if (u->o.fixed || u->window > u->o.window)
        u->window = u->o.window;
    u->resume = u->window;
    u->discover = true;
    u->recover = -1;
    knee_begin(u, 0);
}

unsigned window_now(const struct upstream *u)
{
    return u->state == SCHED_UP_TRIAL ? 1 : (unsigned)u->window;
}

void window_died(struct upstream *u)
{
    double start = u->o.start ? u->o.start : SCHED_START;

    if (start > u->o.window)
        start = u->o.window;
    u->resume = u->window > start ? u->window : start;
    window_put(u, start / 4, SCHED_BY_NOTHING);
    u->discover = true;
    u->ceiling = 0;
    knee_begin(u, u->since);
}

/* Up to the ceiling, and past it when it is time to try. */
void window_grow(struct upstream *u, double by, enum sched_signal why)
{
    double to = u->window + by;

    if (u->o.fixed)
        why = SCHED_BY_REJECTS; /* nothing else took it down */
    if (u->ceiling > 0 && to > u->ceiling)
        to = u->window > u->ceiling ? u->window : u->ceiling;
    if (to > u->window)
        window_put(u, to, why);
}

/* --- Rejects ------------------------------------------------------------------------- */

static void ceiling_found(struct upstream *u, double level)
{
    u->ceilings = u->tries ? u->ceilings + 1 : u->ceilings;
    if (u->ceilings > CEILING_TIMES)
        u->ceilings = CEILING_TIMES;
    u->ceiling = level > 1 ? level : 1;
    u->tries = false;
    u->held = 0;
}

/* One cut per flight, by half the share that was rejected: a server that refuses
 * everything halves the window, one that refuses one call in a hundred hardly moves it. */
static void cut(struct upstream *u, const struct sched_ticket *t, double weight,
                usec_t now)
{
    if (t->sent <= u->recover)
        return;
    u->recover = now;
    u->cut_from = u->window;
    window_put(u,
               u->window * (1 - (u->reject_ewma > weight ? u->reject_ewma : weight) / 2),
               SCHED_BY_REJECTS);
}

/*
 * A server with a limit refuses what is over it and nothing else: what is in flight after
 * a reject is then exactly what it takes, and one more is tried seldom.  Where fewer than
 * were fine before are refused, it is another reason, or another limit.
 */
bool window_rejected(struct upstream *u, const struct sched_ticket *t, usec_t now)
{
    double weight = 1 / (u->window + 1), level = u->inflight, least;
    bool full = level + 1 >= CEILING_FULL * u->window || u->reject_row >= CEILING_ROW;
    bool news = full && (u->ceiling <= 0 || level >= u->ceiling ||
                         (u->lowers && t->sent <= u->recover));

    u->reject_row++;
    u->reject_ewma += (1 - u->reject_ewma) * weight;
    if (news)
        ceiling_found(u, level);
    u->lowers = news;
    cut(u, t, weight, now);
    least = u->cut_from * FLIGHT_KEEPS;
    if (least < level)
        least = level;
    if ((news || u->reject_ewma > MANY_REJECTS) && u->window > least)
        window_put(u, least, SCHED_BY_REJECTS);
    u->discover = false;
    u->resume = 0;
    knee_begin(u, now);
    return u->reject_row >= 3 && u->reject_row >= (unsigned)u->window &&
           t->sent >= u->reopen;
}

/* Successes below a ceiling: is it time to try one more, or has that been fine? */
static void ceiling_held(struct upstream *u, const struct sched_ticket *t, usec_t now)
{
    double want = CEILING_CALLS * (double)(1u << u->ceilings);

    if (t->sent <= u->recover)
        return;
    u->held++;
    if (u->tries) {
        if (u->held < u->window)
            return;
        u->tries = false;
        u->ceiling = 0;
        u->ceilings = 0;
        u->recover = now;
        window_grow(u, PAST_CEILING * u->window, SCHED_BY_REJECTS);
        return;
    }
    if (u->held < want || now < u->hold || u->window < u->ceiling || !u->filled)
        return;
    u->tries = true;
    u->held = 0;
    u->recover = now;
    window_put(u, u->ceiling + (u->ceiling > 100 ? u->ceiling / 100 : 1),
               SCHED_BY_REJECTS);
}

/* --- The knee ------------------------------------------------------------------------ */

static void knee_listen(struct upstream *u, usec_t now)
{
    struct knee *k = &u->knee;

    k->since = now;
    k->n = k->calls = k->work = k->latency = 0;
}

static void knee_begin(struct upstream *u, usec_t now)
{
    u->knee = (struct knee){.state = KNEE_GROW, .good = u->window};
    knee_listen(u, now);
}

static double knee_most(const struct upstream *u)
{
    double most = u->o.window < KNEE_MOST ? u->o.window : KNEE_MOST;

    if (u->requests.told || u->tokens.told) /* the quota keeps it from being too much */
        most = u->o.window;

    if (u->slots && u->slots + u->slots / 20.0 + 1 < most)
        most = u->slots + u->slots / 20.0 + 1;
    return most;
}

static void knee_put(struct upstream *u, double window, usec_t now)
{
    if (window > knee_most(u))
        window = knee_most(u);
    if (window > u->window)
        window_grow(u, window - u->window, SCHED_BY_KNEE);
    else
        window_put(u, window, SCHED_BY_KNEE);
    knee_listen(u, now);
}

static void knee_rest(struct upstream *u, double window, usec_t now)
{
    u->knee.state = KNEE_REST;
    u->knee.flights = 0;
    knee_put(u, window, now);
}

/* One flight has told what is done with this window. */
static void knee_step(struct upstream *u, double rate, usec_t now)
{
    struct knee *k = &u->knee;

    switch (k->state) {
    case KNEE_GROW:
        if (k->best > 0 && rate < KNEE_GAIN * k->best) {
            knee_rest(u, KNEE_SPARE * k->good, now);
            return;
        }
        k->good = u->window;
        k->best = rate;
        if (u->window >= knee_most(u))
            knee_rest(u, u->window, now);
        else
            knee_put(u, (u->cut_from > 0 ? KNEE_SPARE : 2) * u->window, now);
        return;
    case KNEE_REST:
        k->best = k->flights == 0 ? rate : k->best + (rate - k->best) / 4;
        k->good = u->window;
        if (rate < KNEE_LOST * k->best) {
            k->state = KNEE_GROW;
            k->best = 0;
            knee_put(u, u->window / 2, now);
        } else if (++k->flights < KNEE_AGAIN || u->window >= knee_most(u)) {
            knee_listen(u, now);
        } else {
            k->state = KNEE_PROBE;
            knee_put(u, KNEE_SPARE * u->window, now);
        }
        return;
    case KNEE_PROBE:
        knee_rest(u, rate > KNEE_BETTER * k->best ? u->window : k->good, now);
        return;
    }
}

/*
 * What a window gets done, by Little's law: calls in flight times work over latency.  Work
 * and latency of the same calls go together, so that this is steadier than work over time:
 * a few long answers more or less change both.
 */
static void knee_heard(struct upstream *u, const struct sched_ticket *t, double work,
                       usec_t now)
{
    struct knee *k = &u->knee;
    double enough = u->window / 2 > KNEE_CALLS ? u->window / 2 : KNEE_CALLS;

    if (t->sent < k->since || u->inflight + 1 < KNEE_FULL * u->window || now <= t->sent)
        return;
    k->n++;
    k->calls += u->inflight + 1;
    k->work += work;
    k->latency += (double)(now - t->sent);
    if (k->n >= enough)
        knee_step(u, k->calls / k->n * k->work / k->latency, now);
}

/* --- Successes ----------------------------------------------------------------------- */

/* The quota is what limits: so many calls are in flight on the average. */
static void little(struct upstream *u, usec_t now)
{
    double calls = bucket_calls(u) * speed_latency(u) / USEC_PER_SEC * LITTLE_SPARE;
    double start = u->o.start ? u->o.start : SCHED_START;

    if (now - u->dried > DRY_FOR || calls <= 0)
        return;
    if (calls < start)
        calls = start;
    if (calls > u->window)
        window_grow(u, calls - u->window, SCHED_BY_QUOTA);
    else
        window_put(u, calls, SCHED_BY_QUOTA);
}

static void hint_apply(struct upstream *u)
{
    double fits =
        u->tokens_mean > 0 && u->kv_tokens > 0 ? u->kv_tokens / u->tokens_mean : 0;

    if (u->slots)
        fits = u->slots + u->slots / 20.0 + 1;
    if (u->slots == 0 && fits > HINT_MOST)
        fits = HINT_MOST;
    if (fits >= 1 && u->discover && !u->o.fixed && u->ceiling <= 0)
        window_put(u, fits, SCHED_BY_NOTHING);
}

void window_succeeded(struct upstream *u, const struct sched_ticket *t, double work,
                      usec_t now)
{
    bool late = t->sent <= u->recover;

    u->reject_row = 0;
    u->reject_ewma *= 1 - 1 / (u->window + 1);
    if (u->done == HINT_CALLS && u->slots == 0 && u->window <= SCHED_START)
        hint_apply(u);
    if (u->ceiling > 0)
        ceiling_held(u, t, now);
    if (late)
        return;
    if (u->window < u->resume) {
        window_grow(u, 1, SCHED_BY_REJECTS);
    } else if (u->ceiling > 0 || u->o.fixed) {
        if (!sample_trusted(u, now) || u->o.fixed)
            window_grow(u, 1 / u->window, SCHED_BY_REJECTS);
    } else if (u->dried && now - u->dried <= DRY_FOR) {
        if (!sample_trusted(u, now))
            little(u, now);
    } else if (!sample_trusted(u, now)) {
        knee_heard(u, t, work, now);
    }
}

void sched_hint(struct sched *s, uint16_t up, unsigned slots, uint64_t kv_tokens)
{
    struct upstream *u = &s->ups[up];

    CHECK(up < s->n_ups);
    TRACE(s, HINT, up, slots, (int64_t)kv_tokens);
    u->slots = slots ? slots : u->slots;
    u->kv_tokens = kv_tokens ? (double)kv_tokens : u->kv_tokens;
    if (u->sampled == 0 || u->discover)
        hint_apply(u);
    knee_begin(u, 0);
    up_refresh(s, up);
}
