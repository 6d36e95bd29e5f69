/* How a session ends, and whose doing that is: as it should be, never connected, left by the client, by the server, or by
 * somebody whose words passed unseen. */
#include "tests/unit/test_session.h"

/* --- sessions that are as they should be ------------------------------------------------------------------------- */

static void test_clean(void **state)
{
    (void)state;
    story_begin();
    mail();
    quit();
    ends(SESSION_END_SERVER_FIN);
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
    assert_int_equal(record.mails_ok, 1);
    assert_int_equal(record.rcpts_ok, 1);
    assert_false(record.duplicate);
}

static void test_reset_after_quit_is_no_fault(void **state) /* S82 */
{
    (void)state;
    story_begin();
    data();
    client("x\r\n.\r\nQUIT\r\n");
    server("250 2.0.0 Ok\r\n221 Bye\r\n");
    ends(SESSION_END_CLIENT_RESET);
    expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
}

static void test_reset_before_221_is_no_fault(void **state) /* S83: Postfix does not wait for it */
{
    (void)state;
    story_begin();
    mail();
    client("QUIT\r\n");
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
    assert_true(record.verdict.notes & NOTE_QUIT_UNANSWERED);
}

static void test_left_without_quit(void **state)
{
    (void)state;
    story_begin();
    mail();
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
    assert_true(record.verdict.notes & NOTE_NO_QUIT);
}

static void test_health_probes(void **state) /* S10 */
{
    (void)state;
    story_begin();
    ends(SESSION_END_CLIENT_RESET);
    expect_verdict(FAULT_NONE, CAUSE_PROBE_ONLY, CONFIDENCE_LIKELY);
    story_begin();
    greet();
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_NONE, CAUSE_PROBE_ONLY, CONFIDENCE_CERTAIN);
    story_begin(); /* gone before the greeting it did not wait for */
    ends(SESSION_END_CLIENT_FIN);
    greet();
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_NONE, CAUSE_PROBE_ONLY, CONFIDENCE_LIKELY);
}

static void test_idle_reaped(void **state) /* S27 */
{
    (void)state;
    story_begin();
    mail();
    assert_int_equal(wait_ms(30000) & (SESSION_WANT_PROBE_CLIENT | SESSION_WANT_STALL_LINE), 0);
    server("421 4.4.2 service timed out\r\n");
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_NONE, CAUSE_IDLE_REAPED, CONFIDENCE_CERTAIN);
    story_begin();
    mail();
    wait_ms(60000);
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_NONE, CAUSE_IDLE_REAPED, CONFIDENCE_CERTAIN);
}

static void test_sentences_of_clean_sessions(void **state)
{
    (void)state;
    story_begin();
    hello();
    ends(SESSION_END_CAPTURE);
    expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_POSSIBLE);
    assert_string_equal(record.verdict.explain, "nothing had gone wrong when the observation ended");
    story_begin();
    hello();
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
    assert_string_equal(record.verdict.explain, "the client left without QUIT, while nothing was under way");
    story_begin();
    hello();
    quit();
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
    assert_string_equal(record.verdict.explain, "the session ended as it should");
    story_begin();
    data();
    client("x\r\n.\r\n");
    server("250 ok\r\n");
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_NONE, CAUSE_IDLE_REAPED, CONFIDENCE_CERTAIN);
    assert_string_equal(record.verdict.explain, "the server closed the session between mails, after less "
                                                "than 1 ms without a command: nothing was lost");
}

/* --- the connection that does not come about --------------------------------------------------------------------- */

