/* SPDX-License-Identifier: Apache-2.0 */
#include "app/config.h"
#include "app/setting.h"
#include "base/mem.h"
#include "tests/lib/t.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct err e;

/* The environment of whoever runs the tests must not decide them. */
static void clean_environment(void)
{
    char name[SETTING_NAME_CAP];

    for (size_t i = 0; i < n_settings; i++) {
        setting_env(&settings[i], name);
        unsetenv(name);
    }
    unsetenv("BATCHD_UPSTREAM");
    unsetenv("BATCHD_UPSTREAM_KEY_FILE");
    unsetenv("BATCHD_CONFIG");
    unsetenv("CREDENTIALS_DIRECTORY");
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    OK(f != NULL);
    OK(fputs(text, f) >= 0);
    OK(fclose(f) == 0);
}

static struct config load(const struct config_sources *src)
{
    struct config c = {0};

    if (config_load(src, &c, &e) != RC_OK)
        FAIL("%s", e.text);
    return c;
}

static void refuses(const struct config_sources *src, const char *want)
{
    struct config c = {0};

    e.text[0] = '\0';
    EQ_RC(config_load(src, &c, &e), RC_INVALID);
    EQ_Z(e.text, want);
}

static char *text_of(const struct setting *s, const void *base)
{
    struct buf b;
    size_t n;
    char *text;

    buf_init(&b, 8192);
    setting_text(s, base, &b);
    buf_char(&b, '\0');
    text = buf_take(&b, &n);
    OK(text != NULL);
    return text;
}

/* A second table on purpose: a default that changes must be meant. */
static const struct {
    const char *section, *name, *value, *other, *bad;
} rows[] = {
    {"server", "listen", "127.0.0.1:8080", "[::1]:0", "8080"},
    {"server", "insecure_listen", "no", "yes", "maybe"},
    {"server", "data_dir", "./batchd-data", "/var/lib/batchd", ""},
    {"server", "drain_timeout", "10s", "0s", "2h"},
    {"server", "log_level", "info", "debug", "verbose"},
    {"server", "disk_warn", "1G", "0", "1X"},
    {"server", "clock_settle", "1h", "1s", "0s"},
    {"server", "http_threads", "2", "64", "65"},
    {"server", "http_workers", "4", "1", "0"},
    {"server", "max_connections", "8192", "1000000", "1000001"},
    {"server", "client_timeout", "1m", "1h", "500ms"},
    {"server", "compressed_bodies", "no", "yes", "gzip"},
    {"server", "max_expansion", "100", "1", "0"},
    {"dispatch", "max_inflight", "1024", "65536", "65537"},
    {"dispatch", "max_attempts", "5", "1", "0"},
    {"dispatch", "connect_timeout", "5s", "10ms", "9ms"},
    {"dispatch", "idle_timeout", "10m", "1d", "25h"},
    {"dispatch", "total_timeout", "0s", "30d", "31d"},
    {"dispatch", "cancel_timeout", "10m", "1s", "10"},
    {"dispatch", "retry_base", "1s", "1ms", "0s"},
    {"dispatch", "retry_cap", "1m", "1d", "-1s"},
    {"dispatch", "sync_interval", "20ms", "10s", "11s"},
    {"dispatch", "max_answer", "64M", "1G", "2G"},
    {"dispatch", "workers", "2", "64", "two"},
    {"dispatch", "sched_trace", NULL, "/tmp/trace", ""},
    {"dispatch", "admission", "warn", "reject", ""},
    {"dispatch", "models_refresh", "30s", "0s", "25h"},
    {"dispatch", "dedup", "embeddings", "deterministic", "yes"},
    {"limits", "max_lines", "50000", "100000000", "100000001"},
    {"limits", "max_inputs", "50000", "4294967295", "4294967296"},
    {"limits", "max_file_size", "200M", "1T", "1025G"},
    {"limits", "max_line_size", "32M", "1K", "33M"},
    {"limits", "many_models", "no", "yes", "2"},
    {"limits", "min_window", "1s", "1h", "0s"},
    {"limits", "max_window", "30d", "1d", "31d"},
    {"limits", "max_upload_size", "8G", "1K", "1023"},
    {"limits", "max_total_size", "0", "1024T", "1025T"},
    {"limits", "max_inline_size", "16M", "1G", "1025M"},
    {"limits", "project_bytes", "0", "100G", "-1"},
    {"limits", "project_files", "0", "1000", "many"},
    {"limits", "project_batches", "0", "20", "4294967296"},
    {"limits", "project_lines", "0", "2000000", "1.5"},
    {"limits", "project_inflight", "0", "65536", "65537"},
    {"files", "input_expires", "30d", "0s", "30"},
    {"files", "output_expires", "0s", "3650d", "3651d"},
    {"webhooks", "callback_hosts", "", "a.example.org:8443, *.example.net", ""},
    {"webhooks", "callback_private", "no", "yes", "0.5"},
    {"webhooks", "callback_secret_file", "", "/etc/batchd/hook", ""},
    {"webhooks", "webhook_timeout", "10s", "100ms", "99ms"},
    {"webhooks", "webhook_give_up", "3d", "1m", "59s"},
};

