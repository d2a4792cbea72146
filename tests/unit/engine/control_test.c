/* SPDX-License-Identifier: Apache-2.0 */
/* What may be changed of a batch while it runs. */
#include "tests/unit/engine/rig.h"

static void edit(struct rig *r, const struct id *id, const struct batch_edit *e)
{
    struct batch b = {0};
    struct err err;

    EQ_RC(engine_edit(r->engine, NULL, id->z, e, &b, &err), RC_OK);
    batch_done(&b);
}

static void pause_it(struct rig *r, const struct id *id, bool paused)
{
    edit(r, id, &(struct batch_edit){.has_paused = true, .paused = paused});
}

static uint32_t done_of(struct rig *r, const struct id *id)
{
    struct batch b = view(r, id);
    uint32_t n = b.counts.completed + b.counts.failed;

    batch_done(&b);
    return n;
}

static void wait_done(struct rig *r, const struct id *id, uint32_t n)
{
    while (done_of(r, id) < n)
        usleep(1000);
}

/* Until two looks 100 ms apart see the same count. */
static uint32_t wait_still(struct rig *r, const struct id *id)
{
    uint32_t was = UINT32_MAX, n = done_of(r, id);

    while (was != n) {
        was = n;
        usleep(100000);
        n = done_of(r, id);
    }
    return n;
}

static const char *const slowly[] = {"--latency", "20ms", NULL};

TEST(a_paused_batch_stands_still_and_goes_on_also_after_a_restart)
{
    struct rig r = {.o.max_inflight = 4};
    char *text = lines(400);
    struct batch b;
    struct id id;
    uint32_t n;

    sim_start(&r, slowly);
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 86400);
    wait_done(&r, &id, 20);
    pause_it(&r, &id, true);
    n = wait_still(&r, &id);
    OK(n >= 20 && n < 400);
    rig_close(&r);
    rig_open(&r);
    EQ_INT(wait_still(&r, &id), n);
    b = view(&r, &id);
    EQ_INT(b.status, BATCH_IN_PROGRESS);
    batch_done(&b);
    pause_it(&r, &id, false);
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_COMPLETED);
    check_lines(&r, &b, 400);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}

TEST(a_batch_paused_with_its_last_lines_in_flight_completes)
{
    struct rig r = {.o.max_inflight = 8};
    char *text = lines(8);
    struct batch b;
    struct id id;

    sim_start(&r, (const char *const[]){"--latency", "300ms", NULL});
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 86400);
    for (struct engine_live l = {0}; l.counts.total == 0; usleep(1000))
        (void)engine_live(r.engine, id.z, &l);
    usleep(50000);
    pause_it(&r, &id, true);
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_COMPLETED);
    check_lines(&r, &b, 8);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}

TEST(a_paused_batch_can_be_cancelled)
{
    struct rig r = {.o.max_inflight = 4};
    char *text = lines(100);
    struct batch b = {0};
    struct err e;
    struct id id;

    sim_start(&r, slowly);
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 86400);
    pause_it(&r, &id, true); /* perhaps before it is validated */
    IGNORE(wait_still(&r, &id));
    EQ_RC(r.store->ops->batch_move(r.store->self, NULL, id.z, BATCH_EV_CANCEL,
                                   clock_wall_sec(), NULL, &b, &e),
          RC_OK);
    batch_done(&b);
    engine_cancel(r.engine, &id);
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_CANCELLED);
    check_lines(&r, &b, 100);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}

static struct id add_as(struct rig *r, struct batch b)
{
    struct err e;

    b.id = id_make(ID_BATCH);
    b.endpoint = ENDPOINT_CHAT;
    b.created_at = clock_wall_sec();
    b.expires_at = b.created_at + 86400;
    memcpy(b.window, "24h", 4);
    EQ_RC(r->store->ops->batch_add(r->store->self, &b, NULL, NULL, &e), RC_OK);
    engine_submit(r->engine, &b.id);
    return b.id;
}

