/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyfile: the text of the keys file, to a table and back.  Pure.
 *
 *     batchd keys 1
 *     key 0f3a5c7e9b1d2f40 alice default <64 hex digits> 1700000000 -
 *     key 77aa5c7e9b1d2f41 ci batch-ci <64 hex digits> 1700000100 1700000200
 *     end 2 89abcdef
 *
 * A line each: id, name, project, SHA-256 of the whole key, when it was made, when it was
 * revoked ("-": it is in force), in the order they were made.  The last line tells how
 * many there are and the CRC-32C of all bytes before it, so that a file that was cut or
 * mended by hand does not pass for a whole one.  Digits are lower case, one space
 * separates, every line ends in LF.
 *
 * Owns:    the table.  No key is in it: only what a key can be checked against.
 * Threads: any.
 * Errors:  RC_CORRUPT: the sentence names the line and what is wrong with it.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/id.h"

#define KEYFILE_NAME  "keys"
#define KEY_PREFIX    "sk-batchd-"
#define KEY_ID_DIGITS 16 /* public: 64 bits tell keys apart */
#define KEY_SECRET    64 /* hexadecimal digits of 256 random bits */
#define KEY_TEXT_CAP  (sizeof KEY_PREFIX + KEY_ID_DIGITS + 1 + KEY_SECRET)
#define KEY_NAME_CAP  64
#define KEY_SHA256    32
#define KEYS_MAX      10000u     /* in force and revoked; each takes 250 bytes at most */
#define KEYFILE_MAX   (4u << 20) /* bytes */
#define PROJECT_CAP   49         /* [a-z0-9][a-z0-9_-]{0,47} and its NUL */

struct key {
    char id[KEY_ID_DIGITS + 1];
    char name[KEY_NAME_CAP];
    struct id project;
    uint8_t sha256[KEY_SHA256];
    int64_t created_at;
    int64_t revoked_at; /* 0: in force */
};

struct keyfile {
    struct key *v; /* in the order they were made */
    size_t n;
};
void keyfile_done(struct keyfile *k); /* may run twice */

/* [A-Za-z0-9][A-Za-z0-9._@-]{0,62}, and not the form of an id, which `revoke` takes too. */
bool key_name_ok(struct str name);
bool key_id_ok(struct str id);
bool project_ok(struct str project);

/* ret is untouched on failure. */
NODISCARD enum rc keyfile_parse(struct str text, struct keyfile *ret, struct err *e);
void keyfile_put(const struct keyfile *k, struct buf *out);
