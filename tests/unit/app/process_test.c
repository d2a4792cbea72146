/* SPDX-License-Identifier: Apache-2.0 */
#include "app/process.h"
#include "tests/lib/t.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int prepare(void)
{
    struct err e;
    int fd;

    if (process_prepare(&fd, &e) != RC_OK)
        FAIL("%s", e.text);
    return fd;
}

static bool readable(int fd)
{
    struct pollfd p = {fd, POLLIN, 0};

    return poll(&p, 1, 0) == 1;
}

TEST(stop_and_reload_signals_are_read_from_the_descriptor)
{
    int fd = prepare();

    EQ_INT(process_signal(fd), 0);
    kill(getpid(), SIGHUP);
    OK(readable(fd));
    EQ_INT(process_signal(fd), SIGHUP);
    kill(getpid(), SIGTERM);
    EQ_INT(process_signal(fd), SIGTERM);
    kill(getpid(), SIGINT);
    EQ_INT(process_signal(fd), SIGINT);
    EQ_INT(process_signal(fd), 0);
}

TEST(signals_that_the_parent_ignores_stay_ignored)
{
    int fd;

    signal(SIGHUP, SIG_IGN); /* nohup(1) */
    signal(SIGINT, SIG_IGN); /* a shell's background job */
    fd = prepare();
    kill(getpid(), SIGHUP);
    kill(getpid(), SIGINT);
    EQ_INT(process_signal(fd), 0);
    kill(getpid(), SIGTERM);
    EQ_INT(process_signal(fd), SIGTERM);
}

TEST(once_let_a_signal_ends_the_process_at_once)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        prepare();
        process_let_signals_kill();
        kill(getpid(), SIGTERM);
        pause();
        _exit(0);
    }
    OK(waitpid(pid, &status, 0) == pid);
    OK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

TEST(a_broken_pipe_is_an_error_not_an_end)
{
    int p[2];

    prepare();
    OK(pipe2(p, O_CLOEXEC) == 0);
    close(p[0]);
    OK(write(p[1], "x", 1) < 0);
    close(p[1]);
}

TEST(nobody_may_look_into_the_process_and_files_are_plenty)
{
    struct rlimit limit;

    prepare();
    EQ_INT(prctl(PR_GET_DUMPABLE), 0);
    OK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    EQ_INT(limit.rlim_cur, limit.rlim_max);
}

static void told(const char *address, socklen_t n, const char *env)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char got[64] = "";
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    OK(fd >= 0);
    memcpy(at.sun_path, address, n);
    OK(bind(fd, (struct sockaddr *)&at,
            (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) == 0);
    setenv("NOTIFY_SOCKET", env, 1);
    process_notify("READY=1");
    OK(recv(fd, got, sizeof got - 1, 0) == 7);
    EQ_Z(got, "READY=1");
    close(fd);
}

TEST(the_service_manager_is_told_by_path_and_by_abstract_name)
{
    char name[64] = "", env[64], path[100];
    int n;

    n = snprintf(path, sizeof path, "%s/sock", t_dir());
    told(path, (socklen_t)n + 1, path);
    n = snprintf(name + 1, sizeof name - 1, "batchd-test-%d", (int)getpid());
    snprintf(env, sizeof env, "@%s", name + 1);
    told(name, (socklen_t)n + 1, env);
}

TEST(without_a_manager_nothing_is_told)
{
    static const char *const none[] = {"", "relative", "/no/such/socket", "@"};

    unsetenv("NOTIFY_SOCKET");
    process_notify("READY=1");
    for (size_t i = 0; i < COUNTOF(none); i++) {
        setenv("NOTIFY_SOCKET", none[i], 1);
        process_notify("READY=1");
    }
}