static void test_connect_failures(void **state) /* S01, S03, S04, S05, S06 */
{
    (void)state;
    static const struct {
        enum connect_result connect;
        uint32_t flags;
        enum fault fault;
        enum cause cause;
        enum confidence confidence;
        enum ended_by ended_by;
    } stories[] = {
        {CONNECT_REFUSED, 0, FAULT_SERVER, CAUSE_PORT_CLOSED, CONFIDENCE_LIKELY, ENDED_BY_SERVER},
        {CONNECT_REFUSED, LEG_RESET_FITS, FAULT_SERVER, CAUSE_PORT_CLOSED, CONFIDENCE_CERTAIN,
         ENDED_BY_SERVER},
        {CONNECT_REFUSED, LEG_RESET_FOREIGN, FAULT_MIDDLEBOX, CAUSE_CONNECT_REJECTED, CONFIDENCE_LIKELY,
         ENDED_BY_MIDDLEBOX},
        {CONNECT_TIMED_OUT, 0, FAULT_SERVER_NETWORK, CAUSE_CONNECT_UNANSWERED, CONFIDENCE_CERTAIN,
         ENDED_BY_TIMEOUT},
        {CONNECT_UNREACHABLE, 0, FAULT_SERVER_NETWORK, CAUSE_UNREACHABLE, CONFIDENCE_CERTAIN,
         ENDED_BY_SERVER_NETWORK},
        {CONNECT_PROHIBITED, 0, FAULT_MIDDLEBOX, CAUSE_ADMIN_PROHIBITED, CONFIDENCE_CERTAIN,
         ENDED_BY_MIDDLEBOX},
        {CONNECT_REJECTED, LEG_ICMP_FOREIGN, FAULT_MIDDLEBOX, CAUSE_CONNECT_REJECTED, CONFIDENCE_CERTAIN,
         ENDED_BY_MIDDLEBOX},
        {CONNECT_LOCAL_ERROR, 0, FAULT_WITNESS, CAUSE_OWN_DROP, CONFIDENCE_CERTAIN, ENDED_BY_WITNESS},
    };
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++) {
        story_begin_with(NULL, false);
        wait_ms(3000);
        leg(SIDE_SERVER, (struct leg_evidence){.connect = stories[i].connect, .flags = stories[i].flags});
        ends(SESSION_END_CONNECT_FAILED);
        expect_verdict(stories[i].fault, stories[i].cause, stories[i].confidence);
        assert_int_equal(record.verdict.phase, PHASE_CONNECT);
        assert_int_equal(record.verdict.ended_by, stories[i].ended_by);
    }
}

/* Who sent the ICMP message? */
static void test_prohibited_by_whom(void **state) /* S05 */
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        story_begin_with(NULL, false);
        leg(SIDE_SERVER,
            (struct leg_evidence){.connect = CONNECT_PROHIBITED, .flags = i == 0 ? LEG_ICMP_FOREIGN : 0});
        ends(SESSION_END_CONNECT_FAILED);
        expect_verdict(FAULT_MIDDLEBOX, CAUSE_ADMIN_PROHIBITED, CONFIDENCE_CERTAIN);
        assert_int_equal(record.verdict.also, i == 0 ? 0u : 1u << FAULT_SERVER);
    }
}

/* --- the client -------------------------------------------------------------------------------------------------- */

static void test_client_dies_in_body(void **state) /* S62 */
{
    (void)state;
    story_begin();
    data();
    client("Subject: x\r\n\r\nhalf");
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_CLIENT, CAUSE_ABORTED, CONFIDENCE_CERTAIN);
    story_begin();
    data();
    client("Subject: x\r\n\r\nhalf");
    leg(SIDE_CLIENT, (struct leg_evidence){.flags = LEG_RESET_FOREIGN});
    ends(SESSION_END_CLIENT_RESET);
    expect_verdict(FAULT_MIDDLEBOX, CAUSE_RESET_INJECTED, CONFIDENCE_CERTAIN);
    assert_int_equal(record.verdict.where, WHERE_CLIENT_LEG);
}

static void test_client_gives_up_early(void **state) /* S13, S67 */
{
    (void)state;
    story_begin();
    wait_ms(10000);
    probe_answered(SIDE_SERVER);
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_CLIENT, CAUSE_GAVE_UP_EARLY, CONFIDENCE_CERTAIN);
    assert_int_equal(record.verdict.also, 1u << FAULT_SERVER);
    assert_int_equal(record.verdict.limit_by, LIMIT_BY_CLIENT);

    story_begin(); /* the greeting comes, too late */
    wait_ms(5000);
    probe_answered(SIDE_SERVER);
    ends(SESSION_END_CLIENT_FIN);
    wait_ms(3000);
    greet();
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT, CAUSE_GAVE_UP_EARLY, CONFIDENCE_CERTAIN);
    assert_int_equal(record.verdict.phase, PHASE_GREETING);

    story_begin();
    data();
    client("x\r\n.\r\n");
    wait_ms(60000);
    probe_answered(SIDE_SERVER);
    ends(SESSION_END_CLIENT_FIN);
    wait_ms(1000);
    server("250 2.0.0 Ok: queued\r\n");
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT, CAUSE_GAVE_UP_EARLY, CONFIDENCE_CERTAIN);
    assert_true(record.duplicate);
}

