/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/answer.h"
#include "tests/lib/t.h"

#include <math.h>
#include <stdlib.h>
#include <zlib.h>

static struct sim_options presets(void)
{
    char *argv[] = {(char[]){"sim"}};
    struct sim_options o;

    EQ_RC(sim_options_parse(1, argv, &o, NULL), RC_OK);
    return o;
}

static struct sim_request request(enum sim_route route, const char *body,
                                  const struct sim_options *o)
{
    struct sim_refusal why = {.status = 0};
    struct sim_request rq;

    sim_request_init(&rq, route, str_of(body), o->seed);
    if (sim_request_read(&rq, o, &why) != RC_OK)
        FAIL("refused: %u %s", why.status, why.text);
    return rq;
}

/* The value at a path of keys, "choices.0.message.content", in valid JSON. */
static struct json_val at(struct str text, const char *path)
{
    static const struct json_limits limits = {.unique_keys = true};
    struct json_err je;
    struct json_val v;
    struct str rest = str_of(path);

    if (json_read(text, &limits, NULL, 0, NULL, &v, &je) != RC_OK)
        FAIL("not JSON: %s at %zu of %.*s", je.reason, je.offset, STR_ARG(text));
    while (rest.n) {
        struct str step = str_cut(&rest, '.'), key;
        struct json_iter it = json_iter(&v);
        struct json_val next;
        uint64_t index = 0;
        bool array = v.type == JSON_ARRAY, found = false;

        if (array)
            EQ_RC(str_u64(step, &index), RC_OK);
        while (!found && json_next(&it, &key, &next))
            found = array ? index-- == 0 : json_str_is(key, step);
        if (!found)
            FAIL("no %.*s of %s in %.*s", STR_ARG(step), path, STR_ARG(text));
        v = next;
    }
    return v;
}

static struct str raw(struct str text, const char *path)
{
    return at(text, path).raw;
}

static uint64_t number(struct str text, const char *path)
{
    struct json_val v = at(text, path);
    uint64_t n = 0;

    EQ_RC(json_u64(&v, &n), RC_OK);
    return n;
}

static struct str answer(struct buf *b, const struct sim_request *rq)
{
    buf_reset(b);
    sim_answer(b, rq, 1234);
    EQ_RC(buf_failed(b), RC_OK);
    return buf_peek(b);
}

/* "prefix" and 32 hex digits: the seeded hash, the CRC-32 and the length of the body */
static void has_mark(struct str id, const char *prefix, const struct sim_request *rq)
{
    char want[64];

    EQ_RC(str_fmt(want, sizeof want, "\"%s%016llx%08x%08zx\"", prefix,
                  (unsigned long long)rq->hash,
                  (uint32_t)crc32_z(0, (const Bytef *)rq->body.p, rq->body.n),
                  rq->body.n),
          RC_OK);
    EQ_STR(id, str_of(want));
}

#define CHAT "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

TEST(a_chat_answer_has_the_real_shape)
{
    struct sim_options o = presets();
    struct sim_request rq = request(SIM_CHAT, CHAT ",\"n\":3}", &o);
    struct buf b;
    struct str text, content;

    buf_init(&b, 1 << 20);
    text = answer(&b, &rq);
    EQ_INT(at(text, "").count, 8);
    has_mark(raw(text, "id"), "chatcmpl-", &rq);
    EQ_STR(raw(text, "object"), STR("\"chat.completion\""));
    EQ_INT(number(text, "created"), 1234);
    EQ_STR(raw(text, "model"), STR("\"m\""));
    EQ_INT(at(text, "choices").count, 3);
    EQ_INT(number(text, "choices.2.index"), 2);
    EQ_STR(raw(text, "choices.0.message.role"), STR("\"assistant\""));
    EQ_STR(raw(text, "choices.0.message.refusal"), STR("null"));
    EQ_STR(raw(text, "choices.0.logprobs"), STR("null"));
    EQ_STR(raw(text, "choices.0.finish_reason"), STR("\"stop\""));
    EQ_INT(number(text, "usage.prompt_tokens"), 32 / 4);
    EQ_INT(number(text, "usage.completion_tokens"), 3 * rq.output_tokens);
    EQ_INT(number(text, "usage.total_tokens"), 32 / 4 + 3 * rq.output_tokens);
    EQ_INT(number(text, "usage.prompt_tokens_details.cached_tokens"), 0);
    EQ_INT(number(text, "usage.completion_tokens_details.reasoning_tokens"), 0);
    content = raw(text, "choices.0.message.content");
    OK(content.n >= rq.output_tokens * 4);
    content.n = 33;
    OK(memcmp(content.p + 1, raw(text, "id").p + 10, 32) == 0); /* the mark begins it */
    OK(!str_eq(raw(text, "choices.1.message.content"),
               raw(text, "choices.0.message.content")));
    buf_done(&b);
}

