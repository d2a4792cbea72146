/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fsio.h"
#include "store/schema.h"
#include "tests/unit/store/store_conformance.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

static struct store *open_at(const char *path)
{
    struct store_sqlite_opts o = {.path = path};
    struct store *s = NULL;
    struct err e = {{0}};

    if (store_sqlite_open(&o, &s, &e) != RC_OK)
        FAIL("%s", e.text);
    return s;
}

static struct store *conformance_open(bool again)
{
    struct stat st;

    OK(again || stat("ledger.db", &st) < 0);
    return open_at("ledger.db");
}

static void refused(const char *path, enum rc want, const char *said)
{
    struct store_sqlite_opts o = {.path = path};
    struct store *s = NULL;
    struct err e = {{0}};

    EQ_RC(store_sqlite_open(&o, &s, &e), want);
    if (!strstr(e.text, said))
        FAIL("'%s' does not say '%s'", e.text, said);
}

static void sql(const char *path, const char *text)
{
    sqlite3 *db = NULL;

    EQ_INT(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
        FAIL("%s: %s", text, sqlite3_errmsg(db));
    EQ_INT(sqlite3_close(db), SQLITE_OK);
}

static void put(const char *path, const char *p, size_t n)
{
    int fd = -1;

    EQ_RC(fs_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd, NULL), RC_OK);
    EQ_RC(fs_write(fd, p, n, path, NULL), RC_OK);
    fs_close(&fd);
}

TEST(a_file_that_is_no_database_is_refused_and_left_as_it_is)
{
    static const char text[] = "this is somebody's diary, and quite long enough to be "
                               "taken for the head of a database file of some kind......";
    char *now = NULL;
    size_t n;

    put("diary", text, sizeof text);
    refused("diary", RC_CORRUPT, "not a database");
    EQ_RC(fs_slurp("diary", 1000, &now, &n, NULL), RC_OK);
    EQ_STR(((struct str){now, n}), ((struct str){text, sizeof text}));
    mem_free(now);
}

TEST(the_database_of_another_program_is_refused)
{
    sql("other.db", "CREATE TABLE t (x); INSERT INTO t VALUES (1)");
    refused("other.db", RC_CORRUPT, "another program");
    sql("marked.db", "PRAGMA application_id = 77");
    refused("marked.db", RC_CORRUPT, "another program");
}

TEST(a_newer_schema_is_refused_with_both_numbers)
{
    store_close(open_at("ledger.db"));
    sql("ledger.db", "PRAGMA user_version = 999");
    refused("ledger.db", RC_CORRUPT, "schema 999");
    refused("ledger.db", RC_CORRUPT, "newer batchd");
}

TEST(a_missing_directory_is_told_with_the_path)
{
    refused("no/such/dir/ledger.db", RC_NOTFOUND, "no/such/dir");
}

TEST(a_ledger_in_use_cannot_be_opened_a_second_time)
{
    struct store *s = open_at("ledger.db");

    refused("ledger.db", RC_CONFLICT, "in use");
    (void)c_add_file(s, 1, "batch");
    store_close(s);
}

TEST(the_file_is_private_marked_and_in_wal_mode)
{
    struct store *s = open_at("ledger.db");
    struct stat st;
    char *raw = NULL;
    size_t n;

    (void)c_add_file(s, 1, "batch");
    EQ_INT(stat("ledger.db", &st), 0);
    EQ_INT(st.st_mode & 0777, 0600);
    EQ_INT(stat("ledger.db-wal", &st), 0);
    OK(st.st_size > 0);
    EQ_INT(stat("ledger.db-shm", &st), -1); /* exclusive locking needs none */
    store_close(s);
    EQ_RC(fs_slurp("ledger.db", 1 << 20, &raw, &n, NULL), RC_OK);
    EQ_INT(raw[18], 2); /* WAL */
    OK(memcmp(raw + 68, "batc", 4) == 0);
    EQ_INT((uint8_t)raw[63], schema_version());
    mem_free(raw);
}

TEST(the_log_of_a_process_that_died_is_taken_over_and_emptied_before_the_first_change)
{
    struct store *s = open_at("ledger.db");
    struct id id = c_add_file(s, 1, "batch");
    struct file_rec f;
    struct stat st;
    char *db = NULL, *wal = NULL;
    size_t n, wal_n;

    EQ_RC(fs_slurp("ledger.db", 1 << 20, &db, &n, NULL), RC_OK);
    EQ_RC(fs_slurp("ledger.db-wal", 1 << 20, &wal, &wal_n, NULL), RC_OK);
    put("crashed.db", db, n);
    put("crashed.db-wal", wal, wal_n);
    store_close(s);
    s = open_at("crashed.db");
    EQ_INT(stat("crashed.db-wal", &st), 0);
    EQ_INT(st.st_size, 0);
    EQ_RC(s->ops->file_get(s->self, NULL, id.z, &f, NULL), RC_OK);
    file_rec_done(&f);
    store_close(s);
    mem_free(db);
    mem_free(wal);
}

