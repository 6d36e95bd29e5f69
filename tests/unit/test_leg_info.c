/* proxy/leg_info: measured TCP_INFO of real faults, in the words of the evidence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "proxy/leg_info.h"

#define NOW_US UINT64_C(100000000)
#define MSS    1448u
#define SECOND UINT64_C(1000000)

static struct tcp_info healthy(void)
{
    struct tcp_info info;

    memset(&info, 0, sizeof info);
    info.tcpi_state = 1;
    info.tcpi_options = TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE;
    info.tcpi_snd_mss = MSS;
    info.tcpi_advmss = 1460;
    info.tcpi_pmtu = 1500;
    info.tcpi_rtt = 12400;
    info.tcpi_min_rtt = 9000;
    info.tcpi_snd_wnd = 64256;
    info.tcpi_bytes_acked = 200;
    info.tcpi_delivered = 9;
    info.tcpi_last_ack_recv = 10;
    return info;
}

static struct leg_info_context context_of(uint32_t outstanding)
{
    return (struct leg_info_context){.info_octets = sizeof(struct tcp_info),
                                     .outstanding = outstanding,
                                     .wrote_us = NOW_US - 5 * SECOND,
                                     .now_us = NOW_US};
}

static struct leg_evidence applied(const struct tcp_info *info, const struct leg_info_context *context)
{
    struct leg_evidence evidence;

    memset(&evidence, 0, sizeof evidence);
    leg_info_apply(&evidence, info, context);
    return evidence;
}

static void a_healthy_leg_says_nothing(void **state)
{
    const struct tcp_info info = healthy();
    const struct leg_info_context context = context_of(0);
    const struct leg_evidence evidence = applied(&info, &context);

    (void)state;
    assert_int_equal(evidence.flags, 0);
    assert_int_equal(evidence.rtt_us, 12400);
    assert_int_equal(evidence.rtt_least_us, 9000);
    assert_int_equal(evidence.unacked_octets, 0);
    assert_true(evidence.unacked_since_us == 0);
}

/* A command into a dead network: nothing acknowledged since it was written, five repeats. */
static void a_dead_network_is_not_a_closed_window(void **state)
{
    struct tcp_info info = healthy();
    const struct leg_info_context context = context_of(11);
    struct leg_evidence evidence;

    (void)state;
    info.tcpi_unacked = 1;
    info.tcpi_retransmits = info.tcpi_backoff = 5;
    info.tcpi_total_retrans = 5;
    info.tcpi_last_ack_recv = 60000;
    evidence = applied(&info, &context);
    assert_int_equal(evidence.unacked_octets, 11);
    assert_true(evidence.unacked_since_us == NOW_US - 5 * SECOND);
    assert_int_equal(evidence.flags, LEG_LOSS_AFTER_US);
    /* The time stands while nothing is acknowledged, whatever is written behind it. */
    {
        struct leg_info_context later = context;

        later.now_us += 3 * SECOND;
        later.wrote_us = later.now_us - SECOND;
        info.tcpi_last_ack_recv += 3000;
        leg_info_apply(&evidence, &info, &later);
        assert_true(evidence.unacked_since_us == NOW_US - 5 * SECOND);
    }
}

/* A reply is lost, and 421 is written behind it just now: the repeats tell that the oldest octet is older. */
static void repeats_tell_the_age(void **state)
{
    struct tcp_info info = healthy();
    struct leg_info_context context = context_of(30);
    struct leg_evidence evidence;

    (void)state;
    info.tcpi_unacked = 2;
    info.tcpi_retransmits = info.tcpi_backoff = 4;
    info.tcpi_total_retrans = 4;
    info.tcpi_rto = 3200000; /* 200, 400, 800, 1600 ms have passed */
    info.tcpi_last_ack_recv = 60000;
    context.wrote_us = NOW_US;
    evidence = applied(&info, &context);
    assert_true(evidence.unacked_since_us == NOW_US - 3000000);
    /* ACKs that carry no progress come with what the other side repeats. */
    info.tcpi_last_ack_recv = 0;
    context.wrote_us = NOW_US - 4 * SECOND;
    assert_true(applied(&info, &context).unacked_since_us == NOW_US - 4 * SECOND);
    context.wrote_us = NOW_US;
    /* One that was already known to be older stays. */
    memset(&evidence, 0, sizeof evidence);
    evidence.unacked_since_us = NOW_US - 5 * SECOND;
    leg_info_apply(&evidence, &info, &context);
    assert_true(evidence.unacked_since_us == NOW_US - 5 * SECOND);
    context.progressed = true; /* those octets were acknowledged, these are others */
    leg_info_apply(&evidence, &info, &context);
    assert_true(evidence.unacked_since_us == NOW_US - 3000000);
    /* Without a repeat nothing is known but the last write. */
    info.tcpi_retransmits = info.tcpi_backoff = 0;
    assert_true(applied(&info, &context).unacked_since_us == NOW_US);
}

