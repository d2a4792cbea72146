/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "sim/oracle.h"
#include "tests/lib/sim_proc.h"

#define CHAT "/v1/chat/completions"
#define MSG  "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"

#define HI        "{\"model\":\"m\"," MSG
#define HI_LENGTH "57"
static const struct str hi = {HI, sizeof HI - 1};

static bool has(const struct sp_answer *a, const char *text)
{
    return memmem(a->text, a->n, text, strlen(text)) != NULL;
}

static struct sp_answer post(const struct sp *s, const char *path, struct str body)
{
    int fd = sp_connect(s);
    struct sp_answer a;

    sp_post(fd, path, body, "");
    a = sp_answer(fd);
    close(fd);
    return a;
}

/* A body of its own for each number. */
static struct str numbered(char dst[128], unsigned i)
{
    EQ_RC(str_fmt(dst, 128, "{\"model\":\"m\",\"user\":\"%u\"," MSG, i), RC_OK);
    return str_of(dst);
}

TEST(every_endpoint_answers)
{
    static const struct {
        const char *path, *body, *object;
    } rows[] = {
        {CHAT, "{\"model\":\"m\"," MSG, "\"object\":\"chat.completion\""},
        {"/v1/completions", "{\"model\":\"m\",\"prompt\":\"a\"}", "\"text_completion\""},
        {"/v1/embeddings", "{\"model\":\"m\",\"input\":\"a\"}",
         "\"object\":\"embedding\""},
        {"/v1/responses", "{\"model\":\"m\",\"input\":\"a\"}", "\"object\":\"response\""},
        {"/v1/moderations", "{\"model\":\"m\",\"input\":\"a\"}", "\"category_scores\""},
        {"/v1/images/generations", "{\"model\":\"m\",\"prompt\":\"a\"}", "\"b64_json\""},
        {"/v1/images/edits",
         "{\"model\":\"m\",\"prompt\":\"a\",\"images\":[{\"file_id\":\"f\"}]}",
         "\"output_format\":\"png\""},
        {"/v1/videos", "{\"model\":\"m\",\"prompt\":\"a\"}", "\"object\":\"video\""},
        {"/v1/models", NULL, "\"id\":\"sim-model\""},
        {"/v1/models/sim-model", NULL, "{\"id\":\"sim-model\""},
        {"/metrics", NULL, "vllm:num_requests_running{"},
        {"/oracle", NULL, "\"path\":\"/v1/moderations\""},
        {"/oracle/counts", NULL, "{\"requests\":8,\"bodies\":4,\"good\":8,"},
    };
    struct sp s = SP_UP("--seed=3");
    int fd = sp_connect(&s); /* all on one connection */

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct sp_answer a;

        t_row(rows[i].path);
        if (rows[i].body)
            sp_post(fd, rows[i].path, str_of(rows[i].body), "");
        else
            sp_get(fd, rows[i].path);
        a = sp_answer(fd);
        EQ_INT(a.status, 200);
        if (!has(&a, rows[i].object))
            FAIL("it answers: %s", a.text);
        sp_answer_done(&a);
    }
    close(fd);
    sp_down(&s);
}

static int set_models(const struct sp *s, const char *json)
{
    int fd = sp_connect(s);
    char text[256];
    struct sp_answer a;
    int status;

    EQ_RC(str_fmt(text, sizeof text,
                  "PUT /sim/models HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s",
                  strlen(json), json),
          RC_OK);
    sp_send(fd, str_of(text));
    a = sp_answer(fd);
    status = a.status;
    sp_answer_done(&a);
    close(fd);
    return status;
}

