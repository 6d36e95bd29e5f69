/* Several sessions told as one story, with a clock of our own: what the others show decides the verdict of one. The rows
 * named in comments are those of the catalogue of faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/session/session.h"

#define MINUTE_US UINT64_C(60000000)

static struct policy_settings policy;
static struct limiter *limiter;
static struct record record;
static char line[RECORD_LINE_OCTETS];
static uint64_t now_us;

static int begin(void **state)
{
    static const uint8_t seed[16] = {7};
    (void)state;
    memset(&policy, 0, sizeof policy);
    for (unsigned phase = 0; phase < PHASE_COUNT; phase++) {
        policy.timeouts.phase_us[phase] = 5 * MINUTE_US;
    }
    policy.timeouts.stall_notice_us = MINUTE_US;
    policy.ipv6_source_prefix = 64;
    policy.profile_count = 3;
    policy.profiles[0] = (struct policy_profile){
        .name = "exchange",
        .limits = {.per_source_count = 20, .total_count = 5000, .percent_of_remaining = 2}};
    policy.profiles[1] = (struct policy_profile){.name = "postfix", .limits = {.per_source_count = 50}};
    policy.profiles[2] = (struct policy_profile){.name = "isp-10", .limits = {.per_source_count = 10}};
    limiter = limiter_create(100, seed);
    now_us = 100 * MINUTE_US;
    return limiter == NULL;
}

static int end(void **state)
{
    (void)state;
    limiter_destroy(limiter);
    return 0;
}

static struct session_caller caller;

struct one {
    struct session session; /* first: it is freed as one */
    struct connection connection;
};

static struct session *opens(unsigned client)
{
    static uint16_t port = 20000;
    struct one *one = calloc(1, sizeof *one);
    assert_non_null(one);
    struct session *session = &one->session;
    struct connection *connection = &one->connection;
    struct session_setup setup = {
        .caller = &caller, .connection = connection, .number = 1, .policy = &policy};
    struct limiter_ticket ticket;
    struct limiter_counts counts;
    connection->opened_us = now_us;
    caller = (struct session_caller){.mode = RECORD_PROXY, .id_prefix = "t", .limiter = limiter};
    connection->client.octets[10] = connection->client.octets[11] = connection->server.octets[10] =
        connection->server.octets[11] = 0xff;
    connection->client.octets[15] = (uint8_t)client;
    connection->client.port = port++;
    connection->server.octets[15] = 200;
    connection->server.port = 25;
    session_init(session, &setup);
    assert_int_equal(
        limiter_admit(limiter, &policy, &connection->client, &connection->server, now_us, &ticket, &counts),
        LIMITER_ADMIT);
    session->ticket = ticket;
    session->counts = counts;
    return session;
}

static void server(struct session *session, const char *text)
{
    session_on_octets(session, SIDE_SERVER, (const uint8_t *)text, strlen(text), now_us);
}

static void client(struct session *session, const char *text)
{
    session_on_octets(session, SIDE_CLIENT, (const uint8_t *)text, strlen(text), now_us);
}

static struct session *gets_in(unsigned number)
{
    struct session *session = opens(number);
    session_on_connected(session, now_us);
    server(session, "220 server.test ESMTP\r\n");
    return session;
}

/* Lets time pass; the deadlines of `session` on the way are delivered. */
static void wait_s(struct session *session, unsigned seconds)
{
    uint64_t until_us = now_us + seconds * UINT64_C(1000000);
    while (session != NULL && session_deadline_us(session) <= until_us) {
        now_us = session_deadline_us(session) > now_us ? session_deadline_us(session) : now_us;
        session_on_deadline(session, now_us);
        (void)session_take_wants(session);
    }
    now_us = until_us;
}

static void leg(struct session *session, enum side side, struct leg_evidence evidence)
{
    session_set_evidence(session, side, &evidence, now_us);
}

static void ends(struct session *session, enum session_end how)
{
    session_on_end(session, how, now_us);
    if (how == SESSION_END_SERVER_FIN || how == SESSION_END_SERVER_RESET) {
        session_release_place(session, now_us);
    }
}

