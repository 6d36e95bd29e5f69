/* Refusals, in the server's own words: what each says, which mail it lost, and what it explains of the end. */
#include "tests/unit/test_session.h"

/* --- at the greeting --------------------------------------------------------------------------------------------- */

static void test_policies(void **state)
{
    (void)state;
    static const struct {
        const char *reply;
        enum fault fault;
        enum cause cause;
    } stories[] = {
        {"421 4.7.0 server.test Error: too many connections from 192.0.2.7\r\n", FAULT_POLICY,
         CAUSE_PER_SOURCE_LIMIT},
        {"421 4.3.2 The maximum number of concurrent server connections has exceeded a per-source limit, "
         "closing "
         "transmission channel\r\n",
         FAULT_POLICY, CAUSE_PER_SOURCE_LIMIT},
        {"421 mx AUP#CXCNCT\r\n", FAULT_POLICY, CAUSE_PER_SOURCE_LIMIT},
        {"421 4.3.2 All server ports are busy\r\n", FAULT_SERVER, CAUSE_OVERLOAD},
        {"421 4.7.28 Our system has detected an unusual rate of unsolicited mail\r\n", FAULT_POLICY,
         CAUSE_PER_SOURCE_RATE},
        {"554 5.7.1 Service unavailable; client blocked using zen.example\r\n", FAULT_POLICY,
         CAUSE_REPUTATION},
    };
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++) {
        story_begin();
        server(stories[i].reply);
        ends(SESSION_END_SERVER_FIN);
        expect_verdict(stories[i].fault, stories[i].cause, CONFIDENCE_CERTAIN);
        assert_non_null(strstr(last_line, " reply=\""));
    }
}

static void test_load_is_not_claimed_when_the_reply_does_not_say(void **state) /* S16 and a bare 421 */
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        story_begin();
        server(i == 0 ? "421 4.3.2 All server ports are busy\r\n" : "421 mx.test\r\n");
        ends(SESSION_END_SERVER_FIN);
        expect_verdict(FAULT_SERVER, CAUSE_OVERLOAD, i == 0 ? CONFIDENCE_CERTAIN : CONFIDENCE_LIKELY);
        assert_int_equal(strstr(record.verdict.explain, "whoever asks") != NULL, i == 0);
    }
}

static void test_per_source_limit_counts(void **state)
{
    (void)state;
    static const uint8_t seed[16] = {1};
    limiter = limiter_create(64, seed);
    assert_non_null(limiter);
    struct limiter_ticket others[21];
    struct limiter_counts counts;
    struct address source = {.octets = {0}, .port = 40000}, target = {.octets = {0}, .port = 25};
    memset(others, 0, sizeof others);
    story_begin();
    for (unsigned i = 0; i < 21; i++) {
        assert_int_equal(limiter_admit(limiter, &policy, &source, &target, now_us, &others[i], &counts),
                         LIMITER_ADMIT);
        if (i < 20) {
            limiter_greeted(limiter, &others[i], true);
        }
    }
    session.ticket = others[20];
    server("421 4.7.0 server.test Error: too many connections from 192.0.2.7\r\n");
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_POLICY, CAUSE_PER_SOURCE_LIMIT, CONFIDENCE_CERTAIN);
    assert_int_equal(record.counts.concurrent, 21);
    assert_int_equal(record.server_limit_seen, 20);
    for (unsigned i = 0; i < 21; i++) {
        limiter_release(limiter, &others[i], now_us);
    }
    limiter_destroy(limiter);
    limiter = NULL;
}

/* --- of a mail --------------------------------------------------------------------------------------------------- */

