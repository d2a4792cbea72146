/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite_rows.h"
#include "store/sqlite_value.h"
#include "base/guard.h"
#include "base/mem.h"

/* In the order of bind_batch and batch_of_row.  What never changes is never written
 * again: of the indexes only those of the status are touched by a move. */
#define FIXED_COLUMNS                                                                    \
    "id, project, endpoint, input_file, input_missing, created_at,"                      \
    " output_expires_after, metadata, continue_from, callback_url, idempotency_key,"     \
    " request_hash"
#define FIXED_VALUES "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12"
#define MOVING_COLUMNS                                                                   \
    "status, expiring, completion_window, output_file, error_file, in_progress_at,"      \
    " expires_at, finalizing_at, completed_at, failed_at, expired_at, cancelling_at,"    \
    " cancelled_at, total, completed, failed, usage_input, usage_cached, usage_output,"  \
    " usage_reasoning, usage_total, model, errors, priority, paused, hold, reused,"      \
    " idle"
#define MOVING_VALUES                                                                    \
    "?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28,"    \
    " ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37, ?38, ?39, ?40"
#define BATCH_COLUMNS FIXED_COLUMNS ", " MOVING_COLUMNS
#define MINE          "(?2 IS NULL OR project = ?2)" /* ?2: NULL is anybody's */

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

static void bind_fixed(sqlite3_stmt *st, const struct batch *b)
{
    bind_text(st, 1, b->id.z);
    bind_text(st, 2, b->project.z);
    bind_text(st, 3, endpoint_path(b->endpoint));
    bind_text(st, 4, b->input_file.z);
    bind_int(st, 5, b->input_missing);
    bind_int(st, 6, b->created_at);
    bind_int(st, 7, b->output_expires_after);
    bind_text(st, 8, b->metadata);
    bind_id(st, 9, &b->continue_from);
    bind_text(st, 10, b->callback_url);
    bind_text(st, 11, b->idempotency_key);
    bind_hash(st, 12, b->idempotency_key ? b->request_hash : NULL);
}

static void bind_batch(sqlite3_stmt *st, const struct batch *b)
{
    const int64_t times[8] = {b->in_progress_at, b->expires_at,  b->finalizing_at,
                              b->completed_at,   b->failed_at,   b->expired_at,
                              b->cancelling_at,  b->cancelled_at};

    bind_fixed(st, b);
    bind_text(st, 13, batch_status_name(b->status));
    bind_int(st, 14, b->expiring);
    bind_text(st, 15, b->window);
    bind_id(st, 16, &b->output_file);
    bind_id(st, 17, &b->error_file);
    for (int i = 0; i < 8; i++)
        bind_time(st, 18 + i, times[i]);
    bind_int(st, 26, b->counts.total);
    bind_int(st, 27, b->counts.completed);
    bind_int(st, 28, b->counts.failed);
    bind_usage(st, 29, b);
    bind_text(st, 34, b->model);
    bind_text(st, 35, b->errors);
    bind_int(st, 36, b->priority);
    bind_int(st, 37, b->paused);
    bind_int(st, 38, b->hold);
    bind_int(st, 39, b->reused);
    bind_int(st, 40, b->idle);
}

static bool names_of_row(sqlite3_stmt *st, struct batch *b)
{
    return col_id(st, 0, &b->id) && col_id(st, 1, &b->project) &&
           endpoint_from(col_str(st, 2), &b->endpoint) == RC_OK &&
           col_id(st, 3, &b->input_file) && col_id(st, 8, &b->continue_from) &&
           batch_status_from(col_str(st, 12), &b->status) == RC_OK &&
           col_field(st, 14, b->window, sizeof b->window) &&
           col_id(st, 15, &b->output_file) && col_id(st, 16, &b->error_file);
}

/* A hash stands beside a key. */
static bool hash_of_row(sqlite3_stmt *st, struct batch *b)
{
    return sqlite3_column_type(st, 10) == SQLITE_NULL ||
           col_hash(st, 11, b->request_hash);
}

