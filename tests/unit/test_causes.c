/* The words of a verdict and their documentation. Run with --print to write smtpwitness-verdicts(7) to
 * standard output: that is how man/smtpwitness-verdicts.7 is made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/fault/causes.h"
#include "core/fault/evidence.h"
#include "core/fault/verdict.h"
#include "core/report/record_fields.h"
#include "daemon/causes_print.h"

#define SUMMARY_MAX    100 /* one line of a list */
#define FIELD_MAX      800 /* what one reads at night */
#define CAUSE_NAME_MAX 21  /* a column of `smtpwitness explain` */

static void check_name(const char *name)
{
    assert_non_null(name);
    assert_true(name[0] >= 'a' && name[0] <= 'z');
    assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-"), strlen(name));
    assert_true(name[strlen(name) - 1] != '-');
    assert_null(strstr(name, "--"));
}

/* Names are well formed and differ from each other. */
#define CHECK_NAMES(first, count, type, name_function)                                                       \
    for (int a = (first); a < (int)(count); a++) {                                                           \
        check_name(name_function((type)a));                                                                  \
        for (int b = (first); b < a; b++) {                                                                  \
            assert_string_not_equal(name_function((type)a), name_function((type)b));                         \
        }                                                                                                    \
    }                                                                                                        \
    assert_string_equal(name_function((type)(count)), "unknown")

static void test_names_are_unique(void **state)
{
    (void)state;
    CHECK_NAMES(0, FAULT_COUNT, enum fault, fault_name);
    CHECK_NAMES(0, CONFIDENCE_COUNT, enum confidence, confidence_name);
    CHECK_NAMES(0, CAUSE_COUNT, enum cause, cause_name);
    CHECK_NAMES(0, WHERE_COUNT, enum where, where_name);
    CHECK_NAMES(0, ENDED_BY_COUNT, enum ended_by, ended_by_name);
    CHECK_NAMES(LIMIT_BY_CLIENT, LIMIT_BY_COUNT, enum limit_by, limit_by_name);
    CHECK_NAMES(0, ACTION_COUNT, enum action, action_name);
    CHECK_NAMES(0, NOTE_COUNT, unsigned, note_name);
    CHECK_NAMES(0, PROBE_COUNT, enum probe_result, probe_result_name);
    CHECK_NAMES(0, CONNECT_COUNT, enum connect_result, connect_result_name);
}

/* Administrators' filters depend on these; a change here breaks them. */
static void test_spelling(void **state)
{
    (void)state;
    static const char *const causes[] = {
        "clean",
        "probe-only",
        "idle-reaped",
        "early-talk",
        "gave-up-early",
        "command-stall",
        "unterminated-command",
        "data-start-stall",
        "body-stall",
        "slow-sender",
        "unterminated-body",
        "body-without-354",
        "tls-handshake-stall",
        "aborted",
        "port-closed",
        "backlog-full",
        "greeting-stall",
        "reply-stall",
        "incomplete-reply",
        "unterminated-reply",
        "not-reading",
        "end-of-data-stall",
        "overload",
        "shutdown",
        "early-close",
        "silent-close",
        "tls-alert",
        "connect-unanswered",
        "unreachable",
        "leg-unanswered",
        "octets-lost",
        "path-mtu-black-hole",
        "loss",
        "bandwidth",
        "reset-injected",
        "connect-rejected",
        "admin-prohibited",
        "verbs-rewritten",
        "capabilities-masked",
        "long-line-killed",
        "window-scale-broken",
        "sequence-rewritten",
        "state-expired",
        "split-dot",
        "source-filtered",
        "per-source-limit",
        "per-source-rate",
        "reputation",
        "greylisting",
        "tarpit",
        "size-limit",
        "session-time-limit",
        "rejected",
        "witness-limit",
        "icmp-undiverted",
        "own-drop",
        "observer-loss",
        "witness-stopped",
        "capture-gap",
        "undetermined",
    };
    assert_int_equal(sizeof causes / sizeof causes[0], CAUSE_COUNT);
    for (size_t at = 0; at < CAUSE_COUNT; at++) {
        assert_true(cause_by_name(causes[at]) < CAUSE_COUNT);
    }
    assert_string_equal(fault_name(FAULT_SERVER_NETWORK), "server-network");
    assert_string_equal(fault_name(FAULT_NONE), "none");
    assert_string_equal(confidence_name(CONFIDENCE_CERTAIN), "certain");
    assert_string_equal(where_name(WHERE_HERE), "here");
    assert_string_equal(ended_by_name(ENDED_BY_CAPTURE_END), "capture-end");
    assert_string_equal(limit_by_name(LIMIT_BY_NONE), "");
    assert_string_equal(limit_by_name(LIMIT_BY_MIDDLEBOX), "middlebox");
    assert_string_equal(action_name(ACTION_WOULD_REFUSE), "would-refuse");
    assert_string_equal(note_name(0), "server-limit-below-rfc");
    assert_string_equal(note_name(14), "data-before-354");
    assert_string_equal(note_name(NOTE_COUNT - 1), "tcp-rewritten-server-leg");
    assert_string_equal(probe_result_name(PROBE_REVEALED), "revealed");
    assert_string_equal(connect_result_name(CONNECT_TIMED_OUT), "timed-out");
}

