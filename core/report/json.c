#include "core/report/record_fields.h"

#include <string.h>

/* RFC 8259 section 7. Octets beyond ASCII are shown one by one as the code points of the same number: peers'
 * octets need not be UTF-8. */
static size_t json_unit(uint8_t octet, char unit[RECORD_UNIT_OCTETS])
{
    static const char digits[] = "0123456789abcdef";
    if (octet == '"' || octet == '\\') {
        unit[0] = '\\';
        unit[1] = (char)octet;
        return 2;
    }
    if (octet >= 0x20 && octet <= 0x7e) {
        unit[0] = (char)octet;
        return 1;
    }
    memcpy(unit, "\\u00", 4);
    unit[4] = digits[octet >> 4];
    unit[5] = digits[octet & 15];
    return 6;
}

/* One of our own words: nothing in it needs an escape. */
static void json_put_word(struct record_writer *writer, const char *word)
{
    record_put_octet(writer, '"');
    record_put_word(writer, word);
    record_put_octet(writer, '"');
}

static void json_put_set(struct record_writer *writer, const struct record_value *value)
{
    bool first = true;
    record_put_octet(writer, '[');
    for (unsigned bit = 0; bit < value->bit_count; bit++) {
        if (value->set & (UINT64_C(1) << bit)) {
            record_put_word(writer, first ? "" : ",");
            json_put_word(writer, value->word_of_bit(bit));
            first = false;
        }
    }
    record_put_octet(writer, ']');
}

static void json_put_ledger(struct record_writer *writer, const struct record_value *value)
{
    for (unsigned account = 0; account < ACCOUNT_COUNT; account++) {
        record_put_octet(writer, account == 0 ? '{' : ',');
        json_put_word(writer, record_account_name((enum account)account));
        record_put_octet(writer, ':');
        record_put_number(writer, value->account_ms[account]);
    }
    record_put_octet(writer, '}');
}

static void json_put_field(struct record_writer *writer, enum record_field field,
                           const struct record_value *value, size_t allowance_octets)
{
    record_put_octet(writer, ',');
    json_put_word(writer, record_field_name(field));
    record_put_octet(writer, ':');
    switch (value->kind) {
    case RECORD_VALUE_NONE:
        break;
    case RECORD_VALUE_TOKEN:
        json_put_word(writer, value->text);
        break;
    case RECORD_VALUE_TEXT:
        record_put_octet(writer, '"');
        record_put_text(writer, value->text, value->text_octets, allowance_octets, json_unit);
        record_put_octet(writer, '"');
        break;
    case RECORD_VALUE_NUMBER:
        record_put_number(writer, value->number);
        break;
    case RECORD_VALUE_TENTHS:
        record_put_tenths(writer, value->number);
        break;
    case RECORD_VALUE_FRACTION:
        record_put_octet(writer, '"');
        record_put_number(writer, value->number);
        record_put_octet(writer, '/');
        record_put_number(writer, value->of);
        record_put_octet(writer, '"');
        break;
    case RECORD_VALUE_SET:
        json_put_set(writer, value);
        break;
    case RECORD_VALUE_LEDGER:
        json_put_ledger(writer, value);
        break;
    }
}

size_t record_to_json(const struct record *record, char line[RECORD_LINE_OCTETS])
{
    struct record_writer writer;
    record_writer_init(&writer, line, RECORD_LINE_OCTETS - 2); /* its NUL, and the closing brace */
    record_put_word(&writer, "{\"event\":");
    json_put_word(&writer, record_event_name(record->kind));
    record_put_fields(record, &writer, json_put_field, json_unit);
    line[writer.used++] = '}';
    line[writer.used] = '\0';
    return writer.used;
}
