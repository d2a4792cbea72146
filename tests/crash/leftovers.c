/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/crash/leftovers.h"
#include "base/map.h"
#include "base/mem.h"

#include <dirent.h>
#include <stdio.h>

struct leftovers {
    const struct node *node;
    leftovers_fn *tell;
    struct map *live;
};

static void each_name(struct leftovers *l, const char *sub,
                      void (*fn)(struct leftovers *l, const char *name))
{
    char path[4096];
    struct dirent *d;
    DIR *dir;

    snprintf(path, sizeof path, "%s/%s", l->node->dir, sub);
    dir = opendir(path);
    CHECK(dir);
    while ((d = readdir(dir)))
        if (d->d_name[0] != '.')
            fn(l, d->d_name);
    closedir(dir);
}

static void on_blob(void *ctx, const char *id)
{
    struct leftovers *l = ctx;
    const struct store *s = l->node->store;
    bool known = false;
    struct err e;

    if (s->ops->file_known(s->self, id, &known, &e) != RC_OK || !known)
        l->tell("bytes without a row", id);
}

static void on_tmp(struct leftovers *l, const char *name)
{
    l->tell("left in tmp/", name);
}

static void on_spool(struct leftovers *l, const char *name)
{
    struct str rest = str_of(name), id = str_cut(&rest, '.');

    if (!map_get(l->live, id))
        l->tell("left in spool/ of a batch that has ended", name);
}

struct leftovers *leftovers_look(const struct node *n, leftovers_fn *tell)
{
    struct leftovers *l = mem_new(struct leftovers);
    struct batch *live = NULL;
    size_t count = 0;
    struct err e;

    *l = (struct leftovers){.node = n, .tell = tell, .live = map_new()};
    if (n->blobs->ops->each(n->blobs->self, on_blob, l, &e) != RC_OK)
        tell("cannot list", e.text);
    each_name(l, "tmp", on_tmp);
    if (n->store->ops->batch_live(n->store->self, &live, &count, &e) != RC_OK)
        tell("cannot list", e.text);
    for (size_t i = 0; i < count; i++) {
        map_put(l->live, id_str(&live[i].id), l);
        batch_done(&live[i]);
    }
    mem_free(live);
    return l;
}

void leftovers_done(struct leftovers *l)
{
    each_name(l, "spool", on_spool);
    map_free(l->live);
    mem_free(l);
}
