/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <time.h>

static usec_t read_clock(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (usec_t)t.tv_sec * USEC_PER_SEC + t.tv_nsec / 1000;
}

usec_t clock_mono(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

usec_t clock_wall(void)
{
    return read_clock(CLOCK_REALTIME);
}

int64_t clock_wall_sec(void)
{
    return clock_wall() / USEC_PER_SEC;
}
