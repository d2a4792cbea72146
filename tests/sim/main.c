/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulated runs of the engine, the scheduler and the life of batches.
 *
 *   simulate [--seeds N] [--from N] [--jobs N]   N runs; stops at the first violation
 *   simulate --seed N [--trace]                  one run, and what happens in it
 *
 * The last lines are a row of figures and `N passed, N failed`.
 */
#include "tests/sim/sim.h"

#include "base/log.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct options {
    uint64_t from, seeds;
    unsigned jobs;
    bool one, trace;
};

/* Of one worker; in memory that all share. */
struct sums {
    uint64_t runs, events, crashes, faults, seconds, violations, seed, now, trace;
    char failure[512];
};

static struct sums *mine;

static double seconds_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A panic, a crash or a loop without an end: which seed it was. */
static void on_signal(int sig)
{
    char text[96];
    int n = snprintf(text, sizeof text, "# seed %llu ended by signal %d\n",
                     (unsigned long long)mine->now, sig);

    if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0)
        _exit(3);
    _exit(2);
}

static void one_run(struct sums *s, uint64_t seed, bool tell)
{
    struct run_result r;
    bool good;

    s->now = seed;
    alarm(60);
    good = run_seed(seed, tell, &r);
    alarm(0);
    s->runs++;
    s->events += r.events;
    s->crashes += r.crashes;
    s->faults += r.faults;
    s->seconds += (uint64_t)(r.time / USEC_PER_SEC);
    s->trace ^= r.trace * (2 * seed + 1); /* in whatever order, by however many */
    if (good)
        return;
    s->violations++;
    s->seed = seed;
    (void)snprintf(s->failure, sizeof s->failure, "%s", check_failure());
}

static bool any_violation(const struct options *o, const struct sums *all)
{
    for (unsigned i = 0; i < o->jobs; i++)
        if (__atomic_load_n(&all[i].violations, __ATOMIC_RELAXED))
            return true;
    return false;
}

static void worker(const struct options *o, struct sums *all, unsigned number)
{
    struct sums *s = mine = &all[number];

    for (uint64_t i = number; i < o->seeds && !any_violation(o, all); i += o->jobs)
        one_run(s, o->from + i, false);
}

static bool read_number(const char *text, uint64_t *ret)
{
    return text && str_u64(str_of(text), ret) == RC_OK;
}

static int usage(void)
{
    fputs("usage: simulate [--seeds N] [--from N] [--jobs N] | --seed N [--trace]\n",
          stderr);
    return 2;
}

static bool parse(int argc, char **argv, struct options *o)
{
    uint64_t n;

    *o = (struct options){.from = 1, .seeds = 10000, .jobs = 2};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (strcmp(argv[i], "--trace") == 0) {
            o->trace = true;
            continue;
        }
        if (!read_number(value, &n))
            return false;
        if (strcmp(argv[i], "--seeds") == 0)
            o->seeds = n;
        else if (strcmp(argv[i], "--from") == 0)
            o->from = n;
        else if (strcmp(argv[i], "--jobs") == 0 && n >= 1 && n <= 64)
            o->jobs = (unsigned)n;
        else if (strcmp(argv[i], "--seed") == 0)
            o->from = n, o->seeds = 1, o->jobs = 1, o->one = true;
        else
            return false;
        i++;
    }
    return true;
}

static void catch_signals(void)
{
    static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGALRM};
    static char stack[64 << 10];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};

    sigaltstack(&alt, NULL);
    for (size_t i = 0; i < COUNTOF(signals); i++)
        sigaction(signals[i], &act, NULL);
}

/* Violations: of invariants, and workers that did not come to their end. */
static uint64_t run_all(const struct options *o, struct sums *all, struct sums *sum)
{
    uint64_t bad = 0;
    pid_t pids[64];

    fflush(NULL);
    for (unsigned i = 0; i < o->jobs; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            catch_signals();
            worker(o, all, i);
            _exit(0);
        }
    }
    for (unsigned i = 0; i < o->jobs; i++) {
        int status = 1;

        if (pids[i] < 0 || waitpid(pids[i], &status, 0) < 0 || status != 0) {
            bad++;
            printf("seed %llu did not come to its end\n", (unsigned long long)all[i].now);
        }
        if (all[i].violations)
            printf("seed %llu: %s\n", (unsigned long long)all[i].seed, all[i].failure);
        bad += all[i].violations;
        sum->runs += all[i].runs;
        sum->events += all[i].events;
        sum->crashes += all[i].crashes;
        sum->faults += all[i].faults;
        sum->violations += all[i].violations;
        sum->seconds += all[i].seconds;
        sum->trace ^= all[i].trace;
    }
    return bad;
}

int main(int argc, char **argv)
{
    double start = seconds_now();
    struct sums *all, sum = {0};
    struct options o;
    uint64_t bad;

    if (!parse(argc, argv, &o))
        return usage();
    all = mmap(NULL, 64 * sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
               -1, 0);
    CHECK(all != MAP_FAILED);
    if (o.one) {
        mine = &all[0];
        catch_signals();
        one_run(&all[0], o.from, o.trace);
        sum = all[0];
        bad = sum.violations;
        if (bad)
            puts(sum.failure);
    } else {
        bad = run_all(&o, all, &sum);
    }
    printf("%llu runs, %llu events, %llu crashes, %llu faults, %llu simulated hours, "
           "trace %016llx\n",
           (unsigned long long)sum.runs, (unsigned long long)sum.events,
           (unsigned long long)sum.crashes, (unsigned long long)sum.faults,
           (unsigned long long)sum.seconds / 3600, (unsigned long long)sum.trace);
    printf(
        "row: deterministic simulation | %llu seeds, %llu events, %llu crashes | %.1f | "
        "%llu\n",
        (unsigned long long)sum.runs, (unsigned long long)sum.events,
        (unsigned long long)sum.crashes, seconds_now() - start, (unsigned long long)bad);
    printf("%llu passed, %llu failed\n", (unsigned long long)(sum.runs - sum.violations),
           (unsigned long long)bad);
    return bad ? 1 : 0;
}
