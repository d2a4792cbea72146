/* SPDX-License-Identifier: Apache-2.0 */
/* Every fault as a client's socket sees it, and beside it the plain answer. */
#include "sim/wire.h"
#include "base/clock.h"
#include "json/json.h"
#include "tests/lib/sim_proc.h"

#include <zlib.h>

static const struct str question = {
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hello there\"}]}",
    66};

/* What was received lives as long as its test's process, and is no leak. */
static char *kept[64];
static unsigned n_kept;

static char *keep(char *p)
{
    CHECK(n_kept < COUNTOF(kept));
    return kept[n_kept++] = p;
}

struct seen {
    char *text;
    size_t n;
    enum sp_end end;
    struct str head, body; /* head with its empty line; "" when there is none */
    usec_t took;
};

static struct seen look(const char *fault, const char *more)
{
    char flag[64];
    struct seen v = {.n = 0};
    struct sp s;
    struct pollfd pf = {.events = POLLIN};
    usec_t start = clock_mono();
    const char *end;
    int fd;

    EQ_RC(str_fmt(flag, sizeof flag, "--fault=%s=1", fault), RC_OK);
    s = SP_UP("--created=1", flag, more);
    OK(s.port);
    fd = sp_connect(&s);
    sp_post(fd, "/v1/chat/completions", question, "X-Request-Id: r-1\r\n");
    pf.fd = fd; /* the first byte may take its time on a busy machine */
    IGNORE(poll(&pf, 1, strcmp(fault, "stall") == 0 ? 300 : 8000) < 0);
    v.text = keep(sp_read_all(fd, strcmp(fault, "slow") == 0 ? 1000 : 120, &v.n, &v.end));
    v.took = clock_mono() - start;
    close(fd);
    sp_down(&s);
    end = memmem(v.text, v.n, "\r\n\r\n", 4);
    if (end) {
        v.head = (struct str){v.text, (size_t)(end - v.text) + 4};
        v.body = (struct str){end + 4, v.n - v.head.n};
    }
    return v;
}

/* The body of the answer without any fault. */
static struct str plain(void)
{
    struct sp s = SP_UP("--created=1");
    int fd = sp_connect(&s);
    struct sp_answer a;

    sp_post(fd, "/v1/chat/completions", question, "");
    a = sp_answer(fd);
    EQ_INT(a.status, 200);
    close(fd);
    sp_down(&s);
    IGNORE(!keep(a.text));
    return a.body;
}

static bool has(struct str s, const char *text)
{
    return memmem(s.p, s.n, text, strlen(text)) != NULL;
}

static uint64_t length_of(const struct seen *v)
{
    struct sp_answer a = {.text = v->text, .head = v->head.n};
    uint64_t n = 0;

    EQ_RC(str_u64(sp_field(&a, "content-length"), &n), RC_OK);
    return n;
}

static enum rc json_rc(struct str text)
{
    struct json_limits limits = {.unique_keys = true};
    struct json_err e;

    return json_read(text, &limits, NULL, 0, NULL, NULL, &e);
}

TEST(a_status_comes_with_an_error_object_and_retry_after)
{
    static const char *const statuses[] = {"429", "500", "502", "503", "504",
                                           "529", "400", "401", "404", "408",
                                           "413", "418", "302"};

    for (size_t i = 0; i < COUNTOF(statuses); i++) {
        struct seen v = look(statuses[i], "--retry-after=1500ms");
        char line[32];
        bool later = !strcmp(statuses[i], "429") || !strcmp(statuses[i], "503") ||
                     !strcmp(statuses[i], "529");

        t_row(statuses[i]);
        EQ_RC(str_fmt(line, sizeof line, "HTTP/1.1 %s ", statuses[i]), RC_OK);
        OK(str_starts(v.head, str_of(line)));
        EQ_INT(has(v.head, "\r\nretry-after: 2\r\nretry-after-ms: 1500\r\n"), later);
        EQ_INT(has(v.head, "\r\nlocation: "), statuses[i][0] == '3');
        OK(has(v.head, "\r\nx-request-id: r-1\r\n"));
        EQ_INT(length_of(&v), v.body.n);
        EQ_RC(json_rc(v.body), RC_OK);
        OK(has(v.body, "{\"error\":{\"message\":"));
        EQ_INT(v.end, SP_SILENCE); /* the connection stays */
    }
}