TEST(every_key_has_the_default_that_is_written_here)
{
    struct config_sources src = {0};
    struct config c;

    clean_environment();
    c = load(&src);
    EQ_INT(COUNTOF(rows), n_settings);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        const struct setting *s =
            setting_find(str_of(rows[i].section), str_of(rows[i].name));
        char *text;

        t_row(rows[i].name);
        OK(s != NULL);
        text = text_of(s, &c);
        EQ_Z(text, rows[i].value);
        EQ_INT(config_origin(&c, s), CONFIG_DEFAULT);
        mem_free(text);
    }
    EQ_INT(c.n_upstreams, 0);
    config_done(&c);
    config_done(&c);
}

TEST(every_key_is_taken_from_file_environment_and_flag)
{
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        const struct setting *s =
            setting_find(str_of(rows[i].section), str_of(rows[i].name));
        struct config_sources file = {.file = "x.ini"}, none = {0}, flag = {0};
        struct config c[3];
        char text[256], env[SETTING_NAME_CAP];

        t_row(rows[i].name);
        clean_environment();
        snprintf(text, sizeof text, "[%s]\n%s = %s\n", rows[i].section, rows[i].name,
                 rows[i].other);
        write_file("x.ini", text);
        c[0] = load(&file);
        EQ_INT(config_origin(&c[0], s), CONFIG_FILE);
        flag.flags[0].setting = s;
        flag.flags[0].value = rows[i].other;
        flag.n_flags = 1;
        c[1] = load(&flag);
        EQ_INT(config_origin(&c[1], s), CONFIG_FLAG);
        setting_env(s, env);
        setenv(env, rows[i].other, 1);
        c[2] = load(&none);
        EQ_INT(config_origin(&c[2], s), CONFIG_ENVIRONMENT);
        for (int k = 0; k < 3; k++) {
            char *got = text_of(s, &c[k]);

            EQ_Z(got, rows[i].other);
            mem_free(got);
            config_done(&c[k]);
        }
    }
}

TEST(a_bad_value_of_any_key_is_refused_with_what_is_allowed)
{
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        const struct setting *s =
            setting_find(str_of(rows[i].section), str_of(rows[i].name));
        struct config_sources src = {.n_flags = 1};
        char flag[SETTING_NAME_CAP], allowed[SETTING_VALUE_CAP], want[512];

        t_row(rows[i].name);
        clean_environment();
        src.flags[0].setting = s;
        src.flags[0].value = rows[i].bad;
        setting_flag(s, flag);
        setting_allowed(s, allowed);
        snprintf(want, sizeof want, "%s is \"%s\"; it must be %s", flag, rows[i].bad,
                 allowed);
        refuses(&src, want);
    }
}

