/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forgetful_vfs: a disk that forgets, under SQLite: a VFS keeps, beside the real database
 * and its log, what of them a disk would hold (as of their last sync).  Before every
 * write, sync and truncation a power cut is tried: what was synced is there, of
 * everything else any sector may be.  For test programs linked with
 * -Wl,--wrap=fsync,--wrap=rename.
 */
#pragma once

#include "base/mem.h"
#include "tests/lib/t.h"

#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512u

static uint64_t x = 88172645463325252u;
static uint32_t rnd(uint32_t n)
{
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    return (uint32_t)((x >> 11) % n);
}

/* ---- the disk: the database and its log ---------------------------------------------*/

enum { DB, WAL, FILES };
static const char *const names[FILES] = {"ledger.db", "ledger.db-wal"};
static const char *const after[FILES] = {"after.db", "after.db-wal"};

#define PAGES 1024u /* of 4 KiB */
static struct {
    char *p; /* as of the last sync; NULL: never synced */
    size_t n;
    bool lost[PAGES]; /* a failed sync gave these up: only writing them again helps */
} disk[FILES];
static int fail_sync_of = -1; /* the next sync of that file fails and reaches nothing */
static void (*try_crash)(void);
static bool busy;
static unsigned crashes, every, syncs[FILES];

static char *slurp(const char *path, size_t *ret_n)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    char *p;

    *ret_n = 0;
    if (!f)
        return NULL;
    OK(fstat(fileno(f), &st) == 0);
    p = mem_alloc((size_t)st.st_size + 1);
    *ret_n = fread(p, 1, (size_t)st.st_size, f);
    EQ_INT(*ret_n, st.st_size);
    fclose(f);
    return p;
}

static void spill(const char *path, const char *p, size_t n)
{
    FILE *f = fopen(path, "wb");

    OK(f && fwrite(p, 1, n, f) == n && fclose(f) == 0);
}

static void synced(int file)
{
    size_t n, had = disk[file].p ? disk[file].n : 0;
    char *now = slurp(names[file], &n);

    for (size_t at = 0; at < n; at += 4096) {
        size_t len = n - at < 4096 ? n - at : 4096;

        if (!disk[file].lost[at / 4096 % PAGES])
            continue;
        memset(now + at, 0, len);
        if (at < had)
            memcpy(now + at, disk[file].p + at, had - at < len ? had - at : len);
    }
    mem_free(disk[file].p);
    disk[file].p = now;
    disk[file].n = n;
    syncs[file]++;
}

/* As Linux does it: the pages count as clean from now on, though the disk has not got
 * them. */
static void sync_failed(int file)
{
    size_t n, had = disk[file].p ? disk[file].n : 0;
    char *now = slurp(names[file], &n);

    for (size_t at = 0; at < n; at++)
        if (at >= had || now[at] != disk[file].p[at])
            disk[file].lost[at / 4096 % PAGES] = true;
    mem_free(now);
}

static void written(int file, size_t off, size_t n)
{
    for (size_t page = off / 4096; page <= (off + n - 1) / 4096; page++)
        disk[file].lost[page % PAGES] = false;
}

static void forget(int file)
{
    mem_free(disk[file].p);
    memset(&disk[file], 0, sizeof disk[file]);
}

/* The log may be replaced by another file of that name: until the directory is synced
 * it is either of them. */
static struct {
    char *synced; /* the new file as of its sync */
    size_t n;
    bool renamed;
} fresh_log;

static bool crash_renamed(int file)
{
    if (file != WAL || !fresh_log.renamed)
        return false;
    if (rnd(2))
        spill(after[file], fresh_log.synced ? fresh_log.synced : "", fresh_log.n);
    else if (disk[file].p)
        spill(after[file], disk[file].p, disk[file].n);
    return true;
}

/* Size of what a power cut leaves; how: 0 old, 1 new, else anything between. */
static size_t crash_size(unsigned how, size_t old_n, size_t now_n)
{
    if (how == 0)
        return old_n;
    if (how == 1)
        return now_n;
    if (now_n > old_n)
        return old_n + rnd((uint32_t)(now_n - old_n) + 1);
    return rnd(2) ? old_n : now_n; /* a truncation that did not come through */
}

/* Sector by sector the old content or the new. */
static void crash_bytes(int file, unsigned how, const char *now, size_t now_n)
{
    size_t old_n = disk[file].p ? disk[file].n : 0, n = crash_size(how, old_n, now_n);
    char *out = mem_alloc(n + 1);

    for (size_t at = 0; at < n; at += SECTOR) {
        size_t len = n - at < SECTOR ? n - at : SECTOR;
        bool fresh = how == 1 || (how > 1 && rnd(2));
        const char *from = fresh ? now : disk[file].p;
        size_t from_n = fresh ? now_n : old_n;

        if (from && at < from_n)
            memcpy(out + at, from + at, from_n - at < len ? from_n - at : len);
    }
    spill(after[file], out, n);
    mem_free(out);
}

static void crash_file(int file)
{
    size_t now_n;
    char *now = slurp(names[file], &now_n);
    unsigned how = rnd(4);

    IGNORE(remove(after[file]) != 0); /* it may not be there */
    if (!crash_renamed(file) && (disk[file].p || (now && how)))
        crash_bytes(file, how, now, now_n);
    mem_free(now);
}

