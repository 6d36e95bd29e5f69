/* Slow sessions: slow within every limit, a body that was held up and by whom, a tarpit. */
#include "tests/unit/test_session.h"

/* --- slow, and no fault ------------------------------------------------------------------------------------------ */

static void test_slow_greeting_is_a_note(void **state) /* S12 */
{
    (void)state;
    story_begin();
    wait_ms(90000);
    mail();
    quit();
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
    assert_true(record.verdict.notes & NOTE_SLOW_GREETING);
}

static void
test_slow_but_lawful_partners(void **state) /* S69: within every limit, half and double the usual */
{
    (void)state;
    for (unsigned ms = 500; ms <= 240000; ms *= 2) {
        story_begin();
        wait_ms(ms);
        greet();
        wait_ms(ms);
        client("EHLO c\r\n");
        wait_ms(ms);
        server("250 s\r\n");
        wait_ms(ms);
        client("MAIL FROM:<>\r\n");
        server("250 ok\r\n");
        client("RCPT TO:<b>\r\n");
        wait_ms(ms);
        server("250 ok\r\n");
        client("DATA\r\n");
        server("354 go\r\n");
        wait_ms(ms);
        client("x\r\n");
        wait_ms(ms);
        client(".\r\n");
        wait_ms(ms);
        server("250 ok\r\n");
        quit();
        ends(SESSION_END_CLIENT_FIN);
        expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
    }
}

/* --- a slow body ------------------------------------------------------------------------------------------------- */

static void test_slow_sender(void **state) /* S54 */
{
    (void)state;
    for (unsigned ms = 250; ms <= 900; ms *= 2) {
        story_begin();
        data();
        for (unsigned i = 0; i < 300; i++) {
            client("x");
            wait_ms(ms);
        }
        server_tires();
        ends(SESSION_END_SERVER_FIN);
        expect_verdict(FAULT_CLIENT, CAUSE_SLOW_SENDER, CONFIDENCE_LIKELY);
        assert_int_equal(record.verdict.also, 1u << FAULT_CLIENT_NETWORK | 1u << FAULT_SERVER_NETWORK);
    }
}

/* A body at `octets` a second for `seconds`, as both legs show it. */
static void slow_body(unsigned octets, unsigned seconds, struct leg_evidence client_leg,
                      struct leg_evidence server_leg)
{
    char line[1024];
    memset(line, 'x', sizeof line - 1);
    line[octets < sizeof line ? octets : sizeof line - 1] = '\0';
    data();
    for (unsigned i = 0; i < seconds; i++) {
        client(line);
        wait_ms(1000);
    }
    leg(SIDE_CLIENT, client_leg);
    leg(SIDE_SERVER, server_leg);
}

