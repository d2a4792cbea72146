/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recorder: a library for LD_PRELOAD that writes down, in one total order, every change that
 * a program makes to the files below a directory, every sync, and every byte that passes
 * between it and its clients.
 *
 *   TRACE_ROOT        the directory
 *   TRACE_LOG         the trace (trace.h); appended to, so that several lives give one, and
 *                     several processes at a time
 *   TRACE_FAIL_SYNC   N: the N-th sync from now on, of a file or a directory, fails with
 *                     EIO, and is not done
 *   TRACE_FAIL_ONLY   ... of those whose path begins so
 *   TRACE_KILL_SYNC   N: the process dies instead of its N-th sync
 *
 * One lock, also between processes, is held around each call and its record: what was told
 * to a client before a write is before it in the trace.  What goes out is recorded before it is sent, what
 * changes the disk after it succeeded: so a promise is never later in the trace than it
 * was made, and a change never earlier.
 */
#include "tests/crash/trace.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FDS = 65536, TOLD_MAX = 1 << 16 };

/* What a descriptor stands for; 0 for what is not looked at. */
enum { OTHER, OURS, OURS_DIR, CLIENT };

static struct {
    uint8_t what;
    uint32_t turn; /* generation: descriptors come again */
    uint64_t node;
    char path[160];
} fds[FDS];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_n;
static int log_fd = -1;
static long fail_sync, kill_sync;
static const char *fail_only = "";

/* For explore, which records itself: begins to record, whatever the environment says. */
void recorder_begin(const char *dir, const char *log);

#define REAL(name) ((__typeof__(&name))real(#name))

/* Looked up once for each call; a table would not be shorter. */
static void *real(const char *name)
{
    void *p = dlsym(RTLD_NEXT, name);

    if (!p)
        abort();
    return p;
}

static void begin_call(void)
{
    pthread_mutex_lock(&lock);
    while (flock(log_fd, LOCK_EX) < 0 && errno == EINTR)
        continue;
}

static void end_call(void)
{
    int errnum = errno; /* that of the call itself */

    (void)flock(log_fd, LOCK_UN);
    pthread_mutex_unlock(&lock);
    errno = errnum;
}

static void put(const void *p, size_t n)
{
    static ssize_t (*real_write)(int, const void *, size_t);
    const char *at = p;

    if (!real_write)
        real_write = REAL(write);
    while (n) {
        ssize_t done = real_write(log_fd, at, n);

        if (done <= 0)
            abort();
        at += done;
        n -= (size_t)done;
    }
}

static void event(enum trace_kind kind, uint64_t node, uint64_t off, const char *path,
                  const char *to, const void *data, size_t n)
{
    struct trace_event e = {.magic = TRACE_MAGIC,
                            .kind = kind,
                            .node = node,
                            .off = off,
                            .path_n = path ? (uint32_t)strlen(path) : 0,
                            .to_n = to ? (uint32_t)strlen(to) : 0,
                            .data_n = n};

    put(&e, sizeof e);
    if (path)
        put(path, e.path_n);
    if (to)
        put(to, e.to_n);
    if (n)
        put(data, n);
}

void recorder_begin(const char *dir, const char *log)
{
    root_n = strlen(dir);
    if (root_n >= sizeof root)
        abort();
    memcpy(root, dir, root_n + 1);
    log_fd = REAL(open)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0)
        abort();
    /* Out of the way of the descriptors that the program counts on. */
    log_fd = fcntl(log_fd, F_DUPFD_CLOEXEC, 1000);
    event(TRACE_START, 0, 0, NULL, NULL, NULL, 0);
}

__attribute__((constructor)) static void begin(void)
{
    const char *dir = getenv("TRACE_ROOT"), *log = getenv("TRACE_LOG"),
               *fail = getenv("TRACE_FAIL_SYNC"), *kills = getenv("TRACE_KILL_SYNC");

    fail_sync = fail ? strtol(fail, NULL, 10) : 0;
    if (getenv("TRACE_FAIL_ONLY"))
        fail_only = getenv("TRACE_FAIL_ONLY");
    kill_sync = kills ? strtol(kills, NULL, 10) : 0;
    if (dir && log)
        recorder_begin(dir, log);
    unsetenv("LD_PRELOAD"); /* children are not the program */
}

