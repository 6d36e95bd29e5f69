/* Datagrams in fragments: any order, doubled, overlapping, cut, too big, too many, too late. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/tcp/fragments.h"
#include "tests/unit/test_packets.h"

#define PARTS 5
#define EACH  16

static struct fragments *fragments;
static uint8_t octets[40 + PARTS * EACH + FRAGMENTS_OCTETS];
static struct packet packet;
static struct fragments_whole whole;

/* Octets [offset, offset + length) of the datagram `id`, each octet its own offset. */
static bool take(bool four, uint32_t id, size_t offset, size_t length, bool more, size_t captured,
                 uint64_t now_us)
{
    size_t front;
    if (four) {
        front = test_put_ip(octets, "192.0.2.7", "198.51.100.25", 6, 60, (uint16_t)id, length);
        test_put16(octets + 6, (more ? 0x2000u : 0u) | (unsigned)(offset / 8));
    } else {
        front = test_put_ip(octets, "2001:db8::7", "2001:db8::25", 44, 60, 0, length + 8) + 8;
        memset(octets + 40, 0, 8);
        octets[40] = 6;
        test_put16(octets + 42, (unsigned)offset | (more ? 1 : 0));
        test_put32(octets + 44, id);
    }
    for (size_t i = 0; i < length; i++) {
        octets[front + i] = (uint8_t)(offset + i);
    }
    assert_int_equal(packet_parse(&packet, octets, front + captured, front + length), PACKET_FRAGMENT);
    return fragments_take(fragments, &packet, now_us, &whole);
}

static bool part(bool four, uint32_t id, size_t number, uint64_t now_us)
{
    bool last = number == PARTS - 1; /* which is shorter and no multiple of 8 */
    return take(four, id, number * EACH, last ? 5 : EACH, !last, last ? 5 : EACH, now_us);
}

static void expect_whole(bool four, size_t captured)
{
    size_t front = four ? 20 : 40, length = (PARTS - 1) * EACH + 5;
    assert_int_equal(whole.length, front + length);
    assert_int_equal(whole.captured, front + captured);
    for (size_t i = 0; i < captured; i++) {
        assert_int_equal(whole.octets[front + i], (uint8_t)i);
    }
    struct packet again; /* ports 1 and 515, a header of 32 octets by its 13th */
    assert_int_not_equal(packet_parse(&again, whole.octets, whole.captured, whole.length), PACKET_FRAGMENT);
    assert_int_equal(again.ttl, 60);
    assert_memory_equal(again.source.octets, packet.source.octets, sizeof again.source.octets);
    assert_memory_equal(again.destination.octets, packet.destination.octets, sizeof again.destination.octets);
}

static void test_any_order(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 240; round++) { /* every order of five, in both versions */
        size_t order[PARTS] = {0, 1, 2, 3, 4};
        uint32_t left = round / 2;
        for (size_t i = PARTS - 1; i > 0; i--) {
            size_t at = left % (i + 1), swap = order[i];
            left /= (uint32_t)(i + 1);
            order[i] = order[at];
            order[at] = swap;
        }
        bool four = (round & 1) != 0;
        for (size_t i = 0; i + 1 < PARTS; i++) {
            assert_false(part(four, round, order[i], 1000));
            assert_false(part(four, round, order[i], 1000)); /* captured twice */
        }
        assert_true(part(four, round, order[PARTS - 1], 1000));
        expect_whole(four, (PARTS - 1) * EACH + 5);
        assert_int_equal(whole.fragment_count, 2 * PARTS - 1);
    }
}

static void test_several_at_once(void **state)
{
    (void)state;
    for (size_t number = 0; number < PARTS; number++) {
        for (uint32_t id = 0; id < FRAGMENTS_DATAGRAMS; id++) {
            assert_int_equal(part((id & 1) != 0, id, number, 1000 + id), number == PARTS - 1);
        }
    }
}

static void test_one_too_many_pushes_out_the_oldest(void **state)
{
    (void)state;
    for (uint32_t id = 0; id <= FRAGMENTS_DATAGRAMS; id++) {
        assert_false(part(true, id, 0, 1000 + id));
    }
    for (uint32_t id = FRAGMENTS_DATAGRAMS; id > 0; id--) {
        for (size_t number = 1; number < PARTS; number++) {
            assert_int_equal(part(true, id, number, 2000), number == PARTS - 1);
        }
    }
    for (size_t number = 1; number < PARTS; number++) {
        assert_false(part(true, 0, number, 2000));
    }
}

