/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal: how results get to disk and when they may be seen.
 *
 * A result is appended in memory, cut off with its neighbours, written and synced by a
 * worker, and only then counted.  The interval stretches with the number of logs that have
 * something to sync, so that many batches do not mean many syncs.
 *
 * Threads: the engine's loop only.
 */
#pragma once

#include "engine/work.h"

void journal_append(struct live *l, const struct reslog_rec *r, usec_t now);
void journal_flush(struct engine *g, usec_t now); /* starts the commits that are due */
void journal_committed(struct live *l, usec_t now);
usec_t journal_next(const struct engine *g, usec_t now); /* when the next one is due */
bool journal_clean(const struct live *l); /* all that was appended is on disk */
