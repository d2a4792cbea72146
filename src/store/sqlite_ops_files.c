/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite_ops.h"
#include "store/sqlite_owner.h"
#include "store/sqlite_rows.h"
#include "base/mem.h"

/* What a call takes over to the owner's thread; each sets what it needs. */
struct file_call {
    struct request rq;
    const struct id *project;
    const char *id;
    const struct file_rec *file;
    const struct file_query *query;
    const struct file_quota *quota;
    const struct upload_rec *upload;
    const struct part_rec *part;
    enum upload_status to;
    int64_t now; /* not in rq: looking for what has expired must not write the floor */
    size_t max;
    void *ret; /* of the operation's own type */
    size_t *ret_n;
    bool *ret_bool;
};
#define FILE_CALL(rq) CONTAINER_OF(rq, struct file_call, rq)

/* ---- files ----------------------------------------------------------------------------*/

static enum rc do_file_add(struct conn *c, struct request *rq)
{
    const struct file_call *x = FILE_CALL(rq);

    return rows_file_add(c, x->file, x->quota, rq->e);
}

static enum rc op_file_add(void *self, const struct file_rec *f,
                           const struct file_quota *q, struct err *e)
{
    struct file_call x = {
        {.fn = do_file_add, .change = true, .now = f->created_at, .e = e},
        .file = f,
        .quota = q};

    return ledger_call(self, &x.rq);
}

static enum rc do_file_get(struct conn *c, struct request *rq)
{
    const struct file_call *x = FILE_CALL(rq);

    return rows_file_get(c, x->project, x->id, x->ret, rq->e);
}

static enum rc op_file_get(void *self, const struct id *project, const char *id,
                           struct file_rec *ret, struct err *e)
{
    struct file_call x = {
        {.fn = do_file_get, .e = e}, .project = project, .id = id, .ret = ret};

    return ledger_call(self, &x.rq);
}

static enum rc do_file_list(struct conn *c, struct request *rq)
{
    const struct file_call *x = FILE_CALL(rq);

    return rows_file_list(c, x->query, x->ret, x->ret_n, x->ret_bool, rq->e);
}

static enum rc op_file_list(void *self, const struct file_query *q, struct file_rec **ret,
                            size_t *ret_n, bool *ret_more, struct err *e)
{
    struct file_call x = {{.fn = do_file_list, .e = e},
                          .query = q,
                          .ret = ret,
                          .ret_n = ret_n,
                          .ret_bool = ret_more};

    return ledger_call(self, &x.rq);
}

static enum rc do_file_delete(struct conn *c, struct request *rq)
{
    const struct file_call *x = FILE_CALL(rq);

    return rows_file_delete(c, x->project, x->id, rq->now, rq->e);
}

static enum rc op_file_delete(void *self, const struct id *project, const char *id,
                              int64_t now, struct err *e)
{
    struct file_call x = {{.fn = do_file_delete, .change = true, .now = now, .e = e},
                          .project = project,
                          .id = id};

    return ledger_call(self, &x.rq);
}

static enum rc do_file_reap(struct conn *c, struct request *rq)
{
    const struct file_call *x = FILE_CALL(rq);

    return rows_file_reap(c, x->now, x->ret, x->max, x->ret_n, rq->e);
}

static enum rc op_file_reap(void *self, int64_t now, struct id *ret, size_t max,
                            size_t *ret_n, struct err *e)
{
    struct file_call x = {{.fn = do_file_reap, .change = true, .e = e},
                          .now = now,
                          .ret = ret,
                          .max = max,
                          .ret_n = ret_n};

    return ledger_call(self, &x.rq);
}

static enum rc do_file_forget(struct conn *c, struct request *rq)
{
    const struct file_call *x = FILE_CALL(rq);

    return rows_file_forget(c, x->id, rq->e);
}

static enum rc op_file_forget(void *self, const char *id, struct err *e)
{
    struct file_call x = {{.fn = do_file_forget, .change = true, .e = e}, .id = id};

    return ledger_call(self, &x.rq);
}

static enum rc do_file_known(struct conn *c, struct request *rq)
{
    const struct file_call *x = FILE_CALL(rq);

    return rows_file_known(c, x->id, x->ret_bool, rq->e);
}

static enum rc op_file_known(void *self, const char *id, bool *ret, struct err *e)
{
    struct file_call x = {{.fn = do_file_known, .e = e}, .id = id, .ret_bool = ret};

    return ledger_call(self, &x.rq);
}

static enum rc do_usage_of(struct conn *c, struct request *rq)
{
    const struct file_call *x = FILE_CALL(rq);

    return rows_usage_of(c, x->project, x->ret, rq->e);
}

static enum rc op_usage_of(void *self, const struct id *project,
                           struct project_usage *ret, struct err *e)
{
    struct file_call x = {{.fn = do_usage_of, .e = e}, .project = project, .ret = ret};

    return ledger_call(self, &x.rq);
}

