/* Every key: its right values land in its own field and nowhere else, its wrong ones give one line with the remedy. */
#include "tests/unit/test_settings.h"

#include <syslog.h>
#include <unistd.h>

#include "conf/settings_text.h"
#include "conf/settings_value.h"
#include "core/base/phase.h"

/* Right values -------------------------------------------------------------------------------------------- */

struct landing {
    enum settings_section section;
    const char *key;
    const char *value;
    size_t offset; /* in struct settings */
    size_t size;
    uint64_t expected;
};

#define AT(member)   offsetof(struct settings, member), sizeof(((struct settings *)0)->member)
#define SMTP         SETTINGS_SECTION_SMTP
#define PROXY        SETTINGS_SECTION_PROXY
#define NFQ          SETTINGS_SECTION_NFQ
#define LOGS         SETTINGS_SECTION_LOG
#define TIMES        SETTINGS_SECTION_TIMEOUTS
#define LIMITS       SETTINGS_SECTION_LIMITS
#define MS(count)    (UINT64_C(1000) * (count))
#define PHASE(phase) AT(policy.timeouts.phase_us[phase])

/* Written out by hand from conf/settings.h and core/policy/policy_settings.h, so that a row of the table that points
 * at a neighbour's field is found. */
static const struct landing landings[] = {
    {SMTP, "proxy-protocol", "yes", AT(smtp.proxy_protocol), 1},
    {PROXY, "listen-port", "65535", AT(proxy.listen_port), 65535},
    {PROXY, "workers", "3", AT(proxy.workers), 3},
    {PROXY, "max-sessions", "1000000", AT(proxy.max_sessions), 1000000},
    {PROXY, "buffer", "1M", AT(proxy.buffer_octets), 1048576},
    {PROXY, "splice", "no", AT(proxy.splice), 0},
    {PROXY, "keep-client-port", "no", AT(proxy.keep_client_port), 0},
    {PROXY, "outgoing-mark", "0xfe", AT(proxy.outgoing_mark), 0xfe},
    {PROXY, "connect-timeout", "1500ms", AT(proxy.connect_timeout_us), MS(1500)},
    {PROXY, "probe", "no", AT(proxy.probe), 0},
    {PROXY, "probe-after", "7s", AT(proxy.probe_after_us), MS(7000)},
    {SETTINGS_SECTION_PROCESS, "system-call-filter", "no", AT(process.system_call_filter), 0},
    {PROXY, "tap", "no", AT(proxy.tap), 0},
    {PROXY, "drain", "2min", AT(proxy.drain_us), MS(120000)},
    {PROXY, "fail", "closed", AT(proxy.fail), SETTINGS_FAIL_CLOSED},
    {NFQ, "first-queue", "7", AT(nfq.first_queue), 7},
    {NFQ, "queues", "4", AT(nfq.queues_count), 4},
    {NFQ, "max-flows", "1000", AT(nfq.max_flows_count), 1000},
    {NFQ, "queue-length", "65", AT(nfq.queue_length_count), 65},
    {NFQ, "receive-buffer", "1M", AT(nfq.receive_buffer_octets), 1048576},
    {NFQ, "fail-open", "no", AT(nfq.fail_open), 0},
    {NFQ, "watchdog", "4s", AT(nfq.watchdog_us), MS(4000)},
    {NFQ, "probe", "no", AT(nfq.probe), 0},
    {NFQ, "probe-after", "6s", AT(nfq.probe_after_us), MS(6000)},
    {NFQ, "bypass", "yes", AT(nfq.bypass), 1},
    {NFQ, "mark", "0x600", AT(nfq.mark), 0x600},
    {LOGS, "facility", "local3", AT(log.facility), LOG_LOCAL3},
    {LOGS, "level", "notice", AT(log.level), LOG_NOTICE},
    {LOGS, "format", "json", AT(log.format), SETTINGS_LOG_JSON},
    {LOGS, "verdicts", "faults", AT(log.verdicts), SETTINGS_LOG_FAULTS},
    {LOGS, "stalls", "no", AT(log.stalls), 0},
    {LOGS, "rate-limit", "0", AT(log.rate_limit_count), 0},
    {LOGS, "peaks-interval", "1h", AT(log.peaks_interval_us), MS(3600000)},
    {LOGS, "peaks-sources", "11", AT(log.peaks_count), 11},
    {TIMES, "connect", "31s", PHASE(PHASE_CONNECT), MS(31000)},
    {TIMES, "greeting", "32s", PHASE(PHASE_GREETING), MS(32000)},
    {TIMES, "helo", "33s", PHASE(PHASE_HELO), MS(33000)},
    {TIMES, "starttls", "34s", PHASE(PHASE_STARTTLS), MS(34000)},
    {TIMES, "tls", "35s", PHASE(PHASE_TLS), MS(35000)},
    {TIMES, "auth", "36s", PHASE(PHASE_AUTH), MS(36000)},
    {TIMES, "mail", "37s", PHASE(PHASE_MAIL), MS(37000)},
    {TIMES, "rcpt", "38s", PHASE(PHASE_RCPT), MS(38000)},
    {TIMES, "data", "39s", PHASE(PHASE_DATA), MS(39000)},
    {TIMES, "body", "40s", PHASE(PHASE_BODY), MS(40000)},
    {TIMES, "end-of-data", "41s", PHASE(PHASE_END_OF_DATA), MS(41000)},
    {TIMES, "bdat", "42s", PHASE(PHASE_BDAT), MS(42000)},
    {TIMES, "rset", "43s", PHASE(PHASE_RSET), MS(43000)},
    {TIMES, "quit", "44s", PHASE(PHASE_QUIT), MS(44000)},
    {TIMES, "command", "45s", PHASE(PHASE_COMMAND), MS(45000)},
    {TIMES, "idle", "0", AT(policy.timeouts.idle_us), 0},
    {TIMES, "session", "1d", AT(policy.timeouts.session_us), MS(86400000)},
    {TIMES, "stall-notice", "10ms", AT(policy.timeouts.stall_notice_us), MS(10)},
    {TIMES, "action", "enforce", AT(policy.timeouts.action), POLICY_ENFORCE},
    {TIMES, "session-action", "enforce", AT(policy.timeouts.session_action), POLICY_ENFORCE},
    {LIMITS, "per-source", "20", AT(policy.limits.per_source_count), 20},
    {LIMITS, "total", "5000", AT(policy.limits.total_count), 5000},
    {LIMITS, "over-limit", "hold", AT(policy.limits.over_limit), POLICY_HOLD},
    {LIMITS, "hold-longest", "29s", AT(policy.limits.hold_longest_us), MS(29000)},
    {LIMITS, "refuse-with", "reset", AT(policy.limits.refuse_with), POLICY_REFUSE_RESET},
    {LIMITS, "per-source-action", "enforce", AT(policy.limits.per_source_action), POLICY_ENFORCE},
    {LIMITS, "total-action", "enforce", AT(policy.limits.total_action), POLICY_ENFORCE},
    {LIMITS, "percent-action", "enforce", AT(policy.limits.percent_action), POLICY_ENFORCE},
    {LIMITS, "rate-action", "enforce", AT(policy.limits.rate_action), POLICY_ENFORCE},
    {LIMITS, "max-sources", "1000", AT(max_sources), 1000},
    {LIMITS, "ipv6-prefix", "48", AT(policy.ipv6_source_prefix), 48},
};
#define LANDING_COUNT (sizeof landings / sizeof landings[0])

