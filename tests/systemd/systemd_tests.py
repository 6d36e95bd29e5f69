"""Claims about the installed package under a real systemd. `run.sh` makes the namespaces and builds the package."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from guest import Guest
from mail import Load, Server, Session, one_mail
from lab import PREFIX, ROUTER, until

PROJECT = pathlib.Path(__file__).resolve().parents[2]
DEB = pathlib.Path(os.environ["DEB"])
PACKAGE = "/var/tmp/smtpwitness.deb"  # in the guest; what comes and goes there is nobody's trace
CONFIG = "etc/smtpwitness/smtpwitness.conf"
RESULTS = {"passed": 0, "failed": 0, "skipped": 0}
DRAIN = 6  # seconds; the configuration of these tests
IN_THE_WAY = "TPROXY|NFQUEUE|SMTPWITNESS"


def claim(good, text, detail=""):
    RESULTS["passed" if good else "failed"] += 1
    print(("ok - " if good else "not ok - ") + text + ("" if good else f" ({detail})"), flush=True)
    return good


def skip(text, why):
    RESULTS["skipped"] += 1
    print(f"skipped - {text}: {why}", flush=True)


def measured(text):
    print(f"#    {text}", flush=True)


# -- the router and its state --------------------------------------------------------------------------------------

def packet_filter(guest):
    """Everything of the packet filter and of policy routing, without counters and dates."""
    said = "".join(guest.run(*words) for words in (["iptables-save"], ["ip6tables-save"], ["ip", "-4", "rule"], ["ip", "-6", "rule"],
                                                   ["ip", "route", "show", "table", "all"], ["nft", "list", "tables"]))
    lines = [re.sub(r"\[\d+:\d+\]", "", line) for line in said.splitlines() if not line.startswith("#")]
    return [line for line in lines if "cache" not in line]


def system_state(guest):
    """Files, users and packages of the guest: what a purge must give back. Journals and caches grow by themselves."""
    files = guest.run("find", "/etc", "/usr", "/lib/systemd", "/var", "/run", "/root", "/home", "/opt", "/srv", "-xdev",
                      "-not", "-path", "/run/systemd/*", "-not", "-path", "/run/udev/*", "-not", "-path", "/var/log/journal/*",
                      "-not", "-path", "/run/log/journal/*", "-not", "-path", "/var/cache/*", "-not", "-path", "/var/lib/dpkg/*-old",
                      "-not", "-path", "/var/lib/systemd/*timer*", "-not", "-path", "/var/lib/logrotate*",
                      "-not", "-path", "/var/log/*.log", "-not", "-path", "/run/credentials*", "-not", "-path", "/var/tmp/*",
                      "-not", "-path", "/etc/*-",
                      "-not", "-path", "/run/xtables.lock", "-not", "-path", "/root", "-printf", "%p %y %u %m\n")
    users = guest.run("cat", "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow")
    packages = guest.run("dpkg-query", "-W", "-f", "${Package} ${Status}\n")
    units = guest.run("systemctl", "list-unit-files", "--no-legend", "smtpwitness*") if "smtpwitness" in files else ""
    return sorted((files + users + packages + units).splitlines())


def difference(before, after):
    return [f"-{line}" for line in before if line not in set(after)] + [f"+{line}" for line in after if line not in set(before)]


def configure(guest, text=""):
    (guest.root / CONFIG).write_text(f"[proxy]\ndrain = {DRAIN}s\n[log]\nrate-limit = 0\n{text}")


def active(guest, unit):
    return guest.call("systemctl", "is-active", unit).stdout.strip()


def lines(guest, pattern, since):
    """The program's own lines, by its identifier in the journal."""
    said = guest.run("journalctl", "--no-pager", "-o", "cat", "-t", "smtpwitness", "--since", since)
    return [line for line in said.splitlines() if re.search(pattern, line)]


def now_inside(guest):
    return guest.run("date", "+%F %T").strip()


def mark(guest):
    """A moment for lines(): journalctl counts in whole seconds, so the second that runs is left behind."""
    time.sleep(1.05)
    return now_inside(guest)


def rules_are_there(guest):
    return bool(re.search(IN_THE_WAY, "\n".join(packet_filter(guest))))


# -- claims ----------------------------------------------------------------------------------------------------------

