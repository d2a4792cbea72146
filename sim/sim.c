/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/sim.h"
#include "base/mem.h"
#include "sim/server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void on_signal(void *ctx, int fd, unsigned events)
{
    struct signalfd_siginfo info;

    (void)events;
    if (read(fd, &info, sizeof info) == (ssize_t)sizeof info)
        loop_stop(ctx);
}

/* Every connection is a descriptor: take as many as the system lets us. */
static void raise_files(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        IGNORE(setrlimit(RLIMIT_NOFILE, &r) < 0); /* then fewer connections fit */
    }
}

/* All replicas are served by one loop. */
struct fleet {
    struct loop *loop;
    struct sim_server *server[SIM_REPLICAS_MAX];
    unsigned n;
};

static void on_tick(void *ctx, usec_t now)
{
    struct fleet *f = ctx;

    (void)now;
    for (unsigned i = 0; i < f->n; i++)
        sim_server_tick(f->server[i]);
}

static void say_ready(const struct fleet *f)
{
    for (unsigned i = 0; i < f->n; i++) {
        char at[160];

        sim_server_address(f->server[i], at, sizeof at);
        printf("batchd sim listening on http://%s/v1\n", at);
    }
    fflush(stdout);
}

static void say_crowd(const struct sim_crowd_counts *n)
{
    fprintf(stderr,
            "batchd sim: %llu interactive turns, %llu answered, time to first token p50 "
            "%.3f s, p99 %.3f s\n",
            (unsigned long long)n->turns, (unsigned long long)n->answered,
            (double)sim_crowd_wait(n, 0.5) / (double)USEC_PER_SEC,
            (double)sim_crowd_wait(n, 0.99) / (double)USEC_PER_SEC);
}

static void say_summary(const struct fleet *f)
{
    for (unsigned i = 0; i < f->n; i++) {
        const struct sim_server *s = f->server[i];
        const struct sim_machine *m = sim_engine_machine(s->engine);
        struct sim_totals t = sim_oracle_totals(s->oracle);

        fprintf(stderr,
                "batchd sim: %llu requests on %llu connections: %llu good answers, %llu "
                "faults, %llu given up by the client\n",
                (unsigned long long)t.requests, (unsigned long long)s->accepted,
                (unsigned long long)t.good, (unsigned long long)t.faults,
                (unsigned long long)t.aborted);
        if (m && sim_machine_crowd(m))
            say_crowd(sim_machine_crowd(m));
    }
}

static enum rc open_all(struct fleet *f, const struct sim_options *o, struct err *e)
{
    enum rc rc = RC_OK;

    loop_on_tick(f->loop, on_tick, f);
    while (rc == RC_OK && f->n < o->replicas) {
        rc = sim_server_new(o, f->n + 1, f->loop, &f->server[f->n], e);
        f->n += rc == RC_OK;
    }
    return rc;
}

static enum rc serve(const struct sim_options *o, int sigfd, struct err *e)
{
    struct fleet *f = mem_new(struct fleet);
    struct loop_watch *w = NULL;
    enum rc rc = loop_new(&f->loop, e);

    if (rc == RC_OK)
        rc = loop_watch(f->loop, sigfd, LOOP_IN, on_signal, f->loop, &w, e);
    if (rc == RC_OK)
        rc = open_all(f, o, e);
    if (rc == RC_OK) {
        say_ready(f);
        loop_run(f->loop);
        say_summary(f);
    }
    for (unsigned i = 0; i < f->n; i++)
        IGNORE(sim_server_free(f->server[i])); /* always NULL, as is the next */
    if (w)
        loop_unwatch(f->loop, w);
    IGNORE(loop_free(f->loop));
    mem_free(f);
    return rc;
}

/* The signals are taken by descriptor: none can interrupt anything. */
static enum rc serve_until_signal(const struct sim_options *o, struct err *e)
{
    sigset_t stop, before;
    int fd;
    enum rc rc;

    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    if (sigprocmask(SIG_BLOCK, &stop, &before) < 0)
        return err_sys(e, RC_IO, errno, "cannot block signals");
    fd = signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        rc = err_sys(e, rc_of_errno(errno), errno, "cannot wait for signals");
    } else {
        rc = serve(o, fd, e);
        close(fd);
    }
    IGNORE(sigprocmask(SIG_SETMASK, &before, NULL) < 0); /* it was valid a moment ago */
    return rc;
}

int sim_main(int argc, char **argv)
{
    struct sim_options o;
    struct err e = {""};
    enum rc rc = sim_options_parse(argc, argv, &o, &e);

    if (rc != RC_OK) {
        fprintf(stderr, "batchd sim: %s\n", e.text);
        return 2;
    }
    if (o.help) {
        sim_options_help();
        return 0;
    }
    raise_files();
    rc = serve_until_signal(&o, &e);
    if (rc == RC_OK)
        return 0;
    fprintf(stderr, "batchd sim: %s\n", e.text);
    return rc == RC_INVALID ? 2 : 1;
}
