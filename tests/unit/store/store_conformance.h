/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_conformance: what every back end of store.h must do.  A back end's test program
 * defines conformance_open() and includes this file; its tests then run over it.
 *
 * conformance_open(again): an empty store, or (again) the one that was closed before.
 */
#pragma once

#include "base/mem.h"
#include "store/store.h"
#include "tests/lib/t.h"

#include <pthread.h>

static struct store *conformance_open(bool again);

static char a_filename[] = "input \xc3\xa9'\";--.jsonl";
static char some_metadata[] = "{\"a\":\"b\"}";
static char some_model[] = "org/model-7b";
static char some_url[] = "https://example.com/hook?a='b'";
static char some_key[] = "key \"1\"";
static char some_errors[] = "{\"object\":\"list\",\"data\":[]}";

static struct file_rec c_file(int64_t created_at, const char *purpose)
{
    struct file_rec f = {.id = id_make(ID_FILE),
                         .project = {"proj-1"},
                         .filename = a_filename,
                         .bytes = (uint64_t)1 << 40,
                         .created_at = created_at};

    EQ_RC(str_fmt(f.purpose, sizeof f.purpose, "%s", purpose), RC_OK);
    for (unsigned i = 0; i < sizeof f.sha256; i++)
        f.sha256[i] = (uint8_t)(i * 9);
    return f;
}

static struct id c_add_file(struct store *s, int64_t created_at, const char *purpose)
{
    struct file_rec f = c_file(created_at, purpose);

    EQ_RC(s->ops->file_add(s->self, &f, NULL, NULL), RC_OK);
    return f.id;
}

static struct batch c_batch(const struct id *input)
{
    return (struct batch){.id = id_make(ID_BATCH),
                          .input_file = *input,
                          .project = {"proj-1"},
                          .endpoint = ENDPOINT_EMBEDDINGS,
                          .window = "24h",
                          .created_at = 1700000000,
                          .expires_at = 1700086400,
                          .metadata = some_metadata};
}

static struct id c_add_batch(struct store *s, const struct id *input)
{
    struct batch b = c_batch(input);

    EQ_RC(s->ops->batch_add(s->self, &b, NULL, NULL, NULL), RC_OK);
    return b.id;
}

static void c_same_text(const char *got, const char *want)
{
    OK((got != NULL) == (want != NULL));
    if (want)
        EQ_Z(got, want);
}

static void c_same_batch(const struct batch *got, const struct batch *want)
{
    EQ_Z(got->id.z, want->id.z);
    EQ_Z(got->input_file.z, want->input_file.z);
    EQ_Z(got->output_file.z, want->output_file.z);
    EQ_Z(got->error_file.z, want->error_file.z);
    EQ_Z(got->project.z, want->project.z);
    EQ_INT(got->endpoint, want->endpoint);
    EQ_INT(got->status, want->status);
    EQ_INT(got->expiring, want->expiring);
    EQ_INT(got->has_usage, want->has_usage);
    EQ_INT(got->input_missing, want->input_missing);
    EQ_INT(got->output_expires_after, want->output_expires_after);
    EQ_Z(got->window, want->window);
    EQ_INT(got->created_at, want->created_at);
    EQ_INT(got->in_progress_at, want->in_progress_at);
    EQ_INT(got->expires_at, want->expires_at);
    EQ_INT(got->finalizing_at, want->finalizing_at);
    EQ_INT(got->completed_at, want->completed_at);
    EQ_INT(got->failed_at, want->failed_at);
    EQ_INT(got->expired_at, want->expired_at);
    EQ_INT(got->cancelling_at, want->cancelling_at);
    EQ_INT(got->cancelled_at, want->cancelled_at);
    OK(memcmp(&got->counts, &want->counts, sizeof got->counts) == 0);
    if (want->has_usage)
        OK(memcmp(&got->usage, &want->usage, sizeof got->usage) == 0);
    c_same_text(got->model, want->model);
    c_same_text(got->errors, want->errors);
    c_same_text(got->metadata, want->metadata);
    EQ_INT(got->priority, want->priority);
    EQ_INT(got->idle, want->idle);
    EQ_INT(got->paused, want->paused);
    EQ_INT(got->hold, want->hold);
    EQ_Z(got->continue_from.z, want->continue_from.z);
    EQ_INT(got->reused, want->reused);
    c_same_text(got->callback_url, want->callback_url);
    c_same_text(got->idempotency_key, want->idempotency_key);
    OK(memcmp(got->request_hash, want->request_hash, sizeof got->request_hash) == 0);
}

