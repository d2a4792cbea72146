/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queues: a live batch as the scheduler has it: one queue for each model that its lines
 * name, mostly one, so that a model whose servers are busy or away holds up no other.
 *
 * A queue's lines go to the upstreams that serve its model, which may change; without any
 * they wait.  Where the model is an alias, its lines are sent under the name that it
 * stands for.
 *
 * Owns:    live.queues and live.queue_of; engine.by_handle.  Memory: a byte a line for
 *          batches of several models, nothing for others.
 * Threads: the engine's loop; queues_find is for the job that has the live batch.
 */
#pragma once

#include "engine/work.h"

/* One model of a live batch. */
struct queue {
    struct live *live;
    char *model;      /* as its lines name it, unescaped; "": they name none */
    char *stands_for; /* a JSON string to send instead; NULL: the model is no alias */
    uint32_t handle;  /* of the scheduler, while live.scheduled */
};

/*
 * Finds the models of l->index's lines: `model` is that of all ("": they name none), or,
 * when it is NULL, every line is looked at.  RC_CORRUPT: a line that was good once is not
 * now; l->task.err tells.
 */
NODISCARD enum rc queues_find(struct live *l, const char *model);
void queues_free(struct live *l); /* may run twice */

/* Into the scheduler: as sched_batch_add, but for lines, their order and the upstreams,
 * which are found here.  What l->index knows of the order is gone afterwards: when the
 * batch is added again its lines go in the order of the file. */
void queues_add(struct live *l, const struct sched_batch_opts *o, usec_t now);

/* These do nothing when the batch is not scheduled; see sched.h for each. */
void queues_edit(struct live *l, int priority, bool paused, uint32_t hold,
                 usec_t deadline);
void queues_resume(struct live *l); /* what the scheduler has stopped */
void queues_idle(struct live *l, bool idle);
/* Will it be in time (sched_batch_fits)?  *ret_at: the deadline that would hold, wall
 * seconds; 0: it cannot be told. */
bool queues_fit(const struct live *l, usec_t now, int64_t *ret_at);
/* When its last line will be there; USEC_INFINITY: it cannot be told. */
void queues_eta(const struct live *l, usec_t now, usec_t *ret_likely, usec_t *ret_late);
void queues_close(struct live *l);
void queues_remove(struct live *l);
uint32_t queues_waiting(const struct live *l); /* items; 0 when not scheduled */

/* Other upstreams serve other models than before: all live batches follow. */
void queues_follow(struct engine *g);
