/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/options.h"

#include <math.h>
#include <stdio.h>

struct flag {
    const char *name, *form;
    enum rc (*parse)(struct str v, const struct flag *f, void *dst, struct err *e);
    size_t offset;
    uint64_t min, max;  /* of the numbers */
    const char *preset; /* NULL: not set */
    const char *doc;
};

/* --- One parser for each form --------------------------------------------------------
 */

static enum rc in_range(uint64_t v, const struct flag *f, struct err *e)
{
    if (v < f->min || v > f->max)
        return err_set(e, RC_INVALID, "%llu is not from %llu to %llu",
                       (unsigned long long)v, (unsigned long long)f->min,
                       (unsigned long long)f->max);
    return RC_OK;
}

static enum rc parse_number(struct str v, const struct flag *f, void *dst, struct err *e)
{
    uint64_t n;

    if (str_u64(v, &n) != RC_OK)
        return err_set(e, RC_INVALID, "\"%.*s\" is not a whole number", STR_ARG(v));
    if (in_range(n, f, e) != RC_OK)
        return RC_INVALID;
    *(uint64_t *)dst = n;
    return RC_OK;
}

static enum rc parse_size(struct str v, const struct flag *f, void *dst, struct err *e)
{
    uint64_t n;

    if (str_size(v, &n) != RC_OK)
        return err_set(e, RC_INVALID, "\"%.*s\" is not a size like 64M", STR_ARG(v));
    if (in_range(n, f, e) != RC_OK)
        return RC_INVALID;
    *(uint64_t *)dst = n;
    return RC_OK;
}

static enum rc time_of(struct str v, usec_t *ret, struct err *e)
{
    if (str_is(v, "0")) {
        *ret = 0;
        return RC_OK;
    }
    if (str_duration(v, ret) != RC_OK)
        return err_set(e, RC_INVALID, "\"%.*s\" is not a time like 20ms or 5s",
                       STR_ARG(v));
    return RC_OK;
}

static enum rc parse_time(struct str v, const struct flag *f, void *dst, struct err *e)
{
    (void)f;
    return time_of(v, dst, e);
}

/* Retry-After counts in seconds: plain digits are those. */
static enum rc parse_seconds(struct str v, const struct flag *f, void *dst, struct err *e)
{
    uint64_t n;

    if (str_u64(v, &n) != RC_OK)
        return parse_time(v, f, dst, e);
    if (in_range(n, f, e) != RC_OK)
        return RC_INVALID;
    *(usec_t *)dst = (usec_t)n * USEC_PER_SEC;
    return RC_OK;
}

static enum rc ordered(struct sim_range r, struct str v, void *dst, struct err *e)
{
    if (r.min > r.max)
        return err_set(e, RC_INVALID, "\"%.*s\" ends before it begins", STR_ARG(v));
    *(struct sim_range *)dst = r;
    return RC_OK;
}

static enum rc parse_numbers(struct str v, const struct flag *f, void *dst, struct err *e)
{
    struct sim_range r = {0, 0};
    struct str rest = v;
    struct str low = str_cut(&rest, '-');

    if (parse_number(low, f, &r.min, e) != RC_OK ||
        parse_number(low.n == v.n ? low : rest, f, &r.max, e) != RC_OK)
        return RC_INVALID;
    return ordered(r, v, dst, e);
}

static enum rc parse_times(struct str v, const struct flag *f, void *dst, struct err *e)
{
    usec_t low = 0, high = 0;
    struct str rest = v;
    struct str first = str_cut(&rest, '-');

    (void)f;
    if (time_of(first, &low, e) != RC_OK ||
        time_of(first.n == v.n ? first : rest, &high, e) != RC_OK)
        return RC_INVALID;
    return ordered((struct sim_range){(uint64_t)low, (uint64_t)high}, v, dst, e);
}

static enum rc parse_text(struct str v, const struct flag *f, void *dst, struct err *e)
{
    (void)f;
    if (v.n == 0)
        return err_set(e, RC_INVALID, "it must not be empty");
    *(const char **)dst = v.p; /* from argv or the table: a NUL is behind it */
    return RC_OK;
}

static enum rc parse_yes(struct str v, const struct flag *f, void *dst, struct err *e)
{
    (void)v, (void)f, (void)e;
    *(bool *)dst = true;
    return RC_OK;
}

static enum rc parse_faults(struct str v, const struct flag *f, void *dst, struct err *e)
{
    (void)f;
    return sim_mix_parse(v, dst, e);
}

static enum rc parse_plan(struct str v, const struct flag *f, void *dst, struct err *e)
{
    (void)f;
    return sim_schedule_parse(v, dst, e);
}

