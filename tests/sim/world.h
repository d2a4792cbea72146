/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world: the machine under the simulated process: one queue of events in virtual time, its
 * clocks, its threads as coroutines, its memory.  Everything is drawn from one seed, so a
 * seed is a run.
 *
 * The process under test lives in lives: a crash drops all that belongs to the life (its
 * events, its threads, its memory) between two events and leaves the world as it is.
 *
 * Threads: one.  State is global: a program runs one world at a time.
 */
#pragma once

#include "base/base.h"
#include "base/clock.h"

struct world {
    uint64_t seed;
    uint64_t rng[4];
    usec_t now;         /* monotonic */
    usec_t wall_offset; /* wall clock - monotonic clock */
    uint32_t life;      /* number of the process that runs */
    uint64_t events;    /* so far */
    uint64_t trace;     /* a hash over what happened; equal for equal runs */
    bool calm;          /* no faults any more */
    bool tell;          /* print what happens */
    usec_t slow_until;  /* the disk is slow */
    usec_t true_offset; /* what the wall clock's should be */
    usec_t jumped_at;   /* when it was set wrong first; 0: never */
    usec_t full_until;  /* the disk is full */
    uint64_t faults;    /* that were made, crashes apart */
};

extern struct world world;

/* Begins a world; all memory and events of the one before are gone. */
void world_begin(uint64_t seed, bool tell);

/* --- Chance -------------------------------------------------------------------------- */

uint64_t chance_u64(void);
uint32_t chance_below(uint32_t n); /* 0 .. n-1; n >= 1 */
bool chance(unsigned one, unsigned in);
usec_t chance_time(usec_t from,
                   usec_t to); /* by magnitude: short ones as often as long ones */
bool fault(unsigned one, unsigned in); /* as chance; never when calm; counts */

/* --- Events -------------------------------------------------------------------------- */

typedef void event_fn(void *ctx, uint64_t arg);

/* After a time, events of one moment in an order that is drawn. */
void world_post(usec_t after, event_fn *fn, void *ctx, uint64_t arg);
void life_post(usec_t after, event_fn *fn, void *ctx,
               uint64_t arg);  /* gone with the life */
bool world_step(usec_t until); /* one event; false: none is due by then */
void world_sleep(usec_t t);    /* the whole machine stands still */
bool life_end(void);           /* the process is gone; false: none ran */

/* What happened, for --trace and for the hash of the run. */
PRINTF_FMT(1, 2) void told(const char *fmt, ...);
#define TOLD(...)                                                                        \
    do {                                                                                 \
        if (world.tell)                                                                  \
            told(__VA_ARGS__);                                                           \
    } while (0)
void trace_mix(uint64_t v);

/* --- Threads ------------------------------------------------------------------------- */

typedef void coro_fn(void *ctx);

void coro_spawn(coro_fn *fn, void *ctx); /* of this life */
bool coro_inside(void);
void coro_hold(bool on);        /* nobody else may run: as if not inside */
void coro_yield(usec_t after);  /* others may run; nothing is posted when not inside */
void coro_wait(const void *on); /* until coro_wake() of it */
void coro_wake(const void *on);
size_t coro_count(void); /* that have not ended */

/* --- Memory (replaces base/mem.c) ---------------------------------------------------- */

enum arena { ARENA_WORLD, ARENA_LIFE };

/* Where mem_*() takes from now on; returns where it took from. */
enum arena arena_use(enum arena a);
size_t arena_blocks(enum arena a); /* that are not freed */
void arena_drop(enum arena a);
