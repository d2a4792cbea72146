/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_batch: what the commands that follow a batch on a server have in common: waiting
 * for its end, fetching its files, and the exit code that its end deserves.
 *
 * Owns:    nothing.  Threads: main.
 */
#pragma once

#include "app/options.h"
#include "app/remote.h"

/* The first fields of the options of every command that talks to a server. */
struct cli_server {
    const char *url, *key_file;
};

#define CLI_SERVER_OPTIONS(type)                                                         \
    {0,                                                                                  \
     "server",                                                                           \
     "URL",                                                                              \
     OPTION_TEXT,                                                                        \
     offsetof(type, server.url),                                                         \
     "Server to talk to; also $BATCHD_SERVER [http://127.0.0.1:8080]."},                 \
    {                                                                                    \
        0, "key-file", "FILE", OPTION_TEXT, offsetof(type, server.key_file),             \
            "File with the API key; also $BATCHD_KEY_FILE."                              \
    }

/* RC_INVALID: not an id. */
NODISCARD enum rc cli_batch_id(const char *text, struct id *ret, struct err *e);

/*
 * Polls until the batch has ended, with progress on stderr.  A server that goes away
 * meanwhile (a restart) is waited for.  answer holds what ret borrows.
 */
NODISCARD enum rc cli_batch_wait(struct remote *r, const struct id *id, bool quiet,
                                 struct buf *answer, struct remote_batch *ret,
                                 struct err *e);

/* Fetches the output file; path NULL: to stdout.  When there is none (every line failed)
 * the file is empty. */
NODISCARD enum rc cli_batch_fetch(struct remote *r, const struct remote_batch *b,
                                  const char *path, struct err *e);
/* Fetches the error file.  When there is none no file is made, and one of an earlier run
 * is deleted. */
NODISCARD enum rc cli_batch_fetch_errors(struct remote *r, const struct remote_batch *b,
                                         const char *path, struct err *e);

/* Where the results of a batch that is waited for go; NULL: nowhere. */
struct cli_results {
    const char *output, *errors;
};
/* RC_INVALID: there is a file to write and nobody waits, or it cannot be written. */
NODISCARD enum rc cli_results_check(const struct cli_results *to, bool wait,
                                    struct err *e);
/* Waits for the end, fetches the results and prints the verdict; name stands for the
 * input in it. */
NODISCARD enum rc cli_batch_follow(struct remote *r, const struct id *id,
                                   const struct cli_results *to, const char *name,
                                   bool quiet, int *ret_code, struct err *e);

/* Prints how it ended (bad lines as file:line: ...) and gives the exit code for it. */
int cli_batch_verdict(const struct remote_batch *b, const char *file, bool quiet);
