#include "core/tracker/tracker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/tracker/tracker_internal.h"

#define NEVER_US UINT64_MAX

static void on_evict(void *context, struct flow_entry *entry);

_Static_assert((UINT16_MAX + 1) % TRACKER_TICKS == 0 && TRACKER_TICKS < UINT16_MAX / 2,
               "the low half of a tick tells its slot, and which of two is later");

size_t tracker_memory_octets(uint32_t max_flows, uint32_t story_octets)
{
    return sizeof(struct tracker) + flow_table_memory_octets(max_flows) +
           (size_t)max_flows * (sizeof(struct tracker_session) + story_octets +
                                SIDE_PAIR * sizeof(struct leg_evidence) + DIALOGUE_REPLY_TEXT +
                                DIALOGUE_MAX_RUNS * sizeof(struct dialogue_run) + sizeof(struct tls_stream)) +
           TRACKER_KEPT_OCTETS + fragments_memory_octets();
}

struct tracker *tracker_create(const struct tracker_options *options)
{
    struct tracker *tracker = calloc(1, sizeof *tracker);
    if (tracker == NULL) {
        return NULL;
    }
    tracker->options = *options;
    tracker->budget_octets = TRACKER_KEPT_OCTETS;
    tracker->caller = (struct session_caller){.mode = options->mode, .limiter = options->limiter};
    snprintf(tracker->caller.id_prefix, sizeof tracker->caller.id_prefix, "%s",
             options->id_prefix != NULL ? options->id_prefix : "0");
    tracker->options.id_prefix = tracker->caller.id_prefix;
    tracker->table = flow_table_create(options->max_flows, options->seed, on_evict, tracker);
    if (tracker->table == NULL) {
        free(tracker);
        return NULL;
    }
    return tracker;
}

void tracker_destroy(struct tracker *tracker)
{
    if (tracker != NULL) {
        flow_table_destroy(tracker->table);
        fragments_destroy(tracker->fragments);
        free(tracker);
    }
}

void tracker_set_port(struct tracker *tracker, uint16_t port, enum tracker_port kind)
{
    tracker->ports[port] = (uint8_t)kind;
}

static bool port_is_known(const struct tracker *tracker, uint16_t port)
{
    return tracker->ports[port] != TRACKER_PORT_OTHER;
}

/* ---- timers: a wheel of lists, looked at lazily: an entry that is due later than its slot is armed again ---- */

static void timer_disarm(struct tracker *tracker, struct flow_entry *entry)
{
    if (!entry->timer_armed) {
        return;
    }
    if (entry->timer_previous != 0) {
        flow_table_entry(tracker->table, entry->timer_previous)->timer_next = entry->timer_next;
    } else {
        tracker->wheel[entry->timer_tick % TRACKER_TICKS] = entry->timer_next;
    }
    if (entry->timer_next != 0) {
        flow_table_entry(tracker->table, entry->timer_next)->timer_previous = entry->timer_previous;
    }
    entry->timer_armed = false;
    entry->timer_next = entry->timer_previous = 0;
    tracker->armed_count--;
}

static void timer_arm(struct tracker *tracker, struct flow_entry *entry, uint64_t due_us)
{
    uint64_t tick = due_us / TRACKER_TICK_US + 1;
    tick = tick <= tracker->tick ? tracker->tick + 1 : tick;
    tick = tick - tracker->tick >= TRACKER_TICKS ? tracker->tick + TRACKER_TICKS - 1 : tick;
    if (entry->timer_armed) {
        if ((uint16_t)(tick - entry->timer_tick) < TRACKER_TICKS) {
            return; /* it is looked at in time */
        }
        timer_disarm(tracker, entry);
    }
    uint32_t slot = (uint32_t)(tick % TRACKER_TICKS);
    uint32_t link = flow_table_link(tracker->table, entry);
    entry->timer_armed = true;
    entry->timer_tick = (uint16_t)tick;
    entry->timer_previous = 0;
    entry->timer_next = tracker->wheel[slot];
    if (entry->timer_next != 0) {
        flow_table_entry(tracker->table, entry->timer_next)->timer_previous = link;
    }
    tracker->wheel[slot] = link;
    tracker->armed_count++;
}

