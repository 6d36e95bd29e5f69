/* pidfile - one process per pid file: the file is locked while we run, so a stale one never stops a start.
 * Owns: the open file. Threads: the main thread. */
#ifndef SMTPWITNESS_DAEMON_PIDFILE_H
#define SMTPWITNESS_DAEMON_PIDFILE_H

#include <stdbool.h>

#include "conf/settings.h"
#include "core/base/attributes.h"

struct pidfile {
    int fd; /* -1 = none */
    const char *path;
};

/* Writes our number into `path` (borrowed until pidfile_close(); "" = none). False and `error`: another process of
 * ours runs with it, or it cannot be written. */
bool pidfile_open(struct pidfile *pidfile, const char *path, struct settings_error *error) MUST_CHECK;

/* Removes the file; empties it where its directory is no longer ours to write. */
void pidfile_close(struct pidfile *pidfile);

#endif
