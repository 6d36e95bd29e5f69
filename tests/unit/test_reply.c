#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/smtp/reply.h"
#include "tests/unit/guard_page.h"

struct row {
    const char *line;
    enum reply_outcome outcome;
    uint16_t code;
    uint8_t enhanced[3];
};

static const struct row rows[] = {
    {"250 ok", REPLY_COMPLETE, 250, {0}},
    {"250", REPLY_COMPLETE, 250, {0}},
    {"250 ", REPLY_COMPLETE, 250, {0}},
    {"250\tok", REPLY_COMPLETE, 250, {0}},
    {"250-more", REPLY_INCOMPLETE, 250, {0}},
    {"250-", REPLY_INCOMPLETE, 250, {0}},
    {"599 x", REPLY_COMPLETE, 599, {0}},
    {"200 x", REPLY_COMPLETE, 200, {0}},
    {"199 x", REPLY_NO_CODE, 0, {0}},
    {"600 x", REPLY_NO_CODE, 0, {0}},
    {"25", REPLY_NO_CODE, 0, {0}},
    {"", REPLY_NO_CODE, 0, {0}},
    {"250ok", REPLY_NO_CODE, 0, {0}},
    {"2500 ok", REPLY_NO_CODE, 0, {0}},
    {"25O ok", REPLY_NO_CODE, 0, {0}},
    {" 250 ok", REPLY_NO_CODE, 0, {0}},
    {"SSH-2.0", REPLY_NO_CODE, 0, {0}},
    {"421 4.7.0 too many", REPLY_COMPLETE, 421, {4, 7, 0}},
    {"421-4.7.28 too many", REPLY_INCOMPLETE, 421, {4, 7, 28}},
    {"451 4.7.500 Server busy", REPLY_COMPLETE, 451, {4, 7, 255}},
    {"554 5.7.1", REPLY_COMPLETE, 554, {5, 7, 1}},
    {"554 5.7", REPLY_COMPLETE, 554, {0}},
    {"554 5.7.", REPLY_COMPLETE, 554, {0}},
    {"554 5..1", REPLY_COMPLETE, 554, {0}},
    {"554 5.7.1234", REPLY_COMPLETE, 554, {0}},
    {"554 3.7.1 x", REPLY_COMPLETE, 554, {0}},
    {"554 5.7.1x", REPLY_COMPLETE, 554, {0}},
    {"220 2.0.0 Ready", REPLY_COMPLETE, 220, {2, 0, 0}},
    {"250 2.example.test", REPLY_COMPLETE, 250, {0}},
};

static void test_rows(void **state)
{
    (void)state;
    struct guard_page guard;
    guard_page_init(&guard, 4096);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct reply_parser parser = {0};
        struct reply reply;
        size_t length = strlen(rows[i].line);
        enum reply_outcome outcome =
            reply_consume(&parser, guard_page_put(&guard, rows[i].line, length), length, &reply);
        if (outcome != rows[i].outcome || reply.code != rows[i].code ||
            memcmp(reply.enhanced, rows[i].enhanced, 3) != 0)
            fail_msg("\"%s\": outcome %d code %u enhanced %u.%u.%u", rows[i].line, outcome, reply.code,
                     reply.enhanced[0], reply.enhanced[1], reply.enhanced[2]);
        assert_int_equal(reply_is_open(&parser), outcome == REPLY_INCOMPLETE);
        reply_clear(&parser);
        for (size_t cut = 0; cut < length; cut++) {
            (void)!reply_consume(&parser, guard_page_put(&guard, rows[i].line, cut), cut, &reply);
            reply_clear(&parser);
        }
    }
    guard_page_free(&guard);
}

static enum reply_outcome say(struct reply_parser *parser, struct reply *reply, const char *line)
{
    return reply_consume(parser, (const uint8_t *)line, strlen(line), reply);
}

