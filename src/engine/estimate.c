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

/* Token numbers: [1, 2, 3] or lists of such.  Anything else: false. */
static bool count_numbers(const struct json_val *v, uint64_t *ret)
{
    struct json_iter it = json_iter(v), inner;
    struct json_val one, first;
    uint64_t n = 0;

    if (v->type != JSON_ARRAY)
        return false;
    while (json_next(&it, NULL, &one)) {
        inner = json_iter(&one);
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

static void count_prompt(struct estimate *x, const struct json_val *v)
{
    uint64_t tokens;

    if (v->type == JSON_NULL)
        return;
    if (!count_numbers(v, &tokens))
        tokens = (v->raw.n + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN;
    x->input_bytes += v->raw.n;
    x->input_tokens += tokens;
}

static bool key_is_one_of(struct str key, const char *const *names)
{
    for (; *names; names++)
        if (json_str_is(key, str_of(*names)))
            return true;
    return false;
}

/* These answer with no text of a length to be chosen. */
static bool answers_text(enum endpoint ep)
{
    return ep == ENDPOINT_CHAT || ep == ENDPOINT_COMPLETIONS || ep == ENDPOINT_RESPONSES;
}

void estimate_add(void *estimate, const struct line *line)
{
    static const char *const prompts[] = {"messages",     "prompt", "input",
                                          "instructions", "tools",  NULL};
    static const char *const limits[] = {"max_tokens", "max_completion_tokens",
                                         "max_output_tokens", NULL};
    struct estimate *x = estimate;
    struct json_val body = {.type = JSON_OBJECT, .raw = line->body}, v;
    struct json_iter it = json_iter(&body);
    uint64_t limit = 0, answers = 1, n;
    struct str key;

    count_model(x, line->model);
    while (json_next(&it, &key, &v)) {
        if (key_is_one_of(key, prompts))
            count_prompt(x, &v);
        else if (key_is_one_of(key, limits) && json_u64(&v, &n) == RC_OK)
            limit = n;
        else if (json_str_is(key, STR("n")) && json_u64(&v, &n) == RC_OK && n > 0)
            answers = n;
    }
    if (!answers_text(line->endpoint))
        return;
    /* A number that no server takes is no limit. */
    if (limit == 0 || limit > TOKENS_MAX || answers > TOKENS_MAX)
        x->unlimited++;
    else /* 2^27 lines, as many as there may ever be, stay below 2^63 */
        x->max_output += limit < TOKENS_MAX / answers ? limit * answers : TOKENS_MAX;
}
