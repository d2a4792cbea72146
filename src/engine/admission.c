/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/admission.h"
#include "engine/intake.h"

#include <time.h>

const char *admission_name(enum engine_admission a)
{
    static const char *const names[] = {[ADMISSION_WARN] = "warn",
                                        [ADMISSION_REJECT] = "reject",
                                        [ADMISSION_IDLE] = "idle"};

    return names[a];
}

const char *admission_time(int64_t at, char ret[32])
{
    time_t t = (time_t)at;
    struct tm tm;

    if (at == 0 || !gmtime_r(&t, &tm) ||
        strftime(ret, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        memcpy(ret, "unknown", sizeof "unknown");
    return ret;
}

char *admission_error(const struct live *l)
{
    char text[400], by[32], at[32];

    CHECK(
        str_fmt(text, sizeof text,
                "This batch would not end by %s, its deadline, without other batches "
                "missing theirs: the upstream servers are not fast enough. The earliest "
                "deadline that would hold is %s. Give a longer completion_window, or "
                "send it as idle work (tier 'idle').",
                admission_time(l->rec.expires_at, by),
                admission_time(l->fits_at, at)) == RC_OK);
    return intake_one_error("batch_capacity_exceeded", NULL, text);
}
