/* SPDX-License-Identifier: Apache-2.0 */
#include "app/config.h"
#include "app/setting.h"

#include "base/fsio.h"
#include "base/id.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX     ((size_t)1 << 20) /* 256 upstreams of 4 KiB */
#define KEY_FILE_MAX 4096              /* bearer keys have some hundred bytes */
/* --- Defaults and upstreams --------------------------------------------------------- */

static enum rc set_defaults(const struct setting *table, size_t n, void *base,
                            struct err *e)
{
    enum rc rc = RC_OK;

    for (size_t i = 0; i < n && rc == RC_OK; i++)
        if (table[i].value)
            rc = setting_set(&table[i], base, str_of(table[i].value), table[i].name, e);
    return rc;
}

/* --- Lists of named sections --- */

static char **list_of(struct config *c, const struct setting_kind *k)
{
    return (char **)(void *)((char *)c + k->list);
}

static size_t *count_of(struct config *c, const struct setting_kind *k)
{
    return (size_t *)(void *)((char *)c + k->count);
}

static void *element(const struct config *c, const struct setting_kind *k, size_t i)
{
    return *list_of((struct config *)(uintptr_t)c, k) + i * k->size;
}

static size_t length(const struct config *c, const struct setting_kind *k)
{
    return *count_of((struct config *)(uintptr_t)c, k);
}

static char **name_of(void *one)
{
    return one;
}

static void wipe_key(struct config_upstream *u)
{
    if (!u->key)
        return;
    mem_wipe(u->key, strlen(u->key));
    mem_free(u->key);
    u->key = NULL;
}

static void drop_list(struct config *c, const struct setting_kind *k)
{
    for (size_t i = 0; i < length(c, k); i++) {
        void *one = element(c, k, i);

        for (size_t s = 0; s < k->n_settings; s++)
            setting_drop(&k->settings[s], one);
        mem_free(*name_of(one));
        if (k == &setting_kinds[KIND_UPSTREAM])
            wipe_key(one);
    }
    mem_free(*list_of(c, k));
    *list_of(c, k) = NULL;
    *count_of(c, k) = 0;
}

void config_done(struct config *c)
{
    for (size_t i = 0; i < n_settings; i++)
        setting_drop(&settings[i], c);
    for (size_t i = 0; i < KIND_COUNT; i++)
        drop_list(c, &setting_kinds[i]);
    for (size_t i = 0; i < c->n_aliases; i++) {
        mem_free(c->aliases[i].from);
        mem_free(c->aliases[i].to);
    }
    mem_free(c->aliases);
    c->aliases = NULL;
    c->n_aliases = 0;
}

void *config_add(struct config *c, const struct setting_kind *k)
{
    char **list = list_of(c, k);
    void *one;

    if (!*list)
        *list = (char *)mem_new_n(char *, (k->most * k->size) / sizeof(char *) + 1);
    if (length(c, k) == k->most)
        return NULL;
    one = element(c, k, (*count_of(c, k))++);
    CHECK(set_defaults(k->settings, k->n_settings, one, NULL) == RC_OK);
    return one;
}

struct catalog_alias *config_add_alias(struct config *c, struct str from, struct str to)
{
    struct catalog_alias *a;

    if (!c->aliases)
        c->aliases = mem_new_n(struct catalog_alias, LIMIT_ALIASES);
    for (size_t i = 0; i < c->n_aliases; i++)
        if (str_is(from, c->aliases[i].from))
            return NULL;
    if (c->n_aliases == LIMIT_ALIASES)
        return NULL;
    a = &c->aliases[c->n_aliases++];
    a->from = mem_dup(from.p, from.n);
    a->to = mem_dup(to.p, to.n);
    return a;
}

/* --- The file ----------------------------------------------------------------------- */

/* Not fs_slurp: a file may be a pipe here (--config <(...)), which has no size. */
static enum rc read_small(const char *path, size_t max, char **ret, size_t *ret_n,
                          struct err *e)
{
    int fd = -1;
    size_t n = 0;
    ssize_t got = 0;
    char *p;
    enum rc rc = fs_open(path, O_RDONLY, 0, &fd, e);

