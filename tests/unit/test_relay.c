/* proxy/relay over the loopback: octets, ends, bounds, turns, limits. The log is replaced by a list of records. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <malloc.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <cmocka.h>

#include "conf/settings.h"
#include "daemon/clock.h"
#include "proxy/leg.h"
#include "proxy/relay.h"

#define MAX_RECORDS 64
#define SECOND_US   UINT64_C(1000000)

static struct record records[MAX_RECORDS];
static size_t record_count;

void log_record(struct log *log, const struct record *record)
{
    (void)log;
    if (record_count < MAX_RECORDS)
        records[record_count++] = *record;
}

/* splice(2), counted: the relay's own calls end here. */
static uint64_t spliced_octets;

ssize_t splice(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t length, unsigned flags)
{
    const ssize_t moved = syscall(SYS_splice, from, from_offset, to, to_offset, length, flags);

    spliced_octets += moved > 0 ? (uint64_t)moved : 0;
    return moved;
}

struct bench {
    struct relay_counters counters;
    struct relay_host host;
    struct settings_share *share;
    struct limiter *limiter;
    int entrance, backend; /* listeners: of the relay, of the server behind it */
    struct address server;
    int client_fd, server_fd;
};

static struct bench *bench;

static int listen_local(struct address *address)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof name;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    assert_int_not_equal(fd, -1);
    assert_int_not_equal(bind(fd, (struct sockaddr *)&name, sizeof name), -1);
    assert_int_not_equal(listen(fd, 64), -1);
    assert_int_not_equal(getsockname(fd, (struct sockaddr *)&name, &length), -1);
    assert_true(address_from_sockaddr(address, (struct sockaddr *)&name));
    return fd;
}

static void turn(int milliseconds)
{
    struct epoll_event events[16];
    const int count = epoll_wait(bench->host.epoll_fd, events, 16, milliseconds);

    if (count > 0)
        relay_host_dispatch(&bench->host, events, (size_t)count);
    relay_host_run_again(&bench->host);
    relay_host_run_timers(&bench->host, clock_monotonic_us());
    relay_host_run_woken(&bench->host, clock_monotonic_us());
    relay_host_free_dead(&bench->host);
}

static void turns(unsigned count)
{
    while (count-- > 0)
        turn(2);
}

static int dial_entrance(struct address *address)
{
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    struct address entrance;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_not_equal(getsockname(bench->entrance, (struct sockaddr *)&name, &length), -1);
    assert_true(address_from_sockaddr(&entrance, (struct sockaddr *)&name));
    length = address_to_sockaddr(&entrance, &name);
    assert_int_not_equal(connect(fd, (struct sockaddr *)&name, length), -1);
    length = sizeof name;
    assert_int_not_equal(getsockname(fd, (struct sockaddr *)&name, &length), -1);
    assert_true(address_from_sockaddr(address, (struct sockaddr *)&name));
    return fd;
}

/* A client comes in; what the relay does with it is up to its settings. */
static int come_in(void)
{
    struct address client;
    const int fd = dial_entrance(&client);
    const int accepted = accept4(bench->entrance, NULL, NULL, SOCK_NONBLOCK);

    assert_int_not_equal(accepted, -1);
    relay_accept(&bench->host, bench->share, accepted, &client, &bench->server, clock_monotonic_us());
    return fd;
}

static int server_accepts(void)
{
    for (unsigned tries = 0; tries < 200; tries++) {
        const int fd = accept4(bench->backend, NULL, NULL, 0);

        if (fd != -1)
            return fd;
        turn(1);
    }
    fail_msg("the server was not called");
    return -1;
}

static void open_session(void)
{
    bench->client_fd = come_in();
    bench->server_fd = server_accepts();
    turns(3);
}

static void reset_socket(int fd)
{
    const struct linger linger = {.l_onoff = 1, .l_linger = 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd);
}

static ssize_t read_now(int fd, void *octets, size_t length)
{
    for (unsigned tries = 0; tries < 300; tries++) {
        const ssize_t got = recv(fd, octets, length, MSG_DONTWAIT);

        if (got != -1 || errno != EAGAIN)
            return got;
        turn(1);
    }
    errno = EAGAIN;
    return -1;
}

