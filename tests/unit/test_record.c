/* The verdict line: exact words in exact order, both encodings, and what happens when it gets too long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/report/record.h"
#include "tests/fuzz/fuzz_record.c" /* fuzz_check_record(): reads both lines back */

static struct address address_of(const char *text, uint16_t port)
{
    struct address address = {.port = port};
    struct network network;
    assert_true(network_parse(&network, text));
    memcpy(address.octets, network.octets, sizeof address.octets);
    return address;
}

/* The session of the design's example. */
static struct record stalled_session(void)
{
    struct record record = {
        .kind = RECORD_VERDICT,
        .mode = RECORD_NFQ,
        .session_id = "7f3a-12",
        .verdict = {.fault = FAULT_CLIENT,
                    .cause = CAUSE_DATA_START_STALL,
                    .confidence = CONFIDENCE_CERTAIN,
                    .where = WHERE_CLIENT_LEG,
                    .phase = PHASE_BODY,
                    .owed_by = SIDE_CLIENT,
                    .ended_by = ENDED_BY_SERVER,
                    .limit_by = LIMIT_BY_SERVER,
                    .action = ACTION_NONE,
                    .notes = NOTE_SERVER_LIMIT_BELOW_RFC,
                    .waited_us = 59200000,
                    .limit_us = 60000000,
                    .explain = "client silent 59.2 s after 354"},
        .start_unix_ms = INT64_C(1795318748123),
        .duration_us = 61250999,
        .mails_total = 1,
        .rcpts_ok = 1,
        .rcpts_total = 1,
        .commands_ok = 4,
        .commands_total = 4,
        .octets_client = 412,
        .octets_server = 1893,
        .counts = {.concurrent = 3, .concurrent_peak = 17},
        .server_limit_seen = 20,
        .ledger_valid = true,
        .ledger = {.charged_us = {59200400, 1100300, 400200, 550099, 0}},
        .reply = "421 4.4.2 server.test Error: timeout exceeded\r\n",
    };
    record.client = address_of("192.0.2.7", 41234);
    record.server = address_of("2001:db8::25", 25);
    record.legs[side_index(SIDE_CLIENT)].rtt_us = 800;
    record.legs[side_index(SIDE_CLIENT)].probe = PROBE_ANSWERED;
    record.legs[side_index(SIDE_SERVER)].rtt_us = 12351;
    record.legs[side_index(SIDE_SERVER)].connect = CONNECT_ESTABLISHED;
    return record;
}

static void assert_logfmt(const struct record *record, const char *expected)
{
    char line[RECORD_LINE_OCTETS];
    size_t length = record_to_logfmt(record, line);
    assert_int_equal(length, strlen(line));
    assert_string_equal(line, expected);
    fuzz_check_record(record);
}

static void assert_json(const struct record *record, const char *expected)
{
    char line[RECORD_LINE_OCTETS];
    size_t length = record_to_json(record, line);
    assert_int_equal(length, strlen(line));
    assert_string_equal(line, expected);
}

static void assert_logfmt_has(const struct record *record, const char *part, bool expected)
{
    char line[RECORD_LINE_OCTETS];
    record_to_logfmt(record, line);
    if ((strstr(line, part) != NULL) != expected) {
        fail_msg("%s%s in: %s", expected ? "no " : "", part, line);
    }
    fuzz_check_record(record);
}

