#include "core/tcp/flow.h"

#include <string.h>

#include "core/tcp/flow_internal.h"

#define KEEPALIVE_OCTETS   1   /* a keepalive or a probe of a closed window carries none or one */
#define BIG_SEGMENT_OCTETS 500 /* more than a command; less than any path's segment (RFC 791: 576 octets) */
#define HEARD_US           1000000
#define HASHED_OCTETS      64
#define REORDERED_IDS                                                                                        \
    1000 /* an IP ID this little behind is that of a packet sent earlier, not of a wrapped one */
#define NEVER_US UINT64_MAX

static uint32_t mix(uint32_t hash, uint32_t word)
{
    uint64_t product = ((uint64_t)hash ^ word ^ 0x9e3779b9u) * UINT64_C(0xff51afd7ed558ccd);
    return (uint32_t)(product >> 32) ^ (uint32_t)product;
}

static uint32_t hash_start(const struct packet *packet)
{
    uint32_t hash = (uint32_t)packet->payload_length;
    size_t count = packet->payload_captured < HASHED_OCTETS ? packet->payload_captured : HASHED_OCTETS;
    size_t i = 0;
    for (; count - i >= 4; i += 4) {
        uint32_t word;
        memcpy(&word, packet->payload + i, 4);
        hash = mix(hash, word);
    }
    for (; i < count; i++) {
        hash = mix(hash, packet->payload[i]);
    }
    return hash;
}

static uint16_t least16(size_t value)
{
    return value < UINT16_MAX ? (uint16_t)value : UINT16_MAX;
}

static void count(uint16_t *counter)
{
    if (*counter < UINT16_MAX) {
        ++*counter;
    }
}

static void count_few(uint8_t *counter)
{
    if (*counter < UINT8_MAX) {
        ++*counter;
    }
}

/* The clock's low 32 bits; for 0, which is none, the microsecond before. */
static uint32_t low_us(uint64_t now_us)
{
    return (uint32_t)now_us != 0 ? (uint32_t)now_us : UINT32_MAX;
}

void flow_init(struct flow *flow, bool midstream)
{
    memset(flow, 0, sizeof *flow);
    flow->midstream = flow->connected = midstream;
    flow->state = midstream ? FLOW_ESTABLISHED : FLOW_NEW;
}

void flow_clear(struct flow *flow, size_t *budget_octets)
{
    stream_clear(&flow->sides[0], budget_octets);
    stream_clear(&flow->sides[1], budget_octets);
}

/* ---- resets that may have overtaken something ---- */

/* Is something of that side under way to us, as far as can be seen? What may pass unseen is not waited for. */
static bool side_awaits(const struct flow_side *own)
{
    return (own->flags & FLOW_SIDE_BEGUN) && !(own->flags & (FLOW_SIDE_BYPASS | FLOW_SIDE_BYPASSED)) &&
           (own->pieces != NULL || sequence_before(own->next, own->acked) ||
            ((own->flags & FLOW_SIDE_RESET_WAITS) && sequence_before(own->next, own->reset_sequence)));
}

static bool flow_reset_waits(const struct flow *flow)
{
    return ((flow->sides[0].flags | flow->sides[1].flags) & FLOW_SIDE_RESET_WAITS) != 0;
}

static uint64_t flow_reset_us(const struct flow *flow, uint64_t now_us)
{
    return now_us - (uint32_t)((uint32_t)now_us - flow->reset_us);
}

static void flow_let_go(struct flow *flow, const struct flow_sink *sink, uint64_t now_us)
{
    for (unsigned round = 0; round < 2;
         round++) { /* what one side let go may have been waited for by the other */
        for (unsigned i = 0; i < SIDE_PAIR; i++) {
            const struct flow_side *own = &flow->sides[i];
            if ((own->flags & FLOW_SIDE_BEGUN) && sequence_before(own->next, own->acked)) {
                stream_give_up(flow, i == 0 ? SIDE_CLIENT : SIDE_SERVER, sink, now_us);
            }
        }
    }
}

/* Tells the resets that have waited, as of when the first of them came. */
static void flow_tell_resets(struct flow *flow, const struct flow_sink *sink, uint64_t now_us)
{
    uint64_t reset_us = flow_reset_us(flow, now_us);
    flow_let_go(flow, sink, now_us);
    flow->state = FLOW_CLOSED;
    for (unsigned i = 0; i < SIDE_PAIR; i++) {
        enum side side = (i == 0) == flow->server_reset_first ? SIDE_SERVER : SIDE_CLIENT;
        struct flow_side *own = flow_side_of(flow, side);
        if (own->flags & FLOW_SIDE_RESET_WAITS) {
            own->flags &= ~(uint32_t)FLOW_SIDE_RESET_WAITS;
            sink->event(sink->context, FLOW_EVENT_RESET, side, reset_us);
        }
    }
}

/* Has all come that was sent before the resets? */
static void flow_look_at_resets(struct flow *flow, const struct flow_sink *sink, uint64_t now_us)
{
    if (flow_reset_waits(flow) && ((!side_awaits(&flow->sides[0]) && !side_awaits(&flow->sides[1])) ||
                                   now_us - flow_reset_us(flow, now_us) >= FLOW_GRACE_US)) {
        flow_tell_resets(flow, sink, now_us);
    }
}

/* ---- copies ---- */

/* What shows octets for the first time is no copy, whatever its hash. */
static bool side_shows_more(const struct flow_side *own, const struct packet *packet)
{
    return (own->flags & FLOW_SIDE_BEGUN) != 0 && packet->payload_length > 0 &&
           sequence_before(own->highest, packet->sequence + (uint32_t)packet->payload_length);
}

