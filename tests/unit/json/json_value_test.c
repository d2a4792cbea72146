/* SPDX-License-Identifier: Apache-2.0 */
/* json_value_test: depth, keys, and what is handed back, walked, unescaped and written.
 */
#include "tests/lib/json_edge.h"

#include <pthread.h>

/* --- Depth -------------------------------------------------------------------------- */

static void nest(struct buf *b, unsigned n, const char *open, const char *close)
{
    buf_reset(b);
    for (unsigned i = 0; i < n; i++)
        (void)buf_z(b, open);
    (void)buf_z(b, "1");
    for (unsigned i = 0; i < n; i++)
        (void)buf_z(b, close);
}

TEST(depth_is_allowed_up_to_the_limit_and_not_one_more)
{
    static const unsigned limits[] = {1, 2, 63, 64, 65, 128, 1000, 1024};
    struct json_limits l = {0};
    struct json_err e;
    struct buf b;

    buf_init(&b, AREA);
    for (size_t i = 0; i < COUNTOF(limits); i++) {
        for (int object = 0; object < 2; object++) {
            const char *open = object ? "{\"a\":" : "[", *close = object ? "}" : "]";

            l.depth = limits[i];
            nest(&b, limits[i], open, close);
            EQ_RC(json_read(buf_peek(&b), &l, NULL, 0, NULL, NULL, &e), RC_OK);
            nest(&b, limits[i] + 1, open, close);
            EQ_RC(json_read(buf_peek(&b), &l, NULL, 0, NULL, NULL, &e), RC_INVALID);
            EQ_INT(e.offset, limits[i] * strlen(open));
            OK(strstr(e.reason, "deep"));
        }
    }
    nest(&b, LIMIT_JSON_DEPTH, "[", "]");
    EQ_RC(json_read(buf_peek(&b), NULL, NULL, 0, NULL, NULL, &e), RC_OK);
    nest(&b, LIMIT_JSON_DEPTH + 1, "[", "]");
    EQ_RC(json_read(buf_peek(&b), NULL, NULL, 0, NULL, NULL, &e), RC_INVALID);
    nest(&b, 3, "[[{\"a\":", "}]]");
    agree_to(buf_peek(&b), 9);
    agree_to(buf_peek(&b), 8);
    buf_done(&b);
}

static void *read_bombs(void *arg)
{
    struct json_limits l = {.depth = 1024, .unique_keys = true};
    struct buf b;

    (void)arg;
    buf_init(&b, (size_t)32 << 20);
    nest(&b, 1024, "{\"a\":", "}");
    EQ_RC(json_read(buf_peek(&b), &l, NULL, 0, NULL, NULL, NULL), RC_OK);
    buf_reset(&b);
    for (int i = 0; i < 5000000; i++)
        (void)buf_char(&b, '[');
    EQ_RC(json_read(buf_peek(&b), &l, NULL, 0, NULL, NULL, NULL), RC_INVALID);
    nest(&b, 1000000, "[", "]");
    (void)json_iter(&(struct json_val){JSON_ARRAY, 1, buf_peek(&b)});
    buf_done(&b);
    return NULL;
}

TEST(depth_costs_no_stack)
{
    pthread_attr_t attr;
    pthread_t thread;

    pthread_attr_init(&attr);
    EQ_INT(pthread_attr_setstacksize(&attr, (size_t)96 << 10), 0);
    EQ_INT(pthread_create(&thread, &attr, read_bombs, NULL), 0);
    EQ_INT(pthread_join(thread, NULL), 0);
}

/* --- Keys --------------------------------------------------------------------------- */

static enum rc read_unique(struct str text, struct json_err *e)
{
    struct json_limits l = {.unique_keys = true};

    return json_read(at_the_edge(text), &l, NULL, 0, NULL, NULL, e);
}

