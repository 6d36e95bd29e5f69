/* smtpload - a mail source and a mail sink as cheap as they can be, so that what is measured is what stands between.
 * Owns:    its sockets and buffers. Borrows: nothing.
 * Bounds:  LOAD_EVENT_COUNT events a turn; the source's connections and the sink's sessions are allocated one by one.
 * Threads: none; one process is a source or a sink. Time: its own monotonic clock, in seconds.
 * Source:  RFC 5321, sections 3.1 to 3.3 (dialogue) and 4.1.1.4 (end of a body). */
#ifndef SMTPWITNESS_TESTS_BENCH_SMTPLOAD_H
#define SMTPWITNESS_TESTS_BENCH_SMTPLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define LOAD_EVENT_COUNT 256

struct load_options {
    struct sockaddr_storage server;
    socklen_t server_octets;
    double seconds;
    size_t connection_count;
    size_t body_octets;
    bool one_mail; /* a new session for each mail; otherwise one session carries all of them */
};

double load_now(void);
void load_fail(const char *what) __attribute__((noreturn));
void load_set_no_delay(int fd);
/* Sorts in place; 0 of nothing. */
double load_percentile(double *values, size_t count, double part);

/* Each runs until it is done, prints one line of key=value to standard output and returns the exit status. */
int load_run_sink(const struct load_options *options); /* never returns */
int load_run_mails(const struct load_options *options);
int load_run_noop(const struct load_options *options);
int load_run_idle(
    const struct load_options *options); /* prints ready=N, then waits for the end of standard input */

#endif
