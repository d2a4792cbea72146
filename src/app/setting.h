/* SPDX-License-Identifier: Apache-2.0 */
/*
 * setting: every key an operator may set, in one table: its section, default, range, one
 * line of documentation and whether it takes effect again on SIGHUP.
 *
 * A key `max_inflight` is `max_inflight = 64` in its section of the file,
 * BATCHD_MAX_INFLIGHT in the environment and --max-inflight on the command line: names
 * are unique over all sections, so that one rule gives all three.  --help, the sample
 * file and the manual page are made from or checked against this table
 * (tools/check-docs).
 *
 * Owns:    the table.  Values live in struct config.  Threads: any.
 */
#pragma once

#include "app/config.h"

enum setting_type {
    SETTING_TEXT,   /* char * */
    SETTING_PATH,   /* char * */
    SETTING_LISTEN, /* char *: HOST:PORT */
    SETTING_URL,    /* char *: http(s)://host[:port][/path], no credentials */
    SETTING_UINT,   /* unsigned */
    SETTING_SIZE,   /* uint64_t */
    SETTING_TIME,   /* usec_t */
    SETTING_BOOL,   /* bool */
    SETTING_LEVEL,  /* enum log_level */
    SETTING_DEDUP   /* enum dedup_mode */
};

/* Which commands have a flag for the key. */
enum { SETTING_SERVE = 1, SETTING_RUN = 2, SETTING_CHECK = 4, SETTING_KEYS = 8 };

struct setting {
    const char *section, *name;
    enum setting_type type;
    size_t offset;     /* of the value in struct config or what a named section holds */
    const char *value; /* the default as one would write it; NULL: not set */
    uint64_t min, max; /* UINT, SIZE (bytes), TIME (microseconds) */
    unsigned commands;
    bool reload; /* SIGHUP takes a new value; others need a restart */
    const char *doc;
    const char *example; /* shown where there is no default */
};

extern const struct setting settings[]; /* of struct config */
extern const size_t n_settings;         /* == CONFIG_SETTINGS */

/* Sections that stand once for each thing of their kind: [upstream NAME]. */
struct setting_kind {
    const char *section; /* "upstream" */
    const char *a;       /* "an": for sentences */
    const struct setting *settings;
    size_t n_settings;
    size_t size;        /* of an element; its first field is char *name */
    size_t list, count; /* offsets in struct config: of the array and of its length */
    size_t most;
    const char *needs; /* the key that each must set; NULL: none */
};
enum { KIND_UPSTREAM, KIND_WEBHOOK, KIND_PROJECT, KIND_COUNT };
extern const struct setting_kind setting_kinds[KIND_COUNT];
extern const struct setting upstream_settings[]; /* the first one is url */

#define SETTING_NAME_CAP  64
#define SETTING_VALUE_CAP 96 /* of values that are not text */

const struct setting *setting_find(struct str section, struct str name);
const struct setting *setting_by_flag(struct str flag);                 /* without "--" */
void setting_flag(const struct setting *s, char ret[SETTING_NAME_CAP]); /* "--max-..." */
void setting_env(const struct setting *s, char ret[SETTING_NAME_CAP]);  /* "BATCHD_..." */
const char *setting_metavar(const struct setting *s); /* "N"; NULL for BOOL */

/* "a whole number from 1 to 65536". */
void setting_allowed(const struct setting *s, char ret[SETTING_VALUE_CAP]);

/*
 * Sets the value in `base` (the struct that the table is of) from its text; a text before
 * is freed.  RC_INVALID: one sentence that begins with `where` ("batchd.ini:3: listen",
 * "--listen"), and tells the value and what is allowed.
 */
NODISCARD enum rc setting_set(const struct setting *s, void *base, struct str text,
                              const char *where, struct err *e);
/* The value as one would write it; "" when it is not set. */
void setting_text(const struct setting *s, const void *base, struct buf *out);
bool setting_same(const struct setting *s, const void *base_a, const void *base_b);
void setting_copy(const struct setting *s, void *dst, const void *src);
/* http(s)://HOST with port and path; no user, query or fragment. */
bool setting_url_ok(struct str url);
void setting_drop(const struct setting *s, void *base); /* frees; may run twice */
