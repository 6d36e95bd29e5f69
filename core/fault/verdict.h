/* verdict - the words of a judgement: fault, cause, confidence and the rest of the verdict line.
 * Every enum's spelling in the line comes from its *_name(); the order of the members is free, the spelling is not:
 * administrators' filters depend on it. Threads: none. */
#ifndef SMTPWITNESS_CORE_FAULT_VERDICT_H
#define SMTPWITNESS_CORE_FAULT_VERDICT_H

#include <stdint.h>

#include "core/base/phase.h"
#include "core/base/side.h"

enum fault {
    FAULT_NONE = 0,
    FAULT_CLIENT,
    FAULT_SERVER,
    FAULT_CLIENT_NETWORK, /* the network between client and witness */
    FAULT_SERVER_NETWORK,
    FAULT_MIDDLEBOX, /* another box on the way changed, forged or forgot something */
    FAULT_POLICY,    /* a deliberate limit; limit_by says whose */
    FAULT_WITNESS,   /* our own box */
    FAULT_UNKNOWN,
    FAULT_COUNT,
};

enum confidence {
    CONFIDENCE_POSSIBLE = 0,
    CONFIDENCE_LIKELY,
    CONFIDENCE_CERTAIN,
    CONFIDENCE_COUNT,
};

/* The closed list. causes.c documents each; `smtpwitness explain` prints it. */
enum cause {
    CAUSE_CLEAN = 0,
    CAUSE_PROBE_ONLY,
    CAUSE_IDLE_REAPED,
    CAUSE_EARLY_TALK,
    CAUSE_GAVE_UP_EARLY,
    CAUSE_COMMAND_STALL,
    CAUSE_UNTERMINATED_COMMAND,
    CAUSE_DATA_START_STALL,
    CAUSE_BODY_STALL,
    CAUSE_SLOW_SENDER,
    CAUSE_UNTERMINATED_BODY,
    CAUSE_BODY_WITHOUT_354,
    CAUSE_TLS_HANDSHAKE_STALL,
    CAUSE_ABORTED,
    CAUSE_PORT_CLOSED,
    CAUSE_BACKLOG_FULL,
    CAUSE_GREETING_STALL,
    CAUSE_REPLY_STALL,
    CAUSE_INCOMPLETE_REPLY,
    CAUSE_UNTERMINATED_REPLY,
    CAUSE_NOT_READING,
    CAUSE_END_OF_DATA_STALL,
    CAUSE_OVERLOAD,
    CAUSE_SHUTDOWN,
    CAUSE_EARLY_CLOSE,
    CAUSE_SILENT_CLOSE,
    CAUSE_TLS_ALERT,
    CAUSE_CONNECT_UNANSWERED,
    CAUSE_UNREACHABLE,
    CAUSE_LEG_UNANSWERED,
    CAUSE_OCTETS_LOST,
    CAUSE_PATH_MTU_BLACK_HOLE,
    CAUSE_LOSS,
    CAUSE_BANDWIDTH,
    CAUSE_RESET_INJECTED,
    CAUSE_CONNECT_REJECTED,
    CAUSE_ADMIN_PROHIBITED,
    CAUSE_VERBS_REWRITTEN,
    CAUSE_CAPABILITIES_MASKED,
    CAUSE_LONG_LINE_KILLED,
    CAUSE_WINDOW_SCALE_BROKEN,
    CAUSE_SEQUENCE_REWRITTEN,
    CAUSE_STATE_EXPIRED,
    CAUSE_SPLIT_DOT,
    CAUSE_SOURCE_FILTERED,
    CAUSE_PER_SOURCE_LIMIT,
    CAUSE_PER_SOURCE_RATE,
    CAUSE_REPUTATION,
    CAUSE_GREYLISTING,
    CAUSE_TARPIT,
    CAUSE_SIZE_LIMIT,
    CAUSE_SESSION_TIME_LIMIT,
    CAUSE_REJECTED,
    CAUSE_WITNESS_LIMIT,
    CAUSE_ICMP_UNDIVERTED,
    CAUSE_OWN_DROP,
    CAUSE_OBSERVER_LOSS,
    CAUSE_WITNESS_STOPPED,
    CAUSE_CAPTURE_GAP,
    CAUSE_UNDETERMINED,
    CAUSE_COUNT,
};

enum where {
    WHERE_UNKNOWN = 0,
    WHERE_CLIENT_LEG,
    WHERE_SERVER_LEG,
    WHERE_HERE,
    WHERE_COUNT,
};

enum ended_by {
    ENDED_BY_UNKNOWN = 0,
    ENDED_BY_CLIENT,
    ENDED_BY_SERVER,
    ENDED_BY_CLIENT_NETWORK,
    ENDED_BY_SERVER_NETWORK,
    ENDED_BY_MIDDLEBOX,
    ENDED_BY_WITNESS,
    ENDED_BY_TIMEOUT,
    ENDED_BY_CAPTURE_END,
    ENDED_BY_NONE,
    ENDED_BY_COUNT,
};

