/* SPDX-License-Identifier: Apache-2.0 */
/* json_test: what is accepted and what is not.  json_value_test: what is handed back. */
#include "tests/lib/json_edge.h"

/* --- Tables -------------------------------------------------------------------------
 */

static const char *const accepted[] = {
    "0",
    "-0",
    "1",
    "-1",
    "10",
    "1234567890",
    "0.0",
    "-0.0",
    "1.5",
    "1.10",
    "0.000001",
    "1e5",
    "1E5",
    "1e+5",
    "1e-5",
    "1E+05",
    "0e0",
    "0E-0",
    "-1.25e-300",
    "1e400",
    "1e-400",
    "9007199254740993",
    "18446744073709551616",
    "123456789012345678901234567890",
    "3.14159265358979323846264338327950288",
    "-9223372036854775809",
    "1.0e+0000000001",
    "true",
    "false",
    "null",
    "\"\"",
    "\"a\"",
    "\" \"",
    "\"\\\"\"",
    "\"\\\\\"",
    "\"\\/\"",
    "\"\\b\\f\\n\\r\\t\"",
    "\"\\u0000\"",
    "\"\\u0020\"",
    "\"\\uFFFF\"",
    "\"\\ufffe\"",
    "\"\\uabCD\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud800\"",
    "\"\\udc00\"",
    "\"\\udc00\\ud800\"",
    "\"\\ud800\\ud800\"",
    "\"\\ud800x\"",
    "\"\\ud800\\n\"",
    "\"\\ud83d\\u0041\"",
    "\"\x7f\"",
    "\"\xc2\x80\"",
    "\"\xdf\xbf\"",
    "\"\xe0\xa0\x80\"",
    "\"\xed\x9f\xbf\"",
    "\"\xee\x80\x80\"",
    "\"\xef\xbf\xbf\"",
    "\"\xef\xbb\xbf\"",
    "\"\xf0\x90\x80\x80\"",
    "\"\xf4\x8f\xbf\xbf\"",
    "\"\xe2\x80\xa8\xe2\x80\xa9\"",
    "\"/\"",
    "\"'\"",
    "\"0123456789abcdef\"",
    "\"0123456789abcde\"",
    "\"0123456789abcdefg\"",
    "[]",
    "[ ]",
    "[\t\n\r ]",
    "[1]",
    "[1,2]",
    "[ 1 , 2 ]",
    "[[]]",
    "[[],[]]",
    "[[[[[]]]]]",
    "[null,true,false]",
    "[\"a\",1,{},[]]",
    "{}",
    "{ }",
    "{\"a\":1}",
    "{ \"a\" : 1 }",
    "{\"a\":1,\"b\":2}",
    "{\"\":0}",
    "{\"a\":{}}",
    "{\"a\":[]}",
    "{\"a\":{\"a\":{\"a\":null}}}",
    "{\"\\u0061\":1}",
    "{\"\xc3\xa9\":1}",
    "{\"a\\\"b\":1}",
    " 1",
    "1 ",
    "\n1\n",
    "\t[1]\r\n",
    "  {  }  ",
    "[0]",
    "[-0]",
    "[0.5]",
    "[0,0]",
    "[1e5,1]",
    "{\"a\":0}",
    "{\"a\":-1}",
    "[true]",
    "[\"\"]",
    "\"\\\\\\\\\"",
    "\"\\\\\\\"\"",
    "[\"\\\\\"]",
    "{\"\\\\\":\"\\\\\"}",
};

TEST(accepts_every_form_that_the_grammar_has)
{
    for (size_t i = 0; i < COUNTOF(accepted); i++) {
        t_row(accepted[i]);
        OK(good(str_of(accepted[i])));
        agree(str_of(accepted[i]));
    }
}