static void c_check_status(struct store *s, const struct id *id, enum batch_status want)
{
    struct batch b;

    EQ_RC(s->ops->batch_get(s->self, NULL, id->z, &b, NULL), RC_OK);
    EQ_INT(b.status, want);
    batch_done(&b);
}

static void c_move(struct store *s, const struct id *id, enum batch_event ev, int64_t now)
{
    struct err e = {{0}};

    if (s->ops->batch_move(s->self, NULL, id->z, ev, now, NULL, NULL, &e) != RC_OK)
        FAIL("%s: %s", batch_event_name(ev), e.text);
}

/* ---- files --------------------------------------------------------------------------*/

TEST(a_file_is_got_as_it_was_added_also_after_reopening)
{
    struct store *s = conformance_open(false);
    struct file_rec f = c_file(1700000001, "batch"), got;

    f.expires_at = 1800000000;
    EQ_RC(str_fmt(f.project.z, sizeof f.project.z, "proj-9"), RC_OK);
    EQ_RC(s->ops->file_add(s->self, &f, NULL, NULL), RC_OK);
    for (unsigned i = 0; i < 2; i++) {
        EQ_RC(s->ops->file_get(s->self, NULL, f.id.z, &got, NULL), RC_OK);
        EQ_Z(got.id.z, f.id.z);
        EQ_Z(got.project.z, f.project.z);
        EQ_Z(got.purpose, f.purpose);
        EQ_Z(got.filename, f.filename);
        EQ_INT(got.bytes, f.bytes);
        OK(memcmp(got.sha256, f.sha256, 32) == 0);
        EQ_INT(got.created_at, f.created_at);
        EQ_INT(got.expires_at, f.expires_at);
        file_rec_done(&got);
        file_rec_done(&got);
        store_close(s);
        s = conformance_open(true);
    }
    store_close(s);
    store_close(NULL);
}

TEST(a_file_id_can_be_taken_once)
{
    struct store *s = conformance_open(false);
    struct file_rec f = c_file(1, "batch"), got;
    struct err e;

    EQ_RC(s->ops->file_add(s->self, &f, NULL, NULL), RC_OK);
    f.bytes = 5;
    EQ_RC(s->ops->file_add(s->self, &f, NULL, &e), RC_CONFLICT);
    OK(strstr(e.text, f.id.z));
    EQ_RC(s->ops->file_get(s->self, NULL, f.id.z, &got, NULL), RC_OK);
    EQ_INT(got.bytes, (uint64_t)1 << 40);
    file_rec_done(&got);
    store_close(s);
}

TEST(a_deleted_file_is_gone_at_once_but_known_until_it_is_forgotten)
{
    struct store *s = conformance_open(false);
    struct id id = c_add_file(s, 1, "batch"), other = c_add_file(s, 2, "batch"),
              reaped[8];
    struct file_rec got;
    size_t n = 99;
    bool known = false;

    EQ_RC(s->ops->file_delete(s->self, NULL, id.z, 10, NULL), RC_OK);
    EQ_RC(s->ops->file_get(s->self, NULL, id.z, &got, NULL), RC_NOTFOUND);
    EQ_RC(s->ops->file_delete(s->self, NULL, id.z, 11, NULL), RC_NOTFOUND);
    EQ_RC(s->ops->file_delete(s->self, NULL, "file-none", 11, NULL), RC_NOTFOUND);
    EQ_RC(s->ops->file_known(s->self, id.z, &known, NULL), RC_OK);
    OK(known);
    for (unsigned i = 0; i < 2; i++) { /* until it is forgotten, again and again */
        EQ_RC(s->ops->file_reap(s->self, 20, reaped, COUNTOF(reaped), &n, NULL), RC_OK);
        EQ_INT(n, 1);
        EQ_Z(reaped[0].z, id.z);
    }
    EQ_RC(s->ops->file_forget(s->self, other.z, NULL), RC_OK); /* it is not deleted */
    EQ_RC(s->ops->file_known(s->self, other.z, &known, NULL), RC_OK);
    OK(known);
    EQ_RC(s->ops->file_forget(s->self, id.z, NULL), RC_OK);
    EQ_RC(s->ops->file_known(s->self, id.z, &known, NULL), RC_OK);
    OK(!known);
    EQ_RC(s->ops->file_reap(s->self, 20, reaped, COUNTOF(reaped), &n, NULL), RC_OK);
    EQ_INT(n, 0);
    store_close(s);
}

