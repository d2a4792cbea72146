/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config: what the operator asked for: defaults, then the INI file, then the environment
 * (BATCHD_...), then flags; the last one that says something counts.
 *
 * Owns:    its texts and the upstreams' keys (wiped when freed).  Secrets come from files
 * only, never from argv or the environment.
 * Threads: one at a time; read-only after config_load.
 * Errors:  RC_INVALID with one sentence that names the place, the value and what is
 * allowed.
 */
#pragma once

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/log.h"
#include "engine/engine.h"

enum { CONFIG_SETTINGS = 50 }; /* rows of the table in setting.c */

enum config_origin { CONFIG_DEFAULT, CONFIG_FILE, CONFIG_ENVIRONMENT, CONFIG_FLAG };

/* The first field of what a named section holds is its name. */
struct config_upstream {
    char *name; /* NULL: given by URL only */
    char *url;
    char *key_file, *ca_file, *proxy; /* NULL: not set */
    char *models;                     /* comma-separated; NULL: any */
    char *metrics;                    /* auto, off or a URL */
    char *hedge;                      /* auto, on or off */
    char *key;                        /* the content of key_file; NULL: none */
    unsigned max_inflight;            /* 0: the general one */
    unsigned window;                  /* 0: as it is found out */
    unsigned reserve;
    unsigned requests_per_minute, tokens_per_minute; /* 0: as it tells */
    bool insecure;
};

/* Who is told of batches that ended: one [webhook NAME]. */
struct config_webhook {
    char *name, *url, *secret_file;
    char *events;  /* comma-separated, without "batch."; NULL: all */
    char *project; /* NULL: of every project */
    char *ca_file; /* NULL: the system's */
};

/* What one project may use, where it differs from [limits]: one [project NAME]. */
struct config_project {
    char *name;
    uint64_t max_bytes;                                       /* 0: as in [limits] */
    unsigned max_files, max_batches, max_lines, max_inflight; /* likewise */
    unsigned weight;                                          /* 0: 1 */
};

/* Each field before `origin` is one row of the table in setting.c. */
struct config {
    char *listen, *data_dir;
    bool insecure_listen;
    usec_t drain_timeout, clock_settle;
    enum log_level log_level;
    uint64_t disk_warn;
    unsigned http_threads, http_workers, max_connections;
    usec_t client_timeout;
    bool compressed_bodies;
    unsigned max_expansion;

    unsigned max_inflight, max_attempts;
    usec_t connect_timeout, idle_timeout, total_timeout, cancel_timeout;
    usec_t retry_base, retry_cap, sync_interval;
    uint64_t max_answer;
    unsigned workers;
    char *sched_trace, *admission;
    usec_t models_refresh;
    enum dedup_mode dedup;

    unsigned max_lines, max_inputs;
    uint64_t max_file_size, max_line_size;
    bool many_models;
    usec_t min_window, max_window;
    uint64_t max_upload_size, max_total_size, max_inline_size;
    uint64_t project_bytes; /* these five: 0 is no limit */
    unsigned project_files, project_batches, project_lines, project_inflight;

    usec_t input_expires, output_expires;

    char *callback_hosts, *callback_secret_file; /* NULL: none */
    bool callback_private;
    usec_t webhook_timeout, webhook_give_up;

    enum config_origin origin[CONFIG_SETTINGS];
    struct config_upstream *upstreams;
    struct config_webhook *webhooks;
    struct config_project *projects;
    struct catalog_alias *aliases;
    size_t n_upstreams, n_webhooks, n_projects, n_aliases;
};

struct setting;

/* What the command line says; all of it borrowed from argv. */
struct config_sources {
    const char *file; /* --config; NULL: $BATCHD_CONFIG, or none */
    const char *upstreams[LIMIT_UPSTREAMS];
    size_t n_upstreams;
    const char *upstream_key_file; /* of the upstreams given by URL */
    struct {
        const struct setting *setting;
        const char *value;
    } flags[2 * CONFIG_SETTINGS];
    size_t n_flags;
};

NODISCARD enum rc config_load(const struct config_sources *src, struct config *ret,
                              struct err *e);
void config_done(struct config *c); /* may run twice */
/* Reads the upstreams' key files; for who is going to use them. */
NODISCARD enum rc config_load_keys(struct config *c, struct err *e);

/* A further element of a kind of named sections, with its defaults, in the list that the
 * kind has in *c; NULL: it is full. */
struct setting_kind;
void *config_add(struct config *c, const struct setting_kind *kind);
/* NULL: there are LIMIT_ALIASES, or one of that name. */
struct catalog_alias *config_add_alias(struct config *c, struct str from, struct str to);

/* Parses the text of an INI file on top of *c; name is for the sentences. */
NODISCARD enum rc config_parse(struct config *c, struct str text, const char *name,
                               struct err *e);

enum config_origin config_origin(const struct config *c, const struct setting *s);

/* The whole of it as an INI file with a comment for each key: a value that is not the
 * default stands as it is, a default behind a ';'.  Secrets are not in it.  A line gets
 * spaces around its '=', and so may become longer than config_parse takes. */
void config_print(const struct config *c, struct buf *out);

/* Takes from `now` what may change while running; calls stays() with each key that was
 * changed and needs a restart. */
void config_reload(struct config *c, const struct config *now,
                   void (*stays)(void *ctx, const char *name), void *ctx);

/* Reads a small file as it stands, with a NUL behind it; a bare name is looked for in
 * $CREDENTIALS_DIRECTORY first.  *ret is wiped and mem_free'd by the caller. */
NODISCARD enum rc config_secret_file(const char *file, char **ret, size_t *ret_n,
                                     struct err *e);
/* Reads a bearer key; a bare name is looked for in $CREDENTIALS_DIRECTORY first.  *ret is
 * wiped and mem_free'd by the caller. */
NODISCARD enum rc config_key_file(const char *key_file, char **ret, struct err *e);

/* ret_upstreams and ret->projects: mem_free'd by the caller; they borrow from c. */
void config_engine(const struct config *c, struct engine_opts *ret,
                   struct engine_upstream **ret_upstreams);

/* What may be said of models without asking an upstream: aliases, and the lists of the
 * configuration.  catalog_free'd by the caller. */
struct catalog *config_catalog(const struct config *c);

/* Is the host of HOST:PORT the machine itself (127.0.0.0/8, ::1, localhost)? */
bool config_loopback(const char *listen);
