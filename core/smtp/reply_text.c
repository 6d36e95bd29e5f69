#include "core/smtp/reply_text.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "core/smtp/reply.h"

/* The words servers are known to use, most telling first: the first row that fits decides. A row fits when
 * its code and enhanced code agree (0 and "" = any; a code of one digit = its hundred) and all its
 * fragments occur, in any case. Rows of plain codes come last. */
struct text_row {
    uint16_t code;
    const char *enhanced; /* "4.7.0", "4.7." = any detail, "" = any */
    const char *fragment;
    const char *second; /* a second fragment, or NULL */
    enum reply_class class;
};

#define CONCURRENCY REPLY_CLASS_PER_SOURCE_LIMIT
#define RATE        REPLY_CLASS_PER_SOURCE_RATE
#define SESSION     REPLY_CLASS_PER_SESSION_LIMIT
#define OVERLOAD    REPLY_CLASS_OVERLOAD
#define PROTOCOL    REPLY_CLASS_CLIENT_PROTOCOL
#define REPUTATION  REPLY_CLASS_REPUTATION

static const struct text_row text_rows[] = {
    /* The whole session's time: before "connection ..." rows, which would catch some. */
    {421, "", "exceeded allowable connection time", NULL,
     REPLY_CLASS_SESSION_TIME}, /* Cisco ESA, total time */
    {421, "", "successful message injection", NULL,
     REPLY_CLASS_TIMEOUT},                                       /* Cisco ESA, no mail within 5 min */
    {421, "", "exceeded bad smtp command limit", NULL, SESSION}, /* Cisco ESA */

    /* Too many at once from this source. */
    {4, "", "per-source limit", NULL, CONCURRENCY},                      /* Exchange, 421 4.3.2 */
    {4, "", "concurrent smtp connections from this", NULL, CONCURRENCY}, /* Exim smtp_accept_max_per_host */
    {4, "", "too many smtp sessions for this host", NULL, CONCURRENCY},  /* Sendmail 421 4.4.5 */
    {4, "", "too many open connections", NULL, CONCURRENCY}, /* Sendmail ConnectionRateControl, conncontrol */
    {4, "", "exceeded the maximum number of connections", NULL, CONCURRENCY}, /* Outlook */
    {4, "", "maximum number of concurrent", "source", CONCURRENCY},           /* Exchange, other wordings */
    {4, "", "ib007", NULL, CONCURRENCY},                                      /* cloudfilter, per address */
    {0, "", "cxcnct", NULL, CONCURRENCY},                          /* Cox, cloudfilter AUP#CXCNCT */
    {4, "", "too many sessions opened", NULL, CONCURRENCY},        /* Orange, wanadoo */
    {4, "", "trop de connexions", NULL, CONCURRENCY},              /* Orange, Free */
    {4, "", "concurrent smtp connections", NULL, OVERLOAD},        /* Exim smtp_accept_max: from anybody */
    {4, "", "too many concurrent connections", NULL, CONCURRENCY}, /* Symantec SMG */
    {4, "", "too many concurrent", "from", CONCURRENCY},           /* wordings of hosting providers */
    {4, "", "too many connections", NULL, CONCURRENCY}, /* Postfix anvil and postscreen, SendGrid, others */

    /* Too fast from this source. */
    {4, "", "too much mail from", NULL, RATE},                /* Postfix anvil */
    {4, "", "too many recipients from", NULL, RATE},          /* Postfix anvil */
    {4, "", "too many auth commands from", NULL, RATE},       /* Postfix anvil */
    {4, "", "too many new tls sessions from", NULL, RATE},    /* Postfix anvil */
    {4, "", "connection rate limit exceeded", NULL, RATE},    /* Sendmail ratecontrol */
    {4, "4.7.28", "", NULL, RATE},                            /* Gmail */
    {4, "", "unusual rate of unsolicited", NULL, RATE},       /* Gmail */
    {4, "", "receiving mail at a rate", NULL, RATE},          /* Gmail 450 4.2.1 */
    {4, "", "too quickly", NULL, RATE},                       /* Gmail 450 4.2.1 */
    {451, "4.7.500", "server busy", NULL, RATE},              /* Microsoft 365 */
    {4, "", "has been temporarily rate limited", NULL, RATE}, /* Outlook */
    {0, "", "rp-001", NULL, RATE},                            /* Outlook.com */
    {0, "", "[ts0", NULL, RATE},                              /* Yahoo TS01 to TS03 */
    {0, "", "[tss0", NULL, RATE},                             /* Yahoo */
    {0, "", "[ipts04]", NULL, RATE},                          /* Yahoo */
    {0, "", "connection frequency limited", NULL, RATE},      /* QQ */
    {0, "", "ip frequency limited", NULL, RATE},              /* QQ */
    {0, "", "rl000003", NULL, RATE},                          /* Comcast */
    {4, "", "throttled", NULL, RATE},                         /* Comcast 421 4.1.0 */
    {4, "", "throttling failure", NULL, RATE},                /* AWS SES 454 */
    {4, "", "maximum sending rate exceeded", NULL, RATE},     /* AWS SES 454 */
    {4, "", "try again slower", NULL, RATE},                  /* Orange and others */

    /* Too much within this session. */
    {4, "", "too many messages in this connection", NULL, SESSION}, /* Exim smtp_accept_max_per_connection */
    {4, "", "message per connection reached", NULL, SESSION},       /* Yahoo */
    {4, "", "messages per connection reached", NULL, SESSION},      /* Yahoo */
    {4, "", "too many messages for this session", NULL, SESSION},   /* hosting providers */
    {4, "", "too many messages sent", NULL, SESSION},               /* OpenSMTPD */
    {4, "", "error: too many errors", NULL, SESSION},               /* Postfix smtpd_hard_error_limit */
    {452, "4.5.3", "", NULL, SESSION},                              /* RFC 3463: too many recipients */
    {452, "", "too many recipients", NULL, SESSION},                /* RFC 5321 4.5.3.1.10 */

    /* Too busy for anybody. */
    {4, "", "all server ports are busy", NULL, OVERLOAD},     /* Postfix postscreen */
    {4, "", "all screening ports are busy", NULL, OVERLOAD},  /* Postfix postscreen */
    {4, "", "no system resources", NULL, OVERLOAD},           /* Postfix postscreen */
    {4, "", "too much load", NULL, OVERLOAD},                 /* Exim smtp_load_reserve */
    {4, "", "load too high", NULL, OVERLOAD},                 /* Sendmail refuseLA wording */
    {452, "4.3.1", "", NULL, OVERLOAD},                       /* RFC 3463: system full */
    {452, "", "space shortage", NULL, OVERLOAD},              /* Exim check_spool_space */
    {4, "", "insufficient system storage", NULL, OVERLOAD},   /* RFC 5321 452 */
    {4, "", "insufficient system resources", NULL, OVERLOAD}, /* Exchange back pressure, 452 4.3.1 */
    {4, "", "server local data error", NULL, OVERLOAD},       /* Postfix 421 4.3.0 */
    {4, "", "server configuration error", NULL, OVERLOAD},    /* Postfix 451 4.3.5 */
    {451, "4.3.0", "", NULL, OVERLOAD}, /* RFC 3463: mail system trouble; Postfix queue file */
    {451, "", "queue file write error", NULL, OVERLOAD},    /* Postfix */
    {451, "", "temporary local problem", NULL, OVERLOAD},   /* Exim, whatever failed on it */
    {451, "", "temporary lookup failure", NULL, OVERLOAD},  /* Postfix: its tables do not answer */
    {451, "", "local error in processing", NULL, OVERLOAD}, /* RFC 5321 4.2.3 wording */
    {451, "4.7.1", "service unavailable", NULL,
     REPLY_CLASS_CONNECTION_LIMIT_OR_LOAD}, /* Postfix: a milter is down, or says so */

    /* The server tired of the client. */
    {4, "", "timeout exceeded", NULL, REPLY_CLASS_TIMEOUT},                   /* Postfix smtpd_timeout */
    {421, "", "smtp command timeout", NULL, REPLY_CLASS_TIMEOUT},             /* Exim smtp_receive_timeout */
    {421, "", "smtp incoming data timeout", NULL, REPLY_CLASS_TIMEOUT},       /* Exim, in a body */
    {421, "", "service timed out", NULL, REPLY_CLASS_TIMEOUT},                /* Symantec SMG */
    {451, "", "timeout waiting for client input", NULL, REPLY_CLASS_TIMEOUT}, /* Exchange 451 4.7.0 */
    {421, "", "connection timed out", NULL, REPLY_CLASS_TIMEOUT},             /* Exchange 421 4.4.1 */
    {421, "", "timeout waiting for", NULL, REPLY_CLASS_TIMEOUT},              /* generic */
    {4, "", "timeout - closing connection", NULL,
     REPLY_CLASS_TIMEOUT},                                      /* Gmail 451 4.4.2, and wordings like it */
    {421, "", "idle timeout", NULL, REPLY_CLASS_TIMEOUT},       /* generic */
    {421, "", "idle too long", NULL, REPLY_CLASS_TIMEOUT},      /* generic */
    {421, "", "lost input channel", NULL, REPLY_CLASS_TIMEOUT}, /* Sendmail */
    {450, "4.4.1", "connection timed out", NULL, REPLY_CLASS_TIMEOUT},       /* Email.cloud, also when idle */
    {450, "", "[internal] connection timed out", NULL, REPLY_CLASS_TIMEOUT}, /* the same without its code */
    {421, "4.4.2", "", NULL, REPLY_CLASS_TIMEOUT}, /* RFC 3463: bad connection; servers: timed out */
    {421, "4.4.1", "", NULL, REPLY_CLASS_TIMEOUT}, /* Sendmail, Exchange */

    /* The client broke the protocol. */
    {5, "", "synchronization error", NULL, PROTOCOL},    /* Exim 554 */
    {5, "", "protocol synchronization", NULL, PROTOCOL}, /* Postfix 554 5.5.0 */
    {5, "", "protocol error", NULL, PROTOCOL},           /* Postfix postscreen 521, 550 5.5.1 */
    {5, "", "i can break rules, too", NULL, PROTOCOL},   /* Postfix postscreen 521 5.7.0 */
    {0, "", "improper use of smtp command pipelining", NULL, PROTOCOL}, /* Postfix reject_unauth_pipelining */
    {0, "", "improper command pipelining", NULL, PROTOCOL},             /* Postfix 503 5.5.0 */

    /* The service goes away. */
    {421, "", "shutting down", NULL, REPLY_CLASS_SHUTDOWN},           /* Dovecot, Exchange and others */
    {421, "", "service not available", "clos", REPLY_CLASS_SHUTDOWN}, /* RFC 5321 4.2.2 wording */
    {421, "", "service unavailable", "clos", REPLY_CLASS_SHUTDOWN},   /* the same, varied */
    {421, "", "service not active", NULL, REPLY_CLASS_SHUTDOWN},      /* Exchange 421 4.3.2 */
    {421, "", "server is going down", NULL, REPLY_CLASS_SHUTDOWN},    /* generic */
    {421, "", "server shutdown", NULL, REPLY_CLASS_SHUTDOWN},         /* OpenSMTPD, generic */
    {421, "", "system not accepting network messages", NULL,
     REPLY_CLASS_SHUTDOWN}, /* RFC 3463 X.3.2 wording */

    /* Come again later, on purpose. */
    {4, "", "greylist", NULL, REPLY_CLASS_GREYLISTING},    /* postgrey, milter-greylist, rspamd */
    {4, "", "graylist", NULL, REPLY_CLASS_GREYLISTING},    /* the same, spelt otherwise */
    {4, "", "grey listed", NULL, REPLY_CLASS_GREYLISTING}, /* the same, spelt otherwise */

    /* Not from this source. */
    {0, "", "blocked using", NULL, REPUTATION}, /* Postfix reject_rbl_client */
    {0, "", "spamhaus", NULL, REPUTATION},      /* named block lists */
    {0, "", "barracudacentral", NULL, REPUTATION},
    {0, "", "spamcop", NULL, REPUTATION},
    {0, "", "blocklist", NULL, REPUTATION},
    {0, "", "block list", NULL, REPUTATION}, /* Outlook */
    {0, "", "blacklist", NULL, REPUTATION},
    {0, "", "dnsbl", NULL, REPUTATION},
    {0, "", "poor reputation", NULL, REPUTATION},
    {0, "", "low reputation", NULL, REPUTATION}, /* Gmail */
    {0, "", "senderbase", NULL, REPUTATION},     /* Cisco ESA */

    /* Too large. */
    {0, "5.3.4", "", NULL, REPLY_CLASS_SIZE}, /* the same behind 554, 523, 550 */
    {0, "4.3.4", "", NULL, REPLY_CLASS_SIZE}, /* RFC 3463 X.3.4, for the time being */
    {0, "5.2.3", "", NULL, REPLY_CLASS_SIZE}, /* RFC 3463 X.2.3: this mailbox's limit */
    {0, "4.2.3", "", NULL, REPLY_CLASS_SIZE},
    {5, "", "message size exceeds", NULL, REPLY_CLASS_SIZE},          /* Postfix, Sendmail, Exim */
    {5, "", "maximum message size exceeded", NULL, REPLY_CLASS_SIZE}, /* generic */
    {5, "", "message too large", NULL, REPLY_CLASS_SIZE},             /* generic */
    {5, "", "message too big", NULL, REPLY_CLASS_SIZE},               /* OpenSMTPD and others */
    {5, "", "exceeds fixed maximum", NULL, REPLY_CLASS_SIZE},         /* RFC 1870 6.1 wording */

    /* Log in first, or wrong credentials. */
    {530, "", "", NULL, REPLY_CLASS_AUTHENTICATION},    /* RFC 4954 6; RFC 3207 uses 530 for STARTTLS too */
    {534, "", "", NULL, REPLY_CLASS_AUTHENTICATION},    /* RFC 4954 6 */
    {535, "", "", NULL, REPLY_CLASS_AUTHENTICATION},    /* RFC 4954 6 */
    {538, "", "", NULL, REPLY_CLASS_AUTHENTICATION},    /* RFC 4954 6 */
    {5, "5.7.8", "", NULL, REPLY_CLASS_AUTHENTICATION}, /* RFC 4954 6 */
    {4, "4.7.0", "temporary authentication failure", NULL, REPLY_CLASS_AUTHENTICATION}, /* RFC 4954 6, 454 */

    /* Words that say what the codes below do not mean. */
    {4, "", "rejected: cannot find your", NULL,
     REPLY_CLASS_OTHER},                                    /* Postfix reject_unknown_client_hostname */
    {4, "4.7.1", "host rejected", NULL, REPLY_CLASS_OTHER}, /* the same, as its administrator may word it */
    {4, "", "command rejected", NULL, REPLY_CLASS_OTHER},   /* Postfix reject_unknown_helo_hostname */
    {554, "5.7.1", "relay", NULL, REPLY_CLASS_OTHER},       /* Postfix, Sendmail: no open relay */
    {554, "5.7.1", "address rejected", NULL, REPLY_CLASS_OTHER}, /* Postfix access tables: this recipient */
    {554, "5.7.1", "content", NULL, REPLY_CLASS_OTHER},          /* Postfix header_checks, content filters */
    {554, "5.7.1", "message rejected", NULL, REPLY_CLASS_OTHER}, /* amavis, milters: this message */

    /* Enhanced codes without telling words. */
    {450, "4.7.1", "", NULL, REPLY_CLASS_GREYLISTING}, /* policy services that greylist */
    {451, "4.7.1", "", NULL, REPLY_CLASS_GREYLISTING},
    {450, "4.2.0", "", NULL, REPLY_CLASS_GREYLISTING}, /* Postfix with postgrey */
    {451, "4.2.0", "", NULL, REPLY_CLASS_GREYLISTING},
    {554, "5.7.1", "", NULL, REPUTATION},  /* refused by policy */
    {421, "4.4.5", "", NULL, CONCURRENCY}, /* RFC 3463: congestion; Sendmail and Gmail mean this source */
    {421, "", "", NULL, REPLY_CLASS_CONNECTION_LIMIT_OR_LOAD},
};

