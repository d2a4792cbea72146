/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sqlite_ops: the operations of store_ops, each a request to the owner's thread that runs
 * its rows_* there.  Their self is the ledger.
 */
#pragma once

#include "store/store.h"

void sqlite_file_ops(struct store_ops *ops); /* sets file_*, upload_*, part_*, usage_of */
void sqlite_batch_ops(struct store_ops *ops);  /* sets batch_*, clock_floor */
void sqlite_outbox_ops(struct store_ops *ops); /* sets outbox_* */
