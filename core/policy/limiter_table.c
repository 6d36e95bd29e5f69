#include <string.h>

#include "core/policy/limiter_internal.h"

#define IPV6_SOURCE_PREFIX 64 /* when the settings name none */

static void key_take_name(struct limiter_key *key, const uint8_t seed[HASH_SEED_OCTETS], const char *name,
                          size_t length)
{
    key->kind = LIMITER_KEY_NAME;
    if (length < sizeof key->source) {
        memcpy(key->source, name, length);
        return;
    }
    /* Too long to keep whole: its beginning, and a hash that tells it from others that begin so. */
    size_t kept = sizeof key->source - sizeof(uint64_t);
    uint64_t rest = hash_octets(seed, name, length);
    memcpy(key->source, name, kept);
    memcpy(key->source + kept, &rest, sizeof rest);
}

static void key_take_address(struct limiter_key *key, unsigned prefix, const struct address *client)
{
    key->kind = LIMITER_KEY_ADDRESS;
    memcpy(key->source, client->octets, sizeof client->octets);
    if (address_is_ipv4(client)) {
        return;
    }
    if (prefix == 0 || prefix > 128) {
        prefix = IPV6_SOURCE_PREFIX;
    }
    for (unsigned bit = prefix; bit < 128; bit++) {
        key->source[bit / 8] &= (uint8_t) ~(0x80u >> (bit % 8));
    }
}

void limiter_key_make(struct limiter_key *key, const uint8_t seed[HASH_SEED_OCTETS],
                      const struct policy_settings *settings, const struct policy_override *source,
                      const struct address *client, const struct address *server)
{
    memset(key, 0, sizeof *key);
    if (source != NULL && source->count_as_one) {
        key_take_name(key, seed, source->name, strnlen(source->name, sizeof source->name));
    } else {
        key_take_address(key, settings->ipv6_source_prefix, client);
    }
    memcpy(key->server, server->octets, sizeof key->server);
    key->server_port[0] = (uint8_t)(server->port >> 8);
    key->server_port[1] = (uint8_t)(server->port & 0xff);
}

struct limiter_row *limiter_row_at(struct limiter *limiter, uint32_t index)
{
    return &limiter->rows[index - 1];
}

struct limiter_row *limiter_row_held(struct limiter *limiter, uint32_t index, uint32_t generation)
{
    if (index == 0 || index > limiter->rows_used) {
        return NULL;
    }
    struct limiter_row *row = limiter_row_at(limiter, index);
    return row->generation == generation ? row : NULL;
}

static void list_unlink(struct limiter *limiter, uint32_t index)
{
    struct limiter_row *row = limiter_row_at(limiter, index);
    struct limiter_row_list *list = &limiter->lists[row->list];
    if (row->list == LIMITER_LIST_NONE) {
        return;
    }
    if (row->older != 0) {
        limiter_row_at(limiter, row->older)->newer = row->newer;
    } else {
        list->oldest = row->newer;
    }
    if (row->newer != 0) {
        limiter_row_at(limiter, row->newer)->older = row->older;
    } else {
        list->newest = row->older;
    }
    list->count--;
    row->older = row->newer = 0;
    row->list = LIMITER_LIST_NONE;
}

void limiter_row_move(struct limiter *limiter, uint32_t index, enum limiter_list to)
{
    struct limiter_row *row = limiter_row_at(limiter, index);
    struct limiter_row_list *list = &limiter->lists[to];
    list_unlink(limiter, index);
    if (to == LIMITER_LIST_NONE) {
        return;
    }
    row->list = (uint8_t)to;
    row->older = list->newest;
    if (list->newest != 0) {
        limiter_row_at(limiter, list->newest)->newer = index;
    } else {
        list->oldest = index;
    }
    list->newest = index;
    list->count++;
}

void limiter_row_classify(struct limiter *limiter, uint32_t index)
{
    struct limiter_row *row = limiter_row_at(limiter, index);
    enum limiter_list belongs = LIMITER_LIST_NONE;
    if (row->first != NULL) {
        uint32_t limit = row->first->hold.per_source_count;
        belongs = limit == 0 || row->concurrent < limit ? LIMITER_LIST_READY : LIMITER_LIST_BLOCKED;
    } else if (row->concurrent == 0) {
        belongs = LIMITER_LIST_IDLE;
    }
    if (row->list != belongs) {
        limiter_row_move(limiter, index, belongs);
    }
}

static uint32_t *bucket_of(struct limiter *limiter, const struct limiter_key *key)
{
    uint64_t hash = hash_octets(limiter->seed, key, sizeof *key) >> 32;
    return &limiter->buckets[hash * limiter->rows_max >> 32];
}

/* A place for a new row: an unused one, else the one idle longest, else 0. */
static uint32_t row_obtain(struct limiter *limiter)
{
    if (limiter->rows_used < limiter->rows_max) {
        return ++limiter->rows_used;
    }
    uint32_t index = limiter->lists[LIMITER_LIST_IDLE].oldest;
    if (index == 0) {
        return 0;
    }
    list_unlink(limiter, index);
    struct limiter_row *row = limiter_row_at(limiter, index);
    uint32_t *link = bucket_of(limiter, &row->key);
    while (*link != index) {
        link = &limiter_row_at(limiter, *link)->chain;
    }
    *link = row->chain;
    limiter->evicted++;
    return index;
}

uint32_t limiter_row_find(struct limiter *limiter, const struct limiter_key *key)
{
    uint32_t *bucket = bucket_of(limiter, key);
    for (uint32_t index = *bucket; index != 0; index = limiter_row_at(limiter, index)->chain) {
        struct limiter_row *row = limiter_row_at(limiter, index);
        if (memcmp(&row->key, key, sizeof *key) == 0) {
            if (row->list == LIMITER_LIST_IDLE) {
                limiter_row_move(limiter, index, LIMITER_LIST_IDLE);
            }
            return index;
        }
    }
    uint32_t index = row_obtain(limiter);
    if (index == 0) {
        return 0;
    }
    struct limiter_row *row = limiter_row_at(limiter, index);
    uint32_t generation = row->generation + 1;
    memset(row, 0, sizeof *row);
    row->generation = generation;
    row->key = *key;
    row->chain = *bucket;
    *bucket = index;
    limiter_row_move(limiter, index, LIMITER_LIST_IDLE);
    return index;
}
