/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quota: what the caller's project may still store.
 *
 * The store judges exactly, in the transaction that adds a file; what is here keeps bytes
 * from being sent and written for nothing.
 */
#pragma once

#include "api/apierr.h"
#include "store/store.h"

struct call;

/* For the store's file_add, part_add and upload_move. */
void quota_of(const struct call *c, struct file_quota *ret);

/* For batch_add: batches that are not at their end.  (Their lines are counted when they
 * are validated: a batch with too many fails then, as the real API's does.) */
void quota_batches(const struct call *c, struct batch_quota *ret);

/* The most bytes that one file of the project can ever have. */
uint64_t quota_file_bytes(const struct call *c, uint64_t max);

/* The store is asked only when there is a quota.  Is there room for a further file of so many bytes at present?  RC_INVALID: *fault
 * tells; others: the store failed, *why tells. */
NODISCARD enum rc quota_room(const struct call *c, uint64_t bytes, struct apierr *fault,
                             struct err *why);

/* The refusal for a store's RC_LIMIT with its sentence: 400, as the real API answers when
 * an organization's storage is full ("You have exceeded your file storage quota", code
 * null), and as no SDK tries again. */
void quota_refuse(struct call *c, const struct err *why);
