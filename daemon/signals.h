/* signals - what an administrator tells a running witness, read from a descriptor in the main thread.
 *   SIGTERM, SIGINT  drain, then stop; a second one stops at once
 *   SIGUSR2          the same, when another process takes what comes
 *   SIGHUP           reload the configuration
 *   SIGUSR1          log peaks and statistics now
 * Threads: signals_block() in the main thread before any other thread starts, so that workers inherit the mask. */
#ifndef SMTPWITNESS_DAEMON_SIGNALS_H
#define SMTPWITNESS_DAEMON_SIGNALS_H

#include <stdbool.h>

#include "core/base/attributes.h"

enum signals_event {
    SIGNALS_NONE = 0,
    SIGNALS_STOP,
    SIGNALS_HAND_OVER,
    SIGNALS_RELOAD,
    SIGNALS_REPORT,
};

/* Blocks the five and ignores SIGPIPE (a peer that is gone is an error code, not a signal). */
void signals_block(void);

/* A descriptor that polls readable when a signal waits; -1 with errno. Close it with close(). */
int signals_open(void) MUST_CHECK;

/* The next waiting signal; SIGNALS_NONE when there is none. */
enum signals_event signals_read(int fd);

#endif
