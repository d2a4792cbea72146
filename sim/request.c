/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/request.h"

#include <stdarg.h>
#include <stdio.h>
#include <xxhash.h>
#include <zlib.h>

/* What the several decisions about one body are salted with, so that they differ. */
enum { SALT_TOKENS = 0x746f6b, SALT_LATENCY = 0x6c6174 };

/* What the real API counts for an image of 1024 x 1024 in low quality. */
#define IMAGE_TOKENS 272

enum {
    WANT_MODEL,
    WANT_STREAM,
    WANT_MESSAGES,
    WANT_PROMPT,
    WANT_INPUT,
    WANT_MAX_TOKENS,
    WANT_MAX_COMPLETION,
    WANT_MAX_OUTPUT,
    WANT_N,
    WANT_FORMAT,
    WANT_DIMS,
    WANT_RESPONSE_FORMAT,
    WANT_IMAGE,
    WANT_IMAGES,
    WANT_TOOLS,
    WANT_INSTRUCTIONS,
    WANT_PRIORITY,
    WANT_METADATA,
    WANT_SIM_OUT,
    WANT_COUNT
};

static const struct json_want wants[WANT_COUNT] = {
    [WANT_MODEL] = {"model", -1},
    [WANT_STREAM] = {"stream", -1},
    [WANT_MESSAGES] = {"messages", -1},
    [WANT_PROMPT] = {"prompt", -1},
    [WANT_INPUT] = {"input", -1},
    [WANT_MAX_TOKENS] = {"max_tokens", -1},
    [WANT_MAX_COMPLETION] = {"max_completion_tokens", -1},
    [WANT_MAX_OUTPUT] = {"max_output_tokens", -1},
    [WANT_N] = {"n", -1},
    [WANT_FORMAT] = {"encoding_format", -1},
    [WANT_DIMS] = {"dimensions", -1},
    [WANT_RESPONSE_FORMAT] = {"response_format", -1},
    [WANT_IMAGE] = {"image", -1},
    [WANT_IMAGES] = {"images", -1},
    [WANT_TOOLS] = {"tools", -1},
    [WANT_INSTRUCTIONS] = {"instructions", -1},
    [WANT_PRIORITY] = {"priority", -1},
    [WANT_METADATA] = {"metadata", -1},
    [WANT_SIM_OUT] = {"sim_out", WANT_METADATA},
};

static const struct {
    const char *method;
    struct str path;
} routes[] = {
#define X(name, method, path) {method, {path, sizeof(path) - 1}},
    SIM_ROUTES(X)
#undef X
};

/* What each endpoint of work reads. */
static const struct {
    unsigned work, limit, other_limit; /* members: the prompt, the most output */
    bool array_only;                   /* the work is one conversation */
    bool text_only;                    /* the work is one description */
    bool edits;                        /* of images that the request must bring */
    uint64_t makes;                    /* output tokens of one answer; 0: as it comes */
    bool lists;                        /* a list of prompts has an answer for each */
    bool has_n;                        /* `n` multiplies the answers */
    bool generates;
} works[] = {
    [SIM_CHAT] = {WANT_MESSAGES, WANT_MAX_COMPLETION, WANT_MAX_TOKENS, .array_only = true,
                  .has_n = true, .generates = true},
    [SIM_COMPLETIONS] = {WANT_PROMPT, WANT_MAX_TOKENS, WANT_MAX_TOKENS, .lists = true,
                         .has_n = true, .generates = true},
    [SIM_EMBEDDINGS] = {WANT_INPUT, .lists = true},
    [SIM_RESPONSES] = {WANT_INPUT, WANT_MAX_OUTPUT, WANT_MAX_OUTPUT, .generates = true},
    [SIM_MODERATIONS] = {WANT_INPUT, .lists = true},
    [SIM_IMAGES] = {WANT_PROMPT, .text_only = true, .has_n = true, .makes = IMAGE_TOKENS},
    [SIM_IMAGE_EDITS] = {WANT_PROMPT, .text_only = true, .has_n = true, .edits = true,
                         .makes = IMAGE_TOKENS},
    [SIM_VIDEOS] = {WANT_PROMPT, .text_only = true},
};

