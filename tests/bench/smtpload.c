/* smtpload: main, and what source and sink share. */
#include "tests/bench/smtpload.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "usage: smtpload sink|mails|noop|idle -H ADDRESS -p PORT [OPTION]...\n"
    "  sink                answer every command and count nothing; the address is ignored\n"
    "  mails               send mails for -d seconds over -c connections, -l octets each; -1: one mail a "
    "session\n"
    "  noop                time NOOP round trips in one session for -d seconds\n"
    "  idle                open -c sessions and keep them until standard input ends\n";

struct mode {
    const char *name;
    int (*run)(const struct load_options *options);
};

static const struct mode modes[] = {
    {"sink", load_run_sink},
    {"mails", load_run_mails},
    {"noop", load_run_noop},
    {"idle", load_run_idle},
};

double load_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void load_fail(const char *what)
{
    fprintf(stderr, "smtpload: %s: %s\n", what, strerror(errno));
    exit(1);
}

void load_set_no_delay(int fd)
{
    int on = 1;

    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1) {
        load_fail("TCP_NODELAY");
    }
}

static int compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;

    return (a > b) - (a < b);
}

double load_percentile(double *values, size_t count, double part)
{
    if (count == 0) {
        return 0;
    }
    qsort(values, count, sizeof(*values), compare_doubles);
    return values[(size_t)((double)(count - 1) * part)];
}

static bool parse_address(struct load_options *options, const char *host, uint16_t port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        memcpy(&options->server, &v4, sizeof(v4));
        options->server_octets = sizeof(v4);
        return true;
    }
    if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
        memcpy(&options->server, &v6, sizeof(v6));
        options->server_octets = sizeof(v6);
        return true;
    }
    return false;
}

static void raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == -1) {
        load_fail("getrlimit");
    }
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) == -1) {
        load_fail("setrlimit");
    }
}

static int usage_fail(void)
{
    fputs(usage, stderr);
    return 2;
}

int main(int count, char **arguments)
{
    struct load_options options = {.seconds = 1, .connection_count = 1, .body_octets = 1000};
    const char *host = "::";
    uint16_t port = 25;
    int option;

    if (count < 2) {
        return usage_fail();
    }
    optind = 2;
    while ((option = getopt(count, arguments, "H:p:d:c:l:1")) != -1) {
        switch (option) {
        case 'H':
            host = optarg;
            break;
        case 'p':
            port = (uint16_t)strtoul(optarg, NULL, 10);
            break;
        case 'd':
            options.seconds = strtod(optarg, NULL);
            break;
        case 'c':
            options.connection_count = strtoul(optarg, NULL, 10);
            break;
        case 'l':
            options.body_octets = strtoul(optarg, NULL, 10);
            break;
        case '1':
            options.one_mail = true;
            break;
        default:
            return usage_fail();
        }
    }
    if (!parse_address(&options, host, port) || options.connection_count == 0) {
        return usage_fail();
    }
    signal(SIGPIPE, SIG_IGN);
    raise_descriptors();
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (strcmp(arguments[1], modes[i].name) == 0) {
            return modes[i].run(&options);
        }
    }
    return usage_fail();
}
