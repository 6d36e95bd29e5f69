/* Sessions that the limiter holds: whose turn it is, and what lets them in. */
#include "tests/unit/test_limiter.h"

/* -- whose turn it is ------------------------------------------------------------------------------------ */

static void hold_is_first_come_first_served(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(16);
    struct policy_settings settings = settings_per_source(2, POLICY_ENFORCE, POLICY_HOLD);
    struct limiter_ticket tickets[2], late;
    struct limiter_counts counts;
    struct held held[4];
    unsigned clock = 0;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(admit(limiter, &settings, 1, &tickets[i], &counts), LIMITER_ADMIT);
    }
    for (unsigned i = 0; i < 4; i++) {
        hold(&held[i], limiter, &settings, 1, &clock);
    }
    limiter_release(limiter, &tickets[0], SECOND_US);
    assert_int_equal(held[0].woken, 1);
    assert_int_equal(held[1].woken, 0);
    assert_int_equal(clock, 1);
    /* reserved: the slot is held[0]'s although it has not taken it yet, and a newcomer queues */
    assert_int_equal(admit(limiter, &settings, 1, &late, &counts), LIMITER_HOLD);
    assert_int_equal(counts.concurrent, 3);
    limiter_leave(limiter, &held[1].waiter, SECOND_US); /* went away: never woken */
    limiter_release(limiter, &tickets[1], SECOND_US);
    assert_int_equal(held[2].woken, 2);
    take_and_release(&held[0]);
    assert_int_equal(held[3].woken, 3);
    assert_int_equal(held[1].woken, 0);
    take_and_release(&held[2]);
    take_and_release(&held[3]);
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

