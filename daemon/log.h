/* log - where lines go: syslog(3), stderr in the foreground, JSON lines to a file. Never blocks the caller.
 * Lines are put into a bounded ring; one thread of ours writes them, so that a blocked syslog stops nobody. When
 * the ring is full or the rate limit is passed a line is dropped and counted; the count is logged as soon as a line
 * passes again ("left out N lines").
 * Owns:    the ring, the thread, the JSON file. Bounds: LOG_RING_LINES lines.
 * Threads: log_record() and log_message() from any thread. */
#ifndef SMTPWITNESS_DAEMON_LOG_H
#define SMTPWITNESS_DAEMON_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/settings.h"
#include "core/base/attributes.h"
#include "core/report/record.h"

#define LOG_RING_LINES 4096

struct log;

struct log_options {
    bool foreground;  /* lines to stderr instead of syslog */
    bool json_stdout; /* JSON lines to stdout (--format=json) */
};

/* Starts the thread. NULL and one line in `error` when the JSON file cannot be opened or memory lacks. */
struct log *log_create(const struct settings_log *settings, const struct log_options *options,
                       struct settings_error *error) MUST_CHECK;
/* Writes what is queued (bounded by one second when the sink blocks) and stops the thread. Accepts NULL. */
void log_destroy(struct log *log);

/* After a reload; reopens the JSON file (logrotate). False and `error`: the old settings stay. */
bool log_reconfigure(struct log *log, const struct settings_log *settings,
                     struct settings_error *error) MUST_CHECK;

/* A verdict, stall or refusal. Formats at once; the record is not kept. Applies `verdicts` and `stalls`. */
void log_record(struct log *log, const struct record *record);

/* A message of the program itself: "proxy: listening on ..." - subsystem first. `priority` is a LOG_* level. */
void log_message(struct log *log, int priority, const char *subsystem, const char *format, ...)
    PRINTF_LIKE(4, 5);

struct log_stats {
    uint64_t written, left_out_ring, left_out_rate;
};
void log_stats(struct log *log, struct log_stats *stats);

#endif
