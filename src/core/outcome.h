/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outcome: what an upstream's answer means, and the result line that comes of it.  Pure.
 *
 * Success goes to the output file; an answer of 4xx/5xx for good goes to the error file
 * with its response kept whole; a line never answered goes to the error file with
 * response null (recorded from the real API; docs/api.md, "Output lines").
 */
#pragma once

#include "base/buf.h"
#include "core/batch.h"

/* What the scheduler has to know of an answer. */
#define OUTCOME_LIST(X)                                                                  \
    X(DONE, "done")           /* 2xx with a JSON body */                                 \
    X(REFUSED, "refused")     /* 4xx for good: the request itself is at fault */         \
    X(CAPACITY, "capacity")   /* 429, 503, 529: come back later; not the line's fault */ \
    X(GATEWAY, "gateway")     /* 502, 504, 524: something before the server failed */    \
    X(TRANSIENT, "transient") /* 408, 409, 425, 499, 500 and other 5xx */                \
    X(HOST, "host")           /* no connection: nothing was sent */                      \
    X(BROKEN, "broken")     /* reset, garbled or not JSON after the request was sent */  \
    X(STALLED, "stalled")   /* no answer in time */                                      \
    X(OVERSIZE, "oversize") /* the answer is over the cap; final */                      \
    X(DENIED, "denied")     /* 401 and the like: whoever asks, not the line, is refused */

enum outcome_class {
#define X(name, text) OUTCOME_##name,
    OUTCOME_LIST(X)
#undef X
        OUTCOME_COUNT
};

const char *outcome_name(enum outcome_class c);

/* Which file a result line belongs to. */
enum result_kind { RESULT_OUTPUT = 1, RESULT_ERROR = 2 };

struct outcome {
    enum outcome_class cls;
    bool has_usage;
    struct usage usage; /* only of DONE */
};

/* Classifies a whole answer (status and body).  Reads the body's JSON once. */
struct outcome outcome_of_answer(long status, struct str body);

/* What an answer says of itself (x-should-retry) goes before what its status usually
 * means, but never where something in front of the server, or its load, is at fault. */
enum outcome_class outcome_heed(enum outcome_class cls, bool retry, bool no_retry);

/* What an error object says, for people: error.message, else message, detail or error, or
 * the body itself; printable, on one line, cut to fit.  "": nothing. */
void outcome_message(struct str body, char *dst, size_t cap);

/* {"id":"batch_req_HEX","custom_id":RAW,"response":{"status_code":S,"request_id":"R",
 *  "body":B},"error":null}\n -- body is put on one line, otherwise byte for byte; when it
 * is not JSON it becomes a JSON string. */
enum rc outcome_line(struct buf *b, const char req_hex[33], struct str custom_id,
                     long status, const char *request_id, struct str body);

/* The result line of one that asked the same as another: `result`, a result line of ours,
 * with another id and custom_id.  All behind them is the same, the request_id too: that is
 * how it can be told from an answer of its own. */
enum rc outcome_again(struct buf *b, const char req_hex[33], struct str custom_id,
                      struct str result);

/* {"id":...,"custom_id":RAW,"response":null,"error":{"code":C,"message":M}}\n */
enum rc outcome_error_line(struct buf *b, const char req_hex[33], struct str custom_id,
                           const char *code, const char *message);
