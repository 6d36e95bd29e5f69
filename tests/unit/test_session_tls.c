/* Through TLS, where only the sizes of records are seen: who has left, who owed, and what the legs show all the same. */
#include "tests/unit/test_session.h"

/* --- records by their sizes -------------------------------------------------------------------------------------- */

static void record_of(enum side side, uint8_t type, uint16_t length, uint8_t first)
{
    static uint8_t octets[5 + 2100];
    octets[0] = type;
    octets[1] = octets[2] = 3;
    octets[3] = (uint8_t)(length >> 8);
    octets[4] = (uint8_t)length;
    octets[5] = first;
    session_on_octets(&session, side, octets, 5u + length, now_us);
}

static void inside(enum side side, uint16_t plain) /* TLS 1.3 adds 17 octets */
{
    record_of(side, 23, (uint16_t)(plain + 17), 0);
}

static void tls_hello_begins(void)
{
    hello();
    client("STARTTLS\r\n");
    server("220 ready\r\n");
    record_of(SIDE_CLIENT, 22, 300, 1);
    record_of(SIDE_SERVER, 22, 120, 2);
    record_of(SIDE_SERVER, 20, 1, 1);
    record_of(SIDE_SERVER, 23, 2000, 0);
    record_of(SIDE_CLIENT, 20, 1, 1);
    inside(SIDE_CLIENT, 52);
}

static void tls_hello(void)
{
    tls_hello_begins();
    inside(SIDE_CLIENT, 18); /* EHLO */
    inside(SIDE_SERVER, 150);
}

static void envelope_inside_tls(void)
{
    tls_hello();
    inside(SIDE_CLIENT, 30);
    inside(SIDE_SERVER, 14);
    inside(SIDE_CLIENT, 32);
    inside(SIDE_SERVER, 14);
}

static void data_inside_tls(void)
{
    envelope_inside_tls();
    inside(SIDE_CLIENT, 6);
    inside(SIDE_SERVER, 37);
}

/* --- who leaves -------------------------------------------------------------------------------------------------- */

static void test_health_probe_of_implicit_tls(void **state) /* S10 on port 465 */
{
    (void)state;
    for (unsigned ms = 10; ms <= 100000; ms *= 100) {
        story_begin_with(&(struct dialogue_options){.implicit_tls = true}, true);
        wait_ms(ms);
        ends(SESSION_END_CLIENT_FIN);
        expect_verdict(FAULT_NONE, CAUSE_PROBE_ONLY, CONFIDENCE_LIKELY);
    }
}

static void test_leaving_inside_tls(void **state) /* S81, S82 and S83 through TLS */
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) { /* QUIT, and gone without waiting for the 221 */
        story_begin();
        tls_hello();
        static const uint16_t sizes[][2] = {{30, 14}, {32, 14}, {6, 37}, {400, 30}};
        for (size_t n = 0; n < sizeof sizes / sizeof sizes[0]; n++) {
            inside(SIDE_CLIENT, sizes[n][0]);
            inside(SIDE_SERVER, sizes[n][1]);
        }
        inside(SIDE_CLIENT, 6);
        if (i / 2 == 1) {
            inside(SIDE_CLIENT, 2); /* close_notify */
        }
        ends(i % 2 == 0 ? SESSION_END_CLIENT_FIN : SESSION_END_CLIENT_RESET);
        expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_LIKELY);
    }
    for (unsigned i = 0; i < 2;
         i++) { /* a farewell to RCPT; or a small mail with QUIT behind it, and its 250 */
        story_begin();
        tls_hello();
        inside(SIDE_CLIENT, 30);
        inside(SIDE_SERVER, 14);
        inside(SIDE_CLIENT, i == 0 ? 32 : 300);
        inside(SIDE_SERVER, 40);
        inside(SIDE_SERVER, 2);
        ends(SESSION_END_SERVER_FIN);
        expect_verdict(i == 0 ? FAULT_SERVER : FAULT_NONE, i == 0 ? CAUSE_SILENT_CLOSE : CAUSE_CLEAN,
                       CONFIDENCE_POSSIBLE);
    }
}

