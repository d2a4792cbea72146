/* SPDX-License-Identifier: Apache-2.0 */
#include "app/hooks.h"
#include "app/version.h"

#include "base/mem.h"

/* The content of a secret file, and NULL where there is none. */
static enum rc read_secrets(const char *file, char **ret, struct err *e)
{
    char *text;
    size_t n;
    enum rc rc;

    if (!file)
        return RC_OK;
    rc = config_secret_file(file, &text, &n, e);
    if (rc == RC_OK)
        *ret = text;
    return rc;
}

static void wipe(char *text)
{
    if (text)
        mem_wipe(text, strlen(text));
    mem_free(text);
}

static enum rc describe(const struct config_webhook *h, char **ret_secrets,
                        struct webhooks_destination *ret, struct err *e)
{
    enum rc rc;

    if (!h->secret_file)
        return err_set(
            e, RC_INVALID,
            "[webhook %.100s] has no secret_file: receivers could not tell its "
            "events from others",
            h->name);
    rc = read_secrets(h->secret_file, ret_secrets, e);
    *ret = (struct webhooks_destination){.name = h->name,
                                         .url = h->url,
                                         .secrets = *ret_secrets,
                                         .events = h->events,
                                         .project = h->project,
                                         .ca_file = h->ca_file};
    return rc;
}

enum rc hooks_start(const struct config *c, struct store *store, struct webhooks **ret,
                    struct err *e)
{
    char *secrets[LIMIT_WEBHOOKS] = {NULL}, *callback = NULL;
    struct webhooks_destination list[LIMIT_WEBHOOKS];
    struct webhooks_opts o = {
        .store = store,
        .destinations = list,
        .n_destinations = c->n_webhooks,
        .callback_hosts = c->callback_hosts,
        .callback_private = c->callback_private,
        .user_agent = "batchd/" BATCHD_VERSION,
        .timeout = c->webhook_timeout,
        .give_up = c->webhook_give_up / USEC_PER_SEC,
    };
    enum rc rc = RC_OK;

    CHECK(c->n_webhooks <= LIMIT_WEBHOOKS);
    if (c->callback_hosts && !c->callback_secret_file)
        rc = err_set(e, RC_INVALID,
                     "callback_hosts is set and callback_secret_file is not: receivers "
                     "could not tell events of batchd from others");
    else
        rc = read_secrets(c->callback_secret_file, &callback, e);
    for (size_t i = 0; i < c->n_webhooks && rc == RC_OK; i++)
        rc = describe(&c->webhooks[i], &secrets[i], &list[i], e);
    o.callback_secrets = callback;
    if (rc == RC_OK)
        rc = webhooks_new(&o, ret, e);
    for (size_t i = 0; i < c->n_webhooks; i++)
        wipe(secrets[i]);
    wipe(callback);
    return rc;
}