TEST(flags_win_over_the_environment_which_wins_over_the_file)
{
    const struct setting *s = setting_by_flag(STR("max-inflight"));
    struct config_sources src = {.file = "x.ini"};
    struct config c;

    clean_environment();
    write_file("x.ini", "[dispatch]\nmax_inflight = 7\nmax_attempts = 8\nworkers = 9\n");
    setenv("BATCHD_MAX_INFLIGHT", "17", 1);
    setenv("BATCHD_MAX_ATTEMPTS", "18", 1);
    src.flags[0].setting = s;
    src.flags[0].value = "27";
    src.n_flags = 1;
    c = load(&src);
    EQ_INT(c.max_inflight, 27);
    EQ_INT(c.max_attempts, 18);
    EQ_INT(c.workers, 9);
    config_done(&c);
}

TEST(an_empty_environment_variable_says_nothing)
{
    struct config_sources src = {0};
    struct config c;

    clean_environment();
    setenv("BATCHD_LISTEN", "", 1);
    setenv("BATCHD_UPSTREAM", "", 1);
    c = load(&src);
    EQ_Z(c.listen, "127.0.0.1:8080");
    EQ_INT(c.n_upstreams, 0);
    config_done(&c);
}

TEST(variables_that_kubernetes_makes_up_are_left_alone)
{
    struct config_sources src = {0};
    struct config c;

    clean_environment();
    setenv("BATCHD_PORT", "tcp://10.0.0.1:8080", 1);
    setenv("BATCHD_SERVICE_HOST", "10.0.0.1", 1);
    c = load(&src);
    config_done(&c);
}

