/* SPDX-License-Identifier: Apache-2.0 */
#include "api/uploads.h"
#include "api/call.h"
#include "api/join.h"
#include "api/quota.h"
#include "api/upload_body.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/pool.h"
#include "json/json.h"

#include <stdatomic.h>
#include <stdlib.h>

/* API reference, the Upload object: it ends an hour after it was made. */
#define UPLOAD_SECONDS 3600

static const struct form_field fields[] = {{"data", NULL, true}};

const struct form_spec part_form = {
    .what = "A part", .fields = fields, .n_fields = COUNTOF(fields)};

/* --- Answers -------------------------------------------------------------------------
 */

static void put_upload(const struct upload_rec *u, const struct file_rec *file,
                       struct buf *out)
{
    struct json_writer w;
    struct buf object;

    jw_init(&w, out);
    jw_open(&w, NULL, '{');
    jw_z(&w, "id", u->id.z);
    jw_z(&w, "object", "upload");
    jw_i64(&w, "bytes", (int64_t)u->bytes);
    jw_i64(&w, "created_at", u->created_at);
    jw_z(&w, "filename", u->filename);
    jw_z(&w, "purpose", u->purpose);
    jw_z(&w, "status", upload_status_name(u->status));
    jw_i64(&w, "expires_at", u->expires_at);
    if (file) {
        buf_init(&object, CALL_ANSWER_MAX);
        file_put_json(file, &object);
        jw_raw(&w, "file", buf_peek(&object));
        buf_done(&object);
    } else {
        jw_null(&w, "file");
    }
    jw_close(&w, '}');
}

/* file NULL: it is looked up.  One that was deleted meanwhile is null. */
static void reply_upload(struct call *c, const struct upload_rec *u,
                         const struct file_rec *file)
{
    struct store *s = c->api->opts.store;
    struct file_rec found = {0};
    struct err e = {0};
    struct buf body;
    enum rc rc = RC_OK;

    if (!file && u->status == UPLOAD_COMPLETED) {
        rc = s->ops->file_get(s->self, &c->project, u->file.z, &found, &e);
        file = rc == RC_OK ? &found : NULL;
    }
    if (rc == RC_OK || rc == RC_NOTFOUND) {
        buf_init(&body, CALL_ANSWER_MAX);
        put_upload(u, file, &body);
        call_reply_json(c, &body);
    } else {
        call_fail_rc(c, rc, &e);
    }
    file_rec_done(&found);
}

static void not_found(struct call *c)
{
    call_fail_as(c, APIERR_NOT_FOUND, "upload_id", "No such Upload object: %.*s",
                 APIERR_SHOW(c->var));
}

static void fail(struct call *c, enum rc rc, const struct err *e)
{
    if (rc == RC_NOTFOUND)
        not_found(c);
    else if (rc == RC_LIMIT)
        quota_refuse(c, e);
    else
        call_fail_rc(c, rc, e);
}

/* A 400, which no SDK tries again: the status will not change back. */
static void wrong_status(struct call *c, const char *what, enum upload_status status)
{
    call_fail_as(c, APIERR_BAD_REQUEST, NULL, "%s an upload with status '%s'.", what,
                 upload_status_name(status));
}

/* The upload that the path names, with the status that it has now. */
static enum rc find(const struct call *c, struct upload_rec *ret, struct err *e)
{
    struct store *s = c->api->opts.store;
    struct id id;
    enum rc rc = id_from(c->var, &id);

    *ret = (struct upload_rec){0};
    /* What cannot be an id names nothing. */
    rc = rc == RC_OK ? s->ops->upload_get(s->self, &c->project, id.z, ret, e)
                     : RC_NOTFOUND;
    if (rc == RC_OK)
        ret->status = upload_status_at(ret, clock_due_sec());
    return rc;
}

/* --- Create --------------------------------------------------------------------------
 */

static void describe(const struct call *c, const struct upload_body *body,
                     struct upload_rec *u)
{
    *u = (struct upload_rec){.id = id_make(ID_UPLOAD),
                             .project = c->project,
                             .status = UPLOAD_PENDING,
                             .filename = mem_dup(body->filename, strlen(body->filename)),
                             .bytes = body->bytes,
                             .created_at = clock_wall_sec(),
                             .file_expires_after = body->file_expires_after};
    CHECK(str_fmt(u->purpose, sizeof u->purpose, "%s", body->purpose) == RC_OK);
    u->expires_at = u->created_at + UPLOAD_SECONDS;
}

