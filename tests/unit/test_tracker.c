/* From packets to sessions: which dialogues are taken for SMTP on a port nobody named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "core/tracker/tracker.h"
#include "tests/unit/test_packets.h"

struct turn {
    char by; /* 'c' or 's' */
    const char *text;
};

static unsigned records, opened, dropped;

static void on_record(void *context, struct tracker_session *tracked, const struct record *record)
{
    (void)context;
    (void)tracked;
    records += record->kind == RECORD_VERDICT ? 1 : 0;
}

static void on_step(void *context, struct tracker_session *tracked, enum tracker_step step, enum side side,
                    uint64_t now_us)
{
    (void)context;
    (void)tracked;
    (void)side;
    (void)now_us;
    opened += step == TRACKER_STEP_OPENED ? 1 : 0;
}

static void on_dropped(void *context, struct tracker_session *tracked)
{
    (void)context;
    (void)tracked;
    dropped++;
}

static void feed(struct tracker *tracker, bool client, uint8_t flags, uint32_t sequence,
                 uint32_t acknowledgement, const char *text, uint64_t now_us)
{
    static uint16_t ip_id;
    uint8_t octets[512];
    size_t length =
        test_put_tcp(octets, &(struct test_tcp){.source = client ? "192.0.2.7" : "198.51.100.25",
                                                .destination = client ? "198.51.100.25" : "192.0.2.7",
                                                .source_port = client ? 40000 : 7777,
                                                .destination_port = client ? 7777 : 40000,
                                                .sequence = sequence,
                                                .acknowledgement = acknowledgement,
                                                .flags = flags,
                                                .ttl = 60,
                                                .window = 500,
                                                .ip_id = ++ip_id,
                                                .payload = text});
    tracker_on_packet(tracker, octets, length, length, now_us, 0);
}

/* Returns how many sessions were taken for SMTP. */
static unsigned sessions_of(const struct turn *turns, bool any_port, bool with_handshake)
{
    static const struct policy_settings policy = {.ipv6_source_prefix = 64};
    struct tracker_options options = {
        .mode = RECORD_REPLAY,
        .policy = &policy,
        .max_flows = 16,
        .any_port = any_port,
        .callbacks = {.record = on_record, .step = on_step, .dropped = on_dropped}};
    struct tracker *tracker = tracker_create(&options);
    uint64_t now_us = 1000000;
    uint32_t at[2] = {100, 500};
    assert_non_null(tracker);
    records = opened = dropped = 0;
    if (with_handshake) {
        feed(tracker, true, PACKET_SYN, 99, 0, "", now_us += 1000);
        feed(tracker, false, PACKET_SYN | PACKET_ACK, 499, 100, "", now_us += 1000);
        feed(tracker, true, PACKET_ACK, 100, 500, "", now_us += 1000);
    }
    for (; turns->text != NULL; turns++) {
        bool client = turns->by == 'c';
        unsigned own = client ? 0 : 1;
        feed(tracker, client, PACKET_ACK | PACKET_PSH, at[own], at[1 - own], turns->text, now_us += 1000);
        at[own] += (uint32_t)strlen(turns->text);
    }
    tracker_finish(tracker, now_us + 1000);
    struct tracker_stats stats;
    tracker_stats(tracker, &stats);
    assert_int_equal(stats.sessions, records);
    assert_int_equal(opened, records + dropped);
    tracker_destroy(tracker);
    return records;
}

#define TURNS(...)                                                                                           \
    (const struct turn[])                                                                                    \
    {                                                                                                        \
        __VA_ARGS__,                                                                                         \
        {                                                                                                    \
            0                                                                                                \
        }                                                                                                    \
    }

static void test_smtp_on_any_port(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool smtp;
        struct turn turns[6];
    } cases[] = {
        {"a greeting that says so", true, {{'s', "220 mx.test ESMTP Postfix\r\n"}, {'c', "QUIT\r\n"}}},
        {"... in its second line", true, {{'s', "220-mx.test\r\n220 SMTP\r\n"}}},
        {"LMTP", true, {{'s', "220 mx.test LMTP ready\r\n"}, {'c', "LHLO a\r\n"}}},
        {"a refusal that says so", true, {{'s', "554 mx.test ESMTP no service\r\n"}}},
        {"a masked greeting",
         true,
         {{'s', "220 ****************\r\n"}, {'c', "EHLO a\r\n"}, {'s', "250 a\r\n"}}},
        {"small letters", true, {{'s', "220 hello\r\n"}, {'c', "helo a\r\n"}}},
        {"an early talker", true, {{'c', "EHLO a\r\n"}, {'s', "220 hello\r\n"}}},
        {"FTP",
         false,
         {{'s', "220 ftp.test ready\r\n"}, {'c', "USER anonymous\r\n"}, {'s', "331 password\r\n"}}},
        {"POP3", false, {{'s', "+OK ready\r\n"}, {'c', "USER a\r\n"}}},
        {"IMAP", false, {{'s', "* OK IMAP4rev1\r\n"}, {'c', "a LOGIN b c\r\n"}}},
        {"NNTP", false, {{'s', "200 news.test\r\n"}, {'c', "MODE READER\r\n"}}},
        {"HTTP", false, {{'c', "GET / HTTP/1.1\r\n\r\n"}, {'s', "HTTP/1.1 200 OK\r\n\r\n"}}},
        {"HTTP that speaks of SMTP",
         false,
         {{'c', "GET /smtp HTTP/1.1\r\n\r\n"}, {'s', "HTTP/1.1 200 SMTP\r\n"}}},
        {"SSH", false, {{'s', "SSH-2.0-OpenSSH\r\n"}, {'c', "SSH-2.0-OpenSSH\r\n"}}},
        {"TLS", false, {{'c', "\x16\x03\x01\x02\x01"}, {'s', "\x16\x03\x03\x02\x01"}}},
        {"nothing but a number", false, {{'s', "220"}, {'c', "x"}}},
        {"nothing", false, {{0}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned count = sessions_of(cases[i].turns, true, true);
        if (count != (cases[i].smtp ? 1u : 0u)) {
            fail_msg("%s: %u sessions", cases[i].name, count);
        }
        assert_int_equal(sessions_of(cases[i].turns, false, true), 0); /* it must be asked for */
    }
}

/* Without its beginning: who the server is, its replies tell. */
static void test_any_port_in_the_middle(void **state)
{
    (void)state;
    assert_int_equal(sessions_of(TURNS({'s', "220 mx.test ESMTP\r\n"}, {'c', "EHLO a\r\n"}), true, false), 1);
    assert_int_equal(sessions_of(TURNS({'c', "EHLO a\r\n"}, {'s', "250 a\r\n"}), true, false), 1);
    assert_int_equal(sessions_of(TURNS({'c', "GET / HTTP/1.1\r\n"}, {'s', "HTTP/1.1 200\r\n"}), true, false),
                     0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_smtp_on_any_port),
        cmocka_unit_test(test_any_port_in_the_middle),
    };
    return cmocka_run_group_tests_name("tracker", tests, NULL, NULL);
}