static size_t verdict_count(void)
{
    size_t count = 0;

    for (size_t index = 0; index < record_count; index++)
        count += records[index].kind == RECORD_VERDICT ? 1 : 0;
    return count;
}

static void assert_all_ended(size_t verdicts)
{
    for (unsigned tries = 0; tries < 2000 && bench->host.relay_count > 0; tries++)
        turn(2);
    assert_int_equal(bench->host.relay_count, 0);
    assert_null(bench->host.first);
    assert_int_equal(atomic_load(&bench->counters.sessions), 0);
    assert_int_equal(atomic_load(&bench->counters.finished), verdicts);
    assert_int_equal(verdict_count(), verdicts);
    assert_int_equal(bench->host.wheel.timer_count, 0);
    if (bench->limiter != NULL) {
        struct limiter_stats stats;

        limiter_stats(bench->limiter, &stats);
        assert_int_equal(stats.total, 0);
    }
}

static int set_up(void **state)
{
    static const uint8_t seed[16] = {3};
    struct address entrance;
    struct settings_error error;
    struct settings *settings = settings_load(NULL, &error);

    (void)state;
    record_count = 0;
    bench = calloc(1, sizeof *bench);
    if (bench == NULL || settings == NULL || !relay_host_init(&bench->host, clock_monotonic_us()))
        return -1;
    bench->share = settings_share_create(settings);
    bench->limiter = limiter_create(64, seed);
    bench->host.caller.limiter = bench->limiter;
    bench->host.counters = &bench->counters;
    bench->entrance = listen_local(&entrance);
    bench->backend = listen_local(&bench->server);
    bench->client_fd = bench->server_fd = -1;
    return leg_options_inherit(bench->entrance, false) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    relay_host_stop(&bench->host, clock_monotonic_us());
    relay_host_clear(&bench->host);
    settings_share_release(bench->share);
    limiter_destroy(bench->limiter);
    close(bench->entrance);
    if (bench->backend != -1)
        close(bench->backend);
    if (bench->client_fd != -1)
        close(bench->client_fd);
    if (bench->server_fd != -1)
        close(bench->server_fd);
    free(bench);
    return 0;
}

static struct settings_proxy *proxy_settings(void)
{
    return &bench->share->settings->proxy;
}

/* ---- the claims ---- */

static void an_idle_session_fits_in_a_kilobyte(void **state)
{
    void *probe = malloc(sizeof(struct relay));

    (void)state;
    assert_non_null(probe);
    print_message("relay %zu octets, session %zu of them; %zu of the heap\n", sizeof(struct relay),
                  sizeof(struct session), malloc_usable_size(probe) + sizeof(size_t));
    assert_in_range(malloc_usable_size(probe) + sizeof(size_t), 1, 1024);
    free(probe);
}

static void options_are_inherited(void **state)
{
    struct address client;
    struct linger linger;
    socklen_t length = sizeof linger;
    const int fd = dial_entrance(&client);
    const int accepted = accept4(bench->entrance, NULL, NULL, SOCK_NONBLOCK);
    int on = 0;

    (void)state;
    assert_int_not_equal(getsockopt(accepted, SOL_SOCKET, SO_LINGER, &linger, &length), -1);
    assert_int_equal(linger.l_onoff, 1);
    assert_int_equal(linger.l_linger, 0);
    length = sizeof on;
    assert_int_not_equal(getsockopt(accepted, IPPROTO_IP, IP_RECVERR, &on, &length), -1);
    assert_int_equal(on, 1);
    close(accepted);
    close(fd);
}

