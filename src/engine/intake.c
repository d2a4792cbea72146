/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/intake.h"
#include "json/json.h"
#include "base/id.h"
#include "base/map.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

/* An index entry holds a line's length in 26 bits. */
#define LENGTH_MAX ((1u << 26) - 1)

/* The longest raw custom_id: each character as two escapes, and the quotes. */
#define RAW_ID_MAX (12u * LIMIT_CUSTOM_ID + 2)

/* --- The custom_ids seen ------------------------------------------------------------
 * Open addressing; a cell holds 48 bits of the hash, where the custom_id stands in the
 * source and its line.  What the hashes can't tell apart is read again and compared. */

struct cell {
    uint64_t hash : 48;
    uint64_t off_high : 16;
    uint32_t off_low;
    uint32_t line; /* 0: free */
};
_Static_assert(sizeof(struct cell) == 16, "a cell is 16 bytes");

struct seen {
    struct cell *cells;
    size_t cap, n;
    uint64_t seed; /* random: nobody can send ids that collide */
};

struct scan {
    jsonl_read_fn *read;
    void *read_ctx;
    uint64_t size, got; /* bytes the source should have, and those read so far */
    const atomic_bool *stop;
    struct intake_rules rules; /* with the defaults in */
    struct index_writer *idx;
    intake_fault_fn *fault;
    void *fault_ctx;
    struct err *e;
    struct intake_result out;
    uint64_t inputs;
    struct seen seen;
    struct buf model; /* unescaped: the one judged last */
    bool model_judged, model_good;
    struct map *models; /* with many_models: those seen */
    bool too_many;      /* of them: told once */
};

#define HASH_MASK ((UINT64_C(1) << 48) - 1)

/* Where a hash belongs in a table of any size. */
static size_t home_of(const struct seen *s, uint64_t hash)
{
    return (size_t)((hash >> 16) * s->cap >> 32);
}

static size_t next_cell(const struct seen *s, size_t i)
{
    return i + 1 == s->cap ? 0 : i + 1;
}

static void put_cell(struct seen *s, struct cell c)
{
    size_t i = home_of(s, c.hash);

    while (s->cells[i].line)
        i = next_cell(s, i);
    s->cells[i] = c;
}

/* By half, or at once to what the file will need when it goes on like this. */
static bool grow_seen(struct seen *s, uint64_t expected)
{
    struct seen bigger = *s;

    bigger.cap = s->cap + s->cap / 2 + 256;
    if (expected + expected / 4 > bigger.cap)
        bigger.cap = (size_t)(expected + expected / 4);
    if (bigger.cap > UINT32_MAX)
        return false;
    bigger.cells = mem_try(bigger.cap * sizeof *bigger.cells);
    if (!bigger.cells)
        return false;
    memset(bigger.cells, 0, bigger.cap * sizeof *bigger.cells);
    for (size_t i = 0; i < s->cap; i++)
        if (s->cells[i].line)
            put_cell(&bigger, s->cells[i]);
    mem_free(s->cells);
    *s = bigger;
    return true;
}

/* Load at most 85 %. */
static enum rc make_room(struct scan *s, uint64_t offset)
{
    uint64_t lines = 0;

    if (20 * (s->seen.n + 1) <= 17 * s->seen.cap)
        return RC_OK;
    if (offset)
        lines = (uint64_t)((double)s->seen.n * (double)s->size / (double)offset);
    if (!grow_seen(&s->seen, u64_min(lines, s->rules.max_lines)))
        return err_set(s->e, RC_NOMEM, "out of memory for more than %zu custom_ids",
                       s->seen.n);
    return RC_OK;
}

/* Does the string that starts at that offset of the source say the same as `raw`? */
static enum rc same_in_source(struct scan *s, uint64_t offset, struct str raw, bool *ret)
{
    char there[RAW_ID_MAX];
    size_t n = 0, got = 1, end = 1;

    while (n < sizeof there && got > 0) {
        enum rc rc = s->read(s->read_ctx, there + n, sizeof there - n, offset + n, &got);

        if (rc != RC_OK)
            return err_set(s->e, rc, "cannot read the input again at byte %llu",
                           (unsigned long long)offset);
        n += got;
    }
    while (end < n && there[end] != '"')
        end += there[end] == '\\' ? 2 : 1;
    if (end >= n || there[0] != '"')
        return err_set(s->e, RC_IO, "the input changed while it was checked");
    *ret = json_str_eq(raw, (struct str){there, end + 1});
    return RC_OK;
}

