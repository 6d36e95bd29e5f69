#include "core/smtp/reply_limit.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

/* Words in front of the number: with nothing but blanks, ':', '=', '(', "is" and "of" between. */
static const char *const before[] = {"limit", "max", "maximum", "than", "allowed", "allows", "only"};
/* Words behind it, when there is none of those in front. */
static const char *const behind[] = {"connection", "connections", "concurrent", "simultaneous",
                                     "session",    "sessions",    "parallel"};

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word(const char *text, size_t length, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strlen(words[i]) == length && strncasecmp(text, words[i], length) == 0) {
            return true;
        }
    }
    return false;
}

/* The word that ends at `end`, going back over blanks and the small words. */
static bool limit_stands_before(const char *text, size_t end)
{
    static const char *const small[] = {"is", "of", "connections", "sessions"};
    for (unsigned words = 0; words < 3; words++) {
        while (end > 0 && strchr(" :=(", text[end - 1]) != NULL) {
            end--;
        }
        size_t start = end;
        while (start > 0 && is_letter(text[start - 1])) {
            start--;
        }
        if (is_word(text + start, end - start, before, sizeof before / sizeof before[0])) {
            return true;
        }
        if (!is_word(text + start, end - start, small, sizeof small / sizeof small[0])) {
            return false;
        }
        end = start;
    }
    return false;
}

static bool connections_stand_behind(const char *text)
{
    size_t length = 0;
    if (*text != ' ') {
        return false;
    }
    text++;
    while (is_letter(text[length])) {
        length++;
    }
    return is_word(text, length, behind, sizeof behind / sizeof behind[0]);
}

/* A time stands behind it: "10 minutes", "60s". */
static bool time_stands_behind(const char *text)
{
    static const char *const units[] = {"s",      "sec",     "secs", "second", "seconds", "m",    "min",
                                        "minute", "minutes", "h",    "hour",   "hours",   "mins", "per"};
    size_t length = 0;
    text += *text == ' ' ? 1 : 0;
    while (is_letter(text[length])) {
        length++;
    }
    return is_word(text, length, units, sizeof units / sizeof units[0]);
}

uint32_t reply_text_limit(const char *text)
{
    size_t at = text != NULL && strlen(text) >= 4 ? 4 : 0; /* behind the code */
    if (at == 0) {
        return 0;
    }
    while (text[at] != '\0') {
        if (!is_digit(text[at])) {
            at++;
            continue;
        }
        size_t start = at;
        uint32_t number = 0;
        while (is_digit(text[at])) {
            number = number < REPLY_LIMIT_MOST ? number * 10 + (uint32_t)(text[at] - '0') : REPLY_LIMIT_MOST;
            at++;
        }
        char left = text[start - 1], right = text[at];
        bool alone = strchr(" :=(", left) != NULL && (right == '\0' || strchr(" ).,;/\r\n", right) != NULL) &&
                     !(strchr(".:/", right) != NULL && right != '\0' && is_digit(text[at + 1]));
        bool code = number == (uint32_t)(text[0] - '0') * 100 + (uint32_t)(text[1] - '0') * 10 +
                                  (uint32_t)(text[2] - '0'); /* of a reply's next line */
        if (alone && !code && number > 0 && number < REPLY_LIMIT_MOST && !time_stands_behind(text + at) &&
            (limit_stands_before(text, start) || connections_stand_behind(text + at))) {
            return number;
        }
    }
    return 0;
}
