/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite_conn.h"
#include "base/fsio.h"
#include "base/guard.h"
#include "base/mem.h"
#include "store/schema.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

#define STATEMENTS        96u
#define CHECKPOINT_FRAMES 1000                 /* 4 MB of WAL: SQLite's own default */
#define QUICK_CHECK_BYTES (64u << 20)          /* larger ones would hold up the start */
#define CACHE_PRAGMA      "cache_size = -2048" /* KiB */

struct conn {
    sqlite3 *db;
    int frames; /* in the WAL */
    struct {
        const char *sql;
        sqlite3_stmt *st;
    } known[STATEMENTS];
    unsigned n_known;
};

/* ---- errors -------------------------------------------------------------------------*/

static enum rc rc_of_sqlite(int rc, int errnum)
{
    switch (rc) {
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
        return RC_CONFLICT;
    case SQLITE_IOERR_NOMEM:
        return RC_NOMEM;
    case SQLITE_IOERR_WRITE: /* SQLite knows ENOSPC as FULL, but not a quota */
        return rc_of_errno(errnum) == RC_NOSPACE ? RC_NOSPACE : RC_IO;
    default:
        break;
    }
    switch (rc & 0xff) {
    case SQLITE_FULL:
        return RC_NOSPACE;
    case SQLITE_NOMEM:
        return RC_NOMEM;
    case SQLITE_TOOBIG:
        return RC_LIMIT;
    case SQLITE_CONSTRAINT:
        return RC_INVALID;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return RC_CORRUPT;
    default:
        return RC_IO;
    }
}

enum rc sqlite_fail(sqlite3 *db, int sqlite_rc, const char *what, struct err *e)
{
    int errnum = sqlite3_system_errno(db);
    enum rc rc = rc_of_sqlite(sqlite_rc, errnum);

    const char *path = sqlite3_db_filename(db, "main"); /* NULL: it was not opened */

    /* Its own words for a lack of memory are about whatever it was doing. */
    err_set(e, rc, "cannot %s in '%s': %s (SQLite error %d)", what,
            path ? path : "ledger.db", rc == RC_NOMEM ? rc_text(rc) : sqlite3_errmsg(db),
            sqlite_rc);
    return errnum ? err_why(e, rc, errnum) : rc;
}

/* ---- statements ---------------------------------------------------------------------*/

enum rc conn_stmt(struct conn *c, const char *sql, sqlite3_stmt **ret, struct err *e)
{
    sqlite3_stmt *st = NULL;
    int rc;

    for (unsigned i = 0; i < c->n_known; i++) {
        if (c->known[i].sql == sql) {
            st = c->known[i].st;
            (void)sqlite3_reset(st); /* tells the error of its last run again */
            (void)sqlite3_clear_bindings(st);
            *ret = st;
            return RC_OK;
        }
    }
    rc = sqlite3_prepare_v3(c->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL);
    if (rc != SQLITE_OK)
        return sqlite_fail(c->db, rc, "prepare a statement", e);
    CHECK(c->n_known < STATEMENTS);
    c->known[c->n_known].sql = sql;
    c->known[c->n_known++].st = st;
    *ret = st;
    return RC_OK;
}

enum rc conn_step(struct conn *c, sqlite3_stmt *st, struct err *e)
{
    int rc = sqlite3_step(st);

    if (rc == SQLITE_ROW)
        return RC_OK;
    if (rc == SQLITE_DONE) {
        (void)sqlite3_reset(st); /* OK after DONE */
        return RC_NOTFOUND;
    }
    sqlite_fail(c->db, rc, "read or write", e);
    (void)sqlite3_reset(st); /* tells the same error again */
    return rc_of_sqlite(rc, sqlite3_system_errno(c->db));
}

enum rc conn_run(struct conn *c, sqlite3_stmt *st, int *ret_changes, struct err *e)
{
    enum rc rc = conn_step(c, st, e);

    if (rc == RC_OK)
        PANIC("a change gave a row: %s", sqlite3_sql(st));
    if (rc != RC_NOTFOUND)
        return rc;
    if (ret_changes)
        *ret_changes = sqlite3_changes(c->db);
    return RC_OK;
}

