/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mailbox: where threads meet.  Messages are posted from any thread and handed, in order
 * and in batches, to one receiver on its loop's thread.
 *
 * Owns:    messages in transit.  mailbox_free hands those not yet delivered to `drop`.
 * Threads: mail_post from any; everything else on the loop's thread.
 */
#pragma once

#include "base/list.h"
#include "io/loop.h"

struct mailbox;

/* Embedded in the message; the poster gives ownership away. */
struct mail {
    struct list _link;
};

typedef void mail_fn(void *ctx, struct mail *m); /* the receiver owns m from here */

NODISCARD enum rc mailbox_new(struct loop *l, mail_fn *receive, mail_fn *drop, void *ctx,
                              struct mailbox **ret, struct err *e);
struct mailbox *mailbox_free(struct mailbox *b); /* accepts NULL, returns NULL */
void mail_post(struct mailbox *b,
               struct mail *m); /* any thread; never blocks, never fails */
