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
    struct enforcer_memory gate;
    struct bypass_memory bypass;
    struct prober_memory probe;
};

_Static_assert(sizeof(struct watched) <= 48, "a session must stay small");

static inline struct watched *watched_of(struct tracker_session *tracked)
{
    return (struct watched *)tracked->story;
}

#endif
