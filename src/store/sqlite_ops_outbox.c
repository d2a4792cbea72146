/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite_ops.h"
#include "store/sqlite_owner.h"
#include "store/sqlite_rows.h"
#include "base/mem.h"

/* What a call takes over to the owner's thread; each sets what it needs. */
struct outbox_call {
    struct request rq;
    const struct id *project;
    const char *batch;
    const struct outbox_result *result;
    int64_t seq, time; /* time: not in rq: looking must not write the floor */
    size_t max;
    struct outbox_rec **ret;
    size_t *ret_n;
    uint64_t *ret_pending;
};
#define OUTBOX_CALL(rq) CONTAINER_OF(rq, struct outbox_call, rq)

static enum rc do_outbox_due(struct conn *c, struct request *rq)
{
    const struct outbox_call *x = OUTBOX_CALL(rq);

    return rows_outbox_due(c, x->time, x->max, x->ret, x->ret_n, rq->e);
}

static enum rc op_outbox_due(void *self, int64_t now, size_t max, struct outbox_rec **ret,
                             size_t *ret_n, struct err *e)
{
    struct outbox_call x = {{.fn = do_outbox_due, .e = e},
                            .time = now,
                            .max = max,
                            .ret = ret,
                            .ret_n = ret_n};

    return ledger_call(self, &x.rq);
}

static enum rc do_outbox_pending(struct conn *c, struct request *rq)
{
    const struct outbox_call *x = OUTBOX_CALL(rq);

    return rows_outbox_pending(c, x->ret_pending, rq->e);
}

static enum rc op_outbox_pending(void *self, uint64_t *ret, struct err *e)
{
    struct outbox_call x = {{.fn = do_outbox_pending, .e = e}, .ret_pending = ret};

    return ledger_call(self, &x.rq);
}

static enum rc do_outbox_settle(struct conn *c, struct request *rq)
{
    const struct outbox_call *x = OUTBOX_CALL(rq);

    return rows_outbox_settle(c, x->seq, x->result, rq->e);
}

static enum rc op_outbox_settle(void *self, int64_t seq, const struct outbox_result *r,
                                struct err *e)
{
    struct outbox_call x = {
        {.fn = do_outbox_settle, .change = true, .now = r->now, .e = e},
        .seq = seq,
        .result = r};

    return ledger_call(self, &x.rq);
}

static enum rc do_outbox_list(struct conn *c, struct request *rq)
{
    const struct outbox_call *x = OUTBOX_CALL(rq);

    return rows_outbox_list(c, x->project, x->batch, x->ret, x->ret_n, rq->e);
}

static enum rc op_outbox_list(void *self, const struct id *project, const char *batch,
                              struct outbox_rec **ret, size_t *ret_n, struct err *e)
{
    struct outbox_call x = {{.fn = do_outbox_list, .e = e},
                            .project = project,
                            .batch = batch,
                            .ret = ret,
                            .ret_n = ret_n};

    return ledger_call(self, &x.rq);
}

static enum rc do_outbox_purge(struct conn *c, struct request *rq)
{
    const struct outbox_call *x = OUTBOX_CALL(rq);

    return rows_outbox_purge(c, x->time, rq->e);
}

static enum rc op_outbox_purge(void *self, int64_t before, struct err *e)
{
    struct outbox_call x = {{.fn = do_outbox_purge, .change = true, .e = e},
                            .time = before};

    return ledger_call(self, &x.rq);
}

void sqlite_outbox_ops(struct store_ops *ops)
{
    ops->outbox_due = op_outbox_due;
    ops->outbox_pending = op_outbox_pending;
    ops->outbox_settle = op_outbox_settle;
    ops->outbox_list = op_outbox_list;
    ops->outbox_purge = op_outbox_purge;
}
