/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim: what the parts of the simulation share: the plan of a run, and what is true in it as
 * seen from outside the process: its clients, its upstreams, its disk.
 */
#pragma once

#include "engine/engine.h"
#include "engine/webhooks.h"
#include "tests/sim/world.h"

struct http_call;

enum {
    UPS = 3,
    PROJECTS = 3,
    SUBJECTS = 8,
    LINES = 40,
    MODELS = 3,
    HOOKS = 2,
    INPUTS = 8
};

/* --- The plan: drawn at the start of a run ------------------------------------------- */

struct up_plan {
    unsigned window;
    unsigned room;           /* more at a time are turned away; 0: any */
    usec_t fast, slow;       /* an answer takes between these */
    unsigned bad;            /* of 1000 answers */
    unsigned deaths;         /* of 1000 answers, the server dies */
    bool fixed;              /* the configuration says which models */
    bool tells;              /* it has GET /models */
    bool healthy;            /* it has GET /health */
    bool measured;           /* it has GET /metrics */
    enum engine_hedge hedge; /* may its late lines be sent to another, too? */
};

struct plan {
    unsigned n_ups, n_projects, n_hooks, n_models, subjects, crashes, operations;
    struct up_plan ups[UPS];
    struct engine_project projects[PROJECTS];
    struct engine_opts engine;
    usec_t chaos;           /* so long faults are made */
    uint32_t segment_bytes; /* of the results logs; 0: the usual */
    bool hooks, disk_full, disk_slow, syncs_fail, store_fails, wall_jumps, sleeps, rot,
        moving_models, poison, alias;
};

extern struct plan plan;
void plan_draw(void);

/* --- Batches, as a client knows them ------------------------------------------------- */

enum line_state {
    LINE_IDLE,
    LINE_FLYING,  /* in flight in this life */
    LINE_ANSWERED /* for good, in this life */
};

struct line_truth {
    uint32_t number; /* physical line, from 1 */
    uint32_t off, n; /* of the line in the input */
    uint32_t body_off, body_n;
    uint8_t model;
    bool poison;
    uint32_t asks; /* the first line that asks the same: this one, or an earlier one */
};

/* The body of a line, its model called `name` and its number. */
void body_put(struct buf *b, const struct line_truth *line, const char *name);

struct input {
    struct id file;
    unsigned project;
    char *text;
    size_t n;
    unsigned lines;
    bool bad, added, deleted, several;
    uint32_t uploading; /* the life that does */
    struct line_truth line[LINES];
};

struct line_run {
    enum line_state state;
    uint32_t life;       /* of the state */
    uint32_t flights;    /* in flight: 2 when it is hedged */
    uint32_t executions; /* all */
    uint32_t excused;    /* that failed, were given up or were lost by a crash */
    bool durable;        /* told as done: never executed again */
    bool good;           /* ... with an answer */
    uint64_t hash;       /* of its result then */
};

/* What the row says and what was told of it. */
struct subject {
    struct id id;
    unsigned number, project, input;
    int from; /* the subject whose answers it takes over; -1 */
    bool added;
    bool asked_cancel; /* told: cancelling */
    bool damaged;      /* its log lost bytes that were on disk */
    bool may_fail;     /* it may be refused for reasons beside its lines */
    int64_t window;
    struct batch row; /* as the store has it; nothing in it is owned */
    struct batch_counts told;
    uint32_t creating;               /* the life that does */
    uint32_t status_life;            /* when its status changed */
    uint32_t edit_life;              /* when it was edited */
    unsigned edits, edits_told;      /* of the row; those that the process was told of */
    uint64_t edit_mail, cancel_mail; /* it knows once so much mail was received */
    uint32_t told_life, cancel_life;
    bool jumped;     /* the wall clock was set in its time */
    unsigned events; /* outbox rows */
    bool ended;
    usec_t ended_at;
    struct line_run run[LINES];
};

struct truth {
    struct subject subjects[SUBJECTS];
    unsigned n_subjects;
    struct input inputs[INPUTS];
    unsigned n_inputs;
    uint64_t crashes, kills, cuts, deaths, stops, executions, hedges,
        ended[BATCH_STATUS_COUNT];
};

extern struct truth truth;
struct subject *subject_find(const char *batch);

/* --- The process --------------------------------------------------------------------- */

struct process {
    struct engine *engine; /* NULL: not up */
    struct webhooks *hooks;
    bool booting, dying, stopping, stopped, dead_told;
    bool clock_right;    /* it was, at the start */
    unsigned clients;    /* threads that serve clients */
    unsigned last_words; /* events before it is gone, dying */
    usec_t broken;       /* when a promise broke, so that it must die; 0: none has */
};

extern struct process process;
void process_reset(void);
void process_boot(void *ctx, uint64_t arg); /* an event */
void process_die(bool cut);
void process_is_dying(void); /* it was told that a promise is broken: its end is near */
void process_stop(void);     /* as by SIGTERM */
bool process_after_event(void); /* true: it ended, and must be started again */
bool process_up(void);

/* --- The fakes ----------------------------------------------------------------------- */

void servers_reset(void);
void servers_life_over(void);
void servers_calm(void);
unsigned servers_calls(void); /* in flight */
/* Calls in flight for a line; *ret_up: where one of them is. */
unsigned servers_lines_of(const struct subject *s, unsigned item, int *ret_up);
struct loop *engine_loop(void);
unsigned hook_deliveries(const char *event, unsigned hook);
/* The answer of that number: what it was for, and what it said. */
bool execution_find(uint32_t serial, unsigned *ret_subject, unsigned *ret_item,
                    long *ret_status);

void ledger_reset(void);
void ledger_life_over(void);
extern struct store ledger;
extern struct blobs ledger_blobs;
unsigned ledger_puts(void); /* blobs begun and neither committed nor aborted */
char *ledger_content(const char *file, size_t *ret_n); /* of the world; NULL: none */
void ledger_each_event(void (*fn)(void *ctx, const struct outbox_rec *o), void *ctx);
bool ledger_settled(void); /* the outbox */

/* --- Clients ------------------------------------------------------------------------- */

void clients_begin(void);
void clients_calm(void);

/* --- The checks (checks.c has the table) --------------------------------------------- */

enum invariant {
    I1,
    I2,
    I5,
    I6,
    I7,
    I8,
    I9,
    I10,
    I11,
    I12,
    I14,
    I16,
    P1,
    P2,
    P3,
    P4,
    INVARIANTS
};

PRINTF_FMT(2, 3) void violated(enum invariant i, const char *fmt, ...);
bool check_failed(void);
const char *check_failure(void);
void check_reset(void);
void check_row(struct subject *s, const struct batch *b); /* it changed */
void check_send(struct subject *s, unsigned item, const struct http_call *c, int up);
void check_published(struct subject *s, const struct batch_counts *counts,
                     const struct reslog_mark *mark, uint32_t items);
void check_event(void); /* after every event */
void check_end(void);   /* all is over, the process has stopped */

struct run_result {
    uint64_t trace, events, crashes, faults;
    usec_t time;
};
/* false: an invariant was broken; check_failure() tells. */
bool run_seed(uint64_t seed, bool tell, struct run_result *ret);
