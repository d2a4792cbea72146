/* SPDX-License-Identifier: Apache-2.0 */
/*
 * multipart: streaming multipart/form-data (RFC 7578) parsing; pure, no I/O.
 *
 * Bytes go in as they arrive, in pieces of any size; parts come out through callbacks:
 * head, data pieces (borrowed from the input, never copied but for what may be a
 * boundary), end.
 *
 * Owns:    its state and at most one boundary's and one part head's bytes.
 * Errors:  RC_INVALID malformed, RC_LIMIT a head or a count over its limit; whatever a
 * callback returned ends the parse with it.  After a failure every call returns it again.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

struct multipart;

struct multipart_part {
    struct str name;     /* form field, unquoted */
    struct str filename; /* .p NULL: none; from filename* when that is there (RFC 5987) */
    struct str content_type; /* .p NULL: none */
};

struct multipart_events {
    void *ctx;
    enum rc (*begin)(void *ctx, const struct multipart_part *part);
    enum rc (*data)(void *ctx, struct str piece);
    enum rc (*end)(void *ctx);
};

/* From a Content-Type header; RC_INVALID: not multipart/form-data or no usable boundary
 * (1..70 characters, RFC 2046 5.1.1). */
NODISCARD enum rc multipart_new(struct str content_type,
                                const struct multipart_events *ev, struct multipart **ret,
                                struct err *e);
struct multipart *multipart_free(struct multipart *m); /* accepts NULL, returns NULL */
NODISCARD enum rc multipart_feed(struct multipart *m, struct str piece);
/* The body is over: RC_INVALID when the closing boundary has not come. */
NODISCARD enum rc multipart_finish(struct multipart *m);
