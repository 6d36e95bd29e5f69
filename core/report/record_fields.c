#include "core/report/record_fields.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define TABLE_COUNT(table)    (sizeof(table) / sizeof((table)[0]))
#define US_PER_MS             1000u
#define LIMIT_NAME_MAX_OCTETS 64
#define TEXT_OVERHEAD_OCTETS  6 /* around a text's name and value: separators and quotes */
#define YEAR_10000_UNIX_MS    INT64_C(253402300800000)

static const char *const event_names[] = {
    [RECORD_VERDICT] = "verdict",
    [RECORD_STALL] = "stall",
    [RECORD_REFUSAL] = "refusal",
    [RECORD_FORECAST] = "forecast",
};

static const char *const mode_names[] = {
    [RECORD_PROXY] = "proxy",
    [RECORD_NFQ] = "nfq",
    [RECORD_REPLAY] = "replay",
};

static const char *const tls_names[] = {
    [RECORD_TLS_NO] = "no",
    [RECORD_TLS_STARTTLS] = "starttls",
    [RECORD_TLS_IMPLICIT] = "implicit",
};

static const char *const limit_names[] = {
    [LIMITER_LIMIT_NONE] = "none",   [LIMITER_LIMIT_PER_SOURCE] = "per-source",
    [LIMITER_LIMIT_TOTAL] = "total", [LIMITER_LIMIT_PERCENT] = "percent-of-remaining",
    [LIMITER_LIMIT_RATE] = "rate",
};

static const char *const account_names[] = {
    [ACCOUNT_CLIENT] = "client",
    [ACCOUNT_SERVER] = "server",
    [ACCOUNT_CLIENT_NETWORK] = "client-network",
    [ACCOUNT_SERVER_NETWORK] = "server-network",
    [ACCOUNT_WITNESS] = "witness",
};
_Static_assert(TABLE_COUNT(account_names) == ACCOUNT_COUNT, "one name per account");

/* The spelling and the order of the line; administrators' filters depend on both. */
static const char *const field_names[] = {
    [RECORD_FIELD_SESSION] = "session",
    [RECORD_FIELD_FAULT] = "fault",
    [RECORD_FIELD_CAUSE] = "cause",
    [RECORD_FIELD_CONFIDENCE] = "confidence",
    [RECORD_FIELD_WHERE] = "where",
    [RECORD_FIELD_ALSO] = "also",
    [RECORD_FIELD_PHASE] = "phase",
    [RECORD_FIELD_OWED_BY] = "owed-by",
    [RECORD_FIELD_ENDED_BY] = "ended-by",
    [RECORD_FIELD_LIMIT_BY] = "limit-by",
    [RECORD_FIELD_ACTION] = "action",
    [RECORD_FIELD_LIMIT] = "limit",
    [RECORD_FIELD_CLIENT] = "client",
    [RECORD_FIELD_SERVER] = "server",
    [RECORD_FIELD_MODE] = "mode",
    [RECORD_FIELD_START] = "start",
    [RECORD_FIELD_DURATION] = "duration-ms",
    [RECORD_FIELD_WAITED] = "waited-ms",
    [RECORD_FIELD_LIMIT_MS] = "limit-ms",
    [RECORD_FIELD_MAILS] = "mails",
    [RECORD_FIELD_RCPTS] = "rcpts",
    [RECORD_FIELD_COMMANDS] = "commands",
    [RECORD_FIELD_BYTES_CLIENT] = "bytes-client",
    [RECORD_FIELD_BYTES_SERVER] = "bytes-server",
    [RECORD_FIELD_CONCURRENT] = "concurrent",
    [RECORD_FIELD_CONCURRENT_PEAK] = "concurrent-peak",
    [RECORD_FIELD_CONCURRENT_LIMIT] = "concurrent-limit",
    [RECORD_FIELD_SOURCE_CONNECTING] = "source-connecting",
    [RECORD_FIELD_SOURCE_ESTABLISHED] = "source-established",
    [RECORD_FIELD_SOURCE_CLOSING] = "source-closing",
    [RECORD_FIELD_SOURCE_PHASES] = "source-phases",
    [RECORD_FIELD_SOURCE_OLDEST] = "source-oldest-ms",
    [RECORD_FIELD_SOURCE_PEAK_HOUR] = "source-peak-hour",
    [RECORD_FIELD_SOURCE_PEAK_DAY] = "source-peak-day",
    [RECORD_FIELD_PROFILES_ALLOW] = "profiles-allow",
    [RECORD_FIELD_PROFILES_REFUSE] = "profiles-refuse",
    [RECORD_FIELD_SIZE] = "size",
    [RECORD_FIELD_SIZE_LEFT] = "size-left",
    [RECORD_FIELD_BYTES_PER_S] = "bytes-per-s",
    [RECORD_FIELD_NEEDS] = "needs-ms",
    [RECORD_FIELD_REMAINS] = "remains-ms",
    [RECORD_FIELD_PROFILE] = "profile",
    [RECORD_FIELD_TOTAL] = "total",
    [RECORD_FIELD_TOTAL_LIMIT] = "total-limit",
    [RECORD_FIELD_RATE] = "rate",
    [RECORD_FIELD_RATE_LIMIT] = "rate-limit",
    [RECORD_FIELD_TLS] = "tls",
    [RECORD_FIELD_DUPLICATE] = "duplicate",
    [RECORD_FIELD_LEDGER] = "ledger-ms",
    [RECORD_FIELD_RTT_CLIENT] = "rtt-client-ms",
    [RECORD_FIELD_RTT_SERVER] = "rtt-server-ms",
    [RECORD_FIELD_RETRANS_CLIENT] = "retrans-client",
    [RECORD_FIELD_RETRANS_SERVER] = "retrans-server",
    [RECORD_FIELD_PROBE] = "probe",
    [RECORD_FIELD_CONNECT] = "connect",
    [RECORD_FIELD_BOTTLENECK] = "bottleneck",
    [RECORD_FIELD_NOTES] = "notes",
    [RECORD_FIELD_REPLY] = "reply",
    [RECORD_FIELD_EXPLAIN] = "explain",
};
_Static_assert(TABLE_COUNT(field_names) == RECORD_FIELD_COUNT, "one name per field");

