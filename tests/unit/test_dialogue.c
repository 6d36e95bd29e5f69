/* What dialogues cost and answer beyond the transcripts: memory, octet counts, questions, every reply to
 * every verb. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/smtp/dialogue_internal.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#ifndef SANITIZED
/* This program's malloc() stands before the C library's; the sanitizers bring their own. */
void *__libc_malloc(size_t size);
static volatile bool starved;

void *malloc(size_t size)
{
    return starved ? NULL : __libc_malloc(size);
}
#endif

static void start(struct dialogue *dialogue)
{
    static const struct dialogue_options options;
    dialogue_init(dialogue, &options);
    dialogue_connected(dialogue);
}

static void client(struct dialogue *dialogue, const char *text)
{
    dialogue_consume(dialogue, SIDE_CLIENT, (const uint8_t *)text, strlen(text));
}

static void server(struct dialogue *dialogue, const char *text)
{
    dialogue_consume(dialogue, SIDE_SERVER, (const uint8_t *)text, strlen(text));
}

static void test_an_idle_session_holds_no_memory(void **state)
{
    (void)state;
    struct dialogue dialogue;
    start(&dialogue);
    server(&dialogue, "220-mx\r\n22");
    server(&dialogue, "0 ready\r\n");
    client(&dialogue, "EH");
    client(&dialogue, "LO c\r\n");
    server(&dialogue, "250-mx\r\n250-SIZE\r\n25");
    server(&dialogue, "0 STARTTLS\r\n");
    client(&dialogue, "NOOP\r\n");
    server(&dialogue, "550 no\r\n");
    assert_null(dialogue.lines[0].held);
    assert_null(dialogue.lines[1].held);
    assert_null(dialogue.reply.kept);
    assert_null(dialogue.kept.text);
    assert_true(sizeof dialogue <= 424);
    dialogue_clear(&dialogue);
}

static void test_octets_are_counted(void **state)
{
    (void)state;
    struct dialogue dialogue;
    start(&dialogue);
    server(&dialogue, "220 mx\r\n");
    client(&dialogue, "HELO c\r\n");
    dialogue_skip(&dialogue, SIDE_CLIENT, 100);
    dialogue_skip(&dialogue, SIDE_SERVER, 1000);
    dialogue_consume(&dialogue, SIDE_SERVER, NULL, 0);
    assert_int_equal(dialogue.octets[0], 108);
    assert_int_equal(dialogue.octets[1], 1008);
    dialogue_clear(&dialogue);
}

static void test_kept_text_is_bounded_and_the_first_that_ends_stays(void **state)
{
    (void)state;
    struct dialogue dialogue;
    char text[700];
    memset(text, 'x', sizeof text);
    memcpy(text, "421 ", 4);
    memcpy(text + sizeof text - 3, "\r\n", 3);
    start(&dialogue);
    server(&dialogue, text);
    assert_int_equal(dialogue.kept.role, DIALOGUE_REPLY_ENDED_SESSION);
    assert_int_equal(strlen(dialogue.kept.text), DIALOGUE_REPLY_TEXT);
    server(&dialogue, "421 4.4.2 timeout\r\n");
    assert_int_equal(dialogue.kept.text[10], 'x');
    dialogue_clear(&dialogue);
    assert_null(dialogue.kept.text);
}

static void test_kept_text_joins_lines(void **state)
{
    (void)state;
    struct dialogue dialogue;
    start(&dialogue);
    server(&dialogue, "220 mx\r\n");
    client(&dialogue, "HELO c\r\n");
    server(&dialogue, "250 mx\r\n");
    client(&dialogue, "MAIL FROM:<a@c>\r\n");
    server(&dialogue, "550-5.7.1 see\r\n550 5.7.1 policy\r\n");
    assert_string_equal(dialogue.kept.text, "550-5.7.1 see 550 5.7.1 policy");
    assert_int_equal(dialogue.kept.role, DIALOGUE_REPLY_ENDED_MAIL);
    dialogue_clear(&dialogue);
}

