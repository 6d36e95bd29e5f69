/* refusal - what is said about a connection that one of our limits met: the 421 to its client (RFC 5321 3.8 and
 * 4.2.1, RFC 3463 X.7.0) and the `refusal` line.
 * Threads: none. */
#ifndef SMTPWITNESS_PROXY_REFUSAL_H
#define SMTPWITNESS_PROXY_REFUSAL_H

#include <stddef.h>

#include "core/report/record.h"
#include "core/session/session.h"

#define REFUSAL_TEXT_SIZE                                                                                    \
    400 /* a host name of 255, an address, the words; a reply line may have 512 (RFC 5321 4.5.3.1.5) */

/* "421 4.7.0 HOST Too many connections from [ADDRESS], try again later" with CRLF; returns its length. */
size_t refusal_text(char text[REFUSAL_TEXT_SIZE], const char *host_name, const struct address *client);

void refusal_record(struct record *record, const struct session *session, const struct limiter_counts *counts,
                    enum action action, int64_t start_unix_ms);

#endif
