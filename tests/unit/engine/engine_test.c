/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/engine/rig.h"

TEST(a_batch_goes_from_file_to_files)
{
    struct rig r = {0};
    char *text = lines(2000);
    struct batch b;
    struct id id;

    sim_start(&r, NULL);
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 86400);
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_COMPLETED);
    EQ_INT(b.counts.total, 2000);
    EQ_INT(b.counts.completed, 2000);
    EQ_Z(b.model, "sim-model");
    OK(b.has_usage && b.usage.total > 0 && id_none(&b.error_file));
    OK(b.in_progress_at >= b.created_at && b.finalizing_at && b.completed_at);
    check_lines(&r, &b, 2000);
    batch_done(&b);
    while (!engine_idle(r.engine)) /* its last note follows the row */
        usleep(1000);
    EQ_INT(rmdir("spool"), 0); /* nothing of it is left */
    EQ_INT(mkdir("spool", 0700), 0);
    mem_free(text);
    rig_end(&r);
}

/* r-0, r-1 ... with these models in turn. */
static char *lines_of(unsigned n, const char *const *models, unsigned n_models)
{
    struct buf b;

    buf_init(&b, 64 << 20);
    for (unsigned i = 0; i < n; i++)
        (void)buf_fmt(
            &b,
            "{\"custom_id\": \"r-%u\", \"method\": \"POST\", \"url\": "
            "\"/v1/chat/completions\", \"body\": {\"model\": \"%s\", "
            "\"messages\": [{\"role\": \"user\", \"content\": \"line %u\"}]}}\n",
            i, models[i % n_models], i);
    return buf_take(&b, NULL);
}

static void add_names(void *ctx, const struct catalog_model *m)
{
    size_t n = strlen(ctx);

    (void)snprintf((char *)ctx + n, 256 - n, "%s ", m->name);
}

TEST(lines_of_several_models_and_aliases_all_come_back)
{
    static const char *const flags[] = {"--strict-models", "--model=m-1", "--model=m-2",
                                        NULL};
    static const char *const models[] = {"m-1", "short", "m-2"};
    static char from[] = "short", to[] = "m-2";
    static const struct catalog_alias aliases[] = {{from, to}};
    struct rig r = {.o = {.many_models = true, .aliases = aliases, .n_aliases = 1}};
    char *text = lines_of(1500, models, 3), names[256] = "";
    struct batch b;
    struct id id;

    sim_start(&r, flags);
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 86400);
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_COMPLETED);
    EQ_INT(b.counts.completed, 1500);
    OK(b.model == NULL);
    check_lines(&r, &b, 1500);
    batch_done(&b);
    engine_models(r.engine, add_names, names);
    EQ_Z(names, "m-1 m-2 short ");
    mem_free(text);
    rig_end(&r);
}

TEST(a_model_that_nobody_serves_fails_the_batch)
{
    static const char *const flags[] = {"--model=m-1", NULL};
    static const char *const models[] = {"m-1", "m-3"};
    struct rig r = {.o = {.many_models = true}};
    char *text = lines_of(3, models, 2);
    struct batch b;
    struct id id;

    sim_start(&r, flags);
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 86400); /* judged once the list is there */
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_FAILED);
    OK(strstr(b.errors, "\"code\":\"model_not_found\"") &&
       strstr(b.errors, "\"line\":2"));
    OK(!strstr(b.errors, "\"line\":1"));
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}

TEST(an_unknown_input_file_fails_the_batch)
{
    struct rig r = {0};
    struct id id, file = {"file-nothing"};
    struct batch b;

    rig_open(&r);
    id = add_batch(&r, file, 86400);
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_FAILED);
    OK(strstr(b.errors, "\"code\":\"invalid_request\"") &&
       strstr(b.errors, "file-nothing"));
    OK(b.failed_at != 0);
    batch_done(&b);
    rig_end(&r);
}

