/* For a caller that does more than look: it holds, refuses and closes. */
#include "core/policy/timeouts.h"
#include "core/tracker/tracker_internal.h"

void tracker_set_policy(struct tracker *tracker, const struct policy_settings *policy)
{
    tracker->options.policy = policy;
}

/* Only where something is enforced does an unanswered SYN have a session: a flood of them must not make any. */
bool tracker_is_gated(const struct tracker *tracker, const struct flow_entry *entry)
{
    const struct connection *connection = &entry->connection;
    return tracker_serves(tracker, entry) &&
           policy_limits_enforce(
               policy_limits_for(tracker->options.policy, &connection->client, &connection->server, NULL));
}

struct tracker_session *tracker_find(struct tracker *tracker, const struct packet *packet, enum side *sender)
{
    struct flow_entry *entry = flow_table_find(tracker->table, &packet->source, &packet->destination, sender);
    return entry == NULL || entry->ignored ? NULL : entry->user;
}

uint32_t tracker_link(const struct tracker *tracker, const struct tracker_session *tracked)
{
    return flow_table_link(tracker->table, tracked->entry);
}

struct tracker_session *tracker_linked(struct tracker *tracker, uint32_t link)
{
    struct flow_entry *entry = flow_table_entry(tracker->table, link);
    return entry != NULL ? entry->user : NULL;
}

void tracker_session_hold(struct tracker *tracker, struct tracker_session *tracked, bool held,
                          uint64_t now_us)
{
    struct flow_side *client = &tracked->entry->flow.sides[side_index(SIDE_CLIENT)];
    tracked->held = held;
    session_on_held(&tracked->session, held, now_us);
    if (!held) { /* the server sees it only now */
        client->unacked_since_us = now_us;
        client->timed_us = (uint32_t)now_us;
        flow_table_touch(tracker->table, tracked->entry, now_us);
    }
}

void tracker_session_close(struct tracker *tracker, struct tracker_session *tracked, enum session_end end,
                           enum action action, uint64_t now_us)
{
    struct flow_entry *entry = tracked->entry;
    tracker_session_flush(tracker, tracked, now_us);
    tracker_session_sample(tracked, now_us);
    tracked->detecting = false;
    tracked->session.action = action;
    session_on_end(&tracked->session, end, now_us);
    tracker_session_finish(tracker, entry, now_us);
    entry->flow.state = FLOW_CLOSED;
    flow_table_move(tracker->table, entry, FLOW_OVER);
}

void tracker_note_probe(struct tracker_session *tracked, enum side side)
{
    struct flow_side *asking = &tracked->entry->flow.sides[side_index(side_other(side))];
    asking->unanswered = (uint8_t)(asking->unanswered + (asking->unanswered < UINT8_MAX));
}

void tracker_note_probe_void(struct tracker_session *tracked, enum side side)
{
    tracked->entry->flow.sides[side_index(side_other(side))].unanswered = 0;
}
