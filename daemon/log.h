/* log - where lines go: syslog(3), stderr in the foreground, JSON lines to a file. Never blocks the caller.
 * Lines are put into a bounded ring; one thread of ours writes them, so that a blocked syslog stops nobody. When
 * the ring is full or the rate limit is passed a line is dropped and counted; the count is logged as soon as a line
 * passes again ("left out N lines").
 * A sink that takes nothing (a full pipe) loses lines, counted likewise, and does not hold up the other sinks.
 * Records and the program's own messages have a rate limit each: a flood of sessions never hides a message.
 * JSON lines (file or stdout) carry records and peaks; the program's messages are text only.
 * Owns:    the ring, the thread, the JSON file. Bounds: LOG_RING_LINES lines, LOG_RING_OCTETS (log_ring.h).
 * Threads: log_record() and log_message() from any thread. */
#ifndef SMTPWITNESS_DAEMON_LOG_H
#define SMTPWITNESS_DAEMON_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/settings.h"
#include "core/base/attributes.h"
#include "core/report/record.h"

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

/* A line made elsewhere, such as `peaks`: the same facts as logfmt and as JSON. Counts as a record. */
void log_line(struct log *log, int priority, const char *logfmt, const char *json);

struct log_stats {
    uint64_t written, left_out_ring, left_out_rate;
    uint64_t left_out_sink; /* the sink was blocked, full or gone */
    size_t memory_octets;
};
void log_stats(struct log *log, struct log_stats *stats);

#endif