/* Whose FIN came first says nothing where somebody has said before, inside TLS, that it is leaving. */
static void test_the_first_bye_inside_tls_counts(void **state) /* S81 and S82 */
{
    (void)state;
    static const enum session_end ends_by[] = {SESSION_END_SERVER_FIN, SESSION_END_CLIENT_FIN,
                                               SESSION_END_CLIENT_RESET};
    for (unsigned i = 0; i < 3; i++) { /* a farewell to RCPT */
        story_begin();
        tls_hello();
        inside(SIDE_CLIENT, 30);
        inside(SIDE_SERVER, 14);
        inside(SIDE_CLIENT, 32);
        inside(SIDE_SERVER, 40);
        inside(SIDE_SERVER, 2);
        if (i == 1) {
            inside(SIDE_CLIENT, 2); /* its answer to the server's */
        }
        ends(ends_by[i]);
        expect_verdict(FAULT_SERVER, CAUSE_SILENT_CLOSE, CONFIDENCE_POSSIBLE);
        assert_int_equal(record.verdict.also, 1u << FAULT_POLICY);
        assert_int_equal(record.verdict.ended_by, ENDED_BY_SERVER);
    }
    story_begin(); /* ... but the client had spoken, and it was lost before us: it was no silence that the server ended */
    envelope_inside_tls();
    wait_ms(8000);
    leg(SIDE_CLIENT,
        (struct leg_evidence){.probe = PROBE_REVEALED, .revealed_octets = 50, .flags = LEG_TAPPED});
    inside(SIDE_SERVER, 60);
    inside(SIDE_SERVER, 2);
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT_NETWORK, CAUSE_OCTETS_LOST, CONFIDENCE_CERTAIN);
    story_begin(); /* envelope, BDAT, message and QUIT in one record; answered, and the server says first that it leaves */
    tls_hello();
    inside(SIDE_CLIENT, 5260);
    inside(SIDE_SERVER, 84);
    inside(SIDE_SERVER, 36);
    inside(SIDE_SERVER, 2);
    inside(SIDE_CLIENT, 2);
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_POSSIBLE);
    for (unsigned i = 0; i < 6; i++) { /* a small mail, QUIT, and a long 221 */
        story_begin();
        data_inside_tls();
        inside(SIDE_CLIENT, 400);
        inside(SIDE_SERVER, 30);
        inside(SIDE_CLIENT, 6);
        inside(SIDE_SERVER, i < 3 ? 70 : 15);
        inside(SIDE_SERVER, 2);
        ends(ends_by[i % 3]);
        expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_LIKELY);
    }
    for (unsigned i = 0; i < 2; i++) { /* the client leaves of its own accord: perhaps in an open mail */
        story_begin();
        tls_hello();
        inside(SIDE_CLIENT, 30);
        inside(SIDE_SERVER, 14);
        inside(SIDE_CLIENT, 32);
        inside(SIDE_SERVER, 40);
        if (i == 1) {
            inside(SIDE_CLIENT, 2);
            inside(SIDE_SERVER, 2);
        }
        ends(SESSION_END_CLIENT_FIN);
        expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_POSSIBLE);
    }
}

static void test_idle_inside_tls(void **state) /* S27 through TLS; S81 */
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        story_begin();
        data_inside_tls();
        inside(SIDE_CLIENT, 1500);
        inside(SIDE_SERVER, 30);
        wait_ms(i < 2 ? 10000 : 300000);
        ends(i % 2 ? SESSION_END_SERVER_RESET : SESSION_END_SERVER_FIN);
        expect_verdict(FAULT_NONE, CAUSE_IDLE_REAPED, CONFIDENCE_POSSIBLE);
    }
    for (unsigned i = 0; i < 3; i++) { /* DATA, or QUIT, and an answer: of a farewell's length or longer */
        story_begin();
        envelope_inside_tls();
        inside(SIDE_CLIENT, 6);
        inside(SIDE_SERVER, i == 0 ? 15 : 70);
        if (i != 2) {
            inside(SIDE_SERVER, 2);
        }
        ends(SESSION_END_SERVER_FIN);
        if (i == 0) {
            expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_POSSIBLE);
        } else {
            expect_verdict(FAULT_SERVER, CAUSE_SILENT_CLOSE, CONFIDENCE_POSSIBLE);
            assert_int_equal(record.verdict.also, 1u << FAULT_POLICY);
        }
    }
}

