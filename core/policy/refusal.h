/* refusal - what is said to the client of a connection that one of our limits met: a 421 (RFC 5321 3.8 and 4.2.1,
 * RFC 3463 X.7.0).
 * Threads: none. */
#ifndef SMTPWITNESS_CORE_POLICY_REFUSAL_H
#define SMTPWITNESS_CORE_POLICY_REFUSAL_H

#include <stddef.h>

#include "core/base/address.h"

#define REFUSAL_TEXT_SIZE                                                                                    \
    400 /* a host name of 255, an address, the words; a reply line may have 512 (RFC 5321 4.5.3.1.5) */

/* "421 4.7.0 HOST Too many connections from [ADDRESS], try again later" with CRLF; returns its length. */
size_t refusal_text(char text[REFUSAL_TEXT_SIZE], const char *host_name, const struct address *client);

#endif
