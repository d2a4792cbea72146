/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/t.h"
#include "engine/intake.h"
#include "json/json.h"
#include "base/mem.h"

#include <stdio.h>
#include <sys/resource.h>

/* --- Doubles ------------------------------------------------------------------------
 */

/* Takes the place of the store's index: keeps what it is given. */
struct index_writer {
    struct buf entries;
    uint32_t n, fail_at; /* the call that fails, from 1; 0: none */
};

enum rc index_add(struct index_writer *w, const struct index_entry *entry, struct err *e)
{
    if (++w->n == w->fail_at)
        return err_set(e, RC_NOSPACE, "the disk is full");
    return buf_add(&w->entries, entry, sizeof *entry);
}

static struct index_entry entry_at(const struct index_writer *w, uint32_t i)
{
    struct index_entry entry;

    OK(i < w->n);
    memcpy(&entry, w->entries.p + i * sizeof entry, sizeof entry);
    return entry;
}

struct source {
    struct str text;
    uint32_t reads, fail_at; /* the read that fails, from 1; 0: none */
    atomic_bool *stop;       /* becomes true with the second read */
    uint32_t change_at;      /* from this read on, all is 'x'; 0: never */
};

static enum rc read_source(void *ctx, char *dst, size_t cap, uint64_t off, size_t *ret_n)
{
    struct source *s = ctx;
    size_t n = off < s->text.n ? s->text.n - (size_t)off : 0;

    if (++s->reads == s->fail_at)
        return RC_IO;
    if (s->stop && s->reads == 2)
        atomic_store(s->stop, true);
    n = n < cap ? n : cap;
    if (n && s->change_at && s->reads >= s->change_at)
        memset(dst, 'x', n);
    else if (n)
        memcpy(dst, s->text.p + off, n);
    *ret_n = n;
    return RC_OK;
}

/* Writes the faults down: line:code:param, */
static void note(void *ctx, const struct intake_fault *f)
{
    (void)buf_fmt(ctx, "%u:%s:%s,", f->line, f->code, f->param ? f->param : "-");
}

static void note_messages(void *ctx, const struct intake_fault *f)
{
    (void)buf_fmt(ctx, "%u:%s\n", f->line, f->message);
}

struct run {
    struct intake_rules rules;
    intake_fault_fn *fault;
    struct source source;
    struct index_writer idx;
    struct buf faults;
    struct intake_result out;
    struct err e;
    enum rc rc;
};

static void run_init(struct run *r)
{
    *r = (struct run){.rules = {.endpoint = ENDPOINT_CHAT}, .fault = note};
    buf_init(&r->idx.entries, (size_t)64 << 20);
    buf_init(&r->faults, (size_t)64 << 20);
}

static void run_done(struct run *r)
{
    buf_done(&r->idx.entries);
    buf_done(&r->faults);
}

static void run(struct run *r, struct str text)
{
    buf_reset(&r->faults);
    buf_reset(&r->idx.entries);
    r->idx.n = 0;
    r->source.text = text;
    r->source.reads = 0;
    r->rc = intake_scan(read_source, &r->source, text.n, &r->rules, &r->idx, r->fault,
                        &r->faults, NULL, &r->out, &r->e);
}

/* Scans the text and compares the faults (all of them) with "line:code:param,...". */
static void expect(struct run *r, const char *text, const char *faults)
{
    run(r, str_of(text));
    EQ_RC(r->rc, RC_OK);
    EQ_STR(buf_peek(&r->faults), str_of(faults));
}

#define HEAD     "\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":"
#define L(id, m) "{\"custom_id\":\"" id "\"," HEAD "{\"model\":\"" m "\"}}\n"
#define LN(id)   "{\"custom_id\":\"" id "\"," HEAD "{}}\n"
#define EMB(id, in)                                                                      \
    "{\"custom_id\":\"" id                                                               \
    "\",\"method\":\"POST\",\"url\":\"/v1/embeddings\",\"body\":{"                       \
    "\"input\":" in "}}\n"

/* --- Good files --------------------------------------------------------------------- */

