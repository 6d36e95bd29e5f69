/* verdict - the words of a judgement: fault, cause, confidence and the rest of the verdict line.
 * Every enum's spelling in the line comes from its *_name(); the order of the members is free, the spelling is not:
 * administrators' filters depend on it. Threads: none. */
#ifndef SMTPWITNESS_CORE_FAULT_VERDICT_H
#define SMTPWITNESS_CORE_FAULT_VERDICT_H

#include <stdint.h>

#include "core/base/attributes.h"
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

enum ONE_OCTET action {
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
#define NOTE(bit)                   (UINT64_C(1) << (bit))
#define NOTE_SERVER_LIMIT_BELOW_RFC NOTE(0) /* the server waited less than RFC 5321 4.5.3.2 asks */
#define NOTE_CLIENT_LIMIT_BELOW_RFC NOTE(1)
#define NOTE_SLOW_GREETING          NOTE(2)
#define NOTE_SLOW_REPLY             NOTE(3) /* lawful but past the stall notice */
#define NOTE_RESYNCED               NOTE(4)
#define NOTE_BANNER_MASKED          NOTE(5)
#define NOTE_CAPABILITIES_MASKED    NOTE(6)
#define NOTE_BARE_LF                NOTE(7)
#define NOTE_RESET_AFTER_QUIT       NOTE(8)
#define NOTE_NO_QUIT                NOTE(9)
#define NOTE_QUIT_UNANSWERED        NOTE(10)
#define NOTE_INFERRED               NOTE(11) /* phases inferred through TLS */
#define NOTE_MIDSTREAM              NOTE(12)
#define NOTE_OTHER_PORT             NOTE(13) /* the client's port could not be kept */
#define NOTE_DATA_BEFORE_354        NOTE(14) /* body sent before the 354, tolerated by the server */
#define NOTE_CLIENT_SAW_RESET       NOTE(15) /* the reply was said but the client may only have seen a reset */
#define NOTE_HELD                   NOTE(16) /* we held the connection until a slot was free */
#define NOTE_EARLY_PIPELINING       NOTE(17) /* PIPECONNECT: early talk by agreement */
#define NOTE_NOT_SMTP               NOTE(18)
#define NOTE_LOSS_CLIENT_LEG        NOTE(19) /* loss that stopped nothing */
#define NOTE_LOSS_SERVER_LEG        NOTE(20)
#define NOTE_LIMIT_WOULD_ACT        NOTE(21) /* one of our report-only limits was passed */
#define NOTE_UNEXPLAINED_LIMIT      NOTE(22) /* what crossed here does not explain the server's refusal */
#define NOTE_DRAINED                NOTE(23) /* the witness was stopping */
#define NOTE_MAIL_ACCEPTED_EARLIER  NOTE(24) /* the fault came after at least one accepted mail */
#define NOTE_UNPROBED               NOTE(25) /* silence could not be probed */
#define NOTE_OTHERS_GET_IN          NOTE(26) /* another source reached the server meanwhile */
#define NOTE_OTHERS_FAIL_TOO        NOTE(27) /* another source's SYNs stayed unanswered too */
#define NOTE_OLDER_ONES_LIVE        NOTE(28) /* the server speaks on an older connection of this source */
#define NOTE_FRESH_ONE_WORKS        NOTE(29) /* a connection begun later gets through */
#define NOTE_FRESH_ONE_FAILS        NOTE(30) /* ... does not either */
#define NOTE_TARPIT                 NOTE(31) /* replies came later and later */
#define NOTE_VERBS_MASKED           NOTE(32) /* a verb turned to X's reached us */
#define NOTE_TCP_BOX_CLIENT_LEG     NOTE(33) /* a box there breaks window scaling or SACK */
#define NOTE_TCP_BOX_SERVER_LEG     NOTE(34)
#define NOTE_COUNT                  35u

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
    uint64_t notes;     /* of NOTE_... */
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
