/* SPDX-License-Identifier: Apache-2.0 */
#include "core/endpoint.h"

static const struct {
    const char *path, *title;
} rows[ENDPOINT_COUNT] = {
#define X(name, path, title) {path, title},
    ENDPOINT_LIST(X)
#undef X
};

const char *endpoint_path(enum endpoint ep)
{
    CHECK((unsigned)ep < ENDPOINT_COUNT);
    return rows[ep].path;
}

const char *endpoint_title(enum endpoint ep)
{
    CHECK((unsigned)ep < ENDPOINT_COUNT);
    return rows[ep].title;
}

enum rc endpoint_from(struct str path, enum endpoint *ret)
{
    for (unsigned i = 0; i < ENDPOINT_COUNT; i++) {
        if (str_is(path, rows[i].path)) {
            *ret = (enum endpoint)i;
            return RC_OK;
        }
    }
    return RC_NOTFOUND;
}

const char *endpoint_all(void)
{
#define FIRST(name, path, title) "'" path "'"
#define NEXT(name, path, title)  ", '" path "'"
#define LAST(name, path, title)  " and '" path "'"
    return ENDPOINT_LIST_OF(FIRST, NEXT, LAST);
#undef FIRST
#undef NEXT
#undef LAST
}
