/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The window by the server's own queue: what waits there is to be a fraction of a second's
 * work, so that it never idles and the order of all else is still ours.  And the gate for
 * idle work: that stops being sent as soon as the server has hardly room for others.
 */
#include "sched/sched_int.h"

#include <math.h>

/* How often metrics are asked for: with calls in flight, and without; doubled while there is
 * no answer. */
#define EVERY      (500 * USEC_PER_MS)
#define EVERY_IDLE (5 * USEC_PER_SEC)
#define EVERY_MOST (60 * USEC_PER_SEC)
#define JITTER     10 /* a tenth */

/* A sample is news for so long, in its intervals; and for so many failures. */
#define STALE       (4 * USEC_PER_SEC)
#define STALE_TIMES 3

/* The queue that is too short, and the one that is too long: in calls, in seconds of calls,
 * and as a share of those that run. */
#define SHORT_CALLS   2
#define SHORT_SECONDS 0.05
#define LONG_CALLS    4
#define LONG_SECONDS  0.15
#define LONG_SHARE    0.06

/* Growth while the queue is short. */
#define DISCOVER 1.5
#define TRACK    0.05

/* Memory is short when requests lose theirs: the cut. */
#define KV_FULL   0.9
#define KV_THRASH 0.02
#define KV_CUT    0.93

/* Samples in a row that cannot be of what we send. */
#define DOUBT    6
#define OURS     0.3 /* of our calls must be seen in it */
#define OURS_FEW 8

/* Idle work: shares of what the server does at once, and how idle lines follow. */
#define RESERVE         0.45
#define HOT_SHARE       0.9 /* of the reserve: so much is left when idle work must go */
#define KV_COOL         0.7
#define RUNNING_UNKNOWN 256 /* vLLM's max_num_seqs, where nothing else is known */
#define IDLE_GROW       0.05
#define IDLE_GAP        (100 * USEC_PER_MS) /* at most */
#define IDLE_ALONE      0.1 /* calls of others, less than that: there are none */
#define OTHERS_FADE     16  /* samples */
#define IDLE_PACE       1.2 /* times the pace of those that end */
#define BLIND_GAP       (20 * USEC_PER_MS) /* the same without metrics */
#define BLIND_PACE      2

/* --- Who is asked, and when ---------------------------------------------------------- */

bool sample_trusted(const struct upstream *u, usec_t now)
{
    usec_t news = STALE_TIMES * (u->sample_at - u->sampled);

    if (u->sampled == 0 || u->sample.waiting < 0 || u->same >= DOUBT ||
        u->foreign >= DOUBT || u->sample_fails >= STALE_TIMES)
        return false;
    return now - u->sampled <= (news > STALE ? news : STALE);
}

static usec_t interval(struct sched *s, const struct upstream *u)
{
    usec_t every =
        sched_doubled(u->inflight ? EVERY : EVERY_IDLE, u->sample_fails, EVERY_MOST);

    return every - every / JITTER + sched_jitter(s, 2 * every / JITTER);
}

void sample_busy(struct sched *s, struct upstream *u, usec_t now)
{
    usec_t soon;

    if (u->inflight != 1 || u->sampling)
        return;
    soon = now + interval(s, u);
    if (u->sample_at > soon)
        u->sample_at = soon;
}

static bool next_sample(struct sched *s, uint16_t *ret_up, usec_t now)
{
    s->samples = true;
    for (unsigned i = 0; i < s->n_ups; i++) {
        uint16_t up = s->sample_next < s->n_ups ? s->sample_next : 0;
        struct upstream *u = &s->ups[up];

        s->sample_next = (uint16_t)(up + 1);
        if (u->sampling || u->state == SCHED_UP_DEAD || now < u->sample_at)
            continue;
        u->sampling = true;
        u->asked_inflight = u->inflight;
        *ret_up = up;
        return true;
    }
    return false;
}

bool sched_sample_due(struct sched *s, uint16_t *ret_up, usec_t now)
{
    bool got = next_sample(s, ret_up, now);

    TRACE(s, DUE, now, got, got ? *ret_up : 0);
    return got;
}

usec_t sample_wake(const struct sched *s)
{
    usec_t at = USEC_INFINITY;

    for (unsigned i = 0; s->samples && i < s->n_ups; i++) {
        const struct upstream *u = &s->ups[i];

        if (!u->sampling && u->state != SCHED_UP_DEAD && u->sample_at < at)
            at = u->sample_at;
    }
    return at;
}

/* --- The window ---------------------------------------------------------------------- */

/* Steps of growth that one sample stands for: they are rarer where the network is slow. */
static double steps(usec_t since)
{
    if (since >= 8 * EVERY)
        return 3;
    return since >= 3 * EVERY ? 2 : 1;
}

