/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kv: the KV memory of sim/model, in blocks: anonymous ones, of which only the number counts,
 * and ones with an id, which others can find and which stay when nobody uses them until their
 * memory is wanted; the least recently used go first.
 *
 * What is cached is closed under prefixes: a block in use keeps the one before it (its
 * parent) in use, and idle ones are let go child first, so that the least recently used has
 * no child.  Hence the longest cached chain can be found by bisection, and a request holds
 * its last block only.
 *
 * Owns:    the blocks.
 * Threads: one at a time.
 */
#pragma once

#include "base/base.h"

#define SIM_KV_NONE UINT32_MAX

struct sim_kv {
    uint64_t total, anon, active, idle; /* blocks; the last two have an id */
    /* private */
    struct sim_block *blocks;
    uint32_t *buckets;
    uint32_t mask, free, oldest, newest;
};

void sim_kv_init(struct sim_kv *kv, uint64_t blocks);
void sim_kv_done(struct sim_kv *kv);
void sim_kv_reset(struct sim_kv *kv); /* all of it is free */

uint64_t sim_kv_available(const struct sim_kv *kv); /* free or idle */
/* n anonymous ones; so many are available.  They are given back by `anon`. */
void sim_kv_allocate(struct sim_kv *kv, uint64_t n);
/* Gives an anonymous block that is held an id; SIM_KV_NONE: another has it.  The reference
 * to the parent (SIM_KV_NONE: it is the first) becomes one to the block. */
uint32_t sim_kv_publish(struct sim_kv *kv, uint64_t id, uint32_t parent);
uint32_t sim_kv_find(const struct sim_kv *kv, uint64_t id); /* SIM_KV_NONE: not cached */
/* A reference to a block, and so to those before it; of SIM_KV_NONE: nothing. */
void sim_kv_hold(struct sim_kv *kv, uint32_t block);
void sim_kv_release(struct sim_kv *kv, uint32_t block);
/* How many of the chain that ends there are idle. */
uint64_t sim_kv_idle_to(const struct sim_kv *kv, uint32_t block);
