/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/dispatch.h"
#include "base/guard.h"
#include "engine/journal.h"
#include "engine/phases.h"
#include "engine/progress.h"
#include "engine/roster.h"
#include "engine/scrape.h"
#include "engine/tracing.h"

#include <dirent.h>
#include <errno.h>

#define GAUGE_INTERVAL (100 * USEC_PER_MS)

/* --- Notes from jobs and other threads ------------------------------------------------
 */

static void on_submit(struct engine *g, const struct command *c)
{
    struct live *l;

    if (map_get(g->lives, id_str(&c->batch))) {
        atomic_fetch_sub(&g->pending, 1);
        return;
    }
    l = live_new(g, &c->batch);
    l->recovery = c->recovery;
    map_put(g->lives, id_str(&l->id), l);
    atomic_store(&g->stats.live, (unsigned)map_len(g->lives));
    phase_start(l);
}

static void on_drain(struct engine *g, const struct command *c, usec_t now)
{
    g->draining = true;
    g->drain_until = now + c->grace;
    atomic_store(&g->stopping, true);
    sched_pause(g->sched, true);
}

static void command_run(struct engine *g, struct command *c, usec_t now)
{
    struct live *l;

    if (c->note.kind == NOTE_SUBMIT) {
        on_submit(g, c);
    } else if (c->note.kind == NOTE_CANCEL) {
        l = map_get(g->lives, id_str(&c->batch));
        if (l)
            phase_cancel(l, now);
    } else if (c->note.kind == NOTE_EDIT) {
        l = map_get(g->lives, id_str(&c->batch));
        if (l)
            phase_edit(l, &c->wishes, now);
    } else {
        on_drain(g, c, now);
    }
    mem_free(c);
}

static void receive(void *ctx, struct mail *m)
{
    struct engine *g = ctx;
    struct note *n = CONTAINER_OF(m, struct note, mail);
    usec_t now = loop_now(g->loop);

    switch (n->kind) {
    case NOTE_SUBMIT:
    case NOTE_CANCEL:
    case NOTE_EDIT:
    case NOTE_DRAIN:
        command_run(g, CONTAINER_OF(n, struct command, note), now);
        break;
    case NOTE_ASK:
        progress_answer(g, CONTAINER_OF(n, struct inquiry, note), now);
        break;
    case NOTE_ADMITTED:
        phase_admitted(CONTAINER_OF(n, struct live, task.note), now);
        break;
    case NOTE_EXPIRED:
        phase_expired(CONTAINER_OF(n, struct live, task.note), now);
        break;
    case NOTE_ENDED:
        phase_ended(CONTAINER_OF(n, struct live, task.note), now);
        break;
    case NOTE_COMMITTED:
        journal_committed(CONTAINER_OF(n, struct live, commit.note), now);
        break;
    }
}

/* Notes that the loop did not get to: commands own memory, who asked waits. */
static void drop(void *ctx, struct mail *m)
{
    struct note *n = CONTAINER_OF(m, struct note, mail);

    (void)ctx;
    if (n->kind == NOTE_SUBMIT || n->kind == NOTE_CANCEL || n->kind == NOTE_EDIT ||
        n->kind == NOTE_DRAIN)
        mem_free(CONTAINER_OF(n, struct command, note));
    else if (n->kind == NOTE_ASK)
        progress_drop(CONTAINER_OF(n, struct inquiry, note));
}

void engine_post(struct engine *g, struct command c)
{
    struct command *mine = mem_new(struct command);

    *mine = c;
    mail_post(g->mail, &mine->note.mail);
}

/* --- The turn of the loop -------------------------------------------------------------
 */

static unsigned stopped_batches(const struct engine *g)
{
    const struct live *l;
    size_t cursor = 0;
    unsigned n = 0;

    while ((l = map_next(g->lives, &cursor)))
        n += l->stopped && l->phase == LIVE_RUN;
    return n;
}