static void test_round_trip(void **state)
{
    (void)state;
    for (enum cause cause = CAUSE_CLEAN; cause < CAUSE_COUNT; cause++) {
        assert_int_equal(cause_by_name(cause_name(cause)), cause);
        assert_true(strlen(cause_name(cause)) <= CAUSE_NAME_MAX);
    }
    assert_int_equal(cause_by_name(""), CAUSE_COUNT);
    assert_int_equal(cause_by_name("Clean"), CAUSE_COUNT);
    assert_int_equal(cause_by_name("clean "), CAUSE_COUNT);
    assert_int_equal(cause_by_name("unknown"), CAUSE_COUNT);
    assert_ptr_equal(cause_text(CAUSE_COUNT), cause_text(CAUSE_UNDETERMINED));
}

/* Printable ASCII, single blanks, backquotes in pairs with nothing but blanks and punctuation around them. */
static void check_text(const char *text, size_t longest)
{
    size_t length = strlen(text);

    assert_in_range(length, 8, longest);
    assert_true(text[0] != ' ' && text[length - 1] != ' ');
    assert_null(strstr(text, "  "));
    bool open = false;
    for (size_t at = 0; at < length; at++) {
        assert_true(text[at] >= ' ' && text[at] <= '~');
        assert_true(text[at] != '\\');
        if (text[at] != '`') {
            continue;
        }
        if (!open) {
            assert_true(at == 0 || text[at - 1] == ' ' || text[at - 1] == '(');
            assert_true(at < 2 || text[at - 1] != '(' || text[at - 2] == ' ');
            assert_true(text[at + 1] != ' ' && text[at + 1] != '`');
        } else {
            assert_true(text[at - 1] != ' ');
            assert_true(strspn(text + at + 1, ".,;:)?") == strcspn(text + at + 1, " "));
        }
        open = !open;
    }
    assert_false(open);
}

static void check_sentences(const char *text)
{
    assert_true(strchr(".?)", text[strlen(text) - 1]) != NULL);
    check_text(text, FIELD_MAX);
}

static void test_every_cause_is_documented(void **state)
{
    (void)state;
    for (enum cause cause = CAUSE_CLEAN; cause < CAUSE_COUNT; cause++) {
        const struct cause_text *text = cause_text(cause);
        size_t steps = 0;

        assert_non_null(text->summary);
        assert_non_null(text->seen);
        assert_non_null(text->proves);
        assert_non_null(text->manual);
        check_text(text->summary, SUMMARY_MAX);
        assert_true(text->summary[strlen(text->summary) - 1] != '.');
        assert_true(text->summary[0] >= 'a' && text->summary[0] <= 'z');
        check_sentences(text->seen);
        check_sentences(text->proves);
        check_text(text->manual, SUMMARY_MAX + 20);
        const char *all[] = {text->client_step, text->server_step, text->network_step};
        for (size_t at = 0; at < 3; at++) {
            if (all[at] != NULL) {
                check_sentences(all[at]);
                steps++;
            }
        }
        assert_true(steps > 0 || cause == CAUSE_CLEAN);
        for (enum cause other = CAUSE_CLEAN; other < cause; other++) {
            assert_string_not_equal(text->summary, cause_text(other)->summary);
        }
    }
}