static struct id add_held(struct rig *r, struct id file, uint32_t hold, int priority)
{
    return add_as(r,
                  (struct batch){.input_file = file, .hold = hold, .priority = priority});
}

TEST(a_sample_runs_its_lines_waits_and_goes_on)
{
    struct rig r = {.o.max_inflight = 4};
    char *text = lines(50);
    struct batch b;
    struct id id;

    sim_start(&r, NULL);
    rig_open(&r);
    id = add_held(&r, add_file(&r, text), 7, 0);
    wait_done(&r, &id, 7);
    EQ_INT(wait_still(&r, &id), 7);
    rig_close(&r);
    rig_open(&r);
    EQ_INT(wait_still(&r, &id), 7);
    edit(&r, &id, &(struct batch_edit){.has_hold = true});
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_COMPLETED);
    check_lines(&r, &b, 50);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}

TEST(a_hold_above_the_last_line_holds_nothing)
{
    struct rig r = {0};
    char *text = lines(50);
    struct batch b;
    struct id id;

    sim_start(&r, NULL);
    rig_open(&r);
    id = add_held(&r, add_file(&r, text), 60, 0);
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_COMPLETED);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}

TEST(a_higher_priority_overtakes_a_running_batch)
{
    struct rig r = {.o.max_inflight = 2};
    char *text = lines(300), *few = lines(20);
    struct batch b;
    struct id low, high;

    sim_start(&r, slowly);
    rig_open(&r);
    low = add_held(&r, add_file(&r, text), 0, -5);
    wait_done(&r, &low, 10);
    high = add_held(&r, add_file(&r, few), 0, 5);
    b = wait_end(&r, &high);
    EQ_INT(b.status, BATCH_COMPLETED);
    OK(done_of(&r, &low) < 250);
    batch_done(&b);
    mem_free(text);
    mem_free(few);
    rig_end(&r);
}

static void edit_deadline(struct rig *r, const struct id *id, int64_t at)
{
    edit(r, id,
         &(struct batch_edit){.has_window = true, .window = "7s", .expires_at = at});
}

TEST(a_deadline_moved_nearer_expires_the_batch_and_one_moved_away_saves_it)
{
    struct rig r = {.o.max_inflight = 1};
    char *text = lines(60);
    struct id nearer, away;
    struct batch b;

    sim_start(&r, (const char *const[]){"--latency", "50ms", NULL});
    rig_open(&r);
    nearer = add_batch(&r, add_file(&r, text), 86400);
    away = add_batch(&r, add_file(&r, text), 2);
    wait_done(&r, &away, 1);
    edit_deadline(&r, &nearer, clock_wall_sec() + 1);
    edit_deadline(&r, &away, clock_wall_sec() + 3600);
    b = wait_end(&r, &nearer);
    EQ_INT(b.status, BATCH_EXPIRED);
    EQ_Z(b.window, "7s");
    check_lines(&r, &b, 60);
    batch_done(&b);
    b = wait_end(&r, &away);
    EQ_INT(b.status, BATCH_COMPLETED);
    check_lines(&r, &b, 60);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}

/* Whoever was told of a longer deadline gets it, whatever the expiry does meanwhile. */
TEST(a_deadline_moved_at_the_last_moment_counts_or_is_refused)
{
    struct rig r = {.o.max_inflight = 64};
    struct id ids[12];
    bool moved[12];

    sim_start(&r, NULL);
    rig_open(&r);
    for (unsigned i = 0; i < 12; i++) {
        char *text = lines(3);

        ids[i] = add_batch(&r, add_file(&r, text), 2);
        pause_it(&r, &ids[i], true);
        mem_free(text);
    }
    while (clock_wall() % USEC_PER_SEC > 900000) /* not across a second */
        usleep(1000);
    for (unsigned i = 0; i < 12; i++) {
        struct batch_edit e = {.has_window = true, .has_paused = true, .window = "1h"};
        struct batch b = view(&r, &ids[i]);
        usec_t at = b.expires_at * USEC_PER_SEC + (usec_t)i * 300 - 600;
        struct err err;

        e.expires_at = b.expires_at + 3600;
        batch_done(&b);
        while (clock_wall() < at)
            ;
        moved[i] = engine_edit(r.engine, NULL, ids[i].z, &e, &b, &err) == RC_OK;
        batch_done(&b);
    }
    for (unsigned i = 0; i < 12; i++) {
        struct batch b = wait_end(&r, &ids[i]);

        EQ_INT(b.status, moved[i] ? BATCH_COMPLETED : BATCH_EXPIRED);
        check_lines(&r, &b, 3);
        batch_done(&b);
    }
    rig_end(&r);
}

