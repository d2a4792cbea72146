/* SPDX-License-Identifier: Apache-2.0 */
#include "api/batch_body.h"
#include "base/limits.h"
#include "base/mem.h"
#include "tests/lib/t.h"

#include <stdio.h>

static const struct batch_rules rules = {1, 30 * 86400, "hooks.test, *.sub.test:8443"};

#define GOOD                                                                             \
    "\"input_file_id\":\"file-1\",\"endpoint\":\"/v1/chat/completions\","                \
    "\"completion_window\":\"24h\""

static enum rc read(const char *text, struct batch_body *body, struct apierr *e)
{
    return batch_body_read(str_of(text), &rules, body, e);
}

TEST(a_plain_body_is_read)
{
    struct batch_body b;
    struct apierr e;

    EQ_RC(read("{" GOOD "}", &b, &e), RC_OK);
    EQ_Z(b.input_file.z, "file-1");
    EQ_INT(b.endpoint, ENDPOINT_CHAT);
    EQ_Z(b.window, "24h");
    EQ_INT(b.window_seconds, 86400);
    OK(!b.metadata.p);
    EQ_INT(b.output_expires_after, 0);
}

TEST(members_come_in_any_order_and_unknown_ones_are_passed_over)
{
    struct batch_body b;
    struct apierr e;

    EQ_RC(read(" {\"x\":{\"endpoint\":7},\"metadata\":{\"a\":\"b\"},"
               "\"completion_window\":\"\\u00324h\",\"list\":[1,[2]],"
               "\"endpoint\":\"\\/v1\\/embeddings\",\"input_file_id\":\"file-9\","
               "\"output_expires_after\":{\"seconds\":3600,\"anchor\":\"created_at\"}} ",
               &b, &e),
          RC_OK);
    EQ_Z(b.input_file.z, "file-9");
    EQ_INT(b.endpoint, ENDPOINT_EMBEDDINGS);
    EQ_Z(b.window, "24h");
    EQ_STR(b.metadata, STR("{\"a\":\"b\"}"));
    EQ_INT(b.output_expires_after, 3600);
}

struct refusal {
    const char *body;
    enum apierr_kind kind;
    const char *param;
    const char *says; /* a part of the message */
};

static void check_refusals(const struct refusal *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct batch_body b = {.window_seconds = -77};
        struct apierr e;

        t_row(rows[i].body);
        EQ_RC(read(rows[i].body, &b, &e), RC_INVALID);
        EQ_INT(e.kind, rows[i].kind);
        EQ_Z(e.param, rows[i].param);
        if (!strstr(e.message, rows[i].says))
            FAIL("\"%s\" does not say \"%s\"", e.message, rows[i].says);
        EQ_INT(b.window_seconds, -77); /* untouched */
    }
}

TEST(what_is_no_json_object_is_refused)
{
    static const struct refusal rows[] = {
        {"", APIERR_BAD_REQUEST, "", "could not parse the JSON body"},
        {" ", APIERR_BAD_REQUEST, "", "could not parse the JSON body"},
        {"{", APIERR_BAD_REQUEST, "", "could not parse the JSON body"},
        {"{" GOOD "", APIERR_BAD_REQUEST, "", "could not parse the JSON body"},
        {"{" GOOD ",}", APIERR_BAD_REQUEST, "", "could not parse the JSON body"},
        {"{" GOOD "} x", APIERR_BAD_REQUEST, "", "could not parse the JSON body"},
        {"{'endpoint':1}", APIERR_BAD_REQUEST, "", "could not parse the JSON body"},
        {"{" GOOD ",\"endpoint\":\"/v1/embeddings\"}", APIERR_BAD_REQUEST, "",
         "could not parse the JSON body"},
        {"{" GOOD ",\"metadata\":{\"a\":\"1\",\"\\u0061\":\"2\"}}", APIERR_BAD_REQUEST,
         "", "could not parse the JSON body"},
        {"input_file_id=file-1", APIERR_BAD_REQUEST, "", "could not parse the JSON body"},
        {"{\"a\":\"\xff\"}", APIERR_BAD_REQUEST, "", "could not parse the JSON body"},
        {"[]", APIERR_TYPE, "", "got an array"},
        {"[{" GOOD "}]", APIERR_TYPE, "", "got an array"},
        {"null", APIERR_TYPE, "", "got null"},
        {"\"x\"", APIERR_TYPE, "", "got a string"},
        {"7", APIERR_TYPE, "", "got an integer"},
    };

    check_refusals(rows, COUNTOF(rows));
}

