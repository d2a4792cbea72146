/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/server.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "json/json.h"
#include "sim/conn.h"
#include "sim/handle.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* Without descriptors, or while the port is taken, it is tried again so soon. */
#define AGAIN_TIME (50 * USEC_PER_MS)

#define ANSWER_MAX ((size_t)4 << 30)

/* --- The listener --------------------------------------------------------------------
 */

static void on_accept(void *ctx, int fd, unsigned events);
static void on_back(void *ctx, usec_t now);

static void close_listener(struct sim_server *s)
{
    if (s->watch)
        loop_unwatch(s->loop, s->watch);
    if (s->fd >= 0)
        close(s->fd);
    s->watch = NULL;
    s->fd = -1;
}

static enum rc bind_and_listen(struct sim_server *s)
{
    int one = 1;

    /* TCP_NODELAY is inherited by what is accepted: one call less for each. */
    if (setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0 ||
        bind(s->fd, (struct sockaddr *)&s->addr, s->addr_len) < 0 ||
        listen(s->fd, 4096) < 0)
        return rc_of_errno(errno);
    /* Once more on the same port after a crash: it is read back here. */
    if (getsockname(s->fd, (struct sockaddr *)&s->addr, &s->addr_len) < 0)
        return rc_of_errno(errno);
    return loop_watch(s->loop, s->fd, LOOP_IN, on_accept, s, &s->watch, NULL);
}

static enum rc open_listener(struct sim_server *s, struct err *e)
{
    char at[160];
    enum rc rc;
    int errnum;

    s->fd = socket(s->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    rc = s->fd < 0 ? rc_of_errno(errno) : bind_and_listen(s);
    if (rc == RC_OK)
        return RC_OK;
    errnum = errno;
    close_listener(s);
    sim_server_address(s, at, sizeof at);
    return err_sys(e, rc, errnum, "cannot listen on %s", at);
}

/* Each replica has the port behind that of the one before; 0 stays 0. */
static enum rc next_port(struct sim_server *s, struct err *e)
{
    in_port_t *port = s->addr.ss_family == AF_INET6
                          ? &((struct sockaddr_in6 *)&s->addr)->sin6_port
                          : &((struct sockaddr_in *)&s->addr)->sin_port;
    unsigned n = ntohs(*port);

    if (n == 0)
        return RC_OK;
    if (n + s->replica - 1 > UINT16_MAX)
        return err_set(e, RC_INVALID, "--listen: there is no port for replica %u of %u",
                       s->replica, (unsigned)s->o->replicas);
    *port = htons((uint16_t)(n + s->replica - 1));
    return RC_OK;
}

/* "HOST:PORT", "[IPv6]:PORT" */
static enum rc find_address(struct sim_server *s, struct err *e)
{
    const char *colon = strrchr(s->o->listen, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found;
    char host[256];
    int gai;

    if (!colon || !colon[1] ||
        str_fmt(host, sizeof host, "%.*s", (int)(colon - s->o->listen), s->o->listen))
        return err_set(e, RC_INVALID, "--listen: \"%s\" is not HOST:PORT", s->o->listen);
    if (host[0] == '[' && host[strlen(host) - 1] == ']') {
        host[strlen(host) - 1] = '\0';
        memmove(host, host + 1, strlen(host));
    }
    gai = getaddrinfo(host[0] ? host : NULL, colon + 1, &hints, &found);
    if (gai != 0)
        return err_set(e, RC_INVALID, "--listen: \"%s\": %s", s->o->listen,
                       gai_strerror(gai));
    memcpy(&s->addr, found->ai_addr, found->ai_addrlen);
    s->addr_len = found->ai_addrlen;
    freeaddrinfo(found);
    return next_port(s, e);
}

void sim_server_address(const struct sim_server *s, char *dst, size_t cap)
{
    char host[128], port[16];
    bool v6 = s->addr.ss_family == AF_INET6;

    if (getnameinfo((const struct sockaddr *)&s->addr, s->addr_len, host, sizeof host,
                    port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        PANIC("an address of our own has no name");
    IGNORE(str_fmt(dst, cap, v6 ? "[%s]:%s" : "%s:%s", host, port)); /* "" if too long */
}

/* --- Connections ---------------------------------------------------------------------
 */

static void refuse(int fd)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};

    IGNORE(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now) < 0); /* FIN then */
    close(fd);
}

static void take(struct sim_server *s, int fd)
{
    if (sim_mix_refuses(&s->o->faults, s->o->seed, s->accepted++)) {
        sim_oracle_refused(s->oracle);
        refuse(fd);
        return;
    }
    if (sim_conn_new(s, fd) != RC_OK)
        log_warn("sim.accept", "err=\"no memory for a connection\"");
}

static void on_accept(void *ctx, int fd, unsigned events)
{
    struct sim_server *s = ctx;

    (void)events;
    /* A bound, so that a flood of connections does not hold up those that are there. */
    for (int i = 0; i < 256; i++) {
        int got = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (got >= 0) {
            take(s, got);
            continue;
        }
        if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR)
            return;
        /* Out of descriptors: the listener would be ready without end. */
        IGNORE(loop_rewatch(s->loop, s->watch, 0)); /* then it spins, and works */
        loop_timer_set(s->loop, &s->back, loop_now(s->loop) + AGAIN_TIME, on_back, s);
        return;
    }
}