static void test_may_speak(void **state)
{
    (void)state;
    static const struct {
        const char *client, *server;
        bool may;
    } steps[] = {
        {"", "220-mx\r\n", false},     {"", "220 mx\r\n", true},    {"EHLO", "", true},
        {" c\r\n", "", true},          {"", "250-", false},         {"", "mx\r\n250 x\r\n", true},
        {"AUTH LOGIN\r\n", "", false}, {"", "334 x\r\n", false},    {"eA==\r\n", "", false},
        {"", "235 ok\r\n", true},      {"MAIL F:<>\r\n", "", true}, {"", "250 ok\r\n", true},
        {"RCPT T:<b>\r\n", "", true},  {"", "250 ok\r\n", true},    {"DATA\r\n", "", true},
        {"", "354 go\r\n", false},     {"text\r\n", "", false},     {".\r\n", "", false},
        {"", "250 ok\r\n", true},      {"DATA\r\n", "", true},      {"text", "", false},
        {"", "503 no\r\n", true},      {"\r\n", "", true},          {"", "500 x\r\n", true},
        {"BDAT 3\r\n", "", false},     {"abc", "", false},          {"", "503 x\r\n", true},
        {"QUIT\r\n", "", true},        {"", "221 bye\r\n", false},
    };
    struct dialogue dialogue;
    start(&dialogue);
    assert_true(dialogue_may_speak(&dialogue));
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        client(&dialogue, steps[i].client);
        server(&dialogue, steps[i].server);
        if (dialogue_may_speak(&dialogue) != steps[i].may)
            fail_msg("step %zu (\"%s\" \"%s\")", i, steps[i].client, steps[i].server);
    }
    dialogue_clear(&dialogue);
}

static void test_may_pass(void **state)
{
    (void)state;
    struct dialogue dialogue;
    uint64_t length;
    uint32_t keep;
    start(&dialogue);
    assert_false(dialogue_may_pass(&dialogue, SIDE_CLIENT, &length, &keep));
    server(&dialogue, "220 mx\r\n");
    client(&dialogue, "BDAT 5000000000 LAST\r\nabc");
    assert_true(dialogue_may_pass(&dialogue, SIDE_CLIENT, &length, &keep));
    assert_true(length == UINT64_C(4999999997));
    assert_false(dialogue_may_pass(&dialogue, SIDE_SERVER, &length, &keep));
    assert_int_equal(keep, 0);
    dialogue_pass(&dialogue, SIDE_CLIENT, length);
    assert_false(dialogue_may_pass(&dialogue, SIDE_CLIENT, &length, &keep));
    assert_int_equal(dialogue.flags & DIALOGUE_GAP, 0);
    dialogue_clear(&dialogue);

    start(&dialogue);
    server(&dialogue, "220 mx\r\n");
    client(&dialogue, "EHLO c\r\nMAIL FROM:<a@c>\r\nRCPT TO:<b@mx>\r\nDATA\r\nno 354 yet");
    assert_false(dialogue_may_pass(&dialogue, SIDE_CLIENT, &length, &keep)); /* may be commands after all */
    dialogue_clear(&dialogue);

    static const struct dialogue_options tls = {.implicit_tls = true};
    dialogue_init(&dialogue, &tls);
    dialogue_connected(&dialogue);
    assert_false(dialogue_may_pass(&dialogue, SIDE_CLIENT, &length, &keep)); /* record sizes still tell */
    client(&dialogue, "EHLO c\r\n");
    assert_true(dialogue_may_pass(&dialogue, SIDE_CLIENT, &length, &keep)); /* no TLS: nothing tells */
    assert_true(length == UINT64_MAX);
    dialogue_clear(&dialogue);
}

static void test_clock(void **state)
{
    (void)state;
    struct dialogue dialogue;
    start(&dialogue);
    uint32_t serial = dialogue.debt_serial;
    server(&dialogue, "220-mx\r\n220-mx\r\n");
    assert_int_equal(dialogue.debt_serial, serial); /* still the same greeting */
    server(&dialogue, "220 mx\r\n");
    assert_int_not_equal(dialogue.debt_serial, serial);
    client(&dialogue, "EHLO c\r\nMAIL FROM:<a>\r\n");
    serial = dialogue.debt_serial;
    client(&dialogue, "RCPT TO:<b>\r\nRCPT TO:<d>\r\n");
    assert_int_equal(dialogue.debt_serial, serial); /* the oldest debt is the same */
    server(&dialogue, "250 mx\r\n250 ok\r\n");
    serial = dialogue.debt_serial;
    server(&dialogue, "250 ok\r\n"); /* one RCPT answered, one not: the same phase, another debt */
    assert_int_equal(dialogue.phase, PHASE_RCPT);
    assert_int_not_equal(dialogue.debt_serial, serial);
    dialogue_clear(&dialogue);
}

static uint32_t random_state = 1;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % limit;
}

/* Octets of the body up to and with its end, searched plainly. 0 = no end. */
static size_t plain_end(const uint8_t *body, size_t length)
{
    for (size_t at = 0; at < length; at++) {
        if (at == 2 && memcmp(body, ".\r\n", 3) == 0)
            return 3;
        if (at >= 4 && memcmp(body + at - 4, "\r\n.\r\n", 5) == 0)
            return at + 1;
    }
    return 0;
}

