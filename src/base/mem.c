/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

void *mem_alloc_n(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size ? size : 1);

    if (!p)
        PANIC("out of memory (%zu times %zu bytes)", n, size);
    return p;
}

void *mem_alloc(size_t n)
{
    return mem_alloc_n(1, n);
}

void *mem_try(size_t n)
{
    return malloc(n ? n : 1);
}

void *mem_resize(void *p, size_t n)
{
    return realloc(p, n ? n : 1);
}

char *mem_dup(const void *p, size_t n)
{
    char *s = mem_alloc(n + 1);

    if (n)
        memcpy(s, p, n);
    return s;
}

void mem_free(void *p)
{
    free(p);
}

void mem_wipe(void *p, size_t n)
{
    explicit_bzero(p, n);
}