static bool flow_is_copy(struct flow_side *own, const struct packet *packet, uint64_t now_us)
{
    /* Each word is mixed in by itself: sequence and acknowledgement often grow by the same amount. */
    uint32_t hash = mix(mix(0, packet->sequence), packet->acknowledgement);
    hash = mix(hash, (uint32_t)packet->payload_length ^ (uint32_t)packet->flags << 24);
    hash = mix(mix(hash, packet->window ^ (uint32_t)packet->ip_id << 16), packet->timestamp_value);
    if (packet->sack_count > 0) {
        hash = mix(mix(hash, packet->sack[0].start), packet->sack[0].end);
    }
    bool known = !side_shows_more(own, packet);
    uint16_t tick = (uint16_t)(now_us / FLOW_TWIN_TICK_US);
    bool stamped = (packet->options & PACKET_HAS_TIMESTAMP) != 0;
    uint32_t within_us = packet->ip_id != 0 ? FLOW_TWIN_US
                         : stamped          ? FLOW_TWIN_STAMPED_US
                                            : FLOW_TWIN_BLIND_US;
    for (unsigned i = 0; i < FLOW_TWINS; i++) {
        uint32_t ago_us = (uint32_t)(uint16_t)(tick - own->twin_ticks[i]) * FLOW_TWIN_TICK_US;
        if (known && own->twin_hashes[i] == hash && ago_us < within_us && now_us - own->last_us < within_us) {
            return true;
        }
    }
    own->twin_hashes[own->twin_next] = hash;
    own->twin_ticks[own->twin_next] = tick;
    own->twin_next = (own->twin_next + 1u) % FLOW_TWINS;
    return false;
}

/* In a capture that has packets twice: were these octets, which were seen before, sent once only? A repetition by TCP has a
 * later IP ID and timestamp than all before it; a copy that a router passes on behind a burst has those of its original. */
static bool flow_is_late_copy(const struct flow_side *own, const struct packet *packet, uint64_t now_us)
{
    if (!(own->flags & FLOW_SIDE_TWINS) || !(own->flags & FLOW_SIDE_BEGUN) || packet->payload_length == 0 ||
        !stream_has(own, packet->sequence, (uint32_t)packet->payload_length)) {
        return false;
    }
    if (packet->has_ip_id && packet->ip_id != 0 && own->ip_id != 0) {
        return (uint16_t)(own->ip_id - packet->ip_id) < REORDERED_IDS;
    }
    bool stamped = (packet->options & PACKET_HAS_TIMESTAMP) && (own->flags & FLOW_SIDE_TIMESTAMPS);
    return stamped &&
           (sequence_before(packet->timestamp_value, own->timestamp) ||
            (packet->timestamp_value == own->timestamp && now_us - own->last_us < FLOW_TWIN_STAMPED_US));
}

/* ---- what is acknowledged ---- */

static void side_begin(struct flow_side *own, uint32_t sequence)
{
    own->next = own->highest = own->shown = own->acked = sequence;
    own->flags |= FLOW_SIDE_BEGUN;
}

static void side_take_rtt(struct flow_side *own, uint64_t now_us)
{
    uint32_t sample = (uint32_t)now_us - own->timed_us;
    sample = sample == 0 ? 1 : sample;
    own->rtt_us =
        own->rtt_us == 0 ? sample : own->rtt_us - own->rtt_us / 8 + sample / 8; /* RFC 6298 section 2.3 */
    uint32_t ticks = sample / FLOW_RTT_TICK_US < UINT8_MAX ? sample / FLOW_RTT_TICK_US : UINT8_MAX;
    own->rtt_most_ticks = ticks > own->rtt_most_ticks ? (uint8_t)ticks : own->rtt_most_ticks;
    if (own->rtt_least_us == 0 || sample < own->rtt_least_us) {
        own->rtt_least_us = sample;
    }
    if (own->timed_size > own->biggest_delivered) {
        own->biggest_delivered = own->timed_size;
    }
}

static void side_start_timing(struct flow_side *own, uint32_t end, size_t size, uint64_t now_us)
{
    if (!(own->flags & FLOW_SIDE_TIMING)) {
        own->flags |= FLOW_SIDE_TIMING;
        own->timed_end = end;
        own->timed_us = (uint32_t)now_us;
        own->timed_size = least16(size);
    }
}

/* New octets of the client up to `end`: do they go beyond the server's window as it is written, without its scale? */
static void flow_note_beyond(struct flow *flow, uint32_t start, uint32_t end)
{
    const struct flow_side *own = flow_side_of(flow, SIDE_CLIENT), *other = flow_side_of(flow, SIDE_SERVER);
    bool scaled = (own->flags & other->flags & FLOW_SIDE_SCALES) != 0 && other->scale > 0;
    if (scaled && flow->beyond == FLOW_BEYOND_NOT && other->raw_window > 0 &&
        end - own->acked > other->raw_window && end - own->acked < FLOW_SPAN_OCTETS) {
        flow->beyond = FLOW_BEYOND_SENT;
        flow->beyond_from = start;
    }
}

static void flow_pass_beyond(struct flow *flow, uint32_t acknowledged)
{
    if (flow->beyond == FLOW_BEYOND_SENT && sequence_before(flow->beyond_from, acknowledged)) {
        flow->edge_losses = FLOW_SIGNS_NEVER; /* it got through */
        flow->beyond = FLOW_BEYOND_NOT;
    } else if (flow->beyond == FLOW_BEYOND_REPAIRED && !sequence_before(acknowledged, flow->beyond_from)) {
        flow->beyond = FLOW_BEYOND_NOT;
    }
}

