/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/estimate.h"
#include "base/map.h"
#include "tests/lib/t.h"

#include <stdio.h>

static void add(struct estimate *x, enum endpoint ep, const char *body)
{
    struct line_error e;
    struct line line;
    char text[4096];

    snprintf(text, sizeof text,
             "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"%s\",\"body\":%s}",
             endpoint_path(ep), body);
    EQ_RC(line_read(str_of(text), ep, &line, &e), RC_OK);
    estimate_add(x, &line);
}

TEST(tokens_are_a_fourth_of_the_bytes_that_hold_the_prompt)
{
    static const struct {
        enum endpoint ep;
        const char *body;
        int bytes, tokens;
    } rows[] = {
        {ENDPOINT_CHAT, "{}", 0, 0},
        {ENDPOINT_CHAT, "{\"messages\":[{\"content\":\"abcd\"}]}", 20, 5},
        {ENDPOINT_CHAT, "{\"messages\":[1.5,\"x\"],\"tools\":[{}],\"user\":\"me\"}", 13,
         4},
        {ENDPOINT_COMPLETIONS, "{\"prompt\":\"ab\"}", 4, 1},
        {ENDPOINT_COMPLETIONS, "{\"prompt\":\"abc\"}", 5, 2},
        {ENDPOINT_COMPLETIONS, "{\"prompt\":[7, 8, 9]}", 9, 3},
        {ENDPOINT_COMPLETIONS, "{\"prompt\":[[7,8],[9]]}", 11, 3},
        {ENDPOINT_COMPLETIONS, "{\"prompt\":[\"ab\",\"cd\"]}", 11, 3},
        {ENDPOINT_EMBEDDINGS, "{\"input\":[[1],[\"x\"]]}", 11, 3},
        {ENDPOINT_EMBEDDINGS, "{\"input\":[]}", 2, 1},
        {ENDPOINT_EMBEDDINGS, "{\"input\":null}", 0, 0},
        {ENDPOINT_RESPONSES, "{\"input\":\"abcdef\",\"instructions\":\"ab\"}", 12, 3},
        {ENDPOINT_RESPONSES, "{\"inp\\u0075t\":\"abcdef\"}", 8, 2},
        {ENDPOINT_RESPONSES, "{\"x\":{\"input\":\"abcdef\"}}", 0, 0},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct estimate x;

        t_row(rows[i].body);
        estimate_init(&x);
        add(&x, rows[i].ep, rows[i].body);
        EQ_INT(x.input_bytes, rows[i].bytes);
        EQ_INT(x.input_tokens, rows[i].tokens);
        estimate_done(&x);
    }
}

TEST(the_greatest_answers_are_summed_where_requests_limit_them)
{
    static const struct {
        enum endpoint ep;
        const char *body;
        uint64_t max;
        int unlimited;
    } rows[] = {
        {ENDPOINT_CHAT, "{}", 0, 1},
        {ENDPOINT_CHAT, "{\"max_tokens\":8}", 8, 0},
        {ENDPOINT_CHAT, "{\"max_completion_tokens\":9,\"n\":3}", 27, 0},
        {ENDPOINT_CHAT, "{\"n\":0,\"max_tokens\":5}", 5, 0},
        {ENDPOINT_CHAT, "{\"max_tokens\":null}", 0, 1},
        {ENDPOINT_CHAT, "{\"max_tokens\":\"8\"}", 0, 1},
        {ENDPOINT_CHAT, "{\"max_tokens\":0}", 0, 1},
        {ENDPOINT_CHAT, "{\"max_tokens\":-3}", 0, 1},
        {ENDPOINT_CHAT, "{\"max_tokens\":18446744073709551615}", 0, 1},
        {ENDPOINT_CHAT, "{\"max_tokens\":4294967296,\"n\":4294967296}",
         UINT64_C(4294967296), 0},
        {ENDPOINT_RESPONSES, "{\"max_output_tokens\":7}", 7, 0},
        {ENDPOINT_COMPLETIONS, "{\"max_tokens\":7,\"n\":2}", 14, 0},
        {ENDPOINT_EMBEDDINGS, "{}", 0, 0},
        {ENDPOINT_MODERATIONS, "{\"max_tokens\":7}", 0, 0},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct estimate x;

        t_row(rows[i].body);
        estimate_init(&x);
        add(&x, rows[i].ep, rows[i].body);
        OK(x.max_output == rows[i].max);
        EQ_INT(x.unlimited, rows[i].unlimited);
        estimate_done(&x);
    }
}

TEST(requests_are_counted_for_each_model_in_the_order_of_the_file)
{
    struct estimate x;

    estimate_init(&x);
    add(&x, ENDPOINT_CHAT, "{\"model\":\"b\"}");
    add(&x, ENDPOINT_CHAT, "{\"model\":\"a\"}");
    add(&x, ENDPOINT_CHAT, "{}");
    add(&x, ENDPOINT_CHAT, "{\"model\":\"\\u0062\"}");
    EQ_INT(x.n_models, 3);
    EQ_Z(x.models[0].name, "b");
    EQ_INT(x.models[0].requests, 2);
    EQ_Z(x.models[1].name, "a");
    EQ_INT(x.models[1].requests, 1);
    EQ_Z(x.models[2].name, "");
    EQ_INT(x.models[2].requests, 1);
    estimate_done(&x);
    estimate_done(&x);
}

TEST(models_without_end_do_not_take_memory_without_end)
{
    struct estimate x;
    char body[400];

    estimate_init(&x);
    for (int i = 0; i < ESTIMATE_MODELS + 50; i++) {
        snprintf(body, sizeof body, "{\"model\":\"m%d\",\"max_tokens\":1}", i);
        add(&x, ENDPOINT_CHAT, body);
    }
    EQ_INT(x.n_models, ESTIMATE_MODELS);
    EQ_INT(x.max_output, ESTIMATE_MODELS + 50);
    memset(body, 'm', sizeof body);
    memcpy(body, "{\"model\":\"", 10);
    memcpy(body + 10 + LIMIT_MODEL + 1, "\"}", 3);
    add(&x, ENDPOINT_CHAT, body); /* longer than a name can be */
    EQ_INT(x.n_models, ESTIMATE_MODELS);
    estimate_done(&x);
}