TEST(a_good_file_makes_an_index_of_all_its_requests)
{
    static const char text[] = "\xef\xbb\xbf" L("a", "m") "\n  \r\n" L(
        "b", "m") "\r\n"
                  " {\"body\" : { \"model\":\"\\u006d\" } , \"custom_id\":\"c\","
                  "\"url\":\"/v1/chat/completions\",\"method\":\"POST\"} ";
    static const uint32_t numbers[] = {1, 4, 6};
    struct run r;

    run_init(&r);
    expect(&r, text, "");
    EQ_INT(r.out.requests, 3);
    EQ_INT(r.out.faults, 0);
    EQ_Z(r.out.model, "m");
    EQ_INT(r.out.endpoint, ENDPOINT_CHAT);
    EQ_INT(r.idx.n, 3);
    for (uint32_t i = 0; i < 3; i++) {
        struct index_entry entry = entry_at(&r.idx, i);
        const char *line = text + entry.offset, *body = line + entry.body_off;

        EQ_INT(entry.number, numbers[i]);
        OK(i == 2 || line[entry.length] == '\n');
        EQ_STR(((struct str){body, entry.body_len}),
               i < 2 ? STR("{\"model\":\"m\"}") : STR("{ \"model\":\"\\u006d\" }"));
    }
    EQ_INT(entry_at(&r.idx, 0).offset, 3);
    EQ_INT(entry_at(&r.idx, 2).offset + entry_at(&r.idx, 2).length, sizeof text - 1);
    run_done(&r);
}

TEST(everything_optional_may_be_missing)
{
    struct source s = {.text = str_of(L("a", "m") L("b", "n") LN("a"))};
    struct intake_rules rules = {.endpoint = ENDPOINT_CHAT};
    struct intake_result out;

    EQ_RC(intake_scan(read_source, &s, s.text.n, &rules, NULL, NULL, NULL, NULL, &out,
                      NULL),
          RC_OK);
    EQ_INT(out.requests, 3);
    EQ_INT(out.faults, 2);
}

/* --- Faults ------------------------------------------------------------------------- */

TEST(every_bad_line_is_told_with_its_number)
{
    struct run r;

    run_init(&r);
    expect(
        &r,
        L("a", "m") "{oops\n\n" L("a", "m") "[]\n" L(
            "b", "other") "{\"custom_id\":1}\n"
                          "{\"custom_id\":\"x\",\"method\":\"GET\"}\n" LN("c"),
        "2:invalid_json_line:-,4:duplicate_custom_id:custom_id,5:invalid_json_line:-,"
        "6:mismatched_model:body.model,7:invalid_type:custom_id,8:invalid_method:method,");
    EQ_INT(r.out.requests, 4);
    EQ_INT(r.out.faults, 6);
    EQ_INT(r.idx.n, 1); /* nothing is added behind the first fault */
    run_done(&r);
}

TEST(an_empty_file_has_no_request)
{
    static const char *const texts[] = {"", "\n", "\n\n \t\r\n", "\xef\xbb\xbf", "   "};
    struct run r;

    run_init(&r);
    for (size_t i = 0; i < COUNTOF(texts); i++) {
        expect(&r, texts[i], "0:empty_file:-,");
        EQ_INT(r.out.requests, 0);
    }
    expect(&r, "{", "1:invalid_json_line:-,"); /* bad is not empty */
    run_done(&r);
}

TEST(the_limits_of_a_whole_file)
{
    struct run r;

    run_init(&r);
    r.rules.max_lines = 2;
    expect(&r, LN("a") LN("b") "\n\n", "");
    expect(&r, LN("a") LN("b") LN("c"), "0:too_many_tasks:-,");
    EQ_INT(r.out.requests, 3);
    expect(&r, LN("a") "{\n" LN("b") LN("c") "{\n",
           "2:invalid_json_line:-,5:invalid_json_line:-,0:too_many_tasks:-,");

    r.rules.max_lines = 0;
    r.rules.max_bytes = 100;
    expect(&r, LN("a"), "");
    r.rules.max_bytes = sizeof LN("a") - 1;
    expect(&r, LN("a"), "");
    r.rules.max_bytes--;
    expect(&r, LN("a"), "0:file_too_large:-,");
    EQ_INT(r.source.reads, 0); /* not read at all */

    r.rules.max_bytes = 0;
    r.rules.max_line_bytes = sizeof LN("a") - 2;
    expect(&r, LN("a") LN("b") LN("long") LN("c") "{\n",
           "3:line_too_long:-,5:invalid_json_line:-,");
    run_done(&r);
}

