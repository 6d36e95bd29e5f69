#include "core/fault/attribution.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Whom a rule names. The relative ones are resolved with facts.suspect. */
enum blame {
    BLAME_NONE = 0,
    BLAME_CLIENT,
    BLAME_SERVER,
    BLAME_SUSPECT,
    BLAME_CLIENT_NETWORK,
    BLAME_SERVER_NETWORK,
    BLAME_SUSPECT_NETWORK,
    BLAME_MIDDLEBOX,
    BLAME_POLICY,
    BLAME_WITNESS,
    BLAME_UNKNOWN,
};

/* How sure a rule is. */
enum sureness {
    SURE_POSSIBLE = 0,
    SURE_LIKELY,
    SURE_CERTAIN,
    SURE_BY_PROBE, /* certain with an answered probe and a tap; else likely, and the leg's network is not excluded */
};

struct rule {
    const char *name;
    uint32_t ends;        /* set of 1 << session_end; 0 = any */
    uint32_t phases;      /* set of 1 << phase; 0 = any */
    uint32_t classes;     /* set of 1 << reply_class; 0 = any */
    uint32_t connects;    /* set of 1 << connect_result; 0 = any */
    uint32_t bottlenecks; /* set of 1 << bottleneck; 0 = any */
    uint32_t boxes;       /* set of 1 << box_sign; 0 = any */
    uint64_t all;         /* every one of these facts */
    uint64_t any;         /* at least one of these; 0 = no condition */
    uint64_t none;        /* none of these */
    uint32_t near;        /* every one of these words of the neighbours (enum near) */
    uint32_t near_none;   /* none of these */
    enum cause cause;
    enum blame fault;
    uint32_t also; /* set of 1 << blame */
    enum sureness sureness;
    enum limit_by limit_by;
};

#define END(e)     (1u << SESSION_END_##e)
#define PHASE(p)   (1u << PHASE_##p)
#define CLASS(c)   (1u << REPLY_CLASS_##c)
#define CONNECT(c) (1u << CONNECT_##c)
#define ALSO(b)    (1u << BLAME_##b)
#define SLOW(b)    (1u << BOTTLENECK_##b)
#define BOX(b)     (1u << BOX_SIGN_##b)

#define BY_CLIENT (END(CLIENT_FIN) | END(CLIENT_RESET))
#define BY_SERVER (END(SERVER_FIN) | END(SERVER_RESET))
#define BY_RESET  (END(CLIENT_RESET) | END(SERVER_RESET))
/* Ends after which the side that owed is still the suspect: it was waited for. */
#define WAITED                                                                                               \
    (END(NONE) | END(WITNESS) | END(DRAIN) | END(CAPTURE) | END(REPLY) | END(CLIENT_LOST) | END(SERVER_LOST))
/* Ends of a connection that was never accepted, and never answered at all. */
#define CONNECT_TRIED  (END(CONNECT_FAILED) | WAITED | BY_CLIENT)
#define CONNECT_SILENT (CONNECT(PENDING) | CONNECT(TIMED_OUT))
#define BODY_PHASES    (PHASE(BODY) | PHASE(BDAT))
/* Ends by which somebody lost patience with a body that ran. */
#define IMPATIENT (END(REPLY) | END(CLIENT_FIN) | END(CLIENT_RESET) | END(WITNESS))
/* What proves that the leg of the side that owed had failed before anybody closed. */
#define LEG_FAILED (FACT_UNDELIVERED | FACT_REVEALED | FACT_PROBE_UNANSWERED)
#define TURN_PHASES                                                                                          \
    (PHASE(HELO) | PHASE(STARTTLS) | PHASE(AUTH) | PHASE(MAIL) | PHASE(RCPT) | PHASE(DATA) | PHASE(RSET) |   \
     PHASE(QUIT) | PHASE(COMMAND) | PHASE(IDLE) | PHASE(OPAQUE))

