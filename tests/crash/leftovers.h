/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leftovers: looks after a start whether the directory holds anything that nobody will
 * ever need: bytes without a row, half files, logs of batches that have ended (I9).
 *
 * Threads: one.
 */
#pragma once

#include "app/node.h"

struct leftovers;

/* After node_open, before node_start: the batches that live are noted, blobs and tmp/ are
 * looked at.  tell() hears of each thing that should not be there. */
typedef void leftovers_fn(const char *what, const char *name);
struct leftovers *leftovers_look(const struct node *n, leftovers_fn *tell);
/* After node_start: the spool.  Frees it. */
void leftovers_done(struct leftovers *l);