/* `own`'s octets up to `acknowledged` have reached the other side. */
static void side_advance_acked(struct flow *flow, enum side side, uint32_t acknowledged,
                               const struct flow_sink *sink, uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    own->acked = acknowledged;
    if (side == SIDE_CLIENT) {
        flow_pass_beyond(flow, acknowledged);
    }
    if ((own->flags & FLOW_SIDE_TIMING) && !sequence_before(acknowledged, own->timed_end)) {
        own->flags &= ~(uint32_t)FLOW_SIDE_TIMING;
        side_take_rtt(own, now_us);
    }
    bool all = !sequence_before(acknowledged, own->highest);
    own->unacked_since_us = all ? 0 : now_us;
    if (own->biggest_sent > own->biggest_delivered && !sequence_before(acknowledged, own->biggest_end)) {
        own->biggest_delivered = own->biggest_sent;
    }
    bool stuck = own->repeats > 0;
    flow_set_departure(flow, side, flow_departure(flow, side) & FLOW_REFUSED_HERE);
    own->repeats = 0;
    own->repeated_least = 0;
    own->echoed = false;
    if (!(own->flags & FLOW_SIDE_SEEN)) { /* its direction is not seen here at all */
        own->next = own->highest = own->shown = acknowledged;
    } else if (sequence_before(own->next, acknowledged)) {
        if (own->flags & FLOW_SIDE_BYPASS) {
            side_bypass_to(own, acknowledged);
        }
        if (side_may_have_bypassed(own, acknowledged - 1)) {
            stream_give_up(flow, side, sink, now_us);
        } else if (own->gap_us == 0) {
            own->gap_us = low_us(now_us);
        }
    }
    if (stuck) {
        sink->event(sink->context, FLOW_EVENT_FREED, side, now_us);
    }
}

static void flow_take_sacks(struct flow *flow, const struct packet *packet)
{
    const struct flow_side *other = flow_side_of(flow, SIDE_CLIENT);
    for (unsigned i = 0; i < packet->sack_count && flow->sacks_foreign != FLOW_SIGNS_NEVER; i++) {
        uint32_t start = packet->sack[i].start;
        if (start - other->acked < FLOW_SPAN_OCTETS || other->acked - start < FLOW_SPAN_OCTETS) {
            flow->sacks_foreign = FLOW_SIGNS_NEVER;
            return;
        }
        uint32_t at = (uint32_t)flow->sack_foreign_at << 16;
        bool near = start - at < FLOW_SPAN_OCTETS || at - start < FLOW_SPAN_OCTETS;
        if (flow->sacks_foreign > 0 && !near) { /* scattered: damage, not an offset */
            flow->sacks_foreign = FLOW_SIGNS_NEVER;
            return;
        }
        flow->sack_foreign_at = (uint16_t)(start >> 16);
        flow->sacks_foreign = (uint8_t)(flow->sacks_foreign + (flow->sacks_foreign < FLOW_SIGNS_LEAST));
    }
}

/* A packet of `side` with ACK, about the other side's octets. False when it does not belong here. */
/* A block of octets (RFC 2018) that is as long as a full segment came in one, or in few: such ones get through. */
static void side_take_sacked_sizes(struct flow_side *own, const struct packet *packet)
{
    for (unsigned i = 0; i < packet->sack_count; i++) {
        uint32_t length = packet->sack[i].end - packet->sack[i].start;
        bool inside = packet->sack[i].start - own->acked < FLOW_SPAN_OCTETS && length < FLOW_SPAN_OCTETS &&
                      !sequence_before(own->highest, packet->sack[i].end);
        uint16_t size = least16(length < own->biggest_sent ? length : own->biggest_sent);
        if (inside && size >= BIG_SEGMENT_OCTETS && size > own->biggest_delivered) {
            own->biggest_delivered = size;
        }
    }
}

static bool flow_acknowledge(struct flow *flow, enum side side, const struct packet *packet,
                             const struct flow_sink *sink, uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    enum side other_side = side_other(side);
    struct flow_side *other = flow_side_of(flow, other_side);
    uint32_t acknowledged = packet->acknowledgement;
    if (!(other->flags & FLOW_SIDE_BEGUN)) {
        side_begin(other, acknowledged);
        return true;
    }
    if (sequence_before(acknowledged, other->acked)) {
        return other->acked - acknowledged < FLOW_SPAN_OCTETS;
    }
    if (acknowledged - other->acked >= FLOW_SPAN_OCTETS) {
        return false;
    }
    own->flags |= packet->sack_count > 0 ? (uint32_t)FLOW_SIDE_SACKS : 0u;
    side_take_sacked_sizes(other, packet);
    if (side == SIDE_SERVER) {
        flow_take_sacks(flow, packet);
    }
    if (acknowledged != other->acked) {
        side_advance_acked(flow, other_side, acknowledged, sink, now_us);
    } else if (packet->payload_length == 0 && !(packet->flags & (PACKET_SYN | PACKET_FIN | PACKET_RST)) &&
               sequence_before(other->acked, other->highest)) {
        /* RFC 5681 section 2, but for the window: probes' answers count as echoes, too */
        count(&own->duplicate_acks);
        other->echoed = true;
    }
    return true;
}

/* ---- windows ---- */

static void flow_take_window(struct flow *flow, enum side side, const struct packet *packet,
                             const struct flow_sink *sink, uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    const struct flow_side *other = flow_side_of(flow, side_other(side));
    bool scaled =
        !(packet->flags & PACKET_SYN) && (own->flags & FLOW_SIDE_SCALES) && (other->flags & FLOW_SIDE_SCALES);
    own->window = (uint32_t)packet->window << (scaled ? own->scale : 0);
    own->raw_window = (packet->flags & PACKET_SYN) ? 0 : packet->window;
    if (!(packet->flags & PACKET_SYN) && own->window > own->window_most) {
        own->window_most = own->window;
    }
    bool zero = own->window == 0;
    if (zero != ((own->flags & FLOW_SIDE_WINDOW_ZERO) != 0)) {
        own->flags ^= FLOW_SIDE_WINDOW_ZERO;
        if (side == SIDE_SERVER) {
            uint16_t tick = (uint16_t)(now_us / FLOW_CLOSED_TICK_US);
            flow->closed_ticks = (uint16_t)(flow->closed_ticks + (zero ? 0 : tick - flow->closed_since));
            flow->closed_since = tick;
        }
        sink->event(sink->context, zero ? FLOW_EVENT_WINDOW_CLOSED : FLOW_EVENT_WINDOW_OPENED, side, now_us);
    }
}

