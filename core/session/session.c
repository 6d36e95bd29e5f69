#include "core/session/session.h"

#include <stdlib.h>
#include <string.h>

#include "core/policy/timeouts.h"
#include "core/session/session_internal.h"

/* An idle proxied session may cost 1 kB in all; the relay around this takes the rest. */
_Static_assert(sizeof(struct session) <= sizeof(struct dialogue) + 208, "a session must stay small");

#define PROBE_AFTER_MS 5000

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

void session_charge(struct session *session, uint64_t now_us)
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

static bool leg_repeats(const struct leg_evidence *leg)
{
    return leg->unacked_octets > 0 && leg->retrans_count > 0 && leg->unacked_since_us != 0;
}

/* Octets are repeated there, or were since the debtor's last word: the leg is not silent. */
static bool leg_is_busy(const struct session *session, enum side side)
{
    const struct leg_evidence *leg = session->legs != NULL ? &session->legs[side_index(side)] : NULL;
    return leg != NULL && (leg_repeats(leg) || leg->freed_us > session->progress_us);
}

/* The silence that ends now was long: a remark, whoever is to blame in the end. */
static void note_slowness(struct session *session, enum side debtor, enum phase phase, uint64_t now_us)
{
    uint64_t waited_us = now_us > session->progress_us ? now_us - session->progress_us : 0;
    if (waited_us >= FACTS_WAITED_FOR_US && !leg_is_busy(session, debtor)) {
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

void session_update_turn(struct session *session, enum side spoke, enum side debtor_before, uint64_t now_us)
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
        if (!moment.pushed_back && before->owed_by == SIDE_SERVER && dialogue->kept.owed_by == SIDE_CLIENT) {
            /* What was waited for came with it: nobody had to wait for the client yet. */
            moment.mail_open = dialogue->mail_open;
            moment.body_began = dialogue->body_octets > 0;
            moment.line_open = moment.reply_open = false;
            moment.waited_ms = moment.turn_ms = 0;
        }
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
    session_close_when_harmless(session);
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

/* What was stuck and has got through since is not in the new evidence any more. A closed window is no network's doing. */
static void leg_replace(struct leg_evidence *leg, const struct leg_evidence *evidence, uint64_t now_us)
{
    const bool freed = leg_repeats(leg) && !(leg->flags & LEG_WINDOW_ZERO) &&
                       (evidence->unacked_octets == 0 || evidence->unacked_since_us == 0 ||
                        evidence->unacked_since_us > leg->unacked_since_us);
    const uint64_t since_us = freed ? leg->unacked_since_us : leg->stuck_since_us;
    const uint64_t freed_us = freed ? now_us : leg->freed_us;
    *leg = *evidence;
    leg->stuck_since_us = since_us;
    leg->freed_us = freed_us;
}

void session_set_evidence(struct session *session, enum side side, const struct leg_evidence *evidence,
                          uint64_t now_us)
{
    uint32_t sampled = side == SIDE_CLIENT ? SESSION_SAMPLED_CLIENT : SESSION_SAMPLED_SERVER;
    if (session->end != SESSION_END_NONE) {
        if ((session->flags & sampled) && !(side == SIDE_CLIENT && session_end_may_give_way(session))) {
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
    leg_replace(&session->legs[side_index(side)], evidence, now_us);
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
