/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handle: what a request is answered with: the routes, the fault it meets, the engine,
 * and the record of it.  Threads: the loop's.
 */
#pragma once

#include "sim/conn.h"

/* A whole request is there: sends, waits, or closes. */
void sim_handle(struct sim_conn *c, struct str body);
/* The request cannot be read: says so and closes. */
void sim_handle_bad(struct sim_conn *c, int status, const char *why);
/* The connection ends while its request has no answer.  Sets `ghost` when its work goes
 * on. */
void sim_handle_gone(struct sim_conn *c, bool by_client);
/* The work of a ghost is over before its end. */
void sim_handle_lay(struct sim_conn *c);