TEST(embedding_inputs_are_counted_over_the_file)
{
    struct run r;

    run_init(&r);
    r.rules.endpoint = ENDPOINT_EMBEDDINGS;
    r.rules.max_inputs = 4;
    expect(&r, EMB("a", "[\"x\",\"y\"]") EMB("b", "\"z\"") EMB("c", "[1,2,3,4,5]"), "");
    expect(&r, EMB("a", "[\"x\",\"y\"]") EMB("b", "\"z\"") EMB("c", "[[1],[2]]"),
           "0:too_many_embedding_inputs:-,");
    run_done(&r);
}

TEST(the_default_limits_are_those_of_the_api)
{
    struct buf text;
    struct run r;

    run_init(&r);
    buf_init(&text, (size_t)64 << 20);
    for (unsigned i = 0; i < 50000; i++)
        (void)buf_fmt(&text, LN("%u"), i);
    run(&r, buf_peek(&text));
    EQ_INT(r.out.faults, 0);
    EQ_INT(r.out.requests, 50000);
    (void)buf_z(&text, LN("x"));
    run(&r, buf_peek(&text));
    EQ_STR(buf_peek(&r.faults), STR("0:too_many_tasks:-,"));

    buf_reset(&text);
    (void)buf_z(&text,
                "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/embeddings\","
                "\"body\":{\"input\":[\"\"");
    for (int i = 1; i < 50000; i++)
        (void)buf_z(&text, ",\"\"");
    r.rules.endpoint = ENDPOINT_EMBEDDINGS;
    (void)buf_z(&text, "]}}\n");
    run(&r, buf_peek(&text));
    EQ_INT(r.out.faults, 0);
    (void)buf_z(&text, EMB("b", "\"\""));
    run(&r, buf_peek(&text));
    EQ_STR(buf_peek(&r.faults), STR("0:too_many_embedding_inputs:-,"));

    r.rc = intake_scan(read_source, &r.source, LIMIT_FILE_BYTES + 1ull, &r.rules, NULL,
                       note, &r.faults, NULL, &r.out, &r.e);
    EQ_RC(r.rc, RC_OK);
    EQ_INT(r.out.faults, 1);
    buf_done(&text);
    run_done(&r);
}

/* --- custom_id ---------------------------------------------------------------------- */

TEST(the_same_custom_id_is_found_however_it_is_written)
{
    struct run r;

    run_init(&r);
    expect(&r, LN("a") LN("\\u0061"), "2:duplicate_custom_id:custom_id,");
    expect(&r, LN("\\u0061") LN("\\u0062") LN("a"), "3:duplicate_custom_id:custom_id,");
    expect(&r, LN("x/y") LN("x\\/y") LN("x\\u002fy"),
           "2:duplicate_custom_id:custom_id,3:duplicate_custom_id:custom_id,");
    expect(&r, LN("\xf0\x9f\x98\x80") LN("\\ud83d\\ude00"),
           "2:duplicate_custom_id:custom_id,");
    expect(&r, LN("\\ud800") LN("\\uD800"), "2:duplicate_custom_id:custom_id,");
    expect(&r, LN("\\\"") LN("\\u0022") LN("\\\\\\\""),
           "2:duplicate_custom_id:custom_id,");
    expect(&r,
           LN("a") LN("A") LN("a ") LN(" a") LN("\\ud800") LN("\\udc00") LN("\\u0000"),
           "");
    run_done(&r);
}

TEST(a_duplicate_names_the_first_line_that_has_it)
{
    struct run r;

    run_init(&r);
    r.fault = note_messages;
    expect(
        &r, LN("a") "\r\n" LN("b") "{}\n" LN("\\u0062") LN("b") LN("a"),
        "4:Missing required parameter: 'custom_id'.\n"
        "5:The custom_id '\\u0062' for this request is a duplicate of another request, on "
        "line 3. The custom_id parameter must be unique for each request in a batch.\n"
        "6:The custom_id 'b' for this request is a duplicate of another request, on line 3. "
        "The custom_id parameter must be unique for each request in a batch.\n"
        "7:The custom_id 'a' for this request is a duplicate of another request, on line 1. "
        "The custom_id parameter must be unique for each request in a batch.\n");
    run_done(&r);
}

TEST(a_bad_line_does_not_take_a_custom_id)
{
    struct run r;

    run_init(&r);
    expect(&r, "{\"custom_id\":\"a\"}\n" LN("a"), "1:missing_required_parameter:method,");
    run_done(&r);
}

