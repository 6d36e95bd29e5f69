/* link - from a frame to the IP packet in it, by the link type of the capture (https://www.tcpdump.org/linktypes.html).
 * Knows:   Ethernet (DIX and SNAP), with VLAN and QinQ tags, PPPoE and MPLS behind it; Linux cooked v1 and v2; raw IP;
 *          NULL and LOOP; PPP with and without HDLC framing; Cisco HDLC; IPv4 and IPv6 alone.
 * Bounds:  LINK_MAX_TAGS tags or labels. Reads nothing beyond `captured`. Threads: none. */
#ifndef SMTPWITNESS_REPLAY_LINK_H
#define SMTPWITNESS_REPLAY_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/attributes.h"

#define LINK_MAX_TAGS 8

struct link_payload {
    const uint8_t *octets;
    size_t captured;
    size_t length; /* on the wire */
};

/* Can frames of this link type (DLT_* as pcap_datalink() says) be read? */
bool link_is_known(int datalink);

/* False when the frame carries no IP packet, or was cut before it. */
bool link_find_ip(int datalink, const uint8_t *octets, size_t captured, size_t length,
                  struct link_payload *payload) MUST_CHECK;

#endif
