/* fragments - puts IP datagrams that came in fragments together again (RFC 791 section 3.2, RFC 8200 section 4.5), so that
 * TCP sees whole segments. What overlaps with other octets is given up (RFC 5722), the same fragment twice is not.
 * Bounds:  FRAGMENTS_DATAGRAMS unfinished ones, the longest waiting goes first; FRAGMENTS_OCTETS each, more is left out;
 *          nothing is waited for longer than FRAGMENTS_PATIENCE_US. One allocation.
 * Owns:    the octets it collects. Threads: none. Time: the caller's monotonic microseconds. */
#ifndef SMTPWITNESS_CORE_TCP_FRAGMENTS_H
#define SMTPWITNESS_CORE_TCP_FRAGMENTS_H

#include "core/tcp/packet.h"

#define FRAGMENTS_DATAGRAMS   32
#define FRAGMENTS_OCTETS      9216     /* a jumbo frame's */
#define FRAGMENTS_PATIENCE_US 30000000 /* Linux: net.ipv4.ipfrag_time */

struct fragments;

/* A whole packet, from its IP header on; until the next call. */
struct fragments_whole {
    const uint8_t *octets;
    size_t captured; /* less than `length` where a fragment was cut by the capture */
    size_t length;
    uint32_t fragment_count;
};

struct fragments *fragments_create(void) MUST_CHECK; /* NULL without memory */
void fragments_destroy(struct fragments *fragments); /* accepts NULL */
size_t fragments_memory_octets(void);

/* `fragment`: of packet_parse() with PACKET_FRAGMENT. True when it was the last one that lacked. */
bool fragments_take(struct fragments *fragments, const struct packet *fragment, uint64_t now_us,
                    struct fragments_whole *whole) MUST_CHECK;

#endif