/* ---- uploads --------------------------------------------------------------------------*/

static enum rc do_upload_add(struct conn *c, struct request *rq)
{
    const struct file_call *x = FILE_CALL(rq);

    return rows_upload_add(c, x->upload, rq->e);
}

static enum rc op_upload_add(void *self, const struct upload_rec *u, struct err *e)
{
    struct file_call x = {
        {.fn = do_upload_add, .change = true, .now = u->created_at, .e = e}, .upload = u};

    return ledger_call(self, &x.rq);
}

static enum rc do_upload_get(struct conn *c, struct request *rq)
{
    const struct file_call *x = FILE_CALL(rq);

    return rows_upload_get(c, x->project, x->id, x->ret, rq->e);
}

static enum rc op_upload_get(void *self, const struct id *project, const char *id,
                             struct upload_rec *ret, struct err *e)
{
    struct file_call x = {
        {.fn = do_upload_get, .e = e}, .project = project, .id = id, .ret = ret};

    return ledger_call(self, &x.rq);
}

static enum rc do_upload_move(struct conn *c, struct request *rq)
{
    const struct file_call *x = FILE_CALL(rq);

    return rows_upload_move(c, x->project, x->id, x->to, rq->now, x->file, x->quota,
                            x->ret, rq->e);
}

static enum rc op_upload_move(void *self, const struct id *project, const char *id,
                              enum upload_status to, int64_t now,
                              const struct file_rec *file, const struct file_quota *q,
                              struct upload_rec *ret, struct err *e)
{
    struct upload_rec u = {0};
    struct file_call x = {{.fn = do_upload_move, .change = true, .now = now, .e = e},
                          .project = project,
                          .id = id,
                          .to = to,
                          .file = file,
                          .quota = q,
                          .ret = &u};
    enum rc rc = ledger_call(self, &x.rq);

    /* What a group that was undone left in u never became true. */
    if (ret && (rc == RC_OK || rc == RC_CONFLICT))
        *ret = u;
    else
        upload_rec_done(&u);
    return rc;
}

static enum rc do_upload_reap(struct conn *c, struct request *rq)
{
    const struct file_call *x = FILE_CALL(rq);

    return rows_upload_reap(c, x->now, x->ret, x->max, x->ret_n, rq->e);
}

static enum rc op_upload_reap(void *self, int64_t now, struct id *ret, size_t max,
                              size_t *ret_n, struct err *e)
{
    struct file_call x = {{.fn = do_upload_reap, .change = true, .e = e},
                          .now = now,
                          .ret = ret,
                          .max = max,
                          .ret_n = ret_n};

    return ledger_call(self, &x.rq);
}

static enum rc do_part_add(struct conn *c, struct request *rq)
{
    const struct file_call *x = FILE_CALL(rq);

    return rows_part_add(c, x->project, x->id, x->part, x->quota, rq->e);
}

static enum rc op_part_add(void *self, const struct id *project, const char *upload,
                           const struct part_rec *p, const struct file_quota *q,
                           struct err *e)
{
    struct file_call x = {
        {.fn = do_part_add, .change = true, .now = p->created_at, .e = e},
        .project = project,
        .id = upload,
        .part = p,
        .quota = q};

    return ledger_call(self, &x.rq);
}

static enum rc do_part_list(struct conn *c, struct request *rq)
{
    const struct file_call *x = FILE_CALL(rq);

    return rows_part_list(c, x->project, x->id, x->ret, x->ret_n, rq->e);
}

static enum rc op_part_list(void *self, const struct id *project, const char *upload,
                            struct part_rec **ret, size_t *ret_n, struct err *e)
{
    struct file_call x = {{.fn = do_part_list, .e = e},
                          .project = project,
                          .id = upload,
                          .ret = ret,
                          .ret_n = ret_n};

    return ledger_call(self, &x.rq);
}

static enum rc do_part_forget(struct conn *c, struct request *rq)
{
    const struct file_call *x = FILE_CALL(rq);

    return rows_part_forget(c, x->id, rq->e);
}

static enum rc op_part_forget(void *self, const char *id, struct err *e)
{
    struct file_call x = {{.fn = do_part_forget, .change = true, .e = e}, .id = id};

    return ledger_call(self, &x.rq);
}

void sqlite_file_ops(struct store_ops *ops)
{
    ops->file_add = op_file_add;
    ops->file_get = op_file_get;
    ops->file_list = op_file_list;
    ops->file_delete = op_file_delete;
    ops->file_reap = op_file_reap;
    ops->file_forget = op_file_forget;
    ops->file_known = op_file_known;
    ops->usage_of = op_usage_of;
    ops->upload_add = op_upload_add;
    ops->upload_get = op_upload_get;
    ops->upload_move = op_upload_move;
    ops->upload_reap = op_upload_reap;
    ops->part_add = op_part_add;
    ops->part_list = op_part_list;
    ops->part_forget = op_part_forget;
}
