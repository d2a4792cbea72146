/* SPDX-License-Identifier: Apache-2.0 */
#include "core/outcome.h"
#include "json/json.h"
#include "tests/lib/t.h"

TEST(an_answer_is_classified_by_its_status_and_body)
{
    static const struct {
        long status;
        const char *body;
        enum outcome_class want;
    } rows[] = {
        {200, "{}", OUTCOME_DONE},
        {201, " {\"a\":1} ", OUTCOME_DONE},
        {200, "[1]", OUTCOME_BROKEN},
        {200, "<html>", OUTCOME_BROKEN},
        {200, "", OUTCOME_BROKEN},
        {200, "{\"a\":1", OUTCOME_BROKEN},
        {200, "{\"a\":1} x", OUTCOME_BROKEN},
        {200, "{\"a\":1,\"a\":2}", OUTCOME_DONE}, /* theirs to say; it passes through */
        {301, "{}", OUTCOME_BROKEN},
        {400, "{}", OUTCOME_REFUSED},
        {401, "{}", OUTCOME_DENIED},
        {402, "", OUTCOME_DENIED},
        {403, "{}", OUTCOME_DENIED},
        {404, "nope", OUTCOME_DENIED},
        {405, "{}", OUTCOME_REFUSED},
        {413, "", OUTCOME_REFUSED},
        {422, "{}", OUTCOME_REFUSED},
        {408, "{}", OUTCOME_TRANSIENT},
        {409, "{}", OUTCOME_TRANSIENT},
        {425, "{}", OUTCOME_TRANSIENT},
        {499, "{}", OUTCOME_TRANSIENT},
        {500, "{}", OUTCOME_TRANSIENT},
        {501, "{}", OUTCOME_TRANSIENT},
        {599, "{}", OUTCOME_TRANSIENT},
        {429, "{}", OUTCOME_CAPACITY},
        {429, "slow down", OUTCOME_CAPACITY},
        {429, "{\"error\":{\"code\":\"rate_limit_exceeded\"}}", OUTCOME_CAPACITY},
        {429, "{\"error\":{\"code\":\"insufficient_quota\"}}", OUTCOME_DENIED},
        {429, "{\"error\":{\"code\":null,\"type\":\"insufficient_\\u0071uota\"}}",
         OUTCOME_DENIED},
        {429, "{\"error\":\"insufficient_quota\"}", OUTCOME_CAPACITY},
        {503, "{\"error\":{\"code\":\"insufficient_quota\"}}", OUTCOME_CAPACITY},
        {503, "{}", OUTCOME_CAPACITY},
        {529, "{}", OUTCOME_CAPACITY},
        {502, "{}", OUTCOME_GATEWAY},
        {504, "{}", OUTCOME_GATEWAY},
        {524, "{}", OUTCOME_GATEWAY},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct outcome o = outcome_of_answer(rows[i].status, str_of(rows[i].body));

        t_row(rows[i].body);
        EQ_INT(o.cls, rows[i].want);
    }
}

