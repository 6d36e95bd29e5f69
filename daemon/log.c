#include "daemon/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/log_rate.h"
#include "daemon/log_ring.h"

static_assert(RECORD_LINE_OCTETS <= LOG_LINE_OCTETS, "a record's line fits the ring");

#define REPORT_EVERY_US UINT64_C(1000000) /* "left out N lines" at most this often */
#define PATIENCE_MS     1000              /* how long a JSON sink may block before its lines are left out */
#define STOP_SECONDS    1                 /* log_destroy() waits this long for a blocked sink */
#define SLICE_MS        100               /* a wait for a sink looks this often whether it is abandoned */

enum sink_set {
    SINK_MAIN = 1u << 0, /* syslog, or stderr in the foreground */
    SINK_FILE = 1u << 1, /* json-file */
    SINK_STDOUT = 1u << 2,
};

/* A descriptor lines go to. Used by the log's thread only. */
struct sink {
    int fd;       /* -1 = none */
    bool blocked; /* took nothing for PATIENCE_MS; lines are left out until it takes again */
    bool torn;    /* the last line was written in part */
};

struct log {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;

    /* Under the lock. */
    struct settings_log settings;
    struct log_ring ring;
    struct log_rate record_rate, message_rate;
    struct log_stats stats;
    uint64_t unreported_rate, unreported_ring, unreported_sink;
    int new_file; /* for the thread to take over; -1 = none */
    bool configured, stopping;

    atomic_bool abandoned; /* log_destroy() has waited long enough */

    /* Constant. */
    bool foreground, json_stdout;

    /* The thread's own. */
    char ident[sizeof(((struct settings_log *)NULL)->ident)]; /* openlog() keeps the pointer */
    struct sink file, output, error;
    uint64_t reported_us;
};

/* ---- writing: the log's own thread ---- */

/* Waits until `sink` takes something; patience 0 = for as long as it takes. False: leave the line out. */
static bool sink_await(const struct log *log, struct sink *sink, int patience_ms)
{
    struct pollfd descriptor = {.fd = sink->fd, .events = POLLOUT};
    int waited_ms = 0;
    int ready = poll(&descriptor, 1, 0);

    while ((ready == 0 || (ready == -1 && errno == EINTR)) && !sink->blocked &&
           !atomic_load(&log->abandoned)) {
        if (patience_ms != 0 && waited_ms >= patience_ms) {
            sink->blocked = true;
            break;
        }
        ready = poll(&descriptor, 1, SLICE_MS);
        waited_ms += SLICE_MS;
    }
    if (ready > 0) {
        sink->blocked = false;
    }
    return ready > 0;
}

/* Writes `text`, whose NUL becomes the line's end. False: lost, wholly or in part. */
static bool sink_write(const struct log *log, struct sink *sink, char *text, size_t length, int patience_ms)
{
    size_t done = 0;

    text[length] = '\n';
    while (done < length + 1) {
        ssize_t count;

        if (!sink_await(log, sink, patience_ms)) {
            sink->torn = sink->torn || done > 0;
            return false;
        }
        if (sink->torn) {
            count = write(sink->fd, "\n", 1);
            sink->torn = count != 1;
        } else {
            count = write(sink->fd, text + done, length + 1 - done);
            done += count > 0 ? (size_t)count : 0;
        }
        if (count == -1 && errno != EINTR && errno != EAGAIN) {
            sink->torn = sink->torn || done > 0;
            return false;
        }
    }
    return true;
}

static bool write_line(struct log *log, const struct log_ring_line *line, const char *text)
{
    char buffer[sizeof(log->ident) + 2 + LOG_LINE_OCTETS];
    bool lost = false;

    if ((line->sinks & SINK_MAIN) != 0) {
        if (log->foreground) {
            int length = snprintf(buffer, sizeof(buffer), "%s: %s", log->ident, text);

            lost = !sink_write(log, &log->error, buffer, (size_t)length, 0);
        } else {
            /* The one place where the thread may be cancelled: syslog(3) can block, and no lock of ours is held. */
            pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
            syslog(line->priority, "%s", text);
            pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
        }
    }
    if ((line->sinks & SINK_FILE) != 0 && log->file.fd != -1) {
        memcpy(buffer, text, line->length);
        lost = !sink_write(log, &log->file, buffer, line->length, PATIENCE_MS) || lost;
    }
    if ((line->sinks & SINK_STDOUT) != 0) {
        memcpy(buffer, text, line->length);
        lost = !sink_write(log, &log->output, buffer, line->length, PATIENCE_MS) || lost;
    }
    return !lost;
}

