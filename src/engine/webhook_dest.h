/* SPDX-License-Identifier: Apache-2.0 */
/*
 * webhook_dest: where events go: the named destinations, and one for each server that
 * callbacks are on their way to.  Private to webhooks.c.
 *
 * Owns:    their targets, filters and secrets (wiped in the end).
 * Threads: the loop's; dests_told any.
 */
#pragma once

#include "base/list.h"
#include "base/map.h"
#include "core/webhook.h"
#include "engine/webhooks.h"
#include "http/client.h"

/* In front of a batch's callback_url in the outbox; no name has a ':'. */
#define CALLBACK_PREFIX "url:"

struct dest {
    struct dests *of;
    char *key;  /* the name, or the prefix and "http://host:port" */
    char *path; /* of a named one: what stands behind the host; "/" at least */
    webhook_events events;
    char *project;
    struct webhook_secrets own; /* of a named one */
    const struct webhook_secrets *secrets;
    struct http_target *target;
    unsigned refs; /* deliveries; a callback's server goes with its last one */

    /* webhooks.c's */
    struct list waiting; /* deliveries, the longest due first */
    struct list ready;   /* in webhooks.ready: it has one waiting, and may be called */
    unsigned flying;
    unsigned failures; /* since it last took one */
};

struct dests {
    struct http_client *client;
    struct map *by_key;
    struct dest *named[LIMIT_WEBHOOKS];
    size_t n_named;
    char *callback_hosts;
    struct webhook_secrets callback_secrets; /* n 0: none is sent */
    bool callback_private;
};

NODISCARD enum rc dests_new(const struct webhooks_opts *o, struct http_client *client,
                            struct dests **ret, struct err *e);
struct dests *dests_free(struct dests *ds); /* accepts NULL, returns NULL */

/*
 * Where a row's destination is, with one reference more, and the path to call there
 * (mem_free'd by the caller).  RC_DENIED: there is no such destination any more, or it may
 * not be called; the sentence is for whoever looks at the event.
 */
NODISCARD enum rc dests_find(struct dests *ds, const char *destination, struct dest **ret,
                             char **ret_path, struct err *why);
void dest_drop(struct dest *d); /* one reference less; not inside a call's `done` */

void dests_told(const struct dests *ds, const struct batch *b, enum batch_status status,
                struct webhooks_told *ret);
