/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map: from a short text key to a pointer; open addressing, XXH3.
 *
 * Owns:    copies of the keys; the values stay the caller's.
 * Threads: one at a time.
 */
#pragma once

#include "base/str.h"

struct map;

struct map *map_new(void);
struct map *map_free(struct map *m);                /* accepts NULL, returns NULL */
void *map_get(const struct map *m, struct str key); /* NULL: not there */
void *map_put(struct map *m, struct str key,
              void *value);                   /* returns the value replaced */
void *map_del(struct map *m, struct str key); /* returns the value taken out */
size_t map_len(const struct map *m);

/* Walks in no order: *cursor starts at 0; NULL ends.  No put or del while walking. */
void *map_next(const struct map *m, size_t *cursor);
