/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=lstat,--wrap=stat,--wrap=open,--wrap=flock */
/* A disk that cannot tell whether a file is there is not one without that file, and what
 * cannot be opened for a moment costs that moment. */
#include "base/mem.h"
#include "store/blob.h"
#include "store/datadir.h"
#include "store/keyring.h"
#include "store/reslog.h"
#include "tests/lib/t.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

static const char *hidden; /* the end of the path that cannot be looked at */
static int failure;        /* and why */
static int lock_failure;   /* of flock(2); 0: it does not fail */

int __real_stat(const char *path, struct stat *st);
int __real_lstat(const char *path, struct stat *st);
int __real_open(const char *path, int flags, ...);
int __real_flock(int fd, int op);
int __wrap_stat(const char *path, struct stat *st);
int __wrap_lstat(const char *path, struct stat *st);
int __wrap_open(const char *path, int flags, ...);
int __wrap_flock(int fd, int op);

static bool is_hidden(const char *path)
{
    size_t n = hidden ? strlen(hidden) : 0, all = strlen(path);

    if (n == 0 || all < n || strcmp(path + all - n, hidden) != 0)
        return false;
    errno = failure;
    return true;
}

int __wrap_stat(const char *path, struct stat *st)
{
    return is_hidden(path) ? -1 : __real_stat(path, st);
}

int __wrap_lstat(const char *path, struct stat *st)
{
    return is_hidden(path) ? -1 : __real_lstat(path, st);
}

int __wrap_open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list ap;

    va_start(ap, flags);
    if (flags & O_CREAT)
        mode = va_arg(ap, mode_t);
    va_end(ap);
    return is_hidden(path) ? -1 : __real_open(path, flags, mode);
}

int __wrap_flock(int fd, int op)
{
    if (!lock_failure)
        return __real_flock(fd, op);
    errno = lock_failure;
    return -1;
}

static void hide(const char *name, int errnum)
{
    hidden = name;
    failure = errnum;
}

static enum rc open_dir(struct datadir **ret, struct err *e)
{
    struct datadir_opts o = {.create = true};

    return datadir_open("data", &o, ret, e);
}

static void close_dir(struct datadir *d, bool clean)
{
    struct err e = {""};

    EQ_RC(datadir_close(d, clean, &e), RC_OK);
}

TEST(a_format_that_cannot_be_looked_at_is_not_a_missing_one)
{
    struct datadir *d = NULL;
    struct err e = {""};

    EQ_RC(open_dir(&d, &e), RC_OK);
    close_dir(d, true);
    hide("/FORMAT", EIO);
    EQ_RC(open_dir(&d, &e), RC_IO);
    OK(strstr(e.text, "FORMAT") && strstr(e.text, strerror(EIO)));
    hide(NULL, 0);
    EQ_RC(open_dir(&d, &e), RC_OK);
    close_dir(d, true);
}

TEST(a_note_of_an_orderly_stop_that_cannot_be_looked_at_does_not_stay)
{
    struct datadir *d = NULL;
    struct err e = {""};

    EQ_RC(open_dir(&d, &e), RC_OK);
    close_dir(d, true);
    hide("/CLEAN", ENOMEM);
    EQ_RC(open_dir(&d, &e), RC_NOMEM);
    hide(NULL, 0);
    EQ_RC(open_dir(&d, &e), RC_OK);
    OK(datadir_was_clean(d));
    close_dir(d, false); /* as a crash would */
    EQ_RC(open_dir(&d, &e), RC_OK);
    OK(!datadir_was_clean(d));
    close_dir(d, true);
}

TEST(a_lock_that_cannot_be_taken_is_not_taken_for_another_process)
{
    struct datadir *d = NULL;
    struct err e = {""};

    lock_failure = ENOLCK;
    EQ_RC(open_dir(&d, &e), RC_IO);
    OK(strstr(e.text, "LOCK") && strstr(e.text, strerror(ENOLCK)));
    lock_failure = EWOULDBLOCK;
    EQ_RC(open_dir(&d, &e), RC_CONFLICT);
    lock_failure = 0;
    EQ_RC(open_dir(&d, &e), RC_OK);
    close_dir(d, true);
}

TEST(keys_that_were_never_there_are_not_gone_after_a_failure_to_look)
{
    struct keyring *k;
    struct err e = {""};

    EQ_RC(keyring_open(".", &k, &e), RC_OK);
    EQ_RC(keyring_state(k, &e), RC_NOTFOUND);
    hide("/keys", EMFILE);
    EQ_RC(keyring_state(k, &e), RC_IO); /* there may be one: nobody gets in */
    hide(NULL, 0);
    EQ_RC(keyring_state(k, &e), RC_NOTFOUND);
    EQ_RC(keyring_state(k, &e), RC_NOTFOUND);
    k = keyring_free(k);
}

TEST(a_log_that_finds_no_descriptor_is_made_later)
{
    struct id batch = id_make(ID_BATCH);
    struct reslog *l = NULL;
    struct err e = {""};

    EQ_INT(mkdir("spool", 0700), 0);
    hide("spool", EMFILE); /* the directory can be read, and not opened to be synced */
    EQ_RC(reslog_create("spool", &batch, 3, &l, &e), RC_NOMEM);
    OK(strstr(e.text, "spool") && strstr(e.text, strerror(EMFILE)));
    hide(NULL, 0);
    EQ_RC(reslog_create("spool", &batch, 3, &l, &e), RC_OK); /* nothing was left there */
    l = reslog_close(l);
}

static void count_one(void *ctx, const char *id)
{
    (void)id;
    ++*(int *)ctx;
}

TEST(a_blob_whose_directory_cannot_be_synced_does_not_stay)
{
    struct id id = id_make(ID_FILE);
    char xx[8];
    struct blobs *b = NULL;
    struct blob_put *put = NULL;
    struct blob_sum sum;
    struct err e = {""};
    int n = 0;

    EQ_RC(str_fmt(xx, sizeof xx, "/%s", id.z + strlen(id.z) - 2), RC_OK);
    EQ_RC(blob_dir_open(".", &b, &e), RC_OK);
    EQ_RC(b->ops->put(b->self, &put, &e), RC_OK);
    EQ_RC(b->ops->write(put, "abc", 3, &e), RC_OK);
    hide(xx, ENFILE);
    EQ_RC(b->ops->commit(put, id.z, &sum, &e), RC_NOMEM);
    hide(NULL, 0);
    EQ_RC(b->ops->each(b->self, count_one, &n, &e), RC_OK);
    EQ_INT(n, 0);
    b = blobs_close(b);
}
