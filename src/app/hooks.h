/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hooks: the webhooks as the configuration has them: reads their secrets and starts them.
 *
 * Owns: nothing that lasts; what it read of secrets is wiped.
 */
#pragma once

#include "app/config.h"
#include "engine/webhooks.h"

/* RC_INVALID, RC_NOTFOUND, RC_DENIED: a section or a file is no good; the sentence names
 * it. */
NODISCARD enum rc hooks_start(const struct config *c, struct store *store,
                              struct webhooks **ret, struct err *e);