static void numbers_of_row(sqlite3_stmt *st, struct batch *b)
{
    int64_t *const times[8] = {&b->in_progress_at, &b->expires_at,  &b->finalizing_at,
                               &b->completed_at,   &b->failed_at,   &b->expired_at,
                               &b->cancelling_at,  &b->cancelled_at};
    uint32_t *const counts[3] = {&b->counts.total, &b->counts.completed,
                                 &b->counts.failed};
    uint64_t *const usage[5] = {&b->usage.input, &b->usage.cached, &b->usage.output,
                                &b->usage.reasoning, &b->usage.total};

    b->input_missing = col_int(st, 4) != 0;
    b->created_at = col_int(st, 5);
    b->output_expires_after = col_int(st, 6);
    b->expiring = col_int(st, 13) != 0;
    for (int i = 0; i < 8; i++)
        *times[i] = col_int(st, 17 + i);
    for (int i = 0; i < 3; i++)
        *counts[i] = (uint32_t)col_int(st, 25 + i);
    b->has_usage = sqlite3_column_type(st, 32) != SQLITE_NULL;
    for (int i = 0; i < 5; i++)
        *usage[i] = (uint64_t)col_int(st, 28 + i);
    b->priority = (int)col_int(st, 35);
    b->paused = col_int(st, 36) != 0;
    b->hold = (uint32_t)col_int(st, 37);
    b->reused = (uint32_t)col_int(st, 38);
    b->idle = col_int(st, 39) != 0;
}

static enum rc batch_of_row(sqlite3_stmt *st, struct batch *ret, struct err *e)
{
    struct batch b = {0};

    if (!names_of_row(st, &b) || !hash_of_row(st, &b))
        return row_damaged(st, "batch", e);
    numbers_of_row(st, &b);
    b.metadata = col_dup(st, 7);
    b.callback_url = col_dup(st, 9);
    b.idempotency_key = col_dup(st, 10);
    b.model = col_dup(st, 33);
    b.errors = col_dup(st, 34);
    *ret = b;
    return RC_OK;
}

/* The one row of a statement, if there is one. */
static enum rc one_batch(struct conn *c, sqlite3_stmt *st, struct batch *ret,
                         struct err *e)
{
    enum rc rc = conn_step(c, st, e);

    if (rc == RC_OK) {
        rc = batch_of_row(st, ret, e);
        (void)sqlite3_reset(st); /* OK after a row */
    }
    return rc;
}

enum rc rows_batch_get(struct conn *c, const struct id *project, const char *id,
                       struct batch *ret, struct err *e)
{
    sqlite3_stmt *st;
    enum rc rc;

    TRY(conn_stmt(c, "SELECT " BATCH_COLUMNS " FROM batches WHERE id = ?1 AND " MINE, &st,
                  e));
    bind_text(st, 1, id);
    bind_project(st, 2, project);
    rc = one_batch(c, st, ret, e);
    return rc == RC_NOTFOUND ? err_set(e, rc, "there is no batch '%.80s'", id) : rc;
}

/* ---- adding one ---------------------------------------------------------------------*/

/* Is the input gone, or going, at the moment the batch is made?  Said in the same
 * transaction: a file deleted later is still the batch's. */
static enum rc look_for_input(struct conn *c, struct batch *b, struct err *e)
{
    int64_t seq;
    enum rc rc = row_seq(c,
                         "SELECT seq FROM files"
                         " WHERE id = ?1 AND project = ?2 AND deleted_at IS NULL",
                         &b->project, b->input_file.z, &seq, e);

    b->input_missing = rc == RC_NOTFOUND;
    return rc == RC_NOTFOUND ? RC_OK : rc;
}

static enum rc look_for_first(struct conn *c, const struct batch *b, struct err *e)
{
    int64_t seq;
    enum rc rc;

    if (id_none(&b->continue_from))
        return RC_OK;
    rc = row_seq(c, "SELECT seq FROM batches WHERE id = ?1 AND project = ?2", &b->project,
                 b->continue_from.z, &seq, e);
    return rc == RC_NOTFOUND
               ? err_set(e, rc, "there is no batch '%s'", b->continue_from.z)
               : rc;
}

enum rc rows_batch_by_key(struct conn *c, const struct id *project, const char *key,
                          struct batch *ret, struct err *e)
{
    sqlite3_stmt *st;

    TRY(conn_stmt(c,
                  "SELECT " BATCH_COLUMNS " FROM batches"
                  " WHERE project = ?1 AND idempotency_key = ?2",
                  &st, e));
    bind_text(st, 1, project->z);
    bind_text(st, 2, key);
    return one_batch(c, st, ret, e);
}

/* RC_CONFLICT: *ret_first is the batch that the key was used for. */
static enum rc look_for_key(struct conn *c, const struct batch *b,
                            struct batch *ret_first, struct err *e)
{
    enum rc rc;

    if (!b->idempotency_key)
        return RC_OK;
    rc = rows_batch_by_key(c, &b->project, b->idempotency_key, ret_first, e);
    if (rc == RC_NOTFOUND)
        return RC_OK;
    return rc == RC_OK ? err_set(e, RC_CONFLICT, "the Idempotency-Key made batch '%s'",
                                 ret_first->id.z)
                       : rc;
}

