/* SPDX-License-Identifier: Apache-2.0 */
#include "app/options.h"
#include "app/exit.h"
#include "app/faults.h"
#include "app/setting.h"

#include <stdio.h>

/* What a word of the command line turned out to name. */
struct flag {
    const struct option_spec *option;
    const struct setting *setting;
};

static const struct option_spec config_options[] = {
    {0, "config", "FILE", OPTION_TEXT, offsetof(struct config_sources, file),
     "Read settings from FILE, see batchd.conf(5); also $BATCHD_CONFIG."},
    {0, "upstream", "URL", OPTION_TEXTS, 0,
     "Inference server to use, http://HOST:PORT/v1; may be repeated, and takes the place "
     "of the file's; also $BATCHD_UPSTREAM, comma-separated."},
    {0, "upstream-key-file", "FILE", OPTION_TEXT,
     offsetof(struct config_sources, upstream_key_file),
     "File with the key for the upstreams given by URL; also $BATCHD_UPSTREAM_KEY_FILE."},
};

/* Who sends nothing needs no upstreams: only the first of them. */
static size_t n_config_options(const struct command *u)
{
    if (u->settings & (SETTING_SERVE | SETTING_RUN))
        return COUNTOF(config_options);
    return u->settings ? 1 : 0;
}

static const struct option_spec help_option = {
    'h', "help", NULL, OPTION_SWITCH, 0, "Show this and exit."};

/* --- Parsing ------------------------------------------------------------------------ */

static bool is_config_option(const struct option_spec *o)
{
    return o >= config_options && o < config_options + COUNTOF(config_options);
}

static bool named(const struct option_spec *o, struct str name, bool letter)
{
    return letter ? o->letter && name.n == 1 && name.p[0] == o->letter
                  : str_is(name, o->name);
}

static bool find(const struct command *u, struct str name, bool letter, struct flag *ret)
{
    *ret = (struct flag){0};
    if (named(&help_option, name, letter))
        ret->option = &help_option;
    for (size_t i = 0; i < u->n_options; i++)
        if (named(&u->options[i], name, letter))
            ret->option = &u->options[i];
    for (size_t i = 0; i < n_config_options(u); i++)
        if (named(&config_options[i], name, letter))
            ret->option = &config_options[i];
    if (!ret->option && !letter)
        ret->setting = setting_by_flag(name);
    if (ret->setting && !(ret->setting->commands & u->settings))
        ret->setting = NULL;
    return ret->option || ret->setting;
}

static enum rc add_upstream(struct config_sources *c, const char *url, struct err *e)
{
    if (c->n_upstreams == COUNTOF(c->upstreams))
        return err_set(e, RC_INVALID, "there are more than %zu upstreams",
                       COUNTOF(c->upstreams));
    c->upstreams[c->n_upstreams++] = url;
    return RC_OK;
}

static enum rc set_option(const struct option_spec *o, const char *value, void *base,
                          struct command_line *cl, struct err *e)
{
    char *p = (char *)(is_config_option(o) ? (void *)&cl->config : base) + o->offset;
    struct option_texts *texts;

    if (o == &help_option) {
        cl->help = true;
        return RC_OK;
    }
    if (is_config_option(o) && o->kind == OPTION_TEXTS)
        return add_upstream(&cl->config, value, e);
    switch (o->kind) {
    case OPTION_SWITCH:
        *(bool *)(void *)p = true;
        break;
    case OPTION_TEXT:
        *(const char **)(void *)p = value;
        break;
    case OPTION_TEXTS:
        texts = (void *)p;
        if (texts->n == COUNTOF(texts->v))
            return err_set(e, RC_INVALID, "--%s is given more than %zu times", o->name,
                           COUNTOF(texts->v));
        texts->v[texts->n++] = value;
        break;
    }
    return RC_OK;
}

static enum rc set_setting(const struct setting *s, const char *value,
                           struct command_line *cl, struct err *e)
{
    struct config_sources *c = &cl->config;

    if (c->n_flags == COUNTOF(c->flags))
        return err_set(e, RC_INVALID, "there are more than %zu flags", COUNTOF(c->flags));
    c->flags[c->n_flags].setting = s;
    c->flags[c->n_flags++].value = value ? value : "yes";
    return RC_OK;
}

/* The word at argv[*i] is a flag; takes the next one, too, when that is its value. */
static enum rc take_flag(const struct command *u, int argc, char **argv, int *i,
                         void *base, struct command_line *cl, struct err *e)
{
    const char *word = argv[*i], *value = NULL;
    bool letter = word[1] != '-', is_switch;
    struct str name = str_of(word + (letter ? 1 : 2));
    const char *equals = memchr(name.p, '=', name.n);
    struct flag f;

    if (equals) {
        value = equals + 1;
        name.n = (size_t)(equals - name.p);
    } else if (letter && name.n > 1) {
        value = name.p + 1; /* -oFILE */
        name.n = 1;
    }
    if (!find(u, name, letter, &f))
        return err_set(e, RC_INVALID, "there is no flag '%.*s%.*s'; see batchd %s --help",
                       letter ? 1 : 2, "--", (int)u64_min(name.n, 60), name.p, u->name);
    is_switch = f.option ? f.option->kind == OPTION_SWITCH : !setting_metavar(f.setting);
    if (is_switch && f.option && value)
        return err_set(e, RC_INVALID, "--%s takes no value; see batchd %s --help",
                       f.option->name, u->name);
    if (!is_switch && !value) {
        if (*i + 1 >= argc)
            return err_set(e, RC_INVALID, "%s needs a value; see batchd %s --help", word,
                           u->name);
        value = argv[++*i];
    }
    return f.option ? set_option(f.option, value, base, cl, e)
                    : set_setting(f.setting, value, cl, e);
}

