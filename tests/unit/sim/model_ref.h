/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_ref: what sim/model.c must agree with, in the plainest form: one iteration at a time,
 * a reference count on every block of every request, linear searches.
 */
#pragma once

#include "base/mem.h"
#include "sim/model.h"

#include <math.h>

#define REF_PS 1000000

struct ref_seq {
    struct sim_seq q;                      /* given, and what comes out */
    uint32_t computed, chunk, chain, anon; /* chain: blocks held of q.blocks */
    bool waits, runs, over, joined;        /* joined: its prefill is over */
    bool fresh;                            /* it was not when this iteration began */
};

struct ref_block {
    uint64_t id, used; /* id 0: free */
    unsigned refs;
};

struct ref {
    struct sim_model_opts o;
    struct ref_seq **order; /* running, by admission */
    struct ref_seq **line;  /* waiting, by arrival or priority */
    unsigned n_order, n_line;
    struct ref_block *kv;
    unsigned n_kv;
    uint64_t now, stamp, anon; /* now: picoseconds */
    double speed;
};

static inline struct ref_block *ref_find(struct ref *r, uint64_t id)
{
    for (unsigned i = 0; i < r->n_kv; i++)
        if (r->kv[i].id == id)
            return &r->kv[i];
    return NULL;
}

static inline unsigned ref_held(const struct ref *r, bool idle)
{
    unsigned n = 0;

    for (unsigned i = 0; i < r->n_kv; i++)
        n += r->kv[i].id != 0 && (r->kv[i].refs == 0) == idle;
    return n;
}

static inline uint64_t ref_available(const struct ref *r)
{
    return r->n_kv - r->anon - ref_held(r, false);
}

static inline void ref_allocate(struct ref *r, struct ref_seq *s, uint64_t n)
{
    s->anon += (uint32_t)n;
    r->anon += n;
    while (r->anon + ref_held(r, false) + ref_held(r, true) > r->n_kv) {
        struct ref_block *old = NULL;

        for (unsigned i = 0; i < r->n_kv; i++)
            if (r->kv[i].id != 0 && r->kv[i].refs == 0 &&
                (!old || r->kv[i].used < old->used))
                old = &r->kv[i];
        CHECK(old);
        old->id = 0;
    }
}

static inline void ref_drop(struct ref *r, struct ref_seq *s)
{
    r->anon -= s->anon;
    for (uint32_t i = s->chain; i > 0; i--) {
        struct ref_block *b = ref_find(r, s->q.blocks[i - 1]);

        if (--b->refs == 0)
            b->used = ++r->stamp;
    }
    s->anon = s->chain = s->computed = s->chunk = 0;
    s->joined = false;
}

static inline void ref_del(struct ref_seq **v, unsigned *n, const struct ref_seq *s)
{
    unsigned k = 0;

    for (unsigned i = 0; i < *n; i++)
        if (v[i] != s)
            v[k++] = v[i];
    *n = k;
}

static inline bool ref_before(const struct ref *r, const struct ref_seq *a,
                              const struct ref_seq *b)
{
    if (r->o.priorities && a->q.priority != b->q.priority)
        return a->q.priority < b->q.priority;
    return a->q._no < b->q._no;
}

static inline void ref_wait(struct ref *r, struct ref_seq *s)
{
    unsigned at = r->n_line++;

    for (; at > 0 && ref_before(r, s, r->line[at - 1]); at--)
        r->line[at] = r->line[at - 1];
    r->line[at] = s;
    s->waits = true;
    s->runs = false;
}

static inline void ref_leave(struct ref *r, struct ref_seq *s)
{
    ref_drop(r, s);
    ref_del(r->order, &r->n_order, s);
    s->runs = false;
}

static inline void ref_abort(struct ref *r, struct ref_seq *s)
{
    if (s->waits)
        ref_del(r->line, &r->n_line, s);
    else if (s->runs)
        ref_leave(r, s);
    s->waits = false;
    s->over = true;
}

static inline uint32_t ref_min(uint64_t a, uint64_t b)
{
    return (uint32_t)(a < b ? a : b);
}

static inline uint64_t ref_blocks(uint64_t tokens)
{
    return (tokens + 15) / 16;
}

static inline void ref_take(struct ref *r, struct ref_seq *s, uint32_t chunk)
{
    uint64_t until = s->computed + chunk;

    s->chunk = chunk;
    for (; r->o.cache && !s->joined && s->chain < ref_min(s->q.n_blocks, until / 16);
         s->chain++) {
        if (ref_find(r, s->q.blocks[s->chain]))
            return;
        for (unsigned i = 0; i < r->n_kv; i++)
            if (r->kv[i].id == 0) {
                r->kv[i] = (struct ref_block){.id = s->q.blocks[s->chain], .refs = 1};
                break;
            }
        s->anon--;
        r->anon--;
    }
}

