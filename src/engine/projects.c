/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/projects.h"
#include "base/mem.h"

struct projects {
    struct engine_project all; /* who has no row */
    struct engine_project *rows;
    size_t n;
};

struct projects *projects_new(const struct engine_opts *o)
{
    struct projects *p = mem_new(struct projects);

    p->all = o->project_default;
    p->all.name = NULL;
    p->n = o->n_projects;
    p->rows = mem_new_n(struct engine_project, p->n + 1);
    for (size_t i = 0; i < p->n; i++) {
        const struct engine_project *from = &o->projects[i];

        p->rows[i] = *from;
        p->rows[i].name = mem_dup(from->name, strlen(from->name));
    }
    return p;
}

struct projects *projects_free(struct projects *p)
{
    if (!p)
        return NULL;
    for (size_t i = 0; i < p->n; i++)
        mem_free((char *)(uintptr_t)p->rows[i].name);
    mem_free(p->rows);
    mem_free(p);
    return NULL;
}

const struct engine_project *projects_get(const struct projects *p,
                                          const struct id *project)
{
    for (size_t i = 0; i < p->n; i++)
        if (strcmp(p->rows[i].name, project->z) == 0)
            return &p->rows[i];
    return &p->all;
}
