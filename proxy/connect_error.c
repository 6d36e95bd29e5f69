#include "proxy/connect_error.h"

#include <errno.h>

#define ICMP_UNREACHABLE_TYPE    3
#define ICMP_TOO_BIG_CODE        4
#define ICMPV6_UNREACHABLE_TYPE  1
#define ICMPV6_TOO_BIG_TYPE      2
#define ICMPV6_PARAMETER_PROBLEM 4

static enum connect_result classify_icmp(const struct icmp_error *icmp)
{
    switch (icmp->code) {
    case 2: /* protocol unreachable */
    case 3: /* port unreachable: a TCP of its own would answer by RST (RFC 1122 3.2.2.1), so it is a firewall */
        return CONNECT_REJECTED;
    case 9:
    case 10:
    case 13:
        return CONNECT_PROHIBITED;
    default: /* 0 net, 1 host, 5 source route, 6-8, 11, 12: unreachable for the type of service */
        return CONNECT_UNREACHABLE;
    }
}

static enum connect_result classify_icmpv6(const struct icmp_error *icmp)
{
    switch (icmp->code) {
    case 1: /* administratively prohibited */
    case 5: /* source address failed ingress or egress policy */
    case 6: /* reject route */
        return CONNECT_PROHIBITED;
    case 4: /* port unreachable */
        return CONNECT_REJECTED;
    default: /* 0 no route, 2 beyond scope of source, 3 address unreachable */
        return CONNECT_UNREACHABLE;
    }
}

bool icmp_error_is_too_big(const struct icmp_error *icmp)
{
    if (!icmp->seen)
        return false;
    return icmp->ipv6 ? icmp->type == ICMPV6_TOO_BIG_TYPE
                      : icmp->type == ICMP_UNREACHABLE_TYPE && icmp->code == ICMP_TOO_BIG_CODE;
}

enum connect_result connect_error_classify(int error, const struct icmp_error *icmp)
{
    if (icmp->seen && !icmp_error_is_too_big(icmp)) {
        if (icmp->ipv6 && icmp->type == ICMPV6_UNREACHABLE_TYPE)
            return classify_icmpv6(icmp);
        if (icmp->ipv6 && icmp->type == ICMPV6_PARAMETER_PROBLEM)
            return CONNECT_REJECTED;
        if (!icmp->ipv6 && icmp->type == ICMP_UNREACHABLE_TYPE)
            return classify_icmp(icmp);
    }
    switch (error) {
    case ECONNREFUSED:
    case ECONNRESET:
        return CONNECT_REFUSED;
    case ETIMEDOUT:
        return CONNECT_TIMED_OUT;
    case EHOSTUNREACH: /* without ICMP: our own neighbour does not answer ARP or ND */
    case ENETUNREACH:
    case EHOSTDOWN:
        return CONNECT_UNREACHABLE;
    default:
        return CONNECT_LOCAL_ERROR;
    }
}

bool icmp_error_is_soft(int error)
{
    switch (error) {
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENONET:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case ECONNREFUSED: /* on an established connection only ICMP port unreachable causes it */
    case EACCES:
    case EPROTO:
    case EMSGSIZE:
        return true;
    default:
        return false;
    }
}
