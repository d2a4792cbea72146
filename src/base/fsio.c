/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fsio.h"
#include "base/guard.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static enum rc fail(struct err *e, const char *what, const char *path)
{
    int errnum = errno;

    return err_sys(e, rc_of_errno(errnum), errnum, "cannot %s '%s'", what, path);
}

enum rc fs_open(const char *path, int flags, mode_t mode, int *ret_fd, struct err *e)
{
    int fd;

    do {
        fd = open(path, flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return fail(e, flags & O_CREAT ? "create" : "open", path);
    *ret_fd = fd;
    return RC_OK;
}

void fs_close(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

enum rc fs_close_checked(int *fd, const char *path, struct err *e)
{
    int rc = close(*fd);

    *fd = -1;
    /* On Linux the descriptor is gone even after EINTR (close(2)); the data was synced.
     */
    if (rc < 0 && errno != EINTR)
        return fail(e, "close", path);
    return RC_OK;
}

enum rc fs_write(int fd, const void *p, size_t n, const char *path, struct err *e)
{
    const char *at = p;

    while (n) {
        ssize_t put = write(fd, at, n);

        if (put < 0) {
            if (errno == EINTR)
                continue;
            return fail(e, "write", path);
        }
        at += put;
        n -= (size_t)put;
    }
    return RC_OK;
}

enum rc fs_pwrite(int fd, const void *p, size_t n, uint64_t off, const char *path,
                  struct err *e)
{
    const char *at = p;

    while (n) {
        ssize_t put = pwrite(fd, at, n, (off_t)off);

        if (put < 0) {
            if (errno == EINTR)
                continue;
            return fail(e, "write", path);
        }
        at += put;
        off += (uint64_t)put;
        n -= (size_t)put;
    }
    return RC_OK;
}

enum rc fs_pread(int fd, void *p, size_t n, uint64_t off, size_t *ret_n, const char *path,
                 struct err *e)
{
    char *at = p;
    size_t have = 0;

    while (have < n) {
        ssize_t got = pread(fd, at + have, n - have, (off_t)(off + have));

        if (got < 0) {
            if (errno == EINTR)
                continue;
            return fail(e, "read", path);
        }
        if (got == 0)
            break;
        have += (size_t)got;
    }
    *ret_n = have;
    return RC_OK;
}

enum rc fs_size(int fd, uint64_t *ret, const char *path, struct err *e)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return fail(e, "stat", path);
    *ret = (uint64_t)st.st_size;
    return RC_OK;
}

enum rc fs_truncate(int fd, uint64_t n, const char *path, struct err *e)
{
    int rc;

    do {
        rc = ftruncate(fd, (off_t)n);
    } while (rc < 0 && errno == EINTR);
    return rc < 0 ? fail(e, "truncate", path) : RC_OK;
}

enum rc fs_sync_data(int fd, const char *path, struct err *e)
{
    if (fdatasync(fd) < 0 && (GUARD(SYNC_ONCE) || fdatasync(fd) < 0))
        return fail(e, "sync", path);
    return RC_OK;
}

enum rc fs_sync(int fd, const char *path, struct err *e)
{
    if (fsync(fd) < 0 && (GUARD(SYNC_ONCE) || fsync(fd) < 0))
        return fail(e, "sync", path);
    return RC_OK;
}

enum rc fs_sync_dir(const char *dir, struct err *e)
{
    int fd = -1;
    enum rc rc = fs_open(dir, O_RDONLY | O_DIRECTORY, 0, &fd, e);

    if (rc == RC_OK && (rc = fs_sync(fd, dir, e)) == RC_NOMEM)
        rc = RC_IO; /* it was tried */
    fs_close(&fd);
    return rc;
}

enum rc fs_rename(const char *from, const char *to, struct err *e)
{
    return rename(from, to) < 0 ? fail(e, "rename to", to) : RC_OK;
}

enum rc fs_unlink(const char *path, struct err *e)
{
    return unlink(path) < 0 && errno != ENOENT ? fail(e, "delete", path) : RC_OK;
}

enum rc fs_mkdir(const char *path, mode_t mode, struct err *e)
{
    return mkdir(path, mode) < 0 && errno != EEXIST ? fail(e, "make directory", path)
                                                    : RC_OK;
}

enum rc fs_join(char ret[FS_PATH_CAP], const char *dir, const char *name, struct err *e)
{
    if (str_fmt(ret, FS_PATH_CAP, "%s/%s", dir, name) == RC_OK)
        return RC_OK;
    return err_set(e, RC_LIMIT, "the path '%.200s/%.100s' is longer than %d bytes", dir,
                   name, FS_PATH_CAP - 1);
}

enum rc fs_replace(const char *dir, const char *name, const void *p, size_t n,
                   struct err *e)
{
    char path[FS_PATH_CAP], tmp[FS_PATH_CAP];
    int fd = -1;
    enum rc rc = fs_join(path, dir, name, e);

    if (rc != RC_OK)
        return rc;
    if (str_fmt(tmp, sizeof tmp, "%s.tmp", path) != RC_OK)
        return err_set(e, RC_LIMIT, "the path '%.200s' is too long", path);
    rc = fs_open(tmp, O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd, e);
    if (rc != RC_OK)
        return rc;
    rc = fs_write(fd, p, n, tmp, e);
    if (rc == RC_OK && GUARD(REPLACE_SYNC))
        rc = fs_sync(fd, tmp, e);
    if (rc == RC_OK)
        rc = fs_close_checked(&fd, tmp, e);
    if (rc == RC_OK)
        rc = fs_rename(tmp, path, e);
    if (rc == RC_OK)
        return GUARD(REPLACE_DIR_SYNC) ? fs_sync_dir(dir, e) : RC_OK;
    fs_close(&fd);
    IGNORE(fs_unlink(tmp, NULL)); /* the first failure is the one to tell */
    return rc;
}

enum rc fs_slurp(const char *path, size_t max, char **ret, size_t *ret_n, struct err *e)
{
    uint64_t size = 0;
    size_t n = 0;
    char *p = NULL;
    int fd = -1;
    enum rc rc = fs_open(path, O_RDONLY, 0, &fd, e);

    if (rc != RC_OK)
        return rc;
    rc = fs_size(fd, &size, path, e);
    if (rc == RC_OK && size > max)
        rc = err_set(e, RC_LIMIT, "'%s' has %llu bytes; at most %zu are allowed", path,
                     (unsigned long long)size, max);
    if (rc == RC_OK) {
        p = mem_try((size_t)size + 1);
        rc = p ? fs_pread(fd, p, (size_t)size, 0, &n, path, e)
               : err_set(e, RC_NOMEM, "no memory to read '%s'", path);
    }
    fs_close(&fd);
    if (rc != RC_OK) {
        mem_free(p);
        return rc;
    }
    CHECK(p);
    p[n] = '\0';
    *ret = p;
    *ret_n = n;
    return RC_OK;
}

enum rc fs_lock_dir(const char *dir, int *ret_fd, struct err *e)
{
    char path[FS_PATH_CAP], text[32];
    size_t n = 0;
    int fd = -1, len;
    enum rc rc = fs_join(path, dir, "LOCK", e);

    if (rc == RC_OK)
        rc = fs_open(path, O_RDWR | O_CREAT, 0600, &fd, e);
    if (rc != RC_OK)
        return rc;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK) {
            rc = fail(e, "lock", path);
            fs_close(&fd);
            return rc;
        }
        if (fs_pread(fd, text, sizeof text - 1, 0, &n, path, NULL) != RC_OK)
            n = 0;
        text[n] = '\0';
        fs_close(&fd);
        return err_set(
            e, RC_CONFLICT,
            "the data directory '%s' is in use by another batchd (pid %s); stop "
            "it or choose another directory with --data-dir",
            dir, n ? text : "unknown");
    }
    len = snprintf(text, sizeof text, "%ld", (long)getpid());
    rc = fs_truncate(fd, 0, path, e);
    if (rc == RC_OK)
        rc = fs_pwrite(fd, text, (size_t)len, 0, path, e);
    if (rc == RC_NOSPACE)
        rc = RC_OK; /* the lock holds without its note; a full disk must not stop recovery
                     */
    if (rc != RC_OK) {
        fs_close(&fd);
        return rc;
    }
    *ret_fd = fd;
    return RC_OK;
}

enum rc fs_lock(const char *dir, const char *name, int *ret_fd, struct err *e)
{
    char path[FS_PATH_CAP];
    int fd = -1, got;
    enum rc rc = fs_join(path, dir, name, e);

    if (rc == RC_OK)
        rc = fs_open(path, O_RDWR | O_CREAT, 0600, &fd, e);
    if (rc != RC_OK)
        return rc;
    do {
        got = flock(fd, LOCK_EX);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        rc = fail(e, "lock", path);
        fs_close(&fd);
        return rc;
    }
    *ret_fd = fd;
    return RC_OK;
}
