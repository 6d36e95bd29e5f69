/* From a session to the facts the rules of attribution ask. */
#include "core/session/session_internal.h"

#include <string.h>

#include "core/policy/timeouts.h"

/* A 221 is short: "221 2.0.0 server.test closing connection", 44 octets, and TLS 1.3's overhead. */
#define TLS_FAREWELL_RECORD_OCTETS 61

#define FREED_US       3000000 /* sooner after it is free again nobody has made up for what was stuck so long */
#define LOSSY_DOUBT_US 60000000 /* for longer, five or six repetitions (RFC 6298) would all have to be lost */

bool leg_undelivered(const struct leg_evidence *leg, uint64_t at_us)
{
    if (leg == NULL) {
        return false;
    }
    if (leg->flags & LEG_TIMED_OUT) {
        return true;
    }
    return leg->unacked_octets > 0 && leg->retrans_count > 0 && leg->unacked_since_us != 0 &&
           at_us > leg->unacked_since_us && at_us - leg->unacked_since_us >= UNDELIVERED_US;
}

/* It was stuck for most of the time that was waited, and got through no sooner than the end came: with the last word of
 * who had waited, or just before it. */
static bool leg_was_out(const struct leg_evidence *leg, uint64_t waited_us, uint64_t at_us)
{
    uint64_t stuck_us = leg->freed_us - leg->stuck_since_us;
    return leg->freed_us != 0 && at_us < leg->freed_us + FREED_US && stuck_us >= FACTS_WAITED_FOR_US &&
           stuck_us >= waited_us / 2;
}

/* What is said at the end itself, such as a 421, cannot have been acknowledged yet. */
static bool leg_acknowledged(const struct leg_evidence *leg, uint64_t end_us)
{
    bool looked_at = leg->connect == CONNECT_ESTABLISHED || leg->probe != PROBE_NONE;
    return looked_at && (leg->unacked_octets == 0 || leg->unacked_since_us >= end_us);
}

/* On a leg that loses one segment in ten an answer tells of its own moment only: what the side said next may be among
 * the lost, for a while. */
static bool leg_is_doubtful(const struct leg_evidence *leg, uint64_t waited_us)
{
    return leg->retrans_count >= 2 && leg->retrans_count >= leg->sent_segments / 10 &&
           waited_us < LOSSY_DOUBT_US;
}

static uint64_t leg_bits(const struct leg_evidence *leg, uint64_t waited_us, uint64_t at_us)
{
    uint64_t bits = 0;
    if (leg == NULL) {
        return 0;
    }
    bits |= leg_undelivered(leg, at_us) ? FACT_UNDELIVERED : 0;
    bits |= (leg->flags & LEG_ONLY_BIG_LOST) ? FACT_ONLY_BIG_LOST : 0;
    bits |= (leg->flags & LEG_WINDOW_ZERO) ? FACT_WINDOW_ZERO : 0;
    bits |= (leg->flags & LEG_HEARD) && !(leg->flags & LEG_BIG_DOUBTED) ? FACT_HEARD : 0;
    bits |= (leg->flags & LEG_UNREACHABLE) ? FACT_UNREACHABLE : 0;
    bits |= (leg->flags & LEG_ICMP_UNDIVERTED) ? FACT_ICMP_UNDIVERTED : 0;
    bits |= (leg->flags & LEG_TAPPED) && !leg_is_doubtful(leg, waited_us) ? FACT_TAPPED : 0;
    bits |= (leg->flags & LEG_SYN_ACK_REPEATED) ? FACT_SYN_ACK_REPEATED : 0;
    bits |= leg->probe == PROBE_ANSWERED ? FACT_PROBE_ANSWERED : 0;
    /* A closed window is probed by the sender itself; when nobody answers that any more the host is gone, too. */
    bool window_unprobed =
        (leg->flags & LEG_WINDOW_ZERO) && leg->probes_unanswered >= FACTS_PROBES_UNANSWERED;
    bits |= leg->probe == PROBE_UNANSWERED || window_unprobed ? FACT_PROBE_UNANSWERED : 0;
    if (leg->probe == PROBE_REVEALED) {
        bits |= FACT_REVEALED | (leg->revealed_octets >= FACTS_BIG_OCTETS ? FACT_REVEALED_BIG : 0);
    }
    return bits;
}

