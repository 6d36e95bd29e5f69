#include "nfq/packet_queue.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/clock.h"

#define MESSAGE_OCTETS    (65536 + 4096) /* the largest packet and the attributes around it */
#define ANSWER_TIMEOUT_MS 2000
#define END_READS         1024 /* more than the longest queue; who sends faster than we read loses what comes then */

struct packet_queue {
    struct mnl_socket *socket;
    int fd;
    uint16_t number;
    bool accept_due; /* packets up to accept_id wait for their verdict ... */
    bool accept_marks;
    uint32_t accept_id, accept_mark; /* ... all with this mark, if accept_marks */
    uint32_t withheld_count;
    uint32_t latest_id; /* 0 = none yet; the kernel counts from 1 */
    uint64_t read_us;
    int64_t read_unix_ms;
    struct packet_queue_stats stats;
    struct mmsghdr messages[PACKET_QUEUE_BATCH];
    struct iovec spans[PACKET_QUEUE_BATCH];
    _Alignas(16) uint8_t buffers[PACKET_QUEUE_BATCH][MESSAGE_OCTETS];
};

static bool send_message(struct packet_queue *queue, const char *text, size_t length)
{
    ssize_t sent;

    do {
        sent = mnl_socket_sendto(queue->socket, text, length);
    } while (sent == -1 && errno == EINTR);
    return sent != -1;
}

void packet_queue_flush(struct packet_queue *queue)
{
    _Alignas(8) char text[QUEUE_MESSAGE_OCTETS];

    if (!queue->accept_due)
        return;
    queue->accept_due = false;
    queue->stats.batches++;
    if (!send_message(queue, text,
                      queue_message_accept_up_to(text, queue->number, queue->accept_id,
                                                 queue->accept_marks ? &queue->accept_mark : NULL)))
        queue->stats.refused_verdicts++;
}

/* A NULL `mark` leaves the packet's as it is. */
static void answer_one(struct packet_queue *queue, uint32_t id, enum queue_verdict verdict,
                       const uint32_t *mark)
{
    _Alignas(8) char text[QUEUE_MESSAGE_OCTETS];

    queue->stats.accepted += verdict == QUEUE_ACCEPT ? 1 : 0;
    queue->stats.dropped += verdict == QUEUE_DROP ? 1 : 0;
    if (!send_message(queue, text, queue_message_verdict(text, queue->number, id, verdict, mark)))
        queue->stats.refused_verdicts++;
}

static void answer(struct packet_queue *queue, uint32_t id, enum queue_verdict verdict, const uint32_t *mark)
{
    if (verdict == QUEUE_ACCEPT && queue->withheld_count == 0) {
        if (queue->accept_marks != (mark != NULL) || (mark != NULL && *mark != queue->accept_mark))
            packet_queue_flush(queue);
        queue->stats.accepted++;
        queue->accept_marks = mark != NULL;
        queue->accept_mark = mark != NULL ? *mark : 0;
        queue->accept_due = true;
        queue->accept_id = id;
        return;
    }
    packet_queue_flush(queue); /* before it: a batch would take this one along */
    if (verdict == QUEUE_WITHHOLD)
        queue->withheld_count++;
    else
        answer_one(queue, id, verdict, mark);
}

void packet_queue_release(struct packet_queue *queue, uint32_t id, enum queue_verdict verdict)
{
    queue->withheld_count--;
    answer_one(queue, id, verdict, NULL);
}

