/* SPDX-License-Identifier: Apache-2.0 */
#include "store/blob.h"
#include "base/mem.h"

struct blobs *blobs_close(struct blobs *b)
{
    if (!b)
        return NULL;
    b->ops->shut(b->self);
    mem_free(b);
    return NULL;
}
