/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: the records of files, uploads, batches and of what is to be told about them;
 * batch granularity only (a row per line is refused: measured 60 times slower).
 *
 * An interface with back ends (store_sqlite.c now, PostgreSQL later).  SQLite: one
 * connection with one owner thread; commits of callers that wait at the same time are
 * grouped.
 *
 * Projects: a call that takes a project sees and changes only what is of that project;
 * anything else is as unknown to it as what never was.  NULL: anybody's (the engine,
 * housekeeping).  What is added says whose it is in its own `project`.
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

/* ---- files and uploads --------------------------------------------------------------*/

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

struct file_query {
    const struct id *project; /* NULL: anybody's */
    const char *purpose;      /* NULL: any */
    const char *after;        /* id; NULL: from the start */
    unsigned limit;
    bool ascending; /* in the order they were added; default: latest first */
};

/* What may be held; 0: no limit.  Files that were deleted do not count; the parts of
 * uploads that are pending do. */
struct file_quota {
    uint64_t project_bytes, project_files; /* of the project that the new one is of */
    uint64_t all_bytes;                    /* of all projects together */
};

/* Derived from the rows at each call. */
struct project_usage {
    uint64_t files, bytes; /* as file_quota counts */
    uint64_t live_batches; /* not terminal */
};

/* X(name, text) */
#define UPLOAD_STATUS_LIST(X)                                                            \
    X(PENDING, "pending")                                                                \
    X(COMPLETED, "completed")                                                            \
    X(CANCELLED, "cancelled")                                                            \
    X(EXPIRED, "expired")

enum upload_status {
#define X(name, text) UPLOAD_##name,
    UPLOAD_STATUS_LIST(X)
#undef X
        UPLOAD_STATUS_COUNT
};

const char *upload_status_name(enum upload_status s);
NODISCARD enum rc upload_status_from(struct str name, enum upload_status *ret);

struct upload_rec {
    struct id id;
    struct id project;
    enum upload_status status;
    char purpose[32];
    char *filename;             /* owned */
    uint64_t bytes;             /* what all parts together are to be */
    int64_t created_at;         /* seconds, as all times here */
    int64_t expires_at;         /* no part and no end of it from then on */
    int64_t ended_at;           /* when it left pending; 0: it has not */
    int64_t file_expires_after; /* asked for its file, seconds; 0: nothing asked */
    struct id file;             /* once it is completed; "" before */
};
void upload_rec_done(struct upload_rec *u); /* may run twice */
/* The status that clients are to see: pending ends at expires_at, also while the row was
 * not yet moved. */
enum upload_status upload_status_at(const struct upload_rec *u, int64_t now);

struct part_rec {
    struct id id; /* also the name of its bytes among the blobs */
    uint64_t bytes;
    uint8_t sha256[32];
    int64_t created_at; /* now, when it is added */
};

#define UPLOAD_PARTS_MAX 10000u /* of one upload: 8 GiB in parts of 1 MiB, and some */
/* A part whose answer was lost is sent again, by SDKs twice: its parts may have so many
 * times the bytes of an upload. */
#define UPLOAD_SPARE     4
#define UPLOAD_KEPT_DAYS 30 /* a row stays so long after its end */

/* ---- batches ------------------------------------------------------------------------*/

/* What a change writes besides the state: only what is set is written. */
struct batch_change {
    const char *model;  /* VALID */
    const char *errors; /* INVALID: JSON of `errors` */
    const struct batch_counts *counts;
    const uint32_t *reused;    /* VALID */
    bool idle;                 /* VALID: it becomes idle work */
    const struct usage *usage; /* NULL: no answer told any */
    const struct file_rec *output,
        *error; /* PUBLISHED: rows added in the same transaction */
    /* When the move ends the batch: each destination gets a row in the outbox, in the
     * same transaction, all under one new event id.  Not at the end: nothing. */
    const char *const *notify;
    size_t n_notify;
};

/* What is set of it becomes so. */
struct batch_edit {
    bool has_priority, has_paused, has_hold, has_idle, has_window;
    bool paused, idle;
    int priority;
    uint32_t hold;
    const char *window; /* has_window: both */
    int64_t expires_at;
};

/* 0: no limit. */
struct batch_quota {
    uint64_t max_live; /* batches of its project that are not terminal, with this one */
};