static void test_patient_client_blames_the_server(void **state) /* R6 at half and double */
{
    (void)state;
    static const unsigned waits_ms[] = {585000, 595000, 601000};
    for (unsigned i = 0; i < 3; i++) {
        story_begin();
        data();
        client("x\r\n.\r\n");
        wait_ms(waits_ms[i]);
        probe_answered(SIDE_SERVER);
        ends(SESSION_END_CLIENT_FIN);
        if (i == 0) {
            expect_verdict(FAULT_CLIENT, CAUSE_GAVE_UP_EARLY, CONFIDENCE_CERTAIN);
        } else {
            expect_verdict(FAULT_SERVER, CAUSE_END_OF_DATA_STALL, CONFIDENCE_CERTAIN);
            /* its clock started when it wrote the dot, ours when the dot passed */
            assert_int_equal((record.verdict.also >> FAULT_CLIENT & 1u), i == 1);
        }
    }
}

static void test_giving_up_behind_a_pipelined_quit(void **state) /* S67: Postfix sends QUIT behind the dot */
{
    (void)state;
    for (unsigned ms = 30000; ms <= 120000; ms *= 2) {
        story_begin();
        data();
        client("x\r\n.\r\nQUIT\r\n");
        wait_ms(ms);
        probe_answered(SIDE_SERVER);
        ends(SESSION_END_CLIENT_FIN);
        wait_ms(1000);
        server("250 2.0.0 Ok: queued\r\n221 Bye\r\n");
        ends(SESSION_END_SERVER_FIN);
        expect_verdict(FAULT_CLIENT, CAUSE_GAVE_UP_EARLY, CONFIDENCE_CERTAIN);
        assert_true(record.duplicate);
    }
    story_begin(); /* the control: it says all at once, closes its half and listens */
    data();
    client("x\r\n.\r\nQUIT\r\n");
    ends(SESSION_END_CLIENT_FIN);
    wait_ms(60000);
    server("250 2.0.0 Ok: queued\r\n221 Bye\r\n");
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
    assert_false(record.duplicate);
}

static void test_half_closed_behind_the_dot(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        story_begin();
        data();
        client("x\r\n.\r\n");
        ends(SESSION_END_CLIENT_FIN);
        wait_ms(300);
        if (i == 0) {
            server("250 2.0.0 Ok: queued\r\n");
        }
        ends(SESSION_END_SERVER_FIN);
        expect_verdict(FAULT_CLIENT, CAUSE_ABORTED, i == 0 ? CONFIDENCE_POSSIBLE : CONFIDENCE_CERTAIN);
        assert_int_equal(record.duplicate, i == 0);
    }
}

static void test_early_talk(void **state) /* S19 */
{
    (void)state;
    story_begin();
    client("EHLO client.test\r\n");
    server("554 SMTP synchronization error\r\n");
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT, CAUSE_EARLY_TALK, CONFIDENCE_CERTAIN);
    story_begin(); /* the control: tolerated */
    client("EHLO client.test\r\n");
    server("220 server.test\r\n250 server.test\r\n");
    quit();
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
}

static void test_body_without_354(void **state) /* S73 */
{
    (void)state;
    story_begin();
    hello();
    client("DATA\r\n");
    server("503 5.5.1 Error: need RCPT command\r\n");
    client("Subject: x\r\n\r\nbody\r\n.\r\n");
    server("500 5.5.2 Error\r\n500 5.5.2 Error\r\n500 5.5.2 Error\r\n500 5.5.2 Error\r\n");
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_CLIENT, CAUSE_BODY_WITHOUT_354, CONFIDENCE_CERTAIN);
}

/* A body that came too early, but was wanted: an error before it proves nothing. */
static void test_early_body_that_was_wanted(void **state)
{
    (void)state;
    story_begin();
    hello();
    client("MAIL FROM:<a@client.test>\r\nRCPT TO:<nobody@server.test>\r\nRCPT TO:<b@server.test>\r\n"
           "DATA\r\nSubject: x\r\n\r\nbody\r\n.\r\n");
    server("250 ok\r\n550 5.1.1 no such user\r\n250 ok\r\n354 go\r\n");
    wait_ms(601000);
    probe_answered(SIDE_SERVER);
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_SERVER, CAUSE_END_OF_DATA_STALL, CONFIDENCE_CERTAIN);
    assert_true(record.verdict.notes & NOTE_DATA_BEFORE_354);
}

