/* injector - sends segments in another host's name, through raw sockets that write their own IP headers (raw(7),
 * ipv6(7) IPV6_HDRINCL). They leave through OUTPUT, which our rules do not queue; across a bridge they leave by its port.
 * Owns:    two sockets, the bridge; needs CAP_NET_RAW to open, nothing to send.
 * Threads: any; a send is one system call and never waits. */
#ifndef SMTPWITNESS_NFQ_INJECTOR_H
#define SMTPWITNESS_NFQ_INJECTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/attributes.h"
#include "nfq/bridge.h"
#include "nfq/segment.h"

struct injector {
    int ipv4, ipv6;        /* -1 = none */
    struct bridge *bridge; /* NULL = none */
};

/* False: neither family can be had. */
bool injector_open(struct injector *injector) MUST_CHECK;
void injector_close(struct injector *injector);

bool injector_send(const struct injector *injector, const struct segment *segment) MUST_CHECK;

#endif
