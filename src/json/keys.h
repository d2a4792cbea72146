/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keys: the keys of the objects that are open while a text is read, to find one that is
 * there twice; private to json/.
 *
 * A stack: the keys of the innermost object lie on top.  Few keys are compared one by
 * one; an object with many gets its keys into one hash table, seeded at random so that
 * nobody can send keys that collide. Owns:   its memory, none before the 65th key that is
 * open at once. Errors: RC_CONFLICT the key is there already; RC_NOMEM.
 */
#pragma once

#include "base/str.h"

#define KEYS_INLINE       64u
#define KEYS_INLINE_CELLS (2 * KEYS_INLINE)

struct key {
    uint64_t tag; /* hashed: the hash; else the first eight bytes, unescaped */
    uint32_t at;  /* of the quote, in the text */
    uint32_t n : 30, escaped : 1, hashed : 1;
};

struct keys {
    const char *text, *end;
    struct key *list;
    uint32_t *cells;               /* index + 1; 0 is free */
    uint32_t n, cap;               /* of list */
    uint32_t hashed, n_cells;      /* cells used; their number, a power of two or 0 */
    uint64_t seed;                 /* drawn with the first table */
    struct key _list[KEYS_INLINE]; /* left as they are until used: no cost to init */
    uint32_t _cells[KEYS_INLINE_CELLS];
};

void keys_init(struct keys *k, struct str text); /* under 1 GiB */
void keys_done(struct keys *k);

/* Adds a raw key (with its quotes) to the object whose first key is number `base`. */
NODISCARD enum rc keys_add(struct keys *k, uint32_t base, struct str raw, bool escaped);
void keys_leave(struct keys *k, uint32_t base); /* the object is closed */
