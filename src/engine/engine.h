/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine: runs batches: one thread that owns all live work, and workers for what blocks.
 *
 * Threads: every function here from any thread but the engine's own.
 * Errors:  a batch's troubles end up in the batch; what breaks a promise (a failed sync,
 * a dead store) goes to on_dead: the process must stop and recover by starting again.
 */
#pragma once

#include "base/clock.h"
#include "core/batch.h"
#include "engine/catalog.h"
#include "engine/dedup.h"
#include "engine/intake.h"
#include "store/blob.h"
#include "store/reslog.h"
#include "store/store.h"

struct engine;
struct webhooks;

/* May a line that is late on it be sent to another one, too, and the slower call closed? */
enum engine_hedge {
    HEDGE_AUTO, /* once it was seen that closing a call stops the work */
    HEDGE_ON,
    HEDGE_OFF
};

struct engine_upstream {
    const char *url;     /* base URL, ".../v1" */
    const char *key;     /* bearer; NULL: none */
    const char *name;    /* for logs and metrics; NULL: the URL */
    const char *ca_file; /* NULL: the system's */
    const char *proxy;   /* NULL: none */
    const char *models; /* it serves these, with commas between; "*": any; NULL: ask it */
    const char *metrics; /* where they are; NULL: /metrics beside the API */
    bool no_metrics;     /* it is never asked for any, nor for its settings */
    bool insecure;
    enum engine_hedge hedge;
    unsigned max_inflight; /* 0: the engine's */
    unsigned window;       /* so many calls in flight, not more and not less; 0: as it is
                              found out */
    unsigned reserve; /* percent of its room that idle work leaves to others; 0: 40 */
    unsigned requests_per_minute, tokens_per_minute; /* its quotas; 0: as it tells */
};

/* What becomes of a batch that would not be in time without others missing theirs. */
enum engine_admission {
    ADMISSION_WARN,   /* it is taken, and that is told */
    ADMISSION_REJECT, /* it fails: batch_capacity_exceeded */
    ADMISSION_IDLE    /* it is taken as idle work */
};

/* What one project may use at a time; 0: no limit. */
struct engine_project {
    const char *name;
    uint32_t max_lines;    /* that wait or run, over its live batches */
    unsigned max_inflight; /* calls */
    unsigned weight;       /* shares of the work beside the others'; 0: 1 */
};

struct engine_opts {
    struct store *store;
    struct blobs *blobs;
    const char *spool;                       /* data/spool */
    const struct engine_upstream *upstreams; /* copied */
    size_t n_upstreams;
    unsigned max_inflight;  /* per upstream; 0: 64 */
    unsigned max_attempts;  /* 0: 5 */
    usec_t connect_timeout; /* 0: 5 s */
    usec_t idle_timeout;    /* 0: 10 min without a byte */
    usec_t total_timeout;   /* 0: none but the batch's deadline */
    usec_t drain_timeout;   /* cancel and expiry wait for what is in flight; 0: 10 min */
    usec_t retry_base, retry_cap; /* 0: 1 s, 60 s */
    usec_t sync_interval; /* results are written and synced at least so often; 0: 20 ms */
    size_t max_answer;    /* bytes; 0: LIMIT_ANSWER_BYTES */
    uint32_t max_lines, max_inputs;
    uint64_t max_file_bytes;
    size_t max_line_bytes;
    bool many_models;
    enum dedup_mode dedup;
    int64_t output_expires;  /* seconds after the end; 0: never */
    unsigned workers;        /* 0: 2 */
    const char *sched_trace; /* a file for the scheduler's calls; NULL: none */
    enum engine_admission admission;
    struct engine_project project_default; /* of projects not listed; no name */
    const struct engine_project *projects; /* copied */
    size_t n_projects;
    const struct catalog_alias *aliases; /* copied */
    size_t n_aliases;
    usec_t models_refresh; /* the upstreams are asked so often; 0: until they answered */
    struct webhooks *webhooks; /* tells of batches that end; NULL: none */
    void (*on_dead)(void *ctx, const char *why);
    void (*on_end)(void *ctx,
                   const struct batch *b); /* reached a terminal state; any thread */
    void *ctx;
};

