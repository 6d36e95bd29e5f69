#include "replay/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <pcap/pcap.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_OCTETS       131072u /* read ahead: system calls would be most of the work otherwise */
#define COPY_OCTETS       65536
#define SECONDS_MOST      INT64_C(253402300799) /* the year 9999: what pcapng can say beyond is nonsense */
#define CLOSE_DESCRIPTORS 1024                  /* more than the files of one call */
#define NO_UNPACKER       127                   /* exit status of its process, as of a shell's */

struct capture {
    pcap_t *pcap; /* owns `file` once it is open */
    FILE *file;
    const char *path;
    pid_t unpacker, feeder; /* 0 = none */
    uint64_t packets;
    bool damaged;
    char trouble[CAPTURE_TEXT_SIZE];
    char buffer[READ_OCTETS]; /* of the file: without one of ours, setvbuf() keeps its 4096 octets */
};

static bool is_standard_input(const char *path)
{
    return strcmp(path, "-") == 0;
}

const char *capture_path(const struct capture *capture)
{
    return is_standard_input(capture->path) ? "standard input" : capture->path;
}

/* The first two octets, put back. */
static bool starts_as_gzip(FILE *file, bool *empty)
{
    int first = getc(file);
    int second = first == EOF ? EOF : getc(file);
    *empty = first == EOF && !ferror(file);
    if (second != EOF) {
        ungetc(second, file);
    }
    if (first != EOF) {
        ungetc(first, file);
    }
    return first == 0x1f && second == 0x8b;
}

static void child_signals(void)
{
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
}

/* Copies what `file` still has, its buffer included, to `to`. Runs in a child. */
static void feed(FILE *file, int to)
{
    char *octets = malloc(COPY_OCTETS);
    size_t count;
    while (octets != NULL && (count = fread(octets, 1, COPY_OCTETS, file)) > 0) {
        for (size_t done = 0; done < count;) {
            ssize_t written = write(to, octets + done, count - done);
            if (written == -1) {
                _exit(1);
            }
            done += (size_t)written;
        }
    }
    _exit(octets == NULL || ferror(file) ? 1 : 0);
}

/* Puts gzip between `capture->file` and us. */
static bool unpack(struct capture *capture)
{
    int in[2] = {-1, -1}, out[2] = {-1, -1};
    bool good = false;
    if (pipe2(in, O_CLOEXEC) == -1 || pipe2(out, O_CLOEXEC) == -1) {
        goto out;
    }
    capture->feeder = fork();
    if (capture->feeder == 0) {
        child_signals();
        int keep = fileno(capture->file);
        for (int fd = STDERR_FILENO + 1; fd < CLOSE_DESCRIPTORS;
             fd++) { /* also those of other captures' pipes */
            if (fd != keep && fd != in[1]) {
                close(fd);
            }
        }
        feed(capture->file, in[1]);
    }
    if (capture->feeder == -1) {
        goto out;
    }
    capture->unpacker = fork();
    if (capture->unpacker == 0) {
        child_signals();
        if (dup2(in[0], STDIN_FILENO) == -1 || dup2(out[1], STDOUT_FILENO) == -1) {
            _exit(NO_UNPACKER);
        }
        int null = open("/dev/null", O_WRONLY);
        if (null == -1 || dup2(null, STDERR_FILENO) == -1) { /* what is wrong we say ourselves */
            _exit(NO_UNPACKER);
        }
        execlp("gzip", "gzip", "-dc", (char *)NULL);
        _exit(NO_UNPACKER);
    }
    if (capture->unpacker == -1) {
        goto out;
    }
    FILE *unpacked = fdopen(out[0], "rb");
    if (unpacked == NULL) {
        goto out;
    }
    fclose(capture->file);
    capture->file = unpacked;
    out[0] = -1;
    good = true;
out:
    for (unsigned i = 0; i < 2; i++) {
        if (in[i] != -1) {
            close(in[i]);
        }
        if (out[i] != -1) {
            close(out[i]);
        }
    }
    return good;
}

/* Waits for the children; false when the unpacker found its input damaged. Its reader is closed or at its end.
 * `missing`, if wanted: there is no unpacker. */
static bool reap(struct capture *capture, bool *missing)
{
    bool good = true;
    pid_t *children[] = {&capture->unpacker, &capture->feeder};
    for (size_t i = 0; i < sizeof children / sizeof children[0]; i++) {
        int status = 0;
        if (*children[i] > 0) {
            while (waitpid(*children[i], &status, 0) == -1 && errno == EINTR) {
            }
            if (i == 0) {
                good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
                if (missing != NULL) {
                    *missing = WIFEXITED(status) && WEXITSTATUS(status) == NO_UNPACKER;
                    good = good || WIFSIGNALED(status); /* we stopped reading */
                }
            }
        }
        *children[i] = 0;
    }
    return good;
}

