/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run: one input file through the engine of the server, without one.  The state directory
 * OUTPUT.batchd is a data directory like the server's; run.json in it tells what it is a
 * state of.  Fresh or resumed, the batch's row is there before the engine starts, and the
 * engine recovers it: one way for both.
 */
#include "app/commands.h"
#include "app/exit.h"
#include "app/faults.h"
#include "app/input.h"
#include "app/node.h"
#include "app/options.h"
#include "app/outfile.h"
#include "app/process.h"
#include "app/progress.h"
#include "app/runstate.h"
#include "app/setting.h"

#include "base/mem.h"

#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define REDRAW_MS  200
#define LOOK_EVERY USEC_PER_SEC /* whether it was stopped */

struct run_options {
    const char *output, *errors, *endpoint, *window;
    bool quiet;
};

static const struct option_spec options[] = {
    {'o', "output", "FILE", OPTION_TEXT, offsetof(struct run_options, output),
     "Where the answers go; it appears when all is done."},
    {'e', "errors", "FILE", OPTION_TEXT, offsetof(struct run_options, errors),
     "Where the lines that failed go; not made when none did [OUTPUT with "
     ".errors.jsonl]."},
    {0, "endpoint", "PATH", OPTION_TEXT, offsetof(struct run_options, endpoint),
     "Endpoint of all lines; without it the first line's url."},
    {0, "window", "TIME", OPTION_TEXT, offsetof(struct run_options, window),
     "Deadline: what is not answered by then fails [30d]."},
    {'q', "quiet", NULL, OPTION_SWITCH, offsetof(struct run_options, quiet),
     "No progress and no summary on stderr."},
};

static const struct command command = {
    .name = "run",
    .synopsis = "INPUT.jsonl -o OUTPUT.jsonl --upstream URL [flags]",
    .text = "Runs every line of INPUT against the upstreams and writes the answers, in "
            "input\norder.  No server, no limit on lines.  It keeps its state in "
            "OUTPUT.batchd/: after a\ncrash or Ctrl-C the same command goes on where it "
            "was.\nExit status: 0 all lines were answered, 1 some failed, 2 the input is "
            "bad.",
    .options = options,
    .n_options = COUNTOF(options),
    .settings = SETTING_RUN,
    .min_args = 1,
    .max_args = 1,
};

struct run {
    struct run_options o;
    struct config config;
    struct input in;
    struct node node;
    struct runstate state;
    struct progress progress;
    usec_t window;
    char dir[FS_PATH_CAP], errors[FS_PATH_CAP];
    int signals, ended_fd;
    bool fresh;   /* the state directory holds nothing of worth yet */
    bool resumed; /* a batch of before goes on */
    bool began;   /* the engine was started */
    bool stopped; /* every call was refused: it does not end by itself */
    usec_t look_at;
    int exit_code;      /* of a failure */
    struct batch batch; /* as it ended */
};

static enum rc fail(struct run *r, int exit_code, enum rc rc)
{
    r->exit_code = exit_code;
    return rc;
}

/* --- What was asked for ----------------------------------------------------------------
 */

/* out.jsonl: out.errors.jsonl; anything else has it appended. */
static enum rc name_errors(struct run *r, struct err *e)
{
    struct str stem = str_of(r->o.output);

    if (r->o.errors) {
        if (str_fmt(r->errors, sizeof r->errors, "%s", r->o.errors) == RC_OK)
            return RC_OK;
    } else {
        if (str_ends(stem, STR(".jsonl")))
            stem.n -= strlen(".jsonl");
        if (str_fmt(r->errors, sizeof r->errors, "%.*s.errors.jsonl", STR_ARG(stem)) ==
            RC_OK)
            return RC_OK;
    }
    return err_set(e, RC_LIMIT, "the path of the error file is too long");
}

static enum rc check_paths(struct run *r, const char *input, struct err *e)
{
    enum rc rc;

