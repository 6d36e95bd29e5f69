/* The bypass, with a kernel of one connection: what its rules let past the queue while the connection is marked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "core/tracker/tracker_internal.h"
#include "nfq/bypass.h"
#include "nfq/watched.h"
#include "nfq/segment.h"

#define MS      UINT64_C(1000)
#define SEGMENT 1448u
#define WINDOW  60000u

static struct tracker *tracker;
static struct bypass bypass;
static struct policy_settings policy;
static bool marked;                          /* the connection is */
static enum connection_marks_result marking; /* what the kernel says to it */
static uint64_t far_ms;                      /* the server is so far away */
static unsigned on_count;                    /* how often it was, or was to be */
static uint64_t now_us;
static uint32_t at[SIDE_PAIR];     /* next sequence number of each side */
static uint32_t acked[SIDE_PAIR];  /* of its octets, by the other */
static uint64_t queued, passed_by; /* octets */
static bool is_last;               /* of those read together */
static bool lost;                  /* what is sent does not arrive at the server, nor its answers here */
static struct verdict verdict;
static unsigned verdict_count;

static void on_record(void *context, struct tracker_session *tracked, const struct record *record)
{
    (void)context;
    (void)tracked;
    if (record->kind == RECORD_VERDICT) {
        verdict = record->verdict;
        verdict_count++;
    }
}

static enum connection_marks_result put_on(void *context, const struct connection *connection)
{
    (void)context;
    assert_int_equal(connection->client.port, 4000);
    assert_false(marked);
    on_count++;
    marked = marking == CONNECTION_MARKS_DONE;
    return marking;
}

static bool put_off(void *context, const struct connection *connection)
{
    (void)context;
    assert_int_equal(connection->server.port, 25);
    assert_true(marked);
    marked = marking == CONNECTION_MARKS_FAILED;
    return !marked;
}

/* The rules: rules/nfq.sh. */
static bool rules_pass_by(enum side side, const struct segment *segment)
{
    return marked && side == SIDE_CLIENT && segment->payload_length >= 512 &&
           !(segment->flags & (PACKET_SYN | PACKET_FIN | PACKET_RST)) &&
           segment->payload[segment->payload_length - 1] != '\n';
}

static void judge(void)
{
    bypass_on_packet(&bypass, tracker_latest(tracker), is_last, now_us);
}

static void cross(enum side side, struct segment *segment, const uint32_t *sack)
{
    static uint8_t octets[SEGMENT + 200];
    size_t length;

    if (rules_pass_by(side, segment)) {
        passed_by += segment->payload_length;
        return;
    }
    queued += segment->payload_length;
    length = segment_build(segment, octets, sizeof octets);
    assert_true(length > 0);
    if (sack != NULL) { /* behind the header, and its length with it */
        const uint8_t option[4] = {1, 1, 5, 10};
        memcpy(octets + length, option, 4);
        for (int i = 0; i < 2; i++) {
            uint32_t edge = htonl(sack[i]);
            memcpy(octets + length + 4 + 4 * i, &edge, 4);
        }
        octets[20 + 12] = 8 << 4;
        length += 12;
        octets[3] = (uint8_t)length;
    }
    tracker_on_packet(tracker, octets, length, length, now_us, 0);
    judge();
}

static struct segment make(enum side side, uint8_t flags, uint32_t sequence, const void *payload,
                           size_t length)
{
    static const uint8_t client[4] = {192, 0, 2, 1}, server[4] = {192, 0, 2, 2};
    struct segment segment = {.sequence = sequence,
                              .acknowledgement = at[side_index(side_other(side))],
                              .window = WINDOW,
                              .flags = flags,
                              .ttl = 60,
                              .payload = payload,
                              .payload_length = length};
    struct address *ends[2] = {&segment.source, &segment.destination};

    for (int i = 0; i < 2; i++) {
        bool is_client = (side == SIDE_CLIENT) == (i == 0);
        memset(ends[i]->octets + 10, 0xff, 2);
        memcpy(ends[i]->octets + 12, is_client ? client : server, 4);
        ends[i]->port = is_client ? 4000 : 25;
    }
    return segment;
}

static void send_octets(enum side side, uint8_t flags, const void *payload, size_t length)
{
    struct segment segment = make(side, flags | PACKET_ACK, at[side_index(side)], payload, length);

    now_us += side == SIDE_SERVER ? (far_ms + 1) * MS : MS;
    cross(side, &segment, NULL);
    at[side_index(side)] += (uint32_t)length;
}

static void say(enum side side, const char *text)
{
    send_octets(side, PACKET_PSH, text, strlen(text));
}

