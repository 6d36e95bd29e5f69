#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/smtp/command.h"
#include "tests/unit/guard_page.h"

struct row {
    const char *text;
    enum verb verb;
    uint64_t size;
    bool malformed;
    bool auth_initial;
};

static const struct row rows[] = {
    {"", VERB_NONE, 0, false, false},
    {"   ", VERB_NONE, 0, false, false},
    {"EHLO client.test", VERB_EHLO, 0, false, false},
    {"ehlo", VERB_EHLO, 0, false, false},
    {"  HeLo x", VERB_HELO, 0, false, false},
    {"LHLO x", VERB_LHLO, 0, false, false},
    {"MAIL FROM:<a@b>", VERB_MAIL, 0, false, false},
    {"mail from:<> size=1000 BODY=8BITMIME", VERB_MAIL, 1000, false, false},
    {"MAIL FROM:<a@b> BODY=8BITMIME SIZE=18446744073709551615", VERB_MAIL, 0, false, false},
    {"MAIL FROM:<a@b> SIZE=999999999999", VERB_MAIL, 999999999999u, false, false},
    {"MAIL FROM:<a@b> SIZE=12x", VERB_MAIL, 0, false, false},
    {"MAIL FROM:<a@b> SIZE=", VERB_MAIL, 0, false, false},
    {"MAIL FROM:<a@b> XSIZE=5", VERB_MAIL, 0, false, false},
    {"MAIL FROM:SIZE=5", VERB_MAIL, 0, false, false},
    {"MAIL", VERB_MAIL, 0, false, false},
    {"MAIL:", VERB_MAIL, 0, false, false},
    {"MAILX", VERB_OTHER, 0, false, false},
    {"MAI", VERB_OTHER, 0, false, false},
    {"RCPT TO:<a@b>", VERB_RCPT, 0, false, false},
    {"DATA", VERB_DATA, 0, false, false},
    {"DATA ", VERB_DATA, 0, false, false},
    {"DATA.", VERB_OTHER, 0, false, false},
    {".", VERB_OTHER, 0, false, false},
    {"BDAT 100", VERB_BDAT, 100, false, false},
    {"BDAT 100 LAST", VERB_BDAT_LAST, 100, false, false},
    {"bdat 0 last", VERB_BDAT_LAST, 0, false, false},
    {"BDAT", VERB_BDAT, 0, true, false},
    {"BDAT LAST", VERB_BDAT, 0, true, false},
    {"BDAT 12a", VERB_BDAT, 0, true, false},
    {"BDAT -1", VERB_BDAT, 0, true, false},
    {"BDAT 5 FIRST", VERB_BDAT, 5, true, false},
    {"BDAT 99999999999999999999", VERB_BDAT, 0, true, false},
    {"RSET", VERB_RSET, 0, false, false},
    {"QUIT", VERB_QUIT, 0, false, false},
    {"NOOP hello", VERB_NOOP, 0, false, false},
    {"VRFY a", VERB_VRFY, 0, false, false},
    {"EXPN a", VERB_EXPN, 0, false, false},
    {"HELP", VERB_HELP, 0, false, false},
    {"STARTTLS", VERB_STARTTLS, 0, false, false},
    {"x-anonymoustls", VERB_STARTTLS, 0, false, false},
    {"AUTH", VERB_AUTH, 0, true, false},
    {"AUTH LOGIN", VERB_AUTH, 0, false, false},
    {"AUTH PLAIN AGEAYg==", VERB_AUTH, 0, false, true},
    {"X-EXPS GSSAPI", VERB_AUTH, 0, false, false},
    {"ETRN a", VERB_ETRN, 0, false, false},
    {"TURN", VERB_TURN, 0, false, false},
    {"ATRN a", VERB_ATRN, 0, false, false},
    {"XCLIENT NAME=a", VERB_XCLIENT, 0, false, false},
    {"XFORWARD NAME=a", VERB_XFORWARD, 0, false, false},
    {"SEND FROM:<a>", VERB_SEND, 0, false, false},
    {"SOML FROM:<a>", VERB_SEND, 0, false, false},
    {"SAML FROM:<a>", VERB_SEND, 0, false, false},
    {"XXXX client.test", VERB_MASKED, 0, false, false},
    {"XXXXXXXX", VERB_MASKED, 0, false, false},
    {"XX", VERB_OTHER, 0, false, false},
    {"XXXA", VERB_OTHER, 0, false, false},
    {"\x16\x03\x01", VERB_OTHER, 0, false, false},
    {"GET / HTTP/1.1", VERB_OTHER, 0, false, false},
};

static void test_rows(void **state)
{
    (void)state;
    struct guard_page guard;
    guard_page_init(&guard, 4096);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct command command;
        size_t length = strlen(rows[i].text);
        command_parse(&command, guard_page_put(&guard, rows[i].text, length), length);
        if (command.verb != rows[i].verb || command.size != rows[i].size ||
            command.malformed != rows[i].malformed || command.auth_initial != rows[i].auth_initial)
            fail_msg("\"%s\" is %s size %llu malformed %d initial %d", rows[i].text, verb_name(command.verb),
                     (unsigned long long)command.size, command.malformed, command.auth_initial);
        /* Every beginning of it, at the end of a page. */
        for (size_t cut = 0; cut < length; cut++)
            command_parse(&command, guard_page_put(&guard, rows[i].text, cut), cut);
    }
    guard_page_free(&guard);
}

static void test_every_verb_has_a_name(void **state)
{
    (void)state;
    for (int verb = 0; verb < VERB_COUNT; verb++) {
        assert_non_null(verb_name((enum verb)verb));
        assert_true(strlen(verb_name((enum verb)verb)) >= 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_every_verb_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