bool sim_name_fits(struct str name)
{
    for (size_t i = 0; i < name.n; i++)
        if ((unsigned char)name.p[i] <= ' ' || (unsigned char)name.p[i] >= 0x7f ||
            name.p[i] == '"' || name.p[i] == '\\')
            return false;
    return name.n >= 1 && name.n <= SIM_NAME_MAX;
}

static enum rc parse_model(struct str v, const struct flag *f, void *dst, struct err *e)
{
    struct sim_options *o = dst;

    (void)f;
    if (v.n == 0 || v.n > SIM_NAME_MAX)
        return err_set(e, RC_INVALID, "a model's name has 1 to %d bytes", SIM_NAME_MAX);
    if (!sim_name_fits(v))
        return err_set(e, RC_INVALID, "\"%.*s\" is not a model's name", STR_ARG(v));
    if (o->n_models == SIM_MODELS_MAX)
        return err_set(e, RC_LIMIT, "there are more than %d models", SIM_MODELS_MAX);
    o->models[o->n_models++] = v.p;
    return RC_OK;
}

/* N[-N] or lognormal:MEAN,SIGMA */
static enum rc parse_lengths(struct str v, const struct flag *f, void *dst, struct err *e)
{
    static const struct str lead = {"lognormal:", 10};
    struct sim_lengths *l = dst;
    struct str rest = {v.p + lead.n, v.n - lead.n};
    struct str mean;
    double m = 0, s = 0;

    if (!str_starts(v, lead)) {
        l->mean = 0;
        return parse_numbers(v, f, &l->range, e);
    }
    mean = str_cut(&rest, ',');
    if (sim_decimal(mean, &m) != RC_OK || sim_decimal(rest, &s) != RC_OK || m < 1 ||
        m > SIM_TOKENS_MAX || s > 5)
        return err_set(e, RC_INVALID,
                       "\"%.*s\" is not lognormal:MEAN,SIGMA with a mean from 1 to %d "
                       "tokens and a sigma up to 5",
                       STR_ARG(v), SIM_TOKENS_MAX);
    *l = (struct sim_lengths){.mean = m, .sigma = s};
    return RC_OK;
}

static double unit(uint64_t bits) /* (0, 1] */
{
    return (double)((bits >> 11) + 1) * 0x1p-53;
}

/* Log-normal by Box and Muller. */
uint64_t sim_lengths_pick(const struct sim_lengths *l, uint64_t bits)
{
    double z, n;

    if (l->mean == 0)
        return sim_range_pick(l->range, bits);
    z = sqrt(-2 * log(unit(bits))) * cos(2 * M_PI * unit(sim_mix64(bits)));
    n = l->mean * exp(l->sigma * z - l->sigma * l->sigma / 2);
    return n < 1 ? 1 : n > SIM_TOKENS_MAX ? SIM_TOKENS_MAX : (uint64_t)llround(n);
}

/* RATE[,BURST] */
static enum rc parse_crowd(struct str v, const struct flag *f, void *dst, struct err *e)
{
    struct str rest = v;
    struct str rate = str_cut(&rest, ',');
    struct sim_crowd c = {0};

    (void)f;
    if (sim_decimal(rate, &c.rate) != RC_OK || c.rate < 0.001 || c.rate > 100000)
        return err_set(e, RC_INVALID, "\"%.*s\" is not from 0.001 to 100000 a second",
                       STR_ARG(rate));
    if (rate.n != v.n && (str_duration(rest, &c.burst) != RC_OK || c.burst == 0))
        return err_set(e, RC_INVALID, "\"%.*s\" is not a time like 90s", STR_ARG(rest));
    *(struct sim_crowd *)dst = c;
    return RC_OK;
}

static enum rc parse_choice(struct str v, const char *const *names, unsigned n,
                            unsigned *ret, struct err *e)
{
    for (unsigned i = 0; i < n; i++) {
        if (str_is(v, names[i])) {
            *ret = i;
            return RC_OK;
        }
    }
    return err_set(e, RC_INVALID, "\"%.*s\" is not known; see batchd sim --help",
                   STR_ARG(v));
}

static enum rc parse_flavour(struct str v, const struct flag *f, void *dst, struct err *e)
{
    static const char *const names[] = {"vllm", "sglang", "llamacpp", "none"};
    unsigned i = 0;

    (void)f;
    if (parse_choice(v, names, COUNTOF(names), &i, e) != RC_OK)
        return RC_INVALID;
    *(enum sim_flavour *)dst = (enum sim_flavour)i;
    return RC_OK;
}

