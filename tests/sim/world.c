/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/world.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "base/log.h"
#include "base/wall.h"

#define START (1000 * USEC_PER_SEC) /* of the monotonic clock */
#define EPOCH (1760000000 * USEC_PER_SEC)

struct world world;

struct event {
    usec_t at;
    uint32_t order; /* among those of one moment */
    uint32_t life;  /* 0: of the world */
    event_fn *fn;
    void *ctx;
    uint64_t arg;
};

static struct event *heap;
static size_t n_heap, cap_heap;

/* --- Chance -------------------------------------------------------------------------- */

static uint64_t mix(uint64_t *x) /* SplitMix64 */
{
    uint64_t z = *x += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotl(uint64_t v, int k)
{
    return v << k | v >> (64 - k);
}

/* xoshiro256** (Blackman and Vigna 2018). */
uint64_t chance_u64(void)
{
    uint64_t *s = world.rng, r = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return r;
}

uint32_t chance_below(uint32_t n)
{
    return (uint32_t)((chance_u64() >> 32) * n >> 32);
}

bool chance(unsigned one, unsigned in)
{
    return one && chance_below(in) < one;
}

bool fault(unsigned one, unsigned in)
{
    if (world.calm || !chance(one, in))
        return false;
    world.faults++;
    return true;
}

usec_t chance_time(usec_t from, usec_t to)
{
    usec_t top = from > 0 ? from : 1;
    unsigned doublings = 0;

    while (top * 2 <= to && doublings < 62) {
        top *= 2;
        doublings++;
    }
    top = (from > 0 ? from : 1) << chance_below(doublings + 1);
    top = from + (usec_t)(chance_u64() % (uint64_t)(top + 1));
    return top < to ? top : to;
}

/* --- Events -------------------------------------------------------------------------- */

static bool before(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void post(usec_t after, uint32_t life, event_fn *fn, void *ctx, uint64_t arg)
{
    struct event e = {
        world.now + (after > 0 ? after : 0), (uint32_t)chance_u64(), life, fn, ctx, arg};
    size_t i = n_heap;

    if (n_heap == cap_heap) {
        struct event *more;

        cap_heap = cap_heap ? cap_heap * 2 : 256;
        more = realloc(heap, cap_heap * sizeof *heap);
        CHECK(more);
        heap = more;
    }
    n_heap++;
    for (; i && before(&e, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = e;
}

void world_post(usec_t after, event_fn *fn, void *ctx, uint64_t arg)
{
    post(after, 0, fn, ctx, arg);
}

void life_post(usec_t after, event_fn *fn, void *ctx, uint64_t arg)
{
    post(after, world.life, fn, ctx, arg);
}

static struct event pop(void)
{
    struct event top = heap[0], last = heap[--n_heap];
    size_t i = 0;

    for (;;) {
        size_t kid = 2 * i + 1;

        if (kid >= n_heap)
            break;
        if (kid + 1 < n_heap && before(&heap[kid + 1], &heap[kid]))
            kid++;
        if (!before(&heap[kid], &last))
            break;
        heap[i] = heap[kid];
        i = kid;
    }
    heap[i] = last;
    return top;
}

bool world_step(usec_t until)
{
    while (n_heap && heap[0].at <= until) {
        struct event e = pop();

        if (e.life && e.life != world.life)
            continue;
        if (e.at > world.now)
            world.now = e.at;
        world.events++;
        arena_use(e.life ? ARENA_LIFE : ARENA_WORLD);
        e.fn(e.ctx, e.arg);
        arena_use(ARENA_WORLD);
        trace_mix((uint64_t)world.now);
        return true;
    }
    return false;
}

void world_sleep(usec_t t)
{
    world.now += t;
}

void trace_mix(uint64_t v)
{
    world.trace = (world.trace ^ v) * 0x100000001b3u;
}

void told(const char *fmt, ...)
{
    va_list ap;

    printf("%12.6f %6llu ", (double)(world.now - START) / 1e6,
           (unsigned long long)world.events);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

void world_begin(uint64_t seed, bool tell)
{
    uint64_t x = seed;

    life_end();
    arena_drop(ARENA_WORLD);
    n_heap = 0;
    world = (struct world){.seed = seed, .now = START, .tell = tell};
    world.wall_offset = world.true_offset = EPOCH - START;
    for (unsigned i = 0; i < 4; i++)
        world.rng[i] = mix(&x);
    clock_guard(0, WALL_SETTLE);
}

/* --- What the program asks the machine for ------------------------------------------- */

usec_t clock_mono(void)
{
    return world.now;
}

/* As base/clock.c does it, but that nobody has set the clock. */
static struct wall guard;

static struct wall_look look(void)
{
    return (struct wall_look){.wall = world.now + world.wall_offset, .steady = world.now};
}

void clock_guard(int64_t floor_sec, usec_t settle)
{
    struct wall_look at = look();

    wall_start(&guard, &at, floor_sec * USEC_PER_SEC, settle);
}

usec_t clock_wall(void)
{
    struct wall_look at = look();

    IGNORE(wall_see(&guard, &at)); /* whether it is news is for the log */
    return wall_told(&guard, at.steady);
}

int64_t clock_wall_sec(void)
{
    return clock_wall() / USEC_PER_SEC;
}

usec_t clock_due(void)
{
    struct wall_look at = look();

    IGNORE(wall_see(&guard, &at)); /* as above */
    return wall_due(&guard, at.steady);
}

int64_t clock_due_sec(void)
{
    return clock_due() / USEC_PER_SEC;
}

ssize_t __wrap_getrandom(void *p, size_t n, unsigned flags);
ssize_t __wrap_getrandom(void *p, size_t n, unsigned flags)
{
    (void)flags;
    for (size_t at = 0; at < n; at += 8) {
        uint64_t v = chance_u64();

        memcpy((char *)p + at, &v, n - at < 8 ? n - at : 8);
    }
    return (ssize_t)n;
}

PRINTF_FMT(3, 4)
void __wrap_log_ev(enum log_level lvl, const char *ev, const char *fmt, ...);
void __wrap_log_ev(enum log_level lvl, const char *ev, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    (void)lvl;
    if (!world.tell)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    told("  log %s %s", ev, text);
}
