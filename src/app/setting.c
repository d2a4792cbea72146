/* SPDX-License-Identifier: Apache-2.0 */
#include "app/setting.h"

#include "base/mem.h"

#include <ctype.h>
#include <stdio.h>

#define SEC      ((uint64_t)USEC_PER_SEC)
#define MINUTE   (60 * SEC)
#define HOUR     (60 * MINUTE)
#define DAY      (24 * HOUR)
#define MS       ((uint64_t)USEC_PER_MS)
#define KIB      ((uint64_t)1 << 10)
#define GIB      ((uint64_t)1 << 30)
#define SERVE    SETTING_SERVE
#define CHECK_IT SETTING_CHECK
#define KEYS     SETTING_KEYS
#define BOTH     (SETTING_SERVE | SETTING_RUN)

/* clang-format off */
/* One row a key; the name is also that of its field.  The columns: section, name, type,
 * default, least, most, commands, taken anew on SIGHUP, documentation. */
#define KEY(section, name, type, value, min, max, commands, reload, doc)                   \
    {#section, #name, SETTING_##type, offsetof(struct config, name), value, min, max,      \
     commands, reload, doc, NULL}

const struct setting settings[] = {
    KEY(server, listen, LISTEN, "127.0.0.1:8080", 0, 0, SERVE, false,
        "Address and port to serve HTTP on; port 0 picks a free one."),
    KEY(server, insecure_listen, BOOL, "no", 0, 0, SERVE, false,
        "Listen on an address beyond loopback also while there are no API keys."),
    KEY(server, data_dir, PATH, "./batchd-data", 0, 0, SERVE | KEYS, false,
        "Directory that holds everything; made when it is not there."),
    KEY(server, drain_timeout, TIME, "10s", 0, HOUR, BOTH, true,
        "How long requests in flight may take to end when the program is told to stop."),
    KEY(server, log_level, LEVEL, "info", 0, 0, BOTH, true,
        "Least level of the events that are logged."),
    KEY(server, disk_warn, SIZE, "1G", 0, 1024 * GIB, SERVE, true,
        "Warn when the data directory's disk has less room than this; 0 never warns."),
    KEY(server, clock_settle, TIME, "1h", SEC, 30 * DAY, BOTH, false,
        "A clock that jumped is believed when it has been steady for so long."),
    KEY(server, http_threads, UINT, "2", 1, 64, SERVE, false,
        "Threads that serve connections."),
    KEY(server, http_workers, UINT, "4", 1, 256, SERVE, false,
        "Threads that answer requests."),
    KEY(server, max_connections, UINT, "8192", 1, 1000000, SERVE, false,
        "Most client connections at a time; lowered to what the file limit allows."),
    KEY(server, client_timeout, TIME, "1m", SEC, HOUR, SERVE, false,
        "A client connection without a byte for so long is closed."),
    KEY(server, compressed_bodies, BOOL, "no", 0, 0, SERVE, false,
        "Take request bodies in gzip or zstd (Content-Encoding); otherwise they are refused."),
    KEY(server, max_expansion, UINT, "100", 1, 100000, SERVE, false,
        "Most bytes that one byte of a compressed body may become; more is refused."),

    KEY(dispatch, max_inflight, UINT, "1024", 1, LIMIT_INFLIGHT, BOTH, false,
        "Most requests in flight to one upstream; it begins with 64 and finds how many are good."),
    KEY(dispatch, max_attempts, UINT, "5", 1, 1000, BOTH, false,
        "How often a line may fail before its failure is its result."),
    KEY(dispatch, connect_timeout, TIME, "5s", 10 * MS, 10 * MINUTE, BOTH, false,
        "Most time to connect to an upstream."),
    KEY(dispatch, idle_timeout, TIME, "10m", SEC, DAY, BOTH, false,
        "A request without a byte from its upstream for so long is given up."),
    KEY(dispatch, total_timeout, TIME, "0s", 0, 30 * DAY, BOTH, false,
        "Most time for a request as a whole; 0s leaves it to the batch's deadline."),
    KEY(dispatch, cancel_timeout, TIME, "10m", SEC, DAY, BOTH, false,
        "How long a cancelled or expired batch waits for its requests in flight."),
    KEY(dispatch, retry_base, TIME, "1s", MS, HOUR, BOTH, false,
        "First pause before a line is tried again; it doubles with each failure."),
    KEY(dispatch, retry_cap, TIME, "1m", MS, DAY, BOTH, false,
        "Longest pause before a line is tried again."),
    KEY(dispatch, sync_interval, TIME, "20ms", MS, 10 * SEC, BOTH, false,
        "Results are written and synced to disk at least so often."),
    KEY(dispatch, max_answer, SIZE, "64M", KIB, GIB, BOTH, false,
        "Largest answer taken from an upstream; a larger one fails its line."),
    KEY(dispatch, workers, UINT, "2", 1, 64, BOTH, false,
        "Threads that validate input, sync results and write output files."),
    KEY(dispatch, sched_trace, PATH, NULL, 0, 0, SERVE, false,
        "A file for what the scheduler is asked and what it answers, to be played again (docs/scheduling.md)."),
    KEY(dispatch, admission, TEXT, "warn", 0, 0, SERVE, false,
        "A batch that would not be in time: warn takes it and tells, reject fails it, idle takes it as idle work."),
    KEY(dispatch, models_refresh, TIME, "30s", 0, DAY, SERVE, false,
        "Upstreams are asked for their models so often; 0s never asks again."),
    KEY(dispatch, dedup, DEDUP, "embeddings", 0, 0, BOTH, false,
        "Lines of a batch that ask the same get one call: of embeddings and moderations, or of all that is deterministic."),

    KEY(limits, max_lines, UINT, "50000", 1, LIMIT_LINES_EVER, SERVE | CHECK_IT, false,
        "Most requests in one batch."),
    KEY(limits, max_inputs, UINT, "50000", 1, UINT32_MAX, SERVE | CHECK_IT, false,
        "Most embedding inputs in one batch."),
    KEY(limits, max_file_size, SIZE, "200M", KIB, 1024 * GIB, SERVE | CHECK_IT, false,
        "Largest input file."),
    KEY(limits, max_line_size, SIZE, "32M", KIB, LIMIT_LINE_BYTES, BOTH | CHECK_IT, false,
        "Longest line of an input file."),
    KEY(limits, many_models, BOOL, "no", 0, 0, BOTH | CHECK_IT, false,
        "Take batches whose lines name different models."),
    KEY(limits, min_window, TIME, "1s", SEC, 30 * DAY, SERVE, false,
        "Shortest completion_window a client may ask for."),
    KEY(limits, max_window, TIME, "30d", SEC, 30 * DAY, SERVE, false,
        "Longest completion_window a client may ask for."),
    KEY(limits, max_upload_size, SIZE, "8G", KIB, 1024 * GIB, SERVE, false,
        "Largest file that is uploaded in parts."),
    KEY(limits, max_total_size, SIZE, "0", 0, 1024 * 1024 * GIB, SERVE, false,
        "Most bytes of all files of all projects together; 0 is no limit."),
    KEY(limits, max_inline_size, SIZE, "16M", KIB, GIB, SERVE, false,
        "Largest request body of a batch whose requests are in the body itself."),
    KEY(limits, project_bytes, SIZE, "0", 0, 1024 * 1024 * GIB, SERVE, false,
        "Most bytes of files in one project; 0 is no limit."),
    KEY(limits, project_files, UINT, "0", 0, UINT32_MAX, SERVE, false,
        "Most files in one project; 0 is no limit."),
    KEY(limits, project_batches, UINT, "0", 0, UINT32_MAX, SERVE, false,
        "Most batches of one project that are not at their end; 0 is no limit."),
    KEY(limits, project_lines, UINT, "0", 0, UINT32_MAX, SERVE, false,
        "Most lines of one project that wait or run; 0 is no limit."),
    KEY(limits, project_inflight, UINT, "0", 0, LIMIT_INFLIGHT, SERVE, false,
        "Most requests of one project in flight; 0 is no limit."),

    KEY(files, input_expires, TIME, "30d", 0, 3650 * DAY, SERVE, false,
        "Uploaded batch inputs are deleted after so long unless the upload says otherwise; 0s never."),
    KEY(files, output_expires, TIME, "0s", 0, 3650 * DAY, SERVE, false,
        "Output and error files are deleted so long after their batch ended; 0s never."),

    KEY(webhooks, callback_hosts, TEXT, NULL, 0, 0, SERVE, false,
        "Hosts that a batch's callback_url may name: HOST, HOST:PORT or *.DOMAIN, comma-separated."),
    KEY(webhooks, callback_private, BOOL, "no", 0, 0, SERVE, false,
        "Call callback_urls also on loopback, private and link-local addresses."),
    KEY(webhooks, callback_secret_file, PATH, NULL, 0, 0, SERVE, false,
        "File with the whsec_ secret that signs calls to a callback_url; several lines during rotation."),
    KEY(webhooks, webhook_timeout, TIME, "10s", 100 * MS, 10 * MINUTE, SERVE, false,
        "Most time for one delivery of a webhook."),
    KEY(webhooks, webhook_give_up, TIME, "3d", MINUTE, 30 * DAY, SERVE, false,
        "A webhook that could not be delivered for so long is given up."),
};
const size_t n_settings = COUNTOF(settings);
_Static_assert(COUNTOF(settings) == CONFIG_SETTINGS, "config.h counts the rows");

