/* names - the spelling of every word of the verdict line. Tables are tied to their enums at compile time; a
 * value outside its enum gives "unknown" instead of reading past a table. */
#include "core/fault/evidence.h"
#include "core/fault/verdict.h"

#include <stddef.h>

#define TABLE_COUNT(table) (sizeof(table) / sizeof((table)[0]))

static const char outside[] = "unknown";

static const char *name_of(const char *const *names, size_t count, size_t index)
{
    return index < count && names[index] != NULL ? names[index] : outside;
}

static const char *const fault_names[] = {
    [FAULT_NONE] = "none",
    [FAULT_CLIENT] = "client",
    [FAULT_SERVER] = "server",
    [FAULT_CLIENT_NETWORK] = "client-network",
    [FAULT_SERVER_NETWORK] = "server-network",
    [FAULT_MIDDLEBOX] = "middlebox",
    [FAULT_POLICY] = "policy",
    [FAULT_WITNESS] = "witness",
    [FAULT_UNKNOWN] = "unknown",
};
_Static_assert(TABLE_COUNT(fault_names) == FAULT_COUNT, "one name per fault");

static const char *const confidence_names[] = {
    [CONFIDENCE_POSSIBLE] = "possible",
    [CONFIDENCE_LIKELY] = "likely",
    [CONFIDENCE_CERTAIN] = "certain",
};
_Static_assert(TABLE_COUNT(confidence_names) == CONFIDENCE_COUNT, "one name per confidence");

static const char *const cause_names[] = {
    [CAUSE_CLEAN] = "clean",
    [CAUSE_PROBE_ONLY] = "probe-only",
    [CAUSE_IDLE_REAPED] = "idle-reaped",
    [CAUSE_EARLY_TALK] = "early-talk",
    [CAUSE_GAVE_UP_EARLY] = "gave-up-early",
    [CAUSE_COMMAND_STALL] = "command-stall",
    [CAUSE_UNTERMINATED_COMMAND] = "unterminated-command",
    [CAUSE_DATA_START_STALL] = "data-start-stall",
    [CAUSE_BODY_STALL] = "body-stall",
    [CAUSE_SLOW_SENDER] = "slow-sender",
    [CAUSE_UNTERMINATED_BODY] = "unterminated-body",
    [CAUSE_BODY_WITHOUT_354] = "body-without-354",
    [CAUSE_TLS_HANDSHAKE_STALL] = "tls-handshake-stall",
    [CAUSE_ABORTED] = "aborted",
    [CAUSE_PORT_CLOSED] = "port-closed",
    [CAUSE_BACKLOG_FULL] = "backlog-full",
    [CAUSE_GREETING_STALL] = "greeting-stall",
    [CAUSE_REPLY_STALL] = "reply-stall",
    [CAUSE_INCOMPLETE_REPLY] = "incomplete-reply",
    [CAUSE_UNTERMINATED_REPLY] = "unterminated-reply",
    [CAUSE_NOT_READING] = "not-reading",
    [CAUSE_END_OF_DATA_STALL] = "end-of-data-stall",
    [CAUSE_OVERLOAD] = "overload",
    [CAUSE_SHUTDOWN] = "shutdown",
    [CAUSE_EARLY_CLOSE] = "early-close",
    [CAUSE_SILENT_CLOSE] = "silent-close",
    [CAUSE_TLS_ALERT] = "tls-alert",
    [CAUSE_CONNECT_UNANSWERED] = "connect-unanswered",
    [CAUSE_UNREACHABLE] = "unreachable",
    [CAUSE_LEG_UNANSWERED] = "leg-unanswered",
    [CAUSE_OCTETS_LOST] = "octets-lost",
    [CAUSE_PATH_MTU_BLACK_HOLE] = "path-mtu-black-hole",
    [CAUSE_LOSS] = "loss",
    [CAUSE_BANDWIDTH] = "bandwidth",
    [CAUSE_RESET_INJECTED] = "reset-injected",
    [CAUSE_CONNECT_REJECTED] = "connect-rejected",
    [CAUSE_ADMIN_PROHIBITED] = "admin-prohibited",
    [CAUSE_VERBS_REWRITTEN] = "verbs-rewritten",
    [CAUSE_CAPABILITIES_MASKED] = "capabilities-masked",
    [CAUSE_LONG_LINE_KILLED] = "long-line-killed",
    [CAUSE_WINDOW_SCALE_BROKEN] = "window-scale-broken",
    [CAUSE_SEQUENCE_REWRITTEN] = "sequence-rewritten",
    [CAUSE_STATE_EXPIRED] = "state-expired",
    [CAUSE_SPLIT_DOT] = "split-dot",
    [CAUSE_SOURCE_FILTERED] = "source-filtered",
    [CAUSE_PER_SOURCE_LIMIT] = "per-source-limit",
    [CAUSE_PER_SOURCE_RATE] = "per-source-rate",
    [CAUSE_REPUTATION] = "reputation",
    [CAUSE_GREYLISTING] = "greylisting",
    [CAUSE_TARPIT] = "tarpit",
    [CAUSE_SIZE_LIMIT] = "size-limit",
    [CAUSE_SESSION_TIME_LIMIT] = "session-time-limit",
    [CAUSE_REJECTED] = "rejected",
    [CAUSE_WITNESS_LIMIT] = "witness-limit",
    [CAUSE_ICMP_UNDIVERTED] = "icmp-undiverted",
    [CAUSE_OWN_DROP] = "own-drop",
    [CAUSE_OBSERVER_LOSS] = "observer-loss",
    [CAUSE_WITNESS_STOPPED] = "witness-stopped",
    [CAUSE_CAPTURE_GAP] = "capture-gap",
    [CAUSE_UNDETERMINED] = "undetermined",
};
_Static_assert(TABLE_COUNT(cause_names) == CAUSE_COUNT, "one name per cause");

