#include "core/fault/evidence.h"

#include <stddef.h>

#define LOST_LEAST        5u /* fewer repeats are an accident */
#define LOST_PERCENT      3u /* TCP halves its rate for each: at this rate loss, not the window, sets the pace */
#define UNORDERED_PERCENT 5u      /* by TCP_INFO alone: queues and processors reorder, too */
#define GROWN_TIMES       8u      /* a full queue makes a round trip many times its least */
#define GROWN_US          250000u /* ... and longer than any delayed acknowledgement */
#define OVERFLOW_PERCENT  30u     /* a full queue drops some; so much is loss, whatever the round trip */
#define SMALL_OCTETS      500u    /* on the average: writes, not full segments */

static bool ratio_reached(uint64_t part, uint64_t whole, unsigned percent)
{
    return part >= LOST_LEAST && part * 100 >= whole * percent;
}

static bool window_stops(const struct leg_evidence *leg, uint64_t us)
{
    uint64_t busy_us = leg->busy_ms != 0 ? (uint64_t)leg->busy_ms * 1000 : us;
    return leg->window_limited_ms != 0 && (uint64_t)leg->window_limited_ms * 2000 >= busy_us;
}

/* Our own send buffer was full though all of it was under way, with the server's window open (the kernel's three clocks
 * exclude each other: net/ipv4/tcp_output.c, tcp_chrono_*), or octets stood here that could have gone on. */
static bool witness_stops(const struct leg_evidence *client_leg, const struct leg_evidence *server_leg,
                          uint64_t us)
{
    return (server_leg->busy_ms != 0 && (uint64_t)server_leg->buffer_limited_ms * 2 >= server_leg->busy_ms) ||
           (client_leg->turn_limited_ms != 0 && (uint64_t)client_leg->turn_limited_ms * 2000 >= us);
}

static bool round_trip_grew(const struct leg_evidence *leg)
{
    bool overflows = (uint64_t)leg->retrans_count * 100 >= (uint64_t)leg->sent_segments * OVERFLOW_PERCENT;
    return leg->rtt_least_us != 0 && leg->rtt_most_us >= GROWN_US &&
           leg->rtt_most_us / GROWN_TIMES >= leg->rtt_least_us && !overflows;
}

enum bottleneck bottleneck_find(const struct leg_evidence *client_leg, const struct leg_evidence *server_leg,
                                uint64_t octets, uint64_t us)
{
    bool tapped = (client_leg->flags & LEG_TAPPED) != 0;
    uint64_t came = client_leg->came_segments;
    if (server_leg->sent_segments == 0 || came == 0) {
        return BOTTLENECK_UNKNOWN;
    }
    if (witness_stops(client_leg, server_leg, us)) {
        return BOTTLENECK_WITNESS;
    }
    if (window_stops(server_leg, us)) {
        return BOTTLENECK_SERVER;
    }
    if (round_trip_grew(server_leg)) {
        return BOTTLENECK_SERVER_PATH;
    }
    bool server_lost = ratio_reached(server_leg->retrans_count, server_leg->sent_segments, LOST_PERCENT);
    bool client_lost =
        ratio_reached(client_leg->late_segments, came, tapped ? LOST_PERCENT : UNORDERED_PERCENT);
    if (server_lost && client_lost) {
        return BOTTLENECK_UNKNOWN; /* both */
    }
    if (server_lost) {
        return BOTTLENECK_SERVER_LOSS;
    }
    if (client_lost) {
        return BOTTLENECK_CLIENT_LOSS;
    }
    return octets / came < SMALL_OCTETS ? BOTTLENECK_CLIENT : BOTTLENECK_CLIENT_PATH;
}

const char *bottleneck_name(enum bottleneck bottleneck)
{
    static const char *const names[] = {
        [BOTTLENECK_UNKNOWN] = "",
        [BOTTLENECK_CLIENT] = "client",
        [BOTTLENECK_SERVER] = "server",
        [BOTTLENECK_CLIENT_LOSS] = "client-leg-loss",
        [BOTTLENECK_SERVER_LOSS] = "server-leg-loss",
        [BOTTLENECK_CLIENT_PATH] = "client-leg",
        [BOTTLENECK_SERVER_PATH] = "server-leg",
        [BOTTLENECK_WITNESS] = "witness",
    };
    _Static_assert(sizeof names / sizeof names[0] == BOTTLENECK_COUNT, "a name per bottleneck");
    return (unsigned)bottleneck < BOTTLENECK_COUNT ? names[bottleneck] : "";
}