static bool entry_is_half_closed(const struct flow_entry *entry)
{
    return ((entry->flow.sides[0].flags | entry->flow.sides[1].flags) & FLOW_SIDE_FIN_SHOWN) != 0;
}

/* The server took leave in its own words: the FINs that follow may have passed unseen. */
static bool entry_said_farewell(const struct flow_entry *entry)
{
    const struct tracker_session *tracked = entry->user;
    return tracked != NULL && (tracked->session.dialogue.flags & DIALOGUE_221_SEEN) != 0;
}

uint64_t tracker_syn_patience_us(const struct flow_side *client)
{
    if (client->syn_count < 2) {
        return TRACKER_SYN_US;
    }
    uint64_t patience_us = 2 * (uint64_t)client->syn_interval_us + TRACKER_SYN_MARGIN_US;
    return patience_us < TRACKER_HALF_OPEN_US ? patience_us : TRACKER_HALF_OPEN_US;
}

/* A SYN nobody answers has a session, and so a stall line, once it is noticed. */
static uint64_t entry_notice_us(const struct tracker *tracker, const struct flow_entry *entry)
{
    uint64_t notice_us = tracker->options.policy->timeouts.stall_notice_us;
    return entry->user != NULL || entry->flow.state != FLOW_SYN_SEEN || notice_us == 0 ||
                   !tracker_serves(tracker, entry)
               ? NEVER_US
               : entry->connection.opened_us + notice_us;
}

/* Judged, and kept only so that stragglers start nothing new. */
static bool entry_is_remembered(const struct flow_entry *entry)
{
    return entry->user == NULL && entry->population == FLOW_OVER;
}

/* After how much silence is it over? */
static uint64_t entry_patience_us(const struct flow_entry *entry)
{
    const struct tracker_session *tracked = entry->user;
    if (entry_is_remembered(entry)) {
        return TRACKER_OVER_US;
    }
    switch (entry->flow.state) {
    case FLOW_CLOSED:
        return tracked != NULL ? TRACKER_LINGER_US : TRACKER_OVER_US;
    case FLOW_NEW:
        return TRACKER_HALF_OPEN_US;
    case FLOW_SYN_SEEN:
        if (tracked != NULL && tracked->held) {
            return TRACKER_HALF_OPEN_US; /* whoever holds it says when it is over */
        }
        return tracked != NULL && tracked->connect != CONNECT_PENDING
                   ? TRACKER_REJECTED_US
                   : tracker_syn_patience_us(&entry->flow.sides[side_index(SIDE_CLIENT)]);
    case FLOW_SYN_ACK_SEEN:
        return TRACKER_HALF_OPEN_US;
    case FLOW_ESTABLISHED:
        break;
    }
    if (flow_has_ended(&entry->flow)) {
        return tracked != NULL ? TRACKER_ENDED_US : TRACKER_OVER_US;
    }
    if (!entry_is_half_closed(entry) && !entry_said_farewell(entry)) {
        return TRACKER_IDLE_US;
    }
    return tracked != NULL ? session_last_words_us(&tracked->session) : TRACKER_HALF_CLOSED_US;
}

/* The session has ended, and a leg is dead: its kernel repeats for a quarter of an hour, which tells nothing more. */
static uint64_t entry_leave_us(const struct flow_entry *entry)
{
    const struct tracker_session *tracked = entry->user;
    uint64_t due_us = NEVER_US;
    if (tracked == NULL || tracked->pending_us != 0 || tracked->session.end == SESSION_END_NONE ||
        entry->flow.state == FLOW_CLOSED) {
        return NEVER_US;
    }
    uint64_t end_us =
        tracked->session.connection->opened_us + (uint64_t)tracked->session.moment.age_ms * 1000;
    for (unsigned i = 0; i < SIDE_PAIR; i++) {
        const struct flow_side *own = &entry->flow.sides[i];
        if (own->repeats >= TRACKER_UNANSWERED && own->unacked_since_us != 0) {
            uint64_t since_us = own->unacked_since_us > end_us ? own->unacked_since_us : end_us;
            due_us = since_us + TRACKER_LEAVE_US < due_us ? since_us + TRACKER_LEAVE_US : due_us;
        }
    }
    return due_us;
}

