/* What connections tell about each other: who gets in, what is fresh, what was open at a refusal; and its bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/policy/neighbours.h"
#include "core/smtp/reply_limit.h"

#define SECOND_US UINT64_C(1000000)
#define MINUTE_US (60 * SECOND_US)
#define HOUR_US   (60 * MINUTE_US)

static const uint8_t seed[16] = {1, 2, 3};
static struct policy_settings settings = {.ipv6_source_prefix = 64};
static struct neighbours *neighbours;
static uint64_t now_us;

static int begin(void **state)
{
    (void)state;
    neighbours = neighbours_create(100, seed);
    now_us = 3 * HOUR_US;
    return neighbours == NULL;
}

static int end(void **state)
{
    (void)state;
    neighbours_destroy(neighbours);
    return 0;
}

static struct address host(unsigned number, uint16_t port)
{
    struct address address = {.port = port};
    address.octets[10] = address.octets[11] = 0xff;
    address.octets[12] = 192;
    address.octets[14] = (uint8_t)(number >> 8);
    address.octets[15] = (uint8_t)number;
    return address;
}

static uint32_t opens(unsigned client, unsigned server)
{
    static uint16_t port = 1024;
    struct address from = host(client, port++), to = host(server, 25);
    uint32_t seat = neighbours_open(neighbours, &settings, &from, &to, now_us);
    assert_int_not_equal(seat, 0);
    return seat;
}

static void closes(uint32_t seat)
{
    neighbours_close(neighbours, &seat, now_us);
    assert_int_equal(seat, 0);
}

static uint32_t gets_in(unsigned client, unsigned server)
{
    uint32_t seat = opens(client, server);
    neighbours_connected(neighbours, seat, true, now_us);
    return seat;
}

static uint32_t speaks(unsigned client, unsigned server)
{
    uint32_t seat = gets_in(client, server);
    neighbours_heard(neighbours, seat, SIDE_SERVER, now_us);
    neighbours_heard(neighbours, seat, SIDE_CLIENT, now_us);
    return seat;
}

static void after(uint64_t ms)
{
    now_us += ms * 1000;
}

/* SYNs at 0, 1, 3, 7 s; at `others_at` somebody else gets in. Returns what is known 12 s after the first. */
static uint32_t tried_in_packets(unsigned others_at)
{
    static const unsigned again[] = {1, 3, 7};
    uint64_t start_us = now_us;
    uint32_t seat = opens(1, 9), other = 0;
    for (unsigned second = 1; second <= 7; second++) {
        now_us = start_us + second * SECOND_US;
        if (second == others_at) {
            other = gets_in(2, 9);
        }
        for (unsigned i = 0; i < 3; i++) {
            if (again[i] == second) {
                after(1);
                neighbours_unanswered(neighbours, seat, true, now_us);
            }
        }
    }
    uint32_t near = neighbours_of_connect(neighbours, seat, 0, start_us + 7 * SECOND_US);
    if (others_at > 7) {
        other = gets_in(2, 9); /* too late to prove anything */
        near |= neighbours_of_connect(neighbours, seat, 0, start_us + 7 * SECOND_US);
    }
    closes(seat);
    closes(other);
    after(1000000);
    return near;
}

static void another_source_gets_in_between_two_syns(void **state)
{
    (void)state;
    assert_int_equal(tried_in_packets(2), NEAR_OTHERS_CONNECT);
    assert_int_equal(tried_in_packets(5), NEAR_OTHERS_CONNECT);
    assert_int_equal(tried_in_packets(8), 0);
    closes(gets_in(2, 9)); /* before the first SYN: the server may have died since */
    after(10);
    assert_int_equal(tried_in_packets(9), 0);
}

