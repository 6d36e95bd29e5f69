#!/usr/bin/python3
"""test_expectations.py - the scenarios' own judge, judged: what it must accept and, above all, what it must refuse."""

import contextlib
import glob
import io
import os
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "peers")]

import control  # noqa: E402
import expectations  # noqa: E402
import matrix  # noqa: E402
import smtp_peer  # noqa: E402
import verdict_line  # noqa: E402
from scenario_file import ScenarioError, load  # noqa: E402

LINE = ('Nov 22 03:39:08 gate smtpwitness[7]: verdict session=7f3a-12 fault=client cause=data-start-stall confidence=likely also= '
        'waited-ms=8010 duration-ms=9000 ledger-ms=client:8010,server:900,client-network:40,server-network:50,witness:0 '
        'reply="421 4.4.2 \\"x\\" \\\\ a=b\\x0d"')


class VerdictLine(unittest.TestCase):
    def test_reads_values_quotes_and_escapes(self):
        kind, values = verdict_line.parse(LINE)
        self.assertEqual(kind, "verdict")
        self.assertEqual(values["session"], "7f3a-12")
        self.assertEqual(values["also"], "")
        self.assertEqual(values["reply"], '421 4.4.2 "x" \\ a=b\r')

    def test_skips_other_lines(self):
        self.assertIsNone(verdict_line.parse("smtpwitness: the verdict is out"))

    def test_refuses_a_broken_line(self):
        for bad in ('verdict a="x', "verdict a=1 b c=2", "verdict a=1 a=2", 'verdict a="x"y', "verdict a=1  b=2"):
            with self.assertRaises(verdict_line.LineError, msg=bad):
                verdict_line.parse(bad)


class Lines(unittest.TestCase):
    def problems(self, expected, *lines):
        found, malformed = expectations.read_lines(lines)
        return malformed + expectations.check_lines("verdict", expected, found["verdict"], True)

    def test_accepts(self):
        for wanted in ({"fault": "client"}, {"waited-ms": [7000, 9500]}, {"reply": "~^421"}, {"cause": ["x", "data-start-stall"]},
                       {"confidence": ["possible", "likely"]}, {"also": False, "limit-ms": False}, {"reply": True},
                       {"limit-ms": [False, "5"]}, {"reply": [True, False]}, {"limit-ms": [True, False]}):
            self.assertEqual(self.problems([wanted], LINE), [], wanted)

    def test_refuses(self):
        for wanted in ({"fault": "server"}, {"waited-ms": [1, 8009]}, {"reply": "~^422"}, {"cause": ["x", "y"]}, {"limit-ms": 4},
                       {"confidence": ["certain", "certain"]}, {"also": True}, {"reply": False}, {"fault": "client", "count": 2},
                       {"reply": [False, "~^5"]}):
            self.assertNotEqual(self.problems([wanted], LINE), [], wanted)

    def test_refuses_one_line_too_many_or_too_few(self):
        self.assertNotEqual(self.problems([], LINE), [])
        self.assertNotEqual(self.problems([{"fault": "client"}], LINE, LINE), [])
        self.assertNotEqual(self.problems([{"fault": "client"}]), [])
        self.assertEqual(self.problems([{"fault": "client", "count": [1, 2]}], LINE, LINE), [])

    def test_refuses_a_ledger_that_does_not_sum(self):
        values = verdict_line.parse(LINE)[1]
        self.assertEqual(expectations.check_ledger(LINE, values), [])
        values["duration-ms"] = "8000"
        self.assertNotEqual(expectations.check_ledger(LINE, values), [])


class Mail(unittest.TestCase):
    def test_a_mail_must_arrive_octet_for_octet(self):
        message = smtp_peer.message_of("a", 4000)
        sent = {"a": smtp_peer.text_hash(message)}
        stored = b"Return-Path: <x>\n" + message.replace(b"\r\n", b"\n")
        self.assertEqual(expectations.check_mail(1, sent, [smtp_peer.identity_of(stored)]), [])
        for spoilt in (stored + b"\n", stored.replace(b"\n.\n", b"\n..\n", 1), stored[:-2], b"no header\n"):
            self.assertNotEqual(expectations.check_mail(1, sent, [smtp_peer.identity_of(spoilt)]), [])
        self.assertNotEqual(expectations.check_mail(1, sent, []), [])
        self.assertNotEqual(expectations.check_mail(0, {}, [smtp_peer.identity_of(stored)]), [])