static void server_acknowledges(void)
{
    send_octets(SIDE_SERVER, 0, NULL, 0);
    acked[0] = at[0];
}

/* `count` segments of a body without a line end at their ends; every other one is acknowledged at once. */
static void send_body(unsigned count)
{
    static uint8_t octets[SEGMENT];

    memset(octets, 'x', sizeof octets);
    memcpy(octets + 70, "\r\n", 2);
    for (unsigned i = 0; i < count; i++) {
        send_octets(SIDE_CLIENT, 0, octets, sizeof octets);
        if (!lost && i % 2 == 1)
            server_acknowledges();
    }
}

static void open_session(void)
{
    struct segment syn;

    at[0] = 0xfff00000u; /* it wraps in the midst of the body */
    at[1] = 500;
    syn = make(SIDE_CLIENT, PACKET_SYN, at[0] - 1, NULL, 0);
    cross(SIDE_CLIENT, &syn, NULL);
    now_us += far_ms * MS;
    syn = make(SIDE_SERVER, PACKET_SYN | PACKET_ACK, at[1] - 1, NULL, 0);
    cross(SIDE_SERVER, &syn, NULL);
    send_octets(SIDE_CLIENT, 0, NULL, 0);
    say(SIDE_SERVER, "220 server.test ESMTP\r\n");
    say(SIDE_CLIENT, "EHLO client.test\r\n");
    say(SIDE_SERVER, "250-server.test\r\n250 CHUNKING\r\n");
}

static void ask(const char *command, const char *answer)
{
    say(SIDE_CLIENT, command);
    say(SIDE_SERVER, answer);
}

static void envelope(void)
{
    ask("MAIL FROM:<a@client.test>\r\n", "250 ok\r\n");
    ask("RCPT TO:<b@server.test>\r\n", "250 ok\r\n");
}

/* The same, with SIZE in MAIL. */
static void announce(const char *size)
{
    char text[64];

    snprintf(text, sizeof text, "MAIL FROM:<a@client.test> SIZE=%s\r\n", size);
    ask(text, "250 ok\r\n");
    ask("RCPT TO:<b@server.test>\r\n", "250 ok\r\n");
}

static void close_session(void)
{
    ask("QUIT\r\n", "221 bye\r\n");
    send_octets(SIDE_SERVER, PACKET_FIN, NULL, 0);
    at[1]++;
    send_octets(SIDE_CLIENT, PACKET_FIN, NULL, 0);
    at[0]++;
    send_octets(SIDE_SERVER, 0, NULL, 0);
}

static void finish(void)
{
    tracker_finish(tracker, now_us);
    assert_int_equal(verdict_count, 1);
}

/* Time in which no packet comes. */
static void pass(uint64_t ms)
{
    const uint64_t until_us = now_us + ms * MS;

    while (now_us < until_us) {
        uint64_t due_us = bypass_deadline_us(&bypass);

        now_us = due_us <= now_us ? now_us + 1 : due_us < until_us ? due_us : until_us;
        tracker_on_deadline(tracker, now_us);
        bypass_on_deadline(&bypass, now_us);
    }
}

/* A session up to the midst of a body that is large enough to pass by. */
static void open_body(void)
{
    open_session();
    envelope();
    ask("DATA\r\n", "354 go\r\n");
    send_body(200);
}

static int setup(void **state)
{
    (void)state;
    struct tracker_options options = {.mode = RECORD_NFQ,
                                      .policy = &policy,
                                      .max_flows = 64,
                                      .story_octets = sizeof(struct watched),
                                      .probing = true,
                                      .callbacks = {.record = on_record}};
    tracker = tracker_create(&options);
    assert_non_null(tracker);
    tracker_set_port(tracker, 25, TRACKER_PORT_SMTP);
    memset(&bypass, 0, sizeof bypass);
    bypass.enabled = true;
    bypass.kernel = (struct bypass_kernel){.put_on = put_on, .put_off = put_off};
    marked = false;
    marking = CONNECTION_MARKS_DONE;
    on_count = 0;
    far_ms = 0;
    now_us = 1000000;
    queued = passed_by = 0;
    verdict_count = 0;
    lost = false;
    is_last = true;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tracker_finish(tracker, now_us);
    tracker_destroy(tracker);
    return 0;
}

static const struct flow *the_flow(void)
{
    assert_non_null(tracker_latest(tracker)->entry);
    return &tracker_latest(tracker)->entry->flow;
}

static const struct tracker_session *the_session(void)
{
    return tracker_latest(tracker)->entry->user;
}

