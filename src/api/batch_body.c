/* SPDX-License-Identifier: Apache-2.0 */
#include "api/batch_body.h"
#include "api/body.h"
#include "base/limits.h"

#include <stdio.h>

enum member {
    INPUT_FILE,
    REQUESTS,
    ENDPOINT,
    WINDOW,
    METADATA,
    EXPIRES,
    EXPIRES_ANCHOR,
    EXPIRES_SECONDS,
    CONTINUE_FROM,
    SAMPLE,
    PRIORITY,
    TIER,
    PAUSED,
    CALLBACK_URL,
    MEMBERS
};

static const struct json_want wants[MEMBERS] = {
    [INPUT_FILE] = {"input_file_id", -1},    [REQUESTS] = {"requests", -1},
    [ENDPOINT] = {"endpoint", -1},           [WINDOW] = {"completion_window", -1},
    [METADATA] = {"metadata", -1},           [EXPIRES] = {"output_expires_after", -1},
    [EXPIRES_ANCHOR] = {"anchor", EXPIRES},  [EXPIRES_SECONDS] = {"seconds", EXPIRES},
    [CONTINUE_FROM] = {"continue_from", -1}, [SAMPLE] = {"sample", -1},
    [PRIORITY] = {"priority", -1},           [PAUSED] = {"paused", -1},
    [CALLBACK_URL] = {"callback_url", -1},   [TIER] = {"tier", -1},
};

/* Metadata is kept as it was sent, white space and escapes included.  All pairs at their
 * limits with every character as two \u escapes take 16 * (64 + 512) * 12 = 110,592
 * bytes; twenty times less is usual.  What is more is padding, which every list of
 * batches would carry for ever. */
enum { METADATA_BYTES = 128 << 10 };

/* --- Members -------------------------------------------------------------------------
 */

static enum rc read_input_file(const struct json_val *v, struct buf *text,
                               struct batch_body *ret, struct apierr *e)
{
    enum rc rc = body_string(v, "input_file_id", text, e);

    if (rc != RC_OK || id_from(buf_peek(text), &ret->input_file) == RC_OK)
        return rc;
    return apierr_set(e, APIERR_VALUE, "input_file_id",
                      "Invalid 'input_file_id': '%.*s' is not the id of a file.",
                      APIERR_SHOW(buf_peek(text)));
}

/* A file or the requests themselves. */
static enum rc read_input(const struct json_val *vals, struct buf *text,
                          struct batch_body *ret, struct apierr *e)
{
    const struct json_val *requests = &vals[REQUESTS];

    if (!body_given(requests))
        return read_input_file(&vals[INPUT_FILE], text, ret, e);
    if (body_given(&vals[INPUT_FILE]))
        return apierr_set(e, APIERR_VALUE, "requests",
                          "Invalid 'requests': give either 'input_file_id' or "
                          "'requests', not both.");
    if (requests->type != JSON_ARRAY)
        return body_wrong_type(e, "requests", "an array of objects", requests);
    if (requests->count == 0)
        return apierr_set(e, APIERR_EMPTY_ARRAY, "requests",
                          "Invalid 'requests': empty array. Expected an array with "
                          "minimum length 1, but got an empty array instead.");
    ret->requests = *requests;
    return RC_OK;
}

static enum rc read_endpoint(const struct json_val *v, struct buf *text,
                             struct batch_body *ret, struct apierr *e)
{
    enum rc rc = body_string(v, "endpoint", text, e);

    if (rc != RC_OK || endpoint_from(buf_peek(text), &ret->endpoint) == RC_OK)
        return rc;
    return apierr_set(e, APIERR_VALUE, "endpoint",
                      "Invalid value: '%.*s'. Supported values are: %s.",
                      APIERR_SHOW(buf_peek(text)), endpoint_all());
}

