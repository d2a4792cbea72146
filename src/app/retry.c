/* SPDX-License-Identifier: Apache-2.0 */
#include "app/cli_batch.h"
#include "app/commands.h"
#include "app/exit.h"

#include "json/json.h"

#include <stdio.h>

struct retry_options {
    struct cli_server server;
    struct cli_results results;
    const char *window;
    bool wait, quiet;
};

static const struct option_spec options[] = {
    {0, "window", "TIME", OPTION_TEXT, offsetof(struct retry_options, window),
     "Deadline of the new batch; without it that of the first."},
    {'w', "wait", NULL, OPTION_SWITCH, offsetof(struct retry_options, wait),
     "Wait for the end, with progress on stderr."},
    {'o', "output", "FILE", OPTION_TEXT, offsetof(struct retry_options, results.output),
     "With --wait: write the answers to FILE, those of before too."},
    {'e', "errors", "FILE", OPTION_TEXT, offsetof(struct retry_options, results.errors),
     "With --wait: write the lines that failed again to FILE."},
    {'q', "quiet", NULL, OPTION_SWITCH, offsetof(struct retry_options, quiet),
     "No progress and no summary on stderr."},
    CLI_SERVER_OPTIONS(struct retry_options),
};

static const struct command command = {
    .name = "retry",
    .synopsis = "ID [flags]",
    .text =
        "Makes a new batch of one that has ended: what was answered is taken over, the\n"
        "other lines run again.  Prints the new batch's id.  With --wait the exit status\n"
        "tells how it ended: 0 all lines were answered, 1 some failed.",
    .options = options,
    .n_options = COUNTOF(options),
    .min_args = 1,
    .max_args = 1,
};

static enum rc create(struct remote *r, const struct retry_options *o,
                      const struct id *from, struct id *ret, struct err *e)
{
    struct remote_batch batch;
    struct json_writer w;
    struct buf body, answer = {0};
    char path[96];
    enum rc rc;

    CHECK(str_fmt(path, sizeof path, "/batches/%s/retry", from->z) == RC_OK);
    buf_init(&body, LIMIT_API_BODY);
    jw_init(&w, &body);
    jw_open(&w, NULL, '{');
    if (o->window)
        jw_z(&w, "completion_window", o->window);
    jw_close(&w, '}');
    rc = buf_failed(&body);
    if (rc == RC_OK)
        rc = remote_call(r, "POST", path, &body, &answer, e);
    if (rc == RC_OK)
        rc = remote_batch_read(buf_peek(&answer), &batch, e);
    if (rc == RC_OK)
        *ret = batch.id;
    buf_done(&body);
    buf_done(&answer);
    return rc;
}

int retry_main(int argc, char **argv)
{
    struct retry_options o = {0};
    struct command_line cl = {0};
    struct remote *r = NULL;
    struct err e = {""};
    struct id from, id;
    int code = options_take(&command, argc, argv, &o, &cl);
    enum rc rc;

    if (code >= 0)
        return code;
    rc = cli_results_check(&o.results, o.wait, &e);
    if (rc == RC_OK)
        rc = cli_batch_id(cl.args[0], &from, &e);
    if (rc != RC_OK)
        return options_fail(EXIT_USAGE, &e);
    rc = remote_new(o.server.url, o.server.key_file, &r, &e);
    if (rc == RC_OK)
        rc = create(r, &o, &from, &id, &e);
    code = EXIT_DONE;
    if (rc == RC_OK) {
        printf("%s\n", id.z);
        fflush(stdout);
    }
    if (rc == RC_OK && o.wait)
        rc = cli_batch_follow(r, &id, &o.results, "input", o.quiet, &code, &e);
    remote_free(r);
    return rc == RC_OK ? code : options_fail(remote_exit(rc), &e);
}