/* ---- the outbox ---------------------------------------------------------------------*/

/* One event for one destination. */
struct outbox_rec {
    int64_t seq;       /* its name; grows in the order they were written */
    struct id event;   /* "evt_..."; the same for all destinations of one event */
    struct id project; /* of the batch */
    struct id batch;
    char type[32];      /* "batch.completed": "batch." and the status */
    char *destination;  /* owned; as batch_change.notify said */
    int64_t created_at; /* when the batch ended */
    int64_t next_at;    /* not tried before; of no meaning once settled */
    int64_t settled_at; /* delivered or given up; 0: neither */
    uint32_t tries;     /* that were made */
    bool delivered;
    int status;  /* the last try's HTTP status; 0: it got none */
    char *error; /* owned; the last try's; NULL: none */
};
#define OUTBOX_KEPT_DAYS 30 /* a row stays so long after it was settled */

void outbox_rec_done(struct outbox_rec *o);         /* may run twice */
void outbox_free(struct outbox_rec *all, size_t n); /* an array and all in it */

/* How a try went.  Neither delivered nor given_up: it is due again at next_at. */
struct outbox_result {
    int64_t now;
    bool delivered, given_up;
    bool unsent; /* given up without a try: tries stays */
    int64_t next_at;
    int status;        /* HTTP; 0: none */
    const char *error; /* NULL: none */
};

/* ---- the operations -----------------------------------------------------------------*/

/* Whatever hands out a record or an array hands it over: *_done() each, mem_free() the
 * array; both only when RC_OK (or what is said) came.  q NULL: no quota.  RC_LIMIT always
 * comes with a sentence that may be shown to whoever asked. */
struct store_ops {
    /* RC_CONFLICT: the id is taken.  RC_LIMIT: with it the quota would be passed. */
    enum rc (*file_add)(void *self, const struct file_rec *f, const struct file_quota *q,
                        struct err *e);
    /* RC_NOTFOUND: unknown or deleted. */
    enum rc (*file_get)(void *self, const struct id *project, const char *id,
                        struct file_rec *ret, struct err *e);
    /* *ret is an array of *ret_n.  RC_NOTFOUND: `after` names no file (one deleted a
     * while ago is none). */
    enum rc (*file_list)(void *self, const struct file_query *q, struct file_rec **ret,
                         size_t *ret_n, bool *ret_more, struct err *e);
    /* The file is gone for clients at once; its bytes are reaped once no live batch needs
     * them.  RC_NOTFOUND: unknown or deleted before. */
    enum rc (*file_delete)(void *self, const struct id *project, const char *id,
                           int64_t now, struct err *e);
    /* Marks files past expires_at as deleted, then hands out up to max ids of deleted
     * files that no live batch reads: the caller deletes the bytes, then calls
     * file_forget.  A live batch reads its input; while it is validating also input and
     * output of the batch that it continues from. */
    enum rc (*file_reap)(void *self, int64_t now, struct id *ret, size_t max,
                         size_t *ret_n, struct err *e);
    enum rc (*file_forget)(void *self, const char *id, struct err *e);
    /* Is there a row, deleted or not, of a file or of a part of an upload?  For the
     * collection of stray bytes. */
    enum rc (*file_known)(void *self, const char *id, bool *ret, struct err *e);
    enum rc (*usage_of)(void *self, const struct id *project, struct project_usage *ret,
                        struct err *e);