TEST(mistakes_in_a_file_are_told_in_one_sentence_with_their_line)
{
    static const struct {
        const char *name, *text, *want;
    } cases[] = {
        {"unknown key", "[server]\n\nlistn = x\n",
         "x.ini:3: there is no key 'listn' in [server]; see batchd.conf(5)"},
        {"key of another section", "[dispatch]\nlisten = 127.0.0.1:1\n",
         "x.ini:2: there is no key 'listen' in [dispatch]; see batchd.conf(5)"},
        {"unknown section", "# hi\n[sever]\n",
         "x.ini:2: there is no section [sever]; there are [server], [dispatch], [limits], "
         "[files], [webhooks], [aliases], [upstream NAME], [webhook NAME] and [project "
         "NAME]"},
        {"no section", "listen = 127.0.0.1:1\n",
         "x.ini:1: 'listen' stands before any [section]"},
        {"bad value", "[dispatch]\n; c\nmax_inflight = many\n",
         "x.ini:3: max_inflight is \"many\"; it must be a whole number from 1 to 65536"},
        {"out of range", "[dispatch]\nmax_inflight = 0\n",
         "x.ini:2: max_inflight is \"0\"; it must be a whole number from 1 to 65536"},
        {"twice", "[server]\nlisten=127.0.0.1:1\n[server]\nlisten=127.0.0.1:2\n",
         "x.ini:4: listen is set twice, first in line 2"},
        {"no equals sign", "[server]\nlisten\n",
         "x.ini:2: the line is neither a [section], a 'key = value' nor a comment"},
        {"open bracket", "[server\n", "x.ini:1: a section ends in ']'"},
        {"upstream without url", "[upstream a]\nkey_file = k\n[server]\n",
         "x.ini:3: [upstream a], which ends here, has no url"},
        {"last upstream without url", "[upstream a]\n",
         "x.ini:1: [upstream a], which ends here, has no url"},
        {"upstream twice", "[upstream a]\nurl=http://h\n[upstream a]\nurl=http://h\n",
         "x.ini:3: there are two sections [upstream a]"},
        {"upstream key twice", "[upstream a]\nurl=http://h\nurl=http://i\n",
         "x.ini:3: url is set twice in [upstream a]"},
        {"upstream name", "[upstream a b]\n",
         "x.ini:1: an upstream's name has letters, digits, '.', '_' and '-' only"},
        {"upstream without name", "[upstream ]\n",
         "x.ini:1: an upstream's name has letters, digits, '.', '_' and '-' only"},
        {"upstream key", "[upstream a]\nurl=http://h\nkey = sk-1\n",
         "x.ini:3: there is no key 'key' in [upstream NAME]; see batchd.conf(5)"},
        {"upstream url", "[upstream a]\nurl = h:80\n",
         "x.ini:2: url is \"h:80\"; it must be http://HOST or https://HOST with port and "
         "path, without a password"},
        {"long section",
         "[upstream aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]\n",
         "x.ini:1: a section's name has at most 48 characters"},
        {"webhook without url", "[webhook w]\nevents = failed\n",
         "x.ini:2: [webhook w], which ends here, has no url"},
        {"webhook name", "[webhook a/b]\n",
         "x.ini:1: a webhook's name has letters, digits, '.', '_' and '-' only"},
        {"project key", "[project p]\nmax_byte = 1\n",
         "x.ini:2: there is no key 'max_byte' in [project NAME]; see batchd.conf(5)"},
        {"project name", "[project Team.A]\n",
         "x.ini:1: there can be no project 'Team.A': a name has lower-case letters, "
         "digits, '_' and '-' only, and begins with a letter or a digit"},
        {"project number", "[project p]\nmax_files = 0\n",
         "x.ini:2: max_files is \"0\"; it must be a whole number from 1 to 4294967295"},
        {"alias without target", "[aliases]\na =\n",
         "x.ini:2: an alias is NAME = MODEL, each of 1 to 256 bytes"},
        {"alias twice", "[aliases]\na = b\nc = b ; fine\na = d\n",
         "x.ini:4: the alias 'a' stands there twice, or is one of more than 256"},
        {"alias of an alias", "[aliases]\na = b\nb = c\n",
         "the alias 'a' stands for 'b', which is an alias itself; name the model that a "
         "server knows"},
        {"retry", "[dispatch]\nretry_base = 2m\n",
         "retry_cap is smaller than retry_base; it must be at least as long"},
        {"window", "[limits]\nmin_window = 2d\nmax_window = 1d\n",
         "max_window is smaller than min_window; it must be at least as long"},
    };

    clean_environment();
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct config_sources src = {.file = "x.ini"};

        t_row(cases[i].name);
        write_file("x.ini", cases[i].text);
        refuses(&src, cases[i].want);
    }
}

TEST(a_password_in_a_url_is_refused_and_not_repeated)
{
    struct config_sources src = {.upstreams = {"http://me:secret@h/v1"},
                                 .n_upstreams = 1};

    clean_environment();
    refuses(&src,
            "--upstream holds a user name or password; it must be http://HOST or "
            "https://HOST with port and path, without a password; keys are read from "
            "files");
}

TEST(crlf_a_byte_order_mark_comments_and_indents_are_fine)
{
    struct config_sources src = {.file = "x.ini"};
    struct config c;

    clean_environment();
    write_file("x.ini",
               "\xEF\xBB\xBF[server]\r\n  # c\r\n; c\r\n\tlisten: [::1]:99 ; c\r\n"
               "   max_connections = 5\r\n\r\n[upstream a]\r\n url = "
               "http://h:1/v1?\r\n");
    refuses(&src, "x.ini:8: url is \"http://h:1/v1?\"; it must be http://HOST or "
                  "https://HOST with port and path, without a password");
    write_file("x.ini",
               "\xEF\xBB\xBF[server]\r\n  # c\r\n; c\r\n\tlisten: [::1]:99 ; c\r\n"
               "   max_connections = 5");
    c = load(&src);
    EQ_Z(c.listen, "[::1]:99");
    EQ_INT(c.max_connections, 5);
    config_done(&c);
}

