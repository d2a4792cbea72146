/* SPDX-License-Identifier: Apache-2.0 */
#include "api/files.h"
#include "api/call.h"
#include "api/quota.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "json/json.h"

void file_put_json(const struct file_rec *f, struct buf *out)
{
    struct json_writer w;

    jw_init(&w, out);
    jw_open(&w, NULL, '{');
    jw_z(&w, "id", f->id.z);
    jw_z(&w, "object", "file");
    jw_i64(&w, "bytes", (int64_t)f->bytes);
    jw_i64(&w, "created_at", f->created_at);
    jw_time(&w, "expires_at", f->expires_at);
    jw_z(&w, "filename", f->filename);
    jw_z(&w, "purpose", f->purpose);
    jw_z(&w, "status", "processed");
    jw_null(&w, "status_details");
    jw_close(&w, '}');
}

static void reply_file(struct call *c, const struct file_rec *f)
{
    struct buf body;

    buf_init(&body, CALL_ANSWER_MAX);
    file_put_json(f, &body);
    call_reply_json(c, &body);
}

static void not_found(struct call *c)
{
    call_fail_as(c, APIERR_NOT_FOUND, "id", "No such File object: %.*s",
                 APIERR_SHOW(c->var));
}

enum rc files_find(struct call *c, struct file_rec *ret)
{
    struct store *s = c->api->opts.store;
    struct err e = {0};
    struct id id;
    enum rc rc = id_from(c->var, &id);

    *ret = (struct file_rec){0};
    /* What cannot be an id names nothing. */
    rc =
        rc == RC_OK ? s->ops->file_get(s->self, &c->project, id.z, ret, &e) : RC_NOTFOUND;
    if (rc == RC_NOTFOUND)
        not_found(c);
    else if (rc != RC_OK)
        call_fail_rc(c, rc, &e);
    return rc;
}

/* --- Upload --------------------------------------------------------------------------
 */

enum field { FIELD_FILE, FIELD_PURPOSE, FIELD_ANCHOR, FIELD_SECONDS, FIELDS };

static enum rc take_purpose(void *into, struct str v, struct apierr *e)
{
    struct file_fields *to = into;

    return file_purpose(v, to->purpose, e);
}

static enum rc take_anchor(void *into, struct str v, struct apierr *e)
{
    (void)into;
    if (str_is(v, "created_at"))
        return RC_OK;
    return apierr_set(e, APIERR_VALUE, "expires_after[anchor]",
                      "Invalid value: '%.*s'. Supported values are: 'created_at'.",
                      APIERR_SHOW(v));
}

static enum rc take_seconds(void *into, struct str v, struct apierr *e)
{
    static const char name[] = "expires_after[seconds]";
    struct file_fields *to = into;
    enum rc rc = str_u64(v, &to->seconds);

    if (rc == RC_INVALID)
        return apierr_set(e, APIERR_TYPE, name,
                          "Invalid type for '%s': expected a whole number of seconds.",
                          name);
    if (rc == RC_LIMIT)
        to->seconds = UINT64_MAX;
    return file_expires(to->seconds, name, e);
}

static const struct form_field fields[FIELDS] = {
    [FIELD_FILE] = {"file", NULL, true},
    [FIELD_PURPOSE] = {"purpose", take_purpose, true},
    [FIELD_ANCHOR] = {"expires_after[anchor]", take_anchor, false},
    [FIELD_SECONDS] = {"expires_after[seconds]", take_seconds, false},
};

const struct form_spec files_form = {
    .what = "A file upload", .fields = fields, .n_fields = FIELDS, .named = true};

/* What no field alone can tell. */
static enum rc judge(const struct call *c, const struct form_blob *blob, struct apierr *e)
{
    bool anchor = form_has(c->form, FIELD_ANCHOR),
         seconds = form_has(c->form, FIELD_SECONDS);
    const char *name = fields[anchor ? FIELD_SECONDS : FIELD_ANCHOR].name;
    enum rc rc;

    if (anchor != seconds)
        return apierr_set(e, APIERR_MISSING, name, "Missing required parameter: '%s'.",
                          name);
    rc = file_suits(c->file.purpose, blob->filename, "file", e);
    if (rc == RC_OK && blob->bytes == 0)
        rc = apierr_set(e, APIERR_BAD_REQUEST, "file", "The file is empty.");
    return rc;
}

static void describe(const struct call *c, const struct form_blob *blob,
                     struct file_rec *f)
{
    int64_t expires = (int64_t)c->file.seconds;

    *f = (struct file_rec){
        .id = id_make(ID_FILE), .project = c->project, .created_at = clock_wall_sec()};
    f->filename = mem_dup(blob->filename, strlen(blob->filename));
    CHECK(str_fmt(f->purpose, sizeof f->purpose, "%s", c->file.purpose) == RC_OK);
    if (!expires && strcmp(f->purpose, "batch") == 0)
        expires = c->api->opts.file_expires;
    f->expires_at = expires ? f->created_at + expires : 0;
}

/* Bytes first, then the row that makes them visible. */
static enum rc publish(struct call *c, struct file_rec *f, struct err *why)
{
    struct store *s = c->api->opts.store;
    struct blobs *b = c->api->opts.blobs;
    struct file_quota q;
    struct blob_sum sum;
    enum rc rc = form_commit(c->form, &f->id, &sum, why);

    if (rc == RC_OK) {
        f->bytes = sum.bytes;
        memcpy(f->sha256, sum.sha256, sizeof f->sha256);
        quota_of(c, &q);
        rc = s->ops->file_add(s->self, f, &q, why);
        /* A dead store may have committed the row before it died: then the row needs its
         * bytes, and if it has not, the collection of stray bytes takes them. */
        if (rc == RC_IO || rc == RC_CORRUPT)
            return rc;
    }
    if (rc != RC_OK)
        IGNORE(b->ops->remove(b->self, f->id.z, NULL)); /* stray bytes are collected */
    return rc;
}