TEST(a_key_that_is_there_twice_is_told_when_asked_for)
{
    static const struct {
        const char *text;
        const char *key; /* NULL: fine */
        size_t offset;
    } rows[] = {
        {"{\"a\":1,\"a\":2}", "\"a\"", 7},
        {"{\"a\":1,\"\\u0061\":2}", "\"\\u0061\"", 7},
        {"{\"\\u0061\":1,\"a\":2}", "\"a\"", 12},
        {"{\"\\n\":1,\"\\u000a\":2}", "\"\\u000a\"", 8},
        {"{\"/\":1,\"\\/\":2}", "\"\\/\"", 7},
        {"{\"\xc3\xa9\":1,\"\\u00e9\":2}", "\"\\u00e9\"", 8},
        {"{\"\xf0\x9f\x98\x80\":1,\"\\ud83d\\ude00\":2}", "\"\\ud83d\\ude00\"", 10},
        {"{\"\\uD83D\\uDE00\":1,\"\\ud83d\\ude00\":2}", "\"\\ud83d\\ude00\"", 18},
        {"{\"\\ud800\":1,\"\\uD800\":2}", "\"\\uD800\"", 12},
        {"{\"\":1,\"\":2}", "\"\"", 6},
        {"{\"\\u0000\":1,\"\\u0000\":2}", "\"\\u0000\"", 12},
        {"{\"x\":{\"a\":1,\"a\":2}}", "\"a\"", 12},
        {"[[{\"a\":{}},{\"b\":1,\"b\":1}]]", "\"b\"", 18},
        {"{\"a\":{\"a\":{\"a\":1}},\"b\":1,\"a\":2}", "\"a\"", 25},
        {"{\"a\":[{\"a\":1},{\"a\":1}]}", NULL, 0},
        {"{\"a\":{\"b\":1},\"b\":{\"a\":1}}", NULL, 0},
        {"{\"a\":1,\"A\":2,\"a \":3,\" a\":4}", NULL, 0},
        {"{\"\\u0000\":1,\"\":2,\"\\u0000\\u0000\":3}", NULL, 0},
        {"{\"\\ud800\":1,\"\\ud801\":2,\"\\udc00\":3}", NULL, 0},
        {"{\"12345678\":1,\"123456789\":2,\"1234567\":3,\"12345678a\":4}", NULL, 0},
        {"{\"e\xcc\x81\":1,\"\xc3\xa9\":2}", NULL,
         0}, /* not the same without normalising */
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct json_err e = {0};

        t_row(rows[i].text);
        OK(good(str_of(rows[i].text)));
        EQ_RC(read_unique(str_of(rows[i].text), &e), rows[i].key ? RC_INVALID : RC_OK);
        if (rows[i].key) {
            EQ_INT(e.offset, rows[i].offset);
            EQ_STR(e.key, str_of(rows[i].key));
            OK(strstr(e.reason, "twice"));
        }
        agree(str_of(rows[i].text));
    }
}

/* n keys; key j once more at the end, when j < n. */
static void many_keys(struct buf *b, unsigned n, unsigned j, const char *fmt)
{
    buf_reset(b);
    (void)buf_char(b, '{');
    for (unsigned i = 0; i <= n; i++) {
        if (i == n && j >= n)
            break;
        (void)buf_z(b, i ? ",\"" : "\"");
        (void)buf_fmt(b, "%s%u", fmt, i < n ? i : j);
        (void)buf_z(b, "\":0");
    }
    (void)buf_char(b, '}');
}

TEST(any_key_of_any_number_of_keys_may_be_the_one)
{
    static const char *const heads[] = {"", "a longer key with the same start ", "\\n"};
    struct buf b;

    buf_init(&b, AREA);
    for (size_t h = 0; h < COUNTOF(heads); h++) {
        for (unsigned n = 1; n < 80; n += n < 20 ? 1 : 13) {
            for (unsigned j = 0; j <= n; j++) {
                many_keys(&b, n, j, heads[h]);
                EQ_RC(read_unique(buf_peek(&b), NULL), j < n ? RC_INVALID : RC_OK);
            }
        }
    }
    buf_done(&b);
}