TEST(statuses_without_body_have_none)
{
    struct seen v = look("204", NULL);

    OK(str_starts(v.head, STR("HTTP/1.1 204 ")));
    OK(!has(v.head, "content-length"));
    EQ_INT(v.body.n, 0);
    EQ_INT(v.end, SP_SILENCE);
}

TEST(refuse_resets_before_anything_is_read)
{
    struct sp s = SP_UP("--fault=refuse=1");
    int fd = sp_connect(&s);
    enum sp_end end;
    size_t n;

    mem_free(sp_read_all(fd, 5000, &n, &end));
    EQ_INT(n, 0);
    EQ_INT(end, SP_RESET);
    close(fd);
    sp_down(&s);
}

TEST(faults_that_answer_nothing)
{
    static const struct {
        const char *fault;
        enum sp_end end;
    } rows[] = {{"reset", SP_RESET}, {"stall", SP_SILENCE}};

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct seen v = look(rows[i].fault, NULL);

        t_row(rows[i].fault);
        EQ_INT(v.n, 0);
        EQ_INT(v.end, rows[i].end);
    }
}

TEST(faults_that_end_in_the_middle)
{
    static const struct {
        const char *fault;
        enum sp_end end;
    } rows[] = {
        {"reset-body", SP_RESET}, {"close-body", SP_EOF}, {"stall-body", SP_SILENCE}};
    struct str want = plain();

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct seen v = look(rows[i].fault, NULL);

        t_row(rows[i].fault);
        OK(str_starts(v.head, STR("HTTP/1.1 200 OK\r\n")));
        EQ_INT(length_of(&v), want.n);
        EQ_STR(v.body, ((struct str){want.p, want.n / 2}));
        EQ_INT(v.end, rows[i].end);
    }
}

TEST(close_head_ends_in_the_head)
{
    struct seen v = look("close-head", NULL);

    EQ_INT(v.end, SP_EOF);
    OK(v.n > 20 && v.head.n == 0);
    OK(str_starts((struct str){v.text, v.n}, STR("HTTP/1.1 200 OK\r\n")));
}

TEST(slow_drips_the_true_answer)
{
    struct seen v = look("slow", "--slow-rate=2000");

    EQ_STR(v.body, plain());
    EQ_INT(length_of(&v), v.body.n);
    OK(v.took > (usec_t)v.n * USEC_PER_SEC / 2000 / 2);
}

TEST(garbage_is_not_http)
{
    struct seen v = look("garbage", NULL);

    EQ_INT(v.end, SP_EOF);
    EQ_INT(v.n, 7 + 256);
    OK(v.text[0] == 0x16 && !has((struct str){v.text, v.n}, "HTTP"));
}

TEST(bodies_that_are_no_answer_are_framed_right)
{
    static const struct {
        const char *fault, *type, *begins;
    } rows[] = {{"html", "text/html", "<!DOCTYPE html>"},
                {"not-json", "application/json", "upstream connect error"},
                {"truncated-json", "application/json", "{\"id\":\"chatcmpl-"},
                {"invalid-utf8", "application/json", "{\"padding\":\"\xff\xc0\xaf"},
                {"nul", "application/json", "{\"padding\":\"a"},
                {"empty", "application/json", ""}};

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct seen v = look(rows[i].fault, NULL);
        char type[64];

        t_row(rows[i].fault);
        EQ_RC(str_fmt(type, sizeof type, "\r\ncontent-type: %s", rows[i].type), RC_OK);
        OK(str_starts(v.head, STR("HTTP/1.1 200 OK\r\n")) && has(v.head, type));
        EQ_INT(length_of(&v), v.body.n);
        OK(str_starts(v.body, str_of(rows[i].begins)));
        EQ_RC(json_rc(v.body), RC_INVALID);
        EQ_INT(v.end, SP_SILENCE);
    }
}

