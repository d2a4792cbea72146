/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store and the blobs of the process: those of tests/lib/mem_store.h, whose changes are
 * durable when they are made, as a commit of SQLite is.  Between the question and the change,
 * and between the change and the answer, time passes, and the process may end.  A sync that
 * fails makes the store dead until the next life, and whether the change is there then is
 * not known before.
 */
#define MEM_ROWS 64
#include "tests/sim/sim.h"

#include "tests/lib/mem_store.h"

static struct mem_store rows;
static bool dead;

void ledger_reset(void)
{
    rows.n_files = rows.n_uploads = rows.n_parts = rows.n_batches = rows.n_outbox = 0;
    rows.n_blobs = 0;
    rows.floor = rows.last_seq = 0;
    rows.no_fd = true;
    ledger_life_over();
}

void ledger_life_over(void)
{
    dead = false;
    memset(&rows.lock, 0, sizeof rows.lock);
    atomic_store(&rows.puts, 0);
}

unsigned ledger_puts(void)
{
    return (unsigned)atomic_load(&rows.puts);
}

char *ledger_content(const char *file, size_t *ret_n)
{
    for (size_t i = 0; i < rows.n_blobs; i++) {
        if (strcmp(rows.blobs[i].id.z, file) == 0) {
            *ret_n = rows.blobs[i].n;
            return rows.blobs[i].p;
        }
    }
    return NULL;
}

void ledger_each_event(void (*fn)(void *ctx, const struct outbox_rec *o), void *ctx)
{
    for (size_t i = 0; i < rows.n_outbox; i++)
        fn(ctx, &rows.outbox[i]);
}

bool ledger_settled(void)
{
    for (size_t i = 0; i < rows.n_outbox; i++)
        if (!rows.outbox[i].settled_at)
            return false;
    return true;
}

/* --- What comes before and behind each operation -------------------------------------- */

static void pass_time(void)
{
    if (coro_inside() && chance(2, 5))
        coro_yield(world.now < world.slow_until ? chance_time(1000, 5 * USEC_PER_SEC)
                                                : chance_time(1, 3000));
}

static enum rc die(struct err *e)
{
    if (!dead) {
        dead = true;
        process_is_dying();
        TOLD("store: dead");
    }
    return err_set(e, RC_IO, "the database failed");
}

enum how { READS, WRITES };

/* RC_IO with *ret_apply: the change is made, and nobody is told. */
static enum rc begin(enum how how, bool *ret_apply, struct err *e)
{
    *ret_apply = true;
    pass_time();
    *ret_apply = !dead;
    if (dead)
        return die(e);
    if (how == READS)
        return RC_OK;
    if (world.now < world.full_until && chance(2, 3)) {
        *ret_apply = false;
        return err_set(e, RC_NOSPACE, "the database has no space");
    }
    if (plan.store_fails && fault(1, 300)) {
        *ret_apply = chance(1, 2);
        return die(e);
    }
    return RC_OK;
}

static void row_changed(const char *id)
{
    struct subject *s = subject_find(id);
    const struct batch *b = mem_batch_find(&rows, NULL, id);

    if (s && b)
        check_row(s, b);
}

/* OP(how, call, behind): one operation; `call` gives its rc, and `behind` runs when it changed
 * something. */
#define OP(how, call, behind)                                                            \
    bool apply;                                                                          \
    enum arena was;                                                                      \
    enum rc rc = begin(how, &apply, e), got;                                             \
                                                                                         \
    if (!apply)                                                                          \
        return rc;                                                                       \
    was = arena_use(ARENA_WORLD);                                                        \
    got = call;                                                                          \
    if (got == RC_OK) {                                                                  \
        behind;                                                                          \
    }                                                                                    \
    arena_use(was);                                                                      \
    if (rc != RC_OK)                                                                     \
        return rc; /* what `call` gave out is the world's */                             \
    pass_time();                                                                         \
    return got

#define NOTHING (void)0

static enum rc file_add(void *self, const struct file_rec *f, const struct file_quota *q,
                        struct err *e)
{
    OP(WRITES, mem_file_add(self, f, q, e), NOTHING);
}

static enum rc file_get(void *self, const struct id *project, const char *id,
                        struct file_rec *ret, struct err *e)
{
    OP(READS, mem_file_get(self, project, id, ret, e), NOTHING);
}

static enum rc file_delete(void *self, const struct id *project, const char *id,
                           int64_t now, struct err *e)
{
    OP(WRITES, mem_file_delete(self, project, id, now, e), NOTHING);
}

static enum rc file_reap(void *self, int64_t now, struct id *ret, size_t max,
                         size_t *ret_n, struct err *e)
{
    OP(WRITES, mem_file_reap(self, now, ret, max, ret_n, e), NOTHING);
}

static enum rc file_forget(void *self, const char *id, struct err *e)
{
    OP(WRITES, mem_file_forget(self, id, e), NOTHING);
}

