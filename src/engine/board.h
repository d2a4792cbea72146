/* SPDX-License-Identifier: Apache-2.0 */
/*
 * board: what other threads may see of live batches: counts of results that are on disk.
 *
 * Owns:    its entries.  A batch is on the board from before its row says in_progress
 * until after its row is terminal, so that whoever reads board first and row second never
 *          sees counts run backwards.
 * Threads: any; one mutex.
 */
#pragma once

#include "core/batch.h"

struct board;

struct board_entry {
    struct batch_counts counts;
    struct usage usage;
    bool has_usage;
    uint32_t inflight, waiting;
};

struct board *board_new(void);
struct board *board_free(struct board *b); /* accepts NULL, returns NULL */
void board_set(struct board *b, const struct id *batch, const struct board_entry *e);
bool board_get(struct board *b, const char *batch, struct board_entry *ret);
void board_remove(struct board *b, const struct id *batch); /* not there: fine */