TEST(files_are_listed_page_by_page_in_both_orders)
{
    static const struct {
        const char *name, *purpose;
        bool ascending;
        unsigned limit, want;
    } rows[] = {
        {"all, latest first", NULL, false, 3, 20},
        {"all, oldest first", NULL, true, 7, 20},
        {"one purpose, latest first", "batch", false, 4, 10},
        {"one purpose, oldest first", "batch", true, 1, 10},
        {"exactly one page", "batch", true, 10, 10},
        {"one page with room", NULL, true, 1000, 20},
        {"none of this purpose", "vision", false, 5, 0},
    };
    struct store *s = conformance_open(false);
    struct id ids[20];

    /* Created within one second, and once with the clock set back. */
    for (unsigned i = 0; i < 20; i++)
        ids[i] = c_add_file(s, i == 12 ? 5 : 1000, i % 2 ? "batch" : "batch_output");
    for (size_t k = 0; k < COUNTOF(rows); k++) {
        struct file_query q = {.purpose = rows[k].purpose,
                               .limit = rows[k].limit,
                               .ascending = rows[k].ascending};
        char after[ID_CAP];
        unsigned seen = 0;
        bool more = true;

        t_row(rows[k].name);
        while (more) {
            struct file_rec *all = NULL;
            size_t n = 0;

            EQ_RC(s->ops->file_list(s->self, &q, &all, &n, &more, NULL), RC_OK);
            OK(n <= rows[k].limit && (n == rows[k].limit || !more));
            for (size_t i = 0; i < n; i++, seen++) {
                unsigned step = rows[k].purpose ? 2 : 1, first = rows[k].purpose ? 1 : 0;
                unsigned at =
                    first + step * (rows[k].ascending ? seen : rows[k].want - 1 - seen);

                EQ_Z(all[i].id.z, ids[at].z);
                memcpy(after, all[i].id.z, sizeof after);
                file_rec_done(&all[i]);
            }
            mem_free(all);
            q.after = after;
        }
        EQ_INT(seen, rows[k].want);
    }
    t_row(NULL);
    store_close(s);
}

TEST(a_page_goes_on_after_a_file_that_was_deleted_in_between)
{
    struct store *s = conformance_open(false);
    struct id ids[3];
    struct file_query q = {.limit = 10};
    struct file_rec *all = NULL;
    size_t n;
    bool more;

    for (unsigned i = 0; i < 3; i++)
        ids[i] = c_add_file(s, 1, "batch");
    EQ_RC(s->ops->file_delete(s->self, NULL, ids[1].z, 5, NULL), RC_OK);
    EQ_RC(s->ops->file_list(s->self, &q, &all, &n, &more, NULL), RC_OK);
    EQ_INT(n, 2);
    for (size_t i = 0; i < n; i++)
        file_rec_done(&all[i]);
    mem_free(all);
    q.after = ids[1].z;
    EQ_RC(s->ops->file_list(s->self, &q, &all, &n, &more, NULL), RC_OK);
    EQ_INT(n, 1);
    EQ_Z(all[0].id.z, ids[0].z);
    file_rec_done(&all[0]);
    mem_free(all);
    q.after = "file-unknown";
    EQ_RC(s->ops->file_list(s->self, &q, &all, &n, &more, NULL), RC_NOTFOUND);
    store_close(s);
}

