#include "nfq/departure.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/netfilter.h> /* behind netinet/in.h */

#include "nfq/segment.h"

#define FIRST_PORT 4096u /* a multiple of any number of queues */

static struct address loopback(size_t family, uint16_t port)
{
    struct address address = {.port = port};

    if (family == 0) {
        memset(address.octets + 10, 0xff, 2);
        memcpy(address.octets + 12, (const uint8_t[]){127, 0, 0, 1}, 4);
    } else {
        address.octets[15] = 1;
    }
    return address;
}

static size_t family_of(const struct packet *packet)
{
    return address_is_ipv4(&packet->source) ? 0 : 1;
}

void departure_open(struct departure *departure, uint32_t bit, uint16_t part, uint16_t server_port)
{
    static const int families[DEPARTURE_FAMILIES] = {AF_INET, AF_INET6};

    memset(departure, 0, sizeof *departure);
    departure->bit = bit;
    departure->port = (uint16_t)(FIRST_PORT + part);
    departure->server_port = server_port;
    for (size_t i = 0; i < DEPARTURE_FAMILIES; i++) {
        int fd = socket(families[i], SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);
        int on = 1;

        departure->sockets[i] = fd;
        if (fd != -1 &&
            (setsockopt(fd, SOL_SOCKET, SO_MARK, &bit, sizeof bit) == -1 ||
             (i == 1 && setsockopt(fd, IPPROTO_IPV6, 36 /* IPV6_HDRINCL */, &on, sizeof on) == -1))) {
            close(fd);
            departure->sockets[i] = -1;
        }
    }
}

void departure_close(struct departure *departure)
{
    for (size_t i = 0; i < DEPARTURE_FAMILIES; i++) {
        if (departure->bit != 0 && departure->sockets[i] != -1)
            close(departure->sockets[i]);
        departure->sockets[i] = -1;
    }
}

static void note(struct flow *flow, enum side side, uint32_t departure)
{
    flow_set_departure(flow, side, flow_departure(flow, side) | departure);
}

bool departure_take(struct departure *departure, struct tracker *tracker, struct queue_packet *queued,
                    enum queue_verdict *verdict, uint64_t now_us)
{
    const struct tracker_latest *latest;
    struct address own;

    if (queued->hook != NF_INET_POST_ROUTING)
        return false;
    queued->mark &= ~departure->bit;
    *verdict = QUEUE_ACCEPT;
    latest = tracker_look(tracker, queued->octets, queued->captured, queued->wire_length);
    if (latest->packet.kind != PACKET_TCP)
        return true;
    own = loopback(family_of(&latest->packet), departure->port);
    if (address_equal(&latest->packet.source, &own)) {
        departure->proven_us[family_of(&latest->packet)] = now_us;
        *verdict = QUEUE_OWN;
    } else if (latest->entry != NULL) {
        note(&latest->entry->flow, latest->side, FLOW_LEFT);
    }
    return true;
}

static bool is_repetition(const struct flow_side *own, const struct packet *packet)
{
    if (packet->flags & PACKET_SYN)
        return own->syn_count > 1;
    return own->repeats > 0 && (packet->payload_length > 0 || (packet->flags & PACKET_FIN) != 0);
}

static void note_rejection(const struct tracker_latest *latest)
{
    const struct packet *packet = &latest->packet;
    const struct tracker_session *tracked = latest->entry->user;
    const enum action action = tracked != NULL ? tracked->session.action : ACTION_NONE;
    bool ours = action == ACTION_REFUSED || action == ACTION_HELD || action == ACTION_CLOSED;
    bool icmp = packet->kind == PACKET_ICMP_ERROR &&
                (packet->icmp == PACKET_ICMP_PROHIBITED || packet->icmp == PACKET_ICMP_REJECTED);
    bool reset = packet->kind == PACKET_TCP && (packet->flags & PACKET_RST) != 0;

    if (!ours && (icmp || reset))
        note(&latest->entry->flow, latest->side, FLOW_REFUSED_HERE);
}

