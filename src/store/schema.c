/* SPDX-License-Identifier: Apache-2.0 */
#include "store/schema.h"

#include "store/sqlite_conn.h"

#include <sqlite3.h>
#include <stdio.h>

/* A batch is live while something of it is still to be done; the partial indexes hold
 * only such rows, so their queries must say it in these words (sqlite_value.h). */
static const char *const steps[] = {
    /* 1: files and batches.  seq is the order of lists: it only grows, also after
     * deletes. */
    "CREATE TABLE meta ("
    "  key TEXT PRIMARY KEY,"
    "  value INTEGER NOT NULL"
    ") STRICT;"
    "CREATE TABLE files ("
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  id TEXT NOT NULL UNIQUE,"
    "  project TEXT NOT NULL,"
    "  purpose TEXT NOT NULL,"
    "  filename TEXT NOT NULL,"
    "  bytes INTEGER NOT NULL CHECK (bytes >= 0),"
    "  sha256 BLOB NOT NULL CHECK (length(sha256) = 32),"
    "  created_at INTEGER NOT NULL,"
    "  expires_at INTEGER,"
    "  deleted_at INTEGER"
    ") STRICT;"
    "CREATE INDEX files_by_purpose ON files (purpose, seq) WHERE deleted_at IS NULL;"
    "CREATE INDEX files_to_expire ON files (expires_at)"
    "  WHERE expires_at IS NOT NULL AND deleted_at IS NULL;"
    "CREATE INDEX files_deleted ON files (seq) WHERE deleted_at IS NOT NULL;"
    "CREATE TABLE batches ("
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  id TEXT NOT NULL UNIQUE,"
    "  project TEXT NOT NULL,"
    "  endpoint TEXT NOT NULL,"
    "  status TEXT NOT NULL,"
    "  expiring INTEGER NOT NULL CHECK (expiring IN (0, 1)),"
    "  input_missing INTEGER NOT NULL CHECK (input_missing IN (0, 1)),"
    "  output_expires_after INTEGER NOT NULL,"
    "  completion_window TEXT NOT NULL,"
    "  input_file TEXT NOT NULL,"
    "  output_file TEXT,"
    "  error_file TEXT,"
    "  created_at INTEGER NOT NULL,"
    "  in_progress_at INTEGER,"
    "  expires_at INTEGER,"
    "  finalizing_at INTEGER,"
    "  completed_at INTEGER,"
    "  failed_at INTEGER,"
    "  expired_at INTEGER,"
    "  cancelling_at INTEGER,"
    "  cancelled_at INTEGER,"
    "  total INTEGER NOT NULL,"
    "  completed INTEGER NOT NULL,"
    "  failed INTEGER NOT NULL,"
    "  usage_input INTEGER,"
    "  usage_cached INTEGER,"
    "  usage_output INTEGER,"
    "  usage_reasoning INTEGER,"
    "  usage_total INTEGER,"
    "  model TEXT,"
    "  errors TEXT,"
    "  metadata TEXT"
    ") STRICT;"
    "CREATE INDEX batches_live ON batches (input_file)"
    "  WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling');",

    /* 2: projects, uploads, the outbox.  What had no project is of the default one.
     * What sums read is all in their indexes. */
    "UPDATE files SET project = 'default' WHERE project = '';"
    "UPDATE batches SET project = 'default' WHERE project = '';"
    "DROP INDEX files_by_purpose;"
    "CREATE INDEX files_by_project ON files (project, seq, bytes, deleted_at)"
    "  WHERE deleted_at IS NULL;"
    "CREATE INDEX files_by_purpose ON files (project, purpose, seq)"
    "  WHERE deleted_at IS NULL;"
    "ALTER TABLE batches ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE batches ADD COLUMN paused INTEGER NOT NULL DEFAULT 0"
    "  CHECK (paused IN (0, 1));"
    "ALTER TABLE batches ADD COLUMN hold INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE batches ADD COLUMN continue_from TEXT;"
    "ALTER TABLE batches ADD COLUMN reused INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE batches ADD COLUMN callback_url TEXT;"
    "ALTER TABLE batches ADD COLUMN idempotency_key TEXT;"
    "ALTER TABLE batches ADD COLUMN request_hash BLOB;"
    "CREATE INDEX batches_by_project ON batches (project, seq);"
    "CREATE INDEX batches_live_by_project ON batches (project, status)"
    "  WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling');"
    "CREATE INDEX batches_continuing ON batches (continue_from)"
    "  WHERE status = 'validating' AND continue_from IS NOT NULL;"
    "CREATE UNIQUE INDEX batches_idempotency ON batches (project, idempotency_key)"
    "  WHERE idempotency_key IS NOT NULL;"
    "CREATE TABLE uploads ("
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  id TEXT NOT NULL UNIQUE,"
    "  project TEXT NOT NULL,"
    "  status TEXT NOT NULL,"
    "  purpose TEXT NOT NULL,"
    "  filename TEXT NOT NULL,"
    "  bytes INTEGER NOT NULL CHECK (bytes >= 0),"
    "  created_at INTEGER NOT NULL,"
    "  expires_at INTEGER NOT NULL,"
    "  ended_at INTEGER,"
    "  file_expires_after INTEGER NOT NULL,"
    "  file TEXT"
    ") STRICT;"
    "CREATE INDEX uploads_to_expire ON uploads (expires_at) WHERE status = 'pending';"
    "CREATE INDEX uploads_ended ON uploads (ended_at) WHERE ended_at IS NOT NULL;"
    "CREATE TABLE parts ("
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  id TEXT NOT NULL UNIQUE,"
    "  project TEXT NOT NULL,"
    "  upload TEXT NOT NULL,"
    "  bytes INTEGER NOT NULL CHECK (bytes >= 0),"
    "  sha256 BLOB NOT NULL CHECK (length(sha256) = 32),"
    "  created_at INTEGER NOT NULL,"
    "  done INTEGER NOT NULL CHECK (done IN (0, 1))"
    ") STRICT;"
    "CREATE INDEX parts_by_upload ON parts (upload, seq, bytes);"
    "CREATE INDEX parts_pending ON parts (project, bytes, done) WHERE done = 0;"
    "CREATE INDEX parts_done ON parts (seq) WHERE done = 1;"
    "CREATE TABLE outbox ("
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  event TEXT NOT NULL,"
    "  project TEXT NOT NULL,"
    "  batch TEXT NOT NULL,"
    "  type TEXT NOT NULL,"
    "  destination TEXT NOT NULL,"
    "  created_at INTEGER NOT NULL,"
    "  next_at INTEGER NOT NULL,"
    "  tries INTEGER NOT NULL,"
    "  settled_at INTEGER,"
    "  delivered INTEGER NOT NULL CHECK (delivered IN (0, 1)),"
    "  status INTEGER NOT NULL,"
    "  error TEXT"
    ") STRICT;"
    "CREATE INDEX outbox_due ON outbox (next_at, seq) WHERE settled_at IS NULL;"
    "CREATE INDEX outbox_settled ON outbox (settled_at) WHERE settled_at IS NOT NULL;"
    "CREATE INDEX outbox_by_batch ON outbox (batch, seq);",

    /* 3: idle work. */
    "ALTER TABLE batches ADD COLUMN idle INTEGER NOT NULL DEFAULT 0 CHECK (idle < 2);",
};

