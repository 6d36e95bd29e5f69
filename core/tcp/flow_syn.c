/* The handshake, SYNs that are repeated, and new SYNs on a connection that is not over. */
#include "core/tcp/flow.h"

#include "core/tcp/flow_internal.h"

static void side_take_syn(struct flow_side *own, const struct packet *packet, uint64_t now_us)
{
    if (!(own->flags & FLOW_SIDE_BEGUN) || !(own->flags & FLOW_SIDE_SEEN)) {
        bool acked = (own->flags & FLOW_SIDE_BEGUN) && own->acked == packet->sequence + 1;
        side_begin(own, packet->sequence + 1);
        if (!acked) {
            own->acked = packet->sequence;
            own->unacked_since_us = now_us;
            side_start_timing(own, own->highest, 0, now_us);
        }
    }
    own->first = packet->sequence + 1;
    own->flags |= FLOW_SIDE_SYN;
    own->flags |= (packet->options & PACKET_HAS_WINDOW_SCALE) ? (uint32_t)FLOW_SIDE_SCALES : 0u;
    own->scale = packet->window_scale & 15u;
    own->mss = packet->mss;
    own->syn_count = 1;
}

static void side_repeat_syn(struct flow_side *own, bool established, uint64_t now_us)
{
    uint64_t interval_us = now_us - own->last_us;
    if (!(own->flags & FLOW_SIDE_BYPASSED)) {
        own->syn_interval_us = interval_us < UINT32_MAX ? (uint32_t)interval_us : UINT32_MAX;
    }
    own->flags &= ~(uint32_t)FLOW_SIDE_TIMING; /* Karn: which of them is answered cannot be told */
    own->flags |= FLOW_SIDE_SYN_REPEATED;
    own->syn_count = own->syn_count < UINT8_MAX ? (uint8_t)(own->syn_count + 1) : UINT8_MAX;
    if (established) {
        own->flags |= (own->flags & FLOW_SIDE_SYN_REPEATED_ONCE) ? (uint32_t)FLOW_SIDE_SYN_REPEATED_LATE
                                                                 : (uint32_t)FLOW_SIDE_SYN_REPEATED_ONCE;
    } else if (sequence_before(own->acked, own->highest)) {
        count(&own->repeated_after);
        count_few(&own->repeats);
        own->flags |= FLOW_SIDE_LOST_AFTER;
    }
}

void flow_connect(struct flow *flow, const struct flow_sink *sink, uint64_t now_us)
{
    if (!flow->connected) {
        flow->connected = true;
        sink->event(sink->context, FLOW_EVENT_CONNECTED, SIDE_SERVER, now_us);
    }
}

enum flow_verdict flow_on_syn(struct flow *flow, enum side side, const struct packet *packet,
                              const struct flow_sink *sink, uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    struct flow_side *other = flow_side_of(flow, side_other(side));
    bool answer = (packet->flags & PACKET_ACK) != 0;
    if (answer && flow->syn_pending && packet->acknowledgement == flow->pending_sequence + 1) {
        return FLOW_RESTART;
    }
    if ((own->flags & FLOW_SIDE_SYN) && own->first == packet->sequence + 1) {
        side_repeat_syn(own, flow->state >= FLOW_ESTABLISHED && answer, now_us);
        return FLOW_TAKEN;
    }
    if (answer !=
        (side == SIDE_SERVER)) { /* the roles have turned: believed once the old connection is over */
        return flow->state == FLOW_CLOSED ? FLOW_RESTART : FLOW_STRAY;
    }
    if (!answer && (own->flags & FLOW_SIDE_SEEN)) {
        if (flow->state == FLOW_CLOSED || flow->state == FLOW_SYN_SEEN || flow_reset_waits(flow)) {
            return FLOW_RESTART; /* RFC 6191: TIME-WAIT may be cut short by a new SYN */
        }
        flow->syn_pending = true;
        flow->pending_sequence = packet->sequence;
        flow->pending_us = (uint32_t)now_us;
        flow->pending_window = packet->window;
        flow->pending_mss = packet->mss;
        flow->pending_scale = packet->window_scale;
        flow->pending_options = packet->options;
        flow->pending_ttl = packet->ttl;
        return FLOW_STRAY;
    }
    if (answer && (other->flags & FLOW_SIDE_SYN) && packet->acknowledgement != other->first &&
        packet->payload_length == 0 && sequence_before(packet->acknowledgement, other->first)) {
        return FLOW_STRAY; /* answers another SYN */
    }
    if (answer && flow->state == FLOW_CLOSED) {
        return FLOW_STRAY;
    }
    side_take_syn(own, packet, now_us);
    own->flags |= FLOW_SIDE_SEEN;
    if (!answer) {
        if (flow->state == FLOW_NEW) {
            flow->state = FLOW_SYN_SEEN;
        }
    } else {
        if (flow->state < FLOW_SYN_ACK_SEEN) {
            flow->state = FLOW_SYN_ACK_SEEN;
        }
        (void)flow_acknowledge(flow, side, packet, sink, now_us);
        flow_connect(flow, sink, now_us);
        stream_release(flow, sink, now_us);
    }
    own->window = packet->window;
    return FLOW_TAKEN;
}

uint64_t flow_pending_syn(const struct flow *flow, const struct packet *answer, struct packet *syn,
                          uint64_t now_us)
{
    if (!flow->syn_pending || (answer->flags & (PACKET_SYN | PACKET_ACK)) != (PACKET_SYN | PACKET_ACK) ||
        answer->acknowledgement != flow->pending_sequence + 1) {
        return 0;
    }
    *syn = (struct packet){.kind = PACKET_TCP,
                           .source = answer->destination,
                           .destination = answer->source,
                           .ttl = flow->pending_ttl,
                           .sequence = flow->pending_sequence,
                           .window = flow->pending_window,
                           .flags = PACKET_SYN,
                           .options = flow->pending_options,
                           .window_scale = flow->pending_scale,
                           .mss = flow->pending_mss};
    return now_us - ((uint32_t)now_us - flow->pending_us);
}
