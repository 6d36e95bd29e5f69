/* What is said, and to whom, about a connection that we ended. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "core/tcp/packet.h"
#include "nfq/parting.h"

#define SECOND UINT64_C(1000000)
#define TEXT   "421 4.4.2 no\r\n"

static struct parting_table *table;
static struct flow_table *flows;
static struct flow_entry *entry;
static struct segment sent[16];
static char texts[16][64];
static unsigned sent_count;
static uint64_t now_us;

static bool keep(void *context, const struct segment *segment)
{
    (void)context;
    assert_true(sent_count < 16);
    if (segment->payload_length > 0)
        memcpy(texts[sent_count], segment->payload, segment->payload_length);
    sent[sent_count++] = *segment;
    return true;
}

static struct address end(uint8_t last, uint16_t port)
{
    struct address address = {.port = port};

    memset(address.octets + 10, 0xff, 2);
    memcpy(address.octets + 12, (uint8_t[]){192, 0, 2, last}, 4);
    return address;
}

static struct packet from(enum side side, uint8_t flags, uint32_t sequence, uint32_t acknowledgement,
                          size_t length)
{
    struct address client = end(1, 40000), server = end(2, 25);

    return (struct packet){.kind = PACKET_TCP,
                           .source = side == SIDE_CLIENT ? client : server,
                           .destination = side == SIDE_CLIENT ? server : client,
                           .flags = flags,
                           .sequence = sequence,
                           .acknowledgement = acknowledgement,
                           .payload_length = length,
                           .ttl = 60};
}

static bool comes(enum side side, uint8_t flags, uint32_t sequence, uint32_t acknowledgement, size_t length)
{
    struct packet packet = from(side, flags, sequence, acknowledgement, length);

    sent_count = 0;
    return parting_takes(table, &packet, now_us);
}

/* Client's next octet 1000, server's 5000, all acknowledged. */
static int setup(void **state)
{
    static const uint8_t seed[FLOW_TABLE_SEED_OCTETS];
    const struct address client = end(1, 40000), server = end(2, 25);

    (void)state;
    now_us = SECOND;
    sent_count = 0;
    table = parting_table_create(keep, NULL);
    flows = flow_table_create(64, seed, NULL, NULL);
    assert_non_null(table);
    assert_non_null(flows);
    entry = flow_table_add(flows, &client, &server, now_us);
    flow_init(&entry->flow, false);
    entry->flow.state = FLOW_ESTABLISHED;
    for (unsigned i = 0; i < SIDE_PAIR; i++) {
        struct flow_side *side = &entry->flow.sides[i];

        side->next = side->highest = side->acked = i == 0 ? 1000 : 5000;
        side->first = i == 0 ? 900 : 4900;
        side->window = 500;
        side->ttl_high = 60;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    flow_table_remove(flows, entry);
    flow_table_destroy(flows);
    parting_table_destroy(table);
    return 0;
}

static void begin(const char *text)
{
    sent_count = 0;
    parting_begin(table, entry, text, text != NULL ? strlen(text) : 0, now_us);
}

static void test_client_is_told_and_server_reset(void **state)
{
    (void)state;
    begin(TEXT);
    assert_int_equal(sent_count, 2);
    assert_int_equal(sent[0].source.port, 25);
    assert_int_equal(sent[0].sequence, 5000);
    assert_int_equal(sent[0].acknowledgement, 1000);
    assert_int_equal(sent[0].flags, PACKET_ACK | PACKET_PSH | PACKET_FIN);
    assert_string_equal(texts[0], TEXT);
    assert_int_equal(sent[1].source.port, 40000);
    assert_int_equal(sent[1].sequence, 1000); /* exactly what it expects: no challenge */
    assert_true(sent[1].flags & PACKET_RST);
    assert_int_equal(sent[1].payload_length, 0);
}

/* RFC 6298: after 1, 2, 4 s and so on; a reset in the end. */
static void test_text_is_repeated_until_acknowledged(void **state)
{
    unsigned spoken = 0;

    (void)state;
    begin(TEXT);
    for (unsigned i = 0; i < 640; i++) {
        now_us += SECOND / 10;
        sent_count = 0;
        parting_on_deadline(table, now_us);
        spoken += sent_count;
        if (sent_count > 0 && spoken <= PARTING_REPEATS)
            assert_int_equal(sent[0].sequence, 5000);
    }
    assert_int_equal(spoken, PARTING_REPEATS + 1);
    assert_int_equal(parting_count(table), 0); /* a minute is over */
}

static void test_acknowledged_text_is_not_repeated(void **state)
{
    (void)state;
    begin(TEXT);
    assert_true(comes(SIDE_CLIENT, PACKET_ACK, 1000, 5000 + (uint32_t)strlen(TEXT) + 1, 0));
    assert_int_equal(sent_count, 0);
    now_us += 40 * SECOND;
    parting_on_deadline(table, now_us);
    assert_int_equal(sent_count, 0);
    assert_int_equal(parting_count(table), 1);
}

/* So that it closes in order, and no reset destroys what it has not read yet. */
static void test_what_the_client_says_is_acknowledged(void **state)
{
    const uint32_t after = 5000 + (uint32_t)strlen(TEXT) + 1;

    (void)state;
    begin(TEXT);
    assert_true(comes(SIDE_CLIENT, PACKET_ACK | PACKET_PSH, 1000, 5000, 6)); /* QUIT, crossing our text */
    assert_int_equal(sent_count, 1);
    assert_int_equal(sent[0].flags, PACKET_ACK);
    assert_int_equal(sent[0].sequence, 5000);
    assert_int_equal(sent[0].acknowledgement, 1006);
    assert_true(comes(SIDE_CLIENT, PACKET_ACK | PACKET_FIN, 1006, after, 0));
    assert_int_equal(sent[0].acknowledgement, 1007);
    assert_int_equal(sent[0].sequence, after);
    assert_true(comes(SIDE_CLIENT, PACKET_ACK | PACKET_FIN, 1006, after, 0)); /* again: ours was lost */
    assert_int_equal(sent[0].acknowledgement, 1007);
    assert_true(comes(SIDE_CLIENT, PACKET_ACK, 2000, after, 100)); /* out of order: not taken */
    assert_int_equal(sent[0].acknowledgement, 1007);
}

static void test_server_that_goes_on_is_reset_where_it_stands(void **state)
{
    (void)state;
    begin(TEXT);
    assert_true(comes(SIDE_SERVER, PACKET_ACK, 5000, 990, 100));
    assert_int_equal(sent_count, 1);
    assert_int_equal(sent[0].sequence, 990);
    assert_int_equal(sent[0].source.port, 40000);
    assert_true(sent[0].flags & PACKET_RST);
    assert_true(comes(SIDE_SERVER, PACKET_RST, 5000, 0, 0));
    assert_int_equal(sent_count, 0); /* never a reset for a reset */
}

static void test_nothing_is_said_while_octets_are_under_way(void **state)
{
    (void)state;
    entry->flow.sides[1].highest = entry->flow.sides[1].next = 5020;
    assert_false(parting_can_speak(&entry->flow));
    begin(TEXT);
    assert_int_equal(sent_count,
                     3); /* two resets for the client: whether the 20 octets arrived is not known */
    assert_int_equal(sent[0].sequence, 5000);
    assert_int_equal(sent[1].sequence, 5020);
    assert_true(comes(SIDE_CLIENT, PACKET_ACK, 1000, 5010, 0));
    assert_int_equal(sent[0].sequence, 5010);
}

static void test_after_the_servers_last_word_nothing_is_added(void **state)
{
    (void)state;
    entry->flow.sides[1].flags |= FLOW_SIDE_FIN_SHOWN;
    assert_false(parting_can_speak(&entry->flow));
}

static void test_new_connection_on_the_same_ports(void **state)
{
    (void)state;
    begin(NULL);
    assert_false(comes(SIDE_CLIENT, PACKET_SYN, 77777, 0, 0));
    assert_int_equal(parting_count(table), 0);
    assert_false(comes(SIDE_SERVER, PACKET_SYN | PACKET_ACK, 99, 77778, 0));
}

static void test_refused_syn(void **state)
{
    struct packet syn = from(SIDE_CLIENT, PACKET_SYN, 41, 0, 0);

    (void)state;
    parting_refuse_syn(table, &syn);
    assert_int_equal(sent[0].flags, PACKET_RST | PACKET_ACK);
    assert_int_equal(sent[0].acknowledgement, 42);
    assert_int_equal(sent[0].sequence, 0);
    assert_int_equal(sent[0].destination.port, 40000);
}

static void test_the_oldest_makes_room(void **state)
{
    (void)state;
    for (unsigned i = 0; i <= PARTING_SLOTS; i++) {
        struct address client = end(1, (uint16_t)(1000 + i)), server = end(2, 25);
        struct flow_entry *another = flow_table_add(flows, &client, &server, now_us);

        another->flow = entry->flow;
        sent_count = 0;
        parting_begin(table, another, NULL, 0, now_us);
        flow_table_remove(flows, another);
    }
    assert_int_equal(parting_count(table), PARTING_SLOTS);
    struct packet packet = from(SIDE_CLIENT, PACKET_ACK, 1000, 5000, 0);
    packet.source.port = 1000;
    assert_false(parting_knows(table, &packet));
    packet.source.port = 1000 + PARTING_SLOTS;
    assert_true(parting_knows(table, &packet));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_client_is_told_and_server_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(test_text_is_repeated_until_acknowledged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_acknowledged_text_is_not_repeated, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_the_client_says_is_acknowledged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_server_that_goes_on_is_reset_where_it_stands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_is_said_while_octets_are_under_way, setup, teardown),
        cmocka_unit_test_setup_teardown(test_after_the_servers_last_word_nothing_is_added, setup, teardown),
        cmocka_unit_test_setup_teardown(test_new_connection_on_the_same_ports, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_syn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_oldest_makes_room, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
