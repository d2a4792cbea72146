/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dedup: which requests of one batch ask the same of a model that would answer them alike,
 * so that one call does for all: the first of them leads, the others follow.
 *
 * Two ask the same when their bodies are the same bytes but for the values of members that
 * change nothing of an answer (core/line.h).  Never wider than a batch: what is shared
 * between batches could tell one client what another asked.
 *
 * Threads: one at a time.
 * Memory:  24 bytes a line that may follow or lead, and 8 while they are written.
 */
#pragma once

#include "core/line.h"
#include "store/index.h"

/* X(NAME, text) */
#define DEDUP_LIST(X)                                                                    \
    X(OFF, "off")                                                                        \
    X(EMBEDDINGS,                                                                        \
      "embeddings") /* embeddings and moderations: functions of their input */           \
    X(DETERMINISTIC,                                                                     \
      "deterministic") /* also what says temperature 0, has no tools, wants one answer */

enum dedup_mode {
#define X(name, text) DEDUP_##name,
    DEDUP_LIST(X)
#undef X
        DEDUP_COUNT
};

struct dedups;

/* NULL: no line of such a batch may follow another. */
struct dedups *dedups_new(enum dedup_mode mode, enum endpoint ep);
struct dedups *dedups_free(struct dedups *d); /* accepts NULL, returns NULL */
/* Lines in the order of their items.  RC_NOMEM. */
NODISCARD enum rc dedups_add(struct dedups *d, const struct line *line, uint32_t item);
/* index_follow for each that follows another; RC_NOMEM, or what that says. */
NODISCARD enum rc dedups_write(const struct dedups *d, struct index_writer *w,
                               struct err *e);
