/* What acknowledgements tell: what has arrived, after how long, and how large segments get through. */
#include "core/tcp/flow.h"

#include "core/tcp/flow_internal.h"

void side_begin(struct flow_side *own, uint32_t sequence)
{
    own->next = own->highest = own->shown = own->acked = sequence;
    own->flags |= FLOW_SIDE_BEGUN;
}

static void side_take_rtt(struct flow_side *own, uint64_t now_us)
{
    uint32_t sample = (uint32_t)now_us - own->timed_us;
    sample = sample == 0 ? 1 : sample;
    own->rtt_us =
        own->rtt_us == 0 ? sample : own->rtt_us - own->rtt_us / 8 + sample / 8; /* RFC 6298 section 2.3 */
    uint32_t ticks = sample / FLOW_RTT_TICK_US < UINT8_MAX ? sample / FLOW_RTT_TICK_US : UINT8_MAX;
    own->rtt_most_ticks = ticks > own->rtt_most_ticks ? (uint8_t)ticks : own->rtt_most_ticks;
    if (own->rtt_least_us == 0 || sample < own->rtt_least_us) {
        own->rtt_least_us = sample;
    }
    if (own->timed_size > own->biggest_delivered) {
        own->biggest_delivered = own->timed_size;
    }
}

void side_start_timing(struct flow_side *own, uint32_t end, size_t size, uint64_t now_us)
{
    if (!(own->flags & FLOW_SIDE_TIMING)) {
        own->flags |= FLOW_SIDE_TIMING;
        own->timed_end = end;
        own->timed_us = (uint32_t)now_us;
        own->timed_size = least16(size);
    }
}

/* `own`'s octets up to `acknowledged` have reached the other side. */
static void side_advance_acked(struct flow *flow, enum side side, uint32_t acknowledged,
                               const struct flow_sink *sink, uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    own->acked = acknowledged;
    flow_not_deaf(flow, side);
    flow_not_deaf(flow, side_other(side));
    if (side == SIDE_CLIENT) {
        flow_pass_beyond(flow, acknowledged);
    }
    if ((own->flags & FLOW_SIDE_TIMING) && !sequence_before(acknowledged, own->timed_end)) {
        own->flags &= ~(uint32_t)FLOW_SIDE_TIMING;
        side_take_rtt(own, now_us);
    }
    bool all = !sequence_before(acknowledged, own->highest);
    own->unacked_since_us = all ? 0 : now_us;
    if (own->biggest_sent > own->biggest_delivered && !sequence_before(acknowledged, own->biggest_end)) {
        own->biggest_delivered = own->biggest_sent;
    }
    bool stuck = own->repeats > 0;
    flow_set_departure(flow, side, flow_departure(flow, side) & FLOW_REFUSED_HERE);
    own->repeats = 0;
    own->repeated_least = 0;
    own->echoed = false;
    if (!(own->flags & FLOW_SIDE_SEEN)) { /* its direction is not seen here at all */
        own->next = own->highest = own->shown = acknowledged;
    } else if (sequence_before(own->next, acknowledged)) {
        if (own->flags & FLOW_SIDE_BYPASS) {
            side_bypass_to(own, acknowledged);
        }
        if (side_may_have_bypassed(own, acknowledged - 1)) {
            stream_give_up(flow, side, sink, now_us);
        } else if (own->gap_us == 0) {
            own->gap_us = low_us(now_us);
        }
    }
    if (stuck) {
        sink->event(sink->context, FLOW_EVENT_FREED, side, now_us);
    }
}

static void flow_take_sacks(struct flow *flow, const struct packet *packet)
{
    const struct flow_side *other = flow_side_of(flow, SIDE_CLIENT);
    for (unsigned i = 0; i < packet->sack_count && flow->sacks_foreign != FLOW_SIGNS_NEVER; i++) {
        uint32_t start = packet->sack[i].start;
        if (start - other->acked < FLOW_SPAN_OCTETS || other->acked - start < FLOW_SPAN_OCTETS) {
            flow->sacks_foreign = FLOW_SIGNS_NEVER;
            return;
        }
        uint32_t at = (uint32_t)flow->sack_foreign_at << 16;
        bool near = start - at < FLOW_SPAN_OCTETS || at - start < FLOW_SPAN_OCTETS;
        if (flow->sacks_foreign > 0 && !near) { /* scattered: damage, not an offset */
            flow->sacks_foreign = FLOW_SIGNS_NEVER;
            return;
        }
        flow->sack_foreign_at = (uint16_t)(start >> 16);
        flow->sacks_foreign = (uint8_t)(flow->sacks_foreign + (flow->sacks_foreign < FLOW_SIGNS_LEAST));
    }
}

/* A block of octets (RFC 2018) that is as long as a full segment came in one, or in few: such ones get through. */
static void side_take_sacked_sizes(struct flow_side *own, const struct packet *packet)
{
    for (unsigned i = 0; i < packet->sack_count; i++) {
        uint32_t length = packet->sack[i].end - packet->sack[i].start;
        bool inside = packet->sack[i].start - own->acked < FLOW_SPAN_OCTETS && length < FLOW_SPAN_OCTETS &&
                      !sequence_before(own->highest, packet->sack[i].end);
        uint16_t size = least16(length < own->biggest_sent ? length : own->biggest_sent);
        if (inside && size >= BIG_SEGMENT_OCTETS && size > own->biggest_delivered) {
            own->biggest_delivered = size;
        }
    }
}

bool flow_acknowledge(struct flow *flow, enum side side, const struct packet *packet,
                      const struct flow_sink *sink, uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    enum side other_side = side_other(side);
    struct flow_side *other = flow_side_of(flow, other_side);
    uint32_t acknowledged = packet->acknowledgement;
    if (!(other->flags & FLOW_SIDE_BEGUN)) {
        side_begin(other, acknowledged);
        return true;
    }
    if (sequence_before(acknowledged, other->acked)) {
        return other->acked - acknowledged < FLOW_SPAN_OCTETS;
    }
    if (acknowledged - other->acked >= FLOW_SPAN_OCTETS) {
        return false;
    }
    own->flags |= packet->sack_count > 0 ? (uint32_t)FLOW_SIDE_SACKS : 0u;
    side_take_sacked_sizes(other, packet);
    if (side == SIDE_SERVER) {
        flow_take_sacks(flow, packet);
    }
    if (acknowledged != other->acked) {
        side_advance_acked(flow, other_side, acknowledged, sink, now_us);
    } else if (packet->payload_length == 0 && !(packet->flags & (PACKET_SYN | PACKET_FIN | PACKET_RST)) &&
               sequence_before(other->acked, other->highest)) {
        /* RFC 5681 section 2, but for the window: probes' answers count as echoes, too */
        count(&own->duplicate_acks);
        other->echoed = true;
    }
    return true;
}