static void grow(struct upstream *u, usec_t since)
{
    double n = steps(since), by = TRACK * u->window * n;

    if (!u->filled)
        return;
    if (u->discover)
        by = u->window * (pow(DISCOVER, n) - 1) + 1;
    else if (by < 2)
        by = 2;
    window_grow(u, by, SCHED_BY_METRICS);
}

static void shrink(struct upstream *u, double to)
{
    if (to < u->window / 2)
        to = u->window / 2;
    u->discover = false;
    u->resume = 0;
    if (to < u->window)
        window_put(u, to, SCHED_BY_METRICS);
}

static void steer(struct upstream *u, const struct sched_sample *m, double preempted,
                  usec_t since)
{
    double running = m->running > 0 ? m->running : 0;
    double low = SHORT_SECONDS * u->call_rate, high = LONG_SECONDS * u->call_rate;

    if (u->state != SCHED_UP_OPEN || u->o.fixed || m->waiting < 0)
        return;
    if (low < SHORT_CALLS)
        low = SHORT_CALLS;
    if (high < LONG_SHARE * running)
        high = LONG_SHARE * running;
    if (high < LONG_CALLS)
        high = LONG_CALLS;
    if (m->kv > KV_FULL && preempted > KV_THRASH * (running > 1 ? running : 1))
        shrink(u, KV_CUT * u->window);
    else if (m->waiting <= low)
        grow(u, since);
    else if (m->waiting > high) /* what waits too much came from what is in flight */
        shrink(u, u->inflight - (m->waiting - high));
    else
        u->discover = false;
}

/* --- Doubt --------------------------------------------------------------------------- */

static bool is_frozen(const struct upstream *u, const struct sched_sample *m)
{
    const struct sched_sample *was = &u->sample;

    return u->sampled && u->done > u->asked_done + OURS_FEW &&
           (m->kv >= 0 || m->prefix_queries >= 0) && m->running == was->running &&
           m->waiting == was->waiting && m->kv == was->kv &&
           m->prefix_queries == was->prefix_queries && m->running + m->waiting > 0;
}

/* One server of several behind one address is asked, each time another perhaps. */
static bool is_foreign(const struct upstream *u, const struct sched_sample *m)
{
    unsigned ours = u->inflight < u->asked_inflight ? u->inflight : u->asked_inflight;

    return ours >= OURS_FEW &&
           m->running + (m->waiting > 0 ? m->waiting : 0) < OURS * (double)ours;
}

/* --- Idle work ----------------------------------------------------------------------- */

static double reserve(const struct upstream *u)
{
    return u->o.reserve > 0 && u->o.reserve < 1 ? u->o.reserve : RESERVE;
}

/* How many it does at once. */
static double most_running(const struct upstream *u)
{
    if (u->slots)
        return u->slots;
    return u->max_running > 0 ? u->max_running : RUNNING_UNKNOWN;
}

/* More wait than have just come: the next iteration takes those. */
static bool is_crowded(const struct sched_sample *m)
{
    return m->waiting > 2 + 0.02 * (m->running > 0 ? m->running : 0);
}

/* Others wait, or soon would: what is too much goes, at least one. */
static void gate_hot(struct upstream *u, double excess)
{
    double to = u->inflight - (excess < 1 ? 1 : excess);

    if (to < u->idle_window)
        u->idle_window = to > 0 ? to : 0;
}

static void gate_cool(struct upstream *u, double room)
{
    double to = u->idle_window * (1 + IDLE_GROW);
    bool limits = u->idle_window <= u->window;

    if (to < u->idle_window + 2)
        to = u->idle_window + 2;
    if (to > u->inflight + room)
        to = u->inflight + room;
    if (to > u->idle_window)
        u->idle_window = to < u->o.window ? to : u->o.window;
    /* Where the server has room for idle work it has room: beside requests of others, and
     * filled to a part, nothing else would show it. */
    if (limits && u->state == SCHED_UP_OPEN && !u->o.fixed)
        window_grow(u, u->idle_window - u->window, SCHED_BY_METRICS);
}

static void gate(struct upstream *u, const struct sched_sample *m)
{
    double most = most_running(u), running = m->running > 0 ? m->running : 0;
    double waiting = m->waiting > 0 ? m->waiting : 0, cool = (1 - reserve(u)) * most;

    if (is_crowded(m) || running > (1 - HOT_SHARE * reserve(u)) * most || m->kv > KV_FULL)
        gate_hot(u, waiting + running - cool);
    else if (running < cool && m->kv < KV_COOL && u->inflight >= idle_now(u))
        gate_cool(u, cool - running);
}

unsigned idle_now(const struct upstream *u)
{
    double window = window_now(u), share = (1 - reserve(u)) * window;

    if (u->sampled == 0 || u->sample_fails >= STALE_TIMES || u->same >= DOUBT)
        window = share < 1 ? 1 : share;
    else if (u->idle_window < window)
        window = u->idle_window;
    return (unsigned)window;
}

