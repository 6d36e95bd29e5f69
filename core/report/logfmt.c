#include "core/report/record_fields.h"

#include <string.h>

static bool octet_is_printable(uint8_t octet)
{
    return octet >= 0x20 && octet <= 0x7e;
}

static size_t logfmt_unit(uint8_t octet, char unit[RECORD_UNIT_OCTETS])
{
    static const char digits[] = "0123456789abcdef";
    const char *known = octet == '"'    ? "\\\""
                        : octet == '\\' ? "\\\\"
                        : octet == '\r' ? "\\r"
                        : octet == '\n' ? "\\n"
                        : octet == '\t' ? "\\t"
                                        : NULL;
    if (known != NULL) {
        memcpy(unit, known, 2);
        return 2;
    }
    if (octet_is_printable(octet)) {
        unit[0] = (char)octet;
        return 1;
    }
    memcpy(unit, "\\x", 2);
    unit[2] = digits[octet >> 4];
    unit[3] = digits[octet & 15];
    return 4;
}

static bool text_needs_quotes(const struct record_value *value)
{
    for (size_t i = 0; i < value->text_octets; i++) {
        uint8_t octet = (uint8_t)value->text[i];
        if (!octet_is_printable(octet) || octet == ' ' || octet == '"' || octet == '=' || octet == '\\') {
            return true;
        }
    }
    return value->text_octets == 0;
}

static void logfmt_put_text(struct record_writer *writer, const struct record_value *value,
                            size_t allowance_octets)
{
    bool quotes = text_needs_quotes(value);
    if (quotes) {
        record_put_octet(writer, '"');
    }
    record_put_text(writer, value->text, value->text_octets, allowance_octets, logfmt_unit);
    if (quotes) {
        record_put_octet(writer, '"');
    }
}

static void logfmt_put_set(struct record_writer *writer, const struct record_value *value)
{
    bool first = true;
    for (unsigned bit = 0; bit < value->bit_count; bit++) {
        if (value->set & (UINT64_C(1) << bit)) {
            record_put_word(writer, first ? "" : ",");
            record_put_word(writer, value->word_of_bit(bit));
            first = false;
        }
    }
}

static void logfmt_put_ledger(struct record_writer *writer, const struct record_value *value)
{
    for (unsigned account = 0; account < ACCOUNT_COUNT; account++) {
        record_put_word(writer, account == 0 ? "" : ",");
        record_put_word(writer, record_account_name((enum account)account));
        record_put_octet(writer, ':');
        record_put_number(writer, value->account_ms[account]);
    }
}

static void logfmt_put_field(struct record_writer *writer, enum record_field field,
                             const struct record_value *value, size_t allowance_octets)
{
    record_put_octet(writer, ' ');
    record_put_word(writer, record_field_name(field));
    record_put_octet(writer, '=');
    switch (value->kind) {
    case RECORD_VALUE_NONE:
        break;
    case RECORD_VALUE_TOKEN:
        record_put_word(writer, value->text);
        break;
    case RECORD_VALUE_TEXT:
        logfmt_put_text(writer, value, allowance_octets);
        break;
    case RECORD_VALUE_NUMBER:
        record_put_number(writer, value->number);
        break;
    case RECORD_VALUE_TENTHS:
        record_put_tenths(writer, value->number);
        break;
    case RECORD_VALUE_FRACTION:
        record_put_number(writer, value->number);
        record_put_octet(writer, '/');
        record_put_number(writer, value->of);
        break;
    case RECORD_VALUE_SET:
        logfmt_put_set(writer, value);
        break;
    case RECORD_VALUE_LEDGER:
        logfmt_put_ledger(writer, value);
        break;
    }
}

size_t record_to_logfmt(const struct record *record, char line[RECORD_LINE_OCTETS])
{
    struct record_writer writer;
    record_writer_init(&writer, line, RECORD_LINE_OCTETS - 1);
    record_put_word(&writer, record_event_name(record->kind));
    record_put_fields(record, &writer, logfmt_put_field, logfmt_unit);
    line[writer.used] = '\0';
    return writer.used;
}
