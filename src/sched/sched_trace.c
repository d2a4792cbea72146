/* SPDX-License-Identifier: Apache-2.0 */
#include "sched/sched_trace.h"
#include "sched/sched_int.h"

#include <string.h>

#define MAGIC "batchd sched trace 1\n"

/* --- Writing ------------------------------------------------------------------------- */

static size_t put_varint(uint8_t *p, uint64_t v)
{
    size_t n = 0;

    while (v >= 0x80) {
        p[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    p[n++] = (uint8_t)v;
    return n;
}

static uint64_t zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0);
}

void trace_put(const struct trace_out *to, enum trace_kind kind, const int64_t *v,
               unsigned n, const double *d, unsigned nd)
{
    uint8_t b[3 + TRACE_MAX * 10 + 8 * 8 + 10];
    size_t used = 0;

    CHECK(n <= TRACE_MAX && nd <= 8);
    b[used++] = (uint8_t)kind;
    used += put_varint(b + used, n);
    for (unsigned i = 0; i < n; i++)
        used += put_varint(b + used, zigzag(v[i]));
    b[used++] = (uint8_t)nd;
    for (unsigned i = 0; i < nd; i++) {
        uint64_t bits;

        memcpy(&bits, &d[i], sizeof bits);
        for (unsigned k = 0; k < 8; k++)
            b[used++] = (uint8_t)(bits >> (8 * k));
    }
    to->fn(to->ctx, b, used);
}

void trace_upstream(const struct trace_out *to, const struct sched_upstream_opts *o,
                    uint16_t handle)
{
    const int64_t v[] = {o->window, o->start, o->fixed, o->aborts, handle};
    const double d[] = {o->requests_per_min, o->tokens_per_min, o->reserve};

    trace_put(to, TRACE_UPSTREAM, v, COUNTOF(v), d, COUNTOF(d));
}

void trace_sampled(const struct trace_out *to, uint16_t up, const struct sched_sample *m,
                   usec_t now)
{
    const int64_t v[] = {now, up, m != NULL};
    double d[6] = {0};

    if (m) {
        d[0] = m->running, d[1] = m->waiting, d[2] = m->kv, d[3] = m->preemptions;
        d[4] = m->prefix_hits, d[5] = m->prefix_queries;
    }
    trace_put(to, TRACE_SAMPLED, v, COUNTOF(v), d, COUNTOF(d));
}

void trace_limited(const struct trace_out *to, uint16_t up, const struct sched_limits *l,
                   usec_t now)
{
    const int64_t v[] = {now, up, l->requests_reset, l->tokens_reset};
    const double d[] = {l->requests, l->requests_left, l->tokens, l->tokens_left};

    trace_put(to, TRACE_LIMITED, v, COUNTOF(v), d, COUNTOF(d));
}

static void put_lines(const struct trace_out *to, const struct sched_batch_opts *o)
{
    int64_t v[TRACE_MAX];
    unsigned n = 0;

    for (uint32_t i = 0; o->items && i < o->n_items; i++) {
        v[n++] = o->items[i].item;
        v[n++] = o->items[i].prompt;
        v[n++] = o->items[i].shared;
        v[n++] = o->items[i].max_out;
        if (n + 4 > TRACE_MAX || i + 1 == o->n_items) {
            trace_put(to, TRACE_LINES, v, n, NULL, 0);
            n = 0;
        }
    }
    for (uint32_t i = 0; o->items && o->keys && i < o->n_items; i++) {
        v[n++] = (int64_t)o->keys[i];
        if (n == TRACE_MAX || i + 1 == o->n_items) {
            trace_put(to, TRACE_KEYS, v, n, NULL, 0);
            n = 0;
        }
    }
}

/* Bits of items: as many as the greatest ordinal needs. */
static uint32_t n_ordinals(const struct sched_batch_opts *o)
{
    uint32_t n = o->n_items;

    for (uint32_t i = 0; o->items && i < o->n_items; i++)
        if (o->items[i].item >= n)
            n = o->items[i].item + 1;
    return n;
}

void trace_batch(const struct trace_out *to, const struct sched_batch_opts *o,
                 uint32_t handle, usec_t now)
{
    int64_t v[TRACE_MAX] = {now,       handle,      o->n_items, o->deadline,
                            o->window, o->priority, o->paused,  o->idle,
                            o->once,   o->hold,     o->group};
    uint32_t bytes = (n_ordinals(o) + 7) / 8;
    unsigned n = 0;

    put_lines(to, o);
    for (uint32_t i = 0; o->done && i < bytes; i += TRACE_MAX) {
        int64_t bits[TRACE_MAX];

        for (n = 0; n < TRACE_MAX && i + n < bytes; n++)
            bits[n] = o->done[i + n];
        trace_put(to, TRACE_DONE_BITS, bits, n, NULL, 0);
    }
    for (n = 0; o->upstreams && n < SET_WORDS; n++)
        v[11 + n] = (int64_t)o->upstreams->w[n];
    trace_put(to, TRACE_BATCH, v, 11 + n, NULL, 0);
}

void trace_set(const struct trace_out *to, uint32_t batch, const struct sched_set *set)
{
    int64_t v[1 + SET_WORDS] = {batch};
    unsigned n = 0;

    for (; set && n < SET_WORDS; n++)
        v[1 + n] = (int64_t)set->w[n];
    trace_put(to, TRACE_SET, v, 1 + n, NULL, 0);
}

/* In pieces: what a call of sched_next with a great `max` gave, smaller ones give too. */
void trace_tickets(const struct trace_out *to, enum trace_kind kind, size_t max,
                   usec_t now, const struct sched_ticket *t, size_t n)
{
    int64_t v[TRACE_MAX];
    unsigned k = 0;

    v[k++] = (int64_t)max;
    if (kind == TRACE_NEXT)
        v[k++] = now;
    for (size_t i = 0; i < n && k + 5 <= TRACE_MAX; i++) {
        v[k++] = t[i].call;
        v[k++] = t[i].batch;
        v[k++] = t[i].item;
        v[k++] = t[i].upstream;
        v[k++] = t[i].attempt;
    }
    trace_put(to, kind, v, k, NULL, 0);
}

void sched_trace(struct sched *s, sched_trace_fn *fn, void *ctx)
{
    const struct sched_opts *o = &s->o;

    s->trace = (struct trace_out){fn, ctx};
    if (!fn)
        return;
    fn(ctx, MAGIC, strlen(MAGIC));
    TRACE(s, NEW, o->max_attempts, o->backoff_base, o->backoff_cap, o->probe_base,
          o->probe_cap, o->retry_after_cap, (int64_t)o->seed);
}