TEST(a_long_line_is_taken_whole_or_refused_never_cut)
{
    struct config c = {0};
    char text[6000], want[3000];

    memset(want, 'm', sizeof want - 1);
    want[sizeof want - 1] = '\0';
    snprintf(text, sizeof text, "[upstream a]\nurl=http://h\nmodels = %s\n", want);
    EQ_RC(config_parse(&c, str_of(text), "x", &e), RC_OK);
    EQ_Z(c.upstreams[0].models, want);
    config_done(&c);
    memset(text, 'x', 5000);
    text[5000] = '\0';
    EQ_RC(config_parse(&c, str_of(text), "x", &e), RC_INVALID);
    EQ_Z(e.text, "x:1: the line is longer than 4094 bytes");
    config_done(&c);
}

TEST(a_nul_byte_is_no_text)
{
    struct config c = {0};

    EQ_RC(config_parse(&c, STR("[server]\0\nlisten=x\n"), "x", &e), RC_INVALID);
    EQ_Z(e.text, "x holds a NUL byte: it is not a text file");
}

TEST(upstream_sections_are_read_whole)
{
    struct config_sources src = {.file = "x.ini"};
    struct engine_upstream *ups;
    struct engine_opts eo;
    struct config c;
    struct catalog *catalog;

    clean_environment();
    write_file("k", "  sk-test-123\n");
    write_file("x.ini",
               "[upstream gpu-0]\nurl = http://127.0.0.1:8000/v1\nkey_file = k\n"
               "max_inflight = 9\nca_file = /ca\nproxy = http://p:3128\ninsecure = yes\n"
               "models = a, b\n[upstream gpu-1]\nurl = https://h/v1\nmodels=b,,c\n");
    c = load(&src);
    EQ_RC(config_load_keys(&c, &e), RC_OK);
    config_engine(&c, &eo, &ups);
    EQ_INT(eo.n_upstreams, 2);
    EQ_Z(ups[0].name, "gpu-0");
    EQ_Z(ups[0].url, "http://127.0.0.1:8000/v1");
    EQ_Z(ups[0].key, "sk-test-123");
    EQ_INT(ups[0].max_inflight, 9);
    EQ_Z(ups[0].ca_file, "/ca");
    EQ_Z(ups[0].proxy, "http://p:3128");
    OK(ups[0].insecure);
    EQ_Z(ups[1].url, "https://h/v1");
    OK(ups[1].key == NULL && ups[1].max_inflight == 0 && !ups[1].insecure);
    EQ_Z(ups[0].models, "a, b");
    EQ_Z(ups[1].models, "b,,c");
    catalog = config_catalog(&c);
    OK(catalog_serves(catalog, 0, STR("a")) && !catalog_serves(catalog, 1, STR("a")));
    OK(catalog_serves(catalog, 1, STR("c")) && !catalog_knows(catalog, STR("d")));
    catalog_free(catalog);
    mem_free(ups);
    mem_free((void *)(uintptr_t)eo.projects);
    config_done(&c);
}

