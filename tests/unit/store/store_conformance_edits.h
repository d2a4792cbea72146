/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_conformance_edits: what is changed of a batch beside its status, batches that
 * continue others, and what is told when one ends.  Part of store_conformance.h.
 */
#pragma once

/* Every status, by the events that lead there. */
static const struct {
    enum batch_status status;
    enum batch_event by[3];
    unsigned n;
} c_ways[] = {
    {BATCH_VALIDATING, {0}, 0},
    {BATCH_FAILED, {BATCH_EV_INVALID}, 1},
    {BATCH_IN_PROGRESS, {BATCH_EV_VALID}, 1},
    {BATCH_FINALIZING, {BATCH_EV_VALID, BATCH_EV_DRAINED}, 2},
    {BATCH_COMPLETED, {BATCH_EV_VALID, BATCH_EV_DRAINED, BATCH_EV_PUBLISHED}, 3},
    {BATCH_EXPIRED, {BATCH_EV_VALID, BATCH_EV_EXPIRE, BATCH_EV_PUBLISHED}, 3},
    {BATCH_CANCELLING, {BATCH_EV_CANCEL}, 1},
    {BATCH_CANCELLED, {BATCH_EV_CANCEL, BATCH_EV_PUBLISHED}, 2},
};
_Static_assert(COUNTOF(c_ways) == BATCH_STATUS_COUNT, "a status is missing");

TEST(a_batch_can_be_edited_until_it_closes_and_only_what_is_set_changes)
{
    struct batch_edit edit = {.has_priority = true,
                              .has_paused = true,
                              .has_hold = true,
                              .has_idle = true,
                              .has_window = true,
                              .priority = -10,
                              .paused = true,
                              .idle = true,
                              .hold = UINT32_MAX,
                              .window = "36h",
                              .expires_at = 1700129600};
    struct batch_edit one = {.has_priority = true, .priority = 10, .window = "unused"};
    struct store *s = conformance_open(false);
    struct id input = c_add_file(s, 1, "batch");

    for (size_t i = 0; i < COUNTOF(c_ways); i++) {
        struct id id = c_add_batch(s, &input);
        struct batch want, got;
        bool may =
            c_ways[i].status == BATCH_VALIDATING || c_ways[i].status == BATCH_IN_PROGRESS;
        struct err e = {{0}};

        t_row(batch_status_name(c_ways[i].status));
        for (unsigned k = 0; k < c_ways[i].n; k++)
            c_move(s, &id, c_ways[i].by[k], 1700000010);
        EQ_RC(s->ops->batch_get(s->self, NULL, id.z, &want, NULL), RC_OK);
        EQ_INT(want.status, c_ways[i].status);
        EQ_RC(
            s->ops->batch_edit(s->self, &want.project, id.z, &edit, 1700000020, &got, &e),
            may ? RC_OK : RC_CONFLICT);
        if (may) {
            want.priority = -10;
            want.paused = true;
            want.idle = true;
            want.hold = UINT32_MAX;
            want.expires_at = 1700129600;
            memcpy(want.window, "36h", 4);
        } else {
            OK(strstr(e.text, batch_status_name(c_ways[i].status)));
        }
        c_same_batch(&got, &want);
        batch_done(&got);
        EQ_RC(s->ops->batch_edit(s->self, NULL, id.z, &one, 1700000021, NULL, NULL),
              may ? RC_OK : RC_CONFLICT);
        want.priority = may ? 10 : 0;
        store_close(s);
        s = conformance_open(true);
        EQ_RC(s->ops->batch_get(s->self, NULL, id.z, &got, NULL), RC_OK);
        c_same_batch(&got, &want);
        batch_done(&got);
        batch_done(&want);
    }
    t_row(NULL);
    EQ_RC(s->ops->batch_edit(s->self, NULL, "batch_none", &one, 5, NULL, NULL),
          RC_NOTFOUND);
    store_close(s);
}

