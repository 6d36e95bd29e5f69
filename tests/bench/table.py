"""Medians over the rounds. A ratio is the median of the ratios within a round, so that a machine that changes its speed
between rounds does no harm; one figure alone would mean little."""

import statistics

REFERENCES = ("forwarding", "haproxy")


class Results:
    """runs: dictionaries with program, test, round, rate, cpu, cpu_all, foreign."""

    def __init__(self, runs, foreign_most):
        self.runs = [run for run in runs if run["foreign"] <= foreign_most]
        self.dropped_count = len(runs) - len(self.runs)

    def of(self, program, test, column):
        return {run["round"]: run[column] for run in self.runs
                if run["program"] == program and run["test"] == test and run[column] is not None}

    def ratio(self, program, reference, test, column):
        ours, theirs = self.of(program, test, column), self.of(reference, test, column)
        ratios = [ours[number] / theirs[number] for number in ours if theirs.get(number)]
        return statistics.median(ratios) if ratios else None


def number(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}"


def median_text(values):
    if not values:
        return "-"
    median = statistics.median(values)
    return number(median, 0 if median >= 1000 else 1 if median >= 100 else 2)


def spread_text(values):
    if len(values) < 2 or not statistics.median(values):
        return "-"
    return f"{(max(values) - min(values)) / statistics.median(values) * 100:.0f} %"


def print_test(results, test, programs):
    print(f"\n{test.name}: {test.title} ({test.unit}, {test.better} is better)")
    cpu_title = f"CPU s per {test.cpu_unit}" if test.cpu_unit else ""
    print(f"  {'program':<19}{'median':>9}{'spread':>8}{'/fwd':>7}{'/haproxy':>10}{'rounds':>8}"
          + (f"   {cpu_title + ': program':>28}{'/haproxy':>10}{'machine':>9}{'/fwd':>7}" if cpu_title else ""))
    for program in programs:
        rates = list(results.of(program, test.name, "rate").values())
        line = f"  {program:<19}{median_text(rates):>9}{spread_text(rates):>8}"
        for reference, width in zip(REFERENCES, (7, 10)):
            line += f"{number(results.ratio(program, reference, test.name, 'rate')):>{width}}"
        line += f"{len(rates):>8}"
        if cpu_title:
            cpu, machine = (list(results.of(program, test.name, column).values()) for column in ("cpu", "cpu_all"))
            line += f"   {number(statistics.median(cpu) if cpu else None, 3):>28}"
            line += f"{number(results.ratio(program, 'haproxy', test.name, 'cpu')):>10}"
            line += f"{number(statistics.median(machine) if machine else None, 3):>9}"
            line += f"{number(results.ratio(program, 'forwarding', test.name, 'cpu_all')):>7}"
        print(line)


def target_line(results, test, program, target):
    _, column, sense, wanted, reference = target
    what = f"{'CPU per ' + test.cpu_unit if column == 'cpu' else test.unit}"
    if reference is None:
        values = list(results.of(program, test.name, column).values())
        reached = statistics.median(values) if values else None
    else:
        reached = results.ratio(program, reference, test.name, column)
        what += f" / {reference}"
    if reached is None:
        return f"  {test.name:<10}{what:<32}{sense} {wanted:<6} not measured"
    met = reached >= wanted if sense == ">=" else reached <= wanted
    return f"  {test.name:<10}{what:<32}{sense} {wanted:<6} is {reached:<7.2f} {'met' if met else 'MISSED'}"


def print_all(results, tests, programs, targets):
    for test in tests:
        print_test(results, test, programs)
    for program in programs:
        lines = [target_line(results, test, program, target)
                 for test in tests for target in targets[program] if target[0] == test.name]
        if lines:
            print(f"\ntargets of {program}:", *lines, sep="\n")
