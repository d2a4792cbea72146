/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine: when work is done: at most so many jobs at once, the others in order of
 * arrival, each for a time that is known when it starts.
 *
 * What the simulated machine is, is this file's business alone: a batching scheduler
 * with KV memory can take its place behind the same calls.
 *
 * Owns:    the order of jobs; a job is embedded in its owner and must stay put until
 *          `done` ran or sim_engine_abort returned.
 * Threads: the loop's.
 */
#pragma once

#include "base/list.h"
#include "io/loop.h"

struct sim_engine;
struct sim_job;
typedef void sim_job_fn(struct sim_job *job, usec_t now);

struct sim_job {
    sim_job_fn *done;      /* set by the owner before the start */
    usec_t takes;          /* likewise: once it runs */
    uint64_t tokens;       /* likewise: prompt and output, held while it runs */
    usec_t came, began;    /* valid after the start; in `done` */
    struct sim_engine *_e; /* private from here; NULL: not in an engine */
    struct list _link;
    struct loop_timer _timer;
    bool _runs;
};

struct sim_load {
    uint64_t running, waiting, tokens; /* tokens: of those running */
};

/* concurrency 0: no limit */
struct sim_engine *sim_engine_new(struct loop *l, uint64_t concurrency,
                                  uint64_t max_queued);
struct sim_engine *sim_engine_free(struct sim_engine *e); /* all jobs must be gone */

/* RC_OK: it took no time and is done already (`done` is not called); RC_AGAIN: `done`
 * will be; RC_LIMIT: too many wait. */
NODISCARD enum rc sim_engine_start(struct sim_engine *e, struct sim_job *job);
void sim_engine_abort(struct sim_job *job); /* `done` will not be called; idle is fine */
struct sim_load sim_engine_load(const struct sim_engine *e);