/* The closed list says whom each cause names. */
static void test_fault_of_causes(void **state)
{
    (void)state;
    for (enum cause cause = CAUSE_CLEAN; cause < CAUSE_COUNT; cause++) {
        enum fault fault = cause_text(cause)->fault;

        if (cause <= CAUSE_IDLE_REAPED) {
            assert_int_equal(fault, FAULT_NONE);
        } else if (cause == CAUSE_TLS_HANDSHAKE_STALL || cause == CAUSE_ABORTED || cause == CAUSE_TLS_ALERT) {
            assert_int_equal(fault, FAULT_COUNT);
        } else if (cause <= CAUSE_BODY_WITHOUT_354) {
            assert_int_equal(fault, FAULT_CLIENT);
        } else if (cause <= CAUSE_SILENT_CLOSE) {
            assert_int_equal(fault, FAULT_SERVER);
        } else if (cause <= CAUSE_BANDWIDTH) {
            assert_int_equal(fault, FAULT_SERVER_NETWORK);
        } else if (cause <= CAUSE_SPLIT_DOT) {
            assert_int_equal(fault, FAULT_MIDDLEBOX);
        } else if (cause <= CAUSE_WITNESS_LIMIT) {
            assert_int_equal(fault, FAULT_POLICY);
        } else if (cause <= CAUSE_WITNESS_STOPPED) {
            assert_int_equal(fault, FAULT_WITNESS);
        } else {
            assert_int_equal(fault, FAULT_UNKNOWN);
        }
    }
}

/* Not inlined: gcc 12 would take the memory of the stream for a local variable. */
__attribute__((noinline)) static char *print_to_memory(void (*print)(FILE *, enum cause), enum cause cause)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);

    assert_non_null(stream);
    print(stream, cause);
    assert_int_equal(fclose(stream), 0);
    return text;
}

static void print_list(FILE *stream, enum cause cause)
{
    (void)cause;
    causes_print_list(stream);
}

static void print_manual(FILE *stream, enum cause cause)
{
    (void)cause;
    causes_print_manual(stream);
}

static void check_columns(const char *text)
{
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");

        assert_true(length <= CAUSES_PRINT_COLUMNS);
        assert_true(length == 0 || text[length - 1] != ' ');
        text += length;
        assert_int_equal(*text, '\n');
        text++;
    }
}

static void test_terminal_fits(void **state)
{
    (void)state;
    for (enum cause cause = CAUSE_CLEAN; cause < CAUSE_COUNT; cause++) {
        char *text = print_to_memory(causes_print_one, cause);

        check_columns(text);
        assert_ptr_equal(strstr(text, cause_name(cause)), text);
        assert_non_null(strstr(text, "\nfault: "));
        assert_non_null(strstr(text, "\nWhat it proves\n    "));
        free(text);
    }
    char *outside = print_to_memory(causes_print_one, CAUSE_COUNT);
    assert_ptr_equal(strstr(outside, "undetermined: "), outside);
    free(outside);

    char *list = print_to_memory(print_list, CAUSE_CLEAN);
    check_columns(list);
    for (enum cause cause = CAUSE_CLEAN; cause < CAUSE_COUNT; cause++) {
        assert_non_null(strstr(list, cause_name(cause)));
    }
    free(list);
}

/* Every key of the line and every note is explained, in the order of the line. */
static void test_manual_explains_the_line(void **state)
{
    (void)state;
    char *page = print_to_memory(print_manual, CAUSE_CLEAN);
    const char *at = strstr(page, "\n.Sh KEYS\n");

    for (unsigned field = 0; field < RECORD_FIELD_COUNT; field++) {
        char item[64] = "\n.It Cm ";
        size_t used = strlen(item);

        for (const char *name = record_field_name((enum record_field)field); *name != '\0'; name++) {
            assert_true(used + 4 < sizeof item);
            if (*name == '-') {
                item[used++] = '\\';
            }
            item[used++] = *name;
        }
        item[used++] = '\n';
        item[used] = '\0';
        assert_non_null(at);
        at = strstr(at, item);
        assert_non_null(at);
        at += used - 1;
    }
    assert_true(at < strstr(page, "\n.Sh VALUES\n"));
    free(page);
}

/* The page that is shipped is the one this code writes. `make generate` makes it anew. */
static void test_manual_is_current(void **state)
{
    (void)state;
    char *wanted = print_to_memory(print_manual, CAUSE_CLEAN);
    size_t length = strlen(wanted);
    FILE *page = fopen("man/smtpwitness-verdicts.7", "r");

    assert_non_null(page);
    char *shipped = calloc(1, length + 2);
    assert_non_null(shipped);
    size_t got = fread(shipped, 1, length + 1, page);
    assert_int_equal(fclose(page), 0);
    assert_int_equal(got, length);
    assert_memory_equal(shipped, wanted, length);
    free(shipped);
    free(wanted);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--print") == 0) {
        causes_print_manual(stdout);
        return fflush(stdout) == 0 && !ferror(stdout) ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_unique),
        cmocka_unit_test(test_spelling),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_cause_is_documented),
        cmocka_unit_test(test_fault_of_causes),
        cmocka_unit_test(test_terminal_fits),
        cmocka_unit_test(test_manual_explains_the_line),
        cmocka_unit_test(test_manual_is_current),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
