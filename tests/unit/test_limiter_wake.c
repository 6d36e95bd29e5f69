/* Waking sessions that were held: what may be done inside wake(), and what several threads do at once. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "tests/unit/test_limiter.h"

/* -- inside wake() --------------------------------------------------------------------------------------- */

static void leave_other(struct held *held)
{
    limiter_leave(held->limiter, &held->other->waiter, SECOND_US);
}

static void wake_may_leave_itself_and_others(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(16);
    struct policy_settings settings = settings_per_source(1, POLICY_ENFORCE, POLICY_HOLD);
    struct limiter_ticket ticket;
    struct limiter_counts counts;
    struct held held[4];
    unsigned clock = 0;
    assert_int_equal(admit(limiter, &settings, 1, &ticket, &counts), LIMITER_ADMIT);
    for (unsigned i = 0; i < 4; i++) {
        hold(&held[i], limiter, &settings, 1, &clock);
    }
    held[0].then = leave_other; /* 0 takes 1 out of the queue, */
    held[0].other = &held[1];
    limiter_release(limiter, &ticket, SECOND_US);
    assert_int_equal(clock, 1);
    held[2].then = leave_other; /* 2 gives its own slot back, so 3 is next */
    held[2].other = &held[2];
    take_and_release(&held[0]);
    assert_int_equal(held[1].woken, 0);
    assert_int_equal(held[2].woken, 2);
    assert_int_equal(held[3].woken, 3);
    take_and_release(&held[3]);
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

/* Each wake() ends its session at once, which grants the next: the stack must not grow with the queue. */
static void a_chain_of_wakes_does_not_recurse(void **state)
{
    (void)state;
    enum { CHAIN = 200000 };
    struct limiter *limiter = limiter_make(16);
    struct policy_settings settings = settings_per_source(1, POLICY_ENFORCE, POLICY_HOLD);
    struct held *held = calloc(CHAIN, sizeof *held);
    struct limiter_ticket ticket;
    struct limiter_counts counts;
    unsigned clock = 0;
    assert_non_null(held);
    assert_int_equal(admit(limiter, &settings, 1, &ticket, &counts), LIMITER_ADMIT);
    for (unsigned i = 0; i < CHAIN; i++) {
        hold(&held[i], limiter, &settings, 1, &clock);
        held[i].then = take_and_release;
    }
    limiter_release(limiter, &ticket, SECOND_US);
    assert_int_equal(clock, CHAIN);
    assert_int_equal(held[CHAIN - 1].woken, CHAIN);
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
    free(held);
}

/* Granted, and gone before its wake() was called. */
static struct limiter_ticket released_inside_wake;

static void release_then_leave(struct held *held)
{
    limiter_release(held->limiter, &released_inside_wake, SECOND_US); /* grants the other */
    limiter_leave(held->limiter, &held->other->waiter, SECOND_US);
}

static void leaving_between_grant_and_wake(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(16);
    struct policy_settings settings = settings_per_source(1, POLICY_ENFORCE, POLICY_HOLD);
    struct limiter_ticket ticket;
    struct limiter_counts counts;
    struct held held[2];
    unsigned clock = 0;
    assert_int_equal(admit(limiter, &settings, 1, &ticket, &counts), LIMITER_ADMIT);
    assert_int_equal(admit(limiter, &settings, 2, &released_inside_wake, &counts), LIMITER_ADMIT);
    hold(&held[0], limiter, &settings, 1, &clock);
    hold(&held[1], limiter, &settings, 2, &clock);
    held[0].then = release_then_leave;
    held[0].other = &held[1];
    limiter_release(limiter, &ticket, SECOND_US);
    assert_int_equal(held[0].woken, 1);
    assert_int_equal(held[1].woken, 0);
    take_and_release(&held[0]);
    assert_int_equal(clock, 1);
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

/* -- threads --------------------------------------------------------------------------------------------- */

#define STRESS_THREADS    4
#define STRESS_ROUNDS     20000
#define STRESS_PER_SOURCE 3
#define STRESS_TOTAL      5

struct stress_waiter {
    struct limiter_waiter waiter;
    atomic_uint woken;
};

static struct {
    struct limiter *limiter;
    struct policy_settings settings;
    atomic_uint open;
    atomic_uint granted;
} stress;

static void stress_wake(void *context)
{
    struct stress_waiter *waiting = context;
    atomic_fetch_add(&waiting->woken, 1);
    atomic_fetch_add(&stress.granted, 1);
}

static void stress_hold_briefly(struct limiter_ticket *ticket, unsigned round)
{
    unsigned open = atomic_fetch_add(&stress.open, 1) + 1;
    if (open > STRESS_TOTAL) {
        abort(); /* more inside than the total allows */
    }
    limiter_greeted(stress.limiter, ticket, true);
    if (round % 3 == 0) {
        sched_yield();
    }
    atomic_fetch_sub(&stress.open, 1);
    limiter_release(stress.limiter, ticket, round);
}

static void *stress_run(void *argument)
{
    const struct address *clients = argument;
    struct address server = server_address();
    for (unsigned round = 0; round < STRESS_ROUNDS; round++) {
        struct limiter_ticket ticket;
        struct limiter_counts counts;
        /* on the stack, gone after each round: wake() must not come later */
        struct stress_waiter waiting = {.waiter = {.client = clients[round % 2], .server = server}};
        waiting.waiter.wake = stress_wake;
        waiting.waiter.context = &waiting;
        atomic_init(&waiting.woken, 0);
        switch (limiter_admit(stress.limiter, &stress.settings, &clients[round % 2], &server, round, &ticket,
                              &counts)) {
        case LIMITER_ADMIT:
            stress_hold_briefly(&ticket, round);
            continue;
        case LIMITER_REFUSE:
            abort();
        case LIMITER_HOLD:
            break;
        }
        bool granted = limiter_wait(stress.limiter, &stress.settings, &waiting.waiter, round);
        for (unsigned spin = 0; !granted && spin < round % 50; spin++) {
            sched_yield();
            granted = atomic_load(&waiting.woken) > 0;
        }
        if (granted && round % 5 != 0 && limiter_take(stress.limiter, &waiting.waiter, &ticket)) {
            stress_hold_briefly(&ticket, round);
        } else {
            limiter_leave(stress.limiter, &waiting.waiter, round);
        }
        if (atomic_load(&waiting.woken) > 1) {
            abort();
        }
    }
    return NULL;
}

static void threads_leave_nothing_behind(void **state)
{
    (void)state;
    pthread_t threads[STRESS_THREADS * 2];
    struct address clients[2] = {source_number(1), source_number(2)};
    stress.limiter = limiter_make(8);
    stress.settings = settings_per_source(STRESS_PER_SOURCE, POLICY_ENFORCE, POLICY_HOLD);
    stress.settings.limits.total_count = STRESS_TOTAL;
    stress.settings.limits.total_action = POLICY_ENFORCE;
    for (unsigned i = 0; i < STRESS_THREADS * 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, stress_run, clients), 0);
    }
    for (unsigned i = 0; i < STRESS_THREADS * 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    struct limiter_stats stats;
    limiter_stats(stress.limiter, &stats);
    assert_int_equal(stats.uncounted, 0);
    assert_int_equal(stats.refused, 0);
    assert_in_range(stats.total_peak, 1, STRESS_TOTAL);
    assert_nothing_open(stress.limiter);
    limiter_destroy(stress.limiter);
}

/* Two threads, each inside the wake() of one waiter, leave each other's: one of them must not wait. */
static pthread_barrier_t both_inside;

static void leave_other_when_both_are_inside(struct held *held)
{
    pthread_barrier_wait(&both_inside);
    limiter_leave(held->limiter, &held->other->waiter, SECOND_US);
}

struct releaser {
    struct limiter *limiter;
    struct limiter_ticket ticket;
};

static void *release_in_thread(void *argument)
{
    struct releaser *releaser = argument;
    limiter_release(releaser->limiter, &releaser->ticket, SECOND_US);
    return NULL;
}

static void wakes_that_leave_each_other_do_not_deadlock(void **state)
{
    (void)state;
    struct policy_settings settings = settings_per_source(1, POLICY_ENFORCE, POLICY_HOLD);
    for (unsigned round = 0; round < 50; round++) {
        struct limiter *limiter = limiter_make(8);
        struct releaser releasers[2] = {{.limiter = limiter}, {.limiter = limiter}};
        struct limiter_counts counts;
        struct held held[2];
        unsigned clocks[2] = {0, 0};
        pthread_t threads[2];
        assert_int_equal(pthread_barrier_init(&both_inside, NULL, 2), 0);
        for (uint32_t i = 0; i < 2; i++) {
            assert_int_equal(admit(limiter, &settings, i, &releasers[i].ticket, &counts), LIMITER_ADMIT);
            hold(&held[i], limiter, &settings, i, &clocks[i]);
            held[i].then = leave_other_when_both_are_inside;
            held[i].other = &held[1 - i];
        }
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, release_in_thread, &releasers[i]), 0);
        }
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(pthread_join(threads[i], NULL), 0);
            assert_int_equal(held[i].woken, 1);
        }
        assert_nothing_open(limiter);
        pthread_barrier_destroy(&both_inside);
        limiter_destroy(limiter);
    }
}

