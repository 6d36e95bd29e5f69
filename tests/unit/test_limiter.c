/* The limiter: what it admits, refuses and only reports, and what it counts as one source. */
#include "tests/unit/test_limiter.h"

/* -- refuse and report ----------------------------------------------------------------------------------- */

static void enforce_refuses_the_21st_never_the_20th(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(16);
    struct policy_settings settings = settings_per_source(20, POLICY_ENFORCE, POLICY_REFUSE);
    struct limiter_ticket tickets[21], other;
    struct limiter_counts counts;
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(admit(limiter, &settings, 1, &tickets[i], &counts), LIMITER_ADMIT);
        assert_int_equal(counts.concurrent, i + 1);
        assert_int_equal(counts.met, LIMITER_LIMIT_NONE);
        assert_int_equal(counts.limit, 0);
    }
    for (unsigned again = 0; again < 3; again++) {
        assert_int_equal(admit(limiter, &settings, 1, &tickets[20], &counts), LIMITER_REFUSE);
        assert_int_equal(counts.concurrent, 21);
        assert_int_equal(counts.concurrent_peak, 20);
        assert_int_equal(counts.limit, 20);
        assert_int_equal(counts.met, LIMITER_LIMIT_PER_SOURCE);
        assert_false(counts.would_refuse);
        assert_int_equal(tickets[20].row, 0);
        limiter_release(limiter, &tickets[20], SECOND_US); /* harmless */
    }
    assert_int_equal(admit(limiter, &settings, 2, &other, &counts), LIMITER_ADMIT);
    assert_int_equal(counts.concurrent, 1);
    assert_int_equal(counts.total, 21);
    limiter_release(limiter, &tickets[7], SECOND_US);
    assert_int_equal(tickets[7].row, 0);
    limiter_release(limiter, &tickets[7], SECOND_US); /* twice: harmless */
    assert_int_equal(admit(limiter, &settings, 1, &tickets[7], &counts), LIMITER_ADMIT);
    assert_int_equal(counts.concurrent, 20);
    limiter_release(limiter, &other, SECOND_US);
    for (unsigned i = 0; i < 20; i++) {
        limiter_release(limiter, &tickets[i], SECOND_US);
    }
    struct limiter_stats stats;
    limiter_stats(limiter, &stats);
    assert_int_equal(stats.refused, 3);
    assert_int_equal(stats.admitted, 22);
    assert_int_equal(stats.total_peak, 21);
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

