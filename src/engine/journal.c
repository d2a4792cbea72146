/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/journal.h"
#include "base/guard.h"
#include "engine/follow.h"
#include "engine/queues.h"

/* A commit is due at once at this size: long enough to make a sync worth it. */
#define COMMIT_BYTES (1u << 20)

/* Above it nothing new is sent until the disk has caught up: bounds the memory of
 * results. */
#define UNSYNCED_HIGH (32u << 20)
#define UNSYNCED_LOW  (8u << 20)

/* At most so many syncs a second over all logs (reliability.md: a cloud disk does 500).
 */
#define SYNCS_PER_SEC 200

/* A full disk is tried again so often. */
#define FULL_RETRY (1 * USEC_PER_SEC)

bool journal_clean(const struct live *l)
{
    return !l->committing && (!l->log || reslog_pending(l->log) == 0);
}

static void pause_if_needed(struct engine *g)
{
    bool paused = atomic_load(&g->stats.paused);
    bool want = g->draining || g->lacks != RC_OK || g->unsynced > UNSYNCED_HIGH ||
                (paused && g->unsynced > UNSYNCED_LOW);

    if (want == paused)
        return;
    atomic_store(&g->stats.paused, want);
    sched_pause(g->sched, want);
}

static void publish_counts(struct live *l)
{
    struct tally shown = l->synced;
    struct board_entry entry = {.inflight = l->inflight, .log = reslog_mark(l->log)};

    if (!GUARD(COUNT_SYNCED))
        tally_add(&shown, &l->tail);
    entry.counts = (struct batch_counts){l->items, shown.completed, shown.failed};
    entry.usage = shown.usage;
    entry.has_usage = shown.has_usage;

    entry.waiting = queues_waiting(l) + follow_waiting(l);
    board_set(l->engine->board, &l->id, &entry);
}

void journal_append(struct live *l, const struct reslog_rec *r, usec_t now)
{
    struct engine *g = l->engine;

    if (reslog_append(l->log, r) != RC_OK)
        PANIC("out of memory for a result of %zu bytes", r->payload.n);
    tally_record(&l->tail, r);
    if (list_empty(&l->dirty)) {
        list_add_tail(&g->dirty, &l->dirty);
        l->first_pending = now;
    }
    l->tail_bytes += r->payload.n;
    g->unsynced += r->payload.n;
    atomic_fetch_add_explicit(&g->stats.log_bytes, r->payload.n, memory_order_relaxed);
    pause_if_needed(g);
    if (!GUARD(COUNT_SYNCED))
        publish_counts(l);
}

static void commit_run(struct pool_job *job)
{
    struct task *t = CONTAINER_OF(job, struct task, job);

    t->rc = reslog_commit(t->live->log, t->live->block, &t->err);
    /* It is freed; said here, as no note comes when the loop has ended. */
    if (t->rc == RC_OK)
        t->live->block = NULL;
    task_report(t);
}

static void commit_start(struct live *l)
{
    struct engine *g = l->engine;

    l->committing = true;
    l->commit.live = l;
    l->commit.job.run = commit_run;
    l->commit.note.kind = NOTE_COMMITTED;
    pool_submit(g->syncers, &l->commit.job);
}

/* When the log's next commit is due. */
static usec_t due(const struct live *l, usec_t interval)
{
    if (reslog_pending(l->log) >= COMMIT_BYTES || l->inflight == 0)
        return l->first_pending;
    return l->first_pending + interval;
}

static usec_t interval_now(const struct engine *g)
{
    usec_t stretched = 0;

    list_each (it, &g->dirty)
        stretched += USEC_PER_SEC / SYNCS_PER_SEC;
    return stretched > g->o.sync_interval ? stretched : g->o.sync_interval;
}

void journal_flush(struct engine *g, usec_t now)
{
    usec_t interval = interval_now(g);

    list_each_safe (it, &g->dirty) {
        struct live *l = list_entry(it, struct live, dirty);

        if (l->committing || due(l, interval) > now)
            continue;
        list_del(&l->dirty);
        l->block = reslog_cut(l->log);
        CHECK(l->block);
        l->cut = l->tail;
        l->block_bytes = l->tail_bytes;
        l->tail_bytes = 0;
        l->tail = (struct tally){0};
        commit_start(l);
    }
}

usec_t journal_next(const struct engine *g, usec_t now)
{
    usec_t interval = interval_now(g), at = USEC_INFINITY;

    (void)now;
    list_each (it, &g->dirty) {
        const struct live *l = list_entry(it, struct live, dirty);

        if (!l->committing && due(l, interval) < at)
            at = due(l, interval);
    }
    return at;
}

static void commit_again(void *ctx, usec_t now)
{
    (void)now;
    commit_start(ctx);
}

static void commit_failed(struct live *l, usec_t now)
{
    struct engine *g = l->engine;

    if (l->commit.rc != RC_NOSPACE && l->commit.rc != RC_NOMEM) {
        engine_die(g, "results cannot be written to disk", &l->commit.err);
        return;
    }
    if (g->lacks == RC_OK && l->commit.rc == RC_NOSPACE)
        log_error("disk.full", "batch=%s err=\"%s\" action=\"dispatch waits for space\"",
                  l->id.z, l->commit.err.text);
    else if (g->lacks == RC_OK)
        log_error("results.wait", "batch=%s err=\"%s\" action=\"dispatch waits\"",
                  l->id.z, l->commit.err.text);
    g->lacks = l->commit.rc;
    pause_if_needed(g);
    loop_timer_set(g->loop, &l->commit_again, now + FULL_RETRY, commit_again, l);
}

void journal_committed(struct live *l, usec_t now)
{
    struct engine *g = l->engine;
    uint32_t n = l->cut.completed + l->cut.failed;

    if (l->commit.rc != RC_OK) {
        commit_failed(l, now);
        return;
    }
    l->committing = false;
    tally_add(&l->synced, &l->cut);
    rate_add(&l->rate, n, now);
    atomic_fetch_add_explicit(&g->stats.results_ok, l->cut.completed,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&g->stats.results_error, l->cut.failed,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&g->stats.commits, 1, memory_order_relaxed);
    l->cut = (struct tally){0};
    CHECK(n > 0);
    if (g->lacks != RC_OK)
        log_info(g->lacks == RC_NOSPACE ? "disk.space" : "results.go_on",
                 "batch=%s action=\"dispatch goes on\"", l->id.z);
    g->lacks = RC_OK;
    g->unsynced -= l->block_bytes;
    pause_if_needed(g);
    publish_counts(l);
    live_touch(l);
}
