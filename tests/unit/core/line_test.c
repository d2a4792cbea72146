/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/t.h"
#include "core/line.h"
#include "json/json.h"
#include "base/limits.h"

#include <stdio.h>

#define REST       "\"method\":\"POST\",\"url\":\"/v1/chat/completions\""
#define LINE(body) "{\"custom_id\":\"a\"," REST ",\"body\":" body "}"
#define NOT_JSON   "This line is not parseable as valid JSON"

static const struct {
    const char *name;
    const char *text;
    enum line_fault fault;
    const char *param;
    const char *message; /* all of it */
} bad[] = {
    {"empty", "", LINE_INVALID_JSON, NULL, NOT_JSON "."},
    {"not JSON", "{invalid json here", LINE_INVALID_JSON, NULL, NOT_JSON "."},
    {"two objects", "{}{}", LINE_INVALID_JSON, NULL, NOT_JSON "."},
    {"an array", "[]", LINE_INVALID_JSON, NULL, NOT_JSON "."},
    {"a string", "\"custom_id\"", LINE_INVALID_JSON, NULL, NOT_JSON "."},
    {"null", " null", LINE_INVALID_JSON, NULL, NOT_JSON "."},
    {"not UTF-8", LINE("{\"a\":\"\xff\"}"), LINE_INVALID_JSON, NULL, NOT_JSON "."},
    {"a trailing comma", LINE("{\"a\":[1,]}"), LINE_INVALID_JSON, NULL, NOT_JSON "."},
    {"a key twice", "{\"custom_id\":\"a\",\"custom_id\":\"b\"}", LINE_INVALID_JSON, NULL,
     NOT_JSON ": the key 'custom_id' is there twice."},
    {"a key twice deep in the body", LINE("{\"x\":[{\"te\\u006dp\":1,\"temp\":2}]}"),
     LINE_INVALID_JSON, NULL, NOT_JSON ": the key 'temp' is there twice."},
    {"bad JSON comes before all else", "{\"custom_id\":1", LINE_INVALID_JSON, NULL,
     NOT_JSON "."},

    {"nothing in it", "{}", LINE_MISSING, "custom_id",
     "Missing required parameter: 'custom_id'."},
    {"no custom_id", "{" REST ",\"body\":{}}", LINE_MISSING, "custom_id",
     "Missing required parameter: 'custom_id'."},
    {"custom_id only in the body", "{" REST ",\"body\":{\"custom_id\":\"a\"}}",
     LINE_MISSING, "custom_id", "Missing required parameter: 'custom_id'."},
    {"custom_id in capitals", "{\"Custom_ID\":\"a\"," REST ",\"body\":{}}", LINE_MISSING,
     "custom_id", "Missing required parameter: 'custom_id'."},
    {"custom_id an integer", "{\"custom_id\":7," REST ",\"body\":{}}", LINE_TYPE,
     "custom_id",
     "Invalid type for 'custom_id': expected a string, but got an integer instead."},
    {"custom_id a decimal", "{\"custom_id\":7e1," REST ",\"body\":{}}", LINE_TYPE,
     "custom_id",
     "Invalid type for 'custom_id': expected a string, but got a decimal instead."},
    {"custom_id null", "{\"custom_id\":null," REST ",\"body\":{}}", LINE_TYPE,
     "custom_id",
     "Invalid type for 'custom_id': expected a string, but got null instead."},
    {"custom_id true", "{\"custom_id\":true," REST ",\"body\":{}}", LINE_TYPE,
     "custom_id",
     "Invalid type for 'custom_id': expected a string, but got a boolean instead."},
    {"custom_id an array", "{\"custom_id\":[\"a\"]," REST ",\"body\":{}}", LINE_TYPE,
     "custom_id",
     "Invalid type for 'custom_id': expected a string, but got an array instead."},
    {"custom_id an object", "{\"custom_id\":{}," REST ",\"body\":{}}", LINE_TYPE,
     "custom_id",
     "Invalid type for 'custom_id': expected a string, but got an object instead."},
    {"custom_id empty", "{\"custom_id\":\"\"," REST ",\"body\":{}}", LINE_CUSTOM_ID,
     "custom_id",
     "Invalid 'custom_id': empty string. Expected a string with minimum length 1, but got an "
     "empty string instead."},

    {"no method", "{\"custom_id\":\"a\",\"url\":\"/v1/chat/completions\",\"body\":{}}",
     LINE_MISSING, "method", "Missing required parameter: 'method'."},
    {"method null",
     "{\"custom_id\":\"a\",\"method\":null,\"url\":\"/v1/chat/completions\",\"body\":{}}",
     LINE_TYPE, "method",
     "Invalid type for 'method': expected a string, but got null instead."},
    {"method GET",
     "{\"custom_id\":\"a\",\"method\":\"GET\",\"url\":\"/v1/chat/completions\",\"body\":{}}",
     LINE_METHOD, "method", "Invalid value: 'GET'. Supported values are: 'POST'."},
    {"method in small letters",
     "{\"custom_id\":\"a\",\"method\":\"post\",\"url\":\"/v1/chat/completions\",\"body\":{}}",
     LINE_METHOD, "method", "Invalid value: 'post'. Supported values are: 'POST'."},
    {"method with control characters stays escaped",
     "{\"custom_id\":\"a\",\"method\":\"\\u001b[31m\\r\\n\",\"url\":\"x\",\"body\":{}}",
     LINE_METHOD, "method",
     "Invalid value: '\\u001b[31m\\r\\n'. Supported values are: 'POST'."},

    {"no url", "{\"custom_id\":\"a\",\"method\":\"POST\",\"body\":{}}", LINE_MISSING,
     "url", "Missing required parameter: 'url'."},
    {"url an object", "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":{},\"body\":{}}",
     LINE_TYPE, "url",
     "Invalid type for 'url': expected a string, but got an object instead."},
    {"another endpoint",
     "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/embeddings\",\"body\":{}}",
     LINE_URL, "url",
     "The URL provided for this request does not match the batch endpoint."},

    {"no body", "{\"custom_id\":\"a\"," REST "}", LINE_MISSING, "body",
     "Missing required parameter: 'body'."},
    {"body null", LINE("null"), LINE_TYPE, "body",
     "Invalid type for 'body': expected an object, but got null instead."},
    {"body a string", LINE("\"{}\""), LINE_TYPE, "body",
     "Invalid type for 'body': expected an object, but got a string instead."},
    {"body an array", LINE("[{}]"), LINE_TYPE, "body",
     "Invalid type for 'body': expected an object, but got an array instead."},

    {"stream true", LINE("{\"model\":\"m\",\"stream\":true}"), LINE_STREAM, "body.stream",
     "Chat Completions: Streaming is not supported in the Batch API."},
    {"stream a string", LINE("{\"stream\":\"false\"}"), LINE_TYPE, "body.stream",
     "Invalid type for 'body.stream': expected a boolean, but got a string instead."},
    {"stream a number", LINE("{\"stream\":0}"), LINE_TYPE, "body.stream",
     "Invalid type for 'body.stream': expected a boolean, but got an integer instead."},
    {"model a number", LINE("{\"model\":3.5}"), LINE_TYPE, "body.model",
     "Invalid type for 'body.model': expected a string, but got a decimal instead."},
    {"model null", LINE("{\"model\":null}"), LINE_TYPE, "body.model",
     "Invalid type for 'body.model': expected a string, but got null instead."},
    {"model a list", LINE("{\"model\":[\"a\"]}"), LINE_TYPE, "body.model",
     "Invalid type for 'body.model': expected a string, but got an array instead."},

    {"the first fault in this order counts",
     "{\"body\":{\"stream\":true},\"url\":1,\"method\":2,\"custom_id\":3}", LINE_TYPE,
     "custom_id",
     "Invalid type for 'custom_id': expected a string, but got an integer instead."},
    {"method before url and body", "{\"custom_id\":\"a\",\"body\":1,\"url\":2}",
     LINE_MISSING, "method", "Missing required parameter: 'method'."},
    {"url before body", "{\"custom_id\":\"a\",\"method\":\"POST\",\"body\":1,\"url\":2}",
     LINE_TYPE, "url",
     "Invalid type for 'url': expected a string, but got an integer instead."},
    {"stream before model", LINE("{\"model\":1,\"stream\":true}"), LINE_STREAM,
     "body.stream", "Chat Completions: Streaming is not supported in the Batch API."},
};

