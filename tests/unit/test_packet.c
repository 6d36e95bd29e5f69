/* Packets taken apart: every field, every cut, every damage; ICMP errors in test_icmp.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/test_packets.h"

static uint8_t octets[4096];
static struct packet packet;

static const uint8_t all_options[] = {2, 4,  5, 0xb4, 1, 3, 3, 7, 4, 2, 1, 1,
                                      8, 10, 0, 0,    0, 9, 0, 0, 0, 8, 0, 0};

static size_t put_v4(const char *payload)
{
    return test_put_tcp(octets, &(struct test_tcp){.source = "192.0.2.7",
                                                   .destination = "198.51.100.25",
                                                   .source_port = 41234,
                                                   .destination_port = 25,
                                                   .sequence = 0xfffffff0,
                                                   .acknowledgement = 7,
                                                   .flags = PACKET_ACK | PACKET_PSH,
                                                   .ttl = 61,
                                                   .ip_id = 0xbeef,
                                                   .window = 501,
                                                   .options = all_options,
                                                   .options_length = sizeof all_options,
                                                   .payload = payload});
}

static size_t put_v6(const char *payload)
{
    return test_put_tcp(octets, &(struct test_tcp){.source = "2001:db8::7",
                                                   .destination = "2001:db8::25",
                                                   .source_port = 41234,
                                                   .destination_port = 25,
                                                   .sequence = 1,
                                                   .flags = PACKET_SYN,
                                                   .ttl = 60,
                                                   .payload = payload});
}

static void test_v4(void **state)
{
    (void)state;
    size_t length = put_v4("EHLO a\r\n");
    char text[ADDRESS_TEXT_SIZE];
    assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_OK);
    assert_int_equal(packet.kind, PACKET_TCP);
    assert_string_equal(address_format(&packet.source, text), "192.0.2.7:41234");
    assert_string_equal(address_format(&packet.destination, text), "198.51.100.25:25");
    assert_int_equal(packet.sequence, 0xfffffff0);
    assert_int_equal(packet.acknowledgement, 7);
    assert_int_equal(packet.flags, PACKET_ACK | PACKET_PSH);
    assert_int_equal(packet.window, 501);
    assert_int_equal(packet.ttl, 61);
    assert_true(packet.has_ip_id);
    assert_int_equal(packet.ip_id, 0xbeef);
    assert_int_equal(packet.options, PACKET_HAS_MSS | PACKET_HAS_WINDOW_SCALE | PACKET_HAS_SACK_PERMITTED |
                                         PACKET_HAS_TIMESTAMP);
    assert_int_equal(packet.mss, 1460);
    assert_int_equal(packet.window_scale, 7);
    assert_int_equal(packet.timestamp_value, 9);
    assert_int_equal(packet.timestamp_echo, 8);
    assert_int_equal(packet.payload_length, 8);
    assert_int_equal(packet.payload_captured, 8);
    assert_memory_equal(packet.payload, "EHLO a\r\n", 8);
    assert_int_equal(packet_sequence_length(&packet), 8);
}

static void test_v6(void **state)
{
    (void)state;
    size_t length = put_v6("");
    char text[ADDRESS_TEXT_SIZE];
    assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_OK);
    assert_string_equal(address_format(&packet.source, text), "[2001:db8::7]:41234");
    assert_int_equal(packet.ttl, 60);
    assert_false(packet.has_ip_id);
    assert_int_equal(packet_sequence_length(&packet), 1);
}

/* Ethernet pads short frames; what lies behind the IP length is no payload. */
static void test_padding_is_no_payload(void **state)
{
    (void)state;
    size_t length = put_v4("");
    assert_int_equal(packet_parse(&packet, octets, length + 6, length + 6), PACKET_OK);
    assert_int_equal(packet.payload_length, 0);
    length = put_v6("");
    assert_int_equal(packet_parse(&packet, octets, length + 6, length + 6), PACKET_OK);
    assert_int_equal(packet.payload_length, 0);
}

