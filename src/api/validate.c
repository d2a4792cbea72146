/* SPDX-License-Identifier: Apache-2.0 */
/* batches: POST /v1/batches/validate, a create that makes nothing. */
#include "api/batch_body.h"
#include "api/batches.h"
#include "api/call.h"
#include "api/inline.h"
#include "base/mem.h"
#include "engine/estimate.h"
#include "io/pool.h"

/* A scan reads the whole file: 50 MB a second on a busy core. */
#define SCANS_AT_ONCE 2
/* Up to here on the worker that has the call, above it apart. */
#define SCAN_HERE (4u << 20)

struct check {
    struct pool_job job;
    struct call *c;
    struct batch_body body;
    struct blob *blob;
    struct buf lines; /* of requests in the body */
    uint64_t size;
    struct intake_rules rules;
    struct intake_result result;
    struct estimate estimate;
    char *errors; /* JSON; NULL: none */
    struct apierr fault;
    struct err why;
};

/* A jsonl_read_fn. */
static enum rc read_check(void *ctx, char *dst, size_t cap, uint64_t off, size_t *ret_n)
{
    struct check *k = ctx;
    size_t left = off < k->lines.n ? k->lines.n - (size_t)off : 0;

    if (k->blob)
        return k->c->api->opts.blobs->ops->pread(k->blob, dst, cap, off, ret_n, &k->why);
    *ret_n = cap < left ? cap : left;
    if (*ret_n)
        memcpy(dst, k->lines.p + off, *ret_n);
    return RC_OK;
}

/* A file that is not there makes a batch that fails; so does this one. */
static enum rc open_file(struct check *k)
{
    const struct blobs *blobs = k->c->api->opts.blobs;
    const struct id *file = &k->body.input_file;
    enum rc rc = batches_judge_input(k->c, file, &k->fault, &k->why);

    if (rc == RC_OK)
        rc = blobs->ops->open(blobs->self, file->z, &k->blob, &k->why);
    if (rc == RC_OK)
        k->size = blobs->ops->size(k->blob);
    if (rc != RC_NOTFOUND)
        return rc;
    k->errors = intake_no_file(file->z);
    return RC_OK;
}

static enum rc open_requests(struct check *k)
{
    const struct json_val *r = &k->body.requests;
    enum rc rc;

    buf_init(&k->lines, r->raw.n + (size_t)r->count * 96); /* as in create.c */
    rc = inline_lines(r, k->body.endpoint, &k->lines);
    k->size = k->lines.n;
    return rc == RC_OK ? rc : err_set(&k->why, rc, "no memory for the requests");
}

static enum rc scan(struct check *k)
{
    struct intake_errors *errors = intake_errors_new();
    atomic_bool stop = false;
    enum rc rc;

    k->rules = engine_rules(k->c->api->opts.engine, k->body.endpoint);
    k->rules.each = estimate_add;
    k->rules.each_ctx = &k->estimate;
    rc = intake_scan(read_check, k, k->size, &k->rules, NULL, intake_errors_add, errors,
                     &stop, &k->result, &k->why);
    if (rc == RC_OK && k->result.faults)
        k->errors = intake_errors_json(errors);
    intake_errors_free(errors);
    return rc;
}

static bool known(const struct check *k, const char *name)
{
    const struct intake_rules *r = &k->rules;

    return !*name || !r->model_known || r->model_known(r->model_ctx, str_of(name));
}

static void put_models(struct json_writer *w, const struct check *k)
{
    jw_open(w, "models", '[');
    for (size_t i = 0; i < k->estimate.n_models; i++) {
        const struct estimate_model *m = &k->estimate.models[i];

        jw_open(w, NULL, '{');
        jw_z(w, "model", m->name);
        jw_i64(w, "requests", m->requests);
        jw_bool(w, "known", known(k, m->name));
        jw_close(w, '}');
    }
    jw_close(w, ']');
}

static void put_estimate(struct json_writer *w, const struct estimate *x)
{
    jw_open(w, "estimate", '{');
    jw_i64(w, "input_tokens", (int64_t)x->input_tokens);
    if (x->unlimited)
        jw_null(w, "max_output_tokens");
    else
        jw_i64(w, "max_output_tokens", (int64_t)x->max_output);
    jw_i64(w, "input_bytes", (int64_t)x->input_bytes);
    jw_z(w, "method", ESTIMATE_METHOD);
    jw_close(w, '}');
}

static void answer(struct check *k)
{
    struct json_writer w;
    struct buf body;

    buf_init(&body, CALL_ANSWER_MAX);
    jw_init(&w, &body);
    jw_open(&w, NULL, '{');
    jw_z(&w, "object", "batch.validation");
    jw_bool(&w, "valid", !k->errors);
    jw_z(&w, "endpoint", endpoint_path(k->body.endpoint));
    jw_z(&w, "model", k->result.model);
    put_models(&w, k);
    jw_open(&w, "request_counts", '{');
    jw_i64(&w, "total", k->result.requests);
    jw_close(&w, '}');
    if (k->errors)
        jw_raw(&w, "errors", str_of(k->errors));
    else
        jw_null(&w, "errors");
    put_estimate(&w, &k->estimate);
    jw_close(&w, '}');
    call_reply_json(k->c, &body);
}

static enum rc open_input(struct check *k)
{
    enum rc rc = batch_body_read_input(http_body(k->c->rq), &k->body, &k->fault);

    if (rc == RC_OK)
        rc = k->body.requests.type == JSON_ARRAY ? open_requests(k) : open_file(k);
    return rc;
}

/* The slot is free before the answer is sent: who has it may ask again at once. */
static void end(struct check *k, enum rc rc)
{
    struct call *c = k->c;

    c->api->opts.blobs->ops->close(k->blob);
    atomic_fetch_sub(&c->api->scans, 1);
    if (rc == RC_OK) /* with the answer the call is gone */
        answer(k);
    else if (rc == RC_INVALID)
        call_fail(c, &k->fault);
    else
        call_fail_rc(c, rc, &k->why);
    estimate_done(&k->estimate);
    buf_done(&k->lines);
    mem_free(k->errors);
    mem_free(k);
}

static void run_scan(struct pool_job *job)
{
    struct check *k = CONTAINER_OF(job, struct check, job);

    end(k, scan(k));
}

void batches_validate(struct call *c)
{
    struct check *k;
    enum rc rc;

    if (atomic_fetch_add(&c->api->scans, 1) >= SCANS_AT_ONCE) {
        atomic_fetch_sub(&c->api->scans, 1);
        call_fail_as(c, APIERR_BUSY, NULL,
                     "The server checks %d inputs already. Try again in a moment.",
                     SCANS_AT_ONCE);
        return;
    }
    k = mem_new(struct check);
    k->c = c;
    k->job.run = run_scan;
    estimate_init(&k->estimate);
    rc = open_input(k);
    if (rc != RC_OK || k->errors)
        end(k, rc);
    else if (k->size > SCAN_HERE && c->api->slow)
        pool_submit(c->api->slow, &k->job);
    else
        end(k, scan(k));
}
