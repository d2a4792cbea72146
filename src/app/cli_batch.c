/* SPDX-License-Identifier: Apache-2.0 */
#include "app/cli_batch.h"
#include "app/exit.h"
#include "app/faults.h"
#include "app/outfile.h"
#include "app/progress.h"

#include <poll.h>
#include <unistd.h>

#define POLL_FIRST (200 * USEC_PER_MS)
#define POLL_LAST  (2 * USEC_PER_SEC)
/* A restart with recovery takes seconds; who is away for longer is not coming back. */
#define PATIENCE (5 * 60 * USEC_PER_SEC)

enum rc cli_batch_id(const char *text, struct id *ret, struct err *e)
{
    if (id_from(str_of(text), ret) == RC_OK)
        return RC_OK;
    return err_set(e, RC_INVALID, "'%.100s' is not a batch's id; batchd list shows them",
                   text);
}

static void pause_for(usec_t t)
{
    IGNORE(poll(NULL, 0, (int)(t / USEC_PER_MS)) < 0); /* a signal may cut it short */
}

static bool may_come_back(enum rc rc)
{
    return rc == RC_UPSTREAM || rc == RC_AGAIN;
}

static void show(struct progress *p, const struct remote_batch *b)
{
    struct progress_view view = {batch_status_name(b->status), b->counts, UINT32_MAX};

    progress_show(p, &view, clock_mono());
}

enum rc cli_batch_wait(struct remote *r, const struct id *id, bool quiet,
                       struct buf *answer, struct remote_batch *ret, struct err *e)
{
    struct progress progress;
    usec_t pause = POLL_FIRST, seen = 0;
    enum rc rc;

    progress_init(&progress, progress_mode(quiet));
    for (;;) {
        rc = remote_batch_get(r, id, answer, ret, e);
        if (rc == RC_OK) {
            seen = clock_mono();
            if (batch_terminal(ret->status))
                break; /* the verdict tells the rest */
            show(&progress, ret);
        } else if (!may_come_back(rc) || !seen || clock_mono() - seen > PATIENCE) {
            break;
        }
        pause_for(pause);
        pause = pause * 3 / 2 < POLL_LAST ? pause * 3 / 2 : POLL_LAST;
    }
    progress_clear(&progress);
    return rc;
}

/* --- Files -------------------------------------------------------------------------- */

static enum rc fetch_one(struct remote *r, const struct id *file, const char *path,
                         struct err *e)
{
    struct outfile o;
    enum rc rc = outfile_open(&o, path, e);

    if (rc == RC_OK && !id_none(file))
        rc = remote_download(r, file, o.fd, o.part, e);
    if (rc == RC_OK)
        return outfile_commit(&o, e);
    outfile_abort(&o);
    return rc;
}

enum rc cli_batch_fetch(struct remote *r, const struct remote_batch *b, const char *path,
                        struct err *e)
{
    if (path)
        return fetch_one(r, &b->output_file, path, e);
    if (id_none(&b->output_file))
        return RC_OK;
    return remote_download(r, &b->output_file, STDOUT_FILENO, "stdout", e);
}

enum rc cli_batch_fetch_errors(struct remote *r, const struct remote_batch *b,
                               const char *path, struct err *e)
{
    return id_none(&b->error_file) ? outfile_remove_stale(path, e)
                                   : fetch_one(r, &b->error_file, path, e);
}

/* --- Its end ------------------------------------------------------------------------ */

int cli_batch_verdict(const struct remote_batch *b, const char *file, bool quiet)
{
    const struct batch_counts *n = &b->counts;

    if (b->status == BATCH_FAILED) {
        if (faults_print_json(stderr, file, b->errors) == 0)
            fprintf(stderr, "batchd: batch %s failed without a reason\n", b->id.z);
        return EXIT_USAGE;
    }
    if (!quiet)
        fprintf(stderr, "batchd: batch %s is %s: %u of %u lines answered, %u failed\n",
                b->id.z, batch_status_name(b->status), n->completed, n->total, n->failed);
    return b->status == BATCH_COMPLETED && n->failed == 0 ? EXIT_DONE : EXIT_SOME_FAILED;
}

/* --- All of it ---------------------------------------------------------------------- */

enum rc cli_results_check(const struct cli_results *to, bool wait, struct err *e)
{
    enum rc rc = RC_OK;

    if ((to->output || to->errors) && !wait)
        return err_set(e, RC_INVALID,
                       "-o and -e need --wait: there are no results before "
                       "the batch has ended");
    if (to->output)
        rc = outfile_check(to->output, e);
    if (rc == RC_OK && to->errors)
        rc = outfile_check(to->errors, e);
    return rc;
}

enum rc cli_batch_follow(struct remote *r, const struct id *id,
                         const struct cli_results *to, const char *name, bool quiet,
                         int *ret_code, struct err *e)
{
    struct buf answer = {0};
    struct remote_batch b;
    enum rc rc = cli_batch_wait(r, id, quiet, &answer, &b, e);

    if (rc == RC_OK && b.status != BATCH_FAILED && to->output)
        rc = cli_batch_fetch(r, &b, to->output, e);
    if (rc == RC_OK && b.status != BATCH_FAILED && to->errors)
        rc = cli_batch_fetch_errors(r, &b, to->errors, e);
    if (rc == RC_OK)
        *ret_code = cli_batch_verdict(&b, name, quiet);
    buf_done(&answer);
    return rc;
}
