#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/tcp/packet.h"
#include "nfq/prober.h"
#include "nfq/watched.h"
#include "nfq/segment.h"

static struct address address_of(bool ipv4, uint8_t last, uint16_t port)
{
    struct address address = {.port = port};

    if (ipv4) {
        memset(address.octets + 10, 0xff, 2);
        memcpy(address.octets + 12, (uint8_t[]){192, 0, 2, last}, 4);
    } else {
        memcpy(address.octets, (uint8_t[]){0x20, 1, 0xd, 0xb8}, 4);
        address.octets[15] = last;
    }
    return address;
}

/* RFC 1071: the sum over pseudo header and segment, checksum included, is all ones. */
static void check_sum(const uint8_t *octets, size_t length, bool ipv4)
{
    size_t ip = ipv4 ? 20 : 40, own = ipv4 ? 12 : 8, width = ipv4 ? 8 : 32;
    uint32_t sum = 6 + (uint32_t)(length - ip);

    for (size_t i = 0; i < width; i += 2)
        sum += (uint32_t)octets[own + i] << 8 | octets[own + i + 1];
    for (size_t i = ip; i < length; i += 2)
        sum += (uint32_t)octets[i] << 8 | (i + 1 < length ? octets[i + 1] : 0u);
    while (sum >> 16 != 0)
        sum = (sum & 0xffffu) + (sum >> 16);
    assert_int_equal(sum, 0xffff);
}

static void test_segments_parse_back(void **state)
{
    (void)state;
    for (int ipv4 = 0; ipv4 <= 1; ipv4++) {
        struct segment segment = {.source = address_of(ipv4, 1, 4321),
                                  .destination = address_of(ipv4, 2, 25),
                                  .sequence = 0xfffffff0u,
                                  .acknowledgement = 0x01020304,
                                  .window = 511,
                                  .flags = PACKET_ACK | PACKET_PSH,
                                  .ttl = 63,
                                  .ip_id = 77,
                                  .has_timestamps = true,
                                  .timestamp_value = 0xdeadbeefu,
                                  .timestamp_echo = 5,
                                  .payload = (const uint8_t *)"421 x",
                                  .payload_length = 5};
        uint8_t octets[128];
        size_t length = segment_build(&segment, octets, sizeof octets);
        struct packet packet;

        assert_int_equal(length, (ipv4 ? 20 : 40) + 32 + 5);
        check_sum(octets, length, ipv4);
        assert_int_equal(packet_parse(&packet, octets, length, length), PACKET_OK);
        assert_true(address_equal(&packet.source, &segment.source));
        assert_true(address_equal(&packet.destination, &segment.destination));
        assert_int_equal(packet.sequence, segment.sequence);
        assert_int_equal(packet.acknowledgement, segment.acknowledgement);
        assert_int_equal(packet.window, 511);
        assert_int_equal(packet.ttl, 63);
        assert_int_equal(packet.flags, PACKET_ACK | PACKET_PSH);
        assert_true(packet.options & PACKET_HAS_TIMESTAMP);
        assert_int_equal(packet.timestamp_value, 0xdeadbeefu);
        assert_int_equal(packet.payload_length, 5);
        assert_memory_equal(packet.payload, "421 x", 5);
        for (size_t room = 0; room < length; room++)
            assert_int_equal(segment_build(&segment, octets, room), 0);
        segment.destination = address_of(!ipv4, 2, 25);
        assert_int_equal(segment_build(&segment, octets, sizeof octets), 0);
    }
}

struct bench {
    struct tracker *tracker;
    struct prober prober;
    struct injector injector;
    struct tracker_session *tracked;
    uint64_t now_us;
    uint32_t wants;
};

static void on_record(void *context, struct tracker_session *tracked, const struct record *record)
{
    struct bench *bench = context;

    if (record->kind == RECORD_VERDICT)
        prober_forget(&bench->prober, tracked);
}

static void on_step(void *context, struct tracker_session *tracked, enum tracker_step step, enum side side,
                    uint64_t now_us)
{
    struct bench *bench = context;

    (void)step;
    (void)side;
    (void)now_us;
    bench->tracked = tracked;
}

static void on_want(void *context, struct tracker_session *tracked, uint32_t wants, uint64_t now_us)
{
    (void)tracked;
    (void)now_us;
    ((struct bench *)context)->wants |= wants;
}