TEST(a_window_that_does_not_fit_changes_nothing)
{
    struct batch_edit edit = {.has_priority = true,
                              .priority = 5,
                              .has_window = true,
                              .window = "1234567890123456h",
                              .expires_at = 9};
    struct store *s = conformance_open(false);
    struct id input = c_add_file(s, 1, "batch"), id = c_add_batch(s, &input);
    struct batch got;

    EQ_RC(s->ops->batch_edit(s->self, NULL, id.z, &edit, 5, &got, NULL), RC_INVALID);
    EQ_RC(s->ops->batch_get(s->self, NULL, id.z, &got, NULL), RC_OK);
    EQ_INT(got.priority, 0);
    EQ_INT(got.expires_at, 1700086400);
    batch_done(&got);
    store_close(s);
}

/* ---- continuing ---------------------------------------------------------------------*/

TEST(while_a_batch_that_continues_another_is_validated_the_files_of_that_one_stay)
{
    struct store *s = conformance_open(false);
    struct id old_input = c_add_file(s, 1, "batch"), input = c_add_file(s, 1, "batch"),
              first = c_add_batch(s, &old_input), reaped[4];
    struct file_rec out = c_file(2, "batch_output"), errors = c_file(2, "batch_output");
    struct batch_change done = {.output = &out, .error = &errors};
    struct batch b = c_batch(&input), got;
    uint32_t reused = 17;
    struct batch_change valid = {.reused = &reused};
    size_t n;

    c_move(s, &first, BATCH_EV_VALID, 2);
    c_move(s, &first, BATCH_EV_DRAINED, 2);
    EQ_RC(s->ops->batch_move(s->self, NULL, first.z, BATCH_EV_PUBLISHED, 2, &done, NULL,
                             NULL),
          RC_OK);
    b.continue_from = first;
    EQ_RC(s->ops->batch_add(s->self, &b, NULL, NULL, NULL), RC_OK);
    EQ_RC(s->ops->file_delete(s->self, NULL, old_input.z, 5, NULL), RC_OK);
    EQ_RC(s->ops->file_delete(s->self, NULL, out.id.z, 5, NULL), RC_OK);
    EQ_RC(s->ops->file_delete(s->self, NULL, errors.id.z, 5, NULL), RC_OK);
    EQ_RC(s->ops->file_reap(s->self, 6, reaped, 4, &n, NULL), RC_OK);
    EQ_INT(n, 1);
    EQ_Z(reaped[0].z, errors.id.z); /* what failed is done again */
    EQ_RC(
        s->ops->batch_move(s->self, NULL, b.id.z, BATCH_EV_VALID, 7, &valid, &got, NULL),
        RC_OK);
    EQ_INT(got.reused, 17);
    EQ_Z(got.continue_from.z, first.z);
    batch_done(&got);
    EQ_RC(s->ops->file_reap(s->self, 8, reaped, 4, &n, NULL), RC_OK);
    EQ_INT(n, 3);
    store_close(s);
}

/* ---- the outbox ---------------------------------------------------------------------*/

static const char *const c_hooks[] = {"pager", "https://example.com/'hook'"};

static struct id c_ended(struct store *s, const struct id *input, int64_t now)
{
    struct id id = c_add_batch(s, input);
    struct batch_change change = {.notify = c_hooks, .n_notify = COUNTOF(c_hooks)};

    EQ_RC(s->ops->batch_move(s->self, NULL, id.z, BATCH_EV_INVALID, now, &change, NULL,
                             NULL),
          RC_OK);
    return id;
}

