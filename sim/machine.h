/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine: the model (sim/model.h) on the clock, and a crowd of people who chat with it.
 *
 * The model's time runs `speed` times as fast as the clock.  What is due is done at its own
 * time, however late the loop comes to it: nothing drifts, only answers leave late, and
 * `late` tells how much.
 *
 * Owns:    the model and the crowd; a task is embedded in its owner and must stay put
 *          until `over` ran or sim_machine_abort returned.
 * Threads: the loop's.
 */
#pragma once

#include "io/loop.h"
#include "sim/crowd.h"
#include "sim/model.h"

struct sim_machine;
struct sim_task;
typedef void sim_task_fn(struct sim_task *t, usec_t now);

struct sim_task {
    struct sim_member member; /* member.seq: prompt, out, blocks, priority by the owner */
    sim_task_fn *over; /* by the owner; runs in a turn of its own, never in a start */
    struct sim_machine *_m; /* private from here; NULL: in no machine */
    struct list _link;      /* in the machine's `over`, once the model is done with it */
};

struct sim_machine_opts {
    struct sim_model_opts model;
    uint64_t speed; /* 1 to 1000 */
    struct sim_crowd crowd;
    uint64_t seed; /* of the crowd */
};

struct sim_machine *sim_machine_new(struct loop *l, const struct sim_machine_opts *o);
struct sim_machine *sim_machine_free(struct sim_machine *m); /* tasks must be gone */

/* As sim_model_add; RC_OK: `over` will run. */
NODISCARD enum rc sim_machine_start(struct sim_machine *m, struct sim_task *t);
void sim_machine_abort(struct sim_task *t); /* idle is fine */

void sim_machine_load(struct sim_machine *m, struct sim_model_load *ret);
/* From the next iteration on it takes `factor` times as long. */
void sim_machine_slower(struct sim_machine *m, double factor);
/* Forgets cache and counters, and until `back` (of the clock) the crowd finds nobody; then
 * the KV memory is `share` of what the options say.  All tasks must be gone. */
void sim_machine_crash(struct sim_machine *m, usec_t back, double share);

usec_t sim_machine_clock(const struct sim_machine *m, usec_t model); /* when it is then */
usec_t sim_machine_late(const struct sim_machine *m); /* the worst so far, of the clock */
const struct sim_crowd_counts *sim_machine_crowd(const struct sim_machine *m);
