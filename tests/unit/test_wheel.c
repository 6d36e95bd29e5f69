/* proxy/wheel: never early, at most a tick late, and far timers come round. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "proxy/wheel.h"

#define TURN_US ((uint64_t)WHEEL_TICK_US * WHEEL_SLOTS)

static struct wheel wheel;

static void fires_in_time(void **state)
{
    const uint64_t start_us = 123456789;
    const uint64_t delays_us[] = {0,           1,         8191,        8192,        8193,
                                  100000,      5000000,   TURN_US - 1, TURN_US,     TURN_US + 1,
                                  2 * TURN_US, 300000000, 600000000,   3600000000u, 3600000000u + 77};

    (void)state;
    for (size_t index = 0; index < sizeof delays_us / sizeof delays_us[0]; index++) {
        struct wheel_timer timer = {0};
        uint64_t now_us = start_us;
        const uint64_t due_us = start_us + delays_us[index];
        uint64_t calls = 0;

        wheel_init(&wheel, start_us);
        wheel_arm(&wheel, &timer, due_us);
        for (;;) {
            const uint64_t next_us = wheel_next_us(&wheel);

            assert_true(next_us != WHEEL_NEVER_US);
            now_us = next_us > now_us ? next_us : now_us;
            if (wheel_take_due(&wheel, now_us) == &timer)
                break;
            assert_true(++calls < 10 + delays_us[index] / TURN_US * 2); /* one touch per turn */
        }
        assert_true(now_us >= due_us);
        assert_true(now_us - due_us <= WHEEL_TICK_US);
        assert_null(timer.next);
        assert_true(wheel_next_us(&wheel) == WHEEL_NEVER_US);
    }
}

static void moves_and_cancels(void **state)
{
    struct wheel_timer a = {0}, b = {0};

    (void)state;
    wheel_init(&wheel, 0);
    wheel_arm(&wheel, &a, 1000000);
    wheel_arm(&wheel, &b, 1000000);
    wheel_arm(&wheel, &a, 50000); /* earlier */
    assert_null(wheel_take_due(&wheel, 40000));
    assert_ptr_equal(wheel_take_due(&wheel, 60000), &a);
    assert_null(wheel_take_due(&wheel, 60000));
    wheel_cancel(&wheel, &b);
    wheel_cancel(&wheel, &b); /* harmless */
    assert_null(wheel_take_due(&wheel, 2000000));
    wheel_arm(&wheel, &a, 3000000);
    wheel_arm(&wheel, &a, WHEEL_NEVER_US);
    assert_int_equal(wheel.timer_count, 0);
    assert_true(wheel_next_us(&wheel) == WHEEL_NEVER_US);
}

/* Against a plain array, with a clock that jumps. */
static void agrees_with_an_array(void **state)
{
    enum { COUNT = 300 };
    static struct wheel_timer timers[COUNT];
    uint64_t now_us = 777, due_us[COUNT];

    (void)state;
    srand(3);
    memset(timers, 0, sizeof timers);
    wheel_init(&wheel, now_us);
    for (size_t index = 0; index < COUNT; index++)
        due_us[index] = WHEEL_NEVER_US;
    for (unsigned step = 0; step < 20000; step++) {
        const size_t index = (size_t)rand() % COUNT;
        struct wheel_timer *timer;

        due_us[index] = rand() % 5 == 0 ? WHEEL_NEVER_US : now_us + (uint64_t)rand() % (3 * TURN_US);
        wheel_arm(&wheel, &timers[index], due_us[index]);
        now_us += (uint64_t)rand() % (rand() % 50 == 0 ? 2 * TURN_US : 20000);
        while ((timer = wheel_take_due(&wheel, now_us)) != NULL) {
            const size_t fired = (size_t)(timer - timers);

            assert_true(due_us[fired] <= now_us);
            due_us[fired] = WHEEL_NEVER_US;
        }
        for (size_t other = 0; other < COUNT; other++)
            assert_true(due_us[other] == WHEEL_NEVER_US || due_us[other] + WHEEL_TICK_US > now_us);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fires_in_time), cmocka_unit_test(moves_and_cancels),
                                       cmocka_unit_test(agrees_with_an_array)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
