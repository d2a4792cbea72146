/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/store: reads and durable changes of the ledger a second.
 *
 *     make benches && build/release/bench/store [DIR]
 */
#include "base/clock.h"
#include "base/fsio.h"
#include "base/mem.h"
#include "store/store.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define BATCHES 8192u

static struct store *st;
static struct id ids[BATCHES];

static void must(enum rc rc, const struct err *e)
{
    if (rc == RC_OK)
        return;
    fprintf(stderr, "%s: %s\n", rc_name(rc), e->text);
    exit(1);
}

static void fill(void)
{
    char metadata[] = "{\"project\":\"nightly\",\"owner\":\"someone\"}";
    struct file_rec f = {.id = id_make(ID_FILE), .purpose = "batch", .created_at = 1};
    struct err e;

    must(st->ops->file_add(st->self, &f, NULL, &e), &e);
    for (unsigned i = 0; i < BATCHES; i++) {
        struct batch b = {.id = id_make(ID_BATCH),
                          .input_file = f.id,
                          .window = "24h",
                          .created_at = 1 + i,
                          .expires_at = 86400 + i,
                          .counts = {.total = 50000},
                          .metadata = metadata};

        ids[i] = b.id;
        must(st->ops->batch_add(st->self, &b, NULL, NULL, &e), &e);
    }
}

struct job {
    pthread_t thread;
    unsigned from, to;
};

static void *get_some(void *arg)
{
    struct job *j = arg;
    struct err e;

    for (unsigned i = j->from; i < j->to; i++) {
        struct batch b;

        must(st->ops->batch_get(st->self, NULL, ids[i].z, &b, &e), &e);
        batch_done(&b);
    }
    return NULL;
}

static void *move_some(void *arg)
{
    struct job *j = arg;
    struct batch_counts counts = {50000, 100, 0};
    struct batch_change change = {.model = "some-model", .counts = &counts};
    struct err e;

    for (unsigned i = j->from; i < j->to; i++)
        must(st->ops->batch_move(st->self, NULL, ids[i].z, BATCH_EV_VALID, 100000,
                                 &change, NULL, &e),
             &e);
    return NULL;
}

static void measure(const char *what, void *(*fn)(void *), unsigned threads,
                    unsigned from, unsigned to)
{
    struct job jobs[16];
    usec_t t = clock_mono();
    double took;

    for (unsigned i = 0; i < threads; i++) {
        jobs[i].from = from + (to - from) * i / threads;
        jobs[i].to = from + (to - from) * (i + 1) / threads;
        if (pthread_create(&jobs[i].thread, NULL, fn, &jobs[i]) != 0)
            abort();
    }
    for (unsigned i = 0; i < threads; i++)
        pthread_join(jobs[i].thread, NULL);
    took = (double)(clock_mono() - t) / 1e6;
    printf("%-12s %2u threads  %8.0f/s\n", what, threads, (to - from) / took);
}

int main(int argc, char **argv)
{
    char path[FS_PATH_CAP];
    struct err e = {{0}};
    struct store_sqlite_opts o = {.path = path};

    must(fs_join(path, argc > 1 ? argv[1] : ".", "bench-ledger.db", &e), &e);
    must(fs_unlink(path, &e), &e);
    must(store_sqlite_open(&o, &st, &e), &e);
    fill();
    measure("batch_get", get_some, 1, 0, BATCHES);
    measure("batch_get", get_some, 16, 0, BATCHES);
    measure("batch_move", move_some, 1, 0, BATCHES / 4);
    measure("batch_move", move_some, 16, BATCHES / 4, BATCHES);
    store_close(st);
    must(fs_unlink(path, &e), &e);
    return 0;
}
