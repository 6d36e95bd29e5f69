/* segment - builds one TCP segment with its IP header: RFC 791, RFC 8200, RFC 9293, RFC 7323.
 * No socket, no system call. Borrows: the payload, during the call. Threads: none. */
#ifndef SMTPWITNESS_NFQ_SEGMENT_H
#define SMTPWITNESS_NFQ_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/address.h"
#include "core/base/attributes.h"

#define SEGMENT_HEADER_OCTETS 72 /* IPv6 40, TCP 20, timestamps 12 */

struct segment {
    struct address source, destination; /* both of one family */
    uint32_t sequence, acknowledgement;
    uint16_t window; /* as written, unscaled */
    uint8_t flags;   /* enum packet_tcp_flag */
    uint8_t ttl;
    uint16_t ip_id;
    bool has_timestamps;
    uint32_t timestamp_value, timestamp_echo;
    const uint8_t *payload;
    size_t payload_length;
};

/* Returns the length; 0 when it does not fit `room`, or the families differ. */
size_t segment_build(const struct segment *segment, uint8_t *octets, size_t room) MUST_CHECK;

#endif
