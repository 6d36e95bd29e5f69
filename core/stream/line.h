/* line - assembles lines of one direction (RFC 5321 section 2.3.8: CRLF ends a line; bare LF is accepted,
 * noted).
 * Owns:    `held`, allocated only while a line is split over spans; freed when the line ends.
 * Borrows: the span during the call; a returned line points into the span or into `held` and is good until
 *          the next call.
 * Bounds:  LINE_KEEP_OCTETS of a line are kept, the rest is counted.
 * Errors:  allocation failure keeps only LINE_HEAD_OCTETS of the split line and counts it
 *          (line_view.truncated).
 * Threads: none. Time: none. */
#ifndef SMTPWITNESS_CORE_STREAM_LINE_H
#define SMTPWITNESS_CORE_STREAM_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/attributes.h"

#define LINE_KEEP_OCTETS 1024
#define LINE_HEAD_OCTETS 5 /* a reply code and what follows it; the usual verb */

struct line {
    union {
        uint8_t *held;                  /* first octets of an unfinished line, or NULL */
        uint8_t head[LINE_HEAD_OCTETS]; /* with head_only */
    };
    uint32_t total;       /* octets of the unfinished line so far */
    uint16_t held_length; /* of `held`, or of `head` */
    bool skipping : 1;    /* after a gap: discard up to the next LF */
    bool nul_seen : 1;
    bool last_cr : 1;   /* the last octet was CR */
    bool head_only : 1; /* there was no memory */
};

struct line_view {
    const uint8_t *text; /* without CRLF / LF */
    size_t length;       /* kept octets */
    size_t total;        /* octets of the line without its end */
    bool truncated;      /* total > length */
    bool bare_lf;
    bool nul;
};

void line_clear(struct line *line);

/* Takes octets from *octets / *length up to and including the next LF. True: `view` holds a line; call
 * again with what is left. False: everything was taken, the line goes on in a later span. */
bool line_next(struct line *line, const uint8_t **octets, size_t *length, struct line_view *view) MUST_CHECK;

/* Octets were lost here: forget the unfinished line and discard up to the next LF. */
void line_gap(struct line *line);

bool line_is_open(const struct line *line);

#endif
