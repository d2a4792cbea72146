/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index: where each request of a validated input file lies: 24 bytes a line, made once by
 * the scan and used by dispatch, so that a line is never parsed twice to find its body;
 * in which order they are to go and which of them ask the same as another.
 *
 * spool/<batch>.idx: head {magic, version, batch id, numbers, CRC of all that follows},
 * records, order, followers.  It can be made again from the input at any time, so it is not synced: its CRC
 * tells whether it survived (docs/formats.md).
 *
 * Threads: one at a time.
 */
#pragma once

#include "base/err.h"
#include "base/id.h"

struct index_entry {
    uint64_t offset;   /* of the line's first byte in the input */
    uint32_t length;   /* of the line; < 2^26 */
    uint32_t number;   /* physical line, from 1 */
    uint32_t body_off; /* of the body within the line */
    uint32_t body_len;
};

/* A line in the order in which they are to go. */
struct index_place {
    uint32_t item;    /* ordinal of the request, from 0 */
    uint32_t prompt;  /* its tokens, estimated */
    uint32_t shared;  /* of them the beginning that the one before has, too */
    uint32_t max_out; /* tokens; 0: it names no limit */
    uint64_t key;     /* core/prefix.h */
};

/* A line that gets the answer of another one, its leader: an earlier line that is no
 * follower itself. */
struct index_follower {
    uint32_t item, leader;
};

struct index_writer;
struct index;

NODISCARD enum rc index_create(const char *spool, const struct id *batch,
                               struct index_writer **ret, struct err *e);
NODISCARD enum rc index_add(struct index_writer *w, const struct index_entry *entry,
                            struct err *e);
/* After the last index_add: the place of every line, in order, or of none... */
NODISCARD enum rc index_order(struct index_writer *w, const struct index_place *place,
                              struct err *e);
/* ... and then the followers, by leader and then by item. */
NODISCARD enum rc index_follow(struct index_writer *w,
                               const struct index_follower *follower, struct err *e);
/* RC_OK: complete on disk under its name (not synced); w is gone whatever is returned. */
NODISCARD enum rc index_finish(struct index_writer *w, struct err *e);
struct index_writer *index_abort(struct index_writer *w); /* accepts NULL */

/* Loads the whole of it; RC_NOTFOUND / RC_CORRUPT: make it again. */
NODISCARD enum rc index_load(const char *spool, const struct id *batch,
                             struct index **ret, struct err *e);
struct index *index_free(struct index *x); /* accepts NULL, returns NULL */
uint32_t index_count(const struct index *x);
struct index_entry index_get(const struct index *x, uint32_t item); /* item < count */
/* Is the order there?  Not when it was not added, nor after index_trim. */
bool index_ordered(const struct index *x);
struct index_place index_place(const struct index *x, uint32_t k); /* k < count */
uint32_t index_followers(const struct index *x);
struct index_follower index_follower(const struct index *x, uint32_t k);
/* Gives back the memory of order and followers: 24 bytes a line and 8 a follower. */
void index_trim(struct index *x);
NODISCARD enum rc index_remove(const char *spool, const struct id *batch, struct err *e);
