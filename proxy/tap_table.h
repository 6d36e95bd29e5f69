/* tap_table - what the tap has seen: resets, handshakes, ICMP errors, and the flows it watches. No sockets, no lock.
 * Owns:    four tables of fixed size. Bounds: TAP_* entries each; a newer one takes the place of an older one, and
 *          of watched flows none is taken while its places are full.
 * Hash:    keyed: senders cannot choose to collide.
 * Threads: one at a time. Time: the caller's monotonic microseconds, never 0. */
#ifndef SMTPWITNESS_PROXY_TAP_TABLE_H
#define SMTPWITNESS_PROXY_TAP_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/attributes.h"
#include "proxy/tap.h"

#define TAP_RESETS     4096u /* powers of two: two places for each key */
#define TAP_HANDSHAKES 4096u
#define TAP_ICMPS      1024u
#define TAP_WATCHES    512u

struct tap_table;

struct tap_table *tap_table_create(const uint8_t seed[16]) MUST_CHECK; /* NULL without memory */
void tap_table_destroy(struct tap_table *table);                       /* accepts NULL */

/* A packet of the always-on sockets: RST, SYN-ACK or ICMP error; anything else is ignored. From the IP header on. */
void tap_table_note(struct tap_table *table, const uint8_t *octets, size_t length, uint64_t now_us);
/* A bare ACK of the socket on suspicion; `outgoing`: sent by this box. */
void tap_table_note_ack(struct tap_table *table, const uint8_t *octets, size_t length, bool outgoing);

/* As the tap_find_*() and tap_watch() of tap.h. */
bool tap_table_find_reset(struct tap_table *table, const struct tap_flow *flow, uint64_t now_us,
                          struct tap_reset *reset);
bool tap_table_find_icmp(struct tap_table *table, const struct tap_flow *flow, uint64_t now_us,
                         struct icmp_error *icmp, uint32_t *mtu);
bool tap_table_find_revealed(struct tap_table *table, const struct tap_flow *flow, uint32_t *octets);
bool tap_table_watch(struct tap_table *table, const struct tap_flow *flow, uint64_t now_us);
void tap_table_unwatch(struct tap_table *table, const struct tap_flow *flow);

uint32_t tap_table_watched(const struct tap_table *table);
/* The clients' ports of the watched flows; returns how many were written. */
size_t tap_table_ports(const struct tap_table *table, uint16_t *ports, size_t room);

#endif
