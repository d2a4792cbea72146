/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_intake: a whole input file, checked and estimated as it is when a batch is made of
 * it.  The first byte is the endpoint (the number behind the last: the first line's) and
 * bit 7 allows several models; the second is the size of reads.
 *
 * The file is good exactly when a slow walk finds every line good, no custom_id twice and
 * a line at all; then every request has its entry in the index, whose body is the line's;
 * the faults' list is JSON with one entry a fault, in the order of the lines.
 */
/* reaches: src/engine/intake.c 22 */
/* reaches: src/core/line.c 44 */
/* reaches: src/engine/estimate.c 20 */
#include "fuzz/lib/quiet.h"

#include "engine/estimate.h"
#include "engine/intake.h"
#include "json/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { LINES_MAX = 512 };

/* In the place of the store's index. */
struct index_writer {
    uint32_t n;
    struct index_entry entries[LINES_MAX];
};

enum rc index_add(struct index_writer *w, const struct index_entry *entry, struct err *e)
{
    (void)e;
    CHECK(w->n < LINES_MAX);
    w->entries[w->n++] = *entry;
    return RC_OK;
}

struct source {
    struct str text;
    size_t step;
};

static enum rc read_source(void *ctx, char *dst, size_t cap, uint64_t off, size_t *ret_n)
{
    const struct source *s = ctx;
    size_t n = off < s->text.n ? s->text.n - (size_t)off : 0;

    n = n < cap ? n : cap;
    n = n < s->step ? n : s->step;
    if (n)
        memcpy(dst, s->text.p + off, n);
    *ret_n = n;
    return RC_OK;
}

/* --- The slow walk ------------------------------------------------------------------- */

struct walk {
    struct str ids[LINES_MAX], models[LINES_MAX];
    uint32_t good; /* requests */
    bool clean;    /* all of them, and no custom_id twice */
    enum endpoint endpoint;
};

static void take(struct walk *w, struct str text)
{
    struct line line;
    struct line_error e;

    if (str_trim(text).n == 0)
        return;
    if (line_read(text, w->endpoint, &line, &e) != RC_OK) {
        w->clean = false;
        return;
    }
    w->endpoint = line.endpoint;
    for (uint32_t i = 0; i < w->good; i++)
        if (json_str_eq(w->ids[i], line.custom_id))
            w->clean = false;
    w->models[w->good] = line.model;
    w->ids[w->good++] = line.custom_id;
}

/* One model, or several where that is allowed: judged by their raw text, so only when it
 * has no escapes. */
static bool one_model(const struct walk *w, bool *ret_sure)
{
    *ret_sure = true;
    for (uint32_t i = 0; i < w->good; i++)
        if (!w->models[i].p || memchr(w->models[i].p, '\\', w->models[i].n) ||
            w->models[i].n < 3 || w->models[i].n > LIMIT_MODEL)
            *ret_sure = false;
    for (uint32_t i = 1; i < w->good; i++)
        if (!str_eq(w->models[i], w->models[0]))
            return false;
    return true;
}

static void walk_text(struct walk *w, struct str text, enum endpoint ep)
{
    *w = (struct walk){.clean = true, .endpoint = ep};
    if (str_starts(text, STR("\xef\xbb\xbf")))
        text = (struct str){text.p + 3, text.n - 3};
    while (text.n) {
        struct str line = str_cut(&text, '\n');

        if (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        take(w, line);
    }
}

/* --- What comes of it ---------------------------------------------------------------- */

struct told {
    struct intake_errors *list;
    uint32_t n, last;
};

static void tell(void *ctx, const struct intake_fault *f)
{
    struct told *t = ctx;

    CHECK(f->code && *f->code && f->message && *f->message);
    CHECK(f->line == 0 || f->line >= t->last);
    t->last = f->line;
    t->n++;
    intake_errors_add(t->list, f);
}

static void check_errors(struct told *t)
{
    static const struct json_want wants[] = {{"object", -1}, {"data", -1}};
    struct json_val v[COUNTOF(wants)];
    char *text = intake_errors_json(t->list);

    CHECK(text);
    CHECK(json_read(str_of(text), NULL, wants, COUNTOF(wants), v, NULL, NULL) == RC_OK);
    CHECK(v[1].type == JSON_ARRAY && v[1].count == t->n);
    mem_free(text);
}

static void check_index(struct str text, const struct index_writer *x,
                        const struct walk *w)
{
    CHECK(x->n == w->good);
    for (uint32_t i = 0; i < x->n; i++) {
        const struct index_entry *en = &x->entries[i];
        struct str line = {text.p + en->offset, en->length};
        struct line again;

        CHECK(en->offset + en->length <= text.n);
        line_reread(line, &again);
        CHECK(str_eq(again.custom_id, w->ids[i]));
        CHECK(again.body.p == line.p + en->body_off && again.body.n == en->body_len);
    }
}

static void check_estimate(const struct estimate *x, const struct walk *w)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < x->n_models; i++)
        sum += x->models[i].requests;
    /* Those whose model is no name (half of a surrogate pair) are refused for it later. */
    CHECK(sum <= w->good && x->unlimited <= w->good);
}

static void check_text(struct str text, const struct intake_rules *rules, size_t step)
{
    static struct index_writer idx;
    static struct walk w;
    struct source s = {text, step};
    struct told told = {.list = intake_errors_new()};
    struct intake_result out;
    struct intake_rules r = *rules;
    struct estimate x;
    struct err e;
    bool sure, good, one;

    estimate_init(&x);
    r.each = estimate_add;
    r.each_ctx = &x;
    idx.n = 0;
    CHECK(intake_scan(read_source, &s, text.n, &r, &idx, tell, &told, NULL, &out, &e) ==
          RC_OK);
    walk_text(&w, text, r.any_endpoint ? ENDPOINT_COUNT : r.endpoint);
    one = one_model(&w, &sure);
    good = w.clean && w.good > 0;
    CHECK(out.faults == told.n && out.requests == w.good);
    CHECK(out.faults > 0 || good); /* what is bad is told */
    if (good && sure && (one || r.many_models))
        CHECK(out.faults == 0);
    if (good && sure && !one && !r.many_models)
        CHECK(out.faults > 0);
    if (out.faults == 0)
        check_index(text, &idx, &w);
    else
        check_errors(&told);
    check_estimate(&x, &w);
    estimate_done(&x);
    IGNORE(intake_errors_free(told.list)); /* always NULL */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str text = {(const char *)data + 2, n - 2};
    struct intake_rules rules = {0};
    unsigned ep;

    /* Below it no limit of inputs or models is met: a line takes more than 64 bytes. */
    if (n < 2 || n > 4096)
        return 0;
    ep = (data[0] & 0x7f) % (ENDPOINT_COUNT + 1);
    rules.any_endpoint = ep == ENDPOINT_COUNT;
    rules.endpoint = rules.any_endpoint ? ENDPOINT_CHAT : (enum endpoint)ep;
    rules.many_models = data[0] & 0x80;
    check_text(text, &rules, data[1] ? data[1] : 65536);
    return 0;
}