enum sim_route sim_route_of(struct str method, struct str path)
{
    enum sim_route found = SIM_NO_PATH;

    for (unsigned i = 0; i < COUNTOF(routes) && found == SIM_NO_PATH; i++) {
        if (str_eq(path, routes[i].path))
            found = (enum sim_route)i;
        else if (i == SIM_MODEL && str_starts(path, routes[i].path))
            found = SIM_MODEL;
    }
    if (found != SIM_NO_PATH && !str_is(method, routes[found].method))
        return SIM_NO_METHOD;
    return found;
}

void sim_request_init(struct sim_request *rq, enum sim_route route, struct str body,
                      uint64_t seed)
{
    *rq = (struct sim_request){.route = route, .body = body};
    rq->hash = XXH3_64bits_withSeed(body.p, body.n, seed);
    rq->crc = (uint32_t)crc32_z(0, (const Bytef *)body.p, body.n);
}

PRINTF_FMT(4, 5)
static enum rc refuse(struct sim_refusal *why, unsigned status, const char *param,
                      const char *fmt, ...)
{
    va_list ap;

    why->status = status;
    why->param = param;
    va_start(ap, fmt);
    (void)vsnprintf(why->text, sizeof why->text, fmt, ap); /* for people: may be cut */
    va_end(ap);
    return RC_INVALID;
}

/* A whole number of 1 to max; null and nothing leave *ret as it is. */
static enum rc read_number(const struct json_val *vals, unsigned want, uint64_t max,
                           uint64_t *ret, struct sim_refusal *why)
{
    const struct json_val *v = &vals[want];
    uint64_t n;

    if (v->type == JSON_NONE || v->type == JSON_NULL)
        return RC_OK;
    if (v->type != JSON_NUMBER || json_u64(v, &n) != RC_OK || n == 0 || n > max)
        return refuse(why, 400, wants[want].key,
                      "%s must be a whole number from 1 to %llu", wants[want].key,
                      (unsigned long long)max);
    *ret = n;
    return RC_OK;
}

static enum rc read_model(struct sim_request *rq, const struct json_val *v,
                          const struct sim_options *o, struct sim_refusal *why)
{
    if (v->type != JSON_STRING)
        return refuse(why, 400, "model",
                      v->type == JSON_NONE ? "you must provide a model parameter"
                                           : "model must be a string");
    rq->model = v->raw;
    if (v->raw.n > 1024)
        return refuse(why, 400, "model", "the model's name is too long");
    if (!o->strict_models)
        return RC_OK;
    for (unsigned i = 0; i < o->n_models; i++)
        if (json_str_is(v->raw, str_of(o->models[i])))
            return RC_OK;
    return refuse(why, 404, "model", "The model `%.*s` does not exist.",
                  (int)v->raw.n - 2, v->raw.p + 1);
}

/* A list of prompts has an answer for each; a string, or a list of token numbers, is one
 * prompt. */
static bool is_list(const struct json_val *v)
{
    struct json_iter it = json_iter(v);
    struct str key;
    struct json_val first;

    return v->type == JSON_ARRAY && json_next(&it, &key, &first) &&
           first.type != JSON_NUMBER;
}

static enum rc read_choices(struct sim_request *rq, const struct json_val *vals,
                            struct sim_refusal *why)
{
    unsigned want = works[rq->route].work;
    uint64_t n = 1;

    if (works[rq->route].has_n && read_number(vals, WANT_N, 128, &n, why) != RC_OK)
        return RC_INVALID;
    rq->list = works[rq->route].lists && is_list(&rq->input);
    if (rq->list)
        n *= rq->input.count;
    if (n > SIM_CHOICES_MAX)
        return refuse(why, 400, wants[want].key, "more than %u answers are asked for",
                      SIM_CHOICES_MAX);
    rq->choices = (uint32_t)n;
    return RC_OK;
}

