/* Silence: which side owes the next word, what it is waited for, and what a 421 after it says. */
#include "tests/unit/test_session.h"

/* --- the client is silent ---------------------------------------------------------------------------------------- */

static void test_silent_after_354(void **state) /* the field case: smtpd_timeout=8s */
{
    (void)state;
    story_begin();
    data();
    assert_true(wait_ms(5500) & SESSION_WANT_PROBE_CLIENT);
    probe_answered(SIDE_CLIENT);
    wait_ms(2500);
    server_tires();
    assert_true(session_take_wants(&session) & SESSION_WANT_SAMPLE);
    probe_answered(SIDE_CLIENT);
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT, CAUSE_DATA_START_STALL, CONFIDENCE_CERTAIN);
    assert_int_equal(record.verdict.waited_us, 8000000);
    assert_int_equal(record.verdict.limit_us, 8000000);
    assert_int_equal(record.verdict.limit_by, LIMIT_BY_SERVER);
    assert_int_equal(record.verdict.ended_by, ENDED_BY_SERVER);
    assert_int_equal(record.verdict.phase, PHASE_BODY);
    assert_int_equal(record.verdict.owed_by, SIDE_CLIENT);
    assert_true(record.verdict.notes & NOTE_SERVER_LIMIT_BELOW_RFC);
    assert_int_equal(record.verdict.also, 0);
}

static void test_unprobed_silence_is_only_likely(void **state)
{
    (void)state;
    story_begin();
    data();
    wait_ms(8000);
    server_tires();
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT, CAUSE_DATA_START_STALL, CONFIDENCE_LIKELY);
    assert_int_equal(record.verdict.also, 1u << FAULT_CLIENT_NETWORK);
    assert_true(record.verdict.notes & NOTE_UNPROBED);
}

static void test_silent_in_body(void **state) /* S49 */
{
    (void)state;
    story_begin();
    data();
    client("Subject: half\r\n\r\nhalf of it");
    wait_ms(8000);
    server_tires();
    probe_answered(SIDE_CLIENT);
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT, CAUSE_BODY_STALL, CONFIDENCE_CERTAIN);
}

static void test_silent_after_rcpt_and_before_ehlo(void **state) /* S26 */
{
    (void)state;
    story_begin();
    envelope();
    wait_ms(8000);
    server_tires();
    probe_answered(SIDE_CLIENT);
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT, CAUSE_COMMAND_STALL, CONFIDENCE_CERTAIN);
    story_begin();
    greet();
    wait_ms(8000);
    server_tires();
    probe_answered(SIDE_CLIENT);
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT, CAUSE_COMMAND_STALL, CONFIDENCE_CERTAIN);
    assert_int_equal(record.verdict.phase, PHASE_HELO);
}

static void test_half_a_command(void **state) /* S30 */
{
    (void)state;
    story_begin();
    hello();
    client("MAIL FR");
    wait_ms(300000);
    server_tires();
    probe_answered(SIDE_CLIENT);
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT, CAUSE_UNTERMINATED_COMMAND, CONFIDENCE_CERTAIN);
}

static void test_unterminated_body(void **state) /* S64 */
{
    (void)state;
    story_begin();
    data();
    client("Subject: x\n\nx\n.\n");
    wait_ms(300000);
    server_tires();
    probe_answered(SIDE_CLIENT);
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT, CAUSE_UNTERMINATED_BODY, CONFIDENCE_CERTAIN);
}

/* --- the server is silent ---------------------------------------------------------------------------------------- */