TEST(when_a_move_ends_a_batch_each_destination_gets_a_row_of_one_event)
{
    struct batch_change change = {.notify = c_hooks, .n_notify = COUNTOF(c_hooks)};
    struct store *s = conformance_open(false);
    struct id input = c_add_file(s, 1, "batch");

    for (size_t i = 0; i < COUNTOF(c_ways); i++) {
        struct id id = c_add_batch(s, &input), foreign = {"proj-2"}, own = {"proj-1"};
        struct outbox_rec *all = NULL;
        bool ends = batch_terminal(c_ways[i].status);
        enum batch_event never = ends || c_ways[i].status == BATCH_VALIDATING
                                     ? BATCH_EV_PUBLISHED
                                     : BATCH_EV_INVALID;
        char type[40];
        size_t n;

        t_row(batch_status_name(c_ways[i].status));
        for (unsigned k = 0; k < c_ways[i].n; k++)
            EQ_RC(s->ops->batch_move(s->self, NULL, id.z, c_ways[i].by[k], 1700000100 + k,
                                     &change, NULL, NULL),
                  RC_OK);
        /* A move that is refused tells nobody. */
        EQ_RC(s->ops->batch_move(s->self, NULL, id.z, never, 1700000200, &change, NULL,
                                 NULL),
              RC_CONFLICT);
        EQ_RC(s->ops->outbox_list(s->self, &own, id.z, &all, &n, NULL), RC_OK);
        EQ_INT(n, ends ? 2 : 0);
        for (size_t k = 0; k < n; k++) {
            EQ_Z(all[k].batch.z, id.z);
            EQ_Z(all[k].project.z, "proj-1");
            EQ_Z(all[k].destination, c_hooks[k]);
            EQ_RC(str_fmt(type, sizeof type, "batch.%s",
                          batch_status_name(c_ways[i].status)),
                  RC_OK);
            EQ_Z(all[k].type, type);
            EQ_INT(all[k].created_at, 1700000100 + c_ways[i].n - 1);
            EQ_INT(all[k].next_at, all[k].created_at);
            OK(!all[k].tries && !all[k].settled_at && !all[k].delivered);
            OK(!all[k].status && !all[k].error);
        }
        if (n == 2) {
            EQ_Z(all[0].event.z, all[1].event.z);
            OK(str_starts(id_str(&all[0].event), STR(ID_EVENT)));
            OK(all[0].seq < all[1].seq);
        }
        outbox_free(all, n);
        EQ_RC(s->ops->outbox_list(s->self, &foreign, id.z, &all, &n, NULL), RC_OK);
        EQ_INT(n, 0);
        outbox_free(all, n);
    }
    t_row(NULL);
    store_close(s);
}

TEST(an_end_that_fails_tells_nobody)
{
    struct store *s = conformance_open(false);
    struct id input = c_add_file(s, 1, "batch"), id = c_add_batch(s, &input);
    struct file_rec out = c_file(5, "batch_output");
    struct batch_change change = {.output = &out,
                                  .error = &out, /* cannot be added twice */
                                  .notify = c_hooks,
                                  .n_notify = COUNTOF(c_hooks)};
    uint64_t pending = 99;

    c_move(s, &id, BATCH_EV_VALID, 5);
    c_move(s, &id, BATCH_EV_DRAINED, 6);
    EQ_RC(s->ops->batch_move(s->self, NULL, id.z, BATCH_EV_PUBLISHED, 7, &change, NULL,
                             NULL),
          RC_INVALID);
    EQ_RC(s->ops->outbox_pending(s->self, &pending, NULL), RC_OK);
    EQ_INT(pending, 0);
    store_close(s);
}

static void c_due(struct store *s, int64_t now, size_t max, size_t want,
                  struct outbox_rec **ret)
{
    size_t n;

    EQ_RC(s->ops->outbox_due(s->self, now, max, ret, &n, NULL), RC_OK);
    EQ_INT(n, want);
}

