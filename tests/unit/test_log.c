/* The log: what reaches which sink, what is left out and counted, and that nobody ever waits for it. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/log_rate.h"
#include "daemon/log_ring.h"

#define SECOND_US UINT64_C(1000000)

/* ---- the rate ---- */

static unsigned take_many(struct log_rate *rate, unsigned tries, uint64_t now_us)
{
    unsigned taken = 0;

    for (unsigned i = 0; i < tries; i++) {
        taken += log_rate_take(rate, now_us) ? 1 : 0;
    }
    return taken;
}

static void test_rate_allows_its_limit_a_second(void **state)
{
    struct log_rate rate;
    uint64_t now_us = 5 * SECOND_US;

    (void)state;
    log_rate_init(&rate, 500, now_us);
    assert_int_equal(take_many(&rate, 2000, now_us), 500);
    assert_int_equal(take_many(&rate, 2000, now_us + 1999), 0);
    assert_int_equal(take_many(&rate, 2000, now_us + 2000), 1); /* one line each 2 ms */
    assert_int_equal(take_many(&rate, 2000, now_us + 2000 + SECOND_US), 500);
    assert_int_equal(take_many(&rate, 2000, now_us + 3600 * SECOND_US),
                     500); /* an hour's rest is not saved up */
}

static void test_rate_small_steps_lose_nothing(void **state)
{
    struct log_rate rate;
    uint64_t now_us = SECOND_US;
    unsigned taken = 0;

    (void)state;
    log_rate_init(&rate, 3, now_us);
    assert_int_equal(take_many(&rate, 10, now_us), 3);
    for (unsigned i = 0; i < 100000;
         i++) { /* 10 s in steps of 100 us, each a third of a thousandth of a line */
        now_us += 100;
        taken += take_many(&rate, 1, now_us);
    }
    assert_int_equal(taken, 30);
}

static void test_rate_zero_is_no_limit_and_time_may_step_back(void **state)
{
    struct log_rate rate;

    (void)state;
    log_rate_init(&rate, 0, SECOND_US);
    assert_int_equal(take_many(&rate, 100000, SECOND_US), 100000);
    log_rate_init(&rate, 10, 100 * SECOND_US);
    assert_int_equal(take_many(&rate, 20, 100 * SECOND_US), 10);
    assert_int_equal(take_many(&rate, 20, 50 * SECOND_US), 0);
    assert_int_equal(take_many(&rate, 20, 101 * SECOND_US), 10);
}

/* ---- the ring ---- */

static void put_number(struct log_ring *ring, unsigned number, unsigned length)
{
    struct log_ring_line line = {.priority = LOG_INFO, .sinks = (uint8_t)(number & 7)};
    char text[LOG_LINE_OCTETS];

    memset(text, 'a' + (int)(number % 26), sizeof(text));
    memcpy(text, &number, sizeof(number));
    line.length = (uint16_t)length;
    assert_true(log_ring_put(ring, &line, text));
}

static void take_number(struct log_ring *ring, unsigned number, unsigned length)
{
    struct log_ring_line line;
    char text[LOG_LINE_OCTETS];
    unsigned found;

    assert_true(log_ring_take(ring, &line, text));
    memcpy(&found, text, sizeof(found));
    assert_int_equal(found, number);
    assert_int_equal(line.length, length);
    assert_int_equal(line.sinks, number & 7);
    assert_int_equal(text[length], '\0');
    for (unsigned i = sizeof(found); i < length; i++) {
        assert_int_equal(text[i], 'a' + (int)(number % 26));
    }
}

static void test_ring_keeps_order_across_its_end(void **state)
{
    struct log_ring ring;
    unsigned in = 0, out = 0;

    (void)state;
    assert_true(log_ring_init(&ring));
    while (in < 20000) { /* lengths that never divide the ring: lines and their heads wrap */
        for (unsigned i = 0; i < 1500 && ring.lines < 2000; i++, in++) {
            put_number(&ring, in, 4 + in % 2040);
        }
        for (unsigned i = 0; i < 1499 && out < in; i++, out++) {
            take_number(&ring, out, 4 + out % 2040);
        }
    }
    for (; out < in; out++) {
        take_number(&ring, out, 4 + out % 2040);
    }
    assert_int_equal(ring.used, 0);
    log_ring_clear(&ring);
}

