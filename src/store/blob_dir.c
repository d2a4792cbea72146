/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob_dir: blobs in a directory: files/<xx>/<id>, xx being the id's last two characters
 * (ids are random at their end).
 *
 * A blob is written under tmp/, synced, renamed to its name, and the directory is synced:
 * a name never shows half a file and never goes away again by itself.  An adopted file is
 * a symbolic link files/<xx>/<id>.link, so that an ordinary name is never followed.
 *
 * Owns:    the directories files/ and tmp/.
 * Threads: any; what they share is the paths and the flags of directories known to be
 *          durable, which are atomic.
 */
#include "base/fsio.h"
#include "base/guard.h"
#include "base/mem.h"
#include "store/blob.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define COLLECT_BYTES   ((size_t)64 << 10) /* smaller writes are gathered */
#define WRITEBACK_BYTES ((uint64_t)8 << 20)
#define LINK_SUFFIX     ".link"
#define XX              (128 * 128)

struct blob_dir {
    char *files, *tmp;
    /* By two 7-bit characters: is files/<xx> known to be durable in files/?  Were names in
     * it removed since its last sync? */
    atomic_bool durable[XX], removed[XX];
};

struct blob_put {
    struct blob_dir *dir;
    char path[FS_PATH_CAP];
    int fd;
    enum rc failed; /* sticky: what is on disk is no longer what was handed in */
    EVP_MD_CTX *sha;
    uint64_t bytes, pushed; /* written; told to the disk to begin with */
    size_t n;
    uint8_t *collect; /* COLLECT_BYTES; NULL before the first small write */
};

struct blob {
    int fd;
    uint64_t size;
    char name[ID_CAP]; /* for messages */
};

/* ---- names --------------------------------------------------------------------------*/

static enum rc check_id(const char *id, struct err *e)
{
    if (id_ok(str_of(id)) && id[1])
        return RC_OK;
    return err_set(e, RC_INVALID, "'%.80s' is not the id of a file", id);
}

static const char *last_two(const char *id)
{
    return id + strlen(id) - 2;
}

static enum rc dir_of(const struct blob_dir *d, const char *id, char ret[FS_PATH_CAP],
                      struct err *e)
{
    enum rc rc = check_id(id, e);

    return rc == RC_OK ? fs_join(ret, d->files, last_two(id), e) : rc;
}

static enum rc path_of(const struct blob_dir *d, const char *id, const char *suffix,
                       char ret[FS_PATH_CAP], struct err *e)
{
    char name[ID_CAP + 16];
    enum rc rc = check_id(id, e);

    if (rc != RC_OK)
        return rc;
    if (str_fmt(name, sizeof name, "%s/%s%s", last_two(id), id, suffix) != RC_OK)
        PANIC("an id of %zu bytes", strlen(id));
    return fs_join(ret, d->files, name, e);
}

static enum rc tmp_path(const struct blob_dir *d, char ret[FS_PATH_CAP], struct err *e)
{
    return fs_join(ret, d->tmp, id_make("").z, e);
}

static atomic_bool *flag_of(atomic_bool flags[XX], const char *xx)
{
    return &flags[(xx[0] & 127) * 128 + (xx[1] & 127)];
}

/* Two threads may do this at once for the same directory; each returns only after a sync
 * that came after the directory was there. */
static enum rc ensure_dir(struct blob_dir *d, const char *id, struct err *e)
{
    char path[FS_PATH_CAP];
    atomic_bool *flag = flag_of(d->durable, last_two(id));
    enum rc rc = RC_OK;

    if (atomic_load(flag))
        return RC_OK;
    rc = dir_of(d, id, path, e);
    if (rc == RC_OK)
        rc = fs_mkdir(path, 0700, e);
    if (rc == RC_OK && GUARD(BLOB_XX_SYNC))
        rc = fs_sync_dir(d->files, e);
    if (rc == RC_OK)
        atomic_store(flag, true);
    return rc;
}

