/* flow_segment - a segment as a side of a followed connection would send it now: addresses, sequence numbers, window,
 * TTL and timestamps as they passed here last (RFC 7323: never a newer timestamp than that side has sent).
 * No state. Threads: any. */
#ifndef SMTPWITNESS_NFQ_FLOW_SEGMENT_H
#define SMTPWITNESS_NFQ_FLOW_SEGMENT_H

#include "core/tcp/flow_table.h"
#include "nfq/segment.h"

/* From `speaker` to the other side, a bare acknowledgement; both must have been heard. */
struct segment flow_segment(const struct flow_entry *entry, enum side speaker);

#endif
