/* From the events of a flow to those of its session. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/tracker/tracker_internal.h"

#define DETECT_OCTETS 256 /* of a greeting: its first line names the protocol, if any does */

void tracker_step(struct tracker *tracker, struct tracker_session *tracked, enum tracker_step step,
                  enum side side, uint64_t now_us)
{
    if (tracker->options.callbacks.step != NULL) {
        tracker->options.callbacks.step(tracker->options.callbacks.context, tracked, step, side, now_us);
    }
}

struct tracker_session *tracker_session_open(struct tracker *tracker, struct flow_entry *entry)
{
    if (entry->user != NULL || entry->ignored) {
        return entry->user;
    }
    struct tracker_session *tracked = calloc(1, sizeof *tracked + tracker->options.story_octets);
    if (tracked == NULL) {
        return NULL;
    }
    struct session_setup setup = {.caller = &tracker->caller,
                                  .number = ++tracker->sessions_made,
                                  .policy = tracker->options.policy,
                                  .probing = tracker->options.probing,
                                  .probe_after_us = tracker->options.probe_after_us,
                                  .connected = entry->flow.midstream,
                                  .connection = &entry->connection};
    setup.start_unix_ms =
        tracker->unix_ms - (int64_t)((tracker->now_us - entry->connection.opened_us) / 1000);
    enum tracker_port kind = (enum tracker_port)tracker->ports[entry->connection.server.port];
    setup.dialogue.implicit_tls = kind == TRACKER_PORT_IMPLICIT_TLS;
    setup.dialogue.lmtp = kind == TRACKER_PORT_LMTP;
    setup.dialogue.proxy_protocol = tracker->options.proxy_protocol;
    setup.dialogue.midstream = entry->flow.midstream;
    tracked->entry = entry;
    tracked->detecting = kind == TRACKER_PORT_OTHER;
    entry->user = tracked;
    session_init(&tracked->session, &setup);
    if (tracker->options.limiter != NULL) {
        tracked->answer = limiter_admit(tracker->options.limiter, tracker->options.policy,
                                        &entry->connection.client, &entry->connection.server, tracker->now_us,
                                        &tracked->session.ticket, &tracked->session.counts);
    }
    tracker->stats.sessions++;
    tracker_step(tracker, tracked, TRACKER_STEP_OPENED, SIDE_CLIENT, entry->connection.opened_us);
    return tracked;
}

/* Of a connection that never had a session; otherwise that does. */
static void give_seat_back(struct tracker *tracker, struct flow_entry *entry, uint64_t now_us)
{
    neighbours_close(limiter_neighbours(tracker->options.limiter), &entry->connection.seat, now_us);
}

static void session_let_go(struct tracker *tracker, struct tracker_session *tracked)
{
    session_release_place(&tracked->session, tracker->now_us);
    tracked->entry->user = NULL;
    session_clear(&tracked->session);
    free(tracked);
}

void tracker_session_drop(struct tracker *tracker, struct flow_entry *entry)
{
    struct tracker_session *tracked = entry->user;
    entry->ignored = true;
    flow_clear(&entry->flow, &tracker->budget_octets);
    if (tracked == NULL) {
        give_seat_back(tracker, entry, tracker->now_us);
    } else {
        tracker->stats.sessions--;
        if (tracker->options.callbacks.dropped != NULL) {
            tracker->options.callbacks.dropped(tracker->options.callbacks.context, tracked);
        }
        session_let_go(tracker, tracked);
    }
}

static void sample(struct tracker_session *tracked, uint64_t silence_us, uint64_t now_us, uint64_t at_us)
{
    for (unsigned i = 0; i < SIDE_PAIR; i++) {
        enum side side = i == 0 ? SIDE_CLIENT : SIDE_SERVER;
        struct leg_evidence evidence;
        tracker_evidence(tracked, side, silence_us, now_us, &evidence);
        session_set_evidence(&tracked->session, side, &evidence, at_us);
    }
}

void tracker_session_sample(struct tracker_session *tracked, uint64_t now_us)
{
    sample(tracked, tracked->session.progress_us, now_us, now_us);
}

void tracker_session_flush(struct tracker *tracker, struct tracker_session *tracked, uint64_t now_us)
{
    (void)tracker;
    if (tracked->pending_us == 0) {
        return;
    }
    uint64_t at_us = tracked->pending_us;
    tracked->pending_us = 0;
    if (tracked->pending_end == SESSION_END_NONE) {
        sample(tracked, tracked->pending_silence_us, now_us, now_us);
        return;
    }
    sample(tracked, tracked->pending_silence_us, now_us, at_us);
    session_on_end(&tracked->session, (enum session_end)tracked->pending_end, at_us);
}

