/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rig: the engine with its real store, blobs, log and HTTP client against a simulated server
 * in a child process.  What a client sees is asked the way the API asks it.
 */
#pragma once

#include "base/mem.h"
#include "engine/engine.h"
#include "sim/sim.h"
#include "tests/lib/t.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct rig {
    struct store *store;
    struct blobs *blobs;
    struct engine *engine;
    char url[80];
    pid_t sim;
    struct engine_opts o;
};

static atomic_int deaths;

static inline void on_dead(void *ctx, const char *why)
{
    (void)ctx;
    fprintf(stderr, "# dead: %s\n", why);
    atomic_fetch_add(&deaths, 1);
}

/* Starts a simulated server with further flags (NULL-terminated) and reads its URL. */
static inline void sim_start(struct rig *r, const char *const *flags)
{
    static const char lead[] = "batchd sim listening on ";
    char line[128] = "", *argv[24];
    int p[2], n = 0;
    FILE *f;

    OK(pipe(p) == 0);
    fflush(NULL);
    r->sim = fork();
    if (r->sim == 0) {
        static const char *const fixed[] = {"sim", "--listen", "127.0.0.1:0"};

        for (; n < 3; n++)
            argv[n] = mem_dup(fixed[n], strlen(fixed[n]));
        for (; flags && *flags; flags++)
            argv[n++] = mem_dup(*flags, strlen(*flags));
        argv[n] = NULL;
        dup2(p[1], STDOUT_FILENO);
        alarm(120);
        _exit(sim_main(n, argv));
    }
    close(p[1]);
    f = fdopen(p[0], "r");
    OK(f && fgets(line, sizeof line, f) && strncmp(line, lead, sizeof lead - 1) == 0);
    line[strcspn(line, "\n")] = '\0';
    EQ_RC(str_fmt(r->url, sizeof r->url, "%s", line + sizeof lead - 1), RC_OK);
    fclose(f);
}

static inline void rig_open(struct rig *r)
{
    struct err e;
    struct store_sqlite_opts so = {.path = "ledger.db", .on_dead = on_dead};
    struct engine_upstream up = {.url = r->url};

    (void)mkdir("spool", 0700);
    EQ_RC(store_sqlite_open(&so, &r->store, &e), RC_OK);
    EQ_RC(blob_dir_open(".", &r->blobs, &e), RC_OK);
    r->o.store = r->store;
    r->o.blobs = r->blobs;
    r->o.spool = "spool";
    r->o.upstreams = &up;
    r->o.n_upstreams = r->url[0] ? 1 : 0;
    r->o.on_dead = on_dead;
    r->o.retry_base = 5 * USEC_PER_MS;
    r->o.retry_cap = 50 * USEC_PER_MS;
    EQ_RC(engine_new(&r->o, &r->engine, &e), RC_OK);
}

static inline void rig_close(struct rig *r)
{
    r->engine = engine_free(r->engine);
    r->store = store_close(r->store);
    r->blobs = blobs_close(r->blobs);
}

static inline void rig_end(struct rig *r)
{
    rig_close(r);
    if (r->sim) {
        kill(r->sim, SIGTERM);
        waitpid(r->sim, NULL, 0);
    }
    EQ_INT(atomic_load(&deaths), 0);
}

static inline struct id add_file_of(struct rig *r, const char *text, const char *project)
{
    struct file_rec f = {.id = id_make(ID_FILE), .purpose = "batch", .created_at = 1};
    struct blob_sum sum;
    struct blob_put *p;
    struct err e;

    EQ_RC(r->blobs->ops->put(r->blobs->self, &p, &e), RC_OK);
    EQ_RC(r->blobs->ops->write(p, text, strlen(text), &e), RC_OK);
    EQ_RC(r->blobs->ops->commit(p, f.id.z, &sum, &e), RC_OK);
    EQ_RC(str_fmt(f.project.z, sizeof f.project.z, "%s", project), RC_OK);
    f.bytes = sum.bytes;
    f.filename = mem_dup("in.jsonl", 8);
    EQ_RC(r->store->ops->file_add(r->store->self, &f, NULL, &e), RC_OK);
    file_rec_done(&f);
    return f.id;
}

static inline struct id add_file(struct rig *r, const char *text)
{
    return add_file_of(r, text, "");
}

static inline char *lines(unsigned n)
{
    struct buf b;

    buf_init(&b, 64 << 20);
    for (unsigned i = 0; i < n; i++)
        (void)buf_fmt(
            &b,
            "{\"custom_id\": \"r-%u\", \"method\": \"POST\", \"url\": "
            "\"/v1/chat/completions\", \"body\": {\"model\": \"sim-model\", "
            "\"messages\": [{\"role\": \"user\", \"content\": \"line %u\"}]}}\n",
            i, i);
    return buf_take(&b, NULL);
}

static inline struct id add_batch(struct rig *r, struct id file, int64_t window)
{
    struct batch b = {.id = id_make(ID_BATCH),
                      .input_file = file,
                      .endpoint = ENDPOINT_CHAT,
                      .window = "24h",
                      .created_at = clock_wall_sec()};
    struct err e;

    b.expires_at = b.created_at + window;
    EQ_RC(r->store->ops->batch_add(r->store->self, &b, NULL, NULL, &e), RC_OK);
    engine_submit(r->engine, &b.id);
    return b.id;
}

static inline struct batch view(struct rig *r, const struct id *id)
{
    struct batch b = {0};
    struct err e;
    enum rc rc;

    do {
        rc = engine_batch_view(r->engine, NULL, id->z, &b, &e);
    } while (rc == RC_AGAIN && usleep(1000) == 0);
    EQ_RC(rc, RC_OK);
    return b;
}

/* Watches it to its end: counts never fall, completed + failed never exceed total. */
static inline struct batch wait_end(struct rig *r, const struct id *id)
{
    uint32_t done = 0;

    for (;;) {
        struct batch b = view(r, id);

        OK(b.counts.completed + b.counts.failed >= done);
        done = b.counts.completed + b.counts.failed;
        OK(done <= b.counts.total);
        if (batch_terminal(b.status))
            return b;
        batch_done(&b);
        usleep(2000);
    }
}

static inline char *content(struct rig *r, const struct id *file)
{
    struct blob *b;
    struct err e;
    size_t n, got;
    char *p;

    EQ_RC(r->blobs->ops->open(r->blobs->self, file->z, &b, &e), RC_OK);
    n = r->blobs->ops->size(b);
    p = mem_alloc(n + 1);
    EQ_RC(r->blobs->ops->pread(b, p, n, 0, &got, &e), RC_OK);
    EQ_INT(got, n);
    r->blobs->ops->close(b);
    return p;
}

/* Every custom_id r-0..r-(n-1) stands once over both files, in order within each. */
static inline void check_lines(struct rig *r, const struct batch *b, unsigned n)
{
    uint8_t *seen = mem_new_n(uint8_t, n);
    const struct id *files[] = {&b->output_file, &b->error_file};
    unsigned total = 0;

    for (unsigned k = 0; k < 2; k++) {
        char *text, *at;
        long last = -1;

        if (id_none(files[k]))
            continue;
        text = content(r, files[k]);
        for (at = text; (at = strstr(at, "\"custom_id\":\"r-")); total++) {
            long i = strtol(at + 15, &at, 10);

            OK(i > last && i < (long)n && !seen[i]);
            seen[i] = 1;
            last = i;
        }
        mem_free(text);
    }
    EQ_INT(total, n);
    EQ_INT(b->counts.completed + b->counts.failed, n);
    mem_free(seen);
}
