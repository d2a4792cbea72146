/* SPDX-License-Identifier: Apache-2.0 */
#include "app/commands.h"
#include "app/exit.h"
#include "app/version.h"

#include "base/base.h"
#include "sim/sim.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *args;
    int (*main)(int argc, char **argv);
    const char *text;
} commands[] = {
    {"serve", "", serve_main, "Run the server."},
    {"run", "INPUT.jsonl -o OUTPUT.jsonl", run_main, "Run one file, without a server."},
    {"check", "INPUT.jsonl", check_main, "Find every bad line of an input file."},
    {"submit", "INPUT.jsonl", submit_main, "Make a batch of a file, on a server."},
    {"list", "", list_main, "Show the newest batches of a server."},
    {"show", "ID", show_main, "Print a batch's object."},
    {"watch", "ID", watch_main, "Wait for a batch's end."},
    {"cancel", "ID", cancel_main, "Cancel a batch."},
    {"pause", "ID", pause_main, "Send nothing more of a batch for now."},
    {"resume", "ID", resume_main, "Let a batch go on."},
    {"results", "ID", results_main, "Fetch the results of a batch."},
    {"retry", "ID", retry_main, "Run the lines of a batch that failed again."},
    {"key", "add NAME | list | revoke NAME", key_main, "Manage the keys of a server."},
    {"sim", "", sim_main, "Run an inference server to try things on."},
};

static int help(FILE *out)
{
    fputs("usage: batchd COMMAND [arguments]\n\n"
          "A batch API for inference servers.  Commands:\n\n",
          out);
    for (size_t i = 0; i < COUNTOF(commands); i++)
        fprintf(out, "  %-8s %-30s %s\n", commands[i].name, commands[i].args,
                commands[i].text);
    fputs("\nbatchd COMMAND --help tells more; so does batchd(1).\n", out);
    return out == stdout ? EXIT_DONE : EXIT_USAGE;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;

    if (!name)
        return help(stderr);
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return help(stdout);
    if (strcmp(name, "--version") == 0) {
        puts("batchd " BATCHD_VERSION);
        return EXIT_DONE;
    }
    for (size_t i = 0; i < COUNTOF(commands); i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].main(argc - 1, argv + 1);
    fprintf(stderr, "batchd: there is no command '%.60s'; see batchd --help\n", name);
    return EXIT_USAGE;
}