static void pend(struct tracker_session *tracked, enum session_end end, enum side waits_for,
                 uint64_t silence_us, uint64_t now_us)
{
    tracked->pending_end = (uint8_t)end;
    tracked->pending_on = (uint8_t)waits_for;
    tracked->pending_silence_us = silence_us;
    tracked->pending_us = now_us == 0 ? 1 : now_us;
}

uint64_t tracker_session_pending_until_us(const struct tracker_session *tracked)
{
    return tracked->pending_us +
           (tracked->pending_end == SESSION_END_NONE ? TRACKER_REPLY_US : TRACKER_ANSWER_US);
}

static void end_is(struct tracker *tracker, struct tracker_session *tracked, enum session_end end,
                   enum side by, uint64_t now_us)
{
    if (tracked->session.end != SESSION_END_NONE) {
        session_on_end(&tracked->session, end, now_us);
        return;
    }
    tracker_session_flush(tracker, tracked, now_us);
    if (tracked->session.end != SESSION_END_NONE) {
        session_on_end(&tracked->session, end, now_us);
        return;
    }
    pend(tracked, end, side_other(by), tracked->session.progress_us, now_us);
}

/* What the session wants. The evidence of a reply that ends it waits for the client's answer to that reply. */
void tracker_session_wants(struct tracker *tracker, struct tracker_session *tracked, uint64_t silence_us,
                           uint64_t now_us)
{
    uint32_t wants = session_take_wants(&tracked->session);
    if (wants == 0) {
        return;
    }
    if (tracked->session.end == SESSION_END_REPLY && (wants & SESSION_WANT_SAMPLE)) {
        pend(tracked, SESSION_END_NONE, SIDE_CLIENT, silence_us, now_us);
    } else if (wants & (SESSION_WANT_SAMPLE | SESSION_WANT_PROBE_CLIENT | SESSION_WANT_PROBE_SERVER)) {
        sample(tracked, tracked->session.progress_us, now_us, now_us);
    }
    if ((wants & SESSION_WANT_STALL_LINE) && !tracked->detecting) {
        struct record record;
        session_stall_record(&tracked->session, &record, now_us);
        tracker->options.callbacks.record(tracker->options.callbacks.context, tracked, &record);
    }
    if ((wants & SESSION_WANT_FORECAST_LINE) && !tracked->detecting) {
        struct record record;
        session_forecast_record(&tracked->session, &record, now_us);
        tracker->options.callbacks.record(tracker->options.callbacks.context, tracked, &record);
    }
    wants &= SESSION_WANT_PROBE_CLIENT | SESSION_WANT_PROBE_SERVER | SESSION_WANT_CLOSE;
    if (wants != 0 && tracker->options.callbacks.want != NULL) {
        tracker->options.callbacks.want(tracker->options.callbacks.context, tracked, wants, now_us);
    }
}

/* ---- is it SMTP? ---- */

