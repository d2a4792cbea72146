/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/follow.h"
#include "core/line.h"
#include "engine/jobs.h"
#include "engine/journal.h"
#include "json/json.h"

/* Results made in one turn of the loop. */
#define TURN_LINES 64
#define TURN_BYTES (256u << 10)

/* While results wait for the disk more are made after: */
#define WAIT (10 * USEC_PER_MS)

struct follow {
    struct index_follower *all; /* by leader, then by item */
    uint32_t n;
    uint32_t waiting; /* those that are neither gone nor free ... */
    uint32_t freed;   /* ... and those that are free */
    uint8_t *gone;    /* bit k: it has its result, or goes like any other line */
    uint8_t *free;    /* bit k: its leader has no answer for it: it is to go */
    struct list echoes;
    struct loop_timer timer;
    char *line; /* an input line */
    size_t line_cap;
};

/* A leader's result on its way to its followers. */
struct echo {
    struct list link;
    uint32_t k, end; /* in follow.all */
    enum result_kind kind;
    struct str result;
    char text[];
};

static bool bit(const uint8_t *bits, uint32_t i)
{
    return bits[i / 8] >> (i % 8) & 1;
}

static void set_bit(uint8_t *bits, uint32_t i)
{
    bits[i / 8] |= (uint8_t)(1u << (i % 8));
}

