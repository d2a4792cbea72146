/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool: worker threads for work that may block (disk, database, long scans).
 *
 * A job is given to the pool, run once on some worker, and is the pool's no more
 * afterwards: `run` itself posts the result to whoever waits (mail_post) and frees the
 * job or passes it on.
 *
 * Owns:    queued jobs.  pool_free waits for running jobs and runs those still queued.
 * Threads: pool_submit from any.
 */
#pragma once

#include "base/err.h"
#include "base/list.h"

struct pool;

struct pool_job {
    struct list _link;
    void (*run)(struct pool_job *job); /* on a worker; owns the job from here */
};

NODISCARD enum rc pool_new(const char *name, unsigned threads, struct pool **ret,
                           struct err *e);
struct pool *pool_free(struct pool *p); /* accepts NULL, returns NULL */
void pool_submit(struct pool *p, struct pool_job *job);
size_t pool_queued(struct pool *p); /* waiting, not running; for metrics */
