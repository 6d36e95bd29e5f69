/* Resets: are they valid, and have they overtaken something that was sent before them? */
#include "core/tcp/flow.h"

#include "core/tcp/flow_internal.h"

/* Is something of that side under way to us, as far as can be seen? What may pass unseen is not waited for. */
static bool side_awaits(const struct flow_side *own)
{
    return (own->flags & FLOW_SIDE_BEGUN) && !(own->flags & (FLOW_SIDE_BYPASS | FLOW_SIDE_BYPASSED)) &&
           (own->pieces != NULL || sequence_before(own->next, own->acked) ||
            ((own->flags & FLOW_SIDE_RESET_WAITS) && sequence_before(own->next, own->reset_sequence)));
}

bool flow_reset_waits(const struct flow *flow)
{
    return ((flow->sides[0].flags | flow->sides[1].flags) & FLOW_SIDE_RESET_WAITS) != 0;
}

uint64_t flow_reset_us(const struct flow *flow, uint64_t now_us)
{
    return now_us - (uint32_t)((uint32_t)now_us - flow->reset_us);
}

void flow_let_go(struct flow *flow, const struct flow_sink *sink, uint64_t now_us)
{
    for (unsigned round = 0; round < 2;
         round++) { /* what one side let go may have been waited for by the other */
        for (unsigned i = 0; i < SIDE_PAIR; i++) {
            const enum side side = i == 0 ? SIDE_CLIENT : SIDE_SERVER;
            const struct flow_side *own = &flow->sides[i];
            if ((own->flags & FLOW_SIDE_BEGUN) && sequence_before(own->next, own->acked)) {
                stream_give_up(flow, side, sink, now_us);
            }
            stream_overtaken(flow, side, sink, now_us);
        }
    }
}

void flow_tell_resets(struct flow *flow, const struct flow_sink *sink, uint64_t now_us)
{
    uint64_t reset_us = flow_reset_us(flow, now_us);
    flow_let_go(flow, sink, now_us);
    flow->state = FLOW_CLOSED;
    for (unsigned i = 0; i < SIDE_PAIR; i++) {
        enum side side = (i == 0) == flow->server_reset_first ? SIDE_SERVER : SIDE_CLIENT;
        struct flow_side *own = flow_side_of(flow, side);
        if (own->flags & FLOW_SIDE_RESET_WAITS) {
            own->flags &= ~(uint32_t)FLOW_SIDE_RESET_WAITS;
            sink->event(sink->context, FLOW_EVENT_RESET, side, reset_us);
        }
    }
}

void flow_look_at_resets(struct flow *flow, const struct flow_sink *sink, uint64_t now_us)
{
    if (flow_reset_waits(flow) && ((!side_awaits(&flow->sides[0]) && !side_awaits(&flow->sides[1])) ||
                                   now_us - flow_reset_us(flow, now_us) >= FLOW_GRACE_US)) {
        flow_tell_resets(flow, sink, now_us);
    }
}

/* RFC 9293 section 3.10.7.4: inside the window; as seen here, from what is acknowledged on. */
static bool reset_is_valid(const struct flow_side *own, const struct flow_side *other, uint32_t sequence)
{
    if (!(own->flags & FLOW_SIDE_BEGUN)) {
        return true;
    }
    uint32_t window = other->window > 0 ? other->window : 1;
    uint32_t known = own->highest - own->acked;
    uint32_t offset = sequence - own->acked;
    return offset <= window || offset <= known || sequence == own->shown || sequence == own->next;
}

enum flow_verdict flow_on_reset(struct flow *flow, enum side side, const struct packet *packet,
                                const struct flow_sink *sink, uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    struct flow_side *other = flow_side_of(flow, side_other(side));
    bool refusal = flow->state == FLOW_SYN_SEEN && side == SIDE_SERVER;
    bool valid = refusal ? (packet->flags & PACKET_ACK) != 0 && packet->acknowledgement == other->first
                         : reset_is_valid(own, other, packet->sequence);
    if (!valid) {
        own->flags |= FLOW_SIDE_RESET_STRAY;
        return FLOW_STRAY;
    }
    if (own->flags & FLOW_SIDE_RESET) {
        return FLOW_TAKEN;
    }
    own->flags |= FLOW_SIDE_RESET;
    own->flags |= !refusal && !(packet->flags & PACKET_ACK) ? (uint32_t)FLOW_SIDE_RESET_BARE : 0u;
    own->reset_ttl = packet->ttl;
    own->reset_sequence = packet->sequence;
    own->last_us = now_us;
    if (!refusal && (own->flags & FLOW_SIDE_BEGUN)) {
        if (own->flags & FLOW_SIDE_BYPASS) {
            side_bypass_to(own, packet->sequence);
        } else if (packet->sequence == own->next && !sequence_before(own->shown, packet->sequence)) {
            own->clean_us = now_us;
        }
        side_show(own, packet->sequence);
    }
    if (refusal) {
        flow->state = FLOW_CLOSED;
        sink->event(sink->context, FLOW_EVENT_REFUSED, side, now_us);
        return FLOW_TAKEN;
    }
    if (!flow_reset_waits(flow)) {
        flow->reset_us = (uint32_t)now_us;
        flow->server_reset_first = side == SIDE_SERVER;
    }
    own->flags |= FLOW_SIDE_RESET_WAITS;
    flow_look_at_resets(flow, sink, now_us);
    return FLOW_TAKEN;
}
