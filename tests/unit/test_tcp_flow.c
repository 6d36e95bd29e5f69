/* One connection seen from its middle: what each packet proves about which leg. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "core/tcp/flow.h"

#define MS UINT64_C(1000)

static struct flow flow;
static uint64_t now_us;
static uint16_t ip_id;
static unsigned events[FLOW_EVENT_SHOWN + 1];
static enum side event_side;

static void on_octets(void *context, enum side side, const uint8_t *octets, size_t length, uint64_t when_us)
{
    (void)context;
    (void)side;
    (void)octets;
    (void)length;
    (void)when_us;
}

static void on_skipped(void *context, enum side side, uint64_t length, uint64_t when_us)
{
    (void)context;
    (void)side;
    (void)length;
    (void)when_us;
}

static void on_event(void *context, enum flow_event event, enum side side, uint64_t when_us)
{
    (void)context;
    (void)when_us;
    events[event]++;
    event_side = side;
}

static const struct flow_sink sink = {.octets = on_octets, .skipped = on_skipped, .event = on_event};
static const uint8_t filler[2000];

static struct packet make(uint8_t flags, uint32_t sequence, uint32_t acknowledgement, size_t length)
{
    return (struct packet){.kind = PACKET_TCP,
                           .flags = flags,
                           .sequence = sequence,
                           .acknowledgement = acknowledgement,
                           .payload = filler,
                           .payload_captured = length,
                           .payload_length = length,
                           .window = 500,
                           .ttl = 60,
                           .has_ip_id = true,
                           .ip_id = ++ip_id};
}

static enum flow_verdict feed(enum side side, struct packet packet)
{
    return flow_on_packet(&flow, side, &packet, &sink, now_us);
}

static enum flow_verdict client(uint8_t flags, uint32_t sequence, uint32_t acknowledgement, size_t length)
{
    return feed(SIDE_CLIENT, make(flags, sequence, acknowledgement, length));
}

static enum flow_verdict server(uint8_t flags, uint32_t sequence, uint32_t acknowledgement, size_t length)
{
    return feed(SIDE_SERVER, make(flags, sequence, acknowledgement, length));
}

static void wait_ms(uint64_t ms)
{
    now_us += ms * MS;
}

/* The client's first octet is 100, the server's 500; 20 ms to the server, 8 ms to the client. */
static void open_flow(void)
{
    flow_init(&flow, false);
    memset(events, 0, sizeof events);
    now_us = 1000000;
    struct packet syn = make(PACKET_SYN, 99, 0, 0);
    syn.options = PACKET_HAS_WINDOW_SCALE;
    syn.window_scale = 7;
    feed(SIDE_CLIENT, syn);
    wait_ms(20);
    syn = make(PACKET_SYN | PACKET_ACK, 499, 100, 0);
    syn.options = PACKET_HAS_WINDOW_SCALE;
    syn.window_scale = 2;
    feed(SIDE_SERVER, syn);
    wait_ms(8);
    client(PACKET_ACK, 100, 500, 0);
}

static struct flow_side *of(enum side side)
{
    return &flow.sides[side_index(side)];
}

static void test_handshake(void **state)
{
    (void)state;
    open_flow();
    assert_int_equal(flow.state, FLOW_ESTABLISHED);
    assert_int_equal(events[FLOW_EVENT_CONNECTED], 1);
    assert_int_equal(events[FLOW_EVENT_ESTABLISHED], 1);
    assert_int_equal(of(SIDE_CLIENT)->rtt_us, 20000);
    assert_int_equal(of(SIDE_SERVER)->rtt_us, 8000);
    assert_int_equal(of(SIDE_CLIENT)->window, 500u << 7);
    assert_int_equal(flow_unacked_octets(&flow, SIDE_CLIENT), 0);
}

