/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/options.h"

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

bool sim_model_name(struct str name)
{
    for (size_t i = 0; i < name.n; i++)
        if ((unsigned char)name.p[i] <= ' ' || (unsigned char)name.p[i] >= 0x7f ||
            name.p[i] == '"' || name.p[i] == '\\')
            return false;
    return name.n >= 1 && name.n <= SIM_MODEL_MAX;
}

static enum rc parse_model(struct str v, const struct flag *f, void *dst, struct err *e)
{
    struct sim_options *o = dst;

    (void)f;
    if (v.n == 0 || v.n > SIM_MODEL_MAX)
        return err_set(e, RC_INVALID, "a model's name has 1 to %d bytes", SIM_MODEL_MAX);
    if (!sim_model_name(v))
        return err_set(e, RC_INVALID, "\"%.*s\" is not a model's name", STR_ARG(v));
    if (o->n_models == SIM_MODELS_MAX)
        return err_set(e, RC_LIMIT, "there are more than %d models", SIM_MODELS_MAX);
    o->models[o->n_models++] = v.p;
    return RC_OK;
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
    {"--tokens", "N[-N]", parse_numbers, AT(tokens), 1, 1000000, "32-96",
     "output tokens (4 bytes each) where the request allows them"},
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
     "from the first TIME for the second: down, or a fault for all"},
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

enum rc sim_options_parse(int argc, char **argv, struct sim_options *ret, struct err *e)
{
    struct sim_options o = {.retry_after = -1};
    enum rc rc = RC_OK;

    for (size_t i = 0; i < COUNTOF(flags); i++)
        if (flags[i].preset && set(&flags[i], flags[i].preset, &o, e) != RC_OK)
            PANIC("preset of %s: %s", flags[i].name, flags[i].preset);
    for (int i = 1; i < argc && rc == RC_OK && !o.help; i++)
        rc = take_one(argc, argv, &i, &o, e);
    if (rc != RC_OK)
        return rc;
    if (o.n_models == 0)
        o.models[o.n_models++] = "sim-model";
    *ret = o;
    return RC_OK;
}

void sim_options_help(void)
{
    printf("usage: batchd sim [FLAG]...\n\n"
           "An inference server to try things on: OpenAI endpoints under /v1, /health,\n"
           "/metrics with vLLM's names, and what it did under /oracle and "
           "/oracle/counts.\n\n");
    for (size_t i = 0; i < COUNTOF(flags); i++) {
        const struct flag *f = &flags[i];
        char left[64];

        (void)snprintf(left, sizeof left, "%s%s%s", f->name, f->form ? " " : "",
                       f->form ? f->form : "");
        printf("  %-30s  %s", left, f->doc);
        printf(f->preset ? " [%s]\n" : "\n", f->preset);
    }
    printf("\nFaults, each with the share of requests that have it (0.05 or 5%%):\n\n"
           "  %-16s  %s\n",
           "200 to 599", sim_fault_doc(SIM_FAULT_STATUS));
    for (unsigned i = SIM_FAULT_REFUSE; i < SIM_FAULT_COUNT; i++)
        printf("  %-16s  %s\n", sim_fault_name((enum sim_fault)i),
               sim_fault_doc((enum sim_fault)i));
}