/* What a chat template makes a prompt of, in its order, as the bytes that were sent. */
static void read_prompt(struct sim_request *rq, const struct json_val *vals)
{
    uint64_t bytes = 0;

    if (works[rq->route].generates) {
        if (vals[WANT_TOOLS].type == JSON_ARRAY)
            rq->parts[0] = vals[WANT_TOOLS].raw;
        if (vals[WANT_INSTRUCTIONS].type == JSON_STRING)
            rq->parts[1] = vals[WANT_INSTRUCTIONS].raw;
    }
    rq->parts[2] = rq->input.raw;
    for (size_t i = 0; i < COUNTOF(rq->parts); i++)
        bytes += rq->parts[i].n;
    rq->prompt_tokens = u64_max(1, bytes / 4);
}

static enum rc read_work(struct sim_request *rq, const struct json_val *vals,
                         struct sim_refusal *why)
{
    unsigned want = works[rq->route].work;
    const struct json_val *v = &vals[want];
    bool array = v->type == JSON_ARRAY;

    if (array ? works[rq->route].text_only
              : works[rq->route].array_only || v->type != JSON_STRING)
        return refuse(why, 400, wants[want].key, "%s %s", wants[want].key,
                      v->type == JSON_NONE ? "is missing" : "has the wrong type");
    if (array && v->count == 0)
        return refuse(why, 400, wants[want].key, "%s is empty", wants[want].key);
    if (works[rq->route].edits && vals[WANT_IMAGE].type == JSON_NONE &&
        vals[WANT_IMAGES].type == JSON_NONE)
        return refuse(why, 400, "images", "images is missing");
    rq->input = *v;
    read_prompt(rq, vals);
    return read_choices(rq, vals, why);
}

/* metadata.sim_out, a number or (as metadata is) a text of digits; 0: none. */
static enum rc read_sim_out(const struct json_val *v, uint64_t *ret,
                            struct sim_refusal *why)
{
    uint64_t n = 0;

    *ret = 0;
    if (v->type == JSON_NONE || v->type == JSON_NULL)
        return RC_OK;
    if (v->type == JSON_NUMBER)
        IGNORE(json_u64(v, &n)); /* then n is 0 */
    else if (v->type == JSON_STRING)
        IGNORE(str_u64((struct str){v->raw.p + 1, v->raw.n - 2}, &n)); /* likewise */
    if (n == 0 || n > SIM_TOKENS_MAX)
        return refuse(why, 400, "metadata",
                      "metadata.sim_out must be a whole number from 1 to %d",
                      SIM_TOKENS_MAX);
    *ret = n;
    return RC_OK;
}

static enum rc read_output(struct sim_request *rq, const struct json_val *vals,
                           const struct sim_options *o, struct sim_refusal *why)
{
    uint64_t told;

    rq->output_tokens = works[rq->route].makes;
    if (!works[rq->route].generates)
        return RC_OK;
    if (read_number(vals, works[rq->route].other_limit, UINT32_MAX, &rq->limit, why) ||
        read_number(vals, works[rq->route].limit, UINT32_MAX, &rq->limit, why) ||
        read_sim_out(&vals[WANT_SIM_OUT], &told, why) != RC_OK)
        return RC_INVALID;
    rq->output_tokens =
        told ? told : sim_lengths_pick(&o->tokens, sim_mix64(rq->hash ^ SALT_TOKENS));
    rq->capped = rq->limit && rq->limit < rq->output_tokens;
    if (rq->capped)
        rq->output_tokens = rq->limit;
    return RC_OK;
}

/* As vLLM has it: any whole number, the lower goes first. */
static enum rc read_priority(struct sim_request *rq, const struct json_val *v,
                             struct sim_refusal *why)
{
    struct json_val digits = *v;
    bool minus = v->type == JSON_NUMBER && v->raw.p[0] == '-';
    uint64_t n;

