/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crashdisk: a disk that forgets.  Keeps, beside the real directory tree that the code
 * under test works on, what of it would be on a disk: a file's bytes as of its last sync,
 * a directory's names as of its last sync.  disk_crash() then builds one of the trees
 * that a power cut could leave: what was synced is there, and of everything else any part
 * may be.
 *
 * The test links with --wrap of the calls at the end of this file (see reslog_test.c), so
 * that those of base/fsio.c come here; no real sync is ever done, which keeps thousands
 * of crashes quick.
 */
#pragma once

#include "base/mem.h"
#include "tests/lib/t.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
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
int __real_unlink(const char *path);
int __wrap_unlink(const char *path);
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);

#define DISK_NODES   4096
#define DISK_ENTRIES 512
#define DISK_PAGES   64 /* of 4 KiB: files are small here */

struct disk_entry {
    char name[128];
    int node;
};

struct disk_node {
    dev_t dev;
    ino_t ino;
    int fd; /* pins the inode, so that its number is not given again */
    bool dir;
    char *bytes; /* of a file: synced */
    size_t n;
    bool
        lost[DISK_PAGES]; /* a failed sync gave these up: only writing them again helps */
    struct disk_entry *names; /* of a directory: synced */
    size_t n_names;
};

static struct disk_node disk_nodes[DISK_NODES];
static int disk_n_nodes;
static char disk_root[PATH_MAX];
static void (*disk_hook)(void); /* before each call that changes something */
static bool disk_off;           /* the calls are not looked at */
static bool disk_fail_sync;     /* the next sync of a file fails with EIO */
static bool disk_fail_dir_sync; /* of a directory */
static unsigned disk_calls;

static uint64_t disk_x = 88172645463325252u;
static uint32_t disk_rnd(uint32_t n)
{
    disk_x ^= disk_x << 13, disk_x ^= disk_x >> 7, disk_x ^= disk_x << 17;
    return (uint32_t)((disk_x >> 11) % n);
}

/* ---- nodes --------------------------------------------------------------------------*/

static int disk_node(const char *path, int fd)
{
    struct stat st;
    char proc[64];
    struct disk_node *d;

    if ((path ? lstat(path, &st) : fstat(fd, &st)) < 0)
        FAIL("stat %s: errno %d", path ? path : "fd", errno);
    for (int i = 0; i < disk_n_nodes; i++)
        if (disk_nodes[i].dev == st.st_dev && disk_nodes[i].ino == st.st_ino)
            return i;
    if (disk_n_nodes == DISK_NODES)
        FAIL("too many files for one run");
    d = &disk_nodes[disk_n_nodes];
    *d = (struct disk_node){
        .dev = st.st_dev, .ino = st.st_ino, .dir = S_ISDIR(st.st_mode)};
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
    d->fd = open(path ? path : proc, O_RDONLY | O_CLOEXEC);
    if (d->fd < 0)
        FAIL("open %s: errno %d", path ? path : proc, errno);
    return disk_n_nodes++;
}

static char *disk_read(int node, size_t *ret_n)
{
    struct stat st;
    char *p;

    if (fstat(disk_nodes[node].fd, &st) < 0)
        FAIL("fstat: errno %d", errno);
    p = mem_alloc((size_t)st.st_size + 1);
    if (pread(disk_nodes[node].fd, p, (size_t)st.st_size, 0) != st.st_size)
        FAIL("pread: errno %d", errno);
    *ret_n = (size_t)st.st_size;
    return p;
}

/* The names of the real directory at path. */
static size_t disk_list(const char *path, struct disk_entry *ret)
{
    DIR *d = opendir(path);
    struct dirent *en;
    size_t n = 0;
    char sub[1024];

    if (!d)
        FAIL("opendir %s: errno %d", path, errno);
    while ((en = readdir(d))) {
        if (strcmp(en->d_name, ".") == 0 || strcmp(en->d_name, "..") == 0)
            continue;
        if (n == DISK_ENTRIES)
            FAIL("too many names in %s", path);
        snprintf(ret[n].name, sizeof ret[n].name, "%.127s", en->d_name);
        snprintf(sub, sizeof sub, "%s/%s", path, en->d_name);
        ret[n++].node = disk_node(sub, -1);
    }
    closedir(d);
    return n;
}

