#include "core/policy/refusal.h"

#include <stdio.h>
#include <string.h>

size_t refusal_text(char text[REFUSAL_TEXT_SIZE], const char *host_name, const struct address *client)
{
    char host[ADDRESS_TEXT_SIZE];
    const char *address = address_format_host(client, host);
    /* An address literal of IPv6 carries its tag (RFC 5321 4.1.3). */
    const int length = snprintf(text, REFUSAL_TEXT_SIZE,
                                "421 4.7.0 %.255s Too many connections from [%s%s], try again later\r\n",
                                host_name, address_is_ipv4(client) ? "" : "IPv6:", address);

    return length < 0 ? 0 : (size_t)length < REFUSAL_TEXT_SIZE ? (size_t)length : REFUSAL_TEXT_SIZE - 1;
}
