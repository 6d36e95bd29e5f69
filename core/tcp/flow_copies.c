/* Packets that come twice though they were sent once: by the capture, or by the network. */
#include "core/tcp/flow.h"

#include <string.h>

#include "core/tcp/flow_internal.h"

#define HASHED_OCTETS 64

_Static_assert(FLOW_TWINS == 4, "flow_side.twin_next has two bits");

static uint32_t mix(uint32_t hash, uint32_t word)
{
    uint64_t product = ((uint64_t)hash ^ word ^ 0x9e3779b9u) * UINT64_C(0xff51afd7ed558ccd);
    return (uint32_t)(product >> 32) ^ (uint32_t)product;
}

uint32_t flow_hash_start(const struct packet *packet)
{
    uint32_t hash = (uint32_t)packet->payload_length;
    size_t count = packet->payload_captured < HASHED_OCTETS ? packet->payload_captured : HASHED_OCTETS;
    size_t i = 0;
    for (; count - i >= 4; i += 4) {
        uint32_t word;
        memcpy(&word, packet->payload + i, 4);
        hash = mix(hash, word);
    }
    for (; i < count; i++) {
        hash = mix(hash, packet->payload[i]);
    }
    return hash;
}

/* What shows octets for the first time is no copy, whatever its hash. */
static bool side_shows_more(const struct flow_side *own, const struct packet *packet)
{
    return (own->flags & FLOW_SIDE_BEGUN) != 0 && packet->payload_length > 0 &&
           sequence_before(own->highest, packet->sequence + (uint32_t)packet->payload_length);
}

bool flow_is_copy(struct flow_side *own, const struct packet *packet, uint64_t now_us)
{
    /* Each word is mixed in by itself: sequence and acknowledgement often grow by the same amount. */
    uint32_t hash = mix(mix(0, packet->sequence), packet->acknowledgement);
    hash = mix(hash, (uint32_t)packet->payload_length ^ (uint32_t)packet->flags << 24);
    hash = mix(mix(hash, packet->window ^ (uint32_t)packet->ip_id << 16), packet->timestamp_value);
    if (packet->sack_count > 0) {
        hash = mix(mix(hash, packet->sack[0].start), packet->sack[0].end);
    }
    bool known = !side_shows_more(own, packet);
    uint16_t tick = (uint16_t)(now_us / FLOW_TWIN_TICK_US);
    bool stamped = (packet->options & PACKET_HAS_TIMESTAMP) != 0;
    uint32_t within_us = packet->ip_id != 0 ? FLOW_TWIN_US
                         : stamped          ? FLOW_TWIN_STAMPED_US
                                            : FLOW_TWIN_BLIND_US;
    for (unsigned i = 0; i < FLOW_TWINS; i++) {
        uint32_t ago_us = (uint32_t)(uint16_t)(tick - own->twin_ticks[i]) * FLOW_TWIN_TICK_US;
        if (known && own->twin_hashes[i] == hash && ago_us < within_us && now_us - own->last_us < within_us) {
            return true;
        }
    }
    own->twin_hashes[own->twin_next] = hash;
    own->twin_ticks[own->twin_next] = tick;
    own->twin_next = (own->twin_next + 1u) % FLOW_TWINS;
    return false;
}

/* A repetition by TCP has a later IP ID and timestamp than all before it; a copy that a router passes on behind a burst has
 * those of its original. */
bool flow_is_late_copy(const struct flow_side *own, const struct packet *packet, uint64_t now_us)
{
    if (!(own->flags & FLOW_SIDE_TWINS) || !(own->flags & FLOW_SIDE_BEGUN) || packet->payload_length == 0 ||
        !stream_has(own, packet->sequence, (uint32_t)packet->payload_length)) {
        return false;
    }
    if (packet->has_ip_id && packet->ip_id != 0 && own->ip_id != 0) {
        return (uint16_t)(own->ip_id - packet->ip_id) < REORDERED_IDS;
    }
    bool stamped = (packet->options & PACKET_HAS_TIMESTAMP) && (own->flags & FLOW_SIDE_TIMESTAMPS);
    return stamped &&
           (sequence_before(packet->timestamp_value, own->timestamp) ||
            (packet->timestamp_value == own->timestamp && now_us - own->last_us < FLOW_TWIN_STAMPED_US));
}