enum rc rows_live_batches(struct conn *c, const struct id *project, uint64_t *ret,
                          struct err *e)
{
#define COUNT                                                                            \
    "SELECT count(*) FROM batches INDEXED BY batches_live_by_project WHERE " LIVE
    const char *sql[2] = {COUNT, COUNT " AND project = ?1"};
#undef COUNT
    sqlite3_stmt *st;

    TRY(conn_stmt(c, sql[project != NULL], &st, e));
    if (project)
        bind_project(st, 1, project);
    TRY(conn_step(c, st, e));
    *ret = (uint64_t)col_int(st, 0);
    (void)sqlite3_reset(st); /* OK after a row */
    return RC_OK;
}

static enum rc check_quota(struct conn *c, const struct batch *b,
                           const struct batch_quota *q, struct err *e)
{
    uint64_t live;

    if (!q || !q->max_live)
        return RC_OK;
    TRY(rows_live_batches(c, &b->project, &live, e));
    if (live < q->max_live)
        return RC_OK;
    return err_set(e, RC_LIMIT,
                   "This project has %llu unfinished batches, and its limit is %llu: "
                   "wait for one to end, or cancel one.",
                   (unsigned long long)live, (unsigned long long)q->max_live);
}

enum rc rows_batch_add(struct conn *c, const struct batch *b, const struct batch_quota *q,
                       struct batch *ret_first, struct err *e)
{
    struct batch row = *b; /* borrows what b owns */
    sqlite3_stmt *st;
    enum rc rc;

    TRY(look_for_key(c, b, ret_first, e));
    TRY(look_for_first(c, b, e));
    TRY(check_quota(c, b, q, e));
    TRY(look_for_input(c, &row, e));
    TRY(conn_stmt(c,
                  "INSERT INTO batches (" BATCH_COLUMNS ")"
                  " VALUES (" FIXED_VALUES ", " MOVING_VALUES ")",
                  &st, e));
    bind_batch(st, &row);
    rc = conn_run(c, st, NULL, e);
    return rc == RC_CONFLICT
               ? err_set(e, RC_INVALID, "there is a batch '%s' already", b->id.z)
               : rc;
}

/* ---- lists --------------------------------------------------------------------------*/

static void free_batches(struct row_array *a)
{
    struct batch *p = (struct batch *)(void *)a->p;

    for (size_t i = 0; i < a->n; i++)
        batch_done(&p[i]);
    mem_free(p);
}

/* Up to max rows; *ret_more: there is one above that. */
static enum rc collect(struct conn *c, sqlite3_stmt *st, size_t max, struct batch **ret,
                       size_t *ret_n, bool *ret_more, struct err *e)
{
    struct row_array a = {0};
    enum rc rc;

    while ((rc = conn_step(c, st, e)) == RC_OK && a.n < max) {
        struct batch *b = row_room(&a, sizeof *b, e);

        rc = b ? batch_of_row(st, b, e) : RC_NOMEM;
        if (rc != RC_OK)
            break;
        a.n++;
    }
    (void)sqlite3_reset(st); /* an error of the last step is told already */
    if (rc != RC_OK && rc != RC_NOTFOUND) {
        free_batches(&a);
        return rc;
    }
    *ret_more = rc == RC_OK;
    *ret = (struct batch *)(void *)a.p;
    *ret_n = a.n;
    return RC_OK;
}

enum rc rows_batch_list(struct conn *c, const struct id *project, const char *after,
                        unsigned limit, struct batch **ret, size_t *ret_n, bool *ret_more,
                        struct err *e)
{
#define LIST(cond)                                                                       \
    "SELECT " BATCH_COLUMNS " FROM batches WHERE seq < ?1" cond                          \
    " ORDER BY seq DESC LIMIT ?2"
    const char *sql[2] = {LIST(""), LIST(" AND project = ?3")};
#undef LIST
    int64_t seq = INT64_MAX;
    sqlite3_stmt *st;

    if (after)
        TRY(row_after(c, "SELECT seq FROM batches WHERE id = ?1 AND " MINE, project,
                      after, &seq, e));
    TRY(conn_stmt(c, sql[project != NULL], &st, e));
    bind_int(st, 1, seq);
    bind_int(st, 2, (int64_t)limit + 1);
    if (project)
        bind_project(st, 3, project);
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

/* ---- changing one -------------------------------------------------------------------*/

static void replace_text(char **dst, const char *z)
{
    if (!z)
        return;
    mem_free(*dst);
    *dst = mem_dup(z, strlen(z));
}

static enum rc add_result(struct conn *c, const struct file_rec *f, struct err *e)
{
    enum rc rc = f ? rows_file_add(c, f, NULL, e) : RC_OK;

