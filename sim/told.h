/* SPDX-License-Identifier: Apache-2.0 */
/*
 * told: the answers to what is only read: models, health, metrics, what the server says of
 * itself, and the oracle.  Threads: the loop's.
 */
#pragma once

#include "sim/conn.h"

/* Composes the answer of a route that is no work in the server's `body`, and what differs
 * from a plain 200 in *r.  true: it is to be sent slowly. */
bool sim_told(struct sim_conn *c, struct str path, struct sim_reply *r);