static void before_call(void)
{
    if (busy || !try_crash || (every > 1 && rnd(every)))
        return;
    busy = true;
    crashes++;
    try_crash();
    busy = false;
}

/* The store's own calls, beside those of SQLite. */
int __wrap_fsync(int fd);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);

int __wrap_fsync(int fd)
{
    struct stat st, tmp, here;

    if (busy)
        return 0;
    OK(fstat(fd, &st) == 0 && stat(".", &here) == 0);
    if (stat("ledger.db-wal.tmp", &tmp) == 0 && tmp.st_ino == st.st_ino) {
        before_call();
        mem_free(fresh_log.synced);
        fresh_log.synced = slurp("ledger.db-wal.tmp", &fresh_log.n);
    } else if (st.st_ino == here.st_ino && fresh_log.renamed) {
        before_call();
        forget(WAL);
        disk[WAL].p = fresh_log.synced;
        disk[WAL].n = fresh_log.n;
        memset(&fresh_log, 0, sizeof fresh_log);
    }
    return 0;
}

int __wrap_rename(const char *from, const char *to)
{
    before_call();
    if (!busy && strcmp(to, names[WAL]) == 0)
        fresh_log.renamed = true;
    return __real_rename(from, to);
}

/* ---- the VFS ------------------------------------------------------------------------*/

static sqlite3_vfs *real_vfs;

struct forgetful {
    sqlite3_file base;
    int file; /* DB, WAL or FILES: not looked at */
    sqlite3_file *real;
};

static struct forgetful *of(sqlite3_file *f)
{
    return (struct forgetful *)(void *)f;
}
#define REAL(f)     (of(f)->real)
#define PASS(f, fn) (REAL(f)->pMethods->fn)

static int f_close(sqlite3_file *f)
{
    return PASS(f, xClose)(REAL(f));
}

static int f_read(sqlite3_file *f, void *p, int n, sqlite3_int64 off)
{
    return PASS(f, xRead)(REAL(f), p, n, off);
}

static int f_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 off)
{
    if (of(f)->file != FILES) {
        before_call();
        written(of(f)->file, (size_t)off, (size_t)n);
    }
    return PASS(f, xWrite)(REAL(f), p, n, off);
}

static int f_truncate(sqlite3_file *f, sqlite3_int64 n)
{
    if (of(f)->file != FILES)
        before_call();
    return PASS(f, xTruncate)(REAL(f), n);
}

static int f_sync(sqlite3_file *f, int flags)
{
    (void)flags;
    if (of(f)->file == FILES)
        return SQLITE_OK;
    before_call();
    if (fail_sync_of == of(f)->file) {
        sync_failed(of(f)->file);
        fail_sync_of = -1;
        return SQLITE_IOERR_FSYNC;
    }
    synced(of(f)->file);
    return SQLITE_OK;
}

static int f_size(sqlite3_file *f, sqlite3_int64 *ret)
{
    return PASS(f, xFileSize)(REAL(f), ret);
}

static int f_lock(sqlite3_file *f, int how)
{
    return PASS(f, xLock)(REAL(f), how);
}

static int f_unlock(sqlite3_file *f, int how)
{
    return PASS(f, xUnlock)(REAL(f), how);
}

static int f_reserved(sqlite3_file *f, int *ret)
{
    return PASS(f, xCheckReservedLock)(REAL(f), ret);
}

static int f_control(sqlite3_file *f, int op, void *arg)
{
    return PASS(f, xFileControl)(REAL(f), op, arg);
}

static int f_sector(sqlite3_file *f)
{
    return PASS(f, xSectorSize)(REAL(f));
}

static int f_device(sqlite3_file *f)
{
    (void)f;
    return 0; /* nothing is atomic, nothing safe */
}

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

static int file_of(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;

    for (int i = 0; i < FILES; i++)
        if (path && strcmp(slash ? slash + 1 : path, names[i]) == 0)
            return i;
    return FILES;
}

static int v_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *ret)
{
    int rc;

    (void)v;
    of(f)->base.pMethods = NULL;
    of(f)->file = file_of(name);
    of(f)->real = (sqlite3_file *)(void *)(of(f) + 1);
    rc = real_vfs->xOpen(real_vfs, name, REAL(f), flags, ret);
    if (REAL(f)->pMethods)
        of(f)->base.pMethods = &methods;
    return rc;
}

static int v_delete(sqlite3_vfs *v, const char *name, int sync_dir)
{
    int file = file_of(name);

    (void)v;
    if (file != FILES) {
        before_call();
        if (rnd(2)) /* the name may come back after a power cut, or not */
            forget(file);
    }
    return real_vfs->xDelete(real_vfs, name, sync_dir);
}

static void install_vfs(void)
{
    static sqlite3_vfs v;

    real_vfs = sqlite3_vfs_find(NULL);
    v = *real_vfs;
    v.zName = "forgetful";
    v.szOsFile = (int)sizeof(struct forgetful) + real_vfs->szOsFile;
    v.xOpen = v_open;
    v.xDelete = v_delete;
    EQ_INT(sqlite3_vfs_register(&v, 1), SQLITE_OK);
}
