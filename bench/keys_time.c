/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keys_time: does the time that a wrong key takes tell anything of the right one?
 *
 *     keys_time [CHECKS]      1,000,000 by default
 *
 * After dudect (Reparaz, Balasch, Verbauwhede, 2017): two kinds of keys are checked in
 * random order, the processor's counter is read around each, and Welch's t-test compares
 * the two, over all times and over those below each of several percentiles (the slow ones
 * are interrupts).  The kinds: the right id with all but the last digit of the right
 * secret, and the right id with a random secret.  (An id is public: that a known one
 * takes another time than an unknown one is no secret.)  Exit status 1 when |t| is 4.5 or
 * more.  Also prints what a check costs.
 */
#include "base/clock.h"
#include "base/fsio.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/keyring.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { CUTS = 20, POOL = 1024 };

static uint64_t ticks(void)
{
#if defined(__x86_64__)
    uint32_t lo, hi;

    __asm__ __volatile__("lfence; rdtsc; lfence" : "=a"(lo), "=d"(hi)::"memory");
    return (uint64_t)hi << 32 | lo;
#elif defined(__aarch64__)
    uint64_t v;

    __asm__ __volatile__("isb; mrs %0, cntvct_el0" : "=r"(v)::"memory");
    return v;
#else
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
#endif
}

static uint64_t state = 88172645463325252u;

static uint32_t roll(uint32_t n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % n;
}

/* --- Welch's t-test -------------------------------------------------------------------
 */

struct sums {
    double n, mean, m2;
};

static void take(struct sums *s, double x)
{
    double d = x - s->mean;

    s->n++;
    s->mean += d / s->n;
    s->m2 += d * (x - s->mean);
}

static double welch(const struct sums *a, const struct sums *b)
{
    double va = a->m2 / (a->n - 1), vb = b->m2 / (b->n - 1);

    if (a->n < 1000 || b->n < 1000 || va + vb == 0)
        return 0;
    return (a->mean - b->mean) / sqrt(va / a->n + vb / b->n);
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* The greatest |t| over the cuts, as dudect does. */
static double worst_t(const uint64_t *times, const uint8_t *kinds, size_t n)
{
    uint64_t *sorted = mem_new_n(uint64_t, n);
    double worst = 0;

    memcpy(sorted, times, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_value);
    for (int cut = 0; cut <= CUTS; cut++) {
        double share = cut == CUTS ? 1 : 1 - pow(0.5, 10.0 * (cut + 1) / CUTS);
        uint64_t limit = sorted[(size_t)((double)(n - 1) * share)];
        struct sums s[2] = {{0}};
        double t;

        for (size_t i = 0; i < n; i++)
            if (times[i] <= limit)
                take(&s[kinds[i]], (double)times[i]);
        t = fabs(welch(&s[0], &s[1]));
        worst = t > worst ? t : worst;
    }
    mem_free(sorted);
    return worst;
}

/* --- The keys ------------------------------------------------------------------------
 */

static void random_hex(char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = "0123456789abcdef"[roll(16)];
}

static char *secret_of(char *key)
{
    return key + sizeof KEY_PREFIX - 1 + KEY_ID_DIGITS + 1;
}

/* Both kinds from pools of one size and built the same way, so that neither is warmer. */
static void fill(char pool[2][POOL][KEY_TEXT_CAP], const char *right)
{
    for (size_t i = 0; i < POOL; i++) {
        for (int kind = 0; kind < 2; kind++) {
            char *key = pool[kind][i], *last = secret_of(key) + KEY_SECRET - 1;

            memcpy(key, right, KEY_TEXT_CAP);
            if (kind == 1)
                random_hex(secret_of(key), KEY_SECRET);
            else
                *last = *last == '0' ? '1' : '0';
        }
    }
}

static double measure(struct keyring *k, char pool[2][POOL][KEY_TEXT_CAP], size_t n)
{
    uint64_t *times = mem_new_n(uint64_t, n);
    uint8_t *kinds = mem_new_n(uint8_t, n);
    struct id project, id;
    double t;

    for (size_t i = 0; i < n; i++) {
        unsigned kind = roll(2);
        struct str shown = {pool[kind][roll(POOL)], KEY_TEXT_CAP - 1};
        uint64_t from = ticks();

        CHECK(keyring_check(k, shown, &project, &id, NULL) == RC_DENIED);
        times[i] = ticks() - from;
        kinds[i] = (uint8_t)kind;
    }
    t = worst_t(times, kinds, n);
    mem_free(times);
    mem_free(kinds);
    return t;
}

static double nanoseconds_each(struct keyring *k, const char *right)
{
    enum { N = 200000 };
    struct id project, id;
    usec_t from = clock_mono();

    for (int i = 0; i < N; i++)
        CHECK(keyring_check(k, (struct str){right, KEY_TEXT_CAP - 1}, &project, &id,
                            NULL) == RC_OK);
    return (double)(clock_mono() - from) * 1000 / N;
}

static void make_keys(const char *dir, unsigned n, char right[KEY_TEXT_CAP])
{
    char name[32];
    struct key key;

    for (unsigned i = 0; i < n; i++) {
        CHECK(str_fmt(name, sizeof name, "k%u", i) == RC_OK);
        CHECK(keyring_add(dir, str_of(name), STR("default"), 1, right, &key, NULL) ==
              RC_OK);
    }
}

int main(int argc, char **argv)
{
    static char pool[2][POOL][KEY_TEXT_CAP];
    char dir[] = "/tmp/batchd-keys-XXXXXX", path[FS_PATH_CAP], right[KEY_TEXT_CAP];
    size_t n = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000000;
    struct keyring *k = NULL;
    double t;

    log_level_set(LOG_LVL_ERROR);
    CHECK(mkdtemp(dir) && n >= 10000);
    make_keys(dir, 16, right);
    CHECK(keyring_open(dir, &k, NULL) == RC_OK);
    printf("one check of a good key: %.0f ns\n", nanoseconds_each(k, right));
    fill(pool, right);
    t = measure(k, pool, n);
    printf("63 of 64 digits right against random ones: |t| = %.2f over %zu checks\n", t,
           n);
    keyring_free(k);
    CHECK(fs_join(path, dir, KEYFILE_NAME, NULL) == RC_OK && unlink(path) == 0);
    CHECK(fs_join(path, dir, "keys.lock", NULL) == RC_OK && unlink(path) == 0);
    CHECK(rmdir(dir) == 0);
    return t >= 4.5;
}