static void octets_and_ends_pass(void **state)
{
    char octets[100];

    (void)state;
    open_session();
    assert_int_equal(write(bench->server_fd, "220 x\r\n", 7), 7);
    assert_int_equal(read_now(bench->client_fd, octets, sizeof octets), 7);
    assert_int_equal(write(bench->client_fd, "QUIT\r\n", 6), 6);
    assert_int_equal(read_now(bench->server_fd, octets, sizeof octets), 6);
    shutdown(bench->client_fd, SHUT_WR);
    assert_int_equal(read_now(bench->server_fd, octets, sizeof octets), 0);
    assert_int_equal(verdict_count(), 0); /* half closed only */
    assert_int_equal(write(bench->server_fd, "221 x\r\n", 7), 7);
    shutdown(bench->server_fd, SHUT_WR);
    assert_int_equal(read_now(bench->client_fd, octets, sizeof octets), 7);
    assert_int_equal(read_now(bench->client_fd, octets, sizeof octets), 0);
    assert_all_ended(1);
    assert_int_equal(records[0].octets_client, 6);
    assert_int_equal(records[0].octets_server, 14);
    assert_int_equal(records[0].verdict.fault, FAULT_NONE);
}

/* One turn moves at most its share, and what is left is not forgotten although the edge was spent. */
static void a_turn_is_bounded(void **state)
{
    static uint8_t block[400000];
    const size_t share = 4096 * RELAY_READS_PER_TURN;
    struct epoll_event events[4];
    size_t total = 0;
    int count;

    (void)state;
    proxy_settings()->buffer_octets = 4096;
    open_session();
    assert_int_equal(send(bench->client_fd, block, 150000, 0), 150000);
    count = epoll_wait(bench->host.epoll_fd, events, 4, 1000);
    assert_int_equal(count, 1);
    relay_host_dispatch(&bench->host, events, 1);
    assert_non_null(bench->host.again);
    usleep(2000);
    for (ssize_t got; (got = recv(bench->server_fd, block, sizeof block, MSG_DONTWAIT)) > 0;)
        total += (size_t)got;
    assert_in_range(total, 1, share);
    while (total < 150000) {
        const ssize_t got = read_now(bench->server_fd, block, sizeof block);

        assert_true(got > 0);
        total += (size_t)got;
    }
    assert_int_equal(total, 150000);
    assert_null(bench->host.again);
    assert_true(bench->host.first->again_us >= 2000); /* its octets stood here while we did something else */
    assert_int_equal(bench->host.first->again_since_us, 0);
}

static void a_stuck_reader_stops_the_other(void **state)
{
    static uint8_t block[65536];
    size_t sent = 0, total = 0;
    unsigned quiet = 0;

    (void)state;
    open_session();
    while (quiet < 50) {
        const ssize_t done = send(bench->client_fd, block, sizeof block, MSG_DONTWAIT);

        quiet = done > 0 ? 0 : quiet + 1;
        sent += done > 0 ? (size_t)done : 0;
        turn(1);
    }
    assert_true(bench->host.first->legs[0].paused);
    assert_in_range(pending_length(bench->host.first->legs[1].pending), 1, proxy_settings()->buffer_octets);
    assert_null(bench->host.again);                         /* it waits, it does not ask again and again */
    assert_int_equal(bench->host.first->again_since_us, 0); /* and not for us */
    shutdown(bench->client_fd, SHUT_WR);
    for (;;) {
        const ssize_t got = read_now(bench->server_fd, block, sizeof block);

        assert_true(got >= 0);
        if (got == 0)
            break;
        total += (size_t)got;
    }
    assert_int_equal(total, sent);
    assert_false(bench->host.first->legs[0].paused);
    reset_socket(bench->server_fd);
    bench->server_fd = -1;
    assert_all_ended(1);
    assert_int_equal(records[0].octets_client, sent);
}

/* A body whose end is nowhere but at its end, though its lines begin with dots. */
#define BODY_OCTETS 3000000u

static uint8_t body[BODY_OCTETS], received[BODY_OCTETS + 100];

static void make_body(void)
{
    for (size_t index = 0; index < BODY_OCTETS; index++) {
        const size_t column = index % 79;

        body[index] = column < 2     ? '.'
                      : column == 77 ? '\r'
                      : column == 78 ? '\n'
                                     : (uint8_t)(' ' + index % 89);
    }
    memcpy(body + BODY_OCTETS - 5, "\r\n.\r\n", 5);
}

static void server_says(const char *text)
{
    char heard[200];

    assert_int_equal(write(bench->server_fd, text, strlen(text)), strlen(text));
    assert_int_equal(read_now(bench->client_fd, heard, sizeof heard), strlen(text));
}