static void disk_synced(int node, const char *path)
{
    struct disk_node *d = &disk_nodes[node];

    if (d->dir) {
        mem_free(d->names);
        d->names = mem_new_n(struct disk_entry, DISK_ENTRIES);
        d->n_names = disk_list(path, d->names);
    } else {
        size_t n;
        char *now = disk_read(node, &n);

        for (size_t at = 0, page = 0; at < n; at += 4096, page++) {
            size_t len = n - at < 4096 ? n - at : 4096, had = d->bytes ? d->n : 0;
            size_t old = at < had ? (had - at < len ? had - at : len) : 0;

            if (page >= DISK_PAGES || !d->lost[page])
                continue;
            memset(now + at, 0, len);
            if (old)
                memcpy(now + at, d->bytes + at, old);
        }
        mem_free(d->bytes);
        d->bytes = now;
        d->n = n;
    }
}

/* As Linux does it: the pages count as clean from now on, though the disk has not got
 * them. */
static void disk_sync_failed(int node)
{
    struct disk_node *d = &disk_nodes[node];
    size_t n, had = d->bytes ? d->n : 0;
    char *now = disk_read(node, &n);

    for (size_t at = 0; at < n; at++)
        if (at >= had || now[at] != d->bytes[at]) {
            CHECK(at / 4096 < DISK_PAGES);
            d->lost[at / 4096] = true;
        }
    mem_free(now);
}

static void disk_written(int fd, off_t off, size_t n)
{
    struct stat st;

    for (int i = 0; fstat(fd, &st) == 0 && i < disk_n_nodes; i++)
        for (size_t page = (size_t)off / 4096;
             disk_nodes[i].dev == st.st_dev && disk_nodes[i].ino == st.st_ino &&
             page <= ((size_t)off + n) / 4096 && page < DISK_PAGES;
             page++)
            disk_nodes[i].lost[page] = false;
}

static bool disk_path(int fd, char *dst, size_t cap)
{
    char proc[64];
    ssize_t n;

    snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
    n = readlink(proc, dst, cap - 1);
    if (n < 0)
        FAIL("readlink: errno %d", errno);
    dst[n] = '\0';
    return strncmp(dst, disk_root, strlen(disk_root)) == 0;
}

/* ---- starting and crashing ----------------------------------------------------------*/

static void disk_forget(void)
{
    for (int i = 0; i < disk_n_nodes; i++) {
        close(disk_nodes[i].fd);
        mem_free(disk_nodes[i].bytes);
        mem_free(disk_nodes[i].names);
    }
    disk_n_nodes = 0;
}

static int disk_take_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
    (void)st, (void)type, (void)f;
    disk_synced(disk_node(path, -1), path);
    return 0;
}

/* All that is under root (an absolute path) now is on disk. */
static void disk_start(const char *root)
{
    disk_forget();
    if (root != disk_root && !realpath(root, disk_root))
        FAIL("realpath %s: errno %d", root, errno);
    if (nftw(disk_root, disk_take_one, 16, FTW_PHYS) != 0)
        FAIL("nftw %s: errno %d", disk_root, errno);
}

static int disk_remove_one(const char *path, const struct stat *st, int type,
                           struct FTW *f)
{
    (void)st, (void)type, (void)f;
    return remove(path);
}