/* "30d" rather than "2592000s" where it comes out even. */
static void show_seconds(int64_t s, char ret[32])
{
    static const struct {
        int64_t seconds;
        char unit;
    } units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
    size_t i = 0;

    while (s % units[i].seconds)
        i++;
    snprintf(ret, 32, "%lld%c", (long long)(s / units[i].seconds), units[i].unit);
}

static enum rc read_window(const struct json_val *v, const struct batch_rules *rules,
                           struct buf *text, struct batch_body *ret, struct apierr *e)
{
    enum rc rc = body_string(v, "completion_window", text, e);
    struct str s = buf_peek(text);
    char least[32], most[32];
    usec_t usec;

    if (rc != RC_OK)
        return rc;
    if (s.n < sizeof ret->window && !str_ends(s, STR("ms")) &&
        str_duration(s, &usec) == RC_OK && usec >= rules->min_window * USEC_PER_SEC &&
        usec <= rules->max_window * USEC_PER_SEC) {
        memcpy(ret->window, s.p, s.n);
        ret->window[s.n] = '\0';
        ret->window_seconds = usec / USEC_PER_SEC;
        return RC_OK;
    }
    show_seconds(rules->min_window, least);
    show_seconds(rules->max_window, most);
    return apierr_set(
        e, APIERR_VALUE, "completion_window",
        "Invalid completion_window: '%.*s'. Expected a whole number with s, "
        "m, h or d behind it, from %s to %s, such as '24h'.",
        APIERR_SHOW(s), least, most);
}

/* --- Metadata ------------------------------------------------------------------------
 */

static enum rc judge_pair(struct str raw_key, const struct json_val *value,
                          struct buf *text, struct apierr *e)
{
    char param[sizeof e->param];
    size_t n;
    enum rc rc;

    buf_reset(text);
    rc = json_unescape(raw_key, text);
    if (rc == RC_NOMEM)
        return body_no_memory(e);
    if (rc != RC_OK)
        return apierr_set(e, APIERR_VALUE, "metadata",
                          "Invalid 'metadata': one of its property names is not valid "
                          "Unicode text.");
    n = json_str_len(raw_key); /* in code points, as the real API counts */
    if (n > LIMIT_METADATA_KEY)
        return apierr_set(e, APIERR_TOO_LONG, "metadata",
                          "Invalid 'metadata': one of its property names is too long. "
                          "Expected a string with maximum length %d, but got a string "
                          "with length %zu instead.",
                          LIMIT_METADATA_KEY, n);
    snprintf(param, sizeof param, "metadata.%.*s", (int)text->n, text->n ? text->p : "");
    buf_reset(text);
    rc = body_string(value, param, text, e);
    if (rc != RC_OK)
        return rc;
    n = json_str_len(value->raw);
    if (n > LIMIT_METADATA_VALUE)
        return apierr_set(e, APIERR_TOO_LONG, param,
                          "Invalid '%s': string too long. Expected a string with maximum "
                          "length %d, but got a string with length %zu instead.",
                          param, LIMIT_METADATA_VALUE, n);
    return RC_OK;
}

static enum rc read_metadata(const struct json_val *v, struct buf *text,
                             struct batch_body *ret, struct apierr *e)
{
    struct json_iter it = json_iter(v);
    struct json_val value;
    struct str key;
    enum rc rc = RC_OK;

    if (!body_given(v))
        return RC_OK;
    if (v->type != JSON_OBJECT)
        return body_wrong_type(e, "metadata", "an object", v);
    if (v->count > LIMIT_METADATA_PAIRS)
        return apierr_set(e, APIERR_TOO_MANY, "metadata",
                          "Invalid 'metadata': too many properties. Expected an object "
                          "with at most %d properties, but got an object with %u "
                          "properties instead.",
                          LIMIT_METADATA_PAIRS, v->count);
    while (rc == RC_OK && json_next(&it, &key, &value))
        rc = judge_pair(key, &value, text, e);
    if (rc == RC_OK && v->raw.n > METADATA_BYTES)
        return apierr_set(e, APIERR_VALUE, "metadata",
                          "Invalid 'metadata': its JSON text has %zu bytes; the most is "
                          "%d.",
                          v->raw.n, METADATA_BYTES);
    ret->metadata = v->raw;
    return rc;
}

