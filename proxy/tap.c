#include "proxy/tap.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include "proxy/tap_filter.h"
#include "proxy/tap_table.h"

#define TAP_BATCH       32u
#define TAP_BATCHES     64u       /* per drain and socket: bounded work under the lock */
#define TAP_BUFFER      (1 << 20) /* wanted of the kernel per socket; it may give less */
#define PROTOCOL_SILENT 0x88b5u   /* IEEE 802 local experimental: nothing arrives, the socket sleeps */

struct tap {
    pthread_mutex_t lock;
    int sockets[2]; /* always on: IPv4, IPv6 */
    int ack_socket; /* on suspicion */
    bool ack_listening, ack_by_flow;
    struct tap_table *table;
    uint16_t ports[TAP_FILTER_MAX_PORTS];
    size_t port_count;
    struct tap_stats stats;
};

/* Reads what waits; false when the socket is empty. */
static bool drain_batch(struct tap *tap, int fd, bool acks, uint64_t now_us)
{
    uint8_t octets[TAP_BATCH][TAP_FILTER_SNAP];
    struct sockaddr_ll names[TAP_BATCH];
    struct iovec vectors[TAP_BATCH];
    struct mmsghdr messages[TAP_BATCH];
    int count;

    memset(messages, 0, sizeof messages);
    memset(names, 0, sizeof names);
    for (size_t index = 0; index < TAP_BATCH; index++) {
        vectors[index] = (struct iovec){.iov_base = octets[index], .iov_len = sizeof octets[index]};
        messages[index].msg_hdr.msg_iov = &vectors[index];
        messages[index].msg_hdr.msg_iovlen = 1;
        messages[index].msg_hdr.msg_name = &names[index];
        messages[index].msg_hdr.msg_namelen = sizeof names[index];
    }
    count = recvmmsg(fd, messages, TAP_BATCH, MSG_DONTWAIT, NULL);
    for (int index = 0; index < count; index++) {
        const uint8_t kind = names[index].sll_pkttype;

        tap->stats.packets++;
        if (!acks)
            tap_table_note(tap->table, octets[index], messages[index].msg_len, now_us);
        else if (kind == PACKET_OUTGOING || kind == PACKET_HOST)
            tap_table_note_ack(tap->table, octets[index], messages[index].msg_len, kind == PACKET_OUTGOING);
    }
    return count == (int)TAP_BATCH;
}

static void drain_locked(struct tap *tap, uint64_t now_us)
{
    for (size_t index = 0; index < 2; index++) {
        unsigned batches = TAP_BATCHES;

        while (drain_batch(tap, tap->sockets[index], false, now_us) && --batches > 0)
            continue;
    }
    if (tap->ack_listening) {
        unsigned batches = TAP_BATCHES;

        while (drain_batch(tap, tap->ack_socket, true, now_us) && --batches > 0)
            continue;
    }
}

void tap_drain(struct tap *tap, uint64_t now_us)
{
    if (tap == NULL)
        return;
    pthread_mutex_lock(&tap->lock);
    drain_locked(tap, now_us);
    pthread_mutex_unlock(&tap->lock);
}

/* ---- what is asked ---- */

bool tap_find_reset(struct tap *tap, const struct tap_flow *flow, uint64_t now_us, struct tap_reset *reset)
{
    bool found;

    if (tap == NULL)
        return false;
    pthread_mutex_lock(&tap->lock);
    drain_locked(tap, now_us);
    found = tap_table_find_reset(tap->table, flow, now_us, reset);
    pthread_mutex_unlock(&tap->lock);
    return found;
}

bool tap_find_icmp(struct tap *tap, const struct tap_flow *flow, uint64_t now_us, struct icmp_error *icmp,
                   uint32_t *mtu)
{
    bool found;

    if (tap == NULL)
        return false;
    pthread_mutex_lock(&tap->lock);
    drain_locked(tap, now_us);
    found = tap_table_find_icmp(tap->table, flow, now_us, icmp, mtu);
    pthread_mutex_unlock(&tap->lock);
    return found;
}

bool tap_find_revealed(struct tap *tap, const struct tap_flow *flow, uint64_t now_us, uint32_t *octets)
{
    bool found;

    if (tap == NULL)
        return false;
    pthread_mutex_lock(&tap->lock);
    drain_locked(tap, now_us);
    found = tap_table_find_revealed(tap->table, flow, octets);
    pthread_mutex_unlock(&tap->lock);
    return found;
}

/* ---- watching ---- */

static bool attach(int fd, struct tap_filter *filter)
{
    const struct sock_fprog program = {.len = (unsigned short)filter->count, .filter = filter->code};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != -1;
}

static bool bind_protocol(int fd, uint16_t protocol)
{
    const struct sockaddr_ll name = {
        .sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = 0};

    return bind(fd, (const struct sockaddr *)&name, sizeof name) != -1;
}

