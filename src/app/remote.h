/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remote: a batchd server (or any that speaks the Files and Batches API) as the commands
 * submit, list, show, watch, cancel and results use it.
 *
 * Owns:    one connection.  Threads: one.
 * Errors:  RC_UPSTREAM it cannot be reached, answers garbage or 5xx (RC_AGAIN: 503);
 * RC_NOTFOUND, RC_CONFLICT, RC_DENIED, RC_INVALID, RC_LIMIT as it says so: the sentence
 * is the server's own.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/id.h"
#include "core/batch.h"

struct remote;
struct input;

/* url: "http://127.0.0.1:8080", also with "/v1" behind it; NULL: $BATCHD_SERVER, or
 * 127.0.0.1:8080.  key_file: NULL: $BATCHD_KEY_FILE, or none. */
NODISCARD enum rc remote_new(const char *url, const char *key_file, struct remote **ret,
                             struct err *e);
struct remote *remote_free(struct remote *r); /* accepts NULL, returns NULL */

/* One call with a JSON answer.  body: NULL for none. */
NODISCARD enum rc remote_call(struct remote *r, const char *method, const char *path,
                              const struct buf *body, struct buf *answer, struct err *e);

/* Uploads with purpose batch, streaming. */
NODISCARD enum rc remote_upload(struct remote *r, struct input *in, const char *filename,
                                struct id *ret, struct err *e);
/* A file's content to an open descriptor, streaming; path is for the sentences. */
NODISCARD enum rc remote_download(struct remote *r, const struct id *file, int fd,
                                  const char *path, struct err *e);

/* What the commands read of a batch. */
struct remote_batch {
    struct id id, output_file, error_file; /* "" is null */
    enum batch_status status;
    char endpoint[64];
    struct batch_counts counts;
    int64_t created_at, ended_at; /* 0: null */
    struct str errors;            /* raw JSON, borrowed; .n == 0 when null */
};

NODISCARD enum rc remote_batch_read(struct str json, struct remote_batch *ret,
                                    struct err *e);
/* GET /v1/batches/ID; answer holds what ret borrows. */
NODISCARD enum rc remote_batch_get(struct remote *r, const struct id *id,
                                   struct buf *answer, struct remote_batch *ret,
                                   struct err *e);

int remote_exit(enum rc rc); /* the exit code that says it */
