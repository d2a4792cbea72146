/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/request.h"
#include "tests/lib/t.h"

static struct sim_options presets(void)
{
    static char name[] = "sim", model[] = "--model=known"; /* the options borrow */
    char *argv[] = {name, model};
    struct sim_options o;

    EQ_RC(sim_options_parse(2, argv, &o, NULL), RC_OK);
    return o;
}

TEST(routes_are_told_from_unknown_paths_and_methods)
{
    static const struct {
        const char *method, *path;
        enum sim_route route;
    } rows[] = {
        {"POST", "/v1/chat/completions", SIM_CHAT},
        {"POST", "/v1/completions", SIM_COMPLETIONS},
        {"POST", "/v1/embeddings", SIM_EMBEDDINGS},
        {"POST", "/v1/responses", SIM_RESPONSES},
        {"POST", "/v1/moderations", SIM_MODERATIONS},
        {"POST", "/v1/images/generations", SIM_IMAGES},
        {"POST", "/v1/images/edits", SIM_IMAGE_EDITS},
        {"POST", "/v1/videos", SIM_VIDEOS},
        {"GET", "/v1/models", SIM_MODELS},
        {"GET", "/v1/models/a/b", SIM_MODEL},
        {"GET", "/health", SIM_HEALTH},
        {"GET", "/metrics", SIM_METRICS},
        {"GET", "/oracle", SIM_ORACLE},
        {"GET", "/oracle/counts", SIM_COUNTS},
        {"PUT", "/sim/models", SIM_SET_MODELS},
        {"GET", "/sim/models", SIM_NO_METHOD},
        {"GET", "/v1/chat/completions", SIM_NO_METHOD},
        {"HEAD", "/health", SIM_NO_METHOD},
        {"post", "/v1/embeddings", SIM_NO_METHOD},
        {"POST", "/v1/chat/completions/", SIM_NO_PATH},
        {"POST", "/v1/chat", SIM_NO_PATH},
        {"GET", "/", SIM_NO_PATH},
        {"OPTIONS", "*", SIM_NO_PATH},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        t_row(rows[i].path);
        EQ_INT(sim_route_of(str_of(rows[i].method), str_of(rows[i].path)), rows[i].route);
    }
    for (unsigned r = 0; r < SIM_ROUTE_COUNT; r++)
        EQ_INT(sim_route_works((enum sim_route)r), r < SIM_MODELS);
}

#define MSG "\"messages\":[{}]"

TEST(requests_that_a_server_refuses_are_refused)
{
    static const struct {
        enum sim_route route;
        const char *body, *param;
        unsigned status;
    } rows[] = {
        {SIM_CHAT, "", NULL, 400},
        {SIM_CHAT, "{", NULL, 400},
        {SIM_CHAT, "[]", NULL, 400},
        {SIM_CHAT, "null", NULL, 400},
        {SIM_CHAT, "{\"a\":\"\xff\"}", NULL, 400},
        {SIM_CHAT, "{" MSG "}", "model", 400},
        {SIM_CHAT, "{\"model\":1," MSG "}", "model", 400},
        {SIM_CHAT, "{\"model\":null," MSG "}", "model", 400},
        {SIM_CHAT, "{\"model\":\"other\"," MSG "}", "model", 404},
        {SIM_CHAT, "{\"model\":\"known\"}", "messages", 400},
        {SIM_CHAT, "{\"model\":\"known\",\"messages\":\"hi\"}", "messages", 400},
        {SIM_CHAT, "{\"model\":\"known\",\"messages\":[]}", "messages", 400},
        {SIM_CHAT, "{\"model\":\"known\"," MSG ",\"stream\":true}", "stream", 400},
        {SIM_CHAT, "{\"model\":\"known\"," MSG ",\"n\":0}", "n", 400},
        {SIM_CHAT, "{\"model\":\"known\"," MSG ",\"n\":129}", "n", 400},
        {SIM_CHAT, "{\"model\":\"known\"," MSG ",\"n\":1.5}", "n", 400},
        {SIM_CHAT, "{\"model\":\"known\"," MSG ",\"max_tokens\":-1}", "max_tokens", 400},
        {SIM_CHAT, "{\"model\":\"known\"," MSG ",\"max_completion_tokens\":\"1\"}",
         "max_completion_tokens", 400},
        {SIM_COMPLETIONS, "{\"model\":\"known\"}", "prompt", 400},
        {SIM_COMPLETIONS, "{\"model\":\"known\",\"prompt\":7}", "prompt", 400},
        {SIM_EMBEDDINGS, "{\"model\":\"known\",\"prompt\":\"a\"}", "input", 400},
        {SIM_EMBEDDINGS, "{\"model\":\"known\",\"input\":{}}", "input", 400},
        {SIM_EMBEDDINGS, "{\"model\":\"known\",\"input\":\"a\",\"dimensions\":65537}",
         "dimensions", 400},
        {SIM_RESPONSES, "{\"model\":\"known\",\"input\":\"a\",\"max_output_tokens\":0}",
         "max_output_tokens", 400},
        {SIM_MODERATIONS, "{\"model\":\"known\",\"input\":[]}", "input", 400},
        {SIM_IMAGES, "{\"model\":\"known\",\"prompt\":[\"a\"]}", "prompt", 400},
        {SIM_IMAGES, "{\"model\":\"known\",\"prompt\":\"a\",\"n\":0}", "n", 400},
        {SIM_IMAGE_EDITS, "{\"model\":\"known\",\"prompt\":\"a\"}", "images", 400},
        {SIM_VIDEOS, "{\"model\":\"known\"}", "prompt", 400},
    };
    struct sim_options o = presets();

    o.strict_models = true;
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct sim_refusal why = {.status = 0};
        struct sim_request rq;

        t_row(rows[i].body);
        sim_request_init(&rq, rows[i].route, str_of(rows[i].body), 1);
        EQ_RC(sim_request_read(&rq, &o, &why), RC_INVALID);
        EQ_INT(why.status, rows[i].status);
        EQ_STR(str_of(why.param), str_of(rows[i].param));
        OK(why.text[0]);
    }
}

