#include "proxy/leg.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <linux/tcp.h>

#include "proxy/leg_info.h"

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif

#define ORIGINAL_DESTINATION 80 /* SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST of netfilter */

#define KEEPALIVE_REST_IDLE_S     7200
#define KEEPALIVE_REST_INTERVAL_S 75
#define KEEPALIVE_REST_COUNT      9
#define KEEPALIVE_PROBE_S         1
#define KEEPALIVE_PROBE_COUNT     127 /* the most Linux allows (MAX_TCP_KEEPCNT): about two minutes */

#define SAVED_SYN_OCTETS   256 /* its headers with all their options: IPv6 40, extensions seldom, TCP 60 */
#define IPV4_HEADER_OCTETS 20u
#define IPV4_TTL_AT        8
#define IPV6_HOP_LIMIT_AT  7

#define STATE_CLOSE 7u /* Linux include/net/tcp_states.h */

static bool set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) != -1;
}

static bool set_linger(int fd, bool reset)
{
    const struct linger linger = {.l_onoff = reset ? 1 : 0, .l_linger = 0};

    return setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) != -1;
}

bool leg_options_inherit(int fd, bool ipv6)
{
    if (!set_linger(fd, true) || !set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) ||
        !set_option(fd, SOL_SOCKET, SO_OOBINLINE, 1))
        return false;
    return ipv6 ? set_option(fd, IPPROTO_IPV6, IPV6_RECVERR, 1) : set_option(fd, IPPROTO_IP, IP_RECVERR, 1);
}

static int dial_once(const struct leg_dial *dial, bool keep_port, int *error)
{
    const bool ipv6 = !address_is_ipv4(&dial->client);
    struct sockaddr_storage name;
    struct address from = dial->client;
    socklen_t length;
    int fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd == -1)
        goto failed;
    if (!leg_options_inherit(fd, ipv6))
        goto failed;
    if (dial->mark != 0 && setsockopt(fd, SOL_SOCKET, SO_MARK, &dial->mark, sizeof dial->mark) == -1)
        goto failed;
    if (dial->transparent) {
        if (ipv6 ? !set_option(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
                 : !set_option(fd, IPPROTO_IP, IP_TRANSPARENT, 1))
            goto failed;
        if (keep_port) {
            if (!set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1))
                goto failed;
        } else {
            from.port = 0;
            if (!set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1))
                goto failed;
        }
        length = address_to_sockaddr(&from, &name);
        if (bind(fd, (const struct sockaddr *)&name, length) == -1)
            goto failed;
    }
    length = address_to_sockaddr(&dial->server, &name);
    if (connect(fd, (const struct sockaddr *)&name, length) == -1 && errno != EINPROGRESS)
        goto failed;
    return fd;

failed:
    *error = errno;
    if (fd != -1)
        close(fd);
    return -1;
}

int leg_dial(const struct leg_dial *dial, bool *other_port, int *error)
{
    int fd;

    *other_port = false;
    fd = dial_once(dial, dial->keep_client_port, error);
    /* The port may still be in TIME_WAIT from an earlier session of this client to this server. */
    if (fd == -1 && dial->keep_client_port && dial->transparent &&
        (*error == EADDRINUSE || *error == EADDRNOTAVAIL)) {
        fd = dial_once(dial, false, error);
        *other_port = fd != -1;
    }
    return fd;
}

void leg_init(struct leg *leg, int fd)
{
    memset(leg, 0, sizeof *leg);
    leg->fd = fd;
}

bool leg_called(const struct leg *leg, const struct address *server, struct address *called)
{
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    const int level = address_is_ipv4(server) ? IPPROTO_IP : IPPROTO_IPV6;

    if (leg->fd == -1 || getsockopt(leg->fd, level, ORIGINAL_DESTINATION, &name, &length) == -1)
        return false;
    return address_from_sockaddr(called, (const struct sockaddr *)&name) && !address_equal(called, server);
}

int leg_take_error(const struct leg *leg)
{
    int error = 0;
    socklen_t length = sizeof error;

    if (leg->fd == -1 || getsockopt(leg->fd, SOL_SOCKET, SO_ERROR, &error, &length) == -1)
        return 0;
    return error;
}

