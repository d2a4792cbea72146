/* SPDX-License-Identifier: Apache-2.0 */
#include "io/mailbox.h"
#include "base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct mailbox {
    pthread_mutex_t lock;
    struct list posted; /* under lock */
    struct list batch;  /* being handed out; the loop's thread only */
    struct loop *loop;
    struct loop_watch *watch;
    int fd;
    bool delivering, freed; /* a receiver may free the box it is called from */
    mail_fn *receive, *drop;
    void *ctx;
};

/* Moves all that was posted behind what is left of the batch. */
static void take_posted(struct mailbox *b)
{
    pthread_mutex_lock(&b->lock);
    if (!list_empty(&b->posted)) {
        struct list *first = b->posted.next, *last = b->posted.prev;

        first->prev = b->batch.prev;
        last->next = &b->batch;
        b->batch.prev->next = first;
        b->batch.prev = last;
        list_init(&b->posted);
    }
    pthread_mutex_unlock(&b->lock);
}

static void destroy(struct mailbox *b)
{
    pthread_mutex_destroy(&b->lock);
    mem_free(b);
}

/* Empties the descriptor before the list: a poster that finds the list empty afterwards
 * writes again, so no mail is left without a wake. */
static void deliver(void *ctx, int fd, unsigned events)
{
    struct mailbox *b = ctx;
    struct list *it;
    uint64_t n;

    (void)events;
    IGNORE(read(fd, &n, sizeof n) < 0); /* EAGAIN: nothing is lost, the list decides */
    take_posted(b);
    b->delivering = true;
    while ((it = list_pop(&b->batch)))
        b->receive(b->ctx, list_entry(it, struct mail, _link));
    b->delivering = false;
    if (b->freed)
        destroy(b);
}

enum rc mailbox_new(struct loop *l, mail_fn *receive, mail_fn *drop, void *ctx,
                    struct mailbox **ret, struct err *e)
{
    struct mailbox *b = mem_new(struct mailbox);
    enum rc rc;

    *b = (struct mailbox){.loop = l, .receive = receive, .drop = drop, .ctx = ctx};
    list_init(&b->posted);
    list_init(&b->batch);
    CHECK(pthread_mutex_init(&b->lock, NULL) == 0);
    b->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (b->fd < 0)
        rc = err_sys(e, rc_of_errno(errno), errno, "cannot make a mailbox");
    else
        rc = loop_watch(l, b->fd, LOOP_IN, deliver, b, &b->watch, e);
    if (rc != RC_OK) {
        IGNORE(mailbox_free(b)); /* always NULL */
        return rc;
    }
    *ret = b;
    return RC_OK;
}

struct mailbox *mailbox_free(struct mailbox *b)
{
    struct list *it;

    if (!b)
        return NULL;
    if (b->watch)
        loop_unwatch(b->loop, b->watch);
    if (b->fd >= 0)
        close(b->fd);
    take_posted(b);
    while ((it = list_pop(&b->batch)))
        b->drop(b->ctx, list_entry(it, struct mail, _link));
    b->freed = true;
    if (!b->delivering)
        destroy(b);
    return NULL;
}

void mail_post(struct mailbox *b, struct mail *m)
{
    const uint64_t one = 1;
    bool first;

    pthread_mutex_lock(&b->lock);
    first = list_empty(&b->posted);
    list_add_tail(&b->posted, &m->_link);
    /* Inside the lock: the receiver may free the box as soon as it has the mail. */
    if (first)
        IGNORE(write(b->fd, &one, sizeof one) < 0); /* EAGAIN: it is readable */
    pthread_mutex_unlock(&b->lock);
}
