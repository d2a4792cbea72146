/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/disk.h"
#include "tests/sim/sim.h"

#include "base/fsio.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

enum { FILES = 512, NAMES = 512, FDS = 64, DIRTY = 32, OPS = 1024, NAME = 96 };

struct extent {
    uint64_t off, n;
};

struct file {
    bool used;
    char *cache, *disk;
    size_t n_cache, n_disk, cap_cache, cap_disk;
    struct extent dirty[DIRTY]; /* written and not synced */
    unsigned n_dirty;
    bool resized; /* its length is not on disk */
};

/* A name of the directory; as it is read, and as it is on disk. */
struct name {
    char z[NAME];           /* "": free */
    int file, file_on_disk; /* -1: none */
};

/* A change of a name that no sync of the directory came after. */
struct op {
    int name, file; /* file -1: deleted */
    bool half;      /* the next one belongs to it: both or none */
};

static struct file files[FILES];
static struct name names[NAMES];
static struct op ops[OPS];
static int fds[FDS];
static unsigned n_ops;

/* --- Names --------------------------------------------------------------------------- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static int name_find(const char *path)
{
    const char *z = base_name(path);

    for (int i = 0; i < NAMES; i++)
        if (strcmp(names[i].z, z) == 0)
            return i;
    return -1;
}

static int name_of(const char *path)
{
    int at = name_find(path);

    for (int i = 0; i < NAMES && at < 0; i++)
        if (!names[i].z[0])
            at = i;
    CHECK(at >= 0);
    if (!names[at].z[0]) {
        CHECK(str_fmt(names[at].z, NAME, "%s", base_name(path)) == RC_OK);
        names[at].file = names[at].file_on_disk = -1;
    }
    return at;
}

static bool file_held(int f)
{
    for (int i = 0; i < FDS; i++)
        if (fds[i] == f)
            return true;
    for (unsigned i = 0; i < n_ops; i++)
        if (ops[i].file == f)
            return true;
    for (int i = 0; i < NAMES; i++)
        if (names[i].z[0] && (names[i].file == f || names[i].file_on_disk == f))
            return true;
    return false;
}

static void file_drop(int f)
{
    mem_free(files[f].cache);
    mem_free(files[f].disk);
    files[f] = (struct file){.used = false};
}

/* What nothing points at is gone. */
static void sweep(void)
{
    for (int i = 0; i < FILES; i++)
        if (files[i].used && !file_held(i))
            file_drop(i);
    for (int i = 0; i < NAMES; i++) {
        bool pending = false;

        for (unsigned k = 0; k < n_ops; k++)
            pending = pending || ops[k].name == i;
        if (!pending && names[i].file < 0 && names[i].file_on_disk < 0)
            names[i].z[0] = '\0';
    }
}

static int file_new(void)
{
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < FILES; i++) {
            if (!files[i].used) {
                files[i].used = true;
                return i;
            }
        }
        sweep();
    }
    PANIC("too many files");
}

static void name_sync(void)
{
    for (int i = 0; i < NAMES; i++)
        names[i].file_on_disk = names[i].file;
    n_ops = 0;
    sweep();
}

static void name_set(int name, int file)
{
    names[name].file = file;
    if (n_ops == OPS)
        name_sync();
    ops[n_ops++] = (struct op){name, file, false};
}

/* --- Bytes --------------------------------------------------------------------------- */

static void reserve(char **p, size_t *cap, size_t n)
{
    enum arena was = arena_use(ARENA_WORLD);

    if (n > *cap) {
        *cap = n * 2 + 256;
        *p = mem_resize(*p, *cap);
        CHECK(*p);
    }
    arena_use(was);
}