/* clang-format off */
static const struct rule rules[] = {
    /* --- what we did ourselves ------------------------------------------------------------------------------- */
    {.name = "overload", .ends = END(OVERLOAD),
     .cause = CAUSE_WITNESS_STOPPED, .fault = BLAME_WITNESS, .sureness = SURE_CERTAIN, .limit_by = LIMIT_BY_WITNESS},
    {.name = "refused", .ends = END(REFUSED),
     .cause = CAUSE_WITNESS_LIMIT, .fault = BLAME_POLICY, .sureness = SURE_CERTAIN, .limit_by = LIMIT_BY_WITNESS},
    {.name = "left-while-held", .ends = BY_CLIENT | END(CLIENT_LOST), .all = FACT_HELD,
     .cause = CAUSE_WITNESS_LIMIT, .fault = BLAME_POLICY, .sureness = SURE_CERTAIN, .limit_by = LIMIT_BY_WITNESS},
    {.name = "session-time", .ends = END(WITNESS), .all = FACT_SESSION_TIME,
     .cause = CAUSE_WITNESS_LIMIT, .fault = BLAME_POLICY, .sureness = SURE_CERTAIN, .limit_by = LIMIT_BY_WITNESS},
    {.name = "icmp-undiverted", .all = FACT_ICMP_UNDIVERTED | FACT_UNDELIVERED,
     .cause = CAUSE_ICMP_UNDIVERTED, .fault = BLAME_WITNESS, .sureness = SURE_CERTAIN},
    {.name = "connect-local-error", .ends = END(CONNECT_FAILED), .connects = CONNECT(LOCAL_ERROR),
     .cause = CAUSE_OWN_DROP, .fault = BLAME_WITNESS, .sureness = SURE_CERTAIN},

    /* --- the server was never reached ------------------------------------------------------------------------- */
    {.name = "connect-refused-foreign", .ends = END(CONNECT_FAILED), .connects = CONNECT(REFUSED),
     .all = FACT_RESET_FOREIGN,
     .cause = CAUSE_CONNECT_REJECTED, .fault = BLAME_MIDDLEBOX, .sureness = SURE_LIKELY},
    {.name = "connect-refused-fits", .ends = END(CONNECT_FAILED), .connects = CONNECT(REFUSED),
     .all = FACT_RESET_FITS,
     .cause = CAUSE_PORT_CLOSED, .fault = BLAME_SERVER, .sureness = SURE_CERTAIN},
    {.name = "connect-refused", .ends = END(CONNECT_FAILED), .connects = CONNECT(REFUSED),
     .cause = CAUSE_PORT_CLOSED, .fault = BLAME_SERVER, .also = ALSO(MIDDLEBOX), .sureness = SURE_LIKELY},
    {.name = "connect-prohibited-foreign", .ends = END(CONNECT_FAILED), .connects = CONNECT(PROHIBITED),
     .all = FACT_ICMP_FOREIGN,
     .cause = CAUSE_ADMIN_PROHIBITED, .fault = BLAME_MIDDLEBOX, .sureness = SURE_CERTAIN,
     .limit_by = LIMIT_BY_MIDDLEBOX},
    /* From the server's own address, or nobody knows whose: its host has a filter of its own, perhaps. */
    {.name = "connect-prohibited", .ends = END(CONNECT_FAILED), .connects = CONNECT(PROHIBITED),
     .cause = CAUSE_ADMIN_PROHIBITED, .fault = BLAME_MIDDLEBOX, .also = ALSO(SERVER), .sureness = SURE_CERTAIN,
     .limit_by = LIMIT_BY_MIDDLEBOX},
    {.name = "connect-rejected-foreign", .ends = END(CONNECT_FAILED), .connects = CONNECT(REJECTED),
     .all = FACT_ICMP_FOREIGN,
     .cause = CAUSE_CONNECT_REJECTED, .fault = BLAME_MIDDLEBOX, .sureness = SURE_CERTAIN},
    {.name = "connect-rejected", .ends = END(CONNECT_FAILED), .connects = CONNECT(REJECTED),
     .cause = CAUSE_CONNECT_REJECTED, .fault = BLAME_MIDDLEBOX, .also = ALSO(SERVER), .sureness = SURE_LIKELY},
    {.name = "connect-unreachable", .ends = END(CONNECT_FAILED), .connects = CONNECT(UNREACHABLE),
     .cause = CAUSE_UNREACHABLE, .fault = BLAME_SERVER_NETWORK, .sureness = SURE_CERTAIN},
    {.name = "source-filtered", .ends = CONNECT_TRIED, .phases = PHASE(CONNECT), .connects = CONNECT_SILENT,
     .all = FACT_STALLED, .near = NEAR_OTHERS_CONNECT, .near_none = NEAR_OTHERS_FAIL,
     .cause = CAUSE_SOURCE_FILTERED, .fault = BLAME_POLICY, .also = ALSO(SERVER_NETWORK), .sureness = SURE_LIKELY,
     .limit_by = LIMIT_BY_SERVER},
    /* Several sources fail while others get in: a filter, or a queue that is full most of the time. */
    {.name = "some-sources-fail", .ends = CONNECT_TRIED, .phases = PHASE(CONNECT), .connects = CONNECT_SILENT,
     .all = FACT_STALLED, .near = NEAR_OTHERS_CONNECT,
     .cause = CAUSE_SOURCE_FILTERED, .fault = BLAME_POLICY, .also = ALSO(SERVER) | ALSO(SERVER_NETWORK),
     .sureness = SURE_POSSIBLE, .limit_by = LIMIT_BY_SERVER},
    {.name = "only-new-ones-fail", .ends = CONNECT_TRIED, .phases = PHASE(CONNECT), .connects = CONNECT_SILENT,
     .all = FACT_STALLED, .near = NEAR_PAIR_LIVES, .near_none = NEAR_OTHERS_FAIL,
     .cause = CAUSE_SOURCE_FILTERED, .fault = BLAME_POLICY, .also = ALSO(SERVER) | ALSO(SERVER_NETWORK),
     .sureness = SURE_LIKELY, .limit_by = LIMIT_BY_SERVER},
    {.name = "connect-timed-out-for-all", .ends = END(CONNECT_FAILED), .connects = CONNECT(TIMED_OUT),
     .near = NEAR_OTHERS_FAIL, .near_none = NEAR_PAIR_LIVES,
     .cause = CAUSE_CONNECT_UNANSWERED, .fault = BLAME_SERVER_NETWORK, .also = ALSO(SERVER),
     .sureness = SURE_CERTAIN},
    /* With no word of the neighbours a filter against this source cannot be excluded. */
    {.name = "connect-timed-out", .ends = END(CONNECT_FAILED), .connects = CONNECT(TIMED_OUT),
     .cause = CAUSE_CONNECT_UNANSWERED, .fault = BLAME_SERVER_NETWORK, .also = ALSO(SERVER) | ALSO(POLICY),
     .sureness = SURE_CERTAIN},
    {.name = "connect-awaited-by-all", .ends = WAITED | BY_CLIENT, .phases = PHASE(CONNECT), .connects = CONNECT_SILENT,
     .all = FACT_STALLED,
     .near = NEAR_OTHERS_FAIL, .near_none = NEAR_PAIR_LIVES,
     .cause = CAUSE_CONNECT_UNANSWERED, .fault = BLAME_SERVER_NETWORK, .also = ALSO(SERVER),
     .sureness = SURE_LIKELY},
    {.name = "connect-awaited", .ends = WAITED | BY_CLIENT, .phases = PHASE(CONNECT), .connects = CONNECT_SILENT,
     .all = FACT_STALLED,
     .cause = CAUSE_CONNECT_UNANSWERED, .fault = BLAME_SERVER_NETWORK, .also = ALSO(SERVER) | ALSO(POLICY),
     .sureness = SURE_LIKELY},
    {.name = "connect-abandoned", .ends = BY_CLIENT, .phases = PHASE(CONNECT), .all = FACT_NO_CLIENT_OCTETS,
     .none = FACT_UNDELIVERED | FACT_RESET_FOREIGN,
     .cause = CAUSE_PROBE_ONLY, .fault = BLAME_NONE, .sureness = SURE_LIKELY},

    /* --- what somebody said in plain words outranks what TCP shows --------------------------------------------- */
    /* One direction alone shows words without what they answer. */
    {.name = "one-way-said", .all = FACT_ONE_WAY,
     .any = FACT_REPLY_DECIDES | FACT_VERB_MASKED | FACT_EARLY_TALK | FACT_BODY_REFUSED | FACT_CAPABILITY_MASKED |
            FACT_ALERT_BY_CLIENT | FACT_ALERT_BY_SERVER,
     .cause = CAUSE_UNDETERMINED, .fault = BLAME_UNKNOWN, .sureness = SURE_POSSIBLE},
    {.name = "verbs-rewritten", .all = FACT_VERB_MASKED | FACT_ERRORS_BEFORE,
     .none = FACT_MAIL_ACCEPTED | FACT_OBSERVER_GAP, /* it may be a line of a body whose beginning we missed */
     .cause = CAUSE_VERBS_REWRITTEN, .fault = BLAME_MIDDLEBOX, .sureness = SURE_CERTAIN,
     .limit_by = LIMIT_BY_MIDDLEBOX},
    {.name = "early-talk-said", .classes = CLASS(CLIENT_PROTOCOL),
     .all = FACT_REPLY_DECIDES | FACT_EARLY_TALK, .none = FACT_EARLY_LAWFUL,
     .cause = CAUSE_EARLY_TALK, .fault = BLAME_CLIENT, .sureness = SURE_CERTAIN, .limit_by = LIMIT_BY_SERVER},
    {.name = "early-talk-hinted", .phases = PHASE(GREETING), .classes = CLASS(OTHER) | CLASS(NONE) | CLASS(SHUTDOWN),
     .all = FACT_REPLY_DECIDES | FACT_EARLY_TALK, .none = FACT_EARLY_LAWFUL,
     .cause = CAUSE_EARLY_TALK, .fault = BLAME_CLIENT, .also = ALSO(POLICY), .sureness = SURE_LIKELY,
     .limit_by = LIMIT_BY_SERVER},
    {.name = "early-talk-closed", .ends = BY_SERVER, .phases = PHASE(GREETING), .all = FACT_EARLY_TALK,
     .none = FACT_EARLY_LAWFUL | FACT_RESET_FOREIGN | FACT_OBSERVER_GAP | FACT_ONE_WAY,
     .cause = CAUSE_EARLY_TALK, .fault = BLAME_CLIENT, .also = ALSO(SERVER), .sureness = SURE_LIKELY,
     .limit_by = LIMIT_BY_SERVER},
    {.name = "protocol-said", .classes = CLASS(CLIENT_PROTOCOL), .all = FACT_REPLY_DECIDES,
     .cause = CAUSE_EARLY_TALK, .fault = BLAME_CLIENT, .sureness = SURE_LIKELY, .limit_by = LIMIT_BY_SERVER},
    {.name = "body-without-354", .all = FACT_BODY_REFUSED,
     .none = FACT_MAIL_ACCEPTED | FACT_OBSERVER_GAP, /* the 354 may be what we missed */
     .cause = CAUSE_BODY_WITHOUT_354, .fault = BLAME_CLIENT, .sureness = SURE_CERTAIN},
    {.name = "alert-by-client", .all = FACT_ALERT_BY_CLIENT,
     .cause = CAUSE_TLS_ALERT, .fault = BLAME_SERVER, .also = ALSO(CLIENT), .sureness = SURE_CERTAIN},
    {.name = "alert-by-server", .all = FACT_ALERT_BY_SERVER,
     .cause = CAUSE_TLS_ALERT, .fault = BLAME_CLIENT, .also = ALSO(SERVER), .sureness = SURE_CERTAIN},
    {.name = "per-source-limit", .classes = CLASS(PER_SOURCE_LIMIT), .all = FACT_REPLY_DECIDES,
     .cause = CAUSE_PER_SOURCE_LIMIT, .fault = BLAME_POLICY, .sureness = SURE_CERTAIN, .limit_by = LIMIT_BY_SERVER},
    {.name = "per-source-rate", .classes = CLASS(PER_SOURCE_RATE), .all = FACT_REPLY_DECIDES,
     .cause = CAUSE_PER_SOURCE_RATE, .fault = BLAME_POLICY, .sureness = SURE_CERTAIN, .limit_by = LIMIT_BY_SERVER},
    {.name = "session-time-said", .classes = CLASS(SESSION_TIME), .all = FACT_REPLY_DECIDES,
     .cause = CAUSE_SESSION_TIME_LIMIT, .fault = BLAME_POLICY, .sureness = SURE_CERTAIN, .limit_by = LIMIT_BY_SERVER},
    {.name = "greylisting", .classes = CLASS(GREYLISTING), .all = FACT_REPLY_DECIDES,
     .cause = CAUSE_GREYLISTING, .fault = BLAME_POLICY, .sureness = SURE_CERTAIN, .limit_by = LIMIT_BY_SERVER},
    {.name = "reputation", .classes = CLASS(REPUTATION), .all = FACT_REPLY_DECIDES,
     .cause = CAUSE_REPUTATION, .fault = BLAME_POLICY, .sureness = SURE_CERTAIN, .limit_by = LIMIT_BY_SERVER},
    {.name = "size", .classes = CLASS(SIZE), .all = FACT_REPLY_DECIDES,
     .cause = CAUSE_SIZE_LIMIT, .fault = BLAME_POLICY, .sureness = SURE_CERTAIN, .limit_by = LIMIT_BY_SERVER},
    {.name = "size-or-room", .classes = CLASS(SIZE_OR_ROOM), .all = FACT_REPLY_DECIDES,
     .cause = CAUSE_SIZE_LIMIT, .fault = BLAME_POLICY, .also = ALSO(SERVER), .sureness = SURE_LIKELY,
     .limit_by = LIMIT_BY_SERVER},
    {.name = "overload-said", .classes = CLASS(OVERLOAD), .all = FACT_REPLY_DECIDES,
     .cause = CAUSE_OVERLOAD, .fault = BLAME_SERVER, .sureness = SURE_CERTAIN, .limit_by = LIMIT_BY_SERVER},
    {.name = "shutdown", .classes = CLASS(SHUTDOWN), .all = FACT_REPLY_DECIDES, .none = FACT_SERVER_TIRED | FACT_IDLE,
     .cause = CAUSE_SHUTDOWN, .fault = BLAME_SERVER, .sureness = SURE_CERTAIN, .limit_by = LIMIT_BY_SERVER},
    {.name = "authentication", .classes = CLASS(AUTHENTICATION), .all = FACT_REPLY_DECIDES,
     .cause = CAUSE_REJECTED, .fault = BLAME_POLICY, .also = ALSO(CLIENT), .sureness = SURE_CERTAIN,
     .limit_by = LIMIT_BY_SERVER},
    {.name = "rejected", .classes = CLASS(OTHER) | CLASS(PER_SESSION_LIMIT), .all = FACT_REPLY_DECIDES,
     .none = FACT_SERVER_TIRED | FACT_IDLE,
     .cause = CAUSE_REJECTED, .fault = BLAME_POLICY, .sureness = SURE_CERTAIN, .limit_by = LIMIT_BY_SERVER},
    /* It closes in the same breath: that is no reaping of an idle session. */
    {.name = "rejected-and-left", .ends = BY_SERVER, .classes = CLASS(OTHER) | CLASS(PER_SESSION_LIMIT),
     .all = FACT_REPLY_DECIDES | FACT_IDLE, .none = FACT_STALLED | FACT_RESET_FOREIGN,
     .cause = CAUSE_REJECTED, .fault = BLAME_POLICY, .sureness = SURE_CERTAIN, .limit_by = LIMIT_BY_SERVER},
    {.name = "limit-or-load-and-left", .ends = BY_SERVER, .classes = CLASS(CONNECTION_LIMIT_OR_LOAD) | CLASS(NONE),
     .all = FACT_REPLY_DECIDES | FACT_IDLE, .none = FACT_STALLED | FACT_RESET_FOREIGN,
     .cause = CAUSE_OVERLOAD, .fault = BLAME_SERVER, .also = ALSO(POLICY), .sureness = SURE_LIKELY,
     .limit_by = LIMIT_BY_SERVER},
    {.name = "limit-or-load", .classes = CLASS(CONNECTION_LIMIT_OR_LOAD) | CLASS(NONE),
     .all = FACT_REPLY_DECIDES, .none = FACT_SERVER_TIRED | FACT_IDLE,
     .cause = CAUSE_OVERLOAD, .fault = BLAME_SERVER, .also = ALSO(POLICY), .sureness = SURE_LIKELY,
     .limit_by = LIMIT_BY_SERVER},

    /* --- sessions that are as they should be ------------------------------------------------------------------- */
    {.name = "capabilities-masked", .ends = BY_CLIENT | BY_SERVER, .all = FACT_CAPABILITY_MASKED | FACT_NO_MAIL,
     .cause = CAUSE_CAPABILITIES_MASKED, .fault = BLAME_MIDDLEBOX, .also = ALSO(CLIENT), .sureness = SURE_LIKELY,
     .limit_by = LIMIT_BY_MIDDLEBOX},
    {.name = "orderly", .ends = BY_CLIENT | BY_SERVER | END(CAPTURE) | END(DRAIN) | END(SERVER_LOST) |
     END(WITNESS) | END(NONE) | END(REPLY), .all = FACT_ORDERLY,
     .cause = CAUSE_CLEAN, .fault = BLAME_NONE, .sureness = SURE_CERTAIN},
    {.name = "idle-reset", .ends = END(SERVER_RESET), .all = FACT_IDLE, .none = FACT_RESET_FOREIGN | FACT_RESET_FITS,
     .cause = CAUSE_IDLE_REAPED, .fault = BLAME_NONE, .sureness = SURE_LIKELY, .limit_by = LIMIT_BY_SERVER},
    {.name = "idle-reaped", .ends = BY_SERVER | END(REPLY), .all = FACT_IDLE,
     .none = FACT_RESET_FOREIGN | FACT_UNDELIVERED,
     .cause = CAUSE_IDLE_REAPED, .fault = BLAME_NONE, .sureness = SURE_CERTAIN, .limit_by = LIMIT_BY_SERVER},
    {.name = "idle-reaped-by-us", .ends = END(WITNESS), .all = FACT_IDLE, .none = FACT_UNDELIVERED,
     .cause = CAUSE_IDLE_REAPED, .fault = BLAME_NONE, .sureness = SURE_CERTAIN, .limit_by = LIMIT_BY_WITNESS},
    {.name = "idle-cut-by-foreign-reset", .ends = BY_RESET, .all = FACT_IDLE | FACT_RESET_FOREIGN,
     .none = FACT_OBSERVER_GAP,
     .cause = CAUSE_STATE_EXPIRED, .fault = BLAME_MIDDLEBOX, .sureness = SURE_LIKELY,
     .limit_by = LIMIT_BY_MIDDLEBOX},
    {.name = "probe-only", .ends = BY_CLIENT, .all = FACT_NO_CLIENT_OCTETS | FACT_GREETED | FACT_OWED_CLIENT,
     .none = FACT_RESET_FOREIGN | LEG_FAILED, /* the greeting may not have reached it, or its command not us */
     .cause = CAUSE_PROBE_ONLY, .fault = BLAME_NONE, .sureness = SURE_CERTAIN},
    {.name = "probe-only-at-once", .ends = BY_CLIENT, .all = FACT_NO_CLIENT_OCTETS,
     .none = FACT_STALLED | FACT_OWED_CLIENT | FACT_RESET_FOREIGN | FACT_UNDELIVERED,
     .cause = CAUSE_PROBE_ONLY, .fault = BLAME_NONE, .sureness = SURE_LIKELY},
    {.name = "probe-only-before-tls", .ends = BY_CLIENT, .phases = PHASE(TLS),
     .all = FACT_NO_CLIENT_OCTETS | FACT_NO_SERVER_OCTETS | FACT_OWED_CLIENT, .none = FACT_RESET_FOREIGN,
     .cause = CAUSE_PROBE_ONLY, .fault = BLAME_NONE, .sureness = SURE_LIKELY},
    {.name = "left-without-quit", .ends = BY_CLIENT, .all = FACT_OWED_CLIENT | FACT_GREETED,
     .none = FACT_MAIL_OPEN | FACT_LINE_OPEN | FACT_TLS | LEG_FAILED | FACT_NOT_SMTP |
     FACT_RESET_FOREIGN,
     .cause = CAUSE_CLEAN, .fault = BLAME_NONE, .sureness = SURE_CERTAIN},
    {.name = "left-inside-tls", .ends = BY_CLIENT,
     .phases = PHASE(OPAQUE) | PHASE(IDLE) | PHASE(CLOSED) | PHASE(MAIL) | PHASE(HELO),
     .all = FACT_TLS | FACT_OWED_CLIENT, .none = LEG_FAILED | FACT_RESET_FOREIGN | FACT_TLS_REPLY_THEN_CLOSE,
     .cause = CAUSE_CLEAN, .fault = BLAME_NONE, .sureness = SURE_LIKELY},
    /* Nobody is known to owe: a ticket may have been taken for the answer that was waited for. */
    {.name = "left-inside-tls-at-once", .ends = BY_CLIENT,
     .phases = PHASE(OPAQUE) | PHASE(IDLE) | PHASE(CLOSED) | PHASE(MAIL) | PHASE(HELO),
     .all = FACT_TLS, .none = FACT_OWED_SERVER | LEG_FAILED | FACT_RESET_FOREIGN | FACT_TLS_REPLY_THEN_CLOSE | FACT_STALLED,
     .cause = CAUSE_CLEAN, .fault = BLAME_NONE, .sureness = SURE_LIKELY},
    /* Behind an answer to what looks like an envelope: a mail may have been open. */
    {.name = "left-in-envelope-inside-tls", .ends = BY_CLIENT, .all = FACT_TLS_INFERRED | FACT_TLS_REPLY_THEN_CLOSE,
     .none = FACT_OWED_SERVER | LEG_FAILED | FACT_RESET_FOREIGN,
     .cause = CAUSE_CLEAN, .fault = BLAME_NONE, .sureness = SURE_POSSIBLE},
    {.name = "answered-inside-tls", .ends = BY_SERVER, .all = FACT_TLS_INFERRED | FACT_TLS_QUIT_LIKELY,
     .none = FACT_STALLED | FACT_UNDELIVERED | FACT_RESET_FOREIGN | FACT_TLS_QUIT_SIZED,
     .cause = CAUSE_CLEAN, .fault = BLAME_NONE, .sureness = SURE_POSSIBLE},
    {.name = "quit-inside-tls", .ends = BY_CLIENT | BY_SERVER, .all = FACT_TLS_INFERRED | FACT_TLS_QUIT_LIKELY,
     .none = FACT_STALLED | FACT_UNDELIVERED | FACT_RESET_FOREIGN,
     .cause = CAUSE_CLEAN, .fault = BLAME_NONE, .sureness = SURE_LIKELY},
    {.name = "client-closed-tls", .ends = BY_CLIENT, .all = FACT_TLS_INFERRED | FACT_TLS_CLOSE_NOTIFY,
     .none = FACT_STALLED | FACT_UNDELIVERED | FACT_RESET_FOREIGN,
     .cause = CAUSE_CLEAN, .fault = BLAME_NONE, .sureness = SURE_LIKELY},
    {.name = "idle-at-end", .ends = END(DRAIN) | END(CAPTURE), .all = FACT_IDLE,
     .cause = CAUSE_CLEAN, .fault = BLAME_NONE, .sureness = SURE_LIKELY},
    {.name = "idle-at-stop", .ends = END(DRAIN) | END(CAPTURE), .all = FACT_OWED_CLIENT,
     .none = FACT_MAIL_OPEN | FACT_STALLED | FACT_TLS | FACT_LINE_OPEN,
     .cause = CAUSE_CLEAN, .fault = BLAME_NONE, .sureness = SURE_POSSIBLE},
    {.name = "witness-stopped", .ends = END(DRAIN), .none = FACT_STALLED,
     .cause = CAUSE_WITNESS_STOPPED, .fault = BLAME_WITNESS, .sureness = SURE_CERTAIN},

    /* --- an imperfect witness accuses nobody ------------------------------------------------------------------- */
    {.name = "observer-gap", .all = FACT_OBSERVER_GAP,
     .cause = CAUSE_CAPTURE_GAP, .fault = BLAME_UNKNOWN, .sureness = SURE_POSSIBLE},
    {.name = "one-way", .all = FACT_ONE_WAY,
     .cause = CAUSE_UNDETERMINED, .fault = BLAME_UNKNOWN, .sureness = SURE_POSSIBLE},
    {.name = "not-smtp", .all = FACT_NOT_SMTP,
     .cause = CAUSE_UNDETERMINED, .fault = BLAME_UNKNOWN, .sureness = SURE_POSSIBLE},

    /* --- a reset that is not who it says it is ------------------------------------------------------------------ */
    {.name = "reset-injected", .ends = END(SERVER_RESET) | END(CLIENT_RESET), .all = FACT_RESET_FOREIGN,
     .cause = CAUSE_RESET_INJECTED, .fault = BLAME_MIDDLEBOX, .sureness = SURE_CERTAIN,
     .limit_by = LIMIT_BY_MIDDLEBOX},

    {.name = "client-end-gone", .ends = END(CLIENT_RESET), .all = FACT_RESET_ANSWERS,
     .none = LEG_FAILED,
     .cause = CAUSE_RESET_INJECTED, .fault = BLAME_CLIENT_NETWORK, .also = ALSO(MIDDLEBOX) | ALSO(CLIENT),
     .sureness = SURE_LIKELY},

    /* --- the body ran all the time, too slowly for somebody's patience: what held it up? ------------------------- */
    {.name = "slow-unscaled", .ends = IMPATIENT, .all = FACT_FLOWING, .boxes = BOX(UNSCALED),
     .cause = CAUSE_WINDOW_SCALE_BROKEN, .fault = BLAME_MIDDLEBOX, .also = ALSO(SUSPECT), .sureness = SURE_LIKELY,
     .limit_by = LIMIT_BY_MIDDLEBOX},
    /* A queue as long as that window overflows just there, too. */
    {.name = "slow-tracked", .ends = IMPATIENT, .all = FACT_FLOWING, .boxes = BOX(TRACKED),
     .cause = CAUSE_WINDOW_SCALE_BROKEN, .fault = BLAME_MIDDLEBOX, .also = ALSO(SUSPECT) | ALSO(SUSPECT_NETWORK),
     .sureness = SURE_LIKELY, .limit_by = LIMIT_BY_MIDDLEBOX},
    {.name = "slow-sequence", .ends = IMPATIENT, .all = FACT_FLOWING, .boxes = BOX(SEQUENCE),
     .cause = CAUSE_SEQUENCE_REWRITTEN, .fault = BLAME_MIDDLEBOX, .also = ALSO(SUSPECT_NETWORK), .sureness = SURE_LIKELY,
     .limit_by = LIMIT_BY_MIDDLEBOX},
    {.name = "slow-witness", .ends = IMPATIENT, .all = FACT_FLOWING, .bottlenecks = SLOW(WITNESS),
     .cause = CAUSE_BANDWIDTH, .fault = BLAME_WITNESS, .sureness = SURE_LIKELY},
    {.name = "slow-server-loss", .ends = IMPATIENT, .all = FACT_FLOWING, .bottlenecks = SLOW(SERVER_LOSS),
     .cause = CAUSE_LOSS, .fault = BLAME_SERVER_NETWORK, .sureness = SURE_LIKELY},
    {.name = "slow-client-loss", .ends = IMPATIENT, .all = FACT_FLOWING, .bottlenecks = SLOW(CLIENT_LOSS),
     .cause = CAUSE_LOSS, .fault = BLAME_CLIENT_NETWORK, .sureness = SURE_LIKELY},
    {.name = "slow-server-path", .ends = IMPATIENT, .all = FACT_FLOWING, .bottlenecks = SLOW(SERVER_PATH),
     .cause = CAUSE_BANDWIDTH, .fault = BLAME_SERVER_NETWORK, .sureness = SURE_LIKELY},
    {.name = "slow-client-path", .ends = END(REPLY) | END(WITNESS), .all = FACT_FLOWING, .bottlenecks = SLOW(CLIENT_PATH),
     .cause = CAUSE_BANDWIDTH, .fault = BLAME_CLIENT_NETWORK, .also = ALSO(CLIENT), .sureness = SURE_LIKELY},
    {.name = "slow-server", .ends = IMPATIENT, .all = FACT_FLOWING, .bottlenecks = SLOW(SERVER),
     .cause = CAUSE_NOT_READING, .fault = BLAME_SERVER, .sureness = SURE_LIKELY},
    {.name = "slow-client", .ends = END(REPLY) | END(WITNESS), .phases = BODY_PHASES, .all = FACT_FLOWING,
     .bottlenecks = SLOW(CLIENT),
     .cause = CAUSE_SLOW_SENDER, .fault = BLAME_CLIENT, .sureness = SURE_LIKELY},
    {.name = "slow-somewhere", .ends = END(REPLY), .phases = BODY_PHASES, .classes = CLASS(TIMEOUT),
     .all = FACT_FLOWING | FACT_OWED_CLIENT,
     .cause = CAUSE_SLOW_SENDER, .fault = BLAME_CLIENT, .also = ALSO(CLIENT_NETWORK) | ALSO(SERVER_NETWORK),
     .sureness = SURE_LIKELY, .limit_by = LIMIT_BY_SERVER},

    /* --- the side that owed ended it itself --------------------------------------------------------------------- */
    {.name = "silent-close-greeting", .ends = END(SERVER_FIN), .phases = PHASE(GREETING),
     .all = FACT_NO_SERVER_OCTETS,
     .cause = CAUSE_SILENT_CLOSE, .fault = BLAME_SERVER, .also = ALSO(POLICY), .sureness = SURE_LIKELY},
    {.name = "silent-reset-greeting", .ends = END(SERVER_RESET), .phases = PHASE(GREETING),
     .all = FACT_NO_SERVER_OCTETS,
     .cause = CAUSE_SILENT_CLOSE, .fault = BLAME_SERVER, .also = ALSO(POLICY) | ALSO(MIDDLEBOX),
     .sureness = SURE_LIKELY},
    {.name = "silent-close-tls", .ends = BY_SERVER, .all = FACT_TLS_REPLY_THEN_CLOSE, .none = FACT_UNDELIVERED,
     .cause = CAUSE_SILENT_CLOSE, .fault = BLAME_SERVER, .also = ALSO(POLICY), .sureness = SURE_POSSIBLE},
    {.name = "long-line-killed", .ends = END(SERVER_RESET), .all = FACT_OWED_SERVER | FACT_LONG_COMMAND,
     .none = FACT_RESET_FITS,
     .cause = CAUSE_LONG_LINE_KILLED, .fault = BLAME_MIDDLEBOX, .also = ALSO(SERVER), .sureness = SURE_POSSIBLE,
     .limit_by = LIMIT_BY_MIDDLEBOX},
    /* Its FIN crossed the command: it closed on the client's turn, and how long that had lasted is not known any more. */
    {.name = "server-closed-crossing", .ends = END(SERVER_FIN), .phases = TURN_PHASES,
     .all = FACT_OWED_SERVER | FACT_CROSSED, .none = LEG_FAILED | FACT_STALLED,
     .cause = CAUSE_EARLY_CLOSE, .fault = BLAME_SERVER, .also = ALSO(CLIENT), .sureness = SURE_POSSIBLE},
    {.name = "server-closed-owing", .ends = END(SERVER_FIN), .all = FACT_OWED_SERVER, .none = LEG_FAILED,
     .cause = CAUSE_ABORTED, .fault = BLAME_SERVER, .sureness = SURE_CERTAIN},
    {.name = "server-reset-owing-fits", .ends = END(SERVER_RESET), .all = FACT_OWED_SERVER | FACT_RESET_FITS,
     .none = LEG_FAILED,
     .cause = CAUSE_ABORTED, .fault = BLAME_SERVER, .sureness = SURE_CERTAIN},
    {.name = "server-reset-owing", .ends = END(SERVER_RESET), .all = FACT_OWED_SERVER, .none = LEG_FAILED,
     .cause = CAUSE_ABORTED, .fault = BLAME_SERVER, .also = ALSO(MIDDLEBOX), .sureness = SURE_LIKELY},
    {.name = "left-waiting-behind-a-bare-dot", .ends = BY_CLIENT, .phases = BODY_PHASES,
     .all = FACT_OWED_CLIENT | FACT_STALLED | FACT_BARE_DOT,
     .none = LEG_FAILED,
     .cause = CAUSE_UNTERMINATED_BODY, .fault = BLAME_CLIENT, .sureness = SURE_LIKELY},
    {.name = "client-closed-owing", .ends = END(CLIENT_FIN), .all = FACT_OWED_CLIENT,
     .none = LEG_FAILED,
     .cause = CAUSE_ABORTED, .fault = BLAME_CLIENT, .sureness = SURE_CERTAIN},
    {.name = "client-reset-owing-fits", .ends = END(CLIENT_RESET), .all = FACT_OWED_CLIENT | FACT_RESET_FITS,
     .none = LEG_FAILED,
     .cause = CAUSE_ABORTED, .fault = BLAME_CLIENT, .sureness = SURE_CERTAIN},
    {.name = "client-reset-owing", .ends = END(CLIENT_RESET), .all = FACT_OWED_CLIENT,
     .none = LEG_FAILED,
     .cause = CAUSE_ABORTED, .fault = BLAME_CLIENT, .also = ALSO(MIDDLEBOX), .sureness = SURE_LIKELY},

    /* --- the other side ended it at once: nobody was waited for -------------------------------------------------- */
    /* A FIN at once behind the final dot, and the mail was accepted: it may well have listened on. */
    {.name = "client-half-closed", .ends = END(CLIENT_FIN), .phases = PHASE(END_OF_DATA),
     .all = FACT_OWED_SERVER | FACT_MAIL_ACCEPTED, .none = FACT_STALLED | FACT_UNDELIVERED,
     .cause = CAUSE_ABORTED, .fault = BLAME_CLIENT, .sureness = SURE_POSSIBLE},
    {.name = "client-closed-early", .ends = END(CLIENT_FIN), .all = FACT_OWED_SERVER,
     .none = FACT_STALLED | FACT_UNDELIVERED,
     .cause = CAUSE_ABORTED, .fault = BLAME_CLIENT, .sureness = SURE_CERTAIN},
    {.name = "client-reset-early", .ends = END(CLIENT_RESET), .all = FACT_OWED_SERVER,
     .none = FACT_STALLED | FACT_UNDELIVERED,
     .cause = CAUSE_ABORTED, .fault = BLAME_CLIENT, .also = ALSO(MIDDLEBOX), .sureness = SURE_LIKELY},
    {.name = "server-closed-early", .ends = END(SERVER_FIN), .all = FACT_OWED_CLIENT,
     .none = FACT_STALLED | FACT_UNDELIVERED,
     .cause = CAUSE_ABORTED, .fault = BLAME_SERVER, .sureness = SURE_CERTAIN},
    {.name = "server-reset-early-fits", .ends = END(SERVER_RESET), .all = FACT_OWED_CLIENT | FACT_RESET_FITS,
     .none = FACT_STALLED | FACT_UNDELIVERED,
     .cause = CAUSE_ABORTED, .fault = BLAME_SERVER, .sureness = SURE_CERTAIN},
    {.name = "server-reset-early", .ends = END(SERVER_RESET), .all = FACT_OWED_CLIENT,
     .none = FACT_STALLED | FACT_UNDELIVERED,
     .cause = CAUSE_ABORTED, .fault = BLAME_SERVER, .also = ALSO(MIDDLEBOX), .sureness = SURE_LIKELY},

    /* --- what TCP proves about the leg of the side that owed, whoever ended it ----------------------------------- */
    {.name = "undelivered-unscaled", .all = FACT_UNDELIVERED, .boxes = BOX(TRACKED),
     .cause = CAUSE_WINDOW_SCALE_BROKEN, .fault = BLAME_MIDDLEBOX, .also = ALSO(SUSPECT_NETWORK), .sureness = SURE_LIKELY,
     .limit_by = LIMIT_BY_MIDDLEBOX},
    {.name = "undelivered-sequence", .all = FACT_UNDELIVERED, .boxes = BOX(SEQUENCE),
     .cause = CAUSE_SEQUENCE_REWRITTEN, .fault = BLAME_MIDDLEBOX, .also = ALSO(SUSPECT_NETWORK), .sureness = SURE_LIKELY,
     .limit_by = LIMIT_BY_MIDDLEBOX},
    /* A full receiver drops what its window had promised, and answers each repetition with a closed window. */
    {.name = "not-reading-full", .all = FACT_UNDELIVERED | FACT_WINDOW_ZERO | FACT_HEARD | FACT_STALLED,
     .cause = CAUSE_NOT_READING, .fault = BLAME_SUSPECT, .also = ALSO(SUSPECT_NETWORK), .sureness = SURE_LIKELY},
    {.name = "split-dot-lost", .phases = PHASE(END_OF_DATA), .all = FACT_UNDELIVERED | FACT_OWED_SERVER | FACT_SPLIT_DOT |
     FACT_BANNER_MASKED,
     .cause = CAUSE_SPLIT_DOT, .fault = BLAME_MIDDLEBOX, .also = ALSO(SERVER) | ALSO(SERVER_NETWORK),
     .sureness = SURE_LIKELY},
    {.name = "path-mtu", .all = FACT_UNDELIVERED | FACT_ONLY_BIG_LOST | FACT_HEARD,
     .cause = CAUSE_PATH_MTU_BLACK_HOLE, .fault = BLAME_SUSPECT_NETWORK, .sureness = SURE_CERTAIN},
    /* Nothing at all comes back: it may have died just when the first full segment was due. */
    {.name = "path-mtu-unheard", .all = FACT_UNDELIVERED | FACT_ONLY_BIG_LOST,
     .cause = CAUSE_PATH_MTU_BLACK_HOLE, .fault = BLAME_SUSPECT_NETWORK, .also = ALSO(SUSPECT), .sureness = SURE_LIKELY},
    {.name = "unreachable", .all = FACT_UNREACHABLE, .any = FACT_UNDELIVERED | FACT_PROBE_UNANSWERED,
     .cause = CAUSE_UNREACHABLE, .fault = BLAME_SUSPECT_NETWORK, .sureness = SURE_CERTAIN},
    {.name = "fresh-ones-fail-too", .all = FACT_UNDELIVERED | FACT_AFTER_LONG_IDLE,
     .near = NEAR_FRESH_FAILS, .near_none = NEAR_FRESH_WORKS,
     .cause = CAUSE_LEG_UNANSWERED, .fault = BLAME_SUSPECT_NETWORK, .also = ALSO(SUSPECT), .sureness = SURE_CERTAIN},
    {.name = "fresh-one-works", .all = FACT_UNDELIVERED | FACT_AFTER_PAUSE, .near = NEAR_FRESH_WORKS,
     .cause = CAUSE_STATE_EXPIRED, .fault = BLAME_MIDDLEBOX, .also = ALSO(SUSPECT_NETWORK),
     .sureness = SURE_LIKELY, .limit_by = LIMIT_BY_MIDDLEBOX},
    {.name = "state-expired", .all = FACT_UNDELIVERED | FACT_AFTER_LONG_IDLE,
     .cause = CAUSE_STATE_EXPIRED, .fault = BLAME_MIDDLEBOX, .also = ALSO(SUSPECT_NETWORK) | ALSO(SUSPECT),
     .sureness = SURE_LIKELY, .limit_by = LIMIT_BY_MIDDLEBOX},
    {.name = "backlog-full", .phases = PHASE(GREETING), .all = FACT_OWED_SERVER | FACT_STALLED | FACT_SYN_ACK_REPEATED,
     .cause = CAUSE_BACKLOG_FULL, .fault = BLAME_SERVER, .sureness = SURE_CERTAIN},
    /* The path and that host carry others: what fails belongs to this connection alone. */
    {.name = "undelivered-here-only", .all = FACT_UNDELIVERED, .near = NEAR_FRESH_WORKS,
     .cause = CAUSE_LEG_UNANSWERED, .fault = BLAME_SUSPECT_NETWORK, .also = ALSO(SUSPECT) | ALSO(MIDDLEBOX),
     .sureness = SURE_LIKELY},
    {.name = "undelivered", .all = FACT_UNDELIVERED,
     .cause = CAUSE_LEG_UNANSWERED, .fault = BLAME_SUSPECT_NETWORK, .also = ALSO(SUSPECT), .sureness = SURE_CERTAIN},
    {.name = "window-tiny", .all = FACT_STALLED, .boxes = BOX(UNSCALED),
     .cause = CAUSE_WINDOW_SCALE_BROKEN, .fault = BLAME_MIDDLEBOX, .also = ALSO(SUSPECT), .sureness = SURE_LIKELY},
    {.name = "not-reading", .all = FACT_WINDOW_ZERO | FACT_STALLED, .none = FACT_PROBE_UNANSWERED,
     .cause = CAUSE_NOT_READING, .fault = BLAME_SUSPECT, .sureness = SURE_CERTAIN},
    {.name = "revealed-big", /* RCPT: a BDAT command is lost with the first segment of its chunk */
     .phases = BODY_PHASES | PHASE(TLS) | PHASE(OPAQUE) | PHASE(RCPT), .all = FACT_REVEALED_BIG,
     .cause = CAUSE_PATH_MTU_BLACK_HOLE, .fault = BLAME_SUSPECT_NETWORK, .sureness = SURE_LIKELY},
    {.name = "revealed", .all = FACT_REVEALED,
     .cause = CAUSE_OCTETS_LOST, .fault = BLAME_SUSPECT_NETWORK, .sureness = SURE_CERTAIN},
    {.name = "probe-unanswered", .all = FACT_PROBE_UNANSWERED,
     .cause = CAUSE_LEG_UNANSWERED, .fault = BLAME_SUSPECT_NETWORK, .also = ALSO(SUSPECT), .sureness = SURE_CERTAIN},
    {.name = "client-lost", .ends = END(CLIENT_LOST),
     .cause = CAUSE_LEG_UNANSWERED, .fault = BLAME_CLIENT_NETWORK, .also = ALSO(CLIENT), .sureness = SURE_CERTAIN},
    {.name = "server-lost", .ends = END(SERVER_LOST),
     .cause = CAUSE_LEG_UNANSWERED, .fault = BLAME_SERVER_NETWORK, .also = ALSO(SERVER), .sureness = SURE_CERTAIN},

    /* --- all was delivered: one side was slow, the other impatient (RFC 5321 4.5.3.2 is the yardstick) ----------- */
    {.name = "cut-by-us", .ends = END(DRAIN), .none = FACT_PAST_RFC,
     .cause = CAUSE_WITNESS_STOPPED, .fault = BLAME_WITNESS, .sureness = SURE_CERTAIN},
    {.name = "not-judged-yet", .ends = END(CAPTURE), .none = FACT_PAST_RFC,
     .cause = CAUSE_UNDETERMINED, .fault = BLAME_UNKNOWN, .sureness = SURE_POSSIBLE},
    {.name = "tarpit", .ends = BY_CLIENT | END(NONE) | END(WITNESS),
     .all = FACT_OWED_SERVER | FACT_STALLED | FACT_TARPIT | FACT_ERRORS_BEFORE, .none = FACT_PAST_RFC,
     .cause = CAUSE_TARPIT, .fault = BLAME_POLICY, .also = ALSO(CLIENT), .sureness = SURE_LIKELY,
     .limit_by = LIMIT_BY_SERVER},
    {.name = "slow-replies", .ends = BY_CLIENT | END(WITNESS),
     .all = FACT_OWED_SERVER | FACT_STALLED | FACT_TARPIT, .none = FACT_PAST_RFC,
     .cause = CAUSE_TARPIT, .fault = BLAME_SERVER, .also = ALSO(CLIENT) | ALSO(SERVER_NETWORK), .sureness = SURE_LIKELY,
     .limit_by = LIMIT_BY_SERVER},
    {.name = "early-close-by-reset", .ends = END(SERVER_RESET), .all = FACT_OWED_CLIENT,
     .none = FACT_PAST_RFC | FACT_RESET_FITS,
     .cause = CAUSE_EARLY_CLOSE, .fault = BLAME_SERVER, .also = ALSO(CLIENT) | ALSO(MIDDLEBOX),
     .sureness = SURE_LIKELY, .limit_by = LIMIT_BY_SERVER},
    {.name = "gave-up-by-reset", .ends = END(CLIENT_RESET), .all = FACT_OWED_SERVER,
     .none = FACT_PAST_RFC | FACT_RESET_FITS,
     .cause = CAUSE_GAVE_UP_EARLY, .fault = BLAME_CLIENT, .also = ALSO(SERVER) | ALSO(MIDDLEBOX),
     .sureness = SURE_LIKELY, .limit_by = LIMIT_BY_CLIENT},
    {.name = "early-close", .ends = BY_SERVER, .all = FACT_OWED_CLIENT, .none = FACT_PAST_RFC,
     .cause = CAUSE_EARLY_CLOSE, .fault = BLAME_SERVER, .also = ALSO(CLIENT), .sureness = SURE_CERTAIN,
     .limit_by = LIMIT_BY_SERVER},
    {.name = "gave-up-early", .ends = BY_CLIENT, .all = FACT_OWED_SERVER, .none = FACT_PAST_RFC,
     .cause = CAUSE_GAVE_UP_EARLY, .fault = BLAME_CLIENT, .also = ALSO(SERVER), .sureness = SURE_CERTAIN,
     .limit_by = LIMIT_BY_CLIENT},

    /* --- silence of the client ------------------------------------------------------------------------------------ */
    {.name = "unterminated-body", .phases = BODY_PHASES, .all = FACT_OWED_CLIENT | FACT_STALLED | FACT_BARE_DOT,
     .cause = CAUSE_UNTERMINATED_BODY, .fault = BLAME_CLIENT, .sureness = SURE_BY_PROBE},
    {.name = "slow-sender", .ends = END(REPLY), .phases = BODY_PHASES, .classes = CLASS(TIMEOUT),
     .all = FACT_OWED_CLIENT | FACT_BODY_BEGAN, .none = FACT_STALLED,
     .cause = CAUSE_SLOW_SENDER, .fault = BLAME_CLIENT, .also = ALSO(CLIENT_NETWORK) | ALSO(SERVER_NETWORK),
     .sureness = SURE_LIKELY, .limit_by = LIMIT_BY_SERVER},
    {.name = "data-start", .phases = PHASE(BODY), .all = FACT_OWED_CLIENT | FACT_STALLED, .none = FACT_BODY_BEGAN,
     .cause = CAUSE_DATA_START_STALL, .fault = BLAME_CLIENT, .sureness = SURE_BY_PROBE},
    {.name = "body", .phases = BODY_PHASES, .all = FACT_OWED_CLIENT | FACT_STALLED,
     .cause = CAUSE_BODY_STALL, .fault = BLAME_CLIENT, .sureness = SURE_BY_PROBE},
    {.name = "tls-client", .phases = PHASE(TLS), .all = FACT_OWED_CLIENT | FACT_STALLED,
     .cause = CAUSE_TLS_HANDSHAKE_STALL, .fault = BLAME_CLIENT, .sureness = SURE_BY_PROBE},
    {.name = "idle-live", .ends = END(NONE), .all = FACT_OWED_CLIENT | FACT_IDLE, .none = FACT_UNDELIVERED,
     .cause = CAUSE_CLEAN, .fault = BLAME_NONE, .sureness = SURE_LIKELY},
    {.name = "unterminated-command", .phases = TURN_PHASES, .all = FACT_OWED_CLIENT | FACT_STALLED | FACT_LINE_OPEN,
     .cause = CAUSE_UNTERMINATED_COMMAND, .fault = BLAME_CLIENT, .sureness = SURE_BY_PROBE},
    {.name = "command", .phases = TURN_PHASES, .all = FACT_OWED_CLIENT | FACT_STALLED,
     .cause = CAUSE_COMMAND_STALL, .fault = BLAME_CLIENT, .sureness = SURE_BY_PROBE},

    /* --- silence of the server ------------------------------------------------------------------------------------ */
    {.name = "incomplete-reply", .all = FACT_OWED_SERVER | FACT_STALLED | FACT_REPLY_OPEN, .none = FACT_LINE_OPEN,
     .cause = CAUSE_INCOMPLETE_REPLY, .fault = BLAME_SERVER, .sureness = SURE_BY_PROBE},
    {.name = "unterminated-reply", .all = FACT_OWED_SERVER | FACT_STALLED | FACT_LINE_OPEN,
     .cause = CAUSE_UNTERMINATED_REPLY, .fault = BLAME_SERVER, .sureness = SURE_BY_PROBE},
    {.name = "greeting", .phases = PHASE(GREETING), .all = FACT_OWED_SERVER | FACT_STALLED,
     .cause = CAUSE_GREETING_STALL, .fault = BLAME_SERVER, .sureness = SURE_BY_PROBE},
    {.name = "split-dot", .phases = PHASE(END_OF_DATA), .all = FACT_OWED_SERVER | FACT_STALLED | FACT_SPLIT_DOT |
     FACT_BANNER_MASKED,
     .cause = CAUSE_SPLIT_DOT, .fault = BLAME_MIDDLEBOX, .also = ALSO(SERVER), .sureness = SURE_LIKELY},
    /* Inside TLS it said something late and closed: perhaps that was the answer, perhaps it had waited for the rest. */
    {.name = "leave-inside-tls", .ends = END(REPLY), .all = FACT_TLS_INFERRED | FACT_OWED_SERVER | FACT_STALLED,
     .cause = CAUSE_UNDETERMINED, .fault = BLAME_UNKNOWN, .sureness = SURE_POSSIBLE},
    {.name = "end-of-data", .phases = PHASE(END_OF_DATA), .all = FACT_OWED_SERVER | FACT_STALLED,
     .cause = CAUSE_END_OF_DATA_STALL, .fault = BLAME_SERVER, .sureness = SURE_BY_PROBE},
    {.name = "tls-server", .phases = PHASE(TLS), .all = FACT_OWED_SERVER | FACT_STALLED,
     .cause = CAUSE_TLS_HANDSHAKE_STALL, .fault = BLAME_SERVER, .sureness = SURE_BY_PROBE},
    {.name = "reply", .phases = TURN_PHASES | BODY_PHASES, .all = FACT_OWED_SERVER | FACT_STALLED,
     .cause = CAUSE_REPLY_STALL, .fault = BLAME_SERVER, .sureness = SURE_BY_PROBE},

    /* --- and what remains ------------------------------------------------------------------------------------------ */
    {.name = "midstream", .all = FACT_MIDSTREAM,
     .cause = CAUSE_CAPTURE_GAP, .fault = BLAME_UNKNOWN, .sureness = SURE_POSSIBLE},
    {.name = "undetermined",
     .cause = CAUSE_UNDETERMINED, .fault = BLAME_UNKNOWN, .sureness = SURE_POSSIBLE},
};
/* clang-format on */
_Static_assert(sizeof rules / sizeof rules[0] < 200, "the table is read once per verdict");
_Static_assert(SESSION_END_COUNT <= 32 && PHASE_COUNT <= 32 && REPLY_CLASS_COUNT <= 32, "sets fit 32 bits");