/* ---- handshake and resets ---- */

static void side_take_syn(struct flow_side *own, const struct packet *packet, uint64_t now_us)
{
    if (!(own->flags & FLOW_SIDE_BEGUN) || !(own->flags & FLOW_SIDE_SEEN)) {
        bool acked = (own->flags & FLOW_SIDE_BEGUN) && own->acked == packet->sequence + 1;
        side_begin(own, packet->sequence + 1);
        if (!acked) {
            own->acked = packet->sequence;
            own->unacked_since_us = now_us;
            side_start_timing(own, own->highest, 0, now_us);
        }
    }
    own->first = packet->sequence + 1;
    own->flags |= FLOW_SIDE_SYN;
    own->flags |= (packet->options & PACKET_HAS_WINDOW_SCALE) ? (uint32_t)FLOW_SIDE_SCALES : 0u;
    own->scale = packet->window_scale & 15u;
    own->mss = packet->mss;
    own->syn_count = 1;
}

static void side_repeat_syn(struct flow_side *own, bool established, uint64_t now_us)
{
    uint64_t interval_us = now_us - own->last_us;
    if (!(own->flags & FLOW_SIDE_BYPASSED)) {
        own->syn_interval_us = interval_us < UINT32_MAX ? (uint32_t)interval_us : UINT32_MAX;
    }
    own->flags &= ~(uint32_t)FLOW_SIDE_TIMING; /* Karn: which of them is answered cannot be told */
    own->flags |= FLOW_SIDE_SYN_REPEATED;
    own->syn_count = own->syn_count < UINT8_MAX ? (uint8_t)(own->syn_count + 1) : UINT8_MAX;
    if (established) {
        own->flags |= (own->flags & FLOW_SIDE_SYN_REPEATED_ONCE) ? (uint32_t)FLOW_SIDE_SYN_REPEATED_LATE
                                                                 : (uint32_t)FLOW_SIDE_SYN_REPEATED_ONCE;
    } else if (sequence_before(own->acked, own->highest)) {
        count(&own->repeated_after);
        count_few(&own->repeats);
        own->flags |= FLOW_SIDE_LOST_AFTER;
    }
}

static void flow_connect(struct flow *flow, const struct flow_sink *sink, uint64_t now_us)
{
    if (!flow->connected) {
        flow->connected = true;
        sink->event(sink->context, FLOW_EVENT_CONNECTED, SIDE_SERVER, now_us);
    }
}

static enum flow_verdict flow_on_syn(struct flow *flow, enum side side, const struct packet *packet,
                                     const struct flow_sink *sink, uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    struct flow_side *other = flow_side_of(flow, side_other(side));
    bool answer = (packet->flags & PACKET_ACK) != 0;
    if (answer && flow->syn_pending && packet->acknowledgement == flow->pending_sequence + 1) {
        return FLOW_RESTART;
    }
    if ((own->flags & FLOW_SIDE_SYN) && own->first == packet->sequence + 1) {
        side_repeat_syn(own, flow->state >= FLOW_ESTABLISHED && answer, now_us);
        return FLOW_TAKEN;
    }
    if (answer !=
        (side == SIDE_SERVER)) { /* the roles have turned: believed once the old connection is over */
        return flow->state == FLOW_CLOSED ? FLOW_RESTART : FLOW_STRAY;
    }
    if (!answer && (own->flags & FLOW_SIDE_SEEN)) {
        if (flow->state == FLOW_CLOSED || flow->state == FLOW_SYN_SEEN || flow_reset_waits(flow)) {
            return FLOW_RESTART; /* RFC 6191: TIME-WAIT may be cut short by a new SYN */
        }
        flow->syn_pending = true;
        flow->pending_sequence = packet->sequence;
        flow->pending_us = (uint32_t)now_us;
        flow->pending_window = packet->window;
        flow->pending_mss = packet->mss;
        flow->pending_scale = packet->window_scale;
        flow->pending_options = packet->options;
        flow->pending_ttl = packet->ttl;
        return FLOW_STRAY;
    }
    if (answer && (other->flags & FLOW_SIDE_SYN) && packet->acknowledgement != other->first &&
        packet->payload_length == 0 && sequence_before(packet->acknowledgement, other->first)) {
        return FLOW_STRAY; /* answers another SYN */
    }
    if (answer && flow->state == FLOW_CLOSED) {
        return FLOW_STRAY;
    }
    side_take_syn(own, packet, now_us);
    own->flags |= FLOW_SIDE_SEEN;
    if (!answer) {
        if (flow->state == FLOW_NEW) {
            flow->state = FLOW_SYN_SEEN;
        }
    } else {
        if (flow->state < FLOW_SYN_ACK_SEEN) {
            flow->state = FLOW_SYN_ACK_SEEN;
        }
        (void)flow_acknowledge(flow, side, packet, sink, now_us);
        flow_connect(flow, sink, now_us);
        stream_release(flow, sink, now_us);
    }
    own->window = packet->window;
    return FLOW_TAKEN;
}

