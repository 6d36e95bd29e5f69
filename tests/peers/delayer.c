/* delayer QUEUE DELAY JITTER [reorder]: holds every packet of a packet queue for DELAY ms and up to JITTER ms more, drawn
 * anew for each, as a long or busy path does; these kernels have no netem. Packets of one direction (of one incoming
 * interface) keep their order unless `reorder` is said. It goes to the background as soon as it has the queue, so that
 * the rule that sends packets there may follow at once. It looks at nothing but ids, and ends with a signal. */
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define HELD_MAX       16384u /* packets; 0.2 s of 80,000 a second. One more goes on at once */
#define INTERFACES     64u    /* a power of two; interfaces of one namespace have small numbers */
#define NS_PER_MS      UINT64_C(1000000)
#define NS_PER_S       UINT64_C(1000000000)
#define RECEIVE_OCTETS (8 << 20)
#define REQUEST_OCTETS 256
#define MESSAGE_OCTETS 65536

struct held {
    uint64_t due_ns;
    uint32_t id;
};

struct delayer {
    struct mnl_socket *socket;
    uint16_t queue;
    uint64_t delay_ns, jitter_ns;
    bool reorder;
    uint64_t last_due_ns[INTERFACES];
    size_t held_count;
    struct held held[HELD_MAX]; /* the first to leave stands last */
};

