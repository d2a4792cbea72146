/* SPDX-License-Identifier: Apache-2.0 */
#include "api/apierr.h"
#include "json/json.h"

#include <stdarg.h>
#include <stdio.h>

static const struct {
    int status;
    const char *type, *code;
    unsigned retry_after;
} kinds[APIERR_COUNT] = {
#define X(name, status, type, code, retry_after) {status, type, code, retry_after},
    APIERR_LIST(X)
#undef X
};

static void mark_cut(char *text, size_t cap)
{
    memcpy(text + cap - 4, "...", 4);
}

enum rc apierr_set(struct apierr *e, enum apierr_kind kind, const char *param,
                   const char *fmt, ...)
{
    va_list ap;
    int n;

    CHECK((unsigned)kind < APIERR_COUNT);
    e->kind = kind;
    n = snprintf(e->param, sizeof e->param, "%s", param ? param : "");
    if (n >= (int)sizeof e->param)
        mark_cut(e->param, sizeof e->param);
    va_start(ap, fmt);
    n = vsnprintf(e->message, sizeof e->message, fmt, ap);
    va_end(ap);
    if (n >= (int)sizeof e->message)
        mark_cut(e->message, sizeof e->message);
    return RC_INVALID;
}

int apierr_status(enum apierr_kind kind)
{
    CHECK((unsigned)kind < APIERR_COUNT);
    return kinds[kind].status;
}

unsigned apierr_retry_after(enum apierr_kind kind)
{
    CHECK((unsigned)kind < APIERR_COUNT);
    return kinds[kind].retry_after;
}

enum apierr_kind apierr_of_status(int status)
{
    switch (status) {
    case 404:
        return APIERR_NO_ROUTE;
    case 405:
        return APIERR_METHOD;
    case 413:
        return APIERR_BODY_TOO_LARGE;
    default:
        break;
    }
    for (unsigned i = 0; i < APIERR_COUNT; i++)
        if (kinds[i].status == status)
            return (enum apierr_kind)i;
    return status >= 500 ? APIERR_INTERNAL : APIERR_BAD_REQUEST;
}

void apierr_of_rc(struct apierr *e, enum rc rc)
{
    if (rc == RC_NOSPACE)
        apierr_set(e, APIERR_NO_SPACE, NULL,
                   "The server has no space left on its disk. Nothing was stored. Try "
                   "again when its operator has made room.");
    else if (rc == RC_AGAIN)
        apierr_set(e, APIERR_RECOVERING, NULL,
                   "The server has just started and is still recovering this object. Try "
                   "again in a moment.");
    else if (rc == RC_NOMEM)
        apierr_set(e, APIERR_UNAVAILABLE, NULL,
                   "The server is overloaded. Try again in a moment.");
    else
        apierr_set(e, APIERR_INTERNAL, NULL,
                   "The server had an error while processing your request. Its log tells "
                   "more under the id in the x-request-id header.");
}

void apierr_put(const struct apierr *e, struct buf *out)
{
    struct json_writer w;

    CHECK((unsigned)e->kind < APIERR_COUNT);
    jw_init(&w, out);
    jw_open(&w, NULL, '{');
    jw_open(&w, "error", '{');
    jw_str(&w, "message", str_of(e->message));
    jw_z(&w, "type", kinds[e->kind].type);
    jw_z(&w, "param", e->param);
    jw_z(&w, "code", kinds[e->kind].code);
    jw_close(&w, '}');
    jw_close(&w, '}');
}
