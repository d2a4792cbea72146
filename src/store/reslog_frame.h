/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reslog_frame: the bytes of a results log: segment heads and records (docs/formats.md).
 *
 * Pure: bytes in, bytes out; no file is touched here.  Nothing read is trusted: a record
 * counts only after frame_good().
 * Threads: any.
 */
#pragma once

#include "base/limits.h"
#include "store/reslog.h"

#define FRAME_HEAD_BYTES 96u /* of a segment; in every version */

/* Fixed part of a record; its usage follows as five 32-bit or, for sums that no model
 * can reach, five 64-bit numbers. */
#define FRAME_FIXED     24u
#define FRAME_MAX_HEAD  (FRAME_FIXED + 40u)
#define FRAME_MAGIC_LEN 4u
/* 0xff and 0xfe occur nowhere in UTF-8, so no payload can hold the mark: the search for
 * the next record behind a damaged one is not fooled by what a model said. */
#define FRAME_MAGIC "\xff\xbd\xfeR"

/* An answer of LIMIT_ANSWER_BYTES whose every byte is escaped as \u00XX is 6 times as
 * long; the round number above that. */
#define FRAME_MAX_PAYLOAD LIMIT_RESULT

enum {
    FRAME_USAGE = 1,
    FRAME_USAGE_WIDE = 2,
    FRAME_SYNCED_BEFORE = 4, /* all that lies before this record was synced before it was
                                written */
    FRAME_FLAGS = 7
};

struct frame_head {
    struct id batch;
    uint32_t segment, generation, items;
};

void frame_head_put(uint8_t dst[FRAME_HEAD_BYTES], const struct frame_head *h);
/* RC_CORRUPT: not a head, or damaged; RC_LIMIT: a good head of version *ret_version,
 * which is not ours. */
NODISCARD enum rc frame_head_get(const uint8_t src[FRAME_HEAD_BYTES],
                                 struct frame_head *ret, uint32_t *ret_version);

struct frame {
    uint32_t generation, item, payload_n, head_n;
    uint16_t flags;
    uint8_t kind, attempt;
};

uint32_t frame_seed(const struct id *batch); /* what a record's CRC starts from */
size_t frame_size(const struct reslog_rec *r);
void frame_put(uint8_t *dst, uint32_t seed, uint32_t generation, bool synced_before,
               const struct reslog_rec *r);
/* Does p (FRAME_FIXED bytes) look like the start of a record?  Cheap; proves nothing. */
bool frame_parse(const uint8_t *p, struct frame *ret);
bool frame_good(const uint8_t *p, const struct frame *f, uint32_t seed);
void frame_rec(const uint8_t *p, const struct frame *f, struct reslog_rec *ret);
/* Makes a good record one of another generation, all before it being synced. */
void frame_restamp(uint8_t *p, const struct frame *f, uint32_t seed, uint32_t generation);