/* The sender of an ICMP error; IPv4 comes unmapped. */
static void read_offender(struct icmp_error *icmp, const struct sock_extended_err *report, size_t octets)
{
    struct sockaddr_storage offender;
    const size_t room = octets - sizeof *report;

    memset(&offender, 0, sizeof offender);
    memcpy(&offender, SO_EE_OFFENDER(report), room < sizeof offender ? room : sizeof offender);
    icmp->offender_known = address_from_sockaddr(&icmp->offender, (const struct sockaddr *)&offender);
    icmp->offender.port = 0;
}

static bool read_report(struct icmp_error *icmp, struct msghdr *message)
{
    for (struct cmsghdr *item = CMSG_FIRSTHDR(message); item != NULL; item = CMSG_NXTHDR(message, item)) {
        union {
            struct sock_extended_err report;
            uint8_t octets[sizeof(struct sock_extended_err) + sizeof(struct sockaddr_in6)];
        } copy;
        const size_t octets = item->cmsg_len - CMSG_LEN(0);

        if (!(item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_RECVERR) &&
            !(item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_RECVERR))
            continue;
        if (item->cmsg_len < CMSG_LEN(sizeof copy.report))
            continue;
        memset(&copy, 0, sizeof copy);
        memcpy(copy.octets, CMSG_DATA(item), octets < sizeof copy ? octets : sizeof copy);
        if (copy.report.ee_origin != SO_EE_ORIGIN_ICMP && copy.report.ee_origin != SO_EE_ORIGIN_ICMP6)
            continue;
        icmp->seen = true;
        icmp->ipv6 = copy.report.ee_origin == SO_EE_ORIGIN_ICMP6;
        icmp->type = copy.report.ee_type;
        icmp->code = copy.report.ee_code;
        read_offender(icmp, &copy.report, octets < sizeof copy ? octets : sizeof copy);
        return true;
    }
    return false;
}

bool leg_take_icmp(const struct leg *leg, struct icmp_error *icmp)
{
    memset(icmp, 0, sizeof *icmp);
    if (leg->fd == -1)
        return false;
    for (unsigned count = 0; count < LEG_ERROR_QUEUE_MAX; count++) {
        union {
            struct cmsghdr header;
            uint8_t octets[512];
        } control;
        uint8_t payload[64];
        struct iovec vector = {.iov_base = payload, .iov_len = sizeof payload};
        struct msghdr message = {.msg_iov = &vector,
                                 .msg_iovlen = 1,
                                 .msg_control = control.octets,
                                 .msg_controllen = sizeof control.octets};
        struct icmp_error found = {.seen = false};

        if (recvmsg(leg->fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) == -1)
            break;
        if (read_report(&found, &message) && (!icmp->seen || icmp_error_is_too_big(icmp)))
            *icmp = found;
    }
    return icmp->seen;
}

static bool take_info(const struct leg *leg, struct tcp_info *info, size_t *octets)
{
    socklen_t length = sizeof *info;

    memset(info, 0, sizeof *info);
    if (leg->fd == -1 || getsockopt(leg->fd, IPPROTO_TCP, TCP_INFO, info, &length) == -1)
        return false;
    *octets = length;
    return true;
}

bool leg_is_dead(const struct leg *leg)
{
    struct tcp_info info;
    size_t octets;

    return !take_info(leg, &info, &octets) || info.tcpi_state == STATE_CLOSE;
}

uint32_t leg_rtt_us(const struct leg *leg)
{
    struct tcp_info info;
    size_t octets;

    return take_info(leg, &info, &octets) ? info.tcpi_rtt : 0;
}

uint8_t leg_take_syn_ttl(const struct leg *leg)
{
    uint8_t syn[SAVED_SYN_OCTETS];
    socklen_t length = sizeof syn;

    if (leg->fd == -1 || getsockopt(leg->fd, IPPROTO_TCP, TCP_SAVED_SYN, syn, &length) == -1 ||
        length < IPV4_HEADER_OCTETS)
        return 0;
    return syn[0] >> 4 == 4 ? syn[IPV4_TTL_AT] : syn[IPV6_HOP_LIMIT_AT];
}

