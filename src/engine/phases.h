/* SPDX-License-Identifier: Apache-2.0 */
/*
 * phases: moves a live batch from one phase to the next (the table is in work.h).
 *
 * Threads: the engine's loop only.
 */
#pragma once

#include "engine/work.h"

void phase_start(struct live *l);                /* a new one: to its admission */
void phase_resume(struct live *l);               /* those held: on to their admission */
void phase_check(struct live *l);                /* after live_touch: moves it on */
void phase_admitted(struct live *l, usec_t now); /* notes from jobs */
void phase_expired(struct live *l, usec_t now);
void phase_ended(struct live *l, usec_t now);
void phase_cancel(struct live *l, usec_t now); /* its row says cancelling */
/* Its row says so; at once, or when the job that has it gives it back. */
void phase_edit(struct live *l, const struct wishes *w, usec_t now);
