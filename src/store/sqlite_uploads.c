/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite_rows.h"
#include "store/sqlite_value.h"
#include "base/mem.h"

#define UPLOAD_COLUMNS                                                                   \
    "id, project, status, purpose, filename, bytes, created_at, expires_at, ended_at,"   \
    " file_expires_after, file"
#define KEPT ((int64_t)UPLOAD_KEPT_DAYS * 86400)

static enum rc no_upload(const char *id, struct err *e)
{
    return err_set(e, RC_NOTFOUND, "there is no upload '%.80s'", id);
}

/* ---- uploads ------------------------------------------------------------------------*/

static enum rc upload_of_row(sqlite3_stmt *st, struct upload_rec *ret, struct err *e)
{
    struct upload_rec u = {.bytes = (uint64_t)col_int(st, 5),
                           .created_at = col_int(st, 6),
                           .expires_at = col_int(st, 7),
                           .ended_at = col_int(st, 8),
                           .file_expires_after = col_int(st, 9)};

    if (!col_id(st, 0, &u.id) || !col_id(st, 1, &u.project) ||
        upload_status_from(col_str(st, 2), &u.status) != RC_OK ||
        !col_field(st, 3, u.purpose, sizeof u.purpose) || !col_id(st, 10, &u.file))
        return row_damaged(st, "upload", e);
    u.filename = col_dup(st, 4);
    *ret = u;
    return RC_OK;
}

enum rc rows_upload_add(struct conn *c, const struct upload_rec *u, struct err *e)
{
    sqlite3_stmt *st;
    enum rc rc;

    if (u->bytes > INT64_MAX)
        return err_set(e, RC_INVALID, "an upload of %llu bytes",
                       (unsigned long long)u->bytes);
    TRY(conn_stmt(c,
                  "INSERT INTO uploads (" UPLOAD_COLUMNS ")"
                  " VALUES (?1, ?2, 'pending', ?3, ?4, ?5, ?6, ?7, NULL, ?8, NULL)",
                  &st, e));
    bind_text(st, 1, u->id.z);
    bind_text(st, 2, u->project.z);
    bind_text(st, 3, u->purpose);
    bind_text(st, 4, u->filename ? u->filename : "");
    bind_int(st, 5, (int64_t)u->bytes);
    bind_int(st, 6, u->created_at);
    bind_int(st, 7, u->expires_at);
    bind_int(st, 8, u->file_expires_after);
    rc = conn_run(c, st, NULL, e);
    return rc == RC_CONFLICT
               ? err_set(e, RC_INVALID, "there is an upload '%s' already", u->id.z)
               : rc;
}

enum rc rows_upload_get(struct conn *c, const struct id *project, const char *id,
                        struct upload_rec *ret, struct err *e)
{
    sqlite3_stmt *st;
    enum rc rc;

    TRY(conn_stmt(c,
                  "SELECT " UPLOAD_COLUMNS " FROM uploads"
                  " WHERE id = ?1 AND (?2 IS NULL OR project = ?2)",
                  &st, e));
    bind_text(st, 1, id);
    bind_project(st, 2, project);
    rc = conn_step(c, st, e);
    if (rc == RC_NOTFOUND)
        return no_upload(id, e);
    if (rc == RC_OK) {
        rc = upload_of_row(st, ret, e);
        (void)sqlite3_reset(st); /* OK after a row */
    }
    return rc;
}

/* RC_CONFLICT: not pending at now; u->status is what it is then. */
static enum rc still_pending(struct upload_rec *u, int64_t now, struct err *e)
{
    u->status = upload_status_at(u, now);
    return u->status == UPLOAD_PENDING ? RC_OK
                                       : err_set(e, RC_CONFLICT, "upload '%s' is %s",
                                                 u->id.z, upload_status_name(u->status));
}

/* Its parts are for reaping from now on. */
static enum rc end_parts(struct conn *c, const char *upload, struct err *e)
{
    sqlite3_stmt *st;

    TRY(conn_stmt(c, "UPDATE parts SET done = 1 WHERE upload = ?1", &st, e));
    bind_text(st, 1, upload);
    return conn_run(c, st, NULL, e);
}

static enum rc write_end(struct conn *c, const struct upload_rec *u, struct err *e)
{
    sqlite3_stmt *st;

