/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/limits.h"
#include "http/multipart.h"
#include "tests/lib/t.h"

/* What came out, as text: [name|filename|type]data; a NULL field is "-", the end is ".".
 */
struct seen {
    struct buf log;
    unsigned fail_at; /* the callback of this number (from 1) returns RC_NOSPACE */
    unsigned calls;
};

static enum rc count(struct seen *s)
{
    return ++s->calls == s->fail_at ? RC_NOSPACE : RC_OK;
}

static void add(struct buf *b, struct str s)
{
    (void)buf_str(b, s.p ? s : STR("-"));
}

static enum rc begin(void *ctx, const struct multipart_part *part)
{
    struct seen *s = ctx;

    (void)buf_char(&s->log, '[');
    add(&s->log, part->name);
    (void)buf_char(&s->log, '|');
    add(&s->log, part->filename);
    (void)buf_char(&s->log, '|');
    add(&s->log, part->content_type);
    (void)buf_char(&s->log, ']');
    return count(s);
}

static enum rc data(void *ctx, struct str piece)
{
    struct seen *s = ctx;

    OK(piece.n > 0);
    (void)buf_str(&s->log, piece);
    return count(s);
}

static enum rc end(void *ctx)
{
    struct seen *s = ctx;

    (void)buf_char(&s->log, '.');
    return count(s);
}

static struct multipart *open_form(struct seen *s, const char *content_type)
{
    struct multipart_events ev = {s, begin, data, end};
    struct multipart *m;

    buf_init(&s->log, 1 << 20);
    s->calls = 0;
    EQ_RC(multipart_new(str_of(content_type), &ev, &m, NULL), RC_OK);
    return m;
}

static void close_form(struct seen *s, struct multipart *m)
{
    OK(multipart_free(m) == NULL);
    buf_done(&s->log);
}

#define TYPE        "multipart/form-data; boundary=XX"
#define FIRST(rest) "--XX\r\nContent-Disposition: form-data; name=\"f\"" rest "\r\n\r\n"
#define LAST        "\r\n--XX--\r\n"

struct form {
    const char *name;
    const char *type; /* NULL: TYPE */
    struct str body;
    enum rc want;
    const char *log;
};

#define BODY(lit)                                                                        \
    {                                                                                    \
        "" lit, sizeof(lit) - 1                                                          \
    }

