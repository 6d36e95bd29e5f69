/* Any record at all, encoded both ways: the lines fit, hold nothing but printable ASCII, can be read back,
 * and say the same fields in the same order. Whatever does not hold aborts. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/report/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_FIELDS_MAX 64
#define FUZZ_NAME_MAX   32

static void fuzz_require(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* -- a record from octets -------------------------------------------------------------------------------- */

struct fuzz_input {
    const uint8_t *data;
    size_t left;
};

static void take_octets(struct fuzz_input *input, void *into, size_t count)
{
    size_t given = count < input->left ? count : input->left;
    memset(into, 0, count);
    memcpy(into, input->data, given);
    input->data += given;
    input->left -= given;
}

static uint64_t take_number(struct fuzz_input *input)
{
    uint64_t number = 0;
    uint8_t octets = 0;
    take_octets(input, &octets, 1);
    take_octets(input, &number, octets % 9); /* as often small as large */
    return number;
}

static unsigned take_member(struct fuzz_input *input, unsigned count)
{
    return (unsigned)(take_number(input) % count);
}

static void take_leg(struct fuzz_input *input, struct leg_evidence *leg)
{
    leg->probe = (enum probe_result)take_member(input, PROBE_COUNT);
    leg->connect = (enum connect_result)take_member(input, CONNECT_COUNT);
    leg->rtt_us = (uint32_t)take_number(input);
    leg->retrans_count = (uint32_t)take_number(input);
}

static void take_verdict(struct fuzz_input *input, struct verdict *verdict)
{
    verdict->fault = (enum fault)take_member(input, FAULT_COUNT);
    verdict->also = (uint32_t)take_number(input);
    verdict->cause = (enum cause)take_member(input, CAUSE_COUNT);
    verdict->confidence = (enum confidence)take_member(input, CONFIDENCE_COUNT);
    verdict->where = (enum where)take_member(input, WHERE_COUNT);
    verdict->phase = (enum phase)take_member(input, PHASE_COUNT);
    verdict->owed_by = (enum side)take_member(input, 3);
    verdict->ended_by = (enum ended_by)take_member(input, ENDED_BY_COUNT);
    verdict->limit_by = (enum limit_by)take_member(input, LIMIT_BY_COUNT);
    verdict->action = (enum action)take_member(input, ACTION_COUNT);
    verdict->notes = (uint32_t)take_number(input);
    verdict->waited_us = take_number(input);
    verdict->limit_us = take_number(input);
    take_octets(input, verdict->explain, take_member(input, sizeof verdict->explain + 1));
}

static void take_receipt(struct fuzz_input *input, struct record_receipt *receipt)
{
    receipt->valid = take_member(input, 2) == 1;
    receipt->connecting = (uint32_t)take_number(input);
    receipt->established = (uint32_t)take_number(input);
    receipt->closing = (uint32_t)take_number(input);
    receipt->peak_hour = (uint32_t)take_number(input);
    receipt->peak_day = (uint32_t)take_number(input);
    receipt->oldest_us = take_number(input);
    snprintf(receipt->phases, sizeof receipt->phases, "body:%u", receipt->established);
    snprintf(receipt->profiles_allow, sizeof receipt->profiles_allow, "exchange,isp-10");
}

static void take_forecast(struct fuzz_input *input, struct record_forecast *forecast)
{
    forecast->left_octets = take_number(input);
    forecast->rate_octets = take_number(input);
    forecast->needs_us = take_number(input);
    forecast->remains_us = take_number(input);
    forecast->profile = take_member(input, 2) == 1 ? "exchange" : NULL;
}

