/* What TCP shows of each leg: octets that did not arrive, resets and boxes on the way, and how much that proves. */
#include "tests/unit/test_session.h"

/* --- octets that do not arrive ----------------------------------------------------------------------------------- */

static void test_undelivered(void **state) /* S22, S25, S43, S66 */
{
    (void)state;
    story_begin();
    hello();
    client("MAIL FROM:<a>\r\n");
    wait_ms(12000);
    leg(SIDE_SERVER, stuck(0, 12000));
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_SERVER_NETWORK, CAUSE_LEG_UNANSWERED, CONFIDENCE_CERTAIN);
    assert_int_equal(record.verdict.also, 1u << FAULT_SERVER);
    assert_true(record.ledger.charged_us[ACCOUNT_SERVER_NETWORK] >= 11000000);

    story_begin(); /* the reply never reaches the client, the server tires */
    hello();
    client("MAIL FROM:<a>\r\n");
    server("250 ok\r\n");
    wait_ms(12000);
    leg(SIDE_CLIENT, stuck(0, 12000));
    server_tires();
    leg(SIDE_CLIENT, stuck(0, 12000));
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT_NETWORK, CAUSE_LEG_UNANSWERED, CONFIDENCE_CERTAIN);

    story_begin();
    undelivered_body(20000);
    server_tires();
    leg(SIDE_SERVER, stuck(LEG_ONLY_BIG_LOST | LEG_HEARD, 20000));
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_SERVER_NETWORK, CAUSE_PATH_MTU_BLACK_HOLE, CONFIDENCE_CERTAIN);

    story_begin(); /* a full segment may be among those that got through */
    undelivered_body(20000);
    server_tires();
    leg(SIDE_SERVER, stuck(LEG_ONLY_BIG_LOST | LEG_HEARD | LEG_BIG_DOUBTED, 20000));
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_SERVER_NETWORK, CAUSE_PATH_MTU_BLACK_HOLE, CONFIDENCE_LIKELY);

    story_begin(); /* S46: our own missing rule is never the server's network */
    undelivered_body(20000);
    leg(SIDE_SERVER, stuck(LEG_ONLY_BIG_LOST | LEG_ICMP_UNDIVERTED, 20000));
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_WITNESS, CAUSE_ICMP_UNDIVERTED, CONFIDENCE_CERTAIN);
}

static void test_lost_before_us(void **state) /* S23, S24, S44 */
{
    (void)state;
    story_begin();
    hello();
    client("MAIL FROM:<a>\r\n");
    wait_ms(20000);
    leg(SIDE_SERVER,
        (struct leg_evidence){.probe = PROBE_REVEALED, .revealed_octets = 8, .flags = LEG_TAPPED});
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_SERVER_NETWORK, CAUSE_OCTETS_LOST, CONFIDENCE_CERTAIN);

    story_begin();
    hello();
    wait_ms(20000);
    leg(SIDE_CLIENT,
        (struct leg_evidence){.probe = PROBE_REVEALED, .revealed_octets = 20, .flags = LEG_TAPPED});
    server_tires();
    leg(SIDE_CLIENT,
        (struct leg_evidence){.probe = PROBE_REVEALED, .revealed_octets = 20, .flags = LEG_TAPPED});
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT_NETWORK, CAUSE_OCTETS_LOST, CONFIDENCE_CERTAIN);

    story_begin();
    data();
    wait_ms(20000);
    leg(SIDE_CLIENT,
        (struct leg_evidence){.probe = PROBE_REVEALED, .revealed_octets = 21720, .flags = LEG_TAPPED});
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT_NETWORK, CAUSE_PATH_MTU_BLACK_HOLE, CONFIDENCE_LIKELY);
}

static void test_host_gone(void **state) /* S50 */
{
    (void)state;
    story_begin();
    data();
    client("Subject: x\r\n");
    wait_ms(20000);
    leg(SIDE_CLIENT, (struct leg_evidence){.probe = PROBE_UNANSWERED, .probes_unanswered = 3});
    server_tires();
    leg(SIDE_CLIENT, (struct leg_evidence){.probe = PROBE_UNANSWERED, .probes_unanswered = 3});
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT_NETWORK, CAUSE_LEG_UNANSWERED, CONFIDENCE_CERTAIN);
    assert_int_equal(record.verdict.also, 1u << FAULT_CLIENT);
}