const char *record_event_name(enum record_kind kind)
{
    return event_names[kind];
}

const char *record_field_name(enum record_field field)
{
    return field_names[field];
}

const char *record_account_name(enum account account)
{
    return account_names[account];
}

const char *limiter_limit_name(enum limiter_limit limit)
{
    return limit_names[limit];
}

/* -- values ---------------------------------------------------------------------------------------------- */

static void value_token(struct record_value *value, const char *word)
{
    value->kind = RECORD_VALUE_TOKEN;
    value->text = word;
}

static void value_text(struct record_value *value, const char *text, size_t octets)
{
    value->kind = RECORD_VALUE_TEXT;
    value->text = text;
    value->text_octets = octets;
}

static void value_number(struct record_value *value, uint64_t number)
{
    value->kind = RECORD_VALUE_NUMBER;
    value->number = number;
}

static void value_number_unless_zero(struct record_value *value, uint64_t number)
{
    if (number != 0) {
        value_number(value, number);
    }
}

static void value_fraction(struct record_value *value, uint64_t number, uint64_t of)
{
    value->kind = RECORD_VALUE_FRACTION;
    value->number = number;
    value->of = of;
}

static const char *fault_of_bit(unsigned bit)
{
    return fault_name((enum fault)bit);
}

static void value_set(struct record_value *value, uint64_t set, const char *(*word_of_bit)(unsigned bit),
                      unsigned bit_count)
{
    value->kind = RECORD_VALUE_SET;
    value->set = set & ((UINT64_C(1) << bit_count) - 1);
    value->word_of_bit = word_of_bit;
    value->bit_count = bit_count;
}

static void value_address(struct record_value *value, const struct address *address)
{
    static const uint8_t nothing[sizeof address->octets];
    _Static_assert(RECORD_TOKEN_OCTETS >= ADDRESS_TEXT_SIZE, "an address is a token");
    if (address->port == 0 && memcmp(address->octets, nothing, sizeof nothing) == 0) {
        return;
    }
    value_token(value, address_format(address, value->room));
}