static void take_datagram(struct packet_queue *queue, const uint8_t *octets, size_t length, bool is_last,
                          enum queue_verdict (*judge)(void *context, struct queue_packet *packet),
                          void *context)
{
    struct queue_packet packet;
    enum queue_verdict verdict;
    uint32_t mark;
    int error = 0;

    for (;;) {
        switch (queue_message_next(&octets, &length, &packet, &error)) {
        case QUEUE_MESSAGE_PACKET:
            queue->stats.packets++;
            queue->stats.octets += packet.wire_length;
            queue->stats.missed += queue->latest_id != 0 ? packet.id - queue->latest_id - 1u : 0u;
            queue->latest_id = packet.id;
            if (packet.octets == NULL) {
                queue->stats.empty++;
                answer(queue, packet.id, QUEUE_ACCEPT, NULL);
            } else {
                mark = packet.mark;
                packet.is_last = is_last;
                packet.read_us = queue->read_us;
                packet.read_unix_ms = queue->read_unix_ms;
                verdict = judge(context, &packet);
                answer(queue, packet.id, verdict, packet.mark != mark ? &packet.mark : NULL);
            }
            break;
        case QUEUE_MESSAGE_ERROR: /* to a verdict: the packet is gone already, or the queue is */
            queue->stats.refused_verdicts++;
            break;
        case QUEUE_MESSAGE_OTHER:
            break;
        case QUEUE_MESSAGE_DAMAGED:
            queue->stats.damaged++;
            break;
        case QUEUE_MESSAGE_END:
            return;
        }
    }
}

/* What comes before we are ready is not looked at. */
static enum queue_verdict accept_unseen(void *context, struct queue_packet *packet)
{
    (void)context;
    (void)packet;
    return QUEUE_ACCEPT;
}

/* Sends a request and waits for its acknowledgement: 0 or an errno. Packets that come meanwhile get their verdict. */
static int request(struct packet_queue *queue, const char *text, size_t length)
{
    struct pollfd ready = {.fd = queue->fd, .events = POLLIN};

    if (!send_message(queue, text, length))
        return errno;
    while (poll(&ready, 1, ANSWER_TIMEOUT_MS) == 1) {
        ssize_t got = recv(queue->fd, queue->buffers[0], MESSAGE_OCTETS, MSG_DONTWAIT);
        const struct nlmsghdr *header = (const struct nlmsghdr *)(const void *)queue->buffers[0];

        if (got == -1 && (errno == EINTR || errno == EAGAIN || errno == ENOBUFS))
            continue;
        if (got == -1)
            return errno;
        if ((size_t)got >= sizeof *header + sizeof(struct nlmsgerr) && header->nlmsg_type == NLMSG_ERROR) {
            struct nlmsgerr reply;

            memcpy(&reply, queue->buffers[0] + sizeof *header, sizeof reply);
            return reply.error < 0 ? -reply.error : 0;
        }
        take_datagram(queue, queue->buffers[0], (size_t)got, false, accept_unseen, NULL);
        packet_queue_flush(queue);
    }
    return ETIMEDOUT;
}

static uint32_t enlarge_buffer(int fd, uint32_t octets)
{
    int size = octets > INT32_MAX / 2 ? INT32_MAX / 2 : (int)octets;
    socklen_t length = sizeof size;

    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) == -1)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size); /* what is granted is read below */
    if (getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, &length) == -1)
        return 0;
    return (uint32_t)size / 2; /* the kernel doubles it for its bookkeeping (socket(7)) */
}

static void explain_bind(int number, struct settings_error *error)
{
    /* The privilege was looked at before (privileges_check_queues): the kernel says EPERM of a queue that is held. */
    const bool held = errno == EBUSY || errno == EPERM;

    snprintf(error->text, sizeof error->text, "nfq: cannot take queue %d: %s; %s", number,
             held ? "another process holds it (/proc/net/netfilter/nfnetlink_queue)" : strerror(errno),
             held ? "stop that one, or write another first-queue in [nfq] and load the rules again"
                  : "load the module nfnetlink_queue, or install a kernel with it");
}

/* The queue itself and the copy of packets are needed; both in one message, for a queue that is bound and copies
 * nothing drops every packet (nfqnl_enqueue_packet). Everything else is asked for by itself, so that a kernel that
 * refuses one of them gives us the others. */
