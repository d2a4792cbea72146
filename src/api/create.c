/* SPDX-License-Identifier: Apache-2.0 */
#include "api/batch_body.h"
#include "api/batches.h"
#include "api/call.h"
#include "api/inline.h"
#include "api/quota.h"
#include "base/log.h"
#include "base/mem.h"

#include <openssl/evp.h>

/* A batch on its way.  The functions below return RC_OK, RC_INVALID (m->fault tells),
 * RC_CONFLICT (m->first is the batch that the key made before) or what the store or the
 * disk said (m->why). */
struct making {
    struct call *c;
    struct batch b;
    struct batch first;
    bool own_file; /* b.input_file was made for it */
    struct apierr fault;
    struct err why;
};

/* --- The key of a request that may come twice ----------------------------------------
 */

#define KEY_MAX 255

static bool key_good(struct str key)
{
    for (size_t i = 0; i < key.n; i++)
        if (key.p[i] < ' ' || key.p[i] > '~')
            return false;
    return key.n >= 1 && key.n <= KEY_MAX;
}

/* Of method, path and body: the same request has the same, and no other has it. */
static void hash_request(const struct call *c, uint8_t ret[32])
{
    struct str path = http_path(c->rq), body = http_body(c->rq);
    EVP_MD_CTX *x = EVP_MD_CTX_new();

    if (path.n > 1 && path.p[path.n - 1] == '/')
        path.n--; /* as the route does */
    if (!x || EVP_DigestInit_ex(x, EVP_sha256(), NULL) != 1 ||
        EVP_DigestUpdate(x, "POST ", 5) != 1 ||
        EVP_DigestUpdate(x, path.p, path.n) != 1 || EVP_DigestUpdate(x, "\n", 1) != 1 ||
        EVP_DigestUpdate(x, body.p, body.n) != 1 || EVP_DigestFinal_ex(x, ret, NULL) != 1)
        PANIC("SHA-256 cannot be computed");
    EVP_MD_CTX_free(x);
}

/*
 * Idempotency-Key, as the SDKs send it with every try of one call.  One that was used is
 * found before anything is judged, so that the second answer does not hang on what became
 * of the first one's file.  Two at once are told apart by batch_add.
 */
static enum rc read_key(struct making *m)
{
    struct str key = http_header(m->c->rq, "Idempotency-Key");
    const struct store *s = m->c->api->opts.store;
    enum rc rc;

    if (!key.p)
        return RC_OK;
    if (!key_good(key))
        return apierr_set(&m->fault, APIERR_VALUE, NULL,
                          "Invalid Idempotency-Key: it has %zu bytes; expected 1 to %d "
                          "printable ASCII characters.",
                          key.n, KEY_MAX);
    m->b.idempotency_key = mem_dup(key.p, key.n);
    hash_request(m->c, m->b.request_hash);
    rc = s->ops->batch_by_key(s->self, &m->c->project, m->b.idempotency_key, &m->first,
                              &m->why);
    if (rc == RC_NOTFOUND)
        return RC_OK;
    return rc == RC_OK ? RC_CONFLICT : rc;
}

static void answer_again(struct making *m)
{
    struct call *c = m->c;

    if (memcmp(m->first.request_hash, m->b.request_hash, sizeof m->b.request_hash) != 0) {
        call_fail_as(c, APIERR_KEY_REUSED, NULL,
                     "The Idempotency-Key '%s' was used before with another request. Use "
                     "a new key for a new request.",
                     m->b.idempotency_key);
        return;
    }
    log_info("batch.again", "req=%s batch=%s", http_request_id(c->rq), m->first.id.z);
    batches_reply_now(c, &m->first);
}

/* --- What it is made of --------------------------------------------------------------
 */

/* A file that is not there is no fault of the request: the real API makes the batch and
 * lets it fail, and so does the engine here. */
enum rc batches_judge_input(struct call *c, const struct id *file, struct apierr *fault,
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
    return rc;
}

static enum rc put_bytes(struct making *m, struct str bytes, struct file_rec *f)
{
    const struct blobs *blobs = m->c->api->opts.blobs;
    struct blob_put *put = NULL;
    struct blob_sum sum;
    enum rc rc = blobs->ops->put(blobs->self, &put, &m->why);

