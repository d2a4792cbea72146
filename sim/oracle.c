/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/oracle.h"
#include "base/mem.h"

#define BODIES_MIN 4096u
#define BODIES_MAX (4u << 20)

struct body {
    uint64_t hash; /* 0: a free place */
    uint32_t seen, answered;
};

struct sim_oracle {
    struct sim_record *ring;
    uint64_t n_ring, next; /* next ticket; its place is next % n_ring */
    struct body *bodies;   /* open addressing, a power of two, at most 3/4 full */
    size_t cap_bodies, n_bodies;
    uint64_t forgotten; /* bodies of tables that were full */
    uint64_t again;     /* good answers for a body that had one */
    uint64_t refused, crashes;
    struct sim_totals total;
    uint64_t status[600], fault[SIM_FAULT_COUNT];
};

struct sim_oracle *sim_oracle_new(uint64_t ring)
{
    struct sim_oracle *o = mem_new(struct sim_oracle);

    o->n_ring = ring;
    if (ring)
        o->ring = mem_new_n(struct sim_record, ring);
    o->cap_bodies = BODIES_MIN;
    o->bodies = mem_new_n(struct body, o->cap_bodies);
    return o;
}

struct sim_oracle *sim_oracle_free(struct sim_oracle *o)
{
    if (o) {
        mem_free(o->ring);
        mem_free(o->bodies);
    }
    mem_free(o);
    return NULL;
}

/* --- Bodies --------------------------------------------------------------------------
 */

static struct body *find(struct body *table, size_t cap, uint64_t hash)
{
    size_t at = hash & (cap - 1);

    while (table[at].hash && table[at].hash != hash)
        at = (at + 1) & (cap - 1);
    return &table[at];
}

static void make_room(struct sim_oracle *o)
{
    size_t cap = o->cap_bodies * 2;
    struct body *bigger;

    if (o->n_bodies < o->cap_bodies / 4 * 3)
        return;
    if (cap > BODIES_MAX) {
        memset(o->bodies, 0, o->cap_bodies * sizeof *o->bodies);
        o->forgotten += o->n_bodies;
        o->n_bodies = 0;
        return;
    }
    bigger = mem_new_n(struct body, cap);
    for (size_t i = 0; i < o->cap_bodies; i++)
        if (o->bodies[i].hash)
            *find(bigger, cap, o->bodies[i].hash) = o->bodies[i];
    mem_free(o->bodies);
    o->bodies = bigger;
    o->cap_bodies = cap;
}

static struct body *body_of(struct sim_oracle *o, uint64_t hash)
{
    struct body *b;

    hash += hash == 0;
    b = find(o->bodies, o->cap_bodies, hash);
    if (b->hash == 0) {
        make_room(o);
        b = find(o->bodies, o->cap_bodies, hash);
        b->hash = hash;
        o->n_bodies++;
    }
    return b;
}

uint32_t sim_oracle_seen(struct sim_oracle *o, uint64_t hash)
{
    return body_of(o, hash)->seen++;
}

/* --- Records -------------------------------------------------------------------------
 */

uint64_t sim_oracle_came(struct sim_oracle *o, const struct sim_record *r)
{
    o->total.requests++;
    if (o->n_ring)
        o->ring[o->next % o->n_ring] = *r;
    return o->next++;
}

static struct sim_record *record_of(struct sim_oracle *o, uint64_t ticket)
{
    /* else it was overwritten long ago */
    return o->next - ticket <= o->n_ring ? &o->ring[ticket % o->n_ring] : NULL;
}

static void add_work(struct sim_totals *t, const struct sim_work *w, bool wasted)
{
    t->prompt += w->prompt;
    t->cached += w->cached;
    t->computed += w->computed;
    t->made += w->made;
    t->preempted += w->preempted;
    if (wasted)
        t->wasted += (uint64_t)w->computed + w->made;
}

void sim_oracle_went(struct sim_oracle *o, uint64_t ticket, uint64_t hash,
                     const struct sim_end *end)
{
    struct sim_record *r = record_of(o, ticket);
    bool good = end->status == 200 && !end->aborted && sim_fault_good(end->hit.kind);

    o->status[end->status < COUNTOF(o->status) ? end->status : 0]++;
    o->fault[end->hit.kind]++;
    o->total.faults += end->hit.kind != SIM_FAULT_NONE;
    o->total.aborted += end->aborted;
    if (end->work.modelled)
        add_work(&o->total, &end->work, !good);
    if (good) {
        o->total.good++;
        if (body_of(o, hash)->answered++)
            o->again++;
    }
    if (r) {
        r->status = end->status;
        r->hit = end->hit;
        r->aborted = end->aborted;
        r->went = end->now;
        r->work = end->work;
    }
}

void sim_oracle_worked(struct sim_oracle *o, uint64_t ticket, const struct sim_work *w)
{
    struct sim_record *r = record_of(o, ticket);

    add_work(&o->total, w, true);
    if (r)
        r->work = *w;
}

