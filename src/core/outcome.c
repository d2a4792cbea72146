/* SPDX-License-Identifier: Apache-2.0 */
#include "core/outcome.h"
#include "json/json.h"

static const char *const names[OUTCOME_COUNT] = {
#define X(name, text) text,
    OUTCOME_LIST(X)
#undef X
};

const char *outcome_name(enum outcome_class c)
{
    CHECK((unsigned)c < OUTCOME_COUNT);
    return names[c];
}

/* What an error status means for the line; docs/design.md has the table. */
static const struct {
    short from, to;
    enum outcome_class cls;
} classes[] = {
    {401, 404, OUTCOME_DENIED},    {408, 409, OUTCOME_TRANSIENT},
    {425, 425, OUTCOME_TRANSIENT}, {429, 429, OUTCOME_CAPACITY},
    {499, 499, OUTCOME_TRANSIENT}, /* the router gave up on us (nginx) */
    {400, 499, OUTCOME_REFUSED},   {502, 502, OUTCOME_GATEWAY},
    {503, 503, OUTCOME_CAPACITY},  {504, 504, OUTCOME_GATEWAY},
    {524, 524, OUTCOME_GATEWAY},  /* a proxy's timeout before its origin (Cloudflare) */
    {529, 529, OUTCOME_CAPACITY}, /* overloaded: Anthropic, NVIDIA Dynamo */
    {500, 599, OUTCOME_TRANSIENT}, {600, 999, OUTCOME_REFUSED},
};

static enum outcome_class class_of_status(long status)
{
    for (size_t i = 0; i < COUNTOF(classes); i++)
        if (status >= classes[i].from && status <= classes[i].to)
            return classes[i].cls;
    return OUTCOME_BROKEN; /* 1xx and 3xx are no answers to a POST that never redirects */
}

enum {
    V_USAGE,
    V_PROMPT,
    V_COMPLETION,
    V_INPUT,
    V_OUTPUT,
    V_TOTAL,
    V_PROMPT_D,
    V_INPUT_D,
    V_COMPLETION_D,
    V_OUTPUT_D,
    V_PROMPT_CACHED,
    V_INPUT_CACHED,
    V_COMPLETION_REASON,
    V_OUTPUT_REASON,
    V_COUNT
};

/* chat and completions say prompt_/completion_, responses input_/output_ (api.md 1). */
static const struct json_want wants[V_COUNT] = {
    [V_USAGE] = {"usage", -1},
    [V_PROMPT] = {"prompt_tokens", V_USAGE},
    [V_COMPLETION] = {"completion_tokens", V_USAGE},
    [V_INPUT] = {"input_tokens", V_USAGE},
    [V_OUTPUT] = {"output_tokens", V_USAGE},
    [V_TOTAL] = {"total_tokens", V_USAGE},
    [V_PROMPT_D] = {"prompt_tokens_details", V_USAGE},
    [V_INPUT_D] = {"input_tokens_details", V_USAGE},
    [V_COMPLETION_D] = {"completion_tokens_details", V_USAGE},
    [V_OUTPUT_D] = {"output_tokens_details", V_USAGE},
    [V_PROMPT_CACHED] = {"cached_tokens", V_PROMPT_D},
    [V_INPUT_CACHED] = {"cached_tokens", V_INPUT_D},
    [V_COMPLETION_REASON] = {"reasoning_tokens", V_COMPLETION_D},
    [V_OUTPUT_REASON] = {"reasoning_tokens", V_OUTPUT_D},
};

/* A count that is absent, null or no whole number counts as nothing: usage is a sum of
 * what servers tell, never a reason to lose an answer. */
static uint64_t number(const struct json_val *a, const struct json_val *b)
{
    uint64_t v = 0;

    if (a->type == JSON_NUMBER && json_u64(a, &v) == RC_OK)
        return v;
    if (b->type == JSON_NUMBER && json_u64(b, &v) == RC_OK)
        return v;
    return 0;
}

static void read_usage(const struct json_val *v, struct outcome *out)
{
    struct usage *u = &out->usage;

    if (v[V_USAGE].type != JSON_OBJECT)
        return;
    out->has_usage = true;
    u->input = number(&v[V_INPUT], &v[V_PROMPT]);
    u->output = number(&v[V_OUTPUT], &v[V_COMPLETION]);
    u->cached = number(&v[V_INPUT_CACHED], &v[V_PROMPT_CACHED]);
    u->reasoning = number(&v[V_OUTPUT_REASON], &v[V_COMPLETION_REASON]);
    u->total = v[V_TOTAL].type == JSON_NUMBER ? number(&v[V_TOTAL], &v[V_TOTAL])
                                              : u->input + u->output;
}

/* --- Errors -------------------------------------------------------------------------- */

enum { E_ERROR, E_CODE, E_TYPE, E_ERROR_MESSAGE, E_MESSAGE, E_DETAIL, E_COUNT };

static const struct json_want error_wants[E_COUNT] = {
    [E_ERROR] = {"error", -1},     [E_CODE] = {"code", E_ERROR},
    [E_TYPE] = {"type", E_ERROR},  [E_ERROR_MESSAGE] = {"message", E_ERROR},
    [E_MESSAGE] = {"message", -1}, [E_DETAIL] = {"detail", -1},
};

static bool says(const struct json_val *v, struct str what)
{
    return v->type == JSON_STRING && json_str_is(v->raw, what);
}

