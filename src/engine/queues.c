/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/queues.h"
#include "core/line.h"
#include "engine/roster.h"
#include "json/json.h"

/* Those named, and one of the lines that name none. */
#define QUEUES_MAX (LIMIT_BATCH_MODELS + 1u)

/* --- Which there are -----------------------------------------------------------------
 */

static char *json_text(const char *z)
{
    struct buf b;
    char *text;

    buf_init(&b, 6 * LIMIT_MODEL + 3); /* each byte as an escape, and the quotes */
    (void)json_put_str(&b, str_of(z));
    text = buf_take(&b, NULL);
    CHECK(text);
    return text;
}

static uint8_t queue_new(struct live *l, struct str model)
{
    struct queue *q = &l->queues[l->n_queues];
    const char *stands_for = catalog_alias(l->engine->catalog, model);

    q->live = l;
    q->model = mem_dup(model.p, model.n);
    if (stands_for)
        q->stands_for = json_text(stands_for);
    return (uint8_t)l->n_queues++;
}

/* The queue of a line that names this model (raw, or .p NULL), made when it is new.
 * false: there are too many, or it is no name. */
static bool queue_for(struct live *l, struct str raw, uint8_t *which)
{
    struct buf name;
    bool good;

    /* Mostly the one of the line before. */
    for (unsigned i = 0; i < l->n_queues; i++) {
        unsigned k = (*which + i) % l->n_queues;
        const char *model = l->queues[k].model;

        if (raw.p ? json_str_is(raw, str_of(model)) : model[0] == '\0') {
            *which = (uint8_t)k;
            return true;
        }
    }
    if (l->n_queues == QUEUES_MAX)
        return false;
    buf_init(&name, LIMIT_MODEL);
    good = !raw.p || (json_unescape(raw, &name) == RC_OK && name.n > 0);
    if (good)
        *which = queue_new(l, buf_peek(&name));
    buf_done(&name);
    return good;
}

static enum rc sort_lines(struct live *l)
{
    char *text = NULL;
    size_t cap = 0;
    uint8_t which = 0;
    enum rc rc = RC_OK;

    l->queue_of = mem_new_n(uint8_t, (size_t)l->items + 1);
    for (uint32_t i = 0; i < l->items && rc == RC_OK; i++) {
        struct index_entry entry = index_get(l->index, i);
        struct line_error why;
        struct line line;

        if (atomic_load_explicit(&l->engine->stopping, memory_order_relaxed))
            rc = RC_CANCELLED;
        else
            rc = live_read_line(l, &entry, &text, &cap, &l->task.err);
        if (rc != RC_OK)
            break;
        rc = line_read((struct str){text, entry.length}, l->rec.endpoint, &line, &why);
        if (rc == RC_INVALID || (rc == RC_OK && !queue_for(l, line.model, &which)))
            rc = err_set(&l->task.err, RC_CORRUPT,
                         "line %u of the input file '%s' was good once and is not now",
                         entry.number, l->rec.input_file.z);
        l->queue_of[i] = which;
    }
    mem_free(text);
    return rc;
}

enum rc queues_find(struct live *l, const char *model)
{
    enum rc rc;

    queues_free(l); /* of a try before */
    if (model) {
        l->queues = mem_new_n(struct queue, 1);
        (void)queue_new(l, str_of(model));
        return RC_OK;
    }
    l->queues = mem_new_n(struct queue, QUEUES_MAX);
    rc = sort_lines(l);
    if (l->n_queues == 0)
        (void)queue_new(l, STR("")); /* no line: nothing is asked of it */
    if (l->n_queues == 1) {
        mem_free(l->queue_of);
        l->queue_of = NULL;
    }
    return rc;
}

void queues_free(struct live *l)
{
    for (unsigned i = 0; i < l->n_queues; i++) {
        mem_free(l->queues[i].model);
        mem_free(l->queues[i].stands_for);
    }
    mem_free(l->queues);
    mem_free(l->queue_of);
    l->queues = NULL;
    l->queue_of = NULL;
    l->n_queues = 0;
}

/* --- In the scheduler ----------------------------------------------------------------
 */

static struct sched_set upstreams_of(const struct queue *q)
{
    struct engine *g = q->live->engine;
    struct sched_set set = {{0}};

    for (uint16_t i = 0; i < g->o.n_upstreams; i++)
        if (catalog_serves(g->catalog, i, str_of(q->model)))
            sched_set_add(&set, i);
    return set;
}

/* What the scheduler is told of the lines, for all queues, then for one. */
struct lines {
    struct sched_item *items;
    uint64_t *keys; /* NULL: the order is not known */
    uint32_t n;
};

static void lines_init(struct lines *x, uint32_t n, bool ordered)
{
    x->n = 0;
    x->items = mem_new_n(struct sched_item, (size_t)n + 1);
    x->keys = ordered ? mem_new_n(uint64_t, (size_t)n + 1) : NULL;
}

static void lines_done(struct lines *x)
{
    mem_free(x->items);
    mem_free(x->keys);
}

static void lines_put(struct lines *x, const struct sched_item *item, uint64_t key)
{
    if (x->keys)
        x->keys[x->n] = key;
    x->items[x->n++] = *item;
}

static void lines_read(struct lines *x, const struct live *l)
{
    lines_init(x, l->items, index_ordered(l->index));
    for (uint32_t k = 0; k < l->items; k++) {
        struct index_place at = {.item = k};

        if (x->keys)
            at = index_place(l->index, k);
        lines_put(x,
                  &(struct sched_item){.item = at.item,
                                       .prompt = at.prompt,
                                       .shared = at.shared,
                                       .max_out = at.max_out},
                  at.key);
    }
}