static bool set_admits(uint32_t set, unsigned member)
{
    return set == 0 || (set >> member & 1u) != 0;
}

static bool rule_fits(const struct rule *rule, const struct facts *facts)
{
    return set_admits(rule->ends, facts->end) && set_admits(rule->phases, facts->phase) &&
           set_admits(rule->classes, facts->reply_class) && set_admits(rule->connects, facts->connect) &&
           set_admits(rule->bottlenecks, facts->bottleneck) && set_admits(rule->boxes, facts->box) &&
           (facts->bits & rule->all) == rule->all && (rule->any == 0 || (facts->bits & rule->any) != 0) &&
           (facts->bits & rule->none) == 0 && (facts->near & rule->near) == rule->near &&
           (facts->near & rule->near_none) == 0;
}

static const struct rule *rule_find(const struct facts *facts)
{
    const struct rule *rule = rules;
    while (!rule_fits(rule, facts)) { /* the last rule fits everything */
        rule++;
    }
    return rule;
}

static enum fault blame_resolve(enum blame blame, enum side suspect)
{
    switch (blame) {
    case BLAME_NONE:
        return FAULT_NONE;
    case BLAME_CLIENT:
        return FAULT_CLIENT;
    case BLAME_SERVER:
        return FAULT_SERVER;
    case BLAME_SUSPECT:
        return suspect == SIDE_CLIENT ? FAULT_CLIENT : suspect == SIDE_SERVER ? FAULT_SERVER : FAULT_UNKNOWN;
    case BLAME_CLIENT_NETWORK:
        return FAULT_CLIENT_NETWORK;
    case BLAME_SERVER_NETWORK:
        return FAULT_SERVER_NETWORK;
    case BLAME_SUSPECT_NETWORK:
        return suspect == SIDE_CLIENT   ? FAULT_CLIENT_NETWORK
               : suspect == SIDE_SERVER ? FAULT_SERVER_NETWORK
                                        : FAULT_UNKNOWN;
    case BLAME_MIDDLEBOX:
        return FAULT_MIDDLEBOX;
    case BLAME_POLICY:
        return FAULT_POLICY;
    case BLAME_WITNESS:
        return FAULT_WITNESS;
    case BLAME_UNKNOWN:
        return FAULT_UNKNOWN;
    }
    return FAULT_UNKNOWN;
}

