/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite_rows.h"
#include "store/sqlite_value.h"
#include "base/mem.h"

#include <limits.h>

#define OUTBOX_COLUMNS                                                                   \
    "event, seq, project, batch, type, destination, created_at, next_at, tries,"         \
    " settled_at, delivered, status, error"

static enum rc add_one(struct conn *c, const struct batch *b, const char *type,
                       const struct id *event, const char *destination, int64_t now,
                       struct err *e)
{
    sqlite3_stmt *st;

    TRY(conn_stmt(c,
                  "INSERT INTO outbox (event, project, batch, type, destination,"
                  " created_at, next_at, tries, settled_at, delivered, status, error)"
                  " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, 0, NULL, 0, 0, NULL)",
                  &st, e));
    bind_text(st, 1, event->z);
    bind_text(st, 2, b->project.z);
    bind_text(st, 3, b->id.z);
    bind_text(st, 4, type);
    bind_text(st, 5, destination);
    bind_int(st, 6, now);
    return conn_run(c, st, NULL, e);
}

enum rc rows_outbox_add(struct conn *c, const struct batch *b, const char *const *notify,
                        size_t n, int64_t now, struct err *e)
{
    struct id event = id_make(ID_EVENT);
    char type[sizeof((struct outbox_rec *)0)->type];

    CHECK(str_fmt(type, sizeof type, "batch.%s", batch_status_name(b->status)) == RC_OK);
    for (size_t i = 0; i < n; i++)
        TRY(add_one(c, b, type, &event, notify[i], now, e));
    return RC_OK;
}

static enum rc outbox_of_row(sqlite3_stmt *st, struct outbox_rec *ret, struct err *e)
{
    struct outbox_rec o = {.seq = col_int(st, 1),
                           .created_at = col_int(st, 6),
                           .next_at = col_int(st, 7),
                           .tries = (uint32_t)col_int(st, 8),
                           .settled_at = col_int(st, 9),
                           .delivered = col_int(st, 10) != 0,
                           .status = (int)col_int(st, 11)};

    if (!col_id(st, 0, &o.event) || !col_id(st, 2, &o.project) ||
        !col_id(st, 3, &o.batch) || !col_field(st, 4, o.type, sizeof o.type))
        return row_damaged(st, "event", e);
    o.destination = col_dup(st, 5);
    o.error = col_dup(st, 12);
    *ret = o;
    return RC_OK;
}

static enum rc collect(struct conn *c, sqlite3_stmt *st, struct outbox_rec **ret,
                       size_t *ret_n, struct err *e)
{
    struct row_array a = {0};
    enum rc rc;

    while ((rc = conn_step(c, st, e)) == RC_OK) {
        struct outbox_rec *o = row_room(&a, sizeof *o, e);

        rc = o ? outbox_of_row(st, o, e) : RC_NOMEM;
        if (rc != RC_OK)
            break;
        a.n++;
    }
    (void)sqlite3_reset(st); /* an error of the last step is told already */
    if (rc != RC_NOTFOUND) {
        outbox_free((struct outbox_rec *)(void *)a.p, a.n);
        return rc;
    }
    *ret = (struct outbox_rec *)(void *)a.p;
    *ret_n = a.n;
    return RC_OK;
}

enum rc rows_outbox_due(struct conn *c, int64_t now, size_t max, struct outbox_rec **ret,
                        size_t *ret_n, struct err *e)
{
    sqlite3_stmt *st;

    TRY(conn_stmt(c,
                  "SELECT " OUTBOX_COLUMNS " FROM outbox"
                  " WHERE settled_at IS NULL AND next_at <= ?1"
                  " ORDER BY next_at, seq LIMIT ?2",
                  &st, e));
    bind_int(st, 1, now);
    bind_int(st, 2, max < INT64_MAX ? (int64_t)max : INT64_MAX);
    return collect(c, st, ret, ret_n, e);
}

enum rc rows_outbox_pending(struct conn *c, uint64_t *ret, struct err *e)
{
    sqlite3_stmt *st;

    TRY(conn_stmt(c, "SELECT count(*) FROM outbox WHERE settled_at IS NULL", &st, e));
    TRY(conn_step(c, st, e));
    *ret = (uint64_t)col_int(st, 0);
    (void)sqlite3_reset(st); /* OK after a row */
    return RC_OK;
}

enum rc rows_outbox_settle(struct conn *c, int64_t seq, const struct outbox_result *r,
                           struct err *e)
{
    bool settled = r->delivered || r->given_up;
    sqlite3_stmt *st;
    int changes;

    TRY(conn_stmt(c,
                  "UPDATE outbox SET tries = tries + ?7, settled_at = ?2, delivered = ?3,"
                  " next_at = ?4, status = ?5, error = ?6"
                  " WHERE seq = ?1 AND settled_at IS NULL",
                  &st, e));
    bind_int(st, 1, seq);
    bind_time(st, 2, settled ? r->now : 0);
    bind_int(st, 3, r->delivered);
    bind_int(st, 4, settled ? r->now : r->next_at);
    bind_int(st, 5, r->status);
    bind_text(st, 6, r->error);
    bind_int(st, 7, !r->unsent);
    TRY(conn_run(c, st, &changes, e));
    return changes ? RC_OK
                   : err_set(e, RC_NOTFOUND, "event %lld is settled, or was never there",
                             (long long)seq);
}

enum rc rows_outbox_list(struct conn *c, const struct id *project, const char *batch,
                         struct outbox_rec **ret, size_t *ret_n, struct err *e)
{
    sqlite3_stmt *st;

    TRY(conn_stmt(c,
                  "SELECT " OUTBOX_COLUMNS " FROM outbox WHERE batch = ?1"
                  " AND (?2 IS NULL OR project = ?2) ORDER BY seq",
                  &st, e));
    bind_text(st, 1, batch);
    bind_project(st, 2, project);
    return collect(c, st, ret, ret_n, e);
}

enum rc rows_outbox_purge(struct conn *c, int64_t before, struct err *e)
{
    sqlite3_stmt *st;

    TRY(conn_stmt(c,
                  "DELETE FROM outbox WHERE settled_at IS NOT NULL AND settled_at < ?1",
                  &st, e));
    bind_int(st, 1, before);
    return conn_run(c, st, NULL, e);
}
