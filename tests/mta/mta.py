#!/usr/bin/python3
"""mta.py - starts and stops a real Postfix or Exim inside a network namespace.

Every instance is an overlay on a root made by make_roots.sh, in mount, process and host-name namespaces of its
own. So the mail server of this machine is never touched, ending one process (the namespace's first) ends all of
them at once, and no mount outlives them, however they end.

    mta.py start --directory DIR --kind postfix --namespace NS --host-name server.test
                 [--host 'ADDRESS NAME...'] [--set key=value] [--service 'smtp inet n - n - 1 postscreen']
    mta.py log|mails|stop --directory DIR
    mta.py submit --directory DIR --from ADDRESS --to ADDRESS < message
    mta.py exec --directory DIR COMMAND...
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PROJECT = os.path.dirname(os.path.dirname(HERE))
ROOTS = os.environ.get("MTA_ROOTS") or os.path.join(PROJECT, "build", "roots")
KINDS = ("postfix", "exim")

# Runs as the first process of the instance's namespaces: mounts, then becomes the mail server.
INIT = r"""
set -eu
directory=$1 lower=$2 host_name=$3; shift 3
cd "$directory"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=upper,workdir=work" root
mount -t proc proc root/proc
mount -t tmpfs tmpfs root/run
mount -t tmpfs -o mode=755 tmpfs root/dev
for node in null zero full random urandom tty; do cp -a "/dev/$node" root/dev/; done
ln -s /proc/self/fd root/dev/fd
mkdir -p root/run/lock root/run/exim4
[ ! -d root/var/spool/exim4 ] || chroot root chown Debian-exim:Debian-exim /run/exim4
hostname "$host_name"
exec chroot root "$@"
"""

POSTFIX_SETTINGS = {
    "compatibility_level": "3.6",
    "mail_owner": "postfix",
    "setgid_group": "postdrop",
    "inet_interfaces": "all",
    "inet_protocols": "all",
    "maillog_file": "/var/log/maillog",
    "maillog_file_prefixes": "/var",
    "mynetworks": "127.0.0.0/8 [::1]/128",
    "smtpd_tls_security_level": "may",
    "smtp_tls_security_level": "may",
    "smtpd_tls_cert_file": "/etc/ssl/certs/ssl-cert-snakeoil.pem",
    "smtpd_tls_key_file": "/etc/ssl/private/ssl-cert-snakeoil.key",
    "smtpd_tls_loglevel": "1",
    "smtp_tls_loglevel": "1",
    "smtp_host_lookup": "native",
    "smtp_dns_support_level": "disabled",
    "smtpd_recipient_restrictions": "permit_mynetworks, reject_unauth_destination",
    "home_mailbox": "Maildir/",
    "alias_maps": "hash:/etc/aliases",
    "message_size_limit": "52428800",
    "mailbox_size_limit": "0",
    # A scenario sends more mail in a second than a mailbox's owner reads in a day.
    "local_destination_concurrency_limit": "4",
    "in_flow_delay": "0",
}

EXIM_SETTINGS = {
    "domainlist local": "server.test : client.test : localhost",
    "acl_smtp_rcpt": "check_rcpt",
    "acl_smtp_data": "check_data",
    "daemon_smtp_ports": "25",
    "tls_advertise_hosts": "*",
    "tls_certificate": "/etc/ssl/certs/ssl-cert-snakeoil.pem",
    "tls_privatekey": "/etc/ssl/private/ssl-cert-snakeoil.key",
    "host_lookup": "",
    "rfc1413_query_timeout": "0s",
    "message_size_limit": "50M",
    "chunking_advertise_hosts": "*",
    "pipelining_advertise_hosts": "*",
    "log_selector": "+pipelining +smtp_connection +tls_cipher +delivery_size +smtp_incomplete_transaction",
    "log_file_path": "/var/log/exim4/%slog",
    "keep_environment": "",
    "queue_run_max": "2",
}

EXIM_REST = r"""
begin acl
check_rcpt:
  accept domains = +local
  accept hosts = <; 127.0.0.1 ; ::1 ; :
  deny message = relay not permitted
check_data:
  accept
begin routers
remote:
  driver = manualroute
  domains = ! +own
  route_list = * {target} byname
  transport = smtp
local:
  driver = accept
  local_parts = u1
  transport = box
begin transports
smtp:
  driver = smtp
  hosts_try_chunking = *
  hosts_try_fastopen =
{transport}
  message_linelength_limit = 100000
box:
  driver = appendfile
  maildir_format
  directory = /home/u1/Maildir
  user = u1
  group = u1
begin retry
* * F,2h,15m
"""


class MtaError(Exception):
    pass


def roots_missing(kinds):
    """The kinds whose root has not been made yet."""
    return [kind for kind in kinds if not os.path.exists(os.path.join(ROOTS, kind, ".complete"))]


def child_of(pid):
    """The one child of a process, or None."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if int(fields[1]) == pid:
            return int(entry)
    return None