static enum rc parse_style(struct str v, const struct flag *f, void *dst, struct err *e)
{
    static const char *const names[] = {"openai", "anthropic", "azure"};
    unsigned i = 0;

    (void)f;
    if (parse_choice(v, names, COUNTOF(names), &i, e) != RC_OK)
        return RC_INVALID;
    *(enum sim_style *)dst = (enum sim_style)i;
    return RC_OK;
}

static enum rc parse_blur(struct str v, const struct flag *f, void *dst, struct err *e)
{
    (void)f;
    return sim_blur_parse(v, dst, e);
}

/* --- The table -----------------------------------------------------------------------
 */

#define AT(member) offsetof(struct sim_options, member)
#define GIB        (1ull << 30)

static const struct flag flags[] = {
    {"--listen", "HOST:PORT", parse_text, AT(listen), 0, 0, "127.0.0.1:0",
     "where to serve; port 0 takes a free one"},
    /* parse_model fills two members: it gets the whole struct. */
    {"--model", "NAME", parse_model, 0, 0, 0, NULL,
     "a model of /v1/models; may be repeated [sim-model]"},
    {"--strict-models", NULL, parse_yes, AT(strict_models), 0, 0, NULL,
     "404 for models not named by --model, as vLLM does"},
    {"--api-key", "KEY", parse_text, AT(api_key), 0, 0, NULL,
     "401 under /v1 without Authorization: Bearer KEY"},
    {"--seed", "N", parse_number, AT(seed), 0, UINT64_MAX, "1",
     "decides answers, latencies and faults"},
    {"--latency", "TIME[-TIME]", parse_times, AT(latency), 0, 0, "0",
     "before an answer; a range is uniform, by the body's hash"},
    {"--token-latency", "TIME", parse_time, AT(token_latency), 0, 0, "0",
     "added for each output token"},
    {"--tokens", "N[-N]", parse_lengths, AT(tokens), 1, SIM_TOKENS_MAX, "32-96",
     "output tokens (4 bytes each) where the request allows them;\n"
     "                                  or lognormal:MEAN,SIGMA"},
    {"--embedding-dim", "N", parse_number, AT(embedding_dim), 1, 65536, "16",
     "floats of a vector, unless the request says"},
    {"--created", "SECONDS", parse_number, AT(created), 0, INT64_MAX, "0",
     "the answers' created time; 0 is now"},
    {"--concurrency", "N", parse_number, AT(concurrency), 0, 1000000, "0",
     "requests running at once, others wait in order; 0 is no limit"},
    {"--max-queued", "N", parse_number, AT(max_queued), 0, 1000000000, "1000000",
     "requests waiting; those above get --overload-status"},
    {"--overload-status", "N", parse_number, AT(overload_status), 400, 599, "503",
     "when too many wait"},
    {"--retry-after", "SECONDS|TIME", parse_seconds, AT(retry_after), 0, 1000000000, NULL,
     "Retry-After (and retry-after-ms) with 429, 503 and 529"},
    {"--replicas", "N", parse_number, AT(replicas), 1, SIM_REPLICAS_MAX, "1",
     "so many servers, on the ports from --listen on; a line for each"},
    {"--preset", "NAME", parse_text, AT(preset), 0, 0, NULL,
     "work as a server with continuous batching does: see below"},
    {"--kv-tokens", "N", parse_number, AT(kv_tokens), 256, 100000000, NULL,
     "KV memory, instead of the preset's"},
    {"--max-seqs", "N", parse_number, AT(max_seqs), 1, 65536, NULL,
     "sequences running at once, instead of the preset's"},
    {"--budget", "N", parse_number, AT(budget), 1, 10000000, NULL,
     "tokens an iteration, instead of the preset's"},
    {"--speed", "N", parse_number, AT(speed), 1, 1000, "1",
     "the model's time runs so many times faster than the clock"},
    {"--priorities", NULL, parse_yes, AT(priorities), 0, 0, NULL,
     "those that wait go by the member `priority`, lower first"},
    {"--ignore-disconnect", NULL, parse_yes, AT(ignore_disconnect), 0, 0, NULL,
     "work on for clients that left"},
    {"--interactive", "RATE[,TIME]", parse_crowd, AT(crowd), 0, 0, NULL,
     "chat turns a second beside the requests; so for TIME, then a\n"
     "                                  tenth for TIME, and again"},
    {"--metrics", "NAME", parse_flavour, AT(metrics), 0, 0, "vllm",
     "/metrics as vllm, sglang or llamacpp has it, or none"},
    {"--metrics-fault", "KIND", parse_blur, AT(blur), 0, 0, NULL,
     "/metrics is 500, slow, stale or garbage"},
    {"--rpm", "N", parse_number, AT(rpm), 1, 1000000000, NULL,
     "a quota of requests a minute; 429 above it"},
    {"--tpm", "N", parse_number, AT(tpm), 1, 1000000000000, NULL,
     "a quota of tokens a minute: prompt and the most output"},
    {"--limit-style", "NAME", parse_style, AT(limit_style), 0, 0, "openai",
     "quotas are told as openai, anthropic or azure does"},
    {"--quota-burst", "TIME", parse_time, AT(quota_burst), 0, 0, "60s",
     "so much of a quota can be saved up"},
    {"--max-body", "SIZE", parse_size, AT(max_body), 1, GIB, "64M",
     "413 for larger requests"},
    {"--fault", "KIND=RATE,...", parse_faults, AT(faults), 0, 0, NULL,
     "how many requests fail, and how: see below; may be repeated"},
    {"--slow-rate", "N", parse_number, AT(slow_rate), 1, 1000000000, "100",
     "bytes a second of the fault slow"},
    {"--huge-bytes", "SIZE", parse_size, AT(huge_bytes), 1, 1024 * GIB, "65M",
     "least size of the fault huge"},
    {"--big-head-bytes", "SIZE", parse_size, AT(big_head_bytes), 1, GIB, "1M",
     "least size of the fault big-head"},
    {"--poison", "TEXT", parse_text, AT(poison), 0, 0, NULL,
     "a body with TEXT in it makes the server crash"},
    {"--poison-down", "TIME", parse_time, AT(poison_down), 0, 0, "1s",
     "until it is back after a crash"},
    {"--schedule", "KIND@TIME+TIME,...", parse_plan, AT(schedule), 0, 0, NULL,
     "from the first TIME for the second: see below"},
    {"--oracle", "N", parse_number, AT(oracle), 0, 10000000, "65536",
     "last requests told by GET /oracle"},
    {"--log", NULL, parse_yes, AT(log), 0, 0, NULL, "one line a request on stderr"},
    {"--help", NULL, parse_yes, AT(help), 0, 0, NULL, "this text"},
};

