/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog: which upstream serves which models, and the names that stand for others.
 *
 *   what is known of an upstream          a batch may name   lines go there
 *   UNASKED  nothing: it was not reached  any model          none, until it was asked
 *   ANY      it does not tell             any model          of any model
 *   LISTED   its list; "" entries none    those of the list  of those of the list
 *            an empty list                any model          none
 *
 * An empty list is what a router tells whose servers are all away: nothing can go there
 * now, and nothing is known of what will be there.
 *
 * Names are those of the list, and the shorter forms that servers take for them: without
 * ":latest" (Ollama), without "models/" in front (Gemini).  llama.cpp's server with one
 * model takes any name for it (its list is then shown, and the state is ANY).
 *
 * Owns:    copies of all names.  Memory is bounded: LIMIT_MODELS of LIMIT_MODEL an
 *          upstream.
 * Threads: catalog_fix, catalog_learn and catalog_unlisted: one writer, the engine's loop;
 *          the rest from any.
 */
#pragma once

#include "base/limits.h"
#include "base/str.h"

struct catalog;

struct catalog_alias {
    char *from, *to;
};

struct catalog_model {
    const char *name;
    const char *owned_by; /* as the upstream tells it; NULL: it does not */
    int64_t created;      /* likewise, unix seconds; 0 */
};

/* Nothing is asked here: all upstreams begin UNASKED.  Aliases are copied. */
struct catalog *catalog_new(size_t n_upstreams, const struct catalog_alias *aliases,
                            size_t n_aliases);
struct catalog *catalog_free(struct catalog *c); /* accepts NULL, returns NULL */

/* --- What the writer learns; each tells whether something is different now ---------- */

/* The configuration says: names with commas between them; "*": ANY. */
bool catalog_fix(struct catalog *c, uint16_t up, const char *models);
/* The body of a 200 to GET /models.  One without a list is as catalog_unlisted; one that
 * is no JSON leaves a list as it is. */
bool catalog_learn(struct catalog *c, uint16_t up, struct str body);
/* It does not list its models: ANY, unless it had a list before and `keep`. */
bool catalog_unlisted(struct catalog *c, uint16_t up, bool keep);

/* --- What others ask --------------------------------------------------------------- */

bool catalog_asked(struct catalog *c, uint16_t up); /* it is not UNASKED */
/* Models of its list; 0 when it has none. */
size_t catalog_count(struct catalog *c, uint16_t up);

/* May a batch name it?  Also when there is no upstream at all. */
bool catalog_knows(struct catalog *c, struct str model);
/* May its lines go there?  Aliases are looked through; "" goes to all that were asked. */
bool catalog_serves(struct catalog *c, uint16_t up, struct str model);
/* What the name stands for; NULL: it is no alias.  Valid as long as the catalog. */
const char *catalog_alias(const struct catalog *c, struct str name);

/* All models of all lists and the aliases, each once, by name in the order of strcmp; of
 * equal ones the alias counts, then the first upstream's.  fn must not call the catalog. */
typedef void catalog_fn(void *ctx, const struct catalog_model *m);
void catalog_each(struct catalog *c, catalog_fn *fn, void *ctx);
