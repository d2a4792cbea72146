/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upload_body: the bodies of POST /v1/uploads and of /v1/uploads/{id}/complete, judged:
 * from bytes to a struct or to the refusal that the real API would give.
 *
 * Pure.  Unknown members are passed over (SDKs send extra_body along).
 */
#pragma once

#include "api/file_rules.h"
#include "base/id.h"

struct upload_rules {
    uint64_t max_bytes;       /* of an upload */
    uint64_t max_batch_bytes; /* of one with purpose batch, if that is less */
};

struct upload_body {
    char purpose[FILE_PURPOSE_CAP];
    char *filename;             /* owned */
    uint64_t bytes;             /* > 0 */
    int64_t file_expires_after; /* seconds; 0: not asked for */
};

/* mime_type must be there and is not kept: what a file is served as follows from its
 * purpose.  On RC_OK *ret is upload_body_done'd by the caller. */
NODISCARD enum rc upload_body_read(struct str text, const struct upload_rules *rules,
                                   struct upload_body *ret, struct apierr *e);
void upload_body_done(struct upload_body *b); /* may run twice */

struct complete_body {
    struct id *parts; /* owned; in the order of the file; well formed, else unknown */
    size_t n_parts;   /* > 0 */
    bool has_md5;
    uint8_t md5[16]; /* of the whole file */
};

/* As above.  More than max_parts names are refused. */
NODISCARD enum rc complete_body_read(struct str text, size_t max_parts,
                                     struct complete_body *ret, struct apierr *e);
void complete_body_done(struct complete_body *b);
