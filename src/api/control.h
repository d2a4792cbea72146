/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control: a batch is paused, resumed, ranked anew, given another deadline while it runs.
 *
 * Extensions: no SDK calls them.  Errors: 200 means that the row is committed, so the
 * change outlives a restart; 409 that the batch is at its end, or on the way there.
 */
#pragma once

struct call;

void control_pause(struct call *c);
void control_resume(struct call *c); /* also lifts the hold of a sample */
void control_edit(struct call *c);   /* {"priority", "completion_window"}, one at least */