static void check_body(const uint8_t *body, size_t length, uint32_t largest_piece)
{
    struct dialogue dialogue;
    size_t end = plain_end(body, length);
    start(&dialogue);
    server(&dialogue, "220 mx\r\n");
    client(&dialogue, "HELO c\r\nMAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n");
    server(&dialogue, "250 x\r\n250 x\r\n250 x\r\n354 x\r\n");
    size_t wanted = end == 0 ? length : end;
    for (size_t at = 0; at < wanted;) {
        size_t taken = 1 + random_below(largest_piece);
        taken = taken < wanted - at ? taken : wanted - at;
        assert_int_equal(dialogue.phase, PHASE_BODY);
        dialogue_consume(&dialogue, SIDE_CLIENT, body + at, taken);
        at += taken;
    }
    assert_int_equal(dialogue.phase, end == 0 ? PHASE_BODY : PHASE_END_OF_DATA);
    assert_int_equal(dialogue.body_octets, wanted);
    dialogue_clear(&dialogue);
}

/* Bodies of nothing but line ends and dots, with more or less between them, cut anywhere. */
static void test_random_bodies(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 30000; round++) {
        uint8_t body[400];
        size_t length = 1 + random_below(sizeof body);
        uint32_t plain = random_below(40);
        for (size_t i = 0; i < length; i++)
            body[i] = random_below(plain + 3) >= 3 ? 'x' : (uint8_t) "\r\n."[random_below(3)];
        size_t dot = random_below((uint32_t)length);
        if (round % 2 == 0 && length - dot >= 5)
            memcpy(body + dot, "\r\n.\r\n", 5);
        check_body(body, length, 1 + random_below(round % 3 == 0 ? 400 : 9));
    }
}

/* Every reply to every verb, then QUIT: no reply may leave a session that cannot go on. */
static void test_every_reply_to_every_verb(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "HELO c\r\n",
        "EHLO c\r\n",
        "LHLO c\r\n",
        "MAIL FROM:<a>\r\n",
        "RCPT TO:<b>\r\n",
        "DATA\r\n",
        "BDAT 3\r\nabc",
        "BDAT 3 LAST\r\nabc",
        "RSET\r\n",
        "QUIT\r\n",
        "NOOP\r\n",
        "VRFY b\r\n",
        "EXPN b\r\n",
        "HELP\r\n",
        "AUTH LOGIN\r\n",
        "ETRN b\r\n",
        "XCLIENT a=b\r\n",
        "XFORWARD a=b\r\n",
        "SEND FROM:<a>\r\n",
        "FROB\r\n",
        "XXXX\r\n",
        "\r\n",
        "DATA\r\ntext\r\n.\r\n",
        "DATA\r\ntext\r\n",
        "STARTTLS\r\n",
        "TURN\r\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        for (unsigned code = 200; code < 600; code++) {
            struct dialogue dialogue;
            char text[20];
            start(&dialogue);
            server(&dialogue, "220 mx\r\n");
            client(&dialogue, "EHLO c\r\n");
            server(&dialogue, "250 mx\r\n");
            client(&dialogue, lines[i]);
            snprintf(text, sizeof text, "%u x\r\n", code);
            server(&dialogue, text);
            assert_int_equal(dialogue.last_code, code);
            assert_true(dialogue.errors == (code >= 400 ? 1 : 0));
            if (dialogue.phase == PHASE_CLOSED)
                assert_int_equal(dialogue.owed_by, SIDE_NONE);
            if (code >= 400 && code != 421 && dialogue_outstanding_count(&dialogue) == 0)
                assert_int_equal(dialogue.owed_by, SIDE_CLIENT);
            bool body = dialogue.mode == DIALOGUE_BODY;
            if (body)
                client(&dialogue, ".\r\n");
            bool turned = (dialogue.flags & DIALOGUE_TURNED) != 0;
            if (dialogue.phase != PHASE_CLOSED && !(dialogue.flags & DIALOGUE_TLS) && !turned) {
                for (unsigned left = dialogue_outstanding_count(&dialogue); left > 0; left--) {
                    if (dialogue.mode == DIALOGUE_AUTH_TURN)
                        client(&dialogue, "*\r\n");
                    server(&dialogue, "500 x\r\n");
                }
                client(&dialogue, "QUIT\r\n");
                assert_int_equal(dialogue.phase, PHASE_QUIT);
                server(&dialogue, "221 x\r\n");
                assert_int_equal(dialogue.phase, PHASE_CLOSED);
            }
            dialogue_clear(&dialogue);
        }
    }
}