static uint32_t also_resolve(uint32_t also, const struct facts *facts)
{
    uint32_t faults = 0;
    for (unsigned blame = BLAME_CLIENT; blame <= BLAME_UNKNOWN; blame++) {
        if (also >> blame & 1u) {
            faults |= 1u << blame_resolve((enum blame)blame, facts->suspect);
        }
    }
    return faults;
}

static enum where where_is_box(const struct rule *rule, const struct facts *facts)
{
    bool by_end = rule->boxes == 0; /* else it shows on the suspect's leg, whoever ended it */
    if (rule->cause == CAUSE_VERBS_REWRITTEN || (by_end && facts->end == SESSION_END_CLIENT_RESET)) {
        return WHERE_CLIENT_LEG;
    }
    if (by_end && (facts->end == SESSION_END_SERVER_RESET || facts->end == SESSION_END_CONNECT_FAILED ||
                   rule->cause == CAUSE_CAPABILITIES_MASKED)) {
        return WHERE_SERVER_LEG;
    }
    return facts->suspect == SIDE_CLIENT   ? WHERE_CLIENT_LEG
           : facts->suspect == SIDE_SERVER ? WHERE_SERVER_LEG
                                           : WHERE_UNKNOWN;
}

static enum where where_of(const struct rule *rule, const struct facts *facts, enum fault fault)
{
    switch (fault) {
    case FAULT_CLIENT:
    case FAULT_CLIENT_NETWORK:
        return WHERE_CLIENT_LEG;
    case FAULT_SERVER:
    case FAULT_SERVER_NETWORK:
        return WHERE_SERVER_LEG;
    case FAULT_WITNESS:
        return WHERE_HERE;
    case FAULT_POLICY:
        return rule->limit_by == LIMIT_BY_WITNESS ? WHERE_HERE : WHERE_SERVER_LEG;
    case FAULT_MIDDLEBOX:
        return where_is_box(rule, facts);
    case FAULT_NONE:
    case FAULT_UNKNOWN:
    case FAULT_COUNT:
        return WHERE_UNKNOWN;
    }
    return WHERE_UNKNOWN;
}