/* What looks like a probe, or a client that is done, behind a leg that had failed. */
static void test_leaving_behind_a_failed_leg(void **state) /* S25 in the greeting, S24 in the first command */
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        story_begin();
        if (i < 2) {
            greet();
        } else {
            mail();
        }
        wait_ms(20000);
        leg(SIDE_CLIENT, i % 2 == 0 ? stuck(LEG_TAPPED, 20000)
                                    : (struct leg_evidence){.probe = PROBE_REVEALED,
                                                            .revealed_octets = 20,
                                                            .flags = LEG_TAPPED | LEG_RESET_FITS});
        ends(i % 2 == 0 ? SESSION_END_CLIENT_FIN : SESSION_END_CLIENT_RESET);
        expect_verdict(FAULT_CLIENT_NETWORK, i % 2 == 0 ? CAUSE_LEG_UNANSWERED : CAUSE_OCTETS_LOST,
                       CONFIDENCE_CERTAIN);
    }
}

static void test_acceptance_lost_on_the_way_to_the_client(void **state) /* S66 */
{
    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        bool lost = i != 4;
        story_begin();
        mail();
        wait_ms(150000);
        leg(SIDE_CLIENT, lost ? stuck(0, 150000) : (struct leg_evidence){.retrans_count = 5});
        if (i == 0) {
            server_tires();
            leg(SIDE_CLIENT, stuck(0, 150000));
        }
        ends(i == 2 ? SESSION_END_CLIENT_RESET : i == 3 ? SESSION_END_CLIENT_FIN : SESSION_END_SERVER_FIN);
        if (lost) {
            expect_verdict(FAULT_CLIENT_NETWORK, CAUSE_LEG_UNANSWERED, CONFIDENCE_CERTAIN);
        } else { /* the control: it was repeated and arrived */
            expect_verdict(FAULT_NONE, CAUSE_IDLE_REAPED, CONFIDENCE_CERTAIN);
        }
        assert_int_equal(record.duplicate, lost);
    }
}

static void test_acceptance_lost_behind_a_pipelined_quit(void **state) /* S66 with QUIT behind the dot; S82 */
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        bool lost = i != 2;
        story_begin();
        data();
        client("x\r\n.\r\nQUIT\r\n");
        server("250 2.0.0 Ok: queued\r\n221 Bye\r\n");
        ends(SESSION_END_SERVER_FIN);
        wait_ms(lost ? 60000 : 100);
        leg(SIDE_CLIENT, lost ? stuck(0, 60000) : (struct leg_evidence){.unacked_octets = 9});
        ends(i == 0 ? SESSION_END_CLIENT_FIN : SESSION_END_CLIENT_RESET);
        if (lost) {
            expect_verdict(FAULT_CLIENT_NETWORK, CAUSE_LEG_UNANSWERED, CONFIDENCE_CERTAIN);
        } else {
            expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
        }
        assert_int_equal(record.duplicate, lost);
    }
}

static void test_route_that_came_back(void **state) /* S06 on an established leg, and its control */
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        bool back = i == 0;
        story_begin();
        hello();
        client("MAIL FROM:<>\r\n");
        leg(SIDE_SERVER, stuck(LEG_UNREACHABLE, 0));
        wait_ms(3000);
        if (back) {
            server("250 ok\r\n");
            client("RCPT TO:<b>\r\n");
        }
        wait_ms(310000);
        leg(SIDE_SERVER, back ? (struct leg_evidence){.flags = LEG_UNREACHABLE | LEG_TAPPED,
                                                      .retrans_count = 2,
                                                      .probe = PROBE_ANSWERED}
                              : stuck(LEG_UNREACHABLE, 313000));
        ends(SESSION_END_CLIENT_FIN);
        if (back) {
            expect_verdict(FAULT_SERVER, CAUSE_REPLY_STALL, CONFIDENCE_CERTAIN);
            assert_true(record.ledger.charged_us[ACCOUNT_SERVER] >= 300000000);
        } else {
            expect_verdict(FAULT_SERVER_NETWORK, CAUSE_UNREACHABLE, CONFIDENCE_CERTAIN);
        }
    }
}

/* --- resets, and boxes on the way -------------------------------------------------------------------------------- */

static void test_forged_reset_on_the_client_leg(void **state) /* S40 seen from the other side */
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        story_begin();
        if (i / 2 == 0) {
            greet();
        } else {
            hello();
        }
        leg(SIDE_CLIENT, (struct leg_evidence){.flags = i % 2 == 0 ? LEG_RESET_FOREIGN : LEG_RESET_FITS});
        ends(SESSION_END_CLIENT_RESET);
        if (i % 2 == 0) {
            expect_verdict(FAULT_MIDDLEBOX, CAUSE_RESET_INJECTED, CONFIDENCE_CERTAIN);
            assert_int_equal(record.verdict.where, WHERE_CLIENT_LEG);
        } else {
            assert_int_equal(finish()->fault, FAULT_NONE); /* the control */
        }
    }
}

