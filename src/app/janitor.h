/* SPDX-License-Identifier: Apache-2.0 */
/*
 * janitor: the housekeeping of a data directory: deletes the bytes of deleted and expired
 * files and of parts whose upload has ended or expired, warns when the disk gets full, and gives up the directory's reserve when
 * deleting needs it.
 *
 * Owns:    one thread, which may block.
 * Threads: any.  Errors: logged; tried again a minute later.
 */
#pragma once

#include "store/blob.h"
#include "store/datadir.h"
#include "store/store.h"

#include "base/clock.h"

struct janitor;

struct janitor_opts {
    struct store *store;
    struct blobs *blobs;
    struct datadir *datadir; /* its disk is watched; nobody else calls it meanwhile */
    uint64_t disk_warn;      /* bytes; 0: never */
    usec_t every;            /* 0: 60 s */
};

NODISCARD enum rc janitor_new(const struct janitor_opts *o, struct janitor **ret,
                              struct err *e);
struct janitor *janitor_free(struct janitor *j); /* accepts NULL, returns NULL */
void janitor_set_disk_warn(struct janitor *j, uint64_t bytes);

/*
 * Deletes blobs that no row names: what a crash between the bytes and their row left.
 * Only before the engine and the server start: they make bytes before rows, too.
 */
NODISCARD enum rc janitor_sweep(struct store *store, struct blobs *blobs,
                                size_t *ret_removed, struct err *e);

/* One round over files that were deleted or have expired, and over the parts of uploads
 * that were completed, cancelled or have expired; forgets webhooks that were settled
 * OUTBOX_KEPT_DAYS ago. */
NODISCARD enum rc janitor_reap(struct store *store, struct blobs *blobs, int64_t now,
                               size_t *ret_removed, struct err *e);