/* A length of 0 means the whole wire length (BIG TCP; offload seen at the sender). */
static void test_length_zero_is_the_wire_length(void **state)
{
    (void)state;
    size_t length = put_v4("12345678");
    test_put16(octets + 2, 0);
    assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_OK);
    assert_int_equal(packet.payload_length, 8);
    length = put_v6("12345678");
    test_put16(octets + 4, 0);
    assert_int_equal(packet_parse(&packet, octets, length, 200000), PACKET_OK);
    assert_int_equal(packet.payload_length, 200000 - 60);
    assert_int_equal(packet.payload_captured, 8);
}

static void test_snap_length(void **state)
{
    (void)state;
    size_t length = put_v4("MAIL FROM:<a@b>\r\n");
    size_t head = length - 17;
    for (size_t captured = 0; captured <= length; captured++) {
        enum packet_result result = packet_parse(&packet, octets, captured, length);
        if (captured < 40) {
            assert_int_equal(result, PACKET_CUT);
        } else {
            assert_int_equal(result, PACKET_OK);
            assert_int_equal(packet.payload_length, 17);
            assert_int_equal(packet.payload_captured, captured > head ? captured - head : 0);
        }
    }
}

/* At the end of a mapped page every octet read too far is a crash. */
static void test_reads_nothing_beyond(void **state)
{
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *map = mmap(NULL, page * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(map != MAP_FAILED);
    assert_int_equal(mprotect(map + page, page, PROT_NONE), 0);
    srandom(1);
    for (int round = 0; round < 200000; round++) {
        size_t length = (round & 1) ? put_v4("250 2.1.0 Ok\r\n") : put_v6("250 2.1.0 Ok\r\n");
        for (int i = 0; i < 4; i++) {
            octets[(size_t)random() % length] = (uint8_t)random();
        }
        size_t captured = (size_t)random() % (length + 1);
        memcpy(map + page - captured, octets, captured);
        (void)!packet_parse(&packet, map + page - captured, captured, length);
    }
    munmap(map, page * 2);
}

static void test_malformed(void **state)
{
    (void)state;
    size_t length = put_v4("x");
    octets[0] = 0x44; /* a header of 16 octets */
    assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_MALFORMED);
    length = put_v4("x");
    test_put16(octets + 2, 19); /* shorter than its header */
    assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_MALFORMED);
    length = put_v4("x");
    octets[20 + 12] = 0x40; /* a TCP header of 16 */
    assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_MALFORMED);
    length = put_v4("x");
    octets[20 + 12] = 0xf0; /* longer than the packet */
    assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_MALFORMED);
    octets[0] = 0x75;
    assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_MALFORMED);
    assert_int_equal(packet_parse(&packet, octets, 0, 0), PACKET_CUT);
}

static void test_damaged_options_end_the_list(void **state)
{
    (void)state;
    static const uint8_t damaged[][4] = {{2, 0, 5, 0xb4}, {2, 1, 5, 0xb4}, {2, 5, 5, 0xb4}, {1, 1, 1, 2}};
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        size_t length = test_put_tcp(octets, &(struct test_tcp){.source = "192.0.2.7",
                                                                .destination = "192.0.2.8",
                                                                .flags = PACKET_SYN,
                                                                .options = damaged[i],
                                                                .options_length = 4});
        assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_OK);
        assert_int_equal(packet.options, 0);
    }
}

static void test_sack(void **state)
{
    (void)state;
    uint8_t options[40] = {1, 1, 5, 34};
    for (uint32_t i = 0; i < 4; i++) {
        test_put32(options + 4 + i * 8, 100 * i);
        test_put32(options + 8 + i * 8, 100 * i + 50);
    }
    size_t length = test_put_tcp(octets, &(struct test_tcp){.source = "192.0.2.7",
                                                            .destination = "192.0.2.8",
                                                            .flags = PACKET_ACK,
                                                            .options = options,
                                                            .options_length = 36});
    assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_OK);
    assert_int_equal(packet.sack_count, 4);
    assert_int_equal(packet.sack[3].start, 300);
    assert_int_equal(packet.sack[3].end, 350);
}

