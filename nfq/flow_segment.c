#include "nfq/flow_segment.h"

#define DEFAULT_TTL 64

struct segment flow_segment(const struct flow_entry *entry, enum side speaker)
{
    const struct flow_side *own = &entry->flow.sides[side_index(speaker)];
    const struct flow_side *other = &entry->flow.sides[side_index(side_other(speaker))];
    const bool scaled = (own->flags & FLOW_SIDE_SCALES) && (other->flags & FLOW_SIDE_SCALES);
    const uint32_t window = own->window >> (scaled ? own->scale : 0);
    struct segment segment = {.source = *connection_end(&entry->connection, speaker),
                              .destination = *connection_end(&entry->connection, side_other(speaker)),
                              .sequence = own->highest,
                              .acknowledgement = other->acked,
                              .window = window > UINT16_MAX ? UINT16_MAX : (uint16_t)window,
                              .flags = PACKET_ACK,
                              .ttl = own->ttl_high > 1 ? (uint8_t)(own->ttl_high - 1) : DEFAULT_TTL};

    if ((own->flags & FLOW_SIDE_TIMESTAMPS) && (other->flags & FLOW_SIDE_TIMESTAMPS)) {
        segment.has_timestamps = true;
        segment.timestamp_value = own->timestamp; /* an older one would be dropped without an answer (PAWS) */
        segment.timestamp_echo = other->timestamp;
    }
    return segment;
}
