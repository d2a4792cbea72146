/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sqlite_conn: the one connection to ledger.db: how it is opened, what its errors mean,
 * its prepared statements, transactions and checkpoints.
 *
 * Why so: exclusive locking before WAL, so
 * that there is no shared memory file and no second writer for the WAL-reset bug of
 * SQLite before 3.51.3; synchronous FULL; a truncating checkpoint before the first
 * commit, since the WAL may look better in the page cache than it is on disk; and our own
 * checkpoints, since SQLite's automatic ones do not tell when a sync failed.
 *
 * Threads: the owner's.
 * Errors:  RC_NOSPACE and RC_NOMEM: the change did not happen, the connection lives.
 *          RC_CONFLICT: a unique name is taken.  RC_IO, RC_CORRUPT: never use it again.
 */
#pragma once

#include "base/err.h"

struct sqlite3;
struct sqlite3_stmt;

struct conn;

NODISCARD enum rc conn_open(const char *path, struct conn **ret, struct err *e);
/* healthy: may checkpoint on the way out; after a failed sync nothing may.  Accepts NULL,
 * returns NULL. */
struct conn *conn_close(struct conn *c, bool healthy);

/* The statement of that text, prepared at its first use; reset and without parameters.
 * sql must be a literal: its address is the key. */
NODISCARD enum rc conn_stmt(struct conn *c, const char *sql, struct sqlite3_stmt **ret,
                            struct err *e);
/* RC_OK: a row; RC_NOTFOUND: no more of them. */
NODISCARD enum rc conn_step(struct conn *c, struct sqlite3_stmt *st, struct err *e);
/* Runs a statement that gives no rows; *ret_changes may be NULL. */
NODISCARD enum rc conn_run(struct conn *c, struct sqlite3_stmt *st, int *ret_changes,
                           struct err *e);

NODISCARD enum rc conn_exec(struct conn *c, const char *sql, struct err *e);
bool conn_in_transaction(const struct conn *c); /* false: SQLite rolled back by itself */
/* Does a checkpoint when the WAL has grown enough to be worth one. */
NODISCARD enum rc conn_checkpoint(struct conn *c, struct err *e);

/* Turns SQLite's error of the moment into a sentence and a code. */
enum rc sqlite_fail(struct sqlite3 *db, int sqlite_rc, const char *what, struct err *e);