void files_create(struct call *c)
{
    struct form_blob blob;
    struct file_rec f;
    struct apierr fault;
    struct err why = {0};
    enum rc rc = form_end(c->form, &blob, &fault, &why);

    if (rc == RC_OK)
        rc = judge(c, &blob, &fault);
    if (rc == RC_OK) /* before the bytes are synced for nothing */
        rc = quota_room(c, blob.bytes, &fault, &why);
    if (rc == RC_INVALID) {
        call_fail(c, &fault);
        return;
    }
    if (rc != RC_OK) {
        call_fail_rc(c, rc, &why);
        return;
    }
    describe(c, &blob, &f);
    rc = publish(c, &f, &why);
    if (rc == RC_OK) {
        count_upload(c->api->counts, f.bytes);
        log_info("file.created", "req=%s file=%s purpose=%s bytes=%llu",
                 http_request_id(c->rq), f.id.z, f.purpose, (unsigned long long)f.bytes);
        reply_file(c, &f);
    } else if (rc == RC_LIMIT) {
        quota_refuse(c, &why);
    } else {
        call_fail_rc(c, rc, &why);
    }
    file_rec_done(&f);
}

/* --- The rest ------------------------------------------------------------------------
 */

void files_get(struct call *c)
{
    struct file_rec f;

    if (files_find(c, &f) == RC_OK)
        reply_file(c, &f);
    file_rec_done(&f);
}

void files_delete(struct call *c)
{
    struct store *s = c->api->opts.store;
    struct json_writer w;
    struct buf body;
    struct err e = {0};
    struct id id;
    enum rc rc = id_from(c->var, &id);

    rc = rc == RC_OK
             ? s->ops->file_delete(s->self, &c->project, id.z, clock_wall_sec(), &e)
             : RC_NOTFOUND;
    if (rc == RC_NOTFOUND) {
        not_found(c);
        return;
    }
    if (rc != RC_OK) {
        call_fail_rc(c, rc, &e);
        return;
    }
    log_info("file.deleted", "req=%s file=%s", http_request_id(c->rq), id.z);
    buf_init(&body, CALL_ANSWER_MAX);
    jw_init(&w, &body);
    jw_open(&w, NULL, '{');
    jw_z(&w, "id", id.z);
    jw_z(&w, "object", "file");
    jw_bool(&w, "deleted", true);
    jw_close(&w, '}');
    call_reply_json(c, &body);
}

/* What the query of a list asks for; q borrows from purpose and after. */
struct list_query {
    struct file_query q;
    struct id after;
    char purpose[32];
    bool nothing; /* names a purpose that no file can have */
};

static enum rc read_order(struct call *c, bool *ret_ascending, struct apierr *e)
{
    struct str order = http_query(c->rq, "order");

    if (order.n && !str_is(order, "asc") && !str_is(order, "desc"))
        return apierr_set(
            e, APIERR_VALUE, "order",
            "Invalid value: '%.*s'. Supported values are: 'asc' and 'desc'.",
            APIERR_SHOW(order));
    *ret_ascending = str_is(order, "asc");
    return RC_OK;
}

static enum rc no_after(struct call *c, struct apierr *e)
{
    struct str after = http_query(c->rq, "after");

    return apierr_set(e, APIERR_VALUE, "after", "No such File object: %.*s",
                      APIERR_SHOW(after));
}

static enum rc read_query(struct call *c, struct list_query *l, struct apierr *e)
{
    struct str purpose = http_query(c->rq, "purpose");
    enum rc rc = call_limit(c, LIMIT_FILE_LIST, LIMIT_FILE_LIST, &l->q.limit, e);

    if (rc == RC_OK)
        rc = read_order(c, &l->q.ascending, e);
    if (rc == RC_OK && call_after(c, &l->after) != RC_OK)
        rc = no_after(c, e);
    if (rc != RC_OK)
        return rc;
    l->q.project = &c->project;
    l->q.after = id_none(&l->after) ? NULL : l->after.z;
    if (purpose.n == 0)
        return RC_OK;
    l->nothing = purpose.n >= sizeof l->purpose || memchr(purpose.p, '\0', purpose.n);
    if (!l->nothing) {
        memcpy(l->purpose, purpose.p, purpose.n); /* NUL behind: zeroed by the caller */
        l->q.purpose = l->purpose;
    }
    return RC_OK;
}

static const char *put_item(const void *items, size_t i, struct buf *out)
{
    const struct file_rec *one = (const struct file_rec *)items + i;

    if (out)
        file_put_json(one, out);
    return one->id.z;
}

void files_list(struct call *c)
{
    struct store *s = c->api->opts.store;
    struct list_query l = {0};
    struct file_rec *files = NULL;
    struct apierr fault;
    struct err e = {0};
    size_t n = 0;
    bool more = false;
    enum rc rc = read_query(c, &l, &fault);

    if (rc == RC_OK && !l.nothing)
        rc = s->ops->file_list(s->self, &l.q, &files, &n, &more, &e);
    if (rc == RC_NOTFOUND)
        rc = no_after(c, &fault);
    if (rc == RC_INVALID)
        call_fail(c, &fault);
    else if (rc != RC_OK)
        call_fail_rc(c, rc, &e);
    else
        call_reply_list(c, put_item, files, n, more);
    for (size_t i = 0; i < n; i++)
        file_rec_done(&files[i]);
    mem_free(files);
}
