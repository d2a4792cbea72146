/* SPDX-License-Identifier: Apache-2.0 */
/* What a server answers to GET /models: whatever comes, each name that is told from it is
 * a name, stands once and in order, and is served. */
/* reaches: src/engine/catalog.c 28 */
#include "base/limits.h"
#include "engine/catalog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct seen {
    char last[LIMIT_MODEL + 1];
    size_t n;
};

static void see(void *ctx, const struct catalog_model *m)
{
    struct seen *s = ctx;
    size_t n = strlen(m->name);

    CHECK(n > 0 && n <= LIMIT_MODEL);
    CHECK(strcmp(s->last, m->name) < 0);
    CHECK(!m->owned_by || strlen(m->owned_by) <= LIMIT_MODEL);
    CHECK(m->created >= 0);
    memcpy(s->last, m->name, n + 1);
    s->n++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str body = {(const char *)data, n};
    struct catalog *c = catalog_new(1, NULL, 0);
    struct seen s = {.n = 0};

    CHECK(catalog_learn(c, 0, body));
    CHECK(catalog_asked(c, 0));
    catalog_each(c, see, &s);
    CHECK(s.n == catalog_count(c, 0));
    if (s.n) {
        CHECK(catalog_serves(c, 0, str_of(s.last)));
        CHECK(catalog_knows(c, str_of(s.last)));
    }
    CHECK(!catalog_learn(c, 0, body)); /* the same again is nothing new */
    catalog_free(c);
    return 0;
}