/* --- Being down ----------------------------------------------------------------------
 */

static void on_back(void *ctx, usec_t now)
{
    struct sim_server *s = ctx;
    struct err e;

    if (s->fd >= 0) {
        IGNORE(loop_rewatch(s->loop, s->watch, LOOP_IN)); /* the next turn tries again */
        return;
    }
    if (now >= s->down_until && open_listener(s, &e) == RC_OK) {
        log_info("sim.up", "down_until_us=%lld", (long long)(s->down_until - s->started));
        return;
    }
    loop_timer_set(s->loop, &s->back,
                   now < s->down_until ? s->down_until : now + AGAIN_TIME, on_back, s);
}

static void lay_ghosts(struct sim_server *s)
{
    list_each_safe (it, &s->ghosts)
        sim_handle_lay(list_entry(it, struct sim_conn, link));
}

static double how_slow(const struct sim_server *s)
{
    return sim_schedule_value(&s->o->schedule, SIM_ACT_SLOWER, s->replica,
                              sim_server_time(s));
}

static void go_down(struct sim_server *s, usec_t until)
{
    close_listener(s);
    list_each_safe (it, &s->conns)
        sim_conn_close(list_entry(it, struct sim_conn, link), true);
    lay_ghosts(s);
    if (until > s->down_until)
        s->down_until = until;
    loop_timer_set(s->loop, &s->back, s->down_until, on_back, s);
}

static double share_of_memory(const struct sim_server *s)
{
    return sim_schedule_value(&s->o->schedule, SIM_ACT_SHRINK, s->replica,
                              sim_server_time(s));
}

void sim_server_crash(struct sim_server *s, usec_t back)
{
    struct sim_machine *m = sim_engine_machine(s->engine);

    log_info("sim.crash", "replica=%u back_in_ms=%lld", s->replica,
             (long long)((back - loop_now(s->loop)) / 1000));
    sim_oracle_crashed(s->oracle);
    s->meter = (struct sim_meter){.stopped = 0}; /* a new process counts from 0 */
    s->born_sec = clock_wall_sec();
    go_down(s, back);
    if (!m)
        return;
    sim_machine_crash(m, s->down_until, share_of_memory(s));
    sim_machine_slower(m, how_slow(s));
}

static void on_alarm(void *ctx, usec_t now)
{
    struct sim_alarm *a = ctx;
    struct sim_server *s = a->s;
    const struct sim_window *w = a->w;
    bool began = a->began;

    a->began = true;
    if (!began)
        loop_timer_set(s->loop, &a->timer, s->started + w->to, on_alarm, a);
    switch ((int)w->act) { /* int: the others are looked at when a request comes */
    case SIM_ACT_DOWN:
        if (!began)
            go_down(s, s->started + w->to);
        break;
    case SIM_ACT_CRASH:
        if (!began)
            sim_server_crash(s, s->started + w->to);
        break;
    case SIM_ACT_SHRINK: /* a server with other memory is another process */
        sim_server_crash(s, now);
        break;
    default: /* SIM_ACT_SLOWER */
        sim_engine_slower(s->engine, how_slow(s));
        break;
    }
}

