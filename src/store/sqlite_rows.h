/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sqlite_rows: the operations of store.h on the rows of ledger.db.
 *
 * Each says and means what store_ops says of it.  Changes are made inside a transaction
 * that the caller begins and commits; on anything but RC_OK the caller undoes them.  ret
 * of a change is filled on RC_OK and RC_CONFLICT and then the caller's.
 * Threads: the connection's owner.
 */
#pragma once

#include "store/sqlite_conn.h"
#include "store/store.h"

/* ---- sqlite_files.c -----------------------------------------------------------------*/

NODISCARD enum rc rows_file_add(struct conn *c, const struct file_rec *f,
                                const struct file_quota *q, struct err *e);
NODISCARD enum rc rows_file_get(struct conn *c, const struct id *project, const char *id,
                                struct file_rec *ret, struct err *e);
NODISCARD enum rc rows_file_list(struct conn *c, const struct file_query *q,
                                 struct file_rec **ret, size_t *ret_n, bool *ret_more,
                                 struct err *e);
NODISCARD enum rc rows_file_delete(struct conn *c, const struct id *project,
                                   const char *id, int64_t now, struct err *e);
NODISCARD enum rc rows_file_reap(struct conn *c, int64_t now, struct id *ret, size_t max,
                                 size_t *ret_n, struct err *e);
NODISCARD enum rc rows_file_forget(struct conn *c, const char *id, struct err *e);
NODISCARD enum rc rows_file_known(struct conn *c, const char *id, bool *ret,
                                  struct err *e);
NODISCARD enum rc rows_usage_of(struct conn *c, const struct id *project,
                                struct project_usage *ret, struct err *e);
/* RC_LIMIT: with that much more, q would be passed. */
NODISCARD enum rc rows_quota_check(struct conn *c, const struct id *project,
                                   const struct file_quota *q, unsigned more_files,
                                   uint64_t more_bytes, struct err *e);

/* ---- sqlite_uploads.c ---------------------------------------------------------------*/

NODISCARD enum rc rows_upload_add(struct conn *c, const struct upload_rec *u,
                                  struct err *e);
NODISCARD enum rc rows_upload_get(struct conn *c, const struct id *project,
                                  const char *id, struct upload_rec *ret, struct err *e);
NODISCARD enum rc rows_upload_move(struct conn *c, const struct id *project,
                                   const char *id, enum upload_status to, int64_t now,
                                   const struct file_rec *file,
                                   const struct file_quota *q, struct upload_rec *ret,
                                   struct err *e);
NODISCARD enum rc rows_upload_reap(struct conn *c, int64_t now, struct id *ret,
                                   size_t max, size_t *ret_n, struct err *e);
NODISCARD enum rc rows_part_add(struct conn *c, const struct id *project,
                                const char *upload, const struct part_rec *p,
                                const struct file_quota *q, struct err *e);
NODISCARD enum rc rows_part_list(struct conn *c, const struct id *project,
                                 const char *upload, struct part_rec **ret, size_t *ret_n,
                                 struct err *e);
NODISCARD enum rc rows_part_forget(struct conn *c, const char *id, struct err *e);

/* ---- sqlite_batches.c ---------------------------------------------------------------*/

/* ret_first: filled on RC_CONFLICT only. */
NODISCARD enum rc rows_batch_add(struct conn *c, const struct batch *b,
                                 const struct batch_quota *q, struct batch *ret_first,
                                 struct err *e);
NODISCARD enum rc rows_batch_get(struct conn *c, const struct id *project, const char *id,
                                 struct batch *ret, struct err *e);
NODISCARD enum rc rows_batch_by_key(struct conn *c, const struct id *project,
                                    const char *key, struct batch *ret, struct err *e);
NODISCARD enum rc rows_batch_list(struct conn *c, const struct id *project,
                                  const char *after, unsigned limit, struct batch **ret,
                                  size_t *ret_n, bool *ret_more, struct err *e);
NODISCARD enum rc rows_batch_live(struct conn *c, struct batch **ret, size_t *ret_n,
                                  struct err *e);
NODISCARD enum rc rows_batch_move(struct conn *c, const struct id *project,
                                  const char *id, enum batch_event ev, int64_t now,
                                  const struct batch_change *change, struct batch *ret,
                                  struct err *e);
NODISCARD enum rc rows_batch_edit(struct conn *c, const struct id *project,
                                  const char *id, const struct batch_edit *edit,
                                  struct batch *ret, struct err *e);
/* How many are not terminal; project NULL: of all. */
NODISCARD enum rc rows_live_batches(struct conn *c, const struct id *project,
                                    uint64_t *ret, struct err *e);

NODISCARD enum rc rows_floor_get(struct conn *c, int64_t *ret, struct err *e);
NODISCARD enum rc rows_floor_set(struct conn *c, int64_t floor, struct err *e);

/* ---- sqlite_outbox.c ----------------------------------------------------------------*/

/* A row for each destination that b's end is told to. */
NODISCARD enum rc rows_outbox_add(struct conn *c, const struct batch *b,
                                  const char *const *notify, size_t n, int64_t now,
                                  struct err *e);
NODISCARD enum rc rows_outbox_due(struct conn *c, int64_t now, size_t max,
                                  struct outbox_rec **ret, size_t *ret_n, struct err *e);
NODISCARD enum rc rows_outbox_pending(struct conn *c, uint64_t *ret, struct err *e);
NODISCARD enum rc rows_outbox_settle(struct conn *c, int64_t seq,
                                     const struct outbox_result *r, struct err *e);
NODISCARD enum rc rows_outbox_list(struct conn *c, const struct id *project,
                                   const char *batch, struct outbox_rec **ret,
                                   size_t *ret_n, struct err *e);
NODISCARD enum rc rows_outbox_purge(struct conn *c, int64_t before, struct err *e);