/* Where the SYNs themselves are not seen (the kernel sends them), a later one is deduced from their doubling pauses. */
static void without_seeing_syns_time_must_prove_it(void **state)
{
    (void)state;
    uint64_t start_us = now_us;
    uint32_t seat = opens(1, 9), other;
    after(4000);
    other = gets_in(2, 9);
    after(1000);
    assert_int_equal(neighbours_of_connect(neighbours, seat, 0, start_us + 8999000), 0);
    assert_int_equal(neighbours_of_connect(neighbours, seat, 0, start_us + 9000000), NEAR_OTHERS_CONNECT);
    assert_int_equal(neighbours_of_connect(neighbours, seat, 4, now_us),
                     0); /* the last one at 4 s, or later */
    assert_int_equal(neighbours_of_connect(neighbours, seat, 5, now_us), NEAR_OTHERS_CONNECT);
    /* noted at 5 s; the other's latest one comes later and proves less */
    neighbours_unanswered(neighbours, seat, false, now_us);
    closes(other);
    after(20000);
    closes(gets_in(2, 9));
    assert_int_equal(neighbours_of_connect(neighbours, seat, 0, start_us + 10999000), 0);
    assert_int_equal(neighbours_of_connect(neighbours, seat, 0, start_us + 11002000), NEAR_OTHERS_CONNECT);
    closes(seat);
}

static void its_own_source_is_nobody_else(void **state)
{
    (void)state;
    uint64_t start_us = now_us;
    uint32_t seat = opens(1, 9), own, elsewhere;
    after(1000);
    own = gets_in(1, 9);
    elsewhere = gets_in(2, 8); /* another server */
    neighbours_unanswered(neighbours, own, true, now_us);
    neighbours_unanswered(neighbours, elsewhere, true, now_us);
    assert_int_equal(neighbours_of_connect(neighbours, seat, 0, start_us + 60 * SECOND_US), 0);
    closes(own);
    closes(elsewhere);
    closes(seat);
}

static void others_fail_in_the_same_time(void **state)
{
    (void)state;
    uint32_t first = opens(2, 9), second;
    after(1000);
    neighbours_unanswered(neighbours, first, true, now_us);
    after(1000);
    second = opens(1, 9);
    after(1000);
    assert_int_equal(neighbours_of_connect(neighbours, second, 0, now_us), 0); /* that was before its time */
    neighbours_unanswered(neighbours, first, true, now_us);
    after(3000);
    neighbours_unanswered(neighbours, second, true, now_us);
    assert_int_equal(neighbours_of_connect(neighbours, second, 0, now_us), NEAR_OTHERS_FAIL);
    assert_int_equal(neighbours_of_connect(neighbours, first, 0, now_us), NEAR_OTHERS_FAIL);
    closes(first);
    closes(second);
}

static void an_older_connection_of_the_pair_lives(void **state)
{
    (void)state;
    uint32_t older = speaks(1, 9), seat;
    after(2000);
    seat = opens(1, 9);
    after(2000);
    assert_int_equal(neighbours_of_connect(neighbours, seat, 0, now_us), 0);
    neighbours_heard(neighbours, older, SIDE_CLIENT,
                     now_us); /* the client's words prove nothing of the server */
    assert_int_equal(neighbours_of_connect(neighbours, seat, 0, now_us), 0);
    neighbours_heard(neighbours, older, SIDE_SERVER, now_us);
    assert_int_equal(neighbours_of_connect(neighbours, seat, 0, now_us), NEAR_PAIR_LIVES);
    closes(older);
    closes(seat);
}

