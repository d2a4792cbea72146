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
    char sha256[65];  /* "": not known; the driver names its uploads SHA256.jsonl */
    bool may_be_gone; /* a DELETE was heard */
    bool is_gone;     /* and answered */
};

struct promised_batch {
    struct id id, output, error; /* "": not told */
    enum batch_status status;    /* the furthest told */
    struct batch_counts counts;
};

struct promised_part {
    struct id id, upload;
    bool may_be_gone; /* its upload is being ended */
};

struct promised_upload {
    struct id id, file;
    char status[16];
};

struct promises {
    struct promised_file *files;
    struct promised_batch *batches;
    struct promised_part *parts;
    struct promised_upload *uploads;
    size_t n_files, n_batches, n_parts, n_uploads;
    struct connection *connections;
    size_t n_connections;
    uint64_t answers; /* whole ones that were read */
};

void promises_init(struct promises *p);
void promises_done(struct promises *p);
/* TOLD and HEARD count; others are passed over.  true: something new was promised. */
bool promises_event(struct promises *p, const struct trace_event *e, const char *data);