TEST(a_completions_answer_has_the_real_shape)
{
    struct sim_options o = presets();
    struct sim_request rq = request(
        SIM_COMPLETIONS,
        "{\"model\":\"m\",\"prompt\":[\"a\",\"b\"],\"max_tokens\":9,\"n\":2}", &o);
    struct buf b;
    struct str text;

    buf_init(&b, 1 << 20);
    text = answer(&b, &rq);
    has_mark(raw(text, "id"), "cmpl-", &rq);
    EQ_STR(raw(text, "object"), STR("\"text_completion\""));
    EQ_INT(at(text, "choices").count, 4);
    EQ_INT(number(text, "choices.3.index"), 3);
    EQ_INT(at(text, "choices.0.text").type, JSON_STRING);
    EQ_STR(raw(text, "choices.0.finish_reason"), STR("\"length\""));
    EQ_INT(number(text, "usage.completion_tokens"), 4 * 9);
    EQ_INT(number(text, "usage.prompt_tokens_details.cached_tokens"), 0);
    buf_done(&b);
}

TEST(a_responses_answer_has_the_real_shape)
{
    static const struct {
        const char *body, *status, *details;
    } rows[] = {{"{\"model\":\"m\",\"input\":\"hi\"}", "\"completed\"", "null"},
                {"{\"model\":\"m\",\"input\":[{\"role\":\"user\",\"content\":\"hi\"}],"
                 "\"max_output_tokens\":5}",
                 "\"incomplete\"", "{\"reason\":\"max_output_tokens\"}"}};
    struct sim_options o = presets();
    struct buf b;

    buf_init(&b, 1 << 20);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct sim_request rq = request(SIM_RESPONSES, rows[i].body, &o);
        struct str text = answer(&b, &rq);

        t_row(rows[i].status);
        has_mark(raw(text, "id"), "resp_", &rq);
        EQ_STR(raw(text, "object"), STR("\"response\""));
        EQ_INT(number(text, "created_at"), 1234);
        EQ_STR(raw(text, "status"), str_of(rows[i].status));
        EQ_STR(raw(text, "incomplete_details"), str_of(rows[i].details));
        EQ_STR(raw(text, "output.0.type"), STR("\"message\""));
        EQ_STR(raw(text, "output.0.content.0.type"), STR("\"output_text\""));
        EQ_INT(at(text, "output.0.content.0.text").type, JSON_STRING);
        EQ_INT(number(text, "usage.input_tokens"), rq.prompt_tokens);
        EQ_INT(number(text, "usage.input_tokens_details.cached_tokens"), 0);
        EQ_INT(number(text, "usage.output_tokens"), rq.output_tokens);
        EQ_INT(number(text, "usage.output_tokens_details.reasoning_tokens"), 0);
        EQ_INT(number(text, "usage.total_tokens"), rq.prompt_tokens + rq.output_tokens);
    }
    buf_done(&b);
}