    if (!r->o.output)
        return err_set(e, RC_INVALID,
                       "-o OUTPUT.jsonl is missing; see batchd run --help");
    rc = outfile_check(r->o.output, e);
    if (rc == RC_OK)
        rc = name_errors(r, e);
    if (rc == RC_OK)
        rc = outfile_check(r->errors, e);
    if (rc != RC_OK)
        return rc;
    if (outfile_same(input, r->o.output) || outfile_same(input, r->errors))
        return err_set(e, RC_INVALID,
                       "the input '%.200s' is also named as a file to write: it would be "
                       "overwritten",
                       input);
    if (outfile_same(r->o.output, r->errors))
        return err_set(e, RC_INVALID, "-o and -e name the same file");
    if (str_fmt(r->dir, sizeof r->dir, "%s.batchd", r->o.output) != RC_OK)
        return err_set(e, RC_LIMIT, "the path '%.200s' is too long", r->o.output);
    return RC_OK;
}

static enum rc check_window(struct run *r, struct err *e)
{
    const char *text = r->o.window ? r->o.window : "30d";

    if (str_duration(str_of(text), &r->window) == RC_OK && r->window >= USEC_PER_SEC &&
        r->window <= 30 * 86400 * USEC_PER_SEC && strlen(text) < sizeof r->batch.window)
        return RC_OK;
    return err_set(e, RC_INVALID,
                   "--window is '%.40s'; it must be a time (s, m, h, d) from 1s to 30d",
                   text);
}

static enum rc open_input(struct run *r, const char *path, struct err *e)
{
    enum rc rc = input_open(&r->in, path, e);

    if (rc == RC_OK && r->in.spooled)
        return err_set(
            e, RC_INVALID,
            "'%.200s' is a pipe; run needs a file, which it can read again after "
            "a crash",
            path);
    return rc;
}

static const struct setting *log_setting(void)
{
    return setting_find(STR("server"), STR("log_level"));
}

static enum rc configure(struct run *r, struct command_line *cl, struct err *e)
{
    enum rc rc = check_paths(r, cl->args[0], e);

    if (rc == RC_OK)
        rc = check_window(r, e);
    if (rc == RC_OK)
        rc = config_load(&cl->config, &r->config, e);
    if (rc == RC_OK)
        rc = config_load_keys(&r->config, e);
    if (rc == RC_OK && r->config.n_upstreams == 0)
        rc = err_set(e, RC_INVALID,
                     "no upstream is named; say --upstream URL, or --config "
                     "with an [upstream] section");
    if (rc == RC_OK)
        rc = open_input(r, cl->args[0], e);
    if (rc != RC_OK)
        return fail(r, EXIT_USAGE, rc);
    /* Its user looks at the progress, not at a service's log. */
    if (config_origin(&r->config, log_setting()) == CONFIG_DEFAULT)
        r->config.log_level = LOG_LVL_WARN;
    log_level_set(r->config.log_level);
    return RC_OK;
}

/* --- The state directory
 * ---------------------------------------------------------------- */

static enum rc same_input(struct run *r, const struct runstate *old, struct err *e)
{
    enum endpoint ep;
    uint64_t hash = 0;
    enum rc rc = RC_OK;

    if (old->bytes == r->in.size && old->mtime_ns != r->in.mtime_ns)
        rc = input_hash(&r->in, &hash, e);
    if (rc != RC_OK)
        return rc;
    if (old->bytes != r->in.size ||
        (old->mtime_ns != r->in.mtime_ns && old->hash != hash))
        return err_set(
            e, RC_INVALID,
            "'%.150s' has changed since the run that is kept in '%.150s'; delete "
            "that directory to start over",
            r->in.path, r->dir);
    if (!r->o.endpoint)
        return RC_OK;
    rc = input_choose_endpoint(&r->in, r->o.endpoint, &ep, e);
    if (rc == RC_OK && ep != old->endpoint)
        rc = err_set(e, RC_INVALID,
                     "--endpoint is '%s', but the run that is kept in '%.150s' has '%s'; "
                     "delete that directory to start over",
                     r->o.endpoint, r->dir, endpoint_path(old->endpoint));
    return rc;
}

static enum rc new_state(struct run *r, struct err *e)
{
    struct runstate s = {.bytes = r->in.size, .mtime_ns = r->in.mtime_ns};
    enum rc rc = input_choose_endpoint(&r->in, r->o.endpoint, &s.endpoint, e);

