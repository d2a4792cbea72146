/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sched_up: what is known of upstreams, and what the rest of the room asks and tells.
 * Everything takes constant time for a call, whatever the number of lines, and allocates
 * nothing.
 *
 *   sched_up.c      states: pauses, breaker, probes; who has room; retries that it may get
 *   sched_window.c  how many calls: rejects, the knee, what a server says of itself
 *   sched_sample.c  how many calls: its metrics; what idle work may have
 *   sched_quota.c   what it allows a minute
 *   sched_speed.c   what it gets done, how long that takes, who is slow
 */
#pragma once

#include "sched/sched.h"
#include "sched/sched_forecast.h"

#define NO_UPSTREAM UINT16_MAX
#define NO_RETRY    UINT32_MAX

/* One quota: a level that fills with time and that calls take from. */
struct bucket {
    double limit;          /* a minute; 0: there is none */
    double burst;          /* the level when it is full */
    double level;          /* at `at` */
    double recent, before; /* taken in this slice of time and in the one before */
    usec_t at, slice;
    usec_t more;  /* since then the server has said that it is much higher */
    usec_t whole; /* it does not fill evenly but at this time, at once; 0: evenly */
    int odd;      /* answers in favour of that, less those against */
    bool told;    /* by the server, not only by the operator */
};

/* What an upstream has done: sums that fade. */
struct speed {
    double work, calls, time; /* while its window was full; of some seconds */
    double long_work, long_time;
    usec_t at; /* of the last end of a call */
    bool full; /* the window was, then */
    bool
        busy; /* the window was full after the last calls were sent, or the quota used up: */
    usec_t busy_at; /* since then */

    /* least squares of latency over work */
    double n, w, l, ww, wl;
    double late_w, late_l; /* of the latest calls */
    double tail;           /* natural logarithm of latency / expected, of 99 in 100 */
    uint64_t n_tail;
    unsigned late; /* times in a row that it was found slow, or in order again */
};

/* The search for the window from which on more calls bring nothing more. */
enum knee_state {
    KNEE_GROW, /* doubles as long as that brings something */
    KNEE_REST,
    KNEE_PROBE /* a little more than what is good */
};

struct knee {
    enum knee_state state;
    usec_t since;                   /* calls sent before do not tell of this window */
    double n, calls, work, latency; /* of those sent since; calls: in flight, summed */
    double good, best;              /* the window, and the work a second with it */
    unsigned flights;
};

struct upstream {
    struct sched_upstream_opts o;
    enum sched_up_state state;
    usec_t since, reopen;
    unsigned inflight;
    unsigned fail_row; /* failures without a success between them */
    unsigned pauses;   /* pauses in a row, for doubling */
    unsigned probes;   /* unhealthy probes and failed trials in a row, likewise */
    bool probing;
    bool alone; /* a line that may be poison is in flight: nothing else goes there */
    uint32_t reserved; /* such a line, for which it is drained; NO_RETRY: none */
    uint64_t done, failed, hedges;
    double end_rate;           /* calls that end well, a second */
    usec_t ended;              /* the last */
    double retries, successes; /* sums that fade within a minute: the budget of retries */
    usec_t budget_at;
    unsigned retrying; /* in flight, of lines that failed before */

    /* sched_window.c */
    double
        window; /* of calls in flight; fractional; the effective one is its whole part */
    enum sched_signal by;
    bool filled;         /* the window is what limited, since the last sample */
    double reject_ewma;  /* share of calls rejected (DCTCP's alpha) */
    unsigned reject_row; /* rejects without a success between them */
    usec_t recover;      /* calls sent until then belong to a cut made already */
    double cut_from;     /* the window before that cut */
    double ceiling;      /* more were rejected; 0: not known */
    unsigned ceilings;   /* how often that was found again */
    double held;         /* successes since */
    usec_t hold;         /* the ceiling is not tried again before */
    bool tries;          /* one more than the ceiling, just now */
    bool lowers;         /* the flight under way lowers the ceiling */
    double resume;       /* grows fast up to here: it was fine before */
    unsigned slots;      /* that it says it has; 0: not told */
    double kv_tokens;
    double tokens_mean; /* of a call, not from the cache */
    struct knee knee;

    /* sched_sample.c */
    bool discover; /* grows by factors: its queue was never too long */
    bool sampling; /* it is being asked */
    struct sched_sample sample;
    usec_t sampled;          /* the last good one; 0: none */
    usec_t sample_at;        /* the next */
    unsigned sample_fails;   /* in a row */
    unsigned same, foreign;  /* in a row: nothing moved; not our calls */
    unsigned asked_inflight; /* when it was asked */
    uint64_t asked_done;     /* calls, when the last one came */
    double call_rate;        /* calls a second, from one sample to the next */
    double hits, queries;    /* prompt tokens, sums that fade */
    double max_running;      /* with others waiting: the most it does at once */
    double idle_window;
    double others;    /* calls that are not ours */
    usec_t idle_next; /* idle lines go one at a time, not before this */