static void test_lines_are_joined(void **state)
{
    (void)state;
    struct reply_parser parser = {0};
    struct reply reply;
    assert_int_equal(say(&parser, &reply, "421-4.7.0 first"), REPLY_INCOMPLETE);
    assert_true(reply.first_line);
    assert_int_equal(say(&parser, &reply, "noise"), REPLY_NO_CODE);
    assert_true(reply_is_open(&parser));
    assert_int_equal(say(&parser, &reply, "421-second"), REPLY_INCOMPLETE);
    assert_false(reply.first_line);
    assert_int_equal(say(&parser, &reply, "421 third"), REPLY_COMPLETE);
    assert_string_equal(reply.text, "421-4.7.0 first 421-second 421 third");
    assert_int_equal(reply.text_length, strlen(reply.text));
    assert_int_equal(reply.enhanced[0], 4); /* from the first line */
    assert_int_equal(say(&parser, &reply, "550 alone"), REPLY_COMPLETE);
    assert_string_equal(reply.text, "550 alone");
    assert_int_equal(say(&parser, &reply, "250 fine"), REPLY_COMPLETE);
    assert_null(reply.text);
    assert_null(parser.kept); /* nothing is held for a positive reply */
    reply_clear(&parser);
}

static void test_changed_code_is_a_new_reply(void **state)
{
    (void)state;
    struct reply_parser parser = {0};
    struct reply reply;
    assert_int_equal(say(&parser, &reply, "250-a"), REPLY_INCOMPLETE);
    assert_int_equal(say(&parser, &reply, "500 b"), REPLY_CODE_CHANGED);
    assert_int_equal(reply.code, 500);
    assert_string_equal(reply.text, "500 b");
    assert_false(reply_is_open(&parser));
    assert_int_equal(say(&parser, &reply, "550-a"), REPLY_INCOMPLETE);
    assert_int_equal(say(&parser, &reply, "421-b"), REPLY_INCOMPLETE);
    assert_int_equal(say(&parser, &reply, "421 c"), REPLY_COMPLETE);
    assert_string_equal(reply.text, "421-b 421 c");
    reply_clear(&parser);
}

static void test_text_is_bounded(void **state)
{
    (void)state;
    struct reply_parser parser = {0};
    struct reply reply;
    char line[200];
    memset(line, 'x', sizeof line);
    memcpy(line, "550-", 4);
    for (int i = 0; i < 50; i++)
        assert_int_equal(reply_consume(&parser, (const uint8_t *)line, sizeof line, &reply),
                         REPLY_INCOMPLETE);
    assert_int_equal(parser.kept_length, REPLY_KEEP_OCTETS);
    assert_int_equal(say(&parser, &reply, "550 end"), REPLY_COMPLETE);
    assert_int_equal(reply.text_length, REPLY_KEEP_OCTETS);
    assert_int_equal(strlen(reply.text), REPLY_KEEP_OCTETS);

    char huge[3000];
    memset(huge, 'y', sizeof huge);
    memcpy(huge, "554 ", 4);
    assert_int_equal(reply_consume(&parser, (const uint8_t *)huge, sizeof huge, &reply), REPLY_COMPLETE);
    assert_int_equal(reply.text_length, REPLY_KEEP_OCTETS);

    for (uint32_t i = 0; i < 70000; i++) /* more lines than are counted */
        assert_int_equal(say(&parser, &reply, "250-"), REPLY_INCOMPLETE);
    assert_false(reply.first_line);
    reply_clear(&parser);
}

static void test_nul_becomes_a_blank(void **state)
{
    (void)state;
    struct reply_parser parser = {0};
    struct reply reply;
    assert_int_equal(reply_consume(&parser, (const uint8_t *)"550 a\0b", 7, &reply), REPLY_COMPLETE);
    assert_string_equal(reply.text, "550 a b");
    reply_clear(&parser);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_lines_are_joined),
        cmocka_unit_test(test_changed_code_is_a_new_reply),
        cmocka_unit_test(test_text_is_bounded),
        cmocka_unit_test(test_nul_becomes_a_blank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
