/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sched_int: what the files of the scheduler share.
 *
 *   sched_up.h      upstreams; their files are listed there
 *   sched_retry.c   lines that wait for another try, and the heap of those not yet due
 *   sched_queue.c   batches: how they are added and changed, and what is in them
 *   sched_turn.c    whose turn it is: levels, groups, deadlines
 *   sched_place.c   which fresh line of a batch an upstream gets: segments, bins, stealing
 *   sched_length.c  how long answers are, and what work that makes
 *   sched_call.c    calls in flight, and second calls for lines that are late
 *   sched_trace.c   what was asked and answered, as bytes; sched_replay.c: once more
 *   sched.c         tickets: out and back
 *   sched_promise.c deadlines: which batches would miss them, when each will end
 *   sched_view.c    what those are told who ask
 */
#pragma once

#include "base/list.h"
#include "sched/sched_trace_int.h"
#include "sched/sched_up.h"

#define NO_CALL   UINT32_MAX
#define NO_POS    UINT32_MAX
#define SET_WORDS (LIMIT_UPSTREAMS / 64)

/* Levels: idle work, the priorities, what would miss its deadline. */
#define LEVEL_IDLE     0
#define LEVEL_LOWEST   1
#define LEVEL_CRITICAL (LEVEL_LOWEST + SCHED_PRIORITY_MAX - SCHED_PRIORITY_MIN + 1)
#define LEVELS         (LEVEL_CRITICAL + 1)

/* Calls of a batch that nothing good has come of yet: in flight, and refused for what is
 * no fault of the lines. */
#define SCOUTS_MAX 64
/* So many in a row, and what was good once is not taken for good any more. */
#define SCOUTS_ROW 8

#define CUTS_MAX 16

/* A line that waits for another try: on the heap until it is due, then in one of its
 * batch's queues or, when it must run alone, on the upstream that is drained for it. */
struct retry {
    uint32_t batch, pos; /* pos: in its batch's items */
    uint32_t next;       /* in its queue, or in the list of free ones */
    uint16_t attempts;   /* that counted */
    uint16_t avoid;      /* where it failed */
    bool alone;          /* its last try: see sched_done */
};

struct due {
    usec_t at;
    uint32_t retry;
};

struct retries { /* first in, first out */
    uint32_t head, tail;
};

/* --- Lengths -------------------------------------------------------------------------
 */

#define LENGTH_BINS    24 /* answers of 2^i to 2^(i+1) - 1 tokens */
#define LENGTH_BUCKETS 12 /* by max_out: 0, < 32, < 64, ... */

/* What answered lines were, beside what they were taken for: sums of work that fade. */
struct bias {
    double real, taken;
    uint32_t n;
};

/* Lines that were not handed out, summed up by what they allow themselves. */
struct asks {
    double n, fresh, prompt, max_out; /* lines; tokens */
};

struct lengths {
    uint32_t n;
    double sum;
    uint32_t bin[LENGTH_BINS];
};

/* --- Places --------------------------------------------------------------------------
 */

/* What a fresh line is: part of a prefix group; alone and long to decode; alone. */
enum place { PLACE_SHARED, PLACE_DECODE, PLACE_OTHER, PLACES };

/* Lines that share prefixes, neighbours in their order, which one upstream gets. */
struct segment {
    uint32_t head, tail; /* positions; the tail is behind */
    uint16_t up;
};

/* Lines that share nothing with others, alike in what is known of their length. */
struct bin {
    uint32_t head, tail;
    unsigned bucket;   /* of max_out */
    double prompt;     /* tokens of a line, the mean */
    double out;        /* tokens, estimated */
    double work;       /* of a line */
    bool decode_heavy; /* its answers take more memory traffic than computing */
};
#define BINS_MAX (LENGTH_BUCKETS * 8)

/* --- Batches, groups, lanes ----------------------------------------------------------
 */

struct group {
    unsigned max, inflight; /* in flight: with the lines that upstreams are drained for */
    double weight;
    double served;   /* work over weight; levelled when it comes back after a pause */
    unsigned active; /* batches of it in rings */
};

/* The batches of one group with one set of upstreams: they can go or not go together, so
 * that a batch that cannot go is never looked at. */
