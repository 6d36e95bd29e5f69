/* command - recognises one client line as an SMTP command (RFC 5321 section 4.1.1, and the extensions named
 * in the verb table). Tolerant: any case, leading blanks, missing brackets; peers' mistakes are data.
 * Threads: none. Time: none. Owns nothing. */
#ifndef SMTPWITNESS_CORE_SMTP_COMMAND_H
#define SMTPWITNESS_CORE_SMTP_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/attributes.h"

enum ONE_OCTET verb {
    VERB_NONE = 0,
    VERB_HELO,
    VERB_EHLO,
    VERB_LHLO,
    VERB_MAIL,
    VERB_RCPT,
    VERB_DATA,
    VERB_BDAT, /* a chunk that is not the last */
    VERB_BDAT_LAST,
    VERB_RSET,
    VERB_QUIT,
    VERB_NOOP,
    VERB_VRFY,
    VERB_EXPN,
    VERB_HELP,
    VERB_STARTTLS, /* and Exchange's X-ANONYMOUSTLS */
    VERB_AUTH,
    VERB_ETRN,
    VERB_TURN,
    VERB_ATRN,
    VERB_XCLIENT,
    VERB_XFORWARD,
    VERB_SEND,        /* SEND, SOML, SAML of RFC 821 */
    VERB_OTHER,       /* some other word */
    VERB_MASKED,      /* X's where a verb should be: a middlebox overwrote it */
    VERB_END_OF_DATA, /* not a command: the final dot, which also awaits a reply */
    VERB_GREETING,    /* not a command: the server's first reply */
    VERB_COUNT,
};

struct command {
    enum verb verb;
    uint64_t size;     /* BDAT's octets; MAIL's SIZE= (RFC 1870); 0 = none */
    bool malformed;    /* BDAT without a number and the like */
    bool auth_initial; /* AUTH with an initial response */
};

/* Never fails: an unknown line is VERB_OTHER, an empty one VERB_NONE. */
void command_parse(struct command *command, const uint8_t *text, size_t length);

/* "MAIL", "BDAT", ...: for the record. Static storage. */
const char *verb_name(enum verb verb);

#endif
