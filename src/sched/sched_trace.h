/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sched_trace: what was asked of a scheduler and what it answered, as bytes; and the same
 * once more with another scheduler, to see whether it answers alike.
 *
 * A scheduler draws nothing and looks at nothing but what it is given, so a trace of a real
 * run shows each of its decisions again, in a debugger or under a change.
 *
 * The stream (docs/formats.md): a line "batchd sched trace 1", then records
 *     kind u8, number of integers, integers, number of doubles, doubles
 * with numbers of integers and integers as LEB128 (integers in zigzag), doubles as 8 bytes,
 * little-endian.
 */
#pragma once

#include "base/err.h"
#include "sched/sched.h"

/* Takes a piece of the stream; called inside of the scheduler's calls. */
typedef void sched_trace_fn(void *ctx, const void *bytes, size_t n);

/* From now on; right after sched_new, or the trace will not replay.  NULL: no more. */
void sched_trace(struct sched *s, sched_trace_fn *fn, void *ctx);

struct sched_replay {
    uint64_t calls, tickets; /* played again */
    uint64_t other;          /* of these, answered otherwise than in the trace */
    usec_t from, to;         /* the first and the last `now` */
};

/*
 * Plays a whole trace against a fresh scheduler.  A record that was cut off at the end is
 * passed over.  RC_CORRUPT: it is no trace, or calls what a scheduler would not survive;
 * where it differs for the first time, *e tells (the result is RC_OK then, see `other`).
 */
NODISCARD enum rc sched_replay(const void *bytes, size_t n, struct sched_replay *ret,
                               struct err *e);
