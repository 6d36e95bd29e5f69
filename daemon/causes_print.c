#include "daemon/causes_print.h"

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "core/base/phase.h"
#include "core/fault/causes.h"
#include "core/fault/evidence.h"
#include "core/report/record_fields.h"

#define TABLE_COUNT(table) (sizeof(table) / sizeof((table)[0]))
#define BIT(note)          __builtin_ctzll(note)

#define MANUAL_COLUMNS 80 /* of the source of the page */
#define LIST_INDENT    22 /* the longest name of a cause and a space */
#define TEXT_INDENT    4

/* Whom a cause names. Network causes happen on either leg, except the one before there is a connection. */
static const char *fault_text(enum cause cause)
{
    enum fault fault = cause_text(cause)->fault;

    if (fault == FAULT_COUNT) {
        return "client or server, whichever owed or did it";
    }
    if (fault == FAULT_SERVER_NETWORK && cause != CAUSE_CONNECT_UNANSWERED) {
        return "client-network or server-network, by the leg in `where`";
    }
    return fault_name(fault);
}

/* ---- on a terminal ---- */

static void print_wrapped(FILE *stream, const char *text, size_t indent, size_t column)
{
    bool first = true;

    while (*text != '\0') {
        size_t length = strcspn(text, " ");

        if (!first && column + 1 + length > CAUSES_PRINT_COLUMNS) {
            fprintf(stream, "\n%*s", (int)indent, "");
            column = indent;
        } else if (!first) {
            fputc(' ', stream);
            column++;
        }
        fwrite(text, 1, length, stream);
        column += length;
        text += length;
        text += strspn(text, " ");
        first = false;
    }
    fputc('\n', stream);
}

static void print_part(FILE *stream, const char *title, const char *text)
{
    if (text == NULL) {
        return;
    }
    fprintf(stream, "\n%s\n%*s", title, TEXT_INDENT, "");
    print_wrapped(stream, text, TEXT_INDENT, TEXT_INDENT);
}

static const char title_seen[] = "What was seen";
static const char title_proves[] = "What it proves";
static const char title_client[] = "For the client's administrator";
static const char title_server[] = "For the server's administrator";
static const char title_network[] = "For the network and this router";
static const char title_manual[] = "Rests on";

void causes_print_list(FILE *stream)
{
    for (enum cause cause = CAUSE_CLEAN; cause < CAUSE_COUNT; cause++) {
        fprintf(stream, "%-*s", LIST_INDENT, cause_name(cause));
        print_wrapped(stream, cause_text(cause)->summary, LIST_INDENT, LIST_INDENT);
    }
}

void causes_print_one(FILE *stream, enum cause cause)
{
    if ((size_t)cause >= CAUSE_COUNT) {
        cause = CAUSE_UNDETERMINED;
    }
    const struct cause_text *text = cause_text(cause);
    size_t column = strlen(cause_name(cause)) + 2;

    fprintf(stream, "%s: ", cause_name(cause));
    print_wrapped(stream, text->summary, TEXT_INDENT, column);
    fprintf(stream, "fault: %s\n", fault_text(cause));
    print_part(stream, title_seen, text->seen);
    print_part(stream, title_proves, text->proves);
    print_part(stream, title_client, text->client_step);
    print_part(stream, title_server, text->server_step);
    print_part(stream, title_network, text->network_step);
    print_part(stream, title_manual, text->manual);
}

/* ---- the manual page ---- */

/* Letters that roff would change: a hyphen in what people copy, quotes and the backslash. */
static void print_roff_literal(FILE *stream, const char *text, size_t length)
{
    for (size_t at = 0; at < length; at++) {
        switch (text[at]) {
        case '-':
            fputs("\\-", stream);
            break;
        case '"':
            fputs("\\(dq", stream);
            break;
        case '\'':
            fputs("\\(aq", stream);
            break;
        case '\\':
            fputs("\\e", stream);
            break;
        default:
            fputc(text[at], stream);
        }
    }
}

/* Prose with `literals`: each literal becomes a line with the macro Ql, the prose around it is broken after
 * each sentence. Only blanks, an opening parenthesis or a line start may stand before a literal, only blanks
 * and closing punctuation after it (the unit test holds the texts to that). */
