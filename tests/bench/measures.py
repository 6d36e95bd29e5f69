"""What is measured, and in which unit. A test's command line goes to smtpload."""

from typing import NamedTuple


class Test(NamedTuple):
    name: str
    title: str
    command: tuple
    unit: str
    work: str  # the field of smtpload's answer the rate and the processor time are counted by
    work_size: float  # so much of it is one unit
    cpu_unit: str  # "" = no processor time is shown
    cpu_work_size: float
    pinned: bool = False
    small_packets: bool = False
    better: str = "higher"


ALL = (
    Test("idle", "an idle session, memory of the process", ("idle",), "kB", "", 1, "", 1, better="lower"),
    Test("sessions", "sessions, 50 at once, one mail of 1 kB each", ("mails", "-1", "-c", "50", "-l", "1000"),
         "sessions/s", "sessions", 1, "1000 sessions", 1000),
    Test("bodies", "mails of 10 MB, 4 at once", ("mails", "-c", "4", "-l", "10000000"), "MB/s", "octets", 1e6, "GB", 1e9),
    Test("messages", "mails of 1 kB in one session, all on one processor", ("mails", "-c", "1", "-l", "1000"),
         "mails/s", "mails", 1, "1000 mails", 1000, pinned=True),
    Test("noop", "NOOP round trip, median, all on one processor", ("noop",), "us", "", 1, "", 1, pinned=True, better="lower"),
    Test("mtu", "mails of 10 MB, 4 at once, packets of 1500 octets", ("mails", "-c", "4", "-l", "10000000"),
         "MB/s", "octets", 1e6, "GB", 1e9, small_packets=True),
)