TEST(an_embeddings_answer_has_a_vector_for_each_input)
{
    static const struct {
        const char *input;
        unsigned vectors;
    } rows[] = {{"\"a\"", 1},
                {"[\"a\"]", 1},
                {"[\"a\",\"b\",\"a\"]", 3},
                {"[1,2,3]", 1},
                {"[[1,2],[3]]", 2}};
    struct sim_options o = presets();
    struct buf b;

    buf_init(&b, 1 << 20);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct sim_request rq;
        struct str text;
        char body[128];

        t_row(rows[i].input);
        EQ_RC(str_fmt(body, sizeof body, "{\"model\":\"m\",\"n\":2,\"input\":%s}",
                      rows[i].input),
              RC_OK);
        rq = request(SIM_EMBEDDINGS, body, &o);
        text = answer(&b, &rq);
        EQ_STR(raw(text, "object"), STR("\"list\""));
        EQ_INT(at(text, "data").count, rows[i].vectors);
        EQ_STR(raw(text, "data.0.object"), STR("\"embedding\""));
        EQ_INT(number(text, "data.0.index"), 0);
        EQ_INT(at(text, "data.0.embedding").count, 16);
        EQ_INT(number(text, "usage.prompt_tokens"), number(text, "usage.total_tokens"));
    }
    buf_done(&b);
}

/* One embedding, read as floats. */
static void vector(const char *body, const char *path, double *dst, uint32_t n)
{
    struct sim_options o = presets();
    struct sim_request rq = request(SIM_EMBEDDINGS, body, &o);
    struct buf b;
    struct json_val v, item;
    struct json_iter it;
    struct str key;

    buf_init(&b, 1 << 20);
    v = at(answer(&b, &rq), path);
    EQ_INT(v.count, n);
    it = json_iter(&v);
    for (uint32_t i = 0; json_next(&it, &key, &item); i++)
        dst[i] = strtod(item.raw.p, NULL); /* a comma or bracket ends the number */
    buf_done(&b);
}

TEST(vectors_follow_from_their_input_alone_and_are_of_about_unit_length)
{
    double a[64], b[64], c[64], length = 0;
    unsigned differ = 0;

    vector("{\"model\":\"m\",\"dimensions\":64,\"input\":\"x\"}", "data.0.embedding", a,
           64);
    vector("{\"model\":\"k\",\"dimensions\":64,\"input\":[\"y\",\"x\"]}",
           "data.1.embedding", b, 64);
    vector("{\"model\":\"k\",\"dimensions\":64,\"input\":[\"y\",\"x\"]}",
           "data.0.embedding", c, 64);
    for (int i = 0; i < 64; i++) {
        OK(a[i] >= -1 && a[i] <= 1);
        OK(a[i] == b[i]);
        differ += a[i] != c[i];
        length += a[i] * a[i];
    }
    OK(differ > 60);
    OK(length > 0.6 && length < 1.4);
}

static size_t unbase64(struct str s, uint8_t *dst)
{
    size_t n = 0;
    uint32_t acc = 0;
    unsigned bits = 0;

    for (size_t i = 0; i < s.n && s.p[i] != '='; i++) {
        const char *digits =
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const char *found = strchr(digits, s.p[i]);

        OK(found);
        acc = acc << 6 | (uint32_t)(found - digits);
        bits += 6;
        if (bits >= 8)
            dst[n++] = (uint8_t)(acc >> (bits -= 8));
    }
    return n;
}

TEST(base64_embeddings_hold_the_same_floats)
{
    for (unsigned dims = 1; dims <= 6; dims++) { /* every kind of padding */
        struct sim_options o = presets();
        struct sim_request rq;
        struct buf b;
        struct str text;
        uint8_t bytes[64];
        double want[8];
        float got[8];
        char body[128];

        EQ_RC(str_fmt(body, sizeof body,
                      "{\"model\":\"m\",\"dimensions\":%u,\"input\":\"x\"}", dims),
              RC_OK);
        vector(body, "data.0.embedding", want, dims);
        EQ_RC(str_fmt(body, sizeof body,
                      "{\"model\":\"m\",\"dimensions\":%u,\"encoding_format\":\"base64\","
                      "\"input\":\"x\"}",
                      dims),
              RC_OK);
        rq = request(SIM_EMBEDDINGS, body, &o);
        buf_init(&b, 1 << 20);
        text = raw(answer(&b, &rq), "data.0.embedding");
        EQ_INT((text.n - 2) % 4, 0);
        EQ_INT(unbase64((struct str){text.p + 1, text.n - 2}, bytes), dims * 4);
        memcpy(got, bytes, dims * 4);
        for (unsigned i = 0; i < dims; i++)
            OK(fabs((double)got[i] - want[i]) < 1e-6);
        buf_done(&b);
    }
}