static const struct verdict *finish(struct session *session)
{
    session_finish(session, &record, now_us);
    record_to_logfmt(&record, line);
    session_release_place(session, now_us);
    session_clear(session);
    free(session);
    record.reply = NULL;
    return &record.verdict;
}

static void leaves(struct session *session)
{
    client(session, "QUIT\r\n");
    server(session, "221 bye\r\n");
    ends(session, SESSION_END_SERVER_FIN);
    ends(session, SESSION_END_CLIENT_FIN);
    assert_int_equal(finish(session)->fault, FAULT_NONE);
}

static void never_answered(struct session *session)
{
    leg(session, SIDE_SERVER, (struct leg_evidence){.connect = CONNECT_TIMED_OUT});
    ends(session, SESSION_END_CONNECT_FAILED);
}

static void expect_verdict(struct session *session, enum fault fault, enum cause cause,
                           enum confidence confidence, const char *also, const char *notes)
{
    char wanted[128];
    const struct verdict *verdict = finish(session);
    if (verdict->fault != fault || verdict->cause != cause || verdict->confidence != confidence) {
        print_error("%s\n", line);
    }
    assert_string_equal(fault_name(verdict->fault), fault_name(fault));
    assert_string_equal(cause_name(verdict->cause), cause_name(cause));
    assert_string_equal(confidence_name(verdict->confidence), confidence_name(confidence));
    snprintf(wanted, sizeof wanted, " also=%s phase=", also);
    if (strstr(line, wanted) == NULL) {
        print_error("%s lacks '%s'\n", line, wanted);
    }
    assert_non_null(strstr(line, wanted));
    static const uint64_t of_neighbours = NOTE_UNEXPLAINED_LIMIT | NOTE_OTHERS_GET_IN | NOTE_OTHERS_FAIL_TOO |
                                          NOTE_OLDER_ONES_LIVE | NOTE_FRESH_ONE_WORKS | NOTE_FRESH_ONE_FAILS;
    char words[128] = "";
    for (unsigned bit = 0; bit < NOTE_COUNT; bit++) {
        if (verdict->notes & of_neighbours & NOTE(bit)) {
            snprintf(words + strlen(words), sizeof words - strlen(words), "%s%s", words[0] != '\0' ? "," : "",
                     note_name(bit));
        }
    }
    assert_string_equal(words, notes);
}

static void expect_line(const char *part)
{
    if (strstr(line, part) == NULL) {
        print_error("%s lacks '%s'\n", line, part);
    }
    assert_non_null(strstr(line, part));
}

static void expect_no_line(const char *part)
{
    assert_null(strstr(line, part));
}

/* --- S01, S02 ------------------------------------------------------------------------------------------------ */

static void alone_nobody_can_tell_a_filter_from_death(void **state)
{
    (void)state;
    struct session *session = opens(1);
    wait_s(session, 30);
    never_answered(session);
    expect_verdict(session, FAULT_SERVER_NETWORK, CAUSE_CONNECT_UNANSWERED, CONFIDENCE_CERTAIN,
                   "server,policy", "");
}

static void dead_for_all_is_no_filter(void **state)
{
    (void)state;
    struct session *first = opens(1), *second;
    wait_s(first, 6);
    second = opens(2);
    wait_s(second, 4); /* nobody has waited for this one long enough to call it unanswered */
    never_answered(first);
    expect_verdict(first, FAULT_SERVER_NETWORK, CAUSE_CONNECT_UNANSWERED, CONFIDENCE_CERTAIN, "server,policy",
                   "");
    wait_s(second, 26);
    never_answered(second);
    expect_verdict(second, FAULT_SERVER_NETWORK, CAUSE_CONNECT_UNANSWERED, CONFIDENCE_CERTAIN, "server",
                   "others-fail-too");
}

static void two_that_fail_side_by_side_say_so(void **state)
{
    (void)state;
    struct session *first = opens(1), *second = opens(2);
    uint64_t start_us = now_us;
    wait_s(first, 30);
    now_us = start_us;
    wait_s(second, 30);
    never_answered(first);
    expect_verdict(first, FAULT_SERVER_NETWORK, CAUSE_CONNECT_UNANSWERED, CONFIDENCE_CERTAIN, "server",
                   "others-fail-too");
    never_answered(second);
    expect_verdict(second, FAULT_SERVER_NETWORK, CAUSE_CONNECT_UNANSWERED, CONFIDENCE_CERTAIN, "server",
                   "others-fail-too");
}

