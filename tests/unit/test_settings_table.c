#include "tests/unit/test_settings.h"

#include "conf/settings_profile.h"
#include "conf/settings_value.h"
#include "core/base/phase.h"

static void test_table_is_sound(void **state)
{
    (void)state;
    const char *fault = settings_table_fault();
    if (fault != NULL) {
        print_error("%s\n", fault);
    }
    assert_null(fault);
}

/* Room for any field of any structure a row may point into. */
union any_base {
    struct settings settings;
    struct policy_override override;
};

static void test_defaults_and_examples_are_valid(void **state)
{
    (void)state;
    for (size_t i = 0; i < settings_row_count; i++) {
        const struct settings_row *row = &settings_rows[i];
        const char *const texts[] = {row->default_text, row->example};
        for (size_t j = 0; j < 2; j++) {
            union any_base base;
            struct settings_value_fault fault;
            memset(&base, 0, sizeof base);
            if (texts[j] == NULL) {
                continue;
            }
            if (settings_value_parse(row, texts[j], &base, &fault) != SETTINGS_VALUE_OK) {
                fail_msg("%s = %s: %s", row->key, texts[j], fault.what);
            }
            if (row->type == SETTINGS_TYPE_NETWORKS) {
                free(base.override.networks);
            }
        }
    }
}

/* Every phase that lasts has a key of the phase's own name, and that key sets that phase. */
static void test_phases_have_keys(void **state)
{
    (void)state;
    for (int phase = 0; phase < PHASE_COUNT; phase++) {
        const char *name = phase_name((enum phase)phase);
        const struct settings_row *row = settings_row_find(SETTINGS_SECTION_TIMEOUTS, name, strlen(name));
        if (phase == PHASE_CLOSED || phase == PHASE_OPAQUE) {
            assert_null(row);
            continue;
        }
        assert_non_null(row);
        size_t expected = phase == PHASE_IDLE
                              ? offsetof(struct policy_timeouts, idle_us)
                              : offsetof(struct policy_timeouts, phase_us) + (size_t)phase * sizeof(uint64_t);
        assert_int_equal(row->offset, expected);
    }
}

static void test_profiles_fill_known_keys(void **state)
{
    (void)state;
    assert_int_equal(settings_profile_count, 7);
    for (size_t i = 0; i < settings_profile_count; i++) {
        for (const struct settings_profile_fill *fill = settings_profiles[i].fills; fill->key != NULL;
             fill++) {
            const struct settings_row *row = settings_row_find(fill->section, fill->key, strlen(fill->key));
            struct settings_value_fault fault;
            union any_base base;
            assert_non_null(row);
            assert_true(row->base == SETTINGS_BASE_TIMEOUTS || row->base == SETTINGS_BASE_LIMITS);
            assert_int_equal(settings_value_parse(row, fill->value, &base, &fault), SETTINGS_VALUE_OK);
        }
    }
}

static void test_rows_fit_named_sections(void **state)
{
    (void)state;
    static const char *const everywhere[] = {"idle",       "session", "body",   "action",
                                             "per-source", "rate",    "profile"};
    static const char *const global_only[] = {"max-sources", "ipv6-prefix"};
    for (size_t i = 0; i < sizeof everywhere / sizeof everywhere[0]; i++) {
        assert_non_null(settings_row_find(SETTINGS_SECTION_SOURCE, everywhere[i], strlen(everywhere[i])));
        assert_non_null(settings_row_find(SETTINGS_SECTION_SERVER, everywhere[i], strlen(everywhere[i])));
    }
    for (size_t i = 0; i < sizeof global_only / sizeof global_only[0]; i++) {
        assert_null(settings_row_find(SETTINGS_SECTION_SOURCE, global_only[i], strlen(global_only[i])));
        assert_null(settings_row_find(SETTINGS_SECTION_SERVER, global_only[i], strlen(global_only[i])));
        assert_non_null(settings_row_find(SETTINGS_SECTION_LIMITS, global_only[i], strlen(global_only[i])));
    }
    assert_null(settings_row_find(SETTINGS_SECTION_SERVER, "count-as-one", strlen("count-as-one")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_is_sound),
        cmocka_unit_test(test_defaults_and_examples_are_valid),
        cmocka_unit_test(test_phases_have_keys),
        cmocka_unit_test(test_profiles_fill_known_keys),
        cmocka_unit_test(test_rows_fit_named_sections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
