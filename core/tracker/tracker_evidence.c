/* From what a flow has collected to the evidence of a leg. */
#include <string.h>

#include "core/base/hash.h"
#include "core/tracker/tracker_internal.h"

static struct tracker_host *host_slot(struct tracker *tracker, const struct address *address)
{
    uint64_t hash = hash_octets(tracker->options.seed, address->octets, sizeof address->octets);
    return &tracker->hosts[hash % TRACKER_HOSTS];
}

/* An established connection shows which TTL the server's packets have here. */
void tracker_learn_host(struct tracker *tracker, const struct flow_entry *entry)
{
    const struct flow_side *server = &entry->flow.sides[side_index(SIDE_SERVER)];
    if (server->ttl_low == 0 || server->ttl_low != server->ttl_high) {
        return;
    }
    const struct address *address = &entry->connection.server;
    struct tracker_host *host = host_slot(tracker, address);
    memcpy(host->octets, address->octets, sizeof host->octets);
    host->ttl = server->ttl_low;
}

/* A refused SYN: does the RST come from as far away as that server's other packets? */
void tracker_compare_refusal(struct tracker *tracker, struct tracker_session *tracked)
{
    const struct address *address = &tracked->entry->connection.server;
    const struct tracker_host *host = host_slot(tracker, address);
    uint8_t ttl = tracked->entry->flow.sides[side_index(SIDE_SERVER)].reset_ttl;
    if (host->ttl == 0 || ttl == 0 || memcmp(host->octets, address->octets, sizeof host->octets) != 0) {
        return;
    }
    tracked->reset_compared = true;
    tracked->reset_fits = host->ttl == ttl;
}

static uint32_t reset_flags(const struct tracker_session *tracked, enum side side)
{
    if (tracked->reset_compared && side == SIDE_SERVER) {
        return tracked->reset_fits ? LEG_RESET_FITS : LEG_RESET_FOREIGN;
    }
    const struct flow_side *own = &tracked->entry->flow.sides[side_index(side)];
    int fits = flow_reset_fits(own);
    uint32_t flags = fits > 0 ? (uint32_t)LEG_RESET_FITS : fits < 0 ? (uint32_t)LEG_RESET_FOREIGN : 0u;
    if (own->flags & FLOW_SIDE_RESET) {
        flags |= (own->flags & FLOW_SIDE_RESET_BARE) ? LEG_RESET_ANSWERS : LEG_RESET_OWN;
    }
    return flags;
}

/* Scaling was offered and the answer came without: then the raw window counts. */
static bool window_is_tiny(const struct flow *flow, enum side side)
{
    const struct flow_side *own = &flow->sides[side_index(side)];
    const struct flow_side *other = &flow->sides[side_index(side_other(side))];
    return side == SIDE_SERVER && (own->flags & FLOW_SIDE_SYN) && (other->flags & FLOW_SIDE_SCALES) &&
           !(own->flags & FLOW_SIDE_SCALES) && own->window_most > 0 && own->window_most < TRACKER_TINY_OCTETS;
}

static uint32_t flow_flags(const struct flow *flow, enum side side)
{
    const struct flow_side *own = &flow->sides[side_index(side)];
    const struct flow_side *sent = &flow->sides[side_index(side_other(side))];
    bool one_way = flow_one_way(flow, side) || flow_one_way(flow, side_other(side));
    uint32_t flags = one_way ? (uint32_t)LEG_ONE_WAY : (uint32_t)LEG_TAPPED;
    flags |= (own->flags & FLOW_SIDE_WINDOW_ZERO) ? (uint32_t)LEG_WINDOW_ZERO : 0u;
    flags |= window_is_tiny(flow, side) ? (uint32_t)LEG_WINDOW_TINY : 0u;
    flags |= (own->flags & FLOW_SIDE_LOST_BEFORE) ? (uint32_t)LEG_LOSS_BEFORE_US : 0u;
    flags |= (sent->flags & FLOW_SIDE_LOST_AFTER) ? (uint32_t)LEG_LOSS_AFTER_US : 0u;
    flags |= (own->flags & FLOW_SIDE_GAP) ? (uint32_t)LEG_GAP : 0u;
    flags |= side == SIDE_SERVER && (own->flags & FLOW_SIDE_SYN_REPEATED_LATE)
                 ? (uint32_t)LEG_SYN_ACK_REPEATED
                 : 0u;
    flags |= flow_is_heard(flow, side_other(side)) ? (uint32_t)LEG_HEARD : 0u;
    flags |= flow_only_big_lost(flow, side_other(side)) ? LEG_ONLY_BIG_LOST | LEG_HEARD : 0u;
    flags |= side == SIDE_SERVER && flow_window_is_tracked(flow) ? (uint32_t)LEG_WINDOW_TRACKED : 0u;
    flags |= side == SIDE_SERVER && flow_sacks_are_foreign(flow) ? (uint32_t)LEG_SACK_FOREIGN : 0u;
    return flags;
}

/* What the side's own packets say about its silence, without our asking (faults R2, R3). `too_early`: octets of it are
 * missing here, and it is not clear yet whether the network lost them or only our sight of them. */
