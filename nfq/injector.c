#include "nfq/injector.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IPV6_HDRINCL
#define IPV6_HDRINCL 36 /* linux/in6.h, which cannot be included beside netinet/in.h */
#endif
#define SEGMENT_MAX_OCTETS 1280 /* any IPv6 path takes it (RFC 8200 section 5) */

bool injector_open(struct injector *injector)
{
    int on = 1;

    injector->ipv4 = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);
    injector->ipv6 = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);
    if (injector->ipv6 != -1 &&
        setsockopt(injector->ipv6, IPPROTO_IPV6, IPV6_HDRINCL, &on, sizeof on) == -1) {
        close(injector->ipv6);
        injector->ipv6 = -1;
    }
    injector->bridge = bridge_create();
    return injector->ipv4 != -1 || injector->ipv6 != -1;
}

void injector_close(struct injector *injector)
{
    if (injector->ipv4 != -1)
        close(injector->ipv4);
    if (injector->ipv6 != -1)
        close(injector->ipv6);
    injector->ipv4 = injector->ipv6 = -1;
    bridge_destroy(injector->bridge);
    injector->bridge = NULL;
}

bool injector_send(const struct injector *injector, const struct segment *segment)
{
    uint8_t octets[SEGMENT_MAX_OCTETS];
    struct sockaddr_storage to;
    struct address destination = segment->destination;
    socklen_t to_length;
    size_t length = segment_build(segment, octets, sizeof octets);
    bool ipv4 = address_is_ipv4(&segment->destination);
    int fd = ipv4 ? injector->ipv4 : injector->ipv6;

    if (length == 0 || fd == -1)
        return false;
    if (injector->bridge != NULL &&
        bridge_send(injector->bridge, &segment->source, &segment->destination, octets, length))
        return true;
    destination.port = 0; /* a raw IPv6 socket takes it for the protocol (ipv6(7)) */
    memset(&to, 0, sizeof to);
    to_length = address_to_sockaddr(&destination, &to);
    return sendto(fd, octets, length, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&to, to_length) ==
           (ssize_t)length;
}
