/* proxy/connect_error: one errno, several truths. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "proxy/connect_error.h"

static void told_apart(void **state)
{
    static const struct {
        int error;
        struct icmp_error icmp;
        enum connect_result result;
    } cases[] = {
        {ECONNREFUSED, {.seen = false}, CONNECT_REFUSED},
        {ECONNREFUSED, {.seen = true, .type = 3, .code = 3}, CONNECT_REJECTED},
        {ENOPROTOOPT, {.seen = true, .type = 3, .code = 2}, CONNECT_REJECTED},
        {EHOSTUNREACH, {.seen = false}, CONNECT_UNREACHABLE},
        {EHOSTUNREACH, {.seen = true, .type = 3, .code = 1}, CONNECT_UNREACHABLE},
        {ENETUNREACH, {.seen = true, .type = 3, .code = 0}, CONNECT_UNREACHABLE},
        {ENETUNREACH, {.seen = true, .type = 3, .code = 9}, CONNECT_PROHIBITED},
        {EHOSTUNREACH, {.seen = true, .type = 3, .code = 10}, CONNECT_PROHIBITED},
        {EHOSTUNREACH, {.seen = true, .type = 3, .code = 13}, CONNECT_PROHIBITED},
        {EACCES, {.seen = true, .ipv6 = true, .type = 1, .code = 1}, CONNECT_PROHIBITED},
        {EACCES, {.seen = true, .ipv6 = true, .type = 1, .code = 5}, CONNECT_PROHIBITED},
        {EHOSTUNREACH, {.seen = true, .ipv6 = true, .type = 1, .code = 3}, CONNECT_UNREACHABLE},
        {ENETUNREACH, {.seen = true, .ipv6 = true, .type = 1, .code = 0}, CONNECT_UNREACHABLE},
        {ECONNREFUSED, {.seen = true, .ipv6 = true, .type = 1, .code = 4}, CONNECT_REJECTED},
        {ETIMEDOUT, {.seen = false}, CONNECT_TIMED_OUT},
        /* "Too big" is a notice: it explains no refusal. */
        {ECONNREFUSED, {.seen = true, .type = 3, .code = 4}, CONNECT_REFUSED},
        {ETIMEDOUT, {.seen = true, .ipv6 = true, .type = 2}, CONNECT_TIMED_OUT},
        {EADDRNOTAVAIL, {.seen = false}, CONNECT_LOCAL_ERROR},
        {EPERM, {.seen = false}, CONNECT_LOCAL_ERROR},
    };

    (void)state;
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++)
        assert_int_equal(connect_error_classify(cases[index].error, &cases[index].icmp), cases[index].result);
}

static void soft_or_final(void **state)
{
    (void)state;
    assert_true(icmp_error_is_soft(EHOSTUNREACH));
    assert_true(icmp_error_is_soft(ECONNREFUSED));
    assert_true(icmp_error_is_soft(EACCES));
    assert_false(icmp_error_is_soft(ECONNRESET));
    assert_false(icmp_error_is_soft(ETIMEDOUT));
    assert_false(icmp_error_is_soft(EPIPE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(told_apart), cmocka_unit_test(soft_or_final)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