static bool configure(struct packet_queue *queue, const struct packet_queue_options *options,
                      struct packet_queue_granted *granted, struct settings_error *error)
{
    _Alignas(8) char text[QUEUE_MESSAGE_OCTETS];

    errno = request(queue, text, queue_message_bind(text, queue->number, PACKET_QUEUE_COPY_RANGE));
    if (errno != 0) {
        explain_bind(queue->number, error);
        return false;
    }
    granted->length =
        request(queue, text, queue_message_length(text, queue->number, options->length_packets)) == 0;
    granted->gso = request(queue, text, queue_message_flag(text, queue->number, NFQA_CFG_F_GSO)) == 0;
    granted->fail_open =
        options->fail_open &&
        request(queue, text, queue_message_flag(text, queue->number, NFQA_CFG_F_FAIL_OPEN)) == 0;
    return true;
}

struct packet_queue *packet_queue_open(const struct packet_queue_options *options,
                                       struct packet_queue_granted *granted, struct settings_error *error)
{
    struct packet_queue *queue = calloc(1, sizeof *queue);

    if (queue == NULL) {
        snprintf(error->text, sizeof error->text, "nfq: no memory for queue %u", (unsigned)options->number);
        return NULL;
    }
    memset(granted, 0, sizeof *granted);
    queue->number = options->number;
    queue->socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
    if (queue->socket == NULL || mnl_socket_bind(queue->socket, 0, MNL_SOCKET_AUTOPID) == -1) {
        snprintf(error->text, sizeof error->text, "nfq: cannot open a netlink socket: %s", strerror(errno));
        packet_queue_close(queue);
        return NULL;
    }
    queue->fd = mnl_socket_get_fd(queue->socket);
    granted->receive_octets = enlarge_buffer(queue->fd, options->receive_octets);
    for (size_t i = 0; i < PACKET_QUEUE_BATCH; i++) {
        queue->spans[i] = (struct iovec){.iov_base = queue->buffers[i], .iov_len = MESSAGE_OCTETS};
        queue->messages[i].msg_hdr.msg_iov = &queue->spans[i];
        queue->messages[i].msg_hdr.msg_iovlen = 1;
    }
    if (!configure(queue, options, granted, error)) {
        packet_queue_close(queue);
        return NULL;
    }
    return queue;
}

void packet_queue_close(struct packet_queue *queue)
{
    if (queue == NULL)
        return;
    if (queue->socket != NULL)
        mnl_socket_close(queue->socket);
    free(queue);
}

void packet_queue_end(struct packet_queue *queue)
{
    for (int reads = 0; reads < END_READS && packet_queue_read(queue, accept_unseen, NULL); reads++) {
    }
    mnl_socket_close(queue->socket);
    queue->socket = NULL;
    queue->fd = -1;
}

int packet_queue_descriptor(const struct packet_queue *queue)
{
    return queue->fd;
}

bool packet_queue_read(struct packet_queue *queue,
                       enum queue_verdict (*judge)(void *context, struct queue_packet *packet), void *context)
{
    int count = recvmmsg(queue->fd, queue->messages, PACKET_QUEUE_BATCH, MSG_DONTWAIT, NULL);

    if (count == -1) {
        if (errno == ENOBUFS) {
            queue->stats.overruns++;
            return true; /* there is more to read */
        }
        packet_queue_flush(queue);
        return false;
    }
    queue->read_us = clock_monotonic_us();
    queue->read_unix_ms = clock_unix_ms();
    for (int i = 0; i < count; i++)
        take_datagram(queue, queue->buffers[i], queue->messages[i].msg_len, i == count - 1, judge, context);
    /* A short read means that the socket is drained, or nearly so: nobody waits for a full batch. */
    packet_queue_flush(queue);
    return count == PACKET_QUEUE_BATCH;
}

void packet_queue_stats(const struct packet_queue *queue, struct packet_queue_stats *stats)
{
    *stats = queue->stats;
}
