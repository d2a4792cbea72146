/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy: who sends what where: the scheduler, and what it is compared with.
 */
#pragma once

#include "tests/des/world.h"

/* A batch: requests [from, from + n) of the workload, handed in at `at`. */
struct batch_spec {
    uint32_t from, n;
    usec_t at, deadline, window; /* as sched_batch_opts; deadline 0: none */
    int priority;
    bool idle;
    unsigned group; /* index in `groups` */
};

struct group_spec {
    double weight;
};

struct ours_opts {
    unsigned start;  /* of the window; 0: its default */
    unsigned window; /* the most; 0: 1024; with `fixed` what it is */
    bool fixed;
    bool blind;      /* no hint of the KV memory at the start */
    bool no_aborts;  /* closing a call stops nothing (as far as it is told) */
    bool file_order; /* nothing is known of prompts */
    bool admission;  /* a batch that would not be in time is refused */
    uint64_t seed;
    const struct batch_spec *batches; /* NULL: one of all */
    unsigned n_batches;
    const struct group_spec *groups; /* beside group 0 of the scheduler */
    unsigned n_groups;
};

struct ours;
struct ours *ours_new(const struct ours_opts *o, const struct world_opts *wo,
                      const struct work *work);
struct ours *ours_free(struct ours *u);
struct policy ours_policy(struct ours *u, struct world *w);
usec_t ours_ended(const struct ours *u, unsigned batch); /* 0: it did not */
bool ours_refused(const struct ours *u, unsigned batch); /* with `admission` */
uint64_t ours_hedges(const struct ours *u);
bool ours_stopped(const struct ours *u, unsigned batch);
/* What a group was given, in the work of sched_item as the servers counted it; with
 * `groups`. */
double ours_group_work(const struct ours *u, unsigned group);
/* Ends the run when this batch has ended. */
void ours_until(struct ours *u, unsigned batch);

/* First come, first served, with a window of its own for each replica, the least loaded. */
struct plain;
struct plain *plain_new(unsigned window, unsigned replicas, const struct work *work);
struct plain *plain_free(struct plain *f);
struct policy plain_policy(struct plain *f, struct world *w);
