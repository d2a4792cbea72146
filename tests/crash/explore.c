/* SPDX-License-Identifier: Apache-2.0 */
/*
 * explore: rebuilds disks that a power cut could have left at every moment of a trace,
 * recovers on each, and looks whether all that clients were told is true.
 *
 *   explore [--states N] [--twice N] [--seed N] [--jobs N] [--dir DIR] [--first]
 *           [--only EVENT:PLAN:SEED] TRACE
 *
 * With --first it ends at the first violation.
 * With --twice, which needs the recorder preloaded, some of the recoveries are recorded, and
 * N disks in all are made that a second power cut, during recovery, could have left.
 *
 * Prints every violation with the words that repeat it, and at the end a row of figures.
 * Exit status: 0 none, 1 violations, 2 it could not be done.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "tests/crash/recovered.h"
#include "tests/crash/world.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <openssl/evp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RECOVERY_SECONDS = 30, DISTINCT = 1 << 22 };

static struct {
    unsigned long states, twice, seed, jobs;
    const char *dir, *trace;
    bool first;
    long only_event;
    int only_plan;
    unsigned long long only_seed;
} opt = {.states = 5000, .seed = 1, .jobs = 2, .dir = "/dev/shm", .only_event = -1};

static const char *const plans[WORLD_PLANS] = {
#define X(name) #name,
    WORLD_PLAN_LIST(X)
#undef X
};

/* One moment of the trace. */
struct event {
    const struct trace_event *e;
    const char *path, *to, *data;
};

struct trace {
    struct event *events;
    size_t n;
    const char *map;
    size_t map_n;
};

static struct trace main_trace;

/* Of the recorder, when it is preloaded. */
static void (*record)(const char *dir, const char *log);

static NORETURN void die(const char *what)
{
    fprintf(stderr, "explore: %s: %s\n", what, strerror(errno));
    exit(2);
}

static void load(const char *path, struct trace *ret)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct event *events = NULL;
    const char *p, *end;
    size_t cap = 0, n_events = 0;

    if (fd < 0 || fstat(fd, &st) < 0)
        die(path);
    p = mmap(NULL, (size_t)st.st_size + 1, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        die(path);
    close(fd);
    ret->map = p;
    ret->map_n = (size_t)st.st_size + 1;
    for (end = p + st.st_size; p < end;) {
        /* Events lie behind text of any length. */
        struct trace_event *e = mem_new(struct trace_event);
        struct event *one;

        memcpy(e, p, sizeof *e);
        CHECK(e->magic == TRACE_MAGIC && e->kind < TRACE_KINDS);
        if (n_events == cap) {
            cap = cap ? 2 * cap : 4096;
            events = mem_resize(events, cap * sizeof *events);
            CHECK(events);
        }
        one = &events[n_events++];
        one->e = e;
        one->path = p + sizeof *e;
        one->to = one->path + e->path_n;
        one->data = one->to + e->to_n;
        p = one->data + e->data_n;
    }
    ret->events = events;
    ret->n = n_events;
}

static void unload(struct trace *t)
{
    for (size_t i = 0; i < t->n; i++)
        mem_free((void *)(uintptr_t)t->events[i].e);
    mem_free(t->events);
    munmap((void *)(uintptr_t)t->map, t->map_n);
}

/* --- One state ------------------------------------------------------------------------
 */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *f)
{
    (void)st, (void)kind, (void)f;
    return remove(path);
}