    TRY(end_parts(c, u->id.z, e));
    TRY(conn_stmt(c,
                  "UPDATE uploads SET status = ?2, ended_at = ?3, file = ?4"
                  " WHERE id = ?1",
                  &st, e));
    bind_text(st, 1, u->id.z);
    bind_text(st, 2, upload_status_name(u->status));
    bind_int(st, 3, u->ended_at);
    bind_id(st, 4, &u->file);
    return conn_run(c, st, NULL, e);
}

static enum rc end_upload(struct conn *c, struct upload_rec *u, enum upload_status to,
                          int64_t now, const struct file_rec *file,
                          const struct file_quota *q, struct err *e)
{
    enum rc rc;

    u->status = to;
    u->ended_at = now;
    if (file)
        u->file = file->id;
    TRY(write_end(c, u, e)); /* first: the parts count no more */
    if (!file)
        return RC_OK;
    rc = rows_file_add(c, file, q, e);
    /* CONFLICT means one thing only to whoever ends an upload: it is not pending. */
    return rc == RC_CONFLICT ? RC_INVALID : rc;
}

enum rc rows_upload_move(struct conn *c, const struct id *project, const char *id,
                         enum upload_status to, int64_t now, const struct file_rec *file,
                         const struct file_quota *q, struct upload_rec *ret,
                         struct err *e)
{
    struct upload_rec u = {0};
    enum rc rc;

    CHECK(to != UPLOAD_PENDING && (to == UPLOAD_COMPLETED) == (file != NULL));
    TRY(rows_upload_get(c, project, id, &u, e));
    rc = still_pending(&u, now, e);
    if (rc == RC_OK)
        rc = end_upload(c, &u, to, now, file, q, e);
    if (rc == RC_OK || rc == RC_CONFLICT)
        *ret = u;
    else
        upload_rec_done(&u);
    return rc;
}

static enum rc expire(struct conn *c, int64_t now, struct err *e)
{
#define DUE "status = 'pending' AND expires_at <= ?1"
    sqlite3_stmt *st;

    TRY(conn_stmt(c,
                  "UPDATE parts SET done = 1 WHERE upload IN"
                  " (SELECT id FROM uploads WHERE " DUE ")",
                  &st, e));
    bind_int(st, 1, now);
    TRY(conn_run(c, st, NULL, e));
    TRY(conn_stmt(c,
                  "UPDATE uploads SET status = 'expired', ended_at = expires_at"
                  " WHERE " DUE,
                  &st, e));
    bind_int(st, 1, now);
    return conn_run(c, st, NULL, e);
#undef DUE
}

enum rc rows_upload_reap(struct conn *c, int64_t now, struct id *ret, size_t max,
                         size_t *ret_n, struct err *e)
{
    sqlite3_stmt *st;

    TRY(expire(c, now, e));
    TRY(conn_stmt(c,
                  "DELETE FROM uploads WHERE ended_at IS NOT NULL AND ended_at <= ?1"
                  " AND NOT EXISTS (SELECT 1 FROM parts WHERE upload = uploads.id)",
                  &st, e));
    bind_int(st, 1, now - KEPT);
    TRY(conn_run(c, st, NULL, e));
    TRY(conn_stmt(c, "SELECT id FROM parts WHERE done = 1 ORDER BY seq LIMIT ?1", &st,
                  e));
    bind_int(st, 1, max < INT64_MAX ? (int64_t)max : INT64_MAX);
    return row_ids(c, st, "part", ret, max, ret_n, e);
}

/* ---- parts --------------------------------------------------------------------------*/

static enum rc check_room(struct conn *c, const struct upload_rec *u,
                          const struct part_rec *p, struct err *e)
{
    sqlite3_stmt *st;
    uint64_t n = 0, bytes = 0;
    enum rc rc;

    TRY(conn_stmt(c, "SELECT count(*), total(bytes) FROM parts WHERE upload = ?1", &st,
                  e));
    bind_text(st, 1, u->id.z);
    rc = conn_step(c, st, e);
    if (rc != RC_OK)
        return rc;
    n = (uint64_t)col_int(st, 0);
    bytes = col_total(st, 1);
    (void)sqlite3_reset(st); /* OK after a row */
    if (n >= UPLOAD_PARTS_MAX)
        return err_set(e, RC_LIMIT,
                       "Upload '%s' has %u parts already, and no upload may have more: "
                       "send larger parts.",
                       u->id.z, UPLOAD_PARTS_MAX);
    if (p->bytes > u->bytes)
        return err_set(
            e, RC_LIMIT, "Upload '%s' was made for %llu bytes, and this part has %llu.",
            u->id.z, (unsigned long long)u->bytes, (unsigned long long)p->bytes);
    if (u->bytes < UINT64_MAX / UPLOAD_SPARE &&
        bytes + p->bytes > u->bytes * UPLOAD_SPARE)
        return err_set(e, RC_LIMIT,
                       "Upload '%s' was made for %llu bytes and its parts have %llu "
                       "already: complete it, or cancel it and begin anew.",
                       u->id.z, (unsigned long long)u->bytes, (unsigned long long)bytes);
    return RC_OK;
}

