/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work: one batch that is being worked on, and what the files of the engine share.
 *
 * A live batch passes from hand to hand and is owned by one at a time: the loop (`busy`
 * false) or a job on a worker (`busy` true: the loop then touches only what is marked
 * so).
 *
 *   phase   what holds                                 left by
 *   ADMIT   a job validates the input or recovers the  live_admitted: RUN, CLOSE, gone
 *           log
 *   RUN     lines go out and results come in           all on disk; cancel; expiry
 *   CLOSE   nothing new goes out                       nothing in flight, all on disk
 *   FINISH  a job writes the files, ends the batch     live_ended: gone; RUN again when
 *                                                      the log had lost lines
 *   STUCK   its data is damaged, an operator must      a restart
 *           look; the other batches go on
 */
#pragma once

#include "base/fsio.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "engine/board.h"
#include "engine/engine.h"
#include "engine/projects.h"
#include "engine/rate.h"
#include "engine/upstream.h"
#include "engine/webhooks.h"
#include "io/mailbox.h"
#include "io/pool.h"
#include "sched/sched.h"
#include "store/index.h"
#include "store/reslog.h"

#include <pthread.h>
#include <stdatomic.h>

/* Will a new batch be in time?  ASKED: its checks are done, the loop is to tell. */
enum outlook { OUTLOOK_NONE, OUTLOOK_ASKED, OUTLOOK_FITS, OUTLOOK_LATE };

enum live_phase { LIVE_ADMIT, LIVE_RUN, LIVE_CLOSE, LIVE_FINISH, LIVE_STUCK };

/* What a job or another thread tells the loop. */
enum note_kind {
    NOTE_SUBMIT, /* a batch to admit (API, start) */
    NOTE_CANCEL,
    NOTE_EDIT,
    NOTE_DRAIN,
    NOTE_ASK, /* progress.h */
    NOTE_ADMITTED,
    NOTE_EXPIRED,
    NOTE_ENDED,
    NOTE_COMMITTED
};

struct note {
    struct mail mail;
    enum note_kind kind;
};

/* What may be changed of a batch while it runs, as its row says. */
struct wishes {
    int priority;
    bool idle;
    bool paused;
    uint32_t hold;
    int64_t expires_at;
    bool resume; /* it was asked for: also of what the scheduler has stopped */
};

/* SUBMIT, CANCEL, EDIT, DRAIN: on the heap. */
struct command {
    struct note note;
    struct id batch;
    usec_t grace;         /* DRAIN */
    bool recovery;        /* SUBMIT at the start */
    struct wishes wishes; /* EDIT */
};

/* Work of one kind under way for a live batch: the job, its result and the note back. */
struct task {
    struct pool_job job;
    struct note note;
    struct live *live;
    enum rc rc;
    struct err err;
};

/* Results between the append and the counts that clients see. */
struct tally {
    uint32_t completed, failed;
    struct usage usage;
    bool has_usage;
};

/* The last call that was refused for what is no fault of its line (OUTCOME_DENIED). */
struct denial {
    long status; /* 0: there was none */
    uint16_t up;
    char text[200]; /* what the upstream said */
};

struct live {
    struct engine *engine;
    struct id id;
    struct batch rec; /* as the store last said */
    enum live_phase phase;
    bool busy; /* a job has it */
    bool recovery;
    bool cancel_seen; /* a cancel came while a job had it */
    bool held;        /* ADMIT: until the upstreams told their models */
    bool edited;      /* the row was changed while a job had it: */
    struct wishes wishes;
    struct task task; /* admit, expire, finish: one at a time */

    /* made by admit, used by all */
    struct blob *input;
    struct index *index;
    struct reslog *log;
    uint32_t items;
    uint8_t *done;        /* bit i: item i has its result in the log (admit, finish) */
    struct queue *queues; /* one for each model (queues.h) */
    unsigned n_queues;
    enum outlook outlook;
    uint32_t reused; /* ASKED: lines that an earlier batch had answered */
    /* The loop's: it was found late when it came; the earliest deadline that would hold, in
     * wall seconds (0: none). */
    bool late;
    int64_t fits_at;
    bool has_model; /* ASKED: all its lines name one, l->model; "": none names any */
    char model[LIMIT_MODEL + 1];
    uint8_t *queue_of; /* of each item; NULL: there is one queue */
    struct follow
        *follow; /* lines that get others' answers (follow.h); NULL: none does */

