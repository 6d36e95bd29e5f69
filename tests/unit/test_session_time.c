/* Time: our own limits and deadlines, when a silence is probed, and to whom the ledger charges what was waited. */
#include "tests/unit/test_session.h"

/* --- our own limits ---------------------------------------------------------------------------------------------- */

/* A client that has half-closed keeps its place no longer than one that has not. */
static void test_timeouts_after_a_half_close(void **state)
{
    (void)state;
    for (unsigned enforced = 0; enforced < 2; enforced++) {
        for (unsigned server_left = 0; server_left < 2; server_left++) {
            story_begin();
            policy.timeouts.action = enforced ? POLICY_ENFORCE : POLICY_REPORT;
            hello();
            client("NOOP\r\n");
            ends(SESSION_END_CLIENT_FIN);
            if (server_left) {
                ends(SESSION_END_SERVER_FIN);
            }
            bool due = enforced && !server_left;
            assert_int_equal(wait_ms(299000) & SESSION_WANT_CLOSE, 0);
            assert_int_equal(wait_ms(2000) & SESSION_WANT_CLOSE, due ? SESSION_WANT_CLOSE : 0);
            assert_int_equal(wait_ms(301000) & SESSION_WANT_CLOSE, 0); /* said once */
            assert_int_equal(finish()->ended_by, ENDED_BY_CLIENT);
        }
    }
}

static void test_timeouts_reported_and_enforced(void **state)
{
    (void)state;
    story_begin();
    data();
    assert_int_equal(wait_ms(301000) & SESSION_WANT_CLOSE, 0);
    assert_int_equal(session.action, ACTION_WOULD_CLOSE);
    client("late\r\n.\r\n");
    server("250 ok\r\n");
    quit();
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
    assert_true(record.verdict.notes & NOTE_LIMIT_WOULD_ACT);

    story_begin();
    policy.timeouts.action = POLICY_ENFORCE;
    data();
    assert_int_equal(wait_ms(299000) & SESSION_WANT_CLOSE, 0);
    assert_true(wait_ms(2000) & SESSION_WANT_CLOSE);
    char text[512];
    assert_true(session_close_reply(&session, text, sizeof text) > 0);
    assert_string_equal(text, "421 4.4.2 witness.test Error: timeout exceeded\r\n");
    probe_answered(SIDE_CLIENT);
    session.action = ACTION_CLOSED;
    ends(SESSION_END_WITNESS);
    expect_verdict(FAULT_CLIENT, CAUSE_DATA_START_STALL, CONFIDENCE_CERTAIN);
    assert_int_equal(record.verdict.limit_by, LIMIT_BY_WITNESS);
    assert_int_equal(record.verdict.limit_us, 300000000);
}

/* In the body of a mail, in a session that may last 20 s. */
static void data_within_20_s(void)
{
    story_begin();
    policy.timeouts.session_us = 20000000;
    policy.timeouts.session_action = POLICY_ENFORCE;
    data();
}

static void test_session_time_waits_for_a_harmless_moment(void **state)
{
    (void)state;
    data_within_20_s();
    uint32_t wants = 0;
    for (unsigned i = 0; i < 30; i++) {
        client("a line of a slow attachment\r\n");
        wants |= wait_ms(1000);
    }
    assert_int_equal(wants & SESSION_WANT_CLOSE, 0); /* never inside the body */
    client(".\r\n");
    assert_int_equal(wait_ms(500) & SESSION_WANT_CLOSE, 0); /* nor between the dot and its reply */
    server("250 2.0.0 Ok: queued\r\n");
    assert_true(session_take_wants(&session) & SESSION_WANT_CLOSE);
    char text[512];
    assert_true(session_close_reply(&session, text, sizeof text) > 0);
    session.action = ACTION_CLOSED;
    ends(SESSION_END_WITNESS);
    expect_verdict(FAULT_POLICY, CAUSE_WITNESS_LIMIT, CONFIDENCE_CERTAIN);
    assert_int_equal(record.mails_ok, 1);

    data_within_20_s(); /* a body that never ends is cut at twice the limit */
    wants = 0;
    for (unsigned i = 0; i < 45; i++) {
        client("a line of an endless attachment\r\n");
        wants |= wait_ms(1000);
    }
    assert_true(wants & SESSION_WANT_CLOSE);
    ends(SESSION_END_WITNESS);
    expect_verdict(FAULT_POLICY, CAUSE_WITNESS_LIMIT, CONFIDENCE_CERTAIN);

    data_within_20_s(); /* so it is when octets come just before its timer is looked at */
    (void)wait_ms(39000);
    now_us += 1000500;
    client("a line of an endless attachment\r\n");
    assert_true(wait_ms(10) & SESSION_WANT_CLOSE);
    ends(SESSION_END_WITNESS);
    expect_verdict(FAULT_POLICY, CAUSE_WITNESS_LIMIT, CONFIDENCE_CERTAIN);

    data_within_20_s(); /* the mail is in doubt just then: as soon as it is not, whatever follows it in the pipe */
    client("text\r\n.\r\nMAIL FROM:<next@client.test>\r\n");
    assert_int_equal(wait_ms(50000) & SESSION_WANT_CLOSE, 0);
    server("250 2.0.0 Ok: queued\r\n");
    assert_true(session_take_wants(&session) & SESSION_WANT_CLOSE);
    ends(SESSION_END_WITNESS);
    expect_verdict(FAULT_POLICY, CAUSE_WITNESS_LIMIT, CONFIDENCE_CERTAIN);
}

