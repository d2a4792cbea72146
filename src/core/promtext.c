/* SPDX-License-Identifier: Apache-2.0 */
#include "core/promtext.h"

enum figure {
    F_RUNNING,
    F_WAITING,
    F_KV,
    F_PREEMPTIONS,
    F_HITS,
    F_QUERIES,
    F_PROMPT,
    F_OUTPUT,
    F_KV_TOKENS,
    F_STARTED,
    FIGURES
};

/* The rows of a figure stand with the name that wins first. */
static const struct metric {
    struct str name;
    enum figure figure;
} metrics[] = {
#define M(name, figure)                                                                  \
    {                                                                                    \
        {name, sizeof name - 1}, figure                                                  \
    }
    M("vllm:num_requests_running", F_RUNNING),
    M("sglang:num_running_reqs", F_RUNNING),
    M("llamacpp:requests_processing", F_RUNNING),
    M("tgi_batch_current_size", F_RUNNING),

    M("vllm:num_requests_waiting", F_WAITING),
    M("sglang:num_queue_reqs", F_WAITING),
    M("llamacpp:requests_deferred", F_WAITING),
    M("tgi_queue_size", F_WAITING),

    M("vllm:kv_cache_usage_perc", F_KV),
    M("vllm:gpu_cache_usage_perc", F_KV),
    M("sglang:token_usage", F_KV),
    M("llamacpp:kv_cache_usage_ratio", F_KV),

    M("vllm:num_preemptions_total", F_PREEMPTIONS),
    M("vllm:num_preemptions", F_PREEMPTIONS),
    M("sglang:num_retracted_requests_total", F_PREEMPTIONS),

    M("vllm:prefix_cache_hits_total", F_HITS),
    M("vllm:prefix_cache_hits", F_HITS),
    M("vllm:gpu_prefix_cache_hits_total", F_HITS),
    M("vllm:gpu_prefix_cache_hits", F_HITS),
    M("sglang:cached_tokens_total", F_HITS),

    M("vllm:prefix_cache_queries_total", F_QUERIES),
    M("vllm:prefix_cache_queries", F_QUERIES),
    M("vllm:gpu_prefix_cache_queries_total", F_QUERIES),
    M("vllm:gpu_prefix_cache_queries", F_QUERIES),

    M("vllm:prompt_tokens_total", F_PROMPT),
    M("sglang:prompt_tokens_total", F_PROMPT),
    M("llamacpp:prompt_tokens_total", F_PROMPT),

    M("vllm:generation_tokens_total", F_OUTPUT),
    M("sglang:generation_tokens_total", F_OUTPUT),
    M("llamacpp:tokens_predicted_total", F_OUTPUT),

    M("vllm:cache_config_info", F_KV_TOKENS),
    M("sglang:max_total_num_tokens", F_KV_TOKENS),

    M("process_start_time_seconds", F_STARTED),
#undef M
};

/* No server has more of anything: 2^53, below which doubles count every whole number. */
#define MOST 9007199254740992.0

/* --- Lines --------------------------------------------------------------------------- */

struct sample {
    struct str name, labels; /* labels: between the braces */
    double value;
};

static bool is_digit(const struct str *s)
{
    return s->n && *s->p >= '0' && *s->p <= '9';
}

static void skip(struct str *s, size_t n)
{
    s->p += n;
    s->n -= n;
}