static uint64_t number_at(const struct settings *settings, size_t offset, size_t size)
{
    uint64_t value = 0;
    memcpy(&value, (const char *)settings + offset, size); /* little endian, as every machine we build on */
    return value;
}

static struct settings *load_one(enum settings_section section, const char *key, const char *value)
{
    char text[SETTINGS_VALUE_SIZE + 64];
    snprintf(text, sizeof text, "[%s]\n%s = %s\n", settings_sections[section].word, key, value);
    return load_good(text);
}

static void test_each_key_sets_its_field_and_nothing_else(void **state)
{
    (void)state;
    for (size_t i = 0; i < LANDING_COUNT; i++) {
        const struct landing *landing = &landings[i];
        struct settings *plain = load_good("");
        struct settings *loaded = load_one(landing->section, landing->key, landing->value);
        if (number_at(loaded, landing->offset, landing->size) != landing->expected) {
            fail_msg("%s = %s did not land", landing->key, landing->value);
        }
        if (number_at(plain, landing->offset, landing->size) == landing->expected) {
            fail_msg("%s = %s is the default, which proves nothing", landing->key, landing->value);
        }
        memcpy((char *)loaded + landing->offset, (char *)plain + landing->offset, landing->size);
        if (memcmp(plain, loaded, sizeof *plain) != 0) {
            fail_msg("%s = %s changed something else too", landing->key, landing->value);
        }
        settings_destroy(plain);
        settings_destroy(loaded);
    }
}