static void a_fresh_connection_works_or_fails(void **state)
{
    (void)state;
    uint32_t stuck = speaks(1, 9), fresh;
    after(300000);
    uint64_t since_us = now_us;
    neighbours_heard(neighbours, stuck, SIDE_SERVER, now_us); /* itself, begun before */
    assert_int_equal(neighbours_of_leg(neighbours, stuck, SIDE_SERVER, since_us), 0);
    after(1000);
    fresh = opens(1, 9);
    after(3000);
    neighbours_unanswered(neighbours, fresh, true, now_us);
    assert_int_equal(neighbours_of_leg(neighbours, stuck, SIDE_SERVER, since_us), NEAR_FRESH_FAILS);
    assert_int_equal(neighbours_of_leg(neighbours, stuck, SIDE_CLIENT, since_us), 0);
    neighbours_connected(neighbours, fresh, true, now_us);
    assert_int_equal(neighbours_of_leg(neighbours, stuck, SIDE_SERVER, since_us),
                     0); /* in, and silent so far */
    neighbours_heard(neighbours, fresh, SIDE_SERVER, now_us);
    assert_int_equal(neighbours_of_leg(neighbours, stuck, SIDE_SERVER, since_us), NEAR_FRESH_WORKS);
    assert_int_equal(neighbours_of_leg(neighbours, stuck, SIDE_CLIENT, since_us), 0);
    closes(fresh);
    fresh = gets_in(1, 8); /* the client's leg is the same to any server */
    neighbours_heard(neighbours, fresh, SIDE_CLIENT, now_us);
    assert_int_equal(neighbours_of_leg(neighbours, stuck, SIDE_CLIENT, since_us), NEAR_FRESH_WORKS);
    closes(fresh);
    closes(stuck);
}

static const struct neighbours_receipt *receipt_of(uint32_t seat)
{
    const struct neighbours_receipt *receipt = neighbours_take_receipt(neighbours, seat, now_us);
    assert_non_null(receipt);
    assert_ptr_equal(neighbours_receipt(neighbours, seat), receipt);
    return receipt;
}

static void a_receipt_counts_phases_and_ages(void **state)
{
    (void)state;
    uint32_t body = speaks(1, 9), idle = speaks(1, 9), syn, leaving, gone, refused, elsewhere = speaks(1, 8);
    neighbours_phase(neighbours, body, PHASE_BODY);
    neighbours_phase(neighbours, idle, PHASE_IDLE);
    after(5000);
    syn = opens(1, 9);
    leaving = speaks(1, 9);
    gone = speaks(1, 9);
    neighbours_closing(neighbours, leaving);
    neighbours_gone(neighbours, gone, now_us);
    neighbours_gone(neighbours, gone, now_us); /* counted once */
    neighbours_closing(neighbours, gone);      /* too late to come back */
    after(1000);
    refused = speaks(1, 9);
    neighbours_phase(neighbours, refused, PHASE_GREETING);
    const struct neighbours_receipt *receipt = receipt_of(refused);
    assert_int_equal(receipt->connecting, 1);
    assert_int_equal(receipt->established, 3);
    assert_int_equal(receipt->closing, 1);
    assert_int_equal(receipt->phases[PHASE_BODY], 1);
    assert_int_equal(receipt->phases[PHASE_IDLE], 1);
    assert_int_equal(receipt->phases[PHASE_GREETING], 1);
    assert_int_equal(receipt->oldest_us, 6 * SECOND_US);
    assert_int_equal(receipt->peak_day, 5);
    closes(body);
    assert_ptr_equal(neighbours_take_receipt(neighbours, refused, now_us), receipt); /* of that instant */
    assert_int_equal(receipt->established, 3);
    closes(idle);
    closes(syn);
    closes(leaving);
    closes(gone);
    closes(refused);
    closes(elsewhere);
}

static uint32_t many[20];

static void open_many(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        many[i] = speaks(1, 9);
        neighbours_greeted(neighbours, many[i], now_us);
        neighbours_greeted(neighbours, many[i], now_us); /* counted once */
    }
}

static void close_many(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        closes(many[i]);
    }
}

static void expect_peaks(uint32_t recent, uint32_t hour, uint32_t day, uint32_t admitted)
{
    uint32_t seat = opens(1, 9);
    const struct neighbours_receipt *receipt = receipt_of(seat);
    assert_int_equal(receipt->peak_recent, recent);
    assert_int_equal(receipt->peak_hour, hour);
    assert_int_equal(receipt->peak_day, day);
    assert_int_equal(receipt->admitted_peak, admitted);
    closes(seat);
}