enum limit_by {
    LIMIT_BY_NONE = 0, /* left out of the line */
    LIMIT_BY_CLIENT,
    LIMIT_BY_SERVER,
    LIMIT_BY_MIDDLEBOX,
    LIMIT_BY_WITNESS,
    LIMIT_BY_COUNT,
};

enum action {
    ACTION_NONE = 0,
    ACTION_WOULD_REFUSE,
    ACTION_WOULD_HOLD,
    ACTION_WOULD_CLOSE,
    ACTION_REFUSED,
    ACTION_HELD,
    ACTION_CLOSED,
    ACTION_COUNT,
};

/* Remarks that accuse nobody. A set; printed joined by commas in this order. */
enum note {
    NOTE_SERVER_LIMIT_BELOW_RFC = 1u << 0, /* the server waited less than RFC 5321 4.5.3.2 asks */
    NOTE_CLIENT_LIMIT_BELOW_RFC = 1u << 1,
    NOTE_SLOW_GREETING = 1u << 2,
    NOTE_SLOW_REPLY = 1u << 3, /* lawful but past the stall notice */
    NOTE_RESYNCED = 1u << 4,
    NOTE_BANNER_MASKED = 1u << 5,
    NOTE_CAPABILITIES_MASKED = 1u << 6,
    NOTE_BARE_LF = 1u << 7,
    NOTE_RESET_AFTER_QUIT = 1u << 8,
    NOTE_NO_QUIT = 1u << 9,
    NOTE_QUIT_UNANSWERED = 1u << 10,
    NOTE_INFERRED = 1u << 11, /* phases inferred through TLS */
    NOTE_MIDSTREAM = 1u << 12,
    NOTE_OTHER_PORT = 1u << 13,       /* the client's port could not be kept */
    NOTE_DATA_BEFORE_354 = 1u << 14,  /* body sent before the 354, tolerated by the server */
    NOTE_CLIENT_SAW_RESET = 1u << 15, /* the reply was said but the client may only have seen a reset */
    NOTE_HELD = 1u << 16,             /* we held the connection until a slot was free */
    NOTE_EARLY_PIPELINING = 1u << 17, /* PIPECONNECT: early talk by agreement */
    NOTE_NOT_SMTP = 1u << 18,
    NOTE_LOSS_CLIENT_LEG = 1u << 19, /* loss that stopped nothing */
    NOTE_LOSS_SERVER_LEG = 1u << 20,
    NOTE_LIMIT_WOULD_ACT = 1u << 21,       /* one of our report-only limits was passed */
    NOTE_UNEXPLAINED_LIMIT = 1u << 22,     /* what crossed here does not explain the server's refusal */
    NOTE_DRAINED = 1u << 23,               /* the witness was stopping */
    NOTE_MAIL_ACCEPTED_EARLIER = 1u << 24, /* the fault came after at least one accepted mail */
    NOTE_UNPROBED = 1u << 25,              /* silence could not be probed */
    NOTE_OTHERS_GET_IN = 1u << 26,         /* another source reached the server meanwhile */
    NOTE_OTHERS_FAIL_TOO = 1u << 27,       /* another source's SYNs stayed unanswered too */
    NOTE_OLDER_ONES_LIVE = 1u << 28,       /* the server speaks on an older connection of this source */
    NOTE_FRESH_ONE_WORKS = 1u << 29,       /* a connection begun later gets through */
    NOTE_FRESH_ONE_FAILS = 1u << 30,       /* ... does not either */
    NOTE_COUNT = 31,
};

struct verdict {
    enum fault fault;
    uint32_t also; /* set of 1 << enum fault: what the evidence cannot exclude */
    enum cause cause;
    enum confidence confidence; /* covers fault and also together */
    enum where where;
    enum phase phase;
    enum side owed_by;
    enum ended_by ended_by;
    enum limit_by limit_by;
    enum action action;
    uint32_t notes;     /* enum note */
    uint64_t waited_us; /* silence that decided, 0 = none */
    uint64_t limit_us;  /* the limit that ended it, as observed or configured, 0 = none */
    char explain[320];  /* one sentence, plain ASCII */
};

const char *fault_name(enum fault fault);
const char *confidence_name(enum confidence confidence);
const char *cause_name(enum cause cause);
const char *where_name(enum where where);
const char *ended_by_name(enum ended_by ended_by);
const char *limit_by_name(enum limit_by limit_by); /* "" for LIMIT_BY_NONE */
const char *action_name(enum action action);
const char *note_name(unsigned bit); /* bit number, 0..NOTE_COUNT-1 */

#endif