void uploads_create(struct call *c)
{
    struct store *s = c->api->opts.store;
    struct upload_rules rules = {c->api->opts.max_upload_bytes,
                                 c->api->opts.max_file_bytes};
    struct upload_body body = {0};
    struct upload_rec u = {0};
    struct apierr fault;
    struct err e = {0};
    enum rc rc = upload_body_read(http_body(c->rq), &rules, &body, &fault);

    if (rc == RC_OK)
        rc = quota_room(c, body.bytes, &fault, &e);
    if (rc == RC_OK) {
        describe(c, &body, &u);
        rc = s->ops->upload_add(s->self, &u, &e);
        CHECK(rc != RC_INVALID); /* a new id */
    }
    if (rc == RC_OK) {
        log_info("upload.created", "req=%s upload=%s purpose=%s bytes=%llu",
                 http_request_id(c->rq), u.id.z, u.purpose, (unsigned long long)u.bytes);
        reply_upload(c, &u, NULL);
    } else if (rc == RC_INVALID) {
        call_fail(c, &fault);
    } else {
        call_fail_rc(c, rc, &e);
    }
    upload_rec_done(&u);
    upload_body_done(&body);
}

/* --- Parts ---------------------------------------------------------------------------
 */

static void reply_part(struct call *c, const struct part_rec *p, const struct id *upload)
{
    struct json_writer w;
    struct buf body;

    buf_init(&body, CALL_ANSWER_MAX);
    jw_init(&w, &body);
    jw_open(&w, NULL, '{');
    jw_z(&w, "id", p->id.z);
    jw_z(&w, "object", "upload.part");
    jw_i64(&w, "created_at", p->created_at);
    jw_z(&w, "upload_id", upload->z);
    jw_close(&w, '}');
    call_reply_json(c, &body);
}

/* Bytes first, then the row that makes them a part. */
static enum rc publish_part(struct call *c, const struct id *upload, struct part_rec *p,
                            struct err *e)
{
    struct store *s = c->api->opts.store;
    struct blobs *b = c->api->opts.blobs;
    struct file_quota q;
    struct blob_sum sum;
    enum rc rc;

    *p = (struct part_rec){.id = id_make(ID_PART)};
    rc = form_commit(c->form, &p->id, &sum, e);
    if (rc == RC_OK) {
        p->bytes = sum.bytes;
        memcpy(p->sha256, sum.sha256, sizeof p->sha256);
        p->created_at = clock_wall_sec();
        quota_of(c, &q);
        rc = s->ops->part_add(s->self, &c->project, upload->z, p, &q, e);
        CHECK(rc != RC_INVALID); /* a new id */
        /* As in files.c: a dead store may have committed the row. */
        if (rc == RC_IO || rc == RC_CORRUPT)
            return rc;
    }
    if (rc != RC_OK)
        IGNORE(b->ops->remove(b->self, p->id.z, NULL)); /* stray bytes are collected */
    return rc;
}

/* It was pending a moment ago and is no more. */
static void tell_end(struct call *c, const char *what)
{
    struct upload_rec u;
    struct err e = {0};
    enum rc rc = find(c, &u, &e);

    if (rc == RC_OK)
        wrong_status(c, what, u.status);
    else
        fail(c, rc, &e);
    upload_rec_done(&u);
}

void uploads_part(struct call *c)
{
    static const char what[] = "Cannot add a part to";
    struct form_blob blob;
    struct upload_rec u;
    struct part_rec p;
    struct apierr fault;
    struct err e = {0};
    enum rc rc = find(c, &u, &e);

    if (rc != RC_OK) {
        fail(c, rc, &e);
    } else if (u.status != UPLOAD_PENDING) {
        wrong_status(c, what, u.status);
    } else if ((rc = form_end(c->form, &blob, &fault, &e)) == RC_INVALID) {
        call_fail(c, &fault);
    } else if (rc == RC_OK && blob.bytes == 0) {
        call_fail_as(c, APIERR_BAD_REQUEST, "data", "The part is empty.");
    } else {
        if (rc == RC_OK)
            rc = publish_part(c, &u.id, &p, &e);
        if (rc == RC_OK)
            reply_part(c, &p, &u.id);
        else if (rc == RC_CONFLICT)
            tell_end(c, what);
        else
            fail(c, rc, &e);
    }
    upload_rec_done(&u);
}

