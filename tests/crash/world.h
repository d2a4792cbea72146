/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world: what of a traced directory is on the disk for certain, and what may or may not be:
 * the model of a power cut.
 *
 * A file's bytes are certain as of its last sync; every write and truncation since may be
 * there or not, each on its own, the last one also in part, by sectors of 512 bytes.  A
 * name is certain as of the last sync of its directory; every change of a name since may be
 * there or not, but for a rename within one directory, which is whole or not at all.  A
 * rename from one directory to another is two changes.  A file that is longer than what
 * reached it is filled with zeros, with rubbish, or with what these blocks held for another
 * file before.  What a failed sync was to bring may be
 * there or not for ever: later syncs say nothing of it, and only writing it again helps.
 *
 * Threads: one.
 */
#pragma once

#include "base/base.h"
#include "tests/crash/trace.h"

struct world;

/* How much of what is uncertain a state holds. */
#define WORLD_PLAN_LIST(X)                                                               \
    X(NONE)   /* only what is certain */                                                 \
    X(ALL)    /* everything: what a killed process leaves */                             \
    X(PREFIX) /* what came before some moment, in order: an ordered journal */           \
    X(ANY)    /* each change on its own */

enum world_plan {
#define X(name) WORLD_##name,
    WORLD_PLAN_LIST(X)
#undef X
        WORLD_PLANS
};

struct world *world_new(void);
struct world *world_free(struct world *w);

/* The next event of the trace; path, to and data are borrowed until world_free. */
void world_event(struct world *w, const struct trace_event *e, const char *path,
                 const char *to, const char *data);

/* Takes a directory as it lies there for certain: a disk from which another life begins. */
void world_load(struct world *w, const char *dir);

/* Is anything uncertain?  Without it every plan gives one and the same disk. */
bool world_uncertain(const struct world *w);

/* Makes one disk that a power cut could leave now below dir (which is empty); seed decides.
 * Returns a hash of what it made. */
uint64_t world_make(const struct world *w, const char *dir, enum world_plan plan,
                    uint64_t seed);
