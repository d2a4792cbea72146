/* SPDX-License-Identifier: Apache-2.0 */
/*
 * join: the bytes of several blobs, one behind the other, as a new one; in constant
 * memory.
 *
 * Threads: any that may block; it takes as long as the disk does.
 */
#pragma once

#include "store/blob.h"

struct join_part {
    const char *id;
    uint64_t bytes; /* as its record says */
};

/* The whole is not published yet: commit or abort it.  md5 NULL: not asked for.
 * RC_NOTFOUND: a part's bytes are gone.  RC_CORRUPT: a part has other bytes than its
 * record says.  On failure nothing is left. */
NODISCARD enum rc join_parts(struct blobs *blobs, const struct join_part *parts, size_t n,
                             uint8_t md5[16], struct blob_put **ret, struct err *e);
