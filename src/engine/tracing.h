/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tracing: a file with what the scheduler was asked and what it answered
 * (sched/sched_trace.h).
 *
 * The loop appends to memory, a thread of its own writes; where the disk does not keep up
 * the trace ends, with a line in the log, and the batches go on.
 *
 * Owns:    the file and at most TRACING_MOST bytes.
 * Threads: the engine's loop, but for open and close, which run while it does not.
 */
#pragma once

#include "base/err.h"
#include "sched/sched.h"

#define TRACING_MOST (64u << 20)

struct tracing;

/* Empties the file, or makes it.  The scheduler must be new. */
NODISCARD enum rc tracing_open(const char *path, struct sched *s, struct tracing **ret,
                               struct err *e);
/* Writes what is left.  After the scheduler's last call; accepts NULL. */
struct tracing *tracing_close(struct tracing *t);