    /* u->status is pending whatever it says.  RC_INVALID: the id is taken. */
    enum rc (*upload_add)(void *self, const struct upload_rec *u, struct err *e);
    enum rc (*upload_get)(void *self, const struct id *project, const char *id,
                          struct upload_rec *ret, struct err *e);
    /* RC_NOTFOUND: no such upload.  RC_CONFLICT: it is not pending at p->created_at.
     * RC_LIMIT: too many parts; more bytes than the upload was made for, or than
     * UPLOAD_SPARE times that with the parts before; or over the quota.  RC_INVALID: the id is taken. */
    enum rc (*part_add)(void *self, const struct id *project, const char *upload,
                        const struct part_rec *p, const struct file_quota *q,
                        struct err *e);
    /* In the order they were added; also of an upload that has ended, as long as their
     * bytes are there.  RC_NOTFOUND: no such upload. */
    enum rc (*part_list)(void *self, const struct id *project, const char *upload,
                         struct part_rec **ret, size_t *ret_n, struct err *e);
    /* From pending to another status.  COMPLETED adds file's row in the same transaction
     * (its parts count no more then); file is NULL else.  RC_CONFLICT: it is not pending
     * at `now`; nothing changed; *ret is the upload with the status of upload_status_at
     * (also on RC_OK: as it is now).  ret may be NULL.  RC_LIMIT: the file would pass the
     * quota.  RC_INVALID: the file is there already. */
    enum rc (*upload_move)(void *self, const struct id *project, const char *id,
                           enum upload_status to, int64_t now,
                           const struct file_rec *file, const struct file_quota *q,
                           struct upload_rec *ret, struct err *e);
    /* Moves what is due to expired, forgets rows that ended UPLOAD_KEPT_DAYS ago, then
     * hands out up to max ids of parts whose upload is not pending: the caller deletes
     * the bytes, then calls part_forget. */
    enum rc (*upload_reap)(void *self, int64_t now, struct id *ret, size_t max,
                           size_t *ret_n, struct err *e);
    enum rc (*part_forget)(void *self, const char *id, struct err *e);

    /* Sets the row's input_missing when no such file of its project stands at that moment
     * (what b says of it does not count).  In this order:  RC_CONFLICT: the project used
     * b->idempotency_key before; *ret_first is that batch as it stands (compare the
     * request_hash); ret_first may be NULL.  RC_NOTFOUND: continue_from names no batch of
     * the project.  RC_LIMIT: over the quota.  RC_INVALID: the id is taken (128 random
     * bits: it is this very batch). */
    enum rc (*batch_add)(void *self, const struct batch *b, const struct batch_quota *q,
                         struct batch *ret_first, struct err *e);
    enum rc (*batch_get)(void *self, const struct id *project, const char *id,
                         struct batch *ret, struct err *e);
    /* The batch that the project's Idempotency-Key made; RC_NOTFOUND: none. */
    enum rc (*batch_by_key)(void *self, const struct id *project, const char *key,
                            struct batch *ret, struct err *e);
    /* Newest first.  RC_NOTFOUND: `after` names no batch.  As file_list for ownership. */
    enum rc (*batch_list)(void *self, const struct id *project, const char *after,
                          unsigned limit, struct batch **ret, size_t *ret_n,
                          bool *ret_more, struct err *e);
    /* All that are not terminal, oldest first. */
    enum rc (*batch_live)(void *self, struct batch **ret, size_t *ret_n, struct err *e);
    /* batch_step() and the change in one transaction.  RC_CONFLICT: not a legal move;
     * nothing changed; *ret is the batch as it stands (also on RC_OK: as it is now).  ret
     * may be NULL.  RC_INVALID: a file of the change is there already. */
    enum rc (*batch_move)(void *self, const struct id *project, const char *id,
                          enum batch_event ev, int64_t now,
                          const struct batch_change *change, struct batch *ret,
                          struct err *e);
    /* RC_CONFLICT: neither validating nor in_progress; nothing changed.  ret: as
     * batch_move. */
    enum rc (*batch_edit)(void *self, const struct id *project, const char *id,
                          const struct batch_edit *edit, int64_t now, struct batch *ret,
                          struct err *e);

    /* Up to max rows that are due, the longest due first. */
    enum rc (*outbox_due)(void *self, int64_t now, size_t max, struct outbox_rec **ret,
                          size_t *ret_n, struct err *e);
    /* How many rows are not settled; for metrics. */
    enum rc (*outbox_pending)(void *self, uint64_t *ret, struct err *e);
    /* RC_NOTFOUND: no such row, or it is settled. */
    enum rc (*outbox_settle)(void *self, int64_t seq, const struct outbox_result *r,
                             struct err *e);
    /* Of one batch, in the order they were written; a batch that is not the project's
     * has none. */
    enum rc (*outbox_list)(void *self, const struct id *project, const char *batch,
                           struct outbox_rec **ret, size_t *ret_n, struct err *e);
    /* Forgets what was settled before that time. */
    enum rc (*outbox_purge)(void *self, int64_t before, struct err *e);

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