uint64_t flow_pending_syn(const struct flow *flow, const struct packet *answer, struct packet *syn,
                          uint64_t now_us)
{
    if (!flow->syn_pending || (answer->flags & (PACKET_SYN | PACKET_ACK)) != (PACKET_SYN | PACKET_ACK) ||
        answer->acknowledgement != flow->pending_sequence + 1) {
        return 0;
    }
    *syn = (struct packet){.kind = PACKET_TCP,
                           .source = answer->destination,
                           .destination = answer->source,
                           .ttl = flow->pending_ttl,
                           .sequence = flow->pending_sequence,
                           .window = flow->pending_window,
                           .flags = PACKET_SYN,
                           .options = flow->pending_options,
                           .window_scale = flow->pending_scale,
                           .mss = flow->pending_mss};
    return now_us - ((uint32_t)now_us - flow->pending_us);
}

/* RFC 9293 section 3.10.7.4: inside the window; as seen here, from what is acknowledged on. */
static bool reset_is_valid(const struct flow_side *own, const struct flow_side *other, uint32_t sequence)
{
    if (!(own->flags & FLOW_SIDE_BEGUN)) {
        return true;
    }
    uint32_t window = other->window > 0 ? other->window : 1;
    uint32_t known = own->highest - own->acked;
    uint32_t offset = sequence - own->acked;
    return offset <= window || offset <= known || sequence == own->shown || sequence == own->next;
}

static enum flow_verdict flow_on_reset(struct flow *flow, enum side side, const struct packet *packet,
                                       const struct flow_sink *sink, uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    struct flow_side *other = flow_side_of(flow, side_other(side));
    bool refusal = flow->state == FLOW_SYN_SEEN && side == SIDE_SERVER;
    bool valid = refusal ? (packet->flags & PACKET_ACK) != 0 && packet->acknowledgement == other->first
                         : reset_is_valid(own, other, packet->sequence);
    if (!valid) {
        own->flags |= FLOW_SIDE_RESET_STRAY;
        return FLOW_STRAY;
    }
    if (own->flags & FLOW_SIDE_RESET) {
        return FLOW_TAKEN;
    }
    own->flags |= FLOW_SIDE_RESET;
    own->flags |= !refusal && !(packet->flags & PACKET_ACK) ? (uint32_t)FLOW_SIDE_RESET_BARE : 0u;
    own->reset_ttl = packet->ttl;
    own->reset_sequence = packet->sequence;
    own->last_us = now_us;
    if (!refusal && (own->flags & FLOW_SIDE_BEGUN)) {
        if (own->flags & FLOW_SIDE_BYPASS) {
            side_bypass_to(own, packet->sequence);
        } else if (sequence_before(own->shown, packet->sequence)) {
            own->shown = packet->sequence;
        } else if (packet->sequence == own->next) {
            own->clean_us = now_us;
        }
    }
    if (refusal) {
        flow->state = FLOW_CLOSED;
        sink->event(sink->context, FLOW_EVENT_REFUSED, side, now_us);
        return FLOW_TAKEN;
    }
    if (!flow_reset_waits(flow)) {
        flow->reset_us = (uint32_t)now_us;
        flow->server_reset_first = side == SIDE_SERVER;
    }
    own->flags |= FLOW_SIDE_RESET_WAITS;
    flow_look_at_resets(flow, sink, now_us);
    return FLOW_TAKEN;
}

/* ---- octets ---- */

/* Does it begin where the server's unscaled window ends? */
static void flow_note_loss(struct flow *flow, enum side side, uint32_t start)
{
    const struct flow_side *own = flow_side_of(flow, side);
    if (side != SIDE_CLIENT || flow->edge_losses == FLOW_SIGNS_NEVER ||
        flow->beyond == FLOW_BEYOND_REPAIRED) {
        return;
    }
    if (flow->beyond == FLOW_BEYOND_SENT && flow->beyond_from == start && own->acked == start) {
        flow->edge_losses = (uint8_t)(flow->edge_losses + (flow->edge_losses < FLOW_SIGNS_LEAST));
        flow->beyond = FLOW_BEYOND_REPAIRED;
        flow->beyond_from = own->highest;
    } else {
        flow->edge_losses = FLOW_SIGNS_NEVER;
    }
}

/* All of it was seen before. */
static void flow_take_repetition(struct flow *flow, enum side side, const struct packet *packet,
                                 const struct flow_segment *segment, const struct flow_sink *sink,
                                 uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    struct flow_side *other = flow_side_of(flow, side_other(side));
    uint32_t end = segment->start + segment->length + (segment->fin ? 1 : 0);
    if (segment->length <= KEEPALIVE_OCTETS && (other->flags & FLOW_SIDE_WINDOW_ZERO)) {
        count_few(&own->unanswered);
        return;
    }
    bool changed = segment->captured > 0 &&
                   ((segment->start == own->last_start && least16(segment->length) == own->last_length &&
                     own->last_hash != hash_start(packet)) ||
                    stream_differs(own, segment));
    own->flags |= changed ? (uint32_t)FLOW_SIDE_DIFFERS : 0u;
    if (!sequence_before(own->acked, end)) {
        other->flags |=
            FLOW_SIDE_LOST_AFTER; /* its acknowledgement had passed here and did not arrive in time */
        return;
    }
    own->flags |= FLOW_SIDE_LOST_AFTER;
    own->flags &= ~(uint32_t)FLOW_SIDE_TIMING; /* Karn's rule */
    count(&own->repeated_after);
    uint16_t size = least16(segment->length);
    if (segment->length > 0 && (own->repeated_least == 0 || size < own->repeated_least)) {
        own->repeated_least = size;
    }
    count_few(&own->repeats);
    if (own->repeats == 1) {
        flow_note_loss(flow, side, segment->start);
        sink->event(sink->context, FLOW_EVENT_STUCK, side, now_us);
    }
}

