/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coded: the body of a call that came compressed (http/decode.h), on its way to where a
 * plain one would have gone: into the form, or into what http_body gives.
 *
 * Owns:    the decoder.
 * Threads: one at a time, as the call's.
 * Errors:  told by coded_end.  What the form finds wrong is the form's to tell.
 */
#pragma once

#include "api/apierr.h"
#include "http/decode.h"

struct coded;
struct form;
struct http_request;

struct coded_opts {
    enum decode_coding coding; /* not NONE */
    unsigned max_expansion;
    struct http_request *rq;
    struct form *form; /* borrowed; NULL: into the request's body */
    size_t max_bytes;  /* of that */
};

struct coded *coded_new(const struct coded_opts *o);
struct coded *coded_free(struct coded *k); /* accepts NULL, returns NULL */
/* Not RC_OK: the rest may be passed over. */
NODISCARD enum rc coded_feed(struct coded *k, struct str piece);
/* The body is over.  RC_INVALID: *e tells what was wrong with it. */
NODISCARD enum rc coded_end(struct coded *k, struct apierr *e);