/* Those of queue k.  What a line shares with the one before in this queue is at least what
 * it shares with each of those between them. */
static void lines_of(struct lines *x, const struct lines *all, const struct live *l,
                     unsigned k)
{
    uint32_t shared = UINT32_MAX;

    x->n = 0;
    for (uint32_t i = 0; i < all->n; i++) {
        struct sched_item item = all->items[i];

        shared = item.shared < shared ? item.shared : shared;
        if (l->queue_of[item.item] != k)
            continue;
        item.shared = x->n ? shared : 0;
        lines_put(x, &item, all->keys ? all->keys[i] : 0);
        shared = UINT32_MAX;
    }
}

static void queue_add(struct queue *q, const struct lines *lines,
                      const struct sched_batch_opts *all, usec_t now)
{
    struct engine *g = q->live->engine;
    struct sched_set set = upstreams_of(q);
    struct sched_batch_opts o = *all;

    o.n_items = lines->n;
    /* Of no order and one queue the items say nothing. */
    o.items = lines->keys || q->live->queue_of ? lines->items : NULL;
    o.keys = lines->keys;
    o.upstreams = &set;
    q->handle = sched_batch_add(g->sched, &o, now);
    if (q->handle >= g->cap_handles) {
        uint32_t cap = q->handle + 64;

        g->by_handle = mem_resize(g->by_handle, cap * sizeof(struct queue *));
        MEM_CHECK(g->by_handle);
        g->cap_handles = cap;
    }
    g->by_handle[q->handle] = q;
}

static void add_several(struct live *l, const struct lines *all,
                        const struct sched_batch_opts *o, usec_t now)
{
    struct lines one;

    lines_init(&one, all->n, all->keys != NULL);
    for (unsigned k = 0; k < l->n_queues; k++) {
        lines_of(&one, all, l, k);
        queue_add(&l->queues[k], &one, o, now);
    }
    lines_done(&one);
}

void queues_add(struct live *l, const struct sched_batch_opts *o, usec_t now)
{
    struct lines all;

    CHECK(!l->scheduled && l->n_queues > 0);
    lines_read(&all, l);
    if (l->queue_of)
        add_several(l, &all, o, now);
    else
        queue_add(&l->queues[0], &all, o, now);
    lines_done(&all);
    l->scheduled = true;
}

void queues_edit(struct live *l, int priority, bool paused, uint32_t hold,
                 usec_t deadline)
{
    for (unsigned i = 0; l->scheduled && i < l->n_queues; i++)
        sched_batch_edit(l->engine->sched, l->queues[i].handle, priority, paused, hold,
                         deadline);
}

void queues_resume(struct live *l)
{
    for (unsigned i = 0; l->scheduled && i < l->n_queues; i++)
        sched_batch_resume(l->engine->sched, l->queues[i].handle);
}

void queues_idle(struct live *l, bool idle)
{
    for (unsigned i = 0; l->scheduled && i < l->n_queues; i++)
        sched_batch_idle(l->engine->sched, l->queues[i].handle, idle);
}

bool queues_fit(const struct live *l, usec_t now, int64_t *ret_at)
{
    usec_t latest = 0, at;
    bool fit = true;

    for (unsigned i = 0; l->scheduled && i < l->n_queues; i++) {
        if (sched_batch_fits(l->engine->sched, l->queues[i].handle, now, &at))
            continue;
        fit = false;
        latest = at > latest ? at : latest;
    }
    *ret_at = 0;
    if (!fit && latest < USEC_INFINITY)
        *ret_at = (clock_due() + (latest - now) + USEC_PER_SEC - 1) / USEC_PER_SEC;
    return fit;
}

void queues_eta(const struct live *l, usec_t now, usec_t *ret_likely, usec_t *ret_late)
{
    *ret_likely = *ret_late = l->scheduled ? now : USEC_INFINITY;
    for (unsigned i = 0; l->scheduled && i < l->n_queues; i++) {
        struct sched_eta eta;

        sched_batch_eta(l->engine->sched, l->queues[i].handle, now, &eta);
        if (eta.work < 1)
            continue;
        *ret_likely = eta.likely > *ret_likely ? eta.likely : *ret_likely;
        *ret_late = eta.late > *ret_late ? eta.late : *ret_late;
    }
}

void queues_close(struct live *l)
{
    for (unsigned i = 0; l->scheduled && i < l->n_queues; i++)
        sched_batch_close(l->engine->sched, l->queues[i].handle);
}

void queues_remove(struct live *l)
{
    for (unsigned i = 0; l->scheduled && i < l->n_queues; i++)
        sched_batch_remove(l->engine->sched, l->queues[i].handle);
    l->scheduled = false;
}

uint32_t queues_waiting(const struct live *l)
{
    uint32_t waiting = 0;

    for (unsigned i = 0; l->scheduled && i < l->n_queues; i++)
        waiting += sched_batch_waiting(l->engine->sched, l->queues[i].handle);
    return waiting;
}

void queues_follow(struct engine *g)
{
    struct live *l;
    size_t cursor = 0;

    while ((l = map_next(g->lives, &cursor))) {
        for (unsigned i = 0; l->scheduled && i < l->n_queues; i++) {
            struct sched_set set = upstreams_of(&l->queues[i]);

            sched_batch_upstreams(g->sched, l->queues[i].handle, &set);
        }
    }
}
