/* SPDX-License-Identifier: Apache-2.0 */
/*
 * board: what other threads may see of live batches: counts of results that are on disk,
 * and how far the results log can be read; and how many lines each project has waiting or
 * running.
 *
 * Owns:    its entries.  A batch is on the board from before its row says in_progress
 * until after its row is terminal, so that whoever reads board first and row second never
 *          sees counts run backwards.
 * Threads: any; one mutex.
 */
#pragma once

#include "core/batch.h"
#include "store/reslog.h"

struct board;

struct board_entry {
    struct batch_counts counts;
    struct usage usage;
    bool has_usage;
    uint32_t inflight, waiting;
    struct reslog_mark log;
};

struct board *board_new(void);
struct board *board_free(struct board *b); /* accepts NULL, returns NULL */

/*
 * A batch of so many lines is about to come: they count for its project from now on, and
 * nobody sees it until board_set.  RC_LIMIT: with them the project would have more than
 * max_lines that wait or run (0: no limit), *ret_used is what its other batches have.
 * RC_AGAIN: perhaps it would, but some of those are only reserved.  Nothing is kept in
 * either case.  Two that enter at a time cannot both have the last room.
 */
NODISCARD enum rc board_enter(struct board *b, const struct id *project,
                              const struct id *batch, uint32_t lines, uint32_t max_lines,
                              uint64_t *ret_used);
/* A batch of before that is not recovered yet: all its lines count until board_set tells
 * how many have their result. */
void board_reserve(struct board *b, const struct id *project, const struct id *batch,
                   uint32_t lines);

/* One that was neither entered nor reserved counts for no project. */
void board_set(struct board *b, const struct id *batch, const struct board_entry *e);
bool board_get(struct board *b, const char *batch, struct board_entry *ret);
void board_remove(struct board *b, const struct id *batch); /* not there: fine */

/*
 * A number that changes when something of the batch but its counts may have changed: it
 * came to the board or went, or board_changed was called after its row was.  Read it
 * before the row.  Some batches share one, so a change may mean nothing.
 */
uint64_t board_changes(struct board *b, const char *batch);
void board_changed(struct board *b, const struct id *batch);