TEST(a_moderations_answer_has_a_verdict_for_each_input)
{
    struct sim_options o = presets();
    struct sim_request rq =
        request(SIM_MODERATIONS, "{\"model\":\"m\",\"input\":[\"a\",\"b\"]}", &o);
    struct buf b;
    struct str text;

    buf_init(&b, 1 << 20);
    text = answer(&b, &rq);
    has_mark(raw(text, "id"), "modr-", &rq);
    EQ_INT(at(text, "results").count, 2);
    EQ_STR(raw(text, "results.1.flagged"), STR("false"));
    EQ_INT(at(text, "results.0.categories").count, 13);
    EQ_STR(raw(text, "results.0.categories.self-harm/intent"), STR("false"));
    EQ_INT(at(text, "results.0.category_scores").count, 13);
    EQ_INT(at(text, "results.0.category_applied_input_types").count, 13);
    buf_done(&b);
}

/* The images of a PNG are read back by its own rules: chunks with a length and a CRC-32. */
static void check_png(const uint8_t *p, size_t n, const struct sim_request *rq)
{
    uint8_t pixel[8];
    uLongf got = sizeof pixel;
    size_t at = 8;
    char mark[40];

    EQ_INT(memcmp(p, "\x89PNG\r\n\x1a\n", 8), 0);
    while (at < n) {
        uint32_t len =
            (uint32_t)p[at] << 24 | p[at + 1] << 16 | p[at + 2] << 8 | p[at + 3];
        const uint8_t *crc = p + at + 8 + len;

        OK(at + 12 + len <= n);
        EQ_INT((uint32_t)crc[0] << 24 | crc[1] << 16 | crc[2] << 8 | crc[3],
               crc32(0, p + at + 4, len + 4));
        if (memcmp(p + at + 4, "IDAT", 4) == 0)
            EQ_INT(uncompress(pixel, &got, p + at + 8, len), Z_OK);
        at += 12 + len;
    }
    EQ_INT(at, n);
    EQ_INT(got, 2);
    EQ_RC(str_fmt(mark, sizeof mark, "Comment%c%016llx", 0, (unsigned long long)rq->hash),
          RC_OK);
    OK(memmem(p, n, mark, 8 + 16));
}

TEST(an_images_answer_has_a_png_for_each_and_counts_tokens)
{
    struct sim_options o = presets();
    struct sim_request rq =
        request(SIM_IMAGES, "{\"model\":\"m\",\"prompt\":\"a cat\",\"n\":3}", &o);
    uint8_t bytes[1024];
    struct buf b;
    struct str text, image;

    buf_init(&b, 1 << 20);
    text = answer(&b, &rq);
    EQ_INT(number(text, "created"), 1234);
    EQ_INT(at(text, "data").count, 3);
    image = raw(text, "data.2.b64_json");
    check_png(bytes, unbase64((struct str){image.p + 1, image.n - 2}, bytes), &rq);
    EQ_INT(number(text, "usage.output_tokens"), 3 * 272);
    EQ_INT(number(text, "usage.total_tokens"),
           number(text, "usage.input_tokens") + number(text, "usage.output_tokens"));
    rq = request(SIM_IMAGES,
                 "{\"model\":\"m\",\"prompt\":\"a\",\"response_format\":\"url\"}", &o);
    text = answer(&b, &rq);
    OK(str_starts(raw(text, "data.0.url"), STR("\"https://")));
    OK(!memmem(text.p, text.n, "usage", 5));
    buf_done(&b);
}

TEST(a_videos_answer_is_a_job_that_is_queued)
{
    struct sim_options o = presets();
    struct sim_request rq =
        request(SIM_VIDEOS, "{\"model\":\"m\",\"prompt\":\"a \\u0063at\"}", &o);
    struct buf b;
    struct str text;

    buf_init(&b, 1 << 20);
    text = answer(&b, &rq);
    has_mark(raw(text, "id"), "video_", &rq);
    EQ_STR(raw(text, "object"), STR("\"video\""));
    EQ_STR(raw(text, "status"), STR("\"queued\""));
    EQ_STR(raw(text, "prompt"), STR("\"a \\u0063at\""));
    buf_done(&b);
}

