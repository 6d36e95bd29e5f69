/* port - whether somebody else listens where we are about to. Our own listeners share their port (SO_REUSEPORT, one
 * per worker), so a second witness would quietly take half of the first one's sessions.
 * Threads: any. */
#ifndef SMTPWITNESS_DAEMON_PORT_H
#define SMTPWITNESS_DAEMON_PORT_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/settings.h"
#include "core/base/attributes.h"

/* False and one line in `error` when the TCP port is taken, for IPv4 or IPv6. */
bool port_check_free(uint16_t port, struct settings_error *error) MUST_CHECK;

#endif
