/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/phases.h"
#include "engine/admission.h"
#include "engine/dispatch.h"
#include "engine/follow.h"
#include "engine/jobs.h"
#include "engine/journal.h"
#include "engine/queues.h"
#include "engine/roster.h"

/* A disk that is full, or a store that says so, is tried again after: */
#define FULL_RETRY (5 * USEC_PER_SEC)
/* The longest sleep until a deadline, which is of the wall clock: */
#define LOOK_AGAIN (60 * USEC_PER_SEC)
/* A batch that may have no room beside those being recovered asks again after: */
#define ROOM_RETRY (USEC_PER_SEC / 5)

static void start_job(struct live *l, enum note_kind back, void (*run)(struct pool_job *))
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
 * that was set in between makes the deadline come later or sooner, so it is looked at again
 * and again. */
static void arm_deadline(struct live *l, usec_t now)
{
    usec_t left = l->rec.expires_at * USEC_PER_SEC - clock_due();

    if (left > LOOK_AGAIN)
        left = LOOK_AGAIN;
    loop_timer_set(l->engine->loop, &l->deadline, now + (left > 0 ? left : 0),
                   at_deadline, l);
}

static void at_deadline(void *ctx, usec_t now)
{
    struct live *l = ctx;

    if (l->phase != LIVE_RUN || l->busy || l->engine->draining)
        return;
    if (clock_due_sec() < l->rec.expires_at) {
        arm_deadline(l, now);
        return;
    }
    /* Before the job has it: nothing may be sent past the deadline, and the loop must not
     * look at l->rec while the job moves it.  Not closed: the job may find that the
     * deadline was moved. */
    queues_edit(l, 0, true, 0, now);
    start_job(l, NOTE_EXPIRED, expire_run);
}

static void grace_over(void *ctx, usec_t now)
{
    struct live *l = ctx;

    log_info("batch.abort", "batch=%s calls=%u why=\"drain timeout\"", l->id.z,
             l->inflight);
    dispatch_abort(l, now);
    live_touch(l);
}

static void task_again(void *ctx, usec_t now)
{
    struct live *l = ctx;

    (void)now;
    if (!l->busy && !l->engine->draining)
        start_job(l, l->task.note.kind, l->task.job.run);
}

static void enter_stuck(struct live *l)
{
    log_error("batch.stuck",
              "batch=%s err=\"%s\" remedy=\"restore the file and restart\"", l->id.z,
              l->sick.text);
    l->phase = LIVE_STUCK;
    loop_timer_clear(l->engine->loop, &l->deadline);
    queues_close(l);
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
        live_sicken(l, &l->task.err);
    else
        engine_die(l->engine, "a batch cannot go on", &l->task.err);
    return true;
}

/* The batch is terminal: nothing of it is ours to do any more. */
static void forget(struct live *l)
{
    struct engine *g = l->engine;

    board_remove(g->board, &l->id);
    map_del(g->lives, id_str(&l->id));
    atomic_fetch_sub(&g->pending, 1);
    atomic_store(&g->stats.live, (unsigned)map_len(g->lives));
    if (batch_terminal(l->rec.status)) {
        atomic_fetch_add(&g->stats.ended[l->rec.status], 1);
        if (g->o.on_end)
            g->o.on_end(g->o.ctx, &l->rec);
    }
    live_free(l);
}

/* --- Phases --------------------------------------------------------------------------
 */

static void enter_close(struct live *l, usec_t now)
{
    struct engine *g = l->engine;

    l->phase = LIVE_CLOSE;
    loop_timer_clear(g->loop, &l->deadline);
    queues_close(l);
    if (l->inflight)
        loop_timer_set(g->loop, &l->grace, now + g->o.drain_timeout, grace_over, l);
    live_touch(l);
}

/* Each project has a group of its own: what one is served is weighed against the others. */
static uint16_t group_of(struct engine *g, const struct id *project)
{
    const struct engine_project *p = projects_get(g->projects, project);
    unsigned max = p->max_inflight;
    uintptr_t group = (uintptr_t)map_get(g->groups, id_str(project));

    if (group)
        return (uint16_t)group;
    group = sched_group_add(g->sched, max, p->weight);
    map_put(g->groups, id_str(project), (void *)group);
    return (uint16_t)group;
}

