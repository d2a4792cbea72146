/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "tests/lib/sim_proc.h"

#define CHAT "/v1/chat/completions"

static bool has(const struct sp_answer *a, const char *text)
{
    return memmem(a->text, a->n, text, strlen(text)) != NULL;
}

/* A long prompt of everybody's, then the number; out: the tokens of the answer. */
static struct str body_of(char dst[4096], unsigned number, unsigned out)
{
    char shared[1601];

    memset(shared, 'a', sizeof shared - 1);
    shared[sizeof shared - 1] = '\0';
    EQ_RC(str_fmt(dst, 4096,
                  "{\"model\":\"m\",\"max_tokens\":%u,\"metadata\":{\"sim_out\":%u},"
                  "\"messages\":[\"%s\",\"%u\"]}",
                  out, out, shared, number),
          RC_OK);
    return str_of(dst);
}

static int begin(const struct sp *s, unsigned number, unsigned out)
{
    int fd = sp_connect(s);
    char body[4096];

    sp_post(fd, CHAT, body_of(body, number, out), "");
    return fd;
}

static struct sp_answer finish(int fd)
{
    struct sp_answer a = sp_answer(fd);

    close(fd);
    return a;
}

static unsigned status_of(const struct sp *s, unsigned number)
{
    struct sp_answer a = finish(begin(s, number, 4));
    unsigned status = a.status;

    sp_answer_done(&a);
    return status;
}

static void wait_until_up(const struct sp *s)
{
    int fd;

    for (int i = 0; i < 500 && (fd = sp_try(s)) < 0; i++)
        usleep(10000);
    OK(fd >= 0);
    close(fd);
}

TEST(each_replica_has_a_port_a_cache_and_counters_of_its_own)
{
    struct sp s[3] = {SP_UP("--replicas=3", "--preset=h100-8b", "--speed=100")};
    struct sp_answer a;

    for (int i = 1; i < 3; i++) {
        s[i] = s[0];
        s[i].port = sp_port(s[0].out);
        OK(s[i].port && s[i].port != s[i - 1].port);
    }
    for (unsigned i = 0; i < 3; i++)
        EQ_INT(status_of(&s[i], i), 200);
    a = finish(begin(&s[1], 7, 4));
    OK(has(&a, "\"prompt_tokens_details\":{\"cached_tokens\":400,"));
    OK(has(&a, "\"completion_tokens\":4,"));
    sp_answer_done(&a);
    EQ_INT(sp_number(&s[0], "/oracle/counts", "\"requests\":"), 1);
    EQ_INT(sp_number(&s[1], "/oracle/counts", "\"requests\":"), 2);
    EQ_INT(sp_number(&s[2], "/oracle/counts", "\"cached\":"), 0);
    EQ_INT(sp_number(&s[1], "/oracle/counts", "\"cached\":"), 400);
    EQ_INT(sp_number(&s[1], "/metrics",
                     "prefix_cache_hits_total{engine=\"0\",model_name=\"sim-model\"} "),
           400);
    sp_down(&s[0]);
}

TEST(replicas_are_on_consecutive_ports_when_the_first_is_given)
{
    struct sp one = SP_UP("--seed=1"), s;
    char listen[64];
    unsigned port = one.port;

    sp_down(&one); /* the port and the next are free, most likely */
    EQ_RC(str_fmt(listen, sizeof listen, "--listen=127.0.0.1:%u", port), RC_OK);
    s = SP_UP(listen, "--replicas=2");
    if (s.port == 0) { /* somebody was there */
        sp_wait(&s, NULL, 0);
        return;
    }
    EQ_INT(s.port, port);
    EQ_INT(sp_port(s.out), port + 1);
    sp_down(&s);
}