TEST(usage_is_read_from_every_endpoint)
{
    static const struct {
        const char *name, *body;
        struct usage want;
    } rows[] = {
        {"chat",
         "{\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15,"
         "\"prompt_tokens_details\":{\"cached_tokens\":4},"
         "\"completion_tokens_details\":{\"reasoning_tokens\":2}}}",
         {10, 4, 5, 2, 15}},
        {"responses",
         "{\"usage\":{\"input_tokens\":7,\"input_tokens_details\":{\"cached_tokens\":1},"
         "\"output_tokens\":3,\"output_tokens_details\":{\"reasoning_tokens\":3},"
         "\"total_tokens\":10}}",
         {7, 1, 3, 3, 10}},
        {"completions",
         "{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"choices\":[{\"text\":\"a\"}],"
         "\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7,\"total_tokens\":12}}",
         {5, 0, 7, 0, 12}},
        {"vllm, which has no details",
         "{\"object\":\"chat.completion\",\"usage\":{\"prompt_tokens\":12,"
         "\"total_tokens\":28,\"completion_tokens\":16,\"prompt_tokens_details\":null},"
         "\"prompt_logprobs\":null,\"kv_transfer_params\":null}",
         {12, 0, 16, 0, 28}},
        {"a responses object that is incomplete",
         "{\"id\":\"resp_1\",\"object\":\"response\",\"status\":\"incomplete\",\"output\":[],"
         "\"usage\":{\"input_tokens\":36,\"input_tokens_details\":{\"cached_tokens\":0},"
         "\"output_tokens\":87,\"output_tokens_details\":{\"reasoning_tokens\":64},"
         "\"total_tokens\":123},\"user\":null}",
         {36, 0, 87, 64, 123}},
        {"images",
         "{\"created\":1713833628,\"background\":\"opaque\",\"data\":[{\"b64_json\":\"AA==\"}],"
         "\"usage\":{\"total_tokens\":100,\"input_tokens\":50,\"output_tokens\":50,"
         "\"input_tokens_details\":{\"text_tokens\":10,\"image_tokens\":40}}}",
         {50, 0, 50, 0, 100}},
        {"image edits",
         "{\"created\":1,\"data\":[{\"b64_json\":\"AA==\"}],\"output_format\":\"png\",\"usage\":{"
         "\"input_tokens\":360,\"input_tokens_details\":{\"image_tokens\":323,"
         "\"text_tokens\":37},\"output_tokens\":272,\"output_tokens_details\":{"
         "\"image_tokens\":272,\"text_tokens\":0},\"total_tokens\":632}}",
         {360, 0, 272, 0, 632}},
        {"embeddings",
         "{\"usage\":{\"prompt_tokens\":8,\"total_tokens\":8}}",
         {8, 0, 0, 0, 8}},
        {"no total",
         "{\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":2}}",
         {8, 0, 2, 0, 10}},
        {"nulls and fractions count as nothing",
         "{\"usage\":{\"prompt_tokens\":null,\"completion_tokens\":2.5,\"total_tokens\":-1,"
         "\"prompt_tokens_details\":null}}",
         {0, 0, 0, 0, 0}},
        {"larger than 2^53",
         "{\"usage\":{\"prompt_tokens\":9007199254740993}}",
         {9007199254740993u, 0, 0, 0, 9007199254740993u}},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct outcome o = outcome_of_answer(200, str_of(rows[i].body));

        t_row(rows[i].name);
        OK(o.has_usage);
        EQ_INT(o.usage.input, rows[i].want.input);
        EQ_INT(o.usage.cached, rows[i].want.cached);
        EQ_INT(o.usage.output, rows[i].want.output);
        EQ_INT(o.usage.reasoning, rows[i].want.reasoning);
        EQ_INT(o.usage.total, rows[i].want.total);
    }
    /* A moderation, an image of a model that counts none, a video. */
    OK(!outcome_of_answer(200, STR("{\"id\":\"modr-1\",\"model\":\"m\",\"results\":[]}"))
            .has_usage);
    OK(!outcome_of_answer(200,
                          STR("{\"created\":1,\"data\":[{\"url\":\"http://x/1.png\"}]}"))
            .has_usage);
    OK(!outcome_of_answer(200, STR("{\"id\":\"video_1\",\"object\":\"video\",\"status\":"
                                   "\"queued\",\"progress\":0,\"seconds\":\"8\"}"))
            .has_usage);
    OK(!outcome_of_answer(200, STR("{}")).has_usage);
    OK(!outcome_of_answer(200, STR("{\"usage\":null}")).has_usage);
    OK(!outcome_of_answer(500, STR("{\"usage\":{\"prompt_tokens\":1}}")).has_usage);
}

static const char hex[] = "00112233445566778899aabbccddeeff";

static struct str line_of(long status, const char *body)
{
    static struct buf b;

    buf_init(&b, 1 << 20);
    EQ_RC(outcome_line(&b, hex, STR("\"a\\u0041\""), status, "req-1", str_of(body)),
          RC_OK);
    return buf_peek(&b);
}

TEST(the_answers_bytes_stand_in_the_line_but_for_line_breaks)
{
    EQ_STR(
        line_of(200, "{\n  \"b\" : 1.10,\r\n\t\"a\": [1e400, 12345678901234567890]\n}\n"),
        STR("{\"id\":\"batch_req_00112233445566778899aabbccddeeff\",\"custom_id\":\"a\\u0041\","
            "\"response\":{\"status_code\":200,\"request_id\":\"req-1\",\"body\":{  \"b\" : "
            "1.10,\t\"a\": [1e400, 12345678901234567890]}},\"error\":null}\n"));
}

TEST(a_refusal_keeps_its_body_and_has_no_error)
{
    EQ_STR(
        line_of(400, "{\"error\":{\"message\":\"no\"}}"),
        STR("{\"id\":\"batch_req_00112233445566778899aabbccddeeff\",\"custom_id\":\"a\\u0041\","
            "\"response\":{\"status_code\":400,\"request_id\":\"req-1\",\"body\":{\"error\":{"
            "\"message\":\"no\"}}},\"error\":null}\n"));
}