uint32_t leg_outstanding(const struct leg *leg)
{
    int octets = 0;

    if (leg->fd == -1 || ioctl(leg->fd, SIOCOUTQ, &octets) == -1 || octets < 0)
        return 0;
    return (uint32_t)octets;
}

bool leg_at_mark(const struct leg *leg)
{
    int at_mark = 0;

    return leg->fd != -1 && ioctl(leg->fd, SIOCATMARK, &at_mark) != -1 && at_mark != 0;
}

bool leg_sample(struct leg *leg, struct leg_evidence *evidence, bool ipv6, uint64_t start_us, uint64_t now_us)
{
    struct tcp_info info;
    struct leg_info_context context = {.fin_sent = leg->finished,
                                       .ipv6 = ipv6,
                                       .wrote_us =
                                           leg->wrote_ms == 0 ? 0 : start_us + leg->wrote_ms * UINT64_C(1000),
                                       .now_us = now_us};

    if (!take_info(leg, &info, &context.info_octets))
        return false;
    /* No segment is in flight and none waits: the queue is empty. A dead socket has thrown its segments away, and still
     * knows how many octets were not acknowledged. */
    if (info.tcpi_unacked > 0 || info.tcpi_notsent_bytes > 0 || info.tcpi_state == STATE_CLOSE)
        context.outstanding = leg_outstanding(leg);
    context.progressed = leg->acked_octets != (uint32_t)info.tcpi_bytes_acked;
    leg->acked_octets = (uint32_t)info.tcpi_bytes_acked;
    leg_info_apply(evidence, &info, &context);
    return true;
}

void leg_probe_begin(struct leg *leg)
{
    if (leg->fd == -1)
        return;
    /* The order matters: a shorter idle time on a socket with keepalive on sends the first probe at once. */
    leg->keepalive = LEG_KEEPALIVE_NEVER;
    if (set_option(leg->fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBE_COUNT) &&
        set_option(leg->fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_PROBE_S) &&
        set_option(leg->fd, SOL_SOCKET, SO_KEEPALIVE, 1) &&
        set_option(leg->fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_PROBE_S))
        leg->keepalive = LEG_KEEPALIVE_PROBING;
}

enum probe_result leg_probe_result(const struct leg *leg, uint64_t since_us, uint64_t now_us)
{
    struct tcp_info info;
    size_t octets;

    if (leg->keepalive != LEG_KEEPALIVE_PROBING || !take_info(leg, &info, &octets))
        return PROBE_NONE;
    return leg_info_probe(&info, since_us, now_us);
}

void leg_probe_end(struct leg *leg)
{
    if (leg->fd == -1 || leg->keepalive != LEG_KEEPALIVE_PROBING)
        return;
    leg->keepalive = LEG_KEEPALIVE_NEVER;
    (void)set_option(leg->fd, SOL_SOCKET, SO_KEEPALIVE, 0);
}

void leg_keepalive_rest(struct leg *leg)
{
    if (leg->fd == -1 || leg->keepalive != LEG_KEEPALIVE_NEVER)
        return;
    if (set_option(leg->fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_REST_IDLE_S) &&
        set_option(leg->fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_REST_INTERVAL_S) &&
        set_option(leg->fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_REST_COUNT) &&
        set_option(leg->fd, SOL_SOCKET, SO_KEEPALIVE, 1))
        leg->keepalive = LEG_KEEPALIVE_RESTING;
}

void leg_send_fin(struct leg *leg)
{
    if (leg->fd == -1 || leg->finished)
        return;
    leg->finished = true;
    (void)shutdown(leg->fd, SHUT_WR); /* ENOTCONN: it was reset, which its own event tells */
}

void leg_close_reset(struct leg *leg)
{
    pending_clear(&leg->pending);
    if (leg->fd == -1)
        return;
    close(leg->fd);
    leg->fd = -1;
}

void leg_close_orderly(struct leg *leg)
{
    pending_clear(&leg->pending);
    if (leg->fd == -1)
        return;
    (void)set_linger(leg->fd, false);
    close(leg->fd);
    leg->fd = -1;
}