static const struct {
    const char *text;
    size_t offset;
    const char *reason;
} refused[] = {
    {"", 0, "ends too early"},
    {" ", 1, "ends too early"},
    {"\n\n", 2, "ends too early"},
    {"[", 1, "ends too early"},
    {"[1", 2, "ends too early"},
    {"[1,", 3, "ends too early"},
    {"{", 1, "ends too early"},
    {"{\"a\"", 4, "ends too early"},
    {"{\"a\":", 5, "ends too early"},
    {"{\"a\":1", 6, "ends too early"},
    {"{\"a\":1,", 7, "ends too early"},
    {"\"", 1, "ends too early"},
    {"\"a", 2, "ends too early"},
    {"\"\\", 2, "ends too early"},
    {"\"\\u", 3, "ends too early"},
    {"\"\\u12", 5, "ends too early"},
    {"-", 1, "ends too early"},
    {"1.", 2, "ends too early"},
    {"1e", 2, "ends too early"},
    {"1e+", 3, "ends too early"},
    {"tru", 3, "ends too early"},
    {"]", 0, "a value"},
    {"}", 0, "a value"},
    {",", 0, "a value"},
    {":", 0, "a value"},
    {"a", 0, "a value"},
    {"'a'", 0, "a value"},
    {"True", 0, "a value"},
    {"NaN", 0, "a value"},
    {"nan", 1, "a value"},
    {"Infinity", 0, "a value"},
    {"-Infinity", 1, "a digit"},
    {"+1", 0, "a value"},
    {".5", 0, "a value"},
    {"-.5", 1, "a digit"},
    {"--1", 1, "a digit"},
    {"01", 1, "behind the value"},
    {"-01", 2, "behind the value"},
    {"00", 1, "behind the value"},
    {"1.x", 2, "a digit"},
    {"1..2", 2, "a digit"},
    {"1.e5", 2, "a digit"},
    {"1ex", 2, "a digit"},
    {"1e+-5", 3, "a digit"},
    {"1e5.5", 3, "behind the value"},
    {"0x10", 1, "behind the value"},
    {"1_000", 1, "behind the value"},
    {"1f", 1, "behind the value"},
    {"1 2", 2, "behind the value"},
    {"1,", 1, "behind the value"},
    {"{}{}", 2, "behind the value"},
    {"[]]", 2, "behind the value"},
    {"{}}", 2, "behind the value"},
    {"nulll", 4, "behind the value"},
    {"truefalse", 4, "behind the value"},
    {"trUe", 2, "a value"},
    {"fals\"", 4, "a value"},
    {"nul]", 3, "a value"},
    {"[1 2]", 3, "',' or ']'"},
    {"[1}", 2, "',' or ']'"},
    {"[1:2]", 2, "',' or ']'"},
    {"[,1]", 1, "a value"},
    {"[1,]", 3, "a value"},
    {"[1,,2]", 3, "a value"},
    {"[01]", 2, "',' or ']'"},
    {"{\"a\":1}]", 7, "behind the value"},
    {"{\"a\":1]", 6, "',' or '}'"},
    {"{\"a\":1 \"b\":2}", 7, "',' or '}'"},
    {"{\"a\":1,}", 7, "a key in quotes"},
    {"{,\"a\":1}", 1, "a key in quotes"},
    {"{a:1}", 1, "a key in quotes"},
    {"{'a':1}", 1, "a key in quotes"},
    {"{1:1}", 1, "a key in quotes"},
    {"{null:1}", 1, "a key in quotes"},
    {"{\"a\"}", 4, "':'"},
    {"{\"a\",1}", 4, "':'"},
    {"{\"a\" 1}", 5, "':'"},
    {"{\"a\"=1}", 4, "':'"},
    {"{\"a\":}", 5, "a value"},
    {"{\"a\"::1}", 5, "a value"},
    {"{\"a\":,}", 5, "a value"},
    {"[\"a\",\n\"b\"\n\"c\"]", 10, "',' or ']'"},
    {"\"\n\"", 1, "control"},
    {"\"\t\"", 1, "control"},
    {"\"\x1f\"", 1, "control"},
    {"\"a\x01\"", 2, "control"},
    {"\"0123456789abcdef\n\"", 17, "control"},
    {"\"\\x41\"", 2, "unknown escape"},
    {"\"\\'\"", 2, "unknown escape"},
    {"\"\\0\"", 2, "unknown escape"},
    {"\"\\U0041\"", 2, "unknown escape"},
    {"\"\\N\"", 2, "unknown escape"},
    {"\"\\\n\"", 2, "unknown escape"},
    {"\"\\u12g4\"", 5, "hex digits"},
    {"\"\\u 123\"", 3, "hex digits"},
    {"\"\\u+123\"", 3, "hex digits"},
    {"\"\\u123\"", 6, "hex digits"},
    {"\"\\u{41}\"", 3, "hex digits"},
    {"\"\x80\"", 1, "UTF-8"},
    {"\"\xbf\"", 1, "UTF-8"},
    {"\"\xc0\x80\"", 1, "UTF-8"},
    {"\"\xc1\xbf\"", 1, "UTF-8"},
    {"\"\xc3\"", 1, "UTF-8"},
    {"\"\xc3(\"", 1, "UTF-8"},
    {"\"\xe0\x80\x80\"", 1, "UTF-8"},
    {"\"\xe0\x9f\xbf\"", 1, "UTF-8"},
    {"\"\xe2\x82\"", 1, "UTF-8"},
    {"\"\xed\xa0\x80\"", 1, "UTF-8"},
    {"\"\xed\xbf\xbf\"", 1, "UTF-8"},
    {"\"\xf0\x80\x80\x80\"", 1, "UTF-8"},
    {"\"\xf0\x8f\xbf\xbf\"", 1, "UTF-8"},
    {"\"\xf4\x90\x80\x80\"", 1, "UTF-8"},
    {"\"\xf5\x80\x80\x80\"", 1, "UTF-8"},
    {"\"\xf8\x88\x80\x80\x80\"", 1, "UTF-8"},
    {"\"\xff\"", 1, "UTF-8"},
    {"\"\xfe\"", 1, "UTF-8"},
    {"\"ok \xc3\xa9 \xa9\"", 7, "UTF-8"},
    {"{\"\xff\":1}", 2, "UTF-8"},
    {"\xef\xbb\xbf{}", 0, "a value"},
    {"\xc2\xa0", 0, "a value"},
    {"1\xc2\xa0", 1, "behind the value"},
    {"[1\xe2\x80\xa8]", 2, "',' or ']'"},
    {"\f1", 0, "a value"},
    {"\v1", 0, "a value"},
    {"1\f", 1, "behind the value"},
    {"/* */1", 0, "a value"},
    {"1//", 1, "behind the value"},
    {"[1,//\n2]", 3, "a value"},
    {"undefined", 0, "a value"},
    {"\"a\"\"b\"", 3, "behind the value"},
};

