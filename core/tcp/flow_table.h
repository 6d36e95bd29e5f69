/* flow_table - the connections being followed, by addresses and ports, in a bounded table.
 *
 * Three populations, each in the order of its last packet:
 *   half-open    not proven by packets of both sides; at most 1/FLOW_TABLE_HALF_OPEN_PART of the table, so that floods
 *                of SYNs or of invented packets push out each other and nothing else
 *   established  pushed out, the longest silent first, only when the table is full and no closed one is left
 *   closed       remembered for a while so that stragglers start nothing new; the first to go
 *
 * Hash:    keyed (SipHash-2-4) with the caller's seed.
 * Owns:    its entries. Borrows: what `user` points to.
 * Bounds:  max_flows entries, one allocation at the start: flow_table_memory_octets() says how much.
 * Threads: none. Time: the caller's microseconds. */
#ifndef SMTPWITNESS_CORE_TCP_FLOW_TABLE_H
#define SMTPWITNESS_CORE_TCP_FLOW_TABLE_H

#include <stdint.h>

#include "core/base/connection.h"
#include "core/tcp/flow.h"

#define FLOW_TABLE_HALF_OPEN_PART 4
#define FLOW_TABLE_LEAST          16
#define FLOW_TABLE_SEED_OCTETS    16

enum flow_population {
    FLOW_FREE = 0,
    FLOW_HALF_OPEN,
    FLOW_LIVE,
    FLOW_OVER,
    FLOW_POPULATIONS,
};

struct flow_entry {
    struct flow flow;
    struct connection connection;
    uint64_t touched_us;
    void *user;
    /* For the caller's timers. */
    uint32_t timer_next, timer_previous; /* indexes + 1 */
    uint32_t chain;                      /* private: indexes + 1 */
    uint32_t newer, older;
    uint16_t timer_tick; /* the caller's: when it is due, its low half */
    uint8_t population;  /* enum flow_population */
    bool timer_armed : 1;
    bool ignored : 1; /* known not to be of interest */
};

_Static_assert(sizeof(struct flow_entry) <= 480, "a connection's share of the table, in use or not");

struct flow_table;

/* Told before an entry is taken away to make room. */
typedef void flow_table_evict(void *context, struct flow_entry *entry);

struct flow_table *flow_table_create(uint32_t max_flows, const uint8_t seed[FLOW_TABLE_SEED_OCTETS],
                                     flow_table_evict *evict, void *context) MUST_CHECK;
void flow_table_destroy(struct flow_table *table); /* accepts NULL; the entries must be removed before */
size_t flow_table_memory_octets(uint32_t max_flows);

/* The entry of a packet's connection, NULL when there is none, and which side sends it. */
struct flow_entry *flow_table_find(struct flow_table *table, const struct address *source,
                                   const struct address *destination, enum side *sender);

/* A new half-open entry; the flow in it is not initialised. May evict. */
struct flow_entry *flow_table_add(struct flow_table *table, const struct address *client,
                                  const struct address *server, uint64_t now_us);
void flow_table_remove(struct flow_table *table, struct flow_entry *entry);

void flow_table_touch(struct flow_table *table, struct flow_entry *entry, uint64_t now_us);
void flow_table_move(struct flow_table *table, struct flow_entry *entry, enum flow_population population);

/* The one that has been silent longest, NULL when the population is empty. */
struct flow_entry *flow_table_oldest(struct flow_table *table, enum flow_population population);
uint32_t flow_table_count(const struct flow_table *table, enum flow_population population);

/* For links kept outside: index + 1, and back. */
uint32_t flow_table_link(const struct flow_table *table, const struct flow_entry *entry);
struct flow_entry *flow_table_entry(struct flow_table *table, uint32_t link);

#endif