/* from is in tmp/ and gets the blob's name; durable when RC_OK comes. */
static enum rc publish(struct blob_dir *d, const char *from, const char *id,
                       const char *suffix, struct err *e)
{
    char path[FS_PATH_CAP], dir[FS_PATH_CAP];
    enum rc rc = path_of(d, id, suffix, path, e);

    if (rc == RC_OK)
        rc = ensure_dir(d, id, e);
    if (rc == RC_OK)
        rc = dir_of(d, id, dir, e);
    if (rc == RC_OK)
        rc = fs_rename(from, path, e);
    if (rc != RC_OK || !GUARD(BLOB_DIR_SYNC))
        return rc;
    rc = fs_sync_dir(dir, e);
    if (rc != RC_OK) {
        IGNORE(fs_unlink(path, NULL)); /* nobody will ask for it; else swept at a start */
        atomic_store(flag_of(d->removed, last_two(id)), true);
    }
    return rc;
}

/* ---- writing ------------------------------------------------------------------------*/

static void put_free(struct blob_put *p)
{
    fs_close(&p->fd);
    EVP_MD_CTX_free(p->sha);
    mem_free(p->collect);
    mem_free(p);
}

static void op_abort(struct blob_put *p)
{
    if (!p)
        return;
    if (p->fd >= 0)
        IGNORE(fs_unlink(p->path, NULL)); /* tmp/ is emptied at the next start anyway */
    put_free(p);
}

static enum rc op_put(void *self, struct blob_put **ret, struct err *e)
{
    struct blob_put *p = mem_new(struct blob_put);
    enum rc rc = tmp_path(self, p->path, e);

    p->dir = self;
    p->fd = -1;
    p->sha = EVP_MD_CTX_new();
    if (!p->sha || EVP_DigestInit_ex(p->sha, EVP_sha256(), NULL) != 1)
        rc = err_set(e, RC_NOMEM, "no memory for a SHA-256 sum");
    if (rc == RC_OK)
        rc = fs_open(p->path, O_WRONLY | O_CREAT | O_EXCL, 0600, &p->fd, e);
    if (rc != RC_OK) {
        op_abort(p);
        return rc;
    }
    *ret = p;
    return RC_OK;
}

/* Has the disk begin early on a large file, so that the sync at its end is short. */
static void push(struct blob_put *p)
{
    if (p->bytes - p->pushed < WRITEBACK_BYTES)
        return;
    (void)sync_file_range(p->fd, (off_t)p->pushed, (off_t)(p->bytes - p->pushed),
                          SYNC_FILE_RANGE_WRITE); /* a hint: promises nothing */
    p->pushed = p->bytes;
}

static enum rc put_bytes(struct blob_put *p, const void *data, size_t n, struct err *e)
{
    if (n == 0)
        return RC_OK;
    if (EVP_DigestUpdate(p->sha, data, n) != 1)
        return p->failed = err_set(e, RC_NOMEM, "SHA-256 failed");
    p->failed = fs_write(p->fd, data, n, p->path, e);
    p->bytes += n;
    push(p);
    return p->failed;
}

static enum rc flush(struct blob_put *p, struct err *e)
{
    size_t n = p->n;

    p->n = 0;
    return put_bytes(p, p->collect, n, e);
}

static enum rc op_write(struct blob_put *p, const void *data, size_t n, struct err *e)
{
    enum rc rc = RC_OK;

    if (p->failed != RC_OK)
        return err_set(e, p->failed, "writing this file failed before");
    if (p->n + n > COLLECT_BYTES)
        rc = flush(p, e);
    if (rc != RC_OK)
        return rc;
    if (n >= COLLECT_BYTES)
        return put_bytes(p, data, n, e);
    if (!p->collect) {
        p->collect = mem_try(COLLECT_BYTES);
        if (!p->collect)
            return put_bytes(p, data, n, e);
    }
    memcpy(p->collect + p->n, data, n);
    p->n += n;
    return RC_OK;
}

