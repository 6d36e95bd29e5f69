/* The table of the limiter: which rows stay and which go, how many fit, and what is reported of the busiest. */
#include <stdlib.h>

#include "tests/unit/test_limiter.h"

/* -- rows ------------------------------------------------------------------------------------------------ */

static void the_longest_idle_row_goes_and_never_one_in_use(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(4);
    struct policy_settings settings = {.ipv6_source_prefix = 64};
    struct limiter_ticket tickets[4], extra;
    struct limiter_counts counts;
    struct limiter_stats stats;
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(admit(limiter, &settings, i, &tickets[i], &counts), LIMITER_ADMIT);
    }
    /* every row in use: admitted, not counted per source, and said so */
    settings.limits.per_source_count = 1;
    settings.limits.per_source_action = POLICY_ENFORCE;
    for (unsigned again = 0; again < 2; again++) {
        assert_int_equal(admit(limiter, &settings, 10, &extra, &counts), LIMITER_ADMIT);
        assert_int_equal(extra.row, 0);
        assert_int_equal(counts.total, 5);
        assert_int_equal(counts.concurrent, 0);
        limiter_release(limiter, &extra, SECOND_US);
    }
    limiter_stats(limiter, &stats);
    assert_int_equal(stats.uncounted, 2);
    assert_int_equal(stats.total, 4);
    assert_int_equal(stats.evicted, 0);
    /* idle since: 2, then 0, then 1. 0 is used again, so 2 and then 1 go. */
    limiter_release(limiter, &tickets[2], SECOND_US);
    limiter_release(limiter, &tickets[0], SECOND_US);
    limiter_release(limiter, &tickets[1], SECOND_US);
    settings.limits.per_source_count = 0;
    assert_int_equal(admit(limiter, &settings, 0, &tickets[0], &counts), LIMITER_ADMIT);
    assert_int_equal(counts.rate, 2); /* remembered */
    limiter_release(limiter, &tickets[0], SECOND_US);
    assert_int_equal(admit(limiter, &settings, 11, &extra, &counts), LIMITER_ADMIT); /* evicts 2 */
    limiter_release(limiter, &extra, SECOND_US);
    assert_int_equal(admit(limiter, &settings, 1, &tickets[1], &counts), LIMITER_ADMIT);
    assert_int_equal(counts.rate, 2); /* still there */
    limiter_release(limiter, &tickets[1], SECOND_US);
    assert_int_equal(admit(limiter, &settings, 2, &tickets[2], &counts), LIMITER_ADMIT);
    assert_int_equal(counts.rate, 1); /* was forgotten */
    limiter_release(limiter, &tickets[2], SECOND_US);
    limiter_stats(limiter, &stats);
    assert_int_equal(stats.evicted, 2);
    assert_int_equal(stats.rows_used, 4);
    assert_int_equal(admit(limiter, &settings, 3, &extra, &counts), LIMITER_ADMIT);
    assert_int_equal(counts.concurrent, 2); /* 3 was in use all the time */
    limiter_release(limiter, &extra, SECOND_US);
    limiter_release(limiter, &tickets[3], SECOND_US);
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