TEST(expired_files_go_and_those_a_live_batch_reads_wait_for_it)
{
    struct store *s = conformance_open(false);
    struct file_rec f = c_file(1, "batch"), got;
    struct id free_file, batch, reaped[4];
    size_t n;

    f.expires_at = 100;
    EQ_RC(s->ops->file_add(s->self, &f, NULL, NULL), RC_OK);
    batch = c_add_batch(s, &f.id);
    free_file = c_add_file(s, 1, "batch");
    EQ_RC(s->ops->file_delete(s->self, NULL, free_file.z, 50, NULL), RC_OK);

    EQ_RC(s->ops->file_reap(s->self, 99, reaped, 4, &n, NULL), RC_OK);
    EQ_INT(n, 1);
    EQ_Z(reaped[0].z, free_file.z);
    EQ_RC(s->ops->file_forget(s->self, free_file.z, NULL), RC_OK);
    EQ_RC(s->ops->file_get(s->self, NULL, f.id.z, &got, NULL), RC_OK); /* not yet */
    file_rec_done(&got);

    EQ_RC(s->ops->file_reap(s->self, 100, reaped, 4, &n, NULL), RC_OK);
    EQ_INT(n, 0);
    EQ_RC(s->ops->file_get(s->self, NULL, f.id.z, &got, NULL), RC_NOTFOUND);
    c_move(s, &batch, BATCH_EV_VALID, 200);
    EQ_RC(s->ops->file_reap(s->self, 201, reaped, 4, &n, NULL), RC_OK);
    EQ_INT(n, 0);
    c_move(s, &batch, BATCH_EV_DRAINED, 202);
    EQ_RC(s->ops->file_reap(s->self, 203, reaped, 4, &n, NULL), RC_OK);
    EQ_INT(n, 0);
    c_move(s, &batch, BATCH_EV_PUBLISHED, 204);
    EQ_RC(s->ops->file_reap(s->self, 205, reaped, 4, &n, NULL), RC_OK);
    EQ_INT(n, 1);
    EQ_Z(reaped[0].z, f.id.z);
    store_close(s);
}

TEST(reap_hands_out_no_more_than_asked_for)
{
    struct store *s = conformance_open(false);
    struct id reaped[3], id;
    size_t n, total = 0;

    for (unsigned i = 0; i < 7; i++) {
        id = c_add_file(s, 1, "batch");
        EQ_RC(s->ops->file_delete(s->self, NULL, id.z, 2, NULL), RC_OK);
    }
    do {
        EQ_RC(s->ops->file_reap(s->self, 9, reaped, 3, &n, NULL), RC_OK);
        OK(n <= 3);
        for (size_t i = 0; i < n; i++)
            EQ_RC(s->ops->file_forget(s->self, reaped[i].z, NULL), RC_OK);
        total += n;
    } while (n);
    EQ_INT(total, 7);
    store_close(s);
}

/* ---- batches ------------------------------------------------------------------------*/

TEST(a_batch_is_got_as_it_was_added_also_after_reopening)
{
    struct store *s = conformance_open(false);
    struct id input = c_add_file(s, 1, "batch");
    struct batch b = c_batch(&input), got;

    b.status = BATCH_FINALIZING;
    b.expiring = true;
    b.output_file = id_make(ID_FILE);
    b.error_file = id_make(ID_FILE);
    b.in_progress_at = 2;
    b.finalizing_at = 3;
    b.completed_at = 4;
    b.failed_at = 5;
    b.expired_at = 6;
    b.cancelling_at = 7;
    b.cancelled_at = 8;
    b.counts = (struct batch_counts){UINT32_MAX, 9, 10};
    b.output_expires_after = 86400;
    b.has_usage = true;
    b.usage = (struct usage){UINT64_MAX, 0, 1, 2, (uint64_t)1 << 63};
    b.model = some_model;
    b.errors = some_errors;
    b.priority = -10;
    b.paused = true;
    b.idle = true;
    b.hold = UINT32_MAX;
    b.continue_from = c_add_batch(s, &input);
    b.reused = 123456;
    b.callback_url = some_url;
    b.idempotency_key = some_key;
    memset(b.request_hash, 0xfe, sizeof b.request_hash);
    EQ_RC(s->ops->batch_add(s->self, &b, NULL, NULL, NULL), RC_OK);
    for (unsigned i = 0; i < 2; i++) {
        EQ_RC(s->ops->batch_get(s->self, NULL, b.id.z, &got, NULL), RC_OK);
        c_same_batch(&got, &b);
        batch_done(&got);
        store_close(s);
        s = conformance_open(true);
    }
    store_close(s);
}