static void the_line_of_the_design(void **state)
{
    (void)state;
    struct record record = stalled_session();
    assert_logfmt(
        &record,
        "verdict session=7f3a-12 fault=client cause=data-start-stall confidence=certain where=client-leg "
        "also= "
        "phase=body owed-by=client ended-by=server limit-by=server action=none client=192.0.2.7:41234 "
        "server=[2001:db8::25]:25 mode=nfq start=2026-11-22T03:39:08.123Z duration-ms=61250 waited-ms=59200 "
        "limit-ms=60000 mails=0/1 rcpts=1/1 commands=4/4 bytes-client=412 bytes-server=1893 concurrent=3 "
        "concurrent-peak=17 concurrent-limit=20 tls=no duplicate=no "
        "ledger-ms=client:59200,server:1100,client-network:400,server-network:550,witness:0 "
        "rtt-client-ms=0.8 "
        "rtt-server-ms=12.4 retrans-client=0 retrans-server=0 probe=answered notes=server-limit-below-rfc "
        "reply=\"421 4.4.2 server.test Error: timeout exceeded\" explain=\"client silent 59.2 s after 354\"");
    assert_json(
        &record,
        "{\"event\":\"verdict\",\"session\":\"7f3a-12\",\"fault\":\"client\",\"cause\":\"data-start-stall\","
        "\"confidence\":\"certain\",\"where\":\"client-leg\",\"also\":[],\"phase\":\"body\","
        "\"owed-by\":\"client\",\"ended-by\":\"server\",\"limit-by\":\"server\",\"action\":\"none\","
        "\"client\":\"192.0.2.7:41234\",\"server\":\"[2001:db8::25]:25\",\"mode\":\"nfq\","
        "\"start\":\"2026-11-22T03:39:08.123Z\",\"duration-ms\":61250,\"waited-ms\":59200,\"limit-ms\":60000,"
        "\"mails\":\"0/1\",\"rcpts\":\"1/1\",\"commands\":\"4/4\",\"bytes-client\":412,\"bytes-server\":1893,"
        "\"concurrent\":3,\"concurrent-peak\":17,\"concurrent-limit\":20,\"tls\":\"no\",\"duplicate\":\"no\","
        "\"ledger-ms\":{\"client\":59200,\"server\":1100,\"client-network\":400,\"server-network\":550,"
        "\"witness\":0},\"rtt-client-ms\":0.8,\"rtt-server-ms\":12.4,\"retrans-client\":0,"
        "\"retrans-server\":0,\"probe\":\"answered\",\"notes\":[\"server-limit-below-rfc\"],"
        "\"reply\":\"421 4.4.2 server.test Error: timeout exceeded\","
        "\"explain\":\"client silent 59.2 s after 354\"}");
}

/* Everything that does not apply is left out; also= stays, it says that nothing else is suspected. */
static void the_shortest_verdict(void **state)
{
    (void)state;
    struct record record = {.kind = RECORD_VERDICT, .start_unix_ms = -1};
    assert_logfmt(&record,
                  "verdict fault=none cause=clean confidence=possible where=unknown also= phase=connect "
                  "owed-by=none ended-by=unknown action=none mode=proxy duration-ms=0 mails=0/0 rcpts=0/0 "
                  "commands=0/0 bytes-client=0 bytes-server=0 tls=no duplicate=no retrans-client=0 "
                  "retrans-server=0");
}

static void a_stall_has_no_end(void **state)
{
    (void)state;
    struct record record = stalled_session();
    char line[RECORD_LINE_OCTETS];
    record.kind = RECORD_STALL;
    record_to_logfmt(&record, line);
    assert_memory_equal(line, "stall session=", strlen("stall session="));
    assert_logfmt_has(&record, " ended-by=", false);
    assert_logfmt_has(&record, " waited-ms=59200 ", true);
    assert_logfmt_has(&record, " owed-by=client ", true);
    record_to_json(&record, line);
    assert_memory_equal(line, "{\"event\":\"stall\",", strlen("{\"event\":\"stall\","));
}