TEST(large_objects_in_large_objects_keep_their_keys_apart)
{
    struct buf b;

    buf_init(&b, AREA);
    for (int fault = 0; fault < 3; fault++) {
        buf_reset(&b);
        for (int level = 0; level < 30; level++) {
            (void)buf_char(&b, '{');
            for (int i = 0; i < 40; i++)
                (void)buf_fmt(&b, "\"key%d\":{\"key1\":[{\"key%d\":1}]},", i, i);
            (void)buf_z(&b, "\"in\":");
        }
        (void)buf_z(&b, fault == 1 ? "{\"x\":1,\"x\":2}" : "{}");
        for (int level = 0; level < 30; level++) {
            for (int i = 40; i < 60; i++)
                (void)buf_fmt(&b, ",\"key%d\":0", i);
            (void)buf_z(&b, fault == 2 && level == 29 ? ",\"key7\":0}" : "}");
        }
        EQ_RC(read_unique(buf_peek(&b), NULL), fault ? RC_INVALID : RC_OK);
    }
    buf_done(&b);
}

TEST(large_objects_side_by_side_do_not_know_each_other)
{
    struct buf b;

    buf_init(&b, AREA);
    for (int twice = 0; twice < 2; twice++) {
        buf_reset(&b);
        (void)buf_char(&b, '[');
        for (int object = 0; object < 200; object++) {
            (void)buf_z(&b, object ? ",{" : "{");
            for (int i = 0; i < 40; i++)
                (void)buf_fmt(&b, i ? ",\"k%d\":{}" : "\"k%d\":{}", i);
            (void)buf_z(&b, twice && object == 199 ? ",\"k3\":0}" : "}");
        }
        (void)buf_char(&b, ']');
        EQ_RC(read_unique(buf_peek(&b), NULL), twice ? RC_INVALID : RC_OK);
    }
    buf_done(&b);
}

/* Half a second when every key is looked at a few times; hours, and so the test's time
 * limit, when each is compared with all others. */
TEST(a_million_keys_are_told_apart)
{
    struct buf b;
    struct json_limits l = {.unique_keys = true};
    struct json_val top;

    buf_init(&b, (size_t)64 << 20);
    many_keys(&b, 1000000, 1000000, "k");
    EQ_RC(json_read(buf_peek(&b), &l, NULL, 0, NULL, &top, NULL), RC_OK);
    EQ_INT(top.count, 1000000);
    many_keys(&b, 1000000, 999999, "k");
    EQ_RC(json_read(buf_peek(&b), &l, NULL, 0, NULL, &top, NULL), RC_INVALID);
    buf_done(&b);
}

/* --- Wants -------------------------------------------------------------------------- */

enum { W_ID, W_BODY, W_MODEL, W_OPT, W_DEEP, W_INPUT, W_N };

static const struct json_want some_wants[W_N] = {
    [W_ID] = {"id", -1},       [W_BODY] = {"body", -1},    [W_MODEL] = {"model", W_BODY},
    [W_OPT] = {"opt", W_BODY}, [W_DEEP] = {"deep", W_OPT}, [W_INPUT] = {"input", W_BODY},
};