TEST(the_longest_custom_ids_are_compared_to_their_end)
{
    struct buf text;
    struct run r;

    run_init(&r);
    buf_init(&text, 100000);
    for (int k = 0; k < 3;
         k++) { /* 512 characters of twelve bytes; the second differs last */
        (void)buf_z(&text, "{\"custom_id\":\"");
        for (int i = 0; i < 511; i++)
            (void)buf_z(&text, "\\ud83d\\ude00");
        (void)buf_z(&text, k == 1 ? "\\ud83d\\ude01" : "\\ud83d\\ude00");
        (void)buf_z(&text, "\"," HEAD "{}}\n");
    }
    run(&r, buf_peek(&text));
    EQ_RC(r.rc, RC_OK);
    EQ_STR(buf_peek(&r.faults), STR("3:duplicate_custom_id:custom_id,"));
    buf_done(&text);
    run_done(&r);
}

TEST(every_line_twice)
{
    struct buf text;
    struct run r;

    run_init(&r);
    buf_init(&text, (size_t)64 << 20);
    for (unsigned i = 0; i < 20000; i++)
        (void)buf_fmt(&text, LN("request-%u"), i % 10000);
    run(&r, buf_peek(&text));
    EQ_INT(r.out.faults, 10000);
    EQ_INT(r.out.requests, 20000);
    buf_done(&text);
    run_done(&r);
}

TEST(a_hundred_thousand_lines_and_one_duplicate)
{
    struct buf text;
    struct run r;

    run_init(&r);
    r.rules.max_lines = 200000;
    buf_init(&text, (size_t)64 << 20);
    for (unsigned i = 0; i < 100000; i++)
        (void)buf_fmt(&text, LN("request-%u"), i);
    run(&r, buf_peek(&text));
    EQ_RC(r.rc, RC_OK);
    EQ_INT(r.out.faults, 0);
    EQ_INT(r.idx.n, 100000);
    for (uint32_t i = 0; i < 100000; i += 997) {
        struct index_entry entry = entry_at(&r.idx, i);
        struct line line;

        line_reread((struct str){text.p + entry.offset, entry.length}, &line);
        EQ_INT(line.body.p - (text.p + entry.offset), entry.body_off);
        EQ_INT(line.body.n, entry.body_len);
        EQ_INT(entry.number, i + 1);
    }
    (void)buf_z(&text, LN("request-77777"));
    run(&r, buf_peek(&text));
    EQ_STR(buf_peek(&r.faults), STR("100001:duplicate_custom_id:custom_id,"));
    buf_done(&text);
    run_done(&r);
}

#define WIDTH 128u

/* A file of so many lines of 128 bytes that is nowhere: made as it is read. */
static enum rc read_synthetic(void *ctx, char *dst, size_t cap, uint64_t off,
                              size_t *ret_n)
{
    uint64_t size = *(const uint64_t *)ctx * WIDTH;
    size_t n = off < size ? (size_t)u64_min(cap, size - off) : 0;

    for (size_t done = 0; done < n;) {
        uint64_t line = (off + done) / WIDTH, within = (off + done) % WIDTH;
        size_t piece = (size_t)u64_min(WIDTH - within, n - done);
        char text[WIDTH];

        memset(text, ' ', sizeof text);
        memcpy(text, "{\"custom_id\":\"00000000\"," HEAD "{}}",
               sizeof "{\"custom_id\":\"00000000\"," HEAD "{}}" - 1);
        for (uint64_t v = line, at = 21; v; v /= 10)
            text[at--] = (char)('0' + v % 10);
        text[WIDTH - 1] = '\n';
        memcpy(dst + done, text + within, piece);
        done += piece;
    }
    *ret_n = n;
    return RC_OK;
}

TEST_SLOW(a_million_lines_take_little_memory, 60)
{
    struct intake_rules rules = {
        .endpoint = ENDPOINT_CHAT, .max_lines = 2000000, .max_bytes = 1u << 30};
    uint64_t lines = 1000000;
    struct intake_result out;
    struct rusage before, after;
    struct err e;

    getrusage(RUSAGE_SELF, &before);
    EQ_RC(intake_scan(read_synthetic, &lines, lines * WIDTH, &rules, NULL, NULL, NULL,
                      NULL, &out, &e),
          RC_OK);
    getrusage(RUSAGE_SELF, &after);
    EQ_INT(out.requests, lines);
    EQ_INT(out.faults, 0);
    t_note("%ld kB for a million lines", after.ru_maxrss - before.ru_maxrss);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    OK(after.ru_maxrss - before.ru_maxrss < 32 * 1024);
#endif
}