static void print_roff_text(FILE *stream, const char *text)
{
    size_t column = 0;

    while (*text != '\0') {
        text += strspn(text, " ");
        bool parenthesis = text[0] == '(' && text[1] == '`';
        if (text[0] == '`' || parenthesis) {
            text += parenthesis ? 2 : 1;
            size_t length = strcspn(text, "`");
            fprintf(stream, "%s.Ql %s\"%s", column > 0 ? "\n" : "", parenthesis ? "( " : "",
                    length <= 3 ? "\\&" : ""); /* short words could be names of macros */
            print_roff_literal(stream, text, length);
            fputc('"', stream);
            text += length;
            text += *text == '`' ? 1 : 0;
            for (; *text != '\0' && *text != ' '; text++) {
                fprintf(stream, " %c", *text);
            }
            fputc('\n', stream);
            column = 0;
            continue;
        }
        size_t length = strcspn(text, " ");
        if (length == 0) {
            break;
        }
        if (column > 0 && column + 1 + length > MANUAL_COLUMNS) {
            fputc('\n', stream);
            column = 0;
        } else if (column > 0) {
            fputc(' ', stream);
            column++;
        }
        if (column == 0 && (text[0] == '.' || text[0] == '\'')) {
            fputs("\\&", stream);
        }
        fwrite(text, 1, length, stream);
        column += length;
        text += length;
        if (strchr(".?", text[-1]) != NULL && text[0] == ' ' &&
            (isupper((unsigned char)text[1]) || text[1] == '(')) {
            fputc('\n', stream);
            column = 0;
        }
    }
    if (column > 0) {
        fputc('\n', stream);
    }
}

static void print_item(FILE *stream, const char *name, const char *meaning)
{
    fputs(".It Cm ", stream);
    print_roff_literal(stream, name, strlen(name));
    fputc('\n', stream);
    print_roff_text(stream, meaning);
}

static const char *const fault_meanings[] = {
    [FAULT_NONE] = "nobody; the session worked, or what happened is normal",
    [FAULT_CLIENT] = "the program or host that opened the connection",
    [FAULT_SERVER] = "the program or host that accepted it",
    [FAULT_CLIENT_NETWORK] = "the network between the client and this box",
    [FAULT_SERVER_NETWORK] = "the network between this box and the server",
    [FAULT_MIDDLEBOX] = ("another box on the way that changed, forged, refused or forgot something; `where` "
                         "says on which leg"),
    [FAULT_POLICY] = "a deliberate limit or refusal; `limit-by` says whose",
    [FAULT_WITNESS] = "our own box",
    [FAULT_UNKNOWN] = "the evidence does not suffice",
};
_Static_assert(TABLE_COUNT(fault_meanings) == FAULT_COUNT, "one meaning per fault");

static const char *const confidence_meanings[] = {
    [CONFIDENCE_POSSIBLE] = "the best of several explanations; ask for more evidence before you call anybody",
    [CONFIDENCE_LIKELY] = "other explanations are rare or incomplete",
    [CONFIDENCE_CERTAIN] = "the packets or replies seen admit no other explanation",
};
_Static_assert(TABLE_COUNT(confidence_meanings) == CONFIDENCE_COUNT, "one meaning per confidence");

static const char *const where_meanings[] = {
    [WHERE_UNKNOWN] = "could not be told",
    [WHERE_CLIENT_LEG] = "between the client and this box, the client included",
    [WHERE_SERVER_LEG] = "between this box and the server, the server included",
    [WHERE_HERE] = "on this box",
};
_Static_assert(TABLE_COUNT(where_meanings) == WHERE_COUNT, "one meaning per place");

static const char *const ended_by_meanings[] = {
    [ENDED_BY_UNKNOWN] = "could not be told",
    [ENDED_BY_CLIENT] = "the client closed or reset the connection",
    [ENDED_BY_SERVER] = "the server closed, reset or announced the end with a 421",
    [ENDED_BY_CLIENT_NETWORK] = "the client's leg died",
    [ENDED_BY_SERVER_NETWORK] = "the server's leg died",
    [ENDED_BY_MIDDLEBOX] = "another box cut it",
    [ENDED_BY_WITNESS] = "we closed it; `action` says why",
    [ENDED_BY_TIMEOUT] = "a kernel gave the connection up after repeating its packets in vain",
    [ENDED_BY_CAPTURE_END] =
        "the capture file ended before the session, or our sight of it did: smtpwitness nfq was stopped",
    [ENDED_BY_NONE] = "it has not ended (in stall lines), or it never began",
};
_Static_assert(TABLE_COUNT(ended_by_meanings) == ENDED_BY_COUNT, "one meaning per end");