    /* CONFLICT means one thing only to whoever moves a batch: not a legal move. */
    return rc == RC_CONFLICT ? RC_INVALID : rc;
}

static void apply(const struct batch_change *change, struct batch *b)
{
    if (!change)
        return;
    replace_text(&b->model, change->model);
    replace_text(&b->errors, change->errors);
    if (change->counts)
        b->counts = *change->counts;
    if (change->usage) {
        b->usage = *change->usage;
        b->has_usage = true;
    }
    if (change->reused)
        b->reused = *change->reused;
    b->idle = b->idle || change->idle;
    if (change->output)
        b->output_file = change->output->id;
    if (change->error)
        b->error_file = change->error->id;
}

static enum rc write_batch(struct conn *c, const struct batch *b, struct err *e)
{
    sqlite3_stmt *st;

    TRY(conn_stmt(c,
                  "UPDATE batches SET (" MOVING_COLUMNS ") = (" MOVING_VALUES ")"
                  " WHERE id = ?1",
                  &st, e));
    bind_batch(st, b);
    return conn_run(c, st, NULL, e);
}

/* What the guards below are there against: a transaction that ends in the middle of a
 * move.  The savepoint is the one that the owner releases. */
static enum rc split(struct conn *c, struct err *e)
{
    TRY(conn_exec(c, "COMMIT", e));
    TRY(conn_exec(c, "BEGIN IMMEDIATE", e));
    return conn_exec(c, "SAVEPOINT one", e);
}

static enum rc write_move(struct conn *c, const struct batch_change *change,
                          struct batch *b, int64_t now, struct err *e)
{
    apply(change, b);
    TRY(write_batch(c, b, e));
    if (!GUARD(FILES_WITH_STATUS) && change && change->output)
        TRY(split(c, e));
    if (change) {
        TRY(add_result(c, change->output, e));
        TRY(add_result(c, change->error, e));
    }
    if (!change || !change->n_notify || !batch_terminal(b->status))
        return RC_OK;
    if (!GUARD(OUTBOX_WITH_STATUS))
        TRY(split(c, e));
    return rows_outbox_add(c, b, change->notify, change->n_notify, now, e);
}

enum rc rows_batch_move(struct conn *c, const struct id *project, const char *id,
                        enum batch_event ev, int64_t now,
                        const struct batch_change *change, struct batch *ret,
                        struct err *e)
{
    struct batch b = {0};
    enum rc rc = rows_batch_get(c, project, id, &b, e);

    if (rc != RC_OK)
        return rc;
    rc = batch_step(&b, ev, now);
    if (rc == RC_CONFLICT)
        err_set(e, rc, "batch '%s' is %s: %s cannot happen to it", id,
                batch_status_name(b.status), batch_event_name(ev));
    if (rc == RC_OK)
        rc = write_move(c, change, &b, now, e);
    if (rc == RC_OK || rc == RC_CONFLICT)
        *ret = b;
    else
        batch_done(&b);
    return rc;
}

static enum rc apply_edit(const struct batch_edit *edit, struct batch *b, struct err *e)
{
    if (edit->has_priority)
        b->priority = edit->priority;
    if (edit->has_paused)
        b->paused = edit->paused;
    if (edit->has_idle)
        b->idle = edit->idle;
    if (edit->has_hold)
        b->hold = edit->hold;
    if (!edit->has_window)
        return RC_OK;
    if (str_fmt(b->window, sizeof b->window, "%s", edit->window) != RC_OK)
        return err_set(e, RC_INVALID, "'%.80s' is no completion window", edit->window);
    b->expires_at = edit->expires_at;
    return RC_OK;
}

enum rc rows_batch_edit(struct conn *c, const struct id *project, const char *id,
                        const struct batch_edit *edit, struct batch *ret, struct err *e)
{
    struct batch b = {0};
    enum rc rc = rows_batch_get(c, project, id, &b, e);

    if (rc != RC_OK)
        return rc;
    if (b.status != BATCH_VALIDATING && b.status != BATCH_IN_PROGRESS)
        rc = err_set(e, RC_CONFLICT, "batch '%s' is %s: nothing of it can be changed", id,
                     batch_status_name(b.status));
    if (rc == RC_OK)
        rc = apply_edit(edit, &b, e);
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