static const struct form forms[] = {
    {"curl 7.88",
     "multipart/form-data; boundary=------------------------cbcfc417583f6bc3",
     BODY(
         "--------------------------cbcfc417583f6bc3\r\nContent-Disposition: form-data; "
         "name=\"purpose\"\r\n\r\nbatch\r\n--------------------------cbcfc417583f6bc3\r\n"
         "Content-Disposition: form-data; name=\"file\"; filename=\"we%22ird \\x "
         "\xc3\xbc.jsonl\"\r\nContent-Type: application/octet-stream\r\n\r\n{\"a\":1}\n\r\n"
         "--------------------------cbcfc417583f6bc3--\r\n"),
     RC_OK,
     "[purpose|-|-]batch.[file|we\"ird \\x \xc3\xbc.jsonl|application/octet-stream]"
     "{\"a\":1}\n."},
    {"undici of Node 20",
     "multipart/form-data; boundary=----formdata-undici-092208265673",
     BODY("------formdata-undici-092208265673\r\nContent-Disposition: form-data; "
          "name=\"file\"; filename=\"we%22ird \xc3\xbc%0A.jsonl\"\r\n"
          "Content-Type: application/jsonl\r\n\r\n{\"a\":1}\n\r\n"
          "------formdata-undici-092208265673\r\nContent-Disposition: form-data; "
          "name=\"expires_after[anchor]\"\r\n\r\ncreated_at\r\n"
          "------formdata-undici-092208265673--\r\n"),
     RC_OK,
     "[file|we\"ird \xc3\xbc%0A.jsonl|application/jsonl]{\"a\":1}\n."
     "[expires_after[anchor]|-|-]created_at."},
    {"httpx, which the Python SDK uses",
     "multipart/form-data; boundary=0a4f7a1f7c3b1a9a6c62bd6e3d1dd6f2",
     BODY("--0a4f7a1f7c3b1a9a6c62bd6e3d1dd6f2\r\nContent-Disposition: form-data; "
          "name=\"purpose\"\r\n\r\nbatch\r\n--0a4f7a1f7c3b1a9a6c62bd6e3d1dd6f2\r\n"
          "Content-Disposition: form-data; name=\"file\"; filename=\"C:\\\\x.jsonl\"\r\n"
          "Content-Type: application/octet-stream\r\n\r\n{}\r\n"
          "--0a4f7a1f7c3b1a9a6c62bd6e3d1dd6f2--\r\n"),
     RC_OK, "[purpose|-|-]batch.[file|C:\\x.jsonl|application/octet-stream]{}."},
    {"requests 2.34, no type for the file",
     "multipart/form-data; boundary=81d4e6c0b4d695c67e44e82918bb1d84",
     BODY("--81d4e6c0b4d695c67e44e82918bb1d84\r\nContent-Disposition: form-data; "
          "name=\"file\"; filename=\"a.jsonl\"\r\n\r\n{\"a\":1}\n\r\n"
          "--81d4e6c0b4d695c67e44e82918bb1d84--\r\n"),
     RC_OK, "[file|a.jsonl|-]{\"a\":1}\n."},
    {"urllib3 1.x with a name that is not ASCII", NULL,
     BODY(FIRST("; filename*=utf-8''%C3%BC%20x.jsonl") "1" LAST), RC_OK,
     "[f|\xc3\xbc x.jsonl|-]1."},

    /* delimiters */
    {"no closing CRLF", NULL, BODY(FIRST("") "1\r\n--XX--"), RC_OK, "[f|-|-]1."},
    {"preamble and epilogue are passed over", NULL,
     BODY("pre--XX\r\nam\r\rble\r\n" FIRST("") "1" LAST "epi\r\n--XX\r\nlogue"), RC_OK,
     "[f|-|-]1."},
    {"an empty line before the first delimiter", NULL, BODY("\r\n" FIRST("") "1" LAST),
     RC_OK, "[f|-|-]1."},
    {"blanks behind delimiters", NULL,
     BODY("--XX \t \r\nContent-Disposition: form-data; name=f\r\n\r\n1\r\n--XX-- \t\r\n"),
     RC_OK, "[f|-|-]1."},
    {"empty form", NULL, BODY("--XX--\r\n"), RC_OK, ""},
    {"empty part", NULL, BODY(FIRST("") LAST), RC_OK, "[f|-|-]."},
    {"empty part without a line of its own", NULL, BODY(FIRST("") "--XX--"), RC_OK,
     "[f|-|-]."},
    {"content like the delimiter's beginning", NULL,
     BODY(FIRST("") "\r\n--X\r\n--\r\n-\r\n\r\r\n--YX\r\r\n--X\r\n--XY\r" LAST), RC_OK,
     "[f|-|-]\r\n--X\r\n--\r\n-\r\n\r\r\n--YX\r\r\n--X\r\n--XY\r."},
    {"content that ends like a delimiter's beginning", NULL,
     BODY(FIRST("") "\r\n--X\r\n--\r\r\n-\r" LAST), RC_OK,
     "[f|-|-]\r\n--X\r\n--\r\r\n-\r."},
    {"content that begins like a delimiter", NULL, BODY(FIRST("") "--X-" LAST), RC_OK,
     "[f|-|-]--X-."},
    {"bare line ends in the content are content", NULL,
     BODY(FIRST("") "a\nb\rc\n--X\n\r\n" LAST), RC_OK, "[f|-|-]a\nb\rc\n--X\n\r\n."},
    {"NUL bytes in the content", NULL, BODY(FIRST("") "\0\r\0\n--X\0" LAST), RC_OK, NULL},
    {"boundary with a colon, unquoted", "multipart/form-data;boundary=a:b=c",
     BODY("--a:b=c\r\nContent-Disposition: form-data; name=f\r\n\r\n1\r\n--a:b=c--"),
     RC_OK, "[f|-|-]1."},
    {"boundary quoted, with a space",
     "Multipart/Form-Data ; charset=utf-8; BOUNDARY=\"a b\"",
     BODY("--a b\r\nContent-Disposition: form-data; name=f\r\n\r\n1\r\n--a b--"), RC_OK,
     "[f|-|-]1."},
    {"boundary of dashes", "multipart/form-data; boundary=----",
     BODY(
         "------\r\nContent-Disposition: form-data; name=f\r\n\r\n---\r\n-----\r\n--------"),
     RC_OK, "[f|-|-]---\r\n-----."},
    {"LF behind a delimiter", NULL,
     BODY("--XX\nContent-Disposition: form-data; name=f\r\n\r\n1" LAST), RC_INVALID, ""},
    {"LF before a delimiter", NULL, BODY(FIRST("") "1\n--XX--\r\n"), RC_INVALID,
     "[f|-|-]1"},
    {"LF before a delimiter, first byte of the content", NULL,
     BODY(FIRST("") "\n--XX--\r\n"), RC_INVALID, "[f|-|-]"},
    {"LF before the first delimiter", NULL, BODY("\n" FIRST("") "1" LAST), RC_INVALID,
     ""},
    {"CR alone behind a delimiter", NULL, BODY("--XX\rContent-Disposition: form-data"),
     RC_INVALID, ""},
    {"text behind a delimiter", NULL, BODY(FIRST("") "1\r\n--XXY\r\n"), RC_INVALID,
     "[f|-|-]1"},
    {"one dash behind a delimiter", NULL, BODY(FIRST("") "1\r\n--XX-\r\n"), RC_INVALID,
     "[f|-|-]1"},
    {"dashes behind blanks", NULL, BODY(FIRST("") "1\r\n--XX --\r\n"), RC_INVALID,
     "[f|-|-]1"},
    {"nothing", NULL, BODY(""), RC_INVALID, ""},
    {"only a preamble", NULL, BODY("hello"), RC_INVALID, ""},
    {"cut in the content", NULL, BODY(FIRST("") "1234"), RC_INVALID, "[f|-|-]1234"},
    {"cut in the closing delimiter", NULL, BODY(FIRST("") "1\r\n--XX-"), RC_INVALID,
     "[f|-|-]1"},
    {"cut in a head", NULL, BODY(FIRST("") "1\r\n--XX\r\nConte"), RC_INVALID,
     "[f|-|-]1."},

    /* heads */
    {"several parts, any case, other head lines", NULL,
     BODY(
         "--XX\r\nX-A: b\r\nCONTENT-DISPOSITION:form-data;name=a\r\n\r\n1\r\n"
         "--XX\r\ncontent-type:\t text/plain; charset=utf-8 \r\nContent-Disposition: "
         "Form-Data ; NAME=\"b\"; x=y;\r\nContent-Transfer-Encoding: binary\r\n\r\n2" LAST),
     RC_OK, "[a|-|-]1.[b|-|text/plain; charset=utf-8]2."},
    {"filename unquoted", NULL, BODY(FIRST("; filename=a.jsonl") "1" LAST), RC_OK,
     "[f|a.jsonl|-]1."},
    {"filename empty", NULL, BODY(FIRST("; filename=\"\"") "1" LAST), RC_OK, "[f||-]1."},
    {"quotes escaped both ways", NULL,
     BODY(FIRST("; filename=\"a\\\"b%22c\\\\d\\e%2e%\"") "1" LAST), RC_OK,
     "[f|a\"b\"c\\d\\e%2e%|-]1."},
    {"semicolon in a quoted name", NULL, BODY(FIRST("; filename=\"a; name=g\"") "1" LAST),
     RC_OK, "[f|a; name=g|-]1."},
    {"filename* wins, whatever the order", NULL,
     BODY(FIRST("; filename*=UTF-8'en'%e2%82%ac.jsonl; filename=\"e.jsonl\"") "1" LAST),
     RC_OK, "[f|\xe2\x82\xac.jsonl|-]1."},
    {"filename* in another charset gives way", NULL,
     BODY(FIRST("; filename*=iso-8859-1''%A3; filename=\"pound\"") "1" LAST), RC_OK,
     "[f|pound|-]1."},
    {"filename* empty", NULL, BODY(FIRST("; filename*=UTF-8''") "1" LAST), RC_OK,
     "[f||-]1."},
    {"filename* with one quote", NULL, BODY(FIRST("; filename*=UTF-8'x") "1" LAST),
     RC_INVALID, ""},
    {"filename* without quotes", NULL, BODY(FIRST("; filename*=x") "1" LAST), RC_INVALID,
     ""},
    {"filename* with half an escape", NULL,
     BODY(FIRST("; filename*=UTF-8''a%4") "1" LAST), RC_INVALID, ""},
    {"filename* with a NUL", NULL, BODY(FIRST("; filename*=UTF-8''a%00b") "1" LAST),
     RC_INVALID, ""},
    {"NUL in a filename", NULL, BODY(FIRST("; filename=\"a\0b\"") "1" LAST), RC_INVALID,
     ""},
    {"CR in a filename", NULL, BODY(FIRST("; filename=\"a\rb\"") "1" LAST), RC_INVALID,
     ""},
    {"two names", NULL, BODY(FIRST("; name=\"g\"") "1" LAST), RC_INVALID, ""},
    {"two filenames", NULL, BODY(FIRST("; filename=a; filename=b") "1" LAST), RC_INVALID,
     ""},
    {"quote left open", NULL, BODY(FIRST("; filename=\"a") "1" LAST), RC_INVALID, ""},
    {"text behind a quoted value", NULL, BODY(FIRST("; filename=\"a\"b") "1" LAST),
     RC_INVALID, ""},
    {"parameter without a value", NULL, BODY(FIRST("; filename=") "1" LAST), RC_INVALID,
     ""},
    {"parameter without an equals sign", NULL, BODY(FIRST("; filename") "1" LAST),
     RC_INVALID, ""},
    {"no name", NULL, BODY("--XX\r\nContent-Disposition: form-data\r\n\r\n1" LAST),
     RC_INVALID, ""},
    {"no Content-Disposition", NULL, BODY("--XX\r\nContent-Type: a/b\r\n\r\n1" LAST),
     RC_INVALID, ""},
    {"no head", NULL, BODY("--XX\r\n\r\n1" LAST), RC_INVALID, ""},
    {"not form-data", NULL,
     BODY("--XX\r\nContent-Disposition: attachment; name=f\r\n\r\n1" LAST), RC_INVALID,
     ""},
    {"two Content-Dispositions", NULL,
     BODY("--XX\r\nContent-Disposition: form-data; name=f\r\nContent-Disposition: "
          "form-data; name=g\r\n\r\n1" LAST),
     RC_INVALID, ""},
    {"two Content-Types", NULL,
     BODY("--XX\r\nContent-Disposition: form-data; name=f\r\nContent-Type: a/b\r\n"
          "Content-Type: a/b\r\n\r\n1" LAST),
     RC_INVALID, ""},
    {"base64", NULL,
     BODY("--XX\r\nContent-Disposition: form-data; name=f\r\n"
          "Content-Transfer-Encoding: base64\r\n\r\nMQ==" LAST),
     RC_INVALID, ""},
    {"folded head line", NULL,
     BODY("--XX\r\nContent-Disposition: form-data;\r\n name=f\r\n\r\n1" LAST), RC_INVALID,
     ""},
    {"head line without a colon", NULL, BODY("--XX\r\nhello\r\n\r\n1" LAST), RC_INVALID,
     ""},
    {"blank before the colon", NULL,
     BODY("--XX\r\nContent-Disposition : form-data; name=f\r\n\r\n1" LAST), RC_INVALID,
     ""},
    {"head line with LF only", NULL,
     BODY("--XX\r\nContent-Disposition: form-data; name=f\n\r\n1" LAST), RC_INVALID, ""},
    {"head ended by LF only", NULL,
     BODY("--XX\r\nContent-Disposition: form-data; name=f\r\n\n1" LAST), RC_INVALID, ""},
};

