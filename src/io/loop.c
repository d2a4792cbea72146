/* SPDX-License-Identifier: Apache-2.0 */
#include "io/loop.h"
#include "base/list.h"
#include "base/mem.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Events taken from the kernel at once.  More only delays the tick: the rest stays ready
 * and comes with the next turn. */
enum { TURN_EVENTS = 256 };

struct loop_watch {
    struct list link; /* in loop.watches, or in loop.dead until the turn ends */
    loop_fd_fn *fn;   /* NULL: unwatched */
    void *ctx;
    int fd;
    unsigned events;
};

struct loop {
    int epfd, wakefd;
    atomic_bool stop;
    atomic_bool woken; /* wakefd was written and not yet read */
    bool no_pwait2;    /* the kernel has no epoll_pwait2 */
    bool in_turn, in_timers;
    usec_t now;
    struct list watches, dead;
    struct loop_timer **heap; /* 1-based, so that a slot of 0 means not armed */
    size_t n_timers, cap_timers;
    loop_tick_fn *tick;
    void *tick_ctx;
    struct epoll_event ev[TURN_EVENTS];
};

static void on_wake(void *ctx, int fd, unsigned events)
{
    struct loop *l = ctx;
    uint64_t n;

    (void)events;
    IGNORE(read(fd, &n, sizeof n) < 0); /* EAGAIN: another turn has read it */
    /* Behind the read: a wake in between sees `woken` and relies on this very turn. */
    atomic_store(&l->woken, false);
}

enum rc loop_new(struct loop **ret, struct err *e)
{
    struct loop *l = mem_new(struct loop);
    struct loop_watch *w;
    enum rc rc;

    list_init(&l->watches);
    list_init(&l->dead);
    l->now = clock_mono();
    l->wakefd = -1;
    l->epfd = epoll_create1(EPOLL_CLOEXEC);
    if (l->epfd >= 0)
        l->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->wakefd < 0) {
        rc = err_sys(e, rc_of_errno(errno), errno, "cannot make an event loop");
        goto fail;
    }
    rc = loop_watch(l, l->wakefd, LOOP_IN, on_wake, l, &w, e);
    if (rc != RC_OK)
        goto fail;
    *ret = l;
    return RC_OK;
fail:
    IGNORE(loop_free(l)); /* always NULL */
    return rc;
}

static void free_watches(struct list *head)
{
    struct list *it;

    while ((it = list_pop(head)))
        mem_free(list_entry(it, struct loop_watch, link));
}

struct loop *loop_free(struct loop *l)
{
    if (!l)
        return NULL;
    CHECK(!l->in_turn);
    for (size_t i = 1; i <= l->n_timers; i++)
        l->heap[i]->_slot = 0;
    free_watches(&l->watches);
    free_watches(&l->dead);
    if (l->epfd >= 0)
        close(l->epfd);
    if (l->wakefd >= 0)
        close(l->wakefd);
    mem_free(l->heap);
    mem_free(l);
    return NULL;
}

/* --- descriptors --- */

static int control(struct loop *l, int op, struct loop_watch *w)
{
    struct epoll_event ev = {
        .events =
            (w->events & LOOP_IN ? EPOLLIN : 0U) | (w->events & LOOP_OUT ? EPOLLOUT : 0U),
        .data.ptr = w,
    };

    return epoll_ctl(l->epfd, op, w->fd, &ev);
}

enum rc loop_watch(struct loop *l, int fd, unsigned events, loop_fd_fn *fn, void *ctx,
                   struct loop_watch **ret, struct err *e)
{
    struct loop_watch *w = mem_new(struct loop_watch);

    CHECK(fn);
    *w = (struct loop_watch){.fn = fn, .ctx = ctx, .fd = fd, .events = events};
    if (control(l, EPOLL_CTL_ADD, w) < 0) {
        int errnum = errno;

        mem_free(w);
        return err_sys(e, rc_of_errno(errnum), errnum, "cannot watch descriptor %d", fd);
    }
    list_add_tail(&l->watches, &w->link);
    *ret = w;
    return RC_OK;
}

enum rc loop_rewatch(struct loop *l, struct loop_watch *w, unsigned events)
{
    unsigned before = w->events;

    CHECK(w->fn);
    if (events == before)
        return RC_OK;
    w->events = events;
    if (control(l, EPOLL_CTL_MOD, w) < 0) {
        w->events = before;
        return rc_of_errno(errno);
    }
    return RC_OK;
}

/* The kernel may have handed out an event for w in this very turn: w stays, deaf, until
 * the turn is over. */
void loop_unwatch(struct loop *l, struct loop_watch *w)
{
    CHECK(w->fn);
    IGNORE(control(l, EPOLL_CTL_DEL, w) < 0); /* the owner may have closed it before */
    w->fn = NULL;
    list_del(&w->link);
    if (l->in_turn)
        list_add_tail(&l->dead, &w->link);
    else
        mem_free(w);
}

static unsigned events_of(const struct loop_watch *w, uint32_t ev)
{
    unsigned got = (ev & EPOLLIN ? LOOP_IN : 0U) | (ev & EPOLLOUT ? LOOP_OUT : 0U);

    /* Who asked for a direction learns of the error from read() or write(), and need
     * not look at LOOP_ERR at all. */
    if (ev & (EPOLLERR | EPOLLHUP))
        got |= LOOP_ERR | w->events;
    return got;
}

/* --- timers: a binary heap, soonest at heap[1] --- */

static void put(struct loop *l, size_t slot, struct loop_timer *t)
{
    l->heap[slot] = t;
    t->_slot = slot;
}

