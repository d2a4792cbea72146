/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/model.h"
#include "base/mem.h"
#include "sim/kv.h"

#include <math.h>

/*
 * All that decode advance together, a token an iteration (M1: the budget holds max_seqs, and
 * only the last admitted can be in the midst of its prefill, so it never takes the share of
 * one that decodes).  What they are at is therefore kept as sums over all: how many there
 * are, the sum of their contexts, and in which iteration modulo SIM_BLOCK each wants its next
 * block.  An iteration costs O(1) beside what it admits and finishes, and so do k of them.
 */

#define PS   1000000 /* picoseconds a microsecond */
#define MOST 4096    /* iterations at once: their picoseconds fit into 64 bits */

enum where { GONE, WAITING, PREFILL, DECODE, DONE };

struct heap_entry {
    uint64_t major, minor;
    struct sim_seq *q;
};

struct heap {
    struct heap_entry *v;
    uint32_t n, cap;
};

struct sim_model {
    struct sim_model_opts o;
    uint64_t t0, w, c1, c3, c4; /* picoseconds, at the present speed */

    /* The iterations under way: k of them from `start`; only the first may prefill. */
    usec_t start;
    uint64_t start_ps; /* less than PS; beside start */
    usec_t end;        /* rounded down; end_ps beside it */
    uint64_t end_ps;
    uint64_t k;    /* 0: begins at `start`, nothing is under way */
    uint64_t base; /* picoseconds of the first without c3 */
    uint64_t step; /* iterations that are over */
    bool idle, started;

    struct list running; /* in order of admission; those in their prefill are the last */
    struct list done;
    struct heap waiting, decoding;
    uint64_t arrivals, ctx; /* ctx: sum over those that decode, in their next iteration */
    uint32_t n_running;
    uint32_t wants[SIM_BLOCK]; /* that decode, by the iteration that needs a block */

    struct sim_kv kv;
    struct sim_model_load stats;
};

/* --- Presets -------------------------------------------------------------------------
 * From published figures: weights / memory bandwidth is w; 2 FLOP a parameter at 60 % of the
 * peak is c1; KV bytes a token / bandwidth is c3; 4 * layers * width FLOP a pair of tokens at
 * 40 % of the peak is c4; 90 % of the memory less weights and 2 GB a GPU hold the KV.  8b is
 * Llama-3.1-8B in bf16: 8.03e9 parameters, 32 layers of 4,096, 128 KiB of KV a token.
 */

const char *const sim_model_presets[] = {"h100-8b",      "a100-8b",      "l40s-8b",
                                         "h100-70b-tp4", "cpu-llamacpp", ""};

enum rc sim_model_preset(struct str name, struct sim_model_opts *ret)
{
    static const struct sim_model_opts presets[] = {
        /* H100 SXM: 80 GB, 3.35 TB/s, 989 TFLOP/s */
        {1500, 5000, 27, 0.039, 0.0013, 411000, 256, 8192, UINT64_MAX, true, false},
        /* A100 SXM: 80 GB, 2.04 TB/s, 312 TFLOP/s */
        {1500, 7900, 86, 0.064, 0.0042, 411000, 256, 8192, UINT64_MAX, true, false},
        /* L40S: 48 GB, 864 GB/s, 362 TFLOP/s */
        {1500, 18600, 74, 0.152, 0.0036, 192000, 256, 8192, UINT64_MAX, true, false},
        /* Llama-3.1-70B (70.6e9, 80 layers of 8,192, 320 KiB a token) on 4 H100: all of it by
         * four, 15 % of the compute and 15 us for each of 160 all-reduces lost to exchange */
        {4000, 10500, 70, 0.0245, 0.0017, 424000, 256, 8192, UINT64_MAX, true, false},
        /* 8B at 4.9 GB (Q4_K_M), 4 slots of 8,192: 8 channels of DDR5-4800 at 65 % of their
         * 307 GB/s, 2 TFLOP/s of matrix work; one cache for all slots instead of one each */
        {1000, 24500, 8000, 0.655, 0.52, 32768, 4, 2048, UINT64_MAX, true, false},
    };

