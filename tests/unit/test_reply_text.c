/* What servers say, as they say it: the texts of real servers and the class each must get. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/smtp/reply.h"
#include "core/smtp/reply_text.h"
#include "tests/unit/guard_page.h"

struct row {
    const char *reply;
    enum reply_class class;
};

#define CONCURRENCY REPLY_CLASS_PER_SOURCE_LIMIT
#define RATE        REPLY_CLASS_PER_SOURCE_RATE
#define SESSION     REPLY_CLASS_PER_SESSION_LIMIT
#define TOTAL_TIME  REPLY_CLASS_SESSION_TIME
#define OVERLOAD    REPLY_CLASS_OVERLOAD
#define SHUTDOWN    REPLY_CLASS_SHUTDOWN
#define TIMEOUT     REPLY_CLASS_TIMEOUT
#define PROTOCOL    REPLY_CLASS_CLIENT_PROTOCOL
#define GREYLISTING REPLY_CLASS_GREYLISTING
#define REPUTATION  REPLY_CLASS_REPUTATION
#define SIZE        REPLY_CLASS_SIZE
#define AUTH        REPLY_CLASS_AUTHENTICATION
#define UNDECIDED   REPLY_CLASS_CONNECTION_LIMIT_OR_LOAD
#define OTHER       REPLY_CLASS_OTHER

static const struct row rows[] = {
    /* per source, at once */
    {"421 4.7.0 mx.example.test Error: too many connections from 192.0.2.1", CONCURRENCY},
    {"421 4.7.0 Error: too many connections", CONCURRENCY},
    {"421 Too many concurrent SMTP connections from this IP address; please try again later", CONCURRENCY},
    {"421 4.4.5 Too many SMTP sessions for this host", CONCURRENCY},
    {"421 4.3.2 Too many open connections.", CONCURRENCY},
    {"421 4.3.2 The maximum number of concurrent server connections has exceeded a per-source limit, closing "
     "transmission channel",
     CONCURRENCY},
    {"421 4.3.2 The maximum number of concurrent connections of this source has been reached", CONCURRENCY},
    {"421 RP-002 The mail server IP exceeded the maximum number of connections allowed", CONCURRENCY},
    {"421 mx cloudfilter ESMTP server not available, too many sessions IB007", CONCURRENCY},
    {"421 4.1.0 192.0.2.1 Too many sessions open AUP#CXCNCT", CONCURRENCY},
    {"554 mx 192.0.2.1 AUP#CXCNCT", CONCURRENCY},
    {"421 mwinf5c04 ME Service refuse. [Too many sessions opened]", CONCURRENCY},
    {"421 Trop de connexions, veuillez verifier votre configuration", CONCURRENCY},
    {"421 4.7.0 Too many concurrent connections", CONCURRENCY},
    {"421 4.7.1 too many concurrent sessions from 192.0.2.1", CONCURRENCY},
    {"421 too many connections", CONCURRENCY},
    {"421 4.3.2 over a per-source limit", CONCURRENCY},
    {"421 mx Too many SMTP sessions for this host", CONCURRENCY},
    {"421 4.4.5 Server busy, try again later.", CONCURRENCY},
    {"421 4.4.5 try again later", CONCURRENCY},

    /* per source, too fast */
    {"450 4.7.1 Error: too much mail from 192.0.2.1", RATE},
    {"450 4.7.1 Error: too many recipients from 192.0.2.1", RATE},
    {"450 4.7.1 Error: too many AUTH commands from 192.0.2.1", RATE},
    {"421 4.7.0 mx Error: too many new TLS sessions from 192.0.2.1", RATE},
    {"454 4.7.0 mx Error: too many new TLS sessions from 192.0.2.1", RATE},
    {"421 4.3.2 Connection rate limit exceeded.", RATE},
    {"421-4.7.28 Our system has detected", RATE},
    {"421 4.7.28 something", RATE},
    {"421 4.7.0 Our system has detected an unusual rate of unsolicited mail originating from your IP", RATE},
    {"450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents", RATE},
    {"450 4.2.1 The user you are trying to contact is receiving mail too quickly", RATE},
    {"421 sending too quickly", RATE},
    {"451 4.7.500 Server busy. Please try again later from [192.0.2.1].", RATE},
    {"451 mail sent from your IP address has been temporarily rate limited", RATE},
    {"421 RP-001 Unfortunately, some messages weren't sent", RATE},
    {"421 4.7.0 [TSS04] Messages temporarily deferred due to user complaints", RATE},
    {"421 4.7.0 [TS01] Messages temporarily deferred", RATE},
    {"553 5.7.1 [TS03] All messages permanently deferred", RATE},
    {"421 4.7.0 [TSS09] deferred", RATE},
    {"421 4.7.1 [IPTS04] Messages temporarily deferred", RATE},
    {"550 Ip frequency limited", RATE},
    {"550 Connection frequency limited", RATE},
    {"421 imta RL000003 try later", RATE},
    {"421 4.1.0 Throttled", RATE},
    {"454 Throttling failure: Maximum sending rate exceeded.", RATE},
    {"454 Throttling failure: Daily message quota exceeded.", RATE},
    {"421 maximum sending rate exceeded", RATE},
    {"421 Service refuse, please try again slower", RATE},

    /* this session */
    {"421 too many messages in this connection", SESSION},
    {"421 Max message per connection reached, closing transmission channel", SESSION},
    {"421 max messages per connection reached", SESSION},
    {"421 4.7.0 Too many messages for this session", SESSION},
    {"452 4.5.3 Too many messages sent", SESSION},
    {"452 Too many messages sent", SESSION},
    {"421 4.7.0 mx Error: too many errors", SESSION},
    {"452 4.5.3 Error: too many recipients", SESSION},
    {"452 too many recipients", SESSION},
    {"452 4.5.3 Recipient limit reached", SESSION},
    {"421 Exceeded bad SMTP command limit, disconnecting.", SESSION},
    {"421 Exceeded allowable connection time, disconnecting.", TOTAL_TIME},

    /* everybody */
    {"421 4.3.2 All server ports are busy", OVERLOAD},
    {"421 4.3.2 All screening ports are busy", OVERLOAD},
    {"421 4.3.2 No system resources", OVERLOAD},
    {"421 Too many concurrent SMTP connections; please try again later.", OVERLOAD},
    {"421 mx Too much load; please try again later.", OVERLOAD},
    {"421 load too high", OVERLOAD},
    {"452 4.3.1 Insufficient system storage", OVERLOAD},
    {"452 4.3.1 anything", OVERLOAD},
    {"452 Space shortage, please try later", OVERLOAD},
    {"452 insufficient system storage", OVERLOAD},
    {"431 Insufficient system resources", OVERLOAD},
    {"421 4.3.0 mx Server local data error", OVERLOAD},
    {"451 4.3.5 Server configuration error", OVERLOAD},
    {"451 4.3.0 Error: queue file write error", OVERLOAD},

    /* the server waited long enough */
    {"421 4.4.2 mx.example.test Error: timeout exceeded", TIMEOUT},
    {"421 mx.example.test: SMTP command timeout - closing connection", TIMEOUT},
    {"421 mx.example.test SMTP incoming data timeout - closing connection.", TIMEOUT},
    {"421 4.4.2 service timed out", TIMEOUT},
    {"421 service timed out.", TIMEOUT},
    {"421 mx Error: timeout exceeded", TIMEOUT},
    {"421 mx: SMTP command timeout", TIMEOUT},
    {"421 mx: SMTP incoming data timeout", TIMEOUT},
    {"451 4.7.0 Timeout waiting for client input", TIMEOUT},
    {"421 4.4.1 Connection timed out", TIMEOUT},
    {"421 connection timed out", TIMEOUT},
    {"421 timeout waiting for input", TIMEOUT},
    {"451 4.4.2 Timeout - closing connection. k20si1", TIMEOUT},
    {"421 idle timeout", TIMEOUT},
    {"421 idle too long, bye", TIMEOUT},
    {"421 mx lost input channel", TIMEOUT},
    {"421 4.4.2 bye", TIMEOUT},
    {"421 4.4.1 mx Lost it", TIMEOUT},
    {"421 Timed out waiting for successful message injection, disconnecting.", TIMEOUT},

    /* the client's manners */
    {"554 SMTP synchronization error", PROTOCOL},
    {"554 5.5.0 Error: SMTP protocol synchronization", PROTOCOL},
    {"521 5.5.1 Protocol error", PROTOCOL},
    {"550 5.5.1 Protocol error", PROTOCOL},
    {"521 5.7.0 Blocked, I can break rules, too. Goodbye.", PROTOCOL},
    {"503 5.5.0 <DATA>: Data command rejected: Improper use of SMTP command pipelining", PROTOCOL},
    {"503 improper command pipelining", PROTOCOL},

    /* the service ends */
    {"421 4.3.2 Service shutting down", SHUTDOWN},
    {"421 mx Service not available, closing transmission channel", SHUTDOWN},
    {"421 Service unavailable, closing channel", SHUTDOWN},
    {"421 4.3.2 server is going down", SHUTDOWN},
    {"421 server shutdown", SHUTDOWN},
    {"421 4.3.2 System not accepting network messages", SHUTDOWN},

    /* come again */
    {"450 4.2.0 <b@mx>: Recipient address rejected: Greylisted, see http://postgrey.example", GREYLISTING},
    {"451 Greylisted for five minutes", GREYLISTING},
    {"451 Graylisted, please try again", GREYLISTING},
    {"451 you are grey listed", GREYLISTING},
    {"450 4.7.1 come again later", GREYLISTING},
    {"451 4.7.1 come again later", GREYLISTING},
    {"450 4.2.0 later", GREYLISTING},
    {"451 4.2.0 later", GREYLISTING},

    /* not you */
    {"554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.example", REPUTATION},
    {"550 5.7.1 Client host [192.0.2.1] blocked using zen.example", REPUTATION},
    {"550 5.7.1 refused by Spamhaus", REPUTATION},
    {"550 see barracudacentral.org", REPUTATION},
    {"550 listed by spamcop", REPUTATION},
    {"550 on our blocklist", REPUTATION},
    {"550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. on our block list (S3140)",
     REPUTATION},
    {"550 your address is on a blacklist", REPUTATION},
    {"554 dnsbl hit", REPUTATION},
    {"554-mx Your access has been rejected due to the sending MTA's poor reputation", REPUTATION},
    {"550 5.7.1 very low reputation of the sending domain", REPUTATION},
    {"554 see www.senderbase.org", REPUTATION},
    {"554 5.7.1 no", REPUTATION},
    {"554 5.7.1 <b@server.test>: Relay access denied", OTHER},
    {"554 5.7.1 <b@server.test>: Recipient address rejected: Access denied", OTHER},
    {"554 5.7.1 Message content rejected", OTHER},
    {"554 5.7.1 Spam message rejected", OTHER},
    {"554 5.7.1 Client host rejected; blocked using relays.example", REPUTATION},
    {"450 4.7.1 Client host rejected: cannot find your hostname, [192.0.2.1]", OTHER},
    {"450 4.7.1 <client.test>: Helo command rejected: Host not found", OTHER},
    {"450 4.7.1 <b@server.test>: Recipient address rejected: Greylisted", GREYLISTING},

    /* too large */
    {"552 5.3.4 too much", SIZE},
    {"452 4.3.4 Message too big for now", SIZE},
    {"552 5.2.3 Message exceeds the maximum size of this mailbox", SIZE},
    {"452 Requested action not taken: insufficient system storage", OVERLOAD},
    {"554 5.3.4 too much", SIZE},
    {"552 Message size exceeds maximum permitted", SIZE},
    {"552 maximum message size exceeded", SIZE},
    {"554 message too large", SIZE},
    {"552 Message too big", SIZE},
    {"552 size exceeds fixed maximum message size", SIZE},

    /* log in */
    {"530 5.7.0 Must issue a STARTTLS command first", AUTH},
    {"534 weak", AUTH},
    {"535 Incorrect authentication data", AUTH},
    {"535 5.7.8 Error: authentication failed", AUTH},
    {"538 encrypt", AUTH},
    {"550 5.7.8 no", AUTH},
    {"454 4.7.0 Temporary authentication failure: Connection lost", AUTH},

    /* 421 without telling words */
    {"421 4.7.0 no", UNDECIDED},
    {"421 4.7.9 no", UNDECIDED},
    {"421 4.3.2 no", UNDECIDED},
    {"421 Service not available", UNDECIDED},
    {"421", UNDECIDED},

    /* some other reason */
    {"550 5.1.1 no such user", OTHER},
    {"450 4.1.1 mailbox busy", OTHER},
    {"450 4.7.1 Client host rejected: cannot find your hostname, [192.0.2.1]", OTHER},
    {"450 4.7.1 <gw>: Helo command rejected: Host not found", OTHER},
    {"451 4.7.1 Service unavailable - try again later", UNDECIDED},
    {"451 Error: queue file write error", OVERLOAD},
    {"451 Temporary local problem - please try later", OVERLOAD},
    {"451 <b@mx>: Temporary lookup failure", OVERLOAD},
    {"451 Requested action aborted: local error in processing", OVERLOAD},
    {"450 4.4.1 [internal] Connection Timed Out", TIMEOUT},
    {"450 [internal] Connection Timed Out", TIMEOUT},
    {"450 4.1.8 sender callout: connection timed out", OTHER},
    {"421 4.3.2 Service not active", SHUTDOWN},
    {"500 what", OTHER},
    {"452 no", OTHER},
    {"454 4.7.0 TLS not available", OTHER},

    /* near misses */
    {"554 too many connections from 192.0.2.1", OTHER},
    {"450 connections, too many", OTHER},
    {"550 5.4.5 server busy", OTHER},
    {"451 4.4.5 server bus", OTHER},
    {"451 4.3.1 x", OTHER},
    {"452 4.3.2 x", OTHER},
    {"452 4.5.2 x", OTHER},
    {"451 4.7.50 server busy", OTHER},
    {"550 5.7.28 x", OTHER},
    {"450 4.4.2 bye", OTHER},
    {"550 5.7.1 x", OTHER},
    {"554 5.7.2 x", OTHER},
    {"550 5.2.0 x", OTHER},
    {"450 4.3.4 x", SIZE},
    {"450 message too large", OTHER},
    {"550 greylist", OTHER},
    {"450 protocol error", OTHER},

    /* no failure */
    {"250 too many connections from you, but fine", REPLY_CLASS_NONE},
    {"354 go", REPLY_CLASS_NONE},
    {"220 blocked using", REPLY_CLASS_NONE},
};

