/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=fsync */
/*
 * The ledger over a file system (faulty_vfs.h) whose n-th write, sync or truncation
 * fails: a full disk is survived, everything else ends the store for good, and what was
 * promised is there at the next start.
 */
#include "base/mem.h"
#include "store/store.h"
#include "tests/fault/faulty_vfs.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* ---- the scenario -------------------------------------------------------------------*/

static struct id input;
static struct {
    struct id id;
    bool promised, moved;
} all[60];
static unsigned n_all;
static unsigned deaths;
static char big[6000];

static void on_dead(void *ctx, const char *why)
{
    (void)ctx;
    OK(why[0]);
    deaths++;
}

static enum rc open_at(const char *path, struct store **ret, struct err *e)
{
    struct store_sqlite_opts o = {.path = path, .on_dead = on_dead};

    *ret = NULL;
    return store_sqlite_open(&o, ret, e);
}

static struct store *open_ok(const char *path)
{
    struct store *s;
    struct err e = {{0}};

    if (open_at(path, &s, &e) == RC_OK)
        return s;
    OK(fault_hit && e.text[0]);
    if (open_at(path, &s, &e) != RC_OK)
        FAIL("%s", e.text);
    return s;
}

static void check_all(struct store *s)
{
    for (unsigned i = 0; i < n_all; i++) {
        struct batch b;
        enum rc rc = s->ops->batch_get(s->self, NULL, all[i].id.z, &b, NULL);

        if (all[i].promised)
            EQ_RC(rc, RC_OK);
        else
            OK(rc == RC_OK || rc == RC_NOTFOUND);
        if (rc == RC_OK) {
            OK(b.status == BATCH_IN_PROGRESS || b.status == BATCH_VALIDATING);
            if (all[i].moved)
                EQ_INT(b.status, BATCH_IN_PROGRESS);
            batch_done(&b);
        }
    }
}

/* The store has failed: it says so from now on, and the next start is as good as new. */
static struct store *next_start(struct store *s, const char *path)
{
    struct file_rec f;
    struct batch b;

    EQ_INT(deaths, 1);
    EQ_RC(s->ops->batch_get(s->self, NULL, all[0].id.z, &b, NULL), RC_IO);
    EQ_RC(s->ops->file_get(s->self, NULL, input.z, &f, NULL), RC_IO);
    EQ_RC(s->ops->file_delete(s->self, NULL, input.z, 5, NULL), RC_IO);
    EQ_INT(deaths, 1);
    deaths = 0;
    store_close(s);
    s = open_ok(path);
    check_all(s);
    return s;
}

static struct store *add_one(struct store *s, const char *path)
{
    struct batch b = {
        .id = id_make(ID_BATCH), .input_file = input, .created_at = 5, .metadata = big};
    struct err e = {{0}};
    enum rc rc = s->ops->batch_add(s->self, &b, NULL, NULL, &e);

    if (rc == RC_NOSPACE) { /* nothing changed: once more */
        OK(fault_hit && e.text[0]);
        EQ_INT(deaths, 0);
        check_all(s);
        rc = s->ops->batch_add(s->self, &b, NULL, NULL, &e);
    }
    all[n_all++].id = b.id;
    if (rc != RC_OK) {
        OK(fault_hit && rc == RC_IO);
        s = next_start(s, path);
        rc = s->ops->batch_add(s->self, &b, NULL, NULL, &e);
        OK(rc == RC_OK || rc == RC_INVALID); /* it may have come through */
    }
    all[n_all - 1].promised = true;
    return s;
}

static struct store *move_one(struct store *s, const char *path, unsigned i)
{
    struct batch_change change = {.model = "m", .errors = big};
    struct err e = {{0}};
    struct batch b;
    enum rc rc = s->ops->batch_move(s->self, NULL, all[i].id.z, BATCH_EV_VALID, 6,
                                    &change, &b, &e);