/* The round trip goes on being measured; what was repeated is not (Karn). */
static void test_round_trip(void **state)
{
    (void)state;
    open_flow();
    client(PACKET_ACK, 100, 500, 10);
    wait_ms(100);
    server(PACKET_ACK, 500, 110, 0);
    assert_int_equal(of(SIDE_CLIENT)->rtt_us, 20000 - 2500 + 12500);
    assert_int_equal(of(SIDE_CLIENT)->rtt_least_us, 20000);
    client(PACKET_ACK, 110, 500, 10);
    wait_ms(300);
    client(PACKET_ACK, 110, 500, 10);
    wait_ms(1);
    server(PACKET_ACK, 500, 120, 0);
    assert_int_equal(of(SIDE_CLIENT)->rtt_us, 30000);
    assert_int_equal(of(SIDE_CLIENT)->rtt_least_us, 20000);
}

static void test_lost_after_us(void **state)
{
    (void)state;
    open_flow();
    client(PACKET_ACK, 100, 500, 10);
    uint64_t since_us = now_us;
    wait_ms(200);
    client(PACKET_ACK, 100, 500, 10);
    wait_ms(400);
    client(PACKET_ACK, 100, 500, 10);
    assert_int_equal(of(SIDE_CLIENT)->repeated_after, 2);
    assert_int_equal(of(SIDE_CLIENT)->repeated_before, 0);
    assert_int_equal(of(SIDE_CLIENT)->repeats, 2);
    assert_int_equal(of(SIDE_CLIENT)->unacked_since_us, since_us);
    assert_int_equal(flow_unacked_octets(&flow, SIDE_CLIENT), 10);
    assert_int_equal(events[FLOW_EVENT_STUCK], 1);
    server(PACKET_ACK, 500, 110, 0);
    assert_int_equal(events[FLOW_EVENT_FREED], 1);
    assert_int_equal(of(SIDE_CLIENT)->repeats, 0);
    assert_int_equal(of(SIDE_CLIENT)->unacked_since_us, 0);
}

/* Repeated though acknowledged: the acknowledgement was lost on the way back, on the client's leg. */
static void test_lost_acknowledgement(void **state)
{
    (void)state;
    open_flow();
    client(PACKET_ACK, 100, 500, 10);
    server(PACKET_ACK, 500, 110, 0);
    wait_ms(200);
    client(PACKET_ACK, 100, 500, 10);
    assert_int_equal(of(SIDE_CLIENT)->repeated_after, 0);
    assert_false(of(SIDE_CLIENT)->flags & FLOW_SIDE_LOST_AFTER);
    assert_true(of(SIDE_SERVER)->flags & FLOW_SIDE_LOST_AFTER);
}

static void test_lost_before_us(void **state)
{
    (void)state;
    open_flow();
    client(PACKET_ACK, 110, 500, 10);
    wait_ms(30);
    client(PACKET_ACK, 100, 500, 10);
    assert_int_equal(of(SIDE_CLIENT)->repeated_before, 1);
    assert_int_equal(of(SIDE_CLIENT)->repeated_after, 0);
    assert_true(of(SIDE_CLIENT)->flags & FLOW_SIDE_LOST_BEFORE);
    assert_int_equal(of(SIDE_CLIENT)->next, 120);
}

static void test_reordered(void **state)
{
    (void)state;
    open_flow();
    struct packet late = make(PACKET_ACK, 100, 500, 10);
    late.ip_id = 0; /* no ID to tell the order by */
    client(PACKET_ACK, 110, 500, 10);
    wait_ms(1); /* too soon for a repetition */
    feed(SIDE_CLIENT, late);
    assert_int_equal(of(SIDE_CLIENT)->repeated_before, 0);
    assert_true(of(SIDE_CLIENT)->flags & FLOW_SIDE_REORDERED);
    open_flow();
    client(PACKET_ACK, 110, 500, 10);
    wait_ms(1); /* soon, but sent later: a repetition on a short path */
    client(PACKET_ACK, 100, 500, 10);
    assert_int_equal(of(SIDE_CLIENT)->repeated_before, 1);
    assert_false(of(SIDE_CLIENT)->flags & FLOW_SIDE_REORDERED);
    open_flow();
    struct packet first = make(PACKET_ACK, 100, 500, 10); /* sent earlier: its IP ID says so */
    client(PACKET_ACK, 110, 500, 10);
    wait_ms(50);
    feed(SIDE_CLIENT, first);
    assert_int_equal(of(SIDE_CLIENT)->repeated_before, 0);
    assert_true(of(SIDE_CLIENT)->flags & FLOW_SIDE_REORDERED);
}

