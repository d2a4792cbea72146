/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_intake: how fast an input file is validated, on one core.
 *
 *     bench_intake [MB] [name]      256 MB of each kind by default
 *
 * Each kind of file is made in memory and read through the same callback as a real one
 * (a copy a window, as pread from the page cache is).  Columns: the walk over lines
 * alone, line_read (JSON, UTF-8, all rules of one line), line_reread (what dispatch
 * pays), the whole scan with duplicates, models and index entries, and the same with what
 * the server notes of each line, its order and equal ones sorted out.  Best of five
 * rounds, in processor time.
 */
#include "engine/intake.h"
#include "engine/plan.h"
#include "json/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Takes the place of the store's index: the entries are counted. */
struct index_writer {
    uint64_t n, sum;
};

enum rc index_add(struct index_writer *w, const struct index_entry *entry, struct err *e)
{
    (void)e;
    w->n++;
    w->sum += entry->offset ^ entry->body_len;
    return RC_OK;
}

enum rc index_order(struct index_writer *w, const struct index_place *place,
                    struct err *e)
{
    (void)e;
    w->sum += place->key ^ place->shared;
    return RC_OK;
}

enum rc index_follow(struct index_writer *w, const struct index_follower *follower,
                     struct err *e)
{
    (void)e;
    w->sum += follower->item;
    return RC_OK;
}

static uint64_t state = 88172645463325252u;

static uint32_t roll(uint32_t n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % n;
}

/* --- Texts --------------------------------------------------------------------------
 */

static const char *const english[] = {
    "the ",      "quick ",    "answer ", "should ",   "explain ",
    "each ",     "step ",     "of ",     "this ",     "function ",
    "and ",      "return ",   "a ",      "summary ",  "document ",
    "contains ", "customer ", "please ", "classify ", "sentiment ",
};
static const char *const german[] = {
    "über ",      "die ",   "Größe ",   "für ",       "können ",  "Straße ",
    "Antwort ",   "schön ", "und ",     "natürlich ", "Prüfung ", "ein ",
    "Übersicht ", "der ",   "möglich ", "wird ",
};
static const char *const russian[] = {
    "быстрая ", "лиса ",   "прыгает ", "через ",   "ленивую ", "собаку ",  "и ",
    "ответ ",   "должен ", "быть ",    "кратким ", "на ",      "русском ", "языке ",
};
static const char *const chinese[] = {
    "请",   "用",   "中文", "回答", "这个", "问题", "，",   "并且",
    "给出", "详细", "的",   "解释", "。",   "模型", "数据", "分析",
};
static const char *const emoji[] = {
    "great 🎉 ",  "thanks 🙏 ", "naïve ", "“quoted” ", "text ", "with ",
    "dashes – ", "and ",      "so ",    "on… ",      "ok 👍 ",
};

struct words {
    const char *const *list;
    uint32_t n;
};
#define WORDS(a)                                                                         \
    (struct words)                                                                       \
    {                                                                                    \
        a, COUNTOF(a)                                                                    \
    }

/* escape_every: a \n or \" about every so many words; 0: none. */
static void put_text(struct buf *b, struct words w, size_t bytes, uint32_t escape_every)
{
    size_t stop = b->n + bytes;

    while (b->n < stop) {
        buf_z(b, w.list[roll(w.n)]);
        if (escape_every && roll(escape_every) == 0)
            buf_z(b, roll(2) ? "\\n" : "\\\"");
    }
}

static void put_hex(struct buf *b, size_t bytes) /* Python's json.dumps of Chinese */
{
    for (size_t stop = b->n + bytes; b->n < stop;)
        buf_fmt(b, "\\u%04x", 0x4e00 + roll(0x5000));
}

typedef void body_fn(struct buf *b);

static void chat(struct buf *b, struct words w, uint32_t escape_every)
{
    buf_z(b, "{\"model\":\"meta-llama/Llama-3.1-8B-Instruct\",\"messages\":[{\"role\":"
             "\"system\",\"content\":\"");
    put_text(b, w, 300 + roll(300), escape_every);
    buf_z(b, "\"},{\"role\":\"user\",\"content\":\"");
    put_text(b, w, 900 + roll(2400), escape_every);
    buf_z(b, "\"}],\"temperature\":0.7,\"max_tokens\":512,\"top_p\":0.95,\"seed\":");
    buf_u64(b, roll(1u << 30));
    buf_z(b, "}");
}