/* The path below the root; "" for the root itself, NULL for what is elsewhere. */
static const char *below(const char *path)
{
    if (log_fd < 0 || !path || strncmp(path, root, root_n) != 0)
        return NULL;
    if (path[root_n] == '\0')
        return path + root_n;
    return path[root_n] == '/' ? path + root_n + 1 : NULL;
}

static bool kept(int fd, int what)
{
    return fd >= 0 && fd < FDS && fds[fd].what == what;
}

/* --- Names ----------------------------------------------------------------------------
 */

static void note_open(int fd, const char *rel, bool was_there, bool truncated)
{
    struct stat st;

    if (fd < 0 || fd >= FDS || fstat(fd, &st) < 0)
        return;
    fds[fd].what = S_ISDIR(st.st_mode) ? OURS_DIR : OURS;
    fds[fd].node = st.st_ino;
    snprintf(fds[fd].path, sizeof fds[fd].path, "%s", rel);
    if (S_ISDIR(st.st_mode))
        return;
    if (!was_there)
        event(TRACE_CREATE, st.st_ino, 0, rel, NULL, NULL, 0);
    else if (truncated)
        event(TRACE_TRUNCATE, st.st_ino, 0, NULL, NULL, NULL, 0);
}

static int open_any(int (*fn)(const char *, int, ...), const char *path, int flags,
                    mode_t mode)
{
    const char *rel = below(path);
    struct stat st;
    bool was_there;
    int fd;

    if (!rel)
        return fn(path, flags, mode);
    begin_call();
    was_there = !(flags & O_CREAT) || lstat(path, &st) == 0;
    fd = fn(path, flags, mode);
    note_open(fd, rel, was_there, (flags & O_TRUNC) != 0);
    end_call();
    return fd;
}

#define MODE_OF(flags, mode)                                                             \
    do {                                                                                 \
        if ((flags) & (O_CREAT | O_TMPFILE)) {                                           \
            va_list ap;                                                                  \
            va_start(ap, flags);                                                         \
            mode = va_arg(ap, mode_t);                                                   \
            va_end(ap);                                                                  \
        }                                                                                \
    } while (0)

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;

    MODE_OF(flags, mode);
    return open_any(REAL(open), path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    mode_t mode = 0;

    MODE_OF(flags, mode);
    return open_any(REAL(open64), path, flags, mode);
}

/* The program opens by absolute paths, or by a name in a directory that it holds. */
int openat(int dir, const char *path, int flags, ...)
{
    mode_t mode = 0;
    char whole[PATH_MAX];
    struct stat st;
    const char *rel;
    bool was_there;
    int fd, n;

    MODE_OF(flags, mode);
    if (path[0] == '/')
        n = snprintf(whole, sizeof whole, "%s", path);
    else if (kept(dir, OURS_DIR))
        n = snprintf(whole, sizeof whole, "%s/%s/%s", root, fds[dir].path, path);
    else
        return REAL(openat)(dir, path, flags, mode);
    if (n < 0 || (size_t)n >= sizeof whole)
        abort();
    rel = below(whole);
    if (!rel)
        return REAL(openat)(dir, path, flags, mode);
    begin_call();
    was_there = !(flags & O_CREAT) || lstat(whole, &st) == 0;
    fd = REAL(openat)(dir, path, flags, mode);
    note_open(fd, rel, was_there, (flags & O_TRUNC) != 0);
    end_call();
    return fd;
}

int close(int fd)
{
    int ret;

    if (fd == log_fd)
        return 0;
    begin_call();
    if (fd >= 0 && fd < FDS) {
        fds[fd].what = OTHER;
        fds[fd].turn++;
    }
    ret = REAL(close)(fd);
    end_call();
    return ret;
}