static void test_mail_refused_then_orderly_end(void **state) /* S33, S34, S60 */
{
    (void)state;
    static const struct {
        const char *reply;
        enum cause cause;
    } stories[] = {
        {"450 4.2.0 <b>: Recipient address rejected: Greylisted\r\n", CAUSE_GREYLISTING},
        {"450 4.7.1 Error: too much mail from 192.0.2.7\r\n", CAUSE_PER_SOURCE_RATE},
        {"550 5.1.1 <b>: User unknown\r\n", CAUSE_REJECTED},
        {"552 5.3.4 Message size exceeds fixed limit\r\n", CAUSE_SIZE_LIMIT},
    };
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++) {
        story_begin();
        hello();
        client("MAIL FROM:<a>\r\n");
        server("250 ok\r\n");
        client("RCPT TO:<b>\r\n");
        server(stories[i].reply);
        quit();
        ends(SESSION_END_CLIENT_FIN);
        expect_verdict(FAULT_POLICY, stories[i].cause, CONFIDENCE_CERTAIN);
        assert_int_equal(record.verdict.limit_by, LIMIT_BY_SERVER);
    }
}

static void
test_no_room_or_too_large(void **state) /* 452 4.3.1, with the mail's size on either side of SIZE */
{
    (void)state;
    static const struct {
        const char *mail, *reply;
        enum fault fault;
        enum cause cause;
        enum confidence confidence;
        uint32_t also;
    } stories[] = {
        {"MAIL FROM:<a> SIZE=1000\r\n", "452 4.3.1 Insufficient system storage\r\n", FAULT_SERVER,
         CAUSE_OVERLOAD, CONFIDENCE_CERTAIN, 0},
        {"MAIL FROM:<a> SIZE=1001\r\n", "452 4.3.1 Insufficient system storage\r\n", FAULT_POLICY,
         CAUSE_SIZE_LIMIT, CONFIDENCE_LIKELY, 1u << FAULT_SERVER},
        {"MAIL FROM:<a> SIZE=1001\r\n", "552 5.3.4 Message size exceeds fixed limit\r\n", FAULT_POLICY,
         CAUSE_SIZE_LIMIT, CONFIDENCE_CERTAIN, 0},
    };
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++) {
        story_begin();
        hello();
        client(stories[i].mail);
        server(stories[i].reply);
        quit();
        ends(SESSION_END_CLIENT_FIN);
        expect_verdict(stories[i].fault, stories[i].cause, stories[i].confidence);
        assert_int_equal(record.verdict.also, stories[i].also);
    }
}

static void one_mail(const char *answer_to_rcpt)
{
    client("MAIL FROM:<a>\r\n");
    server("250 ok\r\n");
    client("RCPT TO:<b>\r\n");
    server(answer_to_rcpt);
    if (answer_to_rcpt[0] == '2') {
        client("DATA\r\n");
        server("354 go\r\n");
        client("x\r\n.\r\n");
        server("250 ok\r\n");
    } else {
        client("RSET\r\n");
        server("250 ok\r\n");
    }
}

/* One of several mails was refused: whichever it was, the session lost it. */
static void test_one_mail_of_several_refused(void **state)
{
    (void)state;
    for (unsigned refused = 0; refused < 4; refused++) {
        story_begin();
        hello();
        for (unsigned i = 0; i < 3; i++) {
            one_mail(i == refused ? "550 5.1.1 <b>: User unknown\r\n" : "250 ok\r\n");
        }
        client("QUIT\r\n");
        server(refused == 1 ? "421 4.3.2 Service closing\r\n"
                            : "221 Bye\r\n"); /* a 421 to QUIT says no more */
        ends(SESSION_END_SERVER_FIN);
        if (refused < 3) {
            expect_verdict(FAULT_POLICY, CAUSE_REJECTED, CONFIDENCE_CERTAIN);
        } else {
            expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
        }
    }
    story_begin(); /* a later mail is cut: the refusal of an earlier one does not explain that */
    hello();
    one_mail("550 5.1.1 <b>: User unknown\r\n");
    one_mail("250 ok\r\n");
    client("MAIL FROM:<a>\r\n");
    server("250 ok\r\n");
    wait_ms(10000);
    probe_answered(SIDE_CLIENT);
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_SERVER, CAUSE_EARLY_CLOSE, CONFIDENCE_CERTAIN);
}

