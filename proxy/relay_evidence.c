#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "proxy/relay_internal.h"

#define IPV4_TCP_HEADERS 40u
#define IPV6_TCP_HEADERS 60u

static struct leg_evidence evidence_of(const struct relay *relay, enum side side)
{
    struct leg_evidence evidence;

    if (relay->session.legs != NULL)
        return relay->session.legs[side_index(side)];
    memset(&evidence, 0, sizeof evidence);
    return evidence;
}

/* The addresses in the packets of a leg. */
static void flow_of(const struct relay *relay, enum side side, struct tap_flow *flow)
{
    const struct leg *leg = &relay->legs[side_index(side)];

    flow->client = relay->connection.client;
    flow->server = relay->connection.server;
    flow->side = side;
    if (side == SIDE_SERVER && leg->fd != -1 &&
        (leg->other_port || !relay_settings(relay)->keep_client_port)) {
        struct sockaddr_storage name;
        socklen_t length = sizeof name;

        if (getsockname(leg->fd, (struct sockaddr *)&name, &length) != -1 &&
            !address_from_sockaddr(&flow->client, (const struct sockaddr *)&name))
            flow->client = relay->connection.client;
    }
    if (side == SIDE_CLIENT && leg->translated && !leg_called(leg, &relay->connection.server, &flow->server))
        flow->server = relay->connection.server; /* nothing will match it: less is known, nothing wrong */
}

static bool same_host(const struct address *a, const struct address *b)
{
    return memcmp(a->octets, b->octets, sizeof a->octets) == 0;
}

static void apply_icmp(const struct relay *relay, enum side side, struct leg_evidence *evidence,
                       const struct icmp_error *icmp)
{
    const struct address *host = side == SIDE_CLIENT ? &relay->connection.client : &relay->connection.server;

    if (!icmp->seen)
        return;
    evidence->icmp_seen = true;
    evidence->icmp_type = icmp->type;
    evidence->icmp_code = icmp->code;
    if (icmp->offender_known && !same_host(&icmp->offender, host))
        evidence->flags |= LEG_ICMP_FOREIGN;
    if (icmp_error_is_too_big(icmp))
        evidence->flags |= LEG_ICMP_TOO_BIG;
}

/* ICMP errors about this leg that crossed the box, whether or not our socket got them. */
static void ask_tap_for_icmp(struct relay *relay, enum side side, struct leg_evidence *evidence,
                             uint64_t now_us)
{
    const uint32_t headers = address_is_ipv4(&relay->connection.server) ? IPV4_TCP_HEADERS : IPV6_TCP_HEADERS;
    struct tap_flow flow;
    struct icmp_error icmp;
    uint32_t mtu = 0;

    flow_of(relay, side, &flow);
    if (!tap_find_icmp(relay->host->tap, &flow, now_us, &icmp, &mtu))
        return;
    if (!icmp_error_is_too_big(&icmp)) {
        apply_icmp(relay, side, evidence, &icmp);
        return;
    }
    /* A path MTU message was on the wire, and our segments are as long as before: it did not reach our socket. */
    if ((evidence->flags & (LEG_ICMP_TOO_BIG | LEG_ICMP_UNDIVERTED)) == 0 && mtu > headers &&
        evidence->segment_octets > mtu - headers) {
        evidence->flags |= LEG_ICMP_UNDIVERTED;
        atomic_fetch_add(&relay->host->counters->icmp_undiverted, 1);
    }
}

static bool sample_into(struct relay *relay, enum side side, struct leg_evidence *evidence, uint64_t now_us)
{
    struct leg *leg = relay_leg(relay, side);

    *evidence = evidence_of(relay, side);
    if (!leg_sample(leg, evidence, !address_is_ipv4(&relay->connection.client), relay->connection.opened_us,
                    now_us))
        return false;
    if (side == SIDE_CLIENT || relay->state != RELAY_CONNECTING)
        evidence->connect = CONNECT_ESTABLISHED;
    if (side == SIDE_CLIENT)
        evidence->turn_limited_ms =
            relay->again_us / 1000 > UINT32_MAX ? UINT32_MAX : (uint32_t)(relay->again_us / 1000);
    if (evidence->unacked_octets > 0 && evidence->retrans_count > 0)
        ask_tap_for_icmp(relay, side, evidence, now_us);
    return true;
}

