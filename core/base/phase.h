/* phase - where an SMTP dialogue stands (RFC 5321 section 4.1.4 gives the order of commands).
 * The names are those of the verdict line and of the [timeouts] keys. */
#ifndef SMTPWITNESS_CORE_BASE_PHASE_H
#define SMTPWITNESS_CORE_BASE_PHASE_H

#include "core/base/attributes.h"

enum ONE_OCTET phase {
    PHASE_CONNECT = 0, /* the server leg is not established yet */
    PHASE_GREETING,    /* waiting for the server's 220 */
    PHASE_HELO,        /* greeted; EHLO, HELO or LHLO is due or unanswered */
    PHASE_STARTTLS,    /* STARTTLS sent, its reply is due */
    PHASE_TLS,         /* TLS handshake */
    PHASE_AUTH,        /* AUTH sent or a 334 turn runs */
    PHASE_MAIL,        /* MAIL is due or unanswered */
    PHASE_RCPT,        /* RCPT is due or unanswered, or DATA/BDAT is due after RCPT */
    PHASE_DATA,        /* DATA sent, 354 due */
    PHASE_BODY,        /* 354 received; the client owes the body up to its final dot */
    PHASE_END_OF_DATA, /* the final dot (or BDAT LAST) sent, the reply is due */
    PHASE_BDAT,        /* a BDAT chunk runs or its reply is due (RFC 3030) */
    PHASE_RSET,        /* RSET sent, its reply is due */
    PHASE_QUIT,        /* QUIT sent, 221 is due */
    PHASE_COMMAND,     /* some other verb */
    PHASE_IDLE,   /* a complete exchange, nothing outstanding, no mail open: the client's turn, at leisure */
    PHASE_CLOSED, /* 221 or 421 said, or both directions ended */
    PHASE_OPAQUE, /* TLS application data: phases can only be inferred */
    PHASE_COUNT,
};

/* "connect", "end-of-data", ...: the spelling of the verdict line. Static storage. */
const char *phase_name(enum phase phase);

#endif