static void unreachable_until_it_is_reached(void **state)
{
    struct tcp_info info = healthy();
    struct leg_info_context context = context_of(11);
    struct leg_evidence evidence;

    (void)state;
    memset(&evidence, 0, sizeof evidence);
    evidence.flags = LEG_UNREACHABLE;
    info.tcpi_unacked = 1;
    info.tcpi_last_ack_recv = 60000;
    leg_info_apply(&evidence, &info, &context); /* the ICMP error came before the first repeat */
    assert_true((evidence.flags & LEG_UNREACHABLE) != 0);
    info.tcpi_retransmits = info.tcpi_backoff = 2;
    leg_info_apply(&evidence, &info, &context);
    assert_true((evidence.flags & LEG_UNREACHABLE) != 0);
    /* All acknowledged: the way is open again. But not while a probe has no answer, nor of a dead socket. */
    info.tcpi_retransmits = info.tcpi_backoff = 0;
    info.tcpi_unacked = 0;
    info.tcpi_last_ack_recv = 10;
    context.outstanding = 0;
    info.tcpi_probes = 1;
    leg_info_apply(&evidence, &info, &context);
    assert_true((evidence.flags & LEG_UNREACHABLE) != 0);
    info.tcpi_probes = 0;
    info.tcpi_state = 7;
    leg_info_apply(&evidence, &info, &context);
    assert_true((evidence.flags & LEG_UNREACHABLE) != 0);
    info.tcpi_state = 1;
    leg_info_apply(&evidence, &info, &context);
    assert_true((evidence.flags & LEG_UNREACHABLE) == 0);
    /* Some acknowledged, and more written behind it. */
    evidence.flags = LEG_UNREACHABLE;
    context.progressed = true;
    context.outstanding = 11;
    info.tcpi_unacked = 1;
    leg_info_apply(&evidence, &info, &context);
    assert_true((evidence.flags & LEG_UNREACHABLE) == 0);
}

static void our_fin_is_no_octet(void **state)
{
    struct tcp_info info = healthy();
    struct leg_info_context context = context_of(1);
    struct leg_evidence evidence;

    (void)state;
    context.fin_sent = true;
    evidence = applied(&info, &context);
    assert_int_equal(evidence.unacked_octets, 0);
}

/* Measured: snd_wnd 0, nothing in flight, octets unsent, backoff 5, every probe answered. */
static void a_closed_window(void **state)
{
    struct tcp_info info = healthy();
    struct leg_info_context context = context_of(587000);
    struct leg_evidence evidence;

    (void)state;
    info.tcpi_snd_wnd = 0;
    info.tcpi_notsent_bytes = 587000;
    info.tcpi_backoff = 5;
    info.tcpi_rwnd_limited = 11950000;
    info.tcpi_busy_time = 12000000;
    evidence = applied(&info, &context);
    assert_true((evidence.flags & LEG_WINDOW_ZERO) != 0);
    assert_int_equal(evidence.unsent_octets, 587000);
    assert_int_equal(evidence.unacked_octets, 0);
    assert_int_equal(evidence.window_limited_ms, 11950);
    /* A kernel that does not tell the window. */
    context.info_octets = offsetof(struct tcp_info, tcpi_snd_wnd);
    evidence = applied(&info, &context);
    assert_true((evidence.flags & LEG_WINDOW_ZERO) != 0);
    /* Data in flight: that is loss, no closed window. */
    info.tcpi_unacked = 3;
    evidence = applied(&info, &context);
    assert_true((evidence.flags & LEG_WINDOW_ZERO) == 0);
}

static void only_full_segments_are_lost(void **state)
{
    struct tcp_info info = healthy();
    const struct leg_info_context context = context_of(21720);
    struct leg_evidence evidence;

    (void)state;
    info.tcpi_unacked = 15;
    info.tcpi_backoff = info.tcpi_retransmits = 4;
    info.tcpi_total_retrans = 4;
    evidence = applied(&info, &context);
    assert_true((evidence.flags & LEG_ONLY_BIG_LOST) != 0);
    /* The small rest of a message is reported: it passes. A second one, or one in the midst, is as big as what is lost. */
    info.tcpi_notsent_bytes = 0;
    info.tcpi_sacked = 1;
    evidence = applied(&info, &context);
    assert_true((evidence.flags & LEG_ONLY_BIG_LOST) != 0);
    info.tcpi_sacked = 2;
    evidence = applied(&info, &context);
    assert_true((evidence.flags & LEG_ONLY_BIG_LOST) == 0);
    info.tcpi_sacked = 1;
    info.tcpi_notsent_bytes = 10000;
    const struct leg_info_context more = context_of(21720 + 10000);
    evidence = applied(&info, &more);
    assert_true((evidence.flags & LEG_ONLY_BIG_LOST) == 0);
    const struct leg_info_context rest = context_of(20272 + 478 + 10000); /* of a TLS record */
    evidence = applied(&info, &rest);
    assert_true((evidence.flags & LEG_ONLY_BIG_LOST) != 0 && (evidence.flags & LEG_BIG_DOUBTED) == 0);
    info.tcpi_sacked = 0;
    evidence = applied(&info, &context);
    assert_true((evidence.flags & LEG_ONLY_BIG_LOST) != 0);
    /* Big ones passed before: the network broke, it is no path MTU. */
    info.tcpi_bytes_acked = 1448 * 100;
    info.tcpi_delivered = 105;
    evidence = applied(&info, &context);
    assert_true((evidence.flags & LEG_ONLY_BIG_LOST) == 0);
    /* One repeat is not enough. */
    info = healthy();
    info.tcpi_unacked = 15;
    info.tcpi_retransmits = 1;
    evidence = applied(&info, &context);
    assert_true((evidence.flags & LEG_ONLY_BIG_LOST) == 0);
}