static void a_refusal_names_source_limit_and_counts(void **state)
{
    (void)state;
    struct record record = stalled_session();
    record.kind = RECORD_REFUSAL;
    record.mode = RECORD_PROXY;
    record.server_limit_seen = 0;
    record.verdict.action = ACTION_REFUSED;
    record.verdict.waited_us = record.verdict.limit_us = 0;
    record.verdict.explain[0] = '\0';
    record.counts = (struct limiter_counts){.concurrent = 21,
                                            .concurrent_peak = 20,
                                            .total = 33,
                                            .rate = 7,
                                            .limit = 20,
                                            .met = LIMITER_LIMIT_PER_SOURCE};
    assert_logfmt(&record, "refusal session=7f3a-12 action=refused limit=per-source client=192.0.2.7:41234 "
                           "server=[2001:db8::25]:25 mode=proxy start=2026-11-22T03:39:08.123Z concurrent=21 "
                           "concurrent-peak=20 concurrent-limit=20 total=33 rate=7");
    assert_json(&record, "{\"event\":\"refusal\",\"session\":\"7f3a-12\",\"action\":\"refused\","
                         "\"limit\":\"per-source\",\"client\":\"192.0.2.7:41234\","
                         "\"server\":\"[2001:db8::25]:25\",\"mode\":\"proxy\","
                         "\"start\":\"2026-11-22T03:39:08.123Z\",\"concurrent\":21,\"concurrent-peak\":20,"
                         "\"concurrent-limit\":20,\"total\":33,\"rate\":7}");
    record.counts.met = LIMITER_LIMIT_TOTAL;
    assert_logfmt_has(&record, " limit=total ", true);
    assert_logfmt_has(&record, " total=33 total-limit=20 ", true);
    assert_logfmt_has(&record, " concurrent-limit=", false);
    record.counts.met = LIMITER_LIMIT_RATE;
    assert_logfmt_has(&record, " limit=rate ", true);
    assert_logfmt_has(&record, " rate=7 rate-limit=20", true);
    record.counts.met = LIMITER_LIMIT_PERCENT;
    assert_logfmt_has(&record, " limit=percent-of-remaining ", true);
    assert_logfmt_has(&record, " concurrent-limit=20 ", true);
    record.limit_name = "connections in all";
    assert_logfmt_has(&record, " limit=\"connections in all\" ", true);
}

static void sets_are_joined_in_order(void **state)
{
    (void)state;
    struct record record = stalled_session();
    char line[RECORD_LINE_OCTETS];
    record.verdict.also = 1u << FAULT_UNKNOWN | 1u << FAULT_CLIENT_NETWORK | 1u << FAULT_SERVER | 1u << 31;
    record.verdict.notes = NOTE_HELD | NOTE_RESYNCED | NOTE(63);
    assert_logfmt_has(&record, " also=server,client-network,unknown phase=", true);
    assert_logfmt_has(&record, " notes=resynced,held reply=", true);
    record_to_json(&record, line);
    assert_non_null(strstr(line, "\"also\":[\"server\",\"client-network\",\"unknown\"],\"phase\""));
    assert_non_null(strstr(line, "\"notes\":[\"resynced\",\"held\"],\"reply\""));
}

static void the_probe_of_the_suspect_leg(void **state)
{
    (void)state;
    struct record record = stalled_session();
    struct leg_evidence *client = &record.legs[side_index(SIDE_CLIENT)];
    struct leg_evidence *server = &record.legs[side_index(SIDE_SERVER)];
    client->probe = PROBE_UNANSWERED;
    assert_logfmt_has(&record, " probe=unanswered ", true);
    server->probe = PROBE_SENT;
    assert_logfmt_has(&record, " probe=client:unanswered,server:sent ", true);
    client->probe = PROBE_NONE;
    assert_logfmt_has(&record, " probe=server:sent ", true); /* probed, but not the suspect */
    record.verdict.where = WHERE_SERVER_LEG;
    assert_logfmt_has(&record, " probe=sent ", true);
    record.verdict.where = WHERE_UNKNOWN; /* then the suspect is who owes */
    assert_logfmt_has(&record, " probe=server:sent ", true);
    record.verdict.owed_by = SIDE_SERVER;
    assert_logfmt_has(&record, " probe=sent ", true);
    server->probe = PROBE_NONE;
    assert_logfmt_has(&record, " probe=", false);
    for (unsigned result = 0; result < CONNECT_COUNT; result++) {
        char expected[64];
        server->connect = (enum connect_result)result;
        snprintf(expected, sizeof expected, " connect=%s ", connect_result_name(server->connect));
        assert_logfmt_has(&record, expected, result != CONNECT_PENDING && result != CONNECT_ESTABLISHED);
    }
}

