/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/estimate.h"
#include "base/map.h"
#include "base/mem.h"
#include "json/json.h"

#define BYTES_PER_TOKEN 4

/* Of one request: a thousand times what the largest models answer. */
#define TOKENS_MAX (UINT64_C(1) << 32)

void estimate_init(struct estimate *x)
{
    *x = (struct estimate){._by_name = map_new()};
}

void estimate_done(struct estimate *x)
{
    x->_by_name = map_free(x->_by_name);
    mem_free(x->models);
    x->models = NULL;
    x->n_models = 0;
}

/* --- Models -------------------------------------------------------------------------- */

static struct estimate_model *model_of(struct estimate *x, struct str name)
{
    uintptr_t at = (uintptr_t)map_get(x->_by_name, name);
    struct estimate_model *m;

    if (at)
        return &x->models[at - 1];
    if (x->n_models == ESTIMATE_MODELS)
        return NULL;
    m = mem_resize(x->models, (x->n_models + 1) * sizeof *m);
    MEM_CHECK(m); /* at most 260 kB */
    x->models = m;
    m = &x->models[x->n_models++];
    *m = (struct estimate_model){0};
    memcpy(m->name, name.p, name.n);
    map_put(x->_by_name, name, (void *)x->n_models); /* NOLINT: a number, no address */
    return m;
}

static void count_model(struct estimate *x, struct str raw)
{
    struct estimate_model *m = NULL;
    struct buf name;

    buf_init(&name, LIMIT_MODEL);
    if (!raw.p)
        m = model_of(x, STR(""));
    else if (json_unescape(raw, &name) == RC_OK) /* a longer one is none that is known */
        m = model_of(x, (struct str){name.n ? name.p : "", name.n});
    if (m)
        m->requests++;
    buf_done(&name);
}

/* --- Tokens -------------------------------------------------------------------------- */

/* Could it be token numbers?  Messages are long: they are not walked to find out. */
static bool like_numbers(const struct json_val *v)
{
    size_t i = 1;

    if (v->type != JSON_ARRAY || v->count == 0)
        return false;
    while (strchr(" \t\r\n[", v->raw.p[i])) /* JSON holds no NUL there */
        i++;
    return v->raw.p[i] == '-' || (unsigned char)(v->raw.p[i] - '0') < 10;
}

/* [1, 2, 3] and nothing else: its elements need no walk. */
static bool flat_numbers(const struct json_val *v)
{
    const char *inside = v->raw.p + 1;
    size_t n = v->raw.n - 1;

    return !memchr(inside, '"', n) && !memchr(inside, '[', n) && !memchr(inside, '{', n);
}

/* Token numbers: [1, 2, 3] or lists of such.  Anything else: false. */
static bool count_numbers(const struct json_val *v, uint64_t *ret)
{
    struct json_iter it = json_iter(v);
    struct json_val one;
    uint64_t n = 0;

    if (!like_numbers(v))
        return false;
    if (flat_numbers(v)) {
        *ret = v->count;
        return true;
    }
    while (json_next(&it, NULL, &one)) {
        struct json_iter inner = json_iter(&one);
        struct json_val first;

        if (one.type == JSON_NUMBER)
            n++;
        else if (one.type == JSON_ARRAY && json_next(&inner, NULL, &first) &&
                 first.type == JSON_NUMBER)
            n += one.count;
        else
            return false;
    }
    *ret = n;
    return n > 0;
}

static void count_prompt(struct estimate_line *x, const struct json_val *v)
{
    uint64_t tokens;

    if (v->type == JSON_NONE || v->type == JSON_NULL)
        return;
    if (!count_numbers(v, &tokens))
        tokens = (v->raw.n + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN;
    x->bytes += v->raw.n;
    x->prompt += tokens;
}

/* These answer with no text of a length to be chosen. */
static bool answers_text(enum endpoint ep)
{
    return ep == ENDPOINT_CHAT || ep == ENDPOINT_COMPLETIONS || ep == ENDPOINT_RESPONSES;
}

void estimate_line(const struct line *line, struct estimate_line *ret)
{
    static const enum line_part prompts[] = {PART_TOOLS, PART_INSTRUCTIONS, PART_MESSAGES,
                                             PART_INPUT, PART_PROMPT};
    const struct json_val *parts = line->parts;
    uint64_t limit = 0, answers = 0, n;

    *ret = (struct estimate_line){.text = answers_text(line->endpoint)};
    for (size_t i = 0; i < COUNTOF(prompts); i++)
        count_prompt(ret, &parts[prompts[i]]);
    if (!ret->text)
        return;
    for (unsigned i = PART_LIMITS; i < PART_LIMITS_END; i++)
        if (parts[i].type == JSON_NUMBER && json_u64(&parts[i], &n) == RC_OK)
            limit = n;
    if (parts[PART_N].type != JSON_NUMBER ||
        json_u64(&parts[PART_N], &answers) != RC_OK || answers == 0)
        answers = 1;
    /* A number that no server takes is no limit. */
    if (limit > 0 && limit <= TOKENS_MAX && answers <= TOKENS_MAX)
        ret->max_output = limit < TOKENS_MAX / answers ? limit * answers : TOKENS_MAX;
}

void estimate_add(void *estimate, const struct line *line)
{
    struct estimate *x = estimate;
    struct estimate_line one;

    count_model(x, line->model);
    estimate_line(line, &one);
    x->input_bytes += one.bytes;
    x->input_tokens += one.prompt;
    if (one.max_output)
        x->max_output += one.max_output; /* 2^27 lines, as many as there may ever be, stay
                                            below 2^63 */
    else if (one.text)
        x->unlimited++;
}
