/* proxy/tap_table and proxy/tap_filter: what is remembered of packets, and which packets the kernel lets through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>
#include <cmocka.h>

#include "core/tcp/packet.h"
#include "proxy/tap_filter.h"
#include "proxy/tap_table.h"

static const uint8_t seed[16] = {7};
static const uint16_t ports[] = {25, 587};

static void set16(uint8_t *octets, unsigned value)
{
    octets[0] = (uint8_t)(value >> 8);
    octets[1] = (uint8_t)value;
}

static void set32(uint8_t *octets, uint32_t value)
{
    set16(octets, value >> 16);
    set16(octets + 2, value & 0xffff);
}

struct segment {
    bool from_server, ipv6;
    uint8_t ttl, flags;
    uint32_t sequence, acknowledgement;
    unsigned payload;
    uint16_t client_port, server_port;
};

/* Client 192.0.2.7 or 2001:db8::7, server 198.51.100.25 or 2001:db8::25. Returns its length. */
static size_t build_tcp(uint8_t *octets, const struct segment *segment)
{
    const size_t ip = segment->ipv6 ? 40 : 20;
    const uint16_t client_port = segment->client_port != 0 ? segment->client_port : 41234;
    const uint16_t server_port = segment->server_port != 0 ? segment->server_port : 25;
    uint8_t *tcp = octets + ip;

    memset(octets, 0, ip + 20 + segment->payload);
    if (segment->ipv6) {
        static const uint8_t prefix[4] = {0x20, 0x01, 0x0d, 0xb8};

        octets[0] = 0x60;
        set16(octets + 4, 20 + segment->payload);
        octets[6] = 6;
        octets[7] = segment->ttl;
        memcpy(octets + 8, prefix, 4);
        memcpy(octets + 24, prefix, 4);
        octets[23] = segment->from_server ? 0x25 : 7;
        octets[39] = segment->from_server ? 7 : 0x25;
    } else {
        static const uint8_t client[4] = {192, 0, 2, 7}, server[4] = {198, 51, 100, 25};

        octets[0] = 0x45;
        set16(octets + 2, 40 + segment->payload);
        octets[8] = segment->ttl;
        octets[9] = 6;
        memcpy(octets + 12, segment->from_server ? server : client, 4);
        memcpy(octets + 16, segment->from_server ? client : server, 4);
    }
    set16(tcp, segment->from_server ? server_port : client_port);
    set16(tcp + 2, segment->from_server ? client_port : server_port);
    set32(tcp + 4, segment->sequence);
    set32(tcp + 8, segment->acknowledgement);
    tcp[12] = 0x50;
    tcp[13] = segment->flags;
    return ip + 20 + segment->payload;
}

static struct tap_flow flow_of(enum side side, bool ipv6)
{
    struct tap_flow flow;
    uint8_t octets[100];
    struct packet packet;
    const struct segment segment = {.ipv6 = ipv6, .flags = PACKET_ACK};

    assert_int_equal(packet_parse(&packet, octets, build_tcp(octets, &segment), 100), PACKET_OK);
    flow.client = packet.source;
    flow.server = packet.destination;
    flow.side = side;
    return flow;
}

static void note(struct tap_table *table, const struct segment *segment, uint64_t now_us)
{
    uint8_t octets[200];

    tap_table_note(table, octets, build_tcp(octets, segment), now_us);
}

static void resets_and_their_distance(void **state)
{
    (void)state;
    for (int ipv6 = 0; ipv6 < 2; ipv6++) {
        struct tap_table *table = tap_table_create(seed);
        const struct tap_flow server = flow_of(SIDE_SERVER, ipv6 == 1),
                              client = flow_of(SIDE_CLIENT, ipv6 == 1);
        struct segment segment = {.from_server = true, .ipv6 = ipv6 == 1, .ttl = 63, .flags = PACKET_RST};
        struct tap_reset reset;

        assert_false(tap_table_find_reset(table, &server, 1000, &reset));
        note(table, &segment, 1000);
        assert_true(tap_table_find_reset(table, &server, 1000, &reset));
        assert_int_equal(reset.ttl, 63);
        assert_int_equal(reset.usual_ttl, 0); /* no handshake seen: no judgement */
        assert_false(tap_table_find_reset(table, &client, 1000, &reset));
        segment.flags = PACKET_SYN | PACKET_ACK;
        segment.ttl = 62;
        segment.client_port = 5555; /* of another session */
        note(table, &segment, 2000);
        assert_true(tap_table_find_reset(table, &server, 3000, &reset));
        assert_int_equal(reset.usual_ttl, 62);
        /* Handshakes from two distances: none of them is the usual one. */
        segment.ttl = 60;
        note(table, &segment, 4000);
        assert_true(tap_table_find_reset(table, &server, 5000, &reset));
        assert_int_equal(reset.usual_ttl, 0);
        /* Long ago. */
        assert_false(tap_table_find_reset(table, &server, 61000000, &reset));
        tap_table_destroy(table);
    }
}

