/* SPDX-License-Identifier: Apache-2.0 */
#include "app/setting.h"

#include "base/mem.h"

#include <ctype.h>
#include <stdio.h>

#define SEC       ((uint64_t)USEC_PER_SEC)
#define MINUTE    (60 * SEC)
#define HOUR      (60 * MINUTE)
#define DAY       (24 * HOUR)
#define MS        ((uint64_t)USEC_PER_MS)
#define KIB       ((uint64_t)1 << 10)
#define GIB       ((uint64_t)1 << 30)
#define BOTH      (SETTING_SERVE | SETTING_RUN)
#define AT(field) offsetof(struct config, field)

/* clang-format off: one row a key */
const struct setting settings[] = {
    {"server", "listen", SETTING_LISTEN, AT(listen), "127.0.0.1:8080", 0, 0,
     SETTING_SERVE, false, "Address and port to serve HTTP on; port 0 picks a free one."},
    {"server", "insecure_listen", SETTING_BOOL, AT(insecure_listen), "no", 0, 0,
     SETTING_SERVE, false,
     "Listen on an address beyond loopback although no API key is asked for."},
    {"server", "data_dir", SETTING_PATH, AT(data_dir), "./batchd-data", 0, 0,
     SETTING_SERVE, false, "Directory that holds everything; made when it is not there."},
    {"server", "drain_timeout", SETTING_TIME, AT(drain_timeout), "10s", 0, HOUR, BOTH,
     true,
     "How long requests in flight may take to end when the program is told to stop."},
    {"server", "log_level", SETTING_LEVEL, AT(log_level), "info", 0, 0, BOTH, true,
     "Least level of the events that are logged."},
    {"server", "disk_warn", SETTING_SIZE, AT(disk_warn), "1G", 0, 1024 * GIB,
     SETTING_SERVE, true,
     "Warn when the data directory's disk has less room than this; 0 never warns."},
    {"server", "http_threads", SETTING_UINT, AT(http_threads), "2", 1, 64, SETTING_SERVE,
     false, "Threads that serve connections."},
    {"server", "http_workers", SETTING_UINT, AT(http_workers), "4", 1, 256, SETTING_SERVE,
     false, "Threads that answer requests."},
    {"server", "max_connections", SETTING_UINT, AT(max_connections), "8192", 1, 1000000,
     SETTING_SERVE, false,
     "Most client connections at a time; lowered to what the file limit allows."},
    {"server", "client_timeout", SETTING_TIME, AT(client_timeout), "1m", SEC, HOUR,
     SETTING_SERVE, false, "A client connection without a byte for so long is closed."},

    {"dispatch", "max_inflight", SETTING_UINT, AT(max_inflight), "64", 1, LIMIT_INFLIGHT,
     BOTH, false, "Most requests in flight to one upstream."},
    {"dispatch", "max_attempts", SETTING_UINT, AT(max_attempts), "5", 1, 1000, BOTH,
     false, "How often a line may fail before its failure is its result."},
    {"dispatch", "connect_timeout", SETTING_TIME, AT(connect_timeout), "5s", 10 * MS,
     10 * MINUTE, BOTH, false, "Most time to connect to an upstream."},
    {"dispatch", "idle_timeout", SETTING_TIME, AT(idle_timeout), "10m", SEC, DAY, BOTH,
     false, "A request without a byte from its upstream for so long is given up."},
    {"dispatch", "total_timeout", SETTING_TIME, AT(total_timeout), "0s", 0, 30 * DAY,
     BOTH, false,
     "Most time for a request as a whole; 0s leaves it to the batch's deadline."},
    {"dispatch", "cancel_timeout", SETTING_TIME, AT(cancel_timeout), "10m", SEC, DAY,
     BOTH, false,
     "How long a cancelled or expired batch waits for its requests in flight."},
    {"dispatch", "retry_base", SETTING_TIME, AT(retry_base), "1s", MS, HOUR, BOTH, false,
     "First pause before a line is tried again; it doubles with each failure."},
    {"dispatch", "retry_cap", SETTING_TIME, AT(retry_cap), "1m", MS, DAY, BOTH, false,
     "Longest pause before a line is tried again."},
    {"dispatch", "sync_interval", SETTING_TIME, AT(sync_interval), "20ms", MS, 10 * SEC,
     BOTH, false, "Results are written and synced to disk at least so often."},
    {"dispatch", "max_answer", SETTING_SIZE, AT(max_answer), "64M", KIB, GIB, BOTH, false,
     "Largest answer taken from an upstream; a larger one fails its line."},
    {"dispatch", "workers", SETTING_UINT, AT(workers), "2", 1, 64, BOTH, false,
     "Threads that validate input, sync results and write output files."},

    {"limits", "max_lines", SETTING_UINT, AT(max_lines), "50000", 1, LIMIT_LINES_EVER,
     SETTING_SERVE | SETTING_CHECK, false, "Most requests in one batch."},
    {"limits", "max_inputs", SETTING_UINT, AT(max_inputs), "50000", 1, UINT32_MAX,
     SETTING_SERVE | SETTING_CHECK, false, "Most embedding inputs in one batch."},
    {"limits", "max_file_size", SETTING_SIZE, AT(max_file_size), "200M", KIB, 1024 * GIB,
     SETTING_SERVE | SETTING_CHECK, false, "Largest input file."},
    {"limits", "max_line_size", SETTING_SIZE, AT(max_line_size), "32M", KIB,
     LIMIT_LINE_BYTES, BOTH | SETTING_CHECK, false, "Longest line of an input file."},
    {"limits", "many_models", SETTING_BOOL, AT(many_models), "no", 0, 0,
     BOTH | SETTING_CHECK, false, "Take batches whose lines name different models."},
    {"limits", "min_window", SETTING_TIME, AT(min_window), "1s", SEC, 30 * DAY,
     SETTING_SERVE, false, "Shortest completion_window a client may ask for."},
    {"limits", "max_window", SETTING_TIME, AT(max_window), "30d", SEC, 30 * DAY,
     SETTING_SERVE, false, "Longest completion_window a client may ask for."},

    {"files", "input_expires", SETTING_TIME, AT(input_expires), "30d", 0, 3650 * DAY,
     SETTING_SERVE, false,
     "Uploaded batch inputs are deleted after so long unless the upload says otherwise; 0s never."},
    {"files", "output_expires", SETTING_TIME, AT(output_expires), "0s", 0, 3650 * DAY,
     SETTING_SERVE, false,
     "Output and error files are deleted so long after their batch ended; 0s never."},
};
const size_t n_settings = COUNTOF(settings);
_Static_assert(COUNTOF(settings) == CONFIG_SETTINGS, "config.h counts the rows");

