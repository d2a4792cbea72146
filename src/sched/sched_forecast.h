/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sched_forecast: arithmetic of promises: what upstreams will get done, when batches will
 * end, which of them would be late if they did not go first, and whether one more fits.
 *
 * Pure, and apart from the scheduler: numbers in, numbers out.  Work is in the units of
 * sched_item, rates are work a second.
 *
 * All of it is fluid: a batch is so much work that any of its upstreams can do, and the
 * upstreams of a set do it together.  Where sets differ, work is put on the upstreams one
 * batch after the other, each where it would be done soonest; an upstream that two sets
 * share does the work of both.  That is sound (there is a schedule that keeps to it) and
 * exact where all sets are the same; it is careful where a batch could have left a shared
 * upstream to another.
 */
#pragma once

#include "sched/sched.h"

/* --- Capacity ------------------------------------------------------------------------ */

/* Work done while the window was full, and the time that took, fading within 5 min and
 * within an hour. */
struct capacity {
    double work[2], time[2];
};

/* So much work was done in so long (usec), the window being full all that time. */
void capacity_seen(struct capacity *c, double work, double dt);
/* Work a second of late (5 min); 0: not known yet. */
double capacity_likely(const struct capacity *c);
/* The same as far as it can be counted on: the smaller of 5 min's and an hour's. */
double capacity_sure(const struct capacity *c);

/* --- Batches ------------------------------------------------------------------------- */

struct forecast_job {
    double work;             /* that is left */
    usec_t deadline, window; /* as in sched_batch_opts */
    const struct sched_set *set;
    /* forecast_turns alone: */
    int level; /* strict: the higher goes first */
    unsigned group;
    double weight; /* of the group */
    /* what comes out: */
    usec_t finish; /* USEC_INFINITY: nothing is known of its upstreams */
    bool critical;
};

/* What all its batches are measured by. */
struct forecast {
    const double *rates; /* of each upstream; 0: it does nothing at present */
    unsigned n_ups;
    usec_t now;
};

/* The time before its deadline by which a batch should be done: 0.15 of its window, and at
 * least 300 s, but of a short window not more than a quarter. */
usec_t forecast_margin(usec_t window);

/*
 * Jobs in the order of their deadlines, each `finish` as if they went in that order; and
 * which are critical: one that would be done less than its margin before its deadline, and
 * all before it that would stand in its way (its upstreams', and theirs).  One that cannot
 * be in time even with nothing before it makes nobody critical.
 */
void forecast_edf(const struct forecast *f, struct forecast_job *jobs, size_t n);

/*
 * Does one more fit?  jobs as above; *more need not have a place among them.  All that
 * would be in time without it, and itself, are to be in time with 0.85 of the rates.  true
 * where nothing is known of its upstreams.  *ret_at (NULL is fine): the earliest deadline
 * with which it would; USEC_INFINITY: it cannot be told.
 */
bool forecast_fits(const struct forecast *f, const struct forecast_job *jobs, size_t n,
                   const struct forecast_job *more, usec_t *ret_at);

/* Share of the capacity that is promised. */
#define FORECAST_PROMISED 0.85

/*
 * `finish` as the scheduler's turns go: levels strictly, on one level the groups together
 * by their weights, in a group the earliest deadline first.  jobs in that last order.
 */
void forecast_turns(const struct forecast *f, struct forecast_job *jobs, size_t n);