static void a_receipt_in_both_forms(void **state)
{
    (void)state;
    struct record record = stalled_session();
    char line[RECORD_LINE_OCTETS];
    assert_logfmt_has(&record, " source-", false);
    record.receipt = (struct record_receipt){.valid = true,
                                             .established = 21,
                                             .peak_hour = 21,
                                             .peak_day = 40,
                                             .oldest_us = 61000999,
                                             .phases = "body:20,greeting:1",
                                             .profiles_refuse = "exchange,isp-10"};
    assert_logfmt_has(&record,
                      " source-connecting=0 source-established=21 source-closing=0 "
                      "source-phases=body:20,greeting:1 source-oldest-ms=61000 source-peak-hour=21 "
                      "source-peak-day=40 profiles-refuse=exchange,isp-10 ",
                      true);
    assert_logfmt_has(&record, " profiles-allow=", false);
    record_to_json(&record, line);
    assert_non_null(strstr(line, "\"source-established\":21,"));
    assert_non_null(strstr(line, "\"source-phases\":\"body:20,greeting:1\","));
}

static void a_forecast_accuses_nobody(void **state)
{
    (void)state;
    struct record record = stalled_session();
    char line[RECORD_LINE_OCTETS];
    record.kind = RECORD_FORECAST;
    record.announced_size = 1000;
    record.forecast = (struct record_forecast){.left_octets = 900,
                                               .rate_octets = 10,
                                               .needs_us = 90000000,
                                               .remains_us = 20000000,
                                               .profile = "exchange"};
    assert_logfmt_has(
        &record, " size=1000 size-left=900 bytes-per-s=10 needs-ms=90000 remains-ms=20000 profile=exchange ",
        true);
    assert_logfmt_has(&record, " fault=", false);
    assert_logfmt_has(&record, " cause=", false);
    assert_logfmt_has(&record, " ended-by=", false);
    record_to_json(&record, line);
    assert_non_null(strstr(line, "{\"event\":\"forecast\","));
    record.kind = RECORD_VERDICT;
    assert_logfmt_has(&record, " size=", false);
}

static void our_limit_only_when_it_was_met(void **state)
{
    (void)state;
    struct record record = stalled_session();
    record.server_limit_seen = 0;
    record.counts.limit = 10;
    assert_logfmt_has(&record, " concurrent-limit=", false);
    record.counts.met = LIMITER_LIMIT_PER_SOURCE;
    assert_logfmt_has(&record, " concurrent-limit=10 ", true);
    record.server_limit_seen = 20; /* the server's own, as observed, is the one that counts */
    assert_logfmt_has(&record, " concurrent-limit=20 ", true);
    record.verdict.limit_by = LIMIT_BY_NONE;
    assert_logfmt_has(&record, " limit-by=", false);
}

