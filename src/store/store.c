/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"
#include "base/mem.h"

static const char *const upload_statuses[UPLOAD_STATUS_COUNT] = {
#define X(name, text) text,
    UPLOAD_STATUS_LIST(X)
#undef X
};

void file_rec_done(struct file_rec *f)
{
    mem_free(f->filename);
    f->filename = NULL;
}

const char *upload_status_name(enum upload_status s)
{
    CHECK((unsigned)s < UPLOAD_STATUS_COUNT);
    return upload_statuses[s];
}

enum rc upload_status_from(struct str name, enum upload_status *ret)
{
    for (unsigned i = 0; i < UPLOAD_STATUS_COUNT; i++) {
        if (str_is(name, upload_statuses[i])) {
            *ret = (enum upload_status)i;
            return RC_OK;
        }
    }
    return RC_NOTFOUND;
}

void upload_rec_done(struct upload_rec *u)
{
    mem_free(u->filename);
    u->filename = NULL;
}

enum upload_status upload_status_at(const struct upload_rec *u, int64_t now)
{
    return u->status == UPLOAD_PENDING && now >= u->expires_at ? UPLOAD_EXPIRED
                                                               : u->status;
}

void outbox_rec_done(struct outbox_rec *o)
{
    mem_free(o->destination);
    mem_free(o->error);
    o->destination = o->error = NULL;
}

void outbox_free(struct outbox_rec *all, size_t n)
{
    for (size_t i = 0; i < n; i++)
        outbox_rec_done(&all[i]);
    mem_free(all);
}

struct store *store_close(struct store *s)
{
    if (!s)
        return NULL;
    s->ops->close(s->self);
    mem_free(s);
    return NULL;
}