static void peaks_are_of_minutes_an_hour_and_a_day(void **state)
{
    (void)state;
    open_many(20);
    after(1000);
    expect_peaks(21, 21, 21, 20);
    close_many(20);
    after(59000);
    expect_peaks(21, 21, 21, 20); /* the minute before counts */
    after(120000);
    expect_peaks(1, 21, 21, 20);
    now_us += 50 * MINUTE_US;
    expect_peaks(1, 21, 21, 20);
    now_us += 20 * MINUTE_US;
    expect_peaks(1, 1, 21, 20);
    now_us += 21 * HOUR_US;
    expect_peaks(1, 1, 21, 20);
    now_us += 4 * HOUR_US;
    expect_peaks(1, 1, 1, 0);
    now_us += 1000 * HOUR_US;
    expect_peaks(1, 1, 1, 0);
}

static void one_after_the_other_is_one_at_once(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        open_many(1);
        neighbours_gone(neighbours, many[0], now_us);
        after(10);
        closes(many[0]);
    }
    expect_peaks(1, 1, 1, 1);
}

/* Sessions that stay open count in every hour, though nobody comes or goes. */
static void a_peak_lasts_until_it_is_over(void **state)
{
    (void)state;
    open_many(5);
    now_us += 3 * HOUR_US;
    close_many(5);
    now_us += 30 * MINUTE_US;
    expect_peaks(1, 5, 5, 5);
}

static void a_full_table_seats_nobody_and_forgets_the_idle(void **state)
{
    (void)state;
    static uint32_t seats[100];
    struct address client = host(500, 1), server = host(9, 25);
    for (unsigned i = 0; i < 100; i++) {
        seats[i] = opens(i, 9);
    }
    uint32_t extra = neighbours_open(neighbours, &settings, &client, &server, now_us);
    assert_int_equal(extra, 0);
    /* Without a seat everything is silent, and harmless. */
    neighbours_phase(neighbours, extra, PHASE_BODY);
    neighbours_closing(neighbours, extra);
    neighbours_gone(neighbours, extra, now_us);
    neighbours_connected(neighbours, extra, true, now_us);
    neighbours_greeted(neighbours, extra, now_us);
    neighbours_heard(neighbours, extra, SIDE_SERVER, now_us);
    neighbours_unanswered(neighbours, extra, true, now_us);
    assert_int_equal(neighbours_of_connect(neighbours, extra, 0, now_us), 0);
    assert_int_equal(neighbours_of_leg(neighbours, extra, SIDE_SERVER, 0), 0);
    assert_null(neighbours_take_receipt(neighbours, extra, now_us));
    assert_null(neighbours_receipt(neighbours, extra));
    assert_null(neighbours_pace(neighbours, extra));
    neighbours_close(neighbours, &extra, now_us);
    neighbours_close(NULL, &extra, now_us);
    closes(seats[7]);
    after(1);
    seats[7] = opens(500, 9); /* in the place of the one that left */
    for (unsigned i = 0; i < 100; i++) {
        closes(seats[i]);
    }
    assert_null(neighbours_receipt(NULL, 1));
    assert_int_equal(neighbours_open(NULL, &settings, &client, &server, now_us), 0);
}

static void memory_is_what_is_documented(void **state)
{
    (void)state;
    struct neighbours *most = neighbours_create(UINT32_MAX - 1, seed);
    assert_non_null(most);
    assert_in_range(neighbours_memory_octets(most), 1, NEIGHBOURS_WORST_OCTETS);
    neighbours_destroy(most);
    neighbours_destroy(NULL);
}

/* Against a model: seats come and go at random, and the counts of a pair are always right. */
static void random_comings_and_goings(void **state)
{
    (void)state;
    enum { CLIENTS = 6, SEATS = 300 };
    static uint32_t seats[SEATS];
    static unsigned owner[SEATS];
    unsigned open[CLIENTS] = {0};
    uint64_t random = 88172645463325252u;
    memset(seats, 0, sizeof seats);
    for (unsigned step = 0; step < 40000; step++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        unsigned at = (unsigned)(random % SEATS);
        if (seats[at] == 0) {
            owner[at] = (unsigned)(random >> 20) % CLIENTS;
            seats[at] = opens(owner[at], 9);
            open[owner[at]]++;
        } else {
            if (random >> 40 & 1) {
                const struct neighbours_receipt *receipt = receipt_of(seats[at]);
                assert_int_equal(receipt->connecting, open[owner[at]]);
            }
            closes(seats[at]);
            seats[at] = 0;
            open[owner[at]]--;
        }
        after(random >> 50);
    }
    for (unsigned at = 0; at < SEATS; at++) {
        if (seats[at] != 0) {
            closes(seats[at]);
        }
    }
}