/* Remembers a custom_id; *ret_line is the earlier line that has it, or 0. */
static enum rc see_id(struct scan *s, struct str raw, uint64_t offset, uint32_t line,
                      uint32_t *ret_line)
{
    struct cell c = {.hash = json_str_hash(raw, s->seen.seed) & HASH_MASK,
                     .off_high = offset >> 32 & 0xffff,
                     .off_low = (uint32_t)offset,
                     .line = line};
    enum rc rc = make_room(s, offset);

    if (rc != RC_OK)
        return rc;
    *ret_line = 0;
    for (size_t i = home_of(&s->seen, c.hash); s->seen.cells[i].line;
         i = next_cell(&s->seen, i)) {
        const struct cell *other = &s->seen.cells[i];
        bool same = false;

        if (other->hash != c.hash)
            continue;
        rc = same_in_source(s, (uint64_t)other->off_high << 32 | other->off_low, raw,
                            &same);
        if (rc != RC_OK)
            return rc;
        if (same) {
            *ret_line = other->line;
            return RC_OK;
        }
    }
    put_cell(&s->seen, c);
    s->seen.n++;
    return RC_OK;
}

/* --- Faults ------------------------------------------------------------------------- */

static void tell(struct scan *s, const struct intake_fault *f)
{
    s->out.faults++;
    if (s->fault)
        s->fault(s->fault_ctx, f);
}

PRINTF_FMT(5, 6)
static void tell_fmt(struct scan *s, uint32_t line, const char *code, const char *param,
                     const char *fmt, ...)
{
    char message[1024];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    tell(s, &(struct intake_fault){
                .line = line, .code = code, .param = param, .message = message});
}

static void tell_line(struct scan *s, uint32_t line, const struct line_error *le)
{
    tell(s, &(struct intake_fault){.line = line,
                                   .code = line_fault_code(le->fault),
                                   .param = le->param,
                                   .message = le->message,
                                   .reason = le->reason,
                                   .at = le->at});
}

/* What is wrong with the file as a whole: known when all is read. */
static void tell_whole(struct scan *s)
{
    if (s->out.requests == 0 && s->out.faults == 0)
        tell_fmt(
            s, 0, "empty_file", NULL,
            "The input file is empty. Please ensure that the batch contains at least "
            "one request.");
    if (s->out.requests > s->rules.max_lines)
        tell_fmt(s, 0, "too_many_tasks", NULL,
                 "The input file has %u requests; the maximum is %u.", s->out.requests,
                 s->rules.max_lines);
    if (s->inputs > s->rules.max_inputs)
        tell_fmt(
            s, 0, "too_many_embedding_inputs", NULL,
            "The input file has %llu embedding inputs in all its requests; the maximum "
            "is %u.",
            (unsigned long long)s->inputs, s->rules.max_inputs);
}

/* --- One line -----------------------------------------------------------------------
 */

/* A name that fits its field, and that model_known knows.  Asked once for each run of
 * equal names. */
static bool model_good(struct scan *s, struct str raw)
{
    struct str name = buf_peek(&s->model);

    if (s->model_judged && json_str_is(raw, name))
        return s->model_good;
    buf_reset(&s->model);
    s->model_judged = json_unescape(raw, &s->model) == RC_OK;
    name = buf_peek(&s->model);
    s->model_good =
        s->model_judged && name.n > 0 && !memchr(name.p, '\0', name.n) &&
        (!s->rules.model_known || s->rules.model_known(s->rules.model_ctx, name));
    return s->model_good;
}

/* One more model: it is s->model.  Each is a queue of its own, so their number ends. */
static bool add_model(struct scan *s, uint32_t number)
{
    struct str name = buf_peek(&s->model);

    s->out.several = true;
    if (map_get(s->models, name))
        return true;
    if (map_len(s->models) < LIMIT_BATCH_MODELS) {
        map_put(s->models, name, s);
        return true;
    }
    if (!s->too_many)
        tell_fmt(s, number, line_fault_code(LINE_MODELS), "body.model",
                 "This file names more than %u models; split it into several batches.",
                 LIMIT_BATCH_MODELS);
    s->too_many = true;
    return false;
}

static bool check_model(struct scan *s, uint32_t number, struct str raw)
{
    char quote[128];

    if (!raw.p || (s->out.model[0] && json_str_is(raw, str_of(s->out.model))))
        return true;
    line_quote(raw, quote, sizeof quote);
    if (!model_good(s, raw)) {
        tell_fmt(s, number, line_fault_code(LINE_MODEL_UNKNOWN), "body.model",
                 "The provided model '%s' is not supported by the Batch API.", quote);
        return false;
    }
    if (!s->out.model[0]) {
        memcpy(s->out.model, s->model.p, s->model.n); /* at most LIMIT_MODEL */
        map_put(s->models, buf_peek(&s->model), s);
        return true;
    }
    if (s->rules.many_models)
        return add_model(s, number);
    tell_fmt(s, number, line_fault_code(LINE_MODEL_MISMATCH), "body.model",
             "The model '%s' for this request does not match the rest of the batch. Each "
             "batch must contain requests for a single model.",
             quote);
    return false;
}

