/* What the server says it can do, line by line of its EHLO reply (RFC 5321 section 4.1.1.1). */
#include <string.h>
#include <strings.h>

#include "core/smtp/dialogue_internal.h"

static bool keyword_is(const uint8_t *text, size_t length, const char *keyword)
{
    return length == strlen(keyword) && strncasecmp((const char *)text, keyword, length) == 0;
}

#define SIX_DIGITS 0xfffffu /* the bits they take */

/* RFC 9422 4: LIMITS RCPTMAX=20 MAILMAX=5. */
static uint32_t limit_value(const uint8_t *text, size_t length)
{
    uint32_t value = 0;
    for (size_t i = 0; i < length && i < 6; i++) {
        if (text[i] < '0' || text[i] > '9')
            return 0;
        value = value * 10 + (uint32_t)(text[i] - '0');
    }
    return length == 0 || length > 6 ? 0 : value; /* RFC 9422: at most six digits */
}

/* RFC 1870 section 4: up to 20 digits; none, or 0, is no limit. */
static uint64_t capability_size(const uint8_t *text, size_t length)
{
    uint64_t value = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9' || value > (UINT64_MAX - 9) / 10)
            return 0;
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    return value;
}

static void capability_limits(struct dialogue *dialogue, const uint8_t *text, size_t length)
{
    while (length > 0) {
        size_t word = 0;
        while (word < length && text[word] != ' ')
            word++;
        const uint8_t *equals = memchr(text, '=', word);
        if (equals != NULL) {
            size_t name = (size_t)(equals - text);
            uint32_t value = limit_value(equals + 1, word - name - 1);
            if (keyword_is(text, name, "RCPTMAX"))
                dialogue->limits_rcptmax = value & SIX_DIGITS;
            else if (keyword_is(text, name, "MAILMAX"))
                dialogue->limits_mailmax = value & SIX_DIGITS;
            else if (keyword_is(text, name, "RCPTDOMAINMAX"))
                dialogue->limits_rcptdomainmax = value & SIX_DIGITS;
        }
        text += word;
        length -= word;
        while (length > 0 && *text == ' ') {
            text++;
            length--;
        }
    }
}

/* "XXXXXXXA": all X's but the last octet, which the ASA counts up. No registered keyword looks so. */
static bool keyword_is_masked(const uint8_t *text, size_t length)
{
    if (length < 4)
        return false;
    for (size_t i = 0; i + 1 < length; i++)
        if (text[i] != 'X' && text[i] != 'x')
            return false;
    return true;
}

void reply_apply_capability(struct dialogue *dialogue, const struct reply *reply)
{
    if (reply->first_line) {
        dialogue->flags &= ~DIALOGUE_OFFERED;
        dialogue->limits_rcptmax = dialogue->limits_mailmax = dialogue->limits_rcptdomainmax = 0;
        dialogue->size_limit = 0;
        return; /* the server's name and a greeting */
    }
    if (reply->line_length <= 4)
        return;
    const uint8_t *text = reply->line + 4;
    size_t length = reply->line_length - 4;
    size_t word = 0;
    while (word < length && text[word] != ' ' && text[word] != '=')
        word++;
    if (keyword_is(text, word, "STARTTLS"))
        dialogue_note(dialogue, DIALOGUE_STARTTLS_OFFERED);
    else if (keyword_is(text, word, "PIPELINING"))
        dialogue_note(dialogue, DIALOGUE_PIPELINING_OFFERED);
    else if (keyword_is(text, word, "CHUNKING"))
        dialogue_note(dialogue, DIALOGUE_CHUNKING_OFFERED);
    else if (keyword_is(text, word, "PIPECONNECT") || keyword_is(text, word, "X_PIPE_CONNECT"))
        dialogue_note(dialogue, DIALOGUE_PIPECONNECT_OFFERED);
    else if (keyword_is(text, word, "SIZE") && word < length)
        dialogue->size_limit = capability_size(text + word + 1, length - word - 1);
    else if (keyword_is(text, word, "LIMITS") && word < length)
        capability_limits(dialogue, text + word + 1, length - word - 1);
    else if (keyword_is_masked(text, word))
        dialogue_note(dialogue, DIALOGUE_CAPABILITY_MASKED);
}
