/* SPDX-License-Identifier: Apache-2.0 */
#include "app/options.h"
#include "app/setting.h"
#include "tests/lib/t.h"

struct opts {
    const char *output;
    struct option_texts meta;
    bool quiet;
};

static const struct option_spec specs[] = {
    {'o', "output", "FILE", OPTION_TEXT, offsetof(struct opts, output), "Where it goes."},
    {0, "metadata", "K=V", OPTION_TEXTS, offsetof(struct opts, meta), "Kept with it."},
    {'q', "quiet", NULL, OPTION_SWITCH, offsetof(struct opts, quiet), "Say nothing."},
};

static const struct command plain = {.name = "try",
                                     .synopsis = "INPUT [flags]",
                                     .text = "Tries.",
                                     .options = specs,
                                     .n_options = COUNTOF(specs),
                                     .min_args = 1,
                                     .max_args = 2};
static const struct command serving = {
    .name = "serve", .synopsis = "[flags]", .text = "Serves.", .settings = SETTING_SERVE};

static struct err e;

static enum rc parse(const struct command *c, struct opts *o, struct command_line *cl,
                     const char *const *words)
{
    char *argv[32];
    int n = 0;

    memset(o, 0, sizeof *o);
    memset(cl, 0, sizeof *cl);
    e.text[0] = '\0';
    argv[n++] = (char *)(uintptr_t)c->name;
    while (words[n - 1]) {
        argv[n] = (char *)(uintptr_t)words[n - 1];
        n++;
    }
    return options_parse(c, n, argv, o, cl, &e);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

TEST(every_form_of_a_flag_is_taken)
{
    const char *const *const forms[] = {
        WORDS("-o", "F", "in"),
        WORDS("in", "-oF"),
        WORDS("--output", "F", "in"),
        WORDS("in", "--output=F"),
        WORDS("-o", "E", "in", "-o", "F"),
    };
    struct command_line cl;
    struct opts o;

    for (size_t i = 0; i < COUNTOF(forms); i++) {
        EQ_RC(parse(&plain, &o, &cl, forms[i]), RC_OK);
        EQ_Z(o.output, "F");
        EQ_INT(cl.n_args, 1);
        EQ_Z(cl.args[0], "in");
        OK(!o.quiet);
    }
}

TEST(switches_lists_and_arguments_mix)
{
    struct command_line cl;
    struct opts o;

    EQ_RC(parse(&plain, &o, &cl,
                WORDS("a", "-q", "--metadata", "k=v", "--metadata=x=y=z", "b")),
          RC_OK);
    OK(o.quiet);
    EQ_INT(o.meta.n, 2);
    EQ_Z(o.meta.v[0], "k=v");
    EQ_Z(o.meta.v[1], "x=y=z");
    EQ_INT(cl.n_args, 2);
}

TEST(two_dashes_end_the_flags_and_one_is_an_argument)
{
    struct command_line cl;
    struct opts o;

    EQ_RC(parse(&plain, &o, &cl, WORDS("-", "--", "-q")), RC_OK);
    EQ_Z(cl.args[0], "-");
    EQ_Z(cl.args[1], "-q");
    OK(!o.quiet);
}

TEST(mistakes_are_one_sentence_that_says_where_help_is)
{
    const struct {
        const char *const *words;
        const char *want;
    } cases[] = {
        {WORDS("in", "--foo"), "there is no flag '--foo'; see batchd try --help"},
        {WORDS("in", "--foo=1"), "there is no flag '--foo'; see batchd try --help"},
        {WORDS("in", "-x"), "there is no flag '-x'; see batchd try --help"},
        {WORDS("in", "--o", "f"), "there is no flag '--o'; see batchd try --help"},
        {WORDS("in", "-o"), "-o needs a value; see batchd try --help"},
        {WORDS("in", "--output"), "--output needs a value; see batchd try --help"},
        {WORDS("in", "--quiet=yes"), "--quiet takes no value; see batchd try --help"},
        {WORDS("in", "--listen", "h:1"), "there is no flag '--listen'; see batchd try "
                                         "--help"},
        {WORDS("a", "b", "c"), "'c' is one argument too many; see batchd try --help"},
        {WORDS("-q"), "an argument is missing: batchd try INPUT [flags]; see batchd try "
                      "--help"},
    };
    struct command_line cl;
    struct opts o;

    for (size_t i = 0; i < COUNTOF(cases); i++) {
        EQ_RC(parse(&plain, &o, &cl, cases[i].words), RC_INVALID);
        EQ_Z(e.text, cases[i].want);
    }
}

TEST(settings_of_the_command_are_flags)
{
    struct command_line cl;
    struct opts o;

    EQ_RC(parse(&serving, &o, &cl,
                WORDS("--listen", "h:1", "--max-inflight=3", "--insecure-listen",
                      "--many-models=no", "--config", "c.ini", "--upstream", "http://a",
                      "--upstream=http://b", "--upstream-key-file", "k")),
          RC_OK);
    EQ_INT(cl.config.n_flags, 4);
    EQ_Z(cl.config.flags[0].setting->name, "listen");
    EQ_Z(cl.config.flags[0].value, "h:1");
    EQ_Z(cl.config.flags[1].value, "3");
    EQ_Z(cl.config.flags[2].setting->name, "insecure_listen");
    EQ_Z(cl.config.flags[2].value, "yes");
    EQ_Z(cl.config.flags[3].value, "no");
    EQ_Z(cl.config.file, "c.ini");
    EQ_INT(cl.config.n_upstreams, 2);
    EQ_Z(cl.config.upstreams[1], "http://b");
    EQ_Z(cl.config.upstream_key_file, "k");
}

TEST(help_needs_no_arguments)
{
    struct command_line cl;
    struct opts o;

    EQ_RC(parse(&plain, &o, &cl, WORDS("--help")), RC_OK);
    OK(cl.help);
    EQ_RC(parse(&plain, &o, &cl, WORDS("-h")), RC_OK);
    OK(cl.help);
}

static bool says(const struct buf *b, const char *text)
{
    return memmem(b->p, b->n, text, strlen(text)) != NULL;
}

TEST(help_shows_every_flag_setting_and_default_within_the_width)
{
    struct buf b;
    struct str rest;

    buf_init(&b, 1 << 20);
    options_help(&serving, &b);
    for (size_t i = 0; i < n_settings; i++) {
        char flag[SETTING_NAME_CAP], env[SETTING_NAME_CAP];

        t_row(settings[i].name);
        setting_flag(&settings[i], flag);
        setting_env(&settings[i], env);
        EQ_INT(says(&b, flag), (settings[i].commands & SETTING_SERVE) != 0);
        EQ_INT(says(&b, env), (settings[i].commands & SETTING_SERVE) != 0);
    }
    OK(says(&b, "--upstream URL"));
    rest = buf_peek(&b);
    while (rest.n)
        OK(str_cut(&rest, '\n').n <= 90);
    buf_reset(&b);
    options_help(&plain, &b);
    EQ_STR(buf_peek(&b), STR("usage: batchd try INPUT [flags]\n\nTries.\n\nFlags:\n"
                             "  -o, --output FILE           Where it goes.\n"
                             "      --metadata K=V          Kept with it.\n"
                             "  -q, --quiet                 Say nothing.\n"
                             "  -h, --help                  Show this and exit.\n"));
    buf_done(&b);
}
