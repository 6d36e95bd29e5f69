/* reload - SIGHUP: a new configuration in the place of the old one, or one line saying why not.
 * Owns: nothing. Threads: the main thread. */
#ifndef SMTPWITNESS_CLI_RELOAD_H
#define SMTPWITNESS_CLI_RELOAD_H

#include "conf/settings.h"
#include "core/base/attributes.h"
#include "daemon/log.h"

/* Loads `path` and hands the new settings, what needs a restart kept from `running`. Logs what changed and what had to
 * stay. NULL: the file is wrong, which is logged, and nothing has changed. */
struct settings *reload_settings(const char *path, const struct settings *running,
                                 struct log *log) MUST_CHECK;

#endif
