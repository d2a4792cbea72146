/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/reslog: what a result costs on its way to the disk and back.
 *
 *     make benches && build/release/bench/reslog [DIR [RECORDS [PAYLOAD]]]
 */
#include "base/clock.h"
#include "base/fsio.h"
#include "base/mem.h"
#include "store/reslog.h"

#include <stdio.h>
#include <stdlib.h>

static struct reslog_place *places;
static uint32_t n_seen;

static void seen(void *ctx, const struct reslog_rec *r, const struct reslog_place *at)
{
    (void)ctx;
    places[r->item] = *at;
    n_seen++;
}

static void must(enum rc rc, const struct err *e)
{
    if (rc == RC_OK)
        return;
    fprintf(stderr, "%s: %s\n", rc_name(rc), e->text);
    exit(1);
}

static double secs(usec_t from)
{
    return (double)(clock_mono() - from) / 1e6;
}

static void fill(struct reslog *l, uint32_t n, struct str payload, struct err *e)
{
    usec_t append = 0, commit = 0, t;
    uint32_t commits = 0;

    for (uint32_t i = 0; i < n;) {
        t = clock_mono();
        for (unsigned k = 0; k < 600 && i < n; k++, i++) {
            struct reslog_rec r = {.item = i,
                                   .kind = RESULT_OUTPUT,
                                   .has_usage = true,
                                   .usage = {100, 50, 200, 0, 300},
                                   .payload = payload};

            must(reslog_append(l, &r), e);
        }
        append += clock_mono() - t;
        t = clock_mono();
        must(reslog_commit(l, reslog_cut(l), e), e);
        commit += clock_mono() - t;
        commits++;
    }
    printf("append      %.0f ns a record\n", (double)append * 1e3 / n);
    printf("commit      %.2f ms each, %u of them\n", (double)commit / 1e3 / commits,
           commits);
}

static void read_back(struct reslog *l, uint32_t n, size_t len, struct err *e)
{
    static const char *const names[] = {"in log order", "jitter of 512", "at random"};
    char *dst = mem_alloc(len);

    for (unsigned mode = 0; mode < 3; mode++) {
        uint64_t x = 88172645463325252u;
        uint32_t count = mode == 2 ? n / 10 : n;
        usec_t t = clock_mono();

        for (uint32_t i = 0; i < count; i++) {
            uint32_t k = i;

            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            if (mode == 1)
                k = (uint32_t)u64_min(n - 1, i + x % 512);
            else if (mode == 2)
                k = (uint32_t)(x % n);
            must(reslog_read(l, &places[k], dst, e), e);
        }
        printf("read        %.2f us a record %s\n", secs(t) * 1e6 / count, names[mode]);
    }
    mem_free(dst);
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : ".";
    uint32_t n = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 500000;
    size_t len = argc > 3 ? strtoul(argv[3], NULL, 10) : 1700;
    struct id id = id_make(ID_BATCH);
    char *payload = mem_alloc(len);
    struct reslog *l;
    struct err e = {{0}};
    uint64_t damaged;
    usec_t t;

    memset(payload, 'x', len);
    places = mem_new_n(struct reslog_place, n);
    must(reslog_create(dir, &id, n, &l, &e), &e);
    fill(l, n, (struct str){payload, len}, &e);
    reslog_close(l);
    for (unsigned i = 0; i < 3; i++) {
        t = clock_mono();
        must(reslog_open(dir, &id, n, seen, NULL, &l, &damaged, &e), &e);
        printf("open        %.3f s, %u records, %llu damaged\n", secs(t), n_seen,
               (unsigned long long)damaged);
        n_seen = 0;
        if (i < 2)
            reslog_close(l);
    }
    t = clock_mono();
    must(reslog_scan(l, seen, NULL, &damaged, &e), &e);
    printf("scan        %.3f s\n", secs(t));
    read_back(l, n, len, &e);
    reslog_close(l);
    must(reslog_remove(dir, &id, &e), &e);
    mem_free(payload);
    mem_free(places);
    return 0;
}
