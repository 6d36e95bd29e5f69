/* Whole sessions told as stories with a clock of our own: what is said when, what TCP shows, how it ends; and the
 * verdict that must come out. The rows named in comments are those of the catalogue of faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "core/session/session.h"

#define MINUTE_US 60000000u

static struct session session;
static struct policy_settings policy;
static struct limiter *limiter;
static struct record record;
static char last_line[RECORD_LINE_OCTETS];
static uint64_t now_us;
static struct connection connection;
static struct session_caller caller;

static void story_begin_with(const struct dialogue_options *options, bool connected)
{
    memset(&policy, 0, sizeof policy);
    for (unsigned phase = 0; phase < PHASE_COUNT; phase++) {
        policy.timeouts.phase_us[phase] = 5 * MINUTE_US;
    }
    policy.timeouts.idle_us = 5 * MINUTE_US;
    policy.timeouts.stall_notice_us = MINUTE_US;
    policy.ipv6_source_prefix = 64;
    snprintf(policy.host_name, sizeof policy.host_name, "witness.test");
    now_us = 1000000;
    connection = (struct connection){.client.port = 40000, .server.port = 25, .opened_us = now_us};
    caller = (struct session_caller){.mode = RECORD_PROXY, .id_prefix = "test", .limiter = limiter};
    struct session_setup setup = {.caller = &caller,
                                  .connection = &connection,
                                  .number = 1,
                                  .policy = &policy,
                                  .probing = true,
                                  .connected = connected};
    if (options != NULL) {
        setup.dialogue = *options;
    }
    session_init(&session, &setup);
}

static void story_begin(void)
{
    story_begin_with(NULL, true);
}

/* Lets time pass as the caller of a session must: every deadline on the way is delivered. Returns what was wanted. */
static uint32_t wait_ms(uint64_t ms)
{
    uint64_t until_us = now_us + ms * 1000;
    uint32_t wants = session_take_wants(&session);
    for (unsigned steps = 0; steps < 1000; steps++) {
        uint64_t deadline_us = session_deadline_us(&session);
        if (deadline_us > until_us) {
            break;
        }
        now_us = deadline_us > now_us ? deadline_us : now_us;
        session_on_deadline(&session, now_us);
        wants |= session_take_wants(&session);
        assert_true(steps < 999); /* a deadline that never moves would spin a worker */
    }
    now_us = until_us;
    return wants;
}

static void client(const char *text)
{
    session_on_octets(&session, SIDE_CLIENT, (const uint8_t *)text, strlen(text), now_us);
}

static void server(const char *text)
{
    session_on_octets(&session, SIDE_SERVER, (const uint8_t *)text, strlen(text), now_us);
}

static void leg(enum side side, struct leg_evidence evidence)
{
    if (side == SIDE_SERVER && evidence.connect == CONNECT_PENDING) {
        evidence.connect = CONNECT_ESTABLISHED;
    }
    session_set_evidence(&session, side, &evidence, now_us);
}

static void probe_answered(enum side side)
{
    leg(side, (struct leg_evidence){.probe = PROBE_ANSWERED, .flags = LEG_TAPPED});
}

static void ends(enum session_end end)
{
    session_on_end(&session, end, now_us);
}

static const struct verdict *finish(void)
{
    session_finish(&session, &record, now_us);
    assert_int_equal(ledger_sum_us(&record.ledger), record.duration_us);
    assert_true(record.verdict.explain[0] != '\0');
    record_to_logfmt(&record, last_line);
    session_clear(&session);
    record.reply = NULL; /* borrowed from the session */
    return &record.verdict;
}

#define expect_verdict(want_fault, want_cause, want_confidence)                                              \
    do {                                                                                                     \
        const struct verdict *verdict = finish();                                                            \
        if (verdict->cause != (want_cause) || verdict->fault != (want_fault) ||                              \
            verdict->confidence != (want_confidence)) {                                                      \
            print_error("%s:%d: %s\n", __FILE__, __LINE__, last_line);                                       \
        }                                                                                                    \
        assert_string_equal(cause_name(verdict->cause), cause_name(want_cause));                             \
        assert_string_equal(fault_name(verdict->fault), fault_name(want_fault));                             \
        assert_string_equal(confidence_name(verdict->confidence), confidence_name(want_confidence));         \
    } while (0)

static void greet(void)
{
    server("220 server.test ESMTP\r\n");
}

static void hello(void)
{
    greet();
    client("EHLO client.test\r\n");
    server("250-server.test\r\n250-PIPELINING\r\n250 SIZE 1000\r\n");
}

