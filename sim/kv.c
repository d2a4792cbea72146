/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/kv.h"
#include "base/mem.h"

struct sim_block {
    uint64_t id;
    uint32_t parent, next; /* next of its hash chain, or of the free ones */
    uint32_t refs; /* of requests that end in it, and of children that are in use */
    uint32_t older, newer; /* idle: in the order of their use */
};

static uint32_t *bucket_of(const struct sim_kv *kv, uint64_t id)
{
    return &kv->buckets[(id * 0x9e3779b97f4a7c15u >> 32) & kv->mask];
}

uint32_t sim_kv_find(const struct sim_kv *kv, uint64_t id)
{
    uint32_t b = *bucket_of(kv, id);

    while (b != SIM_KV_NONE && kv->blocks[b].id != id)
        b = kv->blocks[b].next;
    return b;
}

static void idle_del(struct sim_kv *kv, uint32_t b)
{
    struct sim_block *x = &kv->blocks[b];

    *(x->older == SIM_KV_NONE ? &kv->oldest : &kv->blocks[x->older].newer) = x->newer;
    *(x->newer == SIM_KV_NONE ? &kv->newest : &kv->blocks[x->newer].older) = x->older;
    kv->idle--;
}

static void idle_add(struct sim_kv *kv, uint32_t b)
{
    struct sim_block *x = &kv->blocks[b];

    x->older = kv->newest;
    x->newer = SIM_KV_NONE;
    *(kv->newest == SIM_KV_NONE ? &kv->oldest : &kv->blocks[kv->newest].newer) = b;
    kv->newest = b;
    kv->idle++;
}

void sim_kv_hold(struct sim_kv *kv, uint32_t b)
{
    while (b != SIM_KV_NONE && kv->blocks[b].refs++ == 0) {
        idle_del(kv, b);
        kv->active++;
        b = kv->blocks[b].parent;
    }
}

void sim_kv_release(struct sim_kv *kv, uint32_t b)
{
    while (b != SIM_KV_NONE && --kv->blocks[b].refs == 0) {
        idle_add(kv, b);
        kv->active--;
        b = kv->blocks[b].parent;
    }
}

static void evict(struct sim_kv *kv)
{
    uint32_t b = kv->oldest, *link = bucket_of(kv, kv->blocks[b].id);

    while (*link != b)
        link = &kv->blocks[*link].next;
    *link = kv->blocks[b].next;
    idle_del(kv, b);
    kv->blocks[b].next = kv->free;
    kv->free = b;
}

uint64_t sim_kv_available(const struct sim_kv *kv)
{
    return kv->total - kv->anon - kv->active;
}

void sim_kv_allocate(struct sim_kv *kv, uint64_t n)
{
    CHECK(n <= sim_kv_available(kv));
    kv->anon += n;
    while (kv->anon + kv->active + kv->idle > kv->total)
        evict(kv);
}

uint32_t sim_kv_publish(struct sim_kv *kv, uint64_t id, uint32_t parent)
{
    uint32_t *head = bucket_of(kv, id), b = kv->free;

    if (sim_kv_find(kv, id) != SIM_KV_NONE)
        return SIM_KV_NONE;
    kv->free = kv->blocks[b].next;
    kv->blocks[b] =
        (struct sim_block){.id = id, .parent = parent, .next = *head, .refs = 1};
    *head = b;
    kv->anon--;
    kv->active++;
    return b;
}

uint64_t sim_kv_idle_to(const struct sim_kv *kv, uint32_t leaf)
{
    uint64_t n = 0;

    for (uint32_t b = leaf; b != SIM_KV_NONE && kv->blocks[b].refs == 0;
         b = kv->blocks[b].parent)
        n++;
    return n;
}

void sim_kv_reset(struct sim_kv *kv)
{
    for (uint32_t i = 0; i <= kv->mask; i++)
        kv->buckets[i] = SIM_KV_NONE;
    for (uint32_t i = 0; i < kv->total; i++)
        kv->blocks[i].next = i + 1 < kv->total ? i + 1 : SIM_KV_NONE;
    kv->free = 0;
    kv->oldest = kv->newest = SIM_KV_NONE;
    kv->anon = kv->active = kv->idle = 0;
}

void sim_kv_init(struct sim_kv *kv, uint64_t blocks)
{
    uint64_t buckets = 1;

    CHECK(blocks > 0 && blocks < SIM_KV_NONE / 4);
    while (buckets < 2 * blocks)
        buckets *= 2;
    *kv = (struct sim_kv){.total = blocks, .mask = (uint32_t)(buckets - 1)};
    kv->blocks = mem_new_n(struct sim_block, blocks);
    kv->buckets = mem_new_n(uint32_t, buckets);
    sim_kv_reset(kv);
}

void sim_kv_done(struct sim_kv *kv)
{
    mem_free(kv->blocks);
    mem_free(kv->buckets);
}
