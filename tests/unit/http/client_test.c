/* SPDX-License-Identifier: Apache-2.0 */
/* What the client sends, and what it makes of the answers. */
#include "tests/unit/http/peer.h"

#include <signal.h>
#include <sys/wait.h>

/* --- what goes out --- */

TEST(a_post_is_sent_with_the_targets_headers_and_the_calls_id_and_body)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    const char *extra[] = {"X-Team: blue", "OpenAI-Beta: a, b", NULL};
    struct http_call c;
    char want[1024];

    w.opts.bearer = "sk-test";
    w.opts.headers = extra;
    world_start(steps, 1);
    call_init(&c);
    snprintf(c.request_id, sizeof c.request_id, "req-1");
    run(&c);
    EQ_INT(c.fate, HTTP_ANSWERED);
    EQ_INT(c.status, 200);
    EQ_STR(buf_peek(&c.answer), STR("ok"));
    EQ_Z(c.reason, "");
    snprintf(want, sizeof want,
             "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
             "X-Request-Id: req-1\r\nContent-Type: application/json\r\n"
             "User-Agent: test/1\r\n"
             "Authorization: Bearer sk-test\r\nX-Team: blue\r\nOpenAI-Beta: a, b\r\n"
             "Content-Length: 7\r\n\r\n{\"a\":1}",
             w.server.port);
    EQ_Z(seen(&w.server), want);
    http_call_done(&c);
    world_stop();
}

TEST(a_get_has_no_body_and_a_call_may_change_its_form)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    const char *own[] = {"content-type: text/plain", "accept: */*", "user-agent: me/2",
                         NULL};
    struct http_call c;
    char want[512];

    w.opts.headers = own;
    world_start(steps, 1);
    call_init(&c);
    c.method = "GET";
    c.path = "/models?limit=2";
    run(&c);
    snprintf(want, sizeof want,
             "GET /v1/models?limit=2 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
             "content-type: text/plain\r\naccept: */*\r\nuser-agent: me/2\r\n\r\n",
             w.server.port);
    EQ_Z(seen(&w.server), want);
    c.method = "POST";
    c.path = "/embeddings";
    c.body = (struct str){NULL, 0};
    snprintf(c.request_id, sizeof c.request_id, "bad\r\nX-Evil: 1");
    run(&c);
    snprintf(want, sizeof want,
             "POST /v1/embeddings HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
             "content-type: text/plain\r\naccept: */*\r\nuser-agent: me/2\r\n"
             "Content-Length: 0\r\n\r\n",
             w.server.port);
    EQ_Z(seen(&w.server), want);
    c.method = "GET";
    c.path = "/models";
    c.request_id[0] = '\0';
    run(&c);
    OK(strncmp(seen(&w.server), "GET /v1/models HTTP/1.1\r\n", 25) == 0);
    EQ_INT(seen_body(&w.server), 0);
    EQ_INT(count_of(&w.server, &w.server.accepted), 1);
    http_call_done(&c);
    world_stop();
}

TEST(a_body_of_megabytes_goes_out_whole_and_without_waiting_for_a_continue)
{
    enum { N = 3 << 20 };
    static const struct step steps[] = {{.send = OK_ANSWER}};
    struct http_call c;
    char *body = mem_alloc(N);

    world_start(steps, 1);
    call_init(&c);
    memset(body, 'b', N);
    c.body = (struct str){body, N};
    run(&c);
    EQ_INT(c.fate, HTTP_ANSWERED);
    EQ_INT(seen_body(&w.server), N);
    OK(!strstr(seen(&w.server), "Expect"));
    http_call_done(&c);
    mem_free(body);
    world_stop();
}

TEST(no_proxy_cookie_netrc_or_redirect_is_used_unasked)
{
    static const struct step steps[] = {
        {.send = "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nSet-Cookie: a=b\r\n"
                 "Content-Length: 0\r\n\r\n"},
        {.send = OK_ANSWER}};
    struct http_call c;
    FILE *f = fopen(".netrc", "w");

    fputs("machine 127.0.0.1 login me password secret\n", f);
    fclose(f);
    setenv("HOME", t_dir(), 1);
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("all_proxy", "http://127.0.0.1:1", 1);
    world_start(steps, 2);
    call_init(&c);
    run(&c);
    EQ_INT(c.fate, HTTP_ANSWERED);
    EQ_INT(c.status, 302);
    EQ_INT(count_of(&w.server, &w.server.requests), 1);
    run(&c);
    EQ_INT(c.status, 200);
    OK(!strstr(seen(&w.server), "Cookie"));
    OK(!strstr(seen(&w.server), "Authorization"));
    http_call_done(&c);
    world_stop();
}

