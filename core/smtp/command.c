#include "core/smtp/command.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

struct verb_row {
    const char *word;
    enum verb verb;
};

static const struct verb_row verb_rows[] = {
    {"HELO", VERB_HELO},               /* RFC 5321 4.1.1.1 */
    {"EHLO", VERB_EHLO},               /* RFC 5321 4.1.1.1 */
    {"LHLO", VERB_LHLO},               /* RFC 2033 4.1 */
    {"MAIL", VERB_MAIL},               /* RFC 5321 4.1.1.2 */
    {"RCPT", VERB_RCPT},               /* RFC 5321 4.1.1.3 */
    {"DATA", VERB_DATA},               /* RFC 5321 4.1.1.4 */
    {"BDAT", VERB_BDAT},               /* RFC 3030 2 */
    {"RSET", VERB_RSET},               /* RFC 5321 4.1.1.5 */
    {"QUIT", VERB_QUIT},               /* RFC 5321 4.1.1.10 */
    {"NOOP", VERB_NOOP},               /* RFC 5321 4.1.1.9 */
    {"VRFY", VERB_VRFY},               /* RFC 5321 4.1.1.6 */
    {"EXPN", VERB_EXPN},               /* RFC 5321 4.1.1.7 */
    {"HELP", VERB_HELP},               /* RFC 5321 4.1.1.8 */
    {"STARTTLS", VERB_STARTTLS},       /* RFC 3207 4 */
    {"X-ANONYMOUSTLS", VERB_STARTTLS}, /* Exchange between its own servers */
    {"AUTH", VERB_AUTH},               /* RFC 4954 4 */
    {"X-EXPS", VERB_AUTH},             /* Exchange's name for AUTH between its own servers */
    {"ETRN", VERB_ETRN},               /* RFC 1985 */
    {"TURN", VERB_TURN},               /* RFC 821 3.8 */
    {"ATRN", VERB_ATRN},               /* RFC 2645 5 */
    {"XCLIENT", VERB_XCLIENT},         /* Postfix XCLIENT_README */
    {"XFORWARD", VERB_XFORWARD},       /* Postfix XFORWARD_README */
    {"SEND", VERB_SEND},               /* RFC 821 3.4 */
    {"SOML", VERB_SEND},
    {"SAML", VERB_SEND},
};

static const char *const verb_names[] = {
    [VERB_NONE] = "none",         [VERB_HELO] = "HELO",
    [VERB_EHLO] = "EHLO",         [VERB_LHLO] = "LHLO",
    [VERB_MAIL] = "MAIL",         [VERB_RCPT] = "RCPT",
    [VERB_DATA] = "DATA",         [VERB_BDAT] = "BDAT",
    [VERB_BDAT_LAST] = "BDAT",    [VERB_RSET] = "RSET",
    [VERB_QUIT] = "QUIT",         [VERB_NOOP] = "NOOP",
    [VERB_VRFY] = "VRFY",         [VERB_EXPN] = "EXPN",
    [VERB_HELP] = "HELP",         [VERB_STARTTLS] = "STARTTLS",
    [VERB_AUTH] = "AUTH",         [VERB_ETRN] = "ETRN",
    [VERB_TURN] = "TURN",         [VERB_ATRN] = "ATRN",
    [VERB_XCLIENT] = "XCLIENT",   [VERB_XFORWARD] = "XFORWARD",
    [VERB_SEND] = "SEND",         [VERB_OTHER] = "other",
    [VERB_MASKED] = "masked",     [VERB_END_OF_DATA] = "end-of-data",
    [VERB_GREETING] = "greeting",
};
_Static_assert(sizeof verb_names / sizeof verb_names[0] == VERB_COUNT, "a name per verb");

/* A cursor over the line: octets left to read. */
struct words {
    const uint8_t *text;
    size_t length;
};

static bool is_blank(uint8_t octet)
{
    return octet == ' ' || octet == '\t' || octet == '\r';
}

