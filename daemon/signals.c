#include "daemon/signals.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void fill_set(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGUSR1);
    sigaddset(set, SIGUSR2);
}

void signals_block(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigset_t set;

    sigaction(SIGPIPE, &ignore, NULL);
    fill_set(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

int signals_open(void)
{
    sigset_t set;

    fill_set(&set);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

enum signals_event signals_read(int fd)
{
    struct signalfd_siginfo info;

    if (read(fd, &info, sizeof(info)) != (ssize_t)sizeof(info)) {
        return SIGNALS_NONE;
    }
    switch (info.ssi_signo) {
    case SIGTERM:
    case SIGINT:
        return SIGNALS_STOP;
    case SIGUSR2:
        return SIGNALS_HAND_OVER;
    case SIGHUP:
        return SIGNALS_RELOAD;
    case SIGUSR1:
        return SIGNALS_REPORT;
    }
    return SIGNALS_NONE;
}
