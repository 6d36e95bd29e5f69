#include <stdlib.h>
#include <string.h>

#include "core/tcp/flow_internal.h"

#define UNREPEATED_US 1000000 /* RFC 6298: the first retransmission timeout */

static uint32_t piece_end(const struct flow_piece *piece)
{
    return piece->start + piece->length;
}

bool stream_has(const struct flow_side *own, uint32_t start, uint32_t length)
{
    uint32_t end = start + length;
    if (!sequence_before(own->next, end)) {
        return true;
    }
    if (sequence_before(start, own->next)) {
        start = own->next;
    }
    for (const struct flow_piece *piece = own->pieces; piece != NULL; piece = piece->next) {
        if (sequence_before(start, piece->start)) {
            return false;
        }
        if (sequence_before(start, piece_end(piece))) {
            start = piece_end(piece);
            if (!sequence_before(start, end)) {
                return true;
            }
        }
    }
    return false;
}

bool stream_differs(const struct flow_side *own, const struct flow_segment *segment)
{
    for (const struct flow_piece *piece = own->pieces; piece != NULL; piece = piece->next) {
        uint32_t ahead = segment->start - piece->start;
        if (!sequence_before(segment->start, piece->start) && ahead < piece->kept) {
            uint32_t common = piece->kept - ahead;
            common = common < segment->captured ? common : segment->captured;
            if (memcmp(piece->octets + ahead, segment->octets, common) != 0) {
                return true;
            }
        }
    }
    return false;
}

static bool stream_release_side(struct flow *flow, enum side side, const struct flow_sink *sink,
                                uint64_t now_us);

void stream_pass_unseen(struct flow *flow, enum side side, const struct flow_sink *sink, uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    while (own->pieces != NULL && sequence_before(own->next, own->pieces->start) &&
           side_may_have_bypassed(own, own->pieces->start - 1)) {
        uint32_t length = own->pieces->start - own->next;
        own->next = own->pieces->start;
        own->progress_us = now_us;
        own->hole_us = 0;
        sink->bypassed(sink->context, side, length, now_us);
        stream_release_side(flow, side, sink, now_us);
    }
}

void stream_overtaken(struct flow *flow, enum side side, const struct flow_sink *sink, uint64_t now_us)
{
    const struct flow_side *own = flow_side_of(flow, side);
    if (own->repeats == 0 && own->unacked_since_us != 0 && now_us - own->unacked_since_us < UNREPEATED_US) {
        stream_pass_unseen(flow, side, sink, now_us);
    }
}

/* Hands on a segment that starts at or before `next`. */
static void stream_emit(struct flow *flow, enum side side, const struct flow_segment *segment,
                        const struct flow_sink *sink, uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    stream_overtaken(flow, side_other(side), sink, now_us);
    uint32_t done = own->next - segment->start;
    if (done < segment->length) {
        uint32_t captured = segment->captured > done ? segment->captured - done : 0;
        uint32_t length = segment->length - done;
        captured = captured < length ? captured : length;
        own->flags &= ~(uint32_t)FLOW_SIDE_END_UNSEEN;
        own->next += length;
        own->progress_us = now_us;
        own->hole_us = 0;
        if (captured > 0) {
            sink->octets(sink->context, side, segment->octets + done, captured, now_us);
        }
        if (captured < length) {
            sink->skipped(sink->context, side, length - captured, now_us);
        }
    }
    const uint32_t fin_sequence = segment->start + segment->length;
    /* Acknowledged before it came, it was passed over with what is missing. */
    const bool passed_over = own->next == fin_sequence + 1 && (own->flags & FLOW_SIDE_END_UNSEEN);
    if (segment->fin && (own->next == fin_sequence || passed_over) && !(own->flags & FLOW_SIDE_FIN)) {
        own->flags |= FLOW_SIDE_FIN;
        own->next = fin_sequence + 1;
        own->progress_us = now_us;
        sink->event(sink->context, FLOW_EVENT_FIN, side, now_us);
    }
}

static bool stream_may_go(const struct flow *flow, enum side side, uint32_t start, uint32_t wait_for)
{
    const struct flow_side *own = &flow->sides[side_index(side)];
    const struct flow_side *other = &flow->sides[side_index(side_other(side))];
    if (!flow->connected || sequence_before(own->next, start)) {
        return false;
    }
    return !(other->flags & FLOW_SIDE_SEEN) || !sequence_before(other->next, wait_for);
}

uint32_t stream_kept(const struct flow_side *own, uint32_t *octets)
{
    uint32_t count = 0;
    *octets = 0;
    for (const struct flow_piece *piece = own->pieces; piece != NULL; piece = piece->next) {
        *octets += piece->kept;
        count++;
    }
    return count;
}

static struct flow_piece *stream_pop(struct flow_side *own, size_t *budget_octets)
{
    struct flow_piece *piece = own->pieces;
    own->pieces = piece->next;
    if (budget_octets != NULL) {
        *budget_octets += piece->kept;
    }
    return piece;
}

static bool stream_release_side(struct flow *flow, enum side side, const struct flow_sink *sink,
                                uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    bool moved = false;
    while (own->pieces != NULL && stream_may_go(flow, side, own->pieces->start, own->pieces->wait_for)) {
        struct flow_piece *piece = stream_pop(own, sink->budget_octets);
        struct flow_segment segment = {.start = piece->start,
                                       .length = piece->length,
                                       .octets = piece->octets,
                                       .captured = piece->kept,
                                       .fin = piece->fin};
        stream_emit(flow, side, &segment, sink, now_us);
        free(piece);
        moved = true;
    }
    if (moved && own->gap_us != 0 && !sequence_before(own->next, own->acked)) {
        own->gap_us = 0;
    }
    return moved;
}

