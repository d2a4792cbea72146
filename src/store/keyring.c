/* SPDX-License-Identifier: Apache-2.0 */
#include "store/keyring.h"
#include "base/fsio.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>

#define LOCK_NAME "keys.lock"

/* Every change makes the file longer, so two states never share all three, even when the
 * inode of one before is used again within a tick of the clock. */
struct stamp {
    dev_t dev;
    ino_t inode;
    struct timespec changed;
    off_t size;
};

struct keyring {
    char *path;
    pthread_rwlock_t lock; /* of all below */
    struct stamp stamp;    /* of what was read last; inode 0: nothing yet */
    bool seen;             /* there was a file */
    enum rc rc;            /* what reading it came to; RC_OK: keys stand */
    struct err why;
    struct keyfile keys;
    const struct key **by_id;
};

/* --- Reading --------------------------------------------------------------------------
 */

static struct stamp stamp_of(const struct stat *st)
{
    return (struct stamp){st->st_dev, st->st_ino, st->st_mtim, st->st_size};
}

static bool same(const struct stamp *a, const struct stamp *b)
{
    return a->inode == b->inode && a->dev == b->dev && a->size == b->size &&
           a->changed.tv_sec == b->changed.tv_sec &&
           a->changed.tv_nsec == b->changed.tv_nsec;
}

/* The file and its stamp as one: the name may be given to another at any moment. */
static enum rc read_file(const char *path, struct stamp *ret_stamp, struct keyfile *ret,
                         struct err *e)
{
    struct stat st;
    char *text = NULL;
    size_t n = 0;
    int fd = -1;
    enum rc rc = fs_open(path, O_RDONLY | O_NONBLOCK, 0, &fd, e); /* a FIFO would wait */

    if (rc != RC_OK)
        return rc;
    if (fstat(fd, &st) < 0)
        rc = err_sys(e, rc_of_errno(errno), errno, "cannot stat '%s'", path);
    else if (!S_ISREG(st.st_mode) || st.st_size > KEYFILE_MAX)
        rc = err_set(e, RC_CORRUPT, "'%s' is no file of keys: it has %lld bytes", path,
                     (long long)st.st_size);
    if (rc == RC_OK) {
        text = mem_try((size_t)st.st_size + 1);
        rc = text ? fs_pread(fd, text, (size_t)st.st_size, 0, &n, path, e)
                  : err_set(e, RC_NOMEM, "no memory to read '%s'", path);
    }
    fs_close(&fd);
    if (rc == RC_OK) {
        struct err what = {""};

        *ret_stamp = stamp_of(&st);
        rc = keyfile_parse((struct str){text, n}, ret, &what);
        if (rc != RC_OK)
            rc = err_set(e, rc, "the keys in '%s' cannot be used: %s", path, what.text);
    }
    mem_free(text);
    return rc;
}

static int by_id(const void *a, const void *b)
{
    const struct key *const *x = a, *const *y = b;

    return strcmp((*x)->id, (*y)->id);
}

static void take_keys(struct keyring *k, struct keyfile *fresh)
{
    keyfile_done(&k->keys);
    mem_free(k->by_id);
    k->keys = *fresh;
    k->by_id = mem_new_n(const struct key *, fresh->n + 1);
    for (size_t i = 0; i < fresh->n; i++)
        k->by_id[i] = &k->keys.v[i];
    qsort(k->by_id, fresh->n, sizeof *k->by_id, by_id);
}

/* Says so once for each thing that is wrong, and when it is right again. */
static void tell(const struct keyring *k, enum rc before, const char *why_before)
{
    char text[2 * sizeof k->why.text];

    if (k->rc == RC_OK)
        log_info("keys.read", "keys=%zu", k->keys.n);
    else if (before == RC_OK || strcmp(k->why.text, why_before) != 0)
        log_error("keys.unusable", "rc=%s err=%s text=\"every call is refused\"",
                  rc_name(k->rc),
                  log_q(text, sizeof text, k->why.text, strlen(k->why.text)));
}