static const char *const limit_by_meanings[] = {
    [LIMIT_BY_NONE] = "no limit was involved; the key is left out",
    [LIMIT_BY_CLIENT] = "the client's timeout",
    [LIMIT_BY_SERVER] = "the server's timeout or limit",
    [LIMIT_BY_MIDDLEBOX] = "an idle limit of a box on the way",
    [LIMIT_BY_WITNESS] = "a limit configured in smtpwitness.conf(5)",
};
_Static_assert(TABLE_COUNT(limit_by_meanings) == LIMIT_BY_COUNT, "one meaning per owner of a limit");

static const char *const action_meanings[] = {
    [ACTION_NONE] = "we did nothing but watch",
    [ACTION_WOULD_REFUSE] = "a limit set to report was passed; enforced, it would have refused",
    [ACTION_WOULD_HOLD] = "the same; it would have made the connection wait",
    [ACTION_WOULD_CLOSE] = "a timeout set to report was passed; enforced, it would have closed",
    [ACTION_REFUSED] = "we refused the connection",
    [ACTION_HELD] = "we let the connection wait for a free slot",
    [ACTION_CLOSED] = "we closed the session",
};
_Static_assert(TABLE_COUNT(action_meanings) == ACTION_COUNT, "one meaning per action");

static const char *const probe_meanings[] = {
    [PROBE_NONE] = "no probe was needed or allowed; the key is left out",
    [PROBE_SENT] = "a probe was sent, and the session ended before its answer could come",
    [PROBE_ANSWERED] = "the silent side's host answered: it and its network are alive",
    [PROBE_UNANSWERED] = "several probes were not answered: the host or its network is dead",
    [PROBE_REVEALED] = "the answer showed that the silent side had sent octets that never reached us",
};
_Static_assert(TABLE_COUNT(probe_meanings) == PROBE_COUNT, "one meaning per probe result");

static const char *const phase_meanings[] = {
    [PHASE_CONNECT] = "the connection to the server is not established yet",
    [PHASE_GREETING] = "the server's 220 is due",
    [PHASE_HELO] = "EHLO, HELO or LHLO, or its reply, is due",
    [PHASE_STARTTLS] = "the reply to STARTTLS is due",
    [PHASE_TLS] = "the TLS handshake runs",
    [PHASE_AUTH] = "a login runs",
    [PHASE_MAIL] = "MAIL, or its reply, is due",
    [PHASE_RCPT] = "RCPT or its reply, or DATA after it, is due",
    [PHASE_DATA] = "DATA was sent, its 354 is due",
    [PHASE_BODY] = "from the 354 on: the client owes the mail up to its final dot",
    [PHASE_END_OF_DATA] = "the final dot was sent, the server owes its word",
    [PHASE_BDAT] = "a BDAT chunk or its reply is due",
    [PHASE_RSET] = "the reply to RSET is due",
    [PHASE_QUIT] = "the reply to QUIT is due",
    [PHASE_COMMAND] = "some other command",
    [PHASE_IDLE] = "nothing is open or due: the client's turn, at leisure",
    [PHASE_CLOSED] = "the dialogue is over",
    [PHASE_OPAQUE] = "inside TLS, where the phase cannot be told",
};
_Static_assert(TABLE_COUNT(phase_meanings) == PHASE_COUNT, "one meaning per phase");

