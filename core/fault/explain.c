/* The sentence of a verdict: a template per cause, filled with what was measured. */
#include "core/fault/attribution.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/base/attributes.h"

/* Placeholders: {closed} {share} {belied} {errors} {suspect} {other} {leg} {waited} {turn} {proof} {limit} {code} {count} {alert}. */
static const char *const templates[] = {
    [CAUSE_CLEAN] = "the session ended as it should",
    [CAUSE_PROBE_ONLY] = "the client connected, said nothing and left: a health check or port scan",
    [CAUSE_IDLE_REAPED] =
        "the {ender} closed the session between mails, after {waited} without a command: nothing was lost",
    [CAUSE_EARLY_TALK] = "the client spoke before it was its turn and the server refused it for that",
    [CAUSE_GAVE_UP_EARLY] =
        "the client left after {waited} while the server owed {turn}; RFC 5321 asks it to wait "
        "longer; the server was slow{proof}",
    [CAUSE_COMMAND_STALL] = "the client was silent for {waited} where {turn} was due{proof}{limit}",
    [CAUSE_UNTERMINATED_COMMAND] =
        "the client began a command and never ended the line, silent for {waited}{proof}{limit}",
    [CAUSE_DATA_START_STALL] = "the client was silent for {waited} after the 354{proof}{limit}",
    [CAUSE_BODY_STALL] = "the client stopped in the middle of the message, silent for {waited}{proof}{limit}",
    [CAUSE_SLOW_SENDER] =
        "the message came slower than the server's time for it allows, without a pause{share}",
    [CAUSE_UNTERMINATED_BODY] =
        "the client ended the message with a dot that no server takes for the end (CRLF.CRLF "
        "is required), then waited {waited}{proof}{limit}",
    [CAUSE_BODY_WITHOUT_354] =
        "the client sent the message although DATA was refused; the server took it for commands",
    [CAUSE_TLS_HANDSHAKE_STALL] = "the {suspect} was silent for {waited} in the TLS handshake{proof}{limit}",
    [CAUSE_ABORTED] = "the {ender} broke the session off while {turn} was due, without a word",
    [CAUSE_PORT_CLOSED] = "the server's address refused the connection: nothing listens on that port{doubt}",
    [CAUSE_BACKLOG_FULL] =
        "the server's host answers SYNs but its application does not accept: its queue is full",
    [CAUSE_GREETING_STALL] =
        "the server accepted the connection and did not greet for {waited}{proof}{limit}",
    [CAUSE_REPLY_STALL] = "the server was silent for {waited} where {turn} was due{proof}{limit}",
    [CAUSE_INCOMPLETE_REPLY] =
        "the server began a reply of several lines and never ended it, silent for {waited}{proof}{limit}",
    [CAUSE_UNTERMINATED_REPLY] =
        "the server sent a reply without its line end and both sides waited {waited}{proof}{limit}",
    [CAUSE_NOT_READING] =
        "the {suspect}'s receive window stayed closed for {closed}: its application does not read{limit}",
    [CAUSE_END_OF_DATA_STALL] =
        "the server had the whole message and did not answer for {waited}{proof}{limit}",
    [CAUSE_OVERLOAD] = "the server refused for load, whoever asks (reply {code})",
    [CAUSE_SHUTDOWN] = "the server said it is closing the service (reply {code})",
    [CAUSE_EARLY_CLOSE] =
        "the server closed without a word after {waited} on the client's turn ({turn}); RFC 5321 "
        "asks it to wait 5 min",
    [CAUSE_SILENT_CLOSE] =
        "the server accepted the connection and ended it without an answer anybody could read",
    [CAUSE_TLS_ALERT] =
        "the TLS handshake failed: alert {alert}; the one who sends an alert is the one who complains",
    [CAUSE_CONNECT_UNANSWERED] =
        "no answer to the SYNs to the server for {waited}{others}: its host, the path or a silent filter",
    [CAUSE_UNREACHABLE] = "ICMP says that the {suspect} cannot be reached",
    [CAUSE_LEG_UNANSWERED] =
        "what was sent to the {suspect} is repeated and not acknowledged{others}: the network on the {leg} "
        "or that host{limit}",
    [CAUSE_OCTETS_LOST] =
        "the {suspect} did speak: its sequence number is beyond what reached us, so its octets were "
        "lost on the {leg}{limit}",
    [CAUSE_PATH_MTU_BLACK_HOLE] =
        "small segments pass and full-size ones are lost on the {leg}: a path MTU black hole{limit}",
    [CAUSE_LOSS] = "segments are lost on the {leg}, and the message came too slowly for it{share}",
    [CAUSE_BANDWIDTH] = "the {leg} carried the message too slowly{share}",
    [CAUSE_RESET_INJECTED] = "the reset does not come from the {ender}'s host: {belied}",
    [CAUSE_CONNECT_REJECTED] = "a box in front of the server rejected the connection{doubt}",
    [CAUSE_ADMIN_PROHIBITED] =
        "a firewall answered that the connection is administratively prohibited (ICMP)",
    [CAUSE_VERBS_REWRITTEN] =
        "the client's commands reached us overwritten with X: a box on the client leg rewrites SMTP",
    [CAUSE_CAPABILITIES_MASKED] =
        "capabilities in the server's EHLO reply reached us overwritten with X, and the client "
        "left without sending mail",
    [CAUSE_LONG_LINE_KILLED] = "the session was reset right after a command longer than 512 octets",
    [CAUSE_WINDOW_SCALE_BROKEN] = "a box on the {leg} breaks window scaling: what goes beyond the unscaled "
                                  "window does not get through{limit}",
    [CAUSE_SEQUENCE_REWRITTEN] = "a box on the {leg} rewrites sequence numbers but not SACK",
    [CAUSE_STATE_EXPIRED] =
        "after a long silence nothing gets through on the {leg} any more{others}: a stateful box forgot the "
        "connection",
    [CAUSE_SPLIT_DOT] =
        "the final dot and its CRLF came apart behind a box that masks banners (PIX), and the server "
        "never answered",
    [CAUSE_SOURCE_FILTERED] =
        "no answer to the SYNs of this source for {waited}{others}: a filter or limit that drops them",
    [CAUSE_PER_SOURCE_LIMIT] = "the server refused: too many connections from this source{count}",
    [CAUSE_PER_SOURCE_RATE] = "the server refused: this source is too fast for it (reply {code})",
    [CAUSE_REPUTATION] = "the server refused this source for its reputation (reply {code})",
    [CAUSE_GREYLISTING] = "the server greylisted this mail (reply {code}): a retry is expected and normal",
    [CAUSE_TARPIT] = "the server's replies came later and later, this one not within {waited}{errors}",
    [CAUSE_SIZE_LIMIT] = "the server refused the message for its size (reply {code})",
    [CAUSE_SESSION_TIME_LIMIT] = "the server ended the session after {age} in all, as its own limit says",
    [CAUSE_REJECTED] = "the server rejected the mail (reply {code})",
    [CAUSE_WITNESS_LIMIT] = "our own limit was reached{count}",
    [CAUSE_ICMP_UNDIVERTED] =
        "path MTU messages for our connection are forwarded past us: the rule that diverts ICMP is "
        "missing on this router",
    [CAUSE_OWN_DROP] = "this router itself could not or would not send to the server",
    [CAUSE_OBSERVER_LOSS] = "we lost packets ourselves: no judgement",
    [CAUSE_WITNESS_STOPPED] = "the witness itself stopped or had no room",
    [CAUSE_CAPTURE_GAP] = "part of the session was not seen: no judgement",
    [CAUSE_UNDETERMINED] = "what was seen does not say whose fault it was",
};
_Static_assert(sizeof templates / sizeof templates[0] == CAUSE_COUNT, "a sentence per cause");

