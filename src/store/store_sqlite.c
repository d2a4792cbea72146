/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_sqlite: the store in ledger.db: who owns the connection is sqlite_owner.h's, what
 * the operations do is sqlite_rows.h's.
 */
#include "store/store.h"
#include "base/mem.h"
#include "store/sqlite_ops.h"
#include "store/sqlite_owner.h"

struct sqlite_store {
    struct store store; /* first: store_close() frees it all */
    struct store_ops ops;
};

static void op_close(void *self)
{
    ledger_close(self);
}

enum rc store_sqlite_open(const struct store_sqlite_opts *o, struct store **ret,
                          struct err *e)
{
    struct sqlite_store *s;
    struct ledger *l = NULL;
    enum rc rc = ledger_open(o, &l, e);

    if (rc != RC_OK)
        return rc;
    s = mem_new(struct sqlite_store);
    sqlite_file_ops(&s->ops);
    sqlite_batch_ops(&s->ops);
    sqlite_outbox_ops(&s->ops);
    s->ops.close = op_close;
    s->store = (struct store){&s->ops, l};
    *ret = &s->store;
    return RC_OK;
}
