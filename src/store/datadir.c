/* SPDX-License-Identifier: Apache-2.0 */
#include "store/datadir.h"
#include "base/clock.h"
#include "base/crc.h"
#include "base/fsio.h"
#include "base/guard.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define FORMAT        1u
#define FORMAT_PREFIX "batchd data "
#define CLEAN_TEXT    "clean\n"

struct datadir {
    char *path, *ledger, *spool, *reserve;
    int lock;
    uint64_t reserve_bytes;
    bool was_clean;
    int64_t clock; /* as the last process noted it; 0: it did not */
};

static const char *const made_by_us[] = {"LOCK", "FORMAT",   "FORMAT.tmp", "files",
                                         "tmp",  "spool",    "reserve",    "CLEAN",
                                         "keys", "keys.tmp", "keys.lock",  "lost+found",
                                         ".",    "..",       "clock",      "clock.tmp"};

static char *join(const char *dir, const char *name)
{
    char path[FS_PATH_CAP];

    return fs_join(path, dir, name, NULL) == RC_OK ? mem_dup(path, strlen(path)) : NULL;
}

/* A disk that cannot tell is not one without the file. */
static enum rc exists(const char *dir, const char *name, bool *ret, struct err *e)
{
    char path[FS_PATH_CAP];
    struct stat st;
    enum rc rc = fs_join(path, dir, name, e);

    if (rc != RC_OK)
        return rc;
    *ret = lstat(path, &st) == 0;
    if (!*ret && errno != ENOENT)
        return err_sys(e, rc_of_errno(errno), errno, "cannot look at '%s'", path);
    return RC_OK;
}

/* ---- the directory itself -----------------------------------------------------------*/

/* Makes the entry of a new directory durable in its parent. */
static enum rc sync_parent(const char *path, struct err *e)
{
    char parent[FS_PATH_CAP];

    if (str_fmt(parent, sizeof parent, "%s/..", path) != RC_OK)
        return err_set(e, RC_LIMIT, "the path '%.200s' is too long", path);
    return fs_sync_dir(parent, e);
}

static enum rc make_dir(const char *path, bool create, struct err *e)
{
    struct stat st;
    enum rc rc;

    if (stat(path, &st) == 0)
        return S_ISDIR(st.st_mode)
                   ? RC_OK
                   : err_set(e, RC_INVALID, "'%s' is not a directory", path);
    if (errno != ENOENT || !create)
        return err_sys(e, rc_of_errno(errno), errno, "cannot open data directory '%s'",
                       path);
    rc = fs_mkdir(path, 0700, e);
    return rc == RC_OK ? sync_parent(path, e) : rc;
}

/* Without this, `--data-dir ~` would be filled with our files. */
static enum rc check_empty(const char *path, struct err *e)
{
    enum rc rc = RC_OK;
    struct dirent *d;
    DIR *dir = opendir(path);

    if (!dir)
        return err_sys(e, rc_of_errno(errno), errno, "cannot open directory '%s'", path);
    while (errno = 0, rc == RC_OK && (d = readdir(dir))) {
        size_t i = 0;

        while (i < COUNTOF(made_by_us) && strcmp(d->d_name, made_by_us[i]) != 0)
            i++;
        if (i == COUNTOF(made_by_us))
            rc = err_set(e, RC_CORRUPT,
                         "'%s' is not a data directory: it holds '%.100s' and no FORMAT; "
                         "name an empty or a new directory",
                         path, d->d_name);
    }
    if (rc == RC_OK && errno)
        rc = err_sys(e, RC_IO, errno, "cannot read directory '%s'", path);
    closedir(dir);
    return rc;
}

/* ---- FORMAT -------------------------------------------------------------------------*/

static bool parse_format(struct str text, uint64_t *ret)
{
    struct str prefix = STR(FORMAT_PREFIX), line = str_cut(&text, '\n');

    if (!str_starts(line, prefix))
        return false;
    line.p += prefix.n;
    line.n -= prefix.n;
    return str_u64(line, ret) == RC_OK && *ret > 0;
}

static enum rc read_format(const char *path, struct err *e)
{
    char file[FS_PATH_CAP], *text = NULL;
    uint64_t version = 0;
    size_t n = 0;
    bool good;
    enum rc rc = fs_join(file, path, "FORMAT", e);