static void envelope(void)
{
    hello();
    client("MAIL FROM:<a@client.test>\r\n");
    server("250 2.1.0 Ok\r\n");
    client("RCPT TO:<b@server.test>\r\n");
    server("250 2.1.5 Ok\r\n");
}

static void data(void)
{
    envelope();
    client("DATA\r\n");
    server("354 End data with <CR><LF>.<CR><LF>\r\n");
}

static void mail(void)
{
    data();
    client("Subject: x\r\n\r\nx\r\n.\r\n");
    server("250 2.0.0 Ok: queued\r\n");
}

static void quit(void)
{
    client("QUIT\r\n");
    server("221 2.0.0 Bye\r\n");
}

/* --- sessions that are as they should be ------------------------------------------------------------------------ */

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

/* --- the client --------------------------------------------------------------------------------------------------- */

static void test_silent_after_354(void **state) /* the field case: smtpd_timeout=8s */
{
    (void)state;
    story_begin();
    data();
    assert_true(wait_ms(5500) & SESSION_WANT_PROBE_CLIENT);
    probe_answered(SIDE_CLIENT);
    wait_ms(2500);
    server("421 4.4.2 server.test Error: timeout exceeded\r\n");
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
    server("421 4.4.2 server.test Error: timeout exceeded\r\n");
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
    server("421 4.4.2 server.test Error: timeout exceeded\r\n");
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
    server("421 4.4.2 server.test Error: timeout exceeded\r\n");
    probe_answered(SIDE_CLIENT);
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT, CAUSE_COMMAND_STALL, CONFIDENCE_CERTAIN);
    story_begin();
    greet();
    wait_ms(8000);
    server("421 4.4.2 server.test Error: timeout exceeded\r\n");
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
    server("421 4.4.2 server.test Error: timeout exceeded\r\n");
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
    server("421 4.4.2 server.test Error: timeout exceeded\r\n");
    probe_answered(SIDE_CLIENT);
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT, CAUSE_UNTERMINATED_BODY, CONFIDENCE_CERTAIN);
}

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

/* --- the server --------------------------------------------------------------------------------------------------- */

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
    server("421 4.4.2 server.test Error: timeout exceeded\r\n");
    leg(SIDE_SERVER, (struct leg_evidence){.flags = LEG_WINDOW_ZERO, .unsent_octets = 500000});
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_SERVER, CAUSE_NOT_READING, CONFIDENCE_CERTAIN);
}

/* --- the network --------------------------------------------------------------------------------------------------- */

static struct leg_evidence stuck(uint32_t flags, uint64_t for_ms)
{
    return (struct leg_evidence){.flags = flags,
                                 .unacked_octets = 1448,
                                 .retrans_count = 5,
                                 .unacked_since_us = now_us - for_ms * 1000};
}

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
        server("421 4.4.2 server.test Error: timeout exceeded\r\n");
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
    server("421 4.4.2 server.test Error: timeout exceeded\r\n");
    leg(SIDE_CLIENT, stuck(0, 12000));
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT_NETWORK, CAUSE_LEG_UNANSWERED, CONFIDENCE_CERTAIN);

    story_begin();
    data();
    client("Subject: big\r\n\r\nbig");
    session_on_pushed_back(&session, SIDE_CLIENT, true, now_us);
    wait_ms(20000);
    server("421 4.4.2 server.test Error: timeout exceeded\r\n");
    leg(SIDE_SERVER, stuck(LEG_ONLY_BIG_LOST | LEG_HEARD, 20000));
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_SERVER_NETWORK, CAUSE_PATH_MTU_BLACK_HOLE, CONFIDENCE_CERTAIN);

    story_begin(); /* a full segment may be among those that got through */
    data();
    client("Subject: big\r\n\r\nbig");
    session_on_pushed_back(&session, SIDE_CLIENT, true, now_us);
    wait_ms(20000);
    server("421 4.4.2 server.test Error: timeout exceeded\r\n");
    leg(SIDE_SERVER, stuck(LEG_ONLY_BIG_LOST | LEG_HEARD | LEG_BIG_DOUBTED, 20000));
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_SERVER_NETWORK, CAUSE_PATH_MTU_BLACK_HOLE, CONFIDENCE_LIKELY);

    story_begin(); /* S46: our own missing rule is never the server's network */
    data();
    client("Subject: big\r\n\r\nbig");
    session_on_pushed_back(&session, SIDE_CLIENT, true, now_us);
    wait_ms(20000);
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
    server("421 4.4.2 server.test Error: timeout exceeded\r\n");
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
    server("421 4.4.2 server.test Error: timeout exceeded\r\n");
    leg(SIDE_CLIENT, (struct leg_evidence){.probe = PROBE_UNANSWERED, .probes_unanswered = 3});
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_CLIENT_NETWORK, CAUSE_LEG_UNANSWERED, CONFIDENCE_CERTAIN);
    assert_int_equal(record.verdict.also, 1u << FAULT_CLIENT);
}

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

