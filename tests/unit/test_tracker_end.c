/* How a connection seen from its middle comes to its verdict, whatever part of its end passed unseen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "core/tracker/tracker.h"
#include "nfq/segment.h"

#define SECOND UINT64_C(1000000)

static struct tracker *tracker;
static const struct policy_settings policy = {.timeouts = {.stall_notice_us = 5 * SECOND}};
static uint64_t now_us;
static struct address ends[SIDE_PAIR];
static uint32_t next[SIDE_PAIR]; /* of what was sent, seen or not */
static unsigned verdicts, stalls;
static struct verdict verdict, stall;

static void on_record(void *context, struct tracker_session *tracked, const struct record *record)
{
    (void)context;
    (void)tracked;
    if (record->kind == RECORD_STALL) {
        stalls++;
        stall = record->verdict;
        return;
    }
    verdicts++;
    verdict = record->verdict;
}

/* A segment whose acknowledgement covers all that the other side has sent. */
static void pass(enum side side, uint8_t flags, const char *text)
{
    uint8_t octets[256];
    struct segment segment = {.source = ends[side_index(side)],
                              .destination = ends[side_index(side_other(side))],
                              .sequence = next[side_index(side)],
                              .acknowledgement = next[side_index(side_other(side))],
                              .window = 500,
                              .flags = flags,
                              .ttl = 60,
                              .payload = (const uint8_t *)text,
                              .payload_length = strlen(text)};
    size_t length = segment_build(&segment, octets, sizeof octets);

    now_us += 1000;
    tracker_on_packet(tracker, octets, length, length, now_us, (int64_t)(now_us / 1000));
}

/* ... and counts as sent. */
static void say(enum side side, const char *text)
{
    pass(side, PACKET_ACK | PACKET_PSH, text);
    next[side_index(side)] += (uint32_t)strlen(text);
}

/* The same, by another way than ours. */
static void say_unseen(enum side side, uint32_t octets)
{
    next[side_index(side)] += octets;
}

static void repeat(enum side side, const char *text)
{
    next[side_index(side)] -= (uint32_t)strlen(text);
    say(side, text);
}

static void acknowledge(enum side side)
{
    pass(side, PACKET_ACK, "");
}

static void fin(enum side side)
{
    pass(side, PACKET_ACK | PACKET_FIN, "");
    next[side_index(side)]++;
}

static void wait_s(unsigned seconds)
{
    for (unsigned i = 0; i < seconds * 10; i++) {
        now_us += SECOND / 10;
        tracker_on_deadline(tracker, now_us);
    }
}

static void syn(void)
{
    pass(SIDE_CLIENT, PACKET_SYN, "");
}

static void open_session(void)
{
    syn();
    next[0]++;
    pass(SIDE_SERVER, PACKET_SYN | PACKET_ACK, "");
    next[1]++;
    acknowledge(SIDE_CLIENT);
    say(SIDE_SERVER, "220 server.test ESMTP\r\n");
    say(SIDE_CLIENT, "EHLO client.test\r\n");
    say(SIDE_SERVER, "250 server.test\r\n");
    say(SIDE_CLIENT, "MAIL FROM:<a@client.test>\r\n");
    say(SIDE_SERVER, "250 ok\r\n");
    say(SIDE_CLIENT, "RCPT TO:<b@server.test>\r\n");
    say(SIDE_SERVER, "250 ok\r\n");
    say(SIDE_CLIENT, "DATA\r\n");
    say(SIDE_SERVER, "354 go ahead\r\n");
    say(SIDE_CLIENT, "Subject: x\r\n");
}

/* A body of which some passed unseen, up to the 221. */
static void take_leave(void)
{
    open_session();
    say_unseen(SIDE_CLIENT, 100000);
    acknowledge(SIDE_SERVER);
    say(SIDE_CLIENT, "\r\n.\r\n");
    say(SIDE_SERVER, "250 queued\r\n");
    say(SIDE_CLIENT, "QUIT\r\n");
    say(SIDE_SERVER, "221 bye\r\n");
}