enum rc conn_exec(struct conn *c, const char *sql, struct err *e)
{
    sqlite3_stmt *st = NULL;
    enum rc rc = conn_stmt(c, sql, &st, e);

    return rc == RC_OK ? conn_run(c, st, NULL, e) : rc;
}

bool conn_in_transaction(const struct conn *c)
{
    return !sqlite3_get_autocommit(c->db);
}

enum rc conn_checkpoint(struct conn *c, struct err *e)
{
    int rc;

    if (c->frames < CHECKPOINT_FRAMES)
        return RC_OK;
    rc = sqlite3_wal_checkpoint_v2(c->db, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    c->frames = 0; /* the next commit tells the number again */
    if (rc == SQLITE_OK)
        return RC_OK;
    return sqlite_fail(c->db, rc, "do a checkpoint", e);
}

static int on_wal(void *ctx, sqlite3 *db, const char *name, int frames)
{
    struct conn *c = ctx;

    (void)db, (void)name;
    c->frames = frames;
    return SQLITE_OK;
}

/* ---- opening ------------------------------------------------------------------------*/

/* Runs one statement and compares its last answer; want NULL: any. */
static enum rc expect(sqlite3 *db, const char *sql, const char *want, struct err *e)
{
    const char *name = sqlite3_db_filename(db, "main");
    sqlite3_stmt *st = NULL;
    char got[80] = "";
    enum rc ret = RC_OK;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);

    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW && sqlite3_column_text(st, 0))
            snprintf(got, sizeof got, "%.79s", (const char *)sqlite3_column_text(st, 0));
    }
    if ((rc & 0xff) == SQLITE_BUSY)
        ret = err_set(e, RC_CONFLICT, "'%s' is in use by another program", name);
    else if (rc != SQLITE_DONE)
        ret = sqlite_fail(db, rc, "run a start-up statement", e);
    else if (want && strcmp(got, want) != 0)
        ret = err_set(e, RC_CORRUPT, "'%s' of '%s' says '%s', not '%s'", sql, name, got,
                      want);
    sqlite3_finalize(st);
    return ret;
}

/* Order matters: locking before WAL, and the checkpoint before any commit. */
static enum rc settle(sqlite3 *db, struct err *e)
{
    static const struct {
        const char *sql, *want;
    } all[] = {
        {"PRAGMA locking_mode = EXCLUSIVE", "exclusive"},
        {"PRAGMA journal_mode = WAL", "wal"},
        {GUARD(COMMIT_FULL) ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL",
         NULL},
        {"PRAGMA wal_checkpoint(TRUNCATE)", "0"},
        {"PRAGMA foreign_keys = ON", NULL},
        {"PRAGMA trusted_schema = OFF", NULL},
        {"PRAGMA cell_size_check = ON", NULL},
        {"PRAGMA mmap_size = 0", NULL},
        {"PRAGMA temp_store = MEMORY", NULL},
        {"PRAGMA " CACHE_PRAGMA, NULL},
        {"PRAGMA journal_size_limit = 16777216", "16777216"},
    };
    enum rc rc = RC_OK;

    for (size_t i = 0; rc == RC_OK && i < COUNTOF(all); i++)
        rc = expect(db, all[i].sql, all[i].want, e);
    return rc;
}

static enum rc check_pages(sqlite3 *db, uint64_t bytes, struct err *e)
{
    return bytes < QUICK_CHECK_BYTES ? expect(db, "PRAGMA quick_check(1)", "ok", e)
                                     : RC_OK;
}

/* Makes the file when it is not there, and its name durable. */
static enum rc make_file(const char *path, const char *dir, uint64_t *ret_bytes,
                         struct err *e)
{
    int fd = -1;
    enum rc rc = fs_open(path, O_RDWR | O_CREAT, 0600, &fd, e);

    if (rc == RC_OK)
        rc = fs_size(fd, ret_bytes, path, e);
    fs_close(&fd);
    return rc == RC_OK ? fs_sync_dir(dir, e) : rc;
}