static void check(const struct form *f, const struct str *pieces, size_t n)
{
    struct seen s = {0};
    struct multipart *m = open_form(&s, f->type ? f->type : TYPE);
    enum rc rc = RC_OK;

    for (size_t i = 0; i < n && rc == RC_OK; i++)
        rc = multipart_feed(m, pieces[i]);
    if (rc == RC_OK)
        rc = multipart_finish(m);
    EQ_RC(rc, f->want);
    if (f->log)
        EQ_STR(buf_peek(&s.log), str_of(f->log));
    close_form(&s, m);
}

TEST(every_form_gives_its_parts_or_is_refused_fed_whole)
{
    for (size_t i = 0; i < COUNTOF(forms); i++) {
        t_row(forms[i].name);
        check(&forms[i], &forms[i].body, 1);
    }
}

TEST(every_form_gives_the_same_fed_byte_by_byte)
{
    static struct str bytes[4096];

    for (size_t i = 0; i < COUNTOF(forms); i++) {
        const struct form *f = &forms[i];

        t_row(f->name);
        OK(f->body.n <= COUNTOF(bytes));
        for (size_t k = 0; k < f->body.n; k++)
            bytes[k] = (struct str){f->body.p + k, 1};
        check(f, bytes, f->body.n);
    }
}