/* --- what the server says in plain words ---------------------------------------------------------------------------- */

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

/* --- our own limits --------------------------------------------------------------------------------------------------- */

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

static void test_session_time_waits_for_a_harmless_moment(void **state)
{
    (void)state;
    story_begin();
    policy.timeouts.session_us = 20000000;
    policy.timeouts.session_action = POLICY_ENFORCE;
    data();
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

    story_begin(); /* a body that never ends is cut at twice the limit */
    policy.timeouts.session_us = 20000000;
    policy.timeouts.session_action = POLICY_ENFORCE;
    data();
    wants = 0;
    for (unsigned i = 0; i < 45; i++) {
        client("a line of an endless attachment\r\n");
        wants |= wait_ms(1000);
    }
    assert_true(wants & SESSION_WANT_CLOSE);
    ends(SESSION_END_WITNESS);
    expect_verdict(FAULT_POLICY, CAUSE_WITNESS_LIMIT, CONFIDENCE_CERTAIN);

    story_begin(); /* so it is when octets come just before its timer is looked at */
    policy.timeouts.session_us = 20000000;
    policy.timeouts.session_action = POLICY_ENFORCE;
    data();
    (void)wait_ms(39000);
    now_us += 1000500;
    client("a line of an endless attachment\r\n");
    assert_true(wait_ms(10) & SESSION_WANT_CLOSE);
    ends(SESSION_END_WITNESS);
    expect_verdict(FAULT_POLICY, CAUSE_WITNESS_LIMIT, CONFIDENCE_CERTAIN);

    story_begin(); /* the mail is in doubt just then: as soon as it is not, whatever follows it in the pipe */
    policy.timeouts.session_us = 20000000;
    policy.timeouts.session_action = POLICY_ENFORCE;
    data();
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

/* --- the ledger and what is counted ------------------------------------------------------------------------------------ */

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
    server("421 4.4.2 server.test Error: timeout exceeded\r\n");
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_NONE, CAUSE_CLEAN, CONFIDENCE_CERTAIN);
    story_begin(); /* the control: QUIT does not undo what was said before it */
    hello();
    client("MAIL FROM:<a>\r\nQUIT\r\n");
    server("421 4.3.2 Service not available, shutting down\r\n");
    ends(SESSION_END_SERVER_FIN);
    expect_verdict(FAULT_SERVER, CAUSE_SHUTDOWN, CONFIDENCE_CERTAIN);
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
            server("421 4.4.2 server.test Error: timeout exceeded\r\n");
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

static void test_no_more_is_said_than_was_seen(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        static const char words[] = "the client's host acknowledged every octet";
        story_begin();
        envelope();
        wait_ms(8000);
        server("421 4.4.2 server.test Error: timeout exceeded\r\n");
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

static void test_ledger_learns_of_the_network_at_the_end(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        story_begin();
        data();
        client("Subject: big\r\n\r\nbig");
        session_on_pushed_back(&session, SIDE_CLIENT, true, now_us);
        wait_ms(20000);
        server("421 4.4.2 server.test Error: timeout exceeded\r\n");
        leg(SIDE_SERVER, i == 0 ? stuck(0, 20000) : (struct leg_evidence){.flags = LEG_WINDOW_ZERO});
        ends(SESSION_END_SERVER_FIN);
        finish();
        assert_int_equal(record.ledger.charged_us[ACCOUNT_SERVER_NETWORK], i == 0 ? 20000000 : 0);
        assert_int_equal(record.ledger.charged_us[ACCOUNT_SERVER], i == 0 ? 0 : 20000000);
    }
}

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
        server("421 4.4.2 server.test Error: timeout exceeded\r\n");
        ends(SESSION_END_SERVER_FIN);
        expect_verdict(FAULT_CLIENT, CAUSE_SLOW_SENDER, CONFIDENCE_LIKELY);
        assert_int_equal(record.verdict.also, 1u << FAULT_CLIENT_NETWORK | 1u << FAULT_SERVER_NETWORK);
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