struct sentence {
    char *text;
    size_t length, room;
};

static void PRINTF_LIKE(2, 3) sentence_add(struct sentence *sentence, const char *format, ...)
{
    va_list arguments;
    if (sentence->length + 1 >= sentence->room) {
        return;
    }
    va_start(arguments, format);
    int written =
        vsnprintf(sentence->text + sentence->length, sentence->room - sentence->length, format, arguments);
    va_end(arguments);
    if (written > 0) {
        size_t left = sentence->room - sentence->length - 1;
        sentence->length += (size_t)written < left ? (size_t)written : left;
    }
}

static void add_duration(struct sentence *sentence, uint64_t us)
{
    uint64_t ms = us / 1000;
    if (ms == 0) {
        sentence_add(sentence, "less than 1 ms");
    } else if (ms < 1000) {
        sentence_add(sentence, "%llu ms", (unsigned long long)ms);
    } else if (ms < 120000) {
        sentence_add(sentence, "%llu.%llu s", (unsigned long long)(ms / 1000),
                     (unsigned long long)(ms % 1000 / 100));
    } else {
        sentence_add(sentence, "%llu min", (unsigned long long)(ms / 60000));
        if (ms % 60000 >= 1000) {
            sentence_add(sentence, " %llu s", (unsigned long long)(ms % 60000 / 1000));
        }
    }
}