static void test_most_of_a_body_passes_by(void **state)
{
    (void)state;
    open_session();
    for (int mail = 0; mail < 2; mail++) {
        envelope();
        ask("DATA\r\n", "354 go\r\n");
        assert_false(marked);
        send_body(2001);
        assert_true(marked);
        say(SIDE_CLIENT, "the end\r\n.\r\n");
        assert_int_equal(the_session()->session.dialogue.phase, PHASE_BODY); /* until it is acknowledged */
        server_acknowledges();
        assert_int_equal(the_session()->session.dialogue.phase, PHASE_END_OF_DATA);
        assert_false(marked);
        say(SIDE_SERVER, "250 queued\r\n");
    }
    assert_true(passed_by > 2 * 2000 * SEGMENT * 9 / 10);
    assert_int_equal(the_session()->session.dialogue.octets[0], at[0] - 0xfff00000u);
    close_session();
    finish();
    assert_int_equal(verdict.cause, CAUSE_CLEAN);
    assert_int_equal(verdict.confidence, CONFIDENCE_CERTAIN);
    assert_false(verdict.notes & NOTE_RESYNCED);
    assert_true(bypass.started_count >= 1);
}

/* A client that says SIZE waits for 354 with nothing under way: not one segment is overtaken. */
static void test_an_announced_body_passes_by_from_the_354_on(void **state)
{
    (void)state;
    open_session();
    is_last = false;
    announce("262144");
    say(SIDE_CLIENT, "DATA\r\n");
    assert_false(marked);
    say(SIDE_SERVER, "354 go\r\n");
    assert_true(marked);
    send_body(181);
    assert_true(passed_by == 181 * SEGMENT);
    say(SIDE_CLIENT, "the end\r\n.\r\n");
    server_acknowledges();
    assert_int_equal(the_session()->session.dialogue.phase, PHASE_END_OF_DATA);
    assert_false(marked);
    say(SIDE_SERVER, "250 queued\r\n");
    close_session();
    finish();
    assert_int_equal(verdict.cause, CAUSE_CLEAN);
    assert_int_equal(verdict.confidence, CONFIDENCE_CERTAIN);
    assert_false(verdict.notes & NOTE_RESYNCED);
}

/* It did not wait: what it has sent is in the queue behind the 354, and would be overtaken. */
static void test_a_body_sent_before_the_354_is_not_overtaken(void **state)
{
    (void)state;
    open_session();
    is_last = false;
    announce("262144");
    say(SIDE_CLIENT, "DATA\r\n");
    const uint32_t behind_data = at[0];
    say(SIDE_CLIENT, "Subject: to");
    at[0] = behind_data; /* as far as the server has read */
    say(SIDE_SERVER, "354 go\r\n");
    assert_false(marked);
}

static void test_a_small_body_announced_is_looked_at(void **state)
{
    (void)state;
    open_session();
    announce("262143");
    ask("DATA\r\n", "354 go\r\n");
    assert_false(marked);
    send_body(40);
    assert_int_equal(passed_by, 0);
    say(SIDE_CLIENT, "the end\r\n.\r\n");
    say(SIDE_SERVER, "250 queued\r\n");
    /* the size is of that mail, not of the next */
    envelope();
    ask("DATA\r\n", "354 go\r\n");
    assert_false(marked);
}

/* Announced, and refused: there is no body. */
static void test_an_announced_body_that_is_refused_is_none(void **state)
{
    (void)state;
    open_session();
    announce("99999999");
    ask("DATA\r\n", "452 4.3.1 no room\r\n");
    assert_false(marked);
    ask("MAIL FROM:<a@client.test> SIZE=99999999\r\n", "250 ok\r\n");
    ask("RSET\r\n", "250 ok\r\n");
    envelope();
    ask("DATA\r\n", "354 go\r\n");
    assert_false(marked);
}

/* What repeats itself before the body does not begin unseen. */
static void test_an_announced_body_on_a_lossy_path_is_looked_at(void **state)
{
    (void)state;
    open_session();
    announce("99999999");
    say(SIDE_CLIENT, "DATA\r\n");
    struct segment again = make(SIDE_CLIENT, PACKET_PSH | PACKET_ACK, at[0] - 6, "DATA\r\n", 6);
    now_us += 300 * MS;
    again.ip_id = 77;
    cross(SIDE_CLIENT, &again, NULL);
    say(SIDE_SERVER, "354 go\r\n");
    assert_false(marked);
    send_body(60); /* then it is few losses for so many octets */
    assert_true(marked);
}