/* Takes over what log_reconfigure() left. Called with the lock held. */
static void apply_settings(struct log *log)
{
    log->configured = true;
    memcpy(log->ident, log->settings.ident, sizeof(log->ident));
    if (log->file.fd != -1) {
        close(log->file.fd);
    }
    log->file = (struct sink){.fd = log->new_file};
    log->new_file = -1;
    if (!log->foreground) {
        closelog();
        openlog(log->ident, LOG_PID, log->settings.facility);
    }
}

static bool report_due(const struct log *log, uint64_t now_us)
{
    return log->unreported_rate + log->unreported_ring + log->unreported_sink > 0 &&
           (log->stopping || now_us - log->reported_us >= REPORT_EVERY_US);
}

/* Says how many lines are missing. Called with the lock held; gives it up while writing. */
static void write_report(struct log *log, uint64_t now_us)
{
    struct log_ring_line line = {.priority = LOG_WARNING, .sinks = SINK_MAIN};
    char text[256];
    int length =
        snprintf(text, sizeof(text),
                 "log: left out %llu lines (%llu over the rate limit, %llu because the log was blocked, "
                 "%llu because a JSON sink was blocked, full or gone)",
                 (unsigned long long)(log->unreported_rate + log->unreported_ring + log->unreported_sink),
                 (unsigned long long)log->unreported_rate, (unsigned long long)log->unreported_ring,
                 (unsigned long long)log->unreported_sink);

    line.length = (uint16_t)length;
    log->unreported_rate = log->unreported_ring = log->unreported_sink = 0;
    log->reported_us = now_us;
    pthread_mutex_unlock(&log->lock);
    (void)write_line(log, &line, text);
    pthread_mutex_lock(&log->lock);
}

static void wait_for_work(struct log *log)
{
    bool unreported = log->unreported_rate + log->unreported_ring + log->unreported_sink > 0;

    if (unreported) {
        struct timespec until;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += 1;
        (void)pthread_cond_timedwait(&log->wake, &log->lock, &until);
    } else {
        (void)pthread_cond_wait(&log->wake, &log->lock);
    }
}

static void *log_thread(void *context)
{
    struct log *log = context;
    struct log_ring_line line;
    char text[LOG_LINE_OCTETS];

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    pthread_mutex_lock(&log->lock);
    for (;;) {
        uint64_t now_us = clock_monotonic_us();

        if (!log->configured) {
            apply_settings(log);
        }
        if (!atomic_load(&log->abandoned) && report_due(log, now_us)) {
            write_report(log, now_us);
        } else if (!atomic_load(&log->abandoned) && log_ring_take(&log->ring, &line, text)) {
            bool written;

            pthread_mutex_unlock(&log->lock);
            written = write_line(log, &line, text);
            pthread_mutex_lock(&log->lock);
            log->stats.written += written ? 1 : 0;
            log->stats.left_out_sink += written ? 0 : 1;
            log->unreported_sink += written ? 0 : 1;
        } else if (log->stopping) {
            break;
        } else {
            wait_for_work(log);
        }
    }
    pthread_mutex_unlock(&log->lock);
    return NULL;
}

/* ---- the callers' side ---- */

static void enqueue_line(struct log *log, const struct log_ring_line *line, const char *text)
{
    pthread_mutex_lock(&log->lock);
    if (!log_ring_put(&log->ring, line, text)) {
        log->stats.left_out_ring++;
        log->unreported_ring++;
    }
    pthread_cond_signal(&log->wake);
    pthread_mutex_unlock(&log->lock);
}

/* What a line needs to know of the settings; taken together with its place under the rate limit. */
struct plan {
    enum settings_log_format format;
    int level;
    bool wanted, json;
    uint8_t json_sinks;
};

static struct plan plan_record(struct log *log, const struct record *record)
{
    struct plan plan = {.wanted = true};
    uint64_t now_us = clock_monotonic_us();

    pthread_mutex_lock(&log->lock);
    plan.format = log->settings.format;
    plan.level = log->settings.level;
    if (record != NULL) {
        plan.wanted =
            (record->kind != RECORD_VERDICT || record->verdict.fault != FAULT_NONE ||
             log->settings.verdicts == SETTINGS_LOG_ALL) &&
            ((record->kind != RECORD_STALL && record->kind != RECORD_FORECAST) || log->settings.stalls);
    }
    if (plan.wanted && !log_rate_take(&log->record_rate, now_us)) {
        plan.wanted = false;
        log->stats.left_out_rate++;
        log->unreported_rate++;
        pthread_cond_signal(&log->wake);
    }
    if (log->settings.json_file[0] != '\0' && strcmp(log->settings.json_file, "-") != 0) {
        plan.json_sinks |= SINK_FILE;
    }
    if (log->json_stdout || strcmp(log->settings.json_file, "-") == 0) {
        plan.json_sinks |= SINK_STDOUT;
    }
    pthread_mutex_unlock(&log->lock);
    return plan;
}