/* The client's leg had failed already when its host answered our probe, or the server's last word, with a reset. */
static void test_reset_behind_a_failed_leg(void **state) /* S44, S24, S50 */
{
    (void)state;
    static const struct {
        struct leg_evidence leg;
        enum cause cause;
    } stories[] = {
        {{.flags = LEG_RESET_ANSWERS, .probe = PROBE_REVEALED, .revealed_octets = 2000},
         CAUSE_PATH_MTU_BLACK_HOLE},
        {{.flags = LEG_RESET_ANSWERS, .probe = PROBE_REVEALED, .revealed_octets = 20}, CAUSE_OCTETS_LOST},
        {{.flags = LEG_RESET_ANSWERS, .probe = PROBE_UNANSWERED}, CAUSE_LEG_UNANSWERED},
    };
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++) {
        story_begin();
        data();
        wait_ms(8000);
        leg(SIDE_CLIENT, stories[i].leg);
        ends(SESSION_END_CLIENT_RESET);
        const struct verdict *verdict = finish();
        assert_string_equal(fault_name(verdict->fault), fault_name(FAULT_CLIENT_NETWORK));
        assert_string_equal(cause_name(verdict->cause), cause_name(stories[i].cause));
    }
}

static void test_reset_of_a_host_whose_connection_is_gone(void **state) /* S41, and the controls S62, S82 */
{
    (void)state;
    static const struct {
        struct leg_evidence leg;
        bool gone;
    } stories[] = {
        {{.flags = LEG_RESET_FITS | LEG_RESET_ANSWERS}, true},
        {{.unacked_octets = 30}, true}, /* the RST itself was not seen */
        {{.probe = PROBE_SENT}, true},
        {{.flags = LEG_RESET_FITS | LEG_RESET_OWN, .unacked_octets = 30}, false},
        {{.flags = LEG_RESET_FITS}, false},
    };
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++) {
        for (unsigned wait = 0; wait < 2; wait++) {
            story_begin();
            data();
            client("Subject: x\r\n");
            wait_ms(wait * 10000u);
            leg(SIDE_CLIENT, stories[i].leg);
            ends(SESSION_END_CLIENT_RESET);
            if (stories[i].gone) {
                expect_verdict(FAULT_CLIENT_NETWORK, CAUSE_RESET_INJECTED, CONFIDENCE_LIKELY);
                assert_int_equal(record.verdict.also, 1u << FAULT_CLIENT | 1u << FAULT_MIDDLEBOX);
                assert_non_null(strstr(record.verdict.explain, "no end of it had passed here"));
            } else {
                expect_verdict(FAULT_CLIENT, CAUSE_ABORTED, CONFIDENCE_CERTAIN);
            }
        }
        story_begin();
        mail();
        client("QUIT\r\n");
        leg(SIDE_CLIENT, stories[i].leg);
        ends(SESSION_END_CLIENT_RESET);
        expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
    }
}

static void test_state_expired_only_right_after_a_long_silence(void **state) /* S58 */
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        story_begin();
        mail();
        wait_ms(i == 0 ? 120000 : 300000); /* half and double of what boxes usually keep */
        client("MAIL FROM:<>\r\n");
        if (i == 2) { /* it got through after all */
            server("250 ok\r\n");
            client("RCPT TO:<b>\r\n");
        }
        wait_ms(12000);
        leg(SIDE_SERVER, stuck(0, 12000));
        ends(SESSION_END_CLIENT_FIN);
        if (i == 1) {
            expect_verdict(FAULT_MIDDLEBOX, CAUSE_STATE_EXPIRED, CONFIDENCE_LIKELY);
        } else {
            expect_verdict(FAULT_SERVER_NETWORK, CAUSE_LEG_UNANSWERED, CONFIDENCE_CERTAIN);
        }
    }
}

static void test_masked_keywords(void **state) /* S32 and the monitor that looks like it */
{
    (void)state;
    for (unsigned masked = 0; masked < 2; masked++) {
        story_begin();
        greet();
        client("EHLO client.test\r\n");
        server(masked ? "250-server.test\r\n250-XXXXXXXA\r\n250 SIZE 1000\r\n"
                      : "250-server.test\r\n250 SIZE 1000\r\n");
        quit();
        ends(SESSION_END_CLIENT_FIN);
        if (masked) {
            expect_verdict(FAULT_MIDDLEBOX, CAUSE_CAPABILITIES_MASKED, CONFIDENCE_LIKELY);
        } else {
            expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
        }
    }
}

/* --- how much it proves ------------------------------------------------------------------------------------------ */