static void fail(const char *what)
{
    fprintf(stderr, "delayer: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void send_request(struct delayer *delayer, const struct nlmsghdr *request)
{
    if (mnl_socket_sendto(delayer->socket, request, request->nlmsg_len) == -1) {
        fail("send");
    }
}

static void take_queue(struct delayer *delayer)
{
    _Alignas(8) char text[REQUEST_OCTETS];
    struct nlmsghdr *request = nfq_nlmsg_put(text, NFQNL_MSG_CONFIG, delayer->queue);

    nfq_nlmsg_cfg_put_cmd(request, 0, NFQNL_CFG_CMD_BIND);
    nfq_nlmsg_cfg_put_params(request, NFQNL_COPY_META, 0);
    nfq_nlmsg_cfg_put_qmaxlen(request, HELD_MAX);
    request->nlmsg_flags |= NLM_F_ACK;
    send_request(delayer, request);

    _Alignas(8) char answer[MESSAGE_OCTETS];
    ssize_t got = mnl_socket_recvfrom(delayer->socket, answer, sizeof answer);
    if (got == -1 || mnl_cb_run(answer, (size_t)got, 0, 0, NULL, NULL) == -1) {
        fail("take the queue");
    }
}

static void accept_packet(struct delayer *delayer, uint32_t id)
{
    _Alignas(8) char text[REQUEST_OCTETS];
    struct nlmsghdr *request = nfq_nlmsg_put(text, NFQNL_MSG_VERDICT, delayer->queue);

    nfq_nlmsg_verdict_put(request, (int)id, NF_ACCEPT);
    send_request(delayer, request);
}

static uint64_t draw_due_ns(struct delayer *delayer, uint32_t interface)
{
    uint64_t *last_ns = &delayer->last_due_ns[interface % INTERFACES];
    uint64_t more_ns =
        delayer->jitter_ns == 0 ? 0 : (uint64_t)random() * NS_PER_MS / 1000 % delayer->jitter_ns;
    uint64_t due_ns = now_ns() + delayer->delay_ns + more_ns;

    if (!delayer->reorder && due_ns < *last_ns) {
        due_ns = *last_ns;
    }
    *last_ns = due_ns;
    return due_ns;
}

static void hold(struct delayer *delayer, uint32_t id, uint64_t due_ns)
{
    if (delayer->held_count == HELD_MAX) {
        accept_packet(delayer, id);
        return;
    }
    /* Of those due at the same time the first to come must be the first to leave: it stays behind the new one. */
    size_t place = delayer->held_count++;
    size_t earlier = 0;
    while (place - earlier > 0 && delayer->held[place - earlier - 1].due_ns <= due_ns) {
        earlier++;
    }
    place -= earlier;
    memmove(&delayer->held[place + 1], &delayer->held[place], earlier * sizeof delayer->held[0]);
    delayer->held[place] = (struct held){.due_ns = due_ns, .id = id};
}

static int take_packet(const struct nlmsghdr *message, void *context)
{
    struct delayer *delayer = context;
    struct nlattr *attributes[NFQA_MAX + 1] = {NULL};

    if (nfq_nlmsg_parse(message, attributes) < 0 || attributes[NFQA_PACKET_HDR] == NULL) {
        return MNL_CB_OK;
    }
    const struct nfqnl_msg_packet_hdr *header = mnl_attr_get_payload(attributes[NFQA_PACKET_HDR]);
    const struct nlattr *from = attributes[NFQA_IFINDEX_INDEV];
    uint32_t interface = from == NULL ? 0 : ntohl(mnl_attr_get_u32(from));

    hold(delayer, ntohl(header->packet_id), draw_due_ns(delayer, interface));
    return MNL_CB_OK;
}

static void receive(struct delayer *delayer)
{
    _Alignas(8) char messages[MESSAGE_OCTETS];
    ssize_t got = mnl_socket_recvfrom(delayer->socket, messages, sizeof messages);

    if (got == -1 && errno != ENOBUFS && errno != EINTR) {
        fail("receive");
    }
    if (got > 0) {
        (void)mnl_cb_run(messages, (size_t)got, 0, 0, take_packet, delayer);
    }
}

static void run(struct delayer *delayer)
{
    struct pollfd readable = {.fd = mnl_socket_get_fd(delayer->socket), .events = POLLIN};

    for (;;) {
        uint64_t now = now_ns();
        while (delayer->held_count > 0 && delayer->held[delayer->held_count - 1].due_ns <= now) {
            delayer->held_count--;
            accept_packet(delayer, delayer->held[delayer->held_count].id);
        }
        struct timespec left = {0};
        if (delayer->held_count > 0) {
            uint64_t left_ns = delayer->held[delayer->held_count - 1].due_ns - now;
            left.tv_sec = (time_t)(left_ns / NS_PER_S);
            left.tv_nsec = (long)(left_ns % NS_PER_S);
        }
        int ready = ppoll(&readable, 1, delayer->held_count > 0 ? &left : NULL, NULL);
        if (ready == -1 && errno != EINTR) {
            fail("poll");
        }
        if (ready > 0) {
            receive(delayer);
        }
    }
}

int main(int count, char **arguments)
{
    static struct delayer delayer; /* too big for the stack */
    int octets = RECEIVE_OCTETS;

    if (count < 4 || count > 5 || (count == 5 && strcmp(arguments[4], "reorder") != 0)) {
        fprintf(stderr, "usage: delayer QUEUE DELAY-MS JITTER-MS [reorder]\n");
        return 2;
    }
    delayer.queue = (uint16_t)strtoul(arguments[1], NULL, 10);
    delayer.delay_ns = strtoul(arguments[2], NULL, 10) * NS_PER_MS;
    delayer.jitter_ns = strtoul(arguments[3], NULL, 10) * NS_PER_MS;
    delayer.reorder = count == 5;
    delayer.socket = mnl_socket_open(NETLINK_NETFILTER);
    if (delayer.socket == NULL || mnl_socket_bind(delayer.socket, 0, MNL_SOCKET_AUTOPID) == -1) {
        fail("netlink");
    }
    (void)setsockopt(mnl_socket_get_fd(delayer.socket), SOL_SOCKET, SO_RCVBUFFORCE, &octets, sizeof octets);
    take_queue(&delayer);
    if (daemon(0, 0) == -1) {
        fail("daemon");
    }
    run(&delayer);
}