static bool has_alarm(enum sim_act act)
{
    return act == SIM_ACT_DOWN || act == SIM_ACT_CRASH || act == SIM_ACT_SHRINK ||
           act == SIM_ACT_SLOWER;
}

static void set_alarms(struct sim_server *s)
{
    for (unsigned i = 0; i < s->o->schedule.n; i++) {
        const struct sim_window *w = &s->o->schedule.row[i];
        struct sim_alarm *a = &s->alarms[i];

        *a = (struct sim_alarm){.s = s, .w = w};
        if (has_alarm(w->act) && (w->replica == 0 || w->replica == s->replica))
            loop_timer_set(s->loop, &a->timer, s->started + w->from, on_alarm, a);
    }
}

/* --- Life ----------------------------------------------------------------------------
 */

static void free_dead(struct sim_server *s)
{
    struct list *it;

    while ((it = list_pop(&s->dead)))
        sim_conn_free(list_entry(it, struct sim_conn, link));
}

void sim_server_tick(struct sim_server *s)
{
    free_dead(s);
}

static struct sim_engine *new_engine(const struct sim_server *s)
{
    const struct sim_options *o = s->o;
    struct sim_machine_opts machine = {
        .model = o->machine,
        .speed = o->speed,
        .crowd = o->crowd,
        .seed = o->seed + s->replica,
    };
    struct sim_engine_opts eo = {.concurrency = o->concurrency,
                                 .max_queued = o->max_queued,
                                 .machine = o->modelled ? &machine : NULL};

    return sim_engine_new(s->loop, &eo);
}

enum rc sim_server_new(const struct sim_options *o, unsigned replica, struct loop *l,
                       struct sim_server **ret, struct err *e)
{
    struct sim_server *s = mem_new(struct sim_server);
    enum rc rc;

    s->mine = *o;
    s->o = &s->mine;
    s->replica = replica;
    s->loop = l;
    s->fd = -1;
    s->engine = new_engine(s);
    sim_quota_init(&s->quota, o, loop_now(l));
    s->oracle = sim_oracle_new(o->oracle);
    list_init(&s->conns);
    list_init(&s->dead);
    list_init(&s->ghosts);
    buf_init(&s->body, ANSWER_MAX);
    buf_init(&s->spare, ANSWER_MAX);
    buf_init(&s->out, ANSWER_MAX);
    buf_init(&s->limits, 4096);
    buf_init(&s->stale, ANSWER_MAX);
    memset(s->filling, 'x', sizeof s->filling);
    random_bytes(&s->id_state, sizeof s->id_state);
    s->started = loop_now(l);
    s->born_sec = clock_wall_sec();
    rc = find_address(s, e);
    if (rc == RC_OK)
        rc = open_listener(s, e);
    if (rc != RC_OK) {
        IGNORE(sim_server_free(s)); /* always NULL */
        return rc;
    }
    set_alarms(s);
    *ret = s;
    return RC_OK;
}

struct sim_server *sim_server_free(struct sim_server *s)
{
    if (!s)
        return NULL;
    close_listener(s);
    loop_timer_clear(s->loop, &s->back);
    for (unsigned i = 0; i < COUNTOF(s->alarms); i++)
        loop_timer_clear(s->loop, &s->alarms[i].timer);
    list_each_safe (it, &s->conns)
        sim_conn_close(list_entry(it, struct sim_conn, link), false);
    lay_ghosts(s);
    free_dead(s);
    IGNORE(sim_engine_free(s->engine)); /* always NULL, as is the next */
    IGNORE(sim_oracle_free(s->oracle));
    buf_done(&s->body);
    buf_done(&s->spare);
    buf_done(&s->out);
    buf_done(&s->limits);
    buf_done(&s->stale);
    mem_free(s->names);
    mem_free(s);
    return NULL;
}

