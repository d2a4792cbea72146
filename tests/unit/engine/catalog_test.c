/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "engine/catalog.h"
#include "tests/lib/t.h"

#include <pthread.h>
#include <stdio.h>

#define LIST(items) "{\"object\":\"list\",\"data\":[" items "]}"
#define MODEL(name) "{\"id\":\"" name "\",\"object\":\"model\"}"

static char from[] = "gpt-4o-mini", to[] = "my-llama";
static const struct catalog_alias aliases[] = {{from, to}};

static void put(void *ctx, const struct catalog_model *m)
{
    char *text = ctx;
    size_t n = strlen(text);

    (void)snprintf(text + n, 1024 - n, "%s/%s/%lld ", m->name,
                   m->owned_by ? m->owned_by : "-", (long long)m->created);
}

static const char *all(struct catalog *c)
{
    static char text[1024];

    text[0] = '\0';
    catalog_each(c, put, text);
    return text;
}

TEST(the_union_has_each_name_once_in_order_with_what_the_first_upstream_told)
{
    struct catalog *c = catalog_new(3, aliases, 1);

    OK(catalog_learn(
        c, 1,
        STR(LIST("{\"id\":\"b\",\"owned_by\":\"two\",\"created\":7}," MODEL("z")))));
    OK(catalog_learn(c, 0,
                     STR(LIST("{\"id\":\"b\",\"owned_by\":\"one\",\"created\":5}," MODEL(
                         "a") "," MODEL("gpt-4o-mini")))));
    OK(catalog_fix(c, 2, " a , fixed,,a"));
    EQ_Z(all(c), "a/-/0 b/one/5 fixed/-/0 gpt-4o-mini/-/0 z/-/0 ");
    EQ_INT(catalog_count(c, 0), 3);
    EQ_INT(catalog_count(c, 2), 2);
    catalog_free(c);
}

TEST(an_upstream_serves_its_list_and_a_batch_may_name_what_one_serves)
{
    struct catalog *c = catalog_new(2, aliases, 1);

    OK(catalog_learn(c, 0, STR(LIST(MODEL("a")))));
    OK(catalog_learn(c, 1, STR(LIST(MODEL("my-llama") "," MODEL("a")))));
    OK(catalog_serves(c, 0, STR("a")) && catalog_serves(c, 1, STR("a")));
    OK(!catalog_serves(c, 0, STR("my-llama")) && catalog_serves(c, 1, STR("my-llama")));
    OK(!catalog_serves(c, 0, STR("gpt-4o-mini")) &&
       catalog_serves(c, 1, STR("gpt-4o-mini")));
    OK(catalog_serves(c, 0, STR("")) && catalog_serves(c, 1, STR("")));
    OK(catalog_knows(c, STR("a")) && catalog_knows(c, STR("gpt-4o-mini")));
    OK(!catalog_knows(c, STR("A")) && !catalog_knows(c, STR("aa")));
    OK(!catalog_knows(c, STR("a\0b")) && !catalog_knows(c, STR("my-llam")));
    EQ_Z(catalog_alias(c, STR("gpt-4o-mini")), "my-llama");
    OK(!catalog_alias(c, STR("gpt-4o")) && !catalog_alias(c, STR("my-llama")));
    catalog_free(c);
}

TEST(whoever_does_not_tell_is_taken_at_its_word)
{
    struct catalog *c = catalog_new(2, NULL, 0);

    OK(catalog_learn(c, 0, STR(LIST(MODEL("a")))));
    OK(!catalog_asked(c, 1) && catalog_asked(c, 0));
    OK(catalog_knows(c, STR("x")));      /* the other one may have it */
    OK(!catalog_serves(c, 1, STR("x"))); /* but nothing is sent before it was asked */
    OK(!catalog_serves(c, 1, STR("")));
    OK(catalog_unlisted(c, 1, true));
    OK(catalog_asked(c, 1) && catalog_serves(c, 1, STR("x")));
    OK(catalog_learn(c, 1, STR(LIST(MODEL("b")))));
    OK(!catalog_knows(c, STR("x")) && !catalog_serves(c, 1, STR("x")));
    OK(!catalog_unlisted(c, 1, true)); /* a failed call: the last list stays */
    OK(!catalog_serves(c, 1, STR("x")) && catalog_serves(c, 1, STR("b")));
    OK(catalog_unlisted(c, 1, false));
    OK(catalog_serves(c, 1, STR("x")));
    OK(!catalog_unlisted(c, 1, false)); /* nothing new */
    OK(catalog_fix(c, 0, " * ") && catalog_serves(c, 0, STR("anything")));
    catalog_free(c);

    c = catalog_new(0, NULL, 0);
    OK(catalog_knows(c, STR("x")));
    EQ_Z(all(c), "");
    catalog_free(c);
}

TEST(an_empty_list_says_that_nothing_can_go_there_now)
{
    struct catalog *c = catalog_new(1, NULL, 0);

    OK(catalog_learn(c, 0, STR(LIST(""))));
    OK(catalog_knows(c, STR("x")) && !catalog_serves(c, 0, STR("x")));
    OK(!catalog_serves(c, 0, STR("")));
    OK(catalog_learn(c, 0, STR(LIST(MODEL("x")))));
    OK(catalog_serves(c, 0, STR("x")) && !catalog_knows(c, STR("y")));
    catalog_free(c);
}

