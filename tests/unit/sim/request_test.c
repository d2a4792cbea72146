/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/request.h"
#include "tests/lib/t.h"

#include <stdlib.h>

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
        {"GET", "/props", SIM_PROPS},
        {"GET", "/get_server_info", SIM_SERVER_INFO},
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

    o.tokens = (struct sim_lengths){.range = {50, 50}};
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

static struct sim_request read_chat(const char *body, const struct sim_options *o)
{
    struct sim_request rq;
    struct sim_refusal why;

    t_row(body);
    sim_request_init(&rq, SIM_CHAT, str_of(body), 1);
    EQ_RC(sim_request_read(&rq, o, &why), RC_OK);
    return rq;
}

TEST(an_experiment_can_name_the_length_of_its_answers)
{
    static const struct {
        const char *metadata;
        uint64_t output;
    } rows[] = {{"{\"sim_out\":7}", 7},
                {"{\"sim_out\":\"123\"}", 123},
                {"{\"sim_out\":null}", 50},
                {"{\"x\":1}", 50},
                {"null", 50},
                {"{\"sim_out\":1000000}", 900},
                {"{\"a\":{\"sim_out\":3}}", 50}};
    static const char *const bad[] = {"{\"sim_out\":0}", "{\"sim_out\":1.5}",
                                      "{\"sim_out\":\"x\"}", "{\"sim_out\":[]}",
                                      "{\"sim_out\":1000001}"};
    struct sim_options o = presets();
    char body[256];

    o.tokens = (struct sim_lengths){.range = {50, 50}};
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        EQ_RC(str_fmt(body, sizeof body,
                      "{\"model\":\"m\",\"max_tokens\":900,\"metadata\":%s," MSG "}",
                      rows[i].metadata),
              RC_OK);
        EQ_INT(read_chat(body, &o).output_tokens, rows[i].output);
    }
    for (size_t i = 0; i < COUNTOF(bad); i++) {
        struct sim_request rq;
        struct sim_refusal why;

        EQ_RC(str_fmt(body, sizeof body, "{\"model\":\"m\",\"metadata\":%s," MSG "}",
                      bad[i]),
              RC_OK);
        t_row(body);
        sim_request_init(&rq, SIM_CHAT, str_of(body), 1);
        EQ_RC(sim_request_read(&rq, &o, &why), RC_INVALID);
        EQ_Z(why.param, "metadata");
    }
}

TEST(a_priority_is_any_whole_number)
{
    struct sim_options o = presets();
    struct sim_request rq;
    struct sim_refusal why;

    EQ_INT(read_chat("{\"model\":\"m\",\"priority\":5," MSG "}", &o).priority, 5);
    EQ_INT(read_chat("{\"model\":\"m\",\"priority\":-7," MSG "}", &o).priority, -7);
    EQ_INT(read_chat("{\"model\":\"m\",\"priority\":null," MSG "}", &o).priority, 0);
    EQ_INT(read_chat("{\"model\":\"m\"," MSG "}", &o).priority, 0);
    sim_request_init(&rq, SIM_CHAT,
                     STR("{\"model\":\"m\",\"priority\":\"high\"," MSG "}"), 1);
    EQ_RC(sim_request_read(&rq, &o, &why), RC_INVALID);
    EQ_Z(why.param, "priority");
}

static uint32_t ids_of(const char *body, const struct sim_options *o, uint64_t ids[64])
{
    struct sim_request rq = read_chat(body, o);
    uint32_t n = sim_request_blocks(&rq);

    OK(n <= 64);
    sim_request_ids(&rq, ids);
    return n;
}

#define FILL "0123456789012345678901234567890123456789012345678901234567890123"

TEST(prompts_that_begin_alike_have_the_same_blocks_up_to_there)
{
    struct sim_options o = presets();
    uint64_t a[64], b[64], c[64], d[64];
    /* 5 bytes before, so that the third block is the first that differs */
    const char *one = "{\"model\":\"m\",\"messages\":[\"" FILL FILL "x" FILL "\"]}";
    const char *two =
        "{\"temperature\":1,\"messages\":[\"" FILL FILL "y" FILL "\"],\"model\":\"m\"}";

    EQ_INT(ids_of(one, &o, a), 3);
    EQ_INT(ids_of(two, &o, b), 3);
    OK(a[0] == b[0] && a[1] == b[1] && a[2] != b[2]);
    OK(a[0] != a[1]); /* the same bytes behind others are another block */
    /* Another model, and tools before the messages, are another beginning. */
    EQ_INT(ids_of("{\"model\":\"n\",\"messages\":[\"" FILL FILL "\"]}", &o, c), 2);
    OK(c[0] != a[0] && c[1] != a[1]);
    EQ_INT(ids_of("{\"model\":\"m\",\"tools\":[{\"type\":\"function\"}],\"messages\":"
                  "[\"" FILL FILL "\"]}",
                  &o, d),
           2);
    OK(d[0] != a[0]);
}

TEST(the_parts_of_a_prompt_are_one_text)
{
    struct sim_options o = presets();
    struct sim_request rq, moved;
    struct sim_refusal why;
    const struct str body = STR("{\"model\":\"m\",\"instructions\":\"" FILL
                                "\",\"input\":\"" FILL "\",\"max_output_tokens\":9}");
    uint64_t ids[2], again[2];
    char *copy = strdup(body.p);

    sim_request_init(&rq, SIM_RESPONSES, body, 1);
    EQ_RC(sim_request_read(&rq, &o, &why), RC_OK);
    EQ_INT(rq.prompt_tokens, (66 + 66) / 4);
    EQ_INT(sim_request_blocks(&rq), 2);
    EQ_INT(sim_request_reserve(&rq), 33 + 9);
    sim_request_ids(&rq, ids);
    moved = rq;
    sim_request_move(&moved, body.p, copy);
    sim_request_ids(&moved, again);
    OK(memcmp(ids, again, sizeof ids) == 0);
    free(copy);
}