    if (rc == RC_OK)
        rc = input_hash(&r->in, &s.hash, e);
    if (rc != RC_OK)
        return fail(r, EXIT_USAGE, rc);
    s.batch = id_make(ID_BATCH);
    s.file = id_make(ID_FILE);
    r->state = s;
    rc = runstate_save(r->dir, &s, e);
    return rc == RC_OK ? rc : fail(r, EXIT_DATA_DIR, rc);
}

static enum rc find_state(struct run *r, struct err *e)
{
    struct runstate old;
    enum rc rc = runstate_load(r->dir, &old, e);

    if (rc == RC_NOTFOUND) {
        r->fresh = true;
        return new_state(r, e);
    }
    if (rc != RC_OK)
        return fail(r, EXIT_DATA_DIR, rc);
    rc = same_input(r, &old, e);
    if (rc != RC_OK)
        return fail(r, EXIT_USAGE, rc);
    r->state = old;
    r->resumed = true;
    return RC_OK;
}

/* --- The rows
 * ------------------------------------------------------------------------------ */

static enum rc add_file(struct run *r, struct err *e)
{
    const struct store *st = r->node.store;
    const char *slash = strrchr(r->in.path, '/'), *name = slash ? slash + 1 : r->in.path;
    struct file_rec f = {.id = r->state.file,
                         .project = {PROJECT_DEFAULT},
                         .purpose = "batch",
                         .bytes = r->in.size,
                         .created_at = clock_wall_sec()};
    enum rc rc = st->ops->file_get(st->self, NULL, r->state.file.z, &f, NULL);

    if (rc == RC_NOTFOUND) {
        f.filename = mem_dup(name, strlen(name));
        rc = st->ops->file_add(st->self, &f, NULL, e);
    } else if (rc != RC_OK) {
        err_set(e, rc, "the state in '%.200s' cannot be read", r->dir);
    }
    file_rec_done(&f);
    return rc;
}

static enum rc add_batch(struct run *r, struct err *e)
{
    const struct store *st = r->node.store;
    int64_t now = clock_wall_sec();
    struct batch b = {.id = r->state.batch,
                      .project = {PROJECT_DEFAULT},
                      .input_file = r->state.file,
                      .endpoint = r->state.endpoint,
                      .status = BATCH_VALIDATING,
                      .created_at = now,
                      .expires_at = now + r->window / USEC_PER_SEC};
    enum rc rc = st->ops->batch_get(st->self, NULL, r->state.batch.z, &r->batch, NULL);

    if (rc == RC_OK)
        return RC_OK;
    if (rc != RC_NOTFOUND)
        return err_set(e, rc, "the state in '%.200s' cannot be read", r->dir);
    r->resumed = false;
    CHECK(str_fmt(b.window, sizeof b.window, "%s", r->o.window ? r->o.window : "30d") ==
          RC_OK);
    rc = st->ops->batch_add(st->self, &b, NULL, NULL, e);
    if (rc == RC_OK)
        batch_copy(&r->batch, &b);
    return rc;
}

static void on_end(void *ctx, const struct batch *b)
{
    struct run *r = ctx;
    uint64_t one = 1;

    (void)b; /* read from the store, by the main thread */
    if (write(r->ended_fd, &one, sizeof one) < 0)
        PANIC("cannot write to an eventfd: errno %d", errno);
}

static enum rc open_node(struct run *r, struct err *e)
{
    enum rc rc;

    r->node = (struct node){.dir = r->dir,
                            .config = &r->config,
                            .lift_limits = true,
                            .on_end = on_end,
                            .ctx = r};
    rc = node_open(&r->node, e);
    if (rc == RC_CONFLICT)
        err_set(e, rc, "another batchd run is at work on '%.200s' (it has '%.200s')",
                r->o.output, r->dir);
    return rc == RC_OK ? rc : fail(r, r->node.exit_code, rc);
}

static enum rc begin(struct run *r, struct err *e)
{
    enum rc rc;

