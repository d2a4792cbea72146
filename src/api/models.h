/* SPDX-License-Identifier: Apache-2.0 */
/*
 * models: the handlers of /v1/models: the union of what the upstreams serve, and the
 * aliases.
 */
#pragma once

struct call;

void models_list(struct call *c);
void models_get(struct call *c);
