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

#include "core/base/hash.h"
#include "core/tcp/packet.h"
#include "proxy/tap_filter.h"

#define TAP_RESETS      4096u /* powers of two: two places for each key */
#define TAP_HANDSHAKES  4096u
#define TAP_ICMPS       1024u
#define TAP_WATCHES     512u
#define TAP_BATCH       32u
#define TAP_BATCHES     64u       /* per drain and socket: bounded work under the lock */
#define TAP_WIRE_MOST   65575u    /* the longest IP packet; how long it was on the wire is in its header */
#define TAP_BUFFER      (1 << 20) /* wanted of the kernel per socket; it may give less */
#define RESET_FRESH_US  UINT64_C(60000000)
#define ICMP_FRESH_US   UINT64_C(900000000)
#define STEADY_AFTER_US UINT64_C(600000000) /* no other TTL seen for so long */
#define PROTOCOL_SILENT 0x88b5u /* IEEE 802 local experimental: nothing arrives, the socket sleeps */

/* From and to as in the packet; no padding, so that it can be hashed and compared as octets. */
struct tap_key {
    uint8_t from[16], to[16];
    uint16_t from_port, to_port;
};

struct seen_reset {
    struct tap_key key;
    uint64_t seen_us; /* 0 = free */
    uint8_t ttl;
};

struct seen_handshake { /* the TTL of a host's SYN-ACKs */
    struct tap_key key; /* only `from` */
    uint64_t seen_us, changed_us;
    uint8_t ttl;
};

struct seen_icmp {
    struct tap_key key; /* of the quoted segment, which was ours */
    uint64_t seen_us;
    struct icmp_error icmp;
    uint32_t mtu;
};

struct watch {
    struct tap_key key; /* from the client to the server */
    uint64_t since_us;  /* 0 = free */
    enum side side;
    bool acknowledged, answered;
    uint32_t our_acknowledgement, its_sequence;
};

struct tap {
    pthread_mutex_t lock;
    int sockets[2]; /* always on: IPv4, IPv6 */
    int ack_socket; /* on suspicion */
    bool ack_listening, ack_by_flow;
    uint8_t seed[HASH_SEED_OCTETS];
    uint16_t ports[TAP_FILTER_MAX_PORTS];
    size_t port_count;
    struct tap_stats stats;
    struct seen_reset resets[TAP_RESETS];
    struct seen_handshake handshakes[TAP_HANDSHAKES];
    struct seen_icmp icmps[TAP_ICMPS];
    struct watch watches[TAP_WATCHES];
};

/* ---- keys and places ---- */

static struct tap_key key_of(const struct address *from, const struct address *to)
{
    struct tap_key key;

    memcpy(key.from, from->octets, sizeof key.from);
    memcpy(key.to, to->octets, sizeof key.to);
    key.from_port = from->port;
    key.to_port = to->port;
    return key;
}

static struct tap_key key_of_host(const struct address *from)
{
    struct tap_key key;

    memset(&key, 0, sizeof key);
    memcpy(key.from, from->octets, sizeof key.from);
    key.from_port = from->port;
    return key;
}

