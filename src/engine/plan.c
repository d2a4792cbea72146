/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/plan.h"
#include "base/limits.h"
#include "base/mem.h"
#include "core/prefix.h"
#include "engine/estimate.h"

/* What a line needs beside its prefix. */
struct ask {
    uint32_t prompt, max_out; /* tokens */
};

struct plan {
    enum dedup_mode dedup;
    uint32_t n, cap, max;
    bool prefixes; /* of this endpoint they are worth it */
    bool out_of_memory;
    struct ask *asks;
    struct prefix *keys;     /* NULL: not of this endpoint */
    struct dedups *dedups;   /* NULL: no line may follow another */
    struct prefix_feed feed; /* of the line at hand */
};

struct plan *plan_new(enum dedup_mode dedup, uint32_t max_lines)
{
    struct plan *p = mem_new(struct plan);

    p->dedup = dedup;
    p->max = max_lines;
    return p;
}

struct plan *plan_free(struct plan *p)
{
    if (!p)
        return NULL;
    mem_free(p->asks);
    mem_free(p->keys);
    dedups_free(p->dedups);
    mem_free(p);
    return NULL;
}

/* What such a server computes for the beginning of a prompt can be used again. */
static bool has_prefixes(enum endpoint ep)
{
    return ep == ENDPOINT_CHAT || ep == ENDPOINT_COMPLETIONS || ep == ENDPOINT_RESPONSES;
}

static bool grow(struct plan *p)
{
    uint32_t cap = p->cap + p->cap / 2 + 1024;
    struct ask *asks = mem_resize(p->asks, (size_t)cap * sizeof *asks);
    struct prefix *keys;

    if (!asks)
        return false;
    p->asks = asks;
    if (p->prefixes) {
        keys = mem_resize(p->keys, (size_t)cap * sizeof *keys);
        if (!keys)
            return false;
        p->keys = keys;
    }
    p->cap = cap;
    return true;
}

static uint32_t in_32_bits(uint64_t n)
{
    return (uint32_t)u64_min(n, UINT32_MAX);
}

static void note_prefix(struct plan *p, const struct line *line)
{
    prefix_begin(&p->feed);
    for (unsigned i = 0; i < PART_PROMPT_END; i++)
        prefix_feed(&p->feed, line->parts[i].raw.p, line->parts[i].raw.n);
    prefix_end(&p->feed, &p->keys[p->n]);
}

void plan_add(void *plan, const struct line *line)
{
    struct plan *p = plan;
    struct estimate_line ask;

    if (p->n == p->max || p->out_of_memory)
        return;
    if (p->n == 0) {
        p->prefixes = has_prefixes(line->endpoint);
        p->dedups = dedups_new(p->dedup, line->endpoint);
    }
    if (p->n == p->cap && !grow(p)) {
        p->out_of_memory = true;
        return;
    }
    estimate_line(line, &ask);
    /* An answer that is no text costs no tokens of its own; 0 would say "not told". */
    p->asks[p->n] =
        (struct ask){in_32_bits(ask.prompt), ask.text ? in_32_bits(ask.max_output) : 1};
    if (p->prefixes)
        note_prefix(p, line);
    if (p->dedups && dedups_add(p->dedups, line, p->n) != RC_OK)
        p->out_of_memory = true;
    p->n++;
}

static enum rc no_memory(const struct plan *p, struct err *e)
{
    return err_set(e, RC_NOMEM, "out of memory for the order of %u requests", p->n);
}

static enum rc write_in_order(const struct plan *p, struct index_writer *w,
                              const uint32_t *order, const uint32_t *shared,
                              struct err *e)
{
    enum rc rc = RC_OK;

    for (uint32_t k = 0; k < p->n && rc == RC_OK; k++) {
        uint32_t i = order[k];
        const struct prefix *key = &p->keys[i];
        struct index_place place = {.item = i,
                                    .prompt = p->asks[i].prompt,
                                    .max_out = p->asks[i].max_out,
                                    .key = key->key};

        /* Tokens and bytes go together, also where the prompt is token numbers. */
        if (key->length)
            place.shared = (uint32_t)((uint64_t)place.prompt * shared[k] / key->length);
        rc = index_order(w, &place, e);
    }
    return rc;
}

static enum rc write_sorted(const struct plan *p, struct index_writer *w, struct err *e)
{
    uint32_t *order = mem_try((size_t)p->n * 2 * sizeof *order), *shared;
    enum rc rc;

    if (!order)
        return no_memory(p, e);
    shared = order + p->n;
    rc = prefix_sort(p->keys, p->n, order, shared);
    rc = rc == RC_OK ? write_in_order(p, w, order, shared, e) : no_memory(p, e);
    mem_free(order);
    return rc;
}

static enum rc write_as_they_are(const struct plan *p, struct index_writer *w,
                                 struct err *e)
{
    enum rc rc = RC_OK;

    for (uint32_t i = 0; i < p->n && rc == RC_OK; i++) {
        struct index_place place = {
            .item = i, .prompt = p->asks[i].prompt, .max_out = p->asks[i].max_out};

        rc = index_order(w, &place, e);
    }
    return rc;
}

enum rc plan_write(struct plan *p, struct index_writer *w, struct err *e)
{
    enum rc rc = RC_OK;

    if (p->out_of_memory)
        return no_memory(p, e);
    if (p->n > 0)
        rc = p->prefixes ? write_sorted(p, w, e) : write_as_they_are(p, w, e);
    return rc == RC_OK && p->dedups ? dedups_write(p->dedups, w, e) : rc;
}