/* ISO 8601, UTC, milliseconds. A time outside the years 1970 to 9999 is no time. */
static void value_time(struct record_value *value, int64_t unix_ms)
{
    if (unix_ms < 0 || unix_ms >= YEAR_10000_UNIX_MS) {
        return;
    }
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm utc;
    if (gmtime_r(&seconds, &utc) == NULL) {
        return;
    }
    size_t used = strftime(value->room, sizeof value->room, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(value->room + used, sizeof value->room - used, ".%03uZ", (unsigned)(unix_ms % 1000));
    value_token(value, value->room);
}

static void value_rtt(struct record_value *value, uint32_t rtt_us)
{
    if (rtt_us != 0) {
        value->kind = RECORD_VALUE_TENTHS;
        value->number = ((uint64_t)rtt_us + 50) / 100;
    }
}

/* Each account in whole milliseconds; what rounding down leaves over goes to the largest, so that the
 * accounts sum to the session's milliseconds. */
static void value_ledger(struct record_value *value, const struct ledger *ledger)
{
    uint64_t rest_ms = ledger_sum_us(ledger) / US_PER_MS;
    unsigned largest = 0;
    value->kind = RECORD_VALUE_LEDGER;
    for (unsigned account = 0; account < ACCOUNT_COUNT; account++) {
        value->account_ms[account] = ledger->charged_us[account] / US_PER_MS;
        rest_ms -= value->account_ms[account];
        if (ledger->charged_us[account] > ledger->charged_us[largest]) {
            largest = account;
        }
    }
    value->account_ms[largest] += rest_ms;
}

/* The probe of the leg that is suspected, as one word; anything else names the legs. */
static void value_probe(struct record_value *value, const struct record *record)
{
    enum probe_result client = record->legs[side_index(SIDE_CLIENT)].probe;
    enum probe_result server = record->legs[side_index(SIDE_SERVER)].probe;
    enum side suspect = record->verdict.where == WHERE_CLIENT_LEG   ? SIDE_CLIENT
                        : record->verdict.where == WHERE_SERVER_LEG ? SIDE_SERVER
                                                                    : record->verdict.owed_by;
    if (client == PROBE_NONE && server == PROBE_NONE) {
        return;
    }
    if (server == PROBE_NONE) {
        snprintf(value->room, sizeof value->room, "%s%s",
                 suspect == SIDE_CLIENT ? "" : "client:", probe_result_name(client));
    } else if (client == PROBE_NONE) {
        snprintf(value->room, sizeof value->room, "%s%s",
                 suspect == SIDE_SERVER ? "" : "server:", probe_result_name(server));
    } else {
        snprintf(value->room, sizeof value->room, "client:%s,server:%s", probe_result_name(client),
                 probe_result_name(server));
    }
    value_token(value, value->room);
}

static void value_connect(struct record_value *value, enum connect_result result)
{
    if (result != CONNECT_PENDING && result != CONNECT_ESTABLISHED) {
        value_token(value, connect_result_name(result));
    }
}

static void value_reply(struct record_value *value, const char *reply)
{
    if (reply == NULL) {
        return;
    }
    size_t octets = strlen(reply);
    if (octets > 0 && reply[octets - 1] == '\n') {
        octets--;
    }
    if (octets > 0 && reply[octets - 1] == '\r') {
        octets--;
    }
    value_text(value, reply, octets);
}

/* The server's own limit as observed, else ours when one of this source's was met. */
static uint32_t concurrent_limit(const struct record *record)
{
    if (record->server_limit_seen != 0) {
        return record->server_limit_seen;
    }
    switch (record->counts.met) {
    case LIMITER_LIMIT_PER_SOURCE:
    case LIMITER_LIMIT_PERCENT:
        return record->counts.limit;
    case LIMITER_LIMIT_NONE:
    case LIMITER_LIMIT_TOTAL:
    case LIMITER_LIMIT_RATE:
        break;
    }
    return 0;
}

static void value_limit_name(struct record_value *value, const struct record *record)
{
    const char *name = record->limit_name;
    if (name == NULL && record->kind == RECORD_REFUSAL && record->counts.met != LIMITER_LIMIT_NONE) {
        name = limiter_limit_name(record->counts.met);
    }
    if (name != NULL) {
        value_text(value, name, strnlen(name, LIMIT_NAME_MAX_OCTETS));
    }
}

/* A refusal is about one connection that never was a session: most fields have nothing to say. */
static bool field_is_of_refusal(enum record_field field)
{
    switch (field) {
    case RECORD_FIELD_SESSION:
    case RECORD_FIELD_ACTION:
    case RECORD_FIELD_LIMIT:
    case RECORD_FIELD_CLIENT:
    case RECORD_FIELD_SERVER:
    case RECORD_FIELD_MODE:
    case RECORD_FIELD_START:
    case RECORD_FIELD_WAITED:
    case RECORD_FIELD_LIMIT_MS:
    case RECORD_FIELD_CONCURRENT:
    case RECORD_FIELD_CONCURRENT_PEAK:
    case RECORD_FIELD_CONCURRENT_LIMIT:
    case RECORD_FIELD_TOTAL:
    case RECORD_FIELD_TOTAL_LIMIT:
    case RECORD_FIELD_RATE:
    case RECORD_FIELD_RATE_LIMIT:
    case RECORD_FIELD_EXPLAIN:
        return true;
    case RECORD_FIELD_FAULT:
    case RECORD_FIELD_CAUSE:
    case RECORD_FIELD_CONFIDENCE:
    case RECORD_FIELD_WHERE:
    case RECORD_FIELD_ALSO:
    case RECORD_FIELD_PHASE:
    case RECORD_FIELD_OWED_BY:
    case RECORD_FIELD_ENDED_BY:
    case RECORD_FIELD_LIMIT_BY:
    case RECORD_FIELD_DURATION:
    case RECORD_FIELD_MAILS:
    case RECORD_FIELD_RCPTS:
    case RECORD_FIELD_COMMANDS:
    case RECORD_FIELD_BYTES_CLIENT:
    case RECORD_FIELD_BYTES_SERVER:
    case RECORD_FIELD_TLS:
    case RECORD_FIELD_DUPLICATE:
    case RECORD_FIELD_LEDGER:
    case RECORD_FIELD_RTT_CLIENT:
    case RECORD_FIELD_RTT_SERVER:
    case RECORD_FIELD_RETRANS_CLIENT:
    case RECORD_FIELD_RETRANS_SERVER:
    case RECORD_FIELD_PROBE:
    case RECORD_FIELD_CONNECT:
    case RECORD_FIELD_BOTTLENECK:
    case RECORD_FIELD_NOTES:
    case RECORD_FIELD_REPLY:
    case RECORD_FIELD_SOURCE_CONNECTING:
    case RECORD_FIELD_SOURCE_ESTABLISHED:
    case RECORD_FIELD_SOURCE_CLOSING:
    case RECORD_FIELD_SOURCE_PHASES:
    case RECORD_FIELD_SOURCE_OLDEST:
    case RECORD_FIELD_SOURCE_PEAK_HOUR:
    case RECORD_FIELD_SOURCE_PEAK_DAY:
    case RECORD_FIELD_PROFILES_ALLOW:
    case RECORD_FIELD_PROFILES_REFUSE:
    case RECORD_FIELD_SIZE:
    case RECORD_FIELD_SIZE_LEFT:
    case RECORD_FIELD_BYTES_PER_S:
    case RECORD_FIELD_NEEDS:
    case RECORD_FIELD_REMAINS:
    case RECORD_FIELD_PROFILE:
    case RECORD_FIELD_COUNT:
        return false;
    }
    return false;
}

/* A forecast accuses nobody: it names the session, the sizes and the limit. */
static bool field_is_of_forecast(enum record_field field)
{
    static const uint8_t fields[] = {
        RECORD_FIELD_SESSION,
        RECORD_FIELD_PHASE,
        RECORD_FIELD_LIMIT_BY,
        RECORD_FIELD_CLIENT,
        RECORD_FIELD_SERVER,
        RECORD_FIELD_MODE,
        RECORD_FIELD_START,
        RECORD_FIELD_DURATION,
        RECORD_FIELD_LIMIT_MS,
        RECORD_FIELD_MAILS,
        RECORD_FIELD_BYTES_CLIENT,
        RECORD_FIELD_BYTES_SERVER,
        RECORD_FIELD_SIZE,
        RECORD_FIELD_SIZE_LEFT,
        RECORD_FIELD_BYTES_PER_S,
        RECORD_FIELD_NEEDS,
        RECORD_FIELD_REMAINS,
        RECORD_FIELD_PROFILE,
        RECORD_FIELD_TLS,
        RECORD_FIELD_RTT_CLIENT,
        RECORD_FIELD_RTT_SERVER,
        RECORD_FIELD_RETRANS_CLIENT,
        RECORD_FIELD_RETRANS_SERVER,
        RECORD_FIELD_EXPLAIN,
    };
    return memchr(fields, (int)field, sizeof fields) != NULL;
}

static void value_word(struct record_value *value, const char *word)
{
    if (word != NULL && word[0] != '\0') {
        value_token(value, word);
    }
}

static void value_of_receipt(const struct record_receipt *receipt, enum record_field field,
                             struct record_value *value)
{
    if (!receipt->valid) {
        return;
    }
    if (field == RECORD_FIELD_SOURCE_CONNECTING) {
        value_number(value, receipt->connecting);
    } else if (field == RECORD_FIELD_SOURCE_ESTABLISHED) {
        value_number(value, receipt->established);
    } else if (field == RECORD_FIELD_SOURCE_CLOSING) {
        value_number(value, receipt->closing);
    } else if (field == RECORD_FIELD_SOURCE_PHASES) {
        value_word(value, receipt->phases);
    } else if (field == RECORD_FIELD_SOURCE_OLDEST) {
        value_number(value, receipt->oldest_us / US_PER_MS);
    } else if (field == RECORD_FIELD_SOURCE_PEAK_HOUR) {
        value_number(value, receipt->peak_hour);
    } else if (field == RECORD_FIELD_SOURCE_PEAK_DAY) {
        value_number(value, receipt->peak_day);
    } else if (field == RECORD_FIELD_PROFILES_ALLOW) {
        value_word(value, receipt->profiles_allow);
    } else if (field == RECORD_FIELD_PROFILES_REFUSE) {
        value_word(value, receipt->profiles_refuse);
    }
}

static void value_of_forecast(const struct record *record, enum record_field field,
                              struct record_value *value)
{
    const struct record_forecast *forecast = &record->forecast;
    if (record->kind != RECORD_FORECAST) {
        return;
    }
    if (field == RECORD_FIELD_SIZE) {
        value_number(value, record->announced_size);
    } else if (field == RECORD_FIELD_SIZE_LEFT) {
        value_number(value, forecast->left_octets);
    } else if (field == RECORD_FIELD_BYTES_PER_S) {
        value_number(value, forecast->rate_octets);
    } else if (field == RECORD_FIELD_NEEDS) {
        value_number(value, forecast->needs_us / US_PER_MS);
    } else if (field == RECORD_FIELD_REMAINS) {
        value_number(value, forecast->remains_us / US_PER_MS);
    } else if (field == RECORD_FIELD_PROFILE) {
        value_word(value, forecast->profile);
    }
}

void record_field_get(const struct record *record, enum record_field field, struct record_value *value)
{
    const struct verdict *verdict = &record->verdict;
    const struct limiter_counts *counts = &record->counts;
    const struct leg_evidence *client_leg = &record->legs[side_index(SIDE_CLIENT)];
    const struct leg_evidence *server_leg = &record->legs[side_index(SIDE_SERVER)];
    bool refusal = record->kind == RECORD_REFUSAL;
    value->kind = RECORD_VALUE_NONE;
    value->text_octets = 0;
    if ((refusal && !field_is_of_refusal(field)) ||
        (record->kind == RECORD_FORECAST && !field_is_of_forecast(field))) {
        return;
    }
    switch (field) {
    case RECORD_FIELD_SESSION:
        if (record->session_id[0] != '\0') {
            value_text(value, record->session_id, strnlen(record->session_id, sizeof record->session_id));
        }
        break;
    case RECORD_FIELD_FAULT:
        value_token(value, fault_name(verdict->fault));
        break;
    case RECORD_FIELD_CAUSE:
        value_token(value, cause_name(verdict->cause));
        break;
    case RECORD_FIELD_CONFIDENCE:
        value_token(value, confidence_name(verdict->confidence));
        break;
    case RECORD_FIELD_WHERE:
        value_token(value, where_name(verdict->where));
        break;
    case RECORD_FIELD_ALSO:
        value_set(value, verdict->also, fault_of_bit, FAULT_COUNT);
        break;
    case RECORD_FIELD_PHASE:
        value_token(value, phase_name(verdict->phase));
        break;
    case RECORD_FIELD_OWED_BY:
        value_token(value, side_name(verdict->owed_by));
        break;
    case RECORD_FIELD_ENDED_BY:
        if (record->kind == RECORD_VERDICT) {
            value_token(value, ended_by_name(verdict->ended_by));
        }
        break;
    case RECORD_FIELD_LIMIT_BY:
        if (verdict->limit_by != LIMIT_BY_NONE) {
            value_token(value, limit_by_name(verdict->limit_by));
        }
        break;
    case RECORD_FIELD_ACTION:
        value_token(value, action_name(verdict->action));
        break;
    case RECORD_FIELD_LIMIT:
        value_limit_name(value, record);
        break;
    case RECORD_FIELD_CLIENT:
        value_address(value, &record->client);
        break;
    case RECORD_FIELD_SERVER:
        value_address(value, &record->server);
        break;
    case RECORD_FIELD_MODE:
        value_token(value, mode_names[record->mode]);
        break;
    case RECORD_FIELD_START:
        value_time(value, record->start_unix_ms);
        break;
    case RECORD_FIELD_DURATION:
        value_number(value, record->duration_us / US_PER_MS);
        break;
    case RECORD_FIELD_WAITED:
        value_number_unless_zero(value, verdict->waited_us / US_PER_MS);
        break;
    case RECORD_FIELD_LIMIT_MS:
        value_number_unless_zero(value, verdict->limit_us / US_PER_MS);
        break;
    case RECORD_FIELD_MAILS:
        value_fraction(value, record->mails_ok, record->mails_total);
        break;
    case RECORD_FIELD_RCPTS:
        value_fraction(value, record->rcpts_ok, record->rcpts_total);
        break;
    case RECORD_FIELD_COMMANDS:
        value_fraction(value, record->commands_ok, record->commands_total);
        break;
    case RECORD_FIELD_BYTES_CLIENT:
        value_number(value, record->octets_client);
        break;
    case RECORD_FIELD_BYTES_SERVER:
        value_number(value, record->octets_server);
        break;
    case RECORD_FIELD_CONCURRENT:
        value_number_unless_zero(value, counts->concurrent);
        break;
    case RECORD_FIELD_CONCURRENT_PEAK:
        value_number_unless_zero(value, counts->concurrent_peak);
        break;
    case RECORD_FIELD_CONCURRENT_LIMIT:
        value_number_unless_zero(value, concurrent_limit(record));
        break;
    case RECORD_FIELD_SOURCE_CONNECTING:
    case RECORD_FIELD_SOURCE_ESTABLISHED:
    case RECORD_FIELD_SOURCE_CLOSING:
    case RECORD_FIELD_SOURCE_PHASES:
    case RECORD_FIELD_SOURCE_OLDEST:
    case RECORD_FIELD_SOURCE_PEAK_HOUR:
    case RECORD_FIELD_SOURCE_PEAK_DAY:
    case RECORD_FIELD_PROFILES_ALLOW:
    case RECORD_FIELD_PROFILES_REFUSE:
        value_of_receipt(&record->receipt, field, value);
        break;
    case RECORD_FIELD_SIZE:
    case RECORD_FIELD_SIZE_LEFT:
    case RECORD_FIELD_BYTES_PER_S:
    case RECORD_FIELD_NEEDS:
    case RECORD_FIELD_REMAINS:
    case RECORD_FIELD_PROFILE:
        value_of_forecast(record, field, value);
        break;
    case RECORD_FIELD_TOTAL:
        if (refusal || counts->met == LIMITER_LIMIT_TOTAL) {
            value_number_unless_zero(value, counts->total);
        }
        break;
    case RECORD_FIELD_TOTAL_LIMIT:
        value_number_unless_zero(value, counts->met == LIMITER_LIMIT_TOTAL ? counts->limit : 0);
        break;
    case RECORD_FIELD_RATE:
        if (refusal || counts->met == LIMITER_LIMIT_RATE) {
            value_number_unless_zero(value, counts->rate);
        }
        break;
    case RECORD_FIELD_RATE_LIMIT:
        value_number_unless_zero(value, counts->met == LIMITER_LIMIT_RATE ? counts->limit : 0);
        break;
    case RECORD_FIELD_TLS:
        value_token(value, tls_names[record->tls]);
        break;
    case RECORD_FIELD_DUPLICATE:
        value_token(value, record->duplicate ? "yes" : "no");
        break;
    case RECORD_FIELD_LEDGER:
        if (record->ledger_valid) {
            value_ledger(value, &record->ledger);
        }
        break;
    case RECORD_FIELD_RTT_CLIENT:
        value_rtt(value, client_leg->rtt_us);
        break;
    case RECORD_FIELD_RTT_SERVER:
        value_rtt(value, server_leg->rtt_us);
        break;
    case RECORD_FIELD_RETRANS_CLIENT:
        value_number(value, client_leg->retrans_count);
        break;
    case RECORD_FIELD_RETRANS_SERVER:
        value_number(value, server_leg->retrans_count);
        break;
    case RECORD_FIELD_PROBE:
        value_probe(value, record);
        break;
    case RECORD_FIELD_CONNECT:
        value_connect(value, server_leg->connect);
        break;
    case RECORD_FIELD_BOTTLENECK:
        if (record->bottleneck != BOTTLENECK_UNKNOWN) {
            value_token(value, bottleneck_name(record->bottleneck));
        }
        break;
    case RECORD_FIELD_NOTES:
        if (verdict->notes != 0) {
            value_set(value, verdict->notes, note_name, NOTE_COUNT);
        }
        break;
    case RECORD_FIELD_REPLY:
        value_reply(value, record->reply);
        break;
    case RECORD_FIELD_EXPLAIN:
        if (verdict->explain[0] != '\0') {
            value_text(value, verdict->explain, strnlen(verdict->explain, sizeof verdict->explain));
        }
        break;
    case RECORD_FIELD_COUNT:
        break;
    }
}

/* -- the line -------------------------------------------------------------------------------------------- */

static bool field_is_free_text(enum record_field field)
{
    return field == RECORD_FIELD_REPLY || field == RECORD_FIELD_EXPLAIN;
}

static void put_field(const struct record *record, enum record_field field, struct record_writer *writer,
                      record_put_field *put, size_t allowance_octets)
{
    struct record_value value;
    size_t mark = writer->used;
    record_field_get(record, field, &value);
    if (value.kind != RECORD_VALUE_NONE) {
        put(writer, field, &value, allowance_octets);
        record_writer_settle(writer, mark);
    }
}

/* How many octets `field` would take in all when nothing is cut; 0 when it does not apply. */
static size_t text_length(const struct record *record, enum record_field field, record_text_unit *text_unit)
{
    struct record_value value;
    record_field_get(record, field, &value);
    return value.kind == RECORD_VALUE_TEXT ? record_text_length(value.text, value.text_octets, text_unit) : 0;
}

void record_put_fields(const struct record *record, struct record_writer *writer, record_put_field *put,
                       record_text_unit *text_unit)
{
    for (enum record_field field = 0; field < RECORD_FIELD_COUNT; field++) {
        if (!field_is_free_text(field)) {
            put_field(record, field, writer, put, SIZE_MAX);
        }
    }
    size_t left = writer->room - writer->used;
    size_t overhead = strlen(record_field_name(RECORD_FIELD_REPLY)) +
                      strlen(record_field_name(RECORD_FIELD_EXPLAIN)) + 2 * TEXT_OVERHEAD_OCTETS;
    left = left > overhead ? left - overhead : 0;
    size_t explain = text_length(record, RECORD_FIELD_EXPLAIN, text_unit);
    size_t reply = text_length(record, RECORD_FIELD_REPLY, text_unit);
    if (reply > left || explain > left - reply) {
        size_t half = left / 2;
        if (reply <= half) {
            explain = left - reply;
        } else if (explain <= half) {
            reply = left - explain;
        } else {
            reply = explain = half;
        }
    }
    /* Reply and explain are the last two fields: what stands before them is already right. */
    _Static_assert(RECORD_FIELD_REPLY == RECORD_FIELD_COUNT - 2, "free texts come last");
    _Static_assert(RECORD_FIELD_EXPLAIN == RECORD_FIELD_COUNT - 1, "free texts come last");
    put_field(record, RECORD_FIELD_REPLY, writer, put, reply);
    put_field(record, RECORD_FIELD_EXPLAIN, writer, put, explain);
}