static void take_record(struct fuzz_input *input, struct record *record)
{
    memset(record, 0, sizeof *record);
    record->kind = (enum record_kind)take_member(input, RECORD_FORECAST + 1);
    record->mode = (enum record_mode)take_member(input, 3);
    record->tls = (enum record_tls)take_member(input, 3);
    take_octets(input, record->session_id, take_member(input, sizeof record->session_id + 1));
    take_verdict(input, &record->verdict);
    take_octets(input, record->client.octets, sizeof record->client.octets);
    take_octets(input, record->server.octets, sizeof record->server.octets);
    record->client.port = (uint16_t)take_number(input);
    record->server.port = (uint16_t)take_number(input);
    record->start_unix_ms = (int64_t)take_number(input);
    record->duration_us = take_number(input);
    record->mails_ok = (uint32_t)take_number(input);
    record->rcpts_total = (uint32_t)take_number(input);
    record->commands_total = (uint32_t)take_number(input);
    record->octets_client = take_number(input);
    record->octets_server = take_number(input);
    record->counts.concurrent = (uint32_t)take_number(input);
    record->counts.concurrent_peak = (uint32_t)take_number(input);
    record->counts.total = (uint32_t)take_number(input);
    record->counts.rate = (uint32_t)take_number(input);
    record->counts.limit = (uint32_t)take_number(input);
    record->counts.met = (enum limiter_limit)take_member(input, 5);
    record->server_limit_seen = (uint32_t)take_number(input);
    record->duplicate = take_member(input, 2) == 1;
    record->ledger_valid = take_member(input, 2) == 1;
    for (unsigned account = 0; account < ACCOUNT_COUNT; account++) {
        record->ledger.charged_us[account] = take_number(input) / ACCOUNT_COUNT; /* their sum is a time */
    }
    take_leg(input, &record->legs[0]);
    take_leg(input, &record->legs[1]);
    take_receipt(input, &record->receipt);
    take_forecast(input, &record->forecast);
}

/* -- reading the lines back ------------------------------------------------------------------------------ */

struct fuzz_names {
    char name[FUZZ_FIELDS_MAX][FUZZ_NAME_MAX];
    size_t count;
};

static bool is_hex(char octet)
{
    return (octet >= '0' && octet <= '9') || (octet >= 'a' && octet <= 'f');
}

static const char *read_name(const char *at, struct fuzz_names *names)
{
    size_t length = strspn(at, "abcdefghijklmnopqrstuvwxyz-");
    fuzz_require(length > 0 && length < FUZZ_NAME_MAX && names->count < FUZZ_FIELDS_MAX);
    memcpy(names->name[names->count], at, length);
    names->name[names->count++][length] = '\0';
    return at + length;
}

static const char *read_logfmt_quoted(const char *at)
{
    fuzz_require(*at++ == '"');
    while (*at != '"') {
        fuzz_require(*at != '\0');
        if (*at++ == '\\') {
            fuzz_require(*at != '\0' && strchr("\"\\rntx", *at) != NULL);
            if (*at++ == 'x') {
                fuzz_require(is_hex(at[0]) && is_hex(at[1]));
                at += 2;
            }
        }
    }
    return at + 1;
}

static void read_logfmt(const char *line, struct fuzz_names *names)
{
    const char *at = line + strcspn(line, " ");
    names->count = 0;
    while (*at == ' ') {
        at = read_name(at + 1, names);
        fuzz_require(*at++ == '=');
        at = *at == '"' ? read_logfmt_quoted(at) : at + strcspn(at, " \"=\\");
    }
    fuzz_require(*at == '\0');
}

static const char *read_json_string(const char *at)
{
    fuzz_require(*at++ == '"');
    while (*at != '"') {
        fuzz_require(*at != '\0');
        if (*at++ == '\\') {
            fuzz_require(*at == '"' || *at == '\\' || *at == 'u');
            if (*at++ == 'u') {
                fuzz_require(is_hex(at[0]) && is_hex(at[1]) && is_hex(at[2]) && is_hex(at[3]));
                at += 4;
            }
        }
    }
    return at + 1;
}