static void report_never_refuses(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(16);
    for (unsigned over = POLICY_REFUSE; over <= POLICY_HOLD; over++) {
        struct policy_settings settings = {.ipv6_source_prefix = 64};
        settings.limits = (struct policy_limits){.per_source_count = 3,
                                                 .total_count = 5,
                                                 .percent_of_remaining = 50,
                                                 .rate_count = 8,
                                                 .rate_window_us = 60 * SECOND_US,
                                                 .over_limit = (enum policy_over_limit)over};
        struct limiter_ticket tickets[10];
        struct limiter_counts counts;
        for (unsigned i = 0; i < 10; i++) {
            assert_int_equal(admit(limiter, &settings, 9 + over, &tickets[i], &counts), LIMITER_ADMIT);
            assert_int_equal(counts.concurrent, i + 1);
            bool concurrency = i >= 2; /* of the 5 - 2 that remain, 50 % is 1: the percentage comes first */
            bool rate = i >= 8;
            assert_int_equal(counts.would_hold, over == POLICY_HOLD && concurrency);
            assert_int_equal(counts.would_refuse, (over == POLICY_REFUSE && concurrency) || rate);
        }
        assert_int_equal(counts.met, LIMITER_LIMIT_PER_SOURCE);
        assert_int_equal(counts.limit, 3);
        for (unsigned i = 0; i < 10; i++) {
            limiter_release(limiter, &tickets[i], SECOND_US);
        }
    }
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

static void an_enforced_limit_is_named_before_a_reported_one(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(16);
    struct policy_settings settings = settings_per_source(1, POLICY_REPORT, POLICY_REFUSE);
    settings.limits.total_count = 2;
    settings.limits.total_action = POLICY_ENFORCE;
    struct limiter_ticket a, b, c;
    struct limiter_counts counts;
    assert_int_equal(admit(limiter, &settings, 1, &a, &counts), LIMITER_ADMIT);
    assert_int_equal(admit(limiter, &settings, 1, &b, &counts), LIMITER_ADMIT);
    assert_int_equal(counts.met, LIMITER_LIMIT_PER_SOURCE);
    assert_true(counts.would_refuse);
    assert_int_equal(admit(limiter, &settings, 1, &c, &counts), LIMITER_REFUSE);
    assert_int_equal(counts.met, LIMITER_LIMIT_TOTAL);
    assert_int_equal(counts.limit, 2);
    assert_int_equal(counts.total, 3);
    limiter_release(limiter, &a, SECOND_US);
    limiter_release(limiter, &b, SECOND_US);
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

static void total_counts_every_source(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(16);
    struct policy_settings settings = settings_total(3, POLICY_ENFORCE, POLICY_REFUSE);
    struct limiter_ticket tickets[4];
    struct limiter_counts counts;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(admit(limiter, &settings, i, &tickets[i], &counts), LIMITER_ADMIT);
        assert_int_equal(counts.total, i + 1);
    }
    assert_int_equal(admit(limiter, &settings, 9, &tickets[3], &counts), LIMITER_REFUSE);
    assert_int_equal(counts.met, LIMITER_LIMIT_TOTAL);
    limiter_release(limiter, &tickets[1], SECOND_US);
    assert_int_equal(admit(limiter, &settings, 9, &tickets[3], &counts), LIMITER_ADMIT);
    limiter_release(limiter, &tickets[0], SECOND_US);
    limiter_release(limiter, &tickets[2], SECOND_US);
    limiter_release(limiter, &tickets[3], SECOND_US);
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

/* Exchange's defaults: 2 % of the remaining of 5000. The first source gets 2 % of nearly all; the fuller the
 * server, the smaller the part. */
static void percent_is_of_what_remains(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(64);
    struct policy_settings settings = {.ipv6_source_prefix = 64};
    settings.limits.total_count = 5000;
    settings.limits.percent_of_remaining = 2;
    settings.limits.percent_action = POLICY_ENFORCE;
    struct limiter_ticket ticket;
    struct limiter_counts counts = {0};
    unsigned opened = 0;
    while (admit(limiter, &settings, 1, &ticket, &counts) == LIMITER_ADMIT) {
        opened++;
    }
    /* with 98 open (5000 - 98) * 2 / 100 = 98: the 99th is over */
    assert_int_equal(opened, 98);
    assert_int_equal(counts.met, LIMITER_LIMIT_PERCENT);
    assert_int_equal(counts.limit, 98);
    struct policy_settings open = {.ipv6_source_prefix = 64};
    for (unsigned i = 98; i < 4900; i++) {
        assert_int_equal(admit(limiter, &open, 2, &ticket, &counts), LIMITER_ADMIT);
    }
    opened = 0;
    while (admit(limiter, &settings, 3, &ticket, &counts) == LIMITER_ADMIT) {
        opened++;
    }
    assert_int_equal(opened, 1); /* (5000 - 4901) * 2 / 100 = 1 */
    assert_int_equal(counts.limit, 1);
    for (unsigned i = 4901; i < 4990; i++) {
        assert_int_equal(admit(limiter, &open, 2, &ticket, &counts), LIMITER_ADMIT);
    }
    assert_int_equal(admit(limiter, &settings, 4, &ticket, &counts), LIMITER_ADMIT); /* rounds to 0: one */
    assert_int_equal(admit(limiter, &settings, 4, &ticket, &counts), LIMITER_REFUSE);
    settings.limits.total_count = 0; /* of nothing there is no part */
    assert_int_equal(admit(limiter, &settings, 4, &ticket, &counts), LIMITER_ADMIT);
    limiter_destroy(limiter);
}

static void rate_slides(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(16);
    struct policy_settings settings = {.ipv6_source_prefix = 64};
    settings.limits.rate_count = 10;
    settings.limits.rate_window_us = 60 * SECOND_US;
    settings.limits.rate_action = POLICY_ENFORCE;
    settings.limits.over_limit = POLICY_HOLD; /* a rate is refused all the same */
    struct limiter_ticket ticket;
    struct limiter_counts counts;
    struct address client = source_number(1);
    uint64_t start_us = 1000 * SECOND_US;
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(admit_at(limiter, &settings, client, start_us, &ticket, &counts), LIMITER_ADMIT);
        assert_int_equal(counts.rate, i + 1);
        limiter_release(limiter, &ticket, start_us);
    }
    uint64_t now_us = start_us + 59 * SECOND_US;
    assert_int_equal(admit_at(limiter, &settings, client, now_us, &ticket, &counts), LIMITER_REFUSE);
    assert_int_equal(counts.met, LIMITER_LIMIT_RATE);
    assert_int_equal(counts.limit, 10);
    assert_int_equal(counts.rate, 11);
    /* 15 s into the next bucket: three quarters of the 11 still count, 8, and this one */
    now_us = start_us + 75 * SECOND_US;
    assert_int_equal(admit_at(limiter, &settings, client, now_us, &ticket, &counts), LIMITER_ADMIT);
    assert_int_equal(counts.rate, 9);
    limiter_release(limiter, &ticket, now_us);
    /* two whole windows later nothing is left */
    now_us = start_us + 240 * SECOND_US;
    assert_int_equal(admit_at(limiter, &settings, client, now_us, &ticket, &counts), LIMITER_ADMIT);
    assert_int_equal(counts.rate, 1);
    limiter_release(limiter, &ticket, now_us);
    /* a clock that steps back does no harm */
    assert_int_equal(admit_at(limiter, &settings, client, start_us, &ticket, &counts), LIMITER_ADMIT);
    assert_int_equal(counts.rate, 2);
    limiter_release(limiter, &ticket, start_us);
    /* a window longer than the clock can be, and no window at all */
    settings.limits.rate_window_us = UINT64_MAX;
    assert_int_equal(admit_at(limiter, &settings, client, now_us, &ticket, &counts), LIMITER_ADMIT);
    limiter_release(limiter, &ticket, now_us);
    settings.limits.rate_window_us = 0;
    assert_int_equal(admit_at(limiter, &settings, client, now_us, &ticket, &counts), LIMITER_ADMIT);
    limiter_release(limiter, &ticket, now_us);
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

/* -- what is one source ---------------------------------------------------------------------------------- */

static void sources_are_networks_and_lists(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(16);
    struct policy_settings settings = settings_per_source(1, POLICY_ENFORCE, POLICY_REFUSE);
    struct address server = server_address(), submission = address_of("2001:db8::25", 587);
    struct address a = address_of("2001:db8:1:2::1", 1), same = address_of("2001:db8:1:2:ffff::9", 2);
    struct address next = address_of("2001:db8:1:3::1", 1);
    struct limiter_ticket tickets[4], spare;
    struct limiter_counts counts;
    assert_int_equal(limiter_admit(limiter, &settings, &a, &server, 1, &tickets[0], &counts), LIMITER_ADMIT);
    assert_int_equal(limiter_admit(limiter, &settings, &same, &server, 1, &spare, &counts), LIMITER_REFUSE);
    assert_int_equal(limiter_admit(limiter, &settings, &next, &server, 1, &tickets[1], &counts),
                     LIMITER_ADMIT);
    assert_int_equal(limiter_admit(limiter, &settings, &a, &submission, 1, &tickets[2], &counts),
                     LIMITER_ADMIT); /* another server, another count */
    settings.ipv6_source_prefix = 0; /* not set: 64 */
    assert_int_equal(limiter_admit(limiter, &settings, &same, &server, 1, &spare, &counts), LIMITER_REFUSE);

    struct network networks[2];
    assert_true(network_parse(&networks[0], "192.0.2.0/24"));
    assert_true(network_parse(&networks[1], "2001:db8:9::/48"));
    struct policy_override gateways = {
        .name = "gateways", .networks = networks, .network_count = 2, .count_as_one = true};
    gateways.limits = settings.limits;
    gateways.limits.per_source_count = 2;
    settings.sources = &gateways;
    settings.source_count = 1;
    struct address g1 = address_of("192.0.2.1", 5), g2 = address_of("2001:db8:9::7", 6);
    struct address g3 = address_of("192.0.2.3", 7);
    assert_int_equal(limiter_admit(limiter, &settings, &g1, &server, 1, &tickets[3], &counts), LIMITER_ADMIT);
    assert_int_equal(limiter_admit(limiter, &settings, &g2, &server, 1, &spare, &counts), LIMITER_ADMIT);
    assert_int_equal(counts.concurrent, 2);
    struct limiter_ticket third;
    assert_int_equal(limiter_admit(limiter, &settings, &g3, &server, 1, &third, &counts), LIMITER_REFUSE);
    assert_int_equal(counts.limit, 2);
    struct limiter_peak peaks[8];
    assert_int_equal(limiter_peaks(limiter, peaks, 8, false), 4);
    assert_string_equal(peaks[0].name, "gateways");
    assert_int_equal(peaks[0].peak, 2);
    assert_true(address_equal(&peaks[0].server, &server));
    bool seen = false;
    for (unsigned i = 1; i < 4; i++) {
        struct address expected = address_of("2001:db8:1:2::", 0);
        assert_string_equal(peaks[i].name, "");
        seen = seen || address_equal(&peaks[i].source, &expected);
    }
    assert_true(seen);
    limiter_release(limiter, &spare, 1);
    for (unsigned i = 0; i < 4; i++) {
        limiter_release(limiter, &tickets[i], 1);
    }
    /* two names that begin alike and are too long to keep whole are still two */
    struct policy_override twins[2] = {gateways, gateways};
    memset(twins[0].name, 'x', sizeof twins[0].name - 1);
    memset(twins[1].name, 'x', sizeof twins[1].name - 1);
    twins[1].name[40] = 'y';
    twins[0].networks = &networks[0];
    twins[1].networks = &networks[1];
    twins[0].network_count = twins[1].network_count = 1;
    settings.sources = twins;
    settings.source_count = 2;
    assert_int_equal(limiter_admit(limiter, &settings, &g1, &server, 1, &tickets[0], &counts), LIMITER_ADMIT);
    assert_int_equal(limiter_admit(limiter, &settings, &g2, &server, 1, &tickets[1], &counts), LIMITER_ADMIT);
    assert_int_equal(counts.concurrent, 1);
    limiter_release(limiter, &tickets[0], 1);
    limiter_release(limiter, &tickets[1], 1);
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

static void greeted_is_counted_and_returned(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(16);
    struct policy_settings settings = settings_per_source(60, POLICY_REPORT, POLICY_REFUSE);
    struct limiter_ticket tickets[60], none = {0};
    struct limiter_counts counts;
    for (unsigned i = 0; i < 60; i++) {
        assert_int_equal(admit(limiter, &settings, 1, &tickets[i], &counts), LIMITER_ADMIT);
    }
    for (unsigned i = 0; i < 30; i++) {
        limiter_greeted(limiter, &tickets[i], true);
        limiter_greeted(limiter, &tickets[i], true); /* once is enough */
    }
    for (unsigned i = 20; i < 40; i++) {
        limiter_greeted(limiter, &tickets[i], false); /* refused after all, or never greeted */
    }
    limiter_greeted(limiter, &none, true);
    limiter_count(limiter, &tickets[0], &counts);
    assert_int_equal(counts.greeted, 20);
    assert_int_equal(counts.concurrent, 60);
    assert_int_equal(counts.concurrent_peak, 60);
    assert_int_equal(counts.total, 60);
    for (unsigned i = 0; i < 60; i++) {
        limiter_release(limiter, &tickets[i], SECOND_US);
    }
    assert_int_equal(admit(limiter, &settings, 1, &tickets[0], &counts), LIMITER_ADMIT);
    assert_int_equal(counts.greeted, 0);
    assert_int_equal(counts.concurrent, 1);
    limiter_release(limiter, &tickets[0], SECOND_US);
    limiter_count(limiter, &none, &counts);
    assert_int_equal(counts.concurrent, 0);
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(enforce_refuses_the_21st_never_the_20th),
        cmocka_unit_test(report_never_refuses),
        cmocka_unit_test(an_enforced_limit_is_named_before_a_reported_one),
        cmocka_unit_test(total_counts_every_source),
        cmocka_unit_test(percent_is_of_what_remains),
        cmocka_unit_test(rate_slides),
        cmocka_unit_test(sources_are_networks_and_lists),
        cmocka_unit_test(greeted_is_counted_and_returned),
    };
    only_tests_that_match(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
