/* reply_text - what a failing reply says, from its code, its enhanced code and the words servers are known
 * to use. One declarative table in reply_text.c, each row with its source. Text outranks the code: 421
 * 4.3.2 means a per-source limit in Exchange's words and "all ports busy" in postscreen's.
 * Threads: none. Time: none. */
#ifndef SMTPWITNESS_CORE_SMTP_REPLY_TEXT_H
#define SMTPWITNESS_CORE_SMTP_REPLY_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/attributes.h"

enum ONE_OCTET reply_class {
    REPLY_CLASS_NONE = 0,          /* not a failure, or nothing more is known than the code */
    REPLY_CLASS_PER_SOURCE_LIMIT,  /* too many connections from this source at once */
    REPLY_CLASS_PER_SOURCE_RATE,   /* too fast from this source */
    REPLY_CLASS_PER_SESSION_LIMIT, /* too many mails, recipients or errors in this session */
    REPLY_CLASS_SESSION_TIME,      /* the session lasted too long in all */
    REPLY_CLASS_OVERLOAD,          /* too busy for anybody */
    REPLY_CLASS_SHUTDOWN,          /* the service is closing */
    REPLY_CLASS_TIMEOUT,           /* the server tired of waiting for the client */
    REPLY_CLASS_CLIENT_PROTOCOL,   /* the client broke the protocol: early talk, pipelining */
    REPLY_CLASS_GREYLISTING,
    REPLY_CLASS_REPUTATION,
    REPLY_CLASS_SIZE,
    REPLY_CLASS_SIZE_OR_ROOM, /* no room, said about a mail larger than the server's SIZE: one or the other */
    REPLY_CLASS_AUTHENTICATION,           /* log in first, or wrong credentials */
    REPLY_CLASS_CONNECTION_LIMIT_OR_LOAD, /* 421 without telling words: a limit or a load, undecided */
    REPLY_CLASS_OTHER,                    /* rejected for some other reason */
    REPLY_CLASS_COUNT,
};

enum reply_class reply_text_classify(uint16_t code, const uint8_t enhanced[3], const char *text,
                                     size_t length);

const char *reply_class_name(enum reply_class reply_class);

#endif