static enum rc copy_bytes(const char *from, int out, const char *to, struct err *e)
{
    size_t cap = (size_t)1 << 20, n = cap;
    char *buf = mem_alloc(cap);
    uint64_t at = 0;
    int in = -1;
    enum rc rc = fs_open(from, O_RDONLY, 0, &in, e);

    for (; rc == RC_OK && n == cap; at += n) {
        rc = fs_pread(in, buf, cap, at, &n, from, e);
        if (rc == RC_OK)
            rc = fs_pwrite(out, buf, n, at, to, e);
    }
    fs_close(&in);
    mem_free(buf);
    return rc;
}

/*
 * A log is there only after a stop that was not in order, and when a failed sync was the
 * reason, parts of it may be in the page cache alone.  SQLite would play all of it into
 * the database; a power cut soon after would leave the shorter log of the disk beside
 * that database, and playing that one turns some pages back and others not.  So the log
 * becomes a new file first, which is on disk as it is read.
 */
static enum rc renew_log(const char *path, const char *dir, struct err *e)
{
    char log[FS_PATH_CAP], tmp[FS_PATH_CAP];
    int out = -1;
    enum rc rc;

    if (str_fmt(log, sizeof log, "%s-wal", path) != RC_OK ||
        str_fmt(tmp, sizeof tmp, "%s.tmp", log) != RC_OK)
        return err_set(e, RC_LIMIT, "the path '%.200s' is too long", path);
    if (access(log, F_OK) < 0)
        return RC_OK;
    rc = fs_open(tmp, O_WRONLY | O_CREAT | O_TRUNC, 0600, &out, e);
    if (rc == RC_OK)
        rc = copy_bytes(log, out, tmp, e);
    if (rc == RC_OK)
        rc = fs_sync(out, tmp, e);
    if (rc == RC_OK)
        rc = fs_close_checked(&out, tmp, e);
    if (rc == RC_OK)
        rc = fs_rename(tmp, log, e);
    if (rc == RC_OK)
        return fs_sync_dir(dir, e);
    fs_close(&out);
    IGNORE(fs_unlink(tmp, NULL)); /* the first failure is the one to tell */
    return rc;
}

static enum rc open_file(struct conn *c, const char *path, struct err *e)
{
    int rc = sqlite3_open_v2(
        path, &c->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
        NULL);

    if (!c->db)
        return err_set(e, RC_NOMEM, "no memory for a database connection");
    if (rc != SQLITE_OK)
        return sqlite_fail(c->db, rc, "open the database", e);
    (void)sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(c->db, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    (void)sqlite3_db_config(c->db, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
    (void)sqlite3_wal_hook(c->db, on_wal, c); /* instead of the automatic checkpoints */
    return RC_OK;
}

enum rc conn_open(const char *path, struct conn **ret, struct err *e)
{
    struct conn *c = mem_new(struct conn);
    const char *slash = strrchr(path, '/');
    char dir[FS_PATH_CAP] = ".";
    uint64_t bytes = 0;
    enum rc rc = RC_OK;

    if (slash)
        rc = str_fmt(dir, sizeof dir, "%.*s", slash == path ? 1 : (int)(slash - path),
                     path);
    if (rc == RC_OK)
        rc = make_file(path, dir, &bytes, e);
    if (rc == RC_OK && GUARD(WAL_RENEWED))
        rc = renew_log(path, dir, e);
    if (rc == RC_OK)
        rc = open_file(c, path, e);
    if (rc == RC_OK)
        rc = settle(c->db, e);
    if (rc == RC_OK)
        rc = check_pages(c->db, bytes, e);
    if (rc == RC_OK)
        rc = schema_migrate(c->db, path, e);
    if (rc != RC_OK) {
        conn_close(c, false);
        return rc;
    }
    *ret = c;
    return RC_OK;
}

struct conn *conn_close(struct conn *c, bool healthy)
{
    if (!c)
        return NULL;
    for (unsigned i = 0; i < c->n_known; i++)
        sqlite3_finalize(c->known[i].st);
    if (c->db && !healthy)
        (void)sqlite3_db_config(c->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    if (sqlite3_close(c->db) != SQLITE_OK)
        PANIC("a statement of the ledger was left open");
    mem_free(c);
    return NULL;
}
