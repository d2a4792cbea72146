/* SPDX-License-Identifier: Apache-2.0 */
#include "app/pretty.h"

static void new_line(struct buf *out, unsigned depth)
{
    buf_char(out, '\n');
    for (unsigned i = 0; i < depth; i++)
        buf_z(out, "  ");
}

/* The length of the string that starts at p, with both quotes. */
static size_t string_length(struct str rest)
{
    size_t i = 1;

    while (i < rest.n && rest.p[i] != '"')
        i += rest.p[i] == '\\' ? 2 : 1;
    return i < rest.n ? i + 1 : rest.n;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static size_t next_token(struct str json, size_t i)
{
    while (i < json.n && is_space(json.p[i]))
        i++;
    return i;
}

void pretty_json(struct str json, struct buf *out)
{
    unsigned depth = 0;

    for (size_t i = next_token(json, 0); i < json.n;) {
        char c = json.p[i];
        size_t n = 1;

        if (c == '"') {
            n = string_length((struct str){json.p + i, json.n - i});
            buf_add(out, json.p + i, n);
        } else if (c == '{' || c == '[') {
            size_t after = next_token(json, i + 1);

            buf_char(out, c);
            if (after < json.n && (json.p[after] == '}' || json.p[after] == ']')) {
                buf_char(out, json.p[after]);
                n = after + 1 - i;
            } else {
                new_line(out, ++depth);
            }
        } else if (c == '}' || c == ']') {
            new_line(out, depth ? --depth : 0);
            buf_char(out, c);
        } else {
            buf_char(out, c);
            if (c == ',')
                new_line(out, depth);
            else if (c == ':')
                buf_char(out, ' ');
        }
        i = next_token(json, i + n);
    }
    buf_char(out, '\n');
}