/* It begins before what was seen last, yet it is new: a hole is filled late. */
static void side_take_late(struct flow_side *own, const struct packet *packet, uint64_t now_us)
{
    if (side_may_have_bypassed(own, packet->sequence)) {
        return; /* for the first time, or again? */
    }
    uint32_t open_us = own->hole_us != 0 ? (uint32_t)now_us - own->hole_us : 0;
    bool counted = packet->has_ip_id && packet->ip_id != 0 && own->ip_id != 0;
    uint16_t behind = (uint16_t)(own->ip_id - packet->ip_id), ahead = (uint16_t)(packet->ip_id - own->ip_id);
    bool sent_earlier = counted && behind > 0 && behind < REORDERED_IDS;
    bool sent_later = counted && ahead > 0 && ahead < REORDERED_IDS;
    if (sent_earlier || (open_us < FLOW_REORDERED_US && !sent_later)) {
        own->flags |= FLOW_SIDE_REORDERED;
        return;
    }
    own->flags |= FLOW_SIDE_LOST_BEFORE;
    own->flags &= ~(uint32_t)FLOW_SIDE_TIMING;
    count(&own->repeated_before);
}

static void flow_take_segment(struct flow *flow, enum side side, const struct packet *packet,
                              const struct flow_sink *sink, uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    struct flow_segment segment = {.start = packet->sequence,
                                   .length = (uint32_t)packet->payload_length,
                                   .octets = packet->payload,
                                   .captured = (uint32_t)packet->payload_captured,
                                   .fin = (packet->flags & PACKET_FIN) != 0};
    uint32_t end = segment.start + segment.length + (segment.fin ? 1 : 0);
    if (stream_has(own, segment.start, segment.length) &&
        (!segment.fin || (own->flags & FLOW_SIDE_FIN_SHOWN))) {
        flow_take_repetition(flow, side, packet, &segment, sink, now_us);
        return;
    }
    if ((own->flags & FLOW_SIDE_BYPASS) && sequence_before(own->next, segment.start)) {
        side_bypass_to(own, segment.start);
    }
    if (sequence_before(segment.start, own->highest)) {
        if (sequence_before(segment.start, own->next) && own->pieces == NULL) {
            if (sequence_before(own->acked, own->next)) { /* repeated with more behind it */
                count(&own->repeated_after);
            }
        } else {
            side_take_late(own, packet, now_us);
        }
    }
    if (sequence_before(own->next, segment.start) && own->hole_us == 0 &&
        !sequence_before(segment.start, own->highest)) {
        own->hole_us = low_us(now_us);
    }
    own->flags |= segment.fin ? (uint32_t)FLOW_SIDE_FIN_SHOWN : 0u;
    own->last_start = segment.start;
    own->last_length = least16(segment.length);
    own->last_hash = hash_start(packet);
    uint16_t size = least16(segment.length);
    const struct flow_side *other = flow_side_of(flow, side_other(side));
    size = other->mss != 0 && size > other->mss ? other->mss : size;
    if (size > own->biggest_sent) {
        own->biggest_sent = size;
        own->biggest_end = end;
    }
    if (size > 0) {
        own->mean_size = own->mean_size == 0 ? size : (uint16_t)((7u * own->mean_size + size) / 8);
    }
    if (sequence_before(own->highest, end)) {
        if (side == SIDE_CLIENT) {
            flow_note_beyond(flow, segment.start, end);
        }
        own->highest = end;
        if (sequence_before(own->acked, end)) {
            own->unacked_since_us = own->unacked_since_us == 0 ? now_us : own->unacked_since_us;
            side_start_timing(own, end, size, now_us);
        }
    }
    segment.wait_for = (packet->flags & PACKET_ACK) ? packet->acknowledgement : 0;
    if (!(packet->flags & PACKET_ACK) || (other->flags & FLOW_SIDE_BEGUN) == 0 ||
        sequence_before(other->acked, segment.wait_for)) {
        segment.wait_for = other->next; /* what it acknowledges is not believable: wait for nothing */
    }
    if (segment.captured < segment.length) {
        own->flags |= FLOW_SIDE_GAP;
    }
    stream_take(flow, side, &segment, sink, now_us);
}

/* Neither octets nor FIN: where the side stands. */
static void flow_take_position(struct flow *flow, enum side side, uint32_t sequence,
                               const struct flow_sink *sink, uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    if (sequence == own->next) {
        own->clean_us = now_us;
        sink->event(sink->context, FLOW_EVENT_CLEAN, side, now_us);
    } else if (own->flags & FLOW_SIDE_BYPASS) {
        side_bypass_to(own, sequence);
    } else if (sequence_before(own->next, sequence) && !side_may_have_bypassed(own, sequence - 1)) {
        if (sequence_before(own->shown, sequence)) {
            own->shown = sequence;
        }
        if (own->hole_us == 0) {
            own->hole_us = low_us(now_us);
        }
        sink->event(sink->context, FLOW_EVENT_SHOWN, side, now_us);
    }
}

static bool sequence_is_near(const struct flow_side *own, uint32_t sequence)
{
    uint32_t ahead = sequence - own->next;
    return ahead < FLOW_SPAN_OCTETS || own->next - sequence < FLOW_SPAN_OCTETS;
}

static bool is_keepalive(const struct flow_side *own, const struct packet *packet)
{
    return packet->payload_length <= KEEPALIVE_OCTETS && !(packet->flags & PACKET_FIN) &&
           packet->sequence + 1 == own->next && own->next == own->highest &&
           !sequence_before(own->acked, own->highest);
}

/* A keepalive in this side's name from another distance than all before: a witness that probes (nfq/prober.h), seen on its
 * way out. It asks the other side; of this one it says nothing. */
static bool is_foreign_keepalive(const struct flow_side *own, const struct packet *packet)
{
    return (own->flags & FLOW_SIDE_SEEN) && (packet->ttl < own->ttl_low || packet->ttl > own->ttl_high) &&
           is_keepalive(own, packet);
}