static enum rc check_id(struct scan *s, const struct jsonl_line *at, struct str raw,
                        bool *ret_good)
{
    uint32_t earlier;
    char quote[128];
    enum rc rc;

    *ret_good = true;
    /* The batch fails already; its ids must not take memory without end. */
    if (s->out.requests > s->rules.max_lines)
        return RC_OK;
    rc =
        see_id(s, raw, at->offset + (uint64_t)(raw.p - at->text.p), at->number, &earlier);
    if (rc != RC_OK || !earlier)
        return rc;
    *ret_good = false;
    line_quote(raw, quote, sizeof quote);
    tell_fmt(
        s, at->number, line_fault_code(LINE_DUPLICATE), "custom_id",
        "The custom_id '%s' for this request is a duplicate of another request, on line "
        "%u. The custom_id parameter must be unique for each request in a batch.",
        quote, earlier);
    return RC_OK;
}

static enum rc add_index(struct scan *s, const struct jsonl_line *at,
                         const struct line *line)
{
    struct index_entry entry = {.offset = at->offset,
                                .length = (uint32_t)at->text.n,
                                .number = at->number,
                                .body_off = (uint32_t)(line->body.p - at->text.p),
                                .body_len = (uint32_t)line->body.n};

    return s->idx && s->out.faults == 0 ? index_add(s->idx, &entry, s->e) : RC_OK;
}

static enum rc take_line(struct scan *s, const struct jsonl_line *at)
{
    struct line_error le;
    struct line line;
    bool good;
    enum rc rc;

    if (at->blank)
        return RC_OK;
    if (at->too_long) {
        tell_fmt(s, at->number, line_fault_code(LINE_TOO_LONG), NULL,
                 "This line is too long; the maximum is %zu bytes.",
                 s->rules.max_line_bytes);
        return RC_OK;
    }
    rc = line_read(at->text, s->out.endpoint, &line, &le);
    if (rc == RC_INVALID) {
        tell_line(s, at->number, &le);
        return RC_OK;
    }
    if (rc != RC_OK)
        return err_set(s->e, rc, "line %u: %s", at->number, rc_text(rc));
    s->out.endpoint = line.endpoint;
    s->out.requests++;
    s->inputs += line.inputs;
    if (s->rules.each)
        s->rules.each(s->rules.each_ctx, &line);
    rc = check_id(s, at, line.custom_id, &good);
    if (rc != RC_OK || !good || !check_model(s, at->number, line.model))
        return rc;
    return add_index(s, at, &line);
}

/* --- The whole file -----------------------------------------------------------------
 */

/* A jsonl_read_fn: counts what comes, and stops between two windows. */
static enum rc read_counted(void *ctx, char *dst, size_t cap, uint64_t off, size_t *ret_n)
{
    struct scan *s = ctx;
    enum rc rc;

    if (s->stop && atomic_load_explicit(s->stop, memory_order_relaxed))
        return err_set(s->e, RC_CANCELLED, "the check of the input was stopped");
    rc = s->read(s->read_ctx, dst, cap, off, ret_n);
    if (rc == RC_OK)
        s->got = off + *ret_n;
    else
        (void)err_set(s->e, rc, "cannot read the input at byte %llu",
                      (unsigned long long)off);
    return rc;
}

static enum rc scan_lines(struct scan *s)
{
    struct jsonl *j = jsonl_new(read_counted, s, s->rules.max_line_bytes);
    struct jsonl_line at;
    enum rc rc;

    do {
        rc = jsonl_next(j, &at);
        if (rc == RC_OK)
            rc = take_line(s, &at);
        else if (rc == RC_NOMEM || rc == RC_LIMIT)
            (void)err_set(s->e, rc, "cannot walk the lines of the input: %s",
                          rc_text(rc));
    } while (rc == RC_OK);
    jsonl_free(j);
    if (rc != RC_NOTFOUND)
        return rc;
    if (s->got != s->size)
        return err_set(s->e, RC_IO, "the input has %llu bytes instead of %llu",
                       (unsigned long long)s->got, (unsigned long long)s->size);
    tell_whole(s);
    return RC_OK;
}

static struct intake_rules with_defaults(const struct intake_rules *rules)
{
    struct intake_rules r = *rules;

