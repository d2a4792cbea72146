/* SPDX-License-Identifier: Apache-2.0 */
#include "app/faults.h"

#include "json/json.h"

void faults_put_safe(FILE *out, struct str text)
{
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];

        if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\x%02x", c);
        else
            fputc(c, out);
    }
}

void faults_print(FILE *out, const char *file, uint64_t line, struct str code,
                  struct str message)
{
    faults_put_safe(out, str_of(file));
    if (line)
        fprintf(out, ":%llu", (unsigned long long)line);
    fprintf(out, ": %.*s: ", STR_ARG(code));
    faults_put_safe(out, message);
    fputc('\n', out);
}

static void print_one(FILE *out, const char *file, struct str entry)
{
    static const struct json_want wants[] = {{"code", -1}, {"message", -1}, {"line", -1}};
    struct json_val v[COUNTOF(wants)];
    struct buf code, message;
    uint64_t line = 0;

    if (json_read(entry, NULL, wants, COUNTOF(wants), v, NULL, NULL) != RC_OK)
        return;
    buf_init(&code, 256);
    buf_init(&message, (size_t)1 << 16);
    if (v[0].type == JSON_STRING)
        IGNORE(json_unescape(v[0].raw, &code)); /* what cannot be shown stays empty */
    if (v[1].type == JSON_STRING)
        IGNORE(json_unescape(v[1].raw, &message)); /* likewise */
    if (v[2].type == JSON_NUMBER)
        IGNORE(json_u64(&v[2], &line)); /* likewise: 0 */
    faults_print(out, file, line, buf_peek(&code), buf_peek(&message));
    buf_done(&code);
    buf_done(&message);
}

size_t faults_print_json(FILE *out, const char *file, struct str errors)
{
    static const struct json_want want = {"data", -1};
    struct json_val data, entry;
    struct json_iter it;
    struct str key;
    size_t n = 0;

    if (json_read(errors, NULL, &want, 1, &data, NULL, NULL) != RC_OK ||
        data.type != JSON_ARRAY)
        return 0;
    it = json_iter(&data);
    while (json_next(&it, &key, &entry)) {
        print_one(out, file, entry.raw);
        n++;
    }
    return n;
}
