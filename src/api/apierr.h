/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apierr: the refusals of the API: one table from kind to HTTP status, type and code, and
 * the envelope {"error":{"message","type","param","code"}} that all of them come in.
 *
 * Pure.  Types and codes are the real API's where it has one for the case (docs/api.md).
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#define APIERR_CALLER "invalid_request_error"
#define APIERR_SERVER "server_error"
#define APIERR_RATE   "rate_limit_error"

/* X(name, HTTP status, type, code or NULL, seconds of Retry-After or 0) */
#define APIERR_LIST(X)                                                                   \
    X(BAD_REQUEST, 400, APIERR_CALLER, NULL, 0)                                          \
    X(MISSING, 400, APIERR_CALLER, "missing_required_parameter", 0)                      \
    X(TYPE, 400, APIERR_CALLER, "invalid_type", 0)                                       \
    X(VALUE, 400, APIERR_CALLER, "invalid_value", 0)                                     \
    X(TOO_SMALL, 400, APIERR_CALLER, "integer_below_min_value", 0)                       \
    X(TOO_GREAT, 400, APIERR_CALLER, "integer_above_max_value", 0)                       \
    X(TOO_LONG, 400, APIERR_CALLER, "string_above_max_length", 0)                        \
    X(TOO_MANY, 400, APIERR_CALLER, "object_above_max_properties", 0)                    \
    X(EMPTY_ARRAY, 400, APIERR_CALLER, "empty_array", 0)                                 \
    X(WRONG_KEY, 401, APIERR_CALLER, "invalid_api_key", 0)                               \
    X(NO_KEY, 401, APIERR_CALLER, NULL, 0)                                               \
    X(CROSS_SITE, 403, APIERR_CALLER, "cross_site_request", 0)                           \
    X(NOT_FOUND, 404, APIERR_CALLER, NULL, 0)                                            \
    X(NO_MODEL, 404, APIERR_CALLER, "model_not_found", 0)                                \
    X(NO_ROUTE, 404, APIERR_CALLER, "unknown_url", 0)                                    \
    X(METHOD, 405, APIERR_CALLER, "method_not_supported", 0)                             \
    X(SLOW, 408, APIERR_CALLER, "request_timeout", 0)                                    \
    X(CONFLICT, 409, APIERR_CALLER, NULL, 0)                                             \
    X(NO_LENGTH, 411, APIERR_CALLER, "length_required", 0)                               \
    X(PRECONDITION, 412, APIERR_CALLER, "precondition_failed", 0)                        \
    X(FILE_TOO_LARGE, 413, APIERR_CALLER, "file_too_large", 0)                           \
    X(BODY_TOO_LARGE, 413, APIERR_CALLER, "request_too_large", 0)                        \
    X(URI_TOO_LONG, 414, APIERR_CALLER, "uri_too_long", 0)                               \
    X(ENCODING, 415, APIERR_CALLER, "unsupported_content_encoding", 0)                   \
    X(RANGE, 416, APIERR_CALLER, "range_not_satisfiable", 0)                             \
    X(KEY_REUSED, 422, APIERR_CALLER, "idempotency_key_reused", 0)                       \
    X(TOO_MANY_BATCHES, 429, APIERR_RATE, "batch_limit_exceeded", 0)                     \
    X(HEADERS_TOO_LARGE, 431, APIERR_CALLER, "headers_too_large", 0)                     \
    X(INTERNAL, 500, APIERR_SERVER, NULL, 0)                                             \
    X(UNAVAILABLE, 503, APIERR_SERVER, "server_unavailable", 5)                          \
    X(RECOVERING, 503, APIERR_SERVER, "server_recovering", 1)                            \
    X(BUSY, 503, APIERR_SERVER, "server_busy", 1)                                        \
    X(NO_SPACE, 503, APIERR_SERVER, "insufficient_storage", 30)

enum apierr_kind {
#define X(name, status, type, code, retry_after) APIERR_##name,
    APIERR_LIST(X)
#undef X
        APIERR_COUNT
};

/* Texts too long for their field end in "...", as in struct err: they are for people. */
struct apierr {
    enum apierr_kind kind;
    char param[320]; /* "": null */
    char message[1024];
};

/* Text from outside for a "%.*s" of a message: 200 bytes of it are enough to know it by.
 */
#define APIERR_SHOW(s) (int)((s).n < 200 ? (s).n : 200), (s).p ? (s).p : ""

/* Always RC_INVALID, so that a check may end in `return apierr_set(...)`.  param NULL:
 * null. */
PRINTF_FMT(4, 5)
enum rc apierr_set(struct apierr *e, enum apierr_kind kind, const char *param,
                   const char *fmt, ...);

int apierr_status(enum apierr_kind kind);
unsigned apierr_retry_after(enum apierr_kind kind); /* seconds; 0: no such header */
/* For refusals of the HTTP server's own. */
enum apierr_kind apierr_of_status(int status);
/* What a failed store, disk or engine means for the client; tells nothing of the inside.
 */
void apierr_of_rc(struct apierr *e, enum rc rc);

void apierr_put(const struct apierr *e, struct buf *out);
