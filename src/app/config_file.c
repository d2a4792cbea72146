/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_file: the INI file of the settings, read through libinih, which is handed one line
 * at a time: that is how line numbers are known, and how a line that it would cut is
 * refused instead.
 */
#include "app/config.h"
#include "app/setting.h"

#include "base/mem.h"
#include "store/keyfile.h"

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
    const struct setting_kind *kind; /* of the section we are in; NULL: a plain one */
    void *element;                   /* what it describes */
    const char *element_name;
    uint32_t element_seen; /* bit i: kind->settings[i] was set here */
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

static bool name_ok(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!memchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-",
                    s.p[i], 65))
            return false;
    return s.n > 0;
}

static void open_named(struct file_walk *w, const struct setting_kind *k, struct str name)
{
    char **list = (char **)(void *)((char *)w->config + k->list);
    size_t n = *(size_t *)(void *)((char *)w->config + k->count);
    char **field;

    if (!name_ok(name)) {
        refuse(w, "%s %s's name has letters, digits, '.', '_' and '-' only", k->a,
               k->section);
        return;
    }
    if (k == &setting_kinds[KIND_PROJECT] && !project_ok(name)) {
        refuse(w,
               "there can be no project '%.*s': a name has lower-case letters, digits, "
               "'_' and '-' only, and begins with a letter or a digit",
               STR_ARG(name));
        return;
    }
    for (size_t i = 0; i < n; i++) {
        field = (char **)(void *)(*list + i * k->size);
        if (*field && str_is(name, *field)) {
            refuse(w, "there are two sections [%s %.*s]", k->section, STR_ARG(name));
            return;
        }
    }
    field = config_add(w->config, k);
    if (!field) {
        refuse(w, "there are more than %zu %ss", k->most, k->section);
        return;
    }
    *field = mem_dup(name.p, name.n);
    w->kind = k;
    w->element = field;
    w->element_name = *field;
    w->element_seen = 0;
}

/* The section that was open is over: it must have been whole. */
static void close_section(struct file_walk *w)
{
    const struct setting_kind *k = w->kind;

    w->kind = NULL;
    if (!k || !k->needs)
        return;
    for (size_t i = 0; i < k->n_settings; i++)
        if (strcmp(k->settings[i].name, k->needs) == 0 && !(w->element_seen >> i & 1))
            refuse(w, "[%s %s], which ends here, has no %s", k->section, w->element_name,
                   k->needs);
}

/* "upstream gpu-0": true; whatever is wrong with it has been refused. */
static bool open_kind(struct file_walk *w, struct str section)
{
    struct str rest = section, word = str_cut(&rest, ' ');

    if (word.n == section.n)
        return false;
    for (size_t i = 0; i < KIND_COUNT; i++) {
        if (str_is(word, setting_kinds[i].section)) {
            open_named(w, &setting_kinds[i], str_trim(rest));
            return true;
        }
    }
    return false;
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
    if (open_kind(w, name) || str_is(name, "aliases"))
        return;
    for (size_t i = 0; i < n_settings; i++)
        if (str_is(name, settings[i].section))
            return;
    refuse(w,
           "there is no section [%s]; there are [server], [dispatch], [limits], "
           "[files], [webhooks], [aliases], [upstream NAME], [webhook NAME] and "
           "[project NAME]",
           w->section);
}

/* Read here and not by libinih, which takes ':' for a '=': models are called llama3:8b. */
static void set_alias(struct file_walk *w, struct str line)
{
    struct str to = line, from = str_trim(str_cut(&to, '='));

    for (size_t i = 1; i < to.n; i++)
        if (to.p[i] == ';' && (to.p[i - 1] == ' ' || to.p[i - 1] == '\t'))
            to.n = i;
    to = str_trim(to);
    if (from.n == 0 || to.n == 0 || from.n > LIMIT_MODEL || to.n > LIMIT_MODEL)
        refuse(w, "an alias is NAME = MODEL, each of 1 to %d bytes", LIMIT_MODEL);
    else if (!config_add_alias(w->config, from, to))
        refuse(w, "the alias '%.*s' stands there twice, or is one of more than %d",
               STR_ARG(from), LIMIT_ALIASES);
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
    else if (strcmp(w->section, "aliases") == 0 && line.n && !strchr(";#", line.p[0])) {
        set_alias(w, line);
        line.n = 0; /* libinih sees an empty one */
    }
    memcpy(dst, line.p, line.n);
    memcpy(dst + line.n, "\n", 2);
    return w->rc == RC_OK ? dst : NULL;
}

static void set_named(struct file_walk *w, struct str name, struct str value)
{
    const struct setting_kind *k = w->kind;

    for (size_t i = 0; i < k->n_settings; i++) {
        char where[160];

        if (!str_is(name, k->settings[i].name))
            continue;
        if (w->element_seen & (uint32_t)1 << i) {
            refuse(w, "%s is set twice in [%s]", k->settings[i].name, w->section);
            return;
        }
        w->element_seen |= (uint32_t)1 << i;
        CHECK(str_fmt(where, sizeof where, "%.100s:%u: %s", w->name, w->line,
                      k->settings[i].name) == RC_OK);
        w->rc = setting_set(&k->settings[i], w->element, value, where, w->e);
        return;
    }
    refuse(w, "there is no key '%.*s' in [%s NAME]; see batchd.conf(5)", STR_ARG(name),
           k->section);
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
    if (w->rc == RC_OK && w->kind)
        set_named(w, str_of(name), str_of(value));
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
        return err_set(e, RC_NOMEM, "no memory to read %s", name);
    close_section(&w);
    return w.rc;
}