    for (size_t i = 0; i < COUNTOF(presets); i++) {
        if (!str_is(name, sim_model_presets[i]))
            continue;
        *ret = presets[i];
        return RC_OK;
    }
    return RC_NOTFOUND;
}

/* --- Heaps of requests ---------------------------------------------------------------
 */

static bool heap_less(const struct heap_entry *a, const struct heap_entry *b)
{
    return a->major != b->major ? a->major < b->major : a->minor < b->minor;
}

static void heap_place(struct heap *h, uint32_t at, struct heap_entry e)
{
    h->v[at] = e;
    e.q->_at = at;
}

static void heap_up(struct heap *h, uint32_t at, struct heap_entry e)
{
    while (at > 0 && heap_less(&e, &h->v[(at - 1) / 2])) {
        heap_place(h, at, h->v[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_place(h, at, e);
}

static void heap_add(struct heap *h, uint64_t major, uint64_t minor, struct sim_seq *q)
{
    if (h->n == h->cap) {
        h->cap = h->cap ? 2 * h->cap : 64;
        h->v = mem_resize(h->v, h->cap * sizeof *h->v);
        MEM_CHECK(h->v);
    }
    heap_up(h, h->n++, (struct heap_entry){major, minor, q});
}

static void heap_del(struct heap *h, struct sim_seq *q)
{
    struct heap_entry e = h->v[--h->n];
    uint32_t at = q->_at, child;

    if (at == h->n)
        return;
    while ((child = 2 * at + 1) < h->n) {
        if (child + 1 < h->n && heap_less(&h->v[child + 1], &h->v[child]))
            child++;
        if (!heap_less(&h->v[child], &e))
            break;
        heap_place(h, at, h->v[child]);
        at = child;
    }
    heap_up(h, at, e);
}

/* --- Requests -------------------------------------------------------------------------
 */

static uint64_t blocks_for(uint64_t tokens)
{
    return (tokens + SIM_BLOCK - 1) / SIM_BLOCK;
}

/* Makes q's full blocks before its token `until` known to others; they are allocated. */
static void publish(struct sim_model *m, struct sim_seq *q, uint64_t until)
{
    uint32_t end = (uint32_t)u64_min(q->n_blocks, until / SIM_BLOCK), b;

    if (!m->o.cache)
        return;
    /* One that another has computed at the same time, or that was found but has to be
     * computed for its last token's sake, stays anonymous, and what follows it. */
    for (; q->_published < end; q->_published++) {
        b = sim_kv_publish(&m->kv, q->blocks[q->_published], q->_leaf);
        if (b == SIM_KV_NONE)
            return;
        q->_leaf = b;
    }
}

/* How many blocks of q are cached; *ret_leaf: the last of them. */
static uint32_t lookup(struct sim_model *m, const struct sim_seq *q, uint32_t *ret_leaf)
{
    uint32_t tokens = q->prompt + q->made - 1; /* one must be computed */
    uint32_t low = 0, high = (uint32_t)u64_min(q->n_blocks, tokens / SIM_BLOCK);

    *ret_leaf = SIM_KV_NONE;
    if (!m->o.cache)
        return 0;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2, b = sim_kv_find(&m->kv, q->blocks[mid]);

        if (b == SIM_KV_NONE) {
            high = mid;
        } else {
            low = mid + 1;
            *ret_leaf = b;
        }
    }
    return low;
}

/* In which iteration modulo SIM_BLOCK one that decodes needs a block. */
static unsigned phase_of(const struct sim_seq *q)
{
    return (unsigned)((q->_joined - q->_computed) % SIM_BLOCK);
}

static void join_decode(struct sim_model *m, struct sim_seq *q)
{
    q->_where = DECODE;
    q->_joined = m->step;
    q->_finish = m->step + q->out - q->made;
    m->ctx += q->_computed + 1;
    m->wants[phase_of(q)]++;
    heap_add(&m->decoding, q->_finish, q->_no, q);
}

/* Brings what is kept for all up to date in q itself. */
static void leave_decode(struct sim_model *m, struct sim_seq *q)
{
    uint32_t n = (uint32_t)(m->step - q->_joined);

    m->wants[phase_of(q)]--;
    heap_del(&m->decoding, q);
    q->_computed += n;
    q->made += n;
    q->_chunk = m->started; /* of the iteration under way */
    m->ctx -= q->_computed + 1;
}

/* Takes a running request out and its memory away. */
static void leave(struct sim_model *m, struct sim_seq *q)
{
    if (q->_where == DECODE)
        leave_decode(m, q);
    m->kv.anon -= blocks_for(q->_computed + q->_chunk) - q->_published;
    sim_kv_release(&m->kv, q->_leaf);
    q->_leaf = SIM_KV_NONE;
    q->_published = q->_computed = q->_chunk = 0;
    q->_where = GONE;
    m->n_running--;
    list_del(&q->_link);
}

static void finish(struct sim_model *m, struct sim_seq *q, usec_t at)
{
    leave(m, q);
    q->_where = DONE;
    q->ended = at;
    list_add_tail(&m->done, &q->_link);
}

static void wait_in_line(struct sim_model *m, struct sim_seq *q)
{
    /* Lower first, of what is signed. */
    uint64_t major = m->o.priorities ? (uint64_t)((int64_t)q->priority - INT32_MIN) : 0;

    q->_where = WAITING;
    heap_add(&m->waiting, major, q->_no, q);
}

static struct sim_seq *victim_of(struct sim_model *m)
{
    struct sim_seq *worst = list_entry(m->running.prev, struct sim_seq, _link);

    if (m->o.priorities)
        list_each (it, &m->running) {
            struct sim_seq *q = list_entry(it, struct sim_seq, _link);

            if (q->priority > worst->priority ||
                (q->priority == worst->priority && q->_no > worst->_no))
                worst = q;
        }
    return worst;
}

static void preempt(struct sim_model *m, struct sim_seq *q)
{
    leave(m, q);
    q->preempted++;
    m->stats.preemptions++;
    wait_in_line(m, q);
}

/* --- Time ----------------------------------------------------------------------------
 */

/* How long the first j of the iterations under way take. */
static uint64_t span(const struct sim_model *m, uint64_t j)
{
    return j * m->base + m->c3 * (j * m->ctx + m->decoding.n * (j * (j - 1) / 2));
}

static void set_end(struct sim_model *m)
{
    uint64_t ps = m->start_ps + span(m, m->k);

    m->end = m->start + (usec_t)(ps / PS);
    m->end_ps = ps % PS;
}

static usec_t end_up(const struct sim_model *m)
{
    return m->end + (m->end_ps > 0);
}

/* Which of those under way, from 1, is the one at `now`: the first that does not end before. */
static uint64_t under_way(const struct sim_model *m, usec_t now)
{
    uint64_t low = 1, high = m->k, passed;

    if (now <= m->start)
        return u64_min(1, m->k);
    if (now > m->end)
        return m->k;
    passed = (uint64_t)(now - m->start) * PS - m->start_ps;
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;

        if (span(m, mid) >= passed)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

/* Blocks that the iterations under way from the second to the j-th take. */
static uint64_t blocks_until(const struct sim_model *m, uint64_t j)
{
    uint64_t n = 0, rest = j > 1 ? (j - 1) % SIM_BLOCK : 0;

    if (j > 1)
        n = (j - 1) / SIM_BLOCK * m->decoding.n;
    for (uint64_t i = 1; i <= rest; i++)
        n += m->wants[(m->step + i) % SIM_BLOCK];
    return n;
}

/* The first j of those under way are over. */
static void advance(struct sim_model *m, uint64_t j)
{
    sim_kv_allocate(&m->kv, blocks_until(m, j));
    m->ctx += j * m->decoding.n;
    m->stats.generated += j * m->decoding.n;
    m->step += j;
}

/* Nothing comes after the one that is at work at `now`. */
static void shorten(struct sim_model *m, usec_t now)
{
    uint64_t j = under_way(m, now);

    if (j == m->k)
        return;
    m->k = j;
    set_end(m);
}

/* And nothing before it is still to be counted. */
static void isolate(struct sim_model *m, usec_t now)
{
    usec_t end;
    uint64_t end_ps;

    shorten(m, now);
    if (m->k <= 1)
        return;
    end = m->end;
    end_ps = m->end_ps;
    m->k--;
    set_end(m);
    m->start = m->end;
    m->start_ps = m->end_ps;
    advance(m, m->k);
    sim_kv_allocate(&m->kv, m->wants[m->step % SIM_BLOCK]);
    m->k = 1;
    m->end = end;
    m->end_ps = end_ps;
}

/* --- Iterations ----------------------------------------------------------------------
 */

struct plan {               /* of one iteration */
    uint64_t left, prefill; /* tokens */
    uint64_t pairs;         /* twice the sum of chunk * mean ctx */
    bool preempted;
};

/* The one whose prefill was cut. */
static struct sim_seq *cut_one(struct sim_model *m)
{
    struct sim_seq *q;

    if (list_empty(&m->running))
        return NULL;
    q = list_entry(m->running.prev, struct sim_seq, _link);
    return q->_where == PREFILL ? q : NULL;
}

static uint32_t chunk_of(const struct sim_seq *q, uint64_t left)
{
    return (uint32_t)u64_min(q->prompt + q->made - q->_computed, left);
}

static uint64_t blocks_to(const struct sim_seq *q, uint32_t chunk)
{
    return blocks_for(q->_computed + chunk) - blocks_for(q->_computed);
}

/* Its blocks are allocated. */
static void take_chunk(struct sim_model *m, struct plan *p, struct sim_seq *q,
                       uint32_t chunk)
{
    q->_chunk = chunk;
    p->left -= chunk;
    p->prefill += chunk;
    p->pairs += (uint64_t)chunk * (2 * (uint64_t)q->_computed + chunk);
    m->stats.computed += chunk;
    q->computed += chunk;
    publish(m, q, (uint64_t)q->_computed + chunk);
}

/* Those that run go on, as many as there is memory for. */
static void go_on(struct sim_model *m, struct plan *p)
{
    struct sim_seq *cut;
    uint32_t chunk;
    uint64_t need;

    for (;;) {
        cut = cut_one(m);
        p->left = m->o.budget - m->decoding.n;
        chunk = cut ? chunk_of(cut, p->left) : 0;
        need = m->wants[m->step % SIM_BLOCK] + (cut ? blocks_to(cut, chunk) : 0);
        if (need <= sim_kv_available(&m->kv))
            break;
        preempt(m, victim_of(m));
        p->preempted = true;
    }
    sim_kv_allocate(&m->kv, need);
    m->started = true;
    if (cut)
        take_chunk(m, p, cut, chunk);
}

/* The first of those that wait; false: there is no memory for it. */
static bool admit(struct sim_model *m, struct plan *p)
{
    struct sim_seq *q = m->waiting.v[0].q;
    uint32_t leaf, hit = lookup(m, q, &leaf), chunk;
    uint64_t need;

    q->_computed = hit * SIM_BLOCK;
    chunk = chunk_of(q, p->left);
    need = blocks_to(q, chunk);
    if (need + sim_kv_idle_to(&m->kv, leaf) > sim_kv_available(&m->kv)) {
        q->_computed = 0;
        return false;
    }
    heap_del(&m->waiting, q);
    sim_kv_hold(&m->kv, leaf);
    q->_leaf = leaf;
    q->_published = hit;
    sim_kv_allocate(&m->kv, need);
    q->_where = PREFILL;
    list_add_tail(&m->running, &q->_link);
    m->n_running++;
    if (q->preempted == 0) {
        q->began = m->start + (m->start_ps > 0);
        q->cached = hit * SIM_BLOCK;
        m->stats.hits += q->cached;
        m->stats.queries += q->prompt;
    }
    take_chunk(m, p, q, chunk);
    return true;
}

/* How many iterations like this one come before anything but decoding can happen. */
static uint64_t steady(const struct sim_model *m)
{
    uint64_t k = u64_min(m->decoding.v[0].major - m->step, MOST);
    uint64_t cycles =
        sim_kv_available(&m->kv) / m->decoding.n; /* each takes a block for each */

    k = u64_min(k, (cycles + 1) * SIM_BLOCK);
    while (k > 1 && blocks_until(m, k) > sim_kv_available(&m->kv))
        k--;
    return k;
}

static void begin(struct sim_model *m)
{
    struct plan p = {0};
    uint64_t tokens;

    m->start = m->end;
    m->start_ps = m->end_ps;
    go_on(m, &p);
    while (!p.preempted && m->n_running < m->o.max_seqs && p.left > 0 && m->waiting.n > 0)
        if (!admit(m, &p))
            break;
    if (m->n_running == 0) {
        CHECK(m->waiting.n == 0);
        m->idle = true;
        m->started = false;
        m->k = 0;
        return;
    }
    tokens = p.prefill + m->decoding.n;
    m->base = m->t0 + u64_max(m->w, tokens * m->c1) + m->c4 * p.pairs / 2;
    m->k = p.prefill > 0 || (p.preempted && m->waiting.n > 0) ? 1 : steady(m);
    set_end(m);
}

/* A chunk of q's prefill is over. */
static void chunk_over(struct sim_model *m, struct sim_seq *q, usec_t at)
{
    q->_computed += q->_chunk;
    q->_chunk = 0;
    if (q->_computed < q->prompt + q->made)
        return;
    m->stats.generated++;
    if (q->made++ == 0)
        q->first = at;
    if (q->made == q->out)
        finish(m, q, at);
    else
        join_decode(m, q);
}

static void commit(struct sim_model *m)
{
    usec_t at = end_up(m);
    struct list *it = m->running.prev;

    if (m->k == 0)
        return;
    advance(m, m->k);
    m->started = false;
    while (it != &m->running && list_entry(it, struct sim_seq, _link)->_where == PREFILL)
        it = it->prev;
    while (m->decoding.n > 0 && m->decoding.v[0].major <= m->step) {
        if (it == &m->decoding.v[0].q->_link)
            it = it->prev;
        finish(m, m->decoding.v[0].q, at);
    }
    for (it = it->next; it != &m->running;) {
        struct sim_seq *q = list_entry(it, struct sim_seq, _link);

        it = it->next;
        chunk_over(m, q, at);
    }
}

/* All that is over before `now`, or at it. */
static void roll(struct sim_model *m, usec_t now, bool at)
{
    while (!m->idle && (at ? end_up(m) <= now : m->end < now)) {
        commit(m);
        begin(m);
    }
}

/* --- What others see -----------------------------------------------------------------
 */

static uint64_t picoseconds(double usec)
{
    CHECK(usec >= 0 && usec < 1e12);
    return (uint64_t)llround(usec * PS);
}

static void set_speed(struct sim_model *m, double factor)
{
    CHECK(factor > 0);
    m->t0 = picoseconds(m->o.t0 / factor);
    m->w = picoseconds(m->o.w / factor);
    m->c1 = picoseconds(m->o.c1 / factor);
    m->c3 = picoseconds(m->o.c3 / factor);
    m->c4 = picoseconds(m->o.c4 / factor);
}

/* Nothing is cached, nothing runs. */
static void reset(struct sim_model *m)
{
    sim_kv_reset(&m->kv);
    for (unsigned i = 0; i < SIM_BLOCK; i++)
        m->wants[i] = 0;
    m->ctx = m->k = m->n_running = 0;
    m->waiting.n = m->decoding.n = 0;
    list_init(&m->running);
    list_init(&m->done);
    m->idle = true;
    m->started = false;
}

struct sim_model *sim_model_new(const struct sim_model_opts *o)
{
    struct sim_model *m = mem_new(struct sim_model);

    CHECK(o->max_seqs > 0 && o->budget > 0);
    m->o = *o;
    if (m->o.max_seqs > o->budget)
        m->o.max_seqs = o->budget; /* M1 */
    sim_kv_init(&m->kv, o->kv_tokens / SIM_BLOCK);
    set_speed(m, 1);
    reset(m);
    return m;
}

struct sim_model *sim_model_free(struct sim_model *m)
{
    if (!m)
        return NULL;
    mem_free(m->waiting.v);
    mem_free(m->decoding.v);
    sim_kv_done(&m->kv);
    mem_free(m);
    return NULL;
}

enum rc sim_model_add(struct sim_model *m, struct sim_seq *q, usec_t now)
{
    CHECK(q->prompt > 0 && q->out > 0 && q->n_blocks <= q->prompt / SIM_BLOCK);
    if (blocks_for((uint64_t)q->prompt + q->out - 1) > m->kv.total)
        return RC_INVALID;
    roll(m, now, false);
    if (m->n_running + m->waiting.n >=
        u64_min(m->o.max_queued, UINT32_MAX) + m->o.max_seqs)
        return RC_LIMIT;
    q->came = now;
    q->began = q->first = q->ended = 0;
    q->cached = q->made = q->preempted = q->computed = 0;
    q->_no = m->arrivals++;
    q->_computed = q->_chunk = q->_published = 0;
    q->_leaf = SIM_KV_NONE;
    list_init(&q->_link);
    wait_in_line(m, q);
    if (m->idle) {
        m->idle = false;
        m->start = m->end = now;
        m->start_ps = m->end_ps = 0;
    } else if (m->waiting.v[0].q == q && m->n_running < m->o.max_seqs) {
        shorten(m, now);
    }
    return RC_OK;
}

void sim_model_abort(struct sim_model *m, struct sim_seq *q, usec_t now)
{
    bool first;

    roll(m, now, false);
    if (q->_where == GONE)
        return;
    if (q->_where == DONE) {
        list_del(&q->_link);
    } else if (q->_where == WAITING) {
        first = m->waiting.v[0].q == q;
        heap_del(&m->waiting, q);
        if (first && m->waiting.n > 0) /* the next may be smaller */
            shorten(m, now);
    } else {
        isolate(m, now);
        leave(m, q);
    }
    q->_where = GONE;
    if (q->ended == 0)
        q->ended = now;
}

usec_t sim_model_next(const struct sim_model *m)
{
    if (!list_empty(&m->done))
        return list_entry(m->done.next, struct sim_seq, _link)->ended;
    return m->idle ? USEC_INFINITY : end_up(m);
}

struct sim_seq *sim_model_step(struct sim_model *m, usec_t now)
{
    struct list *node;
    struct sim_seq *q;

    roll(m, now, true);
    node = list_pop(&m->done);
    if (!node)
        return NULL;
    q = list_entry(node, struct sim_seq, _link);
    q->_where = GONE;
    return q;
}

void sim_model_speed(struct sim_model *m, double factor, usec_t now)
{
    roll(m, now, false);
    isolate(m, now);
    set_speed(m, factor);
}

static void forget(struct list *l)
{
    list_each (it, l)
        list_entry(it, struct sim_seq, _link)->_where = GONE;
}

void sim_model_crash(struct sim_model *m)
{
    forget(&m->running);
    forget(&m->done);
    for (uint32_t i = 0; i < m->waiting.n; i++)
        m->waiting.v[i].q->_where = GONE;
    reset(m);
}

void sim_model_load(const struct sim_model *m, usec_t now, struct sim_model_load *ret)
{
    uint64_t j = under_way(m, now);

    *ret = m->stats;
    ret->running = m->n_running;
    ret->waiting = m->waiting.n;
    ret->kv_used = (m->kv.anon + m->kv.active + blocks_until(m, j)) * SIM_BLOCK;
    ret->kv_total = m->kv.total * SIM_BLOCK;
    if (j > 1)
        ret->generated += (j - 1) * m->decoding.n;
}
