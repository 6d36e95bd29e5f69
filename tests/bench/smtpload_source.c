/* smtpload: the source. Mails over many connections with epoll; NOOP round trips and idle sessions with blocking calls. */
#include "tests/bench/smtpload.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <unistd.h>

#define REPLY_OCTETS     2048 /* the sink's longest reply has 90 */
#define ERROR_COUNT_MAX  1000 /* then measuring makes no sense */
#define BLOCKING_SECONDS 5    /* the longest wait for one reply */

enum step {
    STEP_GREETING = 0,
    STEP_EHLO,
    STEP_MAIL,
    STEP_RCPT,
    STEP_DATA,
    STEP_BODY,
    STEP_QUIT,
};

struct connection {
    int fd;
    enum step step;
    bool waits_for_room; /* EPOLLOUT is asked for */
    size_t sent_octets;  /* of the body */
    size_t reply_octets;
    char reply[REPLY_OCTETS];
};

struct source {
    const struct load_options *options;
    int epoll;
    char *body;
    size_t body_octets; /* with its final dot */
    uint64_t session_count, mail_count, error_count;
};

static void append(char **at, const char *text)
{
    size_t octets = strlen(text);

    memcpy(*at, text, octets);
    *at += octets;
}

static void build_body(struct source *source)
{
    static const char head[] = "From: a@example.org\r\nTo: b@example.net\r\nSubject: bench\r\n\r\n";
    static const char line[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmn\r\n";
    char *at = source->body = malloc(source->options->body_octets + sizeof(head) + sizeof(line) + 5);

    if (at == NULL) {
        load_fail("body");
    }
    append(&at, head);
    while ((size_t)(at - source->body) < source->options->body_octets) {
        append(&at, line);
    }
    append(&at, ".\r\n");
    source->body_octets = (size_t)(at - source->body);
}

static void connection_watch(struct source *source, struct connection *connection, int operation)
{
    struct epoll_event event = {.events = connection->waits_for_room ? EPOLLIN | EPOLLOUT : EPOLLIN,
                                .data.ptr = connection};

    if (epoll_ctl(source->epoll, operation, connection->fd, &event) == -1) {
        load_fail("epoll_ctl");
    }
}

static void connection_open(struct source *source, struct connection *connection)
{
    const struct sockaddr_storage *server = &source->options->server;

    connection->fd = socket(server->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd == -1) {
        load_fail("socket");
    }
    load_set_no_delay(connection->fd);
    connection->step = STEP_GREETING;
    connection->waits_for_room = false;
    connection->reply_octets = 0;
    if (connect(connection->fd, (const struct sockaddr *)server, source->options->server_octets) == -1 &&
        errno != EINPROGRESS) {
        source->error_count++;
    }
    connection_watch(source, connection, EPOLL_CTL_ADD);
}

static void connection_reopen(struct source *source, struct connection *connection)
{
    close(connection->fd);
    connection_open(source, connection);
}

static void say(struct source *source, struct connection *connection, const char *text, enum step step)
{
    connection->step = step;
    if (send(connection->fd, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text)) {
        source->error_count++;
    }
}

static void send_body(struct source *source, struct connection *connection)
{
    while (connection->sent_octets < source->body_octets) {
        ssize_t count = send(connection->fd, source->body + connection->sent_octets,
                             source->body_octets - connection->sent_octets, MSG_NOSIGNAL);

        if (count == -1) {
            if (errno != EAGAIN) {
                source->error_count++;
            } else if (!connection->waits_for_room) {
                connection->waits_for_room = true;
                connection_watch(source, connection, EPOLL_CTL_MOD);
            }
            return;
        }
        connection->sent_octets += (size_t)count;
    }
    if (connection->waits_for_room) {
        connection->waits_for_room = false;
        connection_watch(source, connection, EPOLL_CTL_MOD);
    }
}

static void begin_mail(struct source *source, struct connection *connection)
{
    char text[80];

    snprintf(text, sizeof text, "MAIL FROM:<a@example.org> SIZE=%zu\r\n",
             source->body_octets - strlen(".\r\n"));
    say(source, connection, text, STEP_MAIL);
}

/* One whole reply came. */
static void connection_advance(struct source *source, struct connection *connection)
{
    switch (connection->step) {
    case STEP_GREETING:
        say(source, connection, "EHLO client.example.org\r\n", STEP_EHLO);
        break;
    case STEP_EHLO:
        begin_mail(source, connection);
        break;
    case STEP_MAIL:
        say(source, connection, "RCPT TO:<b@example.net>\r\n", STEP_RCPT);
        break;
    case STEP_RCPT:
        say(source, connection, "DATA\r\n", STEP_DATA);
        break;
    case STEP_DATA:
        connection->step = STEP_BODY;
        connection->sent_octets = 0;
        send_body(source, connection);
        break;
    case STEP_BODY:
        source->mail_count++;
        if (source->options->one_mail) {
            say(source, connection, "QUIT\r\n", STEP_QUIT);
        } else {
            begin_mail(source, connection);
        }
        break;
    case STEP_QUIT:
        source->session_count++;
        connection_reopen(source, connection);
        break;
    }
}

/* True when the octets end with the last line of a reply. */
static bool reply_is_whole(const char *reply, size_t octets)
{
    if (octets < 5 || reply[octets - 1] != '\n') {
        return false;
    }
    const char *before = memrchr(reply, '\n', octets - 1);
    size_t last = before == NULL ? 0 : (size_t)(before - reply) + 1;

    return octets - last > 4 && reply[last + 3] == ' ';
}

static void connection_read(struct source *source, struct connection *connection)
{
    ssize_t count = recv(connection->fd, connection->reply + connection->reply_octets,
                         sizeof(connection->reply) - connection->reply_octets, 0);

    if (count == -1 && errno == EAGAIN) {
        return;
    }
    if (count <= 0) {
        source->error_count++;
        connection_reopen(source, connection);
        return;
    }
    connection->reply_octets += (size_t)count;
    if (!reply_is_whole(connection->reply, connection->reply_octets)) {
        return;
    }
    connection->reply_octets = 0;
    if (connection->reply[0] >= '4') {
        source->error_count++;
    }
    connection_advance(source, connection);
}

static void source_loop(struct source *source, double until)
{
    struct epoll_event events[LOAD_EVENT_COUNT];

    while (load_now() < until && source->error_count < ERROR_COUNT_MAX) {
        int count = epoll_wait(source->epoll, events, LOAD_EVENT_COUNT, 100);

        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;

            if ((events[i].events & EPOLLOUT) != 0 && connection->step == STEP_BODY) {
                send_body(source, connection);
            }
            if ((events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0) {
                connection_read(source, connection);
            }
        }
    }
}

/* Closes with a reset, so that nothing of this run lingers in the next. */
static void close_hard(int fd)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};

    if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)) == -1) {
        load_fail("SO_LINGER");
    }
    close(fd);
}

