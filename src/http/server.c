/* SPDX-License-Identifier: Apache-2.0 */
#include "http/server.h"
#include "base/id.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "http/server_int.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Half of the library's memory for a connection is what it reads into: heads whole,
 * bodies in pieces of that size. */
#define CONNECTION_MEMORY ((size_t)(32u << 10) + LIMIT_HEAD_BYTES)
#define RESERVE_MAX       (1u << 20) /* taken at once when Content-Length announces it */

/* ---- counters that drain and free wait for ---- */

/* Connection threads only: they are joined before the server is freed. */
static void put(struct http_server *s, atomic_uint *counter)
{
    if (atomic_fetch_sub(counter, 1) != 1 || !atomic_load(&s->waiting))
        return;
    pthread_mutex_lock(&s->lock);
    pthread_cond_broadcast(&s->zero);
    pthread_mutex_unlock(&s->lock);
}

/* waiting is set before the counter is read and read after it was lowered. */
static void await_zero(struct http_server *s, atomic_uint *counter, usec_t until)
{
    struct timespec at = {until / USEC_PER_SEC, until % USEC_PER_SEC * 1000};
    int errnum = 0;

    atomic_store(&s->waiting, true);
    pthread_mutex_lock(&s->lock);
    while (atomic_load(counter) != 0 && errnum == 0)
        errnum = until == USEC_INFINITY ? pthread_cond_wait(&s->zero, &s->lock)
                                        : pthread_cond_timedwait(&s->zero, &s->lock, &at);
    pthread_mutex_unlock(&s->lock);
}

void server_resume(struct http_server *s, struct MHD_Connection *mhd)
{
    atomic_fetch_add(&s->replying, 1);
    MHD_resume_connection(mhd);
    atomic_fetch_sub(&s->replying, 1);
}

/* ---- refusals ---- */

/*
 * A refusal is written past the library, because that lets a body be refused in the
 * middle only by closing without a word.  At every point where one is sent nothing of an
 * answer to this request has been written, and earlier answers are in the socket already,
 * so the order holds.  An answer this short fits the socket's buffer unless the client
 * reads nothing at all.
 */
static void send_refusal(struct http_server *s, int fd, const char *id,
                         struct http_request *rq, int status, const char *why)
{
    char date[64];
    time_t now = clock_wall_sec();
    struct tm tm;
    struct buf body, out;

    buf_init(&body, 4096);
    buf_init(&out, 8192);
    s->h.on_error(s->h.ctx, rq, status, why, &body);
    gmtime_r(&now, &tm);
    CHECK(strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm) > 0);
    (void)buf_fmt(&out,
                  "HTTP/1.1 %d %s\r\nDate: %s\r\nConnection: close\r\n"
                  "Content-Type: application/json\r\nContent-Length: %zu\r\n"
                  "x-content-type-options: nosniff\r\nx-request-id: %s\r\n\r\n",
                  status, MHD_get_reason_phrase_for((unsigned)status), date, body.n, id);
    if (!rq || !rq->head_only)
        (void)buf_str(&out, buf_peek(&body));
    IGNORE(send(fd, out.p, out.n, MSG_DONTWAIT | MSG_NOSIGNAL) <
           0); /* gone: nothing lost */
    buf_done(&out);
    buf_done(&body);
}

static void on_slow_head(void *ctx, int fd)
{
    struct id id = id_make("req_");

    send_refusal(ctx, fd, id.z, NULL, 408, "The request head took too long.");
}

/* Answers and has the library close the connection (that is what MHD_NO does); the door
 * holds the socket for a while, so that a client that still sends can read the answer. */
static enum MHD_Result refuse(struct http_request *rq, int status, const char *why)
{
    int fd = conn_of(rq)->guest._fd, copy;

    rq->stage = REFUSED;
    log_debug("http.refused", "req=%s status=%d", rq->id.z, status);
    send_refusal(rq->server, fd, rq->id.z, rq, status, why);
    copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy >= 0)
        door_linger(rq->server->door, copy);
    return MHD_NO;
}

static enum MHD_Result refuse_body(struct http_request *rq)
{
    return refuse(rq, rq->over_status, rq->too_large);
}

/* ---- heads ---- */

