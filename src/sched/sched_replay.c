/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "sched/sched_int.h"
#include "sched/sched_trace.h"

#include <string.h>

#define MAGIC   "batchd sched trace 1\n"
#define TICKETS 4096

static const struct {
    unsigned ints, doubles;
} least[TRACE_KIND_COUNT] = {
#define X(kind, ints, doubles) {ints, doubles},
    TRACE_KINDS(X)
#undef X
};

struct player {
    const uint8_t *p, *end;
    struct sched *s;
    struct sched_replay *ret;
    struct err *e;
    struct trace_rec r;
    bool bad;
    /* of the next batch */
    struct sched_item *items;
    uint64_t *keys;
    uint8_t *done;
    size_t n_items, n_keys, n_done;
    /* calls in flight, by number */
    struct sched_ticket *calls;
    bool *flying;
    size_t n_calls;
    struct sched_ticket out[TICKETS];
};

/* --- Reading ------------------------------------------------------------------------- */

static bool get_varint(struct player *x, uint64_t *ret)
{
    unsigned shift = 0;

    *ret = 0;
    while (x->p < x->end && shift < 64) {
        uint8_t b = *x->p++;

        *ret |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            return true;
        shift += 7;
    }
    return false;
}

static bool get_doubles(struct player *x, unsigned n)
{
    if (n > COUNTOF(x->r.d) || (size_t)(x->end - x->p) < 8 * (size_t)n)
        return false;
    for (unsigned i = 0; i < n; i++) {
        uint64_t bits = 0;

        for (unsigned k = 0; k < 8; k++)
            bits |= (uint64_t)*x->p++ << (8 * k);
        memcpy(&x->r.d[i], &bits, sizeof bits);
    }
    x->r.nd = n;
    return true;
}