/* What the side that owes should have said next. */
static const char *turn_of(enum phase phase, enum side owed_by)
{
    bool client = owed_by == SIDE_CLIENT;
    switch (phase) {
    case PHASE_CONNECT:
        return "the connection";
    case PHASE_GREETING:
        return client ? "the first command" : "the greeting";
    case PHASE_HELO:
        return client ? "EHLO" : "the reply to EHLO";
    case PHASE_STARTTLS:
        return client ? "the next command" : "the reply to STARTTLS";
    case PHASE_TLS:
        return "the next handshake flight";
    case PHASE_AUTH:
        return client ? "the answer to 334" : "the reply to AUTH";
    case PHASE_MAIL:
        return client ? "MAIL" : "the reply to MAIL";
    case PHASE_RCPT:
        return client ? "RCPT or DATA" : "the reply to RCPT";
    case PHASE_DATA:
        return client ? "the message" : "354";
    case PHASE_BODY:
        return client ? "the rest of the message" : "reading the message";
    case PHASE_END_OF_DATA:
        return client ? "the next command" : "the reply to the final dot";
    case PHASE_BDAT:
        return client ? "the rest of the chunk" : "the reply to BDAT";
    case PHASE_RSET:
        return client ? "the next command" : "the reply to RSET";
    case PHASE_QUIT:
        return client ? "the end" : "221";
    case PHASE_COMMAND:
        return client ? "the next command" : "a reply";
    case PHASE_IDLE:
        return client ? "the next command" : "a reply";
    case PHASE_CLOSED:
        return "nothing";
    case PHASE_OPAQUE:
        return client ? "something inside TLS" : "an answer inside TLS";
    case PHASE_COUNT:
        break;
    }
    return "the next word";
}

static void add_proof(struct sentence *sentence, const struct facts *facts)
{
    const char *suspect = side_name(facts->suspect);
    if (facts->suspect == SIDE_NONE || !(facts->bits & FACT_ACKNOWLEDGED)) {
        return;
    }
    sentence_add(sentence, "; the %s's host acknowledged every octet", suspect);
    if (facts->bits & FACT_PROBE_ANSWERED) {
        sentence_add(sentence, "%s, so it was its application%s",
                     facts->bits & FACT_TAPPED ? " and answered a probe" : " and is alive",
                     facts->bits & FACT_TAPPED ? "" : ", unless what it said was lost");
    }
}