    if (rc == RC_OK)
        rc = fs_slurp(file, 4096, &text, &n, e);
    if (rc != RC_OK && rc != RC_LIMIT)
        return rc;
    good = rc == RC_OK && parse_format((struct str){text, n}, &version);
    mem_free(text);
    if (!good)
        return err_set(e, RC_CORRUPT,
                       "'%s' does not tell the format of a data directory; restore it "
                       "from a backup, or write '" FORMAT_PREFIX "%u' into it",
                       file, FORMAT);
    if (version > FORMAT)
        return err_set(e, RC_CORRUPT,
                       "data directory '%s' has format %llu, this program knows up to "
                       "%u: run the newer batchd that made it, or name another directory",
                       path, (unsigned long long)version, FORMAT);
    return RC_OK;
}

/* FORMAT comes last, and on a disk: where it is, the directories beside it are. */
static enum rc make_format(const char *path, struct err *e)
{
    static const char *const dirs[] = {"files", "tmp", "spool"};
    char sub[FS_PATH_CAP], text[64];
    enum rc rc = check_empty(path, e);

    for (size_t i = 0; rc == RC_OK && i < COUNTOF(dirs); i++) {
        rc = fs_join(sub, path, dirs[i], e);
        if (rc == RC_OK)
            rc = fs_mkdir(sub, 0700, e);
    }
    if (rc == RC_OK && GUARD(FORMAT_LAST))
        rc = fs_sync_dir(path, e);
    snprintf(text, sizeof text, FORMAT_PREFIX "%u\n", FORMAT);
    return rc == RC_OK ? fs_replace(path, "FORMAT", text, strlen(text), e) : rc;
}

/* ---- CLEAN --------------------------------------------------------------------------*/

/* Gone for good before anything else is written: a crash from now on is seen. */
static enum rc take_clean(struct datadir *d, struct err *e)
{
    char path[FS_PATH_CAP];
    enum rc rc = exists(d->path, "CLEAN", &d->was_clean, e);

    if (rc == RC_OK)
        rc = fs_join(path, d->path, "CLEAN", e);
    if (rc != RC_OK || !d->was_clean || !GUARD(CLEAN_GONE))
        return rc;
    rc = fs_unlink(path, e);
    return rc == RC_OK ? fs_sync_dir(d->path, e) : rc;
}

/* ---- the reserve --------------------------------------------------------------------*/

enum rc datadir_release_reserve(struct datadir *d, struct err *e)
{
    int fd = -1;
    enum rc rc = fs_open(d->reserve, O_WRONLY, 0, &fd, e);

    if (rc == RC_NOTFOUND)
        return RC_OK;
    if (rc == RC_OK)
        rc = fs_truncate(fd, 0, d->reserve, e);
    /* A journal gives freed blocks back only when it has noted them. */
    if (rc == RC_OK)
        rc = fs_sync(fd, d->reserve, e);
    fs_close(&fd);
    return rc;
}

/* A try that fails must not keep the last free blocks: it goes back to `before`. */
static enum rc allocate(int fd, uint64_t n, uint64_t before, const char *path,
                        struct err *e)
{
    int rc, errnum;

    do {
        rc = fallocate(fd, 0, 0, (off_t)n);
    } while (rc < 0 && errno == EINTR);
    if (rc == 0 || errno == EOPNOTSUPP) /* no such thing on this file system */
        return RC_OK;
    errnum = errno;
    IGNORE(
        fs_truncate(fd, before, path, NULL)); /* the first failure is the one to tell */
    return err_sys(e, rc_of_errno(errnum), errnum,
                   "cannot keep %llu bytes of reserve in '%s'", (unsigned long long)n,
                   path);
}

enum rc datadir_restore_reserve(struct datadir *d, struct err *e)
{
    uint64_t size = 0;
    int fd = -1;
    enum rc rc;

    if (d->reserve_bytes == 0)
        return fs_unlink(d->reserve, e);
    rc = fs_open(d->reserve, O_WRONLY | O_CREAT, 0600, &fd, e);
    if (rc == RC_OK)
        rc = fs_size(fd, &size, d->reserve, e);
    if (rc == RC_OK && size > d->reserve_bytes)
        rc = fs_truncate(fd, d->reserve_bytes, d->reserve, e);
    /* Also when the size is right: a copied directory may hold a file full of holes. */
    if (rc == RC_OK)
        rc = allocate(fd, d->reserve_bytes, u64_min(size, d->reserve_bytes), d->reserve,
                      e);
    fs_close(&fd);
    return rc;
}

/* ---- the clock ----------------------------------------------------------------------*/

/* What is no such line tells nothing: the clock is believed then. */
static int64_t parse_clock(struct str text)
{
    struct str number = str_cut(&text, ' ');
    char sum[16];
    uint64_t sec;

    if (str_u64(number, &sec) != RC_OK || sec > INT64_MAX / 2 / USEC_PER_SEC ||
        str_fmt(sum, sizeof sum, "%08x\n", crc32c(0, number.p, number.n)) != RC_OK ||
        !str_is(text, sum))
        return 0;
    return (int64_t)sec;
}