static void test_limits_are_measured_by_whose_they_are(void **state)
{
    (void)state;
    story_begin(); /* the network owed; the limit is still the server's, of its 5 min */
    data();
    client("Subject: big\r\n\r\nbig");
    session_on_pushed_back(&session, SIDE_CLIENT, true, now_us);
    wait_ms(200000);
    server("421 4.4.2 server.test Error: timeout exceeded\r\n");
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
            server("421 4.4.2 server.test Error: timeout exceeded\r\n");
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
            server("421 4.4.2 server.test Error: timeout exceeded\r\n");
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
            server("421 4.4.2 server.test Error: timeout exceeded\r\n");
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
    tls_hello();
    inside(SIDE_CLIENT, 30);
    inside(SIDE_SERVER, 14);
    inside(SIDE_CLIENT, 32);
    inside(SIDE_SERVER, 14);
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
        tls_hello();
        inside(SIDE_CLIENT, 30);
        inside(SIDE_SERVER, 14);
        inside(SIDE_CLIENT, 32);
        inside(SIDE_SERVER, 14);
        inside(SIDE_CLIENT, 6);
        inside(SIDE_SERVER, 37);
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
        tls_hello();
        inside(SIDE_CLIENT, 30);
        inside(SIDE_SERVER, 14);
        inside(SIDE_CLIENT, 32);
        inside(SIDE_SERVER, 14);
        inside(SIDE_CLIENT, 6);
        inside(SIDE_SERVER, 37);
        inside(SIDE_CLIENT, 1500);
        inside(SIDE_SERVER, 30);
        wait_ms(i < 2 ? 10000 : 300000);
        ends(i % 2 ? SESSION_END_SERVER_RESET : SESSION_END_SERVER_FIN);
        expect_verdict(FAULT_NONE, CAUSE_IDLE_REAPED, CONFIDENCE_POSSIBLE);
    }
    for (unsigned i = 0; i < 3; i++) { /* DATA, or QUIT, and an answer: of a farewell's length or longer */
        story_begin();
        tls_hello();
        inside(SIDE_CLIENT, 30);
        inside(SIDE_SERVER, 14);
        inside(SIDE_CLIENT, 32);
        inside(SIDE_SERVER, 14);
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
            tls_hello();
            inside(SIDE_CLIENT, 30);
            inside(SIDE_SERVER, 14);
            inside(SIDE_CLIENT, 32);
            inside(SIDE_SERVER, 14);
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

static void envelope_inside_tls(void)
{
    tls_hello();
    inside(SIDE_CLIENT, 30);
    inside(SIDE_SERVER, 14);
    inside(SIDE_CLIENT, 32);
    inside(SIDE_SERVER, 14);
    inside(SIDE_CLIENT, 6);
    inside(SIDE_SERVER, 37);
}

/* ... and what the probe of the client showed is not forgotten over the server's leave, only over the client's own word. */
static void test_probe_outlives_a_leave_inside_tls(void **state) /* S50 through TLS */
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        story_begin();
        envelope_inside_tls();
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

/* Inside TLS, behind a message whose last record is no dot: both sides are probed. */
static void test_both_are_probed_where_tls_hides_who_owes(void **state) /* S50 through TLS */
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        story_begin();
        envelope_inside_tls();
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
        envelope_inside_tls();
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

/* The octets are in our buffers, the final dot with them; the server's leg has not carried them, and the server closes. */
static void test_undelivered_body_and_the_server_closes(void **state) /* S43 in clear and through TLS */
{
    (void)state;
    for (unsigned tls = 0; tls < 2; tls++) {
        for (unsigned reset = 0; reset < 2; reset++) {
            story_begin();
            if (tls) {
                envelope_inside_tls();
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
        server("421 4.4.2 server.test Error: timeout exceeded\r\n");
        leg(SIDE_CLIENT, session.legs[0]);
        ends(SESSION_END_SERVER_FIN);
        if (revealed) {
            expect_verdict(FAULT_CLIENT_NETWORK, CAUSE_OCTETS_LOST, CONFIDENCE_CERTAIN);
        } else {
            expect_verdict(FAULT_CLIENT, CAUSE_COMMAND_STALL, CONFIDENCE_CERTAIN);
        }
    }
}

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
        cmocka_unit_test(test_slow_greeting_is_a_note),
        cmocka_unit_test(test_slow_but_lawful_partners),
        cmocka_unit_test(test_silent_after_354),
        cmocka_unit_test(test_unprobed_silence_is_only_likely),
        cmocka_unit_test(test_silent_in_body),
        cmocka_unit_test(test_silent_after_rcpt_and_before_ehlo),
        cmocka_unit_test(test_half_a_command),
        cmocka_unit_test(test_unterminated_body),
        cmocka_unit_test(test_server_dies_in_a_body_that_passed_unseen),
        cmocka_unit_test(test_client_dies_in_body),
        cmocka_unit_test(test_client_gives_up_early),
        cmocka_unit_test(test_patient_client_blames_the_server),
        cmocka_unit_test(test_refused_and_closed_at_once),
        cmocka_unit_test(test_early_talk),
        cmocka_unit_test(test_body_without_354),
        cmocka_unit_test(test_early_body_that_was_wanted),
        cmocka_unit_test(test_sentences_of_clean_sessions),
        cmocka_unit_test(test_server_silent_in_each_phase),
        cmocka_unit_test(test_unfinished_replies),
        cmocka_unit_test(test_server_hangs_up),
        cmocka_unit_test(test_server_does_not_read),
        cmocka_unit_test(test_a_lossy_leg_vouches_for_nobody),
        cmocka_unit_test(test_undelivered),
        cmocka_unit_test(test_lost_before_us),
        cmocka_unit_test(test_host_gone),
        cmocka_unit_test(test_connect_failures),
        cmocka_unit_test(test_policies),
        cmocka_unit_test(test_mail_refused_then_orderly_end),
        cmocka_unit_test(test_no_room_or_too_large),
        cmocka_unit_test(test_one_mail_of_several_refused),
        cmocka_unit_test(test_size_limit_in_body_behind_a_reset),
        cmocka_unit_test(test_421_in_body),
        cmocka_unit_test(test_timeouts_after_a_half_close),
        cmocka_unit_test(test_timeouts_reported_and_enforced),
        cmocka_unit_test(test_session_time_waits_for_a_harmless_moment),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_ledger_charges_who_was_waited_for),
        cmocka_unit_test(test_per_source_limit_counts),
        cmocka_unit_test(test_421_as_any_other_4xx),
        cmocka_unit_test(test_giving_up_behind_a_pipelined_quit),
        cmocka_unit_test(test_421_as_a_farewell),
        cmocka_unit_test(test_refused_before_any_mail),
        cmocka_unit_test(test_an_old_refusal_explains_nothing),
        cmocka_unit_test(test_forged_reset_on_the_client_leg),
        cmocka_unit_test(test_acceptance_lost_on_the_way_to_the_client),
        cmocka_unit_test(test_acceptance_lost_behind_a_pipelined_quit),
        cmocka_unit_test(test_route_that_came_back),
        cmocka_unit_test(test_state_expired_only_right_after_a_long_silence),
        cmocka_unit_test(test_no_more_is_said_than_was_seen),
        cmocka_unit_test(test_a_tap_vouches_for_its_own_silence),
        cmocka_unit_test(test_leaving_inside_tls),
        cmocka_unit_test(test_ledger_learns_of_the_network_at_the_end),
        cmocka_unit_test(test_slow_sender),
        cmocka_unit_test(test_421_without_a_reason),
        cmocka_unit_test(test_formal_words_after_a_silence),
        cmocka_unit_test(test_leaving_behind_a_failed_leg),
        cmocka_unit_test(test_fin_crosses_a_command),
        cmocka_unit_test(test_picked_up_between_pipelined_commands),
        cmocka_unit_test(test_prohibited_by_whom),
        cmocka_unit_test(test_limits_are_measured_by_whose_they_are),
        cmocka_unit_test(test_clock_steps_back),
        cmocka_unit_test(test_load_is_not_claimed_when_the_reply_does_not_say),
        cmocka_unit_test(test_half_closed_behind_the_dot),
        cmocka_unit_test(test_what_held_a_slow_body_up),
        cmocka_unit_test(test_slow_server_leg_behind_our_buffers),
        cmocka_unit_test(test_boxes_that_spoil_tcp),
        cmocka_unit_test(test_tarpit),
        cmocka_unit_test(test_closed_window_and_nobody_answers),
        cmocka_unit_test(test_both_are_probed_where_tls_hides_who_owes),
        cmocka_unit_test(test_probe_outlives_a_leave_inside_tls),
        cmocka_unit_test(test_reset_behind_a_failed_leg),
        cmocka_unit_test(test_reset_of_a_host_whose_connection_is_gone),
        cmocka_unit_test(test_the_first_bye_inside_tls_counts),
        cmocka_unit_test(test_idle_inside_tls),
        cmocka_unit_test(test_server_takes_leave_inside_tls),
        cmocka_unit_test(test_leaving_behind_a_ticket),
        cmocka_unit_test(test_late_answer_inside_tls),
        cmocka_unit_test(test_leaving_after_loss),
        cmocka_unit_test(test_undelivered_body_and_the_server_closes),
        cmocka_unit_test(test_a_long_silence_is_probed_again),
        cmocka_unit_test(test_health_probe_of_implicit_tls),
        cmocka_unit_test(test_masked_keywords),
        cmocka_unit_test(test_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
