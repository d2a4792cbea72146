/* SPDX-License-Identifier: Apache-2.0 */
/*
 * entity: the headers around a file's bytes: byte ranges and entity tags (RFC 9110) and
 * Content-Disposition (RFC 6266, RFC 8187).
 *
 * Pure.  What a client sends here is never an error: a header that makes no sense is
 * passed over, as the RFC asks.
 */
#pragma once

#include "base/buf.h"

enum range_verdict {
    RANGE_WHOLE,  /* no range, several ones, another unit or not one at all */
    RANGE_PART,   /* *ret_off and *ret_n are set; n > 0 */
    RANGE_OUTSIDE /* 416 */
};

enum range_verdict range_read(struct str header, uint64_t size, uint64_t *ret_off,
                              uint64_t *ret_n);

/* Is tag (with its quotes) named by an If-None-Match header?  Compares weakly. */
bool etag_listed(struct str header, const char *tag);

/* The same for If-Match, which compares strongly: a weak tag is none of ours. */
bool etag_matches(struct str header, const char *tag);

/* attachment; filename="..."; filename*=UTF-8''... -- printable ASCII, whatever the name
 * holds. */
void disposition_put(const char *filename, struct buf *out);