static void client_says(const char *text)
{
    char heard[200];

    assert_int_equal(write(bench->client_fd, text, strlen(text)), strlen(text));
    assert_int_equal(read_now(bench->server_fd, heard, sizeof heard), strlen(text));
}

static void begin_mail(const char *last_command)
{
    make_body();
    open_session();
    server_says("220 mx ESMTP\r\n");
    client_says("EHLO c\r\n");
    server_says("250-mx\r\n250 CHUNKING\r\n");
    client_says("MAIL FROM:<a@c>\r\n");
    server_says("250 ok\r\n");
    client_says("RCPT TO:<b@mx>\r\n");
    server_says("250 ok\r\n");
    spliced_octets = 0;
    client_says(last_command);
}

/* The server reads only every `pace`-th turn. */
static void pass_body(unsigned pace)
{
    size_t sent = 0, got = 0;

    for (unsigned round = 0; got < BODY_OCTETS; round++) {
        if (sent < BODY_OCTETS) {
            const ssize_t done = send(bench->client_fd, body + sent, BODY_OCTETS - sent, MSG_DONTWAIT);

            sent += done > 0 ? (size_t)done : 0;
        }
        turn(sent < BODY_OCTETS ? 0 : 1);
        if (round % pace == 0) {
            const ssize_t done = recv(bench->server_fd, received + got, sizeof received - got, MSG_DONTWAIT);

            assert_true(done > 0 || (done == -1 && errno == EAGAIN));
            got += done > 0 ? (size_t)done : 0;
        }
        assert_in_range(pending_length(bench->host.first->legs[1].pending), 0,
                        proxy_settings()->buffer_octets);
        assert_true(round < 1000000);
    }
    assert_int_equal(got, BODY_OCTETS);
    assert_memory_equal(received, body, BODY_OCTETS);
}

static void end_mail(void)
{
    server_says("250 ok\r\n");
    client_says("QUIT\r\n");
    server_says("221 bye\r\n");
    close(bench->server_fd);
    close(bench->client_fd);
    bench->client_fd = bench->server_fd = -1;
}

static void assert_clean_mail(const struct record *record)
{
    assert_int_equal(record->verdict.fault, FAULT_NONE);
    assert_int_equal(record->mails_ok, 1);
    assert_int_equal(record->verdict.notes & NOTE_RESYNCED, 0);
    assert_true(record->octets_client > BODY_OCTETS);
}

static void a_body_moves_inside_the_kernel(void **state)
{
    static const unsigned paces[] = {1, 40};

    (void)state;
    for (unsigned index = 0; index < 2; index++) {
        begin_mail("DATA\r\n");
        server_says("354 go\r\n");
        pass_body(paces[index]);
        assert_int_equal(bench->host.first->session.dialogue.phase, PHASE_END_OF_DATA);
        assert_int_equal(bench->host.first->session.dialogue.body_octets, BODY_OCTETS);
        assert_in_range(spliced_octets, BODY_OCTETS / 2, 2 * BODY_OCTETS); /* once in, once out */
        end_mail();
        assert_all_ended(index + 1);
        assert_clean_mail(&records[index]);
    }
}

static void a_chunk_moves_inside_the_kernel(void **state)
{
    (void)state;
    begin_mail("BDAT 3000000 LAST\r\n");
    pass_body(1);
    assert_int_equal(bench->host.first->session.dialogue.phase, PHASE_END_OF_DATA);
    assert_int_equal(bench->host.first->session.dialogue.owed_by, SIDE_SERVER);
    assert_in_range(spliced_octets, BODY_OCTETS / 2, 2 * BODY_OCTETS);
    end_mail();
    assert_all_ended(1);
    assert_clean_mail(&records[0]);
}

static void every_octet_is_read_when_told_so(void **state)
{
    (void)state;
    proxy_settings()->splice = false;
    begin_mail("DATA\r\n");
    server_says("354 go\r\n");
    pass_body(1);
    assert_int_equal(spliced_octets, 0);
    end_mail();
    assert_all_ended(1);
    assert_clean_mail(&records[0]);
}