static const char *const class_names[] = {
    [REPLY_CLASS_NONE] = "none",
    [REPLY_CLASS_PER_SOURCE_LIMIT] = "per-source-limit",
    [REPLY_CLASS_PER_SOURCE_RATE] = "per-source-rate",
    [REPLY_CLASS_PER_SESSION_LIMIT] = "per-session-limit",
    [REPLY_CLASS_SESSION_TIME] = "session-time",
    [REPLY_CLASS_OVERLOAD] = "overload",
    [REPLY_CLASS_SHUTDOWN] = "shutdown",
    [REPLY_CLASS_TIMEOUT] = "timeout",
    [REPLY_CLASS_CLIENT_PROTOCOL] = "client-protocol",
    [REPLY_CLASS_GREYLISTING] = "greylisting",
    [REPLY_CLASS_REPUTATION] = "reputation",
    [REPLY_CLASS_SIZE] = "size",
    [REPLY_CLASS_SIZE_OR_ROOM] = "size-or-room",
    [REPLY_CLASS_AUTHENTICATION] = "authentication",
    [REPLY_CLASS_CONNECTION_LIMIT_OR_LOAD] = "connection-limit-or-load",
    [REPLY_CLASS_OTHER] = "other",
};
_Static_assert(sizeof class_names / sizeof class_names[0] == REPLY_CLASS_COUNT, "a name per class");