static void test_an_unseen_end_is_told_by_the_reply(void **state)
{
    (void)state;
    open_body();
    assert_true(marked);
    at[0] += 700; /* ...CRLF.CRLF, unseen */
    say(SIDE_SERVER, "250 queued\r\n");
    assert_false(marked);
    assert_int_equal(the_session()->session.dialogue.mails.ok, 1);
    close_session();
    finish();
    assert_int_equal(verdict.cause, CAUSE_CLEAN);
    assert_true(verdict.notes & NOTE_RESYNCED);
}

static void stall_of_the_client(void)
{
    struct segment answer;

    now_us += 10000 * MS;
    tracker_on_deadline(tracker, now_us);
    answer = make(SIDE_CLIENT, PACKET_ACK, at[0], NULL, 0); /* to a probe */
    cross(SIDE_CLIENT, &answer, NULL);
    now_us += 10000 * MS;
    say(SIDE_SERVER, "421 4.4.2 timeout exceeded\r\n");
    send_octets(SIDE_CLIENT, 0, NULL, 0);
    send_octets(SIDE_SERVER, PACKET_FIN, NULL, 0);
}

static void test_a_client_that_stops_is_known(void **state)
{
    (void)state;
    open_body();
    stall_of_the_client();
    finish();
    assert_int_equal(verdict.fault, FAULT_CLIENT);
    assert_int_equal(verdict.cause, CAUSE_BODY_STALL);
    assert_int_equal(verdict.phase, PHASE_BODY);
    assert_int_equal(verdict.confidence, CONFIDENCE_CERTAIN);
}

/* Little came behind what was not seen: it may have been QUIT behind the dot. Nobody is accused. */
static void test_a_doubtful_end_accuses_nobody(void **state)
{
    (void)state;
    open_body();
    send_octets(SIDE_CLIENT, PACKET_PSH, "IT\r\n", 4);
    server_acknowledges();
    stall_of_the_client();
    finish();
    assert_int_equal(verdict.fault, FAULT_UNKNOWN);
}

/* Octets the server has not acknowledged may have passed here or not: no loss before us is read from them. */
static void test_a_client_that_stops_in_a_line_is_known(void **state)
{
    (void)state;
    open_body();
    send_octets(SIDE_CLIENT, PACKET_PSH, "in the midst of", 15);
    server_acknowledges();
    stall_of_the_client();
    finish();
    assert_int_equal(verdict.fault, FAULT_CLIENT);
    assert_int_equal(verdict.cause, CAUSE_BODY_STALL);
}

static void test_what_is_not_acknowledged_tells_nothing(void **state)
{
    (void)state;
    open_body();
    lost = true;
    send_body(10);
    struct segment position = make(SIDE_CLIENT, PACKET_ACK, at[0], NULL, 0);
    cross(SIDE_CLIENT, &position, NULL);
    assert_int_equal(flow_missing_octets(the_flow(), SIDE_CLIENT, false), 0);
    server_acknowledges();
    assert_int_equal(the_session()->session.dialogue.octets[0], at[0] - 0xfff00000u);
    assert_false(the_flow()->sides[0].flags & (FLOW_SIDE_GAP | FLOW_SIDE_LOST_BEFORE | FLOW_SIDE_LOST_AFTER));
}

/* Behind us nothing gets through any more: RFC 6298's repetitions, from the first on that comes after a look. */
static void repeat_in_vain(uint32_t hole)
{
    static uint8_t octets[SEGMENT];
    (void)memset(octets, 'x', sizeof octets);
    for (unsigned i = 0; i < 6; i++) {
        struct segment again = make(SIDE_CLIENT, PACKET_ACK, hole, octets, sizeof octets);
        pass(UINT64_C(400) << i);
        const uint64_t before = passed_by;
        cross(SIDE_CLIENT, &again, NULL);
        assert_int_equal(passed_by, before);
    }
}

/* The server's network dies in mid-body: the repetitions are few, come to the queue, and tell. */
static void test_a_dead_server_side_is_known(void **state)
{
    (void)state;
    open_body();
    uint32_t hole = at[0];
    lost = true;
    send_body(10);
    repeat_in_vain(hole);
    send_octets(SIDE_CLIENT, PACKET_RST, NULL, 0);
    finish();
    assert_int_equal(verdict.fault, FAULT_SERVER_NETWORK);
    assert_int_equal(verdict.phase, PHASE_BODY);
}

/* The client's full segments are lost before us from the first one on: nothing of the body comes here, but what is small
 * shows that it was sent. */
static void lose_a_body_before_us(void)
{
    open_session();
    announce("262144");
    ask("DATA\r\n", "354 go\r\n");
    assert_true(marked);
    send_octets(SIDE_CLIENT, 0, NULL, 0);
    at[0] += 10 * SEGMENT;
}

