/* Named sections inherit, profiles fill in, and what is written out wins. */
#include "tests/unit/test_settings.h"

#include "conf/settings_profile.h"
#include "core/base/address.h"
#include "core/base/phase.h"

#define SECONDS(count) (UINT64_C(1000000) * (count))

static void test_a_section_inherits_what_it_does_not_say(void **state)
{
    (void)state;
    struct settings *settings = load_good("[source gateway]\n" /* before the sections it inherits from */
                                          "networks = 192.0.2.7, 2001:db8::/32\n"
                                          "per-source = 60\n"
                                          "count-as-one = yes\n"
                                          "body = 10min\n"
                                          "[limits]\nper-source = 20\ntotal = 100\nover-limit = hold\n"
                                          "[server old]\nnetworks = 198.51.100.0/24\nidle = 30s\n"
                                          "[timeouts]\nbody = 1min\nrcpt = 45s\naction = enforce\n");
    assert_int_equal(settings->policy.source_count, 1);
    assert_int_equal(settings->policy.server_count, 1);
    const struct policy_override *source = &settings->policy.sources[0];
    const struct policy_override *server = &settings->policy.servers[0];

    assert_string_equal(source->name, "gateway");
    assert_true(source->count_as_one);
    assert_int_equal(source->network_count, 2);
    char text[ADDRESS_TEXT_SIZE];
    assert_string_equal(network_format(&source->networks[0], text), "192.0.2.7/32");
    assert_string_equal(network_format(&source->networks[1], text), "2001:db8::/32");
    assert_int_equal(source->limits.per_source_count, 60);
    assert_int_equal(source->limits.total_count, 100);
    assert_int_equal(source->limits.over_limit, POLICY_HOLD);
    assert_int_equal(source->timeouts.phase_us[PHASE_BODY], SECONDS(600));
    assert_int_equal(source->timeouts.phase_us[PHASE_RCPT], SECONDS(45));
    assert_int_equal(source->timeouts.action, POLICY_ENFORCE);

    assert_string_equal(server->name, "old");
    assert_false(server->count_as_one);
    assert_int_equal(server->limits.per_source_count, 20);
    assert_int_equal(server->timeouts.phase_us[PHASE_BODY], SECONDS(60));
    assert_int_equal(server->timeouts.idle_us, SECONDS(30));

    assert_int_equal(settings->policy.limits.per_source_count, 20);
    assert_int_equal(settings->policy.timeouts.phase_us[PHASE_BODY], SECONDS(60));
    assert_int_equal(settings->policy.timeouts.idle_us, SECONDS(300));
    settings_destroy(settings);
}

static void test_sections_keep_their_order(void **state)
{
    (void)state;
    struct settings *settings =
        load_good("[source b]\nnetworks = 192.0.2.0/24\n[server z]\nnetworks = ::1\n"
                  "[source a]\nnetworks = 192.0.2.0/25\n[source c]\nnetworks = ::/0\n");
    assert_int_equal(settings->policy.source_count, 3);
    assert_string_equal(settings->policy.sources[0].name, "b");
    assert_string_equal(settings->policy.sources[1].name, "a");
    assert_string_equal(settings->policy.sources[2].name, "c");
    settings_destroy(settings);
}

static void test_profile_numbers(void **state)
{
    (void)state;
    struct settings *settings = load_good("[limits]\nprofile = exchange\n");
    assert_int_equal(settings->policy.limits.per_source_count, 20);
    assert_int_equal(settings->policy.limits.percent_of_remaining, 2);
    assert_int_equal(settings->policy.limits.total_count, 5000);
    assert_int_equal(settings->policy.timeouts.session_us, SECONDS(600));
    assert_int_equal(settings->policy.timeouts.idle_us, SECONDS(300));
    assert_int_equal(settings->policy.timeouts.phase_us[PHASE_BODY], SECONDS(300));
    /* What the server itself owes is not the business of its own timeouts. */
    assert_int_equal(settings->policy.timeouts.phase_us[PHASE_DATA], SECONDS(120));
    assert_int_equal(settings->policy.timeouts.phase_us[PHASE_END_OF_DATA], SECONDS(600));
    /* A profile never enforces. */
    assert_int_equal(settings->policy.limits.per_source_action, POLICY_REPORT);
    assert_int_equal(settings->policy.timeouts.session_action, POLICY_REPORT);
    settings_destroy(settings);

    settings = load_good("[limits]\nprofile = postfix-stress\n");
    assert_int_equal(settings->policy.limits.per_source_count, 50);
    assert_int_equal(settings->policy.timeouts.phase_us[PHASE_RCPT], SECONDS(10));
    assert_int_equal(settings->policy.timeouts.idle_us, SECONDS(10));
    settings_destroy(settings);

    settings = load_good("[limits]\nprofile = ironport\n");
    assert_int_equal(settings->policy.timeouts.session_us, SECONDS(900));
    settings_destroy(settings);

    settings = load_good("[limits]\nprofile = isp-10\n");
    assert_int_equal(settings->policy.limits.per_source_count, 10);
    settings_destroy(settings);
}