static void test_fragments(void **state)
{
    (void)state;
    size_t length = put_v4("x");
    test_put16(octets + 6, 0x2000); /* the first of several */
    assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_FRAGMENT);
    assert_true(packet.fragmented && packet.fragment_more);
    assert_int_equal(packet.fragment_offset, 0);
    assert_int_equal(packet.fragment_protocol, 6);
    assert_int_equal(packet.payload_length, length - 20);
    test_put16(octets + 6, 0x0003);
    assert_int_equal(packet_parse(&packet, octets, length - 1, length), PACKET_FRAGMENT);
    assert_true(packet.fragmented && !packet.fragment_more);
    assert_int_equal(packet.fragment_offset, 24);
    assert_int_equal(packet.payload_captured, length - 21);
    octets[9] = 17;
    assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_OTHER);
}

static size_t put_extensions(unsigned count, uint8_t kind)
{
    uint8_t tcp[64];
    size_t length = put_v6("x");
    memcpy(tcp, octets + 40, length - 40);
    uint8_t *at = octets + 40;
    octets[6] = kind;
    for (unsigned i = 0; i < count; i++, at += 8) {
        memset(at, 0, 8);
        at[0] = i + 1 == count ? 6 : kind;
    }
    memcpy(at, tcp, length - 40);
    test_put16(octets + 4, (unsigned)(length - 40 + count * 8));
    return length + (size_t)count * 8;
}

static void test_extension_headers(void **state)
{
    (void)state;
    static const uint8_t kinds[] = {0, 43, 60};
    for (size_t i = 0; i < sizeof kinds; i++) {
        size_t length = put_extensions(3, kinds[i]);
        assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_OK);
        assert_int_equal(packet.payload_length, 1);
        for (size_t captured = 40; captured < 64; captured++) {
            assert_int_equal(packet_parse(&packet, octets, captured, length), PACKET_CUT);
        }
    }
    size_t length = put_extensions(PACKET_MAX_EXTENSIONS + 1, 60);
    assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_MALFORMED);
    length = put_extensions(1, 44);
    assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_OK);
    assert_false(packet.fragmented); /* RFC 6946: an atomic fragment is whole */
    test_put16(octets + 42, 8);
    test_put32(octets + 44, 0x01020304);
    assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_FRAGMENT);
    assert_int_equal(packet.fragment_offset, 8);
    assert_int_equal(packet.fragment_id, 0x01020304);
    assert_int_equal(packet.payload_length, length - 48);
}

static void test_other_protocols(void **state)
{
    (void)state;
    size_t length = put_v4("x");
    octets[9] = 17;
    assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_OTHER);
    octets[9] = 58; /* ICMPv6 has no place in IPv4 */
    assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_OTHER);
}

static void test_sequence_order(void **state)
{
    (void)state;
    assert_true(sequence_before(0xffffffff, 0));
    assert_true(sequence_before(5, 6));
    assert_false(sequence_before(6, 6));
    assert_false(sequence_before(0, 0xffffff00));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v4),
        cmocka_unit_test(test_v6),
        cmocka_unit_test(test_padding_is_no_payload),
        cmocka_unit_test(test_length_zero_is_the_wire_length),
        cmocka_unit_test(test_snap_length),
        cmocka_unit_test(test_reads_nothing_beyond),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_damaged_options_end_the_list),
        cmocka_unit_test(test_sack),
        cmocka_unit_test(test_fragments),
        cmocka_unit_test(test_extension_headers),
        cmocka_unit_test(test_other_protocols),
        cmocka_unit_test(test_sequence_order),
    };
    return cmocka_run_group_tests_name("packet", tests, NULL, NULL);
}