static void icmp_quotes_our_segment(void **state)
{
    struct tap_table *table = tap_table_create(seed);
    const struct tap_flow server = flow_of(SIDE_SERVER, false), client = flow_of(SIDE_CLIENT, false);
    const struct segment ours = {.ttl = 63, .flags = PACKET_ACK};
    uint8_t octets[100], quoted[100];
    struct icmp_error icmp;
    uint32_t mtu;

    (void)state;
    build_tcp(quoted, &ours);
    memset(octets, 0, sizeof octets);
    octets[0] = 0x45;
    set16(octets + 2, 20 + 8 + 28);
    octets[8] = 60;
    octets[9] = 1;
    octets[12] = 203; /* a router 203.0.0.0 */
    octets[16] = 192;
    octets[20] = 3;
    octets[21] = 4;
    set16(octets + 26, 1400);
    memcpy(octets + 28, quoted, 28);
    tap_table_note(table, octets, 56, 1000);
    assert_true(tap_table_find_icmp(table, &server, 2000, &icmp, &mtu));
    assert_int_equal(icmp.type, 3);
    assert_int_equal(icmp.code, 4);
    assert_int_equal(mtu, 1400);
    assert_int_equal(icmp.offender.octets[12], 203);
    assert_false(tap_table_find_icmp(table, &client, 2000, &icmp, &mtu));
    tap_table_destroy(table);
}

static void see(struct tap_table *table, bool from_server, bool outgoing, uint32_t sequence,
                uint32_t acknowledgement, unsigned payload)
{
    const struct segment segment = {.from_server = from_server,
                                    .flags = PACKET_ACK,
                                    .sequence = sequence,
                                    .acknowledgement = acknowledgement,
                                    .payload = payload};
    uint8_t octets[200];

    tap_table_note_ack(table, octets, build_tcp(octets, &segment), outgoing);
}

static void sequence_numbers_reveal(void **state)
{
    static const uint32_t bases[] = {1000, UINT32_MAX - 3, 0x80000000u};

    (void)state;
    for (size_t index = 0; index < sizeof bases / sizeof bases[0]; index++) {
        struct tap_table *table = tap_table_create(seed);
        const struct tap_flow server = flow_of(SIDE_SERVER, false), client = flow_of(SIDE_CLIENT, false);
        const uint32_t base = bases[index];
        uint32_t octets = 99;

        assert_true(tap_table_watch(table, &server, 1));
        assert_true(tap_table_watch(table, &client, 1));
        assert_int_equal(tap_table_watched(table), 2);
        see(table, true, false, base, 5, 0); /* the server's answer alone */
        assert_false(tap_table_find_revealed(table, &server, &octets));
        see(table, false, true, 4, base, 0); /* our probe: we have everything up to base */
        assert_true(tap_table_find_revealed(table, &server, &octets));
        assert_int_equal(octets, 0);
        see(table, true, false, base - 1, 5, 0); /* a keepalive of its own */
        assert_true(tap_table_find_revealed(table, &server, &octets));
        assert_int_equal(octets, 0);
        see(table, true, false, base + 8, 5, 0); /* it sent eight octets we never saw */
        assert_true(tap_table_find_revealed(table, &server, &octets));
        assert_int_equal(octets, 8);
        see(table, true, false, base + 100, 5, 20); /* payload: no bare ACK */
        assert_true(tap_table_find_revealed(table, &server, &octets));
        assert_int_equal(octets, 8);
        see(table, false, true, 4, base + 8, 0); /* they arrived after all */
        assert_true(tap_table_find_revealed(table, &server, &octets));
        assert_int_equal(octets, 0);
        /* The other leg has the same addresses: only the direction tells them apart. */
        assert_false(tap_table_find_revealed(table, &client, &octets));
        see(table, true, true, 9, base, 0);
        see(table, false, false, base + 21720, 9, 0);
        assert_true(tap_table_find_revealed(table, &client, &octets));
        assert_int_equal(octets, 21720);
        tap_table_unwatch(table, &server);
        tap_table_unwatch(table, &server);
        assert_int_equal(tap_table_watched(table), 1);
        assert_false(tap_table_find_revealed(table, &server, &octets));
        tap_table_destroy(table);
    }
}

