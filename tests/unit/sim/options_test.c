/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/options.h"
#include "tests/lib/sim_proc.h"

static enum rc parse(const char *const *flags, struct sim_options *o, struct err *e)
{
    static char texts[16][128];
    char *argv[17] = {(char[]){"sim"}};
    int argc = 1;

    for (; flags[argc - 1]; argc++) {
        EQ_RC(str_fmt(texts[argc - 1], sizeof texts[0], "%s", flags[argc - 1]), RC_OK);
        argv[argc] = texts[argc - 1];
    }
    return sim_options_parse(argc, argv, o, e);
}

#define PARSE(o, e, ...) parse((const char *const[]){__VA_ARGS__, NULL}, o, e)

TEST(the_presets_hold_without_flags)
{
    static const char *const none[] = {NULL};
    struct sim_options o;

    EQ_RC(parse(none, &o, NULL), RC_OK);
    EQ_Z(o.listen, "127.0.0.1:0");
    EQ_INT(o.n_models, 1);
    EQ_Z(o.models[0], "sim-model");
    EQ_INT(o.tokens.min, 32);
    EQ_INT(o.tokens.max, 96);
    EQ_INT(o.latency.max, 0);
    EQ_INT(o.retry_after, -1);
    EQ_INT(o.max_body, 64 << 20);
    EQ_INT(o.poison_down, USEC_PER_SEC);
    OK(!o.api_key && !o.poison && !o.log && !o.help && !o.strict_models);
    EQ_INT(o.faults.n, 0);
}

TEST(flags_take_their_value_behind_a_space_or_an_equals_sign)
{
    struct sim_options o;

    EQ_RC(PARSE(&o, NULL, "--seed", "7", "--latency=10ms-2s", "--tokens", "5",
                "--model=a/b", "--model", "c", "--strict-models"),
          RC_OK);
    EQ_INT(o.seed, 7);
    EQ_INT(o.latency.min, 10 * USEC_PER_MS);
    EQ_INT(o.latency.max, 2 * USEC_PER_SEC);
    EQ_INT(o.tokens.min, 5);
    EQ_INT(o.tokens.max, 5);
    EQ_INT(o.n_models, 2);
    EQ_Z(o.models[0], "a/b");
    EQ_Z(o.models[1], "c");
    OK(o.strict_models);
    EQ_RC(PARSE(&o, NULL, "--retry-after", "3", "--fault", "429=0.1", "--fault=500=0.2",
                "--schedule", "down@1s+1s", "--huge-bytes", "3K", "--token-latency", "0"),
          RC_OK);
    EQ_INT(o.retry_after, 3 * USEC_PER_SEC);
    EQ_INT(o.faults.n, 2);
    EQ_INT(o.schedule.n, 1);
    EQ_INT(o.huge_bytes, 3072);
    EQ_RC(PARSE(&o, NULL, "--retry-after", "250ms"), RC_OK);
    EQ_INT(o.retry_after, 250 * USEC_PER_MS);
}

TEST(a_bad_flag_is_named_and_ends_with_status_2)
{
    static const struct {
        const char *flag, *value, *says;
    } rows[] = {
        {"--nonsense", "1", "unknown flag \"--nonsense\""},
        {"extra", NULL, "unknown flag \"extra\""},
        {"-h", NULL, "unknown flag"},
        {"--log=yes", NULL, "--log takes no value"},
        {"--seed", NULL, "--seed needs a value"},
        {"--seed", "x", "--seed: \"x\" is not a whole number"},
        {"--seed", "-1", "--seed"},
        {"--latency", "5", "--latency: \"5\" is not a time"},
        {"--latency", "2s-1s", "--latency: \"2s-1s\" ends before"},
        {"--latency", "1s-", "--latency"},
        {"--tokens", "0", "--tokens: 0 is not from 1"},
        {"--tokens", "5-", "--tokens"},
        {"--tokens", "9-8", "--tokens: \"9-8\" ends before"},
        {"--embedding-dim", "65537", "--embedding-dim"},
        {"--overload-status", "200", "--overload-status"},
        {"--fault", "reset", "--fault: \"\" is not a rate"},
        {"--fault", "bogus=1", "--fault: \"bogus\""},
        {"--schedule", "down", "--schedule"},
        {"--model", "", "--model"},
        {"--model", "a b", "--model"},
        {"--api-key", "", "--api-key: it must not be empty"},
        {"--huge-bytes", "1X", "--huge-bytes"},
        {"--retry-after", "soon", "--retry-after"},
        {"--listen", "nowhere", "--listen: \"nowhere\" is not HOST:PORT"},
        {"--listen", "127.0.0.1:http2", "--listen"},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct sp s = SP_UP(rows[i].flag, rows[i].value);
        char said[1024];

        t_row(rows[i].flag);
        EQ_INT(s.port, 0);
        EQ_INT(sp_wait(&s, said, sizeof said), 2);
        if (!strstr(said, rows[i].says))
            FAIL("it says: %s", said);
        OK(strchr(said, '\n') == said + strlen(said) - 1); /* one sentence */
    }
}

TEST(help_names_every_fault_and_the_flags_and_ends_with_status_0)
{
    struct sp s = SP_UP("--help");
    const size_t cap = 64 << 10;
    char *text = mem_alloc(cap);
    size_t n = 0;

    for (ssize_t got; (got = read(s.out, text + n, cap - 1 - n)) > 0;)
        n += (size_t)got;
    EQ_INT(sp_wait(&s, NULL, 0), 0);
    for (unsigned i = SIM_FAULT_REFUSE; i < SIM_FAULT_COUNT; i++)
        if (!strstr(text, sim_fault_name((enum sim_fault)i)))
            FAIL("no %s in the help", sim_fault_name((enum sim_fault)i));
    OK(strstr(text, "--listen HOST:PORT") && strstr(text, "--poison-down TIME"));
    OK(strstr(text, "--tokens N[-N]") && strstr(text, "[32-96]"));
    mem_free(text);
}
