#include "core/tcp/flow.h"

#include <string.h>

#include "core/tcp/flow_internal.h"

#define NEVER_US UINT64_MAX

void flow_init(struct flow *flow, bool midstream)
{
    memset(flow, 0, sizeof *flow);
    flow->midstream = flow->connected = midstream;
    flow->state = midstream ? FLOW_ESTABLISHED : FLOW_NEW;
}

void flow_clear(struct flow *flow, size_t *budget_octets)
{
    stream_clear(&flow->sides[0], budget_octets);
    stream_clear(&flow->sides[1], budget_octets);
}

static bool sequence_is_near(const struct flow_side *own, uint32_t sequence)
{
    uint32_t ahead = sequence - own->next;
    return ahead < FLOW_SPAN_OCTETS || own->next - sequence < FLOW_SPAN_OCTETS;
}

static bool is_keepalive(const struct flow_side *own, const struct packet *packet)
{
    return packet->payload_length <= KEEPALIVE_OCTETS && !(packet->flags & PACKET_FIN) &&
           packet->sequence + 1 == own->next && own->next == own->highest &&
           !sequence_before(own->acked, own->highest);
}

/* A keepalive in this side's name from another distance than all before: a witness that probes (nfq/prober.h), seen on its
 * way out. It asks the other side; of this one it says nothing. */
static bool is_foreign_keepalive(const struct flow_side *own, const struct packet *packet)
{
    return (own->flags & FLOW_SIDE_SEEN) && (packet->ttl < own->ttl_low || packet->ttl > own->ttl_high) &&
           is_keepalive(own, packet);
}

static void flow_note_sender(struct flow_side *own, struct flow_side *other, const struct packet *packet,
                             uint64_t now_us)
{
    own->flags |= FLOW_SIDE_SEEN | (packet->fragmented ? (uint32_t)FLOW_SIDE_FRAGMENTED : 0u);
    own->last_us = now_us;
    if (own->ttl_low == 0 || packet->ttl < own->ttl_low) {
        own->ttl_low = packet->ttl;
    }
    if (packet->ttl > own->ttl_high) {
        own->ttl_high = packet->ttl;
    }
    if ((packet->options & PACKET_HAS_TIMESTAMP) &&
        (!(own->flags & FLOW_SIDE_TIMESTAMPS) || !sequence_before(packet->timestamp_value, own->timestamp))) {
        own->timestamp = packet->timestamp_value;
        own->flags |= FLOW_SIDE_TIMESTAMPS;
    }
    other->unanswered = 0;
}

/* A FIN may come in order only after its acknowledgement was seen: what was before it had passed unseen. */
static void flow_settle_end(struct flow *flow)
{
    for (unsigned i = 0; i < SIDE_PAIR; i++) {
        struct flow_side *own = &flow->sides[i];
        if ((own->flags & FLOW_SIDE_FIN) && !sequence_before(own->acked, own->next)) {
            own->flags |= FLOW_SIDE_FIN_ACKED;
        }
    }
    if (flow->state != FLOW_CLOSED && (flow->sides[0].flags & flow->sides[1].flags & FLOW_SIDE_FIN_ACKED)) {
        flow->state = FLOW_CLOSED;
    }
}

static void flow_settle_state(struct flow *flow, enum side side, const struct packet *packet,
                              const struct flow_sink *sink, uint64_t now_us)
{
    if (flow->state == FLOW_SYN_SEEN) { /* the SYN-ACK passed unseen, or by another way */
        flow->state = FLOW_SYN_ACK_SEEN;
        flow_connect(flow, sink, now_us);
    }
    const struct flow_side *server = flow_side_of(flow, SIDE_SERVER);
    if (flow->state == FLOW_SYN_ACK_SEEN && side == SIDE_CLIENT && (packet->flags & PACKET_ACK) &&
        (!(server->flags & FLOW_SIDE_SYN) || !sequence_before(packet->acknowledgement, server->first))) {
        flow->state = FLOW_ESTABLISHED;
        sink->event(sink->context, FLOW_EVENT_ESTABLISHED, SIDE_CLIENT, now_us);
    }
    flow_settle_end(flow);
}

