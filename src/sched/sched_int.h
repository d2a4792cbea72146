/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sched_int: what the files of the scheduler share.
 *
 *   sched_up.c     upstreams: windows, breaker, probes, who has room
 *   sched_retry.c  lines that wait for another try, and the heap of those not yet due
 *   sched_queue.c  batches: their lanes, rings and turns, and how they are changed
 *   sched.c        tickets: out and back
 *   sched_view.c   what those are told who ask
 */
#pragma once

#include "base/list.h"
#include "sched/sched.h"

#define NO_UPSTREAM UINT16_MAX
#define NO_RETRY    UINT32_MAX
#define LEVELS      (SCHED_PRIORITY_MAX - SCHED_PRIORITY_MIN + 1)
#define SET_WORDS   (LIMIT_UPSTREAMS / 64)

/* A line that waits for another try: on the heap until it is due, then in one of its
 * batch's queues or, when it must run alone, on the upstream that is drained for it. */
struct retry {
    uint32_t batch, item;
    uint32_t next;     /* in its queue, or in the list of free ones */
    uint16_t attempts; /* that counted */
    uint16_t avoid;    /* where it failed */
    bool alone;        /* its last try: see sched_done */
};

struct due {
    usec_t at;
    uint32_t retry;
};

struct retries { /* first in, first out */
    uint32_t head, tail;
};

struct upstream {
    struct sched_upstream_opts o;
    enum sched_up_state state;
    unsigned max_window, inflight;
    double window;      /* fractional; the effective one is its whole part */
    double reject_ewma; /* share of calls rejected (DCTCP's alpha) */
    usec_t recover;     /* calls sent before this belong to a cut made already */
    usec_t since, reopen;
    unsigned fail_row;   /* failures without a success between them */
    unsigned reject_row; /* rejects likewise */
    unsigned pauses;     /* pauses in a row, for doubling */
    unsigned probes;     /* unhealthy probes and failed trials in a row, likewise */
    bool probing;
    bool alone; /* a line that may be poison is in flight: nothing else goes there */
    uint32_t reserved; /* such a line, for which it is drained; NO_RETRY: none */
    uint64_t done, failed;
};

struct group {
    unsigned max, inflight; /* in flight: with the lines that upstreams are drained for */
    double weight;
};

/* The batches of one group with one set of upstreams: they can go or not go together, so
 * that a batch that cannot go is never looked at. */
struct lane {
    struct sched_set set;
    uint16_t group;
    uint32_t n_batches;
    uint32_t levels; /* bit i: rings[i] is not empty */
    struct list rings[LEVELS];
};

struct batch_queue {
    struct list ring; /* in its lane's ring of its level while it has a line that may go;
                         in sched.parked while that must wait to run alone */
    struct lane *lane;
    uint64_t turn; /* rings of one level are merged by it */
    int level;     /* of the ring it is in; -1: in none */
    int priority;
    uint32_t handle;
    uint32_t n_items, cursor, hold;
    uint32_t inflight;
    uint32_t n_retries;          /* wherever they are */
    uint32_t fresh;              /* items from the cursor on that are not done */
    uint8_t *done;               /* NULL: none was done at the start */
    struct retries ready, alone; /* due */
    struct retries held;         /* due, but not below the hold */
    usec_t deadline;
    bool used, closed, paused;
};

struct sched {
    struct sched_opts o;
    uint64_t rng;
    struct upstream ups[LIMIT_UPSTREAMS];
    unsigned n_ups;
    struct sched_set roomy;  /* may take one more line */
    struct sched_set closed; /* state CLOSED */
    struct sched_set taken;  /* alone in flight, or reserved */
    unsigned n_reserved;
    struct group *groups;
    unsigned n_groups;
    struct lane **lanes;
    unsigned n_lanes;
    struct batch_queue **batches; /* by handle; stable addresses for the rings */
    uint32_t n_batches;
    struct list parked;
    bool unpark; /* what the parked wait for may have come */
    uint64_t turn;
    struct retry *retries;
    uint32_t n_retries, free_retry;
    struct due *heap; /* by time */
    size_t n_heap, cap_heap;
    bool paused;
};

static inline bool set_meets(const struct sched_set *a, const struct sched_set *b)
{
    uint64_t both = 0;

    for (unsigned i = 0; i < SET_WORDS; i++)
        both |= a->w[i] & b->w[i];
    return both != 0;
}

static inline void set_put(struct sched_set *set, uint16_t up, bool in)
{
    if (in)
        sched_set_add(set, up);
    else
        sched_set_del(set, up);
}

static inline struct sched_set set_both(const struct sched_set *a,
                                        const struct sched_set *b)
{
    struct sched_set both;

    for (unsigned i = 0; i < SET_WORDS; i++)
        both.w[i] = a->w[i] & b->w[i];
    return both;
}

/* Takes the lowest member out; NO_UPSTREAM: it is empty. */
static inline uint16_t set_pop(struct sched_set *set)
{
    for (unsigned i = 0; i < SET_WORDS; i++) {
        if (set->w[i]) {
            unsigned up = i * 64 + (unsigned)__builtin_ctzll(set->w[i]);

            set->w[i] &= set->w[i] - 1;
            return (uint16_t)up;
        }
    }
    return NO_UPSTREAM;
}

static inline bool group_full(const struct sched *s, uint16_t group)
{
    const struct group *g = &s->groups[group];

    return g->max && g->inflight >= g->max;
}

/* sched.c */
usec_t sched_jitter(struct sched *s, usec_t below);
usec_t sched_doubled(usec_t base, unsigned times, usec_t cap);

/* sched_up.c */
void up_refresh(struct sched *s, uint16_t up); /* after any change of an upstream */
void up_reopen(struct sched *s, usec_t now);   /* those whose pause is over */
/* The smallest share of its window in use; `avoid` only when there is no other.  idle: only
 * one with nothing in flight. */
uint16_t up_pick(const struct sched *s, const struct sched_set *set, uint16_t avoid,
                 bool idle);
/* Learns from the end of a call; says whether a failure counts against the line. */
bool up_learn(struct sched *s, const struct sched_ticket *t, enum outcome_class cls,
              usec_t retry_after, usec_t now);
bool outcome_final(enum outcome_class cls);

/* sched_retry.c */
void retry_wait(struct sched *s, const struct retry *r, usec_t until);
void retry_free(struct sched *s, uint32_t retry);
void retry_collect(struct sched *s, usec_t now);    /* what is due goes to its batch */
void retry_forget(struct sched *s, uint32_t batch); /* what is on the heap */
void retries_push(struct sched *s, struct retries *q, uint32_t retry);
void retries_push_front(struct sched *s, struct retries *q, uint32_t retry);
uint32_t retries_pop(struct sched *s, struct retries *q); /* NO_RETRY: empty */

/* sched_queue.c */
struct batch_queue *queue_of(const struct sched *s, uint32_t batch);
bool queue_is_done(const struct batch_queue *q, uint32_t item);
void queue_done_skip(struct batch_queue *q);
/* A line is due: it goes where the state of its batch wants it. */
void queue_retry(struct sched *s, uint32_t retry);
bool queue_has_fresh(const struct batch_queue *q);
void queue_leave(struct batch_queue *q);                 /* its ring */
void queue_join(struct sched *s, struct batch_queue *q); /* the end of it, if it may go */
void queue_park(struct sched *s, struct batch_queue *q);
void queue_unpark(struct sched *s);
/* The upstream is not kept for its line any more. */
void queue_unreserve(struct sched *s, uint16_t up);
