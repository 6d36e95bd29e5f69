#include "nfq/bypass.h"

/* Something was lost: everything is looked at until all that was under way then is acknowledged (as RFC 6582 does). */
static bool is_recovering(struct tracker_session *tracked, const struct tracker_latest *latest)
{
    const struct flow_side *client = &latest->entry->flow.sides[side_index(SIDE_CLIENT)];
    const struct packet *packet = &latest->packet;
    uint32_t end = client->highest;
    bool lost = client->repeats > 0;

    for (uint8_t i = 0; i < packet->sack_count && latest->side == SIDE_SERVER; i++) {
        if (sequence_before(packet->acknowledgement,
                            packet->sack[i].end)) { /* else RFC 2883: it came twice */
            lost = true;
            end = sequence_before(end, packet->sack[i].end) ? packet->sack[i].end : end;
        }
    }
    if (lost && (!tracked->bypass_rests || sequence_before(tracked->bypass_rest_end, end)))
        tracked->bypass_rest_end = end;
    tracked->bypass_rests =
        lost || (tracked->bypass_rests && sequence_before(client->acked, tracked->bypass_rest_end));
    return tracked->bypass_rests;
}

/* May the client's next segments pass unseen? */
static bool is_wanted(struct tracker_session *tracked, const struct tracker_latest *latest)
{
    const struct flow *flow = &latest->entry->flow;
    const struct dialogue *dialogue = &tracked->session.dialogue;
    const uint32_t window = flow->sides[side_index(SIDE_SERVER)].window_most;
    const uint64_t seen =
        dialogue->phase == PHASE_OPAQUE ? dialogue->octets[side_index(SIDE_CLIENT)] : dialogue->body_octets;

    uint64_t bulk;
    uint32_t keep;

    if (!dialogue_may_pass(dialogue, SIDE_CLIENT, &bulk, &keep) || bulk <= window ||
        dialogue->kept.role != DIALOGUE_REPLY_NONE || seen < BYPASS_BEGIN_OCTETS ||
        flow->state != FLOW_ESTABLISHED || tracked->session.end != SESSION_END_NONE ||
        tracked->pending_us != 0 || (flow->sides[side_index(SIDE_SERVER)].flags & FLOW_SIDE_WINDOW_ZERO) != 0)
        return false;
    return !is_recovering(tracked, latest);
}

uint32_t bypass_mark(struct bypass *bypass, const struct tracker_latest *latest, uint32_t mark,
                     uint64_t now_us)
{
    struct tracker_session *tracked = latest->entry != NULL ? latest->entry->user : NULL;
    const bool is_on = (mark & bypass->bit) != 0;
    bool wanted;

    if (tracked == NULL)
        return mark & ~bypass->bit;
    wanted = bypass->enabled && is_wanted(tracked, latest);
    if (is_on || wanted) {
        bypass->started_count += tracked->bypass_us == 0 ? 1 : 0;
        tracked->bypass_us = now_us;
        flow_set_bypass(&latest->entry->flow, SIDE_CLIENT, true);
    } else if (tracked->bypass_us != 0 && now_us - tracked->bypass_us >= BYPASS_SETTLE_US) {
        bypass->ended_count++;
        tracked->bypass_us = 0;
        flow_set_bypass(&latest->entry->flow, SIDE_CLIENT, false);
    }
    return wanted ? mark | bypass->bit : mark & ~bypass->bit;
}