static enum rc finish_bytes(struct blob_put *p, struct blob_sum *ret, struct err *e)
{
    struct blob_sum sum = {0};
    enum rc rc = p->failed;

    if (rc != RC_OK)
        return err_set(e, rc, "writing this file failed before");
    rc = flush(p, e);
    if (rc == RC_OK && GUARD(BLOB_SYNC))
        rc = fs_sync(p->fd, p->path, e);
    if (rc == RC_OK)
        rc = fs_close_checked(&p->fd, p->path, e);
    if (rc != RC_OK)
        return rc;
    sum.bytes = p->bytes;
    if (EVP_DigestFinal_ex(p->sha, sum.sha256, NULL) != 1)
        return err_set(e, RC_NOMEM, "SHA-256 failed");
    *ret = sum;
    return RC_OK;
}

static enum rc op_commit(struct blob_put *p, const char *id, struct blob_sum *ret,
                         struct err *e)
{
    struct blob_sum sum;
    enum rc rc = finish_bytes(p, &sum, e);

    if (rc == RC_OK)
        rc = publish(p->dir, p->path, id, "", e);
    if (rc == RC_OK)
        *ret = sum;
    else
        IGNORE(fs_unlink(p->path, NULL)); /* as in op_abort */
    put_free(p);
    return rc;
}

static enum rc op_adopt(void *self, const char *path, const char *id, struct err *e)
{
    struct blob_dir *d = self;
    char tmp[FS_PATH_CAP], *target = realpath(path, NULL);
    struct stat st;
    enum rc rc;

    if (!target || stat(target, &st) < 0) {
        rc = err_sys(e, rc_of_errno(errno), errno, "cannot open '%s'", path);
        free(target); /* realpath's own allocation */
        return rc;
    }
    rc = S_ISREG(st.st_mode) ? tmp_path(d, tmp, e)
                             : err_set(e, RC_INVALID, "'%s' is not a regular file", path);
    if (rc == RC_OK && symlink(target, tmp) < 0)
        rc = err_sys(e, rc_of_errno(errno), errno, "cannot make the link '%s'", tmp);
    if (rc == RC_OK) {
        rc = publish(d, tmp, id, LINK_SUFFIX, e);
        if (rc != RC_OK)
            IGNORE(fs_unlink(tmp, NULL)); /* as in op_abort */
    }
    free(target); /* as above */
    return rc;
}

/* ---- reading ------------------------------------------------------------------------*/

static enum rc open_path(const struct blob_dir *d, const char *id, int *ret_fd,
                         struct err *e)
{
    char path[FS_PATH_CAP];
    enum rc rc = path_of(d, id, "", path, e);

    if (rc == RC_OK)
        rc = fs_open(path, O_RDONLY | O_NOFOLLOW, 0, ret_fd, e);
    if (rc != RC_NOTFOUND)
        return rc;
    rc = path_of(d, id, LINK_SUFFIX, path, e);
    if (rc == RC_OK)
        rc = fs_open(path, O_RDONLY, 0, ret_fd, NULL);
    if (rc == RC_NOTFOUND)
        return err_set(e, rc, "there is no file '%s'", id);
    return rc == RC_OK ? rc : err_set(e, rc, "cannot open '%s'", path);
}

static enum rc op_open(void *self, const char *id, struct blob **ret, struct err *e)
{
    struct blob *b;
    uint64_t size;
    int fd = -1;
    enum rc rc = open_path(self, id, &fd, e);

    if (rc == RC_OK)
        rc = fs_size(fd, &size, id, e);
    if (rc != RC_OK) {
        fs_close(&fd);
        return rc;
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL); /* advice; may fail */
    b = mem_new(struct blob);
    b->fd = fd;
    b->size = size;
    memcpy(b->name, id, strlen(id));
    *ret = b;
    return RC_OK;
}

static uint64_t op_size(const struct blob *b)
{
    return b->size;
}

