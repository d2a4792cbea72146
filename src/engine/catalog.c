/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/catalog.h"
#include "base/mem.h"
#include "json/json.h"

#include <pthread.h>
#include <stdlib.h>

enum state { UNASKED, ANY, LISTED };

struct model {
    char *name, *owned_by;
    int64_t created;
};

/* By name, each once. */
struct list {
    struct model *models;
    size_t n;
};

struct entry {
    enum state state;
    struct list list; /* also when ANY: shown, not asked */
};

struct alias {
    struct model shown; /* its name is what is written instead of `to` */
    char *to;
};

struct catalog {
    pthread_mutex_t lock; /* over the entries */
    struct entry *ups;
    size_t n_ups;
    struct alias *aliases; /* never changed */
    size_t n_aliases;
};

/* --- Lists ---------------------------------------------------------------------------
 */

static int by_name(const void *a, const void *b)
{
    const struct model *x = a, *y = b;

    return strcmp(x->name, y->name);
}

static void model_done(struct model *m)
{
    mem_free(m->name);
    mem_free(m->owned_by);
}

static void list_done(struct list *l)
{
    for (size_t i = 0; i < l->n; i++)
        model_done(&l->models[i]);
    mem_free(l->models);
    *l = (struct list){0};
}

/* Sorts, and keeps the first of each name. */
static void list_settle(struct list *l)
{
    size_t kept = 0;

    if (l->n)
        qsort(l->models, l->n, sizeof *l->models, by_name);
    for (size_t i = 0; i < l->n; i++) {
        if (kept && strcmp(l->models[kept - 1].name, l->models[i].name) == 0)
            model_done(&l->models[i]);
        else
            l->models[kept++] = l->models[i];
    }
    l->n = kept;
}

static bool list_same(const struct list *a, const struct list *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->models[i].name, b->models[i].name) != 0)
            return false;
    return true;
}