static const char *const where_names[] = {
    [WHERE_UNKNOWN] = "unknown",
    [WHERE_CLIENT_LEG] = "client-leg",
    [WHERE_SERVER_LEG] = "server-leg",
    [WHERE_HERE] = "here",
};
_Static_assert(TABLE_COUNT(where_names) == WHERE_COUNT, "one name per place");

static const char *const ended_by_names[] = {
    [ENDED_BY_UNKNOWN] = "unknown",
    [ENDED_BY_CLIENT] = "client",
    [ENDED_BY_SERVER] = "server",
    [ENDED_BY_CLIENT_NETWORK] = "client-network",
    [ENDED_BY_SERVER_NETWORK] = "server-network",
    [ENDED_BY_MIDDLEBOX] = "middlebox",
    [ENDED_BY_WITNESS] = "witness",
    [ENDED_BY_TIMEOUT] = "timeout",
    [ENDED_BY_CAPTURE_END] = "capture-end",
    [ENDED_BY_NONE] = "none",
};
_Static_assert(TABLE_COUNT(ended_by_names) == ENDED_BY_COUNT, "one name per end");

static const char *const limit_by_names[] = {
    [LIMIT_BY_NONE] = "",           [LIMIT_BY_CLIENT] = "client",
    [LIMIT_BY_SERVER] = "server",   [LIMIT_BY_MIDDLEBOX] = "middlebox",
    [LIMIT_BY_WITNESS] = "witness",
};
_Static_assert(TABLE_COUNT(limit_by_names) == LIMIT_BY_COUNT, "one name per owner of a limit");

static const char *const action_names[] = {
    [ACTION_NONE] = "none",
    [ACTION_WOULD_REFUSE] = "would-refuse",
    [ACTION_WOULD_HOLD] = "would-hold",
    [ACTION_WOULD_CLOSE] = "would-close",
    [ACTION_REFUSED] = "refused",
    [ACTION_HELD] = "held",
    [ACTION_CLOSED] = "closed",
};
_Static_assert(TABLE_COUNT(action_names) == ACTION_COUNT, "one name per action");

/* Notes are bits; the table is indexed by the bit's number. */
#define BIT(note) __builtin_ctzll(note)