static uint64_t dialogue_bits(const struct dialogue *dialogue)
{
    static const struct {
        uint32_t flag;
        uint64_t fact;
    } map[] = {
        {DIALOGUE_GREETED, FACT_GREETED},
        {DIALOGUE_EARLY_TALK, FACT_EARLY_TALK},
        {DIALOGUE_PIPECONNECT_OFFERED, FACT_EARLY_LAWFUL},
        {DIALOGUE_PROXY_LINE, FACT_EARLY_LAWFUL},
        {DIALOGUE_VERB_MASKED, FACT_VERB_MASKED},
        {DIALOGUE_CAPABILITY_MASKED, FACT_CAPABILITY_MASKED},
        {DIALOGUE_BANNER_MASKED, FACT_BANNER_MASKED},
        {DIALOGUE_BODY_REFUSED, FACT_BODY_REFUSED},
        {DIALOGUE_LONG_COMMAND, FACT_LONG_COMMAND},
        {DIALOGUE_PIX_DOT, FACT_SPLIT_DOT},
        {DIALOGUE_BARE_DOT, FACT_BARE_DOT},
        {DIALOGUE_NOT_SMTP, FACT_NOT_SMTP},
        {DIALOGUE_TLS, FACT_TLS},
        {DIALOGUE_GAP, FACT_OBSERVER_GAP},
    };
    uint64_t bits = 0;
    for (size_t i = 0; i < sizeof map / sizeof map[0]; i++) {
        bits |= (dialogue->flags & map[i].flag) ? map[i].fact : 0;
    }
    bits |= dialogue->octets[side_index(SIDE_CLIENT)] == 0 ? FACT_NO_CLIENT_OCTETS : 0;
    bits |= dialogue->octets[side_index(SIDE_SERVER)] == 0 ? FACT_NO_SERVER_OCTETS : 0;
    bits |= dialogue->mails.total == 0 ? FACT_NO_MAIL : 0;
    bits |= dialogue->mails.ok > 0 ? FACT_MAIL_ACCEPTED : 0;
    bits |= dialogue->errors > 0 ? FACT_ERRORS_BEFORE : 0;
    return bits;
}

/* The client had waited for the server in vain before it left; what was answered later it did not wait for. */
static bool client_gave_up(const struct session *session, const struct session_moment *moment)
{
    return (session->end == SESSION_END_CLIENT_FIN || session->end == SESSION_END_CLIENT_RESET) &&
           moment->owed_by == SIDE_SERVER && moment->phase != PHASE_QUIT &&
           (uint64_t)moment->waited_ms * 1000 >= FACTS_STALL_US;
}

/* A 421 in answer to QUIT, or behind its 221: the client had said all it wanted. */
static bool reply_is_farewell(const struct session *session)
{
    const struct dialogue_kept_reply *kept = &session->dialogue.kept;
    return kept->role == DIALOGUE_REPLY_ENDED_SESSION &&
           (kept->phase == PHASE_QUIT ||
            (kept->phase == PHASE_CLOSED && (session->dialogue.flags & DIALOGUE_221_SEEN) != 0));
}

static bool session_was_orderly(const struct session *session, const struct session_moment *moment)
{
    const struct dialogue *dialogue = &session->dialogue;
    if (reply_is_farewell(session)) {
        return true;
    }
    if (dialogue->kept.role == DIALOGUE_REPLY_ENDED_SESSION || client_gave_up(session, moment)) {
        return false;
    }
    if (dialogue->flags & DIALOGUE_221_SEEN) {
        return true;
    }
    if (dialogue->phase == PHASE_BODY || dialogue->phase == PHASE_BDAT ||
        dialogue->phase == PHASE_END_OF_DATA) {
        return false;
    }
    enum verb oldest = dialogue_oldest_verb(dialogue);
    return (dialogue->flags & DIALOGUE_QUIT_SENT) && (oldest == VERB_QUIT || oldest == VERB_NONE);
}

/* Inside TLS the one who said first that it is leaving has ended the session, whoever's FIN came first. */
static enum session_end session_said_end(const struct session *session)
{
    bool client_closed = session->end == SESSION_END_CLIENT_FIN || session->end == SESSION_END_CLIENT_RESET;
    return client_closed && dialogue_tls(&session->dialogue)->first_bye == SIDE_SERVER
               ? SESSION_END_SERVER_FIN
               : session->end;
}