TEST(webhooks_projects_and_aliases_are_read_and_printed_as_they_are_read)
{
    struct config_sources src = {.file = "x.ini"};
    struct config c, again;
    struct buf one, two;

    clean_environment();
    write_file("x.ini",
               "[aliases]\ngpt-4o-mini = llama3:8b\nllama3:latest=llama3:8b ; c\n"
               "[webhook app]\nurl = https://h/x\nsecret_file = s\n"
               "events = failed\nproject = p\n"
               "[project p]\nmax_bytes = 1G\nmax_inflight = 3\n[project q]\n");
    c = load(&src);
    EQ_INT(c.n_aliases, 2);
    EQ_Z(c.aliases[0].from, "gpt-4o-mini");
    EQ_Z(c.aliases[1].from, "llama3:latest");
    EQ_Z(c.aliases[1].to, "llama3:8b");
    EQ_INT(c.n_webhooks, 1);
    EQ_Z(c.webhooks[0].name, "app");
    EQ_Z(c.webhooks[0].url, "https://h/x");
    EQ_Z(c.webhooks[0].events, "failed");
    EQ_INT(c.n_projects, 2);
    EQ_INT(c.projects[0].max_bytes, (uint64_t)1 << 30);
    EQ_INT(c.projects[0].max_files, 0);
    EQ_INT(c.projects[1].max_inflight, 0);
    buf_init(&one, (size_t)1 << 20);
    buf_init(&two, (size_t)1 << 20);
    config_print(&c, &one);
    EQ_RC(buf_char(&one, '\0'), RC_OK);
    write_file("x.ini", one.p);
    again = load(&src);
    config_print(&again, &two);
    EQ_STR(buf_peek(&two), ((struct str){one.p, one.n - 1}));
    buf_done(&one);
    buf_done(&two);
    config_done(&c);
    config_done(&again);
}

TEST(upstreams_by_url_take_the_place_of_the_files)
{
    struct config_sources src = {.file = "x.ini"};
    struct config c;

    clean_environment();
    write_file("x.ini", "[upstream f]\nurl = http://file/v1\n");
    setenv("BATCHD_UPSTREAM", "http://e1/v1, http://e2/v1,", 1);
    c = load(&src);
    EQ_INT(c.n_upstreams, 2);
    EQ_Z(c.upstreams[0].url, "http://e1/v1");
    EQ_Z(c.upstreams[1].url, "http://e2/v1");
    config_done(&c);
    src.upstreams[0] = "http://flag/v1";
    src.n_upstreams = 1;
    c = load(&src);
    EQ_INT(c.n_upstreams, 1);
    EQ_Z(c.upstreams[0].url, "http://flag/v1");
    config_done(&c);
}

TEST(a_bare_key_file_is_a_credential_first)
{
    char *key;

    clean_environment();
    OK(mkdir("creds", 0700) == 0);
    write_file("creds/gpu", "from-credentials\n");
    write_file("gpu", "from-file\n");
    write_file("other", "other-file\n");
    EQ_RC(config_key_file("gpu", &key, &e), RC_OK);
    EQ_Z(key, "from-file");
    mem_free(key);
    setenv("CREDENTIALS_DIRECTORY", "creds", 1);
    EQ_RC(config_key_file("gpu", &key, &e), RC_OK);
    EQ_Z(key, "from-credentials");
    mem_free(key);
    EQ_RC(config_key_file("./gpu", &key, &e), RC_OK);
    EQ_Z(key, "from-file");
    mem_free(key);
    EQ_RC(config_key_file("other", &key, &e), RC_OK);
    EQ_Z(key, "other-file");
    mem_free(key);
}