TEST(missing_and_bad_members_are_refused_by_name)
{
    static const struct refusal rows[] = {
        {"{}", APIERR_MISSING, "input_file_id",
         "Missing required parameter: 'input_file_id'."},
        {"{\"input_file_id\":\"file-1\"}", APIERR_MISSING, "endpoint", "'endpoint'"},
        {"{\"input_file_id\":\"file-1\",\"endpoint\":\"/v1/embeddings\"}", APIERR_MISSING,
         "completion_window", "'completion_window'"},
        {"{\"input_file_id\":\"../x\"}", APIERR_VALUE, "input_file_id", "'../x'"},
        {"{\"input_file_id\":\"\"}", APIERR_VALUE, "input_file_id", "''"},
        {"{\"input_file_id\":\"a\\u0000b\"}", APIERR_VALUE, "input_file_id", "'a"},
        {"{\"input_file_id\":\"\\ud800\"}", APIERR_VALUE, "input_file_id", "Unicode"},
        {"{\"input_file_id\":"
         "\"1234567890123456789012345678901234567890123456789012345678901234\"}",
         APIERR_VALUE, "input_file_id", "1234"},
        {"{\"input_file_id\":\"f\",\"endpoint\":\"/v1/chat\"}", APIERR_VALUE, "endpoint",
         "Invalid value: '/v1/chat'. Supported values are: '/v1/responses'"},
        {"{\"input_file_id\":\"f\",\"endpoint\":\"/v1/embeddings/\"}", APIERR_VALUE,
         "endpoint", "and '/v1/videos'."},
        {"{\"input_file_id\":\"f\",\"endpoint\":\"http://evil/v1/embeddings\"}",
         APIERR_VALUE, "endpoint", "Supported values"},
        {"{" GOOD ",\"output_expires_after\":{}}", APIERR_MISSING,
         "output_expires_after.anchor", "anchor"},
        {"{" GOOD ",\"output_expires_after\":{\"anchor\":\"created_at\"}}",
         APIERR_MISSING, "output_expires_after.seconds", "seconds"},
        {"{" GOOD ",\"output_expires_after\":{\"anchor\":\"now\",\"seconds\":3600}}",
         APIERR_VALUE, "output_expires_after.anchor", "'created_at'"},
    };

    check_refusals(rows, COUNTOF(rows));
}

/* Every wrong type for every member; the message names both types. */
TEST(wrong_types_are_refused_for_each_member)
{
    static const struct {
        const char *json, *name;
    } types[] = {{"null", "null"},        {"true", "a boolean"}, {"false", "a boolean"},
                 {"7", "an integer"},     {"-7", "an integer"},  {"1.5", "a decimal"},
                 {"1e3", "a decimal"},    {"[]", "an array"},    {"{}", "an object"},
                 {"\"text\"", "a string"}};
    static const struct {
        const char *before, *param, *wants, *after;
        bool null_is_fine;
    } members[] = {
        {"{\"input_file_id\":", "input_file_id", "a string", "}", false},
        {"{\"input_file_id\":\"f\",\"endpoint\":", "endpoint", "a string", "}", false},
        {"{\"input_file_id\":\"f\",\"endpoint\":\"/v1/embeddings\",\"completion_window\":",
         "completion_window", "a string", "}", false},
        {"{" GOOD ",\"metadata\":", "metadata", "an object", "}", true},
        {"{" GOOD ",\"metadata\":{\"tags\":", "metadata.tags", "a string", "}}", false},
        {"{" GOOD ",\"output_expires_after\":", "output_expires_after", "an object", "}",
         true},
        {"{" GOOD ",\"output_expires_after\":{\"seconds\":3600,\"anchor\":",
         "output_expires_after.anchor", "a string", "}}", false},
        {"{" GOOD ",\"output_expires_after\":{\"anchor\":\"created_at\",\"seconds\":",
         "output_expires_after.seconds", "an integer", "}}", false},
    };

    for (size_t m = 0; m < COUNTOF(members); m++) {
        for (size_t t = 0; t < COUNTOF(types); t++) {
            char text[512], says[128];
            struct batch_body b;
            struct apierr e;

            if (strcmp(types[t].name, members[m].wants) == 0 ||
                (members[m].null_is_fine && strcmp(types[t].json, "null") == 0))
                continue;
            snprintf(text, sizeof text, "%s%s%s", members[m].before, types[t].json,
                     members[m].after);
            snprintf(says, sizeof says,
                     "Invalid type for '%s': expected %s, but got %s instead.",
                     members[m].param, members[m].wants, types[t].name);
            t_row(text);
            EQ_RC(read(text, &b, &e), RC_INVALID);
            EQ_INT(e.kind, APIERR_TYPE);
            EQ_Z(e.param, members[m].param);
            EQ_Z(e.message, says);
        }
    }
}

