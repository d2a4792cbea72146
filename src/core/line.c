/* SPDX-License-Identifier: Apache-2.0 */
#include "core/line.h"
#include "json/json.h"
#include "base/limits.h"

#include <stdarg.h>
#include <stdio.h>

enum { CUSTOM_ID, METHOD, URL, BODY, MODEL, STREAM, PARTS, N_WANTS = PARTS + PART_COUNT };

static const struct json_want wants[N_WANTS] = {[CUSTOM_ID] = {"custom_id", -1},
                                                [METHOD] = {"method", -1},
                                                [URL] = {"url", -1},
                                                [BODY] = {"body", -1},
                                                [MODEL] = {"model", BODY},
                                                [STREAM] = {"stream", BODY},
#define X(name, key) [PARTS + PART_##name] = {key, BODY},
                                                LINE_PART_LIST(X)
#undef X
};
_Static_assert(N_WANTS <= 32, "json_read finds so many");

const char *line_fault_code(enum line_fault f)
{
    static const char *const codes[LINE_FAULT_COUNT] = {
#define X(name, code) code,
        LINE_FAULT_LIST(X)
#undef X
    };

    CHECK((unsigned)f < LINE_FAULT_COUNT);
    return codes[f];
}

void line_quote(struct str raw, char *dst, size_t cap)
{
    const char *p = raw.p + 1;
    size_t n = raw.n - 2;

    CHECK(raw.n >= 2 && cap > 4);
    if (n < cap) {
        memcpy(dst, p, n);
        dst[n] = '\0';
        return;
    }
    n = cap - 4;
    while (n > 0 && ((unsigned char)p[n] & 0xc0) == 0x80) /* not amid a character */
        n--;
    memcpy(dst, p, n);
    memcpy(dst + n, "...", 4);
}

/* Cut at the end when longer: all that is not ours in it was cut by line_quote before. */
PRINTF_FMT(4, 5)
static enum rc fault(struct line_error *e, enum line_fault f, const char *param,
                     const char *fmt, ...)
{
    va_list ap;

    *e = (struct line_error){.fault = f, .param = param};
    va_start(ap, fmt);
    (void)vsnprintf(e->message, sizeof e->message, fmt, ap);
    va_end(ap);
    return RC_INVALID;
}

static enum rc bad_json(struct line_error *e, const struct json_err *why)
{
    char key[128];

    if (why->key.p) {
        line_quote(why->key, key, sizeof key);
        (void)fault(
            e, LINE_INVALID_JSON, NULL,
            "This line is not parseable as valid JSON: the key '%s' is there twice.",
            key);
    } else {
        (void)fault(e, LINE_INVALID_JSON, NULL,
                    "This line is not parseable as valid JSON.");
    }
    e->reason = why->reason;
    e->at = why->offset + 1;
    return RC_INVALID;
}

static const char *got(const struct json_val *v)
{
    switch (v->type) {
    case JSON_NUMBER:
        return memchr(v->raw.p, '.', v->raw.n) || memchr(v->raw.p, 'e', v->raw.n) ||
                       memchr(v->raw.p, 'E', v->raw.n)
                   ? "a decimal"
                   : "an integer";
    case JSON_STRING:
        return "a string";
    case JSON_ARRAY:
        return "an array";
    case JSON_OBJECT:
        return "an object";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
    case JSON_NONE:
        break;
    }
    return "null";
}

static enum rc bad_type(struct line_error *e, const char *param, const char *want,
                        const struct json_val *v)
{
    return fault(e, LINE_TYPE, param,
                 "Invalid type for '%s': expected %s, but got %s instead.", param, want,
                 got(v));
}

/* The member is there and of that type. */
static enum rc check_member(const struct json_val *v, const char *name,
                            enum json_type type, struct line_error *e)
{
    if (v->type == JSON_NONE)
        return fault(e, LINE_MISSING, name, "Missing required parameter: '%s'.", name);
    if (v->type != type)
        return bad_type(e, name, type == JSON_STRING ? "a string" : "an object", v);
    return RC_OK;
}

static enum rc check_custom_id(const struct json_val *v, struct line_error *e)
{
    enum rc rc = check_member(v, "custom_id", JSON_STRING, e);

    if (rc != RC_OK)
        return rc;
    if (v->raw.n == 2)
        return fault(e, LINE_CUSTOM_ID, "custom_id",
                     "Invalid 'custom_id': empty string. Expected a string with minimum "
                     "length 1, but got an empty string instead.");
    /* Characters are never more than bytes, so most are not counted. */
    if (v->raw.n - 2 > LIMIT_CUSTOM_ID && json_str_len(v->raw) > LIMIT_CUSTOM_ID)
        return fault(
            e, LINE_CUSTOM_ID, "custom_id",
            "Invalid 'custom_id': string too long. Expected a string with maximum "
            "length %d, but got a string with length %zu instead.",
            LIMIT_CUSTOM_ID, json_str_len(v->raw));
    return RC_OK;
}

static enum rc check_method(const struct json_val *v, struct line_error *e)
{
    char quote[128];
    enum rc rc = check_member(v, "method", JSON_STRING, e);

