/* SPDX-License-Identifier: Apache-2.0 */
#include "app/cli_batch.h"
#include "app/commands.h"
#include "app/exit.h"
#include "app/outfile.h"
#include "app/pretty.h"

#include "json/json.h"

#include <stdio.h>
#include <time.h>

struct batch_options {
    struct cli_server server;
    const char *limit, *output, *errors;
    bool quiet, progress;
};

#define SERVER_OPTIONS CLI_SERVER_OPTIONS(struct batch_options)
#define QUIET_OPTION                                                                     \
    {                                                                                    \
        'q', "quiet", NULL, OPTION_SWITCH, offsetof(struct batch_options, quiet),        \
            "No progress and no summary on stderr."                                      \
    }

/* What every command here starts with, and ends with. */
struct session {
    struct batch_options o;
    struct command_line cl;
    struct remote *remote;
    struct id id; /* of those that take one */
    struct buf answer;
    struct err e;
};

static enum rc begin(struct session *s)
{
    enum rc rc = RC_OK;

    if (s->cl.n_args)
        rc = cli_batch_id(s->cl.args[0], &s->id, &s->e);
    if (rc == RC_OK)
        rc = remote_new(s->o.server.url, s->o.server.key_file, &s->remote, &s->e);
    return rc;
}

static int end(struct session *s, enum rc rc, int code)
{
    buf_done(&s->answer);
    remote_free(s->remote);
    if (rc != RC_OK)
        return options_fail(remote_exit(rc), &s->e);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        err_set(&s->e, RC_IO, "cannot write to standard output");
        return options_fail(EXIT_DISK, &s->e);
    }
    return code;
}

/* The answer to a call on the batch itself. */
static enum rc ask(struct session *s, const char *method, const char *what)
{
    char path[96];

    CHECK(str_fmt(path, sizeof path, "/batches/%s%s", s->id.z, what) == RC_OK);
    return remote_call(s->remote, method, path, NULL, &s->answer, &s->e);
}

/* --- list --------------------------------------------------------------------------- */

static const struct option_spec list_options[] = {
    {'n', "limit", "N", OPTION_TEXT, offsetof(struct batch_options, limit),
     "Show the N newest [20]."},
    SERVER_OPTIONS,
};

static const struct command list_command = {
    .name = "list",
    .synopsis = "[flags]",
    .text = "Shows the newest batches of a server as a table, the newest first.",
    .options = list_options,
    .n_options = COUNTOF(list_options),
};

static void put_header(void)
{
    printf("%-38s  %-11s  %9s  %9s  %7s  %-19s  %s\n", "ID", "STATUS", "LINES",
           "ANSWERED", "FAILED", "CREATED", "ENDPOINT");
}

static void put_row(const struct remote_batch *b)
{
    char when[32] = "-";
    time_t at = (time_t)b->created_at;
    struct tm tm;

    if (localtime_r(&at, &tm))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
    printf("%-38s  %-11s  %9u  %9u  %7u  %-19s  %s\n", b->id.z,
           batch_status_name(b->status), b->counts.total, b->counts.completed,
           b->counts.failed, when, b->endpoint);
}

/* Prints one page; the last id on it goes into `after`. */
static enum rc put_page(struct session *s, struct id *after, uint64_t *ret_n,
                        bool *ret_more)
{
    static const struct json_want wants[] = {{"data", -1}, {"has_more", -1}};
    struct json_val v[COUNTOF(wants)], entry;
    struct remote_batch b;
    struct json_iter it;
    struct str key;
    enum rc rc = RC_OK;

    if (json_read(buf_peek(&s->answer), NULL, wants, COUNTOF(wants), v, NULL, NULL) !=
            RC_OK ||
        v[0].type != JSON_ARRAY)
        return err_set(&s->e, RC_UPSTREAM,
                       "the server's answer is not a list; is it a "
                       "batch server?");
    if (id_none(after))
        put_header();
    it = json_iter(&v[0]);
    while (rc == RC_OK && json_next(&it, &key, &entry)) {
        rc = remote_batch_read(entry.raw, &b, &s->e);
        if (rc != RC_OK)
            break;
        put_row(&b);
        *after = b.id;
        ++*ret_n;
    }
    *ret_more = v[1].type == JSON_TRUE;
    return rc;
}