static bool has_word(const uint8_t *octets, size_t length, const char *word)
{
    size_t word_length = strlen(word);
    for (size_t i = 0; i + word_length <= length; i++) {
        if (strncasecmp((const char *)octets + i, word, word_length) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_digit(uint8_t octet)
{
    return octet >= '0' && octet <= '9';
}

static bool looks_like_reply(const uint8_t *octets, size_t length)
{
    return length >= 4 && octets[0] >= '2' && octets[0] <= '5' && is_digit(octets[1]) &&
           is_digit(octets[2]) && (octets[3] == ' ' || octets[3] == '-');
}

/* Returns false when it surely is not: the session is gone then. */
static bool detect(struct tracker *tracker, struct tracker_session *tracked, enum side side,
                   const uint8_t *octets, size_t length)
{
    bool first = !tracked->spoke[side_index(side)];
    tracked->spoke[side_index(side)] = true;
    if (!first) {
        return true;
    }
    bool yes, maybe;
    if (side == SIDE_SERVER) {
        size_t count = length < DETECT_OCTETS ? length : DETECT_OCTETS;
        maybe = looks_like_reply(octets, length);
        yes = maybe && (has_word(octets, count, "SMTP") || has_word(octets, count, "LMTP"));
    } else {
        static const char *const openings[] = {"EHLO", "HELO", "LHLO"};
        yes = false;
        for (size_t i = 0; i < sizeof openings / sizeof openings[0]; i++) {
            yes = yes || (length >= 4 && strncasecmp((const char *)octets, openings[i], 4) == 0);
        }
        maybe = length < 4 || !tracked->spoke[side_index(SIDE_SERVER)];
    }
    if (yes) {
        tracked->detecting = false;
        return true;
    }
    if (!maybe) {
        tracker->stats.not_smtp++;
        tracker_session_drop(tracker, tracked->entry);
        return false;
    }
    return true;
}

/* ---- the sink of a flow ---- */

static void on_octets(void *context, enum side side, const uint8_t *octets, size_t length, uint64_t now_us)
{
    struct tracker_call *call = context;
    struct tracker_session *tracked = call->entry->user;
    if (tracked == NULL) {
        return;
    }
    if (tracked->detecting && !detect(call->tracker, tracked, side, octets, length)) {
        return;
    }
    if (tracked->pending_us != 0 &&
        (tracked->pending_end != SESSION_END_NONE || side == tracked->pending_on)) {
        tracker_session_flush(call->tracker, tracked, now_us);
    }
    const uint64_t silence_us = tracked->session.progress_us;
    session_on_octets(&tracked->session, side, octets, length, now_us);
    tracker_session_wants(call->tracker, tracked, silence_us, now_us);
    tracker_step(call->tracker, tracked, TRACKER_STEP_OCTETS, side, now_us);
}

static void pass_over(void *context, enum side side, uint64_t length, uint64_t now_us,
                      void (*tell)(struct session *, enum side, uint64_t, uint64_t))
{
    struct tracker_call *call = context;
    struct tracker_session *tracked = call->entry->user;
    if (tracked == NULL) {
        return;
    }
    if (tracked->pending_us != 0 && tracked->pending_end != SESSION_END_NONE) {
        tracker_session_flush(call->tracker, tracked, now_us);
    }
    const uint64_t silence_us = tracked->session.progress_us;
    tell(&tracked->session, side, length, now_us);
    tracker_session_wants(call->tracker, tracked, silence_us, now_us);
    tracker_step(call->tracker, tracked, TRACKER_STEP_OCTETS, side, now_us);
}

static void on_skipped(void *context, enum side side, uint64_t length, uint64_t now_us)
{
    pass_over(context, side, length, now_us, session_on_skipped);
}

static void on_bypassed(void *context, enum side side, uint64_t length, uint64_t now_us)
{
    const struct tracker_call *call = context;
    call->tracker->stats.bypassed_octets += length;
    pass_over(context, side, length, now_us, session_on_passed);
}

static void sample_leg(struct tracker_session *tracked, enum side side, uint64_t now_us)
{
    struct leg_evidence evidence;
    if (tracked->session.end != SESSION_END_NONE || tracked->pending_us != 0) {
        return;
    }
    tracker_evidence(tracked, side, tracked->session.progress_us, now_us, &evidence);
    session_set_evidence(&tracked->session, side, &evidence, now_us);
}

static void set_handshake_rtt(struct tracker_session *tracked)
{
    for (unsigned i = 0; i < SIDE_PAIR; i++) {
        enum side side = i == 0 ? SIDE_CLIENT : SIDE_SERVER;
        uint32_t rtt_us = tracked->entry->flow.sides[side_index(side_other(side))].rtt_least_us;
        if (rtt_us != 0) {
            session_set_rtt(&tracked->session, side, rtt_us);
        }
    }
}

static void on_refused(struct tracker *tracker, struct flow_entry *entry, uint64_t now_us)
{
    struct tracker_session *tracked = tracker_session_open(tracker, entry);
    if (tracked == NULL) {
        return;
    }
    tracked->connect = CONNECT_REFUSED;
    session_release_place(&tracked->session, now_us); /* its record waits for a while, its place is free */
    tracker_compare_refusal(tracker, tracked);
    sample(tracked, tracked->session.progress_us, now_us, now_us);
    session_on_end(&tracked->session, SESSION_END_CONNECT_FAILED, now_us);
    tracker_step(tracker, tracked, TRACKER_STEP_RESET, SIDE_SERVER, now_us);
}

static void on_window(struct tracker *tracker, struct tracker_session *tracked, enum side side, bool closed,
                      uint64_t now_us)
{
    if (tracked->session.end == SESSION_END_NONE && tracked->pending_us == 0) {
        session_on_pushed_back(&tracked->session, side_other(side), closed, now_us);
        tracker_step(tracker, tracked, closed ? TRACKER_STEP_WINDOW_CLOSED : TRACKER_STEP_WINDOW_OPENED, side,
                     now_us);
    }
}

static void on_event(void *context, enum flow_event event, enum side side, uint64_t now_us)
{
    struct tracker_call *call = context;
    struct tracker *tracker = call->tracker;
    if (event == FLOW_EVENT_REFUSED) {
        on_refused(tracker, call->entry, now_us);
        return;
    }
    if (event == FLOW_EVENT_ESTABLISHED) {
        flow_table_move(tracker->table, call->entry, FLOW_LIVE);
        tracker_learn_host(tracker, call->entry);
    }
    struct tracker_session *tracked = event == FLOW_EVENT_CONNECTED || event == FLOW_EVENT_RESET
                                          ? tracker_session_open(tracker, call->entry)
                                          : call->entry->user;
    if (tracked == NULL) {
        return;
    }
    switch (event) {
    case FLOW_EVENT_CONNECTED:
        session_on_answered(&tracked->session, now_us);
        set_handshake_rtt(tracked);
        tracker_step(tracker, tracked, TRACKER_STEP_CONNECTED, SIDE_SERVER, now_us);
        break;
    case FLOW_EVENT_ESTABLISHED:
        session_on_confirmed(&tracked->session, now_us);
        set_handshake_rtt(tracked);
        break;
    case FLOW_EVENT_FIN:
        if (side == SIDE_SERVER) {
            session_release_place(&tracked->session, now_us);
        }
        end_is(tracker, tracked, side == SIDE_CLIENT ? SESSION_END_CLIENT_FIN : SESSION_END_SERVER_FIN, side,
               now_us);
        tracker_step(tracker, tracked, TRACKER_STEP_FIN, side, now_us);
        break;
    case FLOW_EVENT_RESET:
        session_release_place(&tracked->session, now_us);
        end_is(tracker, tracked, side == SIDE_CLIENT ? SESSION_END_CLIENT_RESET : SESSION_END_SERVER_RESET,
               side, now_us);
        tracker_step(tracker, tracked, TRACKER_STEP_RESET, side, now_us);
        break;
    case FLOW_EVENT_WINDOW_CLOSED:
        on_window(tracker, tracked, side, true, now_us);
        break;
    case FLOW_EVENT_WINDOW_OPENED:
        on_window(tracker, tracked, side, false, now_us);
        break;
    case FLOW_EVENT_STUCK:
        sample_leg(tracked, side_other(side), now_us);
        tracker_step(tracker, tracked, TRACKER_STEP_REPEATED, side, now_us);
        break;
    case FLOW_EVENT_FREED:
        sample_leg(tracked, side_other(side), now_us);
        tracker_step(tracker, tracked, TRACKER_STEP_FREED, side, now_us);
        break;
    case FLOW_EVENT_GAP:
        tracker_step(tracker, tracked, TRACKER_STEP_GAP, side, now_us);
        break;
    case FLOW_EVENT_CLEAN:
        if (tracked->pending_us != 0 && tracked->pending_on == side) {
            tracker_session_flush(tracker, tracked, now_us);
        }
        break;
    case FLOW_EVENT_SHOWN:
        if (tracked->pending_us != 0 && tracked->pending_on == side) {
            tracker_session_flush(tracker, tracked, now_us);
        }
        tracker_step(tracker, tracked, TRACKER_STEP_MISSING, side, now_us);
        break;
    case FLOW_EVENT_REFUSED:
        break;
    }
}

struct flow_sink tracker_sink(struct tracker_call *call)
{
    return (struct flow_sink){.context = call,
                              .octets = on_octets,
                              .skipped = on_skipped,
                              .bypassed = on_bypassed,
                              .event = on_event,
                              .budget_octets = &call->tracker->budget_octets};
}

/* ---- ICMP ---- */

static enum connect_result connect_of(enum packet_icmp icmp)
{
    switch (icmp) {
    case PACKET_ICMP_UNREACHABLE:
        return CONNECT_UNREACHABLE;
    case PACKET_ICMP_PROHIBITED:
        return CONNECT_PROHIBITED;
    case PACKET_ICMP_REJECTED:
        return CONNECT_REJECTED;
    case PACKET_ICMP_NONE:
    case PACKET_ICMP_TOO_BIG:
    case PACKET_ICMP_OTHER:
        break;
    }
    return CONNECT_PENDING;
}

void tracker_session_icmp(struct tracker *tracker, struct flow_entry *entry, const struct packet *packet,
                          enum side sender, uint64_t now_us)
{
    const struct flow_side *own = &entry->flow.sides[side_index(sender)];
    uint32_t back = own->highest - packet->sequence;
    if (!(own->flags & FLOW_SIDE_BEGUN) || back > own->highest - own->acked + 1) {
        return; /* quotes nothing that is under way: anybody could have sent it */
    }
    struct tracker_session *tracked = tracker_session_open(tracker, entry);
    if (tracked == NULL) {
        return;
    }
    enum side leg_side = side_other(sender);
    size_t leg = side_index(leg_side);
    const struct address *far = connection_end(&entry->connection, leg_side);
    tracked->icmp[leg] = (uint8_t)packet->icmp;
    tracked->icmp_type[leg] = packet->icmp_type;
    tracked->icmp_code[leg] = packet->icmp_code;
    tracked->icmp_foreign[leg] = memcmp(far->octets, packet->icmp_sender.octets, sizeof far->octets) != 0;
    if (entry->flow.state == FLOW_SYN_SEEN && sender == SIDE_CLIENT) {
        tracked->connect = (uint8_t)connect_of(packet->icmp);
    }
    sample_leg(tracked, leg_side, now_us);
    tracker_step(tracker, tracked, TRACKER_STEP_ICMP, sender, now_us);
}

/* ---- the end ---- */

/* Nobody ended it: why did it stop? Returns when it stopped. */
static uint64_t conclude(struct tracker_session *tracked, bool draining, uint64_t now_us)
{
    struct session *session = &tracked->session;
    const struct flow *flow = &tracked->entry->flow;
    const struct flow_side *server = &flow->sides[side_index(SIDE_SERVER)];
    uint64_t last_us = tracked->entry->touched_us;
    if (session->end == SESSION_END_NONE && flow->state == FLOW_SYN_SEEN) {
        if (tracked->connect == CONNECT_PENDING && flow->sides[side_index(SIDE_CLIENT)].syn_count > 1) {
            tracked->connect = CONNECT_TIMED_OUT;
        }
        sample(tracked, session->progress_us, last_us, last_us);
        if (tracked->connect != CONNECT_PENDING) {
            session_on_end(session, SESSION_END_CONNECT_FAILED, last_us);
        } else if (!draining) {
            session_on_end(session, SESSION_END_CAPTURE, last_us); /* tried once and never again: who knows */
        }
        return last_us;
    }
    bool unheard = server->repeats >= TRACKER_UNANSWERED && flow_unacked_octets(flow, SIDE_SERVER) > 0 &&
                   !(flow->sides[side_index(SIDE_CLIENT)].flags & FLOW_SIDE_RESET) &&
                   !flow_one_way(flow, SIDE_CLIENT);
    bool open = session->end == SESSION_END_NONE;
    if (open) {
        sample(tracked, session->progress_us, now_us, now_us);
    }
    if (unheard &&
        (open || session->end == SESSION_END_SERVER_FIN || session->end == SESSION_END_SERVER_RESET)) {
        session_on_end(session, SESSION_END_CLIENT_LOST, open ? now_us : last_us);
    } else if (open && !draining) {
        session_on_end(session, SESSION_END_CAPTURE, now_us);
    }
    return flow->state == FLOW_CLOSED ? last_us : now_us;
}

void tracker_session_finish(struct tracker *tracker, struct flow_entry *entry, uint64_t now_us)
{
    struct tracker_call call = {.tracker = tracker, .entry = entry};
    struct flow_sink sink = tracker_sink(&call);
    if (!entry->ignored) {
        flow_finish(&entry->flow, &sink, now_us);
    }
    struct tracker_session *tracked = entry->user;
    bool tried =
        entry->flow.state == FLOW_SYN_SEEN && !entry->ignored; /* a SYN nobody answered has no session yet */
    if (tracked == NULL && tried && tracker_serves(tracker, entry)) {
        tracked = tracker_session_open(tracker, entry);
    }
    if (tracked == NULL) {
        give_seat_back(tracker, entry, now_us);
        return;
    }
    if (tracked->detecting) {
        tracker->stats.not_smtp++;
        tracker_session_drop(tracker, entry);
        return;
    }
    tracker_session_flush(tracker, tracked, now_us);
    uint64_t end_us = conclude(tracked, tracker->finishing, now_us);
    end_us = end_us > tracked->session.ledger.until_us ? end_us : tracked->session.ledger.until_us;
    struct record record;
    session_finish(&tracked->session, &record, end_us);
    tracker_step(tracker, tracked, TRACKER_STEP_ENDED, SIDE_NONE, end_us);
    tracker->options.callbacks.record(tracker->options.callbacks.context, tracked, &record);
    flow_clear(&entry->flow, &tracker->budget_octets);
    entry->ignored = true; /* stragglers tell nothing any more */
    session_let_go(tracker, tracked);
}
