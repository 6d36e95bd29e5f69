#include "core/tcp/flow_table.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"

struct flow_list {
    uint32_t newest, oldest; /* indexes + 1 */
    uint32_t count;
};

struct flow_table {
    struct flow_entry *entries;
    uint32_t *buckets;
    uint32_t max_flows;
    uint32_t bucket_mask;
    uint32_t used;      /* entries [0, used) have been in use */
    uint32_t free_list; /* by `chain` */
    uint32_t last;      /* the entry found last: packets come in trains */
    struct flow_list lists[FLOW_POPULATIONS];
    uint8_t seed[FLOW_TABLE_SEED_OCTETS];
    flow_table_evict *evict;
    void *context;
};

static uint32_t bucket_count(uint32_t max_flows)
{
    uint32_t count = 16;
    while (count < max_flows && count < UINT32_C(1) << 30) {
        count *= 2;
    }
    return count;
}

size_t flow_table_memory_octets(uint32_t max_flows)
{
    max_flows = max_flows < FLOW_TABLE_LEAST ? FLOW_TABLE_LEAST : max_flows;
    return sizeof(struct flow_table) + (size_t)max_flows * sizeof(struct flow_entry) +
           (size_t)bucket_count(max_flows) * sizeof(uint32_t);
}

struct flow_table *flow_table_create(uint32_t max_flows, const uint8_t seed[FLOW_TABLE_SEED_OCTETS],
                                     flow_table_evict *evict, void *context)
{
    struct flow_table *table = calloc(1, sizeof *table);
    if (table == NULL) {
        return NULL;
    }
    max_flows = max_flows < FLOW_TABLE_LEAST ? FLOW_TABLE_LEAST : max_flows;
    table->max_flows = max_flows;
    table->bucket_mask = bucket_count(max_flows) - 1;
    table->entries = calloc(max_flows, sizeof *table->entries);
    table->buckets = calloc((size_t)table->bucket_mask + 1, sizeof *table->buckets);
    table->evict = evict;
    table->context = context;
    memcpy(table->seed, seed, sizeof table->seed);
    if (table->entries == NULL || table->buckets == NULL) {
        flow_table_destroy(table);
        return NULL;
    }
    return table;
}

void flow_table_destroy(struct flow_table *table)
{
    if (table != NULL) {
        free(table->entries);
        free(table->buckets);
        free(table);
    }
}

/* The same for both directions. */
static uint32_t *bucket_of(struct flow_table *table, const struct address *one, const struct address *other)
{
    int order = memcmp(one->octets, other->octets, sizeof one->octets);
    bool first = order < 0 || (order == 0 && one->port <= other->port);
    const struct address ends[2] = {first ? *one : *other, first ? *other : *one};
    _Static_assert(sizeof ends == 2 * (sizeof ends[0].octets + sizeof ends[0].port),
                   "no octets between them");
    return &table->buckets[(uint32_t)hash_octets(table->seed, ends, sizeof ends) & table->bucket_mask];
}

static bool same_address(const struct address *one, const struct address *other)
{
    return one->port == other->port && memcmp(one->octets, other->octets, sizeof one->octets) == 0;
}

static bool entry_is(const struct flow_entry *entry, const struct address *source,
                     const struct address *destination, enum side *sender)
{
    const struct connection *connection = &entry->connection;
    if (same_address(&connection->client, source) && same_address(&connection->server, destination)) {
        *sender = SIDE_CLIENT;
        return true;
    }
    *sender = SIDE_SERVER;
    return same_address(&connection->server, source) && same_address(&connection->client, destination);
}

uint32_t flow_table_link(const struct flow_table *table, const struct flow_entry *entry)
{
    return (uint32_t)(entry - table->entries) + 1;
}

struct flow_entry *flow_table_entry(struct flow_table *table, uint32_t link)
{
    return link == 0 ? NULL : &table->entries[link - 1];
}

struct flow_entry *flow_table_find(struct flow_table *table, const struct address *source,
                                   const struct address *destination, enum side *sender)
{
    struct flow_entry *entry = flow_table_entry(table, table->last);
    if (entry != NULL && entry_is(entry, source, destination, sender)) {
        return entry;
    }
    for (uint32_t link = *bucket_of(table, source, destination); link != 0; link = entry->chain) {
        entry = flow_table_entry(table, link);
        if (entry_is(entry, source, destination, sender)) {
            table->last = link;
            return entry;
        }
    }
    return NULL;
}

