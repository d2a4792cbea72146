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

struct join {
    struct blobs *blobs;
    const struct join_part *parts;
    size_t n;
    uint8_t *md5;            /* 16 bytes for the MD5 sum of the whole; NULL: no matter */
    bool (*stop)(void *ctx); /* asked now and then; true: give up */
    void *ctx;
};

/* *ret is not published yet: commit or abort it.  RC_NOTFOUND: a part's bytes are gone.
 * RC_CORRUPT: a part has other bytes than its record says.  RC_CANCELLED: stop said so.
 * On failure nothing is left. */
NODISCARD enum rc join_parts(const struct join *j, struct blob_put **ret, struct err *e);