static void sift_up(struct loop *l, size_t slot, struct loop_timer *t)
{
    while (slot > 1 && t->_at < l->heap[slot / 2]->_at) {
        put(l, slot, l->heap[slot / 2]);
        slot /= 2;
    }
    put(l, slot, t);
}

static void sift_down(struct loop *l, size_t slot, struct loop_timer *t)
{
    for (;;) {
        size_t kid = slot * 2;

        if (kid > l->n_timers)
            break;
        if (kid < l->n_timers && l->heap[kid + 1]->_at < l->heap[kid]->_at)
            kid++;
        if (t->_at <= l->heap[kid]->_at)
            break;
        put(l, slot, l->heap[kid]);
        slot = kid;
    }
    put(l, slot, t);
}

static void settle(struct loop *l, size_t slot, struct loop_timer *t)
{
    if (slot > 1 && t->_at < l->heap[slot / 2]->_at)
        sift_up(l, slot, t);
    else
        sift_down(l, slot, t);
}

static size_t new_slot(struct loop *l)
{
    if (l->n_timers + 1 >= l->cap_timers) {
        size_t cap = l->cap_timers ? l->cap_timers * 2 : 64;
        struct loop_timer **heap = mem_new_n(struct loop_timer *, cap);

        if (l->n_timers)
            memcpy(heap, l->heap, (l->n_timers + 1) * sizeof(struct loop_timer *));
        mem_free(l->heap);
        l->heap = heap;
        l->cap_timers = cap;
    }
    return ++l->n_timers;
}

void loop_timer_set(struct loop *l, struct loop_timer *t, usec_t at, loop_timer_fn *fn,
                    void *ctx)
{
    CHECK(fn);
    t->_fn = fn;
    t->_ctx = ctx;
    /* A timer that re-arms itself for now would otherwise keep its turn from ending. */
    t->_at = l->in_timers && at <= l->now ? l->now + 1 : at;
    settle(l, t->_slot ? t->_slot : new_slot(l), t);
}

void loop_timer_clear(struct loop *l, struct loop_timer *t)
{
    size_t slot = t->_slot;
    struct loop_timer *last;

    if (slot == 0)
        return;
    CHECK(slot <= l->n_timers && l->heap[slot] == t);
    t->_slot = 0;
    last = l->heap[l->n_timers--];
    if (last != t)
        settle(l, slot, last);
}

static void run_timers(struct loop *l)
{
    l->in_timers = true;
    while (l->n_timers && l->heap[1]->_at <= l->now) {
        struct loop_timer *t = l->heap[1];

        loop_timer_clear(l, t);
        t->_fn(t->_ctx, l->now);
    }
    l->in_timers = false;
}

/* --- turns --- */

static usec_t time_to_wait(const struct loop *l, usec_t max_wait)
{
    usec_t left;

    if (max_wait <= 0 || l->n_timers == 0)
        return max_wait;
    /* Not l->now: the callbacks and the tick of this turn have taken their time. */
    left = l->heap[1]->_at - clock_mono();
    return left < max_wait ? left : max_wait;
}

static int wait_events(struct loop *l, usec_t wait)
{
    const usec_t longest = 3600 * USEC_PER_SEC; /* fits every clock and every int of ms */
    int n;

    wait = wait < 0 ? 0 : wait > longest ? longest : wait;
    if (!l->no_pwait2) {
        struct timespec ts = {wait / USEC_PER_SEC, wait % USEC_PER_SEC * 1000};

        n = epoll_pwait2(l->epfd, l->ev, TURN_EVENTS, &ts, NULL);
        if (n >= 0 || errno != ENOSYS)
            return n;
        l->no_pwait2 = true;
    }
    /* Rounded up: a timer is never early, and a wait of under 1 ms does not spin. */
    return epoll_wait(l->epfd, l->ev, TURN_EVENTS,
                      (int)((wait + USEC_PER_MS - 1) / USEC_PER_MS));
}

void loop_turn(struct loop *l, usec_t max_wait)
{
    int n;

    CHECK(!l->in_turn);
    n = wait_events(l, time_to_wait(l, max_wait));
    if (n < 0) {
        CHECK(errno == EINTR); /* all else is a bug of ours */
        n = 0; /* a signal is worth a turn: its flag is read in the tick */
    }
    l->now = clock_mono();
    l->in_turn = true;
    for (int i = 0; i < n; i++) {
        struct loop_watch *w = l->ev[i].data.ptr;

        if (w->fn)
            w->fn(w->ctx, w->fd, events_of(w, l->ev[i].events));
    }
    run_timers(l);
    if (l->tick)
        l->tick(l->tick_ctx, l->now);
    l->in_turn = false;
    free_watches(&l->dead);
}

void loop_on_tick(struct loop *l, loop_tick_fn *fn, void *ctx)
{
    l->tick = fn;
    l->tick_ctx = ctx;
}

usec_t loop_now(const struct loop *l)
{
    return l->now;
}

/* The stop is taken, not just seen: one that came before the run ends it too, and the
 * loop can be run again. */
void loop_run(struct loop *l)
{
    while (!atomic_exchange(&l->stop, false))
        loop_turn(l, USEC_INFINITY);
}

void loop_wake(struct loop *l)
{
    const uint64_t one = 1;

    if (!atomic_exchange(&l->woken, true))
        IGNORE(write(l->wakefd, &one, sizeof one) < 0); /* EAGAIN: it is readable */
}

void loop_stop(struct loop *l)
{
    atomic_store(&l->stop, true);
    loop_wake(l);
}