static void test_ring_refuses_when_full(void **state)
{
    struct log_ring_line line = {.length = 10}, found;
    struct log_ring ring;
    char text[LOG_LINE_OCTETS] = "0123456789";

    (void)state;
    assert_true(log_ring_init(&ring));
    for (unsigned i = 0; i < LOG_RING_LINES; i++) { /* by lines */
        assert_true(log_ring_put(&ring, &line, text));
    }
    assert_false(log_ring_put(&ring, &line, text));
    for (unsigned i = 0; i < LOG_RING_LINES; i++) {
        assert_true(log_ring_take(&ring, &found, text));
        assert_string_equal(text, "0123456789");
    }
    assert_false(log_ring_take(&ring, &found, text));

    line.length = LOG_LINE_OCTETS - 1; /* by octets */
    memset(text, 'x', sizeof(text));
    while (log_ring_put(&ring, &line, text)) {
    }
    assert_true(ring.lines > 2000 && ring.lines < LOG_RING_LINES);
    assert_true(ring.used <= LOG_RING_OCTETS);
    assert_true(LOG_RING_OCTETS - ring.used < sizeof(line) + line.length);
    assert_true(log_ring_take(&ring, &found, text));
    assert_true(log_ring_put(&ring, &line, text));
    log_ring_clear(&ring);
}

/* ---- the log itself ---- */

static struct settings_log settings_of(void)
{
    return (struct settings_log){.facility = LOG_MAIL,
                                 .level = LOG_INFO,
                                 .ident = "smtpwitness",
                                 .stalls = true,
                                 .rate_limit_count = 0};
}

/* stderr as the log sees it: a pipe. */
struct capture {
    int real, reader, writer;
};

static void capture_begin(struct capture *capture)
{
    int ends[2];

    assert_int_not_equal(pipe(ends), -1);
    fflush(stderr);
    capture->real = dup(STDERR_FILENO);
    capture->reader = ends[0];
    capture->writer = ends[1];
    dup2(ends[1], STDERR_FILENO);
    fcntl(capture->reader, F_SETFL, O_NONBLOCK);
}

/* Puts stderr back; what was written is in `text`. */
static void capture_end(struct capture *capture, char *text, size_t room)
{
    size_t used = 0;
    ssize_t count;

    dup2(capture->real, STDERR_FILENO);
    close(capture->real);
    close(capture->writer);
    while (used + 1 < room && (count = read(capture->reader, text + used, room - used - 1)) > 0) {
        used += (size_t)count;
    }
    text[used] = '\0';
    close(capture->reader);
}

/* Fills a pipe to the last octet. */
static void fill_pipe(int writer)
{
    char octets[4096];
    int flags = fcntl(writer, F_GETFL);

    memset(octets, '.', sizeof(octets));
    fcntl(writer, F_SETFL, flags | O_NONBLOCK);
    while (write(writer, octets, sizeof(octets)) > 0 || write(writer, octets, 1) > 0) {
    }
    fcntl(writer, F_SETFL, flags);
}

static struct log *foreground_log(const struct settings_log *settings)
{
    const struct log_options options = {.foreground = true};
    struct settings_error error = {0};
    struct log *log = log_create(settings, &options, &error);

    assert_non_null(log);
    return log;
}

static struct record record_of(enum record_kind kind, enum fault fault)
{
    struct record record = {.kind = kind, .session_id = "7f3a-12"};

    record.verdict.fault = fault;
    record.verdict.cause = fault == FAULT_NONE ? CAUSE_CLEAN : CAUSE_DATA_START_STALL;
    record.client.octets[10] = record.client.octets[11] = 0xff;
    record.server = record.client;
    snprintf(record.verdict.explain, sizeof(record.verdict.explain), "because");
    return record;
}

static unsigned count_of(const char *text, const char *wanted)
{
    unsigned count = 0;

    for (const char *at = strstr(text, wanted); at != NULL; at = strstr(at + 1, wanted)) {
        count++;
    }
    return count;
}