TEST(refuses_everything_else_and_says_where_and_why)
{
    for (size_t i = 0; i < COUNTOF(refused); i++) {
        struct json_err e = {0};
        struct json_val top;

        t_row(refused[i].text);
        EQ_RC(json_read(at_the_edge(str_of(refused[i].text)), NULL, NULL, 0, NULL, &top,
                        &e),
              RC_INVALID);
        EQ_INT(e.offset, refused[i].offset);
        OK(strstr(e.reason, refused[i].reason));
        OK(!e.key.p);
        EQ_INT(top.type, JSON_NONE);
        agree(str_of(refused[i].text));
    }
}

TEST(a_nul_byte_is_white_space_nowhere_and_a_control_character_in_strings)
{
    OK(!good((struct str){"\0", 1}));
    OK(!good((struct str){"1\0", 2}));
    OK(!good((struct str){"\"\0\"", 3}));
    OK(!good((struct str){"[\0]", 3}));
    OK(!good((struct str){"{\"a\0\":1}", 8}));
    OK(!good((struct str){NULL, 0}));
}

/* --- Everything, generated ---------------------------------------------------------- */

/* The places that a byte may stand in; '%' is where it is put. */
static const char *const contexts[] = {
    "%",
    "%1",
    "1%",
    " % ",
    "[%",
    "[%]",
    "[%1]",
    "[1%",
    "[1%]",
    "[1,%",
    "[1,%]",
    "[1,%2]",
    "[[]%]",
    "{%",
    "{%}",
    "{%\"a\":1}",
    "{\"%\":1}",
    "{\"a%\":1}",
    "{\"a\"%",
    "{\"a\"%:1}",
    "{\"a\":%",
    "{\"a\":%1}",
    "{\"a\":1%",
    "{\"a\":1%}",
    "{\"a\":1,%",
    "{\"a\":1,%\"b\":2}",
    "{\"a\":{}%}",
    "\"%",
    "\"%\"",
    "\"abc%def\"",
    "\"0123456789abcde%\"",
    "\"0123456789abcdef%\"",
    "\"0123456789abcdef0123456789abcde%\"",
    "\"\\%",
    "\"\\%\"",
    "\"\\u%\"",
    "\"\\u%234\"",
    "\"\\u1%34\"",
    "\"\\u12%4\"",
    "\"\\u123%\"",
    "\"\\u1234%\"",
    "\"\\ud83d%\\ude00\"",
    "\"\\ud83d\\%de00\"",
    "\"\\ud83d\\u%e00\"",
    "\"\xc3%\"",
    "\"\xc3\xa9%\"",
    "\"\xe2%\x82\"",
    "\"\xe2\x82%\"",
    "\"\xf0\x9f%\x80\"",
    "\"\xf0\x9f\x98%\"",
    "\"\xc3\xa9 0123456789abc%\"",
    "\"\xc3\xa9 0123456789abcd%\"",
    "-%",
    "-%1",
    "0%",
    "-0%",
    "1%2",
    "12%",
    "0.%",
    "1.%5",
    "1.5%",
    "1e%",
    "1e%5",
    "1e+%",
    "1e-%5",
    "1e5%",
    "1E5%1",
    "%rue",
    "t%ue",
    "tr%e",
    "tru%",
    "true%",
    "f%lse",
    "fals%",
    "false%",
    "n%ll",
    "null%",
    "\"a\"%",
    "{}%",
    "[]%",
    "{}%{}",
};