/* The accounts in milliseconds sum to the duration in milliseconds, whatever the microseconds are. */
static void the_ledger_sums_after_rounding(void **state)
{
    (void)state;
    struct record record = stalled_session();
    uint64_t random = 88172645463325252u;
    for (unsigned round = 0; round < 5000; round++) {
        char line[RECORD_LINE_OCTETS];
        record.duration_us = 0;
        for (unsigned account = 0; account < ACCOUNT_COUNT; account++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            record.ledger.charged_us[account] = random >> (24 + random % 40);
            record.duration_us += record.ledger.charged_us[account];
        }
        record_to_logfmt(&record, line);
        unsigned long long ms[ACCOUNT_COUNT], duration_ms, sum_ms = 0;
        const char *ledger = strstr(line, " ledger-ms=");
        const char *duration = strstr(line, " duration-ms=");
        assert_non_null(ledger);
        assert_non_null(duration);
        assert_int_equal(
            sscanf(ledger,
                   " ledger-ms=client:%llu,server:%llu,client-network:%llu,server-network:%llu,witness:%llu",
                   &ms[0], &ms[1], &ms[2], &ms[3], &ms[4]),
            5);
        assert_int_equal(sscanf(duration, " duration-ms=%llu", &duration_ms), 1);
        for (unsigned account = 0; account < ACCOUNT_COUNT; account++) {
            sum_ms += ms[account];
        }
        assert_int_equal(sum_ms, duration_ms);
    }
    memset(&record.ledger, 0, sizeof record.ledger); /* the rest goes to the largest, not to the first */
    record.ledger.charged_us[ACCOUNT_SERVER] = 1700;
    record.ledger.charged_us[ACCOUNT_CLIENT] = 900;
    record.ledger.charged_us[ACCOUNT_WITNESS] = 900;
    record.duration_us = 3500;
    assert_logfmt_has(&record, "ledger-ms=client:0,server:3,client-network:0,server-network:0,witness:0 ",
                      true);
}

static void times_are_utc_or_absent(void **state)
{
    (void)state;
    struct record record = stalled_session();
    record.start_unix_ms = 0;
    assert_logfmt_has(&record, " start=1970-01-01T00:00:00.000Z ", true);
    record.start_unix_ms = INT64_C(951782400007);
    assert_logfmt_has(&record, " start=2000-02-29T00:00:00.007Z ", true);
    record.start_unix_ms = INT64_C(253402300799999);
    assert_logfmt_has(&record, " start=9999-12-31T23:59:59.999Z ", true);
    record.start_unix_ms = INT64_C(253402300800000);
    assert_logfmt_has(&record, " start=", false);
    record.start_unix_ms = INT64_MIN;
    assert_logfmt_has(&record, " start=", false);
}