enum flow_verdict flow_on_packet(struct flow *flow, enum side side, const struct packet *packet,
                                 const struct flow_sink *sink, uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    struct flow_side *other = flow_side_of(flow, side_other(side));
    if (flow_is_copy(own, packet, now_us) || flow_is_late_copy(own, packet, now_us)) {
        own->flags |= FLOW_SIDE_TWINS;
        return FLOW_COPY;
    }
    if (packet->flags & PACKET_RST) {
        return flow_on_reset(flow, side, packet, sink, now_us);
    }
    if (packet->flags & PACKET_SYN) {
        enum flow_verdict verdict = flow_on_syn(flow, side, packet, sink, now_us);
        if (verdict == FLOW_TAKEN) {
            flow_note_sender(own, other, packet, now_us);
        }
        return verdict;
    }
    if ((own->flags & FLOW_SIDE_BEGUN) && !sequence_is_near(own, packet->sequence)) {
        return FLOW_STRAY;
    }
    uint32_t window_edge = other->acked;
    bool before_our_time = !(own->flags & FLOW_SIDE_SEEN) && sequence_before(own->next, packet->sequence);
    if (!(own->flags & FLOW_SIDE_BEGUN) || before_our_time) {
        side_begin(own, packet->sequence);
    }
    if (is_foreign_keepalive(own, packet)) {
        count_few(&own->unanswered);
        return FLOW_TAKEN;
    }
    if ((packet->flags & PACKET_ACK) && !flow_acknowledge(flow, side, packet, sink, now_us)) {
        return FLOW_STRAY;
    }
    flow_note_sender(own, other, packet, now_us);
    flow_settle_state(flow, side, packet, sink, now_us);
    if ((packet->flags & PACKET_ACK) && !sequence_before(packet->acknowledgement, window_edge)) {
        flow_take_window(flow, side, packet, sink, now_us);
    }
    if (is_keepalive(own, packet)) {
        count_few(&own->unanswered);
        own->clean_us = now_us;
        sink->event(sink->context, FLOW_EVENT_CLEAN, side, now_us);
    } else if (packet->payload_length > 0 || (packet->flags & PACKET_FIN)) {
        if ((own->flags & FLOW_SIDE_RESET) && packet->payload_length > 0 &&
            !sequence_before(packet->sequence, own->reset_sequence)) {
            own->flags |= FLOW_SIDE_RESET_BELIED;
        }
        flow_take_segment(flow, side, packet, sink, now_us);
        flow_settle_state(flow, side, packet, sink, now_us);
    } else {
        flow_take_position(flow, side, packet->sequence, sink, now_us);
    }
    if (packet->has_ip_id) {
        own->ip_id = packet->ip_id;
    }
    flow_look_at_resets(flow, sink, now_us);
    return FLOW_TAKEN;
}

void flow_set_bypass(struct flow *flow, enum side side, bool on)
{
    struct flow_side *own = flow_side_of(flow, side);
    if (on && !(own->flags & FLOW_SIDE_BYPASS)) {
        own->mean_size = 0; /* of what comes from now on */
    }
    own->flags = on ? own->flags | FLOW_SIDE_BYPASS : own->flags & ~(uint32_t)FLOW_SIDE_BYPASS;
}

/* Of a gap only the low half of its time is kept: measured from the latest packet, which came no sooner. */
static uint64_t flow_latest_us(const struct flow *flow)
{
    return flow->sides[0].last_us > flow->sides[1].last_us ? flow->sides[0].last_us : flow->sides[1].last_us;
}

static uint64_t flow_gap_until_us(const struct flow *flow, const struct flow_side *own)
{
    uint64_t latest_us = flow_latest_us(flow);
    return own->gap_us == 0 ? NEVER_US : latest_us - ((uint32_t)latest_us - own->gap_us) + FLOW_GRACE_US;
}

uint64_t flow_deadline_us(const struct flow *flow)
{
    uint64_t client_us = flow_gap_until_us(flow, &flow->sides[0]);
    uint64_t server_us = flow_gap_until_us(flow, &flow->sides[1]);
    uint64_t deadline_us = client_us < server_us ? client_us : server_us;
    if (flow_reset_waits(flow)) { /* the same goes for a reset */
        uint64_t reset_us = flow_reset_us(flow, flow_latest_us(flow));
        deadline_us = reset_us + FLOW_GRACE_US < deadline_us ? reset_us + FLOW_GRACE_US : deadline_us;
    }
    return deadline_us;
}

void flow_on_deadline(struct flow *flow, const struct flow_sink *sink, uint64_t now_us)
{
    for (unsigned i = 0; i < SIDE_PAIR; i++) {
        const struct flow_side *own = &flow->sides[i];
        if (flow_gap_until_us(flow, own) <= now_us) {
            stream_give_up(flow, i == 0 ? SIDE_CLIENT : SIDE_SERVER, sink, now_us);
        }
    }
    flow_look_at_resets(flow, sink, now_us);
    flow_settle_end(flow);
}

void flow_finish(struct flow *flow, const struct flow_sink *sink, uint64_t now_us)
{
    flow_let_go(flow, sink, now_us);
    if (flow_reset_waits(flow)) {
        flow_tell_resets(flow, sink, now_us);
    }
}