TEST(members_are_found_with_their_exact_bytes)
{
    static const struct {
        const char *text;
        const char *raw[W_N]; /* NULL: not there */
    } rows[] = {
        {"{}", {NULL}},
        {"[]", {NULL}},
        {"\"id\"", {NULL}},
        {"{\"id\":1}", {[W_ID] = "1"}},
        {"{\"id\" : \"x\\n\" }", {[W_ID] = "\"x\\n\""}},
        {"{\"i\\u0064\":1.10}", {[W_ID] = "1.10"}},
        {"{\"idd\":1,\"i\":2,\"\":3,\"ID\":4}", {NULL}},
        {"{\"model\":1,\"deep\":2}", {NULL}}, /* not at the top */
        {"{\"x\":{\"id\":1},\"y\":[{\"body\":1}]}", {NULL}},
        {"{\"body\":{ \"model\" : \"m\" , \"opt\":{\"deep\": [1, 2]}}}",
         {[W_BODY] = "{ \"model\" : \"m\" , \"opt\":{\"deep\": [1, 2]}}",
          [W_MODEL] = "\"m\"",
          [W_OPT] = "{\"deep\": [1, 2]}",
          [W_DEEP] = "[1, 2]"}},
        {"{\"body\":[{\"model\":1}]}", {[W_BODY] = "[{\"model\":1}]"}},
        {"{\"body\":\"model\"}", {[W_BODY] = "\"model\""}},
        {"{\"body\":{\"x\":{\"model\":1}}}", {[W_BODY] = "{\"x\":{\"model\":1}}"}},
        {"{\"id\":1,\"id\":2}", {[W_ID] = "2"}},
        {"{\"body\":{\"model\":1,\"opt\":{\"deep\":1}},\"body\":{\"input\":3}}",
         {[W_BODY] = "{\"input\":3}", [W_INPUT] = "3"}},
        {"{\"body\":{\"opt\":{\"deep\":1},\"opt\":0}}",
         {[W_BODY] = "{\"opt\":{\"deep\":1},\"opt\":0}", [W_OPT] = "0"}},
        {"{\"body\":{\"model\":1},\"body\":null}", {[W_BODY] = "null"}},
        {"{\"body\":null,\"body\":{\"model\":1}}",
         {[W_BODY] = "{\"model\":1}", [W_MODEL] = "1"}},
        {"{\"id\":{\"id\":{\"body\":1}}}", {[W_ID] = "{\"id\":{\"body\":1}}"}},
        {"{\"id\":\"\xf0\x9f\x98\x80\\ud800\"}",
         {[W_ID] = "\"\xf0\x9f\x98\x80\\ud800\""}},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct json_val vals[W_N], top;

        t_row(rows[i].text);
        EQ_RC(json_read(at_the_edge(str_of(rows[i].text)), NULL, some_wants, W_N, vals,
                        &top, NULL),
              RC_OK);
        EQ_STR(top.raw, str_of(rows[i].text));
        for (int w = 0; w < W_N; w++) {
            EQ_INT(vals[w].type == JSON_NONE, rows[i].raw[w] == NULL);
            if (rows[i].raw[w])
                EQ_STR(vals[w].raw, str_of(rows[i].raw[w]));
            else
                OK(!vals[w].raw.p && !vals[w].raw.n && !vals[w].count);
        }
    }
}

TEST(values_have_their_type_and_count)
{
    static const struct {
        const char *value;
        enum json_type type;
        uint32_t count;
    } rows[] = {
        {"null", JSON_NULL, 0},
        {"true", JSON_TRUE, 0},
        {"false", JSON_FALSE, 0},
        {"-1.5e3", JSON_NUMBER, 0},
        {"\"a,b\"", JSON_STRING, 0},
        {"[]", JSON_ARRAY, 0},
        {"[ ]", JSON_ARRAY, 0},
        {"[1]", JSON_ARRAY, 1},
        {"[\"\"]", JSON_ARRAY, 1},
        {"[[]]", JSON_ARRAY, 1},
        {"[{},{}]", JSON_ARRAY, 2},
        {"[[1,2,3],4]", JSON_ARRAY, 2},
        {"{}", JSON_OBJECT, 0},
        {"{\"a\":[1,2,3]}", JSON_OBJECT, 1},
        {"{\"a\":1,\"b\":2,\"c\":\"1,2,3\"}", JSON_OBJECT, 3},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct json_val v, top;
        char text[128];

        t_row(rows[i].value);
        EQ_RC(str_fmt(text, sizeof text, " {\"id\":%s} ", rows[i].value), RC_OK);
        EQ_RC(json_read(str_of(text), NULL, some_wants, 1, &v, &top, NULL), RC_OK);
        EQ_INT(v.type, rows[i].type);
        EQ_INT(v.count, rows[i].count);
        EQ_INT(top.count, 1);
        EQ_RC(json_read(str_of(rows[i].value), NULL, NULL, 0, NULL, &top, NULL), RC_OK);
        EQ_INT(top.type, rows[i].type);
        EQ_INT(top.count, rows[i].count);
    }
}

TEST(a_failure_leaves_nothing_found)
{
    struct json_val vals[W_N], top;

    memset(vals, 0xff, sizeof vals);
    EQ_RC(json_read(STR("{\"id\":1,\"body\":{\"model\":2}"), NULL, some_wants, W_N, vals,
                    &top, NULL),
          RC_INVALID);
    for (int w = 0; w < W_N; w++)
        OK(vals[w].type == JSON_NONE && !vals[w].raw.p);
}

