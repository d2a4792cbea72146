/* SPDX-License-Identifier: Apache-2.0 */
#include "json/keys.h"
#include "json/json.h"
#include "json/scan.h"
#include "base/id.h"
#include "base/mem.h"

/* Up to here comparing eight bytes with each is quicker than a hash. */
#define FEW 16u

void keys_init(struct keys *k, struct str text)
{
    k->text = text.p;
    k->end = text.p + text.n;
    k->list = k->_list;
    k->cap = KEYS_INLINE;
    k->cells = NULL;
    k->n = k->hashed = k->n_cells = 0;
}

void keys_done(struct keys *k)
{
    if (k->list != k->_list)
        mem_free(k->list);
    if (k->cells != k->_cells)
        mem_free(k->cells);
    k->list = k->_list;
    k->cells = NULL;
}

static struct str raw_of(const struct keys *k, const struct key *key)
{
    return (struct str){k->text + key->at, key->n};
}

static bool same(const struct keys *k, const struct key *a, const struct key *b)
{
    if (a->tag != b->tag)
        return false;
    if (a->escaped || b->escaped)
        return json_str_eq(raw_of(k, a), raw_of(k, b));
    return a->n == b->n && memcmp(k->text + a->at, k->text + b->at, a->n) == 0;
}

/* --- The table ----------------------------------------------------------------------
 * Linear probing.  Keys leave in the opposite order of their coming, so a cell is freed
 * by emptying it: whatever was pushed further by it came later and is gone already.
 * Growing puts them in again in the order of the stack, which keeps that true. */

static uint32_t *cell_of(struct keys *k, uint64_t hash, uint32_t value)
{
    uint32_t i = (uint32_t)hash & (k->n_cells - 1);

    while (k->cells[i] != value)
        i = (i + 1) & (k->n_cells - 1);
    return &k->cells[i];
}

static bool grow_table(struct keys *k)
{
    uint32_t n = k->n_cells ? 2 * k->n_cells : KEYS_INLINE_CELLS;
    uint32_t *cells = k->n_cells ? mem_try(n * sizeof *cells) : k->_cells;

    if (!cells)
        return false;
    if (!k->n_cells)
        random_bytes(&k->seed, sizeof k->seed);
    if (k->cells != k->_cells)
        mem_free(k->cells);
    memset(cells, 0, n * sizeof *cells);
    k->cells = cells;
    k->n_cells = n;
    for (uint32_t i = 0; i < k->n; i++)
        if (k->list[i].hashed)
            *cell_of(k, k->list[i].tag, 0) = i + 1;
    return true;
}

/* Takes key i into the table, when no key of its object (from base on) says the same. */
static enum rc table_add(struct keys *k, uint32_t base, uint32_t i)
{
    struct key *key = &k->list[i];
    uint32_t at;

    if (2 * (k->hashed + 1) > k->n_cells && !grow_table(k))
        return RC_NOMEM;
    /* The same key in each of many nested objects: base keeps them apart. */
    key->tag = json_str_hash(raw_of(k, key), k->seed + base);
    for (at = (uint32_t)key->tag & (k->n_cells - 1); k->cells[at];
         at = (at + 1) & (k->n_cells - 1)) {
        uint32_t other = k->cells[at] - 1;

        if (other >= base && same(k, key, &k->list[other]))
            return RC_CONFLICT;
    }
    k->cells[at] = i + 1;
    key->hashed = 1;
    k->hashed++;
    return RC_OK;
}

/* --- The stack ---------------------------------------------------------------------- */

static bool grow_list(struct keys *k)
{
    size_t bytes = (size_t)k->cap * 2 * sizeof *k->list;
    struct key *list = k->list == k->_list ? mem_try(bytes) : mem_resize(k->list, bytes);

    if (!list)
        return false;
    if (k->list == k->_list)
        memcpy(list, k->_list, sizeof k->_list);
    k->list = list;
    k->cap *= 2;
    return true;
}

/* The first eight bytes of what the key says, with zeros behind a shorter one. */
static uint64_t prefix(const struct keys *k, struct str raw, bool escaped)
{
    const char *p = raw.p + 1, *end = p + raw.n - 2;
    char at[12] = {0};
    uint64_t w;

    if (escaped) {
        for (unsigned i = 0; i < 8 && p < end;)
            i += scan_put(at + i, scan_char(&p, end));
    } else if (LIKELY(k->end - p >= 8)) {
        unsigned over = end - p < 8 ? 8 * (8 - (unsigned)(end - p)) : 0;

        memcpy(&w, p, 8);
        if (over == 64)
            return 0;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        return w >> over << over;
#else
        return w << over >> over;
#endif
    } else {
        memcpy(at, p, (size_t)(end - p));
    }
    memcpy(&w, at, 8);
    return w;
}

enum rc keys_add(struct keys *k, uint32_t base, struct str raw, bool escaped)
{
    struct key *key;
    uint32_t members = k->n - base;
    enum rc rc;

    if (k->n == k->cap && !grow_list(k))
        return RC_NOMEM;
    key = &k->list[k->n];
    *key = (struct key){.at = (uint32_t)(raw.p - k->text),
                        .n = (uint32_t)raw.n & 0x3fffffff,
                        .escaped = escaped};
    k->n++;
    if (members < FEW) {
        key->tag = prefix(k, raw, escaped);
        for (uint32_t i = base; i < k->n - 1; i++)
            if (same(k, key, &k->list[i]))
                return RC_CONFLICT;
        return RC_OK;
    }
    for (uint32_t i = members == FEW ? base : k->n - 1; i < k->n; i++) {
        rc = table_add(k, base, i);
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

void keys_leave(struct keys *k, uint32_t base)
{
    while (k->n > base) {
        struct key *key = &k->list[--k->n];

        if (key->hashed) {
            *cell_of(k, key->tag, k->n + 1) = 0;
            k->hashed--;
        }
    }
}
