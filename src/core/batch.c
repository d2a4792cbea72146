/* SPDX-License-Identifier: Apache-2.0 */
#include "core/batch.h"
#include "base/mem.h"
#include "json/json.h"

static const struct {
    const char *name;
    bool terminal;
} statuses[BATCH_STATUS_COUNT] = {
#define X(name, text, terminal) {text, terminal},
    BATCH_STATUS_LIST(X)
#undef X
};

static const char *const events[BATCH_EVENT_COUNT] = {
#define X(name) #name,
    BATCH_EVENT_LIST(X)
#undef X
};

/* The legal moves; a cell that is not here is refused.  `expiring` picks between the two
 * ends of finalizing, so that row stands twice. */
static const struct move {
    enum batch_status from;
    enum batch_event event;
    bool expiring;
    enum batch_status to;
} moves[] = {
    {BATCH_VALIDATING, BATCH_EV_VALID, false, BATCH_IN_PROGRESS},
    {BATCH_VALIDATING, BATCH_EV_INVALID, false, BATCH_FAILED},
    {BATCH_VALIDATING, BATCH_EV_CANCEL, false, BATCH_CANCELLING},
    {BATCH_IN_PROGRESS, BATCH_EV_CANCEL, false, BATCH_CANCELLING},
    {BATCH_IN_PROGRESS, BATCH_EV_EXPIRE, false, BATCH_FINALIZING},
    {BATCH_IN_PROGRESS, BATCH_EV_DRAINED, false, BATCH_FINALIZING},
    {BATCH_FINALIZING, BATCH_EV_PUBLISHED, false, BATCH_COMPLETED},
    {BATCH_FINALIZING, BATCH_EV_PUBLISHED, true, BATCH_EXPIRED},
    {BATCH_CANCELLING, BATCH_EV_PUBLISHED, false, BATCH_CANCELLED},
};

const char *batch_status_name(enum batch_status s)
{
    CHECK((unsigned)s < BATCH_STATUS_COUNT);
    return statuses[s].name;
}

enum rc batch_status_from(struct str name, enum batch_status *ret)
{
    for (unsigned i = 0; i < BATCH_STATUS_COUNT; i++) {
        if (str_is(name, statuses[i].name)) {
            *ret = (enum batch_status)i;
            return RC_OK;
        }
    }
    return RC_NOTFOUND;
}

bool batch_terminal(enum batch_status s)
{
    CHECK((unsigned)s < BATCH_STATUS_COUNT);
    return statuses[s].terminal;
}

const char *batch_event_name(enum batch_event ev)
{
    CHECK((unsigned)ev < BATCH_EVENT_COUNT);
    return events[ev];
}

/* The timestamp that entering a status sets. */
static int64_t *entered_at(struct batch *b, enum batch_status s)
{
    switch (s) {
    case BATCH_VALIDATING:
        return &b->created_at;
    case BATCH_FAILED:
        return &b->failed_at;
    case BATCH_IN_PROGRESS:
        return &b->in_progress_at;
    case BATCH_FINALIZING:
        return &b->finalizing_at;
    case BATCH_COMPLETED:
        return &b->completed_at;
    case BATCH_EXPIRED:
        return &b->expired_at;
    case BATCH_CANCELLING:
        return &b->cancelling_at;
    case BATCH_CANCELLED:
        return &b->cancelled_at;
    case BATCH_STATUS_COUNT:
        break;
    }
    PANIC("batch status %d has no timestamp", (int)s);
}

enum rc batch_step(struct batch *b, enum batch_event ev, int64_t now)
{
    for (size_t i = 0; i < COUNTOF(moves); i++) {
        const struct move *m = &moves[i];
        int64_t before;

        if (m->from != b->status || m->event != ev || m->expiring != b->expiring)
            continue;
        /* A wall clock that was set back must not turn the story round. */
        before = *entered_at(b, b->status);
        b->status = m->to;
        b->expiring = b->expiring || ev == BATCH_EV_EXPIRE;
        *entered_at(b, m->to) = now > before ? now : before;
        return RC_OK;
    }
    return RC_CONFLICT;
}

void batch_done(struct batch *b)
{
    mem_free(b->model);
    mem_free(b->errors);
    mem_free(b->metadata);
    mem_free(b->callback_url);
    mem_free(b->idempotency_key);
    b->model = b->errors = b->metadata = b->callback_url = b->idempotency_key = NULL;
}

static char *dup_or_null(const char *z)
{
    return z ? mem_dup(z, strlen(z)) : NULL;
}

void batch_copy(struct batch *dst, const struct batch *src)
{
    *dst = *src;
    dst->model = dup_or_null(src->model);
    dst->errors = dup_or_null(src->errors);
    dst->metadata = dup_or_null(src->metadata);
    dst->callback_url = dup_or_null(src->callback_url);
    dst->idempotency_key = dup_or_null(src->idempotency_key);
}

static void put_usage(struct json_writer *w, const struct usage *u)
{
    jw_open(w, "usage", '{');
    jw_i64(w, "input_tokens", (int64_t)u->input);
    jw_open(w, "input_tokens_details", '{');
    jw_i64(w, "cached_tokens", (int64_t)u->cached);
    jw_close(w, '}');
    jw_i64(w, "output_tokens", (int64_t)u->output);
    jw_open(w, "output_tokens_details", '{');
    jw_i64(w, "reasoning_tokens", (int64_t)u->reasoning);
    jw_close(w, '}');
    jw_i64(w, "total_tokens", (int64_t)u->total);
    jw_close(w, '}');
}

static void put_raw_or_null(struct json_writer *w, const char *key, const char *json)
{
    if (json)
        jw_raw(w, key, str_of(json));
    else
        jw_null(w, key);
}

void batch_put_json(const struct batch *b, struct buf *out)
{
    struct json_writer w;

    jw_init(&w, out);
    jw_open(&w, NULL, '{');
    jw_z(&w, "id", b->id.z);
    jw_z(&w, "object", "batch");
    jw_z(&w, "endpoint", endpoint_path(b->endpoint));
    jw_z(&w, "model", b->model);
    put_raw_or_null(&w, "errors", b->errors);
    jw_z(&w, "input_file_id", b->input_file.z);
    jw_z(&w, "completion_window", b->window);
    jw_z(&w, "status", batch_status_name(b->status));
    jw_z(&w, "output_file_id", b->output_file.z);
    jw_z(&w, "error_file_id", b->error_file.z);
    jw_time(&w, "created_at", b->created_at);
    jw_time(&w, "in_progress_at", b->in_progress_at);
    jw_time(&w, "expires_at", b->expires_at);
    jw_time(&w, "finalizing_at", b->finalizing_at);
    jw_time(&w, "completed_at", b->completed_at);
    jw_time(&w, "failed_at", b->failed_at);
    jw_time(&w, "expired_at", b->expired_at);
    jw_time(&w, "cancelling_at", b->cancelling_at);
    jw_time(&w, "cancelled_at", b->cancelled_at);
    jw_open(&w, "request_counts", '{');
    jw_i64(&w, "total", b->counts.total);
    jw_i64(&w, "completed", b->counts.completed);
    jw_i64(&w, "failed", b->counts.failed);
    jw_close(&w, '}');
    if (b->has_usage)
        put_usage(&w, &b->usage);
    else
        jw_null(&w, "usage");
    put_raw_or_null(&w, "metadata", b->metadata);
    jw_close(&w, '}');
}

void usage_add(struct usage *sum, const struct usage *one)
{
    sum->input += one->input;
    sum->cached += one->cached;
    sum->output += one->output;
    sum->reasoning += one->reasoning;
    sum->total += one->total;
}
