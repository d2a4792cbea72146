/* SPDX-License-Identifier: Apache-2.0 */
#include "app/process.h"

#include <errno.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static bool ignored(int sig)
{
    struct sigaction now;

    return sigaction(sig, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

/* Who started us with SIGINT or SIGHUP ignored (a shell's background job, nohup) wants it
 * so; a blocked signal would reach the signalfd all the same. */
static sigset_t watched_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    if (!ignored(SIGINT))
        sigaddset(&set, SIGINT);
    if (!ignored(SIGHUP))
        sigaddset(&set, SIGHUP);
    return set;
}

static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* then the soft limit it is */
}

/* glibc keeps an arena of up to 64 MB for each thread and lets large blocks, once freed,
 * grow the threshold up to which it holds on to them: both cost more than they save in a
 * process whose threads mostly wait. */
static void keep_heap_small(void)
{
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_MMAP_THRESHOLD, 1 << 18);
    mallopt(M_TRIM_THRESHOLD, 1 << 20);
}

/* libcrypto goes on after a start for which it found no memory, and then crashes: so it
 * starts here, where nothing has been promised yet. */
static enum rc start_crypto(struct err *e)
{
    EVP_MD *sha = NULL;

    if (OSSL_LIB_CTX_get0_global_default() &&
        OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL) == 1)
        sha = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (!sha)
        return err_set(e, RC_NOMEM,
                       "libcrypto does not start: no memory, or it has no SHA-256");
    EVP_MD_free(sha);
    return RC_OK;
}

enum rc process_prepare(int *ret_signal_fd, struct err *e)
{
    sigset_t set = watched_signals();
    int fd;
    enum rc rc = start_crypto(e);

    if (rc != RC_OK)
        return rc;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
        return err_set(e, RC_IO, "cannot block signals");
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return err_sys(e, rc_of_errno(errno), errno, "cannot make a signalfd");
    raise_file_limit();
    keep_heap_small();
    prctl(PR_SET_DUMPABLE, 0);
    *ret_signal_fd = fd;
    return RC_OK;
}

int process_signal(int signal_fd)
{
    struct signalfd_siginfo info;

    if (read(signal_fd, &info, sizeof info) != (ssize_t)sizeof info)
        return 0;
    return (int)info.ssi_signo;
}

void process_let_signals_kill(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

void process_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t n = path ? strlen(path) : 0;
    int fd;

    if (n < 2 || n >= sizeof to.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(to.sun_path, path, n);
    if (path[0] == '@')
        to.sun_path[0] = '\0'; /* the abstract namespace, unix(7) */
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    /* A manager that does not listen loses a note, the service goes on. */
    (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&to,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    close(fd);
}