static bool is_word(uint8_t octet)
{
    return (octet >= 'A' && octet <= 'Z') || (octet >= 'a' && octet <= 'z') ||
           (octet >= '0' && octet <= '9') || octet == '-' || octet == '_';
}

static bool is_digit(uint8_t octet)
{
    return octet >= '0' && octet <= '9';
}

static void words_skip_blanks(struct words *words)
{
    while (words->length > 0 && is_blank(*words->text)) {
        words->text++;
        words->length--;
    }
}

/* The next run of octets other than blanks; length 0 at the end. */
static struct words words_next(struct words *words)
{
    words_skip_blanks(words);
    struct words word = {words->text, 0};
    while (words->length > 0 && !is_blank(*words->text)) {
        words->text++;
        words->length--;
        word.length++;
    }
    return word;
}

static bool word_is(const struct words *word, const char *text)
{
    return word->length == strlen(text) && strncasecmp((const char *)word->text, text, word->length) == 0;
}

/* Decimal digits only; false when there is none, something else, or more than 19 digits. */
static bool word_number(const struct words *word, uint64_t *number)
{
    if (word->length == 0 || word->length > 19)
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < word->length; i++) {
        if (!is_digit(word->text[i]))
            return false;
        value = value * 10 + (uint64_t)(word->text[i] - '0');
    }
    *number = value;
    return true;
}

/* A middlebox that overwrites a verb writes X's: "XXXX example.test" (PIX/ASA fixup). */
static bool word_is_masked(const struct words *word)
{
    if (word->length < 3)
        return false;
    for (size_t i = 0; i < word->length; i++)
        if (word->text[i] != 'X' && word->text[i] != 'x')
            return false;
    return true;
}

static enum verb verb_find(const struct words *word)
{
    for (size_t i = 0; i < sizeof verb_rows / sizeof verb_rows[0]; i++)
        if (word_is(word, verb_rows[i].word))
            return verb_rows[i].verb;
    return word_is_masked(word) ? VERB_MASKED : VERB_OTHER;
}

static void command_parse_bdat(struct command *command, struct words *rest)
{
    struct words number = words_next(rest);
    struct words last = words_next(rest);
    if (!word_number(&number, &command->size)) {
        command->size = 0;
        command->malformed = true;
    }
    if (word_is(&last, "LAST"))
        command->verb = VERB_BDAT_LAST;
    else if (last.length > 0)
        command->malformed = true;
}

static void command_parse_mail(struct command *command, struct words *rest)
{
    for (struct words word = words_next(rest); word.length > 0; word = words_next(rest)) {
        if (word.length <= 5 || strncasecmp((const char *)word.text, "SIZE=", 5) != 0)
            continue;
        struct words number = {word.text + 5, word.length - 5};
        if (!word_number(&number, &command->size))
            command->size = 0;
        return;
    }
}

void command_parse(struct command *command, const uint8_t *text, size_t length)
{
    *command = (struct command){.verb = VERB_NONE};
    struct words rest = {text, length};
    words_skip_blanks(&rest);
    if (rest.length == 0)
        return;

    struct words word = {rest.text, 0};
    while (rest.length > 0 && is_word(*rest.text)) {
        rest.text++;
        rest.length--;
        word.length++;
    }
    if (rest.length > 0 && !is_blank(*rest.text) && *rest.text != ':') { /* "DATA." is no verb */
        command->verb = VERB_OTHER;
        return;
    }
    command->verb = verb_find(&word);
    if (command->verb == VERB_BDAT) {
        command_parse_bdat(command, &rest);
    } else if (command->verb == VERB_MAIL || command->verb == VERB_SEND) {
        command_parse_mail(command, &rest);
    } else if (command->verb == VERB_AUTH) {
        struct words mechanism = words_next(&rest);
        struct words initial = words_next(&rest);
        command->malformed = mechanism.length == 0;
        command->auth_initial = initial.length > 0;
    }
}

const char *verb_name(enum verb verb)
{
    assert((unsigned)verb < VERB_COUNT);
    return verb_names[verb];
}