static enum ended_by ended_by_of(const struct facts *facts)
{
    switch (facts->end) {
    case SESSION_END_NONE:
        return ENDED_BY_NONE;
    case SESSION_END_REPLY:
        return ENDED_BY_SERVER;
    case SESSION_END_CLIENT_FIN:
        return ENDED_BY_CLIENT;
    case SESSION_END_SERVER_FIN:
        return ENDED_BY_SERVER;
    case SESSION_END_CLIENT_RESET:
        return (facts->bits & FACT_RESET_FOREIGN) ? ENDED_BY_MIDDLEBOX : ENDED_BY_CLIENT;
    case SESSION_END_SERVER_RESET:
        return (facts->bits & FACT_RESET_FOREIGN) ? ENDED_BY_MIDDLEBOX : ENDED_BY_SERVER;
    case SESSION_END_CLIENT_LOST:
        return ENDED_BY_CLIENT_NETWORK;
    case SESSION_END_SERVER_LOST:
        return ENDED_BY_SERVER_NETWORK;
    case SESSION_END_CONNECT_FAILED:
        switch (facts->connect) {
        case CONNECT_REFUSED:
            return (facts->bits & FACT_RESET_FOREIGN) ? ENDED_BY_MIDDLEBOX : ENDED_BY_SERVER;
        case CONNECT_TIMED_OUT:
        case CONNECT_PENDING:
            return ENDED_BY_TIMEOUT;
        case CONNECT_UNREACHABLE:
            return ENDED_BY_SERVER_NETWORK;
        case CONNECT_PROHIBITED:
        case CONNECT_REJECTED:
            return ENDED_BY_MIDDLEBOX;
        case CONNECT_LOCAL_ERROR:
            return ENDED_BY_WITNESS;
        case CONNECT_ESTABLISHED:
        case CONNECT_COUNT:
            break;
        }
        return ENDED_BY_UNKNOWN;
    case SESSION_END_WITNESS:
    case SESSION_END_REFUSED:
    case SESSION_END_DRAIN:
    case SESSION_END_OVERLOAD:
        return ENDED_BY_WITNESS;
    case SESSION_END_CAPTURE:
        return ENDED_BY_CAPTURE_END;
    case SESSION_END_COUNT:
        break;
    }
    return ENDED_BY_UNKNOWN;
}