static void
test_what_held_a_slow_body_up(void **state) /* S51 to S54 in both ways of measuring, and their controls */
{
    (void)state;
    const struct leg_evidence fine = {.sent_segments = 100, .came_segments = 100, .flags = LEG_TAPPED};
    struct leg_evidence lossy_client = fine, lossy_server = fine, narrow_server = fine, closed_server = fine,
                        full_client = fine, noisy_client = fine, small_buffer = fine, busy_box = fine;
    lossy_client.late_segments = 10;
    lossy_server.retrans_count = 10;
    noisy_client.late_segments = 4; /* other than by packets, this much is nothing */
    noisy_client.flags = 0;
    narrow_server.rtt_least_us = 5000;
    narrow_server.rtt_most_us = 2204000;
    narrow_server.retrans_count = 4;
    closed_server.window_limited_ms = 15000;
    full_client.came_segments = 1;
    small_buffer.busy_ms = 8000;
    small_buffer.buffer_limited_ms = 4000;
    busy_box.turn_limited_ms = 20000;
    const struct {
        struct leg_evidence client_leg, server_leg;
        enum fault fault;
        enum cause cause;
        uint32_t also;
    } stories[] = {
        {lossy_client, fine, FAULT_CLIENT_NETWORK, CAUSE_LOSS, 0},
        {fine, lossy_server, FAULT_SERVER_NETWORK, CAUSE_LOSS, 0},
        {fine, narrow_server, FAULT_SERVER_NETWORK, CAUSE_BANDWIDTH, 0},
        {full_client, fine, FAULT_CLIENT_NETWORK, CAUSE_BANDWIDTH, 1u << FAULT_CLIENT},
        {fine, closed_server, FAULT_SERVER, CAUSE_NOT_READING, 0},
        {fine, fine, FAULT_CLIENT, CAUSE_SLOW_SENDER, 0},
        {noisy_client, fine, FAULT_CLIENT, CAUSE_SLOW_SENDER, 0},
        {lossy_client, lossy_server, FAULT_CLIENT, CAUSE_SLOW_SENDER, /* both: who knows */
         1u << FAULT_CLIENT_NETWORK | 1u << FAULT_SERVER_NETWORK},
        {fine, small_buffer, FAULT_WITNESS, CAUSE_BANDWIDTH, 0},
        {busy_box, fine, FAULT_WITNESS, CAUSE_BANDWIDTH, 0},
    };
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++) {
        for (unsigned seconds = 10; seconds <= 40; seconds *= 2) {
            story_begin();
            slow_body(1000, seconds, stories[i].client_leg, stories[i].server_leg);
            server_tires();
            ends(SESSION_END_SERVER_FIN);
            if (i == 4 && seconds == 40) { /* less than half of the time: not the window */
                finish();
                continue;
            }
            expect_verdict(stories[i].fault, stories[i].cause, CONFIDENCE_LIKELY);
            assert_int_equal(record.verdict.also, stories[i].also);
        }
        story_begin(); /* nobody's time ran out: a remark, no fault */
        slow_body(1000, 20, stories[i].client_leg, stories[i].server_leg);
        client("\r\n.\r\n");
        server("250 2.0.0 Ok: queued\r\n");
        quit();
        ends(SESSION_END_CLIENT_FIN);
        expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
        assert_int_equal(strstr(last_line, "bottleneck=") != NULL, i != 7);
        story_begin(); /* the client itself leaves: its network's loss or its own will; the control: unharmed legs */
        slow_body(1000, 20, stories[i].client_leg, stories[i].server_leg);
        ends(SESSION_END_CLIENT_RESET);
        const struct verdict *verdict = finish();
        assert_true(verdict->fault == FAULT_CLIENT || (verdict->also & 1u << FAULT_CLIENT) != 0 || i == 4);
    }
    story_begin(); /* S70: the server's limit on the whole session, and who used the time up */
    slow_body(1000, 20, fine, lossy_server);
    server("421 Exceeded allowable connection time, disconnecting.\r\n");
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_POLICY, CAUSE_SESSION_TIME_LIMIT, CONFIDENCE_CERTAIN);
    assert_int_equal(record.verdict.also, 1u << FAULT_SERVER_NETWORK);
}

/* The client is done, the octets are still in our own buffers: the server has not got them, so it owes no answer. */
static void test_slow_server_leg_behind_our_buffers(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct leg_evidence narrow = {.sent_segments = 100,
                                      .came_segments = 5,
                                      .rtt_least_us = 5000,
                                      .rtt_most_us = 2000000,
                                      .busy_ms = 20000,
                                      .unsent_octets = 100000,
                                      .unacked_octets = 14480};
        story_begin();
        data();
        client("Subject: x\r\n\r\nx\r\n.\r\n");
        wait_ms(20000);
        narrow.unacked_since_us = now_us - 500000;
        leg(SIDE_CLIENT, (struct leg_evidence){.sent_segments = 5, .came_segments = 100});
        leg(SIDE_SERVER, narrow);
        if (i == 0) {
            server_tires();
            ends(SESSION_END_SERVER_FIN);
        } else {
            ends(SESSION_END_CLIENT_FIN);
        }
        expect_verdict(FAULT_SERVER_NETWORK, CAUSE_BANDWIDTH, CONFIDENCE_LIKELY);
        assert_int_equal(record.verdict.also, i == 0 ? 0 : 1u << FAULT_CLIENT);
    }
    /* A large message that runs fast, on a leg that loses: while its dot is under way nobody can answer it. */
    char line[1000];
    memset(line, 'x', sizeof line - 3);
    memcpy(line + sizeof line - 3, "\r\n", 3);
    story_begin();
    data();
    for (unsigned i = 0; i < 2000; i++) {
        client(line);
        wait_ms(4);
    }
    client(".\r\n");
    wait_ms(4000);
    leg(SIDE_CLIENT, (struct leg_evidence){.sent_segments = 5, .came_segments = 1400});
    leg(SIDE_SERVER, (struct leg_evidence){.sent_segments = 1400,
                                           .retrans_count = 600,
                                           .flags = LEG_LOSS_AFTER_US,
                                           .busy_ms = 12000,
                                           .unsent_octets = 100000,
                                           .unacked_octets = 14480,
                                           .unacked_since_us = now_us - 300000});
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_SERVER_NETWORK, CAUSE_LOSS, CONFIDENCE_LIKELY);
}