/* The first follower of `leader`, or of the next one that has any. */
static uint32_t first_of(const struct follow *f, uint32_t leader)
{
    uint32_t low = 0, high = f->n;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (f->all[mid].leader < leader)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static uint32_t end_of(const struct follow *f, uint32_t k)
{
    uint32_t leader = f->all[k].leader;

    while (k < f->n && f->all[k].leader == leader)
        k++;
    return k;
}

/* --- What is made of a result --------------------------------------------------------- */

/* The status that the upstream answered with; 0: it gave no answer. */
static long status_of(struct str result)
{
    struct json_val top = {.type = JSON_OBJECT, .raw = str_trim(result)}, response = {0},
                    v;
    struct json_iter it = json_iter(&top);
    struct str key;
    uint64_t status = 0;

    while (json_next(&it, &key, &v))
        if (json_str_is(key, STR("response")))
            response = v;
    for (it = json_iter(&response); json_next(&it, &key, &v);)
        if (json_str_is(key, STR("status_code")) && json_u64(&v, &status) != RC_OK)
            status = 0;
    return status < 1000 ? (long)status : 0;
}

/* Would each of them have got the same? */
static bool is_for_all(enum result_kind kind, struct str result)
{
    enum outcome_class cls;
    long status;

    if (kind == RESULT_OUTPUT)
        return true;
    status = status_of(result);
    if (status < 400 || status > 499)
        return false;
    cls = outcome_of_answer(status, STR("{}")).cls;
    return cls == OUTCOME_REFUSED || cls == OUTCOME_DENIED;
}

/* The result of a follower.  RC_LIMIT: with its custom_id it would be too long. */
static enum rc compose(struct live *l, uint32_t item, struct str result, struct buf *to,
                       struct err *e)
{
    struct follow *f = l->follow;
    struct index_entry entry = index_get(l->index, item);
    struct line line;
    char hex[33];
    enum rc rc = live_read_line(l, &entry, &f->line, &f->line_cap, e);

    if (rc != RC_OK)
        return rc;
    line_reread((struct str){f->line, entry.length}, &line);
    id_request(&l->id, item, hex);
    buf_reset(to);
    rc = outcome_again(to, hex, line.custom_id, result);
    return rc == RC_OK
               ? rc
               : err_set(e, rc, "a result of %zu bytes: %s", result.n, rc_text(rc));
}

/* --- On the loop ---------------------------------------------------------------------- */

void follow_start(struct live *l)
{
    struct follow *f = l->follow;
    size_t bytes;

    if (!f)
        return;
    CHECK(list_empty(&f->echoes));
    bytes = ((size_t)f->n + 7) / 8;
    memset(f->gone, 0, bytes);
    memset(f->free, 0, bytes);
    f->waiting = f->freed = 0;
    for (uint32_t k = 0; k < f->n; k++) {
        const struct index_follower *one = &f->all[k];

        /* One whose leader has a result, and that has none, was left alone with it: by a
         * leader without an answer, or by a damaged log. */
        if (bit(l->done, one->item) || bit(l->done, one->leader)) {
            set_bit(f->gone, k);
            continue;
        }
        set_bit(l->done, one->item);
        f->waiting++;
    }
}

static void append(struct live *l, uint32_t item, enum result_kind kind, usec_t now)
{
    struct engine *g = l->engine;
    struct reslog_rec rec = {.item = item, .kind = kind, .payload = buf_peek(&g->line)};

    atomic_fetch_add_explicit(&g->stats.deduplicated, 1, memory_order_relaxed);
    journal_append(l, &rec, now); /* usage is left out: nothing was computed */
}

/* false: the batch, or all of us, must stand still. */
static bool echo_one(struct live *l, struct echo *x, usec_t now)
{
    struct engine *g = l->engine;
    struct follow *f = l->follow;
    uint32_t k = x->k++, item = f->all[k].item;
    struct err e;
    enum rc rc;

    if (bit(f->gone, k))
        return true;
    rc = compose(l, item, x->result, &g->line, &e);
    if (rc == RC_LIMIT) {
        set_bit(f->free, k);
        f->freed++;
        f->waiting--;
        return true;
    }
    if (rc != RC_OK) {
        if (rc == RC_CORRUPT)
            live_sicken(l, &e);
        else
            engine_die(g, "the result of a line cannot be made", &e);
        return false;
    }
    append(l, item, x->kind, now);
    set_bit(f->gone, k);
    f->waiting--;
    return true;
}

static void echo_free(struct echo *x)
{
    list_del(&x->link);
    mem_free(x);
}

/* What is left at a drain is made up for by the next start. */
static void echo_some(void *ctx, usec_t now)
{
    struct live *l = ctx;
    struct engine *g = l->engine;
    struct follow *f = l->follow;
    size_t lines = 0, bytes = 0;

    if (g->draining || l->phase == LIVE_STUCK)
        return;
    buf_shrink(&g->line, 1u << 20);
    while (!list_empty(&f->echoes) && lines < TURN_LINES && bytes < TURN_BYTES &&
           !atomic_load_explicit(&g->stats.paused, memory_order_relaxed)) {
        struct echo *x = list_entry(f->echoes.next, struct echo, link);

        lines++;
        bytes += x->result.n;
        if (!echo_one(l, x, now))
            return;
        if (x->k == x->end)
            echo_free(x);
    }
    if (list_empty(&f->echoes))
        live_touch(l);
    else
        loop_timer_set(g->loop, &f->timer, lines ? now : now + WAIT, echo_some, l);
}

static void echo_start(struct live *l, uint32_t k, enum result_kind kind,
                       struct str result)
{
    struct follow *f = l->follow;
    struct echo *x = mem_try(sizeof *x + result.n);

    MEM_CHECK(x); /* as the log, which has just taken the same bytes */
    *x = (struct echo){.k = k, .end = end_of(f, k), .kind = kind};
    memcpy(x->text, result.p, result.n);
    x->result = (struct str){x->text, result.n};
    if (list_empty(&f->echoes))
        loop_timer_set(l->engine->loop, &f->timer, loop_now(l->engine->loop), echo_some,
                       l);
    list_add_tail(&f->echoes, &x->link);
}

void follow_answered(struct live *l, uint32_t item, enum result_kind kind,
                     struct str result)
{
    struct follow *f = l->follow;
    uint32_t k, left = 0;

    if (!f || !f->waiting)
        return;
    k = first_of(f, item);
    if (k == f->n || f->all[k].leader != item)
        return;
    for (uint32_t i = k, end = end_of(f, k); i < end; i++)
        left += !bit(f->gone, i);
    if (!left)
        return;
    if (is_for_all(kind, result)) {
        echo_start(l, k, kind, result);
        return;
    }
    for (uint32_t i = k, end = end_of(f, k); i < end; i++)
        if (!bit(f->gone, i))
            set_bit(f->free, i);
    f->waiting -= left;
    f->freed += left;
}

bool follow_busy(const struct live *l)
{
    return l->follow && !list_empty(&l->follow->echoes);
}

uint32_t follow_waiting(const struct live *l)
{
    return l->follow ? l->follow->waiting + l->follow->freed : 0;
}

bool follow_release(struct live *l)
{
    struct follow *f = l->follow;

    if (!f || !f->freed)
        return false;
    CHECK(!f->waiting && list_empty(&f->echoes) && !l->done);
    l->done = mem_new_n(uint8_t, ((size_t)l->items + 7) / 8);
    memset(l->done, 0xff, ((size_t)l->items + 7) / 8);
    for (uint32_t k = 0; k < f->n; k++) {
        uint32_t i = f->all[k].item;

        if (bit(f->free, k))
            l->done[i / 8] &= (uint8_t) ~(1u << (i % 8));
    }
    log_info("batch.followers",
             "batch=%s lines=%u why=\"the lines that ask the same have "
             "no answer\"",
             l->id.z, f->freed);
    return true;
}

/* --- In a job ------------------------------------------------------------------------- */

void follow_load(struct live *l)
{
    struct follow *f;
    uint32_t n = index_followers(l->index);

    follow_free(l); /* of a try before */
    if (!n)
        return;
    f = l->follow = mem_new(struct follow);
    f->n = n;
    f->all = mem_new_n(struct index_follower, n);
    f->gone = mem_new_n(uint8_t, ((size_t)n + 7) / 8);
    f->free = mem_new_n(uint8_t, ((size_t)n + 7) / 8);
    list_init(&f->echoes);
    for (uint32_t k = 0; k < n; k++)
        f->all[k] = index_follower(l->index, k);
}

void follow_free(struct live *l)
{
    struct follow *f = l->follow;
    struct list *node;

    if (!f)
        return;
    loop_timer_clear(l->engine->loop, &f->timer);
    while ((node = list_pop(&f->echoes)))
        mem_free(list_entry(node, struct echo, link));
    mem_free(f->all);
    mem_free(f->gone);
    mem_free(f->free);
    mem_free(f->line);
    mem_free(f);
    l->follow = NULL;
}

/* A leader with a result, and where that is. */
struct led {
    uint32_t k; /* its first follower */
    enum result_kind kind;
    struct reslog_place at;
};

struct leaders {
    const struct follow *f;
    struct led *all; /* by leader */
    uint32_t n;
};

static void note_result(void *ctx, const struct reslog_rec *r,
                        const struct reslog_place *at)
{
    struct leaders *x = ctx;
    uint32_t low = 0, high = x->n;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (x->f->all[x->all[mid].k].leader < r->item)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == x->n || x->f->all[x->all[low].k].leader != r->item ||
        x->all[low].at.length)
        return; /* not asked for, or the first one won */
    x->all[low].kind = r->kind;
    x->all[low].at = *at;
}