/* --- the server -------------------------------------------------------------------------------------------------- */

static void test_server_hangs_up(void **state) /* S18, S37, S61 */
{
    (void)state;
    story_begin();
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_SERVER, CAUSE_SILENT_CLOSE, CONFIDENCE_LIKELY);
    assert_int_equal(record.verdict.also, 1u << FAULT_POLICY);

    story_begin();
    envelope();
    wait_ms(10000);
    probe_answered(SIDE_CLIENT);
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_SERVER, CAUSE_EARLY_CLOSE, CONFIDENCE_CERTAIN);
    assert_int_equal(record.verdict.also, 1u << FAULT_CLIENT);
    assert_true(record.verdict.notes & NOTE_SERVER_LIMIT_BELOW_RFC);

    story_begin();
    envelope();
    wait_ms(300001);
    probe_answered(SIDE_CLIENT);
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT, CAUSE_COMMAND_STALL, CONFIDENCE_CERTAIN);

    story_begin();
    data();
    client("Subject: x\r\n\r\nhalf");
    leg(SIDE_SERVER, (struct leg_evidence){.flags = LEG_RESET_FITS});
    ends(SESSION_END_SERVER_RESET);
    expect_verdict(FAULT_SERVER, CAUSE_ABORTED, CONFIDENCE_CERTAIN);

    story_begin(); /* S40 */
    data();
    client("Subject: x\r\n\r\nhalf");
    leg(SIDE_SERVER, (struct leg_evidence){.flags = LEG_RESET_FOREIGN});
    ends(SESSION_END_SERVER_RESET);
    expect_verdict(FAULT_MIDDLEBOX, CAUSE_RESET_INJECTED, CONFIDENCE_CERTAIN);
    assert_int_equal(record.verdict.ended_by, ENDED_BY_MIDDLEBOX);

    story_begin(); /* without a tap nobody can tell */
    data();
    client("Subject: x\r\n\r\nhalf");
    ends(SESSION_END_SERVER_RESET);
    expect_verdict(FAULT_SERVER, CAUSE_ABORTED, CONFIDENCE_LIKELY);
    assert_int_equal(record.verdict.also, 1u << FAULT_MIDDLEBOX);
}

/* The server closes just when a command is on its way to it: it has left no command unanswered. */
static void test_fin_crosses_a_command(void **state) /* S37 against S61 */
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        story_begin();
        hello();
        wait_ms(10000);
        client("MAIL FROM:<a@client.test>\r\n");
        leg(SIDE_SERVER, (struct leg_evidence){.unacked_octets = i == 0 ? 26 : 0, .flags = LEG_TAPPED});
        wait_ms(20);
        ends(SESSION_END_SERVER_FIN);
        expect_verdict(FAULT_SERVER, i == 0 ? CAUSE_EARLY_CLOSE : CAUSE_ABORTED,
                       i == 0 ? CONFIDENCE_POSSIBLE : CONFIDENCE_CERTAIN);
        assert_int_equal(record.verdict.also, i == 0 ? 1u << FAULT_CLIENT : 0u);
        assert_int_equal(strstr(record.verdict.explain, "on its way") != NULL, i == 0);
    }
}

/* --- not all of it was seen -------------------------------------------------------------------------------------- */

/* Most of the body passed unseen as we wanted it, and its last few octets came by: text, or what may follow a final dot. */
static void test_server_dies_in_a_body_that_passed_unseen(void **state) /* S61 in way nfq-bypass */
{
    (void)state;
    static const struct {
        const char *last;
        bool text;
    } stories[] = {
        {"", true},
        {"of a line, and a whole line\r\nand the beginning of the ne", true},
        {"of a line of the message\r\n", true},
        {"of a line\r\nQUIT\r\n", false},
        {".\r\n", false},
        {".\r\nQUIT\r\n", false},
        {"IT\r\n", false},
        {".\r\nMAIL FROM:<a@client.test>\r\nRCPT TO:<b@server.test>\r\nDATA\r\n", false},
    };
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++) {
        story_begin();
        data();
        client("Subject: x\r\n\r\n");
        session_on_passed(&session, SIDE_CLIENT, 100000, now_us);
        if (stories[i].last[0] != '\0') {
            client(stories[i].last);
        }
        ends(SESSION_END_SERVER_FIN);
        const struct verdict *verdict = finish();
        assert_string_equal(cause_name(verdict->cause),
                            cause_name(stories[i].text ? CAUSE_ABORTED : CAUSE_CAPTURE_GAP));
    }
}