static FILE *open_file(const char *path, char error[CAPTURE_TEXT_SIZE])
{
    int fd =
        is_standard_input(path) ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd != -1 && fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
        close(fd);
        fd = -1;
        errno = EISDIR;
    }
    FILE *file = fd == -1 ? NULL : fdopen(fd, "rb");
    if (file == NULL) {
        snprintf(error, CAPTURE_TEXT_SIZE, "cannot read %.200s: %s",
                 is_standard_input(path) ? "standard input" : path, strerror(errno));
        if (fd != -1) {
            close(fd);
        }
    }
    return file;
}

struct capture *capture_open(const char *path, char error[CAPTURE_TEXT_SIZE])
{
    struct capture *capture = calloc(1, sizeof *capture);
    char why[PCAP_ERRBUF_SIZE] = "";
    if (capture == NULL) {
        snprintf(error, CAPTURE_TEXT_SIZE, "no memory");
        return NULL;
    }
    capture->path = path;
    capture->file = open_file(path, error);
    if (capture->file == NULL) {
        capture_close(capture);
        return NULL;
    }
    setvbuf(capture->file, capture->buffer, _IOFBF, sizeof capture->buffer);
    bool empty;
    if (starts_as_gzip(capture->file, &empty)) {
        if (!unpack(capture)) {
            snprintf(error, CAPTURE_TEXT_SIZE, "cannot unpack %.200s: %s", capture_path(capture),
                     strerror(errno));
            capture_close(capture);
            return NULL;
        }
        setvbuf(capture->file, capture->buffer, _IOFBF, sizeof capture->buffer);
    }
    if (empty) {
        snprintf(error, CAPTURE_TEXT_SIZE, "%.160s is empty", capture_path(capture));
        capture_close(capture);
        return NULL;
    }
    capture->pcap = pcap_fopen_offline_with_tstamp_precision(capture->file, PCAP_TSTAMP_PRECISION_MICRO, why);
    if (capture->pcap == NULL) {
        bool missing = false;
        fclose(capture->file);
        capture->file = NULL;
        bool good = reap(capture, &missing);
        snprintf(error, CAPTURE_TEXT_SIZE, "%.160s is no capture file that can be read: %.120s",
                 capture_path(capture),
                 missing ? "it is compressed, and gzip is not installed"
                 : good  ? why
                         : "its compressed data is damaged or cut");
        capture_close(capture);
        return NULL;
    }
    capture->file = NULL;
    return capture;
}

void capture_close(struct capture *capture)
{
    if (capture == NULL) {
        return;
    }
    if (capture->pcap != NULL) {
        pcap_close(capture->pcap);
    } else if (capture->file != NULL) {
        fclose(capture->file);
    }
    if (capture->unpacker > 0) {
        kill(capture->unpacker, SIGTERM);
    }
    if (capture->feeder > 0) {
        kill(capture->feeder, SIGTERM);
    }
    (void)reap(capture, NULL);
    free(capture);
}

static enum capture_result capture_damage(struct capture *capture, const char *why)
{
    capture->damaged = true;
    snprintf(capture->trouble, sizeof capture->trouble,
             "%.160s cannot be read further than %llu packets: %.100s", capture_path(capture),
             (unsigned long long)capture->packets, why);
    return CAPTURE_DAMAGED;
}

enum capture_result capture_next(struct capture *capture, struct capture_packet *packet)
{
    struct pcap_pkthdr *header;
    const u_char *octets;
    if (capture->damaged) {
        return CAPTURE_DAMAGED;
    }
    int result = pcap_next_ex(capture->pcap, &header, &octets);
    if (result == 1) {
        capture->packets++;
        packet->octets = octets;
        packet->captured = header->caplen;
        packet->length = header->len > header->caplen ? header->len : header->caplen;
        int64_t seconds = header->ts.tv_sec;
        seconds = seconds < 0 ? 0 : seconds > SECONDS_MOST ? SECONDS_MOST : seconds;
        packet->unix_us = seconds * 1000000 + header->ts.tv_usec;
        return CAPTURE_PACKET;
    }
    if (result == PCAP_ERROR_BREAK) { /* the end of the file */
        return reap(capture, NULL) ? CAPTURE_END
                                   : capture_damage(capture, "its compressed data is damaged or cut");
    }
    return capture_damage(capture, pcap_geterr(capture->pcap));
}

const char *capture_trouble(const struct capture *capture)
{
    return capture->trouble;
}

int capture_datalink(const struct capture *capture)
{
    return pcap_datalink(capture->pcap);
}

const char *capture_datalink_name(const struct capture *capture)
{
    const char *name = pcap_datalink_val_to_name(pcap_datalink(capture->pcap));
    return name != NULL ? name : "unknown";
}

uint64_t capture_packets(const struct capture *capture)
{
    return capture->packets;
}
