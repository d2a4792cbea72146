/* SPDX-License-Identifier: Apache-2.0 */
#include "app/cli_batch.h"
#include "app/commands.h"
#include "app/exit.h"
#include "app/input.h"

#include "base/mem.h"
#include "json/json.h"

#include <stdio.h>

struct submit_options {
    struct cli_server server;
    struct cli_results results;
    const char *endpoint, *window;
    struct option_texts metadata;
    bool wait, quiet, idle;
};

static const struct option_spec options[] = {
    {0, "endpoint", "PATH", OPTION_TEXT, offsetof(struct submit_options, endpoint),
     "Endpoint of the batch; without it the first line's url."},
    {0, "window", "TIME", OPTION_TEXT, offsetof(struct submit_options, window),
     "Deadline: the batch ends after so long, done or not [24h]."},
    {0, "metadata", "KEY=VALUE", OPTION_TEXTS, offsetof(struct submit_options, metadata),
     "Metadata to keep with the batch; may be repeated."},
    {0, "idle", NULL, OPTION_SWITCH, offsetof(struct submit_options, idle),
     "Use only room that nobody else wants."},
    {'w', "wait", NULL, OPTION_SWITCH, offsetof(struct submit_options, wait),
     "Wait for the end, with progress on stderr."},
    {'o', "output", "FILE", OPTION_TEXT, offsetof(struct submit_options, results.output),
     "With --wait: write the answers to FILE."},
    {'e', "errors", "FILE", OPTION_TEXT, offsetof(struct submit_options, results.errors),
     "With --wait: write the lines that failed to FILE."},
    {'q', "quiet", NULL, OPTION_SWITCH, offsetof(struct submit_options, quiet),
     "No progress and no summary on stderr."},
    CLI_SERVER_OPTIONS(struct submit_options),
};

static const struct command command = {
    .name = "submit",
    .synopsis = "INPUT.jsonl [flags]",
    .text =
        "Uploads INPUT and makes a batch of it on a server; prints the batch's id.\n"
        "INPUT - is standard input.  With --wait the exit status tells how it ended: 0 "
        "all\nlines were answered, 1 some failed, 2 the input was refused.",
    .options = options,
    .n_options = COUNTOF(options),
    .min_args = 1,
    .max_args = 1,
};

static enum rc check_options(const struct submit_options *o, struct err *e)
{
    enum rc rc = cli_results_check(&o->results, o->wait, e);

    for (size_t i = 0; i < o->metadata.n && rc == RC_OK; i++)
        if (!strchr(o->metadata.v[i], '='))
            rc = err_set(e, RC_INVALID, "--metadata is '%.100s'; it must be KEY=VALUE",
                         o->metadata.v[i]);
    return rc;
}

static void put_request(const struct submit_options *o, const struct id *file,
                        enum endpoint ep, struct buf *body)
{
    struct json_writer w;

    jw_init(&w, body);
    jw_open(&w, NULL, '{');
    jw_str(&w, "input_file_id", id_str(file));
    jw_z(&w, "endpoint", endpoint_path(ep));
    jw_z(&w, "completion_window", o->window ? o->window : "24h");
    if (o->idle)
        jw_z(&w, "tier", "idle");
    if (o->metadata.n)
        jw_open(&w, "metadata", '{');
    for (size_t i = 0; i < o->metadata.n; i++) {
        const char *pair = o->metadata.v[i], *equals = strchr(pair, '=');
        char *key = mem_dup(pair, (size_t)(equals - pair));

        jw_str(&w, key, str_of(equals + 1));
        mem_free(key);
    }
    if (o->metadata.n)
        jw_close(&w, '}');
    jw_close(&w, '}');
}

/* The name under which the server keeps it: without folders. */
static const char *basename_of(const struct input *in)
{
    const char *slash = strrchr(in->path, '/');

    if (in->spooled)
        return "stdin.jsonl";
    return slash ? slash + 1 : in->path;
}

static void forget_file(struct remote *r, const struct id *file)
{
    struct buf answer = {0};
    char path[96];

    CHECK(str_fmt(path, sizeof path, "/files/%s", file->z) == RC_OK);
    IGNORE(remote_call(r, "DELETE", path, NULL, &answer,
                       NULL)); /* why the batch was refused is the one to tell */
    buf_done(&answer);
}

static enum rc create(struct remote *r, const struct submit_options *o, struct input *in,
                      struct id *ret, struct err *e)
{
    enum endpoint ep = ENDPOINT_CHAT;
    struct remote_batch batch;
    struct buf body, answer = {0};
    struct id file;
    enum rc rc = input_choose_endpoint(in, o->endpoint, &ep, e);

    if (rc == RC_OK)
        rc = remote_upload(r, in, basename_of(in), &file, e);
    if (rc != RC_OK)
        return rc;
    buf_init(&body, LIMIT_API_BODY);
    put_request(o, &file, ep, &body);
    rc = buf_failed(&body);
    if (rc == RC_OK)
        rc = remote_call(r, "POST", "/batches", &body, &answer, e);
    if (rc == RC_OK)
        rc = remote_batch_read(buf_peek(&answer), &batch, e);
    if (rc == RC_OK)
        *ret = batch.id;
    else
        forget_file(r, &file);
    buf_done(&body);
    buf_done(&answer);
    return rc;
}

int submit_main(int argc, char **argv)
{
    struct submit_options o = {0};
    struct command_line cl = {0};
    struct input in = {.fd = -1};
    struct remote *r = NULL;
    struct err e = {""};
    struct id id;
    int code = options_take(&command, argc, argv, &o, &cl);
    enum rc rc;

    if (code >= 0)
        return code;
    rc = check_options(&o, &e);
    if (rc == RC_OK)
        rc = input_open(&in, cl.args[0], &e);
    if (rc != RC_OK)
        return options_fail(EXIT_USAGE, &e);
    rc = remote_new(o.server.url, o.server.key_file, &r, &e);
    if (rc == RC_OK)
        rc = create(r, &o, &in, &id, &e);
    code = EXIT_DONE;
    if (rc == RC_OK) {
        printf("%s\n", id.z);
        fflush(stdout);
    }
    if (rc == RC_OK && o.wait)
        rc = cli_batch_follow(r, &id, &o.results, in.path, o.quiet, &code, &e);
    input_close(&in);
    remote_free(r);
    return rc == RC_OK ? code : options_fail(remote_exit(rc), &e);
}
