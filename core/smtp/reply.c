#include "core/smtp/reply.h"

#include <stdlib.h>
#include <string.h>

static bool is_digit(uint8_t octet)
{
    return octet >= '0' && octet <= '9';
}

/* "250 text", "250-text", "250": the code and whether more lines follow. 0 = no reply code. RFC 5321 4.2. */
static uint16_t reply_parse_code(const uint8_t *line, size_t length, bool *more)
{
    if (length < 3 || line[0] < '2' || line[0] > '5' || !is_digit(line[1]) || !is_digit(line[2]))
        return 0;
    if (length > 3 && line[3] != ' ' && line[3] != '-' && line[3] != '\t' && line[3] != '\r')
        return 0;
    *more = length > 3 && line[3] == '-';
    return (uint16_t)((line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0'));
}

/* One number of an enhanced code: 1 to 3 digits. Returns the digits taken, 0 when there is none. */
static size_t enhanced_number(const uint8_t *text, size_t length, uint8_t *number)
{
    unsigned value = 0;
    size_t digits = 0;
    while (digits < length && digits < 4 && is_digit(text[digits])) {
        value = value * 10 + (unsigned)(text[digits] - '0');
        digits++;
    }
    if (digits == 0 || digits > 3)
        return 0;
    *number = (uint8_t)(value > 255 ? 255 : value);
    return digits;
}

/* RFC 3463 section 2: class "." subject "." detail, after the reply code. */
static void reply_parse_enhanced(const uint8_t *line, size_t length, uint8_t enhanced[3])
{
    memset(enhanced, 0, 3);
    size_t at = 4;
    while (at < length && line[at] == ' ')
        at++;
    if (length < 5 || length - at < 5)
        return;
    if ((line[at] != '2' && line[at] != '4' && line[at] != '5') || line[at + 1] != '.')
        return;
    uint8_t class = (uint8_t)(line[at] - '0');
    uint8_t subject, detail;
    at += 2;
    size_t taken = enhanced_number(line + at, length - at, &subject);
    if (taken == 0 || length - at - taken < 2 || line[at + taken] != '.')
        return;
    at += taken + 1;
    taken = enhanced_number(line + at, length - at, &detail);
    if (taken == 0 || (length - at > taken && line[at + taken] >= 'A'))
        return;
    enhanced[0] = class;
    enhanced[1] = subject;
    enhanced[2] = detail;
}

static void reply_drop_text(struct reply_parser *parser)
{
    free(parser->kept);
    parser->kept = NULL;
    parser->kept_length = 0;
}

/* Appends the line to the kept text, NUL octets as blanks. */
static void reply_keep(struct reply_parser *parser, const uint8_t *line, size_t length, bool more)
{
    if (parser->kept == NULL) {
        size_t size = more || length > REPLY_KEEP_OCTETS ? REPLY_KEEP_OCTETS : length;
        parser->kept = malloc(size + 1);
        if (parser->kept == NULL)
            return;
        parser->kept_length = 0;
    } else if (parser->kept_length < REPLY_KEEP_OCTETS) {
        parser->kept[parser->kept_length++] = ' ';
    }
    size_t room = (size_t)REPLY_KEEP_OCTETS - parser->kept_length;
    size_t taken = length < room ? length : room;
    for (size_t i = 0; i < taken; i++)
        parser->kept[parser->kept_length + i] = line[i] == 0 ? ' ' : (char)line[i];
    parser->kept_length = (uint16_t)(parser->kept_length + taken);
    parser->kept[parser->kept_length] = 0;
}

enum reply_outcome reply_consume(struct reply_parser *parser, const uint8_t *line, size_t length,
                                 struct reply *reply)
{
    bool more = false;
    uint16_t code = reply_parse_code(line, length, &more);
    if (parser->code == 0)
        reply_drop_text(parser); /* of the reply before this one */
    *reply = (struct reply){.code = code, .line = line, .line_length = length};
    if (code == 0)
        return REPLY_NO_CODE;

    bool changed = parser->code != 0 && parser->code != code;
    if (changed) {
        reply_drop_text(parser);
        parser->line_count = 0;
    } else if (parser->code == 0) {
        parser->line_count = 0;
    }
    reply->first_line = parser->line_count == 0;
    if (parser->line_count < UINT16_MAX)
        parser->line_count++;
    /* A one-line reply's text is allocated to fit, so the line that opens a longer one reserves all. */
    if (code >= 400)
        reply_keep(parser, line, length, more);
    reply->text = parser->kept;
    reply->text_length = parser->kept_length;
    reply_parse_enhanced(line, length, reply->enhanced);
    if (more) {
        parser->code = code;
        return REPLY_INCOMPLETE;
    }
    if (reply->enhanced[0] == 0 && parser->kept != NULL)
        reply_parse_enhanced((const uint8_t *)parser->kept, parser->kept_length, reply->enhanced);
    parser->code = 0;
    return changed ? REPLY_CODE_CHANGED : REPLY_COMPLETE;
}

bool reply_is_open(const struct reply_parser *parser)
{
    return parser->code != 0;
}

void reply_clear(struct reply_parser *parser)
{
    reply_drop_text(parser);
    parser->code = 0;
    parser->line_count = 0;
}