TEST(nothing_of_a_batch_at_its_end_can_be_changed)
{
    struct rig r = {0};
    struct batch_edit edit_of = {.has_paused = true, .paused = true};
    char *text = lines(2);
    struct batch b;
    struct id id;
    struct err e;

    sim_start(&r, NULL);
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 86400);
    b = wait_end(&r, &id);
    batch_done(&b);
    EQ_RC(engine_edit(r.engine, NULL, id.z, &edit_of, &b, &e), RC_CONFLICT);
    EQ_INT(b.status, BATCH_COMPLETED);
    batch_done(&b);
    EQ_RC(engine_edit(r.engine, NULL, "batch_none", &edit_of, &b, &e), RC_NOTFOUND);
    mem_free(text);
    rig_end(&r);
}

/* --- What it says of itself ---------------------------------------------------------- */

static struct engine_progress ask(struct rig *r, const struct id *id)
{
    struct engine_progress p;

    if (!engine_progress(r->engine, id, &p))
        p = (struct engine_progress){.why = "not live", .rate = -1, .eta = -1};
    return p;
}

/* Until it says what holds `text`, or the test's time is over. */
static struct engine_progress wait_why(struct rig *r, const struct id *id,
                                       const char *text)
{
    struct engine_progress p = ask(r, id);
    unsigned i = 0;

    for (; !strstr(p.why, text); i++) {
        if (i == 4000)
            FAIL("it says \"%s\", not \"%s\"", p.why, text);
        usleep(2000);
        p = ask(r, id);
    }
    return p;
}

TEST(a_running_batch_tells_its_figures)
{
    struct rig r = {.o.max_inflight = 4};
    char *text = lines(400);
    struct engine_progress p;
    struct id id;

    sim_start(&r, slowly);
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 86400);
    p = wait_why(&r, &id, "results a second");
    OK(strncmp(p.why, "Running: ", 9) == 0);
    OK(p.counted && p.inflight <= 4 && p.waiting < 396 && p.retrying == 0);
    OK(p.rate > 1 && p.rate < 400);
    OK(p.eta >= 0 && p.eta < 400);
    mem_free(text);
    rig_end(&r);
}

TEST(a_batch_says_what_its_owner_made_it_wait_for)
{
    struct rig r = {.o.max_inflight = 1};
    char *text = lines(30);
    struct engine_progress p;
    struct id id;

    sim_start(&r, slowly);
    rig_open(&r);
    id = add_held(&r, add_file(&r, text), 3, 0);
    p = wait_why(&r, &id, "Its sample, the first 3 lines, is done");
    EQ_INT(p.waiting, 27);
    EQ_INT(p.eta, -1);
    pause_it(&r, &id, true);
    edit(&r, &id, &(struct batch_edit){.has_hold = true});
    p = wait_why(&r, &id, "Paused by its owner. Resume it to go on.");
    EQ_INT(p.waiting, 27);
    EQ_INT(p.inflight, 0);
    pause_it(&r, &id, false);
    wait_why(&r, &id, "Running: 1 call in flight");
    wait_why(&r, &id, "not live");
    mem_free(text);
    rig_end(&r);
}