/* false: the end, or a record that was cut off. */
static bool get_record(struct player *x)
{
    uint64_t n, v;

    if (x->p == x->end)
        return false;
    x->r.kind = (enum trace_kind) * x->p++;
    if (!get_varint(x, &n) || n > TRACE_MAX)
        return false;
    for (uint64_t i = 0; i < n; i++) {
        if (!get_varint(x, &v))
            return false;
        x->r.v[i] = (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
    }
    x->r.n = (unsigned)n;
    return x->p < x->end && get_doubles(x, *x->p++);
}

/* --- Playing ------------------------------------------------------------------------- */

static void differs(struct player *x, const char *what, int64_t got, int64_t want)
{
    if (x->ret->other++ == 0)
        IGNORE(err_set(x->e, RC_OK, "call %llu: %s is %lld, and was %lld in the trace",
                       (unsigned long long)x->ret->calls, what, (long long)got,
                       (long long)want)); /* the first one is told */
}

static void same(struct player *x, const char *what, int64_t got, int64_t want)
{
    if (got != want)
        differs(x, what, got, want);
}

static bool is_up(const struct player *x, int64_t up)
{
    return up >= 0 && up < x->s->n_ups;
}

static bool is_batch(const struct player *x, int64_t batch)
{
    return batch >= 0 && batch < x->s->n_batches && x->s->batches[batch]->used;
}

static const struct sched_set *set_at(const struct player *x, unsigned at,
                                      struct sched_set *set)
{
    if (x->r.n < at + SET_WORDS)
        return NULL;
    for (unsigned i = 0; i < SET_WORDS; i++)
        set->w[i] = (uint64_t)x->r.v[at + i];
    return set;
}

static void play_new(struct player *x)
{
    const int64_t *v = x->r.v;

    x->bad = x->s != NULL;
    if (x->bad)
        return;
    x->s = sched_new(&(struct sched_opts){.max_attempts = (unsigned)v[0],
                                          .backoff_base = v[1],
                                          .backoff_cap = v[2],
                                          .probe_base = v[3],
                                          .probe_cap = v[4],
                                          .retry_after_cap = v[5],
                                          .seed = (uint64_t)v[6]});
}

static void play_upstream(struct player *x)
{
    const int64_t *v = x->r.v;

    x->bad = v[0] <= 0 || x->s->n_ups == LIMIT_UPSTREAMS;
    if (x->bad)
        return;
    same(x, "the upstream",
         sched_upstream_add(x->s,
                            &(struct sched_upstream_opts){.window = (unsigned)v[0],
                                                          .start = (unsigned)v[1],
                                                          .fixed = v[2],
                                                          .aborts = v[3],
                                                          .requests_per_min = x->r.d[0],
                                                          .tokens_per_min = x->r.d[1],
                                                          .reserve = x->r.d[2]}),
         v[4]);
}

static void play_sampled(struct player *x)
{
    const double *d = x->r.d;
    struct sched_sample m = {.running = d[0],
                             .waiting = d[1],
                             .kv = d[2],
                             .preemptions = d[3],
                             .prefix_hits = d[4],
                             .prefix_queries = d[5]};

    x->bad = !is_up(x, x->r.v[1]) || !x->s->ups[x->r.v[1]].sampling;
    if (!x->bad)
        sched_sampled(x->s, (uint16_t)x->r.v[1], x->r.v[2] ? &m : NULL, x->r.v[0]);
}

static void play_limited(struct player *x)
{
    const double *d = x->r.d;
    struct sched_limits l = {.requests = d[0],
                             .requests_left = d[1],
                             .tokens = d[2],
                             .tokens_left = d[3],
                             .requests_reset = x->r.v[2],
                             .tokens_reset = x->r.v[3]};

    x->bad = !is_up(x, x->r.v[1]);
    if (!x->bad)
        sched_limited(x->s, (uint16_t)x->r.v[1], &l, x->r.v[0]);
}

static void play_asked(struct player *x, bool probe)
{
    uint16_t up = 0;
    bool got = probe ? sched_probe(x->s, &up, x->r.v[0])
                     : sched_sample_due(x->s, &up, x->r.v[0]);

    same(x, probe ? "a probe" : "a look at metrics", got, x->r.v[1] != 0);
    if (got && x->r.v[1])
        same(x, "the upstream to be asked", up, x->r.v[2]);
}

static void play_probed(struct player *x)
{
    x->bad = !is_up(x, x->r.v[1]) || !x->s->ups[x->r.v[1]].probing;
    if (!x->bad)
        sched_probe_done(x->s, (uint16_t)x->r.v[1], x->r.v[2], x->r.v[0]);
}

static void add_lines(struct player *x)
{
    size_t more = x->r.n / 4;

    x->items = mem_resize(x->items, (x->n_items + more + 1) * sizeof *x->items);
    MEM_CHECK(x->items);
    for (size_t i = 0; i < more; i++)
        x->items[x->n_items++] =
            (struct sched_item){(uint32_t)x->r.v[4 * i], (uint32_t)x->r.v[4 * i + 1],
                                (uint32_t)x->r.v[4 * i + 2], (uint32_t)x->r.v[4 * i + 3]};
}

static void add_keys(struct player *x)
{
    x->keys = mem_resize(x->keys, (x->n_keys + x->r.n + 1) * sizeof *x->keys);
    MEM_CHECK(x->keys);
    for (size_t i = 0; i < x->r.n; i++)
        x->keys[x->n_keys++] = (uint64_t)x->r.v[i];
}

static void add_done(struct player *x)
{
    x->done = mem_resize(x->done, x->n_done + x->r.n + 1);
    MEM_CHECK(x->done);
    for (size_t i = 0; i < x->r.n; i++)
        x->done[x->n_done++] = (uint8_t)x->r.v[i];
}

static bool lines_fit(const struct player *x, int64_t n, int64_t group)
{
    if (n < 0 || n > LIMIT_LINES_EVER || group < 0 || group >= x->s->n_groups ||
        (x->n_items && x->n_items != (size_t)n) || (x->n_keys && x->n_keys != (size_t)n))
        return false;
    for (size_t i = 0; x->done && i < x->n_items; i++)
        if (x->items[i].item / 8 >= x->n_done)
            return false;
    return !x->done || x->n_done >= ((size_t)n + 7) / 8;
}

static void play_batch(struct player *x)
{
    const int64_t *v = x->r.v;
    struct sched_set set;
    struct sched_batch_opts o = {.n_items = (uint32_t)v[2],
                                 .items = x->items,
                                 .keys = x->n_items ? x->keys : NULL,
                                 .done = x->done,
                                 .deadline = v[3],
                                 .window = v[4],
                                 .priority = (int)v[5],
                                 .paused = v[6],
                                 .idle = v[7],
                                 .once = v[8],
                                 .hold = (uint32_t)v[9],
                                 .group = (uint16_t)v[10],
                                 .upstreams = set_at(x, 11, &set)};

    x->bad = !lines_fit(x, v[2], v[10]) || v[5] < SCHED_PRIORITY_MIN ||
             v[5] > SCHED_PRIORITY_MAX;
    if (!x->bad)
        same(x, "the batch", sched_batch_add(x->s, &o, v[0]), v[1]);
    mem_free(x->items);
    mem_free(x->keys);
    mem_free(x->done);
    x->items = NULL, x->keys = NULL, x->done = NULL;
    x->n_items = x->n_keys = x->n_done = 0;
}

static void play_of_batch(struct player *x)
{
    const int64_t *v = x->r.v;
    uint32_t batch = (uint32_t)v[0];
    struct sched_set set;

    x->bad = !is_batch(x, v[0]);
    if (x->bad)
        return;
    if (x->r.kind == TRACE_EDIT && v[1] >= SCHED_PRIORITY_MIN &&
        v[1] <= SCHED_PRIORITY_MAX)
        sched_batch_edit(x->s, batch, (int)v[1], v[2], (uint32_t)v[3], v[4]);
    else if (x->r.kind == TRACE_IDLE)
        sched_batch_idle(x->s, batch, v[1]);
    else if (x->r.kind == TRACE_SET)
        sched_batch_upstreams(x->s, batch, set_at(x, 1, &set));
    else if (x->r.kind == TRACE_RESUME)
        sched_batch_resume(x->s, batch);
    else if (x->r.kind == TRACE_CLOSE)
        sched_batch_close(x->s, batch);
    else if (x->r.kind == TRACE_REMOVE && x->s->batches[batch]->inflight == 0)
        sched_batch_remove(x->s, batch);
    else
        x->bad = true;
}

static void note_call(struct player *x, const struct sched_ticket *t)
{
    if (t->call >= x->n_calls) {
        size_t n = t->call + 256;

        x->calls = mem_resize(x->calls, n * sizeof *x->calls);
        x->flying = mem_resize(x->flying, n * sizeof *x->flying);
        MEM_CHECK(x->calls && x->flying);
        memset(x->flying + x->n_calls, 0, n - x->n_calls);
        x->n_calls = n;
    }
    x->calls[t->call] = *t;
    x->flying[t->call] = true;
}

static void play_next(struct player *x)
{
    size_t max = (size_t)x->r.v[0], n, want = (x->r.n - 2) / 5;

    if (max > TICKETS)
        max = TICKETS;
    n = sched_next(x->s, x->out, max, x->r.v[1]);
    same(x, "the number of tickets", (int64_t)n, (int64_t)want);
    for (size_t i = 0; i < n; i++) {
        const struct sched_ticket *t = &x->out[i];
        const int64_t *v = x->r.v + 2 + 5 * i;

        note_call(x, t);
        x->ret->tickets++;
        if (i >= want)
            continue;
        same(x, "a ticket's call", t->call, v[0]);
        same(x, "a ticket's batch", t->batch, v[1]);
        same(x, "a ticket's item", t->item, v[2]);
        same(x, "a ticket's upstream", t->upstream, v[3]);
        same(x, "a ticket's attempt", t->attempt, v[4]);
    }
}

/* The ticket of a call in flight; NULL: it is not, which is how a replay that went another
 * way ends. */
static const struct sched_ticket *landing(struct player *x, int64_t call)
{
    if (call < 0 || (uint64_t)call >= x->n_calls || !x->flying[call])
        return NULL;
    x->flying[call] = false;
    return &x->calls[call];
}

static void play_done(struct player *x)
{
    const int64_t *v = x->r.v;
    const struct sched_ticket *t = landing(x, v[1]);
    struct sched_outcome o = {.cls = (enum outcome_class)v[2],
                              .retry_after = v[3],
                              .has_usage = v[4],
                              .prompt = (uint32_t)v[5],
                              .cached = (uint32_t)v[6],
                              .output = (uint32_t)v[7]};

    x->bad = !t || v[2] < 0 || v[2] >= OUTCOME_COUNT || x->r.n < 9;
    if (!x->bad)
        same(x, "the verdict", sched_done(x->s, t, &o, v[0]), v[8]);
}

static void play_aborted(struct player *x)
{
    const struct sched_ticket *t = landing(x, x->r.v[1]);

    x->bad = !t;
    if (t)
        sched_aborted(x->s, t, x->r.v[0]);
}

static void play_losers(struct player *x)
{
    size_t max = (size_t)x->r.v[0];
    size_t n = sched_aborts(x->s, x->out, max < TICKETS ? max : TICKETS);

    same(x, "the calls to be closed", (int64_t)n, (x->r.n - 1) / 5);
}

static void play_group(struct player *x)
{
    same(x, "the group", sched_group_add(x->s, (unsigned)x->r.v[0], x->r.d[0]),
         x->r.v[1]);
}

static void play_told(struct player *x)
{
    const int64_t *v = x->r.v;

    x->bad = !is_up(x, v[0]);
    if (x->bad)
        return;
    if (x->r.kind == TRACE_ABORTS)
        sched_upstream_aborts(x->s, (uint16_t)v[0], v[1]);
    else
        sched_hint(x->s, (uint16_t)v[0], (unsigned)v[1], (uint64_t)v[2]);
}

static void clock_seen(struct player *x)
{
    usec_t now = x->r.kind == TRACE_NEXT ? x->r.v[1] : x->r.v[0];

    if (x->r.kind != TRACE_NEXT && x->r.kind != TRACE_DONE && x->r.kind != TRACE_SAMPLED)
        return;
    if (!x->ret->from)
        x->ret->from = now;
    x->ret->to = now;
}

static void play_more(struct player *x)
{
    switch ((int)x->r.kind) { /* int: what is left of them */
    case TRACE_NEXT:
        play_next(x);
        break;
    case TRACE_DONE:
        play_done(x);
        break;
    case TRACE_LOSERS:
        play_losers(x);
        break;
    case TRACE_ABORTED:
        play_aborted(x);
        break;
    case TRACE_PAUSE:
        sched_pause(x->s, x->r.v[0]);
        break;
    case TRACE_BATCH:
        play_batch(x);
        break;
    default:
        play_of_batch(x);
        break;
    }
}

static void play(struct player *x)
{
    switch ((int)x->r.kind) { /* int: the others are of batches and lines */
    case TRACE_NEW:
        play_new(x);
        break;
    case TRACE_UPSTREAM:
        play_upstream(x);
        break;
    case TRACE_ABORTS:
    case TRACE_HINT:
        play_told(x);
        break;
    case TRACE_DUE:
    case TRACE_PROBE:
        play_asked(x, x->r.kind == TRACE_PROBE);
        break;
    case TRACE_SAMPLED:
        play_sampled(x);
        break;
    case TRACE_LIMITED:
        play_limited(x);
        break;
    case TRACE_PROBED:
        play_probed(x);
        break;
    case TRACE_GROUP:
        play_group(x);
        break;
    case TRACE_LINES:
        add_lines(x);
        break;
    case TRACE_KEYS:
        add_keys(x);
        break;
    case TRACE_DONE_BITS:
        add_done(x);
        break;
    default:
        play_more(x);
        break;
    }
}

static bool is_record(const struct player *x)
{
    return (unsigned)x->r.kind < TRACE_KIND_COUNT && x->r.n >= least[x->r.kind].ints &&
           x->r.nd >= least[x->r.kind].doubles && (x->s || x->r.kind == TRACE_NEW);
}

enum rc sched_replay(const void *bytes, size_t n, struct sched_replay *ret, struct err *e)
{
    struct player *x = mem_new(struct player);
    enum rc rc = RC_OK;

    *ret = (struct sched_replay){0};
    x->ret = ret;
    x->e = e;
    if (n < strlen(MAGIC) || memcmp(bytes, MAGIC, strlen(MAGIC)) != 0)
        rc = err_set(e, RC_CORRUPT, "it does not begin with '%.*s'",
                     (int)strlen(MAGIC) - 1, MAGIC);
    x->p = (const uint8_t *)bytes + strlen(MAGIC);
    x->end = (const uint8_t *)bytes + n;
    while (rc == RC_OK && get_record(x)) {
        clock_seen(x);
        if (is_record(x))
            play(x);
        if (!is_record(x) || (x->bad && ret->other == 0))
            rc = err_set(e, RC_CORRUPT, "record %llu is none that a scheduler makes",
                         (unsigned long long)ret->calls + 1);
        else if (x->bad)
            break; /* it went another way, and the trace does not fit any more */
        ret->calls++;
    }
    sched_free(x->s);
    mem_free(x->items);
    mem_free(x->keys);
    mem_free(x->done);
    mem_free(x->calls);
    mem_free(x->flying);
    mem_free(x);
    return rc;
}
