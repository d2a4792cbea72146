/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/des/work.h"
#include "base/mem.h"

#include <math.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define TOKEN 4 /* bytes */

/* --- Random numbers --------------------------------------------------------------------- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t rng_next(struct rng *r)
{
    return mix(r->state += UINT64_C(0x9e3779b97f4a7c15));
}

double rng_unit(struct rng *r)
{
    return (double)(rng_next(r) >> 11) / 9007199254740992.0;
}

uint32_t rng_between(struct rng *r, uint32_t a, uint32_t b)
{
    return a + (uint32_t)(rng_next(r) % (b - a + 1));
}

double rng_lognormal(struct rng *r, double mean, double sigma)
{
    double u = 1 - rng_unit(r), v = rng_unit(r);
    double normal = sqrt(-2 * log(u)) * cos(2 * 3.14159265358979 * v);

    return mean * exp(sigma * normal - sigma * sigma / 2);
}

double rng_exponential(struct rng *r, double mean)
{
    return -mean * log(1 - rng_unit(r));
}

uint64_t rng_hash(uint64_t a, uint64_t b, uint64_t c)
{
    return mix(mix(mix(a + 1) ^ b) ^ c);
}

/* --- Memory ----------------------------------------------------------------------------- */

struct chunk {
    struct chunk *next;
    size_t used;
    uint64_t v[1 << 18];
};

static uint64_t *take(struct work *w, size_t n)
{
    struct chunk *c = w->chunks;

    CHECK(n <= COUNTOF(c->v));
    if (!c || c->used + n > COUNTOF(c->v)) {
        c = mem_try(sizeof *c);
        MEM_CHECK(c);
        c->next = w->chunks;
        c->used = 0;
        w->chunks = c;
    }
    c->used += n;
    return c->v + c->used - n;
}

/* --- Prompts ---------------------------------------------------------------------------- */

/* The beginning of a prompt: text behind that of another one. */
struct text {
    struct prefix_feed feed;
    uint64_t chain; /* of the whole blocks so far */
    uint32_t tokens, n_blocks;
    uint64_t *blocks;
    char *chars;                   /* what is written of it; NULL: nothing */
    char carry[SIM_BLOCK * TOKEN]; /* of the block that is not whole */
    unsigned n_carry;
};

static void feed(struct text *t, const char *p, size_t n)
{
    prefix_feed(&t->feed, p, n);
    while (n > 0) {
        size_t k = u64_min(n, sizeof t->carry - t->n_carry);

        memcpy(t->carry + t->n_carry, p, k);
        t->n_carry += (unsigned)k;
        p += k;
        n -= k;
        if (t->n_carry < sizeof t->carry)
            break;
        t->chain = XXH3_64bits_withSeed(t->carry, sizeof t->carry, t->chain);
        t->blocks[t->n_blocks++] = t->chain;
        t->n_carry = 0;
    }
}

/* The bytes as characters that JSON takes as they are, one each. */
static void spell(char *to, const char *bytes, size_t n)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    for (size_t i = 0; i < n; i++)
        to[i] = letters[(uint8_t)bytes[i] % 64];
}

/* So many tokens of text of its own behind `from` (NULL: nothing). */
static void text_make(struct work *w, struct text *t, const struct text *from,
                      uint32_t tokens, struct rng *r)
{
    uint64_t *old = NULL;
    uint64_t bytes[64];

    if (from) {
        *t = *from;
        old = from->blocks;
    } else {
        *t = (struct text){.n_blocks = 0};
        prefix_begin(&t->feed);
    }
    t->blocks = take(w, (t->tokens + tokens) / SIM_BLOCK + 1);
    if (old)
        memcpy(t->blocks, old, t->n_blocks * sizeof *old);
    if (w->out) {
        const char *before = from ? from->chars : NULL;

        t->chars = (char *)take(w, (t->tokens + tokens) * TOKEN / 8 + 1);
        if (before)
            memcpy(t->chars, before, (size_t)t->tokens * TOKEN);
    }
    t->tokens += tokens;
    while (tokens > 0) {
        uint32_t k = (uint32_t)u64_min(tokens, sizeof bytes / TOKEN);

        for (size_t i = 0; i < COUNTOF(bytes) && i < (k * TOKEN + 7) / 8; i++)
            bytes[i] = rng_next(r);
        feed(t, (const char *)bytes, k * TOKEN);
        if (w->out)
            spell(t->chars + (size_t)(t->tokens - tokens) * TOKEN, (const char *)bytes,
                  k * TOKEN);
        tokens -= k;
    }
}

static uint32_t within(double x, uint32_t low, uint32_t high)
{
    return x < low ? low : x > high ? high : (uint32_t)lround(x);
}

