/* SPDX-License-Identifier: Apache-2.0 */
/* Disk and ledger in trouble, at moments that the simulation found (tests/sim). */
/* link: -Wl,--wrap=fdatasync -Wl,--wrap=pwrite */
#include "tests/unit/engine/rig.h"

#include <errno.h>

/* --- The results logs' disk ----------------------------------------------------------- */

static atomic_bool full; /* no log can be written */
static atomic_uint refused, slow_syncs;
static atomic_bool slow; /* a sync waits until it is not */

static bool is_log(int fd)
{
    char link[64], path[256];
    ssize_t n;

    if (str_fmt(link, sizeof link, "/proc/self/fd/%d", fd) != RC_OK)
        return false;
    n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    return strstr(path, ".log") != NULL;
}

ssize_t __real_pwrite(int fd, const void *p, size_t n, off_t off);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t off);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t off)
{
    if (!atomic_load(&full) || !is_log(fd))
        return __real_pwrite(fd, p, n, off);
    atomic_fetch_add(&refused, 1);
    errno = ENOSPC;
    return -1;
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    if (atomic_load(&slow) && is_log(fd)) {
        atomic_fetch_add(&slow_syncs, 1);
        while (atomic_load(&slow))
            usleep(1000);
    }
    return __real_fdatasync(fd);
}

/* --- A ledger that answers as we like -------------------------------------------------- */

static struct store_ops ops;     /* the real ones, but for: */
static struct store real, front; /* the engine has front */
static atomic_int no_space;      /* so many moves find the disk full */
static atomic_bool dies; /* the next PUBLISHED is committed and answered with RC_IO */
static atomic_bool gone;

static enum rc move(void *self, const struct id *project, const char *id,
                    enum batch_event ev, int64_t now, const struct batch_change *change,
                    struct batch *ret, struct err *e)
{
    enum rc rc;

    if (ev == BATCH_EV_EXPIRE && atomic_load(&no_space) > 0) {
        atomic_fetch_sub(&no_space, 1);
        return err_set(e, RC_NOSPACE, "the ledger's disk is full");
    }
    rc = real.ops->batch_move(self, project, id, ev, now, change, ret, e);
    if (rc == RC_OK && ev == BATCH_EV_PUBLISHED && atomic_load(&dies)) {
        batch_done(ret);
        atomic_store(&gone, true);
        return err_set(e, RC_IO, "the ledger died");
    }
    return rc;
}

/* The rig's engine, with our ledger before the real one. */
static void open_with_front(struct rig *r)
{
    rig_open(r);
    r->engine = engine_free(r->engine);
    real = *r->store;
    ops = *real.ops;
    ops.batch_move = move;
    front = (struct store){&ops, real.self};
    r->o.store = &front;
    r->o.upstreams = &(struct engine_upstream){.url = r->url};
    EQ_RC(engine_new(&r->o, &r->engine, &(struct err){""}), RC_OK);
}

static const char *const slowly[] = {"--latency", "30ms", NULL};

/* The log's next try and the ledger's had one timer: the later took it from the other. */
TEST_SLOW(a_batch_that_expires_while_log_and_ledger_are_full_ends_when_there_is_room, 60)
{
    struct rig r = {.o.max_inflight = 2};
    char *text = lines(300);
    struct batch b;
    struct id id, other;

    sim_start(&r, slowly);
    open_with_front(&r);
    id = add_batch(&r, add_file(&r, text), 2);
    usleep(300000);
    atomic_store(&full, true);
    atomic_store(&no_space, 1);
    while (atomic_load(&no_space) > 0)
        usleep(1000);
    OK(atomic_load(&refused) > 0);
    atomic_store(&full, false);
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_EXPIRED);
    check_lines(&r, &b, 300);
    batch_done(&b);
    other = add_batch(&r,
                      add_file(&r, "{\"custom_id\":\"r-0\",\"method\":\"POST\",\"url\":"
                                   "\"/v1/chat/completions\",\"body\":{\"model\":"
                                   "\"sim-model\",\"messages\":[]}}\n"),
                      86400);
    b = wait_end(&r, &other); /* and the others go on */
    EQ_INT(b.status, BATCH_COMPLETED);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}

/* What a ledger that died had committed is there in the next life: so must be the files. */
TEST_SLOW(an_end_that_a_dying_ledger_committed_keeps_its_files, 60)
{
    struct rig r = {.o.max_inflight = 8};
    char *text = lines(20);
    struct batch b;
    struct id id;

    sim_start(&r, NULL);
    open_with_front(&r);
    atomic_store(&dies, true);
    id = add_batch(&r, add_file(&r, text), 86400);
    while (!atomic_load(&gone))
        usleep(1000);
    while (atomic_load(&deaths) == 0)
        usleep(1000);
    atomic_store(&dies, false);
    r.o.store = NULL;
    rig_close(&r);
    atomic_store(&deaths, 0);
    rig_open(&r);
    b = view(&r, &id);
    EQ_INT(b.status, BATCH_COMPLETED);
    check_lines(&r, &b, 20);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}

/* The commit that was under way had freed its results, and they were freed again. */
TEST_SLOW(a_stop_during_a_slow_sync_is_in_order, 60)
{
    struct rig r = {.o.max_inflight = 4};
    char *text = lines(300);
    struct batch b;
    struct id id;

    sim_start(&r, slowly);
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 86400);
    usleep(300000);
    atomic_store(&slow, true);
    while (atomic_load(&slow_syncs) == 0)
        usleep(1000);
    engine_drain(r.engine, 0); /* it does not wait for a disk for ever */
    atomic_store(&slow, false);
    rig_close(&r);
    rig_open(&r);
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_COMPLETED);
    check_lines(&r, &b, 300);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}