static enum rc set(const struct flag *f, const char *value, struct sim_options *o,
                   struct err *e)
{
    struct err why = {""};

    if (f->parse(str_of(value), f, (char *)o + f->offset, &why) == RC_OK)
        return RC_OK;
    return err_set(e, RC_INVALID, "%s: %s", f->name, why.text);
}

static const struct flag *find(struct str name)
{
    for (size_t i = 0; i < COUNTOF(flags); i++)
        if (str_is(name, flags[i].name))
            return &flags[i];
    return NULL;
}

/* Takes argv[*i], and the next one when that is its value. */
static enum rc take_one(int argc, char **argv, int *i, struct sim_options *o,
                        struct err *e)
{
    const char *arg = argv[*i];
    const char *equals = strchr(arg, '=');
    struct str name = {arg, equals ? (size_t)(equals - arg) : strlen(arg)};
    const struct flag *f = find(name);

    if (!f)
        return err_set(e, RC_INVALID, "unknown flag \"%.*s\"; see batchd sim --help",
                       STR_ARG(name));
    if (!f->form) {
        if (equals)
            return err_set(e, RC_INVALID, "%s takes no value", f->name);
        return set(f, "", o, e);
    }
    if (equals)
        return set(f, equals + 1, o, e);
    if (*i + 1 >= argc)
        return err_set(e, RC_INVALID, "%s needs a value: %s", f->name, f->form);
    return set(f, argv[++*i], o, e);
}

/* What makes no sense alone, or together. */
static enum rc check_model(const struct sim_options *o, struct err *e)
{
    const struct {
        const char *name;
        bool given;
    } need[] = {{"--kv-tokens", o->kv_tokens},
                {"--max-seqs", o->max_seqs},
                {"--budget", o->budget},
                {"--speed", o->speed > 1},
                {"--priorities", o->priorities},
                {"--ignore-disconnect", o->ignore_disconnect},
                {"--interactive", o->crowd.rate > 0}},
      clash[] = {{"--latency", o->latency.max},
                 {"--token-latency", o->token_latency > 0},
                 {"--concurrency", o->concurrency}};

    for (size_t i = 0; i < COUNTOF(need) && !o->preset; i++)
        if (need[i].given)
            return err_set(e, RC_INVALID, "%s needs a --preset", need[i].name);
    for (size_t i = 0; i < COUNTOF(clash) && o->preset; i++)
        if (clash[i].given)
            return err_set(e, RC_INVALID, "%s is the model's business with a --preset",
                           clash[i].name);
    return RC_OK;
}

