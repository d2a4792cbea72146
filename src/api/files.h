/* SPDX-License-Identifier: Apache-2.0 */
/*
 * files: the handlers of /v1/files, and the File object as JSON.
 *
 * Errors: an upload answers 200 only when its bytes are durable under their final name
 * and its row is committed; whatever fails before leaves nothing that a client can see.
 */
#pragma once

#include "api/file_rules.h"
#include "store/store.h"

struct call;
struct form_spec;

/* The form of POST /v1/files and where its small fields go. */
struct file_fields {
    char purpose[FILE_PURPOSE_CAP];
    uint64_t seconds; /* of expires_after; 0: the form names none */
};
extern const struct form_spec files_form;

void files_create(struct call *c);
void files_list(struct call *c);
void files_get(struct call *c);
void files_delete(struct call *c);
void files_content(struct call *c); /* content.c */

void file_put_json(const struct file_rec *f, struct buf *out);

/* The row of the file that the path names.  Not RC_OK: the call is answered. */
NODISCARD enum rc files_find(struct call *c, struct file_rec *ret);