static enum rc op_pread(struct blob *b, void *dst, size_t n, uint64_t off, size_t *ret_n,
                        struct err *e)
{
    size_t want = off < b->size ? (size_t)u64_min(n, b->size - off) : 0, got;
    enum rc rc = fs_pread(b->fd, dst, want, off, &got, b->name, e);

    if (rc != RC_OK)
        return rc;
    if (got < want)
        return err_set(
            e, RC_CORRUPT,
            "file '%s' became shorter: %llu bytes when it was opened, now %llu", b->name,
            (unsigned long long)b->size, (unsigned long long)(off + got));
    *ret_n = got;
    return RC_OK;
}

static int op_fd(const struct blob *b)
{
    return b->fd;
}

static void op_close(struct blob *b)
{
    if (!b)
        return;
    fs_close(&b->fd);
    mem_free(b);
}

/* ---- the directory ------------------------------------------------------------------*/

static enum rc op_remove(void *self, const char *id, struct err *e)
{
    struct blob_dir *d = self;
    char path[FS_PATH_CAP];
    enum rc rc = path_of(d, id, "", path, e);

    if (rc == RC_OK)
        rc = fs_unlink(path, e);
    if (rc == RC_OK)
        rc = path_of(d, id, LINK_SUFFIX, path, e);
    if (rc == RC_OK)
        rc = fs_unlink(path, e);
    if (rc == RC_OK)
        atomic_store(flag_of(d->removed, last_two(id)), true);
    return rc;
}

/* Calls fn for each entry but "." and "..". */
typedef enum rc entry_fn(void *ctx, const char *dir, const char *name, struct err *e);

static enum rc each_entry(const char *path, entry_fn *fn, void *ctx, struct err *e)
{
    enum rc rc = RC_OK;
    struct dirent *en;
    DIR *dir = opendir(path);

    if (!dir)
        return err_sys(e, rc_of_errno(errno), errno, "cannot open directory '%s'", path);
    while (errno = 0, rc == RC_OK && (en = readdir(dir)))
        if (strcmp(en->d_name, ".") != 0 && strcmp(en->d_name, "..") != 0)
            rc = fn(ctx, path, en->d_name, e);
    if (rc == RC_OK && errno)
        rc = err_sys(e, RC_IO, errno, "cannot read directory '%s'", path);
    closedir(dir);
    return rc;
}

static bool is_xx(const char *name)
{
    return strlen(name) == 2 && id_ok(str_of(name));
}

static enum rc note_removed(void *ctx, const char *dir, const char *name, struct err *e)
{
    struct blob_dir *d = ctx;

    (void)dir, (void)e;
    if (is_xx(name))
        atomic_store(flag_of(d->removed, name), true);
    return RC_OK;
}

/* One sync a directory and not one a file: a sweep may have removed thousands.  What is gone
 * from the page cache need not be gone from the disk: whoever removed it may have been
 * killed, and then no sweep sees it. */
static enum rc op_settle(void *self, bool all, struct err *e)
{
    struct blob_dir *d = self;
    enum rc rc = RC_OK;

    if (all && GUARD(REMOVED_EARLIER_SYNC))
        rc = each_entry(d->files, note_removed, d, e);
    for (int i = 0; i < XX && rc == RC_OK && GUARD(REMOVED_SYNC); i++) {
        char xx[3] = {(char)(i / 128), (char)(i % 128), '\0'}, path[FS_PATH_CAP];

        if (!atomic_exchange(&d->removed[i], false))
            continue;
        rc = fs_join(path, d->files, xx, e);
        if (rc == RC_OK)
            rc = fs_sync_dir(path, e);
        if (rc == RC_NOTFOUND) /* no such directory: no such name */
            rc = RC_OK;
    }
    return rc;
}

struct each {
    void (*fn)(void *ctx, const char *id);
    void *ctx;
    const char *xx;
};

static enum rc each_blob(void *ctx, const char *dir, const char *name, struct err *e)
{
    const struct each *x = ctx;
    struct str s = str_of(name);
    struct id id;

