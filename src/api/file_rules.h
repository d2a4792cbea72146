/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file_rules: what a client may ask of a new file, whether it says so in a form
 * (POST /v1/files) or in JSON (POST /v1/uploads): its purpose, its name, its expiry.
 *
 * Pure.  Source: API reference, POST /v1/files; the words of refusals are the real API's
 * where it has some.
 */
#pragma once

#include "api/apierr.h"

enum { FILE_PURPOSE_CAP = 32 };

/* An hour to 30 days. */
enum { FILE_EXPIRES_MIN = 3600, FILE_EXPIRES_MAX = 2592000 };

/* The purposes a client may upload for; those that the server makes itself are not among
 * them.  RC_INVALID: *e names all. */
NODISCARD enum rc file_purpose(struct str v, char ret[FILE_PURPOSE_CAP],
                               struct apierr *e);

/* A name is data and never a path; it comes without control characters and not empty.
 * Bytes that are not UTF-8 (old tools send Latin-1) become U+FFFD here, once, so that the
 * store, the lists and the download header agree.  *ret is mem_free'd by the caller. */
NODISCARD enum rc file_name(struct str name, const char *param, char **ret,
                            struct apierr *e);

NODISCARD enum rc file_expires(uint64_t seconds, const char *param, struct apierr *e);

/* Does the name go with the purpose? */
NODISCARD enum rc file_suits(const char *purpose, const char *filename, const char *param,
                             struct apierr *e);
