/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: scenarios, each a claim with a goal and what was measured.
 */
#pragma once

/* word: only those whose name holds it; NULL: all.  Returns what main returns. */
int check_all(const char *word, unsigned jobs);
