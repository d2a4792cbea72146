/* SPDX-License-Identifier: Apache-2.0 */
/*
 * skew: a library for LD_PRELOAD that lets a program see another wall clock: true time plus
 * the seconds in the file $SKEW, which may change at any moment; "@N" in it is second N of the
 * epoch and stands still.  The kernel's word that somebody has set the clock is "no", unless
 * "synced" follows.  Monotonic clocks are as they are.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static const char *path;

__attribute__((constructor)) static void begin(void)
{
    path = getenv("SKEW");
    unsetenv("LD_PRELOAD"); /* children are not the program */
}

static int true_time(clockid_t id, struct timespec *t)
{
    static int (*real)(clockid_t, struct timespec *);

    if (!real)
        real = (__typeof__(real))dlsym(RTLD_NEXT, "clock_gettime");
    return real(id, t);
}

/* The file's seconds; *ret_still: they are a time of their own. */
static long long skew(bool *ret_still, bool *ret_synced)
{
    char text[64] = "";
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

    if (fd >= 0) {
        ssize_t n = read(fd, text, sizeof text - 1);

        text[n < 0 ? 0 : n] = '\0';
        close(fd);
    }
    *ret_still = text[0] == '@';
    *ret_synced = strstr(text, "synced") != NULL;
    return strtoll(text + *ret_still, NULL, 10);
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    bool still, synced;
    long long by;
    int ret = true_time(id, t);

    if (ret < 0 || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE))
        return ret;
    by = skew(&still, &synced);
    t->tv_sec = still ? by : t->tv_sec + by;
    return 0;
}

time_t time(time_t *ret)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    if (ret)
        *ret = t.tv_sec;
    return t.tv_sec;
}

int gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
    struct timespec t;

    (void)tz;
    clock_gettime(CLOCK_REALTIME, &t);
    *tv = (struct timeval){t.tv_sec, t.tv_nsec / 1000};
    return 0;
}

int adjtimex(struct timex *t)
{
    bool still, synced;

    (void)skew(&still, &synced);
    memset(t, 0, sizeof *t);
    t->status = synced ? 0 : STA_UNSYNC;
    return synced ? TIME_OK : TIME_ERROR;
}
