/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upload: the form of POST /v1/files on its way into a blob, in constant memory.
 *
 * Owns:    the unpublished blob, the parser, the small fields.  upload_free drops what
 *          was not committed, so that a client that goes away leaves nothing.
 * Threads: one at a time: fed on a connection thread, ended and committed on a worker.
 * Errors:  the first fault is kept and told by upload_end; nothing after it is stored.
 */
#pragma once

#include "api/apierr.h"
#include "store/blob.h"

struct upload;

/* Of a file over the limit, %llu, however it was found out. */
#define UPLOAD_TOO_LARGE                                                                 \
    "The file is larger than %llu bytes, the most that this server takes."

/* What upload_end found; borrows from the upload. */
struct upload_form {
    const char *purpose;
    const char *filename;  /* UTF-8, no control characters */
    uint64_t bytes;        /* > 0 */
    int64_t expires_after; /* seconds; 0: the form names none */
};

/* content_type is the request's header, .p NULL: none. */
struct upload *upload_new(struct blobs *blobs, uint64_t max_bytes,
                          struct str content_type);
struct upload *upload_free(struct upload *u); /* accepts NULL, returns NULL */

/* RC_INVALID: a fault; the rest may be passed over. */
NODISCARD enum rc upload_feed(struct upload *u, struct str piece);
/* The body is over.  RC_INVALID: *e tells what was wrong.  Other codes: the disk failed,
 * *why tells. */
NODISCARD enum rc upload_end(struct upload *u, struct upload_form *ret, struct apierr *e,
                             struct err *why);
/* After upload_end: makes the bytes durable under id. */
NODISCARD enum rc upload_commit(struct upload *u, const struct id *id,
                                struct blob_sum *ret, struct err *why);