static void wipe(const char *dir)
{
    if (nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
        die(dir);
}

struct tally {
    unsigned long states, violations, twice, ended;
    uint64_t *seen; /* hashes of disks, open addressing */
    unsigned long distinct;
};

static atomic_bool *enough; /* of all jobs: a violation was found, and one is wanted */

static bool fresh(struct tally *t, uint64_t hash)
{
    size_t i = hash % DISTINCT;

    hash += hash == 0;
    for (; t->seen[i]; i = (i + 1) % DISTINCT)
        if (t->seen[i] == hash)
            return false;
    t->seen[i] = hash;
    t->distinct++;
    return true;
}

/* A process of its own: a crash in recovery is a violation like any other.  log: the
 * recovery is recorded there; NULL: it is not. */
static bool recovers(const char *dir, const struct promises *p, enum recovered_how how,
                     const char *log)
{
    int status;
    pid_t pid = fork();

    if (pid < 0)
        die("fork");
    if (pid == 0) {
        alarm(RECOVERY_SECONDS);
        if (log)
            record(dir, log);
        recovered_check(dir, p, how);
    }
    if (waitpid(pid, &status, 0) != pid)
        die("waitpid");
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

struct state {
    size_t at;
    enum world_plan plan;
    uint64_t seed;
};

static void tell(const struct state *s, const char *more, struct tally *t)
{
    t->violations++;
    atomic_store(enough, opt.first);
    printf("violation at --only %zu:%d:%llu (%s after %zu events)%s\n", s->at,
           (int)s->plan, (unsigned long long)s->seed, plans[s->plan], s->at + 1, more);
    fflush(stdout);
}

/* A few cuts during the recovery that the log tells of, from the disk that w is. */
static void cut_again(struct world *w, const struct promises *p, const struct state *s,
                      const char *log, const char *dir, struct tally *t)
{
    enum { CUTS = 6 };
    struct trace again;
    size_t every;

    load(log, &again);
    every = again.n / CUTS + 1;
    for (size_t i = 0; i < again.n; i++) {
        const struct event *v = &again.events[i];
        uint64_t seed = s->seed * 131 + i;

        world_event(w, v->e, v->path, v->to, v->data);
        if (i % every != seed % every || !world_uncertain(w) ||
            t->twice >= opt.twice / opt.jobs)
            continue;
        if (mkdir(dir, 0700) < 0)
            die(dir);
        (void)world_make(w, dir, seed & 1 ? WORLD_PREFIX : WORLD_ANY, seed);
        t->twice++;
        if (!recovers(dir, p, RECOVERED_TWICE, NULL))
            tell(s, ", and a second cut in recovery", t);
        wipe(dir);
    }
    unload(&again);
}

/* A second stop and start, and all batches run to their ends: some of each. */
static enum recovered_how how_to(uint64_t seed)
{
    if (seed % 16 == 3)
        return RECOVERED_AGAIN;
    return seed % 16 == 11 ? RECOVERED_TO_THE_END : RECOVERED_ONCE;
}

static void try_state(const struct world *w, const struct promises *p,
                      const struct state *s, const char *dir, struct tally *t)
{
    bool twice = record && t->twice < opt.twice / opt.jobs && s->plan != WORLD_NONE;
    char log[PATH_MAX] = "";
    enum recovered_how how = how_to(s->seed);
    struct world *disk = NULL;
    uint64_t hash;

    if (mkdir(dir, 0700) < 0)
        die(dir);
    hash = world_make(w, dir, s->plan, s->seed) ^ (p->answers * 0x9e3779b97f4a7c15u);
    t->states++;
    if (!fresh(t, hash)) {
        wipe(dir);
        return;
    }
    if (twice) {
        snprintf(log, sizeof log, "%s.trace", dir);
        disk = world_new();
        world_load(disk, dir);
    }
    t->ended += how == RECOVERED_TO_THE_END;
    if (!recovers(dir, p, how, twice ? log : NULL))
        tell(s, "", t);
    if (opt.only_event < 0)
        wipe(dir);
    if (twice) {
        cut_again(disk, p, s, log, dir, t);
        world_free(disk);
        unlink(log);
    }
}

/* --- All states -----------------------------------------------------------------------
 */

static bool changes_disk(uint32_t kind)
{
    return kind != TRACE_HEARD && kind != TRACE_START;
}

/* How many states each moment gets so that all get `states` together. */
static void *shared(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        die("mmap");
    return p;
}

/* What every recovery would do for itself, once. */
static void warm_up(void)
{
    uint8_t sum[32];
    unsigned n = sizeof sum;

    if (sqlite3_initialize() != SQLITE_OK ||
        curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
        EVP_Digest("", 0, sum, &n, EVP_sha256(), NULL) != 1)
        die("the libraries");
}

static unsigned long moments(void)
{
    unsigned long n = 0;

    for (size_t i = 0; i < main_trace.n; i++)
        n += changes_disk(main_trace.events[i].e->kind);
    return n ? n : 1;
}

/* The two extremes seldom: each moment has but one of them. */
static const enum world_plan planned[8] = {WORLD_NONE,   WORLD_ALL, WORLD_PREFIX,
                                           WORLD_PREFIX, WORLD_ANY, WORLD_PREFIX,
                                           WORLD_ANY,    WORLD_ANY};

static void try_moment(const struct world *w, const struct promises *p, size_t at,
                       unsigned long n, const char *dir, struct tally *t)
{
    if (opt.only_event >= 0) {
        if ((size_t)opt.only_event == at)
            try_state(w, p,
                      &(struct state){at, (enum world_plan)opt.only_plan, opt.only_seed},
                      dir, t);
        return;
    }
    if (!world_uncertain(w))
        n = 1;
    for (unsigned long i = 0; i < n && !atomic_load(enough); i++) {
        uint64_t seed = (opt.seed * 1000003 + at) * 4093 + i;
        enum world_plan plan = planned[(seed * 0x9e3779b97f4a7c15u >> 40) % 8];

        try_state(w, p, &(struct state){at, plan, seed}, dir, t);
    }
}

/* Walks the whole trace and tries every jobs-th moment.  The share of a moment is rounded
 * at random, so that few states are spread over all of it. */
static void walk(unsigned long job, struct tally *t)
{
    struct world *w = world_new();
    struct promises p;
    char dir[PATH_MAX];
    unsigned long n = moments(), moment = 0;
    uint64_t x = opt.seed + 77;

    promises_init(&p);
    snprintf(dir, sizeof dir, "%s/batchd-explore-%d", opt.dir, (int)getpid());
    for (size_t i = 0; i < main_trace.n; i++) {
        const struct event *v = &main_trace.events[i];
        unsigned long share = opt.states / n;

        world_event(w, v->e, v->path, v->to, v->data);
        (void)promises_event(&p, v->e, v->data);
        if (!changes_disk(v->e->kind))
            continue;
        x = x * 6364136223846793005u + 1442695040888963407u;
        if ((x >> 33) % n < opt.states % n)
            share++;
        if (moment++ % opt.jobs == job && share)
            try_moment(w, &p, i, share, dir, t);
    }
    promises_done(&p);
    world_free(w);
}

static void parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";

        if (strcmp(argv[i], "--first") == 0) {
            opt.first = true;
            continue;
        }
        if (strcmp(argv[i], "--states") == 0)
            opt.states = strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--twice") == 0)
            opt.twice = strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0)
            opt.seed = strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--jobs") == 0)
            opt.jobs = strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--dir") == 0)
            opt.dir = value;
        else if (strcmp(argv[i], "--only") == 0 &&
                 sscanf(value, "%ld:%d:%llu", &opt.only_event, &opt.only_plan,
                        &opt.only_seed) == 3)
            opt.jobs = 1;
        else if (argv[i][0] != '-') {
            opt.trace = argv[i];
            continue;
        } else {
            opt.trace = NULL;
            break;
        }
        i++;
    }
    if (!opt.trace || !opt.jobs || !opt.states) {
        fprintf(stderr, "usage: explore [--states N] [--twice N] [--seed N] [--jobs N] "
                        "[--dir DIR] [--first] [--only EVENT:PLAN:SEED] TRACE\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    struct tally *all;
    usec_t start = clock_mono();
    unsigned long states = 0, distinct = 0, violations = 0, twice = 0, ended = 0;
    int status, broken = 0;

    parse(argc, argv);
    *(void **)&record = dlsym(RTLD_DEFAULT, "recorder_begin");
    if (opt.twice && !record) {
        fprintf(stderr, "explore: --twice needs the recorder preloaded\n");
        return 2;
    }
    load(opt.trace, &main_trace);
    all = shared(opt.jobs * sizeof *all);
    enough = shared(sizeof *enough);
    warm_up();
    for (unsigned long j = 0; j < opt.jobs; j++) {
        pid_t pid = fork();

        if (pid < 0)
            die("fork");
        if (pid == 0) {
            /* Shared, so that no fork copies its page tables. */
            all[j].seen = shared(DISTINCT * sizeof(uint64_t));
            walk(j, &all[j]);
            exit(0);
        }
    }
    for (unsigned long j = 0; j < opt.jobs; j++)
        if (wait(&status) < 0 || status != 0)
            broken++;
    for (unsigned long j = 0; j < opt.jobs; j++) {
        states += all[j].states;
        distinct += all[j].distinct;
        violations += all[j].violations;
        twice += all[j].twice;
        ended += all[j].ended;
    }
    printf(
        "%zu events, %lu states, %lu of them different, %lu cut twice, %lu run to the end, "
        "%lu violations, %.1f s\n",
        main_trace.n, states, distinct, twice, ended, violations,
        (double)(clock_mono() - start) / (double)USEC_PER_SEC);
    if (broken)
        return 2;
    return violations ? 1 : 0;
}