TEST(every_rule_has_its_code_param_and_words)
{
    for (size_t i = 0; i < COUNTOF(bad); i++) {
        struct line line;
        struct line_error e;

        t_row(bad[i].name);
        EQ_RC(line_read(str_of(bad[i].text), ENDPOINT_CHAT, &line, &e), RC_INVALID);
        EQ_Z(line_fault_code(e.fault), line_fault_code(bad[i].fault));
        OK(e.param ? bad[i].param && strcmp(e.param, bad[i].param) == 0 : !bad[i].param);
        EQ_Z(e.message, bad[i].message);
        OK((e.reason != NULL) == (e.fault == LINE_INVALID_JSON));
    }
}

TEST(the_codes_are_those_of_the_api)
{
    EQ_Z(line_fault_code(LINE_NONE), "");
    EQ_Z(line_fault_code(LINE_INVALID_JSON), "invalid_json_line");
    EQ_Z(line_fault_code(LINE_MISSING), "missing_required_parameter");
    EQ_Z(line_fault_code(LINE_TYPE), "invalid_type");
    EQ_Z(line_fault_code(LINE_METHOD), "invalid_method");
    EQ_Z(line_fault_code(LINE_URL), "invalid_url");
    EQ_Z(line_fault_code(LINE_DUPLICATE), "duplicate_custom_id");
    EQ_Z(line_fault_code(LINE_STREAM), "streaming_unsupported");
    EQ_Z(line_fault_code(LINE_MODEL_UNKNOWN), "model_not_found");
    EQ_Z(line_fault_code(LINE_MODEL_MISMATCH), "mismatched_model");
    EQ_Z(line_fault_code(LINE_TOO_LONG), "line_too_long");
    EQ_Z(line_fault_code(LINE_CUSTOM_ID), "invalid_custom_id");
}

