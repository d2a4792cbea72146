/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine: when work is done.  One of two machines:
 *
 *   without a model  at most so many jobs at once, the others in order of arrival, each
 *                    for a time that is known when it starts
 *   with a model     a server with continuous batching (sim/machine.h)
 *
 * Owns:    the order of jobs; a job is embedded in its owner and must stay put until
 *          `done` ran or sim_engine_abort returned.
 * Threads: the loop's.
 */
#pragma once

#include "base/list.h"
#include "io/loop.h"
#include "sim/machine.h"

struct sim_engine;
struct sim_job;
typedef void sim_job_fn(struct sim_job *job, usec_t now);

struct sim_job {
    sim_job_fn *done;      /* set by the owner before the start */
    usec_t takes;          /* likewise, without a model: once it runs */
    uint64_t tokens;       /* likewise: prompt and output, held while it runs */
    struct sim_task task;  /* likewise, with a model: its prompt, blocks and output */
    usec_t came, began;    /* of the clock, valid after the start; in `done` */
    usec_t first;          /* its first token; 0: not told */
    struct sim_engine *_e; /* private from here; NULL: not in an engine */
    struct list _link;
    struct loop_timer _timer;
    bool _runs;
};

struct sim_load {
    uint64_t running, waiting, tokens; /* tokens: of those running */
    struct sim_model_load model;       /* with a model */
};

struct sim_engine_opts {
    uint64_t concurrency; /* without a model: at once; 0: no limit */
    uint64_t max_queued;
    const struct sim_machine_opts *machine; /* NULL: no model; borrowed for the call */
};

struct sim_engine *sim_engine_new(struct loop *l, const struct sim_engine_opts *o);
struct sim_engine *sim_engine_free(struct sim_engine *e); /* all jobs must be gone */

/* RC_OK: it took no time and is done already (`done` is not called); RC_AGAIN: `done`
 * will be; RC_LIMIT: too many wait; RC_INVALID: it can never fit into the memory. */
NODISCARD enum rc sim_engine_start(struct sim_engine *e, struct sim_job *job);
void sim_engine_abort(struct sim_job *job); /* `done` will not be called; idle is fine */
static inline bool sim_engine_has(const struct sim_job *job) /* it waits or runs */
{
    return job->_e != NULL;
}
struct sim_load sim_engine_load(struct sim_engine *e);
/* What starts from now on takes so many times as long; what runs in a model, too. */
void sim_engine_slower(struct sim_engine *e, double factor);
struct sim_machine *sim_engine_machine(struct sim_engine *e); /* NULL: no model */
