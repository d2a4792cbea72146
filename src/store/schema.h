/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema: the tables of ledger.db, as numbered steps that only go forward.
 *
 * A step once released is never edited; a change is a further step.  The number of the
 * last one is kept in the file (PRAGMA user_version), beside the mark that the file is
 * ours (PRAGMA application_id).
 * Threads: the connection's owner.
 */
#pragma once

#include "base/err.h"

struct sqlite3;

#define SCHEMA_APPLICATION_ID 0x62617463 /* "batc" */

/* The number of the last step. */
unsigned schema_version(void);

/*
 * Brings the database to schema_version(), each step in a transaction of its own.
 * RC_CORRUPT: not our database, or of a newer program.
 */
NODISCARD enum rc schema_migrate(struct sqlite3 *db, const char *path, struct err *e);
