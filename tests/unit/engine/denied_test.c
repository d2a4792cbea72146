/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that are refused for what is no fault of their lines. */
#include "tests/unit/engine/scripted.h"

enum { SHUT, OPEN, BROKE };

static void door(struct scripted *s, const char *path, unsigned nth, char *out,
                 size_t cap)
{
    int mode = scripted_mode(s);

    (void)nth;
    if (!is_chat(path))
        scripted_answer(out, cap, 404, "", "{}");
    else if (mode == SHUT)
        scripted_answer(out, cap, 401, "",
                        "{\"error\":{\"message\":\"Incorrect API key provided\"}}");
    else if (mode == BROKE)
        scripted_answer(out, cap, 429, "",
                        "{\"error\":{\"message\":\"You have no money left.\",\"code\":"
                        "\"insufficient_quota\"}}");
    else
        scripted_answer(out, cap, 200, "", "{\"object\":\"chat.completion\"}");
}

static void wait_stopped(struct rig *r, const struct id *id, struct engine_progress *p)
{
    do
        poll(NULL, 0, 10);
    while (!engine_progress(r->engine, id, p) || !p->stopped);
}

static void resume(struct rig *r, const struct id *id)
{
    struct batch_edit edit = {.has_paused = true, .has_hold = true};
    struct batch b = {0};
    struct err e;

    EQ_RC(engine_edit(r->engine, NULL, id->z, &edit, &b, &e), RC_OK);
    batch_done(&b);
}

TEST(a_batch_all_of_whose_calls_are_refused_stops_and_can_be_resumed)
{
    static struct scripted s;
    struct rig r = {0};
    struct engine_progress p;
    struct batch b;
    char *text = lines(300), *errors, want[400];
    struct id id;

    scripted_start(&s, door, &r);
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 3600);
    wait_stopped(&r, &id, &p);
    EQ_INT(scripted_asked(&s, "/v1/chat/completions"), 64);
    EQ_INT(p.inflight, 0);
    EQ_INT(p.waiting, 300 - 64);
    snprintf(want, sizeof want,
             "Stopped after 64 calls, all refused: 401 Incorrect API key provided. Mend "
             "the key of upstream %s and resume the batch.",
             r.url);
    EQ_Z(p.why, want);
    wait_metric(&r, "batchd_batches_stopped", 1);

    t_row("an edit of something else does not set it going");
    {
        struct batch_edit edit = {.has_priority = true, .priority = 3};
        struct err e;

        EQ_RC(engine_edit(r.engine, NULL, id.z, &edit, &b, &e), RC_OK);
        batch_done(&b);
    }
    poll(NULL, 0, 100);
    EQ_INT(scripted_asked(&s, "/v1/chat/completions"), 64);

    t_row("resumed too early it stops again");
    resume(&r, &id);
    poll(NULL, 0, 100);
    wait_stopped(&r, &id, &p);
    EQ_INT(scripted_asked(&s, "/v1/chat/completions"), 128);

    t_row("with the key mended it ends");
    scripted_set(&s, OPEN);
    resume(&r, &id);
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_COMPLETED);
    EQ_INT(b.counts.completed, 300 - 128);
    EQ_INT(b.counts.failed, 128);
    check_lines(&r, &b, 300);
    errors = content(&r, &b.error_file);
    OK(strstr(errors, "\"status_code\":401") && strstr(errors, "Incorrect API key"));
    mem_free(errors);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
    scripted_stop(&s);
}

TEST(a_quota_that_is_used_up_stops_it_too)
{
    static struct scripted s;
    struct rig r = {0};
    struct engine_progress p;
    struct batch b;
    char *text = lines(300);
    struct id id;

    scripted_start(&s, door, &r);
    scripted_set(&s, BROKE);
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 3600);
    wait_stopped(&r, &id, &p);
    OK(strstr(p.why, "all refused: 429 You have no money left. See to the account at"));
    t_row("it may be cancelled");
    EQ_RC(r.store->ops->batch_move(r.store->self, NULL, id.z, BATCH_EV_CANCEL,
                                   clock_wall_sec(), NULL, NULL, &(struct err){""}),
          RC_OK);
    engine_cancel(r.engine, &id);
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_CANCELLED);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
    scripted_stop(&s);
}

TEST(a_batch_that_is_smaller_than_that_ends_with_its_errors)
{
    static struct scripted s;
    struct rig r = {0};
    char *text = lines(40);
    struct batch b;
    struct id id;

    scripted_start(&s, door, &r);
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 3600);
    b = wait_end(&r, &id);
    EQ_INT(b.status, BATCH_COMPLETED);
    EQ_INT(b.counts.failed, 40);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
    scripted_stop(&s);
}

/* --- What an answer says of trying again --- */

static void heeded(struct scripted *s, const char *path, unsigned nth, char *out,
                   size_t cap)
{
    (void)s;
    if (!is_chat(path))
        scripted_answer(out, cap, 404, "", "{}");
    else if (nth == 0)
        scripted_answer(out, cap, 400, "x-should-retry: true\r\n", "{\"a\":1}");
    else if (nth == 1)
        scripted_answer(out, cap, 500, "x-should-retry: false\r\n", "{\"b\":2}");
    else
        scripted_answer(out, cap, 200, "", "{\"object\":\"chat.completion\"}");
}

TEST(what_an_answer_says_of_trying_again_is_heeded)
{
    static struct scripted s;
    struct rig r = {0};
    char *text = lines(1), *errors;
    struct batch b;
    struct id id;

    scripted_start(&s, heeded, &r);
    rig_open(&r);
    id = add_batch(&r, add_file(&r, text), 3600);
    b = wait_end(&r, &id);
    EQ_INT(scripted_asked(&s, "/v1/chat/completions"), 2);
    EQ_INT(b.counts.failed, 1);
    errors = content(&r, &b.error_file);
    OK(strstr(errors, "\"status_code\":500"));
    mem_free(errors);
    batch_done(&b);
    mem_free(text);
    rig_end(&r);
    scripted_stop(&s);
}
