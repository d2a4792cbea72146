/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sqlite_owner: the one thread that uses the connection to ledger.db, and how callers
 * meet it.
 *
 * Callers put a request, which lies on their own stack, on a stack of requests and sleep;
 * the owner takes all there are, answers the reads, and makes the changes in one
 * transaction with one sync, each in a savepoint of its own, one after the other: what a
 * change reads first is still so when it writes.
 *
 * Owns:    the connection, the owner thread.
 * Threads: what callers and owner share is `inbox` and `asleep`, and of a request, before
 *          and after, everything: `state` passes it over.
 * Errors:  as store.h.  RC_NOSPACE and RC_NOMEM undo the whole group: nothing changed.
 */
#pragma once

#include "store/sqlite_conn.h"
#include "store/store.h"

#include <stdatomic.h>

struct ledger;
struct request;
typedef enum rc request_fn(struct conn *c, struct request *rq);

/* The first member of what a caller passes over. */
struct request {
    struct request *next;
    request_fn *fn;
    bool change;
    int64_t now; /* for the clock's floor; 0: does not count */
    struct err *e;
    enum rc rc;
    atomic_uint state;
};

NODISCARD enum rc ledger_open(const struct store_sqlite_opts *o, struct ledger **ret,
                              struct err *e);
void ledger_close(struct ledger *l);
/* Runs rq->fn on the owner's thread; RC_OK of a change: it is durable.  A change that ran
 * may be undone with its group: what fn left behind counts only for the code that this
 * returns. */
NODISCARD enum rc ledger_call(struct ledger *l, struct request *rq);
