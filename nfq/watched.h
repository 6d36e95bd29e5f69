/* watched - what the packet hook keeps with each session: the tracker makes the room for it (tracker_options.story_octets).
 * Owns:    its reference of the settings. Threads: one at a time. */
#ifndef SMTPWITNESS_NFQ_WATCHED_H
#define SMTPWITNESS_NFQ_WATCHED_H

#include "conf/settings_share.h"
#include "nfq/bypass.h"
#include "nfq/enforcer.h"
#include "nfq/prober.h"

struct watched {
    struct settings_share *settings; /* it began under */
    /* The enforcer's. */
    union {
        struct held *held; /* while it is held */
        struct {           /* of those that are closing: tracker_link() */
            uint32_t next, previous;
        };
    };
    union {
        uint32_t closing_ms; /* since; times are the clock's low 32 bits of ms */
        uint32_t settle_end; /* else: beyond it nothing can have passed unseen before the bit went off */
    };
    /* The bypass's. */
    union {
        uint32_t bypass_slot; /* while its bit is on */
        uint32_t bypass_ms;   /* since it is off */
    };
    uint32_t hole_ms; /* octets from `hole` on are missing at the server since */
    uint32_t hole;
    uint32_t rest_end; /* everything is looked at until the client's octets up to here are acknowledged */
    bool bypass_on : 1, bypass_runs : 1, has_hole : 1, rests : 1;
    enum enforcer_state state;
    uint16_t probe_slot; /* the prober's, + 1; 0 = not being probed */
};

_Static_assert(sizeof(struct watched) <= 40, "a session must stay small");

static inline struct watched *watched_of(struct tracker_session *tracked)
{
    return (struct watched *)tracked->story;
}

#endif
