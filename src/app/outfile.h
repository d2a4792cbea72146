/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outfile: a file of the user's that appears whole or not at all: written beside its
 * place under NAME.part, synced, then renamed.
 *
 * Owns:    its descriptor and the temporary file until commit or abort.
 * Threads: one.  Errors: the sentence names the path.
 */
#pragma once

#include "base/err.h"
#include "base/fsio.h"

struct outfile {
    int fd; /* -1: not open */
    char path[FS_PATH_CAP], part[FS_PATH_CAP];
};

/* RC_INVALID: the path names something that is no regular file. */
NODISCARD enum rc outfile_open(struct outfile *o, const char *path, struct err *e);
NODISCARD enum rc outfile_write(struct outfile *o, const void *p, size_t n,
                                struct err *e);
/* Gone afterwards, whatever is returned. */
NODISCARD enum rc outfile_commit(struct outfile *o, struct err *e);
void outfile_abort(struct outfile *o); /* may run twice, also after commit */

/*
 * Puts the whole of an open file in the path's place: by a link where both lie on one
 * file system (no bytes are moved; the file must be synced already), else by a copy.  Its
 * mode becomes what the umask gives a new file.
 */
NODISCARD enum rc outfile_place(int fd, const char *path, struct err *e);

/* Deletes a file of an earlier run that would now mislead, and says so on stderr.  Not
 * there: RC_OK. */
NODISCARD enum rc outfile_remove_stale(const char *path, struct err *e);

/* RC_INVALID: there is something at the path that is no regular file, or "-". */
NODISCARD enum rc outfile_check(const char *path, struct err *e);
/* Do both name one file, there or not yet? */
bool outfile_same(const char *a, const char *b);
/* The directory part; "." when there is none. */
NODISCARD enum rc outfile_dir(const char *path, char ret[FS_PATH_CAP], struct err *e);
