/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite_rows.h"
#include "store/sqlite_value.h"
#include "base/mem.h"

#define FILE_COLUMNS                                                                     \
    "id, project, purpose, filename, bytes, sha256, created_at, expires_at"
#define MINE " AND (?2 IS NULL OR project = ?2)" /* ?2: NULL is anybody's */

/* ---- quotas -------------------------------------------------------------------------*/

/* Files that stand, and parts that wait to become one. */
static enum rc held(struct conn *c, const char *sql, const struct id *project,
                    uint64_t *files, uint64_t *bytes, struct err *e)
{
    sqlite3_stmt *st;
    enum rc rc;

    TRY(conn_stmt(c, sql, &st, e));
    if (project)
        bind_project(st, 1, project);
    rc = conn_step(c, st, e);
    if (rc != RC_OK)
        return rc;
    *files += (uint64_t)col_int(st, 0);
    *bytes += col_total(st, 1);
    (void)sqlite3_reset(st); /* OK after a row */
    return RC_OK;
}

/* project NULL: of all. */
static enum rc held_by(struct conn *c, const struct id *project, uint64_t *files,
                       uint64_t *bytes, struct err *e)
{
#define HELD(what, of) "SELECT " what ", total(bytes) FROM " of
    const char *sql[2][2] = {
        {HELD("count(*)", "files WHERE deleted_at IS NULL"),
         HELD("0", "parts WHERE done = 0")},
        {HELD("count(*)", "files WHERE deleted_at IS NULL AND project = ?1"),
         HELD("0", "parts WHERE done = 0 AND project = ?1")}};
#undef HELD

    *files = *bytes = 0;
    TRY(held(c, sql[project != NULL][0], project, files, bytes, e));
    return held(c, sql[project != NULL][1], project, files, bytes, e);
}

static bool passes(uint64_t max, uint64_t held, uint64_t more)
{
    return max && (more > max || held > max - more);
}

enum rc rows_quota_check(struct conn *c, const struct id *project,
                         const struct file_quota *q, unsigned more_files,
                         uint64_t more_bytes, struct err *e)
{
    uint64_t files = 0, bytes = 0;

    if (!q)
        return RC_OK;
    if (q->project_files || q->project_bytes)
        TRY(held_by(c, project, &files, &bytes, e));
    if (q->project_files && more_files && passes(q->project_files, files, more_files))
        return err_set(
            e, RC_LIMIT,
            "This project holds %llu files, and its limit is %llu: delete some "
            "that are not needed any more.",
            (unsigned long long)files, (unsigned long long)q->project_files);
    if (q->project_bytes && passes(q->project_bytes, bytes, more_bytes))
        return err_set(e, RC_LIMIT,
                       "This project holds %llu bytes in files, and with these %llu it "
                       "would pass its limit of %llu: delete files that are not needed "
                       "any more.",
                       (unsigned long long)bytes, (unsigned long long)more_bytes,
                       (unsigned long long)q->project_bytes);
    if (!q->all_bytes)
        return RC_OK;
    TRY(held_by(c, NULL, &files, &bytes, e));
    /* What others hold is nobody's business. */
    if (passes(q->all_bytes, bytes, more_bytes))
        return err_set(e, RC_LIMIT,
                       "With these %llu bytes the files of this server would pass its "
                       "limit of %llu bytes in all: delete files that are not needed any "
                       "more, or ask whoever runs it.",
                       (unsigned long long)more_bytes, (unsigned long long)q->all_bytes);
    return RC_OK;
}

enum rc rows_usage_of(struct conn *c, const struct id *project, struct project_usage *ret,
                      struct err *e)
{
    TRY(held_by(c, project, &ret->files, &ret->bytes, e));
    return rows_live_batches(c, project, &ret->live_batches, e);
}

/* ---- rows ---------------------------------------------------------------------------*/