static void test_refused_before_any_mail(void **state) /* S33, S34 at MAIL; a wrong password */
{
    (void)state;
    static const struct {
        const char *command, *reply;
        enum cause cause;
    } stories[] = {
        {"MAIL FROM:<a>\r\n", "450 4.7.1 Error: too much mail from 192.0.2.7\r\n", CAUSE_PER_SOURCE_RATE},
        {"MAIL FROM:<a>\r\n", "450 4.2.0 Greylisted, see you later\r\n", CAUSE_GREYLISTING},
        {"AUTH PLAIN AAAA\r\n", "535 5.7.8 Error: authentication failed\r\n", CAUSE_REJECTED},
    };
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++) {
        for (unsigned before = 0; before < 2; before++) {
            story_begin();
            if (before == 0) {
                hello();
            } else {
                mail();
            }
            client(stories[i].command);
            server(stories[i].reply);
            quit();
            ends(SESSION_END_CLIENT_FIN);
            expect_verdict(FAULT_POLICY, stories[i].cause, CONFIDENCE_CERTAIN);
        }
    }
    story_begin(); /* the control: the second password is right */
    hello();
    client("AUTH PLAIN AAAA\r\n");
    server("535 5.7.8 Error: authentication failed\r\n");
    client("AUTH PLAIN BBBB\r\n");
    server("235 2.7.0 Authentication successful\r\n");
    quit();
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
}

static void test_refused_and_closed_at_once(void **state)
{
    static const struct {
        const char *reply;
        unsigned wait_ms;
        enum fault fault;
        enum cause cause;
        enum confidence confidence;
        uint32_t also;
    } cases[] = {
        {"452 4.5.3 too many recipients\r\n", 10, FAULT_POLICY, CAUSE_REJECTED, CONFIDENCE_CERTAIN, 0},
        {"550 no\r\n", 10, FAULT_POLICY, CAUSE_REJECTED, CONFIDENCE_CERTAIN, 0},
        {"451 later\r\n", 10, FAULT_POLICY, CAUSE_REJECTED, CONFIDENCE_LIKELY, 1u << FAULT_SERVER},
        {"451 4.7.1 Service unavailable - try again later\r\n", 10, FAULT_SERVER, CAUSE_OVERLOAD,
         CONFIDENCE_LIKELY, 1u << FAULT_POLICY},
        {"550 no\r\n", 30000, FAULT_NONE, CAUSE_IDLE_REAPED, CONFIDENCE_CERTAIN, 0}, /* the control */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        story_begin();
        data();
        client("x\r\n.\r\n");
        server(cases[i].reply);
        wait_ms(cases[i].wait_ms);
        ends(SESSION_END_SERVER_FIN);
        expect_verdict(cases[i].fault, cases[i].cause, cases[i].confidence);
        assert_int_equal(record.verdict.also, cases[i].also);
    }
}

static void test_size_limit_in_body_behind_a_reset(void **state) /* S60 */
{
    (void)state;
    for (unsigned reset = 0; reset < 2; reset++) {
        story_begin();
        data();
        client("Subject: x\r\n\r\nmuch more than is allowed");
        server("552 5.3.4 Error: message file too big\r\n");
        ends(reset ? SESSION_END_SERVER_RESET : SESSION_END_SERVER_FIN);
        expect_verdict(FAULT_POLICY, CAUSE_SIZE_LIMIT, CONFIDENCE_CERTAIN);
        assert_int_equal((record.verdict.notes & NOTE_CLIENT_SAW_RESET) != 0, reset);
    }
}

