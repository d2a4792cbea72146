/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/live.h"

/* A disk that is full, or a store that says so, is tried again after: */
#define FULL_RETRY (5 * USEC_PER_SEC)

struct live *live_new(struct engine *g, const struct id *id)
{
    struct live *l = mem_new(struct live);

    l->engine = g;
    l->id = *id;
    l->phase = LIVE_ADMIT;
    l->task.live = l->commit.live = l;
    list_init(&l->calls);
    list_init(&l->dirty);
    return l;
}

struct live *live_free(struct live *l)
{
    if (!l)
        return NULL;
    CHECK(list_empty(&l->calls) && !l->busy && !l->committing);
    list_del(&l->dirty);
    loop_timer_clear(l->engine->loop, &l->deadline);
    loop_timer_clear(l->engine->loop, &l->grace);
    loop_timer_clear(l->engine->loop, &l->again);
    l->engine->o.blobs->ops->close(l->input);
    index_free(l->index);
    reslog_block_free(l->block);
    reslog_close(l->log);
    batch_done(&l->rec);
    mem_free(l->done);
    mem_free(l->window);
    mem_free(l);
    return NULL;
}

void tally_add(struct tally *sum, const struct tally *one)
{
    sum->completed += one->completed;
    sum->failed += one->failed;
    sum->has_usage = sum->has_usage || one->has_usage;
    usage_add(&sum->usage, &one->usage);
}

void tally_record(struct tally *sum, const struct reslog_rec *r)
{
    struct tally one = {.completed = r->kind == RESULT_OUTPUT,
                        .failed = r->kind == RESULT_ERROR,
                        .has_usage = r->has_usage,
                        .usage = r->usage};

    tally_add(sum, &one);
}

enum rc live_move(struct live *l, enum batch_event ev, const struct batch_change *change)
{
    const struct store *store = l->engine->o.store;
    struct batch now = {0};
    enum rc rc = store->ops->batch_move(store->self, l->id.z, ev, clock_wall_sec(),
                                        change, &now, &l->task.err);

    if (rc == RC_OK || rc == RC_CONFLICT) {
        batch_done(&l->rec);
        l->rec = now;
    }
    return rc;
}

enum rc live_read_line(struct live *l, const struct index_entry *entry, char **line,
                       size_t *cap, struct err *e)
{
    size_t got;
    enum rc rc;

    if (entry->length > *cap) {
        char *more = mem_resize(*line, entry->length);

        if (!more)
            return err_set(e, RC_NOMEM, "no memory for a line of %u bytes",
                           entry->length);
        *line = more;
        *cap = entry->length;
    }
    rc = l->engine->o.blobs->ops->pread(l->input, *line, entry->length, entry->offset,
                                        &got, e);
    if (rc == RC_OK && got < entry->length)
        rc = err_set(e, RC_CORRUPT, "the input file '%s' is shorter than it was",
                     l->rec.input_file.z);
    return rc;
}

void live_task(struct live *l, enum note_kind back, void (*run)(struct pool_job *))
{
    CHECK(!l->busy);
    l->busy = true;
    l->task.note.kind = back;
    l->task.job.run = run;
    pool_submit(l->engine->workers, &l->task.job);
}

/* --- Timers --------------------------------------------------------------------------
 */

static void at_deadline(void *ctx, usec_t now);

/* The wall clock says when a batch expires; the monotonic one wakes us.  A wall clock
 * that was set back in between makes the deadline come later, so it is looked at again.
 */
static void arm_deadline(struct live *l, usec_t now)
{
    usec_t left = l->rec.expires_at * USEC_PER_SEC - clock_wall();

    loop_timer_set(l->engine->loop, &l->deadline, now + (left > 0 ? left : 0),
                   at_deadline, l);
}

static void at_deadline(void *ctx, usec_t now)
{
    struct live *l = ctx;

    if (l->phase != LIVE_RUN || l->engine->draining)
        return;
    if (clock_wall_sec() < l->rec.expires_at || l->busy) {
        arm_deadline(l, now + (l->busy ? USEC_PER_SEC : 0));
        return;
    }
    live_task(l, NOTE_EXPIRED, expire_run);
}

static void grace_over(void *ctx, usec_t now)
{
    struct live *l = ctx;

    log_info("batch.abort", "batch=%s calls=%u why=\"drain timeout\"", l->id.z,
             l->inflight);
    dispatch_abort(l, now);
    live_check(l);
}

static void task_again(void *ctx, usec_t now)
{
    struct live *l = ctx;

    (void)now;
    if (!l->busy && !l->engine->draining)
        live_task(l, l->task.note.kind, l->task.job.run);
}

void live_stick(struct live *l, const struct err *e)
{
    log_error("batch.stuck",
              "batch=%s err=\"%s\" remedy=\"restore the file and restart\"", l->id.z,
              e->text);
    l->phase = LIVE_STUCK;
    loop_timer_clear(l->engine->loop, &l->deadline);
    if (l->scheduled)
        sched_batch_close(l->engine->sched, l->handle);
    if (l->recovery) { /* its row may be shown: nothing better will be known */
        struct board_entry entry = {.counts = l->rec.counts};

        l->recovery = false;
        atomic_fetch_sub(&l->engine->recovering, 1);
        board_set(l->engine->board, &l->id, &entry);
    }
}