    r->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->ended_fd < 0)
        return fail(r, EXIT_RESOURCES,
                    err_sys(e, rc_of_errno(errno), errno, "cannot make an eventfd"));
    rc = process_prepare(&r->signals, e);
    if (rc != RC_OK)
        return fail(r, exit_of_rc(rc), rc);
    rc = open_node(r, e);
    if (rc == RC_OK)
        rc = find_state(r, e);
    if (rc != RC_OK)
        return rc;
    rc = r->node.blobs->ops->adopt(r->node.blobs->self, r->in.path, r->state.file.z, e);
    if (rc == RC_OK)
        rc = add_file(r, e);
    if (rc == RC_OK)
        rc = add_batch(r, e);
    if (rc != RC_OK)
        return fail(r, exit_of_rc(rc), rc);
    if (batch_terminal(r->batch.status))
        return RC_OK;
    rc = node_start(&r->node, e);
    r->began = rc == RC_OK;
    return rc == RC_OK ? rc : fail(r, r->node.exit_code, rc);
}

/* --- Waiting
 * -------------------------------------------------------------------------------- */

static void show(struct run *r, usec_t now)
{
    struct progress_view v = {.status = "reading", .inflight = UINT32_MAX};
    struct engine_live live;

    if (engine_live(r->node.engine, r->state.batch.z, &live) && live.counts.total) {
        v.counts = live.counts;
        v.inflight = live.inflight;
        v.status = "running";
    }
    progress_show(&r->progress, &v, now);
}

static bool is_stopped(struct run *r, usec_t now)
{
    struct engine_progress p;

    if (now < r->look_at)
        return false;
    r->look_at = now + LOOK_EVERY;
    r->stopped = engine_progress(r->node.engine, &r->state.batch, &p) && p.stopped;
    return r->stopped;
}

/* True: the batch has ended.  False: a signal came first, or it was stopped. */
static bool wait_for_end(struct run *r)
{
    struct pollfd fds[3] = {{r->signals, POLLIN, 0},
                            {node_dead_fd(&r->node), POLLIN, 0},
                            {r->ended_fd, POLLIN, 0}};

    for (;;) {
        usec_t now = clock_mono();

        show(r, now);
        if (is_stopped(r, now))
            return false;
        if (poll(fds, 3, REDRAW_MS) < 0)
            continue;
        if (fds[1].revents) {
            progress_clear(&r->progress);
            _exit(EXIT_DISK); /* the sentence was logged; the same command goes on */
        }
        if (fds[2].revents)
            return true;
        if (fds[0].revents && process_signal(r->signals) != 0)
            return false;
    }
}

/* Where the same command goes on from. */
static void say_how_far(struct run *r)
{
    struct engine_live live;

    if (engine_live(r->node.engine, r->state.batch.z, &live) && live.counts.total)
        fprintf(stderr, "batchd: %u of %u lines are done; ",
                live.counts.completed + live.counts.failed, live.counts.total);
    else
        fputs("batchd: ", stderr);
    fprintf(stderr, "the same command goes on from there (state in '%s')\n", r->dir);
}

static int interrupted(struct run *r)
{
    progress_clear(&r->progress);
    fprintf(stderr, "batchd: stopping; what is in flight gets %lld s (again: at once)\n",
            (long long)(r->config.drain_timeout / USEC_PER_SEC));
    process_let_signals_kill();
    node_drain(&r->node, r->config.drain_timeout);
    say_how_far(r);
    return EXIT_INTERRUPTED;
}

/* The sentence is for those who watch a server, too: to resume it here is to run it. */
static int refused(struct run *r)
{
    struct engine_progress p = {.why = ""};
    static const char tail[] = " and resume the batch.";
    struct str why;

    progress_clear(&r->progress);
    (void)engine_progress(r->node.engine, &r->state.batch, &p);
    why = str_of(p.why);
    if (str_ends(why, STR(tail)))
        why.n -= sizeof tail - 1;
    fprintf(stderr, "batchd: %.*s.\n", STR_ARG(why));
    node_drain(&r->node, 0);
    say_how_far(r);
    return EXIT_UNREACHABLE;
}

/* --- The end
 * ---------------------------------------------------------------------------------- */

static enum rc place(struct run *r, const struct id *file, const char *path,
                     struct err *e)
{
    const struct blobs *blobs = r->node.blobs;
    struct blob *b;
    enum rc rc = blobs->ops->open(blobs->self, file->z, &b, e);