/* Puts one or two bytes in the place and asks both. */
static void with_bytes(const char *context, const char *put, size_t n)
{
    const char *mark = strchr(context, '%');
    char text[128];
    size_t head = (size_t)(mark - context), tail = strlen(mark + 1);

    memcpy(text, context, head);
    memcpy(text + head, put, n);
    memcpy(text + head + n, mark + 1, tail);
    agree((struct str){text, head + n + tail});
}

TEST(every_byte_in_every_lexical_position)
{
    for (size_t i = 0; i < COUNTOF(contexts); i++) {
        t_row(contexts[i]);
        for (int byte = 0; byte < 256; byte++)
            with_bytes(contexts[i], &(char){(char)byte}, 1);
    }
}

TEST_SLOW(every_pair_of_telling_bytes_in_every_lexical_position, 60)
{
    static const char telling[] =
        " \t\n\r\f\"\\/{}[]:,+-.019aAeEufFtn\x7f\x80\xbf\xc2\xe2\xf0"
        "\xff\x01";

    for (size_t i = 0; i < COUNTOF(contexts); i++) {
        t_row(contexts[i]);
        for (size_t a = 0; a < sizeof telling; a++) /* the NUL counts too */
            for (size_t b = 0; b < sizeof telling; b++)
                with_bytes(contexts[i], (char[]){telling[a], telling[b]}, 2);
    }
}

/* Judges a string of `head` before the sequence and `tail` behind: right when RFC 3629
 * says so.  The reference reads it too, so it need not be called for each of a million.
 */
static bool string_good(const char *head, const char *seq, size_t n, const char *tail)
{
    static char text[256];
    size_t h = strlen(head), t = strlen(tail);

    text[0] = '"';
    memcpy(text + 1, head, h);
    memcpy(text + 1 + h, seq, n);
    memcpy(text + 1 + h + n, tail, t);
    text[1 + h + n + t] = '"';
    return good((struct str){text, h + n + t + 2});
}

static bool utf8_good(const unsigned char *b, size_t n)
{
    uint32_t c;
    size_t want = b[0] < 0x80   ? 1
                  : b[0] < 0xc0 ? 0
                  : b[0] < 0xe0 ? 2
                  : b[0] < 0xf0 ? 3
                                : 4;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};

    if (want != n || b[0] > 0xf7)
        return false;
    c = n == 1 ? b[0] : b[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((b[i] & 0xc0) != 0x80)
            return false;
        c = c << 6 | (b[i] & 0x3fu);
    }
    return c >= least[n] && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
}

/* A sequence is right as a whole, or as shorter ones side by side. */
static bool bytes_good(const unsigned char *b, size_t n)
{
    if (n == 0)
        return true;
    for (size_t k = 1; k <= n && k <= 4; k++)
        if (utf8_good(b, k) &&
            !(k == 1 && (b[0] < 0x20 || b[0] == '"' || b[0] == '\\')) &&
            bytes_good(b + k, n - k))
            return true;
    return false;
}

static const char pad[] = "0123456789abcdef0123456789abcdef0123456789abcdef";

/* In ASCII, and behind something that is not: these are two ways through the reader. */
static void utf8_case(const unsigned char *b, size_t n, unsigned at)
{
    bool want = bytes_good(b, n);
    char head[64] = "\xc3\xa9";

    if (b[0] == '\\') /* an escape is another matter */
        return;
    if (string_good(pad + sizeof pad - 1 - at, (const char *)b, n, pad) != want)
        FAIL("%02x %02x %02x %02x behind %u bytes: want %d", b[0], b[1], n > 2 ? b[2] : 0,
             n > 3 ? b[3] : 0, at, want);
    memcpy(head + 2, pad, at);
    if (string_good(head, (const char *)b, n, at & 1 ? "" : pad) != want)
        FAIL("%02x %02x %02x %02x behind an e acute and %u bytes: want %d", b[0], b[1],
             n > 2 ? b[2] : 0, n > 3 ? b[3] : 0, at, want);
}

TEST_SLOW(all_utf8_sequences_of_two_bytes_at_all_places_in_a_block, 60)
{
    for (unsigned at = 0; at < 34; at += at < 18 ? 1 : 5)
        for (unsigned v = 0; v < 65536; v++)
            utf8_case((unsigned char[4]){(unsigned char)(v >> 8), (unsigned char)v}, 2,
                      at);
}