void departure_follow(struct departure *departure, const struct tracker_latest *latest,
                      struct queue_packet *queued, uint64_t now_us)
{
    size_t family = family_of(&latest->packet);
    const struct flow_side *own;

    departure->forwards = departure->forwards || queued->hook == NF_INET_FORWARD;
    departure->is_host = departure->is_host || queued->hook == NF_INET_LOCAL_IN;
    if (latest->entry == NULL || departure->is_host || !departure->forwards)
        return;
    if (queued->hook == NF_INET_LOCAL_OUT)
        note_rejection(latest);
    own = &latest->entry->flow.sides[side_index(latest->side)];
    if (queued->hook != NF_INET_FORWARD || latest->packet.kind != PACKET_TCP ||
        departure->sockets[family] == -1 || !is_repetition(own, &latest->packet))
        return;
    note(&latest->entry->flow, latest->side,
         (flow_departure(&latest->entry->flow, latest->side) & FLOW_FOLLOWED) ? FLOW_FOLLOWED_AGAIN
                                                                              : FLOW_FOLLOWED);
    queued->mark |= departure->bit;
    departure->followed_us[family] = now_us;
    departure->due[family] = true;
}

void departure_prove(struct departure *departure)
{
    for (size_t i = 0; i < DEPARTURE_FAMILIES; i++) {
        uint8_t octets[SEGMENT_HEADER_OCTETS];
        struct sockaddr_storage to = {0};
        struct segment segment = {.source = loopback(i, departure->port),
                                  .destination = loopback(i, departure->server_port),
                                  .ttl = 1};
        struct address destination =
            loopback(i, 0); /* a raw IPv6 socket takes a port for the protocol (ipv6(7)) */
        socklen_t to_length;
        size_t length;

        if (!departure->due[i])
            continue;
        departure->due[i] = false;
        length = segment_build(&segment, octets, sizeof octets);
        to_length = address_to_sockaddr(&destination, &to);
        (void)sendto(departure->sockets[i], octets, length, MSG_DONTWAIT | MSG_NOSIGNAL,
                     (const struct sockaddr *)&to,
                     to_length); /* without it there is no proof, and no verdict */
    }
}

/* What that side sent was repeated and did not leave. */
static bool was_dropped(const struct departure *departure, uint32_t own, size_t family)
{
    return (own & (FLOW_FOLLOWED_AGAIN | FLOW_LEFT)) == FLOW_FOLLOWED_AGAIN &&
           departure->proven_us[family] != 0 &&
           departure->proven_us[family] + DEPARTURE_FRESH_US >= departure->followed_us[family];
}

bool departure_judge(struct departure *departure, const struct tracker_session *tracked,
                     struct verdict *verdict)
{
    const uint32_t client = flow_departure(&tracked->entry->flow, SIDE_CLIENT);
    const uint32_t server = flow_departure(&tracked->entry->flow, SIDE_SERVER);
    size_t family = address_is_ipv4(&tracked->session.connection->client) ? 0 : 1;
    bool refused = ((client | server) & FLOW_REFUSED_HERE) != 0;
    bool towards_server = was_dropped(departure, client, family);
    bool towards_client = was_dropped(departure, server, family);

    if (verdict->fault == FAULT_NONE ||
        (verdict->fault == FAULT_POLICY && verdict->cause != CAUSE_SOURCE_FILTERED) ||
        !(refused || towards_server || towards_client))
        return false;
    departure->dropped_count++;
    verdict->fault = FAULT_WITNESS;
    verdict->cause = CAUSE_OWN_DROP;
    verdict->also = 0;
    verdict->confidence = CONFIDENCE_CERTAIN;
    verdict->where = WHERE_HERE;
    if (refused)
        snprintf(verdict->explain, sizeof verdict->explain,
                 "a rule on this router itself rejected the connection's packets (REJECT)");
    else
        snprintf(verdict->explain, sizeof verdict->explain,
                 "what was sent to the %s came to this router, was repeated, and never left it: a rule or "
                 "route here",
                 towards_server ? "server" : "client");
    return true;
}