/* What a job could not do for want of disk space is done later; anything else that a job
 * reports as failed breaks a promise.  true: the note needs no more handling. */
static bool task_failed(struct live *l, usec_t now)
{
    enum rc rc = l->task.rc;

    if (rc == RC_OK || rc == RC_AGAIN)
        return false;
    if (rc == RC_CANCELLED)
        return true; /* we are stopping; the next process goes on */
    if (rc == RC_NOSPACE || rc == RC_NOMEM) {
        log_error("batch.waits", "batch=%s err=\"%s\" retry_s=%d", l->id.z,
                  l->task.err.text, (int)(FULL_RETRY / USEC_PER_SEC));
        loop_timer_set(l->engine->loop, &l->again, now + FULL_RETRY, task_again, l);
        return true;
    }
    if (rc == RC_CORRUPT)
        live_stick(l, &l->task.err);
    else
        engine_die(l->engine, "a batch cannot go on", &l->task.err);
    return true;
}

/* --- Phases --------------------------------------------------------------------------
 */

static void enter_close(struct live *l, usec_t now)
{
    struct engine *g = l->engine;

    l->phase = LIVE_CLOSE;
    loop_timer_clear(g->loop, &l->deadline);
    if (l->scheduled)
        sched_batch_close(g->sched, l->handle);
    if (l->inflight)
        loop_timer_set(g->loop, &l->grace, now + g->o.drain_timeout, grace_over, l);
    live_check(l);
}

static void enter_run(struct live *l, usec_t now)
{
    struct engine *g = l->engine;
    usec_t deadline = now + l->rec.expires_at * USEC_PER_SEC - clock_wall();

    l->phase = LIVE_RUN;
    l->handle = sched_batch_add(g->sched, l->items, l->done, deadline, now);
    l->scheduled = true;
    mem_free(l->done);
    l->done = NULL;
    if (l->handle >= g->cap_handles) {
        uint32_t cap = l->handle + 64;

        g->by_handle = mem_resize(g->by_handle, cap * sizeof(struct live *));
        CHECK(g->by_handle);
        g->cap_handles = cap;
    }
    g->by_handle[l->handle] = l;
    arm_deadline(l, now);
    live_check(l);
}

static void enter_finish(struct live *l)
{
    struct engine *g = l->engine;

    l->phase = LIVE_FINISH;
    loop_timer_clear(g->loop, &l->deadline);
    loop_timer_clear(g->loop, &l->grace);
    if (l->scheduled)
        sched_batch_remove(g->sched, l->handle);
    l->scheduled = false;
    mem_free(l->window);
    l->window = NULL;
    l->window_n = 0;
    live_task(l, NOTE_ENDED, finish_run);
}

void live_check(struct live *l)
{
    if (l->busy || l->inflight || !journal_clean(l) || l->engine->draining)
        return;
    if (l->phase == LIVE_CLOSE ||
        (l->phase == LIVE_RUN && l->synced.completed + l->synced.failed == l->items))
        enter_finish(l);
}

/* --- Notes ---------------------------------------------------------------------------
 */

void live_admitted(struct live *l, usec_t now)
{
    l->busy = false;
    if (task_failed(l, now))
        return;
    if (l->recovery) {
        l->recovery = false;
        atomic_fetch_sub(&l->engine->recovering, 1);
    }
    if (l->cancel_seen && l->rec.status == BATCH_IN_PROGRESS)
        l->rec.status = BATCH_CANCELLING; /* it came right behind the job's own move */
    log_info("batch.admitted", "batch=%s status=%s lines=%u done=%u", l->id.z,
             batch_status_name(l->rec.status), l->items,
             l->synced.completed + l->synced.failed);
    if (batch_terminal(l->rec.status))
        engine_forget(l);
    else if (l->rec.status == BATCH_IN_PROGRESS && clock_wall_sec() >= l->rec.expires_at)
        live_task(l, NOTE_EXPIRED, expire_run); /* its time ended while nobody ran it */
    else if (l->rec.status == BATCH_IN_PROGRESS)
        enter_run(l, now);
    else
        enter_close(l, now); /* cancelling, or finalizing since before a crash */
}

void live_expired(struct live *l, usec_t now)
{
    l->busy = false;
    if (task_failed(l, now))
        return;
    log_info("batch.closing", "batch=%s status=%s inflight=%u", l->id.z,
             batch_status_name(l->rec.status), l->inflight);
    enter_close(l, now);
}

void live_ended(struct live *l, usec_t now)
{
    l->busy = false;
    if (task_failed(l, now))
        return;
    if (l->task.rc == RC_AGAIN) {
        enter_run(l, now); /* lines were lost to a damaged log: they run again */
        return;
    }
    log_info("batch.ended", "batch=%s status=%s total=%u completed=%u failed=%u", l->id.z,
             batch_status_name(l->rec.status), l->rec.counts.total,
             l->rec.counts.completed, l->rec.counts.failed);
    engine_forget(l);
}

void live_cancel(struct live *l, usec_t now)
{
    l->cancel_seen = true; /* a job that has it finds out by itself */
    if (l->phase != LIVE_RUN || l->busy)
        return;
    l->rec.status = BATCH_CANCELLING;
    log_info("batch.closing", "batch=%s status=cancelling inflight=%u", l->id.z,
             l->inflight);
    enter_close(l, now);
}
