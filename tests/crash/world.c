/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/crash/world.h"
#include "base/mem.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define NODES   8192
#define NAMES   8192
#define SECTOR  512u
#define PENDING 65536

/* One change of a file's bytes. */
struct change {
    bool truncate;
    bool orphan; /* a failed sync was to bring it */
    uint64_t off, n;
    const char *data;
};

struct node {
    uint64_t ino;
    char *synced;
    size_t n, cap;
    struct change *pending;
    size_t n_pending, cap_pending;
};

enum name_kind { FILE_NAME, DIR_NAME, LINK_NAME };

struct name {
    char path[200];
    enum name_kind kind;
    int node;           /* FILE_NAME */
    const char *target; /* LINK_NAME */
    size_t target_n;
};

/* One change of a name; a rename within a directory has both paths. */
struct name_change {
    bool removes, renames;
    char from[200];
    struct name add; /* unless it only removes */
};

struct names {
    struct name *all;
    size_t n;
};

struct world {
    struct node nodes[NODES];
    int n_nodes;
    struct names now, synced;
    struct name_change *pending;
    size_t n_pending;
};

static const char *die_path = "";

#define MUST(cond, what)                                                                 \
    do {                                                                                 \
        if (!(cond))                                                                     \
            PANIC("%s '%s': errno %d", what, die_path, errno);                           \
    } while (0)

struct world *world_new(void)
{
    struct world *w = mem_new(struct world);

    w->now.all = mem_new_n(struct name, NAMES);
    w->synced.all = mem_new_n(struct name, NAMES);
    w->pending = mem_new_n(struct name_change, PENDING);
    return w;
}

struct world *world_free(struct world *w)
{
    if (!w)
        return NULL;
    for (int i = 0; i < w->n_nodes; i++) {
        mem_free(w->nodes[i].synced);
        mem_free(w->nodes[i].pending);
    }
    mem_free(w->now.all);
    mem_free(w->synced.all);
    mem_free(w->pending);
    mem_free(w);
    return NULL;
}

/* --- Files ----------------------------------------------------------------------------
 */

/* The latest of that number: numbers are given again. */
static struct node *node_of(struct world *w, uint64_t ino)
{
    for (int i = w->n_nodes; i-- > 0;)
        if (w->nodes[i].ino == ino)
            return &w->nodes[i];
    PANIC("the trace writes to a file that it did not see made");
}

static void grow(struct node *f, size_t n)
{
    if (n > f->cap) {
        f->cap = n * 2;
        f->synced = mem_resize(f->synced, f->cap);
        CHECK(f->synced);
    }
    if (n > f->n)
        memset(f->synced + f->n, 0, n - f->n);
    if (n > f->n)
        f->n = n;
}

static void apply(struct node *f, const struct change *c)
{
    if (c->truncate) {
        grow(f, c->off);
        f->n = c->off;
    } else {
        grow(f, c->off + c->n);
        memcpy(f->synced + c->off, c->data, c->n);
    }
}

static void add_change(struct node *f, struct change c)
{
    if (f->n_pending == f->cap_pending) {
        f->cap_pending = f->cap_pending ? 2 * f->cap_pending : 16;
        f->pending = mem_resize(f->pending, f->cap_pending * sizeof *f->pending);
        CHECK(f->pending);
    }
    f->pending[f->n_pending++] = c;
}

/* Does a later write cover it whole?  Then nothing of it is left to be uncertain of. */
static bool covered(const struct node *f, size_t i)
{
    const struct change *c = &f->pending[i];

    for (size_t k = i + 1; k < f->n_pending; k++) {
        const struct change *later = &f->pending[k];

        if (!later->orphan && !later->truncate && !c->truncate && later->off <= c->off &&
            later->off + later->n >= c->off + c->n)
            return true;
    }
    return false;
}

static void sync_node(struct node *f)
{
    size_t kept = 0;

    for (size_t i = 0; i < f->n_pending; i++) {
        if (!f->pending[i].orphan)
            apply(f, &f->pending[i]);
        else if (!covered(f, i))
            f->pending[kept++] = f->pending[i];
    }
    f->n_pending = kept;
}

/* --- Names ----------------------------------------------------------------------------
 */

static int find(const struct names *names, const char *path)
{
    for (size_t i = 0; i < names->n; i++)
        if (strcmp(names->all[i].path, path) == 0)
            return (int)i;
    return -1;
}

static void remove_name(struct names *names, const char *path)
{
    int i = find(names, path);

    if (i >= 0)
        names->all[i] = names->all[--names->n];
}

