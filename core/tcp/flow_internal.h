/* Shared by flow.c and reassembly.c; not for callers. */
#ifndef SMTPWITNESS_CORE_TCP_FLOW_INTERNAL_H
#define SMTPWITNESS_CORE_TCP_FLOW_INTERNAL_H

#include "core/tcp/flow.h"

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

static inline bool side_may_have_bypassed(const struct flow_side *own, uint32_t sequence)
{
    return (own->flags & FLOW_SIDE_BYPASSED) && sequence_before(sequence, own->bypass_end);
}

/* Octets up to `acked` passed unseen: skips them. */
void stream_give_up(struct flow *flow, enum side side, const struct flow_sink *sink, uint64_t now_us);

void stream_clear(struct flow_side *own, size_t *budget_octets);

#endif
