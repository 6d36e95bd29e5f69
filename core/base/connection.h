/* connection - what is known of a TCP connection from its first packet on. Kept by whoever follows it; its session
 * borrows it.
 * Threads: as the keeper's. Time: the keeper's monotonic microseconds. */
#ifndef SMTPWITNESS_CORE_BASE_CONNECTION_H
#define SMTPWITNESS_CORE_BASE_CONNECTION_H

#include <stdint.h>

#include "core/base/address.h"
#include "core/base/side.h"

struct connection {
    struct address client, server;
    uint32_t seat; /* among the limiter's neighbours; 0 = none */
    uint64_t opened_us;
};

static inline const struct address *connection_end(const struct connection *connection, enum side side)
{
    return side == SIDE_CLIENT ? &connection->client : &connection->server;
}

#endif