#define HOLE (5ull << 30)

/* Five gigabytes of one line that is too long, and two good ones behind it. */
static enum rc read_hole(void *ctx, char *dst, size_t cap, uint64_t off, size_t *ret_n)
{
    struct str tail = *(const struct str *)ctx;
    uint64_t size = HOLE + tail.n;
    size_t n = off < size ? (size_t)u64_min(cap, size - off) : 0;

    if (off < HOLE) {
        n = (size_t)u64_min(n, HOLE - off);
        memset(dst, 'x', n);
    } else if (n) {
        memcpy(dst, tail.p + (off - HOLE), n);
    }
    *ret_n = n;
    return RC_OK;
}

TEST_SLOW(duplicates_are_found_behind_four_gigabytes, 60)
{
    struct str tail = STR("\n" LN("a") LN("b") LN("\\u0061"));
    struct run r;

    run_init(&r);
    r.rules.max_bytes = HOLE * 2;
    r.rules.max_line_bytes = 1000;
    EQ_RC(intake_scan(read_hole, &tail, HOLE + tail.n, &r.rules, NULL, note, &r.faults,
                      NULL, &r.out, &r.e),
          RC_OK);
    EQ_STR(buf_peek(&r.faults),
           STR("1:line_too_long:-,4:duplicate_custom_id:custom_id,"));
    run_done(&r);
}

/* --- Models ------------------------------------------------------------------------- */

static bool known(void *ctx, struct str model)
{
    ++*(unsigned *)ctx;
    return model.n > 0 && model.p[0] == 'm';
}

TEST(one_model_a_file)
{
    struct run r;

    run_init(&r);
    expect(&r, L("a", "m") L("b", "m2") L("c", "m") L("d", "\\u006d"),
           "2:mismatched_model:body.model,");
    EQ_Z(r.out.model, "m");
    r.fault = note_messages;
    expect(
        &r, L("a", "m") L("b", "m2"),
        "2:The model 'm2' for this request does not match the rest of the batch. Each batch "
        "must contain requests for a single model.\n");
    r.fault = note;
    r.rules.many_models = true;
    expect(&r, L("a", "m") L("b", "m2") L("c", "m"), "");
    EQ_Z(r.out.model, "m");
    OK(r.out.several);
    expect(&r, L("a", "m") L("b", "\\u006d") LN("c"), "");
    OK(!r.out.several);
    run_done(&r);
}

TEST(models_over_the_most_of_a_file_are_told_once)
{
    struct run r;
    struct buf text;

    run_init(&r);
    r.rules.many_models = true;
    buf_init(&text, 1 << 20);
    for (unsigned i = 0; i < 2 * LIMIT_BATCH_MODELS; i++)
        (void)buf_fmt(&text,
                      "{\"custom_id\":\"%u\",\"method\":\"POST\",\"url\":"
                      "\"/v1/chat/completions\",\"body\":{\"model\":\"m%u\"}}\n",
                      i, i % LIMIT_BATCH_MODELS);
    (void)buf_char(&text, '\0');
    expect(&r, text.p, "");
    text.n--;
    (void)buf_z(&text, L("x", "n1") L("y", "n2"));
    (void)buf_char(&text, '\0');
    expect(&r, text.p, "129:too_many_models:body.model,");
    buf_done(&text);
    run_done(&r);
}

TEST(a_request_without_a_model_goes_with_every_model)
{
    struct run r;

    run_init(&r);
    expect(&r, LN("a") LN("b"), "");
    EQ_Z(r.out.model, "");
    expect(&r, LN("a") L("b", "m") LN("c") L("d", "n"), "4:mismatched_model:body.model,");
    EQ_Z(r.out.model, "m");
    run_done(&r);
}

