/* address - an IPv4 or IPv6 address with a port, and networks of them.
 * Shapes:  IPv4 is kept v4-mapped (::ffff:a.b.c.d) so that one comparison serves both.
 * Text:    "192.0.2.7:41234" and "[2001:db8::25]:25", as the verdict line prints them.
 * Threads: none. */
#ifndef SMTPWITNESS_CORE_BASE_ADDRESS_H
#define SMTPWITNESS_CORE_BASE_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "core/base/attributes.h"

struct address {
    uint8_t octets[16]; /* network order; v4-mapped for IPv4 */
    uint16_t port;      /* host order; 0 = none */
};

struct network {
    uint8_t octets[16]; /* network order, v4-mapped, host bits zero */
    uint8_t prefix;     /* bits of the 128: an IPv4 /24 is 120 */
};

#define ADDRESS_TEXT_SIZE 56 /* "[" + INET6_ADDRSTRLEN + "]:65535" */

/* From the kernel's form. False when the family is neither AF_INET nor AF_INET6. */
bool address_from_sockaddr(struct address *address, const struct sockaddr *from) MUST_CHECK;

/* To the kernel's form; returns the length to hand to bind()/connect(). */
socklen_t address_to_sockaddr(const struct address *address, struct sockaddr_storage *to);

bool address_is_ipv4(const struct address *address);
bool address_equal(const struct address *a, const struct address *b); /* the port counts */

/* Writes the text with the port; the second form leaves the port out. Returns `text`. */
const char *address_format(const struct address *address, char text[ADDRESS_TEXT_SIZE]);
const char *address_format_host(const struct address *address, char text[ADDRESS_TEXT_SIZE]);

/* "192.0.2.0/24", "192.0.2.7", "2001:db8::/32". False when it is none, or host bits are set. */
bool network_parse(struct network *network, const char *text) MUST_CHECK;
bool network_contains(const struct network *network, const struct address *address);
/* Writes "192.0.2.0/24"; returns `text`. */
const char *network_format(const struct network *network, char text[ADDRESS_TEXT_SIZE]);

#endif
