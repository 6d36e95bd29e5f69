#!/usr/bin/python3
"""run.py - how fast mail passes through smtpwitness, beside plain forwarding and other relays in the same run.

    tests/bench/run.py           everything, about ten minutes
    BENCH_QUICK=1 tests/bench/run.py   one short round: does every program pass mail without an error

Settings from the environment: BENCH_ROUNDS (5), BENCH_SECONDS (2), BENCH_IDLE (2000 sessions), BENCH_FOREIGN (0.10: a run
is dropped when other programs used more of the processors), BENCH_PROGRAMS and BENCH_TESTS (names, default all),
BENCH_RAW (a file that gets every run as a JSON line). Needs root. README.md tells how to read the table."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import accounting
import measures
import programs
import table
from router import SERVER, BenchError, Router

HERE = os.path.dirname(os.path.abspath(__file__))
PROJECT = os.path.dirname(os.path.dirname(HERE))
SMTPLOAD = os.environ.get("SMTPLOAD") or os.path.join(PROJECT, "build", "bench", "smtpload")
TOOLS = ("ip", "iptables", "ethtool", "ss", "sysctl")
PIN_TO = {0}


class Plan:
    """What the environment asks for."""

    def __init__(self):
        setting = os.environ.get
        self.quick = setting("BENCH_QUICK", "0") not in ("", "0")
        self.rounds = int(setting("BENCH_ROUNDS") or (1 if self.quick else 5))
        self.seconds = float(setting("BENCH_SECONDS") or (0.3 if self.quick else 2))
        self.idle = int(setting("BENCH_IDLE") or (200 if self.quick else 2000))
        self.foreign = float(setting("BENCH_FOREIGN") or (9 if self.quick else 0.10))
        self.big = ("-l", "500000") if self.quick else ()  # a slow machine passes no 10 MB in so short a time
        self.raw = setting("BENCH_RAW")
        wanted = (setting("BENCH_TESTS") or " ".join(test.name for test in measures.ALL)).split()
        unknown = set(wanted) - {test.name for test in measures.ALL}
        if unknown:
            raise BenchError(f"no such test: {' '.join(sorted(unknown))}")
        self.tests = [test for test in measures.ALL if test.name in wanted]


class Meter:
    """One router with one program on it."""

    def __init__(self, router, program, plan):
        self.router = router
        self.plan = plan
        self.sink = router.spawn("s", "sink.log", SMTPLOAD, "sink", "-p", "25")
        router.wait_for_port("s", 25, self.sink)
        self.processes = program.start(router)
        self.pids = accounting.tree(*[process.pid for process in self.processes])

    def load(self, *words):
        answer = self.router.inside("c", "timeout", "60", SMTPLOAD, words[0], "-H", SERVER, "-p", "25", *words[1:])
        return parse(answer)

    def run(self, test):
        """Measures one test; a dictionary of what came out."""
        if test.small_packets:
            self.router.small_packets()
        if test.name == "idle":
            return self.run_idle()
        if test.pinned:
            self.pin(PIN_TO)
        foreign, busy, cpu = accounting.foreign_seconds(), accounting.busy_seconds(), accounting.cpu_seconds(self.pids)
        started = time.monotonic()
        smaller = self.plan.big if test.cpu_unit == "GB" else ()
        answer = self.load(*test.command, *smaller, "-d", str(self.plan.seconds))
        wall = time.monotonic() - started
        cpu = accounting.cpu_seconds(self.pids) - cpu
        busy = accounting.busy_seconds() - busy
        foreign = max(0.0, accounting.foreign_seconds() - foreign)
        if test.pinned:
            self.pin(set(range(accounting.CPU_COUNT)))
        work = answer[test.work] if test.work else 0
        return {
            "rate": work / test.work_size / answer["seconds"] if work else answer.get("p50_us"),
            "cpu": cpu / (work / test.cpu_work_size) if work and self.pids else None,
            "cpu_all": max(0.0, busy - foreign) / (work / test.cpu_work_size) if work else None,
            "foreign": foreign / (wall * accounting.CPU_COUNT),
            "mails": answer["mails"],
            "errors": answer["errors"],
        }

    def run_idle(self):
        """Memory of the program's processes with many idle sessions, less what they had before."""
        before = accounting.resident_kb(self.pids)
        source = self.router.spawn("c", "idle.log", SMTPLOAD, "idle", "-H", SERVER, "-p", "25", "-c", str(self.plan.idle),
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        answer = parse(source.stdout.readline())
        time.sleep(0.2)
        grown = accounting.resident_kb(self.pids) - before
        source.stdin.close()
        source.wait(20)
        return {
            "rate": grown / answer["ready"] if self.pids and answer["ready"] else None,
            "cpu": None, "cpu_all": None, "foreign": 0.0, "mails": answer["mails"], "errors": answer["errors"],
        }

    def pin(self, processors):
        os.sched_setaffinity(0, processors)
        accounting.pin(self.pids + accounting.tree(self.sink.pid), processors)


def parse(answer):
    """smtpload's line of key=value."""
    values = {key: float(value) for key, _, value in (word.partition("=") for word in answer.split())}
    if "mails" not in values:
        raise BenchError(f"smtpload said {answer.strip()!r}")
    return values


def prepare():
    if os.geteuid() != 0:
        raise BenchError("needs root for network namespaces")
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        raise BenchError(f"not installed: {' '.join(missing)}")
    if not os.access(SMTPLOAD, os.X_OK):
        raise BenchError(f"{SMTPLOAD} is not built; run `make bench`")


def measure_program(name, number, plan):
    """All tests of one program in one round."""
    prefix = f"bn{os.getpid()}"
    folder = os.path.join(PROJECT, "build", "bench", "run", f"{number}-{name}")
    runs = []
    with Router(prefix, folder) as router:
        meter = Meter(router, programs.load(name), plan)
        meter.load("mails", "-1", "-c", "10", "-l", "1000", "-d", "0.1" if plan.quick else "0.4")
        for test in plan.tests:
            run = {"program": name, "test": test.name, "round": number}
            try:
                run |= meter.run(test)
            except BenchError as error:
                run |= {"failure": str(error), "foreign": 0.0, "rate": None, "cpu": None, "cpu_all": None}
            runs.append(run)
    return runs


def failure_of(run):
    """Why a run counts as failed, or None."""
    if "failure" in run:
        return run["failure"]
    if run["errors"]:
        return f"{run['errors']:.0f} errors"
    return None if run["mails"] else "not one mail passed"


def measure_all(names, plan):
    runs = []
    for number in range(plan.rounds):
        for turn in range(len(names)):
            name = names[(turn + number) % len(names)]  # another one begins each round
            try:
                found = measure_program(name, number, plan)
            except BenchError as error:
                found = [{"program": name, "test": "start", "round": number, "failure": str(error),
                          "foreign": 0.0, "rate": None, "cpu": None, "cpu_all": None}]
            runs += found
            if plan.raw:
                with open(plan.raw, "a", encoding="ascii") as file:
                    file.writelines(json.dumps(run) + "\n" for run in found)
        print(f"round {number + 1} of {plan.rounds} done", file=sys.stderr)
    return runs


def report(runs, names, plan):
    """Prints everything; the number of failed runs."""
    for name in names:
        print(f"{name}: {programs.load(name).DESCRIPTION}")
    results = table.Results([run for run in runs if failure_of(run) is None], plan.foreign)
    table.print_all(results, plan.tests, names, {name: programs.load(name).TARGETS for name in names})
    print(f"\n{len(runs)} runs; {results.dropped_count} dropped because other programs used more than "
          f"{plan.foreign * 100:.0f} % of the processors")
    failed = 0
    for run in runs:
        failure = failure_of(run)
        if failure is not None:
            failed += 1
            print(f"not ok {run['program']} {run['test']} in round {run['round'] + 1}: {failure}")
    return failed


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the namespaces are taken away on the way out
    try:
        plan = Plan()
        prepare()
        names, skipped = [], 0
        for name in programs.names():
            reason = programs.load(name).missing()
            if reason is None:
                names.append(name)
            else:
                skipped += 1
                print(f"skipped {name}: {reason}")
        runs = measure_all(names, plan)
    except (BenchError, ImportError, ValueError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    failed = report(runs, names, plan)
    print(f"{len(runs) - failed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