#ifndef SANITIZED
static void test_lack_of_memory_loses_text_only(void **state)
{
    (void)state;
    static const char *const pieces[] = {"MAIL FR", "OM:<a@c>\r", "\n"};
    struct dialogue dialogue;
    start(&dialogue);
    starved = true;
    server(&dialogue, "22");
    server(&dialogue, "0 mx\r\n");
    enum phase after_greeting = dialogue.phase;
    client(&dialogue, "EHLO c\r\n");
    server(&dialogue, "250 mx\r\n");
    for (size_t i = 0; i < 3; i++)
        client(&dialogue, pieces[i]);
    enum phase phase = dialogue.phase;
    enum side owed_by = dialogue.owed_by;
    server(&dialogue, "550-no\r\n550 never\r\n");
    server(&dialogue, "421 4.4.2 timeout\r\n");
    starved = false;
    assert_int_equal(after_greeting, PHASE_HELO);
    assert_int_equal(phase, PHASE_MAIL);
    assert_int_equal(owed_by, SIDE_SERVER);
    assert_int_equal(dialogue.phase, PHASE_CLOSED);
    assert_int_equal(dialogue.kept.code, 421);
    assert_null(dialogue.kept.text);
    dialogue_clear(&dialogue);
}

static void test_lack_of_memory_and_tls(void **state)
{
    (void)state;
    struct dialogue dialogue;
    start(&dialogue);
    server(&dialogue, "220 mx\r\n");
    client(&dialogue, "EHLO c\r\n");
    server(&dialogue, "250-mx\r\n250 STARTTLS\r\n");
    client(&dialogue, "STARTTLS\r\n");
    starved = true;
    server(&dialogue, "220 go\r\n");
    starved = false;
    assert_int_equal(dialogue.phase, PHASE_OPAQUE);
    assert_int_equal(dialogue.owed_by, SIDE_NONE);
    assert_false(dialogue_tls(&dialogue)->established);
    client(&dialogue, "\x16\x03\x01");
    assert_int_equal(dialogue.phase, PHASE_OPAQUE);
    dialogue_clear(&dialogue);
}

/* More verbs in turn than a dialogue has room of its own for; each has its answer all the same. */
static void ask_in_turn(bool without_memory)
{
    struct dialogue dialogue;
    start(&dialogue);
    server(&dialogue, "220 mx\r\n");
    client(&dialogue, "EHLO c\r\n");
    server(&dialogue, "250-mx\r\n250 PIPELINING\r\n");
    starved = without_memory;
    for (unsigned i = 0; i < DIALOGUE_MAX_RUNS; i++)
        client(&dialogue, i % 2 == 0 ? "NOOP\r\n" : "RSET\r\n");
    starved = false;
    assert_int_equal(dialogue_outstanding_count(&dialogue), DIALOGUE_MAX_RUNS);
    assert_int_equal((dialogue.flags & DIALOGUE_TOO_DEEP) != 0, without_memory);
    for (unsigned i = 0; i < DIALOGUE_MAX_RUNS; i++) {
        if (!without_memory)
            assert_int_equal(dialogue_oldest_verb(&dialogue), i % 2 == 0 ? VERB_NOOP : VERB_RSET);
        assert_int_equal(dialogue.owed_by, SIDE_SERVER);
        server(&dialogue, "250 ok\r\n");
    }
    assert_int_equal(dialogue_outstanding_count(&dialogue), 0);
    assert_int_equal(dialogue.owed_by, SIDE_CLIENT);
    assert_int_equal(dialogue.state & STATE_MORE_RUNS, 0);
    dialogue_clear(&dialogue);
}

static void test_many_verbs_in_turn(void **state)
{
    (void)state;
    ask_in_turn(false);
    ask_in_turn(true);
}
#else
static void test_lack_of_memory_loses_text_only(void **state)
{
    (void)state;
    skip();
}

static void test_lack_of_memory_and_tls(void **state)
{
    (void)state;
    skip();
}

static void test_many_verbs_in_turn(void **state)
{
    (void)state;
    skip();
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_idle_session_holds_no_memory),
        cmocka_unit_test(test_octets_are_counted),
        cmocka_unit_test(test_kept_text_is_bounded_and_the_first_that_ends_stays),
        cmocka_unit_test(test_kept_text_joins_lines),
        cmocka_unit_test(test_may_speak),
        cmocka_unit_test(test_may_pass),
        cmocka_unit_test(test_clock),
        cmocka_unit_test(test_random_bodies),
        cmocka_unit_test(test_every_reply_to_every_verb),
        cmocka_unit_test(test_lack_of_memory_loses_text_only),
        cmocka_unit_test(test_lack_of_memory_and_tls),
        cmocka_unit_test(test_many_verbs_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