static void body_ascii(struct buf *b)
{
    chat(b, WORDS(english), 0);
}

static void body_escapes(struct buf *b)
{
    chat(b, WORDS(english), 12);
}

static void body_dense_escapes(struct buf *b) /* source code: an escape every 15 bytes */
{
    chat(b, WORDS(english), 3);
}

static void body_german(struct buf *b)
{
    chat(b, WORDS(german), 12);
}

static void body_russian(struct buf *b)
{
    chat(b, WORDS(russian), 12);
}

static void body_chinese(struct buf *b)
{
    chat(b, WORDS(chinese), 24);
}

static void body_emoji(struct buf *b)
{
    chat(b, WORDS(emoji), 12);
}

static void body_hex(struct buf *b)
{
    buf_z(b, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"");
    put_hex(b, 1500 + roll(2500));
    buf_z(b, "\"}]}");
}

static void body_mixed(struct buf *b)
{
    static body_fn *const kinds[] = {body_ascii,  body_escapes, body_escapes,
                                     body_german, body_emoji,   body_chinese};

    kinds[roll(COUNTOF(kinds))](b);
}

static void body_turns(struct buf *b) /* a conversation of 20 short turns */
{
    buf_z(b, "{\"model\":\"m\",\"messages\":[");
    for (int i = 0; i < 20; i++) {
        buf_z(b, i ? ",{\"role\":\"" : "{\"role\":\"");
        buf_z(b, i % 2 ? "assistant\",\"content\":\"" : "user\",\"content\":\"");
        put_text(b, WORDS(english), 60 + roll(120), 12);
        buf_z(b, "\"}");
    }
    buf_z(b, "],\"temperature\":0.2}");
}

static void body_tokens(struct buf *b) /* an embedding of token numbers */
{
    buf_z(b, "{\"model\":\"m\",\"input\":[");
    for (int i = 0; i < 500; i++)
        buf_fmt(b, i ? ",%u" : "%u", roll(128000));
    buf_z(b, "]}");
}

static void body_structure(struct buf *b) /* nothing but structure */
{
    buf_z(b, "{\"model\":\"m\",\"x\":[");
    for (int i = 0; i < 150; i++)
        buf_z(b, i ? ",{\"a\":1,\"b\":[],\"c\":{}}" : "{\"a\":1,\"b\":[],\"c\":{}}");
    buf_z(b, "]}");
}

static void body_keys(struct buf *b) /* one object with 100,000 keys */
{
    buf_z(b, "{\"model\":\"m\",\"x\":{");
    for (int i = 0; i < 100000; i++)
        buf_fmt(b, i ? ",\"key%d\":%d" : "\"key%d\":%d", i, i);
    buf_z(b, "}}");
}

/* --- Rounds -------------------------------------------------------------------------
 */

static enum rc read_buf(void *ctx, char *dst, size_t cap, uint64_t off, size_t *ret_n)
{
    const struct buf *b = ctx;
    size_t n = off < b->n ? (size_t)u64_min(cap, b->n - off) : 0;

    memcpy(dst, b->p + off, n);
    *ret_n = n;
    return RC_OK;
}

enum what { WALK, READ, REREAD, SCAN, PLAN };

static void die(const char *what)
{
    fprintf(stderr, "bench_intake: %s failed\n", what);
    exit(1);
}

static uint64_t walk(struct buf *file, enum endpoint ep, enum what what)
{
    struct jsonl *j = jsonl_new(read_buf, file, LIMIT_LINE_BYTES);
    struct jsonl_line at;
    struct line line = {0};
    struct line_error e;
    uint64_t sum = 0;

    while (jsonl_next(j, &at) == RC_OK) {
        if (what == READ && line_read(at.text, ep, &line, &e) != RC_OK)
            die(e.message);
        if (what == REREAD)
            line_reread(at.text, &line);
        sum += at.text.n + line.body.n;
    }
    jsonl_free(j);
    return sum;
}

