/* The table of connections: keys, populations, room, floods. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/tcp/flow_table.h"
#include "core/tracker/tracker.h"
#include "tests/unit/test_packets.h"

#define MAX_FLOWS 64

static const uint8_t seed[FLOW_TABLE_SEED_OCTETS] = {1, 2, 3};
static struct flow_table *table;
static unsigned evicted_count, evicted_live;

static void on_evict(void *context, struct flow_entry *entry)
{
    (void)context;
    evicted_count++;
    evicted_live += entry->population == FLOW_LIVE ? 1 : 0;
}

static int setup(void **state)
{
    (void)state;
    table = flow_table_create(MAX_FLOWS, seed, on_evict, NULL);
    evicted_count = evicted_live = 0;
    return table == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    flow_table_destroy(table);
    return 0;
}

static struct address make_address(uint32_t host, uint16_t port)
{
    struct address address = {.octets = {[10] = 0xff, [11] = 0xff}, .port = port};
    test_put32(address.octets + 12, host);
    return address;
}

static struct flow_entry *add(uint32_t host, enum flow_population population)
{
    struct address client = make_address(host, 40000), server = make_address(0xc6336419, 25);
    struct flow_entry *entry = flow_table_add(table, &client, &server, host);
    flow_table_move(table, entry, population);
    return entry;
}

static struct flow_entry *find(uint32_t host, bool from_client)
{
    struct address client = make_address(host, 40000), server = make_address(0xc6336419, 25);
    enum side sender;
    struct flow_entry *entry = from_client ? flow_table_find(table, &client, &server, &sender)
                                           : flow_table_find(table, &server, &client, &sender);
    if (entry != NULL) {
        assert_int_equal(sender, from_client ? SIDE_CLIENT : SIDE_SERVER);
    }
    return entry;
}

static void test_both_directions(void **state)
{
    (void)state;
    for (uint32_t host = 0xc6336410; host < 0xc6336420; host++) { /* below and above the server's address */
        struct flow_entry *entry = add(host, FLOW_LIVE);
        assert_ptr_equal(find(host, true), entry);
        assert_ptr_equal(find(host, false), entry);
        assert_int_equal(connection_end(&entry->connection, SIDE_CLIENT)->port, 40000);
        assert_int_equal(connection_end(&entry->connection, SIDE_SERVER)->port, 25);
        assert_int_equal(entry->connection.server.octets[15], 0x19);
    }
    assert_null(find(1, true));
}

static void test_removed_is_gone(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 1000; round++) {
        struct flow_entry *entry = add(round, FLOW_LIVE);
        assert_ptr_equal(find(round, true), entry);
        flow_table_remove(table, entry);
        assert_null(find(round, true));
    }
    assert_int_equal(evicted_count, 0);
    assert_int_equal(flow_table_count(table, FLOW_LIVE), 0);
}

static void test_half_open_push_out_each_other_only(void **state)
{
    (void)state;
    for (uint32_t host = 0; host < 40; host++) {
        add(host, FLOW_LIVE);
    }
    for (uint32_t host = 1000; host < 21000; host++) {
        add(host, FLOW_HALF_OPEN);
    }
    assert_int_equal(evicted_live, 0);
    assert_int_equal(flow_table_count(table, FLOW_LIVE), 40);
    assert_int_equal(flow_table_count(table, FLOW_HALF_OPEN), MAX_FLOWS / FLOW_TABLE_HALF_OPEN_PART);
    for (uint32_t host = 0; host < 40; host++) {
        assert_non_null(find(host, false));
    }
    assert_non_null(find(20999, true)); /* the newest stay */
    assert_null(find(1000, true));
}

static void test_closed_go_first_then_the_longest_silent(void **state)
{
    (void)state;
    for (uint32_t host = 0; host < MAX_FLOWS; host++) {
        add(host, host == 30 ? FLOW_OVER : FLOW_LIVE);
    }
    flow_table_touch(table, find(0, true), 1000);
    add(500, FLOW_LIVE);
    assert_null(find(30, true));
    add(501, FLOW_LIVE);
    assert_null(find(1, true));
    assert_non_null(find(0, true));
    assert_int_equal(evicted_count, 2);
}

/* Against a plain model. */
static void test_model(void **state)
{
    (void)state;
    static bool present[256];
    unsigned count = 0;
    memset(present, 0, sizeof present);
    srandom(7);
    for (unsigned step = 0; step < 200000; step++) {
        uint32_t host = (uint32_t)random() % 256;
        struct flow_entry *entry = find(host, (random() & 1) != 0);
        assert_int_equal(entry != NULL, present[host]);
        if (entry != NULL && (random() & 1)) {
            flow_table_remove(table, entry);
            present[host] = false;
            count--;
        } else if (entry != NULL) {
            flow_table_touch(table, entry, step);
        } else if (count < MAX_FLOWS / 2) {
            add(host, FLOW_LIVE);
            present[host] = true;
            count++;
        }
    }
    assert_int_equal(flow_table_count(table, FLOW_LIVE), count);
    assert_int_equal(evicted_count, 0);
}

