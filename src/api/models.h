/* SPDX-License-Identifier: Apache-2.0 */
/*
 * models: the handlers of /v1/models: the names that the configuration gives.
 */
#pragma once

struct call;

void models_list(struct call *c);
void models_get(struct call *c);
