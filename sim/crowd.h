/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crowd: people who chat with the model that batches use: turns that come at random, and
 * how long each waits for its first token.  Pure; times are the model's.
 *
 * Arrivals are a Poisson process, even or in bursts (so long at the full rate, then as
 * long at a tenth of it).  A turn has a prompt of log-normal length, mean 400, sigma 0.7, at
 * most 4,000 tokens, nothing of it cached, and an answer of mean 150, sigma 0.7, at most
 * 1,000.
 *
 * Owns:    its turns, in the model and out of it.
 */
#pragma once

#include "base/buf.h"
#include "json/json.h"
#include "sim/model.h"
#include "sim/options.h"

/* What the model runs: a request, or a turn of the crowd's. */
struct sim_member {
    struct sim_seq seq;
    bool of_crowd;
};

#define SIM_WAITS 640 /* of the histogram: 16 an octave of microseconds */

struct sim_crowd_counts {
    uint64_t turns, answered, refused; /* refused: too many waited, or nobody was there */
    uint64_t wait[SIM_WAITS];          /* until the first token; of those answered */
    usec_t longest;
};

struct sim_crowd_run;

/* NULL when nobody comes. */
struct sim_crowd_run *sim_crowd_new(const struct sim_crowd *c, uint64_t seed,
                                    bool priorities, usec_t now);
struct sim_crowd_run *sim_crowd_free(struct sim_crowd_run *c); /* accepts NULL */

/* When the next one comes; USEC_INFINITY: nobody does.  c may be NULL. */
usec_t sim_crowd_next(const struct sim_crowd_run *c);
/* Adds the one that is due; `away`: nobody serves. */
void sim_crowd_come(struct sim_crowd_run *c, struct sim_model *m, bool away);
void sim_crowd_over(struct sim_crowd_run *c, struct sim_member *turn);
/* The model is gone, or knows none of them any more: so are all turns that were in it. */
void sim_crowd_lost(struct sim_crowd_run *c);

const struct sim_crowd_counts *sim_crowd_counts(const struct sim_crowd_run *c);
/* The time within which that share (0 to 1) of those answered had their first token, to
 * 5 %, rounded up. */
usec_t sim_crowd_wait(const struct sim_crowd_counts *n, double share);
/* {"turns":..,"answered":..,"refused":..,"ttft_ms":{"p50":..,"p90":..,"p99":..,"max":..}} */
void sim_crowd_put(const struct sim_crowd_counts *n, const char *key,
                   struct json_writer *w);
