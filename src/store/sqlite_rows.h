/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sqlite_rows: the operations of store.h on the rows of ledger.db.
 *
 * Each says and means what store_ops says of it.  Changes are made inside a transaction
 * that the caller begins and commits; on anything but RC_OK the caller undoes them.
 * Threads: the connection's owner.
 */
#pragma once

#include "store/sqlite_conn.h"
#include "store/store.h"

NODISCARD enum rc rows_file_add(struct conn *c, const struct file_rec *f, struct err *e);
NODISCARD enum rc rows_file_get(struct conn *c, const char *id, struct file_rec *ret,
                                struct err *e);
NODISCARD enum rc rows_file_list(struct conn *c, const struct file_query *q,
                                 struct file_rec **ret, size_t *ret_n, bool *ret_more,
                                 struct err *e);
NODISCARD enum rc rows_file_delete(struct conn *c, const char *id, int64_t now,
                                   struct err *e);
NODISCARD enum rc rows_file_reap(struct conn *c, int64_t now, struct id *ret, size_t max,
                                 size_t *ret_n, struct err *e);
NODISCARD enum rc rows_file_forget(struct conn *c, const char *id, struct err *e);
NODISCARD enum rc rows_file_known(struct conn *c, const char *id, bool *ret,
                                  struct err *e);

NODISCARD enum rc rows_batch_add(struct conn *c, const struct batch *b, struct err *e);
NODISCARD enum rc rows_batch_get(struct conn *c, const char *id, struct batch *ret,
                                 struct err *e);
NODISCARD enum rc rows_batch_list(struct conn *c, const char *after, unsigned limit,
                                  struct batch **ret, size_t *ret_n, bool *ret_more,
                                  struct err *e);
NODISCARD enum rc rows_batch_live(struct conn *c, struct batch **ret, size_t *ret_n,
                                  struct err *e);
/* ret is filled on RC_OK and RC_CONFLICT and then the caller's to batch_done(). */
NODISCARD enum rc rows_batch_move(struct conn *c, const char *id, enum batch_event ev,
                                  int64_t now, const struct batch_change *change,
                                  struct batch *ret, struct err *e);

NODISCARD enum rc rows_floor_get(struct conn *c, int64_t *ret, struct err *e);
NODISCARD enum rc rows_floor_set(struct conn *c, int64_t floor, struct err *e);
