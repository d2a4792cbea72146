/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=fsync,--wrap=rename */
/*
 * The ledger on a disk that forgets (forgetful_vfs.h): whatever was promised must be in
 * the ledger that opens after a power cut.
 */
#include "base/mem.h"
#include "store/store.h"
#include "tests/model/forgetful_vfs.h"

/* ---- the model ----------------------------------------------------------------------*/

static struct id input;
static struct {
    struct id id;
    bool promised, moved;
} all[400];
static unsigned n_all;
static char text[3000];

static struct store *open_ok(const char *path)
{
    struct store_sqlite_opts o = {.path = path};
    struct store *s = NULL;
    struct err e = {{0}};

    if (store_sqlite_open(&o, &s, &e) != RC_OK)
        FAIL("crash %u: %s", crashes, e.text);
    return s;
}

static void check_all(struct store *s)
{
    for (unsigned i = 0; i < n_all; i++) {
        struct batch b;
        enum rc rc = s->ops->batch_get(s->self, NULL, all[i].id.z, &b, NULL);

        if (rc != RC_OK && all[i].promised)
            FAIL("crash %u: batch %u was promised and is gone: %s", crashes, i,
                 rc_name(rc));
        if (rc != RC_OK)
            continue;
        if (all[i].moved && b.status != BATCH_IN_PROGRESS)
            FAIL("crash %u: the move of batch %u was promised and is gone", crashes, i);
        OK(!b.metadata || strlen(b.metadata) < sizeof text);
        batch_done(&b);
    }
}

static void crash_and_check(void)
{
    struct store *s;

    for (int i = 0; i < FILES; i++)
        crash_file(i);
    s = open_ok("after.db"); /* this also checks every page */
    check_all(s);
    store_close(s);
}

/* What a start shows is promised from then on. */
static void take_stock(struct store *s)
{
    for (unsigned i = 0; i < n_all; i++) {
        struct batch b;

        if (s->ops->batch_get(s->self, NULL, all[i].id.z, &b, NULL) != RC_OK)
            continue;
        all[i].promised = true;
        all[i].moved = b.status == BATCH_IN_PROGRESS;
        batch_done(&b);
    }
}

static enum rc change_one(struct store *s)
{
    enum rc rc;

    if (n_all && rnd(3) == 0) {
        unsigned i = rnd(n_all);

        if (!all[i].promised || all[i].moved)
            return RC_OK;
        rc = s->ops->batch_move(s->self, NULL, all[i].id.z, BATCH_EV_VALID, 7, NULL, NULL,
                                NULL);
        all[i].moved = rc == RC_OK;
    } else {
        struct batch b = {.id = id_make(ID_BATCH), .input_file = input, .created_at = 5};
        char keep = text[0];
        size_t n = rnd(sizeof text - 1);
        char last = text[n];

        CHECK(n_all < COUNTOF(all));
        text[n] = '\0';
        b.metadata = n ? text : NULL;
        all[n_all++].id = b.id;
        rc = s->ops->batch_add(s->self, &b, NULL, NULL, NULL);
        all[n_all - 1].promised = rc == RC_OK;
        text[n] = last;
        text[0] = keep;
    }
    return rc;
}

static struct store *begin(uint64_t seed, unsigned one_in)
{
    struct file_rec f = {.id = id_make(ID_FILE), .purpose = "batch", .created_at = 1};
    struct store *s;

    x = seed * 0x9e3779b97f4a7c15u;
    every = one_in;
    n_all = 0;
    memset(all, 0, sizeof all);
    memset(text, 'm', sizeof text - 1);
    for (int i = 0; i < FILES; i++) {
        IGNORE(remove(names[i]) != 0); /* it may not be there */
        forget(i);
    }
    try_crash = NULL;
    s = open_ok("ledger.db");
    input = f.id;
    EQ_RC(s->ops->file_add(s->self, &f, NULL, NULL), RC_OK);
    try_crash = crash_and_check;
    return s;
}

static void end(struct store *s)
{
    store_close(s);
    try_crash = NULL;
    for (int i = 0; i < FILES; i++)
        forget(i);
}

TEST_SLOW(a_power_cut_before_any_write_loses_no_promised_change, 60)
{
    install_vfs();
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct store *s = begin(seed, 3);

        for (unsigned i = 0; i < 60; i++) {
            EQ_RC(change_one(s), RC_OK);
            if (rnd(15) == 0) { /* an orderly stop */
                store_close(s);
                s = open_ok("ledger.db");
            }
        }
        end(s);
    }
    t_note("%u crashes", crashes);
    OK(crashes > 200);
}

TEST_SLOW(after_a_failed_sync_and_a_restart_what_is_shown_is_on_disk, 60)
{
    install_vfs();
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct store *s = begin(seed, 2);

        for (unsigned round = 0; round < 4; round++) {
            for (unsigned i = 0; i < 4; i++)
                EQ_RC(change_one(s), RC_OK);
            fail_sync_of = WAL;
            while (change_one(s) == RC_OK)
                continue;
            store_close(s); /* dead; the process ends, the page cache stays */
            if (rnd(2)) {   /* and the next start fails as well, at its checkpoint */
                struct store_sqlite_opts o = {.path = "ledger.db"};

                fail_sync_of = DB;
                EQ_RC(store_sqlite_open(&o, &s, NULL), RC_IO);
            }
            s = open_ok("ledger.db");
            take_stock(s);
            busy = true;
            crash_and_check();
            busy = false;
        }
        end(s);
    }
    OK(crashes > 100);
}

TEST(no_change_is_answered_before_its_sync)
{
    struct store *s;

    install_vfs();
    s = begin(1, 1);
    try_crash = NULL;
    for (unsigned i = 0; i < 30; i++) {
        unsigned before = syncs[WAL];
        struct batch b = {.id = id_make(ID_BATCH), .input_file = input, .created_at = 5};

        EQ_RC(s->ops->batch_add(s->self, &b, NULL, NULL, NULL), RC_OK);
        OK(syncs[WAL] > before);
    }
    end(s);
}