TEST(an_event_is_due_until_it_is_settled_and_tried_again_when_it_says)
{
    struct store *s = conformance_open(false);
    struct id input = c_add_file(s, 1, "batch"), id = c_ended(s, &input, 100);
    struct outbox_result later = {
        .now = 100, .next_at = 160, .status = 503, .error = "busy"};
    struct outbox_result good = {.now = 170, .delivered = true, .status = 204};
    struct outbox_result bad = {
        .now = 180, .given_up = true, .unsent = true, .error = "too late"};
    struct outbox_rec *all = NULL;
    uint64_t pending;
    int64_t seq[2];
    size_t n;

    c_due(s, 99, 9, 0, &all);
    outbox_free(all, 0);
    c_due(s, 100, 9, 2, &all);
    seq[0] = all[0].seq;
    seq[1] = all[1].seq;
    outbox_free(all, 2);
    EQ_RC(s->ops->outbox_settle(s->self, seq[0], &later, NULL), RC_OK);
    EQ_RC(s->ops->outbox_pending(s->self, &pending, NULL), RC_OK);
    EQ_INT(pending, 2);
    EQ_RC(s->ops->outbox_settle(s->self, seq[1], &bad, NULL), RC_OK);
    EQ_RC(s->ops->outbox_pending(s->self, &pending, NULL), RC_OK);
    EQ_INT(pending, 1);
    store_close(s);
    s = conformance_open(true);
    c_due(s, 159, 9, 0, &all);
    outbox_free(all, 0);
    c_due(s, 160, 9, 1, &all);
    EQ_INT(all[0].seq, seq[0]);
    EQ_INT(all[0].tries, 1);
    EQ_INT(all[0].status, 503);
    EQ_Z(all[0].error, "busy");
    outbox_free(all, 1);
    EQ_RC(s->ops->outbox_settle(s->self, seq[0], &good, NULL), RC_OK);
    EQ_RC(s->ops->outbox_settle(s->self, seq[0], &good, NULL), RC_NOTFOUND);
    EQ_RC(s->ops->outbox_settle(s->self, 999999, &good, NULL), RC_NOTFOUND);
    EQ_RC(s->ops->outbox_pending(s->self, &pending, NULL), RC_OK);
    EQ_INT(pending, 0);
    EQ_RC(s->ops->outbox_list(s->self, NULL, id.z, &all, &n, NULL), RC_OK);
    EQ_INT(n, 2);
    OK(all[0].delivered && all[0].settled_at == 170 && all[0].tries == 2);
    OK(all[0].status == 204 && !all[0].error);
    OK(!all[1].delivered && all[1].settled_at == 180 && all[1].status == 0);
    EQ_INT(all[1].tries, 0); /* none was made */
    EQ_Z(all[1].error, "too late");
    outbox_free(all, n);
    store_close(s);
}

TEST(the_longest_due_comes_first_and_no_more_than_asked_for)
{
    struct store *s = conformance_open(false);
    struct id input = c_add_file(s, 1, "batch"), late = c_ended(s, &input, 300),
              early = c_ended(s, &input, 100), middle = c_ended(s, &input, 200);
    struct outbox_rec *all = NULL;

    c_due(s, 300, 5, 5, &all);
    EQ_Z(all[0].batch.z, early.z);
    EQ_Z(all[1].batch.z, early.z);
    OK(all[0].seq < all[1].seq);
    EQ_Z(all[2].batch.z, middle.z);
    EQ_Z(all[4].batch.z, late.z);
    outbox_free(all, 5);
    c_due(s, 300, 0, 0, &all);
    outbox_free(all, 0);
    store_close(s);
}

TEST(only_what_was_settled_long_ago_is_forgotten)
{
    struct store *s = conformance_open(false);
    struct id input = c_add_file(s, 1, "batch"), a = c_ended(s, &input, 100),
              b = c_ended(s, &input, 100);
    struct outbox_result good = {.now = 200, .delivered = true};
    struct outbox_rec *all = NULL;
    size_t n;

    EQ_RC(s->ops->outbox_list(s->self, NULL, a.z, &all, &n, NULL), RC_OK);
    EQ_RC(s->ops->outbox_settle(s->self, all[0].seq, &good, NULL), RC_OK);
    good.now = 201;
    EQ_RC(s->ops->outbox_settle(s->self, all[1].seq, &good, NULL), RC_OK);
    outbox_free(all, n);
    EQ_RC(s->ops->outbox_purge(s->self, 201, NULL), RC_OK);
    EQ_RC(s->ops->outbox_list(s->self, NULL, a.z, &all, &n, NULL), RC_OK);
    EQ_INT(n, 1);
    EQ_INT(all[0].settled_at, 201);
    outbox_free(all, n);
    EQ_RC(s->ops->outbox_list(s->self, NULL, b.z, &all, &n, NULL), RC_OK);
    EQ_INT(n, 2); /* not settled: never forgotten */
    outbox_free(all, n);
    store_close(s);
}