static void test_an_old_refusal_explains_nothing(void **state)
{
    (void)state;
    story_begin(); /* it refused another mail than the one that was cut */
    hello();
    client("MAIL FROM:<a>\r\n");
    server("250 ok\r\n");
    client("RCPT TO:<b>\r\n");
    server("550 5.1.1 <b>: User unknown\r\n");
    client("RSET\r\n");
    server("250 ok\r\n");
    client("MAIL FROM:<a>\r\n");
    server("250 ok\r\n");
    client("RCPT TO:<c>\r\n");
    server("250 ok\r\n");
    wait_ms(10000);
    probe_answered(SIDE_CLIENT);
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_SERVER, CAUSE_EARLY_CLOSE, CONFIDENCE_CERTAIN);
    story_begin();
    hello();
    client("STARTTLS\r\n");
    server("454 4.7.0 TLS not available due to local problem\r\n");
    quit();
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
    story_begin(); /* refused in clear, and then done inside TLS for all we know */
    hello();
    client("MAIL FROM:<a>\r\n");
    server("530 5.7.0 Must issue a STARTTLS command first\r\n");
    client("STARTTLS\r\n");
    server("220 ready\r\n");
    client("\x16\x03\x01");
    ends(SESSION_END_CLIENT_FIN);
    expect_verdict(FAULT_CLIENT, CAUSE_ABORTED, CONFIDENCE_CERTAIN);
}

/* --- 421 --------------------------------------------------------------------------------------------------------- */

static void test_421_in_body(void **state) /* S36, S70 */
{
    (void)state;
    story_begin();
    data();
    client("Subject: x\r\n\r\nhalf");
    server("421 4.3.2 Service not available, shutting down\r\n");
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_SERVER, CAUSE_SHUTDOWN, CONFIDENCE_CERTAIN);
    assert_int_equal(record.verdict.phase, PHASE_BODY);
    story_begin();
    data();
    client("Subject: x\r\n\r\nhalf");
    server("421 Exceeded allowable connection time, disconnecting.\r\n");
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_POLICY, CAUSE_SESSION_TIME_LIMIT, CONFIDENCE_CERTAIN);
}

static void test_421_as_any_other_4xx(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        story_begin();
        hello();
        client("MAIL FROM:<a>\r\n");
        server("250 ok\r\n");
        client("RCPT TO:<a>\r\n");
        server("421 4.7.1 try again later\r\n");
        client("RCPT TO:<b>\r\nDATA\r\n");
        server("250 ok\r\n354 go\r\n");
        client("x\r\n.\r\nQUIT\r\n");
        if (i == 1) {
            ends(SESSION_END_CLIENT_FIN);
        }
        server("250 ok\r\n221 Bye\r\n");
        ends(SESSION_END_SERVER_FIN);
        expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
        assert_int_equal(record.mails_ok, 1);
    }
}

static void test_421_as_a_farewell(void **state)
{
    (void)state;
    story_begin();
    mail();
    client("QUIT\r\n");
    server("421 4.3.2 Service closing transmission channel\r\n");
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
    story_begin();
    mail();
    quit();
    server_tires();
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
    story_begin(); /* the control: QUIT does not undo what was said before it */
    hello();
    client("MAIL FROM:<a>\r\nQUIT\r\n");
    server("421 4.3.2 Service not available, shutting down\r\n");
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_SERVER, CAUSE_SHUTDOWN, CONFIDENCE_CERTAIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_policies),
        cmocka_unit_test(test_load_is_not_claimed_when_the_reply_does_not_say),
        cmocka_unit_test(test_per_source_limit_counts),
        cmocka_unit_test(test_mail_refused_then_orderly_end),
        cmocka_unit_test(test_no_room_or_too_large),
        cmocka_unit_test(test_one_mail_of_several_refused),
        cmocka_unit_test(test_refused_before_any_mail),
        cmocka_unit_test(test_refused_and_closed_at_once),
        cmocka_unit_test(test_size_limit_in_body_behind_a_reset),
        cmocka_unit_test(test_an_old_refusal_explains_nothing),
        cmocka_unit_test(test_421_in_body),
        cmocka_unit_test(test_421_as_any_other_4xx),
        cmocka_unit_test(test_421_as_a_farewell),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
