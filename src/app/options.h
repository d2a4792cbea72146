/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options: command lines by table: --name VALUE, --name=VALUE, -x VALUE, switches; flags
 * and arguments in any order, `--` ends the flags.
 *
 * Owns:    nothing; values are borrowed from argv.  Threads: main.
 * Errors:  one sentence, and where help is to be found.
 */
#pragma once

#include "app/config.h"

enum option_kind {
    OPTION_SWITCH, /* bool: true when given */
    OPTION_TEXT,   /* const char *: the last one counts */
    OPTION_TEXTS   /* struct option_texts: all of them */
};

struct option_texts {
    const char *v[64];
    size_t n;
};

struct option_spec {
    char letter; /* 0: none */
    const char *name, *metavar;
    enum option_kind kind;
    size_t offset; /* in the command's own struct */
    const char *doc;
};

struct command {
    const char *name;     /* "serve" */
    const char *synopsis; /* behind the name: "INPUT.jsonl [flags]" */
    const char *text;     /* what it does; lines of at most 80 */
    const struct option_spec *options;
    size_t n_options;
    unsigned settings; /* SETTING_...: the flags of these are taken, too, and --config; of
                          SERVE and RUN also --upstream and --upstream-key-file */
    unsigned min_args, max_args;
};

struct command_line {
    const char *args[2];
    unsigned n_args;
    bool help;
    struct config_sources config;
};

/* base: the command's own struct, zeroed. */
NODISCARD enum rc options_parse(const struct command *u, int argc, char **argv,
                                void *base, struct command_line *ret, struct err *e);

/* Parses, and answers --help and mistakes itself: -1 to go on, else the exit code. */
int options_take(const struct command *u, int argc, char **argv, void *base,
                 struct command_line *ret);

void options_help(const struct command *u, struct buf *out);

/* "batchd: SENTENCE" on stderr; hands the code back. */
int options_fail(int exit_code, const struct err *e);
