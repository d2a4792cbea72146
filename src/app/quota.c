/* SPDX-License-Identifier: Apache-2.0 */
#include "app/quota.h"

static const struct config_project *find(const struct config *c, const struct id *project)
{
    for (size_t i = 0; i < c->n_projects; i++)
        if (strcmp(c->projects[i].name, project->z) == 0)
            return &c->projects[i];
    return NULL;
}

void quota_of_config(void *config, const struct id *project, struct api_quota *ret)
{
    const struct config *c = config;
    const struct config_project *p = find(c, project);

    *ret = (struct api_quota){.bytes = c->project_bytes,
                              .files = c->project_files,
                              .batches = c->project_batches,
                              .lines = c->project_lines};
    if (!p)
        return;
    if (p->max_bytes)
        ret->bytes = p->max_bytes;
    if (p->max_files)
        ret->files = p->max_files;
    if (p->max_batches)
        ret->batches = p->max_batches;
    if (p->max_lines)
        ret->lines = p->max_lines;
}
