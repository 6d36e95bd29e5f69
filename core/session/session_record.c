/* From a session to the record of its line. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/fault/attribution.h"
#include "core/session/session_internal.h"

/* Loss that stopped nothing is worth a remark from this many repeated segments on. */
#define LOSS_REMARK_SEGMENTS 10

static uint64_t session_notes(const struct session *session)
{
    const struct dialogue *dialogue = &session->dialogue;
    static const struct {
        uint32_t flag;
        uint64_t note;
    } map[] = {
        {DIALOGUE_RESYNCED, NOTE_RESYNCED},
        {DIALOGUE_BANNER_MASKED, NOTE_BANNER_MASKED},
        {DIALOGUE_CAPABILITY_MASKED, NOTE_CAPABILITIES_MASKED},
        {DIALOGUE_BARE_LF, NOTE_BARE_LF},
        {DIALOGUE_NOT_SMTP, NOTE_NOT_SMTP},
        {DIALOGUE_BODY_WITHOUT_354, NOTE_DATA_BEFORE_354},
    };
    uint64_t notes = 0;
    for (size_t i = 0; i < sizeof map / sizeof map[0]; i++) {
        notes |= (dialogue->flags & map[i].flag) ? map[i].note : 0;
    }
    if ((dialogue->flags & DIALOGUE_EARLY_TALK) && (dialogue->flags & DIALOGUE_PIPECONNECT_OFFERED)) {
        notes |= NOTE_EARLY_PIPELINING;
    }
    notes |= (session->flags & SESSION_SLOW_GREETING) ? NOTE_SLOW_GREETING : 0;
    notes |= (session->flags & SESSION_SLOW_REPLY) ? NOTE_SLOW_REPLY : 0;
    notes |= (session->flags & SESSION_TARPIT) ? NOTE_TARPIT : 0;
    notes |= (dialogue->flags & DIALOGUE_VERB_MASKED) ? NOTE_VERBS_MASKED : 0;
    notes |= (session->flags & SESSION_MIDSTREAM) ? NOTE_MIDSTREAM : 0;
    notes |= session->held_ms != 0 ? NOTE_HELD : 0;
    notes |= (session->flags & (SESSION_TIME_PASSED)) || session->action == ACTION_WOULD_CLOSE ||
                     session->action == ACTION_WOULD_REFUSE || session->action == ACTION_WOULD_HOLD
                 ? NOTE_LIMIT_WOULD_ACT
                 : 0;
    if (dialogue->flags & (DIALOGUE_QUIT_SENT | DIALOGUE_221_SEEN)) {
        notes |= (session->flags & (SESSION_CLIENT_GONE | SESSION_SERVER_GONE)) ? NOTE_RESET_AFTER_QUIT : 0;
        notes |= !(dialogue->flags & DIALOGUE_221_SEEN) && !(dialogue->flags & DIALOGUE_TLS)
                     ? NOTE_QUIT_UNANSWERED
                     : 0;
    } else if (session->end == SESSION_END_CLIENT_FIN && !(dialogue->flags & DIALOGUE_TLS) &&
               (dialogue->flags & DIALOGUE_GREETED)) {
        notes |= NOTE_NO_QUIT;
    }
    if (dialogue->kept.role != DIALOGUE_REPLY_NONE && dialogue->kept.body_began &&
        (session->flags & SESSION_SERVER_GONE)) {
        notes |= NOTE_CLIENT_SAW_RESET; /* it was still sending: the reset may overtake the reply */
    }
    if (session->legs != NULL) {
        static const uint64_t loss_notes[SIDE_PAIR] = {NOTE_LOSS_CLIENT_LEG, NOTE_LOSS_SERVER_LEG};
        static const uint64_t box_notes[SIDE_PAIR] = {NOTE_TCP_BOX_CLIENT_LEG, NOTE_TCP_BOX_SERVER_LEG};
        for (unsigned i = 0; i < SIDE_PAIR; i++) {
            const struct leg_evidence *leg = &session->legs[i];
            uint32_t late =
                (leg->flags & LEG_TAPPED) ? leg->late_segments : 0; /* TCP_INFO alone proves no loss */
            notes |= leg->retrans_count >= LOSS_REMARK_SEGMENTS || late >= LOSS_REMARK_SEGMENTS
                         ? loss_notes[i]
                         : 0;
            notes |=
                (leg->flags & (LEG_WINDOW_TINY | LEG_WINDOW_TRACKED | LEG_SACK_FOREIGN)) ? box_notes[i] : 0;
        }
    }
    return notes;
}

/* In the proxy's records the number is decimal. */
static void id_fill(const struct session *session, struct record *record)
{
    const struct session_caller *caller = session->caller;
    if (caller->mode == RECORD_PROXY) {
        snprintf(record->session_id, sizeof record->session_id, "%s-%" PRIu64, caller->id_prefix,
                 session->number);
    } else {
        snprintf(record->session_id, sizeof record->session_id, "%s-%" PRIx64, caller->id_prefix,
                 session->number);
    }
}