static void test_message_is_one_clean_line(void **state)
{
    struct settings_log settings = settings_of();
    struct capture capture;
    struct log *log;
    char text[8192];

    (void)state;
    capture_begin(&capture);
    log = foreground_log(&settings);
    log_message(log, LOG_NOTICE, "proxy", "ready, listening on port %d", 10025);
    log_message(log, LOG_NOTICE, "proxy", "peer said %s", "evil\nverdict fault=none\x1b[2J");
    log_message(log, LOG_NOTICE, "proxy", "%5000s", "far");
    log_destroy(log);
    capture_end(&capture, text, sizeof(text));
    assert_non_null(strstr(text, "smtpwitness: proxy: ready, listening on port 10025\n"));
    assert_non_null(strstr(text, "smtpwitness: proxy: peer said evil?verdict fault=none?[2J\n"));
    assert_int_equal(count_of(text, "\n"), 3);
}

static void test_filters_of_verdicts_and_stalls(void **state)
{
    struct settings_log settings = settings_of();
    struct record clean = record_of(RECORD_VERDICT, FAULT_NONE);
    struct record fault = record_of(RECORD_VERDICT, FAULT_CLIENT);
    struct record stall = record_of(RECORD_STALL, FAULT_CLIENT);
    struct record refusal = record_of(RECORD_REFUSAL, FAULT_NONE);
    struct capture capture;
    struct log *log;
    char text[16384];

    (void)state;
    for (int few = 0; few < 2; few++) {
        settings.verdicts = few ? SETTINGS_LOG_FAULTS : SETTINGS_LOG_ALL;
        settings.stalls = !few;
        capture_begin(&capture);
        log = foreground_log(&settings);
        log_record(log, &clean);
        log_record(log, &fault);
        log_record(log, &stall);
        log_record(log, &refusal);
        log_destroy(log);
        capture_end(&capture, text, sizeof(text));
        assert_int_equal(count_of(text, "smtpwitness: verdict "), few ? 1 : 2);
        assert_int_equal(count_of(text, "smtpwitness: stall "), few ? 0 : 1);
        assert_int_equal(count_of(text, "smtpwitness: refusal "), 1);
    }
}

static void read_file(const char *path, char *text, size_t room)
{
    int fd = open(path, O_RDONLY);
    ssize_t count;

    assert_int_not_equal(fd, -1);
    count = read(fd, text, room - 1);
    assert_true(count >= 0);
    text[count] = '\0';
    close(fd);
}

static void test_json_file_and_its_rotation(void **state)
{
    struct settings_log settings = settings_of();
    struct settings_error error = {0};
    struct record record = record_of(RECORD_VERDICT, FAULT_CLIENT);
    char directory[] = "/tmp/test_log.XXXXXX";
    char rotated[64], text[8192], lines[8192];
    struct capture capture;
    struct log *log;

    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(settings.json_file, sizeof(settings.json_file), "%s/lines.json", directory);
    snprintf(rotated, sizeof(rotated), "%s/lines.json.1", directory);
    capture_begin(&capture);
    log = foreground_log(&settings);
    log_record(log, &record);
    log_message(log, LOG_INFO, "proxy", "text only");
    log_destroy(log); /* the thread has written everything */
    log = foreground_log(&settings);
    rename(settings.json_file, rotated);
    assert_true(log_reconfigure(log, &settings, &error));
    log_record(log, &record);
    log_record(log, &record);
    log_destroy(log);
    capture_end(&capture, text, sizeof(text));

    assert_int_equal(count_of(text, "verdict session="), 3);
    read_file(rotated, lines, sizeof(lines));
    assert_int_equal(count_of(lines, "\n"), 1);
    assert_int_equal(lines[0], '{');
    assert_null(strstr(lines, "text only"));
    read_file(settings.json_file, lines, sizeof(lines));
    assert_int_equal(count_of(lines, "{\""), 2);
    unlink(rotated);
    unlink(settings.json_file);
    rmdir(directory);
}