/* The first follower, from *k on, whose leader has a result and one of whose kin has none;
 * *k: behind those of that leader.  f->n: none. */
static uint32_t next_lacking(const struct live *l, uint32_t *k)
{
    const struct follow *f = l->follow;

    while (*k < f->n) {
        uint32_t first = *k;
        bool lacks = false;

        *k = end_of(f, first);
        for (uint32_t i = first; i < *k; i++)
            lacks = lacks || !bit(l->done, f->all[i].item);
        if (lacks && bit(l->done, f->all[first].leader))
            return first;
    }
    return f->n;
}

static enum rc find_leaders(struct live *l, struct leaders *x)
{
    const struct follow *f = l->follow;
    uint32_t n = 0, k = 0, first;
    uint64_t damaged;

    *x = (struct leaders){.f = f};
    while (next_lacking(l, &k) < f->n)
        n++;
    if (!n)
        return RC_OK;
    x->all = mem_try(n * sizeof *x->all);
    if (!x->all)
        return err_set(&l->task.err, RC_NOMEM, "no memory for %u results", n);
    for (k = 0; (first = next_lacking(l, &k)) < f->n;)
        x->all[x->n++] = (struct led){.k = first};
    return reslog_scan(l->log, note_result, x, &damaged, &l->task.err);
}

static enum rc keep_for(struct live *l, uint32_t k, enum result_kind kind,
                        struct str result, struct buf *to)
{
    const struct follow *f = l->follow;
    enum rc rc = RC_OK;

    for (uint32_t end = end_of(f, k); k < end && rc == RC_OK; k++) {
        uint32_t item = f->all[k].item;

        if (bit(l->done, item))
            continue;
        if (atomic_load_explicit(&l->engine->stopping, memory_order_relaxed))
            return err_set(&l->task.err, RC_CANCELLED, "stopped amid equal lines");
        rc = compose(l, item, result, to, &l->task.err);
        if (rc == RC_LIMIT)
            rc = RC_OK; /* it goes by itself */
        else if (rc == RC_OK)
            rc = job_keep(l, &(struct reslog_rec){
                                 .item = item, .kind = kind, .payload = buf_peek(to)});
    }
    return rc;
}

static enum rc recover_led(struct live *l, const struct led *led, struct buf *to)
{
    char *text;
    struct str result;
    enum rc rc;

    if (!led->at.length)
        return RC_OK; /* a damaged log lost it since: they go like other lines */
    text = mem_try(led->at.length);
    if (!text)
        return err_set(&l->task.err, RC_NOMEM, "no memory for a result of %u bytes",
                       led->at.length);
    rc = reslog_read(l->log, &led->at, text, &l->task.err);
    result = (struct str){text, led->at.length};
    if (rc == RC_CORRUPT)
        rc = RC_OK; /* likewise */
    else if (rc == RC_OK && is_for_all(led->kind, result))
        rc = keep_for(l, led->k, led->kind, result, to);
    mem_free(text);
    return rc;
}

enum rc follow_recover(struct live *l)
{
    struct leaders x;
    uint32_t before = l->synced.completed + l->synced.failed;
    struct buf to;
    enum rc rc;

    if (!l->follow)
        return RC_OK;
    buf_init(&to, (size_t)LIMIT_RESULT + 1);
    rc = find_leaders(l, &x);
    for (uint32_t i = 0; i < x.n && rc == RC_OK; i++)
        rc = recover_led(l, &x.all[i], &to);
    if (rc == RC_OK && x.n)
        rc = job_commit(l);
    if (rc == RC_OK && x.n)
        log_info("batch.deduplicated", "batch=%s lines=%u why=recovery", l->id.z,
                 l->synced.completed + l->synced.failed - before);
    buf_done(&to);
    mem_free(x.all);
    return rc;
}