static void put_disk(struct file *f, uint64_t off, uint64_t n)
{
    if (off + n > f->n_cache)
        n = off < f->n_cache ? f->n_cache - off : 0;
    if (n == 0)
        return;
    reserve(&f->disk, &f->cap_disk, off + n);
    if (off > f->n_disk)
        memset(f->disk + f->n_disk, 0, off - f->n_disk);
    memcpy(f->disk + off, f->cache + off, n);
    if (off + n > f->n_disk)
        f->n_disk = off + n;
}

static void file_sync(struct file *f)
{
    for (unsigned i = 0; i < f->n_dirty; i++)
        put_disk(f, f->dirty[i].off, f->dirty[i].n);
    if (f->n_disk > f->n_cache)
        f->n_disk = f->n_cache;
    f->n_dirty = 0;
    f->resized = false;
}

/* What the kernel wrote by itself before the cut. */
static void file_cut(struct file *f)
{
    for (unsigned i = 0; i < f->n_dirty; i++) {
        struct extent x = f->dirty[i];
        unsigned how = chance_below(4);

        if (how == 0)
            put_disk(f, x.off, x.n);
        else if (how == 1)
            put_disk(f, x.off, chance_below((uint32_t)x.n + 1));
        else if (how == 2 && x.n > 512)
            put_disk(f, (x.off + 512) & ~(uint64_t)511, x.n / 2);
    }
    if (f->resized && f->n_disk > f->n_cache && chance(1, 2))
        f->n_disk = f->n_cache;
    f->n_dirty = 0;
    f->resized = false;
    reserve(&f->cache, &f->cap_cache, f->n_disk);
    if (f->n_disk)
        memcpy(f->cache, f->disk, f->n_disk);
    f->n_cache = f->n_disk;
}

void disk_cut(void)
{
    unsigned kept = chance_below(n_ops + 1);

    if (kept && ops[kept - 1].half)
        kept++;
    for (unsigned i = 0; i < kept; i++)
        names[ops[i].name].file_on_disk = ops[i].file;
    n_ops = 0;
    for (int i = 0; i < NAMES; i++)
        names[i].file = names[i].file_on_disk;
    for (int i = 0; i < FILES; i++)
        if (files[i].used)
            file_cut(&files[i]);
    sweep();
}

void disk_life_over(void)
{
    for (int i = 0; i < FDS; i++)
        fds[i] = -1;
    sweep();
}

void disk_reset(void)
{
    for (int i = 0; i < NAMES; i++)
        names[i].z[0] = '\0';
    memset(files, 0, sizeof files); /* their memory went with the world */
    n_ops = 0;
    disk_life_over();
}

/* --- What the checks ask ------------------------------------------------------------- */

unsigned disk_open_files(void)
{
    unsigned n = 0;

    for (int i = 0; i < FDS; i++)
        n += fds[i] >= 0;
    return n;
}

unsigned disk_files(void)
{
    unsigned n = 0;

    for (int i = 0; i < NAMES; i++)
        n += names[i].z[0] && names[i].file >= 0;
    return n;
}

const char *disk_any_file(void)
{
    for (int i = 0; i < NAMES; i++)
        if (names[i].z[0] && names[i].file >= 0)
            return names[i].z;
    return NULL;
}

bool disk_durable(const char *path, uint64_t n)
{
    int at = name_find(path);
    const struct file *f;

    if (at < 0 || names[at].file < 0 || names[at].file != names[at].file_on_disk)
        return false;
    f = &files[names[at].file];
    return f->n_disk >= n && f->n_cache >= n && memcmp(f->disk, f->cache, n) == 0;
}

bool disk_rot(const char *prefix, uint64_t from)
{
    for (int i = 0; i < NAMES; i++) {
        struct file *f;
        uint64_t at;

        if (!names[i].z[0] || names[i].file < 0 ||
            strncmp(names[i].z, prefix, strlen(prefix)) != 0)
            continue;
        f = &files[names[i].file];
        if (f->n_disk <= from || f->n_cache < f->n_disk)
            continue;
        at = from + chance_below((uint32_t)(f->n_disk - from));
        f->disk[at] = (char)(f->disk[at] ^ 0x10);
        f->cache[at] = f->disk[at];
        TOLD("disk: byte %llu of %s has changed", (unsigned long long)at, names[i].z);
        return true;
    }
    return false;
}

