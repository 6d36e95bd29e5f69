/* record_fields - the one ordered list of what a line says. Both encoders walk it: names and order cannot
 * differ. A field that does not apply to this record yields RECORD_VALUE_NONE and is left out.
 * Threads: none. */
#ifndef SMTPWITNESS_CORE_REPORT_RECORD_FIELDS_H
#define SMTPWITNESS_CORE_REPORT_RECORD_FIELDS_H

#include "core/report/record.h"
#include "core/report/record_writer.h"

enum record_field {
    RECORD_FIELD_SESSION = 0,
    RECORD_FIELD_FAULT,
    RECORD_FIELD_CAUSE,
    RECORD_FIELD_CONFIDENCE,
    RECORD_FIELD_WHERE,
    RECORD_FIELD_ALSO,
    RECORD_FIELD_PHASE,
    RECORD_FIELD_OWED_BY,
    RECORD_FIELD_ENDED_BY,
    RECORD_FIELD_LIMIT_BY,
    RECORD_FIELD_ACTION,
    RECORD_FIELD_LIMIT,
    RECORD_FIELD_CLIENT,
    RECORD_FIELD_SERVER,
    RECORD_FIELD_MODE,
    RECORD_FIELD_START,
    RECORD_FIELD_DURATION,
    RECORD_FIELD_WAITED,
    RECORD_FIELD_LIMIT_MS,
    RECORD_FIELD_MAILS,
    RECORD_FIELD_RCPTS,
    RECORD_FIELD_COMMANDS,
    RECORD_FIELD_BYTES_CLIENT,
    RECORD_FIELD_BYTES_SERVER,
    RECORD_FIELD_CONCURRENT,
    RECORD_FIELD_CONCURRENT_PEAK,
    RECORD_FIELD_CONCURRENT_LIMIT,
    RECORD_FIELD_SOURCE_CONNECTING,
    RECORD_FIELD_SOURCE_ESTABLISHED,
    RECORD_FIELD_SOURCE_CLOSING,
    RECORD_FIELD_SOURCE_PHASES,
    RECORD_FIELD_SOURCE_OLDEST,
    RECORD_FIELD_SOURCE_PEAK_HOUR,
    RECORD_FIELD_SOURCE_PEAK_DAY,
    RECORD_FIELD_PROFILES_ALLOW,
    RECORD_FIELD_PROFILES_REFUSE,
    RECORD_FIELD_SIZE,
    RECORD_FIELD_SIZE_LEFT,
    RECORD_FIELD_BYTES_PER_S,
    RECORD_FIELD_NEEDS,
    RECORD_FIELD_REMAINS,
    RECORD_FIELD_PROFILE,
    RECORD_FIELD_TOTAL,
    RECORD_FIELD_TOTAL_LIMIT,
    RECORD_FIELD_RATE,
    RECORD_FIELD_RATE_LIMIT,
    RECORD_FIELD_TLS,
    RECORD_FIELD_DUPLICATE,
    RECORD_FIELD_LEDGER,
    RECORD_FIELD_RTT_CLIENT,
    RECORD_FIELD_RTT_SERVER,
    RECORD_FIELD_RETRANS_CLIENT,
    RECORD_FIELD_RETRANS_SERVER,
    RECORD_FIELD_PROBE,
    RECORD_FIELD_CONNECT,
    RECORD_FIELD_BOTTLENECK,
    RECORD_FIELD_NOTES,
    RECORD_FIELD_REPLY,
    RECORD_FIELD_EXPLAIN,
    RECORD_FIELD_COUNT,
};

enum record_value_kind {
    RECORD_VALUE_NONE = 0, /* left out */
    RECORD_VALUE_TOKEN,    /* one of our own words */
    RECORD_VALUE_TEXT,     /* anything at all, to be escaped */
    RECORD_VALUE_NUMBER,
    RECORD_VALUE_TENTHS,   /* a number with one decimal, given in tenths */
    RECORD_VALUE_FRACTION, /* "0/1": of `of`, `number` went well */
    RECORD_VALUE_SET,      /* words of a set of bits */
    RECORD_VALUE_LEDGER,   /* milliseconds by account */
};

#define RECORD_TOKEN_OCTETS 64

struct record_value {
    enum record_value_kind kind;
    const char *text; /* TOKEN, TEXT: not NUL-terminated when text_octets says so */
    size_t text_octets;
    uint64_t number, of;
    uint64_t set;
    const char *(*word_of_bit)(unsigned bit); /* SET */
    unsigned bit_count;
    uint64_t account_ms[ACCOUNT_COUNT];
    char room[RECORD_TOKEN_OCTETS]; /* what `text` points to when it had to be made */
};

/* "verdict", "stall", "refusal", "forecast". */
const char *record_event_name(enum record_kind kind);
const char *record_field_name(enum record_field field);
const char *record_account_name(enum account account);

/* Fills `value`, whose text may point into itself: it must not be copied. */
void record_field_get(const struct record *record, enum record_field field, struct record_value *value);

/* How an encoder writes one field; the writer takes back what does not fit whole. */
typedef void record_put_field(struct record_writer *writer, enum record_field field,
                              const struct record_value *value, size_t allowance_octets);

/* Writes every field that applies into `writer`. When they do not all fit, the free texts (reply, explain)
 * are shortened, each down to half of what is left for both if the other needs it; should even the rest not
 * fit, a field that does not is left out whole. `text_unit` is the encoder's escape, by which texts are
 * measured. */
void record_put_fields(const struct record *record, struct record_writer *writer, record_put_field *put,
                       record_text_unit *text_unit);

#endif