/* On a leg that loses much an answered probe is no proof of what came after it. */
static void test_a_lossy_leg_vouches_for_nobody(void **state)
{
    (void)state;
    for (unsigned lossy = 0; lossy < 2; lossy++) {
        const struct leg_evidence answered = {
            .probe = PROBE_ANSWERED, .flags = LEG_TAPPED, .sent_segments = 9, .retrans_count = lossy ? 2 : 1};
        story_begin();
        hello();
        client("MAIL FROM:<a>\r\n");
        server("250 ok\r\n");
        wait_ms(12000);
        leg(SIDE_CLIENT, answered);
        server_tires();
        ends(SESSION_END_SERVER_FIN);
        expect_verdict(FAULT_CLIENT, CAUSE_COMMAND_STALL, lossy ? CONFIDENCE_LIKELY : CONFIDENCE_CERTAIN);
        assert_int_equal(record.verdict.also, lossy ? 1u << FAULT_CLIENT_NETWORK : 0);
        story_begin();
        hello();
        client("MAIL FROM:<a>\r\n");
        wait_ms(12000);
        leg(SIDE_SERVER, answered);
        ends(SESSION_END_CLIENT_FIN);
        expect_verdict(FAULT_CLIENT, CAUSE_GAVE_UP_EARLY, CONFIDENCE_CERTAIN);
        assert_int_equal(record.verdict.also, 1u << FAULT_SERVER | (lossy ? 1u << FAULT_SERVER_NETWORK : 0));
    }
}

static void test_no_more_is_said_than_was_seen(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        static const char words[] = "the client's host acknowledged every octet";
        story_begin();
        envelope();
        wait_ms(8000);
        server_tires();
        struct leg_evidence seen = {.connect = CONNECT_ESTABLISHED};
        seen.unacked_octets = i == 0 ? 0 : 50;
        seen.unacked_since_us = i == 0 ? 0 : i == 1 ? now_us : now_us - 7000000;
        leg(i == 3 ? SIDE_SERVER : SIDE_CLIENT, seen); /* 3: the silent leg was never looked at */
        ends(SESSION_END_SERVER_FIN);
        expect_verdict(FAULT_CLIENT, CAUSE_COMMAND_STALL, CONFIDENCE_LIKELY);
        assert_int_equal(strstr(record.verdict.explain, words) != NULL, i < 2);
    }
    story_begin(); /* nobody was probed: the answer may have been lost on its way */
    hello();
    client("MAIL FROM:<>\r\n");
    wait_ms(3000);
    leg(SIDE_SERVER, (struct leg_evidence){.connect = CONNECT_ESTABLISHED});
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_CLIENT, CAUSE_GAVE_UP_EARLY, CONFIDENCE_CERTAIN);
    assert_int_equal(record.verdict.also, 1u << FAULT_SERVER | 1u << FAULT_SERVER_NETWORK);
    story_begin();
    envelope();
    wait_ms(3000);
    leg(SIDE_CLIENT, (struct leg_evidence){.connect = CONNECT_ESTABLISHED});
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_SERVER, CAUSE_EARLY_CLOSE, CONFIDENCE_CERTAIN);
    assert_int_equal(record.verdict.also, 1u << FAULT_CLIENT | 1u << FAULT_CLIENT_NETWORK);
}

static void test_a_tap_vouches_for_its_own_silence(void **state)
{
    (void)state;
    story_begin();
    hello();
    wait_ms(6000);
    probe_answered(SIDE_CLIENT);
    client("MAIL FROM:<>\r\n");
    server("250 ok\r\n");
    wait_ms(6000);
    struct leg_evidence seen = session.legs[0]; /* as the proxy does: new facts over the old ones */
    seen.probe = PROBE_ANSWERED;
    leg(SIDE_CLIENT, seen);
    wait_ms(300000);
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT, CAUSE_COMMAND_STALL, CONFIDENCE_LIKELY);
    assert_int_equal(record.verdict.also, 1u << FAULT_CLIENT_NETWORK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_undelivered),
        cmocka_unit_test(test_lost_before_us),
        cmocka_unit_test(test_host_gone),
        cmocka_unit_test(test_leaving_behind_a_failed_leg),
        cmocka_unit_test(test_acceptance_lost_on_the_way_to_the_client),
        cmocka_unit_test(test_acceptance_lost_behind_a_pipelined_quit),
        cmocka_unit_test(test_route_that_came_back),
        cmocka_unit_test(test_forged_reset_on_the_client_leg),
        cmocka_unit_test(test_reset_behind_a_failed_leg),
        cmocka_unit_test(test_reset_of_a_host_whose_connection_is_gone),
        cmocka_unit_test(test_state_expired_only_right_after_a_long_silence),
        cmocka_unit_test(test_masked_keywords),
        cmocka_unit_test(test_a_lossy_leg_vouches_for_nobody),
        cmocka_unit_test(test_no_more_is_said_than_was_seen),
        cmocka_unit_test(test_a_tap_vouches_for_its_own_silence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
