/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reslog_tail: reads a running batch's results log beside its writer, in the order of the
 * log, up to a place that the writer has told (reslog_mark): what lies before it is on
 * disk and never changes.
 *
 * A record counts once: the first one of an item wins, as everywhere.  Every record is
 * verified before it is handed out; a damaged one is passed over, as the engine will do.
 * When the batch ends its segments are deleted: the one that is open can be read on, the
 * next ones are gone.
 *
 * Owns:    a bit an item, one descriptor, and, until reslog_tail_rest, 64 KiB.  Records of
 *          any length pass through these.
 * Threads: one at a time.
 */
#pragma once

#include "core/outcome.h"
#include "store/reslog.h"

struct reslog_tail;

/* As a mark: all that is left of the log of a batch that has ended. */
#define RESLOG_ALL ((struct reslog_mark){UINT32_MAX, 0})

struct reslog_tail_rec {
    uint32_t item;
    uint32_t length; /* of its line, with the line feed */
    enum result_kind kind;
};

struct reslog_tail *reslog_tail_new(const char *spool, const struct id *batch,
                                    uint32_t items);
struct reslog_tail *reslog_tail_free(struct reslog_tail *t); /* accepts NULL */

/*
 * The next record before `to`.  RC_NOTFOUND: there is none; ask again with a later mark.
 * RC_AGAIN: much was read and none found; ask again at leisure.  RC_CANCELLED: the log
 * has been deleted, nothing more will come.  RC_NOMEM, RC_IO as usual; RC_CORRUPT: a
 * segment of another batch.
 */
NODISCARD enum rc reslog_tail_next(struct reslog_tail *t, const struct reslog_mark *to,
                                   struct reslog_tail_rec *ret, struct err *e);
/* n more bytes of the line of the record that came last. */
NODISCARD enum rc reslog_tail_read(struct reslog_tail *t, char *dst, size_t n,
                                   struct err *e);
/* Has a record of this item come? */
bool reslog_tail_seen(const struct reslog_tail *t, uint32_t item);
/* Gives back the memory that only reading needs. */
void reslog_tail_rest(struct reslog_tail *t);
