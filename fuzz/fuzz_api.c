/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_api: whole requests through the routes and handlers of the API, over a store in
 * memory and under a server that is no more patient than it has to be (fake_http.h).
 *
 * The input: a byte that says which server it is (bits 0-1), what goes wrong (bits 2-4),
 * whether a running batch ends while its results are followed (bit 5), whether files have
 * descriptors (bit 6) and whether the engine counts (bit 7); all that against '0'.  A byte that seeds the cuts of bodies.
 * Then requests with a line "%%" between them.
 *
 * Whatever is asked: every answer is right for its status, a refused request and one that
 * only reads change nothing, no file is without its bytes, nobody without its key reads
 * what is a project's, and afterwards the server answers as ever.
 */
/* reaches: src/api/api.c 36 */
/* reaches: src/api/files.c 46 */
/* reaches: src/api/uploads.c 30 */
/* reaches: src/api/create.c 28 */
/* reaches: src/api/results.c 30 */
/* reaches: src/api/events.c 16 */
/* reaches: src/http/decode.c 32 */
/* reaches: src/store/reslog_tail.c 28 */
#include "fuzz/lib/quiet.h"

#include "fuzz/lib/fake_http.h"
#include "fuzz/lib/world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { PLAIN, WITH_KEYS, SMALL, REFUSING, SERVERS };
enum {
    ALL_WELL,
    DISK_FULL,
    DISK_DEAD,
    FILE_ROWS,
    BATCH_ROWS,
    UPLOAD_ROWS,
    EDITS,
    RECOVERY
};
enum { REQUESTS_MAX = 16, PULLS_MAX = 4096 };

static struct api *apis[SERVERS];
static char key_text[KEY_TEXT_CAP]; /* of the project "default" */

struct setting_of_run {
    unsigned server, fault;
    bool ends, deletes; /* some file may be gone */
    uint32_t cuts;
};

/* --- The servers --------------------------------------------------------------------- */

static void small_quota(void *ctx, const struct id *project, struct api_quota *ret)
{
    (void)ctx, (void)project;
    *ret = (struct api_quota){.bytes = 4096, .files = 8, .batches = 5, .lines = 20};
}

static struct keyring *make_keys(void)
{
    char other[KEY_TEXT_CAP];
    struct keyring *k = NULL;
    struct key made;
    struct err e;

    CHECK(keyring_add(world_dir, STR("ann"), STR(PROJECT_DEFAULT), QUIET_START, key_text,
                      &made, &e) == RC_OK);
    CHECK(keyring_add(world_dir, STR("bob"), STR("other"), QUIET_START, other, &made,
                      &e) == RC_OK);
    CHECK(keyring_open(world_dir, &k, &e) == RC_OK);
    return k;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct api_opts o = {.max_expansion = 20,
                         .callback_hosts = "hooks.example.com, *.example.org:8443"};

    (void)argc, (void)argv;
    world_init();
    o.store = &world->store;
    o.blobs = &world->blobs_if;
    o.engine = &world_engine;
    apis[PLAIN] = api_new(&o);
    apis[REFUSING] = api_new(&o);
    api_refuse(apis[REFUSING], "it is stopping");
    o.keys = make_keys();
    apis[WITH_KEYS] = api_new(&o);
    o.keys = NULL;
    o.quota = small_quota;
    o.max_file_bytes = 512;
    o.max_upload_bytes = 1024;
    o.max_total_bytes = 8192;
    o.file_expires = 7200;
    o.max_expansion = 0;
    o.callback_hosts = NULL;
    apis[SMALL] = api_new(&o);
    return 0;
}

static void break_something(unsigned fault)
{
    struct mem_store *m = world;

    switch (fault) {
    case DISK_FULL:
        m->fail_commit = m->fail_file_add = RC_NOSPACE;
        m->fail_batch_add = m->fail_part_add = RC_NOSPACE;
        break;
    case DISK_DEAD:
        m->fail_put = m->fail_write = RC_IO;
        break;
    case FILE_ROWS:
        m->fail_file_add = RC_NOSPACE;
        m->fail_file_get = RC_IO;
        break;
    case BATCH_ROWS:
        m->fail_batch_add = RC_NOSPACE;
        break;
    case UPLOAD_ROWS:
        m->fail_upload_add = m->fail_upload_move = m->fail_part_add = RC_NOSPACE;
        break;
    case EDITS:
        m->fail_batch_edit = RC_NOSPACE;
        break;
    case RECOVERY:
        world_engine.recovering = true;
        break;
    default:
        break;
    }
}

static bool has(struct str s, const char *needle)
{
    return s.n && memmem(s.p, s.n, needle, strlen(needle));
}

/* --- Streams ------------------------------------------------------------------------- */

static void check_line(struct str line)
{
    struct json_val top;

    CHECK(json_read(line, NULL, NULL, 0, NULL, &top, NULL) == RC_OK);
    CHECK(top.type == JSON_OBJECT);
}

