/* policy_settings - what the administrator allows: timeouts, limits, and overrides by network.
 * Plain data, filled by conf/ (or by a test), read by core/policy. Immutable once a session uses it.
 * Units:   times in microseconds, 0 = no such limit. Counts are counts, 0 = no such limit. */
#ifndef SMTPWITNESS_CORE_POLICY_POLICY_SETTINGS_H
#define SMTPWITNESS_CORE_POLICY_POLICY_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/address.h"
#include "core/base/phase.h"

enum policy_action {
    POLICY_REPORT = 0, /* say what would have been done, do nothing */
    POLICY_ENFORCE,
};

enum policy_over_limit {
    POLICY_REFUSE = 0, /* 421 or a reset, see refuse_with */
    POLICY_HOLD,       /* wait for a slot */
};

enum policy_refuse_with {
    POLICY_REFUSE_AUTO = 0, /* 421 where the connection is ours (proxy), reset where it is not (nfq) */
    POLICY_REFUSE_421,
    POLICY_REFUSE_RESET,
};

/* The timeouts of one session. Defaults: RFC 5321 section 4.5.3.2. */
struct policy_timeouts {
    uint64_t phase_us[PHASE_COUNT];    /* longest silence of the side that owes, in that phase */
    uint64_t idle_us;                  /* longest silence between mails, on the client's turn */
    uint64_t session_us;               /* longest session in all */
    uint64_t stall_notice_us;          /* a `stall` line once a silence is this long */
    enum policy_action action;         /* for phase_us and idle_us */
    enum policy_action session_action; /* for session_us */
    uint8_t session_profile; /* the known profile that set session_us: its place in policy_settings.profiles
                                          + 1; 0 = the administrator did, or nobody */
};

/* The limits a new connection meets. Exchange's three knobs and a rate. */
struct policy_limits {
    uint32_t per_source_count;     /* concurrent sessions of one source to one server */
    uint32_t total_count;          /* concurrent sessions in all */
    uint32_t percent_of_remaining; /* a source may hold at most this part of what total_count leaves */
    uint32_t rate_count;           /* new sessions of one source per rate_window_us */
    uint64_t rate_window_us;
    uint64_t hold_longest_us; /* a held connection is refused after this */
    enum policy_action per_source_action;
    enum policy_action total_action;
    enum policy_action percent_action;
    enum policy_action rate_action;
    enum policy_over_limit over_limit; /* what enforcement does over a concurrency limit */
    enum policy_refuse_with refuse_with;
};

/* A named [source NAME] or [server NAME] section: everything resolved, nothing to inherit at run time. */
struct policy_override {
    char name[64];
    struct network *networks;
    size_t network_count;
    struct policy_timeouts timeouts;
    struct policy_limits limits;
    bool count_as_one; /* [source]: all its addresses share one count */
};

/* What a known kind of server allows by default, for reports: nothing of it is in force by being here. */
struct policy_profile {
    char name[16];
    struct policy_limits limits;
    uint64_t session_us;
};
#define POLICY_MOST_PROFILES 8

struct policy_settings {
    struct policy_timeouts timeouts;
    struct policy_limits limits;
    struct policy_override *sources; /* first match wins; a source beats a server */
    size_t source_count;
    struct policy_override *servers;
    size_t server_count;
    uint8_t ipv6_source_prefix; /* an IPv6 source is its network of this many bits (64) */
    char host_name[256];        /* the name spoken in our 421 replies */
    struct policy_profile profiles[POLICY_MOST_PROFILES];
    uint32_t profile_count;
};

#endif
