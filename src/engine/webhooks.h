/* SPDX-License-Identifier: Apache-2.0 */
/*
 * webhooks: tells others that a batch has ended: takes events from the store's outbox and
 * sends them until they are delivered or given up.
 *
 * The rows are written in the transaction that ends a batch (work.c, live_move), so an
 * event is sent at least once whatever crashes, each time under the same id.  At most
 * eight deliveries are under way, two to one destination: one that is slow does not hold
 * up the others, as long as no more than 2,048 events are due to those that are slow.
 *
 * Owns:    a thread with its loop and HTTP client, a worker for the store, the secrets.
 * Threads: any.
 * Errors:  a failed delivery is tried again (core/webhook.h says when); a store that fails
 * is asked again seconds later.
 */
#pragma once

#include "base/limits.h"
#include "store/store.h"

struct webhooks;

/* A destination that the operator named; wherever it lies, it may be called. */
struct webhooks_destination {
    const char *name;    /* without a ':' */
    const char *url;     /* http or https, with path and query */
    const char *secrets; /* the content of its secret file */
    const char *events;  /* "completed, failed"; NULL or "": all */
    const char *project; /* NULL or "": of all */
    const char *ca_file; /* NULL: the system's */
};

struct webhooks_opts {
    struct store *store;
    const struct webhooks_destination *destinations; /* copied */
    size_t n_destinations;                           /* at most LIMIT_WEBHOOKS */
    const char *callback_hosts;   /* as core/callback.h has it; NULL: none; copied */
    const char *callback_secrets; /* NULL or "": no callback is sent */
    bool callback_private;        /* also to addresses that are not public */
    const char *user_agent;       /* NULL: none; copied */
    usec_t timeout;               /* of one delivery; 0: 10 s */
    int64_t give_up;              /* seconds after the event; 0: 3 days */
    uint64_t (*random)(void);     /* for the pauses; NULL: the kernel's */
};

/* Starts the thread, which goes on with what the last process left.  RC_INVALID: a
 * destination is no good; the sentence names it and shows no secret. */
NODISCARD enum rc webhooks_new(const struct webhooks_opts *o, struct webhooks **ret,
                               struct err *e);
/* Breaks off what is in flight: the next process sends it again.  The store must still be
 * there; who is told of batches must not be asked any more. */
struct webhooks *webhooks_free(struct webhooks *w); /* accepts NULL, returns NULL */

/* Whom an outbox row may name. */
struct webhooks_told {
    const char *names[LIMIT_WEBHOOKS + 1]; /* for batch_change.notify; borrowed */
    size_t n;
    char *callback; /* one of them; private */
};

/*
 * The one place where it is decided who is told that a batch has got to a terminal
 * status: the named destinations that want such events of its project, and the batch's
 * own callback_url.  w NULL: nobody.
 */
void webhooks_told(const struct webhooks *w, const struct batch *b,
                   enum batch_status status, struct webhooks_told *ret);
void webhooks_told_done(struct webhooks_told *t); /* may run twice */

/* There may be a new row in the outbox.  w may be NULL. */
void webhooks_wake(struct webhooks *w);

/* What people may see of an outbox_rec's destination: the name, or a callback's host with
 * its port: a path or a query may hold a secret. */
struct str webhooks_shown(const char *destination);

/* Appends Prometheus text.  Asks the store. */
void webhooks_metrics(struct webhooks *w, struct buf *out);