/* Inside TLS the turn is inferred from sizes: no application is accused with certainty. A closed window is no
 * inference. */
static void cap_inferred(const struct facts *facts, struct verdict *verdict)
{
    bool application = (verdict->fault == FAULT_CLIENT || verdict->fault == FAULT_SERVER) &&
                       verdict->cause != CAUSE_NOT_READING && verdict->cause != CAUSE_TLS_ALERT;
    if ((facts->bits & FACT_TLS_INFERRED) && verdict->cause == CAUSE_IDLE_REAPED) {
        verdict->notes |= NOTE_INFERRED;
        verdict->confidence = CONFIDENCE_POSSIBLE; /* the next mail may have been begun */
    }
    if ((facts->bits & FACT_TLS_INFERRED) && verdict->cause == CAUSE_END_OF_DATA_STALL &&
        !(facts->bits &
          FACT_TLS_QUIT_SIZED)) { /* no record as short as the final dot: the end may be missing */
        verdict->also |= 1u << FAULT_CLIENT;
        verdict->confidence = CONFIDENCE_POSSIBLE;
    }
    if ((facts->bits & FACT_TLS_INFERRED) && application) {
        verdict->notes |= NOTE_INFERRED;
        if (verdict->confidence == CONFIDENCE_CERTAIN) {
            verdict->confidence = CONFIDENCE_LIKELY;
        }
    }
}

