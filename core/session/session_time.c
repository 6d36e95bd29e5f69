/* Time: when a silence is probed, noticed or too long, when the session is, and what is said then. */
#include <stdio.h>

#include "core/session/session_internal.h"

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

void session_close_when_harmless(struct session *session)
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
    session_close_when_harmless(session);
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