static inline bool ref_admit(struct ref *r, struct ref_seq *s, uint32_t left)
{
    uint32_t total = s->q.prompt + s->q.made, hit = 0, chunk;
    uint64_t need, idle = 0;

    while (r->o.cache && hit < s->q.n_blocks && (hit + 1) * 16 < total &&
           ref_find(r, s->q.blocks[hit]))
        idle += ref_find(r, s->q.blocks[hit++])->refs == 0;
    chunk = ref_min(total - hit * 16, left);
    need = ref_blocks(hit * 16 + chunk) - hit;
    if (need + idle > ref_available(r))
        return false;
    for (s->chain = 0; s->chain < hit; s->chain++)
        ref_find(r, s->q.blocks[s->chain])->refs++;
    s->computed = hit * 16;
    ref_allocate(r, s, need);
    ref_take(r, s, chunk);
    s->waits = false;
    s->runs = true;
    if (s->q.preempted == 0) {
        s->q.began = (usec_t)((r->now + REF_PS - 1) / REF_PS);
        s->q.cached = hit * 16;
    }
    return true;
}

/* What a running one takes in this iteration when `left` tokens are left. */
static inline uint32_t ref_wants(const struct ref_seq *s, uint32_t left)
{
    return ref_min(s->q.prompt + s->q.made - s->computed, left);
}

static inline bool ref_fits(const struct ref *r, uint32_t *left)
{
    uint64_t need = 0;

    *left = r->o.budget;
    for (unsigned i = 0; i < r->n_order; i++) {
        uint32_t n = ref_wants(r->order[i], *left);

        need += ref_blocks(r->order[i]->computed + n) - ref_blocks(r->order[i]->computed);
        *left -= n;
    }
    return need <= ref_available(r);
}

static inline void ref_preempt(struct ref *r)
{
    struct ref_seq *victim = r->order[r->n_order - 1];

    for (unsigned i = 0; r->o.priorities && i < r->n_order; i++)
        if (ref_before(r, victim, r->order[i]))
            victim = r->order[i];
    ref_leave(r, victim);
    victim->q.preempted++;
    ref_wait(r, victim);
}

static inline uint64_t ref_ps(const struct ref *r, double usec)
{
    return (uint64_t)llround(usec / r->speed * REF_PS);
}

/* Begins an iteration; returns when it ends; nothing runs: `now`. */
static inline uint64_t ref_begin(struct ref *r)
{
    uint64_t decode = 0, prefill = 0, ctx = 0, pairs = 0, compute;
    bool preempted = false;
    uint32_t left;

    for (; !ref_fits(r, &left); preempted = true)
        ref_preempt(r);
    left = r->o.budget;
    for (unsigned i = 0; i < r->n_order; i++) {
        struct ref_seq *s = r->order[i];
        uint32_t n = ref_wants(s, left);

        ref_allocate(r, s, ref_blocks(s->computed + n) - ref_blocks(s->computed));
        s->fresh = !s->joined;
        left -= n;
        ref_take(r, s, n);
    }
    while (!preempted && r->n_line > 0 && left > 0 && r->n_order < r->o.max_seqs) {
        struct ref_seq *s = r->line[0];

        if (!ref_admit(r, s, left))
            break;
        s->fresh = true;
        ref_del(r->line, &r->n_line, s);
        r->order[r->n_order++] = s;
        left -= s->chunk;
    }
    if (r->n_order == 0)
        return r->now;
    for (unsigned i = 0; i < r->n_order; i++) {
        struct ref_seq *s = r->order[i];

        if (s->fresh) {
            prefill += s->chunk;
            pairs += (uint64_t)s->chunk * (2 * (uint64_t)s->computed + s->chunk);
        } else {
            decode++;
            ctx += s->computed + 1;
        }
    }
    compute = (prefill + decode) * ref_ps(r, r->o.c1);
    return r->now + ref_ps(r, r->o.t0) +
           (compute > ref_ps(r, r->o.w) ? compute : ref_ps(r, r->o.w)) +
           ref_ps(r, r->o.c3) * ctx + ref_ps(r, r->o.c4) * pairs / 2;
}

static inline void ref_commit(struct ref *r, uint64_t end)
{
    usec_t at = (usec_t)((end + REF_PS - 1) / REF_PS);
    struct ref_seq **over = mem_new_n(struct ref_seq *, r->n_order + 1);
    unsigned n = 0;

    for (int fresh = 0; fresh < 2; fresh++) /* those that decode leave first */
        for (unsigned i = 0; i < r->n_order; i++) {
            struct ref_seq *s = r->order[i];

            if (s->fresh != fresh || s->chunk == 0)
                continue;
            s->computed += s->chunk;
            s->chunk = 0;
            if (s->computed < s->q.prompt + s->q.made)
                continue;
            s->joined = true;
            if (s->q.made++ == 0)
                s->q.first = at;
            if (s->q.made == s->q.out)
                over[n++] = s;
        }
    for (unsigned i = 0; i < n; i++) {
        /* Of those that decode by arrival, as the model's heap has it. */
        unsigned best = i;

        for (unsigned k = i + 1; k < n; k++)
            if (!over[k]->fresh && !over[best]->fresh &&
                over[k]->q._no < over[best]->q._no)
                best = k;
        struct ref_seq *s = over[best];

        over[best] = over[i];
        over[i] = s;
        s->q.ended = at;
        s->over = true;
        ref_leave(r, s);
    }
    mem_free(over);
}
