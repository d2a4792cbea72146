/* SPDX-License-Identifier: Apache-2.0 */
#include "http/door.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/mailbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h> /* glibc's tcp_info has no tcpi_bytes_received */
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#define CLOSE_WAIT 8 /* TCP_CLOSE_WAIT, which only the other tcp.h tells */

#define UNSENT_MAX (64 << 10)

/* See on_round. */
#define LOOKS      64 /* under the lock */
#define ROUNDS_MAX 20 /* a second */

#define LINGER_MAX   256                /* sockets at a time; above it they are closed */
#define LINGER_IDLE  (2 * USEC_PER_SEC) /* without a byte */
#define LINGER_TOTAL (10 * USEC_PER_SEC)
#define LINGER_BYTES (256u << 20) /* more than the largest batch file by a quarter */

struct lingerer {
    struct mail mail;
    struct list link;
    struct door *door;
    struct loop_watch *watch;
    struct loop_timer timer;
    int fd;
    usec_t end;
    uint64_t bytes;
};

struct door {
    struct door_opts o;
    unsigned port;
    struct loop *loop;
    struct mailbox *arrivals; /* of lingering sockets */
    pthread_t thread;
    bool running;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct list guests;    /* under lock */
    bool shut;             /* under lock */
    atomic_uint inside;    /* accepted and not left; never above max_connections */
    atomic_bool full;      /* not accepting until somebody leaves */
    atomic_bool want_shut; /* asked for by door_shut */

    /* the door's thread only */
    int fd; /* -1: shut */
    struct loop_watch *watch;
    bool out_of_fds; /* not accepting until the next round */
    struct loop_timer round;
    struct list lingering;
    unsigned n_lingering;
    char scratch[64 << 10]; /* where unread bytes go */
};

/* ---- the listening socket ---- */

static enum rc split_address(const char *listen, char *host, size_t cap, char *port,
                             size_t port_cap)
{
    const char *colon = strrchr(listen, ':');
    struct str h;
    uint64_t n;

    if (!colon)
        return RC_INVALID;
    h = (struct str){listen, (size_t)(colon - listen)};
    if (h.n >= 2 && h.p[0] == '[' && h.p[h.n - 1] == ']')
        h.p++, h.n -= 2;
    else if (memchr(h.p, ':', h.n))
        return RC_INVALID; /* an IPv6 address needs its brackets */
    if (h.n == 0 || str_u64(str_of(colon + 1), &n) != RC_OK || n > 65535)
        return RC_INVALID;
    if (str_fmt(host, cap, "%.*s", STR_ARG(h)) != RC_OK)
        return RC_INVALID;
    return str_fmt(port, port_cap, "%s", colon + 1);
}

static enum rc rc_of_bind(int errnum)
{
    if (errnum == EADDRINUSE)
        return RC_CONFLICT;
    if (errnum == EADDRNOTAVAIL)
        return RC_INVALID;
    return rc_of_errno(errnum);
}

static enum rc bind_and_listen(struct door *d, const struct addrinfo *a, struct err *e)
{
    struct sockaddr_storage at;
    socklen_t n = sizeof at;
    int on = 1;

    d->fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (d->fd < 0)
        return err_sys(e, rc_of_errno(errno), errno, "cannot make a socket");
    if (setsockopt(d->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(d->fd, a->ai_addr, a->ai_addrlen) < 0 || listen(d->fd, SOMAXCONN) < 0)
        return err_sys(e, rc_of_bind(errno), errno, "cannot listen on %s", d->o.listen);
    if (getsockname(d->fd, (struct sockaddr *)&at, &n) < 0)
        return err_sys(e, rc_of_errno(errno), errno, "cannot learn the port");
    /* NOLINTNEXTLINE(clang-analyzer-core.*): getsockname has filled it in */
    d->port = ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
                                             : ((struct sockaddr_in *)&at)->sin_port);
    return RC_OK;
}