static void a_slot_freed_before_the_wait_is_granted_at_once(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(16);
    struct policy_settings settings = settings_per_source(1, POLICY_ENFORCE, POLICY_HOLD);
    struct limiter_ticket ticket, second;
    struct limiter_counts counts;
    struct held held;
    unsigned clock = 0;
    held_init(&held, limiter, 1, &clock);
    assert_int_equal(admit(limiter, &settings, 1, &ticket, &counts), LIMITER_ADMIT);
    assert_int_equal(admit(limiter, &settings, 1, &second, &counts), LIMITER_HOLD);
    limiter_release(limiter, &ticket, SECOND_US);
    assert_true(limiter_wait(limiter, &settings, &held.waiter, SECOND_US));
    assert_int_equal(held.woken, 0);
    assert_int_equal(admit(limiter, &settings, 1, &second, &counts), LIMITER_HOLD);
    limiter_leave(limiter, &held.waiter, SECOND_US); /* granted, and given back */
    assert_int_equal(admit(limiter, &settings, 1, &second, &counts), LIMITER_ADMIT);
    limiter_release(limiter, &second, SECOND_US);
    assert_false(limiter_take(limiter, &held.waiter, &second));
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

static void leaving_when_granted_passes_the_slot_on(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(16);
    struct policy_settings settings = settings_per_source(1, POLICY_ENFORCE, POLICY_HOLD);
    struct limiter_ticket ticket;
    struct limiter_counts counts;
    struct held held[2];
    unsigned clock = 0;
    assert_int_equal(admit(limiter, &settings, 1, &ticket, &counts), LIMITER_ADMIT);
    hold(&held[0], limiter, &settings, 1, &clock);
    hold(&held[1], limiter, &settings, 1, &clock);
    limiter_release(limiter, &ticket, SECOND_US);
    assert_int_equal(held[0].woken, 1);
    assert_int_equal(held[1].woken, 0);
    limiter_leave(limiter, &held[0].waiter, SECOND_US);
    assert_int_equal(held[1].woken, 2);
    limiter_leave(limiter, &held[0].waiter, SECOND_US); /* twice: harmless */
    take_and_release(&held[1]);
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

static void the_total_goes_round_the_sources(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(16);
    struct policy_settings settings = settings_total(1, POLICY_ENFORCE, POLICY_HOLD);
    struct limiter_ticket ticket;
    struct limiter_counts counts;
    struct held a[3], b, c;
    unsigned clock = 0;
    assert_int_equal(admit(limiter, &settings, 9, &ticket, &counts), LIMITER_ADMIT);
    hold(&a[0], limiter, &settings, 1, &clock);
    hold(&a[1], limiter, &settings, 1, &clock);
    hold(&a[2], limiter, &settings, 1, &clock);
    hold(&b, limiter, &settings, 2, &clock);
    hold(&c, limiter, &settings, 3, &clock);
    limiter_release(limiter, &ticket, SECOND_US);
    assert_int_equal(a[0].woken, 1);
    take_and_release(&a[0]);
    assert_int_equal(b.woken, 2);
    take_and_release(&b);
    assert_int_equal(c.woken, 3);
    take_and_release(&c);
    assert_int_equal(a[1].woken, 4);
    take_and_release(&a[1]);
    assert_int_equal(a[2].woken, 5);
    take_and_release(&a[2]);
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

/* A source blocked by its own limit must not stand in the way of one that waits for the total. */
static void a_source_at_its_own_limit_blocks_nobody_else(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(256);
    struct policy_settings settings = settings_per_source(1, POLICY_ENFORCE, POLICY_HOLD);
    settings.limits.total_count = 101;
    settings.limits.total_action = POLICY_ENFORCE;
    struct limiter_ticket tickets[100], extra;
    struct limiter_counts counts;
    static struct held blocked[100];
    struct held last;
    unsigned clock = 0;
    for (uint32_t i = 0; i < 100; i++) { /* more rows than one walk looks at */
        assert_int_equal(admit(limiter, &settings, i, &tickets[i], &counts), LIMITER_ADMIT);
        hold(&blocked[i], limiter, &settings, i, &clock);
    }
    assert_int_equal(admit(limiter, &settings, 200, &extra, &counts), LIMITER_ADMIT);
    hold(&last, limiter, &settings, 201, &clock);
    limiter_release(limiter, &extra, SECOND_US);
    assert_int_equal(last.woken, 1);
    assert_int_equal(clock, 1);
    take_and_release(&last);
    for (uint32_t i = 0; i < 100; i++) {
        limiter_release(limiter, &tickets[i], SECOND_US);
        take_and_release(&blocked[i]);
    }
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

/* Two addresses of one /64, one of them with a higher limit of its own: still one row, and no overtaking. */
static void a_newcomer_does_not_overtake_its_row(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(16);
    struct policy_settings settings = settings_per_source(1, POLICY_ENFORCE, POLICY_HOLD);
    struct network network;
    assert_true(network_parse(&network, "2001:db8::5"));
    struct policy_override generous = {.name = "generous", .networks = &network, .network_count = 1};
    generous.limits = settings.limits;
    generous.limits.per_source_count = 5;
    settings.sources = &generous;
    settings.source_count = 1;
    struct address plain = address_of("2001:db8::1", 1), favoured = address_of("2001:db8::5", 1);
    struct limiter_ticket tickets[2], ticket;
    struct limiter_counts counts;
    struct held held;
    unsigned clock = 0;
    assert_int_equal(admit_at(limiter, &settings, plain, 1, &tickets[0], &counts), LIMITER_ADMIT);
    assert_int_equal(admit_at(limiter, &settings, favoured, 1, &tickets[1], &counts), LIMITER_ADMIT);
    held_init(&held, limiter, 1, &clock);
    held.waiter.client = plain;
    assert_int_equal(admit_at(limiter, &settings, plain, 1, &ticket, &counts), LIMITER_HOLD);
    assert_false(limiter_wait(limiter, &settings, &held.waiter, 1));
    assert_int_equal(admit_at(limiter, &settings, favoured, 1, &ticket, &counts), LIMITER_HOLD);
    assert_int_equal(counts.met, LIMITER_LIMIT_PER_SOURCE); /* what the one before it waits for */
    assert_int_equal(counts.limit, 1);
    limiter_leave(limiter, &held.waiter, 1);
    assert_int_equal(admit_at(limiter, &settings, favoured, 1, &ticket, &counts), LIMITER_ADMIT);
    limiter_release(limiter, &ticket, 1);
    limiter_release(limiter, &tickets[0], 1);
    limiter_release(limiter, &tickets[1], 1);
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

/* More rows wait for the percentage than one walk looks at: its own slot still goes to its own waiter. */
static void a_slot_of_its_own_is_not_lost_behind_a_long_walk(void **state)
{
    (void)state;
    enum { OTHERS = LIMITER_WALK_ROWS + 6, OWN = 0x10000 };
    struct limiter *limiter = limiter_make(OTHERS + 1);
    struct policy_settings settings = settings_per_source(1, POLICY_ENFORCE, POLICY_HOLD);
    struct network network;
    assert_true(network_parse(&network, "10.0.0.0/16"));
    struct policy_override by_percent = {.name = "by-percent", .networks = &network, .network_count = 1};
    by_percent.limits = (struct policy_limits){.total_count = 2,
                                               .percent_of_remaining = 50,
                                               .percent_action = POLICY_ENFORCE,
                                               .over_limit = POLICY_HOLD};
    settings.sources = &by_percent;
    settings.source_count = 1;
    struct limiter_ticket tickets[OTHERS], own_ticket;
    struct limiter_counts counts;
    static struct held others[OTHERS];
    struct held own;
    unsigned clock = 0;
    for (uint32_t i = 0; i < OTHERS; i++) {
        assert_int_equal(admit(limiter, &settings, i, &tickets[i], &counts), LIMITER_ADMIT);
        hold(&others[i], limiter, &settings, i, &clock);
    }
    assert_int_equal(admit(limiter, &settings, OWN, &own_ticket, &counts), LIMITER_ADMIT);
    hold(&own, limiter, &settings, OWN, &clock);
    limiter_release(limiter, &own_ticket, SECOND_US);
    assert_int_equal(own.woken, 1);
    take_and_release(&own);
    for (uint32_t i = 0; i < OTHERS; i++) {
        limiter_leave(limiter, &others[i].waiter, SECOND_US);
        limiter_release(limiter, &tickets[i], SECOND_US);
    }
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

/* -- what lets them in ----------------------------------------------------------------------------------- */

static void held_by_percentage_until_others_leave(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(16);
    struct policy_settings settings = {.ipv6_source_prefix = 64};
    settings.limits.total_count = 10;
    settings.limits.percent_of_remaining = 50;
    settings.limits.percent_action = POLICY_ENFORCE;
    settings.limits.over_limit = POLICY_HOLD;
    struct policy_settings open = {.ipv6_source_prefix = 64};
    struct limiter_ticket others[4], mine[2];
    struct limiter_counts counts;
    struct held held;
    unsigned clock = 0;
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(admit(limiter, &open, 1, &others[i], &counts), LIMITER_ADMIT);
    }
    for (unsigned i = 0; i < 2; i++) { /* 50 % of 6, then of 5 */
        assert_int_equal(admit(limiter, &settings, 2, &mine[i], &counts), LIMITER_ADMIT);
    }
    hold(&held, limiter, &settings, 2, &clock); /* 50 % of 4 is 2 */
    limiter_release(limiter, &others[0], SECOND_US);
    assert_int_equal(held.woken, 0); /* of 5 */
    limiter_release(limiter, &others[1], SECOND_US);
    assert_int_equal(held.woken, 1); /* of 6 */
    take_and_release(&held);
    limiter_release(limiter, &others[2], SECOND_US);
    limiter_release(limiter, &others[3], SECOND_US);
    limiter_release(limiter, &mine[0], SECOND_US);
    limiter_release(limiter, &mine[1], SECOND_US);
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

static void a_raised_limit_lets_waiters_in(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(16);
    struct policy_settings settings = settings_per_source(2, POLICY_ENFORCE, POLICY_HOLD);
    struct limiter_ticket tickets[2], other, newcomer;
    struct limiter_counts counts;
    static struct held held[200];
    unsigned clock = 0;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(admit(limiter, &settings, 1, &tickets[i], &counts), LIMITER_ADMIT);
    }
    for (unsigned i = 0; i < 200; i++) {
        hold(&held[i], limiter, &settings, 1, &clock);
    }
    /* by the next admit of the row, before the newcomer */
    settings.limits.per_source_count = 5;
    assert_int_equal(admit(limiter, &settings, 1, &newcomer, &counts), LIMITER_HOLD);
    assert_int_equal(clock, 3);
    assert_int_equal(held[2].woken, 3);
    assert_int_equal(held[3].woken, 0);
    /* at once by limiter_reload() */
    settings.limits.per_source_count = 6;
    limiter_reload(limiter, &settings, SECOND_US);
    assert_int_equal(clock, 4);
    /* and by the next release, whose waiters have learnt of it */
    settings.limits.per_source_count = 0;
    settings.limits.total_count = 8;
    settings.limits.total_action = POLICY_ENFORCE;
    limiter_reload(limiter, &settings, SECOND_US);
    assert_int_equal(clock, 6);
    assert_int_equal(held[5].woken, 6);
    /* raised for another source's admission too, since it is the total */
    settings.limits.total_count = 10;
    assert_int_equal(admit(limiter, &settings, 2, &other, &counts), LIMITER_HOLD);
    assert_int_equal(clock, 8);
    /* no limits any more: everyone, although that is more than one walk */
    settings.limits.total_count = 0;
    limiter_reload(limiter, &settings, SECOND_US);
    assert_int_equal(clock, 200);
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(held[i].woken, i + 1);
        take_and_release(&held[i]);
    }
    limiter_release(limiter, &tickets[0], SECOND_US);
    limiter_release(limiter, &tickets[1], SECOND_US);
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

static void reload_reaches_every_row(void **state)
{
    (void)state;
    enum { SOURCES = 300 };
    struct limiter *limiter = limiter_make(SOURCES);
    struct policy_settings settings = settings_per_source(1, POLICY_ENFORCE, POLICY_HOLD);
    static struct limiter_ticket tickets[SOURCES];
    static struct held held[SOURCES][2];
    struct limiter_counts counts;
    unsigned clock = 0;
    for (uint32_t i = 0; i < SOURCES; i++) {
        assert_int_equal(admit(limiter, &settings, i, &tickets[i], &counts), LIMITER_ADMIT);
        hold(&held[i][0], limiter, &settings, i, &clock);
        hold(&held[i][1], limiter, &settings, i, &clock);
    }
    settings.limits.per_source_count = 2;
    limiter_reload(limiter, &settings, SECOND_US);
    assert_int_equal(clock, SOURCES);
    settings.limits.per_source_count = 0;
    limiter_reload(limiter, &settings, SECOND_US);
    assert_int_equal(clock, 2 * SOURCES);
    for (uint32_t i = 0; i < SOURCES; i++) {
        take_and_release(&held[i][0]);
        take_and_release(&held[i][1]);
        limiter_release(limiter, &tickets[i], SECOND_US);
    }
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hold_is_first_come_first_served),
        cmocka_unit_test(a_slot_freed_before_the_wait_is_granted_at_once),
        cmocka_unit_test(leaving_when_granted_passes_the_slot_on),
        cmocka_unit_test(the_total_goes_round_the_sources),
        cmocka_unit_test(a_source_at_its_own_limit_blocks_nobody_else),
        cmocka_unit_test(a_newcomer_does_not_overtake_its_row),
        cmocka_unit_test(a_slot_of_its_own_is_not_lost_behind_a_long_walk),
        cmocka_unit_test(held_by_percentage_until_others_leave),
        cmocka_unit_test(a_raised_limit_lets_waiters_in),
        cmocka_unit_test(reload_reaches_every_row),
    };
    only_tests_that_match(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
