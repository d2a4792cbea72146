/* SPDX-License-Identifier: Apache-2.0 */
#include "api/form.h"
#include "api/file_rules.h"
#include "base/mem.h"
#include "http/multipart.h"

struct form {
    struct form_opts o;
    struct multipart *parser;
    struct blob_put *put; /* between the blob field's head and the commit */
    size_t field;         /* of the part that is being read; n_fields: another one */
    bool seen[FORM_FIELDS];
    struct buf value; /* of a small field */
    uint64_t bytes;
    char *filename;
    enum rc rc; /* the first failure: RC_INVALID: `fault`; else `why` */
    struct apierr fault;
    struct err why;
};

#define FAULT(f, ...) ((f)->rc = apierr_set(&(f)->fault, __VA_ARGS__))

static void drop_blob(struct form *f)
{
    if (f->put)
        f->o.blobs->ops->abort(f->put);
    f->put = NULL;
}

/* NULL: none of ours. */
static const struct form_field *current(const struct form *f)
{
    return f->field < f->o.spec->n_fields ? &f->o.spec->fields[f->field] : NULL;
}

/* --- Parts ---------------------------------------------------------------------------
 */

static size_t field_of(const struct form_spec *spec, struct str name)
{
    size_t i = 0;

    while (i < spec->n_fields && !str_is(name, spec->fields[i].name))
        i++;
    return i;
}

static enum rc take_filename(struct form *f, const char *field, struct str name)
{
    if (name.n)
        return f->rc =
                   file_name(name, field, &f->filename, &f->fault); /* of either kind */
    if (!f->o.spec->named)
        return RC_OK;
    return FAULT(f, APIERR_BAD_REQUEST, field,
                 "The '%s' part has no filename. Send it as a file, as "
                 "curl -F %s=@requests.jsonl does.",
                 field, field);
}

static enum rc on_begin(void *ctx, const struct multipart_part *part)
{
    struct form *f = ctx;
    const struct form_field *field;

    f->field = field_of(f->o.spec, part->name);
    field = current(f);
    if (!field)
        return RC_OK;
    if (f->seen[f->field])
        return FAULT(f, APIERR_BAD_REQUEST, field->name,
                     "The form has more than one '%s'.", field->name);
    f->seen[f->field] = true;
    buf_reset(&f->value);
    if (field->take || take_filename(f, field->name, part->filename) != RC_OK)
        return f->rc;
    return f->rc = f->o.blobs->ops->put(f->o.blobs->self, &f->put, &f->why);
}

static enum rc on_data(void *ctx, struct str piece)
{
    struct form *f = ctx;
    const struct form_field *field = current(f);

    if (!field)
        return RC_OK;
    if (field->take) {
        if (buf_str(&f->value, piece) == RC_OK)
            return RC_OK;
        return FAULT(f, APIERR_TOO_LONG, field->name, "The value of '%s' is too long.",
                     field->name);
    }
    if (piece.n > f->o.max_bytes - f->bytes)
        return FAULT(f, APIERR_FILE_TOO_LARGE, field->name, "%s", f->o.too_large);
    f->bytes += piece.n;
    return f->rc = f->o.blobs->ops->write(f->put, piece.p, piece.n, &f->why);
}

static enum rc on_end(void *ctx)
{
    struct form *f = ctx;
    const struct form_field *field = current(f);

    if (field && field->take)
        f->rc = field->take(f->o.into, str_trim(buf_peek(&f->value)), &f->fault);
    return f->rc;
}

/* --- The whole -----------------------------------------------------------------------
 */

struct form *form_new(const struct form_opts *o, struct str content_type)
{
    struct form *f = mem_new(struct form);
    struct multipart_events ev = {f, on_begin, on_data, on_end};
    struct err e = {0};

    CHECK(o->spec->n_fields <= FORM_FIELDS);
    f->o = *o;
    f->field = o->spec->n_fields;
    buf_init(&f->value,
             256); /* the longest good value has 13 bytes; room to quote a bad one */
    if (multipart_new(content_type, &ev, &f->parser, &e) != RC_OK)
        FAULT(f, APIERR_BAD_REQUEST, NULL,
              "%s must be sent as multipart/form-data with a boundary: %s", o->spec->what,
              e.text);
    return f;
}

struct form *form_free(struct form *f)
{
    if (!f)
        return NULL;
    drop_blob(f);
    multipart_free(f->parser);
    buf_done(&f->value);
    mem_free(f->filename);
    mem_free(f);
    return NULL;
}

/* rc is the parser's word; a failure that is not ours already is the form's. */
static enum rc settle(struct form *f, enum rc rc)
{
    if (rc != RC_OK && f->rc == RC_OK) {
        if (rc == RC_NOMEM)
            f->rc = err_set(&f->why, rc, "no memory to read a form");
        else
            FAULT(f, APIERR_BAD_REQUEST, NULL,
                  rc == RC_LIMIT
                      ? "The multipart form has a part whose head is too large."
                      : "The body is not a well-formed multipart form; it may have been "
                        "cut off.");
    }
    if (f->rc != RC_OK)
        drop_blob(
            f); /* the rest of the body will not be needed, so neither is its room */
    return f->rc;
}

enum rc form_feed(struct form *f, struct str piece)
{
    if (f->rc != RC_OK)
        return f->rc;
    return settle(f, multipart_feed(f->parser, piece));
}

static enum rc judge(struct form *f)
{
    for (size_t i = 0; i < f->o.spec->n_fields; i++) {
        const struct form_field *field = &f->o.spec->fields[i];

        if (field->required && !f->seen[i])
            return FAULT(f, APIERR_MISSING, field->name,
                         "Missing required parameter: '%s'.", field->name);
    }
    return RC_OK;
}

enum rc form_end(struct form *f, struct form_blob *ret, struct apierr *e, struct err *why)
{
    if (f->rc == RC_OK && settle(f, multipart_finish(f->parser)) == RC_OK)
        settle(f, judge(f));
    if (f->rc != RC_OK) {
        *e = f->fault;
        *why = f->why;
        return f->rc;
    }
    *ret = (struct form_blob){.filename = f->filename, .bytes = f->bytes};
    return RC_OK;
}

bool form_has(const struct form *f, size_t field)
{
    CHECK(field < f->o.spec->n_fields);
    return f->seen[field];
}

enum rc form_commit(struct form *f, const struct id *id, struct blob_sum *ret,
                    struct err *why)
{
    struct blob_put *put = f->put;

    CHECK(f->rc == RC_OK && put);
    f->put = NULL; /* gone whatever comes */
    return f->o.blobs->ops->commit(put, id->z, ret, why);
}