TEST(the_list_of_models_can_be_changed_while_it_runs)
{
    struct sp s = SP_UP("--strict-models", "--model=m");
    struct sp_answer a;

    EQ_INT(set_models(&s, "[\"b\\u0063\", \"d/e\"]"), 200);
    a = sp_ask(&s, "/v1/models");
    OK(has(&a, "\"id\":\"bc\"") && has(&a, "\"id\":\"d/e\"") && !has(&a, "\"id\":\"m\""));
    sp_answer_done(&a);
    a = post(&s, CHAT, hi);
    EQ_INT(a.status, 404);
    sp_answer_done(&a);
    a = post(&s, CHAT, STR("{\"model\":\"bc\"," MSG));
    EQ_INT(a.status, 200);
    sp_answer_done(&a);
    EQ_INT(set_models(&s, "null"), 200);
    a = sp_ask(&s, "/v1/models");
    EQ_INT(a.status, 404);
    sp_answer_done(&a);
    EQ_INT(set_models(&s, "[]"), 200);
    a = sp_ask(&s, "/v1/models");
    OK(has(&a, "\"data\":[]"));
    sp_answer_done(&a);
    EQ_INT(set_models(&s, "[1]"), 400);
    EQ_INT(set_models(&s, "[\"a b\"]"), 400);
    EQ_INT(set_models(&s, "{}"), 400);
    EQ_INT(set_models(&s, ""), 400);
    sp_down(&s);
}

TEST(health_is_200_and_empty)
{
    struct sp s = SP_UP("--seed=3");
    struct sp_answer a = sp_ask(&s, "/health?x=y");

    EQ_INT(a.status, 200);
    EQ_INT(a.body.n, 0);
    sp_answer_done(&a);
    sp_down(&s);
}

TEST(request_ids_are_echoed_when_they_can_be_and_made_otherwise)
{
    static const struct {
        const char *given;
        bool echoed;
    } rows[] = {
        {"X-Request-Id: abc-1 2\r\n", true},
        {"x-REQUEST-id:   q  \r\n", true},
        {"", false},
        {"X-Request-Id:\r\n", false},
        {"X-Request-Id: caf\xc3\xa9\r\n", false},
        {"X-Request-Id: 0123456789012345678901234567890123456789012345678901234567"
         "890123456789012345678901234567890123456789\r\n",
         false}};
    struct sp s = SP_UP("--seed=3");
    char before[64] = "";

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        int fd = sp_connect(&s);
        struct str given = str_of(rows[i].given), id;
        struct sp_answer a;

        t_row(rows[i].given);
        sp_post(fd, CHAT, hi, rows[i].given);
        a = sp_answer(fd);
        id = sp_field(&a, "x-request-id");
        (void)str_cut(&given, ':');
        if (rows[i].echoed) {
            EQ_STR(id, str_trim(given));
        } else {
            EQ_INT(id.n, 36);
            OK(str_starts(id, STR("req_")));
            OK(!str_eq(id, str_of(before)));
            memcpy(before, id.p, id.n);
        }
        sp_answer_done(&a);
        close(fd);
    }
    sp_down(&s);
}

TEST(refusals_have_their_status)
{
    static const struct {
        const char *name, *text;
        unsigned status;
        bool closes;
    } rows[] = {
        {"no such path", "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404, false},
        {"no such model", "GET /v1/models/x HTTP/1.1\r\nHost: a\r\n\r\n", 404, false},
        {"wrong method", "GET " CHAT " HTTP/1.1\r\nHost: a\r\n\r\n", 405, false},
        {"not HTTP", "hello\r\n\r\n", 400, true},
        {"TLS", "\x16\x03\x01\x02", 400, true},
        {"no host", "GET /health HTTP/1.1\r\n\r\n", 400, true},
        {"both lengths",
         "POST " CHAT " HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
         "Transfer-Encoding: chunked\r\n\r\n",
         400, true},
        {"bad chunk",
         "POST " CHAT " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
         "\r\nzz\r\n",
         400, true},
        {"too large", "POST " CHAT " HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n",
         413, true},
        {"too large in chunks",
         "POST " CHAT " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
         "chunked\r\n\r\n3e9\r\n",
         413, true},
        {"not JSON", "POST " CHAT " HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n{",
         400, false},
        {"no body", "POST " CHAT " HTTP/1.1\r\nHost: a\r\n\r\n", 400, false},
    };
    struct sp s = SP_UP("--max-body=1000");

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        int fd = sp_connect(&s);
        struct sp_answer a;
        enum sp_end end;
        size_t n;

        t_row(rows[i].name);
        sp_send(fd, str_of(rows[i].text));
        a = sp_answer(fd);
        EQ_INT(a.status, rows[i].status);
        OK(has(&a, "{\"error\":{\"message\":\""));
        EQ_INT(has(&a, "\r\nconnection: close\r\n"), rows[i].closes);
        EQ_INT(has(&a, "\r\nallow: "), rows[i].status == 405);
        mem_free(sp_read_all(fd, 100, &n, &end));
        EQ_INT(end, rows[i].closes ? SP_EOF : SP_SILENCE);
        sp_answer_done(&a);
        close(fd);
    }
    sp_down(&s);
}