TEST(unknown_models_are_told_and_do_not_rule)
{
    unsigned asked = 0;
    struct run r;

    run_init(&r);
    r.rules.model_known = known;
    r.rules.model_ctx = &asked;
    expect(&r, L("a", "x") L("b", "m") L("c", "x") L("d", "m") L("e", "m2"),
           "1:model_not_found:body.model,3:model_not_found:body.model,"
           "5:mismatched_model:body.model,");
    EQ_Z(r.out.model, "m");
    r.fault = note_messages;
    expect(&r, L("a", "x"),
           "1:The provided model 'x' is not supported by the Batch API.\n");
    EQ_Z(r.out.model, "");
    asked = 0;
    expect(&r, L("a", "m") L("b", "m") L("c", "\\u006d"), "");
    EQ_INT(asked, 1);
    run_done(&r);
}

TEST(model_names_that_no_server_can_have)
{
    char name[300], text[1024], faults[] = "1:model_not_found:body.model,";
    struct run r;

    run_init(&r);
    expect(&r, L("a", ""), faults);
    expect(&r, L("a", "m\\u0000m"), faults);
    expect(&r, L("a", "m\\ud800"), faults);
    for (size_t n = LIMIT_MODEL - 1; n <= LIMIT_MODEL + 1; n++) {
        memset(name, 'm', n);
        name[n] = '\0';
        EQ_RC(str_fmt(text, sizeof text, L("a", "%s"), name), RC_OK);
        expect(&r, text, n > LIMIT_MODEL ? faults : "");
        EQ_Z(r.out.model, n > LIMIT_MODEL ? "" : name);
    }
    run_done(&r);
}

TEST(any_endpoint_is_that_of_the_first_good_line)
{
    struct run r;

    run_init(&r);
    r.rules.any_endpoint = true;
    expect(&r, EMB("a", "\"x\"") EMB("b", "\"x\""), "");
    EQ_INT(r.out.endpoint, ENDPOINT_EMBEDDINGS);
    expect(&r, EMB("a", "\"x\"") LN("b"), "2:invalid_url:url,");
    expect(&r,
           "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/files\"}\n" LN("b")
               LN("c"),
           "1:invalid_url:url,");
    EQ_INT(r.out.endpoint, ENDPOINT_CHAT);
    expect(&r, "{\n", "1:invalid_json_line:-,");
    EQ_INT(r.out.endpoint, ENDPOINT_COUNT);
    run_done(&r);
}

/* --- What goes wrong ---------------------------------------------------------------- */

static struct str long_text(struct buf *b)
{
    buf_init(b, (size_t)64 << 20);
    for (unsigned i = 0; i < 20000; i++)
        (void)buf_fmt(b, LN("request-%u"), i);
    return buf_peek(b);
}

TEST(a_scan_can_be_stopped)
{
    struct intake_result out = {.requests = 77};
    atomic_bool stop = false;
    struct buf text;
    struct source s = {.text = long_text(&text), .stop = &stop};
    struct intake_rules rules = {.endpoint = ENDPOINT_CHAT};
    struct err e;

    EQ_RC(
        intake_scan(read_source, &s, s.text.n, &rules, NULL, NULL, NULL, &stop, &out, &e),
        RC_CANCELLED);
    EQ_INT(s.reads, 2);
    EQ_INT(out.requests, 77); /* untouched */
    buf_done(&text);
}

TEST(a_source_that_fails_fails_the_scan)
{
    struct buf text;
    struct run r;

    run_init(&r);
    (void)long_text(&text);
    for (uint32_t at = 1; at <= 4; at++) {
        r.source.fail_at = at;
        run(&r, buf_peek(&text));
        EQ_RC(r.rc, RC_IO);
        OK(strstr(r.e.text, "cannot read the input at byte"));
    }
    buf_done(&text);
    run_done(&r);
}

TEST(a_source_of_another_size_is_not_taken_for_the_file)
{
    struct run r;
    struct str text = STR(LN("a") LN("b"));

    run_init(&r);
    r.source.text = text;
    for (int more = -1; more <= 1; more += 2) {
        EQ_RC(intake_scan(read_source, &r.source, text.n + (uint64_t)(int64_t)more,
                          &r.rules, NULL, NULL, NULL, NULL, &r.out, &r.e),
              RC_IO);
        OK(strstr(r.e.text, "bytes instead of"));
    }
    run_done(&r);
}

TEST(a_source_that_changes_is_told)
{
    struct run r;

    run_init(&r);
    r.source.change_at = 2;
    run(&r, STR(LN("a") LN("a")));
    EQ_RC(r.rc, RC_IO);
    OK(strstr(r.e.text, "changed"));
    r.source.change_at = 0;
    r.source.fail_at = 2;
    run(&r, STR(LN("a") LN("a")));
    EQ_RC(r.rc, RC_IO);
    OK(strstr(r.e.text, "again"));
    run_done(&r);
}

