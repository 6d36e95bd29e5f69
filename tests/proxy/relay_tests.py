"""Claims about the relay, each proved between real sockets. Run by run.sh; arguments name single tests. They stand in files by
what they are about."""

import sys

import evidence_tests
import key_tests
import life_tests
import limit_tests
import room_tests
import stream_tests
from lab import run_tests

PARTS = (stream_tests, room_tests, evidence_tests, life_tests, limit_tests, key_tests)

sys.exit(run_tests({name: test for part in PARTS for name, test in vars(part).items()}))
