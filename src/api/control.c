/* SPDX-License-Identifier: Apache-2.0 */
#include "api/control.h"
#include "api/batch_body.h"
#include "api/batches.h"
#include "api/call.h"
#include "base/log.h"

/* verb: as in "Cannot pause a batch". */
static void apply(struct call *c, const struct id *id, const struct batch_edit *edit,
                  const char *verb)
{
    struct batch b = {0};
    struct err e = {0};
    enum rc rc = engine_edit(c->api->opts.engine, &c->project, id->z, edit, &b, &e);

    if (rc == RC_OK) {
        log_info("batch.edited",
                 "req=%s batch=%s action=%s priority=%d idle=%d paused=%d hold=%u "
                 "window=%s",
                 http_request_id(c->rq), id->z, verb, b.priority, b.idle, b.paused,
                 b.hold, b.window);
        batches_reply_now(c, &b);
    } else if (rc == RC_CONFLICT) {
        call_fail_as(c, APIERR_CONFLICT, NULL, "Cannot %s a batch with status '%s'.",
                     verb, batch_status_name(b.status));
    } else if (rc == RC_NOTFOUND) {
        batches_not_found(c);
    } else {
        call_fail_rc(c, rc, &e);
    }
    batch_done(&b);
}

static void apply_to_var(struct call *c, const struct batch_edit *edit, const char *verb)
{
    struct id id;

    if (id_from(c->var, &id) == RC_OK)
        apply(c, &id, edit, verb);
    else
        batches_not_found(c);
}

void control_pause(struct call *c)
{
    apply_to_var(c, &(struct batch_edit){.has_paused = true, .paused = true}, "pause");
}

void control_resume(struct call *c)
{
    apply_to_var(c, &(struct batch_edit){.has_paused = true, .has_hold = true}, "resume");
}

/* Windows count from the batch's creation, as at its creation. */
static enum rc judge_window(const struct batch *b, const struct batch_body *body,
                            int64_t now, struct apierr *e)
{
    int64_t age = now - b->created_at;

    if (b->created_at + body->window_seconds > now)
        return RC_OK;
    return apierr_set(
        e, APIERR_VALUE, "completion_window",
        "Invalid completion_window: '%s' after the creation of the batch is "
        "past. It was made %lld seconds ago: give a longer window, or cancel "
        "it.",
        body->window, (long long)age);
}

void control_edit(struct call *c)
{
    struct store *s = c->api->opts.store;
    struct batch_rules rules = {.min_window = c->api->opts.min_window,
                                .max_window = c->api->opts.max_window};
    struct batch_edit edit = {0};
    struct batch_body body;
    struct apierr fault;
    struct batch b = {0};
    struct err e = {0};
    struct id id;
    enum rc rc = id_from(c->var, &id);

    rc =
        rc == RC_OK ? s->ops->batch_get(s->self, &c->project, id.z, &b, &e) : RC_NOTFOUND;
    if (rc == RC_OK)
        rc = batch_body_read_edit(http_body(c->rq), &rules, &body, &fault);
    if (rc == RC_OK && body.window[0] && !batch_terminal(b.status))
        rc = judge_window(&b, &body, clock_wall_sec(), &fault);
    if (rc == RC_OK) {
        edit.has_priority = body.has_priority;
        edit.priority = body.priority;
        edit.has_idle = body.has_tier;
        edit.idle = body.idle;
        edit.has_window = body.window[0] != '\0';
        edit.window = body.window;
        edit.expires_at = b.created_at + body.window_seconds;
        apply(c, &id, &edit, "change");
    } else if (rc == RC_INVALID) {
        call_fail(c, &fault);
    } else if (rc == RC_NOTFOUND) {
        batches_not_found(c);
    } else {
        call_fail_rc(c, rc, &e);
    }
    batch_done(&b);
}