/* A packet through the tracker; also parsed into *packet when that is asked for. */
static void pass(struct bench *bench, bool from_client, uint32_t sequence, uint32_t acknowledgement,
                 uint8_t flags, const char *text, struct packet *packet)
{
    struct segment segment = {
        .source = from_client ? address_of(true, 1, 4321) : address_of(true, 2, 25),
        .destination = from_client ? address_of(true, 2, 25) : address_of(true, 1, 4321),
        .sequence = sequence,
        .acknowledgement = acknowledgement,
        .window = 500,
        .flags = flags,
        .ttl = from_client ? 64 : 60,
        .ip_id = (uint16_t)(bench->now_us / 1000),
        .has_timestamps = true,
        .timestamp_value = (from_client ? 1000u : 9000u) + (uint32_t)(bench->now_us / 1000),
        .timestamp_echo = from_client ? 9000 : 1000,
        .payload = (const uint8_t *)text,
        .payload_length = strlen(text)};
    static uint8_t octets[256];
    size_t length = segment_build(&segment, octets, sizeof octets);
    struct packet parsed;

    assert_true(length > 0);
    assert_int_equal(packet_parse(&parsed, octets, length, length), PACKET_OK);
    bench->now_us += 1000;
    tracker_on_packet(bench->tracker, octets, length, length, bench->now_us, 0);
    if (packet != NULL)
        *packet = parsed;
}

static struct policy_settings policy;

static int setup(void **state)
{
    struct bench *bench = calloc(1, sizeof *bench);
    struct tracker_options options = {
        .mode = RECORD_NFQ,
        .policy = &policy,
        .max_flows = 64,
        .story_octets = sizeof(struct watched),
        .probing = true,
        .probe_after_us = 1000000,
        .callbacks = {.context = bench, .record = on_record, .step = on_step, .want = on_want}};

    bench->injector.ipv4 = bench->injector.ipv6 = -1;
    bench->now_us = 1000000;
    prober_init(&bench->prober, &bench->injector);
    bench->tracker = tracker_create(&options);
    assert_non_null(bench->tracker);
    tracker_set_port(bench->tracker, 25, TRACKER_PORT_SMTP);
    pass(bench, true, 99, 0, PACKET_SYN, "", NULL);
    pass(bench, false, 499, 100, PACKET_SYN | PACKET_ACK, "", NULL);
    pass(bench, true, 100, 500, PACKET_ACK, "", NULL);
    pass(bench, false, 500, 100, PACKET_ACK | PACKET_PSH, "220 x\r\n", NULL);
    pass(bench, true, 100, 507, PACKET_ACK, "", NULL);
    *state = bench;
    return 0;
}

static int teardown(void **state)
{
    struct bench *bench = *state;

    tracker_finish(bench->tracker, bench->now_us);
    tracker_destroy(bench->tracker);
    free(bench);
    return 0;
}

static void test_probe_after_its_time(void **state)
{
    struct bench *bench = *state;

    tracker_on_deadline(bench->tracker, bench->now_us + 900000);
    assert_int_equal(bench->wants, 0);
    tracker_on_deadline(bench->tracker, bench->now_us + 1300000);
    assert_int_equal(bench->wants, SESSION_WANT_PROBE_CLIENT);
}

/* RFC 9293 section 3.8.4: one below the next octet; RFC 7323: never a newer timestamp than was sent. */
static void test_what_a_probe_says(void **state)
{
    struct bench *bench = *state;
    struct segment segment;

    assert_true(prober_segment(bench->tracked, SIDE_CLIENT, &segment));
    assert_int_equal(segment.sequence, 506);
    assert_int_equal(segment.acknowledgement, 100);
    assert_int_equal(segment.flags, PACKET_ACK);
    assert_int_equal(segment.ttl, 59);
    assert_int_equal(segment.window, 500);
    assert_int_equal(segment.source.port, 25);
    assert_true(segment.has_timestamps);
    assert_int_equal(segment.timestamp_value, 9000 + 1003); /* of its latest packet */
    assert_int_equal(segment.timestamp_echo, 1000 + 1004);
    pass(bench, false, 507, 100, PACKET_ACK, "", NULL); /* a bare acknowledgement counts, too */
    assert_true(prober_segment(bench->tracked, SIDE_CLIENT, &segment));
    assert_int_equal(segment.timestamp_value, 9000 + 1005);
    assert_int_equal(segment.payload_length, 0);
}

static void test_no_probe_while_octets_are_under_way(void **state)
{
    struct bench *bench = *state;
    struct segment segment;

    pass(bench, false, 507, 100, PACKET_ACK | PACKET_PSH, "250 y\r\n", NULL);
    assert_false(prober_segment(bench->tracked, SIDE_CLIENT, &segment));
    assert_true(prober_segment(bench->tracked, SIDE_SERVER, &segment));
}