static void bounded(void **state)
{
    struct tap_table *table = tap_table_create(seed);
    struct tap_flow flow = flow_of(SIDE_SERVER, false);
    struct segment segment = {.from_server = true, .ttl = 63, .flags = PACKET_RST};
    uint32_t accepted = 0, found = 0;
    struct tap_reset reset;

    (void)state;
    for (uint16_t port = 1; port < 20000; port++) {
        flow.client.port = port;
        segment.client_port = port;
        accepted += tap_table_watch(table, &flow, 1) ? 1 : 0;
        note(table, &segment, port);
    }
    assert_int_equal(accepted, tap_table_watched(table));
    assert_in_range(accepted, TAP_WATCHES / 2, TAP_WATCHES);
    /* The newest are there, the oldest are forgotten. */
    for (uint16_t port = 19000; port < 20000; port++) {
        flow.client.port = port;
        found += tap_table_find_reset(table, &flow, 20000, &reset) ? 1 : 0;
    }
    assert_in_range(found, 800, 1000);
    tap_table_destroy(table);
}

/* The kernel runs the filter on datagrams of a socket pair as it would on packets from the network header on. */
static bool passes(const struct tap_filter *filter, const uint8_t *octets, size_t length)
{
    int pair[2];
    struct tap_filter copy = *filter;
    const struct sock_fprog program = {.len = (unsigned short)copy.count, .filter = copy.code};
    uint8_t got[300];
    bool passed;

    assert_int_not_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair), -1);
    assert_int_not_equal(setsockopt(pair[1], SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), -1);
    (void)!send(pair[0], octets, length, 0);
    passed = recv(pair[1], got, sizeof got, 0) > 0;
    close(pair[0]);
    close(pair[1]);
    return passed;
}

static void the_filter_that_is_always_on(void **state)
{
    (void)state;
    for (int ipv6 = 0; ipv6 < 2; ipv6++) {
        struct tap_filter filter;
        uint8_t octets[300];
        struct segment segment = {.from_server = true, .ipv6 = ipv6 == 1, .ttl = 60};
        static const struct {
            uint8_t flags;
            bool passes;
        } cases[] = {{PACKET_RST, true},
                     {PACKET_RST | PACKET_ACK, true},
                     {PACKET_SYN | PACKET_ACK, true},
                     {PACKET_SYN, false},
                     {PACKET_ACK, false},
                     {PACKET_FIN | PACKET_ACK, false},
                     {PACKET_PSH | PACKET_ACK, false}};

        tap_filter_watch(&filter, ipv6 == 1, ports, 2);
        for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
            for (int from_server = 0; from_server < 2; from_server++) {
                segment.from_server = from_server == 1;
                segment.flags = cases[index].flags;
                segment.server_port = 587;
                assert_int_equal(passes(&filter, octets, build_tcp(octets, &segment)), cases[index].passes);
                segment.server_port = 80;
                assert_false(passes(&filter, octets, build_tcp(octets, &segment)));
            }
        }
        /* ICMP errors, whatever they quote; no echo. */
        memset(octets, 0, sizeof octets);
        octets[0] = ipv6 == 1 ? 0x60 : 0x45;
        octets[ipv6 == 1 ? 6 : 9] = ipv6 == 1 ? 58 : 1;
        octets[ipv6 == 1 ? 40 : 20] = ipv6 == 1 ? 2 : 3;
        assert_true(passes(&filter, octets, 100));
        octets[ipv6 == 1 ? 40 : 20] = ipv6 == 1 ? 128 : 8;
        assert_false(passes(&filter, octets, 100));
    }
}

static void the_filter_of_nothing(void **state)
{
    struct tap_filter filter;
    const struct segment segment = {.flags = PACKET_RST};
    uint8_t octets[100];

    (void)state;
    tap_filter_none(&filter);
    assert_false(passes(&filter, octets, build_tcp(octets, &segment)));
}

static void the_largest_filters_are_accepted(void **state)
{
    uint16_t many[TAP_FILTER_MAX_PORTS];
    struct tap_filter filter;
    uint8_t octets[100];
    const struct segment segment = {.flags = PACKET_RST, .server_port = 1047};

    (void)state;
    for (size_t index = 0; index < TAP_FILTER_MAX_PORTS; index++)
        many[index] = (uint16_t)(1000 + index);
    tap_filter_watch(&filter, false, many, TAP_FILTER_MAX_PORTS);
    assert_true(passes(&filter, octets, build_tcp(octets, &segment)));
    tap_filter_acks(&filter, many, TAP_FILTER_MAX_PORTS);
    assert_in_range(filter.count, 1, TAP_FILTER_MAX);
    assert_false(
        passes(&filter, octets, build_tcp(octets, &segment))); /* the kernel takes it; no IP protocol here */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resets_and_their_distance),        cmocka_unit_test(icmp_quotes_our_segment),
        cmocka_unit_test(sequence_numbers_reveal),          cmocka_unit_test(bounded),
        cmocka_unit_test(the_filter_that_is_always_on),     cmocka_unit_test(the_filter_of_nothing),
        cmocka_unit_test(the_largest_filters_are_accepted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