static void test_copies(void **state)
{
    (void)state;
    open_flow();
    struct packet packet = make(PACKET_ACK, 100, 500, 10);
    assert_int_equal(feed(SIDE_CLIENT, packet), FLOW_TAKEN);
    wait_ms(100);
    assert_int_equal(feed(SIDE_CLIENT, packet), FLOW_COPY); /* the same IP ID: no repetition by TCP */
    packet.ttl--;
    assert_int_equal(feed(SIDE_CLIENT, packet), FLOW_COPY); /* seen on both of a router's interfaces */
    packet.ip_id = packet.has_ip_id = 0;
    assert_int_equal(feed(SIDE_CLIENT, packet), FLOW_TAKEN);
    now_us += FLOW_TWIN_BLIND_US / 2;
    assert_int_equal(feed(SIDE_CLIENT, packet), FLOW_COPY);
    wait_ms(200);
    assert_int_equal(feed(SIDE_CLIENT, packet), FLOW_TAKEN);
    assert_int_equal(of(SIDE_CLIENT)->repeated_after, 2);
    packet.options =
        PACKET_HAS_TIMESTAMP; /* of one timestamp: TCP cannot have repeated it, a slow router has passed it on */
    packet.timestamp_value = 77;
    wait_ms(200);
    assert_int_equal(feed(SIDE_CLIENT, packet), FLOW_TAKEN);
    now_us += FLOW_TWIN_STAMPED_US / 2;
    packet.ttl--;
    assert_int_equal(feed(SIDE_CLIENT, packet), FLOW_COPY);
    packet.timestamp_value = 78;
    assert_int_equal(feed(SIDE_CLIENT, packet), FLOW_TAKEN);
}

/* A capture on both sides of a router: a burst comes in, then the whole of it goes out. */
static void test_copies_behind_a_burst(void **state)
{
    (void)state;
    for (unsigned stamped = 0; stamped < 2; stamped++) {
        struct packet burst[12], again;
        open_flow();
        again = make(PACKET_ACK, 100, 500, 10);
        assert_int_equal(feed(SIDE_CLIENT, again), FLOW_TAKEN);
        assert_int_equal(feed(SIDE_CLIENT, again), FLOW_COPY); /* so it is known as such a capture */
        for (unsigned i = 0; i < 12; i++) {
            burst[i] = make(PACKET_ACK, 110 + i * 1448, 500, 1448);
            if (stamped) {
                burst[i].has_ip_id = false;
                burst[i].ip_id = 0;
                burst[i].options = PACKET_HAS_TIMESTAMP;
                burst[i].timestamp_value = 7 + i / 6;
            }
            assert_int_equal(feed(SIDE_CLIENT, burst[i]), FLOW_TAKEN);
        }
        for (unsigned i = 0; i < 12; i++) {
            now_us += 20;
            burst[i].ttl--;
            assert_int_equal(feed(SIDE_CLIENT, burst[i]), FLOW_COPY);
        }
        assert_int_equal(of(SIDE_CLIENT)->repeats, 0);
        wait_ms(200);
        again = burst[0]; /* the same octets, sent again */
        again.ip_id = stamped ? 0 : ++ip_id;
        again.timestamp_value = stamped ? 300 : 0;
        assert_int_equal(feed(SIDE_CLIENT, again), FLOW_TAKEN);
        assert_int_equal(of(SIDE_CLIENT)->repeats, 1);
    }
}

static struct packet make_without_id(uint32_t sequence, uint32_t acknowledgement, size_t length)
{
    struct packet packet = make(PACKET_ACK, sequence, acknowledgement, length);
    packet.has_ip_id = false;
    packet.ip_id = 0;
    return packet;
}

