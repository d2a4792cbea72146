/* SPDX-License-Identifier: Apache-2.0 */
#include "http/curlib.h"
#include "base/mem.h"

#include <pthread.h>
#include <string.h>

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

/*
 * libcurl takes some twenty pieces of zeroed memory a request, and glibc's calloc passes its
 * cache by: malloc and memset cost a third of it (measured: 8,000 instructions a request).
 */
static void *zeroed(size_t n, size_t size)
{
    size_t bytes;
    void *p;

    if (__builtin_mul_overflow(n, size, &bytes))
        return NULL;
    p = mem_try(bytes);
    if (p)
        memset(p, 0, bytes);
    return p;
}

static char *copied(const char *z)
{
    size_t n = strlen(z) + 1;
    char *p = mem_try(n);

    if (p)
        memcpy(p, z, n);
    return p;
}

static void start(void)
{
    /* It tells a lack of memory, here, as many other things. */
    if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, mem_try, mem_free, mem_resize, copied,
                             zeroed) != CURLE_OK)
        PANIC("libcurl does not start, for which it needs memory: out of memory");
}

void curlib_start(void)
{
    pthread_once(&curl_once, start);
}

void curlib_must(CURLcode code, const char *option)
{
    if (code == CURLE_OUT_OF_MEMORY)
        PANIC("out of memory (%s)", option);
    if (code != CURLE_OK)
        PANIC("libcurl does not take %s: %s", option, curl_easy_strerror(code));
}
