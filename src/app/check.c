/* SPDX-License-Identifier: Apache-2.0 */
#include "app/commands.h"
#include "app/config.h"
#include "app/exit.h"
#include "app/faults.h"
#include "app/input.h"
#include "app/options.h"
#include "app/setting.h"

#include "engine/estimate.h"
#include "engine/intake.h"

struct check_options {
    const char *endpoint;
    bool verbose, quiet;
};

static const struct option_spec options[] = {
    {0, "endpoint", "PATH", OPTION_TEXT, offsetof(struct check_options, endpoint),
     "Endpoint that the batch will name; without it the first line's url."},
    {'v', "verbose", NULL, OPTION_SWITCH, offsetof(struct check_options, verbose),
     "Say of a line that is not JSON what is wrong, and where."},
    {'q', "quiet", NULL, OPTION_SWITCH, offsetof(struct check_options, quiet),
     "No summary on stderr."},
};

static const struct command command = {
    .name = "check",
    .synopsis = "INPUT.jsonl [flags]",
    .text =
        "Finds every line of a batch's input that the server would refuse, before it "
        "costs\nanything.  Prints each as FILE:LINE: CODE: MESSAGE.  INPUT - is "
        "standard input.\nOf a good file it estimates the tokens: bytes of the prompts "
        "over four.\nExit status: 0 all lines are good, 1 some are bad, 2 the "
        "file cannot be read.",
    .options = options,
    .n_options = COUNTOF(options),
    .settings = SETTING_CHECK,
    .min_args = 1,
    .max_args = 1,
};

struct print {
    const char *path;
    bool verbose;
};

static void print_fault(void *ctx, const struct intake_fault *f)
{
    const struct print *p = ctx;
    char text[600];

    if (p->verbose && f->reason &&
        str_fmt(text, sizeof text, "%s (byte %zu: %s)", f->message, f->at, f->reason) ==
            RC_OK)
        faults_print(stdout, p->path, f->line, str_of(f->code), str_of(text));
    else
        faults_print(stdout, p->path, f->line, str_of(f->code), str_of(f->message));
}

static bool model_known(void *ctx, struct str model)
{
    return catalog_knows(ctx, model);
}

static enum rc scan(struct input *in, const struct check_options *o,
                    const struct config *c, struct estimate *estimate,
                    struct intake_result *ret, struct err *e)
{
    struct intake_rules rules = {
        .any_endpoint = !o->endpoint,
        .many_models = c->many_models,
        .max_lines = c->max_lines,
        .max_inputs = c->max_inputs,
        .max_bytes = c->max_file_size,
        .max_line_bytes = (size_t)c->max_line_size,
        .model_known = model_known,
        .model_ctx = config_catalog(c),
        .each = estimate_add,
        .each_ctx = estimate,
    };
    struct print print = {in->path, o->verbose};
    atomic_bool stop = false;
    enum rc rc = RC_OK;

    if (o->endpoint)
        rc = input_choose_endpoint(in, o->endpoint, &rules.endpoint, e);
    if (rc == RC_OK)
        rc = intake_scan(input_read, in, in->size, &rules, NULL, print_fault, &print,
                         &stop, ret, e);
    catalog_free(rules.model_ctx);
    return rc;
}

static void summary(const struct input *in, const struct intake_result *r,
                    const struct estimate *x)
{
    const char *s = r->requests == 1 ? "" : "s";

    fflush(stdout);
    if (r->faults) {
        fprintf(stderr, "batchd: %s: %u fault%s found\n", in->path, r->faults,
                r->faults == 1 ? "" : "s");
        return;
    }
    fprintf(stderr, "batchd: %s: %u request%s, all good; about %llu tokens in, ",
            in->path, r->requests, s, (unsigned long long)x->input_tokens);
    if (x->unlimited)
        fprintf(stderr, "no limit on those out in %u\n", x->unlimited);
    else
        fprintf(stderr, "at most %llu out\n", (unsigned long long)x->max_output);
}

int check_main(int argc, char **argv)
{
    struct check_options o = {0};
    struct command_line cl = {0};
    struct intake_result result = {0};
    struct estimate estimate;
    struct config config = {0};
    struct input in = {.fd = -1};
    struct err e = {""};
    enum rc rc;
    int code = options_take(&command, argc, argv, &o, &cl);

    if (code >= 0)
        return code;
    estimate_init(&estimate);
    rc = config_load(&cl.config, &config, &e);
    if (rc == RC_OK)
        rc = input_open(&in, cl.args[0], &e);
    if (rc == RC_OK)
        rc = scan(&in, &o, &config, &estimate, &result, &e);
    if (rc == RC_OK && !o.quiet)
        summary(&in, &result, &estimate);
    estimate_done(&estimate);
    input_close(&in);
    config_done(&config);
    if (rc != RC_OK)
        return options_fail(EXIT_USAGE, &e);
    return result.faults ? EXIT_SOME_FAILED : EXIT_DONE;
}