void relay_sample(struct relay *relay, enum side side, uint64_t now_us)
{
    struct leg_evidence evidence;

    if (sample_into(relay, side, &evidence, now_us))
        session_set_evidence(&relay->session, side, &evidence, now_us);
}

bool relay_leg_is_stuck(struct relay *relay, enum side side, uint64_t now_us)
{
    struct leg_evidence evidence;

    if (!sample_into(relay, side, &evidence, now_us))
        return false;
    session_set_evidence(&relay->session, side, &evidence, now_us);
    return leg_outstanding(relay_leg(relay, side)) > 0 && evidence.retrans_count > 0 &&
           (evidence.flags & LEG_WINDOW_ZERO) == 0;
}

void relay_sample_both(struct relay *relay, uint64_t now_us)
{
    relay_sample(relay, SIDE_CLIENT, now_us);
    relay_sample(relay, SIDE_SERVER, now_us);
}

void relay_note_icmp(struct relay *relay, enum side side, int error, const struct icmp_error *icmp,
                     uint64_t now_us)
{
    struct leg_evidence evidence;

    if (!sample_into(relay, side, &evidence, now_us))
        return;
    if (icmp->seen)
        apply_icmp(relay, side, &evidence, icmp);
    else
        ask_tap_for_icmp(relay, side, &evidence, now_us); /* the kernel kept no type and code of it */
    if (error != 0 && error != EMSGSIZE)
        evidence.flags |= LEG_UNREACHABLE;
    session_set_evidence(&relay->session, side, &evidence, now_us);
}

/* How far the RST came, against how far that side's handshakes come. */
static void ask_tap_for_reset(struct relay *relay, enum side side, struct leg_evidence *evidence,
                              uint64_t now_us)
{
    struct tap_flow flow;
    struct tap_reset reset;

    flow_of(relay, side, &flow);
    if (!tap_find_reset(relay->host->tap, &flow, now_us, &reset))
        return;
    evidence->reset_ttl = reset.ttl;
    if (side == SIDE_CLIENT && reset.usual_ttl == 0)
        reset.usual_ttl = leg_take_syn_ttl(relay_leg(relay, side));
    evidence->ttl = reset.usual_ttl;
    evidence->flags |= reset.bare ? (uint32_t)LEG_RESET_ANSWERS : (uint32_t)LEG_RESET_OWN;
    if (reset.usual_ttl != 0)
        evidence->flags |= reset.ttl == reset.usual_ttl ? LEG_RESET_FITS : LEG_RESET_FOREIGN;
}

void relay_note_connect(struct relay *relay, enum connect_result result, const struct icmp_error *icmp,
                        uint64_t now_us)
{
    struct leg_evidence evidence;

    relay_sample(relay, SIDE_CLIENT, now_us);
    if (!sample_into(relay, SIDE_SERVER, &evidence, now_us))
        evidence = evidence_of(relay, SIDE_SERVER);
    evidence.connect = result;
    apply_icmp(relay, SIDE_SERVER, &evidence, icmp);
    if (result == CONNECT_REFUSED)
        ask_tap_for_reset(relay, SIDE_SERVER, &evidence, now_us);
    session_set_evidence(&relay->session, SIDE_SERVER, &evidence, now_us);
}

void relay_note_end(struct relay *relay, enum side side, uint64_t now_us)
{
    struct leg_evidence evidence = evidence_of(relay, side);

    switch (relay_leg(relay, side)->error) {
    case ETIMEDOUT:
        evidence.flags |= LEG_TIMED_OUT;
        break;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
        evidence.flags |= LEG_UNREACHABLE | LEG_TIMED_OUT;
        ask_tap_for_icmp(relay, side, &evidence, now_us);
        break;
    case ECONNRESET:
        if (relay->host->tap == NULL)
            return;
        ask_tap_for_reset(relay, side, &evidence, now_us);
        break;
    default:
        return;
    }
    session_set_evidence(&relay->session, side, &evidence, now_us);
}

/* ---- probing ---- */

static void end_probe(struct relay *relay, enum side side, uint64_t now_us)
{
    struct leg *leg = relay_leg(relay, side);
    struct tap_flow flow;

    if (leg->keepalive != LEG_KEEPALIVE_PROBING)
        return;
    leg_probe_end(leg);
    flow_of(relay, side, &flow);
    tap_unwatch(relay->host->tap, &flow, now_us);
}

