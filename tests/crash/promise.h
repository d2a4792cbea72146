/* SPDX-License-Identifier: Apache-2.0 */
/*
 * promise: what clients were told up to some moment of a trace, read off the answers
 * themselves: whatever object an answer with 200 showed must be true after any crash from
 * then on.
 *
 * Threads: one.
 */
#pragma once

#include "base/id.h"
#include "core/batch.h"
#include "tests/crash/trace.h"

/* What a file's object said, and what clients asked of it since. */
struct promised_file {
    struct id id;
    uint64_t bytes;
    /* "": not known; the driver names its uploads SHA256.jsonl, and of other files it is
     * that of the content that a client read */
    char sha256[65];
    bool may_be_gone; /* a DELETE was heard */
    bool is_gone;     /* and answered */
};

struct promised_batch {
    struct id id, output, error; /* "": not told */
    enum batch_status status;    /* the furthest told */
    struct batch_counts counts;
    int64_t expires_at;
    bool changing;  /* an edit was heard, and nothing told of the batch since */
    bool has_asked; /* its progress was told: */
    int priority;
    bool paused;
    uint32_t reused;
};

struct promised_part {
    struct id id, upload;
    bool may_be_gone; /* its upload is being ended */
};

struct promised_upload {
    struct id id, file;
    char status[16];
};

/* A result line that a client read while the batch ran. */
struct promised_line {
    struct id batch;
    uint64_t hash;
    struct str text; /* with its line feed */
};

/* An Idempotency-Key and what it made. */
struct promised_name {
    struct id batch; /* "": not answered yet */
    char name[64];
};

enum promised_use { KEY_UNSURE, KEY_IN_FORCE, KEY_REVOKED };
struct promised_key {
    struct id id;
    enum promised_use use;
};

struct promises {
    struct promised_file *files;
    struct promised_batch *batches;
    struct promised_part *parts;
    struct promised_upload *uploads;
    struct promised_line *lines;
    struct promised_name *names;
    struct promised_key *keys;
    size_t n_files, n_batches, n_parts, n_uploads, n_lines, n_names, n_keys;
    unsigned webhooks; /* each end of a batch is to be told to so many */
    struct connection *connections;
    size_t n_connections;
    uint64_t answers; /* whole ones that were read, and lines */
};

void promises_init(struct promises *p);
void promises_done(struct promises *p);
/*
 * TOLD, HEARD and LEARNT count; others are passed over.  LEARNT is one of
 *   webhooks N          every end of a batch is told to N receivers
 *   key-unsure ID       a key is being made or revoked
 *   key-in-force ID     it was made
 *   key-revoked ID
 * true: something new was promised.
 */
bool promises_event(struct promises *p, const struct trace_event *e, const char *data);
