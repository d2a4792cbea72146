/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsio: the only way to the disk for bytes that must last.  Raw write, fsync, rename and
 * friends appear nowhere else, so that one place decides what an error means and one
 * place can be made to fail by a test.
 *
 * Threads: any; an fd belongs to its caller.
 * Errors:  rc_of_errno(); the sentence names the path.  RC_NOSPACE may be retried once
 * room was made.  An error of fs_sync_* is final for that file: after it the page cache
 *          no longer tells what the disk holds (never sync the same file again; see
 *          docs/reliability.md).
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <sys/types.h>

#define FS_PATH_CAP 4096

/* All files are opened O_CLOEXEC.  flags and mode as open(2); *ret_fd >= 0 on success. */
NODISCARD enum rc fs_open(const char *path, int flags, mode_t mode, int *ret_fd,
                          struct err *e);
void fs_close(int *fd); /* -1 is fine; sets -1; for files without a promise */
NODISCARD enum rc fs_close_checked(int *fd, const char *path, struct err *e);

NODISCARD enum rc fs_write(int fd, const void *p, size_t n, const char *path,
                           struct err *e); /* all of it */
NODISCARD enum rc fs_pwrite(int fd, const void *p, size_t n, uint64_t off,
                            const char *path, struct err *e);
/* Up to n bytes; *ret_n < n only at the end of the file. */
NODISCARD enum rc fs_pread(int fd, void *p, size_t n, uint64_t off, size_t *ret_n,
                           const char *path, struct err *e);
NODISCARD enum rc fs_size(int fd, uint64_t *ret, const char *path, struct err *e);
NODISCARD enum rc fs_truncate(int fd, uint64_t n, const char *path, struct err *e);

NODISCARD enum rc fs_sync_data(int fd, const char *path, struct err *e); /* fdatasync */
NODISCARD enum rc fs_sync(int fd, const char *path, struct err *e);      /* fsync */
/* RC_NOMEM: no descriptor or memory, nothing was tried; it may be again. */
NODISCARD enum rc fs_sync_dir(const char *dir, struct err *e);

NODISCARD enum rc fs_rename(const char *from, const char *to, struct err *e);
NODISCARD enum rc fs_unlink(const char *path, struct err *e); /* not there: RC_OK */
NODISCARD enum rc fs_mkdir(const char *path, mode_t mode,
                           struct err *e); /* there: RC_OK */

/* dir + "/" + name; RC_LIMIT when it does not fit. */
NODISCARD enum rc fs_join(char ret[FS_PATH_CAP], const char *dir, const char *name,
                          struct err *e);

/* Writes path.tmp, syncs it, renames it to path, syncs dir: after RC_OK the whole new
 * content survives a power cut, before it the whole old one. */
NODISCARD enum rc fs_replace(const char *dir, const char *name, const void *p, size_t n,
                             struct err *e);

/* Reads a whole small file; RC_LIMIT when it is larger than max.  *ret is mem_free'd. */
NODISCARD enum rc fs_slurp(const char *path, size_t max, char **ret, size_t *ret_n,
                           struct err *e);

/* Takes an exclusive flock on dir/LOCK and keeps it until the fd is closed.  RC_CONFLICT:
 * another process holds it (its pid is in the sentence when known). */
NODISCARD enum rc fs_lock_dir(const char *dir, int *ret_fd, struct err *e);

/* Takes an exclusive flock on dir/name, made when it is not there, and keeps it until the
 * fd is closed.  Waits for whoever holds it. */
NODISCARD enum rc fs_lock(const char *dir, const char *name, int *ret_fd, struct err *e);