static uint64_t tls_bits(const struct session *session, enum session_end end)
{
    const struct dialogue *dialogue = &session->dialogue;
    const struct tls_stream *tls = dialogue_tls(dialogue);
    uint64_t bits = 0;
    if (!(dialogue->flags & DIALOGUE_TLS)) {
        return 0;
    }
    bool by_server = end == SESSION_END_SERVER_FIN || end == SESSION_END_SERVER_RESET;
    bool by_client = end == SESSION_END_CLIENT_FIN || end == SESSION_END_CLIENT_RESET;
    if (tls->alert_level == 2 && !tls->established) {
        bits |= tls->alert_from == SIDE_CLIENT ? FACT_ALERT_BY_CLIENT : FACT_ALERT_BY_SERVER;
    }
    if (tls->established) {
        bits |= FACT_TLS_INFERRED;
        /* The final dot and QUIT often share a record with the end of the message: then a whole mail has passed,
         * EHLO, envelope and body, and everything was answered. */
        bool quit_sized = tls->client_last_length > 0 && tls->client_last_length <= SESSION_TLS_SHORT_OCTETS;
        bool mail_passed = tls->commands >= 2 && (tls->bulk_octets > 0 || tls->replies >= 3);
        /* With PIPELINING and BDAT envelope, message and QUIT may share one record. */
        mail_passed = mail_passed || (tls->bulk_octets > 0 && tls->replies >= 3);
        bool answered = tls->replies > 0 && tls->owed_by != SIDE_SERVER && !tls->body_inferred;
        /* Not every client waits for the 221: a record of QUIT's size behind a mail, and gone at once. */
        bool unanswered_quit = tls->replies > 0 && tls->owed_by == SIDE_SERVER &&
                               tls->phase == PHASE_OPAQUE && quit_sized &&
                               (tls->commands >= 4 || tls->bulk_octets > 0);
        bits |= unanswered_quit && !by_server ? FACT_TLS_QUIT_LIKELY : 0;
        /* DATA has the size of QUIT, and RCPT that of no message. Without a body before it, an answer behind which the
         * server closes is a refusal, unless it answers QUIT: then it is short. */
        bool in_envelope = (by_server || by_client) && tls->bulk_octets == 0 &&
                           tls->client_last_length <= TLS_COMMAND_RECORD_OCTETS;
        bool perhaps_data =
            by_server && in_envelope && quit_sized && tls->commands >= 4 && !tls->message_seen;
        bool doubtful = (in_envelope && !quit_sized && tls->commands >= 2) ||
                        (perhaps_data && tls->server_last_reply_length > TLS_FAREWELL_RECORD_OCTETS);
        bits |= quit_sized && !perhaps_data ? FACT_TLS_QUIT_SIZED : 0;
        bits |=
            answered && !doubtful && ((quit_sized && tls->commands > 1) || mail_passed || tls->commands > 2)
                ? FACT_TLS_QUIT_LIKELY
                : 0;
        bits |= doubtful && answered ? FACT_TLS_REPLY_THEN_CLOSE : 0;
    }
    if (by_server && tls->close_notify[side_index(SIDE_SERVER)]) {
        bits |= FACT_TLS_CLOSE_NOTIFY | (tls->replies > 0 ? FACT_TLS_REPLY_THEN_CLOSE : 0);
    }
    if (by_client && tls->close_notify[side_index(SIDE_CLIENT)]) {
        bits |= FACT_TLS_CLOSE_NOTIFY;
    }
    return bits;
}

static uint64_t reset_bits(const struct session *session)
{
    if (session->legs == NULL) {
        return 0;
    }
    enum side ender = session->end == SESSION_END_CLIENT_RESET ? SIDE_CLIENT : SIDE_SERVER;
    if (session->end != SESSION_END_CLIENT_RESET && session->end != SESSION_END_SERVER_RESET &&
        session->end != SESSION_END_CONNECT_FAILED) {
        return 0;
    }
    const struct leg_evidence *leg = &session->legs[side_index(ender)];
    uint64_t bits = (leg->flags & LEG_RESET_FOREIGN) ? FACT_RESET_FOREIGN : 0;
    bits |= (leg->flags & LEG_RESET_FITS) ? FACT_RESET_FITS : 0;
    /* What answers a segment for which there is no connection (RFC 9293 3.10.7.1). Where the RST itself was not seen,
     * octets under way to the client, or our probe, may have called it forth. */
    bool called = (leg->flags & LEG_RESET_ANSWERS) != 0 ||
                  (!(leg->flags & LEG_RESET_OWN) && (leg->unacked_octets > 0 || leg->probe == PROBE_SENT));
    bits |= ender == SIDE_CLIENT && called && !(leg->flags & LEG_RESET_FOREIGN) ? FACT_RESET_ANSWERS : 0;
    bits |= (leg->flags & LEG_ICMP_FOREIGN) ? FACT_ICMP_FOREIGN : 0;
    return bits;
}

