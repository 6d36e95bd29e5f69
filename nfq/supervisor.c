#include "nfq/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/notify.h"
#include "daemon/signals.h"

#define SIGN_READY  'r'
#define SIGN_ALIVE  'a'
#define EXIT_BROKEN 1

struct supervisor {
    const struct supervisor_options *options;
    int signal_fd;
    int link_fd; /* -1 = no child */
    pid_t child;
    uint32_t generation;
    bool ready;    /* this child has been */
    bool stopping; /* somebody asked for it */
    bool killed;   /* by us */
    uint64_t started_us, sign_us;
    uint64_t delay_us;
    uint64_t watch_interval_us, watch_due_us;
    char last_end[96];
};

/* ---- the child's end ---- */

static void tell(const struct supervised *supervised, char sign)
{
    (void)!write(supervised->link_fd, &sign, 1); /* a full pipe holds signs enough */
}

void supervised_ready(const struct supervised *supervised)
{
    tell(supervised, SIGN_READY);
}

void supervised_alive(const struct supervised *supervised)
{
    tell(supervised, SIGN_ALIVE);
}

bool supervised_follow_parent(const struct supervised *supervised)
{
    struct pollfd link = {.fd = supervised->link_fd};

    /* A change of identity clears it (prctl(2)), so it comes after that. */
    if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) == -1)
        return false;
    return poll(&link, 1, 0) == 0; /* POLLERR: nobody reads any more */
}

/* ---- the parent ---- */

static int start_child(struct supervisor *supervisor)
{
    int link[2];
    pid_t child;

    if (pipe2(link, O_CLOEXEC | O_NONBLOCK) == -1)
        return errno;
    child = fork();
    if (child == -1) {
        int failed = errno;

        close(link[0]);
        close(link[1]);
        return failed;
    }
    supervisor->generation++;
    if (child == 0) {
        struct supervised supervised = {.link_fd = link[1],
                                        .last_end = supervisor->generation > 1 ? supervisor->last_end : NULL,
                                        .generation = supervisor->generation};
        int code;

        close(link[0]);
        close(supervisor->signal_fd);
        code = supervisor->options->run(supervisor->options->context, &supervised);
        fflush(NULL);
        _exit(code);
    }
    close(link[1]);
    supervisor->link_fd = link[0];
    supervisor->child = child;
    supervisor->ready = supervisor->killed = false;
    supervisor->started_us = supervisor->sign_us = clock_monotonic_us();
    return 0;
}

static void take_signs(struct supervisor *supervisor)
{
    char signs[64];
    ssize_t got = read(supervisor->link_fd, signs, sizeof signs);

    for (ssize_t i = 0; i < got; i++) {
        supervisor->sign_us = clock_monotonic_us();
        if (signs[i] == SIGN_READY) {
            supervisor->ready = true;
            notify_ready("running");
        }
    }
}

static void note_end(struct supervisor *supervisor, int status)
{
    if (supervisor->killed)
        snprintf(supervisor->last_end, sizeof supervisor->last_end,
                 "gave no sign of life for %llu ms and was killed",
                 (unsigned long long)(supervisor->options->watchdog_us / 1000));
    else if (WIFSIGNALED(status))
        snprintf(supervisor->last_end, sizeof supervisor->last_end, "was ended by signal %d",
                 WTERMSIG(status));
    else
        snprintf(supervisor->last_end, sizeof supervisor->last_end, "ended with exit code %d",
                 WEXITSTATUS(status));
}

/* The child is dead or dying: its end of the link is closed. Returns its status. */
static int collect_child(struct supervisor *supervisor)
{
    int status = 0;
    pid_t got;

    close(supervisor->link_fd);
    supervisor->link_fd = -1;
    do {
        got = waitpid(supervisor->child, &status, 0);
    } while (got == -1 && errno == EINTR);
    note_end(supervisor, status);
    if (clock_monotonic_us() - supervisor->started_us >= SUPERVISOR_QUICK_US)
        supervisor->delay_us = 0;
    return status;
}