static enum rc file_of_row(sqlite3_stmt *st, struct file_rec *ret, struct err *e)
{
    struct file_rec f = {.bytes = (uint64_t)col_int(st, 4),
                         .created_at = col_int(st, 6),
                         .expires_at = col_int(st, 7)};

    if (!col_id(st, 0, &f.id) || !col_id(st, 1, &f.project) ||
        !col_field(st, 2, f.purpose, sizeof f.purpose) || !col_hash(st, 5, f.sha256))
        return row_damaged(st, "file", e);
    f.filename = col_dup(st, 3);
    *ret = f;
    return RC_OK;
}

enum rc rows_file_add(struct conn *c, const struct file_rec *f,
                      const struct file_quota *q, struct err *e)
{
    sqlite3_stmt *st;
    enum rc rc;

    if (f->bytes > INT64_MAX)
        return err_set(e, RC_INVALID, "a file of %llu bytes",
                       (unsigned long long)f->bytes);
    TRY(rows_quota_check(c, &f->project, q, 1, f->bytes, e));
    TRY(conn_stmt(c,
                  "INSERT INTO files (" FILE_COLUMNS ")"
                  " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                  &st, e));
    bind_text(st, 1, f->id.z);
    bind_text(st, 2, f->project.z);
    bind_text(st, 3, f->purpose);
    bind_text(st, 4, f->filename ? f->filename : "");
    bind_int(st, 5, (int64_t)f->bytes);
    bind_hash(st, 6, f->sha256);
    bind_int(st, 7, f->created_at);
    bind_time(st, 8, f->expires_at);
    rc = conn_run(c, st, NULL, e);
    if (rc == RC_CONFLICT)
        err_set(e, rc, "there is a file '%s' already", f->id.z);
    return rc;
}

enum rc rows_file_get(struct conn *c, const struct id *project, const char *id,
                      struct file_rec *ret, struct err *e)
{
    sqlite3_stmt *st;
    enum rc rc;

    TRY(conn_stmt(c,
                  "SELECT " FILE_COLUMNS " FROM files"
                  " WHERE id = ?1 AND deleted_at IS NULL" MINE,
                  &st, e));
    bind_text(st, 1, id);
    bind_project(st, 2, project);
    rc = conn_step(c, st, e);
    if (rc == RC_NOTFOUND)
        return err_set(e, rc, "there is no file '%.80s'", id);
    if (rc == RC_OK) {
        rc = file_of_row(st, ret, e);
        (void)sqlite3_reset(st); /* OK after a row */
    }
    return rc;
}

static enum rc list_statement(struct conn *c, const struct file_query *q,
                              sqlite3_stmt **ret, struct err *e)
{
#define LIST(cond, order)                                                                \
    "SELECT " FILE_COLUMNS " FROM files WHERE deleted_at IS NULL" cond order " LIMIT ?2"
#define BOTH(cond)                                                                       \
    {                                                                                    \
        LIST(cond, " AND seq < ?1 ORDER BY seq DESC"),                                   \
            LIST(cond, " AND seq > ?1 ORDER BY seq")                                     \
    }
    const char *sql[2][2][2] = {
        {BOTH(""), BOTH(" AND purpose = ?3")},
        {BOTH(" AND project = ?4"), BOTH(" AND project = ?4 AND purpose = ?3")}};
#undef LIST
#undef BOTH

    return conn_stmt(c, sql[q->project != NULL][q->purpose != NULL][q->ascending], ret,
                     e);
}

static void free_files(struct file_rec *all, size_t n)
{
    for (size_t i = 0; i < n; i++)
        file_rec_done(&all[i]);
    mem_free(all);
}

enum rc rows_file_list(struct conn *c, const struct file_query *q, struct file_rec **ret,
                       size_t *ret_n, bool *ret_more, struct err *e)
{
    int64_t seq = q->ascending ? 0 : INT64_MAX;
    struct file_rec *all;
    sqlite3_stmt *st;
    size_t n = 0;
    enum rc rc;

    /* A file that was just deleted is still a place to go on from. */
    if (q->after)
        TRY(row_after(c, "SELECT seq FROM files WHERE id = ?1" MINE, q->project, q->after,
                      &seq, e));
    TRY(list_statement(c, q, &st, e));
    all = mem_try(q->limit * sizeof *all);
    if (!all)
        return err_set(e, RC_NOMEM, "no memory for a list of %u files", q->limit);
    bind_int(st, 1, seq);
    bind_int(st, 2, (int64_t)q->limit + 1);
    if (q->purpose)
        bind_text(st, 3, q->purpose);
    if (q->project)
        bind_project(st, 4, q->project);
    while ((rc = conn_step(c, st, e)) == RC_OK && n < q->limit) {
        rc = file_of_row(st, &all[n], e);
        if (rc != RC_OK)
            break;
        n++;
    }
    if (rc != RC_OK && rc != RC_NOTFOUND) {
        free_files(all, n);
        return rc;
    }
    (void)sqlite3_reset(st); /* OK after a row */
    *ret_more = rc == RC_OK;
    *ret = all;
    *ret_n = n;
    return RC_OK;
}

enum rc rows_file_delete(struct conn *c, const struct id *project, const char *id,
                         int64_t now, struct err *e)
{
    sqlite3_stmt *st;
    int changes;

    TRY(conn_stmt(c,
                  "UPDATE files SET deleted_at = ?3"
                  " WHERE id = ?1 AND deleted_at IS NULL" MINE,
                  &st, e));
    bind_text(st, 1, id);
    bind_project(st, 2, project);
    bind_int(st, 3, now);
    TRY(conn_run(c, st, &changes, e));
    return changes ? RC_OK : err_set(e, RC_NOTFOUND, "there is no file '%.80s'", id);
}

enum rc rows_file_reap(struct conn *c, int64_t now, struct id *ret, size_t max,
                       size_t *ret_n, struct err *e)
{
    sqlite3_stmt *st;

    TRY(conn_stmt(c,
                  "UPDATE files SET deleted_at = ?1 WHERE expires_at IS NOT NULL"
                  " AND expires_at <= ?1 AND deleted_at IS NULL",
                  &st, e));
    bind_int(st, 1, now);
    TRY(conn_run(c, st, NULL, e));
    TRY(conn_stmt(c,
                  "SELECT id FROM files WHERE deleted_at IS NOT NULL AND NOT EXISTS"
                  " (SELECT 1 FROM batches WHERE input_file = files.id AND " LIVE
                  "  AND input_missing = 0)"
                  " AND NOT EXISTS"
                  " (SELECT 1 FROM batches AS b INDEXED BY batches_continuing"
                  "  JOIN batches AS first ON first.id = b.continue_from"
                  "  WHERE b.status = 'validating' AND b.continue_from IS NOT NULL"
                  "  AND files.id IN (first.input_file, first.output_file))"
                  " ORDER BY seq LIMIT ?1",
                  &st, e));
    bind_int(st, 1, max < INT64_MAX ? (int64_t)max : INT64_MAX);
    return row_ids(c, st, "file", ret, max, ret_n, e);
}

enum rc rows_file_forget(struct conn *c, const char *id, struct err *e)
{
    sqlite3_stmt *st;

    TRY(conn_stmt(c, "DELETE FROM files WHERE id = ?1 AND deleted_at IS NOT NULL", &st,
                  e));
    bind_text(st, 1, id);
    return conn_run(c, st, NULL, e);
}

enum rc rows_file_known(struct conn *c, const char *id, bool *ret, struct err *e)
{
    int64_t seq;
    enum rc rc = row_seq(c,
                         "SELECT seq FROM files WHERE id = ?1 UNION ALL"
                         " SELECT seq FROM parts WHERE id = ?1 AND ?2 IS NULL",
                         NULL, id, &seq, e);

    if (rc != RC_OK && rc != RC_NOTFOUND)
        return rc;
    *ret = rc == RC_OK;
    return RC_OK;
}
