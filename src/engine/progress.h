/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress: what a live batch does or waits for, told to whoever asks (engine_progress in
 * engine.h).
 *
 * It is derived from the loop's own state at that moment, on the loop: nothing is kept for
 * it, and nothing is published while nobody asks.
 */
#pragma once

#include "engine/work.h"

/* On the stack of the one who asks, until it is answered or dropped. */
struct inquiry {
    struct note note;
    struct id batch;
    struct engine_progress *ret;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool over, found;
};

/* On the loop. */
void progress_answer(struct engine *g, struct inquiry *q, usec_t now);
/* The loop has ended: as if there were no such batch. */
void progress_drop(struct inquiry *q);