    if (rc == RC_OK)
        rc = blobs->ops->write(put, bytes.p, bytes.n, &m->why);
    if (rc != RC_OK) {
        blobs->ops->abort(put);
        return rc;
    }
    rc = blobs->ops->commit(put, f->id.z, &sum, &m->why);
    if (rc == RC_OK) {
        f->bytes = sum.bytes;
        memcpy(f->sha256, sum.sha256, sizeof f->sha256);
    }
    return rc;
}

/* An ordinary file, as if it had been uploaded. */
static enum rc add_file(struct making *m, struct str lines)
{
    static const char name[] = "inline.jsonl";
    const struct api_opts *o = &m->c->api->opts;
    struct file_rec f = {.id = id_make(ID_FILE),
                         .project = m->c->project,
                         .purpose = "batch",
                         .created_at = m->b.created_at};
    struct file_quota quota;
    enum rc rc;

    f.expires_at = o->file_expires ? f.created_at + o->file_expires : 0;
    f.filename = mem_dup(name, sizeof name - 1);
    rc = put_bytes(m, lines, &f);
    if (rc == RC_OK) {
        quota_of(m->c, &quota);
        rc = o->store->ops->file_add(o->store->self, &f, &quota, &m->why);
        /* A dead store may have committed the row: then it needs its bytes. */
        if (rc != RC_OK && rc != RC_IO && rc != RC_CORRUPT)
            IGNORE(o->blobs->ops->remove(o->blobs->self, f.id.z, NULL));
        if (rc == RC_LIMIT) /* in the store's words */
            rc = apierr_set(&m->fault, APIERR_BAD_REQUEST, NULL, "%s", m->why.text);
    }
    m->own_file = rc == RC_OK;
    m->b.input_file = f.id;
    file_rec_done(&f);
    return rc;
}

static enum rc make_file(struct making *m, const struct batch_body *body)
{
    /* "method" and "url" with the longest endpoint take less. */
    size_t room = body->requests.raw.n + (size_t)body->requests.count * 96;
    struct buf lines;
    enum rc rc;

    buf_init(&lines, room);
    rc = inline_lines(&body->requests, body->endpoint, &lines);
    CHECK(rc != RC_LIMIT);
    if (rc == RC_OK)
        rc = add_file(m, buf_peek(&lines));
    else
        rc = err_set(&m->why, rc, "no memory for %zu bytes of requests", room);
    buf_done(&lines);
    return rc;
}

/* Nobody was told of the file. */
static void drop_file(struct making *m, enum rc rc)
{
    const struct store *s = m->c->api->opts.store;
    struct err e = {0};

    if (!m->own_file || rc == RC_OK || rc == RC_IO || rc == RC_CORRUPT)
        return;
    rc = s->ops->file_delete(s->self, &m->c->project, m->b.input_file.z, clock_wall_sec(),
                             &e);
    if (rc != RC_OK && rc != RC_NOTFOUND)
        log_warn("file.left", "req=%s file=%s err=\"%s\"", http_request_id(m->c->rq),
                 m->b.input_file.z, e.text);
}

/* --- Continuing from another ---------------------------------------------------------
 */

/* RC_NOTFOUND: *ret_file, which `from` needs to be continued, was deleted. */
static enum rc files_of(struct making *m, const struct batch *from, struct id *ret_file)
{
    const struct store *s = m->c->api->opts.store;
    const struct id *needed[] = {&from->input_file, &from->output_file};
    enum rc rc = RC_OK;

    for (size_t i = 0; i < COUNTOF(needed) && rc == RC_OK; i++) {
        struct file_rec f = {0};

        if (id_none(&from->output_file))
            break; /* it has no answer: nothing is read */
        rc = s->ops->file_get(s->self, &m->c->project, needed[i]->z, &f, &m->why);
        *ret_file = *needed[i];
        file_rec_done(&f);
    }
    return rc;
}

static enum rc judge_from(struct making *m, const struct batch *from)
{
    static const char param[] = "continue_from";
    struct id file;
    enum rc rc;

