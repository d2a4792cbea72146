/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faults: makes the n-th call that writes fail, once.  A scenario is first run without a
 * fault to count its calls, then once for every call and every kind of failure.
 *
 * The test links with --wrap of the calls below (see reslog_test.c), so that those of
 * base/fsio.c come here.
 */
#pragma once

#include "tests/lib/t.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

ssize_t __real_pwrite(int fd, const void *p, size_t n, off_t off);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t off);
ssize_t __real_write(int fd, const void *p, size_t n);
ssize_t __wrap_write(int fd, const void *p, size_t n);
int __real_ftruncate(int fd, off_t n);
int __wrap_ftruncate(int fd, off_t n);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);

static unsigned fault_calls; /* since fault_arm() */
static unsigned fault_at;    /* 0: never */
static unsigned fault_times; /* so many calls from there on; fault_arm says 1 */
static int fault_errno;
static bool fault_short;    /* a write first gets half of its bytes through */
static bool fault_was_sync; /* the call that failed was one that syncs */
static bool fault_hit;

static void fault_arm(unsigned at, int errnum, bool half)
{
    fault_calls = 0;
    fault_at = at;
    fault_times = 1;
    fault_errno = errnum;
    fault_short = half;
    fault_was_sync = fault_hit = false;
}

static bool fault_now(void)
{
    if (++fault_calls < fault_at || fault_calls >= fault_at + fault_times || !fault_at)
        return false;
    fault_hit = true;
    errno = fault_errno;
    return true;
}

ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t off)
{
    if (!fault_now())
        return __real_pwrite(fd, p, n, off);
    if (!fault_short || n < 2)
        return -1;
    fault_at = fault_calls + 1; /* the rest of it fails */
    fault_short = false;
    return __real_pwrite(fd, p, n / 2, off);
}

ssize_t __wrap_write(int fd, const void *p, size_t n)
{
    if (fd <= STDERR_FILENO || !fault_now())
        return __real_write(fd, p, n);
    if (!fault_short || n < 2)
        return -1;
    fault_at = fault_calls + 1; /* as above */
    fault_short = false;
    return __real_write(fd, p, n / 2);
}

int __wrap_ftruncate(int fd, off_t n)
{
    return fault_now() ? -1 : __real_ftruncate(fd, n);
}

int __wrap_rename(const char *from, const char *to)
{
    return fault_now() ? -1 : __real_rename(from, to);
}

int __wrap_close(int fd)
{
    int rc = __real_close(fd);

    return rc == 0 && fault_now() ? -1 : rc;
}

int __wrap_fsync(int fd)
{
    (void)fd;
    if (!fault_now())
        return 0;
    fault_was_sync = true;
    return -1;
}

int __wrap_fdatasync(int fd)
{
    return __wrap_fsync(fd);
}

/* Runs one scenario in a new directory for each call k and each kind of failure. */
static void fault_sweep(void (*scenario)(const char *dir))
{
    static const struct {
        const char *name;
        int errnum;
        bool half;
    } kinds[] = {{"EIO", EIO, false},
                 {"ENOSPC", ENOSPC, false},
                 {"EDQUOT after half", EDQUOT, true},
                 {"EIO after half", EIO, true}};
    char dir[400], row[64];
    unsigned total;

    snprintf(dir, sizeof dir, "%s/plain", t_dir());
    if (mkdir(dir, 0700) < 0)
        FAIL("mkdir: errno %d", errno);
    fault_arm(0, 0, false);
    scenario(dir);
    total = fault_calls;
    OK(total > 3);
    for (unsigned i = 0; i < COUNTOF(kinds); i++) {
        for (unsigned k = 1; k <= total; k++) {
            snprintf(row, sizeof row, "%s at call %u of %u", kinds[i].name, k, total);
            t_row(row);
            snprintf(dir, sizeof dir, "%s/%u-%u", t_dir(), i, k);
            if (mkdir(dir, 0700) < 0)
                FAIL("mkdir: errno %d", errno);
            fault_arm(k, kinds[i].errnum, kinds[i].half);
            scenario(dir);
            OK(fault_hit);
        }
    }
    t_row(NULL);
}