static void add_name(struct names *names, const struct name *one)
{
    remove_name(names, one->path);
    CHECK(names->n < NAMES);
    names->all[names->n++] = *one;
}

static void apply_name(struct names *names, const struct name_change *c)
{
    if (c->removes || c->renames)
        remove_name(names, c->from);
    if (!c->removes)
        add_name(names, &c->add);
}

static size_t dir_n(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? (size_t)(slash - path) : 0;
}

static bool in_dir(const char *path, const char *dir)
{
    size_t n = strlen(dir);

    return dir_n(path) == n && strncmp(path, dir, n) == 0;
}

static bool same_dir(const char *a, const char *b)
{
    return dir_n(a) == dir_n(b) && strncmp(a, b, dir_n(a)) == 0;
}

static void change_name(struct world *w, const struct name_change *c)
{
    apply_name(&w->now, c);
    CHECK(w->n_pending < PENDING);
    w->pending[w->n_pending++] = *c;
}

static void sync_dir(struct world *w, const char *dir)
{
    size_t kept = 0;

    for (size_t i = 0; i < w->n_pending; i++) {
        const struct name_change *c = &w->pending[i];

        if (in_dir(c->removes ? c->from : c->add.path, dir))
            apply_name(&w->synced, c);
        else
            w->pending[kept++] = *c;
    }
    w->n_pending = kept;
}

static void copy_path(char *dst, size_t cap, const char *p, size_t n)
{
    CHECK(n < cap);
    memcpy(dst, p, n);
    dst[n] = '\0';
}

static void rename_name(struct world *w, const char *from, const char *to)
{
    int i = find(&w->now, from);
    struct name_change c = {.renames = true};

    if (i < 0)
        return; /* of a file that is not looked at */
    c.add = w->now.all[i];
    copy_path(c.from, sizeof c.from, from, strlen(from));
    copy_path(c.add.path, sizeof c.add.path, to, strlen(to));
    if (same_dir(from, to)) {
        change_name(w, &c);
        return;
    }
    c.renames = false;
    change_name(w, &c);
    c = (struct name_change){.removes = true};
    copy_path(c.from, sizeof c.from, from, strlen(from));
    change_name(w, &c);
}

/* --- Events ---------------------------------------------------------------------------
 */

/* Ballast without content: no promise is about it. */
static bool passed_over(const char *path)
{
    return strcmp(path, "reserve") == 0;
}

static void on_create(struct world *w, uint64_t ino, const char *path)
{
    struct name_change c = {.add = {.kind = FILE_NAME, .node = w->n_nodes}};

    CHECK(w->n_nodes < NODES);
    w->nodes[w->n_nodes++].ino = ino;
    copy_path(c.add.path, sizeof c.add.path, path, strlen(path));
    if (!passed_over(path))
        change_name(w, &c);
}

static void on_name(struct world *w, const struct trace_event *e, const char *path,
                    const char *to, const char *raw_to)
{
    struct name_change c = {0};

    if (!path[0])
        return; /* the root itself: it was there before anything was promised */
    if (e->kind == TRACE_RENAME) {
        rename_name(w, path, to);
        return;
    }
    if (e->kind == TRACE_UNLINK) {
        c.removes = true;
        copy_path(c.from, sizeof c.from, path, strlen(path));
    } else {
        c.add.kind = e->kind == TRACE_MKDIR ? DIR_NAME : LINK_NAME;
        c.add.target = raw_to;
        c.add.target_n = e->to_n;
        copy_path(c.add.path, sizeof c.add.path, path, strlen(path));
    }
    change_name(w, &c);
}

static void on_sync_failed(struct node *f)
{
    for (size_t i = 0; i < f->n_pending; i++)
        f->pending[i].orphan = true;
}

/* What changes or syncs the bytes of a file; false: it is something else. */
static bool on_bytes(struct world *w, const struct trace_event *e, const char *data)
{
    struct change write = {.off = e->off, .n = e->data_n, .data = data};
    struct change cut = {.truncate = true, .off = e->off};

    if (e->kind == TRACE_WRITE)
        add_change(node_of(w, e->node), write);
    else if (e->kind == TRACE_TRUNCATE)
        add_change(node_of(w, e->node), cut);
    else if (e->kind == TRACE_SYNC)
        sync_node(node_of(w, e->node));
    else if (e->kind == TRACE_SYNC_FAILED)
        on_sync_failed(node_of(w, e->node));
    else
        return false;
    return true;
}