static void a_server_that_goes_in_mid_body(void **state)
{
    char octets[100];
    size_t sent = 0;

    (void)state;
    begin_mail("DATA\r\n");
    server_says("354 go\r\n");
    for (unsigned quiet = 0; quiet < 20;) {
        const ssize_t done = send(bench->client_fd, body + sent, 200000, MSG_DONTWAIT);

        quiet = done > 0 ? 0 : quiet + 1;
        sent += done > 0 ? (size_t)done : 0;
        if (sent > BODY_OCTETS - 200000)
            break;
        turn(1);
    }
    assert_true(spliced_octets > 0);
    reset_socket(bench->server_fd);
    bench->server_fd = -1;
    assert_int_equal(read_now(bench->client_fd, octets, sizeof octets), -1);
    assert_int_equal(errno, ECONNRESET);
    assert_all_ended(1);
    assert_int_equal(records[0].verdict.cause, CAUSE_ABORTED);
    /* The pipe is empty again: the next body is its own. */
    begin_mail("DATA\r\n");
    server_says("354 go\r\n");
    pass_body(1);
    end_mail();
    assert_all_ended(2);
}

static void resets_pass(void **state)
{
    char octets[100];

    (void)state;
    open_session();
    reset_socket(bench->client_fd);
    assert_int_equal(read_now(bench->server_fd, octets, sizeof octets), -1);
    assert_int_equal(errno, ECONNRESET);
    close(bench->server_fd);
    assert_all_ended(1);
    open_session();
    assert_int_equal(write(bench->server_fd, "421 x\r\n", 7), 7);
    reset_socket(bench->server_fd);
    assert_int_equal(read_now(bench->client_fd, octets, sizeof octets),
                     7); /* what was said before is heard */
    assert_int_equal(read_now(bench->client_fd, octets, sizeof octets), -1);
    assert_int_equal(errno, ECONNRESET);
    bench->server_fd = -1;
    assert_all_ended(2);
}

static void a_reset_behind_a_fin(void **state)
{
    char octets[10];

    (void)state;
    open_session();
    shutdown(bench->client_fd, SHUT_WR);
    assert_int_equal(read_now(bench->server_fd, octets, sizeof octets), 0);
    reset_socket(bench->client_fd);
    bench->client_fd = -1;
    assert_all_ended(1);
    assert_int_equal(send(bench->server_fd, "x", 1, MSG_NOSIGNAL),
                     -1); /* it was reset, although it had seen a FIN */
    assert_int_equal(errno, EPIPE);
}

/* The urgent octet, apart from the stream. */
static int read_urgent(int fd)
{
    char octet;

    for (unsigned tries = 0; tries < 2000; tries++) {
        if (recv(fd, &octet, 1, MSG_OOB) == 1)
            return octet;
        turn(1);
    }
    return -1;
}

/* Sends all, while the other side makes room; how much that read. */
static size_t send_draining(const char *octets, size_t length, int flags)
{
    char block[65536];
    size_t got = 0;

    for (unsigned tries = 0; length > 0 && tries < 2000; tries++) {
        const ssize_t sent = send(bench->client_fd, octets, length, flags | MSG_DONTWAIT);
        const ssize_t now = recv(bench->server_fd, block, sizeof block, MSG_DONTWAIT);

        octets += sent > 0 ? sent : 0;
        length -= sent > 0 ? (size_t)sent : 0;
        got += now > 0 ? (size_t)now : 0;
        turn(1);
    }
    assert_int_equal(length, 0);
    return got;
}

