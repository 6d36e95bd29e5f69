#include <stdlib.h>
#include <string.h>

#include "core/policy/neighbours_internal.h"

bool neighbours_table_init(struct neighbours_table *table, uint32_t rows_max, size_t row_octets,
                           const uint8_t seed[HASH_SEED_OCTETS])
{
    memset(table, 0, sizeof *table);
    table->rows_max = rows_max;
    table->row_octets = row_octets;
    memcpy(table->seed, seed, sizeof table->seed);
    table->rows = calloc(rows_max, row_octets);
    table->buckets = calloc(rows_max, sizeof *table->buckets);
    return table->rows != NULL && table->buckets != NULL;
}

void neighbours_table_clear(struct neighbours_table *table)
{
    free(table->rows);
    free(table->buckets);
}

size_t neighbours_table_octets(const struct neighbours_table *table)
{
    return (size_t)table->rows_max * (table->row_octets + sizeof *table->buckets);
}

void *neighbours_table_row(const struct neighbours_table *table, uint32_t index)
{
    return table->rows + (size_t)(index - 1) * table->row_octets;
}

static uint32_t *bucket_of(const struct neighbours_table *table, const struct limiter_key *key)
{
    uint64_t hash = hash_octets(table->seed, key, sizeof *key) >> 32;
    return &table->buckets[hash * table->rows_max >> 32];
}

static void idle_append(struct neighbours_table *table, uint32_t index)
{
    struct neighbours_row *row = neighbours_table_row(table, index);
    row->newer = 0;
    row->older = table->idle_newest;
    if (row->older != 0) {
        ((struct neighbours_row *)neighbours_table_row(table, row->older))->newer = index;
    } else {
        table->idle_oldest = index;
    }
    table->idle_newest = index;
}

static void idle_remove(struct neighbours_table *table, uint32_t index)
{
    struct neighbours_row *row = neighbours_table_row(table, index);
    if (row->older != 0) {
        ((struct neighbours_row *)neighbours_table_row(table, row->older))->newer = row->newer;
    } else {
        table->idle_oldest = row->newer;
    }
    if (row->newer != 0) {
        ((struct neighbours_row *)neighbours_table_row(table, row->newer))->older = row->older;
    } else {
        table->idle_newest = row->older;
    }
    row->older = row->newer = 0;
}

/* A place for a new row: an unused one, else the one idle longest, else 0. */
static uint32_t row_obtain(struct neighbours_table *table)
{
    if (table->rows_used < table->rows_max) {
        return ++table->rows_used;
    }
    uint32_t index = table->idle_oldest;
    if (index == 0) {
        return 0;
    }
    struct neighbours_row *row = neighbours_table_row(table, index);
    uint32_t *link = bucket_of(table, &row->key);
    idle_remove(table, index);
    while (*link != index) {
        link = &((struct neighbours_row *)neighbours_table_row(table, *link))->chain;
    }
    *link = row->chain;
    return index;
}

uint32_t neighbours_table_take(struct neighbours_table *table, const struct limiter_key *key)
{
    uint32_t *bucket = bucket_of(table, key);
    for (uint32_t index = *bucket; index != 0;) {
        struct neighbours_row *row = neighbours_table_row(table, index);
        if (memcmp(&row->key, key, sizeof *key) == 0) {
            if (row->seats_count++ == 0) {
                idle_remove(table, index);
            }
            return index;
        }
        index = row->chain;
    }
    uint32_t index = row_obtain(table);
    if (index == 0) {
        return 0;
    }
    struct neighbours_row *row = neighbours_table_row(table, index);
    memset(row, 0, table->row_octets);
    row->key = *key;
    row->seats_count = 1;
    row->chain = *bucket;
    *bucket = index;
    return index;
}

void neighbours_table_give(struct neighbours_table *table, uint32_t index)
{
    struct neighbours_row *row = neighbours_table_row(table, index);
    if (--row->seats_count == 0) {
        idle_append(table, index);
    }
}
