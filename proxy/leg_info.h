/* leg_info - what the kernel's TCP_INFO says about a leg, in the words of the evidence.
 * Source:  Linux include/uapi/linux/tcp.h struct tcp_info, net/ipv4/tcp.c tcp_get_info(); the rules R1 (delivered?),
 *          R3 (alive?) and R4 (zero window or black hole?) rest on these fields.
 * Threads: none. Time: the caller's monotonic microseconds. */
#ifndef SMTPWITNESS_PROXY_LEG_INFO_H
#define SMTPWITNESS_PROXY_LEG_INFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/tcp.h>

#include "core/fault/evidence.h"

/* What TCP_INFO does not know. */
struct leg_info_context {
    size_t info_octets;   /* how much of struct tcp_info this kernel filled */
    uint32_t outstanding; /* SIOCOUTQ: octets not acknowledged, sent or not, and our FIN as one */
    bool fin_sent;        /* we sent our FIN */
    bool ipv6;
    bool progressed;   /* octets were acknowledged since it was last asked */
    uint64_t wrote_us; /* when we last wrote to the leg; 0 = never */
    uint64_t now_us;
};

/* Updates what TCP_INFO knows in `evidence`; leaves ICMP, TTL, probe and connect results alone. */
void leg_info_apply(struct leg_evidence *evidence, const struct tcp_info *info,
                    const struct leg_info_context *context);

/* What a keepalive probe that began at `since_us` has shown so far (R3). */
enum probe_result leg_info_probe(const struct tcp_info *info, uint64_t since_us, uint64_t now_us);

#endif