static enum rc open_socket(struct door *d, struct err *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
    char host[256], port[16];
    enum rc rc;
    int gai;

    if (split_address(d->o.listen, host, sizeof host, port, sizeof port) != RC_OK)
        return err_set(e, RC_INVALID, "\"%s\" is not HOST:PORT, as in 127.0.0.1:8080",
                       d->o.listen);
    /* Always loopback (RFC 6761 6.3), also where no hosts file says so. */
    gai = getaddrinfo(str_ieq(str_of(host), STR("localhost")) ? "127.0.0.1" : host, port,
                      &hints, &found);
    if (gai != 0)
        return err_set(e, gai == EAI_MEMORY ? RC_NOMEM : RC_INVALID,
                       "cannot find the host of \"%s\": %s", d->o.listen,
                       gai_strerror(gai));
    rc = bind_and_listen(d, found, e);
    freeaddrinfo(found);
    return rc;
}

/* ---- letting in ---- */

static void watch_listener(struct door *d, bool on)
{
    if (d->watch && loop_rewatch(d->loop, d->watch, on ? LOOP_IN : 0) != RC_OK)
        PANIC("cannot change the watch of the listening socket: errno %d", errno);
}

/*
 * What a client does not read waits in the kernel, by default up to 4 MiB each: a thousand
 * such clients and the machine's memory for TCP is gone, and with it everybody's packets.
 * A client that reads does not notice: what is on its way to it does not count.
 */
static void bound_unsent(int fd)
{
    int most = UNSENT_MAX;

    IGNORE(setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &most, sizeof most) <
           0); /* then as by default */
}

/* One connection; false: there is none, or none can be taken now. */
static bool let_in(struct door *d)
{
    struct sockaddr_storage from;
    socklen_t n = sizeof from;
    int fd = accept4(d->fd, (struct sockaddr *)&from, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd >= 0) {
        bound_unsent(fd);
        atomic_fetch_add(&d->inside, 1);
        d->o.accepted(d->o.ctx, fd, (struct sockaddr *)&from, n);
        return true;
    }
    if (errno == ECONNABORTED || errno == EINTR || errno == EPROTO)
        return true;
    if (errno != EAGAIN) { /* EMFILE and its like: the socket stays readable, so wait */
        d->out_of_fds = true;
        watch_listener(d, false);
    }
    return false;
}

/* full is set before inside is read, and door_leave reads full after it has lowered
 * inside: one of the two sees the other. */
static void on_knock(void *ctx, int fd, unsigned events)
{
    struct door *d = ctx;

    (void)fd, (void)events;
    for (;;) {
        if (atomic_load(&d->inside) >= d->o.max_connections) {
            watch_listener(d, false);
            atomic_store(&d->full, true);
            if (atomic_load(&d->inside) >= d->o.max_connections)
                return; /* on_tick begins again */
            atomic_store(&d->full, false);
            watch_listener(d, true);
        }
        if (!let_in(d))
            return;
    }
}

static void shut_now(struct door *d)
{
    on_knock(d, d->fd, 0); /* those in the queue have been promised service */
    loop_unwatch(d->loop, d->watch);
    close(d->fd);
    d->watch = NULL;
    d->fd = -1;
    pthread_mutex_lock(&d->lock);
    d->shut = true;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
}

static void on_tick(void *ctx, usec_t now)
{
    struct door *d = ctx;

    (void)now;
    if (d->fd < 0)
        return;
    if (atomic_load(&d->full) && atomic_load(&d->inside) < d->o.max_connections) {
        atomic_store(&d->full, false);
        watch_listener(d, true);
    }
    if (atomic_load(&d->want_shut))
        shut_now(d);
}

/* ---- slow heads and unseen ends ---- */

/* True when a head of g has been under way for too long.  A head begins with its first
 * byte, whose time is known to the second; between requests nothing is under way. */
static bool too_slow(struct door_guest *g, uint64_t bytes, usec_t now)
{
    unsigned turn = atomic_load_explicit(&g->_turn, memory_order_relaxed);

    if (turn & 1)
        return false;
    if (turn != g->_seen) {
        g->_seen = turn;
        g->_bytes = bytes;
        g->_since = 0;
        return false;
    }
    if (bytes != g->_bytes && !g->_since)
        g->_since = now;
    g->_bytes = bytes;
    return g->_since && now - g->_since >= LIMIT_HEAD_SECONDS * USEC_PER_SEC;
}

