/* SPDX-License-Identifier: Apache-2.0 */
/*
 * id: the names of objects.  128 random bits from getrandom(2) as 32 hex digits behind a
 * fixed prefix, so that nobody can guess one and no clock is in it.
 * Source: the forms `batch_` + hex, `file-...` are those the real API shows.
 */
#pragma once

#include "base/str.h"

/* Longest id with its NUL: "batch_req_" + 32 = 42; 64 is the limit of what paths accept.
 */
#define ID_CAP 64

struct id {
    char z[ID_CAP]; /* NUL-terminated; "" means none */
};

#define ID_BATCH  "batch_"
#define ID_FILE   "file-"
#define ID_UPLOAD "upload_"
#define ID_PART   "part_"
#define ID_EVENT  "evt_"

struct id id_make(const char *prefix);
bool id_ok(struct str s); /* [A-Za-z0-9_-]{1,63}: safe in a path and in SQL parameters */
NODISCARD enum rc id_from(struct str s, struct id *ret); /* RC_INVALID unless id_ok */

static inline struct str id_str(const struct id *id)
{
    return str_of(id->z);
}

static inline bool id_none(const struct id *id)
{
    return id->z[0] == '\0';
}

void random_bytes(void *p, size_t n); /* getrandom; aborts when the kernel has none */

/* The id of the answer to one line: a function of batch and item (0-based ordinal), so
 * that a line executed twice keeps its id.  Different items of one batch never share one.
 */
void id_request(const struct id *batch, uint32_t item, char ret_hex[33]);
