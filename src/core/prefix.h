/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prefix: which requests begin alike, and an order in which those stand side by side.
 *
 * Servers keep what they computed for the beginning of a prompt and use it again
 * (RadixAttention, arXiv 2312.07104; vLLM's prefix caching), best when requests come in
 * the depth-first order of the tree of their beginnings.  Here that order is made without
 * the bytes: each key (what a request's prompt is made of) is hashed once, and how the
 * hash stood is noted at PREFIX_LEVELS lengths from 64 bytes to 1 MiB, an eighth of an
 * octave apart at first and half an octave from 64 KiB on.  Two keys share their
 * beginning up to the last length up to which they agree, so what is shared is known to
 * about a tenth, never told too high but for a chance of 1 in 256 of one step.
 *
 * Pure.  The order is a function of the keys alone: two batches with the same beginnings
 * have them in the same order, which is what `key` is for.
 *
 * Threads: any.
 * Memory:  72 bytes a key until they are sorted, and 40 more while prefix_sort runs.
 */
#pragma once

#include "base/base.h"

#define PREFIX_LEVELS 58
#define PREFIX_BLOCK  128 /* the most that is hashed at once */

/* One key.  The bytes of `level` say how its hash stood at each length; behind its end
 * they come from the hash of the whole. */
struct prefix {
    uint64_t key;    /* where it belongs in the order: four bits of the hash at each of 16
                     of the lengths.  Keys of one beginning have the bits of its lengths
                     in common, from the top. */
    uint32_t length; /* bytes */
    uint8_t level[PREFIX_LEVELS];
    uint16_t whole;
};
_Static_assert(sizeof(struct prefix) == 72, "72 bytes a key");

/* A key on its way: begin, feed its bytes in pieces of any size, end. */
struct prefix_feed {
    uint64_t hash, n;  /* of the blocks hashed so far */
    unsigned level;    /* the next one to be noted */
    size_t block, got; /* bytes of the next block, and those in `carry` */
    struct prefix out;
    char carry[PREFIX_BLOCK];
};

void prefix_begin(struct prefix_feed *f);
void prefix_feed(struct prefix_feed *f, const void *bytes, size_t n);
void prefix_end(struct prefix_feed *f, struct prefix *ret);

/* Bytes of the beginning that two keys have in common, rounded down to one of the
 * lengths; all of it when they are the same. */
uint32_t prefix_shared(const struct prefix *a, const struct prefix *b);

/*
 * order[k] is the index (in p) of the k-th of n keys; by `key`, then by the rest of the
 * hashes, then by the index.  shared[k] is what order[k] shares with order[k - 1], in
 * bytes; shared[0] is 0.  RC_NOMEM: nothing was done.
 */
NODISCARD enum rc prefix_sort(const struct prefix *p, uint32_t n, uint32_t *order,
                              uint32_t *shared);
