/* TLS records from both sides. What dialogues show is in tests/transcripts; here are the borders of
 * records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/smtp/tls_stream.h"
#include "tests/unit/guard_page.h"

#define MAX_RECORD (5 + 18432)

/* A record of zeros behind its header and `first` octets. Returns its length. */
static size_t record_make(uint8_t record[MAX_RECORD], uint8_t type, size_t length, const char *first,
                          size_t first_length)
{
    memset(record, 0, 5 + length);
    record[0] = type;
    record[1] = 3;
    record[2] = 3;
    record[3] = (uint8_t)(length >> 8);
    record[4] = (uint8_t)length;
    memcpy(record + 5, first, first_length);
    return 5 + length;
}

static void say(struct tls_stream *tls, enum side side, uint8_t type, size_t length, const char *first,
                size_t first_length)
{
    static uint8_t record[MAX_RECORD];
    size_t total = record_make(record, type, length, first, first_length);
    tls_stream_consume(tls, side, record, total);
}

static void say_application(struct tls_stream *tls, enum side side, size_t length)
{
    say(tls, side, 23, length, "", 0);
}

/* TLS 1.2, full handshake, STARTTLS. */
static void establish12(struct tls_stream *tls)
{
    tls_stream_init(tls, false);
    say(tls, SIDE_CLIENT, 22, 200, "\x01\x00\x00\xc4\x03\x03", 6);
    say(tls, SIDE_SERVER, 22, 80, "\x02\x00\x00\x4c\x03\x03\xaa\xbb\xcc\xdd", 10);
    say(tls, SIDE_SERVER, 22, 4, "\x0e\x00\x00\x00", 4);
    say(tls, SIDE_CLIENT, 22, 70, "\x10", 1);
    say(tls, SIDE_CLIENT, 20, 1, "\x01", 1);
    say(tls, SIDE_CLIENT, 22, 40, "\xff", 1);
    say(tls, SIDE_SERVER, 20, 1, "\x01", 1);
    say(tls, SIDE_SERVER, 22, 40, "\xff", 1);
    assert_true(tls->established);
    assert_int_equal(tls->version, 2);
    assert_int_equal(tls->owed_by, SIDE_CLIENT);
}

static void test_hello_at_every_cut(void **state)
{
    (void)state;
    static const uint8_t hello[] = {22, 3, 1, 0, 10, 1, 0, 0, 6, 3, 3, 1, 2, 3, 4};
    struct guard_page guard;
    guard_page_init(&guard, 4096);
    for (size_t cut = 0; cut <= sizeof hello; cut++) {
        struct tls_stream tls;
        tls_stream_init(&tls, true);
        tls_stream_consume(&tls, SIDE_CLIENT, guard_page_put(&guard, hello, cut), cut);
        assert_int_equal(tls.client_hello, cut == sizeof hello);
        assert_int_equal(tls.owed_by, cut == sizeof hello ? SIDE_SERVER : SIDE_CLIENT);
        tls_stream_consume(&tls, SIDE_CLIENT, guard_page_put(&guard, hello + cut, sizeof hello - cut),
                           sizeof hello - cut);
        assert_true(tls.client_hello);
        assert_int_equal(tls.phase, PHASE_TLS);
        assert_int_equal(tls.owed_by, SIDE_SERVER);
    }
    guard_page_free(&guard);
}

static void check_refused(const char *header)
{
    struct tls_stream tls;
    tls_stream_init(&tls, false);
    tls_stream_consume(&tls, SIDE_CLIENT, (const uint8_t *)header, 5);
    assert_true(tls.not_tls);
    assert_int_equal(tls.phase, PHASE_OPAQUE);
    assert_int_equal(tls.owed_by, SIDE_NONE);
    say_application(&tls, SIDE_SERVER, 100); /* nothing is believed any more */
    assert_int_equal(tls.directions[1].records, 0);
}

static void test_what_is_no_record(void **state)
{
    (void)state;
    check_refused("EHLO ");
    check_refused("\x13\x03\x03\x00\x10");
    check_refused("\x19\x03\x03\x00\x10");
    check_refused("\x16\x02\x03\x00\x10");
    check_refused("\x16\x03\x05\x00\x10");
    check_refused("\x16\x03\x03\x48\x01"); /* 2^14 + 2049 */
    struct tls_stream tls;
    establish12(&tls);
    say_application(&tls, SIDE_CLIENT, 18432); /* the longest */
    assert_false(tls.not_tls);
    assert_int_equal(tls.directions[0].records, 1);
}

static void test_commands_and_replies(void **state)
{
    (void)state;
    struct tls_stream tls;
    establish12(&tls);
    for (unsigned i = 1; i <= 5; i++) {
        say_application(&tls, SIDE_CLIENT, 30 + i);
        assert_int_equal(tls.commands, i);
        assert_int_equal(tls.owed_by, SIDE_SERVER);
        say_application(&tls, SIDE_SERVER, 40 + i);
        assert_int_equal(tls.replies, i);
        assert_int_equal(tls.server_last_reply_length, 40 + i);
        assert_int_equal(tls.owed_by, SIDE_CLIENT);
    }
    assert_int_equal(tls.phase, PHASE_OPAQUE);
}

