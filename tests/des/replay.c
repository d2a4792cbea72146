/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay: plays what `batchd serve --sched-trace FILE` recorded against the scheduler as it
 * is built here, and tells whether it decides the same.
 */
#include "base/fsio.h"
#include "base/mem.h"
#include "sched/sched_trace.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    struct sched_replay r;
    struct err e = {0};
    char *bytes = NULL;
    size_t n = 0;

    if (argc != 2) {
        fprintf(stderr, "usage: replay FILE\n");
        return 2;
    }
    if (fs_slurp(argv[1], SIZE_MAX / 2, &bytes, &n, &e) != RC_OK ||
        sched_replay(bytes, n, &r, &e) != RC_OK) {
        fprintf(stderr, "replay: %s\n", e.text);
        return 1;
    }
    printf("%llu calls, %llu tickets over %.1f s, %llu of them another than recorded\n",
           (unsigned long long)r.calls, (unsigned long long)r.tickets,
           (double)(r.to - r.from) / (double)USEC_PER_SEC, (unsigned long long)r.other);
    if (r.other)
        printf("first: %s\n", e.text);
    mem_free(bytes);
    return r.other != 0;
}
