"""control.py - the control group: sessions in which nobody is at fault, counted in every way of seeing, and who was accused
all the same. A scenario belongs to it by a table [control]."""

import statistics

WAYS = ("proxy", "nfq", "nfq-bypass", "replay")
LEAST = 300           # sessions of group `clean` in each way, each with fault=none
GROUPS = ("clean", "disturbed path")


def tally(scenarios, results, group, way):
    """(sessions, fault=none, {declared fault: number}, [false blames]) of a group in a way."""
    sessions, none, declared, false = 0, 0, {}, []
    for scenario in scenarios:
        if scenario.control.get("group") != group:
            continue
        cell = results.get((scenario.name, way), {})
        for fault, summary in zip(cell.get("faults", ()), cell.get("said", ())):
            sessions += 1
            if fault == "none":
                none += 1
            elif fault in scenario.control.get("also", ()):
                declared[fault] = declared.get(fault, 0) + 1
            else:
                false.append(f"{scenario.name} [{way}]: {summary}")
    return sessions, none, declared, false


def tell(scenarios, results, ways):
    """Prints what was seen in these ways. True when nobody was accused, and enough sessions were seen."""
    print(f"\n{'control group':16} {'way':12} {'sessions':>8} {'none':>6} {'false blames':>13}   declared")
    short, blames = [], []
    for group in GROUPS:
        for way in ways:
            sessions, none, declared, false = tally(scenarios, results, group, way)
            words = ", ".join(f"{number} {fault}" for fault, number in sorted(declared.items()))
            print(f"{group:16} {way:12} {sessions:8} {none:6} {len(false):13}   {words}".rstrip())
            blames += false
            if group == "clean" and none < LEAST:
                short.append(way)
    for way in short:
        print(f"not ok: fewer than {LEAST} sessions with fault=none were seen in way {way}")
    for blame in blames[:20]:
        print(f"false blame: {blame}")
    for way in ways:
        delays = [delay for scenario in scenarios for delay in results.get((scenario.name, way), {}).get("delays", ())]
        if delays:
            print(f"from the deciding event to the verdict line, way {way}: {words_of(delays)}")
    return not short and not blames


def words_of(delays):
    return (f"median {statistics.median(delays) * 1000:.0f} ms, greatest {max(delays) * 1000:.0f} ms "
            f"({len(delays)} session{'s' if len(delays) != 1 else ''})")