/* A request: `from`, text of its own, an answer. */
static void request_make(struct work *w, const struct text *from, uint32_t tokens,
                         uint32_t out, uint32_t max_out, struct rng *r)
{
    struct request *q = &w->v[w->n++];
    struct text t;

    text_make(w, &t, from, tokens, r);
    *q = (struct request){.blocks = t.blocks,
                          .n_blocks = t.n_blocks,
                          .prompt = t.tokens,
                          .out = out,
                          .max_out = max_out};
    prefix_end(&t.feed, &q->prefix);
    if (w->out)
        fprintf(w->out,
                "{\"custom_id\":\"%u\",\"method\":\"POST\",\"url\":\"/v1/completions\","
                "\"body\":{\"model\":\"sim-model\",\"prompt\":\"%.*s\",\"max_tokens\":%u,"
                "\"metadata\":{\"sim_out\":\"%u\"}}}\n",
                w->n, (int)(t.tokens * TOKEN), t.chars, max_out, out);
}

/* --- Workloads -------------------------------------------------------------------------- */

static struct text *texts_new(size_t n)
{
    return mem_new_n(struct text, n);
}

static void classify(struct work *w, uint32_t n, uint32_t prompts, struct rng *r)
{
    struct text *t = texts_new(prompts);

    for (uint32_t i = 0; i < prompts; i++)
        text_make(w, &t[i], NULL, rng_between(r, 1024, 2048), r);
    for (uint32_t i = 0; i < n; i++)
        request_make(w, &t[rng_next(r) % prompts], rng_between(r, 150, 300),
                     within(rng_lognormal(r, 40, 0.5), 1, 256), 256, r);
    mem_free(t);
}

static void make_w1(struct work *w, uint32_t n, struct rng *r)
{
    classify(w, n, 20, r);
}

static void make_w1b(struct work *w, uint32_t n, struct rng *r)
{
    classify(w, n, 500, r);
}

static void make_w2(struct work *w, uint32_t n, struct rng *r)
{
    struct text *common = texts_new(1), *doc = texts_new(1);

    text_make(w, common, NULL, 320, r);
    for (uint32_t i = 0; i < n; i++) {
        if (i % 10 == 0)
            text_make(w, doc, common, within(rng_lognormal(r, 3500, 0.5), 512, 12000), r);
        request_make(w, doc, rng_between(r, 40, 100),
                     within(rng_lognormal(r, 150, 0.6), 1, 1024), 1024, r);
    }
    mem_free(common);
    mem_free(doc);
}

static void make_w3(struct work *w, uint32_t n, struct rng *r)
{
    struct text *common = texts_new(1), *task = texts_new(57);

    text_make(w, common, NULL, 64, r);
    for (unsigned i = 0; i < 57; i++)
        text_make(w, &task[i], common, rng_between(r, 600, 1500), r);
    for (uint32_t i = 0; i < n; i++)
        request_make(w, &task[rng_next(r) % 57], rng_between(r, 60, 180),
                     within(rng_lognormal(r, 6, 0.5), 1, 32), 32, r);
    mem_free(common);
    mem_free(task);
}

static void make_w4(struct work *w, uint32_t n, struct rng *r)
{
    for (uint32_t i = 0; i < n; i++)
        request_make(w, NULL, within(rng_lognormal(r, 220, 0.7), 4, 32000),
                     within(rng_lognormal(r, 400, 1.0), 1, 4096), 4096, r);
}

static void make_w5(struct work *w, uint32_t n, struct rng *r)
{
    make_w1(w, n * 2 / 5, r);
    make_w2(w, n / 5, r);
    make_w4(w, n - n * 2 / 5 - n / 5, r);
}

static void make_w7(struct work *w, uint32_t n, struct rng *r)
{
    for (uint32_t i = 0; i < n; i++)
        request_make(w, NULL, 300, 1, 0, r);
}

static void make_short(struct work *w, uint32_t n, struct rng *r)
{
    for (uint32_t i = 0; i < n; i++)
        request_make(w, NULL, rng_between(r, 100, 200),
                     within(rng_lognormal(r, 40, 0.5), 1, 256), 256, r);
}

/* Conversations: each turn's prompt is the one before and something more. */
static void make_conv(struct work *w, uint32_t n, struct rng *r)
{
    struct text *common = texts_new(1), *turn = texts_new(2);

    text_make(w, common, NULL, 464, r);
    for (uint32_t i = 0; i < n;) {
        unsigned at = 0;

        text_make(w, &turn[0], common, within(rng_lognormal(r, 7750, 1.1), 16, 100000),
                  r);
        for (;; i++, at = !at) {
            request_make(w, &turn[at], rng_between(r, 16, 64),
                         within(rng_lognormal(r, 343, 0.8), 1, 2000), 2048, r);
            if (++i >= n || turn[at].tokens > 110000 || rng_unit(r) > 0.34)
                break;
            i--;
            text_make(w, &turn[!at], &turn[at],
                      within(rng_lognormal(r, 7750, 1.1), 16, 60000), r);
        }
    }
    mem_free(common);
    mem_free(turn);
}