/* A swift dialogue without IP IDs, as in IPv6: replies of the same size, the same window, within a millisecond. */
static void test_swift_replies_are_no_copies(void **state)
{
    (void)state;
    for (uint32_t first = 0; first < 64; first++) {
        for (uint32_t command = 6; command <= 27; command++) {
            uint32_t at[SIDE_PAIR] = {100 + first, 500};
            flow_init(&flow, true);
            now_us = 1000000;
            for (unsigned reply = 0; reply < 4; reply++) {
                assert_int_equal(feed(SIDE_CLIENT, make_without_id(at[0], at[1], command)), FLOW_TAKEN);
                at[0] += command;
                assert_int_equal(feed(SIDE_SERVER, make_without_id(at[1], at[0], 14)), FLOW_TAKEN);
                at[1] += 14;
                now_us += 50;
            }
            assert_int_equal(of(SIDE_SERVER)->next, at[1]);
        }
    }
}

static void test_keepalives(void **state)
{
    (void)state;
    open_flow();
    for (size_t length = 0; length < 2; length++) {
        wait_ms(10000);
        client(PACKET_ACK, 99, 500, length);
    }
    assert_int_equal(of(SIDE_CLIENT)->unanswered, 2);
    assert_int_equal(of(SIDE_CLIENT)->repeated_after, 0);
    server(PACKET_ACK, 500, 100, 0);
    assert_int_equal(of(SIDE_CLIENT)->unanswered, 0);
    assert_int_equal(of(SIDE_SERVER)->clean_us, now_us);
}

/* A witness asks in the server's name whether the client lives: the server has not been heard by that. */
static void test_keepalives_of_a_witness(void **state)
{
    (void)state;
    open_flow();
    server(PACKET_ACK, 500, 100, 0);
    const uint64_t heard_us = of(SIDE_SERVER)->last_us, clean_us = of(SIDE_SERVER)->clean_us;
    wait_ms(10000);
    struct packet probe = make(PACKET_ACK, 499, 100, 0);
    probe.ttl--;
    assert_int_equal(feed(SIDE_SERVER, probe), FLOW_TAKEN);
    assert_int_equal(of(SIDE_SERVER)->unanswered, 1);
    assert_int_equal(of(SIDE_SERVER)->last_us, heard_us);
    assert_int_equal(of(SIDE_SERVER)->clean_us, clean_us);
    assert_int_equal(of(SIDE_SERVER)->ttl_low, 60);
    client(PACKET_ACK, 100, 500, 0);
    assert_int_equal(of(SIDE_SERVER)->unanswered, 0);
    wait_ms(10000);
    server(PACKET_ACK, 499, 100, 0); /* its own */
    assert_int_equal(of(SIDE_SERVER)->clean_us, now_us);
    assert_int_equal(of(SIDE_SERVER)->last_us, now_us);
}

static void test_closed_window(void **state)
{
    (void)state;
    open_flow();
    client(PACKET_ACK, 100, 500, 1000);
    struct packet packet = make(PACKET_ACK, 500, 1100, 0);
    packet.window = 0;
    feed(SIDE_SERVER, packet);
    assert_int_equal(events[FLOW_EVENT_WINDOW_CLOSED], 1);
    assert_int_equal(event_side, SIDE_SERVER);
    wait_ms(300);
    client(PACKET_ACK, 1100, 500, 1); /* a probe with an octet beyond the window, and again */
    wait_ms(300);
    client(PACKET_ACK, 1100, 500, 1);
    wait_ms(300);
    client(PACKET_ACK, 1100, 500, 1);
    assert_int_equal(of(SIDE_CLIENT)->repeats, 0);
    server(PACKET_ACK, 500, 1101, 0);
    assert_int_equal(events[FLOW_EVENT_WINDOW_OPENED], 1);
    assert_int_equal(of(SIDE_SERVER)->window, 500u << 2);
}

/* An old acknowledgement says nothing about the window now. */
static void test_old_windows_do_not_count(void **state)
{
    (void)state;
    open_flow();
    client(PACKET_ACK, 100, 500, 1000);
    server(PACKET_ACK, 500, 1100, 0);
    struct packet packet = make(PACKET_ACK, 500, 100, 0);
    packet.window = 0;
    feed(SIDE_SERVER, packet);
    assert_int_equal(events[FLOW_EVENT_WINDOW_CLOSED], 0);
}