TEST(a_request_tells_when_it_began_and_what_it_cost)
{
    struct sp s = SP_UP("--preset=h100-8b", "--speed=10");
    struct sp_answer a = finish(begin(&s, 1, 20)), o = sp_ask(&s, "/oracle");
    const char *at = strstr(o.text, "\"came_us\":");
    long came, began, first, went;
    unsigned prompt, cached, computed, made, preempted;

    EQ_INT(a.status, 200);
    OK(at);
    EQ_INT(sscanf(at,
                  "\"came_us\":%ld,\"began_us\":%ld,\"first_us\":%ld,\"prompt\":%u,"
                  "\"cached\":%u,\"computed\":%u,\"made\":%u,\"preempted\":%u,"
                  "\"went_us\":%ld",
                  &came, &began, &first, &prompt, &cached, &computed, &made, &preempted,
                  &went),
           9);
    OK(came <= began && began < first && first < went);
    OK(went - first >=
       19 * 650); /* 19 iterations of at least t0 + w, ten times as fast */
    EQ_INT(cached, 0);
    EQ_INT(computed, prompt);
    EQ_INT(made, 20);
    EQ_INT(preempted, 0);
    sp_answer_done(&a);
    sp_answer_done(&o);
    sp_down(&s);
}

TEST(who_leaves_is_aborted_unless_told_otherwise)
{
    static const char *const more[] = {"--seed=1", "--ignore-disconnect"};

    for (int i = 0; i < 2; i++) {
        struct sp s = SP_UP("--preset=h100-8b", "--speed=100", more[i]);
        int fd = begin(&s, 1, 3000); /* 20 s of the model */

        t_row(more[i]);
        sp_until(&s, "/metrics",
                 "num_requests_running{engine=\"0\",model_name=\"sim-model\"} ", 1);
        close(fd);
        sp_until(&s, "/oracle/counts", "\"aborted\":", 1);
        EQ_INT(sp_number(&s, "/metrics",
                         "num_requests_running{engine=\"0\",model_name=\"sim-model\"} "),
               i);
        sp_until(&s, "/metrics",
                 "num_requests_running{engine=\"0\",model_name=\"sim-model\"} ", 0);
        OK(sp_number(&s, "/oracle/counts", "\"wasted\":") > 400);
        EQ_INT(sp_number(&s, "/oracle/counts", "\"made\":") == 3000, i);
        sp_down(&s);
    }
}

TEST(it_can_end_while_it_works_for_those_who_left)
{
    struct sp s = SP_UP("--preset=h100-8b", "--ignore-disconnect");
    int fd = begin(&s, 1, 3000);

    sp_until(&s, "/oracle/counts", "\"requests\":", 1);
    close(fd);
    sp_until(&s, "/oracle/counts", "\"aborted\":", 1);
    sp_down(&s);
}

TEST(lower_priorities_go_first)
{
    struct sp s = SP_UP("--preset=h100-8b", "--speed=20", "--max-seqs=1", "--priorities");
    int fd[3];
    static const int priority[] = {0, 5, -5};
    struct sp_answer o;
    const char *second, *third;

    for (unsigned i = 0; i < 3; i++) {
        char body[256];

        EQ_RC(str_fmt(body, sizeof body,
                      "{\"model\":\"m\",\"metadata\":{\"sim_out\":300},\"priority\":%d,"
                      "\"messages\":[\"%u\"]}",
                      priority[i], i),
              RC_OK);
        fd[i] = sp_connect(&s);
        sp_post(fd[i], CHAT, str_of(body), "");
        sp_until(&s, "/oracle/counts", "\"requests\":", i + 1);
    }
    for (unsigned i = 0; i < 3; i++) {
        struct sp_answer a = finish(fd[i]);

        EQ_INT(a.status, 200);
        sp_answer_done(&a);
    }
    o = sp_ask(&s, "/oracle"); /* in the order of their arrival */
    second = strstr(strchr(o.body.p, '\n'), "\"began_us\":");
    third = strstr(second + 1, "\"began_us\":");
    OK(atol(second + 11) > atol(third + 11));
    sp_answer_done(&o);
    sp_down(&s);
}

TEST(a_quota_is_told_and_kept)
{
    struct sp s = SP_UP("--rpm=60", "--quota-burst=2s", "--tpm=100000");
    struct sp_answer a;
    unsigned refused = 0;

    a = finish(begin(&s, 1, 4));
    EQ_INT(a.status, 200);
    EQ_STR(sp_field(&a, "x-ratelimit-limit-requests"), STR("60"));
    EQ_STR(sp_field(&a, "x-ratelimit-limit-tokens"), STR("100000"));
    EQ_STR(sp_field(&a, "x-ratelimit-remaining-requests"), STR("1"));
    sp_answer_done(&a);
    for (unsigned i = 2; i < 12; i++) {
        a = finish(begin(&s, i, 4));
        if (a.status == 429) {
            refused++;
            OK(has(&a, "\"rate_limit_exceeded\"") && sp_field(&a, "retry-after").p);
            EQ_STR(sp_field(&a, "x-ratelimit-remaining-requests"), STR("0"));
        }
        sp_answer_done(&a);
    }
    OK(refused >= 8);
    EQ_INT(sp_number(&s, "/oracle/counts", "\"over_quota\":"), refused);
    a = sp_ask(&s, "/v1/models");
    OK(!sp_field(&a, "x-ratelimit-limit-requests").p);
    sp_answer_done(&a);
    sp_down(&s);
}

