/* SPDX-License-Identifier: Apache-2.0 */
#include "api/inline.h"

static void put_line(const struct json_val *request, enum endpoint ep, struct buf *out)
{
    struct json_iter it = json_iter(request);
    struct json_val v;
    struct str key, rest = request->raw;
    bool method = false, url = false;

    if (request->type == JSON_OBJECT) {
        while (json_next(&it, &key, &v)) {
            method = method || json_str_is(key, STR("method"));
            url = url || json_str_is(key, STR("url"));
        }
        (void)buf_char(out, '{');
        if (!method)
            (void)buf_fmt(out, "\"method\":\"POST\"%s",
                          !url || request->count ? "," : "");
        if (!url)
            (void)buf_fmt(out, "\"url\":\"%s\"%s", endpoint_path(ep),
                          request->count ? "," : "");
        rest = (struct str){rest.p + 1, rest.n - 1};
    }
    (void)json_one_line(out, rest);
    (void)buf_char(out, '\n');
}

enum rc inline_lines(const struct json_val *requests, enum endpoint ep, struct buf *out)
{
    struct json_iter it = json_iter(requests);
    struct json_val v;

    while (buf_failed(out) == RC_OK && json_next(&it, NULL, &v))
        put_line(&v, ep, out);
    return buf_failed(out);
}
