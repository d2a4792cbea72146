/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch: the record of a batch, its states, and the only way to move it.
 *
 *                       VALID              DRAINED              PUBLISHED
 *      validating ----------> in_progress ----------> finalizing ----------> completed
 *       |    |                  |     |                   |  expired (after EXPIRE)
 *       |    | CANCEL           |     | EXPIRE            ^
 *       |    v                  |     +-------------------+
 *       |  cancelling <---------+ CANCEL
 *       |    | PUBLISHED
 *       |    +---------> cancelled
 *       | INVALID
 *       +--------------> failed
 *
 *   event      from                     to           by
 *   VALID      validating               in_progress  intake: every line is good
 *   INVALID    validating               failed       intake: errors are filled in
 *   CANCEL     validating, in_progress  cancelling   POST /v1/batches/{id}/cancel
 *   EXPIRE     in_progress              finalizing   the engine, at expires_at
 *   DRAINED    in_progress              finalizing   the engine: every line has its answer
 *   PUBLISHED  finalizing               completed    finish: one transaction with the files
 *              finalizing, after EXPIRE expired
 *              cancelling               cancelled
 *
 * Everything else is refused with RC_CONFLICT and changes nothing: whoever closes a batch
 * first decides how it ends.  Terminal states are never left; a timestamp once set is
 * never erased (API reference, Batch).
 *
 * Pure: no I/O, no clock, `now` is passed in.
 */
#pragma once

#include "base/buf.h"
#include "base/id.h"
#include "core/endpoint.h"

/* X(name, text, terminal) */
#define BATCH_STATUS_LIST(X)                                                             \
    X(VALIDATING, "validating", false)                                                   \
    X(FAILED, "failed", true)                                                            \
    X(IN_PROGRESS, "in_progress", false)                                                 \
    X(FINALIZING, "finalizing", false)                                                   \
    X(COMPLETED, "completed", true)                                                      \
    X(EXPIRED, "expired", true)                                                          \
    X(CANCELLING, "cancelling", false)                                                   \
    X(CANCELLED, "cancelled", true)

enum batch_status {
#define X(name, text, terminal) BATCH_##name,
    BATCH_STATUS_LIST(X)
#undef X
        BATCH_STATUS_COUNT
};

#define BATCH_EVENT_LIST(X)                                                              \
    X(VALID)                                                                             \
    X(INVALID)                                                                           \
    X(CANCEL)                                                                            \
    X(EXPIRE)                                                                            \
    X(DRAINED)                                                                           \
    X(PUBLISHED)

enum batch_event {
#define X(name) BATCH_EV_##name,
    BATCH_EVENT_LIST(X)
#undef X
        BATCH_EVENT_COUNT
};

struct batch_counts {
    uint32_t total, completed, failed;
};

/* Sums over the answers; see outcome.h for where each endpoint says them. */
struct usage {
    uint64_t input, cached, output, reasoning, total;
};

/* The project that always is there: of everybody while no key was ever made. */
#define PROJECT_DEFAULT "default"

struct batch {
    struct id id;
    struct id input_file, output_file, error_file; /* "" is null */
    struct id project;                             /* whose it is; never "" */
    enum endpoint endpoint;
    enum batch_status status;
    bool expiring;      /* EXPIRE led to finalizing: it ends as expired */
    bool input_missing; /* no such file when it was made: it will fail */
    bool has_usage;     /* some answer told its usage */
    char window[16];    /* completion_window as sent: "24h" */
    int64_t created_at, in_progress_at, expires_at, finalizing_at, completed_at,
        failed_at, expired_at, cancelling_at, cancelled_at; /* wall seconds; 0 is null */
    int64_t output_expires_after; /* seconds; 0: the result files do not expire */
    struct batch_counts counts;
    struct usage usage;
    char *model;    /* owned; NULL is null */
    char *errors;   /* owned; the JSON of `errors`, NULL is null */
    char *metadata; /* owned; the JSON of `metadata`, NULL is null */

    /* Extensions: the API's object does not show them. */
    int priority;             /* -10..10, higher first; 0 unless asked for */
    bool idle;                /* it has only the room that nobody else wants */
    bool paused;              /* no line of it is sent */
    uint32_t hold;            /* only items below it are sent; 0: all */
    struct id continue_from;  /* a batch whose finished lines are taken over; "": none */
    uint32_t reused;          /* how many were */
    char *callback_url;       /* owned; NULL: none */
    char *idempotency_key;    /* owned; NULL: none */
    uint8_t request_hash[32]; /* SHA-256 of the request that came with the key */
};

const char *batch_status_name(enum batch_status s);
NODISCARD enum rc batch_status_from(struct str name, enum batch_status *ret);
bool batch_terminal(enum batch_status s);
const char *batch_event_name(enum batch_event ev);

/*
 * The one place where a status changes: sets status, the timestamp that goes with it and
 * `expiring`.  RC_CONFLICT: not a legal move, *b is untouched.  now: wall seconds; a
 * timestamp never precedes one set before it.
 */
NODISCARD enum rc batch_step(struct batch *b, enum batch_event ev, int64_t now);

void batch_done(struct batch *b); /* frees what is owned; may run twice */
void batch_copy(struct batch *dst, const struct batch *src); /* dst: zero or done */

/* The API's object, all keys present, null where not set. */
void batch_put_json(const struct batch *b, struct buf *out);

void usage_add(struct usage *sum, const struct usage *one);
