/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs: what workers do for a live batch.  Each owns it until task_report().
 */
#pragma once

#include "engine/work.h"

void admit_run(struct pool_job *job); /* validates a new batch, recovers one of before */
void admitted_run(
    struct pool_job *job);             /* the loop has told whether it will be in time */
void expire_run(struct pool_job *job); /* its time is over: says so in the store */
void finish_run(struct pool_job *job); /* log to files, then the terminal status */

/* A result goes to l->log, l->done and l->synced, synced now and then; l->task.err tells. */
NODISCARD enum rc job_keep(struct live *l, const struct reslog_rec *r);
NODISCARD enum rc job_commit(struct live *l); /* what is left of them */