/* Two equal records are no body, three are; a record of the server between them starts anew. */
static void test_body_needs_three(void **state)
{
    (void)state;
    struct tls_stream tls;
    establish12(&tls);
    say_application(&tls, SIDE_CLIENT, 4120);
    say_application(&tls, SIDE_CLIENT, 4120);
    assert_false(tls.body_inferred);
    assert_int_equal(tls.owed_by, SIDE_NONE);
    say_application(&tls, SIDE_SERVER, 40);
    say_application(&tls, SIDE_CLIENT, 4120);
    assert_false(tls.body_inferred);
    say_application(&tls, SIDE_CLIENT, 4120);
    say_application(&tls, SIDE_CLIENT, 4120);
    assert_true(tls.body_inferred);
    assert_int_equal(tls.phase, PHASE_BODY);
    assert_int_equal(tls.owed_by, SIDE_CLIENT);
    say_application(&tls, SIDE_CLIENT, 33);
    assert_int_equal(tls.phase, PHASE_END_OF_DATA);
    assert_int_equal(tls.owed_by, SIDE_SERVER);
}

/* Small equal records are commands, not a body. */
static void test_small_records_are_no_body(void **state)
{
    (void)state;
    struct tls_stream tls;
    establish12(&tls);
    for (int i = 0; i < 5; i++)
        say_application(&tls, SIDE_CLIENT, 1000);
    assert_false(tls.body_inferred);
    assert_int_equal(tls.owed_by, SIDE_SERVER);
    for (int i = 0; i < 10; i++)
        say_application(&tls, SIDE_CLIENT, 80);
    assert_int_equal(tls.owed_by, SIDE_NONE); /* so many: lines of a body, or not */
}

static void test_skip_inside_a_record(void **state)
{
    (void)state;
    struct tls_stream tls;
    establish12(&tls);
    static uint8_t record[MAX_RECORD];
    size_t length = record_make(record, 23, 1000, "", 0);
    tls_stream_consume(&tls, SIDE_CLIENT, record, 105);
    assert_int_equal(tls.commands, 0);
    tls_stream_skip(&tls, SIDE_CLIENT, length - 106);
    assert_int_equal(tls.commands, 0);
    tls_stream_skip(&tls, SIDE_CLIENT, 1);
    assert_int_equal(tls.commands, 1);
    assert_int_equal(tls.owed_by, SIDE_SERVER);
    assert_false(tls.directions[0].lost);
}

static void test_skip_beyond_a_record(void **state)
{
    (void)state;
    struct tls_stream tls;
    establish12(&tls);
    tls_stream_skip(&tls, SIDE_CLIENT, UINT64_MAX);
    assert_true(tls.directions[0].lost);
    assert_int_equal(tls.owed_by, SIDE_NONE);
    tls_stream_consume(&tls, SIDE_CLIENT, (const uint8_t *)"in the middle", 13);
    assert_false(tls.not_tls);
    assert_true(tls.directions[0].lost);
    say_application(&tls, SIDE_CLIENT, 45); /* a span that begins with a record */
    assert_false(tls.directions[0].lost);
    assert_int_equal(tls.phase, PHASE_OPAQUE);
}

static void test_clear_alert(void **state)
{
    (void)state;
    struct tls_stream tls;
    tls_stream_init(&tls, false);
    say(&tls, SIDE_CLIENT, 22, 200, "\x01", 1);
    say(&tls, SIDE_SERVER, 21, 2, "\x02\x28", 2);
    assert_int_equal(tls.alert_level, 2);
    assert_int_equal(tls.alert_description, 40);
    assert_int_equal(tls.alert_from, SIDE_SERVER);
    assert_int_equal(tls.owed_by, SIDE_NONE);
    assert_false(tls.close_notify[1]);
}

static void test_encrypted_alert_is_a_farewell(void **state)
{
    (void)state;
    struct tls_stream tls;
    establish12(&tls);
    say_application(&tls, SIDE_CLIENT, 45);
    say_application(&tls, SIDE_SERVER, 90);
    say(&tls, SIDE_SERVER, 21, 26, "\xff", 1);
    assert_true(tls.close_notify[1]);
    assert_false(tls.close_notify[0]);
    assert_int_equal(tls.alert_level, 0); /* its content cannot be read */
    assert_int_equal(tls.owed_by, SIDE_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello_at_every_cut),
        cmocka_unit_test(test_what_is_no_record),
        cmocka_unit_test(test_commands_and_replies),
        cmocka_unit_test(test_body_needs_three),
        cmocka_unit_test(test_small_records_are_no_body),
        cmocka_unit_test(test_skip_inside_a_record),
        cmocka_unit_test(test_skip_beyond_a_record),
        cmocka_unit_test(test_clear_alert),
        cmocka_unit_test(test_encrypted_alert_is_a_farewell),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
