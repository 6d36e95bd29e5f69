#include "nfq/bypass.h"

#include "nfq/watched.h"

#define NEVER_US UINT64_MAX
#define HIDDEN_OCTETS                                                                                        \
    (UINT32_C(1) << 30) /* one that the kernel does not find is not asked for again so soon */

static void rest_until(struct watched *own, uint32_t end)
{
    if (!own->rests || sequence_before(own->rest_end, end))
        own->rest_end = end;
    own->rests = true;
}

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
    own->rests = own->rests && sequence_before(client->acked, own->rest_end);
    if (lost)
        rest_until(own, client->highest);
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

/* With a packet of the server, the last of those read together: no octets of the client wait behind it that would be
 * overtaken. Or with the 354, for which the client waits. */
static bool may_begin(const struct tracker_session *tracked, const struct tracker_latest *latest,
                      bool is_last)
{
    const struct dialogue *dialogue = &tracked->session.dialogue;

    return latest->side == SIDE_SERVER &&
           (is_last || (dialogue->mode == DIALOGUE_BODY && dialogue->body_octets == 0));
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

/* ---- the bit ---- */

static const struct flow_side *client_of(const struct tracker_session *tracked)
{
    return &tracked->entry->flow.sides[side_index(SIDE_CLIENT)];
}

static void rest_a_while(struct tracker_session *tracked, uint32_t octets)
{
    rest_until(watched_of(tracked), client_of(tracked)->acked + octets);
}

static void begin(struct bypass *bypass, struct tracker_session *tracked, uint32_t now_ms)
{
    struct watched *own = watched_of(tracked);
    const uint32_t acked = client_of(tracked)->acked;
    const enum connection_marks_result result =
        bypass->kernel.put_on(bypass->kernel.context, &tracked->entry->connection);

    if (result != CONNECTION_MARKS_DONE) {
        rest_a_while(tracked, result == CONNECTION_MARKS_UNKNOWN ? HIDDEN_OCTETS : BYPASS_REST_OCTETS);
        return;
    }
    bypass->started_count += own->bypass_runs ? 0 : 1;
    own->bypass_on = own->bypass_runs = true;
    own->bypass_slot = bypass->busy_count;
    bypass->slots[bypass->busy_count++] = (struct bypass_slot){
        .tracked = tracked, .acked = acked, .progress_ms = now_ms, .look_acked = acked, .look_ms = now_ms};
    flow_set_bypass(&tracked->entry->flow, SIDE_CLIENT, true);
}

/* The last slot moves to the place of the one that leaves. */
static void release(struct bypass *bypass, struct tracker_session *tracked, uint32_t now_ms)
{
    struct watched *own = watched_of(tracked);
    struct bypass_slot *slot = &bypass->slots[own->bypass_slot];

    *slot = bypass->slots[--bypass->busy_count];
    watched_of(slot->tracked)->bypass_slot = own->bypass_slot;
    own->bypass_on = false;
    own->bypass_ms = now_ms;
    if (own->state != ENFORCER_CLOSING)
        own->settle_end =
            client_of(tracked)->acked + tracked->entry->flow.sides[side_index(SIDE_SERVER)].window;
}

/* One that cannot be put off stays, and is tried again. */
static void end(struct bypass *bypass, struct tracker_session *tracked, uint32_t now_ms)
{
    if (bypass->kernel.put_off(bypass->kernel.context, &tracked->entry->connection))
        release(bypass, tracked, now_ms);
}

static uint32_t look_ms(const struct flow *flow)
{
    const uint32_t round_trip_ms = flow->sides[0].rtt_us / 1000 + flow->sides[1].rtt_us / 1000;

    return round_trip_ms < BYPASS_LOOK_MOST_MS - BYPASS_LOOK_MS ? BYPASS_LOOK_MS + round_trip_ms
                                                                : BYPASS_LOOK_MOST_MS;
}

static void note_progress(struct bypass_slot *slot, uint32_t now_ms)
{
    const uint32_t acked = client_of(slot->tracked)->acked;

    if (slot->acked != acked) {
        slot->acked = acked;
        slot->progress_ms = now_ms;
    }
}

/* By the clock alone: after a break of ours the first packet of many that waited tells nothing. */
static bool is_slow(struct bypass_slot *slot, uint32_t now_ms)
{
    const uint32_t look = look_ms(&slot->tracked->entry->flow);
    bool slow;

    note_progress(slot, now_ms);
    slow = now_ms - slot->progress_ms >= look;
    if (now_ms - slot->look_ms >= look) {
        slow = slow || slot->acked - slot->look_acked < BYPASS_SLOW_OCTETS;
        slot->look_acked = slot->acked;
        slot->look_ms = now_ms;
    }
    return slow;
}

/* A segment that shows how far octets passed unseen: what is sent after the bit went off is seen, and it is the first of it. */
static bool is_tail(const struct tracker_session *tracked, const struct tracker_latest *latest)
{
    const struct flow_side *client = client_of(tracked);

    return latest->side == SIDE_CLIENT && latest->packet.payload_length > 0 &&
           (client->flags & FLOW_SIDE_BYPASSED) && client->bypass_end == latest->packet.sequence &&
           sequence_before(client->acked, latest->packet.sequence);
}

/* Has all that passed unseen arrived, and is what was seen behind it in order? While a body stands it has not: what its
 * client shows of it is not missing here, and what is acknowledged of it is no gap. */
static bool has_settled(struct tracker_session *tracked, const struct tracker_latest *latest, uint32_t now_ms)
{
    const struct flow_side *client = client_of(tracked);
    struct watched *own = watched_of(tracked);
    const uint32_t off_ms = now_ms - own->bypass_ms;
    uint64_t bulk;
    uint32_t keep;

    if (own->state == ENFORCER_CLOSING)
        return off_ms >= BYPASS_SETTLE_MS;
    if (off_ms >= BYPASS_TICK_US / 1000 && is_tail(tracked, latest) &&
        sequence_before(latest->packet.sequence, own->settle_end))
        own->settle_end = latest->packet.sequence;
    if (off_ms < BYPASS_SETTLE_MS || client->next != client->highest)
        return false;
    return !sequence_before(client->acked, own->settle_end) ||
           !dialogue_may_pass(&tracked->session.dialogue, SIDE_CLIENT, &bulk, &keep);
}

void bypass_on_packet(struct bypass *bypass, const struct tracker_latest *latest, bool is_last,
                      uint64_t now_us)
{
    struct tracker_session *tracked = latest->entry != NULL ? latest->entry->user : NULL;
    const uint32_t now_ms = (uint32_t)(now_us / 1000);
    struct watched *own;
    bool wanted;

    if (!bypass->enabled || tracked == NULL || latest->packet.kind != PACKET_TCP)
        return;
    own = watched_of(tracked);
    wanted = is_wanted(tracked, latest, now_us);
    if (own->bypass_on) {
        note_progress(&bypass->slots[own->bypass_slot], now_ms);
        if (!wanted)
            end(bypass, tracked, now_ms);
    } else if (wanted && bypass->busy_count < BYPASS_SLOTS && may_begin(tracked, latest, is_last)) {
        begin(bypass, tracked, now_ms);
    } else if (own->bypass_runs && has_settled(tracked, latest, now_ms)) {
        own->bypass_runs = false;
        flow_set_bypass(&tracked->entry->flow, SIDE_CLIENT, false);
    }
}

void bypass_forget(struct bypass *bypass, struct tracker_session *tracked)
{
    if (!watched_of(tracked)->bypass_on)
        return;
    (void)bypass->kernel.put_off(bypass->kernel.context, &tracked->entry->connection);
    release(bypass, tracked, 0);
}

uint64_t bypass_deadline_us(const struct bypass *bypass)
{
    return bypass->busy_count > 0 ? bypass->due_us : NEVER_US;
}

void bypass_on_deadline(struct bypass *bypass, uint64_t now_us)
{
    const uint32_t now_ms = (uint32_t)(now_us / 1000);

    if (bypass->busy_count == 0 || now_us < bypass->due_us)
        return;
    bypass->due_us = now_us + BYPASS_TICK_US;
    for (uint32_t i = bypass->busy_count; i > 0; i--) { /* backwards: whoever takes a place was looked at */
        struct tracker_session *tracked = bypass->slots[i - 1].tracked;

        if (is_slow(&bypass->slots[i - 1], now_ms)) {
            rest_a_while(tracked, BYPASS_REST_OCTETS);
            end(bypass, tracked, now_ms);
        }
    }
}