#undef AT
#define AT(field) offsetof(struct config_upstream, field)

const struct setting upstream_settings[] = {
    {"upstream", "url", SETTING_URL, AT(url), NULL, 0, 0, 0, false,
     "Base URL with its version: http://127.0.0.1:8000/v1."},
    {"upstream", "key_file", SETTING_PATH, AT(key_file), NULL, 0, 0, 0, false,
     "File with the bearer key; a bare name is looked for in $CREDENTIALS_DIRECTORY first."},
    {"upstream", "max_inflight", SETTING_UINT, AT(max_inflight), NULL, 1, LIMIT_INFLIGHT,
     0, false, "Most requests in flight to it; without it the one of [dispatch]."},
    {"upstream", "ca_file", SETTING_PATH, AT(ca_file), NULL, 0, 0, 0, false,
     "Certificates (PEM) to trust; without it the system's."},
    {"upstream", "proxy", SETTING_URL, AT(proxy), NULL, 0, 0, 0, false,
     "HTTP proxy to go through."},
    {"upstream", "insecure", SETTING_BOOL, AT(insecure), "no", 0, 0, 0, false,
     "Do not verify the server's certificate."},
    {"upstream", "models", SETTING_TEXT, AT(models), NULL, 0, 0, 0, false,
     "The models it serves, comma-separated: what GET /v1/models lists."},
};
const size_t n_upstream_settings = COUNTOF(upstream_settings);
/* clang-format on */

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
        [SETTING_TEXT] = "TEXT", [SETTING_PATH] = "PATH", [SETTING_LISTEN] = "HOST:PORT",
        [SETTING_URL] = "URL",   [SETTING_UINT] = "N",    [SETTING_SIZE] = "SIZE",
        [SETTING_TIME] = "TIME", [SETTING_BOOL] = NULL,   [SETTING_LEVEL] = "LEVEL",
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
        [SETTING_LEVEL] = "debug, info, warn or error",
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

void setting_text(const struct setting *s, const void *base, struct buf *out)
{
    const void *p = field_of(s, base);
    char text[SETTING_VALUE_CAP] = "";
    unsigned n;

    switch (s->type) {
    case SETTING_TEXT:
    case SETTING_PATH:
    case SETTING_LISTEN:
    case SETTING_URL:
        if (*(char *const *)p)
            buf_z(out, *(char *const *)p);
        return;
    case SETTING_UINT:
        n = *(const unsigned *)p;
        if (n != 0 || s->min == 0) /* 0 where 0 is not allowed: not set */
            put_number(s, n, text, sizeof text);
        break;
    case SETTING_SIZE:
        put_number(s, *(const uint64_t *)p, text, sizeof text);
        break;
    case SETTING_TIME:
        put_number(s, (uint64_t) * (const usec_t *)p, text, sizeof text);
        break;
    case SETTING_BOOL:
        buf_z(out, *(const bool *)p ? "yes" : "no");
        return;
    case SETTING_LEVEL:
        buf_z(out, levels[*(const enum log_level *)p]);
        return;
    }
    buf_z(out, text);
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
