/* SPDX-License-Identifier: Apache-2.0 */
/* Batches that would not be in time, against a server of four lines in 50 ms. */
#include "tests/unit/engine/rig.h"

static const char *const slowly[] = {"--latency", "50ms", NULL};

/* Until it is known what the server gets done: one batch runs. */
static void busy(struct rig *r, enum engine_admission admission)
{
    char *text = lines(100000);
    struct id id;
    struct engine_live live = {0};

    r->o.max_inflight = 4;
    r->o.max_lines = 200000;
    r->o.admission = admission;
    sim_start(r, slowly);
    rig_open(r);
    id = add_batch(r, add_file(r, text), 86400);
    mem_free(text);
    for (unsigned i = 0; i < 2000 && live.counts.completed < 500; i++) {
        usleep(10000);
        IGNORE(engine_live(r->engine, id.z, &live));
    }
    OK(live.counts.completed >= 500);
}

static struct batch when_judged(struct rig *r, const struct id *id)
{
    struct batch b = {0};
    struct err e;

    for (unsigned i = 0; i < 1000; i++) {
        batch_done(&b);
        EQ_RC(r->store->ops->batch_get(r->store->self, NULL, id->z, &b, &e), RC_OK);
        if (b.status != BATCH_VALIDATING)
            break;
        usleep(10000);
    }
    return b;
}

TEST_SLOW(a_batch_that_would_be_late_is_taken_and_that_is_told, 60)
{
    struct rig r = {0};
    struct engine_progress p;
    char *text = lines(5000); /* more than a minute */
    struct batch b;
    struct id id, small;

    busy(&r, ADMISSION_WARN);
    id = add_batch(&r, add_file(&r, text), 20);
    b = when_judged(&r, &id);
    EQ_INT(b.status, BATCH_IN_PROGRESS);
    OK(!b.idle);
    OK(engine_progress(r.engine, &id, &p));
    OK(p.late);
    OK(p.fits_at > b.expires_at && p.fits_at < b.created_at + 600);
    batch_done(&b);
    mem_free(text);
    text = lines(20);
    small = add_batch(&r, add_file(&r, text), 3600);
    b = when_judged(&r, &small);
    OK(engine_progress(r.engine, &small, &p));
    OK(!p.late);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}

TEST_SLOW(a_batch_that_would_be_late_is_refused_with_the_deadline_that_would_hold, 60)
{
    struct rig r = {0};
    char *text = lines(5000);
    struct batch b;
    struct id id;

    busy(&r, ADMISSION_REJECT);
    id = add_batch(&r, add_file(&r, text), 20);
    b = when_judged(&r, &id);
    EQ_INT(b.status, BATCH_FAILED);
    OK(b.errors && strstr(b.errors, "\"batch_capacity_exceeded\"") &&
       strstr(b.errors, "The earliest deadline that would hold is 20"));
    batch_done(&b);
    id = add_batch(&r, add_file(&r, text), 3600);
    b = when_judged(&r, &id);
    EQ_INT(b.status, BATCH_IN_PROGRESS);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}

TEST_SLOW(a_batch_that_would_be_late_is_taken_as_idle_work_also_after_a_restart, 60)
{
    struct rig r = {0};
    struct engine_progress p;
    char *text = lines(5000);
    struct batch b;
    struct id id;

    busy(&r, ADMISSION_IDLE);
    id = add_batch(&r, add_file(&r, text), 3600);
    b = when_judged(&r, &id);
    OK(!b.idle);
    batch_done(&b);
    id = add_batch(&r, add_file(&r, text), 50);
    b = when_judged(&r, &id);
    EQ_INT(b.status, BATCH_IN_PROGRESS);
    OK(b.idle);
    batch_done(&b);
    rig_close(&r);
    rig_open(&r);
    b = when_judged(&r, &id);
    OK(b.idle);
    batch_done(&b);
    for (unsigned i = 0; i < 500 && !engine_recovered(r.engine); i++)
        usleep(10000);
    OK(engine_progress(r.engine, &id, &p));
    mem_free(text);
    rig_end(&r);
}

TEST(nothing_is_refused_while_it_is_not_known_what_servers_get_done)
{
    struct rig r = {.o.max_inflight = 4, .o.admission = ADMISSION_REJECT};
    char *text = lines(5000);
    struct batch b;
    struct id id;

    sim_start(&r, slowly);
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 5);
    b = when_judged(&r, &id);
    EQ_INT(b.status, BATCH_IN_PROGRESS);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}
