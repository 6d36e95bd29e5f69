/* session - one SMTP session as the witness sees it: the dialogue, the ledger, the evidence of both legs, the
 * timeouts in force, and at the end the record with its verdict. The one engine behind proxy, nfq and replay.
 *
 * The caller feeds stream events in the order in which they happened and asks after each: session_wants() for what
 * it should do now, session_deadline_us() for when to call session_on_deadline().
 *
 * Owns:    its dialogue. Borrows: connection, settings and caller, for its whole life.
 * Bounds:  sizeof(struct session) is asserted; memory beyond it only while a line is split and for one kept reply.
 * Threads: one at a time. Time: monotonic microseconds from the caller, never decreasing (a step back counts as 0). */
#ifndef SMTPWITNESS_CORE_SESSION_SESSION_H
#define SMTPWITNESS_CORE_SESSION_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/address.h"
#include "core/base/attributes.h"
#include "core/base/connection.h"
#include "core/base/side.h"
#include "core/fault/evidence.h"
#include "core/fault/ledger.h"
#include "core/fault/session_end.h"
#include "core/fault/verdict.h"
#include "core/policy/limiter.h"
#include "core/policy/policy_settings.h"
#include "core/report/record.h"
#include "core/smtp/dialogue.h"

#define SESSION_NEVER_US UINT64_MAX

/* What the caller should do; a set. */
enum session_want {
    SESSION_WANT_PROBE_CLIENT =
        1u << 0, /* silence on this leg: refresh its evidence, probe it if probes are on */
    SESSION_WANT_PROBE_SERVER = 1u << 1,
    SESSION_WANT_STALL_LINE = 1u << 2, /* session_stall_record() has something to say */
    SESSION_WANT_CLOSE = 1u << 3,      /* an enforced timeout expired: session_close_reply() says how */
    SESSION_WANT_SAMPLE = 1u << 4, /* refresh the evidence of both legs now: something decisive happened */
    SESSION_WANT_FORECAST_LINE =
        1u << 5, /* session_forecast_record() has something to say, once per session */
};

/* What all sessions of a caller have in common. */
struct session_caller {
    enum record_mode mode;
    char id_prefix[12];      /* of their names in the log, before `-` and the number */
    struct limiter *limiter; /* may be NULL */
};

struct session_setup {
    const struct session_caller *caller; /* borrowed */
    struct connection *connection; /* borrowed; a seat is taken when it has none, and given back at the end */
    uint64_t number;               /* among the caller's */
    int64_t start_unix_ms;
    const struct policy_settings *policy;
    struct dialogue_options dialogue;
    bool probing;            /* the caller can probe */
    uint64_t probe_after_us; /* silence after which it wants to, in whole milliseconds; 0 = 5 s */
    bool connected;          /* the server leg is established already (nfq pickup, replay) */
};

/* The state just before something decisive, kept because what follows would overwrite it. */
struct session_moment {
    uint8_t phase;        /* enum phase */
    uint8_t owed_by;      /* enum side */
    bool pushed_back : 1; /* the debtor is the leg that does not take what was sent to it */
    bool line_open : 1;   /* the debtor had begun a line */
    bool reply_open : 1;  /* a multi-line reply was unfinished */
    bool mail_open : 1;
    bool body_began : 1;
    bool body_doubtful : 1; /* octets of the body passed unseen, its end perhaps among them */
    uint32_t waited_ms;     /* how long the debtor had been silent */
    uint32_t turn_ms;       /* how long the debt had stood */
    uint32_t age_ms;        /* of the session */
};

struct session {
    /* Read these; write none. */
    struct dialogue dialogue;
    struct ledger ledger;
    struct leg_evidence *legs; /* two, by side_index(); allocated with the first evidence, NULL before */
    struct connection *connection;
    enum session_end end;
    enum action action; /* what we did or would have done */
    uint16_t timeouts;  /* private: session_timeouts() */
    uint32_t held_ms;   /* waited here for a slot, in all */

    /* The caller fills this one between session_init() and the first event. */
    struct limiter_ticket ticket;