TEST(a_batch_says_that_others_go_before_it)
{
    struct engine_project project = {.name = "lab", .max_inflight = 1};
    struct rig r = {.o.max_inflight = 2, .o.projects = &project, .o.n_projects = 1};
    char *text = lines(100);
    struct id high, low, first, second, file;
    struct batch of_lab = {.project = {"lab"}};

    sim_start(&r, slowly);
    rig_open(&r);
    file = add_file(&r, text);
    high = add_held(&r, file, 0, 1);
    wait_why(&r, &high, "Running: 2 calls");
    low = add_held(&r, file, 0, 0);
    wait_why(&r, &low, "It waits behind ");
    wait_why(&r, &low, " lines of batches with a higher priority.");
    pause_it(&r, &high, true);
    pause_it(&r, &low, true);
    of_lab.input_file = add_file_of(&r, text, "lab");
    first = add_as(&r, of_lab);
    wait_why(&r, &first, "; its project may have no more than 1 at a time.");
    second = add_as(&r, of_lab);
    wait_why(
        &r, &second,
        "The limit of 1 call in flight that its project has is used by the project's "
        "other batches.");
    mem_free(text);
    rig_end(&r);
}

TEST(a_batch_says_what_is_wrong_with_its_upstream)
{
    struct rig r = {0};
    char *text = lines(5);
    struct engine_progress p;
    struct id id;

    rig_open(&r); /* none is configured */
    id = add_batch(&r, add_file(&r, text), 86400);
    wait_why(&r, &id, "No upstream server is configured.");
    rig_close(&r);
    sim_start(&r, NULL);
    rig_open(&r);
    wait_why(&r, &id, "not live"); /* done */
    kill(r.sim, SIGKILL);
    waitpid(r.sim, NULL, 0);
    r.sim = 0;
    id = add_batch(&r, add_file(&r, text), 86400);
    p = wait_why(&r, &id, " has failed or been unreachable since 2");
    EQ_INT(p.eta, -1);
    EQ_INT(p.waiting + p.retrying, 5);
    rig_close(&r);
    rig_open(&r); /* an upstream that never was reached */
    wait_why(&r, &id, " could not be reached yet");
    rig_end(&r);
    mem_free(text);
}

TEST(a_batch_says_that_its_upstream_refuses)
{
    struct rig r = {0};
    char *text = lines(5);
    struct id id;

    sim_start(&r, (const char *const[]){"--fault", "429=1", "--retry-after", "60", NULL});
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 86400);
    wait_why(&r, &id,
             " takes no calls at present (429 or 503); the next one is made in ");
    rig_end(&r);
    mem_free(text);
}

TEST(a_batch_says_that_its_lines_wait_for_another_try)
{
    struct rig r = {0};
    char *text = lines(3);
    struct id id;

    sim_start(&r, (const char *const[]){"--fault", "500=1", NULL});
    r.o.max_attempts = 100;
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 86400);
    r.o.max_attempts = 0;
    wait_why(&r, &id, "another try; the next is in ");
    rig_end(&r);
    mem_free(text);
}

TEST(a_batch_that_is_cancelled_says_what_is_waited_for)
{
    struct rig r = {.o.max_inflight = 2};
    char *text = lines(20);
    struct batch b = {0};
    struct err e;
    struct id id;

    sim_start(&r, (const char *const[]){"--latency", "700ms", NULL});
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 86400);
    wait_why(&r, &id, "Running: 2 calls in flight.");
    EQ_RC(r.store->ops->batch_move(r.store->self, NULL, id.z, BATCH_EV_CANCEL,
                                   clock_wall_sec(), NULL, &b, &e),
          RC_OK);
    batch_done(&b);
    engine_cancel(r.engine, &id);
    wait_why(&r, &id,
             "It is being cancelled: the answers of 2 calls in flight are waited for.");
    wait_why(&r, &id, "not live");
    mem_free(text);
    rig_end(&r);
}