/* What a pure acknowledgement shows (rule R2). */
static void test_missing_octets_are_shown(void **state)
{
    (void)state;
    open_flow();
    client(PACKET_ACK, 100, 500, 6);
    server(PACKET_ACK, 500, 106, 0);
    assert_int_equal(flow_missing_octets(&flow, SIDE_SERVER, false), 0);
    wait_ms(200);
    server(PACKET_ACK, 508, 106, 0);
    assert_int_equal(events[FLOW_EVENT_SHOWN], 1);
    assert_int_equal(flow_missing_octets(&flow, SIDE_SERVER, false), 8);
    server(PACKET_ACK, 500, 106, 8);
    assert_int_equal(flow_missing_octets(&flow, SIDE_SERVER, false), 0);
}

static void lose_big(bool echoes)
{
    open_flow();
    client(PACKET_ACK, 100, 500, 30);
    server(PACKET_ACK, 500, 130, 30);
    client(PACKET_ACK, 130, 530, 1448);
    client(PACKET_ACK, 1578, 530, 20);
    if (echoes) {
        struct packet packet = make(PACKET_ACK, 530, 130, 0);
        packet.sack_count = 1;
        packet.sack[0] = (struct packet_sack){.start = 1578, .end = 1598};
        feed(SIDE_SERVER, packet);
    }
    for (unsigned i = 0; i < 3; i++) {
        wait_ms(500);
        client(PACKET_ACK, 130, 530, 1448);
    }
}

static void test_only_big_lost(void **state)
{
    (void)state;
    lose_big(true);
    assert_true(flow_only_big_lost(&flow, SIDE_CLIENT));
    lose_big(false); /* nothing at all is heard: it need not be the size */
    assert_false(flow_only_big_lost(&flow, SIDE_CLIENT));
    server(PACKET_ACK, 530, 130, 10); /* now it is: the path lives */
    assert_true(flow_only_big_lost(&flow, SIDE_CLIENT));
    client(PACKET_ACK, 1578, 530, 20); /* a small one is repeated, too */
    assert_false(flow_only_big_lost(&flow, SIDE_CLIENT));
}

static void test_big_ones_got_through_before(void **state)
{
    (void)state;
    open_flow();
    client(PACKET_ACK, 100, 500, 1448);
    server(PACKET_ACK, 500, 1548, 0);
    client(PACKET_ACK, 1548, 500, 1448);
    for (unsigned i = 0; i < 3; i++) {
        wait_ms(500);
        client(PACKET_ACK, 1548, 500, 1448);
        server(PACKET_ACK, 500, 1548, 0);
    }
    assert_false(flow_only_big_lost(&flow, SIDE_CLIENT));
}

/* Heavy loss: never is everything acknowledged, but full segments get through now and then. */
static void test_big_ones_get_through_meanwhile(void **state)
{
    (void)state;
    for (unsigned by_sack = 0; by_sack < 2; by_sack++) {
        open_flow();
        client(PACKET_ACK, 100, 500, 10);
        server(PACKET_ACK, 500, 110, 0);
        for (unsigned i = 0; i < 3; i++) {
            client(PACKET_ACK, 110 + i * 1448, 500, 1448);
        }
        struct packet packet = make(PACKET_ACK, 500, by_sack ? 110 : 110 + 1448, 0);
        if (by_sack) {
            packet.sack[0] = (struct packet_sack){.start = 110 + 1448, .end = 110 + 2 * 1448};
            packet.sack_count = 1;
        }
        feed(SIDE_SERVER, packet);
        for (unsigned i = 0; i < 3; i++) {
            wait_ms(500);
            client(PACKET_ACK, packet.acknowledgement, 500, 1448);
            feed(SIDE_SERVER, packet);
        }
        assert_false(flow_only_big_lost(&flow, SIDE_CLIENT));
    }
}

