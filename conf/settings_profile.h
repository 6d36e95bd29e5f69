/* settings_profile - what known kinds of servers allow, as values for the table's own keys.
 * Owns:    static storage only. Threads: any; all of it is constant. */
#ifndef SMTPWITNESS_CONF_SETTINGS_PROFILE_H
#define SMTPWITNESS_CONF_SETTINGS_PROFILE_H

#include <stddef.h>

#include "conf/settings_table.h"

struct settings_profile_fill {
    enum settings_section section; /* SETTINGS_SECTION_NONE ends the list */
    const char *key;
    const char *value;
};

struct settings_profile {
    const char *name;
    const char *help; /* one sentence for the manual */
    const struct settings_profile_fill *fills;
};

extern const struct settings_profile settings_profiles[];
extern const size_t settings_profile_count;

/* NULL when there is none of that name. */
const struct settings_profile *settings_profile_find(const char *name);

#endif
