#include "daemon/system_calls.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* By name, since not every architecture has every call. */
static const char *const allowed[] = {
    /* memory, threads, time */
    "brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "futex", "set_robust_list", "rseq", "exit",
    "exit_group", "sched_yield", "sched_getaffinity", "clock_gettime", "clock_getres", "clock_nanosleep",
    "nanosleep", "gettimeofday", "time", "getrandom", "restart_syscall", "membarrier",
    /* signals, and what we are */
    "rt_sigprocmask", "rt_sigaction", "rt_sigreturn", "sigreturn", "sigaltstack", "signalfd4", "kill",
    "tgkill", "getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid", "uname", "sysinfo",
    "getrlimit", "ugetrlimit", "prlimit64", "getrusage", "capget",
    /* waiting */
    "poll", "ppoll", "select", "pselect6", "_newselect", "epoll_create1", "epoll_ctl", "epoll_wait",
    "epoll_pwait", "epoll_pwait2", "eventfd2", "timerfd_create", "timerfd_settime", "timerfd_gettime",
    /* descriptors and files: the configuration, of which a reload makes a copy, the time zone, the JSON file, the pid file */
    "read", "readv", "pread64", "write", "writev", "pwrite64", "close", "close_range", "lseek", "_llseek",
    "fcntl", "fcntl64", "dup", "dup2", "dup3", "pipe2", "splice", "ioctl", "open", "openat", "access",
    "faccessat", "faccessat2", "stat", "stat64", "fstat", "fstat64", "lstat", "newfstatat", "fstatat64",
    "statx", "readlink", "readlinkat", "getcwd", "umask", "memfd_create", "ftruncate", "ftruncate64", "fsync",
    "flock", "unlink", "unlinkat",
    /* sockets; socket(2) itself is below */
    "bind", "listen", "accept", "accept4", "connect", "shutdown", "getsockname", "getpeername", "setsockopt",
    "getsockopt", "send", "sendto", "sendmsg", "sendmmsg", "recv", "recvfrom", "recvmsg", "recvmmsg",
    "socketcall"};

static const int domains[] = {AF_UNIX, AF_INET, AF_INET6, AF_PACKET, AF_NETLINK};

/* The name of a thread, and whose death ends us (nfq/supervisor.c). */
static const int process_controls[] = {PR_SET_NAME, PR_SET_PDEATHSIG};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int allow_by_first(scmp_filter_ctx filter, int call, const int *values, size_t count)
{
    int failed = 0;

    for (size_t i = 0; i < count && failed == 0; i++) {
        failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1,
                                  SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)values[i], 0));
    }
    return failed;
}

static int add_rules(scmp_filter_ctx filter)
{
    int failed = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);

    for (size_t i = 0; i < COUNT(allowed) && failed == 0; i++) {
        int call = seccomp_syscall_resolve_name(allowed[i]);

        if (call != __NR_SCMP_ERROR) {
            failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 0);
        }
    }
    /* Threads, but no processes. The flags of clone3 lie in memory, where no filter sees them: libc falls back on clone. */
    if (failed == 0) {
        failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                                  SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
    }
    if (failed == 0) {
        failed = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    }
    if (failed == 0) {
        failed = allow_by_first(filter, SCMP_SYS(socket), domains, COUNT(domains));
    }
    if (failed == 0) {
        failed = allow_by_first(filter, SCMP_SYS(prctl), process_controls, COUNT(process_controls));
    }
    return failed;
}

bool system_calls_restrict(struct settings_error *error)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int failed = filter == NULL ? -ENOMEM : add_rules(filter);

    if (failed == 0) {
        failed = seccomp_load(filter);
    }
    if (filter != NULL) {
        seccomp_release(filter);
    }
    if (failed != 0) {
        snprintf(error->text, sizeof(error->text),
                 "cannot restrict our system calls: %s; write system-call-filter = no in [process] on a "
                 "kernel without "
                 "seccomp",
                 strerror(-failed));
        return false;
    }
    return true;
}