def package_by_lintian():
    if shutil.which("lintian") is None:
        skip("lintian has nothing to say of the package", "lintian is not installed")
        return
    said = subprocess.run(["lintian", "--allow-root", str(DEB)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    claim(said.returncode == 0 and not said.stdout.strip(), "lintian has nothing to say of the package", said.stdout)
    overrides = (PROJECT / "debian/smtpwitness.lintian-overrides").read_text().splitlines()
    unexplained = [line for before, line in zip(["", *overrides], overrides) if not line.startswith("#") and not before.startswith("#")]
    claim(not unexplained, "... and each override is explained", unexplained)


def test_install(guest, server):
    package_by_lintian()
    shutil.copy(DEB, guest.root / PACKAGE.lstrip("/"))
    guest.run("dpkg", "-i", PACKAGE)
    states = [active(guest, f"smtpwitness-{mode}") for mode in ("proxy", "nfq", "proxy-bridge", "proxy.socket")]
    claim(states == ["inactive"] * 4, "installed, nothing runs", states)
    enabled = guest.call("systemctl", "is-enabled", "smtpwitness-proxy", "smtpwitness-nfq").stdout.split()
    claim(enabled == ["disabled"] * 2, "installed, nothing is enabled", enabled)
    claim(not rules_are_there(guest), "installed, no rule is loaded")
    claim(guest.call("getent", "passwd", "smtpwitness").returncode == 0, "the user smtpwitness is there")
    owner = guest.call("stat", "-c", "%U:%G %a", "/var/log/smtpwitness").stdout.strip()
    claim(owner == "smtpwitness:adm 750", "there is a folder for JSON lines", owner)
    said = guest.call("smtpwitness", "check", "/" + CONFIG)
    claim(said.returncode == 0, "the configuration as installed is good", said.stderr)
    said = guest.call("rsyslogd", "-N1", "-f", "/usr/share/doc/smtpwitness/examples/rsyslog.conf")
    claim(said.returncode == 0, "the rsyslog snippet is sound", said.stderr)
    snippet = (guest.root / "usr/share/doc/smtpwitness/examples/rsyslog.conf").read_text()
    (guest.root / "var/tmp/snippet.conf").write_text(re.sub(r"^#(?! )|^#(?= {4,})", "", snippet, flags=re.M))
    said = guest.call("rsyslogd", "-N1", "-f", "/var/tmp/snippet.conf")
    claim(said.returncode == 0, "the rsyslog snippet with its commented part is sound", said.stderr)
    syslog_ng_snippet(guest)
    said = guest.call("logrotate", "-d", "/etc/logrotate.d/smtpwitness")
    claim(said.returncode == 0 and "error" not in said.stderr, "the logrotate file is sound", said.stderr)


def syslog_ng_snippet(guest):
    """As installed, and with what is commented out in it, by syslog-ng itself, which lies in the root without being installed."""
    if not (guest.root / "opt/syslog-ng").is_dir():
        skip("the syslog-ng snippet is sound", "this root is older than its syslog-ng; remove build/roots/systemd")
        return
    snippet = (guest.root / "usr/share/doc/smtpwitness/examples/syslog-ng.conf").read_text()
    whole = re.sub(r"^#    ", "    ", re.sub(r"^#(?=\S)", "", snippet, flags=re.M), flags=re.M)
    for name, text, wanted in (("as it is", snippet, True), ("with its commented part", whole, True), ("spoilt", snippet.replace("};", "}"), False)):
        (guest.root / "var/tmp/snippet.conf").write_text("@version: 3.38\nsource s_src { internal(); };\n" + text)
        said = guest.call("sh", "-c", "cd /opt/syslog-ng && LD_LIBRARY_PATH=$(echo usr/lib/*-linux-gnu):usr/lib/syslog-ng exec usr/sbin/syslog-ng "
                          "--module-path /opt/syslog-ng/usr/lib/syslog-ng/3.38 --syntax-only -f /var/tmp/snippet.conf")
        claim((said.returncode == 0) == wanted, f"the syslog-ng snippet {name}: {'sound' if wanted else 'refused'}", said.stderr[-400:])


def test_proxy_start(guest, server):
    configure(guest, "json-file = /var/log/smtpwitness/verdicts.json\n")
    since = mark(guest)
    started = time.monotonic()
    said = guest.call("systemctl", "enable", "--now", "smtpwitness-proxy")
    measured(f"systemctl start: {time.monotonic() - started:.1f} s")
    claim(said.returncode == 0 and active(guest, "smtpwitness-proxy") == "active", "proxy: one command starts it", said.stderr)
    listeners = guest.run("ss", "-Hltnp", "sport", "=", ":10025")
    claim(listeners.count("systemd") == 2 and listeners.count("smtpwitness") >= 2, "proxy: IPv4 and IPv6 listeners are systemd's, and its own",
          listeners)
    text = guest.show("smtpwitness-proxy", "StatusText")
    claim(re.match(r"running: \d+ sessions open", text), "proxy: it tells systemd its state", text)
    status = pathlib.Path(f"/proc/{guest.pid_outside('smtpwitness-proxy')}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    raw = f"{1 << 13:016x}"
    claim(fields["CapEff"] == raw and fields["CapPrm"] == raw and fields["CapAmb"] == "0" * 16 and fields["CapBnd"] == raw,
          "proxy: CAP_NET_RAW and no other capability", status)
    claim(fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2" and "0" not in fields["Uid"].split(), "proxy: no root, no new privileges, a system call filter",
          status)
    for version in (4, 6):
        failure = one_mail(server, f"proxy-{version}", version)
        claim(failure is None, f"proxy: a mail passes, IPv{version}", failure)
    claim(server.peers[-2:] == ["10.81.1.2", "fd81:1::2"], "proxy: the server sees the client's own address", server.peers[-2:])
    claim(until(lambda: len(lines(guest, "^verdict .*mode=proxy", since)) >= 2), "proxy: verdicts are in the journal", guest.journal("-n", "20"))
    fields = guest.run("journalctl", "-o", "verbose", "-n", "1", "SYSLOG_IDENTIFIER=smtpwitness", "_SYSTEMD_UNIT=smtpwitness-proxy.service",
                       "SYSLOG_FACILITY=2")
    claim("PRIORITY=" in fields, "proxy: the journal knows unit, facility and priority of its lines", fields)
    claim(until(lambda: (guest.root / "var/log/mail.log").exists() and "verdict session=" in (guest.root / "var/log/mail.log").read_text()),
          "proxy: verdicts are in rsyslog's mail.log")
    json_file = guest.root / "var/log/smtpwitness/verdicts.json"
    claim(until(lambda: json_file.exists() and json_file.read_text().count("\n") >= 2), "proxy: JSON lines are in their file")
    guest.run("logrotate", "-f", "/etc/logrotate.d/smtpwitness")
    one_mail(server, "rotated")
    claim(until(lambda: json_file.exists() and json_file.read_text().count("\n") == 1), "proxy: after logrotate they are in the new file",
          guest.run("sh", "-c", "ls -l /var/log/smtpwitness; wc -l /var/log/smtpwitness/*"))


def test_proxy_reload(guest, server):
    since = mark(guest)
    configure(guest, "[limits]\nper-source = 7\n")
    said = guest.call("systemctl", "reload", "smtpwitness-proxy")
    claim(said.returncode == 0 and until(lambda: lines(guest, "per-source = 7 ", since)), "reload: a good configuration is taken over", said.stderr)
    configure(guest, "[limits]\nper-source = seven\n")
    said = guest.call("systemctl", "reload", "smtpwitness-proxy")
    told = guest.run("journalctl", "-o", "cat", "-u", "smtpwitness-proxy", "--since", since)
    claim(said.returncode != 0 and re.search(r"smtpwitness.conf:\d+: .*per-source.*seven", told), "reload: a wrong one makes the command fail and names the line",
          told)
    claim(active(guest, "smtpwitness-proxy") == "active", "reload: and the witness goes on", active(guest, "smtpwitness-proxy"))
    failure = one_mail(server, "after-bad-reload")
    claim(failure is None, "reload: and mail passes", failure)
    configure(guest)
    (guest.root / "etc/smtpwitness/rules.conf").write_text("PORT=25,2525\n")
    guest.run("systemctl", "reload", "smtpwitness-proxy")
    claim("25,2525" in "\n".join(packet_filter(guest)), "reload: rules.conf counts, too")
    (guest.root / "etc/smtpwitness/rules.conf").write_text("")
    guest.run("systemctl", "reload", "smtpwitness-proxy")


def restarts(guest, unit):
    return int(guest.show(unit, "NRestarts") or 0)


def failing_for(server, name, seconds):
    """Sends mail after mail, each with a short patience, until one passes: so long none did. None: not within `seconds`."""
    started = time.monotonic()
    count = 0
    while time.monotonic() - started < seconds:
        count += 1
        if one_mail(server, f"{name}-{count}", timeout=1.5) is None:
            return time.monotonic() - started
    return None


def test_proxy_crash(guest, server):
    for name, number in (("kill -9", signal.SIGKILL), ("abort", signal.SIGABRT)):
        before = restarts(guest, "smtpwitness-proxy")
        with Load(server, f"crash-{number}", clients=2) as load:
            time.sleep(0.5)
            os.kill(guest.pid_outside("smtpwitness-proxy"), number)
            back = until(lambda: restarts(guest, "smtpwitness-proxy") == before + 1 and active(guest, "smtpwitness-proxy") == "active", 15)
            time.sleep(1)
        claim(back, f"crash by {name}: systemd starts it again", active(guest, "smtpwitness-proxy"))
        refused = [failure for failure in load.failures if "reset" not in failure and "eof" not in failure]
        claim(not refused, f"crash by {name}: open sessions are reset, no connection is refused", load.told())
        claim(len(load.failures) <= 2, f"crash by {name}: what connects meanwhile waits for it", load.told())
        measured(load.told())


def test_proxy_hang(guest, server):
    before = restarts(guest, "smtpwitness-proxy")
    pid = guest.pid_outside("smtpwitness-proxy")
    os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    waited = failing_for(server, "hang", 12)
    claim(waited is not None and waited < 5, "hang: new connections pass by within 5 s", waited)
    measured(f"hang: mail passes {waited:.1f} s after SIGSTOP" if waited else "hang: no mail passed")
    back = until(lambda: restarts(guest, "smtpwitness-proxy") == before + 1 and active(guest, "smtpwitness-proxy") == "active", 20)
    claim(back, "hang: the watchdog kills it and it is started again", guest.show("smtpwitness-proxy", "Result"))
    measured(f"hang: back {time.monotonic() - started:.1f} s after SIGSTOP")
    failure = one_mail(server, "after-hang")
    claim(failure is None, "hang: afterwards mail passes through it", failure)


def restart_under_load(guest, server, name, action, unit):
    old = guest.show(unit, "MainPID")
    since = mark(guest)
    with Load(server, name) as load:
        time.sleep(1)
        long_session = Session()
        long_session.command("EHLO client.test", "250")
        started = time.monotonic()
        action()
        took = time.monotonic() - started
        time.sleep(1)
    measured(f"{name}: took {took:.1f} s; {load.told()}")
    claim(not load.failures and load.delivered > 20, f"{name} under load: 0 refused connections, 0 lost mails", load.told())
    claim(guest.show(unit, "MainPID") not in ("0", old), f"{name}: a new process serves", old)
    if unit == "smtpwitness-proxy":
        ours = "|".join(re.escape(address) for address in load.sources.values())
        claim(until(lambda: len(lines(guest, rf"^verdict .*client=\[?({ours})\]?:", since)) == load.delivered, 5), f"{name}: no connection passes by unseen",
              f"{len(lines(guest, f'^verdict .*({ours})', since))} verdicts of {load.delivered} mails")
    return since, long_session


def test_proxy_restart(guest, server):
    finished = []

    def restart():
        process = subprocess.Popen(["nsenter", "-t", str(guest.leader), "-a", "systemctl", "restart", "smtpwitness-proxy"], stdin=subprocess.DEVNULL)
        time.sleep(2)  # the old process drains; a session of it still has a mail to send
        finished.append(open_session.mail("across-restart"))
        open_session.quit()
        process.wait(60)

    open_session = Session()
    since, long_session = restart_under_load(guest, server, "restart", restart, "smtpwitness-proxy")
    claim(finished and server.received.get("across-restart") == finished[0], "restart: a session that was open finishes its mail", finished)
    claim(until(lambda: active(guest, "smtpwitness-proxy-bridge") == "inactive", DRAIN + 10), "restart: the bridge has gone",
          active(guest, "smtpwitness-proxy-bridge"))
    said = guest.call("journalctl", "-o", "cat", "-u", "smtpwitness-proxy", "--since", since, "-g", "left-over").stdout
    claim(not said.strip("- \n").removeprefix("No entries"), "restart: no process is left over")
    long_session.connection.close()


def greeted(count):
    """So many sessions from one source, left open; how many of them were served, and what the others were told."""
    served, told = [], []
    for _ in range(count):
        try:
            served.append(Session())
        except Exception as error:  # a 421, or the end of the connection
            told.append(str(error))
    return served, told


def test_proxy_limits(guest, server):
    """Each process counts for itself: at any moment of a restart each holds its limit, so the server sees at most twice as many."""
    configure(guest, "[limits]\nper-source = 2\nper-source-action = enforce\nover-limit = refuse\n")
    guest.run("systemctl", "reload", "smtpwitness-proxy")
    old, refused = greeted(3)
    claim(len(old) == 2 and "421" in refused[0], "limits: the third session of a source is refused", refused)
    process = subprocess.Popen(["nsenter", "-t", str(guest.leader), "-a", "systemctl", "restart", "smtpwitness-proxy"], stdin=subprocess.DEVNULL)
    until(lambda: active(guest, "smtpwitness-proxy-bridge") == "active", 10)
    until(lambda: active(guest, "smtpwitness-proxy") == "deactivating", 10)
    time.sleep(1)
    during, refused = greeted(3)
    claim(process.poll() is None and len(during) == 2 and "421" in refused[0],
          "limits: while the old process drains the other one refuses the third, too", f"{len(during)} served, {refused}")
    sent = [session.mail(f"limits-{number}") for number, session in enumerate(old)]
    claim(until(lambda: [server.received.get(f"limits-{number}") for number in range(len(old))] == sent, 5), "limits: and the sessions of the old one finish their mail")
    for session in (*old, *during):
        session.quit()
    process.wait(60)
    until(lambda: active(guest, "smtpwitness-proxy-bridge") == "inactive", DRAIN + 10)
    after, refused = greeted(3)
    claim(len(after) == 2 and "421" in refused[0], "limits: after the restart the third is refused as before", f"{len(after)} served, {refused}")
    for session in after:
        session.quit()
    configure(guest)
    guest.run("systemctl", "reload", "smtpwitness-proxy")


def test_proxy_upgrade(guest, server):
    def upgrade():
        guest.run("dpkg", "-i", PACKAGE)

    _, long_session = restart_under_load(guest, server, "upgrade", upgrade, "smtpwitness-proxy")
    long_session.connection.close()
    until(lambda: active(guest, "smtpwitness-proxy-bridge") == "inactive", DRAIN + 10)


def test_proxy_failed(guest, server):
    """A configuration that cannot work: it is given up, and the mail has the way free."""
    configure(guest, "[limits]\nper-source = seven\n")
    said = guest.call("systemctl", "restart", "smtpwitness-proxy")
    claim(said.returncode != 0 and until(lambda: active(guest, "smtpwitness-proxy") == "failed", 10),
          "failed: a restart with a wrong configuration fails at once", active(guest, "smtpwitness-proxy"))
    claim(until(lambda: not rules_are_there(guest), 10), "failed: its rules are gone", [line for line in packet_filter(guest) if "SMTPW" in line][:3])
    claim(until(lambda: active(guest, "smtpwitness-proxy.socket") == "inactive"), "failed: nobody listens any more")
    failure = one_mail(server, "while-failed")
    claim(failure is None, "failed: mail passes", failure)
    configure(guest)
    guest.run("systemctl", "reset-failed", "smtpwitness-proxy")
    guest.run("systemctl", "start", "smtpwitness-proxy")


def test_proxy_stop(guest, server):
    with Load(server, "stop", clients=3) as load:
        time.sleep(0.5)
        started = time.monotonic()
        guest.run("systemctl", "stop", "smtpwitness-proxy")
        took = time.monotonic() - started
        time.sleep(0.5)
    measured(f"stop: took {took:.1f} s; {load.told()}")
    claim(not load.failures, "stop under load: 0 refused connections, 0 lost mails", load.told())
    claim(not rules_are_there(guest), "stop: no rule is left")
    claim(until(lambda: active(guest, "smtpwitness-proxy.socket") == "inactive"), "stop: nobody listens any more", active(guest, "smtpwitness-proxy.socket"))


def test_nfq(guest, server):
    since = mark(guest)
    unit = "smtpwitness-nfq"
    said = guest.call("systemctl", "start", unit)
    claim(said.returncode == 0 and active(guest, unit) == "active", "nfq: one command starts it", said.stderr)
    for version in (4, 6):
        failure = one_mail(server, f"nfq-{version}", version)
        claim(failure is None, f"nfq: a mail passes, IPv{version}", failure)
    claim(until(lambda: len(lines(guest, "^verdict .*mode=nfq", since)) >= 2), "nfq: verdicts are in the journal", guest.journal("-n", "20"))
    status = pathlib.Path(f"/proc/{guest.pid_outside(unit)}/status").read_text()
    claim(re.search(rf"CapEff:\t{1 << 13 | 1 << 12:016x}", status) and re.search(r"Seccomp:\t2", status), "nfq: two capabilities, a system call filter", status)

    before = restarts(guest, unit)
    with Load(server, "nfq-crash", clients=3) as load:
        time.sleep(0.5)
        os.kill(guest.pid_outside(unit), signal.SIGKILL)
        back = until(lambda: restarts(guest, unit) == before + 1 and active(guest, unit) == "active", 15)
    claim(back and not load.failures, "nfq: kill -9: it is started again, 0 refused connections, 0 lost mails", load.told())
    measured(f"nfq kill -9: {load.told()}")

    before = restarts(guest, unit)
    guest.run("systemctl", "kill", "--signal=STOP", unit)
    started = time.monotonic()
    failure = one_mail(server, "nfq-hang", timeout=15)
    measured(f"nfq hang of both processes: a mail took {time.monotonic() - started:.1f} s")
    claim(failure is None and time.monotonic() - started < 8, "nfq: hang of both processes: mail passes again within 8 s", failure)
    claim(until(lambda: restarts(guest, unit) == before + 1 and active(guest, unit) == "active", 15), "nfq: the watchdog has started it again",
          guest.show(unit, "Result"))

    since, long_session = restart_under_load(guest, server, "nfq restart", lambda: guest.run("systemctl", "restart", unit), unit)
    long_session.mail("nfq-across")
    long_session.quit()
    claim(until(lambda: lines(guest, r"^verdict .*notes=[a-z,-]*midstream", since)), "nfq: a session that was open across the restart has its verdict",
          lines(guest, "^verdict", since)[-2:])
    guest.run("systemctl", "stop", unit)
    claim(not rules_are_there(guest), "nfq: stopped, no rule is left")


def test_purge(guest, server, before, filter_before):
    guest.run("systemctl", "start", "smtpwitness-proxy")
    with Load(server, "purge", clients=2) as load:
        time.sleep(0.3)
        guest.run("dpkg", "--purge", "smtpwitness")
        time.sleep(0.3)
    claim(not load.failures, "purge of a running witness under load: 0 refused connections, 0 lost mails", load.told())
    until(lambda: not guest.call("systemctl", "list-units", "--no-legend", "--all", "smtpwitness*").stdout.strip(), 5)
    left = difference(before, system_state(guest))
    claim(not left, "purge: the system is as it was before", left[:12])
    left = difference(filter_before, packet_filter(guest))
    claim(not left, "purge: the packet filter is as it was before", left[:12])
    units = guest.call("systemctl", "list-units", "--no-legend", "--all", "smtpwitness*").stdout.strip()
    claim(not units, "purge: systemd knows no unit of it", units)


TESTS = [test_install, test_proxy_start, test_proxy_reload, test_proxy_crash, test_proxy_hang, test_proxy_restart, test_proxy_limits,
         test_proxy_upgrade, test_proxy_failed, test_proxy_stop, test_nfq, test_purge]


def main():
    wanted = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        guest_folder = os.path.join(folder, "guest")
        server = Server(folder)
        try:
            with Guest(PROJECT / "build/roots/systemd", guest_folder, ROUTER, PREFIX) as guest:
                started = time.monotonic()
                failure = one_mail(server, "without")
                claim(failure is None, "without the witness mail passes", failure)
                packet_filter(guest)
                before, filter_before = system_state(guest), packet_filter(guest)
                for test in TESTS:
                    name = test.__name__.removeprefix("test_")
                    if wanted and name not in wanted and name not in ("install", "purge"):
                        continue
                    print(f"# {name}", flush=True)
                    guest.call("systemctl", "reset-failed")  # starts are counted; so many in so short a time are ours alone
                    try:
                        test(guest, server, *((before, filter_before) if test is test_purge else ()))
                    except Exception as error:  # the next tests are worth running
                        claim(False, f"{name} runs to its end", repr(error))
                measured(f"{time.monotonic() - started:.0f} s")
                if RESULTS["failed"]:
                    print(guest.call("journalctl", "--no-pager", "-o", "short-precise", "-n", "150", "-u", "smtpwitness*").stdout)
        finally:
            server.close()
    print(f"{RESULTS['passed']} passed, {RESULTS['failed']} failed, {RESULTS['skipped']} skipped")
    return 1 if RESULTS["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
