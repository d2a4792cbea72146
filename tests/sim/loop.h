/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop: what the fakes of io/loop, io/mailbox and io/pool tell the rest of the simulation.
 */
#pragma once

#include "io/loop.h"

/* Something is there for the loop: a turn comes soon, and runs `fn` in it. */
void loop_deliver(struct loop *l, event_fn *fn, void *ctx, uint64_t arg);

/* Mail of the loop's mailbox that was posted, and that has been received: what was posted
 * before counts for the process once as much was received. */
uint64_t loop_mail_posted(const struct loop *l);
uint64_t loop_mail_received(const struct loop *l);

size_t loop_timers(const struct loop *l); /* armed */
void loops_reset(void);                   /* those of a life that is over are gone */
unsigned loops_open(void);
unsigned pools_open(void);