static usec_t deadline_of(const struct live *l, usec_t now)
{
    return now + l->rec.expires_at * USEC_PER_SEC - clock_due();
}

/* What the row was changed to while a job had the batch. */
static void take_wishes(struct live *l)
{
    if (!l->edited)
        return;
    l->edited = false;
    l->rec.priority = l->wishes.priority;
    l->rec.idle = l->wishes.idle;
    l->rec.paused = l->wishes.paused;
    l->rec.hold = l->wishes.hold;
    l->rec.expires_at = l->wishes.expires_at;
    if (!l->wishes.resume)
        return;
    l->wishes.resume = l->stopped = false;
    l->denial.status = 0;
    queues_resume(l);
}

/* The scheduler and the timer follow the record. */
static void steer(struct live *l, usec_t now)
{
    const struct batch *b = &l->rec;
    bool over;

    take_wishes(l);
    over = clock_due_sec() >= b->expires_at; /* nothing goes out until a job has looked */
    queues_idle(l, b->idle);
    queues_edit(l, b->priority, b->paused || over, b->hold, deadline_of(l, now));
    arm_deadline(l, now);
}

static struct sched_batch_opts opts_of(struct live *l, usec_t now)
{
    struct sched_batch_opts o = {.n_items = l->items, .done = l->done};
    enum endpoint ep = l->rec.endpoint;

    o.priority = l->rec.priority;
    o.idle = l->rec.idle;
    o.window = (l->rec.expires_at - l->rec.created_at) * USEC_PER_SEC;
    /* Of one that was finalizing, a damaged log lost lines: nobody could release them. */
    o.paused = l->rec.paused && l->rec.status == BATCH_IN_PROGRESS;
    o.hold = l->rec.status == BATCH_IN_PROGRESS ? l->rec.hold : 0;
    o.deadline = deadline_of(l, now);
    o.group = group_of(l->engine, &l->rec.project);
    /* What is made twice is paid for twice, and kept twice: a video is a job. */
    o.once = ep == ENDPOINT_IMAGES || ep == ENDPOINT_IMAGE_EDITS || ep == ENDPOINT_VIDEOS;
    return o;
}

static void enter_run(struct live *l, usec_t now)
{
    struct sched_batch_opts o;

    take_wishes(l);
    o = opts_of(l, now);
    l->once = o.once;
    l->phase = LIVE_RUN;
    rate_start(&l->rate, now);
    follow_start(l);
    queues_add(l, &o, now);
    index_trim(l->index);
    mem_free(l->done);
    l->done = NULL;
    arm_deadline(l, now);
    live_touch(l);
}

static void enter_finish(struct live *l)
{
    struct engine *g = l->engine;

    l->phase = LIVE_FINISH;
    loop_timer_clear(g->loop, &l->deadline);
    loop_timer_clear(g->loop, &l->grace);
    queues_remove(l);
    start_job(l, NOTE_ENDED, finish_run);
}

void phase_check(struct live *l)
{
    if (l->sick.text[0] && l->phase != LIVE_STUCK)
        enter_stuck(l);
    if (l->busy || l->inflight || !journal_clean(l) || follow_busy(l) ||
        l->engine->draining)
        return;
    if (l->phase == LIVE_CLOSE ||
        (l->phase == LIVE_RUN && l->synced.completed + l->synced.failed == l->items))
        enter_finish(l);
    else if (l->phase == LIVE_RUN && l->scheduled && queues_waiting(l) == 0 &&
             follow_release(l)) {
        queues_remove(l);
        enter_run(l, loop_now(l->engine->loop));
    }
}

void phase_start(struct live *l)
{
    start_job(l, NOTE_ADMITTED, admit_run);
}

void phase_resume(struct live *l)
{
    if (!l->held || l->engine->draining)
        return;
    l->held = false;
    phase_start(l);
}

