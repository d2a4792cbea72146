/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faulty_vfs: a file system under SQLite (a VFS) whose n-th write, sync or truncation
 * fails.  For test programs linked with -Wl,--wrap=fsync.
 */
#pragma once

#include "tests/lib/t.h"

#include <poll.h>
#include <sqlite3.h>
#include <stdatomic.h>

/* The directory's; of the files SQLite's own calls count, below. */
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    (void)fd;
    return 0;
}

/* ---- a VFS that fails ---------------------------------------------------------------*/

static sqlite3_vfs *real_vfs;
static atomic_uint calls;
static unsigned fault_at, fault_times; /* the fault_at-th call fails, and so many after */
static int fault_code;                 /* an extended error code */
static bool fault_hit;

static bool slow_sync;
static bool fail_database_sync; /* that of the database, not that of its log */

struct faulty {
    sqlite3_file base;
    bool database;
    sqlite3_file *real; /* lies behind this */
};
#define REAL(f) (((struct faulty *)(void *)(f))->real)

static bool fault_now(bool sync)
{
    unsigned n = ++calls;

    if (!fault_at || n < fault_at || n >= fault_at + fault_times)
        return false;
    fault_hit = true;
    if (sync && fault_code == SQLITE_FULL)
        return false; /* a sync does not tell that */
    return true;
}

static int f_close(sqlite3_file *f)
{
    return REAL(f)->pMethods->xClose(REAL(f));
}

static int f_read(sqlite3_file *f, void *p, int n, sqlite3_int64 off)
{
    return REAL(f)->pMethods->xRead(REAL(f), p, n, off);
}

static int f_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 off)
{
    if (!fault_now(false))
        return REAL(f)->pMethods->xWrite(REAL(f), p, n, off);
    if (n > 100) /* half of it got through */
        REAL(f)->pMethods->xWrite(REAL(f), p, n / 2, off);
    return fault_code == SQLITE_FULL ? SQLITE_FULL : SQLITE_IOERR_WRITE;
}

static int f_truncate(sqlite3_file *f, sqlite3_int64 n)
{
    if (fault_now(true))
        return SQLITE_IOERR_TRUNCATE;
    return REAL(f)->pMethods->xTruncate(REAL(f), n);
}

static int f_sync(sqlite3_file *f, int flags)
{
    (void)flags;
    if (slow_sync)
        poll(NULL, 0, 3); /* ms, as a real disk: requests gather meanwhile */
    if (fail_database_sync && ((struct faulty *)(void *)f)->database)
        return SQLITE_IOERR_FSYNC;
    return fault_now(true) ? SQLITE_IOERR_FSYNC : SQLITE_OK; /* quick: never a real one */
}

static int f_size(sqlite3_file *f, sqlite3_int64 *ret)
{
    return REAL(f)->pMethods->xFileSize(REAL(f), ret);
}

static int f_lock(sqlite3_file *f, int how)
{
    return REAL(f)->pMethods->xLock(REAL(f), how);
}

static int f_unlock(sqlite3_file *f, int how)
{
    return REAL(f)->pMethods->xUnlock(REAL(f), how);
}

static int f_reserved(sqlite3_file *f, int *ret)
{
    return REAL(f)->pMethods->xCheckReservedLock(REAL(f), ret);
}

static int f_control(sqlite3_file *f, int op, void *arg)
{
    return REAL(f)->pMethods->xFileControl(REAL(f), op, arg);
}

static int f_sector(sqlite3_file *f)
{
    return REAL(f)->pMethods->xSectorSize(REAL(f));
}

static int f_device(sqlite3_file *f)
{
    return REAL(f)->pMethods->xDeviceCharacteristics(REAL(f));
}

/* Version 1: no shared memory.  The store must not ask for any. */
static const sqlite3_io_methods methods = {
    .iVersion = 1,
    .xClose = f_close,
    .xRead = f_read,
    .xWrite = f_write,
    .xTruncate = f_truncate,
    .xSync = f_sync,
    .xFileSize = f_size,
    .xLock = f_lock,
    .xUnlock = f_unlock,
    .xCheckReservedLock = f_reserved,
    .xFileControl = f_control,
    .xSectorSize = f_sector,
    .xDeviceCharacteristics = f_device,
};

static int v_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *ret)
{
    struct faulty *x = (struct faulty *)(void *)f;
    int rc;

    (void)v;
    x->base.pMethods = NULL;
    x->database = flags & SQLITE_OPEN_MAIN_DB;
    x->real = (sqlite3_file *)(void *)(x + 1);
    rc = real_vfs->xOpen(real_vfs, name, x->real, flags, ret);
    if (x->real->pMethods)
        x->base.pMethods = &methods;
    return rc;
}

static void install_vfs(void)
{
    static sqlite3_vfs v;

    real_vfs = sqlite3_vfs_find(NULL);
    v = *real_vfs;
    v.zName = "faulty";
    v.szOsFile = (int)sizeof(struct faulty) + real_vfs->szOsFile;
    v.xOpen = v_open;
    EQ_INT(sqlite3_vfs_register(&v, 1), SQLITE_OK);
}

static void arm(unsigned at, unsigned times, int code)
{
    calls = 0;
    fault_at = at;
    fault_times = times;
    fault_code = code;
    fault_hit = false;
}
