/* peaks - the `peaks` lines: which sources were busiest since the last time, so that a limit can be chosen from
 * what really happens.
 * Threads: the main thread. Bounds: PEAKS_MAX_SOURCES lines. */
#ifndef SMTPWITNESS_DAEMON_PEAKS_H
#define SMTPWITNESS_DAEMON_PEAKS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/policy/limiter.h"
#include "daemon/log.h"

#define PEAKS_MAX_SOURCES 1000
#define PEAKS_LINE_OCTETS 384

/* Logs at most `count` sources over the last `interval_us`; `reset` begins a new interval. */
void peaks_log(struct log *log, struct limiter *limiter, uint32_t count, uint8_t ipv6_source_prefix,
               uint64_t interval_us, bool reset);

/* One line as logfmt and as JSON. For peaks_log() and its test. */
void peaks_format(const struct limiter_peak *peak, uint8_t ipv6_source_prefix, uint64_t interval_us,
                  char logfmt[PEAKS_LINE_OCTETS], char json[PEAKS_LINE_OCTETS]);

#endif
