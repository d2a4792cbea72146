/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch: the way of a line on the loop: ticket, body slice, call, answer, result.
 *
 * Owns: the slots.  Threads: the engine's loop only.
 */
#pragma once

#include "engine/work.h"

void dispatch(struct engine *g, usec_t now);
void dispatch_abort(struct live *l, usec_t now); /* gives up its calls in flight */
/* The upstream answered that question: those lines that it had answered with 404
 * (roster_doubts) get their verdict, or, when it is away or does not list their model any
 * more, another try that costs them nothing. */
void dispatch_settle(struct engine *g, uint16_t up, uint64_t question, bool away);
/* Closes n calls to the upstream that it has, and has had for no longer than `young`, to see
 * whether that stops their work: their lines get another try.  0: there are not so many. */
unsigned dispatch_sacrifice(struct engine *g, uint16_t up, unsigned n, usec_t young,
                            usec_t now);
void dispatch_free(struct engine *g); /* none may be in flight */