static void test_memory_is_said(void **state)
{
    (void)state;
    assert_true(flow_table_memory_octets(1000) >= 1000 * sizeof(struct flow_entry));
    assert_true(flow_table_memory_octets(1000) < 1100 * (sizeof(struct flow_entry) + 8));
}

/* ---- a flood through the tracker ---- */

static unsigned mails;
static unsigned records;

static void on_record(void *context, struct tracker_session *tracked, const struct record *record)
{
    (void)context;
    (void)tracked;
    records++;
    if (record->mails_ok == 1 && record->verdict.cause == CAUSE_CLEAN) {
        mails++;
    }
}

struct talk {
    uint32_t client_at, server_at;
    uint16_t port;
};

static void say(struct tracker *tracker, struct talk *talk, bool client, uint8_t flags, const char *text,
                uint64_t now_us)
{
    uint8_t octets[512];
    static uint16_t ip_id;
    size_t length =
        test_put_tcp(octets, &(struct test_tcp){.source = client ? "192.0.2.7" : "198.51.100.25",
                                                .destination = client ? "198.51.100.25" : "192.0.2.7",
                                                .source_port = client ? talk->port : 25,
                                                .destination_port = client ? 25 : talk->port,
                                                .sequence = client ? talk->client_at : talk->server_at,
                                                .acknowledgement = client ? talk->server_at : talk->client_at,
                                                .flags = flags,
                                                .ttl = 60,
                                                .window = 500,
                                                .ip_id = ++ip_id,
                                                .payload = text});
    *(client ? &talk->client_at : &talk->server_at) +=
        (uint32_t)strlen(text) + ((flags & (PACKET_SYN | PACKET_FIN)) != 0 ? 1 : 0);
    tracker_on_packet(tracker, octets, length, length, now_us, 0);
}

/* What the network may throw at us: SYNs and invented segments from anywhere, resets, SYNs and acknowledgements in the names of
 * those that are talking, fragments without an end, nonsense. */
static void flood(struct tracker *tracker, const struct talk *talks, size_t talk_count, unsigned count,
                  uint64_t now_us)
{
    static uint64_t word = 88172645463325252u;
    uint8_t octets[64];
    size_t length = test_put_tcp(octets, &(struct test_tcp){.source = "10.0.0.0",
                                                            .destination = "198.51.100.25",
                                                            .destination_port = 25,
                                                            .ttl = 60,
                                                            .payload = "noise\r\n"});
    for (unsigned i = 0; i < count; i++) {
        word ^= word << 13; /* Marsaglia's xorshift */
        word ^= word >> 7;
        word ^= word << 17;
        uint32_t more = (uint32_t)(word * UINT64_C(0x9e3779b97f4a7c15) >> 32);
        unsigned kind = more % 16;
        memcpy(octets + 12, "\x0a", 1);
        memcpy(octets + 13, &word, 3);
        memcpy(octets + 20, (uint8_t *)&word + 3, 2);
        memcpy(octets + 24, &more, 4);
        memcpy(octets + 28, (uint8_t *)&word + 4, 4);
        octets[6] = kind == 14 ? 0x20 : 0x40;
        octets[33] = kind < 8 ? PACKET_SYN : (uint8_t)(more >> 8 & 0x1f);
        size_t size = kind < 8 ? 40 : length;
        if (kind == 12 || kind == 13) {
            memcpy(octets + 12, "\xc0\x00\x02\x07", 4);
            test_put16(octets + 20, talks[(more >> 8) % talk_count].port);
            octets[33] = kind == 12 ? PACKET_RST : PACKET_SYN;
            size = 40;
        }
        test_put16(octets + 2, (unsigned)size);
        if (kind == 15) {
            uint8_t nonsense[24];
            for (size_t at = 0; at < sizeof nonsense; at++) {
                nonsense[at] = (uint8_t)(word >> (at % 8 * 8)) ^ (uint8_t)(at * more);
            }
            tracker_on_packet(tracker, nonsense, sizeof nonsense, sizeof nonsense, now_us, 0);
        } else {
            tracker_on_packet(tracker, octets, size, size, now_us, 0);
        }
    }
}