/* A reply that refused something is no reason any more once TLS hides what followed, another mail found a recipient,
 * or we missed something that may have been an acceptance. */
static bool reply_is_history(const struct dialogue *dialogue, const struct session_moment *moment)
{
    enum verb verb = dialogue->kept.verb;
    bool of_this_mail =
        verb == VERB_DATA || verb == VERB_BDAT || verb == VERB_BDAT_LAST || verb == VERB_END_OF_DATA;
    bool only_starttls = verb == VERB_STARTTLS && dialogue->errors == 1; /* which by itself refuses no mail */
    bool all_taken = dialogue->mails.ok == dialogue->mails.total;
    bool of_older = dialogue->kept.mail != (uint8_t)dialogue->mails.total;
    return (dialogue->flags & (DIALOGUE_TLS | DIALOGUE_GAP)) != 0 || only_starttls ||
           (of_older && (moment->mail_open || all_taken)) ||
           (moment->mail_open && dialogue->rcpts_accepted > 0 && !of_this_mail);
}

/* A 421 that says no more than RFC 5321 4.2.2 offers for any reason. */
static bool reply_is_formal(const struct dialogue_kept_reply *kept)
{
    static const char *const forms[] = {"service not available", "service unavailable"};
    bool formal = false;
    for (size_t i = 0; kept->text != NULL && i < sizeof forms / sizeof forms[0]; i++) {
        formal = formal || strcasestr(kept->text, forms[i]) != NULL;
    }
    return formal;
}

/* Does a failing reply, rather than the way the connection ended, tell what happened? */
static uint64_t reply_bits(const struct session *session, const struct session_moment *moment,
                           struct facts *facts)
{
    const struct dialogue *dialogue = &session->dialogue;
    const struct dialogue_kept_reply *kept = &dialogue->kept;
    uint64_t bits = 0;
    if (session->end == SESSION_END_REPLY && !reply_is_farewell(session)) {
        facts->reply_class = kept->class;
        facts->reply_code = kept->code;
        bits |= FACT_REPLY_DECIDES;
        bool vague = kept->class == REPLY_CLASS_NONE || kept->class == REPLY_CLASS_CONNECTION_LIMIT_OR_LOAD ||
                     kept->class == REPLY_CLASS_OTHER ||
                     (kept->class == REPLY_CLASS_SHUTDOWN && reply_is_formal(kept));
        bool awaited = moment->owed_by == SIDE_CLIENT && facts->waited_us >= FACTS_WAITED_FOR_US;
        bits |= kept->class == REPLY_CLASS_TIMEOUT || (vague && awaited) ? FACT_SERVER_TIRED : 0;
        bits |= vague && awaited ? FACT_TIRED_GUESSED : 0;
        return bits;
    }
    if (kept->role == DIALOGUE_REPLY_ENDED_MAIL && !reply_is_history(dialogue, moment)) {
        facts->reply_class = kept->class;
        facts->reply_code = kept->code;
        bool over = session->end != SESSION_END_NONE && session->end != SESSION_END_WITNESS &&
                    session->end != SESSION_END_CLIENT_LOST && session->end != SESSION_END_SERVER_LOST &&
                    session->end != SESSION_END_DRAIN;
        bool in_body =
            moment->phase == PHASE_BODY || moment->phase == PHASE_BDAT || moment->phase == PHASE_END_OF_DATA;
        bool nothing_open =
            !in_body && (moment->owed_by != SIDE_SERVER || session_was_orderly(session, moment));
        /* A size limit said in the middle of the body counts even when the client never reads it. */
        bool said_in_body = kept->class == REPLY_CLASS_SIZE;
        bits |= over && (nothing_open || said_in_body) ? FACT_REPLY_DECIDES : 0;
    }
    return bits;
}

/* The silence was preceded by one long enough for a stateful box to forget the connection, and nothing came since. */
static uint64_t pause_bits(const struct session *session)
{
    if (session->silence_broken_by == SIDE_NONE) {
        return 0;
    }
    return FACT_AFTER_PAUSE | (session->silence_was_long ? FACT_AFTER_LONG_IDLE : 0);
}