TEST(a_torn_log_loses_nothing_that_came_before)
{
    struct store *s = open_at("ledger.db");
    struct id first = c_add_file(s, 1, "batch"), second;
    struct file_rec f;
    struct stat st;
    char *db = NULL, *wal = NULL;
    size_t n, wal_n, first_end;

    EQ_INT(stat("ledger.db-wal", &st), 0);
    first_end = (size_t)st.st_size;
    second = c_add_file(s, 2, "batch");
    EQ_RC(fs_slurp("ledger.db", 1 << 20, &db, &n, NULL), RC_OK);
    EQ_RC(fs_slurp("ledger.db-wal", 1 << 20, &wal, &wal_n, NULL), RC_OK);
    store_close(s);
    OK(wal_n > first_end);
    for (size_t cut = first_end; cut <= wal_n;
         cut += cut + 997 <= wal_n ? 997 : 1 + wal_n - cut) {
        bool whole = false;

        put("crashed.db", db, n);
        put("crashed.db-wal", wal, cut);
        s = open_at("crashed.db");
        EQ_RC(s->ops->file_get(s->self, NULL, first.z, &f, NULL), RC_OK);
        file_rec_done(&f);
        EQ_RC(s->ops->file_known(s->self, second.z, &whole, NULL), RC_OK);
        if (whole)
            OK(cut > first_end);
        store_close(s);
    }
    mem_free(db);
    mem_free(wal);
}

TEST(the_log_is_checkpointed_when_it_has_grown)
{
    struct store *s = open_at("ledger.db");
    struct id input = c_add_file(s, 1, "batch");
    size_t n = 200000;
    char *big = mem_alloc(n + 1);
    struct stat st;

    memset(big, 'x', n);
    for (unsigned i = 0; i < 80; i++) { /* 16 MB of log, were it let grow */
        struct batch b = c_batch(&input);

        b.metadata = big;
        EQ_RC(s->ops->batch_add(s->self, &b, NULL, NULL, NULL), RC_OK);
    }
    EQ_INT(stat("ledger.db-wal", &st), 0);
    OK(st.st_size > 0 && st.st_size < 8 << 20);
    EQ_INT(stat("ledger.db", &st), 0);
    OK(st.st_size > 8 << 20);
    store_close(s);
    mem_free(big);
}

struct dead {
    unsigned times;
    char why[512];
};

static void on_dead(void *ctx, const char *why)
{
    struct dead *d = ctx;

    d->times++;
    EQ_RC(str_fmt(d->why, sizeof d->why, "%s", why), RC_OK);
}

TEST(a_row_that_makes_no_sense_ends_the_store_and_says_so_once)
{
    struct dead dead = {0};
    struct store_sqlite_opts o = {.path = "ledger.db", .on_dead = on_dead, .ctx = &dead};
    struct store *s = open_at("ledger.db");
    struct id input = c_add_file(s, 1, "batch"), id = c_add_batch(s, &input);
    struct file_rec f = c_file(1, "batch");
    struct batch b;
    struct err e;

    store_close(s);
    sql("ledger.db", "UPDATE batches SET status = 'on_holiday'");
    EQ_RC(store_sqlite_open(&o, &s, NULL), RC_OK);
    EQ_RC(s->ops->batch_get(s->self, NULL, id.z, &b, &e), RC_CORRUPT);
    OK(strstr(e.text, id.z));
    EQ_RC(s->ops->file_add(s->self, &f, NULL, &e), RC_CORRUPT);
    OK(strstr(e.text, id.z)); /* why it is dead */
    EQ_RC(s->ops->file_get(s->self, NULL, input.z, &f, &e), RC_CORRUPT);
    EQ_RC(s->ops->batch_move(s->self, NULL, id.z, BATCH_EV_VALID, 5, NULL, &b, NULL),
          RC_CORRUPT);
    store_close(s);
    EQ_INT(dead.times, 1);
    OK(strstr(dead.why, id.z));
}

TEST(a_damaged_page_is_found_at_the_start)
{
    struct store *s = open_at("ledger.db");
    struct stat st;
    char junk[4096];
    int fd = -1;

    for (unsigned i = 0; i < 200; i++)
        (void)c_add_file(s, 1, "batch");
    store_close(s);
    EQ_INT(stat("ledger.db", &st), 0);
    memset(junk, 0xa5, sizeof junk);
    EQ_RC(fs_open("ledger.db", O_WRONLY, 0, &fd, NULL), RC_OK);
    EQ_RC(fs_pwrite(fd, junk, sizeof junk, (uint64_t)st.st_size - 3 * 4096, "", NULL),
          RC_OK);
    fs_close(&fd);
    refused("ledger.db", RC_CORRUPT, "ledger.db");
}

