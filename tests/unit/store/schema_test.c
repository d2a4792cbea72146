/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an older program wrote is brought up to date at the start, and rows that make no
 * sense are told.
 */
#include "store/schema.h"
#include "base/mem.h"
#include "store/store.h"
#include "tests/lib/ledger_1.h"

#include <unistd.h>

static const struct id dflt = {PROJECT_DEFAULT}, team = {"team"};

static struct store *open_ok(void)
{
    struct store_sqlite_opts o = {.path = "ledger.db"};
    struct store *s = NULL;
    struct err e = {{0}};

    if (store_sqlite_open(&o, &s, &e) != RC_OK)
        FAIL("%s", e.text);
    return s;
}

static void sql(const char *text)
{
    sqlite3 *db = NULL;

    EQ_INT(sqlite3_open("ledger.db", &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
        FAIL("%s: %s", text, sqlite3_errmsg(db));
    EQ_INT(sqlite3_close(db), SQLITE_OK);
}

/* ---- from step 1 --------------------------------------------------------------------*/

static void check_files(struct store *s)
{
    struct file_query q = {.project = &dflt, .limit = 10, .ascending = true};
    static const char *const want[] = {"file-in", "file-out", "file-old"};
    struct file_rec *all = NULL, f = {0};
    size_t n;
    bool more, known;

    EQ_RC(s->ops->file_list(s->self, &q, &all, &n, &more, NULL), RC_OK);
    EQ_INT(n, COUNTOF(want));
    for (size_t i = 0; i < COUNTOF(want); i++) {
        EQ_Z(all[i].id.z, want[i]);
        EQ_Z(all[i].project.z, "default");
        file_rec_done(&all[i]);
    }
    mem_free(all);
    EQ_RC(s->ops->file_get(s->self, &dflt, "file-old", &f, NULL), RC_OK);
    EQ_Z(f.filename, "old");
    EQ_INT(f.bytes, 5);
    EQ_INT(f.expires_at, 1600000900);
    file_rec_done(&f);
    EQ_RC(s->ops->file_get(s->self, &dflt, "file-gone", &f, NULL), RC_NOTFOUND);
    EQ_RC(s->ops->file_known(s->self, "file-gone", &known, NULL), RC_OK);
    OK(known);
    EQ_RC(s->ops->file_get(s->self, &dflt, "file-named", &f, NULL), RC_NOTFOUND);
    EQ_RC(s->ops->file_get(s->self, &team, "file-named", &f, NULL), RC_OK);
    file_rec_done(&f);
}

static void check_batches(struct store *s)
{
    struct batch *live = NULL, b;
    struct project_usage use;
    int64_t floor;
    size_t n;

    EQ_RC(s->ops->batch_get(s->self, &dflt, "batch_done", &b, NULL), RC_OK);
    EQ_INT(b.status, BATCH_COMPLETED);
    EQ_Z(b.output_file.z, "file-out");
    EQ_INT(b.counts.completed, 9);
    OK(b.has_usage && b.usage.total == UINT64_MAX);
    EQ_Z(b.model, "some-model");
    EQ_Z(b.metadata, "{\"a\":\"b\"}");
    EQ_INT(b.completed_at, 1700000400);
    OK(!b.priority && !b.idle && !b.paused && !b.hold && !b.reused &&
       id_none(&b.continue_from));
    OK(!b.callback_url && !b.idempotency_key);
    batch_done(&b);
    EQ_RC(s->ops->batch_live(s->self, &live, &n, NULL), RC_OK);
    EQ_INT(n, 2);
    EQ_Z(live[0].id.z, "batch_live");
    EQ_Z(live[0].project.z, "default");
    EQ_Z(live[1].id.z, "batch_team");
    EQ_Z(live[1].project.z, "team");
    OK(live[1].input_missing);
    batch_done(&live[0]);
    batch_done(&live[1]);
    mem_free(live);
    EQ_RC(s->ops->usage_of(s->self, &dflt, &use, NULL), RC_OK);
    EQ_INT(use.files, 3);
    EQ_INT(use.bytes, 1082);
    EQ_INT(use.live_batches, 1);
    EQ_RC(s->ops->clock_floor(s->self, &floor, NULL), RC_OK);
    EQ_INT(floor, 1700000900);
}

TEST(a_ledger_of_the_first_step_keeps_all_rows_and_what_had_no_project_is_the_defaults)
{
    struct store *s;

    ledger_1_make("ledger.db");
    for (unsigned i = 0; i < 2; i++) { /* at the step, and at the next start */
        s = open_ok();
        check_files(s);
        check_batches(s);
        store_close(s);
    }
}

/* The list goes on in its order, and a file is held by the batch of before. */
TEST(what_is_added_after_a_step_stands_behind_what_was_there)
{
    struct upload_rec u = {
        .id = {"upload_1"}, .project = dflt, .purpose = "batch", .created_at = 5};
    struct batch b = {.id = {"batch_new"}, .project = dflt, .created_at = 6}, *all = NULL;
    struct id reaped[9];
    struct store *s;
    size_t n;
    bool more;

    ledger_1_make("ledger.db");
    s = open_ok();
    EQ_RC(s->ops->upload_add(s->self, &u, NULL), RC_OK);
    EQ_RC(s->ops->batch_add(s->self, &b, NULL, NULL, NULL), RC_OK);
    EQ_RC(s->ops->batch_list(s->self, &dflt, "batch_new", 9, &all, &n, &more, NULL),
          RC_OK);
    EQ_INT(n, 2);
    EQ_Z(all[0].id.z, "batch_live");
    EQ_Z(all[1].id.z, "batch_done");
    batch_done(&all[0]);
    batch_done(&all[1]);
    mem_free(all);
    EQ_RC(s->ops->file_reap(s->self, 1700001000, reaped, COUNTOF(reaped), &n, NULL),
          RC_OK);
    EQ_INT(n, 1);
    EQ_Z(reaped[0].z, "file-old");
    store_close(s);
}

/* ---- rows that make no sense --------------------------------------------------------*/

static enum rc get_upload(struct store *s, struct err *e)
{
    struct upload_rec u = {0};
    enum rc rc = s->ops->upload_get(s->self, NULL, "upload_1", &u, e);

    upload_rec_done(&u);
    return rc;
}

static enum rc list_parts(struct store *s, struct err *e)
{
    struct part_rec *all = NULL;
    size_t n;
    enum rc rc = s->ops->part_list(s->self, NULL, "upload_1", &all, &n, e);

    mem_free(all);
    return rc;
}

static enum rc reap_parts(struct store *s, struct err *e)
{
    struct id some[2];
    size_t n;

    return s->ops->upload_reap(s->self, 6, some, 2, &n, e);
}

static enum rc list_events(struct store *s, struct err *e)
{
    struct outbox_rec *all = NULL;
    size_t n = 0;
    enum rc rc = s->ops->outbox_list(s->self, NULL, "batch_done", &all, &n, e);

    outbox_free(all, n);
    return rc;
}

static enum rc due_events(struct store *s, struct err *e)
{
    struct outbox_rec *all = NULL;
    size_t n = 0;
    enum rc rc = s->ops->outbox_due(s->self, 1700001000, 9, &all, &n, e);

    outbox_free(all, n);
    return rc;
}

static enum rc get_batch(struct store *s, struct err *e)
{
    struct batch b = {0};
    enum rc rc = s->ops->batch_get(s->self, NULL, "batch_done", &b, e);

    batch_done(&b);
    return rc;
}

#define LONG "0123456789012345678901234567890123456789012345678901234567890123456789"

static const struct {
    const char *name, *sql;
    enum rc (*call)(struct store *s, struct err *e);
    const char *says;
} damages[] = {
    {"an upload's status", "UPDATE uploads SET status = 'odd'", get_upload, "upload_1"},
    {"an upload's file", "UPDATE uploads SET file = '" LONG "'", get_upload, "upload_1"},
    {"an upload's purpose", "UPDATE uploads SET purpose = '" LONG "'", get_upload,
     "upload_1"},
    {"a part's id", "UPDATE parts SET id = '" LONG "'", list_parts, "0123"},
    {"a part's id, ended", "UPDATE parts SET done = 1, id = '" LONG "'", reap_parts,
     "0123"},
    {"an event's id", "UPDATE outbox SET event = '" LONG "'", list_events, "0123"},
    {"an event's type", "UPDATE outbox SET type = '" LONG "'", due_events, "evt_1"},
    {"a batch's first", "UPDATE batches SET continue_from = '" LONG "'", get_batch,
     "batch_done"},
    {"a key without its hash", "UPDATE batches SET idempotency_key = 'k' || id",
     get_batch, "batch_done"},
    {"a key with half a hash",
     "UPDATE batches SET idempotency_key = 'k' || id, request_hash = zeroblob(16)",
     get_batch, "batch_done"},
};

static unsigned deaths;

static void on_dead(void *ctx, const char *why)
{
    (void)ctx;
    OK(why[0]);
    deaths++;
}

TEST(rows_that_make_no_sense_are_told_by_their_id_and_end_the_store)
{
    struct store_sqlite_opts o = {.path = "ledger.db", .on_dead = on_dead};

    for (size_t i = 0; i < COUNTOF(damages); i++) {
        struct store *s;
        struct err e = {{0}};

        t_row(damages[i].name);
        IGNORE(unlink("ledger.db") < 0); /* not there the first time */
        ledger_1_make("ledger.db");
        store_close(open_ok());
        sql("INSERT INTO uploads VALUES (1, 'upload_1', 'default', 'pending', 'batch',"
            " 'n', 10, 5, 99, NULL, 0, NULL);"
            "INSERT INTO parts VALUES (1, 'part_1', 'default', 'upload_1', 5,"
            " zeroblob(32), 6, 0);"
            "INSERT INTO outbox VALUES (1, 'evt_1', 'default', 'batch_done',"
            " 'batch.completed', 'hook', 7, 7, 0, NULL, 0, 0, NULL)");
        EQ_RC(store_sqlite_open(&o, &s, NULL), RC_OK);
        EQ_RC(damages[i].call(s, &e), RC_OK);
        store_close(s);
        sql(damages[i].sql);
        deaths = 0;
        EQ_RC(store_sqlite_open(&o, &s, NULL), RC_OK);
        EQ_RC(damages[i].call(s, &e), RC_CORRUPT);
        if (!strstr(e.text, damages[i].says))
            FAIL("'%s' does not say '%s'", e.text, damages[i].says);
        EQ_INT(deaths, 1);
        store_close(s);
    }
    t_row(NULL);
}

TEST(no_upload_has_more_parts_than_it_may)
{
    struct part_rec p = {.id = {"part_a"}, .created_at = 6},
                    q = {.id = {"part_b"}, .created_at = 6};
    struct store *s = open_ok();
    struct err e = {{0}};

    store_close(s);
    sql("INSERT INTO uploads VALUES (1, 'upload_1', 'default', 'pending', 'batch', 'n',"
        " 10, 5, 99, NULL, 0, NULL);"
        "WITH RECURSIVE k (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < 9999)"
        "INSERT INTO parts SELECT i, 'part_' || i, 'default', 'upload_1', 0,"
        " zeroblob(32), 6, 0 FROM k");
    s = open_ok();
    EQ_INT(UPLOAD_PARTS_MAX, 10000);
    EQ_RC(s->ops->part_add(s->self, NULL, "upload_1", &p, NULL, NULL), RC_OK);
    EQ_RC(s->ops->part_add(s->self, NULL, "upload_1", &q, NULL, &e), RC_LIMIT);
    OK(strstr(e.text, "10000"));
    store_close(s);
}