static bool take(struct str *s, char c)
{
    if (!s->n || *s->p != c)
        return false;
    skip(s, 1);
    return true;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static void skip_spaces(struct str *s)
{
    while (s->n && is_space(*s->p))
        skip(s, 1);
}

/* Digits and a fraction; false: not one digit. */
static bool take_digits(struct str *s, double *ret)
{
    double v = 0, scale = 1;
    bool any = is_digit(s);

    for (; is_digit(s); skip(s, 1))
        v = v * 10 + (*s->p - '0');
    if (take(s, '.'))
        for (; is_digit(s); skip(s, 1), any = true)
            v += (*s->p - '0') * (scale /= 10);
    *ret = v;
    return any;
}

static bool take_exponent(struct str *s, int *ret)
{
    bool minus = take(s, '-');
    int v = 0;

    if (!minus)
        (void)take(s, '+');
    if (!is_digit(s))
        return false;
    for (; is_digit(s); skip(s, 1))
        v = v < 1000 ? v * 10 + (*s->p - '0') : v;
    *ret = minus ? -v : v;
    return true;
}

/* As Go and Python print them; NaN, Inf and what is below 0 are no figure of ours.  Locale
 * plays no part. */
static bool read_number(struct str *s, double *ret)
{
    int exponent = 0;
    double v;

    (void)take(s, '+');
    if (!take_digits(s, &v))
        return false;
    if ((take(s, 'e') || take(s, 'E')) && !take_exponent(s, &exponent))
        return false;
    for (; exponent > 0 && v > 0 && v <= MOST; exponent--)
        v *= 10;
    for (; exponent < 0 && v > 0 && v <= MOST; exponent++)
        v /= 10;
    *ret = v;
    return v <= MOST;
}

/* The end of the labels, which may hold braces within quotes; false: there is none. */
static bool cut_labels(struct str *s, struct str *ret)
{
    bool quoted = false;
    size_t i = 1;

    for (; i < s->n; i++) {
        if (quoted && s->p[i] == '\\')
            i++;
        else if (s->p[i] == '"')
            quoted = !quoted;
        else if (s->p[i] == '}' && !quoted)
            break;
    }
    if (i >= s->n)
        return false;
    *ret = (struct str){s->p + 1, i - 1};
    s->p += i + 1;
    s->n -= i + 1;
    return true;
}

/* name{labels} value [timestamp] */
static bool read_line(struct str line, struct sample *ret)
{
    size_t n = 0;

    skip_spaces(&line);
    if (!line.n || *line.p == '#')
        return false;
    while (n < line.n && line.p[n] != '{' && !is_space(line.p[n]))
        n++;
    *ret = (struct sample){.name = {line.p, n}};
    line.p += n;
    line.n -= n;
    skip_spaces(&line);
    if (line.n && *line.p == '{' && !cut_labels(&line, &ret->labels))
        return false;
    skip_spaces(&line);
    return read_number(&line, &ret->value) && (!line.n || is_space(*line.p));
}

/* name="value" off the front of *labels; what is in the value, backslashes and all. */
static bool take_label(struct str *labels, struct str *name, struct str *value)
{
    const char *eq = memchr(labels->p, '=', labels->n);

    if (!eq)
        return false;
    *name = str_trim((struct str){labels->p, (size_t)(eq - labels->p)});
    skip(labels, name->n ? (size_t)(eq + 1 - labels->p) : 0);
    if (!take(labels, '"'))
        return false;
    *value = (struct str){labels->p, 0};
    while (labels->n && *labels->p != '"')
        skip(labels, *labels->p == '\\' && labels->n > 1 ? 2 : 1);
    value->n = (size_t)(labels->p - value->p);
    if (!take(labels, '"'))
        return false;
    while (labels->n && (*labels->p == ',' || is_space(*labels->p)))
        skip(labels, 1);
    return true;
}

/* A label whose value is a number; less than 0: there is none ("None"). */
static double label_number(struct str labels, struct str want)
{
    struct str name, value;
    double v;

    while (labels.n && take_label(&labels, &name, &value))
        if (str_eq(name, want))
            return read_number(&value, &v) && !value.n ? v : -1;
    return -1;
}

/* --- The whole ----------------------------------------------------------------------- */

static double value_of(const struct sample *s, enum figure f)
{
    double blocks, size;

    if (f != F_KV_TOKENS || !s->labels.n || str_starts(s->name, STR("sglang:")))
        return s->value;
    blocks = label_number(s->labels, STR("num_gpu_blocks"));
    size = label_number(s->labels, STR("block_size"));
    return blocks > 0 && size > 0 ? blocks * size : -1;
}

static void add(double *sum, enum figure f, double v)
{
    if (v < 0)
        return;
    if (*sum < 0)
        *sum = v;
    else if (f == F_KV || f == F_STARTED) /* of several: the fullest, the youngest */
        *sum = v > *sum ? v : *sum;
    else
        *sum += v;
}

bool promtext_read(struct str text, struct promtext *ret)
{
    double sums[COUNTOF(metrics)], figures[FIGURES];
    struct sample s;

    for (size_t i = 0; i < COUNTOF(metrics); i++)
        sums[i] = -1;
    for (size_t i = 0; i < FIGURES; i++)
        figures[i] = -1;
    while (text.n) {
        if (!read_line(str_cut(&text, '\n'), &s))
            continue;
        for (size_t i = 0; i < COUNTOF(metrics); i++)
            if (str_eq(s.name, metrics[i].name))
                add(&sums[i], metrics[i].figure, value_of(&s, metrics[i].figure));
    }
    for (size_t i = COUNTOF(metrics); i-- > 0;)
        if (sums[i] >= 0)
            figures[metrics[i].figure] = sums[i] < MOST ? sums[i] : MOST;
    *ret = (struct promtext){
        .running = figures[F_RUNNING],
        .waiting = figures[F_WAITING],
        .kv = figures[F_KV] < 1 ? figures[F_KV] : 1,
        .preemptions = figures[F_PREEMPTIONS],
        .prefix_hits = figures[F_HITS],
        .prefix_queries = figures[F_QUERIES],
        .prompt_tokens = figures[F_PROMPT],
        .output_tokens = figures[F_OUTPUT],
        .kv_tokens = figures[F_KV_TOKENS],
        .started = figures[F_STARTED],
        .is_vllm = sums[0] >= 0, /* the first row */
    };
    if (ret->prefix_queries < 0 && ret->prefix_hits >= 0) /* SGLang's are its prompts */
        ret->prefix_queries = ret->prompt_tokens;
    return ret->running >= 0 || ret->waiting >= 0;
}

/* --- One server or several ----------------------------------------------------------- */

void promwatch_init(struct promwatch *w)
{
    *w = (struct promwatch){.distrusted_until = 0};
}

static bool less(double now, double before)
{
    return now >= 0 && before >= 0 && now < before;
}

static bool counters_fell(const struct promtext *now, const struct promtext *before)
{
    return less(now->preemptions, before->preemptions) ||
           less(now->prefix_queries, before->prefix_queries) ||
           less(now->prompt_tokens, before->prompt_tokens) ||
           less(now->output_tokens, before->output_tokens);
}

/* A start time is told to some hundredths of a second, and wobbles with the clock. */
#define SAME_START 2.0

static bool several(struct promwatch *w, const struct promtext *p, usec_t now)
{
    const struct promtext *last = &w->last;
    bool fell = counters_fell(p, last);
    usec_t before = w->fell;

    if (p->started >= 0 && last->started >= 0) {
        if (p->started < last->started - SAME_START)
            return true; /* one that was there before */
        if (p->started > last->started + SAME_START)
            return false; /* started again, or another one that is younger: it will tell */
    }
    if (!fell)
        return false;
    w->fell = now;
    return before && now - before < PROMWATCH_AGAIN;
}

bool promwatch_see(struct promwatch *w, const struct promtext *p, usec_t now)
{
    if (w->known && several(w, p, now))
        w->distrusted_until = now + PROMWATCH_AGAIN;
    w->last = *p;
    w->known = true;
    if (w->distrusted_until > now)
        return false;
    w->distrusted_until = 0;
    return true;
}