static uint64_t entry_due_us(const struct tracker *tracker, const struct flow_entry *entry)
{
    uint64_t due_us = entry->touched_us + entry_patience_us(entry);
    const struct tracker_session *tracked = entry->user;
    if (entry->ignored) {
        return due_us;
    }
    uint64_t flow_us = flow_deadline_us(&entry->flow);
    due_us = flow_us < due_us ? flow_us : due_us;
    uint64_t notice_us = entry_notice_us(tracker, entry);
    due_us = notice_us < due_us ? notice_us : due_us;
    uint64_t leave_us = entry_leave_us(entry);
    due_us = leave_us < due_us ? leave_us : due_us;
    if (tracked != NULL) {
        uint64_t session_us = tracked->pending_us != 0 ? tracker_session_pending_until_us(tracked)
                                                       : session_deadline_us(&tracked->session);
        due_us = session_us < due_us ? session_us : due_us;
    }
    return due_us;
}

/* False when the entry is gone. */
static bool entry_on_time(struct tracker *tracker, struct flow_entry *entry, uint64_t now_us)
{
    struct tracker_call call = {.tracker = tracker, .entry = entry};
    struct flow_sink sink = tracker_sink(&call);
    if (!entry->ignored && flow_deadline_us(&entry->flow) <= now_us) {
        flow_on_deadline(&entry->flow, &sink, now_us);
    }
    bool expired = now_us - entry->touched_us >= entry_patience_us(entry);
    if (!entry->ignored && !expired && entry_notice_us(tracker, entry) <= now_us) {
        (void)tracker_session_open(tracker, entry);
    }
    struct tracker_session *tracked = entry->user;
    if (tracked != NULL && tracked->pending_us != 0 && tracker_session_pending_until_us(tracked) <= now_us) {
        tracker_session_flush(tracker, tracked, now_us);
    }
    bool unanswered = expired && entry->flow.state == FLOW_SYN_SEEN; /* over since its last SYN */
    if (tracked != NULL && tracked->pending_us == 0 && !unanswered &&
        session_deadline_us(&tracked->session) <= now_us) {
        session_on_deadline(&tracked->session, now_us);
        tracker_session_wants(tracker, tracked, tracked->session.progress_us, now_us);
    }
    if (now_us - entry->touched_us < entry_patience_us(entry)) {
        if (!entry->ignored && entry_leave_us(entry) <= now_us) {
            tracker_session_finish(tracker, entry, now_us);
        }
        return true;
    }
    bool remembered = entry_is_remembered(entry);
    bool over = entry->flow.state == FLOW_CLOSED || flow_has_ended(&entry->flow) ||
                entry_is_half_closed(entry) || entry_said_farewell(entry);
    tracker_session_finish(tracker, entry, now_us);
    if (over && !remembered) { /* from now on: what is repeated may be due just now */
        flow_table_touch(tracker->table, entry, now_us);
        flow_table_move(tracker->table, entry, FLOW_OVER);
        return true;
    }
    flow_clear(&entry->flow, &tracker->budget_octets);
    flow_table_remove(tracker->table, entry);
    return false;
}

