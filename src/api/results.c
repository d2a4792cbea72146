/* SPDX-License-Identifier: Apache-2.0 */
#include "api/results.h"
#include "api/auth.h"
#include "api/batches.h"
#include "api/call.h"
#include "api/ended.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/reslog_tail.h"

/* How long a stream that has nothing to say waits: doubled from the one to the other. */
#define WAIT_FIRST (100 * USEC_PER_MS)
#define WAIT_MOST  (1 * USEC_PER_SEC)

struct results {
    struct api *api;
    struct id project, key, batch, req;
    bool follow;
    uint64_t skip; /* lines to pass over before the first that is sent */
    usec_t wait;

    uint64_t changes;         /* as engine_changes said before the batch was looked at */
    struct reslog_tail *tail; /* NULL: it has no log yet */
    struct reslog_mark
        mark;  /* so far it may be read; fixed at the start when not followed */
    bool last; /* the batch has ended: the rest of its log, then the files */
    uint32_t lines, outputs; /* that came out of the log; those of the output file */
    uint32_t left;           /* bytes of a line of the log that are not sent yet */
    struct ended *ended;     /* what is left comes from the files */
    bool whole;              /* all of it does */
    bool over;               /* nothing is left */
};

static void release(void *ctx)
{
    struct results *r = ctx;

    IGNORE(reslog_tail_free(r->tail)); /* always NULL */
    IGNORE(ended_free(r->ended));      /* always NULL */
    mem_free(r);
}

/* --- The files -----------------------------------------------------------------------
 */

/* Lines that were never sent. */
static bool wanted(void *ctx, uint32_t item)
{
    const struct results *r = ctx;

    return !r->tail || !reslog_tail_seen(r->tail, item);
}

/* What is left of the log first, as long as it can be read: in the order of before. */
static enum rc on_end(struct results *r, const struct batch *b, struct err *e)
{
    enum rc rc;

    if (r->tail && !r->last) {
        r->last = true;
        r->mark = RESLOG_ALL;
        return RC_OK;
    }
    if (r->tail && r->lines == b->counts.total) {
        r->over = true;
        return RC_OK;
    }
    if (r->skip) /* the next request learns how to go on */
        return err_set(e, RC_CONFLICT,
                       "the log went before %llu more lines were passed over",
                       (unsigned long long)r->skip);
    rc = ended_open(r->api->opts.store, r->api->opts.blobs, b, &r->ended, e);
    if (rc == RC_OK && r->tail && r->outputs == b->counts.completed)
        ended_only_errors(r->ended);
    return rc;
}

/* --- The log -------------------------------------------------------------------------
 */

/* Where does the batch stand?  Asks the store only when something has changed. */
static enum rc look(struct results *r, struct err *e)
{
    struct engine *g = r->api->opts.engine;
    uint64_t changes = engine_changes(g, r->batch.z);
    struct batch b = {0};
    enum rc rc;

    r->over = !r->follow && !r->tail; /* unless it has ended: it has no line yet */
    if (changes == r->changes && !r->last)
        return RC_OK;
    rc = engine_batch_view(g, &r->project, r->batch.z, &b, e);
    if (rc == RC_OK) {
        r->changes = changes;
        if (batch_terminal(b.status)) {
            r->over = false;
            rc = on_end(r, &b, e);
        }
    }
    batch_done(&b);
    return rc == RC_AGAIN ? RC_OK : rc; /* recovery: later */
}

static void find_log(struct results *r)
{
    struct engine_log log;

    if (r->last || (r->tail && !r->follow) ||
        !engine_log(r->api->opts.engine, r->batch.z, &log))
        return;
    if (!r->tail)
        r->tail = reslog_tail_new(log.spool, &r->batch, log.items);
    r->mark = log.mark;
}

static enum rc send_line(struct results *r, struct buf *out, struct err *e)
{
    size_t n = (size_t)u64_min(r->left, HTTP_STREAM_BUFFER - out->n);
    char *at = NULL;
    enum rc rc = buf_reserve(out, n, &at);

    if (rc == RC_OK)
        rc = reslog_tail_read(r->tail, at, n, e);
    if (rc != RC_OK)
        return rc;
    buf_commit(out, n);
    r->left -= (uint32_t)n;
    return RC_OK;
}

/* Until out is full.  RC_NOTFOUND: no more for now; RC_AGAIN: there may be more;
 * RC_CANCELLED: never any more. */
static enum rc send_log(struct results *r, struct buf *out, struct err *e)
{
    enum rc rc = RC_OK;

    while (rc == RC_OK && out->n < HTTP_STREAM_BUFFER) {
        struct reslog_tail_rec rec;

        if (r->left) {
            rc = send_line(r, out, e);
            continue;
        }
        rc = reslog_tail_next(r->tail, &r->mark, &rec, e);
        if (rc != RC_OK)
            break;
        r->lines++;
        r->outputs += rec.kind == RESULT_OUTPUT;
        if (r->skip)
            r->skip--;
        else
            r->left = rec.length;
    }
    return rc;
}

/* --- The stream ----------------------------------------------------------------------
 */

static enum http_more broken(struct results *r, enum rc rc, const struct err *e)
{
    char quoted[2 * sizeof e->text];

    log_warn("results.broken", "req=%s batch=%s rc=%s err=%s", r->req.z, r->batch.z,
             rc_name(rc), log_q(quoted, sizeof quoted, e->text, strlen(e->text)));
    return HTTP_BREAK;
}

static enum http_more later(struct results *r, bool news, usec_t *again)
{
    r->wait = news || r->wait == 0 ? WAIT_FIRST
                                   : (usec_t)u64_min((uint64_t)r->wait * 2, WAIT_MOST);
    *again = clock_mono() + r->wait;
    return HTTP_WAIT;
}