void session_record_fill(const struct session *session, struct record *record, uint64_t now_us)
{
    const struct dialogue *dialogue = &session->dialogue;
    memset(record, 0, sizeof *record);
    record->mode = session->caller->mode;
    id_fill(session, record);
    record->client = session->connection->client;
    record->server = session->connection->server;
    record->start_unix_ms = session->start_unix_ms;
    /* A clock that stepped back does not take back what was charged. */
    uint64_t until_us = now_us > session->ledger.until_us ? now_us : session->ledger.until_us;
    record->duration_us =
        until_us > session->connection->opened_us ? until_us - session->connection->opened_us : 0;
    record->mails_ok = dialogue->mails.ok;
    record->mails_total = dialogue->mails.total;
    record->rcpts_ok = dialogue->rcpts.ok;
    record->rcpts_total = dialogue->rcpts.total;
    record->commands_ok = dialogue->commands.ok;
    record->commands_total = dialogue->commands.total;
    record->octets_client = dialogue->octets[side_index(SIDE_CLIENT)];
    record->octets_server = dialogue->octets[side_index(SIDE_SERVER)];
    record->announced_size = dialogue->announced_size;
    record->counts = session->counts;
    record->tls = (session->flags & SESSION_IMPLICIT_TLS) ? RECORD_TLS_IMPLICIT
                  : (dialogue->flags & DIALOGUE_TLS)      ? RECORD_TLS_STARTTLS
                                                          : RECORD_TLS_NO;
    record->ledger = session->ledger;
    record->ledger_valid = true;
    if (session->legs != NULL) {
        memcpy(record->legs, session->legs, sizeof record->legs);
    }
    for (unsigned i = 0; i < SIDE_PAIR; i++) {
        if (record->legs[i].rtt_us == 0) {
            record->legs[i].rtt_us = session->rtt_us[i];
        }
    }
    record->bottleneck = session_bottleneck(session);
    record->verdict.notes = session_notes(session);
    record->verdict.action = session->action;
}

void session_stall_record(struct session *session, struct record *record, uint64_t now_us)
{
    struct facts facts;
    session_record_fill(session, record, now_us);
    record->kind = RECORD_STALL;
    session_facts(session, now_us, &facts);
    attribution_judge(&facts, &record->verdict);
}

/* Our own limit of connections: the counts say why, no dialogue took place. */
static void refused_fill(const struct session *session, struct record *record)
{
    record->limit_name = limiter_limit_name(session->counts.met);
    record->counts.limit = session->counts.limit;
}

void session_finish(struct session *session, struct record *record, uint64_t now_us)
{
    struct facts facts;
    /* A proxy that stops cuts the session; of packets that pass it is only our sight that ends. */
    const bool drained = session->end == SESSION_END_DRAIN ||
                         (session->end == SESSION_END_NONE && session->caller->mode != RECORD_REPLAY);
    if (session->end == SESSION_END_NONE) {
        session_on_end(
            session, session->caller->mode == RECORD_PROXY ? SESSION_END_DRAIN : SESSION_END_CAPTURE, now_us);
    }
    session_on_deadline(session, now_us); /* charges the rest of the time; decides nothing after an end */
    session_record_fill(session, record, now_us);
    record->ledger = session->ledger;
    record->kind = RECORD_VERDICT;
    session_facts(session, now_us, &facts);
    attribution_judge(&facts, &record->verdict);
    record->duplicate = (session->flags & SESSION_DUPLICATE) != 0;
    if (session->end == SESSION_END_REFUSED) {
        refused_fill(session, record);
    }
    const struct dialogue_kept_reply *kept = &session->dialogue.kept;
    if (record->verdict.fault != FAULT_NONE || session->end == SESSION_END_REPLY) {
        record->reply = kept->text;
    }
    session_receipt_fill(session, &facts, record);
    record->verdict.notes |= drained ? NOTE_DRAINED : 0;
    if (record->verdict.fault != FAULT_NONE && session->dialogue.mails.ok > 0) {
        record->verdict.notes |= NOTE_MAIL_ACCEPTED_EARLIER;
    }
    if (record->verdict.fault == FAULT_NONE && session->action == ACTION_WOULD_CLOSE) {
        record->verdict.notes |= NOTE_LIMIT_WOULD_ACT;
    }
}

void session_refusal_record(const struct session *session, const struct limiter_counts *counts,
                            enum action action, int64_t start_unix_ms, struct record *record)
{
    memset(record, 0, sizeof *record);
    record->kind = RECORD_REFUSAL;
    record->mode = session->caller->mode;
    id_fill(session, record);
    record->client = session->connection->client;
    record->server = session->connection->server;
    record->start_unix_ms = start_unix_ms;
    record->counts = *counts;
    record->limit_name = limiter_limit_name(counts->met);
    record->verdict.fault = FAULT_POLICY;
    record->verdict.cause = CAUSE_WITNESS_LIMIT;
    record->verdict.confidence = CONFIDENCE_CERTAIN;
    record->verdict.where = WHERE_HERE;
    record->verdict.phase = PHASE_CONNECT;
    record->verdict.limit_by = LIMIT_BY_WITNESS;
    record->verdict.ended_by = action == ACTION_REFUSED ? ENDED_BY_WITNESS : ENDED_BY_NONE;
    record->verdict.action = action;
}
