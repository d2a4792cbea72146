/* SPDX-License-Identifier: Apache-2.0 */
#include "app/janitor.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/statvfs.h>
#include <time.h>

#define EVERY        (60 * USEC_PER_SEC)
#define WARN_AGAIN   (600 * USEC_PER_SEC)
#define IDS_MAX      ((size_t)1 << 30) /* 20 million names */
#define REAP_AT_ONCE 64
#define CLOCK_NOTED  600 /* seconds: how old the note of the time may be */
#define OUTBOX_KEPT  ((int64_t)OUTBOX_KEPT_DAYS * 86400)

struct janitor {
    struct janitor_opts o;
    _Atomic uint64_t disk_warn;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool stop;
    usec_t warned; /* 0: the disk was fine when last looked at */
};

/* --- Sweeping ------------------------------------------------------------------------
 */

static void note_id(void *ctx, const char *id)
{
    buf_add(ctx, id, strlen(id) + 1); /* with its NUL; a failure stays in the buf */
}

enum rc janitor_sweep(struct store *store, struct blobs *blobs, size_t *ret_removed,
                      struct err *e)
{
    struct buf ids;
    size_t removed = 0, at = 0;
    enum rc rc;

    buf_init(&ids, IDS_MAX);
    rc = blobs->ops->each(blobs->self, note_id, &ids, e);
    if (rc == RC_OK && buf_failed(&ids))
        rc = err_set(e, buf_failed(&ids), "no memory for the names of all files");
    while (rc == RC_OK && at < ids.n) {
        const char *id = ids.p + at;
        bool known = true;

        rc = store->ops->file_known(store->self, id, &known, e);
        if (rc == RC_OK && !known) {
            rc = blobs->ops->remove(blobs->self, id, e);
            removed++;
        }
        at += strlen(id) + 1;
    }
    buf_done(&ids);
    *ret_removed = removed;
    return rc;
}

/* --- Reaping -------------------------------------------------------------------------
 */

/* file_reap and file_forget, or those of the parts of uploads. */
struct reaped {
    enum rc (*find)(void *self, int64_t now, struct id *ret, size_t max, size_t *ret_n,
                    struct err *e);
    enum rc (*forget)(void *self, const char *id, struct err *e);
};

static enum rc reap_kind(struct store *store, struct blobs *blobs, struct reaped kind,
                         int64_t now, size_t *removed, struct err *e)
{
    struct id ids[REAP_AT_ONCE];
    size_t n = 0;
    enum rc rc;

    do {
        rc = kind.find(store->self, now, ids, COUNTOF(ids), &n, e);
        /* The bytes go first: a row without bytes is found again, bytes without a row
         * would only be found by the next sweep. */
        for (size_t i = 0; i < n && rc == RC_OK; i++) {
            rc = blobs->ops->remove(blobs->self, ids[i].z, e);
            if (rc == RC_OK)
                rc = kind.forget(store->self, ids[i].z, e);
            *removed += rc == RC_OK;
        }
    } while (rc == RC_OK && n == COUNTOF(ids));
    return rc;
}

enum rc janitor_reap(struct store *store, struct blobs *blobs, int64_t now,
                     size_t *ret_removed, struct err *e)
{
    const struct store_ops *ops = store->ops;
    enum rc rc;

    *ret_removed = 0;
    rc = reap_kind(store, blobs, (struct reaped){ops->file_reap, ops->file_forget}, now,
                   ret_removed, e);
    if (rc == RC_OK)
        rc = reap_kind(store, blobs, (struct reaped){ops->upload_reap, ops->part_forget},
                       now, ret_removed, e);
    if (rc == RC_OK)
        rc = ops->outbox_purge(store->self, now - OUTBOX_KEPT, e);
    return rc;
}

/* --- The thread ----------------------------------------------------------------------
 */

static void look_at_disk(struct janitor *j, usec_t now)
{
    uint64_t least = atomic_load(&j->disk_warn), free_bytes;
    struct statvfs fs;

    if (statvfs(datadir_path(j->o.datadir), &fs) < 0)
        return;
    free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (free_bytes < least && (!j->warned || now - j->warned >= WARN_AGAIN)) {
        log_warn("disk.low", "dir=\"%s\" free_mb=%llu warn_below_mb=%llu",
                 datadir_path(j->o.datadir), (unsigned long long)(free_bytes >> 20),
                 (unsigned long long)(least >> 20));
        j->warned = now;
    } else if (free_bytes >= least && j->warned) {
        log_info("disk.ok", "dir=\"%s\" free_mb=%llu", datadir_path(j->o.datadir),
                 (unsigned long long)(free_bytes >> 20));
        j->warned = 0;
    }
}