static void wheel_turn(struct tracker *tracker, uint64_t now_us)
{
    uint64_t until = now_us / TRACKER_TICK_US;
    if (tracker->armed_count == 0 || until <= tracker->tick) {
        tracker->tick = until > tracker->tick ? until : tracker->tick;
        return;
    }
    uint64_t first = until - tracker->tick > TRACKER_TICKS ? until - TRACKER_TICKS + 1 : tracker->tick + 1;
    tracker->tick = until;
    for (uint64_t tick = first; tick <= until; tick++) {
        uint32_t slot = (uint32_t)(tick % TRACKER_TICKS);
        uint32_t link = tracker->wheel[slot];
        tracker->wheel[slot] = 0;
        while (link != 0) {
            struct flow_entry *entry = flow_table_entry(tracker->table, link);
            link = entry->timer_next;
            if (link != 0) {
                flow_table_entry(tracker->table, link)->timer_previous = 0;
            }
            entry->timer_armed = false;
            entry->timer_next = entry->timer_previous = 0;
            tracker->armed_count--;
            if (entry_on_time(tracker, entry, now_us)) {
                timer_arm(tracker, entry, entry_due_us(tracker, entry));
            }
        }
    }
}

uint64_t tracker_deadline_us(const struct tracker *tracker)
{
    return tracker->armed_count == 0 ? NEVER_US : (tracker->tick + 1) * TRACKER_TICK_US;
}

void tracker_on_deadline(struct tracker *tracker, uint64_t now_us)
{
    if (now_us > tracker->now_us) {
        tracker->unix_ms += (int64_t)((now_us - tracker->now_us) / 1000);
        tracker->now_us = now_us;
    }
    wheel_turn(tracker, tracker->now_us);
}

/* ---- packets ---- */

static void on_evict(void *context, struct flow_entry *entry)
{
    struct tracker *tracker = context;
    tracker->stats.evicted++;
    timer_disarm(tracker, entry);
    if (entry->population == FLOW_HALF_OPEN) { /* nothing proves that it exists: a flood fills no log */
        tracker_session_drop(tracker, entry);
    } else {
        tracker_session_finish(tracker, entry, tracker->now_us);
    }
    flow_clear(&entry->flow, &tracker->budget_octets);
}

/* Which end of a connection that was not seen to open is the server? SIDE_NONE: cannot be told yet. */
static enum side sender_side(const struct tracker *tracker, const struct packet *packet)
{
    bool from_known = port_is_known(tracker, packet->source.port);
    bool to_known = port_is_known(tracker, packet->destination.port);
    if (packet->flags & PACKET_SYN) {
        return (packet->flags & PACKET_ACK) ? SIDE_SERVER : SIDE_CLIENT;
    }
    if (from_known != to_known) {
        return from_known ? SIDE_SERVER : SIDE_CLIENT;
    }
    if (packet->payload_captured >= 4 && packet->payload[0] >= '2' && packet->payload[0] <= '5' &&
        packet->payload[3] <= '-' && packet->payload[1] >= '0' && packet->payload[1] <= '9') {
        return SIDE_SERVER;
    }
    return from_known || to_known || packet->payload_captured >= 4 ? SIDE_CLIENT : SIDE_NONE;
}

static struct flow_entry *open_entry(struct tracker *tracker, const struct packet *packet, uint64_t now_us)
{
    bool syn = (packet->flags & PACKET_SYN) != 0;
    bool ends = (packet->flags & (PACKET_FIN | PACKET_RST)) != 0; /* of what was before it nothing is known */
    if (ends || (!syn && packet->payload_length == 0)) {
        return NULL;
    }
    enum side side = sender_side(tracker, packet);
    if (side == SIDE_NONE) {
        return NULL;
    }
    const struct address *client = side == SIDE_CLIENT ? &packet->source : &packet->destination;
    const struct address *server = side == SIDE_CLIENT ? &packet->destination : &packet->source;
    if (!port_is_known(tracker, server->port) && !tracker->options.any_port) {
        return NULL;
    }
    struct flow_entry *entry = flow_table_add(tracker->table, client, server, now_us);
    tracker->stats.flows++;
    flow_init(&entry->flow, !syn);
    if (syn && port_is_known(tracker, server->port)) {
        entry->connection.seat = neighbours_open(limiter_neighbours(tracker->options.limiter),
                                                 tracker->options.policy, client, server, now_us);
    }
    if (!syn && tracker_session_open(tracker, entry) == NULL) {
        entry->ignored = true;
    }
    return entry;
}