TEST(bad_lines_fail_the_batch_before_anything_is_sent)
{
    struct rig r = {0};
    struct batch b;
    struct id id;

    rig_open(&r);
    id = add_batch(&r, add_file(&r, "{}\nnope\n"), 86400);
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_FAILED);
    OK(strstr(b.errors, "missing_required_parameter") &&
       strstr(b.errors, "invalid_json_line"));
    EQ_INT(b.counts.total, 0);
    batch_done(&b);
    EQ_INT(rmdir("spool"), 0);
    EQ_INT(mkdir("spool", 0700), 0);
    rig_end(&r);
}

TEST(faults_cost_retries_and_errors_but_no_line)
{
    static const char *const flags[] = {
        "--fault", "500=0.1,reset=0.05,400=0.05,garbage=0.05,429=0.05,html=0.02",
        "--seed", "3", NULL};
    struct rig r = {0};
    char *text = lines(1500);
    struct batch b;
    struct id id;

    sim_start(&r, flags);
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 86400);
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_COMPLETED);
    OK(b.counts.failed > 20 && b.counts.failed < 400);
    check_lines(&r, &b, 1500);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}

TEST(a_cancelled_batch_keeps_what_is_done_and_accounts_for_the_rest)
{
    static const char *const flags[] = {"--latency", "20ms", "--concurrency", "8", NULL};
    struct rig r = {.o.drain_timeout = 2 * USEC_PER_SEC};
    char *text = lines(2000);
    struct batch b;
    struct err e;
    struct id id;

    sim_start(&r, flags);
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 86400);
    do {
        usleep(2000);
        b = view(&r, &id);
        batch_done(&b);
    } while (b.counts.completed < 20);
    EQ_RC(r.store->ops->batch_move(r.store->self, NULL, id.z, BATCH_EV_CANCEL,
                                   clock_wall_sec(), NULL, NULL, &e),
          RC_OK);
    engine_cancel(r.engine, &id);
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_CANCELLED);
    OK(b.counts.completed >= 20 && b.counts.failed > 0 && b.cancelling_at &&
       b.cancelled_at);
    EQ_INT(b.finalizing_at, 0);
    check_lines(&r, &b, 2000);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}

TEST(an_expired_batch_keeps_what_is_done_and_accounts_for_the_rest)
{
    static const char *const flags[] = {"--latency", "50ms", "--concurrency", "4", NULL};
    struct rig r = {.o.drain_timeout = USEC_PER_SEC};
    char *text = lines(1000), *errors;
    struct batch b;
    struct id id;

    sim_start(&r, flags);
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 2);
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_EXPIRED);
    OK(b.finalizing_at && b.expired_at && b.counts.failed > 0 && b.counts.completed > 0);
    errors = content(&r, &b.error_file);
    OK(strstr(errors, "\"batch_expired\""));
    check_lines(&r, &b, 1000);
    mem_free(errors);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}

/* Lines come and go at the very moment: nothing may be sent while a job ends the batch's time
 * (ThreadSanitizer saw the loop read what the job wrote). */
TEST(a_batch_at_full_speed_expires_whole)
{
    static const char *const flags[] = {"--latency", "2ms", "--concurrency", "4", NULL};
    struct rig r = {.o.drain_timeout = USEC_PER_SEC};
    char *text = lines(6000);
    struct batch b;
    struct id id;

    sim_start(&r, flags);
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 2);
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_EXPIRED);
    OK(b.counts.completed > 0 && b.counts.failed > 0);
    check_lines(&r, &b, 6000);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}

TEST(a_deadline_that_passed_while_nothing_ran_is_kept_at_the_start)
{
    static const char *const flags[] = {"--fault", "stall=1", NULL};
    struct rig r = {0};
    char *text = lines(20);
    struct batch b;
    struct id id;

    sim_start(&r, flags);
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 1);
    rig_close(&r);
    sleep(2);
    rig_open(&r);
    b = wait_end(&r, &id); /* no call went out that would have to be waited for */
    EQ_INT(b.status, BATCH_EXPIRED);
    check_lines(&r, &b, 20);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}

