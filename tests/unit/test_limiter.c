/* The limiter: what it admits, refuses, holds and grants, what it counts, and that the counts come back to
 * zero. */
#include <arpa/inet.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/hash.h"
#include "core/policy/limiter.h"

#define SECOND_US UINT64_C(1000000)

static const uint8_t seed[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

/* -- helpers --------------------------------------------------------------------------------------------- */

static struct address address_of(const char *text, uint16_t port)
{
    struct address address = {.port = port};
    struct network network;
    assert_true(network_parse(&network, text));
    memcpy(address.octets, network.octets, sizeof address.octets);
    return address;
}

/* 10.x.y.z from a number, another port each time: the port of a client must not matter. */
static struct address source_number(uint32_t number)
{
    static uint16_t port;
    struct address address = address_of("10.0.0.0", ++port);
    address.octets[13] = (uint8_t)(number >> 16);
    address.octets[14] = (uint8_t)(number >> 8);
    address.octets[15] = (uint8_t)number;
    return address;
}

static struct address server_address(void)
{
    return address_of("2001:db8::25", 25);
}

static struct policy_settings settings_per_source(uint32_t count, enum policy_action action,
                                                  enum policy_over_limit over)
{
    struct policy_settings settings = {.ipv6_source_prefix = 64};
    settings.limits.per_source_count = count;
    settings.limits.per_source_action = action;
    settings.limits.over_limit = over;
    return settings;
}

static struct policy_settings settings_total(uint32_t count, enum policy_action action,
                                             enum policy_over_limit over)
{
    struct policy_settings settings = {.ipv6_source_prefix = 64};
    settings.limits.total_count = count;
    settings.limits.total_action = action;
    settings.limits.over_limit = over;
    return settings;
}

static enum limiter_answer admit_at(struct limiter *limiter, const struct policy_settings *settings,
                                    struct address client, uint64_t now_us, struct limiter_ticket *ticket,
                                    struct limiter_counts *counts)
{
    struct address server = server_address();
    return limiter_admit(limiter, settings, &client, &server, now_us, ticket, counts);
}

static enum limiter_answer admit(struct limiter *limiter, const struct policy_settings *settings,
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

static void held_wake(void *context)
{
    struct held *held = context;
    held->woken = ++*held->clock;
    if (held->then != NULL) {
        held->then(held);
    }
}

static void held_init(struct held *held, struct limiter *limiter, uint32_t source, unsigned *clock)
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
static void hold(struct held *held, struct limiter *limiter, const struct policy_settings *settings,
                 uint32_t source, unsigned *clock)
{
    struct limiter_ticket ticket;
    struct limiter_counts counts;
    held_init(held, limiter, source, clock);
    assert_int_equal(admit(limiter, settings, source, &ticket, &counts), LIMITER_HOLD);
    assert_int_equal(ticket.row, 0);
    assert_false(limiter_wait(limiter, settings, &held->waiter, SECOND_US));
}

static void take_and_release(struct held *held)
{
    struct limiter_ticket ticket;
    assert_true(limiter_take(held->limiter, &held->waiter, &ticket));
    limiter_release(held->limiter, &ticket, SECOND_US);
}

static void assert_nothing_open(struct limiter *limiter)
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

static struct limiter *limiter_make(uint32_t rows)
{
    struct limiter *limiter = limiter_create(rows, seed);
    assert_non_null(limiter);
    return limiter;
}

/* -- the hash -------------------------------------------------------------------------------------------- */

/* The first sixteen and the last of the published SipHash-2-4 vectors: key 00..0f, input 00..length-1. */
static void hash_matches_published_vectors(void **state)
{
    (void)state;
    static const uint64_t expected[16] = {
        0x726fdb47dd0e0e31, 0x74f839c593dc67fd, 0x0d6c8009d9a94f5a, 0x85676696d7fb7e2d,
        0xcf2794e0277187b7, 0x18765564cd99a68d, 0xcbc9466e58fee3ce, 0xab0200f58b01d137,
        0x93f5f5799a932462, 0x9e0082df0ba9e4b0, 0x7a5dbbc594ddb9f3, 0xf4b32f46226bada7,
        0x751e8fbc860ee5fb, 0x14ea5627c0843d90, 0xf723ca908e7af2ee, 0xa129ca6149be45e5,
    };
    uint8_t key[16], input[63];
    for (uint8_t i = 0; i < sizeof key; i++) {
        key[i] = i;
    }
    for (uint8_t i = 0; i < sizeof input; i++) {
        input[i] = i;
    }
    for (size_t length = 0; length < 16; length++) {
        assert_true(hash_octets(key, input, length) == expected[length]);
    }
    assert_true(hash_octets(key, input, 63) == 0x958a324ceb064572);
    key[0] ^= 1;
    assert_false(hash_octets(key, input, 63) == 0x958a324ceb064572);
}

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

/* -- hold ------------------------------------------------------------------------------------------------ */

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

/* -- the table ------------------------------------------------------------------------------------------- */

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

/* -- against a naive model ------------------------------------------------------------------------------- */

#define MODEL_SOURCES    6
#define MODEL_SESSIONS   48
#define MODEL_OPERATIONS 60000

enum model_state {
    MODEL_FREE = 0,
    MODEL_OPEN,    /* admitted, or granted and taken */
    MODEL_WAITING, /* in the queue */
    MODEL_GRANTED, /* granted, not taken yet: counts */
};

/* One session of the model. Everything the model knows it gets by counting these. */
struct model_session {
    struct held held;
    enum model_state state;
    uint32_t source;
    uint64_t arrival; /* of a waiter */
    bool greeted;
    struct limiter_ticket ticket;
};

static struct {
    struct limiter *limiter;
    struct policy_settings settings;
    struct model_session sessions[MODEL_SESSIONS];
    uint64_t arrivals;
    uint32_t attempts[MODEL_SOURCES];
    uint32_t peak[MODEL_SOURCES];
    uint64_t random;
    unsigned wakes, granted;
} model;

static uint32_t model_random(uint32_t below)
{
    model.random ^= model.random << 13;
    model.random ^= model.random >> 7;
    model.random ^= model.random << 17;
    return (uint32_t)((model.random >> 16) % below);
}

static uint32_t model_concurrent(uint32_t source)
{
    uint32_t count = 0;
    for (unsigned i = 0; i < MODEL_SESSIONS; i++) {
        const struct model_session *session = &model.sessions[i];
        count +=
            session->source == source && (session->state == MODEL_OPEN || session->state == MODEL_GRANTED);
    }
    return count;
}

static uint32_t model_total(void)
{
    uint32_t count = 0;
    for (uint32_t source = 0; source < MODEL_SOURCES; source++) {
        count += model_concurrent(source);
    }
    return count;
}

static struct model_session *model_first_waiter(uint32_t source)
{
    struct model_session *first = NULL;
    for (unsigned i = 0; i < MODEL_SESSIONS; i++) {
        struct model_session *session = &model.sessions[i];
        if (session->state == MODEL_WAITING && session->source == source &&
            (first == NULL || session->arrival < first->arrival)) {
            first = session;
        }
    }
    return first;
}

/* Is there room for one more of `source`, by the limits that are enforced (or by all of them)? */
static bool model_has_room(uint32_t source, bool reported_too)
{
    const struct policy_limits *limits = &model.settings.limits;
    uint32_t concurrent = model_concurrent(source), total = model_total();
    uint32_t remaining = total < limits->total_count ? limits->total_count - total : 0;
    uint32_t part = remaining * limits->percent_of_remaining / 100;
    bool per_source = limits->per_source_count == 0 || concurrent < limits->per_source_count;
    bool in_all = limits->total_count == 0 || total < limits->total_count;
    bool percent =
        limits->total_count == 0 || limits->percent_of_remaining == 0 || concurrent < (part == 0 ? 1 : part);
    return (per_source || (!reported_too && limits->per_source_action == POLICY_REPORT)) &&
           (in_all || (!reported_too && limits->total_action == POLICY_REPORT)) &&
           (percent || (!reported_too && limits->percent_action == POLICY_REPORT));
}

static void model_note_peak(uint32_t source)
{
    uint32_t concurrent = model_concurrent(source);
    if (concurrent > model.peak[source]) {
        model.peak[source] = concurrent;
    }
}

/* Called by the limiter: was it this one's turn, and was there room? */
static void model_granted(struct held *held)
{
    struct model_session *session = (struct model_session *)held;
    assert_int_equal(session->state, MODEL_WAITING);
    assert_ptr_equal(model_first_waiter(session->source), session);
    model.granted++;
    session->state = MODEL_GRANTED;
    model_note_peak(session->source);
}

static void model_check(void)
{
    struct limiter_stats stats;
    limiter_stats(model.limiter, &stats);
    assert_int_equal(stats.total, model_total());
    for (uint32_t source = 0; source < MODEL_SOURCES; source++) {
        uint32_t greeted = 0;
        struct model_session *open = NULL;
        for (unsigned i = 0; i < MODEL_SESSIONS; i++) {
            struct model_session *session = &model.sessions[i];
            if (session->state == MODEL_OPEN && session->source == source) {
                greeted += session->greeted;
                open = session;
            }
        }
        if (open != NULL) {
            struct limiter_counts counts;
            limiter_count(model.limiter, &open->ticket, &counts);
            assert_int_equal(counts.concurrent, model_concurrent(source));
            assert_int_equal(counts.greeted, greeted);
            assert_int_equal(counts.concurrent_peak, model.peak[source]);
            assert_int_equal(counts.total, model_total());
        }
        /* nobody waits for a slot that is free */
        assert_true(model_first_waiter(source) == NULL || !model_has_room(source, false));
    }
}

static void model_open_one(struct model_session *session)
{
    unsigned clock_before = model.granted;
    struct limiter_counts counts;
    session->source = model_random(MODEL_SOURCES);
    session->greeted = false;
    model.attempts[session->source]++;
    bool waiters = model_first_waiter(session->source) != NULL;
    bool room = model_has_room(session->source, false);
    bool room_by_all = model_has_room(session->source, true);
    enum policy_over_limit over = model.settings.limits.over_limit;
    enum limiter_answer expected = !room ? (over == POLICY_HOLD ? LIMITER_HOLD : LIMITER_REFUSE)
                                   : waiters && over == POLICY_HOLD ? LIMITER_HOLD
                                                                    : LIMITER_ADMIT;
    uint32_t concurrent = model_concurrent(session->source);
    assert_int_equal(admit(model.limiter, &model.settings, session->source, &session->ticket, &counts),
                     expected);
    assert_int_equal(model.granted, clock_before);
    assert_int_equal(counts.concurrent, concurrent + 1);
    assert_int_equal(counts.rate, model.attempts[session->source]);
    assert_int_equal(counts.met != LIMITER_LIMIT_NONE, !room_by_all);
    if (expected == LIMITER_ADMIT) {
        session->state = MODEL_OPEN;
        assert_int_equal(counts.would_refuse || counts.would_hold, !room_by_all);
        model_note_peak(session->source);
    } else if (expected == LIMITER_HOLD && model_random(8) != 0) {
        held_init(&session->held, model.limiter, session->source, &model.wakes);
        session->held.then = model_granted;
        session->arrival = ++model.arrivals;
        session->state = MODEL_WAITING;
        assert_false(limiter_wait(model.limiter, &model.settings, &session->held.waiter, SECOND_US));
    }
}

static void model_close_one(struct model_session *session)
{
    enum model_state before = session->state;
    session->state = MODEL_FREE; /* first: its place may be granted to another before the call returns */
    if (before == MODEL_OPEN) {
        limiter_release(model.limiter, &session->ticket, SECOND_US);
    } else if (before != MODEL_FREE) {
        limiter_leave(model.limiter, &session->held.waiter, SECOND_US);
    }
}

static void model_step(struct model_session *session)
{
    switch (session->state) {
    case MODEL_FREE:
        model_open_one(session);
        break;
    case MODEL_OPEN:
        if (model_random(3) == 0) {
            session->greeted = model_random(2) == 0;
            limiter_greeted(model.limiter, &session->ticket, session->greeted);
        } else {
            model_close_one(session);
        }
        break;
    case MODEL_WAITING:
        if (model_random(4) == 0) {
            model_close_one(session);
        }
        break;
    case MODEL_GRANTED:
        if (model_random(4) == 0) {
            model_close_one(session);
        } else {
            assert_true(limiter_take(model.limiter, &session->held.waiter, &session->ticket));
            session->state = MODEL_OPEN;
            session->greeted = false;
        }
        break;
    }
}

static void model_new_settings(void)
{
    struct policy_limits *limits = &model.settings.limits;
    memset(limits, 0, sizeof *limits);
    limits->per_source_count = model_random(3) == 0 ? 0 : 1 + model_random(6);
    limits->total_count = model_random(3) == 0 ? 0 : 1 + model_random(20);
    limits->percent_of_remaining = model_random(2) == 0 ? 0 : 1 + model_random(100);
    limits->per_source_action = (enum policy_action)(model_random(4) != 0);
    limits->total_action = (enum policy_action)(model_random(4) != 0);
    limits->percent_action = (enum policy_action)(model_random(4) != 0);
    limits->over_limit = (enum policy_over_limit)(model_random(4) != 0);
    limits->rate_window_us = 3600 * SECOND_US;
    limiter_reload(model.limiter, &model.settings, SECOND_US);
}

static void random_operations_agree_with_the_model(void **state)
{
    (void)state;
    memset(&model, 0, sizeof model);
    model.limiter = limiter_make(MODEL_SOURCES);
    model.random = 88172645463325252u;
    model.settings.ipv6_source_prefix = 64;
    unsigned granted = 0;
    for (unsigned operation = 0; operation < MODEL_OPERATIONS; operation++) {
        if (operation % 200 == 0) {
            model_new_settings();
        }
        model_step(&model.sessions[model_random(MODEL_SESSIONS)]);
        model_check();
    }
    granted = model.granted;
    assert_in_range(granted, 1000, MODEL_OPERATIONS); /* or the test tested nothing */
    for (unsigned i = 0; i < MODEL_SESSIONS; i++) {
        model_close_one(&model.sessions[i]);
        model_check();
    }
    assert_nothing_open(model.limiter);
    limiter_destroy(model.limiter);
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
        cmocka_unit_test(hash_matches_published_vectors),
        cmocka_unit_test(enforce_refuses_the_21st_never_the_20th),
        cmocka_unit_test(report_never_refuses),
        cmocka_unit_test(an_enforced_limit_is_named_before_a_reported_one),
        cmocka_unit_test(total_counts_every_source),
        cmocka_unit_test(percent_is_of_what_remains),
        cmocka_unit_test(rate_slides),
        cmocka_unit_test(sources_are_networks_and_lists),
        cmocka_unit_test(greeted_is_counted_and_returned),
        cmocka_unit_test(peaks_name_the_busiest),
        cmocka_unit_test(hold_is_first_come_first_served),
        cmocka_unit_test(a_slot_freed_before_the_wait_is_granted_at_once),
        cmocka_unit_test(leaving_when_granted_passes_the_slot_on),
        cmocka_unit_test(the_total_goes_round_the_sources),
        cmocka_unit_test(a_source_at_its_own_limit_blocks_nobody_else),
        cmocka_unit_test(held_by_percentage_until_others_leave),
        cmocka_unit_test(a_raised_limit_lets_waiters_in),
        cmocka_unit_test(reload_reaches_every_row),
        cmocka_unit_test(a_newcomer_does_not_overtake_its_row),
        cmocka_unit_test(a_slot_of_its_own_is_not_lost_behind_a_long_walk),
        cmocka_unit_test(wake_may_leave_itself_and_others),
        cmocka_unit_test(leaving_between_grant_and_wake),
        cmocka_unit_test(a_chain_of_wakes_does_not_recurse),
        cmocka_unit_test(the_longest_idle_row_goes_and_never_one_in_use),
        cmocka_unit_test(a_refused_source_is_remembered_longest),
        cmocka_unit_test(a_row_with_waiters_is_not_evicted),
        cmocka_unit_test(a_million_sources_fit_the_documented_bound),
        cmocka_unit_test(create_and_destroy_at_the_edges),
        cmocka_unit_test(random_operations_agree_with_the_model),
        cmocka_unit_test(threads_leave_nothing_behind),
        cmocka_unit_test(wakes_that_leave_each_other_do_not_deadlock),
        cmocka_unit_test(leave_waits_for_a_running_wake),
    };
    if (argc > 1) { /* only the tests that match, such as *wake* */
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