static const char *const note_names[] = {
    [BIT(NOTE_SERVER_LIMIT_BELOW_RFC)] = "server-limit-below-rfc",
    [BIT(NOTE_CLIENT_LIMIT_BELOW_RFC)] = "client-limit-below-rfc",
    [BIT(NOTE_SLOW_GREETING)] = "slow-greeting",
    [BIT(NOTE_SLOW_REPLY)] = "slow-reply",
    [BIT(NOTE_RESYNCED)] = "resynced",
    [BIT(NOTE_BANNER_MASKED)] = "banner-masked",
    [BIT(NOTE_CAPABILITIES_MASKED)] = "capabilities-masked",
    [BIT(NOTE_BARE_LF)] = "bare-lf",
    [BIT(NOTE_RESET_AFTER_QUIT)] = "reset-after-quit",
    [BIT(NOTE_NO_QUIT)] = "no-quit",
    [BIT(NOTE_QUIT_UNANSWERED)] = "quit-unanswered",
    [BIT(NOTE_INFERRED)] = "inferred",
    [BIT(NOTE_MIDSTREAM)] = "midstream",
    [BIT(NOTE_OTHER_PORT)] = "other-port",
    [BIT(NOTE_DATA_BEFORE_354)] = "data-before-354",
    [BIT(NOTE_CLIENT_SAW_RESET)] = "client-saw-reset",
    [BIT(NOTE_HELD)] = "held",
    [BIT(NOTE_EARLY_PIPELINING)] = "early-pipelining",
    [BIT(NOTE_NOT_SMTP)] = "not-smtp",
    [BIT(NOTE_LOSS_CLIENT_LEG)] = "loss-client-leg",
    [BIT(NOTE_LOSS_SERVER_LEG)] = "loss-server-leg",
    [BIT(NOTE_LIMIT_WOULD_ACT)] = "limit-would-act",
    [BIT(NOTE_UNEXPLAINED_LIMIT)] = "unexplained-limit",
    [BIT(NOTE_DRAINED)] = "drained",
    [BIT(NOTE_MAIL_ACCEPTED_EARLIER)] = "mail-accepted-earlier",
    [BIT(NOTE_UNPROBED)] = "unprobed",
    [BIT(NOTE_OTHERS_GET_IN)] = "others-get-in",
    [BIT(NOTE_OTHERS_FAIL_TOO)] = "others-fail-too",
    [BIT(NOTE_OLDER_ONES_LIVE)] = "older-ones-live",
    [BIT(NOTE_FRESH_ONE_WORKS)] = "fresh-one-works",
    [BIT(NOTE_FRESH_ONE_FAILS)] = "fresh-one-fails",
    [BIT(NOTE_TARPIT)] = "late-replies",
    [BIT(NOTE_VERBS_MASKED)] = "verbs-masked",
    [BIT(NOTE_TCP_BOX_CLIENT_LEG)] = "tcp-rewritten-client-leg",
    [BIT(NOTE_TCP_BOX_SERVER_LEG)] = "tcp-rewritten-server-leg",
};
_Static_assert(TABLE_COUNT(note_names) == NOTE_COUNT, "one name per note");

static const char *const probe_result_names[] = {
    [PROBE_NONE] = "none",         [PROBE_SENT] = "sent",
    [PROBE_ANSWERED] = "answered", [PROBE_UNANSWERED] = "unanswered",
    [PROBE_REVEALED] = "revealed",
};
_Static_assert(TABLE_COUNT(probe_result_names) == PROBE_COUNT, "one name per probe result");

static const char *const connect_result_names[] = {
    [CONNECT_PENDING] = "pending",         [CONNECT_ESTABLISHED] = "established",
    [CONNECT_REFUSED] = "refused",         [CONNECT_TIMED_OUT] = "timed-out",
    [CONNECT_UNREACHABLE] = "unreachable", [CONNECT_PROHIBITED] = "prohibited",
    [CONNECT_REJECTED] = "rejected",       [CONNECT_LOCAL_ERROR] = "local-error",
};
_Static_assert(TABLE_COUNT(connect_result_names) == CONNECT_COUNT, "one name per connect result");

const char *fault_name(enum fault fault)
{
    return name_of(fault_names, TABLE_COUNT(fault_names), (size_t)fault);
}

const char *confidence_name(enum confidence confidence)
{
    return name_of(confidence_names, TABLE_COUNT(confidence_names), (size_t)confidence);
}

const char *cause_name(enum cause cause)
{
    return name_of(cause_names, TABLE_COUNT(cause_names), (size_t)cause);
}

const char *where_name(enum where where)
{
    return name_of(where_names, TABLE_COUNT(where_names), (size_t)where);
}

const char *ended_by_name(enum ended_by ended_by)
{
    return name_of(ended_by_names, TABLE_COUNT(ended_by_names), (size_t)ended_by);
}

const char *limit_by_name(enum limit_by limit_by)
{
    return name_of(limit_by_names, TABLE_COUNT(limit_by_names), (size_t)limit_by);
}

const char *action_name(enum action action)
{
    return name_of(action_names, TABLE_COUNT(action_names), (size_t)action);
}

const char *note_name(unsigned bit)
{
    return name_of(note_names, TABLE_COUNT(note_names), bit);
}

const char *probe_result_name(enum probe_result probe)
{
    return name_of(probe_result_names, TABLE_COUNT(probe_result_names), (size_t)probe);
}

const char *connect_result_name(enum connect_result connect)
{
    return name_of(connect_result_names, TABLE_COUNT(connect_result_names), (size_t)connect);
}