int list_main(int argc, char **argv)
{
    struct session s = {0};
    uint64_t limit = 20, shown = 0;
    struct id after = {""};
    bool more = true;
    int code = options_take(&list_command, argc, argv, &s.o, &s.cl);
    enum rc rc;

    if (code >= 0)
        return code;
    rc = begin(&s);
    if (rc == RC_OK && s.o.limit &&
        (str_u64(str_of(s.o.limit), &limit) != RC_OK || limit == 0))
        rc = err_set(&s.e, RC_INVALID,
                     "--limit is '%.40s'; it must be a whole number "
                     "from 1",
                     s.o.limit);
    while (rc == RC_OK && more && shown < limit) {
        char path[160];
        uint64_t page = u64_min(limit - shown, LIMIT_BATCH_LIST), before = shown;

        CHECK(str_fmt(path, sizeof path, "/batches?limit=%llu%s%s",
                      (unsigned long long)page,
                      id_none(&after) ? "" : "&after=", after.z) == RC_OK);
        rc = remote_call(s.remote, "GET", path, NULL, &s.answer, &s.e);
        if (rc == RC_OK)
            rc = put_page(&s, &after, &shown, &more);
        if (shown == before)
            break; /* a server that promises more and sends none */
    }
    return end(&s, rc, EXIT_DONE);
}

/* --- show --------------------------------------------------------------------------- */

static const struct option_spec show_options[] = {
    {'p', "progress", NULL, OPTION_SWITCH, offsetof(struct batch_options, progress),
     "Print what it does at present instead: rate, expected end, and why it waits."},
    SERVER_OPTIONS,
};

static const struct command show_command = {
    .name = "show",
    .synopsis = "ID [flags]",
    .text = "Prints a batch's object as JSON, and nothing else.",
    .options = show_options,
    .n_options = COUNTOF(show_options),
    .min_args = 1,
    .max_args = 1,
};

static void put_pretty(const struct buf *json)
{
    struct buf pretty;

    buf_init(&pretty, (size_t)1 << 28);
    pretty_json(buf_peek(json), &pretty);
    fwrite(pretty.p, 1, pretty.n, stdout);
    buf_done(&pretty);
}

int show_main(int argc, char **argv)
{
    struct session s = {0};
    struct remote_batch b;
    int code = options_take(&show_command, argc, argv, &s.o, &s.cl);
    enum rc rc;

    if (code >= 0)
        return code;
    rc = begin(&s);
    if (rc == RC_OK && s.o.progress)
        rc = ask(&s, "GET", "/progress");
    else if (rc == RC_OK)
        rc = remote_batch_get(s.remote, &s.id, &s.answer, &b, &s.e);
    if (rc == RC_OK)
        put_pretty(&s.answer);
    return end(&s, rc, EXIT_DONE);
}

/* --- watch -------------------------------------------------------------------------- */

static const struct option_spec watch_options[] = {QUIET_OPTION, SERVER_OPTIONS};

static const struct command watch_command = {
    .name = "watch",
    .synopsis = "ID [flags]",
    .text = "Waits for a batch's end, with progress on stderr.\nExit status: 0 all lines "
            "were answered, 1 some failed, 2 the input was refused.",
    .options = watch_options,
    .n_options = COUNTOF(watch_options),
    .min_args = 1,
    .max_args = 1,
};

int watch_main(int argc, char **argv)
{
    struct session s = {0};
    struct remote_batch b;
    int code = options_take(&watch_command, argc, argv, &s.o, &s.cl);
    enum rc rc;

    if (code >= 0)
        return code;
    rc = begin(&s);
    if (rc == RC_OK)
        rc = cli_batch_wait(s.remote, &s.id, s.o.quiet, &s.answer, &b, &s.e);
    if (rc == RC_OK)
        code = cli_batch_verdict(&b, "input", s.o.quiet);
    return end(&s, rc, code);
}

/* --- cancel, pause, resume ----------------------------------------------------------- */