bool up_idle_room(const struct sched *s, uint16_t up)
{
    const struct upstream *u = &s->ups[up];

    return sched_set_has(&s->roomy, up) && u->inflight < idle_now(u) &&
           s->now >= u->idle_next;
}

/* Several prompts at once are one long iteration of the server, in which nobody else's
 * answer begins: beside others idle lines follow each other at the pace of those that end
 * and a little more. */
void idle_sent(struct upstream *u, usec_t now)
{
    bool told = u->sampled > 0 && u->sample_fails < STALE_TIMES;
    double gap = told ? IDLE_GAP : BLIND_GAP, pace = told ? IDLE_PACE : BLIND_PACE;
    double ends = u->end_rate > 0 ? USEC_PER_SEC / u->end_rate : gap;

    if (told && u->others < IDLE_ALONE)
        return;
    if (ends / pace < gap)
        gap = ends / pace;
    u->idle_next = now + (usec_t)gap;
}

usec_t idle_wake(const struct sched *s, usec_t now)
{
    usec_t at = USEC_INFINITY;

    for (unsigned i = 0; i < s->n_ups; i++) {
        const struct upstream *u = &s->ups[i];

        if (u->idle_next > now && u->idle_next < at && u->inflight < idle_now(u))
            at = u->idle_next;
    }
    return at;
}

/* --- What came ----------------------------------------------------------------------- */

static void count_calls(struct upstream *u, usec_t since)
{
    double seconds = (double)since / USEC_PER_SEC;
    double rate = (double)(u->done - u->asked_done) / seconds;

    u->call_rate += (rate - u->call_rate) * (1 - exp(-seconds / 3));
}

static void count_hits(struct upstream *u, const struct sched_sample *m)
{
    double queries = m->prefix_queries - u->sample.prefix_queries;
    double hits = m->prefix_hits - u->sample.prefix_hits;

    if (m->prefix_queries < 0 || m->prefix_hits < 0 || queries <= 0 || hits < 0 ||
        hits > queries || u->sample.prefix_queries < 0)
        return;
    u->queries = 0.9 * u->queries + queries;
    u->hits = 0.9 * u->hits + hits;
}

/* The most it has running, while others wait. */
static void learn_most(struct upstream *u, const struct sched_sample *m)
{
    if (is_crowded(m) && is_crowded(&u->sample) && m->running <= u->sample.running + 1 &&
        m->kv < KV_COOL)
        u->max_running = m->running; /* others wait and no more of them run */
    if (u->max_running > 0 && m->running > u->max_running)
        u->max_running = m->running;
}

/* Calls of others that run there, on the average of some samples. */
static void count_others(struct upstream *u, const struct sched_sample *m)
{
    unsigned ours = u->inflight > u->asked_inflight ? u->inflight : u->asked_inflight;
    double others = m->running + (m->waiting > 0 ? m->waiting : 0) - ours;

    if (u->sampled == 0)
        u->others = 1; /* until it is known that there are none */
    u->others += ((others > 0 ? others : 0) - u->others) / OTHERS_FADE;
}

static double preemptions(const struct upstream *u, const struct sched_sample *m)
{
    bool told = m->preemptions >= 0 && u->sample.preemptions >= 0;

    return told ? m->preemptions - u->sample.preemptions : 0;
}

static void learn(struct upstream *u, const struct sched_sample *m, usec_t now)
{
    usec_t since = now - u->sampled;
    double preempted = 0;

    if (u->sampled == 0) {
        u->idle_window =
            (1 - reserve(u)) * (u->window < SCHED_START ? u->window : SCHED_START);
        since = EVERY;
    } else if (since > 0) {
        count_calls(u, since);
        count_hits(u, m);
        preempted = preemptions(u, m);
    }
    u->same = is_frozen(u, m) ? u->same + 1 : 0;
    u->foreign = is_foreign(u, m) ? u->foreign + 1 : 0;
    learn_most(u, m);
    count_others(u, m);
    if (u->same == 0 && u->foreign == 0) {
        steer(u, m, preempted, since);
        gate(u, m);
    }
    u->asked_done = u->done;
    u->sample = *m;
    u->sampled = now > 0 ? now : 1;
    u->filled = false;
}

void sched_sampled(struct sched *s, uint16_t up, const struct sched_sample *m, usec_t now)
{
    struct upstream *u = &s->ups[up];

    CHECK(up < s->n_ups && u->sampling);
    if (UNLIKELY(s->trace.fn))
        trace_sampled(&s->trace, up, m, now);
    u->sampling = false;
    if (m && (m->waiting >= 0 || m->running >= 0)) {
        u->sample_fails = 0;
        learn(u, m, now);
    } else if (u->sample_fails < 32) {
        u->sample_fails++;
    }
    u->sample_at = now + interval(s, u);
    up_refresh(s, up);
}