TEST(thirty_two_members_nested_eight_deep)
{
    struct json_want wants[32];
    struct json_val vals[32];
    char keys[32][8];
    struct buf b;

    buf_init(&b, AREA);
    for (int i = 0; i < 32; i++) { /* a chain of eight, and 24 in its innermost object */
        EQ_RC(str_fmt(keys[i], sizeof keys[i], "k%d", i), RC_OK);
        wants[i] = (struct json_want){keys[i], i < 8 ? i - 1 : 7};
    }
    for (int i = 0; i < 8; i++)
        (void)buf_fmt(&b, "{\"k%d\":", i);
    for (int i = 8; i < 32; i++)
        (void)buf_fmt(&b, "%s\"k%d\":%d", i == 8 ? "{" : ",", i, i);
    (void)buf_z(&b, "}}}}}}}}}");
    EQ_RC(json_read(buf_peek(&b), NULL, wants, 32, vals, NULL, NULL), RC_OK);
    for (int i = 8; i < 32; i++) {
        uint64_t v;

        EQ_RC(json_u64(&vals[i], &v), RC_OK);
        EQ_INT(v, i);
    }
    EQ_INT(vals[7].count, 24);
    buf_done(&b);
}

/* --- Walking ------------------------------------------------------------------------ */

TEST(scalars_and_nothing_have_no_members)
{
    static const struct json_val none[] = {{JSON_NONE, 0, {NULL, 0}},
                                           {JSON_NULL, 0, {"null", 4}},
                                           {JSON_STRING, 0, {"\"{}\"", 4}}};
    struct json_val v;
    struct str key;

    for (size_t i = 0; i < COUNTOF(none); i++) {
        struct json_iter it = json_iter(&none[i]);

        OK(!json_next(&it, &key, &v));
        OK(!json_next(&it, &key, &v));
    }
    OK(!json_next(&(struct json_iter){NULL, NULL}, NULL, &v));
    (void)json_iter(NULL);
}

TEST(walking_what_was_never_checked_stays_inside_and_ends)
{
    static const char alphabet[] = "{}[]\"\\:, a1\n\xc3u";
    char text[64];

    dice_state = 7;
    for (int i = 0; i < 200000; i++) {
        size_t n = dice(sizeof text);
        struct json_val v = {i & 1 ? JSON_OBJECT : JSON_ARRAY, 0, {NULL, 0}}, in;
        struct json_iter it;
        struct str key;
        size_t steps = 0;

        for (size_t k = 0; k < n; k++)
            text[k] = alphabet[dice(sizeof alphabet - 1)];
        v.raw = at_the_edge((struct str){text, n});
        for (it = json_iter(&v); json_next(&it, &key, &in); steps++) {
            OK(in.raw.n > 0 && in.raw.p >= v.raw.p && in.raw.p + in.raw.n <= v.raw.p + n);
            OK(!key.p || (key.p >= v.raw.p && key.p + key.n <= v.raw.p + n));
            if (in.type == JSON_STRING && in.raw.n >= 2) {
                (void)json_str_is(in.raw, STR("x"));
                (void)json_str_len(in.raw);
                (void)json_str_hash(in.raw, 1);
            }
        }
        OK(steps <= n);
    }
}

/* --- Strings ------------------------------------------------------------------------ */

