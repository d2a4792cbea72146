/* SPDX-License-Identifier: Apache-2.0 */
#include "api/upload.h"
#include "base/limits.h"
#include "base/mem.h"
#include "http/multipart.h"
#include "json/json.h"

/* X(name, form field) */
#define FIELD_LIST(X)                                                                    \
    X(FILE, "file")                                                                      \
    X(PURPOSE, "purpose")                                                                \
    X(ANCHOR, "expires_after[anchor]")                                                   \
    X(SECONDS, "expires_after[seconds]")

enum field {
#define X(name, text) FIELD_##name,
    FIELD_LIST(X)
#undef X
        FIELD_OTHER /* unknown ones are passed over, as the real API does */
};

static const char *const field_names[FIELD_OTHER] = {
#define X(name, text) text,
    FIELD_LIST(X)
#undef X
};

/* The purposes a client may upload for; those that the server makes itself are not among
 * them. */
static const char *const purposes[] = {"fine-tune", "assistants", "batch",
                                       "user_data", "vision",     "evals"};

/* API reference, POST /v1/files, expires_after: an hour to 30 days. */
enum { EXPIRES_MIN = 3600, EXPIRES_MAX = 2592000 };

struct upload {
    struct blobs *blobs;
    struct multipart *form;
    struct blob_put *put; /* between the file part's head and the commit */
    enum field field;     /* of the part that is being read */
    bool seen[FIELD_OTHER];
    struct buf value; /* of a small field */
    uint64_t max, bytes;
    char *filename;
    char purpose[32];
    uint64_t seconds;
    enum rc rc; /* the first failure: RC_INVALID: `fault`; else `why` */
    struct apierr fault;
    struct err why;
};

#define FAULT(u, ...) ((u)->rc = apierr_set(&(u)->fault, __VA_ARGS__))

static void drop_blob(struct upload *u)
{
    if (u->put)
        u->blobs->ops->abort(u->put);
    u->put = NULL;
}

/* --- Parts ---------------------------------------------------------------------------
 */

static enum field field_of(struct str name)
{
    unsigned i = 0;

    while (i < FIELD_OTHER && !str_is(name, field_names[i]))
        i++;
    return (enum field)i;
}

/* A name is data and never a path.  Control bytes, which would end up on terminals and in
 * headers, have been refused by the form's parser. */
static enum rc take_filename(struct upload *u, struct str name)
{
    struct buf json, clean;
    enum rc rc;

    if (name.n == 0)
        return FAULT(u, APIERR_BAD_REQUEST, "file",
                     "The 'file' part has no filename. Send it as a file, as "
                     "curl -F file=@requests.jsonl does.");
    if (name.n > LIMIT_FILENAME)
        return FAULT(u, APIERR_TOO_LONG, "file",
                     "The filename has %zu bytes; the most is %d.", name.n,
                     LIMIT_FILENAME);
    /* Bytes that are not UTF-8 (old tools send Latin-1) become U+FFFD here, once, so that
     * the store, the lists and the download header agree. */
    buf_init(&json, LIMIT_FILENAME * 8);
    buf_init(&clean, LIMIT_FILENAME * 4);
    rc = json_put_str(&json, name);
    if (rc == RC_OK)
        rc = json_unescape(buf_peek(&json), &clean);
    buf_done(&json);
    u->filename = buf_take(&clean, NULL);
    if (rc == RC_OK && u->filename)
        return RC_OK;
    return u->rc = err_set(&u->why, RC_NOMEM, "no memory for a filename");
}

static enum rc begin_file(struct upload *u, struct str filename)
{
    enum rc rc = take_filename(u, filename);

    if (rc != RC_OK)
        return rc;
    return u->rc = u->blobs->ops->put(u->blobs->self, &u->put, &u->why);
}

static enum rc on_begin(void *ctx, const struct multipart_part *part)
{
    struct upload *u = ctx;

    u->field = field_of(part->name);
    if (u->field == FIELD_OTHER)
        return RC_OK;
    if (u->seen[u->field])
        return FAULT(u, APIERR_BAD_REQUEST, field_names[u->field],
                     "The form has more than one '%s'.", field_names[u->field]);
    u->seen[u->field] = true;
    buf_reset(&u->value);
    return u->field == FIELD_FILE ? begin_file(u, part->filename) : RC_OK;
}

static enum rc too_large(struct upload *u)
{
    return FAULT(u, APIERR_FILE_TOO_LARGE, "file", UPLOAD_TOO_LARGE,
                 (unsigned long long)u->max);
}

static enum rc on_data(void *ctx, struct str piece)
{
    struct upload *u = ctx;

    if (u->field == FIELD_OTHER)
        return RC_OK;
    if (u->field != FIELD_FILE) {
        if (buf_str(&u->value, piece) == RC_OK)
            return RC_OK;
        return FAULT(u, APIERR_TOO_LONG, field_names[u->field],
                     "The value of '%s' is too long.", field_names[u->field]);
    }
    if (piece.n > u->max - u->bytes)
        return too_large(u);
    u->bytes += piece.n;
    return u->rc = u->blobs->ops->write(u->put, piece.p, piece.n, &u->why);
}

static enum rc end_purpose(struct upload *u, struct str v)
{
    for (size_t i = 0; i < COUNTOF(purposes); i++) {
        if (str_is(v, purposes[i])) {
            CHECK(v.n < sizeof u->purpose);
            memcpy(u->purpose, purposes[i], v.n + 1);
            return RC_OK;
        }
    }
    return FAULT(u, APIERR_BAD_REQUEST, "purpose",
                 "'%.*s' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', "
                 "'vision', 'evals'] - 'purpose'",
                 APIERR_SHOW(v));
}