TEST(a_key_is_asked_for_under_v1_only)
{
    static const struct {
        const char *path, *header;
        unsigned status;
    } rows[] = {{CHAT, "", 401},
                {CHAT, "Authorization: Bearer secre\r\n", 401},
                {CHAT, "Authorization: Bearer secret2\r\n", 401},
                {CHAT, "Authorization: secret\r\n", 401},
                {CHAT, "Authorization: Bearer secret\r\n", 200}};
    struct sp s = SP_UP("--api-key", "secret");
    struct sp_answer a;

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        int fd = sp_connect(&s);

        t_row(rows[i].header);
        sp_post(fd, rows[i].path, hi, rows[i].header);
        a = sp_answer(fd);
        EQ_INT(a.status, rows[i].status);
        EQ_INT(has(&a, "\"code\":\"invalid_api_key\""), rows[i].status == 401);
        sp_answer_done(&a);
        close(fd);
    }
    a = sp_ask(&s, "/v1/models");
    EQ_INT(a.status, 401);
    sp_answer_done(&a);
    a = sp_ask(&s, "/health");
    EQ_INT(a.status, 200);
    sp_answer_done(&a);
    sp_down(&s);
}

TEST(unknown_models_are_refused_when_told_to)
{
    struct sp s = SP_UP("--strict-models", "--model=a", "--model=m");
    struct sp_answer a = post(&s, CHAT, hi);

    EQ_INT(a.status, 200);
    sp_answer_done(&a);
    a = post(&s, CHAT, STR("{\"model\":\"b\"," MSG));
    EQ_INT(a.status, 404);
    OK(has(&a, "The model `b` does not exist.") && has(&a, "\"NotFoundError\""));
    sp_answer_done(&a);
    sp_down(&s);
}

/* --- Bytes in any pieces -------------------------------------------------------------
 */

static const char request_text[] =
    "POST " CHAT " HTTP/1.1\r\nHost: a\r\nX-Request-Id: x\r\nContent-Length: " HI_LENGTH
    "\r\n\r\n" HI;
static const char chunked_text[] =
    "POST " CHAT
    " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX-Request-Id: x\r\n"
    "\r\nC;a=b\r\n{\"model\":\"m\"\r\n2d\r\n," MSG "\r\n0\r\nTrailer: t\r\n\r\n";

static void send_in_two(int fd, const char *text, size_t at)
{
    struct str all = str_of(text);

    sp_send(fd, (struct str){all.p, at});
    usleep(200);
    sp_send(fd, (struct str){all.p + at, all.n - at});
}

TEST_SLOW(requests_read_the_same_in_any_two_pieces, 60)
{
    static const char *const texts[] = {request_text, chunked_text};
    struct sp s = SP_UP("--created=1");
    struct sp_answer want = post(&s, CHAT, hi);
    int fd = sp_connect(&s);

    for (size_t t = 0; t < COUNTOF(texts); t++) {
        for (size_t at = 1; at < strlen(texts[t]); at++) {
            struct sp_answer a;

            send_in_two(fd, texts[t], at);
            a = sp_answer(fd);
            EQ_INT(a.status, 200);
            EQ_STR(a.body, want.body);
            sp_answer_done(&a);
        }
    }
    sp_answer_done(&want);
    close(fd);
    sp_down(&s);
}