TEST(a_quota_that_is_used_up_says_so)
{
    struct sp s = SP_UP("--fault=insufficient-quota=1");
    struct sp_answer a = finish(begin(&s, 1, 4));

    EQ_INT(a.status, 429);
    OK(has(&a, "\"code\":\"insufficient_quota\"") && !sp_field(&a, "retry-after").p);
    sp_answer_done(&a);
    sp_down(&s);
}

TEST(metrics_can_be_somebody_elses_or_nobodys)
{
    static const struct {
        const char *flag, *name;
        unsigned props, info, metrics;
    } rows[] = {{"--metrics=vllm", "vllm:num_requests_running", 404, 404, 200},
                {"--metrics=sglang", "sglang:num_running_reqs", 404, 200, 200},
                {"--metrics=llamacpp", "llamacpp:requests_processing", 200, 404, 200},
                {"--metrics=none", "Not Found", 404, 404, 404}};

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct sp s = SP_UP(rows[i].flag, "--preset=cpu-llamacpp");
        struct sp_answer m = sp_ask(&s, "/metrics"), p = sp_ask(&s, "/props");
        struct sp_answer g = sp_ask(&s, "/get_server_info");

        t_row(rows[i].flag);
        EQ_INT(m.status, rows[i].metrics);
        OK(has(&m, rows[i].name));
        EQ_INT(p.status, rows[i].props);
        EQ_INT(has(&p, "\"total_slots\":4"), p.status == 200);
        EQ_INT(g.status, rows[i].info);
        EQ_INT(has(&g, "\"max_running_requests\":4"), g.status == 200);
        sp_answer_done(&m), sp_answer_done(&p), sp_answer_done(&g);
        sp_down(&s);
    }
}

TEST(metrics_can_be_wrong)
{
    struct sp s = SP_UP("--metrics-fault=500");
    struct sp_answer a = sp_ask(&s, "/metrics");
    struct sp_answer b;
    char some[4096];
    ssize_t n;
    int fd;

    EQ_INT(a.status, 500);
    sp_answer_done(&a);
    sp_down(&s);
    s = SP_UP("--metrics-fault=garbage");
    a = sp_ask(&s, "/metrics");
    EQ_INT(a.status, 200);
    EQ_INT(a.body.n, 512);
    OK(!has(&a, "vllm:"));
    sp_answer_done(&a);
    sp_down(&s);
    s = SP_UP("--metrics-fault=slow");
    fd = sp_connect(&s);
    sp_get(fd, "/metrics");
    usleep(300000); /* 100 bytes a second */
    n = recv(fd, some, sizeof some, MSG_DONTWAIT);
    OK(n > 0 && n < 400);
    close(fd);
    sp_down(&s);
    s = SP_UP("--metrics-fault=stale");
    a = sp_ask(&s, "/metrics");
    EQ_INT(a.status, 200);
    EQ_INT(status_of(&s, 1), 200);
    b = sp_ask(&s, "/metrics");
    EQ_STR(b.body, a.body);
    sp_answer_done(&a), sp_answer_done(&b);
    sp_down(&s);
}

TEST(metrics_can_be_wrong_for_a_while)
{
    struct sp s = SP_UP("--schedule=metrics-500@0+200ms");
    struct sp_answer a = sp_ask(&s, "/metrics");

    EQ_INT(a.status, 500);
    sp_answer_done(&a);
    usleep(250000);
    a = sp_ask(&s, "/metrics");
    EQ_INT(a.status, 200);
    sp_answer_done(&a);
    sp_down(&s);
}

