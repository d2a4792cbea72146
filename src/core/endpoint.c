/* SPDX-License-Identifier: Apache-2.0 */
#include "core/endpoint.h"

static const char *const paths[ENDPOINT_COUNT] = {
#define X(name, path) path,
    ENDPOINT_LIST(X)
#undef X
};

const char *endpoint_path(enum endpoint ep)
{
    CHECK((unsigned)ep < ENDPOINT_COUNT);
    return paths[ep];
}

enum rc endpoint_from(struct str path, enum endpoint *ret)
{
    for (unsigned i = 0; i < ENDPOINT_COUNT; i++) {
        if (str_is(path, paths[i])) {
            *ret = (enum endpoint)i;
            return RC_OK;
        }
    }
    return RC_NOTFOUND;
}

const char *endpoint_all(void)
{
    return "'/v1/responses', '/v1/chat/completions', '/v1/embeddings', '/v1/completions' "
           "and '/v1/moderations'";
}
