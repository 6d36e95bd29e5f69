#!/usr/bin/python3
"""run.py - runs scenarios: real mail through five network namespaces, and what the witness says about it.

    tests/scenarios/run.py [--way proxy|nfq|replay|forward] [-j N] [-v] [--keep] [FILE|DIRECTORY ...]
    tests/scenarios/run.py --control        the control group: nobody is at fault, nobody may be accused; with a count
    tests/scenarios/run.py --ci             what every check runs: the scenarios and ways that say so (ci = [...])
    tests/scenarios/run.py --matrix FILE    everything; FILE gets the table of rows and ways
    tests/scenarios/run.py --matrix FILE --again    only the cells that were not right the last time; the others as they were

Without files: all of tests/scenarios. Without --way: each way the scenario names. Needs root. See README.md."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PROJECT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(PROJECT, "tests", "mta")]

import control  # noqa: E402
import matrix  # noqa: E402
import mta  # noqa: E402
from scenario_file import WAYS, ScenarioError, load  # noqa: E402

RUN = os.path.join(PROJECT, "build", "run")
WORKER = os.path.join(HERE, "worker.py")
CELLS = os.path.join(PROJECT, "build", "matrix.json")  # what the last --matrix found
PROGRAM = os.environ.get("SMTPWITNESS") or os.path.join(PROJECT, "build", "smtpwitness")
TOOLS = ("ip", "iptables", "ip6tables", "ethtool", "tc", "ss", "unshare", "nsenter", "setpriv", "openssl", "sysctl", "tcpdump")
GOOD = ("right", "honest-unknown")


def find_files(arguments):
    files = []
    for argument in arguments or [HERE]:
        if os.path.isdir(argument):
            found = [os.path.join(folder, name) for folder, _, names in os.walk(argument) for name in names if name.endswith(".toml")]
            if not found:
                raise ScenarioError(f"{argument}: no scenario (*.toml) in it")
            files += sorted(found)
        else:
            files.append(argument)
    return files


class Job:
    """One run of a scenario: in one live way, and with nfq also what replay says about its packets."""

    def __init__(self, scenario, way, tells, options):
        self.scenario, self.way, self.tells, self.options = scenario, way, tells, options
        self.process = self.directory = None
        self.told = False
        self.started = 0.0

    def start(self, number):
        os.makedirs(RUN, exist_ok=True)
        self.directory = tempfile.mkdtemp(prefix=f"{self.scenario.name}-{self.way}-", dir=RUN)
        os.chmod(self.directory, 0o755)
        prefix = f"sc{os.getpid()}-{number}" if number else f"sc{os.getpid()}"
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "--pid", "--fork",
                   "--kill-child=KILL", "--mount-proc", "/usr/bin/python3", WORKER, os.path.abspath(self.scenario.path),
                   self.scenario.name, self.way, self.directory, prefix]
        command += ["--verbose"] if self.options.verbose else []
        command += ["--keep"] if self.options.keep else []
        self.prefix = prefix
        self.started = time.monotonic()
        self.output = None if self.options.verbose or self.options.keep else tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output,
                                        env=dict(os.environ, LC_ALL="C.UTF-8", PYTHONDONTWRITEBYTECODE="1"))

    def seconds(self):
        return time.monotonic() - self.started

    def sleeps(self):
        """It waits for minutes, at the expense of nobody."""
        return self.scenario.seconds > 300

    def overdue(self):
        return not self.options.keep and self.seconds() > self.scenario.seconds + 90

    def end(self):
        """Ends the job's first process, and with it everything it started and mounted."""
        if self.process.poll() is None:
            child = mta.child_of(self.process.pid)
            if child is not None:
                os.kill(child, signal.SIGKILL)
            else:
                self.process.kill()
            self.process.wait()

    def tell_kept(self):
        """For --keep: how it went, and how to enter."""
        self.told = True
        for way, cell in self.cells().items():
            for problem in cell["problems"]:
                print(f"{cell['verdict']} {self.scenario.name} [{way}]: {problem}")
        enter = f"nsenter --target {mta.child_of(self.process.pid)} --mount --pid ip netns exec {self.prefix}-"
        print(f"kept: logs in {self.directory}/logs; enter a node (cli rc mid rs srv) with\n    {enter}mid bash\nCtrl-C ends it", flush=True)

    def cells(self):
        """{way: judgement} for the ways this run tells of."""
        try:
            with open(os.path.join(self.directory, "result.json"), encoding="utf-8") as file:
                cells = json.load(file)
        except (OSError, ValueError):
            said = ""
            if self.output is not None:
                self.output.seek(0)
                said = self.output.read().decode("utf-8", "replace").strip()[-1500:]
            cells = {self.way: {"verdict": "failed", "problems": [f"the scenario broke off after {self.seconds():.0f} s: {said}"], "said": []}}
        missing = {"verdict": "failed", "problems": [f"there is no capture: {' '.join(cells[self.way]['problems'])[:300]}"], "said": []}
        return {way: cells.get(way, missing) for way in self.tells}

    def clean(self, keep_logs):
        if self.directory and not (keep_logs and os.path.isdir(os.path.join(self.directory, "logs"))):
            shutil.rmtree(self.directory, ignore_errors=True)


