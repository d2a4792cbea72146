/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err: the human half of a failure: one sentence naming the thing, the value and the
 * remedy.  Passed as an optional last parameter; NULL means the caller does not care.
 *
 * Owns: its text.  Threads: any.  A sentence too long for the field ends in "..." (the
 * only place where text may be cut: it is for people, never parsed).
 */
#pragma once

#include "base/base.h"

struct err {
    char text[512];
};

/* Writes the sentence and hands back rc, so that `return err_set(e, RC_IO, ...)` works.
 */
PRINTF_FMT(3, 4) enum rc err_set(struct err *e, enum rc rc, const char *fmt, ...);

/* As err_set, with ": strerror(errnum)" at the end. */
PRINTF_FMT(4, 5)
enum rc err_sys(struct err *e, enum rc rc, int errnum, const char *fmt, ...);

/* Adds ": strerror(errnum)" to the sentence that is there. */
enum rc err_why(struct err *e, enum rc rc, int errnum);

/* RC_NOSPACE for ENOSPC/EDQUOT/EFBIG, RC_NOTFOUND for ENOENT, RC_DENIED for
 * EACCES/EPERM/EROFS, RC_INVALID for a path that cannot be (ENOTDIR, EISDIR, ELOOP,
 * ENAMETOOLONG), RC_NOMEM for ENOMEM and what else the system
 * runs out of for a while (EMFILE, ENFILE, ENOBUFS), else RC_IO. */
NODISCARD enum rc rc_of_errno(int errnum);
