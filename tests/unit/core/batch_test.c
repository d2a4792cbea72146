/* SPDX-License-Identifier: Apache-2.0 */
#include "core/batch.h"
#include "tests/lib/t.h"

/* The whole table, written a second time on purpose: status x event -> status. */
#define NO BATCH_STATUS_COUNT

static const enum batch_status want[BATCH_STATUS_COUNT][BATCH_EVENT_COUNT] = {
    /*                      VALID, INVALID, CANCEL, EXPIRE, DRAINED, PUBLISHED */
    [BATCH_VALIDATING] = {BATCH_IN_PROGRESS, BATCH_FAILED, BATCH_CANCELLING, NO, NO, NO},
    [BATCH_FAILED] = {NO, NO, NO, NO, NO, NO},
    [BATCH_IN_PROGRESS] = {NO, NO, BATCH_CANCELLING, BATCH_FINALIZING, BATCH_FINALIZING,
                           NO},
    [BATCH_FINALIZING] = {NO, NO, NO, NO, NO, BATCH_COMPLETED},
    [BATCH_COMPLETED] = {NO, NO, NO, NO, NO, NO},
    [BATCH_EXPIRED] = {NO, NO, NO, NO, NO, NO},
    [BATCH_CANCELLING] = {NO, NO, NO, NO, NO, BATCH_CANCELLED},
    [BATCH_CANCELLED] = {NO, NO, NO, NO, NO, NO},
};

TEST(every_status_and_event_does_what_the_table_says)
{
    for (unsigned s = 0; s < BATCH_STATUS_COUNT; s++) {
        for (unsigned ev = 0; ev < BATCH_EVENT_COUNT; ev++) {
            struct batch b = {.status = (enum batch_status)s}, before = b;
            enum rc rc = batch_step(&b, (enum batch_event)ev, 100);

            t_row(batch_status_name(before.status));
            if (want[s][ev] == NO) {
                EQ_RC(rc, RC_CONFLICT);
                OK(memcmp(&b, &before, sizeof b) == 0);
            } else {
                EQ_RC(rc, RC_OK);
                EQ_INT(b.status, want[s][ev]);
            }
        }
    }
}

TEST(terminal_statuses_are_the_four_of_the_api)
{
    OK(batch_terminal(BATCH_FAILED) && batch_terminal(BATCH_COMPLETED));
    OK(batch_terminal(BATCH_EXPIRED) && batch_terminal(BATCH_CANCELLED));
    OK(!batch_terminal(BATCH_VALIDATING) && !batch_terminal(BATCH_IN_PROGRESS));
    OK(!batch_terminal(BATCH_FINALIZING) && !batch_terminal(BATCH_CANCELLING));
}

TEST(an_expired_batch_passes_finalizing_and_ends_expired)
{
    struct batch b = {.created_at = 1};

    EQ_RC(batch_step(&b, BATCH_EV_VALID, 2), RC_OK);
    EQ_RC(batch_step(&b, BATCH_EV_EXPIRE, 3), RC_OK);
    EQ_INT(b.status, BATCH_FINALIZING);
    EQ_RC(batch_step(&b, BATCH_EV_CANCEL, 4), RC_CONFLICT);
    EQ_RC(batch_step(&b, BATCH_EV_PUBLISHED, 5), RC_OK);
    EQ_INT(b.status, BATCH_EXPIRED);
    EQ_INT(b.in_progress_at, 2);
    EQ_INT(b.finalizing_at, 3);
    EQ_INT(b.expired_at, 5);
    EQ_INT(b.completed_at, 0);
    EQ_INT(b.cancelling_at, 0);
}

TEST(timestamps_do_not_run_backwards_with_the_clock)
{
    struct batch b = {.created_at = 1000};

    EQ_RC(batch_step(&b, BATCH_EV_VALID, 400), RC_OK);
    EQ_INT(b.in_progress_at, 1000);
    EQ_RC(batch_step(&b, BATCH_EV_DRAINED, 1005), RC_OK);
    EQ_RC(batch_step(&b, BATCH_EV_PUBLISHED, 1001), RC_OK);
    EQ_INT(b.completed_at, 1005);
}

