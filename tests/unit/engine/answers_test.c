/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/answers.h"
#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "core/outcome.h"
#include "tests/lib/t.h"

#include <stdio.h>

struct source {
    const char *p;
    size_t n;
    enum rc fail;
};

static enum rc read_text(void *ctx, char *dst, size_t cap, uint64_t off, size_t *ret_n)
{
    struct source *s = ctx;
    size_t left = off < s->n ? s->n - (size_t)off : 0;

    *ret_n = cap < left ? cap : left;
    memcpy(dst, s->p + off, *ret_n);
    return s->fail;
}

static atomic_bool running; /* false: go on */

static enum rc learn(struct answers *a, const char *output, const char *input)
{
    struct source out = {output, strlen(output), RC_OK};
    struct source in = {input, strlen(input), RC_OK};
    struct err e;
    enum rc rc = answers_read_output(a, read_text, &out, 1, &running, &e);

    return rc == RC_OK
               ? answers_read_input(a, read_text, &in, ENDPOINT_CHAT, &running, &e)
               : rc;
}

#define ASKED(id, body)                                                                  \
    "{\"custom_id\":" id ",\"method\":\"POST\",\"url\":\"/v1/chat/completions\","        \
    "\"body\":" body "}\n"
#define ANSWER(id, status)                                                               \
    "{\"id\":\"batch_req_0\",\"custom_id\":" id ",\"response\":{\"status_code\":" status \
    ",\"request_id\":\"r\",\"body\":{\"x\":1}},\"error\":null}\n"

/* The line that answers the request; "" when none does. */
static struct str find(const struct answers *a, const char *output, const char *id,
                       const char *body)
{
    struct answer_place at;

    if (!answers_find(a, str_of(id), str_of(body), &at))
        return STR("");
    OK(at.offset + at.length <= strlen(output));
    return (struct str){output + at.offset, at.length};
}

TEST(an_answer_is_found_by_custom_id_and_body)
{
    static const char input[] = ASKED("\"a\"", "{\"n\":1}") ASKED("\"b\"", "{\"n\":2}")
        ASKED("\"c\"", "{\"n\":3}") ASKED("\"d\\u00e9\"", "{ }");
    static const char output[] =
        ANSWER("\"c\"", "200") ANSWER("\"a\"", "201") ANSWER("\"d\\u00e9\"", "200");
    static const struct {
        const char *id, *body, *want;
    } rows[] = {
        {"\"a\"", "{\"n\":1}", ANSWER("\"a\"", "201")},
        {"\"\\u0061\"", "{\"n\":1}", ANSWER("\"a\"", "201")},
        {"\"c\"", "{\"n\":3}", ANSWER("\"c\"", "200")},
        {"\"d\xc3\xa9\"", "{ }", ANSWER("\"d\\u00e9\"", "200")},
        {"\"b\"", "{\"n\":2}", ""},  /* it has no answer */
        {"\"a\"", "{\"n\":3}", ""},  /* it was asked something else */
        {"\"a\"", "{\"n\": 1}", ""}, /* other bytes are another request */
        {"\"d\xc3\xa9\"", "{}", ""},
        {"\"z\"", "{\"n\":1}", ""},
    };
    struct answers *a = answers_new();

    EQ_RC(learn(a, output, input), RC_OK);
    EQ_INT(answers_count(a), 3);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct str want = str_of(rows[i].want);

        t_row(rows[i].id);
        want.n -= want.n > 0; /* without its line feed */
        EQ_STR(find(a, output, rows[i].id, rows[i].body), want);
    }
    answers_free(a);
}

TEST(only_answers_of_2xx_are_taken)
{
    static const char input[] = ASKED("\"a\"", "{}");
    static const char *const outputs[] = {
        "",
        ANSWER("\"a\"", "400"),
        ANSWER("\"a\"", "300"),
        ANSWER("\"a\"", "199"),
        ANSWER("\"a\"", "\"200\""),
        ANSWER("7", "200"),
        "{\"id\":\"x\",\"custom_id\":\"a\",\"response\":null,\"error\":{\"code\":\"c\"}}\n",
        "{\"custom_id\":\"a\",\"response\":{\"status_code\":200\n",
        "\xff\xfe\n",
    };

    for (size_t i = 0; i < COUNTOF(outputs); i++) {
        struct answers *a = answers_new();

        t_row(outputs[i]);
        EQ_RC(learn(a, outputs[i], input), RC_OK);
        EQ_INT(answers_count(a), 0);
        EQ_STR(find(a, outputs[i], "\"a\"", "{}"), STR(""));
        answers_free(a);
    }
}

