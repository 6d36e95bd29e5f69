/* test_settings - what the tests of the configuration share. */
#ifndef SMTPWITNESS_TESTS_UNIT_TEST_SETTINGS_H
#define SMTPWITNESS_TESTS_UNIT_TEST_SETTINGS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "conf/settings.h"
#include "conf/settings_loader.h"
#include "conf/settings_print.h"
#include "conf/settings_table.h"

/* Loads a text that must load; prints the error line when it does not. */
static inline struct settings *load_good(const char *text)
{
    struct settings_error error;
    struct settings *settings = settings_load_text("test.conf", text, strlen(text), &error);
    if (settings == NULL) {
        print_error("%s\nin\n%s\n", error.text, text);
    }
    assert_non_null(settings);
    return settings;
}

/* Loads a text that must not load, into one line without control characters. */
static inline const char *load_bad_length(const char *text, size_t length, struct settings_error *error)
{
    struct settings *settings = settings_load_text("test.conf", text, length, error);
    if (settings != NULL) {
        print_error("loaded, but should not:\n%.*s\n", (int)length, text);
    }
    assert_null(settings);
    assert_true(strlen(error->text) > strlen("test.conf: "));
    for (const char *at = error->text; *at != '\0'; at++) {
        assert_true((unsigned char)*at >= 0x20 && *at != 0x7f);
    }
    return error->text;
}

static inline const char *load_bad(const char *text, struct settings_error *error)
{
    return load_bad_length(text, strlen(text), error);
}

/* The dump of settings as a string, to be freed. */
static inline char *dump_text(const struct settings *settings)
{
    char *text = NULL;
    size_t length = 0;
    FILE *to = open_memstream(&text, &length);
    assert_non_null(to);
    assert_true(settings_dump(settings, to));
    assert_int_equal(fclose(to), 0);
    return text;
}

#endif