static void test_nothing_is_waited_for_too_long(void **state)
{
    (void)state;
    for (size_t number = 0; number + 1 < PARTS; number++) {
        assert_false(part(true, 1, number, 1000));
        assert_false(part(true, 2, number, 1000));
    }
    assert_true(part(true, 1, PARTS - 1, 1000 + FRAGMENTS_PATIENCE_US - 1));
    assert_false(part(true, 2, PARTS - 1, 1000 + FRAGMENTS_PATIENCE_US));
}

static void test_overlaps_are_given_up(void **state)
{
    (void)state;
    assert_false(part(true, 1, 0, 1000));
    assert_false(take(true, 1, 8, 16, true, 16, 1000)); /* overlaps, though with the same octets */
    for (size_t number = 1; number < PARTS; number++) {
        assert_false(part(true, 1, number, 1000));
    }
    assert_false(part(true, 2, 0, 1000)); /* the same place, other octets */
    octets[20 + 3] ^= 1;
    assert_int_equal(packet_parse(&packet, octets, 20 + EACH, 20 + EACH), PACKET_FRAGMENT);
    assert_false(fragments_take(fragments, &packet, 1000, &whole));
    for (size_t number = 1; number < PARTS; number++) {
        assert_false(part(true, 2, number, 1000));
    }
}

static void test_lengths_that_cannot_be(void **state)
{
    (void)state;
    assert_false(take(true, 1, 0, 12, true, 12, 1000)); /* not the last, and no multiple of 8 */
    assert_false(take(true, 1, 8, 8, false, 8, 1000));
    assert_false(take(true, 2, 8, 8, false, 8, 1000)); /* two ends */
    assert_false(take(true, 2, 16, 8, false, 8, 1000));
    assert_false(take(true, 2, 0, 8, true, 8, 1000));
    assert_false(take(true, 3, 8, 8, false, 8, 1000)); /* something behind the end */
    assert_false(take(true, 3, 16, 8, true, 8, 1000));
    assert_false(take(true, 3, 0, 8, true, 8, 1000));
    assert_false(take(true, 4, 0, 0, true, 0, 1000)); /* nothing */
    assert_false(take(true, 4, 0, 8, true, 8, 1000));
    assert_false(take(true, 4, 8, 8, false, 8, 1000));
}

static void test_the_biggest(void **state)
{
    (void)state;
    assert_false(take(true, 1, 0, FRAGMENTS_OCTETS - 8, true, FRAGMENTS_OCTETS - 8, 1000));
    assert_true(take(true, 1, FRAGMENTS_OCTETS - 8, 8, false, 8, 1000));
    assert_int_equal(whole.length, FRAGMENTS_OCTETS + 20);
    assert_false(take(true, 2, 0, FRAGMENTS_OCTETS - 8, true, FRAGMENTS_OCTETS - 8, 1000));
    assert_false(take(true, 2, FRAGMENTS_OCTETS - 8, 9, false, 9, 1000));
    assert_false(take(true, 3, 0xfff8, 7, false, 7, 1000)); /* the highest offset there is */
}

static void test_cut_by_the_capture(void **state)
{
    (void)state;
    for (size_t number = 0; number + 1 < PARTS; number++) {
        assert_false(take(true, 1, number * EACH, EACH, true, number == 2 ? 3 : EACH, 1000));
    }
    assert_true(part(true, 1, PARTS - 1, 1000));
    expect_whole(true, 2 * EACH + 3);
}

static int setup(void **state)
{
    (void)state;
    fragments = fragments_create();
    return fragments == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    fragments_destroy(fragments);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_any_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_several_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_too_many_pushes_out_the_oldest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_is_waited_for_too_long, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overlaps_are_given_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lengths_that_cannot_be, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_biggest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cut_by_the_capture, setup, teardown),
    };
    return cmocka_run_group_tests_name("fragments", tests, NULL, NULL);
}
