/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/answer.h"

#include <math.h>
#include <xxhash.h>
#include <zlib.h>

#define LIT(b, text) ((void)buf_add((b), (text), sizeof(text) - 1))

enum { MODELS_CREATED = 1700000000, MARK = 32 };

static const char filler[] =
    " the quick brown fox jumps over the lazy dog while five dozen liquor jugs wait in "
    "the old stone kitchen and nobody asks how vexingly quick daft zebras can jump when "
    "a wizard's job is to vex chumps quickly in fog; pack my box and carry it down to "
    "the harbour before the tide comes in, because the boat will not wait for anyone, "
    "neither for the cook nor for the captain's cat, and the next one leaves in spring.";

/* What a body that passes through must survive: escapes, surrogates, bytes above ASCII,
 * numbers in text, markup. */
static const char tricky[] = " \\\"q\\\" \\\\ \\n\\t \\u0000 \\u00e9 \\ud83d\\ude00 "
                             "\xc3\xa9\xe6\xbc\xa2\xf0\x9f\x98\x80 </script> 1.10 {}[],:";

/* --- Parts
 * ----------------------------------------------------------------------------*/

static void put_hex(char *dst, uint64_t v, unsigned digits)
{
    for (unsigned i = 0; i < digits; i++)
        dst[i] = "0123456789abcdef"[v >> 4 * (digits - 1 - i) & 15];
}

static void put_mark(struct buf *b, const struct sim_request *rq)
{
    char mark[MARK];

    put_hex(mark, rq->hash, 16);
    put_hex(mark + 16, rq->crc, 8);
    put_hex(mark + 24, rq->body.n, 8);
    (void)buf_add(b, mark, sizeof mark);
}

/* About four bytes a token, the mark first. */
static void put_text(struct buf *b, const struct sim_request *rq, uint32_t choice)
{
    uint64_t bits = sim_mix64(rq->hash + choice);
    size_t at = bits % (sizeof filler - 1);
    size_t left = rq->output_tokens * 4 > MARK ? rq->output_tokens * 4 - MARK : 0;

    put_mark(b, rq);
    while (left && buf_failed(b) == RC_OK) {
        size_t n = u64_min(left, sizeof filler - 1 - at);

        (void)buf_add(b, filler + at, n);
        left -= n;
        at = 0;
    }
    if (bits >> 61 == 0)
        LIT(b, tricky);
}

static void put_usage(struct buf *b, const struct sim_request *rq)
{
    uint64_t out = rq->output_tokens * rq->choices;

    LIT(b, "\"usage\":{\"prompt_tokens\":");
    (void)buf_u64(b, rq->prompt_tokens);
    LIT(b, ",\"completion_tokens\":");
    (void)buf_u64(b, out);
    LIT(b, ",\"total_tokens\":");
    (void)buf_u64(b, rq->prompt_tokens + out);
    LIT(b, ",\"prompt_tokens_details\":{\"cached_tokens\":");
    (void)buf_u64(b, rq->cached);
    LIT(b, ",\"audio_tokens\":0},"
           "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0,"
           "\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}");
}

/* `,"created":N,"model":"..."` */
static void put_created_model(struct buf *b, const struct sim_request *rq,
                              int64_t created)
{
    LIT(b, ",\"created\":");
    (void)buf_i64(b, created);
    LIT(b, ",\"model\":");
    (void)buf_str(b, rq->model);
}

static void put_finish(struct buf *b, const struct sim_request *rq)
{
    if (rq->capped)
        LIT(b, "\"finish_reason\":\"length\"}");
    else
        LIT(b, "\"finish_reason\":\"stop\"}");
}

/* --- Endpoints -----------------------------------------------------------------------
 */

static void put_chat(struct buf *b, const struct sim_request *rq, int64_t created)
{
    LIT(b, "{\"id\":\"chatcmpl-");
    put_mark(b, rq);
    LIT(b, "\",\"object\":\"chat.completion\"");
    put_created_model(b, rq, created);
    LIT(b, ",\"choices\":[");
    for (uint32_t i = 0; i < rq->choices; i++) {
        if (i)
            (void)buf_char(b, ',');
        LIT(b, "{\"index\":");
        (void)buf_u64(b, i);
        LIT(b, ",\"message\":{\"role\":\"assistant\",\"content\":\"");
        put_text(b, rq, i);
        LIT(b, "\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,");
        put_finish(b, rq);
    }
    LIT(b, "],");
    put_usage(b, rq);
    LIT(b, ",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_sim\"}");
}

