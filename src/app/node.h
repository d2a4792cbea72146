/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node: the rooms below over one data directory: its lock, the store, the blobs and the
 * engine, started and ended in the right order; what `serve` and `run` have in common.
 *
 * Owns:    all of them.
 * Threads: main; on_end and on_dead come from others.
 * Errors:  RC_CONFLICT: another process has the directory.  When a promise cannot be kept
 * (a failed sync) the node is dead: node_dead_fd becomes readable and the process must
 * end with EXIT_DISK; once node_close has begun, it ends by itself.
 */
#pragma once

#include "app/config.h"
#include "engine/engine.h"
#include "store/datadir.h"

#include <stdatomic.h>

struct node {
    /* set by the owner before node_open */
    const char *dir;
    const struct config *config;
    uint64_t reserve_bytes; /* DATADIR_RESERVE, or 0 */
    bool lift_limits;       /* of lines and bytes: for files of one's own */
    bool tell;              /* webhooks of batches that end, as the config has them */
    void (*on_end)(void *ctx, const struct batch *b); /* NULL: nobody asks */
    void (*on_dead)(void *ctx, const char *why);      /* any thread; NULL likewise */
    void *ctx;

    /* set by node_open and node_start */
    struct datadir *datadir;
    struct store *store;
    struct blobs *blobs;
    struct webhooks *webhooks;
    struct engine *engine;
    int exit_code; /* when one of the two failed: what the process should say */

    int _dead_fd; /* private from here */
    atomic_bool _dead, _closing;
};

/* Lock, format, store, blobs; sweeps what a crash left.  On failure node_close undoes. */
NODISCARD enum rc node_open(struct node *n, struct err *e);
/* The webhooks, which go on with what is left, and the engine, which recovers what is live. */
NODISCARD enum rc node_start(struct node *n, struct err *e);
int node_dead_fd(const struct node *n);
bool node_dead(const struct node *n);
/* No new calls; those in flight get the grace; what they bring is synced.  From here on a
 * broken promise ends the process at once. */
void node_drain(struct node *n, usec_t grace);
/* Closes in the opposite order; may run twice. */
void node_close(struct node *n);