static bool same_key(const struct tap_key *a, const struct tap_key *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* The two places of a key in a table of `count`. */
static void places_of(const struct tap *tap, const struct tap_key *key, size_t count, size_t places[2])
{
    const uint64_t hash = hash_octets(tap->seed, key, sizeof *key);

    places[0] = (size_t)(hash & (count - 1));
    places[1] = (size_t)((hash >> 32) & (count - 1));
}

/* Finds the entry of `key`, else (with `make`) takes the older of its two places. The tables differ in their type
 * only; each begins with the key and has the time next. */
struct entry_head {
    struct tap_key key;
    uint64_t seen_us;
};

_Static_assert(offsetof(struct seen_reset, seen_us) == offsetof(struct entry_head, seen_us) &&
                   offsetof(struct seen_handshake, seen_us) == offsetof(struct entry_head, seen_us) &&
                   offsetof(struct seen_icmp, seen_us) == offsetof(struct entry_head, seen_us),
               "the entries begin alike");

static void *find_entry(const struct tap *tap, void *table, size_t entry_octets, size_t count,
                        const struct tap_key *key, bool make)
{
    size_t places[2];
    struct entry_head *found[2];

    places_of(tap, key, count, places);
    for (size_t way = 0; way < 2; way++) {
        found[way] = (struct entry_head *)(void *)((uint8_t *)table + places[way] * entry_octets);
        if (found[way]->seen_us != 0 && same_key(&found[way]->key, key))
            return found[way];
    }
    if (!make)
        return NULL;
    {
        struct entry_head *older = found[0]->seen_us <= found[1]->seen_us ? found[0] : found[1];

        memset(older, 0, entry_octets);
        older->key = *key;
        return older;
    }
}

#define FIND(tap, table, count, key, make)                                                                   \
    find_entry((tap), (tap)->table, sizeof(tap)->table[0], (count), (key), (make))

/* ---- what arrives ---- */

static void note_handshake(struct tap *tap, const struct packet *packet, uint64_t now_us)
{
    const struct tap_key key = key_of_host(&packet->source);
    struct seen_handshake *seen = FIND(tap, handshakes, TAP_HANDSHAKES, &key, true);

    if (seen->seen_us != 0 && seen->ttl != packet->ttl)
        seen->changed_us = now_us;
    seen->ttl = packet->ttl;
    seen->seen_us = now_us;
}

static void note_reset(struct tap *tap, const struct packet *packet, uint64_t now_us)
{
    const struct tap_key key = key_of(&packet->source, &packet->destination);
    struct seen_reset *seen = FIND(tap, resets, TAP_RESETS, &key, true);

    seen->ttl = packet->ttl;
    seen->seen_us = now_us;
}

static void note_icmp(struct tap *tap, const struct packet *packet, uint64_t now_us)
{
    const struct tap_key key = key_of(&packet->source, &packet->destination);
    struct seen_icmp *seen = FIND(tap, icmps, TAP_ICMPS, &key, true);

    seen->icmp = (struct icmp_error){.seen = true,
                                     .ipv6 = !address_is_ipv4(&packet->icmp_sender),
                                     .type = packet->icmp_type,
                                     .code = packet->icmp_code,
                                     .offender_known = true,
                                     .offender = packet->icmp_sender};
    seen->icmp.offender.port = 0;
    seen->mtu = packet->icmp_mtu;
    seen->seen_us = now_us;
}

static struct watch *find_watch(struct tap *tap, const struct tap_key *key, enum side side)
{
    size_t places[2];

    places_of(tap, key, TAP_WATCHES, places);
    for (size_t way = 0; way < 2; way++) {
        /* A key's two places are both legs' at once: look a few entries on. */
        for (size_t step = 0; step < 4; step++) {
            struct watch *watch = &tap->watches[(places[way] + step) & (TAP_WATCHES - 1)];

            if (watch->since_us != 0 && watch->side == side && same_key(&watch->key, key))
                return watch;
        }
    }
    return NULL;
}

static void note_ack(struct tap *tap, const struct packet *packet, bool outgoing)
{
    struct tap_key key = key_of(&packet->source, &packet->destination);
    const struct tap_key turned = key_of(&packet->destination, &packet->source);
    struct watch *watch;

    if ((packet->flags & PACKET_ACK) == 0 || packet->payload_length != 0)
        return;
    if (outgoing) {
        /* Ours: towards the server on the server leg, towards the client on the client leg. */
        watch = find_watch(tap, &key, SIDE_SERVER);
        if (watch == NULL)
            watch = find_watch(tap, &turned, SIDE_CLIENT);
        if (watch == NULL)
            return;
        if (!watch->acknowledged || (int32_t)(packet->acknowledgement - watch->our_acknowledgement) > 0)
            watch->our_acknowledgement = packet->acknowledgement;
        watch->acknowledged = true;
        return;
    }
    watch = find_watch(tap, &key, SIDE_CLIENT);
    if (watch == NULL)
        watch = find_watch(tap, &turned, SIDE_SERVER);
    if (watch == NULL)
        return;
    if (!watch->answered || (int32_t)(packet->sequence - watch->its_sequence) > 0)
        watch->its_sequence = packet->sequence;
    watch->answered = true;
}

static void note_packet(struct tap *tap, const uint8_t *octets, size_t length, bool acks, bool outgoing,
                        uint64_t now_us)
{
    struct packet packet;

    tap->stats.packets++;
    if (packet_parse(&packet, octets, length, TAP_WIRE_MOST) != PACKET_OK)
        return;
    if (acks) {
        if (packet.kind == PACKET_TCP)
            note_ack(tap, &packet, outgoing);
    } else if (packet.kind == PACKET_ICMP_ERROR) {
        note_icmp(tap, &packet, now_us);
    } else if (packet.flags & PACKET_RST) {
        note_reset(tap, &packet, now_us);
    } else if ((packet.flags & (PACKET_SYN | PACKET_ACK)) == (PACKET_SYN | PACKET_ACK)) {
        note_handshake(tap, &packet, now_us);
    }
}

/* Reads what waits; false when the socket is empty. */
static bool drain_batch(struct tap *tap, int fd, bool acks, uint64_t now_us)
{
    uint8_t octets[TAP_BATCH][TAP_FILTER_SNAP];
    struct sockaddr_ll names[TAP_BATCH];
    struct iovec vectors[TAP_BATCH];
    struct mmsghdr messages[TAP_BATCH];
    int count;

    memset(messages, 0, sizeof messages);
    for (size_t index = 0; index < TAP_BATCH; index++) {
        vectors[index] = (struct iovec){.iov_base = octets[index], .iov_len = sizeof octets[index]};
        messages[index].msg_hdr.msg_iov = &vectors[index];
        messages[index].msg_hdr.msg_iovlen = 1;
        messages[index].msg_hdr.msg_name = &names[index];
        messages[index].msg_hdr.msg_namelen = sizeof names[index];
    }
    count = recvmmsg(fd, messages, TAP_BATCH, MSG_DONTWAIT, NULL);
    for (int index = 0; index < count; index++) {
        const bool outgoing = names[index].sll_pkttype == PACKET_OUTGOING;

        if (outgoing || names[index].sll_pkttype == PACKET_HOST ||
            names[index].sll_pkttype == PACKET_OTHERHOST)
            note_packet(tap, octets[index], messages[index].msg_len, acks, outgoing, now_us);
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

static const struct address *from_of(const struct tap_flow *flow)
{
    return flow->side == SIDE_CLIENT ? &flow->client : &flow->server;
}

static const struct address *to_of(const struct tap_flow *flow)
{
    return flow->side == SIDE_CLIENT ? &flow->server : &flow->client;
}

bool tap_find_reset(struct tap *tap, const struct tap_flow *flow, uint64_t now_us, struct tap_reset *reset)
{
    const struct tap_key key = key_of(from_of(flow), to_of(flow));
    const struct tap_key host = key_of_host(from_of(flow));
    const struct seen_reset *seen;
    const struct seen_handshake *usual;
    bool found;

    if (tap == NULL)
        return false;
    pthread_mutex_lock(&tap->lock);
    drain_locked(tap, now_us);
    seen = FIND(tap, resets, TAP_RESETS, &key, false);
    usual = FIND(tap, handshakes, TAP_HANDSHAKES, &host, false);
    found = seen != NULL && now_us - seen->seen_us < RESET_FRESH_US;
    if (found) {
        reset->ttl = seen->ttl;
        reset->usual_ttl =
            usual != NULL && (usual->changed_us == 0 || now_us - usual->changed_us > STEADY_AFTER_US)
                ? usual->ttl
                : 0;
    }
    pthread_mutex_unlock(&tap->lock);
    return found;
}

bool tap_find_icmp(struct tap *tap, const struct tap_flow *flow, uint64_t now_us, struct icmp_error *icmp,
                   uint32_t *mtu)
{
    const struct tap_key key = key_of(to_of(flow), from_of(flow)); /* it quotes what went to the side */
    const struct seen_icmp *seen;
    bool found;

    if (tap == NULL)
        return false;
    pthread_mutex_lock(&tap->lock);
    drain_locked(tap, now_us);
    seen = FIND(tap, icmps, TAP_ICMPS, &key, false);
    found = seen != NULL && now_us - seen->seen_us < ICMP_FRESH_US;
    if (found) {
        *icmp = seen->icmp;
        *mtu = seen->mtu;
    }
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
    size_t count = 0;
    const bool by_flow = tap->stats.watched <= TAP_FILTER_MAX_PORTS;

    if (tap->stats.watched == 0) {
        tap_filter_none(&filter);
        if (tap->ack_listening && attach(tap->ack_socket, &filter) &&
            bind_protocol(tap->ack_socket, PROTOCOL_SILENT))
            tap->ack_listening = false;
        return true;
    }
    if (!by_flow && !tap->ack_by_flow && tap->ack_listening)
        return true; /* all are let through already */
    if (by_flow) {
        for (size_t index = 0; index < TAP_WATCHES && count < TAP_FILTER_MAX_PORTS; index++) {
            if (tap->watches[index].since_us != 0)
                ports[count++] = tap->watches[index].key.from_port;
        }
        tap_filter_acks(&filter, ports, count);
    } else {
        tap_filter_acks(&filter, tap->ports, tap->port_count);
    }
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
    const struct tap_key key = key_of(&flow->client, &flow->server);
    struct watch *watch = NULL;
    size_t places[2];

    if (tap == NULL)
        return false;
    pthread_mutex_lock(&tap->lock);
    watch = find_watch(tap, &key, flow->side);
    if (watch == NULL) {
        places_of(tap, &key, TAP_WATCHES, places);
        for (size_t step = 0; step < 8 && watch == NULL; step++) {
            struct watch *candidate = &tap->watches[(places[step / 4] + step % 4) & (TAP_WATCHES - 1)];

            if (candidate->since_us == 0)
                watch = candidate;
        }
        if (watch != NULL)
            tap->stats.watched++;
    }
    if (watch != NULL) {
        memset(watch, 0, sizeof *watch);
        watch->key = key;
        watch->side = flow->side;
        watch->since_us = now_us;
        if (!aim_filter(tap)) {
            watch->since_us = 0;
            tap->stats.watched--;
            watch = NULL;
        }
    }
    pthread_mutex_unlock(&tap->lock);
    return watch != NULL;
}

bool tap_find_revealed(struct tap *tap, const struct tap_flow *flow, uint64_t now_us, uint32_t *octets)
{
    const struct tap_key key = key_of(&flow->client, &flow->server);
    const struct watch *watch;
    bool found;

    if (tap == NULL)
        return false;
    pthread_mutex_lock(&tap->lock);
    drain_locked(tap, now_us);
    watch = find_watch(tap, &key, flow->side);
    found = watch != NULL && watch->acknowledged && watch->answered;
    if (found) {
        const uint32_t beyond = watch->its_sequence - watch->our_acknowledgement;

        /* Half the sequence space is "before": a keepalive of its own, or an old packet. */
        *octets = (int32_t)beyond > 0 ? beyond : 0;
    }
    pthread_mutex_unlock(&tap->lock);
    return found;
}

void tap_unwatch(struct tap *tap, const struct tap_flow *flow, uint64_t now_us)
{
    const struct tap_key key = key_of(&flow->client, &flow->server);
    struct watch *watch;

    if (tap == NULL)
        return;
    pthread_mutex_lock(&tap->lock);
    watch = find_watch(tap, &key, flow->side);
    if (watch != NULL) {
        watch->since_us = 0;
        tap->stats.watched--;
        drain_locked(tap, now_us);
        (void)aim_filter(tap); /* at worst more is seen than needed */
    }
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
    memcpy(tap->seed, seed, sizeof tap->seed);
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
    free(tap);
}