int rename(const char *from, const char *to)
{
    const char *a = below(from), *b = below(to);
    int ret;

    if (!a || !b)
        return REAL(rename)(from, to);
    begin_call();
    ret = REAL(rename)(from, to);
    if (ret == 0)
        event(TRACE_RENAME, 0, 0, a, b, NULL, 0);
    end_call();
    return ret;
}

/* What takes one path and gives 0. */
#define BY_PATH(name, kind, ...)                                                         \
    do {                                                                                 \
        const char *rel = below(path);                                                   \
        int ret;                                                                         \
                                                                                         \
        if (!rel)                                                                        \
            return REAL(name)(__VA_ARGS__);                                              \
        begin_call();                                                                    \
        ret = REAL(name)(__VA_ARGS__);                                                   \
        if (ret == 0)                                                                    \
            event(kind, 0, 0, rel, NULL, NULL, 0);                                       \
        end_call();                                                                      \
        return ret;                                                                      \
    } while (0)

int unlink(const char *path)
{
    BY_PATH(unlink, TRACE_UNLINK, path);
}

int rmdir(const char *path)
{
    BY_PATH(rmdir, TRACE_UNLINK, path);
}

int mkdir(const char *path, mode_t mode)
{
    BY_PATH(mkdir, TRACE_MKDIR, path, mode);
}

int symlink(const char *target, const char *path)
{
    const char *rel = below(path);
    int ret;

    if (!rel)
        return REAL(symlink)(target, path);
    begin_call();
    ret = REAL(symlink)(target, path);
    if (ret == 0)
        event(TRACE_SYMLINK, 0, 0, rel, target, NULL, 0);
    end_call();
    return ret;
}

/* --- Bytes ----------------------------------------------------------------------------
 */

static void told(int fd, const void *p, size_t n)
{
    if (kept(fd, CLIENT))
        event(TRACE_TOLD, (uint64_t)fds[fd].turn << 32 | (unsigned)fd, 0, NULL, NULL, p,
              n < TOLD_MAX ? n : TOLD_MAX);
}

ssize_t write(int fd, const void *p, size_t n)
{
    off_t at;
    ssize_t done;

    if (!kept(fd, OURS) && !kept(fd, CLIENT))
        return REAL(write)(fd, p, n);
    begin_call();
    told(fd, p, n);
    at = fds[fd].what == OURS ? lseek(fd, 0, SEEK_CUR) : 0;
    done = REAL(write)(fd, p, n);
    if (done > 0 && fds[fd].what == OURS) {
        if (fcntl(fd, F_GETFL) & O_APPEND)
            at = lseek(fd, 0, SEEK_CUR) - done;
        event(TRACE_WRITE, fds[fd].node, (uint64_t)at, NULL, NULL, p, (size_t)done);
    }
    end_call();
    return done;
}

static ssize_t pwrite_any(ssize_t (*fn)(int, const void *, size_t, off_t), int fd,
                          const void *p, size_t n, off_t off)
{
    ssize_t done;

    if (!kept(fd, OURS))
        return fn(fd, p, n, off);
    begin_call();
    done = fn(fd, p, n, off);
    if (done > 0)
        event(TRACE_WRITE, fds[fd].node, (uint64_t)off, NULL, NULL, p, (size_t)done);
    end_call();
    return done;
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t off)
{
    return pwrite_any(REAL(pwrite), fd, p, n, off);
}

ssize_t pwrite64(int fd, const void *p, size_t n, off_t off)
{
    return pwrite_any(REAL(pwrite64), fd, p, n, off);
}

static int truncate_any(int (*fn)(int, off_t), int fd, off_t n)
{
    int ret;

    if (!kept(fd, OURS))
        return fn(fd, n);
    begin_call();
    ret = fn(fd, n);
    if (ret == 0)
        event(TRACE_TRUNCATE, fds[fd].node, (uint64_t)n, NULL, NULL, NULL, 0);
    end_call();
    return ret;
}

int ftruncate(int fd, off_t n)
{
    return truncate_any(REAL(ftruncate), fd, n);
}

int ftruncate64(int fd, off_t n)
{
    return truncate_any(REAL(ftruncate64), fd, n);
}