TEST(lists_of_every_known_server_are_read)
{
    static const struct {
        const char *name, *body, *model, *not_a_model; /* NULL: any will do */
    } rows[] = {
        {"openai",
         "{\"object\":\"list\",\"data\":[{\"id\":\"gpt-4o\",\"object\":\"model\",\"created\":"
         "1715367049,\"owned_by\":\"system\"}]}",
         "gpt-4o", "gpt-4"},
        {"vllm",
         "{\"object\":\"list\",\"data\":[{\"id\":\"meta-llama/Llama-3.1-8B\",\"object\":"
         "\"model\",\"created\":1,\"owned_by\":\"vllm\",\"root\":\"x\",\"parent\":null,"
         "\"max_model_len\":131072,\"permission\":[{\"id\":\"modelperm-1\"}]}]}",
         "meta-llama/Llama-3.1-8B", "modelperm-1"},
        {"ollama takes names without their tag",
         LIST(MODEL("llama3.2:latest") "," MODEL("qwen3:8b")), "llama3.2", "qwen3"},
        {"gemini takes names without their kind", LIST(MODEL("models/gemini-2.0-flash")),
         "gemini-2.0-flash", "gemini"},
        {"together sends the array bare", "[" MODEL("a/b") "]", "a/b", "a"},
        {"llama.cpp with one model takes any name",
         "{\"models\":[{\"name\":\"m.gguf\"}],\"object\":\"list\",\"data\":[{\"id\":"
         "\"m.gguf\",\"object\":\"model\",\"created\":1,\"owned_by\":\"llamacpp\",\"meta\":{}}]}",
         "gpt-3.5-turbo", NULL},
        {"llama.cpp with several does not",
         LIST("{\"id\":\"a\",\"owned_by\":\"llamacpp\"},{\"id\":\"b\",\"owned_by\":"
              "\"llamacpp\"}"),
         "a", "c"},
        {"escapes", LIST(MODEL("\\u0061\\/b")), "a/b", "\\u0061"},
        {"what is no model is passed over",
         LIST("1,{},{\"id\":7},{\"id\":\"\"},{\"id\":\"a\\u0000\"},[]," MODEL("a")), "a",
         "7"},
        {"ollama without models", "{\"object\":\"list\",\"data\":null}", "x", NULL},
        {"no list", "{\"ok\":true}", "x", NULL},
        {"a list of something else", LIST("1,2"), "x", NULL},
        {"no JSON", "<html>", "x", NULL},
        {"nothing", "", "x", NULL},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct catalog *c = catalog_new(1, NULL, 0);

        t_row(rows[i].name);
        OK(catalog_learn(c, 0, str_of(rows[i].body)));
        OK(catalog_serves(c, 0, str_of(rows[i].model)));
        OK(catalog_knows(c, str_of(rows[i].model)));
        if (rows[i].not_a_model) {
            OK(!catalog_serves(c, 0, str_of(rows[i].not_a_model)));
            OK(!catalog_knows(c, str_of(rows[i].not_a_model)));
        }
        OK(!catalog_learn(c, 0, str_of(rows[i].body))); /* the same again is no news */
        catalog_free(c);
    }
}

TEST(text_that_is_no_json_leaves_a_list_as_it_is)
{
    struct catalog *c = catalog_new(1, NULL, 0);

    OK(catalog_learn(c, 0, STR(LIST(MODEL("a")))));
    OK(!catalog_learn(c, 0, STR("<html>we are away</html>")));
    OK(!catalog_knows(c, STR("b")));
    OK(catalog_learn(c, 0, STR("{}")));
    OK(catalog_knows(c, STR("b")));
    catalog_free(c);
}

TEST(lists_are_bounded)
{
    struct catalog *c = catalog_new(1, NULL, 0);
    char name[LIMIT_MODEL + 2];
    struct buf b;

    memset(name, 'n', sizeof name);
    for (unsigned n = LIMIT_MODELS; n <= LIMIT_MODELS + 1; n++) {
        buf_init(&b, 8 << 20);
        (void)buf_z(&b, "{\"data\":[");
        for (unsigned i = 0; i < n; i++)
            (void)buf_fmt(&b, "%s{\"id\":\"m%u\"}", i ? "," : "", i);
        (void)buf_z(&b, "]}");
        OK(catalog_learn(c, 0, buf_peek(&b)));
        OK(catalog_serves(c, 0, STR("m17")));
        EQ_INT(catalog_serves(c, 0, STR("other")), n > LIMIT_MODELS);
        buf_done(&b);
    }
    for (size_t n = LIMIT_MODEL; n <= LIMIT_MODEL + 1; n++) {
        buf_init(&b, 4096);
        (void)buf_fmt(&b, "{\"data\":[" MODEL("a") ",{\"id\":\"%.*s\"}]}", (int)n, name);
        OK(catalog_learn(c, 0, buf_peek(&b)));
        EQ_INT(catalog_serves(c, 0, (struct str){name, n}), n == LIMIT_MODEL);
        buf_done(&b);
    }
    catalog_free(c);
}

static void *ask_on(void *ctx)
{
    struct catalog *c = ctx;

    for (int i = 0; i < 2000; i++) {
        /* One of the two lists, never half of one. */
        OK(catalog_knows(c, STR("a")));
        OK(catalog_serves(c, 0, STR("a")) && catalog_count(c, 0) == 2);
    }
    return NULL;
}

TEST(readers_see_whole_lists_while_they_change)
{
    struct catalog *c = catalog_new(1, NULL, 0);
    pthread_t readers[2];

    OK(catalog_learn(c, 0, STR(LIST(MODEL("a") "," MODEL("b")))));
    for (int i = 0; i < 2; i++)
        EQ_INT(pthread_create(&readers[i], NULL, ask_on, c), 0);
    for (int i = 0; i < 2000; i++)
        OK(catalog_learn(c, 0,
                         i % 2 ? STR(LIST(MODEL("a") "," MODEL("b")))
                               : STR(LIST(MODEL("c") "," MODEL("a")))));
    for (int i = 0; i < 2; i++)
        pthread_join(readers[i], NULL);
    catalog_free(c);
}