TEST(every_form_gives_the_same_split_in_two_anywhere)
{
    for (size_t i = 0; i < COUNTOF(forms); i++) {
        const struct form *f = &forms[i];

        t_row(f->name);
        for (size_t k = 0; k <= f->body.n; k++) {
            struct str halves[] = {{f->body.p, k}, {f->body.p + k, f->body.n - k}};

            check(f, halves, 2);
        }
    }
}

TEST(only_form_data_with_a_usable_boundary_is_accepted)
{
    static const char b70[] =
        "multipart/form-data; boundary="
        "0123456789012345678901234567890123456789012345678901234567890123456789";
    static const char b71[] =
        "multipart/form-data; boundary="
        "01234567890123456789012345678901234567890123456789012345678901234567890";
    static const struct {
        const char *type;
        enum rc want;
    } rows[] = {
        {b70, RC_OK},
        {b71, RC_INVALID},
        {"", RC_INVALID},
        {"application/json", RC_INVALID},
        {"multipart/form-data", RC_INVALID},
        {"multipart/form-data; boundary=", RC_INVALID},
        {"multipart/form-data; boundary=\"\"", RC_INVALID},
        {"multipart/form-data; boundary=\"a", RC_INVALID},
        {"multipart/form-data; boundary=\"a \"", RC_INVALID},
        {"multipart/form-data; boundary=\"a\\\"b\"", RC_INVALID},
        {"multipart/form-data; boundary=\"a\rb\"", RC_INVALID},
        {"multipart/form-data; boundary=a; boundary=b", RC_INVALID},
        {"multipart/form-data boundary=a", RC_INVALID},
        {"multipart/mixed; boundary=a", RC_INVALID},
        {"multipart/form-dataX; boundary=a", RC_INVALID},
        {"multipartform-data; boundary=a", RC_INVALID},
        {"  multipart/form-data;boundary=a;  ", RC_OK},
    };
    struct multipart_events ev = {NULL, begin, data, end};

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct multipart *m = NULL;
        struct err e = {""};

        t_row(rows[i].type);
        EQ_RC(multipart_new(str_of(rows[i].type), &ev, &m, &e), rows[i].want);
        OK((rows[i].want == RC_OK) == (m != NULL));
        OK((rows[i].want == RC_OK) == (e.text[0] == '\0'));
        OK(multipart_free(m) == NULL);
    }
    EQ_RC(multipart_new((struct str){NULL, 0}, &ev, &(struct multipart *){NULL}, NULL),
          RC_INVALID);
}

