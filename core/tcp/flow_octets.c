/* Segments: new, repeated, late; on this side of us lost or on the other. */
#include "core/tcp/flow.h"

#include "core/tcp/flow_internal.h"

static void flow_note_deaf(struct flow *flow, enum side side, uint64_t now_us)
{
    if (flow->midstream) { /* what was acknowledged before we looked is not known */
        return;
    }
    if (flow->deaf_is_server != (side == SIDE_SERVER)) {
        flow->deaf_is_server = side == SIDE_SERVER;
        flow->deaf_count = 0;
    }
    if (flow->deaf_count == 0 || (uint32_t)now_us - flow->deaf_us >= FLOW_DEAF_US) {
        count_few(&flow->deaf_count);
        flow->deaf_us = (uint32_t)now_us;
    }
}

/* All of it was seen before. */
static void flow_take_repetition(struct flow *flow, enum side side, const struct packet *packet,
                                 const struct flow_segment *segment, const struct flow_sink *sink,
                                 uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    struct flow_side *other = flow_side_of(flow, side_other(side));
    uint32_t end = segment->start + segment->length + (segment->fin ? 1 : 0);
    if (segment->length <= KEEPALIVE_OCTETS && (other->flags & FLOW_SIDE_WINDOW_ZERO)) {
        count_few(&own->unanswered);
        return;
    }
    bool changed = segment->captured > 0 &&
                   ((segment->start == own->last_start && least16(segment->length) == own->last_length &&
                     own->last_hash != flow_hash_start(packet)) ||
                    stream_differs(own, segment));
    own->flags |= changed ? (uint32_t)FLOW_SIDE_DIFFERS : 0u;
    if (!sequence_before(own->acked, end)) {
        other->flags |=
            FLOW_SIDE_LOST_AFTER; /* its acknowledgement had passed here and did not arrive in time */
        flow_note_deaf(flow, side, now_us);
        return;
    }
    own->flags |= FLOW_SIDE_LOST_AFTER;
    own->flags &= ~(uint32_t)FLOW_SIDE_TIMING; /* Karn's rule */
    count(&own->repeated_after);
    uint16_t size = least16(segment->length);
    if (segment->length > 0 && (own->repeated_least == 0 || size < own->repeated_least)) {
        own->repeated_least = size;
    }
    count_few(&own->repeats);
    if (own->repeats == 1) {
        flow_note_loss(flow, side, segment->start);
        stream_pass_unseen(flow, side, sink, now_us); /* lost after us; and so is the rest, if it is */
        sink->event(sink->context, FLOW_EVENT_STUCK, side, now_us);
    }
}

/* It begins before what was seen last, yet it is new: a hole is filled late. */
static void side_take_late(struct flow_side *own, const struct packet *packet, uint64_t now_us)
{
    if (side_may_have_bypassed(own, packet->sequence)) { /* for the first time, or again? */
        own->flags &= ~(uint32_t)FLOW_SIDE_TIMING;
        return;
    }
    uint32_t open_us = own->hole_us != 0 ? (uint32_t)now_us - own->hole_us : 0;
    bool counted = packet->has_ip_id && packet->ip_id != 0 && own->ip_id != 0;
    uint16_t behind = (uint16_t)(own->ip_id - packet->ip_id), ahead = (uint16_t)(packet->ip_id - own->ip_id);
    bool sent_earlier = counted && behind > 0 && behind < REORDERED_IDS;
    bool sent_later = counted && ahead > 0 && ahead < REORDERED_IDS;
    if (sent_earlier || (open_us < FLOW_REORDERED_US && !sent_later)) {
        own->flags |= FLOW_SIDE_REORDERED;
        return;
    }
    own->flags |= FLOW_SIDE_LOST_BEFORE;
    own->flags &= ~(uint32_t)FLOW_SIDE_TIMING;
    count(&own->repeated_before);
}