def why_skipped(scenario, way):
    if way in scenario.unseen:
        return scenario.unseen[way]
    if way not in scenario.ways:
        return f"not for way {way}"
    if way == "replay" and scenario.enforces(scenario.witness):
        return "a capture shows what was enforced as if the hosts had done it"
    return None


def why_impossible(scenario):
    if os.geteuid() != 0:
        return "needs root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{missing[0]} is not installed"
    if mta.roots_missing(scenario.kinds_of_mta()):
        return f"no root for {mta.roots_missing(scenario.kinds_of_mta())[0]}; run tests/mta/make_roots.sh"
    if not os.access(PROGRAM, os.X_OK):
        return f"{PROGRAM} is not built"
    return None


def last_cells():
    """{(scenario name, way): judgement} of the last --matrix."""
    try:
        with open(CELLS, encoding="utf-8") as file:
            return {(name, way): cell for name, ways in json.load(file).items() for way, cell in ways.items()}
    except (OSError, ValueError):
        return {}


def keep_cells(cells):
    found = {}
    for (name, way), cell in cells.items():
        found.setdefault(name, {})[way] = cell
    with open(CELLS, "w", encoding="utf-8") as file:
        json.dump(found, file)


def plan(scenarios, options, known):
    """The runs to make, and the cells that are left out: [Job], [(scenario, way, why)]."""
    jobs, skipped = [], []
    for scenario in scenarios:
        wanted = options.way or scenario.ways
        if options.ci:
            wanted = [way for way in wanted if way in scenario.ci or (way == "replay" and "nfq" in scenario.ci)]
        elif options.matrix:
            wanted = [way for way in matrix.WAYS if known.get((scenario.name, way), {}).get("verdict") != "right"]
        elif options.control and not options.way:
            wanted = control.WAYS
        runs = {}
        for way in wanted:
            why = why_skipped(scenario, way) or why_impossible(scenario)
            if why:
                skipped.append((scenario, way, why))
                known.pop((scenario.name, way), None)
            else:
                runs.setdefault("nfq" if way == "replay" else way, []).append(way)
        jobs += [Job(scenario, way, tells, options) for way, tells in runs.items()]
    # The longest first, so that the last to end is not the longest.
    return sorted(jobs, key=lambda job: -job.scenario.seconds), skipped


def tell(job, cells):
    """Prints what came of a run; True when all of it is well."""
    seconds = job.seconds()
    for way, cell in cells.items():
        good = cell["verdict"] in GOOD
        word = "ok" if cell["verdict"] == "right" else cell["verdict"] if good else f"not ok ({cell['verdict']})"
        problems = [] if cell["verdict"] == "right" else cell["problems"]
        print(f"{word} {job.scenario.name} [{way}]{' ' + problems[0] if problems else f' {seconds:.1f} s'}")
        if cell.get("delays"):
            print(f"    from the deciding event to the verdict line: {control.words_of(cell['delays'])}")
        for problem in problems[1:6]:
            print(f"    {problem}")
    well = all(cell["verdict"] in GOOD for cell in cells.values())
    if not well and os.path.isdir(os.path.join(job.directory, "logs")):
        print(f"    logs: {os.path.relpath(job.directory)}/logs")
    sys.stdout.flush()
    return well