TEST(a_configured_proxy_is_asked_with_the_whole_url)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    struct http_target_opts o = {.base_url = "http://upstream.invalid:8000/v1/"};
    struct http_target *t;
    struct http_call c;
    char proxy[64];

    setenv("no_proxy", "*", 1);
    world_start(steps, 1);
    snprintf(proxy, sizeof proxy, "http://127.0.0.1:%d", w.server.port);
    o.proxy = proxy;
    t = make_target(&o);
    call_init(&c);
    c.target = t;
    run(&c);
    EQ_INT(c.fate, HTTP_ANSWERED);
    OK(strncmp(seen(&w.server), "POST http://upstream.invalid:8000/v1/chat/completions ",
               54) == 0);
    http_call_done(&c);
    http_target_free(t); /* before its client */
    world_stop();
}

/* --- what comes back --- */

TEST(whole_answers_in_every_framing)
{
    static const struct {
        const char *name;
        struct step step;
        long status;
        const char *body, *id;
        int64_t retry_ms;
        unsigned connections; /* after a second call */
    } rows[] = {
        {"length",
         {.send = HEAD "x-request-id: r1\r\nContent-Length: 3\r\n\r\nabc"},
         200,
         "abc",
         "r1",
         -1,
         1},
        {"no body", {.send = "HTTP/1.1 204 No Content\r\n\r\n"}, 204, "", "", -1, 1},
        {"chunked",
         {.send = HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n"
                       "0\r\nX-Request-Id: trailer\r\n\r\n"},
         200,
         "abcde",
         "",
         -1,
         1},
        {"until the end",
         {.send = HEAD "\r\nall of it", .then = CLOSE},
         200,
         "all of it",
         "",
         -1,
         2},
        {"HTTP/1.0",
         {.send = "HTTP/1.0 200 OK\r\n\r\nold", .then = CLOSE},
         200,
         "old",
         "",
         -1,
         2},
        {"close announced",
         {.send = HEAD "Connection: close\r\nContent-Length: 1\r\n\r\nz", .then = CLOSE},
         200,
         "z",
         "",
         -1,
         2},
        {"interim heads",
         {.send = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n"
                  "X-Request-Id: no\r\n\r\n" HEAD "Content-Length: 1\r\n\r\ny"},
         200,
         "y",
         "",
         -1,
         1},
        {"429",
         {.send = "HTTP/1.1 429 Slow down\r\nRetry-After: 7\r\nX-Request-ID: q\r\n"
                  "Content-Length: 2\r\n\r\n{}"},
         429,
         "{}",
         "q",
         7000,
         1},
        {"429 in ms",
         {.send = "HTTP/1.1 429 Slow down\r\nretry-after-ms: 250\r\nRetry-After: 1\r\n"
                  "Content-Length: 0\r\n\r\n"},
         429,
         "",
         "",
         250,
         1},
        {"503 with a date",
         {.send =
              "HTTP/1.1 503 Busy\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
              "Retry-After: Sun, 06 Nov 1994 08:49:47 GMT\r\nContent-Length: 0\r\n\r\n"},
         503,
         "",
         "",
         10000,
         1},
        {"401 is an answer",
         {.send = "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=x\r\n"
                  "Content-Length: 0\r\n\r\n"},
         401,
         "",
         "",
         -1,
         1},
        {"byte by byte",
         {.send = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb", .then = DRIBBLE},
         200,
         "b",
         "",
         -1,
         1},
        {"answered before the body was read",
         {.send = "HTTP/1.1 413 Too much\r\nContent-Length: 0\r\n\r\n",
          .read_only = 1,
          .then = KEEP},
         413,
         "",
         "",
         -1,
         1},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct http_call c;

        t_row(rows[i].name);
        w = (struct world){0};
        world_start(&rows[i].step, 1);
        call_init(&c);
        for (int twice = 0; twice < 2; twice++) {
            run(&c);
            if (c.fate != HTTP_ANSWERED)
                FAIL("fate %d: %s", c.fate, c.reason);
            EQ_INT(c.status, rows[i].status);
            EQ_STR(buf_peek(&c.answer), str_of(rows[i].body));
            EQ_Z(c.answer_id, rows[i].id);
            EQ_INT(c.retry_after_ms, rows[i].retry_ms);
        }
        EQ_INT(count_of(&w.server, &w.server.accepted), rows[i].connections);
        http_call_done(&c);
        world_stop();
    }
}

TEST(broken_answers_have_their_fate)
{
    static const struct {
        const char *name;
        struct step step;
        enum http_fate fate;
        const char *reason; /* NULL: any */
    } rows[] = {
        {"nothing", {.send = "", .then = CLOSE}, HTTP_RESET, "Empty reply from server"},
        {"nothing, rudely", {.send = "", .then = RST}, HTTP_RESET, NULL},
        {"half a status line", {.send = "HTTP/1.1 2", .then = CLOSE}, HTTP_RESET, NULL},
        {"half a head",
         {.send = HEAD "Content-Le", .then = CLOSE},
         HTTP_RESET,
         "the connection ended inside the answer's head"},
        {"an interim head only",
         {.send = "HTTP/1.1 100 Continue\r\n\r\n", .then = CLOSE},
         HTTP_RESET,
         NULL},
        {"half a body",
         {.send = HEAD "Content-Length: 10\r\n\r\nabc", .then = CLOSE},
         HTTP_RESET,
         "transfer closed with 7 bytes remaining to read"},
        {"half a body, rudely",
         {.send = HEAD "Content-Length: 10\r\n\r\nabc", .then = RST},
         HTTP_RESET,
         NULL},
        {"half a chunk",
         {.send = HEAD "Transfer-Encoding: chunked\r\n\r\n5\r\nab", .then = CLOSE},
         HTTP_RESET,
         NULL},
        {"no last chunk",
         {.send = HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", .then = CLOSE},
         HTTP_RESET,
         NULL},
        {"not HTTP",
         {.send = "SSH-2.0-OpenSSH_9.2\r\n", .then = CLOSE},
         HTTP_GARBLED,
         "Received HTTP/0.9 when not allowed"},
        {"HTTP/0.9", {.send = "<html>hello</html>", .then = CLOSE}, HTTP_GARBLED, NULL},
        {"zero bytes",
         {.send = "\x01\x02\x03\x04\x05\x06\x07\x08", .then = HOLD},
         HTTP_GARBLED,
         NULL},
        {"a chunk size that is none",
         {.send = HEAD "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", .then = HOLD},
         HTTP_GARBLED,
         NULL},
        {"a chunk that does not end",
         {.send = HEAD "Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", .then = HOLD},
         HTTP_GARBLED,
         NULL},
        {"a negative length",
         {.send = HEAD "Content-Length: -1\r\n\r\n", .then = HOLD},
         HTTP_GARBLED,
         NULL},
        {"a status of 20",
         {.send = "HTTP/1.1 20 Huh\r\n\r\n", .then = HOLD},
         HTTP_GARBLED,
         NULL},
        {"a header line without end",
         {.send = HEAD "X: ", .pad = 150000, .then = HOLD},
         HTTP_GARBLED,
         NULL},
        {"too large by its length",
         {.send = HEAD "Content-Length: 1001\r\n\r\n", .then = HOLD},
         HTTP_TOO_LARGE,
         NULL},
        {"too large in chunks",
         {.send = HEAD "Transfer-Encoding: chunked\r\n\r\n3e9\r\n",
          .pad = 1001,
          .then = HOLD},
         HTTP_TOO_LARGE,
         "the answer is larger than 1000 bytes"},
        {"too large without a length",
         {.send = HEAD "\r\n", .pad = 1001, .then = HOLD},
         HTTP_TOO_LARGE,
         "the answer is larger than 1000 bytes"},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct http_call c;

        t_row(rows[i].name);
        w = (struct world){0};
        world_start(&rows[i].step, 1);
        call_init(&c);
        c.max_body = 1000;
        run(&c);
        if (c.fate != rows[i].fate)
            FAIL("fate %d, want %d: %s", c.fate, rows[i].fate, c.reason);
        if (rows[i].reason)
            EQ_Z(c.reason, rows[i].reason);
        OK(c.reason[0] != '\0');
        EQ_INT(c.status, 0);
        EQ_INT(c.answer.n, 0);
        EQ_INT(c.retry_after_ms, -1);
        EQ_INT(count_of(&w.server, &w.server.requests), 1);
        http_call_done(&c);
        world_stop();
    }
}

TEST(an_answer_of_just_the_allowed_size_is_whole)
{
    static const struct step steps[] = {
        {.send = HEAD "Content-Length: 1000\r\n\r\n", .pad = 1000},
        {.send = HEAD "\r\n", .pad = 1000, .then = CLOSE}};
    struct http_call c;

    world_start(steps, 2);
    call_init(&c);
    c.max_body = 1000;
    for (int i = 0; i < 2; i++) {
        run(&c);
        EQ_INT(c.fate, HTTP_ANSWERED);
        EQ_INT(c.answer.n, 1000);
    }
    http_call_done(&c);
    world_stop();
}

TEST(heads_without_end_are_cut_off)
{
    char *many = mem_alloc(2 << 20);
    struct step step = {.send = many, .then = HOLD};
    struct http_call c;
    size_t n = 0;

    for (int i = 0; i < 9000; i++)
        n += (size_t)sprintf(many + n,
                             "HTTP/1.1 103 Early Hints\r\nLink: <%0100d>\r\n\r\n", i);
    world_start(&step, 1);
    call_init(&c);
    run(&c);
    EQ_INT(c.fate, HTTP_GARBLED);
    EQ_Z(c.reason, "the answer's head has over 262144 bytes");
    http_call_done(&c);
    world_stop();
    mem_free(many);
}

/* --- targets --- */

TEST(targets_that_cannot_be_are_refused_and_no_key_is_told)
{
    static const char *const
        injected[] = {"X-A: b\r\nX-Evil: key-123", NULL},
        *const no_colon[] = {"key-123", NULL}, *const no_name[] = {": key-123", NULL},
        *const bad_name[] = {"X A: key-123", NULL}, *const empty[] = {"X-A:", NULL};
    static const struct {
        const char *name;
        struct http_target_opts o;
    } rows[] = {
        {"no URL", {.base_url = NULL}},
        {"empty", {.base_url = ""}},
        {"no scheme", {.base_url = "127.0.0.1:8000"}},
        {"a file", {.base_url = "file:///etc/passwd"}},
        {"ftp", {.base_url = "ftp://127.0.0.1/"}},
        {"credentials", {.base_url = "http://me:key-123@127.0.0.1/"}},
        {"a user", {.base_url = "http://key-123@127.0.0.1/"}},
        {"a query", {.base_url = "http://127.0.0.1/v1?key=key-123"}},
        {"a fragment", {.base_url = "http://127.0.0.1/v1#x"}},
        {"a line break", {.base_url = "http://127.0.0.1/\r\nX: y"}},
        {"no host", {.base_url = "http:///v1"}},
        {"a line break in the key",
         {.base_url = "http://h", .bearer = "key-123\r\nX: y"}},
        {"a line break in a header", {.base_url = "http://h", .headers = injected}},
        {"no colon", {.base_url = "http://h", .headers = no_colon}},
        {"no header name", {.base_url = "http://h", .headers = no_name}},
        {"a space in a header name", {.base_url = "http://h", .headers = bad_name}},
        {"a header without a value", {.base_url = "http://h", .headers = empty}},
        {"a line break in the proxy",
         {.base_url = "http://h", .proxy = "http://p\r\nX: y"}},
    };
    static const struct step steps[] = {{.send = OK_ANSWER}};

    world_start(steps, 1);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct http_target *t = NULL;
        struct err e = {""};

        t_row(rows[i].name);
        EQ_RC(http_target_new(w.client, &rows[i].o, &t, &e), RC_INVALID);
        OK(!t);
        OK(e.text[0] != '\0');
        if (strcmp(rows[i].name, "a query") !=
            0) /* a URL is told, and is no place for one */
            OK(!strstr(e.text, "key-123"));
    }
    world_stop();
}

TEST(a_ca_file_that_is_not_there_is_told)
{
    struct http_client_opts o = {.user_agent = NULL};
    struct http_target_opts to = {.base_url = "https://127.0.0.1:1",
                                  .ca_file = "/no/such/file"};
    struct http_client *c = NULL;
    struct http_target *t = NULL;
    struct loop *l;
    struct err e;

    EQ_RC(loop_new(&l, &e), RC_OK);
    EQ_RC(http_client_new(l, &o, &c, &e), RC_OK);
    EQ_RC(http_target_new(c, &to, &t, &e), RC_NOTFOUND);
    EQ_Z(e.text, "cannot read the CA file /no/such/file: No such file or directory");
    http_client_free(c);
    loop_free(l);
}

/* --- TLS, with the openssl program as the server --- */

static pid_t start_tls_server(int *port)
{
    int out[2], status;
    char line[256] = "";
    FILE *f;
    pid_t pid;

    pid = fork();
    if (pid == 0) {
        IGNORE(!freopen("/dev/null", "w", stderr));
        execlp("openssl", "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes",
               "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-days",
               "2", "-keyout", "key.pem", "-out", "cert.pem", (char *)NULL);
        _exit(127);
    }
    waitpid(pid, &status, 0);
    if (status != 0)
        return -1;
    EQ_INT(pipe(out), 0);
    pid = fork();
    if (pid == 0) {
        dup2(out[1], 1);
        IGNORE(!freopen("/dev/null", "r", stdin));
        IGNORE(!freopen("/dev/null", "w", stderr));
        execlp("openssl", "openssl", "s_server", "-accept", "127.0.0.1:0", "-key",
               "key.pem", "-cert", "cert.pem", "-www", (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    f = fdopen(out[0], "r");
    while (fgets(line, sizeof line, f) && strncmp(line, "ACCEPT", 6) != 0)
        continue;
    *port = strrchr(line, ':') ? (int)strtol(strrchr(line, ':') + 1, NULL, 10) : 0;
    fclose(f);
    return pid;
}

static enum http_fate ask_tls(const char *ca_file, bool insecure, char *reason)
{
    struct http_client_opts o = {.user_agent = NULL};
    struct http_call c;
    enum http_fate fate;
    struct err e;

    memset(&w.opts, 0, sizeof w.opts);
    EQ_RC(loop_new(&w.loop, &e), RC_OK);
    EQ_RC(http_client_new(w.loop, &o, &w.client, &e), RC_OK);
    snprintf(w.url, sizeof w.url, "https://127.0.0.1:%d", w.server.port);
    w.opts.base_url = w.url;
    w.opts.insecure = insecure;
    w.opts.ca_file = ca_file;
    w.target = make_target(&w.opts);
    call_init(&c);
    c.method = "GET";
    c.path = "/";
    run(&c);
    fate = c.fate;
    snprintf(reason, sizeof c.reason, "%s", c.reason);
    if (fate == HTTP_ANSWERED)
        OK(c.answer.n > 100);
    http_call_done(&c);
    w.client = http_client_free(w.client);
    w.target = http_target_free(w.target);
    w.loop = loop_free(w.loop);
    return fate;
}

TEST(a_tls_server_is_believed_only_with_a_known_certificate)
{
    char reason[160];
    pid_t pid = start_tls_server(&w.server.port);

    if (pid < 0) {
        t_note("no openssl program: not tested");
        return;
    }
    EQ_INT(ask_tls(NULL, false, reason), HTTP_NO_CONNECT);
    OK(strstr(reason, "certificate"));
    EQ_INT(ask_tls("cert.pem", false, reason), HTTP_ANSWERED);
    EQ_INT(ask_tls(NULL, true, reason), HTTP_ANSWERED);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

TEST(a_server_without_tls_is_no_connection_for_https)
{
    static const struct step steps[] = {{.send = OK_ANSWER, .then = CLOSE}};
    struct http_target_opts o = {.base_url = w.url};
    struct http_target *t;
    struct http_call c;

    world_start(steps, 1);
    snprintf(w.url, sizeof w.url, "https://127.0.0.1:%d", w.server.port);
    t = make_target(&o);
    call_init(&c);
    c.target = t;
    c.connect_timeout = 300 * MS; /* the server waits for a head that does not come */
    run(&c);
    EQ_INT(c.fate, HTTP_NO_CONNECT);
    http_call_done(&c);
    world_stop();
    http_target_free(t); /* after its client */
}
