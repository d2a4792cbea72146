/* SPDX-License-Identifier: Apache-2.0 */
#include "api/file_rules.h"
#include "base/limits.h"
#include "json/json.h"

static const char *const purposes[] = {"fine-tune", "assistants", "batch",
                                       "user_data", "vision",     "evals"};

enum rc file_purpose(struct str v, char ret[FILE_PURPOSE_CAP], struct apierr *e)
{
    for (size_t i = 0; i < COUNTOF(purposes); i++) {
        if (str_is(v, purposes[i])) {
            CHECK(v.n < FILE_PURPOSE_CAP);
            memcpy(ret, purposes[i], v.n + 1);
            return RC_OK;
        }
    }
    return apierr_set(
        e, APIERR_BAD_REQUEST, "purpose",
        "'%.*s' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', "
        "'vision', 'evals'] - 'purpose'",
        APIERR_SHOW(v));
}

enum rc file_name(struct str name, const char *param, char **ret, struct apierr *e)
{
    struct buf json, clean;
    enum rc rc;

    if (name.n > LIMIT_FILENAME)
        return apierr_set(e, APIERR_TOO_LONG, param,
                          "The filename has %zu bytes; the most is %d.", name.n,
                          LIMIT_FILENAME);
    buf_init(&json, LIMIT_FILENAME * 8);
    buf_init(&clean, LIMIT_FILENAME * 4);
    rc = json_put_str(&json, name);
    if (rc == RC_OK)
        rc = json_unescape(buf_peek(&json), &clean);
    buf_done(&json);
    *ret = buf_take(&clean, NULL);
    if (rc == RC_OK && *ret)
        return RC_OK;
    apierr_of_rc(e, RC_NOMEM);
    return RC_INVALID;
}

enum rc file_expires(uint64_t seconds, const char *param, struct apierr *e)
{
    if (seconds > FILE_EXPIRES_MAX)
        return apierr_set(
            e, APIERR_TOO_GREAT, param,
            "Invalid '%s': integer above maximum value. Expected a value <= %d.", param,
            FILE_EXPIRES_MAX);
    if (seconds < FILE_EXPIRES_MIN)
        return apierr_set(
            e, APIERR_TOO_SMALL, param,
            "Invalid '%s': integer below minimum value. Expected a value >= %d.", param,
            FILE_EXPIRES_MIN);
    return RC_OK;
}

static bool is_jsonl(struct str name)
{
    struct str end = name;

    if (name.n < 6)
        return false;
    end.p += name.n - 6;
    end.n = 6;
    return str_ieq(end, STR(".jsonl"));
}

enum rc file_suits(const char *purpose, const char *filename, const char *param,
                   struct apierr *e)
{
    if (strcmp(purpose, "batch") != 0 || is_jsonl(str_of(filename)))
        return RC_OK;
    return apierr_set(e, APIERR_BAD_REQUEST, param,
                      "Invalid file format for Batch API. Must be .jsonl");
}