static void test_boxes_that_spoil_tcp(void **state) /* S55, S56, S57 */
{
    (void)state;
    static const struct {
        uint32_t flag;
        enum cause cause;
    } boxes[] = {
        {LEG_WINDOW_TINY, CAUSE_WINDOW_SCALE_BROKEN},
        {LEG_WINDOW_TRACKED, CAUSE_WINDOW_SCALE_BROKEN},
        {LEG_SACK_FOREIGN, CAUSE_SEQUENCE_REWRITTEN},
    };
    for (size_t i = 0; i < sizeof boxes / sizeof boxes[0]; i++) {
        const struct leg_evidence spoilt = {.flags = boxes[i].flag, .sent_segments = 100, .came_segments = 9};
        const struct leg_evidence fine = {.sent_segments = 9, .came_segments = 100};
        for (unsigned on_client = 0; on_client < 2; on_client++) {
            story_begin(); /* the body crawls until the server tires */
            slow_body(300, 20, on_client ? spoilt : fine, on_client ? fine : spoilt);
            server_tires();
            ends(SESSION_END_SERVER_FIN);
            expect_verdict(FAULT_MIDDLEBOX, boxes[i].cause, CONFIDENCE_LIKELY);
            assert_int_equal(record.verdict.where, on_client ? WHERE_CLIENT_LEG : WHERE_SERVER_LEG);
            story_begin(); /* it broke nothing: a remark */
            mail();
            leg(on_client ? SIDE_CLIENT : SIDE_SERVER, spoilt);
            quit();
            ends(SESSION_END_CLIENT_FIN);
            expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
            assert_int_equal(record.verdict.notes,
                             on_client ? NOTE_TCP_BOX_CLIENT_LEG : NOTE_TCP_BOX_SERVER_LEG);
        }
    }
}

/* --- slow replies ------------------------------------------------------------------------------------------------ */

static void test_tarpit(void **state) /* S35, with and without errors before it, at half and double */
{
    (void)state;
    for (unsigned ms = 1000; ms <= 4000; ms *= 2) {
        for (unsigned errors = 0; errors < 2; errors++) {
            story_begin();
            hello();
            client("MAIL FROM:<a>\r\n");
            server("250 ok\r\n");
            for (unsigned i = 1; i < 4; i++) {
                client("RCPT TO:<b>\r\n");
                wait_ms((uint64_t)i * ms);
                server(errors ? "550 5.1.1 unknown\r\n" : "250 ok\r\n");
            }
            client("NOOP\r\n");
            wait_ms(4u * ms);
            leg(SIDE_SERVER, (struct leg_evidence){.connect = CONNECT_ESTABLISHED});
            ends(SESSION_END_CLIENT_FIN);
            expect_verdict(errors ? FAULT_POLICY : FAULT_SERVER, CAUSE_TARPIT, CONFIDENCE_LIKELY);
            assert_int_equal(record.verdict.limit_by, LIMIT_BY_SERVER);
            assert_true((record.verdict.notes & NOTE_TARPIT) != 0);
        }
    }
    story_begin(); /* where the server's leg loses, late replies were repeated: the server is no tarpit */
    hello();
    for (unsigned i = 1; i < 4; i++) {
        client("NOOP\r\n");
        wait_ms(i * 2000u);
        server("250 ok\r\n");
    }
    client("NOOP\r\n");
    wait_ms(8000);
    leg(SIDE_SERVER, (struct leg_evidence){.connect = CONNECT_ESTABLISHED, .flags = LEG_LOSS_AFTER_US});
    ends(SESSION_END_CLIENT_FIN);
    assert_int_not_equal(finish()->cause, CAUSE_TARPIT);
    story_begin(); /* a patient client: nothing happened */
    hello();
    for (unsigned i = 1; i < 6; i++) {
        client("NOOP\r\n");
        wait_ms(i * 2000u);
        server("250 ok\r\n");
    }
    quit();
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
    assert_true((record.verdict.notes & NOTE_TARPIT) != 0);
    story_begin(); /* while it lasts, a silence is one reply that does not come */
    hello();
    for (unsigned i = 0; i < 4; i++) {
        client("NOOP\r\n");
        wait_ms(20000);
        session_stall_record(&session, &record, now_us);
        assert_int_equal(record.verdict.cause, CAUSE_REPLY_STALL);
        server("250 ok\r\n");
    }
    story_begin(); /* one slow reply is no tarpit */
    hello();
    client("NOOP\r\n");
    wait_ms(20000);
    server("250 ok\r\n");
    client("NOOP\r\n");
    server("250 ok\r\n");
    client("NOOP\r\n");
    wait_ms(20000);
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_CLIENT, CAUSE_GAVE_UP_EARLY, CONFIDENCE_CERTAIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slow_greeting_is_a_note),
        cmocka_unit_test(test_slow_but_lawful_partners),
        cmocka_unit_test(test_slow_sender),
        cmocka_unit_test(test_what_held_a_slow_body_up),
        cmocka_unit_test(test_slow_server_leg_behind_our_buffers),
        cmocka_unit_test(test_boxes_that_spoil_tcp),
        cmocka_unit_test(test_tarpit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