/* One JSON object a line, and no line of the input twice. */
static void check_result(struct str line, unsigned *seen)
{
    static const char ids[] = "abc";
    static const struct json_want wants[] = {{"custom_id", -1}};
    struct json_val v[1];

    check_line(line);
    CHECK(json_read(line, NULL, wants, 1, v, NULL, NULL) == RC_OK && v[0].raw.n == 3);
    for (unsigned i = 0; i < 3; i++) {
        if (v[0].raw.p[1] != ids[i])
            continue;
        CHECK(!(*seen >> i & 1));
        *seen |= 1u << i;
    }
}

static void check_event(struct str line)
{
    if (str_starts(line, STR("data: ")))
        check_line((struct str){line.p + 6, line.n - 6});
    else
        CHECK(line.n == 0 || line.p[0] == ':' || str_starts(line, STR("id: ")) ||
              str_is(line, "event: batch"));
}

/* whole: it came to its end.  ret_seen: the lines that results told, a bit each. */
static void check_stream(const struct fake_answer *a, bool whole, unsigned *ret_seen)
{
    struct str rest = buf_peek(&a->body);
    bool events = str_is(str_of(a->type), "text/event-stream");

    CHECK(!whole || rest.n == 0 || rest.p[rest.n - 1] == '\n');
    while (rest.n && memchr(rest.p, '\n', rest.n)) { /* the last may be broken off */
        struct str line = str_cut(&rest, '\n');

        if (events)
            check_event(line);
        else
            check_result(line, ret_seen);
    }
}

static void end_live(void)
{
    struct batch *b = mem_batch_find(world, NULL, world_live.z);

    if (!b || batch_terminal(b->status))
        return;
    world_end(b);
    world_engine.log.spool = NULL;
    world_engine.changes++;
}

#define FOLLOW_LIVE "GET /v1/batches/batch_live/results?follow=1 HTTP/1.0\n"
#define GET_DONE    "GET /v1/batches/batch_done/results HTTP/1.0\n"

/* said: how it ended; HTTP_WAIT: it was stopped. */
static void check_end(const struct fake_answer *a, const struct setting_of_run *run,
                      struct str request, enum http_more said)
{
    unsigned seen = 0;

    check_stream(a, said == HTTP_END, &seen);
    if (!str_starts(request, STR(FOLLOW_LIVE)) && !str_starts(request, STR(GET_DONE)))
        return;
    /* Who reads to the end has every line; and it is broken off for a reason only. */
    if (said == HTTP_END)
        CHECK(seen == 7);
    if (said == HTTP_BREAK)
        CHECK(run->fault != ALL_WELL || run->deletes);
}

/* As the server does: what it pulls is sent, and when there is nothing to say it waits.
 * After a while it stops. */
static void pull_all(struct fake_answer *a, const struct setting_of_run *run,
                     struct str request)
{
    unsigned waits = 0, after_stop = 0;
    enum http_more said = HTTP_MORE;

    for (unsigned i = 0; said != HTTP_END && said != HTTP_BREAK; i++) {
        bool stopping = waits > 24;
        usec_t again = 0;
        struct buf out;

        CHECK(i < PULLS_MAX && after_stop < 64);
        buf_init(&out, HTTP_STREAM_BUFFER);
        said = a->pull(a->ctx, &out, stopping, &again);
        CHECK(buf_failed(&out) == RC_OK);
        (void)buf_str(&a->body, buf_peek(&out));
        buf_done(&out);
        after_stop += stopping;
        if (said != HTTP_WAIT)
            continue;
        if (stopping)
            break;                       /* cut off */
        CHECK(again > clock_mono() - 1); /* or it would turn without end */
        quiet_now += again > clock_mono() ? again - clock_mono() : 0;
        world_engine.live.counts.completed++;
        if (++waits == 3 && run->ends)
            end_live();
    }
    check_end(a, run, request, waits > 24 ? HTTP_WAIT : said);
}

/* --- One answer ---------------------------------------------------------------------- */

static void check_refusal(const struct fake_answer *a)
{
    static const struct json_want wants[] = {
        {"error", -1}, {"message", 0}, {"type", 0}, {"param", 0}, {"code", 0}};
    struct json_val v[COUNTOF(wants)], top;
    struct json_limits unique = {.unique_keys = true};

    CHECK(str_is(str_of(a->type), "application/json"));
    CHECK(json_read(buf_peek(&a->body), &unique, wants, COUNTOF(wants), v, &top, NULL) ==
          RC_OK);
    CHECK(top.count == 1 && v[0].type == JSON_OBJECT && v[0].count == 4);
    CHECK(v[1].type == JSON_STRING && v[1].raw.n > 2 && v[2].type == JSON_STRING);
    CHECK(v[3].type == JSON_STRING || v[3].type == JSON_NULL);
    CHECK(v[4].type == JSON_STRING || v[4].type == JSON_NULL);
}