static void test_lists_texts_and_rates_land(void **state)
{
    (void)state;
    struct settings *settings =
        load_good("[smtp]\nports = 2525, 26 27\nimplicit-tls-ports =\nlmtp-ports = 24\n"
                  "hostname = gate.example.com\n"
                  "[log]\nident = witness.2\njson-file = \"/var/log/a #1.json\"\n"
                  "[process]\nuser = _mail-1\npid-file = /run/x.pid ; comment\n"
                  "[limits]\nrate = 30/5min # a comment\ntotal = 100\n"
                  "percent-of-remaining = 2\n");
    assert_int_equal(settings->smtp.ports.count, 3);
    assert_int_equal(settings->smtp.ports.port[0], 2525);
    assert_int_equal(settings->smtp.ports.port[1], 26);
    assert_int_equal(settings->smtp.ports.port[2], 27);
    assert_int_equal(settings->smtp.implicit_tls_ports.count, 0);
    assert_int_equal(settings->smtp.lmtp_ports.count, 1);
    assert_int_equal(settings->smtp.lmtp_ports.port[0], 24);
    assert_string_equal(settings->policy.host_name, "gate.example.com");
    assert_string_equal(settings->log.ident, "witness.2");
    assert_string_equal(settings->log.json_file, "/var/log/a #1.json");
    assert_string_equal(settings->process.user, "_mail-1");
    assert_string_equal(settings->process.pid_file, "/run/x.pid");
    assert_int_equal(settings->policy.limits.rate_count, 30);
    assert_int_equal(settings->policy.limits.rate_window_us, MS(300000));
    assert_int_equal(settings->policy.limits.percent_of_remaining, 2);
    settings_destroy(settings);

    settings = load_good("[log]\njson-file = -\n[process]\nuser =\n");
    assert_string_equal(settings->log.json_file, "-");
    assert_string_equal(settings->process.user, "");
    settings_destroy(settings);
}

/* The rows the two tests above do not write out. */
static void test_no_key_is_forgotten(void **state)
{
    (void)state;
    static const char *const elsewhere[] = {"hostname",
                                            "ports",
                                            "implicit-tls-ports",
                                            "lmtp-ports",
                                            "ident",
                                            "json-file",
                                            "user",
                                            "pid-file",
                                            "rate",
                                            "networks",
                                            "percent-of-remaining",
                                            "count-as-one",
                                            "profile"};
    for (size_t i = 0; i < settings_row_count; i++) {
        bool found = false;
        for (size_t j = 0; j < LANDING_COUNT; j++) {
            found = found || (landings[j].section == settings_rows[i].section &&
                              strcmp(landings[j].key, settings_rows[i].key) == 0);
        }
        for (size_t j = 0; j < sizeof elsewhere / sizeof elsewhere[0]; j++) {
            found = found || strcmp(elsewhere[j], settings_rows[i].key) == 0;
        }
        if (!found) {
            fail_msg("no test sets %s", settings_rows[i].key);
        }
    }
}