static void list_take(struct flow_table *table, struct flow_entry *entry)
{
    struct flow_list *list = &table->lists[entry->population];
    if (entry->newer != 0) {
        flow_table_entry(table, entry->newer)->older = entry->older;
    } else {
        list->newest = entry->older;
    }
    if (entry->older != 0) {
        flow_table_entry(table, entry->older)->newer = entry->newer;
    } else {
        list->oldest = entry->newer;
    }
    list->count--;
    entry->newer = entry->older = 0;
}

static void list_put(struct flow_table *table, struct flow_entry *entry, enum flow_population population)
{
    struct flow_list *list = &table->lists[population];
    uint32_t link = flow_table_link(table, entry);
    entry->population = (uint8_t)population;
    entry->older = list->newest;
    entry->newer = 0;
    if (list->newest != 0) {
        flow_table_entry(table, list->newest)->newer = link;
    } else {
        list->oldest = link;
    }
    list->newest = link;
    list->count++;
}

struct flow_entry *flow_table_oldest(struct flow_table *table, enum flow_population population)
{
    return flow_table_entry(table, table->lists[population].oldest);
}

uint32_t flow_table_count(const struct flow_table *table, enum flow_population population)
{
    return table->lists[population].count;
}

void flow_table_touch(struct flow_table *table, struct flow_entry *entry, uint64_t now_us)
{
    entry->touched_us = now_us;
    if (entry->newer != 0) {
        enum flow_population population = (enum flow_population)entry->population;
        list_take(table, entry);
        list_put(table, entry, population);
    }
}

static uint32_t half_open_max(const struct flow_table *table)
{
    return table->max_flows / FLOW_TABLE_HALF_OPEN_PART;
}

static void evict(struct flow_table *table, struct flow_entry *entry)
{
    table->evict(table->context, entry);
    flow_table_remove(table, entry);
}

/* Makes room for one half-open entry. */
static void make_room(struct flow_table *table)
{
    if (table->lists[FLOW_HALF_OPEN].count >= half_open_max(table)) {
        evict(table, flow_table_oldest(table, FLOW_HALF_OPEN));
    }
    if (table->free_list != 0 || table->used < table->max_flows) {
        return;
    }
    struct flow_entry *oldest = flow_table_oldest(table, FLOW_OVER);
    oldest = oldest != NULL ? oldest : flow_table_oldest(table, FLOW_LIVE);
    evict(table, oldest != NULL ? oldest : flow_table_oldest(table, FLOW_HALF_OPEN));
}

struct flow_entry *flow_table_add(struct flow_table *table, const struct address *client,
                                  const struct address *server, uint64_t now_us)
{
    make_room(table);
    uint32_t index = table->used;
    if (table->free_list != 0) {
        index = table->free_list - 1;
        table->free_list = table->entries[index].chain;
    } else {
        table->used++;
    }
    struct flow_entry *entry = &table->entries[index];
    memset(entry, 0, sizeof *entry);
    entry->connection = (struct connection){.client = *client, .server = *server, .opened_us = now_us};
    uint32_t *bucket = bucket_of(table, client, server);
    entry->chain = *bucket;
    *bucket = flow_table_link(table, entry);
    entry->touched_us = now_us;
    list_put(table, entry, FLOW_HALF_OPEN);
    return entry;
}

void flow_table_remove(struct flow_table *table, struct flow_entry *entry)
{
    uint32_t link = flow_table_link(table, entry);
    uint32_t *at = bucket_of(table, &entry->connection.client, &entry->connection.server);
    while (*at != link) {
        at = &flow_table_entry(table, *at)->chain;
    }
    *at = entry->chain;
    list_take(table, entry);
    entry->population = FLOW_FREE;
    entry->chain = table->free_list;
    memset(&entry->connection, 0, sizeof entry->connection);
    table->free_list = link;
    if (table->last == link) {
        table->last = 0;
    }
}

void flow_table_move(struct flow_table *table, struct flow_entry *entry, enum flow_population population)
{
    if (entry->population != population) {
        list_take(table, entry);
        list_put(table, entry, population);
    }
}