/* Three commands had been sent before we came, and the server answers the first of them. */
static void test_picked_up_between_pipelined_commands(void **state) /* S85 */
{
    (void)state;
    const struct dialogue_options midstream = {.midstream = true};
    for (unsigned i = 0; i < 4; i++) {
        story_begin_with(&midstream, true);
        server("250 2.1.5 Ok\r\n");
        if (i == 3) { /* an exchange is seen: from here on all is known */
            client("RCPT TO:<c@server.test>\r\n");
            server("250 2.1.5 Ok\r\n");
        }
        wait_ms(20000);
        probe_answered(SIDE_CLIENT);
        if (i == 1) {
            leg(SIDE_CLIENT, stuck(LEG_TAPPED, 20000));
        } else if (i == 2) {
            server("421 4.3.2 Service shutting down\r\n");
        }
        ends(SESSION_END_SERVER_FIN);
        static const enum fault faults[] = {FAULT_UNKNOWN, FAULT_CLIENT_NETWORK, FAULT_SERVER, FAULT_SERVER};
        static const enum cause causes[] = {CAUSE_CAPTURE_GAP, CAUSE_LEG_UNANSWERED, CAUSE_SHUTDOWN,
                                            CAUSE_EARLY_CLOSE};
        const struct verdict *verdict = finish();
        assert_string_equal(fault_name(verdict->fault), fault_name(faults[i]));
        assert_string_equal(cause_name(verdict->cause), cause_name(causes[i]));
    }
}

/* What looks like a command may be a line of a body; what is none, behind it, is no command that a box has rewritten. */
static void test_picked_up_in_a_body(void **state)
{
    (void)state;
    const struct dialogue_options midstream = {.midstream = true};
    for (unsigned i = 0; i < 2; i++) {
        story_begin_with(&midstream, true);
        client("NOOP\r\n");
        server(i == 0 ? "250 2.0.0 chunk\r\n" : "552 5.3.4 too big\r\n");
        client("XXXXXXXXXXXX\r\nmore text\r\n");
        wait_ms(200000);
        probe_answered(SIDE_SERVER);
        ends(SESSION_END_CLIENT_FIN);
        const struct verdict *verdict = finish();
        assert_int_equal(verdict->fault, FAULT_UNKNOWN);
        assert_int_equal(verdict->cause, CAUSE_CAPTURE_GAP);
    }
}

/* --- its size ---------------------------------------------------------------------------------------------------- */

static void test_size(void **state)
{
    (void)state;
    print_message("sizeof(struct session) = %zu octets\n", sizeof(struct session));
    assert_true(sizeof(struct session) <= 728);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clean),
        cmocka_unit_test(test_reset_after_quit_is_no_fault),
        cmocka_unit_test(test_reset_before_221_is_no_fault),
        cmocka_unit_test(test_left_without_quit),
        cmocka_unit_test(test_health_probes),
        cmocka_unit_test(test_idle_reaped),
        cmocka_unit_test(test_sentences_of_clean_sessions),
        cmocka_unit_test(test_connect_failures),
        cmocka_unit_test(test_prohibited_by_whom),
        cmocka_unit_test(test_client_dies_in_body),
        cmocka_unit_test(test_client_gives_up_early),
        cmocka_unit_test(test_patient_client_blames_the_server),
        cmocka_unit_test(test_giving_up_behind_a_pipelined_quit),
        cmocka_unit_test(test_half_closed_behind_the_dot),
        cmocka_unit_test(test_early_talk),
        cmocka_unit_test(test_body_without_354),
        cmocka_unit_test(test_early_body_that_was_wanted),
        cmocka_unit_test(test_server_hangs_up),
        cmocka_unit_test(test_fin_crosses_a_command),
        cmocka_unit_test(test_server_dies_in_a_body_that_passed_unseen),
        cmocka_unit_test(test_picked_up_between_pipelined_commands),
        cmocka_unit_test(test_picked_up_in_a_body),
        cmocka_unit_test(test_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