/* A head that is exactly n bytes with its blank line. */
static enum rc feed_head_of(size_t n)
{
    static const char start[] = "Content-Disposition: form-data; name=f\r\nX-Long: ";
    struct seen s = {0};
    struct multipart *m = open_form(&s, TYPE);
    enum rc rc = multipart_feed(m, STR("--XX\r\n"));

    if (rc == RC_OK)
        rc = multipart_feed(m, STR(start));
    for (size_t i = sizeof start - 1; rc == RC_OK && i < n - 4; i++)
        rc = multipart_feed(m, STR("x"));
    if (rc == RC_OK)
        rc = multipart_feed(m, STR("\r\n\r\n1" LAST));
    if (rc == RC_OK)
        rc = multipart_finish(m);
    close_form(&s, m);
    return rc;
}

TEST(a_head_over_its_limit_is_refused_and_one_at_it_is_not)
{
    EQ_RC(feed_head_of(LIMIT_MULTIPART_HEAD), RC_OK);
    EQ_RC(feed_head_of(LIMIT_MULTIPART_HEAD + 1), RC_LIMIT);
}

static enum rc feed_parts(unsigned n)
{
    struct seen s = {0};
    struct multipart *m = open_form(&s, TYPE);
    enum rc rc = RC_OK;

    for (unsigned i = 0; i < n && rc == RC_OK; i++)
        rc = multipart_feed(m, STR(FIRST("") "1\r\n"));
    if (rc == RC_OK)
        rc = multipart_feed(m, STR("--XX--"));
    if (rc == RC_OK)
        rc = multipart_finish(m);
    close_form(&s, m);
    return rc;
}