/* An octet that one side marked as urgent is neither lost nor made an ordinary one, and stays at its place. */
static void urgent_stays_urgent(void **state)
{
    const int inline_on = 1;
    char octets[20], block[65536];
    size_t sent = 0, got = 0;
    ssize_t now;

    (void)state;
    open_session();
    for (unsigned way = 0; way < 2; way++) {
        const int from = way == 0 ? bench->client_fd : bench->server_fd;
        const int to = way == 0 ? bench->server_fd : bench->client_fd;

        assert_int_equal(write(from, "before", 6), 6);
        assert_int_equal(send(from, "!", 1, MSG_OOB), 1);
        assert_int_equal(write(from, "behind", 6), 6);
        assert_int_equal(read_now(to, octets, sizeof octets), 6);
        assert_memory_equal(octets, "before", 6);
        assert_int_equal(read_urgent(to), '!');
        assert_int_equal(read_now(to, octets, sizeof octets), 6);
        assert_memory_equal(octets, "behind", 6);
    }
    /* Once more while the other side does not read: it waits here, and reading stops in front of it. */
    memset(block, 'x', sizeof block);
    assert_int_equal(setsockopt(bench->server_fd, SOL_SOCKET, SO_OOBINLINE, &inline_on, sizeof inline_on), 0);
    for (unsigned idle = 0; idle < 20;) {
        now = send(bench->client_fd, block, sizeof block, MSG_DONTWAIT);
        sent += now > 0 ? (size_t)now : 0;
        idle = now > 0 ? 0 : idle + 1;
        turn(1);
    }
    got += send_draining("!", 1, MSG_OOB);
    got += send_draining("behind", 6, 0);
    while (got < sent) {
        now = read_now(bench->server_fd, block, sizeof block);
        assert_true(now > 0);
        got += (size_t)now;
    }
    assert_int_equal(got, sent);
    for (unsigned tries = 0; sockatmark(bench->server_fd) != 1 && tries < 2000; tries++)
        turn(1);
    assert_int_equal(sockatmark(bench->server_fd), 1);
    assert_int_equal(read_now(bench->server_fd, octets, 1), 1);
    assert_int_equal(octets[0], '!');
    assert_int_equal(read_now(bench->server_fd, octets, sizeof octets), 6);
    assert_memory_equal(octets, "behind", 6);
}

/* Nothing can be urgent for a server that is not there yet: the octet waits in the client's socket, without spinning, and
 * goes with the client when that resets. */
static void urgent_before_the_server_is_there(void **state)
{
    struct sockaddr_storage name;
    struct address full;
    socklen_t length;
    int fillers[3];
    const int listener = listen_local(&full);

    (void)state;
    assert_int_equal(listen(listener, 0), 0);
    length = address_to_sockaddr(&full, &name);
    for (size_t index = 0; index < 3; index++) {
        fillers[index] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(fillers[index], (struct sockaddr *)&name, length);
    }
    bench->server = full;
    bench->client_fd = come_in();
    assert_int_equal(send(bench->client_fd, "!", 1, MSG_OOB), 1);
    turns(5);
    assert_int_equal(bench->host.first->state, RELAY_CONNECTING);
    assert_null(bench->host.again);
    reset_socket(bench->client_fd);
    bench->client_fd = -1;
    assert_all_ended(1);
    for (size_t index = 0; index < 3; index++)
        close(fillers[index]);
    close(listener);
}

/* The server accepted, spoke, closed and reset before we looked: it was there, and what it said is heard. */
static void reset_behind_a_fin_before_we_looked(void **state)
{
    char octets[20];
    int server;

    (void)state;
    bench->client_fd = come_in();
    assert_int_equal(poll(&(struct pollfd){.fd = bench->backend, .events = POLLIN}, 1, 1000), 1);
    server = accept4(bench->backend, NULL, NULL, 0);
    assert_int_not_equal(server, -1);
    assert_int_equal(write(server, "421 x\r\n", 7), 7);
    assert_int_equal(shutdown(server, SHUT_WR), 0);
    reset_socket(server);
    assert_int_equal(read_now(bench->client_fd, octets, sizeof octets), 7);
    assert_memory_equal(octets, "421 x\r\n", 7);
    assert_int_equal(read_now(bench->client_fd, octets, sizeof octets), 0); /* the FIN comes first here too */
    assert_all_ended(1);
    assert_int_equal(send(bench->client_fd, "x", 1, MSG_NOSIGNAL), -1);
    assert_int_equal(errno, EPIPE);
    assert_int_equal(atomic_load(&bench->counters.connect_failed), 0);
}