static void pass_on(struct supervisor *supervisor, enum signals_event event)
{
    switch (event) {
    case SIGNALS_NONE:
        return;
    case SIGNALS_STOP:
    case SIGNALS_HAND_OVER:
        if (!supervisor->stopping)
            notify_stopping("stopping", 0);
        supervisor->stopping = true;
        break;
    case SIGNALS_RELOAD:
    case SIGNALS_REPORT:
        break;
    }
    if (supervisor->link_fd != -1)
        (void)kill(supervisor->child, event == SIGNALS_RELOAD   ? SIGHUP
                                      : event == SIGNALS_REPORT ? SIGUSR1
                                                                : SIGTERM);
}

static uint64_t patience_us(const struct supervisor *supervisor)
{
    return supervisor->ready ? supervisor->options->watchdog_us : SUPERVISOR_START_US;
}

static int wait_ms(const struct supervisor *supervisor, uint64_t until_us)
{
    uint64_t now_us = clock_monotonic_us();
    uint64_t due_us = until_us;

    if (supervisor->watch_interval_us != 0 && supervisor->watch_due_us < due_us)
        due_us = supervisor->watch_due_us;
    return due_us <= now_us ? 0 : (int)((due_us - now_us) / 1000 + 1);
}

/* Our own watchdog is the service manager's; it hears from us while we turn. */
static void watch(struct supervisor *supervisor)
{
    uint64_t now_us = clock_monotonic_us();

    if (supervisor->watch_interval_us != 0 && now_us >= supervisor->watch_due_us) {
        notify_watchdog();
        supervisor->watch_due_us = now_us + supervisor->watch_interval_us;
    }
}

/* Until the child's end; returns its status. */
static int attend_child(struct supervisor *supervisor)
{
    for (;;) {
        struct pollfd ready[2] = {{.fd = supervisor->link_fd, .events = POLLIN},
                                  {.fd = supervisor->signal_fd, .events = POLLIN}};

        (void)poll(ready, 2, wait_ms(supervisor, supervisor->sign_us + patience_us(supervisor)));
        if (ready[0].revents & POLLIN)
            take_signs(supervisor);
        else if (ready[0].revents & (POLLHUP | POLLERR))
            return collect_child(supervisor);
        pass_on(supervisor, signals_read(supervisor->signal_fd));
        watch(supervisor);
        if (clock_monotonic_us() - supervisor->sign_us >= patience_us(supervisor) && !supervisor->killed) {
            supervisor->killed = true;
            (void)kill(supervisor->child, SIGKILL);
            return collect_child(supervisor);
        }
    }
}

/* Before the next child: longer each time while they die young. */
static void pause_before_child(struct supervisor *supervisor)
{
    uint64_t until_us = clock_monotonic_us() + supervisor->delay_us;

    supervisor->delay_us = supervisor->delay_us == 0 ? SUPERVISOR_DELAY_US : supervisor->delay_us * 2;
    if (supervisor->delay_us > SUPERVISOR_DELAY_MOST_US)
        supervisor->delay_us = SUPERVISOR_DELAY_MOST_US;
    while (!supervisor->stopping && clock_monotonic_us() < until_us) {
        struct pollfd signals = {.fd = supervisor->signal_fd, .events = POLLIN};

        (void)poll(&signals, 1, wait_ms(supervisor, until_us));
        pass_on(supervisor, signals_read(supervisor->signal_fd));
        watch(supervisor);
    }
}

int supervisor_run(const struct supervisor_options *options)
{
    struct supervisor supervisor = {.options = options, .signal_fd = signals_open(), .link_fd = -1};
    int code = EXIT_BROKEN;
    bool ever_ready = false;

    if (supervisor.signal_fd == -1)
        return EXIT_BROKEN;
    supervisor.watch_interval_us = notify_watchdog_interval_us();
    for (;;) {
        if (start_child(&supervisor) == 0) {
            int status = attend_child(&supervisor);

            ever_ready = ever_ready || supervisor.ready;
            code = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_BROKEN;
        }
        if (supervisor.stopping || !ever_ready) /* what cannot start at all is not tried again */
            break;
        notify_status("starting again: mail passes unseen meanwhile");
        pause_before_child(&supervisor);
        if (supervisor.stopping)
            break;
    }
    close(supervisor.signal_fd);
    return code;
}
