/* settings_table - the one table of everything an administrator can set.
 * The loader, the dump, the sample file, the manual page and the reload check all walk this table; nothing else
 * knows the name of a key.
 * Owns:    static storage only. Threads: any; all of it is constant. */
#ifndef SMTPWITNESS_CONF_SETTINGS_TABLE_H
#define SMTPWITNESS_CONF_SETTINGS_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/attributes.h"

enum settings_section {
    SETTINGS_SECTION_NONE = 0,
    SETTINGS_SECTION_SMTP,
    SETTINGS_SECTION_PROXY,
    SETTINGS_SECTION_NFQ,
    SETTINGS_SECTION_LOG,
    SETTINGS_SECTION_PROCESS,
    SETTINGS_SECTION_TIMEOUTS,
    SETTINGS_SECTION_LIMITS,
    SETTINGS_SECTION_SOURCE, /* [source NAME] */
    SETTINGS_SECTION_SERVER, /* [server NAME] */
    SETTINGS_SECTION_COUNT,
};

enum settings_type {
    SETTINGS_TYPE_NONE = 0,
    SETTINGS_TYPE_BOOLEAN,   /* bool: yes, no */
    SETTINGS_TYPE_COUNT,     /* uint32_t */
    SETTINGS_TYPE_OCTET,     /* uint8_t: a small count, such as a prefix length */
    SETTINGS_TYPE_SIZE,      /* uint32_t octets: 64k, 1M */
    SETTINGS_TYPE_MARK,      /* uint32_t: 26 or 0x1a */
    SETTINGS_TYPE_DURATION,  /* uint64_t microseconds: 500ms 30s 5min 1h 2d */
    SETTINGS_TYPE_RATE,      /* uint32_t count and uint64_t window: 30/1min */
    SETTINGS_TYPE_PORT,      /* uint16_t */
    SETTINGS_TYPE_PORTS,     /* struct settings_ports; minimum and maximum are how many */
    SETTINGS_TYPE_CHOICE,    /* int or enum: one of `choices` */
    SETTINGS_TYPE_HOST_NAME, /* char[] */
    SETTINGS_TYPE_WORD,      /* char[]: letters, digits, dot, dash, underscore */
    SETTINGS_TYPE_PATH,      /* char[]: an absolute path; "-" where the row allows it */
    SETTINGS_TYPE_NETWORKS,  /* struct network * and size_t */
    SETTINGS_TYPE_PROFILE,   /* no field: fills other rows, see settings_profile.h */
    SETTINGS_TYPE_END,
};

/* What `offset` counts from. */
enum settings_base {
    SETTINGS_BASE_NONE = 0, /* no field */
    SETTINGS_BASE_SETTINGS, /* struct settings */
    SETTINGS_BASE_TIMEOUTS, /* struct policy_timeouts; may also stand in [source NAME] and [server NAME] */
    SETTINGS_BASE_LIMITS,   /* struct policy_limits; likewise */
    SETTINGS_BASE_OVERRIDE, /* struct policy_override */
};

struct settings_choice {
    const char *text; /* NULL ends the list */
    int value;
};

struct settings_row {
    enum settings_section section;
    const char *key;
    enum settings_type type;
    enum settings_base base;
    size_t offset;                         /* of the field in its base */
    size_t size;                           /* of the field, in octets */
    size_t second_offset;                  /* a rate's window, a network list's count */
    uint64_t minimum;                      /* inclusive; microseconds, octets or a count, by type */
    uint64_t maximum;                      /* inclusive */
    const char *zero;                      /* what 0 means, where 0 is allowed below the minimum; else NULL */
    const char *empty;                     /* what an empty value means, where it is allowed; else NULL */
    const char *default_text;              /* NULL: the key is required */
    const char *example;                   /* what an error line suggests; never empty */
    const char *unit;                      /* for the manual; "" where there is none */
    const struct settings_choice *choices; /* SETTINGS_TYPE_CHOICE */
    bool dash;                             /* SETTINGS_TYPE_PATH: "-" is allowed */
    bool reloadable;                       /* a reload takes it over; else it needs a restart */
    const char *help;                      /* plain sentences; no line breaks */
};

struct settings_section_row {
    enum settings_section section;
    const char *word; /* "smtp", "source" */
    bool named;       /* [source NAME] */
    const char *help;
};

/* One override section copies every row of [timeouts] and [limits]; the table stays below this. */
#define SETTINGS_MAX_ROWS 96

extern const struct settings_row settings_rows[];
extern const size_t settings_row_count;
extern const struct settings_section_row settings_sections[SETTINGS_SECTION_COUNT];

/* True when `row` may stand in `section`: its own, or a named one for the rows of timeouts and limits. */
bool settings_row_fits(const struct settings_row *row, enum settings_section section);

/* The row of `key` in `section`; NULL when there is none. `key` need not be terminated. */
const struct settings_row *settings_row_find(enum settings_section section, const char *key, size_t length);

/* The table's own rules, which the compiler cannot check: NULL, or what is wrong. For a test. */
const char *settings_table_fault(void);

#endif
