/* Streams put in order: whatever way the same octets are cut, repeated, mixed up and overlapped, they come out once and
 * in order; what does not fit the bounds is passed over, never invented. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/tcp/flow_internal.h"

#define STREAM_OCTETS 20000

struct heard {
    uint8_t octets[SIDE_PAIR][STREAM_OCTETS * 8];
    uint64_t count[SIDE_PAIR]; /* skipped ones included: they are left zero */
    uint64_t skipped[SIDE_PAIR];
    unsigned fins[SIDE_PAIR], gaps;
    char order[64];
    size_t budget;
};

static struct heard heard;
static struct flow flow;
static uint64_t now_us;
static uint16_t ip_id;

static void on_octets(void *context, enum side side, const uint8_t *octets, size_t length, uint64_t when_us)
{
    struct heard *to = context;
    size_t i = side_index(side);
    (void)when_us;
    assert_true(to->count[i] + length <= sizeof to->octets[i]);
    memcpy(to->octets[i] + to->count[i], octets, length);
    to->count[i] += length;
    size_t used = strlen(to->order);
    if (used + 1 < sizeof to->order) {
        to->order[used] = side == SIDE_CLIENT ? 'c' : 's';
    }
}

static void on_skipped(void *context, enum side side, uint64_t length, uint64_t when_us)
{
    struct heard *to = context;
    (void)when_us;
    to->count[side_index(side)] += length;
    to->skipped[side_index(side)] += length;
}

static void on_event(void *context, enum flow_event event, enum side side, uint64_t when_us)
{
    struct heard *to = context;
    (void)when_us;
    to->fins[side_index(side)] += event == FLOW_EVENT_FIN ? 1 : 0;
    to->gaps += event == FLOW_EVENT_GAP ? 1 : 0;
}

static const struct flow_sink sink = {.context = &heard,
                                      .octets = on_octets,
                                      .skipped = on_skipped,
                                      .event = on_event,
                                      .budget_octets = &heard.budget};

static enum flow_verdict feed(enum side side, uint8_t flags, uint32_t sequence, uint32_t acknowledgement,
                              const uint8_t *payload, size_t captured, size_t length)
{
    struct packet packet = {.kind = PACKET_TCP,
                            .flags = flags,
                            .sequence = sequence,
                            .acknowledgement = acknowledgement,
                            .payload = payload,
                            .payload_captured = captured,
                            .payload_length = length,
                            .window = 60000,
                            .ttl = 60,
                            .has_ip_id = true,
                            .ip_id = ++ip_id};
    return flow_on_packet(&flow, side, &packet, &sink, now_us += 10);
}

static void open_at(uint32_t client, uint32_t server)
{
    flow_clear(&flow, &heard.budget);
    memset(&heard, 0, sizeof heard);
    heard.budget = 1 << 20;
    flow_init(&flow, false);
    now_us += 10000000;
    feed(SIDE_CLIENT, PACKET_SYN, client - 1, 0, NULL, 0, 0);
    feed(SIDE_SERVER, PACKET_SYN | PACKET_ACK, server - 1, client, NULL, 0, 0);
    feed(SIDE_CLIENT, PACKET_ACK, client, server, NULL, 0, 0);
}

static int end(void **state)
{
    (void)state;
    flow_clear(&flow, &heard.budget);
    return 0;
}

static uint8_t stream[STREAM_OCTETS];

static void fill_stream(void)
{
    for (size_t i = 0; i < sizeof stream; i++) {
        stream[i] = (uint8_t)random();
    }
}

/* Cuts the stream in pieces, repeats and stretches some, and mixes what is near. */
static void test_any_order_of_any_cut(void **state)
{
    (void)state;
    struct cut {
        size_t at, length;
    } cuts[2000];
    static const uint32_t starts[] = {1, 0xffffffff, 0xffffe000, 0x7fffff00, 0};
    for (unsigned round = 0; round < 300; round++) {
        srandom(round);
        fill_stream();
        size_t count = 0, at = 0;
        while (at < STREAM_OCTETS) {
            size_t length = 1 + (size_t)random() % (random() % 3 == 0 ? 1448 : 60);
            length = length < STREAM_OCTETS - at ? length : STREAM_OCTETS - at;
            size_t back =
                random() % 4 == 0 ? (size_t)random() % (at + 1 < 500 ? at + 1 : 500) : 0; /* overlaps */
            cuts[count++] = (struct cut){at - back, length + back};
            if (random() % 5 == 0) {
                cuts[count] = cuts[(size_t)random() % count];
                count++;
            }
            at += length;
        }
        for (size_t i = 0; i + 1 < count; i++) {
            size_t other = i + (size_t)random() % (count - i < 12 ? count - i : 12);
            struct cut swapped = cuts[i];
            cuts[i] = cuts[other];
            cuts[other] = swapped;
        }
        uint32_t first = starts[round % 5];
        open_at(first, 5000);
        for (size_t i = 0; i < count; i++) {
            feed(SIDE_CLIENT, PACKET_ACK, first + (uint32_t)cuts[i].at, 5000, stream + cuts[i].at,
                 cuts[i].length, cuts[i].length);
        }
        feed(SIDE_CLIENT, PACKET_ACK | PACKET_FIN, first + STREAM_OCTETS, 5000, NULL, 0, 0);
        assert_int_equal(heard.count[0], STREAM_OCTETS);
        assert_int_equal(heard.skipped[0], 0);
        assert_memory_equal(heard.octets[0], stream, STREAM_OCTETS);
        assert_int_equal(heard.fins[0], 1);
        assert_int_equal(heard.gaps, 0);
        assert_int_equal(heard.budget, 1 << 20);
    }
}