static const char *const note_meanings[] = {
    [BIT(NOTE_SERVER_LIMIT_BELOW_RFC)] = "the server waited less than RFC 5321 section 4.5.3.2 asks",
    [BIT(NOTE_CLIENT_LIMIT_BELOW_RFC)] = "the client waited less than it asks",
    [BIT(NOTE_SLOW_GREETING)] = "the greeting came late: a deliberate pause or slow lookups",
    [BIT(NOTE_SLOW_REPLY)] = "a reply came late but within the standard's time",
    [BIT(NOTE_RESYNCED)] = "we lost the thread of the dialogue and found it again by the server's replies",
    [BIT(NOTE_BANNER_MASKED)] = "the banner is asterisks: a firewall inspects SMTP on that leg",
    [BIT(NOTE_CAPABILITIES_MASKED)] = "keywords of the EHLO reply were blotted out by a firewall",
    [BIT(NOTE_BARE_LF)] = "lines ended with LF instead of CRLF",
    [BIT(NOTE_RESET_AFTER_QUIT)] = "the client reset the connection after QUIT, which is harmless",
    [BIT(NOTE_NO_QUIT)] = "the client left without QUIT",
    [BIT(NOTE_QUIT_UNANSWERED)] = "the server closed without answering QUIT, which is harmless",
    [BIT(NOTE_INFERRED)] = "the phase was inferred from sizes and directions inside TLS",
    [BIT(NOTE_MIDSTREAM)] = "the observation began in the middle of the session",
    [BIT(NOTE_OTHER_PORT)] = "the client's own port was busy, the server saw another one",
    [BIT(NOTE_DATA_BEFORE_354)] = "the client sent the body before the 354, and the server bore it",
    [BIT(NOTE_CLIENT_SAW_RESET)] = "the reply crossed here, but the client may have seen only a reset",
    [BIT(NOTE_HELD)] = "we held the connection until a slot was free",
    [BIT(NOTE_EARLY_PIPELINING)] = "commands before the greeting, by agreement with the server",
    [BIT(NOTE_NOT_SMTP)] = "what was spoken is not SMTP",
    [BIT(NOTE_LOSS_CLIENT_LEG)] = "packets were lost on the client's leg, with no harm done",
    [BIT(NOTE_LOSS_SERVER_LEG)] = "packets were lost on the server's leg, with no harm done",
    [BIT(NOTE_LIMIT_WOULD_ACT)] = "one of our limits set to report was passed",
    [BIT(NOTE_UNEXPLAINED_LIMIT)] = ("the server refused for a limit that our own counts do not explain: the "
                                     "source also connects past us, or the limit counts something else"),
    [BIT(NOTE_DRAINED)] = "smtpwitness was stopping",
    [BIT(NOTE_MAIL_ACCEPTED_EARLIER)] = "at least one mail of the session had been accepted before the fault",
    [BIT(NOTE_UNPROBED)] = "the silence could not be probed, so the verdict is less certain",
    [BIT(NOTE_OTHERS_GET_IN)] = "another source was accepted by this server while this one got no answer",
    [BIT(NOTE_OTHERS_FAIL_TOO)] = "another source got no answer from this server at the same time",
    [BIT(NOTE_OLDER_ONES_LIVE)] = "the server went on speaking on an older connection of this source",
    [BIT(NOTE_FRESH_ONE_WORKS)] = "a connection begun after this one stuck gets through",
    [BIT(NOTE_FRESH_ONE_FAILS)] = "connections begun after this one stuck get no answer either",
    [BIT(NOTE_TARPIT)] = "the server's replies came later and later",
    [BIT(NOTE_VERBS_MASKED)] = "verbs of the client were overwritten with X before they reached us",
    [BIT(NOTE_TCP_BOX_CLIENT_LEG)] = "a box on the client's leg spoils window scaling or SACK",
    [BIT(NOTE_TCP_BOX_SERVER_LEG)] = "a box on the server's leg spoils window scaling or SACK",
};
_Static_assert(TABLE_COUNT(note_meanings) == NOTE_COUNT, "one meaning per note");

static const char *const bottleneck_meanings[] = {
    [BOTTLENECK_UNKNOWN] = "bodies took less than 5 s, or it cannot be told; the key is left out",
    [BOTTLENECK_CLIENT] = "the client's program: small segments, nothing lost, taken at once",
    [BOTTLENECK_SERVER] = "the server's receive window: it reads slowly",
    [BOTTLENECK_CLIENT_LOSS] = "segments are lost on the client's leg",
    [BOTTLENECK_SERVER_LOSS] = "segments are lost on the server's leg",
    [BOTTLENECK_CLIENT_PATH] = "the client's leg, or a client that paces itself: full segments come slowly",
    [BOTTLENECK_SERVER_PATH] = "the server's leg is full: its round trip grew many times",
    [BOTTLENECK_WITNESS] = "the proxy itself: its send buffer was full, or octets waited for its processor",
};
_Static_assert(TABLE_COUNT(bottleneck_meanings) == BOTTLENECK_COUNT, "one meaning per bottleneck");