/* The socket of a guest that is to leave, duplicated; -1: it may stay. */
static int look_at(struct door_guest *g, usec_t now)
{
    struct tcp_info info = {0};
    socklen_t n = sizeof info;

    if (getsockopt(g->_fd, IPPROTO_TCP, TCP_INFO, &info, &n) < 0)
        return -1; /* already shut down from our side */
    if (too_slow(g, info.tcpi_bytes_received, now))
        return fcntl(g->_fd, F_DUPFD_CLOEXEC, 0); /* none left: at its next look */
    /* The client has ended its side.  The library takes a short read for the last of
     * what there is and waits for the next edge of epoll; when the end came together
     * with those bytes there is none.  This makes one, and changes nothing else: no
     * more bytes can come, those that have come stay readable, ours can be sent. */
    if (info.tcpi_state == CLOSE_WAIT)
        shutdown(g->_fd, SHUT_RD);
    return -1;
}

/* Looks at n guests.  Under the lock, so that no socket is closed and its number used
 * again meanwhile; and not for long, as whoever comes or goes waits for it.  How many
 * must leave. */
static unsigned look_at_some(struct door *d, unsigned n, usec_t now, int *slow)
{
    unsigned n_slow = 0;

    pthread_mutex_lock(&d->lock);
    for (unsigned i = 0; i < n && !list_empty(&d->guests); i++) {
        struct list *it = list_pop(&d->guests);
        int fd = look_at(list_entry(it, struct door_guest, _link), now);

        list_add_tail(&d->guests, it);
        if (fd >= 0)
            slow[n_slow++] = fd;
    }
    pthread_mutex_unlock(&d->lock);
    return n_slow;
}

/* Everybody is looked at about once a second, a part of them at a time: all 8,192 at once
 * would take a core for 10 ms, and several times that when all of them must go. */
static void on_round(void *ctx, usec_t now)
{
    struct door *d = ctx;
    unsigned inside = atomic_load(&d->inside);
    unsigned rounds = (unsigned)u64_min(inside / LOOKS + 1, ROUNDS_MAX);
    unsigned n = inside / rounds + 1;
    int slow[LOOKS];

    loop_timer_set(d->loop, &d->round, now + USEC_PER_SEC / rounds, on_round, d);
    if (d->out_of_fds && d->fd >= 0) {
        d->out_of_fds = false;
        watch_listener(d, true);
    }
    for (unsigned some; n; n -= some) {
        unsigned n_slow;

        some = (unsigned)u64_min(n, LOOKS);
        n_slow = look_at_some(d, some, now, slow);
        for (unsigned i = 0; i < n_slow; i++) {
            d->o.slow(d->o.ctx, slow[i]);
            shutdown(slow[i], SHUT_RDWR); /* whoever serves it sees the end and leaves */
            close(slow[i]);
        }
    }
}

void door_enter(struct door *d, struct door_guest *g, int fd)
{
    *g = (struct door_guest){._fd = fd};
    pthread_mutex_lock(&d->lock);
    list_add_tail(&d->guests, &g->_link);
    pthread_mutex_unlock(&d->lock);
}

void door_leave(struct door *d, struct door_guest *g)
{
    pthread_mutex_lock(&d->lock);
    list_del(&g->_link);
    pthread_mutex_unlock(&d->lock);
    atomic_fetch_sub(&d->inside, 1);
    if (atomic_load(&d->full))
        loop_wake(d->loop);
}

void door_busy(struct door_guest *g, bool busy)
{
    unsigned turn = atomic_load_explicit(&g->_turn, memory_order_relaxed);

    if ((turn & 1) != busy)
        atomic_store_explicit(&g->_turn, turn + 1, memory_order_relaxed);
}

/* ---- lingering ---- */

static void end_linger(struct lingerer *l)
{
    struct door *d = l->door;

    loop_timer_clear(d->loop, &l->timer);
    if (l->watch)
        loop_unwatch(d->loop, l->watch);
    list_del(&l->link);
    d->n_lingering--;
    close(l->fd);
    mem_free(l);
}

static void on_linger_end(void *ctx, usec_t now)
{
    (void)now;
    end_linger(ctx);
}

static void on_linger_bytes(void *ctx, int fd, unsigned events)
{
    struct lingerer *l = ctx;
    struct door *d = l->door;
    usec_t now = loop_now(d->loop);
    ssize_t n = recv(fd, d->scratch, sizeof d->scratch, MSG_DONTWAIT);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    l->bytes += n > 0 ? (size_t)n : 0;
    if (n <= 0 || l->bytes > LINGER_BYTES) {
        end_linger(l);
        return;
    }
    loop_timer_set(d->loop, &l->timer,
                   now + LINGER_IDLE < l->end ? now + LINGER_IDLE : l->end, on_linger_end,
                   l);
}