    if (rc != RC_OK)
        return rc;
    p = mem_alloc(max + 1);
    while (n <= max) {
        got = read(fd, p + n, max + 1 - n);
        if (got == 0 || (got < 0 && errno != EINTR))
            break;
        n += got > 0 ? (size_t)got : 0;
    }
    if (got < 0)
        rc = err_sys(e, rc_of_errno(errno), errno, "cannot read '%s'", path);
    else if (n > max)
        rc = err_set(e, RC_LIMIT, "'%s' has more than %zu bytes", path, max);
    fs_close(&fd);
    if (rc == RC_OK) {
        *ret = p;
        *ret_n = n;
        return RC_OK;
    }
    mem_wipe(p, n);
    mem_free(p);
    return rc;
}

static enum rc load_file(struct config *c, const char *path, struct err *e)
{
    size_t n;
    char *text;
    enum rc rc = read_small(path, FILE_MAX, &text, &n, e);

    if (rc != RC_OK)
        return rc;
    rc = config_parse(c, (struct str){text, n}, path, e);
    mem_free(text);
    return rc;
}

/* --- Environment and flags ---------------------------------------------------------- */

/* Unknown BATCHD_ names are left alone: Kubernetes sets BATCHD_PORT and its like for a
 * service of that name. */
static enum rc load_environment(struct config *c, struct err *e)
{
    enum rc rc = RC_OK;

    for (size_t i = 0; i < n_settings && rc == RC_OK; i++) {
        char name[SETTING_NAME_CAP];
        const char *value;

        setting_env(&settings[i], name);
        value = getenv(name);
        if (!value || !value[0])
            continue;
        c->origin[i] = CONFIG_ENVIRONMENT;
        rc = setting_set(&settings[i], c, str_of(value), name, e);
    }
    return rc;
}

static enum rc load_flags(struct config *c, const struct config_sources *src,
                          struct err *e)
{
    enum rc rc = RC_OK;

    for (size_t i = 0; i < src->n_flags && rc == RC_OK; i++) {
        const struct setting *s = src->flags[i].setting;
        char name[SETTING_NAME_CAP];

        setting_flag(s, name);
        c->origin[s - settings] = CONFIG_FLAG;
        rc = setting_set(s, c, str_of(src->flags[i].value), name, e);
    }
    return rc;
}

static enum rc add_by_url(struct config *c, struct str url, const char *key_file,
                          const char *where, struct err *e)
{
    struct config_upstream *u = config_add(c, &setting_kinds[KIND_UPSTREAM]);

    if (!u)
        return err_set(e, RC_INVALID, "there are more than %d upstreams",
                       LIMIT_UPSTREAMS);
    if (key_file)
        u->key_file = mem_dup(key_file, strlen(key_file));
    return setting_set(&upstream_settings[0], u, url, where, e);
}

/* Upstreams named by URL take the place of all that came before. */
static enum rc load_upstreams(struct config *c, const struct config_sources *src,
                              struct err *e)
{
    struct str rest = str_of(getenv("BATCHD_UPSTREAM"));
    const char *key_file = src->upstream_key_file;
    enum rc rc = RC_OK;

    if (!key_file)
        key_file = getenv("BATCHD_UPSTREAM_KEY_FILE");
    if (key_file && !key_file[0])
        key_file = NULL;
    if (src->n_upstreams || rest.n)
        drop_list(c, &setting_kinds[KIND_UPSTREAM]);
    for (size_t i = 0; i < src->n_upstreams && rc == RC_OK; i++)
        rc = add_by_url(c, str_of(src->upstreams[i]), key_file, "--upstream", e);
    while (!src->n_upstreams && rest.n && rc == RC_OK) {
        struct str url = str_trim(str_cut(&rest, ','));

        if (url.n)
            rc = add_by_url(c, url, key_file, "BATCHD_UPSTREAM", e);
    }
    return rc;
}

/* --- Secrets ------------------------------------------------------------------------ */

/* A bare name is a systemd credential where there are any, else a file. */
static enum rc key_path(const char *key_file, char ret[FS_PATH_CAP], struct err *e)
{
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    struct stat st;

    if (dir && dir[0] && !strchr(key_file, '/')) {
        enum rc rc = fs_join(ret, dir, key_file, e);

        if (rc != RC_OK || stat(ret, &st) == 0)
            return rc;
    }
    if (str_fmt(ret, FS_PATH_CAP, "%s", key_file) != RC_OK)
        return err_set(e, RC_LIMIT, "the path '%.200s' is too long", key_file);
    return RC_OK;
}

enum rc config_secret_file(const char *file, char **ret, size_t *ret_n, struct err *e)
{
    char path[FS_PATH_CAP];
    enum rc rc = key_path(file, path, e);

    return rc == RC_OK ? read_small(path, KEY_FILE_MAX, ret, ret_n, e) : rc;
}

