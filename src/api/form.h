/* SPDX-License-Identifier: Apache-2.0 */
/*
 * form: a multipart form on its way into a blob, in constant memory.  A table says which
 * fields there are: one whose bytes go into the blob, and small ones.
 *
 * Owns:    the unpublished blob, the parser, one small value.  form_free drops what was
 *          not committed, so that a client that goes away leaves nothing.
 * Threads: one at a time: fed on a connection thread, ended and committed on a worker.
 * Errors:  the first fault is kept and told by form_end; nothing after it is stored.
 */
#pragma once

#include "api/apierr.h"
#include "store/blob.h"

struct form;

/* Judges and keeps a small field's value, trimmed.  RC_INVALID: *e tells. */
typedef enum rc form_take_fn(void *into, struct str value, struct apierr *e);

struct form_field {
    const char *name;
    form_take_fn *take; /* NULL: its bytes go into the blob; exactly one is such */
    bool required;
};

enum { FORM_FIELDS = 8 };

struct form_spec {
    const char *what; /* "A file upload": begins a sentence */
    const struct form_field
        *fields;     /* of two that are missing the earlier one is named */
    size_t n_fields; /* <= FORM_FIELDS; fields of other names are passed over */
    bool named;      /* the blob's field must come with a filename */
};

struct form_opts {
    const struct form_spec *spec;
    void *into; /* for the fields' take(); borrowed */
    struct blobs *blobs;
    uint64_t max_bytes;    /* of the blob */
    const char *too_large; /* what is said of one byte more; borrowed */
};

/* What form_end found; borrows from the form. */
struct form_blob {
    const char *filename; /* UTF-8, no control characters; NULL: none was sent */
    uint64_t bytes;       /* may be 0 */
};

/* content_type is the request's header, .p NULL: none. */
struct form *form_new(const struct form_opts *o, struct str content_type);
struct form *form_free(struct form *f); /* accepts NULL, returns NULL */

/* RC_INVALID: a fault; the rest may be passed over. */
NODISCARD enum rc form_feed(struct form *f, struct str piece);
/* The body is over.  RC_INVALID: *e tells what was wrong.  Other codes: the disk failed,
 * *why tells. */
NODISCARD enum rc form_end(struct form *f, struct form_blob *ret, struct apierr *e,
                           struct err *why);
bool form_has(const struct form *f, size_t field); /* was fields[field] there? */
/* After form_end: makes the bytes durable under id. */
NODISCARD enum rc form_commit(struct form *f, const struct id *id, struct blob_sum *ret,
                              struct err *why);