TEST(answers_are_a_function_of_seed_body_and_time)
{
    struct sim_options o = presets(), other = presets();
    struct sim_request a = request(SIM_CHAT, CHAT "}", &o),
                       b = request(SIM_CHAT, CHAT "}", &o);
    struct sim_request c = request(SIM_CHAT, CHAT " }", &o), d;
    struct buf x, y;

    other.seed = 2;
    d = request(SIM_CHAT, CHAT "}", &other);
    buf_init(&x, 1 << 20);
    buf_init(&y, 1 << 20);
    EQ_STR(answer(&x, &a), answer(&y, &b));
    OK(!str_eq(answer(&x, &a), answer(&y, &c)));
    OK(!str_eq(answer(&x, &a), answer(&y, &d)));
    EQ_INT(a.crc, d.crc); /* which knows no seed */
    buf_done(&x);
    buf_done(&y);
}

TEST(answers_of_every_size_are_json)
{
    struct sim_options o = presets();
    struct buf b;
    unsigned with_escapes = 0;

    buf_init(&b, 1 << 24);
    for (unsigned i = 0; i < 400; i++) {
        struct sim_request rq;
        char body[128];

        o.tokens = (struct sim_lengths){.range = {1 + i * i / 4, 1 + i * i / 4}};
        EQ_RC(str_fmt(body, sizeof body, CHAT ",\"user\":\"%u\"}", i), RC_OK);
        rq = request(SIM_CHAT, body, &o);
        EQ_INT(at(answer(&b, &rq), "choices.0.message.content").type, JSON_STRING);
        with_escapes += memmem(b.p, b.n, "\\ud83d", 6) != NULL;
    }
    OK(with_escapes > 20 && with_escapes < 100);
    buf_done(&b);
}

TEST(models_are_listed_and_found_by_plain_and_encoded_ids)
{
    static const struct {
        const char *id;
        enum rc rc;
    } rows[] = {{"org/a", RC_OK},  {"org%2Fa", RC_OK},     {"org%2fa", RC_OK},
                {"b", RC_OK},      {"org", RC_NOTFOUND},   {"org/a/", RC_NOTFOUND},
                {"", RC_NOTFOUND}, {"org%2", RC_NOTFOUND}, {"org%2Fab", RC_NOTFOUND}};
    char *argv[] = {(char[]){"sim"}, (char[]){"--model=org/a"}, (char[]){"--model=b"}};
    struct sim_options o;
    struct buf b;

    EQ_RC(sim_options_parse(3, argv, &o, NULL), RC_OK);
    buf_init(&b, 1 << 16);
    sim_answer_models(&b, &o);
    EQ_STR(raw(buf_peek(&b), "object"), STR("\"list\""));
    EQ_INT(at(buf_peek(&b), "data").count, 2);
    EQ_STR(raw(buf_peek(&b), "data.0.id"), STR("\"org/a\""));
    EQ_STR(raw(buf_peek(&b), "data.1.object"), STR("\"model\""));
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        t_row(rows[i].id);
        buf_reset(&b);
        EQ_RC(sim_answer_model(&b, &o, str_of(rows[i].id)), rows[i].rc);
        if (rows[i].rc == RC_OK)
            OK(number(buf_peek(&b), "created") > 0);
    }
    buf_done(&b);
}

TEST(errors_have_their_object)
{
    struct buf b;

    buf_init(&b, 1 << 16);
    sim_answer_error(&b, 404, "model", "no \"such\" model");
    EQ_STR(raw(buf_peek(&b), "error.message"), STR("\"no \\\"such\\\" model\""));
    EQ_STR(raw(buf_peek(&b), "error.type"), STR("\"NotFoundError\""));
    EQ_STR(raw(buf_peek(&b), "error.param"), STR("\"model\""));
    EQ_INT(number(buf_peek(&b), "error.code"), 404);
    buf_reset(&b);
    sim_answer_error(&b, 401, NULL, "who?");
    EQ_STR(raw(buf_peek(&b), "error.param"), STR("null"));
    EQ_STR(raw(buf_peek(&b), "error.code"), STR("\"invalid_api_key\""));
    buf_done(&b);
}
