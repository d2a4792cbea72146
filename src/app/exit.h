/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exit: what each exit code of the program means; batchd(1), "EXIT STATUS", says the
 * same.  The numbers from 64 up are those of sysexits.h where one fits.
 */
#pragma once

#include "base/base.h"

enum exit_code {
    EXIT_DONE = 0,
    EXIT_SOME_FAILED = 1,  /* some lines failed; check: bad lines were found */
    EXIT_USAGE = 2,        /* bad command line, configuration or input */
    EXIT_UNREACHABLE = 69, /* cannot listen; the server cannot be reached or refuses */
    EXIT_RESOURCES = 71,   /* the system refuses memory, threads or descriptors */
    EXIT_DATA_DIR = 73,    /* a directory or file cannot be made or read */
    EXIT_DISK = 74,        /* the disk failed: a promise could not be kept */
    EXIT_IN_USE = 75,      /* another batchd uses the data directory */
    EXIT_INTERRUPTED = 130 /* run: stopped by a signal, may be run again */
};

/* Of a failure at or below the data directory, or of the system itself. */
static inline enum exit_code exit_of_rc(enum rc rc)
{
    if (rc == RC_NOMEM)
        return EXIT_RESOURCES;
    return rc == RC_IO || rc == RC_NOSPACE ? EXIT_DISK : EXIT_DATA_DIR;
}
