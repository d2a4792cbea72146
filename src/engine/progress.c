/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/progress.h"
#include "engine/follow.h"
#include "engine/journal.h"
#include "engine/queues.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

/* Names of upstreams and models in a sentence. */
#define NAME "%.128s"

/* A batch that is being looked at, and what is said of it. */
struct look {
    const struct engine *g;
    const struct live *l;
    struct sched_batch_view v; /* phase RUN: of all its queues together */
    usec_t now;
    bool flows; /* results come, or will without anything being different */
    struct engine_progress *ret;
};

PRINTF_FMT(2, 3) static void say(struct look *k, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(k->ret->why, sizeof k->ret->why, fmt, ap);
    va_end(ap);
}

static long long seconds_until(const struct look *k, usec_t at)
{
    return at > k->now ? (at - k->now + USEC_PER_SEC - 1) / USEC_PER_SEC : 0;
}

/* A moment of the monotonic clock as the wall clock would have told it. */
static const char *wall_text(const struct look *k, usec_t at, char ret[32])
{
    time_t t = (time_t)((clock_wall() - (k->now - at)) / USEC_PER_SEC);
    struct tm tm;

    if (!gmtime_r(&t, &tm) || strftime(ret, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        ret[0] = '\0';
    return ret;
}

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

/* --- Its upstreams -------------------------------------------------------------------
 */

struct upstreams {
    unsigned n, usable; /* of its set */
    bool trial;         /* the usable ones are being tried after a failure */
    uint16_t soonest;   /* of the others: the one that may be usable first */
    struct sched_up_view view;
};

static struct upstreams upstreams_of(const struct look *k, const struct sched_set *set)
{
    struct upstreams u = {.trial = true, .view.reopen = USEC_INFINITY};

    for (uint16_t i = 0; i < k->g->o.n_upstreams; i++) {
        struct sched_up_view v;

        if (!sched_set_has(set, i))
            continue;
        u.n++;
        sched_upstream_view(k->g->sched, i, &v);
        if (v.state == SCHED_UP_OPEN || v.state == SCHED_UP_TRIAL) {
            u.usable++;
            u.trial = u.trial && v.state == SCHED_UP_TRIAL;
        } else if (v.reopen < u.view.reopen) {
            u.soonest = i;
            u.view = v;
        }
    }
    return u;
}

static void say_unusable(struct look *k, const struct upstreams *u)
{
    const char *name = upstream_name(k->g->ups[u->soonest]);
    char lead[64] = "The", since[32];

    if (u->n > 1)
        snprintf(lead, sizeof lead, "None of its %u upstream servers can be used: the",
                 u->n);
    if (u->view.state == SCHED_UP_CLOSED)
        say(k,
            "%s upstream server " NAME
            " takes no calls at present (429 or 503); the next "
            "one is made in %lld s.",
            lead, name, seconds_until(k, u->view.reopen));
    else
        say(k,
            "%s upstream server " NAME " has failed or been unreachable since %s; the "
            "next try is in %lld s.",
            lead, name, wall_text(k, u->view.since, since),
            seconds_until(k, u->view.reopen));
}

/* An upstream that was not reached yet may serve the model. */
static void say_nobody(struct look *k, const char *model)
{
    for (uint16_t i = 0; i < k->g->o.n_upstreams; i++) {
        if (catalog_asked(k->g->catalog, i))
            continue;
        say(k,
            "The upstream server " NAME " could not be reached yet; it is asked for its "
            "models again and again.",
            upstream_name(k->g->ups[i]));
        return;
    }
    say(k, "No upstream server serves the model '" NAME "' at present.", model);
}

/* Of its models that have lines to send the one that is nearest to it. */
static const struct queue *best_queue(const struct look *k, struct upstreams *ret)
{
    const struct queue *best = NULL;

    for (unsigned i = 0; i < k->l->n_queues; i++) {
        const struct queue *q = &k->l->queues[i];
        struct sched_batch_view v;
        struct upstreams u;

        sched_batch_view(k->g->sched, q->handle, &v);
        u = upstreams_of(k, &v.upstreams);
        if (v.ready == 0 || v.stopped)
            continue;
        if (!best || (u.usable > 0) > (ret->usable > 0) ||
            (ret->usable == 0 && u.view.reopen < ret->view.reopen)) {
            best = q;
            *ret = u;
        }
    }
    return best;
}

/* Nothing of it is in flight, something could go, no upstream has room. */
static void say_no_room(struct look *k)
{
    struct upstreams u = {0};
    const struct queue *q = best_queue(k, &u);
    uint64_t ahead = q ? sched_batch_ahead(k->g->sched, q->handle) : 0;

    if (q && u.n == 0) {
        say_nobody(k, q->model);
    } else if (u.usable == 0) {
        say_unusable(k, &u);
    } else if (ahead) {
        say(k, "It waits behind %llu line%s of batches with a higher priority.",
            (unsigned long long)ahead, plural(ahead));
    } else if (u.trial) {
        say(k, "Its upstream servers have just come back and are tried with one call "
               "at a time.");
    } else {
        k->flows = true;
        say(k, "Its upstream servers are busy with the lines of other batches; its turn "
               "comes.");
    }
}

/* --- While its lines run -------------------------------------------------------------
 */

/* A model with lines to send that nobody serves; NULL: there is none. */
static const char *forsaken(const struct look *k)
{
    for (unsigned i = 0; i < k->l->n_queues; i++) {
        struct sched_batch_view v;

        sched_batch_view(k->g->sched, k->l->queues[i].handle, &v);
        if (v.ready && !v.stopped && upstreams_of(k, &v.upstreams).n == 0)
            return k->l->queues[i].model;
    }
    return NULL;
}

static void say_running(struct look *k)
{
    unsigned limit = projects_get(k->g->projects, &k->l->rec.project)->max_inflight;
    const char *model = forsaken(k);
    char pace[64] = "", bound[256] = "";
    const char *first = k->v.critical ? "; it goes before others to be in time" : "";

    k->flows = true;
    if (k->ret->rate >= 0)
        snprintf(pace, sizeof pace, ", %.2f results a second", k->ret->rate);
    if (model)
        snprintf(bound, sizeof bound,
                 "; no upstream server serves the model '" NAME "' at present", model);
    else if (k->v.group_full)
        snprintf(bound, sizeof bound, "; its project may have no more than %u at a time",
                 limit);
    say(k, "Running: %u call%s in flight%s%s%s.", k->l->inflight, plural(k->l->inflight),
        pace, first, bound);
}

static bool all_answered(const struct live *l)
{
    return l->synced.completed + l->synced.failed + l->cut.completed + l->cut.failed +
               l->tail.completed + l->tail.failed ==
           l->items;
}

/* Nothing is in flight, and nobody has stopped it. */
static void say_waiting(struct look *k)
{
    const struct live *l = k->l;
    unsigned limit = projects_get(k->g->projects, &l->rec.project)->max_inflight;

    if (all_answered(l) ||
        (k->v.ready == 0 && k->v.due == USEC_INFINITY && k->v.suspects == 0)) {
        say(k, "Its last results are being written to the disk.");
    } else if (k->g->o.n_upstreams == 0) {
        say(k, "No upstream server is configured.");
    } else if (k->v.ready == 0 && k->v.due < USEC_INFINITY) {
        k->flows = true;
        say(k, "%u line%s failed and wait%s for another try; the next is in %lld s.",
            k->v.retrying, plural(k->v.retrying), k->v.retrying == 1 ? "s" : "",
            seconds_until(k, k->v.due));
    } else if (k->v.group_full) {
        k->flows = true;
        say(k,
            "The limit of %u call%s in flight that its project has is used by the "
            "project's other batches.",
            limit, plural(limit));
    } else if (!k->v.room) {
        say_no_room(k);
    } else if (l->rec.idle) {
        k->flows = true;
        say(k,
            "Idle work: it waits until its upstream servers have room that nobody else "
            "wants.");
    } else if (k->v.suspects) {
        say(k,
            "%u line%s with which calls broke wait%s to be tried with nothing beside "
            "them, until an upstream server is idle.",
            k->v.suspects, plural(k->v.suspects), k->v.suspects == 1 ? "s" : "");
    } else {
        k->flows = true;
        say(k, "Its next lines are about to be sent.");
    }
}

/* The remedy for what an upstream refuses every call with. */
static const char *remedy(long status)
{
    switch (status) {
    case 401:
        return "Mend the key of";
    case 402:
    case 429:
        return "See to the account at";
    case 403:
        return "See to what the key may do at";
    default:
        return "See to the model and the URL of";
    }
}

/* The scheduler has stopped it, or one of its models: every call was refused. */
static void say_denied(struct look *k)
{
    const struct denial *d = &k->l->denial;
    char said[sizeof d->text + 4] = "";

    if (d->text[0])
        snprintf(said, sizeof said, " %s%s", d->text,
                 strchr(".!?", d->text[strlen(d->text) - 1]) ? "" : ".");
    say(k,
        "Stopped after %u calls, all refused: %ld%s %s upstream " NAME
        " and resume the batch.",
        k->v.denied, d->status, said[0] ? said : ".", remedy(d->status),
        upstream_name(k->g->ups[d->up]));
}

/* true: its owner or the server has stopped it. */
static bool say_stopped(struct look *k)
{
    const struct live *l = k->l;
    const struct batch *b = &l->rec;

    if (b->paused && l->inflight)
        say(k, "Paused by its owner; %u call%s still in flight. Resume it to go on.",
            l->inflight, l->inflight == 1 ? " is" : "s are");
    else if (b->paused)
        say(k, "Paused by its owner. Resume it to go on.");
    else if (k->g->lacks == RC_NOMEM)
        say(k,
            "The server is short of memory or file descriptors; calls go on as soon as "
            "there are some.");
    else if (k->g->lacks == RC_NOSPACE)
        say(k, "The server's disk is full; calls go on as soon as there is space.");
    else if (atomic_load(&k->g->stats.paused))
        say(k, "Results come faster than the disk takes them; calls go on when it has "
               "caught up.");
    else if (b->hold && b->hold < l->items && l->inflight == 0 && k->v.ready == 0 &&
             k->v.due == USEC_INFINITY && journal_clean(l))
        say(k,
            "Its sample, the first %u line%s, is done: resume it to run the rest, or "
            "cancel it.",
            b->hold, plural(b->hold));
    else if (k->ret->stopped)
        say_denied(k);
    else
        return false;
    return true;
}

static void view_all(struct look *k)
{
    k->v = (struct sched_batch_view){.due = USEC_INFINITY};
    for (unsigned i = 0; i < k->l->n_queues; i++) {
        struct sched_batch_view v;

        sched_batch_view(k->g->sched, k->l->queues[i].handle, &v);
        k->v.fresh += v.fresh;
        k->v.retrying += v.retrying;
        k->v.stopped = k->v.stopped || v.stopped;
        k->v.denied += v.stopped ? v.denied : 0;
        if (v.stopped)
            continue;
        k->v.ready += v.ready;
        k->v.suspects += v.suspects;
        k->v.critical = k->v.critical || v.critical;
        k->v.due = v.due < k->v.due ? v.due : k->v.due;
        k->v.group_full = k->v.group_full || v.group_full;
        k->v.room = k->v.room || (v.room && v.ready);
    }
}

static int64_t seconds_to(const struct look *k, usec_t at)
{
    return at == USEC_INFINITY ? -1 : (int64_t)seconds_until(k, at);
}

/* As the scheduler sees it; where that does not know enough yet, as results came so far. */
static void tell_end(struct look *k)
{
    const struct live *l = k->l;
    double left = l->items - l->synced.completed - l->synced.failed;
    usec_t likely, late;

    queues_eta(l, k->now, &likely, &late);
    k->ret->eta = seconds_to(k, likely);
    k->ret->eta_late = seconds_to(k, late);
    if (k->ret->eta < 0 && k->ret->rate > 0)
        k->ret->eta = (int64_t)ceil(left / k->ret->rate);
}

static void look_run(struct look *k)
{
    const struct live *l = k->l;

    view_all(k);
    k->ret->counted = true;
    k->ret->inflight = l->inflight;
    k->ret->waiting = k->v.fresh;
    k->ret->retrying = k->v.retrying;
    k->ret->following = follow_waiting(l);
    k->ret->rate = rate_now(&l->rate, k->now);
    k->ret->stopped = k->v.stopped && l->inflight == 0 && k->v.ready == 0 &&
                      k->v.due == USEC_INFINITY && k->v.suspects == 0;
    if (l->busy) { /* a job looks whether it expires; the record is the job's */
        say(k, "Its time is over; it is being closed.");
        return;
    }
    if (say_stopped(k))
        return;
    if (l->inflight)
        say_running(k);
    else
        say_waiting(k);
    if (k->flows && (l->rec.hold == 0 || l->rec.hold >= l->items))
        tell_end(k);
}

/* --- Before and after ----------------------------------------------------------------
 */

static void look_admit(struct look *k)
{
    const struct live *l = k->l;
    enum rc rc = l->busy || l->held ? RC_OK : l->task.rc;

    if (rc == RC_NOSPACE)
        say(k, "The server's disk is full; its input file is checked when there is "
               "space.");
    else if (rc == RC_NOMEM)
        say(k, "The server is short of memory; its input file is checked when there is "
               "some.");
    else if (l->recovery)
        say(k, "It is being recovered after a restart of the server.");
    else if (l->held)
        say(k, "It waits until the upstream servers have told which models they serve.");
    else if (rc == RC_AGAIN)
        say(k, "It waits for the batches of before a restart: only then it is known "
               "whether there is room for its lines.");
    else
        say(k, "Its input file is being checked.");
}

static void look_close(struct look *k)
{
    const struct live *l = k->l;
    const char *what =
        l->rec.status == BATCH_CANCELLING ? "It is being cancelled" : "Its time is over";

    k->ret->counted = true;
    k->ret->inflight = l->inflight;
    if (l->inflight)
        say(k, "%s: the answers of %u call%s in flight are waited for.", what,
            l->inflight, plural(l->inflight));
    else
        say(k, "%s: its last results are being written to the disk.", what);
}

static void look_finish(struct look *k)
{
    k->ret->counted = true;
    if (!k->l->busy && k->l->task.rc == RC_NOSPACE)
        say(k, "The server's disk is full; its output files are written when there is "
               "space.");
    else
        say(k, "Its output files are being written.");
}

static void look(struct look *k)
{
    switch (k->l->phase) {
    case LIVE_ADMIT:
        look_admit(k);
        break;
    case LIVE_RUN:
        look_run(k);
        break;
    case LIVE_CLOSE:
        look_close(k);
        break;
    case LIVE_FINISH:
        look_finish(k);
        break;
    case LIVE_STUCK:
        say(k, "It stands still because its data on the server is damaged; the server's "
               "log says what the operator can do.");
        break;
    }
    if (!k->g->draining)
        return;
    k->ret->eta = k->ret->eta_late = -1;
    say(k, k->g->dead
               ? "The server has stopped because its disk or its database failed; "
                 "the batch goes on when the server has been restarted."
               : "The server is shutting down; the batch goes on when it is started "
                 "again.");
}

/* --- Questions and answers -----------------------------------------------------------
 */

static void answer(struct inquiry *q, bool found)
{
    pthread_mutex_lock(&q->lock);
    q->found = found;
    q->over = true;
    pthread_cond_signal(&q->cond);
    pthread_mutex_unlock(&q->lock); /* from here on it is the asker's again */
}

void progress_answer(struct engine *g, struct inquiry *q, usec_t now)
{
    const struct live *l = map_get(g->lives, id_str(&q->batch));
    struct look k = {.g = g, .l = l, .now = now, .ret = q->ret};

    *q->ret = (struct engine_progress){.rate = -1, .eta = -1, .eta_late = -1};
    if (l) {
        look(&k);
        q->ret->critical = k.v.critical;
        q->ret->late = l->late;
        q->ret->fits_at = l->fits_at;
    }
    answer(q, l != NULL);
}

void progress_drop(struct inquiry *q)
{
    answer(q, false);
}

bool engine_progress(struct engine *g, const struct id *batch,
                     struct engine_progress *ret)
{
    struct inquiry q = {.note.kind = NOTE_ASK,
                        .batch = *batch,
                        .ret = ret,
                        .lock = PTHREAD_MUTEX_INITIALIZER,
                        .cond = PTHREAD_COND_INITIALIZER};

    mail_post(g->mail, &q.note.mail);
    pthread_mutex_lock(&q.lock);
    while (!q.over)
        pthread_cond_wait(&q.cond, &q.lock);
    pthread_mutex_unlock(&q.lock);
    pthread_cond_destroy(&q.cond);
    pthread_mutex_destroy(&q.lock);
    return q.found;
}