    if (rc == RC_NOSPACE)
        rc = s->ops->batch_move(s->self, NULL, all[i].id.z, BATCH_EV_VALID, 6, &change,
                                &b, &e);
    if (rc != RC_OK) {
        OK(fault_hit && rc == RC_IO);
        s = next_start(s, path);
        rc = s->ops->batch_move(s->self, NULL, all[i].id.z, BATCH_EV_VALID, 6, &change,
                                &b, &e);
        OK(rc == RC_OK || rc == RC_CONFLICT);
    }
    EQ_INT(b.status, BATCH_IN_PROGRESS);
    batch_done(&b);
    all[i].moved = true;
    return s;
}

static void scenario(const char *path)
{
    struct file_rec f = {.id = id_make(ID_FILE), .purpose = "batch", .created_at = 1};
    struct store *s = open_ok(path);
    enum rc rc;

    n_all = deaths = 0;
    memset(all, 0, sizeof all);
    input = f.id;
    rc = s->ops->file_add(s->self, &f, NULL, NULL);
    if (rc == RC_NOSPACE)
        rc = s->ops->file_add(s->self, &f, NULL, NULL);
    if (rc != RC_OK) {
        s = next_start(s, path);
        rc = s->ops->file_add(s->self, &f, NULL, NULL);
        OK(rc == RC_OK || rc == RC_CONFLICT);
    }
    for (unsigned i = 0; i < 6; i++) {
        s = add_one(s, path);
        if (i % 2)
            s = move_one(s, path, i);
    }
    check_all(s);
    store_close(s);
    s = open_ok(path);
    check_all(s);
    s = add_one(s, path);
    store_close(s);
    s = open_ok(path);
    check_all(s);
    store_close(s);
    EQ_INT(deaths, 0);
}

static void sweep(int code, const char *name)
{
    char path[400], row[64];
    unsigned total;

    memset(big, 'x', sizeof big - 1);
    arm(0, 0, 0);
    snprintf(path, sizeof path, "%s/plain-%s.db", t_dir(), name);
    scenario(path);
    total = calls;
    OK(total > 30);
    for (unsigned k = 1; k <= total; k++) {
        snprintf(row, sizeof row, "%s at call %u of %u", name, k, total);
        t_row(row);
        snprintf(path, sizeof path, "%s/%s-%u.db", t_dir(), name, k);
        arm(k, 1, code);
        scenario(path);
        OK(fault_hit);
    }
    t_row(NULL);
}

TEST_SLOW(a_full_disk_at_any_write_changes_nothing_and_is_survived, 60)
{
    install_vfs();
    sweep(SQLITE_FULL, "full");
}

TEST_SLOW(any_other_error_ends_the_store_once_and_the_next_start_has_all_promises, 60)
{
    install_vfs();
    sweep(SQLITE_IOERR, "ioerr");
}

/* A group of changes is one transaction: a full disk refuses all of it. */
struct one {
    struct store *s;
    struct batch b;
    enum rc rc;
};

static void *add_in_thread(void *arg)
{
    struct one *x = arg;

    x->rc = x->s->ops->batch_add(x->s->self, &x->b, NULL, NULL, NULL);
    return NULL;
}

TEST(while_the_disk_is_full_every_change_is_refused_and_reads_go_on)
{
    struct file_rec f = {.id = id_make(ID_FILE), .purpose = "batch", .created_at = 1},
                    got;
    struct one x[8];
    pthread_t t[8];
    struct store *s;

    install_vfs();
    arm(0, 0, 0);
    s = open_ok("ledger.db");
    EQ_RC(s->ops->file_add(s->self, &f, NULL, NULL), RC_OK);
    arm(1, UINT32_MAX / 2, SQLITE_FULL);
    for (unsigned i = 0; i < 8; i++) {
        x[i].s = s;
        x[i].b =
            (struct batch){.id = id_make(ID_BATCH), .input_file = f.id, .created_at = 5};
        EQ_INT(pthread_create(&t[i], NULL, add_in_thread, &x[i]), 0);
    }
    for (unsigned i = 0; i < 8; i++) {
        EQ_INT(pthread_join(t[i], NULL), 0);
        EQ_RC(x[i].rc, RC_NOSPACE);
    }
    EQ_RC(s->ops->file_get(s->self, NULL, f.id.z, &got, NULL), RC_OK);
    file_rec_done(&got);
    EQ_INT(deaths, 0);
    arm(0, 0, 0);
    for (unsigned i = 0; i < 8; i++)
        EQ_RC(s->ops->batch_add(s->self, &x[i].b, NULL, NULL, NULL), RC_OK);
    store_close(s);
}

