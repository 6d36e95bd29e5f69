/* nfqueue_floor NUMBER: takes one packet queue and accepts everything: what it costs at the least to be asked about
 * each packet. Large packets whole (GSO), many packets a read, one verdict for all of them, as soon as nothing is left
 * to read. It looks at nothing but the packets' ids. Ends with a signal. */
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH          64
#define MESSAGE_OCTETS (65536 + 4096)
#define COPY_RANGE     65531
#define RECEIVE_OCTETS (16 << 20)
#define QUEUE_LENGTH   8192
#define REQUEST_OCTETS 256

static uint8_t buffers[BATCH][MESSAGE_OCTETS];
static struct mmsghdr messages[BATCH];
static struct iovec spans[BATCH];

static void fail(const char *what)
{
    fprintf(stderr, "nfqueue_floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void send_request(struct mnl_socket *socket, const struct nlmsghdr *request)
{
    if (mnl_socket_sendto(socket, request, request->nlmsg_len) == -1) {
        fail("send");
    }
}

static void take_queue(struct mnl_socket *socket, uint16_t queue)
{
    _Alignas(8) char text[REQUEST_OCTETS];
    struct nlmsghdr *request = nfq_nlmsg_put(text, NFQNL_MSG_CONFIG, queue);

    nfq_nlmsg_cfg_put_cmd(request, 0, NFQNL_CFG_CMD_BIND);
    nfq_nlmsg_cfg_put_params(request, NFQNL_COPY_PACKET, COPY_RANGE);
    send_request(socket, request);
    request = nfq_nlmsg_put(text, NFQNL_MSG_CONFIG, queue);
    nfq_nlmsg_cfg_put_qmaxlen(request, QUEUE_LENGTH);
    send_request(socket, request);
    request = nfq_nlmsg_put(text, NFQNL_MSG_CONFIG, queue);
    mnl_attr_put_u32(request, NFQA_CFG_FLAGS, htonl(NFQA_CFG_F_GSO | NFQA_CFG_F_FAIL_OPEN));
    mnl_attr_put_u32(request, NFQA_CFG_MASK, htonl(NFQA_CFG_F_GSO | NFQA_CFG_F_FAIL_OPEN));
    send_request(socket, request);
}

/* The id of the packet in a message; the attribute is the first one. False: no packet. */
static bool packet_id(const struct nlmsghdr *message, uint32_t *id)
{
    const struct nlattr *first = mnl_nlmsg_get_payload_offset(message, sizeof(struct nfgenmsg));
    const struct nfqnl_msg_packet_hdr *header = mnl_attr_get_payload(first);

    if (message->nlmsg_type != ((NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_PACKET) ||
        mnl_attr_get_type(first) != NFQA_PACKET_HDR) {
        return false;
    }
    *id = ntohl(header->packet_id);
    return true;
}

static void accept_up_to(struct mnl_socket *socket, uint16_t queue, uint32_t id)
{
    _Alignas(8) char text[REQUEST_OCTETS];
    struct nlmsghdr *request = nfq_nlmsg_put(text, NFQNL_MSG_VERDICT_BATCH, queue);

    nfq_nlmsg_verdict_put(request, (int)id, NF_ACCEPT);
    send_request(socket, request);
}

int main(int count, char **arguments)
{
    uint16_t queue = (uint16_t)(count == 2 ? strtoul(arguments[1], NULL, 10) : 0);
    int octets = RECEIVE_OCTETS;
    struct mnl_socket *socket = mnl_socket_open(NETLINK_NETFILTER);

    if (count != 2 || socket == NULL || mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) == -1) {
        fail("netlink");
    }
    (void)setsockopt(mnl_socket_get_fd(socket), SOL_SOCKET, SO_RCVBUFFORCE, &octets, sizeof octets);
    for (size_t i = 0; i < BATCH; i++) {
        spans[i] = (struct iovec){.iov_base = buffers[i], .iov_len = MESSAGE_OCTETS};
        messages[i].msg_hdr.msg_iov = &spans[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    take_queue(socket, queue);
    for (;;) {
        int got = recvmmsg(mnl_socket_get_fd(socket), messages, BATCH, MSG_WAITFORONE, NULL);
        uint32_t id = 0;
        bool due = false;

        if (got == -1 && errno != ENOBUFS && errno != EINTR) {
            fail("recvmmsg");
        }
        for (int i = 0; i < got; i++) {
            due = packet_id((const struct nlmsghdr *)(const void *)buffers[i], &id) || due;
        }
        if (due) {
            accept_up_to(socket, queue, id);
        }
    }
}
