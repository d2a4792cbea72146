/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite_rows.h"
#include "base/mem.h"

#include <sqlite3.h>

/* The words of the partial index batches_live. */
#define LIVE "status IN ('validating', 'in_progress', 'finalizing', 'cancelling')"

#define TRY(expr)                                                                        \
    do {                                                                                 \
        enum rc try_rc = (expr);                                                         \
        if (try_rc != RC_OK)                                                             \
            return try_rc;                                                               \
    } while (0)

/* ---- values -------------------------------------------------------------------------*/

/*
 * Binding copies nothing: what is bound lives until the statement has run.  It fails only
 * for an index that is not there (our bug), a huge text or no memory.
 */
static void bind_ok(int rc, sqlite3_stmt *st)
{
    if (rc != SQLITE_OK)
        PANIC("cannot bind a parameter of: %s", sqlite3_sql(st));
}

static void bind_text(sqlite3_stmt *st, int i, const char *z)
{
    bind_ok(z ? sqlite3_bind_text(st, i, z, -1, SQLITE_STATIC) : sqlite3_bind_null(st, i),
            st);
}

static void bind_id(sqlite3_stmt *st, int i, const struct id *id)
{
    bind_text(st, i, id_none(id) ? NULL : id->z);
}

static void bind_int(sqlite3_stmt *st, int i, int64_t v)
{
    bind_ok(sqlite3_bind_int64(st, i, v), st);
}

static void bind_time(sqlite3_stmt *st, int i, int64_t v)
{
    bind_ok(v ? sqlite3_bind_int64(st, i, v) : sqlite3_bind_null(st, i), st);
}

static struct str col_str(sqlite3_stmt *st, int i)
{
    const char *p = (const char *)sqlite3_column_text(st, i);

    return (struct str){p ? p : "", (size_t)sqlite3_column_bytes(st, i)};
}

static char *col_dup(sqlite3_stmt *st, int i)
{
    struct str s = col_str(st, i);

    return sqlite3_column_type(st, i) == SQLITE_NULL ? NULL : mem_dup(s.p, s.n);
}

/* Into a fixed field; false: does not fit, so it was not we who wrote it. */
static bool col_field(sqlite3_stmt *st, int i, char *dst, size_t cap)
{
    struct str s = col_str(st, i);

    if (s.n >= cap)
        return false;
    memcpy(dst, s.p, s.n);
    memset(dst + s.n, 0, cap - s.n);
    return true;
}

static int64_t col_int(sqlite3_stmt *st, int i)
{
    return sqlite3_column_int64(st, i);
}

static enum rc damaged(sqlite3_stmt *st, const char *what, struct err *e)
{
    const char *id = (const char *)sqlite3_column_text(st, 0);

    err_set(e, RC_CORRUPT, "the row of %s '%.80s' is damaged", what, id ? id : "");
    (void)sqlite3_reset(st); /* the damage is told already */
    return RC_CORRUPT;
}

/* *ret_seq of the row that a list goes on after. */
static enum rc seq_of(struct conn *c, const char *sql, const char *id, int64_t *ret_seq,
                      struct err *e)
{
    sqlite3_stmt *st;
    enum rc rc;

    TRY(conn_stmt(c, sql, &st, e));
    bind_text(st, 1, id);
    rc = conn_step(c, st, e);
    if (rc == RC_NOTFOUND)
        return err_set(e, rc, "there is no '%.80s' to go on after", id);
    if (rc == RC_OK) {
        *ret_seq = col_int(st, 0);
        (void)sqlite3_reset(st); /* OK after a row */
    }
    return rc;
}

/* ---- files --------------------------------------------------------------------------*/

#define FILE_COLUMNS                                                                     \
    "id, project, purpose, filename, bytes, sha256, created_at, expires_at"

static enum rc file_of_row(sqlite3_stmt *st, struct file_rec *ret, struct err *e)
{
    struct file_rec f = {.bytes = (uint64_t)col_int(st, 4),
                         .created_at = col_int(st, 6),
                         .expires_at = col_int(st, 7)};
    const void *sha = sqlite3_column_blob(st, 5);

    if (!col_field(st, 0, f.id.z, sizeof f.id.z) ||
        !col_field(st, 1, f.project.z, sizeof f.project.z) ||
        !col_field(st, 2, f.purpose, sizeof f.purpose) ||
        sqlite3_column_bytes(st, 5) != sizeof f.sha256)
        return damaged(st, "file", e);
    memcpy(f.sha256, sha, sizeof f.sha256);
    f.filename = col_dup(st, 3);
    *ret = f;
    return RC_OK;
}

