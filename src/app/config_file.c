/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_file: the INI file of the settings, read through libinih, which is handed one line
 * at a time: that is how line numbers are known, and how a line that it would cut is
 * refused instead.
 */
#include "app/config.h"
#include "app/setting.h"

#include "base/mem.h"

#include <ini.h>
#include <stdarg.h>
#include <stdio.h>

/* libinih cuts longer section names (its MAX_SECTION is 50) without a word. */
#define SECTION_MAX      48
#define LINE_MAX_OF_FILE 4096

/* A name in Debian's build of libinih, where it is 200 by default; elsewhere a macro. */
extern int ini_max_line __attribute__((weak));

struct file_walk {
    struct config *config;
    const char *name;
    struct str rest;
    unsigned line;
    unsigned seen[CONFIG_SETTINGS]; /* line that set it; 0: none */
    char section[SECTION_MAX + 1];
    struct config_upstream *upstream; /* of the section we are in */
    uint32_t upstream_seen;           /* bit i: upstream_settings[i] was set here */
    enum rc rc;
    struct err *e;
};

PRINTF_FMT(2, 3) static void refuse(struct file_walk *w, const char *fmt, ...)
{
    char text[400];
    va_list ap;

    if (w->rc != RC_OK)
        return; /* the first mistake is the one to tell */
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    w->rc = err_set(w->e, RC_INVALID, "%s:%u: %s", w->name, w->line, text);
}

static bool upstream_name_ok(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!memchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-",
                    s.p[i], 65))
            return false;
    return s.n > 0;
}

static void open_upstream(struct file_walk *w, struct str name)
{
    struct config *c = w->config;

    if (!upstream_name_ok(name)) {
        refuse(w, "an upstream's name has letters, digits, '.', '_' and '-' only");
        return;
    }
    for (size_t i = 0; i < c->n_upstreams; i++) {
        if (c->upstreams[i].name && str_is(name, c->upstreams[i].name)) {
            refuse(w, "there are two sections [upstream %.*s]", STR_ARG(name));
            return;
        }
    }
    w->upstream = config_add_upstream(c);
    w->upstream_seen = 0;
    if (!w->upstream) {
        refuse(w, "there are more than %d upstreams", LIMIT_UPSTREAMS);
        return;
    }
    w->upstream->name = mem_dup(name.p, name.n);
}

/* The section that was open is over: it must have been whole. */
static void close_section(struct file_walk *w)
{
    if (w->upstream && !w->upstream->url)
        refuse(w, "[upstream %s], which ends here, has no url", w->upstream->name);
    w->upstream = NULL;
}

static void open_section(struct file_walk *w, struct str line)
{
    const char *end = memchr(line.p, ']', line.n);
    struct str name;

    close_section(w);
    if (!end) {
        refuse(w, "a section ends in ']'");
        return;
    }
    name = (struct str){line.p + 1, (size_t)(end - line.p) - 1};
    if (name.n > SECTION_MAX) {
        refuse(w, "a section's name has at most %d characters", SECTION_MAX);
        return;
    }
    memcpy(w->section, name.p, name.n);
    w->section[name.n] = '\0';
    if (str_starts(name, STR("upstream "))) {
        open_upstream(w, str_trim((struct str){name.p + 9, name.n - 9}));
        return;
    }
    for (size_t i = 0; i < n_settings; i++)
        if (str_is(name, settings[i].section))
            return;
    refuse(w,
           "there is no section [%s]; there are [server], [dispatch], [limits], "
           "[files] and [upstream NAME]",
           w->section);
}

static char *next_line(char *dst, int cap, void *ctx)
{
    struct file_walk *w = ctx;
    struct str line;

    if (w->rest.n == 0 || w->rc != RC_OK)
        return NULL;
    /* White space in front would mean the value before goes on; here it means nothing. */
    line = str_trim(str_cut(&w->rest, '\n'));
    w->line++;
    if (w->line == 1 && str_starts(line, STR("\xEF\xBB\xBF")))
        line = str_trim((struct str){line.p + 3, line.n - 3});
    if (line.n + 2 > (size_t)cap) {
        refuse(w, "the line is longer than %d bytes", cap - 2);
        return NULL;
    }
    if (line.n && line.p[0] == '[')
        open_section(w, line);
    memcpy(dst, line.p, line.n);
    memcpy(dst + line.n, "\n", 2);
    return w->rc == RC_OK ? dst : NULL;
}

static void set_upstream(struct file_walk *w, struct str name, struct str value)
{
    for (size_t i = 0; i < n_upstream_settings; i++) {
        char where[160];

        if (!str_is(name, upstream_settings[i].name))
            continue;
        if (w->upstream_seen & (uint32_t)1 << i) {
            refuse(w, "%s is set twice in [%s]", upstream_settings[i].name, w->section);
            return;
        }
        w->upstream_seen |= (uint32_t)1 << i;
        CHECK(str_fmt(where, sizeof where, "%.100s:%u: %s", w->name, w->line,
                      upstream_settings[i].name) == RC_OK);
        w->rc = setting_set(&upstream_settings[i], w->upstream, value, where, w->e);
        return;
    }
    refuse(w, "there is no key '%.*s' in [upstream NAME]; see batchd.conf(5)",
           STR_ARG(name));
}

static void set_key(struct file_walk *w, struct str name, struct str value)
{
    const struct setting *s = setting_find(str_of(w->section), name);
    char where[160];
    size_t i;

    if (!s && w->section[0] == '\0') {
        refuse(w, "'%.*s' stands before any [section]", STR_ARG(name));
        return;
    }
    if (!s) {
        refuse(w, "there is no key '%.*s' in [%s]; see batchd.conf(5)", STR_ARG(name),
               w->section);
        return;
    }
    i = (size_t)(s - settings);
    if (w->seen[i]) {
        refuse(w, "%s is set twice, first in line %u", s->name, w->seen[i]);
        return;
    }
    w->seen[i] = w->line;
    w->config->origin[i] = CONFIG_FILE;
    CHECK(str_fmt(where, sizeof where, "%.100s:%u: %s", w->name, w->line, s->name) ==
          RC_OK);
    w->rc = setting_set(s, w->config, value, where, w->e);
}

static int take_pair(void *ctx, const char *section, const char *name, const char *value)
{
    struct file_walk *w = ctx;

    (void)section; /* ours is the uncut one */
    if (w->rc == RC_OK && w->upstream)
        set_upstream(w, str_of(name), str_of(value));
    else if (w->rc == RC_OK)
        set_key(w, str_of(name), str_of(value));
    return w->rc == RC_OK;
}

enum rc config_parse(struct config *c, struct str text, const char *name, struct err *e)
{
    struct file_walk w = {.config = c, .name = name, .rest = text, .e = e};
    int bad;

    if (text.n && memchr(text.p, '\0', text.n))
        return err_set(e, RC_INVALID, "%s holds a NUL byte: it is not a text file", name);
    if (&ini_max_line)
        ini_max_line = LINE_MAX_OF_FILE;
    bad = ini_parse_stream(next_line, &w, take_pair, &w);
    if (w.rc == RC_OK && bad > 0) {
        w.line = (unsigned)bad;
        refuse(&w, "the line is neither a [section], a 'key = value' nor a comment");
    }
    if (w.rc == RC_OK && bad < 0)
        return RC_NOMEM;
    close_section(&w);
    return w.rc;
}
