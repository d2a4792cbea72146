/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite_ops.h"
#include "store/sqlite_owner.h"
#include "store/sqlite_rows.h"
#include "base/mem.h"

/* What a call takes over to the owner's thread; each sets what it needs. */
struct batch_call {
    struct request rq;
    const struct id *project;
    const char *id;
    const struct batch *in;
    const struct batch_quota *quota;
    const struct batch_change *change;
    const struct batch_edit *edit;
    enum batch_event ev;
    unsigned limit;
    struct batch *ret;
    struct batch **ret_all;
    size_t *ret_n;
    bool *ret_more;
};
#define BATCH_CALL(rq) CONTAINER_OF(rq, struct batch_call, rq)

static enum rc do_batch_add(struct conn *c, struct request *rq)
{
    const struct batch_call *x = BATCH_CALL(rq);

    return rows_batch_add(c, x->in, x->quota, x->ret, rq->e);
}

static enum rc op_batch_add(void *self, const struct batch *b,
                            const struct batch_quota *q, struct batch *ret_first,
                            struct err *e)
{
    struct batch first = {0};
    struct batch_call x = {
        {.fn = do_batch_add, .change = true, .now = b->created_at, .e = e},
        .in = b,
        .quota = q,
        .ret = &first};
    enum rc rc = ledger_call(self, &x.rq);

    /* What a group that was undone left in it never became true. */
    if (ret_first && rc == RC_CONFLICT)
        *ret_first = first;
    else
        batch_done(&first);
    return rc;
}

static enum rc do_batch_get(struct conn *c, struct request *rq)
{
    const struct batch_call *x = BATCH_CALL(rq);

    return rows_batch_get(c, x->project, x->id, x->ret, rq->e);
}

static enum rc op_batch_get(void *self, const struct id *project, const char *id,
                            struct batch *ret, struct err *e)
{
    struct batch_call x = {
        {.fn = do_batch_get, .e = e}, .project = project, .id = id, .ret = ret};

    return ledger_call(self, &x.rq);
}

static enum rc do_batch_by_key(struct conn *c, struct request *rq)
{
    const struct batch_call *x = BATCH_CALL(rq);

    return rows_batch_by_key(c, x->project, x->id, x->ret, rq->e);
}

static enum rc op_batch_by_key(void *self, const struct id *project, const char *key,
                               struct batch *ret, struct err *e)
{
    struct batch_call x = {
        {.fn = do_batch_by_key, .e = e}, .project = project, .id = key, .ret = ret};

    return ledger_call(self, &x.rq);
}

static enum rc do_batch_list(struct conn *c, struct request *rq)
{
    const struct batch_call *x = BATCH_CALL(rq);

    return rows_batch_list(c, x->project, x->id, x->limit, x->ret_all, x->ret_n,
                           x->ret_more, rq->e);
}

static enum rc op_batch_list(void *self, const struct id *project, const char *after,
                             unsigned limit, struct batch **ret, size_t *ret_n,
                             bool *ret_more, struct err *e)
{
    struct batch_call x = {{.fn = do_batch_list, .e = e},
                           .project = project,
                           .id = after,
                           .limit = limit,
                           .ret_all = ret,
                           .ret_n = ret_n,
                           .ret_more = ret_more};

    return ledger_call(self, &x.rq);
}

static enum rc do_batch_live(struct conn *c, struct request *rq)
{
    const struct batch_call *x = BATCH_CALL(rq);

    return rows_batch_live(c, x->ret_all, x->ret_n, rq->e);
}

static enum rc op_batch_live(void *self, struct batch **ret, size_t *ret_n, struct err *e)
{
    struct batch_call x = {{.fn = do_batch_live, .e = e}, .ret_all = ret, .ret_n = ret_n};

    return ledger_call(self, &x.rq);
}

static enum rc do_batch_move(struct conn *c, struct request *rq)
{
    const struct batch_call *x = BATCH_CALL(rq);

    return rows_batch_move(c, x->project, x->id, x->ev, rq->now, x->change, x->ret,
                           rq->e);
}

static enum rc op_batch_move(void *self, const struct id *project, const char *id,
                             enum batch_event ev, int64_t now,
                             const struct batch_change *change, struct batch *ret,
                             struct err *e)
{
    struct batch b = {0};
    struct batch_call x = {{.fn = do_batch_move, .change = true, .now = now, .e = e},
                           .project = project,
                           .id = id,
                           .ev = ev,
                           .change = change,
                           .ret = &b};
    enum rc rc = ledger_call(self, &x.rq);

    /* What a group that was undone left in b never became true. */
    if (ret && (rc == RC_OK || rc == RC_CONFLICT))
        *ret = b;
    else
        batch_done(&b);
    return rc;
}

static enum rc do_batch_edit(struct conn *c, struct request *rq)
{
    const struct batch_call *x = BATCH_CALL(rq);

    return rows_batch_edit(c, x->project, x->id, x->edit, x->ret, rq->e);
}

static enum rc op_batch_edit(void *self, const struct id *project, const char *id,
                             const struct batch_edit *edit, int64_t now,
                             struct batch *ret, struct err *e)
{
    struct batch b = {0};
    struct batch_call x = {{.fn = do_batch_edit, .change = true, .now = now, .e = e},
                           .project = project,
                           .id = id,
                           .edit = edit,
                           .ret = &b};
    enum rc rc = ledger_call(self, &x.rq);

    /* What a group that was undone left in b never became true. */
    if (ret && (rc == RC_OK || rc == RC_CONFLICT))
        *ret = b;
    else
        batch_done(&b);
    return rc;
}

struct floor_call {
    struct request rq;
    int64_t *ret;
};

static enum rc do_clock_floor(struct conn *c, struct request *rq)
{
    return rows_floor_get(c, CONTAINER_OF(rq, struct floor_call, rq)->ret, rq->e);
}

static enum rc op_clock_floor(void *self, int64_t *ret, struct err *e)
{
    struct floor_call x = {{.fn = do_clock_floor, .e = e}, .ret = ret};

    return ledger_call(self, &x.rq);
}

void sqlite_batch_ops(struct store_ops *ops)
{
    ops->batch_add = op_batch_add;
    ops->batch_get = op_batch_get;
    ops->batch_by_key = op_batch_by_key;
    ops->batch_list = op_batch_list;
    ops->batch_live = op_batch_live;
    ops->batch_move = op_batch_move;
    ops->batch_edit = op_batch_edit;
    ops->clock_floor = op_clock_floor;
}
