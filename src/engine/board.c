/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/board.h"
#include "base/crc.h"
#include "base/map.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>

#define CHANGES 1024u /* several times the batches that are live at a time; 8 KiB */

struct place {
    struct id project;
    struct board_entry entry;
    bool shown;
    bool guessed; /* which of its lines are done is not known yet */
};

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
    struct place *at;
    size_t cursor = 0;

    if (!b)
        return NULL;
    while ((at = map_next(b->entries, &cursor)))
        mem_free(at);
    map_free(b->entries);
    pthread_mutex_destroy(&b->lock);
    mem_free(b);
    return NULL;
}

static atomic_ullong *changes_of(struct board *b, struct str batch)
{
    return &b->changes[crc32c(0, batch.p, batch.n) % CHANGES];
}

uint64_t board_changes(struct board *b, const char *batch)
{
    return atomic_load(changes_of(b, str_of(batch)));
}

void board_changed(struct board *b, const struct id *batch)
{
    atomic_fetch_add(changes_of(b, id_str(batch)), 1);
}

/* With the lock held; the place may be a fresh one. */
static struct place *place_of(struct board *b, const struct id *batch)
{
    struct place *at = map_get(b->entries, id_str(batch));

    if (!at) {
        at = mem_new(struct place);
        map_put(b->entries, id_str(batch), at);
    }
    return at;
}

/* What a project's other batches have waiting or running. */
static uint64_t lines_of(const struct board *b, const struct id *project,
                         const struct place *but, bool *ret_guessed)
{
    const struct place *at;
    uint64_t sum = 0;
    size_t cursor = 0;

    *ret_guessed = false;
    while ((at = map_next(b->entries, &cursor))) {
        const struct batch_counts *c = &at->entry.counts;

        if (at == but || strcmp(at->project.z, project->z) != 0)
            continue;
        sum += c->total - u64_min(c->total, (uint64_t)c->completed + c->failed);
        *ret_guessed = *ret_guessed || at->guessed;
    }
    return sum;
}

enum rc board_enter(struct board *b, const struct id *project, const struct id *batch,
                    uint32_t lines, uint32_t max_lines, uint64_t *ret_used)
{
    enum rc rc = RC_OK;
    uint64_t used;
    bool guessed;

    pthread_mutex_lock(&b->lock);
    used = lines_of(b, project, map_get(b->entries, id_str(batch)), &guessed);
    if (max_lines && used + lines > max_lines) {
        *ret_used = used;
        rc = guessed && lines <= max_lines ? RC_AGAIN : RC_LIMIT;
    } else {
        *place_of(b, batch) =
            (struct place){.project = *project, .entry.counts.total = lines};
    }
    pthread_mutex_unlock(&b->lock);
    return rc;
}

void board_reserve(struct board *b, const struct id *project, const struct id *batch,
                   uint32_t lines)
{
    pthread_mutex_lock(&b->lock);
    *place_of(b, batch) =
        (struct place){.project = *project, .entry.counts.total = lines, .guessed = true};
    pthread_mutex_unlock(&b->lock);
}

void board_set(struct board *b, const struct id *batch, const struct board_entry *e)
{
    struct place *mine;
    bool first;

    pthread_mutex_lock(&b->lock);
    mine = place_of(b, batch);
    first = !mine->shown;
    mine->entry = *e;
    mine->shown = true;
    mine->guessed = false;
    pthread_mutex_unlock(&b->lock);
    if (first)
        board_changed(b, batch);
}

bool board_get(struct board *b, const char *batch, struct board_entry *ret)
{
    const struct place *mine;
    bool shown;

    pthread_mutex_lock(&b->lock);
    mine = map_get(b->entries, str_of(batch));
    shown = mine && mine->shown;
    if (shown)
        *ret = mine->entry;
    pthread_mutex_unlock(&b->lock);
    return shown;
}

void board_remove(struct board *b, const struct id *batch)
{
    pthread_mutex_lock(&b->lock);
    mem_free(map_del(b->entries, id_str(batch)));
    pthread_mutex_unlock(&b->lock);
    board_changed(b, batch);
}
