/* ICMP and ICMPv6 errors: what each says, which connection it belongs to, and whom to believe. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/tracker/tracker.h"
#include "tests/unit/test_packets.h"

#define CLIENT "192.0.2.7"
#define SERVER "198.51.100.25"
#define ROUTER "203.0.113.1"

static uint8_t octets[512];
static struct record last_record;
static unsigned record_count;

static size_t put_error(const char *sender, const char *about_source, const char *about_destination,
                        uint8_t type, uint8_t code, uint32_t sequence, size_t quoted)
{
    bool version6 = strchr(sender, ':') != NULL;
    uint8_t inner[128];
    size_t inner_length = test_put_tcp(inner, &(struct test_tcp){.source = about_source,
                                                                 .destination = about_destination,
                                                                 .source_port = 41234,
                                                                 .destination_port = 25,
                                                                 .sequence = sequence,
                                                                 .flags = PACKET_SYN,
                                                                 .ttl = 3});
    quoted = quoted < inner_length ? quoted : inner_length;
    size_t ip = test_put_ip(octets, sender, about_source, version6 ? 58 : 1, 64, 1, 8 + quoted);
    memset(octets + ip, 0, 8);
    octets[ip] = type;
    octets[ip + 1] = code;
    test_put16(octets + ip + 6, 1400);
    memcpy(octets + ip + 8, inner, quoted);
    return ip + 8 + quoted;
}

static void test_meaning(void **state)
{
    (void)state;
    static const struct {
        uint8_t type, code;
        bool version6;
        enum packet_icmp meaning;
    } cases[] = {
        {3, 0, false, PACKET_ICMP_UNREACHABLE}, {3, 1, false, PACKET_ICMP_UNREACHABLE},
        {3, 2, false, PACKET_ICMP_REJECTED},    {3, 3, false, PACKET_ICMP_REJECTED},
        {3, 4, false, PACKET_ICMP_TOO_BIG},     {3, 9, false, PACKET_ICMP_PROHIBITED},
        {3, 10, false, PACKET_ICMP_PROHIBITED}, {3, 13, false, PACKET_ICMP_PROHIBITED},
        {11, 0, false, PACKET_ICMP_OTHER},      {1, 0, true, PACKET_ICMP_UNREACHABLE},
        {1, 1, true, PACKET_ICMP_PROHIBITED},   {1, 3, true, PACKET_ICMP_UNREACHABLE},
        {1, 4, true, PACKET_ICMP_REJECTED},     {2, 0, true, PACKET_ICMP_TOO_BIG},
        {3, 0, true, PACKET_ICMP_OTHER},
    };
    struct packet packet;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool six = cases[i].version6;
        size_t length = put_error(six ? "2001:db8::1" : ROUTER, six ? "2001:db8::7" : CLIENT,
                                  six ? "2001:db8::25" : SERVER, cases[i].type, cases[i].code, 99, 100);
        assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_OK);
        assert_int_equal(packet.kind, PACKET_ICMP_ERROR);
        assert_int_equal(packet.icmp, cases[i].meaning);
        assert_int_equal(packet.source.port, 41234);
        assert_int_equal(packet.destination.port, 25);
        assert_int_equal(packet.sequence, 99);
        if (cases[i].meaning == PACKET_ICMP_TOO_BIG && !six) {
            assert_int_equal(packet.icmp_mtu, 1400);
        }
    }
}

/* RFC 792 asks for eight octets of the quoted packet's payload; fewer say nothing. */
static void test_quote_lengths(void **state)
{
    (void)state;
    struct packet packet;
    size_t length = put_error(ROUTER, CLIENT, SERVER, 3, 1, 5, 28);
    assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_OK);
    for (size_t quoted = 0; quoted < 28; quoted++) {
        length = put_error(ROUTER, CLIENT, SERVER, 3, 1, 5, quoted);
        assert_int_not_equal(packet_parse(&packet, octets, length, length), PACKET_OK);
    }
}

static void test_no_errors(void **state)
{
    (void)state;
    struct packet packet;
    size_t length = put_error(ROUTER, CLIENT, SERVER, 8, 0, 5, 28); /* an echo */
    assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_OTHER);
    length = put_error(ROUTER, CLIENT, SERVER, 3, 1, 5, 28);
    octets[28 + 9] = 17; /* about UDP */
    assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_OTHER);
}

/* ---- through the tracker ---- */

static void on_record(void *context, struct tracker_session *tracked, const struct record *record)
{
    (void)context;
    (void)tracked;
    if (record->kind == RECORD_VERDICT) {
        last_record = *record;
        record_count++;
    }
}

static struct tracker *make(void)
{
    static const struct policy_settings policy = {.ipv6_source_prefix = 64};
    struct tracker_options options = {
        .mode = RECORD_REPLAY, .policy = &policy, .max_flows = 64, .callbacks = {.record = on_record}};
    struct tracker *tracker = tracker_create(&options);
    assert_non_null(tracker);
    tracker_set_port(tracker, 25, TRACKER_PORT_SMTP);
    record_count = 0;
    return tracker;
}

static void feed_syn(struct tracker *tracker, uint64_t now_us)
{
    uint8_t syn[128];
    size_t length = test_put_tcp(syn, &(struct test_tcp){.source = CLIENT,
                                                         .destination = SERVER,
                                                         .source_port = 41234,
                                                         .destination_port = 25,
                                                         .sequence = 1000,
                                                         .flags = PACKET_SYN,
                                                         .ttl = 64});
    tracker_on_packet(tracker, syn, length, length, now_us, 0);
}

static void judge(const char *sender, uint8_t type, uint8_t code, uint32_t sequence, enum fault fault,
                  enum cause cause)
{
    struct tracker *tracker = make();
    feed_syn(tracker, 1000000);
    size_t length = put_error(sender, CLIENT, SERVER, type, code, sequence, 28);
    tracker_on_packet(tracker, octets, length, length, 1010000, 0);
    tracker_on_deadline(tracker, 20000000);
    tracker_finish(tracker, 20000000);
    assert_int_equal(record_count, 1);
    assert_string_equal(cause_name(last_record.verdict.cause), cause_name(cause));
    assert_string_equal(fault_name(last_record.verdict.fault), fault_name(fault));
    tracker_destroy(tracker);
}

static void test_answers_to_a_syn(void **state)
{
    (void)state;
    judge(ROUTER, 3, 13, 1000, FAULT_MIDDLEBOX, CAUSE_ADMIN_PROHIBITED);
    judge(ROUTER, 3, 1, 1000, FAULT_SERVER_NETWORK, CAUSE_UNREACHABLE);
    judge(ROUTER, 3, 3, 1000, FAULT_MIDDLEBOX, CAUSE_CONNECT_REJECTED);
    assert_int_equal(last_record.verdict.confidence, CONFIDENCE_CERTAIN);
    assert_true(last_record.legs[1].flags & LEG_ICMP_FOREIGN);
    judge(SERVER, 3, 3, 1000, FAULT_MIDDLEBOX, CAUSE_CONNECT_REJECTED); /* its own REJECT rule, perhaps */
    assert_int_equal(last_record.verdict.confidence, CONFIDENCE_LIKELY);
    judge(ROUTER, 3, 13, 555, FAULT_UNKNOWN, CAUSE_UNDETERMINED); /* quotes what was never sent */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_meaning),
        cmocka_unit_test(test_quote_lengths),
        cmocka_unit_test(test_no_errors),
        cmocka_unit_test(test_answers_to_a_syn),
    };
    return cmocka_run_group_tests_name("icmp", tests, NULL, NULL);
}