    if (rc != RC_OK)
        return rc;
    rc = outfile_place(blobs->ops->fd(b), path, e);
    blobs->ops->close(b);
    return rc;
}

static enum rc place_empty(const char *path, struct err *e)
{
    struct outfile o;
    enum rc rc = outfile_open(&o, path, e);

    return rc == RC_OK ? outfile_commit(&o, e) : rc;
}

/* Errors first: who finds the output finds all. */
static enum rc deliver(struct run *r, struct err *e)
{
    const struct batch *b = &r->batch;
    enum rc rc = id_none(&b->error_file) ? outfile_remove_stale(r->errors, e)
                                         : place(r, &b->error_file, r->errors, e);

    if (rc != RC_OK)
        return rc;
    return id_none(&b->output_file) ? place_empty(r->o.output, e)
                                    : place(r, &b->output_file, r->o.output, e);
}

static int verdict(const struct run *r)
{
    const struct batch *b = &r->batch;

    if (b->status == BATCH_FAILED) {
        if (faults_print_json(stderr, r->in.path, str_of(b->errors)) == 0)
            fprintf(stderr, "batchd: '%s' was refused without a reason\n", r->in.path);
        return EXIT_USAGE;
    }
    if (!r->o.quiet) {
        fprintf(stderr, "batchd: %u of %u lines answered", b->counts.completed,
                b->counts.total);
        if (b->counts.failed)
            fprintf(stderr, ", %u failed: see '%s'", b->counts.failed, r->errors);
        fputc('\n', stderr);
    }
    return b->status == BATCH_COMPLETED && b->counts.failed == 0 ? EXIT_DONE
                                                                 : EXIT_SOME_FAILED;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
    (void)st, (void)type, (void)f;
    return remove(path);
}

/* The input is only a link in there, and links are not followed. */
static void remove_state(struct run *r)
{
    struct err e = {""};

    if (runstate_remove(r->dir, &e) != RC_OK) {
        options_fail(0, &e);
        return;
    }
    node_close(&r->node);
    if (nftw(r->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        fprintf(stderr, "batchd: cannot delete all of '%s'; it is of no use any more\n",
                r->dir);
}

static enum rc final_record(struct run *r, struct err *e)
{
    const struct store *st = r->node.store;

    batch_done(&r->batch);
    r->batch = (struct batch){0};
    return st->ops->batch_get(st->self, NULL, r->state.batch.z, &r->batch, e);
}

static int end(struct run *r, struct err *e)
{
    enum rc rc = r->began ? final_record(r, e) : RC_OK;
    int code;

    progress_clear(&r->progress);
    if (rc == RC_OK && r->batch.status != BATCH_FAILED)
        rc = deliver(r, e);
    if (rc != RC_OK)
        return options_fail(exit_of_rc(rc), e);
    code = verdict(r);
    remove_state(r);
    return code;
}

static void close_all(struct run *r)
{
    node_close(&r->node);
    input_close(&r->in);
    batch_done(&r->batch);
    config_done(&r->config);
    if (r->ended_fd > 0)
        close(r->ended_fd);
    if (r->signals > 0)
        close(r->signals);
}

/* Nothing was made of a new state: it must not be in the way of the next command. */
static void undo(struct run *r)
{
    node_close(&r->node);
    if (r->fresh && !r->began)
        nftw(r->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int run_main(int argc, char **argv)
{
    struct run r = {.in = {.fd = -1}};
    struct command_line cl = {0};
    struct err e = {""};
    int code = options_take(&command, argc, argv, &r.o, &cl);
    enum rc rc;

    if (code >= 0)
        return code;
    progress_init(&r.progress, progress_mode(r.o.quiet));
    rc = configure(&r, &cl, &e);
    if (rc == RC_OK)
        rc = begin(&r, &e);
    if (rc != RC_OK) {
        undo(&r);
        close_all(&r);
        return options_fail(r.exit_code, &e);
    }
    if (r.resumed && !r.o.quiet)
        fprintf(stderr, "batchd: going on from '%s'\n", r.dir);
    if (r.began && !wait_for_end(&r))
        code = r.stopped ? refused(&r) : interrupted(&r);
    else
        code = end(&r, &e);
    close_all(&r);
    return code;
}
