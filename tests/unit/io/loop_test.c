/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=epoll_pwait2 */
#include "tests/lib/t.h"
#include "base/mem.h"
#include "io/loop.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* What the kernel is made to say: 0 means the truth. */
static int pwait2_errno;
static unsigned pwait2_calls;
int __real_epoll_pwait2(int, struct epoll_event *, int, const struct timespec *,
                        const sigset_t *);
int __wrap_epoll_pwait2(int, struct epoll_event *, int, const struct timespec *,
                        const sigset_t *);

int __wrap_epoll_pwait2(int fd, struct epoll_event *ev, int n, const struct timespec *ts,
                        const sigset_t *set)
{
    pwait2_calls++;
    if (pwait2_errno) {
        errno = pwait2_errno;
        return -1;
    }
    return __real_epoll_pwait2(fd, ev, n, ts, set);
}

static struct loop *make(void)
{
    struct loop *l = NULL;
    struct err e;

    EQ_RC(loop_new(&l, &e), RC_OK);
    return l;
}

static void make_pair(int fd[2])
{
    EQ_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
}

/* --- timers --- */

struct shot {
    struct loop_timer timer;
    struct loop *loop;
    struct shot *clears, *arms;
    usec_t arm_at;
    unsigned fired, order;
    usec_t at;
};

static unsigned shots;

static void fire(void *ctx, usec_t now)
{
    struct shot *s = ctx;

    OK(now >= s->at);
    s->fired++;
    s->order = ++shots;
    if (s->clears)
        loop_timer_clear(s->loop, &s->clears->timer);
    if (s->arms)
        loop_timer_set(s->loop, &s->arms->timer, s->arm_at, fire, s->arms);
}

static void arm(struct loop *l, struct shot *s, usec_t at)
{
    s->loop = l;
    s->at = at;
    loop_timer_set(l, &s->timer, at, fire, s);
}

TEST(a_thousand_timers_fire_once_each_in_the_order_of_their_times)
{
    enum { N = 1000 };
    struct loop *l = make();
    struct shot *s = mem_new_n(struct shot, N);
    usec_t base = loop_now(l);
    unsigned seed = 12345, last = 0;

    for (unsigned i = 0; i < N; i++) {
        seed = seed * 1103515245U + 12345U;
        arm(l, &s[i], base + 100000 + seed % 5000);
    }
    for (unsigned i = 0; i < N; i++) { /* move a third, clear a third */
        seed = seed * 1103515245U + 12345U;
        if (i % 3 == 1)
            arm(l, &s[i], base + seed % 5000);
        else if (i % 3 == 2)
            loop_timer_clear(l, &s[i].timer);
    }
    while (loop_now(l) < base + 110000)
        loop_turn(l, 5000);
    for (unsigned i = 0; i < N; i++) {
        EQ_INT(s[i].fired, i % 3 != 2);
        last += s[i].fired;
        for (unsigned k = 0; k < N && s[i].fired; k++)
            if (s[k].fired && s[i].at < s[k].at)
                OK(s[i].order < s[k].order);
    }
    EQ_INT(shots, last);
    loop_free(l);
    mem_free(s);
}

TEST(a_timer_may_clear_another_that_is_due_in_the_same_turn)
{
    struct loop *l = make();
    struct shot a = {.clears = NULL}, b = {.clears = NULL};

    a.clears = &b;
    arm(l, &a, loop_now(l) - 2);
    arm(l, &b, loop_now(l) - 1);
    loop_turn(l, 0);
    EQ_INT(a.fired, 1);
    EQ_INT(b.fired, 0);
    loop_free(l);
}

TEST(a_timer_that_arms_itself_for_now_fires_once_a_turn)
{
    struct loop *l = make();
    struct shot a = {.arm_at = 0};

    a.arms = &a;
    arm(l, &a, 0);
    for (unsigned i = 1; i <= 5; i++) {
        loop_turn(l, USEC_PER_SEC);
        EQ_INT(a.fired, i);
    }
    loop_timer_clear(l, &a.timer);
    loop_timer_clear(l, &a.timer); /* not armed: fine */
    loop_turn(l, 0);
    EQ_INT(a.fired, 5);
    loop_free(l);
}

static void timer_is_neither_early_nor_a_spin(void)
{
    struct loop *l = make();
    struct shot a = {0};
    usec_t start = clock_mono();
    unsigned turns = 0;

    arm(l, &a, start + 20300);
    while (!a.fired) {
        loop_turn(l, USEC_INFINITY);
        turns++;
    }
    OK(clock_mono() - start >= 20300);
    OK(turns <= 3);
    loop_free(l);
}

