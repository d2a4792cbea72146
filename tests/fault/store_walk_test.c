/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=fsync */
/*
 * A walk through all changes of the ledger (tests/lib/store_walk.h) over a file system
 * whose n-th write, sync or truncation fails, for every n: each change is there whole or
 * not at all.  And the same of the steps of the schema.
 */
#include "tests/fault/faulty_vfs.h"
#include "tests/lib/ledger_1.h"
#include "tests/lib/store_walk.h"

#include <stdio.h>

static unsigned deaths;

static void on_dead(void *ctx, const char *why)
{
    (void)ctx;
    OK(why[0]);
    deaths++;
}

static enum rc open_at(const char *path, struct store **ret)
{
    struct store_sqlite_opts o = {.path = path, .on_dead = on_dead};

    *ret = NULL;
    return store_sqlite_open(&o, ret, NULL);
}

static struct store *open_ok(const char *path)
{
    struct store *s;

    if (open_at(path, &s) == RC_OK)
        return s;
    OK(fault_hit);
    EQ_RC(open_at(path, &s), RC_OK); /* one fault, one failed start at the most */
    return s;
}

/* Takes step i until it is taken. */
static struct store *take(struct store *s, const char *path, const struct walk *w,
                          unsigned i)
{
    enum rc rc = walk_step(s, &w->steps[i]);

    if (rc == w->rc[i] && rc != RC_IO && rc != RC_NOSPACE)
        return s;
    OK(fault_hit);
    if (rc == RC_NOSPACE) { /* nothing changed: once more */
        EQ_INT(walk_taken(s, w, i, false), i);
        EQ_RC(walk_step(s, &w->steps[i]), w->rc[i]);
        return s;
    }
    EQ_RC(rc, RC_IO);
    EQ_INT(deaths, 1);
    deaths = 0;
    store_close(s);
    s = open_ok(path);
    if (walk_taken(s, w, i, true) == i)
        EQ_RC(walk_step(s, &w->steps[i]), w->rc[i]);
    return s;
}

static void walk_all(const char *path, const struct walk *w)
{
    struct store *s = open_ok(path);

    deaths = 0;
    for (unsigned i = 0; i < w->n; i++) {
        s = take(s, path, w, i);
        if (i % 20 == 19) {
            store_close(s);
            s = open_ok(path);
        }
    }
    EQ_INT(walk_taken(s, w, w->n, false), w->n);
    store_close(s);
    EQ_INT(deaths, 0);
}

static void sweep(int code, const char *name, uint64_t seed)
{
    static struct walk w;
    char path[400], row[64];
    unsigned total;

    walk_begin(&w, seed, 50);
    arm(0, 0, 0);
    snprintf(path, sizeof path, "%s/plain-%s.db", t_dir(), name);
    walk_all(path, &w);
    total = calls;
    OK(total > 100);
    for (unsigned k = 1; k <= total; k++) {
        snprintf(row, sizeof row, "%s at call %u of %u", name, k, total);
        t_row(row);
        snprintf(path, sizeof path, "%s/%s-%u.db", t_dir(), name, k);
        arm(k, 1, code);
        walk_all(path, &w);
        OK(fault_hit);
        IGNORE(remove(path) != 0); /* room for the next */
    }
    t_row(NULL);
    walk_end(&w);
}

TEST_SLOW(a_full_disk_at_any_write_leaves_each_change_whole_or_undone, 120)
{
    install_vfs();
    sweep(SQLITE_FULL, "full", 1);
}

TEST_SLOW(any_other_error_leaves_each_change_whole_or_undone, 120)
{
    install_vfs();
    sweep(SQLITE_IOERR, "ioerr", 2);
}

/* ---- the steps of the schema --------------------------------------------------------*/

static void check_old_rows(struct store *s)
{
    static const struct id dflt = {PROJECT_DEFAULT};
    struct batch b;
    struct file_rec f;

    EQ_RC(s->ops->batch_get(s->self, &dflt, "batch_done", &b, NULL), RC_OK);
    batch_done(&b);
    EQ_RC(s->ops->batch_get(s->self, &dflt, "batch_live", &b, NULL), RC_OK);
    EQ_INT(b.status, BATCH_IN_PROGRESS);
    batch_done(&b);
    EQ_RC(s->ops->file_get(s->self, &dflt, "file-in", &f, NULL), RC_OK);
    file_rec_done(&f);
}

/* At the first start of the new program, or at a later one. */
static void step_at(const char *path, bool may_fail)
{
    struct store *s;
    enum rc rc;

    rc = open_at(path, &s);
    if (rc != RC_OK) {
        OK(may_fail && fault_hit);
        EQ_RC(open_at(path, &s), RC_OK);
    }
    check_old_rows(s);
    store_close(s);
}

static void sweep_step(int code, const char *name)
{
    char path[400], row[64];
    unsigned total;

    arm(0, 0, 0);
    snprintf(path, sizeof path, "%s/step-%s.db", t_dir(), name);
    ledger_1_make(path);
    arm(0, 0, 0);
    step_at(path, false);
    total = calls;
    OK(total > 10);
    for (unsigned k = 1; k <= total; k++) {
        snprintf(row, sizeof row, "%s at call %u of %u", name, k, total);
        t_row(row);
        snprintf(path, sizeof path, "%s/step-%s-%u.db", t_dir(), name, k);
        arm(0, 0, 0);
        ledger_1_make(path);
        arm(k, 1, code);
        step_at(path, true);
        OK(fault_hit);
        IGNORE(remove(path) != 0); /* room for the next */
    }
    t_row(NULL);
}

TEST(a_step_of_the_schema_that_fails_anywhere_is_taken_at_the_next_start)
{
    install_vfs();
    sweep_step(SQLITE_FULL, "full");
    sweep_step(SQLITE_IOERR, "ioerr");
}