void flow_take_segment(struct flow *flow, enum side side, const struct packet *packet,
                       const struct flow_sink *sink, uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    struct flow_segment segment = {.start = packet->sequence,
                                   .length = (uint32_t)packet->payload_length,
                                   .octets = packet->payload,
                                   .captured = (uint32_t)packet->payload_captured,
                                   .fin = (packet->flags & PACKET_FIN) != 0};
    uint32_t end = segment.start + segment.length + (segment.fin ? 1 : 0);
    if (stream_has(own, segment.start, segment.length) &&
        (!segment.fin || (own->flags & FLOW_SIDE_FIN_SHOWN))) {
        flow_take_repetition(flow, side, packet, &segment, sink, now_us);
        return;
    }
    if ((own->flags & FLOW_SIDE_BYPASS) && sequence_before(own->next, segment.start)) {
        side_bypass_to(own, segment.start);
    }
    if (sequence_before(segment.start, own->highest)) {
        if (sequence_before(segment.start, own->next) && own->pieces == NULL) {
            if (sequence_before(own->acked, own->next)) { /* repeated with more behind it */
                count(&own->repeated_after);
            }
        } else {
            side_take_late(own, packet, now_us);
        }
    }
    if (sequence_before(own->next, segment.start) && own->hole_us == 0 &&
        !sequence_before(segment.start, own->highest)) {
        own->hole_us = low_us(now_us);
    }
    if (segment.length > 0) {
        flow_not_deaf(flow, side);
    }
    own->flags |= segment.fin ? (uint32_t)FLOW_SIDE_FIN_SHOWN : 0u;
    own->last_start = segment.start;
    own->last_length = least16(segment.length);
    own->last_hash = flow_hash_start(packet);
    uint16_t size = least16(segment.length);
    const struct flow_side *other = flow_side_of(flow, side_other(side));
    size = other->mss != 0 && size > other->mss ? other->mss : size;
    if (size > own->biggest_sent) {
        own->biggest_sent = size;
        own->biggest_end = end;
    }
    bool counts = size >= BIG_SEGMENT_OCTETS || !(own->flags & FLOW_SIDE_BYPASS);
    if (size > 0 && counts) { /* in a bypass all small ones are seen, and of the large ones only some */
        own->mean_size = own->mean_size == 0 ? size : (uint16_t)((7u * own->mean_size + size) / 8);
    }
    if (sequence_before(own->highest, end)) {
        if (side == SIDE_CLIENT) {
            flow_note_beyond(flow, segment.start, end);
        }
        own->highest = end;
        if (sequence_before(own->acked, end)) {
            own->unacked_since_us = own->unacked_since_us == 0 ? now_us : own->unacked_since_us;
            side_start_timing(own, end, size, now_us);
        }
    }
    segment.wait_for = (packet->flags & PACKET_ACK) ? packet->acknowledgement : 0;
    if (!(packet->flags & PACKET_ACK) || (other->flags & FLOW_SIDE_BEGUN) == 0 ||
        sequence_before(other->acked, segment.wait_for)) {
        segment.wait_for = other->next; /* what it acknowledges is not believable: wait for nothing */
    }
    if (segment.captured < segment.length) {
        own->flags |= FLOW_SIDE_GAP;
    }
    stream_take(flow, side, &segment, sink, now_us);
}

void flow_take_position(struct flow *flow, enum side side, uint32_t sequence, const struct flow_sink *sink,
                        uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    flow_not_deaf(flow, side);
    if (sequence == own->next) {
        own->clean_us = now_us;
        sink->event(sink->context, FLOW_EVENT_CLEAN, side, now_us);
    } else if (own->flags & FLOW_SIDE_BYPASS) {
        side_bypass_to(own, sequence);
        side_show(own, sequence);
    } else if (sequence_before(own->next, sequence) && !side_may_have_bypassed(own, sequence - 1)) {
        side_show(own, sequence);
        if (own->hole_us == 0) {
            own->hole_us = low_us(now_us);
        }
        sink->event(sink->context, FLOW_EVENT_SHOWN, side, now_us);
    }
}