    if (!batch_terminal(from->status))
        return apierr_set(&m->fault, APIERR_VALUE, param,
                          "Cannot continue from batch '%s' with status '%s': it has not "
                          "ended yet.",
                          from->id.z, batch_status_name(from->status));
    if (from->endpoint != m->b.endpoint)
        return apierr_set(&m->fault, APIERR_VALUE, param,
                          "Cannot continue from batch '%s': its endpoint is '%s', and "
                          "this one's is '%s'.",
                          from->id.z, endpoint_path(from->endpoint),
                          endpoint_path(m->b.endpoint));
    rc = files_of(m, from, &file);
    if (rc != RC_NOTFOUND)
        return rc;
    return apierr_set(&m->fault, APIERR_VALUE, param,
                      "Cannot continue from batch '%s': its file '%s' was deleted.",
                      from->id.z, file.z);
}

static enum rc judge_continue(struct making *m)
{
    const struct store *s = m->c->api->opts.store;
    struct batch from = {0};
    enum rc rc;

    if (id_none(&m->b.continue_from))
        return RC_OK;
    rc = s->ops->batch_get(s->self, &m->c->project, m->b.continue_from.z, &from, &m->why);
    if (rc == RC_OK)
        rc = judge_from(m, &from);
    else if (rc == RC_NOTFOUND)
        rc = apierr_set(&m->fault, APIERR_VALUE, "continue_from",
                        "No batch found with id '%s'.", m->b.continue_from.z);
    batch_done(&from);
    return rc;
}

/* --- Adding --------------------------------------------------------------------------
 */

static void set_metadata(struct making *m, struct str raw)
{
    if (raw.p)
        m->b.metadata = mem_dup(raw.p, raw.n);
}

static void set_window(struct making *m, const char *window, int64_t seconds)
{
    CHECK(str_fmt(m->b.window, sizeof m->b.window, "%s", window) == RC_OK);
    m->b.expires_at = m->b.created_at + seconds;
}

static void begin(struct making *m, struct call *c)
{
    *m = (struct making){.c = c};
    m->b.id = id_make(ID_BATCH);
    m->b.project = c->project;
    m->b.status = BATCH_VALIDATING;
    m->b.created_at = clock_wall_sec();
}

static void describe(struct making *m, const struct batch_body *body)
{
    m->b.input_file = body->input_file;
    m->b.endpoint = body->endpoint;
    m->b.output_expires_after = body->output_expires_after;
    m->b.continue_from = body->continue_from;
    m->b.hold = body->sample;
    m->b.priority = body->priority;
    m->b.idle = body->idle;
    m->b.paused = body->paused;
    if (body->callback_url[0])
        m->b.callback_url = mem_dup(body->callback_url, strlen(body->callback_url));
    set_window(m, body->window, body->window_seconds);
    set_metadata(m, body->metadata);
}

static enum rc add(struct making *m)
{
    struct store *s = m->c->api->opts.store;
    struct batch_quota quota;
    enum rc rc;

    quota_batches(m->c, &quota);
    rc = s->ops->batch_add(s->self, &m->b, &quota, &m->first, &m->why);
    if (rc == RC_LIMIT)
        rc = apierr_set(&m->fault, APIERR_TOO_MANY_BATCHES, NULL, "%s", m->why.text);
    if (rc == RC_NOTFOUND) /* between our look at it and this */
        rc = apierr_set(&m->fault, APIERR_VALUE, "continue_from",
                        "No batch found with id '%s'.", m->b.continue_from.z);
    return rc;
}

/* Answers the call, and forgets. */
static void end(struct making *m, enum rc rc)
{
    struct call *c = m->c;

    drop_file(m, rc);
    if (rc == RC_OK) {
        log_info("batch.created",
                 "req=%s batch=%s file=%s endpoint=%s window=%s from=\"%s\"",
                 http_request_id(c->rq), m->b.id.z, m->b.input_file.z,
                 endpoint_path(m->b.endpoint), m->b.window, m->b.continue_from.z);
        engine_submit(c->api->opts.engine, &m->b.id);
        batches_reply(c, &m->b);
    } else if (rc == RC_CONFLICT) {
        answer_again(m);
    } else if (rc == RC_INVALID) {
        call_fail(c, &m->fault);
    } else {
        call_fail_rc(c, rc, &m->why);
    }
    batch_done(&m->b);
    batch_done(&m->first);
}

static struct batch_rules rules_of(const struct call *c)
{
    const struct api_opts *o = &c->api->opts;