static void flow_note_sender(struct flow_side *own, struct flow_side *other, const struct packet *packet,
                             uint64_t now_us)
{
    own->flags |= FLOW_SIDE_SEEN | (packet->fragmented ? (uint32_t)FLOW_SIDE_FRAGMENTED : 0u);
    own->last_us = now_us;
    if (own->ttl_low == 0 || packet->ttl < own->ttl_low) {
        own->ttl_low = packet->ttl;
    }
    if (packet->ttl > own->ttl_high) {
        own->ttl_high = packet->ttl;
    }
    if ((packet->options & PACKET_HAS_TIMESTAMP) &&
        (!(own->flags & FLOW_SIDE_TIMESTAMPS) || !sequence_before(packet->timestamp_value, own->timestamp))) {
        own->timestamp = packet->timestamp_value;
        own->flags |= FLOW_SIDE_TIMESTAMPS;
    }
    other->unanswered = 0;
}

/* A FIN may come in order only after its acknowledgement was seen: what was before it had passed unseen. */
static void flow_settle_end(struct flow *flow)
{
    for (unsigned i = 0; i < SIDE_PAIR; i++) {
        struct flow_side *own = &flow->sides[i];
        if ((own->flags & FLOW_SIDE_FIN) && !sequence_before(own->acked, own->next)) {
            own->flags |= FLOW_SIDE_FIN_ACKED;
        }
    }
    if (flow->state != FLOW_CLOSED && (flow->sides[0].flags & flow->sides[1].flags & FLOW_SIDE_FIN_ACKED)) {
        flow->state = FLOW_CLOSED;
    }
}

static void flow_settle_state(struct flow *flow, enum side side, const struct packet *packet,
                              const struct flow_sink *sink, uint64_t now_us)
{
    if (flow->state == FLOW_SYN_SEEN) { /* the SYN-ACK passed unseen, or by another way */
        flow->state = FLOW_SYN_ACK_SEEN;
        flow_connect(flow, sink, now_us);
    }
    const struct flow_side *server = flow_side_of(flow, SIDE_SERVER);
    if (flow->state == FLOW_SYN_ACK_SEEN && side == SIDE_CLIENT && (packet->flags & PACKET_ACK) &&
        (!(server->flags & FLOW_SIDE_SYN) || !sequence_before(packet->acknowledgement, server->first))) {
        flow->state = FLOW_ESTABLISHED;
        sink->event(sink->context, FLOW_EVENT_ESTABLISHED, SIDE_CLIENT, now_us);
    }
    flow_settle_end(flow);
}

enum flow_verdict flow_on_packet(struct flow *flow, enum side side, const struct packet *packet,
                                 const struct flow_sink *sink, uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    struct flow_side *other = flow_side_of(flow, side_other(side));
    if (flow_is_copy(own, packet, now_us) || flow_is_late_copy(own, packet, now_us)) {
        own->flags |= FLOW_SIDE_TWINS;
        return FLOW_COPY;
    }
    if (packet->flags & PACKET_RST) {
        return flow_on_reset(flow, side, packet, sink, now_us);
    }
    if (packet->flags & PACKET_SYN) {
        enum flow_verdict verdict = flow_on_syn(flow, side, packet, sink, now_us);
        if (verdict == FLOW_TAKEN) {
            flow_note_sender(own, other, packet, now_us);
        }
        return verdict;
    }
    if ((own->flags & FLOW_SIDE_BEGUN) && !sequence_is_near(own, packet->sequence)) {
        return FLOW_STRAY;
    }
    uint32_t window_edge = other->acked;
    bool before_our_time = !(own->flags & FLOW_SIDE_SEEN) && sequence_before(own->next, packet->sequence);
    if (!(own->flags & FLOW_SIDE_BEGUN) || before_our_time) {
        side_begin(own, packet->sequence);
    }
    if (is_foreign_keepalive(own, packet)) {
        count_few(&own->unanswered);
        return FLOW_TAKEN;
    }
    if ((packet->flags & PACKET_ACK) && !flow_acknowledge(flow, side, packet, sink, now_us)) {
        return FLOW_STRAY;
    }
    flow_note_sender(own, other, packet, now_us);
    flow_settle_state(flow, side, packet, sink, now_us);
    if ((packet->flags & PACKET_ACK) && !sequence_before(packet->acknowledgement, window_edge)) {
        flow_take_window(flow, side, packet, sink, now_us);
    }
    if (is_keepalive(own, packet)) {
        count_few(&own->unanswered);
        own->clean_us = now_us;
        sink->event(sink->context, FLOW_EVENT_CLEAN, side, now_us);
    } else if (packet->payload_length > 0 || (packet->flags & PACKET_FIN)) {
        if ((own->flags & FLOW_SIDE_RESET) && packet->payload_length > 0 &&
            !sequence_before(packet->sequence, own->reset_sequence)) {
            own->flags |= FLOW_SIDE_RESET_BELIED;
        }
        flow_take_segment(flow, side, packet, sink, now_us);
        flow_settle_state(flow, side, packet, sink, now_us);
    } else {
        flow_take_position(flow, side, packet->sequence, sink, now_us);
    }
    if (packet->has_ip_id) {
        own->ip_id = packet->ip_id;
    }
    flow_look_at_resets(flow, sink, now_us);
    return FLOW_TAKEN;
}

void flow_set_bypass(struct flow *flow, enum side side, bool on)
{
    struct flow_side *own = flow_side_of(flow, side);
    own->flags = on ? own->flags | FLOW_SIDE_BYPASS : own->flags & ~(uint32_t)FLOW_SIDE_BYPASS;
}

