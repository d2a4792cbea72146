/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reuse: the finished lines of an earlier batch become results of one that continues from
 * it, before that one begins to run.
 *
 * A part of admit, on its worker.  What is taken over stands in the log, synced, when
 * reuse_run is through; after a crash in between it is done again, and items that the log
 * has already are left alone.
 */
#pragma once

#include "engine/work.h"

struct reuse {
    struct batch from;           /* the earlier batch */
    struct blob *input, *output; /* its files; NULL: it has no answer */
};

/* RC_OK with *ret_errors set: the batch must fail, the earlier one or a file of it is gone
 * (`errors` of a batch, mem_free'd by the caller). */
NODISCARD enum rc reuse_open(struct live *l, struct reuse *ret, char **ret_errors);
/* Fills l->log, l->done and l->synced, all of which are open. */
NODISCARD enum rc reuse_run(struct live *l, struct reuse *r);
void reuse_close(struct live *l, struct reuse *r); /* may run twice */