    return (struct batch_rules){o->min_window, o->max_window, o->callback_hosts};
}

void batches_create(struct call *c)
{
    struct batch_rules rules = rules_of(c);
    struct batch_body body = {0};
    struct making m;
    enum rc rc;

    begin(&m, c);
    rc = read_key(&m);
    if (rc == RC_OK)
        rc = batch_body_read(http_body(c->rq), &rules, &body, &m.fault);
    if (rc == RC_OK) {
        describe(&m, &body);
        rc = judge_continue(&m);
    }
    if (rc == RC_OK && body.requests.type == JSON_ARRAY) {
        rc = make_file(&m, &body);
    } else if (rc == RC_OK) {
        rc = batches_judge_input(c, &m.b.input_file, &m.fault, &m.why);
        if (rc == RC_NOTFOUND)
            rc = RC_OK;
    }
    if (rc == RC_OK)
        rc = add(&m);
    end(&m, rc);
}

/* --- Retry ---------------------------------------------------------------------------
 */

static enum rc judge_retry(struct making *m, const struct batch *from)
{
    struct store *s = m->c->api->opts.store;
    struct file_rec f = {0};
    struct id file = from->input_file;
    enum rc rc;

    if (!batch_terminal(from->status))
        return apierr_set(&m->fault, APIERR_CONFLICT, NULL,
                          "Cannot retry a batch with status '%s': it has not ended yet.",
                          batch_status_name(from->status));
    if (from->status == BATCH_FAILED)
        return apierr_set(&m->fault, APIERR_CONFLICT, NULL,
                          "Cannot retry a batch with status 'failed': its input was "
                          "refused, so none of its lines ran. Create a batch of an input "
                          "that is mended.");
    if (from->counts.failed == 0)
        return apierr_set(&m->fault, APIERR_CONFLICT, NULL,
                          "Cannot retry batch '%s': it has no line that failed.",
                          from->id.z);
    rc = s->ops->file_get(s->self, &m->c->project, file.z, &f, &m->why);
    file_rec_done(&f);
    if (rc == RC_OK)
        rc = files_of(m, from, &file);
    if (rc != RC_NOTFOUND)
        return rc;
    return apierr_set(&m->fault, APIERR_CONFLICT, NULL,
                      "Cannot retry batch '%s': its file '%s' was deleted.", from->id.z,
                      file.z);
}

/* All as it was asked for the first time, but for what the body says. */
static void describe_retry(struct making *m, const struct batch *from,
                           const struct batch_body *body)
{
    usec_t window = 0;

    m->b.input_file = from->input_file;
    m->b.endpoint = from->endpoint;
    m->b.output_expires_after = from->output_expires_after;
    m->b.continue_from = from->id;
    m->b.priority = from->priority;
    m->b.idle = from->idle;
    if (from->callback_url)
        m->b.callback_url = mem_dup(from->callback_url, strlen(from->callback_url));
    if (body->window[0]) {
        set_window(m, body->window, body->window_seconds);
    } else {
        CHECK(str_duration(str_of(from->window), &window) == RC_OK);
        set_window(m, from->window, window / USEC_PER_SEC);
    }
    set_metadata(m, body->metadata.p ? body->metadata : str_of(from->metadata));
}

void batches_retry(struct call *c)
{
    struct store *s = c->api->opts.store;
    struct batch_rules rules = rules_of(c);
    struct batch from = {0};
    struct batch_body body;
    struct making m;
    struct id id;
    enum rc rc;

    if (id_from(c->var, &id) != RC_OK) {
        batches_not_found(c);
        return;
    }
    begin(&m, c);
    rc = s->ops->batch_get(s->self, &c->project, id.z, &from, &m.why);
    if (rc == RC_NOTFOUND) {
        batches_not_found(c);
        return;
    }
    if (rc == RC_OK)
        rc = read_key(&m);
    if (rc == RC_OK)
        rc = batch_body_read_retry(http_body(c->rq), &rules, &body, &m.fault);
    if (rc == RC_OK)
        rc = judge_retry(&m, &from);
    if (rc == RC_OK) {
        describe_retry(&m, &from, &body);
        rc = add(&m);
    }
    batch_done(&from);
    end(&m, rc);
}