static void test_drain(void **state)
{
    (void)state;
    story_begin();
    mail();
    expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_LIKELY);
    story_begin();
    data();
    client("half");
    expect_verdict(FAULT_WITNESS, CAUSE_WITNESS_STOPPED, CONFIDENCE_CERTAIN);
}

/* --- probes ------------------------------------------------------------------------------------------------------ */

static void test_a_long_silence_is_probed_again(void **state)
{
    (void)state;
    for (unsigned revealed = 0; revealed < 2; revealed++) {
        story_begin();
        envelope();
        for (unsigned second = 1; second <= 45; second++) {
            bool wanted = (wait_ms(1000) & SESSION_WANT_PROBE_CLIENT) != 0;
            bool due = second == 5 || second == 10 || second == 20 || second == 40;
            assert_int_equal(wanted, due && !(revealed && second > 10));
            if (wanted) {
                bool now = revealed && second == 10;
                leg(SIDE_CLIENT, (struct leg_evidence){.probe = now ? PROBE_REVEALED : PROBE_ANSWERED,
                                                       .revealed_octets = now ? 20 : 0,
                                                       .flags = LEG_TAPPED});
            }
        }
        server_tires();
        leg(SIDE_CLIENT, session.legs[0]);
        ends(SESSION_END_SERVER_FIN);
        if (revealed) {
            expect_verdict(FAULT_CLIENT_NETWORK, CAUSE_OCTETS_LOST, CONFIDENCE_CERTAIN);
        } else {
            expect_verdict(FAULT_CLIENT, CAUSE_COMMAND_STALL, CONFIDENCE_CERTAIN);
        }
    }
}

/* --- the ledger, and how long is too long ------------------------------------------------------------------------ */

static void test_ledger_charges_who_was_waited_for(void **state)
{
    (void)state;
    story_begin();
    session_set_rtt(&session, SIDE_SERVER, 20000);
    session_set_rtt(&session, SIDE_CLIENT, 10000);
    wait_ms(100);
    greet();
    wait_ms(50);
    client("EHLO c\r\n");
    wait_ms(30);
    server("250 s\r\n");
    quit();
    ends(SESSION_END_CLIENT_FIN);
    finish();
    assert_int_equal(record.ledger.charged_us[ACCOUNT_SERVER], 80000 + 10000);
    assert_int_equal(record.ledger.charged_us[ACCOUNT_SERVER_NETWORK], 40000);
    assert_int_equal(record.ledger.charged_us[ACCOUNT_CLIENT], 40000);
    assert_int_equal(record.ledger.charged_us[ACCOUNT_CLIENT_NETWORK], 10000);
}

static void test_ledger_learns_of_the_network_at_the_end(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        story_begin();
        undelivered_body(20000);
        server_tires();
        leg(SIDE_SERVER, i == 0 ? stuck(0, 20000) : (struct leg_evidence){.flags = LEG_WINDOW_ZERO});
        ends(SESSION_END_SERVER_FIN);
        finish();
        assert_int_equal(record.ledger.charged_us[ACCOUNT_SERVER_NETWORK], i == 0 ? 20000000 : 0);
        assert_int_equal(record.ledger.charged_us[ACCOUNT_SERVER], i == 0 ? 0 : 20000000);
    }
}

static void test_limits_are_measured_by_whose_they_are(void **state)
{
    (void)state;
    story_begin(); /* the network owed; the limit is still the server's, of its 5 min */
    undelivered_body(200000);
    server_tires();
    leg(SIDE_SERVER, stuck(0, 200000));
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_SERVER_NETWORK, CAUSE_LEG_UNANSWERED, CONFIDENCE_CERTAIN);
    assert_non_null(strstr(record.verdict.explain, "200 s is below RFC 5321's 5 min"));
}

static void test_clock_steps_back(void **state)
{
    (void)state;
    story_begin();
    wait_ms(20000);
    mail();
    now_us -= 10000000;
    quit();
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN); /* finish() sums the ledger */
    assert_int_equal(record.duration_us, 20000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timeouts_after_a_half_close),
        cmocka_unit_test(test_timeouts_reported_and_enforced),
        cmocka_unit_test(test_session_time_waits_for_a_harmless_moment),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_a_long_silence_is_probed_again),
        cmocka_unit_test(test_ledger_charges_who_was_waited_for),
        cmocka_unit_test(test_ledger_learns_of_the_network_at_the_end),
        cmocka_unit_test(test_limits_are_measured_by_whose_they_are),
        cmocka_unit_test(test_clock_steps_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
