/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop: epoll, timers and a hook after each turn; one per thread.
 *
 * Owns:    its epoll descriptor and the list of watches and timers; fds stay the
 * caller's. Threads: all calls from the loop's thread, except loop_wake() and
 * loop_stop(). Time:    read once per turn (loop_now).
 */
#pragma once

#include "base/base.h"
#include "base/clock.h"
#include "base/err.h"

struct loop;
struct loop_watch; /* one fd; freed by loop_unwatch */

enum { LOOP_IN = 1, LOOP_OUT = 2, LOOP_ERR = 4 /* reported, never asked for */ };

typedef void loop_fd_fn(void *ctx, int fd, unsigned events);
typedef void loop_timer_fn(void *ctx, usec_t now);
typedef void loop_tick_fn(void *ctx, usec_t now);

/* Embedded in its owner; zero-initialised means not armed. */
struct loop_timer {
    loop_timer_fn *_fn;
    void *_ctx;
    usec_t _at;
    size_t _slot; /* 1-based place in the heap; 0: not armed */
};

NODISCARD enum rc loop_new(struct loop **ret, struct err *e);
struct loop *
loop_free(struct loop *l); /* accepts NULL; all watches must be gone or idle */

NODISCARD enum rc loop_watch(struct loop *l, int fd, unsigned events, loop_fd_fn *fn,
                             void *ctx, struct loop_watch **ret, struct err *e);
NODISCARD enum rc loop_rewatch(struct loop *l, struct loop_watch *w, unsigned events);
/* Safe inside a callback, also the watch's own: it is freed after the turn. */
void loop_unwatch(struct loop *l, struct loop_watch *w);

void loop_timer_set(struct loop *l, struct loop_timer *t, usec_t at, loop_timer_fn *fn,
                    void *ctx); /* re-arming moves it; fires once */
void loop_timer_clear(struct loop *l, struct loop_timer *t);

/* Called after the events of every turn: where policy lives (one tick = one screen). */
void loop_on_tick(struct loop *l, loop_tick_fn *fn, void *ctx);

usec_t loop_now(const struct loop *l);           /* monotonic; of this turn */
void loop_run(struct loop *l);                   /* until loop_stop() */
void loop_turn(struct loop *l, usec_t max_wait); /* one turn; for tests and embedders */
void loop_wake(struct loop *l);                  /* any thread: a turn happens soon */
void loop_stop(struct loop *l);                  /* any thread */