/* What we did not see may have been the beginning of a mail: only words seen tell that none was open. */
static void cap_unseen(const struct facts *facts, struct verdict *verdict)
{
    if ((facts->bits & (FACT_OBSERVER_GAP | FACT_MIDSTREAM | FACT_ONE_WAY)) &&
        !(facts->bits & FACT_ORDERLY) && verdict->fault == FAULT_NONE &&
        verdict->confidence == CONFIDENCE_CERTAIN) {
        verdict->confidence = CONFIDENCE_LIKELY;
    }
}

static enum confidence confidence_of(const struct rule *rule, const struct facts *facts,
                                     struct verdict *verdict)
{
    switch (rule->sureness) {
    case SURE_POSSIBLE:
        return CONFIDENCE_POSSIBLE;
    case SURE_LIKELY:
        return CONFIDENCE_LIKELY;
    case SURE_CERTAIN:
        /* That a side left too early is certain; the silence it did not bear may be the network's as well. */
        if ((rule->cause == CAUSE_EARLY_CLOSE || rule->cause == CAUSE_GAVE_UP_EARLY) &&
            !((facts->bits & FACT_PROBE_ANSWERED) && (facts->bits & FACT_TAPPED))) {
            verdict->also |= 1u << blame_resolve(BLAME_SUSPECT_NETWORK, facts->suspect);
        }
        return CONFIDENCE_CERTAIN;
    case SURE_BY_PROBE:
        if ((facts->bits & FACT_PROBE_ANSWERED) && (facts->bits & FACT_TAPPED)) {
            return CONFIDENCE_CERTAIN;
        }
        /* Everything we sent is acknowledged, but what the suspect said may have been lost on its way to us. */
        verdict->also |= 1u << blame_resolve(BLAME_SUSPECT_NETWORK, facts->suspect);
        verdict->notes |= (facts->bits & FACT_PROBE_ANSWERED) ? 0 : NOTE_UNPROBED;
        return CONFIDENCE_LIKELY;
    }
    return CONFIDENCE_POSSIBLE;
}