/* Compares without a NUL at the end of the name asked for. */
static const struct model *list_find(const struct list *l, struct str name)
{
    size_t low = 0, high = l->n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const char *here = l->models[mid].name;
        int cmp = strncmp(here, name.p, name.n);

        if (cmp == 0 && here[name.n] == '\0')
            return &l->models[mid];
        if (cmp < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

/* The name itself, or what servers know it as (see the header). */
static bool list_has(const struct list *l, struct str name)
{
    static const struct str latest = {":latest", 7}, models = {"models/", 7};
    char longer[LIMIT_MODEL + 8];
    struct str tagged = {longer, name.n + latest.n};

    if (name.n > LIMIT_MODEL || memchr(name.p, '\0', name.n))
        return false;
    if (list_find(l, name))
        return true;
    memcpy(longer, name.p, name.n);
    memcpy(longer + name.n, latest.p, latest.n);
    if (list_find(l, tagged))
        return true;
    memcpy(longer, models.p, models.n);
    memcpy(longer + models.n, name.p, name.n);
    return list_find(l, tagged) != NULL;
}

/* --- Reading an answer ---------------------------------------------------------------
 */

enum { M_ID, M_OWNED_BY, M_CREATED, M_COUNT };

/* A copy of what a JSON string says; NULL: it is none, or too long, or holds a NUL. */
static char *text_of(const struct json_val *v)
{
    struct buf b;
    char *z = NULL;

    if (v->type != JSON_STRING)
        return NULL;
    buf_init(&b, LIMIT_MODEL);
    if (json_unescape(v->raw, &b) == RC_OK && b.n > 0 && !memchr(b.p, '\0', b.n))
        z = mem_dup(b.p, b.n);
    buf_done(&b);
    return z;
}

/* Adds one object of the list; what is no model is passed over. */
static void list_add(struct list *l, const struct json_val *v)
{
    struct model m = {0};
    struct json_val member, created = {0};
    struct json_iter it;
    struct str key;
    uint64_t when;

    if (v->type != JSON_OBJECT)
        return;
    for (it = json_iter(v); json_next(&it, &key, &member);) {
        if (!m.name && json_str_is(key, STR("id")))
            m.name = text_of(&member);
        else if (!m.owned_by && json_str_is(key, STR("owned_by")))
            m.owned_by = text_of(&member);
        else if (json_str_is(key, STR("created")))
            created = member;
    }
    if (created.type == JSON_NUMBER && json_u64(&created, &when) == RC_OK &&
        when <= INT64_MAX)
        m.created = (int64_t)when;
    if (m.name)
        l->models[l->n++] = m;
    else
        model_done(&m);
}

/* RC_INVALID: there is no list in it, or one that is too long to be kept.  RC_CORRUPT: it
 * is no JSON at all. */
static enum rc list_read(struct str body, struct list *ret)
{
    static const struct json_want wants[] = {{"data", -1}};
    struct json_val data, top, v;
    struct json_iter it;
    struct str key;

    if (json_read(body, &(struct json_limits){0}, wants, COUNTOF(wants), &data, &top,
                  NULL) != RC_OK)
        return RC_CORRUPT;
    if (top.type == JSON_ARRAY) /* Together's API sends it bare */
        data = top;
    if (data.type != JSON_ARRAY || data.count > LIMIT_MODELS)
        return RC_INVALID;
    *ret = (struct list){.models = mem_new_n(struct model, data.count + 1u)};
    for (it = json_iter(&data); json_next(&it, &key, &v);)
        list_add(ret, &v);
    if (data.count && ret->n == 0) {
        list_done(ret);
        return RC_INVALID;
    }
    list_settle(ret);
    return RC_OK;
}

static void list_split(const char *models, struct list *ret)
{
    struct str rest = str_of(models);
    size_t most = 1;

    for (const char *p = models; *p; p++)
        most += *p == ',';
    *ret = (struct list){.models = mem_new_n(struct model, most)};
    while (rest.n) {
        struct str name = str_trim(str_cut(&rest, ','));

        if (name.n)
            ret->models[ret->n++] = (struct model){.name = mem_dup(name.p, name.n)};
    }
    list_settle(ret);
}

/* --- What is learnt ------------------------------------------------------------------
 */

static bool entry_set(struct catalog *c, uint16_t up, enum state state, struct list *list)
{
    struct entry *u = &c->ups[up];
    struct list old;
    bool changed;

    CHECK(up < c->n_ups);
    pthread_mutex_lock(&c->lock);
    changed = u->state != state || !list_same(&u->list, list);
    old = u->list;
    *u = (struct entry){.state = state, .list = *list};
    pthread_mutex_unlock(&c->lock);
    list_done(&old);
    return changed;
}

bool catalog_fix(struct catalog *c, uint16_t up, const char *models)
{
    struct list list = {0};

    if (str_is(str_trim(str_of(models)), "*"))
        return entry_set(c, up, ANY, &list);
    list_split(models, &list);
    return entry_set(c, up, LISTED, &list);
}

bool catalog_learn(struct catalog *c, uint16_t up, struct str body)
{
    struct list list;
    enum rc rc = list_read(body, &list);
    bool any;

    if (rc != RC_OK)
        return catalog_unlisted(c, up, rc == RC_CORRUPT);
    any = list.n == 1 && list.models[0].owned_by &&
          strcmp(list.models[0].owned_by, "llamacpp") == 0;
    return entry_set(c, up, any ? ANY : LISTED, &list);
}

bool catalog_unlisted(struct catalog *c, uint16_t up, bool keep)
{
    struct list none = {0};

    /* Only this thread writes, so the state may be looked at without the lock. */
    if (keep && c->ups[up].state != UNASKED)
        return false;
    return entry_set(c, up, ANY, &none);
}

/* --- What is asked -------------------------------------------------------------------
 */

bool catalog_asked(struct catalog *c, uint16_t up)
{
    bool asked;

    CHECK(up < c->n_ups);
    pthread_mutex_lock(&c->lock);
    asked = c->ups[up].state != UNASKED;
    pthread_mutex_unlock(&c->lock);
    return asked;
}

size_t catalog_count(struct catalog *c, uint16_t up)
{
    size_t n;

    CHECK(up < c->n_ups);
    pthread_mutex_lock(&c->lock);
    n = c->ups[up].list.n;
    pthread_mutex_unlock(&c->lock);
    return n;
}

const char *catalog_alias(const struct catalog *c, struct str name)
{
    for (size_t i = 0; i < c->n_aliases; i++)
        if (str_is(name, c->aliases[i].shown.name))
            return c->aliases[i].to;
    return NULL;
}

bool catalog_knows(struct catalog *c, struct str model)
{
    bool known = c->n_ups == 0 || catalog_alias(c, model);

    if (known)
        return true;
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < c->n_ups && !known; i++)
        known = c->ups[i].state != LISTED || c->ups[i].list.n == 0 ||
                list_has(&c->ups[i].list, model);
    pthread_mutex_unlock(&c->lock);
    return known;
}

bool catalog_serves(struct catalog *c, uint16_t up, struct str model)
{
    const char *target = catalog_alias(c, model);
    const struct entry *u = &c->ups[up];
    bool serves = false;

    CHECK(up < c->n_ups);
    if (target)
        model = str_of(target);
    pthread_mutex_lock(&c->lock);
    if (u->state == ANY)
        serves = true;
    else if (u->state == LISTED)
        serves = model.n == 0 ? u->list.n > 0 : list_has(&u->list, model);
    pthread_mutex_unlock(&c->lock);
    return serves;
}

/* One of the union: equal names stand in the order in which they were put in. */
struct shown {
    const struct model *m;
    size_t rank;
};

static int by_name_and_rank(const void *a, const void *b)
{
    const struct shown *x = a, *y = b;
    int cmp = strcmp(x->m->name, y->m->name);

    return cmp ? cmp : (x->rank > y->rank) - (x->rank < y->rank);
}

static size_t put_all(const struct catalog *c, struct shown *all)
{
    size_t n = 0;

    for (size_t i = 0; i < c->n_aliases; i++, n++)
        all[n] = (struct shown){&c->aliases[i].shown, n};
    for (size_t i = 0; i < c->n_ups; i++)
        for (size_t k = 0; k < c->ups[i].list.n; k++, n++)
            all[n] = (struct shown){&c->ups[i].list.models[k], n};
    return n;
}

void catalog_each(struct catalog *c, catalog_fn *fn, void *ctx)
{
    struct shown *all;
    size_t n = c->n_aliases;

    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < c->n_ups; i++)
        n += c->ups[i].list.n;
    all = mem_new_n(struct shown, n + 1);
    n = put_all(c, all);
    qsort(all, n, sizeof *all, by_name_and_rank);
    for (size_t i = 0; i < n; i++) {
        const struct model *m = all[i].m;

        if (i == 0 || strcmp(all[i - 1].m->name, m->name) != 0)
            fn(ctx, &(struct catalog_model){m->name, m->owned_by, m->created});
    }
    pthread_mutex_unlock(&c->lock);
    mem_free(all);
}

/* --- Life ----------------------------------------------------------------------------
 */

struct catalog *catalog_new(size_t n_upstreams, const struct catalog_alias *aliases,
                            size_t n_aliases)
{
    struct catalog *c = mem_new(struct catalog);

    pthread_mutex_init(&c->lock, NULL);
    c->ups = mem_new_n(struct entry, n_upstreams + 1);
    c->n_ups = n_upstreams;
    c->aliases = mem_new_n(struct alias, n_aliases + 1);
    c->n_aliases = n_aliases;
    for (size_t i = 0; i < n_aliases; i++)
        c->aliases[i] = (struct alias){
            .shown.name = mem_dup(aliases[i].from, strlen(aliases[i].from)),
            .to = mem_dup(aliases[i].to, strlen(aliases[i].to))};
    return c;
}

struct catalog *catalog_free(struct catalog *c)
{
    if (!c)
        return NULL;
    for (size_t i = 0; i < c->n_ups; i++)
        list_done(&c->ups[i].list);
    for (size_t i = 0; i < c->n_aliases; i++) {
        model_done(&c->aliases[i].shown);
        mem_free(c->aliases[i].to);
    }
    mem_free(c->aliases);
    mem_free(c->ups);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
    return NULL;
}
