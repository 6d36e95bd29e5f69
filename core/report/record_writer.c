#include "core/report/record_writer.h"

#include <string.h>

static const char cut_mark[] = "...";
#define CUT_MARK_OCTETS (sizeof cut_mark - 1)

void record_writer_init(struct record_writer *writer, char *line, size_t room)
{
    *writer = (struct record_writer){.line = line, .room = room};
}

static void put_octets(struct record_writer *writer, const char *octets, size_t count)
{
    if (writer->full || count > writer->room - writer->used) {
        writer->full = true;
        return;
    }
    memcpy(writer->line + writer->used, octets, count);
    writer->used += count;
}

void record_put_octet(struct record_writer *writer, char octet)
{
    put_octets(writer, &octet, 1);
}

void record_put_word(struct record_writer *writer, const char *word)
{
    put_octets(writer, word, strlen(word));
}

void record_put_number(struct record_writer *writer, uint64_t number)
{
    char digits[20]; /* of UINT64_MAX */
    size_t first = sizeof digits;
    do {
        digits[--first] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    put_octets(writer, digits + first, sizeof digits - first);
}

void record_put_tenths(struct record_writer *writer, uint64_t tenths)
{
    record_put_number(writer, tenths / 10);
    record_put_octet(writer, '.');
    record_put_number(writer, tenths % 10);
}

size_t record_text_length(const char *text, size_t text_octets, record_text_unit *text_unit)
{
    char unit[RECORD_UNIT_OCTETS];
    size_t length = 0;
    for (size_t i = 0; i < text_octets; i++) {
        length += text_unit((uint8_t)text[i], unit);
    }
    return length;
}

void record_put_text(struct record_writer *writer, const char *text, size_t text_octets,
                     size_t allowance_octets, record_text_unit *text_unit)
{
    bool cut = record_text_length(text, text_octets, text_unit) > allowance_octets;
    if (cut && allowance_octets < CUT_MARK_OCTETS) {
        writer->full = true;
        return;
    }
    size_t left = cut ? allowance_octets - CUT_MARK_OCTETS : allowance_octets;
    for (size_t i = 0; i < text_octets; i++) {
        char unit[RECORD_UNIT_OCTETS];
        size_t length = text_unit((uint8_t)text[i], unit);
        if (length > left) {
            break;
        }
        put_octets(writer, unit, length);
        left -= length;
    }
    if (cut) {
        put_octets(writer, cut_mark, CUT_MARK_OCTETS);
    }
}

bool record_writer_settle(struct record_writer *writer, size_t mark)
{
    bool fits = !writer->full;
    if (!fits) {
        writer->used = mark;
        writer->full = false;
    }
    return fits;
}