static void a_source_filtered_while_another_gets_in(void **state)
{
    (void)state;
    struct session *session = opens(1), *other;
    wait_s(session, 4);
    other = gets_in(2);
    wait_s(session, 26);
    never_answered(session);
    expect_verdict(session, FAULT_POLICY, CAUSE_SOURCE_FILTERED, CONFIDENCE_LIKELY, "server-network",
                   "others-get-in");
    expect_line(" limit-by=server ");
    expect_line(" source-connecting=1 source-established=0 source-closing=0 source-oldest-ms=30000 ");
    expect_line("while another source got in");
    leaves(other);
}

/* The other one came when our last SYN may have been sent already: nothing is proved. */
static void too_late_proves_nothing(void **state)
{
    (void)state;
    struct session *session = opens(1), *other;
    wait_s(session, 25);
    other = gets_in(2);
    wait_s(session, 5);
    never_answered(session);
    expect_verdict(session, FAULT_SERVER_NETWORK, CAUSE_CONNECT_UNANSWERED, CONFIDENCE_CERTAIN,
                   "server,policy", "");
    leaves(other);
}

static void new_ones_fail_while_old_ones_live(void **state)
{
    (void)state;
    struct session *older = gets_in(1), *session;
    wait_s(NULL, 10);
    session = opens(1);
    wait_s(session, 20);
    client(older, "EHLO client.test\r\n");
    server(older, "250 server.test\r\n");
    wait_s(session, 10);
    never_answered(session);
    expect_verdict(session, FAULT_POLICY, CAUSE_SOURCE_FILTERED, CONFIDENCE_LIKELY, "server,server-network",
                   "older-ones-live");
    expect_line(" source-connecting=1 source-established=1 ");
    leaves(older);
}

/* A queue that overflows drops some and takes some, whoever they are. */
static void some_sources_fail_some_get_in(void **state)
{
    (void)state;
    struct session *first = opens(1), *second = opens(2), *other;
    uint64_t start_us = now_us;
    wait_s(first, 6);
    other = gets_in(3);
    wait_s(first, 24);
    now_us = start_us + 6000000;
    wait_s(second, 24);
    never_answered(first);
    expect_verdict(first, FAULT_POLICY, CAUSE_SOURCE_FILTERED, CONFIDENCE_POSSIBLE, "server,server-network",
                   "others-get-in,others-fail-too");
    never_answered(second);
    finish(second);
    leaves(other);
}

/* --- S58 ------------------------------------------------------------------------------------------------------ */

static struct session *idle_then_stuck(unsigned idle_s)
{
    struct session *session = gets_in(1);
    client(session, "EHLO client.test\r\n");
    server(session, "250 server.test\r\n");
    wait_s(session, idle_s);
    client(session, "MAIL FROM:<a@client.test>\r\n");
    wait_s(session, 1);
    return session;
}

static void stuck_for(struct session *session, unsigned seconds, uint64_t since_us)
{
    wait_s(session, seconds);
    leg(session, SIDE_SERVER,
        (struct leg_evidence){.connect = CONNECT_ESTABLISHED,
                              .unacked_octets = 27,
                              .retrans_count = 6,
                              .unacked_since_us = since_us});
    ends(session, SESSION_END_CLIENT_FIN);
}

static void a_fresh_connection_works(void **state)
{
    (void)state;
    struct session *session = idle_then_stuck(20), *fresh;
    uint64_t since_us = now_us - 1000000;
    fresh = gets_in(1);
    stuck_for(session, 60, since_us);
    expect_verdict(session, FAULT_MIDDLEBOX, CAUSE_STATE_EXPIRED, CONFIDENCE_LIKELY, "server-network",
                   "fresh-one-works");
    leaves(fresh);
}