TEST(a_wait_ends_with_the_next_timer)
{
    timer_is_neither_early_nor_a_spin();
    OK(pwait2_calls > 0);
}

TEST(a_kernel_without_epoll_pwait2_is_asked_once_and_waits_whole_milliseconds)
{
    pwait2_errno = ENOSYS;
    timer_is_neither_early_nor_a_spin();
    EQ_INT(pwait2_calls, 1);
}

TEST(a_turn_waits_no_longer_than_it_was_told)
{
    struct loop *l = make();
    struct shot a = {0};
    usec_t start = clock_mono();

    arm(l, &a, start + 3600 * USEC_PER_SEC);
    loop_turn(l, 10000);
    OK(clock_mono() - start >= 10000);
    OK(clock_mono() - start < USEC_PER_SEC);
    EQ_INT(a.fired, 0);
    loop_free(l);
}

/* --- descriptors --- */

struct peer {
    struct loop *loop;
    struct loop_watch *watch, *victim;
    int fd;
    unsigned calls, events;
};

static void heard(void *ctx, int fd, unsigned events)
{
    struct peer *p = ctx;

    EQ_INT(fd, p->fd);
    p->calls++;
    p->events = events;
    if (p->victim)
        loop_unwatch(p->loop, p->victim);
    p->victim = NULL;
}

static void watch(struct loop *l, struct peer *p, int fd, unsigned events)
{
    struct err e;

    *p = (struct peer){.loop = l, .fd = fd};
    EQ_RC(loop_watch(l, fd, events, heard, p, &p->watch, &e), RC_OK);
}

TEST(events_are_those_asked_for)
{
    struct loop *l = make();
    struct peer p;
    int fd[2];

    make_pair(fd);
    watch(l, &p, fd[0], LOOP_OUT);
    loop_turn(l, 0);
    EQ_INT(p.events, LOOP_OUT);
    EQ_RC(loop_rewatch(l, p.watch, LOOP_IN), RC_OK);
    loop_turn(l, 0);
    EQ_INT(p.calls, 1);
    EQ_INT(write(fd[1], "x", 1), 1);
    loop_turn(l, 0);
    EQ_INT(p.events, LOOP_IN);
    EQ_RC(loop_rewatch(l, p.watch, LOOP_IN | LOOP_OUT), RC_OK);
    loop_turn(l, 0);
    EQ_INT(p.events, LOOP_IN | LOOP_OUT);
    EQ_RC(loop_rewatch(l, p.watch, 0), RC_OK);
    loop_turn(l, 0);
    EQ_INT(p.calls, 3);
    close(fd[1]);
    loop_turn(l, 0); /* nobody asked, but it is told */
    EQ_INT(p.events, LOOP_ERR);
    loop_unwatch(l, p.watch);
    loop_free(l);
    close(fd[0]);
}

TEST(an_error_is_reported_as_the_direction_that_was_asked_for_too)
{
    struct loop *l = make();
    struct peer p;
    int fd[2];

    EQ_INT(pipe(fd), 0);
    watch(l, &p, fd[1], LOOP_OUT);
    close(fd[0]);
    loop_turn(l, 0);
    EQ_INT(p.events, LOOP_OUT | LOOP_ERR);
    loop_free(l); /* takes the watch along */
    close(fd[1]);
}

TEST(a_watch_taken_away_in_a_callback_is_not_called_in_the_same_turn)
{
    struct loop *l = make();
    struct peer a, b;
    int fd[2];

    make_pair(fd);
    watch(l, &a, fd[0], LOOP_OUT);
    watch(l, &b, fd[1], LOOP_OUT);
    a.victim = b.watch;
    b.victim = a.watch;
    loop_turn(l, 0);
    EQ_INT(a.calls + b.calls, 1); /* whichever came first */
    loop_turn(l, 0);
    EQ_INT(a.calls + b.calls, 2);
    loop_free(l);
    close(fd[0]);
    close(fd[1]);
}

TEST(a_watch_may_take_itself_away_and_its_descriptor_may_be_watched_again)
{
    struct loop *l = make();
    struct peer a, again;
    int fd[2];

    make_pair(fd);
    watch(l, &a, fd[0], LOOP_OUT);
    a.victim = a.watch;
    loop_turn(l, 0);
    EQ_INT(a.calls, 1);
    watch(l, &again, fd[0], LOOP_OUT);
    loop_turn(l, 0);
    EQ_INT(a.calls, 1);
    EQ_INT(again.calls, 1);
    close(fd[0]);
    loop_unwatch(l, again.watch); /* closed before: fine */
    loop_free(l);
    close(fd[1]);
}