static void publish_gauges(struct engine *g, usec_t now)
{
    if (now < g->gauges_at)
        return;
    g->gauges_at = now + GAUGE_INTERVAL;
    for (uint16_t i = 0; i < g->o.n_upstreams; i++) {
        struct up_gauge *to = &g->gauges[i];
        struct sched_up_view v;

        sched_upstream_view(g->sched, i, &v);
        atomic_store(&to->state, v.state);
        atomic_store(&to->inflight, v.inflight);
        atomic_store(&to->window, v.window);
        atomic_store(&to->done, v.done);
        atomic_store(&to->failed, v.failed);
        atomic_store(&to->hedges, v.hedges);
        atomic_store(&to->by, v.by);
        atomic_store(&to->slow, v.slow);
        atomic_store(&to->rate, v.rate > 0 ? (long long)v.rate : -1);
        atomic_store(&to->hit_permill, (long long)(v.hit_rate * 1000));
    }
    atomic_store(&g->stats.stopped, stopped_batches(g));
}

static bool all_on_disk(const struct engine *g)
{
    const struct live *l;
    size_t cursor = 0;

    while ((l = map_next(g->lives, &cursor)))
        if (!l->busy && !journal_clean(l))
            return false;
    return true;
}

static void abort_all(struct engine *g, usec_t now)
{
    struct live *l;
    size_t cursor = 0;

    while ((l = map_next(g->lives, &cursor)))
        dispatch_abort(l, now);
}

static void drain_step(struct engine *g, usec_t now)
{
    if (now >= g->drain_until)
        abort_all(g, now);
    if (atomic_load(&g->stats.inflight) > 0 ||
        (!all_on_disk(g) && now < g->drain_until + USEC_PER_SEC))
        return;
    pthread_mutex_lock(&g->drain_lock);
    g->drained = true;
    pthread_cond_broadcast(&g->drain_cond);
    pthread_mutex_unlock(&g->drain_lock);
}

/* The turn that a timer starts ends in tick() like any other. */
static void wake_up(void *ctx, usec_t now)
{
    (void)ctx, (void)now;
}

static void tick(void *ctx, usec_t now)
{
    struct engine *g = ctx;
    struct list *node;
    usec_t wake, sync;

    while ((node = list_pop(&g->changed)))
        phase_check(list_entry(node, struct live, changed));
    if (!g->draining)
        dispatch(g, now);
    journal_flush(g, now);
    publish_gauges(g, now);
    if (g->draining)
        drain_step(g, now);
    wake = g->draining ? now + 50 * USEC_PER_MS : sched_next_wake(g->sched, now);
    sync = journal_next(g, now);
    if (sync < wake)
        wake = sync;
    if (wake == USEC_INFINITY)
        loop_timer_clear(g->loop, &g->wake);
    else
        loop_timer_set(g->loop, &g->wake, wake, wake_up, g);
}

static void probed(void *ctx, uint16_t up, bool ok)
{
    struct engine *g = ctx;

    log_info("upstream.probe", "upstream=\"%s\" healthy=%d", upstream_name(g->ups[up]),
             ok);
    if (ok)
        scrape_back(g, up);
    sched_probe_done(g->sched, up, ok, loop_now(g->loop));
}

static void *thread_main(void *ctx)
{
    struct engine *g = ctx;

    loop_run(g->loop);
    return NULL;
}

/* --- Start and end --------------------------------------------------------------------
 */

static usec_t usec_or(usec_t v, usec_t fallback)
{
    return v ? v : fallback;
}

static void fill_defaults(struct engine_opts *o)
{
    o->max_inflight = o->max_inflight ? o->max_inflight : 64;
    o->connect_timeout = usec_or(o->connect_timeout, 5 * USEC_PER_SEC);
    o->idle_timeout = usec_or(o->idle_timeout, 600 * USEC_PER_SEC);
    o->drain_timeout = usec_or(o->drain_timeout, 600 * USEC_PER_SEC);
    o->sync_interval = usec_or(o->sync_interval, 20 * USEC_PER_MS);
    o->max_answer = o->max_answer ? o->max_answer : LIMIT_ANSWER_BYTES;
    o->workers = o->workers ? o->workers : 2;
}

static unsigned most_inflight(const struct engine_opts *o,
                              const struct engine_upstream *u)
{
    if (u->window)
        return u->window;
    return u->max_inflight ? u->max_inflight : o->max_inflight;
}