/* With the lock held for writing.  there: the file was, a moment ago. */
static void reload(struct keyring *k, bool there)
{
    struct err before = k->why, why = {""};
    struct keyfile fresh = {0};
    enum rc rc_before = k->rc;

    /* A stamp is kept only of what was read: a file that cannot be is tried again. */
    k->stamp = (struct stamp){0};
    k->rc = read_file(k->path, &k->stamp, &fresh, &why);
    /* A failure to look at it does not tell that there is one. */
    k->seen = k->seen || there || k->rc == RC_OK || k->rc == RC_CORRUPT;
    if (k->rc == RC_NOTFOUND && !k->seen) {
        k->why = why;
        return;
    }
    if (k->rc == RC_NOTFOUND)
        err_set(&why, RC_IO,
                "the keys file '%s' has gone; put it back, or start the server again to "
                "do without keys",
                k->path);
    /* NOTFOUND and DENIED mean something else to our callers. */
    if (k->rc != RC_OK && k->rc != RC_CORRUPT)
        k->rc = RC_IO;
    k->why = why;
    if (k->rc == RC_OK)
        take_keys(k, &fresh);
    tell(k, rc_before, before.text);
}

/* Comes back with the lock held for reading and the file's present state in k. */
static void hold_fresh(struct keyring *k)
{
    struct stamp now = {0};
    struct stat st;
    bool none = false, there = stat(k->path, &st) == 0;

    if (there)
        now = stamp_of(&st);
    else
        none = errno == ENOENT || errno == ENOTDIR;
    pthread_rwlock_rdlock(&k->lock);
    if ((none && !k->seen && k->rc == RC_NOTFOUND) ||
        (now.inode != 0 && same(&now, &k->stamp)))
        return;
    pthread_rwlock_unlock(&k->lock);
    pthread_rwlock_wrlock(&k->lock);
    reload(k, there);
    pthread_rwlock_unlock(&k->lock);
    pthread_rwlock_rdlock(&k->lock);
}

static enum rc state(const struct keyring *k, struct err *e)
{
    if (k->rc == RC_OK || k->rc == RC_NOTFOUND)
        return k->rc;
    return err_set(e, k->rc, "%s", k->why.text);
}

enum rc keyring_state(struct keyring *k, struct err *e)
{
    enum rc rc;

    hold_fresh(k);
    rc = state(k, e);
    pthread_rwlock_unlock(&k->lock);
    return rc;
}

/* --- Checking -------------------------------------------------------------------------
 */

static void digest(struct str text, uint8_t ret[KEY_SHA256])
{
    if (EVP_Digest(text.p, text.n, ret, NULL, EVP_sha256(), NULL) != 1)
        PANIC("libcrypto has no SHA-256");
}

/* The public id in a text of the form of a key. */
static bool take_id(struct str shown, struct str *ret)
{
    struct str prefix = STR(KEY_PREFIX);

    if (shown.n != KEY_TEXT_CAP - 1 || !str_starts(shown, prefix) ||
        shown.p[prefix.n + KEY_ID_DIGITS] != '-')
        return false;
    *ret = (struct str){shown.p + prefix.n, KEY_ID_DIGITS};
    return true;
}

