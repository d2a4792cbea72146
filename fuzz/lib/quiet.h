/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quiet: what stands in for the world in a fuzz target, so that an input does the same
 * every time: clocks that only move when they are told to, ids that count from 1, disks
 * that never sync, workers that work at once.  One include per target; it takes the place
 * of base/clock.c and io/pool.c, and of libc's getrandom and syncs.
 */
#pragma once

#include "fuzz/lib/fail.h"

#include "base/clock.h"
#include "base/mem.h"
#include "io/pool.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

/* --- Time ---------------------------------------------------------------------------- */

#define QUIET_START INT64_C(1700000000)

static usec_t quiet_now; /* since the start */

usec_t clock_mono(void)
{
    return USEC_PER_SEC + quiet_now;
}

usec_t clock_wall(void)
{
    return QUIET_START * USEC_PER_SEC + quiet_now;
}

int64_t clock_wall_sec(void)
{
    return clock_wall() / USEC_PER_SEC;
}

usec_t clock_due(void)
{
    return clock_wall();
}

int64_t clock_due_sec(void)
{
    return clock_wall_sec();
}

void clock_guard(int64_t floor_sec, usec_t settle)
{
    (void)floor_sec, (void)settle;
}

bool clock_accept(void)
{
    return false;
}

bool clock_doubtful(int64_t *ret_by_sec)
{
    if (ret_by_sec)
        *ret_by_sec = 0;
    return false;
}

/* --- Chance -------------------------------------------------------------------------- */

static uint32_t quiet_ids; /* handed out so far */

ssize_t getrandom(void *p, size_t n, unsigned flags);
ssize_t getrandom(void *p, size_t n, unsigned flags)
{
    uint8_t *at = p;

    (void)flags;
    memset(at, 0, n);
    quiet_ids++;
    for (size_t i = 0; i < 4 && i < n; i++)
        at[n - 1 - i] = (uint8_t)(quiet_ids >> (8 * i));
    if (n > 16) /* a key: its id is the first half of it */
        at[7] = (uint8_t)quiet_ids;
    return (ssize_t)n;
}

/* --- Disks --------------------------------------------------------------------------- */

int fsync(int fd);
int fdatasync(int fd);

int fsync(int fd)
{
    (void)fd;
    return 0;
}

int fdatasync(int fd)
{
    (void)fd;
    return 0;
}

/* --- Workers ------------------------------------------------------------------------- */

struct pool {
    char nothing;
};

enum rc pool_new(const char *name, unsigned threads, struct pool **ret, struct err *e)
{
    static struct pool one;

    (void)name, (void)threads, (void)e;
    *ret = &one;
    return RC_OK;
}

struct pool *pool_free(struct pool *p)
{
    (void)p;
    return NULL;
}

void pool_submit(struct pool *p, struct pool_job *job)
{
    (void)p;
    job->run(job);
}

size_t pool_queued(struct pool *p)
{
    (void)p;
    return 0;
}