TEST(windows_are_whole_numbers_with_a_unit_within_the_rules)
{
    static const struct {
        const char *window;
        int64_t seconds; /* 0: refused */
    } rows[] = {
        {"24h", 86400},
        {"1s", 1},
        {"90m", 5400},
        {"7d", 604800},
        {"30d", 2592000},
        {"720h", 2592000},
        {"007d", 604800},
        {"31d", 0},
        {"2592001s", 0},
        {"0s", 0},
        {"0h", 0},
        {"24", 0},
        {"", 0},
        {"h", 0},
        {"24 h", 0},
        {" 24h", 0},
        {"24h ", 0},
        {"24H", 0},
        {"1.5h", 0},
        {"-1h", 0},
        {"+1h", 0},
        {"1w", 0},
        {"5000ms", 0},
        {"1h30m", 0},
        {"24h\\u0000", 0},
        {"99999999999999999999d", 0},
        {"18446744073709551615d", 0},
        {"0000000000000024h", 0} /* would not fit its field */,
        {"twenty", 0},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        char text[256];
        struct batch_body b;
        struct apierr e;
        enum rc rc;

        t_row(rows[i].window);
        snprintf(text, sizeof text,
                 "{\"input_file_id\":\"f\",\"endpoint\":\"/v1/responses\","
                 "\"completion_window\":\"%s\"}",
                 rows[i].window);
        rc = read(text, &b, &e);
        EQ_RC(rc, rows[i].seconds ? RC_OK : RC_INVALID);
        if (rc == RC_OK) {
            EQ_INT(b.window_seconds, rows[i].seconds);
            EQ_Z(b.window, rows[i].window);
        } else {
            EQ_Z(e.param, "completion_window");
            OK(strstr(e.message, "completion_window"));
            OK(strstr(e.message, "from 1s to 30d"));
        }
    }
}

TEST(windows_follow_the_servers_own_limits)
{
    static const struct batch_rules narrow = {3600, 36 * 3600, NULL};
    struct batch_body b;
    struct apierr e;
    const char *day = "{" GOOD "}";
    const char *short_one = "{\"input_file_id\":\"f\",\"endpoint\":\"/v1/responses\","
                            "\"completion_window\":\"59m\"}";

    EQ_RC(batch_body_read(str_of(day), &narrow, &b, &e), RC_OK);
    EQ_RC(batch_body_read(str_of(short_one), &narrow, &b, &e), RC_INVALID);
    OK(strstr(e.message, "from 1h to 36h"));
}

TEST(expiry_of_results_is_an_hour_to_thirty_days)
{
    static const struct {
        const char *seconds;
        enum apierr_kind kind; /* APIERR_COUNT: taken */
    } rows[] = {
        {"3600", APIERR_COUNT},
        {"2592000", APIERR_COUNT},
        {"3599", APIERR_TOO_SMALL},
        {"0", APIERR_TOO_SMALL},
        {"-1", APIERR_TOO_SMALL},
        {"-0", APIERR_TOO_SMALL},
        {"2592001", APIERR_TOO_GREAT},
        {"99999999999999999999999999", APIERR_TOO_GREAT},
        {"-99999999999999999999999999", APIERR_TOO_SMALL},
        {"3600.0", APIERR_TYPE},
        {"4e3", APIERR_TYPE},
        {"\"3600\"", APIERR_TYPE},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        char text[512];
        struct batch_body b;
        struct apierr e;

        t_row(rows[i].seconds);
        snprintf(text, sizeof text,
                 "{" GOOD ",\"output_expires_after\":{\"anchor\":\"created_at\","
                 "\"seconds\":%s}}",
                 rows[i].seconds);
        EQ_RC(read(text, &b, &e), rows[i].kind == APIERR_COUNT ? RC_OK : RC_INVALID);
        if (rows[i].kind != APIERR_COUNT) {
            EQ_INT(e.kind, rows[i].kind);
            EQ_Z(e.param, "output_expires_after.seconds");
        }
    }
}

