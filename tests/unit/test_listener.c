/* proxy/listener: what accept(2) may say, and what becomes of it. accept4() is ours. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <cmocka.h>

#include "proxy/listener.h"

static int failure;

int accept4(int fd, __SOCKADDR_ARG address, socklen_t *restrict length, int flags)
{
    (void)fd;
    (void)address.__sockaddr__;
    (void)length;
    (void)flags;
    errno = failure;
    return -1;
}

static enum listener_result result_of(int error)
{
    struct address client, server;
    int fd = -1;

    failure = error;
    return listener_accept(0, &fd, &client, &server);
}

static void lack_of_anything_is_a_shortage(void **state)
{
    static const int errors[] = {EMFILE, ENFILE, ENOMEM, ENOBUFS};

    (void)state;
    for (size_t index = 0; index < sizeof errors / sizeof errors[0]; index++)
        assert_int_equal(result_of(errors[index]), LISTENER_SHORTAGE);
}

static void an_empty_queue_is_empty(void **state)
{
    (void)state;
    assert_int_equal(result_of(EAGAIN), LISTENER_EMPTY);
}

/* accept(2): errors of the connection that waited, and a signal: the next one may be better. */
static void anothers_errors_are_passed_over(void **state)
{
    static const int errors[] = {ECONNABORTED, EINTR,  EPERM,      ENETDOWN,  EPROTO,      ENOPROTOOPT,
                                 EHOSTDOWN,    ENONET, EOPNOTSUPP, ETIMEDOUT, ENETUNREACH, EHOSTUNREACH};

    (void)state;
    for (size_t index = 0; index < sizeof errors / sizeof errors[0]; index++)
        assert_int_equal(result_of(errors[index]), LISTENER_AGAIN);
}

static void a_broken_listener_is_told(void **state)
{
    static const int errors[] = {EBADF, EINVAL, ENOTSOCK, EFAULT};

    (void)state;
    for (size_t index = 0; index < sizeof errors / sizeof errors[0]; index++)
        assert_int_equal(result_of(errors[index]), LISTENER_BROKEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lack_of_anything_is_a_shortage),
        cmocka_unit_test(an_empty_queue_is_empty),
        cmocka_unit_test(anothers_errors_are_passed_over),
        cmocka_unit_test(a_broken_listener_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