    /* the loop's */
    bool once;      /* no line may be sent twice at a time */
    bool scheduled; /* the scheduler knows its queues by their handles */
    uint32_t inflight;
    struct list calls; /* slots in flight */
    struct denial denial;
    bool stopped; /* the scheduler has, for that, at least one of its queues */
    struct loop_timer deadline, grace, again; /* again: of the task */
    struct loop_timer commit_again;
    struct rate rate;               /* results on disk */
    struct tally synced, cut, tail; /* on disk; being committed; appended */
    struct reslog_block *block;
    size_t tail_bytes, block_bytes; /* payload in tail and in block */
    struct task commit;
    bool committing;
    usec_t first_pending;
    struct list dirty;   /* in engine.dirty while the log has something to commit */
    struct list changed; /* in engine.changed until the tick has looked at its phase */
    struct err sick;     /* why it must stand still; "" when it need not */
};

/* One call in flight, or waiting on the free list for the next. */
struct slot {
    struct http_call call;
    struct sched_ticket ticket;
    struct live *live;
    struct list link;  /* live.calls or engine.free_slots */
    struct list doubt; /* in engine.doubted: its answer is there and not settled */
    uint64_t question; /* ... until this question has its answer (roster_doubts) */
    bool reprieved;    /* it was given more time, once */
    char *line;
    size_t cap, n;
};

/* For /metrics: written by the loop, read by anyone. */
struct up_gauge {
    atomic_uint state, inflight, window, by;
    atomic_bool slow, stops, stops_known;
    atomic_ullong samples, blind; /* of its metrics; and how often there was none */
    atomic_ullong done, failed, hedges;
    atomic_llong rate;        /* work a second; less than 0: not known */
    atomic_llong hit_permill; /* likewise */
};

struct engine_stats {
    atomic_ullong late; /* batches that would not have been in time */
    atomic_ullong calls[OUTCOME_COUNT];
    atomic_ullong closed, dropped, evicted, reprieves; /* calls, see metrics.c */
    atomic_ullong deduplicated;                        /* lines */
    atomic_ullong retries, results_ok, results_error, commits, log_bytes, answer_bytes;
    atomic_ullong ended[BATCH_STATUS_COUNT];
    atomic_uint live, inflight, paused, stopped;
};

struct engine {
    struct engine_opts o;
    struct loop *loop;
    struct mailbox *mail;
    struct pool *workers; /* admit, expire, finish */
    struct pool *syncers; /* commits: never behind a long scan */
    struct http_client *client;
    struct sched *sched;
    struct tracing *tracing; /* NULL: its calls are not recorded */
    struct board *board;
    struct projects *projects;
    struct roster *roster;
    struct scrape *scrape;
    struct catalog *catalog;
    struct upstream *ups[LIMIT_UPSTREAMS];
    struct up_gauge gauges[LIMIT_UPSTREAMS];
    struct map *lives;         /* by batch id */
    struct map *groups;        /* the scheduler's group of a project that has a limit */
    pthread_mutex_t edit_lock; /* rows and notes of edits have one order */
    struct queue **by_handle;  /* by the scheduler's handle */
    uint32_t cap_handles;
    struct list free_slots;
    struct list doubted; /* slots: see roster_doubts */
    struct list dirty;
    struct list changed;
    struct loop_timer wake;
    struct buf line; /* the result line being composed */
    size_t unsynced; /* bytes appended and not on disk, over all logs */
    enum rc lacks;   /* what a commit could not have: RC_NOSPACE, RC_NOMEM; or RC_OK */
    bool draining;
    bool dead; /* on_dead was told */
    usec_t drain_until, gauges_at;
    struct engine_stats stats;
    pthread_t thread;
    atomic_bool stopping; /* jobs look at it */
    atomic_uint pending;  /* batches submitted or live */
    atomic_uint recovering;
    pthread_mutex_t drain_lock;
    pthread_cond_t drain_cond;
    bool drained;
};

struct live *live_new(struct engine *g, const struct id *id);
struct live *live_free(struct live *l); /* nothing of it may be under way */
/* A command for the loop, from any thread. */
void engine_post(struct engine *g, struct command c);
/* The tick will see whether its phase has ended (phases.h). */
void live_touch(struct live *l);
/* Its data is damaged (RC_CORRUPT): it is to stand still, the others go on. */
void live_sicken(struct live *l, const struct err *e);
/* batch_move for this batch; l->rec is the batch as it stands afterwards, moved or not. */
NODISCARD enum rc live_move(struct live *l, enum batch_event ev,
                            const struct batch_change *change);
/* Reads the line of an item into the memory of *line (grown as needed). */
NODISCARD enum rc live_read_line(struct live *l, const struct index_entry *entry,
                                 char **line, size_t *cap, struct err *e);

void tally_add(struct tally *sum, const struct tally *one);
void tally_record(struct tally *sum, const struct reslog_rec *r);

/* From a job: the note goes back to the loop. */
void task_report(struct task *t);
/* A promise cannot be kept: nothing goes out any more, and on_dead is told, once. */
void engine_die(struct engine *g, const char *what, const struct err *e);