/* leave() in one thread while wake() runs in another returns only after it. */
static atomic_bool wake_is_running, wake_may_end;

static void linger(struct held *held)
{
    (void)held;
    atomic_store(&wake_is_running, true);
    while (!atomic_load(&wake_may_end)) {
        sched_yield();
    }
    for (unsigned i = 0; i < 1000; i++) {
        sched_yield();
    }
    atomic_store(&wake_is_running, false);
}

static void leave_waits_for_a_running_wake(void **state)
{
    (void)state;
    struct limiter *limiter = limiter_make(8);
    struct policy_settings settings = settings_per_source(1, POLICY_ENFORCE, POLICY_HOLD);
    struct releaser releaser = {.limiter = limiter};
    struct limiter_counts counts;
    struct held held;
    unsigned clock = 0;
    pthread_t thread;
    assert_int_equal(admit(limiter, &settings, 1, &releaser.ticket, &counts), LIMITER_ADMIT);
    hold(&held, limiter, &settings, 1, &clock);
    held.then = linger;
    assert_int_equal(pthread_create(&thread, NULL, release_in_thread, &releaser), 0);
    while (!atomic_load(&wake_is_running)) {
        sched_yield();
    }
    atomic_store(&wake_may_end, true);
    limiter_leave(limiter, &held.waiter, SECOND_US);
    assert_false(atomic_load(&wake_is_running));
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_nothing_open(limiter);
    limiter_destroy(limiter);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wake_may_leave_itself_and_others),
        cmocka_unit_test(a_chain_of_wakes_does_not_recurse),
        cmocka_unit_test(leaving_between_grant_and_wake),
        cmocka_unit_test(threads_leave_nothing_behind),
        cmocka_unit_test(wakes_that_leave_each_other_do_not_deadlock),
        cmocka_unit_test(leave_waits_for_a_running_wake),
    };
    only_tests_that_match(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