/* --- The calls ----------------------------------------------------------------------- */

/* Every call takes its time; the process may end before it and behind it. */
static void pass_time(void)
{
    if (!coro_inside() || !chance(1, 3))
        return;
    coro_yield(world.now < world.slow_until ? chance_time(1000, 3 * USEC_PER_SEC)
                                            : chance_time(1, 1000));
}

static bool full(void)
{
    return world.now < world.full_until;
}

static enum rc no_space(struct err *e, const char *what, const char *path)
{
    return err_set(e, RC_NOSPACE, "cannot %s '%s': no space", what, path);
}

static int file_of(const char *path)
{
    int at = name_find(path);

    return at < 0 ? -1 : names[at].file;
}

/* The file of that name, made when there is none and flags say so. */
static enum rc find_or_make(const char *path, int flags, int *ret, struct err *e)
{
    *ret = file_of(path);
    if (*ret >= 0)
        return flags & O_EXCL ? err_set(e, RC_CONFLICT, "cannot create '%s'", path)
                              : RC_OK;
    if (!(flags & O_CREAT))
        return err_set(e, RC_NOTFOUND, "cannot open '%s'", path);
    if (full() && chance(1, 2))
        return no_space(e, "create", path);
    *ret = file_new();
    name_set(name_of(path), *ret);
    return RC_OK;
}

enum rc fs_open(const char *path, int flags, mode_t mode, int *ret_fd, struct err *e)
{
    int fd = 0, file;
    enum rc rc;

    (void)mode;
    pass_time();
    rc = find_or_make(path, flags, &file, e);
    if (rc != RC_OK)
        return rc;
    if (flags & O_TRUNC) {
        files[file].n_cache = files[file].n_dirty = 0;
        files[file].resized = true;
    }
    while (fd < FDS && fds[fd] >= 0)
        fd++;
    CHECK(fd < FDS);
    fds[fd] = file;
    *ret_fd = fd;
    return RC_OK;
}

void fs_close(int *fd)
{
    if (*fd >= 0)
        fds[*fd] = -1;
    *fd = -1;
}

enum rc fs_close_checked(int *fd, const char *path, struct err *e)
{
    (void)path, (void)e;
    fs_close(fd);
    return RC_OK;
}

enum rc fs_pwrite(int fd, const void *p, size_t n, uint64_t off, const char *path,
                  struct err *e)
{
    struct file *f = &files[fds[fd]];
    bool short_of = full() && chance(3, 4);
    size_t put = short_of ? chance_below((uint32_t)n + 1) : n;

    pass_time();
    reserve(&f->cache, &f->cap_cache, off + put);
    if (off > f->n_cache)
        memset(f->cache + f->n_cache, 0, off - f->n_cache);
    memcpy(f->cache + off, p, put);
    if (off + put > f->n_cache)
        f->n_cache = off + put;
    if (f->n_dirty == DIRTY) /* the kernel writes when it likes */
        file_sync(f);
    f->dirty[f->n_dirty++] = (struct extent){off, put};
    if (short_of)
        return no_space(e, "write", path);
    pass_time();
    return RC_OK;
}

enum rc fs_pread(int fd, void *p, size_t n, uint64_t off, size_t *ret_n, const char *path,
                 struct err *e)
{
    const struct file *f = &files[fds[fd]];
    size_t left = off < f->n_cache ? f->n_cache - (size_t)off : 0;

    (void)path, (void)e;
    *ret_n = n < left ? n : left;
    if (*ret_n)
        memcpy(p, f->cache + off, *ret_n);
    return RC_OK;
}

enum rc fs_size(int fd, uint64_t *ret, const char *path, struct err *e)
{
    (void)path, (void)e;
    *ret = files[fds[fd]].n_cache;
    return RC_OK;
}