TEST(a_batch_without_anything_optional_comes_back_so)
{
    struct store *s = conformance_open(false);
    struct id input = c_add_file(s, 1, "batch");
    struct batch b = {.id = id_make(ID_BATCH),
                      .project = {"proj-1"},
                      .input_file = input,
                      .created_at = 1},
                 got;

    EQ_RC(s->ops->batch_add(s->self, &b, NULL, NULL, NULL), RC_OK);
    EQ_RC(s->ops->batch_get(s->self, NULL, b.id.z, &got, NULL), RC_OK);
    c_same_batch(&got, &b);
    batch_done(&got);
    EQ_RC(s->ops->batch_add(s->self, &b, NULL, NULL, NULL), RC_INVALID);
    EQ_RC(s->ops->batch_get(s->self, NULL, "batch_none", &got, NULL), RC_NOTFOUND);
    EQ_RC(s->ops->batch_get(s->self, NULL, "' OR 1=1 --", &got, NULL), RC_NOTFOUND);
    store_close(s);
}

TEST(a_batch_remembers_whether_its_input_stood_when_it_was_made)
{
    struct store *s = conformance_open(false);
    struct id input = c_add_file(s, 1, "batch"), none = id_make(ID_FILE);
    struct batch early = c_batch(&input), without = c_batch(&none),
                 late = c_batch(&input), got;

    EQ_RC(s->ops->batch_add(s->self, &early, NULL, NULL, NULL), RC_OK);
    EQ_RC(s->ops->batch_add(s->self, &without, NULL, NULL, NULL), RC_OK);
    EQ_RC(s->ops->file_delete(s->self, NULL, input.z, 5, NULL), RC_OK);
    EQ_RC(s->ops->batch_add(s->self, &late, NULL, NULL, NULL), RC_OK);
    EQ_RC(s->ops->batch_get(s->self, NULL, early.id.z, &got, NULL), RC_OK);
    OK(!got.input_missing);
    batch_done(&got);
    EQ_RC(s->ops->batch_get(s->self, NULL, without.id.z, &got, NULL), RC_OK);
    OK(got.input_missing);
    batch_done(&got);
    EQ_RC(s->ops->batch_get(s->self, NULL, late.id.z, &got, NULL), RC_OK);
    OK(got.input_missing);
    batch_done(&got);
    /* A move does not ask again: it stays as it was. */
    EQ_RC(s->ops->batch_move(s->self, NULL, early.id.z, BATCH_EV_CANCEL, 9, NULL, &got,
                             NULL),
          RC_OK);
    OK(!got.input_missing);
    batch_done(&got);
    store_close(s);
}

static void c_walk_list(struct store *s, const struct id *ids, unsigned n_ids,
                        unsigned limit)
{
    char after[ID_CAP];
    unsigned seen = 0;
    bool more = true;

    while (more) {
        struct batch *all = NULL;
        size_t n = 0;

        EQ_RC(s->ops->batch_list(s->self, NULL, seen ? after : NULL, limit, &all, &n,
                                 &more, NULL),
              RC_OK);
        OK(n <= limit && (n == limit || !more));
        for (size_t i = 0; i < n; i++, seen++) {
            EQ_Z(all[i].id.z, ids[n_ids - 1 - seen].z);
            memcpy(after, all[i].id.z, sizeof after);
            batch_done(&all[i]);
        }
        mem_free(all);
    }
    EQ_INT(seen, n_ids);
}

TEST(batches_are_listed_latest_first_page_by_page)
{
    struct store *s = conformance_open(false);
    struct id input = c_add_file(s, 1, "batch"), ids[23];
    struct batch *all = NULL;
    size_t n = 9;
    bool more = true;

    EQ_RC(s->ops->batch_list(s->self, NULL, NULL, 5, &all, &n, &more, NULL), RC_OK);
    EQ_INT(n, 0);
    OK(!more);
    mem_free(all);
    for (unsigned i = 0; i < COUNTOF(ids); i++)
        ids[i] = c_add_batch(s, &input);
    for (unsigned limit = 1; limit < 30; limit++)
        c_walk_list(s, ids, COUNTOF(ids), limit);
    EQ_RC(s->ops->batch_list(s->self, NULL, "batch_none", 5, &all, &n, &more, NULL),
          RC_NOTFOUND);
    store_close(s);
}