/* What the server says acknowledges nothing of them. */
static void say_without_them(const char *text, uint8_t flags)
{
    at[0] -= 10 * SEGMENT;
    send_octets(SIDE_SERVER, flags, text, strlen(text));
    at[0] += 10 * SEGMENT;
}

static void test_an_announced_body_lost_before_us_is_known(void **state)
{
    (void)state;
    lose_a_body_before_us();
    pass(10000);
    send_octets(SIDE_CLIENT, 0, NULL, 0); /* to a probe */
    pass(300000);
    say_without_them("421 4.4.2 timeout exceeded\r\n", PACKET_PSH);
    send_octets(SIDE_CLIENT, 0, NULL, 0);
    say_without_them("", PACKET_FIN);
    finish();
    assert_int_equal(verdict.fault, FAULT_CLIENT_NETWORK);
    assert_int_equal(verdict.cause, CAUSE_PATH_MTU_BLACK_HOLE);
}

static void test_who_gives_up_on_a_body_lost_before_us_is_not_accused(void **state)
{
    (void)state;
    lose_a_body_before_us();
    pass(60000);
    send_octets(SIDE_CLIENT, PACKET_RST, NULL, 0);
    finish();
    assert_int_equal(verdict.fault, FAULT_CLIENT_NETWORK);
}

/* Not so when there was no time yet to acknowledge or repeat it. */
static void test_who_breaks_off_while_octets_are_under_way_is_known(void **state)
{
    (void)state;
    lose_a_body_before_us();
    pass(1500);
    send_octets(SIDE_CLIENT, PACKET_RST, NULL, 0);
    finish();
    assert_int_not_equal(verdict.fault, FAULT_CLIENT_NETWORK);
}

/* How many segments carried a body is told from the size of the large ones that are seen, not from the small ones alone. */
static void test_small_segments_tell_nothing_of_the_large_ones(void **state)
{
    (void)state;
    static uint8_t octets[SEGMENT];
    struct leg_evidence evidence;
    memset(octets, 'x', sizeof octets);
    open_session();
    announce("262144");
    ask("DATA\r\n", "354 go\r\n");
    for (unsigned i = 0; i < 100; i++) {
        send_body(2);
        send_octets(SIDE_CLIENT, PACKET_PSH, octets, 104);
        server_acknowledges();
    }
    tracker_evidence(the_session(), SIDE_CLIENT, now_us, now_us, &evidence);
    assert_int_equal(evidence.came_segments, 0); /* not known: no large one was seen */
    octets[sizeof octets - 1] = '\n';            /* these come to the queue */
    send_octets(SIDE_CLIENT, PACKET_PSH, octets, sizeof octets);
    send_octets(SIDE_CLIENT, PACKET_PSH, octets, 104);
    server_acknowledges();
    tracker_evidence(the_session(), SIDE_CLIENT, now_us, now_us, &evidence);
    assert_in_range(evidence.came_segments, 200, 220); /* of 303 */
}

/* Octets under way that passed unseen, and behind them the final dot, which came to the queue. */
static void open_unacknowledged_end(void)
{
    open_body();
    lost = true;
    send_body(10);
    say(SIDE_CLIENT, "the end\r\n.\r\n");
    assert_int_equal(the_session()->session.dialogue.phase, PHASE_BODY);
}

/* The server speaks or breaks off before it has acknowledged them: the client had said all. */
static void test_a_reset_behind_an_unacknowledged_end(void **state)
{
    (void)state;
    open_unacknowledged_end();
    send_octets(SIDE_SERVER, PACKET_RST, NULL, 0);
    finish();
    assert_int_equal(verdict.fault, FAULT_SERVER);
    assert_int_equal(verdict.phase, PHASE_END_OF_DATA);
    assert_int_equal(verdict.owed_by, SIDE_SERVER);
}

static void test_a_word_behind_an_unacknowledged_end(void **state)
{
    (void)state;
    open_unacknowledged_end();
    say_without_them("421 4.3.2 shutting down\r\n", PACKET_PSH);
    finish();
    assert_int_equal(verdict.fault, FAULT_SERVER);
    assert_int_equal(verdict.cause, CAUSE_SHUTDOWN);
    assert_int_equal(verdict.phase, PHASE_END_OF_DATA);
}

/* ... or its network dies then. */
static void test_a_dead_server_side_behind_the_end(void **state)
{
    (void)state;
    open_unacknowledged_end();
    repeat_in_vain(at[0] - 12 - 10 * SEGMENT);
    send_octets(SIDE_CLIENT, PACKET_RST, NULL, 0);
    finish();
    assert_int_equal(verdict.fault, FAULT_SERVER_NETWORK);
    assert_int_equal(verdict.phase, PHASE_END_OF_DATA);
}