TEST(parts_over_their_limit_are_refused_and_as_many_as_it_are_not)
{
    EQ_RC(feed_parts(LIMIT_MULTIPART_PARTS), RC_OK);
    EQ_RC(feed_parts(LIMIT_MULTIPART_PARTS + 1), RC_LIMIT);
}

TEST(what_a_callback_returns_ends_the_parse_and_stays)
{
    /* begin, data, end, begin, data, end */
    static const char *const logs[] = {"[f|-|-]", "[f|-|-]1", "[f|-|-]1.",
                                       "[f|-|-]1.[f|-|-]"};

    for (unsigned k = 1; k <= COUNTOF(logs); k++) {
        struct seen s = {.fail_at = k};
        struct multipart *m = open_form(&s, TYPE);

        EQ_RC(multipart_feed(m, STR(FIRST("") "1\r\n" FIRST("") "2" LAST)), RC_NOSPACE);
        EQ_RC(multipart_feed(m, STR("x")), RC_NOSPACE);
        EQ_RC(multipart_finish(m), RC_NOSPACE);
        EQ_INT(s.calls, k);
        EQ_STR(buf_peek(&s.log), str_of(logs[k - 1]));
        close_form(&s, m);
    }
}

static const char *lent;

static enum rc borrowed(void *ctx, struct str piece)
{
    bool *ok = ctx;

    *ok = piece.p >= lent && piece.p + piece.n <= lent + 4096 && piece.n == 4096;
    return RC_OK;
}

static enum rc no_begin(void *ctx, const struct multipart_part *part)
{
    (void)ctx, (void)part;
    return RC_OK;
}

TEST(content_without_a_delimiter_is_passed_on_where_it_lies)
{
    static char page[4096];
    bool ok = false;
    struct multipart_events ev = {&ok, no_begin, borrowed, end};
    struct multipart *m;

    memset(page, 'x', sizeof page);
    lent = page;
    EQ_RC(multipart_new(STR(TYPE), &ev, &m, NULL), RC_OK);
    EQ_RC(multipart_feed(m, STR(FIRST(""))), RC_OK);
    EQ_RC(multipart_feed(m, (struct str){page, sizeof page}), RC_OK);
    OK(ok);
    OK(multipart_free(m) == NULL);
}

TEST(free_accepts_nothing)
{
    OK(multipart_free(NULL) == NULL);
}