TEST(what_an_answer_was_given_to_must_be_known)
{
    static const char output[] = ANSWER("\"a\"", "200");
    static const char *const inputs[] = {"",
                                         "\n\n",
                                         ASKED("\"b\"", "{}"),
                                         "not json\n",
                                         "{\"custom_id\":\"a\"}\n",
                                         ASKED("\"a\"", "{\"stream\":true}")};

    for (size_t i = 0; i < COUNTOF(inputs); i++) {
        struct answers *a = answers_new();

        t_row(inputs[i]);
        EQ_RC(learn(a, output, inputs[i]), RC_OK);
        EQ_STR(find(a, output, "\"a\"", "{}"), STR(""));
        answers_free(a);
    }
}

/* A sound output file has each custom_id once. */
TEST(a_custom_id_with_two_answers_runs_again)
{
    static const char output[] = ANSWER("\"a\"", "200") ANSWER("\"b\"", "200")
        ANSWER("\"a\"", "201") ANSWER("\"a\"", "202");
    static const char input[] = ASKED("\"a\"", "{}") ASKED("\"b\"", "{}");
    struct answers *a = answers_new();

    EQ_RC(learn(a, output, input), RC_OK);
    EQ_STR(find(a, output, "\"a\"", "{}"), STR(""));
    OK(find(a, output, "\"b\"", "{}").n > 0);
    answers_free(a);
}

TEST(many_answers_are_found_whatever_the_order)
{
    enum { N = 20000 };
    struct answers *a = answers_new();
    struct buf in, out;
    char *input, *output;

    buf_init(&in, 64 << 20);
    buf_init(&out, 64 << 20);
    for (int i = 0; i < N; i++) {
        (void)buf_fmt(&in, ASKED("\"r-%d\"", "{\"n\":%d}"), i, i * 7);
        if (i % 3) /* backwards */
            (void)buf_fmt(&out, ANSWER("\"r-%d\"", "200"), N - 1 - i);
    }
    input = buf_take(&in, NULL);
    output = buf_take(&out, NULL);
    EQ_RC(learn(a, output, input), RC_OK);
    EQ_INT(answers_count(a), N - (N + 2) / 3);
    for (int i = 0; i < N; i++) {
        char id[16], body[24], want[256];
        struct str got;

        snprintf(id, sizeof id, "\"r-%d\"", i);
        snprintf(body, sizeof body, "{\"n\":%d}", i * 7);
        got = find(a, output, id, body);
        snprintf(want, sizeof want, ANSWER("\"r-%d\"", "200"), i);
        want[strlen(want) - 1] = '\0';
        EQ_STR(got, (N - 1 - i) % 3 ? str_of(want) : STR(""));
        snprintf(body, sizeof body, "{\"n\":%d}", i * 7 + 1);
        EQ_INT(find(a, output, id, body).n, 0);
    }
    mem_free(input);
    mem_free(output);
    answers_free(a);
}

TEST(a_failed_source_and_a_stop_are_told)
{
    struct source bad = {"", 0, RC_IO};
    struct source good = {ANSWER("\"a\"", "200"), sizeof ANSWER("\"a\"", "200") - 1,
                          RC_OK};
    struct answers *a = answers_new();
    atomic_bool stop = true;
    struct err e;

    EQ_RC(answers_read_output(a, read_text, &bad, 0, &running, &e), RC_IO);
    answers_free(a);
    a = answers_new();
    EQ_RC(answers_read_output(a, read_text, &good, 0, &stop, &e), RC_CANCELLED);
    answers_free(a);
    answers_free(NULL);
}

/* The deepest body that counts as an answer is two levels deeper in its line. */
TEST(the_deepest_answer_there_can_be_is_found)
{
    char deep[2 * LIMIT_JSON_DEPTH + 1], output[1024];
    struct answers *a = answers_new();
    struct outcome o;

    for (size_t i = 0; i < LIMIT_JSON_DEPTH; i++) {
        deep[i] = '[';
        deep[2 * LIMIT_JSON_DEPTH - 1 - i] = ']';
    }
    deep[2 * LIMIT_JSON_DEPTH] = '\0';
    EQ_RC(str_fmt(output, sizeof output, "{\"x\":%.*s}", 2 * (LIMIT_JSON_DEPTH - 1),
                  deep + 1),
          RC_OK);
    o = outcome_of_answer(200, str_of(output));
    EQ_INT(o.cls, OUTCOME_DONE);
    EQ_RC(str_fmt(output, sizeof output,
                  "{\"id\":\"batch_req_0\",\"custom_id\":\"a\",\"response\":"
                  "{\"status_code\":200,\"request_id\":\"r\",\"body\":{\"x\":%.*s}},"
                  "\"error\":null}\n",
                  2 * (LIMIT_JSON_DEPTH - 1), deep + 1),
          RC_OK);
    EQ_RC(learn(a, output, ASKED("\"a\"", "{}")), RC_OK);
    EQ_INT(find(a, output, "\"a\"", "{}").n, strlen(output) - 1);
    answers_free(a);
}