void stream_release(struct flow *flow, const struct flow_sink *sink, uint64_t now_us)
{
    bool moved = true;
    while (moved) {
        moved = false;
        for (unsigned i = 0; i < SIDE_PAIR; i++) {
            enum side side = i == 0 ? SIDE_CLIENT : SIDE_SERVER;
            if (flow->sides[i].pieces != NULL && stream_release_side(flow, side, sink, now_us)) {
                moved = true;
            }
        }
    }
}

/* Of a bypassed stream only the latest pieces matter: what ends it comes last. */
static void stream_forget_oldest(struct flow_side *own, uint32_t keep, const struct flow_sink *sink)
{
    uint32_t octets, count = stream_kept(own, &octets);
    while (own->pieces != NULL && !own->pieces->fin &&
           (count >= FLOW_PIECES || keep > FLOW_KEPT_OCTETS - octets ||
            (sink->budget_octets != NULL && keep > *sink->budget_octets))) {
        struct flow_piece *piece = stream_pop(own, sink->budget_octets);
        side_bypass_to(own, piece_end(piece));
        octets -= piece->kept;
        count--;
        free(piece);
    }
}

static void stream_keep(struct flow *flow, enum side side, const struct flow_segment *segment,
                        const struct flow_sink *sink)
{
    struct flow_side *own = flow_side_of(flow, side);
    uint32_t keep = segment->captured;
    if (own->flags & FLOW_SIDE_BYPASS) {
        stream_forget_oldest(own, keep, sink);
    }
    uint32_t octets, count = stream_kept(own, &octets);
    if (keep > FLOW_KEPT_OCTETS - octets || (sink->budget_octets != NULL && keep > *sink->budget_octets)) {
        keep = 0;
    }
    bool unkept = keep == 0 && segment->length > 0;
    struct flow_piece **at = &own->pieces;
    while (*at != NULL && !sequence_before(segment->start, (*at)->start)) {
        if (unkept && !segment->fin && (*at)->unkept && piece_end(*at) == segment->start && !(*at)->fin) {
            (*at)->length += segment->length;
            own->flags |= FLOW_SIDE_UNKEPT;
            return;
        }
        at = &(*at)->next;
    }
    struct flow_piece *piece = count < FLOW_PIECES ? malloc(sizeof *piece + keep) : NULL;
    own->flags |= unkept || piece == NULL ? (uint32_t)FLOW_SIDE_UNKEPT : 0u;
    if (piece == NULL) {
        return; /* seen, but not known any more: it will look like octets that passed unseen */
    }
    *piece = (struct flow_piece){.next = *at,
                                 .start = segment->start,
                                 .length = segment->length,
                                 .kept = keep,
                                 .wait_for = segment->wait_for,
                                 .fin = segment->fin,
                                 .unkept = unkept};
    if (keep > 0) {
        memcpy(piece->octets, segment->octets, keep);
    }
    if (sink->budget_octets != NULL) {
        *sink->budget_octets -= keep;
    }
    *at = piece;
}

void stream_take(struct flow *flow, enum side side, const struct flow_segment *segment,
                 const struct flow_sink *sink, uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    if (stream_may_go(flow, side, segment->start, segment->wait_for)) {
        stream_emit(flow, side, segment, sink, now_us);
        if (own->gap_us != 0 && !sequence_before(own->next, own->acked)) {
            own->gap_us = 0;
        }
    } else {
        stream_keep(flow, side, segment, sink);
    }
    stream_release(flow, sink, now_us);
}

void stream_give_up(struct flow *flow, enum side side, const struct flow_sink *sink, uint64_t now_us)
{
    struct flow_side *own = flow_side_of(flow, side);
    own->gap_us = 0;
    while (sequence_before(own->next, own->acked)) {
        uint32_t until = own->acked;
        if (own->pieces != NULL && !sequence_before(own->next, own->pieces->start)) {
            /* It is here and only waits for the other side's octets, which do not come. */
            own->pieces->wait_for = flow->sides[side_index(side_other(side))].next;
            if (!stream_release_side(flow, side, sink, now_us)) {
                break;
            }
            continue;
        }
        if (own->pieces != NULL && sequence_before(own->pieces->start, until)) {
            until = own->pieces->start;
        }
        bool bypassed = side_may_have_bypassed(own, own->next);
        if (bypassed && sequence_before(own->bypass_end, until)) {
            until = own->bypass_end;
        }
        uint32_t length = until - own->next;
        own->next = until;
        own->progress_us = now_us;
        own->hole_us = 0;
        if (bypassed) {
            sink->bypassed(sink->context, side, length, now_us);
        } else {
            own->flags |= FLOW_SIDE_GAP | FLOW_SIDE_END_UNSEEN;
            sink->event(sink->context, FLOW_EVENT_GAP, side, now_us);
            sink->skipped(sink->context, side, length, now_us);
        }
        stream_release_side(flow, side, sink, now_us);
    }
    if (sequence_before(own->highest, own->next)) {
        own->highest = own->next;
    }
    stream_release(flow, sink, now_us);
}

void stream_clear(struct flow_side *own, size_t *budget_octets)
{
    while (own->pieces != NULL) {
        free(stream_pop(own, budget_octets));
    }
}
