#include "nfq/bridge.h"

#include <arpa/inet.h>
#include <net/ethernet.h>
#include <netpacket/packet.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME_OCTETS (ETHER_HDR_LEN + 1280)

struct bridge_host {
    uint8_t octets[16];
    uint32_t port; /* 0 = nobody */
    uint8_t link[BRIDGE_LINK_OCTETS];
};

struct bridge {
    int fd;
    pthread_mutex_t lock;
    struct bridge_host hosts[BRIDGE_HOSTS];
};

struct bridge *bridge_create(void)
{
    struct bridge *bridge = calloc(1, sizeof *bridge);

    if (bridge == NULL)
        return NULL;
    bridge->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bridge->fd == -1) {
        free(bridge);
        return NULL;
    }
    pthread_mutex_init(&bridge->lock, NULL);
    return bridge;
}

void bridge_destroy(struct bridge *bridge)
{
    if (bridge == NULL)
        return;
    close(bridge->fd);
    pthread_mutex_destroy(&bridge->lock);
    free(bridge);
}

static struct bridge_host *host_slot(struct bridge *bridge, const struct address *host)
{
    uint32_t hash = 0;

    for (size_t i = 0; i < sizeof host->octets; i++) /* whoever makes two hosts collide loses a probe */
        hash = hash * 31 + host->octets[i];
    return &bridge->hosts[hash % BRIDGE_HOSTS];
}

void bridge_learn(struct bridge *bridge, const struct address *host, uint32_t port,
                  const uint8_t link[BRIDGE_LINK_OCTETS])
{
    struct bridge_host *slot = host_slot(bridge, host);

    pthread_mutex_lock(&bridge->lock);
    memcpy(slot->octets, host->octets, sizeof slot->octets);
    memcpy(slot->link, link, sizeof slot->link);
    slot->port = port;
    pthread_mutex_unlock(&bridge->lock);
}

static bool look_up(struct bridge *bridge, const struct address *host, struct bridge_host *found)
{
    pthread_mutex_lock(&bridge->lock);
    *found = *host_slot(bridge, host);
    pthread_mutex_unlock(&bridge->lock);
    return found->port != 0 && memcmp(found->octets, host->octets, sizeof found->octets) == 0;
}

bool bridge_send(struct bridge *bridge, const struct address *source, const struct address *destination,
                 const uint8_t *octets, size_t length)
{
    const uint16_t type = htons(address_is_ipv4(source) ? ETHERTYPE_IP : ETHERTYPE_IPV6);
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = type, .sll_halen = BRIDGE_LINK_OCTETS};
    struct bridge_host from, towards;
    uint8_t frame[FRAME_OCTETS];

    if (length > sizeof frame - ETHER_HDR_LEN || !look_up(bridge, source, &from) ||
        !look_up(bridge, destination, &towards) || from.port == towards.port)
        return false;
    memcpy(frame, towards.link, BRIDGE_LINK_OCTETS);
    memcpy(frame + BRIDGE_LINK_OCTETS, from.link, BRIDGE_LINK_OCTETS);
    memcpy(frame + ETHER_HDR_LEN - sizeof type, &type, sizeof type);
    memcpy(frame + ETHER_HDR_LEN, octets, length);
    memcpy(to.sll_addr, towards.link, BRIDGE_LINK_OCTETS);
    to.sll_ifindex = (int)towards.port;
    return sendto(bridge->fd, frame, ETHER_HDR_LEN + length, MSG_DONTWAIT | MSG_NOSIGNAL,
                  (const struct sockaddr *)&to, sizeof to) == (ssize_t)(ETHER_HDR_LEN + length);
}