    if (rc != RC_OK || json_str_is(v->raw, STR("POST")))
        return rc;
    line_quote(v->raw, quote, sizeof quote);
    return fault(e, LINE_METHOD, "method",
                 "Invalid value: '%s'. Supported values are: 'POST'.", quote);
}

static enum rc check_url(const struct json_val *v, enum endpoint ep, enum endpoint *ret,
                         struct line_error *e)
{
    char quote[128];
    enum rc rc = check_member(v, "url", JSON_STRING, e);

    if (rc != RC_OK)
        return rc;
    for (unsigned i = 0; i < ENDPOINT_COUNT; i++) {
        if (ep != ENDPOINT_COUNT && ep != i)
            continue;
        *ret = (enum endpoint)i;
        if (json_str_is(v->raw, str_of(endpoint_path(*ret))))
            return RC_OK;
    }
    if (ep != ENDPOINT_COUNT)
        return fault(
            e, LINE_URL, "url",
            "The URL provided for this request does not match the batch endpoint.");
    line_quote(v->raw, quote, sizeof quote);
    return fault(e, LINE_URL, "url", "Invalid value: '%s'. Supported values are: %s.",
                 quote, endpoint_all());
}

static enum rc check_body(const struct json_val *vals, enum endpoint ep,
                          struct line_error *e)
{
    const struct json_val *stream = &vals[STREAM], *model = &vals[MODEL];
    enum rc rc = check_member(&vals[BODY], "body", JSON_OBJECT, e);

    if (rc != RC_OK)
        return rc;
    if (stream->type == JSON_TRUE)
        return fault(e, LINE_STREAM, "body.stream",
                     "%s: Streaming is not supported in the Batch API.",
                     endpoint_title(ep));
    if (stream->type != JSON_NONE && stream->type != JSON_FALSE &&
        stream->type != JSON_NULL)
        return bad_type(e, "body.stream", "a boolean", stream);
    if (model->type != JSON_NONE && model->type != JSON_STRING)
        return bad_type(e, "body.model", "a string", model);
    return RC_OK;
}

/* An array of numbers is one input: its tokens. */
static uint32_t count_inputs(const struct json_val *input)
{
    struct json_iter it = json_iter(input);
    struct json_val first;

    if (input->type == JSON_ARRAY && json_next(&it, NULL, &first) &&
        (first.type == JSON_STRING || first.type == JSON_ARRAY))
        return input->count;
    return 1;
}

enum rc line_read(struct str text, enum endpoint ep, struct line *ret,
                  struct line_error *e)
{
    static const struct json_limits limits = {.unique_keys = true};
    struct json_val vals[N_WANTS], top;
    struct json_err why = {0};
    enum endpoint named = ep;
    enum rc rc = json_read(text, &limits, wants, N_WANTS, vals, &top, &why);

    if (rc == RC_INVALID)
        return bad_json(e, &why);
    if (rc != RC_OK)
        return rc;
    if (top.type != JSON_OBJECT) {
        why = (struct json_err){.offset = (size_t)(top.raw.p - text.p),
                                .reason = "an object was expected"};
        return bad_json(e, &why);
    }
    rc = check_custom_id(&vals[CUSTOM_ID], e);
    if (rc == RC_OK)
        rc = check_method(&vals[METHOD], e);
    if (rc == RC_OK)
        rc = check_url(&vals[URL], ep, &named, e);
    if (rc == RC_OK)
        rc = check_body(vals, named, e);
    if (rc != RC_OK)
        return rc;
    *ret = (struct line){
        .custom_id = vals[CUSTOM_ID].raw,
        .body = vals[BODY].raw,
        .model = vals[MODEL].raw,
        .inputs =
            named == ENDPOINT_EMBEDDINGS ? count_inputs(&vals[PARTS + PART_INPUT]) : 0,
        .endpoint = named,
    };
    memcpy(ret->parts, vals + PARTS, sizeof ret->parts);
    return RC_OK;
}

/* Much quicker than line_read: members are stepped over, nothing is judged. */
void line_reread(struct str text, struct line *ret)
{
    struct json_val top = {.type = JSON_OBJECT, .raw = str_trim(text)};
    struct json_val v, body = {0};
    struct json_iter it;
    struct str key;
    struct line line = {.endpoint = ENDPOINT_COUNT};

    CHECK(top.raw.n >= 2 && top.raw.p[0] == '{' && top.raw.p[top.raw.n - 1] == '}');
    for (it = json_iter(&top); json_next(&it, &key, &v);) {
        if (v.type == JSON_STRING && json_str_is(key, STR("custom_id")))
            line.custom_id = v.raw;
        else if (v.type == JSON_OBJECT && json_str_is(key, STR("body")))
            body = v;
    }
    CHECK(line.custom_id.p && body.raw.p);
    line.body = body.raw;
    for (it = json_iter(&body); !line.model.p && json_next(&it, &key, &v);)
        if (v.type == JSON_STRING && json_str_is(key, STR("model")))
            line.model = v.raw;
    *ret = line;
}
