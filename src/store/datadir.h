/* SPDX-License-Identifier: Apache-2.0 */
/*
 * datadir: the data directory as a whole: who may use it, what format it has, whether it
 * was left in order, and a reserve for the day the disk is full.
 *
 * Owns:    LOCK, FORMAT, CLEAN, `clock` and `reserve` in it, and makes files/, tmp/ and spool/
 *          (docs/formats.md).
 * Threads: one at a time.
 * Errors:  RC_CONFLICT in use by another process; RC_CORRUPT not a data directory, or of
 *          a newer format; the sentence says what to do.
 */
#pragma once

#include "base/err.h"

struct datadir;

struct datadir_opts {
    bool create;            /* make it when it is not there; its parent must be */
    uint64_t reserve_bytes; /* of ballast; 0: none */
};
#define DATADIR_RESERVE ((uint64_t)64 << 20) /* what the program asks for by default */

/*
 * Makes what is missing, takes the lock, and takes note of the last stop.  A reserve that
 * finds no room is no error: datadir_restore_reserve() tries again.
 */
NODISCARD enum rc datadir_open(const char *path, const struct datadir_opts *o,
                               struct datadir **ret, struct err *e);
/* For who puts keys beside a server that may run: the directory, made 0700 when `create`
 * says so, is a data directory or can become one.  Neither locks it nor writes into it. */
NODISCARD enum rc datadir_prepare(const char *path, bool create, struct err *e);
/* The process before ended by datadir_close(clean); also true of a new directory. */
bool datadir_was_clean(const struct datadir *d);
const char *datadir_path(const struct datadir *d);   /* of the directory itself */
const char *datadir_ledger(const struct datadir *d); /* <dir>/ledger.db */
const char *datadir_spool(const struct datadir *d);  /* <dir>/spool */

/* Gives the ballast's blocks back to a full disk, so that deletes and recovery can run.
 */
NODISCARD enum rc datadir_release_reserve(struct datadir *d, struct err *e);
/* RC_NOSPACE: still no room.  RC_OK also when there is nothing to do. */
NODISCARD enum rc datadir_restore_reserve(struct datadir *d, struct err *e);

/* The latest time that a process noted, in seconds; 0: none did, or it cannot be read. */
int64_t datadir_clock(const struct datadir *d);
NODISCARD enum rc datadir_note_clock(struct datadir *d, int64_t sec, struct err *e);

/* clean: everything that was promised is on disk; noted durably.  d is gone whatever is
 * returned; accepts NULL. */
NODISCARD enum rc datadir_close(struct datadir *d, bool clean, struct err *e);