/* Lets the ACKs of the watched flows through: by the clients' ports while they are few, else by the servers'. */
static bool aim_filter(struct tap *tap)
{
    struct tap_filter filter;
    uint16_t ports[TAP_FILTER_MAX_PORTS];
    const uint32_t watched = tap_table_watched(tap->table);
    const bool by_flow = watched <= TAP_FILTER_MAX_PORTS;

    if (watched == 0) {
        tap_filter_none(&filter);
        if (tap->ack_listening && attach(tap->ack_socket, &filter) &&
            bind_protocol(tap->ack_socket, PROTOCOL_SILENT))
            tap->ack_listening = false;
        return true;
    }
    if (!by_flow && !tap->ack_by_flow && tap->ack_listening)
        return true; /* all are let through already */
    if (by_flow)
        tap_filter_acks(&filter, ports, tap_table_ports(tap->table, ports, TAP_FILTER_MAX_PORTS));
    else
        tap_filter_acks(&filter, tap->ports, tap->port_count);
    if (!attach(tap->ack_socket, &filter))
        return false;
    tap->ack_by_flow = by_flow;
    if (!tap->ack_listening && !bind_protocol(tap->ack_socket, ETH_P_ALL))
        return false;
    tap->ack_listening = true;
    return true;
}

bool tap_watch(struct tap *tap, const struct tap_flow *flow, uint64_t now_us)
{
    bool watched;

    if (tap == NULL)
        return false;
    pthread_mutex_lock(&tap->lock);
    watched = tap_table_watch(tap->table, flow, now_us);
    if (watched && !aim_filter(tap)) {
        tap_table_unwatch(tap->table, flow);
        watched = false;
    }
    pthread_mutex_unlock(&tap->lock);
    return watched;
}

void tap_unwatch(struct tap *tap, const struct tap_flow *flow, uint64_t now_us)
{
    if (tap == NULL)
        return;
    pthread_mutex_lock(&tap->lock);
    tap_table_unwatch(tap->table, flow);
    drain_locked(tap, now_us);
    (void)aim_filter(tap); /* at worst more is seen than needed */
    pthread_mutex_unlock(&tap->lock);
}

void tap_stats(struct tap *tap, struct tap_stats *stats)
{
    memset(stats, 0, sizeof *stats);
    if (tap == NULL)
        return;
    pthread_mutex_lock(&tap->lock);
    for (size_t index = 0; index < 3; index++) {
        const int fd = index < 2 ? tap->sockets[index] : tap->ack_socket;
        struct tpacket_stats kernel;
        socklen_t length = sizeof kernel;

        /* Reading resets the kernel's count. */
        if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &kernel, &length) != -1)
            tap->stats.dropped += kernel.tp_drops;
    }
    tap->stats.watched = tap_table_watched(tap->table);
    *stats = tap->stats;
    pthread_mutex_unlock(&tap->lock);
}

/* ---- life ---- */

static void add_ports(struct tap *tap, const struct settings_ports *ports)
{
    for (uint32_t index = 0; index < ports->count && tap->port_count < TAP_FILTER_MAX_PORTS; index++)
        tap->ports[tap->port_count++] = ports->port[index];
}

/* Filtered before it is bound: not a packet gets in unfiltered. */
static int open_socket(struct tap_filter *filter, uint16_t protocol)
{
    const int wanted = TAP_BUFFER;
    const int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd == -1)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &wanted, sizeof wanted); /* as much as there is */
    if (!attach(fd, filter) || !bind_protocol(fd, protocol)) {
        const int error = errno;

        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

struct tap *tap_create(const struct settings_smtp *smtp, const uint8_t seed[16], struct settings_error *error)
{
    struct tap *tap = calloc(1, sizeof *tap);
    struct tap_filter filter;

    if (tap == NULL)
        goto failed;
    tap->sockets[0] = tap->sockets[1] = tap->ack_socket = -1;
    if (pthread_mutex_init(&tap->lock, NULL) != 0) {
        free(tap);
        tap = NULL;
        goto failed;
    }
    tap->table = tap_table_create(seed);
    if (tap->table == NULL)
        goto failed;
    add_ports(tap, &smtp->ports);
    add_ports(tap, &smtp->implicit_tls_ports);
    add_ports(tap, &smtp->lmtp_ports);
    tap_filter_watch(&filter, false, tap->ports, tap->port_count);
    tap->sockets[0] = open_socket(&filter, ETH_P_IP);
    if (tap->sockets[0] == -1)
        goto failed;
    tap_filter_watch(&filter, true, tap->ports, tap->port_count);
    tap->sockets[1] = open_socket(&filter, ETH_P_IPV6);
    if (tap->sockets[1] == -1)
        goto failed;
    tap_filter_none(&filter);
    tap->ack_socket = open_socket(&filter, PROTOCOL_SILENT);
    if (tap->ack_socket == -1)
        goto failed;
    return tap;

failed:
    snprintf(error->text, sizeof error->text,
             "proxy: cannot open the raw tap: %s; it needs CAP_NET_RAW, or write tap = no in [proxy]",
             strerror(errno));
    tap_destroy(tap);
    return NULL;
}

void tap_destroy(struct tap *tap)
{
    if (tap == NULL)
        return;
    for (size_t index = 0; index < 2; index++) {
        if (tap->sockets[index] != -1)
            close(tap->sockets[index]);
    }
    if (tap->ack_socket != -1)
        close(tap->ack_socket);
    pthread_mutex_destroy(&tap->lock);
    tap_table_destroy(tap->table);
    free(tap);
}