static void test_defaults_are_those_of_the_rfc(void **state)
{
    (void)state;
    struct settings *settings = load_good("");
    const struct policy_timeouts *timeouts = &settings->policy.timeouts;
    assert_int_equal(timeouts->phase_us[PHASE_CONNECT], MS(30000));
    assert_int_equal(timeouts->phase_us[PHASE_GREETING], MS(300000));
    assert_int_equal(timeouts->phase_us[PHASE_MAIL], MS(300000));
    assert_int_equal(timeouts->phase_us[PHASE_RCPT], MS(300000));
    assert_int_equal(timeouts->phase_us[PHASE_DATA], MS(120000));
    assert_int_equal(timeouts->phase_us[PHASE_BODY], MS(180000));
    assert_int_equal(timeouts->phase_us[PHASE_END_OF_DATA], MS(600000));
    assert_int_equal(timeouts->phase_us[PHASE_OPAQUE], 0);
    assert_int_equal(timeouts->idle_us, MS(300000));
    assert_int_equal(timeouts->session_us, 0);
    assert_int_equal(timeouts->stall_notice_us, MS(60000));
    assert_int_equal(timeouts->action, POLICY_REPORT);
    assert_int_equal(settings->policy.limits.per_source_count, 0);
    assert_int_equal(settings->policy.limits.hold_longest_us, MS(25000));
    assert_int_equal(settings->policy.limits.rate_window_us, MS(60000));
    assert_int_equal(settings->proxy.listen_port, 10025);
    assert_int_equal(settings->log.facility, LOG_MAIL);
    assert_string_equal(settings->process.user, "nobody");
    assert_true(settings->policy.host_name[0] != '\0');
    assert_int_equal(settings->policy.source_count, 0);
    settings_destroy(settings);

    struct settings_error error;
    struct settings *from_nothing = settings_load(NULL, &error);
    assert_non_null(from_nothing);
    settings_destroy(from_nothing);
}

static void test_host_name_is_the_systems(void **state)
{
    (void)state;
    char name[256] = "";
    assert_int_equal(gethostname(name, sizeof name - 1), 0);
    struct settings *settings = load_good("[smtp]\nhostname =\n");
    assert_string_equal(settings->policy.host_name, settings_host_name_valid(name) ? name : "localhost");
    settings_destroy(settings);
}

/* The bounds of every row that has some are themselves allowed. */
static void test_bounds_are_allowed(void **state)
{
    (void)state;
    for (size_t i = 0; i < settings_row_count; i++) {
        const struct settings_row *row = &settings_rows[i];
        uint64_t values[] = {row->minimum, row->maximum, 0};
        if (row->type != SETTINGS_TYPE_COUNT && row->type != SETTINGS_TYPE_OCTET &&
            row->type != SETTINGS_TYPE_DURATION && row->type != SETTINGS_TYPE_SIZE &&
            row->type != SETTINGS_TYPE_PORT) {
            continue;
        }
        for (size_t j = 0; j < (row->zero != NULL ? 3u : 2u); j++) {
            char text[256];
            bool duration = row->type == SETTINGS_TYPE_DURATION;
            snprintf(text, sizeof text, "[%s]\n%s = %llu%s\n%s", settings_sections[row->section].word,
                     row->key, (unsigned long long)(duration ? values[j] / 1000 : values[j]),
                     duration ? "ms" : "",
                     strcmp(row->key, "percent-of-remaining") == 0 ? "total = 10\n" : "");
            settings_destroy(load_good(text));
        }
    }
}

/* Wrong values -------------------------------------------------------------------------------------------- */

static const char *const wrong_booleans[] = {"", "true", "Yes", "1", "yes no", "y", "\"yes \"", NULL};
static const char *const wrong_numbers[] = {
    "",       "12abc", "2o",  "-1",  "+1",  "010",         "0x10",
    "1.5",    "1,5",   "1 2", "1e3", "ten", "99999999999", "18446744073709551616",
    "\" 1\"", NULL};
static const char *const wrong_sizes[] = {"",
                                          "64K",
                                          "64kB",
                                          "64 k",
                                          "1T",
                                          "k",
                                          "-1k",
                                          "010k",
                                          "99999999999G",
                                          "1.5M",
                                          "18446744073709551615M",
                                          "18014398509482048k",
                                          NULL};
static const char *const wrong_marks[] = {"",   "0x",  "0xg",  "0x100000000", "4294967296",
                                          "-1", "017", "0X10", "1/2",         NULL};
static const char *const wrong_durations[] = {"",
                                              "30",
                                              "30 s",
                                              "s",
                                              "30sec",
                                              "5m",
                                              "1min30s",
                                              "-5s",
                                              "0.5s",
                                              "010s",
                                              "1us",
                                              "999d",
                                              "5S",
                                              "1e3s",
                                              "18446744073709551615d",
                                              "99999999999999999999s",
                                              "307445734562min",
                                              NULL};
