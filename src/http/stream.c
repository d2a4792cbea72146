/* SPDX-License-Identifier: Apache-2.0 */
#include "http/stream.h"
#include "base/mem.h"
#include "io/mailbox.h"
#include "io/pool.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

/* A client that has gone is noticed within this time. */
#define LOOK_EVERY (1 * USEC_PER_SEC)

/* Kept between two pulls; the rest of the buffer goes back when it was sent. */
#define KEEP 4096u

/* The library's own block, which only answers to HTTP/1.0 pass through. */
#define BLOCK 4096u

struct streams {
    struct stream_host host;
    struct loop *loop;
    struct mailbox *arrivals;
    pthread_t thread;
    bool running;
    atomic_bool stopping;
    struct list waiting; /* the thread's */
};

struct stream {
    struct streams *all;
    struct MHD_Connection *mhd;
    int fd;
    http_pull_fn *pull;
    http_release_fn *release;
    void *ctx;
    bool held; /* by the host's count; the connection thread's */

    /* Of whoever has the stream: one after the other. */
    struct buf out;
    size_t sent; /* of out */
    enum http_more said;
    usec_t again;
    struct pool_job job;
    struct mail mail;
    struct list link;
    struct loop_timer timer;
};

/* ---- waiting: the streams' thread ---- */

/* A client that has only ended its sending side looks the same; it gets what was there
 * before its stream had to wait. */
static bool client_gone(const struct stream *st)
{
    struct pollfd p = {.fd = st->fd, .events = POLLRDHUP};

    return poll(&p, 1, 0) > 0;
}

static void back_to_library(struct stream *st)
{
    const struct stream_host *h = &st->all->host;

    h->resume(h->ctx, st->mhd); /* st may be gone when this returns */
}

static void end_wait(struct stream *st, usec_t now);

static void on_timer(void *ctx, usec_t now)
{
    end_wait(ctx, now);
}

/* Goes on waiting when it is not time yet. */
static void end_wait(struct stream *st, usec_t now)
{
    struct streams *all = st->all;

    list_del(&st->link);
    loop_timer_clear(all->loop, &st->timer);
    if (client_gone(st)) {
        st->said = HTTP_BREAK;
        back_to_library(st);
    } else if (now >= st->again || atomic_load(&all->stopping)) {
        pool_submit(all->host.workers, &st->job);
    } else {
        list_add_tail(&all->waiting, &st->link);
        loop_timer_set(all->loop, &st->timer,
                       st->again < now + LOOK_EVERY ? st->again : now + LOOK_EVERY,
                       on_timer, st);
    }
}

static void on_arrival(void *ctx, struct mail *m)
{
    struct streams *all = ctx;

    end_wait(CONTAINER_OF(m, struct stream, mail), loop_now(all->loop));
}

/* Nothing is in transit when the mailbox goes: it would be held. */
static void on_drop(void *ctx, struct mail *m)
{
    (void)ctx, (void)m;
    PANIC("a stream was left in transit");
}

static void on_tick(void *ctx, usec_t now)
{
    struct streams *all = ctx;

    if (!atomic_load(&all->stopping))
        return;
    list_each_safe (it, &all->waiting)
        end_wait(list_entry(it, struct stream, link), now);
}

/* ---- pulling: a worker ---- */

static void on_worker(struct pool_job *job)
{
    struct stream *st = CONTAINER_OF(job, struct stream, job);
    struct streams *all = st->all;
    bool stopping = atomic_load(&all->stopping);

    st->again = 0;
    st->said = st->pull(st->ctx, &st->out, stopping, &st->again);
    if (buf_failed(&st->out) || (stopping && st->said == HTTP_WAIT))
        st->said = HTTP_BREAK;
    if (buf_failed(&st->out))
        buf_reset(&st->out);
    if (st->out.n || st->said == HTTP_END || st->said == HTTP_BREAK)
        back_to_library(st);
    else if (st->said == HTTP_WAIT)
        mail_post(all->arrivals, &st->mail);
    else
        pool_submit(all->host.workers, &st->job); /* behind what others ask for */
}

/* ---- sending: a connection thread ---- */