/* When a repetition would have come long since, it may have been lost before us. */
static void test_an_end_behind_a_body_lost_before_us(void **state)
{
    (void)state;
    lose_a_body_before_us();
    say(SIDE_CLIENT, "the end\r\n.\r\n");
    pass(10000);
    send_octets(SIDE_CLIENT, 0, NULL, 0); /* to a probe */
    pass(300000);
    at[0] -= 12;
    say_without_them("421 4.4.2 timeout exceeded\r\n", PACKET_PSH);
    say_without_them("", PACKET_FIN);
    finish();
    assert_int_equal(verdict.fault, FAULT_CLIENT_NETWORK);
}

/* What is acknowledged only after a repetition of what passed unseen before it says nothing of the round trip. */
static void test_a_repair_is_no_round_trip(void **state)
{
    (void)state;
    static uint8_t octets[SEGMENT];
    memset(octets, 'x', sizeof octets);
    open_body();
    lost = true;
    const uint32_t hole = at[0];
    send_body(4);
    send_octets(SIDE_CLIENT, PACKET_PSH, "a line\r\n", 8);
    now_us += 1200 * MS;
    struct segment again = make(SIDE_CLIENT, PACKET_ACK, hole, octets, sizeof octets);
    uint8_t whole[SEGMENT + 200];
    size_t length = segment_build(&again, whole, sizeof whole);
    tracker_on_packet(tracker, whole, length, length, now_us, 0);
    judge();
    server_acknowledges();
    assert_true(the_flow()->sides[0].rtt_most_ticks * FLOW_RTT_TICK_US < 1000 * MS);
}

static void test_a_hole_at_the_server_puts_it_off(void **state)
{
    (void)state;
    open_body();
    assert_true(marked);
    struct segment echo = make(SIDE_SERVER, PACKET_ACK, at[1], NULL, 0);
    const uint32_t sack[2] = {at[0] + SEGMENT, at[0] + 2 * SEGMENT};
    cross(SIDE_SERVER, &echo, sack);
    assert_true(marked); /* overtaken, perhaps */
    now_us += BYPASS_HOLE_MS * MS;
    cross(SIDE_SERVER, &echo, sack);
    assert_false(marked);
    uint64_t before = passed_by;
    send_body(2);
    assert_int_equal(passed_by, before);
    assert_true(marked); /* all that was under way is acknowledged */
    send_body(4);
    assert_true(passed_by > before);
}

/* Nothing comes that could be a reason: the clock is one. What is repeated then is seen, and a body that goes on is let past
 * again, but not at once. */
static void test_a_body_that_stands_is_looked_at(void **state)
{
    (void)state;
    open_body();
    lost = true;
    send_body(10);
    pass(BYPASS_LOOK_MS - 20);
    assert_true(marked);
    pass(20 + BYPASS_TICK_US / 1000);
    assert_false(marked);
    assert_int_equal(bypass.busy_count, 0);
    assert_true(bypass_deadline_us(&bypass) == UINT64_MAX);
    lost = false;
    server_acknowledges();
    uint64_t before = passed_by;
    send_body(BYPASS_REST_OCTETS / SEGMENT - 12);
    assert_int_equal(passed_by, before);
    send_body(16);
    assert_true(marked);
}

/* What its client shows of it may have passed here, however late that is: only when nothing is repeated it has not. */
static void test_what_a_standing_body_shows_is_not_missing(void **state)
{
    (void)state;
    open_body();
    lost = true;
    const uint32_t hole = at[0];
    send_body(10);
    repeat_in_vain(hole);
    send_octets(SIDE_CLIENT, 0, NULL, 0); /* to a probe */
    assert_int_equal(flow_missing_octets(the_flow(), SIDE_CLIENT, true), 0);
    lost = false;
    server_acknowledges();
    pass(BYPASS_SETTLE_MS);
    send_body(WINDOW / SEGMENT + 2);
    assert_false(the_flow()->sides[0].flags & FLOW_SIDE_BYPASS); /* and then it is as ever */
}

/* What passed unseen is acknowledged over seconds, and more is under way meanwhile than is kept here: no hole of ours. */
static void test_a_slow_link_leaves_no_gap(void **state)
{
    (void)state;
    open_body();
    const uint32_t unseen = at[0];
    uint32_t end;
    lost = true;
    send_body(10);
    pass(BYPASS_LOOK_MS + 50);
    assert_false(marked);
    send_body(80);
    for (uint32_t i = 1; i <= 60; i++) {
        end = at[0];
        pass(90);
        at[0] = unseen + i * SEGMENT;
        send_octets(SIDE_SERVER, 0, NULL, 0);
        at[0] = end;
        send_body(1);
    }
    end = at[0];
    at[0] = unseen + 60 * SEGMENT;
    say(SIDE_SERVER, "421 4.4.2 timeout exceeded\r\n");
    send_octets(SIDE_SERVER, PACKET_FIN, NULL, 0);
    at[0] = end;
    send_octets(SIDE_CLIENT, PACKET_RST, NULL, 0);
    finish();
    assert_int_not_equal(verdict.cause, CAUSE_CAPTURE_GAP);
}