static void on_arrival(void *ctx, struct mail *m)
{
    struct lingerer *l = CONTAINER_OF(m, struct lingerer, mail);
    struct door *d = ctx;
    usec_t now = loop_now(d->loop);

    l->end = now + LINGER_TOTAL;
    list_add_tail(&d->lingering, &l->link);
    d->n_lingering++;
    loop_timer_set(d->loop, &l->timer, now + LINGER_IDLE, on_linger_end, l);
    if (d->n_lingering > LINGER_MAX ||
        loop_watch(d->loop, l->fd, LOOP_IN, on_linger_bytes, l, &l->watch, NULL) != RC_OK)
        end_linger(l);
}

static void drop_arrival(void *ctx, struct mail *m)
{
    struct lingerer *l = CONTAINER_OF(m, struct lingerer, mail);

    (void)ctx;
    close(l->fd);
    mem_free(l);
}

void door_linger(struct door *d, int fd)
{
    struct lingerer *l = mem_new(struct lingerer);

    l->door = d;
    l->fd = fd;
    list_init(&l->link);
    mail_post(d->arrivals, &l->mail);
}

/* ---- life ---- */

enum rc door_new(const struct door_opts *o, struct door **ret, struct err *e)
{
    struct door *d = mem_new(struct door);
    enum rc rc;

    d->o = *o;
    d->fd = -1;
    list_init(&d->guests);
    list_init(&d->lingering);
    CHECK(pthread_mutex_init(&d->lock, NULL) == 0);
    CHECK(pthread_cond_init(&d->changed, NULL) == 0);
    rc = open_socket(d, e);
    if (rc == RC_OK)
        rc = loop_new(&d->loop, e);
    if (rc == RC_OK)
        rc = mailbox_new(d->loop, on_arrival, drop_arrival, d, &d->arrivals, e);
    if (rc == RC_OK)
        rc = loop_watch(d->loop, d->fd, LOOP_IN, on_knock, d, &d->watch, e);
    if (rc != RC_OK) {
        IGNORE(door_free(d)); /* always NULL */
        return rc;
    }
    *ret = d;
    return RC_OK;
}

static void *run(void *arg)
{
    struct door *d = arg;

    pthread_setname_np(pthread_self(), "http-door");
    loop_run(d->loop);
    return NULL;
}

enum rc door_open(struct door *d, struct err *e)
{
    sigset_t all, before;
    int errnum;

    loop_on_tick(d->loop, on_tick, d);
    loop_timer_set(d->loop, &d->round, clock_mono() + USEC_PER_SEC, on_round, d);
    sigfillset(&all); /* signals are the main thread's business */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    errnum = pthread_create(&d->thread, NULL, run, d);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (errnum)
        return err_sys(e, rc_of_errno(errnum), errnum, "cannot start the door's thread");
    d->running = true;
    return RC_OK;
}

unsigned door_port(const struct door *d)
{
    return d->port;
}

void door_shut(struct door *d)
{
    if (!d->running)
        return;
    atomic_store(&d->want_shut, true);
    loop_wake(d->loop);
    pthread_mutex_lock(&d->lock);
    while (!d->shut)
        pthread_cond_wait(&d->changed, &d->lock);
    pthread_mutex_unlock(&d->lock);
}

void door_stop(struct door *d)
{
    if (!d->running)
        return;
    loop_stop(d->loop);
    pthread_join(d->thread, NULL);
    d->running = false;
}

struct door *door_free(struct door *d)
{
    if (!d)
        return NULL;
    door_stop(d);
    CHECK(list_empty(&d->guests));
    list_each_safe (it, &d->lingering)
        end_linger(list_entry(it, struct lingerer, link));
    IGNORE(mailbox_free(d->arrivals)); /* always NULL */
    if (d->watch)
        loop_unwatch(d->loop, d->watch);
    if (d->fd >= 0)
        close(d->fd);
    IGNORE(loop_free(d->loop)); /* always NULL */
    pthread_cond_destroy(&d->changed);
    pthread_mutex_destroy(&d->lock);
    mem_free(d);
    return NULL;
}