/* --- What the real API does not have --------------------------------------------------
 */

static enum rc read_continue(const struct json_val *v, struct buf *text,
                             struct batch_body *ret, struct apierr *e)
{
    enum rc rc = RC_OK;

    if (body_given(v))
        rc = body_string(v, "continue_from", text, e);
    if (!body_given(v) || rc != RC_OK ||
        id_from(buf_peek(text), &ret->continue_from) == RC_OK)
        return rc;
    return apierr_set(e, APIERR_VALUE, "continue_from",
                      "Invalid 'continue_from': '%.*s' is not the id of a batch.",
                      APIERR_SHOW(buf_peek(text)));
}

static enum rc read_callback(const struct json_val *v, const struct batch_rules *rules,
                             struct buf *text, struct batch_body *ret, struct apierr *e)
{
    static const char param[] = "callback_url";
    struct callback_url url;
    const char *why;
    enum rc rc;

    if (!body_given(v))
        return RC_OK;
    rc = body_string(v, param, text, e);
    if (rc != RC_OK)
        return rc;
    if (callback_url_read(buf_peek(text), &url, &why) != RC_OK)
        return apierr_set(e, APIERR_VALUE, param, "Invalid '%s': the URL %s.", param,
                          why);
    if (!callback_allowed(&url, rules->callback_hosts))
        return apierr_set(
            e, APIERR_VALUE, param,
            "Invalid '%s': this server may not call the host '%.*s' on port %u. Its "
            "operator lists the hosts that it may call in the setting callback_hosts.",
            param, APIERR_SHOW(url.host), url.port);
    memcpy(ret->callback_url, text->p, text->n);
    ret->callback_url[text->n] = '\0';
    return RC_OK;
}

static enum rc read_priority(const struct json_val *v, struct batch_body *ret,
                             struct apierr *e)
{
    int64_t priority = 0;
    enum rc rc = body_signed(v, "priority", -10, 10, &priority, e);

    ret->priority = (int)priority;
    ret->has_priority = body_given(v);
    return rc;
}

static enum rc read_tier(const struct json_val *v, struct buf *text,
                         struct batch_body *ret, struct apierr *e)
{
    struct str tier;
    enum rc rc;

    if (!body_given(v))
        return RC_OK;
    rc = body_string(v, "tier", text, e);
    if (rc != RC_OK)
        return rc;
    tier = buf_peek(text);
    ret->has_tier = true;
    ret->idle = str_is(tier, "idle");
    if (ret->idle || str_is(tier, "standard"))
        return RC_OK;
    return apierr_set(e, APIERR_VALUE, "tier",
                      "Invalid 'tier': '%.*s'. Supported values are: 'standard' and "
                      "'idle'.",
                      APIERR_SHOW(tier));
}

static enum rc read_extensions(const struct json_val *vals,
                               const struct batch_rules *rules, struct buf *text,
                               struct batch_body *ret, struct apierr *e)
{
    int64_t sample = 0;
    enum rc rc = read_continue(&vals[CONTINUE_FROM], text, ret, e);

    if (rc == RC_OK)
        rc = body_signed(&vals[SAMPLE], "sample", 1, LIMIT_LINES_EVER, &sample, e);
    if (rc == RC_OK)
        rc = read_priority(&vals[PRIORITY], ret, e);
    if (rc == RC_OK)
        rc = body_bool(&vals[PAUSED], "paused", &ret->paused, e);
    buf_reset(text);
    if (rc == RC_OK)
        rc = read_tier(&vals[TIER], text, ret, e);
    buf_reset(text);
    if (rc == RC_OK)
        rc = read_callback(&vals[CALLBACK_URL], rules, text, ret, e);
    ret->sample = (uint32_t)sample;
    return rc;
}

/* --- The whole -----------------------------------------------------------------------
 */