enum rc rows_file_add(struct conn *c, const struct file_rec *f, struct err *e)
{
    sqlite3_stmt *st;
    enum rc rc;

    if (f->bytes > INT64_MAX)
        return err_set(e, RC_INVALID, "a file of %llu bytes",
                       (unsigned long long)f->bytes);
    TRY(conn_stmt(c,
                  "INSERT INTO files (" FILE_COLUMNS ")"
                  " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                  &st, e));
    bind_text(st, 1, f->id.z);
    bind_text(st, 2, f->project.z);
    bind_text(st, 3, f->purpose);
    bind_text(st, 4, f->filename ? f->filename : "");
    bind_int(st, 5, (int64_t)f->bytes);
    bind_ok(sqlite3_bind_blob(st, 6, f->sha256, sizeof f->sha256, SQLITE_STATIC), st);
    bind_int(st, 7, f->created_at);
    bind_time(st, 8, f->expires_at);
    rc = conn_run(c, st, NULL, e);
    if (rc == RC_CONFLICT)
        err_set(e, rc, "there is a file '%s' already", f->id.z);
    return rc;
}

enum rc rows_file_get(struct conn *c, const char *id, struct file_rec *ret, struct err *e)
{
    sqlite3_stmt *st;
    enum rc rc;

    TRY(conn_stmt(c,
                  "SELECT " FILE_COLUMNS " FROM files"
                  " WHERE id = ?1 AND deleted_at IS NULL",
                  &st, e));
    bind_text(st, 1, id);
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
#define DOWN " AND seq < ?1 ORDER BY seq DESC"
#define UP   " AND seq > ?1 ORDER BY seq"
    const char *sql[2][2] = {
        {LIST("", DOWN), LIST("", UP)},
        {LIST(" AND purpose = ?3", DOWN), LIST(" AND purpose = ?3", UP)}};
#undef LIST
#undef DOWN
#undef UP

    return conn_stmt(c, sql[q->purpose != NULL][q->ascending], ret, e);
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
        TRY(seq_of(c, "SELECT seq FROM files WHERE id = ?1", q->after, &seq, e));
    TRY(list_statement(c, q, &st, e));
    all = mem_try(q->limit * sizeof *all);
    if (!all)
        return err_set(e, RC_NOMEM, "no memory for a list of %u files", q->limit);
    bind_int(st, 1, seq);
    bind_int(st, 2, (int64_t)q->limit + 1);
    if (q->purpose)
        bind_text(st, 3, q->purpose);
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

enum rc rows_file_delete(struct conn *c, const char *id, int64_t now, struct err *e)
{
    sqlite3_stmt *st;
    int changes;

    TRY(conn_stmt(c,
                  "UPDATE files SET deleted_at = ?2 WHERE id = ?1 AND deleted_at IS NULL",
                  &st, e));
    bind_text(st, 1, id);
    bind_int(st, 2, now);
    TRY(conn_run(c, st, &changes, e));
    return changes ? RC_OK : err_set(e, RC_NOTFOUND, "there is no file '%.80s'", id);
}

enum rc rows_file_reap(struct conn *c, int64_t now, struct id *ret, size_t max,
                       size_t *ret_n, struct err *e)
{
    sqlite3_stmt *st;
    size_t n = 0;
    enum rc rc;

    TRY(conn_stmt(c,
                  "UPDATE files SET deleted_at = ?1 WHERE expires_at IS NOT NULL"
                  " AND expires_at <= ?1 AND deleted_at IS NULL",
                  &st, e));
    bind_int(st, 1, now);
    TRY(conn_run(c, st, NULL, e));
    TRY(conn_stmt(c,
                  "SELECT id FROM files WHERE deleted_at IS NOT NULL AND NOT EXISTS"
                  " (SELECT 1 FROM batches WHERE input_file = files.id AND " LIVE ")"
                  " ORDER BY seq LIMIT ?1",
                  &st, e));
    bind_int(st, 1, max < INT64_MAX ? (int64_t)max : INT64_MAX);
    while ((rc = conn_step(c, st, e)) == RC_OK) {
        if (!col_field(st, 0, ret[n].z, sizeof ret[n].z))
            return damaged(st, "file", e);
        n++;
    }
    if (rc != RC_NOTFOUND)
        return rc;
    *ret_n = n;
    return RC_OK;
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
    enum rc rc = seq_of(c, "SELECT seq FROM files WHERE id = ?1", id, &seq, e);

    if (rc != RC_OK && rc != RC_NOTFOUND)
        return rc;
    *ret = rc == RC_OK;
    return RC_OK;
}

/* ---- batches ------------------------------------------------------------------------*/

/* In the order of bind_batch and batch_of_row. */
#define BATCH_COLUMNS                                                                    \
    "id, project, endpoint, status, expiring, completion_window, input_file,"            \
    " output_file, error_file, created_at, in_progress_at, expires_at, finalizing_at,"   \
    " completed_at, failed_at, expired_at, cancelling_at, cancelled_at, total,"          \
    " completed, failed, usage_input, usage_cached, usage_output, usage_reasoning,"      \
    " usage_total, model, errors, metadata, input_missing, output_expires_after"
#define BATCH_VALUES                                                                     \
    "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,"   \
    " ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31"

/* Sums of tokens fill 64 bits without a sign; SQLite's have one: the bits stay. */
static void bind_usage(sqlite3_stmt *st, int i, const struct batch *b)
{
    const struct usage *u = &b->usage;
    const uint64_t v[5] = {u->input, u->cached, u->output, u->reasoning, u->total};

    for (int k = 0; k < 5; k++) {
        if (b->has_usage)
            bind_int(st, i + k, (int64_t)v[k]);
        else
            bind_text(st, i + k, NULL);
    }
}

static void bind_batch(sqlite3_stmt *st, const struct batch *b)
{
    const int64_t times[8] = {b->in_progress_at, b->expires_at,  b->finalizing_at,
                              b->completed_at,   b->failed_at,   b->expired_at,
                              b->cancelling_at,  b->cancelled_at};

    bind_text(st, 1, b->id.z);
    bind_text(st, 2, b->project.z);
    bind_text(st, 3, endpoint_path(b->endpoint));
    bind_text(st, 4, batch_status_name(b->status));
    bind_int(st, 5, b->expiring);
    bind_text(st, 6, b->window);
    bind_text(st, 7, b->input_file.z);
    bind_id(st, 8, &b->output_file);
    bind_id(st, 9, &b->error_file);
    bind_int(st, 10, b->created_at);
    for (int i = 0; i < 8; i++)
        bind_time(st, 11 + i, times[i]);
    bind_int(st, 19, b->counts.total);
    bind_int(st, 20, b->counts.completed);
    bind_int(st, 21, b->counts.failed);
    bind_usage(st, 22, b);
    bind_text(st, 27, b->model);
    bind_text(st, 28, b->errors);
    bind_text(st, 29, b->metadata);
    bind_int(st, 30, b->input_missing);
    bind_int(st, 31, b->output_expires_after);
}

static bool names_of_row(sqlite3_stmt *st, struct batch *b)
{
    return col_field(st, 0, b->id.z, sizeof b->id.z) &&
           col_field(st, 1, b->project.z, sizeof b->project.z) &&
           endpoint_from(col_str(st, 2), &b->endpoint) == RC_OK &&
           batch_status_from(col_str(st, 3), &b->status) == RC_OK &&
           col_field(st, 5, b->window, sizeof b->window) &&
           col_field(st, 6, b->input_file.z, sizeof b->input_file.z) &&
           col_field(st, 7, b->output_file.z, sizeof b->output_file.z) &&
           col_field(st, 8, b->error_file.z, sizeof b->error_file.z);
}

static enum rc batch_of_row(sqlite3_stmt *st, struct batch *ret, struct err *e)
{
    struct batch b = {0};
    int64_t *const times[9] = {&b.created_at,    &b.in_progress_at, &b.expires_at,
                               &b.finalizing_at, &b.completed_at,   &b.failed_at,
                               &b.expired_at,    &b.cancelling_at,  &b.cancelled_at};
    uint32_t *const counts[3] = {&b.counts.total, &b.counts.completed, &b.counts.failed};
    uint64_t *const usage[5] = {&b.usage.input, &b.usage.cached, &b.usage.output,
                                &b.usage.reasoning, &b.usage.total};

    if (!names_of_row(st, &b))
        return damaged(st, "batch", e);
    b.expiring = col_int(st, 4) != 0;
    for (int i = 0; i < 9; i++)
        *times[i] = col_int(st, 9 + i);
    for (int i = 0; i < 3; i++)
        *counts[i] = (uint32_t)col_int(st, 18 + i);
    b.has_usage = sqlite3_column_type(st, 25) != SQLITE_NULL;
    for (int i = 0; i < 5; i++)
        *usage[i] = (uint64_t)col_int(st, 21 + i);
    b.model = col_dup(st, 26);
    b.errors = col_dup(st, 27);
    b.metadata = col_dup(st, 28);
    b.input_missing = col_int(st, 29) != 0;
    b.output_expires_after = col_int(st, 30);
    *ret = b;
    return RC_OK;
}

/* Is the input gone, or going, at the moment the batch is made?  Said in the same
 * transaction: a file deleted later is still the batch's. */
static enum rc look_for_input(struct conn *c, struct batch *b, struct err *e)
{
    int64_t seq;
    enum rc rc = seq_of(c, "SELECT seq FROM files WHERE id = ?1 AND deleted_at IS NULL",
                        b->input_file.z, &seq, e);

    b->input_missing = rc == RC_NOTFOUND;
    return rc == RC_NOTFOUND ? RC_OK : rc;
}

enum rc rows_batch_add(struct conn *c, const struct batch *b, struct err *e)
{
    struct batch row = *b; /* borrows what b owns */
    sqlite3_stmt *st;
    enum rc rc;

    TRY(look_for_input(c, &row, e));
    TRY(conn_stmt(c, "INSERT INTO batches (" BATCH_COLUMNS ") VALUES (" BATCH_VALUES ")",
                  &st, e));
    bind_batch(st, &row);
    rc = conn_run(c, st, NULL, e);
    if (rc == RC_CONFLICT)
        err_set(e, rc, "there is a batch '%s' already", b->id.z);
    return rc;
}

enum rc rows_batch_get(struct conn *c, const char *id, struct batch *ret, struct err *e)
{
    sqlite3_stmt *st;
    enum rc rc;

    TRY(conn_stmt(c, "SELECT " BATCH_COLUMNS " FROM batches WHERE id = ?1", &st, e));
    bind_text(st, 1, id);
    rc = conn_step(c, st, e);
    if (rc == RC_NOTFOUND)
        return err_set(e, rc, "there is no batch '%.80s'", id);
    if (rc == RC_OK) {
        rc = batch_of_row(st, ret, e);
        (void)sqlite3_reset(st); /* OK after a row */
    }
    return rc;
}

struct batch_array {
    struct batch *p;
    size_t n, cap;
};

static void free_batches(struct batch_array *a)
{
    for (size_t i = 0; i < a->n; i++)
        batch_done(&a->p[i]);
    mem_free(a->p);
}

static enum rc add_batch(struct batch_array *a, sqlite3_stmt *st, struct err *e)
{
    enum rc rc;

    if (a->n == a->cap) {
        size_t cap = a->cap ? 2 * a->cap : 16;
        struct batch *p = mem_resize(a->p, cap * sizeof *p);

        if (!p)
            return err_set(e, RC_NOMEM, "no memory for a list of %zu batches", cap);
        a->p = p;
        a->cap = cap;
    }
    rc = batch_of_row(st, &a->p[a->n], e);
    a->n += rc == RC_OK;
    return rc;
}

/* Up to max rows; *ret_more: there is one above that. */
static enum rc collect(struct conn *c, sqlite3_stmt *st, size_t max, struct batch **ret,
                       size_t *ret_n, bool *ret_more, struct err *e)
{
    struct batch_array a = {0};
    enum rc rc;

    while ((rc = conn_step(c, st, e)) == RC_OK && a.n < max) {
        rc = add_batch(&a, st, e);
        if (rc != RC_OK)
            break;
    }
    (void)sqlite3_reset(st); /* an error of the last step is told already */
    if (rc != RC_OK && rc != RC_NOTFOUND) {
        free_batches(&a);
        return rc;
    }
    *ret_more = rc == RC_OK;
    *ret = a.p;
    *ret_n = a.n;
    return RC_OK;
}

enum rc rows_batch_list(struct conn *c, const char *after, unsigned limit,
                        struct batch **ret, size_t *ret_n, bool *ret_more, struct err *e)
{
    int64_t seq = INT64_MAX;
    sqlite3_stmt *st;

    if (after)
        TRY(seq_of(c, "SELECT seq FROM batches WHERE id = ?1", after, &seq, e));
    TRY(conn_stmt(c,
                  "SELECT " BATCH_COLUMNS " FROM batches WHERE seq < ?1"
                  " ORDER BY seq DESC LIMIT ?2",
                  &st, e));
    bind_int(st, 1, seq);
    bind_int(st, 2, (int64_t)limit + 1);
    return collect(c, st, limit, ret, ret_n, ret_more, e);
}

enum rc rows_batch_live(struct conn *c, struct batch **ret, size_t *ret_n, struct err *e)
{
    sqlite3_stmt *st;
    bool more;

    TRY(conn_stmt(c,
                  "SELECT " BATCH_COLUMNS " FROM batches INDEXED BY batches_live"
                  " WHERE " LIVE " ORDER BY seq",
                  &st, e));
    return collect(c, st, SIZE_MAX, ret, ret_n, &more, e);
}

static void replace_text(char **dst, const char *z)
{
    if (!z)
        return;
    mem_free(*dst);
    *dst = mem_dup(z, strlen(z));
}

static enum rc add_result(struct conn *c, const struct file_rec *f, struct id *id,
                          struct err *e)
{
    enum rc rc = f ? rows_file_add(c, f, e) : RC_OK;

    if (f && rc == RC_OK)
        *id = f->id;
    /* CONFLICT means one thing only to whoever moves a batch: not a legal move. */
    return rc == RC_CONFLICT ? RC_INVALID : rc;
}

static enum rc apply(struct conn *c, const struct batch_change *change, struct batch *b,
                     struct err *e)
{
    if (!change)
        return RC_OK;
    replace_text(&b->model, change->model);
    replace_text(&b->errors, change->errors);
    if (change->counts)
        b->counts = *change->counts;
    if (change->usage) {
        b->usage = *change->usage;
        b->has_usage = true;
    }
    TRY(add_result(c, change->output, &b->output_file, e));
    return add_result(c, change->error, &b->error_file, e);
}

static enum rc write_batch(struct conn *c, const struct batch *b, struct err *e)
{
    sqlite3_stmt *st;

    TRY(conn_stmt(c,
                  "UPDATE batches SET (" BATCH_COLUMNS ") = (" BATCH_VALUES ")"
                  " WHERE id = ?1",
                  &st, e));
    bind_batch(st, b);
    return conn_run(c, st, NULL, e);
}

enum rc rows_batch_move(struct conn *c, const char *id, enum batch_event ev, int64_t now,
                        const struct batch_change *change, struct batch *ret,
                        struct err *e)
{
    struct batch b = {0};
    enum rc rc = rows_batch_get(c, id, &b, e);

    if (rc != RC_OK)
        return rc;
    rc = batch_step(&b, ev, now);
    if (rc == RC_CONFLICT)
        err_set(e, rc, "batch '%s' is %s: %s cannot happen to it", id,
                batch_status_name(b.status), batch_event_name(ev));
    if (rc == RC_OK)
        rc = apply(c, change, &b, e);
    if (rc == RC_OK)
        rc = write_batch(c, &b, e);
    if (rc == RC_OK || rc == RC_CONFLICT)
        *ret = b;
    else
        batch_done(&b);
    return rc;
}

/* ---- the clock's floor --------------------------------------------------------------*/

enum rc rows_floor_get(struct conn *c, int64_t *ret, struct err *e)
{
    sqlite3_stmt *st;
    enum rc rc;

    TRY(conn_stmt(c, "SELECT value FROM meta WHERE key = 'clock_floor'", &st, e));
    rc = conn_step(c, st, e);
    if (rc != RC_OK && rc != RC_NOTFOUND)
        return rc;
    *ret = rc == RC_OK ? col_int(st, 0) : 0;
    (void)sqlite3_reset(st); /* OK after a row */
    return RC_OK;
}

enum rc rows_floor_set(struct conn *c, int64_t floor, struct err *e)
{
    sqlite3_stmt *st;

    TRY(conn_stmt(c,
                  "INSERT INTO meta (key, value) VALUES ('clock_floor', ?1)"
                  " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                  &st, e));
    bind_int(st, 1, floor);
    return conn_run(c, st, NULL, e);
}