/* Over a long path everything is slower: a look lasts a round trip longer. */
static void test_a_long_path_is_no_stand(void **state)
{
    (void)state;
    far_ms = 400;
    open_session();
    envelope();
    ask("DATA\r\n", "354 go\r\n");
    for (unsigned i = 0; i < 12; i++) {
        static uint8_t octets[SEGMENT];
        memset(octets, 'x', sizeof octets);
        for (unsigned k = 0; k < 30; k++)
            send_octets(SIDE_CLIENT, 0, octets, sizeof octets);
        server_acknowledges();
    }
    assert_true(marked);
    pass(450);
    assert_true(marked);
    pass(150);
    assert_false(marked);
}

/* What crawls is looked at: it costs little, and may be what the verdict is about. */
static void test_a_slow_body_is_looked_at(void **state)
{
    (void)state;
    open_body();
    const uint64_t before = passed_by, begun_us = now_us;
    for (unsigned i = 0; i < 200; i++) {
        send_body(2);
        pass(30); /* 3 kB in 34 ms: 90 kB a second */
    }
    assert_true(now_us - begun_us > 6000 * MS);
    assert_in_range(passed_by - before, 1,
                    3 * BYPASS_SLOW_OCTETS); /* it is tried again after a while, for a look */
    assert_in_range(on_count, 2, 4);
    for (unsigned i = 0; i < 200; i++) /* it gets on again */
        send_body(2);
    assert_true(marked);
    assert_true(passed_by - before > 150 * SEGMENT);
}

/* Both addresses translated: the kernel has no connection of that name. */
static void test_a_hidden_connection_is_looked_at(void **state)
{
    (void)state;
    marking = CONNECTION_MARKS_UNKNOWN;
    open_body();
    send_body(2000);
    assert_int_equal(passed_by, 0);
    assert_int_equal(on_count, 1); /* not asked for with each packet */
    assert_int_equal(bypass.busy_count, 0);
    say(SIDE_CLIENT, "the end\r\n.\r\n");
    say(SIDE_SERVER, "250 queued\r\n");
    close_session();
    finish();
    assert_int_equal(verdict.cause, CAUSE_CLEAN);
}

/* The kernel had no memory, say: tried again, though not with each packet. */
static void test_one_that_cannot_be_marked_now_is_tried_again(void **state)
{
    (void)state;
    marking = CONNECTION_MARKS_FAILED;
    open_body();
    assert_int_equal(on_count, 1);
    marking = CONNECTION_MARKS_DONE;
    send_body(BYPASS_REST_OCTETS / SEGMENT);
    assert_true(marked);
    marking = CONNECTION_MARKS_FAILED;
    pass(BYPASS_LOOK_MS + 50);
    assert_true(marked);
    assert_int_equal(bypass.busy_count, 1);
    marking = CONNECTION_MARKS_DONE;
    pass(2 * BYPASS_TICK_US / 1000);
    assert_false(marked);
    assert_int_equal(bypass.busy_count, 0);
}

static void test_without_a_free_slot_a_body_is_looked_at(void **state)
{
    (void)state;
    open_body();
    pass(BYPASS_LOOK_MS + 50);
    bypass.busy_count = BYPASS_SLOTS;
    send_body(2 * BYPASS_REST_OCTETS / SEGMENT);
    assert_int_equal(on_count, 1);
    assert_false(the_flow()->sides[0].flags & FLOW_SIDE_BYPASS); /* what is lost now is lost */
    bypass.busy_count = 0;
    send_body(2);
    assert_true(marked);
}

/* Many acknowledgements waited while nobody let us run: the first of them tells nothing of the server. */
static void test_a_break_of_ours_is_no_slowness(void **state)
{
    (void)state;
    open_body();
    pass(BYPASS_LOOK_MS - 10);
    now_us += (BYPASS_LOOK_MS + 10) * MS;
    send_body(2);
    assert_true(marked);
    send_body(100);
    bypass_on_deadline(&bypass, now_us);
    assert_true(marked);
}

