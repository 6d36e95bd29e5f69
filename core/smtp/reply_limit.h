/* reply_limit - the number of connections that a refusal names as its limit: "limit: 10", "maximum of 10 connections",
 * "more than 10 concurrent sessions". No RFC gives such a text a form; only a number that stands by such a word counts,
 * never a part of an address, a code, a time or a version. Threads: none. */
#ifndef SMTPWITNESS_CORE_SMTP_REPLY_LIMIT_H
#define SMTPWITNESS_CORE_SMTP_REPLY_LIMIT_H

#include <stdint.h>

#define REPLY_LIMIT_MOST 100000 /* larger numbers are no limit of connections */

/* 0 = names none. `text` NUL-terminated, may be NULL. */
uint32_t reply_text_limit(const char *text);

#endif