TEST(tokens_come_from_bytes_and_limits)
{
    static const struct {
        const char *more;
        uint64_t output;
        bool capped;
    } rows[] = {
        {"", 50, false},
        {",\"max_tokens\":10", 10, true},
        {",\"max_tokens\":50", 50, false},
        {",\"max_tokens\":10,\"max_completion_tokens\":20", 20, true},
        {",\"max_tokens\":null,\"max_completion_tokens\":7", 7, true},
        {",\"max_completion_tokens\":null", 50, false},
    };
    struct sim_options o = presets();

    o.tokens = (struct sim_range){50, 50};
    o.token_latency = 10;
    o.latency = (struct sim_range){1000, 1000};
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct sim_refusal why;
        struct sim_request rq;
        char body[256];

        t_row(rows[i].more);
        EQ_RC(str_fmt(body, sizeof body,
                      "{\"model\":\"any\",\"messages\":[\"0123456789\"]%s}",
                      rows[i].more),
              RC_OK);
        sim_request_init(&rq, SIM_CHAT, str_of(body), 1);
        EQ_RC(sim_request_read(&rq, &o, &why), RC_OK);
        EQ_INT(rq.prompt_tokens, 14 / 4);
        EQ_INT(rq.output_tokens, rows[i].output);
        EQ_INT(rq.capped, rows[i].capped);
        EQ_INT(sim_request_time(&rq, &o), 1000 + 10 * (usec_t)rows[i].output);
    }
}

TEST(latency_and_tokens_stay_in_their_range_and_fill_it)
{
    struct sim_options o = presets();
    usec_t low = USEC_INFINITY, high = 0;
    uint64_t few = UINT64_MAX, many = 0;

    o.latency = (struct sim_range){100, 200};
    for (unsigned i = 0; i < 5000; i++) {
        struct sim_refusal why;
        struct sim_request rq;
        char body[128];
        usec_t t;

        EQ_RC(str_fmt(body, sizeof body, "{\"model\":\"m\",\"messages\":[%u]}", i),
              RC_OK);
        sim_request_init(&rq, SIM_CHAT, str_of(body), 1);
        EQ_RC(sim_request_read(&rq, &o, &why), RC_OK);
        t = sim_request_time(&rq, &o);
        low = t < low ? t : low, high = t > high ? t : high;
        few = u64_min(few, rq.output_tokens), many = u64_max(many, rq.output_tokens);
    }
    EQ_INT(low, 100);
    EQ_INT(high, 200);
    EQ_INT(few, 32);
    EQ_INT(many, 96);
}

TEST(a_request_survives_that_its_bytes_move)
{
    static const char body[] = "{\"model\":\"m\",\"input\":[\"a\",\"b\"]}";
    struct sim_options o = presets();
    struct sim_refusal why;
    struct sim_request rq;
    char other[sizeof body];

    sim_request_init(&rq, SIM_EMBEDDINGS, str_of(body), 1);
    EQ_RC(sim_request_read(&rq, &o, &why), RC_OK);
    memcpy(other, body, sizeof body);
    sim_request_move(&rq, body, other);
    OK(rq.body.p == other);
    OK(rq.model.p > other && rq.model.p < other + sizeof other);
    EQ_STR(rq.model, STR("\"m\""));
    EQ_STR(rq.input.raw, STR("[\"a\",\"b\"]"));
    OK(rq.input.raw.p > other && rq.input.raw.p < other + sizeof other);
}