/* --- Models --------------------------------------------------------------------------
 */

/* The names one behind the other, each with a NUL, and how many. */
static enum rc read_names(struct str json, struct buf *names, unsigned *ret_n)
{
    struct json_val top, v;
    struct json_iter it;
    struct str key;
    unsigned n = 0;

    if (json_read(json, &(struct json_limits){0}, NULL, 0, NULL, &top, NULL) != RC_OK ||
        top.type != JSON_ARRAY || top.count > SIM_MODELS_MAX)
        return RC_INVALID;
    for (it = json_iter(&top); json_next(&it, &key, &v); n++) {
        size_t from = names->n;

        if (v.type != JSON_STRING || json_unescape(v.raw, names) != RC_OK ||
            !sim_name_fits((struct str){names->p + from, names->n - from}) ||
            buf_char(names, '\0') != RC_OK)
            return RC_INVALID;
    }
    *ret_n = n;
    return RC_OK;
}

enum rc sim_server_set_models(struct sim_server *s, struct str json)
{
    struct buf names;
    const char *at;
    unsigned n = 0;

    if (str_is(str_trim(json), "null")) {
        s->unlisted = true;
        return RC_OK;
    }
    buf_init(&names, SIM_MODELS_MAX * (SIM_NAME_MAX + 1));
    if (read_names(json, &names, &n) != RC_OK) {
        buf_done(&names);
        return RC_INVALID;
    }
    mem_free(s->names);
    at = s->names = buf_take(&names, NULL);
    CHECK(at);
    for (unsigned i = 0; i < n; i++, at += strlen(at) + 1)
        s->mine.models[i] = at;
    s->mine.n_models = n;
    s->unlisted = false;
    return RC_OK;
}

bool sim_server_unloaded(const struct sim_server *s)
{
    return sim_schedule_at(&s->o->schedule, SIM_ACT_UNLOAD, s->replica,
                           sim_server_time(s)) != NULL;
}

/* --- Metrics -------------------------------------------------------------------------
 */

enum sim_blur sim_server_blur(const struct sim_server *s)
{
    const struct sim_window *w =
        sim_schedule_at(&s->o->schedule, SIM_ACT_METRICS, s->replica, sim_server_time(s));

    return w ? w->blur : s->o->blur;
}

struct sim_state sim_server_state(struct sim_server *s)
{
    const struct sim_options *o = s->o;

    return (struct sim_state){
        .load = sim_engine_load(s->engine),
        .model = o->n_models ? o->models[0] : "",
        .modelled = o->modelled,
        .slots = o->modelled ? o->machine.max_seqs : o->concurrency,
        .born_sec = s->born_sec,
    };
}

static void put_garbage(struct sim_server *s, struct buf *dst)
{
    for (int i = 0; i < 64; i++) {
        uint64_t bits = sim_mix64(s->id_state++);

        (void)buf_add(dst, &bits, sizeof bits);
    }
}

void sim_server_metrics(struct sim_server *s, enum sim_blur blur, struct buf *dst)
{
    struct sim_state state;

    if (blur == SIM_BLUR_GARBAGE) {
        put_garbage(s, dst);
        return;
    }
    if (blur != SIM_BLUR_STALE)
        buf_reset(&s->stale);
    if (blur == SIM_BLUR_STALE && s->stale.n) {
        (void)buf_str(dst, buf_peek(&s->stale));
        return;
    }
    state = sim_server_state(s);
    sim_meter_text(&s->meter, &state, s->o->metrics, dst);
    if (blur == SIM_BLUR_STALE)
        (void)buf_str(&s->stale, buf_peek(dst)); /* else the next one is as good */
}

const char *sim_server_date(struct sim_server *s)
{
    int64_t sec = clock_wall_sec();
    time_t t = (time_t)sec;
    struct tm tm;

    if (sec != s->date_sec && gmtime_r(&t, &tm)) {
        s->date_sec = sec;
        (void)strftime(s->date, sizeof s->date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    }
    return s->date;
}