/* --- Metadata ------------------------------------------------------------------------
 */

TEST(metadata_is_kept_byte_for_byte)
{
    static const char *const rows[] = {
        "{}",
        "{ }",
        "{\"a\":\"b\"}",
        "{ \"a\" :\t\"b\" ,\n\"c\": \"\" }",
        "{\"\":\"empty key\"}",
        "{\"k\":\"\\u0041\\/\\ud83c\\udf89 \xf0\x9f\x8e\x89\"}",
        "{\"z\":\"1\",\"a\":\"2\"}",
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        char text[512];
        struct batch_body b;
        struct apierr e;

        t_row(rows[i]);
        snprintf(text, sizeof text, "{" GOOD ",\"metadata\":%s}", rows[i]);
        EQ_RC(read(text, &b, &e), RC_OK);
        EQ_STR(b.metadata, str_of(rows[i]));
    }
    {
        struct batch_body b;
        struct apierr e;

        EQ_RC(read("{" GOOD ",\"metadata\":null}", &b, &e), RC_OK);
        OK(!b.metadata.p);
    }
}

/* One pair whose key and value repeat a character n times. */
static void pair(struct buf *b, const char *key_char, unsigned key_n,
                 const char *value_char, unsigned value_n)
{
    buf_init(b, 1 << 20);
    (void)buf_z(b, "{" GOOD ",\"metadata\":{\"");
    for (unsigned i = 0; i < key_n; i++)
        (void)buf_z(b, key_char);
    (void)buf_z(b, "\":\"");
    for (unsigned i = 0; i < value_n; i++)
        (void)buf_z(b, value_char);
    (void)buf_z(b, "\"}}");
}

TEST(metadata_lengths_are_counted_in_characters)
{
    static const char *const chars[] = {"a",       "\xc3\xa9",       "\xf0\x9f\x8e\x89",
                                        "\\u00e9", "\\ud83c\\udf89", "\\n"};
    struct batch_body body;
    struct apierr e;
    struct buf b;

    for (size_t i = 0; i < COUNTOF(chars); i++) {
        t_row(chars[i]);
        pair(&b, chars[i], LIMIT_METADATA_KEY, chars[i], LIMIT_METADATA_VALUE);
        EQ_RC(batch_body_read(buf_peek(&b), &rules, &body, &e), RC_OK);
        buf_done(&b);

        pair(&b, chars[i], LIMIT_METADATA_KEY + 1, "v", 1);
        EQ_RC(batch_body_read(buf_peek(&b), &rules, &body, &e), RC_INVALID);
        EQ_INT(e.kind, APIERR_TOO_LONG);
        EQ_Z(e.param, "metadata");
        OK(strstr(e.message, "maximum length 64, but got a string with length 65"));
        buf_done(&b);

        pair(&b, "k", 1, chars[i], LIMIT_METADATA_VALUE + 1);
        EQ_RC(batch_body_read(buf_peek(&b), &rules, &body, &e), RC_INVALID);
        EQ_INT(e.kind, APIERR_TOO_LONG);
        EQ_Z(e.param, "metadata.k");
        OK(strstr(e.message, "maximum length 512, but got a string with length 513"));
        buf_done(&b);
    }
}