/* The library's own decoding is off: it would run over what we have decoded. */
static size_t keep_escapes(void *ctx, struct MHD_Connection *mhd, char *text)
{
    (void)ctx, (void)mhd;
    return strlen(text);
}

/* The request line is there, headers not yet; uri is still as it was sent (NULL: there
 * was none).  What this returns is the library's handle to the request from now on. */
static void *on_target(void *ctx, const char *uri, struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct http_request *rq = &((struct conn *)info->socket_context)->rq;
    struct str raw = str_of(uri);
    char *copy;

    (void)ctx;
    rq->mhd = mhd;
    rq->stage = TARGET;
    rq->id = id_make("req_");
    rq->raw_target = uri;
    rq->raw_n = raw.n;
    rq->target.n = 0;
    rq->target.path = (struct str){"", 0};
    rq->target_rc = uri ? buf_reserve(&rq->text, raw.n + 1, &copy) : RC_INVALID;
    if (rq->target_rc == RC_OK) {
        memcpy(copy, uri, raw.n + 1);
        rq->target_rc = head_target(copy, raw.n, &rq->target);
    }
    return rq;
}

struct fields {
    size_t n;
    struct head_field f[LIMIT_HEAD_FIELDS];
};

static enum MHD_Result add_field(void *ctx, enum MHD_ValueKind kind, const char *key,
                                 size_t key_n, const char *value, size_t value_n)
{
    struct fields *all = ctx;

    (void)kind;
    if (all->n < COUNTOF(all->f))
        all->f[all->n] = (struct head_field){{key, key_n}, {value, value_n}};
    return ++all->n > COUNTOF(all->f) ? MHD_NO : MHD_YES;
}

static bool two_nuls(const char *p)
{
    return p[0] == '\0' && p[1] == '\0';
}

/*
 * Whether every line ended in CRLF and held no NUL and no folded line.  Version 0.9.75 of
 * the library takes all of these without a word, which is how two parsers come to see
 * different requests.  It works in place, though: the head still lies where it was
 * received, line ends and the separators replaced by NULs, so its geometry tells.  Later
 * versions refuse such heads themselves (MHD_OPTION_STRICT_FOR_CLIENT).
 */
static bool head_as_sent(const struct http_request *rq, const char *method,
                         const char *version, const struct fields *all)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(rq->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    const char *end = method + info->header_size, *at = version + strlen(version);

    if (rq->raw_target != method + strlen(method) + 1 ||
        version != rq->raw_target + rq->raw_n + 1 || end - at < 4 || !two_nuls(at))
        return false;
    at += 2;
    for (size_t i = 0; i < all->n; i++) {
        const struct head_field *f = &all->f[i];
        const char *after = f->value.p + f->value.n;

        if (f->name.p != at || f->value.p <= at + f->name.n || end - after < 4 ||
            !two_nuls(after))
            return false;
        for (at += f->name.n + 1; at < f->value.p; at++)
            if (*at != ' ' && *at != '\t')
                return false;
        at = after + 2;
    }
    return end - at == 2 && two_nuls(at);
}

/* 0, or the status of a refusal. */
static int check_head(struct http_request *rq, const char *method, const char *version,
                      const char **ret_why)
{
    struct fields all = {0};
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(rq->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);

    *ret_why = "The request head is too large.";
    if (info->header_size > LIMIT_HEAD_BYTES)
        return 431;
    MHD_get_connection_values_n(rq->mhd, MHD_HEADER_KIND, add_field, &all);
    if (all.n > LIMIT_HEAD_FIELDS)
        return 431;
    *ret_why = "The request line or a request header is malformed.";
    if (!head_name_ok(str_of(method)) ||
        (rq->server->check_lines && !head_as_sent(rq, method, version, &all)))
        return 400;
    *ret_why = "There is no memory for the request. Try again in a moment.";
    if (rq->target_rc == RC_NOMEM)
        return 503;
    *ret_why = "The request's path or query is malformed.";
    if (rq->target_rc != RC_OK)
        return 400;
    return head_framing(all.f, all.n, strcmp(version, "HTTP/1.1") == 0, &rq->framing,
                        ret_why);
}

