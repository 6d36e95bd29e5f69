#!/bin/sh
# run.sh [TEST...] - proves the relay on its own, between real sockets in network namespaces.
# Needs root and a built program (make). Environment: PROGRAM (build/smtpwitness), PREFIX (px), IDLE (2500 sessions), SANITIZED
# (non-empty: leave out claims about memory).
# Prints one "ok" or "not ok" line per claim; exits non-zero when one of them does not hold.
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
PROGRAM=${PROGRAM:-$here/../../build/smtpwitness}
PREFIX=${PREFIX:-px}
export PROGRAM PREFIX

if [ "$(id -u)" != 0 ]; then
    echo "run.sh: needs root for network namespaces" >&2
    exit 1
fi
[ -x "$PROGRAM" ] || {
    echo "run.sh: $PROGRAM is not built" >&2
    exit 1
}
trap '"$here/topology.sh" down' EXIT
"$here/topology.sh" up
python=/usr/bin/python3
[ -x $python ] || python=python3
status=0
"$python" "$here/relay_tests.py" "$@" || status=$?
exit "$status"