struct lane {
    struct sched_set set;
    uint16_t group;
    uint32_t n_batches;
    uint32_t levels; /* bit i: rings[i] is not empty */
    uint64_t turn;   /* in this one those before `at` had nothing to send */
    struct list *at;
    struct list rings[LEVELS];
};

struct batch_queue {
    struct list ring; /* in its lane's ring of its level while it has a line that may go;
                         in sched.parked while that must wait to run alone */
    struct lane *lane;
    uint64_t seq; /* in which order they came */
    int level;    /* of the ring it is in; -1: in none */
    int priority;
    uint32_t handle;
    uint32_t inflight;
    uint32_t n_retries;          /* wherever they are */
    struct retries ready, alone; /* due */
    struct retries held;         /* due, but not below the hold */
    usec_t deadline, window;
    double mean_work; /* of its lines that went, estimated */
    bool used, closed, paused, idle, once, critical;
    bool aged; /* idle, and it is time for it */

    /* sched_place.c */
    struct sched_item *items; /* first those that share, in order, then the bins */
    uint32_t n_items, n_shared;
    uint8_t *taken; /* bit i: items[i] was handed out */
    uint32_t fresh; /* not taken */
    struct segment *segments;
    unsigned n_segments;
    struct bin *bins;
    unsigned n_bins;
    uint32_t hold;
    uint32_t *sample; /* with a hold: the positions below it, in order of items */
    uint32_t n_sample, at_sample;
    uint32_t n_scouts, at_scout;
    uint32_t left[PLACES], whole[PLACES]; /* lines, now and when they were last judged */

    /* sched_length.c */
    struct lengths lengths[LENGTH_BUCKETS], all_lengths;
    struct asks asks[LENGTH_BUCKETS];
    struct bias bias;
    uint32_t lengths_due; /* the bins are judged again at so many answers */

    /* sched_call.c */
    uint32_t hedged;

    /* scouts */
    bool trusted, stopped; /* trusted: an answer has come that says that all is well */
    uint32_t denied;       /* in a row */
    struct sched_set good; /* upstreams that answered well */
};

/* A call in flight. */
struct call {
    struct sched_ticket t; /* t.call is its own place */
    uint32_t pos;
    uint32_t twin; /* NO_CALL: the line is in flight once */
    uint32_t next; /* in the list of free ones, or of those to be closed */
    double work;   /* estimated when it went */
    double cost;   /* tokens that it may take at most, as quotas count */
    bool used;
    bool lost; /* the twin has brought the result */
};

struct sched {
    struct trace_out trace;
    struct sched_opts o;
    uint64_t rng;
    struct upstream ups[LIMIT_UPSTREAMS];
    unsigned n_ups;
    struct sched_set roomy;               /* may take one more line */
    struct sched_set closed;              /* state CLOSED */
    struct sched_set dry;                 /* wait for their quota; see up_wake */
    struct sched_set taken;               /* alone in flight, or reserved */
    uint16_t last_group[LIMIT_UPSTREAMS]; /* whose turn it was */
    unsigned n_reserved;
    struct group *groups;
    unsigned n_groups;
    struct lane **lanes;
    unsigned n_lanes;
    struct batch_queue **batches; /* by handle; stable addresses for the rings */
    uint32_t n_batches;
    struct list parked;
    bool unpark; /* what the parked wait for may have come */
    uint64_t seq, turn;
    struct retry *retries;
    uint32_t n_retries, free_retry;
    struct due *heap; /* by time */
    size_t n_heap, cap_heap;
    struct call *calls;
    uint32_t n_calls, free_call, n_inflight;
    uint32_t lost; /* list of calls to be closed */
    usec_t hedge_at;
    struct lengths lengths; /* of all batches */
    struct bias bias;       /* likewise */
    struct cuts *cuts;      /* sched_place.c */
    unsigned n_cuts;
    unsigned n_idle;    /* batches that may age */
    usec_t promises_at; /* the deadlines are looked at next */
    bool paused;

