/* reply - assembles server lines into replies (RFC 5321 section 4.2.1; enhanced codes RFC 3463).
 * Bounds:  keeps REPLY_KEEP_OCTETS of text across the lines of one reply, of a failing one (4xx, 5xx)
 *          only, until the next call or reply_clear().
 * Threads: none. Time: none. */
#ifndef SMTPWITNESS_CORE_SMTP_REPLY_H
#define SMTPWITNESS_CORE_SMTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/attributes.h"

#define REPLY_KEEP_OCTETS 512

struct reply_parser {
    uint16_t code; /* of the open multi-line reply, 0 = none open */
    uint16_t kept_length;
    uint16_t line_count;
    char *kept; /* lines joined by a space, or NULL */
};

enum reply_outcome {
    REPLY_INCOMPLETE = 0, /* a `250-` line: more follows */
    REPLY_COMPLETE,
    REPLY_NO_CODE,      /* the line carries no reply code; nothing changed */
    REPLY_CODE_CHANGED, /* a line of an open reply bears another code: taken as a new reply, complete */
};

struct reply {
    uint16_t code;       /* 200..599 */
    uint8_t enhanced[3]; /* class 0 = none; detail values above 255 are clamped */
    const char *text;    /* of a 4xx/5xx: all lines incl. codes, NUL-terminated, good until the next call;
                          * NULL for other codes and when memory is short */
    size_t text_length;
    const uint8_t *line; /* the current line, as given */
    size_t line_length;
    bool first_line;
};

/* One line of the server. On REPLY_INCOMPLETE `reply` describes the line alone: so are EHLO keywords read. */
enum reply_outcome reply_consume(struct reply_parser *parser, const uint8_t *line, size_t length,
                                 struct reply *reply) MUST_CHECK;
bool reply_is_open(const struct reply_parser *parser);
void reply_clear(struct reply_parser *parser);

#endif