static void test_server_takes_leave_inside_tls(void **state) /* S26, S24, S49, S50 and S43 through TLS */
{
    (void)state;
    static const struct {
        struct leg_evidence client_leg;
        enum fault fault;
        enum cause cause;
    } stories[] = {
        {{.probe = PROBE_ANSWERED, .flags = LEG_TAPPED}, FAULT_CLIENT, CAUSE_COMMAND_STALL},
        {{.probe = PROBE_REVEALED, .revealed_octets = 30, .flags = LEG_TAPPED},
         FAULT_CLIENT_NETWORK,
         CAUSE_OCTETS_LOST},
        {{.probe = PROBE_UNANSWERED}, FAULT_CLIENT_NETWORK, CAUSE_LEG_UNANSWERED},
    };
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++) {
        for (unsigned end = 0; end < 3; end++) {
            story_begin();
            envelope_inside_tls();
            wait_ms(6000);
            leg(SIDE_CLIENT, stories[i].client_leg);
            inside(SIDE_SERVER, 47);
            inside(SIDE_SERVER, 2);
            if (end == 1) {
                inside(SIDE_CLIENT, 2);
            }
            leg(SIDE_CLIENT, session.legs[0]); /* the sample at the end */
            ends(end == 0   ? SESSION_END_SERVER_FIN
                 : end == 1 ? SESSION_END_CLIENT_FIN
                            : SESSION_END_SERVER_RESET);
            const struct verdict *verdict = finish();
            assert_string_equal(fault_name(verdict->fault), fault_name(stories[i].fault));
            assert_string_equal(cause_name(verdict->cause), cause_name(stories[i].cause));
            assert_int_equal(verdict->waited_us, 6000000);
        }
    }
    story_begin(); /* the server hung up on a client that goes on: no leave was taken */
    tls_hello();
    inside(SIDE_CLIENT, 30);
    inside(SIDE_SERVER, 14);
    wait_ms(6000);
    inside(SIDE_SERVER, 5);
    inside(SIDE_CLIENT, 32);
    inside(SIDE_SERVER, 14);
    inside(SIDE_CLIENT, 6);
    inside(SIDE_CLIENT, 2);
    ends(SESSION_END_CLIENT_FIN);
    assert_int_equal(finish()->fault, FAULT_NONE);
}

/* One ticket behind the EHLO looks like its answer: a client that waits on and leaves shows that it may have been none. */
static void test_leaving_behind_a_ticket(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        story_begin();
        tls_hello_begins();
        inside(SIDE_CLIENT, 18);
        inside(SIDE_SERVER, 233);
        wait_ms(i == 0 ? 305000 : 10);
        ends(SESSION_END_CLIENT_FIN);
        assert_string_equal(fault_name(finish()->fault), fault_name(i == 0 ? FAULT_UNKNOWN : FAULT_NONE));
    }
}

/* ... and what the probe of the client showed is not forgotten over the server's leave, only over the client's own word. */
static void test_probe_outlives_a_leave_inside_tls(void **state) /* S50 through TLS */
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        story_begin();
        data_inside_tls();
        inside(SIDE_CLIENT, 1500);
        wait_ms(6500);
        leg(SIDE_CLIENT, (struct leg_evidence){.probe = PROBE_UNANSWERED});
        inside(SIDE_SERVER, 47);
        if (i == 1) {
            inside(SIDE_CLIENT, 6);
            inside(SIDE_SERVER, 15);
        }
        inside(SIDE_SERVER, 2);
        leg(SIDE_CLIENT, session.legs[0]); /* the sample at the end */
        ends(SESSION_END_SERVER_FIN);
        const struct verdict *verdict = finish();
        assert_string_equal(fault_name(verdict->fault),
                            fault_name(i == 0 ? FAULT_CLIENT_NETWORK : FAULT_NONE));
    }
}

/* --- who owed ---------------------------------------------------------------------------------------------------- */

/* Inside TLS, behind a message whose last record is no dot: both sides are probed. */
static void test_both_are_probed_where_tls_hides_who_owes(void **state) /* S50 through TLS */
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        story_begin();
        data_inside_tls();
        inside(SIDE_CLIENT, 1500);
        if (i == 1) {
            inside(SIDE_CLIENT, 11); /* the dot and QUIT */
        }
        uint32_t wants = wait_ms(6000);
        assert_true((wants & SESSION_WANT_PROBE_SERVER) != 0);
        assert_int_equal((wants & SESSION_WANT_PROBE_CLIENT) != 0, i == 0);
        ends(SESSION_END_SERVER_FIN);
        finish();
    }
}

