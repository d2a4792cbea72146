/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

PRINTF_FMT(2, 0) static void put(struct err *e, const char *fmt, va_list ap)
{
    int n = vsnprintf(e->text, sizeof e->text, fmt, ap);

    if (n < 0)
        e->text[0] = '\0';
    else if ((size_t)n >= sizeof e->text)
        memcpy(e->text + sizeof e->text - 4, "...", 4);
}

enum rc err_set(struct err *e, enum rc rc, const char *fmt, ...)
{
    va_list ap;

    if (!e)
        return rc;
    va_start(ap, fmt);
    put(e, fmt, ap);
    va_end(ap);
    return rc;
}

enum rc err_why(struct err *e, enum rc rc, int errnum)
{
    char reason[128];
    size_t n;

    if (!e)
        return rc;
    n = strlen(e->text);
    snprintf(e->text + n, sizeof e->text - n, ": %s",
             strerror_r(errnum, reason, sizeof reason));
    return rc;
}

enum rc err_sys(struct err *e, enum rc rc, int errnum, const char *fmt, ...)
{
    va_list ap;

    if (!e)
        return rc;
    va_start(ap, fmt);
    put(e, fmt, ap);
    va_end(ap);
    return err_why(e, rc, errnum);
}

/* What the system runs out of, and has again later. */
static bool lacking(int errnum)
{
    return errnum == ENOMEM || errnum == EMFILE || errnum == ENFILE || errnum == ENOBUFS;
}

enum rc rc_of_errno(int errnum)
{
    switch (errnum) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return RC_NOSPACE;
    case ENOENT:
        return RC_NOTFOUND;
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
        return RC_INVALID;
    case EACCES:
    case EPERM:
    case EROFS:
        return RC_DENIED;
    default:
        return lacking(errnum) ? RC_NOMEM : RC_IO;
    }
}
