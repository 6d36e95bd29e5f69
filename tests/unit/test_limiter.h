/* test_limiter - what the tests of the limiter share: sources by number, settings with one limit, and sessions that are held
 * and write down when they were woken. */
#ifndef SMTPWITNESS_TESTS_UNIT_TEST_LIMITER_H
#define SMTPWITNESS_TESTS_UNIT_TEST_LIMITER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/policy/limiter.h"

#define SECOND_US UINT64_C(1000000)

static inline struct address address_of(const char *text, uint16_t port)
{
    struct address address = {.port = port};
    struct network network;
    assert_true(network_parse(&network, text));
    memcpy(address.octets, network.octets, sizeof address.octets);
    return address;
}

/* 10.x.y.z from a number, another port each time: the port of a client must not matter. */
static inline struct address source_number(uint32_t number)
{
    static uint16_t port;
    struct address address = address_of("10.0.0.0", ++port);
    address.octets[13] = (uint8_t)(number >> 16);
    address.octets[14] = (uint8_t)(number >> 8);
    address.octets[15] = (uint8_t)number;
    return address;
}

static inline struct address server_address(void)
{
    return address_of("2001:db8::25", 25);
}

static inline struct policy_settings settings_per_source(uint32_t count, enum policy_action action,
                                                         enum policy_over_limit over)
{
    struct policy_settings settings = {.ipv6_source_prefix = 64};
    settings.limits.per_source_count = count;
    settings.limits.per_source_action = action;
    settings.limits.over_limit = over;
    return settings;
}

static inline struct policy_settings settings_total(uint32_t count, enum policy_action action,
                                                    enum policy_over_limit over)
{
    struct policy_settings settings = {.ipv6_source_prefix = 64};
    settings.limits.total_count = count;
    settings.limits.total_action = action;
    settings.limits.over_limit = over;
    return settings;
}

static inline struct limiter *limiter_make(uint32_t rows)
{
    static const uint8_t seed[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    struct limiter *limiter = limiter_create(rows, seed);
    assert_non_null(limiter);
    return limiter;
}

static inline enum limiter_answer admit_at(struct limiter *limiter, const struct policy_settings *settings,
                                           struct address client, uint64_t now_us,
                                           struct limiter_ticket *ticket, struct limiter_counts *counts)
{
    struct address server = server_address();
    return limiter_admit(limiter, settings, &client, &server, now_us, ticket, counts);
}

static inline enum limiter_answer admit(struct limiter *limiter, const struct policy_settings *settings,
                                        uint32_t source, struct limiter_ticket *ticket,
                                        struct limiter_counts *counts)
{
    return admit_at(limiter, settings, source_number(source), SECOND_US, ticket, counts);
}

/* A waiter that writes down when it was woken. */
struct held {
    struct limiter_waiter waiter;
    struct limiter *limiter;
    unsigned woken;
    unsigned *clock;
    void (*then)(struct held *held);
    struct held *other;
};

static inline void held_wake(void *context)
{
    struct held *held = context;
    held->woken = ++*held->clock;
    if (held->then != NULL) {
        held->then(held);
    }
}

static inline void held_init(struct held *held, struct limiter *limiter, uint32_t source, unsigned *clock)
{
    memset(held, 0, sizeof *held);
    held->limiter = limiter;
    held->clock = clock;
    held->waiter.client = source_number(source);
    held->waiter.server = server_address();
    held->waiter.wake = held_wake;
    held->waiter.context = held;
}

/* Admits, expects to be held, and waits. */
static inline void hold(struct held *held, struct limiter *limiter, const struct policy_settings *settings,
                        uint32_t source, unsigned *clock)
{
    struct limiter_ticket ticket;
    struct limiter_counts counts;
    held_init(held, limiter, source, clock);
    assert_int_equal(admit(limiter, settings, source, &ticket, &counts), LIMITER_HOLD);
    assert_int_equal(ticket.row, 0);
    assert_false(limiter_wait(limiter, settings, &held->waiter, SECOND_US));
}

static inline void take_and_release(struct held *held)
{
    struct limiter_ticket ticket;
    assert_true(limiter_take(held->limiter, &held->waiter, &ticket));
    limiter_release(held->limiter, &ticket, SECOND_US);
}

static inline void assert_nothing_open(struct limiter *limiter)
{
    struct limiter_stats stats;
    struct limiter_peak peaks[64];
    limiter_stats(limiter, &stats);
    assert_int_equal(stats.total, 0);
    size_t count = limiter_peaks(limiter, peaks, 64, false);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(peaks[i].concurrent, 0);
    }
}

/* Runs only the tests that match the first argument, such as *wake*. */
static inline void only_tests_that_match(int argc, char **argv)
{
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
}

#endif
