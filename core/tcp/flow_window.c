/* Windows: open or closed, and whether a box on the way forgets their scale (flow_window_is_tracked()). */
#include "core/tcp/flow.h"

#include "core/tcp/flow_internal.h"

void flow_take_window(struct flow *flow, enum side side, const struct packet *packet,
                      const struct flow_sink *sink, uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    const struct flow_side *other = flow_side_of(flow, side_other(side));
    bool scaled =
        !(packet->flags & PACKET_SYN) && (own->flags & FLOW_SIDE_SCALES) && (other->flags & FLOW_SIDE_SCALES);
    own->window = (uint32_t)packet->window << (scaled ? own->scale : 0);
    own->raw_window = (packet->flags & PACKET_SYN) ? 0 : packet->window;
    if (!(packet->flags & PACKET_SYN) && own->window > own->window_most) {
        own->window_most = own->window;
    }
    bool zero = own->window == 0;
    if (zero != ((own->flags & FLOW_SIDE_WINDOW_ZERO) != 0)) {
        own->flags ^= FLOW_SIDE_WINDOW_ZERO;
        if (side == SIDE_SERVER) {
            uint16_t tick = (uint16_t)(now_us / FLOW_CLOSED_TICK_US);
            flow->closed_ticks = (uint16_t)(flow->closed_ticks + (zero ? 0 : tick - flow->closed_since));
            flow->closed_since = tick;
        }
        sink->event(sink->context, zero ? FLOW_EVENT_WINDOW_CLOSED : FLOW_EVENT_WINDOW_OPENED, side, now_us);
    }
}

void flow_note_beyond(struct flow *flow, uint32_t start, uint32_t end)
{
    const struct flow_side *own = flow_side_of(flow, SIDE_CLIENT), *other = flow_side_of(flow, SIDE_SERVER);
    bool scaled = (own->flags & other->flags & FLOW_SIDE_SCALES) != 0 && other->scale > 0;
    if (scaled && flow->beyond == FLOW_BEYOND_NOT && other->raw_window > 0 &&
        end - own->acked > other->raw_window && end - own->acked < FLOW_SPAN_OCTETS) {
        flow->beyond = FLOW_BEYOND_SENT;
        flow->beyond_from = start;
    }
}

void flow_pass_beyond(struct flow *flow, uint32_t acknowledged)
{
    if (flow->beyond == FLOW_BEYOND_SENT && sequence_before(flow->beyond_from, acknowledged)) {
        flow->edge_losses = FLOW_SIGNS_NEVER; /* it got through */
        flow->beyond = FLOW_BEYOND_NOT;
    } else if (flow->beyond == FLOW_BEYOND_REPAIRED && !sequence_before(acknowledged, flow->beyond_from)) {
        flow->beyond = FLOW_BEYOND_NOT;
    }
}

void flow_note_loss(struct flow *flow, enum side side, uint32_t start)
{
    const struct flow_side *own = flow_side_of(flow, side);
    if (side != SIDE_CLIENT || flow->edge_losses == FLOW_SIGNS_NEVER ||
        flow->beyond == FLOW_BEYOND_REPAIRED) {
        return;
    }
    if (flow->beyond == FLOW_BEYOND_SENT && flow->beyond_from == start && own->acked == start) {
        flow->edge_losses = (uint8_t)(flow->edge_losses + (flow->edge_losses < FLOW_SIGNS_LEAST));
        flow->beyond = FLOW_BEYOND_REPAIRED;
        flow->beyond_from = own->highest;
    } else {
        flow->edge_losses = FLOW_SIGNS_NEVER;
    }
}
