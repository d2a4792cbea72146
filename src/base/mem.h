/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem: the only way to the heap.
 *
 * Small sizes that we choose ourselves abort when memory is out (mem_new, mem_dup: we are
 * crash-only and recovery is tested); sizes that come from outside go through mem_try /
 * mem_resize, which may fail and must be answered with RC_NOMEM.
 * Threads: any.
 */
#pragma once

#include "base/base.h"

NODISCARD void *mem_alloc(size_t n);           /* zeroed; aborts when out of memory */
NODISCARD void *mem_try(size_t n);             /* not zeroed; NULL when out of memory */
NODISCARD void *mem_resize(void *p, size_t n); /* NULL: out of memory, p still valid */
NODISCARD char *mem_dup(const void *p, size_t n); /* copy with a NUL behind; aborts */
void mem_free(void *p);                           /* NULL is fine */
void mem_wipe(void *p, size_t n);                 /* secrets; never optimised away */

/* What a library allocated for us, and nothing goes on without; NULL aborts. */
#define MEM_CHECK(p)                                                                     \
    do {                                                                                 \
        if (UNLIKELY(!(p)))                                                              \
            PANIC("out of memory (%s)", #p);                                             \
    } while (0)

#define mem_new(type)      ((type *)mem_alloc(sizeof(type)))
#define mem_new_n(type, n) ((type *)mem_alloc_n((n), sizeof(type)))
NODISCARD void *mem_alloc_n(size_t n, size_t size); /* zeroed; overflow or OOM aborts */
