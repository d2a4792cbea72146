/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/log.h"
#include "base/wall.h"

#include <pthread.h>
#include <sys/timex.h>
#include <time.h>

static struct {
    pthread_mutex_t lock;
    bool guarded;
    struct wall wall;
} guard = {.lock = PTHREAD_MUTEX_INITIALIZER};

static usec_t read_clock(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (usec_t)t.tv_sec * USEC_PER_SEC + t.tv_nsec / 1000;
}

usec_t clock_mono(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

/* Has somebody (NTP) set the clock?  A kernel that does not tell knows of nobody. */
static bool synced(void)
{
    struct timex t = {.modes = 0};
    int state = adjtimex(&t);

    return state >= 0 && state != TIME_ERROR && !(t.status & STA_UNSYNC);
}

/* ask: the clock is in doubt, so its state matters. */
static struct wall_look look(bool ask)
{
    return (struct wall_look){.wall = read_clock(CLOCK_REALTIME),
                              .steady = read_clock(CLOCK_BOOTTIME),
                              .synced = ask && synced()};
}

static void tell(enum wall_doubt doubt, usec_t strange)
{
    static const char *const why[] = {
        [WALL_JUMPED] = "the wall clock jumped",
        [WALL_BEHIND] = "the wall clock is before the time of the last run",
        [WALL_AHEAD] =
            "the wall clock is long after the last run, and nobody has set it"};

    if (doubt == WALL_TRUSTED)
        log_warn("clock.trusted", "text=\"the wall clock is believed again\"");
    else
        log_warn("clock.doubted",
                 "ahead_s=%lld text=\"%s: expiry and deletion go on without it\" "
                 "remedy=\"set the clock; if it is right, send SIGHUP\"",
                 (long long)(strange / USEC_PER_SEC), why[doubt]);
}

/* Both times of now, and the doubt. */
static struct wall see(usec_t *ret_told, usec_t *ret_due)
{
    struct wall now;
    struct wall_look at;
    bool changed = false;

    pthread_mutex_lock(&guard.lock);
    at = look(guard.guarded && guard.wall.doubt != WALL_TRUSTED);
    if (guard.guarded) {
        changed = wall_see(&guard.wall, &at);
        *ret_told = wall_told(&guard.wall, at.steady);
        *ret_due = wall_due(&guard.wall, at.steady);
    } else {
        *ret_told = *ret_due = at.wall;
    }
    now = guard.wall;
    pthread_mutex_unlock(&guard.lock);
    if (changed)
        tell(now.doubt, wall_strange(&now));
    return now;
}

usec_t clock_wall(void)
{
    usec_t told, due;

    (void)see(&told, &due);
    return told;
}

int64_t clock_wall_sec(void)
{
    return clock_wall() / USEC_PER_SEC;
}

usec_t clock_due(void)
{
    usec_t told, due;

    (void)see(&told, &due);
    return due;
}

int64_t clock_due_sec(void)
{
    return clock_due() / USEC_PER_SEC;
}

void clock_guard(int64_t floor_sec, usec_t settle)
{
    struct wall_look at = look(true);
    struct wall now;

    pthread_mutex_lock(&guard.lock);
    wall_start(&guard.wall, &at, floor_sec * USEC_PER_SEC, settle);
    guard.guarded = true;
    now = guard.wall;
    pthread_mutex_unlock(&guard.lock);
    if (now.doubt != WALL_TRUSTED)
        tell(now.doubt, wall_strange(&now));
}

bool clock_accept(void)
{
    struct wall_look at = look(false);
    bool was;

    pthread_mutex_lock(&guard.lock);
    was = guard.guarded && guard.wall.doubt != WALL_TRUSTED;
    if (was)
        wall_accept(&guard.wall, &at);
    pthread_mutex_unlock(&guard.lock);
    if (was)
        tell(WALL_TRUSTED, 0);
    return was;
}

bool clock_doubtful(int64_t *ret_by_sec)
{
    usec_t told, due;
    struct wall now = see(&told, &due);

    if (ret_by_sec)
        *ret_by_sec = wall_strange(&now) / USEC_PER_SEC;
    return now.doubt != WALL_TRUSTED;
}