TEST(a_batch_that_is_added_while_paging_moves_no_page)
{
    struct store *s = conformance_open(false);
    struct id input = c_add_file(s, 1, "batch"), ids[6];
    struct batch *all = NULL;
    size_t n;
    bool more;

    for (unsigned i = 0; i < COUNTOF(ids); i++)
        ids[i] = c_add_batch(s, &input);
    (void)c_add_batch(s, &input);
    EQ_RC(s->ops->batch_list(s->self, NULL, ids[3].z, 2, &all, &n, &more, NULL), RC_OK);
    EQ_INT(n, 2);
    EQ_Z(all[0].id.z, ids[2].z);
    EQ_Z(all[1].id.z, ids[1].z);
    OK(more);
    batch_done(&all[0]);
    batch_done(&all[1]);
    mem_free(all);
    store_close(s);
}

TEST(live_batches_are_those_not_at_an_end_oldest_first)
{
    struct store *s = conformance_open(false);
    struct id input = c_add_file(s, 1, "batch"), ids[6];
    static const enum batch_status want[] = {BATCH_VALIDATING, BATCH_IN_PROGRESS,
                                             BATCH_FINALIZING, BATCH_CANCELLING};
    struct batch *all = NULL;
    size_t n = 9;

    EQ_RC(s->ops->batch_live(s->self, &all, &n, NULL), RC_OK);
    EQ_INT(n, 0);
    mem_free(all);
    for (unsigned i = 0; i < COUNTOF(ids); i++)
        ids[i] = c_add_batch(s, &input);
    c_move(s, &ids[1], BATCH_EV_VALID, 5);
    c_move(s, &ids[2], BATCH_EV_VALID, 5);
    c_move(s, &ids[2], BATCH_EV_EXPIRE, 6);
    c_move(s, &ids[3], BATCH_EV_CANCEL, 5);
    c_move(s, &ids[4], BATCH_EV_INVALID, 5); /* at an end */
    c_move(s, &ids[5], BATCH_EV_CANCEL, 5);
    c_move(s, &ids[5], BATCH_EV_PUBLISHED, 6); /* at an end */
    EQ_RC(s->ops->batch_live(s->self, &all, &n, NULL), RC_OK);
    EQ_INT(n, 4);
    for (size_t i = 0; i < n; i++) {
        EQ_Z(all[i].id.z, ids[i].z);
        EQ_INT(all[i].status, want[i]);
        batch_done(&all[i]);
    }
    mem_free(all);
    store_close(s);
}

TEST(a_move_writes_state_time_and_change_together)
{
    struct store *s = conformance_open(false);
    struct id input = c_add_file(s, 1, "batch"), id = c_add_batch(s, &input);
    struct file_rec out = c_file(5, "batch_output"), errors = c_file(5, "batch_output"),
                    f;
    struct batch_counts counts = {10, 0, 0}, last = {10, 8, 2};
    struct usage usage = {1, 2, 3, 4, 5};
    struct batch_change valid = {.model = some_model, .counts = &counts},
                        done = {.counts = &last,
                                .usage = &usage,
                                .output = &out,
                                .error = &errors};
    struct batch now, got;

    EQ_RC(s->ops->batch_move(s->self, NULL, id.z, BATCH_EV_VALID, 1700000010, &valid,
                             &now, NULL),
          RC_OK);
    EQ_INT(now.status, BATCH_IN_PROGRESS);
    EQ_INT(now.in_progress_at, 1700000010);
    EQ_INT(now.counts.total, 10);
    EQ_Z(now.model, some_model);
    EQ_Z(now.metadata, some_metadata);
    OK(!now.has_usage);
    batch_done(&now);
    c_move(s, &id, BATCH_EV_DRAINED, 1700000020);
    EQ_RC(s->ops->batch_move(s->self, NULL, id.z, BATCH_EV_PUBLISHED, 1700000030, &done,
                             &now, NULL),
          RC_OK);
    store_close(s);
    s = conformance_open(true);
    EQ_RC(s->ops->batch_get(s->self, NULL, id.z, &got, NULL), RC_OK);
    c_same_batch(&got, &now);
    EQ_INT(got.status, BATCH_COMPLETED);
    EQ_INT(got.completed_at, 1700000030);
    EQ_INT(got.counts.completed, 8);
    EQ_INT(got.usage.total, 5);
    EQ_Z(got.output_file.z, out.id.z);
    EQ_Z(got.error_file.z, errors.id.z);
    EQ_Z(got.model, some_model);
    batch_done(&got);
    batch_done(&now);
    EQ_RC(s->ops->file_get(s->self, NULL, out.id.z, &f, NULL), RC_OK);
    file_rec_done(&f);
    EQ_RC(s->ops->file_get(s->self, NULL, errors.id.z, &f, NULL), RC_OK);
    file_rec_done(&f);
    store_close(s);
}