/* A certificate that its server wrote in three parts: the rest of each gets through, five full segments do not. */
static void several_rests_are_reported(void **state)
{
    struct tcp_info info = healthy();
    const struct leg_info_context context = context_of(5 * 1448 + 3 * 200);
    struct leg_evidence evidence;

    (void)state;
    info.tcpi_unacked = 8;
    info.tcpi_sacked = 3;
    info.tcpi_backoff = info.tcpi_retransmits = 4;
    evidence = applied(&info, &context);
    assert_true((evidence.flags & LEG_ONLY_BIG_LOST) != 0);
    info.tcpi_retransmits = 3; /* too soon to say */
    evidence = applied(&info, &context);
    assert_true((evidence.flags & LEG_ONLY_BIG_LOST) == 0);
    info.tcpi_retransmits = 4;
    assert_false(applied(&info, &context).flags & LEG_BIG_DOUBTED);
    info.tcpi_unacked = 7; /* one of the three may be a full one */
    evidence = applied(&info, &context);
    assert_true((evidence.flags & LEG_ONLY_BIG_LOST) != 0 && (evidence.flags & LEG_BIG_DOUBTED) != 0);
    info.tcpi_unacked = 6; /* two of the three are */
    evidence = applied(&info, &context);
    assert_false(evidence.flags & (LEG_ONLY_BIG_LOST | LEG_BIG_DOUBTED));
}

static void a_smaller_path_mtu_came_by_icmp(void **state)
{
    struct tcp_info info = healthy();
    struct leg_info_context context = context_of(0);
    struct leg_evidence evidence;

    (void)state;
    info.tcpi_pmtu = 1400;
    evidence = applied(&info, &context);
    assert_true((evidence.flags & LEG_ICMP_TOO_BIG) != 0);
    info = healthy();
    info.tcpi_advmss = 1440;
    context.ipv6 = true;
    evidence = applied(&info, &context);
    assert_true((evidence.flags & LEG_ICMP_TOO_BIG) == 0);
}

static void needless_repeats_are_no_loss(void **state)
{
    struct tcp_info info = healthy();
    const struct leg_info_context context = context_of(0);

    (void)state;
    info.tcpi_total_retrans = 2;
    info.tcpi_dsack_dups = 2;
    assert_int_equal(applied(&info, &context).flags, 0);
    info.tcpi_rcv_ooopack = 23; /* reordering between processors: proves nothing */
    assert_int_equal(applied(&info, &context).flags, 0);
}

static void probes(void **state)
{
    struct tcp_info info = healthy();

    (void)state;
    info.tcpi_last_ack_recv = 200;
    assert_int_equal(leg_info_probe(&info, NOW_US - 250000, NOW_US), PROBE_ANSWERED);
    info.tcpi_last_ack_recv = 5250; /* the last ACK is older than the probe */
    assert_int_equal(leg_info_probe(&info, NOW_US - 250000, NOW_US), PROBE_SENT);
    info.tcpi_probes = 1;
    assert_int_equal(leg_info_probe(&info, NOW_US - 250000, NOW_US), PROBE_SENT);
    info.tcpi_probes = 3;
    assert_int_equal(leg_info_probe(&info, NOW_US - 3 * SECOND, NOW_US), PROBE_UNANSWERED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_healthy_leg_says_nothing),
        cmocka_unit_test(a_dead_network_is_not_a_closed_window),
        cmocka_unit_test(repeats_tell_the_age),
        cmocka_unit_test(unreachable_until_it_is_reached),
        cmocka_unit_test(our_fin_is_no_octet),
        cmocka_unit_test(a_closed_window),
        cmocka_unit_test(only_full_segments_are_lost),
        cmocka_unit_test(several_rests_are_reported),
        cmocka_unit_test(a_smaller_path_mtu_came_by_icmp),
        cmocka_unit_test(needless_repeats_are_no_loss),
        cmocka_unit_test(probes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
