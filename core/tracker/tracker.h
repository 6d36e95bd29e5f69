/* tracker - from packets to records: finds the connections, follows their streams, feeds a session for each, and hands
 * out a record when one ends. What the packet ways of seeing (nfq, replay) share.
 *
 * A session is SMTP when its server's port is one of the configured ones, or, with any_port, when its dialogue says
 * so: a greeting that names SMTP, or a client that opens with EHLO, HELO or LHLO.
 * A connection that ran before we looked is picked up at its first octets (note midstream).
 *
 * How an end is told: what the other side answers to it (that it is alive, where its stream stands) belongs to the
 * evidence, so an end waits for the first packet from there, TRACKER_ANSWER_US at most, and is dated back.
 *
 * Owns:    a flow_table, the sessions in it. Borrows: settings, limiter, callbacks, for its whole life.
 * Bounds:  max_flows connections, TRACKER_KEPT_OCTETS of segments out of order in all, TRACKER_HOSTS hosts whose TTL is
 *          remembered; tracker_memory_octets() is the worst case. Half-open connections have no session yet.
 * Threads: one at a time; no globals. Time: monotonic microseconds from the caller; a step back counts as 0. */
#ifndef SMTPWITNESS_CORE_TRACKER_TRACKER_H
#define SMTPWITNESS_CORE_TRACKER_TRACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/attributes.h"
#include "core/policy/limiter.h"
#include "core/policy/policy_settings.h"
#include "core/report/record.h"
#include "core/session/session.h"
#include "core/tcp/flow_table.h"

#define TRACKER_KEPT_OCTETS (UINT32_C(64) << 20) /* 1024 directions with a full window out of order */
#define TRACKER_HOSTS       256     /* servers whose TTL is remembered, to know a foreign RST by */
#define TRACKER_ANSWER_US   3000000 /* RFC 6298: the first retransmission timeout is 1 s */
#define TRACKER_REPLY_US                                                                                     \
    30000000 /* the reply that ends a session may be repeated several times before it is clear */
#define TRACKER_LINGER_US                                                                                    \
    700000 /* after the end: stragglers still tell something, and the verdict is due within a second */
#define TRACKER_ENDED_US                                                                                     \
    5000000 /* both sides have said FIN, and no acknowledgement of the last one is seen */
#define TRACKER_OVER_US                                                                                      \
    130000000 /* late packets start nothing new; what nobody takes is repeated every 120 s (Linux, TCP_RTO_MAX) */
#define TRACKER_HALF_OPEN_US 130000000 /* the last retransmission of a SYN comes 64 s after the one before */
#define TRACKER_SYN_US                                                                                       \
    10000000 /* RFC 1122 section 4.2.3.1: repeated after 3 s; an ARP that fails says so as late */
#define TRACKER_SYN_MARGIN_US                                                                                \
    2000000 /* the interval doubles at most; this long after that nobody tries any more */
#define TRACKER_REJECTED_US 5000000 /* an ICMP error answered the SYN and nothing follows */
#define TRACKER_HALF_CLOSED_US                                                                               \
    120000000                     /* one side said FIN, then nothing; a session has its own last words */
#define TRACKER_LEAVE_US 60000000 /* ... and the other acknowledges nothing, however often it is repeated */
#define TRACKER_IDLE_US  UINT64_C(7200000000) /* keepalives come every two hours (RFC 9293 section 3.8.4) */

struct tracker;

enum tracker_port {
    TRACKER_PORT_OTHER = 0,
    TRACKER_PORT_SMTP,
    TRACKER_PORT_IMPLICIT_TLS,
    TRACKER_PORT_LMTP,
};

/* What happened to a tracked session, for those who tell its story. */
enum tracker_step {
    TRACKER_STEP_OPENED = 0,
    TRACKER_STEP_CONNECTED,
    TRACKER_STEP_OCTETS, /* or skipped ones */
    TRACKER_STEP_FIN,
    TRACKER_STEP_RESET,
    TRACKER_STEP_WINDOW_CLOSED,
    TRACKER_STEP_WINDOW_OPENED,
    TRACKER_STEP_REPEATED, /* octets of that side had to be repeated */
    TRACKER_STEP_FREED,
    TRACKER_STEP_GAP,
    TRACKER_STEP_MISSING, /* that side showed that octets of it never came by here */
    TRACKER_STEP_ICMP,    /* an error about what that side sent */
    TRACKER_STEP_ENDED,   /* the last one, before its record */
};

struct tracker_session {
    struct session session;
    struct flow_entry *entry;
    /* Private, but for `answer` and `story`. */
    uint64_t pending_us; /* when what is pending happened; 0 = nothing is */
    uint64_t pending_silence_us;
    enum limiter_answer
        answer;              /* at the opening; with `gated` REFUSE and HOLD are the caller's to carry out */
    uint8_t pending_end;     /* enum session_end; NONE: only the evidence is due */
    uint8_t pending_on;      /* enum side: whose next packet it waits for */
    uint8_t connect;         /* enum connect_result */
    uint8_t icmp[SIDE_PAIR]; /* enum packet_icmp, of the leg */
    uint8_t icmp_type[SIDE_PAIR], icmp_code[SIDE_PAIR];
    bool icmp_foreign[SIDE_PAIR];
    bool spoke[SIDE_PAIR];
    bool reset_compared : 1;
    bool reset_fits : 1;
    bool detecting : 1; /* whether it is SMTP is not known yet */
    bool held : 1;      /* its SYN waits here for a place */
    uint64_t story[];   /* the caller's, `story_octets` of it, all zero at first */
};