TEST(an_illegal_move_changes_nothing_and_tells_how_things_stand)
{
    struct store *s = conformance_open(false);
    struct id input = c_add_file(s, 1, "batch"), id = c_add_batch(s, &input);
    struct file_rec out = c_file(5, "batch_output"), f;
    struct batch_change change = {.errors = some_errors, .output = &out};
    struct batch before, now;
    struct err e;

    EQ_RC(s->ops->batch_get(s->self, NULL, id.z, &before, NULL), RC_OK);
    EQ_RC(
        s->ops->batch_move(s->self, NULL, id.z, BATCH_EV_PUBLISHED, 9, &change, &now, &e),
        RC_CONFLICT);
    OK(strstr(e.text, "validating"));
    c_same_batch(&now, &before);
    batch_done(&now);
    EQ_RC(s->ops->batch_get(s->self, NULL, id.z, &now, NULL), RC_OK);
    c_same_batch(&now, &before);
    batch_done(&now);
    EQ_RC(s->ops->file_get(s->self, NULL, out.id.z, &f, NULL), RC_NOTFOUND);
    EQ_RC(s->ops->batch_move(s->self, NULL, id.z, BATCH_EV_PUBLISHED, 9, &change, NULL,
                             NULL),
          RC_CONFLICT);
    EQ_RC(s->ops->batch_move(s->self, NULL, "batch_none", BATCH_EV_VALID, 9, NULL, &now,
                             &e),
          RC_NOTFOUND);
    batch_done(&before);
    store_close(s);
}

TEST(a_move_whose_files_cannot_be_added_is_no_move)
{
    struct store *s = conformance_open(false);
    struct id input = c_add_file(s, 1, "batch"), id = c_add_batch(s, &input);
    struct file_rec out = c_file(5, "batch_output"), twice, f;
    struct batch_change change = {.output = &out, .error = &twice};
    struct batch now;

    twice = out;
    c_move(s, &id, BATCH_EV_VALID, 5);
    c_move(s, &id, BATCH_EV_DRAINED, 6);
    EQ_RC(s->ops->batch_move(s->self, NULL, id.z, BATCH_EV_PUBLISHED, 7, &change, &now,
                             NULL),
          RC_INVALID);
    c_check_status(s, &id, BATCH_FINALIZING);
    EQ_RC(s->ops->file_get(s->self, NULL, out.id.z, &f, NULL), RC_NOTFOUND);
    store_close(s);
}

struct c_race {
    struct store *s;
    struct id id;
    enum batch_event ev;
    enum rc rc;
};

static void *c_race_one(void *arg)
{
    struct c_race *r = arg;
    struct batch b;

    r->rc = r->s->ops->batch_move(r->s->self, NULL, r->id.z, r->ev, 5, NULL, &b, NULL);
    if (r->rc == RC_OK || r->rc == RC_CONFLICT)
        batch_done(&b);
    return NULL;
}