/* Some of what was pulled; 0: nothing is left of it. */
static size_t take(struct stream *st, char *dst, size_t max)
{
    size_t n = (size_t)u64_min(max, st->out.n - st->sent);

    if (n == 0)
        return 0;
    memcpy(dst, st->out.p + st->sent, n);
    st->sent += n;
    if (st->sent == st->out.n) {
        buf_shrink(&st->out, KEEP);
        st->sent = 0;
    }
    return n;
}

/* false: the server allows no more of it. */
static bool hand_out(struct stream *st)
{
    struct streams *all = st->all;

    if (!st->held && !all->host.hold(all->host.ctx))
        return false;
    st->held = true;
    MHD_suspend_connection(st->mhd);
    if (st->said == HTTP_WAIT)
        mail_post(all->arrivals, &st->mail);
    else
        pool_submit(all->host.workers, &st->job);
    return true; /* st is not ours from here on */
}

static void give_back(struct stream *st)
{
    if (!st->held)
        return;
    st->held = false;
    st->all->host.put(st->all->host.ctx);
}

/* The library wants up to max bytes.  0: later, when it is resumed. */
static ssize_t on_want(void *ctx, uint64_t pos, char *dst, size_t max)
{
    struct stream *st = ctx;
    size_t n;

    (void)pos;
    /* What was held has come back; held anew below only when the server still goes on. */
    give_back(st);
    n = take(st, dst, max);
    if (n)
        return (ssize_t)n;
    if (st->said == HTTP_END)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (st->said == HTTP_BREAK || !hand_out(st))
        return MHD_CONTENT_READER_END_WITH_ERROR;
    return 0;
}

static void on_free(void *ctx)
{
    struct stream *st = ctx;

    give_back(st); /* resumed, and the client was gone: on_want was not called again */
    st->release(st->ctx);
    buf_done(&st->out);
    mem_free(st);
}

struct MHD_Response *stream_response(struct streams *all, struct MHD_Connection *mhd,
                                     int fd, http_pull_fn *pull, http_release_fn *release,
                                     void *ctx)
{
    struct stream *st = mem_new(struct stream);
    struct MHD_Response *r;

    *st = (struct stream){.all = all,
                          .mhd = mhd,
                          .fd = fd,
                          .pull = pull,
                          .release = release,
                          .ctx = ctx,
                          .said = HTTP_MORE,
                          .job.run = on_worker};
    list_init(&st->link);
    buf_init(&st->out, HTTP_STREAM_BUFFER);
    r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, on_want, st, on_free);
    if (!r)
        on_free(st);
    return r;
}

/* ---- life ---- */

static void *run(void *arg)
{
    struct streams *all = arg;

    pthread_setname_np(pthread_self(), "http-stream");
    loop_run(all->loop);
    return NULL;
}

enum rc streams_new(const struct stream_host *h, struct streams **ret, struct err *e)
{
    struct streams *all = mem_new(struct streams);
    sigset_t sigs, before;
    int errnum;
    enum rc rc;

    all->host = *h;
    list_init(&all->waiting);
    rc = loop_new(&all->loop, e);
    if (rc == RC_OK)
        rc = mailbox_new(all->loop, on_arrival, on_drop, all, &all->arrivals, e);
    if (rc != RC_OK) {
        IGNORE(streams_free(all)); /* always NULL */
        return rc;
    }
    loop_on_tick(all->loop, on_tick, all);
    sigfillset(&sigs); /* signals are the main thread's business */
    pthread_sigmask(SIG_SETMASK, &sigs, &before);
    errnum = pthread_create(&all->thread, NULL, run, all);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (errnum) {
        IGNORE(streams_free(all)); /* always NULL */
        return err_sys(e, rc_of_errno(errnum), errnum,
                       "cannot start the thread of the streams");
    }
    all->running = true;
    *ret = all;
    return RC_OK;
}

void streams_stop(struct streams *all)
{
    atomic_store(&all->stopping, true);
    loop_wake(all->loop);
}

struct streams *streams_free(struct streams *all)
{
    if (!all)
        return NULL;
    if (all->running) {
        loop_stop(all->loop);
        pthread_join(all->thread, NULL);
    }
    CHECK(list_empty(&all->waiting));
    IGNORE(mailbox_free(all->arrivals)); /* always NULL */
    IGNORE(loop_free(all->loop));        /* always NULL */
    mem_free(all);
    return NULL;
}
