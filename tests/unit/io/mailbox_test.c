/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=write */
#include "tests/lib/t.h"
#include "base/mem.h"
#include "io/mailbox.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { THREADS = 4, EACH = 20000 };

static atomic_uint writes;
ssize_t __real_write(int, const void *, size_t);
ssize_t __wrap_write(int, const void *, size_t);

ssize_t __wrap_write(int fd, const void *p, size_t n)
{
    if (n == sizeof(uint64_t))
        atomic_fetch_add(&writes, 1);
    return __real_write(fd, p, n);
}

struct note {
    struct mail mail;
    unsigned from, number;
};

struct reader {
    struct loop *loop;
    struct mailbox *box;
    unsigned got, dropped, next[THREADS];
    unsigned stop_at, free_at, repost;
};

static struct note *note(unsigned from, unsigned number)
{
    struct note *n = mem_new(struct note);

    n->from = from;
    n->number = number;
    return n;
}

static void receive(void *ctx, struct mail *m)
{
    struct reader *r = ctx;
    struct note *n = CONTAINER_OF(m, struct note, mail);

    EQ_INT(n->number, r->next[n->from]);
    r->next[n->from]++;
    mem_free(n);
    if (r->repost) {
        r->repost--;
        mail_post(r->box, &note(0, r->next[0])->mail);
    }
    if (++r->got == r->stop_at)
        loop_stop(r->loop);
    if (r->got == r->free_at)
        r->box = mailbox_free(r->box);
}

static void drop(void *ctx, struct mail *m)
{
    struct reader *r = ctx;

    r->dropped++;
    mem_free(CONTAINER_OF(m, struct note, mail));
}

static void make(struct reader *r)
{
    struct err e;

    *r = (struct reader){0};
    EQ_RC(loop_new(&r->loop, &e), RC_OK);
    EQ_RC(mailbox_new(r->loop, receive, drop, r, &r->box, &e), RC_OK);
}

static void unmake(struct reader *r)
{
    r->box = mailbox_free(r->box);
    r->loop = loop_free(r->loop);
}

struct poster {
    pthread_t thread;
    struct mailbox *box;
    unsigned id;
};

static void *post_all(void *arg)
{
    struct poster *p = arg;

    for (unsigned i = 0; i < EACH; i++)
        mail_post(p->box, &note(p->id, i)->mail);
    return NULL;
}

TEST_SLOW(every_message_of_every_thread_arrives_once_and_in_its_order, 60)
{
    struct reader r;
    struct poster p[THREADS];

    make(&r);
    r.stop_at = THREADS * EACH;
    for (unsigned i = 0; i < THREADS; i++) {
        p[i] = (struct poster){.box = r.box, .id = i};
        EQ_INT(pthread_create(&p[i].thread, NULL, post_all, &p[i]), 0);
    }
    loop_run(r.loop);
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(p[i].thread, NULL);
        EQ_INT(r.next[i], EACH);
    }
    unmake(&r);
    EQ_INT(r.dropped, 0);
}

TEST(only_the_post_into_an_empty_box_wakes_the_loop)
{
    struct reader r;
    unsigned before;

    make(&r);
    before = atomic_load(&writes);
    for (unsigned i = 0; i < 100; i++)
        mail_post(r.box, &note(0, i)->mail);
    EQ_INT(atomic_load(&writes) - before, 1);
    loop_turn(r.loop, 0);
    EQ_INT(r.got, 100);
    mail_post(r.box, &note(0, 100)->mail);
    EQ_INT(atomic_load(&writes) - before, 2);
    loop_turn(r.loop, USEC_INFINITY);
    EQ_INT(r.got, 101);
    unmake(&r);
}

TEST(a_receiver_that_posts_to_itself_gets_it_with_the_next_turn)
{
    struct reader r;

    make(&r);
    r.repost = 2;
    mail_post(r.box, &note(0, 0)->mail);
    for (unsigned turn = 1; turn <= 3; turn++) {
        loop_turn(r.loop, USEC_INFINITY);
        EQ_INT(r.got, turn);
    }
    unmake(&r);
}

TEST(what_was_not_delivered_is_dropped)
{
    struct reader r;

    make(&r);
    for (unsigned i = 0; i < 7; i++)
        mail_post(r.box, &note(0, i)->mail);
    unmake(&r);
    EQ_INT(r.got, 0);
    EQ_INT(r.dropped, 7);
}

TEST(a_receiver_may_free_the_box_it_is_called_from)
{
    struct reader r;

    make(&r);
    r.free_at = 2;
    r.repost = 1;
    for (unsigned i = 0; i < 5; i++)
        mail_post(r.box, &note(0, i)->mail);
    loop_turn(r.loop, 0);
    EQ_INT(r.got, 2);
    EQ_INT(r.dropped, 4); /* three of the batch and the one posted meanwhile */
    loop_turn(r.loop, 0);
    unmake(&r);
}