    if (v->type == JSON_NONE || v->type == JSON_NULL)
        return RC_OK;
    digits.raw.p += minus;
    digits.raw.n -= minus;
    if (v->type != JSON_NUMBER || json_u64(&digits, &n) != RC_OK || n > INT32_MAX)
        return refuse(why, 400, "priority", "priority must be a whole number");
    rq->priority = minus ? -(int)n : (int)n;
    return RC_OK;
}

enum rc sim_request_read(struct sim_request *rq, const struct sim_options *o,
                         struct sim_refusal *why)
{
    static const struct json_limits limits = {.depth = 0, .unique_keys = false};
    struct json_val vals[WANT_COUNT], top;
    struct json_err je;

    if (json_read(rq->body, &limits, wants, WANT_COUNT, vals, &top, &je) != RC_OK)
        return refuse(why, 400, NULL, "the body is not JSON: %s at byte %zu", je.reason,
                      je.offset);
    if (top.type != JSON_OBJECT)
        return refuse(why, 400, NULL, "the body is not a JSON object");
    if (vals[WANT_STREAM].type == JSON_TRUE)
        return refuse(why, 400, "stream", "this simulator does not stream");
    rq->dims = o->embedding_dim;
    rq->base64 = vals[WANT_FORMAT].type == JSON_STRING &&
                 json_str_is(vals[WANT_FORMAT].raw, STR("base64"));
    rq->by_url = vals[WANT_RESPONSE_FORMAT].type == JSON_STRING &&
                 json_str_is(vals[WANT_RESPONSE_FORMAT].raw, STR("url"));
    if (read_model(rq, &vals[WANT_MODEL], o, why) != RC_OK ||
        read_work(rq, vals, why) != RC_OK ||
        read_number(vals, WANT_DIMS, 65536, &rq->dims, why) != RC_OK ||
        read_priority(rq, &vals[WANT_PRIORITY], why) != RC_OK)
        return RC_INVALID;
    return read_output(rq, vals, o, why);
}

static void move(struct str *s, const char *from, const char *to)
{
    if (s->p)
        s->p = to + (s->p - from);
}

void sim_request_move(struct sim_request *rq, const char *from, const char *to)
{
    move(&rq->body, from, to);
    move(&rq->model, from, to);
    move(&rq->input.raw, from, to);
    for (size_t i = 0; i < COUNTOF(rq->parts); i++)
        move(&rq->parts[i], from, to);
}

#define BLOCK_BYTES (SIM_BLOCK * 4)

void sim_request_ids(const struct sim_request *rq, uint64_t *ids)
{
    uint64_t id = XXH3_64bits(rq->model.p, rq->model.n);
    uint32_t n = sim_request_blocks(rq), done = 0;
    char block[BLOCK_BYTES];
    size_t have = 0;

    for (size_t i = 0; i < COUNTOF(rq->parts); i++) {
        struct str rest = rq->parts[i];

        while (rest.n && done < n) {
            size_t take = u64_min(rest.n, BLOCK_BYTES - have);

            memcpy(block + have, rest.p, take);
            have += take;
            rest.p += take, rest.n -= take;
            if (have < BLOCK_BYTES)
                break;
            id = ids[done++] = XXH3_64bits_withSeed(block, BLOCK_BYTES, id);
            have = 0;
        }
    }
    CHECK(done == n);
}

uint64_t sim_request_reserve(const struct sim_request *rq)
{
    return rq->prompt_tokens + rq->limit * rq->choices;
}

usec_t sim_request_time(const struct sim_request *rq, const struct sim_options *o)
{
    uint64_t t = sim_range_pick(o->latency, sim_mix64(rq->hash ^ SALT_LATENCY));

    return (usec_t)t + o->token_latency * (usec_t)rq->output_tokens;
}