static enum rc read_clock(struct datadir *d, struct err *e)
{
    char path[FS_PATH_CAP], *text = NULL;
    size_t n = 0;
    enum rc rc = fs_join(path, d->path, "clock", e);

    if (rc == RC_OK)
        rc = fs_slurp(path, 64, &text, &n, e);
    if (rc == RC_OK)
        d->clock = parse_clock((struct str){text, n});
    mem_free(text);
    return rc == RC_NOTFOUND || rc == RC_LIMIT ? RC_OK : rc;
}

int64_t datadir_clock(const struct datadir *d)
{
    return d->clock;
}

enum rc datadir_note_clock(struct datadir *d, int64_t sec, struct err *e)
{
    char text[48];
    size_t n;
    enum rc rc = str_fmt(text, sizeof text, "%lld", (long long)sec);

    CHECK(rc == RC_OK && sec >= 0);
    n = strlen(text);
    CHECK(str_fmt(text + n, sizeof text - n, " %08x\n", crc32c(0, text, n)) == RC_OK);
    rc = fs_replace(d->path, "clock", text, strlen(text), e);
    if (rc == RC_OK)
        d->clock = sec;
    return rc;
}

/* ---- opening and closing ------------------------------------------------------------*/

static enum rc set_up(struct datadir *d, const struct datadir_opts *o, struct err *e)
{
    bool made = false;
    enum rc rc = make_dir(d->path, o->create, e);

    if (rc == RC_OK)
        rc = exists(d->path, "FORMAT", &made, e);
    /* Before LOCK is made: nothing of ours goes into a directory that is not. */
    if (rc == RC_OK && !made)
        rc = check_empty(d->path, e);
    if (rc == RC_OK)
        rc = fs_lock_dir(d->path, &d->lock, e);
    if (rc == RC_OK)
        rc = exists(d->path, "FORMAT", &made, e); /* another may have just made it */
    if (rc != RC_OK)
        return rc;
    if (!made && !o->create)
        return err_set(e, RC_CORRUPT, "'%s' is not a data directory: it has no FORMAT",
                       d->path);
    rc = made ? read_format(d->path, e) : make_format(d->path, e);
    if (rc == RC_OK)
        rc = take_clean(d, e);
    if (rc == RC_OK)
        rc = read_clock(d, e);
    d->was_clean = d->was_clean || !made;
    if (rc != RC_OK)
        return rc;
    rc = datadir_restore_reserve(d, e);
    return rc == RC_NOSPACE ? RC_OK : rc;
}

enum rc datadir_prepare(const char *path, bool create, struct err *e)
{
    bool made = false;
    enum rc rc = make_dir(path, create, e);

    if (rc == RC_OK)
        rc = exists(path, "FORMAT", &made, e);
    if (rc != RC_OK)
        return rc;
    return made ? read_format(path, e) : check_empty(path, e);
}

static void free_all(struct datadir *d)
{
    fs_close(&d->lock);
    mem_free(d->path);
    mem_free(d->ledger);
    mem_free(d->spool);
    mem_free(d->reserve);
    mem_free(d);
}

enum rc datadir_open(const char *path, const struct datadir_opts *o, struct datadir **ret,
                     struct err *e)
{
    struct datadir *d = mem_new(struct datadir);
    enum rc rc;

    d->lock = -1;
    d->path = mem_dup(path, strlen(path));
    d->ledger = join(path, "ledger.db");
    d->spool = join(path, "spool");
    d->reserve = join(path, "reserve");
    d->reserve_bytes = o->reserve_bytes;
    rc = d->ledger && d->spool && d->reserve
             ? set_up(d, o, e)
             : err_set(e, RC_LIMIT, "the path '%.200s' is too long", path);
    if (rc != RC_OK) {
        free_all(d);
        return rc;
    }
    *ret = d;
    return RC_OK;
}

bool datadir_was_clean(const struct datadir *d)
{
    return d->was_clean;
}

const char *datadir_path(const struct datadir *d)
{
    return d->path;
}

const char *datadir_ledger(const struct datadir *d)
{
    return d->ledger;
}

const char *datadir_spool(const struct datadir *d)
{
    return d->spool;
}

enum rc datadir_close(struct datadir *d, bool clean, struct err *e)
{
    enum rc rc = RC_OK;

    if (!d)
        return RC_OK;
    if (clean)
        rc = fs_replace(d->path, "CLEAN", CLEAN_TEXT, strlen(CLEAN_TEXT), e);
    free_all(d);
    return rc;
}
