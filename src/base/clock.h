/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock: where time enters the program.  Durations and deadlines of work in progress are
 * usec_t on the monotonic clock, read once per turn of a loop and passed on; seconds of
 * the wall clock appear only in what clients see and in what expires.
 *
 * Threads: any.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef int64_t usec_t;

#define USEC_PER_MS   ((usec_t)1000)
#define USEC_PER_SEC  ((usec_t)1000000)
#define USEC_INFINITY INT64_MAX

usec_t clock_mono(void); /* CLOCK_MONOTONIC */

/*
 * CLOCK_REALTIME in microseconds since the epoch; once it is guarded, as far as it can be
 * believed (base/wall.h): it does not jump and does not go back.
 */
usec_t clock_wall(void);
int64_t clock_wall_sec(void);
/* The same for what cannot be undone: expiry, deletion, giving up.  Behind clock_wall while
 * that is in doubt. */
usec_t clock_due(void);
int64_t clock_due_sec(void);

/* From here on the wall clock is guarded.  floor: the latest time the process before told,
 * 0 when that is not known.  settle: as base/wall.h.  Doubt and its end are logged. */
void clock_guard(int64_t floor_sec, usec_t settle);
/* The operator says that the wall clock is right; true: it was in doubt. */
bool clock_accept(void);
/* Looks, and true: it is in doubt.  *ret_by (NULL: not asked) how far it is ahead. */
bool clock_doubtful(int64_t *ret_by_sec);