TEST(strings_are_unescaped)
{
    static const struct {
        const char *raw;
        const char *says; /* NULL: a lone surrogate */
        size_t n, chars;
    } rows[] = {
        {"\"\"", "", 0, 0},
        {"\"abc\"", "abc", 3, 3},
        {"\"a\\\"b\\\\c\\/d\"", "a\"b\\c/d", 7, 7},
        {"\"\\b\\f\\n\\r\\t\"", "\b\f\n\r\t", 5, 5},
        {"\"\\u0000\"", "\0", 1, 1},
        {"\"\\u0041\\u00e9\\u20AC\"", "A\xc3\xa9\xe2\x82\xac", 6, 3},
        {"\"\\u007f\\u0080\\u07ff\\u0800\\uffff\"",
         "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf", 11, 5},
        {"\"\\ud83d\\ude00!\"", "\xf0\x9f\x98\x80!", 5, 2},
        {"\"\\uD800\\uDC00\\udbff\\udfff\"", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 8, 2},
        {"\"\xe4\xb8\xad\\n\xf0\x9f\x98\x80\"", "\xe4\xb8\xad\n\xf0\x9f\x98\x80", 8, 3},
        {"\"\\\\u0041\"", "\\u0041", 6, 6},
        {"\"\\ud800\"", NULL, 0, 1},
        {"\"x\\udc00\"", NULL, 0, 2},
        {"\"\\ud800\\u0041\"", NULL, 0, 2},
        {"\"\\ud800\\ud800\\udc00\"", NULL, 0, 2},
        {"\"\\udc00\\ud800\"", NULL, 0, 2},
        {"\"\\ud800\\\\udc00\"", NULL, 0, 7},
        {"\"\\ud800\\n\"", NULL, 0, 2},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct str raw = at_the_edge(str_of(rows[i].raw));
        struct buf b;

        t_row(rows[i].raw);
        OK(good(str_of(rows[i].raw)));
        buf_init(&b, 100);
        (void)buf_z(&b, "<");
        EQ_RC(json_unescape(raw, &b), rows[i].says ? RC_OK : RC_INVALID);
        EQ_INT(json_str_len(raw), rows[i].chars);
        EQ_INT(b.n, 1 + rows[i].n); /* a failure leaves nothing behind */
        if (rows[i].says) {
            struct str says = {rows[i].says, rows[i].n};

            EQ_STR(((struct str){b.p + 1, b.n - 1}), says);
            OK(json_str_is(raw, says));
            OK(!json_str_is(raw, STR("something else")));
        }
        buf_done(&b);
    }
}

TEST(unescaping_keeps_to_the_limit_of_the_buffer)
{
    struct buf b;

    buf_init(&b, 4);
    EQ_RC(json_unescape(STR("\"\\u0041\\u0041\\u0041\\u0041\""), &b), RC_OK);
    EQ_STR(buf_peek(&b), STR("AAAA"));
    buf_reset(&b);
    EQ_RC(json_unescape(STR("\"\\u0041\\u0041\\u0041\\u0041B\""), &b), RC_LIMIT);
    EQ_INT(b.n, 0);
    buf_reset(&b);
    EQ_RC(json_unescape(STR("\"abcde\""), &b), RC_LIMIT);
    buf_done(&b);
}

TEST(strings_that_say_the_same_are_equal_and_hash_alike)
{
    static const char *const groups[][4] = {
        {"\"a\"", "\"\\u0061\"", "\"\\u0061\"", NULL},
        {"\"a/b\"", "\"a\\/b\"", "\"a\\u002fb\"", "\"\\u0061\\u002F\\u0062\""},
        {"\"\xf0\x9f\x98\x80\"", "\"\\ud83d\\ude00\"", "\"\\uD83D\\uDE00\"", NULL},
        {"\"\"", NULL, NULL, NULL},
        {"\"\\u0000\"", NULL, NULL, NULL},
        {"\"\\\\\"", "\"\\u005c\"", NULL, NULL},
        {"\"\\\\u0061\"", NULL, NULL, NULL},
        {"\"\\ud83d\"", "\"\\uD83D\"", NULL, NULL},
        {"\"\\ude00\\ud83d\"", NULL, NULL, NULL},
        {"\"\n\"", NULL, NULL, NULL}, /* not valid, and yet itself */
        {"\"ab\"", "\"a\\u0062\"", NULL, NULL},
    };

    for (size_t g = 0; g < COUNTOF(groups); g++)
        for (size_t h = 0; h < COUNTOF(groups); h++)
            for (size_t i = 0; i < 4 && groups[g][i]; i++)
                for (size_t k = 0; k < 4 && groups[h][k]; k++) {
                    struct str a = str_of(groups[g][i]), b = str_of(groups[h][k]);

                    t_row(groups[g][i]);
                    EQ_INT(json_str_eq(a, b), g == h);
                    EQ_INT(json_str_hash(a, 5) == json_str_hash(b, 5), g == h);
                    OK(json_str_hash(a, 5) != json_str_hash(a, 6));
                }
}

