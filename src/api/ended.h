/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ended: the result lines of a batch at its end, out of its output and error file.
 *
 * Both files are in the order of the items and together have one line for each.  So the
 * line of the next item is the first one left of one of the two, and its id (id_request)
 * tells of which: nothing needs to be looked up or kept.
 *
 * Owns:    the two files, open: deleting them meanwhile changes nothing; and, until
 *          ended_rest, 32 KiB each.
 * Threads: one at a time.
 */
#pragma once

#include "base/buf.h"
#include "core/batch.h"
#include "store/blob.h"
#include "store/store.h"

struct ended;

/* Is the line of this item to be sent?  Asked once for each, in order. */
typedef bool ended_wanted_fn(void *ctx, uint32_t item);

/* b is terminal.  RC_NOTFOUND: a file it names was deleted; *e says which. */
NODISCARD enum rc ended_open(struct store *store, struct blobs *blobs,
                             const struct batch *b, struct ended **ret, struct err *e);
struct ended *ended_free(struct ended *x); /* accepts NULL, returns NULL */

/* No line of the output file is wanted: it need not be read.  Before the first fill. */
void ended_only_errors(struct ended *x);

/* Appends to out, which has room for `room` bytes more.  wanted NULL: the output file and
 * then the error file, whole; else the wanted lines in the order of the items.  RC_OK:
 * there may be more; RC_NOTFOUND: this was all; RC_CORRUPT: the files do not belong
 * together. */
NODISCARD enum rc ended_fill(struct ended *x, ended_wanted_fn *wanted, void *ctx,
                             struct buf *out, size_t room, struct err *e);
void ended_rest(struct ended *x);