static const char *const connect_meanings[] = {
    [CONNECT_PENDING] = "not decided yet; the key is left out",
    [CONNECT_ESTABLISHED] = "the server accepted; the key is left out",
    [CONNECT_REFUSED] = "a reset answered the attempt",
    [CONNECT_TIMED_OUT] = "nothing answered",
    [CONNECT_UNREACHABLE] = "a router said that there is no way to the host",
    [CONNECT_PROHIBITED] = "a router or firewall said that it is prohibited",
    [CONNECT_REJECTED] = "another ICMP error, such as the REJECT of a firewall, answered the attempt",
    [CONNECT_LOCAL_ERROR] = "this box could not even try",
};
_Static_assert(TABLE_COUNT(connect_meanings) == CONNECT_COUNT, "one meaning per connect result");

static const char *const key_meanings[] = {
    [RECORD_FIELD_SESSION] = "A name for this session, the same in its stall and verdict lines.",
    [RECORD_FIELD_FAULT] = "The party that is named; see the values below.",
    [RECORD_FIELD_CAUSE] = "What went wrong, one word of the closed list below.",
    [RECORD_FIELD_CONFIDENCE] =
        ("How sure the verdict is. It covers `fault` and `also` together: with "
         "`fault=server also=server-network confidence=certain` it is certainly one of the two."),
    [RECORD_FIELD_WHERE] = "The leg on which it happened.",
    [RECORD_FIELD_ALSO] =
        "Parties that the evidence cannot exclude, or that contributed, separated by commas.",
    [RECORD_FIELD_PHASE] = "Where the dialogue stood.",
    [RECORD_FIELD_OWED_BY] = "Who had to act next for the dialogue to go on: client, server or none.",
    [RECORD_FIELD_ENDED_BY] = "Who ended the session. Often this is the victim and not the culprit.",
    [RECORD_FIELD_LIMIT_BY] = "Who set the limit that ended it.",
    [RECORD_FIELD_ACTION] = "What we did, or would have done.",
    [RECORD_FIELD_LIMIT] = "Which of our limits was met: per-source, total, percent-of-remaining or rate.",
    [RECORD_FIELD_CLIENT] = "Address and port of the side that opened the connection.",
    [RECORD_FIELD_SERVER] = "Address and port of the side that it was opened to.",
    [RECORD_FIELD_MODE] = "How it was seen: proxy, nfq (packets in flight) or replay (a capture).",
    [RECORD_FIELD_START] = "When the session began, UTC.",
    [RECORD_FIELD_DURATION] = "How long it lasted.",
    [RECORD_FIELD_WAITED] = "The silence that decided the verdict.",
    [RECORD_FIELD_LIMIT_MS] = "The limit that ended it, as observed or configured.",
    [RECORD_FIELD_MAILS] = "Mails accepted and begun: `mails=0/1` means that none of one was accepted.",
    [RECORD_FIELD_RCPTS] = "Recipients accepted and tried.",
    [RECORD_FIELD_COMMANDS] = "Commands that succeeded and that were sent.",
    [RECORD_FIELD_BYTES_CLIENT] = "Octets that the client sent.",
    [RECORD_FIELD_BYTES_SERVER] = "Octets that the server sent.",
    [RECORD_FIELD_CONCURRENT] = "Sessions of this source to this server at that instant, this one included.",
    [RECORD_FIELD_CONCURRENT_PEAK] = "Their highest number so far.",
    [RECORD_FIELD_CONCURRENT_LIMIT] = "The limit on them, the server's as observed or ours.",
    [RECORD_FIELD_SOURCE_CONNECTING] = "When the server refused: connections of this source whose SYN was "
                                       "not answered yet, this one included.",
    [RECORD_FIELD_SOURCE_ESTABLISHED] = "Those that were open.",
    [RECORD_FIELD_SOURCE_CLOSING] = "Those that the client had closed, and the server not yet.",
    [RECORD_FIELD_SOURCE_PHASES] = "In which phases the open ones were, and how many.",
    [RECORD_FIELD_SOURCE_OLDEST] = "The age of the oldest of all these.",
    [RECORD_FIELD_SOURCE_PEAK_HOUR] = "The most at once in the last hour.",
    [RECORD_FIELD_SOURCE_PEAK_DAY] = "The most at once in the last 24 hours.",
    [RECORD_FIELD_PROFILES_ALLOW] =
        "Known kinds of servers (profiles of smtpwitness.conf(5)) that would have let this one in.",
    [RECORD_FIELD_PROFILES_REFUSE] = "Those that would have refused it too.",
    [RECORD_FIELD_SIZE] = "In a forecast: the size that the client announced.",
    [RECORD_FIELD_SIZE_LEFT] = "The octets of it that are still to come.",
    [RECORD_FIELD_BYTES_PER_S] = "How many came in a second so far.",
    [RECORD_FIELD_NEEDS] = "How long the rest takes at that rate.",
    [RECORD_FIELD_REMAINS] = "How long the limit of the whole session, limit-ms, leaves.",
    [RECORD_FIELD_PROFILE] =
        "The profile that set that limit; left out when the configuration names it itself.",
    [RECORD_FIELD_TOTAL] = "All open sessions; only where a limit counts.",
    [RECORD_FIELD_TOTAL_LIMIT] = "That limit.",
    [RECORD_FIELD_RATE] = "New connections of this source in the last period; only where a limit counts.",
    [RECORD_FIELD_RATE_LIMIT] = "That limit.",
    [RECORD_FIELD_TLS] = "Whether the session was encrypted: no, starttls or implicit.",
    [RECORD_FIELD_DUPLICATE] =
        "With yes, the server accepted the mail and the client cannot know it: it will come again.",
    [RECORD_FIELD_LEDGER] =
        ("Every millisecond of the session, charged to exactly one party. The numbers add up to the "
         "duration."),
    [RECORD_FIELD_RTT_CLIENT] = "The round trip between this box and the client.",
    [RECORD_FIELD_RTT_SERVER] = "The round trip between this box and the server.",
    [RECORD_FIELD_RETRANS_CLIENT] = "Segments towards the client that had to be repeated.",
    [RECORD_FIELD_RETRANS_SERVER] = "Segments towards the server that had to be repeated.",
    [RECORD_FIELD_PROBE] =
        ("The outcome of our probe of the silent side; with the name of a side in front when another one "
         "was probed too."),
    [RECORD_FIELD_CONNECT] = "Why the connection to the server did not come about.",
    [RECORD_FIELD_BOTTLENECK] =
        "What kept message bodies from coming faster, where they took 5 s or more in all. It "
        "accuses nobody; a slow body is a fault only when somebody's time ran out over it.",
    [RECORD_FIELD_NOTES] = "Remarks that accuse nobody.",
    [RECORD_FIELD_REPLY] = "The server's words that decided, with unusual octets escaped.",
    [RECORD_FIELD_EXPLAIN] = "The verdict in one sentence.",
};
_Static_assert(TABLE_COUNT(key_meanings) == RECORD_FIELD_COUNT, "one meaning per key");