/* On a full disk even a delete may find no room for its own record: that is what the
 * reserve is for.  It is taken back as soon as there is room. */
static enum rc reap(struct janitor *j, size_t *ret_removed, struct err *e)
{
    enum rc rc = janitor_reap(j->o.store, j->o.blobs, clock_due_sec(), ret_removed, e);
    size_t more = 0;

    if (rc != RC_NOSPACE) {
        IGNORE(datadir_restore_reserve(j->o.datadir, NULL)); /* no room yet: next time */
        return rc;
    }
    log_warn("disk.full", "dir=\"%s\" text=\"the reserve is given up\"",
             datadir_path(j->o.datadir));
    rc = datadir_release_reserve(j->o.datadir, e);
    if (rc == RC_OK)
        rc = janitor_reap(j->o.store, j->o.blobs, clock_due_sec(), &more, e);
    *ret_removed += more;
    return rc;
}

/* What the next start compares its clock with.  A full disk has other worries. */
static void note_clock(struct janitor *j)
{
    int64_t now = clock_due_sec();
    struct err e = {""};
    char text[sizeof e.text];

    if (now / CLOCK_NOTED == datadir_clock(j->o.datadir) / CLOCK_NOTED)
        return;
    if (datadir_note_clock(j->o.datadir, now, &e) != RC_OK)
        log_warn("clock.unnoted", "err=%s",
                 log_q(text, sizeof text, e.text, strlen(e.text)));
}

static void round_of(struct janitor *j)
{
    size_t removed = 0;
    struct err e = {""};
    char text[sizeof e.text];
    enum rc rc = reap(j, &removed, &e);

    if (removed)
        log_info("files.reaped", "files=%zu", removed);
    if (rc != RC_OK)
        log_warn("files.reap_failed", "rc=%s err=%s", rc_name(rc),
                 log_q(text, sizeof text, e.text, strlen(e.text)));
    look_at_disk(j, clock_mono());
    note_clock(j);
}

static struct timespec after(usec_t t)
{
    usec_t at = clock_mono() + t;

    return (struct timespec){.tv_sec = at / USEC_PER_SEC,
                             .tv_nsec = at % USEC_PER_SEC * 1000};
}

static void *thread_main(void *ctx)
{
    struct janitor *j = ctx;

    pthread_mutex_lock(&j->lock);
    while (!j->stop) {
        struct timespec until;

        pthread_mutex_unlock(&j->lock);
        round_of(j);
        until = after(j->o.every);
        pthread_mutex_lock(&j->lock);
        while (!j->stop &&
               pthread_cond_timedwait(&j->cond, &j->lock, &until) != ETIMEDOUT)
            continue;
    }
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

enum rc janitor_new(const struct janitor_opts *o, struct janitor **ret, struct err *e)
{
    struct janitor *j = mem_new(struct janitor);
    pthread_condattr_t mono;
    int errnum;

    j->o = *o;
    if (!j->o.every)
        j->o.every = EVERY;
    atomic_store(&j->disk_warn, o->disk_warn);
    pthread_mutex_init(&j->lock, NULL);
    pthread_condattr_init(&mono);
    pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
    pthread_cond_init(&j->cond, &mono);
    pthread_condattr_destroy(&mono);
    errnum = pthread_create(&j->thread, NULL, thread_main, j);
    if (errnum != 0) {
        mem_free(j);
        return err_sys(e, RC_NOMEM, errnum, "cannot start the housekeeping thread");
    }
    *ret = j;
    return RC_OK;
}

struct janitor *janitor_free(struct janitor *j)
{
    if (!j)
        return NULL;
    pthread_mutex_lock(&j->lock);
    j->stop = true;
    pthread_cond_signal(&j->cond);
    pthread_mutex_unlock(&j->lock);
    pthread_join(j->thread, NULL);
    pthread_cond_destroy(&j->cond);
    pthread_mutex_destroy(&j->lock);
    mem_free(j);
    return NULL;
}

void janitor_set_disk_warn(struct janitor *j, uint64_t bytes)
{
    atomic_store(&j->disk_warn, bytes);
}