TEST(an_index_that_fails_fails_the_scan)
{
    struct run r;

    run_init(&r);
    r.idx.fail_at = 2;
    run(&r, STR(LN("a") LN("b") LN("c")));
    EQ_RC(r.rc, RC_NOSPACE);
    EQ_Z(r.e.text, "the disk is full");
    run_done(&r);
}

/* --- The errors object -------------------------------------------------------------- */

static struct json_val parse(const char *json)
{
    struct json_val top;
    struct json_limits l = {.unique_keys = true};

    EQ_RC(json_read(str_of(json), &l, NULL, 0, NULL, &top, NULL), RC_OK);
    return top;
}

TEST(faults_become_the_errors_object_of_the_api)
{
    struct intake_errors *x = intake_errors_new();
    struct run r;
    char *json;

    json = intake_errors_json(x);
    EQ_Z(json, "{\"object\":\"list\",\"data\":[]}");
    mem_free(json);
    run_init(&r);
    r.source.text = STR("{\n" LN("q\\\"\\u001b") "\n" LN("q\\\"\\u001b"));
    r.rules.max_lines = 1;
    EQ_RC(intake_scan(read_source, &r.source, r.source.text.n, &r.rules, NULL,
                      intake_errors_add, x, NULL, &r.out, &r.e),
          RC_OK);
    json = intake_errors_json(x);
    EQ_Z(
        json,
        "{\"object\":\"list\",\"data\":["
        "{\"code\":\"invalid_json_line\",\"message\":\"This line is not parseable as valid "
        "JSON.\",\"param\":null,\"line\":1},"
        "{\"code\":\"too_many_tasks\",\"message\":\"The input file has 2 requests; the maximum "
        "is 1.\",\"param\":null,\"line\":null}]}");
    mem_free(json);
    r.rules.max_lines = 0;
    EQ_RC(intake_scan(read_source, &r.source, r.source.text.n, &r.rules, NULL,
                      intake_errors_add, x, NULL, &r.out, &r.e),
          RC_OK);
    json = intake_errors_json(x);
    EQ_INT(parse(json).count, 2);
    OK(strstr(json,
              "{\"code\":\"duplicate_custom_id\",\"message\":\"The custom_id "
              "'q\\\\\\\"\\\\u001b' for this request is a duplicate of another request, "
              "on line 2."));
    OK(strstr(json, "\"param\":\"custom_id\",\"line\":4}"));
    mem_free(json);
    intake_errors_free(x);
    intake_errors_free(NULL);
    run_done(&r);
}

TEST(the_first_thousand_errors_are_kept_and_the_total_told)
{
    static const unsigned totals[] = {LIMIT_LINE_ERRORS - 1, LIMIT_LINE_ERRORS,
                                      LIMIT_LINE_ERRORS + 1, 5000};

    for (size_t i = 0; i < COUNTOF(totals); i++) {
        struct intake_errors *x = intake_errors_new();
        char message[1001];
        static const struct json_want want[] = {{"data", -1}};
        struct json_val data;
        char *json;

        memset(message, '\x01', sizeof message - 1); /* six bytes each when escaped */
        message[sizeof message - 1] = '\0';
        for (unsigned k = 0; k < totals[i]; k++)
            intake_errors_add(x, &(struct intake_fault){.line = k + 1,
                                                        .code = "some_code",
                                                        .param = "body.model",
                                                        .message = message});
        json = intake_errors_json(x);
        EQ_RC(json_read(str_of(json), NULL, want, 1, &data, NULL, NULL), RC_OK);
        if (totals[i] <= LIMIT_LINE_ERRORS) {
            EQ_INT(data.count, totals[i]);
        } else {
            char tail[256];

            EQ_INT(data.count, LIMIT_LINE_ERRORS + 1);
            EQ_RC(
                str_fmt(
                    tail, sizeof tail,
                    ",{\"code\":\"too_many_errors\",\"message\":\"The input file has %u "
                    "errors; only the first 1000 are listed.\",\"param\":null,\"line\":"
                    "null}]}",
                    totals[i]),
                RC_OK);
            OK(str_ends(str_of(json), str_of(tail)));
        }
        mem_free(json);
        intake_errors_free(x);
    }
}