/* The columns: name, type, default, least, most, documentation, example. */
#undef KEY
#define KEY(name, type, value, min, max, doc, example)                                     \
    {KIND, #name, SETTING_##type, offsetof(struct STRUCT, name), value, min, max, 0,       \
     false, doc, example}

#define KIND   "upstream"
#define STRUCT config_upstream
const struct setting upstream_settings[] = {
    KEY(url, URL, NULL, 0, 0,
        "Base URL with its version; every upstream needs one.", "http://127.0.0.1:8000/v1"),
    KEY(key_file, PATH, NULL, 0, 0,
        "File with the bearer key; a bare name is looked for in $CREDENTIALS_DIRECTORY first.", "/etc/batchd/gpu.key"),
    KEY(max_inflight, UINT, NULL, 1, LIMIT_INFLIGHT,
        "Most requests in flight to it; without it the one of [dispatch].", "256"),
    KEY(ca_file, PATH, NULL, 0, 0,
        "Certificates (PEM) to trust; without it the system's.", "/etc/ssl/own-ca.pem"),
    KEY(proxy, URL, NULL, 0, 0,
        "HTTP proxy to go through.", "http://proxy.example.org:3128"),
    KEY(insecure, BOOL, "no", 0, 0,
        "Do not verify the server's certificate.", NULL),
    KEY(models, TEXT, NULL, 0, 0,
        "The models it serves, comma-separated, or * for any; without it the server is asked.", "llama-3.3-70b, qwen3-32b"),
    KEY(metrics, TEXT, "auto", 0, 0,
        "Where its metrics are: auto is /metrics beside the API, off asks for none, or a URL.", "http://127.0.0.1:9400/metrics"),
    KEY(hedge, TEXT, "auto", 0, 0,
        "Send a line that is late on it to another one, too: auto where a closed call was seen to stop, on, off.", NULL),
    KEY(window, UINT, NULL, 1, LIMIT_INFLIGHT,
        "Requests in flight to it, always; without it the best number is found.", "128"),
    KEY(reserve, UINT, "45", 1, 95,
        "Percent of its room that idle work leaves to other requests.", NULL),
    KEY(requests_per_minute, UINT, NULL, 1, UINT32_MAX,
        "Its quota of requests; without it what its answers say.", "5000"),
    KEY(tokens_per_minute, UINT, NULL, 1, UINT32_MAX,
        "Its quota of tokens, prompts and answers; without it what its answers say.", "2000000"),
};
#undef KIND
#undef STRUCT