int load_run_mails(const struct load_options *options)
{
    struct source source = {.options = options, .epoll = epoll_create1(EPOLL_CLOEXEC)};
    struct connection *connections = calloc(options->connection_count, sizeof(*connections));
    double started = load_now();
    double octets;

    if (source.epoll == -1 || connections == NULL) {
        load_fail("source");
    }
    build_body(&source);
    for (size_t i = 0; i < options->connection_count; i++) {
        connection_open(&source, &connections[i]);
    }
    source_loop(&source, started + options->seconds);

    double seconds = load_now() - started;

    octets = (double)source.mail_count * (double)source.body_octets;
    for (size_t i = 0; i < options->connection_count; i++) {
        if (connections[i].step == STEP_BODY) {
            octets += (double)connections[i].sent_octets;
        }
        close_hard(connections[i].fd);
    }
    printf("sessions=%" PRIu64 " mails=%" PRIu64 " errors=%" PRIu64 " seconds=%.4f octets=%.0f\n",
           source.session_count, source.mail_count, source.error_count, seconds, octets);
    free(connections);
    free(source.body);
    close(source.epoll);
    return 0;
}

static bool read_reply(int fd)
{
    char reply[REPLY_OCTETS];
    size_t octets = 0;

    do {
        ssize_t count = recv(fd, reply + octets, sizeof(reply) - octets, 0);

        if (count <= 0) {
            return false;
        }
        octets += (size_t)count;
    } while (!reply_is_whole(reply, octets));
    return reply[0] < '4';
}

static bool exchange(int fd, const char *command)
{
    return send(fd, command, strlen(command), MSG_NOSIGNAL) == (ssize_t)strlen(command) && read_reply(fd);
}

/* A session past its greeting and EHLO, or -1. */
static int open_session(const struct load_options *options)
{
    struct timeval patience = {.tv_sec = BLOCKING_SECONDS};
    int fd = socket(options->server.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd == -1) {
        load_fail("socket");
    }
    load_set_no_delay(fd);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == -1 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == -1) {
        load_fail("SO_RCVTIMEO");
    }
    if (connect(fd, (const struct sockaddr *)&options->server, options->server_octets) == -1 ||
        !read_reply(fd) || !exchange(fd, "EHLO client.example.org\r\n")) {
        close(fd);
        return -1;
    }
    return fd;
}

int load_run_noop(const struct load_options *options)
{
    size_t room = 65536;
    size_t count = 0;
    size_t error_count = 0;
    double *times_us = malloc(room * sizeof(*times_us));
    int fd = open_session(options);
    double until = load_now() + options->seconds;

    while (fd != -1 && times_us != NULL && load_now() < until) {
        double started = load_now();

        if (!exchange(fd, "NOOP\r\n")) {
            error_count++;
            break;
        }
        if (count == room) {
            double *larger = realloc(times_us, 2 * room * sizeof(*times_us));

            if (larger == NULL) {
                load_fail("times");
            }
            times_us = larger;
            room *= 2;
        }
        times_us[count++] = (load_now() - started) * 1e6;
    }
    if (fd == -1 || times_us == NULL) {
        error_count++;
    } else {
        close_hard(fd);
    }
    double p50 = times_us == NULL ? 0 : load_percentile(times_us, count, .5);
    double p99 = times_us == NULL ? 0 : load_percentile(times_us, count, .99);

    printf("mails=%zu errors=%zu p50_us=%.2f p99_us=%.2f\n", count, error_count, p50, p99);
    free(times_us);
    return 0;
}

int load_run_idle(const struct load_options *options)
{
    int *sessions = calloc(options->connection_count, sizeof(*sessions));
    size_t ready = 0;
    char ignored[16];

    if (sessions == NULL) {
        load_fail("sessions");
    }
    while (ready < options->connection_count) {
        sessions[ready] = open_session(options);
        if (sessions[ready] == -1) {
            break;
        }
        ready++;
    }
    printf("mails=%zu errors=%zu ready=%zu\n", ready, options->connection_count - ready, ready);
    fflush(stdout);
    while (read(STDIN_FILENO, ignored, sizeof(ignored)) > 0) {
        continue;
    }
    for (size_t i = 0; i < ready; i++) {
        close_hard(sessions[i]);
    }
    free(sessions);
    return 0;
}