/* A 429 that no waiting helps: there is no money left (OpenAI, error codes). */
static bool is_unpaid(struct str body)
{
    static const struct str codes[] = {{"insufficient_quota", 18},
                                       {"billing_hard_limit_reached", 26}};
    struct json_val v[E_COUNT];

    if (json_read(body, &(struct json_limits){0}, error_wants, E_COUNT, v, NULL, NULL) !=
        RC_OK)
        return false;
    for (size_t i = 0; i < COUNTOF(codes); i++)
        if (says(&v[E_CODE], codes[i]) || says(&v[E_TYPE], codes[i]))
            return true;
    return false;
}

enum outcome_class outcome_heed(enum outcome_class cls, bool retry, bool no_retry)
{
    if (retry && cls == OUTCOME_REFUSED)
        return OUTCOME_TRANSIENT;
    return no_retry && cls == OUTCOME_TRANSIENT ? OUTCOME_REFUSED : cls;
}

/* Whole characters of UTF-8; what is none, or would end a line, is a space. */
static void put_plain(char *dst, size_t cap, struct str s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.n;) {
        unsigned char c = (unsigned char)s.p[i];
        size_t len = c < 0xc2 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 1;
        bool good = c < 0x80 ? c >= ' ' && c != 0x7f : len > 1 && i + len <= s.n;

        for (size_t k = 1; good && k < len; k++)
            good = ((unsigned char)s.p[i + k] & 0xc0) == 0x80;
        len = good ? len : 1;
        if (n + len >= cap)
            break;
        memcpy(dst + n, good ? s.p + i : " ", len);
        n += len;
        i += len;
    }
    dst[n] = '\0';
}

void outcome_message(struct str body, char *dst, size_t cap)
{
    static const uint8_t order[] = {E_ERROR_MESSAGE, E_MESSAGE, E_DETAIL, E_ERROR};
    struct json_val v[E_COUNT];
    struct buf text;
    bool json = json_read(body, &(struct json_limits){0}, error_wants, E_COUNT, v, NULL,
                          NULL) == RC_OK;

    buf_init(&text, body.n + 1);
    for (size_t i = 0; json && i < COUNTOF(order) && text.n == 0; i++)
        if (v[order[i]].type == JSON_STRING &&
            json_unescape(v[order[i]].raw, &text) != RC_OK)
            buf_reset(&text);
    put_plain(dst, cap, str_trim(text.n ? buf_peek(&text) : body));
    buf_done(&text);
}

/* --- Answers ------------------------------------------------------------------------- */

struct outcome outcome_of_answer(long status, struct str body)
{
    struct outcome out = {.cls = OUTCOME_DONE};
    struct json_val vals[V_COUNT], top;

    if (status < 200 || status > 299) {
        out.cls = class_of_status(status);
        if (status == 429 && is_unpaid(body))
            out.cls = OUTCOME_DENIED;
        return out;
    }
    if (json_read(body, &(struct json_limits){0}, wants, V_COUNT, vals, &top, NULL) !=
            RC_OK ||
        top.type != JSON_OBJECT) {
        out.cls = OUTCOME_BROKEN;
        return out;
    }
    read_usage(vals, &out);
    return out;
}

static void put_head(struct buf *b, const char req_hex[33], struct str custom_id)
{
    (void)buf_str(b, STR("{\"id\":\"batch_req_"));
    (void)buf_add(b, req_hex, 32);
    (void)buf_str(b, STR("\",\"custom_id\":"));
    (void)buf_str(b, custom_id);
}

/* The answer's body as one JSON value on one line: as it came when it is JSON, else as a
 * string, so that whatever a server said is kept. */
static void put_body(struct buf *b, struct str body, bool known_json)
{
    if (known_json ||
        json_read(body, &(struct json_limits){0}, NULL, 0, NULL, NULL, NULL) == RC_OK)
        (void)json_one_line(b, body);
    else
        (void)json_put_str(b, body);
}

enum rc outcome_line(struct buf *b, const char req_hex[33], struct str custom_id,
                     long status, const char *request_id, struct str body)
{
    put_head(b, req_hex, custom_id);
    (void)buf_str(b, STR(",\"response\":{\"status_code\":"));
    (void)buf_i64(b, status);
    (void)buf_str(b, STR(",\"request_id\":"));
    (void)json_put_str(b, str_of(request_id));
    (void)buf_str(b, STR(",\"body\":"));
    put_body(b, body, status >= 200 && status <= 299);
    return buf_str(b, STR("},\"error\":null}\n"));
}

enum rc outcome_again(struct buf *b, const char req_hex[33], struct str custom_id,
                      struct str result)
{
    struct json_val top = {.type = JSON_OBJECT, .raw = str_trim(result)}, v;
    struct json_iter it = json_iter(&top);
    struct str key, rest = {0};

    while (!rest.p && json_next(&it, &key, &v))
        if (json_str_is(key, STR("custom_id")))
            rest.p = v.raw.p + v.raw.n;
    CHECK(rest.p);
    rest.n = (size_t)(result.p + result.n - rest.p);
    put_head(b, req_hex, custom_id);
    return buf_str(b, rest);
}

enum rc outcome_error_line(struct buf *b, const char req_hex[33], struct str custom_id,
                           const char *code, const char *message)
{
    put_head(b, req_hex, custom_id);
    (void)buf_str(b, STR(",\"response\":null,\"error\":{\"code\":"));
    (void)json_put_str(b, str_of(code));
    (void)buf_str(b, STR(",\"message\":"));
    (void)json_put_str(b, str_of(message));
    return buf_str(b, STR("}}\n"));
}