    /* sched_up.h */
    usec_t now;           /* of the last sched_next */
    usec_t judge_at;      /* who is slow */
    bool samples;         /* somebody asks for metrics */
    uint16_t sample_next; /* whose turn it is */
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

/* sched_retry.c */
void retry_wait(struct sched *s, const struct retry *r, usec_t until);
void retry_free(struct sched *s, uint32_t retry);
void retry_collect(struct sched *s, usec_t now);    /* what is due goes to its batch */
void retry_forget(struct sched *s, uint32_t batch); /* what is on the heap */
void retries_push(struct sched *s, struct retries *q, uint32_t retry);
void retries_push_front(struct sched *s, struct retries *q, uint32_t retry);
uint32_t retries_pop(struct sched *s, struct retries *q); /* NO_RETRY: empty */
/* The first that may go to this upstream; others stay where they are. */
uint32_t retries_pop_for(struct sched *s, struct retries *q, uint16_t up, bool choice);

/* sched_queue.c */
struct batch_queue *queue_of(const struct sched *s, uint32_t batch);
/* A line is due: it goes where the state of its batch wants it. */
void queue_retry(struct sched *s, uint32_t retry);
/* The upstream is not kept for its line any more. */
void queue_unreserve(struct sched *s, uint16_t up);

/* sched_turn.c */
struct lane *lane_take(struct sched *s, const struct sched_set *set, uint16_t group);
void lane_give(struct sched *s, struct lane *l);
void turn_leave(struct sched *s, struct batch_queue *q); /* its ring */
void turn_join(struct sched *s, struct batch_queue *q);  /* its place, if it may go */
void turn_park(struct sched *s, struct batch_queue *q);
void turn_unpark(struct sched *s);
void turn_charge(struct sched *s, const struct batch_queue *q, double work);
/* Tries the batches in order of their turn; false: none has a line for this upstream. */
typedef bool turn_fn(struct sched *s, struct batch_queue *q, uint16_t up, void *ctx);
bool turn_each(struct sched *s, uint16_t up, turn_fn *fn, void *ctx);

/* sched_promise.c */
/* Finds, once a second, the batches that would miss their deadlines. */
void promise_judge(struct sched *s, usec_t now);
/* When it has something to find though nothing else happens; USEC_INFINITY: never. */
usec_t promise_wake(const struct sched *s);
/* How a batch is ranked was changed: to be looked at before the next line. */
void promise_stale(struct sched *s);

/* sched_place.c */
void place_add(struct sched *s, struct batch_queue *q, const struct sched_batch_opts *o);
void place_free(struct batch_queue *q);
/* Shares the lines out anew: the set of upstreams is new. */
void place_cut(struct sched *s, struct batch_queue *q, const uint64_t *keys);
void place_hold(struct batch_queue *q, uint32_t hold);
uint32_t place_ready(const struct batch_queue *q); /* fresh lines below the hold */
/* A fresh line for the upstream; NO_POS: none now. */
uint32_t place_take(struct sched *s, struct batch_queue *q, uint16_t up);

/* sched_length.c */
double length_out(const struct sched *s, const struct batch_queue *q, uint32_t max_out);
double length_work(const struct sched *s, const struct batch_queue *q,
                   const struct sched_item *i);
/* A line was taken for so much work and was so much. */
void length_bias(struct sched *s, struct batch_queue *q, double taken, double real);
/* By how much estimates of its lines are to be multiplied. */
double length_factor(const struct sched *s, const struct batch_queue *q);
/* The work of the lines that were not handed out. */
double length_left(const struct sched *s, const struct batch_queue *q);
/* The line is among them (by 1), or not any more (by -1). */
void length_ask(struct batch_queue *q, const struct sched_item *i, double by);
/* Judges the bins by what is known of lengths by now. */
void length_judge(const struct sched *s, struct batch_queue *q);
double work_of(double fresh, double prompt, double out);
void length_seen(struct sched *s, struct batch_queue *q, const struct sched_item *i,
                 const struct sched_outcome *o);
unsigned length_bucket(uint32_t max_out);

/* sched_call.c */
struct call *call_of(const struct sched *s, const struct sched_ticket *t);
uint32_t call_new(struct sched *s);
void call_free(struct sched *s, uint32_t call);
/* A line in flight elsewhere that this upstream should try, too; NO_CALL: none. */
uint32_t call_late(struct sched *s, uint16_t up, usec_t now);
/* When call_late may find something that it did not find before. */
usec_t call_wake(const struct sched *s);