static void add_minutes(struct sentence *sentence, uint64_t us)
{
    if (us % 60000000 == 0) {
        sentence_add(sentence, "%llu min", (unsigned long long)(us / 60000000));
    } else {
        add_duration(sentence, us);
    }
}

static void add_limit(struct sentence *sentence, const struct facts *facts, const struct verdict *verdict)
{
    if (verdict->limit_us == 0 || verdict->limit_by == LIMIT_BY_NONE) {
        return;
    }
    switch (verdict->limit_by) {
    case LIMIT_BY_SERVER:
        sentence_add(sentence, "; the server's limit of ");
        break;
    case LIMIT_BY_CLIENT:
        sentence_add(sentence, "; the client's limit of ");
        break;
    case LIMIT_BY_WITNESS:
        sentence_add(sentence, "; our limit of ");
        break;
    case LIMIT_BY_NONE:
    case LIMIT_BY_MIDDLEBOX:
    case LIMIT_BY_COUNT:
        return;
    }
    uint64_t seconds = (verdict->limit_us + 500000) / 1000000;
    sentence_add(sentence, "%llu s ", (unsigned long long)seconds);
    /* RFC 5321 4.5.3.2.7: a server waits 5 min for whatever is due; what a client grants depends on the phase. */
    uint64_t patience_us = verdict->limit_by == LIMIT_BY_SERVER || facts->patience_us == 0
                               ? UINT64_C(300000000)
                               : facts->patience_us;
    if (verdict->limit_us < FACTS_RFC_LEAST_US(patience_us)) {
        sentence_add(sentence, "is below RFC 5321's ");
    } else {
        sentence_add(sentence, "satisfies RFC 5321's ");
    }
    add_minutes(sentence, patience_us);
}

static void add_count(struct sentence *sentence, const struct facts *facts)
{
    if (facts->concurrent == 0) {
        return;
    }
    sentence_add(sentence, "; %u of its connections to this server were open here", facts->concurrent);
    if (facts->concurrent_limit != 0) {
        sentence_add(sentence, ", %u of them admitted", facts->concurrent_limit);
    }
    if (facts->limit_said != 0) {
        sentence_add(sentence, ", and it names a limit of %u", facts->limit_said);
    }
    if (facts->near & NEAR_UNEXPLAINED) {
        sentence_add(sentence, "; that does not explain it: it counts others too, by a NAT or another route, "
                               "or some that are long gone");
    }
}

/* What other connections showed meanwhile. */
static void add_others(struct sentence *sentence, const struct facts *facts)
{
    if (facts->near & NEAR_OTHERS_CONNECT) {
        sentence_add(sentence, ", while another source got in");
    }
    if (facts->near & NEAR_PAIR_LIVES) {
        sentence_add(sentence, ", while it speaks on an older connection of this source");
    }
    if (facts->near & NEAR_OTHERS_FAIL) {
        sentence_add(sentence, "; another source got no answer either");
    }
    if (facts->near & NEAR_FRESH_WORKS) {
        sentence_add(sentence, ", while a connection begun later does");
    }
    if (facts->near & NEAR_FRESH_FAILS) {
        sentence_add(sentence, ", and new connections get no answer");
    }
}

static const char *ender_of(const struct facts *facts)
{
    switch (facts->end) {
    case SESSION_END_CLIENT_FIN:
    case SESSION_END_CLIENT_RESET:
    case SESSION_END_CLIENT_LOST:
        return "client";
    case SESSION_END_SERVER_FIN:
    case SESSION_END_SERVER_RESET:
    case SESSION_END_SERVER_LOST:
    case SESSION_END_REPLY:
    case SESSION_END_CONNECT_FAILED:
        return "server";
    case SESSION_END_WITNESS:
    case SESSION_END_REFUSED:
    case SESSION_END_DRAIN:
    case SESSION_END_OVERLOAD:
        return "witness";
    case SESSION_END_NONE:
    case SESSION_END_CAPTURE:
    case SESSION_END_COUNT:
        break;
    }
    return "other side";
}

