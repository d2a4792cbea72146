/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/sim.h"
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

static void say_ready(const struct sim_server *s)
{
    char at[160];

    sim_server_address(s, at, sizeof at);
    printf("batchd sim listening on http://%s/v1\n", at);
    fflush(stdout);
}

static void say_summary(const struct sim_server *s)
{
    struct sim_totals t = sim_oracle_totals(s->oracle);

    fprintf(stderr,
            "batchd sim: %llu requests on %llu connections: %llu good answers, %llu "
            "faults, %llu given up by the client\n",
            (unsigned long long)t.requests, (unsigned long long)s->accepted,
            (unsigned long long)t.good, (unsigned long long)t.faults,
            (unsigned long long)t.aborted);
}

static enum rc serve(const struct sim_options *o, int sigfd, struct err *e)
{
    struct loop *l = NULL;
    struct loop_watch *w = NULL;
    struct sim_server *s = NULL;
    enum rc rc = loop_new(&l, e);

    if (rc == RC_OK)
        rc = loop_watch(l, sigfd, LOOP_IN, on_signal, l, &w, e);
    if (rc == RC_OK)
        rc = sim_server_new(o, l, &s, e);
    if (rc == RC_OK) {
        say_ready(s);
        loop_run(l);
        say_summary(s);
    }
    IGNORE(sim_server_free(s)); /* always NULL, as is the next */
    if (w)
        loop_unwatch(l, w);
    IGNORE(loop_free(l));
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