static void without_a_pause_no_state_expires(void **state)
{
    (void)state;
    struct session *session = idle_then_stuck(1), *fresh;
    uint64_t since_us = now_us - 1000000;
    fresh = gets_in(1);
    stuck_for(session, 60, since_us);
    expect_verdict(session, FAULT_SERVER_NETWORK, CAUSE_LEG_UNANSWERED, CONFIDENCE_LIKELY, "server,middlebox",
                   "fresh-one-works");
    leaves(fresh);
}

static void a_dead_server_answers_no_fresh_one_either(void **state)
{
    (void)state;
    struct session *session = idle_then_stuck(300), *fresh;
    uint64_t since_us = now_us - 1000000;
    fresh = opens(1);
    wait_s(fresh, 20);
    stuck_for(session, 40, since_us);
    expect_verdict(session, FAULT_SERVER_NETWORK, CAUSE_LEG_UNANSWERED, CONFIDENCE_CERTAIN, "server",
                   "fresh-one-fails");
    never_answered(fresh);
    finish(fresh);
}

static void a_connection_from_before_is_not_fresh(void **state)
{
    (void)state;
    struct session *older = gets_in(1), *session = idle_then_stuck(20);
    uint64_t since_us = now_us - 1000000;
    client(older, "NOOP\r\n");
    server(older, "250 ok\r\n");
    stuck_for(session, 60, since_us);
    expect_verdict(session, FAULT_SERVER_NETWORK, CAUSE_LEG_UNANSWERED, CONFIDENCE_CERTAIN, "server", "");
    leaves(older);
}

/* --- receipts --------------------------------------------------------------------------------------------------- */

static struct session *refused(unsigned number, const char *text)
{
    struct session *session = opens(number);
    session_on_connected(session, now_us);
    wait_s(session, 1);
    server(session, text);
    ends(session, SESSION_END_SERVER_FIN);
    ends(session, SESSION_END_CLIENT_FIN);
    return session;
}

static void one_open_and_a_limit_of_ten(void **state)
{
    (void)state;
    expect_verdict(refused(1, "421 4.7.0 too many connections from you (limit 10)\r\n"), FAULT_POLICY,
                   CAUSE_PER_SOURCE_LIMIT, CONFIDENCE_CERTAIN, "", "unexplained-limit");
    expect_line(" concurrent=1 concurrent-peak=1 concurrent-limit=10 ");
    expect_line(" source-connecting=0 source-established=1 source-closing=0 source-phases=greeting:1 "
                "source-oldest-ms=1000 source-peak-hour=1 source-peak-day=1 "
                "profiles-allow=exchange,postfix,isp-10 ");
    expect_no_line("profiles-refuse");
    expect_line("it names a limit of 10; that does not explain it");
    assert_true(strlen(record.verdict.explain) < sizeof record.verdict.explain - 1); /* not cut */
}

/* The tenth of ten: whether the server counts it before or after is its affair. */
static void a_limit_that_is_reached_is_explained(void **state)
{
    (void)state;
    static struct session *in[10];
    for (unsigned i = 0; i < 9; i++) {
        in[i] = gets_in(1);
    }
    expect_verdict(refused(1, "421 too many connections (limit 11)\r\n"), FAULT_POLICY,
                   CAUSE_PER_SOURCE_LIMIT, CONFIDENCE_CERTAIN, "", "unexplained-limit");
    expect_verdict(refused(1, "421 too many connections (limit 10)\r\n"), FAULT_POLICY,
                   CAUSE_PER_SOURCE_LIMIT, CONFIDENCE_CERTAIN, "", "");
    expect_line(" concurrent=10 concurrent-peak=10 concurrent-limit=10 ");
    expect_line(" profiles-allow=exchange,postfix,isp-10 ");
    in[9] = gets_in(1);
    expect_verdict(refused(1, "421 too many connections (limit 10)\r\n"), FAULT_POLICY,
                   CAUSE_PER_SOURCE_LIMIT, CONFIDENCE_CERTAIN, "", "");
    expect_line(" profiles-allow=exchange,postfix profiles-refuse=isp-10 ");
    for (unsigned i = 0; i < 10; i++) {
        leaves(in[i]);
    }
}

