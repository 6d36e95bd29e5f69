/* What is written from the table loads again, and what is committed is what the table writes.
 * SMTPWITNESS_REGENERATE=1 writes the committed files anew. Run from the top of the tree. */
#include "tests/unit/test_settings.h"

#include <sys/wait.h>

#include "conf/settings_index.h"

#define SAMPLE "conf/smtpwitness.conf.sample"
#define MANUAL "man/smtpwitness.conf.5"

/* Dumps, loads the dump, dumps again: the same text, and the same plain fields. */
static void check_round_trip(const struct settings *settings)
{
    char *first = dump_text(settings);
    struct settings *again = load_good(first);
    char *second = dump_text(again);
    assert_string_equal(first, second);

    struct settings a = *settings;
    struct settings b = *again;
    assert_int_equal(a.policy.source_count, b.policy.source_count);
    assert_int_equal(a.policy.server_count, b.policy.server_count);
    for (size_t i = 0; i < a.policy.source_count; i++) {
        struct policy_override x = a.policy.sources[i];
        struct policy_override y = b.policy.sources[i];
        assert_int_equal(x.network_count, y.network_count);
        assert_memory_equal(x.networks, y.networks, x.network_count * sizeof *x.networks);
        assert_memory_equal(&x.timeouts, &y.timeouts, sizeof x.timeouts);
        assert_memory_equal(&x.limits, &y.limits, sizeof x.limits);
        assert_string_equal(x.name, y.name);
        assert_int_equal(x.count_as_one, y.count_as_one);
    }
    a.policy.sources = b.policy.sources = NULL;
    a.policy.servers = b.policy.servers = NULL;
    assert_memory_equal(&a, &b, sizeof a);
    settings_destroy(again);
    free(first);
    free(second);
}

static void test_round_trip_of_defaults(void **state)
{
    (void)state;
    struct settings *settings = load_good("");
    check_round_trip(settings);
    settings_destroy(settings);
}

static void test_round_trip_of_everything_changed(void **state)
{
    (void)state;
    struct settings *settings = load_good(
        "[smtp]\nhostname = gate.example.com\nports = 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 65535\n"
        "implicit-tls-ports =\nlmtp-ports =\nproxy-protocol = yes\n"
        "[proxy]\nlisten-port = 1\nworkers = 256\nmax-sessions = 7\nbuffer = 4097\nsplice = "
        "no\nkeep-client-port = no\n"
        "outgoing-mark = 4278190079\nconnect-timeout = 10ms\nprobe = no\nprobe-after = 61s\ntap = no\ndrain "
        "= 0\n"
        "[nfq]\nfirst-queue = 0\nqueues = 16\nmax-flows = 256\nqueue-length = 64\nreceive-buffer = 1M\n"
        "fail-open = no\nwatchdog = 1500ms\nprobe = no\nprobe-after = 7s\n"
        "[log]\nfacility = local7\nlevel = alert\nident = x\nformat = json\nverdicts = faults\nstalls = no\n"
        "json-file = \"/a b#c;d=[e]\\\\\"\nrate-limit = 0\npeaks-interval = 0\npeaks-sources = 1000\n"
        "[process]\nuser =\npid-file = /x=y\n"
        "[timeouts]\nconnect = 0\nbody = 90s\nidle = 7d\nsession = 30d\nstall-notice = 1500ms\naction = "
        "enforce\n"
        "session-action = enforce\n"
        "[limits]\nprofile = exchange\nrate = 1000000/90s\nover-limit = hold\nrefuse-with = "
        "reset\nmax-sources = 1\n"
        "ipv6-prefix = 128\n"
        "[source a]\nnetworks = 192.0.2.0/24,10.0.0.1 ::/0 ::1 ::ffff:0:0/96 2001:db8::/127\ncount-as-one = "
        "yes\n"
        "rate = 0\nprofile = postfix\nidle = 0\n"
        "[server b]\nnetworks = 0.0.0.0/0\npercent-of-remaining = 0\n[source C]\nnetworks = 192.0.2.0/31\n");
    assert_string_equal(settings->log.json_file, "/a b#c;d=[e]\\\\");
    check_round_trip(settings);
    settings_destroy(settings);
}

/* Each choice of each key, and a number in each unit. */
static void test_round_trip_of_each_value(void **state)
{
    (void)state;
    static const char *const durations[] = {"10ms",  "999ms", "1s",  "59s", "60s", "61s", "1min",
                                            "90min", "1h",    "23h", "24h", "1d",  "7d",  NULL};
    for (size_t i = 0; i < settings_row_count; i++) {
        const struct settings_row *row = &settings_rows[i];
        char text[256];
        for (size_t j = 0; row->choices != NULL && row->choices[j].text != NULL; j++) {
            snprintf(text, sizeof text, "[%s]\n%s = %s\n", settings_sections[row->section].word, row->key,
                     row->choices[j].text);
            struct settings *settings = load_good(text);
            char *dumped = dump_text(settings);
            assert_non_null(strstr(dumped, strchr(text, '\n'))); /* the key and its value, as written */
            free(dumped);
            check_round_trip(settings);
            settings_destroy(settings);
        }
    }
    for (size_t i = 0; durations[i] != NULL; i++) {
        char text[64];
        snprintf(text, sizeof text, "[timeouts]\nidle = %s\n", durations[i]);
        struct settings *settings = load_good(text);
        check_round_trip(settings);
        settings_destroy(settings);
    }
}

