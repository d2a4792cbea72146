/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"
#include "base/mem.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

struct cell {
    char *key; /* NULL: free */
    size_t n;
    uint64_t hash;
    void *value;
};

struct map {
    struct cell *cells;
    size_t cap; /* power of two */
    size_t len;
};

struct map *map_new(void)
{
    struct map *m = mem_new(struct map);

    m->cap = 16;
    m->cells = mem_new_n(struct cell, m->cap);
    return m;
}

struct map *map_free(struct map *m)
{
    if (!m)
        return NULL;
    for (size_t i = 0; i < m->cap; i++)
        mem_free(m->cells[i].key);
    mem_free(m->cells);
    mem_free(m);
    return NULL;
}

static struct cell *find(const struct map *m, struct str key, uint64_t hash)
{
    size_t i = hash & (m->cap - 1);

    while (m->cells[i].key &&
           !(m->cells[i].hash == hash &&
             str_eq((struct str){m->cells[i].key, m->cells[i].n}, key)))
        i = (i + 1) & (m->cap - 1);
    return &m->cells[i];
}

static void grow(struct map *m)
{
    struct cell *old = m->cells;
    size_t old_cap = m->cap;

    m->cap *= 2;
    m->cells = mem_new_n(struct cell, m->cap);
    for (size_t i = 0; i < old_cap; i++)
        if (old[i].key)
            *find(m, (struct str){old[i].key, old[i].n}, old[i].hash) = old[i];
    mem_free(old);
}

void *map_get(const struct map *m, struct str key)
{
    return find(m, key, XXH3_64bits(key.p, key.n))->value;
}

void *map_put(struct map *m, struct str key, void *value)
{
    uint64_t hash = XXH3_64bits(key.p, key.n);
    struct cell *c;
    void *old;

    if ((m->len + 1) * 4 > m->cap * 3)
        grow(m);
    c = find(m, key, hash);
    if (!c->key) {
        c->key = mem_dup(key.p, key.n);
        c->n = key.n;
        c->hash = hash;
        m->len++;
    }
    old = c->value;
    c->value = value;
    return old;
}

/* Linear probing without tombstones: the cells behind the hole are moved up when their
 * home is not between the hole and them (Knuth, TAOCP 3, 6.4 R). */
void *map_del(struct map *m, struct str key)
{
    size_t mask = m->cap - 1, hole, i;
    struct cell *c = find(m, key, XXH3_64bits(key.p, key.n));
    void *value = c->value;

    if (!c->key)
        return NULL;
    mem_free(c->key);
    m->len--;
    hole = i = (size_t)(c - m->cells);
    m->cells[hole] = (struct cell){0};
    for (;;) {
        size_t home;

        i = (i + 1) & mask;
        if (!m->cells[i].key)
            return value;
        home = m->cells[i].hash & mask;
        if (((i - home) & mask) < ((i - hole) & mask))
            continue;
        m->cells[hole] = m->cells[i];
        m->cells[i] = (struct cell){0};
        hole = i;
    }
}

size_t map_len(const struct map *m)
{
    return m->len;
}

void *map_next(const struct map *m, size_t *cursor)
{
    while (*cursor < m->cap) {
        const struct cell *c = &m->cells[(*cursor)++];

        if (c->key)
            return c->value;
    }
    return NULL;
}