/* The plans that keep long lists and large ledgers quick. */
TEST(no_query_of_the_hot_paths_walks_a_whole_table)
{
    static const struct {
        const char *name, *sql, *want;
    } rows[] = {
        {"get", "SELECT model FROM batches WHERE id = ?1", "USING INDEX"},
        {"page", "SELECT id FROM batches WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2",
         "INTEGER PRIMARY KEY"},
        {"a project's page",
         "SELECT id FROM batches WHERE seq < ?1 AND project = ?3"
         " ORDER BY seq DESC LIMIT ?2",
         "batches_by_project"},
        {"a project's live batches",
         "SELECT count(*) FROM batches WHERE project = ?1 AND status IN"
         " ('validating', 'in_progress', 'finalizing', 'cancelling')",
         "COVERING INDEX batches_live_by_project"},
        {"an idempotency key",
         "SELECT id FROM batches WHERE project = ?1 AND idempotency_key = ?2",
         "batches_idempotency"},
        {"reap",
         "SELECT id FROM files WHERE deleted_at IS NOT NULL AND NOT EXISTS"
         " (SELECT 1 FROM batches WHERE input_file = files.id AND status IN"
         " ('validating', 'in_progress', 'finalizing', 'cancelling'))"
         " ORDER BY seq LIMIT ?1",
         "files_deleted"},
        {"reap, inner",
         "SELECT 1 FROM batches WHERE input_file = ?1 AND status IN"
         " ('validating', 'in_progress', 'finalizing', 'cancelling')",
         "batches_live"},
        {"expire",
         "UPDATE files SET deleted_at = ?1 WHERE expires_at IS NOT NULL"
         " AND expires_at <= ?1 AND deleted_at IS NULL",
         "files_to_expire"},
        {"purpose",
         "SELECT id FROM files WHERE deleted_at IS NULL AND seq < ?1 AND project = ?4"
         " AND purpose = ?3 ORDER BY seq DESC LIMIT ?2",
         "files_by_purpose"},
        {"a project's files",
         "SELECT id FROM files WHERE deleted_at IS NULL AND seq < ?1 AND project = ?4"
         " ORDER BY seq DESC LIMIT ?2",
         "files_by_project"},
        {"a project's bytes",
         "SELECT count(*), total(bytes) FROM files WHERE deleted_at IS NULL"
         " AND project = ?1",
         "COVERING INDEX files_by_project"},
        {"all bytes", "SELECT count(*), total(bytes) FROM files WHERE deleted_at IS NULL",
         "COVERING INDEX files_by_project"},
        {"a project's parts",
         "SELECT 0, total(bytes) FROM parts WHERE done = 0 AND project = ?1",
         "COVERING INDEX parts_pending"},
        {"an upload's parts",
         "SELECT count(*), total(bytes) FROM parts WHERE upload = ?1",
         "COVERING INDEX parts_by_upload"},
        {"parts to delete", "SELECT id FROM parts WHERE done = 1 ORDER BY seq LIMIT ?1",
         "parts_done"},
        {"uploads to expire",
         "UPDATE uploads SET status = 'expired' WHERE status = 'pending'"
         " AND expires_at <= ?1",
         "uploads_to_expire"},
        {"uploads to forget",
         "DELETE FROM uploads WHERE ended_at IS NOT NULL AND ended_at <= ?1",
         "uploads_ended"},
        {"events due",
         "SELECT event FROM outbox WHERE settled_at IS NULL AND next_at <= ?1"
         " ORDER BY next_at, seq LIMIT ?2",
         "outbox_due"},
        {"events of a batch",
         "SELECT event FROM outbox WHERE batch = ?1 AND (?2 IS NULL OR project = ?2)"
         " ORDER BY seq",
         "outbox_by_batch"},
        {"events to forget",
         "DELETE FROM outbox WHERE settled_at IS NOT NULL AND settled_at < ?1",
         "outbox_settled"},
    };
    sqlite3 *db = NULL;

    store_close(open_at("ledger.db"));
    EQ_INT(sqlite3_open("ledger.db", &db), SQLITE_OK);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        sqlite3_stmt *st = NULL;
        char text[1000];

        t_row(rows[i].name);
        EQ_RC(str_fmt(text, sizeof text, "EXPLAIN QUERY PLAN %s", rows[i].sql), RC_OK);
        EQ_INT(sqlite3_prepare_v2(db, text, -1, &st, NULL), SQLITE_OK);
        EQ_INT(sqlite3_step(st), SQLITE_ROW);
        if (!strstr((const char *)sqlite3_column_text(st, 3), rows[i].want))
            FAIL("the plan is: %s", sqlite3_column_text(st, 3));
        EQ_INT(sqlite3_finalize(st), SQLITE_OK);
    }
    EQ_INT(sqlite3_close(db), SQLITE_OK);
}