/* How long the client's octets have been on their way: as long as bodies ran here, or, where we buffer them, as long
 * as the server leg was busy with them. */
static uint64_t sending_us(const struct session *session)
{
    uint64_t busy_us = 0;
    if (session->caller->mode == RECORD_PROXY && session->legs != NULL) {
        busy_us = (uint64_t)session->legs[side_index(SIDE_SERVER)].busy_ms * 1000;
    }
    return session->body_us > busy_us ? session->body_us : busy_us;
}

enum bottleneck session_bottleneck(const struct session *session)
{
    const struct leg_evidence *legs = session->legs;
    uint64_t us = sending_us(session);
    return legs == NULL || us < FACTS_SLOW_US
               ? BOTTLENECK_UNKNOWN
               : bottleneck_find(&legs[side_index(SIDE_CLIENT)], &legs[side_index(SIDE_SERVER)],
                                 session->dialogue.octets[side_index(SIDE_CLIENT)], us);
}

static enum box_sign box_of(const struct leg_evidence *leg)
{
    return (leg->flags & LEG_WINDOW_TINY)      ? BOX_SIGN_UNSCALED
           : (leg->flags & LEG_SACK_FOREIGN)   ? BOX_SIGN_SEQUENCE
           : (leg->flags & LEG_WINDOW_TRACKED) ? BOX_SIGN_TRACKED
                                               : BOX_SIGN_NONE;
}

/* Is a body on its way at that moment, without a pause, and far too slowly? In the witness's own buffers it may still
 * be when the client is done with it. */
static bool body_flows(const struct session *session, const struct facts *facts, uint64_t at_us)
{
    const struct leg_evidence *server_leg = facts->server_leg;
    uint64_t us = sending_us(session);
    uint64_t octets = session->dialogue.octets[side_index(SIDE_CLIENT)];
    uint64_t here = server_leg != NULL ? (uint64_t)server_leg->unsent_octets + server_leg->unacked_octets : 0;
    octets -= here < octets ? here : octets; /* what the server has not got has not come */
    bool under_way = server_leg != NULL && server_leg->unsent_octets > 0;
    bool in_body = facts->phase == PHASE_BODY || facts->phase == PHASE_BDAT ||
                   (facts->phase == PHASE_OPAQUE && under_way) ||
                   (facts->phase == PHASE_END_OF_DATA && under_way);
    bool moved = facts->waited_us < FACTS_WAITED_FOR_US ||
                 (under_way && at_us < server_leg->unacked_since_us + FACTS_WAITED_FOR_US);
    /* The final dot has come here and is still on its way: nobody can answer it yet, however fast the rest was. */
    bool dot_under_way = facts->phase == PHASE_END_OF_DATA && under_way;
    return in_body && moved && !leg_undelivered(server_leg, at_us) && us >= FACTS_SLOW_US &&
           (dot_under_way || octets / (us / 1000000) < FACTS_SLOW_OCTETS);
}

/* Replies that came later and later by the server's own doing: where its leg loses, they were repeated. */
static bool session_is_tarpitted(const struct session *session)
{
    const struct leg_evidence *legs = session->legs;
    bool lossy =
        legs != NULL && (legs[side_index(SIDE_SERVER)].flags & (LEG_LOSS_BEFORE_US | LEG_LOSS_AFTER_US)) != 0;
    return session->late_count >= FACTS_TARPIT_COUNT && !lossy;
}

/* The server said something where the client was awaited, and one of them closed: a 421, as good as surely. */
static bool session_took_leave_inside_tls(const struct session *session)
{
    return (session->flags & SESSION_OUT_OF_TURN) != 0 &&
           (session->end == SESSION_END_SERVER_FIN || session->end == SESSION_END_CLIENT_FIN ||
            session->end == SESSION_END_SERVER_RESET);
}

/* Picked up in the middle, and no exchange has shown since that commands and replies are told apart right: replies to
 * commands from before may still be due. */
static bool session_is_out_of_step(const struct session *session)
{
    const struct dialogue *dialogue = &session->dialogue;
    const struct tls_stream *tls = dialogue_tls(dialogue);
    bool exchanged = dialogue->commands.ok > 0 || dialogue->errors > 0 ||
                     (tls->established && tls->commands > 0 && tls->replies > 1);
    return (session->flags & SESSION_MIDSTREAM) != 0 && !exchanged;
}