enum rc config_key_file(const char *key_file, char **ret, struct err *e)
{
    struct str key;
    char *text;
    size_t n;
    bool good;
    enum rc rc = config_secret_file(key_file, &text, &n, e);

    if (rc != RC_OK)
        return rc;
    key = str_trim((struct str){text, n});
    good = key.n > 0;
    for (size_t i = 0; i < key.n; i++)
        good = good && (unsigned char)key.p[i] > ' ' && (unsigned char)key.p[i] <= '~';
    if (good)
        *ret = mem_dup(key.p, key.n);
    mem_wipe(text, n);
    mem_free(text);
    if (good)
        return RC_OK;
    return err_set(
        e, RC_INVALID,
        "the key file '%.200s' must hold one key: printable characters without "
        "spaces",
        key_file);
}

/* --- All together ------------------------------------------------------------------- */

static bool is_one_of(const char *value, const char *const *words)
{
    for (; *words; words++)
        if (value && strcmp(value, *words) == 0)
            return true;
    return false;
}

static enum rc check_upstream(const struct config_upstream *u, struct err *e)
{
    static const char *const metrics[] = {"auto", "off", NULL};
    static const char *const hedge[] = {"auto", "on", "off", NULL};
    const char *name = u->name ? u->name : u->url;

    if (!is_one_of(u->metrics, metrics) && !setting_url_ok(str_of(u->metrics)))
        return err_set(e, RC_INVALID,
                       "metrics of the upstream '%.100s' is '%.100s'; it must be auto, "
                       "off, or http://HOST or https://HOST with port and path",
                       name, u->metrics);
    if (!is_one_of(u->hedge, hedge))
        return err_set(e, RC_INVALID,
                       "hedge of the upstream '%.100s' is '%.100s'; it must be auto, on "
                       "or off",
                       name, u->hedge);
    return RC_OK;
}

static enum rc check_upstreams(const struct config *c, struct err *e)
{
    static const char *const admission[] = {"warn", "reject", "idle", NULL};
    enum rc rc = RC_OK;

    if (!is_one_of(c->admission, admission))
        return err_set(e, RC_INVALID,
                       "admission is '%.100s'; it must be warn, reject or idle",
                       c->admission);

    for (size_t i = 0; i < c->n_upstreams && rc == RC_OK; i++)
        rc = check_upstream(&c->upstreams[i], e);
    return rc;
}

static enum rc check_together(const struct config *c, struct err *e)
{
    if (c->retry_cap < c->retry_base)
        return err_set(e, RC_INVALID,
                       "retry_cap is smaller than retry_base; it must be "
                       "at least as long");
    if (c->max_window < c->min_window)
        return err_set(e, RC_INVALID,
                       "max_window is smaller than min_window; it must be "
                       "at least as long");
    /* Told here, where all of them are known: an alias is looked up once. */
    for (size_t i = 0; i < c->n_aliases; i++)
        for (size_t k = 0; k < c->n_aliases; k++)
            if (strcmp(c->aliases[i].to, c->aliases[k].from) == 0)
                return err_set(e, RC_INVALID,
                               "the alias '%.100s' stands for '%.100s', which is an "
                               "alias itself; name the model that a server knows",
                               c->aliases[i].from, c->aliases[i].to);
    return check_upstreams(c, e);
}

enum rc config_load(const struct config_sources *src, struct config *ret, struct err *e)
{
    const char *file = src->file ? src->file : getenv("BATCHD_CONFIG");
    struct config c = {0};
    enum rc rc = set_defaults(settings, n_settings, &c, e);

    if (rc == RC_OK && file && file[0])
        rc = load_file(&c, file, e);
    if (rc == RC_OK)
        rc = load_environment(&c, e);
    if (rc == RC_OK)
        rc = load_flags(&c, src, e);
    if (rc == RC_OK)
        rc = load_upstreams(&c, src, e);
    if (rc == RC_OK)
        rc = check_together(&c, e);
    if (rc != RC_OK) {
        config_done(&c);
        return rc;
    }
    *ret = c;
    return RC_OK;
}

enum rc config_load_keys(struct config *c, struct err *e)
{
    enum rc rc = RC_OK;

    for (size_t i = 0; i < c->n_upstreams && rc == RC_OK; i++)
        if (c->upstreams[i].key_file && !c->upstreams[i].key)
            rc = config_key_file(c->upstreams[i].key_file, &c->upstreams[i].key, e);
    return rc;
}