/* One verdict, soon. */
static void assert_one_within(unsigned seconds)
{
    wait_s(seconds);
    assert_int_equal(verdicts, 1);
    wait_s(7300);
    assert_int_equal(verdicts, 1);
}

/* ... and nobody is blamed. */
static void assert_said_within(unsigned seconds)
{
    assert_one_within(seconds);
    assert_true(verdict.fault == FAULT_NONE || verdict.fault == FAULT_UNKNOWN);
}

static int setup(void **state)
{
    struct tracker_options options = {
        .mode = RECORD_NFQ, .policy = &policy, .max_flows = 64, .callbacks = {.record = on_record}};

    (void)state;
    tracker = tracker_create(&options);
    assert_non_null(tracker);
    tracker_set_port(tracker, 25, TRACKER_PORT_SMTP);
    now_us = SECOND;
    verdicts = stalls = 0;
    next[0] = 0xfffff000u; /* it wraps on the way */
    next[1] = 500;
    for (unsigned i = 0; i < SIDE_PAIR; i++) {
        memset(ends[i].octets + 10, 0xff, 2);
        memcpy(ends[i].octets + 12, (uint8_t[]){192, 0, 2, (uint8_t)(i + 1)}, 4);
        ends[i].port = i == 0 ? 40000 : 25;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tracker_finish(tracker, now_us);
    tracker_destroy(tracker);
    return 0;
}

static void test_gap_in_the_body(void **state)
{
    (void)state;
    take_leave();
    fin(SIDE_SERVER);
    fin(SIDE_CLIENT);
    acknowledge(SIDE_SERVER);
    assert_said_within(3);
}

/* The acknowledgement that reveals the gap comes after the FIN behind it. */
static void test_fin_waits_behind_a_gap(void **state)
{
    (void)state;
    open_session();
    say_unseen(SIDE_CLIENT, 1000);
    fin(SIDE_CLIENT);
    fin(SIDE_SERVER);
    acknowledge(SIDE_CLIENT);
    assert_said_within(3);
}

static void test_acknowledged_fin_comes_late(void **state)
{
    uint32_t before;

    (void)state;
    take_leave();
    fin(SIDE_SERVER);
    before = next[0];
    next[0] += 1;
    acknowledge(SIDE_SERVER);
    wait_s(1); /* the gap is given up */
    next[0] = before;
    fin(SIDE_CLIENT);
    assert_said_within(3);
}

static void test_client_fin_unseen(void **state)
{
    (void)state;
    take_leave();
    fin(SIDE_SERVER);
    say_unseen(SIDE_CLIENT, 1);
    acknowledge(SIDE_SERVER);
    assert_said_within(6);
}

static void test_server_fin_unseen(void **state)
{
    (void)state;
    take_leave();
    say_unseen(SIDE_SERVER, 1);
    fin(SIDE_CLIENT);
    acknowledge(SIDE_SERVER);
    assert_said_within(6);
}

static void test_last_acknowledgement_unseen(void **state)
{
    (void)state;
    take_leave();
    fin(SIDE_SERVER);
    fin(SIDE_CLIENT);
    assert_said_within(6);
}

/* The FINs alone are there, and what is before them nobody acknowledged: lost on the way, as far as can be seen. */
static void test_fins_behind_a_hole(void **state)
{
    uint32_t server;

    (void)state;
    open_session();
    say_unseen(SIDE_CLIENT, 1000);
    say_unseen(SIDE_SERVER, 20);
    server = next[1];
    next[1] -= 20; /* its latest is not acknowledged here */
    fin(SIDE_CLIENT);
    next[1] = server;
    next[0] -= 1001;
    fin(SIDE_SERVER);
    assert_one_within(6);
    assert_true(verdict.fault != FAULT_CLIENT && verdict.fault != FAULT_SERVER);
}

static void test_reset_behind_a_gap(void **state)
{
    (void)state;
    take_leave();
    say_unseen(SIDE_CLIENT, 300);
    pass(SIDE_CLIENT, PACKET_RST | PACKET_ACK, "");
    assert_said_within(6);
}

/* Where everything was seen the verdict stands within a second of what decided. */
static void test_whole_end_is_judged_within_a_second(void **state)
{
    (void)state;
    open_session();
    pass(SIDE_CLIENT, PACKET_RST | PACKET_ACK, "");
    assert_one_within(1);
    assert_int_equal(verdict.cause, CAUSE_ABORTED);
}

static void test_whole_farewell_is_judged_within_a_second(void **state)
{
    (void)state;
    open_session();
    say(SIDE_CLIENT, "\r\n.\r\n");
    say(SIDE_SERVER, "250 queued\r\n");
    say(SIDE_CLIENT, "QUIT\r\n");
    say(SIDE_SERVER, "221 bye\r\n");
    fin(SIDE_SERVER);
    fin(SIDE_CLIENT);
    acknowledge(SIDE_SERVER);
    assert_one_within(1);
    assert_int_equal(verdict.cause, CAUSE_CLEAN);
}

/* Both FINs passed unseen: only the 221 tells. */
static void test_both_fins_unseen(void **state)
{
    (void)state;
    take_leave();
    assert_said_within(121);
}

static void test_late_repetitions_open_nothing(void **state)
{
    (void)state;
    take_leave();
    fin(SIDE_SERVER);
    fin(SIDE_CLIENT);
    wait_s(6);
    assert_int_equal(verdicts, 1);
    next[0]--;
    fin(SIDE_CLIENT);
    acknowledge(SIDE_SERVER);
    wait_s(300);
    assert_int_equal(verdicts, 1);
}

/* The capture has the reset before what was sent ahead of it. */
static void test_reset_overtakes_the_last_words(void **state)
{
    static const char leave[] = "421 4.3.2 Service shutting down\r\n";
    (void)state;
    for (unsigned i = 0; i < 2; i++) { /* those come a little later, or never did */
        open_session();
        next[1] += (uint32_t)strlen(leave);
        pass(SIDE_SERVER, PACKET_ACK | PACKET_RST, "");
        next[1] -= (uint32_t)strlen(leave);
        now_us += 50000;
        if (i == 0) {
            say(SIDE_SERVER, leave);
        }
        wait_s(60);
        assert_int_equal(verdicts, i + 1);
        assert_int_equal(verdict.cause, i == 0 ? CAUSE_SHUTDOWN : CAUSE_ABORTED);
        assert_int_equal(verdict.phase, PHASE_BODY);
        ends[0].port++;
    }
}

/* A new connection on the same ports does not wait for the old one's end. */
static void test_reset_waits_and_a_new_connection_begins(void **state)
{
    (void)state;
    open_session();
    next[1] += 20;
    pass(SIDE_SERVER, PACKET_ACK | PACKET_RST, "");
    next[0] += 100000;
    open_session();
    assert_int_equal(verdicts, 1);
    assert_int_equal(verdict.ended_by, ENDED_BY_SERVER);
}

/* The client has left, and its last octets are repeated until its kernel gives up: the verdict does not wait for that. */
static void test_client_leaves_a_dead_leg(void **state)
{
    (void)state;
    open_session();
    acknowledge(SIDE_SERVER);
    say(SIDE_CLIENT, "\r\n.\r\n");
    const uint32_t after = next[0];
    for (unsigned seconds = 1; seconds < 8; seconds *= 2) {
        wait_s(seconds);
        next[0] = after - 5;
        say(SIDE_CLIENT, "\r\n.\r\n");
    }
    fin(SIDE_CLIENT);
    for (unsigned seconds = 8, age = 0; age < 120; age += seconds, seconds *= 2) {
        wait_s(seconds);
        assert_int_equal(verdicts, age + seconds >= 60 ? 1 : 0);
        next[0] = after - 5;
        say(SIDE_CLIENT, "\r\n.\r\n");
    }
    assert_int_equal(verdict.cause, CAUSE_LEG_UNANSWERED);
    assert_int_equal(verdict.fault, FAULT_SERVER_NETWORK);
    assert_int_equal(verdict.ended_by, ENDED_BY_CLIENT);
    wait_s(7300);
    assert_int_equal(verdicts, 1);
}

/* ... while one that acknowledges what it gets is listened to. */
static void test_client_leaves_a_live_leg(void **state)
{
    (void)state;
    open_session();
    acknowledge(SIDE_SERVER);
    say(SIDE_CLIENT, "\r\n.\r\n");
    fin(SIDE_CLIENT);
    wait_s(5);
    acknowledge(SIDE_SERVER);
    wait_s(90);
    assert_int_equal(verdicts, 0);
    say(SIDE_SERVER, "250 queued\r\n");
    fin(SIDE_SERVER);
    acknowledge(SIDE_CLIENT);
    wait_s(3);
    assert_int_equal(verdicts, 1);
    assert_int_equal(verdict.fault, FAULT_CLIENT); /* it left with its mail unanswered */
    assert_int_equal(verdict.confidence, CONFIDENCE_POSSIBLE);
}

/* Whether the mail will come twice is told by a reply that may take ten minutes; other last words are not waited for. */
static void test_last_words_are_waited_for(void **state)
{
    (void)state;
    for (unsigned behind_the_dot = 0; behind_the_dot < 2; behind_the_dot++) {
        unsigned before = verdicts;
        open_session();
        acknowledge(SIDE_SERVER);
        if (behind_the_dot) {
            say(SIDE_CLIENT, "\r\n.\r\n");
        }
        fin(SIDE_CLIENT);
        acknowledge(SIDE_SERVER);
        wait_s(110);
        assert_int_equal(verdicts, before);
        wait_s(100);
        assert_int_equal(verdicts, behind_the_dot ? before : before + 1);
        wait_s(380);
        assert_int_equal(verdicts, behind_the_dot ? before : before + 1);
        wait_s(60);
        assert_int_equal(verdicts, before + 1);
        assert_int_equal(verdict.ended_by, ENDED_BY_CLIENT);
        ends[0].port++;
    }
}

/* The server tires of waiting, and the client's end is gone by then. */
static void server_tires(void)
{
    say(SIDE_SERVER, "421 4.4.2 timeout exceeded\r\n");
    fin(SIDE_SERVER);
    pass(SIDE_CLIENT, PACKET_RST, "");
}

/* What was stuck on the server leg gets through with the last word of the server, which had waited for it. */
static void test_leg_was_out_until_the_end(void **state)
{
    (void)state;
    open_session();
    acknowledge(SIDE_SERVER);
    say(SIDE_CLIENT, "a line\r\n");
    for (unsigned i = 0; i < 4; i++) {
        wait_s(1u << i);
        repeat(SIDE_CLIENT, "a line\r\n");
    }
    wait_s(45);
    server_tires();
    assert_one_within(2);
    assert_int_equal(verdict.fault, FAULT_SERVER_NETWORK);
    assert_int_equal(verdict.cause, CAUSE_LEG_UNANSWERED);
    assert_int_equal(verdict.phase, PHASE_BODY);
}

/* It got through long before: the silence is the client's. */
static void test_leg_was_out_long_before_the_end(void **state)
{
    (void)state;
    open_session();
    acknowledge(SIDE_SERVER);
    say(SIDE_CLIENT, "a line\r\n");
    for (unsigned i = 0; i < 4; i++) {
        wait_s(1u << i);
        repeat(SIDE_CLIENT, "a line\r\n");
    }
    acknowledge(SIDE_SERVER);
    wait_s(45);
    server_tires();
    assert_one_within(2);
    assert_int_equal(verdict.fault, FAULT_CLIENT);
    assert_int_equal(verdict.cause, CAUSE_BODY_STALL);
}

/* It repeats what was acknowledged, again and again: it does not hear that. */
static void repeat_in_vain(void)
{
    acknowledge(SIDE_SERVER);
    say(SIDE_CLIENT, "a line\r\n");
    acknowledge(SIDE_SERVER);
    for (unsigned i = 0; i < 4; i++) {
        wait_s(1u << i);
        repeat(SIDE_CLIENT, "a line\r\n");
        acknowledge(SIDE_SERVER);
    }
}

static void test_who_repeats_what_is_acknowledged_is_deaf(void **state)
{
    (void)state;
    open_session();
    repeat_in_vain();
    wait_s(45);
    server_tires();
    assert_one_within(2);
    assert_int_equal(verdict.fault, FAULT_CLIENT_NETWORK);
    assert_int_equal(verdict.cause, CAUSE_LEG_UNANSWERED);
    assert_true(verdict.also & 1u << FAULT_CLIENT);
}

static void test_who_gets_on_is_not_deaf(void **state)
{
    (void)state;
    open_session();
    repeat_in_vain();
    say(SIDE_CLIENT, "another line\r\n");
    acknowledge(SIDE_SERVER);
    wait_s(45);
    server_tires();
    assert_one_within(2);
    assert_int_equal(verdict.fault, FAULT_CLIENT);
    assert_int_equal(verdict.cause, CAUSE_BODY_STALL);
}

/* The server owes a reply to what it has not got, and who would have to repeat the rest does not hear. */
static void test_server_waits_for_a_deaf_client(void **state)
{
    (void)state;
    open_session();
    repeat_in_vain();
    say(SIDE_CLIENT, "the end\r\n.\r\n"); /* lost behind us, and never repeated */
    next[0] -= 12;
    for (unsigned i = 0; i < 4; i++) {
        wait_s(1);
        repeat(SIDE_CLIENT, "a line\r\n");
        acknowledge(SIDE_SERVER);
    }
    wait_s(10);
    assert_int_equal(stall.phase, PHASE_END_OF_DATA);
    assert_int_equal(stall.fault, FAULT_CLIENT_NETWORK);
}

/* Its last octets and its FIN, in one segment, are the client's answer to the server's FIN: nothing is missing. */
static void test_fin_behind_octets_is_no_gap(void **state)
{
    (void)state;
    open_session();
    fin(SIDE_SERVER);
    pass(SIDE_CLIENT, PACKET_ACK | PACKET_PSH | PACKET_FIN, "more\r\n");
    next[0] += 7;
    acknowledge(SIDE_SERVER);
    assert_one_within(2);
    assert_int_equal(verdict.fault, FAULT_SERVER);
    assert_int_equal(verdict.cause, CAUSE_ABORTED);
}

/* The server speaks after minutes, but what is sent to it was repeated all the time: no box has forgotten an idle
 * connection. */
static void minutes_in_vain(uint32_t acknowledged)
{
    open_session();
    acknowledge(SIDE_SERVER);
    say(SIDE_CLIENT, "a line\r\n.\r\n");
    for (unsigned i = 0; i < 8; i++) {
        wait_s(1u << i);
        repeat(SIDE_CLIENT, "a line\r\n.\r\n");
    }
    wait_s(40);
    next[0] -= 11 - acknowledged;
    say(SIDE_SERVER, "421 4.4.2 timeout exceeded\r\n");
    fin(SIDE_SERVER);
    next[0] += 11 - acknowledged;
    pass(SIDE_CLIENT, PACKET_RST, "");
    assert_one_within(2);
    assert_int_equal(verdict.fault, FAULT_SERVER_NETWORK);
    assert_int_equal(verdict.cause, CAUSE_LEG_UNANSWERED);
}

static void test_leg_that_is_out_is_not_idle(void **state)
{
    (void)state;
    minutes_in_vain(0);
}

static void test_leg_that_was_out_was_not_idle(void **state)
{
    (void)state;
    minutes_in_vain(8);
}

/* A client that has left repeats its last octets with its FIN every two minutes: that is one session. */
static void test_orphans_open_nothing(void **state)
{
    (void)state;
    open_session();
    for (unsigned i = 0; i < 5; i++) {
        pass(SIDE_CLIENT, PACKET_ACK | PACKET_PSH, "\r\n.\r\n");
        wait_s(10);
    }
    for (unsigned i = 0; i < 8; i++) {
        pass(SIDE_CLIENT, PACKET_ACK | PACKET_FIN | PACKET_PSH, "\r\n.\r\n");
        wait_s(121);
    }
    assert_one_within(300);
    assert_int_equal(verdict.cause, CAUSE_LEG_UNANSWERED);
    assert_int_equal(verdict.fault, FAULT_SERVER_NETWORK);
}

/* Behind its end alone nobody can see what a connection was. */
static void test_an_end_alone_opens_nothing(void **state)
{
    (void)state;
    pass(SIDE_CLIENT, PACKET_ACK | PACKET_FIN | PACKET_PSH, "MAIL FROM:<a@client.test>\r\n");
    pass(SIDE_SERVER, PACKET_ACK | PACKET_FIN | PACKET_PSH, "421 4.4.2 timeout exceeded\r\n");
    wait_s(7300);
    assert_int_equal(verdicts, 0);
}

/* A body whose beginning passed before our time, with a line in it that looks like its end. */
static void test_nothing_seen_answered_accuses_nobody(void **state)
{
    (void)state;
    say(SIDE_CLIENT, "of a message\n.\n");
    acknowledge(SIDE_SERVER);
    say(SIDE_CLIENT, "MAIL is what this line is about\r\n.\r\n");
    acknowledge(SIDE_SERVER);
    wait_s(610);
    acknowledge(SIDE_CLIENT);
    fin(SIDE_CLIENT);
    acknowledge(SIDE_SERVER);
    assert_said_within(130);
    assert_int_equal(verdict.fault, FAULT_UNKNOWN);
}

/* ... but an answer shows where it stands. */
static void test_one_answer_is_enough(void **state)
{
    (void)state;
    say(SIDE_CLIENT, "MAIL FROM:<a@client.test>\r\n");
    say(SIDE_SERVER, "250 ok\r\n");
    say(SIDE_CLIENT, "RCPT TO:<b@server.test>\r\n");
    acknowledge(SIDE_SERVER);
    wait_s(310);
    fin(SIDE_CLIENT);
    acknowledge(SIDE_SERVER);
    assert_one_within(130);
    assert_int_equal(verdict.fault, FAULT_SERVER);
}

/* ---- a SYN that nobody answers ---- */

static void syn_after(unsigned seconds)
{
    wait_s(seconds);
    syn();
}

/* Linux: 1, 2, 4 s. The verdict comes when the next one is overdue, not after minutes. */
static void test_client_gives_up_connecting(void **state)
{
    (void)state;
    syn();
    syn_after(1);
    syn_after(2);
    syn_after(4);
    wait_s(9);
    assert_int_equal(verdicts, 0); /* the next was due 8 s later */
    wait_s(2);
    assert_int_equal(verdicts, 1);
    assert_int_equal(verdict.cause, CAUSE_CONNECT_UNANSWERED);
    wait_s(7300);
    assert_int_equal(verdicts, 1);
}

static void test_single_syn_tells_nothing(void **state)
{
    (void)state;
    syn();
    wait_s(9);
    assert_int_equal(verdicts, 0);
    wait_s(2);
    assert_int_equal(verdicts, 1);
    assert_int_equal(verdict.fault, FAULT_UNKNOWN);
    assert_int_equal(verdict.notes & NOTE_DRAINED, 0);
}

/* What passes us goes on when we stop: that is nobody's doing, nor ours. */
static void test_our_stop_ends_no_session(void **state)
{
    (void)state;
    open_session();
    tracker_finish(tracker, now_us);
    assert_int_equal(verdicts, 1);
    assert_true(verdict.fault == FAULT_NONE || verdict.fault == FAULT_UNKNOWN);
    assert_int_equal(verdict.ended_by, ENDED_BY_CAPTURE_END);
    assert_int_equal(verdict.notes & NOTE_DRAINED, NOTE_DRAINED);
}

/* The stall is said while the client still tries. */
static void test_connecting_stalls(void **state)
{
    (void)state;
    syn();
    syn_after(1);
    syn_after(2);
    assert_int_equal(stalls, 0);
    syn_after(4);
    assert_int_equal(stalls, 1);
    assert_int_equal(stall.phase, PHASE_CONNECT);
    syn_after(8);
    syn_after(16);
    assert_int_equal(stalls, 1);
    assert_int_equal(verdicts, 0);
    next[0]++;
    pass(SIDE_SERVER, PACKET_SYN | PACKET_ACK, "");
    next[1]++;
    acknowledge(SIDE_CLIENT);
    say(SIDE_SERVER, "220 server.test ESMTP\r\n");
    say(SIDE_CLIENT, "QUIT\r\n");
    say(SIDE_SERVER, "221 bye\r\n");
    fin(SIDE_SERVER);
    fin(SIDE_CLIENT);
    acknowledge(SIDE_SERVER);
    assert_said_within(3);
}

/* The server's answer is lost on its way to the client: the connection never came about, and not for want of a greeting. */
static void test_answer_to_the_syn_is_lost(void **state)
{
    (void)state;
    syn();
    next[0]++;
    for (unsigned seconds = 1; seconds <= 8; seconds *= 2) {
        pass(SIDE_SERVER, PACKET_SYN | PACKET_ACK, "");
        wait_s(seconds);
        next[0]--;
        syn();
        next[0]++;
    }
    assert_int_equal(stalls, 1);
    assert_int_equal(stall.phase, PHASE_CONNECT);
    assert_int_equal(stall.fault, FAULT_CLIENT_NETWORK);
    wait_s(300);
    assert_int_equal(verdicts, 1);
    assert_int_equal(verdict.fault, FAULT_CLIENT_NETWORK);
    assert_int_equal(verdict.cause, CAUSE_LEG_UNANSWERED);
    assert_int_equal(verdict.phase, PHASE_CONNECT);
    assert_int_equal(verdict.owed_by, SIDE_CLIENT);
    assert_int_equal(verdict.where, WHERE_CLIENT_LEG);
}

/* What comes behind the client's acknowledgement is the greeting's time. */
static void test_no_greeting(void **state)
{
    (void)state;
    syn();
    next[0]++;
    pass(SIDE_SERVER, PACKET_SYN | PACKET_ACK, "");
    next[1]++;
    acknowledge(SIDE_CLIENT);
    wait_s(6);
    assert_int_equal(stalls, 1);
    assert_int_equal(stall.phase, PHASE_GREETING);
    assert_int_equal(stall.owed_by, SIDE_SERVER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_gap_in_the_body, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fin_waits_behind_a_gap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_acknowledged_fin_comes_late, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_fin_unseen, setup, teardown),
        cmocka_unit_test_setup_teardown(test_server_fin_unseen, setup, teardown),
        cmocka_unit_test_setup_teardown(test_last_acknowledgement_unseen, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fins_behind_a_hole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset_behind_a_gap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_whole_end_is_judged_within_a_second, setup, teardown),
        cmocka_unit_test_setup_teardown(test_whole_farewell_is_judged_within_a_second, setup, teardown),
        cmocka_unit_test_setup_teardown(test_both_fins_unseen, setup, teardown),
        cmocka_unit_test_setup_teardown(test_late_repetitions_open_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset_overtakes_the_last_words, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset_waits_and_a_new_connection_begins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_leaves_a_dead_leg, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_leaves_a_live_leg, setup, teardown),
        cmocka_unit_test_setup_teardown(test_last_words_are_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leg_was_out_until_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leg_was_out_long_before_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_repeats_what_is_acknowledged_is_deaf, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_gets_on_is_not_deaf, setup, teardown),
        cmocka_unit_test_setup_teardown(test_server_waits_for_a_deaf_client, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fin_behind_octets_is_no_gap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leg_that_is_out_is_not_idle, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leg_that_was_out_was_not_idle, setup, teardown),
        cmocka_unit_test_setup_teardown(test_orphans_open_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_end_alone_opens_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_seen_answered_accuses_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_answer_is_enough, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_gives_up_connecting, setup, teardown),
        cmocka_unit_test_setup_teardown(test_single_syn_tells_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_our_stop_ends_no_session, setup, teardown),
        cmocka_unit_test_setup_teardown(test_connecting_stalls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answer_to_the_syn_is_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_greeting, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