    struct bucket requests, tokens;
    double need;       /* tokens: the dearest calls of late */
    bool keeps_tokens; /* that a call might have used and did not */
    usec_t dried;      /* when a quota was what limited; 0: never */

    struct speed speed;
    struct capacity capacity;
    double rate; /* of the speed, as it is judged */
    bool slow;
};

/* --- Told ---------------------------------------------------------------------------- */

/*
 * A call goes: counts it in flight, takes `cost` (tokens of prompt and the most of answer)
 * from the quotas and sets the ticket's timeout.  most: the work if its answer is as long
 * as it may be; 0: not known.
 */
void up_sent(struct sched *s, struct sched_ticket *t, double most, double cost,
             usec_t now);

/*
 * A call has ended and is not counted in flight any more (up_landed).  work: what it was,
 * as far as is known now; cost: as at up_sent.  Says whether a failure counts against the
 * line.
 */
bool up_learn(struct sched *s, const struct sched_ticket *t,
              const struct sched_outcome *o, double work, double cost, usec_t now);

/* Before up_learn, and of calls that were given up alone. */
void up_landed(struct sched *s, const struct sched_ticket *t);

void up_refresh(struct sched *s, uint16_t up); /* after any change of an upstream */
void up_reopen(struct sched *s, usec_t now);   /* before questions: what time changes */

/* --- Asked --------------------------------------------------------------------------- */

/* The smallest share of its window in use; `avoid` only when there is no other.  idle: only
 * one with nothing in flight. */
uint16_t up_pick(const struct sched *s, const struct sched_set *set, uint16_t avoid,
                 bool idle);

/* Would it take a line of idle work now, that has room for others? */
bool up_idle_room(const struct sched *s, uint16_t up);

/* Has it a line that failed before left in its budget of them? */
bool up_may_retry(const struct sched *s, uint16_t up);

/* When time alone brings something new: a pause or a wait for a quota ends at one of
 * `wanted`, a probe or a look at metrics is due; USEC_INFINITY: never. */
usec_t up_wake(const struct sched *s, const struct sched_set *wanted, usec_t now);

/* Work a second with a full window, as sched_item says; 0: not known yet. */
double up_rate(const struct sched *s, uint16_t up);

/* The same as far as it can be counted on: the least of some seconds and of a minute. */
double up_rate_sure(const struct sched *s, uint16_t up);

/* How long so much work takes there; 0: not known yet. */
usec_t up_expect(const struct sched *s, uint16_t up, double work);

/* When so much work is to be given up; 0: not known yet. */
usec_t up_timeout(const struct sched *s, uint16_t up, double most);

/* It gets short work only, and what it has is late. */
bool up_slow(const struct sched *s, uint16_t up);

bool outcome_final(enum outcome_class cls);

/* --- Among the files above ----------------------------------------------------------- */

/* sched_window.c */
void window_init(struct upstream *u);
unsigned window_now(const struct upstream *u);
void window_died(struct upstream *u); /* what it begins with when it comes back */
void window_put(struct upstream *u, double window, enum sched_signal by);
void window_grow(struct upstream *u, double by, enum sched_signal why);
/* Returns whether nothing but rejects came of late: time for a pause. */
bool window_rejected(struct upstream *u, const struct sched_ticket *t, usec_t now);
void window_succeeded(struct upstream *u, const struct sched_ticket *t, double work,
                      usec_t now);

/* sched_sample.c */
bool sample_trusted(const struct upstream *u, usec_t now);
/* A line of idle work has gone. */
void idle_sent(struct upstream *u, usec_t now);
usec_t idle_wake(const struct sched *s, usec_t now);
void sample_busy(struct sched *s, struct upstream *u, usec_t now);
usec_t sample_wake(const struct sched *s);
unsigned idle_now(const struct upstream *u);

/* sched_quota.c */
void bucket_init(struct upstream *u);
void bucket_take(struct upstream *u, double cost, usec_t now);
void bucket_refund(struct upstream *u, double tokens, usec_t now);
void bucket_fill(struct upstream *u, usec_t now);
bool bucket_rejected(struct upstream *u, usec_t now); /* false: a quota is not why */
bool bucket_room(const struct upstream *u);
usec_t bucket_wait(const struct upstream *u);  /* from the last bucket_fill on */
double bucket_calls(const struct upstream *u); /* it allows a second; 0: any number */

/* sched_speed.c */
void speed_sent(struct upstream *u, usec_t now); /* a call more is in flight */
void speed_idle(struct upstream *u); /* it has room, and nothing is to be sent */
void speed_done(struct upstream *u, usec_t latency, double work, usec_t now);
void speed_judge(struct sched *s, usec_t now);  /* who is slow; about once a second */
double speed_latency(const struct upstream *u); /* usec, mean; 0: not known */