TEST(a_refusal_that_is_not_json_becomes_a_string)
{
    struct str line = line_of(404, "<h1>\xff\n\"</h1>");

    OK(memmem(line.p, line.n, "\"body\":\"<h1>\xef\xbf\xbd\\n\\\"</h1>\"}", 26));
    EQ_RC(json_read(line, &(struct json_limits){0}, NULL, 0, NULL, NULL, NULL), RC_OK);
}

TEST(a_line_without_an_answer_has_a_code_and_a_message)
{
    struct buf b;

    buf_init(&b, 4096);
    EQ_RC(outcome_error_line(&b, hex, STR("\"x\""), "batch_expired", "too \"late\""),
          RC_OK);
    EQ_STR(
        buf_peek(&b),
        STR("{\"id\":\"batch_req_00112233445566778899aabbccddeeff\",\"custom_id\":\"x\","
            "\"response\":null,\"error\":{\"code\":\"batch_expired\",\"message\":\"too "
            "\\\"late\\\"\"}}\n"));
    buf_done(&b);
}

TEST(what_an_answer_says_of_trying_again_goes_before_its_status)
{
    EQ_INT(outcome_heed(OUTCOME_REFUSED, true, false), OUTCOME_TRANSIENT);
    EQ_INT(outcome_heed(OUTCOME_TRANSIENT, false, true), OUTCOME_REFUSED);
    t_row("but not load, and not what stands in front");
    EQ_INT(outcome_heed(OUTCOME_CAPACITY, false, true), OUTCOME_CAPACITY);
    EQ_INT(outcome_heed(OUTCOME_GATEWAY, false, true), OUTCOME_GATEWAY);
    EQ_INT(outcome_heed(OUTCOME_DENIED, true, false), OUTCOME_DENIED);
    EQ_INT(outcome_heed(OUTCOME_DONE, true, false), OUTCOME_DONE);
    EQ_INT(outcome_heed(OUTCOME_REFUSED, false, false), OUTCOME_REFUSED);
}

TEST(what_an_error_says_is_found_and_cut_to_fit)
{
    static const struct {
        const char *body, *want;
    } rows[] = {
        {"{\"error\":{\"message\":\"Incorrect key\",\"code\":\"x\"}}", "Incorrect key"},
        {"{\"message\":\"no\"}", "no"},
        {"{\"detail\":\"Not Found\"}", "Not Found"},
        {"{\"error\":\"model 'x' not found\"}", "model 'x' not found"},
        {"{\"error\":{\"message\":\"a\\nb\\u0007c\"}}", "a b c"},
        {"{\"error\":{\"message\":\"\\ud800\"},\"detail\":\"d\"}", "d"},
        {"<html>\r\n403</html>", "<html>  403</html>"},
        {"  ", ""},
        {"", ""},
        {"caf\xc3\xa9", "caf\xc3\xa9"},
        {"caf\xc3", "caf "},
        {"\xff\xfe!", "  !"},
        {"0123456789012345678\xc3\xa9!", "0123456789012345678"},
        {"01234567890123456789!", "01234567890123456789"},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        char text[21];

        t_row(rows[i].body);
        outcome_message(str_of(rows[i].body), text, sizeof text);
        EQ_Z(text, rows[i].want);
    }
}

TEST(the_result_of_an_equal_line_differs_in_id_and_custom_id_only)
{
    static const char one[33] = "00000000000000000000000000000001";
    static const char two[33] = "000000000000000000000000000000ff";
    static const struct {
        long status;
        const char *body;
    } rows[] = {
        {200, "{\"custom_id\":\"not this\",\"usage\":{\"total_tokens\":3}}"},
        {200, "{\"a\":\n[1, 2e5]}"},
        {400, "no JSON }"},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct buf first, again, want;

        buf_init(&first, 4096);
        buf_init(&again, 4096);
        buf_init(&want, 4096);
        EQ_RC(outcome_line(&first, one, STR("\"a\\\"}\""), rows[i].status, "r",
                           str_of(rows[i].body)),
              RC_OK);
        EQ_RC(outcome_line(&want, two, STR("\"second \\u0041\""), rows[i].status, "r",
                           str_of(rows[i].body)),
              RC_OK);
        EQ_RC(outcome_again(&again, two, STR("\"second \\u0041\""), buf_peek(&first)),
              RC_OK);
        EQ_STR(buf_peek(&again), buf_peek(&want));
        buf_done(&first);
        buf_done(&again);
        buf_done(&want);
    }
}