static enum rc set_model(struct sim_options *o, struct err *e)
{
    if (check_model(o, e) != RC_OK)
        return RC_INVALID;
    if (!o->preset)
        return RC_OK;
    if (sim_model_preset(str_of(o->preset), &o->machine) != RC_OK)
        return err_set(e, RC_INVALID,
                       "--preset: \"%s\" is not known; see batchd sim --help", o->preset);
    o->modelled = true;
    if (o->kv_tokens)
        o->machine.kv_tokens = o->kv_tokens;
    if (o->max_seqs)
        o->machine.max_seqs = (unsigned)o->max_seqs;
    if (o->budget)
        o->machine.budget = (unsigned)o->budget;
    o->machine.max_queued = o->max_queued;
    o->machine.priorities = o->priorities;
    return RC_OK;
}

static enum rc check_rest(const struct sim_options *o, struct err *e)
{
    for (unsigned i = 0; i < o->schedule.n; i++) {
        const struct sim_window *w = &o->schedule.row[i];

        if (w->replica > o->replicas)
            return err_set(e, RC_INVALID, "--schedule: there is no replica %u of %u",
                           w->replica, (unsigned)o->replicas);
        if (w->act == SIM_ACT_SHRINK && !o->preset)
            return err_set(e, RC_INVALID, "--schedule: shrink needs a --preset");
    }
    if ((o->rpm || o->tpm) && o->quota_burst < USEC_PER_SEC / 1000)
        return err_set(e, RC_INVALID,
                       "--quota-burst: a quota that saves nothing up lets "
                       "nothing pass");
    return RC_OK;
}

enum rc sim_options_parse(int argc, char **argv, struct sim_options *ret, struct err *e)
{
    struct sim_options o = {.retry_after = -1};
    enum rc rc = RC_OK;

    for (size_t i = 0; i < COUNTOF(flags); i++)
        if (flags[i].preset && set(&flags[i], flags[i].preset, &o, e) != RC_OK)
            PANIC("preset of %s: %s", flags[i].name, flags[i].preset);
    for (int i = 1; i < argc && rc == RC_OK && !o.help; i++)
        rc = take_one(argc, argv, &i, &o, e);
    if (rc == RC_OK && !o.help)
        rc = set_model(&o, e);
    if (rc == RC_OK && !o.help)
        rc = check_rest(&o, e);
    if (rc != RC_OK)
        return rc;
    if (o.n_models == 0)
        o.models[o.n_models++] = "sim-model";
    *ret = o;
    return RC_OK;
}

static void help_presets(void)
{
    printf("\nPresets (KV tokens, sequences, tokens an iteration):\n\n");
    for (size_t i = 0; sim_model_presets[i][0]; i++) {
        struct sim_model_opts o;

        if (sim_model_preset(str_of(sim_model_presets[i]), &o) == RC_OK)
            printf("  %-16s  %llu, %u, %u\n", sim_model_presets[i],
                   (unsigned long long)o.kv_tokens, o.max_seqs, o.budget);
    }
}

static void help_schedule(void)
{
    printf(
        "\nThe schedule: KIND@TIME+TIME[:VALUE][#REPLICA], as in slow@10s+5s:4#2:\n\n");
    for (unsigned i = 0; i < SIM_ACT_COUNT; i++)
        printf("  %-16s  %s\n", sim_act_form((enum sim_act)i),
               sim_act_doc((enum sim_act)i));
}

void sim_options_help(void)
{
    printf("usage: batchd sim [FLAG]...\n\n"
           "An inference server to try things on: OpenAI endpoints under /v1, /health,\n"
           "/metrics, and what it did under /oracle and /oracle/counts.\n\n");
    for (size_t i = 0; i < COUNTOF(flags); i++) {
        const struct flag *f = &flags[i];
        char left[64];

        (void)snprintf(left, sizeof left, "%s%s%s", f->name, f->form ? " " : "",
                       f->form ? f->form : "");
        printf("  %-30s  %s", left, f->doc);
        printf(f->preset ? " [%s]\n" : "\n", f->preset);
    }
    help_presets();
    help_schedule();
    printf("\nFaults, each with the share of requests that have it (0.05 or 5%%):\n\n"
           "  %-16s  %s\n",
           "200 to 599", sim_fault_doc(SIM_FAULT_STATUS));
    for (unsigned i = SIM_FAULT_REFUSE; i < SIM_FAULT_COUNT; i++)
        printf("  %-16s  %s\n", sim_fault_name((enum sim_fault)i),
               sim_fault_doc((enum sim_fault)i));
}
