/* attribution_internal - the shape of a rule of attribution, for the table (attribution_rules.c) and what walks it
 * (attribution.c).
 * Owns, borrows: nothing. Threads: any; the table is constant. */
#ifndef SMTPWITNESS_CORE_FAULT_ATTRIBUTION_INTERNAL_H
#define SMTPWITNESS_CORE_FAULT_ATTRIBUTION_INTERNAL_H

#include <stdint.h>

#include "core/fault/attribution.h"

/* Whom a rule names. The relative ones are resolved with facts.suspect. */
enum blame {
    BLAME_NONE = 0,
    BLAME_CLIENT,
    BLAME_SERVER,
    BLAME_SUSPECT,
    BLAME_CLIENT_NETWORK,
    BLAME_SERVER_NETWORK,
    BLAME_SUSPECT_NETWORK,
    BLAME_MIDDLEBOX,
    BLAME_POLICY,
    BLAME_WITNESS,
    BLAME_UNKNOWN,
};

/* How sure a rule is. */
enum sureness {
    SURE_POSSIBLE = 0,
    SURE_LIKELY,
    SURE_CERTAIN,
    SURE_BY_PROBE, /* certain with an answered probe and a tap; else likely, and the leg's network is not excluded */
};

struct rule {
    const char *name;
    uint32_t ends;        /* set of 1 << session_end; 0 = any */
    uint32_t phases;      /* set of 1 << phase; 0 = any */
    uint32_t classes;     /* set of 1 << reply_class; 0 = any */
    uint32_t connects;    /* set of 1 << connect_result; 0 = any */
    uint32_t bottlenecks; /* set of 1 << bottleneck; 0 = any */
    uint32_t boxes;       /* set of 1 << box_sign; 0 = any */
    uint64_t all;         /* every one of these facts */
    uint64_t any;         /* at least one of these; 0 = no condition */
    uint64_t none;        /* none of these */
    uint32_t near;        /* every one of these words of the neighbours (enum near) */
    uint32_t near_none;   /* none of these */
    enum cause cause;
    enum blame fault;
    uint32_t also; /* set of 1 << blame */
    enum sureness sureness;
    enum limit_by limit_by;
};

/* From top to bottom; the first that fits decides, and the last fits everything. */
extern const struct rule attribution_rules[];

#endif
