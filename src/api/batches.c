/* SPDX-License-Identifier: Apache-2.0 */
#include "api/batches.h"
#include "api/call.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "json/json.h"

void batches_reply(struct call *c, const struct batch *b)
{
    struct buf body;

    buf_init(&body, CALL_ANSWER_MAX);
    batch_put_json(b, &body);
    call_reply_json(c, &body);
}

void batches_reply_now(struct call *c, const struct batch *stored)
{
    struct batch live = {0};
    struct err e = {0};
    enum rc rc =
        engine_batch_view(c->api->opts.engine, &c->project, stored->id.z, &live, &e);

    if (rc == RC_OK)
        batches_reply(c, &live);
    else
        batches_fail(c, rc, &e);
    batch_done(&live);
}

void batches_not_found(struct call *c)
{
    call_fail_as(c, APIERR_NOT_FOUND, NULL, "No batch found with id '%.*s'.",
                 APIERR_SHOW(c->var));
}

void batches_fail(struct call *c, enum rc rc, const struct err *e)
{
    if (rc == RC_NOTFOUND)
        batches_not_found(c);
    else
        call_fail_rc(c, rc, e);
}

/* --- Read ----------------------------------------------------------------------------
 */

void batches_get(struct call *c)
{
    struct batch b = {0};
    struct err e = {0};
    struct id id;
    enum rc rc = id_from(c->var, &id);

    rc = rc == RC_OK ? engine_batch_view(c->api->opts.engine, &c->project, id.z, &b, &e)
                     : RC_NOTFOUND;
    if (rc == RC_OK)
        batches_reply(c, &b);
    else
        batches_fail(c, rc, &e);
    batch_done(&b);
}

static const char *put_item(const void *items, size_t i, struct buf *out)
{
    const struct batch *one = (const struct batch *)items + i;

    if (out)
        batch_put_json(one, out);
    return one->id.z;
}

void batches_list(struct call *c)
{
    struct batch *batches = NULL;
    struct apierr fault;
    struct err e = {0};
    struct id after;
    unsigned limit;
    size_t n = 0;
    bool more = false;
    enum rc rc = call_limit(c, 20, LIMIT_BATCH_LIST, &limit, &fault);

    if (rc == RC_OK)
        rc = call_after(c, &after);
    if (rc == RC_OK)
        rc = engine_batch_list(c->api->opts.engine, &c->project,
                               id_none(&after) ? NULL : after.z, limit, &batches, &n,
                               &more, &e);
    if (rc == RC_NOTFOUND)
        rc = apierr_set(&fault, APIERR_VALUE, "after", "No batch found with id '%.*s'.",
                        APIERR_SHOW(http_query(c->rq, "after")));
    if (rc == RC_INVALID)
        call_fail(c, &fault);
    else if (rc != RC_OK)
        call_fail_rc(c, rc, &e);
    else
        call_reply_list(c, put_item, batches, n, more);
    for (size_t i = 0; i < n; i++)
        batch_done(&batches[i]);
    mem_free(batches);
}

/* --- Cancel --------------------------------------------------------------------------
 */

void batches_cancel(struct call *c)
{
    struct store *s = c->api->opts.store;
    struct batch b = {0};
    struct err e = {0};
    struct id id;
    enum rc rc = id_from(c->var, &id);

    rc = rc == RC_OK ? s->ops->batch_move(s->self, &c->project, id.z, BATCH_EV_CANCEL,
                                          clock_wall_sec(), NULL, &b, &e)
                     : RC_NOTFOUND;
    if (rc == RC_OK) {
        log_info("batch.cancelled", "req=%s batch=%s", http_request_id(c->rq), id.z);
        engine_cancel(c->api->opts.engine, &id);
        batches_reply_now(c, &b);
    } else if (rc != RC_CONFLICT) {
        batches_fail(c, rc, &e);
    } else if (b.status == BATCH_CANCELLING || b.status == BATCH_CANCELLED) {
        batches_reply_now(c, &b);
    } else {
        call_fail_as(c, APIERR_CONFLICT, NULL, "Cannot cancel a batch with status '%s'.",
                     batch_status_name(b.status));
    }
    batch_done(&b);
}