TEST(long_escaped_strings_hash_like_plain_ones)
{
    static const char *const plain_of[] = {"x", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    static const char *const escaped_of[] = {"\\u0078", "\\u20AC", "\\ud83d\\ude00"};
    struct buf plain, escaped;

    dice_state = 5;
    buf_init(&plain, AREA);
    buf_init(&escaped, AREA);
    for (int n = 0; n < 1200; n++) {
        buf_reset(&plain);
        buf_reset(&escaped);
        (void)buf_char(&plain, '"');
        (void)buf_char(&escaped, '"');
        for (int i = 0; i < n; i++) {
            unsigned c = dice(3);

            (void)buf_z(&plain, plain_of[c]);
            (void)buf_z(&escaped, dice(2) ? plain_of[c] : escaped_of[c]);
        }
        (void)buf_char(&plain, '"');
        (void)buf_char(&escaped, '"');
        OK(json_str_eq(buf_peek(&plain), buf_peek(&escaped)));
        OK(json_str_hash(buf_peek(&plain), 9) == json_str_hash(buf_peek(&escaped), 9));
        EQ_INT(json_str_len(buf_peek(&escaped)), n);
    }
    buf_done(&plain);
    buf_done(&escaped);
}

TEST(whole_numbers)
{
    static const struct {
        const char *raw;
        enum rc rc;
        uint64_t v;
    } rows[] = {
        {"0", RC_OK, 0},
        {"42", RC_OK, 42},
        {"18446744073709551615", RC_OK, UINT64_MAX},
        {"18446744073709551616", RC_LIMIT, 0},
        {"-1", RC_INVALID, 0},
        {"-0", RC_INVALID, 0},
        {"1.0", RC_INVALID, 0},
        {"1e2", RC_INVALID, 0},
        {"\"1\"", RC_INVALID, 0},
        {"null", RC_INVALID, 0},
        {"[1]", RC_INVALID, 0},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct json_val v;
        uint64_t u = 0;

        t_row(rows[i].raw);
        EQ_RC(json_read(str_of(rows[i].raw), NULL, NULL, 0, NULL, &v, NULL), RC_OK);
        EQ_RC(json_u64(&v, &u), rows[i].rc);
        OK(u == rows[i].v);
    }
}

/* --- Writing ------------------------------------------------------------------------ */

TEST(one_line_takes_out_line_ends_and_nothing_else)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"{}", "{}"},
        {"{\n}", "{}"},
        {"\r\n{\r\n  \"a\": 1.10,\n\t\"b\": \"\\n\\r\"\n}\n",
         "{  \"a\": 1.10,\t\"b\": \"\\n\\r\"}"},
        {"[\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n1\n]", "[1]"},
        {"[1,\n2,\n0123456789abcdef0123456789\n]", "[1,2,0123456789abcdef0123456789]"},
        {"\n", ""},
        {"", ""},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct buf b;

        t_row(rows[i].text);
        buf_init(&b, 1000);
        EQ_RC(json_one_line(&b, at_the_edge(str_of(rows[i].text))), RC_OK);
        EQ_STR(buf_peek(&b), str_of(rows[i].want));
        buf_done(&b);
    }
}

TEST(a_text_on_one_line_means_the_same)
{
    struct buf text, line;

    dice_state = 11;
    buf_init(&text, AREA);
    buf_init(&line, AREA);
    for (int i = 0; i < 2000; i++) {
        size_t k = 0;

        buf_reset(&text);
        buf_reset(&line);
        random_text(&text, 5);
        EQ_RC(json_one_line(&line, at_the_edge(buf_peek(&text))), RC_OK);
        OK(good(buf_peek(&line)));
        for (size_t n = 0; n < text.n; n++)
            if (text.p[n] != '\n' && text.p[n] != '\r')
                OK(k < line.n && line.p[k++] == text.p[n]);
        EQ_INT(k, line.n);
    }
    buf_done(&text);
    buf_done(&line);
}

TEST(strings_are_written_escaped)
{
    static const struct {
        const char *s;
        size_t n;
        const char *want;
    } rows[] = {
        {"", 0, "\"\""},
        {"abc", 3, "\"abc\""},
        {"a\"b\\c/", 6, "\"a\\\"b\\\\c/\""},
        {"\b\f\n\r\t", 5, "\"\\b\\f\\n\\r\\t\""},
        {"\0\x01\x0b\x1f\x7f", 5, "\"\\u0000\\u0001\\u000b\\u001f\x7f\""},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9,
         "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"a\xff z", 4, "\"a\xef\xbf\xbd z\""},
        {"\xc3", 1, "\"\xef\xbf\xbd\""},
        {"\xe2\x82", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xc3(", 2, "\"\xef\xbf\xbd(\""},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct buf b;

        t_row(rows[i].want);
        buf_init(&b, 100);
        EQ_RC(json_put_str(&b, at_the_edge((struct str){rows[i].s, rows[i].n})), RC_OK);
        EQ_STR(buf_peek(&b), str_of(rows[i].want));
        OK(good(buf_peek(&b)));
        buf_done(&b);
    }
}

