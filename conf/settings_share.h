/* settings_share - one loaded configuration, shared by the sessions that began under it.
 * Owns:    the settings; destroys them with the last reference. Threads: any. */
#ifndef SMTPWITNESS_CONF_SETTINGS_SHARE_H
#define SMTPWITNESS_CONF_SETTINGS_SHARE_H

#include <stdatomic.h>

#include "conf/settings.h"
#include "core/base/attributes.h"

struct settings_share {
    struct settings *settings;
    atomic_uint references;
};

/* With one reference, the caller's. NULL without memory: `take_settings` stays the caller's then. */
struct settings_share *settings_share_create(struct settings *take_settings) MUST_CHECK;
struct settings_share *settings_share_acquire(struct settings_share *share);
void settings_share_release(struct settings_share *share); /* accepts NULL */

#endif