/* Both sides' packets agree: it is no invention. */
static bool entry_is_proven(const struct flow_entry *entry)
{
    const struct flow_side *client = &entry->flow.sides[0], *server = &entry->flow.sides[1];
    return (client->flags & FLOW_SIDE_SEEN) && (server->flags & FLOW_SIDE_SEEN) &&
           entry->flow.state >= FLOW_ESTABLISHED;
}

bool tracker_serves(const struct tracker *tracker, const struct flow_entry *entry)
{
    return port_is_known(tracker, entry->connection.server.port);
}

static void on_tcp(struct tracker *tracker, const struct packet *packet, uint64_t now_us)
{
    if (!tracker->options.any_port && !port_is_known(tracker, packet->source.port) &&
        !port_is_known(tracker, packet->destination.port)) {
        return;
    }
    enum side side;
    struct flow_entry *entry = flow_table_find(tracker->table, &packet->source, &packet->destination, &side);
    if (entry == NULL) {
        entry = open_entry(tracker, packet, now_us);
        if (entry == NULL) {
            return;
        }
        side = address_equal(&packet->source, &entry->connection.client) ? SIDE_CLIENT : SIDE_SERVER;
    }
    bool renews = (packet->flags & (PACKET_SYN | PACKET_ACK)) == PACKET_SYN;
    if (entry->ignored && !renews) {
        flow_table_touch(tracker->table, entry, now_us);
        return;
    }
    struct tracker_call call = {.tracker = tracker, .entry = entry};
    struct flow_sink sink = tracker_sink(&call);
    enum flow_verdict verdict =
        entry->ignored ? FLOW_RESTART : flow_on_packet(&entry->flow, side, packet, &sink, now_us);
    if (verdict == FLOW_RESTART) {
        struct packet syn;
        uint64_t syn_us = flow_pending_syn(&entry->flow, packet, &syn, now_us);
        timer_disarm(tracker, entry);
        tracker_session_finish(tracker, entry, now_us);
        flow_clear(&entry->flow, &tracker->budget_octets);
        flow_table_remove(tracker->table, entry);
        call.entry = entry =
            syn_us != 0 ? open_entry(tracker, &syn, syn_us) : open_entry(tracker, packet, now_us);
        if (entry == NULL) {
            return;
        }
        if (syn_us != 0) {
            (void)flow_on_packet(&entry->flow, SIDE_CLIENT, &syn, &sink, syn_us);
        }
        side = (packet->flags & PACKET_ACK) ? SIDE_SERVER : SIDE_CLIENT;
        verdict = flow_on_packet(&entry->flow, side, packet, &sink, now_us);
    }
    if (tracker->options.gated && entry->flow.state == FLOW_SYN_SEEN && entry->user == NULL &&
        tracker_is_gated(tracker, entry)) {
        (void)tracker_session_open(tracker, entry);
    }
    tracker->stats.copies += verdict == FLOW_COPY ? 1 : 0;
    tracker->stats.strays += verdict == FLOW_STRAY ? 1 : 0;
    if (entry->user == NULL && renews && entry->flow.sides[side_index(SIDE_CLIENT)].syn_count > 1) {
        neighbours_unanswered(limiter_neighbours(tracker->options.limiter), entry->connection.seat, true,
                              now_us);
    }
    if (verdict == FLOW_TAKEN) {
        flow_table_touch(tracker->table, entry, now_us);
        if (entry->flow.state == FLOW_CLOSED) {
            flow_table_move(tracker->table, entry, FLOW_OVER);
        } else if (entry->population == FLOW_HALF_OPEN && entry_is_proven(entry)) {
            flow_table_move(tracker->table, entry, FLOW_LIVE);
        }
    }
    timer_arm(tracker, entry, entry_due_us(tracker, entry));
    tracker->latest.entry = entry;
    tracker->latest.side = side;
}

