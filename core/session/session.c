#include "core/session/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/policy/timeouts.h"
#include "core/session/session_internal.h"

/* An idle proxied session may cost 1 kB in all; the relay around this takes the rest. */
_Static_assert(sizeof(struct session) <= sizeof(struct dialogue) + 208, "a session must stay small");

#define PROBE_AFTER_MS 5000
#define LAST_WORDS_US  UINT64_C(120000000)
#define LAST_REPLY_US  UINT64_C(600000000)

enum phase session_phase(const struct session *session)
{
    return (session->flags & SESSION_UNCONFIRMED) ? PHASE_CONNECT : session->dialogue.phase;
}

enum side session_debtor(const struct session *session)
{
    if (session->flags & SESSION_HELD) {
        return SIDE_NONE;
    }
    if (session->flags & SESSION_UNCONFIRMED) {
        return SIDE_CLIENT;
    }
    if (session->flags & SESSION_PUSHED_CLIENT) {
        return SIDE_SERVER;
    }
    if (session->flags & SESSION_PUSHED_SERVER) {
        return SIDE_CLIENT;
    }
    if (session->dialogue.phase == PHASE_CONNECT) {
        return SIDE_SERVER;
    }
    return session->dialogue.owed_by;
}

static uint32_t elapsed_ms(uint64_t since_us, uint64_t now_us)
{
    uint64_t ms = now_us > since_us ? (now_us - since_us) / 1000 : 0;
    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

struct session_moment session_picture(const struct session *session, uint64_t now_us)
{
    const struct dialogue *dialogue = &session->dialogue;
    enum side debtor = session_debtor(session);
    return (struct session_moment){
        .phase = (uint8_t)session_phase(session),
        .owed_by = (uint8_t)debtor,
        .pushed_back = (session->flags & (SESSION_PUSHED_CLIENT | SESSION_PUSHED_SERVER)) != 0,
        .line_open = debtor != SIDE_NONE && dialogue_line_open(dialogue, debtor),
        .reply_open = dialogue_reply_open(dialogue),
        .mail_open = dialogue->mail_open,
        .body_began = dialogue->body_octets > 0,
        .body_doubtful = dialogue_body_is_doubtful(dialogue),
        .waited_ms = elapsed_ms(session->progress_us, now_us),
        .turn_ms = elapsed_ms(session->turn_since_us, now_us),
        .age_ms = elapsed_ms(session->connection->opened_us, now_us),
    };
}

void session_init(struct session *session, const struct session_setup *setup)
{
    struct connection *connection = setup->connection;
    const uint64_t now_us = connection->opened_us;
    memset(session, 0, sizeof *session);
    dialogue_init(&session->dialogue, &setup->dialogue);
    ledger_init(&session->ledger, now_us);
    session->connection = connection;
    session->policy = setup->policy;
    session->timeouts = policy_choose_timeouts(setup->policy, &connection->client, &connection->server);
    session->caller = setup->caller;
    session->number = setup->number;
    session->start_unix_ms = setup->start_unix_ms;
    session->turn_since_us = session->progress_us = now_us;
    if (connection->seat == 0) {
        connection->seat = neighbours_open(session_neighbours(session), setup->policy, &connection->client,
                                           &connection->server, now_us);
    }
    session->probe_after_ms =
        setup->probe_after_us != 0 ? (uint32_t)(setup->probe_after_us / 1000) : PROBE_AFTER_MS;
    session->flags = (setup->probing ? SESSION_PROBING : 0u) |
                     (setup->dialogue.implicit_tls ? SESSION_IMPLICIT_TLS : 0u) |
                     (setup->dialogue.midstream ? SESSION_MIDSTREAM : 0u);
    if (setup->connected) {
        session_on_connected(session, now_us);
    }
    session->debt_serial = session->dialogue.debt_serial;
}

void session_clear(struct session *session)
{
    neighbours_close(session_neighbours(session), &session->connection->seat, session->ledger.until_us);
    dialogue_clear(&session->dialogue);
    free(session->legs);
    session->legs = NULL;
}

static enum account account_of(enum side side)
{
    return side == SIDE_CLIENT ? ACCOUNT_CLIENT : ACCOUNT_SERVER;
}

static enum account network_of(enum side side)
{
    return side == SIDE_CLIENT ? ACCOUNT_CLIENT_NETWORK : ACCOUNT_SERVER_NETWORK;
}

/* The leg's evidence says that the network, not the host, is what is waited for. */
static bool leg_is_stuck(const struct session *session, enum side side)
{
    if (session->legs == NULL) {
        return false;
    }
    const struct leg_evidence *leg = &session->legs[side_index(side)];
    return (leg->unacked_octets > 0 && leg->retrans_count > 0) || leg->probe == PROBE_UNANSWERED ||
           leg->probe == PROBE_REVEALED || (leg->flags & LEG_TIMED_OUT) != 0;
}

/* Charges the time up to now to whoever was waited for. */
static void session_charge(struct session *session, uint64_t now_us)
{
    enum side debtor = session_debtor(session);
    enum account account, network;
    uint64_t network_us = 0;
    if (now_us > session->ledger.until_us) {
        if (session->dialogue.phase == PHASE_BODY || session->dialogue.phase == PHASE_BDAT) {
            uint64_t body_us = session->body_us + (now_us - session->ledger.until_us);
            session->body_us = body_us < UINT32_MAX ? (uint32_t)body_us : UINT32_MAX;
        }
    }
    if (session->flags & SESSION_HELD) {
        account = network = ACCOUNT_WITNESS;
    } else if (session->flags & SESSION_UNCONFIRMED) {
        account = network = ACCOUNT_CLIENT_NETWORK;
    } else if (session->dialogue.phase == PHASE_CONNECT) {
        account = network = ACCOUNT_SERVER_NETWORK;
    } else if (debtor == SIDE_NONE) { /* all is said: who has not closed yet */
        account = (session->flags & SESSION_SERVER_LEFT) ? ACCOUNT_CLIENT : ACCOUNT_SERVER;
        network = account;
    } else {
        account = leg_is_stuck(session, debtor) ? network_of(debtor) : account_of(debtor);
        network = network_of(debtor);
        if (!(session->flags & SESSION_RTT_CHARGED)) {
            network_us = session->rtt_us[side_index(debtor)];
            session->flags |= SESSION_RTT_CHARGED;
        }
    }
    ledger_charge(&session->ledger, now_us, account, network, network_us);
}

/* The silence that ends now was long: a remark, whoever is to blame in the end. */
static void note_slowness(struct session *session, enum side debtor, enum phase phase, uint64_t now_us)
{
    uint64_t waited_us = now_us > session->progress_us ? now_us - session->progress_us : 0;
    if (waited_us >= FACTS_WAITED_FOR_US) {
        session->silence_broken_by = (uint8_t)debtor;
        session->silence_was_long = waited_us >= FACTS_LONG_IDLE_US;
    }
    if (debtor == SIDE_SERVER && session_timeouts(session)->stall_notice_us != 0 &&
        waited_us >= session_timeouts(session)->stall_notice_us) {
        session->flags |= phase == PHASE_GREETING ? SESSION_SLOW_GREETING : SESSION_SLOW_REPLY;
    }
}

/* A reply is complete: is the server getting slower and slower? (Tarpits answer each error later than the last.) */
static void note_lateness(struct session *session, uint64_t now_us)
{
    uint64_t late_ds = now_us > session->turn_since_us ? (now_us - session->turn_since_us) / 100000 : 0;
    late_ds = late_ds < UINT16_MAX ? late_ds : UINT16_MAX;
    if (late_ds * 100000 < FACTS_STALL_US) {
        session->late_count = 0;
        return;
    }
    bool falling = late_ds + late_ds / 4 < session->late_ds;
    session->late_count = (uint8_t)(falling || session->late_count == 0
                                        ? 1
                                        : session->late_count + (session->late_count < UINT8_MAX));
    session->late_ds = (uint16_t)late_ds;
    session->flags |= session->late_count > FACTS_TARPIT_COUNT ? (uint32_t)SESSION_TARPIT : 0u;
}

static void silence_ends(struct session *session, uint64_t now_us)
{
    session->progress_us = now_us;
    session->flags &= ~(uint32_t)SESSION_SILENCE_FLAGS;
    /* A probe belongs to one silence; where the server's word may be its leave, the verdict is about that silence. */
    if (session->legs != NULL && session->end == SESSION_END_NONE &&
        !(session->flags & SESSION_OUT_OF_TURN)) {
        for (unsigned i = 0; i < SIDE_PAIR; i++) {
            session->legs[i].probe = PROBE_NONE;
            session->legs[i].flags &= ~(uint32_t)LEG_TAPPED; /* the tap watched that silence, not the next */
        }
    }
}

/* After an event: is the debt another one, or did the debtor at least say something? */
static void session_update_turn(struct session *session, enum side spoke, enum side debtor_before,
                                uint64_t now_us)
{
    bool inferred = dialogue_tls(&session->dialogue)->established;
    if (spoke == debtor_before && spoke != SIDE_NONE && session->legs != NULL && !inferred &&
        session->end == SESSION_END_NONE) { /* it answers: so it had what was sent to it */
        session->legs[side_index(spoke)].unacked_octets = 0;
        session->legs[side_index(spoke)].unacked_since_us = 0;
    }
    if (session->debt_serial != session->dialogue.debt_serial || session_debtor(session) != debtor_before) {
        if (spoke == SIDE_SERVER && debtor_before == SIDE_SERVER && session->dialogue.last_code != 354) {
            note_lateness(session, now_us);
        }
        session->debt_serial = session->dialogue.debt_serial;
        session->turn_since_us = now_us;
        session->flags &= ~(uint32_t)SESSION_RTT_CHARGED;
        silence_ends(session, now_us);
    } else if (spoke == debtor_before && spoke != SIDE_NONE) {
        silence_ends(session, now_us);
    }
    neighbours_phase(session_neighbours(session), session->connection->seat, session->dialogue.phase);
    session_forecast_look(session, now_us);
}

/* The whole session lasted too long and it is enforced: as soon as a 421 harms nobody. */
static void close_when_harmless(struct session *session)
{
    bool ended = session->end != SESSION_END_NONE && session->end != SESSION_END_REPLY;
    if ((session->flags & SESSION_TIME_CLOSING) == 0 || ended) {
        return;
    }
    bool overdue = (session->flags & SESSION_TIME_OVERDUE) != 0;
    if (dialogue_may_speak(&session->dialogue) || (overdue && !session_in_doubt(session))) {
        session->wants |= SESSION_WANT_CLOSE | SESSION_WANT_SAMPLE;
    }
}

/* As they stand, while it has a place. */
static void session_take_counts(struct session *session)
{
    if (session->caller->limiter != NULL) {
        struct limiter_counts counts = {0};
        limiter_count(session->caller->limiter, &session->ticket, &counts);
        if (counts.concurrent != 0) {
            counts.would_refuse = session->counts.would_refuse;
            counts.would_hold = session->counts.would_hold;
            counts.met = session->counts.met;
            counts.limit = session->counts.limit;
            session->counts = counts;
        }
    }
}

static void session_decide_end(struct session *session, enum session_end end,
                               const struct session_moment *moment)
{
    session->end = end;
    session->moment = *moment;
    session_near_end(session, end);
    session_take_counts(session);
}

void session_release_place(struct session *session, uint64_t now_us)
{
    if (session->caller->limiter != NULL) {
        if (session->end == SESSION_END_NONE) {
            session_take_counts(session);
        }
        limiter_release(session->caller->limiter, &session->ticket, now_us);
    }
}

void session_on_held(struct session *session, bool held, uint64_t now_us)
{
    enum side debtor = session_debtor(session);
    session_charge(session, now_us);
    if (held) {
        session->flags |= SESSION_HELD;
    } else if (session->flags & SESSION_HELD) {
        session->flags &= ~(uint32_t)SESSION_HELD;
        session->held_ms = elapsed_ms(session->turn_since_us, now_us);
    }
    session_update_turn(session, SIDE_NONE, debtor, now_us);
}

void session_on_connected(struct session *session, uint64_t now_us)
{
    session_charge(session, now_us);
    enum side debtor = session_debtor(session);
    session->flags |= SESSION_CONNECTED;
    neighbours_connected(session_neighbours(session), session->connection->seat,
                         !(session->flags & SESSION_MIDSTREAM), now_us);
    dialogue_connected(&session->dialogue);
    session_update_turn(session, SIDE_NONE, debtor, now_us);
    session->turn_since_us = now_us;
    silence_ends(session, now_us);
}

void session_on_answered(struct session *session, uint64_t now_us)
{
    session_on_connected(session, now_us);
    session->flags |= SESSION_UNCONFIRMED;
}

void session_on_confirmed(struct session *session, uint64_t now_us)
{
    if ((session->flags & SESSION_UNCONFIRMED) && session->end == SESSION_END_NONE) {
        enum side debtor = session_debtor(session);
        session_charge(session, now_us);
        session->flags &= ~(uint32_t)SESSION_UNCONFIRMED;
        session_update_turn(session, SIDE_NONE, debtor, now_us);
        session->turn_since_us = now_us;
        silence_ends(session, now_us);
    }
}

/* What the server's octets may have decided. `before` is the picture from just before them. */
static void session_after_server(struct session *session, const struct session_moment *before,
                                 uint32_t mails_before)
{
    const struct dialogue *dialogue = &session->dialogue;
    if ((dialogue->flags & DIALOGUE_GREETED) && !(session->flags & SESSION_GREETED_COUNTED)) {
        session->flags |= SESSION_GREETED_COUNTED;
        neighbours_greeted(session_neighbours(session), session->connection->seat, session->ledger.until_us);
        if (session->caller->limiter != NULL && session->ticket.row != 0) {
            limiter_greeted(session->caller->limiter, &session->ticket, true);
        }
    }
    if (dialogue->mails.ok > mails_before) {
        /* A client that sends QUIT and FIN at once still listens; one that had waited has gone. */
        bool gave_up = session->end == SESSION_END_CLIENT_FIN && session->moment.owed_by == SIDE_SERVER &&
                       (uint64_t)session->moment.waited_ms * 1000 >= FACTS_STALL_US;
        bool left =
            (session->flags & SESSION_CLIENT_LEFT) && (gave_up || !(dialogue->flags & DIALOGUE_QUIT_SENT));
        if (left || (session->flags & SESSION_CLIENT_GONE)) {
            session->flags |= SESSION_DUPLICATE;
        }
    }
    if (session->end == SESSION_END_REPLY && dialogue->kept.role != DIALOGUE_REPLY_ENDED_SESSION) {
        /* It was no farewell: the session goes on, as some servers use 421 like any other 4xx. */
        session->end = SESSION_END_NONE;
        session->flags &= ~(uint32_t)(SESSION_SAMPLED_CLIENT | SESSION_SAMPLED_SERVER);
        if (session->flags & SESSION_CLIENT_LEFT) {
            session_decide_end(session, SESSION_END_CLIENT_FIN, before);
        }
    }
    if (session->end == SESSION_END_NONE && dialogue->kept.role == DIALOGUE_REPLY_ENDED_SESSION) {
        struct session_moment moment = *before;
        moment.phase = (uint8_t)dialogue->kept.phase;
        if (!moment.pushed_back) {
            moment.owed_by = (uint8_t)dialogue->kept.owed_by;
        }
        session_decide_end(session, SESSION_END_REPLY, &moment);
        session->wants |= SESSION_WANT_SAMPLE;
    }
    session_near_reply(session);
}

/* Inside TLS a server that speaks where the client was awaited most likely takes its leave, as with a 421 in clear: the
 * silence it ends is kept for the verdict. So may one that answers late, when no record of the client was as short as a
 * final dot or QUIT: perhaps it waited for the rest. When the client goes on after all, it was something else. */
static bool speaks_out_of_turn(struct session *session, enum side side, const struct session_moment *before)
{
    const struct tls_stream *tls = dialogue_tls(&session->dialogue);
    if (side == SIDE_CLIENT && (session->flags & SESSION_OUT_OF_TURN)) {
        if (tls->close_notify[side_index(SIDE_CLIENT)]) {
            return true; /* its own leave-taking */
        }
        session->flags &= ~(uint32_t)SESSION_OUT_OF_TURN;
    }
    if (side != SIDE_SERVER || !tls->established || session->end != SESSION_END_NONE) {
        return false;
    }
    if (session->flags & SESSION_OUT_OF_TURN) {
        return session->moment.owed_by == SIDE_CLIENT;
    }
    bool answers = before->owed_by == SIDE_SERVER && tls->client_last_length > SESSION_TLS_SHORT_OCTETS;
    if ((before->owed_by != SIDE_CLIENT && !answers) || before->pushed_back ||
        (uint64_t)before->waited_ms * 1000 < FACTS_WAITED_FOR_US) {
        return false;
    }
    session->flags |= SESSION_OUT_OF_TURN;
    session->moment = *before;
    session->debt_serial = answers ? session->debt_serial : session->dialogue.debt_serial;
    return !answers;
}

/* Did the server's words and the end come in one breath? */
static bool leave_was_taken(const struct session *session, enum session_end end, uint64_t now_us)
{
    bool at_once =
        session->moment.owed_by == SIDE_CLIENT || now_us < session->progress_us + FACTS_WAITED_FOR_US;
    return (session->flags & SESSION_OUT_OF_TURN) != 0 && end != SESSION_END_CLIENT_LOST && at_once;
}

static void before_octets(struct session *session, enum side side, enum side debtor, uint64_t now_us)
{
    enum phase phase = session->dialogue.phase;
    session_charge(session, now_us);
    if (side != session->silence_broken_by) {
        session->silence_broken_by = SIDE_NONE; /* the legs still carry something */
    }
    neighbours_heard(session_neighbours(session), session->connection->seat, side, now_us);
    if (side == debtor) {
        note_slowness(session, debtor, phase, now_us);
    }
}

void session_on_octets(struct session *session, enum side side, const uint8_t *octets, size_t length,
                       uint64_t now_us)
{
    session_on_confirmed(session, now_us);
    enum side debtor = session_debtor(session);
    uint32_t mails_before = session->dialogue.mails.ok;
    before_octets(session, side, debtor, now_us);
    struct session_moment before = session_picture(session, now_us);
    dialogue_consume(&session->dialogue, side, octets, length);
    if (speaks_out_of_turn(session, side, &before)) {
        return;
    }
    if (side == SIDE_SERVER) {
        session_after_server(session, &before, mails_before);
    }
    session_update_turn(session, side, debtor, now_us);
    close_when_harmless(session);
}

void session_on_skipped(struct session *session, enum side side, uint64_t length, uint64_t now_us)
{
    session_on_confirmed(session, now_us);
    enum side debtor = session_debtor(session);
    session_charge(session, now_us);
    neighbours_heard(session_neighbours(session), session->connection->seat, side, now_us);
    dialogue_skip(&session->dialogue, side, length);
    session_update_turn(session, side, debtor, now_us);
}

void session_on_passed(struct session *session, enum side side, uint64_t length, uint64_t now_us)
{
    session_on_confirmed(session, now_us);
    enum side debtor = session_debtor(session);
    before_octets(session, side, debtor, now_us);
    dialogue_pass(&session->dialogue, side, length);
    session_update_turn(session, side, debtor, now_us);
}

void session_set_rtt(struct session *session, enum side side, uint32_t rtt_us)
{
    session->rtt_us[side_index(side)] = rtt_us;
}

void session_on_pushed_back(struct session *session, enum side side, bool pushed_back, uint64_t now_us)
{
    uint32_t flag = side == SIDE_CLIENT ? SESSION_PUSHED_CLIENT : SESSION_PUSHED_SERVER;
    enum side debtor = session_debtor(session);
    session_charge(session, now_us);
    session->flags = pushed_back ? session->flags | flag : session->flags & ~flag;
    session_update_turn(session, SIDE_NONE, debtor, now_us);
}

bool session_acceptance_undelivered(const struct session *session, uint64_t at_us)
{
    if (!session->dialogue.mail_accepted_unread || session->legs == NULL) {
        return false;
    }
    return leg_undelivered(&session->legs[side_index(SIDE_CLIENT)], at_us);
}

/* An end that accuses nobody may give way to a later one that does: the last reply is still under way to the client. */
static bool end_may_give_way(const struct session *session)
{
    return (session->end == SESSION_END_SERVER_FIN || session->end == SESSION_END_SERVER_RESET) &&
           (session->dialogue.flags & (DIALOGUE_221_SEEN | DIALOGUE_QUIT_SENT)) != 0;
}

/* It does when the client's leg was lost meanwhile, or the client left without ever acknowledging the acceptance
 * (faults of the kind "250 lost towards the client"). */
static bool end_gives_way(const struct session *session, enum session_end end, uint64_t now_us)
{
    if (!end_may_give_way(session)) {
        return false;
    }
    bool client_left = end == SESSION_END_CLIENT_FIN || end == SESSION_END_CLIENT_RESET;
    return end == SESSION_END_CLIENT_LOST || (client_left && session_acceptance_undelivered(session, now_us));
}

void session_on_end(struct session *session, enum session_end end, uint64_t now_us)
{
    enum side debtor = session_debtor(session);
    session_charge(session, now_us);
    if (session->end == SESSION_END_NONE || end_gives_way(session, end, now_us)) {
        struct session_moment moment = session_picture(session, now_us);
        if (leave_was_taken(session, end, now_us)) {
            moment = session->moment;
        } else {
            session->flags &= ~(uint32_t)SESSION_OUT_OF_TURN;
        }
        session_decide_end(session, end, &moment);
        session->flags |= SESSION_SAMPLED_CLIENT | SESSION_SAMPLED_SERVER;
    }
    if (session_acceptance_undelivered(session, now_us)) {
        session->flags |= SESSION_DUPLICATE;
    }
    session_near_ended(session, end, now_us);
    switch (end) {
    case SESSION_END_CLIENT_FIN:
        session->flags |= SESSION_CLIENT_LEFT;
        break;
    case SESSION_END_SERVER_FIN:
        session->flags |= SESSION_SERVER_LEFT;
        break;
    case SESSION_END_CLIENT_LOST:
        if (session->dialogue.mail_accepted_unread) {
            session->flags |= SESSION_DUPLICATE;
        }
        session->flags |= SESSION_CLIENT_GONE | SESSION_CLIENT_LEFT;
        break;
    case SESSION_END_CLIENT_RESET:
        session->flags |= SESSION_CLIENT_GONE | SESSION_CLIENT_LEFT;
        break;
    case SESSION_END_SERVER_RESET:
    case SESSION_END_SERVER_LOST:
    case SESSION_END_CONNECT_FAILED:
        session->flags |= SESSION_SERVER_GONE | SESSION_SERVER_LEFT;
        break;
    case SESSION_END_NONE:
    case SESSION_END_REPLY:
    case SESSION_END_WITNESS:
    case SESSION_END_REFUSED:
    case SESSION_END_DRAIN:
    case SESSION_END_OVERLOAD:
    case SESSION_END_CAPTURE:
    case SESSION_END_COUNT:
        break;
    }
    session_update_turn(session, SIDE_NONE, debtor, now_us);
}

void session_set_evidence(struct session *session, enum side side, const struct leg_evidence *evidence,
                          uint64_t now_us)
{
    uint32_t sampled = side == SIDE_CLIENT ? SESSION_SAMPLED_CLIENT : SESSION_SAMPLED_SERVER;
    if (session->end != SESSION_END_NONE) {
        if ((session->flags & sampled) && !(side == SIDE_CLIENT && end_may_give_way(session))) {
            return;
        }
        session->flags |= sampled;
    }
    if (session->legs == NULL) {
        session->legs = calloc(SIDE_PAIR, sizeof *session->legs);
        if (session->legs == NULL) {
            return; /* without memory the verdict is less sure, nothing worse */
        }
    }
    bool was_stuck = leg_is_stuck(session, side);
    session_charge(session, now_us);
    session->legs[side_index(side)] = *evidence;
    /* After the end the silence that counts is the one it cut. */
    const struct session_moment *moment = &session->moment;
    bool over = session->end != SESSION_END_NONE;
    enum side debtor = over ? (enum side)moment->owed_by : session_debtor(session);
    enum phase phase = over ? (enum phase)moment->phase : session_phase(session);
    if (!was_stuck && debtor == side && leg_is_stuck(session, side) && phase != PHASE_CONNECT) {
        uint64_t silent_us =
            over ? session->connection->opened_us + (uint64_t)(moment->age_ms - moment->waited_ms) * 1000
                 : session->progress_us;
        uint64_t since_us = evidence->unacked_since_us > silent_us ? evidence->unacked_since_us : silent_us;
        if (now_us > since_us) { /* what was charged to the side itself was the network's */
            ledger_move(&session->ledger, account_of(side), network_of(side), now_us - since_us);
        }
    }
    if (evidence->rtt_us != 0) {
        session->rtt_us[side_index(side)] = evidence->rtt_us;
    }
}

uint32_t session_take_wants(struct session *session)
{
    uint32_t wants = session->wants;
    session->wants = 0;
    return wants;
}

/* Between mails a side may be silent at leisure: neither probed nor noticed, only the idle limit counts. */
static bool session_is_idle(const struct session *session)
{
    return session->dialogue.phase == PHASE_IDLE && session_debtor(session) == SIDE_CLIENT;
}

static uint64_t session_silence_limit_us(const struct session *session)
{
    if (session_is_idle(session)) {
        return session_timeouts(session)->idle_us;
    }
    return policy_silence_us(session_timeouts(session), session_phase(session));
}

static uint64_t earlier(uint64_t deadline_us, uint64_t since_us, uint64_t after_us, bool done)
{
    if (done || after_us == 0 || since_us + after_us >= deadline_us) {
        return deadline_us;
    }
    return since_us + after_us;
}

/* The silence after which the next probe is due. */
static uint64_t session_next_probe_us(const struct session *session)
{
    return (uint64_t)session->probe_after_ms * 1000
           << ((session->flags & SESSION_PROBES_MASK) >> SESSION_PROBES_BIT);
}

static void session_count_probe(struct session *session)
{
    uint32_t count = (session->flags & SESSION_PROBES_MASK) >> SESSION_PROBES_BIT;
    if (count == SESSION_PROBES_MAX) {
        session->flags |= SESSION_PROBED; /* that was the last */
        return;
    }
    session->flags = (session->flags & ~SESSION_PROBES_MASK) | (count + 1) << SESSION_PROBES_BIT;
}

/* The client has half-closed and still listens; the server has not answered with its own end. The verdict stands, but whoever
 * enforces a limit does not wait for such a server without end. */
static bool session_is_half_closed(const struct session *session)
{
    return session->end == SESSION_END_CLIENT_FIN && session_timeouts(session)->action == POLICY_ENFORCE &&
           (session->flags & (SESSION_SERVER_LEFT | SESSION_SERVER_GONE | SESSION_CLIENT_GONE)) == 0;
}

uint64_t session_deadline_us(const struct session *session)
{
    uint64_t deadline_us = SESSION_NEVER_US;
    const struct policy_timeouts *timeouts = session_timeouts(session);
    uint32_t flags = session->flags;
    if (session_is_half_closed(session)) {
        return earlier(SESSION_NEVER_US, session->progress_us, session_silence_limit_us(session),
                       (flags & SESSION_LIMITED) != 0);
    }
    if (session->end != SESSION_END_NONE && session->end != SESSION_END_REPLY) {
        return SESSION_NEVER_US;
    }
    deadline_us = earlier(deadline_us, session->connection->opened_us, timeouts->session_us,
                          (flags & SESSION_TIME_PASSED) != 0);
    deadline_us = earlier(deadline_us, session->connection->opened_us, timeouts->session_us * 2,
                          (flags & (SESSION_TIME_CLOSING | SESSION_TIME_OVERDUE)) != SESSION_TIME_CLOSING);
    if (session_debtor(session) == SIDE_NONE || session->end == SESSION_END_REPLY) {
        return deadline_us;
    }
    deadline_us = earlier(deadline_us, session->progress_us, session_silence_limit_us(session),
                          (flags & SESSION_LIMITED) != 0);
    if (!session_is_idle(session)) {
        deadline_us = earlier(deadline_us, session->progress_us, session_next_probe_us(session),
                              (flags & SESSION_PROBED) != 0);
        deadline_us = earlier(deadline_us, session->progress_us, timeouts->stall_notice_us,
                              (flags & SESSION_NOTICED) != 0);
    }
    return deadline_us;
}

static bool passed(uint64_t since_us, uint64_t after_us, uint64_t now_us)
{
    return after_us != 0 && now_us >= since_us && now_us - since_us >= after_us;
}

static void would_close(struct session *session)
{
    if (session->action == ACTION_NONE) {
        session->action = ACTION_WOULD_CLOSE;
    }
}

static void session_time_passed(struct session *session, uint64_t now_us)
{
    bool enforce = session_timeouts(session)->session_action == POLICY_ENFORCE;
    session->flags |= SESSION_TIME_PASSED;
    if (!enforce) {
        would_close(session);
        return;
    }
    session->flags |= SESSION_TIME_CLOSING;
    if (passed(session->connection->opened_us, session_timeouts(session)->session_us * 2, now_us)) {
        session->flags |= SESSION_TIME_OVERDUE;
    }
    close_when_harmless(session);
}

/* What a probe has proved of this silence stays proved; only an answer grows old. */
static bool probe_can_tell_more(const struct session *session, enum side side)
{
    if (session->legs == NULL) {
        return true;
    }
    enum probe_result known = session->legs[side_index(side)].probe;
    return known == PROBE_NONE || known == PROBE_ANSWERED;
}

/* Whom to probe: the side that owes; both where TLS hides who that is. A message has come whose last record is longer than
 * a final dot: the rest of it may be what is missing. */
static uint32_t probes_wanted(const struct session *session, enum side debtor)
{
    const struct tls_stream *tls = dialogue_tls(&session->dialogue);
    bool doubtful = tls->established && debtor == SIDE_SERVER &&
                    session->dialogue.phase == PHASE_END_OF_DATA &&
                    tls->client_last_length > SESSION_TLS_SHORT_OCTETS;
    uint32_t wants = 0;
    if ((debtor == SIDE_CLIENT || doubtful) && probe_can_tell_more(session, SIDE_CLIENT)) {
        wants |= SESSION_WANT_PROBE_CLIENT;
    }
    if (debtor == SIDE_SERVER && probe_can_tell_more(session, SIDE_SERVER)) {
        wants |= SESSION_WANT_PROBE_SERVER;
    }
    return wants;
}

void session_on_deadline(struct session *session, uint64_t now_us)
{
    const struct policy_timeouts *timeouts = session_timeouts(session);
    enum side debtor = session_debtor(session);
    session_charge(session, now_us);
    if (session_is_half_closed(session)) {
        if (!(session->flags & SESSION_LIMITED) &&
            passed(session->progress_us, session_silence_limit_us(session), now_us)) {
            session->flags |= SESSION_LIMITED;
            session->wants |= SESSION_WANT_CLOSE;
        }
        return;
    }
    if (session->end != SESSION_END_NONE && session->end != SESSION_END_REPLY) {
        return;
    }
    if ((session->flags & SESSION_TIME_CLOSING) ||
        (!(session->flags & SESSION_TIME_PASSED) &&
         passed(session->connection->opened_us, timeouts->session_us, now_us))) {
        session_time_passed(session, now_us);
    }
    if (debtor == SIDE_NONE || session->end == SESSION_END_REPLY) {
        return;
    }
    if (session->dialogue.phase == PHASE_CONNECT) {
        neighbours_unanswered(session_neighbours(session), session->connection->seat, false, now_us);
    }
    if (!session_is_idle(session)) {
        if (!(session->flags & SESSION_PROBED) &&
            passed(session->progress_us, session_next_probe_us(session), now_us)) {
            session_count_probe(session);
            session->wants = (uint8_t)(session->wants | probes_wanted(session, debtor));
        }
        if (!(session->flags & SESSION_NOTICED) &&
            passed(session->progress_us, timeouts->stall_notice_us, now_us)) {
            session->flags |= SESSION_NOTICED;
            session->wants |= SESSION_WANT_STALL_LINE | SESSION_WANT_SAMPLE;
        }
    }
    if (!(session->flags & SESSION_LIMITED) &&
        passed(session->progress_us, session_silence_limit_us(session), now_us)) {
        session->flags |= SESSION_LIMITED;
        if (timeouts->action == POLICY_ENFORCE) {
            session->wants |= SESSION_WANT_CLOSE | SESSION_WANT_SAMPLE;
        } else {
            would_close(session);
        }
    }
}

bool session_in_doubt(const struct session *session)
{
    return session->dialogue.phase == PHASE_END_OF_DATA && !(session->flags & SESSION_LIMITED);
}

uint64_t session_last_words_us(const struct session *session)
{
    const uint64_t waited_us = (uint64_t)session->moment.waited_ms * 1000; /* when one side left */

    return session->dialogue.phase == PHASE_END_OF_DATA && waited_us + LAST_WORDS_US < LAST_REPLY_US
               ? LAST_REPLY_US - waited_us
               : LAST_WORDS_US;
}

/* In the client's turn of a body a 421 is what any server would say (it stops the mail); the server leg is reset. */
static bool session_may_speak(const struct session *session)
{
    const struct dialogue *dialogue = &session->dialogue;
    if (dialogue_may_speak(dialogue)) {
        return true;
    }
    bool body = dialogue->phase == PHASE_BODY || dialogue->phase == PHASE_BDAT;
    return body && !(dialogue->flags & DIALOGUE_TLS) && !dialogue_reply_open(dialogue) &&
           !dialogue_line_open(dialogue, SIDE_SERVER) && (session->flags & SESSION_LIMITED) != 0;
}

size_t session_close_reply(const struct session *session, char *text, size_t room)
{
    if (!session_may_speak(session)) {
        return 0;
    }
    const char *why = (session->flags & SESSION_LIMITED) ? "timeout exceeded" : "session time limit exceeded";
    const char *code = (session->flags & SESSION_LIMITED) ? "4.4.2" : "4.7.0";
    int length = snprintf(text, room, "421 %s %s Error: %s\r\n", code, session->policy->host_name, why);
    return length > 0 && (size_t)length < room ? (size_t)length : 0;
}