static void pipelined(const char *latency)
{
    struct sp s = SP_UP(latency);
    int fd = sp_connect(&s);
    char text[16384];
    size_t n = 0;

    for (unsigned i = 0; i < 40; i++) {
        char body[128];
        struct str b = numbered(body, i);

        n += (size_t)snprintf(text + n, sizeof text - n,
                              "POST " CHAT " HTTP/1.1\r\nHost: a\r\nX-Request-Id: r%u\r\n"
                              "Content-Length: %zu\r\n\r\n%s",
                              i, b.n, b.p);
    }
    sp_send(fd, (struct str){text, n});
    for (unsigned i = 0; i < 40; i++) {
        struct sp_answer a = sp_answer(fd);
        char id[16];

        EQ_RC(str_fmt(id, sizeof id, "r%u", i), RC_OK);
        EQ_INT(a.status, 200);
        EQ_STR(sp_field(&a, "x-request-id"), str_of(id));
        sp_answer_done(&a);
    }
    EQ_INT(sp_number(&s, "/oracle/counts", "\"bodies\":"), 40);
    close(fd);
    sp_down(&s);
}

TEST(pipelined_requests_are_answered_in_order)
{
    pipelined("--latency=0");
}

TEST(pipelined_requests_wait_for_the_one_before)
{
    pipelined("--latency=1ms-5ms");
}

TEST(a_large_body_arrives_whole_and_its_answer_tells)
{
    const size_t n = 9u << 20;
    struct sp s = SP_UP("--latency=5ms");
    char *body = mem_alloc(n);
    struct sp_answer a;
    char mark[32];
    int at;

    memset(body, ' ', n);
    at = snprintf(body, 256, "%s", hi.p);
    body[at] = ' ';
    EQ_RC(str_fmt(mark, sizeof mark, "%08zx", n), RC_OK);
    a = post(&s, CHAT, (struct str){body, n});
    EQ_INT(a.status, 200);
    OK(has(&a, mark));
    sp_answer_done(&a);
    mem_free(body);
    sp_down(&s);
}

TEST(who_waits_for_100_continue_gets_it_once)
{
    static const char *const framings[] = {"Content-Length: " HI_LENGTH,
                                           "Transfer-Encoding: chunked"};
    struct sp s = SP_UP("--seed=3");

    for (size_t i = 0; i < COUNTOF(framings); i++) {
        int fd = sp_connect(&s);
        char text[256], go[25];
        struct sp_answer a;

        t_row(framings[i]);
        EQ_RC(str_fmt(text, sizeof text,
                      "POST " CHAT
                      " HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n%s\r\n\r\n",
                      framings[i]),
              RC_OK);
        sp_send(fd, str_of(text));
        EQ_INT(recv(fd, go, sizeof go, MSG_WAITALL), 25);
        EQ_STR(((struct str){go, 25}), STR("HTTP/1.1 100 Continue\r\n\r\n"));
        if (i == 1)
            sp_send(fd, STR("39\r\n"));
        sp_send(fd, (struct str){hi.p, 10});
        usleep(2000);
        sp_send(fd, (struct str){hi.p + 10, hi.n - 10});
        if (i == 1)
            sp_send(fd, STR("\r\n0\r\n\r\n"));
        a = sp_answer(fd);
        EQ_INT(a.status, 200);
        sp_answer_done(&a);
        close(fd);
    }
    sp_down(&s);
}

TEST(connections_close_when_the_client_says_so)
{
    static const char *const rows[] = {
        "GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /health HTTP/1.0\r\n\r\n"};
    struct sp s = SP_UP("--seed=3");

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        int fd = sp_connect(&s);
        enum sp_end end;
        size_t n;
        char *text;

        t_row(rows[i]);
        sp_send(fd, str_of(rows[i]));
        text = sp_read_all(fd, 5000, &n, &end);
        EQ_INT(end, SP_EOF);
        OK(strstr(text, "\r\nconnection: close\r\n"));
        mem_free(text);
        close(fd);
    }
    sp_down(&s);
}

