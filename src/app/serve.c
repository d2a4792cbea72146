/* SPDX-License-Identifier: Apache-2.0 */
#include "app/commands.h"
#include "app/exit.h"
#include "app/janitor.h"
#include "app/node.h"
#include "app/options.h"
#include "app/process.h"
#include "app/quota.h"
#include "app/setting.h"
#include "app/version.h"

#include "api/api.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

/* Answers under way when the engine has drained are short ones. */
enum { HTTP_DRAIN_SECONDS = 2 };

struct serve_options {
    bool print_config;
};

static const struct option_spec options[] = {
    {0, "print-config", NULL, OPTION_SWITCH, offsetof(struct serve_options, print_config),
     "Print all settings in effect as a configuration file, and exit."},
};

static const struct command command = {
    .name = "serve",
    .synopsis = "[flags]",
    .text =
        "Runs the server: the OpenAI Files and Batches API over one data directory.\n"
        "Prints one line when it is ready.  SIGTERM ends it in good order, SIGHUP reads "
        "the\nsettings anew.",
    .options = options,
    .n_options = COUNTOF(options),
    .settings = SETTING_SERVE,
};

struct serve {
    struct command_line cl;
    struct config config;
    struct node node;
    struct keyring *keys;
    struct janitor *janitor;
    struct api *_Atomic api; /* read by whoever notices that a promise is broken */
    struct http_server *server;
    int signals;
    int exit_code; /* of a start that failed */
};

/* --- Start ----------------------------------------------------------------------------
 */

/* A keys file that cannot be read is no reason to stay away: it lets nobody in. */
static bool asks_for_keys(struct serve *s)
{
    return keyring_state(s->keys, NULL) != RC_NOTFOUND;
}

static enum rc check_listen(struct serve *s, struct err *e)
{
    const struct config *c = &s->config;
    enum rc rc = keyring_open(c->data_dir, &s->keys, e);

    if (rc != RC_OK || asks_for_keys(s) || config_loopback(c->listen) ||
        c->insecure_listen)
        return rc;
    return err_set(
        e, RC_INVALID,
        "listen is '%.100s', but '%.200s' has no API keys yet: whoever reaches the port "
        "could use it; make one with batchd key add NAME --data-dir '%.200s', or listen "
        "on 127.0.0.1, or say --insecure-listen",
        c->listen, c->data_dir, c->data_dir);
}

static enum rc configure(struct serve *s, struct err *e)
{
    enum rc rc = config_load(&s->cl.config, &s->config, e);

    if (rc == RC_OK)
        log_level_set(s->config.log_level);
    return rc;
}

static void on_dead(void *ctx, const char *why)
{
    struct serve *s = ctx;
    struct api *api = atomic_load(&s->api);

    if (api)
        api_refuse(api, why);
}

static void start_api(struct serve *s)
{
    const struct config *c = &s->config;
    struct api_opts o = {
        .store = s->node.store,
        .blobs = s->node.blobs,
        .engine = s->node.engine,
        .keys = s->keys,
        .max_file_bytes = c->max_file_size,
        .max_upload_bytes = c->max_upload_size,
        .max_expansion = c->compressed_bodies ? c->max_expansion : 0,
        .max_total_bytes = c->max_total_size,
        .quota = quota_of_config,
        .quota_ctx = &s->config,
        .min_window = c->min_window / USEC_PER_SEC,
        .max_window = c->max_window / USEC_PER_SEC,
        .callback_hosts = c->callback_hosts,
        .file_expires = c->input_expires / USEC_PER_SEC,
        .max_inline_bytes = c->max_inline_size,
    };

    atomic_store(&s->api, api_new(&o));
}

static enum rc start_server(struct serve *s, struct err *e)
{
    const struct config *c = &s->config;
    struct http_handler handler = api_handler(s->api);
    struct http_server_opts o = {
        .listen = c->listen,
        .io_threads = c->http_threads,
        .workers = c->http_workers,
        .max_connections = c->max_connections,
        .idle_seconds = (unsigned)((c->client_timeout + USEC_PER_SEC - 1) / USEC_PER_SEC),
    };
    enum rc rc = http_server_new(&o, &handler, &s->server, e);

    if (rc != RC_OK)
        s->exit_code = rc == RC_INVALID ? EXIT_USAGE
                       : rc == RC_NOMEM ? EXIT_RESOURCES
                                        : EXIT_UNREACHABLE;
    return rc;
}

static enum rc start_janitor(struct serve *s, struct err *e)
{
    struct janitor_opts o = {
        .store = s->node.store,
        .blobs = s->node.blobs,
        .datadir = s->node.datadir,
        .disk_warn = s->config.disk_warn,
    };

    return janitor_new(&o, &s->janitor, e);
}

static enum rc start(struct serve *s, struct err *e)
{
    enum rc rc = config_load_keys(&s->config, e);

