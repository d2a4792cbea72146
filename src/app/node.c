/* SPDX-License-Identifier: Apache-2.0 */
#include "app/node.h"
#include "app/exit.h"
#include "app/hooks.h"
#include "app/janitor.h"

#include "base/fsio.h"
#include "base/guard.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* --- A broken promise ----------------------------------------------------------------
 */

/*
 * From the store's or the engine's thread.  _dead is set before _closing is read, and
 * node_drain does it the other way round: one of the two sees the other, so that nobody
 * calls into rooms that are being closed and nobody waits for a dead store.
 */
static void die(void *ctx, const char *why)
{
    struct node *n = ctx;
    uint64_t one = 1;

    if (atomic_exchange(&n->_dead, true))
        return;
    log_error("dead", "why=\"%s\"", why);
    if (atomic_load(&n->_closing))
        _exit(EXIT_DISK);
    if (n->on_dead)
        n->on_dead(n->ctx, why);
    if (write(n->_dead_fd, &one, sizeof one) < 0)
        _exit(EXIT_DISK); /* nobody can be told */
}

static void ended(void *ctx, const struct batch *b)
{
    struct node *n = ctx;

    if (n->on_end)
        n->on_end(n->ctx, b);
}

int node_dead_fd(const struct node *n)
{
    return n->_dead_fd;
}

bool node_dead(const struct node *n)
{
    return atomic_load(&n->_dead);
}

/* --- Start ----------------------------------------------------------------------------
 */

/* After a clean end there is nothing to sweep, and a large directory starts at once. */
static enum rc sweep(struct node *n, struct err *e)
{
    size_t removed = 0;
    usec_t start = clock_mono();
    enum rc rc;

    if (datadir_was_clean(n->datadir) || !GUARD(FILES_SWEPT))
        return RC_OK;
    rc = janitor_sweep(n->store, n->blobs, &removed, e);
    if (rc == RC_OK)
        log_info("recovery.sweep", "files=%zu ms=%lld", removed,
                 (long long)((clock_mono() - start) / USEC_PER_MS));
    return rc;
}

static enum rc fail(struct node *n, enum rc rc)
{
    n->exit_code = exit_of_rc(rc);
    return rc;
}

static enum rc open_store(struct node *n, struct err *e)
{
    struct store_sqlite_opts o = {
        .path = datadir_ledger(n->datadir), .on_dead = die, .ctx = n};

    return store_sqlite_open(&o, &n->store, e);
}

enum rc node_open(struct node *n, struct err *e)
{
    struct datadir_opts o = {.create = true, .reserve_bytes = n->reserve_bytes};
    enum rc rc;

    n->exit_code = EXIT_DISK;
    n->_dead_fd = eventfd(0, EFD_CLOEXEC);
    if (n->_dead_fd < 0)
        return fail(n, err_sys(e, rc_of_errno(errno), errno, "cannot make an eventfd"));
    rc = datadir_open(n->dir, &o, &n->datadir, e);
    if (rc != RC_OK) {
        n->exit_code = rc == RC_CONFLICT ? EXIT_IN_USE
                       : rc == RC_NOMEM  ? EXIT_RESOURCES
                                         : EXIT_DATA_DIR;
        return rc;
    }
    clock_guard(datadir_clock(n->datadir), n->config->clock_settle);
    rc = open_store(n, e);
    /* On a full disk the ballast goes, so that what is there can be read and deleted. */
    if (rc == RC_NOSPACE && datadir_release_reserve(n->datadir, NULL) == RC_OK)
        rc = open_store(n, e);
    if (rc == RC_OK)
        rc = blob_dir_open(n->dir, &n->blobs, e);
    if (rc == RC_OK)
        rc = sweep(n, e);
    return rc == RC_OK ? rc : fail(n, rc);
}

enum rc node_start(struct node *n, struct err *e)
{
    struct engine_opts o;
    struct engine_upstream *upstreams;
    enum rc rc;

    if (n->tell && (rc = hooks_start(n->config, n->store, &n->webhooks, e)) != RC_OK) {
        n->exit_code = rc == RC_NOMEM || rc == RC_NOSPACE || rc == RC_IO ? exit_of_rc(rc)
                                                                         : EXIT_USAGE;
        return rc;
    }
    config_engine(n->config, &o, &upstreams);
    o.store = n->store;
    o.blobs = n->blobs;
    o.spool = datadir_spool(n->datadir);
    o.webhooks = n->webhooks;
    o.on_dead = die;
    o.on_end = ended;
    o.ctx = n;
    if (n->lift_limits) {
        o.max_lines = LIMIT_LINES_EVER;
        o.max_inputs = UINT32_MAX;
        o.max_file_bytes = UINT64_MAX;
        o.project_default = (struct engine_project){0};
    }
    rc = engine_new(&o, &n->engine, e);
    mem_free(upstreams);
    mem_free((void *)(uintptr_t)o.projects);
    return rc == RC_OK ? rc : fail(n, rc);
}

/* --- End ------------------------------------------------------------------------------
 */

void node_drain(struct node *n, usec_t grace)
{
    atomic_store(&n->_closing, true);
    if (atomic_load(&n->_dead))
        _exit(EXIT_DISK);
    if (n->engine)
        engine_drain(n->engine, grace);
}

void node_close(struct node *n)
{
    bool clean = n->store && (!n->engine || engine_recovered(n->engine));
    bool was_clean = n->datadir && datadir_was_clean(n->datadir);
    struct err e = {""};
    char text[sizeof e.text];

    atomic_store(&n->_closing, true);
    if (n->engine)
        n->engine = engine_free(n->engine);
    n->webhooks = webhooks_free(n->webhooks); /* nobody asks it any more */
    n->store = store_close(n->store);
    if (clean && n->blobs &&
        n->blobs->ops->settle(n->blobs->self, !was_clean, &e) != RC_OK) {
        log_warn("files.settle", "err=%s",
                 log_q(text, sizeof text, e.text, strlen(e.text)));
        clean = false; /* the next start sweeps */
    }
    n->blobs = blobs_close(n->blobs);
    if (atomic_load(&n->_dead))
        clean = false; /* closing found it */
    if (n->datadir && datadir_close(n->datadir, clean, &e) != RC_OK)
        log_warn("datadir.close", "err=%s",
                 log_q(text, sizeof text, e.text, strlen(e.text)));
    n->datadir = NULL;
    if (n->_dead_fd > 0)
        fs_close(&n->_dead_fd);
    n->_dead_fd = 0;
}
