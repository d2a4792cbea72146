/* SPDX-License-Identifier: Apache-2.0 */
#include "api/inline.h"
#include "tests/lib/t.h"

static void check(const char *requests, enum endpoint ep, const char *want)
{
    struct json_limits limits = {0};
    struct json_val top;
    struct buf out;

    EQ_RC(json_read(str_of(requests), &limits, NULL, 0, NULL, &top, NULL), RC_OK);
    buf_init(&out, 1 << 16);
    EQ_RC(inline_lines(&top, ep, &out), RC_OK);
    EQ_STR(buf_peek(&out), str_of(want));
    buf_done(&out);
}

TEST(each_element_becomes_a_line_byte_for_byte)
{
    check("[ {\"custom_id\" : \"a\", \"method\":\"POST\",\"url\":\"/v1/embeddings\","
          "\"body\":{\"n\": 1.10, \"b\":12345678901234567890, \"t\":\"\\u00e9\\/\"}} ]",
          ENDPOINT_EMBEDDINGS,
          "{\"custom_id\" : \"a\", \"method\":\"POST\",\"url\":\"/v1/embeddings\","
          "\"body\":{\"n\": 1.10, \"b\":12345678901234567890, \"t\":\"\\u00e9\\/\"}}\n");
}

TEST(line_ends_between_tokens_are_taken_out)
{
    check(
        "[\n{\n\"method\":\r\n\"POST\",\n \"url\":\"x\"},\n{\"url\":\"a\\nb\",\n"
        "\"method\":\"GET\"\n}]",
        ENDPOINT_CHAT,
        "{\"method\":\"POST\", \"url\":\"x\"}\n{\"url\":\"a\\nb\",\"method\":\"GET\"}\n");
}

TEST(a_missing_method_or_url_is_filled_in)
{
    check(
        "[{\"custom_id\":\"a\",\"body\":{}},{\"url\":\"/x\"},{\"method\":\"POST\"},{},"
        "{ }, {\"meth\\u006fd\":null,\"\\u0075rl\":7},{\"body\":{\"url\":1,\"method\":2}}]",
        ENDPOINT_CHAT,
        "{\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"custom_id\":\"a\","
        "\"body\":{}}\n"
        "{\"method\":\"POST\",\"url\":\"/x\"}\n"
        "{\"url\":\"/v1/chat/completions\",\"method\":\"POST\"}\n"
        "{\"method\":\"POST\",\"url\":\"/v1/chat/completions\"}\n"
        "{\"method\":\"POST\",\"url\":\"/v1/chat/completions\" }\n"
        "{\"meth\\u006fd\":null,\"\\u0075rl\":7}\n"
        "{\"method\":\"POST\",\"url\":\"/v1/chat/completions\","
        "\"body\":{\"url\":1,\"method\":2}}\n");
}

TEST(what_is_no_object_stays_for_the_scan_to_find)
{
    check("[7,null,\"a\\nb\",[1,\n2],true]", ENDPOINT_CHAT,
          "7\nnull\n\"a\\nb\"\n[1,2]\ntrue\n");
}

TEST(no_more_is_made_than_the_buffer_may_hold)
{
    struct json_limits limits = {0};
    struct json_val top;
    struct buf out;

    EQ_RC(json_read(STR("[{},{},{},{}]"), &limits, NULL, 0, NULL, &top, NULL), RC_OK);
    buf_init(&out, 100);
    EQ_RC(inline_lines(&top, ENDPOINT_CHAT, &out), RC_LIMIT);
    buf_done(&out);
}
