/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/jobs.h"

/* Results are synced in pieces of it: the memory that they take meanwhile. */
#define COMMIT_BYTES (4u << 20)

enum rc job_commit(struct live *l)
{
    struct reslog_block *block = reslog_cut(l->log);
    enum rc rc;

    if (!block)
        return RC_OK;
    rc = reslog_commit(l->log, block, &l->task.err);
    if (rc != RC_OK)
        reslog_block_free(block); /* the log is opened again before the next try */
    return rc;
}

enum rc job_keep(struct live *l, const struct reslog_rec *r)
{
    enum rc rc = reslog_append(l->log, r);

    if (rc != RC_OK)
        return err_set(&l->task.err, rc, "cannot keep a result of %zu bytes",
                       r->payload.n);
    l->done[r->item / 8] |= (uint8_t)(1u << (r->item % 8));
    tally_record(&l->synced, r);
    return reslog_pending(l->log) >= COMMIT_BYTES ? job_commit(l) : RC_OK;
}
