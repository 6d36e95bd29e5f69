/* log_rate - how many lines a second may be logged: a bucket that holds one second's worth.
 * Owns:   nothing but itself. Bounds: `limit_count` lines at once, then `limit_count` a second; 0 = no limit.
 * Threads: the caller's lock. Time: the caller's monotonic microseconds; a step back refills nothing. */
#ifndef SMTPWITNESS_DAEMON_LOG_RATE_H
#define SMTPWITNESS_DAEMON_LOG_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/attributes.h"

struct log_rate {
    uint32_t limit_count;
    uint64_t credit; /* microseconds times limit_count; a line costs a million */
    uint64_t last_us;
};

void log_rate_init(struct log_rate *rate, uint32_t limit_count, uint64_t now_us);

/* Takes the place of one line. False: over the limit, leave the line out. */
bool log_rate_take(struct log_rate *rate, uint64_t now_us) MUST_CHECK;

#endif
