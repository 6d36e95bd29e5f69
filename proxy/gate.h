/* gate - signs of life for the packet filter, whose rules take new connections only while such signs are fresh.
 * A sign is an empty IP datagram of protocol 253 to the loopback address (RFC 3692: for experiments): whoever sends one
 * has CAP_NET_RAW. Raw OUTPUT notes its time in xt_recent and drops it (rules/proxy.sh), and the kernel tells the
 * sender of a packet dropped there EPERM (net/netfilter/core.c, NF_DROP). That answer says whether such rules are
 * loaded, so they may come, go and change while we run. Protocol 254 takes the note away.
 * Owns:    two raw sockets per family, which receive nothing.
 * Threads: one. Privileges: gate_open() needs CAP_NET_RAW, the others none. */
#ifndef SMTPWITNESS_PROXY_GATE_H
#define SMTPWITNESS_PROXY_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/settings.h"
#include "core/base/attributes.h"

#define GATE_INTERVAL_US 500000u /* rules/proxy.sh lets a sign count for 2 s */
#define GATE_FAMILIES    2       /* IPv4, IPv6 */

struct gate {
    int life[GATE_FAMILIES], farewell[GATE_FAMILIES]; /* -1 = closed, or no such family on this system */
};

/* False and one line in `error` without CAP_NET_RAW; the gate is then closed. */
bool gate_open(struct gate *gate, struct settings_error *error) MUST_CHECK;
void gate_close(struct gate *gate); /* closing twice is allowed */

/* "I take new connections." True when rules of either family saw it. */
bool gate_say_life(const struct gate *gate);
/* "I take no more": new connections pass by from this moment. */
bool gate_say_farewell(const struct gate *gate);

#endif