TEST(bad_json_tells_where_and_why)
{
    struct line line;
    struct line_error e;

    EQ_RC(line_read(STR("{\"a\":1,}"), ENDPOINT_CHAT, &line, &e), RC_INVALID);
    EQ_INT(e.at, 8);
    EQ_Z(e.reason, "a key in quotes was expected");
    EQ_RC(line_read(STR("  7"), ENDPOINT_CHAT, &line, &e), RC_INVALID);
    EQ_INT(e.at, 3);
    EQ_Z(e.reason, "an object was expected");
    EQ_RC(line_read(STR("{\"a\":1,\"a\":2}"), ENDPOINT_CHAT, &line, &e), RC_INVALID);
    EQ_INT(e.at, 8);
}

static const struct {
    const char *name;
    const char *text;
    const char *custom_id, *body, *model; /* raw; model NULL: none */
} fine[] = {
    {"plain", LINE("{\"model\":\"m\"}"), "\"a\"", "{\"model\":\"m\"}", "\"m\""},
    {"no model", LINE("{}"), "\"a\"", "{}", NULL},
    {"spaces everywhere",
     " { \"custom_id\" : \"a\" , \"method\" : \"POST\" , \"url\" : \"/v1/chat/completions\" , "
     "\"body\" : { \"model\" : \"m\" } } ",
     "\"a\"", "{ \"model\" : \"m\" }", "\"m\""},
    {"another order and unknown members",
     "{\"x\":[1,{\"body\":{}}],\"body\":{\"t\":1.10,\"model\":\"m\",\"n\":12345678901234567890},"
     "\"url\":\"/v1/chat/completions\",\"priority\":null,\"custom_id\":\"\\u0061\",\"method\":"
     "\"POST\"}",
     "\"\\u0061\"", "{\"t\":1.10,\"model\":\"m\",\"n\":12345678901234567890}", "\"m\""},
    {"escapes in what is compared",
     "{\"custom\\u005fid\":\"a\",\"method\":\"P\\u004fST\",\"url\":\"\\/v1\\/chat\\/completions\","
     "\"b\\u006fdy\":{\"mod\\u0065l\":\"m\\u0061\"}}",
     "\"a\"", "{\"mod\\u0065l\":\"m\\u0061\"}", "\"m\\u0061\""},
    {"stream false", LINE("{\"stream\":false}"), "\"a\"", "{\"stream\":false}", NULL},
    {"stream null", LINE("{\"stream\":null}"), "\"a\"", "{\"stream\":null}", NULL},
    {"stream true deeper is content", LINE("{\"x\":{\"stream\":true,\"model\":1}}"),
     "\"a\"", "{\"x\":{\"stream\":true,\"model\":1}}", NULL},
    {"lone surrogates and NUL escapes",
     "{\"custom_id\":\"\\ud800\\u0000\"," REST ",\"body\":{\"x\":\"\\udfff\\u0000\"}}",
     "\"\\ud800\\u0000\"", "{\"x\":\"\\udfff\\u0000\"}", NULL},
    {"brackets and quotes in strings", LINE("{\"x\":\"}]{[\\\"\\\\\",\"model\":\"m\"}"),
     "\"a\"", "{\"x\":\"}]{[\\\"\\\\\",\"model\":\"m\"}", "\"m\""},
    {"Unicode", "{\"custom_id\":\"\xe8\xaf\xb7\xf0\x9f\x99\x8f\"," REST ",\"body\":{}}",
     "\"\xe8\xaf\xb7\xf0\x9f\x99\x8f\"", "{}", NULL},
};