/* A FIN before its octets waits for them. */
static void test_fin_waits(void **state)
{
    (void)state;
    open_at(100, 200);
    feed(SIDE_CLIENT, PACKET_ACK | PACKET_FIN, 105, 200, (const uint8_t *)"67890", 5, 5);
    assert_int_equal(heard.fins[0], 0);
    feed(SIDE_CLIENT, PACKET_ACK, 100, 200, (const uint8_t *)"12345", 5, 5);
    assert_int_equal(heard.fins[0], 1);
    assert_memory_equal(heard.octets[0], "1234567890", 10);
}

/* A reply captured before the command it answers waits for it. */
static void test_an_answer_waits_for_its_question(void **state)
{
    (void)state;
    open_at(100, 200);
    feed(SIDE_SERVER, PACKET_ACK, 200, 106, (const uint8_t *)"250\r\n", 5, 5);
    assert_string_equal(heard.order, "");
    feed(SIDE_CLIENT, PACKET_ACK, 100, 200, (const uint8_t *)"NOOP\r\n", 6, 6);
    assert_string_equal(heard.order, "cs");
    assert_int_equal(heard.gaps, 0);
}

/* ... but not longer than the grace: then it passed unseen. */
static void test_unseen_and_acknowledged_is_a_gap(void **state)
{
    (void)state;
    open_at(100, 200);
    feed(SIDE_SERVER, PACKET_ACK, 200, 106, (const uint8_t *)"250\r\n", 5, 5);
    uint64_t due_us = flow_deadline_us(&flow);
    assert_true(due_us > now_us && due_us <= now_us + FLOW_GRACE_US);
    flow_on_deadline(&flow, &sink, due_us - 1);
    assert_int_equal(heard.gaps, 0);
    flow_on_deadline(&flow, &sink, due_us);
    assert_int_equal(heard.gaps, 1);
    assert_int_equal(heard.skipped[0], 6);
    assert_string_equal(heard.order, "s");
    assert_true(flow.sides[0].flags & FLOW_SIDE_GAP);
    assert_false(flow.sides[0].flags & (FLOW_SIDE_LOST_BEFORE | FLOW_SIDE_LOST_AFTER));
    assert_int_equal(flow_deadline_us(&flow), UINT64_MAX);
}

/* A hole that nobody acknowledged is no gap of ours. */
static void test_a_hole_is_waited_for(void **state)
{
    (void)state;
    open_at(100, 200);
    feed(SIDE_CLIENT, PACKET_ACK, 200, 200, (const uint8_t *)"later", 5, 5);
    assert_int_equal(flow_deadline_us(&flow), UINT64_MAX);
    assert_int_equal(flow_missing_octets(&flow, SIDE_CLIENT, false), 100);
    flow_finish(&flow, &sink, now_us);
    assert_int_equal(heard.count[0], 0);
    assert_int_equal(heard.gaps, 0);
}

static void test_cut_payload_is_skipped(void **state)
{
    (void)state;
    open_at(100, 200);
    feed(SIDE_CLIENT, PACKET_ACK, 100, 200, (const uint8_t *)"MAIL", 4, 1000);
    feed(SIDE_CLIENT, PACKET_ACK, 1100, 200, (const uint8_t *)"more", 4, 4);
    assert_int_equal(heard.count[0], 1004);
    assert_int_equal(heard.skipped[0], 996);
    assert_true(flow.sides[0].flags & FLOW_SIDE_GAP);
}

/* Beyond the bound nothing is kept, and the count still fits. */
static void test_bound_of_octets(void **state)
{
    (void)state;
    static uint8_t block[1000];
    const uint32_t blocks = 120;
    for (unsigned round = 0; round < 2; round++) {
        open_at(1, 200);
        if (round == 1) {
            heard.budget = 5000;
        }
        for (uint32_t i = 1; i < blocks; i++) {
            memset(block, (int)i, sizeof block);
            feed(SIDE_CLIENT, PACKET_ACK, 1 + i * 1000, 200, block, sizeof block, sizeof block);
        }
        uint32_t kept;
        (void)stream_kept(&flow.sides[0], &kept);
        assert_true(kept <= (round == 1 ? 5000u : (uint32_t)FLOW_KEPT_OCTETS));
        assert_true(flow.sides[0].flags & FLOW_SIDE_UNKEPT);
        memset(block, 0, sizeof block);
        feed(SIDE_CLIENT, PACKET_ACK, 1, 200, block, sizeof block, sizeof block);
        feed(SIDE_SERVER, PACKET_ACK, 200, 1 + blocks * 1000, NULL, 0, 0);
        flow_finish(&flow, &sink, now_us);
        assert_int_equal(heard.count[0], blocks * 1000);
        assert_true(heard.skipped[0] >= 50000);
        assert_int_equal(heard.octets[0][1500], 1);
        assert_int_equal(heard.budget, round == 1 ? 5000 : 1 << 20);
    }
}