static void test_rows(void **state)
{
    (void)state;
    struct guard_page guard;
    guard_page_init(&guard, 4096);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct reply_parser parser = {0};
        struct reply reply;
        size_t length = strlen(rows[i].reply);
        (void)!reply_consume(&parser, (const uint8_t *)rows[i].reply, length, &reply);
        const char *text = (const char *)guard_page_put(&guard, rows[i].reply, length);
        enum reply_class class = reply_text_classify(reply.code, reply.enhanced, text, length);
        if (class != rows[i].class)
            fail_msg("\"%s\" is %s, not %s", rows[i].reply, reply_class_name(class),
                     reply_class_name(rows[i].class));
        reply_clear(&parser);
    }
    guard_page_free(&guard);
}

static void test_case_does_not_matter(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct reply_parser parser = {0};
        struct reply reply;
        char text[300];
        size_t length = strlen(rows[i].reply);
        assert_true(length < sizeof text);
        for (size_t at = 0; at <= length; at++) {
            char octet = rows[i].reply[at];
            text[at] = octet >= 'a' && octet <= 'z' ? (char)(octet - 32) : octet;
        }
        (void)!reply_consume(&parser, (const uint8_t *)text, length, &reply);
        assert_int_equal(reply_text_classify(reply.code, reply.enhanced, text, length), rows[i].class);
        reply_clear(&parser);
    }
}

static void test_no_text(void **state)
{
    (void)state;
    static const uint8_t none[3];
    assert_int_equal(reply_text_classify(421, none, NULL, 0), UNDECIDED);
    assert_int_equal(reply_text_classify(550, none, NULL, 5), OTHER);
    assert_int_equal(reply_text_classify(250, none, NULL, 0), REPLY_CLASS_NONE);
}

static void test_every_class_has_a_name_and_a_text(void **state)
{
    (void)state;
    for (int class = REPLY_CLASS_NONE; class < REPLY_CLASS_COUNT; class ++) {
        assert_non_null(reply_class_name((enum reply_class) class));
        bool used = class == REPLY_CLASS_SIZE_OR_ROOM; /* the words alone never say so */
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
            used = used || rows[i].class == (enum reply_class) class;
        assert_true(used);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_case_does_not_matter),
        cmocka_unit_test(test_no_text),
        cmocka_unit_test(test_every_class_has_a_name_and_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