static void *live(void *context)
{
    unsigned client = *(const unsigned *)context;
    for (unsigned i = 0; i < 3000; i++) {
        struct address from = host(client, (uint16_t)i), to = host(9, 25);
        uint32_t seat = neighbours_open(neighbours, &settings, &from, &to, now_us + i);
        neighbours_connected(neighbours, seat, true, now_us + i);
        neighbours_heard(neighbours, seat, SIDE_SERVER, now_us + i);
        neighbours_phase(neighbours, seat, (enum phase)(i % PHASE_COUNT));
        (void)neighbours_take_receipt(neighbours, seat, now_us + i);
        neighbours_gone(neighbours, seat, now_us + i);
        neighbours_close(neighbours, &seat, now_us + i);
    }
    return NULL;
}

static void threads_leave_nothing_behind(void **state)
{
    (void)state;
    static unsigned clients[4] = {1, 1, 2, 3};
    pthread_t threads[4];
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, live, &clients[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    uint32_t seat = opens(1, 9);
    const struct neighbours_receipt *receipt = receipt_of(seat);
    assert_int_equal(receipt->connecting + receipt->established + receipt->closing, 1);
    closes(seat);
}

static void limits_named_in_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t limit;
    } cases[] = {
        {"421 4.7.0 too many connections from your address, limit 10", 10},
        {"421 Too many concurrent connections (limit: 5)", 5},
        {"421 4.7.0 Error: limit is 20", 20},
        {"421 Maximum of 10 connections per IP exceeded", 10},
        {"421 you may have no more than 25 concurrent sessions", 25},
        {"421 only 3 connections are allowed", 3},
        {"421 exceeded 12 simultaneous connections", 12},
        {"421 Too many connections, max=8, try again in 10 minutes", 8},
        {"421 max connections 15.", 15},
        {"421 4.7.0 server.test Error: too many connections from 192.0.2.7", 0},
        {"421 too many connections, try again in 10 minutes", 0},
        {"421 too many connections from 10 (port 25)", 0},
        {"421 limit 10.1.2.3 exceeded", 0},
        {"421 limit 60s", 0},
        {"421 limit 10 per minute", 0},
        {"421-too many connections, above the limit 421 come again", 0},
        {"421 4.3.2 The maximum number of concurrent server connections has exceeded a per-source limit", 0},
        {"421 limit 4294967306 reached", 0},
        {"421 limit 0", 0},
        {"421 AUP#CXCNCT", 0},
        {"421", 0},
        {"", 0},
    };
    assert_int_equal(reply_text_limit(NULL), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (reply_text_limit(cases[i].text) != cases[i].limit) {
            print_error("%s: %u\n", cases[i].text, reply_text_limit(cases[i].text));
        }
        assert_int_equal(reply_text_limit(cases[i].text), cases[i].limit);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(another_source_gets_in_between_two_syns),
        TEST(without_seeing_syns_time_must_prove_it),
        TEST(its_own_source_is_nobody_else),
        TEST(others_fail_in_the_same_time),
        TEST(an_older_connection_of_the_pair_lives),
        TEST(a_fresh_connection_works_or_fails),
        TEST(a_receipt_counts_phases_and_ages),
        TEST(peaks_are_of_minutes_an_hour_and_a_day),
        TEST(one_after_the_other_is_one_at_once),
        TEST(a_peak_lasts_until_it_is_over),
        TEST(a_full_table_seats_nobody_and_forgets_the_idle),
        TEST(memory_is_what_is_documented),
        TEST(random_comings_and_goings),
        TEST(threads_leave_nothing_behind),
        TEST(limits_named_in_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
