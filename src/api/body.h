/* SPDX-License-Identifier: Apache-2.0 */
/*
 * body: a JSON body of the API, judged member by member: what the readers of the several
 * bodies share, so that one fault has one sentence everywhere.
 *
 * Pure.  Everything returns RC_OK, or RC_INVALID with *e telling (also when memory is
 * out: then *e is a 503).
 */
#pragma once

#include "api/apierr.h"
#include "json/json.h"

/* A JSON object with the wanted members; unknown ones are passed over, since SDKs send
 * extra_body along, and one that is there twice is refused. */
NODISCARD enum rc body_read(struct str text, const struct json_want *wants, size_t n,
                            struct json_val *vals, struct apierr *e);

enum rc body_wrong_type(struct apierr *e, const char *param, const char *wanted,
                        const struct json_val *got);
enum rc body_missing(struct apierr *e, const char *param);
enum rc body_no_memory(struct apierr *e);

/* A string that must be there, unescaped and appended to out. */
NODISCARD enum rc body_string(const struct json_val *v, const char *param,
                              struct buf *out, struct apierr *e);

/* A whole number that must be there, from min to max. */
NODISCARD enum rc body_integer(const struct json_val *v, const char *param, uint64_t min,
                               uint64_t max, uint64_t *ret, struct apierr *e);

/* Neither missing nor null: SDKs send null for what was left out. */
static inline bool body_given(const struct json_val *v)
{
    return v->type != JSON_NONE && v->type != JSON_NULL;
}

/* A whole number from min, which may be negative, to max, which is not; not given: *ret
 * stays. */
NODISCARD enum rc body_signed(const struct json_val *v, const char *param, int64_t min,
                              int64_t max, int64_t *ret, struct apierr *e);
/* true or false; not given: *ret stays. */
NODISCARD enum rc body_bool(const struct json_val *v, const char *param, bool *ret,
                            struct apierr *e);

/* {"anchor":"created_at","seconds":3600..2592000} under the name `param`, which may be
 * missing or null: *ret is left as it is then. */
NODISCARD enum rc body_expires(const struct json_val *all, const struct json_val *anchor,
                               const struct json_val *seconds, const char *param,
                               int64_t *ret, struct apierr *e);
