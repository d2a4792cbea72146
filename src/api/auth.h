/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth: who a caller is, from `Authorization: Bearer KEY` and nothing else.  Private to
 * the room.
 *
 * Where the data directory has a keys file, a key in force is asked for and gives the
 * project.  Where it has none the server is open: everybody is project "default", but a
 * browser's call that another site caused is refused, for a page anywhere may send one to
 * the loopback address of whoever reads it (forms need no preflight).
 *
 * OpenAI-Organization and OpenAI-Project are passed over: a key belongs to one project.
 * Source: the real API's 401s; Sec-Fetch-Site is of W3C Fetch Metadata, Origin of
 * RFC 6454.
 */
#pragma once

#include "api/apierr.h"
#include "base/id.h"

struct api;
struct call;

/*
 * Fills c->project and c->key.  RC_INVALID: *e is the refusal: 401 no key or a wrong one,
 * 403 another site's call, 503 the keys file cannot be used.  At the head and, since a
 * key may be revoked during a long upload, again when the handler begins.
 */
NODISCARD enum rc auth_judge(struct call *c, struct apierr *e);

/* Whether who was let in with that key (c->key) still would be; for each piece of an answer
 * that stays open. */
bool auth_stands(const struct api *a, const struct id *key);