/* What a JSON answer calls by its name is there. */
static void check_object(const struct fake_answer *a)
{
    static const struct json_want wants[] = {{"object", -1}, {"id", -1}, {"deleted", -1}};
    struct json_val v[COUNTOF(wants)];
    struct id id = {""};

    CHECK(json_read(buf_peek(&a->body), NULL, wants, COUNTOF(wants), v, NULL, NULL) ==
          RC_OK);
    if (v[1].type != JSON_STRING || v[2].type == JSON_TRUE ||
        id_from((struct str){v[1].raw.p + 1, v[1].raw.n - 2}, &id) != RC_OK)
        return;
    if (json_str_is(v[0].raw, STR("file")) || json_str_is(v[0].raw, STR("upload.part")))
        CHECK(world_has_row(&id));
    if (json_str_is(v[0].raw, STR("batch")))
        CHECK(mem_batch_find(world, NULL, id.z));
}

static void check_content(const struct fake_answer *a)
{
    struct str range = fake_header(a, "Content-Range");
    unsigned long long from = 0, to = 0, size = 0;

    if (a->status != 206) {
        CHECK(a->status != 416 || range.p);
        return;
    }
    CHECK(range.p && sscanf(range.p, "bytes %llu-%llu/%llu", &from, &to, &size) == 3);
    CHECK(from <= to && to < size && a->body.n == to - from + 1);
}

static void check_answer(const struct setting_of_run *run, const struct fake_answer *a)
{
    if (a->status >= 500) { /* only with a reason */
        CHECK(run->fault != ALL_WELL || (run->server == REFUSING && a->status == 503) ||
              (a->own && a->status == 503));
        CHECK(a->status == 500 || a->status == 503);
    }
    if (a->status == 416)
        check_content(a);
    if (a->status == 503 && str_is(fake_header(a, "Cache-Control"), "no-store"))
        check_line(buf_peek(&a->body)); /* /readyz, for operators' tools */
    else if (a->status >= 400)
        check_refusal(a);
    else if (a->status == 304)
        CHECK(a->body.n == 0);
    else if (a->type && str_is(str_of(a->type), "application/json"))
        check_object(a);
    else
        check_content(a);
}

/* --- One request --------------------------------------------------------------------- */

static bool only_reads(struct str request)
{
    return str_starts(request, STR("GET ")) || str_starts(request, STR("HEAD "));
}

/* false: the connection is over. */
static bool ask(const struct setting_of_run *run, struct str request)
{
    struct http_handler h = api_handler(apis[run->server]);
    uint64_t before = world_sum();
    struct fake_answer a;
    bool open = fake_ask(&h, request, run->cuts, &a);

    if (a.status)
        check_answer(run, &a);
    /* A 503 of recovery says only that the batch cannot be shown (docs/api.md). */
    if (a.status == 0 || only_reads(request) ||
        (a.status >= 400 && !(run->fault == RECOVERY && a.status == 503)))
        CHECK(world_sum() == before);
    if (a.pull)
        pull_all(&a, run, request);
    if (run->server == WITH_KEYS && !has(request, key_text) &&
        !has(request, WORLD_SECRET))
        CHECK(!has(buf_peek(&a.body), WORLD_SECRET));
    fake_done(&a);
    world_check(run->fault == DISK_DEAD);
    return open;
}

static void ask_well(const struct setting_of_run *run, const char *request)
{
    struct http_handler h = api_handler(apis[run->server]);
    struct fake_answer a;

    CHECK(fake_ask(&h, str_of(request), 0, &a) && a.status == 200);
    if (str_is(str_of(a.type), "application/json"))
        check_object(&a);
    fake_done(&a);
}

/* Takes the next request off. */
static struct str cut(struct str *rest)
{
    const char *mark = rest->n ? memmem(rest->p, rest->n, "\n%%\n", 4) : NULL;
    struct str one = *rest;

    if (!mark) {
        *rest = (struct str){NULL, 0};
        return one;
    }
    one.n = (size_t)(mark - rest->p);
    rest->p = mark + 4;
    rest->n -= one.n + 4;
    return one;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct setting_of_run run;
    struct str rest;
    uint8_t how;

    if (n < 2 || n > (256u << 10))
        return 0;
    how = data[0] ^ '0';
    run = (struct setting_of_run){.server = how & 3,
                                  .fault = how >> 2 & 7,
                                  .ends = how & 32,
                                  .cuts = data[1] == '0' ? 0 : data[1] * 2654435761u + 1};
    quiet_now = 0;
    quiet_ids = 0;
    world_fill();
    world_engine.has_live = how & 128;
    world->no_fd = how & 64;
    break_something(run.fault);
    rest = (struct str){(const char *)data + 2, n - 2};
    run.deletes = has(rest, "DELETE");
    for (int i = 0; i < REQUESTS_MAX && rest.n; i++)
        if (!ask(&run, cut(&rest)))
            break;
    ask_well(&run, "GET /healthz HTTP/1.0\n\n");
    if (run.server != WITH_KEYS && run.fault == ALL_WELL) {
        ask_well(&run, "GET /v1/files HTTP/1.0\n\n");
        ask_well(&run, "GET /v1/batches?limit=100 HTTP/1.0\n\n");
    }
    world_clear();
    return 0;
}
