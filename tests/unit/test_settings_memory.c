/* Each allocation of a load fails once: an error line, nothing lost, no crash. Those of iniparser are left alone:
 * version 4.1 does not check the first ones it makes, which is why settings_file_parse() tries the memory out before.
 * This program's own malloc() stands before the C library's, which the sanitizers do not allow; there it is skipped. */
#include "tests/unit/test_settings.h"

#include <dlfcn.h>
#include <errno.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#ifndef SANITIZED
/* glibc's own names for its allocator. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void __libc_free(void *old);

/* volatile: a compiler takes it for granted that malloc() changes no variable of ours. */
static volatile bool armed;                /* allocations_left counts */
static volatile long allocations_left;     /* before they fail */
static volatile size_t largest = SIZE_MAX; /* more octets at once fail */
static volatile long live;                 /* allocated and not freed */

/* Whether an allocation asked for by `caller` may succeed. */
static bool allowed(const void *caller)
{
    Dl_info where;
    if (!armed) {
        return true;
    }
    armed = false; /* dladdr() may allocate */
    bool foreign =
        dladdr(caller, &where) != 0 && where.dli_fname != NULL && strstr(where.dli_fname, "iniparser");
    armed = true;
    if (foreign) {
        return true;
    }
    if (allocations_left == 0) {
        errno = ENOMEM;
        return false;
    }
    allocations_left--;
    return true;
}

void *malloc(size_t size)
{
    void *new = size <= largest &&allowed(__builtin_return_address(0)) ? __libc_malloc(size) : NULL;
    live += new != NULL;
    return new;
}

void *calloc(size_t count, size_t size)
{
    void *new = allowed(__builtin_return_address(0)) ? __libc_calloc(count, size) : NULL;
    live += new != NULL;
    return new;
}

void *realloc(void *old, size_t size)
{
    bool was_live = old != NULL;
    void *new = allowed(__builtin_return_address(0)) ? __libc_realloc(old, size) : NULL;
    live += new != NULL && !was_live;
    return new;
}

void free(void *old)
{
    live -= old != NULL;
    __libc_free(old);
}

static const char text[] = "[smtp]\nports = 25\n[limits]\nper-source = 20\nprofile = exchange\n"
                           "[log]\nident = a\njson-file = /a\n[process]\nuser =\n"
                           "[source a]\nnetworks = 192.0.2.0/24\n[source b]\nnetworks = ::1, ::2\n"
                           "[server c]\nnetworks = ::3\nidle = 1s\n[server d]\nnetworks = ::4\n"
                           "[server e]\nnetworks = ::5\n[server f]\nnetworks = ::6\n";

/* valgrind puts its own in front. */
static void skip_without_our_malloc(void)
{
    long none = live;
    void *volatile probe = malloc(1);
    bool ours = live == none + 1;
    free(probe);
    if (!ours) {
        skip();
    }
}

static void test_each_allocation_fails_once(void **state)
{
    (void)state;
    struct settings_error error;
    skip_without_our_malloc();
    /* What the C library allocates once and keeps. */
    settings_destroy(settings_load_text("test.conf", text, sizeof text - 1, &error));
    long needed;
    for (needed = 0; needed < 100000; needed++) {
        long before = live;
        allocations_left = needed;
        armed = true;
        struct settings *settings = settings_load_text("test.conf", text, sizeof text - 1, &error);
        armed = false;
        bool loaded = settings != NULL;
        settings_destroy(settings);
        assert_int_equal(live, before);
        if (loaded) {
            break;
        }
        assert_true(error.text[0] != '\0');
    }
    print_message("%ld allocations\n", needed);
    assert_true(needed > 12 && needed < 100000);
}

static void test_iniparser_is_not_asked_when_memory_is_short(void **state)
{
    (void)state;
    struct settings_error error;
    skip_without_our_malloc();
    largest = (size_t)32 * 1024;
    struct settings *settings = settings_load_text("test.conf", text, sizeof text - 1, &error);
    largest = SIZE_MAX;
    if (settings != NULL) {
        settings_destroy(settings);
        fail_msg("loaded with little memory");
    }
    assert_string_equal(error.text, "test.conf: out of memory");
}
#else
static void test_iniparser_is_not_asked_when_memory_is_short(void **state)
{
    (void)state;
    skip();
}

static void test_each_allocation_fails_once(void **state)
{
    (void)state;
    skip();
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_allocation_fails_once),
        cmocka_unit_test(test_iniparser_is_not_asked_when_memory_is_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
