/* system_calls - from here on the kernel refuses (EPERM) every system call that a running witness does not make: no new
 * program is executed, no other process looked into, no file system mounted, no capability asked for. It adds to the filter
 * of the systemd units what these must leave open for the start, and is there without systemd too.
 * What is left was measured with strace over the tests of proxy and nfq, and then completed by what libc needs in rarer
 * moments: threads, another syslog daemon, a new JSON file, a reload.
 * Bounds:  once, for the life of the process. Threads: all that run get it, too (SECCOMP_FILTER_FLAG_TSYNC).
 * Source:  seccomp(2), seccomp_rule_add(3). */
#ifndef SMTPWITNESS_DAEMON_SYSTEM_CALLS_H
#define SMTPWITNESS_DAEMON_SYSTEM_CALLS_H

#include <stdbool.h>

#include "conf/settings.h"
#include "core/base/attributes.h"

/* After privileges_lock(), which sets no_new_privs, and once everything that needs more is open. */
bool system_calls_restrict(struct settings_error *error) MUST_CHECK;

#endif