TEST(good_lines_give_their_exact_bytes_and_so_does_reading_again)
{
    for (size_t i = 0; i < COUNTOF(fine); i++) {
        struct line line, again;
        struct line_error e;

        t_row(fine[i].name);
        EQ_RC(line_read(str_of(fine[i].text), ENDPOINT_CHAT, &line, &e), RC_OK);
        EQ_STR(line.custom_id, str_of(fine[i].custom_id));
        EQ_STR(line.body, str_of(fine[i].body));
        EQ_STR(line.model, str_of(fine[i].model));
        OK(!line.model.p == !fine[i].model);
        EQ_INT(line.inputs, 0);
        EQ_INT(line.endpoint, ENDPOINT_CHAT);
        line_reread(str_of(fine[i].text), &again);
        OK(again.custom_id.p == line.custom_id.p &&
           again.custom_id.n == line.custom_id.n);
        OK(again.body.p == line.body.p && again.body.n == line.body.n);
        OK(again.model.p == line.model.p && again.model.n == line.model.n);
    }
}

static enum rc read_id(const char *character, int n, size_t *ret_n)
{
    char text[16384] = "{\"custom_id\":\"";
    struct line line;
    struct line_error e;
    enum rc rc;

    for (int i = 0; i < n; i++)
        memcpy(text + strlen(text), character, strlen(character) + 1);
    memcpy(text + strlen(text), "\"," REST ",\"body\":{}}",
           sizeof "\"," REST ",\"body\":{}}");
    rc = line_read(str_of(text), ENDPOINT_CHAT, &line, &e);
    if (rc != RC_OK) {
        EQ_Z(line_fault_code(e.fault), "invalid_custom_id");
        EQ_Z(e.param, "custom_id");
        OK(strstr(e.message, "string too long"));
        OK(strstr(e.message, "length 513 instead"));
    }
    *ret_n = strlen(text);
    return rc;
}

TEST(custom_ids_are_measured_in_characters)
{
    static const char *const characters[] = {
        "x",   "\xc3\xa9", "\xe4\xb8\xad",  "\xf0\x9f\x98\x80",
        "\\n", "\\u0041",  "\\ud83d\\ude00"};

    for (size_t i = 0; i < COUNTOF(characters); i++) {
        size_t n;

        t_row(characters[i]);
        EQ_RC(read_id(characters[i], LIMIT_CUSTOM_ID, &n), RC_OK);
        EQ_RC(read_id(characters[i], LIMIT_CUSTOM_ID + 1, &n), RC_INVALID);
    }
}

static enum rc read_url(const char *raw_url, enum endpoint ep, struct line *line,
                        struct line_error *e)
{
    char text[512];

    EQ_RC(str_fmt(text, sizeof text,
                  "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":%s,\"body\":{}}",
                  raw_url),
          RC_OK);
    return line_read(str_of(text), ep, line, e);
}

