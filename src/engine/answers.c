/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/answers.h"
#include "base/id.h"
#include "base/limits.h"
#include "base/mem.h"
#include "core/line.h"
#include "json/json.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

struct answer {
    uint64_t id;       /* seeded hash of the custom_id */
    uint64_t asked[2]; /* hash of the body; of no meaning before is_asked */
    uint64_t offset;
    uint32_t length; /* 0: its custom_id cannot be told from another's */
    bool is_asked;   /* the input file has the request */
};
_Static_assert(sizeof(struct answer) == 40, "an answer takes 40 bytes");

struct answers {
    struct answer *list; /* sorted by id once the output file was read */
    uint32_t n, cap;
    uint64_t seed; /* random: nobody can send ids that collide */
};

struct answers *answers_new(void)
{
    struct answers *a = mem_new(struct answers);

    random_bytes(&a->seed, sizeof a->seed);
    return a;
}

struct answers *answers_free(struct answers *a)
{
    if (a)
        mem_free(a->list);
    mem_free(a);
    return NULL;
}

uint32_t answers_count(const struct answers *a)
{
    return a->n;
}

/* --- Walking the lines of a file ------------------------------------------------------ */

typedef enum rc line_fn(struct answers *a, const struct jsonl_line *at, enum endpoint ep,
                        struct err *e);

static enum rc each_line(struct answers *a, jsonl_read_fn *read, void *ctx,
                         size_t max_line, enum endpoint ep, line_fn *take,
                         const atomic_bool *stop, struct err *e)
{
    struct jsonl *j = jsonl_new(read, ctx, max_line);
    struct jsonl_line at;
    enum rc rc;

    do {
        rc = jsonl_next(j, &at);
        if (rc == RC_OK && atomic_load_explicit(stop, memory_order_relaxed))
            rc = err_set(e, RC_CANCELLED, "stopped while an earlier batch was read");
        else if (rc == RC_OK && !at.too_long && !at.blank)
            rc = take(a, &at, ep, e);
        else if (rc == RC_NOMEM || rc == RC_LIMIT)
            rc = err_set(e, rc, "cannot walk the lines of an earlier batch: %s",
                         rc_text(rc));
    } while (rc == RC_OK);
    jsonl_free(j);
    return rc == RC_NOTFOUND ? RC_OK : rc;
}

/* --- The output file ------------------------------------------------------------------ */

static enum rc make_room(struct answers *a, struct err *e)
{
    uint32_t cap = a->cap + a->cap / 2 + 64;
    struct answer *list;

    if (a->n < a->cap)
        return RC_OK;
    list = mem_resize(a->list, cap * sizeof *list);
    if (!list)
        return err_set(e, RC_NOMEM, "no memory for the answers of an earlier batch");
    a->list = list;
    a->cap = cap;
    return RC_OK;
}

static enum rc take_result(struct answers *a, const struct jsonl_line *at,
                           enum endpoint ep, struct err *e)
{
    enum { CUSTOM_ID, RESPONSE, STATUS, WANTS };
    /* An answer may be as deep as we read; the line has it two levels down. */
    static const struct json_limits limits = {.depth = LIMIT_JSON_DEPTH + 2};
    static const struct json_want wants[WANTS] = {
        [CUSTOM_ID] = {"custom_id", -1},
        [RESPONSE] = {"response", -1},
        [STATUS] = {"status_code", RESPONSE},
    };
    struct json_val vals[WANTS];
    uint64_t status;
    enum rc rc;

    (void)ep;
    if (json_read(at->text, &limits, wants, WANTS, vals, NULL, NULL) != RC_OK ||
        vals[CUSTOM_ID].type != JSON_STRING ||
        json_u64(&vals[STATUS], &status) != RC_OK || status < 200 || status > 299)
        return RC_OK;
    rc = make_room(a, e);
    if (rc == RC_OK)
        a->list[a->n++] = (struct answer){
            .id = json_str_hash(vals[CUSTOM_ID].raw, a->seed),
            .offset = at->offset,
            .length = (uint32_t)at->text.n,
        };
    return rc;
}

static int by_id(const void *x, const void *y)
{
    const struct answer *a = x, *b = y;

    return (a->id > b->id) - (a->id < b->id);
}

enum rc answers_read_output(struct answers *a, jsonl_read_fn *read, void *ctx,
                            uint32_t expected, const atomic_bool *stop, struct err *e)
{
    enum rc rc;

    a->list = mem_try(((size_t)expected + 1) * sizeof *a->list);
    if (!a->list)
        return err_set(e, RC_NOMEM, "no memory for %u answers of an earlier batch",
                       expected);
    a->cap = expected + 1;
    rc = each_line(a, read, ctx, LIMIT_RESULT, ENDPOINT_COUNT, take_result, stop, e);
    if (rc != RC_OK || a->n == 0)
        return rc;
    qsort(a->list, a->n, sizeof *a->list, by_id);
    for (uint32_t i = 1; i < a->n; i++)
        if (a->list[i].id == a->list[i - 1].id)
            a->list[i].length = a->list[i - 1].length = 0;
    return RC_OK;
}

/* --- The input file ------------------------------------------------------------------- */

static struct answer *look_up(const struct answers *a, struct str custom_id)
{
    struct answer key = {.id = json_str_hash(custom_id, a->seed)};
    struct answer *found =
        a->n ? bsearch(&key, a->list, a->n, sizeof *a->list, by_id) : NULL;

    return found && found->length ? found : NULL;
}

static void hash_body(struct str body, uint64_t ret[2])
{
    XXH128_hash_t h = XXH3_128bits(body.p, body.n);

    ret[0] = h.low64;
    ret[1] = h.high64;
}

static enum rc take_request(struct answers *a, const struct jsonl_line *at,
                            enum endpoint ep, struct err *e)
{
    struct line_error why;
    struct answer *x;
    struct line line;
    enum rc rc = line_read(at->text, ep, &line, &why);

    if (rc == RC_INVALID)
        return RC_OK;
    if (rc != RC_OK)
        return err_set(e, rc, "line %u of an earlier batch: %s", at->number, rc_text(rc));
    x = look_up(a, line.custom_id);
    if (x) {
        hash_body(line.body, x->asked);
        x->is_asked = true;
    }
    return RC_OK;
}

enum rc answers_read_input(struct answers *a, jsonl_read_fn *read, void *ctx,
                           enum endpoint ep, const atomic_bool *stop, struct err *e)
{
    return each_line(a, read, ctx, LIMIT_LINE_BYTES, ep, take_request, stop, e);
}

bool answers_find(const struct answers *a, struct str custom_id, struct str body,
                  struct answer_place *ret)
{
    const struct answer *x = look_up(a, custom_id);
    uint64_t asked[2];

    if (!x || !x->is_asked)
        return false;
    hash_body(body, asked);
    if (asked[0] != x->asked[0] || asked[1] != x->asked[1])
        return false;
    *ret = (struct answer_place){x->offset, x->length};
    return true;
}