/* --- The end of an upload ------------------------------------------------------------
 */

/* The bytes go at once; the rows, which cost a commit each, with the housekeeping. */
static void drop_parts(struct call *c, const struct id *upload)
{
    struct store *s = c->api->opts.store;
    struct blobs *b = c->api->opts.blobs;
    struct part_rec *parts = NULL;
    size_t n = 0;

    if (s->ops->part_list(s->self, &c->project, upload->z, &parts, &n, NULL) != RC_OK)
        return;
    for (size_t i = 0; i < n; i++)
        IGNORE(b->ops->remove(b->self, parts[i].id.z, NULL)); /* tried again there */
    mem_free(parts);
}

static int by_id(const void *a, const void *b)
{
    const struct part_rec *x = a, *y = b;

    return strcmp(x->id.z, y->id.z);
}

/* A part by its name, once.  RC_INVALID: *fault tells. */
static enum rc choose_one(struct part_rec *parts, size_t n, bool *used,
                          const struct id *name, struct join_part *ret,
                          struct apierr *fault)
{
    struct part_rec key = {.id = *name},
                    *p = bsearch(&key, parts, n, sizeof *parts, by_id);

    if (!p)
        return apierr_set(fault, APIERR_VALUE, "part_ids",
                          "Invalid 'part_ids': this upload has no part '%s'.", name->z);
    if (used[p - parts])
        return apierr_set(fault, APIERR_VALUE, "part_ids",
                          "Invalid 'part_ids': part '%s' is named twice.", name->z);
    used[p - parts] = true;
    *ret = (struct join_part){p->id.z, p->bytes};
    return RC_OK;
}

/* The parts that the body names, in its order.  ret has room for body->n_parts. */
static enum rc choose(const struct complete_body *body, const struct upload_rec *u,
                      struct part_rec *parts, size_t n, struct join_part *ret,
                      struct apierr *fault)
{
    bool *used = mem_new_n(bool, n + 1);
    uint64_t sum = 0;
    enum rc rc = RC_OK;

    if (n) /* without any there may be no array */
        qsort(parts, n, sizeof *parts, by_id);
    for (size_t i = 0; i < body->n_parts && rc == RC_OK; i++) {
        rc = choose_one(parts, n, used, &body->parts[i], &ret[i], fault);
        sum += rc == RC_OK ? ret[i].bytes : 0;
    }
    mem_free(used);
    if (rc == RC_OK && sum != u->bytes)
        rc = apierr_set(fault, APIERR_VALUE, "part_ids",
                        "The parts together have %llu bytes, but the upload was made for "
                        "%llu.",
                        (unsigned long long)sum, (unsigned long long)u->bytes);
    return rc;
}

static void put_hex(const uint8_t sum[16], char ret[33])
{
    static const char hex[] = "0123456789abcdef";

    for (int i = 0; i < 16; i++) {
        ret[2 * i] = hex[sum[i] >> 4];
        ret[2 * i + 1] = hex[sum[i] & 15];
    }
    ret[32] = '\0';
}

static enum rc check_md5(const struct complete_body *body, const uint8_t got[16],
                         struct apierr *fault)
{
    char want_hex[33], got_hex[33];

    if (!body->has_md5 || memcmp(got, body->md5, sizeof body->md5) == 0)
        return RC_OK;
    put_hex(body->md5, want_hex);
    put_hex(got, got_hex);
    return apierr_set(fault, APIERR_VALUE, "md5",
                      "The MD5 sum of the parts in this order is '%s', not '%s'.",
                      got_hex, want_hex);
}

static void describe_file(const struct call *c, const struct upload_rec *u,
                          struct file_rec *f)
{
    int64_t expires = u->file_expires_after;

    *f = (struct file_rec){.id = id_make(ID_FILE),
                           .project = c->project,
                           .filename = mem_dup(u->filename, strlen(u->filename)),
                           .created_at = clock_wall_sec()};
    memcpy(f->purpose, u->purpose, sizeof f->purpose);
    if (!expires && strcmp(f->purpose, "batch") == 0)
        expires = c->api->opts.file_expires;
    f->expires_at = expires ? f->created_at + expires : 0;
}