_Static_assert(sizeof(struct tracker_session) <= sizeof(struct session) + 40, "a session must stay small");

struct tracker_callbacks {
    void *context;
    /* A record of kind verdict (then the session goes away) or stall. Borrowed during the call. */
    void (*record)(void *context, struct tracker_session *tracked, const struct record *record);
    /* May be NULL. `side`: SIDE_NONE when no side is meant. */
    void (*step)(void *context, struct tracker_session *tracked, enum tracker_step step, enum side side,
                 uint64_t now_us);
    /* enum session_want: probes and closing are the caller's to do. May be NULL. */
    void (*want)(void *context, struct tracker_session *tracked, uint32_t wants, uint64_t now_us);
    /* A session goes away without a record: it is not SMTP, or a flood pushed it out before both sides had shown that it
     * exists. May be NULL. */
    void (*dropped)(void *context, struct tracker_session *tracked);
};

struct tracker_options {
    enum record_mode mode;
    const struct policy_settings *policy;
    struct limiter *limiter; /* may be NULL */
    uint32_t max_flows;
    uint32_t story_octets; /* room for what the caller keeps with each session */
    uint8_t seed[FLOW_TABLE_SEED_OCTETS];
    const char *id_prefix;
    bool any_port;
    bool proxy_protocol;
    bool gated; /* the caller refuses and holds: where limits are enforced a session begins with its SYN */
    bool probing;
    uint64_t probe_after_us; /* silence after which a probe is wanted; 0 = the session's own default */
    struct tracker_callbacks callbacks;
};

struct tracker_stats {
    uint64_t packets, tcp_packets, other_packets, malformed_packets, cut_packets;
    uint64_t fragments, fragments_used; /* the others lacked a part */
    uint64_t copies, strays;
    uint64_t bypassed_octets; /* of bodies, not seen on purpose */
    uint64_t flows, sessions, not_smtp, evicted;
    uint32_t flows_now, half_open_now;
};

/* NULL without memory. */
struct tracker *tracker_create(const struct tracker_options *options) MUST_CHECK;
/* Finishes nothing: call tracker_finish() before. Accepts NULL. */
void tracker_destroy(struct tracker *tracker);
size_t tracker_memory_octets(uint32_t max_flows, uint32_t story_octets);

void tracker_set_port(struct tracker *tracker, uint16_t port, enum tracker_port kind);

/* One packet from its IP header on. `unix_ms` is the wall clock of now_us. */
void tracker_on_packet(struct tracker *tracker, const uint8_t *octets, size_t captured, size_t wire_length,
                       uint64_t now_us, int64_t unix_ms);

/* What the packet before was, and which connection it belonged to: NULL = none that is followed. Until the next call. */
struct tracker_latest {
    struct packet packet; /* with an entry */
    struct flow_entry *entry;
    enum side side; /* of the sender; of what an ICMP error is about */
};
const struct tracker_latest *tracker_latest(const struct tracker *tracker);
/* The same for a packet that is only looked up. */
const struct tracker_latest *tracker_look(struct tracker *tracker, const uint8_t *octets, size_t captured,
                                          size_t wire_length);

/* At the latest when tracker_on_deadline() is due; UINT64_MAX = never. */
uint64_t tracker_deadline_us(const struct tracker *tracker);
void tracker_on_deadline(struct tracker *tracker, uint64_t now_us);

/* For new sessions. The old policy stays borrowed while sessions that began under it last. */
void tracker_set_policy(struct tracker *tracker, const struct policy_settings *policy);

/* After how much silence has whoever sent this SYN given up? Each repetition comes after at most twice the time. */
uint64_t tracker_syn_patience_us(const struct flow_side *client);

/* The session of a TCP packet's connection, NULL when there is none, and which side sends it. */
struct tracker_session *tracker_find(struct tracker *tracker, const struct packet *packet, enum side *sender);

/* For the caller's lists of sessions: 0 = none. Good as long as the session. */
uint32_t tracker_link(const struct tracker *tracker, const struct tracker_session *tracked);
struct tracker_session *tracker_linked(struct tracker *tracker, uint32_t link);

/* Its SYN waits (true) or goes on now (false). */
void tracker_session_hold(struct tracker *tracker, struct tracker_session *tracked, bool held,
                          uint64_t now_us);
/* The caller ends it: the record is handed out during the call, the session is gone after it, and what still comes of
 * the connection is not looked at. */
void tracker_session_close(struct tracker *tracker, struct tracker_session *tracked, enum session_end end,
                           enum action action, uint64_t now_us);
/* A keepalive towards `side` was sent in the other side's name. */
void tracker_note_probe(struct tracker_session *tracked, enum side side);
/* Something came back for it that shows that a host is there, and no more: the probes so far are not unanswered. */
void tracker_note_probe_void(struct tracker_session *tracked, enum side side);

/* No more packets come: every open session ends now. What comes nevertheless begins anew. */
void tracker_finish(struct tracker *tracker, uint64_t now_us);

void tracker_stats(const struct tracker *tracker, struct tracker_stats *stats);

#endif