static enum MHD_Result on_head(struct http_request *rq, const char *method,
                               const char *version)
{
    struct http_server *s = rq->server;
    const char *why;
    int status;

    door_busy(&conn_of(rq)->guest, true);
    rq->method = str_of(method);
    rq->head_only = str_is(rq->method, "HEAD");
    status = check_head(rq, method, version, &why);
    if (status)
        return refuse(rq, status, why);
    atomic_fetch_add(&s->under_way, 1);
    rq->opened = true;
    rq->too_large = "The request body is too large.";
    rq->over_status = 413;
    rq->plan = s->h.open(s->h.ctx, rq);
    if (rq->framing.length > rq->plan.max_bytes)
        return refuse_body(rq);
    if (!rq->plan.sink && rq->plan.max_bytes)
        buf_init(&rq->body, rq->plan.max_bytes);
    rq->body_since = clock_mono();
    rq->stage = BODY;
    return MHD_YES;
}

/* ---- bodies ---- */

static bool too_slow(const struct http_request *rq)
{
    usec_t seconds = (clock_mono() - rq->body_since) / USEC_PER_SEC;

    return seconds > LIMIT_BODY_GRACE &&
           rq->body_bytes < (uint64_t)seconds * LIMIT_BODY_RATE;
}

static enum rc keep(struct http_request *rq, struct str piece)
{
    char *at;

    if (rq->body.n == 0 && rq->framing.length) {
        enum rc rc =
            buf_reserve(&rq->body, u64_min(rq->framing.length, RESERVE_MAX), &at);

        if (rc != RC_OK)
            return rc;
    }
    return buf_str(&rq->body, piece);
}

static enum MHD_Result on_body(struct http_request *rq, struct str piece)
{
    if (piece.n > rq->plan.max_bytes - rq->body_bytes)
        return refuse_body(rq);
    rq->body_bytes += piece.n;
    if (too_slow(rq))
        return refuse(rq, 408, "The request body came too slowly.");
    if (!rq->plan.sink) {
        if (keep(rq, piece) != RC_OK)
            return refuse(rq, 503, "There is no memory for the request body.");
    } else if (!rq->pass_over) {
        rq->pass_over = rq->plan.sink(rq->server->h.ctx, rq, piece) != RC_OK;
    }
    return MHD_YES;
}

static void serve(struct pool_job *job)
{
    struct http_request *rq = CONTAINER_OF(job, struct http_request, job);

    rq->server->h.serve(rq->server->h.ctx, rq);
}

/*
 * The first call for a whole request only says that it wants to be called again: the
 * library then no longer means to read from the connection, and will not when it is
 * resumed.  Suspended at once, it would read then, and take a client that has shut down
 * its sending side for one that has gone away.
 */
static enum MHD_Result on_whole(struct http_request *rq)
{
    struct http_server *s = rq->server;

    if (rq->stage == BODY) {
        rq->stage = WHOLE;
        return MHD_YES;
    }
    atomic_fetch_add(&s->handed, 1);
    if (atomic_load(&s->stopping)) {
        put(s, &s->handed);
        return refuse(rq, 503, "The server is shutting down.");
    }
    rq->stage = HANDED;
    rq->answer = NULL;
    MHD_suspend_connection(rq->mhd);
    rq->job.run = serve;
    pool_submit(s->workers, &rq->job); /* rq is not ours from here on */
    return MHD_YES;
}

/* Resumed: the answer is there.  handed is lowered last, because a library that is being
 * stopped drops what it is given and then asks again. */
static enum MHD_Result on_answer(struct http_request *rq)
{
    struct MHD_Response *answer = rq->answer;
    enum MHD_Result ret;

    rq->answer = NULL;
    if (answer) {
        rq->stage = ANSWERED;
        ret = MHD_queue_response(rq->mhd, (unsigned)rq->status, answer);
        MHD_destroy_response(answer); /* the library has its own hold on it */
    } else {
        ret =
            refuse(rq, 503, "There is no memory for the answer. Try again in a moment.");
    }
    put(rq->server, &rq->server->handed);
    return ret;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version,
                                  const char *data, size_t *n, void **request)
{
    struct http_request *rq = *request;
    struct str piece = {data, *n};

    (void)ctx, (void)mhd, (void)url;
    switch (rq->stage) {
    case TARGET:
        return on_head(rq, method, version);
    case BODY:
        if (piece.n == 0)
            return on_whole(rq);
        *n = 0;
        return on_body(rq, piece);
    case WHOLE:
        return on_whole(rq);
    case HANDED:
        return on_answer(rq);
    case IDLE:
    case ANSWERED:
    case REFUSED:
        break;
    }
    PANIC("a request in stage %d was called for", (int)rq->stage);
}