TEST(whatever_is_written_as_a_string_is_valid_and_reads_back)
{
    struct buf b, back;
    char s[80];

    dice_state = 3;
    buf_init(&b, 4096);
    buf_init(&back, 4096);
    for (int i = 0; i < 100000; i++) {
        size_t n = dice(sizeof s);
        struct str text = {s, n};

        for (size_t k = 0; k < n; k++)
            s[k] = (char)(i & 1 ? dice(128) : dice(256));
        buf_reset(&b);
        buf_reset(&back);
        EQ_RC(json_put_str(&b, at_the_edge(text)), RC_OK);
        OK(good(buf_peek(&b)));
        EQ_RC(json_unescape(buf_peek(&b), &back), RC_OK);
        if (i & 1)
            EQ_STR(buf_peek(&back), text);
    }
    buf_done(&b);
    buf_done(&back);
}

TEST(the_writer_keeps_the_commas)
{
    struct json_writer w;
    struct buf b;

    buf_init(&b, 1000);
    jw_init(&w, &b);
    jw_open(&w, NULL, '{');
    jw_str(&w, "a\"", STR("x\n"));
    jw_str(&w, "none", (struct str){NULL, 0});
    jw_str(&w, "empty", STR(""));
    jw_z(&w, "z", "text");
    jw_z(&w, "no_z", NULL);
    jw_z(&w, "empty_z", "");
    jw_open(&w, "list", '[');
    jw_i64(&w, NULL, INT64_MIN);
    jw_i64(&w, NULL, 7);
    jw_open(&w, NULL, '{');
    jw_close(&w, '}');
    jw_open(&w, NULL, '[');
    jw_close(&w, ']');
    jw_bool(&w, NULL, true);
    jw_close(&w, ']');
    jw_time(&w, "at", 1700000000);
    jw_time(&w, "never", 0);
    jw_bool(&w, "no", false);
    jw_null(&w, "null");
    jw_raw(&w, "raw", STR("{\"k\": 1.10}"));
    jw_close(&w, '}');
    EQ_RC(buf_failed(&b), RC_OK);
    EQ_STR(
        buf_peek(&b),
        STR("{\"a\\\"\":\"x\\n\",\"none\":null,\"empty\":\"\",\"z\":\"text\",\"no_z\":null,"
            "\"empty_z\":null,\"list\":[-9223372036854775808,7,{},[],true],"
            "\"at\":1700000000,\"never\":null,\"no\":false,\"null\":null,"
            "\"raw\":{\"k\": 1.10}}"));
    OK(good(buf_peek(&b)));
    buf_done(&b);
}

TEST(a_writer_over_the_limit_says_so_in_its_buffer)
{
    struct json_writer w;
    struct buf b;

    buf_init(&b, 10);
    jw_init(&w, &b);
    jw_open(&w, NULL, '{');
    jw_z(&w, "key", "much too long");
    jw_close(&w, '}');
    EQ_RC(buf_failed(&b), RC_LIMIT);
    EQ_RC(json_put_str(&b, STR("x")), RC_LIMIT);
    buf_done(&b);
}

static void too_many_wants(void)
{
    static const struct json_want wants[33] = {{"a", -1}};
    struct json_val vals[33];

    if (json_read(STR("{}"), NULL, wants, 33, vals, NULL, NULL) == RC_OK)
        return;
}

static void parent_behind_child(void)
{
    static const struct json_want wants[2] = {{"a", 1}, {"b", -1}};
    struct json_val vals[2];

    if (json_read(STR("{}"), NULL, wants, 2, vals, NULL, NULL) == RC_OK)
        return;
}

TEST(wrong_wants_are_a_bug_of_the_caller)
{
    PANICS(too_many_wants, "n_wants");
    PANICS(parent_behind_child, "parent");
}