static enum http_more pull_files(struct results *r, struct buf *out)
{
    struct err e = {0};
    enum rc rc = ended_fill(r->ended, r->whole ? NULL : wanted, r, out,
                            HTTP_STREAM_BUFFER - out->n, &e);

    ended_rest(r->ended);
    if (rc == RC_OK)
        return HTTP_MORE;
    return rc == RC_NOTFOUND ? HTTP_END : broken(r, rc, &e);
}

static enum http_more pull_log(struct results *r, struct buf *out, usec_t *again)
{
    struct err e = {0};
    enum rc rc = RC_CANCELLED;

    find_log(r);
    if (r->tail) {
        rc = send_log(r, out, &e);
        reslog_tail_rest(r->tail);
    }
    if (rc == RC_OK || rc == RC_AGAIN)
        return HTTP_MORE;
    if (rc == RC_NOTFOUND && !r->follow)
        return HTTP_END;
    if (rc == RC_NOTFOUND || rc == RC_CANCELLED)
        rc = look(r, &e);
    if (rc != RC_OK)
        return broken(r, rc, &e);
    if (r->ended || (r->last && !r->over))
        return HTTP_MORE;
    return r->over ? HTTP_END : later(r, out->n, again);
}

/* A stream that follows ends with the server, after the line that it is in: the client
 * sees that it was cut and can go on behind the lines that it has. */
static enum http_more pull(void *ctx, struct buf *out, bool stopping, usec_t *again)
{
    struct results *r = ctx;

    if ((stopping && r->follow && !r->left) || !auth_stands(r->api, &r->key))
        return HTTP_BREAK;
    return r->ended ? pull_files(r, out) : pull_log(r, out, again);
}

/* --- The request ---------------------------------------------------------------------
 */

static enum rc read_query(struct call *c, bool *follow, uint64_t *after, struct apierr *e)
{
    struct str text = http_query(c->rq, "after");
    enum rc rc = text.n ? str_u64(text, after) : RC_OK;

    if (rc == RC_INVALID)
        return apierr_set(e, APIERR_TYPE, "after",
                          "Invalid type for 'after': expected a number of lines, but got "
                          "'%.*s' instead.",
                          APIERR_SHOW(text));
    if (rc == RC_LIMIT || *after > UINT32_MAX)
        return apierr_set(
            e, APIERR_TOO_GREAT, "after",
            "Invalid 'after': integer above maximum value. Expected a value "
            "<= %u, but got %.*s instead.",
            UINT32_MAX, APIERR_SHOW(text));
    text = http_query(c->rq, "follow");
    if (text.n && str_bool(text, follow) != RC_OK)
        return apierr_set(e, APIERR_VALUE, "follow",
                          "Invalid value: '%.*s'. Supported values are: '1' and '0'.",
                          APIERR_SHOW(text));
    return RC_OK;
}

static void refuse_after(struct call *c, const struct batch *b)
{
    call_fail_as(
        c, APIERR_CONFLICT, "after",
        "The batch is '%s' and its results are in the order of the input now, so "
        "'after' cannot be counted on. Read output_file_id '%s' and "
        "error_file_id '%s'.",
        batch_status_name(b->status), b->output_file.z, b->error_file.z);
}

/* r is at the start.  RC_OK: it was answered for or is ready. */
static void begin(struct call *c, struct results *r, const struct batch *b)
{
    struct err e = {0};
    enum rc rc = RC_OK;

    if (batch_terminal(b->status)) {
        rc = ended_open(c->api->opts.store, c->api->opts.blobs, b, &r->ended, &e);
        r->whole = true;
    }
    if (rc == RC_NOTFOUND)
        call_fail_as(c, APIERR_NOT_FOUND, NULL, "%s", e.text);
    else if (rc != RC_OK)
        call_fail_rc(c, rc, &e);
    if (rc != RC_OK) {
        release(r);
        return;
    }
    http_add_header(c->rq, "x-batch-order", r->whole ? "file" : "completion");
    http_add_header(c->rq, "Cache-Control", "no-store");
    http_add_header(c->rq, "X-Accel-Buffering", "no"); /* nginx would hold lines back */
    call_reply_stream(c, "application/x-ndjson", pull, release, r);
}

void results_get(struct call *c)
{
    struct engine *g = c->api->opts.engine;
    struct batch b = {0};
    struct apierr fault;
    struct err e = {0};
    uint64_t after = 0, changes;
    bool follow = false;
    struct id id;
    enum rc rc = read_query(c, &follow, &after, &fault);

    if (rc != RC_OK) {
        call_fail(c, &fault);
        return;
    }
    rc = id_from(c->var, &id) == RC_OK ? RC_OK : RC_NOTFOUND;
    changes = rc == RC_OK ? engine_changes(g, id.z) : 0;
    if (rc == RC_OK)
        rc = engine_batch_view(g, &c->project, id.z, &b, &e);
    if (rc != RC_OK) {
        batches_fail(c, rc, &e);
    } else if (after && batch_terminal(b.status)) {
        refuse_after(c, &b);
    } else {
        struct results *r = mem_new(struct results);

        *r = (struct results){.api = c->api,
                              .project = c->project,
                              .key = c->key,
                              .batch = id,
                              .follow = follow,
                              .skip = after,
                              .changes = changes};
        IGNORE(str_fmt(r->req.z, sizeof r->req.z, "%s", http_request_id(c->rq)));
        begin(c, r, &b);
    }
    batch_done(&b);
}