#define KIND   "webhook"
#define STRUCT config_webhook
static const struct setting webhook_settings[] = {
    KEY(url, TEXT, NULL, 0, 0,
        "Where events are sent by POST, an http or https URL; every webhook needs one.", "https://app.example.org/hooks/batchd"),
    KEY(secret_file, PATH, NULL, 0, 0,
        "File with the whsec_ secret that signs; several lines during rotation; every webhook needs one.", "/etc/batchd/hook.secret"),
    KEY(events, TEXT, NULL, 0, 0,
        "What it is told of: completed, failed, expired, cancelled, comma-separated; without it all.", "completed, failed"),
    KEY(project, TEXT, NULL, 0, 0,
        "Only of batches of that project; without it of all.", "default"),
    KEY(ca_file, PATH, NULL, 0, 0,
        "Certificates (PEM) to trust; without it the system's.", "/etc/ssl/own-ca.pem"),
};
#undef KIND
#undef STRUCT

#define KIND   "project"
#define STRUCT config_project
static const struct setting project_settings[] = {
    KEY(max_bytes, SIZE, NULL, 1, 1024 * 1024 * GIB,
        "Most bytes of files in it; without it project_bytes of [limits], and so on.", "100G"),
    KEY(max_files, UINT, NULL, 1, UINT32_MAX,
        "Most files in it.", "1000"),
    KEY(max_batches, UINT, NULL, 1, UINT32_MAX,
        "Most batches of it that are not at their end.", "20"),
    KEY(max_lines, UINT, NULL, 1, UINT32_MAX,
        "Most lines of it that wait or run.", "2000000"),
    KEY(max_inflight, UINT, NULL, 1, LIMIT_INFLIGHT,
        "Most requests of it in flight.", "32"),
    KEY(weight, UINT, NULL, 1, 1000,
        "Its share of the work beside other projects; without it 1.", "3"),
};
#undef KIND
#undef STRUCT
/* clang-format on */

