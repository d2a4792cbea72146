/* SPDX-License-Identifier: Apache-2.0 */
#include "app/outfile.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_BYTES = 1 << 20 };

enum rc outfile_check(const char *path, struct err *e)
{
    struct stat st;

    if (strcmp(path, "-") == 0)
        return err_set(e, RC_INVALID, "'-' is no file: results need a name of their own");
    if (stat(path, &st) < 0)
        return RC_OK; /* opening it will tell what is wrong, when something is */
    if (S_ISDIR(st.st_mode))
        return err_set(e, RC_INVALID, "'%.300s' is a directory; a file is needed", path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, RC_INVALID, "'%.300s' is not a regular file", path);
    return RC_OK;
}

enum rc outfile_dir(const char *path, char ret[FS_PATH_CAP], struct err *e)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;

    if (slash == path)
        n = 1; /* the root */
    if (str_fmt(ret, FS_PATH_CAP, "%.*s", n ? (int)n : 1, n ? path : ".") == RC_OK)
        return RC_OK;
    return err_set(e, RC_LIMIT, "the path '%.200s' is too long", path);
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

bool outfile_same(const char *a, const char *b)
{
    char dir_a[FS_PATH_CAP], dir_b[FS_PATH_CAP];
    struct stat sa, sb;
    bool there_a = stat(a, &sa) == 0, there_b = stat(b, &sb) == 0;

    if (there_a != there_b)
        return false;
    if (there_a)
        return sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
    if (outfile_dir(a, dir_a, NULL) != RC_OK || outfile_dir(b, dir_b, NULL) != RC_OK ||
        stat(dir_a, &sa) < 0 || stat(dir_b, &sb) < 0)
        return strcmp(a, b) == 0;
    return sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino &&
           strcmp(last_part(a), last_part(b)) == 0;
}

/* A link is followed first: what is to be replaced is the file, not the link to it. */
static enum rc names(struct outfile *o, const char *path, struct err *e)
{
    struct stat st;
    bool is_link = lstat(path, &st) == 0 && S_ISLNK(st.st_mode);

    if (is_link && realpath(path, o->path) == NULL)
        return err_sys(e, rc_of_errno(errno), errno, "cannot follow the link '%.300s'",
                       path);
    if ((is_link || str_fmt(o->path, sizeof o->path, "%s", path) == RC_OK) &&
        str_fmt(o->part, sizeof o->part, "%s.part", o->path) == RC_OK)
        return RC_OK;
    return err_set(e, RC_LIMIT, "the path '%.200s' is too long", path);
}

enum rc outfile_open(struct outfile *o, const char *path, struct err *e)
{
    enum rc rc = outfile_check(path, e);

    o->fd = -1;
    if (rc == RC_OK)
        rc = names(o, path, e);
    if (rc == RC_OK)
        rc = fs_open(o->part, O_WRONLY | O_CREAT | O_TRUNC, 0666, &o->fd, e);
    return rc;
}

enum rc outfile_write(struct outfile *o, const void *p, size_t n, struct err *e)
{
    return fs_write(o->fd, p, n, o->part, e);
}

static enum rc sync_dir_of(const char *path, struct err *e)
{
    char dir[FS_PATH_CAP];
    enum rc rc = outfile_dir(path, dir, e);

    return rc == RC_OK ? fs_sync_dir(dir, e) : rc;
}

static enum rc publish(struct outfile *o, struct err *e)
{
    enum rc rc = fs_rename(o->part, o->path, e);

    return rc == RC_OK ? sync_dir_of(o->path, e) : rc;
}

enum rc outfile_commit(struct outfile *o, struct err *e)
{
    enum rc rc = fs_sync(o->fd, o->part, e);

    if (rc == RC_OK)
        rc = fs_close_checked(&o->fd, o->part, e);
    if (rc == RC_OK)
        rc = publish(o, e);
    if (rc != RC_OK)
        outfile_abort(o);
    return rc;
}

void outfile_abort(struct outfile *o)
{
    if (o->fd < 0)
        return;
    fs_close(&o->fd);
    IGNORE(fs_unlink(o->part, NULL)); /* what made us give up is the one to tell */
}

/* --- Placing ------------------------------------------------------------------------ */

static mode_t new_file_mode(void)
{
    mode_t mask = umask(0);

    umask(mask);
    return 0666 & ~mask;
}

static enum rc copy(int fd, const char *path, struct err *e)
{
    struct outfile o;
    char *chunk;
    uint64_t off = 0;
    size_t n = 0;
    enum rc rc = outfile_open(&o, path, e);

    if (rc != RC_OK)
        return rc;
    chunk = mem_alloc(COPY_BYTES);
    do {
        rc = fs_pread(fd, chunk, COPY_BYTES, off, &n, path, e);
        if (rc == RC_OK)
            rc = outfile_write(&o, chunk, n, e);
        off += n;
    } while (rc == RC_OK && n == COPY_BYTES);
    mem_free(chunk);
    if (rc == RC_OK)
        return outfile_commit(&o, e);
    outfile_abort(&o);
    return rc;
}

/* By an earlier try that did not get to its end; rename(2) between two names of one file
 * does nothing and would leave both. */
static bool is_placed(int fd, const char *path)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

static enum rc set_mode(int fd, const char *path, struct err *e)
{
    if (fchmod(fd, new_file_mode()) == 0)
        return RC_OK;
    return err_sys(e, rc_of_errno(errno), errno, "cannot set the mode of '%.300s'", path);
}

enum rc outfile_place(int fd, const char *path, struct err *e)
{
    struct outfile o = {.fd = -1};
    char self[64];
    enum rc rc = outfile_check(path, e);

    if (rc == RC_OK)
        rc = names(&o, path, e);
    if (rc == RC_OK)
        rc = fs_unlink(o.part, e);
    if (rc != RC_OK)
        return rc;
    rc = set_mode(fd, o.path, e);
    if (rc != RC_OK || is_placed(fd, o.path))
        return rc == RC_OK ? sync_dir_of(o.path, e) : rc;
    CHECK(str_fmt(self, sizeof self, "/proc/self/fd/%d", fd) == RC_OK);
    /* Another file system, or one without links: the bytes have to move. */
    if (linkat(AT_FDCWD, self, AT_FDCWD, o.part, AT_SYMLINK_FOLLOW) < 0)
        return copy(fd, path, e);
    rc = publish(&o, e);
    if (rc != RC_OK)
        IGNORE(fs_unlink(o.part, NULL)); /* what failed before is the one to tell */
    return rc;
}

enum rc outfile_remove_stale(const char *path, struct err *e)
{
    enum rc rc = outfile_check(path, e);

    if (rc != RC_OK || access(path, F_OK) < 0)
        return rc;
    rc = fs_unlink(path, e);
    if (rc == RC_OK)
        fprintf(stderr,
                "batchd: deleted '%s' of an earlier run: nothing failed this time\n",
                path);
    return rc;
}