static void sixty_and_a_limit_of_twenty(void **state)
{
    (void)state;
    static struct session *in[20];
    for (unsigned i = 0; i < 20; i++) {
        in[i] = gets_in(1);
        client(in[i], "EHLO client.test\r\n");
    }
    wait_s(NULL, 2);
    for (unsigned i = 0; i < 40; i++) {
        expect_verdict(refused(1, "421 4.7.0 server.test Error: too many connections from 192.0.2.7\r\n"),
                       FAULT_POLICY, CAUSE_PER_SOURCE_LIMIT, CONFIDENCE_CERTAIN, "", "");
        expect_line(" concurrent=21 concurrent-peak=21 concurrent-limit=20 ");
        expect_line(" source-established=21 source-closing=0 source-phases=helo:20,greeting:1 ");
        expect_line(" profiles-allow=postfix profiles-refuse=exchange,isp-10 ");
    }
    for (unsigned i = 0; i < 20; i++) {
        server(in[i], "250 server.test\r\n");
        leaves(in[i]);
    }
    /* Just now there were twenty: the server may still count some. Half an hour later that explains nothing. */
    expect_verdict(refused(1, "421 too many connections\r\n"), FAULT_POLICY, CAUSE_PER_SOURCE_LIMIT,
                   CONFIDENCE_CERTAIN, "", "");
    now_us += 30 * MINUTE_US;
    struct session *one = gets_in(1);
    expect_verdict(refused(1, "421 too many connections\r\n"), FAULT_POLICY, CAUSE_PER_SOURCE_LIMIT,
                   CONFIDENCE_CERTAIN, "", "unexplained-limit");
    expect_line(" source-peak-hour=21 source-peak-day=21 ");
    leaves(one);
}

/* A mail refused for the rate: the session goes on, and the receipt is of that instant. */
static void a_rate_limit_has_a_receipt_too(void **state)
{
    (void)state;
    struct session *session = gets_in(1), *second = gets_in(1);
    client(session, "EHLO client.test\r\n");
    server(session, "250 server.test\r\n");
    client(session, "MAIL FROM:<a@client.test>\r\n");
    server(session, "450 4.7.1 Error: too much mail from 192.0.2.7\r\n");
    leaves(second);
    wait_s(session, 4);
    client(session, "QUIT\r\n");
    server(session, "221 bye\r\n");
    ends(session, SESSION_END_SERVER_FIN);
    expect_verdict(session, FAULT_POLICY, CAUSE_PER_SOURCE_RATE, CONFIDENCE_CERTAIN, "", "");
    expect_line(" source-established=2 ");
}

static void a_clean_session_has_no_receipt(void **state)
{
    (void)state;
    leaves(gets_in(1));
    expect_no_line("source-");
    expect_no_line("profiles-");
}

/* --- forecast --------------------------------------------------------------------------------------------------- */

static uint32_t body_for(struct session *session, unsigned seconds, unsigned octets_a_second)
{
    static uint8_t block[1000000];
    uint32_t wants = 0;
    memset(block, 'x', sizeof block);
    for (unsigned i = 0; i < seconds; i++) {
        now_us += 1000000;
        session_on_octets(session, SIDE_CLIENT, block, octets_a_second, now_us);
        wants |= session_take_wants(session);
    }
    return wants;
}

static struct session *begins_mail(const char *mail)
{
    struct session *session = gets_in(1);
    client(session, "EHLO client.test\r\n");
    server(session, "250-server.test\r\n250 SIZE 100000000\r\n");
    client(session, mail);
    server(session, "250 ok\r\n");
    client(session, "RCPT TO:<b@server.test>\r\n");
    server(session, "250 ok\r\n");
    client(session, "DATA\r\n");
    server(session, "354 go on\r\n");
    (void)session_take_wants(session);
    return session;
}

static void forecast(struct session *session)
{
    session_forecast_record(session, &record, now_us);
    record_to_logfmt(&record, line);
}

static void dies(struct session *session)
{
    ends(session, SESSION_END_CLIENT_RESET);
    finish(session);
}