class Clients(unittest.TestCase):
    session = {"ok": False, "failed": "no reply within 4 s", "step": "expect 250", "ended": "own", "seconds": 4.1, "replies": ["220 x"]}

    def test_without_expectation_every_script_goes_through(self):
        self.assertNotEqual(expectations.check_clients([], [self.session]), [])
        self.assertEqual(expectations.check_clients([], [dict(self.session, ok=True)]), [])

    def test_accepts_and_refuses(self):
        self.assertEqual(expectations.check_clients([{"ok": False, "saw": "220", "seconds": [4, 5], "failed": "no reply"}], [self.session]), [])
        for wanted in ({"ok": True}, {"saw": "221"}, {"not-saw": "220"}, {"seconds": [1, 4]}, {"ended": "eof"}, {"failed": "x"}, {"count": 2}):
            self.assertNotEqual(expectations.check_clients([wanted], [self.session]), [], wanted)


class Judgement(unittest.TestCase):
    def found(self, *lines):
        return expectations.read_lines(lines)[0]

    def test_naive_is_found_in_verdicts_and_in_stalls_that_claim_something(self):
        naive = [{"fault": "client", "cause": "data-start-stall"}]
        innocent = LINE.replace("fault=client", "fault=none")
        stall = LINE.replace("verdict", "stall")
        self.assertTrue(expectations.naive_lines(naive, self.found(LINE)))
        self.assertTrue(expectations.naive_lines(naive, self.found(innocent, stall)))
        for said in (stall.replace("likely", "possible"), stall.replace("also=", "also=client-network"), stall.replace("also=", "phase=rcpt also="),
                     stall.replace("7f3a-12", "7f3a-13 phase=mail")):
            self.assertFalse(expectations.naive_lines(naive, self.found(innocent, said)), said)
        self.assertFalse(expectations.naive_lines([{"fault": "server"}], self.found(LINE)))

    def test_only_what_accuses_nobody_is_honest(self):
        wanted = [{"fault": "server"}]
        for line, honest in ((LINE, False), (LINE.replace("likely", "possible"), True), (LINE.replace("fault=client", "fault=unknown"), True)):
            self.assertEqual(expectations.only_honest(wanted, self.found(line)["verdict"]), honest, line)
        self.assertFalse(expectations.only_honest(wanted, []))
        self.assertFalse(expectations.only_honest(wanted, self.found(LINE.replace("likely", "possible").replace("=client", "=none"))["verdict"]))

    def test_a_replay_must_say_the_same(self):
        live = self.found(LINE)["verdict"]
        self.assertEqual(expectations.check_same(live, live), [])
        for again in ([], live * 2, self.found(LINE.replace("fault=client", "fault=server"))["verdict"]):
            self.assertNotEqual(expectations.check_same(live, again), [])

    def test_json_reads_like_a_line(self):
        found, problems = expectations.read_json('{"event":"verdict","fault":"none","also":[],"notes":["a","b"],"waited-ms":7,"ledger-ms":{"x":1}}')
        self.assertEqual(problems, [])
        self.assertEqual(found["verdict"][0][1], {"fault": "none", "also": "", "notes": "a,b", "waited-ms": "7", "ledger-ms": "x:1"})
        for bad in ("{", "[]", '{"fault":"none"}'):
            self.assertNotEqual(expectations.read_json(bad)[1], [], bad)


class Delays(unittest.TestCase):
    lines = [(10.0, "nfq: ready"), (12.3, LINE + " client=192.0.2.2:1234"), (12.4, LINE + " client=[2001:db8::1]:99")]

    def test_the_time_from_the_decision_to_the_line(self):
        found, problems = expectations.delays({"192.0.2.2:1234": 12.0, "[2001:db8::1]:99": 12.5}, self.lines)
        self.assertEqual(([round(delay, 3) for delay in found], problems), ([0.3, 0.0], []))
        self.assertEqual(expectations.check_delays(0.5, found), [])

    def test_a_late_verdict_and_a_missing_one_are_told(self):
        self.assertEqual(len(expectations.check_delays(0.2, [0.3, 0.1])), 1)
        self.assertEqual(len(expectations.check_delays(1, [])), 1)
        self.assertEqual(len(expectations.delays({"192.0.2.2:1235": 12.0}, self.lines)[1]), 1)