void world_event(struct world *w, const struct trace_event *e, const char *raw_path,
                 const char *raw_to, const char *data)
{
    char path[200], to[200] = "";

    if (on_bytes(w, e, data) || e->kind == TRACE_TOLD || e->kind == TRACE_HEARD ||
        e->kind == TRACE_LEARNT || e->kind == TRACE_START ||
        e->kind == TRACE_SYNC_DIR_FAILED)
        return;
    copy_path(path, sizeof path, raw_path, e->path_n);
    if (e->kind == TRACE_RENAME)
        copy_path(to, sizeof to, raw_to, e->to_n);
    if (e->kind == TRACE_CREATE)
        on_create(w, e->node, path);
    else if (e->kind == TRACE_SYNC_DIR)
        sync_dir(w, path);
    else
        on_name(w, e, path, to, raw_to);
}

/* --- A directory as it lies ------------------------------------------------------------
 */

static void load_file(struct world *w, const char *path, const struct stat *st)
{
    struct node *f = &w->nodes[w->n_nodes++];
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    CHECK(w->n_nodes < NODES);
    MUST(fd >= 0, "cannot open");
    f->ino = st->st_ino;
    grow(f, (size_t)st->st_size);
    for (size_t at = 0; at < f->n;) {
        ssize_t n = read(fd, f->synced + at, f->n - at);

        MUST(n > 0, "cannot read");
        at += (size_t)n;
    }
    close(fd);
}

static void load_name(struct world *w, const char *path, const char *rel)
{
    struct name one = {.kind = FILE_NAME, .node = w->n_nodes};
    char target[PATH_MAX];
    struct stat st;
    ssize_t n;

    die_path = path;
    MUST(lstat(path, &st) == 0, "cannot stat");
    copy_path(one.path, sizeof one.path, rel, strlen(rel));
    if (S_ISDIR(st.st_mode)) {
        one.kind = DIR_NAME;
    } else if (S_ISLNK(st.st_mode)) {
        one.kind = LINK_NAME;
        n = readlink(path, target, sizeof target);
        MUST(n > 0, "cannot read");
        one.target = mem_dup(target, (size_t)n); /* as long as the process */
        one.target_n = (size_t)n;
    } else {
        load_file(w, path, &st);
    }
    add_name(&w->now, &one);
    add_name(&w->synced, &one);
}

static void load_below(struct world *w, const char *root, const char *rel)
{
    char path[PATH_MAX], sub[200];
    struct dirent *d;
    DIR *dir;

    snprintf(path, sizeof path, "%s/%s", root, rel);
    die_path = path;
    dir = opendir(path);
    MUST(dir, "cannot open");
    while ((d = readdir(dir))) {
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        CHECK(str_fmt(sub, sizeof sub, "%s%s%s", rel, rel[0] ? "/" : "", d->d_name) ==
              RC_OK);
        CHECK(str_fmt(path, sizeof path, "%s/%s", root, sub) == RC_OK);
        load_name(w, path, sub);
        if (d->d_type == DT_DIR)
            load_below(w, root, sub);
    }
    closedir(dir);
}

void world_load(struct world *w, const char *dir)
{
    load_below(w, dir, "");
}

bool world_uncertain(const struct world *w)
{
    if (w->n_pending)
        return true;
    for (size_t i = 0; i < w->now.n; i++)
        if (w->now.all[i].kind == FILE_NAME && w->nodes[w->now.all[i].node].n_pending)
            return true;
    return false;
}

/* --- One disk -------------------------------------------------------------------------
 */

