/* SPDX-License-Identifier: Apache-2.0 */
#include "api/body.h"
#include "api/file_rules.h"

#include <stdio.h>

static const char *type_name(const struct json_val *v)
{
    switch (v->type) {
    case JSON_NONE:
        break;
    case JSON_NULL:
        return "null";
    case JSON_FALSE:
    case JSON_TRUE:
        return "a boolean";
    case JSON_NUMBER:
        for (size_t i = 0; i < v->raw.n; i++)
            if (strchr(".eE", v->raw.p[i]))
                return "a decimal";
        return "an integer";
    case JSON_STRING:
        return "a string";
    case JSON_ARRAY:
        return "an array";
    case JSON_OBJECT:
        return "an object";
    }
    return "nothing";
}

enum rc body_wrong_type(struct apierr *e, const char *param, const char *wanted,
                        const struct json_val *got)
{
    return apierr_set(e, APIERR_TYPE, param,
                      "Invalid type for '%s': expected %s, but got %s instead.", param,
                      wanted, type_name(got));
}

enum rc body_missing(struct apierr *e, const char *param)
{
    return apierr_set(e, APIERR_MISSING, param, "Missing required parameter: '%s'.",
                      param);
}

enum rc body_no_memory(struct apierr *e)
{
    apierr_of_rc(e, RC_NOMEM);
    return RC_INVALID;
}

enum rc body_read(struct str text, const struct json_want *wants, size_t n,
                  struct json_val *vals, struct apierr *e)
{
    static const struct json_limits limits = {.depth = 0, .unique_keys = true};
    struct json_val top;
    struct json_err bad;
    enum rc rc = json_read(text, &limits, wants, n, vals, &top, &bad);

    if (rc == RC_NOMEM)
        return body_no_memory(e);
    if (rc != RC_OK)
        return apierr_set(
            e, APIERR_BAD_REQUEST, NULL,
            "We could not parse the JSON body of your request. (HINT: This likely means "
            "you aren't using your HTTP library correctly. The API expects a JSON "
            "payload, but what was sent was not valid JSON: %s%s%.*s, at byte %zu.)",
            bad.reason, bad.key.p ? ": " : "", APIERR_SHOW(bad.key), bad.offset);
    if (top.type != JSON_OBJECT)
        return apierr_set(e, APIERR_TYPE, NULL,
                          "Invalid body: expected a JSON object, but got %s instead.",
                          type_name(&top));
    return RC_OK;
}

enum rc body_string(const struct json_val *v, const char *param, struct buf *out,
                    struct apierr *e)
{
    enum rc rc;

    if (v->type == JSON_NONE)
        return body_missing(e, param);
    if (v->type != JSON_STRING)
        return body_wrong_type(e, param, "a string", v);
    rc = json_unescape(v->raw, out);
    if (rc == RC_NOMEM)
        return body_no_memory(e);
    if (rc != RC_OK)
        return apierr_set(e, APIERR_VALUE, param,
                          "Invalid '%s': it is not valid Unicode text.", param);
    return RC_OK;
}

static enum rc too_small(const struct json_val *v, const char *param, long long min,
                         struct apierr *e)
{
    return apierr_set(e, APIERR_TOO_SMALL, param,
                      "Invalid '%s': integer below minimum value. Expected a value >= "
                      "%lld, but got %.*s instead.",
                      param, min, APIERR_SHOW(v->raw));
}

static enum rc too_great(const struct json_val *v, const char *param,
                         unsigned long long max, struct apierr *e)
{
    return apierr_set(e, APIERR_TOO_GREAT, param,
                      "Invalid '%s': integer above maximum value. Expected a value <= "
                      "%llu, but got %.*s instead.",
                      param, max, APIERR_SHOW(v->raw));
}

static bool is_integer(const struct json_val *v)
{
    return v->type == JSON_NUMBER && strcmp(type_name(v), "an integer") == 0;
}

enum rc body_integer(const struct json_val *v, const char *param, uint64_t min,
                     uint64_t max, uint64_t *ret, struct apierr *e)
{
    uint64_t n = 0;
    enum rc rc;

    if (v->type == JSON_NONE)
        return body_missing(e, param);
    if (!is_integer(v))
        return body_wrong_type(e, param, "an integer", v);
    /* A negative one is too small, so it may as well be 0. */
    rc = v->raw.p[0] == '-' ? RC_OK : json_u64(v, &n);
    if (rc == RC_OK && (n < min || v->raw.p[0] == '-'))
        return too_small(v, param, (long long)min, e);
    if (rc != RC_OK || n > max)
        return too_great(v, param, max, e);
    *ret = n;
    return RC_OK;
}

enum rc body_signed(const struct json_val *v, const char *param, int64_t min, int64_t max,
                    int64_t *ret, struct apierr *e)
{
    uint64_t n = 0;
    int64_t value;
    bool minus;

    if (!body_given(v))
        return RC_OK;
    if (!is_integer(v))
        return body_wrong_type(e, param, "an integer", v);
    minus = v->raw.p[0] == '-';
    if (str_u64((struct str){v->raw.p + minus, v->raw.n - minus}, &n) != RC_OK ||
        n > INT64_MAX)
        n = INT64_MAX;
    value = minus ? -(int64_t)n : (int64_t)n;
    if (value < min)
        return too_small(v, param, min, e);
    if (value > max)
        return too_great(v, param, (unsigned long long)max, e);
    *ret = value;
    return RC_OK;
}

enum rc body_bool(const struct json_val *v, const char *param, bool *ret,
                  struct apierr *e)
{
    if (!body_given(v))
        return RC_OK;
    if (v->type != JSON_TRUE && v->type != JSON_FALSE)
        return body_wrong_type(e, param, "a boolean", v);
    *ret = v->type == JSON_TRUE;
    return RC_OK;
}

static enum rc read_anchor(const struct json_val *v, const char *param, struct apierr *e)
{
    if (v->type == JSON_NONE)
        return body_missing(e, param);
    if (v->type != JSON_STRING)
        return body_wrong_type(e, param, "a string", v);
    if (json_str_is(v->raw, STR("created_at")))
        return RC_OK;
    return apierr_set(e, APIERR_VALUE, param,
                      "Invalid value: %.*s. Supported values are: 'created_at'.",
                      APIERR_SHOW(v->raw));
}

enum rc body_expires(const struct json_val *all, const struct json_val *anchor,
                     const struct json_val *seconds, const char *param, int64_t *ret,
                     struct apierr *e)
{
    char name[sizeof e->param];
    uint64_t n = 0;
    enum rc rc;

    if (all->type == JSON_NONE || all->type == JSON_NULL)
        return RC_OK;
    if (all->type != JSON_OBJECT)
        return body_wrong_type(e, param, "an object", all);
    snprintf(name, sizeof name, "%s.anchor", param);
    rc = read_anchor(anchor, name, e);
    if (rc != RC_OK)
        return rc;
    snprintf(name, sizeof name, "%s.seconds", param);
    rc = body_integer(seconds, name, FILE_EXPIRES_MIN, FILE_EXPIRES_MAX, &n, e);
    if (rc == RC_OK)
        *ret = (int64_t)n;
    return rc;
}