static int sync_any(int (*fn)(int), int fd)
{
    bool dir = kept(fd, OURS_DIR);
    int ret;

    if (!dir && !kept(fd, OURS))
        return fn(fd);
    begin_call();
    if (kill_sync > 0 && --kill_sync == 0)
        (void)kill(getpid(), SIGKILL);
    if (fail_sync > 0 && strncmp(fds[fd].path, fail_only, strlen(fail_only)) == 0 &&
        --fail_sync == 0) {
        event(dir ? TRACE_SYNC_DIR_FAILED : TRACE_SYNC_FAILED, fds[fd].node, 0,
              fds[fd].path, NULL, NULL, 0);
        end_call();
        errno = EIO;
        return -1;
    }
    ret = 0; /* the trace is what counts; a real sync only takes time */
    if (dir)
        event(TRACE_SYNC_DIR, 0, 0, fds[fd].path, NULL, NULL, 0);
    else
        event(TRACE_SYNC, fds[fd].node, 0, NULL, NULL, NULL, 0);
    end_call();
    return ret;
}

int fsync(int fd)
{
    return sync_any(REAL(fsync), fd);
}

int fdatasync(int fd)
{
    return sync_any(REAL(fdatasync), fd);
}

/* --- Clients --------------------------------------------------------------------------
 */

static int accepted(int fd)
{
    if (fd >= 0 && fd < FDS && log_fd >= 0) {
        begin_call();
        fds[fd].what = CLIENT;
        end_call();
    }
    return fd;
}

int accept(int fd, struct sockaddr *addr, socklen_t *n)
{
    return accepted(REAL(accept)(fd, addr, n));
}

int accept4(int fd, struct sockaddr *addr, socklen_t *n, int flags)
{
    return accepted(REAL(accept4)(fd, addr, n, flags));
}

ssize_t send(int fd, const void *p, size_t n, int flags)
{
    begin_call();
    told(fd, p, n);
    end_call();
    return REAL(send)(fd, p, n, flags);
}

static void told_iov(int fd, const struct iovec *v, size_t n)
{
    begin_call();
    for (size_t i = 0; i < n; i++)
        told(fd, v[i].iov_base, v[i].iov_len);
    end_call();
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    told_iov(fd, m->msg_iov, m->msg_iovlen);
    return REAL(sendmsg)(fd, m, flags);
}

ssize_t writev(int fd, const struct iovec *v, int n)
{
    told_iov(fd, v, (size_t)n);
    return REAL(writev)(fd, v, n);
}

/* Content goes from the file to the client by itself; recorded when it has gone. */
static ssize_t sendfile_any(ssize_t (*fn)(int, int, off_t *, size_t), int out, int in,
                            off_t *off, size_t n)
{
    static char copy[TOLD_MAX]; /* under the lock */
    off_t at = off ? *off : lseek(in, 0, SEEK_CUR);
    ssize_t done, got;

    if (!kept(out, CLIENT))
        return fn(out, in, off, n);
    begin_call();
    done = fn(out, in, off, n < TOLD_MAX ? n : TOLD_MAX);
    got = done > 0 ? pread(in, copy, (size_t)done, at) : 0;
    if (got > 0)
        told(out, copy, (size_t)got);
    end_call();
    return done;
}

ssize_t sendfile(int out, int in, off_t *off, size_t n)
{
    return sendfile_any(REAL(sendfile), out, in, off, n);
}

ssize_t sendfile64(int out, int in, off_t *off, size_t n)
{
    return sendfile_any(REAL(sendfile64), out, in, off, n);
}

ssize_t recv(int fd, void *p, size_t n, int flags)
{
    ssize_t got = REAL(recv)(fd, p, n, flags);

    if (got > 0 && !(flags & MSG_PEEK) && kept(fd, CLIENT)) {
        begin_call();
        event(TRACE_HEARD, (uint64_t)fds[fd].turn << 32 | (unsigned)fd, 0, NULL, NULL, p,
              (size_t)got < TOLD_MAX ? (size_t)got : TOLD_MAX);
        end_call();
    }
    return got;
}