TEST(more_events_than_one_turn_takes_all_come)
{
    enum { N = 300 };
    struct loop *l = make();
    struct peer *p = mem_new_n(struct peer, N);
    unsigned missing = N;
    int fd[2];

    for (unsigned i = 0; i < N; i++) {
        make_pair(fd);
        watch(l, &p[i], fd[0], LOOP_OUT);
    }
    for (unsigned turns = 0; missing && turns < 10; turns++) {
        loop_turn(l, 0);
        missing = 0;
        for (unsigned i = 0; i < N; i++)
            missing += p[i].calls == 0;
    }
    EQ_INT(missing, 0);
    loop_free(l);
    mem_free(p);
}

TEST(a_descriptor_that_cannot_be_watched_is_told)
{
    struct loop *l = make();
    struct loop_watch *w = NULL;
    struct err e;

    EQ_RC(loop_watch(l, 999, LOOP_IN, heard, NULL, &w, &e), RC_IO);
    EQ_Z(e.text, "cannot watch descriptor 999: Bad file descriptor");
    OK(!w);
    loop_free(l);
}

/* --- tick, wake, stop, signals --- */

struct ticker {
    struct loop *loop;
    unsigned ticks, stop_at;
};

static void count_tick(void *ctx, usec_t now)
{
    struct ticker *t = ctx;

    EQ_INT(now, loop_now(t->loop));
    if (++t->ticks == t->stop_at)
        loop_stop(t->loop);
}

/* Wakes until so many turns have been seen: hangs when one wake is lost. */
static atomic_uint seen_turns;

static void show_turn(void *ctx, usec_t now)
{
    (void)ctx, (void)now;
    atomic_fetch_add(&seen_turns, 1);
}

static void *wake_for_each_turn(void *l)
{
    for (unsigned i = 0; i < 2000; i++) {
        unsigned before = atomic_load(&seen_turns);

        loop_wake(l);
        while (atomic_load(&seen_turns) == before)
            sched_yield();
    }
    loop_stop(l);
    return NULL;
}

TEST(a_tick_follows_every_turn_and_a_stop_ends_the_run)
{
    struct loop *l = make();
    struct ticker t = {.loop = l, .stop_at = 1};

    loop_on_tick(l, count_tick, &t);
    loop_wake(l);
    loop_run(l);
    EQ_INT(t.ticks, 1);
    t.stop_at = 3;
    loop_turn(l, 0);
    loop_wake(l); /* also when one is already under way */
    loop_wake(l);
    loop_run(l);
    EQ_INT(t.ticks, 3);
    loop_free(l);
}

TEST(a_stop_before_the_run_is_not_lost)
{
    struct loop *l = make();

    loop_stop(l);
    loop_run(l);
    loop_free(l);
}

TEST(another_thread_wakes_and_stops_a_waiting_loop)
{
    struct loop *l = make();
    pthread_t other;

    loop_on_tick(l, show_turn, NULL);
    EQ_INT(pthread_create(&other, NULL, wake_for_each_turn, l), 0);
    loop_run(l);
    pthread_join(other, NULL);
    OK(atomic_load(&seen_turns) >= 2000);
    loop_free(l);
}

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
    (void)sig;
    signals++;
}

TEST(a_signal_makes_a_turn)
{
    struct loop *l = make();
    struct ticker t = {.loop = l};
    struct sigaction sa = {.sa_handler = on_signal};

    loop_on_tick(l, count_tick, &t);
    sigaction(SIGUSR1, &sa, NULL);
    pwait2_errno = EINTR; /* as if it came while waiting */
    loop_turn(l, USEC_INFINITY);
    EQ_INT(t.ticks, 1);
    pwait2_errno = 0;
    raise(SIGUSR1);
    loop_turn(l, 0);
    EQ_INT(signals, 1);
    EQ_INT(t.ticks, 2);
    loop_free(l);
}

static void turn_in_tick(void *ctx, usec_t now)
{
    (void)now;
    loop_turn(ctx, 0);
}

static void nest(void)
{
    struct loop *l = make();

    loop_on_tick(l, turn_in_tick, l);
    loop_turn(l, 0);
}

TEST(a_turn_inside_a_turn_is_a_bug)
{
    PANICS(nest, "in_turn");
}