    s->exit_code = EXIT_USAGE;
    if (rc == RC_OK)
        rc = check_listen(s, e);
    if (rc != RC_OK)
        return rc;
    s->node = (struct node){.dir = s->config.data_dir,
                            .config = &s->config,
                            .reserve_bytes = DATADIR_RESERVE,
                            .tell = true,
                            .on_dead = on_dead,
                            .ctx = s};
    s->node.exit_code = EXIT_DISK;
    rc = process_prepare(&s->signals, e);
    if (rc != RC_OK)
        s->node.exit_code = exit_of_rc(rc);
    else
        rc = node_open(&s->node, e);
    if (rc == RC_OK)
        rc = node_start(&s->node, e);
    s->exit_code = s->node.exit_code;
    if (rc != RC_OK)
        return rc;
    start_api(s);
    rc = start_server(s, e);
    if (rc == RC_OK && (rc = start_janitor(s, e)) != RC_OK)
        s->exit_code = exit_of_rc(rc);
    return rc;
}

/* The host as it was given, the port as it is. */
static void announce(struct serve *s)
{
    const char *colon = strrchr(s->config.listen, ':');

    log_info("started", "version=%s dir=\"%s\" upstreams=%zu", BATCHD_VERSION,
             s->config.data_dir, s->config.n_upstreams);
    if (s->config.n_upstreams == 0)
        log_warn("no_upstream", "text=\"batches are taken but wait: no upstream is "
                                "configured, see --upstream\"");
    if (!config_loopback(s->config.listen) && !asks_for_keys(s))
        log_warn("insecure_listen",
                 "listen=\"%s\" text=\"whoever reaches the port may use it: no key is "
                 "asked for\"",
                 s->config.listen);
    printf("batchd listening on http://%.*s:%u\n", (int)(colon - s->config.listen),
           s->config.listen, http_server_port(s->server));
    fflush(stdout);
    process_notify("READY=1");
}

/* --- Running ---------------------------------------------------------------------------
 */

static void stays(void *ctx, const char *name)
{
    (void)ctx;
    log_warn("config.needs_restart", "key=%s", name);
}

static void reload(struct serve *s)
{
    struct config now = {0};
    struct err e = {""};
    char text[sizeof e.text + 64];
    enum rc rc;

    (void)clock_accept(); /* whoever sends the signal has looked at it */
    rc = config_load(&s->cl.config, &now, &e);

    if (rc != RC_OK) {
        log_error("config.reload_failed", "err=%s",
                  log_q(text, sizeof text, e.text, strlen(e.text)));
        return;
    }
    config_reload(&s->config, &now, stays, NULL);
    config_done(&now);
    log_level_set(s->config.log_level);
    janitor_set_disk_warn(s->janitor, s->config.disk_warn);
    log_info("config.reloaded", "log_level=%d", (int)s->config.log_level);
}

/* Until a signal says stop, or the node is dead. */
static void watch(struct serve *s)
{
    struct pollfd fds[2] = {{s->signals, POLLIN, 0}, {node_dead_fd(&s->node), POLLIN, 0}};

    for (;;) {
        int sig;

        if (poll(fds, 2, -1) < 0)
            continue;
        if (fds[1].revents)
            _exit(EXIT_DISK); /* recovery is the next start's; nothing here can help */
        while ((sig = process_signal(s->signals)) != 0) {
            if (sig != SIGHUP) {
                log_info("stopping", "signal=%d grace_ms=%lld", sig,
                         (long long)(s->config.drain_timeout / USEC_PER_MS));
                return;
            }
            reload(s);
        }
    }
}

/* Clients may still read while the engine drains; nothing new is taken. */
static void drain(struct serve *s)
{
    process_notify("STOPPING=1");
    process_let_signals_kill();
    api_refuse(s->api, "the server is stopping");
    node_drain(&s->node, s->config.drain_timeout);
    http_server_drain(s->server, HTTP_DRAIN_SECONDS);
}

static void finish(struct serve *s)
{
    if (s->server)
        s->server = http_server_free(s->server);
    s->janitor = janitor_free(s->janitor);
    atomic_store(&s->api, api_free(s->api));
    node_close(&s->node);
    s->keys = keyring_free(s->keys);
    config_done(&s->config);
    if (s->signals > 0)
        close(s->signals);
}

static int print_config(const struct config *c)
{
    struct buf text;

    buf_init(&text, (size_t)4 << 20);
    config_print(c, &text);
    fwrite(text.p, 1, text.n, stdout);
    buf_done(&text);
    return fflush(stdout) == 0 ? EXIT_DONE : EXIT_DISK;
}

int serve_main(int argc, char **argv)
{
    struct serve_options o = {0};
    struct serve s = {0};
    struct err e = {""};
    int code = options_take(&command, argc, argv, &o, &s.cl);

    if (code >= 0)
        return code;
    if (configure(&s, &e) != RC_OK)
        return options_fail(EXIT_USAGE, &e);
    if (o.print_config) {
        code = print_config(&s.config);
        config_done(&s.config);
        return code;
    }
    if (start(&s, &e) != RC_OK) {
        finish(&s);
        return options_fail(s.exit_code, &e);
    }
    announce(&s);
    watch(&s);
    drain(&s);
    finish(&s);
    log_info("stopped", "clean=1");
    return EXIT_DONE;
}