static void test_bad_json_file_is_one_line_and_changes_nothing(void **state)
{
    struct settings_log settings = settings_of();
    struct settings_log wrong = settings_of();
    const struct log_options options = {.foreground = true};
    struct settings_error error = {0};
    struct record record = record_of(RECORD_VERDICT, FAULT_CLIENT);
    char directory[] = "/tmp/test_log.XXXXXX";
    struct capture capture;
    struct log *log;
    char text[8192];

    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(wrong.json_file, sizeof(wrong.json_file), "%s/missing/lines.json", directory);
    wrong.verdicts = SETTINGS_LOG_FAULTS;
    assert_null(log_create(&wrong, &options, &error));
    assert_non_null(strstr(error.text, "json-file"));
    assert_null(strchr(error.text, '\n'));

    record.verdict.fault = FAULT_NONE;
    capture_begin(&capture);
    log = foreground_log(&settings);
    assert_false(log_reconfigure(log, &wrong, &error));
    log_record(log, &record); /* still wanted: the old settings are in force */
    log_destroy(log);
    capture_end(&capture, text, sizeof(text));
    assert_int_equal(count_of(text, "verdict "), 1);

    /* A named pipe that nobody reads must not stop the start. */
    snprintf(wrong.json_file, sizeof(wrong.json_file), "%s/pipe", directory);
    assert_int_equal(mkfifo(wrong.json_file, 0600), 0);
    assert_null(log_create(&wrong, &options, &error));
    unlink(wrong.json_file);
    rmdir(directory);
}

static void test_rate_limit_counts_what_it_leaves_out(void **state)
{
    struct settings_log settings = settings_of();
    struct record record = record_of(RECORD_VERDICT, FAULT_CLIENT);
    struct capture capture;
    struct log_stats stats;
    struct log *log;
    char text[65536], wanted[64];

    (void)state;
    settings.rate_limit_count = 5;
    capture_begin(&capture);
    log = foreground_log(&settings);
    for (int i = 0; i < 1000; i++) {
        log_record(log, &record);
    }
    log_message(log, LOG_WARNING, "proxy", "a flood of records does not hide this");
    log_stats(log, &stats);
    log_destroy(log);
    capture_end(&capture, text, sizeof(text));
    assert_in_range(stats.left_out_rate, 900, 995); /* a few pass if the test takes its time */
    assert_int_equal(count_of(text, "verdict ") + stats.left_out_rate, 1000);
    assert_non_null(strstr(text, "a flood of records does not hide this"));
    assert_true(count_of(text, "log: left out ") > 0);
    snprintf(wanted, sizeof(wanted), "log: left out %u lines (%u over the rate limit",
             (unsigned)stats.left_out_rate, (unsigned)stats.left_out_rate);
    if (count_of(text, "log: left out ") == 1) { /* else the count came in parts */
        assert_non_null(strstr(text, wanted));
    }
}

static void test_blocked_sink_stops_nobody(void **state)
{
    enum { TRIES = 3 * LOG_RING_LINES };
    struct settings_log settings = settings_of();
    struct capture capture;
    struct log_stats stats;
    uint64_t before_us, logged_us, destroyed_us;
    struct log *log;
    char *text = malloc(1 << 20);

    (void)state;
    assert_non_null(text);
    capture_begin(&capture);
    fill_pipe(capture.writer);
    log = foreground_log(&settings);
    before_us = clock_monotonic_us();
    for (int i = 0; i < TRIES; i++) {
        log_message(log, LOG_INFO, "proxy", "line %d", i);
    }
    logged_us = clock_monotonic_us() - before_us;
    log_stats(log, &stats);
    before_us = clock_monotonic_us();
    log_destroy(log);
    destroyed_us = clock_monotonic_us() - before_us;
    capture_end(&capture, text, 1 << 20);

    assert_true(logged_us < 5 * SECOND_US);
    assert_in_range(stats.left_out_ring, TRIES - LOG_RING_LINES - 1, TRIES - LOG_RING_LINES);
    assert_int_equal(stats.written, 0);
    assert_in_range(destroyed_us, SECOND_US / 2, 5 * SECOND_US); /* it waits a second, no longer */
    free(text);
}

