/* What a connection costs while nothing happens on it: its place in the table and what its session has allocated. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "core/tracker/tracker.h"
#include "nfq/watched.h"
#include "tests/unit/test_packets.h"

#define SESSIONS 2000u

/* glibc's own share of each allocation is in it. What is measured today, rounded up: a session that grows says so here. */
#define SESSION_OCTETS 496 /* allocated when a session begins, with what the packet hook keeps with it */
#define ENTRY_OCTETS   sizeof(struct flow_entry)

static uint16_t ip_id;

static void on_record(void *context, struct tracker_session *tracked, const struct record *record)
{
    (void)context;
    (void)tracked;
    (void)record;
}

static void feed(struct tracker *tracker, uint16_t port, bool client, uint8_t flags, uint32_t at[2],
                 const char *text, uint64_t now_us)
{
    uint8_t octets[512];
    size_t length =
        test_put_tcp(octets, &(struct test_tcp){.source = client ? "192.0.2.7" : "198.51.100.25",
                                                .destination = client ? "198.51.100.25" : "192.0.2.7",
                                                .source_port = client ? port : 25,
                                                .destination_port = client ? 25 : port,
                                                .sequence = at[client ? 0 : 1],
                                                .acknowledgement = at[client ? 1 : 0],
                                                .flags = flags,
                                                .ttl = 60,
                                                .window = 500,
                                                .ip_id = ++ip_id,
                                                .payload = text});

    tracker_on_packet(tracker, octets, length, length, now_us, 0);
    at[client ? 0 : 1] += (uint32_t)strlen(text) + ((flags & PACKET_SYN) ? 1 : 0);
}

/* Greeted, said EHLO, and waits. */
static void open_session(struct tracker *tracker, uint16_t port, uint64_t now_us)
{
    uint32_t at[2] = {100, 500};

    feed(tracker, port, true, PACKET_SYN, at, "", now_us);
    feed(tracker, port, false, PACKET_SYN | PACKET_ACK, at, "", now_us + 100);
    feed(tracker, port, true, PACKET_ACK, at, "", now_us + 200);
    feed(tracker, port, false, PACKET_ACK | PACKET_PSH, at, "220 server.test ESMTP\r\n", now_us + 300);
    feed(tracker, port, true, PACKET_ACK | PACKET_PSH, at, "EHLO client.test\r\n", now_us + 400);
    feed(tracker, port, false, PACKET_ACK | PACKET_PSH, at, "250-server.test\r\n250 PIPELINING\r\n",
         now_us + 500);
}

static void test_an_idle_session_is_small(void **state)
{
    static const struct policy_settings policy = {.ipv6_source_prefix = 64};
    const struct tracker_options options = {.mode = RECORD_NFQ,
                                            .policy = &policy,
                                            .max_flows = 2 * SESSIONS,
                                            .story_octets = sizeof(struct watched),
                                            .callbacks = {.record = on_record}};
    struct tracker *tracker = tracker_create(&options);
    struct tracker_stats stats;
    size_t before, each;

    (void)state;
    assert_non_null(tracker);
    tracker_set_port(tracker, 25, TRACKER_PORT_SMTP);
    before = mallinfo2().uordblks;
    for (uint32_t i = 0; i < SESSIONS; i++)
        open_session(tracker, (uint16_t)(10000 + i), 1000000 + i * 1000);
    each = (mallinfo2().uordblks - before) / SESSIONS;
    tracker_stats(tracker, &stats);
    assert_int_equal(stats.sessions, SESSIONS);
    print_message(
        "an idle session: %zu octets allocated, %zu in the table of connections; dialogue %zu, session %zu\n",
        each, ENTRY_OCTETS, sizeof(struct dialogue), sizeof(struct session));
    assert_true(each <= SESSION_OCTETS); /* 0 where a sanitizer allocates */
    tracker_finish(tracker, 10000000);
    tracker_destroy(tracker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_an_idle_session_is_small)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