TEST(sixteen_pairs_of_metadata_are_the_most)
{
    for (unsigned n = 15; n <= 18; n++) {
        struct batch_body body;
        struct apierr e;
        struct buf b;

        buf_init(&b, 1 << 16);
        (void)buf_z(&b, "{" GOOD ",\"metadata\":{");
        for (unsigned i = 0; i < n; i++)
            (void)buf_fmt(&b, "%s\"k%u\":\"v\"", i ? "," : "", i);
        (void)buf_z(&b, "}}");
        EQ_RC(batch_body_read(buf_peek(&b), &rules, &body, &e),
              n <= LIMIT_METADATA_PAIRS ? RC_OK : RC_INVALID);
        if (n > LIMIT_METADATA_PAIRS) {
            EQ_INT(e.kind, APIERR_TOO_MANY);
            EQ_Z(e.param, "metadata");
        }
        buf_done(&b);
    }
}

TEST(padding_in_metadata_is_bounded)
{
    static const struct {
        unsigned blanks;
        enum rc want;
    } rows[] = {{100 << 10, RC_OK}, {200 << 10, RC_INVALID}};

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct batch_body body;
        struct apierr e;
        struct buf b;

        buf_init(&b, 1 << 20);
        (void)buf_z(&b, "{" GOOD ",\"metadata\":{");
        for (unsigned k = 0; k < rows[i].blanks; k++)
            (void)buf_char(&b, ' ');
        (void)buf_z(&b, "}}");
        EQ_RC(batch_body_read(buf_peek(&b), &rules, &body, &e), rows[i].want);
        buf_done(&b);
    }
}

TEST(metadata_that_utf8_cannot_hold_is_refused)
{
    static const struct refusal rows[] = {
        {"{" GOOD ",\"metadata\":{\"k\":\"\\ud800\"}}", APIERR_VALUE, "metadata.k",
         "Unicode"},
        {"{" GOOD ",\"metadata\":{\"\\udc00\":\"v\"}}", APIERR_VALUE, "metadata",
         "Unicode"},
    };

    check_refusals(rows, COUNTOF(rows));
}

/* --- What the real API does not have -------------------------------------------------
 */

TEST(extensions_are_read_and_absent_unless_given)
{
    struct batch_body b;
    struct apierr e;

    EQ_RC(read("{" GOOD "}", &b, &e), RC_OK);
    OK(id_none(&b.continue_from) && !b.sample && !b.priority && !b.paused);
    OK(!b.idle && !b.has_tier);
    EQ_Z(b.callback_url, "");
    EQ_INT(b.requests.type, JSON_NONE);

    EQ_RC(read("{" GOOD ",\"continue_from\":\"batch_7\",\"sample\":12,\"priority\":-10,"
               "\"tier\":\"idle\","
               "\"paused\":true,\"callback_url\":\"https:\\/\\/a.sub.test:8443/x?y\"}",
               &b, &e),
          RC_OK);
    EQ_Z(b.continue_from.z, "batch_7");
    EQ_INT(b.sample, 12);
    EQ_INT(b.priority, -10);
    OK(b.idle && b.has_tier);
    OK(b.paused);
    EQ_Z(b.callback_url, "https://a.sub.test:8443/x?y");
}

TEST(an_extension_that_is_null_was_not_given)
{
    struct batch_body b;
    struct apierr e;

    EQ_RC(read("{" GOOD ",\"requests\":null,\"continue_from\":null,\"sample\":null,"
               "\"priority\":null,\"tier\":null,\"paused\":null,\"callback_url\":null}",
               &b, &e),
          RC_OK);
    OK(id_none(&b.continue_from) && !b.sample && !b.priority && !b.paused);
    OK(!b.idle && !b.has_tier);
    EQ_Z(b.callback_url, "");
}

