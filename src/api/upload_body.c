/* SPDX-License-Identifier: Apache-2.0 */
#include "api/upload_body.h"
#include "api/body.h"
#include "base/limits.h"
#include "base/mem.h"
#include "http/head.h"

#include <stdio.h>

/* --- POST /v1/uploads ----------------------------------------------------------------
 */

enum member {
    FILENAME,
    PURPOSE,
    BYTES,
    MIME_TYPE,
    EXPIRES,
    EXPIRES_ANCHOR,
    EXPIRES_SECONDS,
    MEMBERS
};

static const struct json_want wants[MEMBERS] = {
    [FILENAME] = {"filename", -1},
    [PURPOSE] = {"purpose", -1},
    [BYTES] = {"bytes", -1},
    [MIME_TYPE] = {"mime_type", -1},
    [EXPIRES] = {"expires_after", -1},
    [EXPIRES_ANCHOR] = {"anchor", EXPIRES},
    [EXPIRES_SECONDS] = {"seconds", EXPIRES},
};

static bool has_control(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f)
            return true;
    return false;
}

/* Not empty and without control characters, which would end up on terminals and in
 * headers. */
static enum rc read_text(const struct json_val *v, const char *param, struct buf *text,
                         struct apierr *e)
{
    enum rc rc;

    buf_reset(text);
    rc = body_string(v, param, text, e);
    if (rc != RC_OK)
        return rc;
    if (text->n == 0)
        return apierr_set(e, APIERR_VALUE, param,
                          "Invalid '%s': empty string. Expected a string with minimum "
                          "length 1, but got an empty string instead.",
                          param);
    if (has_control(buf_peek(text)))
        return apierr_set(e, APIERR_VALUE, param,
                          "Invalid '%s': it has a control character in it.", param);
    return RC_OK;
}

static enum rc read_bytes(const struct json_val *v, const struct upload_rules *rules,
                          struct upload_body *ret, struct apierr *e)
{
    enum rc rc = body_integer(v, "bytes", 1, rules->max_bytes, &ret->bytes, e);

    if (rc != RC_OK || strcmp(ret->purpose, "batch") != 0 ||
        ret->bytes <= rules->max_batch_bytes)
        return rc;
    return apierr_set(e, APIERR_TOO_GREAT, "bytes",
                      "Invalid 'bytes': a file with purpose 'batch' may have %llu bytes, "
                      "but got %llu instead. Split its lines over several files.",
                      (unsigned long long)rules->max_batch_bytes,
                      (unsigned long long)ret->bytes);
}

static enum rc read_members(const struct json_val *vals, const struct upload_rules *rules,
                            struct buf *text, struct upload_body *ret, struct apierr *e)
{
    enum rc rc = read_text(&vals[FILENAME], "filename", text, e);

    if (rc == RC_OK)
        rc = file_name(buf_peek(text), "filename", &ret->filename, e);
    buf_reset(text);
    if (rc == RC_OK)
        rc = body_string(&vals[PURPOSE], "purpose", text, e);
    if (rc == RC_OK)
        rc = file_purpose(buf_peek(text), ret->purpose, e);
    if (rc == RC_OK)
        rc = read_bytes(&vals[BYTES], rules, ret, e);
    if (rc == RC_OK)
        rc = read_text(&vals[MIME_TYPE], "mime_type", text, e);
    if (rc == RC_OK)
        rc = body_expires(&vals[EXPIRES], &vals[EXPIRES_ANCHOR], &vals[EXPIRES_SECONDS],
                          "expires_after", &ret->file_expires_after, e);
    return rc == RC_OK ? file_suits(ret->purpose, ret->filename, "filename", e) : rc;
}

enum rc upload_body_read(struct str text, const struct upload_rules *rules,
                         struct upload_body *ret, struct apierr *e)
{
    struct json_val vals[MEMBERS];
    struct upload_body body = {0};
    struct buf unescaped;
    enum rc rc = body_read(text, wants, MEMBERS, vals, e);

    if (rc != RC_OK)
        return rc;
    buf_init(&unescaped, LIMIT_API_BODY);
    rc = read_members(vals, rules, &unescaped, &body, e);
    buf_done(&unescaped);
    if (rc == RC_OK)
        *ret = body;
    else
        upload_body_done(&body);
    return rc;
}