static int record_priority(const struct record *record, int level)
{
    switch (record->kind) {
    case RECORD_VERDICT:
        return record->verdict.fault == FAULT_NONE ? level : LOG_WARNING;
    case RECORD_STALL:
    case RECORD_FORECAST:
        return LOG_NOTICE;
    case RECORD_REFUSAL:
        return LOG_WARNING;
    }
    return LOG_WARNING;
}

void log_record(struct log *log, const struct record *record)
{
    struct plan plan = plan_record(log, record);
    struct log_ring_line line = {.sinks = SINK_MAIN};
    char text[RECORD_LINE_OCTETS];

    if (!plan.wanted) {
        return;
    }
    line.priority = (uint8_t)LOG_PRI(record_priority(record, plan.level));
    if (plan.format == SETTINGS_LOG_LOGFMT) {
        line.length = (uint16_t)record_to_logfmt(record, text);
        enqueue_line(log, &line, text);
        line.sinks = 0;
    }
    line.sinks |= plan.json_sinks;
    if (line.sinks != 0) {
        line.length = (uint16_t)record_to_json(record, text);
        enqueue_line(log, &line, text);
    }
}

static void enqueue_text(struct log *log, struct log_ring_line *line, const char *text)
{
    size_t length = strnlen(text, LOG_LINE_OCTETS - 1);

    line->length = (uint16_t)length;
    enqueue_line(log, line, text);
}

void log_line(struct log *log, int priority, const char *logfmt, const char *json)
{
    struct plan plan = plan_record(log, NULL);
    struct log_ring_line line = {.priority = (uint8_t)LOG_PRI(priority), .sinks = SINK_MAIN};

    if (!plan.wanted) {
        return;
    }
    if (plan.format == SETTINGS_LOG_LOGFMT) {
        enqueue_text(log, &line, logfmt);
        line.sinks = 0;
    }
    line.sinks |= plan.json_sinks;
    if (line.sinks != 0) {
        enqueue_text(log, &line, json);
    }
}

void log_message(struct log *log, int priority, const char *subsystem, const char *format, ...)
{
    struct log_ring_line line = {.priority = (uint8_t)LOG_PRI(priority), .sinks = SINK_MAIN};
    char text[LOG_LINE_OCTETS];
    int used = snprintf(text, sizeof(text), "%s: ", subsystem);
    bool allowed;
    va_list arguments;

    pthread_mutex_lock(&log->lock);
    allowed = log_rate_take(&log->message_rate, clock_monotonic_us());
    if (!allowed) {
        log->stats.left_out_rate++;
        log->unreported_rate++;
        pthread_cond_signal(&log->wake);
    }
    pthread_mutex_unlock(&log->lock);
    if (!allowed || used < 0 || (size_t)used >= sizeof(text)) {
        return;
    }
    va_start(arguments, format);
    (void)vsnprintf(text + used, sizeof(text) - (size_t)used, format, arguments);
    va_end(arguments);
    for (char *octet = text; *octet != '\0'; octet++) { /* one line, whatever a message quotes */
        if ((unsigned char)*octet < 0x20 || *octet == 0x7f) {
            *octet = '?';
        }
    }
    enqueue_text(log, &line, text);
}

/* ---- life ---- */

/* Opens the JSON file; -1 in `fd` and true when there is none. */
static bool open_file(const struct settings_log *settings, int *fd, struct settings_error *error)
{
    int flags;

    *fd = -1;
    if (settings->json_file[0] == '\0' || strcmp(settings->json_file, "-") == 0) {
        return true;
    }
    /* Without O_NONBLOCK a named pipe that nobody reads would stop us here. */
    *fd = open(settings->json_file, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0640);
    if (*fd == -1) {
        snprintf(error->text, sizeof(error->text),
                 "[log] json-file: cannot open %s: %s; create its directory and let the user of [process] "
                 "write there",
                 settings->json_file, strerror(errno));
        return false;
    }
    flags = fcntl(*fd, F_GETFL);
    if (flags == -1 || fcntl(*fd, F_SETFL, flags & ~O_NONBLOCK) == -1) {
        snprintf(error->text, sizeof(error->text), "[log] json-file: cannot use %s: %s", settings->json_file,
                 strerror(errno));
        close(*fd);
        *fd = -1;
        return false;
    }
    return true;
}

