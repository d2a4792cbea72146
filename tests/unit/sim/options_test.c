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
    EQ_INT(o.tokens.range.min, 32);
    EQ_INT(o.tokens.range.max, 96);
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
    EQ_INT(o.tokens.range.min, 5);
    EQ_INT(o.tokens.range.max, 5);
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

TEST(a_preset_is_a_machine_that_flags_change)
{
    struct sim_options o;

    EQ_RC(PARSE(&o, NULL, "--preset", "h100-8b"), RC_OK);
    OK(o.modelled && o.machine.cache && !o.machine.priorities);
    EQ_INT(o.machine.kv_tokens, 411000);
    EQ_INT(o.machine.max_seqs, 256);
    EQ_INT(o.machine.budget, 8192);
    EQ_INT(o.machine.max_queued, 1000000);
    EQ_INT(o.speed, 1);
    EQ_INT(o.replicas, 1);
    EQ_RC(PARSE(&o, NULL, "--preset=h100-8b", "--kv-tokens=4096", "--max-seqs=7",
                "--budget=512", "--max-queued=9", "--priorities", "--speed=100",
                "--interactive=60,90s", "--ignore-disconnect"),
          RC_OK);
    EQ_INT(o.machine.kv_tokens, 4096);
    EQ_INT(o.machine.max_seqs, 7);
    EQ_INT(o.machine.budget, 512);
    EQ_INT(o.machine.max_queued, 9);
    OK(o.machine.priorities && o.ignore_disconnect && o.crowd.rate == 60);
    EQ_INT(o.speed, 100);
    EQ_INT(o.crowd.burst, 90 * USEC_PER_SEC);
    EQ_RC(PARSE(&o, NULL, "--metrics=sglang", "--metrics-fault", "stale", "--rpm=60",
                "--tpm=1000", "--limit-style", "azure", "--quota-burst=1s"),
          RC_OK);
    OK(!o.modelled);
    EQ_INT(o.metrics, SIM_SGLANG);
    EQ_INT(o.blur, SIM_BLUR_STALE);
    EQ_INT(o.limit_style, SIM_AZURE);
    EQ_INT(o.quota_burst, USEC_PER_SEC);
}

TEST(lengths_are_uniform_or_log_normal_with_the_mean_that_was_asked_for)
{
    struct sim_options o;
    double sum = 0, logs = 0;
    const unsigned n = 200000;

    EQ_RC(PARSE(&o, NULL, "--tokens", "lognormal:400,0.7"), RC_OK);
    for (unsigned i = 0; i < n; i++) {
        uint64_t len = sim_lengths_pick(&o.tokens, sim_mix64(i));

        OK(len >= 1 && len <= SIM_TOKENS_MAX);
        sum += (double)len;
        logs += len > 400; /* P(ln X > ln 400) = P(Z > 0.35) = 0.363 */
    }
    OK(sum / n > 396 && sum / n < 404);
    OK(logs / n > 0.355 && logs / n < 0.371);
    EQ_RC(PARSE(&o, NULL, "--tokens", "lognormal:400,0.7", "--tokens=5"), RC_OK);
    EQ_INT(sim_lengths_pick(&o.tokens, 12345), 5);
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
        {"--preset", "h200", "--preset: \"h200\" is not known"},
        {"--speed=2", NULL, "--speed needs a --preset"},
        {"--interactive=5", NULL, "--interactive needs a --preset"},
        {"--priorities", NULL, "--priorities needs a --preset"},
        {"--preset=h100-8b", "--latency=1s", "--latency is the model's business"},
        {"--preset=h100-8b", "--speed=1001", "--speed: 1001 is not from 1"},
        {"--preset=h100-8b", "--interactive=0", "--interactive: \"0\" is not from"},
        {"--preset=h100-8b", "--interactive=5,9", "--interactive: \"9\" is not a time"},
        {"--tokens", "lognormal:0,1", "--tokens: \"lognormal:0,1\" is not"},
        {"--tokens", "lognormal:10", "--tokens"},
        {"--replicas", "0", "--replicas"},
        {"--metrics", "tgi", "--metrics: \"tgi\" is not known"},
        {"--metrics-fault", "404", "--metrics-fault: \"404\" is not 500"},
        {"--limit-style", "x", "--limit-style"},
        {"--rpm=1", "--quota-burst=0", "--quota-burst: a quota that saves nothing up"},
        {"--schedule", "down@1s+1s#2", "--schedule: there is no replica 2 of 1"},
        {"--schedule", "shrink@1s+1s:0.5", "--schedule: shrink needs a --preset"},
        {"--replicas=2", "--listen=127.0.0.1:65535", "no port for replica 2 of 2"},
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
    for (size_t i = 0; sim_model_presets[i][0]; i++)
        OK(strstr(text, sim_model_presets[i]));
    for (unsigned i = 0; i < SIM_ACT_COUNT; i++)
        OK(strstr(text, sim_act_form((enum sim_act)i)));
    mem_free(text);
}
