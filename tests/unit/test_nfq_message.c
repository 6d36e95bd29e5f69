#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <stdlib.h>
#include <limits.h>
#include <string.h>

#include "nfq/kernel_queues.h"
#include "nfq/queue_message.h"

#define ROOM 512

/* A packet message as the kernel writes it. */
static size_t packet_message(void *octets, uint32_t id, const void *payload, size_t length, uint32_t whole)
{
    struct nlmsghdr *header = mnl_nlmsg_put_header(octets);
    struct nfqnl_msg_packet_hdr about = {.packet_id = htonl(id), .hook = NF_INET_FORWARD};

    header->nlmsg_type = (NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_PACKET;
    mnl_nlmsg_put_extra_header(header, sizeof(struct nfgenmsg));
    mnl_attr_put(header, NFQA_PACKET_HDR, sizeof about, &about);
    mnl_attr_put_u32(header, NFQA_MARK, htonl(0x77));
    if (whole != 0)
        mnl_attr_put_u32(header, NFQA_CAP_LEN, htonl(whole));
    if (payload != NULL)
        mnl_attr_put(header, NFQA_PAYLOAD, length, payload);
    return header->nlmsg_len;
}

static void test_two_packets_of_one_datagram(void **state)
{
    (void)state;
    uint32_t room[ROOM / 4] = {0};
    size_t first = (packet_message(room, 7, "abcde", 5, 0) + 3) & ~(size_t)3;
    size_t length = first + packet_message((char *)room + first, 8, "xyz", 3, 1500);
    const uint8_t *octets = (const uint8_t *)room;
    struct queue_packet packet;
    int error = 0;

    assert_int_equal(queue_message_next(&octets, &length, &packet, &error), QUEUE_MESSAGE_PACKET);
    assert_int_equal(packet.id, 7);
    assert_int_equal(packet.mark, 0x77);
    assert_int_equal(packet.hook, NF_INET_FORWARD);
    assert_int_equal(packet.captured, 5);
    assert_int_equal(packet.wire_length, 5);
    assert_memory_equal(packet.octets, "abcde", 5);
    assert_int_equal(queue_message_next(&octets, &length, &packet, &error), QUEUE_MESSAGE_PACKET);
    assert_int_equal(packet.id, 8);
    assert_int_equal(packet.captured, 3);
    assert_int_equal(packet.wire_length, 1500);
    assert_int_equal(queue_message_next(&octets, &length, &packet, &error), QUEUE_MESSAGE_END);
}

static void test_packet_without_octets_is_still_named(void **state)
{
    (void)state;
    uint32_t room[ROOM / 4] = {0};
    size_t length = packet_message(room, 9, NULL, 0, 0);
    const uint8_t *octets = (const uint8_t *)room;
    struct queue_packet packet;
    int error = 0;

    assert_int_equal(queue_message_next(&octets, &length, &packet, &error), QUEUE_MESSAGE_PACKET);
    assert_int_equal(packet.id, 9);
    assert_null(packet.octets);
    assert_int_equal(packet.captured, 0);
}

/* Cut anywhere: never read beyond, and named as soon as its number is there. */
static void test_every_cut(void **state)
{
    (void)state;
    uint32_t room[ROOM / 4] = {0};
    size_t whole = packet_message(room, 11, "0123456789", 10, 0); /* with two octets of padding */
    size_t named_from = 16 + 4 + 4 + sizeof(struct nfqnl_msg_packet_hdr);

    for (size_t cut = 0; cut <= whole; cut++) {
        uint8_t *copy = malloc(cut == 0 ? 1 : cut); /* exact, for AddressSanitizer */
        const uint8_t *octets = copy;
        size_t length = cut;
        struct queue_packet packet;
        int error = 0;

        assert_non_null(copy);
        memcpy(copy, room, cut);
        enum queue_message_result result = queue_message_next(&octets, &length, &packet, &error);
        assert_int_equal(result, cut == 0           ? QUEUE_MESSAGE_END
                                 : cut < named_from ? QUEUE_MESSAGE_DAMAGED
                                                    : QUEUE_MESSAGE_PACKET);
        if (result == QUEUE_MESSAGE_PACKET) {
            assert_int_equal(packet.id, 11);
            assert_true((packet.octets != NULL) == (cut >= whole - 2));
        }
        assert_int_equal(queue_message_next(&octets, &length, &packet, &error), QUEUE_MESSAGE_END);
        free(copy);
    }
}

static void test_errors_and_acknowledgements(void **state)
{
    (void)state;
    struct {
        struct nlmsghdr header;
        struct nlmsgerr about;
    } message = {.header = {.nlmsg_len = sizeof message, .nlmsg_type = NLMSG_ERROR},
                 .about = {.error = -ENOENT}};
    const uint8_t *octets = (const uint8_t *)&message;
    size_t length = sizeof message;
    struct queue_packet packet;
    int error = 0;

    assert_int_equal(queue_message_next(&octets, &length, &packet, &error), QUEUE_MESSAGE_ERROR);
    assert_int_equal(error, ENOENT);
    message.about.error = 0;
    octets = (const uint8_t *)&message;
    length = sizeof message;
    assert_int_equal(queue_message_next(&octets, &length, &packet, &error), QUEUE_MESSAGE_OTHER);
    message.about.error = INT_MIN; /* has no positive twin */
    octets = (const uint8_t *)&message;
    length = sizeof message;
    assert_int_equal(queue_message_next(&octets, &length, &packet, &error), QUEUE_MESSAGE_DAMAGED);
}

static const struct nfqnl_msg_verdict_hdr *verdict_of(const char *text, int *type, uint16_t *queue)
{
    const struct nlmsghdr *header = (const struct nlmsghdr *)(const void *)text;
    const struct nfgenmsg *generic = mnl_nlmsg_get_payload(header);
    const struct nlattr *attribute = mnl_nlmsg_get_payload_offset(header, sizeof *generic);

    *type = header->nlmsg_type & 0xff;
    *queue = ntohs(generic->res_id);
    assert_int_equal(mnl_attr_get_type(attribute), NFQA_VERDICT_HDR);
    return mnl_attr_get_payload(attribute);
}

static void test_verdicts(void **state)
{
    (void)state;
    _Alignas(8) char text[QUEUE_MESSAGE_OCTETS] = {0};
    const struct nfqnl_msg_verdict_hdr *verdict;
    uint16_t queue;
    int type;

    assert_in_range(queue_message_accept_up_to(text, 2525, 0x12345, NULL), 1, QUEUE_MESSAGE_OCTETS);
    verdict = verdict_of(text, &type, &queue);
    assert_int_equal(type, NFQNL_MSG_VERDICT_BATCH);
    assert_int_equal(queue, 2525);
    assert_int_equal(ntohl(verdict->id), 0x12345);
    assert_int_equal(ntohl(verdict->verdict), NF_ACCEPT);
    assert_in_range(queue_message_verdict(text, 65535, 3, QUEUE_DROP, NULL), 1, QUEUE_MESSAGE_OCTETS);
    verdict = verdict_of(text, &type, &queue);
    assert_int_equal(type, NFQNL_MSG_VERDICT);
    assert_int_equal(queue, 65535);
    assert_int_equal(ntohl(verdict->verdict), NF_DROP);
}

static void test_requests_ask_for_an_answer(void **state)
{
    (void)state;
    _Alignas(8) char text[QUEUE_MESSAGE_OCTETS] = {0};
    const struct nlmsghdr *header = (const struct nlmsghdr *)(const void *)text;
    size_t length;

    length = queue_message_bind(text, 1, 65531);
    assert_int_equal(length, header->nlmsg_len);
    assert_true(header->nlmsg_flags & NLM_F_ACK);
    length = queue_message_flag(text, 1, NFQA_CFG_F_GSO);
    assert_int_equal(length, header->nlmsg_len);
    assert_true(header->nlmsg_flags & NLM_F_ACK);
    length = queue_message_length(text, 1, 64);
    assert_int_equal(length, header->nlmsg_len);
    assert_true(header->nlmsg_flags & NLM_F_ACK);
}

static void test_kernel_queues(void **state)
{
    (void)state;
    static const char text[] = "    7   3254     0 2 65531     0     0       12  1\n"
                               " 2525  12345    17 2 65531    18    19      100  1\n";
    struct kernel_queue found;

    assert_true(kernel_queues_find(text, sizeof text - 1, 2525, &found));
    assert_int_equal(found.waiting_count, 17);
    assert_int_equal(found.queue_dropped, 18);
    assert_int_equal(found.socket_dropped, 19);
    assert_true(kernel_queues_find(text, sizeof text - 1, 7, &found));
    assert_false(kernel_queues_find(text, sizeof text - 1, 25, &found));
    assert_false(kernel_queues_find(text, 30, 7, &found)); /* a line without its end */
    assert_false(kernel_queues_find("7 1 x 2 3 4 5\n", 14, 7, &found));
    assert_false(kernel_queues_find("", 0, 0, &found));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_packets_of_one_datagram),
        cmocka_unit_test(test_packet_without_octets_is_still_named),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_errors_and_acknowledgements),
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_requests_ask_for_an_answer),
        cmocka_unit_test(test_kernel_queues),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
