#include "proxy/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <linux/tcp.h>

#include "proxy/leg.h"

#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif

static bool set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) != -1;
}

/* How far away a client is, for the day when a reset comes in its name (leg_take_syn_ttl). It can do without. */
static void save_syn(int fd)
{
    (void)set_option(fd, IPPROTO_TCP, TCP_SAVE_SYN, 1);
}

static bool set_transparent(int fd, bool ipv6)
{
    return ipv6 ? set_option(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
                : set_option(fd, IPPROTO_IP, IP_TRANSPARENT, 1);
}

int listener_open(bool ipv6, uint16_t port, struct settings_error *error)
{
    struct sockaddr_in name4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 name6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    const struct sockaddr *name = ipv6 ? (const struct sockaddr *)&name6 : (const struct sockaddr *)&name4;
    const socklen_t length = ipv6 ? sizeof name6 : sizeof name4;
    const char *step = "open a socket";
    int reason;
    const int fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd == -1)
        goto failed;
    step = "set its options";
    if (!set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) || !set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1) ||
        (ipv6 && !set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)) || !leg_options_inherit(fd, ipv6))
        goto failed;
    save_syn(fd);
    step = "make it transparent (this needs CAP_NET_ADMIN or CAP_NET_RAW)";
    if (!set_transparent(fd, ipv6))
        goto failed;
    step = "bind it";
    if (bind(fd, name, length) == -1)
        goto failed;
    step = "listen";
    if (listen(fd, LISTENER_BACKLOG) == -1)
        goto failed;
    return fd;

failed:
    reason = errno;
    snprintf(error->text, sizeof error->text, "proxy: cannot listen on port %u of %s: cannot %s: %s", port,
             ipv6 ? "IPv6" : "IPv4", step, strerror(reason));
    if (fd != -1)
        close(fd);
    errno = reason; /* the caller tells "no IPv6 here" from a fault */
    return -1;
}

bool listener_adopt(int fd, struct settings_error *error)
{
    int listening = 0, type = 0, domain = 0, flags;
    socklen_t length = sizeof listening;

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == -1 || listening == 0)
        goto refused;
    length = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == -1 || type != SOCK_STREAM)
        goto refused;
    length = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == -1 ||
        (domain != AF_INET && domain != AF_INET6))
        goto refused;
    flags = fcntl(fd, F_GETFL);
    if (flags == -1 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1 || fcntl(fd, F_SETFD, FD_CLOEXEC) == -1 ||
        !leg_options_inherit(fd, domain == AF_INET6))
        goto failed;
    save_syn(fd);
    if (domain == AF_INET6) /* one that serves both families: its IPv4 connections need the IPv4 option too */
        (void)set_option(fd, IPPROTO_IP, IP_RECVERR, 1);
    if (!set_transparent(fd, domain == AF_INET6)) {
        snprintf(error->text, sizeof error->text,
                 "proxy: the passed socket %d is not transparent and cannot be made so: %s; in a systemd "
                 "socket unit "
                 "write Transparent=yes",
                 fd, strerror(errno));
        return false;
    }
    return true;

failed:
    snprintf(error->text, sizeof error->text, "proxy: cannot use the passed socket %d: %s", fd,
             strerror(errno));
    return false;
refused:
    snprintf(error->text, sizeof error->text, "proxy: the passed descriptor %d is no listening TCP socket",
             fd);
    return false;
}

uint16_t listener_port(int fd)
{
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    struct address address;

    if (getsockname(fd, (struct sockaddr *)&name, &length) == -1 ||
        !address_from_sockaddr(&address, (const struct sockaddr *)&name))
        return 0;
    return address.port;
}

enum listener_result listener_accept(int fd, int *client_fd, struct address *client, struct address *server)
{
    struct sockaddr_storage from, to;
    socklen_t from_length = sizeof from, to_length = sizeof to;
    const int accepted = accept4(fd, (struct sockaddr *)&from, &from_length, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (accepted == -1) {
        switch (errno) {
        case EAGAIN:
            return LISTENER_EMPTY;
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
            return LISTENER_SHORTAGE;
        case EBADF:
        case EINVAL:
        case ENOTSOCK:
        case EFAULT:
            return LISTENER_BROKEN;
        default: /* accept(2): ECONNABORTED, EINTR, EPERM and network errors of the new socket: as EAGAIN, go on */
            return LISTENER_AGAIN;
        }
    }
    if (getsockname(accepted, (struct sockaddr *)&to, &to_length) == -1 ||
        !address_from_sockaddr(client, (const struct sockaddr *)&from) ||
        !address_from_sockaddr(server, (const struct sockaddr *)&to)) {
        close(accepted);
        return LISTENER_AGAIN;
    }
    *client_fd = accepted;
    return LISTENER_OK;
}