TEST(each_endpoint_takes_its_own_url_only)
{
    struct line line;
    struct line_error e;
    char url[64];

    for (unsigned have = 0; have < ENDPOINT_COUNT; have++) {
        EQ_RC(str_fmt(url, sizeof url, "\"%s\"", endpoint_path((enum endpoint)have)),
              RC_OK);
        for (unsigned want = 0; want < ENDPOINT_COUNT; want++)
            EQ_RC(read_url(url, (enum endpoint)want, &line, &e),
                  have == want ? RC_OK : RC_INVALID);
        EQ_RC(read_url(url, ENDPOINT_COUNT, &line, &e), RC_OK);
        EQ_INT(line.endpoint, have);
    }
    EQ_RC(read_url("\"/v1/files\"", ENDPOINT_COUNT, &line, &e), RC_INVALID);
    EQ_Z(line_fault_code(e.fault), "invalid_url");
    EQ_Z(
        e.message,
        "Invalid value: '/v1/files'. Supported values are: '/v1/responses', "
        "'/v1/chat/completions', '/v1/embeddings', '/v1/completions', '/v1/moderations', "
        "'/v1/images/generations', '/v1/images/edits' and '/v1/videos'.");
}

TEST(no_url_leads_out_of_the_list)
{
    static const char *const tricks[] = {
        "\"\"",
        "\"/\"",
        "\"v1/chat/completions\"",
        "\"/v1/chat/completions/\"",
        "\"//v1/chat/completions\"",
        "\"/v1//chat/completions\"",
        "\"/v1/chat/completions?\"",
        "\"/v1/chat/completions?x=1\"",
        "\"/v1/chat/completions#\"",
        "\" /v1/chat/completions\"",
        "\"/v1/chat/completions \"",
        "\"/V1/chat/completions\"",
        "\"/v1/chat/completions\\u0000\"",
        "\"/v1/chat/completions\\n\"",
        "\"/v1/chat/completions\\r\\nHost: evil\"",
        "\"http://evil/v1/chat/completions\"",
        "\"//evil/v1/chat/completions\"",
        "\"https://api.openai.com/v1/chat/completions\"",
        "\"@evil/v1/chat/completions\"",
        "\"/v1/../v1/chat/completions\"",
        "\"/v1/chat/./completions\"",
        "\"\\\\v1\\\\chat\\\\completions\"",
        "\"/v1%2fchat/completions\"",
        "\"/v1/chat%2Fcompletions\"",
        "\"/v1/chat/\\u0441ompletions\"",
        "\"\xef\xbc\x8fv1/chat/completions\"",
        "\"/v1/chat\xe2\x81\x84models\"",
        "\"/v1/chat/completions\\ud800\"",
        "\"file:///etc/passwd\"",
        "\"/v1/chat\"",
        "\"/v1/chat/completion\"",
        "\"/v1/chat/completionss\"",
    };
    struct line line;
    struct line_error e;

    for (size_t i = 0; i < COUNTOF(tricks); i++) {
        t_row(tricks[i]);
        EQ_RC(read_url(tricks[i], ENDPOINT_CHAT, &line, &e), RC_INVALID);
        EQ_Z(line_fault_code(e.fault), "invalid_url");
        EQ_RC(read_url(tricks[i], ENDPOINT_COUNT, &line, &e), RC_INVALID);
    }
}

TEST(one_changed_byte_is_another_url)
{
    static const char path[] = "\"/v1/chat/completions\"";
    struct line line;
    struct line_error e;

    for (size_t at = 1; at < sizeof path - 2; at++)
        for (int c = 0x20; c < 0x7f; c++) {
            char url[sizeof path];

            memcpy(url, path, sizeof path);
            url[at] = (char)c;
            EQ_RC(read_url(url, ENDPOINT_CHAT, &line, &e),
                  c == path[at] ? RC_OK : RC_INVALID);
        }
}

TEST(stream_is_told_in_the_words_of_the_endpoint)
{
    static const char *const titles[ENDPOINT_COUNT] = {
        "Responses",   "Chat Completions", "Embeddings",  "Completions",
        "Moderations", "Images",           "Image Edits", "Videos"};

    for (unsigned ep = 0; ep < ENDPOINT_COUNT; ep++)
        for (int any = 0; any < 2; any++) {
            struct line_error e;
            struct line line;
            char text[256], want[128];

            EQ_RC(str_fmt(
                      text, sizeof text,
                      "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"%s\",\"body\":{"
                      "\"stream\":true}}",
                      endpoint_path((enum endpoint)ep)),
                  RC_OK);
            EQ_RC(str_fmt(want, sizeof want,
                          "%s: Streaming is not supported in the Batch API.", titles[ep]),
                  RC_OK);
            EQ_RC(line_read(str_of(text), any ? ENDPOINT_COUNT : (enum endpoint)ep, &line,
                            &e),
                  RC_INVALID);
            EQ_Z(line_fault_code(e.fault), "streaming_unsupported");
            EQ_Z(e.message, want);
        }
}