static void put_completions(struct buf *b, const struct sim_request *rq, int64_t created)
{
    LIT(b, "{\"id\":\"cmpl-");
    put_mark(b, rq);
    LIT(b, "\",\"object\":\"text_completion\"");
    put_created_model(b, rq, created);
    LIT(b, ",\"choices\":[");
    for (uint32_t i = 0; i < rq->choices; i++) {
        if (i)
            (void)buf_char(b, ',');
        LIT(b, "{\"text\":\"");
        put_text(b, rq, i);
        LIT(b, "\",\"index\":");
        (void)buf_u64(b, i);
        LIT(b, ",\"logprobs\":null,");
        put_finish(b, rq);
    }
    LIT(b, "],");
    put_usage(b, rq);
    LIT(b, ",\"system_fingerprint\":\"fp_sim\"}");
}

static void put_responses(struct buf *b, const struct sim_request *rq, int64_t created)
{
    LIT(b, "{\"id\":\"resp_");
    put_mark(b, rq);
    LIT(b, "\",\"object\":\"response\",\"created_at\":");
    (void)buf_i64(b, created);
    if (rq->capped)
        LIT(b, ",\"status\":\"incomplete\",\"background\":false,\"error\":null,"
               "\"incomplete_details\":{\"reason\":\"max_output_tokens\"}");
    else
        LIT(b, ",\"status\":\"completed\",\"background\":false,\"error\":null,"
               "\"incomplete_details\":null");
    LIT(b, ",\"instructions\":null,\"max_output_tokens\":");
    if (rq->capped)
        (void)buf_u64(b, rq->output_tokens);
    else
        LIT(b, "null");
    LIT(b, ",\"model\":");
    (void)buf_str(b, rq->model);
    LIT(b, ",\"output\":[{\"type\":\"message\",\"id\":\"msg_");
    put_mark(b, rq);
    LIT(b, "\",\"status\":\"completed\",\"role\":\"assistant\",\"content\":[{\"type\":"
           "\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":\"");
    put_text(b, rq, 0);
    LIT(b, "\"}]}],\"parallel_tool_calls\":true,\"previous_response_id\":null,"
           "\"reasoning\":{\"effort\":null,\"summary\":null},\"store\":false,"
           "\"temperature\":1.0,\"text\":{\"format\":{\"type\":\"text\"}},"
           "\"tool_choice\":\"auto\",\"tools\":[],\"top_p\":1.0,"
           "\"truncation\":\"disabled\",\"usage\":{\"input_tokens\":");
    (void)buf_u64(b, rq->prompt_tokens);
    LIT(b, ",\"input_tokens_details\":{\"cached_tokens\":");
    (void)buf_u64(b, rq->cached);
    LIT(b, "},\"output_tokens\":");
    (void)buf_u64(b, rq->output_tokens);
    LIT(b, ",\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":");
    (void)buf_u64(b, rq->prompt_tokens + rq->output_tokens);
    LIT(b, "},\"user\":null,\"metadata\":{}}");
}

/* Vectors of about unit length: uniform parts have a mean square of limit^2 / 3. */
static int64_t vector_part(uint64_t seed, uint64_t i, uint64_t limit)
{
    return (int64_t)(sim_mix64(seed + i) % (2 * limit + 1)) - (int64_t)limit;
}

static void put_floats(struct buf *b, uint64_t seed, uint64_t dims, uint64_t limit)
{
    (void)buf_char(b, '[');
    for (uint64_t i = 0; i < dims && buf_failed(b) == RC_OK; i++) {
        int64_t v = vector_part(seed, i, limit);
        uint64_t u = v < 0 ? (uint64_t)-v : (uint64_t)v;
        char text[12];
        unsigned n = 0;

        if (i)
            text[n++] = ',';
        if (v < 0)
            text[n++] = '-';
        text[n++] = (char)('0' + u / 100000000);
        text[n++] = '.';
        for (uint64_t unit = 10000000; unit; unit /= 10)
            text[n++] = (char)('0' + u / unit % 10);
        (void)buf_add(b, text, n);
    }
    (void)buf_char(b, ']');
}

struct base64 {
    struct buf *b;
    uint32_t acc;
    unsigned bits;
};

static void base64_digit(struct base64 *e, uint32_t digit)
{
    (void)buf_char(
        e->b,
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[digit & 63]);
}

static void base64_byte(struct base64 *e, uint8_t byte)
{
    e->acc = e->acc << 8 | byte;
    for (e->bits += 8; e->bits >= 6; e->bits -= 6)
        base64_digit(e, e->acc >> (e->bits - 6));
}

static void base64_end(struct base64 *e)
{
    if (e->bits)
        base64_digit(e, e->acc << (6 - e->bits));
    for (; e->bits && e->bits != 6; e->bits += 2) /* 4 left over: one pad; 2: two */
        (void)buf_char(e->b, '=');
}

/* As the SDKs ask for by default: base64 of little-endian 32-bit floats. */
static void put_base64(struct buf *b, uint64_t seed, uint64_t dims, uint64_t limit)
{
    struct base64 e = {.b = b};

    (void)buf_char(b, '"');
    for (uint64_t i = 0; i < dims * 4 && buf_failed(b) == RC_OK; i++) {
        float f = (float)((double)vector_part(seed, i / 4, limit) / 1e8);
        uint32_t word;

        memcpy(&word, &f, sizeof word);
        base64_byte(&e, word >> 8 * (i % 4) & 255);
    }
    base64_end(&e);
    (void)buf_char(b, '"');
}

static void put_embeddings(struct buf *b, const struct sim_request *rq, int64_t created)
{
    uint64_t limit = (uint64_t)(1e8 * sqrt(3.0 / (double)u64_max(3, rq->dims)));
    struct json_iter it = json_iter(&rq->input);
    struct str key;
    struct json_val item = rq->input;

    LIT(b, "{\"id\":\"embd-");
    put_mark(b, rq);
    LIT(b, "\",\"object\":\"list\"");
    put_created_model(b, rq, created);
    LIT(b, ",\"data\":[");
    for (uint32_t i = 0; i < rq->choices && buf_failed(b) == RC_OK; i++) {
        uint64_t seed;

        if (rq->list)
            IGNORE(json_next(&it, &key, &item)); /* choices is how many there are */
        seed = XXH3_64bits(item.raw.p, item.raw.n);
        if (i)
            (void)buf_char(b, ',');
        LIT(b, "{\"object\":\"embedding\",\"index\":");
        (void)buf_u64(b, i);
        LIT(b, ",\"embedding\":");
        if (rq->base64)
            put_base64(b, seed, rq->dims, limit);
        else
            put_floats(b, seed, rq->dims, limit);
        (void)buf_char(b, '}');
    }
    LIT(b, "],\"usage\":{\"prompt_tokens\":");
    (void)buf_u64(b, rq->prompt_tokens);
    LIT(b, ",\"total_tokens\":");
    (void)buf_u64(b, rq->prompt_tokens);
    LIT(b, "}}");
}

static void put_categories(struct buf *b, const char *value)
{
    static const char *const names[] = {"harassment",
                                        "harassment/threatening",
                                        "sexual",
                                        "sexual/minors",
                                        "hate",
                                        "hate/threatening",
                                        "illicit",
                                        "illicit/violent",
                                        "self-harm",
                                        "self-harm/intent",
                                        "self-harm/instructions",
                                        "violence",
                                        "violence/graphic"};

    for (size_t i = 0; i < COUNTOF(names); i++) {
        (void)buf_z(b, i ? ",\"" : "{\"");
        (void)buf_z(b, names[i]);
        LIT(b, "\":");
        (void)buf_z(b, value);
    }
    (void)buf_char(b, '}');
}

static void put_moderations(struct buf *b, const struct sim_request *rq, int64_t created)
{
    (void)created; /* the real object has no time */
    LIT(b, "{\"id\":\"modr-");
    put_mark(b, rq);
    LIT(b, "\",\"model\":");
    (void)buf_str(b, rq->model);
    LIT(b, ",\"results\":[");
    for (uint32_t i = 0; i < rq->choices && buf_failed(b) == RC_OK; i++) {
        (void)buf_z(b, i ? ",{\"flagged\":false,\"categories\":"
                         : "{\"flagged\":false,\"categories\":");
        put_categories(b, "false");
        LIT(b, ",\"category_scores\":");
        put_categories(b, "0.000001");
        LIT(b, ",\"category_applied_input_types\":");
        put_categories(b, "[\"text\"]");
        (void)buf_char(b, '}');
    }
    LIT(b, "]}");
}

/* One chunk of a PNG: length, type and data, CRC-32 over the last two (RFC 2083, 3.2). */
static void png_chunk(struct buf *png, const char *type_and_data, size_t n)
{
    uint32_t head = (uint32_t)n - 4;
    uint32_t crc = (uint32_t)crc32_z(0, (const Bytef *)type_and_data, n);

    for (int shift = 24; shift >= 0; shift -= 8)
        (void)buf_char(png, (char)(head >> shift));
    (void)buf_add(png, type_and_data, n);
    for (int shift = 24; shift >= 0; shift -= 8)
        (void)buf_char(png, (char)(crc >> shift));
}

/* A PNG of one grey pixel whose comment begins with the mark. */
static void put_png(struct buf *b, const struct sim_request *rq, uint32_t i)
{
    static const char ihdr[] = "IHDR\0\0\0\1\0\0\0\1\10\0\0\0\0", iend[] = "IEND";
    static const char idat[] = "IDAT\x78\x01\x01\x02\0\xfd\xff\0\x80\0\x82\0\x81";
    struct base64 e = {.b = b};
    struct buf png, text;

    buf_init(&png, 1024);
    buf_init(&text, 256);
    LIT(&png, "\x89PNG\r\n\x1a\n");
    png_chunk(&png, ihdr, sizeof ihdr - 1);
    (void)buf_add(&text, "tEXtComment", 12);
    put_mark(&text, rq);
    (void)buf_fmt(&text, " %u", i);
    png_chunk(&png, text.p, text.n);
    png_chunk(&png, idat, sizeof idat - 1);
    png_chunk(&png, iend, sizeof iend - 1);
    for (size_t k = 0; k < png.n; k++)
        base64_byte(&e, (uint8_t)png.p[k]);
    base64_end(&e);
    buf_done(&text);
    buf_done(&png);
}

static void put_images_usage(struct buf *b, const struct sim_request *rq)
{
    uint64_t out = rq->output_tokens * rq->choices;

    LIT(b,
        ",\"background\":\"opaque\",\"output_format\":\"png\",\"quality\":\"low\",\"size\":"
        "\"1024x1024\",\"usage\":{\"input_tokens\":");
    (void)buf_u64(b, rq->prompt_tokens);
    LIT(b, ",\"input_tokens_details\":{\"image_tokens\":0,\"text_tokens\":");
    (void)buf_u64(b, rq->prompt_tokens);
    LIT(b, "},\"output_tokens\":");
    (void)buf_u64(b, out);
    LIT(b, ",\"total_tokens\":");
    (void)buf_u64(b, rq->prompt_tokens + out);
    (void)buf_char(b, '}');
}

/* As the real API: models that answer with bytes count tokens, those with URLs do not. */
static void put_images(struct buf *b, const struct sim_request *rq, int64_t created)
{
    LIT(b, "{\"created\":");
    (void)buf_i64(b, created);
    LIT(b, ",\"data\":[");
    for (uint32_t i = 0; i < rq->choices && buf_failed(b) == RC_OK; i++) {
        if (i)
            (void)buf_char(b, ',');
        if (rq->by_url) {
            LIT(b, "{\"url\":\"https://images.invalid/");
            put_mark(b, rq);
            (void)buf_fmt(b, "-%u.png\",\"revised_prompt\":null}", i);
        } else {
            LIT(b, "{\"b64_json\":\"");
            put_png(b, rq, i);
            LIT(b, "\"}");
        }
    }
    (void)buf_char(b, ']');
    if (!rq->by_url)
        put_images_usage(b, rq);
    (void)buf_char(b, '}');
}

/* The real one answers before the video is there, too. */
static void put_videos(struct buf *b, const struct sim_request *rq, int64_t created)
{
    LIT(b, "{\"id\":\"video_");
    put_mark(b, rq);
    LIT(b, "\",\"object\":\"video\",\"created_at\":");
    (void)buf_i64(b, created);
    LIT(b, ",\"status\":\"queued\",\"model\":");
    (void)buf_str(b, rq->model);
    LIT(b, ",\"progress\":0,\"prompt\":");
    (void)buf_str(b, rq->input.raw);
    LIT(b,
        ",\"seconds\":\"4\",\"size\":\"720x1280\",\"completed_at\":null,\"expires_at\":"
        "null,\"error\":null,\"remixed_from_video_id\":null}");
}

void sim_answer(struct buf *dst, const struct sim_request *rq, int64_t created)
{
    static void (*const put[])(struct buf *, const struct sim_request *,
                               int64_t) = {[SIM_CHAT] = put_chat,
                                           [SIM_COMPLETIONS] = put_completions,
                                           [SIM_EMBEDDINGS] = put_embeddings,
                                           [SIM_RESPONSES] = put_responses,
                                           [SIM_MODERATIONS] = put_moderations,
                                           [SIM_IMAGES] = put_images,
                                           [SIM_IMAGE_EDITS] = put_images,
                                           [SIM_VIDEOS] = put_videos};

    CHECK(sim_route_works(rq->route));
    put[rq->route](dst, rq, created);
}

/* --- Models and errors ---------------------------------------------------------------
 */

static void put_model(struct buf *b, const char *name)
{
    (void)buf_fmt(b,
                  "{\"id\":\"%s\",\"object\":\"model\",\"created\":%d,\"owned_by\":"
                  "\"batchd-sim\",\"root\":\"%s\",\"parent\":null}",
                  name, MODELS_CREATED, name);
}

void sim_answer_models(struct buf *dst, const struct sim_options *o)
{
    LIT(dst, "{\"object\":\"list\",\"data\":[");
    for (unsigned i = 0; i < o->n_models; i++) {
        if (i)
            (void)buf_char(dst, ',');
        put_model(dst, o->models[i]);
    }
    LIT(dst, "]}");
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* Is the percent-encoded text `name`? */
static bool decodes_to(struct str s, const char *name)
{
    size_t i = 0;

    for (; i < s.n && *name; name++) {
        char c = s.p[i++];

        if (c == '%' && i + 2 <= s.n && hex_digit(s.p[i]) >= 0 &&
            hex_digit(s.p[i + 1]) >= 0) {
            c = (char)(hex_digit(s.p[i]) << 4 | hex_digit(s.p[i + 1]));
            i += 2;
        }
        if (c != *name)
            return false;
    }
    return i == s.n && *name == '\0';
}

enum rc sim_answer_model(struct buf *dst, const struct sim_options *o, struct str id)
{
    for (unsigned i = 0; i < o->n_models; i++) {
        if (decodes_to(id, o->models[i])) {
            put_model(dst, o->models[i]);
            return RC_OK;
        }
    }
    return RC_NOTFOUND;
}

static const char *error_type(unsigned status)
{
    static const struct {
        unsigned status;
        const char *type;
    } types[] = {{400, "BadRequestError"},       {401, "AuthenticationError"},
                 {403, "PermissionDeniedError"}, {404, "NotFoundError"},
                 {408, "TimeoutError"},          {409, "ConflictError"},
                 {413, "RequestTooLargeError"},  {422, "UnprocessableEntityError"},
                 {429, "RateLimitError"},        {503, "ServiceUnavailableError"},
                 {529, "OverloadedError"}};

    for (size_t i = 0; i < COUNTOF(types); i++)
        if (types[i].status == status)
            return types[i].type;
    return status >= 500 ? "InternalServerError" : "BadRequestError";
}

void sim_answer_error(struct buf *dst, unsigned status, const char *param,
                      const char *message)
{
    struct json_writer w;

    jw_init(&w, dst);
    jw_open(&w, NULL, '{');
    jw_open(&w, "error", '{');
    jw_z(&w, "message", message);
    jw_z(&w, "type", error_type(status));
    jw_z(&w, "param", param);
    if (status == 401)
        jw_z(&w, "code", "invalid_api_key");
    else
        jw_i64(&w, "code", status);
    jw_close(&w, '}');
    jw_close(&w, '}');
}