static bool code_fits(uint16_t wanted, uint16_t code)
{
    return wanted == 0 || (wanted < 10 ? code / 100 == wanted : code == wanted);
}

/* "4.7.0" against {4, 7, 0}; "4.7." fits any detail. */
static bool enhanced_fits(const char *wanted, const uint8_t enhanced[3])
{
    for (size_t i = 0; i < 3 && *wanted != 0; i++) {
        unsigned number = 0;
        while (*wanted >= '0' && *wanted <= '9')
            number = number * 10 + (unsigned)(*wanted++ - '0');
        if (number > 255)
            number = 255; /* as reply.c clamps it */
        if (enhanced[i] != number)
            return false;
        if (*wanted == '.')
            wanted++;
    }
    return true;
}

static bool contains(const char *text, size_t length, const char *fragment)
{
    size_t wanted = strlen(fragment);
    if (wanted == 0)
        return true;
    for (size_t at = 0; length - at >= wanted && at < length; at++)
        if (strncasecmp(text + at, fragment, wanted) == 0)
            return true;
    return false;
}

enum reply_class reply_text_classify(uint16_t code, const uint8_t enhanced[3], const char *text,
                                     size_t length)
{
    if (code < 400)
        return REPLY_CLASS_NONE;
    if (text == NULL)
        length = 0;
    for (size_t i = 0; i < sizeof text_rows / sizeof text_rows[0]; i++) {
        const struct text_row *row = &text_rows[i];
        if (code_fits(row->code, code) && enhanced_fits(row->enhanced, enhanced) &&
            contains(text, length, row->fragment) &&
            (row->second == NULL || contains(text, length, row->second)))
            return row->class;
    }
    return REPLY_CLASS_OTHER;
}

const char *reply_class_name(enum reply_class reply_class)
{
    assert((unsigned)reply_class < REPLY_CLASS_COUNT);
    return class_names[reply_class];
}