static void peers_octets_are_escaped(void **state)
{
    (void)state;
    static const struct {
        const char *reply, *logfmt, *json;
    } cases[] = {
        {"", " reply=\"\" explain", "\"reply\":\"\""},
        {"\r\n", " reply=\"\" explain", "\"reply\":\"\""},
        {"250-ok", " reply=250-ok explain", "\"reply\":\"250-ok\""},
        {"a=b", " reply=\"a=b\" explain", "\"reply\":\"a=b\""},
        {"a b", " reply=\"a b\" explain", "\"reply\":\"a b\""},
        {"a\\b", " reply=\"a\\\\b\" explain", "\"reply\":\"a\\\\b\""},
        {"a\"b", " reply=\"a\\\"b\" explain", "\"reply\":\"a\\\"b\""},
        {"1\r\n2\n", " reply=\"1\\r\\n2\" explain", "\"reply\":\"1\\u000d\\u000a2\""},
        {"1\n\n", " reply=\"1\\n\" explain", "\"reply\":\"1\\u000a\""},
        {"\t\x1b[2J\x7f", " reply=\"\\t\\x1b[2J\\x7f\" explain", "\"reply\":\"\\u0009\\u001b[2J\\u007f\""},
        {"\xc3\xa9\xff", " reply=\"\\xc3\\xa9\\xff\" explain", "\"reply\":\"\\u00c3\\u00a9\\u00ff\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct record record = stalled_session();
        char line[RECORD_LINE_OCTETS];
        record.reply = cases[i].reply;
        assert_logfmt_has(&record, cases[i].logfmt, true);
        record_to_json(&record, line);
        if (strstr(line, cases[i].json) == NULL) {
            fail_msg("no %s in: %s", cases[i].json, line);
        }
    }
}

/* Only reply and explain give way, the longer one first, and a cut ends in "..." between two escapes. */
static void long_texts_are_cut(void **state)
{
    (void)state;
    struct record record = stalled_session();
    char reply[8000], line[RECORD_LINE_OCTETS], whole[RECORD_LINE_OCTETS];
    memset(record.verdict.explain, 'e', sizeof record.verdict.explain); /* and no NUL */
    for (unsigned shift = 0; shift < 14; shift++) {
        memset(reply, 'x', shift);
        memset(reply + shift, 1, sizeof reply - shift - 1);
        reply[sizeof reply - 1] = '\0';
        record.reply = reply;
        fuzz_check_record(&record);
        size_t length = record_to_logfmt(&record, line);
        assert_in_range(length, RECORD_LINE_OCTETS - 12, RECORD_LINE_OCTETS - 1);
        assert_non_null(strstr(line, "...\" explain="));
        assert_int_equal(strspn(strstr(line, " explain=") + 9, "e"),
                         sizeof record.verdict.explain); /* whole */
        length = record_to_json(&record, line);
        assert_in_range(length, RECORD_LINE_OCTETS - 16, RECORD_LINE_OCTETS - 1);
        assert_non_null(strstr(line, "...\",\"explain\":\"eeee"));
    }
    /* both too long for their halves: both are cut */
    memset(record.verdict.explain, 1, sizeof record.verdict.explain);
    record_to_logfmt(&record, line);
    assert_non_null(strstr(line, "...\" explain=\"\\x01"));
    assert_non_null(strstr(line, "\\x01...\""));
    fuzz_check_record(&record);
    /* everything before the texts is as in a short line */
    record.reply = "";
    record.verdict.explain[0] = '\0';
    record_to_logfmt(&record, whole);
    size_t before = (size_t)(strstr(whole, " reply=") - whole);
    assert_memory_equal(line, whole, before);
    /* the longest reply that still fits is not cut, one octet more is */
    for (size_t octets = 0; octets < RECORD_LINE_OCTETS; octets++) {
        memset(reply, ' ', octets);
        reply[octets] = '\0';
        record.reply = reply;
        size_t length = record_to_logfmt(&record, line);
        bool cut = strstr(line, "...") != NULL;
        assert_true(length < RECORD_LINE_OCTETS);
        assert_true(cut ? length > RECORD_LINE_OCTETS - 24
                        : length == before + strlen(" reply=\"\"") + octets);
    }
}

/* Nothing real is that long; yet a field is then whole or absent, and the line is valid. */
static void the_largest_record_fits(void **state)
{
    (void)state;
    struct record record = stalled_session();
    char text[4096], line[RECORD_LINE_OCTETS];
    memset(text, 1, sizeof text - 1);
    text[sizeof text - 1] = '\0';
    memset(record.session_id, 1, sizeof record.session_id);
    memset(record.verdict.explain, 1, sizeof record.verdict.explain);
    record.reply = record.limit_name = text;
    record.client = record.server = address_of("2001:db8:1111:2222:3333:4444:5555:6666", 65535);
    record.verdict.also = UINT32_MAX;
    record.verdict.notes = UINT64_MAX;
    record.verdict.waited_us = record.verdict.limit_us = record.duration_us = UINT64_MAX;
    record.octets_client = record.octets_server = UINT64_MAX;
    record.mails_ok = record.mails_total = record.rcpts_ok = record.rcpts_total = UINT32_MAX;
    record.commands_ok = record.commands_total = record.server_limit_seen = UINT32_MAX;
    record.counts = (struct limiter_counts){.concurrent = UINT32_MAX,
                                            .concurrent_peak = UINT32_MAX,
                                            .total = UINT32_MAX,
                                            .limit = UINT32_MAX,
                                            .met = LIMITER_LIMIT_TOTAL};
    for (unsigned account = 0; account < ACCOUNT_COUNT; account++) {
        record.ledger.charged_us[account] = UINT64_MAX / ACCOUNT_COUNT;
    }
    for (unsigned leg = 0; leg < SIDE_PAIR; leg++) {
        record.legs[leg].probe = PROBE_UNANSWERED;
        record.legs[leg].connect = CONNECT_LOCAL_ERROR;
        record.legs[leg].rtt_us = record.legs[leg].retrans_count = UINT32_MAX;
    }
    record.receipt = (struct record_receipt){.valid = true,
                                             .connecting = UINT32_MAX,
                                             .established = UINT32_MAX,
                                             .closing = UINT32_MAX,
                                             .peak_hour = UINT32_MAX,
                                             .peak_day = UINT32_MAX,
                                             .oldest_us = UINT64_MAX};
    memset(record.receipt.phases, 'p', sizeof record.receipt.phases - 1);
    memset(record.receipt.profiles_allow, 'a', sizeof record.receipt.profiles_allow - 1);
    memset(record.receipt.profiles_refuse, 'r', sizeof record.receipt.profiles_refuse - 1);
    for (unsigned kind = RECORD_VERDICT; kind <= RECORD_FORECAST; kind++) {
        record.kind = (enum record_kind)kind;
        fuzz_check_record(&record);
        assert_true(record_to_json(&record, line) < RECORD_LINE_OCTETS);
    }
}

/* With every note set and large numbers, short names and no text, nothing at all is left out. */
static void every_note_fits(void **state)
{
    (void)state;
    struct record record = stalled_session();
    char line[RECORD_LINE_OCTETS];
    record.verdict.notes = UINT64_MAX;
    record_to_json(&record, line);
    for (unsigned bit = 0; bit < NOTE_COUNT; bit++) {
        assert_non_null(strstr(line, note_name(bit)));
    }
    assert_non_null(strstr(line, "\"reply\":\"421 4.4.2 server.test Error: timeout exceeded\""));
    assert_non_null(strstr(line, record.verdict.explain));
    fuzz_check_record(&record);
}

static void limits_have_names(void **state)
{
    (void)state;
    assert_string_equal(limiter_limit_name(LIMITER_LIMIT_PER_SOURCE), "per-source");
    assert_string_equal(limiter_limit_name(LIMITER_LIMIT_TOTAL), "total");
    assert_string_equal(limiter_limit_name(LIMITER_LIMIT_PERCENT), "percent-of-remaining");
    assert_string_equal(limiter_limit_name(LIMITER_LIMIT_RATE), "rate");
    assert_string_equal(limiter_limit_name(LIMITER_LIMIT_NONE), "none");
}

static void random_records_are_valid(void **state)
{
    (void)state;
    static uint8_t data[4000];
    uint64_t random = 0x9e3779b97f4a7c15u;
    for (unsigned round = 0; round < 3000; round++) {
        for (size_t i = 0; i < sizeof data; i++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            data[i] = (uint8_t)(random >> 24);
        }
        assert_int_equal(LLVMFuzzerTestOneInput(data, (size_t)(random % sizeof data)), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_line_of_the_design),
        cmocka_unit_test(the_shortest_verdict),
        cmocka_unit_test(a_stall_has_no_end),
        cmocka_unit_test(a_refusal_names_source_limit_and_counts),
        cmocka_unit_test(sets_are_joined_in_order),
        cmocka_unit_test(the_probe_of_the_suspect_leg),
        cmocka_unit_test(a_receipt_in_both_forms),
        cmocka_unit_test(a_forecast_accuses_nobody),
        cmocka_unit_test(our_limit_only_when_it_was_met),
        cmocka_unit_test(the_ledger_sums_after_rounding),
        cmocka_unit_test(times_are_utc_or_absent),
        cmocka_unit_test(peers_octets_are_escaped),
        cmocka_unit_test(long_texts_are_cut),
        cmocka_unit_test(the_largest_record_fits),
        cmocka_unit_test(every_note_fits),
        cmocka_unit_test(limits_have_names),
        cmocka_unit_test(random_records_are_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
