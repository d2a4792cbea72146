/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock: where time enters the program.  Durations and deadlines of work in progress are
 * usec_t on the monotonic clock, read once per turn of a loop and passed on; seconds of
 * the wall clock appear only in what clients see.
 */
#pragma once

#include <stdint.h>

typedef int64_t usec_t;

#define USEC_PER_MS   ((usec_t)1000)
#define USEC_PER_SEC  ((usec_t)1000000)
#define USEC_INFINITY INT64_MAX

usec_t clock_mono(void); /* CLOCK_MONOTONIC */
usec_t clock_wall(void); /* CLOCK_REALTIME, microseconds since the epoch */
int64_t clock_wall_sec(void);