#define KIND(id, name, a, type, field, most, needs)                                      \
    [KIND_##id] = {#name,                                                                \
                   a,                                                                    \
                   name##_settings,                                                      \
                   COUNTOF(name##_settings),                                             \
                   sizeof(struct type),                                                  \
                   offsetof(struct config, field),                                       \
                   offsetof(struct config, n_##field),                                   \
                   most,                                                                 \
                   needs}

const struct setting_kind setting_kinds[KIND_COUNT] = {
    KIND(UPSTREAM, upstream, "an", config_upstream, upstreams, LIMIT_UPSTREAMS, "url"),
    KIND(WEBHOOK, webhook, "a", config_webhook, webhooks, LIMIT_WEBHOOKS, "url"),
    KIND(PROJECT, project, "a", config_project, projects, LIMIT_PROJECTS, NULL),
};

static void *field(const struct setting *s, void *base)
{
    return (char *)base + s->offset;
}

static const void *field_of(const struct setting *s, const void *base)
{
    return (const char *)base + s->offset;
}

static bool is_text(const struct setting *s)
{
    return s->type <= SETTING_URL;
}

/* --- Names ------------------------------------------------------------------------- */

const struct setting *setting_find(struct str section, struct str name)
{
    for (size_t i = 0; i < n_settings; i++)
        if (str_is(section, settings[i].section) && str_is(name, settings[i].name))
            return &settings[i];
    return NULL;
}

const struct setting *setting_by_flag(struct str flag)
{
    char name[SETTING_NAME_CAP];

    for (size_t i = 0; i < n_settings; i++) {
        setting_flag(&settings[i], name);
        if (str_is(flag, name + 2))
            return &settings[i];
    }
    return NULL;
}

void setting_flag(const struct setting *s, char ret[SETTING_NAME_CAP])
{
    CHECK(str_fmt(ret, SETTING_NAME_CAP, "--%s", s->name) == RC_OK);
    for (char *c = ret; *c; c++)
        if (*c == '_')
            *c = '-';
}

void setting_env(const struct setting *s, char ret[SETTING_NAME_CAP])
{
    CHECK(str_fmt(ret, SETTING_NAME_CAP, "BATCHD_%s", s->name) == RC_OK);
    for (char *c = ret; *c; c++)
        *c = (char)toupper((unsigned char)*c);
}

const char *setting_metavar(const struct setting *s)
{
    static const char *const names[] = {
        [SETTING_TEXT] = "TEXT",  [SETTING_PATH] = "PATH", [SETTING_LISTEN] = "HOST:PORT",
        [SETTING_URL] = "URL",    [SETTING_UINT] = "N",    [SETTING_SIZE] = "SIZE",
        [SETTING_TIME] = "TIME",  [SETTING_BOOL] = NULL,   [SETTING_LEVEL] = "LEVEL",
        [SETTING_DEDUP] = "MODE",
    };

    return names[s->type];
}

/* --- Values as text ---------------------------------------------------------------- */

static const struct unit {
    uint64_t size;
    const char *name;
} sizes[] = {{1024 * GIB, "T"}, {GIB, "G"}, {1024 * KIB, "M"}, {KIB, "K"}, {1, ""}},
  times[] = {{DAY, "d"}, {HOUR, "h"}, {MINUTE, "m"}, {SEC, "s"}, {MS, "ms"}};

/* In the largest unit that leaves a whole number, as an operator would write it. */
static void put_in_units(char *dst, size_t cap, const struct unit *units, size_t n,
                         const char *zero, uint64_t v)
{
    if (v == 0) {
        CHECK(str_fmt(dst, cap, "%s", zero) == RC_OK);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (v % units[i].size == 0) {
            CHECK(str_fmt(dst, cap, "%llu%s", (unsigned long long)(v / units[i].size),
                          units[i].name) == RC_OK);
            return;
        }
    }
    PANIC("%llu has no unit", (unsigned long long)v); /* parsers give whole units only */
}

static void put_number(const struct setting *s, uint64_t v, char *dst, size_t cap)
{
    if (s->type == SETTING_SIZE)
        put_in_units(dst, cap, sizes, COUNTOF(sizes), "0", v);
    else if (s->type == SETTING_TIME)
        put_in_units(dst, cap, times, COUNTOF(times), "0s", v);
    else
        CHECK(str_fmt(dst, cap, "%llu", (unsigned long long)v) == RC_OK);
}

void setting_allowed(const struct setting *s, char ret[SETTING_VALUE_CAP])
{
    static const char *const what[] = {
        [SETTING_TEXT] = "text",
        [SETTING_PATH] = "a path",
        [SETTING_LISTEN] = "HOST:PORT, as 127.0.0.1:8080 or [::1]:8080",
        [SETTING_URL] =
            "http://HOST or https://HOST with port and path, without a password",
        [SETTING_UINT] = "a whole number",
        [SETTING_SIZE] = "a size (K, M, G, T)",
        [SETTING_TIME] = "a time (ms, s, m, h, d)",
        [SETTING_BOOL] = "yes or no",
        [SETTING_LEVEL] = "one of debug, info, warn and error",
        [SETTING_DEDUP] = "one of off, embeddings and deterministic",
    };
    char min[32], max[32];

    if (s->max == 0) {
        CHECK(str_fmt(ret, SETTING_VALUE_CAP, "%s", what[s->type]) == RC_OK);
        return;
    }
    put_number(s, s->min, min, sizeof min);
    put_number(s, s->max, max, sizeof max);
    CHECK(str_fmt(ret, SETTING_VALUE_CAP, "%s from %s to %s", what[s->type], min, max) ==
          RC_OK);
}

static const char *const levels[] = {"debug", "info", "warn", "error"};

#define X(name, text) [DEDUP_##name] = (text),
static const char *const dedups[] = {DEDUP_LIST(X)};
#undef X

static uint64_t number_of(const struct setting *s, const void *p)
{
    if (s->type == SETTING_UINT)
        return *(const unsigned *)p;
    return s->type == SETTING_SIZE ? *(const uint64_t *)p
                                   : (uint64_t) * (const usec_t *)p;
}

void setting_text(const struct setting *s, const void *base, struct buf *out)
{
    const void *p = field_of(s, base);
    char text[SETTING_VALUE_CAP];
    uint64_t n;

    switch (s->type) {
    case SETTING_TEXT:
    case SETTING_PATH:
    case SETTING_LISTEN:
    case SETTING_URL:
        if (*(char *const *)p)
            buf_z(out, *(char *const *)p);
        break;
    case SETTING_UINT:
    case SETTING_SIZE:
    case SETTING_TIME:
        n = number_of(s, p);
        if (n == 0 && s->min > 0)
            break; /* 0 where 0 is not allowed: not set */
        put_number(s, n, text, sizeof text);
        buf_z(out, text);
        break;
    case SETTING_BOOL:
        buf_z(out, *(const bool *)p ? "yes" : "no");
        break;
    case SETTING_LEVEL:
        buf_z(out, levels[*(const enum log_level *)p]);
        break;
    case SETTING_DEDUP:
        buf_z(out, dedups[*(const enum dedup_mode *)p]);
        break;
    }
}

/* --- Text to values ---------------------------------------------------------------- */

static bool printable(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return false;
    return true;
}

static bool port_ok(struct str s)
{
    uint64_t port;

    return str_u64(s, &port) == RC_OK && port <= 65535;
}

/* HOST:PORT with an IPv6 address in brackets: a bare one has no clear end. */
static bool listen_ok(struct str s)
{
    size_t colon = s.n;

    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == ':')
            colon = i;
    if (colon == s.n || colon == 0 || colon > 255)
        return false;
    if (s.p[0] == '[')
        return colon > 2 && s.p[colon - 1] == ']' &&
               port_ok((struct str){s.p + colon + 1, s.n - colon - 1});
    for (size_t i = 0; i < colon; i++)
        if (!isalnum((unsigned char)s.p[i]) && !strchr(".-_", s.p[i]))
            return false;
    return port_ok((struct str){s.p + colon + 1, s.n - colon - 1});
}

/* No '@': a password would be seen by every user who runs ps(1); keys come from files. */
bool setting_url_ok(struct str s)
{
    struct str host = s;
    size_t n = 0;

    if (str_starts(s, STR("http://")))
        host.p += 7, host.n -= 7;
    else if (str_starts(s, STR("https://")))
        host.p += 8, host.n -= 8;
    else
        return false;
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= ' ' || (unsigned char)s.p[i] > '~' ||
            strchr("@?#\\\"<>", s.p[i]))
            return false;
    while (n < host.n && host.p[n] != '/')
        n++;
    return n > 0 && host.p[0] != ':' && s.n <= 2000;
}