static const struct option_spec order_options[] = {SERVER_OPTIONS};

static const struct command cancel_command = {
    .name = "cancel",
    .synopsis = "ID [flags]",
    .text = "Cancels a batch: what is in flight may end, what was answered is kept.",
    .options = order_options,
    .n_options = COUNTOF(order_options),
    .min_args = 1,
    .max_args = 1,
};

static const struct command pause_command = {
    .name = "pause",
    .synopsis = "ID [flags]",
    .text =
        "Pauses a batch: what is in flight may end, nothing more is sent.  Its deadline\n"
        "stays.",
    .options = order_options,
    .n_options = COUNTOF(order_options),
    .min_args = 1,
    .max_args = 1,
};

static const struct command resume_command = {
    .name = "resume",
    .synopsis = "ID [flags]",
    .text = "Lets a batch go on that was paused, or whose sample is done.",
    .options = order_options,
    .n_options = COUNTOF(order_options),
    .min_args = 1,
    .max_args = 1,
};

/* Prints the batch's status after the order. */
static int order(const struct command *command, int argc, char **argv, const char *what)
{
    struct session s = {0};
    struct remote_batch b;
    int code = options_take(command, argc, argv, &s.o, &s.cl);
    enum rc rc;

    if (code >= 0)
        return code;
    rc = begin(&s);
    if (rc == RC_OK)
        rc = ask(&s, "POST", what);
    if (rc == RC_OK)
        rc = remote_batch_read(buf_peek(&s.answer), &b, &s.e);
    if (rc == RC_OK)
        printf("%s %s\n", b.id.z, batch_status_name(b.status));
    return end(&s, rc, EXIT_DONE);
}

int cancel_main(int argc, char **argv)
{
    return order(&cancel_command, argc, argv, "/cancel");
}

int pause_main(int argc, char **argv)
{
    return order(&pause_command, argc, argv, "/pause");
}

int resume_main(int argc, char **argv)
{
    return order(&resume_command, argc, argv, "/resume");
}

/* --- results ------------------------------------------------------------------------ */

static const struct option_spec results_options[] = {
    {'o', "output", "FILE", OPTION_TEXT, offsetof(struct batch_options, output),
     "Write the answers to FILE; without it to standard output."},
    {'e', "errors", "FILE", OPTION_TEXT, offsetof(struct batch_options, errors),
     "Write the lines that failed to FILE; no file is made when none did."},
    QUIET_OPTION,
    SERVER_OPTIONS,
};

static const struct command results_command = {
    .name = "results",
    .synopsis = "ID [flags]",
    .text =
        "Fetches the results of a batch that has ended.\nExit status: 0 all lines were "
        "answered, 1 some failed, 2 the input was refused\nor the batch has not ended.",
    .options = results_options,
    .n_options = COUNTOF(results_options),
    .min_args = 1,
    .max_args = 1,
};

static enum rc fetch(struct session *s, struct remote_batch *b)
{
    enum rc rc = remote_batch_get(s->remote, &s->id, &s->answer, b, &s->e);

    if (rc != RC_OK)
        return rc;
    if (!batch_terminal(b->status))
        return err_set(&s->e, RC_CONFLICT,
                       "batch %s has not ended, it is %s; batchd watch waits for it",
                       b->id.z, batch_status_name(b->status));
    if (b->status == BATCH_FAILED)
        return RC_OK; /* no file; the verdict tells why */
    rc = cli_batch_fetch(s->remote, b, s->o.output, &s->e);
    if (rc == RC_OK && s->o.errors)
        rc = cli_batch_fetch_errors(s->remote, b, s->o.errors, &s->e);
    return rc;
}

int results_main(int argc, char **argv)
{
    struct session s = {0};
    struct remote_batch b;
    int code = options_take(&results_command, argc, argv, &s.o, &s.cl);
    enum rc rc;

    if (code >= 0)
        return code;
    rc = begin(&s);
    if (rc == RC_OK)
        rc = fetch(&s, &b);
    if (rc == RC_OK)
        code = cli_batch_verdict(&b, "input", s.o.quiet);
    return end(&s, rc, code);
}
