/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faults: bad lines as compilers tell theirs: `file:line: code: message`.
 *
 * Threads: one at a time.  Text from the file is shown with control bytes escaped, so
 * that it cannot play with a terminal.
 */
#pragma once

#include "base/str.h"

#include <stdio.h>

/* line 0: of the file as a whole. */
void faults_print(FILE *out, const char *file, uint64_t line, struct str code,
                  struct str message);

/* Of a batch's `errors` object; how many were printed.  A text that is none: 0. */
size_t faults_print_json(FILE *out, const char *file, struct str errors);

/* With control bytes as \xNN. */
void faults_put_safe(FILE *out, struct str text);