void sim_oracle_refused(struct sim_oracle *o)
{
    o->refused++;
}

void sim_oracle_crashed(struct sim_oracle *o)
{
    o->crashes++;
}

struct sim_totals sim_oracle_totals(const struct sim_oracle *o)
{
    return o->total;
}

/* --- Telling -------------------------------------------------------------------------
 */

static void put_time(struct buf *dst, const char *key, usec_t t)
{
    (void)buf_z(dst, key);
    if (t)
        (void)buf_i64(dst, t);
    else
        (void)buf_z(dst, "null");
}

static void put_work(struct buf *dst, const struct sim_work *w)
{
    put_time(dst, ",\"began_us\":", w->began);
    if (!w->modelled)
        return;
    put_time(dst, ",\"first_us\":", w->first);
    (void)buf_fmt(dst,
                  ",\"prompt\":%u,\"cached\":%u,\"computed\":%u,\"made\":%u,"
                  "\"preempted\":%u",
                  w->prompt, w->cached, w->computed, w->made, w->preempted);
}

static void put_record(struct buf *dst, const struct sim_record *r)
{
    char fault[24];

    (void)buf_z(dst, "{\"id\":");
    (void)json_put_str(dst, str_of(r->id));
    (void)buf_fmt(dst,
                  ",\"path\":\"%s\",\"hash\":\"%016llx\",\"crc32\":\"%08x\","
                  "\"bytes\":%llu,\"attempt\":%u,\"status\":%u,\"fault\":\"%s\","
                  "\"aborted\":%s,\"came_us\":%lld",
                  r->path, (unsigned long long)r->hash, r->crc,
                  (unsigned long long)r->bytes, r->attempt, r->status,
                  sim_hit_text(r->hit, fault), r->aborted ? "true" : "false",
                  (long long)r->came);
    put_work(dst, &r->work);
    put_time(dst, ",\"went_us\":", r->went);
    (void)buf_z(dst, "}\n");
}

void sim_oracle_lines(const struct sim_oracle *o, struct buf *dst)
{
    uint64_t n = u64_min(o->next, o->n_ring);

    for (uint64_t t = o->next - n; t < o->next && buf_failed(dst) == RC_OK; t++)
        put_record(dst, &o->ring[t % o->n_ring]);
}

static void put_statuses(struct json_writer *w, const struct sim_oracle *o)
{
    jw_open(w, "status", '{');
    for (unsigned i = 0; i < COUNTOF(o->status); i++) {
        char name[16];

        if (o->status[i] == 0)
            continue;
        IGNORE(str_fmt(name, sizeof name, "%u", i)); /* three digits fit */
        jw_i64(w, i ? name : "none", (int64_t)o->status[i]);
    }
    jw_close(w, '}');
}

static void put_faults(struct json_writer *w, const struct sim_oracle *o)
{
    jw_open(w, "fault", '{');
    for (unsigned i = SIM_FAULT_NONE + 1; i < SIM_FAULT_COUNT; i++)
        if (o->fault[i])
            jw_i64(w, sim_fault_name((enum sim_fault)i), (int64_t)o->fault[i]);
    jw_close(w, '}');
}

static void put_tokens(struct json_writer *w, const struct sim_totals *t)
{
    jw_open(w, "tokens", '{');
    jw_i64(w, "prompt", (int64_t)t->prompt);
    jw_i64(w, "cached", (int64_t)t->cached);
    jw_i64(w, "computed", (int64_t)t->computed);
    jw_i64(w, "made", (int64_t)t->made);
    jw_i64(w, "wasted", (int64_t)t->wasted);
    jw_close(w, '}');
    jw_i64(w, "preempted", (int64_t)t->preempted);
}

void sim_oracle_counts(const struct sim_oracle *o, struct buf *dst,
                       void (*more)(void *ctx, struct json_writer *w), void *ctx)
{
    struct json_writer w;

    jw_init(&w, dst);
    jw_open(&w, NULL, '{');
    jw_i64(&w, "requests", (int64_t)o->total.requests);
    jw_i64(&w, "bodies", (int64_t)(o->n_bodies + o->forgotten));
    jw_i64(&w, "good", (int64_t)o->total.good);
    jw_i64(&w, "good_again", (int64_t)o->again);
    jw_i64(&w, "faults", (int64_t)o->total.faults);
    jw_i64(&w, "aborted", (int64_t)o->total.aborted);
    jw_i64(&w, "refused_connections", (int64_t)o->refused);
    jw_i64(&w, "crashes", (int64_t)o->crashes);
    put_statuses(&w, o);
    put_faults(&w, o);
    if (o->total.prompt)
        put_tokens(&w, &o->total);
    if (more)
        more(ctx, &w);
    jw_close(&w, '}');
    (void)buf_char(dst, '\n');
}