TEST(whoever_closes_a_batch_first_decides_and_all_others_are_refused)
{
    struct store *s = conformance_open(false);
    struct id input = c_add_file(s, 1, "batch");

    for (unsigned round = 0; round < 20; round++) {
        struct id id = c_add_batch(s, &input);
        struct c_race r[6];
        pthread_t t[6];
        unsigned won = 0;
        enum batch_event by = BATCH_EV_VALID;

        c_move(s, &id, BATCH_EV_VALID, 2);
        for (unsigned i = 0; i < 6; i++) {
            r[i] = (struct c_race){.s = s, .id = id};
            r[i].ev = (const enum batch_event[]){BATCH_EV_CANCEL, BATCH_EV_EXPIRE,
                                                 BATCH_EV_DRAINED}[(i + round) % 3];
            EQ_INT(pthread_create(&t[i], NULL, c_race_one, &r[i]), 0);
        }
        for (unsigned i = 0; i < 6; i++) {
            EQ_INT(pthread_join(t[i], NULL), 0);
            if (r[i].rc == RC_OK) {
                won++;
                by = r[i].ev;
            } else {
                EQ_RC(r[i].rc, RC_CONFLICT);
            }
        }
        EQ_INT(won, 1);
        c_check_status(s, &id,
                       by == BATCH_EV_CANCEL ? BATCH_CANCELLING : BATCH_FINALIZING);
    }
    store_close(s);
}

static void *c_add_many(void *arg)
{
    struct store *s = arg;
    struct id input = c_add_file(s, 1, "batch");

    for (unsigned i = 0; i < 25; i++) {
        struct id id = c_add_batch(s, &input), taken = id;
        struct batch b = c_batch(&input), got;

        c_move(s, &id, BATCH_EV_VALID, 5);
        b.id = taken;
        EQ_RC(s->ops->batch_add(s->self, &b, NULL, NULL, NULL),
              RC_INVALID); /* amid good ones */
        EQ_RC(s->ops->batch_get(s->self, NULL, id.z, &got, NULL), RC_OK);
        EQ_INT(got.status, BATCH_IN_PROGRESS);
        batch_done(&got);
    }
    return NULL;
}

TEST(many_threads_change_at_once_and_each_sees_its_own_changes)
{
    struct store *s = conformance_open(false);
    struct batch *all = NULL;
    pthread_t t[8];
    size_t n;

    for (unsigned i = 0; i < COUNTOF(t); i++)
        EQ_INT(pthread_create(&t[i], NULL, c_add_many, s), 0);
    for (unsigned i = 0; i < COUNTOF(t); i++)
        EQ_INT(pthread_join(t[i], NULL), 0);
    store_close(s);
    s = conformance_open(true);
    EQ_RC(s->ops->batch_live(s->self, &all, &n, NULL), RC_OK);
    EQ_INT(n, 25 * COUNTOF(t));
    for (size_t i = 0; i < n; i++)
        batch_done(&all[i]);
    mem_free(all);
    store_close(s);
}

/* ---- the clock ----------------------------------------------------------------------*/

TEST(the_clocks_floor_is_the_latest_time_of_a_change_and_lasts)
{
    struct store *s = conformance_open(false);
    int64_t floor = 99;
    struct id input, id, reaped;
    size_t n;

    EQ_RC(s->ops->clock_floor(s->self, &floor, NULL), RC_OK);
    EQ_INT(floor, 0);
    input = c_add_file(s, 1000, "batch");
    id = c_add_batch(s, &input); /* created_at 1700000000 */
    c_move(s, &id, BATCH_EV_VALID, 1700000500);
    (void)c_add_file(s, 5, "batch"); /* a clock set back */
    EQ_RC(s->ops->batch_move(s->self, NULL, id.z, BATCH_EV_VALID, 1900000000, NULL, NULL,
                             NULL),
          RC_CONFLICT); /* no change */
    EQ_RC(s->ops->file_reap(s->self, 1900000000, &reaped, 1, &n, NULL), RC_OK);
    store_close(s);
    s = conformance_open(true);
    EQ_RC(s->ops->clock_floor(s->self, &floor, NULL), RC_OK);
    EQ_INT(floor, 1700000500);
    store_close(s);
}

#include "tests/unit/store/store_conformance_projects.h"

#include "tests/unit/store/store_conformance_edits.h"
#include "tests/unit/store/store_conformance_uploads.h"
