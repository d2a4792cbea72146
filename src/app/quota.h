/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quota: what the configuration lets one project have.
 *
 * Threads: any; the limits do not change while the program runs.
 */
#pragma once

#include "api/api.h"
#include "app/config.h"

/* An api_quota_fn over a struct config: [limits], and [project NAME] where it says more.
 */
void quota_of_config(void *config, const struct id *project, struct api_quota *ret);