enum rc options_parse(const struct command *u, int argc, char **argv, void *base,
                      struct command_line *ret, struct err *e)
{
    bool flags = true;
    enum rc rc;

    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];

        if (flags && strcmp(word, "--") == 0) {
            flags = false;
        } else if (flags && word[0] == '-' && word[1] != '\0') {
            rc = take_flag(u, argc, argv, &i, base, ret, e);
            if (rc != RC_OK)
                return rc;
        } else if (ret->n_args < u->max_args) {
            ret->args[ret->n_args++] = word;
        } else {
            return err_set(e, RC_INVALID,
                           "'%.100s' is one argument too many; see batchd "
                           "%s --help",
                           word, u->name);
        }
    }
    if (!ret->help && ret->n_args < u->min_args)
        return err_set(e, RC_INVALID,
                       "an argument is missing: batchd %s %s; see batchd "
                       "%s --help",
                       u->name, u->synopsis, u->name);
    return RC_OK;
}

/* --- Help --------------------------------------------------------------------------- */

enum { HELP_INDENT = 30, HELP_WIDTH = 90 };

/* The doc in a column of its own, wrapped between words. */
static void put_doc(struct buf *out, size_t at, struct str doc)
{
    bool fresh = true; /* nothing stands in the column of this line yet */

    if (at + 2 > HELP_INDENT) {
        buf_char(out, '\n');
        at = 0;
    }
    for (; at < HELP_INDENT; at++)
        buf_char(out, ' ');
    while (doc.n) {
        struct str word = str_cut(&doc, ' ');

        if (!fresh && at + 1 + word.n > HELP_WIDTH) {
            buf_fmt(out, "\n%*s", HELP_INDENT, "");
            at = HELP_INDENT;
            fresh = true;
        }
        buf_fmt(out, "%s%.*s", fresh ? "" : " ", STR_ARG(word));
        at += word.n + !fresh;
        fresh = false;
    }
    buf_char(out, '\n');
}

static void put_option(struct buf *out, const struct option_spec *o)
{
    size_t start = out->n;

    if (o->letter)
        buf_fmt(out, "  -%c, --%s", o->letter, o->name);
    else
        buf_fmt(out, "      --%s", o->name);
    if (o->metavar)
        buf_fmt(out, " %s", o->metavar);
    put_doc(out, out->n - start, str_of(o->doc));
}

static void put_setting(struct buf *out, const struct setting *s)
{
    char flag[SETTING_NAME_CAP], env[SETTING_NAME_CAP], text[400];
    const char *metavar = setting_metavar(s);
    size_t start = out->n;

    setting_flag(s, flag);
    setting_env(s, env);
    buf_fmt(out, "      %s%s%s", flag, metavar ? " " : "", metavar ? metavar : "");
    CHECK(str_fmt(text, sizeof text, "%s [%s; $%s]", s->doc, s->value, env) == RC_OK);
    put_doc(out, out->n - start, str_of(text));
}

void options_help(const struct command *u, struct buf *out)
{
    buf_fmt(out, "usage: batchd %s %s\n\n%s\n\nFlags:\n", u->name, u->synopsis, u->text);
    for (size_t i = 0; i < u->n_options; i++)
        put_option(out, &u->options[i]);
    for (size_t i = 0; i < n_config_options(u); i++)
        put_option(out, &config_options[i]);
    put_option(out, &help_option);
    if (!u->settings)
        return;
    buf_z(out, "\nSettings, with their default and their name in the environment:\n");
    for (size_t i = 0; i < n_settings; i++)
        if (settings[i].commands & u->settings)
            put_setting(out, &settings[i]);
}

int options_fail(int exit_code, const struct err *e)
{
    fflush(stdout);
    fputs("batchd: ", stderr);
    faults_put_safe(stderr, str_of(e->text[0] ? e->text : "it failed"));
    fputc('\n', stderr);
    return exit_code;
}

int options_take(const struct command *u, int argc, char **argv, void *base,
                 struct command_line *ret)
{
    struct err e = {""};
    struct buf help;

    if (options_parse(u, argc, argv, base, ret, &e) != RC_OK)
        return options_fail(EXIT_USAGE, &e);
    if (!ret->help)
        return -1;
    buf_init(&help, (size_t)1 << 20);
    options_help(u, &help);
    printf("%.*s", STR_ARG(buf_peek(&help)));
    buf_done(&help);
    return EXIT_DONE;
}
