/* connection_marks - the bypass's bit in the kernel's table of connections, put on and off through ctnetlink
 * (linux/netfilter/nfnetlink_conntrack.h; net/netfilter/nf_conntrack_netlink.c).
 * The kernel knows a connection by the addresses that its packets come with, from either side. What we see of it in FORWARD
 * is behind destination and before source translation. So where its destination is translated we know what the server's
 * packets come with, where its source is what the client's do; where both are, or in a zone of its own, it cannot be found.
 * Owns:    a socket. Needs CAP_NET_ADMIN at each call, like a verdict.
 * Threads: one at a time. The kernel has answered when a request is sent: nothing waits but for the table's lock. */
#ifndef SMTPWITNESS_NFQ_CONNECTION_MARKS_H
#define SMTPWITNESS_NFQ_CONNECTION_MARKS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/address.h"
#include "core/base/attributes.h"

struct mnl_socket;

struct connection_marks {
    struct mnl_socket *socket;
    uint32_t bit;
    uint32_t sequence; /* of the latest request */
};

enum connection_marks_result {
    CONNECTION_MARKS_DONE = 0,
    CONNECTION_MARKS_UNKNOWN, /* the kernel has no connection that we could name */
    CONNECTION_MARKS_FAILED,  /* errno tells */
};

/* False, and errno: the kernel has no ctnetlink, or does not let us. */
bool connection_marks_open(struct connection_marks *marks, uint32_t bit) MUST_CHECK;
void connection_marks_close(struct connection_marks *marks);

enum connection_marks_result connection_marks_set(struct connection_marks *marks,
                                                  const struct address *client, const struct address *server,
                                                  bool on) MUST_CHECK;

/* The bit of every connection: what a run leaves, or an earlier one has left. False, and errno: not all could be read. */
bool connection_marks_put_all_off(struct connection_marks *marks) MUST_CHECK;

#endif