static const char *const wrong_rates[] = {"",          "30",       "30/",      "/1min",      "0/1min",
                                          "30/0",      "30/1",     "30/1us",   "30/8d",      "30 / 1min",
                                          "30/1min/2", "-30/1min", "030/1min", "1000001/1s", NULL};
static const char *const wrong_ports[] = {"", "0", "65536", "-25", "smtp", "25 587", "025", NULL};
static const char *const wrong_port_lists[] = {
    "0",     "25,",   ",25",   "25,,26", "25 25",
    "25;26", "25/26", "65536", "smtp",   "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17",
    NULL};
static const char *const wrong_choices[] = {"", "Mail", "nonsense", "0", "report enforce", "reports", NULL};
static const char *const wrong_host_names[] = {
    "a_b",         "-a",          "a-",
    "a..b",        ".a",          "a.",
    "a b",         "192.0.2.1",   "mail.25",
    "[192.0.2.1]", "exämple.com", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.b",
    NULL};
static const char *const wrong_words[] = {
    "a b", "a/b", "a:b", "ä", "\" a\"", "abcdefghijklmnopqrstuvwxyz0123456789", NULL};
static const char *const wrong_paths[] = {"x", "./x", "~/x", "/", "/run/", "--", "\" /x\"", NULL};
static const char *const wrong_networks[] = {"",
                                             ",",
                                             "192.0.2.0/24,",
                                             "192.0.2.0/24,,192.0.3.0/24",
                                             "192.0.2.1/24",
                                             "192.0.2.0/33",
                                             "192.0.2",
                                             "2001:db8::/129",
                                             "2001:db8::1/64",
                                             "mail.example.com",
                                             "192.0.2.0/",
                                             "192.0.2.0/024",
                                             "10.0.0.0/8 x",
                                             "fe80::1%eth0",
                                             "any",
                                             "0.0.0.0/-1",
                                             NULL};
static const char *const wrong_profiles[] = {"", "Exchange", "exchange2013", "no", "sendmail", NULL};

static const char *const *wrong_values(enum settings_type type)
{
    switch (type) {
    case SETTINGS_TYPE_BOOLEAN:
        return wrong_booleans;
    case SETTINGS_TYPE_COUNT:
    case SETTINGS_TYPE_OCTET:
        return wrong_numbers;
    case SETTINGS_TYPE_SIZE:
        return wrong_sizes;
    case SETTINGS_TYPE_MARK:
        return wrong_marks;
    case SETTINGS_TYPE_DURATION:
        return wrong_durations;
    case SETTINGS_TYPE_RATE:
        return wrong_rates;
    case SETTINGS_TYPE_PORT:
        return wrong_ports;
    case SETTINGS_TYPE_PORTS:
        return wrong_port_lists;
    case SETTINGS_TYPE_CHOICE:
        return wrong_choices;
    case SETTINGS_TYPE_HOST_NAME:
        return wrong_host_names;
    case SETTINGS_TYPE_WORD:
        return wrong_words;
    case SETTINGS_TYPE_PATH:
        return wrong_paths;
    case SETTINGS_TYPE_NETWORKS:
        return wrong_networks;
    case SETTINGS_TYPE_PROFILE:
        return wrong_profiles;
    case SETTINGS_TYPE_NONE:
    case SETTINGS_TYPE_END:
        break;
    }
    return NULL;
}

