/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sched_up: what is known of upstreams, and what the rest of the room asks and tells.
 * Everything takes constant time for a call, whatever the number of lines, and allocates
 * nothing.
 */
#pragma once

#include "sched/sched.h"

#define NO_UPSTREAM UINT16_MAX
#define NO_RETRY    UINT32_MAX

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
    uint64_t done, failed, hedges;
    double work_rate; /* EWMA */
};

/* --- Told ---------------------------------------------------------------------------- */

/*
 * A call goes: counts it in flight, takes `cost` (tokens of prompt and the most of answer)
 * from the quotas and sets the ticket's timeout, for which `work` is the estimate.
 */
void up_sent(struct sched *s, struct sched_ticket *t, double work, double cost,
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

/* When time alone brings something new: a pause or a wait for a quota ends at one of
 * `wanted`, a probe or a look at metrics is due; USEC_INFINITY: never. */
usec_t up_wake(const struct sched *s, const struct sched_set *wanted, usec_t now);

/* Work a second, as sched_item says; 0: not known yet. */
double up_rate(const struct sched *s, uint16_t up);

/* How long so much work takes there; 0: not known yet. */
usec_t up_expect(const struct sched *s, uint16_t up, double work);

/* When so much work is to be given up; 0: not known yet. */
usec_t up_timeout(const struct sched *s, uint16_t up, double work);

/* It gets short work only, and what it has is late. */
bool up_slow(const struct sched *s, uint16_t up);

bool outcome_final(enum outcome_class cls);
