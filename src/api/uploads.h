/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uploads: the handlers of /v1/uploads: a file in parts that come at the same time and in
 * any order.
 *
 * A part is a blob of its own with a row.  Completing writes the parts' bytes into a new
 * blob in the order asked for, then ends the upload and adds the file's row in one
 * transaction: of several that complete at the same time one wins, and the others answer
 * with what it made.  The parts' bytes go at once, their rows with the housekeeping.
 *
 * Errors: 200 of a part means that its bytes are durable and its row is committed; 200 of
 * a complete means so of the file.  What fails leaves the upload as it was: the same call
 * may be sent again.
 */
#pragma once

struct call;
struct form_spec;

/* The form of a part. */
extern const struct form_spec part_form;

void uploads_create(struct call *c);
void uploads_part(struct call *c);
void uploads_complete(struct call *c);
void uploads_cancel(struct call *c);