/* Takes a slot without a socket to send through. */
static struct prober_slot *ask(struct bench *bench)
{
    struct prober_slot *slot = &bench->prober.slots[0];

    *slot = (struct prober_slot){.tracked = bench->tracked, .side = SIDE_CLIENT, .answer_due = true};
    watched_of(bench->tracked)->probe_slot = 1;
    bench->prober.busy_count = 1;
    return slot;
}

static bool swallowed(struct bench *bench, uint32_t sequence, uint32_t acknowledgement, const char *text)
{
    struct prober_slot *slot = ask(bench);
    struct prober_view before = prober_look(slot);
    struct packet packet;

    pass(bench, true, sequence, acknowledgement, PACKET_ACK, text, &packet);
    assert_ptr_equal(prober_match(&bench->prober, &packet), slot);
    return prober_swallows(&bench->prober, slot, &before, &packet);
}

static void test_only_a_bare_answer_is_swallowed(void **state)
{
    struct bench *bench = *state;
    struct packet packet;

    assert_true(swallowed(bench, 100, 507, ""));
    assert_int_equal(bench->prober.busy_count, 0);
    assert_int_equal(watched_of(bench->tracked)->probe_slot, 0);
    pass(bench, true, 100, 507, PACKET_ACK, "", &packet); /* nobody asked */
    assert_null(prober_match(&bench->prober, &packet));
    assert_false(swallowed(bench, 100, 507, "NOOP\r\n")); /* it speaks */
    pass(bench, false, 507, 106, PACKET_ACK | PACKET_PSH, "250 z\r\n", NULL);
    assert_false(swallowed(bench, 106, 514, "")); /* it acknowledges something new */
    assert_true(swallowed(bench, 106, 514, ""));
}

/* RFC 9293 section 3.10.7.1: such a reset bears the acknowledgement of what it answers, and no ACK. */
static void test_a_reset_that_a_probe_called_forth(void **state)
{
    static const struct {
        uint8_t flags;
        uint32_t sequence;
        bool provoked;
    } cases[] = {{PACKET_RST, 100, true},
                 {PACKET_RST, 101, false},              /* not what was acknowledged */
                 {PACKET_RST | PACKET_ACK, 100, false}, /* an end of its own */
                 {PACKET_ACK, 100, false}};
    struct bench *bench = *state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct prober_slot *slot = ask(bench);
        struct packet packet = {.kind = PACKET_TCP, .flags = cases[i].flags, .sequence = cases[i].sequence};
        uint8_t *unanswered = &bench->tracked->entry->flow.sides[side_index(SIDE_SERVER)].unanswered;

        slot->acknowledgement = 100;
        tracker_note_probe(bench->tracked, SIDE_CLIENT);
        assert_int_equal(prober_provoked(&bench->prober, slot, &packet), cases[i].provoked);
        assert_int_equal(bench->prober.busy_count, cases[i].provoked ? 0 : 1);
        assert_int_equal(*unanswered, cases[i].provoked ? 0 : i);
        assert_int_equal(bench->prober.dropped_count, 1);
    }
}

/* Nobody asked: a reset is what it is. */
static void test_a_reset_without_a_probe(void **state)
{
    struct bench *bench = *state;
    struct prober_slot *slot = ask(bench);
    struct packet packet = {.kind = PACKET_TCP, .flags = PACKET_RST, .sequence = 100};

    slot->acknowledgement = 100;
    slot->answer_due = false;
    assert_false(prober_provoked(&bench->prober, slot, &packet));
}

static void test_a_session_that_ends_is_forgotten(void **state)
{
    struct bench *bench = *state;

    (void)ask(bench);
    tracker_finish(bench->tracker, bench->now_us);
    assert_int_equal(bench->prober.busy_count, 0);
    assert_int_equal(prober_deadline_us(&bench->prober), UINT64_MAX);
}

static void test_what_cannot_be_sent_is_given_up(void **state)
{
    struct bench *bench = *state;

    prober_start(&bench->prober, bench->tracked, SIDE_CLIENT, bench->now_us); /* no socket */
    assert_int_equal(bench->prober.failed_count, 1);
    assert_int_equal(bench->prober.sent_count, 0);
    assert_int_equal(bench->prober.busy_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segments_parse_back),
        cmocka_unit_test_setup_teardown(test_probe_after_its_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_a_probe_says, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_probe_while_octets_are_under_way, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_a_bare_answer_is_swallowed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_reset_that_a_probe_called_forth, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_reset_without_a_probe, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_session_that_ends_is_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_sent_is_given_up, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