enum rc fs_truncate(int fd, uint64_t n, const char *path, struct err *e)
{
    struct file *f = &files[fds[fd]];

    (void)path, (void)e;
    pass_time();
    if (n < f->n_cache)
        f->n_cache = n;
    f->resized = true;
    return RC_OK;
}

static bool sync_fails(void)
{
    if (!plan.syncs_fail || !fault(1, 150))
        return false;
    process.broken = world.now;
    return true;
}

enum rc fs_sync_data(int fd, const char *path, struct err *e)
{
    struct file *f = &files[fds[fd]];

    pass_time();
    if (sync_fails()) {
        f->n_dirty = 0; /* clean in the cache, and not on disk */
        TOLD("disk: sync of %s fails", base_name(path));
        return err_set(e, RC_IO, "cannot sync '%s'", path);
    }
    file_sync(f);
    pass_time();
    return RC_OK;
}

enum rc fs_sync(int fd, const char *path, struct err *e)
{
    return fs_sync_data(fd, path, e);
}

enum rc fs_sync_dir(const char *dir, struct err *e)
{
    pass_time();
    if (sync_fails())
        return err_set(e, RC_IO, "cannot sync '%s'", dir);
    name_sync();
    pass_time();
    return RC_OK;
}

enum rc fs_rename(const char *from, const char *to, struct err *e)
{
    int a, b;

    (void)e;
    pass_time();
    a = name_find(from);
    CHECK(a >= 0 && names[a].file >= 0);
    b = name_of(to);
    if (n_ops + 2 > OPS)
        name_sync();
    name_set(b, names[a].file);
    ops[n_ops - 1].half = true;
    name_set(a, -1);
    return RC_OK;
}

enum rc fs_unlink(const char *path, struct err *e)
{
    int at;

    (void)e;
    pass_time();
    at = name_find(path);
    if (at >= 0 && names[at].file >= 0)
        name_set(at, -1);
    return RC_OK;
}

enum rc fs_join(char ret[FS_PATH_CAP], const char *dir, const char *name, struct err *e)
{
    return str_fmt(ret, FS_PATH_CAP, "%s/%s", dir, name) == RC_OK
               ? RC_OK
               : err_set(e, RC_LIMIT, "too long");
}

enum rc fs_slurp(const char *path, size_t max, char **ret, size_t *ret_n, struct err *e)
{
    int fd = -1;
    enum rc rc = fs_open(path, O_RDONLY, 0, &fd, e);
    size_t n;

    if (rc != RC_OK)
        return rc;
    n = files[fds[fd]].n_cache;
    if (n > max)
        rc = err_set(e, RC_LIMIT, "'%s' is too large", path);
    if (rc == RC_OK) {
        *ret = mem_try(n + 1);
        rc = fs_pread(fd, *ret, n, 0, ret_n, path, e);
        (*ret)[n] = '\0';
    }
    fs_close(&fd);
    return rc;
}

/* --- The directory, as readdir(3) shows it ------------------------------------------- */

struct dir {
    int at;
    struct dirent entry;
};

DIR *__wrap_opendir(const char *path);
DIR *__wrap_opendir(const char *path)
{
    struct dir *d = mem_new(struct dir);

    (void)path;
    return (DIR *)(void *)d;
}

struct dirent *__wrap_readdir(DIR *dir);
struct dirent *__wrap_readdir(DIR *dir)
{
    struct dir *d = (struct dir *)(void *)dir;

    while (d->at < NAMES) {
        const struct name *n = &names[d->at++];

        if (n->z[0] && n->file >= 0) {
            memcpy(d->entry.d_name, n->z, NAME);
            return &d->entry;
        }
    }
    errno = 0;
    return NULL;
}

int __wrap_closedir(DIR *dir);
int __wrap_closedir(DIR *dir)
{
    mem_free(dir);
    return 0;
}
