/* What a session tells its neighbours (core/policy/neighbours) and what they show about it. */
#include <string.h>

#include "core/session/session_internal.h"
#include "core/smtp/reply_limit.h"

/* The end is decided: the receipt of a connection that was never let in is taken at this instant. */
void session_near_end(struct session *session, enum session_end end)
{
    struct neighbours *neighbours = session_neighbours(session);
    bool unheard = session->dialogue.octets[side_index(SIDE_SERVER)] == 0 &&
                   (end == SESSION_END_SERVER_FIN || end == SESSION_END_SERVER_RESET);
    enum connect_result connect =
        session->legs != NULL ? session->legs[side_index(SIDE_SERVER)].connect : CONNECT_PENDING;
    if (session->moment.phase == PHASE_CONNECT && (session->flags & SESSION_HELD) == 0 &&
        (connect == CONNECT_TIMED_OUT || connect == CONNECT_PENDING) &&
        (uint64_t)session->moment.waited_ms * 1000 >= FACTS_STALL_US) {
        neighbours_unanswered(neighbours, session->connection->seat, false, session->ledger.until_us);
    }
    if (end == SESSION_END_CONNECT_FAILED || unheard) {
        (void)neighbours_take_receipt(neighbours, session->connection->seat, session->ledger.until_us);
    }
}

/* Any end, the first or a later one: what does the server still have open? */
void session_near_ended(struct session *session, enum session_end end, uint64_t now_us)
{
    switch (end) {
    case SESSION_END_SERVER_FIN:
    case SESSION_END_SERVER_RESET:
    case SESSION_END_CLIENT_RESET:
    case SESSION_END_SERVER_LOST:
    case SESSION_END_CONNECT_FAILED:
    case SESSION_END_WITNESS:
    case SESSION_END_REFUSED:
    case SESSION_END_OVERLOAD:
        neighbours_gone(session_neighbours(session), session->connection->seat, now_us);
        break;
    case SESSION_END_CLIENT_FIN:
    case SESSION_END_CLIENT_LOST:
        neighbours_closing(session_neighbours(session), session->connection->seat);
        break;
    case SESSION_END_NONE:
    case SESSION_END_REPLY:
    case SESSION_END_DRAIN:
    case SESSION_END_CAPTURE:
    case SESSION_END_COUNT:
        break;
    }
}

static bool class_counts_connections(enum reply_class class)
{
    return class == REPLY_CLASS_PER_SOURCE_LIMIT || class == REPLY_CLASS_PER_SOURCE_RATE ||
           class == REPLY_CLASS_OVERLOAD || class == REPLY_CLASS_CONNECTION_LIMIT_OR_LOAD;
}

/* A reply that refuses for a limit or a load: what had this source open at this instant? */
void session_near_reply(struct session *session)
{
    const struct dialogue_kept_reply *kept = &session->dialogue.kept;
    if (kept->role != DIALOGUE_REPLY_NONE && class_counts_connections(kept->class)) {
        (void)neighbours_take_receipt(session_neighbours(session), session->connection->seat,
                                      session->ledger.until_us);
    }
}

/* Fewer crossed here than the server allows, by its own words or by what it has taken before. */
static bool limit_is_unexplained(const struct session *session, uint32_t limit_said)
{
    const struct neighbours_receipt *receipt =
        neighbours_receipt(session_neighbours(session), session->connection->seat);
    uint32_t most = session->counts.concurrent;
    if (receipt != NULL) {
        most = receipt->peak_recent > most ? receipt->peak_recent : most;
    }
    if (limit_said != 0) {
        return most < limit_said;
    }
    if (receipt != NULL && receipt->admitted_peak > most) {
        return true;
    }
    return session->counts.greeted == 0 && most <= 1;
}

void session_near_facts(const struct session *session, uint64_t at_us, struct facts *facts)
{
    struct neighbours *neighbours = session_neighbours(session);
    const struct leg_evidence *leg = facts->suspect_leg;
    if (facts->phase == PHASE_CONNECT && !(session->flags & SESSION_CONNECTED)) {
        uint32_t repeated = facts->server_leg != NULL ? facts->server_leg->retrans_count : 0;
        facts->near = neighbours_of_connect(neighbours, session->connection->seat, repeated, at_us);
    } else if ((facts->bits & FACT_UNDELIVERED) && leg != NULL && leg->unacked_since_us != 0) {
        facts->near =
            neighbours_of_leg(neighbours, session->connection->seat, facts->suspect, leg->unacked_since_us);
    }
    if (facts->reply_class == REPLY_CLASS_PER_SOURCE_LIMIT && (facts->bits & FACT_REPLY_DECIDES)) {
        facts->limit_said = reply_text_limit(session->dialogue.kept.text);
        facts->near |= limit_is_unexplained(session, facts->limit_said) ? (uint32_t)NEAR_UNEXPLAINED : 0;
    }
}
