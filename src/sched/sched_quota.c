/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an upstream allows a minute, in requests and in tokens: two levels that fill with
 * time.  A call takes what it may cost at most, as providers count (prompt and max_tokens),
 * and gets back at its end what it did not use.  What the server says of its own level
 * lowers ours, never raises it.
 *
 * Sources: the headers x-ratelimit-* (OpenAI, "Rate limits"; Azure; Groq) and
 * anthropic-ratelimit-*; what is reserved for a call: Cerebras, "Rate limits".
 */
#include "sched/sched_int.h"

/* We fill a little slower than the server does. */
#define PACE 0.98

/* What went in the last one or two slices may not have reached the server yet. */
#define SLICE (25 * USEC_PER_MS)

/* A quota that only the operator told: no more at once than so many seconds' worth, as
 * nothing is known of how it is counted. */
#define BURST_BLIND (2.0 / 60)

/* A quota that begins anew at a time, at once, says a time that fits no even filling. */
#define ODD_SURE 4
#define ODD_MOST 8

/* The server has so much more left than we think, for so long: it gives back what a call
 * did not use, and somebody thought that it does not. */
#define MORE_SHARE 0.3
#define MORE_FOR   (10 * USEC_PER_SEC)

/* The dearest calls of late are remembered for so many. */
#define NEED_CALLS 64

static double filling(const struct bucket *q) /* a microsecond */
{
    return PACE * q->limit / (60.0 * USEC_PER_SEC);
}

static void pour(struct bucket *q, double more)
{
    q->level = q->level + more < q->burst ? q->level + more : q->burst;
}

static void fill(struct bucket *q, usec_t now)
{
    if (q->limit <= 0)
        return;
    if (q->whole && now >= q->whole) {
        q->level = PACE * q->burst;
        q->whole += 60 * USEC_PER_SEC; /* until an answer tells better */
        if (q->whole <= now)
            q->whole = now + 60 * USEC_PER_SEC;
    } else if (!q->whole && now > q->at) {
        pour(q, filling(q) * (double)(now - q->at));
    }
    q->at = now;
}

static void take(struct bucket *q, double cost, usec_t now)
{
    if (now - q->slice >= SLICE) {
        q->before = now - q->slice < 2 * SLICE ? q->recent : 0;
        q->recent = 0;
        q->slice = now;
    }
    q->recent += cost;
    fill(q, now);
    q->level -= cost;
}

static void set_limit(struct bucket *q, double limit, double burst)
{
    if (q->limit <= 0 || q->level > burst)
        q->level = burst;
    q->limit = limit;
    q->burst = burst;
}

void bucket_init(struct upstream *u)
{
    u->tokens = u->requests = (struct bucket){.level = 0};
    if (u->o.requests_per_min > 0) {
        double burst = u->o.requests_per_min * BURST_BLIND;

        set_limit(&u->requests, u->o.requests_per_min, burst > 1 ? burst : 1);
    }
    if (u->o.tokens_per_min > 0)
        set_limit(&u->tokens, u->o.tokens_per_min, u->o.tokens_per_min * BURST_BLIND);
}

void bucket_fill(struct upstream *u, usec_t now)
{
    fill(&u->requests, now);
    fill(&u->tokens, now);
}

void bucket_take(struct upstream *u, double cost, usec_t now)
{
    take(&u->requests, 1, now);
    take(&u->tokens, cost, now);
    u->need -= u->need / NEED_CALLS;
    if (u->need < cost)
        u->need = cost;
}

void bucket_refund(struct upstream *u, double tokens, usec_t now)
{
    fill(&u->tokens, now);
    if (u->tokens.limit > 0 && tokens > 0 && !u->keeps_tokens)
        pour(&u->tokens, tokens);
}

/* A call that costs more than fits goes when the level is as high as it gets. */
static double wanted(const struct upstream *u)
{
    double most = PACE * u->tokens.burst;

    return u->need < most ? u->need : most;
}

/* What is missing, in time. */
static usec_t wait_for(const struct bucket *q, double want)
{
    double missing = want - q->level;

    if (q->limit <= 0 || missing <= 0)
        return 0;
    if (q->whole)
        return q->whole > q->at ? q->whole - q->at : 1;
    missing /= filling(q);
    return missing < 1e15 ? (usec_t)missing + USEC_PER_MS : (usec_t)1e15;
}