/* --- The engine behind it ------------------------------------------------------------
 */

TEST(only_so_many_run_the_others_wait_in_order_and_metrics_tell)
{
    struct sp s = SP_UP("--concurrency=1", "--latency=150ms");
    int fd[4];
    usec_t start = clock_mono();

    for (unsigned i = 0; i < 4; i++) {
        char body[128];

        fd[i] = sp_connect(&s);
        sp_post(fd[i], CHAT, numbered(body, i), "");
        sp_until(&s, "/oracle/counts",
                 "\"requests\":", i + 1); /* so they come in order */
    }
    EQ_INT(sp_number(&s, "/metrics",
                     "num_requests_running{engine=\"0\",model_name=\"sim-model\"} "),
           1);
    EQ_INT(sp_number(&s, "/metrics",
                     "num_requests_waiting{engine=\"0\",model_name=\"sim-model\"} "),
           3);
    for (unsigned i = 0; i < 4; i++) {
        struct sp_answer a = sp_answer(fd[i]);
        usec_t now = clock_mono() - start;

        EQ_INT(a.status, 200);
        OK(now >= (i + 1) * 150 * USEC_PER_MS); /* one behind the other */
        sp_answer_done(&a);
        close(fd[i]);
    }
    EQ_INT(
        sp_number(&s, "/metrics", "finished_reason=\"stop\",model_name=\"sim-model\"} "),
        4);
    EQ_INT(
        sp_number(
            &s, "/metrics",
            "e2e_request_latency_seconds_count{engine=\"0\",model_name=\"sim-model\"} "),
        4);
    EQ_INT(sp_number(&s, "/metrics",
                     "num_requests_running{engine=\"0\",model_name=\"sim-model\"} "),
           0);
    sp_down(&s);
}

TEST(when_too_many_wait_the_next_is_sent_away)
{
    struct sp s = SP_UP("--concurrency=1", "--latency=300ms", "--max-queued=1",
                        "--overload-status=529", "--retry-after=7");
    int fd[2];
    struct sp_answer a;

    for (unsigned i = 0; i < 2; i++) {
        fd[i] = sp_connect(&s);
        sp_post(fd[i], CHAT, hi, "");
        sp_until(&s, "/oracle/counts", "\"requests\":", i + 1);
    }
    a = post(&s, CHAT, hi);
    EQ_INT(a.status, 529);
    EQ_STR(sp_field(&a, "retry-after"), STR("7"));
    sp_answer_done(&a);
    for (unsigned i = 0; i < 2; i++) {
        a = sp_answer(fd[i]);
        EQ_INT(a.status, 200);
        sp_answer_done(&a);
        close(fd[i]);
    }
    sp_down(&s);
}

TEST(a_client_that_leaves_makes_room)
{
    struct sp s = SP_UP("--concurrency=1", "--latency=1h");
    int first = sp_connect(&s), second = sp_connect(&s);

    sp_post(first, CHAT, hi, "");
    sp_until(&s, "/oracle/counts", "\"requests\":", 1);
    sp_post(second, CHAT, hi, "");
    sp_until(&s, "/metrics",
             "num_requests_waiting{engine=\"0\",model_name=\"sim-model\"} ", 1);
    close(first);
    sp_until(&s, "/metrics",
             "num_requests_waiting{engine=\"0\",model_name=\"sim-model\"} ", 0);
    EQ_INT(sp_number(&s, "/metrics",
                     "num_requests_running{engine=\"0\",model_name=\"sim-model\"} "),
           1);
    EQ_INT(
        sp_number(&s, "/metrics", "finished_reason=\"abort\",model_name=\"sim-model\"} "),
        1);
    EQ_INT(sp_number(&s, "/oracle/counts", "\"aborted\":"), 1);
    close(second);
    sp_until(&s, "/oracle/counts", "\"aborted\":", 2);
    sp_down(&s);
}

