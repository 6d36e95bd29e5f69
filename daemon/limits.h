/* limits - what the system lets us have, and what we could use of it at worst.
 * Threads: the main thread, before workers start. */
#ifndef SMTPWITNESS_DAEMON_LIMITS_H
#define SMTPWITNESS_DAEMON_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#include "conf/settings.h"

/* Raises the soft descriptor limit to the hard one; returns what is in force. */
uint64_t limits_raise_descriptors(void);

/* Every bounded thing the program allocates, at its bound. */
struct limits_memory {
    uint64_t sessions;      /* most sessions at once */
    uint64_t buffer_octets; /* both directions of every session full */
    uint64_t limiter_octets;
    uint64_t log_octets;
    uint64_t total_octets;
};
void limits_worst_case(struct limits_memory *memory, const struct settings_proxy *proxy, uint64_t descriptors,
                       size_t limiter_octets, size_t log_octets);

#endif
