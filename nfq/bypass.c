#include "nfq/bypass.h"

#include "nfq/watched.h"

/* Something was lost: everything is looked at until all that was under way then is acknowledged (as RFC 6582 does).
 * What is queued is overtaken by what is not, so a hole is one only when it lasts. */
static bool is_recovering(struct tracker_session *tracked, const struct tracker_latest *latest,
                          uint64_t now_us)
{
    const struct flow_side *client = &latest->entry->flow.sides[side_index(SIDE_CLIENT)];
    const struct packet *packet = &latest->packet;
    const uint32_t now_ms = (uint32_t)(now_us / 1000);
    struct watched *own = watched_of(tracked);
    bool hole = false, lost;

    for (uint8_t i = 0; i < packet->sack_count; i++) /* else RFC 2883: it came twice */
        hole = hole || sequence_before(packet->acknowledgement, packet->sack[i].end);
    if (latest->side == SIDE_SERVER) {
        if (hole && (!own->has_hole || own->hole != packet->acknowledgement)) {
            own->hole_ms = now_ms;
            own->hole = packet->acknowledgement;
        }
        own->has_hole = hole;
    }
    lost = client->repeats > 1 || (own->has_hole && now_ms - own->hole_ms >= BYPASS_HOLE_MS);
    if (lost)
        own->rest_end = client->highest;
    own->rests = lost || (own->rests && sequence_before(client->acked, own->rest_end));
    return own->rests;
}

/* Losses are to be counted and told by leg, which needs every segment. */
static bool is_lossy(const struct flow_side *client, const struct dialogue *dialogue)
{
    const uint64_t repeated_count = (uint64_t)client->repeated_after + client->repeated_before;

    return repeated_count * BYPASS_LOSS_OCTETS > dialogue->octets[side_index(SIDE_CLIENT)];
}

/* A body that has shown to be large, or is announced as such (RFC 1870). */
static bool is_large(const struct dialogue *dialogue)
{
    if (dialogue->phase == PHASE_OPAQUE)
        return dialogue->octets[side_index(SIDE_CLIENT)] >= BYPASS_BEGIN_OCTETS;
    return dialogue->body_octets >= BYPASS_BEGIN_OCTETS ||
           (dialogue->mode == DIALOGUE_BODY && dialogue->announced_size >= BYPASS_ANNOUNCED_OCTETS);
}

/* The client waits for this packet, the 354: nothing of it is under way that could be overtaken. */
static bool is_go_ahead(const struct tracker_latest *latest, const struct dialogue *dialogue)
{
    return latest->side == SIDE_SERVER && dialogue->mode == DIALOGUE_BODY && dialogue->body_octets == 0;
}

/* May the client's next segments pass unseen? */
static bool is_wanted(struct tracker_session *tracked, const struct tracker_latest *latest, uint64_t now_us)
{
    const struct flow *flow = &latest->entry->flow;
    const struct dialogue *dialogue = &tracked->session.dialogue;
    const uint32_t window = flow->sides[side_index(SIDE_SERVER)].window_most;
    uint64_t bulk;
    uint32_t keep;

    if (!dialogue_may_pass(dialogue, SIDE_CLIENT, &bulk, &keep) || bulk <= window ||
        is_lossy(&flow->sides[side_index(SIDE_CLIENT)], dialogue) ||
        dialogue->kept.role != DIALOGUE_REPLY_NONE || !is_large(dialogue) ||
        flow->state != FLOW_ESTABLISHED || tracked->session.end != SESSION_END_NONE ||
        tracked->pending_us != 0 || (flow->sides[side_index(SIDE_SERVER)].flags & FLOW_SIDE_WINDOW_ZERO) != 0)
        return false;
    return !is_recovering(tracked, latest, now_us);
}

uint32_t bypass_mark(struct bypass *bypass, const struct tracker_latest *latest, uint32_t mark, bool is_last,
                     uint64_t now_us)
{
    struct tracker_session *tracked = latest->entry != NULL ? latest->entry->user : NULL;
    const uint32_t now_ms = (uint32_t)(now_us / 1000);
    const bool is_on = (mark & bypass->mask) == bypass->bit;
    struct watched *own;
    bool may_begin, wanted, was_on;

    if ((mark & bypass->mask) == bypass->mask) /* what we sent ourselves to put it off */
        return mark;
    if (tracked == NULL || latest->packet.kind != PACKET_TCP)
        return is_on ? mark | bypass->mask : mark;
    own = watched_of(tracked);
    may_begin = is_on || is_last || own->bypass_on || is_go_ahead(latest, &tracked->session.dialogue);
    wanted = bypass->enabled && is_wanted(tracked, latest, now_us) && may_begin;
    was_on = is_on || own->bypass_on;
    own->bypass_on = wanted;
    if (is_on || wanted) {
        bypass->started_count += own->bypass_runs ? 0 : 1;
        own->bypass_runs = true;
        own->bypass_ms = now_ms;
        flow_set_bypass(&latest->entry->flow, SIDE_CLIENT, true);
    } else if (own->bypass_runs && now_ms - own->bypass_ms >= BYPASS_SETTLE_MS) {
        bypass->ended_count++;
        own->bypass_runs = false;
        flow_set_bypass(&latest->entry->flow, SIDE_CLIENT, false);
    }
    if (wanted)
        return (mark & ~bypass->mask) | bypass->bit;
    return was_on ? mark | bypass->mask : mark;
}
