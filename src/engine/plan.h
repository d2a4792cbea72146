/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan: what is noted of each line while an input file is scanned, and what comes of it
 * when all are known: in which order they are to go, and which of them follow another.
 *
 * Requests whose prompts begin alike stand side by side (core/prefix.h); those of endpoints
 * without a prompt that a server would keep (embeddings and the like) stay in the order of
 * the file.  What it finds lies in the index file from then on.
 *
 * Threads: a worker, one at a time.
 * Memory:  80 bytes a line, 24 more where lines may follow others, until it is written;
 *          32 more while it is sorted.
 */
#pragma once

#include "core/line.h"
#include "engine/dedup.h"
#include "store/index.h"

struct plan;

/* max_lines: of those beyond nothing is noted (the file is refused anyway). */
struct plan *plan_new(enum dedup_mode dedup, uint32_t max_lines);
/* An intake_rules.each. */
void plan_add(void *plan, const struct line *line);
/* Behind the last index_add of all the lines that were added here.  RC_NOMEM, or what the
 * index says. */
NODISCARD enum rc plan_write(struct plan *p, struct index_writer *w, struct err *e);
struct plan *plan_free(struct plan *p); /* accepts NULL, returns NULL */