void upload_body_done(struct upload_body *b)
{
    mem_free(b->filename);
    b->filename = NULL;
}

/* --- POST /v1/uploads/{id}/complete --------------------------------------------------
 */

static enum rc read_part(const struct json_val *v, size_t i, struct buf *text,
                         struct id *ret, struct apierr *e)
{
    char param[32];
    enum rc rc;

    snprintf(param, sizeof param, "part_ids[%zu]", i);
    buf_reset(text);
    rc = body_string(v, param, text, e);
    if (rc != RC_OK || id_from(buf_peek(text), ret) == RC_OK)
        return rc;
    return apierr_set(e, APIERR_VALUE, param,
                      "Invalid '%s': '%.*s' is not the id of a part.", param,
                      APIERR_SHOW(buf_peek(text)));
}

static enum rc read_parts(const struct json_val *v, size_t max, struct buf *text,
                          struct complete_body *ret, struct apierr *e)
{
    static const char param[] = "part_ids";
    struct json_iter it = json_iter(v);
    struct json_val one;
    struct str key;
    enum rc rc = RC_OK;

    if (v->type == JSON_NONE)
        return body_missing(e, param);
    if (v->type != JSON_ARRAY)
        return body_wrong_type(e, param, "an array of strings", v);
    if (v->count == 0)
        return apierr_set(e, APIERR_VALUE, param,
                          "Invalid 'part_ids': empty array. Expected an array with "
                          "minimum length 1, but got an empty array instead.");
    if (v->count > max)
        return apierr_set(e, APIERR_VALUE, param,
                          "Invalid 'part_ids': array too long. Expected an array with "
                          "maximum length %zu, but got an array with length %u instead.",
                          max, v->count);
    ret->parts = mem_new_n(struct id, v->count);
    while (rc == RC_OK && json_next(&it, &key, &one)) {
        rc = read_part(&one, ret->n_parts, text, &ret->parts[ret->n_parts], e);
        ret->n_parts++;
    }
    return rc;
}

static enum rc read_md5(const struct json_val *v, struct buf *text,
                        struct complete_body *ret, struct apierr *e)
{
    bool good;
    enum rc rc;

    if (v->type == JSON_NONE || v->type == JSON_NULL)
        return RC_OK;
    buf_reset(text);
    rc = body_string(v, "md5", text, e);
    if (rc != RC_OK)
        return rc;
    good = text->n == 2 * sizeof ret->md5;
    for (size_t i = 0; good && i < sizeof ret->md5; i++) {
        int high = head_hex(text->p[2 * i]), low = head_hex(text->p[2 * i + 1]);

        good = high >= 0 && low >= 0;
        if (good)
            ret->md5[i] = (uint8_t)(high << 4 | low);
    }
    ret->has_md5 = true;
    if (good)
        return RC_OK;
    return apierr_set(e, APIERR_VALUE, "md5",
                      "Invalid 'md5': '%.*s' is not an MD5 sum of 32 hex digits.",
                      APIERR_SHOW(buf_peek(text)));
}

enum rc complete_body_read(struct str text, size_t max_parts, struct complete_body *ret,
                           struct apierr *e)
{
    enum { PART_IDS, MD5, COUNT };
    static const struct json_want members[COUNT] = {{"part_ids", -1}, {"md5", -1}};
    struct json_val vals[COUNT];
    struct complete_body body = {0};
    struct buf unescaped;
    enum rc rc = body_read(text, members, COUNT, vals, e);

    if (rc != RC_OK)
        return rc;
    buf_init(&unescaped, LIMIT_API_BODY);
    rc = read_parts(&vals[PART_IDS], max_parts, &unescaped, &body, e);
    if (rc == RC_OK)
        rc = read_md5(&vals[MD5], &unescaped, &body, e);
    buf_done(&unescaped);
    if (rc == RC_OK)
        *ret = body;
    else
        complete_body_done(&body);
    return rc;
}

void complete_body_done(struct complete_body *b)
{
    mem_free(b->parts);
    b->parts = NULL;
}
