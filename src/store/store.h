/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: the records of files and batches; batch granularity only (a row per line is
 * refused: measured 60 times slower).
 *
 * An interface with back ends (store_sqlite.c now, PostgreSQL later).  SQLite: one
 * connection with one owner thread; commits of callers that wait at the same time are
 * grouped.
 *
 * Threads: any thread that may block (pool workers, `serve` callbacks); never the
 * engine's loop. Errors:  RC_OK of a change means: durable (WAL, synchronous=FULL).
 * RC_NOSPACE: nothing changed, try again.  RC_IO / RC_CORRUPT: the store is dead: every
 * later call says so and `on_dead` ran once (the process must stop: promises can't be
 * kept any more).
 */
#pragma once

#include "base/err.h"
#include "core/batch.h"

struct store;

struct file_rec {
    struct id id;
    struct id project;
    char purpose[32];
    char *filename; /* owned */
    uint64_t bytes;
    uint8_t sha256[32];
    int64_t created_at;
    int64_t expires_at; /* 0: never */
};
void file_rec_done(struct file_rec *f); /* may run twice */

/* What a change writes besides the state: only what is set is written. */
struct batch_change {
    const char *model;  /* VALID */
    const char *errors; /* INVALID: JSON of `errors` */
    const struct batch_counts *counts;
    const struct usage *usage; /* NULL: no answer told any */
    const struct file_rec *output,
        *error; /* PUBLISHED: rows added in the same transaction */
};

struct file_query {
    const char *purpose; /* NULL: any */
    const char *after;   /* id; NULL: from the start */
    unsigned limit;
    bool ascending; /* in the order they were added; default: latest first */
};

struct store_ops {
    enum rc (*file_add)(void *self, const struct file_rec *f, struct err *e);
    /* RC_NOTFOUND: unknown or deleted. */
    enum rc (*file_get)(void *self, const char *id, struct file_rec *ret, struct err *e);
    /* *ret is an array of *ret_n, each file_rec_done'd and the array mem_free'd by the
     * caller. RC_NOTFOUND: `after` names no file (one deleted a while ago is none). */
    enum rc (*file_list)(void *self, const struct file_query *q, struct file_rec **ret,
                         size_t *ret_n, bool *ret_more, struct err *e);
    /* The file is gone for clients at once; its bytes are reaped once no live batch needs
     * them.  RC_NOTFOUND: unknown or deleted before. */
    enum rc (*file_delete)(void *self, const char *id, int64_t now, struct err *e);
    /* Marks files past expires_at as deleted, then hands out up to max ids of deleted
     * files that no live batch reads: the caller deletes the bytes, then calls
     * file_forget. */
    enum rc (*file_reap)(void *self, int64_t now, struct id *ret, size_t max,
                         size_t *ret_n, struct err *e);
    enum rc (*file_forget)(void *self, const char *id, struct err *e);
    /* Is there a row, deleted or not?  For the collection of stray bytes. */
    enum rc (*file_known)(void *self, const char *id, bool *ret, struct err *e);

    /* Sets the row's input_missing when no such file stands at that moment (what b says of
     * it does not count).  RC_CONFLICT: the id is taken, as with file_add. */
    enum rc (*batch_add)(void *self, const struct batch *b, struct err *e);
    enum rc (*batch_get)(void *self, const char *id, struct batch *ret, struct err *e);
    /* Newest first.  RC_NOTFOUND: `after` names no batch.  As file_list for ownership. */
    enum rc (*batch_list)(void *self, const char *after, unsigned limit,
                          struct batch **ret, size_t *ret_n, bool *ret_more,
                          struct err *e);
    /* All that are not terminal, oldest first. */
    enum rc (*batch_live)(void *self, struct batch **ret, size_t *ret_n, struct err *e);
    /* batch_step() and the change in one transaction.  RC_CONFLICT: not a legal move;
     * nothing changed; *ret is the batch as it stands (also on RC_OK: as it is now).  ret
     * may be NULL.  RC_INVALID: a file of the change is there already. */
    enum rc (*batch_move)(void *self, const char *id, enum batch_event ev, int64_t now,
                          const struct batch_change *change, struct batch *ret,
                          struct err *e);
    /* The latest created_at or `now` that a change brought; 0: none yet.  A wall clock
     * that reads less was set back. */
    enum rc (*clock_floor)(void *self, int64_t *ret, struct err *e);
    void (*close)(void *self);
};

struct store {
    const struct store_ops *ops;
    void *self;
};

struct store_sqlite_opts {
    const char *path;                            /* data/ledger.db */
    void (*on_dead)(void *ctx, const char *why); /* from the owner thread; once */
    void *ctx;
};
/* RC_CORRUPT: not our database, damaged, or of a newer format (the sentence says which).
 */
NODISCARD enum rc store_sqlite_open(const struct store_sqlite_opts *o, struct store **ret,
                                    struct err *e);
struct store *store_close(struct store *s); /* accepts NULL, returns NULL */
