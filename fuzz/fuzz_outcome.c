/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_outcome: what an upstream answers becomes a result line.  The input: a byte of a
 * status, custom_id's raw JSON up to the first LF, the answer's head up to an empty line,
 * the body.
 *
 * Whatever comes, the line is one JSON object on one line, with the custom_id's own bytes,
 * the answer's body in it (byte for byte but for line ends, or as a string when it is no
 * JSON), and an earlier batch's results that hold it give it again (engine/answers.h).
 */
/* reaches: src/core/outcome.c 28 */
/* reaches: src/http/answer.c 52 */
/* reaches: src/engine/answers.c 12 */
#include "fuzz/lib/quiet.h"

#include "base/limits.h"
#include "core/outcome.h"
#include "engine/answers.h"
#include "http/answer.h"
#include "json/json.h"
#include "tests/lib/json_ref.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char hex[] = "0123456789abcdef0123456789abcdef";

/* --- Heads --------------------------------------------------------------------------- */

static void check_plain(const char *z, size_t cap)
{
    CHECK(strlen(z) < cap);
    for (; *z; z++)
        CHECK(*z >= ' ' && *z <= '~');
}

static void read_heads(struct str heads, struct answer *a)
{
    int64_t wait;

    answer_start(a);
    while (heads.n) {
        struct str line = heads;
        const char *lf = memchr(heads.p, '\n', heads.n);

        line.n = lf ? (size_t)(lf + 1 - heads.p) : heads.n;
        heads.p += line.n, heads.n -= line.n;
        answer_line(a, line);
    }
    CHECK(a->status == 0 || (a->status >= 0 && a->status <= 999));
    CHECK(!a->complete || a->status >= 200);
    check_plain(a->id, sizeof a->id);
    check_plain(a->date, sizeof a->date);
    check_plain(a->retry_date, sizeof a->retry_date);
    wait = answer_retry_ms(a, QUIET_START);
    /* Dates are read up to the year 99,999. */
    CHECK(wait >= -1 && wait <= INT64_C(1000) * 3600 * 24 * 366 * 100000);
}

/* --- Lines --------------------------------------------------------------------------- */

/* The line as the slow reader sees it. */
static void check_line(struct str line, struct str custom_id, const struct ref *top)
{
    const struct ref *id;

    CHECK(line.n > 2 && line.p[line.n - 1] == '\n');
    CHECK(!memchr(line.p, '\n', line.n - 1) && !memchr(line.p, '\r', line.n));
    CHECK(top->type == JSON_OBJECT && top->n_kids == 4);
    id = &top->kids[1];
    CHECK(str_eq((struct str){line.p + id->at, id->end - id->at}, custom_id));
}

/* The body inside: all bytes but line ends between its tokens, or a string. */
static void check_body(struct str line, const struct ref *top, struct str body)
{
    const struct ref *response = &top->kids[2], *in;
    struct str got;
    struct ref own;
    size_t wrong, k = 0;
    bool json = ref_parse(body, LIMIT_JSON_DEPTH, false, &own, &wrong);

    CHECK(response->type == JSON_OBJECT && response->n_kids == 3);
    in = &response->kids[2];
    got = (struct str){line.p + in->at, in->end - in->at};
    if (json) {
        for (size_t i = own.at; i < own.end; i++)
            if (body.p[i] != '\n' && body.p[i] != '\r')
                CHECK(k < got.n && got.p[k++] == body.p[i]);
        CHECK(k == got.n && in->type == own.type);
    } else {
        CHECK(in->type == JSON_STRING);
    }
    ref_free(&own);
}

/* --- Found again --------------------------------------------------------------------- */

static enum rc read_text(void *ctx, char *dst, size_t cap, uint64_t off, size_t *ret_n)
{
    const struct str *s = ctx;
    size_t left = off < s->n ? s->n - (size_t)off : 0;

    *ret_n = left < cap ? left : cap;
    if (*ret_n)
        memcpy(dst, s->p + off, *ret_n);
    return RC_OK;
}

static void check_reuse(struct str line, struct str custom_id)
{
    struct answers *a = answers_new();
    struct answer_place at;
    struct buf input;
    struct str text;
    atomic_bool stop = false;
    struct err e;

    buf_init(&input, line.n + 1024);
    (void)buf_z(&input, "{\"custom_id\":");
    (void)buf_str(&input, custom_id);
    (void)buf_z(&input, ",\"method\":\"POST\",\"url\":\"/v1/responses\",\"body\":{}}\n");
    text = buf_peek(&input);
    CHECK(answers_read_output(a, read_text, &line, 1, &stop, &e) == RC_OK);
    CHECK(answers_count(a) == 1);
    CHECK(answers_read_input(a, read_text, &text, ENDPOINT_RESPONSES, &stop, &e) ==
          RC_OK);
    CHECK(answers_find(a, custom_id, STR("{}"), &at));
    CHECK(at.offset == 0 && at.length == line.n - 1);
    CHECK(!answers_find(a, custom_id, STR("{ }"), &at));
    IGNORE(answers_free(a)); /* always NULL */
    buf_done(&input);
}

/* --- The whole ----------------------------------------------------------------------- */

static void check_answer(long status, struct str custom_id, struct str body,
                         const struct answer *a)
{
    struct outcome o = outcome_of_answer(status, body);
    bool whole = o.cls != OUTCOME_BROKEN;
    struct buf line;
    struct ref top;
    size_t wrong;

    CHECK(o.cls == OUTCOME_DONE || !o.has_usage);
    CHECK((o.cls == OUTCOME_DONE) <= (status >= 200 && status <= 299));
    buf_init(&line, body.n * 6 + custom_id.n + 1024);
    if (whole)
        CHECK(outcome_line(&line, hex, custom_id, status, a->id[0] ? a->id : hex, body) ==
              RC_OK);
    else
        CHECK(outcome_error_line(&line, hex, custom_id, "upstream_error",
                                 "no usable answer") == RC_OK);
    CHECK(ref_parse((struct str){line.p, line.n - 1}, LIMIT_JSON_DEPTH + 2, false, &top,
                    &wrong));
    check_line(buf_peek(&line), custom_id, &top);
    if (whole)
        check_body(buf_peek(&line), &top, body);
    if (o.cls == OUTCOME_DONE && json_str_len(custom_id) - 1 < LIMIT_CUSTOM_ID)
        check_reuse(buf_peek(&line), custom_id);
    ref_free(&top);
    buf_done(&line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const long statuses[] = {200, 400, 404, 429, 500, 503, 204, 302};
    struct str rest = {(const char *)data + 1, n - 1}, id, heads;
    struct json_val v;
    struct answer a;
    const char *end;
    long status;

    if (n < 1)
        return 0;
    id = str_cut(&rest, '\n');
    if (json_read(id, NULL, NULL, 0, NULL, &v, NULL) != RC_OK || v.type != JSON_STRING)
        v.raw = STR("\"a\"");
    heads = rest;
    end = rest.n ? memmem(rest.p, rest.n, "\n\n", 2) : NULL;
    if (end) {
        heads.n = (size_t)(end + 1 - rest.p);
        rest.n -= heads.n + 1;
        rest.p = end + 2;
    } else {
        heads.n = 0;
    }
    read_heads(heads, &a);
    status = a.complete || a.status >= 200 ? a.status : statuses[data[0] % 8];
    check_answer(status, v.raw, rest, &a);
    return 0;
}