TEST(bad_extensions_are_refused_by_name)
{
    static const struct refusal rows[] = {
        {"{" GOOD ",\"continue_from\":7}", APIERR_TYPE, "continue_from", "a string"},
        {"{" GOOD ",\"continue_from\":\"\"}", APIERR_VALUE, "continue_from", "the id of"},
        {"{" GOOD ",\"continue_from\":\"../b\"}", APIERR_VALUE, "continue_from",
         "'../b'"},
        {"{" GOOD ",\"sample\":\"5\"}", APIERR_TYPE, "sample", "got a string"},
        {"{" GOOD ",\"sample\":1.0}", APIERR_TYPE, "sample", "got a decimal"},
        {"{" GOOD ",\"sample\":true}", APIERR_TYPE, "sample", "got a boolean"},
        {"{" GOOD ",\"sample\":0}", APIERR_TOO_SMALL, "sample", ">= 1, but got 0"},
        {"{" GOOD ",\"sample\":-1}", APIERR_TOO_SMALL, "sample", ">= 1, but got -1"},
        {"{" GOOD ",\"sample\":99999999999999999999}", APIERR_TOO_GREAT, "sample",
         "but got 99999999999999999999"},
        {"{" GOOD ",\"tier\":\"urgent\"}", APIERR_VALUE, "tier", "'urgent'"},
        {"{" GOOD ",\"tier\":1}", APIERR_TYPE, "tier", "got an integer"},
        {"{" GOOD ",\"priority\":11}", APIERR_TOO_GREAT, "priority", "<= 10"},
        {"{" GOOD ",\"priority\":-11}", APIERR_TOO_SMALL, "priority", ">= -10"},
        {"{" GOOD ",\"priority\":-99999999999999999999}", APIERR_TOO_SMALL, "priority",
         ">= -10"},
        {"{" GOOD ",\"priority\":{}}", APIERR_TYPE, "priority", "got an object"},
        {"{" GOOD ",\"paused\":1}", APIERR_TYPE, "paused", "expected a boolean"},
        {"{" GOOD ",\"paused\":\"true\"}", APIERR_TYPE, "paused", "got a string"},
        {"{" GOOD ",\"callback_url\":[]}", APIERR_TYPE, "callback_url", "got an array"},
        {"{" GOOD ",\"callback_url\":\"\"}", APIERR_VALUE, "callback_url",
         "does not begin with http"},
        {"{" GOOD ",\"callback_url\":\"https://u:p@hooks.test/\"}", APIERR_VALUE,
         "callback_url", "holds a user name"},
        {"{" GOOD ",\"callback_url\":\"https://hooks.test\\u0000.evil/\"}", APIERR_VALUE,
         "callback_url", "character"},
        {"{" GOOD ",\"callback_url\":\"https://evil.test/\"}", APIERR_VALUE,
         "callback_url", "'evil.test' on port 443"},
        {"{" GOOD ",\"callback_url\":\"http://a.sub.test/\"}", APIERR_VALUE,
         "callback_url", "callback_hosts"},
        {"{" GOOD ",\"requests\":[{}]}", APIERR_VALUE, "requests", "not both"},
        {"{\"requests\":[]}", APIERR_EMPTY_ARRAY, "requests", "minimum length 1"},
        {"{\"requests\":{}}", APIERR_TYPE, "requests", "an array of objects"},
        {"{\"requests\":[{}]}", APIERR_MISSING, "endpoint", "'endpoint'"},
    };

    check_refusals(rows, COUNTOF(rows));
}

TEST(no_host_may_be_called_unless_the_operator_says_so)
{
    static const struct batch_rules closed = {1, 86400, NULL};
    struct batch_body b;
    struct apierr e;

    EQ_RC(batch_body_read(STR("{" GOOD ",\"callback_url\":\"https://hooks.test/\"}"),
                          &closed, &b, &e),
          RC_INVALID);
    EQ_Z(e.param, "callback_url");
}

TEST(requests_may_stand_in_the_body)
{
    struct batch_body b;
    struct apierr e;

    EQ_RC(read("{\"requests\":[{\"custom_id\":\"a\"}, 7],\"input_file_id\":null,"
               "\"endpoint\":\"/v1/embeddings\",\"completion_window\":\"24h\"}",
               &b, &e),
          RC_OK);
    OK(id_none(&b.input_file));
    EQ_INT(b.requests.count, 2);
    EQ_STR(b.requests.raw, STR("[{\"custom_id\":\"a\"}, 7]"));
}

TEST(a_dry_run_asks_for_input_and_endpoint_only)
{
    struct batch_body b;
    struct apierr e;

    EQ_RC(batch_body_read_input(STR("{\"input_file_id\":\"file-1\",\"endpoint\":"
                                    "\"/v1/embeddings\",\"completion_window\":7}"),
                                &b, &e),
          RC_OK);
    EQ_Z(b.input_file.z, "file-1");
    EQ_INT(b.endpoint, ENDPOINT_EMBEDDINGS);
    EQ_RC(batch_body_read_input(STR("{\"input_file_id\":\"file-1\"}"), &b, &e),
          RC_INVALID);
    EQ_Z(e.param, "endpoint");
}

