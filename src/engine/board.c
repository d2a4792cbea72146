/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/board.h"
#include "base/crc.h"
#include "base/map.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>

#define CHANGES 1024u /* several times the batches that are live at a time; 8 KiB */

struct board {
    pthread_mutex_t lock;
    struct map *entries;
    atomic_ullong changes[CHANGES]; /* by a hash of the batch's id; without the lock */
};

struct board *board_new(void)
{
    struct board *b = mem_new(struct board);

    pthread_mutex_init(&b->lock, NULL);
    b->entries = map_new();
    return b;
}

struct board *board_free(struct board *b)
{
    struct board_entry *e;
    size_t cursor = 0;

    if (!b)
        return NULL;
    while ((e = map_next(b->entries, &cursor)))
        mem_free(e);
    map_free(b->entries);
    pthread_mutex_destroy(&b->lock);
    mem_free(b);
    return NULL;
}

static atomic_ullong *changes_of(struct board *b, const char *batch)
{
    return &b->changes[crc32c(0, batch, strlen(batch)) % CHANGES];
}

uint64_t board_changes(struct board *b, const char *batch)
{
    return atomic_load(changes_of(b, batch));
}

void board_changed(struct board *b, const struct id *batch)
{
    atomic_fetch_add(changes_of(b, batch->z), 1);
}

void board_set(struct board *b, const struct id *batch, const struct board_entry *e)
{
    struct board_entry *mine;
    bool first;

    pthread_mutex_lock(&b->lock);
    mine = map_get(b->entries, id_str(batch));
    first = !mine;
    if (!mine) {
        mine = mem_new(struct board_entry);
        map_put(b->entries, id_str(batch), mine);
    }
    *mine = *e;
    pthread_mutex_unlock(&b->lock);
    if (first)
        board_changed(b, batch);
}

bool board_get(struct board *b, const char *batch, struct board_entry *ret)
{
    struct board_entry *mine;

    pthread_mutex_lock(&b->lock);
    mine = map_get(b->entries, str_of(batch));
    if (mine)
        *ret = *mine;
    pthread_mutex_unlock(&b->lock);
    return mine != NULL;
}

void board_remove(struct board *b, const struct id *batch)
{
    pthread_mutex_lock(&b->lock);
    mem_free(map_del(b->entries, id_str(batch)));
    pthread_mutex_unlock(&b->lock);
    board_changed(b, batch);
}
