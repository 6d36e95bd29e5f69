/* test_session - one session told as a story with a clock of our own: what is said when, what TCP shows, how it ends; and
 * the verdict that must come out. The rows named in the comments of the tests are those of the catalogue of faults. */
#ifndef SMTPWITNESS_TESTS_UNIT_TEST_SESSION_H
#define SMTPWITNESS_TESTS_UNIT_TEST_SESSION_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

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

static inline void story_begin_with(const struct dialogue_options *options, bool connected)
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

static inline void story_begin(void)
{
    story_begin_with(NULL, true);
}

/* Lets time pass as the caller of a session must: every deadline on the way is delivered. Returns what was wanted. */
static inline uint32_t wait_ms(uint64_t ms)
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

static inline void client(const char *text)
{
    session_on_octets(&session, SIDE_CLIENT, (const uint8_t *)text, strlen(text), now_us);
}

static inline void server(const char *text)
{
    session_on_octets(&session, SIDE_SERVER, (const uint8_t *)text, strlen(text), now_us);
}

static inline void leg(enum side side, struct leg_evidence evidence)
{
    if (side == SIDE_SERVER && evidence.connect == CONNECT_PENDING) {
        evidence.connect = CONNECT_ESTABLISHED;
    }
    session_set_evidence(&session, side, &evidence, now_us);
}

static inline void probe_answered(enum side side)
{
    leg(side, (struct leg_evidence){.probe = PROBE_ANSWERED, .flags = LEG_TAPPED});
}

static inline void ends(enum session_end end)
{
    session_on_end(&session, end, now_us);
}

static inline const struct verdict *finish(void)
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

/* --- what is said and shown again and again ---------------------------------------------------------------------- */

static inline void greet(void)
{
    server("220 server.test ESMTP\r\n");
}

static inline void hello(void)
{
    greet();
    client("EHLO client.test\r\n");
    server("250-server.test\r\n250-PIPELINING\r\n250 SIZE 1000\r\n");
}

static inline void envelope(void)
{
    hello();
    client("MAIL FROM:<a@client.test>\r\n");
    server("250 2.1.0 Ok\r\n");
    client("RCPT TO:<b@server.test>\r\n");
    server("250 2.1.5 Ok\r\n");
}

static inline void data(void)
{
    envelope();
    client("DATA\r\n");
    server("354 End data with <CR><LF>.<CR><LF>\r\n");
}

static inline void mail(void)
{
    data();
    client("Subject: x\r\n\r\nx\r\n.\r\n");
    server("250 2.0.0 Ok: queued\r\n");
}

static inline void quit(void)
{
    client("QUIT\r\n");
    server("221 2.0.0 Bye\r\n");
}

/* It has waited too long and says so; that it closes is told with ends(). */
static inline void server_tires(void)
{
    server("421 4.4.2 server.test Error: timeout exceeded\r\n");
}

/* The server's leg does not take the body. */
static inline void undelivered_body(uint64_t for_ms)
{
    data();
    client("Subject: big\r\n\r\nbig");
    session_on_pushed_back(&session, SIDE_CLIENT, true, now_us);
    wait_ms(for_ms);
}

/* What a leg shows whose peer has not acknowledged for so long. */
static inline struct leg_evidence stuck(uint32_t flags, uint64_t for_ms)
{
    return (struct leg_evidence){.flags = flags,
                                 .unacked_octets = 1448,
                                 .retrans_count = 5,
                                 .unacked_since_us = now_us - for_ms * 1000};
}

#endif