TEST(answers_after_a_wait_are_those_without)
{
    static const char text[] =
        "{\"model\":\"m\",\"input\":[\"a\",\"bb\",\"ccc\"],\"dimensions\":5}";
    const struct str body = {text, sizeof text - 1};
    struct sp quick = SP_UP("--created=9"), late = SP_UP("--created=9", "--latency=3ms");
    struct sp_answer a = post(&quick, "/v1/embeddings", body);
    struct sp_answer b = post(&late, "/v1/embeddings", body);

    EQ_INT(a.status, 200);
    EQ_STR(a.body, b.body);
    sp_answer_done(&a);
    sp_answer_done(&b);
    sp_down(&quick);
    sp_down(&late);
}

TEST(many_connections_are_served_at_once)
{
    enum { N = 400 };
    struct sp s = SP_UP("--latency=100ms");
    int fd[N];
    usec_t start = clock_mono();

    for (unsigned i = 0; i < N; i++) {
        char body[128];

        fd[i] = sp_connect(&s);
        sp_post(fd[i], CHAT, numbered(body, i), "");
    }
    for (unsigned i = 0; i < N; i++) {
        struct sp_answer a = sp_answer(fd[i]);

        EQ_INT(a.status, 200);
        sp_answer_done(&a);
        close(fd[i]);
    }
    OK(clock_mono() - start < N * 100 * USEC_PER_MS / 4); /* not one after the other */
    EQ_INT(sp_number(&s, "/oracle/counts", "\"good\":"), N);
    sp_down(&s);
}

/* --- Faults that replay --------------------------------------------------------------
 */

static void outcomes(const char *seed, char *dst, unsigned n)
{
    struct sp s = SP_UP("--fault=429=0.3,500=0.3,empty=0.1", seed);

    for (unsigned i = 0; i < n; i++) {
        char body[128];
        struct sp_answer a = post(&s, CHAT, numbered(body, i / 2)); /* each body twice */

        dst[i] = (char)(a.status == 200 ? (a.body.n ? 'a' : 'e')
                                        : '0' + (char)(a.status / 100));
        sp_answer_done(&a);
    }
    dst[n] = '\0';
    sp_down(&s);
}

TEST(faults_replay_by_seed)
{
    char a[101], b[101], c[101];

    outcomes("--seed=1", a, 100);
    outcomes("--seed=1", b, 100);
    outcomes("--seed=2", c, 100);
    EQ_Z(a, b);
    OK(strcmp(a, c) != 0);
    OK(strchr(a, '4') && strchr(a, '5') && strchr(a, 'a') && strchr(a, 'e'));
}

TEST(the_oracle_tells_id_crc_attempt_and_fault)
{
    struct sp s = SP_UP("--fault=429=1", "--oracle=2");
    int fd = sp_connect(&s);
    struct sp_answer a;

    for (int i = 0; i < 3; i++) {
        sp_post(fd, CHAT, hi, "X-Request-Id: mine\r\n");
        a = sp_answer(fd);
        EQ_INT(a.status, 429);
        sp_answer_done(&a);
    }
    sp_get(fd, "/oracle");
    a = sp_answer(fd);
    OK(!has(&a, "\"attempt\":0") && has(&a, "\"attempt\":1") && has(&a, "\"attempt\":2"));
    OK(has(&a, "{\"id\":\"mine\",\"path\":\"" CHAT "\"") &&
       has(&a, "\"bytes\":" HI_LENGTH));
    OK(has(&a, "\"status\":429,\"fault\":\"429\",\"aborted\":false"));
    sp_answer_done(&a);
    close(fd);
    sp_down(&s);
}

/* --- Down and back -------------------------------------------------------------------
 */

static void wait_for_port(const struct sp *s)
{
    int fd = -1;

    for (int i = 0; i < 500 && fd < 0; i++) {
        fd = sp_try(s);
        if (fd < 0)
            usleep(10000);
    }
    OK(fd >= 0);
    close(fd);
}