static void print_key_items(FILE *stream)
{
    for (unsigned field = 0; field < RECORD_FIELD_COUNT; field++) {
        if (key_meanings[field] != NULL) {
            print_item(stream, record_field_name((enum record_field)field), key_meanings[field]);
        }
    }
}

static void begin_values(FILE *stream, const char *key)
{
    fputs(".Ss Values of ", stream);
    print_roff_literal(stream, key, strlen(key));
    fputs("\n.Bl -tag -width Ds\n", stream);
}

static void end_values(FILE *stream)
{
    fputs(".El\n", stream);
}

static void print_values(FILE *stream)
{
    begin_values(stream, "fault and also");
    for (enum fault value = FAULT_NONE; value < FAULT_COUNT; value++) {
        print_item(stream, fault_name(value), fault_meanings[value]);
    }
    end_values(stream);
    begin_values(stream, "confidence");
    for (enum confidence value = CONFIDENCE_POSSIBLE; value < CONFIDENCE_COUNT; value++) {
        print_item(stream, confidence_name(value), confidence_meanings[value]);
    }
    end_values(stream);
    begin_values(stream, "where");
    for (enum where value = WHERE_UNKNOWN; value < WHERE_COUNT; value++) {
        print_item(stream, where_name(value), where_meanings[value]);
    }
    end_values(stream);
    begin_values(stream, "phase");
    for (unsigned value = PHASE_CONNECT; value < PHASE_COUNT; value++) {
        print_item(stream, phase_name((enum phase)value), phase_meanings[value]);
    }
    end_values(stream);
    begin_values(stream, "ended-by");
    for (enum ended_by value = ENDED_BY_UNKNOWN; value < ENDED_BY_COUNT; value++) {
        print_item(stream, ended_by_name(value), ended_by_meanings[value]);
    }
    end_values(stream);
    begin_values(stream, "limit-by");
    for (enum limit_by value = LIMIT_BY_CLIENT; value < LIMIT_BY_COUNT; value++) {
        print_item(stream, limit_by_name(value), limit_by_meanings[value]);
    }
    end_values(stream);
    begin_values(stream, "action");
    for (unsigned value = ACTION_NONE; value < ACTION_COUNT; value++) {
        print_item(stream, action_name((enum action)value), action_meanings[value]);
    }
    end_values(stream);
    begin_values(stream, "probe");
    for (enum probe_result value = PROBE_NONE; value < PROBE_COUNT; value++) {
        print_item(stream, probe_result_name(value), probe_meanings[value]);
    }
    end_values(stream);
    begin_values(stream, "connect");
    for (enum connect_result value = CONNECT_PENDING; value < CONNECT_COUNT; value++) {
        print_item(stream, connect_result_name(value), connect_meanings[value]);
    }
    end_values(stream);
    begin_values(stream, "bottleneck");
    for (enum bottleneck value = BOTTLENECK_CLIENT; value < BOTTLENECK_COUNT; value++) {
        print_item(stream, bottleneck_name(value), bottleneck_meanings[value]);
    }
    end_values(stream);
    begin_values(stream, "notes");
    for (unsigned bit = 0; bit < NOTE_COUNT; bit++) {
        print_item(stream, note_name(bit), note_meanings[bit]);
    }
    end_values(stream);
}