TEST(a_body_with_nul_or_bad_bytes_is_the_answer_otherwise)
{
    static const char *const faults[] = {"nul", "invalid-utf8"};
    struct str want = plain();

    for (size_t i = 0; i < COUNTOF(faults); i++) {
        struct seen v = look(faults[i], NULL);

        t_row(faults[i]);
        OK(str_ends(v.body, (struct str){want.p + 1, want.n - 1}));
        EQ_INT(memchr(v.body.p, '\0', v.body.n) != NULL, i == 0);
    }
}

TEST(huge_is_a_valid_answer_of_the_size_asked)
{
    struct seen v = look("huge", "--huge-bytes=3000000");
    struct str want = plain();

    EQ_INT(length_of(&v), 3000000);
    EQ_INT(v.body.n, 3000000);
    EQ_RC(json_rc(v.body), RC_OK);
    OK(str_ends(v.body, (struct str){want.p + 1, want.n - 1}));
    EQ_INT(v.end, SP_SILENCE);
}

TEST(lengths_that_lie)
{
    struct str want = plain();
    struct seen over = look("long-length", NULL), under = look("short-length", NULL);

    EQ_INT(length_of(&over), want.n + 100);
    EQ_STR(over.body, want);
    EQ_INT(over.end, SP_EOF);
    EQ_INT(length_of(&under), want.n / 2);
    EQ_STR(under.body, want);
    EQ_INT(under.end, SP_SILENCE);
}

TEST(bad_chunk_breaks_between_chunks)
{
    struct seen v = look("bad-chunk", NULL);
    struct str want = plain();
    char first[32];

    EQ_RC(str_fmt(first, sizeof first, "%zx\r\n{\"id\":", want.n / 2), RC_OK);
    OK(has(v.head, "\r\ntransfer-encoding: chunked\r\n"));
    OK(!has(v.head, "content-length"));
    OK(str_starts(v.body, str_of(first)) && has(v.body, "\r\nxyzzy\r\n"));
    EQ_INT(v.end, SP_EOF);
}

TEST(old_protocols)
{
    struct str want = plain();
    struct seen nine = look("http09", NULL), ten = look("http10-close", NULL);

    EQ_STR(((struct str){nine.text, nine.n}), want);
    EQ_INT(nine.end, SP_EOF);
    OK(str_starts(ten.head, STR("HTTP/1.0 200 OK\r\n")));
    OK(!has(ten.head, "content-length"));
    EQ_STR(ten.body, want);
    EQ_INT(ten.end, SP_EOF);
}

static uint64_t little(const char *p, unsigned n)
{
    uint64_t v = 0;

    while (n--)
        v = v << 8 | (uint8_t)p[n];
    return v;
}

TEST(gzip_holds_the_answer)
{
    struct str want = plain();
    struct seen v = look("gzip", NULL);

    OK(has(v.head, "\r\ncontent-encoding: gzip\r\n"));
    EQ_INT(length_of(&v), v.body.n);
    EQ_INT(v.body.n, 10 + 5 + want.n + 8);
    EQ_STR(((struct str){v.body.p, 3}), STR("\x1f\x8b\x08"));
    EQ_INT(v.body.p[10], 1); /* one stored block, the last */
    EQ_INT(little(v.body.p + 11, 2), want.n);
    EQ_INT(little(v.body.p + 13, 2), ~want.n & 0xffff);
    EQ_STR(((struct str){v.body.p + 15, want.n}), want);
    EQ_INT(little(v.body.p + 15 + want.n, 4),
           (uint32_t)crc32_z(0, (const Bytef *)want.p, want.n));
    EQ_INT(little(v.body.p + 19 + want.n, 4), want.n);
}

