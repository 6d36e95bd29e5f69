"""Who used the processors, and how much memory a process holds; read from /proc."""

import os

TICKS = os.sysconf("SC_CLK_TCK")
CPU_COUNT = os.cpu_count() or 1
KERNEL_THREADS = ("ksoftirqd", "kworker", "rcu_", "migration", "kcompactd")


def _read(path):
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""


def _threads(pid):
    try:
        return os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return []


def tree(*pids):
    """These processes and all below them."""
    found = []
    waiting = [str(pid) for pid in pids]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for thread in _threads(pid):
            waiting += _read(f"/proc/{pid}/task/{thread}/children").split()
    return found


def _stat(pid):
    name, _, rest = _read(f"/proc/{pid}/stat").partition("(")[2].rpartition(")")
    return name, rest.split()


def cpu_seconds(pids):
    """User and system time of whole processes."""
    ticks = 0
    for pid in pids:
        _, fields = _stat(pid)
        if fields:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def foreign_seconds():
    """Time of everything that is not ours; of the dead, what their parents waited for."""
    ours = set(tree(os.getpid()))
    ticks = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        name, fields = _stat(pid)
        if fields and pid not in ours and not name.startswith(KERNEL_THREADS):
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS


def busy_seconds():
    """Time the whole machine was not idle: user, nice, system, interrupts, soft interrupts."""
    fields = _read("/proc/stat").split("\n", 1)[0].split()
    return sum(int(fields[column]) for column in (1, 2, 3, 6, 7)) / TICKS


def resident_kb(pids):
    total = 0
    for pid in pids:
        for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith("Rss:"):
                total += int(line.split()[1])
    return total


def pin(pids, processors):
    """All threads of these processes run on these processors only."""
    for pid in pids:
        for thread in _threads(pid):
            try:
                os.sched_setaffinity(int(thread), processors)
            except ProcessLookupError:
                continue
