/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/dedup.h"
#include "base/mem.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* 128 bits of what it asks: that two of 2^27 lines that differ have the same is as likely
 * as 2^-75. */
struct asked {
    uint64_t hash[2];
    uint32_t item;
};

struct dedups {
    bool judge; /* each line, whether its answer would be the same again */
    uint32_t n, cap;
    struct asked *all;
};

struct dedups *dedups_new(enum dedup_mode mode, enum endpoint ep)
{
    bool pure = ep == ENDPOINT_EMBEDDINGS || ep == ENDPOINT_MODERATIONS;
    bool text =
        ep == ENDPOINT_CHAT || ep == ENDPOINT_COMPLETIONS || ep == ENDPOINT_RESPONSES;
    struct dedups *d;

    if (mode == DEDUP_OFF || (!pure && !(text && mode == DEDUP_DETERMINISTIC)))
        return NULL;
    d = mem_new(struct dedups);
    d->judge = text;
    return d;
}

struct dedups *dedups_free(struct dedups *d)
{
    if (d)
        mem_free(d->all);
    mem_free(d);
    return NULL;
}

/* --- One line ------------------------------------------------------------------------ */

static bool is_there(const struct json_val *v)
{
    return v->type != JSON_NONE && v->type != JSON_NULL &&
           !(v->type == JSON_ARRAY && v->count == 0);
}

/* 0, 0.0, -0e5: only zeros before an exponent. */
static bool is_zero(const struct json_val *v)
{
    if (v->type != JSON_NUMBER)
        return false;
    for (size_t i = 0; i < v->raw.n; i++) {
        char c = v->raw.p[i];

        if (c == 'e' || c == 'E')
            break;
        if (c != '0' && c != '.' && c != '-')
            return false;
    }
    return true;
}

/* Nothing is drawn, one answer is wanted, and nothing happens but the answer. */
static bool is_deterministic(const struct line *line)
{
    const struct json_val *n = &line->parts[PART_N];

    return is_zero(&line->parts[PART_TEMPERATURE]) &&
           (!is_there(n) || str_eq(n->raw, STR("1"))) &&
           !is_there(&line->parts[PART_TOOLS]) &&
           !is_there(&line->parts[PART_FUNCTIONS]) &&
           !is_there(&line->parts[PART_CONVERSATION]);
}

/* The values to be left out, in the order in which they stand in the body. */
static unsigned remarks_of(const struct line *line,
                           struct str ret[PART_COUNT - PART_REMARKS])
{
    unsigned n = 0;

    for (unsigned i = PART_REMARKS; i < PART_COUNT; i++) {
        struct str v = line->parts[i].raw;
        unsigned k = n;

        if (line->parts[i].type == JSON_NONE)
            continue;
        for (; k > 0 && ret[k - 1].p > v.p; k--)
            ret[k] = ret[k - 1];
        ret[k] = v;
        n++;
    }
    return n;
}

static XXH128_hash_t hash_of(const struct line *line)
{
    struct str remarks[PART_COUNT - PART_REMARKS];
    unsigned n = remarks_of(line, remarks);
    const char *p = line->body.p;
    XXH3_state_t state;

    if (n == 0)
        return XXH3_128bits(line->body.p, line->body.n);
    (void)XXH3_128bits_reset(&state);
    for (unsigned i = 0; i < n; i++) {
        (void)XXH3_128bits_update(&state, p, (size_t)(remarks[i].p - p));
        p = remarks[i].p + remarks[i].n;
    }
    (void)XXH3_128bits_update(&state, p, (size_t)(line->body.p + line->body.n - p));
    return XXH3_128bits_digest(&state);
}

enum rc dedups_add(struct dedups *d, const struct line *line, uint32_t item)
{
    XXH128_hash_t hash;

    if (d->judge && !is_deterministic(line))
        return RC_OK;
    if (d->n == d->cap) {
        uint32_t cap = d->cap + d->cap / 2 + 1024;
        struct asked *more = mem_resize(d->all, (size_t)cap * sizeof *more);

        if (!more)
            return RC_NOMEM;
        d->all = more;
        d->cap = cap;
    }
    hash = hash_of(line);
    d->all[d->n++] = (struct asked){{hash.low64, hash.high64}, item};
    return RC_OK;
}

/* --- All of them ---------------------------------------------------------------------- */

/* The first line that asks the same, remembered when it is this one. */
static const struct asked *first_of(const struct asked *one, const struct asked **cells,
                                    size_t mask)
{
    size_t i = (size_t)one->hash[0] & mask;

    while (cells[i] &&
           (cells[i]->hash[0] != one->hash[0] || cells[i]->hash[1] != one->hash[1]))
        i = (i + 1) & mask;
    if (!cells[i])
        cells[i] = one;
    return cells[i];
}

static int by_leader(const void *a, const void *b)
{
    const struct index_follower *x = a, *y = b;

    if (x->leader != y->leader)
        return x->leader < y->leader ? -1 : 1;
    return (x->item > y->item) - (x->item < y->item);
}

/* Fills `found`; how many follow. */
static uint32_t find(const struct dedups *d, const struct asked **cells, size_t mask,
                     struct index_follower *found)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < d->n; i++) {
        const struct asked *first = first_of(&d->all[i], cells, mask);

        if (first != &d->all[i])
            found[n++] =
                (struct index_follower){.item = d->all[i].item, .leader = first->item};
    }
    qsort(found, n, sizeof *found, by_leader);
    return n;
}

enum rc dedups_write(const struct dedups *d, struct index_writer *w, struct err *e)
{
    const struct asked **cells;
    struct index_follower *found;
    size_t size = 16;
    enum rc rc = RC_OK;
    uint32_t n;

    while (size < (size_t)d->n * 2)
        size *= 2;
    cells = mem_try(size * sizeof *cells);
    found = mem_try(((size_t)d->n + 1) * sizeof *found);
    if (cells && found) {
        memset(cells, 0, size * sizeof *cells);
        n = find(d, cells, size - 1, found);
        for (uint32_t i = 0; i < n && rc == RC_OK; i++)
            rc = index_follow(w, &found[i], e);
    } else {
        rc = err_set(e, RC_NOMEM, "out of memory to find equal ones among %u requests",
                     d->n);
    }
    mem_free(cells);
    mem_free(found);
    return rc;
}