/* Answered, refused, or the client is gone, also between resume and on_answer. */
static void on_over(void *ctx, struct MHD_Connection *mhd, void **request,
                    enum MHD_RequestTerminationCode why)
{
    struct http_request *rq = *request;
    struct http_server *s = ctx;

    (void)mhd, (void)why;
    if (!rq || rq->stage == IDLE)
        return;
    if (rq->stage == HANDED) {
        if (rq->answer)
            MHD_destroy_response(rq->answer);
        rq->answer = NULL;
        put(s, &s->handed);
    }
    rq->stage = IDLE;
    if (rq->opened) {
        rq->opened = false;
        s->h.close(s->h.ctx, rq);
        put(s, &s->under_way);
    }
    rq->user = NULL;
    rq->body_bytes = 0;
    rq->pass_over = false;
    buf_done(&rq->body);
    buf_shrink(&rq->headers, 1024);
    buf_shrink(&rq->text, 1024);
    door_busy(&conn_of(rq)->guest, false);
    *request = NULL;
}

/* ---- connections ---- */

static void on_connection(void *ctx, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct http_server *s = ctx;
    struct conn *c = *context;

    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        c = mem_new(struct conn);
        c->rq.server = s;
        buf_init(&c->rq.text,
                 LIMIT_HEAD_BYTES * 2); /* the library's limit is above ours */
        buf_init(&c->rq.headers, SERVER_EXTRA_HEADERS);
        buf_init(&c->rq.body, 1);
        door_enter(
            s->door, &c->guest,
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd);
        *context = c;
        return;
    }
    CHECK(c->rq.stage == IDLE);
    door_leave(s->door, &c->guest);
    buf_done(&c->rq.text);
    buf_done(&c->rq.headers);
    mem_free(c);
    *context = NULL;
}

static void on_accepted(void *ctx, int fd, const struct sockaddr *addr, socklen_t n)
{
    struct http_server *s = ctx;

    struct err e = {""};

    /* It closes fd when it fails; its own limits are out of reach, memory is not. */
    if (MHD_add_connection(s->daemon, fd, addr, n) == MHD_YES)
        return;
    IGNORE(err_sys(&e, RC_NOMEM, errno, "a new connection was refused"));
    log_warn("http.refused", "err=\"%s\"", e.text);
}

static void on_panic(void *ctx, const char *file, unsigned line, const char *why)
{
    (void)ctx;
    PANIC("libmicrohttpd gave up at %s:%u: %s", file, line,
          why ? why : "no reason given");
}

__attribute__((format(printf, 2, 0))) static void on_log(void *ctx, const char *fmt,
                                                         va_list ap)
{
    char text[256], quoted[600];
    int n;

    (void)ctx;
    if (!log_on(LOG_LVL_DEBUG))
        return;
    n = vsnprintf(text, sizeof text, fmt, ap); /* cut: for people only */
    log_debug("http.library", "text=%s",
              log_q(quoted, sizeof quoted, text, u64_min(n < 0 ? 0 : (unsigned)n, 255)));
}

/* ---- what streams need (stream.h) ---- */

/* As on_whole: the counter first, so that http_server_free, which sets stopping and then
 * waits for the counter, overlooks nobody. */
static bool stream_hold(void *ctx)
{
    struct http_server *s = ctx;

    atomic_fetch_add(&s->handed, 1);
    if (!atomic_load(&s->stopping))
        return true;
    put(s, &s->handed);
    return false;
}

static void stream_put(void *ctx)
{
    struct http_server *s = ctx;

    put(s, &s->handed);
}

static void stream_resume(void *ctx, struct MHD_Connection *mhd)
{
    server_resume(ctx, mhd);
}