static enum rc batch_add(void *self, const struct batch *b, const struct batch_quota *q,
                         struct batch *ret_first, struct err *e)
{
    OP(WRITES, mem_batch_add(self, b, q, ret_first, e), row_changed(b->id.z));
}

static enum rc batch_get(void *self, const struct id *project, const char *id,
                         struct batch *ret, struct err *e)
{
    OP(READS, mem_batch_get(self, project, id, ret, e), NOTHING);
}

static enum rc batch_live(void *self, struct batch **ret, size_t *ret_n, struct err *e)
{
    OP(READS, mem_batch_live(self, ret, ret_n, e), NOTHING);
}

static enum rc batch_move(void *self, const struct id *project, const char *id,
                          enum batch_event ev, int64_t now,
                          const struct batch_change *change, struct batch *ret,
                          struct err *e)
{
    OP(WRITES, mem_batch_move(self, project, id, ev, now, change, ret, e),
       row_changed(id));
}

static enum rc batch_edit(void *self, const struct id *project, const char *id,
                          const struct batch_edit *edit, int64_t now, struct batch *ret,
                          struct err *e)
{
    OP(WRITES, mem_batch_edit(self, project, id, edit, now, ret, e), row_changed(id));
}

static enum rc outbox_due(void *self, int64_t now, size_t max, struct outbox_rec **ret,
                          size_t *ret_n, struct err *e)
{
    OP(READS, mem_outbox_due(self, now, max, ret, ret_n, e), NOTHING);
}

static enum rc outbox_settle(void *self, int64_t seq, const struct outbox_result *r,
                             struct err *e)
{
    OP(WRITES, mem_outbox_settle(self, seq, r, e), NOTHING);
}

static const struct store_ops store_ops = {
    .file_add = file_add,
    .file_get = file_get,
    .file_delete = file_delete,
    .file_reap = file_reap,
    .file_forget = file_forget,
    .batch_add = batch_add,
    .batch_get = batch_get,
    .batch_live = batch_live,
    .batch_move = batch_move,
    .batch_edit = batch_edit,
    .outbox_due = outbox_due,
    .outbox_settle = outbox_settle,
};

struct store ledger = {&store_ops, &rows};

/* --- Blobs --------------------------------------------------------------------------- */

static enum rc no_space(struct err *e)
{
    return err_set(e, RC_NOSPACE, "no space for the file");
}

static enum rc put(void *self, struct blob_put **ret, struct err *e)
{
    enum arena was;
    enum rc rc;

    pass_time();
    if (world.now < world.full_until && chance(1, 2))
        return no_space(e);
    was = arena_use(ARENA_WORLD);
    rc = mem_put(self, ret, e);
    arena_use(was);
    return rc;
}

static enum rc put_write(struct blob_put *p, const void *data, size_t n, struct err *e)
{
    enum arena was;
    enum rc rc;

    pass_time();
    if (world.now < world.full_until && chance(1, 2))
        return no_space(e);
    was = arena_use(ARENA_WORLD);
    rc = mem_write(p, data, n, e);
    arena_use(was);
    return rc;
}

/* A client's upload that fails is the client's to do again. */
static bool is_input(const char *id)
{
    for (unsigned i = 0; i < truth.n_inputs; i++)
        if (strcmp(truth.inputs[i].file.z, id) == 0)
            return true;
    return false;
}

static enum rc put_commit(struct blob_put *p, const char *id, struct blob_sum *ret,
                          struct err *e)
{
    enum arena was;
    enum rc rc;

    pass_time();
    if (world.now < world.full_until && chance(1, 2)) {
        mem_abort(p);
        return no_space(e);
    }
    if (plan.syncs_fail && !is_input(id) && fault(1, 300)) {
        mem_abort(p);
        process.broken = world.now;
        TOLD("blobs: a sync fails");
        return err_set(e, RC_IO, "cannot sync the file");
    }
    was = arena_use(ARENA_WORLD);
    rc = mem_commit(p, id, ret, e);
    arena_use(was);
    pass_time();
    return rc;
}

static enum rc blob_open(void *self, const char *id, struct blob **ret, struct err *e)
{
    enum arena was = arena_use(ARENA_WORLD);
    enum rc rc = mem_blob_open(self, id, ret, e);

    arena_use(was);
    return rc;
}

static enum rc blob_remove(void *self, const char *id, struct err *e)
{
    pass_time();
    return mem_blob_remove(self, id, e);
}

static const struct blob_ops blob_ops = {
    .put = put,
    .write = put_write,
    .commit = put_commit,
    .abort = mem_abort,
    .open = blob_open,
    .size = mem_blob_size,
    .pread = mem_blob_pread,
    .fd = mem_blob_fd,
    .close = mem_blob_close,
    .remove = blob_remove,
};

struct blobs ledger_blobs = {&blob_ops, &rows};