static struct sched_upstream_opts upstream_opts(const struct engine *g,
                                                const struct engine_upstream *u)
{
    return (struct sched_upstream_opts){.window = most_inflight(&g->o, u),
                                        .fixed = u->window != 0,
                                        .aborts = u->hedge == HEDGE_ON,
                                        .requests_per_min = u->requests_per_minute,
                                        .tokens_per_min = u->tokens_per_minute,
                                        .reserve = u->reserve / 100.0};
}

static enum rc add_upstreams(struct engine *g, const struct engine_upstream *ups,
                             struct err *e)
{
    struct sched_opts so = {.max_attempts = g->o.max_attempts,
                            .backoff_base = g->o.retry_base,
                            .backoff_cap = g->o.retry_cap};

    struct upstream_ears ears = {.probed = probed, .listed = roster_listed, .ctx = g};

    random_bytes(&so.seed, sizeof so.seed);
    g->sched = sched_new(&so);
    if (g->o.sched_trace) {
        enum rc rc = tracing_open(g->o.sched_trace, g->sched, &g->tracing, e);

        if (rc != RC_OK)
            return rc;
    }
    for (size_t i = 0; i < g->o.n_upstreams; i++) {
        struct sched_upstream_opts uo = upstream_opts(g, &ups[i]);
        uint16_t number = sched_upstream_add(g->sched, &uo);
        enum rc rc = upstream_new(g->client, &ups[i], number, &ears, &g->ups[number], e);

        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

static unsigned total_window(const struct engine_opts *o)
{
    unsigned sum = 8; /* probes */

    for (size_t i = 0; i < o->n_upstreams; i++)
        sum += most_inflight(o, &o->upstreams[i]);
    return sum;
}

static enum rc build(struct engine *g, struct err *e)
{
    struct http_client_opts co = {.max_connections = total_window(&g->o),
                                  .user_agent = "batchd"};
    enum rc rc = loop_new(&g->loop, e);

    if (rc == RC_OK)
        rc = mailbox_new(g->loop, receive, drop, g, &g->mail, e);
    if (rc == RC_OK)
        rc = pool_new("work", g->o.workers, &g->workers, e);
    if (rc == RC_OK)
        rc = pool_new("sync", 1, &g->syncers, e);
    if (rc == RC_OK)
        rc = http_client_new(g->loop, &co, &g->client, e);
    if (rc == RC_OK)
        rc = add_upstreams(g, g->o.upstreams, e);
    if (rc == RC_OK) {
        roster_open(g);
        scrape_open(g);
    }
    return rc;
}

/* Files of the spool whose batch is not live are left over from a crash behind the last
 * transaction. */
static enum rc sweep_spool(struct engine *g, const struct map *live, struct err *e)
{
    char path[FS_PATH_CAP];
    struct dirent *d;
    DIR *dir = opendir(g->o.spool);
    enum rc rc = RC_OK;

    if (!dir)
        return err_sys(e, rc_of_errno(errno), errno, "cannot open '%s'", g->o.spool);
    while (errno = 0, rc == RC_OK && (d = readdir(dir))) {
        struct str rest = str_of(d->d_name), id = str_cut(&rest, '.');

        if (id.n == 0 || map_get(live, id))
            continue;
        rc = fs_join(path, g->o.spool, d->d_name, e);
        if (rc == RC_OK)
            rc = fs_unlink(path, e);
    }
    if (rc == RC_OK && errno)
        rc = err_sys(e, RC_IO, errno, "cannot read directory '%s'", g->o.spool);
    closedir(dir);
    return rc;
}

static enum rc recover_batches(struct engine *g, struct err *e)
{
    const struct store *store = g->o.store;
    struct map *live = map_new();
    struct batch *found = NULL;
    size_t n = 0;
    enum rc rc = store->ops->batch_live(store->self, &found, &n, e);

    for (size_t i = 0; i < n; i++)
        map_put(live, id_str(&found[i].id), &found[i]);
    if (rc == RC_OK && GUARD(SPOOL_SWEPT))
        rc = sweep_spool(g, live, e);
    for (size_t i = 0; i < n; i++) {
        if (rc == RC_OK) {
            atomic_fetch_add(&g->pending, 1);
            atomic_fetch_add(&g->recovering, 1);
            if (found[i].counts.total)
                board_reserve(g->board, &found[i].project, &found[i].id,
                              found[i].counts.total);
            engine_post(g, (struct command){.note.kind = NOTE_SUBMIT,
                                            .batch = found[i].id,
                                            .recovery = true});
        }
        batch_done(&found[i]);
    }
    mem_free(found);
    map_free(live);
    return rc;
}

enum rc engine_new(const struct engine_opts *o, struct engine **ret, struct err *e)
{
    struct engine *g = mem_new(struct engine);
    enum rc rc;

    g->o = *o;
    fill_defaults(&g->o);
    CHECK(o->n_upstreams <= LIMIT_UPSTREAMS);
    g->lives = map_new();
    g->board = board_new();
    g->projects = projects_new(o);
    list_init(&g->free_slots);
    list_init(&g->doubted);
    list_init(&g->dirty);
    list_init(&g->changed);
    /* As a JSON string an answer can grow sixfold; the log takes no more than LIMIT_RESULT. */
    buf_init(&g->line, u64_min(6ul * g->o.max_answer + (1u << 20), LIMIT_RESULT));
    g->groups = map_new();
    pthread_mutex_init(&g->edit_lock, NULL);
    pthread_mutex_init(&g->drain_lock, NULL);
    pthread_cond_init(&g->drain_cond, NULL);
    rc = build(g, e);
    if (rc == RC_OK)
        rc = recover_batches(g, e);
    if (rc == RC_OK) {
        loop_on_tick(g->loop, tick, g);
        if (pthread_create(&g->thread, NULL, thread_main, g) != 0)
            rc = err_set(e, RC_NOMEM, "cannot start the engine's thread");
    }
    if (rc != RC_OK) {
        g->drained = true; /* nothing ran */
        g->thread = 0;
        engine_free(g);
        return rc;
    }
    g->o.upstreams = NULL; /* were the caller's */
    g->o.projects = NULL;
    g->o.aliases = NULL;
    *ret = g;
    return RC_OK;
}

void engine_drain(struct engine *g, usec_t grace)
{
    engine_post(g, (struct command){.note.kind = NOTE_DRAIN, .grace = grace});
    pthread_mutex_lock(&g->drain_lock);
    while (!g->drained)
        pthread_cond_wait(&g->drain_cond, &g->drain_lock);
    pthread_mutex_unlock(&g->drain_lock);
}

static void free_lives(struct engine *g)
{
    struct live *l;
    size_t cursor = 0;

    while ((l = map_next(g->lives, &cursor))) {
        l->busy = l->committing = false; /* the pools are gone */
        live_free(l);
    }
    map_free(g->lives);
}

struct engine *engine_free(struct engine *g)
{
    if (!g)
        return NULL;
    atomic_store(&g->stopping, true);
    if (g->thread) {
        engine_drain(g, 0); /* at once when it is drained already */
        loop_stop(g->loop);
        pthread_join(g->thread, NULL);
    }
    pool_free(g->workers);
    pool_free(g->syncers);
    http_client_free(g->client);
    mailbox_free(g->mail);
    free_lives(g);
    for (size_t i = 0; i < g->o.n_upstreams; i++)
        upstream_free(g->ups[i]);
    dispatch_free(g);
    roster_close(g);
    scrape_close(g);
    g->tracing = tracing_close(g->tracing);
    sched_free(g->sched);
    board_free(g->board);
    projects_free(g->projects);
    loop_free(g->loop);
    buf_done(&g->line);
    mem_free(g->by_handle);
    map_free(g->groups);
    pthread_mutex_destroy(&g->edit_lock);
    pthread_mutex_destroy(&g->drain_lock);
    pthread_cond_destroy(&g->drain_cond);
    mem_free(g);
    return NULL;
}

/* --- What others call ------------------------------------------------------------------
 */

void engine_submit(struct engine *g, const struct id *batch)
{
    atomic_fetch_add(&g->pending, 1);
    engine_post(g, (struct command){.note.kind = NOTE_SUBMIT, .batch = *batch});
}

void engine_cancel(struct engine *g, const struct id *batch)
{
    board_changed(g->board, batch);
    engine_post(g, (struct command){.note.kind = NOTE_CANCEL, .batch = *batch});
}

enum rc engine_edit(struct engine *g, const struct id *project, const char *id,
                    const struct batch_edit *edit, struct batch *ret, struct err *e)
{
    const struct store *store = g->o.store;
    enum rc rc;

    pthread_mutex_lock(&g->edit_lock);
    rc = store->ops->batch_edit(store->self, project, id, edit, clock_wall_sec(), ret, e);
    if (rc == RC_OK) {
        board_changed(g->board, &ret->id);
        engine_post(g, (struct command){.note.kind = NOTE_EDIT,
                                        .batch = ret->id,
                                        .wishes = {ret->priority, ret->idle, ret->paused,
                                                   ret->hold, ret->expires_at,
                                                   edit->has_paused && !edit->paused}});
    }
    pthread_mutex_unlock(&g->edit_lock);
    return rc;
}

bool engine_idle(struct engine *g)
{
    return atomic_load(&g->pending) == 0;
}

bool engine_recovered(struct engine *g)
{
    return atomic_load(&g->recovering) == 0;
}

bool engine_live(struct engine *g, const char *id, struct engine_live *ret)
{
    struct board_entry entry;

    if (!board_get(g->board, id, &entry))
        return false;
    *ret = (struct engine_live){.counts = entry.counts,
                                .usage = entry.usage,
                                .has_usage = entry.has_usage,
                                .inflight = entry.inflight,
                                .waiting = entry.waiting};
    return true;
}

uint64_t engine_changes(struct engine *g, const char *id)
{
    return board_changes(g->board, id);
}

bool engine_log(struct engine *g, const char *id, struct engine_log *ret)
{
    struct board_entry entry;

    if (!board_get(g->board, id, &entry))
        return false;
    *ret = (struct engine_log){g->o.spool, entry.counts.total, entry.log};
    return true;
}

void engine_models(struct engine *g, catalog_fn *fn, void *ctx)
{
    catalog_each(g->catalog, fn, ctx);
}

/* Has the batch, as the store tells it, results that only the board knows of? */
static bool needs_board(const struct batch *b)
{
    return !batch_terminal(b->status) && b->in_progress_at != 0;
}

static void overlay(struct batch *b, const struct board_entry *entry)
{
    b->counts = entry->counts;
    b->usage = entry->usage;
    b->has_usage = entry->has_usage;
}

/*
 * Board first, row second: a batch is on the board as long as its row needs it.  When it
 * was not on the board and the row says it should be, it came there in between, or it
 * went and the row is about to say so: looking again tells.
 */
enum rc engine_batch_view(struct engine *g, const struct id *project, const char *id,
                          struct batch *ret, struct err *e)
{
    const struct store *store = g->o.store;

    for (int i = 0; i < 3; i++) {
        struct board_entry entry;
        struct batch b = {0};
        bool on_board = board_get(g->board, id, &entry);
        enum rc rc = store->ops->batch_get(store->self, project, id, &b, e);

        if (rc != RC_OK)
            return rc;
        if (on_board && needs_board(&b))
            overlay(&b, &entry);
        if (on_board || !needs_board(&b)) {
            *ret = b;
            return RC_OK;
        }
        batch_done(&b);
    }
    return err_set(e, RC_AGAIN, "the batch '%s' is being recovered after a restart", id);
}

enum rc engine_batch_list(struct engine *g, const struct id *project, const char *after,
                          unsigned limit, struct batch **ret, size_t *ret_n,
                          bool *ret_more, struct err *e)
{
    const struct store *store = g->o.store;
    enum rc rc = store->ops->batch_list(store->self, project, after, limit, ret, ret_n,
                                        ret_more, e);

    if (rc != RC_OK)
        return rc;
    for (size_t i = 0; i < *ret_n && rc == RC_OK; i++) {
        struct batch *b = &(*ret)[i], now = {0};

        if (!needs_board(b))
            continue;
        rc = engine_batch_view(g, project, b->id.z, &now, e);
        if (rc == RC_OK) {
            batch_done(b);
            *b = now;
        }
    }
    if (rc == RC_OK)
        return RC_OK;
    for (size_t i = 0; i < *ret_n; i++)
        batch_done(&(*ret)[i]);
    mem_free(*ret);
    *ret = NULL;
    *ret_n = 0;
    return rc;
}