    if (!r.max_lines)
        r.max_lines = LIMIT_LINES;
    if (!r.max_inputs)
        r.max_inputs = LIMIT_EMBEDDING_INPUTS;
    if (!r.max_bytes)
        r.max_bytes = LIMIT_FILE_BYTES;
    if (!r.max_line_bytes)
        r.max_line_bytes = LIMIT_LINE_BYTES;
    if (r.max_line_bytes > LENGTH_MAX)
        r.max_line_bytes = LENGTH_MAX;
    return r;
}

enum rc intake_scan(jsonl_read_fn *read, void *read_ctx, uint64_t size,
                    const struct intake_rules *rules, struct index_writer *idx,
                    intake_fault_fn *fault, void *fault_ctx, const atomic_bool *stop,
                    struct intake_result *ret, struct err *e)
{
    struct scan s = {.read = read,
                     .read_ctx = read_ctx,
                     .size = size,
                     .stop = stop,
                     .rules = with_defaults(rules),
                     .idx = idx,
                     .fault = fault,
                     .fault_ctx = fault_ctx,
                     .e = e};
    enum rc rc = RC_OK;

    s.out.endpoint = rules->any_endpoint ? ENDPOINT_COUNT : rules->endpoint;
    buf_init(&s.model, LIMIT_MODEL);
    s.models = map_new();
    random_bytes(&s.seen.seed, sizeof s.seen.seed);
    if (size > s.rules.max_bytes)
        tell_fmt(&s, 0, "file_too_large", NULL,
                 "The input file has %llu bytes; the maximum is %llu.",
                 (unsigned long long)size, (unsigned long long)s.rules.max_bytes);
    else
        rc = scan_lines(&s);
    mem_free(s.seen.cells);
    buf_done(&s.model);
    map_free(s.models);
    if (rc == RC_OK)
        *ret = s.out;
    return rc;
}

/* --- The API's `errors` object ------------------------------------------------------ */

struct intake_errors {
    struct buf list; /* the entries, with commas */
    uint32_t total;
};

/* An entry is at most 1,023 bytes of message at 6 for each, and 200 of the rest. */
#define LIST_MAX ((size_t)(LIMIT_LINE_ERRORS + 1) * 8192)

struct intake_errors *intake_errors_new(void)
{
    struct intake_errors *x = mem_new(struct intake_errors);

    buf_init(&x->list, LIST_MAX);
    return x;
}

struct intake_errors *intake_errors_free(struct intake_errors *x)
{
    if (x)
        buf_done(&x->list);
    mem_free(x);
    return NULL;
}

static void put_entry(struct buf *b, const struct intake_fault *f)
{
    struct json_writer w;

    if (b->n > 0 && b->p[b->n - 1] == '}')
        (void)buf_char(b, ',');
    jw_init(&w, b);
    jw_open(&w, NULL, '{');
    jw_z(&w, "code", f->code);
    jw_z(&w, "message", f->message);
    jw_z(&w, "param", f->param);
    if (f->line)
        jw_i64(&w, "line", f->line);
    else
        jw_null(&w, "line");
    jw_close(&w, '}');
}

void intake_errors_add(void *errors, const struct intake_fault *f)
{
    struct intake_errors *x = errors;

    if (x->total++ < LIMIT_LINE_ERRORS)
        put_entry(&x->list, f);
}

char *intake_errors_json(struct intake_errors *x)
{
    char message[128];
    struct buf b;
    char *json;

    buf_init(&b, LIST_MAX + 64);
    (void)buf_z(&b, "{\"object\":\"list\",\"data\":[");
    (void)buf_str(&b, buf_peek(&x->list));
    if (x->total > LIMIT_LINE_ERRORS) {
        (void)snprintf(message, sizeof message,
                       "The input file has %u errors; only the first %u are listed.",
                       x->total, LIMIT_LINE_ERRORS);
        put_entry(&b,
                  &(struct intake_fault){.code = "too_many_errors", .message = message});
    }
    (void)buf_z(&b, "]}");
    json = buf_take(&b, NULL);
    if (!json)
        PANIC("out of memory for the errors of a batch");
    return json;
}

char *intake_one_error(const char *code, const char *param, const char *message)
{
    struct intake_errors *x = intake_errors_new();
    struct intake_fault f = {.code = code, .param = param, .message = message};
    char *json;

    intake_errors_add(x, &f);
    json = intake_errors_json(x);
    intake_errors_free(x);
    return json;
}

char *intake_no_file(const char *file)
{
    char message[160];

    IGNORE(str_fmt(message, sizeof message, "Cannot find file %s.", file));
    return intake_one_error("invalid_request", "file_id", message);
}
