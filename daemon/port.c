#include "daemon/port.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* False when another socket listens. A family that this system lacks is no reason to refuse. */
static bool is_free(const struct sockaddr *name, socklen_t length)
{
    const int on = 1;
    int fd = socket(name->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool taken;

    if (fd == -1) {
        return true;
    }
    /* SO_REUSEADDR: connections that linger from the last run are no hindrance, a listener is. */
    taken =
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        (name->sa_family != AF_INET6 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) == 0) &&
        bind(fd, name, length) == -1 && errno == EADDRINUSE;
    close(fd);
    return !taken;
}

bool port_check_free(uint16_t port, struct settings_error *error)
{
    const struct sockaddr_in ipv4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    const struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

    if (is_free((const struct sockaddr *)&ipv4, sizeof(ipv4)) &&
        is_free((const struct sockaddr *)&ipv6, sizeof(ipv6))) {
        return true;
    }
    snprintf(error->text, sizeof(error->text),
             "[proxy] listen-port = %u: in use by another process ('ss -ltnp sport = :%u' names it); stop it "
             "or take "
             "another port, in the rules too",
             port, port);
    return false;
}