static const struct key *find(const struct keyring *k, struct str id)
{
    size_t low = 0, high = k->keys.n;

    CHECK(id.p && id.n == KEY_ID_DIGITS);
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = memcmp(k->by_id[mid]->id, id.p, id.n);

        if (c == 0)
            return k->by_id[mid];
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

enum rc keyring_check(struct keyring *k, struct str shown, struct id *ret_project,
                      struct id *ret_key, struct err *e)
{
    /* Compared with when there is no such key: the work is the same either way. */
    static const struct key nobody = {.revoked_at = 1};
    const struct key *key = NULL;
    uint8_t sum[KEY_SHA256];
    struct str id = {0};
    bool form = take_id(shown, &id), good;
    enum rc rc;

    if (form)
        digest(shown, sum);
    hold_fresh(k);
    rc = state(k, e);
    if (rc == RC_OK) {
        key = form ? find(k, id) : NULL;
        if (!key)
            key = &nobody;
        good = form && CRYPTO_memcmp(sum, key->sha256, sizeof sum) == 0;
        if (good && !key->revoked_at) {
            *ret_project = key->project;
            CHECK(id_from(str_of(key->id), ret_key) == RC_OK);
        } else {
            rc = err_set(e, RC_DENIED, "no such key is in force");
        }
    }
    pthread_rwlock_unlock(&k->lock);
    mem_wipe(sum, sizeof sum);
    return rc;
}

enum rc keyring_stands(struct keyring *k, const struct id *key, struct err *e)
{
    const struct key *found;
    enum rc rc;

    hold_fresh(k);
    rc = state(k, e);
    if (rc == RC_OK) {
        found = key_id_ok(id_str(key)) ? find(k, id_str(key)) : NULL;
        if (!found || found->revoked_at)
            rc = err_set(e, RC_DENIED, "no such key is in force");
    } else if (rc == RC_NOTFOUND) {
        rc = RC_OK;
    }
    pthread_rwlock_unlock(&k->lock);
    return rc;
}

enum rc keyring_open(const char *dir, struct keyring **ret, struct err *e)
{
    char path[FS_PATH_CAP];
    enum rc rc = fs_join(path, dir, KEYFILE_NAME, e);
    struct keyring *k;

    if (rc != RC_OK)
        return rc;
    k = mem_new(struct keyring);
    k->path = mem_dup(path, strlen(path));
    k->rc = RC_NOTFOUND;
    CHECK(pthread_rwlock_init(&k->lock, NULL) == 0);
    *ret = k;
    return RC_OK;
}

struct keyring *keyring_free(struct keyring *k)
{
    if (!k)
        return NULL;
    pthread_rwlock_destroy(&k->lock);
    keyfile_done(&k->keys);
    mem_free(k->by_id);
    mem_free(k->path);
    mem_free(k);
    return NULL;
}

/* --- Changing -------------------------------------------------------------------------
 */

enum rc keyring_list(const char *dir, struct keyfile *ret, struct err *e)
{
    char path[FS_PATH_CAP];
    struct stamp stamp;
    enum rc rc = fs_join(path, dir, KEYFILE_NAME, e);

    return rc == RC_OK ? read_file(path, &stamp, ret, e) : rc;
}

/* The keys as they stand, with room for one more, and the lock on them. */
static enum rc begin(const char *dir, struct keyfile *ret, int *ret_lock, struct err *e)
{
    struct keyfile now = {0};
    struct key *more;
    enum rc rc = fs_lock(dir, LOCK_NAME, ret_lock, e);

    if (rc != RC_OK)
        return rc == RC_NOTFOUND ? RC_IO : rc; /* the directory is not there */
    rc = keyring_list(dir, &now, e);
    if (rc != RC_OK && rc != RC_NOTFOUND) { /* not there: the first key makes it */
        fs_close(ret_lock);
        return rc;
    }
    more = mem_new_n(struct key, now.n + 1);
    if (now.n)
        memcpy(more, now.v, now.n * sizeof *more);
    mem_free(now.v);
    *ret = (struct keyfile){more, now.n};
    return RC_OK;
}

static enum rc commit(const char *dir, struct keyfile *k, int *lock, struct err *e)
{
    struct buf text;
    enum rc rc;

    buf_init(&text, KEYFILE_MAX);
    keyfile_put(k, &text);
    rc = buf_failed(&text);
    if (rc == RC_OK)
        rc = fs_replace(dir, KEYFILE_NAME, text.p, text.n, e);
    else
        rc = err_set(e, rc, "the keys do not fit %u bytes", KEYFILE_MAX);
    buf_done(&text);
    keyfile_done(k);
    fs_close(lock);
    return rc;
}

static enum rc abandon(struct keyfile *k, int *lock, enum rc rc)
{
    keyfile_done(k);
    fs_close(lock);
    return rc;
}

static struct key *in_force(const struct keyfile *k, struct str name)
{
    for (size_t i = 0; i < k->n; i++)
        if (!k->v[i].revoked_at && str_is(name, k->v[i].name))
            return &k->v[i];
    return NULL;
}

/* Makes the text, and the record that it can be checked against. */
static void make_key(char text[KEY_TEXT_CAP], struct key *ret)
{
    uint8_t raw[(KEY_ID_DIGITS + KEY_SECRET) / 2];
    struct buf b;

    random_bytes(raw, sizeof raw);
    buf_init(&b, KEY_TEXT_CAP);
    buf_z(&b, KEY_PREFIX);
    for (size_t i = 0; i < sizeof raw; i++)
        buf_fmt(&b, "%s%02x", i == KEY_ID_DIGITS / 2 ? "-" : "", raw[i]);
    CHECK(!buf_failed(&b) && b.n == KEY_TEXT_CAP - 1);
    memcpy(text, b.p, b.n);
    text[b.n] = '\0';
    mem_wipe(b.p, b.n);
    buf_done(&b);
    mem_wipe(raw, sizeof raw);
    memcpy(ret->id, text + sizeof KEY_PREFIX - 1, KEY_ID_DIGITS);
    digest((struct str){text, KEY_TEXT_CAP - 1}, ret->sha256);
}

static enum rc check_words(struct str name, struct str project, struct err *e)
{
    if (!key_name_ok(name))
        return err_set(e, RC_INVALID,
                       "'%.*s' cannot be a key's name: 1 to %d letters, digits, '.', "
                       "'_', '@' and '-', the first a letter or digit, and not the form "
                       "of an id",
                       (int)u64_min(name.n, 100), name.p, KEY_NAME_CAP - 1);
    if (!project_ok(project))
        return err_set(e, RC_INVALID,
                       "'%.*s' cannot be a project's name: 1 to %d lower-case letters, "
                       "digits, '_' and '-', the first a letter or digit",
                       (int)u64_min(project.n, 100), project.p, PROJECT_CAP - 1);
    return RC_OK;
}

enum rc keyring_add(const char *dir, struct str name, struct str project, int64_t now,
                    char ret_text[KEY_TEXT_CAP], struct key *ret, struct err *e)
{
    char text[KEY_TEXT_CAP];
    struct keyfile keys = {0};
    struct key *fresh;
    int lock = -1;
    enum rc rc = check_words(name, project, e);

    if (rc == RC_OK)
        rc = begin(dir, &keys, &lock, e);
    if (rc != RC_OK)
        return rc;
    if (in_force(&keys, name))
        return abandon(&keys, &lock,
                       err_set(e, RC_CONFLICT,
                               "there is a key named '%.*s' already; revoke it first, or "
                               "choose another name",
                               STR_ARG(name)));
    if (keys.n == KEYS_MAX)
        return abandon(
            &keys, &lock,
            err_set(e, RC_LIMIT, "there are %u keys, the most there can be", KEYS_MAX));
    fresh = &keys.v[keys.n++];
    make_key(text, fresh);
    memcpy(fresh->name, name.p, name.n);
    memcpy(fresh->project.z, project.p, project.n);
    fresh->created_at = now > 0 ? now : 1;
    *ret = *fresh;
    rc = commit(dir, &keys, &lock, e);
    if (rc == RC_OK)
        memcpy(ret_text, text, sizeof text);
    mem_wipe(text, sizeof text);
    return rc;
}

enum rc keyring_revoke(const char *dir, struct str name_or_id, int64_t now,
                       struct key *ret, struct err *e)
{
    struct keyfile keys = {0};
    struct key *key;
    int lock = -1;
    enum rc rc = begin(dir, &keys, &lock, e);

    if (rc != RC_OK)
        return rc;
    key = in_force(&keys, name_or_id);
    for (size_t i = 0; i < keys.n && !key; i++)
        if (!keys.v[i].revoked_at && str_is(name_or_id, keys.v[i].id))
            key = &keys.v[i];
    if (!key)
        return abandon(
            &keys, &lock,
            err_set(e, RC_NOTFOUND,
                    "no key with the name or id '%.*s' is in force; batchd key "
                    "list shows all",
                    (int)u64_min(name_or_id.n, 100), name_or_id.p));
    key->revoked_at = now > 0 ? now : 1;
    *ret = *key;
    return commit(dir, &keys, &lock, e);
}
