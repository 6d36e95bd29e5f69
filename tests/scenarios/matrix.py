"""matrix.py - the table of rows and ways: what the witness said about every fault of rows.tsv, in every way of seeing."""

import os
import platform
import time

HERE = os.path.dirname(os.path.abspath(__file__))
WAYS = ["proxy", "nfq", "nfq-bypass", "replay"]
CLASSES = ("right", "wrong", "naive", "honest-unknown", "failed")
HEAD = """# The matrix: every fault in every way of seeing

Written by `make matrix`; do not edit. A row is a fault; its scenarios make it happen in network namespaces, and a cell is what
the witness said about it in that way: **right**; **wrong** (accuses somebody else, or says less than it must); **naive** (the
verdict that a reader of the log would have jumped to); **unknown** (it accuses nobody, or only as possible: honest, not
helpful); **failed** (the run itself went wrong). `replay` reads the capture taken during the run in way nfq, and must say what
nfq said; `nfq-bypass` is nfq with the bulk of bodies let past the queue. A dash: that way cannot show it (the reason stands below the table).
"""


def read_rows():
    """[(row, injected cause, where it is covered instead)] of rows.tsv."""
    rows = []
    with open(os.path.join(HERE, "rows.tsv"), encoding="utf-8") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                fields = line.rstrip("\n").split("\t")
                rows.append((fields[0], fields[1], fields[2] if len(fields) > 2 else ""))
    return rows


def _expected(scenario):
    """The verdicts a scenario expects, in a few words."""
    items = scenario.expected("verdict", next((way for way in WAYS if way in scenario.ways), "proxy"))

    def word(value):
        return "/".join(map(str, value)) if isinstance(value, list) else str(value)

    return ", ".join(dict.fromkeys(f"{word(item.get('fault', 'any'))} {word(item.get('cause', ''))}".strip() for item in items))


class Table:
    def __init__(self, results, skipped):
        self.results, self.skipped = results, skipped
        self.totals = {way: dict.fromkeys(CLASSES, 0) for way in WAYS}
        self.notes = []

    def cell(self, scenario, way):
        found = self.results.get((scenario.name, way))
        if found is None:
            why = self.skipped.get((scenario.name, way), "not run")
            if why not in self.notes:
                self.notes.append(why)
            return f"– ({self.notes.index(why) + 1})"
        self.totals[way][found["verdict"]] += 1
        if found["verdict"] == "right":
            return "right"
        said = "; ".join(dict.fromkeys(found["said"])) or (found["problems"] or [""])[0][:80]
        return f"**{found['verdict'].replace('honest-', '')}**: {said}".replace("|", "/")

    def line(self, row, scenario):
        name = f"{os.path.basename(os.path.dirname(scenario.path))}/{scenario.name}"
        cells = " | ".join(self.cell(scenario, way) for way in WAYS)
        return f"| {row} | {name} | {_expected(scenario)} | {cells} |"


def write(path, scenarios, results, skipped):
    """Writes the table. False when a row has neither a scenario nor a reason."""
    table, lines, elsewhere, missing = Table(results, skipped), [], [], []
    heading = [f"| row | scenario | expected | {' | '.join(WAYS)} |", f"|---|---|---|{'---|' * len(WAYS)}"]
    for row, cause, covered in read_rows():
        of_row = [scenario for scenario in scenarios if row in scenario.rows]
        # A scenario of several rows is counted once, in its first.
        lines += [table.line(row, scenario) for scenario in of_row if scenario.rows[0] == row]
        shared = [scenario for scenario in of_row if scenario.rows[0] != row]
        if shared and len(shared) == len(of_row):
            lines.append(f"| {row} | see {shared[0].rows[0]}, {shared[0].name} | | {' | '.join([''] * len(WAYS))} |")
        if covered:
            elsewhere.append(f"| {row} | {cause} | {covered} |")
        elif not of_row:
            missing.append(row)
    others = [table.line("", scenario) for scenario in scenarios if not scenario.rows]
    out = [HEAD, "## Rows", "", *heading, *lines, "", "## Everything else the scenarios show", "", *heading, *others, ""]
    out += [f"({number}) {why}  " for number, why in enumerate(table.notes, 1)]
    if elsewhere:
        out += ["", "## Not, or not only, reproduced here", "", "| row | fault | why, and what covers it |", "|---|---|---|", *elsewhere]
    if missing:
        out += ["", f"Rows without a scenario: {', '.join(missing)}."]
    out += ["", "## Totals", "", f"{time.strftime('%Y-%m-%d')}, {platform.system()} {platform.release()}", "",
            f"| way | {' | '.join(CLASSES)} |", f"|---|{'---|' * len(CLASSES)}"]
    out += [f"| {way} | {' | '.join(str(number) for number in table.totals[way].values())} |" for way in WAYS]
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(out) + "\n")
    print("\n".join(out[-len(WAYS) - 2:]))
    return not missing
