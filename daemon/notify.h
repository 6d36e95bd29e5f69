/* notify - tells the service manager how we are (sd_notify(3)), and takes listeners from it (sd_listen_fds(3)).
 * Everything is a no-op without systemd.
 * Threads: the main thread. */
#ifndef SMTPWITNESS_DAEMON_NOTIFY_H
#define SMTPWITNESS_DAEMON_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/settings.h"
#include "core/base/attributes.h"

#define NOTIFY_STATUS_OCTETS 160
#define NOTIFY_MAX_LISTENERS 16 /* IPv4 and IPv6 for a handful of sockets */

void notify_ready(const char *status);
void notify_status(const char *format, ...) PRINTF_LIKE(1, 2); /* one line, cut at NOTIFY_STATUS_OCTETS */
void notify_reloading(void); /* with MONOTONIC_USEC, as Type=notify-reload wants */
/* `up_to_us`: so long the manager shall wait before it loses patience, whatever its unit says (EXTEND_TIMEOUT_USEC). */
void notify_stopping(const char *status, uint64_t up_to_us);
void notify_watchdog(void);

/* How often notify_watchdog() is due; 0 = the manager does not watch us. */
uint64_t notify_watchdog_interval_us(void);

/* Listeners passed to us; `count` 0 = none. False and `error`: something was passed that is no listening TCP socket. */
bool notify_listeners(int listeners[NOTIFY_MAX_LISTENERS], uint32_t *count,
                      struct settings_error *error) MUST_CHECK;

#endif