/* The silence for which it began has ended (the session forgot its probe): an answer now says nothing of the next. */
static void end_stale_probe(struct relay *relay, enum side side, uint64_t now_us)
{
    if (evidence_of(relay, side).probe == PROBE_NONE)
        end_probe(relay, side, now_us);
}

void relay_suspect(struct relay *relay, enum side side, uint64_t now_us)
{
    struct leg *leg = relay_leg(relay, side);
    struct leg_evidence evidence;
    bool answered_before;

    end_stale_probe(relay, side, now_us);
    if (!sample_into(relay, side, &evidence, now_us))
        return;
    /* An answer in this same silence holds until the new probe has been given its time. */
    answered_before = evidence.probe == PROBE_ANSWERED;
    if (!answered_before) {
        evidence.flags &= ~(uint32_t)LEG_TAPPED; /* said of an earlier silence */
        evidence.revealed_octets = 0;
    }
    if (relay->state == RELAY_OPEN && relay_settings(relay)->probe && leg->error == 0) {
        if (evidence.flags & LEG_WINDOW_ZERO) {
            /* The kernel probes a closed window by itself (R4). */
            evidence.probe = evidence.probes_unanswered == 0 ? PROBE_ANSWERED : PROBE_SENT;
        } else if (evidence.unacked_octets == 0 && evidence.unsent_octets == 0 && !leg->ended &&
                   leg->keepalive != LEG_KEEPALIVE_PROBING) {
            struct tap_flow flow;

            flow_of(relay, side, &flow);
            (void)tap_watch(relay->host->tap, &flow, now_us);
            leg_probe_begin(leg);
            if (leg->keepalive == LEG_KEEPALIVE_PROBING) {
                evidence.probe = answered_before ? PROBE_ANSWERED : PROBE_SENT;
                relay->probe_since_us = now_us;
                relay->probe_due_us = now_us + RELAY_PROBE_FIRST_US;
            }
        }
    }
    session_set_evidence(&relay->session, side, &evidence, now_us);
}

void relay_end_probes(struct relay *relay, uint64_t now_us)
{
    end_probe(relay, SIDE_CLIENT, now_us);
    end_probe(relay, SIDE_SERVER, now_us);
    relay->probe_due_us = WHEEL_NEVER_US;
}

static void check_probe(struct relay *relay, enum side side, uint64_t now_us)
{
    struct leg *leg = relay_leg(relay, side);
    enum probe_result result;
    struct leg_evidence evidence;

    end_stale_probe(relay, side, now_us);
    result = leg_probe_result(leg, relay->probe_since_us, now_us);
    if (leg->keepalive != LEG_KEEPALIVE_PROBING || !sample_into(relay, side, &evidence, now_us))
        return;
    if (result == PROBE_ANSWERED) {
        struct tap_flow flow;
        uint32_t octets = 0;

        evidence.probe = PROBE_ANSWERED;
        flow_of(relay, side, &flow);
        if (tap_find_revealed(relay->host->tap, &flow, now_us, &octets)) {
            evidence.flags |= LEG_TAPPED;
            evidence.revealed_octets = octets;
            if (octets > 0)
                evidence.probe = PROBE_REVEALED;
        }
    } else if (result == PROBE_UNANSWERED || now_us - relay->probe_since_us >= RELAY_PROBE_LONGEST_US) {
        evidence.probe = PROBE_UNANSWERED;
    } else {
        evidence.probe = PROBE_SENT;
    }
    session_set_evidence(&relay->session, side, &evidence, now_us);
    if (result == PROBE_ANSWERED || now_us - relay->probe_since_us >= RELAY_PROBE_LONGEST_US)
        end_probe(relay, side, now_us);
}

void relay_check_probes(struct relay *relay, uint64_t now_us)
{
    relay->probe_due_us = WHEEL_NEVER_US;
    check_probe(relay, SIDE_CLIENT, now_us);
    check_probe(relay, SIDE_SERVER, now_us);
    if (relay->legs[0].keepalive == LEG_KEEPALIVE_PROBING ||
        relay->legs[1].keepalive == LEG_KEEPALIVE_PROBING)
        relay->probe_due_us = now_us + RELAY_PROBE_INTERVAL_US;
}