/* The largest configuration still loads from its dump. */
static void test_round_trip_of_the_largest(void **state)
{
    (void)state;
    char *text = malloc(SETTINGS_MAX_FILE_OCTETS);
    size_t used = 0;
    assert_non_null(text);
    for (int i = 0; i < SETTINGS_MAX_SECTIONS - 7; i++) {
        used += (size_t)sprintf(text + used, "[server %063d]\nrate = 1000000/604799999ms\nnetworks =", i);
        for (int j = 0; j < 24; j++) {
            used += (size_t)sprintf(text + used, " 2001:db8:1234:1234:1234:1234:1234:12%02x", j + 16);
        }
        text[used++] = '\n';
    }
    text[used] = '\0';
    struct settings *settings = load_good(text);
    check_round_trip(settings);
    settings_destroy(settings);
    free(text);
}

/* Committed files ----------------------------------------------------------------------------------------- */

static char *printed(bool (*print)(FILE *))
{
    char *text = NULL;
    size_t length = 0;
    FILE *to = open_memstream(&text, &length);
    assert_non_null(to);
    assert_true(print(to));
    assert_int_equal(fclose(to), 0);
    return text;
}

static void check_committed(const char *path, const char *text)
{
    const char *regenerate = getenv("SMTPWITNESS_REGENERATE");
    size_t length = strlen(text);
    if (regenerate != NULL && strcmp(regenerate, "1") == 0) {
        FILE *to = fopen(path, "w");
        assert_non_null(to);
        assert_int_equal(fwrite(text, 1, length, to), length);
        assert_int_equal(fclose(to), 0);
    }
    FILE *from = fopen(path, "r");
    if (from == NULL) {
        fail_msg("cannot open %s; run this from the top of the tree", path);
    }
    char *committed = calloc(1, length + 2);
    assert_non_null(committed);
    size_t read = fread(committed, 1, length + 1, from);
    fclose(from);
    if (read != length || memcmp(committed, text, length) != 0) {
        fail_msg("%s is not what the table of settings gives; run SMTPWITNESS_REGENERATE=1 with this test "
                 "and commit it",
                 path);
    }
    free(committed);
}

static void test_sample_is_the_tables(void **state)
{
    (void)state;
    char *text = printed(settings_print_sample);
    check_committed(SAMPLE, text);
    free(text);
}

static void test_sample_loads_to_the_defaults(void **state)
{
    (void)state;
    struct settings_error error;
    struct settings *sample = settings_load(SAMPLE, &error);
    struct settings *plain = load_good("");
    assert_non_null(sample);
    assert_memory_equal(sample, plain, sizeof *plain);
    settings_destroy(sample);
    settings_destroy(plain);
}

/* Every commented line with a key, when uncommented, is right, and is the default. */
static void test_sample_uncommented_loads_to_the_defaults(void **state)
{
    (void)state;
    char *text = printed(settings_print_sample);
    char *to = text;
    size_t keys = 0;
    for (const char *from = text; *from != '\0'; from++) {
        bool start = from == text || from[-1] == '\n';
        bool key = start && from[0] == '#' && from[1] != ' ' && from[1] != '\n';
        keys += key && from[1] != '[';
        if (!key) {
            *to++ = *from;
        }
    }
    *to = '\0';
    assert_int_equal(keys, settings_row_count + 3); /* and the three lines of the examples */
    struct settings *sample = load_good(text);
    struct settings *plain = load_good("");
    assert_int_equal(sample->policy.source_count, 1);
    assert_int_equal(sample->policy.server_count, 1);
    assert_int_equal(sample->policy.sources[0].limits.per_source_count, 60);
    free(sample->policy.sources[0].networks);
    free(sample->policy.servers[0].networks);
    free(sample->policy.sources);
    free(sample->policy.servers);
    sample->policy.sources = sample->policy.servers = NULL;
    sample->policy.source_count = sample->policy.server_count = 0;
    assert_memory_equal(sample, plain, sizeof *plain);
    settings_destroy(sample);
    settings_destroy(plain);
    free(text);
}

static void test_sample_fits_a_terminal(void **state)
{
    (void)state;
    char *text = printed(settings_print_sample);
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        assert_true(strlen(line) <= 80);
    }
    free(text);
}

static void test_manual_is_the_tables(void **state)
{
    (void)state;
    char *text = printed(settings_print_manual);
    for (size_t i = 0; i < settings_row_count; i++) {
        char entry[96];
        snprintf(entry, sizeof entry, "\n.It Cm %s No = Ar \"", settings_rows[i].key);
        assert_non_null(strstr(text, entry));
    }
    check_committed(MANUAL, text);
    free(text);
}

static void test_manual_is_clean(void **state)
{
    (void)state;
    int status = system("command -v mandoc >/dev/null || exit 77; mandoc -Tlint -W warning " MANUAL);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("mandoc is not installed\n");
        skip();
    }
    assert_int_equal(status, 0);
}

static void test_a_full_disk_is_noticed(void **state)
{
    (void)state;
    struct settings *settings = load_good("");
    FILE *full = fopen("/dev/full", "w");
    if (full == NULL) {
        settings_destroy(settings);
        skip();
    }
    setvbuf(full, NULL, _IONBF, 0);
    assert_false(settings_dump(settings, full));
    assert_false(settings_print_sample(full));
    assert_false(settings_print_manual(full));
    fclose(full);
    settings_destroy(settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip_of_defaults),
        cmocka_unit_test(test_round_trip_of_everything_changed),
        cmocka_unit_test(test_round_trip_of_each_value),
        cmocka_unit_test(test_round_trip_of_the_largest),
        cmocka_unit_test(test_sample_is_the_tables),
        cmocka_unit_test(test_sample_loads_to_the_defaults),
        cmocka_unit_test(test_sample_uncommented_loads_to_the_defaults),
        cmocka_unit_test(test_sample_fits_a_terminal),
        cmocka_unit_test(test_manual_is_the_tables),
        cmocka_unit_test(test_manual_is_clean),
        cmocka_unit_test(test_a_full_disk_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
