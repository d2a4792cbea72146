/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sqlite_value: our types in and out of SQLite's parameters and columns, for the rows
 * (sqlite_files.c, sqlite_uploads.c, sqlite_batches.c, sqlite_outbox.c).
 *
 * Binding copies nothing: what is bound lives until the statement has run.
 * Threads: the connection's owner.
 */
#pragma once

#include "base/id.h"
#include "store/sqlite_conn.h"

#include <sqlite3.h>

/* The words of the partial indexes over live batches. */
#define LIVE "status IN ('validating', 'in_progress', 'finalizing', 'cancelling')"

#define TRY(expr)                                                                        \
    do {                                                                                 \
        enum rc try_rc = (expr);                                                         \
        if (try_rc != RC_OK)                                                             \
            return try_rc;                                                               \
    } while (0)

void bind_text(sqlite3_stmt *st, int i, const char *z);     /* NULL: null */
void bind_id(sqlite3_stmt *st, int i, const struct id *id); /* "": null */
/* NULL, anybody's: null; "" stays "", which is nobody's. */
void bind_project(sqlite3_stmt *st, int i, const struct id *project);
void bind_int(sqlite3_stmt *st, int i, int64_t v);
void bind_time(sqlite3_stmt *st, int i, int64_t v);              /* 0: null */
void bind_hash(sqlite3_stmt *st, int i, const uint8_t hash[32]); /* NULL: null */

struct str col_str(sqlite3_stmt *st, int i); /* until the next step */
char *col_dup(sqlite3_stmt *st, int i);      /* null: NULL */
/* Into a fixed field; false: does not fit, so it was not we who wrote it. */
NODISCARD bool col_field(sqlite3_stmt *st, int i, char *dst, size_t cap);
NODISCARD bool col_id(sqlite3_stmt *st, int i, struct id *dst); /* null: "" */
NODISCARD bool col_hash(sqlite3_stmt *st, int i, uint8_t dst[32]);
int64_t col_int(sqlite3_stmt *st, int i);
/* A sum of SQLite's total(), which does not overflow: exact up to 2^53. */
uint64_t col_total(sqlite3_stmt *st, int i);

/* RC_CORRUPT, with the text of column 0; the statement is reset. */
enum rc row_damaged(sqlite3_stmt *st, const char *what, struct err *e);
/* *ret_seq of the row that sql finds by ?1 the id and ?2 the project.  RC_NOTFOUND. */
NODISCARD enum rc row_seq(struct conn *c, const char *sql, const struct id *project,
                          const char *id, int64_t *ret_seq, struct err *e);
/* As row_seq, for the row after which a list goes on. */
NODISCARD enum rc row_after(struct conn *c, const char *sql, const struct id *project,
                            const char *id, int64_t *ret_seq, struct err *e);
/* The ids that a statement gives in column 0, up to max of them. */
NODISCARD enum rc row_ids(struct conn *c, sqlite3_stmt *st, const char *what,
                          struct id *ret, size_t max, size_t *ret_n, struct err *e);

/* An array of rows that grows; all zero is an empty one. */
struct row_array {
    char *p;
    size_t n, cap; /* rows */
};
/* Where the next row of that size goes; it counts once n was raised.  NULL: RC_NOMEM. */
NODISCARD void *row_room(struct row_array *a, size_t size, struct err *e);
