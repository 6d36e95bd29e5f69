#include "proxy/gate.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define PROTOCOL_LIFE     253
#define PROTOCOL_FAREWELL 254

static const int domains[GATE_FAMILIES] = {AF_INET, AF_INET6};

/* A raw socket gets every packet of its protocol that comes to this host: a filter that keeps nothing. */
static bool receive_nothing(int fd)
{
    struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
    const struct sock_fprog program = {.len = 1, .filter = &nothing};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != -1;
}

static bool open_socket(int domain, int protocol, int *fd, struct settings_error *error)
{
    *fd = socket(domain, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
    if (*fd == -1 && (errno == EAFNOSUPPORT || errno == EPROTONOSUPPORT))
        return true;
    if (*fd != -1 && receive_nothing(*fd))
        return true;
    snprintf(
        error->text, sizeof error->text,
        "proxy: cannot give signs of life: %s; give CAP_NET_RAW, or write fail = closed in [proxy] and load "
        "the rules with --fail closed",
        strerror(errno));
    return false;
}

bool gate_open(struct gate *gate, struct settings_error *error)
{
    *gate = (struct gate){.life = {-1, -1}, .farewell = {-1, -1}};
    for (int family = 0; family < GATE_FAMILIES; family++) {
        if (!open_socket(domains[family], PROTOCOL_LIFE, &gate->life[family], error) ||
            !open_socket(domains[family], PROTOCOL_FAREWELL, &gate->farewell[family], error)) {
            gate_close(gate);
            return false;
        }
    }
    return true;
}

static void close_socket(int *fd)
{
    if (*fd != -1)
        close(*fd);
    *fd = -1;
}

void gate_close(struct gate *gate)
{
    for (int family = 0; family < GATE_FAMILIES; family++) {
        close_socket(&gate->life[family]);
        close_socket(&gate->farewell[family]);
    }
}

/* To the loopback address. Only EPERM is a sign that somebody listens; a family switched off has other answers. */
static bool send_sign(const int *sockets)
{
    const struct sockaddr_in to4 = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    const struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    const struct sockaddr *to[GATE_FAMILIES] = {(const struct sockaddr *)&to4, (const struct sockaddr *)&to6};
    const socklen_t lengths[GATE_FAMILIES] = {sizeof to4, sizeof to6};
    bool seen = false;

    for (int family = 0; family < GATE_FAMILIES; family++) {
        if (sockets[family] == -1)
            continue;
        if (sendto(sockets[family], "", 0, MSG_NOSIGNAL, to[family], lengths[family]) == -1 && errno == EPERM)
            seen = true;
    }
    return seen;
}

bool gate_say_life(const struct gate *gate)
{
    return send_sign(gate->life);
}

bool gate_say_farewell(const struct gate *gate)
{
    return send_sign(gate->farewell);
}