/* The numbers behind a verdict on a slow body. */
static void add_share(struct sentence *sentence, const struct facts *facts)
{
    const struct leg_evidence *leg = facts->server_leg;
    const struct leg_evidence *client_leg = facts->client_leg;
    if (leg == NULL || client_leg == NULL) {
        return;
    }
    switch (facts->bottleneck) {
    case BOTTLENECK_SERVER_LOSS:
        sentence_add(sentence, ": %u of %u segments had to be repeated", leg->retrans_count,
                     leg->sent_segments);
        break;
    case BOTTLENECK_CLIENT_LOSS:
        sentence_add(sentence, ": %u of %u segments came late", client_leg->late_segments,
                     client_leg->came_segments);
        break;
    case BOTTLENECK_SERVER_PATH:
        sentence_add(sentence, ": its round trip of %u ms grew to %u ms", leg->rtt_least_us / 1000,
                     leg->rtt_most_us / 1000);
        break;
    case BOTTLENECK_CLIENT:
        sentence_add(sentence, ": small segments, nothing lost, and the server took them at once");
        break;
    case BOTTLENECK_CLIENT_PATH:
        sentence_add(sentence, ": full segments came slowly, and the server took them at once");
        break;
    case BOTTLENECK_WITNESS:
        sentence_add(sentence, ": its buffer was full for ");
        add_duration(sentence, (uint64_t)leg->buffer_limited_ms * 1000);
        sentence_add(sentence, ", and octets stood waiting for its processor for ");
        add_duration(sentence, (uint64_t)client_leg->turn_limited_ms * 1000);
        break;
    case BOTTLENECK_UNKNOWN:
    case BOTTLENECK_SERVER:
    case BOTTLENECK_COUNT:
        break;
    }
}

static void add_placeholder(struct sentence *sentence, const char *name, size_t length,
                            const struct facts *facts, const struct verdict *verdict)
{
    static const char *const legs[] = {"leg", "client leg", "server leg"};
    unsigned leg = verdict->where == WHERE_CLIENT_LEG   ? SIDE_CLIENT
                   : verdict->where == WHERE_SERVER_LEG ? SIDE_SERVER
                                                        : facts->suspect;
    char word[12] = "";
    if (length < sizeof word) {
        memcpy(word, name, length);
    }
    if (strcmp(word, "suspect") == 0) {
        sentence_add(sentence, "%s", facts->suspect == SIDE_NONE ? "other side" : side_name(facts->suspect));
    } else if (strcmp(word, "other") == 0) {
        sentence_add(sentence, "%s", side_name(side_other(facts->suspect)));
    } else if (strcmp(word, "ender") == 0) {
        sentence_add(sentence, "%s", ender_of(facts));
    } else if (strcmp(word, "leg") == 0) {
        sentence_add(sentence, "%s", legs[leg]);
    } else if (strcmp(word, "belied") == 0) {
        const struct leg_evidence *leg_of_it =
            facts->end == SESSION_END_CLIENT_RESET ? facts->client_leg : facts->server_leg;
        bool same = leg_of_it != NULL && leg_of_it->ttl != 0 && leg_of_it->ttl == leg_of_it->reset_ttl;
        sentence_add(sentence, "%s",
                     same ? "that host went on speaking behind it"
                          : "its TTL does not fit that host's packets");
    } else if (strcmp(word, "closed") == 0) {
        add_duration(sentence, facts->closed_us != 0 ? facts->closed_us : facts->waited_us);
    } else if (strcmp(word, "share") == 0) {
        add_share(sentence, facts);
    } else if (strcmp(word, "errors") == 0) {
        sentence_add(sentence, "%s",
                     verdict->fault == FAULT_POLICY ? ": it slows a client down that made errors" : "");
    } else if (strcmp(word, "waited") == 0) {
        add_duration(sentence, facts->waited_us);
    } else if (strcmp(word, "age") == 0) {
        add_duration(sentence, facts->age_us);
    } else if (strcmp(word, "turn") == 0) {
        sentence_add(sentence, "%s", turn_of(facts->phase, facts->suspect));
    } else if (strcmp(word, "proof") == 0) {
        add_proof(sentence, facts);
    } else if (strcmp(word, "limit") == 0) {
        add_limit(sentence, facts, verdict);
    } else if (strcmp(word, "code") == 0) {
        sentence_add(sentence, "%u", facts->reply_code);
    } else if (strcmp(word, "count") == 0) {
        add_count(sentence, facts);
    } else if (strcmp(word, "others") == 0) {
        add_others(sentence, facts);
    } else if (strcmp(word, "alert") == 0) {
        sentence_add(sentence, "%u by the %s", facts->alert,
                     (facts->bits & FACT_ALERT_BY_CLIENT) ? "client" : "server");
    } else if (strcmp(word, "doubt") == 0 && verdict->also != 0) {
        sentence_add(sentence, " (what was seen cannot exclude another party, see also=)");
    }
}

