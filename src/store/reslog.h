/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reslog: the append-only log of one running batch's results: CRC-framed records in
 * segments, group fdatasync.  The output file is a pure function of the input and this
 * log.
 *
 * spool/<batch>.NNNNNN.log.  Segment head: magic, version, batch id, segment number,
 * generation, items, CRC.  Record: length, crc32c, item, kind, attempt, flags, usage,
 * payload = the finished JSONL line.  The CRC covers all after itself plus the batch id
 * and the generation, so that a recycled block of an older log does not validate
 * (docs/formats.md).
 *
 * A segment is started only after the one before was synced without error, so a segment
 * that has a successor is known to be on disk.  Only the last one may hold bytes that the
 * disk never got (a failed sync leaves them in the page cache); after an unclean end it
 * is rewritten to a new generation before anything is appended.
 *
 * Threads: append and cut by the owner; commit by one worker at a time; the two may
 * overlap. Errors:  RC_NOSPACE, RC_NOMEM of a commit: nothing of the block counts, commit it again
 * later.  RC_IO: final, the process must stop.
 */
#pragma once

#include "base/err.h"
#include "base/id.h"
#include "base/str.h"
#include "core/batch.h"
#include "core/outcome.h"

struct reslog;
struct reslog_block; /* records cut off for one commit */

struct reslog_rec {
    uint32_t item;
    enum result_kind kind;
    uint8_t attempt;
    bool has_usage;
    struct usage usage;
    struct str payload; /* the result line with its line feed */
};

/* Where a record lies, for reading in another order. */
struct reslog_place {
    uint32_t segment;
    uint32_t length; /* of the payload; 0: no record */
    uint64_t offset; /* of the record */
};

/* How far others may read beside the writer (store/reslog_tail.h): all of the segments
 * before and `end` bytes of this one are on disk. */
struct reslog_mark {
    uint32_t segment; /* 0: nothing */
    uint64_t end;
};

/* A new log: the first segment's head is durable (file and directory) when RC_OK comes.
 */
NODISCARD enum rc reslog_create(const char *spool, const struct id *batch, uint32_t items,
                                struct reslog **ret, struct err *e);

/*
 * Opens what a crash left: seen() for every good record in log order (also for items seen
 * before: the first durable one wins, the caller decides); a torn tail is cut, a damaged
 * middle is passed over and counted in *ret_damaged.  Everything that was read is durable
 * when RC_OK comes; on anything else seen()'s words count for nothing.  RC_NOTFOUND: no
 * log.  RC_NOSPACE: try again when there is room.  RC_CORRUPT: of another batch or
 * version.
 */
typedef void reslog_seen_fn(void *ctx, const struct reslog_rec *r,
                            const struct reslog_place *at);
NODISCARD enum rc reslog_open(const char *spool, const struct id *batch, uint32_t items,
                              reslog_seen_fn *seen, void *ctx, struct reslog **ret,
                              uint64_t *ret_damaged, struct err *e);
struct reslog *reslog_close(struct reslog *l); /* accepts NULL, returns NULL; no sync */

/* Bytes after which a segment is followed by the next: 64 MiB unless told otherwise. */
void reslog_segment_bytes(struct reslog *l, uint64_t n);

/* Memory only.  RC_NOMEM, RC_LIMIT (a payload over 512 MiB): the record was not taken. */
NODISCARD enum rc reslog_append(struct reslog *l, const struct reslog_rec *r);
size_t reslog_pending(const struct reslog *l);     /* bytes appended and not cut */
struct reslog_block *reslog_cut(struct reslog *l); /* NULL: nothing pending */
uint32_t reslog_block_records(const struct reslog_block *b);
/* Writes and syncs the block; it is freed on RC_OK and kept by the caller otherwise. */
NODISCARD enum rc reslog_commit(struct reslog *l, struct reslog_block *b, struct err *e);
struct reslog_block *reslog_block_free(struct reslog_block *b); /* accepts NULL */
struct reslog_mark reslog_mark(const struct reslog *l);         /* beside no commit */

/* Reads all again, verified, for finishing: only committed records.  May run beside
 * nothing. */
NODISCARD enum rc reslog_scan(struct reslog *l, reslog_seen_fn *seen, void *ctx,
                              uint64_t *ret_damaged, struct err *e);
/* Reads one payload into dst (place.length bytes) and verifies it again.  RC_CORRUPT: it
 * was damaged since.  Quick when the places come in nearly log order.  Beside nothing. */
NODISCARD enum rc reslog_read(struct reslog *l, const struct reslog_place *at, char *dst,
                              struct err *e);
/* Deletes every segment of the batch. */
NODISCARD enum rc reslog_remove(const char *spool, const struct id *batch, struct err *e);
