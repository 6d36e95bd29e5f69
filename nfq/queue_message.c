#include "nfq/queue_message.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <libnetfilter_queue/libnetfilter_queue.h>

#define ALIGNED(length)  (((length) + 3u) & ~(size_t)3) /* NLMSG_ALIGN and NLA_ALIGN, unsigned */
#define ATTRIBUTE_HEADER sizeof(struct nlattr)

/* What is needed of a packet's attributes; one that is too short for its type is as good as absent. */
static void read_attributes(const uint8_t *octets, size_t length, struct queue_packet *packet, bool *named)
{
    size_t offset = ALIGNED(sizeof(struct nlmsghdr)) + ALIGNED(sizeof(struct nfgenmsg));
    uint32_t whole = 0;

    while (offset <= length && length - offset >= sizeof(struct nlattr)) {
        struct nlattr attribute;
        const uint8_t *value = octets + offset + ATTRIBUTE_HEADER;
        size_t size;

        memcpy(&attribute, octets + offset, sizeof attribute);
        if (attribute.nla_len < ATTRIBUTE_HEADER || attribute.nla_len > length - offset)
            break;
        size = attribute.nla_len - ATTRIBUTE_HEADER;
        switch (attribute.nla_type & NLA_TYPE_MASK) {
        case NFQA_PACKET_HDR:
            if (size >= sizeof(struct nfqnl_msg_packet_hdr)) {
                struct nfqnl_msg_packet_hdr about;

                memcpy(&about, value, sizeof about);
                packet->id = ntohl(about.packet_id);
                packet->hook = about.hook;
                *named = true;
            }
            break;
        case NFQA_PAYLOAD:
            packet->octets = size > 0 ? value : NULL;
            packet->captured = size;
            break;
        case NFQA_IFINDEX_PHYSINDEV: /* br_netfilter */
            if (size >= sizeof packet->port) {
                memcpy(&packet->port, value, sizeof packet->port);
                packet->port = ntohl(packet->port);
            }
            break;
        case NFQA_HWADDR:
            if (size >= sizeof(struct nfqnl_msg_packet_hw)) {
                struct nfqnl_msg_packet_hw about;

                memcpy(&about, value, sizeof about);
                packet->link = ntohs(about.hw_addrlen) == 6
                                   ? value + offsetof(struct nfqnl_msg_packet_hw, hw_addr)
                                   : NULL;
            }
            break;
        case NFQA_MARK:
            if (size >= sizeof packet->mark) {
                memcpy(&packet->mark, value, sizeof packet->mark);
                packet->mark = ntohl(packet->mark);
            }
            break;
        case NFQA_CAP_LEN: /* only when the copy was cut */
            if (size >= sizeof whole) {
                memcpy(&whole, value, sizeof whole);
                whole = ntohl(whole);
            }
            break;
        }
        offset += ALIGNED((size_t)attribute.nla_len);
    }
    packet->wire_length = whole > packet->captured ? whole : packet->captured;
}

enum queue_message_result queue_message_next(const uint8_t **octets, size_t *length,
                                             struct queue_packet *packet, int *error)
{
    struct nlmsghdr header;
    enum queue_message_result result = QUEUE_MESSAGE_OTHER;
    size_t own, step;

    if (*length == 0)
        return QUEUE_MESSAGE_END;
    if (*length >= sizeof header)
        memcpy(&header, *octets, sizeof header);
    if (*length < sizeof header || header.nlmsg_len < sizeof header) {
        *length = 0;
        return QUEUE_MESSAGE_DAMAGED;
    }
    own = header.nlmsg_len < *length ? header.nlmsg_len : *length; /* what is there of it */
    if (header.nlmsg_type == NLMSG_ERROR) {
        struct nlmsgerr about;

        if (own >= sizeof header + sizeof about) {
            memcpy(&about, *octets + sizeof header, sizeof about);
            if (about.error == INT_MIN) { /* no errno, and it has no positive twin */
                result = QUEUE_MESSAGE_DAMAGED;
            } else {
                *error = about.error < 0 ? -about.error : about.error;
                result = about.error == 0 ? QUEUE_MESSAGE_OTHER : QUEUE_MESSAGE_ERROR;
            }
        } else {
            result = QUEUE_MESSAGE_DAMAGED;
        }
    } else if (header.nlmsg_type == ((NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_PACKET)) {
        bool named = false;

        memset(packet, 0, sizeof *packet);
        read_attributes(*octets, own, packet, &named);
        result = named ? QUEUE_MESSAGE_PACKET : QUEUE_MESSAGE_DAMAGED;
    }
    step = ALIGNED(own);
    step = step < *length ? step : *length;
    *octets += step;
    *length -= step;
    return result;
}

static struct nlmsghdr *begin(char text[QUEUE_MESSAGE_OCTETS], int type, uint16_t queue)
{
    memset(text, 0, QUEUE_MESSAGE_OCTETS);
    return nfq_nlmsg_put(text, type, queue);
}

size_t queue_message_verdict(char text[QUEUE_MESSAGE_OCTETS], uint16_t queue, uint32_t id,
                             enum queue_verdict verdict, const uint32_t *mark)
{
    struct nlmsghdr *header = begin(text, NFQNL_MSG_VERDICT, queue);

    nfq_nlmsg_verdict_put(header, (int)id, verdict == QUEUE_ACCEPT ? NF_ACCEPT : NF_DROP);
    if (mark != NULL)
        nfq_nlmsg_verdict_put_mark(header, *mark);
    return header->nlmsg_len;
}

size_t queue_message_accept_up_to(char text[QUEUE_MESSAGE_OCTETS], uint16_t queue, uint32_t id,
                                  const uint32_t *mark)
{
    struct nlmsghdr *header = begin(text, NFQNL_MSG_VERDICT_BATCH, queue);

    nfq_nlmsg_verdict_put(header, (int)id, NF_ACCEPT);
    if (mark != NULL)
        nfq_nlmsg_verdict_put_mark(header, *mark);
    return header->nlmsg_len;
}

/* Every request is acknowledged, so that a refusal is seen. */
static struct nlmsghdr *begin_request(char text[QUEUE_MESSAGE_OCTETS], uint16_t queue)
{
    struct nlmsghdr *header = begin(text, NFQNL_MSG_CONFIG, queue);

    header->nlmsg_flags |= NLM_F_ACK;
    return header;
}

size_t queue_message_bind(char text[QUEUE_MESSAGE_OCTETS], uint16_t queue, uint32_t range)
{
    struct nlmsghdr *header = begin_request(text, queue);

    nfq_nlmsg_cfg_put_cmd(header, 0 /* AF_UNSPEC */, NFQNL_CFG_CMD_BIND);
    nfq_nlmsg_cfg_put_params(header, NFQNL_COPY_PACKET, (int)range);
    return header->nlmsg_len;
}

size_t queue_message_length(char text[QUEUE_MESSAGE_OCTETS], uint16_t queue, uint32_t packets)
{
    struct nlmsghdr *header = begin_request(text, queue);

    nfq_nlmsg_cfg_put_qmaxlen(header, packets);
    return header->nlmsg_len;
}

size_t queue_message_flag(char text[QUEUE_MESSAGE_OCTETS], uint16_t queue, uint32_t flag)
{
    struct nlmsghdr *header = begin_request(text, queue);

    mnl_attr_put_u32(header, NFQA_CFG_FLAGS, htonl(flag));
    mnl_attr_put_u32(header, NFQA_CFG_MASK, htonl(flag));
    return header->nlmsg_len;
}