static const char *read_json_number(const char *at)
{
    size_t digits = strspn(at, "0123456789");
    fuzz_require(digits > 0 && (digits == 1 || at[0] != '0'));
    at += digits;
    if (*at == '.') {
        digits = strspn(at + 1, "0123456789");
        fuzz_require(digits > 0);
        at += 1 + digits;
    }
    return at;
}

static const char *read_json_strings(const char *at)
{
    fuzz_require(*at++ == '[');
    while (*at != ']') {
        at = read_json_string(at);
        fuzz_require((*at == ',' && at[1] == '"') || *at == ']');
        at += *at == ',';
    }
    return at + 1;
}

static const char *read_json_object(const char *at, struct fuzz_names *names);

static const char *read_json_value(const char *at)
{
    struct fuzz_names inner;
    return *at == '"'   ? read_json_string(at)
           : *at == '[' ? read_json_strings(at)
           : *at == '{' ? read_json_object(at, &inner)
                        : read_json_number(at);
}

static const char *read_json_object(const char *at, struct fuzz_names *names)
{
    names->count = 0;
    fuzz_require(*at == '{');
    while (*at != '}') {
        fuzz_require(*at++ == (names->count == 0 ? '{' : ','));
        fuzz_require(*at == '"');
        at = read_name(at + 1, names);
        fuzz_require(at[0] == '"' && at[1] == ':');
        at = read_json_value(at + 2);
    }
    return at + 1;
}

static void fuzz_check_octets(const char *line, size_t length)
{
    fuzz_require(length > 0 && length < RECORD_LINE_OCTETS && line[length] == '\0');
    for (size_t i = 0; i < length; i++) {
        fuzz_require(line[i] >= 0x20 && line[i] <= 0x7e);
    }
}

/* Encodes the record both ways and checks both. */
static void fuzz_check_record(const struct record *record)
{
    char logfmt[RECORD_LINE_OCTETS + 1], json[RECORD_LINE_OCTETS + 1];
    struct fuzz_names logfmt_names, json_names;
    logfmt[RECORD_LINE_OCTETS] = json[RECORD_LINE_OCTETS] = 0x55;
    size_t logfmt_length = record_to_logfmt(record, logfmt);
    size_t json_length = record_to_json(record, json);
    fuzz_require(logfmt[RECORD_LINE_OCTETS] == 0x55 && json[RECORD_LINE_OCTETS] == 0x55);
    fuzz_check_octets(logfmt, logfmt_length);
    fuzz_check_octets(json, json_length);
    read_logfmt(logfmt, &logfmt_names);
    fuzz_require(*read_json_object(json, &json_names) == '\0');
    fuzz_require(json_names.count > 0 && strcmp(json_names.name[0], "event") == 0);
    /* JSON is the longer one and may have to leave out a field that logfmt still holds; the order is the
     * same. */
    size_t next = 0;
    for (size_t i = 1; i < json_names.count; i++) {
        while (next < logfmt_names.count && strcmp(logfmt_names.name[next], json_names.name[i]) != 0) {
            next++;
        }
        fuzz_require(next < logfmt_names.count);
    }
    if (json_length < RECORD_LINE_OCTETS / 2) {
        fuzz_require(json_names.count - 1 == logfmt_names.count);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .left = size};
    struct record record;
    char limit_name[128];
    take_record(&input, &record);
    memset(limit_name, 0, sizeof limit_name);
    take_octets(&input, limit_name, take_member(&input, sizeof limit_name));
    limit_name[sizeof limit_name - 1] = '\0';
    record.limit_name = take_member(&input, 2) == 1 ? limit_name : NULL;
    char *reply =
        malloc(input.left + 1); /* all that is left: exactly its size, so that a sanitizer sees its end */
    if (reply == NULL) {
        return 0;
    }
    size_t length = input.left;
    take_octets(&input, reply, length);
    reply[length] = '\0';
    record.reply = size % 7 == 0 ? NULL : reply;
    fuzz_check_record(&record);
    free(reply);
    return 0;
}