/* The server is stopping, or may keep nothing any more. */
static bool stopping(void *ctx)
{
    const struct api *a = ctx;

    return atomic_load(&a->refused) != NULL;
}

/* The bytes of the chosen parts, published under f->id.  RC_INVALID: *fault tells. */
static enum rc write_file(struct call *c, const struct complete_body *body,
                          const struct join_part *parts, struct file_rec *f,
                          struct apierr *fault, struct err *e)
{
    struct blobs *b = c->api->opts.blobs;
    struct blob_put *put = NULL;
    struct blob_sum sum;
    uint8_t md5[16];
    struct join join = {.blobs = b,
                        .parts = parts,
                        .n = body->n_parts,
                        .md5 = body->has_md5 ? md5 : NULL,
                        .stop = stopping,
                        .ctx = c->api};
    enum rc rc = join_parts(&join, &put, e);

    if (rc == RC_CANCELLED)
        return apierr_set(fault, APIERR_UNAVAILABLE, NULL,
                          "The server is stopping. The upload is as it was: complete it "
                          "again when the server is back.");
    if (rc != RC_OK)
        return rc;
    rc = check_md5(body, md5, fault);
    if (rc != RC_OK) {
        b->ops->abort(put);
        return rc;
    }
    rc = b->ops->commit(put, f->id.z, &sum, e);
    if (rc != RC_OK)
        return rc;
    f->bytes = sum.bytes;
    memcpy(f->sha256, sum.sha256, sizeof f->sha256);
    return RC_OK;
}

/* RC_CONFLICT: *u is the upload as somebody else ended it. */
static enum rc end_completed(struct call *c, const struct file_rec *f,
                             struct upload_rec *u, struct err *e)
{
    struct store *s = c->api->opts.store;
    struct blobs *b = c->api->opts.blobs;
    struct upload_rec now = {0};
    struct file_quota q;
    enum rc rc;

    quota_of(c, &q);
    rc = s->ops->upload_move(s->self, &c->project, u->id.z, UPLOAD_COMPLETED,
                             clock_due_sec(), f, &q, &now, e);
    CHECK(rc != RC_INVALID); /* a new id */
    /* As in files.c: a dead store may have committed the row. */
    if (rc != RC_OK && rc != RC_IO && rc != RC_CORRUPT)
        IGNORE(b->ops->remove(b->self, f->id.z, NULL)); /* stray bytes are collected */
    if (rc == RC_OK || rc == RC_CONFLICT) {
        upload_rec_done(u);
        *u = now;
    }
    return rc;
}

static bool still_pending(const struct call *c)
{
    struct upload_rec u;
    bool pending = find(c, &u, NULL) == RC_OK && u.status == UPLOAD_PENDING;

    upload_rec_done(&u);
    return pending;
}

/* Of a pending upload.  Answers for what goes wrong, but for RC_CONFLICT: somebody else
 * has ended it. */
static enum rc make_file(struct call *c, const struct complete_body *body,
                         struct upload_rec *u, struct file_rec *f)
{
    struct store *s = c->api->opts.store;
    struct join_part *chosen = mem_new_n(struct join_part, body->n_parts);
    struct part_rec *parts = NULL;
    struct apierr fault;
    struct err e = {0};
    size_t n = 0;
    enum rc rc = s->ops->part_list(s->self, &c->project, u->id.z, &parts, &n, &e);

    if (rc == RC_OK)
        rc = choose(body, u, parts, n, chosen, &fault);
    if (rc == RC_INVALID && !still_pending(c))
        rc = RC_CONFLICT; /* rows go with the housekeeping */
    if (rc == RC_OK) {
        describe_file(c, u, f);
        rc = write_file(c, body, chosen, f, &fault, &e);
        /* Bytes go with the end of the upload. */
        if (rc == RC_NOTFOUND)
            rc = RC_CONFLICT;
        else if (rc == RC_OK)
            rc = end_completed(c, f, u, &e);
    }
    if (rc == RC_INVALID)
        call_fail(c, &fault);
    else if (rc != RC_OK && rc != RC_CONFLICT)
        fail(c, rc, &e);
    mem_free(parts);
    mem_free(chosen);
    return rc;
}