static void test_bound_of_pieces(void **state)
{
    (void)state;
    open_at(1, 200);
    for (uint32_t i = 1; i < 500; i++) {
        feed(SIDE_CLIENT, PACKET_ACK, 1 + i * 20, 200, (const uint8_t *)"0123456789", 10, 10);
        uint32_t kept;
        assert_true(stream_kept(&flow.sides[0], &kept) <= FLOW_PIECES);
    }
    feed(SIDE_SERVER, PACKET_ACK, 200, 1 + 499 * 20 + 10, NULL, 0, 0);
    flow_finish(&flow, &sink, now_us);
    assert_int_equal(heard.count[0], 499 * 20 + 10);
}

static void test_a_repetition_with_other_octets_is_noted(void **state)
{
    (void)state;
    open_at(100, 200);
    feed(SIDE_CLIENT, PACKET_ACK, 100, 200, (const uint8_t *)"MAIL A", 6, 6);
    feed(SIDE_CLIENT, PACKET_ACK, 100, 200, (const uint8_t *)"MAIL A", 6, 6);
    assert_false(flow.sides[0].flags & FLOW_SIDE_DIFFERS);
    feed(SIDE_CLIENT, PACKET_ACK, 100, 200, (const uint8_t *)"MAIL B", 6, 6);
    assert_true(flow.sides[0].flags & FLOW_SIDE_DIFFERS);
    assert_memory_equal(heard.octets[0], "MAIL A", 6); /* what came first counts */
    open_at(100, 200);
    feed(SIDE_CLIENT, PACKET_ACK, 110, 200, (const uint8_t *)"out of order", 12, 12);
    feed(SIDE_CLIENT, PACKET_ACK, 130, 200, (const uint8_t *)"more", 4, 4);
    feed(SIDE_CLIENT, PACKET_ACK, 112, 200, (const uint8_t *)"T of", 4, 4);
    assert_true(flow.sides[0].flags & FLOW_SIDE_DIFFERS);
}

static void test_far_segments_are_strays(void **state)
{
    (void)state;
    open_at(100, 200);
    assert_int_equal(
        feed(SIDE_CLIENT, PACKET_ACK, 100 + FLOW_SPAN_OCTETS + 1, 200, (const uint8_t *)"x", 1, 1),
        FLOW_STRAY);
    assert_int_equal(
        feed(SIDE_CLIENT, PACKET_ACK, 100, 200 + FLOW_SPAN_OCTETS + 1, (const uint8_t *)"x", 1, 1),
        FLOW_STRAY);
    assert_int_equal(heard.count[0], 0);
    assert_int_equal(feed(SIDE_CLIENT, PACKET_ACK, 100, 200, (const uint8_t *)"x", 1, 1), FLOW_TAKEN);
    assert_int_equal(heard.count[0], 1);
}

static void test_midstream_begins_with_what_comes(void **state)
{
    (void)state;
    flow_clear(&flow, &heard.budget);
    memset(&heard, 0, sizeof heard);
    heard.budget = 1 << 20;
    flow_init(&flow, true);
    feed(SIDE_SERVER, PACKET_ACK, 9000, 777, (const uint8_t *)"250\r\n", 5, 5);
    feed(SIDE_CLIENT, PACKET_ACK, 800, 9005, (const uint8_t *)"QUIT\r\n", 6, 6);
    assert_int_equal(heard.count[0], 6);
    assert_int_equal(heard.count[1], 5);
    assert_int_equal(heard.gaps, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_order_of_any_cut),
        cmocka_unit_test(test_fin_waits),
        cmocka_unit_test(test_an_answer_waits_for_its_question),
        cmocka_unit_test(test_unseen_and_acknowledged_is_a_gap),
        cmocka_unit_test(test_a_hole_is_waited_for),
        cmocka_unit_test(test_cut_payload_is_skipped),
        cmocka_unit_test(test_bound_of_octets),
        cmocka_unit_test(test_bound_of_pieces),
        cmocka_unit_test(test_a_repetition_with_other_octets_is_noted),
        cmocka_unit_test(test_far_segments_are_strays),
        cmocka_unit_test(test_midstream_begins_with_what_comes),
    };
    return cmocka_run_group_tests_name("reassembly", tests, NULL, end);
}