static void told(void *ctx, const struct intake_fault *f)
{
    (void)ctx;
    die(f->message);
}

static void scan(struct buf *file, enum endpoint ep, bool planned)
{
    struct plan *plan = planned ? plan_new(DEDUP_DETERMINISTIC, 100000000) : NULL;
    struct intake_rules rules = {.endpoint = ep,
                                 .max_lines = 100000000,
                                 .max_inputs = 100000000,
                                 .max_bytes = UINT64_MAX,
                                 .each = planned ? plan_add : NULL,
                                 .each_ctx = plan};
    struct index_writer idx = {0};
    struct intake_result r;
    struct err e;

    if (intake_scan(read_buf, file, file->n, &rules, &idx, told, NULL, NULL, &r, &e) !=
        RC_OK)
        die(e.text);
    if (idx.n != r.requests)
        die("the count of entries");
    if (planned && plan_write(plan, &idx, &e) != RC_OK)
        die(e.text);
    plan_free(plan);
}

/* Processor time: other work on the machine counts less. */
static double seconds(void)
{
    struct timespec t;

    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) < 0)
        die("clock_gettime");
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double best_seconds(struct buf *file, enum endpoint ep, enum what what)
{
    double best = 1e9;

    for (int round = 0; round < 5; round++) {
        double start = seconds(), took;

        if (what >= SCAN)
            scan(file, ep, what == PLAN);
        else if (walk(file, ep, what) == 0)
            die("the walk");
        took = seconds() - start;
        best = took < best ? took : best;
    }
    return best;
}

static void bench(const char *name, body_fn *body, enum endpoint ep, size_t bytes)
{
    struct buf file;
    uint64_t lines = 0;
    double mb;

    buf_init(&file, bytes + (8u << 20));
    while (file.n < bytes) {
        buf_fmt(
            &file,
            "{\"custom_id\":\"request-%llu\",\"method\":\"POST\",\"url\":\"%s\",\"body\":",
            (unsigned long long)lines++, endpoint_path(ep));
        body(&file);
        buf_z(&file, "}\n");
    }
    if (buf_failed(&file))
        die("making the file");
    mb = (double)file.n / 1e6;
    printf("%-14s %7.0f B/line", name, (double)file.n / (double)lines);
    for (enum what what = WALK; what <= PLAN; what++) {
        double took = best_seconds(&file, ep, what);

        printf("  %6.0f MB/s %7.0f ns", mb / took, took * 1e9 / (double)lines);
    }
    printf("\n");
    fflush(stdout);
    buf_done(&file);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        body_fn *body;
        enum endpoint ep;
    } kinds[] = {
        {"mixed", body_mixed, ENDPOINT_CHAT},
        {"ascii", body_ascii, ENDPOINT_CHAT},
        {"escapes", body_escapes, ENDPOINT_CHAT},
        {"dense-escapes", body_dense_escapes, ENDPOINT_CHAT},
        {"german", body_german, ENDPOINT_CHAT},
        {"russian", body_russian, ENDPOINT_CHAT},
        {"chinese", body_chinese, ENDPOINT_CHAT},
        {"emoji", body_emoji, ENDPOINT_CHAT},
        {"hex-escapes", body_hex, ENDPOINT_CHAT},
        {"turns", body_turns, ENDPOINT_CHAT},
        {"tokens", body_tokens, ENDPOINT_EMBEDDINGS},
        {"structure", body_structure, ENDPOINT_CHAT},
        {"100k-keys", body_keys, ENDPOINT_CHAT},
    };
    size_t bytes = (argc > 1 ? strtoul(argv[1], NULL, 10) : 256) << 20;

    printf("%-14s %14s  %22s  %22s  %22s  %22s  %22s\n", "kind", "", "lines alone",
           "line_read", "line_reread", "intake_scan", "with its plan");
    for (size_t i = 0; i < COUNTOF(kinds); i++)
        if (argc < 3 || strcmp(argv[2], kinds[i].name) == 0)
            bench(kinds[i].name, kinds[i].body, kinds[i].ep, bytes);
    return 0;
}