/* The line names file, line and key, says what is wrong, and what it suggests is taken when it is written. */
static void check_wrong(const struct settings_row *row, enum settings_section section, const char *value)
{
    struct settings_error error;
    char text[SETTINGS_VALUE_SIZE + 256];
    char prefix[128];
    bool named = settings_sections[section].named;
    const char *networks = named && row->type != SETTINGS_TYPE_NETWORKS ? "networks = 192.0.2.0/24\n" : "";
    snprintf(text, sizeof text, "# first\n[%s%s]\n%s\n%s = %s\n", settings_sections[section].word,
             named ? " x" : "", networks, row->key, value);
    snprintf(prefix, sizeof prefix, "test.conf:%d: [%s%s] %s = \"", networks[0] != '\0' ? 5 : 4,
             settings_sections[section].word, named ? " x" : "", row->key);
    load_bad(text, &error);
    if (strncmp(error.text, prefix, strlen(prefix)) != 0 && strchr(value, ';') == NULL) {
        fail_msg("%s = %s gives \"%s\", which does not begin with \"%s\"", row->key, value, error.text,
                 prefix);
    }
    const char *remedy = strstr(error.text, "; write for example \"");
    if (remedy == NULL) {
        assert_non_null(strchr(value, ';'));
        return;
    }
    remedy += strlen("; write for example \"");
    assert_int_equal(error.text[strlen(error.text) - 1], '"');
    snprintf(text, sizeof text, "[%s%s]\n%s%.*s\n%s", settings_sections[section].word, named ? " x" : "",
             networks, (int)(strlen(remedy) - 1), remedy,
             strcmp(row->key, "percent-of-remaining") == 0 ? "total = 9\n" : "");
    settings_destroy(load_good(text));
}

static void test_each_key_in_every_wrong_way(void **state)
{
    (void)state;
    for (size_t i = 0; i < settings_row_count; i++) {
        const struct settings_row *row = &settings_rows[i];
        const char *const *values = wrong_values(row->type);
        assert_non_null(values);
        for (; *values != NULL; values++) {
            for (enum settings_section section = SETTINGS_SECTION_SMTP; section < SETTINGS_SECTION_COUNT;
                 section++) {
                if (settings_row_fits(row, section)) {
                    check_wrong(row, section, *values);
                }
            }
        }
    }
}

/* One below and one above what a row allows. */
static void test_each_bound_is_kept(void **state)
{
    (void)state;
    for (size_t i = 0; i < settings_row_count; i++) {
        const struct settings_row *row = &settings_rows[i];
        char value[64];
        bool duration = row->type == SETTINGS_TYPE_DURATION;
        if (row->type != SETTINGS_TYPE_COUNT && row->type != SETTINGS_TYPE_OCTET && !duration &&
            row->type != SETTINGS_TYPE_SIZE && row->type != SETTINGS_TYPE_PORT) {
            continue;
        }
        uint64_t scale = duration ? 1000 : 1;
        snprintf(value, sizeof value, "%llu%s", (unsigned long long)(row->maximum / scale + 1),
                 duration ? "ms" : "");
        check_wrong(row, row->section, value);
        if (row->minimum / scale > 1 || (row->minimum / scale == 1 && row->zero == NULL)) {
            snprintf(value, sizeof value, "%llu%s", (unsigned long long)(row->minimum / scale - 1),
                     duration ? "ms" : "");
            check_wrong(row, row->section, value);
        }
    }
}

/* A text of exactly the field's size minus its end fits; one octet more does not. */
static void test_texts_fill_their_field(void **state)
{
    (void)state;
    char text[512];
    char value[300];
    struct settings_error error;
    memset(value, 'x', sizeof value);
    value[0] = '/';
    snprintf(text, sizeof text, "[log]\njson-file = %.255s\n", value);
    struct settings *settings = load_good(text);
    assert_int_equal(strlen(settings->log.json_file), 255);
    settings_destroy(settings);
    snprintf(text, sizeof text, "[log]\njson-file = %.256s\n", value);
    load_bad(text, &error);
    snprintf(text, sizeof text, "[log]\nident = %.31s\n", value + 1);
    settings = load_good(text);
    assert_int_equal(strlen(settings->log.ident), 31);
    settings_destroy(settings);
    snprintf(text, sizeof text, "[log]\nident = %.32s\n", value + 1);
    load_bad(text, &error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_key_sets_its_field_and_nothing_else),
        cmocka_unit_test(test_lists_texts_and_rates_land),
        cmocka_unit_test(test_no_key_is_forgotten),
        cmocka_unit_test(test_defaults_are_those_of_the_rfc),
        cmocka_unit_test(test_host_name_is_the_systems),
        cmocka_unit_test(test_bounds_are_allowed),
        cmocka_unit_test(test_each_key_in_every_wrong_way),
        cmocka_unit_test(test_each_bound_is_kept),
        cmocka_unit_test(test_texts_fill_their_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
