/* tap_filter - the kernel's share of the tap: BPF programs that let only what matters through.
 * They run at the network header (packet(7), SOCK_DGRAM), on any link type.
 * Bounds:  TAP_FILTER_MAX instructions. Threads: none. Source: Linux Documentation/networking/filter.rst. */
#ifndef SMTPWITNESS_PROXY_TAP_FILTER_H
#define SMTPWITNESS_PROXY_TAP_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/filter.h>

#include "core/base/attributes.h"

#define TAP_FILTER_MAX       256
#define TAP_FILTER_MAX_PORTS 48
#define TAP_FILTER_SNAP                                                                                      \
    192 /* octets of a packet that are kept: IP, options, TCP; or ICMP and what it quotes */

struct tap_filter {
    struct sock_filter code[TAP_FILTER_MAX];
    size_t count;
};

/* Always on: RST and SYN-ACK from or to one of the ports, and ICMP errors. For a socket of ETH_P_IP / ETH_P_IPV6. */
void tap_filter_watch(struct tap_filter *filter, bool ipv6, const uint16_t *ports, size_t port_count);
/* On suspicion: TCP segments without payload, SYN and RST, both families, from or to one of the ports. */
void tap_filter_acks(struct tap_filter *filter, const uint16_t *ports, size_t port_count);
/* Nothing at all. */
void tap_filter_none(struct tap_filter *filter);

#endif
