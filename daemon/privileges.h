/* privileges - the witness starts as root, opens what needs root, and goes on as an ordinary user.
 * CAP_NET_RAW stays: each server leg needs IP_TRANSPARENT, a bind to the client's address and SO_MARK. CAP_NET_RAW
 * suffices for all three (ip(7), socket(7)); SO_MARK needed CAP_NET_ADMIN before Linux 5.17.
 * Threads: call from the main thread, before the threads that need the capability start: a capability belongs to a
 * thread, and those that run already lose all of theirs. */
#ifndef SMTPWITNESS_DAEMON_PRIVILEGES_H
#define SMTPWITNESS_DAEMON_PRIVILEGES_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/settings.h"
#include "core/base/attributes.h"

/* False and one line in `error` when a transparent proxy cannot work with the capabilities we have, or `user` does
 * not exist. Changes nothing. */
bool privileges_check(const char *user, struct settings_error *error) MUST_CHECK;

/* No new privileges from now on, for us and for whatever we might execute. Call before the first thread starts: all
 * threads inherit it. */
bool privileges_lock(struct settings_error *error) MUST_CHECK;

/* Becomes `user` (empty: stays who we are) with CAP_NET_RAW alone, and CAP_NET_ADMIN where `outgoing_mark` needs it
 * on this kernel. */
bool privileges_drop(const char *user, uint32_t outgoing_mark, struct settings_error *error) MUST_CHECK;

/* The same for the packet hook: CAP_NET_RAW and CAP_NET_ADMIN stay, for the kernel asks for the latter with every
 * verdict (net/netfilter/nfnetlink.c). */
bool privileges_check_queues(const char *user, struct settings_error *error) MUST_CHECK;
bool privileges_drop_for_queues(const char *user, struct settings_error *error) MUST_CHECK;

/* Whether a kernel of this release ("6.1.0-18-amd64") lets CAP_NET_RAW set SO_MARK. For privileges_drop(), and a test. */
bool privileges_mark_needs_admin(const char *release);

#endif