struct maker {
    const struct world *w;
    const char *dir;
    enum world_plan plan;
    uint64_t x, hash;
};

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t rnd(struct maker *m)
{
    uint64_t z = (m->x += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* How many of n changes in order are there, where the plan is to cut. */
static size_t prefix(struct maker *m, size_t n)
{
    return m->plan == WORLD_PREFIX ? rnd(m) % (n + 1) : n;
}

static bool there(struct maker *m)
{
    return m->plan != WORLD_NONE && (m->plan != WORLD_ANY || rnd(m) & 1);
}

static void choose_names(struct maker *m, struct names *ret)
{
    size_t n = prefix(m, m->w->n_pending);

    memcpy(ret->all, m->w->synced.all, m->w->synced.n * sizeof *ret->all);
    ret->n = m->w->synced.n;
    for (size_t i = 0; i < n; i++)
        if (there(m))
            apply_name(ret, &m->w->pending[i]);
}

/* What a sector holds that is new and was not written: zeros, rubbish, or what it held for
 * another file. */
struct filling {
    bool rubbish;
    const struct node *old; /* NULL: none */
};

static struct filling choose_filling(struct maker *m)
{
    switch (rnd(m) % 4) {
    case 0:
        return (struct filling){.rubbish = true};
    case 1:
        return (struct filling){.old = &m->w->nodes[rnd(m) % (uint64_t)m->w->n_nodes]};
    default:
        return (struct filling){.rubbish = false};
    }
}

static void fill(struct maker *m, const struct filling *with, char *p, uint64_t at,
                 uint64_t end)
{
    if (with->old && end <= with->old->n)
        memcpy(p + at, with->old->synced + at, end - at);
    for (uint64_t i = at; with->rubbish && i < end; i++)
        p[i] = (char)rnd(m);
}

/* Some of a write's sectors; of the others, those that are new are filled. */
static void tear(struct maker *m, struct node *f, const struct change *c)
{
    struct filling with = choose_filling(m);
    size_t before = f->n;

    grow(f, c->off + c->n);
    for (uint64_t at = c->off; at < c->off + c->n;) {
        uint64_t end = (at / SECTOR + 1) * SECTOR;

        if (end > c->off + c->n)
            end = c->off + c->n;
        if (rnd(m) & 1)
            memcpy(f->synced + at, c->data + (at - c->off), end - at);
        else if (at >= before)
            fill(m, &with, f->synced, at, end);
        at = end;
    }
}

static void choose_bytes(struct maker *m, const struct node *from, struct node *ret)
{
    size_t n = prefix(m, from->n_pending);

    grow(ret, from->n);
    memcpy(ret->synced, from->synced, from->n);
    ret->n = from->n;
    for (size_t i = 0; i < n; i++) {
        bool last = i + 1 == n && n < from->n_pending;

        if (!there(m))
            continue;
        if (!from->pending[i].truncate && m->plan != WORLD_ALL &&
            (last || m->plan == WORLD_ANY) && rnd(m) % 3 == 0)
            tear(m, ret, &from->pending[i]);
        else
            apply(ret, &from->pending[i]);
    }
    /* The length may be there before the bytes are. */
    if (m->plan == WORLD_PREFIX && n < from->n_pending && !from->pending[n].truncate &&
        rnd(m) % 4 == 0)
        grow(ret, from->pending[n].off + from->pending[n].n);
}

static void note(struct maker *m, const void *p, size_t n)
{
    m->hash = XXH3_64bits_withSeed(p, n, m->hash);
}

static void write_file(struct maker *m, const char *path, const struct node *from)
{
    struct node f = {0};
    int fd;

    choose_bytes(m, from, &f);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    MUST(fd >= 0, "cannot make");
    for (size_t at = 0; at < f.n;) {
        ssize_t n = write(fd, f.synced + at, f.n - at);

        MUST(n > 0, "cannot write");
        at += (size_t)n;
    }
    close(fd);
    note(m, f.synced ? f.synced : "", f.n);
    mem_free(f.synced);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct name *)a)->path, ((const struct name *)b)->path);
}

/* A name whose directory is not there is not either. */
static void make_name(struct maker *m, const struct name *one)
{
    char path[PATH_MAX], target[PATH_MAX];
    struct stat st;
    int n =
        snprintf(path, sizeof path, "%s/%.*s", m->dir, (int)dir_n(one->path), one->path);

    CHECK(n > 0 && (size_t)n < sizeof path);
    die_path = path;
    if (stat(path, &st) < 0)
        return;
    n = snprintf(path, sizeof path, "%s/%s", m->dir, one->path);
    CHECK(n > 0 && (size_t)n < sizeof path);
    note(m, one->path, strlen(one->path));
    if (one->kind == DIR_NAME) {
        MUST(mkdir(path, 0700) == 0, "cannot make");
    } else if (one->kind == FILE_NAME) {
        write_file(m, path, &m->w->nodes[one->node]);
    } else {
        copy_path(target, sizeof target, one->target, one->target_n);
        MUST(symlink(target, path) == 0, "cannot make");
    }
}

uint64_t world_make(const struct world *w, const char *dir, enum world_plan plan,
                    uint64_t seed)
{
    struct maker m = {.w = w, .dir = dir, .plan = plan, .x = seed};
    struct names names = {mem_new_n(struct name, w->synced.n + w->n_pending + 1), 0};

    choose_names(&m, &names);
    qsort(names.all, names.n, sizeof *names.all, by_path);
    for (size_t i = 0; i < names.n; i++)
        make_name(&m, &names.all[i]);
    mem_free(names.all);
    return m.hash;
}