TEST(names_go_both_ways)
{
    for (unsigned s = 0; s < BATCH_STATUS_COUNT; s++) {
        enum batch_status back;

        EQ_RC(batch_status_from(str_of(batch_status_name((enum batch_status)s)), &back),
              RC_OK);
        EQ_INT(back, s);
    }
    for (unsigned i = 0; i < ENDPOINT_COUNT; i++) {
        enum endpoint back;

        EQ_RC(endpoint_from(str_of(endpoint_path((enum endpoint)i)), &back), RC_OK);
        EQ_INT(back, i);
        OK(strstr(endpoint_all(), endpoint_path((enum endpoint)i)));
    }
}

TEST(an_unknown_name_is_no_status_and_no_endpoint)
{
    enum batch_status s;
    enum endpoint ep;

    EQ_RC(batch_status_from(STR("done"), &s), RC_NOTFOUND);
    EQ_RC(endpoint_from(STR("/v1/chat"), &ep), RC_NOTFOUND);
    EQ_RC(endpoint_from(STR("/v1/chat/completions/"), &ep), RC_NOTFOUND);
}

TEST(a_new_batch_shows_every_key_and_null_where_nothing_is_set)
{
    struct batch b = {.id = {"batch_1"},
                      .input_file = {"file-1"},
                      .endpoint = ENDPOINT_CHAT,
                      .window = "24h",
                      .created_at = 5,
                      .expires_at = 86405};
    struct buf out;

    buf_init(&out, 4096);
    batch_put_json(&b, &out);
    EQ_STR(buf_peek(&out),
           str_of("{\"id\":\"batch_1\",\"object\":\"batch\","
                  "\"endpoint\":\"/v1/chat/completions\",\"model\":null,\"errors\":null,"
                  "\"input_file_id\":\"file-1\",\"completion_window\":\"24h\","
                  "\"status\":\"validating\",\"output_file_id\":null,"
                  "\"error_file_id\":null,\"created_at\":5,\"in_progress_at\":null,"
                  "\"expires_at\":86405,\"finalizing_at\":null,\"completed_at\":null,"
                  "\"failed_at\":null,\"expired_at\":null,\"cancelling_at\":null,"
                  "\"cancelled_at\":null,\"request_counts\":{\"total\":0,\"completed\":0,"
                  "\"failed\":0},\"usage\":null,\"metadata\":null}"));
    buf_done(&out);
}

TEST(a_finished_batch_shows_usage_and_raw_metadata)
{
    char model[] = "m\"x", metadata[] = "{\"k\": \"\\u00e9\"}";
    struct batch b = {.id = {"batch_1"},
                      .endpoint = ENDPOINT_EMBEDDINGS,
                      .status = BATCH_COMPLETED,
                      .output_file = {"file-2"},
                      .has_usage = true,
                      .usage = {10, 4, 5, 2, 15},
                      .counts = {3, 2, 1},
                      .completed_at = INT64_C(253402300799),
                      .model = model,
                      .metadata = metadata};
    struct buf out;

    buf_init(&out, 4096);
    batch_put_json(&b, &out);
    OK(memmem(out.p, out.n, "\"model\":\"m\\\"x\"", 14));
    OK(memmem(out.p, out.n, "\"metadata\":{\"k\": \"\\u00e9\"}", 26));
    OK(memmem(out.p, out.n, "\"completed_at\":253402300799", 27));
    OK(memmem(out.p, out.n, "\"output_file_id\":\"file-2\"", 25));
    static const char usage[] =
        "\"usage\":{\"input_tokens\":10,\"input_tokens_details\":{\"cached_tokens\":4},"
        "\"output_tokens\":5,\"output_tokens_details\":{\"reasoning_tokens\":2},"
        "\"total_tokens\":15}";

    OK(memmem(out.p, out.n, usage, sizeof usage - 1));
    buf_done(&out);
}

TEST(a_copy_lives_on_its_own)
{
    struct batch a = {.id = {"batch_1"}, .model = NULL}, b = {0};

    a.errors = (char *)(uintptr_t) "[]";
    batch_copy(&b, &a);
    OK(b.errors != a.errors && !b.model);
    EQ_Z(b.errors, "[]");
    batch_done(&b);
    batch_done(&b);
    OK(!b.errors);
}
