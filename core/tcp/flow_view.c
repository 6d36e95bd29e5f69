/* What a flow has shown: questions that change nothing. */
#include "core/tcp/flow.h"

#include "core/tcp/flow_internal.h"

#define HEARD_US 1000000

uint32_t flow_missing_octets(const struct flow *flow, enum side side, bool long_since)
{
    const struct flow_side *own = &flow->sides[side_index(side)];
    if (!(own->flags & FLOW_SIDE_SEEN)) {
        return 0;
    }
    uint32_t end = sequence_before(own->highest, own->shown) ? own->shown : own->highest;
    end -= (own->flags & FLOW_SIDE_FIN_SHOWN) ? 1 : 0; /* a FIN is no octet; nothing is behind it */
    /* What passed unseen is acknowledged in time, or its first octet is repeated, and seen: no bypass lasts so long. */
    bool passed = side_may_have_bypassed(own, own->next) && !(long_since && own->next == own->acked);
    uint32_t at = passed ? own->bypass_end : own->next, missing = 0;
    for (const struct flow_piece *piece = own->pieces; piece != NULL && sequence_before(at, end);
         piece = piece->next) {
        if (sequence_before(at, piece->start)) {
            missing += piece->start - at;
            at = piece->start;
        }
        uint32_t behind = piece->start + piece->length + (piece->fin ? 1 : 0);
        at = sequence_before(at, behind) ? behind : at;
    }
    return sequence_before(at, end) ? missing + (end - at) : missing;
}

uint32_t flow_unacked_octets(const struct flow *flow, enum side side)
{
    const struct flow_side *own = &flow->sides[side_index(side)];
    return sequence_before(own->acked, own->highest) ? own->highest - own->acked : 0;
}

unsigned flow_deaf_count(const struct flow *flow, enum side side)
{
    return flow->deaf_is_server == (side == SIDE_SERVER) ? flow->deaf_count : 0;
}

bool flow_is_heard(const struct flow *flow, enum side side)
{
    const struct flow_side *own = &flow->sides[side_index(side)];
    const struct flow_side *other = &flow->sides[side_index(side_other(side))];
    return own->repeats > 0 && own->unacked_since_us != 0 &&
           other->last_us >= own->unacked_since_us + HEARD_US;
}

bool flow_only_big_lost(const struct flow *flow, enum side side)
{
    const struct flow_side *own = &flow->sides[side_index(side)];
    if (own->repeats < 2 || own->repeated_least < BIG_SEGMENT_OCTETS || own->biggest_delivered == 0 ||
        own->repeated_least <= own->biggest_delivered) {
        return false;
    }
    return own->echoed || flow_is_heard(flow, side);
}

bool flow_has_ended(const struct flow *flow)
{
    const uint32_t end = FLOW_SIDE_FIN_SHOWN | FLOW_SIDE_END_UNSEEN;
    const uint32_t client = flow->sides[0].flags, server = flow->sides[1].flags;
    return (client & end) && (server & end) && ((client | server) & FLOW_SIDE_FIN_SHOWN);
}

bool flow_window_is_tracked(const struct flow *flow)
{
    return flow->edge_losses == FLOW_SIGNS_LEAST;
}

bool flow_sacks_are_foreign(const struct flow *flow)
{
    return flow->sacks_foreign == FLOW_SIGNS_LEAST;
}

uint32_t flow_closed_ms(const struct flow *flow, uint64_t now_us)
{
    bool closed = (flow->sides[side_index(SIDE_SERVER)].flags & FLOW_SIDE_WINDOW_ZERO) != 0;
    uint16_t running = (uint16_t)(now_us / FLOW_CLOSED_TICK_US - flow->closed_since);
    return ((uint32_t)flow->closed_ticks + (closed ? running : 0)) * (FLOW_CLOSED_TICK_US / 1000);
}

int flow_reset_fits(const struct flow_side *side)
{
    if (side->flags & FLOW_SIDE_RESET_BELIED) {
        return -1;
    }
    if (!(side->flags & FLOW_SIDE_RESET) || side->ttl_low == 0 || side->reset_ttl == 0) {
        return 0;
    }
    /* Where its packets come by ways of several lengths, a box on one of them may be as far away as it is. */
    return side->ttl_low != side->ttl_high ? 0 : side->reset_ttl == side->ttl_low ? 1 : -1;
}

bool flow_one_way(const struct flow *flow, enum side side)
{
    const struct flow_side *own = &flow->sides[side_index(side)];
    const struct flow_side *other = &flow->sides[side_index(side_other(side))];
    return !(own->flags & FLOW_SIDE_SEEN) && (other->flags & FLOW_SIDE_SEEN) && flow->connected;
}