TEST(long_answers_take_several_gzip_blocks)
{
    struct sim_options o = {.slow_rate = 1};
    struct sim_reply r = {.status = 200, .id = "i", .date = "d", .retry_after = -1};
    struct buf out, spare;
    struct sim_wire wire;
    const size_t n = 65535 + 10;
    char *body = mem_alloc(n);
    const char *first;

    memset(body, 'y', n);
    r.body = (struct str){body, n};
    buf_init(&out, 1 << 20);
    buf_init(&spare, 1 << 20);
    sim_wire_fault(&out, &spare, &r, SIM_FAULT_GZIP, 1, &o, &wire);
    EQ_RC(buf_failed(&out), RC_OK);
    first = (const char *)memmem(out.p, out.n, "\r\n\r\n", 4) + 4 + 10;
    EQ_INT(first[0], 0);
    EQ_INT(little(first + 1, 2), 65535);
    EQ_INT(first[5 + 65535], 1);
    EQ_INT(little(first + 5 + 65535 + 1, 2), 10);
    EQ_INT(out.p + out.n - (first + 5 + 65535), 5 + 10 + 8);
    mem_free(body);
    buf_done(&out);
    buf_done(&spare);
}

/* Without the white space between tokens. */
static struct str packed(struct str s)
{
    char *dst = mem_alloc(s.n + 1);
    size_t n = 0;
    bool in_string = false;

    for (size_t i = 0; i < s.n; i++) {
        if (!in_string && strchr(" \r\n", s.p[i]))
            continue;
        dst[n++] = s.p[i];
        if (in_string && s.p[i] == '\\')
            dst[n++] = s.p[++i];
        else if (s.p[i] == '"')
            in_string = !in_string;
    }
    return (struct str){keep(dst), n};
}

TEST(multi_line_is_the_same_json_on_many_lines)
{
    struct seen v = look("multi-line", NULL);
    unsigned lines = 0;

    for (size_t i = 0; i < v.body.n; i++)
        lines += v.body.p[i] == '\n';
    OK(lines > 20);
    EQ_RC(json_rc(v.body), RC_OK);
    EQ_STR(packed(v.body), plain());
    EQ_INT(length_of(&v), v.body.n);
    EQ_INT(v.end, SP_SILENCE);
}

TEST(switch_100_comes_before_the_answer)
{
    struct seen v = look("switch-100", NULL);

    EQ_STR(v.head, STR("HTTP/1.1 100 Continue\r\n\r\n"));
    OK(str_starts(v.body, STR("HTTP/1.1 200 OK\r\n")));
    OK(str_ends(v.body, plain()));
}

static unsigned times(struct str s, const char *text)
{
    unsigned n = 0;
    size_t len = strlen(text);

    for (size_t i = 0; i + len <= s.n; i++)
        n += memcmp(s.p + i, text, len) == 0;
    return n;
}

TEST(dup_header_says_all_twice)
{
    struct seen v = look("dup-header", NULL);

    EQ_INT(times(v.head, "\r\ncontent-length: "), 2);
    EQ_INT(times(v.head, "\r\nx-request-id: r-1\r\n"), 2);
    EQ_STR(v.body, plain());
}

TEST(big_head_is_as_big_as_asked)
{
    struct seen v = look("big-head", "--big-head-bytes=300K");

    OK(v.head.n > 300 << 10 && v.head.n < 310 << 10);
    OK(times(v.head, "\r\nx-padding-") > 250);
    EQ_STR(v.body, plain());
}

TEST(faults_of_the_head_alone)
{
    static const struct {
        const char *fault, *has;
        enum sp_end end;
    } rows[] = {
        {"bad-status", "HTTP/1.1 two hundred OK\r\n", SP_EOF},
        {"no-colon", "\r\nthis line is no header\r\n", SP_SILENCE},
        {"minus-length", "\r\ncontent-length: -1\r\n", SP_EOF},
        {"sse", "\r\ncontent-type: text/event-stream\r\n", SP_SILENCE},
        {"retry-hour", "\r\nretry-after: 3600\r\n", SP_SILENCE},
        {"retry-minus", "\r\nretry-after: -5\r\n", SP_SILENCE},
        {"retry-past", "\r\nretry-after: Wed, 21 Oct 2015 07:28:00 GMT\r\n", SP_SILENCE},
        {"retry-junk", "\r\nretry-after: soon\r\n", SP_SILENCE},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct seen v = look(rows[i].fault, NULL);

        t_row(rows[i].fault);
        OK(has(v.head, rows[i].has));
        OK(!str_starts(str_of(rows[i].fault), STR("retry")) ||
           str_starts(v.head, STR("HTTP/1.1 429 ")));
        EQ_INT(v.end, rows[i].end);
    }
}