static enum probe_result passive_probe(const struct flow *flow, enum side side, uint64_t silence_us,
                                       uint64_t now_us, uint32_t *missing, bool *too_early)
{
    const struct flow_side *own = &flow->sides[side_index(side)];
    const struct flow_side *sent = &flow->sides[side_index(side_other(side))];
    uint64_t quiet_since_us = own->progress_us > 0 ? own->progress_us : silence_us;
    bool long_enough = now_us >= quiet_since_us + TRACKER_STALL_US;
    *missing = flow_missing_octets(flow, side, now_us >= quiet_since_us + TRACKER_UNSEEN_US);
    if (*missing > 0 && long_enough) {
        return PROBE_REVEALED;
    }
    *too_early = *missing > 0 && !(own->flags & FLOW_SIDE_RESET);
    *missing = 0;
    if (flow_deaf_count(flow, side) >= TRACKER_UNANSWERED) {
        return PROBE_UNANSWERED;
    }
    if (own->clean_us != 0 && own->clean_us >= silence_us + TRACKER_STALL_US) {
        return PROBE_ANSWERED;
    }
    bool unheard = sent->unacked_since_us != 0 && own->last_us <= sent->unacked_since_us;
    if ((sent->repeats >= TRACKER_UNANSWERED && unheard) || sent->unanswered >= TRACKER_UNANSWERED) {
        return PROBE_UNANSWERED;
    }
    return PROBE_NONE;
}

static void icmp_fill(const struct tracker_session *tracked, enum side side, struct leg_evidence *evidence)
{
    size_t leg = side_index(side);
    const struct flow_side *sent = &tracked->entry->flow.sides[side_index(side_other(side))];
    if (tracked->icmp[leg] == PACKET_ICMP_NONE) {
        return;
    }
    evidence->icmp_seen = true;
    evidence->icmp_type = tracked->icmp_type[leg];
    evidence->icmp_code = tracked->icmp_code[leg];
    evidence->flags |= tracked->icmp_foreign[leg] ? (uint32_t)LEG_ICMP_FOREIGN : 0u;
    evidence->flags |= tracked->icmp[leg] == PACKET_ICMP_TOO_BIG ? (uint32_t)LEG_ICMP_TOO_BIG : 0u;
    bool error = tracked->icmp[leg] == PACKET_ICMP_UNREACHABLE ||
                 tracked->icmp[leg] == PACKET_ICMP_PROHIBITED || tracked->icmp[leg] == PACKET_ICMP_REJECTED;
    if (error && tracked->entry->flow.connected && sent->repeats > 0) {
        evidence->flags |= LEG_UNREACHABLE;
    }
}

/* How many segments carried what that side said, near enough. */
static uint32_t segments_of(const struct tracker_session *tracked, enum side side)
{
    uint64_t octets = tracked->session.dialogue.octets[side_index(side)];
    uint16_t size = tracked->entry->flow.sides[side_index(side)].mean_size;
    uint64_t segments = size == 0 ? 0 : (octets + size - 1) / size;
    return segments < UINT32_MAX ? (uint32_t)segments : UINT32_MAX;
}

void tracker_evidence(const struct tracker_session *tracked, enum side side, uint64_t silence_us,
                      uint64_t now_us, struct leg_evidence *evidence)
{
    const struct flow *flow = &tracked->entry->flow;
    const struct flow_side *own = &flow->sides[side_index(side)];
    const struct flow_side *sent = &flow->sides[side_index(side_other(side))];
    memset(evidence, 0, sizeof *evidence);
    evidence->flags = flow_flags(flow, side) | reset_flags(tracked, side);
    evidence->connect =
        side == SIDE_CLIENT || flow->connected ? CONNECT_ESTABLISHED : (enum connect_result)tracked->connect;
    evidence->rtt_us = sent->rtt_us;
    evidence->rtt_least_us = sent->rtt_least_us;
    evidence->rtt_most_us = (uint32_t)sent->rtt_most_ticks * FLOW_RTT_TICK_US;
    evidence->retrans_count = sent->repeated_after;
    evidence->sent_segments = segments_of(tracked, side_other(side));
    evidence->came_segments = segments_of(tracked, side);
    evidence->late_segments = own->repeated_before;
    evidence->window_limited_ms = side == SIDE_SERVER ? flow_closed_ms(flow, now_us) : 0;
    evidence->window_octets = own->window;
    evidence->segment_octets = own->mss;
    evidence->ttl = own->ttl_high;
    evidence->reset_ttl = own->reset_ttl;
    icmp_fill(tracked, side, evidence);
    if (evidence->flags & LEG_ONE_WAY) {
        return; /* what is not acknowledged may have been, unseen */
    }
    evidence->unacked_octets = flow_unacked_octets(flow, side_other(side));
    evidence->unacked_since_us = sent->repeats > 0 ? sent->unacked_since_us : 0;
    evidence->probes_unanswered = sent->unanswered;
    bool too_early = false;
    evidence->probe = passive_probe(flow, side, silence_us, now_us, &evidence->revealed_octets, &too_early);
    evidence->flags |= too_early ? (uint32_t)LEG_GAP : 0u;
}