/* Nobody said anything for an hour: a half-closed session lives on as it would without us, and is asked for life. */
static void a_quiet_half_closed_session_lives(void **state)
{
    char octets[20];

    (void)state;
    open_session();
    assert_int_equal(shutdown(bench->client_fd, SHUT_WR), 0);
    assert_int_equal(read_now(bench->server_fd, octets, sizeof octets), 0);
    for (uint64_t hour = 1; hour < 4; hour++) {
        for (unsigned tick = 0; tick < 3; tick++)
            relay_host_run_timers(&bench->host, clock_monotonic_us() + hour * (RELAY_QUIET_US + SECOND_US));
        relay_host_free_dead(&bench->host);
    }
    assert_int_equal(bench->host.relay_count, 1);
    assert_int_equal(bench->host.first->legs[0].keepalive, LEG_KEEPALIVE_RESTING);
    assert_int_equal(bench->host.first->legs[1].keepalive, LEG_KEEPALIVE_RESTING);
    assert_int_equal(write(bench->server_fd, "late\r\n", 6), 6);
    assert_int_equal(read_now(bench->client_fd, octets, sizeof octets), 6);
}

/* The client has left, the server acknowledges and is silent: the verdict is said, and the connection lives on. */
static void a_server_that_was_left_says_nothing(void **state)
{
    char octets[20];
    const uint64_t begun_us = clock_monotonic_us();

    (void)state;
    open_session();
    assert_int_equal(write(bench->server_fd, "220 x\r\n", 7), 7);
    assert_int_equal(read_now(bench->client_fd, octets, sizeof octets), 7);
    assert_int_equal(write(bench->client_fd, "EHLO x\r\n", 8), 8);
    assert_int_equal(read_now(bench->server_fd, octets, sizeof octets), 8);
    assert_int_equal(shutdown(bench->client_fd, SHUT_WR), 0);
    assert_int_equal(read_now(bench->server_fd, octets, sizeof octets), 0);
    for (uint64_t second = 1; second < 110; second++)
        relay_host_run_timers(&bench->host, begun_us + second * SECOND_US);
    assert_int_equal(verdict_count(), 0);
    for (uint64_t second = 110; second < 200; second++)
        relay_host_run_timers(&bench->host, begun_us + second * SECOND_US);
    assert_int_equal(verdict_count(), 1);
    assert_int_equal(records[0].verdict.ended_by, ENDED_BY_CLIENT);
    assert_int_equal(bench->host.relay_count, 1);
    assert_int_equal(write(bench->server_fd, "late\r\n", 6), 6);
    assert_int_equal(read_now(bench->client_fd, octets, sizeof octets), 6);
}

static void a_closed_port_is_a_reset(void **state)
{
    char octets[10];

    (void)state;
    close(bench->backend);
    bench->backend = -1;
    bench->client_fd = come_in();
    assert_int_equal(read_now(bench->client_fd, octets, sizeof octets), -1);
    assert_int_equal(errno, ECONNRESET);
    assert_all_ended(1);
    assert_int_equal(records[0].verdict.cause, CAUSE_PORT_CLOSED);
    assert_int_equal(atomic_load(&bench->counters.connect_failed), 1);
}

static void over_a_limit(void **state)
{
    struct policy_limits *limits = &bench->share->settings->policy.limits;
    char octets[500];
    ssize_t got;
    int refused;

    (void)state;
    limits->per_source_count = 1;
    limits->per_source_action = POLICY_ENFORCE;
    open_session();
    refused = come_in();
    got = read_now(refused, octets, sizeof octets);
    assert_in_range(got, 5, sizeof octets);
    assert_memory_equal(octets, "421 4.7.0 ", 10);
    assert_memory_equal(octets + got - 2, "\r\n", 2);
    assert_int_equal(read_now(refused, octets, sizeof octets), 0);
    close(refused);
    turns(5);
    assert_int_equal(verdict_count(), 1);
    assert_int_equal(record_count, 2); /* and a refusal line */
    assert_int_equal(records[0].kind, RECORD_REFUSAL);
    assert_int_equal(records[1].verdict.cause, CAUSE_WITNESS_LIMIT);
    close(bench->server_fd);
    close(bench->client_fd);
    bench->client_fd = bench->server_fd = -1;
    assert_all_ended(2);
}