static void test_resets(void **state)
{
    (void)state;
    open_flow();
    assert_int_equal(server(PACKET_RST, 500 + 900000, 0, 0), FLOW_STRAY);
    assert_int_equal(server(PACKET_RST, 499, 0, 0), FLOW_STRAY);
    assert_int_equal(events[FLOW_EVENT_RESET], 0);
    assert_true(of(SIDE_SERVER)->flags & FLOW_SIDE_RESET_STRAY);
    assert_int_equal(server(PACKET_RST, 500, 0, 0), FLOW_TAKEN);
    assert_int_equal(events[FLOW_EVENT_RESET], 1);
    assert_int_equal(flow.state, FLOW_CLOSED);
    assert_int_equal(flow_reset_fits(of(SIDE_SERVER)), 1);
    open_flow();
    struct packet packet = make(PACKET_RST, 500, 0, 0);
    packet.ttl = 61;
    feed(SIDE_SERVER, packet);
    assert_int_equal(flow_reset_fits(of(SIDE_SERVER)), -1);
    for (uint8_t ttl = 57; ttl <= 61; ttl++) {
        open_flow();
        packet = make(PACKET_ACK, 500, 100, 0);
        packet.ttl = 58; /* its packets come by several ways: the TTL proves nothing */
        feed(SIDE_SERVER, packet);
        packet = make(PACKET_RST, 500, 0, 0);
        packet.ttl = ttl;
        feed(SIDE_SERVER, packet);
        assert_int_equal(flow_reset_fits(of(SIDE_SERVER)), 0);
    }
}

static void test_octets_behind_a_reset(void **state)
{
    (void)state;
    open_flow();
    server(PACKET_RST, 500, 0, 0);
    server(PACKET_ACK, 500, 100, 10);
    assert_int_equal(flow_reset_fits(of(SIDE_SERVER)), -1);
}

static void test_refusal(void **state)
{
    (void)state;
    flow_init(&flow, false);
    memset(events, 0, sizeof events);
    client(PACKET_SYN, 99, 0, 0);
    assert_int_equal(server(PACKET_RST | PACKET_ACK, 0, 55, 0), FLOW_STRAY); /* answers something else */
    assert_int_equal(events[FLOW_EVENT_REFUSED], 0);
    assert_int_equal(server(PACKET_RST | PACKET_ACK, 0, 100, 0), FLOW_TAKEN);
    assert_int_equal(events[FLOW_EVENT_REFUSED], 1);
}

static void test_both_close(void **state)
{
    (void)state;
    open_flow();
    client(PACKET_FIN | PACKET_ACK, 100, 500, 0);
    assert_int_equal(events[FLOW_EVENT_FIN], 1);
    server(PACKET_ACK, 500, 101, 10); /* half closed: it still speaks */
    assert_int_equal(flow.state, FLOW_ESTABLISHED);
    server(PACKET_FIN | PACKET_ACK, 510, 101, 0);
    assert_int_equal(flow.state, FLOW_ESTABLISHED);
    client(PACKET_ACK, 101, 511, 0);
    assert_int_equal(flow.state, FLOW_CLOSED);
    assert_int_equal(client(PACKET_SYN, 777777, 0, 0), FLOW_RESTART);
}

/* A SYN into a living connection ends it only when the server takes it up. */
static void test_syn_into_a_living_connection(void **state)
{
    (void)state;
    open_flow();
    struct packet again = make(PACKET_SYN, 777777, 0, 0), syn;
    again.options = PACKET_HAS_WINDOW_SCALE | PACKET_HAS_MSS;
    again.window_scale = 9;
    again.mss = 1400;
    uint64_t then_us = now_us;
    assert_int_equal(feed(SIDE_CLIENT, again), FLOW_STRAY);
    wait_ms(20);
    assert_int_equal(server(PACKET_ACK, 500, 100, 0), FLOW_TAKEN);
    assert_int_equal(flow.state, FLOW_ESTABLISHED);
    assert_int_equal(server(PACKET_SYN | PACKET_ACK, 888, 777778, 0), FLOW_RESTART);
    /* What the SYN offered is not lost. */
    struct packet answer = make(PACKET_SYN | PACKET_ACK, 888, 777778, 0);
    answer.destination.port = 40000;
    assert_int_equal(flow_pending_syn(&flow, &answer, &syn, now_us), then_us);
    assert_int_equal(syn.sequence, 777777);
    assert_int_equal(syn.options, again.options);
    assert_int_equal(syn.window_scale, 9);
    assert_int_equal(syn.mss, 1400);
    assert_int_equal(syn.window, again.window);
    assert_int_equal(syn.ttl, again.ttl);
    assert_int_equal(syn.source.port, 40000);
    answer.acknowledgement++;
    assert_int_equal(flow_pending_syn(&flow, &answer, &syn, now_us), 0);
}