/* What the bodies differ in. */
typedef enum rc members_fn(const struct json_val *vals, const struct batch_rules *rules,
                           struct buf *text, struct batch_body *ret, struct apierr *e);

static enum rc input_members(const struct json_val *vals, const struct batch_rules *rules,
                             struct buf *text, struct batch_body *ret, struct apierr *e)
{
    enum rc rc = read_input(vals, text, ret, e);

    (void)rules;
    buf_reset(text);
    return rc == RC_OK ? read_endpoint(&vals[ENDPOINT], text, ret, e) : rc;
}

static enum rc all_members(const struct json_val *vals, const struct batch_rules *rules,
                           struct buf *text, struct batch_body *ret, struct apierr *e)
{
    enum rc rc = input_members(vals, rules, text, ret, e);

    buf_reset(text);
    if (rc == RC_OK)
        rc = read_window(&vals[WINDOW], rules, text, ret, e);
    if (rc == RC_OK)
        rc = read_metadata(&vals[METADATA], text, ret, e);
    if (rc == RC_OK)
        rc = body_expires(&vals[EXPIRES], &vals[EXPIRES_ANCHOR], &vals[EXPIRES_SECONDS],
                          "output_expires_after", &ret->output_expires_after, e);
    buf_reset(text);
    return rc == RC_OK ? read_extensions(vals, rules, text, ret, e) : rc;
}

static enum rc retry_members(const struct json_val *vals, const struct batch_rules *rules,
                             struct buf *text, struct batch_body *ret, struct apierr *e)
{
    enum rc rc = RC_OK;

    if (body_given(&vals[WINDOW]))
        rc = read_window(&vals[WINDOW], rules, text, ret, e);
    return rc == RC_OK ? read_metadata(&vals[METADATA], text, ret, e) : rc;
}

static enum rc edit_members(const struct json_val *vals, const struct batch_rules *rules,
                            struct buf *text, struct batch_body *ret, struct apierr *e)
{
    enum rc rc = read_priority(&vals[PRIORITY], ret, e);

    if (rc == RC_OK)
        rc = read_tier(&vals[TIER], text, ret, e);
    buf_reset(text);
    if (rc == RC_OK && body_given(&vals[WINDOW]))
        return read_window(&vals[WINDOW], rules, text, ret, e);
    if (rc == RC_OK && !ret->has_priority && !ret->has_tier)
        return apierr_set(e, APIERR_MISSING, NULL,
                          "Nothing to change: give 'priority', 'tier' or "
                          "'completion_window'.");
    return rc;
}

static enum rc read_body(struct str text, members_fn *members,
                         const struct batch_rules *rules, struct batch_body *ret,
                         struct apierr *e)
{
    struct json_val vals[MEMBERS];
    struct batch_body body = {0};
    struct buf unescaped;
    enum rc rc = body_read(text, wants, MEMBERS, vals, e);

    if (rc != RC_OK)
        return rc;
    buf_init(&unescaped, text.n); /* no string of it says more bytes than it has */
    rc = members(vals, rules, &unescaped, &body, e);
    buf_done(&unescaped);
    if (rc == RC_OK)
        *ret = body;
    return rc;
}

enum rc batch_body_read(struct str text, const struct batch_rules *rules,
                        struct batch_body *ret, struct apierr *e)
{
    return read_body(text, all_members, rules, ret, e);
}

enum rc batch_body_read_input(struct str text, struct batch_body *ret, struct apierr *e)
{
    return read_body(text, input_members, NULL, ret, e);
}

enum rc batch_body_read_retry(struct str text, const struct batch_rules *rules,
                              struct batch_body *ret, struct apierr *e)
{
    return read_body(str_trim(text).n ? text : STR("{}"), retry_members, rules, ret, e);
}

enum rc batch_body_read_edit(struct str text, const struct batch_rules *rules,
                             struct batch_body *ret, struct apierr *e)
{
    return read_body(text, edit_members, rules, ret, e);
}
