/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list: intrusive doubly linked ring.  Where objects wait in lists, the list is the
 * state. A node that is in no list points at itself (list_init), so list_del may run
 * twice.
 */
#pragma once

#include "base/base.h"

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_add_tail(struct list *head, struct list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

static inline void list_add_head(struct list *head, struct list *node)
{
    list_add_tail(head->next, node);
}

static inline void list_del(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

static inline struct list *list_pop(struct list *head) /* NULL when empty */
{
    struct list *node = head->next;

    if (node == head)
        return NULL;
    list_del(node);
    return node;
}

#define list_entry(p, type, member) CONTAINER_OF(p, type, member)

/* `it` is a struct list *; the safe form allows the body to delete `it`. */
#define list_each(it, head)                                                              \
    for (struct list *it = (head)->next; it != (head); it = it->next)
#define list_each_safe(it, head)                                                         \
    for (struct list *it = (head)->next, *it##_next = it->next; it != (head);            \
         it = it##_next, it##_next = it->next)
