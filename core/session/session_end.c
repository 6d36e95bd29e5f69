/* The end: which one decides, what it means for the mail, and how long last words are waited for. */
#include "core/session/session_internal.h"

#define LAST_WORDS_US UINT64_C(120000000)
#define LAST_REPLY_US UINT64_C(600000000)

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

void session_decide_end(struct session *session, enum session_end end, const struct session_moment *moment)
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

/* Did the server's words and the end come in one breath? */
static bool leave_was_taken(const struct session *session, enum session_end end, uint64_t now_us)
{
    bool at_once =
        session->moment.owed_by == SIDE_CLIENT || now_us < session->progress_us + FACTS_WAITED_FOR_US;
    return (session->flags & SESSION_OUT_OF_TURN) != 0 && end != SESSION_END_CLIENT_LOST && at_once;
}

bool session_acceptance_undelivered(const struct session *session, uint64_t at_us)
{
    if (!session->dialogue.mail_accepted_unread || session->legs == NULL) {
        return false;
    }
    return leg_undelivered(&session->legs[side_index(SIDE_CLIENT)], at_us);
}

bool session_end_may_give_way(const struct session *session)
{
    return (session->end == SESSION_END_SERVER_FIN || session->end == SESSION_END_SERVER_RESET) &&
           (session->dialogue.flags & (DIALOGUE_221_SEEN | DIALOGUE_QUIT_SENT)) != 0;
}

/* It does when the client's leg was lost meanwhile, or the client left without ever acknowledging the acceptance
 * (faults of the kind "250 lost towards the client"). */
static bool end_gives_way(const struct session *session, enum session_end end, uint64_t now_us)
{
    if (!session_end_may_give_way(session)) {
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