enum config_origin config_origin(const struct config *c, const struct setting *s)
{
    return c->origin[s - settings];
}

static bool same_list(const struct config *a, const struct config *b,
                      const struct setting_kind *k)
{
    if (length(a, k) != length(b, k))
        return false;
    for (size_t i = 0; i < length(a, k); i++) {
        void *x = element(a, k, i), *y = element(b, k, i);

        if (!str_eq(str_of(*name_of(x)), str_of(*name_of(y))))
            return false;
        for (size_t s = 0; s < k->n_settings; s++)
            if (!setting_same(&k->settings[s], x, y))
                return false;
    }
    return true;
}

static bool same_aliases(const struct config *a, const struct config *b)
{
    if (a->n_aliases != b->n_aliases)
        return false;
    for (size_t i = 0; i < a->n_aliases; i++)
        if (strcmp(a->aliases[i].from, b->aliases[i].from) != 0 ||
            strcmp(a->aliases[i].to, b->aliases[i].to) != 0)
            return false;
    return true;
}

void config_reload(struct config *c, const struct config *now,
                   void (*stays)(void *ctx, const char *name), void *ctx)
{
    for (size_t i = 0; i < n_settings; i++) {
        const struct setting *s = &settings[i];

        if (setting_same(s, c, now))
            continue;
        if (s->reload)
            setting_copy(s, c, now);
        else
            stays(ctx, s->name);
    }
    for (size_t i = 0; i < KIND_COUNT; i++)
        if (!same_list(c, now, &setting_kinds[i]))
            stays(ctx, setting_kinds[i].section);
    if (!same_aliases(c, now))
        stays(ctx, "aliases");
}

/* --- Printing ----------------------------------------------------------------------- */

static void print_setting(const struct setting *s, const void *base, struct buf *out)
{
    char allowed[SETTING_VALUE_CAP];
    struct buf text;
    bool is_default;

    buf_init(&text, 8192);
    if (base)
        setting_text(s, base, &text);
    else
        buf_z(&text, s->value ? s->value : "");
    setting_allowed(s, allowed);
    is_default = str_eq(buf_peek(&text), str_of(s->value));
    buf_fmt(out, "\n# %s\n# %s%s%s%s\n", s->doc, allowed,
            s->value ? "; default " : "; not set by default", s->value ? s->value : "",
            s->reload ? "; taken anew on SIGHUP" : "");
    if (is_default && s->example)
        buf_fmt(out, "; %s = %s\n", s->name, s->example);
    else
        buf_fmt(out, "%s%s = %.*s\n", is_default ? "; " : "", s->name,
                STR_ARG(buf_peek(&text)));
    buf_done(&text);
}

/* Without any, its keys are shown all the same. */
static void print_kind(const struct config *c, const struct setting_kind *k,
                       struct buf *out)
{
    for (size_t i = 0; i < length(c, k); i++) {
        void *one = element(c, k, i);

        if (*name_of(one))
            buf_fmt(out, "\n[%s %s]\n", k->section, *name_of(one));
        else
            buf_fmt(out, "\n[%s %zu]\n", k->section, i + 1);
        for (size_t s = 0; s < k->n_settings; s++)
            print_setting(&k->settings[s], one, out);
    }
    if (length(c, k))
        return;
    buf_fmt(out, "\n; [%s NAME]\n", k->section);
    for (size_t s = 0; s < k->n_settings; s++)
        print_setting(&k->settings[s], NULL, out);
}

void config_print(const struct config *c, struct buf *out)
{
    const char *section = "";

    buf_z(out,
          "# Settings of batchd; batchd.conf(5) tells more.  A line that begins with "
          "';' shows\n# the default (or an example, where there is none): take the ';' "
          "away to change it.\n");

    for (size_t i = 0; i < n_settings; i++) {
        if (strcmp(section, settings[i].section) != 0) {
            section = settings[i].section;
            buf_fmt(out, "\n[%s]\n", section);
        }
        print_setting(&settings[i], c, out);
    }
    for (size_t i = 0; i < KIND_COUNT; i++)
        print_kind(c, &setting_kinds[i], out);
    buf_fmt(out,
            "\n%s[aliases]\n\n# NAME = MODEL: requests for NAME are sent as requests "
            "for MODEL; nothing else of them changes.\n",
            c->n_aliases ? "" : "; ");
    for (size_t i = 0; i < c->n_aliases; i++)
        buf_fmt(out, "%s = %s\n", c->aliases[i].from, c->aliases[i].to);
    if (!c->n_aliases)
        buf_z(out, "; gpt-4o-mini = llama-3.3-70b\n");
}

