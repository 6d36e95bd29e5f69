/* replay - capture files through the tracker: whose fault was each session in them?
 * Several files are merged by time, as if one machine had written them. A clock that steps back makes nobody wait. Where
 * nothing was captured for REPLAY_LEAP_US, be it that the clock was set, the machine slept or the capture paused, the
 * sessions that were open end as far as they were seen. Both are counted and said.
 * Writes:  records or stories to `output`, remarks (damage, time steps, unknown link types) to `remarks`, one line each.
 * Bounds:  REPLAY_MAX_FILES files, REPLAY_MAX_FLOWS connections at once. Memory does not grow with the files.
 * Threads: one. */
#ifndef SMTPWITNESS_REPLAY_REPLAY_H
#define SMTPWITNESS_REPLAY_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "conf/settings.h"
#include "core/base/attributes.h"

#define REPLAY_MAX_FILES 256
#define REPLAY_MAX_PORTS 64
#define REPLAY_MAX_FLOWS 65536
#define REPLAY_LEAP_US   INT64_C(3600000000) /* far longer than anybody may be silent */
#define REPLAY_BACK_US   INT64_C(1000000) /* less than this back is reordering in the capture, not the clock */

enum replay_format {
    REPLAY_TEXT = 0,
    REPLAY_LOGFMT,
    REPLAY_JSON,
};

struct replay_options {
    const struct settings *settings;
    const char *const *paths;
    size_t path_count;
    uint16_t ports[REPLAY_MAX_PORTS]; /* SMTP besides the configured ones */
    size_t port_count;
    uint32_t max_flows; /* 0 = REPLAY_MAX_FLOWS */
    bool any_port;
    enum replay_format format;
    FILE *output, *remarks;
};

enum replay_result {
    REPLAY_OK = 0,
    REPLAY_UNREADABLE, /* a file cannot be opened or is no capture: nothing was done */
    REPLAY_DAMAGED,    /* read as far as possible */
    REPLAY_FAILED,     /* no memory, or the output did not take it */
};

struct replay_totals {
    uint64_t packets, sessions, faults,
        unjudged; /* sessions; unjudged: fault unknown, which is none of `faults` */
    uint64_t time_steps, not_ip;
};

enum replay_result replay_run(const struct replay_options *options, struct replay_totals *totals) MUST_CHECK;

#endif