TEST(a_retry_may_say_nothing_or_a_window_and_metadata)
{
    static const char *const nothing[] = {
        "", " \r\n", "{}", "{\"completion_window\":null,\"metadata\":null}", "{\"x\":1}"};
    struct batch_body b;
    struct apierr e;

    for (size_t i = 0; i < COUNTOF(nothing); i++) {
        t_row(nothing[i]);
        EQ_RC(batch_body_read_retry(str_of(nothing[i]), &rules, &b, &e), RC_OK);
        EQ_Z(b.window, "");
        OK(!b.metadata.p);
    }
    EQ_RC(batch_body_read_retry(
              STR("{\"completion_window\":\"2h\",\"metadata\":{\"a\":\"b\"}}"), &rules,
              &b, &e),
          RC_OK);
    EQ_Z(b.window, "2h");
    EQ_INT(b.window_seconds, 7200);
    EQ_STR(b.metadata, STR("{\"a\":\"b\"}"));
    EQ_RC(batch_body_read_retry(STR("{\"completion_window\":5}"), &rules, &b, &e),
          RC_INVALID);
    EQ_Z(e.param, "completion_window");
    EQ_RC(batch_body_read_retry(STR("[]"), &rules, &b, &e), RC_INVALID);
}

/* --- Hostile bodies ------------------------------------------------------------------
 */

TEST(deep_json_is_refused_without_deep_stacks)
{
    static const char *const opens[] = {"[", "{\"a\":", "[[{\"x\":["};

    for (size_t i = 0; i < COUNTOF(opens); i++) {
        struct batch_body body;
        struct apierr e;
        struct buf b;

        t_row(opens[i]);
        buf_init(&b, LIMIT_API_BODY);
        (void)buf_z(&b, "{" GOOD ",\"x\":");
        while (b.n + 32 < LIMIT_API_BODY)
            (void)buf_z(&b, opens[i]);
        EQ_RC(buf_failed(&b), RC_OK);
        EQ_RC(batch_body_read(buf_peek(&b), &rules, &body, &e), RC_INVALID);
        EQ_INT(e.kind, APIERR_BAD_REQUEST);
        buf_done(&b);
    }
}

TEST(bodies_cut_off_anywhere_are_refused)
{
    static const char whole[] =
        "{" GOOD
        ",\"metadata\":{\"k\":\"v\\u00e9\"},\"output_expires_after\":{\"anchor\":"
        "\"created_at\",\"seconds\":3600}}";

    for (size_t n = 0; n < sizeof whole; n++) {
        char *exact = mem_dup(whole, n); /* so that a sanitizer sees a read behind it */
        struct batch_body body;
        struct apierr e;

        EQ_RC(batch_body_read((struct str){exact, n}, &rules, &body, &e),
              n == sizeof whole - 1 ? RC_OK : RC_INVALID);
        mem_free(exact);
    }
}

TEST(changed_bytes_never_break_the_reader)
{
    static const char whole[] =
        "{" GOOD
        ",\"metadata\":{\"k\":\"v\\u00e9\"},\"output_expires_after\":{\"anchor\":"
        "\"created_at\",\"seconds\":3600}}";
    char text[sizeof whole];
    uint32_t x = 7;

    for (int round = 0; round < 100000; round++) {
        struct batch_body body;
        struct apierr e;

        memcpy(text, whole, sizeof text);
        for (int k = 0; k < 1 + round % 4; k++) {
            x = x * 1664525u + 1013904223u;
            text[(x >> 8) % (sizeof text - 1)] = (char)(x >> 24);
        }
        if (batch_body_read((struct str){text, sizeof text - 1}, &rules, &body, &e) ==
            RC_OK) {
            OK(id_ok(id_str(&body.input_file)));
            OK(body.window_seconds >= 1 && body.window_seconds <= 30 * 86400);
        } else {
            OK(e.message[0] && apierr_status(e.kind) == 400);
        }
    }
}
