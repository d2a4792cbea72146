/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"
#include "base/mem.h"

void file_rec_done(struct file_rec *f)
{
    mem_free(f->filename);
    f->filename = NULL;
}

struct store *store_close(struct store *s)
{
    if (!s)
        return NULL;
    s->ops->close(s->self);
    mem_free(s);
    return NULL;
}