/* Some questions on each of long documents. */
static void make_synth(struct work *w, uint32_t n, struct rng *r)
{
    struct text *common = texts_new(1), *doc = texts_new(1);

    text_make(w, common, NULL, 768, r);
    for (uint32_t i = 0; i < n;) {
        text_make(w, doc, common, within(rng_lognormal(r, 13350, 0.7), 512, 110000), r);
        do
            request_make(w, doc, within(rng_lognormal(r, 900, 0.6), 16, 8000),
                         within(rng_lognormal(r, 149, 0.8), 1, 1000), 1024, r);
        while (++i < n && rng_unit(r) < 0.67);
    }
    mem_free(common);
    mem_free(doc);
}

static const struct kind {
    const char *name;
    uint32_t n;
    void (*make)(struct work *w, uint32_t n, struct rng *r);
} kinds[] = {
    {"W1", 50000, make_w1},      {"W1b", 50000, make_w1b},     {"W2", 50000, make_w2},
    {"W3", 50000, make_w3},      {"W4", 50000, make_w4},       {"W5", 50000, make_w5},
    {"W7", 50000, make_w7},      {"short", 50000, make_short}, {"conv", 12031, make_conv},
    {"synth", 3993, make_synth},
};

static void shuffle(struct work *w, struct rng *r)
{
    for (uint32_t i = w->n; i-- > 1;) {
        uint32_t k = rng_between(r, 0, i);
        struct request q = w->v[i];

        w->v[i] = w->v[k];
        w->v[k] = q;
    }
}

static void sort(struct work *w)
{
    struct prefix *p = mem_new_n(struct prefix, w->n);

    w->order = mem_new_n(uint32_t, w->n);
    w->shared = mem_new_n(uint32_t, w->n);
    for (uint32_t i = 0; i < w->n; i++)
        p[i] = w->v[i].prefix;
    CHECK(prefix_sort(p, w->n, w->order, w->shared) == RC_OK);
    mem_free(p);
}

struct work *work_new(const char *name, uint32_t n, uint64_t seed)
{
    return work_write(name, n, seed, NULL);
}

struct work *work_write(const char *name, uint32_t n, uint64_t seed, FILE *out)
{
    struct rng r = {.state = rng_hash(seed, 0x776f726b, 0)};
    struct work *w;

    for (size_t i = 0; i < COUNTOF(kinds); i++) {
        if (strcmp(kinds[i].name, name) != 0)
            continue;
        w = mem_new(struct work);
        w->name = kinds[i].name;
        w->out = out;
        n = n ? n : kinds[i].n;
        w->v = mem_new_n(struct request, n);
        kinds[i].make(w, n, &r);
        CHECK(w->n == n);
        shuffle(w, &r);
        sort(w);
        return w;
    }
    return NULL;
}

struct work *work_free(struct work *w)
{
    if (!w)
        return NULL;
    while (w->chunks) {
        struct chunk *c = w->chunks;

        w->chunks = c->next;
        mem_free(c);
    }
    mem_free(w->v);
    mem_free(w->order);
    mem_free(w->shared);
    mem_free(w);
    return NULL;
}

/* --- Bound ------------------------------------------------------------------------------ */

struct ids {
    uint64_t *v;
    uint64_t mask;
};

static bool ids_add(struct ids *s, uint64_t id) /* false: it was there */
{
    uint64_t i = id & s->mask;

    for (; s->v[i]; i = (i + 1) & s->mask)
        if (s->v[i] == id)
            return false;
    s->v[i] = id;
    return true;
}

struct bound work_bound(const struct work *w, const struct sim_model_opts *o,
                        unsigned replicas)
{
    double usec = 0, prompts = 0, fresh = 0, longest = 0;
    uint64_t blocks = 1, size = 1;
    struct ids seen;

    for (uint32_t i = 0; i < w->n; i++)
        blocks += w->v[i].n_blocks;
    while (size < 2 * blocks)
        size *= 2;
    seen = (struct ids){mem_new_n(uint64_t, size), size - 1};
    for (uint32_t i = 0; i < w->n; i++) {
        const struct request *q = &w->v[i];
        double new = q->prompt, from, made = q->out - 1;
        uint32_t most = (q->prompt - 1) / SIM_BLOCK, hit = 0;

        for (uint32_t k = 0; k < q->n_blocks; k++)
            if (!ids_add(&seen, q->blocks[k]) && k < most)
                hit = k + 1;
        from = o->cache ? hit * SIM_BLOCK : 0;
        new -= from;
        usec += (new + made) * o->c1 + o->c4 * new *(from + new / 2) +
                o->c3 *made *(q->prompt + q->out / 2.0);
        prompts += q->prompt;
        fresh += new;
        longest = fmax(longest, q->out * (o->t0 + o->w));
    }
    mem_free(seen.v);
    return (struct bound){fmax(usec / replicas, longest) / 1e6, 1 - fresh / prompts};
}