static bool in_range(const struct setting *s, uint64_t v)
{
    return v >= s->min && v <= s->max;
}

static bool set_number(const struct setting *s, void *p, struct str text)
{
    uint64_t v;
    usec_t t;

    if (s->type == SETTING_TIME) {
        if (str_duration(text, &t) != RC_OK || !in_range(s, (uint64_t)t))
            return false;
        *(usec_t *)p = t;
    } else if (s->type == SETTING_SIZE) {
        if (str_size(text, &v) != RC_OK || !in_range(s, v))
            return false;
        *(uint64_t *)p = v;
    } else {
        if (str_u64(text, &v) != RC_OK || !in_range(s, v))
            return false;
        *(unsigned *)p = (unsigned)v;
    }
    return true;
}

static bool set_level(void *p, struct str text)
{
    for (size_t i = 0; i < COUNTOF(levels); i++) {
        if (str_is(text, levels[i])) {
            *(enum log_level *)p = (enum log_level)i;
            return true;
        }
    }
    return false;
}

static bool set_dedup(void *p, struct str text)
{
    for (size_t i = 0; i < COUNTOF(dedups); i++) {
        if (str_is(text, dedups[i])) {
            *(enum dedup_mode *)p = (enum dedup_mode)i;
            return true;
        }
    }
    return false;
}