/* A session without a fault did not always end as it should: its end may not have been seen. */
static const char *clean_sentence(const struct facts *facts)
{
    if (facts->bits & FACT_ORDERLY) {
        return templates[CAUSE_CLEAN];
    }
    if (facts->end == SESSION_END_NONE) {
        return "nothing has gone wrong so far";
    }
    if (facts->end == SESSION_END_CAPTURE || facts->end == SESSION_END_DRAIN) {
        return "nothing had gone wrong when the observation ended";
    }
    return (facts->bits & FACT_TLS) ? "as far as can be seen inside TLS, the session ended as it should"
                                    : "the client left without QUIT, while nothing was under way";
}

/* The sentence with its placeholders. Some causes have more than one: by whom they name, and what they leave open. */
static const char *sentence_template(const struct facts *facts, const struct verdict *verdict)
{
    if (verdict->cause == CAUSE_CLEAN) {
        return clean_sentence(facts);
    }
    if (verdict->cause == CAUSE_EARLY_CLOSE && facts->suspect == SIDE_SERVER) {
        return "the server closed without a word while the client's command was on its way to it: for the "
               "server it "
               "was still the client's turn";
    }
    if (verdict->cause == CAUSE_BANDWIDTH && verdict->fault == FAULT_WITNESS) {
        return "the witness itself carried the message too slowly{share}";
    }
    if (verdict->cause == CAUSE_RESET_INJECTED && verdict->fault == FAULT_CLIENT_NETWORK) {
        return "the client answered with a reset, as a host does whose connection is gone, and no end of it "
               "had "
               "passed here: a reset was forged towards it, or its own end was lost on the client leg";
    }
    if (verdict->cause == CAUSE_SIZE_LIMIT && (verdict->also & 1u << FAULT_SERVER) != 0) {
        return "the server refused for want of room (reply {code}) a message larger than the SIZE it offers: "
               "for its "
               "size, or its storage is full";
    }
    if (verdict->cause == CAUSE_OVERLOAD && (verdict->also & 1u << FAULT_POLICY) != 0) {
        return "the server refused (reply {code}), for its load or for this source: it does not say";
    }
    return templates[verdict->cause];
}

void explain_verdict(const struct facts *facts, struct verdict *verdict)
{
    struct sentence sentence = {.text = verdict->explain, .room = sizeof verdict->explain};
    const char *rest = sentence_template(facts, verdict);
    verdict->explain[0] = '\0';
    while (*rest != '\0') {
        size_t plain = strcspn(rest, "{");
        sentence_add(&sentence, "%.*s", (int)plain, rest);
        rest += plain;
        const char *end = strchr(rest, '}');
        if (end == NULL) {
            break;
        }
        add_placeholder(&sentence, rest + 1, (size_t)(end - rest) - 1, facts, verdict);
        rest = end + 1;
    }
}
