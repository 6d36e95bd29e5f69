/* bridge - where hosts are on a bridge: behind which port, with which link address. A bridge has no route to them, so what
 * is said in another's name leaves by the port itself (packet(7)), as a frame like those of the hosts.
 * Learned from queued packets that came in by a port of a bridge (br_netfilter).
 * Owns:    a socket; needs CAP_NET_RAW to open, nothing to send.
 * Bounds:  BRIDGE_HOSTS hosts; a newer one takes the place of one with the same hash.
 * Threads: any. */
#ifndef SMTPWITNESS_NFQ_BRIDGE_H
#define SMTPWITNESS_NFQ_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/address.h"
#include "core/base/attributes.h"

#define BRIDGE_HOSTS       1024
#define BRIDGE_LINK_OCTETS 6

struct bridge;

struct bridge *bridge_create(void) MUST_CHECK; /* NULL: no memory, or no socket */
void bridge_destroy(struct bridge *bridge);    /* accepts NULL */

/* A packet of `host` came in by port `port` (an interface index) with this link address. */
void bridge_learn(struct bridge *bridge, const struct address *host, uint32_t port,
                  const uint8_t link[BRIDGE_LINK_OCTETS]);
/* Sends an IP packet. False: one of the two hosts is not known to be across a bridge, or it was not taken. */
bool bridge_send(struct bridge *bridge, const struct address *source, const struct address *destination,
                 const uint8_t *octets, size_t length) MUST_CHECK;

#endif
