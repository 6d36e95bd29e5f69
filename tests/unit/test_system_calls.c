/* The filter is for the life of a process, so each question is asked in a child of its own. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <syslog.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/system_calls.h"

#define RESTRICTED_FAILED 99

/* What `question` returns below the filter: 0 or an errno. */
static int asked(int (*question)(void))
{
    pid_t child = fork();
    int status = 0;

    assert_int_not_equal(child, -1);
    if (child == 0) {
        struct settings_error error;
        bool restricted = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && system_calls_restrict(&error);

        _exit(restricted ? question() : RESTRICTED_FAILED);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int execute(void)
{
    char *const words[] = {"true", NULL};

    execv("/bin/true", words);
    return errno;
}

static int make_process(void)
{
    pid_t child = fork();

    if (child == 0) {
        _exit(0);
    }
    return child == -1 ? errno : 0;
}

static int make_socket(int domain)
{
    return socket(domain, SOCK_DGRAM, 0) == -1 ? errno : 0;
}

static int make_vsock(void)
{
    return make_socket(AF_VSOCK);
}

static int make_unix(void)
{
    return make_socket(AF_UNIX);
}

static int make_inet(void)
{
    return make_socket(AF_INET6);
}

static int change_user(void)
{
    return setuid(getuid()) == -1 ? errno : 0;
}

static void *nothing(void *context)
{
    return context;
}

static int make_thread(void)
{
    pthread_t thread;
    int failed = pthread_create(&thread, NULL, nothing, NULL);

    return failed != 0 ? failed : pthread_join(thread, NULL);
}

static int read_file(void)
{
    int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);

    return fd == -1 ? errno : 0;
}

static int log_line(void)
{
    openlog("test_system_calls", LOG_NDELAY, LOG_USER);
    syslog(LOG_DEBUG, "a line from a restricted process");
    closelog();
    return 0;
}

static int name_thread(void)
{
    return prctl(PR_SET_NAME, "named", 0, 0, 0) == -1 ? errno : 0;
}

static int become_dumpable(void)
{
    return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == -1 ? errno : 0;
}

static void test_what_is_refused(void **state)
{
    (void)state;
    assert_int_equal(asked(execute), EPERM);
    assert_int_equal(asked(make_process), EPERM);
    assert_int_equal(asked(make_vsock), EPERM);
    assert_int_equal(asked(change_user), EPERM);
    assert_int_equal(asked(become_dumpable), EPERM);
}

static void test_what_is_needed(void **state)
{
    (void)state;
    assert_int_equal(asked(make_unix), 0);
    assert_int_equal(asked(make_inet), 0);
    assert_int_equal(asked(make_thread), 0);
    assert_int_equal(asked(read_file), 0);
    assert_int_equal(asked(log_line), 0);
    assert_int_equal(asked(name_thread), 0);
}

static void *ask_when_told(void *context)
{
    int *go = context;
    char octet;

    (void)!read(go[0], &octet, 1);
    return (void *)(intptr_t)make_vsock();
}

/* As the log's thread, which runs before the filter comes. */
static void test_threads_that_run_get_it(void **state)
{
    pid_t child = fork();
    int status = 0;

    (void)state;
    assert_int_not_equal(child, -1);
    if (child == 0) {
        struct settings_error error;
        pthread_t thread;
        void *result = NULL;
        int go[2];

        if (pipe(go) == -1 || pthread_create(&thread, NULL, ask_when_told, go) != 0 ||
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 || !system_calls_restrict(&error) ||
            write(go[1], "", 1) != 1 || pthread_join(thread, &result) != 0) {
            _exit(RESTRICTED_FAILED);
        }
        _exit((int)(intptr_t)result);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), EPERM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_what_is_needed),
        cmocka_unit_test(test_threads_that_run_get_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