static void test_server_silent_in_each_phase(void **state) /* S11, S21, S63 */
{
    (void)state;
    static const struct {
        unsigned stage;
        enum cause cause;
        enum phase phase;
    } stories[] = {
        {0, CAUSE_GREETING_STALL, PHASE_GREETING}, {1, CAUSE_REPLY_STALL, PHASE_HELO},
        {2, CAUSE_REPLY_STALL, PHASE_MAIL},        {3, CAUSE_REPLY_STALL, PHASE_RCPT},
        {4, CAUSE_REPLY_STALL, PHASE_DATA},        {5, CAUSE_END_OF_DATA_STALL, PHASE_END_OF_DATA},
    };
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++) {
        story_begin();
        switch (stories[i].stage) {
        case 0:
            break;
        case 1:
            greet();
            client("EHLO c\r\n");
            break;
        case 2:
            hello();
            client("MAIL FROM:<a>\r\n");
            break;
        case 3:
            hello();
            client("MAIL FROM:<a>\r\n");
            server("250 ok\r\n");
            client("RCPT TO:<b>\r\n");
            break;
        case 4:
            envelope();
            client("DATA\r\n");
            break;
        default:
            data();
            client("x\r\n.\r\n");
            break;
        }
        uint32_t wants = wait_ms(61000);
        assert_true(wants & SESSION_WANT_PROBE_SERVER);
        assert_true(wants & SESSION_WANT_STALL_LINE);
        probe_answered(SIDE_SERVER);
        session_stall_record(&session, &record, now_us);
        assert_int_equal(record.verdict.fault, FAULT_SERVER);
        assert_int_equal(record.verdict.cause, stories[i].cause);
        assert_int_equal(record.verdict.ended_by, ENDED_BY_NONE);
        wait_ms(601000);
        probe_answered(SIDE_SERVER);
        ends(SESSION_END_CLIENT_FIN);
        expect_verdict(FAULT_SERVER, stories[i].cause, CONFIDENCE_CERTAIN);
        assert_int_equal(record.verdict.phase, stories[i].phase);
        assert_int_equal(record.verdict.ended_by, ENDED_BY_CLIENT);
    }
}

static void test_unfinished_replies(void **state) /* S28, S29 */
{
    (void)state;
    story_begin();
    greet();
    client("EHLO c\r\n");
    server("250-server.test\r\n250-PIPELINING\r\n");
    wait_ms(301000);
    probe_answered(SIDE_SERVER);
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_SERVER, CAUSE_INCOMPLETE_REPLY, CONFIDENCE_CERTAIN);
    story_begin();
    hello();
    client("MAIL FROM:<a>\r\n");
    server("250 ok");
    wait_ms(301000);
    probe_answered(SIDE_SERVER);
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_SERVER, CAUSE_UNTERMINATED_REPLY, CONFIDENCE_CERTAIN);
}

static void test_server_does_not_read(void **state) /* S47 */
{
    (void)state;
    story_begin();
    data();
    client("Subject: x\r\n\r\nlots");
    session_on_pushed_back(&session, SIDE_CLIENT, true, now_us);
    assert_true(wait_ms(61000) & SESSION_WANT_PROBE_SERVER);
    leg(SIDE_SERVER, (struct leg_evidence){.flags = LEG_WINDOW_ZERO, .unsent_octets = 500000});
    wait_ms(240000);
    server_tires();
    leg(SIDE_SERVER, (struct leg_evidence){.flags = LEG_WINDOW_ZERO, .unsent_octets = 500000});
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_SERVER, CAUSE_NOT_READING, CONFIDENCE_CERTAIN);
}

/* A closed window whose probes stay without an answer is a host that is gone. */
static void test_closed_window_and_nobody_answers(void **state) /* S47 against S22 */
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        story_begin();
        data();
        client("x\r\n");
        session_on_pushed_back(&session, SIDE_CLIENT, true, now_us);
        wait_ms(20000);
        leg(SIDE_SERVER, (struct leg_evidence){.flags = LEG_WINDOW_ZERO | LEG_TAPPED,
                                               .window_limited_ms = 20000,
                                               .probes_unanswered = i == 0 ? 1 : 3});
        ends(SESSION_END_CLIENT_FIN);
        if (i == 0) {
            expect_verdict(FAULT_SERVER, CAUSE_NOT_READING, CONFIDENCE_CERTAIN);
        } else {
            expect_verdict(FAULT_SERVER_NETWORK, CAUSE_LEG_UNANSWERED, CONFIDENCE_CERTAIN);
            assert_int_equal(record.verdict.also, 1u << FAULT_SERVER);
        }
    }
}