static enum rc end_seconds(struct upload *u, struct str v)
{
    const char *name = field_names[FIELD_SECONDS];
    enum rc rc = str_u64(v, &u->seconds);

    if (rc == RC_INVALID)
        return FAULT(u, APIERR_TYPE, name,
                     "Invalid type for '%s': expected a whole number of seconds.", name);
    if (rc == RC_LIMIT || u->seconds > EXPIRES_MAX)
        return FAULT(u, APIERR_TOO_GREAT, name,
                     "Invalid '%s': integer above maximum value. Expected a value <= %d.",
                     name, EXPIRES_MAX);
    if (u->seconds < EXPIRES_MIN)
        return FAULT(u, APIERR_TOO_SMALL, name,
                     "Invalid '%s': integer below minimum value. Expected a value >= %d.",
                     name, EXPIRES_MIN);
    return RC_OK;
}

static enum rc on_end(void *ctx)
{
    struct upload *u = ctx;
    struct str v = str_trim(buf_peek(&u->value));

    if (u->field == FIELD_PURPOSE)
        return end_purpose(u, v);
    if (u->field == FIELD_SECONDS)
        return end_seconds(u, v);
    if (u->field == FIELD_ANCHOR && !str_is(v, "created_at"))
        return FAULT(u, APIERR_VALUE, field_names[FIELD_ANCHOR],
                     "Invalid value: '%.*s'. Supported values are: 'created_at'.",
                     APIERR_SHOW(v));
    return RC_OK;
}

/* --- The whole -----------------------------------------------------------------------
 */

struct upload *upload_new(struct blobs *blobs, uint64_t max_bytes,
                          struct str content_type)
{
    struct upload *u = mem_new(struct upload);
    struct multipart_events ev = {u, on_begin, on_data, on_end};
    struct err e = {0};

    u->blobs = blobs;
    u->max = max_bytes;
    u->field = FIELD_OTHER;
    buf_init(&u->value,
             256); /* the longest good value has 13 bytes; room to quote a bad one */
    if (multipart_new(content_type, &ev, &u->form, &e) != RC_OK)
        FAULT(u, APIERR_BAD_REQUEST, NULL,
              "A file upload must be sent as multipart/form-data with a boundary: %s",
              e.text);
    return u;
}

struct upload *upload_free(struct upload *u)
{
    if (!u)
        return NULL;
    drop_blob(u);
    multipart_free(u->form);
    buf_done(&u->value);
    mem_free(u->filename);
    mem_free(u);
    return NULL;
}

/* rc is the parser's word; a failure that is not ours already is the form's. */
static enum rc settle(struct upload *u, enum rc rc)
{
    if (rc != RC_OK && u->rc == RC_OK) {
        if (rc == RC_NOMEM)
            u->rc = err_set(&u->why, rc, "no memory to read an upload");
        else
            FAULT(u, APIERR_BAD_REQUEST, NULL,
                  rc == RC_LIMIT
                      ? "The multipart form has a part whose head is too large."
                      : "The body is not a well-formed multipart form; it may have been "
                        "cut off.");
    }
    if (u->rc != RC_OK)
        drop_blob(
            u); /* the rest of the body will not be needed, so neither is its room */
    return u->rc;
}

enum rc upload_feed(struct upload *u, struct str piece)
{
    if (u->rc != RC_OK)
        return u->rc;
    return settle(u, multipart_feed(u->form, piece));
}

static bool is_jsonl(struct str name)
{
    struct str end = name;

    if (name.n < 6)
        return false;
    end.p += name.n - 6;
    end.n = 6;
    return str_ieq(end, STR(".jsonl"));
}

static enum rc missing(struct upload *u, enum field f)
{
    return FAULT(u, APIERR_MISSING, field_names[f], "Missing required parameter: '%s'.",
                 field_names[f]);
}

static enum rc judge(struct upload *u)
{
    if (!u->seen[FIELD_FILE])
        return missing(u, FIELD_FILE);
    if (!u->seen[FIELD_PURPOSE])
        return missing(u, FIELD_PURPOSE);
    if (u->seen[FIELD_ANCHOR] != u->seen[FIELD_SECONDS])
        return missing(u, u->seen[FIELD_ANCHOR] ? FIELD_SECONDS : FIELD_ANCHOR);
    /* The words are the real API's. */
    if (str_is(str_of(u->purpose), "batch") && !is_jsonl(str_of(u->filename)))
        return FAULT(u, APIERR_BAD_REQUEST, "file",
                     "Invalid file format for Batch API. Must be .jsonl");
    if (u->bytes == 0)
        return FAULT(u, APIERR_BAD_REQUEST, "file", "The file is empty.");
    return RC_OK;
}

enum rc upload_end(struct upload *u, struct upload_form *ret, struct apierr *e,
                   struct err *why)
{
    if (u->rc == RC_OK && settle(u, multipart_finish(u->form)) == RC_OK)
        settle(u, judge(u));
    if (u->rc != RC_OK) {
        *e = u->fault;
        *why = u->why;
        return u->rc;
    }
    *ret = (struct upload_form){.purpose = u->purpose,
                                .filename = u->filename,
                                .bytes = u->bytes,
                                .expires_after = (int64_t)u->seconds};
    return RC_OK;
}

enum rc upload_commit(struct upload *u, const struct id *id, struct blob_sum *ret,
                      struct err *why)
{
    struct blob_put *put = u->put;

    CHECK(u->rc == RC_OK && put);
    u->put = NULL; /* gone whatever comes */
    return u->blobs->ops->commit(put, id->z, ret, why);
}