/* An upload that is not pending: whoever sends a complete again gets what it made. */
static void reply_ended(struct call *c, const struct upload_rec *u)
{
    if (u->status == UPLOAD_COMPLETED)
        reply_upload(c, u, NULL);
    else
        wrong_status(c, "Cannot complete", u->status);
}

/* Somebody else ended the upload while its file was being made. */
static void reply_winner(struct call *c)
{
    struct upload_rec u;
    struct err e = {0};
    enum rc rc = find(c, &u, &e);

    if (rc == RC_OK && u.status == UPLOAD_PENDING)
        rc = err_set(&e, RC_CORRUPT, "the bytes of a part of upload %s are lost", u.id.z);
    if (rc == RC_OK)
        reply_ended(c, &u);
    else
        fail(c, rc, &e);
    upload_rec_done(&u);
}

static void complete(struct call *c, const struct complete_body *body,
                     struct upload_rec *u)
{
    struct file_rec f = {0};
    enum rc rc = make_file(c, body, u, &f);

    if (rc == RC_OK) {
        log_info("upload.completed", "req=%s upload=%s file=%s parts=%zu bytes=%llu",
                 http_request_id(c->rq), u->id.z, f.id.z, body->n_parts,
                 (unsigned long long)f.bytes);
        count_upload(c->api->counts, f.bytes);
        drop_parts(c, &u->id);
        reply_upload(c, u, &f);
    } else if (rc == RC_CONFLICT) {
        reply_winner(c);
    }
    file_rec_done(&f);
}

/* Up to here joining takes a moment (measured: 54 ms with its syncs; 3 s a gigabyte). */
#define JOIN_AT_ONCE (16u << 20)

struct completion {
    struct pool_job job;
    struct call *c;
    struct complete_body body;
    struct upload_rec u;
};

static void run_completion(struct pool_job *job)
{
    struct completion *x = CONTAINER_OF(job, struct completion, job);

    complete(x->c, &x->body, &x->u); /* answers: x->c is not ours behind it */
    upload_rec_done(&x->u);
    complete_body_done(&x->body);
    mem_free(x);
}

/* Joining gigabytes would hold a worker for a minute, and four of them the whole API.
 * Takes over what body and u own. */
static void complete_apart(struct call *c, struct complete_body *body,
                           struct upload_rec *u)
{
    struct completion *x = mem_new(struct completion);

    *x = (struct completion){{.run = run_completion}, c, *body, *u};
    *body = (struct complete_body){0};
    *u = (struct upload_rec){0};
    pool_submit(c->api->slow, &x->job);
}

void uploads_complete(struct call *c)
{
    struct complete_body body = {0};
    struct upload_rec u = {0};
    struct apierr fault;
    struct err e = {0};
    enum rc rc = complete_body_read(http_body(c->rq), UPLOAD_PARTS_MAX, &body, &fault);

    if (rc != RC_OK) {
        call_fail(c, &fault);
        return;
    }
    rc = find(c, &u, &e);
    if (rc != RC_OK)
        fail(c, rc, &e);
    else if (u.status != UPLOAD_PENDING)
        reply_ended(c, &u);
    else if (u.bytes > JOIN_AT_ONCE && c->api->slow)
        complete_apart(c, &body, &u);
    else
        complete(c, &body, &u);
    upload_rec_done(&u);
    complete_body_done(&body);
}

void uploads_cancel(struct call *c)
{
    struct store *s = c->api->opts.store;
    struct upload_rec u = {0};
    struct err e = {0};
    struct id id;
    enum rc rc = id_from(c->var, &id);

    rc = rc == RC_OK ? s->ops->upload_move(s->self, &c->project, id.z, UPLOAD_CANCELLED,
                                           clock_due_sec(), NULL, NULL, &u, &e)
                     : RC_NOTFOUND;
    if (rc == RC_OK) {
        log_info("upload.cancelled", "req=%s upload=%s", http_request_id(c->rq), id.z);
        drop_parts(c, &id);
        reply_upload(c, &u, NULL);
    } else if (rc != RC_CONFLICT) {
        fail(c, rc, &e);
    } else if (u.status == UPLOAD_CANCELLED) { /* sent again */
        reply_upload(c, &u, NULL);
    } else {
        wrong_status(c, "Cannot cancel", u.status);
    }
    upload_rec_done(&u);
}
