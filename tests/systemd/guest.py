"""A router that boots: systemd as process 1 in namespaces of its own, on an overlay over a small Debian root.

The machine's own systemd, if it has one, is not involved: systemd-nspawn neither registers the guest nor asks for a
unit. What the guest writes goes to a tmpfs and is gone with it."""

import os
import pathlib
import signal
import subprocess
import time

BOOT_SECONDS = 60


class GuestError(Exception):
    """The guest did not boot or a command in it failed; the text says why."""


def host(*words, check=True):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise GuestError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip() or f'status {done.returncode}'}")
    return done.stdout


class Guest:
    def __init__(self, lower, folder, namespace, name):
        self.lower, self.folder, self.namespace, self.name = str(lower), pathlib.Path(folder), namespace, name
        self.root = self.folder / "root"
        self.process = self.leader = None

    # -- life --------------------------------------------------------------------------------------------------

    def __enter__(self):
        try:
            self._mount()
            self.boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process is not None:
            self.shut_down()
        host("umount", str(self.root), check=False)
        host("umount", str(self.folder), check=False)

    def _mount(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        host("mount", "-t", "tmpfs", "-o", "mode=755", "guest", str(self.folder))
        for part in ("root", "upper", "work"):
            (self.folder / part).mkdir()
        host("mount", "-t", "overlay", "overlay", "-o",
             f"lowerdir={self.lower},upperdir={self.folder}/upper,workdir={self.folder}/work", str(self.root))
        (self.root / "etc/machine-id").write_text("")
        (self.root / "etc/hostname").write_text(self.name + "\n")
        for unit in ("systemd-networkd", "systemd-resolved", "systemd-timesyncd", "getty@tty1", "console-getty"):
            link = self.root / f"etc/systemd/system/{unit}.service"
            if not link.is_symlink():
                link.symlink_to("/dev/null")

    def boot(self):
        # The machine may have cgroups of version 1; the guest's view is a version 2 of its own.
        script = ("umount -R /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 cgroup2 /sys/fs/cgroup && "
                  "exec systemd-nspawn -q -D \"$0\" -M \"$1\" --register=no --keep-unit --console=pipe "
                  "--capability=CAP_NET_ADMIN --network-namespace-path=/run/netns/\"$2\" --kill-signal=SIGRTMIN+3 -b")
        log = (self.folder / "console.log").open("wb")
        self.process = subprocess.Popen(["unshare", "--mount", "sh", "-c", script, str(self.root), self.name, self.namespace],
                                        stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        log.close()
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            self.leader = self.leader or self._find_leader()
            if self.leader and self.call("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"):
                return
            time.sleep(0.2)
        raise GuestError("the guest did not boot: " + (self.folder / "console.log").read_text(errors="replace")[-600:])

    def _find_leader(self):
        """Process 1 of the guest: the first below systemd-nspawn in another process namespace."""
        ours = os.readlink("/proc/self/ns/pid")
        waiting = [self.process.pid]
        while waiting:
            pid = waiting.pop()
            try:
                if os.readlink(f"/proc/{pid}/ns/pid") != ours:
                    return pid
                waiting += [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            except OSError:
                continue
        return None

    def shut_down(self):
        if self.leader:
            try:
                os.kill(self.leader, signal.SIGRTMIN + 4)
                self.process.wait(30)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = self.leader = None

    # -- what happens in it ------------------------------------------------------------------------------------

    def call(self, *words, seconds=120):
        return subprocess.run(["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "--", *words],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"})

    def run(self, *words, seconds=120):
        done = self.call(*words, seconds=seconds)
        if done.returncode != 0:
            raise GuestError(f"{' '.join(words)}: status {done.returncode}: {(done.stderr + done.stdout).strip()[-600:]}")
        return done.stdout

    def show(self, unit, name):
        return self.run("systemctl", "show", "-P", name, unit).strip()

    def journal(self, *words):
        return self.run("journalctl", "--no-pager", "-o", "cat", *words)

    def pid_outside(self, unit):
        """The main process of a unit as this machine numbers it."""
        inside = self.show(unit, "MainPID")
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    numbers = [line for line in (entry / "status").read_text().splitlines() if line.startswith("NSpid:")]
                    same = os.readlink(entry / "ns/pid") == os.readlink(f"/proc/{self.leader}/ns/pid")
                except OSError:
                    continue
                if same and numbers and numbers[0].split()[-1] == inside:
                    return int(entry.name)
        raise GuestError(f"{unit} has no main process")