    /* Private; in this order without holes. */
    uint32_t flags; /* enum session_flag */
    const struct policy_settings *policy;
    const struct session_caller *caller;
    struct session_moment moment; /* of the end */
    int64_t start_unix_ms;
    uint64_t turn_since_us;       /* the debt stands since */
    uint64_t progress_us;         /* the debtor's last octet, or turn_since_us */
    uint64_t number;              /* among the caller's */
    struct limiter_counts counts; /* at the opening; again at a refusal by the server */
    uint32_t rtt_us[SIDE_PAIR];
    uint32_t debt_serial;
    uint32_t body_us; /* how long bodies ran, in all; no more than 71 minutes are counted */
    uint32_t probe_after_ms;
    uint16_t late_ds;          /* the delay of the last late reply, in tenths of a second */
    uint8_t late_count;        /* late replies in a row, each as late as the one before it */
    uint8_t wants;             /* enum session_want */
    uint8_t silence_broken_by; /* enum side: a pause, then it spoke, and the other has not since ... */
    bool silence_was_long;     /* ... a pause of minutes */
};

/* It begins when the connection was opened. */
void session_init(struct session *session, const struct session_setup *setup);
void session_clear(struct session *session);

/* Waits here for a slot (true), or was let through (false). The time is the witness's own; nobody else owes. */
void session_on_held(struct session *session, bool held, uint64_t now_us);

/* Stream events. Each charges the time before it to the ledger first. */
void session_on_connected(struct session *session, uint64_t now_us);
/* Where packets are seen, in two steps: the server has answered the SYN, and the client that answer. The first octets
 * confirm it, too. */
void session_on_answered(struct session *session, uint64_t now_us);
void session_on_confirmed(struct session *session, uint64_t now_us);
void session_on_octets(struct session *session, enum side side, const uint8_t *octets, size_t length,
                       uint64_t now_us);
void session_on_skipped(struct session *session, enum side side, uint64_t length, uint64_t now_us);
/* What dialogue_may_pass() allowed passed without being looked at. */
void session_on_passed(struct session *session, enum side side, uint64_t length, uint64_t now_us);

/* The round trip of a leg, as measured when it was established (or later); charged to the network in the ledger. */
void session_set_rtt(struct session *session, enum side side, uint32_t rtt_us);

/* We stop (or go on) reading from `side` because the other leg does not take what we have. */
void session_on_pushed_back(struct session *session, enum side side, bool pushed_back, uint64_t now_us);

/* A direction or the session ended. The first end is the deciding one; later ones are noted. Sample the evidence of
 * both legs and hand it in before this call: a closed socket tells nothing any more. */
void session_on_end(struct session *session, enum session_end end, uint64_t now_us);

/* Its place among the counted ones is free again: the server takes its next connection from here on. */
void session_release_place(struct session *session, uint64_t now_us);

/* New evidence of one leg, replacing the old. Ignored once the end is decided and its own sample was taken. */
void session_set_evidence(struct session *session, enum side side, const struct leg_evidence *evidence,
                          uint64_t now_us);

/* What to do now (enum session_want); cleared by the call. */
uint32_t session_take_wants(struct session *session);

/* When session_on_deadline() is due at the latest; SESSION_NEVER_US = not before the next event. Cheap. */
uint64_t session_deadline_us(const struct session *session);
void session_on_deadline(struct session *session, uint64_t now_us);

/* After SESSION_WANT_CLOSE: writes the reply to say to the client, with CRLF, and returns its length; 0 = none may be
 * said at this moment, close by reset. The server leg is always closed by reset, so that no half mail is taken. */
size_t session_close_reply(const struct session *session, char *text, size_t room);

/* True while closing now would leave a mail in doubt (between the final dot and its reply): wait if at all possible. */
bool session_in_doubt(const struct session *session);
/* One side has left: how long the other's last words are waited for before the verdict is said without them. Behind the
 * final dot as long as RFC 5321 4.5.3.2.6 grants its reply, for it tells whether the mail will come twice. */
uint64_t session_last_words_us(const struct session *session);

/* The `stall` line: the same fields as far as known. The record borrows from the session. */
void session_stall_record(struct session *session, struct record *record, uint64_t now_us);

/* The `forecast` line: the mail under way will not be through before the limit of the whole session. */
void session_forecast_record(const struct session *session, struct record *record, uint64_t now_us);

/* The `refusal` line of a connection that one of our limits met, or would have. */
void session_refusal_record(const struct session *session, const struct limiter_counts *counts,
                            enum action action, int64_t start_unix_ms, struct record *record);

/* The `verdict` line. Call once, after the last event; without any end before it the capture or drain ended it. */
void session_finish(struct session *session, struct record *record, uint64_t now_us);

#endif