TEST(without_an_upstream_a_batch_waits_and_expires)
{
    struct rig r = {0};
    char *text = lines(3);
    struct batch b;
    struct id id;

    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 1);
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_EXPIRED);
    OK(id_none(&b.output_file));
    check_lines(&r, &b, 3);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}

/* Batches of before may have answered a line twice: which answer stands is decided once. */
TEST(of_two_results_of_a_line_the_first_one_stands)
{
    static const char *const results[] = {"{\"custom_id\":\"r-0\",\"n\":1}\n",
                                          "{\"custom_id\":\"r-0\",\"n\":2}\n",
                                          "{\"custom_id\":\"r-1\",\"n\":3}\n"};
    struct rig r = {0};
    char *text = lines(2), *out;
    struct batch b = {
        .id = id_make(ID_BATCH), .endpoint = ENDPOINT_CHAT, .window = "24h"};
    struct reslog *log;
    struct err e;

    rig_open(&r);
    b.input_file = add_file(&r, text);
    b.created_at = clock_wall_sec();
    b.expires_at = b.created_at + 86400;
    EQ_RC(r.store->ops->batch_add(r.store->self, &b, NULL, NULL, &e), RC_OK);
    rig_close(&r);
    EQ_RC(reslog_create("spool", &b.id, 2, &log, &e), RC_OK);
    for (unsigned i = 0; i < 3; i++) {
        struct reslog_rec rec = {
            .item = i / 2, .kind = RESULT_OUTPUT, .payload = str_of(results[i])};

        EQ_RC(reslog_append(log, &rec), RC_OK);
    }
    EQ_RC(reslog_commit(log, reslog_cut(log), &e), RC_OK);
    reslog_close(log);
    rig_open(&r);
    b = wait_end(&r, &b.id);
    EQ_INT(b.status, BATCH_COMPLETED);
    EQ_INT(b.counts.completed, 2);
    out = content(&r, &b.output_file);
    OK(strncmp(out, results[0], strlen(results[0])) == 0);
    OK(strncmp(out + strlen(results[0]), results[2], strlen(results[2])) == 0);
    mem_free(out);
    mem_free(text);
    batch_done(&b);
    rig_end(&r);
}

TEST_SLOW(a_batch_survives_being_stopped_again_and_again, 60)
{
    static const char *const flags[] = {"--latency", "1ms-30ms", NULL};
    struct rig r = {0};
    char *text = lines(6000);
    struct batch b;
    struct id id;

    sim_start(&r, flags);
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 86400);
    for (unsigned i = 0; i < 8; i++) {
        uint32_t before;

        usleep(60000);
        b = view(&r, &id);
        before = b.counts.completed;
        batch_done(&b);
        if (i % 2)
            engine_drain(r.engine, 100 * USEC_PER_MS);
        rig_close(&r);
        rig_open(&r);
        b = view(&r, &id);
        OK(b.counts.completed >= before);
        batch_done(&b);
    }
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_COMPLETED);
    EQ_INT(b.counts.completed, 6000);
    check_lines(&r, &b, 6000);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}

TEST(a_batch_of_an_upstream_that_is_down_goes_on_when_it_is_back)
{
    static const char *const flags[] = {"--schedule", "down@0s+2s", NULL};
    struct rig r = {0};
    char *text = lines(200);
    struct batch b;
    struct id id;

    sim_start(&r, flags);
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 86400);
    b = wait_end(&r, &id);
    EQ_INT(b.counts.completed, 200);
    check_lines(&r, &b, 200);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}

TEST(metrics_are_prometheus_text)
{
    struct rig r = {0};
    struct buf out;

    rig_open(&r);
    buf_init(&out, 1 << 20);
    engine_metrics(r.engine, &out);
    OK(memmem(out.p, out.n, "# TYPE batchd_inflight gauge\nbatchd_inflight 0\n", 47));
    buf_done(&out);
    rig_end(&r);
}