    (void)dir, (void)e;
    if (str_ends(s, STR(LINK_SUFFIX)))
        s.n -= sizeof LINK_SUFFIX - 1;
    /* What does not lie where its name belongs is none of ours. */
    if (s.n >= 2 && memcmp(s.p + s.n - 2, x->xx, 2) == 0 && id_from(s, &id) == RC_OK)
        x->fn(x->ctx, id.z);
    return RC_OK;
}

static enum rc each_dir(void *ctx, const char *dir, const char *name, struct err *e)
{
    struct each *x = ctx;
    char path[FS_PATH_CAP];
    enum rc rc;

    if (!is_xx(name))
        return RC_OK;
    rc = fs_join(path, dir, name, e);
    x->xx = name;
    return rc == RC_OK ? each_entry(path, each_blob, x, e) : rc;
}

static enum rc op_each(void *self, void (*fn)(void *ctx, const char *id), void *ctx,
                       struct err *e)
{
    const struct blob_dir *d = self;
    struct each x = {.fn = fn, .ctx = ctx};

    return each_entry(d->files, each_dir, &x, e);
}

static void op_shut(void *self)
{
    struct blob_dir *d = self;

    mem_free(d->files);
    mem_free(d->tmp);
    mem_free(d);
}

static const struct blob_ops ops = {
    .put = op_put,
    .write = op_write,
    .commit = op_commit,
    .abort = op_abort,
    .adopt = op_adopt,
    .open = op_open,
    .size = op_size,
    .pread = op_pread,
    .fd = op_fd,
    .close = op_close,
    .remove = op_remove,
    .each = op_each,
    .settle = op_settle,
    .shut = op_shut,
};

/* ---- opening ------------------------------------------------------------------------*/

static enum rc remove_tmp(void *ctx, const char *dir, const char *name, struct err *e)
{
    char path[FS_PATH_CAP];
    struct stat st;
    enum rc rc = fs_join(path, dir, name, e);

    (void)ctx;
    if (rc != RC_OK || (lstat(path, &st) == 0 && S_ISDIR(st.st_mode)))
        return rc; /* we never make directories there: not ours to delete */
    return fs_unlink(path, e);
}

static enum rc note_durable(void *ctx, const char *dir, const char *name, struct err *e)
{
    struct blob_dir *d = ctx;

    (void)dir, (void)e;
    if (is_xx(name))
        atomic_store(flag_of(d->durable, name), true);
    return RC_OK;
}

static enum rc open_dir(struct blob_dir *d, const char *dir, struct err *e)
{
    char files[FS_PATH_CAP], tmp[FS_PATH_CAP];
    enum rc rc = fs_join(files, dir, "files", e);

    if (rc == RC_OK)
        rc = fs_join(tmp, dir, "tmp", e);
    if (rc != RC_OK)
        return rc;
    d->files = mem_dup(files, strlen(files));
    d->tmp = mem_dup(tmp, strlen(tmp));
    rc = fs_mkdir(files, 0700, e);
    if (rc == RC_OK)
        rc = fs_mkdir(tmp, 0700, e);
    if (rc == RC_OK)
        rc = fs_sync_dir(dir, e);
    /* What is listed may come from a process that died before its own sync. */
    if (rc == RC_OK && GUARD(BLOB_FILES_SYNC))
        rc = fs_sync_dir(files, e);
    if (rc == RC_OK)
        rc = each_entry(files, note_durable, d, e);
    return rc == RC_OK && GUARD(TMP_EMPTIED) ? each_entry(tmp, remove_tmp, NULL, e) : rc;
}

enum rc blob_dir_open(const char *dir, struct blobs **ret, struct err *e)
{
    struct blob_dir *d = mem_new(struct blob_dir);
    enum rc rc = open_dir(d, dir, e);

    if (rc != RC_OK) {
        op_shut(d);
        return rc;
    }
    *ret = mem_new(struct blobs);
    (*ret)->ops = &ops;
    (*ret)->self = d;
    return RC_OK;
}