usec_t bucket_wait(const struct upstream *u)
{
    usec_t a = wait_for(&u->requests, 1), b = wait_for(&u->tokens, wanted(u));

    return a > b ? a : b;
}

bool bucket_room(const struct upstream *u)
{
    return bucket_wait(u) == 0;
}

double bucket_calls(const struct upstream *u)
{
    double calls = u->requests.limit / 60, by_tokens = u->tokens.limit / 60;

    if (by_tokens > 0 && u->tokens_mean > 0) {
        by_tokens /= u->tokens_mean;
        if (calls <= 0 || by_tokens < calls)
            calls = by_tokens;
    }
    return calls;
}

bool bucket_rejected(struct upstream *u, usec_t now)
{
    struct bucket *both[] = {&u->requests, &u->tokens};
    bool why = false;

    bucket_fill(u, now);
    for (unsigned i = 0; i < COUNTOF(both); i++) {
        struct bucket *q = both[i];

        if (q->limit <= 0 || q->level > q->burst / 2)
            continue;
        why = true;
        q->level = q->level < 0 ? q->level : 0;
    }
    if (why)
        u->dried = now;
    /* Were it the requests, their level would be what is low. */
    u->keeps_tokens =
        u->keeps_tokens || (why && u->tokens.limit > 0 && u->tokens.level < wanted(u) &&
                            wait_for(&u->requests, 1) == 0);
    return why;
}

/* When the quota will be whole again, if it fills evenly, and when the server says so. */
static void judge_kind(struct bucket *q, double left, usec_t reset, usec_t now)
{
    double used = q->limit - left, even = used / q->limit * 60 * USEC_PER_SEC;
    double off = (double)reset - even, slack = 0.3 * even;

    if (used < 2 || used < q->limit / 50)
        return;
    if (slack < 1.5 * USEC_PER_SEC)
        slack = 1.5 * USEC_PER_SEC;
    if (off > slack || off < -slack)
        q->odd += q->odd < ODD_MOST;
    else
        q->odd -= q->odd > -ODD_MOST;
    if (q->odd >= ODD_SURE)
        q->whole = now + reset;
    else if (q->odd <= 0)
        q->whole = 0;
}

/* unseen: taken by calls that the server may not have counted yet. */
static void told(struct bucket *q, double configured, double limit, double left,
                 usec_t reset, double flying, usec_t now)
{
    double unseen = now - q->slice < SLICE ? q->recent + q->before : 0;

    if (now - q->slice >= SLICE && now - q->slice < 2 * SLICE)
        unseen = q->recent;
    fill(q, now);
    if (limit >= 1) {
        if (!q->told)
            unseen = flying;
        if (configured > 0 && configured < limit)
            limit = configured;
        set_limit(q, limit, limit);
        if (!q->told)
            q->more = now;
        q->told = true;
        q->at = now;
    }
    if (q->limit <= 0 || left < 0)
        return;
    if (q->level > left - unseen)
        q->level = left - unseen;
    if (left - flying - q->level < MORE_SHARE * q->limit)
        q->more = now;
    if (reset >= 0 && q->told)
        judge_kind(q, left, reset, now);
}

void sched_limited(struct sched *s, uint16_t up, const struct sched_limits *l, usec_t now)
{
    struct upstream *u = &s->ups[up];
    double flying = u->inflight > 1 ? u->inflight - 1 : 0;

    CHECK(up < s->n_ups);
    if (UNLIKELY(s->trace.fn))
        trace_limited(&s->trace, up, l, now);
    told(&u->requests, u->o.requests_per_min, l->requests, l->requests_left,
         l->requests_reset, flying, now);
    flying *= u->need;
    told(&u->tokens, u->o.tokens_per_min, l->tokens, l->tokens_left, l->tokens_reset,
         flying, now);
    if (u->keeps_tokens && l->tokens_left >= 0 && u->tokens.told &&
        now - u->tokens.more > MORE_FOR) {
        u->keeps_tokens = false;
        u->tokens.level = l->tokens_left - flying < u->tokens.burst
                              ? l->tokens_left - flying
                              : u->tokens.burst;
    }
    up_refresh(s, up);
}