static const char head[] =
    ".\\\" Generated from core/fault/causes.c and daemon/causes_print.c; edit those.\n"
    ".Dd November 23, 2026\n"
    ".Dt SMTPWITNESS-VERDICTS 7\n"
    ".Os\n"
    ".Sh NAME\n"
    ".Nm smtpwitness-verdicts\n"
    ".Nd how to read what smtpwitness says, and what to do about it\n"
    ".Sh DESCRIPTION\n"
    ".Xr smtpwitness 8\n"
    "stands between a mail client and a mail server, sees both legs of every\n"
    "session, and logs one line when a session ends: the verdict.\n"
    "It says who owed the next word, whether the network had delivered everything\n"
    "so far, who gave up, and by which limit.\n"
    ".Pp\n"
    "In a hurry, read four words:\n"
    ".Cm fault\n"
    "names the party to call,\n"
    ".Cm where\n"
    "the side of this box on which to look,\n"
    ".Cm cause\n"
    "what happened, and\n"
    ".Cm confidence\n"
    "how much to bet on it.\n"
    "Then look the cause up below, or with\n"
    ".Ql smtpwitness explain Ar cause .\n"
    "The side that ended a session is often only the victim: do not stop at\n"
    ".Cm ended\\-by .\n"
    ".Pp\n"
    "An example, broken into several lines:\n"
    ".Bd -literal -offset indent\n"
    "verdict session=7f3a-12 fault=client cause=data-start-stall\n"
    " confidence=certain where=client-leg phase=body owed-by=client\n"
    " ended-by=server limit-by=server action=none\n"
    " client=192.0.2.7:41234 server=[2001:db8::25]:25 mode=proxy\n"
    " waited-ms=59200 limit-ms=60000 mails=0/1 rcpts=1/1\n"
    " probe=answered notes=server-limit-below-rfc\n"
    " reply=\"421 4.4.2 server.test Error: timeout exceeded\"\n"
    ".Ed\n"
    ".Pp\n"
    "The server hung up, and its log blames the connection; yet it was the client\n"
    "that owed the mail and kept silent for 59 seconds, with a host that was alive\n"
    "and a network that had delivered everything.\n"
    "The note adds that the server's limit of 60 s is stricter than RFC 5321.\n"
    ".Sh KINDS OF LINE\n"
    ".Bl -tag -width Ds\n"
    ".It Cm verdict\n"
    "One for each session, at its end.\n"
    ".It Cm stall\n"
    "While a session hangs, once the silence passes a notice threshold: the same\n"
    "keys as far as known.\n"
    "The verdict follows and may differ, because more evidence has come in by then.\n"
    ".It Cm refusal\n"
    "One for each connection that one of our own limits refused or held.\n"
    ".It Cm forecast\n"
    "Once for a session at most, while a mail comes: the size that the client announced\n"
    "and the rate so far say that it will not be through before the limit of the\n"
    "whole session,\n"
    ".Cm session\n"
    "in\n"
    ".Xr smtpwitness.conf 5\n"
    "or of a profile.\n"
    "It accuses nobody.\n"
    ".It Cm peaks\n"
    "From time to time: the busiest sources and their highest number of sessions at once.\n"
    ".El\n"
    ".Sh KEYS\n"
    "Keys have a fixed order.\n"
    "A key that does not apply is left out.\n"
    "A value with blanks is in double quotes.\n"
    "In JSON the names are the same.\n"
    ".Bl -tag -width Ds\n";

