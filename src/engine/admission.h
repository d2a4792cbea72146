/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admission: what is said of a batch that would not be in time.
 *
 * When its lines are found good the loop asks the scheduler whether it will end before its
 * deadline without others missing theirs (sched_batch_fits); that needs to be known what the
 * upstreams get done, so right after a start everything fits.
 */
#pragma once

#include "engine/work.h"

const char *admission_name(enum engine_admission a);
/* ADMISSION_REJECT: the batch's errors; mem_free'd by the caller. */
char *admission_error(const struct live *l);
/* Wall seconds as text; "unknown" for 0. */
const char *admission_time(int64_t at, char ret[32]);
