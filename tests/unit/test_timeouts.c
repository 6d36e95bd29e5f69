/* RFC 5321's numbers, and which timeouts and limits are in force for whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/policy/timeouts.h"

#define MINUTES UINT64_C(60000000)

static struct address address_of(const char *text)
{
    struct address address = {.port = 25};
    struct network network;
    assert_true(network_parse(&network, text));
    memcpy(address.octets, network.octets, sizeof address.octets);
    return address;
}

/* Every phase and side has its answer here: how many minutes. */
static void rfc5321_section_4_5_3_2(void **state)
{
    (void)state;
    static const struct {
        uint8_t server_owes, client_owes;
    } expected[PHASE_COUNT] = {
        [PHASE_CONNECT] = {0, 0},  [PHASE_GREETING] = {5, 5},     [PHASE_HELO] = {5, 5},
        [PHASE_STARTTLS] = {5, 5}, [PHASE_TLS] = {5, 5},          [PHASE_AUTH] = {5, 5},
        [PHASE_MAIL] = {5, 5},     [PHASE_RCPT] = {5, 5},         [PHASE_DATA] = {2, 5},
        [PHASE_BODY] = {3, 5},     [PHASE_END_OF_DATA] = {10, 5}, [PHASE_BDAT] = {5, 5},
        [PHASE_RSET] = {5, 5},     [PHASE_QUIT] = {5, 5},         [PHASE_COMMAND] = {5, 5},
        [PHASE_IDLE] = {5, 5},     [PHASE_CLOSED] = {0, 0},       [PHASE_OPAQUE] = {5, 5},
    };
    for (enum phase phase = 0; phase < PHASE_COUNT; phase++) {
        assert_int_equal(rfc5321_patience_us(phase, SIDE_SERVER), expected[phase].server_owes * MINUTES);
        assert_int_equal(rfc5321_patience_us(phase, SIDE_CLIENT), expected[phase].client_owes * MINUTES);
        assert_int_equal(rfc5321_patience_us(phase, SIDE_NONE), 0);
    }
}

static const struct policy_timeouts *timeouts_for(const struct policy_settings *settings,
                                                  const struct address *client, const struct address *server)
{
    return policy_timeouts(settings, policy_choose_timeouts(settings, client, server));
}

static void a_source_beats_a_server_and_the_first_match_wins(void **state)
{
    (void)state;
    struct network gateway[2], inner[1], everyone_v6[1], exchange[1];
    assert_true(network_parse(&gateway[0], "198.51.100.0/24"));
    assert_true(network_parse(&gateway[1], "192.0.2.0/25"));
    assert_true(network_parse(&inner[0], "192.0.2.7"));
    assert_true(network_parse(&everyone_v6[0], "::/0"));
    assert_true(network_parse(&exchange[0], "203.0.113.25"));
    struct policy_override sources[3] = {
        {.name = "gateway", .networks = gateway, .network_count = 2},
        {.name = "inner", .networks = inner, .network_count = 1}, /* inside gateway: never reached */
        {.name = "empty", .networks = NULL, .network_count = 0},
    };
    struct policy_override servers[1] = {{.name = "exchange", .networks = exchange, .network_count = 1}};
    struct policy_settings settings = {
        .sources = sources, .source_count = 3, .servers = servers, .server_count = 1};
    const struct policy_override *source = &sources[2];
    struct address client = address_of("192.0.2.7"), stranger = address_of("192.0.2.200");
    struct address server = address_of("203.0.113.25"), other = address_of("203.0.113.26");

    assert_ptr_equal(timeouts_for(&settings, &client, &server), &sources[0].timeouts);
    assert_ptr_equal(policy_limits_for(&settings, &client, &server, &source), &sources[0].limits);
    assert_ptr_equal(source, &sources[0]);
    assert_ptr_equal(timeouts_for(&settings, &stranger, &server), &servers[0].timeouts);
    assert_ptr_equal(policy_limits_for(&settings, &stranger, &server, &source), &servers[0].limits);
    assert_null(source);
    assert_ptr_equal(timeouts_for(&settings, &stranger, &other), &settings.timeouts);
    assert_ptr_equal(policy_limits_for(&settings, &stranger, &other, NULL), &settings.limits);
    sources[2].networks = everyone_v6; /* ::/0 is every IPv6 address, and the mapped IPv4 ones with it */
    sources[2].network_count = 1;
    struct address six = address_of("2001:db8::1");
    assert_ptr_equal(timeouts_for(&settings, &six, &server), &sources[2].timeouts);
}

static void idle_has_its_own_setting(void **state)
{
    (void)state;
    struct policy_timeouts timeouts = {.idle_us = 99};
    for (enum phase phase = 0; phase < PHASE_COUNT; phase++) {
        timeouts.phase_us[phase] = 100 + (uint64_t)phase;
    }
    for (enum phase phase = 0; phase < PHASE_COUNT; phase++) {
        assert_int_equal(policy_silence_us(&timeouts, phase),
                         phase == PHASE_IDLE ? 99 : 100 + (uint64_t)phase);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc5321_section_4_5_3_2),
        cmocka_unit_test(a_source_beats_a_server_and_the_first_match_wins),
        cmocka_unit_test(idle_has_its_own_setting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
