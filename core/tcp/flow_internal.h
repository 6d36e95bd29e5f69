/* Shared by flow.c (a packet comes, time passes), flow_*.c (what a packet tells) and reassembly.c (octets in order); not for
 * callers. */
#ifndef SMTPWITNESS_CORE_TCP_FLOW_INTERNAL_H
#define SMTPWITNESS_CORE_TCP_FLOW_INTERNAL_H

#include "core/tcp/flow.h"

#define KEEPALIVE_OCTETS   1   /* a keepalive or a probe of a closed window carries none or one */
#define BIG_SEGMENT_OCTETS 500 /* more than a command; less than any path's segment (RFC 791: 576 octets) */
#define REORDERED_IDS                                                                                        \
    1000 /* an IP ID this little behind is that of a packet sent earlier, not of a wrapped one */

/* A range that came before its time. */
struct flow_piece {
    struct flow_piece *next;
    uint32_t start;
    uint32_t length;   /* as on the wire */
    uint32_t kept;     /* octets of it in `octets`, from its start */
    uint32_t wait_for; /* not before the other side's octets up to here have passed */
    bool fin;          /* FIN behind its last octet */
    bool unkept;       /* passed over for want of room: may grow */
    uint8_t octets[];
};

/* A segment with octets or FIN, in the terms of its stream. */
struct flow_segment {
    uint32_t start;
    uint32_t length;
    const uint8_t *octets;
    uint32_t captured;
    bool fin;
    uint32_t wait_for;
};

static inline struct flow_side *flow_side_of(struct flow *flow, enum side side)
{
    return &flow->sides[side_index(side)];
}

static inline uint16_t least16(size_t value)
{
    return value < UINT16_MAX ? (uint16_t)value : UINT16_MAX;
}

static inline void count(uint16_t *counter)
{
    if (*counter < UINT16_MAX) {
        ++*counter;
    }
}

static inline void count_few(uint8_t *counter)
{
    if (*counter < UINT8_MAX) {
        ++*counter;
    }
}

/* The clock's low 32 bits; for 0, which is none, the microsecond before. */
static inline uint32_t low_us(uint64_t now_us)
{
    return (uint32_t)now_us != 0 ? (uint32_t)now_us : UINT32_MAX;
}

/* ---- flow_copies.c ---- */

uint32_t flow_hash_start(const struct packet *packet);
bool flow_is_copy(struct flow_side *own, const struct packet *packet, uint64_t now_us);
/* In a capture that has packets twice: were these octets, which were seen before, sent once only? */
bool flow_is_late_copy(const struct flow_side *own, const struct packet *packet, uint64_t now_us);

/* ---- flow_acknowledge.c ---- */

void side_begin(struct flow_side *own, uint32_t sequence);
void side_start_timing(struct flow_side *own, uint32_t end, size_t size, uint64_t now_us);
/* A packet of `side` with ACK, about the other side's octets. False when it does not belong here. */
bool flow_acknowledge(struct flow *flow, enum side side, const struct packet *packet,
                      const struct flow_sink *sink, uint64_t now_us);

/* ---- flow_window.c ---- */

void flow_take_window(struct flow *flow, enum side side, const struct packet *packet,
                      const struct flow_sink *sink, uint64_t now_us);
/* New octets of the client up to `end`: do they go beyond the server's window as it is written, without its scale? */
void flow_note_beyond(struct flow *flow, uint32_t start, uint32_t end);
void flow_pass_beyond(struct flow *flow, uint32_t acknowledged);
/* Octets of `side` from `start` on are repeated: does the loss begin where the server's unscaled window ends? */
void flow_note_loss(struct flow *flow, enum side side, uint32_t start);

/* ---- flow_syn.c ---- */

void flow_connect(struct flow *flow, const struct flow_sink *sink, uint64_t now_us);
enum flow_verdict flow_on_syn(struct flow *flow, enum side side, const struct packet *packet,
                              const struct flow_sink *sink, uint64_t now_us);

/* ---- flow_reset.c ---- */

enum flow_verdict flow_on_reset(struct flow *flow, enum side side, const struct packet *packet,
                                const struct flow_sink *sink, uint64_t now_us);
bool flow_reset_waits(const struct flow *flow);
uint64_t flow_reset_us(const struct flow *flow, uint64_t now_us);
/* Hands on what is kept behind acknowledged gaps. */
void flow_let_go(struct flow *flow, const struct flow_sink *sink, uint64_t now_us);
/* Tells the resets that have waited, as of when the first of them came. */
void flow_tell_resets(struct flow *flow, const struct flow_sink *sink, uint64_t now_us);
/* Has all come that was sent before the resets? */
void flow_look_at_resets(struct flow *flow, const struct flow_sink *sink, uint64_t now_us);

/* ---- flow_octets.c ---- */

void flow_take_segment(struct flow *flow, enum side side, const struct packet *packet,
                       const struct flow_sink *sink, uint64_t now_us);
/* Neither octets nor FIN: where the side stands. */
void flow_take_position(struct flow *flow, enum side side, uint32_t sequence, const struct flow_sink *sink,
                        uint64_t now_us);

/* `side` has heard something, or gets on. */
static inline void flow_not_deaf(struct flow *flow, enum side side)
{
    if (flow->deaf_is_server == (side == SIDE_SERVER)) {
        flow->deaf_count = 0;
    }
}

/* ---- reassembly.c ---- */

/* Were all octets of the range seen before? */
bool stream_has(const struct flow_side *own, uint32_t start, uint32_t length);

/* Does a kept piece hold other octets for this range? */
bool stream_differs(const struct flow_side *own, const struct flow_segment *segment);

/* How many pieces are kept, and their octets. */
uint32_t stream_kept(const struct flow_side *own, uint32_t *octets);

/* Hands the segment on when its turn has come, keeps it otherwise. */
void stream_take(struct flow *flow, enum side side, const struct flow_segment *segment,
                 const struct flow_sink *sink, uint64_t now_us);

/* Hands on what may go now. */
void stream_release(struct flow *flow, const struct flow_sink *sink, uint64_t now_us);

/* Octets up to here may have passed unseen, as we wanted it. */
static inline void side_bypass_to(struct flow_side *own, uint32_t sequence)
{
    if (!(own->flags & FLOW_SIDE_BYPASSED) || sequence_before(own->bypass_end, sequence)) {
        own->flags |= FLOW_SIDE_BYPASSED;
        own->bypass_end = sequence;
    }
}

/* It has sent octets up to here, seen or not. */
static inline void side_show(struct flow_side *own, uint32_t sequence)
{
    if (sequence_before(own->shown, sequence)) {
        own->shown = sequence;
    }
}

static inline bool side_may_have_bypassed(const struct flow_side *own, uint32_t sequence)
{
    return (own->flags & FLOW_SIDE_BYPASSED) && sequence_before(sequence, own->bypass_end);
}

/* Octets up to `acked` passed unseen: skips them. */
void stream_give_up(struct flow *flow, enum side side, const struct flow_sink *sink, uint64_t now_us);

/* What may have passed unseen before what is kept here has. */
void stream_pass_unseen(struct flow *flow, enum side side, const struct flow_sink *sink, uint64_t now_us);
/* The other side says something, or ends: what `side` said before that has come, but for what passes unseen. That is not
 * acknowledged yet, and it is too soon for a repetition to tell whether it was lost before us. */
void stream_overtaken(struct flow *flow, enum side side, const struct flow_sink *sink, uint64_t now_us);

void stream_clear(struct flow_side *own, size_t *budget_octets);

#endif
