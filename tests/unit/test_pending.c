/* proxy/pending: bounded, in order, and gone when empty. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "proxy/pending.h"

static void appends_in_order(void **state)
{
    struct pending *pending = NULL;

    (void)state;
    assert_int_equal(pending_length(pending), 0);
    assert_null(pending_octets(pending));
    assert_true(pending_append(&pending, "abc", 3, 10));
    assert_true(pending_append(&pending, "defg", 4, 10));
    assert_int_equal(pending_length(pending), 7);
    assert_memory_equal(pending_octets(pending), "abcdefg", 7);
    pending_consume(&pending, 2);
    assert_memory_equal(pending_octets(pending), "cdefg", 5);
    assert_true(pending_append(&pending, "hijkl", 5, 10));
    assert_memory_equal(pending_octets(pending), "cdefghijkl", 10);
    pending_consume(&pending, 10);
    assert_null(pending);
}

static void keeps_its_limit(void **state)
{
    struct pending *pending = NULL;

    (void)state;
    assert_true(pending_append(&pending, "12345", 5, 8));
    assert_false(pending_append(&pending, "6789", 4, 8)); /* all or nothing: half a span would be a hole */
    assert_int_equal(pending_length(pending), 5);
    assert_true(pending_append(&pending, "678", 3, 8));
    assert_false(pending_append(&pending, "9", 1, 8));
    assert_false(pending_append(&pending, "9", 1, 4)); /* a limit below what is kept already */
    pending_clear(&pending);
    assert_null(pending);
    assert_true(pending_append(&pending, "", 0, 0));
    assert_null(pending);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(appends_in_order), cmocka_unit_test(keeps_its_limit)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