/* What the program has from malloc(), the big pieces included; the sanitizers' malloc does not say. */
static size_t memory_octets(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

#define TALKS         40
#define FLOOD_PACKETS 1000000
#define FLOOD_FLOWS   4096

static void test_flood(void **state)
{
    (void)state;
    static const struct policy_settings policy = {.ipv6_source_prefix = 64};
    struct tracker_options options = {.mode = RECORD_REPLAY,
                                      .policy = &policy,
                                      .max_flows = FLOOD_FLOWS,
                                      .callbacks = {.record = on_record}};
    size_t before = memory_octets(), most = 0;
    struct tracker *tracker = tracker_create(&options);
    struct talk talks[TALKS];
    uint64_t now_us = 1000000;
    assert_non_null(tracker);
    tracker_set_port(tracker, 25, TRACKER_PORT_SMTP);
    static const struct {
        bool client;
        const char *text;
    } lines[] = {{false, "220 a\r\n"},       {true, "EHLO b\r\n"},     {false, "250 a\r\n"},
                 {true, "MAIL FROM:<>\r\n"}, {false, "250 ok\r\n"},    {true, "RCPT TO:<a@b>\r\n"},
                 {false, "250 ok\r\n"},      {true, "DATA\r\n"},       {false, "354 go\r\n"},
                 {true, "x\r\n.\r\n"},       {false, "250 taken\r\n"}, {true, "QUIT\r\n"},
                 {false, "221 bye\r\n"}};
    mails = records = 0;
    for (size_t i = 0; i < TALKS; i++) {
        talks[i] = (struct talk){.client_at = (uint32_t)random(), .server_at = (uint32_t)random()};
        talks[i].port = (uint16_t)(50000 + i);
        say(tracker, &talks[i], true, PACKET_SYN, "", now_us);
        say(tracker, &talks[i], false, PACKET_SYN | PACKET_ACK, "", now_us + 100);
        say(tracker, &talks[i], true, PACKET_ACK, "", now_us += 1000);
    }
    for (size_t line = 0; line < sizeof lines / sizeof lines[0]; line++) {
        flood(tracker, talks, TALKS, FLOOD_PACKETS / (sizeof lines / sizeof lines[0]), now_us += 1000);
        size_t now = memory_octets();
        most = now > before && now - before > most ? now - before : most;
        for (size_t i = 0; i < TALKS; i++) {
            say(tracker, &talks[i], lines[line].client, PACKET_ACK | PACKET_PSH, lines[line].text,
                now_us += 1000);
        }
    }
    for (size_t i = 0; i < TALKS; i++) {
        say(tracker, &talks[i], false, PACKET_ACK | PACKET_FIN, "", now_us += 1000);
        say(tracker, &talks[i], true, PACKET_ACK | PACKET_FIN, "", now_us += 1000);
        say(tracker, &talks[i], false, PACKET_ACK, "", now_us += 1000);
    }
    struct tracker_stats stats;
    tracker_stats(tracker, &stats);
    assert_true(stats.packets >= FLOOD_PACKETS - TALKS);
    assert_true(stats.flows_now <= FLOOD_FLOWS);
    assert_true(stats.half_open_now <= FLOOD_FLOWS / FLOW_TABLE_HALF_OPEN_PART);
    assert_true(most <= tracker_memory_octets(FLOOD_FLOWS, 0));
    print_message("%zu octets of at most %zu, a connection's entry %zu, its session %zu\n", most,
                  tracker_memory_octets(FLOOD_FLOWS, 0), sizeof(struct flow_entry),
                  sizeof(struct tracker_session));
    tracker_finish(tracker, now_us + 1000000);
    assert_int_equal(mails, TALKS);
    assert_true(records < TALKS + FLOOD_FLOWS); /* a SYN pushed out is no session: it fills no log */
    tracker_destroy(tracker);
}

static uint32_t seat;

static void note_seat(void *context, struct tracker_session *tracked, enum tracker_step step, enum side side,
                      uint64_t now_us)
{
    (void)context;
    (void)step;
    (void)side;
    (void)now_us;
    seat = tracked->session.connection->seat;
}

/* Whoever comes after a flood is still told from its neighbours. */
static void test_a_flood_keeps_no_seats(void **state)
{
    (void)state;
    static const struct policy_settings policy = {.ipv6_source_prefix = 64};
    struct limiter *limiter = limiter_create(1024, seed);
    struct tracker_options options = {.mode = RECORD_REPLAY,
                                      .policy = &policy,
                                      .limiter = limiter,
                                      .max_flows = 64,
                                      .callbacks = {.record = on_record, .step = note_seat}};
    struct tracker *tracker = tracker_create(&options);
    struct talk talk;
    uint64_t now_us = 1000000;
    assert_non_null(limiter);
    assert_non_null(tracker);
    tracker_set_port(tracker, 25, TRACKER_PORT_SMTP);
    for (uint32_t i = 0; i < NEIGHBOURS_SEATS + 100; i++) {
        talk = (struct talk){.port = (uint16_t)(1 + i % 60000)};
        say(tracker, &talk, true, PACKET_SYN, "", now_us += 10);
    }
    talk = (struct talk){.port = 61000};
    say(tracker, &talk, true, PACKET_SYN, "", now_us += 1000);
    say(tracker, &talk, false, PACKET_SYN | PACKET_ACK, "", now_us += 1000);
    assert_int_not_equal(seat, 0);
    tracker_finish(tracker, now_us);
    tracker_destroy(tracker);
    limiter_destroy(limiter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_both_directions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_removed_is_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_half_open_push_out_each_other_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_closed_go_first_then_the_longest_silent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_model, setup, teardown),
        cmocka_unit_test(test_memory_is_said),
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_a_flood_keeps_no_seats),
    };
    return cmocka_run_group_tests_name("flow_table", tests, NULL, NULL);
}
