/* SPDX-License-Identifier: Apache-2.0 */
#include "api/quota.h"
#include "api/call.h"

static void project_quota(const struct call *c, struct api_quota *ret)
{
    const struct api_opts *o = &c->api->opts;

    *ret = (struct api_quota){0};
    if (o->quota)
        o->quota(o->quota_ctx, &c->project, ret);
}

void quota_of(const struct call *c, struct file_quota *ret)
{
    struct api_quota q;

    project_quota(c, &q);
    *ret = (struct file_quota){.project_bytes = q.bytes,
                               .project_files = q.files,
                               .all_bytes = c->api->opts.max_total_bytes};
}

void quota_batches(const struct call *c, struct batch_quota *ret)
{
    struct api_quota q;

    project_quota(c, &q);
    *ret = (struct batch_quota){.max_live = q.batches};
}

uint64_t quota_file_bytes(const struct call *c, uint64_t max)
{
    struct file_quota q;

    quota_of(c, &q);
    if (q.project_bytes)
        max = u64_min(max, q.project_bytes);
    return q.all_bytes ? u64_min(max, q.all_bytes) : max;
}

static bool over(uint64_t most, uint64_t held, uint64_t more)
{
    return most && (held > most || more > most - held);
}

enum rc quota_room(const struct call *c, uint64_t bytes, struct apierr *fault,
                   struct err *why)
{
    struct store *s = c->api->opts.store;
    struct project_usage mine = {0}, all = {0};
    struct file_quota q;
    enum rc rc = RC_OK;

    quota_of(c, &q);
    if (q.project_bytes || q.project_files)
        rc = s->ops->usage_of(s->self, &c->project, &mine, why);
    if (rc == RC_OK && q.all_bytes)
        rc = s->ops->usage_of(s->self, NULL, &all, why);
    if (rc != RC_OK)
        return rc;
    if (over(q.project_files, mine.files, 1))
        return apierr_set(fault, APIERR_BAD_REQUEST, NULL,
                          "This project holds %llu files, and its limit is %llu: delete "
                          "some that are not needed any more.",
                          (unsigned long long)mine.files,
                          (unsigned long long)q.project_files);
    if (over(q.project_bytes, mine.bytes, bytes))
        return apierr_set(
            fault, APIERR_BAD_REQUEST, NULL,
            "This project holds %llu bytes in files, and with these %llu it "
            "would pass its limit of %llu: delete files that are not needed "
            "any more.",
            (unsigned long long)mine.bytes, (unsigned long long)bytes,
            (unsigned long long)q.project_bytes);
    if (over(q.all_bytes, all.bytes, bytes))
        return apierr_set(fault, APIERR_BAD_REQUEST, NULL,
                          "With these %llu bytes the files of this server would pass its "
                          "limit of %llu bytes in all: delete files that are not needed "
                          "any more, or ask whoever runs it.",
                          (unsigned long long)bytes, (unsigned long long)q.all_bytes);
    return RC_OK;
}

void quota_refuse(struct call *c, const struct err *why)
{
    call_fail_as(c, APIERR_BAD_REQUEST, NULL, "%s", why->text);
}
