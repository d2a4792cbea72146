/* SPDX-License-Identifier: Apache-2.0 */
/*
 * follow: lines that get the answer of another line of their batch, because they ask the
 * same (engine/dedup.h).
 *
 * The scheduler never hears of followers.  When the result of their leader is appended to
 * the log theirs follow, each with its own id and custom_id, some at a time so that the
 * loop is not held up.  A leader that the server refused was refused for all; of one that
 * has no usable answer the followers are sent like other lines, when all else of the batch
 * has been.
 *
 * Nothing of it is kept: who follows whom is in the index, who has a result in the log.
 * What a crash cut off between a leader's result and theirs is made up for by recovery,
 * without a call.
 *
 * Owns:    live.follow.  Memory: 8 bytes and 2 bits a follower; the result of each leader
 *          whose followers are being served.
 * Threads: follow_load, follow_recover: the job that has the live batch; the others: the
 *          engine's loop.
 */
#pragma once

#include "engine/work.h"

/* Takes who follows whom from l->index. */
void follow_load(struct live *l);
/* Followers of lines that have their answer in l->log get it: fills l->log, l->done and
 * l->synced, as reuse_run does. */
NODISCARD enum rc follow_recover(struct live *l);

/* Before the batch gets to the scheduler: marks those in l->done that wait for others. */
void follow_start(struct live *l);
/* The result of that item was appended. */
void follow_answered(struct live *l, uint32_t item, enum result_kind kind,
                     struct str result);
/* Are results being made?  Their batch cannot end yet. */
bool follow_busy(const struct live *l);
/* Those that wait for another line, or for their turn. */
uint32_t follow_waiting(const struct live *l);
/* When nothing else of the batch is to be sent: true: some followers are, l->done says
 * which (all others are done). */
bool follow_release(struct live *l);
void follow_free(struct live *l); /* may run twice */
