/* tap - raw packet sockets beside the relay, for what TCP_INFO cannot tell.
 * Always on, and light: RST and SYN-ACK of the SMTP ports (the distance of a reset against that of its server) and
 * ICMP errors (path MTU messages that are forwarded past us). On suspicion only: bare ACKs of the flows watched; our
 * acknowledgement against the sequence number of the answer shows octets that were lost before us.
 * Nobody waits for the tap: it is emptied when it is asked, and now and then by tap_drain().
 * Owns:    its sockets and tables. Bounds: TAP_* entries each; a newer one takes the place of an older one.
 * Threads: any; one mutex. Time: the caller's monotonic microseconds. */
#ifndef SMTPWITNESS_PROXY_TAP_H
#define SMTPWITNESS_PROXY_TAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/settings.h"
#include "core/base/address.h"
#include "core/base/attributes.h"
#include "core/base/side.h"
#include "proxy/connect_error.h"

struct tap;

/* The addresses of a leg as they stand in its packets: of the client leg and of the server leg the same, unless the
 * client's port could not be kept. */
struct tap_flow {
    struct address client, server;
    enum side side; /* whose leg */
};

struct tap_reset {
    uint8_t ttl;       /* of the RST that came from that side */
    bool bare;         /* without ACK: it answers a segment (RFC 9293 section 3.10.7.1) */
    uint8_t usual_ttl; /* of that side's handshakes; 0 = unknown or not steady */
};

/* NULL and one line in `error` without the privilege (CAP_NET_RAW). `seed` keys its tables. */
struct tap *tap_create(const struct settings_smtp *smtp, const uint8_t seed[16],
                       struct settings_error *error) MUST_CHECK;
void tap_destroy(struct tap *tap); /* accepts NULL, as does every function here: then nothing is known */

void tap_drain(struct tap *tap, uint64_t now_us);

/* The newest RST that came from that side of the flow. */
bool tap_find_reset(struct tap *tap, const struct tap_flow *flow, uint64_t now_us, struct tap_reset *reset);

/* The newest ICMP error that quotes a segment of ours on that leg; *mtu for "too big". */
bool tap_find_icmp(struct tap *tap, const struct tap_flow *flow, uint64_t now_us, struct icmp_error *icmp,
                   uint32_t *mtu);

/* Watches the bare ACKs of a leg from now on; false when too many are watched already. */
bool tap_watch(struct tap *tap, const struct tap_flow *flow, uint64_t now_us);
/* True when both our acknowledgement and the side's sequence number were seen; *octets that side sent beyond it. */
bool tap_find_revealed(struct tap *tap, const struct tap_flow *flow, uint64_t now_us, uint32_t *octets);
void tap_unwatch(struct tap *tap, const struct tap_flow *flow, uint64_t now_us);

struct tap_stats {
    uint64_t packets, dropped;
    uint32_t watched;
};
void tap_stats(struct tap *tap, struct tap_stats *stats);

#endif