/* --- For the rooms ------------------------------------------------------------------ */

/* A limit that a project's section leaves out is that of [limits]. */
static struct engine_project *engine_projects(const struct config *c)
{
    struct engine_project *all = mem_new_n(struct engine_project, c->n_projects + 1);

    for (size_t i = 0; i < c->n_projects; i++) {
        const struct config_project *p = &c->projects[i];

        all[i] = (struct engine_project){
            .name = p->name,
            .max_lines = p->max_lines ? p->max_lines : c->project_lines,
            .max_inflight = p->max_inflight ? p->max_inflight : c->project_inflight,
            .weight = p->weight,
        };
    }
    return all;
}

static enum engine_admission admission_of(const struct config *c)
{
    if (strcmp(c->admission, "reject") == 0)
        return ADMISSION_REJECT;
    return strcmp(c->admission, "idle") == 0 ? ADMISSION_IDLE : ADMISSION_WARN;
}

static enum engine_hedge hedge_of(const struct config_upstream *u)
{
    if (strcmp(u->hedge, "on") == 0)
        return HEDGE_ON;
    return strcmp(u->hedge, "off") == 0 ? HEDGE_OFF : HEDGE_AUTO;
}

void config_engine(const struct config *c, struct engine_opts *ret,
                   struct engine_upstream **ret_upstreams)
{
    struct engine_upstream *ups = mem_new_n(struct engine_upstream, c->n_upstreams);

    for (size_t i = 0; i < c->n_upstreams; i++) {
        const struct config_upstream *u = &c->upstreams[i];

        ups[i] = (struct engine_upstream){
            .url = u->url,
            .key = u->key,
            .name = u->name,
            .ca_file = u->ca_file,
            .proxy = u->proxy,
            .models = u->models,
            .metrics = setting_url_ok(str_of(u->metrics)) ? u->metrics : NULL,
            .no_metrics = strcmp(u->metrics, "off") == 0,
            .insecure = u->insecure,
            .hedge = hedge_of(u),
            .max_inflight = u->max_inflight,
            .window = u->window,
            .requests_per_minute = u->requests_per_minute,
            .tokens_per_minute = u->tokens_per_minute,
            .reserve = u->reserve,
        };
    }
    *ret = (struct engine_opts){
        .upstreams = ups,
        .n_upstreams = c->n_upstreams,
        .max_inflight = c->max_inflight,
        .max_attempts = c->max_attempts,
        .connect_timeout = c->connect_timeout,
        .idle_timeout = c->idle_timeout,
        .total_timeout = c->total_timeout,
        .drain_timeout = c->cancel_timeout,
        .retry_base = c->retry_base,
        .retry_cap = c->retry_cap,
        .sync_interval = c->sync_interval,
        .max_answer = (size_t)c->max_answer,
        .max_lines = c->max_lines,
        .max_inputs = c->max_inputs,
        .max_file_bytes = c->max_file_size,
        .max_line_bytes = (size_t)c->max_line_size,
        .many_models = c->many_models,
        .dedup = c->dedup,
        .aliases = c->aliases,
        .n_aliases = c->n_aliases,
        .models_refresh = c->models_refresh,
        .sched_trace = c->sched_trace,
        .admission = admission_of(c),
        .output_expires = c->output_expires / USEC_PER_SEC,
        .workers = c->workers,
        .project_default = {.max_lines = c->project_lines,
                            .max_inflight = c->project_inflight},
        .projects = engine_projects(c),
        .n_projects = c->n_projects,
    };
    *ret_upstreams = ups;
}

struct catalog *config_catalog(const struct config *c)
{
    struct catalog *catalog = catalog_new(c->n_upstreams, c->aliases, c->n_aliases);

    for (size_t i = 0; i < c->n_upstreams; i++)
        if (c->upstreams[i].models)
            IGNORE(catalog_fix(catalog, (uint16_t)i, c->upstreams[i].models)); /* new */
    return catalog;
}

bool config_loopback(const char *listen)
{
    struct str s = str_of(listen);

    while (s.n && s.p[s.n - 1] != ':')
        s.n--;
    if (s.n)
        s.n--; /* the colon */
    return str_is(s, "[::1]") || str_is(s, "localhost") ||
           (str_starts(s, STR("127.")) && strspn(s.p, "0123456789.") == s.n);
}
