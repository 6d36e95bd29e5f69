/* connect_error - what a failed connect() and the ICMP error behind it mean.
 * One errno stands for several truths: a firewall's REJECT (ICMP port unreachable) arrives as ECONNREFUSED like an
 * RST, and "no route" and "prohibited" both as EHOSTUNREACH. The ICMP type and code tell them apart.
 * Source:  RFC 792, RFC 1122 3.2.2.1, RFC 1812 5.2.7.1 (codes 9, 10, 13), RFC 4443 3.1; Linux net/ipv4/icmp.c
 *          icmp_err_convert[], net/ipv6/icmp.c tab_unreach[].
 * Threads: none. */
#ifndef SMTPWITNESS_PROXY_CONNECT_ERROR_H
#define SMTPWITNESS_PROXY_CONNECT_ERROR_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/address.h"
#include "core/fault/evidence.h"

/* One ICMP error about a connection of ours. */
struct icmp_error {
    bool seen;
    bool ipv6;
    uint8_t type, code;
    bool offender_known;
    struct address offender; /* who sent it; the port is 0 */
};

enum connect_result connect_error_classify(int error, const struct icmp_error *icmp);

/* True for "packet too big" (ICMP 3/4, ICMPv6 2): a notice, not a failure. */
bool icmp_error_is_too_big(const struct icmp_error *icmp);

/* True for an errno that ICMP causes on a connection that may well go on (RFC 1122 4.2.3.9, soft errors). */
bool icmp_error_is_soft(int error);

#endif