/* All that reports in `text` own up to: there may be more than one. */
static unsigned long left_out(const char *text)
{
    static const char words[] = "log: left out ";
    unsigned long lines = 0;

    while ((text = strstr(text, words)) != NULL) {
        text += sizeof words - 1;
        lines += strtoul(text, NULL, 10);
    }
    return lines;
}

static void test_blocked_sink_recovers_and_says_how_many(void **state)
{
    enum { TRIES = LOG_RING_LINES + 100 };
    struct settings_log settings = settings_of();
    struct capture capture;
    struct log *log;
    size_t used = 0, room = 4 << 20;
    char *text = malloc(room);
    uint64_t until_us;

    (void)state;
    assert_non_null(text);
    capture_begin(&capture);
    fill_pipe(capture.writer);
    log = foreground_log(&settings);
    for (int i = 0; i < TRIES; i++) {
        log_message(log, LOG_INFO, "proxy", "line %d", i);
    }
    until_us = clock_monotonic_us() + 20 * SECOND_US;
    text[0] = '\0';
    while (left_out(text) < 99 && clock_monotonic_us() < until_us) { /* the reader is back */
        ssize_t count = read(capture.reader, text + used, room - used - 1);

        used += count > 0 ? (size_t)count : 0;
        text[used] = '\0';
    }
    log_destroy(log);
    capture_end(&capture, text + used, room - used);
    assert_non_null(strstr(text, "smtpwitness: proxy: line 0\n"));
    assert_in_range(left_out(text), 99, 100); /* one line may be with the thread, not in the ring */
    free(text);
}

static void test_blocked_json_pipe_does_not_stop_the_main_sink(void **state)
{
    struct settings_log settings = settings_of();
    struct record record = record_of(RECORD_VERDICT, FAULT_CLIENT);
    char directory[] = "/tmp/test_log.XXXXXX";
    struct capture capture;
    struct log_stats stats;
    struct log *log;
    char text[65536];
    uint64_t until_us;
    int reader;

    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(settings.json_file, sizeof(settings.json_file), "%s/pipe", directory);
    assert_int_equal(mkfifo(settings.json_file, 0600), 0);
    reader = open(settings.json_file, O_RDWR | O_NONBLOCK);
    assert_int_not_equal(reader, -1);
    fill_pipe(reader);
    capture_begin(&capture);
    log = foreground_log(&settings);
    for (int i = 0; i < 20; i++) {
        log_record(log, &record);
    }
    until_us = clock_monotonic_us() + 20 * SECOND_US;
    do { /* one second of patience for the first line, none for the others */
        log_stats(log, &stats);
    } while (stats.left_out_sink < 20 && clock_monotonic_us() < until_us);
    log_destroy(log);
    capture_end(&capture, text, sizeof(text));
    assert_int_equal(stats.left_out_sink, 20);
    assert_int_equal(count_of(text, "smtpwitness: verdict "), 20);
    assert_non_null(strstr(text, "JSON sink was blocked"));
    close(reader);
    unlink(settings.json_file);
    rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rate_allows_its_limit_a_second),
        cmocka_unit_test(test_rate_small_steps_lose_nothing),
        cmocka_unit_test(test_rate_zero_is_no_limit_and_time_may_step_back),
        cmocka_unit_test(test_ring_keeps_order_across_its_end),
        cmocka_unit_test(test_ring_refuses_when_full),
        cmocka_unit_test(test_message_is_one_clean_line),
        cmocka_unit_test(test_filters_of_verdicts_and_stalls),
        cmocka_unit_test(test_json_file_and_its_rotation),
        cmocka_unit_test(test_bad_json_file_is_one_line_and_changes_nothing),
        cmocka_unit_test(test_rate_limit_counts_what_it_leaves_out),
        cmocka_unit_test(test_blocked_sink_stops_nobody),
        cmocka_unit_test(test_blocked_sink_recovers_and_says_how_many),
        cmocka_unit_test(test_blocked_json_pipe_does_not_stop_the_main_sink),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
