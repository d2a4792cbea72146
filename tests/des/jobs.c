/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/des/jobs.h"
#include "base/base.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

void *jobs_results(size_t n, size_t bytes)
{
    void *p = mmap(NULL, n * bytes + 1, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    CHECK(p != MAP_FAILED);
    return p;
}

int jobs_run(job_fn *fn, void *ctx, unsigned n, void *results, size_t bytes,
             unsigned jobs)
{
    unsigned *next = jobs_results(1, sizeof *next);
    int good = 1;

    fflush(NULL);
    for (unsigned i = 0; i < jobs; i++) {
        pid_t pid = fork();

        CHECK(pid >= 0);
        if (pid > 0)
            continue;
        for (unsigned k; (k = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < n;)
            fn(ctx, k, (char *)results + k * bytes);
        _exit(0);
    }
    for (unsigned i = 0; i < jobs; i++) {
        int status = 1;

        good &= wait(&status) > 0 && status == 0;
    }
    munmap(next, sizeof *next + 1);
    return good;
}