static void a_refused_source_is_remembered_longest(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(3);
    struct policy_settings settings = settings_total(2, POLICY_ENFORCE, POLICY_REFUSE);
    struct limiter_ticket open, gone, stale;
    struct limiter_counts counts;
    assert_int_equal(admit(limiter, &settings, 1, &open, &counts), LIMITER_ADMIT);
    for (uint32_t source = 2; source <= 3; source++) { /* idle: 2, then 3 */
        assert_int_equal(admit(limiter, &settings, source, &gone, &counts), LIMITER_ADMIT);
        stale = gone;
        limiter_release(limiter, &gone, SECOND_US);
    }
    settings.limits.total_count = 1;
    assert_int_equal(admit(limiter, &settings, 2, &gone, &counts),
                     LIMITER_REFUSE); /* now 3 is idle longest */
    settings.limits.total_count = 0;
    assert_int_equal(admit(limiter, &settings, 4, &gone, &counts), LIMITER_ADMIT); /* in the place of 3 */
    limiter_count(limiter, &stale, &counts); /* the ticket of 3 says nothing about 4 */
    assert_int_equal(counts.concurrent, 0);
    assert_int_equal(counts.total, 2);
    limiter_release(limiter, &gone, SECOND_US);
    assert_int_equal(admit(limiter, &settings, 2, &gone, &counts), LIMITER_ADMIT);
    assert_int_equal(counts.rate, 3);
    limiter_release(limiter, &gone, SECOND_US);
    limiter_release(limiter, &open, SECOND_US);
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

static void a_row_with_waiters_is_not_evicted(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(2);
    struct policy_settings settings = settings_total(1, POLICY_ENFORCE, POLICY_HOLD);
    struct limiter_ticket ticket, extra;
    struct limiter_counts counts;
    struct held held, uncounted;
    unsigned clock = 0;
    assert_int_equal(admit(limiter, &settings, 1, &ticket, &counts), LIMITER_ADMIT);
    hold(&held, limiter, &settings, 2, &clock); /* nothing open in its row */
    assert_int_equal(admit(limiter, &settings, 3, &extra, &counts), LIMITER_ADMIT);
    assert_int_equal(extra.row, 0); /* uncounted: no row was free */
    held_init(&uncounted, limiter, 4, &clock);
    assert_true(limiter_wait(limiter, &settings, &uncounted.waiter, SECOND_US));
    take_and_release(&uncounted);
    limiter_release(limiter, &extra, SECOND_US);
    limiter_release(limiter, &ticket, SECOND_US);
    assert_int_equal(held.woken, 1);
    take_and_release(&held);
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

/* -- its size -------------------------------------------------------------------------------------------- */

static void a_million_sources_fit_the_documented_bound(void **state)
{
    (void)state;
    enum { MILLION = 1000000 };
    struct limiter *limiter = limiter_make(MILLION);
    struct policy_settings settings = settings_per_source(1, POLICY_ENFORCE, POLICY_REFUSE);
    struct limiter_ticket *tickets = calloc(MILLION, sizeof *tickets);
    struct limiter_ticket extra;
    struct limiter_counts counts;
    struct limiter_stats stats;
    struct limiter_peak peak;
    assert_non_null(tickets);
    limiter_stats(limiter, &stats);
    size_t neighbours_octets = neighbours_memory_octets(limiter_neighbours(limiter));
    assert_in_range(stats.memory_octets - neighbours_octets, MILLION, (size_t)MILLION * LIMITER_ROW_OCTETS);
    assert_in_range(neighbours_octets, 1, NEIGHBOURS_WORST_OCTETS); /* no more for a million than for 16384 */
    for (uint32_t i = 0; i < MILLION; i++) {
        assert_int_equal(admit(limiter, &settings, i, &tickets[i], &counts), LIMITER_ADMIT);
    }
    limiter_stats(limiter, &stats);
    assert_int_equal(stats.rows_used, MILLION);
    assert_int_equal(stats.total, MILLION);
    assert_int_equal(stats.uncounted, 0);
    for (uint32_t i = 0; i < MILLION; i += 9973) {
        assert_int_equal(admit(limiter, &settings, i, &extra, &counts), LIMITER_REFUSE);
    }
    for (uint32_t i = 0; i < MILLION; i++) {
        limiter_release(limiter, &tickets[i], SECOND_US);
    }
    for (uint32_t i = 0; i < 1000; i++) { /* the next ones push out the oldest */
        assert_int_equal(admit(limiter, &settings, MILLION + i, &extra, &counts), LIMITER_ADMIT);
        limiter_release(limiter, &extra, SECOND_US);
    }
    limiter_stats(limiter, &stats);
    assert_int_equal(stats.evicted, 1000);
    assert_int_equal(stats.rows_used, MILLION);
    assert_int_equal(stats.total, 0);
    assert_int_equal(limiter_peaks(limiter, &peak, 1, true), 1);
    assert_int_equal(peak.peak, 1);
    limiter_destroy(limiter);
    free(tickets);
}

static void create_and_destroy_at_the_edges(void **state)
{
    (void)state;
    struct policy_settings settings = {.ipv6_source_prefix = 64};
    struct limiter_ticket ticket;
    struct limiter_counts counts;
    limiter_destroy(NULL);
    struct limiter *limiter = limiter_make(0); /* the least there is: one row */
    assert_int_equal(admit(limiter, &settings, 1, &ticket, &counts), LIMITER_ADMIT);
    assert_int_equal(ticket.row, 1);
    limiter_release(limiter, &ticket, SECOND_US);
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

/* -- the busiest ----------------------------------------------------------------------------------------- */

static void peaks_name_the_busiest(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(64);
    struct policy_settings settings = {.ipv6_source_prefix = 64};
    struct limiter_ticket tickets[64];
    struct limiter_counts counts;
    unsigned opened = 0;
    for (uint32_t source = 1; source <= 8; source++) {
        for (uint32_t i = 0; i < (source * 5) % 8 + 1; i++) {
            assert_int_equal(admit(limiter, &settings, source, &tickets[opened++], &counts), LIMITER_ADMIT);
        }
    }
    struct limiter_peak peaks[8];
    assert_int_equal(limiter_peaks(limiter, peaks, 0, false), 0);
    assert_int_equal(limiter_peaks(limiter, peaks, 3, false), 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(peaks[i].peak, 8 - i);
    }
    assert_int_equal(limiter_peaks(limiter, peaks, 8, true), 8);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(peaks[i].peak, 8 - i);
        assert_int_equal(peaks[i].opened, 8 - i);
        assert_int_equal(peaks[i].concurrent, 8 - i);
    }
    for (unsigned i = 0; i < opened; i++) {
        limiter_release(limiter, &tickets[i], SECOND_US);
    }
    assert_int_equal(limiter_peaks(limiter, peaks, 8, true), 8); /* open when the interval began */
    assert_int_equal(peaks[0].peak, 8);
    assert_int_equal(peaks[0].opened, 0);
    assert_int_equal(limiter_peaks(limiter, peaks, 8, true), 0);
    limiter_destroy(limiter);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_idle_row_goes_and_never_one_in_use),
        cmocka_unit_test(a_refused_source_is_remembered_longest),
        cmocka_unit_test(a_row_with_waiters_is_not_evicted),
        cmocka_unit_test(a_million_sources_fit_the_documented_bound),
        cmocka_unit_test(create_and_destroy_at_the_edges),
        cmocka_unit_test(peaks_name_the_busiest),
    };
    only_tests_that_match(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