unsigned schema_version(void)
{
    return COUNTOF(steps);
}

static enum rc number(sqlite3 *db, const char *sql, int64_t *ret, struct err *e)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);

    if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW)
        *ret = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return rc == SQLITE_ROW ? RC_OK : sqlite_fail(db, rc, "read the schema", e);
}

static enum rc run(sqlite3 *db, const char *sql, struct err *e)
{
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);

    return rc == SQLITE_OK ? RC_OK : sqlite_fail(db, rc, "make the tables", e);
}

static enum rc step(sqlite3 *db, unsigned i, struct err *e)
{
    char mark[128];
    enum rc rc;

    snprintf(mark, sizeof mark,
             "PRAGMA application_id = %d; PRAGMA user_version = %u; COMMIT",
             SCHEMA_APPLICATION_ID, i + 1);
    rc = run(db, "BEGIN IMMEDIATE", e);
    if (rc == RC_OK)
        rc = run(db, steps[i], e);
    if (rc == RC_OK)
        rc = run(db, mark, e);
    if (rc != RC_OK && !sqlite3_get_autocommit(db))
        IGNORE(run(db, "ROLLBACK", NULL)); /* the first failure is the one to tell */
    return rc;
}

enum rc schema_migrate(sqlite3 *db, const char *path, struct err *e)
{
    int64_t app = 0, version = 0, tables = 0;
    enum rc rc = number(db, "PRAGMA application_id", &app, e);

    if (rc == RC_OK)
        rc = number(db, "PRAGMA user_version", &version, e);
    if (rc == RC_OK)
        rc = number(db, "SELECT count(*) FROM sqlite_schema", &tables, e);
    if (rc != RC_OK)
        return rc;
    if (app != SCHEMA_APPLICATION_ID && (app || version || tables))
        return err_set(e, RC_CORRUPT, "'%s' is a database of another program", path);
    if (version < 0 || version > (int64_t)COUNTOF(steps))
        return err_set(e, RC_CORRUPT,
                       "'%s' has schema %lld, made by a newer batchd; this one knows up "
                       "to %u: run the newer program, or restore a backup from before",
                       path, (long long)version, (unsigned)COUNTOF(steps));
    for (unsigned i = (unsigned)version; rc == RC_OK && i < COUNTOF(steps); i++)
        rc = step(db, i, e);
    return rc;
}