static void test_written_keys_win_over_the_profile(void **state)
{
    (void)state;
    struct settings *settings = load_good("[timeouts]\nsession = 1h\n" /* above the profile, yet it wins */
                                          "[limits]\nper-source = 33\nprofile = exchange\n");
    assert_int_equal(settings->policy.limits.per_source_count, 33);
    assert_int_equal(settings->policy.timeouts.session_us, SECONDS(3600));
    assert_int_equal(settings->policy.limits.percent_of_remaining, 2);
    settings_destroy(settings);
}

static void test_a_sections_profile_wins_over_what_it_inherits(void **state)
{
    (void)state;
    struct settings *settings = load_good("[limits]\nper-source = 5\nrate = 9/1s\nprofile = exchange\n"
                                          "[server a]\nnetworks = ::1\nprofile = exim\n"
                                          "[server b]\nnetworks = ::2\nprofile = exim\ntotal = 7\n"
                                          "[server c]\nnetworks = ::3\nprofile = none\n");
    const struct policy_override *servers = settings->policy.servers;
    assert_int_equal(servers[0].limits.per_source_count, 0);
    assert_int_equal(servers[0].limits.total_count, 20);
    assert_int_equal(servers[0].limits.rate_count, 9);
    assert_int_equal(servers[1].limits.total_count, 7);
    assert_int_equal(servers[2].limits.per_source_count, 5);
    assert_int_equal(servers[2].limits.total_count, 5000);
    settings_destroy(settings);
}

static void test_every_profile_loads_in_every_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < settings_profile_count; i++) {
        char text[256];
        snprintf(text, sizeof text, "[limits]\nprofile = %s\n[source a]\nnetworks = ::1\nprofile = %s\n",
                 settings_profiles[i].name, settings_profiles[settings_profile_count - 1 - i].name);
        settings_destroy(load_good(text));
    }
}

/* For reports every profile's own numbers are known, whatever is in force; and whose the session limit is. */
static void test_profiles_are_known_for_reports(void **state)
{
    (void)state;
    struct settings *settings =
        load_good("[limits]\nper-source = 7\n"
                  "[server mail]\nnetworks = 192.0.2.1\nprofile = exchange\n"
                  "[server gate]\nnetworks = 192.0.2.2\nprofile = ironport\nsession = 1min\n"
                  "[server same]\nnetworks = 192.0.2.3\nprofile = ironport\n");
    const struct policy_settings *policy = &settings->policy;
    assert_int_equal(policy->profile_count, settings_profile_count - 1);
    for (uint32_t i = 0; i < policy->profile_count; i++) {
        assert_string_equal(policy->profiles[i].name, settings_profiles[i + 1].name);
    }
    assert_string_equal(policy->profiles[0].name, "exchange");
    assert_int_equal(policy->profiles[0].limits.per_source_count, 20);
    assert_int_equal(policy->profiles[0].limits.percent_of_remaining, 2);
    assert_int_equal(policy->profiles[0].session_us, SECONDS(600));
    assert_string_equal(policy->profiles[1].name, "ironport");
    assert_int_equal(policy->profiles[1].limits.per_source_count, 0);
    assert_int_equal(policy->limits.per_source_count, 7);
    assert_int_equal(policy->timeouts.session_profile, 0);
    assert_int_equal(policy->servers[0].timeouts.session_profile, 1);
    assert_int_equal(policy->servers[1].timeouts.session_profile, 0); /* written out */
    assert_int_equal(policy->servers[2].timeouts.session_profile, 2);
    settings_destroy(settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_section_inherits_what_it_does_not_say),
        cmocka_unit_test(test_sections_keep_their_order),
        cmocka_unit_test(test_profile_numbers),
        cmocka_unit_test(test_written_keys_win_over_the_profile),
        cmocka_unit_test(test_a_sections_profile_wins_over_what_it_inherits),
        cmocka_unit_test(test_every_profile_loads_in_every_place),
        cmocka_unit_test(test_profiles_are_known_for_reports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
