/* Shared by the files of this room; not for callers. */
#ifndef SMTPWITNESS_CORE_SESSION_SESSION_INTERNAL_H
#define SMTPWITNESS_CORE_SESSION_SESSION_INTERNAL_H

#include "core/fault/facts.h"
#include "core/policy/timeouts.h"
#include "core/session/session.h"

enum session_flag {
    SESSION_CONNECTED = 1u << 0,
    SESSION_PUSHED_CLIENT = 1u << 1, /* we do not read from the client: the server leg does not take it */
    SESSION_PUSHED_SERVER = 1u << 2,
    SESSION_RTT_CHARGED = 1u << 3, /* this turn's round trip is in the ledger */
    SESSION_PROBED = 1u << 4,      /* these three: about the current silence */
    SESSION_NOTICED = 1u << 5,
    SESSION_LIMITED = 1u << 6,
    SESSION_TIME_PASSED = 1u << 7,  /* the limit of the whole session */
    SESSION_TIME_CLOSING = 1u << 8, /* ... and it is enforced: waiting for a harmless moment */
    SESSION_CLIENT_LEFT = 1u << 9,  /* FIN */
    SESSION_SERVER_LEFT = 1u << 10,
    SESSION_CLIENT_GONE = 1u << 11, /* RST, or given up by the kernel */
    SESSION_SERVER_GONE = 1u << 12,
    SESSION_SAMPLED_CLIENT = 1u << 13, /* evidence of after the end was taken */
    SESSION_SAMPLED_SERVER = 1u << 14,
    SESSION_SLOW_GREETING = 1u << 15,
    SESSION_SLOW_REPLY = 1u << 16,
    SESSION_DUPLICATE = 1u << 17,
    SESSION_PROBING = 1u << 18, /* the caller can probe */
    SESSION_GREETED_COUNTED = 1u << 19,
    SESSION_IMPLICIT_TLS = 1u << 20,
    SESSION_MIDSTREAM = 1u << 21,
    SESSION_HELD = 1u << 22,   /* waits here for a slot */
    SESSION_TARPIT = 1u << 23, /* several replies in a row came late, none sooner than the one before it */
    SESSION_OUT_OF_TURN =
        1u << 24, /* inside TLS: the server spoke where the client was awaited; `moment` is of then */
    SESSION_UNCONFIRMED = 1u << 25,  /* the server has answered the SYN, the client not yet that answer */
    SESSION_TIME_OVERDUE = 1u << 26, /* twice the limit: only a mail in doubt is waited for any more */
};
/* Probes of the current silence so far, in the flags: an answer vouches for the time before it, so a long silence is
 * probed again after twice, four times ... as long. Seldom enough to keep no box's memory of the connection fresh. */
#define SESSION_PROBES_BIT  28
#define SESSION_PROBES_MAX  7u
#define SESSION_PROBES_MASK (SESSION_PROBES_MAX << SESSION_PROBES_BIT)

#define SESSION_SILENCE_FLAGS (SESSION_PROBED | SESSION_NOTICED | SESSION_LIMITED | SESSION_PROBES_MASK)

/* Client records no bigger than this may be QUIT inside TLS: 6 octets of plain text, or the final dot with it, plus
 * at most 29 octets of overhead (RFC 8446 5.2: 17; RFC 5246 with GCM: 24; CBC with padding: more). */
#define SESSION_TLS_SHORT_OCTETS 40

/* A leg's octets count as undelivered only when they were repeated and stayed unacknowledged this long: one lost
 * segment is repaired within a retransmission timeout (RFC 6298: 1 s at first). */
#define UNDELIVERED_US 1000000

static inline struct neighbours *session_neighbours(const struct session *session)
{
    return limiter_neighbours(session->caller->limiter);
}

static inline const struct policy_timeouts *session_timeouts(const struct session *session)
{
    return policy_timeouts(session->policy, session->timeouts);
}

/* session.c: charges the time up to now to whoever was waited for. */
void session_charge(struct session *session, uint64_t now_us);
/* After an event: is the debt another one, or did the debtor at least say something? */
void session_update_turn(struct session *session, enum side spoke, enum side debtor_before, uint64_t now_us);

/* session_end.c */
void session_decide_end(struct session *session, enum session_end end, const struct session_moment *moment);
/* An end that accuses nobody may give way to a later one that does: the last reply is still under way to the client. */
bool session_end_may_give_way(const struct session *session);

/* session_time.c: the whole session lasted too long and it is enforced: as soon as a 421 harms nobody. */
void session_close_when_harmless(struct session *session);

/* session_near.c: what is told to the neighbours and asked of them. */
void session_near_end(struct session *session, enum session_end end);
void session_near_ended(struct session *session, enum session_end end, uint64_t now_us);
void session_near_reply(struct session *session);
void session_near_facts(const struct session *session, uint64_t at_us, struct facts *facts);

/* session_receipt.c: what the source had open, in the record of a refusal. */
void session_receipt_fill(const struct session *session, const struct facts *facts, struct record *record);

/* session_forecast.c: looks, in a body, whether it will be through in time. */
void session_forecast_look(struct session *session, uint64_t now_us);

/* session_record.c: what every line says. */
void session_record_fill(const struct session *session, struct record *record, uint64_t now_us);

/* Where it stands: PHASE_CONNECT until both sides know that there is a connection. */
enum phase session_phase(const struct session *session);

/* Whose move it is, counting back-pressure: a leg that takes nothing makes its side the debtor. */
enum side session_debtor(const struct session *session);

/* Octets sent to that side were repeated and stayed unacknowledged: UNDELIVERED_US or more at `at_us`. */
bool leg_undelivered(const struct leg_evidence *leg, uint64_t at_us);

/* The 250 stands, and the client has neither acknowledged it nor said a word since. */
bool session_acceptance_undelivered(const struct session *session, uint64_t at_us);

/* What held the bodies up, once they ran for FACTS_SLOW_US in all. */
enum bottleneck session_bottleneck(const struct session *session);

/* The picture of this instant. */
struct session_moment session_picture(const struct session *session, uint64_t now_us);

/* Facts at the decisive moment, or of this instant when it still runs. */
void session_facts(const struct session *session, uint64_t now_us, struct facts *facts);

#endif