TEST(a_key_file_holds_one_printable_key)
{
    static const char *const bad[] = {"", "  \n", "two keys\n", "a\nb\n", "caf\xc3\xa9"};
    char *key, big[5000];

    for (size_t i = 0; i < COUNTOF(bad); i++) {
        write_file("./k", bad[i]);
        EQ_RC(config_key_file("./k", &key, &e), RC_INVALID);
        EQ_Z(e.text, "the key file './k' must hold one key: printable characters without "
                     "spaces");
    }
    memset(big, 'k', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    write_file("./k", big);
    EQ_RC(config_key_file("./k", &key, &e), RC_LIMIT);
    EQ_RC(config_key_file("./none", &key, &e), RC_NOTFOUND);
}

TEST(a_file_that_comes_through_a_pipe_is_read)
{
    struct config_sources src = {.file = "pipe"};
    struct config c;
    int fd;

    clean_environment();
    OK(mkfifo("pipe", 0600) == 0);
    fd = open("pipe", O_RDWR); /* so that opening it for reading does not wait */
    OK(fd >= 0);
    OK(write(fd, "[dispatch]\nworkers = 7\n", 23) == 23);
    OK(fcntl(fd, F_SETFD, FD_CLOEXEC) == 0);
    /* The end of the pipe comes when its last writer goes. */
    if (fork() == 0) {
        usleep(50000);
        _exit(0);
    }
    close(fd);
    c = load(&src);
    EQ_INT(c.workers, 7);
    config_done(&c);
}

TEST(the_printed_configuration_reads_back_as_itself)
{
    struct config_sources src = {.file = "x.ini"}, again = {.file = "y.ini"};
    struct config a, b;
    struct buf one, two;
    FILE *f;

    clean_environment();
    write_file("x.ini", "[server]\nlisten = [::1]:1\ndrain_timeout = 90s\n[dispatch]\n"
                        "max_answer = 1536K\n[upstream u]\nurl = http://h/v1\n"
                        "max_inflight = 3\nmodels = a,b\n");
    a = load(&src);
    buf_init(&one, 1 << 20);
    buf_init(&two, 1 << 20);
    config_print(&a, &one);
    f = fopen("y.ini", "w");
    OK(f && fwrite(one.p, 1, one.n, f) == one.n && fclose(f) == 0);
    b = load(&again);
    config_print(&b, &two);
    EQ_STR(buf_peek(&two), buf_peek(&one));
    for (size_t i = 0; i < n_settings; i++) {
        t_row(settings[i].name);
        OK(setting_same(&settings[i], &a, &b));
    }
    buf_done(&one);
    buf_done(&two);
    config_done(&a);
    config_done(&b);
}

TEST(the_printed_defaults_are_all_comments)
{
    struct config_sources src = {0};
    struct config c;
    struct buf text;
    struct str rest;

    clean_environment();
    c = load(&src);
    buf_init(&text, 1 << 20);
    config_print(&c, &text);
    rest = buf_peek(&text);
    while (rest.n) {
        struct str line = str_cut(&rest, '\n');

        OK(line.n == 0 || strchr("#;[", line.p[0]) != NULL);
    }
    buf_done(&text);
    config_done(&c);
}

static unsigned n_stays;
static const char *stay;

static void stays(void *ctx, const char *name)
{
    (void)ctx;
    n_stays++;
    stay = name;
}

TEST(a_reload_takes_what_may_change_and_names_what_may_not)
{
    struct config_sources src = {.file = "x.ini"};
    struct config c, now;

    clean_environment();
    write_file("x.ini", "[server]\nlog_level = info\n");
    c = load(&src);
    write_file("x.ini",
               "[server]\nlog_level = debug\ndisk_warn = 5G\ndrain_timeout = 3s\n"
               "[dispatch]\nworkers = 3\n");
    now = load(&src);
    config_reload(&c, &now, stays, NULL);
    EQ_INT(c.log_level, LOG_LVL_DEBUG);
    EQ_INT(c.disk_warn, 5ll << 30);
    EQ_INT(c.drain_timeout, 3 * USEC_PER_SEC);
    EQ_INT(c.workers, 2);
    EQ_INT(n_stays, 1);
    EQ_Z(stay, "workers");
    config_done(&now);
    write_file("x.ini", "[upstream u]\nurl = http://h/v1\n");
    now = load(&src);
    n_stays = 0;
    config_reload(&c, &now, stays, NULL);
    EQ_INT(n_stays, 1);
    EQ_Z(stay, "upstream");
    EQ_INT(c.n_upstreams, 0);
    config_done(&now);
    config_done(&c);
}

TEST(loopback_is_told_from_the_rest)
{
    static const struct {
        const char *listen;
        bool want;
    } cases[] = {
        {"127.0.0.1:8080", true},  {"127.9.9.9:0", true},
        {"[::1]:8080", true},      {"localhost:1", true},
        {"0.0.0.0:8080", false},   {"[::]:8080", false},
        {"10.0.0.1:80", false},    {"127.evil.org:80", false},
        {"example.org:80", false}, {"127.0.0.1.example.org:80", false},
    };

    for (size_t i = 0; i < COUNTOF(cases); i++) {
        t_row(cases[i].listen);
        EQ_INT(config_loopback(cases[i].listen), cases[i].want);
    }
}

TEST(engine_options_come_from_the_settings)
{
    struct config_sources src = {.file = "x.ini"};
    struct engine_upstream *ups;
    struct engine_opts o;
    struct config c;

    clean_environment();
    write_file("x.ini",
               "[dispatch]\nmax_inflight=3\nmax_attempts=4\nconnect_timeout=2s\n"
               "idle_timeout=7s\ntotal_timeout=8s\ncancel_timeout=9s\nretry_base=10s\n"
               "retry_cap=11s\nsync_interval=12ms\nmax_answer=13K\nworkers=14\n"
               "dedup=deterministic\n[limits]\n"
               "max_lines=15\nmax_inputs=16\nmax_file_size=17K\nmax_line_size=18K\n"
               "many_models=yes\nproject_lines=20\nproject_inflight=21\n[files]\n"
               "output_expires=19s\n[project a]\nmax_lines=22\n[project b]\n"
               "max_inflight=23\n");
    c = load(&src);
    config_engine(&c, &o, &ups);
    EQ_INT(o.max_inflight, 3);
    EQ_INT(o.max_attempts, 4);
    EQ_INT(o.connect_timeout, 2 * USEC_PER_SEC);
    EQ_INT(o.idle_timeout, 7 * USEC_PER_SEC);
    EQ_INT(o.total_timeout, 8 * USEC_PER_SEC);
    EQ_INT(o.drain_timeout, 9 * USEC_PER_SEC);
    EQ_INT(o.retry_base, 10 * USEC_PER_SEC);
    EQ_INT(o.retry_cap, 11 * USEC_PER_SEC);
    EQ_INT(o.sync_interval, 12 * USEC_PER_MS);
    EQ_INT(o.max_answer, 13 << 10);
    EQ_INT(o.workers, 14);
    EQ_INT(o.max_lines, 15);
    EQ_INT(o.max_inputs, 16);
    EQ_INT(o.max_file_bytes, 17 << 10);
    EQ_INT(o.max_line_bytes, 18 << 10);
    OK(o.many_models);
    EQ_INT(o.dedup, DEDUP_DETERMINISTIC);
    EQ_INT(o.output_expires, 19);
    EQ_INT(o.project_default.max_lines, 20);
    EQ_INT(o.project_default.max_inflight, 21);
    EQ_INT(o.n_projects, 2);
    EQ_Z(o.projects[0].name, "a");
    EQ_INT(o.projects[0].max_lines, 22);
    EQ_INT(o.projects[0].max_inflight, 21); /* left out: as in [limits] */
    EQ_Z(o.projects[1].name, "b");
    EQ_INT(o.projects[1].max_lines, 20);
    EQ_INT(o.projects[1].max_inflight, 23);
    mem_free((void *)(uintptr_t)o.projects);
    mem_free(ups);
    config_done(&c);
}

TEST(names_of_flags_and_variables_follow_from_the_key)
{
    const struct setting *s = setting_find(STR("dispatch"), STR("max_inflight"));
    char text[SETTING_NAME_CAP];

    setting_flag(s, text);
    EQ_Z(text, "--max-inflight");
    setting_env(s, text);
    EQ_Z(text, "BATCHD_MAX_INFLIGHT");
    OK(setting_by_flag(STR("max-inflight")) == s);
    OK(setting_by_flag(STR("max_inflight")) == NULL);
    for (size_t i = 0; i < n_settings; i++)
        for (size_t k = i + 1; k < n_settings; k++)
            OK(strcmp(settings[i].name, settings[k].name) != 0);
}
