/* smtpload: the sink. One thread, level-triggered; bodies are searched for their end and thrown away. */
#include "tests/bench/smtpload.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BUFFER_OCTETS  ((size_t)1 << 18)
#define TAIL_OCTETS    4 /* what of "CRLF . CRLF" can have come with an earlier read */
#define REPLIES_OCTETS 65536
#define ACCEPT_COUNT   64 /* a turn, so that open sessions are served meanwhile */

struct session {
    int fd;
    bool body;
    bool quit;
    size_t line_octets;
    char first; /* letter of the command that is being read */
    char tail[TAIL_OCTETS];
};

struct sink {
    int epoll;
    int listener;
    char *buffer; /* TAIL_OCTETS of what came before, then what was read */
    char replies[REPLIES_OCTETS];
    size_t reply_octets;
};

static void add_reply(struct sink *sink, const char *text)
{
    size_t octets = strlen(text);

    if (octets <= sizeof(sink->replies) - sink->reply_octets) {
        memcpy(sink->replies + sink->reply_octets, text, octets);
        sink->reply_octets += octets;
    }
}

static void answer_command(struct sink *sink, struct session *session)
{
    switch (session->first) {
    case 'E':
        add_reply(sink, "250-sink\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-8BITMIME\r\n"
                        "250 ENHANCEDSTATUSCODES\r\n");
        break;
    case 'D':
        add_reply(sink, "354 go\r\n");
        session->body = true;
        break;
    case 'Q':
        add_reply(sink, "221 2.0.0 Bye\r\n");
        session->quit = true;
        break;
    case 'M':
    case 'R':
    case 'N':
        add_reply(sink, "250 2.1.0 Ok\r\n");
        break;
    default:
        add_reply(sink, "500 5.5.1 What?\r\n");
        break;
    }
}

/* Returns where reading goes on. Up to TAIL_OCTETS before `at` are part of the stream. */
static char *consume_body(struct sink *sink, struct session *session, char *at, char *end)
{
    char *from = at - TAIL_OCTETS;
    char *dot = memmem(from, (size_t)(end - from), "\r\n.\r\n", 5);

    if (dot == NULL) {
        return end;
    }
    session->body = false;
    add_reply(sink, "250 2.0.0 Ok\r\n");
    return dot + 5;
}

static char *consume_line(struct sink *sink, struct session *session, char *at, char *end)
{
    char *newline = memchr(at, '\n', (size_t)(end - at));
    char *next = newline != NULL ? newline + 1 : end;

    if (session->line_octets == 0) {
        session->first = *at;
    }
    session->line_octets += (size_t)(next - at);
    if (newline != NULL) {
        session->line_octets = 0;
        answer_command(sink, session);
    }
    return next;
}

static void session_close(struct session *session)
{
    close(session->fd);
    free(session);
}

static void session_read(struct sink *sink, struct session *session)
{
    char *at = sink->buffer + TAIL_OCTETS;
    ssize_t count = recv(session->fd, at, BUFFER_OCTETS, 0);

    if (count <= 0) {
        if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
            session_close(session);
        }
        return;
    }
    char *end = at + count;

    memcpy(sink->buffer, session->tail, TAIL_OCTETS);
    sink->reply_octets = 0;
    while (at < end) {
        at = session->body ? consume_body(sink, session, at, end) : consume_line(sink, session, at, end);
    }
    memcpy(session->tail, end - TAIL_OCTETS, TAIL_OCTETS);
    if (sink->reply_octets > 0 &&
        send(session->fd, sink->replies, sink->reply_octets, MSG_NOSIGNAL) != (ssize_t)sink->reply_octets) {
        session->quit = true; /* the source does not read: it will count the close as an error */
    }
    if (session->quit) {
        session_close(session);
    }
}

static void sink_accept(struct sink *sink)
{
    static const char greeting[] = "220 sink ESMTP\r\n";

    for (int i = 0; i < ACCEPT_COUNT; i++) {
        int fd = accept4(sink->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd == -1) {
            return;
        }
        struct session *session = calloc(1, sizeof(*session));
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = session};

        if (session == NULL || epoll_ctl(sink->epoll, EPOLL_CTL_ADD, fd, &event) == -1) {
            load_fail("new session");
        }
        session->fd = fd;
        load_set_no_delay(fd);
        if (send(fd, greeting, sizeof(greeting) - 1, MSG_NOSIGNAL) == -1) {
            session_close(session);
        }
    }
}

static void sink_open(struct sink *sink, const struct load_options *options)
{
    int on = 1;
    int off = 0;

    sink->listener = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sink->epoll = epoll_create1(EPOLL_CLOEXEC);
    sink->buffer = malloc(TAIL_OCTETS + BUFFER_OCTETS);
    if (sink->listener == -1 || sink->epoll == -1 || sink->buffer == NULL) {
        load_fail("sink");
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

    if (setsockopt(sink->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1 ||
        setsockopt(sink->listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) == -1 ||
        bind(sink->listener, (const struct sockaddr *)&options->server, options->server_octets) == -1 ||
        listen(sink->listener, 8192) == -1 ||
        epoll_ctl(sink->epoll, EPOLL_CTL_ADD, sink->listener, &event) == -1) {
        load_fail("sink");
    }
}

int load_run_sink(const struct load_options *options)
{
    static struct sink sink;
    struct epoll_event events[LOAD_EVENT_COUNT];

    sink_open(&sink, options);
    for (;;) {
        int count = epoll_wait(sink.epoll, events, LOAD_EVENT_COUNT, -1);

        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == NULL) {
                sink_accept(&sink);
            } else {
                session_read(&sink, events[i].data.ptr);
            }
        }
    }
}