class ControlGroup(unittest.TestCase):
    def told(self, faults, number=control.LEAST, **table):
        scenario = load_text("description = 'x'\n[control]\ngroup = 'clean'\n" + "".join(f"{key} = {value}\n" for key, value in table.items()))[0]
        faults = faults + ["none"] * number
        cell = {"faults": faults, "said": [f"{fault} x" for fault in faults], "delays": [0.1]}
        with contextlib.redirect_stdout(io.StringIO()) as output:
            well = control.tell([scenario], {(scenario.name, "nfq"): cell}, ["nfq"])
        return well, output.getvalue()

    def test_nobody_accused_and_enough_seen(self):
        self.assertTrue(self.told([])[0])
        self.assertTrue(self.told(["policy"], also=["policy"])[0])

    def test_an_accusation_or_too_few_sessions_fail(self):
        for fault in ("client", "server", "policy", "client-network", "middlebox", "witness", "unknown"):
            well, output = self.told([fault])
            self.assertFalse(well)
            self.assertIn(f"[nfq]: {fault} x", output)
        self.assertFalse(self.told([], number=control.LEAST - 1)[0])

    def test_every_file_of_the_directory_belongs_to_it(self):
        for path in glob.glob(os.path.join(HERE, "control", "*.toml")):
            for scenario in load(path):
                self.assertTrue(scenario.control, scenario.name)
                allowed = {"none", *scenario.control.get("also", ())}
                for item in scenario.expected("verdict", "proxy"):
                    faults = item["fault"] if isinstance(item["fault"], list) else [item["fault"]]
                    self.assertLessEqual(set(faults), allowed, scenario.name)


def load_text(text):
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        return load(file.name)


class Files(unittest.TestCase):
    def test_every_scenario_loads(self):
        files = glob.glob(os.path.join(HERE, "*", "*.toml"))
        self.assertGreater(len(files), 50)
        rows = {row for row, _, _ in matrix.read_rows()}
        for scenario in (scenario for path in files for scenario in load(path)):
            self.assertTrue(scenario.description, scenario.path)
            self.assertLessEqual(set(scenario.rows), rows, scenario.path)
            for client in scenario.clients:
                for script in client.get("scripts", [client.get("script", [])]):
                    smtp_peer.unroll(script)

    def test_a_misspelt_field_is_refused(self):
        for text in ('expcet = 1', '[[action]]\nrun = "x"', '[[action]]\nat = 1', '[client]\nscirpt = []', '[[expect.client]]\nseen = "x"',
                     'ways = ["teleport"]', '[witness]\nreed = 1', "[server]\nkind =", '[client]\nafter = "nobody"', 'row = "23"',
                     'ci = ["x"]', 'family = 5', 'control = { group = "x" }', 'description = "{{nothing}}"', "[[variant]]\nfamily = 6", '[[variant]]\ntwin = "a"\nrwo = 1'):
            with self.assertRaises(ScenarioError, msg=text):
                load_text(text)

    def test_variants_lie_over_the_file(self):
        base, six = load_text("""
            values = { wait = 4 }
            [client]
            script = ["expect 220 within={{wait * 2}}"]
            [[action]]
            on = "rs"
            run = "{{iptables}} -d {{server}}"
            [[expect.verdict]]
            fault = "client"
            waited-ms = "{{[wait * 1000, wait * 2000]}}"
            [[variant]]
            twin = "ipv6"
            family = 6
            values = { wait = 2 }
            [variant.expect.verdict]
            fault = "server"
            """)
        self.assertEqual((base.clients[0]["script"], base.clients[0]["target"]), (["expect 220 within=8"], 4))
        self.assertEqual((six.clients[0]["script"], six.clients[0]["target"]), (["expect 220 within=4"], 6))
        self.assertEqual(six.actions[0]["run"], "ip6tables -d 2001:db8:4::2")
        self.assertEqual(six.name, base.name + ".ipv6")
        self.assertEqual(base.expected("verdict", "proxy"), [{"fault": "client", "waited-ms": [4000, 8000]}])
        self.assertEqual(six.expected("verdict", "proxy"), [{"fault": "server", "waited-ms": [2000, 4000]}])

    def test_values_for_a_way(self):
        scenario = load_text("""
            [[expect.verdict]]
            cause = { proxy = "a", nfq = "b" }
            confidence = ["likely", "certain"]
            probe = "answered"
            """)[0]
        self.assertEqual([scenario.expected("verdict", way)[0]["cause"] for way in ("proxy", "nfq", "replay")], ["a", "b", "b"])
        self.assertEqual(scenario.expected("verdict", "replay"), [{"cause": "b", "confidence": ["possible", "certain"]}])


if __name__ == "__main__":
    unittest.main()
