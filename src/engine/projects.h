/* SPDX-License-Identifier: Apache-2.0 */
/*
 * projects: what each project may use at a time: lines that wait or run, and calls.
 *
 * Owns:    copies of what the configuration says.  Threads: any; read only.
 */
#pragma once

#include "engine/engine.h"

struct projects;

struct projects *projects_new(const struct engine_opts *o);
struct projects *projects_free(struct projects *p); /* accepts NULL, returns NULL */
/* A row for a project that has none of its own is the default's; name NULL then. */
const struct engine_project *projects_get(const struct projects *p,
                                          const struct id *project);