static bool init_locks(struct log *log)
{
    pthread_condattr_t attributes;
    bool good;

    if (pthread_condattr_init(&attributes) != 0) {
        return false;
    }
    good = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 &&
           pthread_cond_init(&log->wake, &attributes) == 0;
    pthread_condattr_destroy(&attributes);
    if (good && pthread_mutex_init(&log->lock, NULL) != 0) {
        pthread_cond_destroy(&log->wake);
        good = false;
    }
    return good;
}

/* Signals belong to the main thread. */
static bool start_thread(struct log *log)
{
    sigset_t all, before;
    int failed;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&log->thread, NULL, log_thread, log);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed == 0) {
        (void)pthread_setname_np(log->thread, "log");
    }
    return failed == 0;
}

struct log *log_create(const struct settings_log *settings, const struct log_options *options,
                       struct settings_error *error)
{
    uint64_t now_us = clock_monotonic_us();
    struct log *log = calloc(1, sizeof(*log));

    if (log == NULL) {
        snprintf(error->text, sizeof(error->text), "log: out of memory");
        return NULL;
    }
    log->settings = *settings;
    log->foreground = options->foreground;
    log->json_stdout = options->json_stdout;
    log->file.fd = log->new_file = -1;
    log->output.fd = STDOUT_FILENO;
    log->error.fd = STDERR_FILENO;
    log_rate_init(&log->record_rate, settings->rate_limit_count, now_us);
    log_rate_init(&log->message_rate, settings->rate_limit_count, now_us);
    if (!open_file(settings, &log->new_file, error)) {
        goto out_log;
    }
    snprintf(error->text, sizeof(error->text), "log: cannot start: out of memory or threads");
    if (!log_ring_init(&log->ring)) {
        goto out_file;
    }
    if (!init_locks(log)) {
        goto out_ring;
    }
    if (!start_thread(log)) {
        goto out_locks;
    }
    error->text[0] = '\0';
    return log;

out_locks:
    pthread_cond_destroy(&log->wake);
    pthread_mutex_destroy(&log->lock);
out_ring:
    log_ring_clear(&log->ring);
out_file:
    if (log->new_file != -1) {
        close(log->new_file);
    }
out_log:
    free(log);
    return NULL;
}

void log_destroy(struct log *log)
{
    struct timespec until;

    if (log == NULL) {
        return;
    }
    pthread_mutex_lock(&log->lock);
    log->stopping = true;
    pthread_cond_signal(&log->wake);
    pthread_mutex_unlock(&log->lock);

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += STOP_SECONDS;
    if (pthread_clockjoin_np(log->thread, NULL, CLOCK_MONOTONIC, &until) != 0) {
        atomic_store(&log->abandoned, true); /* a sink is blocked: what is queued is lost */
        until.tv_sec += STOP_SECONDS;
        if (pthread_clockjoin_np(log->thread, NULL, CLOCK_MONOTONIC, &until) != 0) {
            pthread_cancel(log->thread); /* in syslog(3) */
            pthread_join(log->thread, NULL);
        }
    }
    if (!log->foreground) {
        closelog();
    }
    for (int i = 0; i < 2; i++) {
        int fd = i == 0 ? log->file.fd : log->new_file;

        if (fd != -1) {
            close(fd);
        }
    }
    pthread_cond_destroy(&log->wake);
    pthread_mutex_destroy(&log->lock);
    log_ring_clear(&log->ring);
    free(log);
}

bool log_reconfigure(struct log *log, const struct settings_log *settings, struct settings_error *error)
{
    uint64_t now_us = clock_monotonic_us();
    int fd;

    if (!open_file(settings, &fd, error)) {
        return false;
    }
    pthread_mutex_lock(&log->lock);
    if (log->new_file != -1) {
        close(log->new_file);
    }
    if (settings->rate_limit_count != log->settings.rate_limit_count) {
        log_rate_init(&log->record_rate, settings->rate_limit_count, now_us);
        log_rate_init(&log->message_rate, settings->rate_limit_count, now_us);
    }
    log->settings = *settings;
    log->new_file = fd;
    log->configured = false;
    pthread_cond_signal(&log->wake);
    pthread_mutex_unlock(&log->lock);
    return true;
}

void log_stats(struct log *log, struct log_stats *stats)
{
    pthread_mutex_lock(&log->lock);
    *stats = log->stats;
    stats->memory_octets = sizeof(*log) + LOG_RING_OCTETS;
    pthread_mutex_unlock(&log->lock);
}
