#include "tests/unit/test_settings.h"

#include "conf/settings_compare.h"

static void test_equal_settings_do_not_differ(void **state)
{
    (void)state;
    const struct settings_row *rows[SETTINGS_MAX_ROWS];
    struct settings *a = load_good("[proxy]\nlisten-port = 2525\n[log]\njson-file = /a\n");
    struct settings *b = load_good("[log]\njson-file = /a\n[proxy]\nlisten-port = 2525\n");
    assert_int_equal(settings_compare(a, b, rows, SETTINGS_MAX_ROWS), 0);
    settings_destroy(a);
    settings_destroy(b);
}

struct fixed_key {
    const char *text;
    const char *line;
};

/* Every key that needs a restart; the list is kept by hand, so that a key does not become one by accident. */
static const struct fixed_key fixed_keys[] = {
    {"[proxy]\nlisten-port = 2525\n", "proxy.listen-port needs a restart; keeping 10025"},
    {"[proxy]\nworkers = 3\n", "proxy.workers needs a restart; keeping 0"},
    {"[proxy]\nmax-sessions = 3\n", "proxy.max-sessions needs a restart; keeping 0"},
    {"[proxy]\ntap = no\n", "proxy.tap needs a restart; keeping yes"},
    {"[nfq]\nfirst-queue = 3\n", "nfq.first-queue needs a restart; keeping 2525"},
    {"[nfq]\nqueues = 2\n", "nfq.queues needs a restart; keeping 1"},
    {"[nfq]\nmax-flows = 300\n", "nfq.max-flows needs a restart; keeping 65536"},
    {"[nfq]\nqueue-length = 64\n", "nfq.queue-length needs a restart; keeping 8192"},
    {"[nfq]\nreceive-buffer = 1M\n", "nfq.receive-buffer needs a restart; keeping 16M"},
    {"[nfq]\nfail-open = no\n", "nfq.fail-open needs a restart; keeping yes"},
    {"[nfq]\nwatchdog = 4s\n", "nfq.watchdog needs a restart; keeping 3s"},
    {"[nfq]\nprobe = no\n", "nfq.probe needs a restart; keeping yes"},
    {"[nfq]\nprobe-after = 6s\n", "nfq.probe-after needs a restart; keeping 5s"},
    {"[nfq]\nbypass = yes\n", "nfq.bypass needs a restart; keeping no"},
    {"[nfq]\nmark = 0x600\n", "nfq.mark needs a restart; keeping 0x3000000"},
    {"[process]\nuser = mail\n", "process.user needs a restart; keeping nobody"},
    {"[process]\npid-file = /a\n", "process.pid-file needs a restart; keeping it empty"},
    {"[process]\nsystem-call-filter = no\n", "process.system-call-filter needs a restart; keeping yes"},
    {"[limits]\nmax-sources = 3\n", "limits.max-sources needs a restart; keeping 65536"},
    {"[limits]\nipv6-prefix = 48\n", "limits.ipv6-prefix needs a restart; keeping 64"},
};
#define FIXED_COUNT (sizeof fixed_keys / sizeof fixed_keys[0])

static void test_each_key_that_needs_a_restart(void **state)
{
    (void)state;
    struct settings *running = load_good("");
    size_t fixed = 0;
    for (size_t i = 0; i < settings_row_count; i++) {
        fixed += !settings_rows[i].reloadable;
    }
    assert_int_equal(fixed, FIXED_COUNT);
    for (size_t i = 0; i < FIXED_COUNT; i++) {
        const struct settings_row *rows[SETTINGS_MAX_ROWS];
        char line[SETTINGS_DIFFERENCE_SIZE];
        struct settings *loaded = load_good(fixed_keys[i].text);
        assert_int_equal(settings_compare(running, loaded, rows, SETTINGS_MAX_ROWS), 1);
        assert_string_equal(settings_difference_format(rows[0], running, line), fixed_keys[i].line);
        settings_keep(loaded, running);
        assert_int_equal(settings_compare(running, loaded, rows, SETTINGS_MAX_ROWS), 0);
        assert_memory_equal(loaded, running, sizeof *running);
        settings_destroy(loaded);
    }
    settings_destroy(running);
}

static void test_a_reload_takes_the_rest(void **state)
{
    (void)state;
    const struct settings_row *rows[2];
    struct settings *running = load_good("[process]\nuser = mail\n");
    struct settings *loaded =
        load_good("[proxy]\nlisten-port = 1\nworkers = 1\nprobe = no\n[process]\nuser =\n"
                  "[limits]\nper-source = 9\n[source a]\nnetworks = ::1\n");
    assert_int_equal(settings_compare(running, loaded, rows, 2), 3); /* more than there is room for */
    assert_string_equal(rows[0]->key, "listen-port");
    assert_string_equal(rows[1]->key, "workers");
    assert_int_equal(settings_compare(running, loaded, NULL, 0), 3);
    settings_keep(loaded, running);
    assert_int_equal(loaded->proxy.listen_port, 10025);
    assert_int_equal(loaded->proxy.workers, 0);
    assert_string_equal(loaded->process.user, "mail");
    assert_false(loaded->proxy.probe);
    assert_int_equal(loaded->policy.limits.per_source_count, 9);
    assert_int_equal(loaded->policy.source_count, 1);
    settings_destroy(running);
    settings_destroy(loaded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_settings_do_not_differ),
        cmocka_unit_test(test_each_key_that_needs_a_restart),
        cmocka_unit_test(test_a_reload_takes_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
