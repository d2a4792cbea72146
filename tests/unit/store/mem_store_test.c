/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store that the tests of the rooms above stand on does what every back end must.
 */
#include "tests/lib/mem_store.h"
#include "tests/unit/store/store_conformance.h"

static struct mem_store *memory;

/* What a store leaves behind is memory, for as long as the test runs. */
static void leave(void *self)
{
    (void)self;
}

static struct store *conformance_open(bool again)
{
    static struct store_ops ops;
    struct store *s = mem_new(struct store);

    if (!again) {
        OK(!memory);
        memory = mem_store_new();
    }
    ops = mem_store_ops;
    ops.close = leave;
    *s = (struct store){&ops, memory};
    return s;
}
