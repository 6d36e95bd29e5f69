#include "nfq/prober.h"

#include <string.h>

#include "nfq/flow_segment.h"
#include "nfq/watched.h"

#define NEVER_US UINT64_MAX

_Static_assert(PROBER_SLOTS < UINT16_MAX, "a session keeps its slot in 16 bits");

void prober_init(struct prober *prober, const struct injector *injector)
{
    memset(prober, 0, sizeof *prober);
    prober->injector = injector;
}

bool prober_segment(const struct tracker_session *tracked, enum side side, struct segment *segment)
{
    const struct flow *flow = &tracked->entry->flow;
    const struct flow_side *silent = &flow->sides[side_index(side)];
    const struct flow_side *other = &flow->sides[side_index(side_other(side))];

    if (flow->state != FLOW_ESTABLISHED || ((silent->flags | other->flags) & FLOW_SIDE_RESET) ||
        (other->flags & FLOW_SIDE_FIN) || !(silent->flags & FLOW_SIDE_BEGUN) ||
        !(other->flags & FLOW_SIDE_BEGUN) || other->next != other->highest || other->acked != other->highest)
        return false;
    *segment = flow_segment(tracked->entry, side_other(side));
    segment->sequence--;
    return true;
}

static void release(struct prober *prober, struct prober_slot *slot)
{
    watched_of(slot->tracked)->probe_slot = 0;
    slot->tracked = NULL;
    prober->busy_count--;
}

/* One probe now; the tracker counts it like a keepalive of the other side that is not answered yet. */
static void probe(struct prober *prober, struct prober_slot *slot, uint64_t now_us)
{
    struct segment segment;

    if (slot->sent_count >= PROBER_TRIES || !prober_segment(slot->tracked, slot->side, &segment)) {
        release(prober, slot);
        return;
    }
    segment.ip_id = ++prober->ip_id;
    if (!injector_send(prober->injector, &segment)) {
        prober->failed_count++;
        release(prober, slot);
        return;
    }
    prober->sent_count++;
    slot->sent_count++;
    slot->answer_due = true;
    slot->acknowledgement = segment.acknowledgement;
    slot->due_us = now_us + PROBER_INTERVAL_US;
    tracker_note_probe(slot->tracked, slot->side);
}

void prober_start(struct prober *prober, struct tracker_session *tracked, enum side side, uint64_t now_us)
{
    struct watched *watched = watched_of(tracked);

    if (watched->probe_slot != 0)
        return;
    for (uint32_t i = 0; i < PROBER_SLOTS; i++) {
        struct prober_slot *slot = &prober->slots[i];

        if (slot->tracked == NULL) {
            *slot = (struct prober_slot){.tracked = tracked, .side = side};
            watched->probe_slot = (uint16_t)(i + 1);
            prober->busy_count++;
            probe(prober, slot, now_us);
            return;
        }
    }
    prober->full_count++;
}

void prober_forget(struct prober *prober, struct tracker_session *tracked)
{
    const struct watched *watched = watched_of(tracked);

    if (watched->probe_slot != 0)
        release(prober, &prober->slots[watched->probe_slot - 1]);
}

uint64_t prober_deadline_us(const struct prober *prober)
{
    uint64_t due_us = NEVER_US;

    for (uint32_t i = 0, left = prober->busy_count; left > 0 && i < PROBER_SLOTS; i++) {
        if (prober->slots[i].tracked != NULL) {
            due_us = prober->slots[i].due_us < due_us ? prober->slots[i].due_us : due_us;
            left--;
        }
    }
    return due_us;
}

void prober_on_deadline(struct prober *prober, uint64_t now_us)
{
    for (uint32_t i = 0; prober->busy_count > 0 && i < PROBER_SLOTS; i++) {
        struct prober_slot *slot = &prober->slots[i];

        if (slot->tracked != NULL && slot->due_us <= now_us)
            probe(prober, slot, now_us);
    }
}

struct prober_slot *prober_match(struct prober *prober, const struct packet *packet)
{
    for (uint32_t i = 0, left = prober->busy_count; left > 0 && i < PROBER_SLOTS; i++) {
        struct prober_slot *slot = &prober->slots[i];
        const struct connection *connection;

        if (slot->tracked == NULL)
            continue;
        left--;
        connection = &slot->tracked->entry->connection;
        if (address_equal(connection_end(connection, slot->side), &packet->source) &&
            address_equal(connection_end(connection, side_other(slot->side)), &packet->destination))
            return slot;
    }
    return NULL;
}

bool prober_provoked(struct prober *prober, struct prober_slot *slot, const struct packet *packet)
{
    bool bare = (packet->flags & (PACKET_RST | PACKET_ACK | PACKET_SYN)) == PACKET_RST;

    if (!slot->answer_due || !bare || packet->payload_length != 0 ||
        packet->sequence != slot->acknowledgement)
        return false;
    prober->provoked_count++;
    prober->dropped_count++;
    tracker_note_probe_void(slot->tracked, slot->side);
    release(prober, slot);
    return true;
}

struct prober_view prober_look(const struct prober_slot *slot)
{
    const struct flow *flow = &slot->tracked->entry->flow;

    return (struct prober_view){.acknowledged = flow->sides[side_index(side_other(slot->side))].acked,
                                .window = flow->sides[side_index(slot->side)].window};
}

bool prober_swallows(struct prober *prober, struct prober_slot *slot, const struct prober_view *before,
                     const struct packet *packet)
{
    struct prober_view after;
    bool due = slot->tracked != NULL && slot->answer_due;

    if (!due)
        return false;
    after = prober_look(slot);
    slot->answer_due = false;
    prober->answered_count++;
    release(prober, slot);
    if (packet->payload_length != 0 || packet->flags != PACKET_ACK || packet->sack_count != 0 ||
        packet->acknowledgement != before->acknowledged || after.acknowledged != before->acknowledged ||
        after.window != before->window)
        return false;
    prober->dropped_count++;
    return true;
}
