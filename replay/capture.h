/* capture - one capture file: pcap or pcapng, compressed with gzip or not, from a path or from standard input ("-").
 * Times come out in microseconds whatever the file has. A damaged or cut file is read as far as it goes.
 * gzip:    a child process unpacks; no shell is involved.
 * Owns:    the descriptor, the libpcap handle, the child. Threads: one at a time. */
#ifndef SMTPWITNESS_REPLAY_CAPTURE_H
#define SMTPWITNESS_REPLAY_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/base/attributes.h"

#define CAPTURE_TEXT_SIZE 320

struct capture;

struct capture_packet {
    const uint8_t *octets; /* until the next capture_next() of the same capture */
    uint32_t captured;
    uint32_t length;
    int64_t unix_us;
};

enum capture_result {
    CAPTURE_PACKET = 0,
    CAPTURE_END,
    CAPTURE_DAMAGED, /* no more can be read; capture_trouble() says why */
};

/* NULL, and one line in `error`, when it cannot be opened or is no capture. */
struct capture *capture_open(const char *path, char error[CAPTURE_TEXT_SIZE]) MUST_CHECK;
void capture_close(struct capture *capture); /* accepts NULL */

enum capture_result capture_next(struct capture *capture, struct capture_packet *packet) MUST_CHECK;

const char *capture_path(const struct capture *capture); /* "standard input" for "-" */
const char *capture_trouble(const struct capture *capture);
int capture_datalink(const struct capture *capture);
const char *capture_datalink_name(const struct capture *capture);
uint64_t capture_packets(const struct capture *capture); /* read so far */

#endif
