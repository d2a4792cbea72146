/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyring: the keys of a data directory: who may come in, and to which project.
 *
 * Owns:    <dir>/keys (form: store/keyfile.h) and <dir>/keys.lock, which its writers hold.
 *          The file is replaced whole, so that a reader sees one state or the next and a
 *          power cut leaves one of them.  A server's LOCK on the directory has no part in
 *          this: keys are made and revoked beside a running server.
 * Threads: a struct keyring from any thread; the functions with a directory too.
 * Errors:  as said; the sentence names the file.  A file that is damaged, cannot be read,
 *          or has gone never opens the door: whoever asks gets the error.
 *
 * A key is "sk-batchd-" + 16 hexadecimal digits (its public id) + "-" + 64 (256 random
 * bits).  Only the SHA-256 of the whole is kept: with that much randomness there is
 * nothing to guess, so neither salt nor a slow hash would add anything.
 */
#pragma once

#include "store/keyfile.h"

struct keyring;

/* RC_LIMIT: the path is too long.  The file is first read when it is asked for. */
NODISCARD enum rc keyring_open(const char *dir, struct keyring **ret, struct err *e);
struct keyring *keyring_free(struct keyring *k); /* accepts NULL, returns NULL */

/*
 * Whether the file is asked for, and can be: RC_OK: there is one.  RC_NOTFOUND: there is
 * none and there was none since keyring_open: everybody may come in.  Others: the door
 * stays shut.  Looks at the file's inode, time and size, and reads it again when one of
 * them is another: what a writer has finished counts from then on.
 */
NODISCARD enum rc keyring_state(struct keyring *k, struct err *e);

/*
 * Whose the key is that a caller shows.  RC_DENIED: nobody's: not a key, unknown, wrong
 * or revoked (which of them is told to nobody).  Else as keyring_state.  Takes the same
 * time for every key of the right form but for its public id.
 */
NODISCARD enum rc keyring_check(struct keyring *k, struct str shown,
                                struct id *ret_project, struct id *ret_key,
                                struct err *e);

/* Whether a caller that keyring_check let in would still be: RC_OK, RC_DENIED, or why the
 * file cannot be used.  For answers that take long.  key "": it was let in without one. */
NODISCARD enum rc keyring_stands(struct keyring *k, const struct id *key, struct err *e);

/* --- For who manages the keys of a directory; it must be there. --- */

/* Makes a key in force from now on; its text is nowhere but in ret_text, which the caller
 * wipes.  RC_CONFLICT: a key of that name is in force.  RC_LIMIT: KEYS_MAX.  RC_INVALID:
 * name or project are not of their form. */
NODISCARD enum rc keyring_add(const char *dir, struct str name, struct str project,
                              int64_t now, char ret_text[KEY_TEXT_CAP], struct key *ret,
                              struct err *e);
/* By name (of the one in force) or id.  RC_NOTFOUND: no such key is in force. */
NODISCARD enum rc keyring_revoke(const char *dir, struct str name_or_id, int64_t now,
                                 struct key *ret, struct err *e);
/* RC_NOTFOUND: no keys file.  ret is keyfile_done'd by the caller. */
NODISCARD enum rc keyring_list(const char *dir, struct keyfile *ret, struct err *e);