static void a_slow_mail_is_foretold_once(void **state)
{
    (void)state;
    policy.timeouts.session_us = 10 * MINUTE_US;
    policy.timeouts.session_profile = 1;
    struct session *session = begins_mail("MAIL FROM:<a@client.test> SIZE=60000000\r\n");
    assert_int_equal(body_for(session, 9, 50000) & SESSION_WANT_FORECAST_LINE, 0); /* too soon to say */
    assert_int_not_equal(body_for(session, 3, 50000) & SESSION_WANT_FORECAST_LINE, 0);
    forecast(session);
    assert_memory_equal(line, "forecast session=t-1 phase=body limit-by=server client=", 55);
    expect_line(" limit-ms=600000 ");
    expect_line(" size=60000000 size-left=59400000 bytes-per-s=50000 needs-ms=1188000 remains-ms=588000 "
                "profile=exchange ");
    expect_line("59400000 of 60000000 octets are still to come, which takes 19 min 48 s at 50000 a second; "
                "exchange's limit of 10 min 0 s for the whole session leaves 9 min 48 s");
    expect_no_line("fault=");
    assert_int_equal(body_for(session, 100, 50000) & SESSION_WANT_FORECAST_LINE, 0); /* once */
    dies(session);
}

static void a_mail_in_time_is_not_foretold(void **state)
{
    (void)state;
    policy.timeouts.session_us = 10 * MINUTE_US;
    struct session *session = begins_mail("MAIL FROM:<a@client.test> SIZE=5000000\r\n");
    assert_int_equal(body_for(session, 99, 50000) & SESSION_WANT_FORECAST_LINE, 0);
    client(session, "\r\n.\r\n");
    server(session, "250 ok\r\n");
    leaves(session);
    session = begins_mail("MAIL FROM:<a@client.test>\r\n"); /* announces nothing */
    assert_int_equal(body_for(session, 200, 100) & SESSION_WANT_FORECAST_LINE, 0);
    dies(session);
    policy.timeouts.session_us = 0; /* no limit */
    session = begins_mail("MAIL FROM:<a@client.test> SIZE=60000000\r\n");
    assert_int_equal(body_for(session, 200, 100) & SESSION_WANT_FORECAST_LINE, 0);
    dies(session);
}

/* The second mail of a session: its own rate, what the first one left of the time; the administrator's own limit. */
static void the_second_mail_has_its_own_rate(void **state)
{
    (void)state;
    policy.timeouts.session_us = 10 * MINUTE_US;
    struct session *session = begins_mail("MAIL FROM:<a@client.test> SIZE=1000000\r\n");
    assert_int_equal(body_for(session, 20, 50000) & SESSION_WANT_FORECAST_LINE, 0);
    client(session, "\r\n.\r\n");
    server(session, "250 ok\r\n");
    wait_s(NULL, 280);
    client(session, "MAIL FROM:<a@client.test> SIZE=4000000\r\nRCPT TO:<b@server.test>\r\nDATA\r\n");
    server(session, "250 ok\r\n250 ok\r\n354 go on\r\n");
    assert_int_not_equal(body_for(session, 12, 10000) & SESSION_WANT_FORECAST_LINE, 0);
    forecast(session);
    expect_line(" limit-by=witness ");
    expect_line(" bytes-per-s=10000 ");
    expect_line("our limit of 10 min 0 s");
    expect_no_line("profile=");
    dies(session);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(alone_nobody_can_tell_a_filter_from_death),
        TEST(dead_for_all_is_no_filter),
        TEST(two_that_fail_side_by_side_say_so),
        TEST(a_source_filtered_while_another_gets_in),
        TEST(too_late_proves_nothing),
        TEST(new_ones_fail_while_old_ones_live),
        TEST(some_sources_fail_some_get_in),
        TEST(a_fresh_connection_works),
        TEST(without_a_pause_no_state_expires),
        TEST(a_dead_server_answers_no_fresh_one_either),
        TEST(a_connection_from_before_is_not_fresh),
        TEST(one_open_and_a_limit_of_ten),
        TEST(a_limit_that_is_reached_is_explained),
        TEST(sixty_and_a_limit_of_twenty),
        TEST(a_rate_limit_has_a_receipt_too),
        TEST(a_clean_session_has_no_receipt),
        TEST(a_slow_mail_is_foretold_once),
        TEST(a_mail_in_time_is_not_foretold),
        TEST(the_second_mail_has_its_own_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