/* Of a gap only the low half of its time is kept: measured from the latest packet, which came no sooner. */
static uint64_t flow_latest_us(const struct flow *flow)
{
    return flow->sides[0].last_us > flow->sides[1].last_us ? flow->sides[0].last_us : flow->sides[1].last_us;
}

static uint64_t flow_gap_until_us(const struct flow *flow, const struct flow_side *own)
{
    uint64_t latest_us = flow_latest_us(flow);
    return own->gap_us == 0 ? NEVER_US : latest_us - ((uint32_t)latest_us - own->gap_us) + FLOW_GRACE_US;
}

uint64_t flow_deadline_us(const struct flow *flow)
{
    uint64_t client_us = flow_gap_until_us(flow, &flow->sides[0]);
    uint64_t server_us = flow_gap_until_us(flow, &flow->sides[1]);
    uint64_t deadline_us = client_us < server_us ? client_us : server_us;
    if (flow_reset_waits(flow)) { /* the same goes for a reset */
        uint64_t reset_us = flow_reset_us(flow, flow_latest_us(flow));
        deadline_us = reset_us + FLOW_GRACE_US < deadline_us ? reset_us + FLOW_GRACE_US : deadline_us;
    }
    return deadline_us;
}

void flow_on_deadline(struct flow *flow, const struct flow_sink *sink, uint64_t now_us)
{
    for (unsigned i = 0; i < SIDE_PAIR; i++) {
        const struct flow_side *own = &flow->sides[i];
        if (flow_gap_until_us(flow, own) <= now_us) {
            stream_give_up(flow, i == 0 ? SIDE_CLIENT : SIDE_SERVER, sink, now_us);
        }
    }
    flow_look_at_resets(flow, sink, now_us);
    flow_settle_end(flow);
}

void flow_finish(struct flow *flow, const struct flow_sink *sink, uint64_t now_us)
{
    flow_let_go(flow, sink, now_us);
    if (flow_reset_waits(flow)) {
        flow_tell_resets(flow, sink, now_us);
    }
}

uint32_t flow_missing_octets(const struct flow *flow, enum side side)
{
    const struct flow_side *own = &flow->sides[side_index(side)];
    if (!(own->flags & FLOW_SIDE_SEEN)) {
        return 0;
    }
    uint32_t end = sequence_before(own->highest, own->shown) ? own->shown : own->highest;
    uint32_t at = side_may_have_bypassed(own, own->next) ? own->bypass_end : own->next, missing = 0;
    for (const struct flow_piece *piece = own->pieces; piece != NULL && sequence_before(at, end);
         piece = piece->next) {
        if (sequence_before(at, piece->start)) {
            missing += piece->start - at;
            at = piece->start;
        }
        uint32_t behind = piece->start + piece->length + (piece->fin ? 1 : 0);
        at = sequence_before(at, behind) ? behind : at;
    }
    return sequence_before(at, end) ? missing + (end - at) : missing;
}

uint32_t flow_unacked_octets(const struct flow *flow, enum side side)
{
    const struct flow_side *own = &flow->sides[side_index(side)];
    return sequence_before(own->acked, own->highest) ? own->highest - own->acked : 0;
}

bool flow_is_heard(const struct flow *flow, enum side side)
{
    const struct flow_side *own = &flow->sides[side_index(side)];
    const struct flow_side *other = &flow->sides[side_index(side_other(side))];
    return own->repeats > 0 && own->unacked_since_us != 0 &&
           other->last_us >= own->unacked_since_us + HEARD_US;
}

bool flow_only_big_lost(const struct flow *flow, enum side side)
{
    const struct flow_side *own = &flow->sides[side_index(side)];
    if (own->repeats < 2 || own->repeated_least < BIG_SEGMENT_OCTETS || own->biggest_delivered == 0 ||
        own->repeated_least <= own->biggest_delivered) {
        return false;
    }
    return own->echoed || flow_is_heard(flow, side);
}

bool flow_has_ended(const struct flow *flow)
{
    const uint32_t end = FLOW_SIDE_FIN_SHOWN | FLOW_SIDE_END_UNSEEN;
    const uint32_t client = flow->sides[0].flags, server = flow->sides[1].flags;
    return (client & end) && (server & end) && ((client | server) & FLOW_SIDE_FIN_SHOWN);
}

bool flow_window_is_tracked(const struct flow *flow)
{
    return flow->edge_losses == FLOW_SIGNS_LEAST;
}

bool flow_sacks_are_foreign(const struct flow *flow)
{
    return flow->sacks_foreign == FLOW_SIGNS_LEAST;
}

uint32_t flow_closed_ms(const struct flow *flow, uint64_t now_us)
{
    bool closed = (flow->sides[side_index(SIDE_SERVER)].flags & FLOW_SIDE_WINDOW_ZERO) != 0;
    uint16_t running = (uint16_t)(now_us / FLOW_CLOSED_TICK_US - flow->closed_since);
    return ((uint32_t)flow->closed_ticks + (closed ? running : 0)) * (FLOW_CLOSED_TICK_US / 1000);
}

int flow_reset_fits(const struct flow_side *side)
{
    if (side->flags & FLOW_SIDE_RESET_BELIED) {
        return -1;
    }
    if (!(side->flags & FLOW_SIDE_RESET) || side->ttl_low == 0 || side->reset_ttl == 0) {
        return 0;
    }
    /* Where its packets come by ways of several lengths, a box on one of them may be as far away as it is. */
    return side->ttl_low != side->ttl_high ? 0 : side->reset_ttl == side->ttl_low ? 1 : -1;
}

bool flow_one_way(const struct flow *flow, enum side side)
{
    const struct flow_side *own = &flow->sides[side_index(side)];
    const struct flow_side *other = &flow->sides[side_index(side_other(side))];
    return !(own->flags & FLOW_SIDE_SEEN) && (other->flags & FLOW_SIDE_SEEN) && flow->connected;
}