/* A limit that ended a silence belongs to the side that ended it, whatever the cause of the silence. */
static void limit_fill(const struct rule *rule, const struct facts *facts, struct verdict *verdict)
{
    verdict->limit_by = rule->limit_by;
    bool silence = (facts->bits & FACT_STALLED) != 0;
    if (facts->end == SESSION_END_WITNESS || facts->end == SESSION_END_REFUSED) {
        verdict->limit_by = LIMIT_BY_WITNESS;
        verdict->limit_us = facts->limit_us;
        return;
    }
    if ((facts->bits & FACT_FLOWING) && (rule->bottlenecks | rule->boxes) != 0) {
        return; /* no silence was cut */
    }
    if (verdict->cause == CAUSE_TARPIT) {
        verdict->limit_us = facts->end == SESSION_END_NONE ? 0 : facts->waited_us;
        return;
    }
    bool below_rfc = facts->patience_us != 0 && (facts->bits & FACT_PAST_RFC) == 0;
    bool server_tired = facts->end == SESSION_END_REPLY && (facts->bits & FACT_SERVER_TIRED) != 0;
    bool server_left = facts->end == SESSION_END_SERVER_FIN || facts->end == SESSION_END_SERVER_RESET;
    bool client_left = facts->end == SESSION_END_CLIENT_FIN || facts->end == SESSION_END_CLIENT_RESET;
    if (!silence || verdict->cause == CAUSE_CLEAN || verdict->cause == CAUSE_ABORTED ||
        verdict->cause == CAUSE_RESET_INJECTED || verdict->cause == CAUSE_PROBE_ONLY) {
        return;
    }
    if (server_tired || (server_left && (facts->bits & FACT_OWED_CLIENT))) {
        verdict->limit_by = LIMIT_BY_SERVER;
        verdict->limit_us = facts->waited_us;
        if (below_rfc && verdict->cause != CAUSE_IDLE_REAPED && (facts->bits & FACT_OWED_CLIENT)) {
            verdict->notes |= NOTE_SERVER_LIMIT_BELOW_RFC;
        }
    } else if (client_left && (facts->bits & FACT_OWED_SERVER)) {
        verdict->limit_by = LIMIT_BY_CLIENT;
        verdict->limit_us = facts->waited_us;
        if (below_rfc) {
            verdict->notes |= NOTE_CLIENT_LIMIT_BELOW_RFC;
        }
    }
}

/* A 421 that does not say why, after a silence: most likely for the silence, but it may be anything the server minds. */
static void cap_guessed(const struct facts *facts, struct verdict *verdict)
{
    if ((facts->bits & FACT_TIRED_GUESSED) && verdict->fault == FAULT_CLIENT) {
        verdict->also |= 1u << FAULT_POLICY | 1u << FAULT_SERVER;
        if (verdict->confidence == CONFIDENCE_CERTAIN) {
            verdict->confidence = CONFIDENCE_LIKELY;
        }
    }
}

/* RFC 5321 4.2.3: 451, 454 and 455 say that the server was not able to, whatever its words mean by it. */
static void cap_temporary(const struct facts *facts, struct verdict *verdict)
{
    bool unable = facts->reply_code == 451 || facts->reply_code == 454 || facts->reply_code == 455;
    if (verdict->cause == CAUSE_REJECTED && unable && facts->reply_class == REPLY_CLASS_OTHER) {
        verdict->also |= 1u << FAULT_SERVER;
        verdict->confidence = CONFIDENCE_LIKELY;
    }
}

/* As long as RFC 5321 grants but for what our place on the path takes away: who left may have been a moment early. */
static void cap_borderline(const struct facts *facts, struct verdict *verdict)
{
    bool borderline = (facts->bits & FACT_PAST_RFC) != 0 && facts->waited_us < facts->patience_us;
    bool client_left = facts->end == SESSION_END_CLIENT_FIN || facts->end == SESSION_END_CLIENT_RESET;
    bool server_left = facts->end == SESSION_END_SERVER_FIN || facts->end == SESSION_END_SERVER_RESET;
    if (borderline && verdict->fault == FAULT_SERVER && client_left) {
        verdict->also |= 1u << FAULT_CLIENT;
    } else if (borderline && verdict->fault == FAULT_CLIENT && server_left) {
        verdict->also |= 1u << FAULT_SERVER;
    }
}

/* What the neighbours showed, where it counts. */
static uint64_t near_notes(const struct facts *facts, enum cause cause)
{
    static const struct {
        enum near near;
        uint64_t note;
    } map[] = {
        {NEAR_OTHERS_CONNECT, NOTE_OTHERS_GET_IN}, {NEAR_OTHERS_FAIL, NOTE_OTHERS_FAIL_TOO},
        {NEAR_PAIR_LIVES, NOTE_OLDER_ONES_LIVE},   {NEAR_FRESH_WORKS, NOTE_FRESH_ONE_WORKS},
        {NEAR_FRESH_FAILS, NOTE_FRESH_ONE_FAILS},  {NEAR_UNEXPLAINED, NOTE_UNEXPLAINED_LIMIT},
    };
    uint64_t notes = 0;
    bool counts = cause == CAUSE_CONNECT_UNANSWERED || cause == CAUSE_SOURCE_FILTERED ||
                  cause == CAUSE_STATE_EXPIRED || cause == CAUSE_LEG_UNANSWERED ||
                  cause == CAUSE_PER_SOURCE_LIMIT;
    for (size_t i = 0; counts && i < sizeof map / sizeof map[0]; i++) {
        notes |= (facts->near & map[i].near) ? map[i].note : 0;
    }
    return notes;
}

/* A limit on the whole session hits whoever is served slowly: what held the body up had its part. */
static void add_contributor(const struct facts *facts, struct verdict *verdict)
{
    static const enum fault parties[BOTTLENECK_COUNT] = {
        [BOTTLENECK_UNKNOWN] = FAULT_NONE,
        [BOTTLENECK_CLIENT] = FAULT_CLIENT,
        [BOTTLENECK_SERVER] = FAULT_SERVER,
        [BOTTLENECK_CLIENT_LOSS] = FAULT_CLIENT_NETWORK,
        [BOTTLENECK_SERVER_LOSS] = FAULT_SERVER_NETWORK,
        [BOTTLENECK_CLIENT_PATH] = FAULT_CLIENT_NETWORK,
        [BOTTLENECK_SERVER_PATH] = FAULT_SERVER_NETWORK,
        [BOTTLENECK_WITNESS] = FAULT_WITNESS,
    };
    if (verdict->cause == CAUSE_SESSION_TIME_LIMIT && (facts->bits & FACT_FLOWING) &&
        facts->bottleneck != BOTTLENECK_UNKNOWN) {
        verdict->also |= 1u << parties[facts->bottleneck];
    }
    bool client_left = facts->end == SESSION_END_CLIENT_FIN || facts->end == SESSION_END_CLIENT_RESET;
    if (client_left && (facts->bits & FACT_FLOWING) &&
        (verdict->cause == CAUSE_LOSS || verdict->cause == CAUSE_BANDWIDTH)) {
        verdict->also |= 1u << FAULT_CLIENT; /* it left; for that reason or for one of its own */
    }
}

/* What TCP itself proves about a leg needs no knowledge of the dialogue. */
static bool cause_is_of_tcp(enum cause cause)
{
    return cause == CAUSE_LEG_UNANSWERED || cause == CAUSE_PATH_MTU_BLACK_HOLE ||
           cause == CAUSE_NOT_READING || cause == CAUSE_UNREACHABLE || cause == CAUSE_OCTETS_LOST ||
           cause == CAUSE_RESET_INJECTED || cause == CAUSE_STATE_EXPIRED;
}

/* It began before we saw it, and nothing we saw was answered: what looks like the end of a body, or a command, may be text. Then only
 * a reply that decides, TCP, or what we did ourselves, tells something. */
static bool is_guesswork(const struct rule *rule, const struct facts *facts)
{
    bool ours =
        rule->fault == BLAME_NONE || rule->fault == BLAME_WITNESS || rule->limit_by == LIMIT_BY_WITNESS;
    return facts->blind && !ours && !cause_is_of_tcp(rule->cause) && (rule->all & FACT_REPLY_DECIDES) == 0;
}

static const struct rule blind_rule = {.name = "blind", .cause = CAUSE_CAPTURE_GAP, .fault = BLAME_UNKNOWN};

void attribution_judge(const struct facts *facts, struct verdict *verdict)
{
    const struct rule *rule = rule_find(facts);
    rule = is_guesswork(rule, facts) ? &blind_rule : rule;
    verdict->cause = rule->cause;
    verdict->fault = blame_resolve(rule->fault, facts->suspect);
    verdict->also = also_resolve(rule->also, facts);
    verdict->confidence = confidence_of(rule, facts, verdict);
    verdict->also &= ~(1u << verdict->fault);
    if (verdict->fault == FAULT_UNKNOWN) { /* honest, and never sure of it */
        verdict->cause = rule->cause == CAUSE_CAPTURE_GAP ? CAUSE_CAPTURE_GAP : CAUSE_UNDETERMINED;
        verdict->confidence = CONFIDENCE_POSSIBLE;
    }
    add_contributor(facts, verdict);
    cap_inferred(facts, verdict);
    cap_guessed(facts, verdict);
    cap_borderline(facts, verdict);
    cap_temporary(facts, verdict);
    cap_unseen(facts, verdict);
    verdict->where = where_of(rule, facts, verdict->fault);
    verdict->phase = facts->phase;
    verdict->owed_by = facts->suspect;
    verdict->ended_by = ended_by_of(facts);
    verdict->waited_us = (facts->bits & FACT_STALLED) ? facts->waited_us : 0;
    verdict->notes |= near_notes(facts, verdict->cause);
    limit_fill(rule, facts, verdict);
    explain_verdict(facts, verdict);
}

const char *attribution_rule_name(const struct facts *facts)
{
    return rule_find(facts)->name;
}
