/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faulty: a library for LD_PRELOAD that counts the calls a program makes of the system, of
 * one kind each, and makes one of them fail.
 *
 *   FAULT_BOARD  the file that tells what happened (board.h)
 *   FAULT_ROOT   calls about files count when they are about this directory
 *   FAULT_KIND   the kind of call that fails; without it calls are only counted, and who
 *                made them is written behind the board
 *   FAULT_NTH    which of them, from 1
 *   FAULT_HOW    a number: errno of the call, which does nothing.  "short": half of the
 *                bytes are read or written.  "kill": the process dies instead
 *   FAULT_EVER   all calls from that one on, not only that one
 */
#include "tests/faults/board.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FDS = 65536, DEPTH = 12, PATH = 200 };
enum how { HOW_ERRNO, HOW_SHORT, HOW_KILL };
enum { OTHER, OURS, SOCKET };

static struct {
    uint8_t what;
    char path[PATH];
} fds[FDS];

static struct fault_board *board;
static struct fault_site *sites;
static char root[PATH_MAX];
static size_t root_n;
static int fail_kind = -1;
static uint64_t fail_nth;
static enum how how;
static int fail_errno;
static bool ever;
static __thread bool inside; /* what this library itself needs is not counted */

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

#define REAL(name)                                                                       \
    ({                                                                                   \
        static __typeof__(&name) found;                                                  \
        if (!found)                                                                      \
            found = (__typeof__(&name))real(#name);                                      \
        found;                                                                           \
    })

static void *real(const char *name)
{
    bool was = inside;
    int kept = errno;
    void *p;

    inside = true;
    p = dlsym(RTLD_NEXT, name);
    inside = was;
    errno = kept;
    if (!p)
        abort();
    return p;
}

/* --- Start ----------------------------------------------------------------------------
 */

static int kind_of(const char *name)
{
    static const char *const names[] = {
#define X(kind) #kind,
        FAULT_KINDS(X)
#undef X
    };

    for (int i = 0; i < FAULT_KIND_COUNT; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    abort();
}

static void take_orders(void)
{
    const char *kind = getenv("FAULT_KIND"), *nth = getenv("FAULT_NTH"),
               *what = getenv("FAULT_HOW");

    if (!kind || !nth || !what)
        return;
    fail_kind = kind_of(kind);
    fail_nth = strtoull(nth, NULL, 10);
    ever = getenv("FAULT_EVER") != NULL;
    fail_errno = (int)strtol(what, NULL, 10);
    if (strcmp(what, "kill") == 0)
        how = HOW_KILL;
    else
        how = fail_errno ? HOW_ERRNO : HOW_SHORT;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAULT_BOARD"), *dir = getenv("FAULT_ROOT");
    size_t n = sizeof *board;
    void *trace[2], *p;
    int fd;

    if (!path || !dir)
        return;
    inside = true;
    take_orders();
    root_n = strlen(dir);
    if (root_n >= sizeof root)
        abort();
    memcpy(root, dir, root_n + 1);
    if (fail_kind < 0)
        n += FAULT_SITES * sizeof *sites;
    fd = REAL(open)(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || REAL(ftruncate)(fd, (off_t)n) < 0)
        abort();
    p = REAL(mmap)(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        abort();
    REAL(close)(fd);
    if (fail_kind < 0) {
        (void)backtrace(trace, 2); /* loads what it needs while nothing is counted */
        sites = (struct fault_site *)(void *)((char *)p + sizeof *board);
    }
    board = p;
    unsetenv("LD_PRELOAD"); /* children are not the program */
    inside = false;
}

/* --- Counting and failing --------------------------------------------------------------
 */

static void note_site(enum fault_kind kind)
{
    void *at[DEPTH];
    uint32_t sum = 2166136261U;
    uint64_t i;
    int n;

    inside = true;
    n = backtrace(at, DEPTH);
    inside = false;
    for (int k = 2; k < n; k++)
        sum = (sum ^ (uint32_t)(uintptr_t)at[k]) * 16777619U;
    i = atomic_fetch_add((_Atomic uint64_t *)&board->n_sites, 1);
    if (i < FAULT_SITES)
        sites[i] = (struct fault_site){kind, sum};
}

static void note_hit(const char *what)
{
    if (atomic_fetch_add((_Atomic uint64_t *)&board->hits, 1) == 0 && what)
        memccpy(board->what, what, '\0', FAULT_WHAT - 1);
}

/* This call is to fail; errno says how, unless it is to be short. */
static bool strikes(enum fault_kind kind, const char *what)
{
    uint64_t n;

    if (!board || inside)
        return false;
    n = 1 + atomic_fetch_add((_Atomic uint64_t *)&board->counts[kind], 1);
    if (sites) {
        note_site(kind);
        return false;
    }
    if ((int)kind != fail_kind || n < fail_nth || (n > fail_nth && !ever))
        return false;
    note_hit(what);
    if (how == HOW_KILL)
        kill(getpid(), SIGKILL);
    errno = fail_errno;
    return true;
}

/* The same of a call that moves *n bytes: a short one moves half and goes on. */
static bool strikes_bytes(enum fault_kind kind, const char *what, size_t *n)
{
    if (*n < 2 && how == HOW_SHORT)
        return false;
    if (!strikes(kind, what))
        return false;
    if (how != HOW_SHORT)
        return true;
    *n /= 2;
    return false;
}

/* --- Files ----------------------------------------------------------------------------
 */

static const char *below(const char *path)
{
    if (!board || !path || strncmp(path, root, root_n) != 0)
        return NULL;
    if (path[root_n] == '\0')
        return path + root_n;
    return path[root_n] == '/' ? path + root_n + 1 : NULL;
}

static const char *ours(int fd)
{
    return fd >= 0 && fd < FDS && fds[fd].what == OURS ? fds[fd].path : NULL;
}

static int note_fd(int fd, int what, const char *path)
{
    if (fd >= 0 && fd < FDS) {
        snprintf(fds[fd].path, sizeof fds[fd].path, "%s", path);
        fds[fd].what = (uint8_t)what;
    }
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

static int open_any(int (*fn)(const char *, int, ...), const char *path, int flags,
                    mode_t mode)
{
    const char *rel = below(path);

    if (!rel)
        return fn(path, flags, mode);
    if (strikes(FAULT_open, rel))
        return -1;
    return note_fd(fn(path, flags, mode), OURS, rel);
}

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

DIR *opendir(const char *path)
{
    const char *rel = below(path);

    if (rel && strikes(FAULT_readdir, rel))
        return NULL;
    return REAL(opendir)(path);
}

struct dirent *readdir(DIR *d)
{
    if (strikes(FAULT_readdir, "directory"))
        return NULL;
    return REAL(readdir)(d);
}

int close(int fd)
{
    if (fd >= 0 && fd < FDS)
        fds[fd].what = OTHER;
    return REAL(close)(fd);
}

/* What takes a path below the root. */
#define BY_PATH(kind, name, ...)                                                         \
    do {                                                                                 \
        const char *rel = below(path);                                                   \
                                                                                         \
        if (rel && strikes(kind, rel))                                                   \
            return -1;                                                                   \
        return REAL(name)(__VA_ARGS__);                                                  \
    } while (0)

int rename(const char *path, const char *to)
{
    BY_PATH(FAULT_rename, rename, path, to);
}

int unlink(const char *path)
{
    BY_PATH(FAULT_unlink, unlink, path);
}

int mkdir(const char *path, mode_t mode)
{
    BY_PATH(FAULT_mkdir, mkdir, path, mode);
}

int stat(const char *restrict path, struct stat *restrict st)
{
    BY_PATH(FAULT_stat, stat, path, st);
}

int lstat(const char *restrict path, struct stat *restrict st)
{
    BY_PATH(FAULT_stat, lstat, path, st);
}

int stat64(const char *restrict path, struct stat64 *restrict st)
{
    BY_PATH(FAULT_stat, stat64, path, st);
}

int lstat64(const char *restrict path, struct stat64 *restrict st)
{
    BY_PATH(FAULT_stat, lstat64, path, st);
}

/* What takes a descriptor of a file below the root. */
#define BY_FD(kind, name, ...)                                                           \
    do {                                                                                 \
        const char *rel = ours(fd);                                                      \
                                                                                         \
        if (rel && strikes(kind, rel))                                                   \
            return -1;                                                                   \
        return REAL(name)(__VA_ARGS__);                                                  \
    } while (0)

int fstat(int fd, struct stat *st)
{
    BY_FD(FAULT_stat, fstat, fd, st);
}

int fstat64(int fd, struct stat64 *st)
{
    BY_FD(FAULT_stat, fstat64, fd, st);
}

int fsync(int fd)
{
    BY_FD(FAULT_fsync, fsync, fd);
}

int fdatasync(int fd)
{
    BY_FD(FAULT_fdatasync, fdatasync, fd);
}

int ftruncate(int fd, off_t n)
{
    BY_FD(FAULT_ftruncate, ftruncate, fd, n);
}

int ftruncate64(int fd, off64_t n)
{
    BY_FD(FAULT_ftruncate, ftruncate64, fd, n);
}

int fallocate(int fd, int mode, off_t off, off_t n)
{
    BY_FD(FAULT_fallocate, fallocate, fd, mode, off, n);
}

int flock(int fd, int op)
{
    BY_FD(FAULT_lock, flock, fd, op);
}

static int fcntl_any(int (*fn)(int, int, ...), int fd, int cmd, void *arg)
{
    const char *rel = ours(fd);

    if ((cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) && strikes(FAULT_dup, "descriptor"))
        return -1;
    if ((cmd == F_SETLK || cmd == F_SETLKW) && rel && strikes(FAULT_lock, rel))
        return -1;
    return fn(fd, cmd, arg);
}

int fcntl(int fd, int cmd, ...)
{
    va_list ap;
    void *arg;

    va_start(ap, cmd);
    arg = va_arg(ap, void *);
    va_end(ap);
    return fcntl_any(REAL(fcntl), fd, cmd, arg);
}

int fcntl64(int fd, int cmd, ...)
{
    va_list ap;
    void *arg;

    va_start(ap, cmd);
    arg = va_arg(ap, void *);
    va_end(ap);
    return fcntl_any(REAL(fcntl64), fd, cmd, arg);
}

/* --- Bytes ----------------------------------------------------------------------------
 */

/* What moves up to n bytes of a file. */
#define MOVES(kind, name, ...)                                                           \
    do {                                                                                 \
        const char *rel = ours(fd);                                                      \
                                                                                         \
        if (rel && strikes_bytes(kind, rel, &n))                                         \
            return -1;                                                                   \
        return REAL(name)(__VA_ARGS__);                                                  \
    } while (0)

ssize_t read(int fd, void *p, size_t n)
{
    MOVES(FAULT_read, read, fd, p, n);
}

ssize_t pread(int fd, void *p, size_t n, off_t off)
{
    MOVES(FAULT_read, pread, fd, p, n, off);
}

ssize_t pread64(int fd, void *p, size_t n, off64_t off)
{
    MOVES(FAULT_read, pread64, fd, p, n, off);
}

ssize_t write(int fd, const void *p, size_t n)
{
    MOVES(FAULT_write, write, fd, p, n);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t off)
{
    MOVES(FAULT_write, pwrite, fd, p, n, off);
}

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t off)
{
    MOVES(FAULT_write, pwrite64, fd, p, n, off);
}

/* --- Memory ---------------------------------------------------------------------------
 */

void *malloc(size_t n)
{
    return strikes(FAULT_alloc, "memory") ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    return strikes(FAULT_alloc, "memory") ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    return strikes(FAULT_alloc, "memory") ? NULL : __libc_realloc(p, n);
}

int posix_memalign(void **ret, size_t align, size_t n)
{
    if (strikes(FAULT_alloc, "memory"))
        return ENOMEM;
    *ret = __libc_memalign(align, n);
    return *ret ? 0 : ENOMEM;
}

void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
    return strikes(FAULT_mmap, "memory") ? MAP_FAILED
                                         : REAL(mmap)(at, n, prot, flags, fd, off);
}

void *mmap64(void *at, size_t n, int prot, int flags, int fd, off64_t off)
{
    return strikes(FAULT_mmap, "memory") ? MAP_FAILED
                                         : REAL(mmap64)(at, n, prot, flags, fd, off);
}

int memfd_create(const char *name, unsigned flags)
{
    return strikes(FAULT_memfd, name) ? -1 : REAL(memfd_create)(name, flags);
}

/* --- Sockets --------------------------------------------------------------------------
 */

int socket(int domain, int type, int protocol)
{
    if (strikes(FAULT_socket, "socket"))
        return -1;
    return note_fd(REAL(socket)(domain, type, protocol), SOCKET, "socket");
}

int bind(int fd, const struct sockaddr *addr, socklen_t n)
{
    return strikes(FAULT_listen, "bind") ? -1 : REAL(bind)(fd, addr, n);
}

int listen(int fd, int backlog)
{
    return strikes(FAULT_listen, "listen") ? -1 : REAL(listen)(fd, backlog);
}

int getsockname(int fd, struct sockaddr *restrict addr, socklen_t *restrict n)
{
    return strikes(FAULT_listen, "getsockname") ? -1 : REAL(getsockname)(fd, addr, n);
}

int socketpair(int domain, int type, int protocol, int pair[2])
{
    return strikes(FAULT_socket, "socketpair")
               ? -1
               : REAL(socketpair)(domain, type, protocol, pair);
}

int connect(int fd, const struct sockaddr *addr, socklen_t n)
{
    return strikes(FAULT_connect, "connect") ? -1 : REAL(connect)(fd, addr, n);
}

int accept4(int fd, struct sockaddr *addr, socklen_t *n, int flags)
{
    return strikes(FAULT_accept, "accept") ? -1 : REAL(accept4)(fd, addr, n, flags);
}

ssize_t send(int fd, const void *p, size_t n, int flags)
{
    if (strikes_bytes(FAULT_send, "send", &n))
        return -1;
    return REAL(send)(fd, p, n, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    if (how != HOW_SHORT && strikes(FAULT_send, "sendmsg"))
        return -1;
    return REAL(sendmsg)(fd, m, flags);
}

ssize_t sendfile64(int out, int in, off64_t *off, size_t n)
{
    if (strikes_bytes(FAULT_send, "sendfile", &n))
        return -1;
    return REAL(sendfile64)(out, in, off, n);
}

ssize_t recv(int fd, void *p, size_t n, int flags)
{
    if (strikes_bytes(FAULT_recv, "recv", &n))
        return -1;
    return REAL(recv)(fd, p, n, flags);
}

int epoll_create1(int flags)
{
    return strikes(FAULT_epoll, "epoll_create1") ? -1 : REAL(epoll_create1)(flags);
}

int epoll_ctl(int fd, int op, int which, struct epoll_event *e)
{
    if (op != EPOLL_CTL_DEL && strikes(FAULT_epoll, "epoll_ctl"))
        return -1;
    return REAL(epoll_ctl)(fd, op, which, e);
}

int eventfd(unsigned n, int flags)
{
    return strikes(FAULT_eventfd, "eventfd") ? -1 : REAL(eventfd)(n, flags);
}

int pthread_create(pthread_t *restrict ret, const pthread_attr_t *restrict attr,
                   void *(*run)(void *), void *restrict arg)
{
    return strikes(FAULT_thread, "thread") ? EAGAIN
                                           : REAL(pthread_create)(ret, attr, run, arg);
}

ssize_t getrandom(void *p, size_t n, unsigned flags)
{
    return strikes_bytes(FAULT_random, "getrandom", &n) ? -1
                                                        : REAL(getrandom)(p, n, flags);
}