TEST(a_batch_whose_input_is_damaged_stands_still_and_the_others_go_on)
{
    static const char *const flags[] = {"--latency", "5ms", NULL};
    struct rig r = {0};
    char *text = lines(3000), *few = lines(5), path[128];
    struct id file, bad, good;
    struct batch b;

    sim_start(&r, flags);
    rig_open(&r);
    file = add_file(&r, text);
    bad = add_batch(&r, file, 86400);
    do {
        usleep(2000);
        b = view(&r, &bad);
        batch_done(&b);
    } while (b.counts.completed < 10);
    rig_close(&r);
    EQ_RC(str_fmt(path, sizeof path, "files/%s/%s", file.z + strlen(file.z) - 2, file.z),
          RC_OK);
    EQ_INT(unlink(path), 0);
    rig_open(&r);
    good = add_batch(&r, add_file(&r, few), 86400);
    b = wait_end(&r, &good);
    EQ_INT(b.status, BATCH_COMPLETED);
    batch_done(&b);
    b = view(&r, &bad);
    EQ_INT(b.status, BATCH_IN_PROGRESS);
    batch_done(&b);
    mem_free(text);
    mem_free(few);
    rig_end(&r);
}

TEST(a_list_with_a_batch_that_is_still_being_recovered_is_for_later)
{
    struct rig r = {0};
    struct batch b = {.id = id_make(ID_BATCH),
                      .endpoint = ENDPOINT_CHAT,
                      .window = "24h",
                      .created_at = clock_wall_sec()};
    struct batch_counts counts = {.total = 1};
    struct batch_change change = {.model = "sim-model", .counts = &counts};
    struct batch *list = &b;
    bool more = false;
    size_t n = 1;
    char *text = lines(1);
    struct err e;

    b.expires_at = b.created_at + 86400;
    rig_open(&r);
    b.input_file = add_file(&r, text);
    EQ_RC(r.store->ops->batch_add(r.store->self, &b, NULL, NULL, &e), RC_OK);
    EQ_RC(r.store->ops->batch_move(r.store->self, NULL, b.id.z, BATCH_EV_VALID,
                                   clock_wall_sec(), &change, NULL, &e),
          RC_OK);
    EQ_RC(engine_batch_list(r.engine, NULL, NULL, 10, &list, &n, &more, &e), RC_AGAIN);
    OK(list == NULL);
    EQ_INT(n, 0);
    mem_free(text);
    rig_end(&r);
}

/* A store that dies after its commit: the end of a batch is durable, and told as failed. */
static const struct store_ops *true_ops;
static struct store_ops dying_ops;

static enum rc move_and_die(void *self, const struct id *project, const char *id,
                            enum batch_event ev, int64_t now,
                            const struct batch_change *change, struct batch *ret,
                            struct err *e)
{
    enum rc rc = true_ops->batch_move(self, project, id, ev, now, change, ret, e);

    if (rc != RC_OK || ev != BATCH_EV_PUBLISHED)
        return rc;
    if (ret)
        batch_done(ret);
    return err_set(e, RC_IO, "the disk died");
}

TEST(files_stay_when_the_store_dies_of_the_end_of_their_batch)
{
    struct rig r = {0};
    char *text = lines(5);
    struct batch b;
    struct id id;

    sim_start(&r, NULL);
    rig_open(&r);
    true_ops = r.store->ops;
    dying_ops = *true_ops;
    dying_ops.batch_move = move_and_die;
    r.store->ops = &dying_ops;
    id = add_batch(&r, add_file(&r, text), 86400);
    while (atomic_load(&deaths) == 0)
        usleep(1000);
    atomic_store(&deaths, 0);
    r.store->ops = true_ops;
    rig_close(&r);
    rig_open(&r);
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_COMPLETED);
    check_lines(&r, &b, 5);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
}
