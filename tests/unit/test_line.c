#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/stream/line.h"
#include "tests/unit/guard_page.h"

struct expected {
    const char *text;
    bool bare_lf;
};

/* Feeds `octets` cut in pieces of the given lengths (the last repeats) and compares the lines. */
static void check_lines(struct guard_page *guard, const char *octets, size_t length, size_t first,
                        size_t piece, const struct expected *expected, size_t count)
{
    struct line line = {0};
    size_t seen = 0, at = 0;
    while (at < length) {
        size_t taken = at == 0 ? first : piece;
        taken = taken < length - at ? taken : length - at;
        const uint8_t *span = guard_page_put(guard, octets + at, taken);
        size_t left = taken;
        struct line_view view;
        while (line_next(&line, &span, &left, &view)) {
            assert_true(seen < count);
            assert_int_equal(view.length, strlen(expected[seen].text));
            assert_memory_equal(view.text, expected[seen].text, view.length);
            assert_int_equal(view.total, view.length);
            assert_int_equal(view.bare_lf, expected[seen].bare_lf);
            assert_false(view.truncated);
            seen++;
        }
        assert_int_equal(left, 0);
        at += taken;
    }
    assert_int_equal(seen, count);
    line_clear(&line);
}

static void test_lines_however_cut(void **state)
{
    (void)state;
    static const char octets[] = "EHLO c\r\n\r\nbare\n\n\rcr\rin\r\r\n.\r\nlast\r\nopen";
    static const struct expected expected[] = {{"EHLO c", false}, {"", false},           {"bare", true},
                                               {"", true},        {"\rcr\rin\r", false}, {".", false},
                                               {"last", false}};
    size_t length = sizeof octets - 1;
    struct guard_page guard;
    guard_page_init(&guard, sizeof octets);
    for (size_t piece = 1; piece <= length; piece++)
        check_lines(&guard, octets, length, piece, piece, expected, 7);
    for (size_t first = 1; first < length; first++)
        check_lines(&guard, octets, length, first, length, expected, 7);
    guard_page_free(&guard);
}

static void feed(struct line *line, const char *octets, size_t length)
{
    const uint8_t *span = (const uint8_t *)octets;
    struct line_view view;
    assert_false(line_next(line, &span, &length, &view));
    assert_int_equal(length, 0);
}

static void test_open_and_memory(void **state)
{
    (void)state;
    struct line line = {0};
    assert_false(line_is_open(&line));
    feed(&line, "MAIL", 4);
    assert_true(line_is_open(&line));
    assert_non_null(line.held);
    const uint8_t *span = (const uint8_t *)"\r\nNOOP\r\n";
    size_t length = 8;
    struct line_view view;
    assert_true(line_next(&line, &span, &length, &view));
    assert_int_equal(view.length, 4);
    assert_memory_equal(view.text, "MAIL", 4);
    assert_false(line_is_open(&line));
    assert_true(line_next(&line, &span, &length, &view));
    assert_null(line.held); /* no memory while no line is split */
    assert_false(line_next(&line, &span, &length, &view));
    assert_null(line.held);
    line_clear(&line);
}

static void check_long(size_t total, size_t piece)
{
    char *octets = malloc(total + 2);
    assert_non_null(octets);
    memset(octets, 'a', total);
    memcpy(octets + total, "\r\n", 2);
    struct line line = {0};
    bool ended = false;
    for (size_t at = 0; at < total + 2; at += piece) {
        const uint8_t *span = (const uint8_t *)octets + at;
        size_t length = piece < total + 2 - at ? piece : total + 2 - at;
        struct line_view view;
        if (!line_next(&line, &span, &length, &view))
            continue;
        ended = true;
        assert_int_equal(view.total, total);
        assert_int_equal(view.length, total < LINE_KEEP_OCTETS ? total : LINE_KEEP_OCTETS);
        assert_int_equal(view.truncated, total > LINE_KEEP_OCTETS);
        assert_false(view.bare_lf);
        for (size_t i = 0; i < view.length; i++)
            assert_int_equal(view.text[i], 'a');
    }
    assert_true(ended);
    line_clear(&line);
    free(octets);
}

static void test_long_lines(void **state)
{
    (void)state;
    static const size_t totals[] = {1,
                                    LINE_KEEP_OCTETS - 2,
                                    LINE_KEEP_OCTETS - 1,
                                    LINE_KEEP_OCTETS,
                                    LINE_KEEP_OCTETS + 1,
                                    LINE_KEEP_OCTETS + 2,
                                    5000};
    static const size_t pieces[] = {1, 2, 1000, 1023, 1024, 1025, 1026, 6000};
    for (size_t i = 0; i < sizeof totals / sizeof totals[0]; i++)
        for (size_t j = 0; j < sizeof pieces / sizeof pieces[0]; j++)
            check_long(totals[i], pieces[j]);
}

static void test_nul_is_noted_once(void **state)
{
    (void)state;
    struct line line = {0};
    feed(&line, "a\0", 2);
    const uint8_t *span = (const uint8_t *)"b\r\nc\r\n\0\r\n";
    size_t length = 9;
    struct line_view view;
    assert_true(line_next(&line, &span, &length, &view));
    assert_true(view.nul);
    assert_memory_equal(view.text, "a\0b", 3);
    assert_true(line_next(&line, &span, &length, &view));
    assert_false(view.nul);
    assert_true(line_next(&line, &span, &length, &view));
    assert_true(view.nul);
    line_clear(&line);
}

static void test_gap_discards_to_the_next_line(void **state)
{
    (void)state;
    struct line line = {0};
    feed(&line, "MAIL FR", 7);
    line_gap(&line);
    assert_false(line_is_open(&line));
    feed(&line, "rest of", 7);
    const uint8_t *span = (const uint8_t *)" it\r\nQUIT\r\n";
    size_t length = 11;
    struct line_view view;
    assert_true(line_next(&line, &span, &length, &view));
    assert_int_equal(view.length, 4);
    assert_memory_equal(view.text, "QUIT", 4);
    assert_false(line_next(&line, &span, &length, &view));
    line_clear(&line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_however_cut),
        cmocka_unit_test(test_open_and_memory),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_nul_is_noted_once),
        cmocka_unit_test(test_gap_discards_to_the_next_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