/* --- what the 421 after it says ---------------------------------------------------------------------------------- */

/* The reply that was due comes at last, and with it a 421 for the silence behind it: nobody was silent there yet. */
static void test_421_with_the_reply_that_was_due(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        story_begin();
        envelope();
        if (i == 0) {
            client("RCPT TO:<c@server.test>\r\n");
        } else {
            client("DATA\r\n");
            server("354 go ahead\r\n");
            client("Subject: x\r\n\r\nx\r\n.\r\n");
        }
        wait_ms(60000);
        server("250 2.0.0 ok\r\n421 4.4.2 timeout exceeded\r\n");
        probe_answered(SIDE_CLIENT);
        ends(SESSION_END_SERVER_FIN);
        const struct verdict *verdict = finish();
        assert_int_not_equal(verdict->fault, FAULT_CLIENT);
        if (i == 1) {
            assert_int_equal(verdict->cause, CAUSE_IDLE_REAPED);
        }
    }
}

static void test_421_without_a_reason(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        story_begin();
        envelope();
        wait_ms(6000);
        server(i == 0 ? "421 4.7.1 not you\r\n" : "421 4.4.2 timeout exceeded\r\n");
        probe_answered(SIDE_CLIENT);
        ends(SESSION_END_SERVER_FIN);
        expect_verdict(FAULT_CLIENT, CAUSE_COMMAND_STALL, i == 0 ? CONFIDENCE_LIKELY : CONFIDENCE_CERTAIN);
        /* RFC 5321 4.2.3: 421 says no more than that the service is not available */
        assert_int_equal(record.verdict.also, i == 0 ? 1u << FAULT_POLICY | 1u << FAULT_SERVER : 0u);
    }
}

static void
test_formal_words_after_a_silence(void **state) /* S36, and a server that tires without saying so */
{
    (void)state;
    static const struct {
        const char *reply;
        unsigned wait_ms;
        enum fault fault;
        enum confidence confidence;
        uint32_t also;
    } stories[] = {
        {"421 mx Service not available, closing transmission channel\r\n", 100, FAULT_SERVER,
         CONFIDENCE_CERTAIN, 0},
        {"421 mx Service not available, closing transmission channel\r\n", 60000, FAULT_CLIENT,
         CONFIDENCE_LIKELY, 1u << FAULT_POLICY | 1u << FAULT_SERVER},
        {"421 4.3.2 Service shutting down\r\n", 60000, FAULT_SERVER, CONFIDENCE_CERTAIN, 0},
    };
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++) {
        story_begin();
        envelope();
        wait_ms(stories[i].wait_ms);
        probe_answered(SIDE_CLIENT);
        server(stories[i].reply);
        ends(SESSION_END_SERVER_FIN);
        expect_verdict(stories[i].fault, i == 1 ? CAUSE_COMMAND_STALL : CAUSE_SHUTDOWN,
                       stories[i].confidence);
        assert_int_equal(record.verdict.also, stories[i].also);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silent_after_354),
        cmocka_unit_test(test_unprobed_silence_is_only_likely),
        cmocka_unit_test(test_silent_in_body),
        cmocka_unit_test(test_silent_after_rcpt_and_before_ehlo),
        cmocka_unit_test(test_half_a_command),
        cmocka_unit_test(test_unterminated_body),
        cmocka_unit_test(test_server_silent_in_each_phase),
        cmocka_unit_test(test_unfinished_replies),
        cmocka_unit_test(test_server_does_not_read),
        cmocka_unit_test(test_closed_window_and_nobody_answers),
        cmocka_unit_test(test_421_with_the_reply_that_was_due),
        cmocka_unit_test(test_421_without_a_reason),
        cmocka_unit_test(test_formal_words_after_a_silence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