static const char blame[] =
    ".Sh WHO IS BLAMED WHEN ONE IS SLOW AND THE OTHER IMPATIENT\n"
    "The yardstick is RFC 5321 section 4.5.3.2.\n"
    "A client should wait 5 minutes for the greeting and the replies to MAIL and\n"
    "RCPT, 2 minutes for the 354, 3 minutes for a block of the body to be taken, and\n"
    "10 minutes after the final dot.\n"
    "A server should wait 5 minutes for the next command.\n"
    ".Bl -bullet\n"
    ".It\n"
    "With a mail open, the side that owes stays silent and the other ends the\n"
    "session with a timeout: the silent side is named, and the limit is noted where\n"
    "it is below the standard.\n"
    ".It\n"
    "The server closes on the client's turn without a word before 5 minutes: the\n"
    "server, with the client in\n"
    ".Cm also .\n"
    ".It\n"
    "Between mails the server closes an idle session: nobody.\n"
    ".It\n"
    "The client leaves before the minimum while the server owes: the client, with\n"
    "the server in\n"
    ".Cm also ;\n"
    "at or past the minimum: the server.\n"
    "Two percent less count as the minimum, because whoever waits starts its clock\n"
    "a little before its last octet comes by here.\n"
    ".It\n"
    "A session that was open before the observation began: nobody is named for a\n"
    "silence before a command and its reply have shown whose turn it is\n"
    ".Pq Cm midstream .\n"
    ".El\n";

static void print_cause_part(FILE *stream, const char *title, const char *text)
{
    if (text == NULL) {
        return;
    }
    fprintf(stream, ".It %s\n", title);
    print_roff_text(stream, text);
}

static void print_cause(FILE *stream, enum cause cause)
{
    const struct cause_text *text = cause_text(cause);

    fputs(".Ss ", stream);
    print_roff_literal(stream, cause_name(cause), strlen(cause_name(cause)));
    fprintf(stream, "\nIn short: %s.\n.Bl -tag -width Ds\n.It Fault\n", text->summary);
    print_roff_text(stream, fault_text(cause));
    print_cause_part(stream, title_seen, text->seen);
    print_cause_part(stream, title_proves, text->proves);
    print_cause_part(stream, title_client, text->client_step);
    print_cause_part(stream, title_server, text->server_step);
    print_cause_part(stream, title_network, text->network_step);
    print_cause_part(stream, title_manual, text->manual);
    fputs(".El\n", stream);
}

void causes_print_manual(FILE *stream)
{
    fputs(head, stream);
    print_key_items(stream);
    fputs(".El\n.Sh VALUES\n", stream);
    print_values(stream);
    fputs(blame, stream);
    fputs(".Sh CAUSES\n", stream);
    for (enum cause cause = CAUSE_CLEAN; cause < CAUSE_COUNT; cause++) {
        print_cause(stream, cause);
    }
    fputs(".Sh SEE ALSO\n.Xr smtpwitness.conf 5 ,\n.Xr smtpwitness 8\n", stream);
}