TEST(poison_takes_all_connections_down_and_the_server_comes_back_on_its_port)
{
    struct sp s = SP_UP("--poison=BOOM", "--poison-down=300ms", "--latency=1h");
    int idle = sp_connect(&s), busy = sp_connect(&s), bad = sp_connect(&s);
    int all[3] = {idle, busy, bad};
    usec_t start;

    sp_post(busy, CHAT, hi, "");
    sp_until(&s, "/oracle/counts", "\"requests\":", 1);
    sp_post(bad, CHAT, STR("{\"model\":\"BOOM\"}"), "");
    start = clock_mono();
    for (int i = 0; i < 3; i++) {
        enum sp_end end;
        size_t n;

        mem_free(sp_read_all(all[i], 5000, &n, &end));
        EQ_INT(end, SP_RESET);
        EQ_INT(n, 0);
        close(all[i]);
    }
    OK(sp_try(&s) < 0);
    wait_for_port(&s);
    OK(clock_mono() - start > 250 * USEC_PER_MS);
    EQ_INT(sp_number(&s, "/oracle/counts", "\"crashes\":"), 1);
    EQ_INT(sp_number(&s, "/metrics",
                     "num_requests_running{engine=\"0\",model_name=\"sim-model\"} "),
           0);
    sp_down(&s);
}

TEST(a_schedule_takes_it_down_and_brings_it_back)
{
    struct sp s = SP_UP("--schedule=down@200ms+300ms,418@0+100ms");
    struct sp_answer a = post(&s, CHAT, hi);
    int fd = sp_connect(&s);
    enum sp_end end;
    size_t n;

    EQ_INT(a.status, 418);
    sp_answer_done(&a);
    mem_free(sp_read_all(fd, 5000, &n, &end)); /* until it goes down */
    EQ_INT(end, SP_RESET);
    close(fd);
    OK(sp_try(&s) < 0);
    wait_for_port(&s);
    a = post(&s, CHAT, hi);
    EQ_INT(a.status, 200);
    sp_answer_done(&a);
    sp_down(&s);
}

/* --- The process ---------------------------------------------------------------------
 */

TEST(signals_end_it_with_status_0_a_summary_and_one_line_on_stdout)
{
    static const int signals[] = {SIGTERM, SIGINT};

    for (size_t i = 0; i < COUNTOF(signals); i++) {
        struct sp s = SP_UP("--latency=1h");
        int fd = sp_connect(&s);
        char said[1024], rest[16];

        sp_post(fd, CHAT, hi, "");
        sp_until(&s, "/oracle/counts", "\"requests\":", 1);
        kill(s.pid, signals[i]);
        EQ_INT(read(s.out, rest, sizeof rest), 0);
        EQ_INT(sp_wait(&s, said, sizeof said), 0);
        OK(strstr(said, "batchd sim: 1 requests on "));
        OK(strchr(said, '\n') == said + strlen(said) - 1);
        close(fd);
    }
}

TEST(a_taken_port_is_said_and_ends_with_status_1)
{
    struct sp s = SP_UP("--seed=3"), second;
    char where[64], said[1024];

    EQ_RC(str_fmt(where, sizeof where, "--listen=127.0.0.1:%u", s.port), RC_OK);
    second = SP_UP(where);
    EQ_INT(second.port, 0);
    EQ_INT(sp_wait(&second, said, sizeof said), 1);
    OK(strstr(said, "cannot listen on 127.0.0.1:"));
    sp_down(&s);
}

TEST(the_log_has_one_line_a_request)
{
    struct sp s = SP_UP("--log", "--fault=429=1");
    struct sp_answer a = post(&s, CHAT, hi), b = sp_ask(&s, "/health");
    char said[4096];
    const char *first;

    sp_answer_done(&a);
    sp_answer_done(&b);
    kill(s.pid, SIGTERM);
    EQ_INT(sp_wait(&s, said, sizeof said), 0);
    first = strstr(said, "ev=sim.request");
    OK(first && strstr(said, "path=" CHAT " status=429 fault=429"));
    OK(strstr(first + 1, "path=/health status=200 fault=none"));
    OK(!strstr(strstr(first + 1, "ev=sim.request") + 1, "ev=sim.request"));
}
