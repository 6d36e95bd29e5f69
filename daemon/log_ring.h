/* log_ring - lines waiting to be written: a bounded ring of octets.
 * Owns:    its memory, LOG_RING_OCTETS, allocated once. Bounds: LOG_RING_LINES lines; what does not fit is refused.
 * Threads: the caller's lock. */
#ifndef SMTPWITNESS_DAEMON_LOG_RING_H
#define SMTPWITNESS_DAEMON_LOG_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/attributes.h"

/* A second of the default rate limit is 500 lines; 4096 lines carry a syslog daemon that is being restarted. */
#define LOG_RING_LINES  4096
#define LOG_RING_OCTETS ((size_t)4 << 20) /* 1 kB per line; a verdict line has about 900 octets */
#define LOG_LINE_OCTETS 2048              /* the longest line with its NUL; asserted against the record's */

struct log_ring {
    unsigned char *octets;
    size_t first, used; /* first + used wraps at LOG_RING_OCTETS */
    uint32_t lines;
};

struct log_ring_line {
    uint16_t length;
    uint8_t priority; /* LOG_* level, without the facility */
    uint8_t sinks;    /* set, the log's business */
};

bool log_ring_init(struct log_ring *ring) MUST_CHECK; /* false: no memory */
void log_ring_clear(struct log_ring *ring);

/* False: full; the ring is as before. `line->length` octets of `text`, without a NUL. */
bool log_ring_put(struct log_ring *ring, const struct log_ring_line *line, const char *text) MUST_CHECK;

/* The oldest line, NUL-terminated. False: empty. */
bool log_ring_take(struct log_ring *ring, struct log_ring_line *line, char text[LOG_LINE_OCTETS]) MUST_CHECK;

#endif