/* With a segment of the client in hand those behind it would overtake it. */
static void test_it_begins_with_a_packet_of_the_server(void **state)
{
    (void)state;
    static uint8_t octets[SEGMENT];
    memset(octets, 'x', sizeof octets);
    open_session();
    envelope();
    ask("DATA\r\n", "354 go\r\n");
    for (unsigned i = 0; i < 60; i++)
        send_octets(SIDE_CLIENT, 0, octets, sizeof octets);
    assert_false(marked);
    server_acknowledges();
    assert_true(marked);
}

static void test_what_is_over_is_not_marked(void **state)
{
    (void)state;
    open_body();
    assert_true(marked);
    bypass_forget(&bypass, (struct tracker_session *)(uintptr_t)the_session());
    assert_false(marked);
    bypass_forget(&bypass, (struct tracker_session *)(uintptr_t)the_session());
}

static void test_switched_off_nothing_is_marked(void **state)
{
    (void)state;
    bypass.enabled = false;
    open_body();
    assert_int_equal(on_count, 0);
}

static void test_a_lossy_path_is_looked_at(void **state)
{
    (void)state;
    static uint8_t octets[SEGMENT];
    memset(octets, 'x', sizeof octets);
    open_session();
    envelope();
    ask("DATA\r\n", "354 go\r\n");
    for (unsigned i = 0; i < 100; i++) {
        send_octets(SIDE_CLIENT, 0, octets, sizeof octets);
        if (i % 10 == 5) { /* lost behind us */
            struct segment again = make(SIDE_CLIENT, PACKET_ACK, at[0] - SEGMENT, octets, sizeof octets);
            now_us += 10 * MS;
            again.ip_id = (uint16_t)(i + 1);
            cross(SIDE_CLIENT, &again, NULL);
        }
        server_acknowledges();
    }
    assert_int_equal(passed_by, 0);
    assert_int_equal(the_flow()->sides[0].repeated_after, 10);
}

static void test_a_chunk_ends_where_it_said(void **state)
{
    (void)state;
    char text[64];
    open_session();
    envelope();
    snprintf(text, sizeof text, "BDAT %u\r\n", 200 * SEGMENT);
    say(SIDE_CLIENT, text);
    send_body(200);
    assert_true(passed_by > 100 * SEGMENT);
    assert_false(marked); /* a window before its end at the latest */
    snprintf(text, sizeof text, "BDAT %u LAST\r\n", SEGMENT);
    say(SIDE_CLIENT, text);
    send_body(1);
    say(SIDE_SERVER, "250 chunk\r\n");
    say(SIDE_SERVER, "250 queued\r\n");
    close_session();
    finish();
    assert_int_equal(verdict.cause, CAUSE_CLEAN);
    assert_false(verdict.notes & NOTE_RESYNCED);
}

static void test_a_word_in_the_body_puts_it_off(void **state)
{
    (void)state;
    open_body();
    assert_true(marked);
    say(SIDE_SERVER, "552 5.3.4 message too big\r\n");
    assert_false(marked);
    uint64_t before = passed_by;
    send_body(10);
    assert_int_equal(passed_by, before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_most_of_a_body_passes_by, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_announced_body_that_is_refused_is_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_announced_body_on_a_lossy_path_is_looked_at, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_body_sent_before_the_354_is_not_overtaken, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_small_body_announced_is_looked_at, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_announced_body_passes_by_from_the_354_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_unseen_end_is_told_by_the_reply, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_client_that_stops_is_known, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_doubtful_end_accuses_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_client_that_stops_in_a_line_is_known, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_not_acknowledged_tells_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_dead_server_side_is_known, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_announced_body_lost_before_us_is_known, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_gives_up_on_a_body_lost_before_us_is_not_accused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_who_breaks_off_while_octets_are_under_way_is_known, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_small_segments_tell_nothing_of_the_large_ones, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_reset_behind_an_unacknowledged_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_word_behind_an_unacknowledged_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_dead_server_side_behind_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_end_behind_a_body_lost_before_us, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_repair_is_no_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_hole_at_the_server_puts_it_off, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_body_that_stands_is_looked_at, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_a_standing_body_shows_is_not_missing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_slow_link_leaves_no_gap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_long_path_is_no_stand, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_slow_body_is_looked_at, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_hidden_connection_is_looked_at, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_a_free_slot_a_body_is_looked_at, setup, teardown),
        cmocka_unit_test_setup_teardown(test_it_begins_with_a_packet_of_the_server, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_break_of_ours_is_no_slowness, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_that_cannot_be_marked_now_is_tried_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_over_is_not_marked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_switched_off_nothing_is_marked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_lossy_path_is_looked_at, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_chunk_ends_where_it_said, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_word_in_the_body_puts_it_off, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