def run_all(waiting, options, results):
    """Runs the jobs side by side; `results` gets {(scenario name, way): judgement}. False when interrupted."""
    running, number = [], 0
    try:
        while waiting or running:
            while waiting and (waiting[0].sleeps() or sum(not job.sleeps() for job in running) < max(options.jobs, 1)):
                job = waiting.pop(0)
                job.start(number)
                number += 1
                running.append(job)
            time.sleep(0.05)
            for job in list(running):
                if job.process.poll() is None and not job.overdue():
                    if options.keep and not job.told and os.path.exists(os.path.join(job.directory, "result.json")):
                        job.tell_kept()
                    continue
                cells = job.cells()
                job.end()
                running.remove(job)
                well = tell(job, cells)
                results.update({(job.scenario.name, way): cell for way, cell in cells.items()})
                job.clean(keep_logs=not well)
    except KeyboardInterrupt:
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, signal.SIG_IGN)
        for job in running:
            job.end()
            job.clean(keep_logs=options.keep)
        print(f"interrupted, {len(waiting) + len(running)} not finished", file=sys.stderr)
        return options.keep
    return True


def main():
    parser = argparse.ArgumentParser(description="Run scenarios in network namespaces.")
    parser.add_argument("files", nargs="*", metavar="FILE|DIRECTORY")
    parser.add_argument("--way", choices=WAYS, action="append", help="only this way (default: each the scenario names)")
    parser.add_argument("--ci", action="store_true", help="only what every check runs")
    parser.add_argument("--matrix", metavar="FILE", help="write the table of rows and ways to FILE")
    parser.add_argument("--again", action="store_true", help="with --matrix: only what was not right the last time")
    parser.add_argument("--control", action="store_true", help="only the control group, and how many it accused (none may be)")
    parser.add_argument("-j", "--jobs", type=int, default=8, help="how many side by side (default 8)")
    parser.add_argument("-v", "--verbose", action="store_true", help="print every command and every line said")
    parser.add_argument("--keep", action="store_true", help="leave the namespaces standing until Ctrl-C (one scenario, one way)")
    parser.add_argument("--list", action="store_true", help="print rows, names, ways and descriptions")
    options = parser.parse_args()
    try:
        scenarios = [scenario for path in find_files(options.files) for scenario in load(path)]
    except ScenarioError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    if options.control:
        scenarios = [scenario for scenario in scenarios if scenario.control or "decided-within" in scenario.expect]
    elif options.matrix:
        scenarios = [scenario for scenario in scenarios if not scenario.control]  # they show no fault, and are counted by themselves
    if options.list:
        for scenario in scenarios:
            print(f"{','.join(scenario.rows):8} {scenario.name:34} {','.join(scenario.ways):24} {scenario.description}")
        return 0
    results = last_cells() if options.again else {}
    waiting, skipped = plan(scenarios, options, results)
    if options.keep and len(waiting) != 1:
        parser.error("--keep wants exactly one scenario and one --way")
    for scenario, way, why in skipped:
        print(f"skipped {scenario.name} [{way}]: {why}", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also when started in the background of a script
    complete = run_all(waiting, options, results)
    if options.matrix:
        keep_cells(results)
    if not complete:
        return 130
    failed = sum(cell["verdict"] not in GOOD for cell in results.values())
    passed = len(results) - failed
    if options.matrix:
        complete = matrix.write(options.matrix, scenarios, results, {(scenario.name, way): why for scenario, way, why in skipped})
        failed += not complete
    if options.control:
        failed += not control.tell(scenarios, results, options.way or control.WAYS)
    print(f"{passed} passed, {failed} failed, {len(skipped)} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