class Mta:
    """One instance. `directory` holds everything it writes and is the caller's to remove after stop()."""

    def __init__(self, directory, kind, namespace, host_name, hosts=(), settings=None, services=(), trace=None):
        if kind not in KINDS:
            raise MtaError(f"unknown mail server '{kind}': {' or '.join(KINDS)}")
        self.directory = os.path.abspath(directory)
        self.kind = kind
        self.namespace = namespace
        self.host_name = host_name
        self.hosts = list(hosts)
        self.settings = dict(settings or {})
        self.services = list(services)
        self.trace = trace or (lambda text: None)
        self.pid = None  # the unshare process: ending it ends the instance
        self.process = None

    # -- files ---------------------------------------------------------------------------------------------

    def path(self, *parts):
        """A file of the instance as the outside sees it, once the instance has written it."""
        return os.path.join(self.directory, "upper", *parts)

    def _write(self, name, text):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def _lower(self):
        lower = os.path.join(ROOTS, self.kind)
        if roots_missing([self.kind]):
            raise MtaError(f"no root for {self.kind}: run tests/mta/make_roots.sh {self.kind}")
        return lower

    def _configure(self):
        hosts = ["127.0.0.1 localhost", "::1 localhost"] + self.hosts
        self._write("etc/hosts", "\n".join(hosts) + "\n")
        self._write("etc/hostname", self.host_name + "\n")
        self._write("etc/mailname", self.host_name + "\n")
        if self.kind == "postfix":
            settings = dict(POSTFIX_SETTINGS, myhostname=self.host_name, mydestination=f"{self.host_name}, localhost")
            settings.update(self.settings)
            self._write("etc/postfix/main.cf", "".join(f"{key} = {value}\n" for key, value in settings.items()))
            if self.services:
                self._write("etc/postfix/master.cf", self._master_cf())
        else:
            settings = {"primary_hostname": self.host_name, "domainlist own": f"{self.host_name} : localhost"}
            settings.update(EXIM_SETTINGS)
            settings.update(self.settings)
            target = settings.pop("relay-to", "server.test")
            transport = "".join(f"  {line}\n" for line in settings.pop("smtp-transport", []))
            authenticators = "".join(f"{line}\n" for line in settings.pop("authenticators", []))
            text = "".join(f"{key} = {value}\n" for key, value in settings.items())
            rest = EXIM_REST.replace("{target}", target).replace("{transport}\n", transport)
            self._write("etc/exim4/exim4.conf", f"{text}{rest}begin authenticators\n{authenticators}")

    def _master_cf(self):
        """The root's master.cf with the services of the same name and type replaced."""
        with open(os.path.join(self._lower(), "etc/postfix/master.cf"), encoding="utf-8") as file:
            lines = file.read().splitlines()
        replaced = {tuple(service.split()[:2]) for service in self.services}
        kept, dropping = [], False
        for line in lines:
            if line[:1] not in (" ", "\t"):
                dropping = tuple(line.split()[:2]) in replaced
            if not dropping:
                kept.append(line)
        return "\n".join(kept + self.services) + "\n"

    # -- life ----------------------------------------------------------------------------------------------

    def start(self, detached=False):
        lower = self._lower()
        for name in ("upper", "work", "root"):
            os.makedirs(os.path.join(self.directory, name), exist_ok=True)
        self._configure()
        program = ["postfix", "start-fg"] if self.kind == "postfix" else ["exim", "-bdf", "-q5m", "-oP", "/run/exim4/exim.pid"]
        command = ["ip", "netns", "exec", self.namespace]
        command += ["unshare", "--mount", "--propagation", "private", "--uts", "--pid", "--fork", "--kill-child=KILL"]
        command += ["sh", "-c", INIT, "instance", self.directory, lower, self.host_name] + program
        self.trace(f"start {self.kind} ({self.host_name}) in {self.namespace}")
        with open(os.path.join(self.directory, "start.log"), "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=detached)
        self.pid = self.process.pid
        with open(os.path.join(self.directory, "state.json"), "w", encoding="utf-8") as file:
            json.dump({"kind": self.kind, "namespace": self.namespace, "host_name": self.host_name, "pid": self.pid}, file)

    def wait_ready(self, port=25, seconds=60.0):
        """Waits until the instance listens, by looking at the namespace's sockets: a test connection would be a session."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                raise MtaError(f"{self.kind} ended while starting: {self.start_log()[-400:]}")
            sockets = subprocess.run(
                ["ip", "netns", "exec", self.namespace, "ss", "-H", "-l", "-t", "-n", f"sport = :{port}"],
                capture_output=True, text=True, check=False)
            if sockets.stdout.strip():
                return
            time.sleep(0.05)
        raise MtaError(f"{self.kind} does not listen on port {port} after {seconds:g} s: {self.start_log()[-400:]}")

    def init_pid(self):
        return child_of(self.pid) if self.pid else None

    def pids(self):
        """Every process of the instance: those in the namespace of its first."""
        init = self.init_pid()
        if init is None:
            return []
        try:
            wanted = os.readlink(f"/proc/{init}/ns/pid")
        except OSError:
            return []
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    if os.readlink(f"/proc/{entry}/ns/pid") == wanted:
                        found.append(int(entry))
                except OSError:
                    continue
        return found

    def signal(self, number, name=None):
        """Signals every process, or those whose command name is `name`. Returns how many."""
        count = 0
        for pid in self.pids():
            try:
                if name is not None:
                    with open(f"/proc/{pid}/comm", encoding="ascii", errors="replace") as comm:
                        if comm.read().strip() != name:
                            continue
                os.kill(pid, number)
                count += 1
            except OSError:
                continue
        return count

    def stop(self):
        if self.pid is None:
            return
        # The first process of the namespace takes all others with it. (Ending unshare alone would not do: the
        # kernel forgets --kill-child when a set-user-ID program such as exim is executed.)
        for pid in (self.init_pid(), self.pid):
            try:
                os.kill(pid or self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.process is not None:
            self.process.wait()
        else:
            while os.path.exists(f"/proc/{self.pid}"):
                time.sleep(0.02)
        self.pid = None

    # -- use -----------------------------------------------------------------------------------------------

    def run(self, command, **options):
        """Runs a command inside the instance, like subprocess.run."""
        init = self.init_pid()
        if init is None:
            raise MtaError(f"{self.kind} is not running: {self.start_log()[-400:]}")
        full = ["nsenter", "--target", str(init), "--mount", "--uts", "--net", "--pid", "--root", "--wd"] + list(command)
        return subprocess.run(full, check=False, **options)

    def submit(self, message, sender, recipient):
        done = self.run(["/usr/sbin/sendmail", "-i", "-f", sender, recipient], input=message, capture_output=True)
        if done.returncode != 0:
            raise MtaError(f"submission failed: {done.stderr.decode(errors='replace').strip()}")

    def start_log(self):
        try:
            with open(os.path.join(self.directory, "start.log"), encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def log(self):
        text = ""
        names = ["var/log/maillog"] if self.kind == "postfix" else ["var/log/exim4/mainlog", "var/log/exim4/rejectlog"]
        for name in names:
            try:
                with open(self.path(name), encoding="utf-8", errors="replace") as file:
                    text += file.read()
            except OSError:
                continue
        return text

    def mails(self):
        """What lies in the mailbox, as bytes."""
        folder, found = self.path("home/u1/Maildir/new"), []
        if os.path.isdir(folder):
            for name in sorted(os.listdir(folder)):
                with open(os.path.join(folder, name), "rb") as file:
                    found.append(file.read())
        return found

    @classmethod
    def attach(cls, directory):
        """The instance that another process started in `directory`."""
        try:
            with open(os.path.join(directory, "state.json"), encoding="utf-8") as file:
                state = json.load(file)
        except OSError as error:
            raise MtaError(f"no instance in {directory}: {error.strerror}") from error
        instance = cls(directory, state["kind"], state["namespace"], state["host_name"])
        # The number may have been given to another process since: believe it only if it still runs our script.
        try:
            with open(f"/proc/{state['pid']}/cmdline", "rb") as file:
                if instance.directory.encode() in file.read().split(b"\0"):
                    instance.pid = state["pid"]
        except OSError:
            pass
        return instance


def main():
    parser = argparse.ArgumentParser(description="Run a real mail server in a network namespace.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("start", "stop", "log", "mails", "submit", "exec"):
        command = commands.add_parser(name)
        command.add_argument("--directory", required=True)
        if name == "start":
            command.add_argument("--kind", required=True, choices=KINDS)
            command.add_argument("--namespace", required=True)
            command.add_argument("--host-name", required=True)
            command.add_argument("--host", action="append", default=[], metavar="'ADDRESS NAME'")
            command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
            command.add_argument("--service", action="append", default=[], metavar="'LINE OF master.cf'")
        if name == "submit":
            command.add_argument("--from", dest="sender", required=True)
            command.add_argument("--to", dest="recipient", required=True)
        if name == "exec":
            command.add_argument("words", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    try:
        if options.command == "start":
            wrong = [word for word in options.set if not re.match(r"[^=]+=", word)]
            if wrong:
                parser.error(f"--set wants KEY=VALUE, got '{wrong[0]}'")
            shutil.rmtree(options.directory, ignore_errors=True)
            os.makedirs(options.directory)
            settings = dict(word.split("=", 1) for word in options.set)
            instance = Mta(options.directory, options.kind, options.namespace, options.host_name,
                           options.host, settings, options.service)
            instance.start(detached=True)
            try:
                instance.wait_ready()
            except (MtaError, KeyboardInterrupt):
                instance.stop()
                raise
            return 0
        instance = Mta.attach(options.directory)
        if options.command == "stop":
            instance.stop()
        elif options.command == "log":
            sys.stdout.write(instance.log())
        elif options.command == "mails":
            for mail in instance.mails():
                sys.stdout.buffer.write(mail + b"\n")
        elif options.command == "submit":
            instance.submit(sys.stdin.buffer.read(), options.sender, options.recipient)
        elif options.command == "exec":
            return instance.run(options.words).returncode
    except MtaError as error:
        print(f"mta.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