static void disk_remove(const char *path)
{
    nftw(path, disk_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* What of the unsynced bytes came through: none, all, up to some byte, or page by page,
 * the others being zeros or noise. */
static char *disk_torn(const struct disk_node *d, char *now, size_t *n)
{
    size_t had = d->bytes ? d->n : 0, from = 0;
    unsigned how = disk_rnd(5);

    while (from < had && from < *n && now[from] == d->bytes[from])
        from++;
    if (how == 0) { /* none */
        mem_free(now);
        *n = had;
        return mem_dup(had ? d->bytes : "", had);
    }
    if (how == 1 || *n <= from)
        return now;
    if (how == 2) {
        *n = from + disk_rnd((uint32_t)(*n - from) + 1);
        return now;
    }
    for (size_t at = from; at < *n; at += 512) /* sectors */
        if (disk_rnd(2))
            for (size_t i = at; i < *n && i < at + 512; i++)
                now[i] = how == 3 ? 0 : (char)disk_rnd(256);
    return now;
}

static void disk_write_file(const char *path, const char *p, size_t n)
{
    FILE *f = fopen(path, "w");

    if (!f || fwrite(p, 1, n, f) != n || fclose(f) != 0)
        FAIL("cannot write %s: errno %d", path, errno);
}

static void disk_build(int node, const char *now_path, const char *to);

static void disk_build_entry(const struct disk_entry *en, const char *now_path,
                             const char *to)
{
    const struct disk_node *d = &disk_nodes[en->node];
    char sub_now[1024], sub_to[1024];
    size_t n;

    snprintf(sub_now, sizeof sub_now, "%s/%s", now_path, en->name);
    snprintf(sub_to, sizeof sub_to, "%s/%s", to, en->name);
    if (d->dir) {
        disk_build(en->node, sub_now, sub_to);
    } else {
        char *p = disk_read(en->node, &n);

        p = disk_torn(d, p, &n);
        disk_write_file(sub_to, p, n);
        mem_free(p);
    }
}

static const struct disk_entry *disk_find(const struct disk_entry *all, size_t n,
                                          const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(all[i].name, name) == 0)
            return &all[i];
    return NULL;
}

static void disk_build(int node, const char *now_path, const char *to)
{
    const struct disk_node *d = &disk_nodes[node];
    struct disk_entry *now = mem_new_n(struct disk_entry, DISK_ENTRIES);
    size_t n = access(now_path, F_OK) == 0 ? disk_list(now_path, now) : 0;

    if (mkdir(to, 0700) < 0)
        FAIL("mkdir %s: errno %d", to, errno);
    for (size_t i = 0; i < d->n_names; i++) {
        const struct disk_entry *late = disk_find(now, n, d->names[i].name);
        bool same = late && late->node == d->names[i].node;

        if (same || disk_rnd(2))
            disk_build_entry(&d->names[i], now_path, to);
        else if (late)
            disk_build_entry(late, now_path, to);
    }
    for (size_t i = 0; i < n; i++)
        if (!disk_find(d->names, d->n_names, now[i].name) && disk_rnd(2))
            disk_build_entry(&now[i], now_path, to);
    mem_free(now);
}

/* Builds one possible tree at `to`, which is replaced. */
static void disk_crash(const char *to)
{
    disk_remove(to);
    disk_build(disk_node(disk_root, -1), disk_root, to);
}

/* That tree becomes the real one. */
static void disk_restart_from(const char *tree)
{
    disk_remove(disk_root);
    if (__real_rename(tree, disk_root) < 0)
        FAIL("rename: errno %d", errno);
    disk_start(disk_root);
}

/* ---- the calls ----------------------------------------------------------------------*/

/* Runs the hook, whose own calls are not looked at. */
static void disk_try(void)
{
    if (disk_off || !disk_hook)
        return;
    disk_off = true;
    disk_hook();
    disk_off = false;
}

static void disk_before(void)
{
    disk_calls += !disk_off;
    disk_try();
}

ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t off)
{
    disk_before();
    if (!disk_off)
        disk_written(fd, off, n);
    return __real_pwrite(fd, p, n, off);
}

ssize_t __wrap_write(int fd, const void *p, size_t n)
{
    if (fd > STDERR_FILENO)
        disk_before();
    return __real_write(fd, p, n);
}

int __wrap_ftruncate(int fd, off_t n)
{
    disk_before();
    return __real_ftruncate(fd, n);
}

int __wrap_rename(const char *from, const char *to)
{
    disk_before();
    return __real_rename(from, to);
}

int __wrap_unlink(const char *path)
{
    disk_before();
    return __real_unlink(path);
}

int __wrap_fsync(int fd)
{
    char path[PATH_MAX];
    bool *fail;
    int node;

    if (disk_off || !disk_path(fd, path, sizeof path))
        return 0;
    disk_before();
    node = disk_node(NULL, fd);
    fail = disk_nodes[node].dir ? &disk_fail_dir_sync : &disk_fail_sync;
    if (*fail) {
        *fail = false;
        if (!disk_nodes[node].dir)
            disk_sync_failed(node);
        errno = EIO;
        return -1;
    }
    disk_synced(node, path);
    return 0;
}

int __wrap_fdatasync(int fd)
{
    return __wrap_fsync(fd);
}
