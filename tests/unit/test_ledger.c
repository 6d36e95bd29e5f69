/* The ledger: every microsecond is charged once, and the accounts sum to the duration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/fault/ledger.h"

static void starts_empty(void **state)
{
    (void)state;
    struct ledger ledger = {.charged_us = {1, 2, 3, 4, 5}, .until_us = 6};
    ledger_init(&ledger, 1000);
    assert_int_equal(ledger_sum_us(&ledger), 0);
    assert_int_equal(ledger.until_us, 1000);
}

static void the_round_trip_goes_to_the_network(void **state)
{
    (void)state;
    struct ledger ledger;
    ledger_init(&ledger, 1000);
    ledger_charge(&ledger, 1500, ACCOUNT_SERVER, ACCOUNT_SERVER_NETWORK, 200);
    assert_int_equal(ledger.charged_us[ACCOUNT_SERVER], 300);
    assert_int_equal(ledger.charged_us[ACCOUNT_SERVER_NETWORK], 200);
    ledger_charge(&ledger, 1600, ACCOUNT_CLIENT, ACCOUNT_CLIENT_NETWORK, 100); /* all of it */
    assert_int_equal(ledger.charged_us[ACCOUNT_CLIENT], 0);
    assert_int_equal(ledger.charged_us[ACCOUNT_CLIENT_NETWORK], 100);
    ledger_charge(&ledger, 1700, ACCOUNT_CLIENT, ACCOUNT_CLIENT_NETWORK,
                  UINT64_MAX); /* never more than passed */
    assert_int_equal(ledger.charged_us[ACCOUNT_CLIENT_NETWORK], 200);
    ledger_charge(&ledger, 1750, ACCOUNT_WITNESS, ACCOUNT_WITNESS, 20); /* both the same: counted once */
    assert_int_equal(ledger.charged_us[ACCOUNT_WITNESS], 50);
    ledger_charge(&ledger, 1800, ACCOUNT_CLIENT, ACCOUNT_CLIENT_NETWORK, 0);
    assert_int_equal(ledger.charged_us[ACCOUNT_CLIENT], 50);
    assert_int_equal(ledger_sum_us(&ledger), 800);
}

static void a_clock_that_went_back_charges_nothing(void **state)
{
    (void)state;
    struct ledger ledger;
    ledger_init(&ledger, 1000);
    ledger_charge(&ledger, 2000, ACCOUNT_CLIENT, ACCOUNT_CLIENT_NETWORK, 0);
    ledger_charge(&ledger, 500, ACCOUNT_SERVER, ACCOUNT_SERVER_NETWORK, 10);
    ledger_charge(&ledger, 2000, ACCOUNT_SERVER, ACCOUNT_SERVER_NETWORK, 10);
    assert_int_equal(ledger_sum_us(&ledger), 1000);
    assert_int_equal(ledger.until_us, 2000);
    ledger_charge(&ledger, 2001, ACCOUNT_SERVER, ACCOUNT_SERVER_NETWORK, 0); /* and it is not charged twice */
    assert_int_equal(ledger_sum_us(&ledger), 1001);
}

static void any_charges_sum_to_the_time_passed(void **state)
{
    (void)state;
    struct ledger ledger;
    uint64_t random = 88172645463325252u, now_us = 123456, latest_us = now_us;
    ledger_init(&ledger, now_us);
    for (unsigned i = 0; i < 100000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        now_us = random % 10 == 0 ? latest_us - random % 100 : latest_us + (random >> 20) % 1000000;
        latest_us = now_us > latest_us ? now_us : latest_us;
        ledger_charge(&ledger, now_us, (enum account)((random >> 8) % ACCOUNT_COUNT),
                      (enum account)((random >> 16) % ACCOUNT_COUNT), (random >> 40) % 2000000);
        assert_true(ledger_sum_us(&ledger) == latest_us - 123456);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_empty),
        cmocka_unit_test(the_round_trip_goes_to_the_network),
        cmocka_unit_test(a_clock_that_went_back_charges_nothing),
        cmocka_unit_test(any_charges_sum_to_the_time_passed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