TEST(a_nul_in_a_head_and_lines_without_cr)
{
    struct seen nul = look("nul-head", NULL), bare = look("bare-lf", NULL);
    struct str want = plain(), text = {bare.text, bare.n};

    OK(memmem(nul.head.p, nul.head.n, "\r\nx-nothing: a\0b\r\n", 18));
    EQ_STR(nul.body, want);
    OK(str_starts(text, STR("HTTP/1.1 200 OK\ndate: ")));
    OK(memmem(text.p, text.n, "\n\n{\"id\":", 8) && !has(text, "\r"));
    OK(str_ends(text, want));
}

TEST(two_lengths_and_chunks_that_end_early)
{
    struct str want = plain();
    struct seen two = look("two-lengths", NULL), half = look("half-chunk", NULL),
                huge = look("huge-chunk", NULL);
    char second[64], size[32];

    EQ_RC(str_fmt(second, sizeof second, "\r\ncontent-length: %zu\r\n", want.n + 50),
          RC_OK);
    EQ_INT(length_of(&two), want.n);
    OK(has(two.head, second));
    EQ_STR(two.body, want);
    EQ_INT(two.end, SP_EOF);
    EQ_RC(str_fmt(size, sizeof size, "%zx\r\n", want.n), RC_OK);
    OK(str_starts(half.body, str_of(size)));
    EQ_INT(half.body.n, strlen(size) + want.n / 2);
    EQ_INT(half.end, SP_EOF);
    OK(str_starts(huge.body, STR("fffffffffffffffff0\r\n{\"id\"")));
}

TEST(a_flood_of_early_hints_ends_in_the_answer)
{
    struct seen v = look("info-flood", NULL);
    struct str text = {v.text, v.n};

    EQ_INT(times(text, "HTTP/1.1 103 Early Hints\r\n"), 200);
    OK(str_ends(text, plain()));
    EQ_INT(v.end, SP_SILENCE);
}

TEST(a_stray_answer_follows_the_true_one)
{
    struct str want = plain();
    struct seen small = look("two-answers", NULL),
                large = look("two-large-answers", NULL);

    EQ_STR(((struct str){small.body.p, want.n}), want);
    EQ_INT(length_of(&small), want.n);
    OK(str_starts((struct str){small.body.p + want.n, small.body.n - want.n},
                  STR("HTTP/1.1 200 OK\r\n")));
    OK(str_ends(small.body, STR("{\"id\":\"stray\",\"object\":\"stray\"}")));
    OK(length_of(&large) > 100 << 10);
    EQ_RC(json_rc((struct str){large.body.p, length_of(&large)}), RC_OK);
    OK(str_ends(large.body, STR("{\"id\":\"stray\",\"object\":\"stray\"}")));
    EQ_INT(large.end, SP_SILENCE);
}

TEST(deep_json_and_event_streams_are_framed_right)
{
    struct seen deep = look("deep-json", NULL), sse = look("sse", NULL);

    EQ_INT(length_of(&deep), deep.body.n);
    EQ_INT(times(deep.body, "["), 100000 + times(plain(), "["));
    EQ_INT(length_of(&sse), sse.body.n);
    OK(str_starts(sse.body, STR("data: {\"id\"")));
    OK(str_ends(sse.body, STR("}\n\ndata: [DONE]\n\n")));
}

TEST(a_tls_port_and_a_server_that_hangs_up)
{
    struct seen tls = look("tls-alert", NULL), gone = look("close", NULL);

    EQ_STR(((struct str){tls.text, tls.n}), STR("\x15\x03\x03\0\x02\x02\x46"));
    EQ_INT(tls.end, SP_EOF);
    EQ_INT(gone.n, 0);
    EQ_INT(gone.end, SP_EOF);
}
