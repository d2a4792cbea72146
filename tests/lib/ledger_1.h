/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ledger_1: a ledger.db as the program wrote it when the schema had one step, with rows
 * of each kind in it.  The tables are a copy that stays as it is.
 */
#pragma once

#include "tests/lib/t.h"

#include <sqlite3.h>

static const char ledger_1_sql[] =
    "PRAGMA journal_mode = WAL;"
    "PRAGMA application_id = 1650553955;" /* "batc" */
    "BEGIN;"
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
    "  WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling');"
    "INSERT INTO meta VALUES ('clock_floor', 1700000900);"
    "INSERT INTO files (id, project, purpose, filename, bytes, sha256, created_at,"
    " expires_at, deleted_at) VALUES"
    " ('file-in', '', 'batch', 'in.jsonl', 1000, zeroblob(32), 1700000000, NULL, NULL),"
    " ('file-out', '', 'batch_output', 'out', 77, zeroblob(32), 1700000500, NULL, NULL),"
    " ('file-old', '', 'batch', 'old', 5, zeroblob(32), 1600000000, 1600000900, NULL),"
    " ('file-gone', '', 'batch', 'gone', 9, zeroblob(32), 1600000000, NULL, 1600000001),"
    " ('file-named', 'team', 'batch', 'n', 3, zeroblob(32), 1700000001, NULL, NULL);"
    "INSERT INTO batches (id, project, endpoint, status, expiring, input_missing,"
    " output_expires_after, completion_window, input_file, output_file, created_at,"
    " in_progress_at, expires_at, finalizing_at, completed_at, total, completed, failed,"
    " usage_input, usage_cached, usage_output, usage_reasoning, usage_total, model,"
    " metadata) VALUES"
    " ('batch_done', '', '/v1/chat/completions', 'completed', 0, 0, 3600, '24h',"
    "  'file-in', 'file-out', 1700000100, 1700000200, 1700086500, 1700000300,"
    "  1700000400, 10, 9, 1, 1, 2, 3, 4, -1, 'some-model', '{\"a\":\"b\"}'),"
    " ('batch_live', '', '/v1/embeddings', 'in_progress', 0, 0, 0, '1h', 'file-gone',"
    "  NULL, 1700000600, 1700000601, 1700004200, NULL, NULL, 50, 0, 0, NULL, NULL, NULL,"
    "  NULL, NULL, NULL, NULL),"
    " ('batch_team', 'team', '/v1/embeddings', 'validating', 0, 1, 0, '1h', 'file-none',"
    "  NULL, 1700000700, NULL, 1700004300, NULL, NULL, 0, 0, 0, NULL, NULL, NULL, NULL,"
    "  NULL, NULL, NULL);"
    "PRAGMA user_version = 1;"
    "COMMIT;";

static inline void ledger_1_make(const char *path)
{
    sqlite3 *db = NULL;

    EQ_INT(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, ledger_1_sql, NULL, NULL, NULL) != SQLITE_OK)
        FAIL("%s", sqlite3_errmsg(db));
    EQ_INT(sqlite3_close(db), SQLITE_OK);
}
