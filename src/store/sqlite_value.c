/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite_value.h"
#include "base/mem.h"

/* It fails only for an index that is not there (our bug), a huge text or no memory. */
static void bind_ok(int rc, sqlite3_stmt *st)
{
    MEM_CHECK(rc != SQLITE_NOMEM);
    if (rc != SQLITE_OK)
        PANIC("cannot bind a parameter of: %s", sqlite3_sql(st));
}

void bind_text(sqlite3_stmt *st, int i, const char *z)
{
    bind_ok(z ? sqlite3_bind_text(st, i, z, -1, SQLITE_STATIC) : sqlite3_bind_null(st, i),
            st);
}

void bind_id(sqlite3_stmt *st, int i, const struct id *id)
{
    bind_text(st, i, id_none(id) ? NULL : id->z);
}

void bind_project(sqlite3_stmt *st, int i, const struct id *project)
{
    bind_text(st, i, project ? project->z : NULL);
}

void bind_int(sqlite3_stmt *st, int i, int64_t v)
{
    bind_ok(sqlite3_bind_int64(st, i, v), st);
}

void bind_time(sqlite3_stmt *st, int i, int64_t v)
{
    bind_ok(v ? sqlite3_bind_int64(st, i, v) : sqlite3_bind_null(st, i), st);
}

void bind_hash(sqlite3_stmt *st, int i, const uint8_t hash[32])
{
    bind_ok(hash ? sqlite3_bind_blob(st, i, hash, 32, SQLITE_STATIC)
                 : sqlite3_bind_null(st, i),
            st);
}

struct str col_str(sqlite3_stmt *st, int i)
{
    const char *p = (const char *)sqlite3_column_text(st, i);

    return (struct str){p ? p : "", (size_t)sqlite3_column_bytes(st, i)};
}

char *col_dup(sqlite3_stmt *st, int i)
{
    struct str s = col_str(st, i);

    return sqlite3_column_type(st, i) == SQLITE_NULL ? NULL : mem_dup(s.p, s.n);
}

bool col_field(sqlite3_stmt *st, int i, char *dst, size_t cap)
{
    struct str s = col_str(st, i);

    if (s.n >= cap)
        return false;
    memcpy(dst, s.p, s.n);
    memset(dst + s.n, 0, cap - s.n);
    return true;
}

bool col_id(sqlite3_stmt *st, int i, struct id *dst)
{
    return col_field(st, i, dst->z, sizeof dst->z);
}

bool col_hash(sqlite3_stmt *st, int i, uint8_t dst[32])
{
    const void *p = sqlite3_column_blob(st, i);

    if (!p || sqlite3_column_bytes(st, i) != 32)
        return false;
    memcpy(dst, p, 32);
    return true;
}

int64_t col_int(sqlite3_stmt *st, int i)
{
    return sqlite3_column_int64(st, i);
}

uint64_t col_total(sqlite3_stmt *st, int i)
{
    double v = sqlite3_column_double(st, i);

    return v <= 0 ? 0 : v >= 0x1p63 ? UINT64_MAX : (uint64_t)v;
}

enum rc row_damaged(sqlite3_stmt *st, const char *what, struct err *e)
{
    const char *id = (const char *)sqlite3_column_text(st, 0);

    err_set(e, RC_CORRUPT, "the row of %s '%.80s' is damaged", what, id ? id : "");
    (void)sqlite3_reset(st); /* the damage is told already */
    return RC_CORRUPT;
}

enum rc row_seq(struct conn *c, const char *sql, const struct id *project, const char *id,
                int64_t *ret_seq, struct err *e)
{
    sqlite3_stmt *st;
    enum rc rc;

    TRY(conn_stmt(c, sql, &st, e));
    bind_text(st, 1, id);
    bind_project(st, 2, project);
    rc = conn_step(c, st, e);
    if (rc == RC_OK) {
        *ret_seq = col_int(st, 0);
        (void)sqlite3_reset(st); /* OK after a row */
    }
    return rc;
}

enum rc row_after(struct conn *c, const char *sql, const struct id *project,
                  const char *id, int64_t *ret_seq, struct err *e)
{
    enum rc rc = row_seq(c, sql, project, id, ret_seq, e);

    return rc == RC_NOTFOUND ? err_set(e, rc, "there is no '%.80s' to go on after", id)
                             : rc;
}

enum rc row_ids(struct conn *c, sqlite3_stmt *st, const char *what, struct id *ret,
                size_t max, size_t *ret_n, struct err *e)
{
    size_t n = 0;
    enum rc rc = RC_OK;

    while (n < max && (rc = conn_step(c, st, e)) == RC_OK) {
        if (!col_id(st, 0, &ret[n]))
            return row_damaged(st, what, e);
        n++;
    }
    if (rc != RC_OK && rc != RC_NOTFOUND)
        return rc;
    (void)sqlite3_reset(st); /* OK after a row */
    *ret_n = n;
    return RC_OK;
}

void *row_room(struct row_array *a, size_t size, struct err *e)
{
    if (a->n == a->cap) {
        size_t cap = a->cap ? 2 * a->cap : 16;
        char *p = mem_resize(a->p, cap * size);

        if (!p) {
            err_set(e, RC_NOMEM, "no memory for a list of %zu rows", cap);
            return NULL;
        }
        a->p = p;
        a->cap = cap;
    }
    return a->p + a->n * size;
}