static void held_until_there_is_a_place(void **state)
{
    struct policy_limits *limits = &bench->share->settings->policy.limits;
    char octets[100];
    int held, gone, second;

    (void)state;
    limits->per_source_count = 1;
    limits->per_source_action = POLICY_ENFORCE;
    limits->over_limit = POLICY_HOLD;
    limits->hold_longest_us = 60 * SECOND_US;
    open_session();
    gone = come_in();
    held = come_in();
    assert_int_equal(write(held, "EHLO x\r\n", 8), 8);
    turns(10);
    assert_int_equal(bench->host.relay_count, 3);
    assert_int_equal(accept4(bench->backend, NULL, NULL, SOCK_NONBLOCK), -1);
    close(gone); /* leaves the queue */
    turns(10);
    assert_int_equal(bench->host.relay_count, 2);
    close(bench->server_fd);
    second = server_accepts();
    assert_int_equal(read_now(second, octets, sizeof octets), 8);
    close(second);
    close(held);
    close(bench->client_fd);
    bench->client_fd = bench->server_fd = -1;
    assert_all_ended(3);
}

static void turned_away(void **state)
{
    struct address client;
    char octets[10];

    (void)state;
    bench->client_fd = dial_entrance(&client);
    relay_turn_away(&bench->host, bench->share, accept4(bench->entrance, NULL, NULL, SOCK_NONBLOCK), &client,
                    &bench->server, clock_monotonic_us());
    assert_int_equal(read_now(bench->client_fd, octets, sizeof octets), -1);
    assert_int_equal(errno, ECONNRESET);
    assert_all_ended(1);
    assert_int_equal(records[0].verdict.fault, FAULT_WITNESS);
}

/* A probe belongs to one silence: when the side has spoken, its answer says nothing of the silence after that. */
static void a_probe_ends_with_its_silence(void **state)
{
    const struct leg *leg;
    char octets[10];

    (void)state;
    proxy_settings()->probe_after_us = 20000;
    open_session();
    leg = &bench->host.first->legs[1];
    for (unsigned tries = 0; tries < 200 && leg->keepalive != LEG_KEEPALIVE_PROBING; tries++)
        turn(1);
    assert_int_equal(leg->keepalive, LEG_KEEPALIVE_PROBING); /* the greeting is late */
    assert_int_equal(bench->host.first->session.legs[1].probe, PROBE_SENT);
    assert_int_equal(write(bench->server_fd, "220 x\r\n", 7), 7);
    assert_int_equal(read_now(bench->client_fd, octets, sizeof octets), 7);
    for (unsigned tries = 0; tries < 1000 && leg->keepalive == LEG_KEEPALIVE_PROBING; tries++)
        turn(1);
    assert_int_equal(leg->keepalive, LEG_KEEPALIVE_NEVER);
    assert_int_equal(bench->host.first->session.legs[1].probe, PROBE_NONE);
}

static void stopping_ends_all(void **state)
{
    char octets[10];

    (void)state;
    open_session();
    relay_host_stop(&bench->host, clock_monotonic_us());
    assert_int_equal(read_now(bench->client_fd, octets, sizeof octets), -1);
    assert_int_equal(errno, ECONNRESET);
    assert_int_equal(read_now(bench->server_fd, octets, sizeof octets), -1);
    assert_all_ended(1);
    assert_true((records[0].verdict.notes & NOTE_DRAINED) != 0);
}

int main(void)
{
#define CASE(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(an_idle_session_fits_in_a_kilobyte),
        CASE(options_are_inherited),
        CASE(octets_and_ends_pass),
        CASE(a_turn_is_bounded),
        CASE(a_stuck_reader_stops_the_other),
        CASE(a_body_moves_inside_the_kernel),
        CASE(a_chunk_moves_inside_the_kernel),
        CASE(every_octet_is_read_when_told_so),
        CASE(a_server_that_goes_in_mid_body),
        CASE(resets_pass),
        CASE(a_reset_behind_a_fin),
        CASE(urgent_stays_urgent),
        CASE(urgent_before_the_server_is_there),
        CASE(reset_behind_a_fin_before_we_looked),
        CASE(a_quiet_half_closed_session_lives),
        CASE(a_server_that_was_left_says_nothing),
        CASE(a_closed_port_is_a_reset),
        CASE(over_a_limit),
        CASE(held_until_there_is_a_place),
        CASE(turned_away),
        CASE(a_probe_ends_with_its_silence),
        CASE(stopping_ends_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