void session_facts(const struct session *session, uint64_t now_us, struct facts *facts)
{
    bool live = session->end == SESSION_END_NONE;
    struct session_moment moment = live ? session_picture(session, now_us) : session->moment;
    uint64_t at_us = session->connection->opened_us + (uint64_t)moment.age_ms * 1000 + 999;
    const struct dialogue *dialogue = &session->dialogue;
    const struct leg_evidence *legs = session->legs;
    memset(facts, 0, sizeof *facts);
    bool farewell = session_took_leave_inside_tls(session);
    facts->end = farewell ? SESSION_END_REPLY : session_said_end(session);
    facts->phase = (enum phase)moment.phase;
    facts->suspect = (enum side)moment.owed_by;
    facts->waited_us = (uint64_t)moment.waited_ms * 1000;
    facts->age_us = (uint64_t)moment.age_ms * 1000;
    facts->alert = dialogue_tls(dialogue)->alert_description;
    facts->concurrent = session->counts.concurrent;
    facts->concurrent_limit = session->counts.greeted;
    facts->connect = legs != NULL ? legs[side_index(SIDE_SERVER)].connect : CONNECT_PENDING;
    facts->client_leg = legs != NULL ? &legs[side_index(SIDE_CLIENT)] : NULL;
    facts->server_leg = legs != NULL ? &legs[side_index(SIDE_SERVER)] : NULL;

    if (session->end == SESSION_END_CLIENT_LOST) {
        facts->suspect = SIDE_CLIENT;
    } else if (session->end == SESSION_END_SERVER_LOST || session->end == SESSION_END_CONNECT_FAILED) {
        facts->suspect = SIDE_SERVER;
    }
    bool acceptance_lost = session_acceptance_undelivered(session, at_us);
    if (acceptance_lost && facts->suspect == SIDE_NONE) {
        facts->suspect = SIDE_CLIENT;
    }
    if (facts->suspect == SIDE_NONE && dialogue_tls(dialogue)->established &&
        leg_undelivered(facts->server_leg, at_us)) {
        facts->suspect = SIDE_SERVER; /* what it answered cannot have been all of it */
    }
    uint64_t bits = dialogue_bits(dialogue) | tls_bits(session, facts->end) | reset_bits(session);
    bits |= body_flows(session, facts, at_us) ? FACT_FLOWING : 0;
    if (legs != NULL) {
        facts->bottleneck = session_bottleneck(session);
    }
    if (legs != NULL && facts->suspect != SIDE_NONE) {
        const struct leg_evidence *other = &legs[side_index(side_other(facts->suspect))];
        const struct leg_evidence *own = &legs[side_index(facts->suspect)];
        /* It took its leave, and whom it had waited for is not sure; or it has not got all, and who would repeat the rest
         * is not there: the leg that is known to have failed. */
        bool client_failed = other->probe == PROBE_UNANSWERED || other->probe == PROBE_REVEALED;
        bool starved = own->unacked_octets > 0 && !leg_undelivered(own, at_us);
        if ((farewell || starved) && facts->suspect == SIDE_SERVER && client_failed) {
            facts->suspect = SIDE_CLIENT;
            own = other;
            other = &legs[side_index(SIDE_SERVER)];
        }
        /* What the suspect said never arrived at the other side: the turn belongs to that leg. */
        bool open = moment.mail_open || facts->suspect == SIDE_SERVER;
        bool own_failed = leg_undelivered(own, at_us) || (open && leg_was_out(own, facts->waited_us, at_us));
        bool other_failed =
            leg_undelivered(other, at_us) || (open && leg_was_out(other, facts->waited_us, at_us));
        if (other_failed && !own_failed) {
            facts->suspect = side_other(facts->suspect);
            own = other;
        }
        /* A body that crawls: whose turn it is tells nothing, on which leg it crawls does. */
        if ((bits & FACT_FLOWING) && box_of(own) == BOX_SIGN_NONE && box_of(other) != BOX_SIGN_NONE) {
            facts->suspect = side_other(facts->suspect);
            own = other;
        }
        facts->suspect_leg = own;
        facts->box = box_of(own);
        facts->closed_us = (uint64_t)own->window_limited_ms * 1000;
        bits |= leg_acknowledged(own, session->connection->opened_us + (uint64_t)moment.age_ms * 1000)
                    ? FACT_ACKNOWLEDGED
                    : 0;
        bits |= leg_bits(own, facts->waited_us, at_us);
        bits |= own_failed || other_failed ? FACT_UNDELIVERED : 0;
        bits &= own_failed || other_failed ? ~FACT_FLOWING : ~UINT64_C(0);
        bits |=
            facts->end == SESSION_END_SERVER_FIN && facts->suspect == SIDE_SERVER && own->unacked_octets > 0
                ? FACT_CROSSED
                : 0;
        bits |= (own->flags & LEG_GAP) || (other->flags & LEG_GAP) ? FACT_OBSERVER_GAP : 0;
        bits |= (own->flags & LEG_ONE_WAY) || (other->flags & LEG_ONE_WAY) ? FACT_ONE_WAY : 0;
    }
    bool failed = (bits & (FACT_UNDELIVERED | FACT_REVEALED | FACT_PROBE_UNANSWERED)) != 0;
    bits |= session_is_out_of_step(session) && !failed ? FACT_OBSERVER_GAP : 0;
    facts->patience_us = rfc5321_patience_us(facts->phase, facts->suspect);
    bits |= facts->suspect == SIDE_CLIENT ? FACT_OWED_CLIENT : 0;
    bits |= facts->suspect == SIDE_SERVER ? FACT_OWED_SERVER : 0;
    bool limited = (session->flags & SESSION_LIMITED) != 0;
    bits |= facts->waited_us >= FACTS_STALL_US || limited ? FACT_STALLED : 0;
    bits |= facts->patience_us != 0 && facts->waited_us >= FACTS_RFC_LEAST_US(facts->patience_us)
                ? FACT_PAST_RFC
                : 0;
    bits |= moment.line_open ? FACT_LINE_OPEN : 0;
    bits |= moment.reply_open ? FACT_REPLY_OPEN : 0;
    bits |= moment.body_began ? FACT_BODY_BEGAN : 0;
    bits |= moment.mail_open ? FACT_MAIL_OPEN : 0;
    bits |= moment.body_doubtful && facts->suspect == SIDE_CLIENT ? FACT_OBSERVER_GAP : 0;
    bool between = facts->phase == PHASE_IDLE || (facts->phase == PHASE_MAIL && dialogue->mails.total > 0);
    /* Inside TLS: a message was answered, and since then nothing, or no more than the beginning of the next. */
    const struct tls_stream *tls = dialogue_tls(dialogue);
    between =
        between || (facts->phase == PHASE_OPAQUE && (bits & FACT_TLS_INFERRED) && tls->bulk_octets > 0 &&
                    !tls->body_inferred && facts->waited_us >= FACTS_WAITED_FOR_US);
    bits |= between && moment.owed_by == SIDE_CLIENT && !moment.mail_open ? FACT_IDLE : 0;
    bits |= session_was_orderly(session, &moment) && !acceptance_lost ? FACT_ORDERLY : 0;
    bits |= (session->flags & SESSION_HELD) ? FACT_HELD : 0;
    bits |= session_is_tarpitted(session) ? FACT_TARPIT : 0;
    bits |= (session->flags & SESSION_MIDSTREAM) ? FACT_MIDSTREAM : 0;
    /* A 354, or any good answer to what we saw, shows where it stands; but what is no command may be a body's line. */
    const enum verb oldest = dialogue_oldest_verb(dialogue);
    const bool answered = dialogue->commands.ok > 0 || dialogue->mails.ok > 0 || dialogue->last_code == 354;
    facts->blind = (session->flags & SESSION_MIDSTREAM) != 0 &&
                   (!answered || oldest == VERB_OTHER || oldest == VERB_MASKED);
    bits |= pause_bits(session);
    bits |= (session->flags & SESSION_TIME_CLOSING) && session->end == SESSION_END_WITNESS && !limited
                ? FACT_SESSION_TIME
                : 0;
    facts->limit_us = (bits & FACT_SESSION_TIME) ? session_timeouts(session)->session_us
                      : facts->phase == PHASE_IDLE
                          ? session_timeouts(session)->idle_us
                          : policy_silence_us(session_timeouts(session), facts->phase);
    bits |= farewell ? FACT_SERVER_TIRED | FACT_TIRED_GUESSED : reply_bits(session, &moment, facts);
    facts->bits = bits;
    session_near_facts(session, at_us, facts);
}
