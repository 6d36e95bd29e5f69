/* Is it this host that drops? Two SYNs repeated, and what comes out in POSTROUTING. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <linux/netfilter.h>

#include "core/tracker/tracker.h"
#include "nfq/departure.h"
#include "nfq/segment.h"

#define BIT 0x20u
#define S   UINT64_C(1000000)

static struct tracker *tracker;
static struct departure departure;
static struct policy_settings policy;
static struct verdict verdict;
static bool judged;

static void on_record(void *context, struct tracker_session *tracked, const struct record *record)
{
    (void)context;
    if (record->kind == RECORD_VERDICT) {
        verdict = record->verdict;
        judged = departure_judge(&departure, tracked, &verdict);
    }
}

static struct address address_of(uint8_t a, uint8_t d, uint16_t port)
{
    struct address address = {.port = port};

    memset(address.octets + 10, 0xff, 2);
    memcpy(address.octets + 12, (const uint8_t[]){a, 0, 0, d}, 4);
    return address;
}

/* A packet as it comes from the queue; the mark it leaves with. */
static uint32_t queue(const struct segment *segment, uint8_t hook, uint32_t mark, uint64_t now_us,
                      enum queue_verdict *said)
{
    uint8_t octets[SEGMENT_HEADER_OCTETS];
    size_t length = segment_build(segment, octets, sizeof octets);
    struct queue_packet queued = {
        .octets = octets, .captured = length, .wire_length = length, .mark = mark, .hook = hook};

    *said = QUEUE_ACCEPT;
    if (!departure_take(&departure, tracker, &queued, said, now_us)) {
        tracker_on_packet(tracker, octets, length, length, now_us, 0);
        departure_follow(&departure, tracker_latest(tracker), &queued, now_us);
    }
    return queued.mark;
}

static const struct segment *syn(void)
{
    static struct segment segment;

    segment = (struct segment){.source = address_of(192, 1, 4000),
                               .destination = address_of(192, 2, 25),
                               .sequence = 7,
                               .flags = PACKET_SYN,
                               .ttl = 60};
    return &segment;
}

/* A SYN and its repetitions in FORWARD; `leaves`: POSTROUTING shows them; `proof`: our own segment comes out. */
static void unanswered(bool leaves, bool proof, uint8_t hook)
{
    enum queue_verdict said;

    judged = false;
    for (unsigned i = 0; i < 4; i++) {
        const uint64_t now_us = (1 + (1u << i)) * S;
        uint32_t mark = queue(syn(), hook, 0x100, now_us, &said);

        assert_int_equal(said, QUEUE_ACCEPT);
        assert_int_equal(mark, i == 0 || hook != NF_INET_FORWARD ? 0x100 : 0x100 | BIT);
        if (mark == 0x100)
            continue;
        assert_true(departure.due[0]);
        if (leaves)
            assert_int_equal(queue(syn(), NF_INET_POST_ROUTING, mark, now_us, &said), 0x100);
        if (proof) {
            struct segment own = {.source = address_of(127, 1, departure.port),
                                  .destination = address_of(127, 1, 25),
                                  .ttl = 1};
            (void)queue(&own, NF_INET_POST_ROUTING, BIT, now_us, &said);
            assert_int_equal(said, QUEUE_OWN);
        }
        departure_prove(&departure); /* there is no such socket here: nothing is sent */
        assert_false(departure.due[0]);
    }
    tracker_finish(tracker, 200 * S);
}

static int setup(void **state)
{
    (void)state;
    struct tracker_options options = {
        .mode = RECORD_NFQ, .policy = &policy, .max_flows = 64, .callbacks = {.record = on_record}};
    tracker = tracker_create(&options);
    assert_non_null(tracker);
    tracker_set_port(tracker, 25, TRACKER_PORT_SMTP);
    departure =
        (struct departure){.sockets = {1000000, 1000000}, .bit = BIT, .port = 4096, .server_port = 25};
    verdict = (struct verdict){0};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tracker_destroy(tracker);
    return 0;
}

static void test_what_does_not_leave_is_our_doing(void **state)
{
    (void)state;
    unanswered(false, true, NF_INET_FORWARD);
    assert_true(judged);
    assert_int_equal(verdict.fault, FAULT_WITNESS);
    assert_int_equal(verdict.cause, CAUSE_OWN_DROP);
}

static void test_what_leaves_is_not(void **state)
{
    (void)state;
    unanswered(true, true, NF_INET_FORWARD);
    assert_false(judged);
    assert_int_not_equal(verdict.fault, FAULT_WITNESS);
}

static void test_without_proof_nothing_is_concluded(void **state)
{
    (void)state;
    unanswered(false, false, NF_INET_FORWARD);
    assert_false(judged);
}

static void test_on_the_servers_own_host_nothing_is_followed(void **state)
{
    (void)state;
    unanswered(false, true, NF_INET_LOCAL_IN);
    assert_false(judged);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_does_not_leave_is_our_doing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_leaves_is_not, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_proof_nothing_is_concluded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_on_the_servers_own_host_nothing_is_followed, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