static bool set_text(const struct setting *s, char **p, struct str text)
{
    if (text.n == 0 || text.n >= 4096 || !printable(text))
        return false;
    if (s->type == SETTING_LISTEN && !listen_ok(text))
        return false;
    if (s->type == SETTING_URL && !setting_url_ok(text))
        return false;
    mem_free(*p);
    *p = mem_dup(text.p, text.n);
    return true;
}

static bool set(const struct setting *s, void *p, struct str text)
{
    bool yes;

    switch (s->type) {
    case SETTING_TEXT:
    case SETTING_PATH:
    case SETTING_LISTEN:
    case SETTING_URL:
        return set_text(s, p, text);
    case SETTING_UINT:
    case SETTING_SIZE:
    case SETTING_TIME:
        return set_number(s, p, text);
    case SETTING_BOOL:
        if (str_bool(text, &yes) != RC_OK)
            return false;
        *(bool *)p = yes;
        return true;
    case SETTING_LEVEL:
        return set_level(p, text);
    case SETTING_DEDUP:
        return set_dedup(p, text);
    }
    return false;
}

enum rc setting_set(const struct setting *s, void *base, struct str text,
                    const char *where, struct err *e)
{
    char allowed[SETTING_VALUE_CAP], value[80];

    if (set(s, field(s, base), text))
        return RC_OK;
    setting_allowed(s, allowed);
    /* A URL that was refused may hold a password: it must not get into a log. */
    if (s->type == SETTING_URL && memchr(text.p, '@', text.n))
        return err_set(e, RC_INVALID,
                       "%s holds a user name or password; it must be %s; keys are read "
                       "from files",
                       where, allowed);
    return err_set(e, RC_INVALID, "%s is %s; it must be %s", where,
                   log_q(value, sizeof value, text.p, text.n), allowed);
}

bool setting_same(const struct setting *s, const void *base_a, const void *base_b)
{
    struct buf a, b;
    bool same;

    buf_init(&a, 8192);
    buf_init(&b, 8192);
    setting_text(s, base_a, &a);
    setting_text(s, base_b, &b);
    same = str_eq(buf_peek(&a), buf_peek(&b));
    buf_done(&a);
    buf_done(&b);
    return same;
}

void setting_copy(const struct setting *s, void *dst, const void *src)
{
    struct buf text;

    buf_init(&text, 8192);
    setting_text(s, src, &text);
    if (text.n)
        CHECK(setting_set(s, dst, buf_peek(&text), s->name, NULL) == RC_OK);
    else
        setting_drop(s, dst);
    buf_done(&text);
}

void setting_drop(const struct setting *s, void *base)
{
    if (is_text(s)) {
        char **p = field(s, base);

        mem_free(*p);
        *p = NULL;
    }
}
