/* SPDX-License-Identifier: Apache-2.0 */
#include "api/batches.h"
#include "api/batch_body.h"
#include "api/call.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "json/json.h"

static void reply_batch(struct call *c, const struct batch *b)
{
    struct buf body;

    buf_init(&body, CALL_ANSWER_MAX);
    batch_put_json(b, &body);
    call_reply_json(c, &body);
}

static void not_found(struct call *c)
{
    call_fail_as(c, APIERR_NOT_FOUND, NULL, "No batch found with id '%.*s'.",
                 APIERR_SHOW(c->var));
}

void batches_fail(struct call *c, enum rc rc, const struct err *e)
{
    if (rc == RC_NOTFOUND)
        not_found(c);
    else
        call_fail_rc(c, rc, e);
}

/* --- Create --------------------------------------------------------------------------
 */

/* A file that is not there is no fault of the request: the real API makes the batch and
 * lets it fail, and so does the engine here.  RC_INVALID: *fault tells. */
static enum rc judge_input(struct call *c, const struct id *file, struct apierr *fault,
                           struct err *e)
{
    struct store *s = c->api->opts.store;
    struct file_rec f = {0};
    enum rc rc = s->ops->file_get(s->self, &c->project, file->z, &f, e);

    if (rc == RC_OK && strcmp(f.purpose, "batch") != 0)
        rc = apierr_set(fault, APIERR_VALUE, "input_file_id",
                        "Invalid 'input_file_id': file '%s' was uploaded with purpose "
                        "'%s'. Expected a file with purpose 'batch'.",
                        file->z, f.purpose);
    file_rec_done(&f);
    return rc == RC_NOTFOUND ? RC_OK : rc;
}

static void describe(const struct call *c, const struct batch_body *body, struct batch *b)
{
    *b = (struct batch){
        .id = id_make(ID_BATCH),
        .input_file = body->input_file,
        .project = c->project,
        .endpoint = body->endpoint,
        .status = BATCH_VALIDATING,
        .created_at = clock_wall_sec(),
        .output_expires_after = body->output_expires_after,
    };
    memcpy(b->window, body->window, sizeof b->window);
    b->expires_at = b->created_at + body->window_seconds;
    if (body->metadata.p)
        b->metadata = mem_dup(body->metadata.p, body->metadata.n);
}

void batches_create(struct call *c)
{
    struct store *s = c->api->opts.store;
    struct batch_rules rules = {c->api->opts.min_window, c->api->opts.max_window,
                                c->api->opts.callback_hosts};
    struct batch_body body;
    struct batch b = {0};
    struct apierr fault;
    struct err e = {0};
    enum rc rc = batch_body_read(http_body(c->rq), &rules, &body, &fault);

    if (rc == RC_OK)
        rc = judge_input(c, &body.input_file, &fault, &e);
    if (rc == RC_INVALID) {
        call_fail(c, &fault);
        return;
    }
    if (rc == RC_OK) {
        describe(c, &body, &b);
        rc = s->ops->batch_add(s->self, &b, NULL, NULL, &e);
    }
    if (rc == RC_OK) {
        log_info("batch.created", "req=%s batch=%s file=%s endpoint=%s window=%s",
                 http_request_id(c->rq), b.id.z, b.input_file.z,
                 endpoint_path(b.endpoint), b.window);
        engine_submit(c->api->opts.engine, &b.id);
        reply_batch(c, &b);
    } else {
        call_fail_rc(c, rc, &e);
    }
    batch_done(&b);
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
        reply_batch(c, &b);
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

/* The move is committed: whatever else goes wrong, the answer is the batch as it stands,
 * with the live counts when they can be had. */
static void reply_cancelled(struct call *c, const struct batch *stored)
{
    struct batch live = {0};

    if (engine_batch_view(c->api->opts.engine, &c->project, stored->id.z, &live, NULL) ==
        RC_OK)
        reply_batch(c, &live);
    else
        reply_batch(c, stored);
    batch_done(&live);
}

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
        reply_cancelled(c, &b);
    } else if (rc != RC_CONFLICT) {
        batches_fail(c, rc, &e);
    } else if (b.status == BATCH_CANCELLING || b.status == BATCH_CANCELLED) {
        reply_cancelled(c, &b);
    } else {
        call_fail_as(c, APIERR_CONFLICT, NULL, "Cannot cancel a batch with status '%s'.",
                     batch_status_name(b.status));
    }
    batch_done(&b);
}