static void test_repeated_syns(void **state)
{
    (void)state;
    flow_init(&flow, false);
    client(PACKET_SYN, 99, 0, 0);
    wait_ms(1000);
    client(PACKET_SYN, 99, 0, 0);
    assert_int_equal(of(SIDE_CLIENT)->syn_count, 2);
    server(PACKET_SYN | PACKET_ACK, 499, 100, 0);
    assert_int_equal(of(SIDE_CLIENT)->rtt_us, 0); /* which SYN was answered cannot be told */
    wait_ms(1000);
    server(PACKET_SYN | PACKET_ACK, 499, 100, 0);
    assert_false(of(SIDE_SERVER)->flags & FLOW_SIDE_SYN_REPEATED_LATE);
    assert_int_equal(of(SIDE_SERVER)->repeats, 1);
    client(PACKET_ACK, 100, 500, 0);
    wait_ms(1000);
    server(PACKET_SYN | PACKET_ACK, 499, 100, 0);
    assert_false(of(SIDE_SERVER)->flags & FLOW_SIDE_SYN_REPEATED_LATE); /* one acknowledgement may be lost */
    client(PACKET_ACK, 100, 500, 0);
    wait_ms(2000);
    server(PACKET_SYN | PACKET_ACK, 499, 100, 0);
    assert_true(of(SIDE_SERVER)->flags & FLOW_SIDE_SYN_REPEATED_LATE);
}

static void test_one_way(void **state)
{
    (void)state;
    flow_init(&flow, false);
    memset(events, 0, sizeof events);
    client(PACKET_SYN, 99, 0, 0);
    assert_false(flow_one_way(&flow, SIDE_SERVER)); /* not answered, perhaps */
    client(PACKET_ACK, 100, 500, 0);
    client(PACKET_ACK, 100, 520, 10);
    client(PACKET_ACK, 110, 540, 10);
    assert_true(flow_one_way(&flow, SIDE_SERVER));
    assert_int_equal(events[FLOW_EVENT_GAP], 0);
    server(PACKET_ACK, 540, 120, 0);
    assert_false(flow_one_way(&flow, SIDE_SERVER));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshake),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_lost_after_us),
        cmocka_unit_test(test_lost_acknowledgement),
        cmocka_unit_test(test_lost_before_us),
        cmocka_unit_test(test_reordered),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_copies_behind_a_burst),
        cmocka_unit_test(test_swift_replies_are_no_copies),
        cmocka_unit_test(test_keepalives),
        cmocka_unit_test(test_keepalives_of_a_witness),
        cmocka_unit_test(test_closed_window),
        cmocka_unit_test(test_old_windows_do_not_count),
        cmocka_unit_test(test_missing_octets_are_shown),
        cmocka_unit_test(test_only_big_lost),
        cmocka_unit_test(test_big_ones_got_through_before),
        cmocka_unit_test(test_big_ones_get_through_meanwhile),
        cmocka_unit_test(test_resets),
        cmocka_unit_test(test_octets_behind_a_reset),
        cmocka_unit_test(test_refusal),
        cmocka_unit_test(test_both_close),
        cmocka_unit_test(test_syn_into_a_living_connection),
        cmocka_unit_test(test_repeated_syns),
        cmocka_unit_test(test_one_way),
    };
    return cmocka_run_group_tests_name("tcp_flow", tests, NULL, NULL);
}
