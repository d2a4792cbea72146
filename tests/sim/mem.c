/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replaces base/mem.c: blocks of the life and of the world lie apart, so that a crash drops
 * all memory of the process at once, and what an orderly end leaves behind is counted.  With
 * the address sanitizer each block is one of malloc's, so that it sees what it must.
 */
#include "base/mem.h"
#include "base/list.h"
#include "tests/sim/world.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { CLASSES = 28, CLASS_MIN = 5 }; /* powers of two from 32 bytes on */
#define ARENA_BYTES ((size_t)4 << 30) /* of addresses; what is touched is what it costs */

struct block {
    struct list link; /* sanitizer: in the arena; else .next: in the list of free ones */
    size_t n;
    uint16_t arena, class;
    uint32_t used;
};

struct room {
    char *base;
    size_t n;
    struct block *free[CLASSES];
    size_t blocks;
    struct list all;
};

static struct room rooms[2];
static enum arena current;

enum arena arena_use(enum arena a)
{
    enum arena old = current;

    current = a;
    return old;
}

size_t arena_blocks(enum arena a)
{
    return rooms[a].blocks;
}

#ifdef __SANITIZE_ADDRESS__
static struct block *take(struct room *r, unsigned class, size_t n)
{
    struct block *b = malloc(sizeof *b + n);

    (void)class;
    CHECK(b);
    if (!r->all.next)
        list_init(&r->all);
    list_add_tail(&r->all, &b->link);
    return b;
}

static void give(struct room *r, struct block *b)
{
    (void)r;
    list_del(&b->link);
    free(b);
}

void arena_drop(enum arena a)
{
    struct room *r = &rooms[a];
    struct list *node;

    while (r->all.next && (node = list_pop(&r->all)))
        free(list_entry(node, struct block, link));
    r->blocks = 0;
}
#else
static struct block *take(struct room *r, unsigned class, size_t n)
{
    struct block *b = r->free[class];
    size_t whole = sizeof *b + ((size_t)1 << (class + CLASS_MIN));

    (void)n;
    if (b) {
        r->free[class] = (struct block *)(void *)b->link.next;
        return b;
    }
    if (!r->base) {
        r->base = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        CHECK(r->base != MAP_FAILED);
    }
    CHECK(r->n + whole <= ARENA_BYTES);
    b = (struct block *)(void *)(r->base + r->n);
    r->n += whole;
    return b;
}

static void give(struct room *r, struct block *b)
{
    b->link.next = (struct list *)(void *)r->free[b->class];
    r->free[b->class] = b;
}

void arena_drop(enum arena a)
{
    struct room *r = &rooms[a];

    r->n = r->blocks = 0;
    memset(r->free, 0, sizeof r->free);
}
#endif

static unsigned class_of(size_t n)
{
    unsigned class = 0;

    while (((size_t)1 << (class + CLASS_MIN)) < n)
        class ++;
    CHECK(class < CLASSES);
    return class;
}

static void *block_new(enum arena a, size_t n)
{
    unsigned class = class_of(n);
    struct block *b = take(&rooms[a], class, n);

    b->n = n;
    b->arena = (uint16_t)a;
    b->class = (uint16_t) class;
    b->used = 1;
    rooms[a].blocks++;
    return b + 1;
}

void *mem_try(size_t n)
{
    return block_new(current, n);
}

void *mem_alloc(size_t n)
{
    return memset(block_new(current, n), 0, n);
}

void *mem_alloc_n(size_t n, size_t size)
{
    CHECK(!size || n <= SIZE_MAX / size);
    return mem_alloc(n * size);
}

void mem_free(void *p)
{
    struct block *b = p;

    if (!p)
        return;
    b--;
    CHECK(b->used == 1);
    b->used = 0;
    rooms[b->arena].blocks--;
    give(&rooms[b->arena], b);
}

void *mem_resize(void *p, size_t n)
{
    struct block *b = p;
    void *more;

    if (!p)
        return mem_try(n);
    b--;
    if (n <= (size_t)1 << (b->class + CLASS_MIN)) {
#ifndef __SANITIZE_ADDRESS__
        b->n = n;
        return p;
#endif
    }
    more = block_new((enum arena)b->arena, n);
    memcpy(more, p, b->n < n ? b->n : n);
    mem_free(p);
    return more;
}

char *mem_dup(const void *p, size_t n)
{
    char *s = mem_alloc(n + 1);

    if (n)
        memcpy(s, p, n);
    return s;
}

void mem_wipe(void *p, size_t n)
{
    explicit_bzero(p, n);
}