static enum rc start_streams(struct http_server *s, struct err *e)
{
    struct stream_host h = {s, stream_hold, stream_put, stream_resume, s->workers};

    return streams_new(&h, &s->streams, e);
}

/* ---- life ---- */

/* Half of the descriptors are for connections; upstreams and files need the others. */
static unsigned fit_fds(unsigned want)
{
    struct rlimit lim;

    if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur / 2 < want)
        return lim.rlim_cur / 2 ? (unsigned)(lim.rlim_cur / 2) : 1;
    return want;
}

static enum rc start_library(struct http_server *s, unsigned threads, unsigned max,
                             unsigned idle_seconds, struct err *e)
{
    sigset_t all, before;

    s->check_lines = MHD_get_version()[0] == '0'; /* "0.9.75"; from 1.0 on it checks */
    MHD_set_panic_func(on_panic, NULL);
    sigfillset(&all); /* signals are the main thread's business */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC |
            MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG,
        0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        /* Never reached, as the door counts: at its limit the library deadlocks. */
        MHD_OPTION_CONNECTION_LIMIT, (max + 1024) * threads, /* shared out evenly */
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY,
        MHD_OPTION_CONNECTION_TIMEOUT, idle_seconds, MHD_OPTION_STRICT_FOR_CLIENT,
        s->check_lines ? 0 : 1, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
        MHD_OPTION_URI_LOG_CALLBACK, on_target, s, MHD_OPTION_NOTIFY_COMPLETED, on_over,
        s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
        threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, threads,
        MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!s->daemon)
        return err_sys(e, RC_NOMEM, errno, "cannot start %u connection threads", threads);
    return RC_OK;
}

enum rc http_server_new(const struct http_server_opts *o, const struct http_handler *h,
                        struct http_server **ret, struct err *e)
{
    struct http_server *s = mem_new(struct http_server);
    unsigned max = fit_fds(o->max_connections ? o->max_connections : 8192);
    struct door_opts d = {o->listen, max, s, on_accepted, on_slow_head};
    pthread_condattr_t mono;
    enum rc rc;

    s->h = *h;
    CHECK(pthread_mutex_init(&s->lock, NULL) == 0);
    CHECK(pthread_condattr_init(&mono) == 0);
    CHECK(pthread_condattr_setclock(&mono, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_cond_init(&s->zero, &mono) == 0);
    pthread_condattr_destroy(&mono);
    rc = door_new(&d, &s->door, e);
    if (rc == RC_OK)
        rc = pool_new("http-worker", o->workers ? o->workers : 4, &s->workers, e);
    if (rc == RC_OK)
        rc = start_streams(s, e);
    if (rc == RC_OK)
        rc = start_library(s, o->io_threads ? o->io_threads : 2, max,
                           o->idle_seconds ? o->idle_seconds : 60, e);
    if (rc == RC_OK)
        rc = door_open(s->door, e);
    if (rc != RC_OK) {
        IGNORE(http_server_free(s)); /* always NULL */
        return rc;
    }
    *ret = s;
    return RC_OK;
}

unsigned http_server_port(const struct http_server *s)
{
    return door_port(s->door);
}

void http_server_drain(struct http_server *s, unsigned seconds)
{
    atomic_store(&s->draining, true);
    streams_stop(s->streams);
    door_shut(s->door);
    await_zero(s, &s->under_way, clock_mono() + seconds * USEC_PER_SEC);
}

/* The library must not be stopped with a connection suspended, nor while a thread is in
 * its resume function; so all that was handed out is waited for. */
struct http_server *http_server_free(struct http_server *s)
{
    if (!s)
        return NULL;
    atomic_store(&s->stopping, true);
    if (s->streams)
        streams_stop(s->streams);
    if (s->door)
        door_stop(s->door);
    await_zero(s, &s->handed, USEC_INFINITY);
    IGNORE(pool_free(s->workers)); /* always NULL */
    while (atomic_load(&s->replying))
        sched_yield(); /* a thread is on its last instructions in reply() */
    if (s->daemon)
        MHD_stop_daemon(s->daemon);
    IGNORE(streams_free(s->streams)); /* always NULL */
    IGNORE(door_free(s->door));       /* always NULL */
    pthread_cond_destroy(&s->zero);
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
    return NULL;
}