static enum rc insert_part(struct conn *c, const struct upload_rec *u,
                           const struct part_rec *p, struct err *e)
{
    sqlite3_stmt *st;
    enum rc rc;

    TRY(conn_stmt(c,
                  "INSERT INTO parts (id, project, upload, bytes, sha256, created_at,"
                  " done) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)",
                  &st, e));
    bind_text(st, 1, p->id.z);
    bind_text(st, 2, u->project.z);
    bind_text(st, 3, u->id.z);
    bind_int(st, 4, (int64_t)p->bytes);
    bind_hash(st, 5, p->sha256);
    bind_int(st, 6, p->created_at);
    rc = conn_run(c, st, NULL, e);
    return rc == RC_CONFLICT
               ? err_set(e, RC_INVALID, "there is a part '%s' already", p->id.z)
               : rc;
}

enum rc rows_part_add(struct conn *c, const struct id *project, const char *upload,
                      const struct part_rec *p, const struct file_quota *q, struct err *e)
{
    struct upload_rec u = {0};
    enum rc rc;

    TRY(rows_upload_get(c, project, upload, &u, e));
    rc = still_pending(&u, p->created_at, e);
    if (rc == RC_OK)
        rc = check_room(c, &u, p, e);
    if (rc == RC_OK)
        rc = rows_quota_check(c, &u.project, q, 0, p->bytes, e);
    if (rc == RC_OK)
        rc = insert_part(c, &u, p, e);
    upload_rec_done(&u);
    return rc;
}

static enum rc part_of_row(sqlite3_stmt *st, struct part_rec *ret, struct err *e)
{
    *ret = (struct part_rec){.bytes = (uint64_t)col_int(st, 1),
                             .created_at = col_int(st, 3)};
    if (!col_id(st, 0, &ret->id) || !col_hash(st, 2, ret->sha256))
        return row_damaged(st, "part", e);
    return RC_OK;
}

enum rc rows_part_list(struct conn *c, const struct id *project, const char *upload,
                       struct part_rec **ret, size_t *ret_n, struct err *e)
{
    struct row_array a = {0};
    sqlite3_stmt *st;
    int64_t seq;
    enum rc rc = row_seq(c,
                         "SELECT seq FROM uploads"
                         " WHERE id = ?1 AND (?2 IS NULL OR project = ?2)",
                         project, upload, &seq, e);

    if (rc != RC_OK)
        return rc == RC_NOTFOUND ? no_upload(upload, e) : rc;
    TRY(conn_stmt(c,
                  "SELECT id, bytes, sha256, created_at FROM parts WHERE upload = ?1"
                  " ORDER BY seq",
                  &st, e));
    bind_text(st, 1, upload);
    while ((rc = conn_step(c, st, e)) == RC_OK) {
        struct part_rec *p = row_room(&a, sizeof *p, e);

        rc = p ? part_of_row(st, p, e) : RC_NOMEM;
        if (rc != RC_OK)
            break;
        a.n++;
    }
    (void)sqlite3_reset(st); /* an error of the last step is told already */
    if (rc != RC_NOTFOUND) {
        mem_free(a.p);
        return rc;
    }
    *ret = (struct part_rec *)(void *)a.p;
    *ret_n = a.n;
    return RC_OK;
}

enum rc rows_part_forget(struct conn *c, const char *id, struct err *e)
{
    sqlite3_stmt *st;

    TRY(conn_stmt(c, "DELETE FROM parts WHERE id = ?1 AND done = 1", &st, e));
    bind_text(st, 1, id);
    return conn_run(c, st, NULL, e);
}