TEST_SLOW(all_utf8_sequences_of_three_bytes, 60)
{
    for (unsigned a = 0xd8; a < 0x100; a++)
        for (unsigned v = 0; v < 65536; v++)
            utf8_case((unsigned char[4]){(unsigned char)a, (unsigned char)(v >> 8),
                                         (unsigned char)v},
                      3, (a + v) % 17);
}

TEST_SLOW(utf8_sequences_of_four_bytes_with_all_boundary_values, 60)
{
    static const unsigned char edge[] = {0x00, 0x1f, 0x22, 0x5c, 0x7f, 0x80,
                                         0x8f, 0x90, 0x9f, 0xa0, 0xaf, 0xbf,
                                         0xc0, 0xc2, 0xe0, 0xed, 0xf0, 0xff};

    for (unsigned a = 0xe0; a < 0x100; a++)
        for (unsigned b = 0; b < 256; b++)
            for (size_t c = 0; c < sizeof edge; c++)
                for (size_t d = 0; d < sizeof edge; d++)
                    utf8_case((unsigned char[4]){(unsigned char)a, (unsigned char)b,
                                                 edge[c], edge[d]},
                              4, (unsigned)(a + b + c + d) % 18);
}

TEST(one_wrong_byte_at_every_place_of_strings_of_every_length)
{
    static const char wrong[] = "\n\"\\\x80\xc3\xff";
    char text[128];

    for (size_t n = 0; n < 100; n++)
        for (size_t at = 0; at < n; at++)
            for (size_t w = 0; w < sizeof wrong; w++)
                for (int wide = 0; wide < 2; wide++) {
                    text[0] = '"';
                    memset(text + 1, 'x', n);
                    if (wide && n >= 2 && at > 1)
                        memcpy(text + 1, "\xc3\xa9", 2);
                    text[1 + at] = wrong[w];
                    text[1 + n] = '"';
                    agree((struct str){text, n + 2});
                }
}

static const char sample[] =
    " {\"custom_id\": \"request-\xc3\xa9-1\", \"method\":\"POST\",\n\t\"url\":\"\\/v1/x\","
    "\"body\":{\"model\":\"m\",\"n\":[1,-2.50,3e+10,0,true,false,null,[],{},[[1]]],"
    "\"t\":\"\xe4\xb8\xad\xe6\x96\x87 \xf0\x9f\x98\x80 \\u4e2d\\ud83d\\ude00\\n\\\"end\\\\\"}} ";

TEST(every_prefix_and_every_suffix_of_a_line)
{
    struct str text = STR(sample);

    OK(good(text));
    for (size_t n = 0; n <= text.n; n++) {
        agree((struct str){text.p, n});
        agree((struct str){text.p + n, text.n - n});
    }
}

TEST_SLOW(every_byte_of_a_line_changed_to_every_other, 60)
{
    char text[sizeof sample];

    for (size_t at = 0; at < sizeof sample - 1; at++) {
        memcpy(text, sample, sizeof sample);
        for (int byte = 0; byte < 256; byte++) {
            text[at] = (char)byte;
            agree((struct str){text, sizeof sample - 1});
        }
    }
}

TEST(every_byte_of_a_line_left_out_or_doubled)
{
    struct str all = STR(sample);
    char text[sizeof sample + 1];

    for (size_t at = 0; at < all.n; at++) {
        memcpy(text, sample, at);
        memcpy(text + at, sample + at + 1, all.n - at - 1);
        agree((struct str){text, all.n - 1});
        text[at] = sample[at];
        memcpy(text + at + 1, sample + at, all.n - at);
        agree((struct str){text, all.n + 1});
    }
}

TEST_SLOW(random_texts_whole_and_damaged, 60)
{
    struct buf b;
    unsigned unique = 0, twice = 0;

    dice_state = 42;
    buf_init(&b, AREA);
    for (int i = 0; i < 6000; i++) {
        struct json_limits limits = {.unique_keys = true};

        buf_reset(&b);
        random_text(&b, 5);
        agree(buf_peek(&b));
        if (json_read(buf_peek(&b), &limits, NULL, 0, NULL, NULL, NULL) == RC_OK)
            unique++;
        else
            twice++;
        for (int k = 0; k < 8 && b.n > 0; k++) {
            char *at = &b.p[dice((unsigned)b.n)], was = *at;

            *at = (char)(dice(2) ? dice(256) : (unsigned)"\"\\{}[]:,"[dice(8)]);
            agree(buf_peek(&b));
            *at = was;
        }
    }
    OK(unique > 500 && twice > 500); /* both kinds came */
    buf_done(&b);
}