TEST(embedding_inputs_are_counted)
{
    static const struct {
        const char *input;
        uint32_t n;
    } rows[] = {
        {"\"text\"", 1},    {"[\"a\"]", 1},       {"[\"a\",\"b\",\"c,d\"]", 3},
        {"[1,2,3,4]", 1}, /* one input of four tokens */
        {"[[1,2],[3]]", 2}, {"[[1,2,3]]", 1},     {"[]", 1},
        {"null", 1},        {"{\"a\":[1,2]}", 1},
    };
    struct line line;
    struct line_error e;
    char text[256];

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        t_row(rows[i].input);
        EQ_RC(
            str_fmt(text, sizeof text,
                    "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/embeddings\","
                    "\"body\":{\"model\":\"m\",\"input\":%s}}",
                    rows[i].input),
            RC_OK);
        EQ_RC(line_read(str_of(text), ENDPOINT_EMBEDDINGS, &line, &e), RC_OK);
        EQ_INT(line.inputs, rows[i].n);
    }
    EQ_RC(line_read(
              STR("{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/embeddings\","
                  "\"body\":{}}"),
              ENDPOINT_EMBEDDINGS, &line, &e),
          RC_OK);
    EQ_INT(line.inputs, 1);
    EQ_RC(line_read(str_of(LINE("{\"input\":[\"a\",\"b\"]}")), ENDPOINT_CHAT, &line, &e),
          RC_OK);
    EQ_INT(line.inputs, 0);
}

TEST(long_values_are_cut_in_messages_between_characters)
{
    struct buf text;

    buf_init(&text, 100000);
    for (int shift = 0; shift < 4; shift++) {
        struct line_error e;
        struct line line;

        buf_reset(&text);
        (void)buf_z(&text, "{\"custom_id\":\"a\",\"method\":\"");
        for (int i = 0; i < shift; i++)
            (void)buf_char(&text, 'x');
        for (int i = 0; i < 5000; i++)
            (void)buf_z(&text, "\xe4\xb8\xad");
        (void)buf_z(&text, "\",\"url\":\"x\",\"body\":{}}");
        EQ_RC(line_read(buf_peek(&text), ENDPOINT_CHAT, &line, &e), RC_INVALID);
        OK(strlen(e.message) < 250);
        OK(strstr(e.message, "\xe4\xb8\xad...'. Supported values are: 'POST'."));
    }
    buf_done(&text);
}

TEST(a_quote_fits_its_place)
{
    for (size_t n = 0; n < 40; n++)
        for (size_t cap = 5; cap < 40; cap++) {
            char raw[64] = "\"", dst[64], want[64] = "";

            memset(raw + 1, 'q', n);
            raw[n + 1] = '"';
            memset(dst, '#', sizeof dst);
            line_quote((struct str){raw, n + 2}, dst, cap);
            memset(want, 'q', n < cap ? n : cap - 4);
            memcpy(want + (n < cap ? n : cap - 4), n < cap ? "" : "...", n < cap ? 1 : 4);
            EQ_Z(dst, want);
            OK(dst[cap] == '#');
        }
}

static void reread_an_array(void)
{
    struct line line;

    line_reread(STR("[1]"), &line);
}

static void reread_nothing(void)
{
    struct line line;

    line_reread(STR(""), &line);
}

static void reread_without_body(void)
{
    struct line line;

    line_reread(STR("{\"custom_id\":\"a\",\"body\":1}"), &line);
}

static void reread_without_id(void)
{
    struct line line;

    line_reread(STR("{\"custom_id\":1,\"body\":{}}"), &line);
}

TEST(reading_again_what_was_never_accepted_is_a_bug)
{
    PANICS(reread_an_array, "check failed");
    PANICS(reread_nothing, "check failed");
    PANICS(reread_without_body, "check failed");
    PANICS(reread_without_id, "check failed");
}