static void test_late_answer_inside_tls(void **state) /* S49, S50, S43 through TLS, and the control */
{
    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        story_begin();
        data_inside_tls();
        inside(SIDE_CLIENT, 1500); /* a whole small message, or the beginning of one */
        if (i == 4) {
            inside(SIDE_CLIENT, 11); /* the dot and QUIT */
        }
        wait_ms(6500);
        inside(SIDE_SERVER, 47);
        if (i == 3) { /* it was the answer: the client goes on */
            inside(SIDE_CLIENT, 6);
            inside(SIDE_SERVER, 15);
        }
        inside(SIDE_SERVER, 2);
        if (i == 1) {
            leg(SIDE_CLIENT, (struct leg_evidence){.probe = PROBE_UNANSWERED});
        } else if (i == 2) {
            leg(SIDE_SERVER, stuck(LEG_ONLY_BIG_LOST | LEG_HEARD, 6000));
        } else {
            leg(SIDE_SERVER, (struct leg_evidence){.connect = CONNECT_ESTABLISHED});
        }
        ends(SESSION_END_SERVER_FIN);
        static const enum fault faults[] = {FAULT_UNKNOWN, FAULT_CLIENT_NETWORK, FAULT_SERVER_NETWORK,
                                            FAULT_NONE, FAULT_NONE};
        assert_string_equal(fault_name(finish()->fault), fault_name(faults[i]));
    }
}

/* --- in clear and through TLS ------------------------------------------------------------------------------------ */

/* The octets are in our buffers, the final dot with them; the server's leg has not carried them, and the server closes. */
static void test_undelivered_body_and_the_server_closes(void **state) /* S43 in clear and through TLS */
{
    (void)state;
    for (unsigned tls = 0; tls < 2; tls++) {
        for (unsigned reset = 0; reset < 2; reset++) {
            story_begin();
            if (tls) {
                data_inside_tls();
                inside(SIDE_CLIENT, 1500);
                inside(SIDE_CLIENT, 11);
                wait_ms(9000);
                inside(SIDE_SERVER, 47);
                inside(SIDE_SERVER, 2);
            } else {
                data();
                client("x\r\n.\r\n");
                wait_ms(9000);
            }
            leg(SIDE_SERVER, stuck(LEG_ONLY_BIG_LOST | LEG_HEARD, 9000));
            ends(reset ? SESSION_END_SERVER_RESET : SESSION_END_SERVER_FIN);
            expect_verdict(FAULT_SERVER_NETWORK, CAUSE_PATH_MTU_BLACK_HOLE, CONFIDENCE_CERTAIN);
        }
    }
}

static void test_leaving_after_loss(void **state) /* S24: the client gives up first */
{
    (void)state;
    for (unsigned tls = 0; tls < 2; tls++) {
        for (unsigned reset = 0; reset < 2; reset++) {
            story_begin();
            if (tls) {
                tls_hello();
                inside(SIDE_CLIENT, 30);
                inside(SIDE_SERVER, 14);
            } else {
                envelope();
            }
            wait_ms(8000);
            leg(SIDE_CLIENT,
                (struct leg_evidence){.probe = PROBE_REVEALED, .revealed_octets = 32, .flags = LEG_TAPPED});
            ends(reset ? SESSION_END_CLIENT_RESET : SESSION_END_CLIENT_FIN);
            expect_verdict(FAULT_CLIENT_NETWORK, CAUSE_OCTETS_LOST, CONFIDENCE_CERTAIN);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_health_probe_of_implicit_tls),
        cmocka_unit_test(test_leaving_inside_tls),
        cmocka_unit_test(test_the_first_bye_inside_tls_counts),
        cmocka_unit_test(test_idle_inside_tls),
        cmocka_unit_test(test_server_takes_leave_inside_tls),
        cmocka_unit_test(test_leaving_behind_a_ticket),
        cmocka_unit_test(test_probe_outlives_a_leave_inside_tls),
        cmocka_unit_test(test_both_are_probed_where_tls_hides_who_owes),
        cmocka_unit_test(test_late_answer_inside_tls),
        cmocka_unit_test(test_undelivered_body_and_the_server_closes),
        cmocka_unit_test(test_leaving_after_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