/* Counts that clients may see: only results that are on disk. */
struct engine_live {
    struct batch_counts counts;
    struct usage usage;
    bool has_usage;
    uint32_t inflight, waiting; /* unlike counts: a moment's view */
};

/* Starts the threads and recovers what the last process left; returns at once, batches
 * become live as their recovery ends. */
NODISCARD enum rc engine_new(const struct engine_opts *o, struct engine **ret,
                             struct err *e);
/* No new calls go out; those in flight get up to `grace` to end; their results are
 * synced.  What is left over is done by the next process. */
void engine_drain(struct engine *g, usec_t grace);
struct engine *engine_free(struct engine *g); /* drains with no grace when not drained */

void engine_submit(struct engine *g,
                   const struct id *batch); /* its row says validating */
void engine_cancel(struct engine *g,
                   const struct id *batch); /* its row says cancelling */
/*
 * Makes the edit in the store and has the engine follow it: priority, pause, hold and
 * deadline of a batch that is not at its end, whoever has it at the moment; of edits at the
 * same time the engine keeps the one that the row keeps.  Results and *ret as store's
 * batch_edit; blocks.
 */
NODISCARD enum rc engine_edit(struct engine *g, const struct id *project, const char *id,
                              const struct batch_edit *edit, struct batch *ret,
                              struct err *e);
/* The rules by which the input of a batch is judged, for a check without a batch.  Any
 * thread; valid as long as the engine. */
struct intake_rules engine_rules(struct engine *g, enum endpoint ep);
bool engine_idle(struct engine *g);      /* no live batch */
bool engine_recovered(struct engine *g); /* every batch of before is live again */

/*
 * A batch as a client may see it now: the record from the store with the live counts on
 * it, the two in step.  project: as store.h.  RC_NOTFOUND: unknown.  RC_AGAIN: it is still
 * being recovered (answer 503).
 */
NODISCARD enum rc engine_batch_view(struct engine *g, const struct id *project,
                                    const char *id, struct batch *ret, struct err *e);
/* The same over a page of store's batch_list; on failure *ret is NULL and *ret_n is 0. */
NODISCARD enum rc engine_batch_list(struct engine *g, const struct id *project,
                                    const char *after, unsigned limit, struct batch **ret,
                                    size_t *ret_n, bool *ret_more, struct err *e);
/* false: not live.  For progress bars and metrics. */
bool engine_live(struct engine *g, const char *id, struct engine_live *ret);

/*
 * For those who watch a batch: a number that changes when its status may have; read it
 * before the batch.  Costs nothing, as engine_live does; engine_batch_view asks the store.
 */
uint64_t engine_changes(struct engine *g, const char *id);

/* What a live batch does at this moment. */
struct engine_progress {
    uint32_t inflight;
    uint32_t waiting;   /* lines never sent; those that will not be do not count */
    uint32_t retrying;  /* lines that wait for another try */
    uint32_t following; /* lines that wait for the answer of one that asks the same */
    bool counted;       /* the three are known: it is past its checks */
    double rate;        /* results a second, as rate.h says; less than 0: not known */
    int64_t eta;        /* seconds to its last result if all goes on so; -1: not known */
    bool stopped;       /* nothing more of it is sent until it is resumed (`why`) */
    int64_t eta_late;   /* nine times of ten before that; -1: not known */
    bool critical;      /* it goes first: it would miss its deadline otherwise */
    bool late;          /* when it came it was found that it would not be in time; */
    int64_t
        fits_at;   /* ... and that this deadline would hold (wall seconds; 0: unknown) */
    char why[512]; /* what it does or waits for: one sentence of UTF-8 */
};
/* Asks the engine's loop and waits for its next turn.  false: it has no such batch. */
bool engine_progress(struct engine *g, const struct id *batch,
                     struct engine_progress *ret);

/* What may be read of a live batch's results log (store/reslog_tail.h). */
struct engine_log {
    const char *spool; /* the engine's */
    uint32_t items;
    struct reslog_mark mark;
};
bool engine_log(struct engine *g, const char *id, struct engine_log *ret); /* as above */

/* What GET /v1/models tells: see catalog_each. */
void engine_models(struct engine *g, catalog_fn *fn, void *ctx);

/* Appends Prometheus text (exposition format 0.0.4). */
void engine_metrics(struct engine *g, struct buf *out);