struct group {
    struct store *s;
    struct id batch; /* finalizing */
    bool good;
    struct id outputs[20];
};

/* Good changes, or moves that fail after their first row went in. */
static void *change_many(void *arg)
{
    struct group *g = arg;

    for (unsigned i = 0; i < COUNTOF(g->outputs); i++) {
        struct file_rec out = {.id = id_make(ID_FILE), .purpose = "batch_output"},
                        taken = {.id = input, .purpose = "batch_output"};
        struct batch_change change = {.output = &out, .error = &taken};

        g->outputs[i] = out.id;
        if (g->good)
            EQ_RC(g->s->ops->file_add(g->s->self, &out, NULL, NULL), RC_OK);
        else
            EQ_RC(g->s->ops->batch_move(g->s->self, NULL, g->batch.z, BATCH_EV_PUBLISHED,
                                        5, &change, NULL, NULL),
                  RC_INVALID);
    }
    return NULL;
}

TEST(a_change_that_fails_in_a_group_leaves_nothing_behind_and_hurts_no_other)
{
    struct file_rec f = {.id = id_make(ID_FILE), .purpose = "batch", .created_at = 1};
    struct group g[6];
    pthread_t t[6];
    struct store *s;

    install_vfs();
    arm(0, 0, 0);
    s = open_ok("ledger.db");
    input = f.id;
    EQ_RC(s->ops->file_add(s->self, &f, NULL, NULL), RC_OK);
    for (unsigned i = 0; i < 6; i++) {
        struct batch b = {.id = id_make(ID_BATCH),
                          .input_file = input,
                          .created_at = 5,
                          .status = BATCH_FINALIZING};

        EQ_RC(s->ops->batch_add(s->self, &b, NULL, NULL, NULL), RC_OK);
        g[i] = (struct group){.s = s, .batch = b.id, .good = i % 2};
    }
    slow_sync = true;
    for (unsigned i = 0; i < 6; i++)
        EQ_INT(pthread_create(&t[i], NULL, change_many, &g[i]), 0);
    for (unsigned i = 0; i < 6; i++)
        EQ_INT(pthread_join(t[i], NULL), 0);
    slow_sync = false;
    for (unsigned i = 0; i < 6; i++) {
        for (unsigned k = 0; k < COUNTOF(g[i].outputs); k++) {
            bool known;

            EQ_RC(s->ops->file_known(s->self, g[i].outputs[k].z, &known, NULL), RC_OK);
            EQ_INT(known, g[i].good);
        }
    }
    store_close(s);
}

/* SQLite's automatic checkpoint would hide this and try again when the kernel has
 * forgotten that the sync failed; the store must end instead. */
TEST(a_failed_sync_of_a_checkpoint_ends_the_store_and_loses_nothing)
{
    struct file_rec f = {.id = id_make(ID_FILE), .purpose = "batch", .created_at = 1};
    static char large[300000];
    struct batch b = {.created_at = 5, .metadata = large};
    struct store *s;

    install_vfs();
    memset(large, 'x', sizeof large - 1);
    arm(0, 0, 0);
    s = open_ok("ledger.db");
    input = b.input_file = f.id;
    EQ_RC(s->ops->file_add(s->self, &f, NULL, NULL), RC_OK);
    fail_database_sync = true;
    for (n_all = 0; n_all < 50; n_all++) {
        enum rc rc;

        b.id = all[n_all].id = id_make(ID_BATCH);
        rc = s->ops->batch_add(s->self, &b, NULL, NULL, NULL);
        if (rc != RC_OK) {
            EQ_RC(rc, RC_IO);
            break;
        }
        all[n_all].promised = true;
    }
    OK(n_all > 2 && n_all < 50);
    fail_database_sync = false;
    store_close(next_start(s, "ledger.db"));
}