static void on_icmp(struct tracker *tracker, const struct packet *packet, uint64_t now_us)
{
    enum side sender;
    struct flow_entry *entry =
        flow_table_find(tracker->table, &packet->source, &packet->destination, &sender);
    if (entry != NULL && !entry->ignored && entry->flow.state != FLOW_CLOSED) {
        tracker_session_icmp(tracker, entry, packet, sender, now_us);
        tracker->latest.entry = entry;
        tracker->latest.side = sender;
        timer_arm(tracker, entry, entry_due_us(tracker, entry));
    }
}

/* What a whole packet is; one that comes in fragments with the last of them. */
static enum packet_result take_apart(struct tracker *tracker, struct packet *packet, const uint8_t *octets,
                                     size_t captured, size_t wire_length)
{
    enum packet_result result = packet_parse(packet, octets, captured, wire_length);
    struct fragments_whole whole;
    if (result != PACKET_FRAGMENT) {
        return result;
    }
    tracker->stats.fragments++;
    if (tracker->fragments == NULL) {
        tracker->fragments = fragments_create();
    }
    if (tracker->fragments == NULL || !fragments_take(tracker->fragments, packet, tracker->now_us, &whole)) {
        return PACKET_FRAGMENT;
    }
    tracker->stats.fragments_used += whole.fragment_count;
    result = packet_parse(packet, whole.octets, whole.captured, whole.length);
    packet->fragmented = true;
    return result;
}

void tracker_on_packet(struct tracker *tracker, const uint8_t *octets, size_t captured, size_t wire_length,
                       uint64_t now_us, int64_t unix_ms)
{
    struct packet *packet = &tracker->latest.packet;
    tracker->latest.entry = NULL;
    if (now_us > tracker->now_us) {
        tracker->now_us = now_us;
    }
    now_us = tracker->now_us;
    tracker->unix_ms = unix_ms;
    wheel_turn(tracker, now_us);
    tracker->stats.packets++;
    switch (take_apart(tracker, packet, octets, captured, wire_length)) {
    case PACKET_OK:
        break;
    case PACKET_FRAGMENT:
        return;
    case PACKET_OTHER:
        tracker->stats.other_packets++;
        return;
    case PACKET_CUT:
        tracker->stats.cut_packets++;
        return;
    case PACKET_MALFORMED:
        tracker->stats.malformed_packets++;
        return;
    }
    if (packet->kind == PACKET_TCP) {
        tracker->stats.tcp_packets++;
        on_tcp(tracker, packet, now_us);
    } else if (packet->kind == PACKET_ICMP_ERROR) {
        on_icmp(tracker, packet, now_us);
    }
}

const struct tracker_latest *tracker_look(struct tracker *tracker, const uint8_t *octets, size_t captured,
                                          size_t wire_length)
{
    struct tracker_latest *latest = &tracker->latest;
    latest->entry = NULL;
    if (packet_parse(&latest->packet, octets, captured, wire_length) != PACKET_OK) {
        latest->packet.kind = PACKET_NONE;
        return latest;
    }
    latest->entry =
        flow_table_find(tracker->table, &latest->packet.source, &latest->packet.destination, &latest->side);
    return latest;
}

const struct tracker_latest *tracker_latest(const struct tracker *tracker)
{
    return &tracker->latest;
}

void tracker_finish(struct tracker *tracker, uint64_t now_us)
{
    tracker_on_deadline(tracker, now_us);
    tracker->finishing = true;
    static const enum flow_population order[] = {FLOW_OVER, FLOW_LIVE, FLOW_HALF_OPEN};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        struct flow_entry *entry;
        while ((entry = flow_table_oldest(tracker->table, order[i])) != NULL) {
            timer_disarm(tracker, entry);
            tracker_session_finish(tracker, entry, tracker->now_us);
            flow_clear(&entry->flow, &tracker->budget_octets);
            flow_table_remove(tracker->table, entry);
        }
    }
    tracker->finishing = false;
}

void tracker_stats(const struct tracker *tracker, struct tracker_stats *stats)
{
    *stats = tracker->stats;
    stats->half_open_now = flow_table_count(tracker->table, FLOW_HALF_OPEN);
    stats->flows_now = stats->half_open_now + flow_table_count(tracker->table, FLOW_LIVE);
}
