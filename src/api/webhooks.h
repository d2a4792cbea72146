/* SPDX-License-Identifier: Apache-2.0 */
/*
 * webhooks: the handler of /v1/batches/{id}/webhooks: who was told, or is to be told, that
 * the batch ended, and how that went.  An extension.
 */
#pragma once

struct call;

void webhooks_list(struct call *c);
