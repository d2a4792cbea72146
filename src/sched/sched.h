/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sched: the whole of dispatch policy: which line goes next, to which upstream, when a
 * failed one is tried again, when an upstream is left alone.
 *
 * Pure: no sockets, no clock, no randomness but its seed; `now` is monotonic and passed
 * in, so that a simulation and the server run the same code.  Nothing is allocated on the
 * way of a line but the growth of what holds the retries.
 *
 * Threads: one owner.
 *
 * Policy: the highest priority first, strictly; batches of one priority in turn, one line
 * each; within a batch lines whose time for another try has come, then fresh ones in file
 * order.  What cannot go now (paused, held, its group full, no room in its upstreams)
 * stands aside and blocks nobody.  Of its upstreams a line gets the one with the smallest
 * share of its window in use, another one than failed before where there is a choice.  A
 * window shrinks once per flight by the rejected share and grows by one a window of
 * successes; a breaker per upstream (Postfix's pseudo-cohorts) lets a health probe and then
 * one real call through before it closes.
 *
 * The last try of a line whose calls broke is made with nothing beside it on its upstream,
 * so that a request that kills servers takes no other line with it: an idle upstream of its
 * set is taken for it, or else one of them, and one only at a time, is drained while the
 * others go on.
 *
 * A failure counts against a line only when the upstream was in order: connection
 * failures, rejects (429, 503) and whatever arrives while the breaker is open cost time,
 * never a line.
 */
#pragma once

#include "base/base.h"
#include "base/clock.h"
#include "base/limits.h"
#include "core/outcome.h"

#define SCHED_PRIORITY_MIN (-10)
#define SCHED_PRIORITY_MAX 10

struct sched;

struct sched_opts {
    unsigned max_attempts; /* of failures that count against a line; 0: 5 */
    usec_t backoff_base; /* 0: 1 s; full jitter U(0, min(cap, base * 2^n)) (AWS, 2015) */
    usec_t backoff_cap;  /* 0: 60 s */
    usec_t probe_base;   /* 0: 1 s; a dead upstream is probed after 1, 2, 4 ... */
    usec_t probe_cap;    /* 0: 30 s */
    usec_t retry_after_cap; /* 0: 10 min: longer Retry-After are taken for so long */
    uint64_t seed;
};

struct sched *sched_new(const struct sched_opts *o);
struct sched *sched_free(struct sched *s); /* accepts NULL, returns NULL */

/* Upstreams by handle. */
struct sched_set {
    uint64_t w[LIMIT_UPSTREAMS / 64];
};

static inline void sched_set_add(struct sched_set *set, uint16_t up)
{
    set->w[up / 64] |= (uint64_t)1 << (up % 64);
}

static inline void sched_set_del(struct sched_set *set, uint16_t up)
{
    set->w[up / 64] &= ~((uint64_t)1 << (up % 64));
}

static inline bool sched_set_has(const struct sched_set *set, uint16_t up)
{
    return set->w[up / 64] >> (up % 64) & 1;
}

/* --- Upstreams -----------------------------------------------------------------------
 */

struct sched_upstream_opts {
    unsigned window; /* most calls in flight */
    unsigned
        start;   /* the window to begin with; 0: SCHED_START or `window`, the smaller */
    bool fixed;  /* the window is `window`, and only rejects move it */
    bool aborts; /* a call that is closed costs the server nothing more: its lines may
                        be hedged (sched_upstream_aborts) */
    double requests_per_min, tokens_per_min; /* its quotas; 0: what its headers say */
    double reserve; /* share of its room that idle work leaves to others; 0: 0.45 */
};

/* What one GET of an upstream's metrics said.  Numbers below 0: not told. */
struct sched_sample {
    double running, waiting;            /* requests */
    double kv;                          /* share of its KV memory in use, 0 to 1 */
    double preemptions;                 /* so far */
    double prefix_hits, prefix_queries; /* tokens, so far */
};

/* What the headers of one answer said of quotas.  Numbers below 0: not told. */
struct sched_limits {
    double requests, requests_left, tokens, tokens_left;
    usec_t requests_reset, tokens_reset; /* until the quota is whole again */
};

enum sched_up_state {
    SCHED_UP_OPEN,
    SCHED_UP_CLOSED, /* it asked for a pause: Retry-After, or nothing but rejects */
    SCHED_UP_DEAD,   /* waits for a healthy probe */
    SCHED_UP_TRIAL   /* the probe was fine: one call at a time until one succeeds */
};

/* What moves an upstream's window. */
enum sched_signal {
    SCHED_BY_NOTHING, /* it is fixed, or at its start */
    SCHED_BY_QUOTA,   /* S1: rate-limit headers or configured quotas */
    SCHED_BY_METRICS, /* S2: its queue, from its metrics */
    SCHED_BY_KNEE,    /* S3: whether more calls bring more tokens */
    SCHED_BY_REJECTS  /* S4: 429, 503, 529 */
};

struct sched_up_view {
    enum sched_up_state state;
    unsigned inflight, window;
    enum sched_signal by;  /* what moved the window last */
    usec_t since;          /* when the state began */
    usec_t reopen;         /* CLOSED: when it opens; DEAD: the next probe */
    uint64_t done, failed; /* calls */
    uint64_t hedges;       /* calls sent for a line that is in flight elsewhere */
    double rate;           /* work (see sched_item) a second; 0: not known yet */
    double hit_rate;       /* of prompt tokens, 0 to 1; below 0: not told */
    bool slow;             /* gets short work only */
};

#define SCHED_START 64

/* Upstreams are never removed (restart to change them). */
uint16_t sched_upstream_add(struct sched *s, const struct sched_upstream_opts *o);
void sched_upstream_view(const struct sched *s, uint16_t up, struct sched_up_view *ret);
/* Is it known that closing a call stops the work? */
void sched_upstream_aborts(struct sched *s, uint16_t up, bool aborts);
/* What a server says of itself before the first line: 0: not told. */
void sched_hint(struct sched *s, uint16_t up, unsigned slots, uint64_t kv_tokens);
/* An upstream whose metrics are wanted now; false: none.  The answer comes by
 * sched_sampled; an upstream is asked once at a time. */
bool sched_sample_due(struct sched *s, uint16_t *ret_up, usec_t now);
/* NULL: there was no answer, or none that names what is wanted. */
void sched_sampled(struct sched *s, uint16_t up, const struct sched_sample *m,
                   usec_t now);
/* Of any answer that had such headers, before its sched_done. */
void sched_limited(struct sched *s, uint16_t up, const struct sched_limits *l,
                   usec_t now);

/* An upstream that wants a health probe now (GET, costs nothing); false: none.  The
 * answer comes by sched_probe_done; an upstream is probed once at a time. */
bool sched_probe(struct sched *s, uint16_t *ret_up, usec_t now);
void sched_probe_done(struct sched *s, uint16_t up, bool healthy, usec_t now);

/* --- Batches -------------------------------------------------------------------------
 */

/*
 * What is known of a line before it goes.  The work of one is
 *     prompt - shared + out * (1 + (prompt + out / 2) / 700)
 * in tokens of prompt computed, `out` being estimated from what others brought.
 */
struct sched_item {
    uint32_t item;    /* ordinal of the line, from 0 */
    uint32_t prompt;  /* tokens, about; 0: not known */
    uint32_t shared;  /* of them the same as the beginning of the one before */
    uint32_t max_out; /* tokens it allows itself; 0: not told */
};

/* A project: its batches together have at most max_inflight calls in flight (0: no limit)
 * and get `weight` (0: 1) shares of the tokens.  Groups are never removed.  Group 0 is
 * there from the start, without a limit and with a weight of 1. */
uint16_t sched_group_add(struct sched *s, unsigned max_inflight, double weight);

struct sched_batch_opts {
    uint32_t n_items;
    const struct sched_item *items; /* in the order of their prefixes; copied; NULL: all
                                       of 0 to n_items - 1, of which nothing is known */
    const uint64_t *keys; /* of each of `items`: its place in the order of all prefixes,
                             so that a group is known again in another batch; borrowed
                             during the call; NULL: not known */
    const uint8_t *done;  /* bit i set: item i is not to be handed out (it has its result
                             already); borrowed during the call; NULL: all are to go */
    usec_t deadline;      /* monotonic; USEC_INFINITY: none */
    usec_t window;        /* from its creation to its deadline; 0: not known */
    int priority;         /* SCHED_PRIORITY_MIN .. _MAX */
    bool paused;          /* nothing is handed out */
    bool idle;            /* only room that nobody else wants; as others from when it
                             would take 0.8 of the time to its deadline */
    bool once;            /* no line of it may be sent twice at a time (hedged) */
    uint32_t hold;        /* only items below it are handed out; 0: all */
    const struct sched_set *upstreams; /* NULL: all; copied; an empty set waits */
    uint16_t group;                    /* of sched_group_add */
};

/* What keeps a batch; a moment's view. */
struct sched_batch_view {
    uint32_t fresh;    /* never handed out */
    uint32_t retrying; /* wait for another try */
    uint32_t ready;    /* of both: below its hold and due; none of a closed batch */
    usec_t due;        /* when the next of the others is; USEC_INFINITY: there is none */
    uint32_t suspects; /* wait to be tried with nothing beside them */
    uint32_t denied;   /* calls refused for what is no fault of the lines (OUTCOME_DENIED)
                          when not one was answered well */
    bool stopped;      /* for that: nothing more is sent until sched_batch_resume */
    bool critical;     /* goes first: it would miss its deadline otherwise */
    bool group_full;
    bool room; /* an upstream of its set would take a line now */
    struct sched_set upstreams;
};

/* Returns the handle; that of a removed batch comes again. */
uint32_t sched_batch_add(struct sched *s, const struct sched_batch_opts *o, usec_t now);
/* Changes what a batch was added with; what is in flight goes on. */
void sched_batch_edit(struct sched *s, uint32_t batch, int priority, bool paused,
                      uint32_t hold, usec_t deadline);
/* Idle work from now on, or not any more. */
void sched_batch_idle(struct sched *s, uint32_t batch, bool idle);
/* Other upstreams from now on (NULL: all); what is in flight goes on. */
void sched_batch_upstreams(struct sched *s, uint32_t batch, const struct sched_set *set);
/* Takes a stopped batch up again: its next lines are scouts once more. */
void sched_batch_resume(struct sched *s, uint32_t batch);
/* No more tickets of it; what is in flight still comes back through sched_done as FINAL
 * or, where it failed, as FINAL too (there is no retry). */
void sched_batch_close(struct sched *s, uint32_t batch);
/* Stops / resumes handing out tickets of all batches (disk full, drain). */
void sched_pause(struct sched *s, bool paused);
/* Forgets the batch; nothing of it may be in flight. */
void sched_batch_remove(struct sched *s, uint32_t batch);
/* Items neither done nor in flight. */
uint32_t sched_batch_waiting(const struct sched *s, uint32_t batch);

/* For people who ask: takes time with the lines that wait, not only with this batch's. */
void sched_batch_view(const struct sched *s, uint32_t batch,
                      struct sched_batch_view *ret);
/* Lines of higher priority that could go, now or when one has gone, where it wants to. */
uint64_t sched_batch_ahead(const struct sched *s, uint32_t batch);

/* When a batch will end if all goes on as it does: half of the time before `likely`, nine
 * times of ten before `late`; USEC_INFINITY: it cannot be told. */
struct sched_eta {
    usec_t likely, late;
    double work; /* that is left of it */
};
/* Takes time with the number of batches. */
void sched_batch_eta(const struct sched *s, uint32_t batch, usec_t now,
                     struct sched_eta *ret);

/* Will the batch end before its deadline, promises made to others being kept?  That is
 * asked with 0.85 of what upstreams are known to get done; true where that is not known.
 * *ret_at (NULL is fine): the earliest deadline that it could have, monotonic. */
bool sched_batch_fits(const struct sched *s, uint32_t batch, usec_t now, usec_t *ret_at);

/* --- Lines out and back --------------------------------------------------------------
 */

struct sched_ticket {
    uint32_t batch;    /* handle of sched_batch_add */
    uint32_t item;     /* ordinal of the line, from 0 */
    uint32_t call;     /* which call of ours; private */
    uint16_t upstream; /* handle of sched_upstream_add */
    uint16_t attempt;  /* from 0: how often it was tried before */
    usec_t sent;       /* the `now` of sched_next */
    usec_t timeout;    /* give it up when it takes longer; 0: never */
    bool alone;        /* nothing else is in flight on the upstream beside it */
    bool hedge;        /* the line is in flight elsewhere, too */
};

/* What became of a call. */
struct sched_outcome {
    enum outcome_class cls;
    usec_t retry_after; /* -1: none */
    bool has_usage;
    uint32_t prompt, cached, output; /* tokens, as the server counts them */
};

/* What became of a ticket. */
enum sched_verdict {
    SCHED_FINAL, /* the caller writes the line's result; the scheduler forgot the line */
    SCHED_RETRY, /* the scheduler keeps the line and will hand it out again */
    SCHED_DROP   /* its twin has brought the result, or is still to bring it: nothing is
                    to be done */
};

size_t sched_next(struct sched *s, struct sched_ticket *out, size_t max, usec_t now);
enum sched_verdict sched_done(struct sched *s, const struct sched_ticket *t,
                              const struct sched_outcome *o, usec_t now);

/* Calls that nobody needs any more: their twins have won.  The caller closes each and
 * tells sched_aborted; to be asked after sched_done. */
size_t sched_aborts(struct sched *s, struct sched_ticket *out, size_t max);

/* The call of a ticket was given up by us: nothing is learnt, the line is forgotten (its
 * batch is closed, its twin has it) or kept for another try. */
void sched_aborted(struct sched *s, const struct sched_ticket *t, usec_t now);

/* When sched_next, sched_probe or sched_sample_due may have something new without any call
 * in between; USEC_INFINITY: never. */
usec_t sched_next_wake(const struct sched *s, usec_t now);