TEST(a_model_that_is_unloaded_is_not_found_until_it_is_back)
{
    struct sp s = SP_UP("--schedule=unload@0+300ms");
    struct sp_answer a = sp_ask(&s, "/v1/models"), b = sp_ask(&s, "/v1/models/sim-model");

    EQ_INT(status_of(&s, 1), 404);
    EQ_INT(a.status, 200);
    OK(has(&a, "\"data\":[]"));
    EQ_INT(b.status, 404);
    sp_answer_done(&a), sp_answer_done(&b);
    usleep(350000);
    EQ_INT(status_of(&s, 1), 200);
    a = sp_ask(&s, "/v1/models");
    OK(has(&a, "\"id\":\"sim-model\""));
    sp_answer_done(&a);
    sp_down(&s);
}

#define HITS "prefix_cache_hits_total{engine=\"0\",model_name=\"sim-model\"} "

TEST(a_crash_loses_connections_cache_and_counters)
{
    struct sp s =
        SP_UP("--preset=h100-8b", "--speed=100", "--schedule=crash@500ms+200ms");
    struct sp_answer a;
    int fd;

    EQ_INT(status_of(&s, 1), 200);
    EQ_INT(status_of(&s, 2), 200);
    EQ_INT(sp_number(&s, "/metrics", HITS), 400);
    fd = begin(&s, 3, 100000); /* 650 s of the model */
    a = finish(fd);
    EQ_INT(a.status, 0);
    sp_answer_done(&a);
    OK(sp_try(&s) < 0);
    wait_until_up(&s);
    EQ_INT(sp_number(&s, "/oracle/counts", "\"crashes\":"), 1);
    EQ_INT(status_of(&s, 4), 200);
    EQ_INT(sp_number(&s, "/metrics", HITS), 0);
    EQ_INT(status_of(&s, 5), 200);
    EQ_INT(sp_number(&s, "/metrics", HITS), 400);
    sp_down(&s);
}

TEST(memory_can_be_less_for_a_while)
{
    struct sp s = SP_UP("--preset=h100-8b", "--speed=100", "--kv-tokens=1600",
                        "--schedule=shrink@300ms+400ms:25%");

    EQ_INT(status_of(&s, 1), 200);
    sp_until(&s, "/oracle/counts", "\"crashes\":", 1); /* it is another process */
    EQ_INT(status_of(&s, 1), 400);                     /* 400 tokens are too few */
    sp_until(&s, "/oracle/counts", "\"crashes\":", 2);
    EQ_INT(status_of(&s, 1), 200);
    sp_down(&s);
}

static usec_t time_of(const struct sp *s, unsigned number)
{
    usec_t start = clock_mono();

    EQ_INT(status_of(s, number), 200);
    return clock_mono() - start;
}

TEST(one_replica_can_be_slow_for_a_while)
{
    struct sp a = SP_UP("--replicas=2", "--latency=20ms", "--schedule=slow@0+400ms:10#2");
    struct sp b = a;

    b.port = sp_port(a.out);
    OK(time_of(&a, 1) < 150 * USEC_PER_MS);
    OK(time_of(&b, 1) >= 200 * USEC_PER_MS);
    usleep(400000);
    OK(time_of(&b, 2) < 150 * USEC_PER_MS);
    sp_down(&a);
}

TEST(another_replica_is_another_draw_of_faults)
{
    struct sp a = SP_UP("--replicas=2", "--fault=500=50%");
    struct sp b = a;
    unsigned differ = 0;

    b.port = sp_port(a.out);
    for (unsigned i = 0; i < 100; i++)
        differ += status_of(&a, i) != status_of(&b, i);
    OK(differ > 20 && differ < 80);
    sp_down(&a);
}

TEST(people_who_chat_are_counted_and_summed_up_at_the_end)
{
    struct sp s = SP_UP("--preset=h100-8b", "--speed=100", "--interactive=20");
    struct sp_answer a;
    char said[1024];
    long turns = 0;

    for (int i = 0; i < 500 && turns < 50; i++) {
        usleep(10000);
        turns = sp_number(&s, "/oracle/counts", "\"interactive\":{\"turns\":");
    }
    OK(turns >= 50);
    a = sp_ask(&s, "/oracle/counts");
    OK(has(&a, "\"ttft_ms\":{\"p50\":") && has(&a, "\"late_us\":"));
    sp_answer_done(&a);
    kill(s.pid, SIGTERM);
    EQ_INT(sp_wait(&s, said, sizeof said), 0);
    OK(strstr(said, " interactive turns, ") && strstr(said, "first token p50 0.0"));
}