/* --- Notes ---------------------------------------------------------------------------
 */

/* Its lines are good; whether it will be in time is known here alone. */
static void judge(struct live *l, usec_t now)
{
    struct sched_batch_opts o;
    char at[32];

    take_wishes(l);
    o = opts_of(l, now);
    o.paused = true;
    o.hold = 0;
    queues_remove(l);
    queues_add(l, &o, now);
    l->outlook =
        l->rec.idle || queues_fit(l, now, &l->fits_at) ? OUTLOOK_FITS : OUTLOOK_LATE;
    l->late = l->outlook == OUTLOOK_LATE;
    if (l->late) {
        atomic_fetch_add(&l->engine->stats.late, 1);
        log_warn("batch.late", "batch=%s action=%s deadline=%lld would_hold=%s", l->id.z,
                 admission_name(l->engine->o.admission), (long long)l->rec.expires_at,
                 admission_time(l->fits_at, at));
    }
    start_job(l, NOTE_ADMITTED, admitted_run);
}

void phase_admitted(struct live *l, usec_t now)
{
    l->busy = false;
    if (task_failed(l, now))
        return;
    if (l->task.rc == RC_OK && l->outlook == OUTLOOK_ASKED) {
        judge(l, now);
        return;
    }
    queues_remove(l); /* as it was judged */
    if (l->task.rc ==
        RC_AGAIN) { /* too early to say which models or what room there is */
        l->held = !roster_ready(l->engine);
        if (!l->held)
            loop_timer_set(l->engine->loop, &l->again, now + ROOM_RETRY, task_again, l);
        return;
    }
    if (l->recovery) {
        l->recovery = false;
        atomic_fetch_sub(&l->engine->recovering, 1);
    }
    take_wishes(l);
    if (l->cancel_seen && l->rec.status == BATCH_IN_PROGRESS)
        l->rec.status = BATCH_CANCELLING; /* it came right behind the job's own move */
    log_info("batch.admitted", "batch=%s status=%s lines=%u done=%u", l->id.z,
             batch_status_name(l->rec.status), l->items,
             l->synced.completed + l->synced.failed);
    if (batch_terminal(l->rec.status))
        forget(l);
    else if (l->rec.status == BATCH_IN_PROGRESS && clock_due_sec() >= l->rec.expires_at)
        start_job(l, NOTE_EXPIRED, expire_run); /* its time ended while nobody ran it */
    else if (l->rec.status == BATCH_IN_PROGRESS)
        enter_run(l, now);
    else
        enter_close(l, now); /* cancelling, or finalizing since before a crash */
}

void phase_expired(struct live *l, usec_t now)
{
    l->busy = false;
    if (task_failed(l, now))
        return;
    if (l->cancel_seen && l->rec.status == BATCH_IN_PROGRESS)
        l->rec.status = BATCH_CANCELLING;
    if (l->task.rc == RC_AGAIN && l->rec.status == BATCH_IN_PROGRESS) {
        if (l->scheduled)
            steer(l, now); /* its deadline was moved in time */
        else
            enter_run(l, now);
        live_touch(l);
        return;
    }
    log_info("batch.closing", "batch=%s status=%s inflight=%u", l->id.z,
             batch_status_name(l->rec.status), l->inflight);
    enter_close(l, now);
}

void phase_ended(struct live *l, usec_t now)
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
    forget(l);
}

void phase_edit(struct live *l, const struct wishes *w, usec_t now)
{
    bool resume = l->edited && l->wishes.resume;

    l->wishes = *w;
    l->wishes.resume |= resume;
    l->edited = true;
    if (l->busy || l->phase != LIVE_RUN)
        return;
    steer(l, now);
}

void phase_cancel(struct live *l, usec_t now)
{
    l->cancel_seen = true; /* a job that has it finds out by itself */
    if (l->phase != LIVE_RUN || l->busy)
        return;
    l->rec.status = BATCH_CANCELLING;
    log_info("batch.closing", "batch=%s status=cancelling inflight=%u", l->id.z,
             l->inflight);
    enter_close(l, now);
}
